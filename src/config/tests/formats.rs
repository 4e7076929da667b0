//! Lines of other programs in lists: read, or refused by name.

use super::super::*;
use super::files::word;

/// What a deny list makes of lines.
const DENY: &[(&str, &str)] = &[
    // Ranges
    ("192.0.2.1-192.0.2.6", "192.0.2.1/32 192.0.2.2/31 192.0.2.4/31 192.0.2.6/32"),
    ("192.0.2.0 - 192.0.2.255 force", "192.0.2.0/24 force"),
    ("192.0.2.0-192.0.2.255 until=2026-11-25T21:00:00Z", "192.0.2.0/24 until 1795640400"),
    ("2001:db8::-2001:db8::ffff # x", "2001:db8::/112"),
    ("192.0.2.9-192.0.2.1", "\"192.0.2.9-192.0.2.1\" '192.0.2.9-192.0.2.1' is not an address or network"),
    ("192.0.2.9-::1", "\"192.0.2.9-::1\" '192.0.2.9-::1' is not an address or network"),
    (
        "4.0.0.0-7.255.255.255",
        "\"4.0.0.0-7.255.255.255\" '4.0.0.0-7.255.255.255' is too large a part of the internet",
    ),
    // ipset save
    ("create bl hash:net family inet hashsize 1024 maxelem 65536", "nothing"),
    ("add bl 192.0.2.7", "192.0.2.7/32"),
    ("add bl 192.0.2.0/24 comment \"a # b\"", "192.0.2.0/24"),
    ("add bl 192.0.2.1-192.0.2.2", "192.0.2.1/32 192.0.2.2/32"),
    ("add bl 192.0.2.7 timeout 0", "192.0.2.7/32"),
    (
        "add bl 192.0.2.7 timeout 300",
        "foreign \"192.0.2.7\" '192.0.2.7' ends at a time that is not given here",
    ),
    ("add bl 192.0.2.0/25 nomatch", "foreign \"192.0.2.0/25\" '192.0.2.0/25' is an exception"),
    ("add bl 192.0.2.7,tcp:22", "foreign \"192.0.2.7,tcp:22\" '192.0.2.7,tcp:22' is more than an address"),
    ("add bl x", "\"x\" 'x' is not an address or network"),
    (
        "-A INPUT -s 192.0.2.7/32 -j DROP",
        "foreign \"-A INPUT -s 192.0.2.7/32 -j DROP\" '-A INPUT -s 192.0.2.7/32 -j DROP' is a rule of \
         iptables",
    ),
    // nginx, Apache
    ("deny 192.0.2.7;", "192.0.2.7/32"),
    ("    deny  2001:db8::/32 ;", "2001:db8::/32"),
    ("Deny from 192.0.2.7 198.51.100.0/24", "192.0.2.7/32 198.51.100.0/24"),
    ("deny all;", "foreign \"all\" 'all' is not an address"),
    (
        "allow 192.0.2.7;",
        "foreign \"allow 192.0.2.7\" 'allow 192.0.2.7' is the opposite of what this list does",
    ),
    // hosts.deny
    ("ALL: 192.0.2.7", "192.0.2.7/32"),
    ("sshd : 192.0.2.7, 198.51.100.0/255.255.255.0", "192.0.2.7/32 198.51.100.0/24"),
    ("sshd,vsftpd: 192.0.2. : deny", "192.0.2.0/24"),
    ("sshd: 192.0.2.7: spawn (/bin/mail root)", "192.0.2.7/32"),
    ("ALL: [2001:db8:1::]/48", "2001:db8:1::/48"),
    ("ALL: 2001:db8::7", "2001:db8::7/128"),
    ("ALL: .example.com", "foreign \".example.com\" '.example.com' is not an address"),
    ("ALL: ALL EXCEPT 192.0.2.7", "foreign \"ALL\" 'ALL' is not an address"),
    (
        "sshd: 192.0.2.7 : allow",
        "foreign \"sshd: 192.0.2.7 : allow\" 'sshd: 192.0.2.7 : allow' is the opposite of what this list \
         does",
    ),
    // Spamhaus and others as JSON
    ("{\"cidr\":\"192.0.2.0/24\",\"sblid\":\"SBL256894\",\"rir\":\"apnic\"}", "192.0.2.0/24"),
    ("{\"cidr\": \"2001:db8::/32\", \"x\": \"a;b#c\"},", "2001:db8::/32"),
    ("{\"ip\":\"192.0.2.7\",\"score\":3}", "192.0.2.7/32"),
    ("{\"type\":\"metadata\",\"timestamp\":1730000000,\"size\":96000}", "nothing"),
    (
        "{\"prefixes\":[{\"cidr\":\"192.0.2.0/24\"}]}",
        "foreign \"{\\\"prefixes\\\":[{\\\"cidr\\\":\\\"192.0.2.0/24\\\"}]}\" \
         '{\"prefixes\":[{\"cidr\":\"192.0.2.0/24\"}]}' is not such an object",
    ),
    ("{\"cidr\":\"x\"}", "\"x\" 'x' is not an address or network"),
    ("[", "foreign \"[\" '[' is not such an object"),
    // DShield, feeds in columns
    ("Start\tEnd\tNetmask\tAttacks\tName\tCountry\temail", "nothing"),
    ("192.0.2.0\t192.0.2.255\t24\t3471\tNAME\tCN\ta@b.example", "192.0.2.0/24"),
    ("192.0.2.7\t10", "192.0.2.7/32"),
    ("192.0.2.7,2026-11-25,5,\"a, b\"", "192.0.2.7/32"),
    ("\"2026-01-17 07:30:05\",\"192.0.2.7\",\"443\",\"offline\"", "192.0.2.7/32"),
    ("\"192.0.2.0/24\",", "192.0.2.0/24"),
    ("first_seen_utc,dst_ip,dst_port,c2_status,last_online,malware", "nothing"),
    ("192.0.2.7,198.51.100.9,22", "\"198.51.100.9\" '198.51.100.9' is a second address"),
    ("192.0.2.7,192.0.2.9,22", "\"192.0.2.9\" '192.0.2.9' is a second address"),
    ("a,5,b", "\"a,5,b\" 'a,5,b' has no address"),
    ("x,192.0.2.7,http://a.example/b", "192.0.2.7/32"),
    ("ALL: ALL EXCEPT 192.0.2.7, 192.0.2.8", "foreign \"ALL\" 'ALL' is not an address"),
    ("sshd: 192.0.2.7, host.example", "foreign \"host.example\" 'host.example' is not an address"),
    ("192.0.2.7\tforce", "192.0.2.7/32 force"),
    // csf.deny
    (
        "192.0.2.5 # lfd: (sshd) Failed SSH login from 192.0.2.5 (XX/Y/host.example): 5 in the last 3600 \
         secs",
        "192.0.2.5/32",
    ),
    (
        "tcp|in|d=22|s=192.0.2.77 # ssh only",
        "foreign \"tcp|in|d=22|s=192.0.2.77\" 'tcp|in|d=22|s=192.0.2.77' is an advanced filter of CSF, for a \
         port or direction",
    ),
    ("Include /etc/csf/x", "foreign \"Include /etc/csf/x\" 'Include /etc/csf/x' is an Include of CSF"),
    // None of these
    ("192.0.2.7 x", "\"x\" 'x' is not known after an address"),
    ("2001:db8::g", "\"2001:db8::g\" '2001:db8::g' is not an address or network"),
    ("fe80::1%eth0", "\"fe80::1%eth0\" 'fe80::1%eth0' is not an address or network"),
];

