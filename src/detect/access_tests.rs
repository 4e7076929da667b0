#![forbid(unsafe_code)]
//! Lines of access logs as servers write them, and as attackers would like them.

use super::*;

/// `WHO STATUS PATH AGENT`.
fn read(line: &str) -> String {
    let Some((client, r)) = parse(line.as_bytes()) else { return "nothing".into() };
    let client = match client {
        AccessClient::Addr(addr) => addr.to_string(),
        other => format!("{other:?}"),
    };
    format!("{client} {} {} {}", r.status, &line[r.path], &line[r.agent])
}

const TIME: &str = "[26/Nov/2026:02:10:00 +0100]";

#[test]
fn formats() {
    let cases = [
        ("192.0.2.1 - - T \"GET /a?b=c HTTP/1.1\" 200 5 \"-\" \"ua 1\"", "192.0.2.1 200 /a ua 1"),
        ("192.0.2.1 - - T \"GET /a#b HTTP/1.1\" 200 5", "192.0.2.1 200 /a "),
        ("192.0.2.1 - - T \"GET /a\" 200 5 \"-\" \"-\"", "192.0.2.1 200 /a -"),
        ("192.0.2.1 - - T \"GET /a b HTTP/1.1\" 400 5 \"-\" \"-\"", "192.0.2.1 400 /a b -"),
        ("192.0.2.1 - - T \"\\x16\\x03\" 400 5 \"-\" \"-\"", "192.0.2.1 400 \\x16\\x03 -"),
        ("192.0.2.1 - - T \"\" 400 0 \"-\" \"-\"", "192.0.2.1 400  -"),
        ("192.0.2.1 - - T \"-\" 408 - \"-\" \"-\"", "192.0.2.1 408 - -"),
        ("x.org:443 192.0.2.1 - - T \"GET / HTTP/1.1\" 200 5 \"-\" \"u\"", "192.0.2.1 200 / u"),
        ("192.0.2.1 - \"\" T \"GET /a HTTP/1.1\" 401 5 \"-\" \"u\"", "192.0.2.1 401 /a u"),
        ("192.0.2.1 - \"\" T \"\" 400 0 \"-\" \"-\"", "192.0.2.1 400  -"),
        ("x.org:443 192.0.2.1 - \"\" T \"GET / HTTP/1.1\" 200 5 \"-\" \"u\"", "192.0.2.1 200 / u"),
        ("[2001:db8::1] - - T \"GET / HTTP/1.1\" 200 5 \"-\" \"u\"", "2001:db8::1 200 / u"),
        ("::ffff:192.0.2.1 - - T \"GET / HTTP/1.1\" 200 5 \"-\" \"u\"", "192.0.2.1 200 / u"),
        ("name - - T \"GET / HTTP/1.1\" 200 5 \"-\" \"u\"", "Unknown 200 / u"),
        // Some put the virtual host, which the client chooses, in front; lighttpd puts it behind the address.
        // And users are called as they like.
        ("192.0.2.9 192.0.2.1 - - T \"GET / HTTP/1.1\" 200 5 \"-\" \"u\"", "192.0.2.1 200 / u"),
        ("192.0.2.9 192.0.2.1 - [x T \"GET / HTTP/1.1\" 200 5 \"-\" \"u\"", "192.0.2.1 200 / u"),
        ("192.0.2.9 192.0.2.1 - 192.0.2.9 - - T \"GET / HTTP/1.1\" 200 5 \"-\" \"u\"", "192.0.2.1 200 / u"),
        ("192.0.2.9 name - - T \"GET / HTTP/1.1\" 200 5 \"-\" \"u\"", "Unknown 200 / u"),
        ("192.0.2.1 192.0.2.9 - T \"GET / HTTP/1.1\" 200 5 \"-\" \"u\"", "192.0.2.1 200 / u"),
        ("192.0.2.1 192.0.2.9 frank T \"GET / HTTP/1.1\" 200 5 \"-\" \"u\"", "192.0.2.1 200 / u"),
        ("192.0.2.1 - 192.0.2.9 - x T \"GET / HTTP/1.1\" 200 5 \"-\" \"u\"", "192.0.2.1 200 / u"),
        // Escapes of Apache and lighttpd, then of nginx.
        (
            r#"192.0.2.1 - a\"b T "GET /\"x HTTP/1.1" 404 5 "\\" "\"404 \\\"""#,
            r#"192.0.2.1 404 /\"x \"404 \\\""#,
        ),
        (r#"192.0.2.1 - a\x22b T "GET /\x22 HTTP/1.1" 404 5 "\x5C" "\x22""#, r"192.0.2.1 404 /\x22 \x22"),
        ("192.0.2.1 - [x] T \"GET / HTTP/1.1\" 404 5 \"-\" \"-\"", "192.0.2.1 404 / -"),
        ("192.0.2.1 - - T \"GET / HTTP/1.1\" 40x 5 \"-\" \"-\"", "nothing"),
        ("192.0.2.1 - - T \"GET / HTTP/1.1\" - 5 \"-\" \"-\"", "nothing"),
        ("192.0.2.1 - - T \"GET / HTTP/1.1", "nothing"),
        ("192.0.2.1 - - \"GET / HTTP/1.1\" 200 5", "nothing"),
        ("192.0.2.1 - - T \"GET /\\", "nothing"),
        ("", "nothing"),
        ("{", "nothing"),
        (
            r#"{"remote_addr":"192.0.2.1","request_uri":"/a?b","status":"404","http_user_agent":"u"}"#,
            "192.0.2.1 404 /a u",
        ),
        (
            r#"{"request":{"client_ip":"192.0.2.1","remote_ip":"192.0.2.9","uri":"/a"},"status":404}"#,
            "192.0.2.1 404 /a ",
        ),
        (
            r#"{"request":{"remote_ip":"192.0.2.9","client_ip":"192.0.2.1","uri":"/a"},"status":404}"#,
            "192.0.2.1 404 /a ",
        ),
        (
            r#"{"request":{"remote_ip":"192.0.2.1","uri":"/\",\"status\":200"},"status":404}"#,
            r#"192.0.2.1 404 /\",\"status\":200 "#,
        ),
        (
            r#"{"request":{"remote_ip":"192.0.2.1","uri":"/","headers":{"request":[{"remote_ip":"192.0.2.9"}]}},"status":404}"#,
            "192.0.2.1 404 / ",
        ),
        (
            r#"{"request":{"remote_ip":"192.0.2.1","uri":"/"},"resp_headers":{"status":[200],"uri":["/b"]},"status":404}"#,
            "192.0.2.1 404 / ",
        ),
        (r#"{"remote_ip":"192.0.2.1","uri":"/","status":404"#, "nothing"),
        (r#"{"remote_ip":"192.0.2.1","uri":"/","status":99999}"#, "nothing"),
        (r#"{"a":[[[[[[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]]]]]],"status":1}"#, "nothing"),
    ];
    for (line, want) in cases {
        let line = line.replacen(" T ", &format!(" {TIME} "), 1);
        assert_eq!(read(&line), want, "{line}");
    }
}

#[test]
fn times() {
    use crate::base::clock::Wall;
    // 2026-11-26T01:10:00Z
    let now = Wall(1_795_655_400 + 60);
    let age = |line: &str| parse(line.as_bytes()).unwrap().1.stamp.map(|stamp| stamp.age(now, 0));
    assert_eq!(age(&format!("192.0.2.1 - - {TIME} \"GET / HTTP/1.1\" 200 5")), Some(60));
    assert_eq!(age("192.0.2.1 - - [yesterday] \"GET / HTTP/1.1\" 200 5"), None);
    let json = |time: &str| age(&format!("{{\"remote_ip\":\"::1\",\"uri\":\"/\",\"status\":200,{time}}}"));
    assert_eq!(json("\"ts\":1795655400.75"), Some(60));
    assert_eq!(json("\"time\":\"2026-11-26T02:10:00+01:00\""), Some(60));
    assert_eq!(json("\"StartUTC\":\"2026-11-26T01:10:00.5Z\",\"time\":\"x\""), Some(60));
}

#[test]
fn any_bytes_are_survived_and_places_are_within_the_line() {
    let mut rng = fastrand::Rng::with_seed(1);
    let parts: [&[u8]; 22] = [
        b"192.0.2.1",
        b" ",
        b" - - ",
        b"[26/Nov/2026:02:10:00 +0100]",
        b" \"",
        b"\"",
        b"\\",
        b"GET /a?b HTTP/1.1",
        b"\" 404 5 ",
        b"{",
        b"}",
        b"[",
        b"]",
        b":",
        b",",
        b"\"request\":{",
        b"\"remote_ip\":\"",
        b"\"uri\":\"",
        b"\"status\":404",
        b"\xff\0",
        b"\"headers\":{\"User-Agent\":[\"",
        b"x.org",
    ];
    let mut read = 0;
    for _ in 0..200_000 {
        let line: Vec<u8> =
            (0..rng.usize(0..16)).flat_map(|_| parts[rng.usize(0..parts.len())].to_vec()).collect();
        if let Some((_, r)) = parse(&line) {
            read += 1;
            assert!(line.get(r.path).is_some() && line.get(r.agent).is_some(), "{}", line.escape_ascii());
        }
    }
    assert!(read > 100, "{read}");
}

/// Whatever stands in the fields that a client writes, escaped as servers do, is read back, and the address
/// stays.
#[test]
fn fields_that_clients_write_stay_in_their_places() {
    let mut rng = fastrand::Rng::with_seed(2);
    let nginx = |text: &[u8]| {
        let one = |&b: &u8| match b {
            b'"' | b'\\' | 0..=31 | 127..=255 => format!("\\x{b:02X}"),
            _ => char::from(b).to_string(),
        };
        text.iter().map(one).collect::<String>()
    };
    let apache = |text: &[u8]| {
        let one = |&b: &u8| match b {
            b'"' | b'\\' => format!("\\{}", char::from(b)),
            0..=31 | 127..=255 => format!("\\x{b:02x}"),
            _ => char::from(b).to_string(),
        };
        text.iter().map(one).collect::<String>()
    };
    let bytes = b"\"\\[] ./:-x\xff\n198.51.100.9";
    for n in 0..50_000 {
        let mut text = |blank: bool| {
            let raw: Vec<u8> = (0..rng.usize(0..12)).map(|_| bytes[rng.usize(0..bytes.len())]).collect();
            let raw: Vec<u8> = raw.into_iter().filter(|&b| blank || b != b' ').collect();
            if n % 2 == 0 { nginx(&raw) } else { apache(&raw) }
        };
        let (user, path, referer, agent) = (text(true), text(false), text(true), text(true));
        let line =
            format!("192.0.2.1 - {user} {TIME} \"GET /{path} HTTP/1.1\" 404 5 \"{referer}\" \"{agent}\"");
        assert_eq!(read_as(&line), (format!("/{path}"), agent, 404), "{line}");
    }
}

fn read_as(line: &str) -> (String, String, u16) {
    let (client, r) = parse(line.as_bytes()).unwrap_or_else(|| panic!("{line}"));
    assert_eq!(client, AccessClient::Addr("192.0.2.1".parse().unwrap()), "{line}");
    (line[r.path].to_owned(), line[r.agent].to_owned(), r.status)
}
