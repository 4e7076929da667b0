#![forbid(unsafe_code)]
//! Whether a message was written by whom it names: spec/03, "the sender must be trustworthy". Anybody can
//! write any name into a log; what the kernel says about the sender decides.

use crate::base::rule_bits::RuleBits;
use crate::base::user::is_person;
use crate::detect::{DetectRule, chosen};
use crate::input::LogRecord;

/// Letters that the name of a unit and that of its program share at least.
const ALIKE: usize = 3;

/// Services that let people in: a system user in their unit may be anybody who has logged in as that.
const LETS_IN: [&[u8]; 4] = [b"ssh", b"sshd", b"dropbear", b"telnetd"];

/// Those of the `wanted` rules that may judge the record. `any` says which rules take records from any
/// sender.
pub(super) fn believed(
    rules: &[DetectRule],
    wanted: RuleBits,
    record: &LogRecord<'_>,
    any: &dyn Fn(u16) -> bool,
) -> RuleBits {
    let Some(sender) = &record.sender else { return wanted };
    let unit = service(sender.unit);
    let system = !sender.uid.is_none_or(is_person);
    let root = sender.uid == Some(0);
    // Whoever runs in the service's own unit was started by it.
    let own = system && is_own(unit, record.program) && (root || !LETS_IN.contains(&unit));
    // Without a unit, as inetd starts services on other systems, or in the session to which sshd moves its
    // processes. Any other unit or group, a container's above all, is somebody else, even if that is called
    // root there.
    let placeless = root && (sender.unit.is_empty() || is_session(sender.unit));
    // Of units with a longer name the program has to be the service: nginx-exporter.service does not speak
    // for nginx.
    let longer = system && is_kin(unit, record.program) && (root || !LETS_IN.contains(&unit));
    let mut believed = wanted;
    for (index, rule) in chosen(rules, wanted) {
        let comm =
            || rule.programs.iter().any(|p| p.fits(sender.comm)) || is_kin(sender.comm, record.program);
        if !(any(index.into()) || own || (placeless || longer) && comm()) {
            believed &= !(1 << index);
        }
    }
    believed
}

/// Whether a unit is that of the program: `ssh` of `sshd` and `sshd-session`, `postfix` of `postfix/smtpd`,
/// `exim4` of `exim`, `postgresql` of `postgres`.
fn is_own(unit: &[u8], program: &[u8]) -> bool {
    let part = |rest: &[u8]| {
        let rest = rest.strip_prefix(b"d").unwrap_or(rest);
        matches!(rest, [] | [b'/' | b'-', ..])
    };
    let added = |rest: &[u8]| rest == b"d" || rest == b"ql" || rest.iter().all(u8::is_ascii_digit);
    let kin = is_kin(unit, program);
    kin && (program.strip_prefix(unit).is_some_and(part) || unit.strip_prefix(program).is_some_and(added))
}

/// The scope of a log-in, such as `session-3.scope`.
fn is_session(unit: &[u8]) -> bool {
    let name = unit.strip_prefix(b"session-").and_then(|rest| rest.strip_suffix(b".scope"));
    name.is_some_and(|name| !name.is_empty() && name.iter().all(u8::is_ascii_alphanumeric))
}

/// The name of a unit that the system's service manager runs: `ssh.service` is `ssh`, `postfix@-.service` is
/// `postfix`. Empty for those of users, and for everything that is no service.
fn service(unit: &[u8]) -> &[u8] {
    let name = unit.strip_suffix(b".service").unwrap_or_default();
    let name = name.split(|&b| b == b'@').next().unwrap_or_default();
    if name == b"user" { b"" } else { name }
}

