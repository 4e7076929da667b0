#![forbid(unsafe_code)]
use super::super::ini;
use super::super::*;

/// Bytes that look like a configuration more often than chance.
fn soup(random: &mut fastrand::Rng) -> Vec<u8> {
    const PIECES: &[&str] = &[
        "[",
        "]",
        "=",
        "\"",
        "\\",
        "#",
        ";",
        " ",
        "\n",
        "\r\n",
        "\t",
        ",",
        "-",
        "@",
        "0",
        "9",
        "ä",
        "\u{feff}",
        "\0",
        "[global]\n",
        "[rule]\n",
        "[webscan]\n",
        "failregex",
        "ignoreregex",
        "track_max",
        "rbl_",
        "x_",
        "zone",
        "ddos_port_",
        "65535_",
        "connlimit",
        "permanent",
        "1h",
        "all",
        "auto",
        "/",
        "::",
        "ffff:1.2.3.4",
        "10.0.0.0",
        "/8",
        "#+ ",
        "#- ",
        "\\x",
        "ps_exclude_ports=",
        "on_ban=",
        "ago",
        "name=",
        "ipv6_escalate=",
    ];
    let mut out = Vec::new();
    for _ in 0..random.usize(..60) {
        if random.u8(..12) == 0 {
            out.push(random.u8(..));
        } else {
            out.extend(PIECES[random.usize(..PIECES.len())].bytes());
        }
    }
    out
}

#[test]
fn no_bytes_make_a_reader_panic_and_every_problem_can_be_shown() {
    let mut random = fastrand::Rng::with_seed(4);
    for round in 0..30_000 {
        let bytes = soup(&mut random);
        let text = String::from_utf8_lossy(&bytes);
        let (_, mut problems) = parse_global(&bytes);
        let (rule, more) = parse_service("stem", &bytes);
        let failed = more.iter().any(|p| p.severity == Severity::Error);
        assert_eq!(rule.is_none(), failed, "round {round}: {text:?}");
        problems.extend(more);
        problems.extend(examples(&text).1);
        list_lines(ListKind::Allow, &bytes, &mut |line| {
            if let ListLine::Bad(p, text) = line {
                let _ = p.render("l", text);
            }
        });
        for p in problems {
            assert!(
                p.col >= 1 && p.len >= 1 && p.render("f", &text).len() < 100_000,
                "round {round}: {text:?}"
            );
        }
    }
}

#[test]
fn what_was_written_is_read() {
    let mut random = fastrand::Rng::with_seed(5);
    for round in 0..5000 {
        let mut want = Vec::new();
        let mut text = String::from("[a]\n");
        for _ in 0..random.usize(1..6) {
            let key: String = (0..random.usize(1..9)).map(|_| random.lowercase()).collect();
            let chars: Vec<char> = " #;=[]ab\\ä.".chars().collect();
            let value: String = (0..random.usize(..12)).map(|_| chars[random.usize(..chars.len())]).collect();
            let plain = value.trim() == value
                && !value.contains(" #")
                && !value.contains(" ;")
                && !value.starts_with(['#', ';']);
            // An odd number of backslashes before the closing quote would take it away.
            let value = if plain { value } else { value.trim_end_matches('\\').to_string() };
            let blank = if random.bool() { " " } else { "" };
            let quote = if plain { "" } else { "\"" };
            let comment = if random.bool() { " # x" } else { "" };
            text += &format!("{blank}{key}{blank}={blank}{quote}{value}{quote}{comment}\n");
            want.push((key, value));
        }
        let mut got = Vec::new();
        let mut problems = Vec::new();
        ini::read(&text, &["a"], &mut problems, &mut |e, _| {
            got.push((e.key.to_string(), e.unquoted().into_owned()))
        });
        assert_eq!((got, problems.len()), (want, 0), "round {round}: {text}");
    }
}
