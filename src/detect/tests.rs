#![forbid(unsafe_code)]
//! Tests of the detector as a whole: blocks, programs, which rules judge what.

use super::*;
use crate::pattern::Demand;

fn rule(name: &str, programs: &[&str], fail: &[(&str, u8)], ignore: &[&str]) -> DetectRule {
    DetectRule {
        name: name.into(),
        headless: false,
        programs: programs.iter().map(|p| Program::new(p)).collect(),
        fail: fail.iter().map(|(p, weight)| (Pattern::new(p, Demand::Address).unwrap(), *weight)).collect(),
        ignore: ignore.iter().map(|p| Pattern::new(p, Demand::Nothing).unwrap()).collect(),
        success: vec![],
        webscan: None,
    }
}

/// `line:rule:address` of each hit.
fn run(detector: &mut Detector, wanted: RuleBits, block: &[u8]) -> Vec<String> {
    let mut out = Vec::new();
    detector.block(wanted, block, &mut |at, line, hit| {
        let n = block[..at].iter().filter(|&&b| b == b'\n').count();
        assert_eq!(block.split(|&b| b == b'\n').nth(n), Some(line));
        out.push(format!("{n}:{}:{}", hit.rule, hit.addr));
    });
    out
}

#[test]
fn programs_as_rules_name_them() {
    let cases: &[(&str, &str, bool)] = &[
        ("sshd", "sshd", true),
        ("sshd", "sshd-session", true),
        ("sshd", "sshd-auth", true),
        ("sshd", "sshd-other", false),
        ("sshd", "xsshd", false),
        ("sshd", "", false),
        ("postfix", "postfix/smtpd", true),
        ("postfix", "postfix/submission/smtpd", true),
        ("postfix", "postfixer", false),
        ("postfix/smtpd", "postfix", false),
        ("sshd*", "sshd", true),
        ("sshd*", "sshd-other", true),
        ("sshd*", "ssh", false),
        ("postfix/*", "postfix/smtps/smtpd", true),
        ("postfix/*", "postfix", false),
        ("postfix*/smtpd", "postfix-out/smtpd", true),
        ("postfix*/smtpd", "postfix/smtpd/x", false),
        ("a*bc*bcd", "abcbcd", true),
        ("a*bc*bcd", "abcd", false),
        ("*", "anything", true),
        ("**", "", true),
    ];
    for (program, name, want) in cases {
        assert_eq!(Program::new(program).fits(name.as_bytes()), *want, "{program} {name}");
    }
}

#[test]
fn what_was_folded_counts_as_often_as_it_was_written() {
    let rules = vec![rule(
        "r",
        &["sshd"],
        &[("^bad (?P<user>.*) from <HOST>$", 2), ("^end (?P<user>.*) <HOST>$", 0)],
        &[],
    )];
    let mut detector = Detector::new(rules);
    let cases: &[(&str, u8)] = &[
        ("sshd[1]: message repeated 3 times: [ bad x from 192.0.2.1]", 6),
        ("sshd[1]: message repeated 4 times: [ end x 192.0.2.1]", 0),
        ("sshd[2]: message repeated 4 times: [ end x 192.0.2.1]", 1),
        ("sshd: message repeated 999 times: [ bad x from 192.0.2.1]  ", 255),
        ("sshd[3]: bad x from 192.0.2.1 \t\r", 2),
        // One process of the header, and the one that it began.
        ("sshd[4]: [5] Nov 22 08:00:01 end x 192.0.2.1", 1),
        ("sshd[4]: [6] Nov 22 08:00:01 end x 192.0.2.1", 1),
        ("sshd[4]: [5] Nov 22 08:00:01 end x 192.0.2.1", 0),
    ];
    for (text, want) in cases {
        let line = format!("Nov 22 08:00:01 h {text}");
        let mut got = None;
        detector.block(1, line.as_bytes(), &mut |_, line, hit| {
            assert_eq!(hit.name(line), Some(&b"x"[..]), "{text}");
            got = Some(hit.weight);
        });
        assert_eq!(got, Some(*want), "{text}");
    }
    // What an attacker wrote is not unfolded.
    let forged = b"Nov 22 08:00:01 h sshd[1]: x message repeated 3 times: [ bad x from 192.0.2.1]";
    assert_eq!(run(&mut detector, 1, forged), [""; 0]);
    for form in ["[5] bad", "[x] Nov 22 08:00:01 bad", "[5] Nov 22 08:00 bad", "x [5] Nov 22 08:00:01 bad"] {
        let line = format!("Nov 22 08:00:01 h sshd[1]: {form} x from 192.0.2.1");
        assert_eq!(run(&mut detector, 1, line.as_bytes()), [""; 0], "{form}");
    }
}

