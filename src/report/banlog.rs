#![forbid(unsafe_code)]
//! Reads the ban log, in our forms and in that of the existing product, and the older ones beside it that
//! were rotated away, compressed or not. What is no event is passed over.

use super::{PastEvent, PastKind};
use crate::ban::{BY_HAND, CLOUD, FLOODS, LISTED};
use crate::base::bytes::find;
use crate::base::clock::{Span, Wall};
use crate::base::range::Range;
use crate::config;
use crate::detect::stamp;
use crate::input::blocks;
use crate::input::lines::each_block;
use crate::sys::{child, fs};
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};
use std::io;
use std::path::Path;

/// What is unpacked at once, and the largest window of a file that is.
const PACKED_CHUNK: usize = 256 * 1024;
const WINDOW: u64 = 8 << 20;
/// The largest compressed file that is held in memory to be unpacked here.
const PACKED_MAX: u64 = 32 << 20;

/// Programs that unpack, by how the names of their files end.
const UNPACKERS: [(&str, &str); 3] = [(".gz", "gzip"), (".bz2", "bzip2"), (".xz", "xz")];
const ZSTD: &str = ".zst";

/// What is found in a log: an event.
pub type EachLogged<'e> = &'e mut dyn FnMut(&PastEvent<'_>);
/// What is said of a file that cannot be read.
pub type LogNote<'n> = &'n mut dyn FnMut(&str);

/// Reads a log and what was rotated away from it, but files that were written last before `from`. `now` and
/// `offset`, seconds east of UTC, are for stamps without a zone.
///
/// # Errors
/// The directory cannot be read, or there is no such log.
pub fn read(
    path: &Path,
    (from, now, offset): (Wall, Wall, i32),
    each: EachLogged<'_>,
    note: LogNote<'_>,
) -> io::Result<()> {
    let mut names = Vec::new();
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let dir = path.parent().unwrap_or(Path::new("/"));
    fs::each_name(dir, &mut |found| {
        if let Some(found) = std::str::from_utf8(found).ok().filter(|found| is_rotated(found, name)) {
            names.push(found.to_owned());
        }
    })?;
    if names.is_empty() {
        return Err(io::ErrorKind::NotFound.into());
    }
    names.sort_unstable();
    for name in names {
        let path = dir.join(&name);
        let mut line = |bytes: &[u8]| {
            for line in bytes.split(|&b| b == b'\n') {
                if let Some(event) =
                    std::str::from_utf8(line).ok().and_then(|line| LoggedEvent::of(line, now, offset))
                {
                    event.give(each);
                }
            }
        };
        if let Err(e) = read_one(&path, from, &mut line) {
            note(&format!("{}: {e}", path.to_string_lossy()));
        }
    }
    Ok(())
}

/// Whether a file is this log, or was once: `mef.log`, `mef.log.1`, `mef.log.2.gz`, `mef.log-20261122.zst`.
fn is_rotated(found: &str, log: &str) -> bool {
    let Some(rest) = found.strip_prefix(log) else { return false };
    let packed = UNPACKERS.iter().map(|(end, _)| *end).chain([ZSTD]);
    let number = packed.filter_map(|end| rest.strip_suffix(end)).next().unwrap_or(rest);
    rest.is_empty()
        || number.starts_with(['.', '-'])
            && number.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'.' | b'-' | b'_'))
}

fn read_one(path: &Path, from: Wall, each: &mut dyn FnMut(&[u8])) -> io::Result<()> {
    let file = fs::open_regular(path, fs::Links::Follow)?;
    let facts = fs::facts_of(&file)?;
    if u64::try_from(facts.mtime.0).unwrap_or(0) < from.0 || facts.size == 0 {
        return Ok(());
    }
    let name = path.to_string_lossy();
    if name.ends_with(ZSTD) {
        if facts.size > PACKED_MAX {
            return Err(fs::invalid("too large to be unpacked"));
        }
        return unpack(&fs::read(file, PACKED_MAX)?, each);
    }
    let Some((_, program)) = UNPACKERS.iter().find(|(end, _)| name.ends_with(end)) else {
        return blocks(file, each).map(drop);
    };
    let (unpacker, pipe) = child::reader(&[program.to_string(), "-dc".to_owned()], &file)?;
    let result = blocks(pipe, each).map(drop);
    match unpacker.wait() {
        child::ChildExit::Status(0) => result,
        _ => Err(fs::invalid("cannot be unpacked, or not to its end")),
    }
}

/// Likewise of frames of ZSTD.
fn unpack(mut bytes: &[u8], each: &mut dyn FnMut(&[u8])) -> io::Result<()> {
    let damaged = || fs::invalid("cannot be unpacked, or not to its end");
    let mut decoder = FrameDecoder::new();
    decoder.set_max_window_size(WINDOW);
    let mut text = Vec::new();
    while !bytes.is_empty() {
        decoder.init(&mut bytes).map_err(|_| damaged())?;
        while !decoder.is_finished() || decoder.can_collect() > 0 {
            decoder
                .decode_blocks(&mut bytes, BlockDecodingStrategy::UptoBytes(PACKED_CHUNK))
                .map_err(|_| damaged())?;
            text.extend(decoder.collect().unwrap_or_default());
            let end = text.iter().rposition(|&b| b == b'\n').map_or(0, |at| at + 1);
            each_block(text.get_mut(..end).unwrap_or_default(), each);
            text.drain(..end);
        }
    }
    text.push(b'\n');
    each_block(&mut text, each);
    Ok(())
}

