//! Whole sessions: a connection counts as often as a secret was refused in it, at least once.

use super::conf::Conf;
use std::collections::BTreeMap;

/// What the lines count for together, and whether each is a hit.
fn attempts(rule: &str, lines: &[&str]) -> (u32, usize) {
    let program = rule.split('-').next().unwrap();
    let block: String = lines.iter().map(|l| format!("Nov 22 21:41:03 host {program}[7]: {l}\n")).collect();
    let (mut sum, mut count) = (0, 0);
    Conf::normal(rule).detector().block(1, block.as_bytes(), &mut |_, _, hit| {
        assert_eq!(hit.addr.to_string(), "192.0.2.1", "{block}");
        sum += u32::from(hit.weight);
        count += usize::from(!hit.success);
    });
    (sum, count)
}

const KEYS_ONLY: &[&str] = &[
    "Received disconnect from 192.0.2.1 port 4711:11: Bye Bye [preauth]",
    "Disconnected from authenticating user root 192.0.2.1 port 4711 [preauth]",
];

#[test]
fn sessions_of_every_openssh() {
    let cases: &[(&str, u32, usize, &[&str])] = &[
        (
            "7.0, unknown user",
            1,
            2,
            &[
                "Invalid user nosuch from 192.0.2.1",
                "input_userauth_request: invalid user nosuch [preauth]",
                "pam_unix(sshd:auth): authentication failure; logname= uid=0 euid=0 tty=ssh ruser= \
                 rhost=192.0.2.1 ",
                "Failed password for invalid user nosuch from 192.0.2.1 port 4711 ssh2",
                "Connection closed by 192.0.2.1 [preauth]",
            ],
        ),
        (
            "7.4, three passwords",
            3,
            3,
            &[
                "Failed password for root from 192.0.2.1 port 4711 ssh2",
                "Failed password for root from 192.0.2.1 port 4711 ssh2",
                "Failed password for root from 192.0.2.1 port 4711 ssh2",
                "Received disconnect from 192.0.2.1 port 4711:11:  [preauth]",
                "Disconnected from 192.0.2.1 port 4711 [preauth]",
                "PAM 2 more authentication failures; logname= uid=0 euid=0 tty=ssh ruser= rhost=192.0.2.1  \
                 user=root",
            ],
        ),
        (
            "7.4, folded by rsyslog",
            4,
            2,
            &[
                "Failed password for root from 192.0.2.1 port 4711 ssh2",
                "message repeated 3 times: [ Failed password for root from 192.0.2.1 port 4711 ssh2]",
                "Connection closed by 192.0.2.1 port 4711 [preauth]",
            ],
        ),
        ("7.9, keys only", 0, 0, KEYS_ONLY),
        (
            "8.4, too many",
            6,
            9,
            &[
                "Invalid user admin from 192.0.2.1 port 4711",
                "Failed password for invalid user admin from 192.0.2.1 port 4711 ssh2",
                "Failed password for invalid user admin from 192.0.2.1 port 4711 ssh2",
                "Failed password for invalid user admin from 192.0.2.1 port 4711 ssh2",
                "Failed password for invalid user admin from 192.0.2.1 port 4711 ssh2",
                "Failed password for invalid user admin from 192.0.2.1 port 4711 ssh2",
                "Failed password for invalid user admin from 192.0.2.1 port 4711 ssh2",
                "error: maximum authentication attempts exceeded for invalid user admin from 192.0.2.1 port \
                 4711 ssh2 [preauth]",
                "Disconnecting invalid user admin 192.0.2.1 port 4711: Too many authentication failures \
                 [preauth]",
            ],
        ),
        (
            "9.2, PAM asks",
            2,
            5,
            &[
                "Invalid user nosuch from 192.0.2.1 port 37058",
                "Postponed keyboard-interactive for invalid user nosuch from 192.0.2.1 port 37058 ssh2 \
                 [preauth]",
                "error: PAM: Authentication failure for illegal user nosuch from 192.0.2.1",
                "Failed keyboard-interactive/pam for invalid user nosuch from 192.0.2.1 port 37058 ssh2",
                "error: PAM: Authentication failure for illegal user nosuch from 192.0.2.1",
                "Failed keyboard-interactive/pam for invalid user nosuch from 192.0.2.1 port 37058 ssh2",
            ],
        ),
        (
            "10.0, not allowed",
            1,
            2,
            &[
                "User daemon from 192.0.2.1 not allowed because listed in DenyUsers",
                "Failed password for invalid user daemon from 192.0.2.1 port 4711 ssh2",
                "Connection closed by invalid user daemon 192.0.2.1 port 4711 [preauth]",
            ],
        ),
        (
            "an honest client with many keys",
            0,
            0,
            &[
                "Failed publickey for alice from 192.0.2.1 port 4711 ssh2: RSA SHA256:AAAA",
                "Failed publickey for alice from 192.0.2.1 port 4711 ssh2: ED25519 SHA256:AAAA",
                "Accepted publickey for alice from 192.0.2.1 port 4711 ssh2: ED25519 SHA256:AAAB",
                "Received disconnect from 192.0.2.1 port 4711:11: disconnected by user",
                "Disconnected from user alice 192.0.2.1 port 4711",
            ],
        ),
        (
            "ssh-keyscan",
            0,
            0,
            &[
                "Unable to negotiate with 192.0.2.1 port 1: no matching host key type found. Their offer: \
                 rsa-sha2-512,rsa-sha2-256,ssh-rsa [preauth]",
                "Unable to negotiate with 192.0.2.1 port 2: no matching host key type found. Their offer: \
                 ecdsa-sha2-nistp256,ecdsa-sha2-nistp384,ecdsa-sha2-nistp521 [preauth]",
                "Unable to negotiate with 192.0.2.1 port 3: no matching host key type found. Their offer: \
                 sk-ssh-ed25519@openssh.com [preauth]",
                "Connection closed by 192.0.2.1 port 4 [preauth]",
            ],
        ),
    ];
    for (name, sum, count, lines) in cases {
        assert_eq!(attempts("sshd", lines), (*sum, *count), "{name}");
    }
    assert_eq!(attempts("sshd-keys", KEYS_ONLY), (1, 2));
}

