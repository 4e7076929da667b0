#![forbid(unsafe_code)]
//! Which entries of a list's file are about a range. Of a million lines nearly none is read as such: what a
//! line begins with says of most of them that they are about somebody else. Knows no kernel.

use super::read::open;
use crate::base::range::Range;
use crate::config::{LIST_LINE_MAX, ListEntry, ListKind, ListLine, ListWord, list_word, read_list};
use crate::input::lines::Splitter;
use crate::sys::count::newlines;
use crate::sys::fs::facts_of;
use crate::sys::mapped::LeasedFile;
use crate::sys::numerals::{LineBegin, look_through};
use memchr::{memchr, memchr_iter, memrchr};
use std::fmt::Write as _;
use std::io::{self, ErrorKind, Read as _};
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;

/// Bytes that are looked at together.
const BLOCK: usize = 64 * 1024;
/// Bytes of a file that is mapped in place of being read.
const LARGE: u64 = 1 << 20;
/// The shortest prefix of IPv4 whose networks have one first number only.
const SHORT4: u32 = 8;
/// The same of IPv6.
const SHORT6: u32 = 16;

/// Calls `each` with the entries of a list that meet a range, and the line of each.
///
/// # Errors
/// When it cannot be opened or read, or is no list.
pub fn entries_of(
    kind: ListKind,
    path: &Path,
    range: &Range,
    each: &mut dyn FnMut(u32, ListEntry),
) -> io::Result<()> {
    let mut file = open(kind, path)?;
    let mut search = Search::new(kind, range);
    // To map a small file takes longer than to read it.
    let is_large = facts_of(&file)?.size >= LARGE;
    if let Some(leased) = is_large.then(|| LeasedFile::lease(&file)).flatten() {
        return search.mapped(&leased, each);
    }
    let mut splitter = Splitter::new(BLOCK);
    loop {
        match file.read(splitter.space()) {
            Ok(0) => break,
            Ok(n) => splitter.filled(n, &mut |block| search.block(block)),
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
        search.hand_over(each)?;
    }
    splitter.finish(&mut |block| search.block(block));
    search.hand_over(each)
}

/// The block of whole lines that a text begins with, and what is behind it; nothing if no line is whole.
fn first_block(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let begin = text.get(..BLOCK.min(text.len()))?;
    let end = memrchr(b'\n', begin).or_else(|| memchr(b'\n', text))?;
    text.split_at_checked(end + 1)
}

/// The number that all addresses of a range begin with: then entries of the usual form begin with it, too.
#[derive(Clone, Copy, PartialEq, Eq)]
enum FirstNumber {
    V4(u32),
    V6(u32),
}

impl FirstNumber {
    fn of(range: &Range) -> Option<FirstNumber> {
        match (range.first(), range.last()) {
            (IpAddr::V4(a), IpAddr::V4(b)) => {
                let ([a, ..], [b, ..]) = (a.octets(), b.octets());
                (a == b).then_some(FirstNumber::V4(a.into()))
            }
            (IpAddr::V6(a), IpAddr::V6(b)) => {
                let ([a, ..], [b, ..]) = (a.segments(), b.segments());
                (a == b).then_some(FirstNumber::V6(a.into()))
            }
            _ => None,
        }
    }
}

/// What lines about a range begin with that are an address or network of IPv4 and no more.
struct LineBegins {
    /// If they are networks: the first number.
    network: String,
    /// If they are addresses: all numbers that the addresses of the range have in common.
    address: String,
}

impl LineBegins {
    fn of(first: Ipv4Addr, last: Ipv4Addr) -> LineBegins {
        let mut address = String::new();
        for (at, (number, other)) in first.octets().into_iter().zip(last.octets()).enumerate() {
            if number != other {
                break;
            }
            let _ = write!(address, "{number}{}", if at < 3 { "." } else { "" });
        }
        LineBegins { network: format!("{}.", first.octets()[0]), address }
    }

    /// Whether a line may be about the range.
    fn fit(&self, line: &[u8]) -> bool {
        line.starts_with(self.address.as_bytes())
            || line.starts_with(self.network.as_bytes()) && memchr(b'/', line).is_some()
    }
}

/// A search in a list.
struct Search<'r> {
    kind: ListKind,
    range: &'r Range,
    number: Option<FirstNumber>,
    begins: Option<LineBegins>,
    /// Lines before the block.
    before: u32,
    found: Vec<(u32, ListEntry)>,
    no_list: Option<io::Error>,
}

