//! The control socket: any bytes as a question, and as an answer.

use super::texts;
use mef::control::proto::{LINE_MAX, ListLine, OffenderLine, Request, RuleLine, SightLine, read_fact};

/// A line of each kind.
pub fn seeds() -> Vec<Vec<u8>> {
    texts(&[
        "status\ntop\nwatch\nreload\nlists\n",
        "banned 192.0.2.0/24 3600 tcp/22,80-90\nbanned 192.0.2.1-192.0.2.9 permanent all\n",
        "changed allow 2001:db8::/32\nchanged load\nunbanned all\n\
         unbanned everything unwritten\nforget 192.0.2.7\n",
        "rule sshd file 12 3 5 - 192.0.2.7: 3 hits\nsees sshd journal sshd.service\nblind app - no file\n",
        "offender 192.0.2.0/24 sshd 2 3 17\ndnsbl x off 5 3 0 12 it lists everything\nlines 17\n",
    ])
}

/// What has to hold of any bytes.
pub fn run(bytes: &[u8]) {
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
        if let Some(sight) = SightLine::read(line) {
            assert_eq!(SightLine::read(&sight.to_string()), Some(sight));
        }
        if let Some(list) = ListLine::read(line) {
            assert_eq!(ListLine::read(&list.to_string()), Some(list));
        }
        let _ = read_fact(line);
    }
}