/// Judges a recorded log and compares with what a count of plain words says. Addresses in it: 127.0.0.1 is
/// the only sender; 198.51.100.9 stands in user names and banners.
fn recorded(rule: &str, log: &str, refused: &[&str], named: &[&str]) {
    let path = format!("{}/tests/logs/{log}", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(&path).unwrap();
    let process = |line: &str| -> u32 {
        line.split_once('[').and_then(|(_, l)| l.split_once(']')).unwrap().0.parse().unwrap()
    };
    let mut want: BTreeMap<u32, u32> = BTreeMap::new();
    let mut least: BTreeMap<u32, u32> = BTreeMap::new();
    for line in text.lines() {
        let message = line.split_once("]: ").unwrap().1;
        let count = u32::from(refused.iter().any(|word| message.starts_with(word)));
        *want.entry(process(line)).or_default() += count;
        if count == 1 || named.iter().any(|word| message.contains(word)) {
            least.insert(process(line), 1);
        }
    }
    for (pid, count) in least {
        want.entry(pid).and_modify(|c| *c = count.max(*c));
    }
    want.retain(|_, count| *count > 0);
    let mut got: BTreeMap<u32, u32> = BTreeMap::new();
    let mut last = None;
    Conf::normal(rule).detector().block(1, text.as_bytes(), &mut |at, line, hit| {
        let number = text[..at].lines().count();
        assert_eq!(text.lines().nth(number).map(str::as_bytes), Some(line), "line {number}");
        assert!(last < Some(number));
        last = Some(number);
        assert_eq!(hit.addr.to_string(), "127.0.0.1", "{}", line.escape_ascii());
        *got.entry(process(std::str::from_utf8(line).unwrap())).or_default() += u32::from(hit.weight);
    });
    assert!(want.len() > 20, "{log}");
    assert_eq!(got, want, "{log}: attempts by process");
}

#[test]
fn a_recorded_log_of_openssh() {
    recorded(
        "sshd",
        "openssh-9.2.log",
        &["Failed password", "error: PAM: Authentication failure"],
        &["Invalid user", "by invalid user"],
    );
    recorded(
        "sshd-keys",
        "openssh-9.2.log",
        &[],
        &[
            "not allowed because",
            "authenticating user",
            "no matching key exchange",
            "no matching cipher",
            "banner exchange",
            "code incorrect",
        ],
    );
}

#[test]
fn a_recorded_log_of_dropbear() {
    recorded("dropbear", "dropbear-2022.83.log", &["Bad password"], &["Exit before auth"]);
}

/// An unknown name and its passwords are one way to fail, in whichever order the patterns stand.
#[test]
fn what_accompanies_an_attempt_is_no_other_way() {
    let mut detector = Conf::normal("sshd").detector();
    let mut ways = Vec::new();
    for message in [
        "Invalid user nosuch from 192.0.2.1 port 4711",
        "Failed password for invalid user nosuch from 192.0.2.1 port 4711 ssh2",
        "Connection closed by invalid user nosuch 192.0.2.1 port 4711 [preauth]",
    ] {
        let line = format!("Nov 22 21:41:03 host sshd[130]: {message}\n");
        detector.block(mef::detect::RuleBits::MAX, line.as_bytes(), &mut |_, _, hit| ways.push(hit.way));
    }
    assert_eq!(ways, [0, 0, 0]);
}
