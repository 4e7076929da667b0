#![forbid(unsafe_code)]
//! Tests of the header parser, one row per form of header and per forgery.

use super::*;

const FORMS: &[(&str, &str)] = &[
    ("rfc3164", "Nov 22 08:00:01 host sshd[123]: "),
    ("rfc3164, padded day", "Nov  2 08:00:01 host sshd[123]: "),
    ("rfc3164, short day", "Nov 2 08:00:01 host sshd[123]: "),
    ("rfc3164, priority", "<38>Nov 22 08:00:01 host sshd[123]: "),
    ("rfc3164, fraction", "Nov 22 08:00:01.123456 host sshd[123]: "),
    ("rfc3164, no host", "<38>Nov 22 08:00:01 sshd[123]: "),
    ("rfc3164, host is an address", "Nov 22 08:00:01 2001:db8::1 sshd[123]: "),
    ("rfc3164, host in brackets", "Nov 22 08:00:01 [192.0.2.1] sshd[123]: "),
    ("rfc3164, host ends in colons", "Nov 22 08:00:01 2001:db8:: sshd[123]: "),
    ("rfc3164, host like a level", "Nov 22 08:00:01 example.info sshd[123]: "),
    ("priority only", "<38>sshd[123]: "),
    ("busybox", "Nov 22 08:00:01 host auth.info sshd[123]: "),
    ("busybox, priority", "<38>Nov 22 08:00:01 host auth.info sshd[123]: "),
    ("busybox -S", "Nov 22 08:00:01 auth.info sshd[123]: "),
    ("busybox, local0", "Nov 22 08:00:01 host local0.warn sshd[123]: "),
    ("busybox, host like a level", "Nov 22 08:00:01 auth.info authpriv.notice sshd[123]: "),
    ("logread", "Sun Nov 22 08:00:01 2026 auth.info sshd[123]: "),
    ("logread, padded day", "Sun Nov  2 08:00:01 2026 auth.info sshd[123]: "),
    ("logread, no level", "Sun Nov 22 08:00:01 2026 sshd[123]: "),
    ("logread, host", "Sun Nov 22 08:00:01 2026 host auth.info sshd[123]: "),
    ("iso", "2026-11-22T08:00:01.123456+01:00 host sshd[123]: "),
    ("iso, utc", "2026-11-22T08:00:01Z host sshd[123]: "),
    ("iso, no colon, west", "2026-11-22T08:00:01-0330 host sshd[123]: "),
    ("iso, journalctl", "2026-11-22T08:00:01+0100 host sshd[123]: "),
    ("iso, space, no zone", "2026-11-22 08:00:01 host sshd[123]: "),
    ("iso, priority", "<38>2026-11-22T08:00:01.1+01:00 host sshd[123]: "),
    ("iso, busybox level", "2026-11-22T08:00:01Z host auth.info sshd[123]: "),
    ("rfc5424", "<38>1 2026-11-22T08:00:01.123Z host sshd 123 - - "),
    ("rfc5424, bare", "1 2026-11-22T08:00:01.123Z host sshd 123 - - "),
    ("rfc5424, nothing known", "<38>1 - - sshd 123 - - "),
    ("rfc5424, mark", "<38>1 2026-11-22T08:00:01Z host sshd 123 ID47 - \u{feff}"),
    ("rfc5424, data", "<38>1 2026-11-22T08:00:01Z host sshd 123 - [a@1 x=\"1\"][b y=\"2\"] "),
    ("rfc5424, escapes", r#"<38>1 2026-11-22T08:00:01Z h sshd 123 - [a x="]\"] sshd 9 - - \\"] "#),
    ("rfc5424, two spaces", "<38>1 2026-11-22T08:00:01Z host sshd 123 - -  "),
    ("a relay's name", "Nov 22 08:00:01 relay host sshd[123]: "),
    ("a relay's name, iso", "2026-11-22T08:00:01Z relay.example 192.0.2.1 sshd[123]: "),
    ("year first", "2026 Nov 22 08:00:01 host sshd[123]: "),
    ("year first, padded day", "<38>2026 Nov  2 08:00:01 host sshd[123]: "),
    ("year behind the day", "Nov 22 2026 08:00:01 host sshd[123]: "),
    ("path as tag", "Nov 22 08:00:01 host /usr/sbin/sshd[123]: "),
    ("tai64n", "@400000006921a4f11dcd6500 sshd[123]: "),
    ("tai64n, host", "@400000006921a4f11dcd6500 host sshd[123]: "),
    ("sysklogd, rfc5424 without priority", "2026-11-22T08:00:01.123456+01:00 host sshd 123 - - "),
    ("sysklogd, data", "2026-11-22T08:00:01.123456+01:00 host sshd 123 ID47 [a x=\"1\"] "),
    ("socklog", "2026-11-22T08:00:01.12345 auth.info: sshd[123]: "),
    ("socklog, the sender's stamp", "2026-11-22_08:00:01.12345 auth.info: Nov 22 08:00:01 sshd[123]: "),
    ("socklog, tai64n", "@400000006921a4f11dcd6500 authpriv.notice: Nov  2 08:00:01 sshd[123]: "),
    ("socklog, host", "@400000006921a4f11dcd6500 auth.info: host sshd[123]: "),
    ("socklog, no stamp", "auth.info: Nov 22 08:00:01 sshd[123]: "),
    ("socklog, over the network", "2026-11-22_08:00:01.1 192.0.2.9: auth.info: Nov 22 08:00:01 sshd[123]: "),
    ("journalctl, short-unix", "1795766457.123456 host sshd[123]: "),
    ("a month in Greek", "Νοε 22 08:00:01 host sshd[123]: "),
    ("svlogd", "2026-11-22_08:00:01.12345 sshd[123]: "),
    ("multilog, read", "2026-11-22 08:00:01.123456789 sshd[123]: "),
    ("year behind the time", "Nov 22 08:00:01 2026 host sshd[123]: "),
    ("year behind the time, no host", "Nov  2 08:00:01 2026 sshd[123]: "),
    ("weekday, zone, year", "Sun Nov 22 08:00:01 UTC 2026 host sshd[123]: "),
    ("slashes", "2026/11/22 08:00:01 host sshd[123]: "),
    ("day first", "22 Nov 2026 08:00:01 +0100 host sshd[123]: "),
    ("packed", "20261122T080001 host sshd[123]: "),
    ("german", "Mär 22 08:00:01 host sshd[123]: "),
    ("french", "févr. 22 08:00:01 host sshd[123]: "),
    ("spanish", "dic  2 08:00:01 host sshd[123]: "),
    ("russian", "ноя 22 08:00:01 host sshd[123]: "),
    ("japanese", "11月 22 08:00:01 host sshd[123]: "),
    ("a month that is two", "lis 22 08:00:01 host sshd[123]: "),
];

#[test]
fn a_header_need_not_name_a_process() {
    let cases: &[(&str, &str, &str)] = &[
        ("Nov 22 08:00:01 [sshd] Invalid user x", "sshd", "Invalid user x"),
        ("Nov 22 08:00:01 [postfix/smtpd] x[1]: y", "postfix/smtpd", "x[1]: y"),
        ("2026-11-22T08:00:01.1 daemon.err: dovecot: imap-login: x", "dovecot", "imap-login: x"),
        ("déc. 22 08:00:01 host dovecot: x", "dovecot", "x"),
        ("Nov 22 08:00:01 host kernel: [123.456] IN=eth0", "kernel", "IN=eth0"),
        ("<4>1 2026-11-22T08:00:01Z h kernel - - - [    0.000001] [x] y", "kernel", "[x] y"),
        ("Nov 22 08:00:01 host kernel: [123] IN=eth0", "kernel", "[123] IN=eth0"),
        ("Nov 22 08:00:01 host kernel: [1.2", "kernel", "[1.2"),
        ("Nov 22 08:00:01 host other: [123.456] IN=eth0", "other", "[123.456] IN=eth0"),
    ];
    for (line, program, text) in cases {
        let header = parse(line.as_bytes()).unwrap_or_else(|| panic!("{line}"));
        let found = (header.program, header.pid, header.message);
        assert_eq!(found, (program.as_bytes(), None, text.as_bytes()), "{line}");
    }
}

#[test]
fn what_was_folded_is_unfolded() {
    let cases: &[(&str, u8, &str)] = &[
        ("message repeated 3 times: [ x]", 3, "x"),
        ("message repeated 300 times: [ x y]]", 255, "x y]"),
        ("message repeated 0 times: [ x]", 1, "x"),
        ("message repeated 3 times: [ x", 1, "message repeated 3 times: [ x"),
        ("message repeated x times: [ x]", 1, "message repeated x times: [ x]"),
        ("a message repeated 3 times: [ x]", 1, "a message repeated 3 times: [ x]"),
        ("message repeated 2 times: [ message repeated 9 times: [ x]]", 2, "message repeated 9 times: [ x]"),
        ("", 1, ""),
    ];
    for (text, times, inner) in cases {
        assert_eq!(repeated(text.as_bytes()), (*times, inner.as_bytes()), "{text}");
    }
}

#[test]
fn every_form_gives_program_process_and_message() {
    // Each message imitates a header itself, in every form.
    for (name, form) in FORMS {
        for text in ["Failed x from y", "sshd[9]: forged", ""].into_iter().chain(FORMS.iter().map(|f| f.1)) {
            let line = format!("{form}{text}");
            let header = parse(line.as_bytes()).unwrap_or_else(|| panic!("{name}: {line}"));
            assert_eq!(header.program, b"sshd", "{name}");
            assert_eq!(header.pid, Some(123), "{name}");
            assert_eq!(header.message, text.as_bytes(), "{name}");
        }
    }
}

#[test]
fn programs_and_processes() {
    let cases: &[(&str, &str, Option<u32>)] = &[
        ("postfix/smtpd[7]:", "postfix/smtpd", Some(7)),
        ("sshd-session[4294967295]:", "sshd-session", Some(u32::MAX)),
        ("sshd[4294967296]:", "sshd", None),
        ("app[web.1]:", "app", None),
        ("app[]:", "app", None),
        ("dovecot:", "dovecot", None),
        ("(systemd)[1]:", "(systemd)", Some(1)),
    ];
    for (tag, program, pid) in cases {
        let line = format!("Nov 22 08:00:01 host {tag} text: x");
        let header = parse(line.as_bytes()).unwrap_or_else(|| panic!("{tag}"));
        assert_eq!((header.program, header.pid), (program.as_bytes(), *pid), "{tag}");
        assert_eq!(header.message, b"text: x", "{tag}");
    }
}

#[test]
fn what_is_no_header() {
    let long_host = format!("Nov 22 08:00:01 {} sshd[1]: x", "h".repeat(256));
    let long_name = format!("Nov 22 08:00:01 host {}[1]: x", "p".repeat(65));
    let cases: &[(&str, &str)] = &[
        ("nothing", ""),
        ("only text", "sshd[123]: Failed password"),
        ("only a stamp", "Nov 22 08:00:01"),
        ("stamp and host", "Nov 22 08:00:01 host"),
        ("no colon", "Nov 22 08:00:01 host sshd[123] text"),
        ("a level of an application", "2026-11-22 08:00:01 [INFO] sshd: x"),
        ("brackets behind a host", "Nov 22 08:00:01 host [sshd] x"),
        ("brackets that stick", "Nov 22 08:00:01 [sshd]x"),
        ("a level and no program", "2026-11-22T08:00:01.1 auth.info: some text: x"),
        ("a level twice", "2026-11-22T08:00:01.1 auth.info: auth.info text"),
        ("no process, as sysklogd has it", "2026-11-22T08:00:01Z host sshd - - - x"),
        ("four words", "2026-11-22T08:00:01Z host sshd 123 - x"),
        ("a program's own date", "2026/11/22 08:00:01 [info] auth: x"),
        ("a foreign date, day", "déc. 32 08:00:01 host sshd[1]: x"),
        ("a foreign date, time", "déc. 22 08:00 host sshd[1]: x"),
        ("no month at all", ": 22 08:00:01 host sshd[1]: x"),
        ("repeat notice holds a header", "Nov 22 08:00:01 host message repeated 2 times: [ sshd[1]: x]"),
        ("tag too far right", "Nov 22 08:00:01 host some words sshd[1]: x"),
        ("no level between", "Nov 22 08:00:01 host nolevel sshd: x"),
        ("level of no facility", "Nov 22 08:00:01 host example.info sshd: x"),
        ("no host that could be a relay", "2026-11-22 08:00:01 H=(x)y host sshd[123]: x"),
        ("no host behind a relay", "Nov 22 08:00:01 host it's sshd[1]: x"),
        ("a directory as tag", "Nov 22 08:00:01 host /usr/sbin/: x"),
        ("three words", "Nov 22 08:00:01 a b auth.info sshd[1]: x"),
        ("two spaces", "Nov 22 08:00:01  host sshd[1]: x"),
        ("text sticks to the colon", "Nov 22 08:00:01 host sshd[1]:x"),
        ("process not closed", "Nov 22 08:00:01 host sshd[1: x"),
        ("hour", "Nov 22 24:00:01 host sshd[1]: x"),
        ("minute", "Nov 22 08:60:01 host sshd[1]: x"),
        ("second", "Nov 22 08:00:61 host sshd[1]: x"),
        ("day", "Nov 32 08:00:01 host sshd[1]: x"),
        ("day 0", "Nov  0 08:00:01 host sshd[1]: x"),
        ("month", "2026-13-22T08:00:01Z host sshd[1]: x"),
        ("month name", "Nox 22 08:00:01 host sshd[1]: x"),
        ("broken zone", "2026-11-22T08:00:01+1:00 host sshd[1]: x"),
        ("priority not closed", "<38 Nov 22 08:00:01 host sshd[1]: x"),
        ("priority too long", "<12345>Nov 22 08:00:01 host sshd[1]: x"),
        ("priority empty", "<>Nov 22 08:00:01 host sshd[1]: x"),
        ("data not closed", "<38>1 2026-11-22T08:00:01Z host sshd 1 - [a x=\"1] x"),
        ("data and text stick", "<38>1 2026-11-22T08:00:01Z host sshd 1 - [a]x"),
        ("program of rfc5424 unknown", "<38>1 2026-11-22T08:00:01Z host - 1 - - x"),
        ("seconds since 1970, too few", "179576645 host sshd[1]: x"),
        ("no socklog without its level", "192.0.2.9: Nov 22 08:00:01 sshd[1]: x"),
        ("tai64n, no hex", "@400000006921a4f11dcd65zz sshd[1]: x"),
        ("tai64n, before 1970", "@000000006921a4f11dcd6500 sshd[1]: x"),
        ("host too long", &long_host),
        ("program too long", &long_name),
    ];
    for (name, line) in cases {
        assert_eq!(parse(line.as_bytes()), None, "{name}: {line}");
    }
}

#[test]
fn ages() {
    // 2026-11-22 08:00:01 UTC
    const NOW: u64 = 1_795_334_401;
    let cases: &[(&str, u64, i32, u64)] = &[
        ("2026-11-22T08:00:01Z", NOW, 0, 0),
        ("2026-11-22T09:00:01+01:00", NOW, 0, 0),
        ("2026-11-22T04:29:51-0330", NOW, 0, 10),
        ("2026-11-22T08:00:01", NOW, 3600, 3600),
        ("2026-11-22T08:00:11Z", NOW, 0, 0),
        ("2025-11-22T08:00:01Z", NOW, 0, 365 * 86_400),
        ("Nov 22 08:00:01", NOW, 0, 0),
        ("Nov 22 07:00:01", NOW, -3600, 0),
        ("Nov 22 07:00:01", NOW, 0, 3600),
        ("Nov 23 07:00:01", NOW, 0, 0),
        ("Nov 24 08:00:01", NOW, 0, 363 * 86_400),
        ("Dec 31 23:59:59", 1_798_761_601, 0, 2),
        ("Jan  1 00:00:01", 1_798_761_601, 0, 0),
        ("Jan  1 00:00:01", 1_798_761_599, 0, 0),
        ("Feb 29 00:00:00", 1_709_164_810, 0, 10),
        ("Sun Nov 22 08:00:01 2026", NOW, 0, 0),
        ("Sun Nov 22 08:00:01 2026", NOW + 5, -3600, 0),
        ("@400000006b02a10b00000000", NOW, 0, 0),
        ("nov. 22 08:00:01", NOW, 0, 0),
        ("11月 22 08:00:01", NOW, 0, 0),
        ("okt 22 08:00:01", NOW, 0, 31 * 86_400),
        ("févr. 22 08:00:01", NOW, 0, 273 * 86_400),
        ("Nov 22 08:00:01 2025", NOW, 0, 365 * 86_400),
        ("22 Nov 2026 09:00:01 +0100", NOW, 0, 0),
        ("2026-11-22_08:00:01.5", NOW, 0, 0),
    ];
    for (stamp, now, local, want) in cases {
        let line = format!("{stamp} host sshd[1]: x");
        let header = parse(line.as_bytes()).unwrap_or_else(|| panic!("{stamp}"));
        assert_eq!(header.stamp.unwrap().age(Wall(*now), *local), *want, "{stamp} at {now}, zone {local}");
    }
    assert_eq!(parse(b"<38>sshd[1]: x").unwrap().stamp, None);
    assert_eq!(parse(b"lis 22 08:00:01 host sshd[1]: x").unwrap().stamp, None);
    assert_eq!(parse(b"<38>1 - - sshd 1 - - x").unwrap().stamp, None);
}

#[test]
fn any_bytes_are_survived() {
    let seed = 0x6d65_6601;
    let mut rng = fastrand::Rng::with_seed(seed);
    let pieces: Vec<&str> = FORMS.iter().flat_map(|f| f.1.split_inclusive([' ', ':', '[', ']'])).collect();
    for round in 0..200_000 {
        let mut line = Vec::new();
        for _ in 0..rng.usize(..12) {
            line.extend_from_slice(pieces[rng.usize(..pieces.len())].as_bytes());
            if rng.u8(..8) == 0 {
                line.push(rng.u8(..));
            }
        }
        if let Some(h) = parse(&line) {
            assert!(is_program(h.program) && line.ends_with(h.message), "seed {seed:#x} round {round}");
            h.stamp.map(|s| s.age(Wall(rng.u64(..)), rng.i32(-50_000..50_000)));
        }
    }
}

#[test]
fn the_stamp_of_the_line_before_changes_nothing() {
    let lines = [
        "Nov 22 08:00:01 h sshd[1]: x",
        "Nov 22 08:00:01 g sshd[1]: x",
        "Nov 22 08:00:01 2026 h sshd[1]: x",
        "Nov 22 08:00:01 2026h sshd[1]: x",
        "Nov 22 08:00:01 1026 sshd[1]: x",
        "Nov 22 08:00:01.123 h sshd[1]: x",
        "Nov 22 08:00:02 h sshd[1]: x",
        "Nov  2 08:00:01 h sshd[1]: x",
        "Nov 2 08:00:01 h sshd[1]: x",
        "Nov 22 2026 08:00:01 h sshd[1]: x",
        "Nov 22 08:00:01 ",
        "Nov 22 08:00:01",
        "Nov 22 08:00:0",
        "Sun Nov 22 08:00:01 2026 h sshd[1]: x",
        "<13>Nov 22 08:00:01 h sshd[1]: x",
        "2026-11-22T08:00:01 h sshd[1]: x",
        "\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0 h sshd[1]: x",
        "",
    ];
    for before in lines {
        for line in lines {
            let mut memo = StampMemo::default();
            let _ = parse_after(before.as_bytes(), &mut memo);
            assert_eq!(
                parse_after(line.as_bytes(), &mut memo),
                parse(line.as_bytes()),
                "{before:?}, {line:?}"
            );
            assert_eq!(parse_after(line.as_bytes(), &mut memo), parse(line.as_bytes()), "{line:?} twice");
        }
    }
}