impl Search<'_> {
    fn new(kind: ListKind, range: &Range) -> Search<'_> {
        let number = FirstNumber::of(range);
        let begins = match (number, range.first(), range.last()) {
            // No deny list has wider networks below multicast, unless a word behind them says so.
            (Some(FirstNumber::V4(number)), IpAddr::V4(first), IpAddr::V4(last))
                if number < MULTICAST && kind == ListKind::Deny =>
            {
                Some(LineBegins::of(first, last))
            }
            _ => None,
        };
        Search { kind, range, number, begins, before: 0, found: Vec::new(), no_list: None }
    }

    /// Gives away what was found so far.
    fn hand_over(&mut self, each: &mut dyn FnMut(u32, ListEntry)) -> io::Result<()> {
        if let Some(why) = self.no_list.take() {
            return Err(why);
        }
        self.found.drain(..).for_each(|(line, entry)| each(line, entry));
        Ok(())
    }

    /// Looks through a file where the kernel has it: half of the time that it takes to read one is the copy.
    fn mapped(&mut self, file: &LeasedFile<'_>, each: &mut dyn FnMut(u32, ListEntry)) -> io::Result<()> {
        let (mut at, mut is_in_line) = (0, false);
        while at < file.size() {
            file.piece(at, &mut |piece| {
                let (mut rest, is_last) = (piece, at + piece.len() >= file.size());
                at += piece.len();
                while let Some((block, behind)) = first_block(rest) {
                    // The end of a line that is longer than a piece: as a line it has nothing.
                    let end = if is_in_line { memchr(b'\n', block).unwrap_or(0) } else { 0 };
                    self.block(block.get(end..).unwrap_or_default());
                    (rest, is_in_line) = (behind, false);
                }
                if is_last && !rest.is_empty() && !is_in_line {
                    self.block(&[rest, b"\n"].concat());
                } else if !is_last && rest.len() < piece.len() {
                    at -= rest.len();
                } else {
                    is_in_line = true;
                }
            })?;
            self.hand_over(each)?;
        }
        Ok(())
    }

    /// Whole lines.
    fn block(&mut self, block: &[u8]) {
        let mut rest = block;
        if self.before == 0 {
            let end = memchr(b'\n', block).map_or(block.len(), |end| end + 1);
            let (mut first, others) = block.split_at_checked(end).unwrap_or((block, &[]));
            let (kind, mut entries) = (self.kind, Vec::new());
            let of_first = &mut |line: ListLine<'_>| {
                if let ListLine::Entry(entry, _) = line {
                    entries.push(entry);
                }
            };
            self.no_list = read_list(kind, &mut first, of_first).err();
            entries.into_iter().for_each(|entry| self.take(entry, 1));
            (self.before, rest) = (1, others);
        }
        // Nothing else names an address of IPv6.
        let is_other = matches!(self.number, Some(FirstNumber::V6(_))) && memchr(b':', rest).is_none();
        let lines = match self.begins.take() {
            _ if is_other => lines_of(rest),
            Some(begins) => {
                let lines = self.plain(rest, &begins);
                self.begins = Some(begins);
                lines
            }
            None => self.each_line(rest),
        };
        self.before = self.before.saturating_add(lines);
    }

    /// Finds lines by what they begin with; those of a block that has more than addresses and networks one by
    /// one. Returns how many there are.
    fn plain(&mut self, block: &[u8], begins: &LineBegins) -> u32 {
        let Some(begin) = LineBegin::of(begins.network.as_bytes()) else { return self.each_line(block) };
        let known = self.found.len();
        self.line_at(block, 0, begins);
        let seen = look_through(block, begin, &mut |at| self.line_at(block, at, begins));
        if seen.is_plain {
            return u32::try_from(seen.newlines).unwrap_or(u32::MAX);
        }
        self.found.truncate(known);
        self.each_line(block)
    }

    /// Takes the line there if it is about the range.
    fn line_at(&mut self, block: &[u8], start: usize, begins: &LineBegins) {
        let Some((before, line)) = block.split_at_checked(start) else { return };
        let line = line.get(..memchr(b'\n', line).unwrap_or(line.len())).unwrap_or(line);
        if begins.fit(line) {
            self.line(line, &mut || lines_of(before));
        }
    }

    /// Reads all lines but those that are about others at first sight. Returns how many there are.
    fn each_line(&mut self, block: &[u8]) -> u32 {
        let (mut start, mut number) = (0, 0);
        for end in memchr_iter(b'\n', block) {
            let line = block.get(start..end).unwrap_or_default();
            if !self.number.is_some_and(|number| is_of_others(line, number)) {
                self.line(line, &mut || number);
            }
            (start, number) = (end + 1, number + 1);
        }
        number
    }

    /// A line; `before` says how many lines of its block are before it.
    fn line(&mut self, line: &[u8], before: &mut dyn FnMut() -> u32) {
        if line.len() > LIST_LINE_MAX {
            return;
        }
        let entries = match list_word(self.kind, line) {
            ListWord::Entry(entry) if Range::from(entry.net).meets(self.range) => vec![entry],
            ListWord::Several(entries) => entries,
            _ => return,
        };
        let number = self.before.saturating_add(before()).saturating_add(1);
        entries.into_iter().for_each(|entry| self.take(entry, number));
    }

    fn take(&mut self, entry: ListEntry, line: u32) {
        if Range::from(entry.net).meets(self.range) {
            self.found.push((line, entry));
        }
    }
}

