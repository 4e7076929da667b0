#![forbid(unsafe_code)]
//! What containers print, as their engines keep it: Docker's json-file, and what Podman, CRI-O and containerd
//! write (k8s-file). Takes the wrapper off each line, so that rules read what the service said.
//!
//! Engines cut long lines into pieces. A further piece begins where a client of the service may choose, with
//! anything: it is no line, and is left out.

use crate::base::json;

/// Bytes in front of a place that tell whether a line ended there.
pub const LOOK_BACK: usize = 1024;

/// Takes wrappers off the lines of one file, in their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ContainerLog {
    /// The next line is a further piece of a longer one.
    goes_on: bool,
}

/// What a line of an engine holds.
struct Piece {
    /// Bytes of it in the room.
    len: usize,
    /// The service's own line ends with it.
    ends: bool,
}

impl ContainerLog {
    /// Begins behind these bytes; none at the start of a file.
    #[must_use]
    pub fn behind(before: &[u8]) -> ContainerLog {
        let line = before.strip_suffix(b"\n").unwrap_or(before);
        let line = line.rsplit(|&byte| byte == b'\n').next().unwrap_or_default();
        // Of a json-file the end of the line is enough: quotes in what was said have a backslash.
        let json_ended =
            || memchr::memmem::rfind(line, END).is_some_and(|at| line.get(..at).is_some_and(ends));
        let ended = || cri(line).is_some_and(|(_, whole)| whole) || json_ended();
        ContainerLog { goes_on: !before.is_empty() && !ended() }
    }

    /// Writes to `room`, for each line, what the service said, or nothing but the end of the line. `room` is
    /// at least as long as `lines`. Returns how much that is.
    pub fn unwrap(&mut self, lines: &[u8], room: &mut [u8]) -> usize {
        let mut at = 0;
        for line in lines.strip_suffix(b"\n").unwrap_or(lines).split(|&byte| byte == b'\n') {
            let rest = room.get_mut(at..).unwrap_or_default();
            if let Some(piece) = piece(line, rest) {
                at += if self.goes_on { 0 } else { piece.len };
                self.goes_on = !piece.ends;
            }
            if let Some(end) = room.get_mut(at) {
                *end = b'\n';
                at += 1;
            }
        }
        at
    }
}

/// How a json-file begins what was said, and what stands behind it.
const BEGIN: &[u8] = b"{\"log\":\"";
const END: &[u8] = b"\",\"stream\":\"";

/// Whether text in JSON ends with a newline.
fn ends(text: &[u8]) -> bool {
    let Some(before) = text.strip_suffix(b"\\n") else { return false };
    // The backslash is not itself escaped.
    before.iter().rev().take_while(|&&byte| byte == b'\\').count() % 2 == 0
}

fn piece(line: &[u8], room: &mut [u8]) -> Option<Piece> {
    if let Some((said, ends)) = cri(line) {
        room.get_mut(..said.len())?.copy_from_slice(said);
        return Some(Piece { len: said.len(), ends });
    }
    json_piece(line.strip_prefix(BEGIN)?, room)
}

/// `2026-11-26T02:10:00.123456789Z stdout F what was said`; whether the line ends with it.
fn cri(line: &[u8]) -> Option<(&[u8], bool)> {
    let mut words = line.splitn(4, |&byte| byte == b' ');
    let (time, stream, tag) = (words.next()?, words.next()?, words.next()?);
    let stamp = time.first()?.is_ascii_digit() && time.contains(&b'T');
    if !stamp || !matches!(stream, b"stdout" | b"stderr") {
        return None;
    }
    match tag.split(|&byte| byte == b':').next()? {
        b"F" => Some((words.next().unwrap_or_default(), true)),
        b"P" => Some((words.next().unwrap_or_default(), false)),
        _ => None,
    }
}