#[test]
fn lines_of_a_block() {
    let rules = || vec![rule("r", &["sshd"], &[("^bad from <HOST>$", 1)], &["203\\.0\\.113"])];
    let bad = "Nov 22 08:00:01 h sshd[1]: bad from 192.0.2.1\n";
    let other = "Nov 22 08:00:01 h cron[1]: bad from 192.0.2.1\n";
    let cases: &[(&str, String, &[&str])] = &[
        ("nothing", String::new(), &[]),
        ("only newlines", "\n\n\n".into(), &[]),
        ("one", bad.into(), &["0:0:192.0.2.1"]),
        ("no newline at the end", bad.trim_end().into(), &["0:0:192.0.2.1"]),
        ("behind empty lines", format!("\n\n{bad}"), &["2:0:192.0.2.1"]),
        ("DOS line end", bad.replace('\n', "\r\n"), &["0:0:192.0.2.1"]),
        ("two", format!("{bad}{bad}"), &["0:0:192.0.2.1", "1:0:192.0.2.1"]),
        ("another program", format!("{other}{bad}{other}"), &["1:0:192.0.2.1"]),
        ("no header", format!("bad from 192.0.2.1\n{bad}"), &["1:0:192.0.2.1"]),
        ("ignored", bad.replace("192.0.2.1", "203.0.113.1"), &[]),
    ];
    for (name, block, want) in cases {
        let mut detector = Detector::new(rules());
        assert_eq!(run(&mut detector, 1, block.as_bytes()), *want, "{name}");
        assert_eq!(detector.counts().lines, block.lines().count() as u64, "{name}");
        assert_eq!(detector.counts().hits, want.len() as u64, "{name}");
        assert_eq!(run(&mut detector, 2, block.as_bytes()), [""; 0], "{name}: not wanted");
    }
}

#[test]
fn counts_say_why_a_match_was_no_hit() {
    let fail = [("^bad from (?P<ip>\\S+) or", 1), ("from (?P<ip>\\S+)$", 1)];
    let mut detector = Detector::new(vec![rule("r", &["sshd"], &fail, &["ignore"])]);
    let block = "Nov 22 08:00:01 h sshd[1]: bad from 192.0.2.1 or from 192.0.2.2\n\
                 Nov 22 08:00:01 h sshd[1]: ignore from 192.0.2.1\n\
                 Nov 22 08:00:01 h sshd[1]: bad from a.b or from c.d\n\
                 from 192.0.2.1\n";
    assert_eq!(run(&mut detector, 1, block.as_bytes()), [""; 0]);
    let want = LineCounts {
        lines: 4,
        candidates: 4,
        ignored: 1,
        ambiguous: 1,
        no_address: 1,
        no_header: 1,
        hits: 0,
    };
    assert_eq!(*detector.counts(), want);
}

#[test]
fn a_rule_without_programs_sees_the_whole_line() {
    let fail = [("^Nov .* by (?P<user>\\S+) from <HOST>$", 1)];
    let mut detector = Detector::new(vec![rule("r", &[], &fail, &[])]);
    let line = b"Nov 22 08:00:01 no header by bob from 192.0.2.1";
    let mut users = Vec::new();
    detector.block(1, line, &mut |_, line, hit| users.push(line[hit.user.unwrap()].to_vec()));
    assert_eq!(users, [b"bob"]);
}