/// How many lines there are.
fn lines_of(text: &[u8]) -> u32 {
    u32::try_from(newlines(text)).unwrap_or(u32::MAX)
}

/// The first number of multicast and what is reserved.
const MULTICAST: u32 = Ipv4Addr::new(224, 0, 0, 0).octets()[0] as u32;

/// Whether a line is an address or network, or a comment, and about somebody else by its first number.
fn is_of_others(line: &[u8], sought: FirstNumber) -> bool {
    let end = line.iter().position(|b| !b.is_ascii_hexdigit()).unwrap_or(line.len());
    let (number, mut rest) = line.split_at_checked(end).unwrap_or((line, &[]));
    let (mark, radix, shortest) = match rest.first() {
        Some(b'.') => (b'.', 10, SHORT4),
        Some(b':') => (b':', 16, SHORT6),
        Some(b'#' | b';') | None => return end == 0,
        _ => return false,
    };
    let Some(number) = value(number, radix) else { return false };
    let is_part = |b: &u8| b.is_ascii_hexdigit() || matches!(b, b'.' | b':');
    rest = rest.get(rest.iter().position(|b| !is_part(b)).unwrap_or(rest.len())..).unwrap_or_default();
    if let Some(behind) = rest.strip_prefix(b"/") {
        let end = behind.iter().position(|b| !b.is_ascii_digit()).unwrap_or(behind.len());
        let (length, behind) = behind.split_at_checked(end).unwrap_or((behind, &[]));
        if value(length, 10).is_none_or(|length| length < shortest) {
            return false;
        }
        rest = behind;
    }
    if !matches!(rest.trim_ascii_start(), [] | [b'#' | b';', ..]) {
        return false;
    }
    match sought {
        FirstNumber::V4(sought) if mark == b'.' => number != sought,
        // Mapped addresses begin with 0.
        FirstNumber::V4(_) => number != 0,
        FirstNumber::V6(sought) => mark == b'.' || number != sought,
    }
}

