#![forbid(unsafe_code)]
//! When a line was written, in whatever format the service that wrote it has. Only asked for lines that were
//! written while nobody read. Must not know rules or clocks.
//!
//! What stands leftmost is the service's own; text of attackers comes behind it. Where that is not so, in
//! access logs (whose user names may be anything but a quote) and in JSON (whose keys stand in any order),
//! the format is known.

use super::access;
use super::header::{self, HeaderStamp};
use crate::base::bytes::find;

/// How far from the begin of a line a stamp begins at most.
const NEAR: usize = 160;
/// Keys of JSON that hold a stamp, in quotes and with their colon: within a text a quote would have a
/// backslash.
const KEYS: [&[u8]; 18] = [
    b"\"time\":",
    b"\"ts\":",
    b"\"timestamp\":",
    b"\"@timestamp\":",
    b"\"$date\":",
    b"\"time_iso8601\":",
    b"\"time_local\":",
    b"\"StartUTC\":",
    b"\"datetime\":",
    b"\"date\":",
    b"\"t\":",
    b"\"asctime\":",
    b"\"eventTime\":",
    b"\"created\":",
    b"\"msec\":",
    b"\"timeMillis\":",
    b"\"@t\":",
    b"\"log_time\":",
];

/// The stamp of a line; `None` if it has none that is understood.
#[must_use]
pub fn of(line: &[u8]) -> Option<HeaderStamp> {
    if line.first() == Some(&b'{') {
        return json(line);
    }
    if let Some(found) = header::parse(line).and_then(|header| header.stamp) {
        return Some(found);
    }
    if let Some((_, request)) = access::parse(line)
        && request.stamp.is_some()
    {
        return request.stamp;
    }
    header::seconds(line).or_else(|| {
        places(line).find_map(|(before, text)| {
            let number = || header::seconds(text).filter(|_| before == b'=');
            header::any_stamp(text).or_else(number)
        })
    })
}

/// What follows each place where a word begins, and the byte before it, the leftmost first.
fn places(line: &[u8]) -> impl Iterator<Item = (u8, &[u8])> {
    let before = std::iter::once(b' ').chain(line.iter().copied()).take(NEAR).enumerate();
    let within = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b':' | b'/' | b'-');
    before.filter(move |&(_, b)| !within(b)).filter_map(|(at, b)| Some((b, line.get(at..)?)))
}

