#![forbid(unsafe_code)]
//! An entry of the journal as `journalctl -o json` prints it: one object a line, each field a string, a list
//! of the values of a field that was given more than once, or a list of bytes where the value is no text.
//! Finds the few fields that say who wrote it and what. No I/O.

use crate::base::clock::Wall;
use crate::base::json::escaped;
use crate::input::{LogRecord, Sender, Written};

/// What every entry has, and hardly anything else.
pub const MARK: &[u8] = b"\"__REALTIME_TIMESTAMP\"";

/// The fields of an entry that matter.
#[derive(Default)]
pub struct JsonEntry {
    message: Vec<u8>,
    identifier: Vec<u8>,
    comm: Vec<u8>,
    unit: Vec<u8>,
    group: Vec<u8>,
    user: Option<u32>,
    process: Option<u32>,
    claimed: Option<u32>,
    kernel: bool,
    /// When journald got it, in seconds since 1970.
    at: u64,
}

impl JsonEntry {
    /// Reads a line; `None` if it is no such object, or if a field that journald itself writes has two
    /// values: then it is not journald who speaks.
    #[must_use]
    pub fn read(line: &[u8]) -> Option<JsonEntry> {
        let mut text = JsonText(line.trim_ascii());
        text.byte(b'{')?;
        let mut entry = JsonEntry::default();
        if text.byte(b'}').is_some() {
            return text.0.is_empty().then_some(entry);
        }
        loop {
            let name = text.string()?;
            text.byte(b':')?;
            let (value, count) = text.value()?;
            if count > 1 && name.starts_with(b"_") {
                return None;
            }
            entry.take(&name, value);
            if text.byte(b',').is_none() {
                break;
            }
        }
        text.byte(b'}')?;
        text.0.is_empty().then_some(entry)
    }

    fn take(&mut self, name: &[u8], value: Vec<u8>) {
        let number = |value: &[u8]| std::str::from_utf8(value).ok().and_then(|text| text.parse::<u64>().ok());
        let small = |value: &[u8]| number(value).and_then(|n| u32::try_from(n).ok());
        match name {
            b"MESSAGE" => self.message = value,
            b"SYSLOG_IDENTIFIER" => self.identifier = value,
            b"_COMM" => self.comm = value,
            b"_SYSTEMD_UNIT" => self.unit = value,
            b"_SYSTEMD_CGROUP" => self.group = value,
            b"_UID" => self.user = small(&value),
            b"_PID" => self.process = small(&value),
            b"SYSLOG_PID" => self.claimed = small(&value),
            b"_TRANSPORT" => self.kernel = value == b"kernel",
            b"__REALTIME_TIMESTAMP" => self.at = number(&value).unwrap_or(0) / 1_000_000,
            _ => {}
        }
    }

    /// The same as the journal's files give it.
    #[must_use]
    pub fn record(&self) -> LogRecord<'_> {
        let program = if self.identifier.is_empty() { &self.comm } else { &self.identifier };
        let unit = match self.unit.as_slice() {
            [] => Sender::unit_of_group(&self.group),
            unit => unit,
        };
        let sender = Sender { uid: self.user, comm: &self.comm, unit };
        LogRecord {
            program,
            pid: self.process.or(self.claimed),
            message: &self.message,
            sender: (!self.kernel).then_some(sender),
            written: Written::At(Wall(self.at)),
        }
    }
}

/// What has not been read yet.
struct JsonText<'a>(&'a [u8]);

