//! Text that attackers write into log lines: never a hit for anybody but the sender, who is a hit all the same.

use crate::conf::{Conf, hits};
use fastrand::Rng;
use std::net::IpAddr;

const SEED: u64 = 0x6d65_6602;
const LINES: usize = 200_000;

/// Messages with `{}` where the attacker writes and `@` where the sender stands, `#` its port. The flag: a hit whatever is written.
const SSHD: &[(bool, &str)] = &[
    (true, "Failed password for invalid user {} from @ port # ssh2"),
    (true, "Failed keyboard-interactive/pam for invalid user {} from @ port # ssh2"),
    (true, "message repeated 2 times: [ Failed password for invalid user {} from @ port # ssh2]"),
    (true, "Failed publickey for invalid user {} from @ port # ssh2: RSA SHA256:AbC+/9"),
    (true, "Invalid user {} from @ port #"),
    (true, "Invalid user {} from @"),
    (true, "User {} from @ not allowed because not listed in AllowUsers"),
    (true, "error: PAM: Authentication failure for illegal user {} from @"),
    (
        true,
        "error: maximum authentication attempts exceeded for invalid user {} from @ port # ssh2 [preauth]",
    ),
    (true, "Connection closed by invalid user {} @ port # [preauth]"),
    (true, "Connection reset by invalid user {} @ port # [preauth]"),
    (true, "Disconnected from invalid user {} @ port # [preauth]"),
    (true, "Disconnecting invalid user {} @ port #: Too many authentication failures [preauth]"),
    (
        true,
        "Disconnecting authenticating user root @ port #: Change of username or service not allowed: (root,ssh) -> ({}) [preauth]",
    ),
    (
        false,
        "Disconnecting invalid user {} @ port #: Change of username or service not allowed: ({}) -> ({}) [preauth]",
    ),
    (
        false,
        "Failed publickey for invalid user {} from @ port # ssh2: RSA-CERT SHA256:AbC ID {} (serial 0) CA RSA SHA256:AbC",
    ),
    (
        false,
        "Failed publickey for root from @ port # ssh2: RSA-CERT SHA256:AbC ID {} (serial 0) CA RSA SHA256:AbC",
    ),
    (
        false,
        "Failed hostbased for invalid user {} from @ port # ssh2: RSA SHA256:AbC, client user \"{}\", client host \"{}\"",
    ),
    (true, "Received disconnect from @ port #:11: {} [preauth]"),
    (true, "Bad protocol version identification '{}' from @ port #"),
    (true, "Unable to negotiate with @ port #: no matching cipher found. Their offer: {} [preauth]"),
    (true, "Protocol major versions differ for @ port #: SSH-2.0-OpenSSH_7.4 vs. {}"),
    (true, "scanned from @ port # with SSH-1.0-{}.  Don't panic."),
    (true, "ssh_dispatch_run_fatal: Connection from invalid user {} @ port #: incomplete message [preauth]"),
    (false, "error: kex_exchange_identification: client sent invalid protocol identifier \"{}\""),
    (false, "Postponed keyboard-interactive for invalid user {} from @ port # ssh2 [preauth]"),
    (false, "Received disconnect from @ port #:11: {}"),
    (false, "userauth_pubkey: unsupported public key algorithm: {} [preauth]"),
    (false, "input_userauth_request: invalid user {} [preauth]"),
    (false, "Address @ maps to {}, but this does not map back to the address."),
    (false, "Bad remote protocol version identification: '{}'"),
];

const DROPBEAR: &[(bool, &str)] = &[
    (true, "Bad password attempt for '{}' from @:#"),
    (true, "Login attempt for nonexistent user '{}' from @:#"),
    (true, "Login attempt for nonexistent user from @:#"),
    (true, "Pubkey auth bad signature for '{}' with key md5 2e:ff:6e from @:#"),
    (true, "Exit before auth from <@:#>: Incompatible remote version '{}'"),
    (true, "Exit before auth from <@:#>: (user '{}', 2 fails): Exited normally"),
    (false, "User '{}' has invalid shell, rejected"),
    (false, "Password auth succeeded for '{}' from @:#"),
    (false, "Exit ({}) from <@:#>: Disconnect received"),
];

const HEADERS: &[&str] = &[
    "Nov 22 08:00:01 host TAG[7]: ",
    "<38>Nov 22 08:00:01 TAG[7]: ",
    "Nov 22 08:00:01 host auth.info TAG[7]: ",
    "Sun Nov 22 08:00:01 2026 auth.info TAG[7]: ",
    "2026-11-22T08:00:01.123456+01:00 host TAG[7]: ",
    "<38>1 2026-11-22T08:00:01Z host TAG 7 - - ",
    "<38>1 2026-11-22T08:00:01Z host TAG 7 - [a b=\"c\"] \u{feff}",
    "@400000006b02a10b00000000 TAG[7]: ",
];

const SENDERS: &[&str] = &["192.0.2.1", "2001:db8::1", "::ffff:192.0.2.7"];
const THIRD: &[&str] =
    &["198.51.100.9", "203.0.113.77", "2001:db8:bad::9", "::ffff:198.51.100.10", "[198.51.100.11]"];