/// Reads a string of JSON, up to its end and what an engine writes behind it.
fn json_piece(text: &[u8], room: &mut [u8]) -> Option<Piece> {
    let (mut at, mut len) = (0, 0);
    let mut ends = false;
    loop {
        let (c, width) = match text.get(at..)? {
            [b'"', ..] => break,
            [b'\\', rest @ ..] => json::escaped(rest)?,
            [byte, ..] => {
                // What is not escaped is UTF-8 as it stands.
                *room.get_mut(len)? = *byte;
                (at, len, ends) = (at + 1, len + 1, false);
                continue;
            }
            [] => return None,
        };
        ends = c == '\n';
        let c = if ends { ' ' } else { c };
        len += c.encode_utf8(room.get_mut(len..len + c.len_utf8())?).len();
        at += 1 + width;
    }
    text.get(at..)?.starts_with(END).then_some(Piece { len: len - usize::from(ends), ends })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unwrapped(log: &mut ContainerLog, lines: &str) -> String {
        let mut room = vec![0; lines.len() + 1];
        let len = log.unwrap(lines.as_bytes(), &mut room);
        String::from_utf8_lossy(&room[..len]).into_owned()
    }

    fn from_start(lines: &str) -> String {
        unwrapped(&mut ContainerLog::behind(b""), lines)
    }

    #[test]
    fn wrappers_are_taken_off() {
        for (line, want) in [
            (
                r#"{"log":"a \"b\" \\ c\u003e\u00e9\n","stream":"stdout","time":"2026-11-26T02:10:00Z"}"#,
                "a \"b\" \\ c>é\n",
            ),
            (r#"{"log":"x\r\n","stream":"stderr","attrs":{"a":"b"},"time":"t"}"#, "x\r\n"),
            (r#"{"log":"\ud83d\ude00 \ud83d\n","stream":"stderr","time":"t"}"#, "😀 \u{fffd}\n"),
            (r#"{"log":"a\nb\n","stream":"stdout","time":"t"}"#, "a b\n"),
            ("2026-11-26T02:10:00.123456789Z stdout F a b", "a b\n"),
            ("2026-11-26T02:10:00.1+01:00 stderr F", "\n"),
            // No line of an engine.
            ("a b", "\n"),
            (r#"{"log":"a"#, "\n"),
            (r#"{"log":"a\n"}"#, "\n"),
            (r#"{"msg":"a\n","stream":"stdout"}"#, "\n"),
            (r#"{"log":"a\q\n","stream":"stdout"}"#, "\n"),
            ("2026-11-26T02:10:00Z stdlog F a", "\n"),
            ("", "\n"),
        ] {
            assert_eq!(from_start(&format!("{line}\n")), want, "{line}");
        }
    }

    /// What a client can have an engine cut off is no line of the service.
    #[test]
    fn further_pieces_are_no_lines() {
        let json = |text: &str| format!("{{\"log\":\"{text}\",\"stream\":\"stdout\",\"time\":\"t\"}}\n");
        let pieces = [json("one "), json("two"), json("three\\n"), json("four\\n")].concat();
        assert_eq!(from_start(&pieces), "one \n\n\nfour\n");
        let pieces = "1T stdout P one\n1T stdout P two\n1T stdout F three\n1T stdout F four\n";
        assert_eq!(from_start(pieces), "one\n\n\nfour\n");
        // Also when they are read one by one, and after a restart in the midst.
        let all: Vec<String> = pieces.lines().map(|line| format!("{line}\n")).collect();
        let mut log = ContainerLog::behind(b"");
        let each: String = all.iter().map(|line| unwrapped(&mut log, line)).collect();
        assert_eq!(each, "one\n\n\nfour\n");
        for (before, want) in [(0, "one\n"), (1, "\n"), (2, "\n"), (3, "four\n")] {
            let mut log = ContainerLog::behind(all[..before].concat().as_bytes());
            assert_eq!(unwrapped(&mut log, &all[before]), want, "{before}");
        }
        for (before, want) in [("one", "\n"), ("one\\n", "a\n"), ("one\\\\n", "\n"), ("one\\\\\\n", "a\n")] {
            let mut log = ContainerLog::behind(&json(before).as_bytes()[4..]);
            assert_eq!(unwrapped(&mut log, &json("a\\n")), want, "{before}");
        }
    }

    /// No text is longer without its wrapper, and none has more lines.
    #[test]
    fn anything_keeps_its_number_of_lines() {
        let mut rng = fastrand::Rng::with_seed(5);
        let parts = [
            "{\"log\":\"",
            "\",\"stream\":\"",
            "\\n",
            "\\u",
            "d83d",
            "\\",
            "\"",
            "\n",
            " stdout F ",
            "1T",
            "a",
            "é",
        ];
        for _ in 0..20_000 {
            let text: String = (0..rng.usize(0..20)).map(|_| parts[rng.usize(0..parts.len())]).collect();
            let text = format!("{text}\n");
            let out = from_start(&text);
            assert_eq!(out.matches('\n').count(), text.matches('\n').count(), "{text}");
            assert!(out.len() <= text.len(), "{text}");
        }
    }
}
