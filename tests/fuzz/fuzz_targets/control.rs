//! The control socket: any bytes as a question, and as an answer.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mef::control::proto::{LINE_MAX, OffenderLine, Request, RuleLine, read_fact};

fuzz_target!(|bytes: &[u8]| {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    for line in text.lines() {
        if let Some(request) = Request::read(line) {
            let again = request.to_string();
            assert_eq!(Request::read(&again), Some(request), "{line} {again}");
            assert!(line.len() > LINE_MAX || again.len() < 2 * LINE_MAX);
        }
        if let Some(rule) = RuleLine::read(line) {
            assert_eq!(RuleLine::read(&rule.to_string()), Some(rule));
        }
        if let Some(offender) = OffenderLine::read(line) {
            assert_eq!(OffenderLine::read(&offender.to_string()), Some(offender));
        }
        let _ = read_fact(line);
    }
});
