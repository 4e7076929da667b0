//! Tables of patterns and their answers, both matchers against each other, and the proof of linear time.

use super::*;

#[path = "../../tests/pattern/maker.rs"]
mod maker;

fn pattern(text: &str) -> Pattern {
    Pattern::new(text, Demand::Nothing).unwrap_or_else(|e| panic!("{text}: {e:?}"))
}

fn scratch(p: &Pattern) -> MatchScratch {
    MatchScratch::for_patterns(std::iter::once(p))
}

/// The text of a group, `-` without a match, `(none)` if the group took no part.
fn group<'a>(text: &str, line: &'a str, g: CaptureGroup) -> &'a str {
    let p = pattern(text);
    match p.find(line.as_bytes(), &mut scratch(&p)) {
        Some(found) => found.get(g).map_or("(none)", |r| &line[r]),
        None => "-",
    }
}

const SSHD: &str =
    r"^Failed (?:password|publickey) for (?:invalid user )?(?P<user>.*) from <HOST> port \d+(?: ssh2)?$";

#[test]
fn addresses_are_taken_out_of_lines() {
    let cases: &[(&str, &str, &str)] = &[
        (SSHD, "Failed password for root from 192.0.2.1 port 22 ssh2", "192.0.2.1"),
        (SSHD, "Failed password for root from ::ffff:192.0.2.1 port 22", "::ffff:192.0.2.1"),
        (SSHD, "Failed none for root from 192.0.2.1 port 22 ssh2", "-"),
        (SSHD, "Failed password for root from 192.0.2.1 port 22 ssh2 ", "-"),
        (SSHD, " Failed password for root from 192.0.2.1 port 22 ssh2", "-"),
        (SSHD, "Failed password for a from 8.8.8.8 port 1 ssh2 from 192.0.2.1 port 22 ssh2", "192.0.2.1"),
        (SSHD, "Failed password for root from 192.0.2.1.evil.com port 22", "-"),
        (r"from <HOST>:\d+$", "from 2001:db8::1:50022", "2001:db8::1"),
        (r"from <HOST>:\d+$", "from 2001:db8::1:5002", "2001:db8::1"),
        (r"from <HOST>:\d+$", "from 192.0.2.1:50022", "192.0.2.1"),
        (r"from <HOST>$", "from 2001:db8::1:5002", "2001:db8::1:5002"),
        (r"^\[client <ADDR>(?::\d+)?\]", "[client 192.0.2.1:5] x", "192.0.2.1"),
        (r"^\[client <ADDR>(?::\d+)?\]", "[client 2001:db8::1] x", "2001:db8::1"),
        (r"from .*<HOST>", "from ::ffff:1.2.3.4", "::ffff:1.2.3.4"),
        (r"from .*<HOST>", "from a1.2.3.4", "-"),
        (r"h\[<HOST>\]", "h[192.0.2.1]", "192.0.2.1"),
        (r"h<HOST>", "h[192.0.2.1]", "[192.0.2.1]"),
        (r"<HOST> x|y <HOST>", "y 192.0.2.1", "192.0.2.1"),
        (r"(?P<ip>\S+) x|y (?<ip>\w+)", "y ab", "ab"),
        (r"(?:from <HOST>)?$", "x", "(none)"),
    ];
    for (text, line, want) in cases {
        assert_eq!(group(text, line, CaptureGroup::Ip), *want, "{text} on {line}");
    }
}

