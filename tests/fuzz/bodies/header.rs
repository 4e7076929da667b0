//! Any bytes as a line: the header's parts are parts of the line, the message its end, the program sane.

use super::texts;
use mef::base::clock::Wall;
use mef::detect::header;

/// A line of each format.
pub fn seeds() -> Vec<Vec<u8>> {
    texts(&[
        "Nov 22 08:00:01 host sshd[7]: Failed password",
        "2026-11-22T08:00:01.123456+01:00 host postfix/smtpd[77]: connect",
        "<38>1 2026-11-22T08:00:01Z host app 7 ID47 [a b=\"c\"] text",
        "2026-11-22 08:00:01,123 program[9]: text",
    ])
}

/// What has to hold of any bytes.
pub fn run(line: &[u8]) {
    if let Some(found) = header::parse(line) {
        assert!(line.ends_with(found.message));
        assert!((1..=64).contains(&found.program.len()));
        assert!(found.program.iter().all(u8::is_ascii_graphic));
        if let Some(stamp) = found.stamp {
            let _age = stamp.age(Wall(1_795_334_401), 3600);
        }
    }
}
