#![forbid(unsafe_code)]
//! Which rules with `enabled=auto` have something to do on this host: those whose own log file is here, or
//! whose program is installed. Only asks whether paths exist, so that rules of services that nobody runs cost
//! nothing. Must not know patterns, nor what becomes of a rule.

use crate::config::{Enabled, ServiceRule, Source};
use crate::input::glob::Glob;
use crate::sys::fs;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;

/// Files that a syslog daemon writes, by their names. What is in them is in the journal, too; that they exist
/// says nothing about a service.
const OF_SYSLOG: [&str; 12] = [
    "auth.log",
    "secure",
    "messages",
    "syslog",
    "mail.log",
    "mail.err",
    "mail.warn",
    "maillog",
    "daemon.log",
    "user.log",
    "kern.log",
    "cron.log",
];

/// Where programs are, by what stands before and behind a name. Some services are only known by a directory
/// of their own below lib, or by a unit.
const PROGRAMS: [[&str; 2]; 13] = [
    ["/usr/sbin/", ""],
    ["/usr/bin/", ""],
    ["/sbin/", ""],
    ["/bin/", ""],
    ["/usr/local/sbin/", ""],
    ["/usr/local/bin/", ""],
    ["/usr/libexec/", ""],
    ["/usr/lib/", ""],
    ["/opt/", ""],
    ["/etc/init.d/", ""],
    ["/etc/systemd/system/", ".service"],
    ["/usr/lib/systemd/system/", ".service"],
    ["/lib/systemd/system/", ".service"],
];

/// Directories that a wildcard may lead through; more are not looked at.
const NAMES_MAX: usize = 1000;

/// Whether a syslog daemon writes this file, judged by its name.
#[must_use]
pub fn of_syslog(file: &str) -> bool {
    OF_SYSLOG.iter().any(|name| file.rsplit('/').next() == Some(name))
}

/// Whether a rule is on here, and what decided it, for people: `enabled=true`, or `auto` and there is what it
/// reads.
#[must_use]
pub fn on(rule: &ServiceRule) -> (bool, String) {
    let found = match rule.enabled {
        Enabled::False => return (false, "enabled=false".to_owned()),
        _ if rule.is_of_other_modes() => return (false, "each failregex= is for another mode=".to_owned()),
        Enabled::True => return (true, "enabled=true".to_owned()),
        Enabled::Auto => found(rule),
    };
    match found {
        Some(what) => (true, ["found ", &what.to_string_lossy()].concat()),
        None => (false, "found neither a file nor a program of it".to_owned()),
    }
}

/// What of a rule's files and programs is on this host.
fn found(rule: &ServiceRule) -> Option<PathBuf> {
    let files = matches!(rule.source, Source::File | Source::Auto);
    // With programs, a file that all of them share is no sign of this one.
    let own = |file: &&String| files && (rule.programs.is_empty() || !of_syslog(file));
    if let Some(path) = rule.files.iter().filter(own).find_map(|file| existing(file)) {
        return Some(path);
    }
    if !rule.programs.is_empty() {
        return rule.programs.iter().find_map(|name| installed(name));
    }
    // The kernel's log, a command, the messages of any program.
    (!files).then(|| PathBuf::from(rule.source.word()))
}

/// Where the program of a name or wildcard of `programs` is: `postfix/*` by the name postfix. What is only a
/// wildcard could be anything.
fn installed(name: &str) -> Option<PathBuf> {
    let stem = name.split(['*', '?', '/', '[']).next().unwrap_or("");
    if stem.is_empty() {
        return Some(PathBuf::from(name));
    }
    PROGRAMS.iter().map(|[dir, end]| PathBuf::from([dir, stem, end].concat())).find(|path| path.exists())
}

/// A file that fits a path with wildcards.
fn existing(file: &str) -> Option<PathBuf> {
    let mut left = NAMES_MAX;
    below(&Glob::parse(file.as_bytes()).ok()?, 0, PathBuf::from("/"), &mut left)
}