#[test]
fn constructs_mean_what_they_mean_elsewhere() {
    let cases: &[(&str, &str, &str)] = &[
        ("(?P<user>)", "x", ""),
        (r"\A(?P<user>[[:alpha:]_]+)[[:digit:]]+\z", "ab_c12", "ab_c"),
        (r"\A(?P<user>b)", "ab", "-"),
        (r"(?P<user>b)\z", "bc", "-"),
        ("^(?P<user>[^[:space:]]+)", "a1 b", "a1"),
        ("^(?P<user>[[:^digit:]]+)", "ab1", "ab"),
        ("^(?P<user>[[:upper:]x]+)", "ABxc", "ABx"),
        ("(?s)^a(?P<user>.+)b$", "a\n1\nb", "\n1\n"),
        ("(?s:a.)(?P<user>.+)", "a\n1\nb", "1"),
        ("^a(?P<user>.+)b$", "a\n1\nb", "-"),
        ("(?i)(?P<user>[[:lower:]]+)", "ABc", "ABc"),
        ("(?P<user>a|ab)(?:c|bcd)d*", "abcd", "a"),
        ("(?P<user>a{2,3})", "aaaa", "aaa"),
        ("(?P<user>a{2,3}?)", "aaaa", "aa"),
        ("(?P<user>a{2,}?)$", "aaaa", "aaaa"),
        ("(?P<user>.*?) x", "a x b x", "a"),
        ("(?P<user>.*) x", "a x b x", "a x b"),
        ("(?i)(?P<user>AbC)", "xaBcx", "aBc"),
        ("(?i:a)(?P<user>b)", "AB", "-"),
        ("a(?i)(?P<user>b)", "aB", "B"),
        ("(?:(?i)a)(?P<user>b)", "AB", "-"),
        ("(?i)(?-i:a)(?P<user>[b-c])", "aC", "C"),
        (r"\b(?P<user>ab)\b", "xab ab", "ab"),
        (r"(?P<user>[^\]]+)\]", "[x]", "[x"),
        (r"(?P<user>[]x]+)", "a]x]", "]x]"),
        (r"(?P<user>[[a]+)", "x[a", "[a"),
        (r"(?P<user>[\w.-]+)", " a-b.c ", "a-b.c"),
        (r"(?P<user>é+)", "éé", "éé"),
        (r"(?P<user>\x41\-\/\ \<)", "A-/ <", "A-/ <"),
        ("(?P<user>a)|b", "b", "(none)"),
        ("(?:(?P<user>a)|b)+", "ab", "a"),
        ("}](?P<user>-)", "}]-", "-"),
        ("(?P<user>a.b)", "a\nb", "-"),
        ("(?P<user>a)$", "a\n", "-"),
        ("^(?P<user>b)", "a\nb", "-"),
    ];
    for (text, line, want) in cases {
        assert_eq!(group(text, line, CaptureGroup::User), *want, "{text} on {line}");
    }
}

#[test]
fn errors_name_the_construct_and_what_to_write() {
    // The pattern with the part in question marked by «», and what is said.
    let cases: &[(&str, &str)] = &[
        ("a«(?=»b)", "look-ahead is not supported"),
        ("a«(?!»b)", "negative look-ahead is not supported"),
        ("«(?<»=a)b", "look-behind is not supported"),
        ("«(?<»!a)b", "negative look-behind is not supported"),
        ("«(?>»a)", "atomic groups are not supported"),
        ("«(?#»a)", "comments are not supported"),
        ("«(?P»=ip)", "back references are not supported"),
        ("«(?m»)a", "the flag m is not supported"),
        ("«(*»SKIP)", "verbs such as (*SKIP) are not supported"),
        (r"(a)«\1»", "back references are not supported"),
        (r"«\p»{L}", "Unicode classes are not supported"),
        (r"[«\A»]", "an end of the line is not a byte"),
        (r"\A«*»", "there is nothing to repeat before this"),
        (r"«\y»", "unknown escape \\y"),
        (r"[«\b»]", "\\b has no meaning in a class"),
        (r"a«\»", "nothing follows this \\"),
        (r"a«\x»4", "\\x without two hex digits"),
        ("a«++»", "possessive repeats are not supported"),
        ("a«*»*", "a repeat of a repeat"),
        ("«*»a", "nothing for * to repeat"),
        ("^«*»", "there is nothing to repeat before this"),
        ("(?i)«+»", "there is nothing to repeat before this"),
        ("a«{,3»}", "not a repeat count"),
        ("a«{3,2}»", "this repeat is reversed"),
        ("a«{1001}»", "this repeat count is too large"),
        ("«(?:a{99}){99}»", "this repeat makes the pattern too large"),
        ("«[»ab", "this class is not closed"),
        ("[«b-a»]", "this range is reversed"),
        (r"[«\d-»x]", "a range cannot begin with a class"),
        ("[«[:»alpa:]]", "there is no class of this name"),
        ("[«[.»a.]]", "collating symbols are not supported"),
        ("[«é»]", "a class holds single bytes only"),
        (r"«[^\x00-\xff]»", "this class matches nothing"),
        ("«(»a", "this group is not closed"),
        ("a«)»b", "this ) closes no group"),
        ("(?P<«name»>a)", "unknown group 'name'"),
        ("(?P<«ip»", "the name of this group has no end"),
        ("<HOST>«<HOST>»", "a group of this name precedes it"),
        ("«(?P<ip>a<HOST>)»", "a group ip within itself"),
        ("«(?:<HOST> )+»", "the ip group may not repeat"),
        ("«<F-USER>».*", "this tag of fail2ban is not known here"),
        ("^«%(__prefix_line)»s", "fail2ban's %( )s variables are not known here"),
        ("«a.*»", "the pattern has no address"),
        ("«(?:a<HOST>|b)»", "the pattern can match without an address"),
        ("«x(?:a<HOST>)?»", "the pattern can match without an address"),
    ];
    for (marked, want) in cases {
        let text = marked.replace(['«', '»'], "");
        let from = marked.find('«').unwrap();
        let to = marked.find('»').unwrap() - '«'.len_utf8();
        let Err(e) = Pattern::new(&text, Demand::Address) else { panic!("{text} is accepted") };
        assert_eq!((e.what.as_str(), e.at), (*want, from..to), "{text}");
    }
    let deep = "(".repeat(100_000);
    assert_eq!(Pattern::new(&deep, Demand::Nothing).err().unwrap().what, "too many groups within groups");
    assert!(Pattern::new(&"a".repeat(1200), Demand::Nothing).is_err());
    assert!(Pattern::new(&"(?:(?:x?)?)".repeat(80), Demand::Nothing).is_ok(), "and in no time");
}