/// Whether one name begins with the other: `ssh` and `sshd`, `postfix` and `postfix/smtpd`, `mariadb` and
/// `mariadbd`.
pub(super) fn is_kin(a: &[u8], b: &[u8]) -> bool {
    a.len().min(b.len()) >= ALIKE && (a.starts_with(b) || b.starts_with(a))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detect::Program;
    use crate::input::{Sender, Written};

    fn rule(programs: &str) -> DetectRule {
        let programs = programs.split(',').map(Program::new).collect();
        DetectRule {
            name: "r".into(),
            headless: false,
            programs,
            fail: Vec::new(),
            ignore: Vec::new(),
            success: Vec::new(),
            webscan: None,
        }
    }

    #[test]
    fn only_the_service_itself_is_believed() {
        type TrustCase =
            (&'static str, &'static str, &'static str, Option<u32>, &'static str, &'static str, bool);
        let cases: &[TrustCase] = &[
            ("sshd", "sshd", "sshd", Some(0), "sshd", "ssh.service", true),
            ("sshd of inetd", "sshd", "sshd", Some(0), "sshd", "", true),
            ("a part of sshd", "sshd", "sshd-session", Some(0), "sshd-session", "ssh.service", true),
            ("in a session", "sshd", "sshd-session", Some(0), "sshd-session", "session-3.scope", true),
            ("a socket's instance", "sshd", "sshd", Some(0), "sshd", "sshd@7-10.0.0.1:22.service", true),
            (
                "a service's own user",
                "mariadbd,mysqld",
                "mariadbd",
                Some(105),
                "mariadbd",
                "mariadb.service",
                true,
            ),
            (
                "a part with a name of its own",
                "postfix/*",
                "postfix/smtpd",
                Some(104),
                "smtpd",
                "postfix@-.service",
                true,
            ),
            ("a thread", "dovecot", "dovecot", Some(0), "auth", "dovecot.service", true),
            ("logger of a user", "sshd", "sshd", Some(1000), "logger", "session-3.scope", false),
            ("a user's program called sshd", "sshd", "sshd", Some(1000), "sshd", "session-3.scope", false),
            ("a user's service", "sshd", "sshd", Some(1000), "sshd", "user@1000.service", false),
            ("a user's service, any program", "*", "user", Some(1000), "user", "user@1000.service", false),
            ("a shell without a session", "sshd", "sshd", Some(1000), "sshd", "ssh.service", false),
            ("a lent user", "app", "app", Some(61_200), "app", "app.service", true),
            ("another service", "sshd", "sshd", Some(33), "sshd", "apache2.service", false),
            ("root's logger", "sshd", "sshd", Some(0), "logger", "cron.service", false),
            ("a container's root", "sshd", "sshd", Some(0), "sshd", "docker-0123.scope", false),
            ("root of a container without a unit", "sshd", "sshd", Some(0), "sshd", "?", false),
            ("the same, any program", "*", "?", Some(0), "?", "?", false),
            ("another container's root", "sshd", "sshd", Some(0), "sshd", "machine-web.scope", false),
            (
                "a container that is a service",
                "sshd",
                "sshd",
                Some(0),
                "sshd",
                "systemd-nspawn@web.service",
                false,
            ),
            ("root of another service", "sshd", "sshd", Some(0), "sshd", "cron.service", false),
            ("root's own manager", "sshd", "sshd", Some(0), "sshd", "user@0.service", false),
            ("a system user who has logged in", "sshd", "sshd", Some(33), "sshd", "ssh.service", false),
            ("a system user's session", "sshd", "sshd", Some(33), "sshd", "session-4.scope", false),
            ("a scope like a session", "sshd", "sshd", Some(0), "sshd", "session-x/../y.scope", false),
            (
                "what watches a service",
                "nginx",
                "nginx",
                Some(33),
                "nginx-exporter",
                "nginx-exporter.service",
                true,
            ),
            (
                "what watches, another program",
                "nginx",
                "nginx",
                Some(33),
                "sh",
                "nginx-exporter.service",
                false,
            ),
            (
                "a longer name of a unit",
                "openvpn",
                "openvpn",
                Some(105),
                "openvpn",
                "openvpn-server@a.service",
                true,
            ),
            ("another version", "exim", "exim", Some(105), "exim4", "exim4.service", true),
            (
                "a cluster of databases",
                "postgres",
                "postgres",
                Some(105),
                "postgres",
                "postgresql@15-main.service",
                true,
            ),
            ("nothing known", "sshd", "sshd", None, "", "", false),
            ("no user known", "sshd", "sshd", None, "sshd", "", false),
            ("short names", "s", "s", Some(5), "s", "s.service", false),
        ];
        for (name, programs, program, uid, comm, unit, want) in cases {
            let sender = Sender { uid: *uid, comm: comm.as_bytes(), unit: unit.as_bytes() };
            let mut record = LogRecord {
                program: program.as_bytes(),
                pid: None,
                message: b"",
                sender: Some(sender),
                written: Written::Live,
            };
            let rules = [rule(programs), rule(programs)];
            assert_eq!(believed(&rules, 0b11, &record, &|r| r == 1), 0b10 | RuleBits::from(*want), "{name}");
            assert_eq!(believed(&rules, 0b01, &record, &|_| false), RuleBits::from(*want), "{name}");
            record.sender = None;
            assert_eq!(believed(&rules, 0b11, &record, &|_| false), 0b11, "{name}: the source knows");
        }
    }
}
