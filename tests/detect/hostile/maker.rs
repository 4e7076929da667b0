//! Makes hostile lines: forms of services, filled with pieces of what the rules look for and with addresses
//! of others.

use crate::detect::conf::Conf;
use fastrand::Rng;

/// Who sends.
pub const SENDERS: &[&str] = &["192.0.2.1", "2001:db8::1", "::ffff:192.0.2.7"];
/// Who has done nothing.
const THIRD: &[&str] = &[
    "198.51.100.9",
    "203.0.113.77",
    "2001:db8:bad::9",
    "::ffff:198.51.100.10",
    "[198.51.100.11]",
    "[2001:db8:bad::9]",
    "198.51.100.9:4711",
    "[2001:db8:bad::9]:4711",
    "fe80::bad%eth0",
    "198.51.100.9,",
];
const HEADERS: &[&str] = &[
    "Nov 22 08:00:01 host TAG[7]: ",
    "<38>Nov 22 08:00:01 TAG[7]: ",
    "Nov 22 08:00:01 host auth.info TAG[7]: ",
    "Sun Nov 22 08:00:01 2026 auth.info TAG[7]: ",
    "2026-11-22T08:00:01.123456+01:00 host TAG[7]: ",
    "<38>1 2026-11-22T08:00:01Z host TAG 7 - - ",
    "<38>1 2026-11-22T08:00:01Z host TAG 7 - [a b=\"c\"] \u{feff}",
    "@400000006b02a10b00000000 TAG[7]: ",
    "2026-11-22T08:00:01.123456+01:00 host TAG 7 - - ",
    "2026-11-22_08:00:01.12345 auth.info: Nov 22 08:00:01 TAG[7]: ",
    "Nov 22 08:00:01 [TAG] ",
    "Nov 22 08:00:01 relay host TAG[7]: ",
    "déc. 22 08:00:01 host TAG[7]: ",
    "Nov 22 08:00:01 2026 host TAG[7]: ",
];
const PIECES: &[&str] = &[
    " ",
    " ",
    ": ",
    ":",
    "'",
    "\"",
    "\" ",
    "\\",
    "\\\"",
    "<",
    ">",
    "(",
    ")",
    "[",
    "]",
    "{",
    "}",
    "=",
    ",",
    ";",
    "- ",
    "\n",
    "\n",
    "\r\n",
    "\t",
    "root",
    "22",
    "401",
    " 401 ",
    "#012",
    "#022",
    "\\n",
    "\\x0A",
    "\\033[31m",
    "%0a",
    "%20",
    "%s%n",
    "..",
    "\0",
    "\x1b[31m",
    "\x7f",
    "\u{feff}",
    "\u{fffd}",
    "from ",
    " from ",
    " port ",
    "rhost=",
    " [preauth]",
    "X-Forwarded-For: ",
    "\",\"",
    "\":\"",
    "\":{\"",
    "client: ",
    "user=",
    "rip=",
    "/../",
];
/// Bytes that are no text.
const RAW: &[&[u8]] = &[b"\xff\xfe", b"\xc3\x28", b"\x80", b"\xed\xa0\x80"];

/// The letters of the ways in which hostile text is written: see tests/detect/hostile/lines.
const KINDS: &[u8] = b"sjlauhxdwnmr";

/// A line of a service.
pub struct Template {
    /// Whether it is a hit for the sender whatever is in the holes.
    pub sure: bool,
    /// Who may write it to syslog.
    pub programs: Vec<String>,
    parts: Vec<Part>,
}

enum Part {
    Text(Vec<u8>),
    Sender,
    SenderAndPort,
    Port,
    /// Hostile text, written in a way that has this letter.
    Field(u8),
}