#[test]
fn required_literals() {
    let cases: &[(&str, &[&str])] = &[
        (SSHD, &["Failed password ", "Failed publickey"]),
        ("^Fail(?:ed|ure) from <HOST>", &["Failed from ", "Failure from "]),
        ("x(?:abc|ab)?(?:cd)+ y", &["xabccd", "xabcd", "xcd"]),
        ("rejected (?:RCPT <.*>|connection): no", &["rejected RCPT <", "rejected connect"]),
        ("got (?:more [aeiou]+ than|less)$", &["got less", "got more "]),
        (r"HTTP/[12]\.0 401\s", &["HTTP/1.0 401", "HTTP/2.0 401"]),
        (r"' 408 [0-2]", &["' 408 0", "' 408 1", "' 408 2"]),
        ("(?:abcdefghijklmnopqrs)tu", &["abcdefghijklmnop"]),
        ("(?:Accepted|Invalid) <HOST>", &["Accepted ", "Invalid "]),
        ("(?:a|b*)x", &["x"]),
        ("(?i)failed .* 12", &[" 12"]),
        (r"a\bb(?:c)d*", &["abc"]),
        (".*", &[]),
        ("(?:ab)*", &[]),
        ("(?:ab)+", &["ab"]),
    ];
    for (text, want) in cases {
        let p = pattern(text);
        let got: Vec<&str> = p.required().map(|l| std::str::from_utf8(l).unwrap()).collect();
        assert_eq!(got, *want, "{text}");
    }
}

#[test]
fn both_matchers_agree() {
    let seed = 0x6d65_6602;
    let mut maker = maker::Maker { rng: fastrand::Rng::with_seed(seed), names: vec![], full_loops: false };
    let mut gave_up = 0;
    for _ in 0..8_000 {
        maker.names = vec!["user", "ip"];
        let mut text = String::new();
        maker::write(&maker.tree(4), &mut text);
        if maker.rng.u8(..4) == 0 {
            text = text.replace("(?P<ip>", "(?:").replacen('b', "<HOST>", 1);
        }
        let Ok(p) = Pattern::new(&text, Demand::Nothing) else { continue };
        let mut scratch = scratch(&p);
        for _ in 0..8 {
            let mut line = maker.line();
            if let Some(at) = line.iter().position(|&b| b == b'b') {
                let addr: &[u8] = [&b"1.2.3.4"[..], b"[::1]", b"1::2:3", b"b"][maker.rng.usize(..4)];
                line.splice(at..at + 1, addr.iter().copied());
            }
            scratch.pike.steps = 0;
            let quick = matcher::search(&p.program, &line, &mut scratch, &[]);
            gave_up += usize::from(scratch.pike.steps > 0);
            let general = scratch.pike.search(&p.program, &line, &[]);
            assert_eq!(quick, general, "{text:?} on b\"{}\", seed {seed}", line.escape_ascii());
        }
    }
    assert!(gave_up < 16_000, "the quick matcher gave up {gave_up} times");
}

#[test]
fn time_is_linear_in_the_text() {
    let hostile: &[(&str, &str)] = &[
        ("(?:a*)*b", "a"),
        ("(?:a|a)*b", "a"),
        ("(?:a|aa)+$", "a"),
        (".*.*.*=x", "="),
        ("^.* .* .*x$", " "),
        ("(?:a+)+(?:a+)+b", "a"),
        ("(?:.*a){12}b", "a"),
        ("^(?:[^ ]* )*x", "a "),
        (r"^(?:\w+\s?)*\(", "aa "),
        ("a?a?a?a?a?a?a?a?aaaaaaaab", "a"),
        (r".*\d+[a-z]+x", "1a"),
        (SSHD, " from 1.2.3.4 port"),
        (SSHD, " from 1.2.3.4 port 1 ssh2"),
        (r"<HOST>:\d+ .*y$|x<HOST>", "::"),
        (r".*<HOST>.*x$", "[::1] "),
    ];
    for (text, part) in hostile {
        let p = pattern(text);
        let mut scratch = scratch(&p);
        let states = p.program.states();
        for len in [512, 8192] {
            let mut line = b"Failed password for ".repeat(usize::from(text.starts_with("^Failed")));
            line.extend(part.bytes().cycle().take(len));
            scratch.steps = 0;
            let _ = p.find(&line, &mut scratch);
            let bound = 4 * line.len() + 600 + (line.len() + 1) * 2 * states;
            assert!(
                scratch.steps <= bound,
                "{text}: {} steps on {len} bytes, {states} states",
                scratch.steps
            );
            if let Some(found) = p.find(&line, &mut scratch) {
                scratch.steps = 0;
                let _ = p.other_readings(&line, &found, &mut scratch, &mut |_| ());
                assert!(scratch.steps <= (MAX_READINGS + 1) * bound, "{text}: readings of {len} bytes");
            }
        }
    }
}