#[test]
fn the_user_is_where_the_hit_says() {
    let fail = [("^bad (?P<user>.*) from <HOST>$", 1)];
    let mut detector = Detector::new(vec![rule("r", &["sshd"], &fail, &[])]);
    let mut users = Vec::new();
    let line = b"Nov 22 08:00:01 h sshd[1]: bad a b from 192.0.2.1";
    detector.block(1, line, &mut |_, line, hit| users.push(line[hit.user.unwrap()].to_vec()));
    let message = b"bad c d from 192.0.2.1";
    detector.record(1, b"sshd-session", None, message, &mut |hit| {
        users.push(message[hit.user.unwrap()].to_vec())
    });
    detector.record(1, b"other", None, message, &mut |_| panic!("another program"));
    assert_eq!(users, [b"a b", b"c d"]);
}

#[test]
fn candidates_lose_no_hit() {
    // The same lines, judged through the search over blocks and one by one.
    let few = || vec![rule("a", &["sshd"], &[("^bad from <HOST>", 1), ("^worse from <HOST>", 2)], &[])];
    let many = || {
        let words =
            ["bad", "worse", "b1 x", "b2 x", "b3 x", "b4 x", "b5 x"].map(|w| format!("^{w} from <HOST>"));
        vec![
            rule("a", &["sshd"], &words.each_ref().map(|w| (w.as_str(), 1)), &[]),
            rule("b", &[], &[("[ab]<HOST>$", 1), (" <HOST>$", 1)], &[]),
        ]
    };
    let seed = 0x6d65_6603;
    let mut rng = fastrand::Rng::with_seed(seed);
    let pieces = [
        "bad from 192.0.2.1",
        "worse from 192.0.2.1\n",
        "b3 x from 192.0.2.1",
        "\n",
        " ",
        "Nov 22 08:00:01 h sshd[1]: ",
        "\nNov 22 08:00:01 h sshd[1]: ",
        "x",
    ];
    for rules in [&few as &dyn Fn() -> Vec<DetectRule>, &many] {
        let (mut whole, mut single) = (Detector::new(rules()), Detector::new(rules()));
        let (mut lines, mut hits) = (0, 0);
        for round in 0..5_000 {
            let block: String = (0..rng.usize(..40)).map(|_| pieces[rng.usize(..pieces.len())]).collect();
            let wanted = RuleBits::from(rng.u64(..4));
            let mut want = Vec::new();
            for (n, line) in block.lines().enumerate() {
                lines += 1;
                want.extend(
                    run(&mut single, wanted, line.as_bytes())
                        .iter()
                        .map(|h| h.replacen('0', &n.to_string(), 1)),
                );
            }
            hits += want.len();
            assert_eq!(run(&mut whole, wanted, block.as_bytes()), want, "seed {seed:#x} {round}: {block:?}");
        }
        assert_eq!(whole.counts().lines, lines);
        assert!(hits > 500, "{hits} hits");
    }
}

#[test]
fn successes_are_told_apart_from_failures() {
    let mut own =
        rule("r", &["sshd"], &[("^Failed for (?P<user>\\S+) from <HOST>$", 1)], &["^Failed for me"]);
    own.success =
        vec![(Pattern::new("^Accepted for (?P<user>\\S+) from <HOST>", Demand::Address).unwrap(), 0)];
    let mut detector = Detector::new(vec![own]);
    let head = "Nov 22 08:00:01 host sshd[7]: ";
    let cases: &[(&str, Option<(bool, &str)>)] = &[
        ("Failed for anna from 192.0.2.1", Some((false, "anna"))),
        ("Accepted for anna from 192.0.2.1", Some((true, "anna"))),
        ("Failed for me from 192.0.2.1", None),
        ("x Accepted for anna from 192.0.2.1", None),
        ("Accepted for anna from host.example", None),
    ];
    for (message, want) in cases {
        let line = format!("{head}{message}\n");
        let mut got = Vec::new();
        detector.block(1, line.as_bytes(), &mut |_, line, hit| {
            got.push((hit.success, String::from_utf8_lossy(hit.name(line).unwrap()).into_owned()));
        });
        let want: Vec<_> = want.iter().map(|(success, name)| (*success, (*name).to_owned())).collect();
        assert_eq!(got, want, "{message}");
    }
    let counts = detector.counts();
    assert_eq!((counts.hits, counts.ignored), (1, 1), "a success is no hit");
}