/// What a line tells.
struct LoggedEvent<'a> {
    at: Wall,
    kind: PastKind,
    addr: Option<Range>,
    rule: String,
    ports: &'a str,
    line: &'a str,
}

impl<'a> LoggedEvent<'a> {
    fn of(line: &'a str, now: Wall, offset: i32) -> Option<LoggedEvent<'a>> {
        LoggedEvent::plain(line).or_else(|| {
            let at = find(line.as_bytes(), b"RULE=")?;
            LoggedEvent::of_mef(line.split_at_checked(at)?, now, offset)
        })
    }

    fn give(&self, each: EachLogged<'_>) {
        let LoggedEvent { at, kind, addr, ports, line, .. } = *self;
        each(&PastEvent { at, kind, addr, rule: &self.rule, ports, line });
    }

    /// `2026-11-22T08:00:01Z ban 192.0.2.7 rule=sshd hits=5 for=3600 ports=all seen=21,23 reason=…`
    fn plain(line: &'a str) -> Option<LoggedEvent<'a>> {
        let mut words = line.splitn(4, ' ');
        let at = crate::base::utc::parse(words.next()?)?;
        let kind = words.next()?;
        let addr = address(words.next()?)?;
        let (facts, reason) = split(words.next()?, "reason=");
        let kind = match kind {
            "ban" => PastKind::Ban(time(value(facts, "for=")?)),
            "unban" => PastKind::Unban,
            _ => return None,
        };
        Some(LoggedEvent {
            at,
            kind,
            addr: Some(addr),
            rule: rule(value(facts, "rule=")?),
            ports: ports(facts),
            line: reason,
        })
    }

    /// `STAMP RULE=SSHD | SOURCE=LOG | BAN | ip=192.0.2.7 | bantime=1h | action=ban | msg="hits=5 ports=all"`
    fn of_mef((head, line): (&'a str, &'a str), now: Wall, offset: i32) -> Option<LoggedEvent<'a>> {
        let at = match crate::base::utc::parse(head.trim()) {
            Some(at) => at,
            None => Wall(now.0.saturating_sub(stamp::of(head.as_bytes())?.age(now, offset))),
        };
        let (facts, message) = split(line, "msg=");
        let mut parts = facts.split(" | ");
        let field = |name| facts.split(" | ").find_map(|part| part.strip_prefix(name)).map(str::trim);
        let name = parts.next()?.strip_prefix("RULE=")?.to_ascii_lowercase();
        let rule = field("profile=").map_or_else(|| rule(&name), |profile| [LISTED, profile].concat());
        let kind = match parts.nth(1)?.trim() {
            "BAN" | "PERM_BAN" => PastKind::Ban(field("bantime=").and_then(time)),
            "UNBAN" => PastKind::Unban,
            "THROTTLE" => PastKind::Throttled,
            _ => return None,
        };
        let message = message.trim().trim_matches('"');
        let (facts, reason) = split(message, "reason=");
        // What that product says of a ban is its reason: it names no line.
        let line = if reason.is_empty() { message } else { reason };
        let line = if line.starts_with("hits=") { "" } else { line };
        Some(LoggedEvent { at, kind, addr: Some(address(field("ip=")?)?), rule, ports: ports(facts), line })
    }
}

/// What stands before a word, and behind it.
fn split<'a>(text: &'a str, word: &str) -> (&'a str, &'a str) {
    text.split_once(word).unwrap_or((text, ""))
}

/// The value of the first word that begins like this.
fn value<'a>(facts: &'a str, name: &str) -> Option<&'a str> {
    facts.split(' ').find_map(|word| word.strip_prefix(name))
}

/// The ports that were touched or, if it does not say them, banned.
fn ports(facts: &str) -> &str {
    let found = ["seen=", "dport=", "ports="].into_iter().find_map(|name| value(facts, name));
    found.filter(|ports| *ports != "all").unwrap_or("").trim_end_matches(",...")
}

fn rule(name: &str) -> String {
    match name {
        BY_HAND => String::new(),
        "ddos" => FLOODS.to_owned(),
        "cloud" => [LISTED, CLOUD].concat(),
        name => name.to_owned(),
    }
}

fn time(text: &str) -> Option<Span> {
    config::span(text).ok()
}

