#![forbid(unsafe_code)]
//! Whether a message was written by whom it names: spec/03, "the sender must be trustworthy". Anybody can write any
//! name into a log; what the kernel says about the sender decides.

use crate::detect::{Rule, chosen};
use crate::input::Record;

/// Letters that the name of a unit and that of its program share at least.
const ALIKE: usize = 3;

/// Those of the `wanted` rules that may judge the record. `any` says which rules take records from any sender.
pub(super) fn believed(rules: &[Rule], wanted: u64, record: &Record<'_>, any: &dyn Fn(u16) -> bool) -> u64 {
    let Some(sender) = &record.sender else { return wanted };
    let unit = !sender.uid.is_none_or(is_person) && is_kin(service(sender.unit), record.program);
    let mut believed = wanted;
    for (index, rule) in chosen(rules, wanted) {
        // Whoever runs in a unit of the system was started by it: its user is the service's own, unless the service lets
        // people in, as sshd without sessions does. Without a unit only root is believed.
        let comm =
            || rule.programs.iter().any(|p| p.fits(sender.comm)) || is_kin(sender.comm, record.program);
        if !(any(index.into()) || unit || sender.uid == Some(0) && comm()) {
            believed &= !(1 << index);
        }
    }
    believed
}

/// The name of a unit that the system's service manager runs: `ssh.service` is `ssh`, `postfix@-.service` is `postfix`.
/// Empty for those of users, and for everything that is no service.
fn service(unit: &[u8]) -> &[u8] {
    let name = unit.strip_suffix(b".service").unwrap_or_default();
    let name = name.split(|&b| b == b'@').next().unwrap_or_default();
    if name == b"user" { b"" } else { name }
}

/// Whether a user is a person, not a service: as journald, which keeps a journal of its own for each person, draws the line
/// (system users to 999; 61184 to 65519 are lent to services; nobody).
fn is_person(uid: u32) -> bool {
    !matches!(uid, 0..=999 | 61_184..=65_519 | 65_534)
}

/// Whether one name begins with the other: `ssh` and `sshd`, `postfix` and `postfix/smtpd`, `mariadb` and `mariadbd`.
pub(super) fn is_kin(a: &[u8], b: &[u8]) -> bool {
    a.len().min(b.len()) >= ALIKE && (a.starts_with(b) || b.starts_with(a))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detect::Program;
    use crate::input::{Sender, Written};

    fn rule(programs: &str) -> Rule {
        let programs = programs.split(',').map(Program::new).collect();
        Rule {
            name: "r".into(),
            programs,
            fail: Vec::new(),
            ignore: Vec::new(),
            success: Vec::new(),
            webscan: None,
        }
    }

    #[test]
    fn only_the_service_itself_is_believed() {
        type Case = (&'static str, &'static str, &'static str, Option<u32>, &'static str, &'static str, bool);
        let cases: &[Case] = &[
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
            ("nothing known", "sshd", "sshd", None, "", "", false),
            ("no user known", "sshd", "sshd", None, "sshd", "", false),
            ("short names", "s", "s", Some(5), "s", "s.service", false),
        ];
        for (name, programs, program, uid, comm, unit, want) in cases {
            let sender = Sender { uid: *uid, comm: comm.as_bytes(), unit: unit.as_bytes() };
            let mut record = Record {
                program: program.as_bytes(),
                pid: None,
                message: b"",
                sender: Some(sender),
                written: Written::Live,
            };
            let rules = [rule(programs), rule(programs)];
            assert_eq!(believed(&rules, 0b11, &record, &|r| r == 1), 0b10 | u64::from(*want), "{name}");
            assert_eq!(believed(&rules, 0b01, &record, &|_| false), u64::from(*want), "{name}");
            record.sender = None;
            assert_eq!(believed(&rules, 0b11, &record, &|_| false), 0b11, "{name}: the source knows");
        }
    }
}