#[test]
fn colours_and_zeros_hide_nothing() {
    let rules = || {
        vec![
            rule("gitea", &[], &[("\\[E\\] attempt for (?P<user>.*) from <HOST>:\\d+$", 1)], &[]),
            rule("sshd", &["sshd"], &[("^bad from <HOST>$", 1)], &[]),
            rule("own", &[], &[("colour from \\x1b\\[1m<HOST>", 1)], &[]),
        ]
    };
    let cases: &[(&str, &str, &[&str])] = &[
        ("plain", "[E] attempt for root from 192.0.2.1:22", &["0:0:192.0.2.1"]),
        ("address", "[E] attempt for root from \x1b[1m192.0.2.1:22\x1b[0m", &["0:0:192.0.2.1"]),
        (
            "within what is looked for",
            "[\x1b[31mE\x1b[0m] atte\x1b[mmpt for root from 192.0.2.1:22",
            &["0:0:192.0.2.1"],
        ),
        ("spelled out", "[E] attempt for root from #033[1m192.0.2.1:22#033[0m", &["0:0:192.0.2.1"]),
        ("a pattern that knows them", "colour from \x1b[1m192.0.2.1\x1b[0m", &["0:2:192.0.2.1"]),
        ("header", "\x1b[32mNov 22 08:00:01 h sshd[1]:\x1b[0m bad from 192.0.2.1", &["0:1:192.0.2.1"]),
        ("message", "Nov 22 08:00:01 h sshd[1]: bad from \x1b[1m192.0.2.1\x1b[0m", &["0:1:192.0.2.1"]),
        ("another program", "Nov 22 08:00:01 h cron[1]: bad from \x1b[1m192.0.2.1\x1b[0m", &[]),
        ("zeros", "\0\0\0\0Nov 22 08:00:01 h sshd[1]: bad from 192.0.2.1", &["0:1:192.0.2.1"]),
        ("zeros within", "Nov 22 08:00:01 h sshd[1]: \0bad from 192.0.2.1", &[]),
        ("blanks at the end", "Nov 22 08:00:01 h sshd[1]: bad from 192.0.2.1  ", &["0:1:192.0.2.1"]),
    ];
    for (name, line, want) in cases {
        let mut got = Vec::new();
        let mut detector = Detector::new(rules());
        detector.block(RuleBits::MAX, format!("{line}\n").as_bytes(), &mut |n, line, hit| {
            got.push(format!("{n}:{}:{}", hit.rule, hit.addr));
            let user = hit.user.map(|user| &line[user]);
            assert!(user.is_none_or(|user| user == b"root"), "{name}");
        });
        assert_eq!(got, *want, "{name}");
    }
    // Where lines begin is said as in the block, and nothing is judged twice.
    let block = "x\nbad\n\x1b[1my\x1b[m\nNov 22 08:00:01 h sshd[1]: bad from 192.0.2.1\n\n\
        Nov 22 08:00:01 h sshd[1]: bad from \x1b[1m192.0.2.2\nNov 22 08:00:01 h sshd[1]: bad from 192.0.2.3";
    let mut detector = Detector::new(rules());
    let mut got = Vec::new();
    detector.block(RuleBits::MAX, block.as_bytes(), &mut |at, _, hit| {
        let n = block[..at].lines().count();
        got.push(format!("{n}:{}", hit.addr));
    });
    assert_eq!(got, ["3:192.0.2.1", "5:192.0.2.2", "6:192.0.2.3"]);
    assert_eq!(detector.counts().lines, 7);
    // A record, too.
    let mut got = Vec::new();
    detector.record(RuleBits::MAX, b"sshd", None, b"bad from \x1b[1m192.0.2.4\x1b[0m", &mut |hit| {
        got.push(hit.addr.to_string())
    });
    assert_eq!(got, ["192.0.2.4"]);
}

