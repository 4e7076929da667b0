#![forbid(unsafe_code)]
//! `mefctl status` and `fix`: what rotates the ban log, so that it does not fill the disk.

use crate::applet::output::{Output, OutputError, failed};
use crate::base::webscan::fits;
use crate::config::Settings;
use crate::setup::{Root, shipped_text};
use std::fs;
use std::path::{Path, PathBuf};

const CONF: &str = "/etc/logrotate.conf";
const DIR: &str = "/etc/logrotate.d";
/// The file of ours, as it ships; what in it is different elsewhere; and where it stands then: what a set-up
/// has written stays as it is.
const OURS: &str = "/etc/logrotate.d/mef";
const OWN: &str = "/etc/logrotate.d/mef-bans";
const SHIPPED: [&str; 2] = ["/var/log/mef.log", "/usr/sbin/mef reload"];

/// The file of logrotate that is about a log.
fn rotated_by(log: &str) -> Option<PathBuf> {
    let entries = fs::read_dir(DIR).into_iter().flatten().flatten();
    let mut files: Vec<PathBuf> =
        entries.map(|entry| entry.path()).filter(|path| !is_passed_over(path)).collect();
    files.sort();
    files.push(CONF.into());
    files.into_iter().find(|path| fs::read(path).is_ok_and(|text| names(&text, log)))
}

/// Whether logrotate does not read a file for its name (tabooext).
fn is_passed_over(path: &Path) -> bool {
    const ENDINGS: [&str; 12] = [
        ".bak",
        ".cfsaved",
        ".disabled",
        ".new",
        ".old",
        ".orig",
        ".rej",
        ".rpmnew",
        ".rpmorig",
        ".rpmsave",
        ".swp",
        "~",
    ];
    let name = path.to_string_lossy();
    name.contains(".dpkg-") || name.contains(".ucf-") || ENDINGS.iter().any(|end| name.ends_with(end))
}

/// Whether a file of logrotate names a log. Its `*` does not reach into other directories.
fn names(text: &[u8], log: &str) -> bool {
    let depth = |path: &[u8]| path.iter().filter(|&&b| b == b'/').count();
    text.split(|&b| b == b'\n').filter(|line| !line.trim_ascii_start().starts_with(b"#")).any(|line| {
        // What stands in quotes may have blanks.
        let quoted = line.split(|&b| b == b'"').skip(1).step_by(2);
        let words = line.split(|b| b" \t{\"'".contains(b)).chain(quoted);
        words
            .filter(|word| word.starts_with(b"/"))
            .any(|word| fits(word, log.as_bytes()) && depth(word) == depth(log.as_bytes()))
    })
}

/// Says what rotates the ban log, if there is one; whether all is well.
pub(super) fn tell(settings: &Settings, output: &mut Output<'_>) -> Result<bool, OutputError> {
    let log = &settings.ban_log_path;
    if !settings.ban_log_enabled {
        return Ok(true);
    }
    let by = rotated_by(log);
    match &by {
        Some(file) => writeln!(output.out, "log rotation  ok: {log} by {}", file.to_string_lossy())?,
        None => writeln!(output.out, "log rotation  missing: {log} grows (mefctl fix all)")?,
    }
    Ok(by.is_some())
}

/// Has logrotate rotate the ban log, if it does not yet.
pub(super) fn mend(settings: &Settings, output: &mut Output<'_>) -> Result<(), OutputError> {
    let log = &settings.ban_log_path;
    if !settings.ban_log_enabled || rotated_by(log).is_some() {
        return Ok(());
    }
    if !Path::new(DIR).is_dir() {
        return Err(OutputError::Failed(format!("{DIR}: no such directory: {log} grows without logrotate")));
    }
    let program = std::env::current_exe().map_err(failed)?;
    let reload = if program.ends_with("mefctl") { " reload mefdaemon" } else { " reload" };
    let reload = [&*program.to_string_lossy(), reload].concat();
    let [shipped_log, shipped_reload] = SHIPPED;
    let text = shipped_text(OURS).replace(shipped_log, &["\"", log, "\""].concat());
    let text = text.replace(shipped_reload, &reload);
    let root = Root::new(Path::new("/"));
    root.write(OWN, text.as_bytes(), 0o644).map_err(|e| failed(format!("{OWN}: {e}")))?;
    writeln!(output.out, "{OWN} rotates {log}")?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shipped_file_has_what_is_replaced() {
        let text = shipped_text(OURS);
        assert!(SHIPPED.iter().all(|part| text.matches(part).count() == 1), "{text}");
        assert!(names(text.as_bytes(), "/var/log/mef.log"));
    }

    #[test]
    fn files_that_logrotate_does_not_read_rotate_nothing() {
        for (name, want) in [("mef", false), ("mef.new", true), ("mef.dpkg-old", true), ("mef~", true)] {
            assert_eq!(is_passed_over(&Path::new(DIR).join(name)), want, "{name}");
        }
        assert!(names(b"\"/srv/a b/c.log\" {\n", "/srv/a b/c.log"));
    }

    #[test]
    fn a_log_is_named_by_path_or_pattern() {
        for (text, want) in [
            ("/var/log/mef.log {\n", true),
            ("/var/log/a.log /var/log/mef.log\n{\n", true),
            ("\"/var/log/mef.log\"{\n", true),
            ("\"/var/log/a b\" \"/var/log/mef.log\"{\n", true),
            ("/var/log/*.log {\n", true),
            ("# /var/log/mef.log\n", false),
            ("/var/log/mef.log.old {\n", false),
            ("/var/*.log {\n", false),
            ("include /etc/logrotate.d\n", false),
        ] {
            assert_eq!(names(text.as_bytes(), "/var/log/mef.log"), want, "{text}");
        }
    }
}
