//! Any bytes as a record of the kernel's log: its text is a part of it, on one line. Any bytes as a datagram:
//! one line comes of it, or none, and its bytes but the newlines are those that came.

use super::texts;
use mef::input::{kmsg, syslog};

/// A record and a datagram.
pub fn seeds() -> Vec<Vec<u8>> {
    texts(&[
        "6,1234,5678,-;usb 1-1: text\\x0a\n SUBSYSTEM=usb\n",
        "<38>Nov 22 08:00:01 sshd[7]: one\ntwo\n\0",
    ])
}

/// What has to hold of any bytes.
pub fn run(data: &[u8]) {
    if let Some(entry) = kmsg::parse(data) {
        assert!(!entry.text.contains(&b'\n'));
        assert!(entry.text.is_empty() || data.windows(entry.text.len()).any(|w| w == entry.text));
    }
    let mut room = [data, &[0xee; 2]].concat();
    let length = syslog::tidy(&mut room, data.len());
    assert_eq!(room.last(), Some(&0xee), "only one byte more was ours");
    let line = room.get(..length).unwrap_or_default();
    let Some((newline, text)) = line.split_last() else {
        assert!(data.iter().all(|b| matches!(b, b'\n' | b'\r' | 0)));
        return;
    };
    assert!(*newline == b'\n' && !text.contains(&b'\n'));
    let same = text.iter().zip(data).all(|(now, then)| now == then || (*now == b' ' && *then == b'\n'));
    assert!(same && data.iter().skip(text.len()).all(|b| matches!(b, b'\n' | b'\r' | 0)));
}