#[test]
fn programs_and_memory_are_small() {
    let p = pattern(SSHD);
    assert!(p.heap_size() + size_of::<Pattern>() <= 300, "{}", p.heap_size());
    assert!(scratch(&p).heap_size() <= 4096, "{}", scratch(&p).heap_size());
    assert!(size_of::<Inst>() == 6 && size_of::<Captures>() == 32);
}

#[test]
fn typical_lines_are_decided_in_few_steps() {
    let p = pattern(SSHD);
    let mut scratch = scratch(&p);
    let lines: &[(&str, usize)] = &[
        ("Accepted publickey for root from 192.0.2.1 port 22", 2),
        ("Failed password for invalid user admin from 192.0.2.17 port 51234 ssh2", 60),
        ("Failed password for invalid user admin via 192.0.2.17 on port 51234", 60),
    ];
    for (line, most) in lines {
        scratch.steps = 0;
        let _ = p.find(line.as_bytes(), &mut scratch);
        assert!(scratch.steps <= *most, "{line}: {}", scratch.steps);
    }
}

#[test]
fn very_long_texts_do_not_match() {
    let p = pattern("x$");
    let mut s = scratch(&p);
    let mut line = vec![b'x'; matcher::MAX_TEXT];
    assert!(p.is_match(&line, &mut s));
    line.push(b'x');
    assert!(!p.is_match(&line, &mut s));
}

#[test]
fn other_readings_of_addresses_leave_out_no_address() {
    let seed = 0x6d65_6604;
    let mut rng = fastrand::Rng::with_seed(seed);
    let parts =
        ["1.2.3.4", "::1", "[1.2.3.4]", "[fe80::1%1.2.3.4]", " ", " ", ".", ":", "a", "5", "1.2", "[", "x:"];
    let mut several = 0;
    for text in [
        ".*<HOST>",
        "^.*?<HOST>.*$",
        "a<HOST>|[^a]<HOST>",
        r"^(?:\S* )*<HOST>",
        "a?.* <HOST>",
        "(?:x:)?<HOST> .*",
    ] {
        let p = pattern(text);
        let mut scratch = scratch(&p);
        for _ in 0..4000 {
            let line: String = (0..rng.usize(1..5)).map(|_| parts[rng.usize(..parts.len())]).collect();
            let line = line.as_bytes();
            let Some(found) = p.find(line, &mut scratch) else { continue };
            let addr = |r: Range<usize>| crate::base::net::parse_addr(&line[r]).unwrap();
            let first = addr(found.get(CaptureGroup::Ip).unwrap());
            let mut got = vec![];
            assert!(p.other_readings(line, &found, &mut scratch, &mut |r| got.push(addr(r))));
            let mut want = vec![];
            let mut seen = vec![found.slots[0]];
            while let Some(other) = matcher::search(&p.program, line, &mut scratch, &seen) {
                seen.push(other.slots[0]);
                want.push(addr(other.get(CaptureGroup::Ip).unwrap()));
            }
            got.retain(|a| *a != first);
            want.retain(|a| *a != first);
            several += usize::from(!want.is_empty());
            assert_eq!(got, want, "{text} on b\"{}\", seed {seed}", line.escape_ascii());
        }
    }
    assert!(several > 200, "{several}");
}

#[test]
fn sets_that_are_shared_are_told_apart_and_described() {
    for (n, set) in set::COMMON.iter().enumerate() {
        assert!(!set::COMMON[..n].contains(set), "the set {n} is there twice");
        let Some(outside) = set::OUTSIDE.get(n).filter(|outside| !outside.is_empty()) else { continue };
        assert!((0..=u8::MAX).all(|b| set.has(b) != outside.contains(&b)), "{n}: {}", outside.escape_ascii());
    }
}