fn address(text: &str) -> Option<Range> {
    config::net(text).ok().map(Range::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Wall = Wall(1_795_400_000);

    fn told(line: &str) -> Option<String> {
        let event = LoggedEvent::of(line, NOW, 3600)?;
        let addr = event.addr?;
        Some(format!("{} {:?} {addr} {} {} {}", event.at.0, event.kind, event.rule, event.ports, event.line))
    }

    #[test]
    fn lines_of_every_form_are_read() {
        let cases = [
            (
                "2026-11-22T08:00:01Z ban 192.0.2.7 rule=sshd hits=5 for=3600 ports=all",
                "1795334401 Ban(Some(Secs(3600))) 192.0.2.7 sshd  ",
            ),
            (
                "2026-11-22T08:00:01Z ban 2001:db8::/64 rule=portscan hits=9 for=permanent ports=all \
                 seen=21,23",
                "1795334401 Ban(Some(Permanent)) 2001:db8::/64 portscan 21,23 ",
            ),
            (
                "2026-11-22T08:00:01Z ban 192.0.2.7 rule=manual hits=0 for=60 ports=22,8000-8010 \
                 reason=a seen=5 rule=x",
                "1795334401 Ban(Some(Secs(60))) 192.0.2.7  22,8000-8010 a seen=5 rule=x",
            ),
            (
                "2026-11-22T08:00:01Z unban 192.0.2.7 rule=manual hits=0 ports=all",
                "1795334401 Unban 192.0.2.7   ",
            ),
            (
                "2026-11-22T08:00:01Z RULE=SSHD | SOURCE=LOG | BAN | ip=192.0.2.7 | bantime=1h | \
                 action=ban | msg=\"hits=5 ports=all\"",
                "1795334401 Ban(Some(Secs(3600))) 192.0.2.7 sshd  ",
            ),
            (
                "2026-11-22T08:00:01Z RULE=SSHD | SOURCE=LOG | PERM_BAN | ip=192.0.2.7 | bantime=permanent | \
                 action=ban | msg=\"hits=5 ports=22 reason=said 'ip=1.2.3.4 | BAN'\"",
                "1795334401 Ban(Some(Permanent)) 192.0.2.7 sshd 22 said 'ip=1.2.3.4 | BAN'",
            ),
            (
                "2026-11-22 09:00:01 RULE=PORTSCAN | SOURCE=PACKET | BAN | ip=192.0.2.7 | bantime=1h | \
                 action=ban | msg=\"unique_ports=11 limit=10 interval=5m ports=22,25,80,...\"",
                "1795334401 Ban(Some(Secs(3600))) 192.0.2.7 portscan 22,25,80 unique_ports=11 limit=10 \
                 interval=5m ports=22,25,80,...",
            ),
            (
                "2026/11/22 09:00:01 RULE=RBL | SOURCE=DNS | BAN | ip=192.0.2.7 | bantime=1h | action=ban | \
                 profile=x | msg=\"zone=z answer=127.0.0.2 src=192.0.2.7 dport=22 proto=tcp\"",
                "1795334401 Ban(Some(Secs(3600))) 192.0.2.7 rbl-x 22 zone=z answer=127.0.0.2 src=192.0.2.7 \
                 dport=22 proto=tcp",
            ),
            (
                "2026-11-22T08:00:01Z RULE=DDOS | SOURCE=KERNEL | THROTTLE | ip=192.0.2.7 | msg=\"x\"",
                "1795334401 Throttled 192.0.2.7 flood  x",
            ),
        ];
        for (line, want) in cases {
            assert_eq!(told(line).as_deref(), Some(want), "{line}");
        }
    }

    #[test]
    fn what_is_no_event_is_none() {
        for line in [
            "",
            "RULE=",
            "2026-11-22T08:00:01Z",
            "2026-11-22T08:00:01Z ban",
            "2026-11-22T08:00:01Z ban nobody rule=x for=1 ports=all",
            "2026-11-22T08:00:01Z hit 192.0.2.7 rule=x for=1 ports=all",
            "RULE=SSHD | SOURCE=LOG | BAN | ip=192.0.2.7",
            "2026-11-22T08:00:01Z RULE=SSHD | SOURCE=LOG | BAN_FAIL | ip=192.0.2.7",
            "2026-11-22T08:00:01Z RULE=SSHD | SOURCE=LOG | BAN | ip=",
            "2026-11-22T08:00:01Z RULE=SSHD | SOURCE=LOG | BAN",
            "2026-11-22T08:00:01Z RULE=BLACKLIST | SOURCE=FILE | DROP | action=skip | ip=192.0.2.7",
        ] {
            assert_eq!(told(line), None, "{line}");
        }
    }

    #[test]
    fn only_what_was_the_log_is_read() {
        for name in [
            "mef.log",
            "mef.log.1",
            "mef.log.12.gz",
            "mef.log-20261122",
            "mef.log-20261122.zst",
            "mef.log.3.xz",
        ] {
            assert!(is_rotated(name, "mef.log"), "{name}");
        }
        for name in
            ["mef.log.bak", "mef.log~", "other.log", "mef.logs", "mef.log.1.tmp", "xmef.log", "mef.loggz"]
        {
            assert!(!is_rotated(name, "mef.log"), "{name}");
        }
    }
}