impl JsonText<'_> {
    /// Takes one byte, and the blanks around it.
    fn byte(&mut self, want: u8) -> Option<()> {
        let rest = self.0.trim_ascii_start().strip_prefix(&[want])?;
        self.0 = rest.trim_ascii_start();
        Some(())
    }

    fn next(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    /// A string's bytes.
    fn string(&mut self) -> Option<Vec<u8>> {
        self.byte(b'"')?;
        let mut out = Vec::new();
        loop {
            match self.next()? {
                b'"' => return Some(out),
                b'\\' => match escaped(self.0) {
                    Some((c, len)) => {
                        out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
                        self.0 = self.0.get(len..)?;
                    }
                    None if self.0.first() == Some(&b'u') => return None,
                    None => out.push(self.next()?),
                },
                plain => out.push(plain),
            }
        }
    }

    /// A value and how many there are of it; the first one counts.
    fn value(&mut self) -> Option<(Vec<u8>, u32)> {
        if self.0.first() == Some(&b'"') {
            return Some((self.string()?, 1));
        }
        if self.0.starts_with(b"null") {
            // Too large to be shown.
            self.0 = self.0.get(4..)?.trim_ascii_start();
            return Some((Vec::new(), 1));
        }
        if self.0.first() != Some(&b'[') {
            return Some((self.number()?.to_string().into_bytes(), 1));
        }
        self.byte(b'[')?;
        let (mut bytes, mut first, mut count) = (Vec::new(), None, 0);
        while self.byte(b']').is_none() {
            if self.0.first().is_some_and(u8::is_ascii_digit) {
                bytes.push(u8::try_from(self.number()?).ok()?);
            } else {
                let (value, _) = self.value()?;
                first.get_or_insert(value);
                count += 1;
            }
            self.byte(b',');
        }
        match first {
            Some(value) => Some((value, count + u32::from(!bytes.is_empty()))),
            None => Some((bytes, 1)),
        }
    }

    fn number(&mut self) -> Option<u64> {
        let len = self.0.iter().take_while(|b| b.is_ascii_digit()).count();
        let (digits, rest) = self.0.split_at_checked(len)?;
        self.0 = rest.trim_ascii_start();
        std::str::from_utf8(digits).ok()?.parse().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fields_that_matter_are_found() {
        let line = br#"{"__CURSOR":"s=1","__REALTIME_TIMESTAMP":"1763800000123456","_UID":"0","_COMM":"sshd",
            "_SYSTEMD_UNIT":"ssh.service","SYSLOG_IDENTIFIER":"sshd","_PID":"77","SYSLOG_PID":"78",
            "_TRANSPORT":"syslog","MESSAGE":"a \"b\" \\ \u00e4\ud83d\ude00\ud800x \n"}"#;
        let entry = JsonEntry::read(line).unwrap();
        let record = entry.record();
        assert_eq!(
            (record.program, record.pid, record.written),
            (&b"sshd"[..], Some(77), Written::At(Wall(1_763_800_000)))
        );
        assert_eq!(record.message, "a \"b\" \\ \u{e4}\u{1f600}\u{fffd}x \n".as_bytes());
        let sender = record.sender.unwrap();
        assert_eq!((sender.uid, sender.comm, sender.unit), (Some(0), &b"sshd"[..], &b"ssh.service"[..]));
    }

    #[test]
    fn who_has_no_unit_is_placed_by_the_group() {
        for (fields, want) in [
            ("", ""),
            ("\"_SYSTEMD_CGROUP\":\"/\",", ""),
            ("\"_SYSTEMD_CGROUP\":\"/docker/0123\",", "?"),
            ("\"_SYSTEMD_CGROUP\":\"/lxc/system.slice/ssh.service\",", "?"),
            ("\"_SYSTEMD_CGROUP\":\"/a/ssh.service\",\"_SYSTEMD_UNIT\":\"ssh.service\",", "ssh.service"),
        ] {
            let text = format!("{{{fields}\"_UID\":\"0\",\"MESSAGE\":\"x\"}}");
            let entry = JsonEntry::read(text.as_bytes()).unwrap();
            assert_eq!(entry.record().sender.unwrap().unit, want.as_bytes(), "{fields}");
        }
    }

    #[test]
    fn bytes_lists_and_what_is_missing_are_borne() {
        let read = |text: &str| JsonEntry::read(text.as_bytes());
        let message = |text: &str| read(text).map(|entry| entry.message);
        assert_eq!(message(r#"{"MESSAGE":[27,91,109,255]}"#), Some(vec![27, 91, 109, 255]));
        assert_eq!(message(r#"{"MESSAGE":["one","two"]}"#), Some(b"one".to_vec()));
        assert_eq!(message(r#"{ "MESSAGE" : null , "_UID" : 5 }"#), Some(Vec::new()));
        assert_eq!(message("{}"), Some(Vec::new()));
        let entry = read(r#"{"_COMM":"x","_TRANSPORT":"kernel"}"#).unwrap();
        assert!(entry.record().program == b"x" && entry.record().sender.is_none());
        // Nobody but journald writes these, and it writes one.
        assert!(read(r#"{"_UID":["0","1000"],"MESSAGE":"x"}"#).is_none());
        for broken in [
            "",
            "{",
            "[]",
            "{\"MESSAGE\":\"x\"",
            "{\"MESSAGE\":\"x\"}x",
            "{\"a\":{}}",
            "{\"a\":[300]}",
            "{\"a\" \"b\"}",
        ] {
            assert!(read(broken).is_none(), "{broken}");
        }
    }

    #[test]
    fn any_text_is_survived() {
        let mut rng = fastrand::Rng::with_seed(11);
        let parts =
            ["{", "}", "[", "]", "\"", "\\", "\\u", "d800", ":", ",", "null", "7", "MESSAGE", " ", "\u{e4}"];
        for _ in 0..50_000 {
            let text: String = (0..rng.usize(0..12)).map(|_| parts[rng.usize(0..parts.len())]).collect();
            if let Some(entry) = JsonEntry::read(text.as_bytes()) {
                let _ = entry.record();
            }
        }
    }
}