#[test]
fn a_short_literal_is_found_by_the_name_of_its_program() {
    let proxy = || {
        rule(
            "proxy",
            &["haproxy", "hap-*"],
            &[("^<HOST> \\S+ 401 ", 1), ("^longer than the name <HOST>", 1)],
            &[],
        )
    };
    let mut detector = Detector::new(vec![proxy()]);
    let block = "Nov 22 08:00:01 h haproxy[7]: 192.0.2.1 x 401 y\n\
        Nov 22 08:00:01 h /usr/sbin/haproxy[7]: 192.0.2.2 x 401 y\n\
        Nov 22 08:00:01 h hap-1: 192.0.2.3 x 401 y\n\
        Nov 22 08:00:01 h haproxy[7]: longer than the name 192.0.2.4\n\
        Nov 22 08:00:01 h other[7]: 192.0.2.5 x 401 y haproxy\n\
        Nov 22 08:00:01 h haproxy[7]: 192.0.2.6 x 200 y\n";
    let hits = ["0:0:192.0.2.1", "1:0:192.0.2.2", "2:0:192.0.2.3", "3:0:192.0.2.4"];
    assert_eq!(run(&mut detector, 1, block.as_bytes()), hits);
    // The message of a record does not name its program.
    for (message, want) in
        [("192.0.2.1 x 401 y", 1), ("longer than the name 192.0.2.1", 1), ("192.0.2.1 x", 0)]
    {
        let mut hits = 0;
        detector.record(1, b"haproxy", None, message.as_bytes(), &mut |_| hits += 1);
        assert_eq!(hits, want, "{message}");
    }
    // What a container prints has no header.
    let mut detector = Detector::new(vec![DetectRule { headless: true, ..proxy() }]);
    assert_eq!(run(&mut detector, 1, b"192.0.2.1 x 401 y\n"), ["0:0:192.0.2.1"]);
}

#[test]
fn successes_are_skipped_where_nobody_wants_them() {
    let success =
        vec![(Pattern::new("^Accepted \\S+ for (?P<user>\\S+) from <HOST>$", Demand::Address).unwrap(), 0)];
    let failing = rule("r", &["sshd"], &[("^Failed for \\S+ from <HOST>$", 1)], &[]);
    let mut detector = Detector::new(vec![DetectRule { success, ..failing }]);
    let block = b"Nov 22 08:00:01 h sshd[7]: Accepted key for x from 192.0.2.1\n\
        Nov 22 08:00:01 h sshd[7]: Failed for x from 192.0.2.2\n";
    assert_eq!(run(&mut detector, 1, block), ["0:0:192.0.2.1", "1:0:192.0.2.2"]);
    detector.skip_successes();
    assert_eq!(run(&mut detector, 1, block), ["1:0:192.0.2.2"]);
}

#[test]
fn any_number_of_literals_of_any_length_is_found() {
    let mut rng = fastrand::Rng::with_seed(27);
    for _ in 0..40 {
        let mut word = |shortest: usize| -> String {
            (0..rng.usize(shortest..20)).map(|_| char::from(rng.u8(b'a'..=b'f'))).collect()
        };
        let words: Vec<Vec<String>> = (0..60).map(|_| (0..8).map(|_| word(4)).collect()).collect();
        let rules = words.iter().map(|words| {
            let texts: Vec<_> = words.iter().map(|word| format!("^x* {word} <HOST>")).collect();
            let fail: Vec<_> = texts.iter().map(|text| (text.as_str(), 1)).collect();
            rule("r", &[], &fail, &[])
        });
        let mut detector = Detector::new(rules.collect());
        let (mut block, mut want) = (String::new(), Vec::new());
        for n in 0..200 {
            let (rule, of) = (rng.usize(..words.len()), rng.usize(..8));
            let filler = "x".repeat(rng.usize(..30));
            block.push_str(&format!("{filler} {} 192.0.2.1\n", words[rule][of]));
            want.push(format!("{n}:{rule}:192.0.2.1"));
        }
        let got = run(&mut detector, RuleBits::MAX, block.as_bytes());
        want.iter().for_each(|want| assert!(got.contains(want), "{want}"));
        assert!(got.len() < want.len() + want.len() / 4, "{} of {}", got.len(), want.len());
    }
}