#[test]
fn lines_of_others_in_a_deny_list() {
    for (line, want) in DENY {
        assert_eq!(word(ListKind::Deny, line), *want, "{line}");
    }
}

#[test]
fn lines_of_others_in_an_allow_list() {
    let cases = [
        ("allow 192.0.2.7;", "192.0.2.7/32"),
        (
            "deny 192.0.2.7;",
            "foreign \"deny 192.0.2.7\" 'deny 192.0.2.7' is the opposite of what this list does",
        ),
        ("sshd: 192.0.2.0/24", "192.0.2.0/24"),
        (
            "sshd: 192.0.2.7 : deny",
            "foreign \"sshd: 192.0.2.7 : deny\" 'sshd: 192.0.2.7 : deny' is the opposite of what this list \
             does",
        ),
        ("my-host.example", "host my-host.example"),
        ("10.0.0.0-10.0.0.255", "10.0.0.0/24"),
        ("192.0.2.7 x", "\"x\" 'x' is not known after an address"),
    ];
    for (line, want) in cases {
        assert_eq!(word(ListKind::Allow, line), want, "{line}");
    }
}

#[test]
fn what_is_no_list_is_known_by_its_first_line() {
    let cases: &[(&[u8], &str)] = &[
        (b"\xff\xfe2\x000\x003\x00", "UTF-16"),
        (b"\xfe\xff\x002\x000", "UTF-16"),
        (b"\x1f\x8b\x08\x00\x00\n\n", "compressed"),
        (b"PK\x03\x04x", "compressed"),
        (b"<!DOCTYPE html>\n<html>", "HTML"),
        (b" <?xml version=\"1.0\"?>\n", "XML"),
        (b"192.0.2.1\0\n192.0.2.2\n", "NUL"),
        (b"192.0.2.1\r192.0.2.2\r", "CR alone"),
        (b"# all of it\r192.0.2.2", "CR alone"),
        (b"{\\rtf1 x", "word processor"),
    ];
    for (text, want) in cases {
        let long = [*text, "x\n".repeat(5000).as_bytes()].concat();
        for text in [*text, &long] {
            let mut text = text;
            let result = read_list(ListKind::Deny, &mut text, &mut |_| ());
            let said = result.map(|_| String::new()).unwrap_or_else(|e| e.to_string());
            assert!(said.contains(want), "{want}: {said}");
        }
    }
    for good in [&b"192.0.2.1\r\n"[..], b"", b"\xef\xbb\xbf192.0.2.1", b"192.0.2.1\r"] {
        let mut good = good;
        assert!(read_list(ListKind::Deny, &mut good, &mut |_| ()).is_ok());
    }
}
