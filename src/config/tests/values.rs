#![forbid(unsafe_code)]
use super::super::value::{ago, command, count, items, nets, paths, secs, word};
use super::super::*;
use crate::base::clock::Span;

#[test]
fn durations() {
    let cases: &[(&str, Option<u32>)] = &[
        ("0", Some(0)),
        ("90", Some(90)),
        ("90s", Some(90)),
        ("10m", Some(600)),
        ("1h", Some(3600)),
        ("7d", Some(604_800)),
        ("2w", Some(1_209_600)),
        ("1h30m", Some(5400)),
        ("1h0m0s", Some(3600)),
        ("4294967295", Some(u32::MAX)),
        ("4294967296", None),
        ("7102w", None),
        ("1h30", None),
        ("", None),
        ("s", None),
        ("-1", None),
        ("+1", None),
        ("1.5h", Some(5400)),
        ("0.25d", Some(21_600)),
        ("1h0.5m", Some(3630)),
        ("500ms", Some(1)),
        ("0ms", Some(0)),
        ("1500ms", Some(2)),
        ("1s1ms", Some(2)),
        ("49710d6h28m15s", Some(u32::MAX)),
        ("49710d6h28m15.001s", None),
        ("0.000000000000000000001s", None),
        ("1.", None),
        ("1.5", None),
        ("1.h", None),
        (".5h", None),
        ("1.5.5h", None),
        ("1us", None),
        ("10 m", None),
        (" 10m", None),
        ("1H", None),
        ("1y", None),
        ("1hä", None),
        ("permanent", None),
    ];
    for (text, want) in cases {
        assert_eq!(duration(text).ok(), *want, "{text}");
    }
    assert_eq!(span("permanent"), Ok(Span::Permanent));
    assert_eq!(span("1s"), Ok(Span::Secs(1)));
    assert!(span("0").is_err_and(|bad| bad.what == "'0' is too short"));
    assert!(span("forever").is_err_and(|bad| bad.hint.ends_with("or permanent")));
}

#[test]
fn durations_are_written_so_that_they_read_back() {
    let mut random = fastrand::Rng::with_seed(1);
    for _ in 0..20_000 {
        let n = random.u32(..) >> random.u32(..32);
        assert_eq!(duration(&written(n)), Ok(n), "{n}");
    }
    assert_eq!([0, 1, 59, 60, 5400, 86_400, 604_800].map(written).join(" "), "0s 1s 59s 1m 90m 1d 1w");
}

#[test]
fn journal_times() {
    let cases: &[(&str, Option<u32>)] = &[
        ("2 min ago", Some(120)),
        ("now", Some(0)),
        ("today", Some(86_400)),
        ("yesterday", Some(172_800)),
        ("tomorrow", None),
        ("5m", Some(300)),
        ("1 hour ago", Some(3600)),
        ("3 days ago", Some(259_200)),
        ("30sec ago", Some(30)),
        ("10 s ago", Some(10)),
        ("-1h", Some(3600)),
        ("-1h30min", Some(5400)),
        ("1h 30min ago", Some(5400)),
        ("1.5 hours ago", Some(5400)),
        ("2 weeks ago", Some(1_209_600)),
        ("1500ms ago", Some(2)),
        ("-", None),
        ("2026-11-28 10:00", None),
        ("ago", None),
        ("-1:00", None),
        ("2, min ago", None),
        ("-ä", None),
        ("min ago", None),
        ("2 months ago", None),
        ("99999999999 days ago", None),
    ];
    for (text, want) in cases {
        assert_eq!(ago(text).ok(), *want, "{text}");
    }
}

#[test]
fn ports() {
    let cases: &[(&str, Result<&str, &str>)] = &[
        ("all", Ok("all")),
        ("22", Ok("22")),
        ("25,22", Ok("22,25")),
        ("22, 25 ,1000-2000", Ok("22,25,1000-2000")),
        ("1-10,5-20,21", Ok("1-21")),
        ("5-5", Ok("5")),
        ("1 - 3", Ok("1-3")),
        ("65535", Ok("65535")),
        ("65534,65535", Ok("65534-65535")),
        ("1-65535", Ok("all")),
        ("0", Err("'0' is not a port")),
        ("65536", Err("'65536' is not a port")),
        ("+1", Err("'+1' is not a port")),
        ("20-10", Err("'20-10' is reversed")),
        ("ssh", Err("'ssh' is not a port")),
        ("22,,25", Err("an empty item")),
        ("22,", Err("an empty item")),
        ("", Err("an empty item")),
        ("all,22", Err("'all' is not a port")),
        ("1-2-3", Err("'1-2-3' is not a port")),
    ];
    for (text, want) in cases {
        let got = PortRanges::parse(text).map(|p| p.to_string()).map_err(|bad| bad.what);
        assert_eq!(got, want.map(str::to_string).map_err(str::to_string), "{text}");
    }
    assert_eq!(PortRanges::parse("22, sshh").unwrap_err().at, 4..8);
    let p = PortRanges::parse("22,100-200").unwrap();
    assert_eq!(
        [21, 22, 23, 99, 100, 200, 201].map(|n| p.contains(n)),
        [false, true, false, false, true, true, false]
    );
    assert!(PortRanges::default().contains(1));
    let many: Vec<String> = (0..300).map(|n| (n * 2 + 1).to_string()).collect();
    assert!(PortRanges::parse(&many.join(",")).is_err());
    // What joins to less is as long as what it joins to.
    let near: Vec<String> = (20_000..20_250).map(|n| n.to_string()).collect();
    assert_eq!(PortRanges::of_ban(&near.join(",")).unwrap().to_string(), "20000-20249");
    let far = |count: u32| (0..count).map(|n| (10_001 + 2 * n).to_string()).collect::<Vec<_>>().join(",");
    assert_eq!(PortRanges::of_ban(&far(39)).unwrap().to_string().len(), 233);
    assert_eq!(PortRanges::parse(&far(40)).unwrap().ranges().len(), 40);
    let bad = PortRanges::of_ban(&far(40)).unwrap_err();
    assert_eq!((bad.what.as_str(), bad.at), ("more ports than a ban can be for", 0..239));
}

