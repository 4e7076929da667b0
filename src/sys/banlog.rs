#![forbid(unsafe_code)]
//! The ban log: a file with one line for each event, for people and for other programs. Rotation is
//! the business of others: `reopen` follows it.

use super::fs;
use crate::base::clock::{Span, Wall};
use crate::base::line::Line;
use ipnet::IpNet;
use nix::fcntl::OFlag;
use nix::sys::stat::Mode;
use std::fs::File;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BanLogEvent {
    /// An address was banned, for this time.
    Ban(Span),
    /// A ban was taken back before its time.
    Unban,
}

/// One event, as a line tells it.
pub struct BanLogEntry<'a> {
    /// When.
    pub at: Wall,
    /// What.
    pub event: BanLogEvent,
    /// Whom.
    pub net: IpNet,
    /// The service rule, or `manual`.
    pub rule: &'a str,
    /// Hits that led to it.
    pub hits: u32,
    /// Inclusive ranges of ports; empty means all.
    pub ports: &'a [(u16, u16)],
    /// Why, for people; empty if the rule says it all.
    pub reason: &'a str,
    /// Closed ports that a scanner has touched; empty for all others.
    pub seen: &'a [u16],
}

/// How an event is written as a line, without its end.
pub type Describe = fn(&mut Line, &BanLogEntry<'_>) -> std::fmt::Result;

/// The file. What goes wrong with it is said once, and once more when it works again.
pub struct BanLog {
    path: PathBuf,
    describe: Describe,
    file: Option<File>,
    failing: bool,
    /// The last line is not whole: the disk was full.
    torn: bool,
}

impl BanLog {
    /// Opens the file, or makes it for the owner to write and the group to read. Never follows a link.
    #[must_use]
    pub fn open(path: &Path, describe: Describe) -> BanLog {
        let mut this = BanLog { path: path.to_owned(), describe, file: None, failing: false, torn: false };
        this.reopen();
        this
    }

    /// Opens the path anew, for after a rotation. While that fails the old file is kept.
    pub fn reopen(&mut self) {
        match open(&self.path) {
            Ok(file) => {
                self.file = Some(file);
                self.torn = false;
            }
            Err(e) => self.failed(&e),
        }
    }

    /// Appends one line, at once and as a whole.
    pub fn write(&mut self, entry: &BanLogEntry<'_>) {
        if self.file.is_none() {
            self.reopen();
        }
        let Some(file) = self.file.as_mut() else { return };
        let mut line = Line::new();
        // Writing into a line cannot fail.
        let _ = (self.describe)(&mut line, entry);
        let result = if self.torn { file.write_all(b"\n") } else { Ok(()) }.and_then(|()| {
            self.torn = false;
            let bytes = line.with_newline();
            let n = file.write(bytes)?;
            self.torn = n < bytes.len();
            if self.torn { Err(io::Error::from_raw_os_error(libc::ENOSPC)) } else { Ok(()) }
        });
        match result {
            Ok(()) if self.failing => {
                self.failing = false;
                log::info!("{}: the ban log is written again", self.path.to_string_lossy());
            }
            Ok(()) => {}
            Err(e) => self.failed(&e),
        }
    }

    fn failed(&mut self, e: &io::Error) {
        if !self.failing {
            log::warn!(
                "{}: cannot write the ban log: {e}; bans continue without it",
                self.path.to_string_lossy()
            );
        }
        self.failing = true;
    }
}

fn open(path: &Path) -> io::Result<File> {
    // Without O_NONBLOCK a pipe in its place would stop the daemon.
    let how = OFlag::O_WRONLY | OFlag::O_APPEND | OFlag::O_CREAT | OFlag::O_CLOEXEC;
    let flags = how | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
    let file = File::from(nix::fcntl::open(&*fs::c_path(path)?, flags, Mode::from_bits_truncate(0o640))?);
    if fs::facts_of(&file)?.regular { Ok(file) } else { Err(fs::invalid("not a regular file")) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fmt::Write as _;
    use std::os::unix::fs::{PermissionsExt, symlink};

    fn entry(net: &str, event: BanLogEvent) -> BanLogEntry<'static> {
        BanLogEntry {
            at: Wall(1_795_334_401),
            event,
            net: net.parse().unwrap(),
            rule: "sshd",
            hits: 5,
            ports: &[],
            reason: "",
            seen: &[],
        }
    }

    const BAN: BanLogEvent = BanLogEvent::Ban(Span::Secs(3600));
    const LINE: &str = "ban 192.0.2.7/32 sshd\n";

    fn plain(line: &mut Line, entry: &BanLogEntry<'_>) -> std::fmt::Result {
        write!(line, "ban {} {}", entry.net, entry.rule)
    }

    fn dir(name: &str) -> PathBuf {
        let dir = std::env::temp_dir().join(format!("mef-banlog-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&dir);
        std::fs::create_dir_all(&dir).unwrap();
        dir
    }

    #[test]
    fn rotation_is_followed_after_reopen() {
        let dir = dir("rotate");
        let (path, old) = (dir.join("mef.log"), dir.join("mef.log.1"));
        let mut log = BanLog::open(&path, plain);
        log.write(&entry("192.0.2.7/32", BAN));
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o137, 0);
        std::fs::rename(&path, &old).unwrap();
        log.write(&entry("192.0.2.7/32", BAN));
        log.reopen();
        log.write(&entry("192.0.2.7/32", BAN));
        assert_eq!(std::fs::read_to_string(&old).unwrap(), LINE.repeat(2));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), LINE);
        std::fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn links_and_pipes_are_refused_and_a_late_directory_is_found() {
        let dir = dir("refuse");
        let target = dir.join("target");
        symlink(&target, dir.join("link")).unwrap();
        let mut log = BanLog::open(&dir.join("link"), plain);
        log.write(&entry("192.0.2.7/32", BAN));
        assert!(!target.exists() && log.failing && log.file.is_none());
        nix::unistd::mkfifo(&dir.join("pipe"), Mode::S_IRWXU).unwrap();
        assert!(BanLog::open(&dir.join("pipe"), plain).failing);

        let mut log = BanLog::open(&dir.join("later/mef.log"), plain);
        assert!(log.failing);
        std::fs::create_dir(dir.join("later")).unwrap();
        log.write(&entry("192.0.2.7/32", BAN));
        assert!(!log.failing);
        assert_eq!(std::fs::read_to_string(dir.join("later/mef.log")).unwrap(), LINE);
        std::fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn a_full_disk_is_said_once_and_survived() {
        let full = Path::new("/dev/full");
        let file = std::fs::OpenOptions::new().append(true).open(full).unwrap();
        let mut log =
            BanLog { path: full.to_owned(), describe: plain, file: Some(file), failing: false, torn: false };
        log.write(&entry("192.0.2.7/32", BAN));
        log.write(&entry("192.0.2.7/32", BAN));
        assert!(log.failing);
    }
}