/// The stamp of an object on one line: that of the key that comes first in [`KEYS`].
fn json(line: &[u8]) -> Option<HeaderStamp> {
    KEYS.iter().find_map(|key| {
        let value = line.get(find(line, key)? + key.len()..)?.trim_ascii_start();
        let value = value.strip_prefix(b"\"").unwrap_or(value);
        header::any_stamp(value.strip_prefix(b"[").unwrap_or(value)).or_else(|| header::seconds(value))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::clock::Wall;

    /// 2026-11-26 02:01:00 UTC.
    const AT: u64 = 1_795_658_460;

    #[test]
    fn every_service_s_own_format_is_read() {
        let cases: &[(&str, &str)] = &[
            ("syslog", "Nov 26 02:01:00 host sshd[7]: Failed"),
            ("syslog, tai64n", "@400000006b0792e6000000ff sshd[7]: Failed"),
            (
                "nginx access",
                "198.51.100.7 - alice [26/Nov/2026:02:01:00 +0000] \"PROPFIND /cal HTTP/1.1\" 401 179 \"-\" \
                 \"c\"",
            ),
            (
                "common log, other zone",
                "198.51.100.7 - - [26/Nov/2026:03:01:00 +0100] \"GET / HTTP/1.1\" 401 179",
            ),
            (
                "a user called like a stamp",
                "198.51.100.7 - [01/Jan/2020:00:00:00 +0000] [26/Nov/2026:02:01:00 +0000] \"GET / HTTP/1.1\" \
                 401 1",
            ),
            (
                "nginx error",
                "2026/11/26 02:01:00 [error] 7#7: *1 user \"x\": password mismatch, client: 198.51.100.7",
            ),
            (
                "apache error",
                "[Thu Nov 26 02:01:00.123456 2026] [auth_basic:error] [pid 7] [client 198.51.100.7:1] \
                 AH01617",
            ),
            ("dovecot's own", "Nov 26 02:01:00 imap-login: Info: Aborted login"),
            ("exim", "2026-11-26 02:01:00 login authenticator failed for (x) [198.51.100.7]"),
            ("exim with zone", "2026-11-26 03:01:00 +0100 login authenticator failed for (x) [198.51.100.7]"),
            ("mysql", "2026-11-26T02:01:00.123456Z 7 [Note] Access denied for user"),
            ("mariadb, padded hour", "2026-11-26  2:01:00 7 [Warning] Access denied for user"),
            ("mysql 5", "261126  2:01:00 [Warning] Access denied for user"),
            ("postgresql", "2026-11-26 02:01:00.123 UTC [7] root@x FATAL:  password"),
            ("mongodb", r#"{"t":{"$date":"2026-11-26T02:01:00.123+00:00"},"s":"I","c":"ACCESS"}"#),
            (
                "nextcloud",
                r#"{"reqId":"x","level":2,"time":"2026-11-26T02:01:00+00:00","remoteAddr":"198.51.100.7"}"#,
            ),
            ("caddy", r#"{"level":"info","ts":1795658460.123,"request":{"remote_ip":"198.51.100.7"}}"#),
            ("milliseconds", r#"{"level":"info","ts":1795658460123,"msg":"x"}"#),
            (
                "json in an attacker's text",
                r#"{"msg":"\"time\":\"2020-01-01T00:00:00Z\"","time":"2026-11-26T02:01:00Z"}"#,
            ),
            ("json, blanks", r#"{ "timestamp": "2026-11-26 02:01:00" }"#),
            (
                "asterisk",
                "[Nov 26 02:01:00] NOTICE[7] chan_sip.c: Registration from 'x' failed for '198.51.100.7'",
            ),
            ("asterisk, iso", "[2026-11-26 02:01:00] NOTICE[7][C-00000001] chan_sip.c: x"),
            (
                "vaultwarden",
                "[2026-11-26 02:01:00.123][vaultwarden::api::identity][ERROR] Username or password",
            ),
            ("vsftpd", "Thu Nov 26 02:01:00 2026 [pid 7] [x] FAIL LOGIN: Client \"198.51.100.7\""),
            ("proftpd", "2026-11-26 02:01:00,123 host proftpd[7] host (198.51.100.7): USER x"),
            ("openvpn", "2026-11-26 02:01:00 198.51.100.7:1194 TLS Error: x"),
            ("lighttpd", "2026-11-26 02:01:00: (mod_auth.c.525) get_password failed, IP: 198.51.100.7"),
            (
                "squid",
                "1795658460.123      7 198.51.100.7 TCP_DENIED/407 3884 GET http://x/ - HIER_NONE/- \
                 text/html",
            ),
            (
                "grafana",
                "logger=context userId=0 t=2026-11-26T02:01:00.12+00:00 level=info msg=\"Invalid username\"",
            ),
            ("grafana, older", "t=2026-11-26T02:01:00+0000 lvl=eror msg=x"),
            ("logfmt, whole seconds", "level=error ts=1795658460 msg=x"),
            ("logfmt", "level=error ts=1795658460.1 msg=\"login failed\""),
            ("logfmt, quoted", "time=\"2026-11-26T02:01:00Z\" level=warning msg=x"),
            (
                "roundcube",
                "[26-Nov-2026 02:01:00 +0000]: <x> IMAP Error: Login failed for x from 198.51.100.7",
            ),
            ("named", "26-Nov-2026 02:01:00.123 security: client @0x7 198.51.100.7#1: query denied"),
            ("tomcat", "26-Nov-2026 02:01:00.123 WARNING [http-nio] x"),
            ("samba", "[2026/11/26 02:01:00.123456,  2] ../auth.c:1(x)"),
            ("xrdp", "[20261126-02:01:00] [INFO ] AUTHFAIL: user=x ip=::ffff:198.51.100.7"),
            ("gitea", "2026/11/26 02:01:00 ...web/auth/auth.go:1:SignIn() [I] Failed authentication attempt"),
            (
                "home assistant",
                "2026-11-26 02:01:00.123 WARNING (MainThread) [homeassistant.components.http.ban] Login",
            ),
            ("webmin", "26/Nov/2026:02:01:00 +0000 miniserv.pl[7]: x"),
            ("haproxy's own", "198.51.100.7:1 [26/Nov/2026:02:01:00.123] www~ www/srv 0/0"),
            ("sendmail, year first", "2026 Nov 26 02:01:00 host sm-mta[7]: x"),
            (
                "traefik, no agent",
                r#"{"ClientHost":"198.51.100.7","StartUTC":"2026-11-26T02:01:00.123456789Z"}"#,
            ),
            ("a level first", "ERROR 2026-11-26 02:01:00,123 django x"),
            ("level and colour gone", "[I] [2026-11-26 02:01:00] x"),
            ("ctime", "Thu Nov 26 02:01:00 UTC 2026: login failed"),
            ("rfc 2822", "Thu, 26 Nov 2026 02:01:00 +0000 login failed from 198.51.100.7"),
        ];
        for (name, line) in cases {
            let stamp = of(line.as_bytes()).unwrap_or_else(|| panic!("{name}: {line}"));
            assert_eq!(stamp.age(Wall(AT + 36_000), 0), 36_000, "{name}: {line} {stamp:?}");
        }
    }

    #[test]
    fn what_is_no_stamp_is_none() {
        for line in [
            "",
            "failed login from 198.51.100.7",
            "198.51.100.7 - - \"GET /2026-11-26 HTTP/1.1\" 401",
            "198.51.100.7 99.99.99 12:30:45",
            "port 1795658460 is odd",
            "{}",
            r#"{"time":null}"#,
            r#"{"t":7}"#,
            "@4000 x",
            "Nov 26",
            "2026-11-26",
        ] {
            assert_eq!(of(line.as_bytes()), None, "{line}");
        }
    }
}
