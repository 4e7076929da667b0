use super::*;

#[test]
fn what_is_written_is_read_back() {
    let addr = |text: &str| range(text).unwrap();
    let all = [
        Request::Status,
        Request::Top,
        Request::Hits { addr: range("2001:db8::/64").unwrap() },
        Request::Hits { addr: range("192.0.2.7-192.0.2.9").unwrap() },
        Request::Watch,
        Request::Reload,
        Request::Lists,
        Request::Banned { addr: addr("192.0.2.7"), time: Span::Secs(3600), ports: "all", reason: "" },
        Request::Banned {
            addr: addr("2001:db8::/64"),
            time: Span::Permanent,
            ports: "22,80-90/tcp",
            reason: " two  words ",
        },
        Request::Changed { what: "deny", addr: Some(addr("198.51.100.0/24")) },
        Request::Changed { what: "load", addr: None },
        Request::Unbanned { addr: None, permanent: false, was_banned: true, written: false },
        Request::Unbanned { addr: None, permanent: true, was_banned: true, written: true },
        Request::Unbanned { addr: None, permanent: true, was_banned: true, written: false },
        Request::Unbanned {
            addr: Some(addr("192.0.2.1-192.0.2.9")),
            permanent: false,
            was_banned: false,
            written: true,
        },
    ];
    let range = addr("2001:db8:aaaa:aaaa:aaaa:aaaa:aaaa:aaa1-2001:db8:bbbb:bbbb:bbbb:bbbb:bbbb:bbbb");
    let reason = ["a".repeat(REASON_MAX - 1), "\u{e4}".repeat(100)].concat();
    let time = Span::Secs(u32::MAX.into());
    let long = Request::Banned { addr: range, time, ports: &"1".repeat(49), reason: &reason }.to_string();
    assert!(long.len() < LINE_MAX, "{long}");
    let read = Request::read(&long);
    assert!(matches!(read, Some(Request::Banned { reason, .. }) if reason.len() == REASON_MAX - 1));
    assert_eq!(Request::read("banned 192.0.2.7 3600 all a\x1b[31m"), None);
    for request in all {
        let line = request.to_string();
        assert!(line.len() < LINE_MAX);
        assert_eq!(Request::read(&line), Some(request), "{line}");
    }
    for (read, hit, last_ban) in [(None, None, ""), (Some(0), Some(u64::MAX), "::1 404 for 5 paths ")] {
        let rule = RuleLine { name: "sshd", source: "file", hits: 3, bans: 1, read, hit, last_ban };
        assert_eq!(RuleLine::read(&rule.to_string()), Some(rule));
    }
    let none = "no log file (/x)";
    for (kind, sight, text) in
        [("file", Sight::Sees, "/var/log/a b and 3 more"), ("", Sight::Blind, none), ("", Sight::Waits, none)]
    {
        let line = SightLine { name: "sshd", kind, sight, text };
        assert_eq!(SightLine::read(&line.to_string()), Some(line));
    }
    for why in ["", "two words"] {
        let list = ListLine { name: "zen", state: "off", numbers: [4, 3, 2, 1], why };
        assert_eq!(ListLine::read(&list.to_string()), Some(list));
    }
    let problem = ProblemLine { at: 7, text: "warning: sees nothing for sshd" };
    assert_eq!(ProblemLine::read(&problem.to_string()), Some(problem));
    let addr = OffenderLine { addr: "2001:db8::/64", rule: "sshd", hits: 3, maxretry: 5, age: 9 };
    assert_eq!(OffenderLine::read(&addr.to_string()), Some(addr));
}

#[test]
fn nonsense_is_refused() {
    for line in [
        "",
        " ",
        "Status",
        "status ",
        "status now",
        "banned",
        "banned 192.0.2.1",
        "banned 192.0.2.1 0 all",
        "banned 192.0.2.1 -1 all",
        "banned 192.0.2.1 60 ",
        "banned 192.0.2.1 60 a\u{1b}b",
        "banned 192.0.2.9-192.0.2.1 60 all",
        "banned 192.0.2.1-::1 60 all",
        "banned 192.0.2.0/33 60 all",
        "changed",
        "changed mind",
        "changed allow somebody",
        "unbanned",
        "unbanned everybody",
        "forget 192.0.2.1 192.0.2.2",
    ] {
        assert_eq!(Request::read(line), None, "{line:?}");
    }
}

#[test]
fn any_text_is_survived_and_what_is_understood_says_the_same_again() {
    let mut rng = fastrand::Rng::with_seed(8);
    let words = [
        "banned",
        "unbanned",
        "forget",
        "status",
        "192.0.2.1",
        "::1",
        "-",
        "/",
        "all",
        " ",
        "60",
        "rule",
        "offender",
    ];
    for _ in 0..50_000 {
        let line: String = (0..rng.usize(0..9)).map(|_| words[rng.usize(0..words.len())]).collect();
        if let Some(request) = Request::read(&line) {
            assert_eq!(Request::read(&request.to_string()), Some(request), "{line}");
        }
        let _ = (RuleLine::read(&line), SightLine::read(&line), OffenderLine::read(&line), read_fact(&line));
        let _ = ProblemLine::read(&line);
    }
}

#[test]
fn names_of_facts_are_names_everywhere() {
    for (at, fact) in FACTS.iter().enumerate() {
        assert!(fact.name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'), "{}", fact.name);
        assert_eq!(read_fact(&format!("{} 7", fact.name)), Some((at, 7)));
    }
}