/// The forms of each rule, those in `lines`.
pub fn templates(confs: &[Conf]) -> Vec<Vec<Template>> {
    let path = format!("{}/tests/detect/hostile/lines", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(path).unwrap();
    let mut all: Vec<Vec<Template>> = confs.iter().map(|_| Vec::new()).collect();
    let mut now: Option<(usize, Vec<String>)> = None;
    for line in text.lines().filter(|l| !l.is_empty() && !l.starts_with('#')) {
        if let Some((name, programs)) = line.strip_prefix('[').and_then(|l| l.split_once(']')) {
            let rule = confs.iter().position(|c| c.name == name).unwrap_or_else(|| panic!("no rule {name}"));
            now = Some((rule, programs.split_whitespace().map(Into::into).collect()));
            continue;
        }
        let (rule, programs) = now.as_ref().unwrap();
        let (mark, form) = line.split_at(2);
        assert!(mark == "+ " || mark == "- ", "{line}");
        all[*rule].push(Template {
            sure: mark == "+ ",
            programs: programs.clone(),
            parts: parts(form.as_bytes()),
        });
    }
    // A rule without forms is asked nothing.
    let without = confs.iter().zip(&all).filter(|(_, forms)| forms.is_empty());
    let names: Vec<_> = without.map(|(conf, _)| &*conf.name).collect();
    assert!(names.is_empty(), "no lines in tests/detect/hostile/lines: {names:?}");
    all
}

fn replaced(text: &[u8], what: &[u8], by: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.windows(what.len()).position(|w| w == what) {
        out.extend_from_slice(&rest[..at]);
        out.extend_from_slice(by);
        rest = &rest[at + what.len()..];
    }
    out.extend_from_slice(rest);
    out
}

fn parts(form: &[u8]) -> Vec<Part> {
    let mut out = Vec::new();
    let mut begin = 0;
    let mut at = 0;
    while at + 2 < form.len() {
        let part = match &form[at..at + 3] {
            b"{@}" => Part::Sender,
            b"{b}" => Part::SenderAndPort,
            b"{#}" => Part::Port,
            [b'{', kind, b'}'] if KINDS.contains(kind) => Part::Field(*kind),
            _ => {
                at += 1;
                continue;
            }
        };
        out.push(Part::Text(form[begin..at].to_vec()));
        out.push(part);
        at += 3;
        begin = at;
    }
    out.push(Part::Text(form[begin..].to_vec()));
    out
}

/// What makes the lines.
pub struct Maker {
    pub rng: Rng,
    pieces: Vec<Vec<u8>>,
    /// Whole lines about somebody else.
    lines: Vec<Vec<u8>>,
    field: Vec<u8>,
}

impl Maker {
    pub fn new(seed: u64, confs: &[Conf]) -> Maker {
        let mut pieces: Vec<Vec<u8>> = PIECES.iter().map(|p| p.as_bytes().to_vec()).collect();
        pieces.extend(RAW.iter().map(|raw| raw.to_vec()));
        let mut lines = Vec::new();
        for conf in confs {
            for (_, pattern) in &conf.fail {
                literals(pattern, &mut pieces);
            }
            for (_, line) in &conf.examples {
                let line = replaced(line, b"192.0.2.100", b"192.0.2.200");
                let line = replaced(&line, b"192.0.2.1", b"198.51.100.9");
                lines.push(replaced(&line, b"2001:db8::1", b"2001:db8:bad::9"));
            }
        }
        Maker { rng: Rng::with_seed(seed), pieces, lines, field: Vec::new() }
    }

    /// Begins a line of who writes to syslog.
    pub fn header(&mut self, template: &Template, out: &mut Vec<u8>) {
        if !template.programs.is_empty() {
            let tag = &template.programs[self.rng.usize(..template.programs.len())];
            out.extend_from_slice(HEADERS[self.rng.usize(..HEADERS.len())].replace("TAG", tag).as_bytes());
        }
    }

    /// Appends a line. With `raw` syslog text has its line breaks, as in the journal.
    pub fn fill(&mut self, template: &Template, sender: &str, raw: bool, out: &mut Vec<u8>) {
        for part in &template.parts {
            match part {
                Part::Text(text) => out.extend_from_slice(text),
                Part::Sender => out.extend_from_slice(sender.as_bytes()),
                Part::SenderAndPort if sender.contains(':') => {
                    out.extend_from_slice(format!("[{sender}]:{}", self.rng.u16(1..)).as_bytes());
                }
                Part::SenderAndPort => {
                    out.extend_from_slice(format!("{sender}:{}", self.rng.u16(1..)).as_bytes());
                }
                Part::Port => out.extend_from_slice(self.rng.u16(1..).to_string().as_bytes()),
                Part::Field(kind) => {
                    self.hostile();
                    let other = self.rng.bool();
                    escape(*kind, raw, other, &self.field, out);
                }
            }
        }
    }

    /// Fills `field` with what an attacker might write.
    fn hostile(&mut self) {
        let Maker { rng, pieces, lines, field } = self;
        field.clear();
        let count = if rng.u16(..500) == 0 { 300 } else { rng.usize(..9) };
        for _ in 0..count {
            let line = &lines[rng.usize(..lines.len())];
            match rng.u8(..16) {
                0..=3 => field.extend_from_slice(THIRD[rng.usize(..THIRD.len())].as_bytes()),
                4 => field.extend_from_slice(line),
                // Its end or its beginning, cut between words or in the middle of one.
                5 | 6 => field.extend_from_slice(&line[rng.usize(..line.len())..]),
                7 => field.extend_from_slice(&line[..rng.usize(..line.len())]),
                8 => {
                    let from = line.iter().position(|b| *b == b' ').map_or(0, |at| at + 1);
                    field.extend_from_slice(&line[from..]);
                }
                _ => field.extend_from_slice(&pieces[rng.usize(..pieces.len())]),
            }
        }
        field.truncate(8192);
    }
}

impl Template {
    /// The ways in which hostile text is written in it, one for each hole.
    pub fn holes(&self) -> Vec<u8> {
        let kind = |part: &Part| if let Part::Field(kind) = part { Some(*kind) } else { None };
        self.parts.iter().filter_map(kind).collect()
    }

    /// The line with `root` in every hole but that of this number, which holds `text`; none if there it is
    /// too long.
    pub fn with(&self, hole: usize, text: &[u8], sender: &str) -> Vec<u8> {
        let (mut out, mut n) = (Vec::new(), 0);
        for part in &self.parts {
            match part {
                Part::Text(text) => out.extend_from_slice(text),
                Part::Sender => out.extend_from_slice(sender.as_bytes()),
                Part::SenderAndPort => out.extend_from_slice(format!("{sender}:4711").as_bytes()),
                Part::Port => out.extend_from_slice(b"4711"),
                Part::Field(kind) => {
                    escape(*kind, false, false, if n == hole { text } else { b"root" }, &mut out);
                    n += 1;
                }
            }
        }
        out
    }
}

/// The headers that a line for syslog may have.
pub fn headers(tag: &str) -> impl Iterator<Item = String> {
    HEADERS.iter().map(move |header| header.replace("TAG", tag))
}

/// The fixed texts in a pattern.
fn literals(pattern: &str, out: &mut Vec<Vec<u8>>) {
    let mut text = Vec::new();
    let mut bytes = pattern.replace("<HOST>", "()").into_bytes().into_iter().peekable();
    loop {
        let byte = bytes.next();
        match byte {
            Some(b'\\') => match bytes.next() {
                Some(b) if !b.is_ascii_alphanumeric() => {
                    text.push(b);
                    continue;
                }
                _ => {}
            },
            Some(b'[') => {
                let mut last = b'[';
                for b in bytes.by_ref() {
                    if b == b']' && last != b'[' && last != b'\\' {
                        break;
                    }
                    last = b;
                }
            }
            Some(b'(') if bytes.peek() == Some(&b'?') => {
                while !matches!(bytes.next(), None | Some(b':' | b'>' | b')')) {}
            }
            Some(b) if !b"^$.|?*+(){}".contains(&b) => {
                text.push(b);
                continue;
            }
            _ => {}
        }
        if text.len() > 1 {
            out.push(std::mem::take(&mut text));
        }
        text.clear();
        if byte.is_none() {
            return;
        }
    }
}

/// Appends `text` as a service of this kind writes it.
fn escape(kind: u8, raw: bool, other: bool, text: &[u8], out: &mut Vec<u8>) {
    let text = if b"nm".contains(&kind) { text.get(..63).unwrap_or(text) } else { text };
    let quoted = kind == b'l' && text.iter().any(|b| *b <= b' ' || b"=\"\x7f".contains(b));
    if quoted {
        out.push(b'"');
    }
    for &b in text {
        let control = b < b' ' || b == 0x7f;
        match kind {
            b's' if control && !raw => out.extend_from_slice(format!("#{b:03o}").as_bytes()),
            b'r' if control => out.push(b'_'),
            b'm' if b == b'\n' => out.extend_from_slice(b"\n\t"),
            b'x' if control || b >= 0x7f || b"\"#{|}".contains(&b) => {
                out.extend_from_slice(format!("#{b:02X}").as_bytes());
            }
            b'd' if b <= b' ' || b >= 0x7f => out.extend_from_slice(format!("\\{b:03}").as_bytes()),
            b'd' if b"\"();\\@$".contains(&b) => out.extend_from_slice(&[b'\\', b]),
            b'w' if control || b == b' ' => {}
            b'h' if !(b.is_ascii_alphanumeric() || b".-_".contains(&b)) => {}
            b'u' if control || b >= 0x7f || b" \"<>\\^`{|}#".contains(&b) => {
                out.extend_from_slice(format!("%{b:02X}").as_bytes());
            }
            b'a' if other && (b == b'"' || b == b'\\') => out.extend_from_slice(&[b'\\', b]),
            b'a' if other && b == b'\n' => out.extend_from_slice(b"\\n"),
            b'a' if control || b >= 0x7f || b == b'"' || b == b'\\' => {
                out.extend_from_slice(format!("\\x{b:02X}").as_bytes());
            }
            b'j' | b'l' if b == b'\n' && (quoted || kind == b'j') => out.extend_from_slice(b"\\n"),
            b'j' | b'l' if (b == b'"' || b == b'\\') && (quoted || kind == b'j') => {
                out.extend_from_slice(&[b'\\', b])
            }
            b'j' | b'l' if control => out.extend_from_slice(format!("\\u{b:04x}").as_bytes()),
            _ => out.push(b),
        }
    }
    if quoted {
        out.push(b'"');
    }
}