/// What below `dir` fits the components of `glob` from `depth` on.
fn below(glob: &Glob, mut depth: usize, mut dir: PathBuf, left: &mut usize) -> Option<PathBuf> {
    while depth < glob.depth() {
        let Some(name) = glob.plain(depth) else {
            let mut found = None;
            let each = &mut |name: &[u8]| {
                if found.is_none() && *left > 0 && glob.fits(depth, name) {
                    *left -= 1;
                    found = below(glob, depth + 1, dir.join(OsStr::from_bytes(name)), left);
                }
            };
            // A directory that is missing or not to be read holds no log either.
            let _ = fs::each_name(&dir, each);
            return found;
        };
        dir.push(name);
        depth += 1;
    }
    dir.exists().then_some(dir)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::parse_service;
    use std::path::Path;

    /// Whether a rule of these lines is on; DIR stands for a directory with `here.log` and `sub/access.log`.
    fn is_on(lines: &str, dir: &Path) -> (bool, String) {
        let lines = lines.replace("DIR", &dir.to_string_lossy());
        let (rule, problems) = parse_service("x", format!("[rule]\nfailregex=<HOST>\n{lines}").as_bytes());
        on(&rule.unwrap_or_else(|| panic!("{lines}: {problems:?}")))
    }

    #[test]
    fn what_is_here_is_on() {
        let dir = std::env::temp_dir().join(format!("mef-here-{}", std::process::id()));
        std::fs::create_dir_all(dir.join("sub")).unwrap();
        for file in ["here.log", "auth.log", "sub/access.log"] {
            std::fs::write(dir.join(file), "").unwrap();
        }
        let cases = [
            ("enabled=auto\nfiles=DIR/here.log", true),
            ("enabled=auto\nfiles=DIR/no.log", false),
            ("enabled=auto\nfiles=DIR/no.log,DIR/here.log", true),
            ("enabled=auto\nfiles=DIR/*/acc*.log", true),
            ("enabled=auto\nfiles=DIR/*/err*.log", false),
            ("enabled=auto\nfiles=DIR/[h]ere.log", true),
            ("enabled=auto\nfiles=DIR/auth.log", true),
            ("enabled=true\nfiles=DIR/no.log", true),
            ("files=DIR/no.log", true),
            ("enabled=false\nfiles=DIR/here.log", false),
            // Everybody's file is no sign of one program.
            ("enabled=auto\nprograms=no-such-program\nfiles=DIR/auth.log", false),
            ("enabled=auto\nprograms=no-such-program\nfiles=DIR/here.log", true),
            ("enabled=auto\nprograms=no-such-program,sh\nfiles=DIR/auth.log", true),
            ("enabled=auto\nprograms=no-such-program", false),
            ("enabled=auto\nprograms=sh", true),
            ("enabled=auto\nprograms=sh/*", true),
            ("enabled=auto\nprograms=*", true),
            ("enabled=auto\nprograms=sh\nsource=journal", true),
            ("enabled=auto\nprograms=no-such-program\nsource=journal\nfiles=DIR/here.log", false),
            ("enabled=auto\nsource=kmsg", true),
        ];
        for (lines, want) in cases {
            assert_eq!(is_on(lines, &dir).0, want, "{lines}");
        }
        let why = |lines| is_on(lines, &dir).1;
        assert_eq!(
            why("enabled=auto\nfiles=DIR/*/acc*.log"),
            format!("found {}/sub/access.log", dir.display())
        );
        assert_eq!(why("enabled=auto\nfiles=DIR/no.log"), "found neither a file nor a program of it");
        assert!(why("enabled=auto\nprograms=sh").ends_with("/bin/sh"));
        assert_eq!(
            (why("programs=x").as_str(), why("enabled=false\nprograms=x").as_str()),
            ("enabled=true", "enabled=false")
        );
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
