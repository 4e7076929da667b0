#![no_main]
//! Any bytes as a line of an access log: what is found stands in the line, and counting it is survived.

use libfuzzer_sys::fuzz_target;
use mef::detect::access;

fuzz_target!(|line: &[u8]| {
    if let Some((_, request)) = access::parse(line) {
        assert!(request.status <= 999);
        assert!(line.get(request.path).is_some());
        assert!(line.get(request.agent).is_some());
    }
});
