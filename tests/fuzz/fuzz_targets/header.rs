#![no_main]
//! Any bytes as a line: the header's parts are parts of the line, the message its end, the program sane.

use libfuzzer_sys::fuzz_target;
use mef::base::clock::Wall;
use mef::detect::header;

fuzz_target!(|line: &[u8]| {
    if let Some(found) = header::parse(line) {
        assert!(line.ends_with(found.message));
        assert!((1..=64).contains(&found.program.len()));
        assert!(found.program.iter().all(u8::is_ascii_graphic));
        if let Some(stamp) = found.stamp {
            let _age = stamp.age(Wall(1_795_334_401), 3600);
        }
    }
});