/// A number of few digits.
fn value(digits: &[u8], radix: u32) -> Option<u32> {
    let digit = |b: &u8| char::from(*b).to_digit(radix);
    let few = (1..=4).contains(&digits.len());
    few.then(|| digits.iter().try_fold(0, |sum, b| Some(sum * radix + digit(b)?)))?
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lists::read::{Detail, lines};
    use crate::sys::dir::testing::ScratchDir;
    use std::net::Ipv6Addr;

    /// Which rare forms a list has.
    #[derive(Clone, Copy, PartialEq, Eq)]
    enum RareLines {
        None,
        /// Those with which it is still searched by what lines begin with.
        Plain,
        All,
    }

    /// The lines of a list, one of a hundred in a form that is rarer than the others.
    fn list(
        rng: &mut fastrand::Rng,
        usual: &dyn Fn(Ipv4Addr, Ipv6Addr) -> String,
        which: RareLines,
    ) -> String {
        let mut text = String::from("\u{feff}192.0.2.7\r\n#today\n");
        for n in 0..6000 {
            let (v4, v6) = (of_few4(rng), of_few6(rng));
            let rare_plain = [
                "8.0.0.0/5".to_owned(),
                format!("{v4}/08"),
                format!("{v4}/20"),
                format!("{v4}/255.255.240.0"),
                format!("{v4}/"),
                format!("0{v4}"),
                format!("{v4}0"),
                format!("{v4}.1"),
                "10.".to_owned(),
                "10./8".to_owned(),
                "1".repeat(9000),
                String::new(),
            ];
            let rare = [
                "8.0.0.0/5;force".to_owned(),
                format!("{v4}/08;x"),
                format!("{v4}/20#a"),
                format!("#{v4}"),
                format!("{v4}x"),
                format!("{v4}#{}", "x".repeat(LIST_LINE_MAX)),
                "y".repeat(9000),
                "# of today".to_owned(),
                format!("{v4}/20 # a network"),
                format!("add set {v4}"),
                "10.0.0.1\t10.0.0.9\t24".to_owned(),
                format!("{v4}-{v4}"),
                "9.0.0.0 - 12.0.0.0".to_owned(),
                format!("::ffff:{v4}"),
                format!("0:0::ffff:{v4}"),
                format!("ALL:{v4}"),
                "deny from 10.1.".to_owned(),
                format!("\r{v4}"),
                format!("\x0c{v4}/31"),
                format!("  {v4}"),
                "8.0.0.0/5 force".to_owned(),
                "0.0.0.0/128.0.0.0 until=2100-01-01T00:00:00Z force".to_owned(),
                format!("{{\"ip\":\"{v4}\"}}"),
                format!("\"{v4}\",\"a\""),
                format!("{v6}/15 force"),
                format!("{v6}/17"),
                "2000::/3 force".to_owned(),
                format!("2001:DB8:{:x}::/48#", rng.u8(..)),
                format!("{v6} - {v6}"),
                format!("ALL: [{v6}]/64"),
                format!("{v4} {}", "x".repeat(LIST_LINE_MAX)),
                "10.0.example.com: 10.0.0.1".to_owned(),
            ];
            let line = match which {
                RareLines::Plain if n % 100 == 99 => rng.choice(rare_plain),
                RareLines::All if n % 100 == 99 => rng.choice([&rare_plain[..], &rare].concat()),
                _ => None,
            };
            text.push_str(&line.unwrap_or_else(|| usual(v4, v6)));
            text.push('\n');
        }
        text
    }

    fn of_few4(rng: &mut fastrand::Rng) -> Ipv4Addr {
        Ipv4Addr::from(0x0a00_0000 | rng.u32(..1 << 14) | rng.u32(..3) << 24)
    }

    fn of_few6(rng: &mut fastrand::Rng) -> Ipv6Addr {
        Ipv6Addr::new(0x2000 | rng.u16(..2), 0xdb8, rng.u16(..64), rng.u16(..64), 0, 0, 0, rng.u16(..4))
    }

    /// What the search finds.
    fn entries(path: &Path, range: &Range) -> io::Result<Vec<(u32, ListEntry)>> {
        let mut found = Vec::new();
        entries_of(ListKind::Deny, path, range, &mut |line, entry| found.push((line, entry)))?;
        Ok(found)
    }

    /// What reading every line finds.
    fn all(path: &Path, range: &Range) -> Vec<(u32, ListEntry)> {
        let mut found = Vec::new();
        let mut file = open(ListKind::Deny, path).unwrap();
        lines(ListKind::Deny, path, &mut file, Detail::Nothing, &mut |_| (), &mut |entry, line| {
            if Range::from(entry.net).meets(range) {
                found.push((line, *entry));
            }
        })
        .unwrap();
        found
    }

    #[test]
    fn what_is_about_a_range_is_found_in_long_lists_with_its_line() {
        let dir = ScratchDir::new();
        let path = dir.path().join("list.conf");
        let mut rng = fastrand::Rng::with_seed(26);
        let usual: [&dyn Fn(Ipv4Addr, Ipv6Addr) -> String; 5] = [
            &|v4, _| v4.to_string(),
            &|v4, _| format!("{v4}/28"),
            &|v4, _| format!("{v4} # seen"),
            &|_, v6| v6.to_string(),
            &|v4, v6| format!("{v6}/64\n{v4}"),
        ];
        let all_rare = [RareLines::None, RareLines::Plain, RareLines::All];
        for (form, which) in usual.iter().flat_map(|form| all_rare.map(|which| (form, which))) {
            let text = list(&mut rng, form, which);
            std::fs::write(&path, text.trim_end()).unwrap();
            let mut ranges = vec![Range::from(IpAddr::from([192, 0, 2, 7]))];
            ranges.extend(
                ["10.0.0.0/20", "9.0.0.0/6", "224.0.0.1", "2001:db8::/32", "2000::/15"]
                    .map(|text| Range::from(crate::config::net(text).unwrap())),
            );
            ranges.extend((0..2).map(|_| Range::from(IpAddr::from(of_few4(&mut rng)))));
            ranges.extend((0..2).map(|_| Range::from(IpAddr::from(of_few6(&mut rng)))));
            for range in ranges {
                assert_eq!(entries(&path, &range).unwrap(), all(&path, &range), "{range}");
            }
            assert_eq!(entries(&path, &Range::from(IpAddr::from([192, 0, 2, 7]))).unwrap()[0].0, 1);
        }
    }

    /// Where lines end does not matter to what is mapped, nor that some are longer than a piece.
    #[test]
    fn what_is_mapped_is_what_is_read() {
        let dir = ScratchDir::new();
        let path = dir.path().join("list.conf");
        let mut rng = fastrand::Rng::with_seed(26);
        for round in 0..12 {
            let mut text = String::from("192.0.2.7\n");
            while text.len() < (1 << 20) + rng.usize(..1 << 20) {
                match rng.u8(..8) {
                    0 if round > 3 => text.push_str(&"x".repeat(rng.usize(..100_000))),
                    1 if round > 7 => text.push_str(&"10.0.0.1 ".repeat(rng.usize(..250_000))),
                    _ => text.extend((0..6000).map(|_| format!("{}\n", of_few4(&mut rng)))),
                }
            }
            let ends = ["", "\n", "\n10.0.0.1", "\n10.0.0.1\n", "10.0.0.1"];
            text.push_str(rng.choice(&ends).unwrap());
            std::fs::write(&path, &text).unwrap();
            let range = Range::from(crate::config::net("10.0.0.0/26").unwrap());
            let file = std::fs::File::open(&path).unwrap();
            let (mut mapped, mut search) = (Vec::new(), Search::new(ListKind::Deny, &range));
            let leased = LeasedFile::lease(&file).unwrap();
            search.mapped(&leased, &mut |line, entry| mapped.push((line, entry))).unwrap();
            drop(leased);
            assert!(mapped == all(&path, &range), "{round}");
            // What somebody writes is read.
            let writer = std::fs::File::options().append(true).open(&path).unwrap();
            assert!(mapped == entries(&path, &range).unwrap(), "{round}");
            drop(writer);
            assert!(mapped == entries(&path, &range).unwrap() && !mapped.is_empty(), "{round}");
        }
    }

    #[test]
    fn only_lines_about_others_are_passed_over() {
        let (v4, v6) = (FirstNumber::V4(10), FirstNumber::V6(0x2001));
        let cases: &[(&str, bool, bool)] = &[
            ("", true, true),
            ("# 10.0.0.1", true, true),
            ("10.0.0.1", false, true),
            ("11.0.0.1", true, true),
            ("11.0.0.1/7", false, false),
            ("11.0.0.1/8 ; x", true, true),
            ("11.0.0.1/255.0.0.0", false, false),
            ("11.0.0.1 force", false, false),
            ("11.0.0.1-12.0.0.1", false, false),
            ("2001:db8::/32", true, false),
            ("2002:db8::/16 # x", true, true),
            ("2002:db8::/15", false, false),
            ("::1", false, false),
            ("0::ffff:10.0.0.1", false, true),
            ("deadbeef", false, false),
            ("1ffff.0.0.0", false, false),
        ];
        for (line, of_others4, of_others6) in cases {
            assert_eq!(is_of_others(line.as_bytes(), v4), *of_others4, "{line}");
            assert_eq!(is_of_others(line.as_bytes(), v6), *of_others6, "{line}");
        }
    }

    #[test]
    fn what_is_no_list_has_no_entries() {
        let dir = ScratchDir::new();
        let path = dir.path().join("list.conf");
        let range = Range::from(IpAddr::from([192, 0, 2, 7]));
        std::fs::write(&path, "<html>\n192.0.2.7\n").unwrap();
        assert!(entries(&path, &range).is_err());
        for empty in ["", "\n", "\n\n"] {
            std::fs::write(&path, empty).unwrap();
            assert_eq!(entries(&path, &range).unwrap(), []);
        }
        // What only looks like it further below is a bad line.
        std::fs::write(&path, ["\n".repeat(70_000).as_str(), "<html>\n192.0.2.7\n"].concat()).unwrap();
        assert_eq!(entries(&path, &range).unwrap()[0].0, 70_002);
    }
}