#[test]
fn ports_hold_what_was_written() {
    let mut random = fastrand::Rng::with_seed(2);
    for round in 0..60 {
        let mut want = vec![false; 65_536];
        let mut text = Vec::new();
        for _ in 0..random.usize(1..8) {
            let first = random.u16(1..);
            let last = first.saturating_add(if random.bool() { 0 } else { random.u16(..2000) });
            text.push(if first == last { first.to_string() } else { format!("{first}-{last}") });
            (first..=last).for_each(|p| want[usize::from(p)] = true);
        }
        let ports = PortRanges::parse(&text.join(",")).unwrap();
        assert!((1..=u16::MAX).all(|p| ports.contains(p) == want[usize::from(p)]), "round {round}: {text:?}");
        assert_eq!(PortRanges::parse(&ports.to_string()).unwrap(), ports);
        let apart = ports.ranges().windows(2).all(|w| u32::from(w[0].1) + 1 < u32::from(w[1].0));
        assert!(apart, "round {round}: {ports}");
    }
}

#[test]
fn networks() {
    let cases: &[(&str, Option<&str>)] = &[
        ("192.0.2.1", Some("192.0.2.1/32")),
        ("192.0.2.7/24", Some("192.0.2.0/24")),
        ("192.0.2.7/255.255.255.0", Some("192.0.2.0/24")),
        ("2001:db8::1", Some("2001:db8::1/128")),
        ("2001:db8::1/32", Some("2001:db8::/32")),
        ("2001:db8::1/ffff:ffff::", Some("2001:db8::/32")),
        ("::ffff:192.0.2.7", Some("192.0.2.7/32")),
        ("::ffff:192.0.2.7/120", Some("192.0.2.0/24")),
        ("::ffff:0:0/90", Some("::ffc0:0:0/90")),
        ("192.0.2.1/33", None),
        ("192.0.2.1/", None),
        ("192.0.2.1/255.0.255.0", None),
        ("192.0.2.1/-1", None),
        ("0.0.0.0/0", None),
        ("::/0", None),
        ("192.0.2.1-192.0.2.9", None),
        ("192.0.2.01", None),
        ("host.example", None),
        ("", None),
    ];
    for (text, want) in cases {
        assert_eq!(net(text).ok().map(|n| n.to_string()).as_deref(), *want, "{text}");
    }
    assert_eq!(nets("none").unwrap(), []);
    assert_eq!(nets("192.0.2.1, 2001:db8::/32").unwrap().len(), 2);
    assert_eq!(nets("192.0.2.1, x").unwrap_err().at, 11..12);
}

#[test]
fn commands_are_no_shell() {
    let ok = |text: &str| command(text).map(|words| words.join("|")).map_err(|bad| bad.what);
    let cases: &[(&str, Result<&str, &str>)] = &[
        ("none", Ok("")),
        ("", Ok("")),
        ("logread -f", Ok("logread|-f")),
        ("/bin/x  \"a b\"  c", Ok("/bin/x|a b|c")),
        ("/bin/x \"\"", Ok("/bin/x|")),
        ("/bin/x \">\"", Ok("/bin/x|>")),
        ("/bin/x > y", Err("'>' has no meaning: no shell runs this")),
        ("a | b", Err("'|' has no meaning: no shell runs this")),
        ("a $(b)", Err("'$(b)' has no meaning: no shell runs this")),
        ("a \"b", Err("'\"b' has no closing quote")),
    ];
    for (text, want) in cases {
        assert_eq!(ok(text), want.map(str::to_string).map_err(str::to_string), "{text}");
    }
}

#[test]
fn small_values() {
    assert_eq!(count("007", 1, 9), Ok(7));
    assert_eq!(count("10", 1, 9).unwrap_err().hint, "expected a number from 1 to 9");
    assert_eq!(count("99999999999", 1, 9).unwrap_err().what, "'99999999999' is out of range");
    assert_eq!(count("x", 1, 9).unwrap_err().what, "'x' is not a whole number");
    assert_eq!(secs("2h", 1, 3600).unwrap_err().hint, "expected 1s to 1h");
    let bad = word("jornal", &["file", "journal"]).unwrap_err();
    assert_eq!(bad.hint, "expected one of: file, journal (did you mean 'journal'?)");
    assert_eq!(paths("/var/log/a b.log,/x*").unwrap(), ["/var/log/a b.log", "/x*"]);
    assert_eq!(paths("/a, b").unwrap_err().at, 4..5);
    assert_eq!(items("a,,b", &mut |_, _| Ok(())).unwrap_err().at, 2..3);
}