const PIECES: &[&str] = &[
    " from ",
    " port ",
    "22",
    " ssh2",
    " [preauth]",
    " ",
    ": ",
    ":",
    "'",
    "\"",
    "<",
    ">",
    "(",
    ")",
    "[",
    "]",
    "root",
    "invalid user ",
    "illegal user ",
    "authenticating user ",
    "Failed password for ",
    "Invalid user ",
    "Connection closed by ",
    " not allowed because ",
    "not listed in AllowUsers",
    "Too many authentication failures",
    ": Change of username or service not allowed: ",
    "ssh2: RSA SHA256:AbC",
    "maximum authentication attempts exceeded for ",
    "PAM: Authentication failure for ",
    " port 22 ssh2",
    " port 22 [preauth]",
    " port 22",
    "' from ",
    ":4711",
    ">: ",
    "Exit before auth from <",
    "Bad password attempt for '",
    "message repeated 2 times: [ ",
    "incomplete message",
    "drop connection #0 from ",
    " penalty: failed authentication",
    "\\n",
    "\\033[31m",
    "#012",
    "%s%n",
    "..",
    "\\",
    "-> (",
    "Their offer: ",
];

/// Raw bytes that a service which does not encode them would pass on.
const RAW: &[&[u8]] = &[b"\0", b"\x1b[31m", b"\r", b"\t", b"\xff\xfe", b"\xc3\x28", b"\x7f", b"\xef\xbb\xbf"];

fn field(rng: &mut Rng, tag: &str) -> Vec<u8> {
    let mut out = Vec::new();
    let pieces = if rng.u16(..500) == 0 { 900 } else { rng.usize(..9) };
    for _ in 0..pieces {
        match rng.u8(..16) {
            0..=3 => out.extend_from_slice(THIRD[rng.usize(..THIRD.len())].as_bytes()),
            4 => out.extend_from_slice(RAW[rng.usize(..RAW.len())]),
            5 => out.extend_from_slice(HEADERS[rng.usize(..HEADERS.len())].replace("TAG", tag).as_bytes()),
            // The rest of a line up to where a third address would end a message.
            6 => out.extend_from_slice(whole(rng, tag).as_bytes()),
            _ => out.extend_from_slice(PIECES[rng.usize(..PIECES.len())].as_bytes()),
        }
    }
    out.truncate(8192);
    out
}

/// A message of the service about somebody else, complete.
fn whole(rng: &mut Rng, tag: &str) -> String {
    let forms = forms(tag);
    let form = forms[rng.usize(..forms.len())].1;
    form.replace("{}", "x").replace('@', THIRD[rng.usize(..THIRD.len())]).replace('#', "22")
}

fn forms(tag: &str) -> &'static [(bool, &'static str)] {
    if tag == "dropbear" { DROPBEAR } else { SSHD }
}

fn message(rng: &mut Rng, tag: &str, form: &str, sender: &str) -> Vec<u8> {
    let mut out = Vec::new();
    for c in form.split_inclusive(['{', '@', '#']) {
        let (text, mark) = c.split_at(c.len() - usize::from(c.ends_with(['{', '@', '#'])));
        out.extend_from_slice(text.strip_prefix('}').unwrap_or(text).as_bytes());
        match mark {
            "{" => out.extend(field(rng, tag)),
            "@" => out.extend_from_slice(sender.as_bytes()),
            "#" => out.extend_from_slice(rng.u16(1..).to_string().as_bytes()),
            _ => {}
        }
    }
    out
}

#[test]
fn hostile_text_blames_nobody_else_and_hides_nobody() {
    let mut rng = Rng::with_seed(SEED);
    let tags: [(&str, &[&str]); 2] =
        [("sshd", &["sshd", "sshd-session", "sshd-auth"]), ("dropbear", &["dropbear"])];
    let (mut total, mut ambiguous) = (0, 0);
    for (rule, programs) in tags {
        let mut detector = Conf::read(rule).detector();
        for n in 0..LINES / tags.len() {
            let tag = programs[rng.usize(..programs.len())];
            let (sure, form) = forms(tag)[rng.usize(..forms(tag).len())];
            let sender = SENDERS[rng.usize(..SENDERS.len())];
            let message = message(&mut rng, tag, form, sender);
            let header = HEADERS[rng.usize(..HEADERS.len())].replace("TAG", tag);
            let line = [header.as_bytes(), &message, b"\n"].concat();
            let got: Vec<IpAddr> = hits(&mut detector, &line).iter().map(|h| h.addr).collect();
            let real = sender.parse::<IpAddr>().unwrap().to_canonical();
            let shown = format_args!("seed {SEED:#x}, {rule} {n}: {}", line.escape_ascii()).to_string();
            assert!(got.iter().all(|addr| *addr == real), "{got:?} {shown}");
            assert!(!sure || got == [real], "hidden: {:?} {shown}", detector.counts());
            total += got.len();
        }
        ambiguous += detector.counts().ambiguous;
    }
    assert!(total > LINES / 2, "{total} hits");
    assert!(ambiguous < 1, "{ambiguous} ambiguous");
}

#[test]
fn newlines_that_got_into_the_log_blame_nobody() {
    // sshd and syslogd encode them. If one does not, what follows is a line without a header.
    let mut rng = Rng::with_seed(SEED);
    let mut detector = Conf::read("sshd").detector();
    for n in 0..5_000 {
        let mut line = b"Nov 22 08:00:01 host sshd[7]: Invalid user x".to_vec();
        for _ in 0..rng.usize(1..4) {
            line.push(b'\n');
            line.extend(whole(&mut rng, "sshd").bytes());
        }
        line.extend_from_slice(b" from 192.0.2.1 port 22\n");
        let got = hits(&mut detector, &line);
        assert!(got.is_empty(), "seed {SEED:#x} {n}: {got:?} {}", line.escape_ascii());
    }
}
