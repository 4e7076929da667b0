#![forbid(unsafe_code)]
//! What the daemon gives up before it reads the first line that others wrote: the whole sequence, in its
//! order. Each step is final, and a kernel that lacks one costs that step only. What is kept is said here,
//! with the reason; that it is enough for whatever a reload may bring is the caller's to know.

use super::guarded::{HOST, read, unguarded};
use super::programs;
use crate::base::build_part::BuildPart;
use crate::base::bytes::of_path;
use crate::config::{Confine, Enabled, Loaded, Settings, Source, is_ours};
use crate::lists::{Gone, Paths, hosts};
use crate::sys::alloc::with_arena;
use crate::sys::capability::{self, Capability};
use crate::sys::child::Identity;
use crate::sys::fs::invalid;
use crate::sys::handover::{hand_over, hand_over_file};
use crate::sys::landlock::{Beside, FileRights, Ruleset};
use crate::sys::runner;
use crate::sys::seccomp::{self, Sockets};
use crate::sys::user::{self, ROOT as ROOT_USER};
use crate::trial::Saved;
use nix::errno::Errno;
use std::io;
use std::path::{Path, PathBuf};

/// As whom it runs, if there is such a user.
const USER: &str = "mef";
/// What holds where there are two processes.
const APART: &str = "logs read by a process of its own";
/// The port of name servers.
const DNS: u16 = 53;

/// That the sequence was gone through: without it there is no loop. What holds, and what does not.
#[derive(Clone)]
pub struct Confined {
    level: Confine,
    holds: Vec<String>,
    missing: Vec<String>,
    /// What was kept: what is more has to wait for a restart.
    kept: Option<Needs>,
}

/// Which of the two processes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum ProcessKind {
    /// It bans.
    Enforcer,
    /// It reads lines.
    Observer,
}

/// What the configuration needs of what could be given up.
#[derive(Clone)]
struct Needs {
    capabilities: Vec<Capability>,
    sockets: Sockets,
    /// TCP ports of others.
    ports: Vec<u16>,
    /// What is read, beside what anybody may read.
    read: Vec<PathBuf>,
    /// Directories of ours.
    own: [PathBuf; 2],
    /// The ban log.
    log: Option<PathBuf>,
    kmsg: bool,
    backend: BackendPrograms,
}

/// Whether the backend is one that runs programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BackendPrograms {
    /// It does.
    Run,
    /// The kernel is enough for it.
    None,
}

/// Gives up what `confine=` says; who runs others' programs begins before that.
pub fn enter(conf: &Path, loaded: &Loaded, backend: BackendPrograms) -> Confined {
    let level = loaded.settings.confine;
    let mut first = Confined { level, holds: Vec::new(), missing: Vec::new(), kept: None };
    if level != Confine::Off {
        first.programs(conf, loaded, backend);
    }
    // A copy, among what stays: what it takes to find out passes.
    let confined = with_arena(|| first.enter(conf, loaded, backend)).clone();
    confined.log();
    confined
}

impl Confined {
    fn enter(mut self, conf: &Path, loaded: &Loaded, backend: BackendPrograms) -> Confined {
        if self.level == Confine::Off {
            return self;
        }
        let needs = Needs::of(conf, loaded, backend);
        self.bounding_set();
        self.user(&needs);
        self.capabilities(&needs.capabilities);
        self.no_new_privileges();
        if self.level == Confine::Full {
            self.files(&needs);
            // The last one: it refuses the calls of all others.
            self.system_calls(&needs);
        }
        if self.is_apart() {
            self.holds.push(APART.to_owned());
        }
        self.kept = Some(needs);
        self
    }

    /// What is configured to be run is run by a process that gives up nothing.
    fn programs(&mut self, conf: &Path, loaded: &Loaded, backend: BackendPrograms) {
        self.missing.extend(programs::open(conf, loaded, backend));
        runner::confine();
    }

    /// Nothing that is ever started from here has a capability. As a service of systemd there is nothing in
    /// the set but what is kept.
    fn bounding_set(&mut self) {
        let _ = capability::empty_bounding_set();
    }

    /// Nothing of root's can be written any more, whatever else the kernel lacks. Without such a user it
    /// stays root, to whom the directories then belong.
    fn user(&mut self, needs: &Needs) {
        if !user::is_root() {
            return;
        }
        let Some(to) = user::find(USER).filter(|user| user.user != 0) else {
            let _ = needs.hand_over(ROOT_USER);
            return;
        };
        // Without it another user would read less than root does.
        let done = match capability::has(capability::DAC_READ_SEARCH) {
            true => needs.hand_over(to).and_then(|()| Ok(user::become_user(to)?)),
            false => Err(invalid("no capability dac_read_search")),
        };
        match done {
            Ok(()) => self.holds.push(["user ", USER].concat()),
            Err(e) => {
                let _ = needs.hand_over(ROOT_USER);
                self.missing.push(format!("user {USER} ({e})"));
            }
        }
    }

    fn capabilities(&mut self, needed: &[Capability]) {
        let done = capability::keep_only(needed);
        let kept: Vec<&str> = needed.iter().filter(|c| capability::has(**c)).map(|c| c.name).collect();
        self.step(done, &["capabilities ", &kept.join(" ")].concat(), "capabilities");
    }

    fn no_new_privileges(&mut self) {
        let done = nix::sys::prctl::set_no_new_privs();
        self.step(done, "no new privileges", "no_new_privs");
    }

    fn files(&mut self, needs: &Needs) {
        let done = needs.files(ProcessKind::Enforcer);
        self.landlock(done);
    }

    fn system_calls(&mut self, needs: &Needs) {
        self.step(seccomp::enforce(needs.sockets), "system calls (seccomp)", "seccomp");
    }

    /// Lines are read by the process that bans after all.
    pub(super) fn set_together(&mut self) {
        self.holds.retain(|what| what != APART);
        self.missing.push(APART.to_owned());
    }

    /// Whether lines are read by a process of their own.
    pub(super) fn is_apart(&self) -> bool {
        BuildPart::Observer.is_in() && self.level == Confine::Full
    }

    /// Gives up, in the process that reads lines, all that only the other one needs: what is left is to read.
    /// It was forked from that one, and has lost what that has.
    pub fn observe(&self) -> Confined {
        let mut own = Confined { level: self.level, holds: Vec::new(), missing: Vec::new(), kept: None };
        let Some(needs) = &self.kept else {
            own.missing.push("all of it".to_owned());
            return own;
        };
        own.capabilities(&needs.observed());
        let read = needs.files(ProcessKind::Observer);
        own.landlock(read);
        own.step(seccomp::enforce_observed(), "system calls (seccomp)", "seccomp");
        own.beside(self);
        own.log();
        own
    }

    /// What is missing to `first`, too, is what the kernel lacks, and was told.
    fn beside(&mut self, first: &Confined) {
        self.missing.retain(|what| !first.missing.contains(what));
    }

    /// Whether nothing is missing.
    pub(super) fn is_whole(&self) -> bool {
        self.missing.is_empty()
    }

    fn landlock(&mut self, done: Result<u32, Errno>) {
        match done {
            Ok(version) => self.holds.push(format!("files (Landlock {version})")),
            Err(e) => self.step(Err(e), "", "Landlock"),
        }
    }

    fn step(&mut self, done: Result<(), Errno>, what: &str, name: &str) {
        match done {
            Ok(()) => self.holds.push(what.to_owned()),
            Err(Errno::ENOSYS | Errno::EOPNOTSUPP | Errno::EINVAL) => {
                self.missing.push([name, " (not in this kernel)"].concat());
            }
            Err(e) => self.missing.push(format!("{name} ({})", crate::sys::strerror(e))),
        }
    }

    fn log(&self) {
        if !self.missing.is_empty() {
            log::warn!("confine={}: without {}", self.level.word(), self.missing.join(", "));
        }
    }

    /// Has programs run as a new configuration says, and says what else of it takes effect after a restart:
    /// what was given up cannot be had again.
    pub(super) fn configure(&self, conf: &Path, loaded: &Loaded) {
        if loaded.settings.confine != self.level {
            log::warn!("confine={} takes effect after a restart", loaded.settings.confine.word());
        }
        let Some(kept) = &self.kept else { return };
        let needs = Needs::of(conf, loaded, kept.backend);
        let late = |what: &str| log::warn!("{what} only after a restart (confine={})", self.level.word());
        // As whom is known to the process that runs them.
        const HERE: Option<Option<Identity>> = Some(None);
        if runner::is_there() {
            runner::configure(programs::of(loaded, kept.backend, HERE));
        } else if !programs::of(loaded, BackendPrograms::None, HERE).is_empty() {
            late("programs are run");
        }
        for more in needs.capabilities.iter().filter(|c| !kept.capabilities.contains(c)) {
            late(match *more {
                capability::SYSLOG => "the kernel's log is read",
                _ => "a UDP port below 1024 is listened to",
            });
        }
        if self.level != Confine::Full {
            return;
        }
        if needs.sockets.internet && !kept.sockets.internet {
            late("name servers are asked, the cloud is told and UDP is listened to");
        }
        if needs.log.is_some() && needs.log_dir() != kept.log_dir() {
            late("the ban log is written");
        }
        for path in needs.read.iter().filter(|path| !kept.may_read(path)) {
            late(&[&path.to_string_lossy(), ": is read"].concat());
        }
    }

    /// Whether name servers can be asked.
    pub(super) fn may_ask(&self) -> bool {
        self.level != Confine::Full || self.kept.as_ref().is_none_or(|kept| kept.sockets.internet)
    }

    /// What holds, for people.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = self.level.word().to_owned();
        for (before, parts) in [(": ", &self.holds), ("; without ", &self.missing)] {
            if !parts.is_empty() {
                text += &[before, &parts.join(", ")].concat();
            }
        }
        text
    }
}

/// Whether name servers are asked.
pub(super) fn asks(settings: &Settings) -> bool {
    settings.zones_on().next().is_some() || !hosts::hosts(&Paths::of(settings), Gone::Forget).is_empty()
}

impl Needs {
    fn of(conf: &Path, loaded: &Loaded, backend: BackendPrograms) -> Needs {
        let settings = &loaded.settings;
        let on = || loaded.rules.iter().filter(|rule| rule.enabled != Enabled::False);
        let uses = |source| on().any(|rule| rule.source == source);
        // The firewall; logs, whose owners keep them from others.
        let mut capabilities = vec![capability::NET_ADMIN, capability::DAC_READ_SEARCH];
        if uses(Source::Kmsg) {
            // Where the kernel shows its log to nobody else (kernel.dmesg_restrict).
            capabilities.push(capability::SYSLOG);
        }
        let udp = settings.syslog_udp.filter(|_| uses(Source::Syslog));
        if udp.is_some_and(|addr| addr.port() < 1024) {
            capabilities.push(capability::NET_BIND_SERVICE);
        }
        let asks = asks(settings);
        let server = settings.cloud.server.filter(|_| settings.cloud.report);
        Needs {
            capabilities,
            sockets: Sockets { internet: asks || server.is_some() || udp.is_some() },
            ports: [DNS].into_iter().filter(|_| asks).chain(server.map(|addr| addr.port())).collect(),
            read: read(conf, settings, &mut on().flat_map(|rule| &rule.files)),
            own: [PathBuf::from(&settings.state_dir), PathBuf::from(&settings.run_dir)],
            log: settings.ban_log_enabled.then(|| PathBuf::from(&settings.ban_log_path)),
            kmsg: uses(Source::Kmsg),
            backend,
        }
    }

    /// Capabilities of the process that reads lines: to read.
    fn observed(&self) -> Vec<Capability> {
        let reads = [capability::DAC_READ_SEARCH, capability::SYSLOG];
        self.capabilities.iter().copied().filter(|c| reads.contains(c)).collect()
    }

    /// Gives what is written to somebody.
    fn hand_over(&self, to: Identity) -> io::Result<()> {
        for dir in &self.own {
            if !is_ours(&dir.to_string_lossy()) {
                return Err(invalid("state_dir and run_dir must be directories for mef alone"));
            }
            hand_over(dir, to, &Saved::FILES)?;
        }
        // What is wrong with it is told by who writes it.
        let _ = self.log.as_ref().map(|path| hand_over_file(path, to.user));
        Ok(())
    }

    /// Where the ban log is made anew.
    fn log_dir(&self) -> Option<&Path> {
        self.log.as_ref().and_then(|path| path.parent())
    }

    /// Whether what is below the path can be read.
    fn may_read(&self, path: &Path) -> bool {
        self.read.iter().any(|dir| path.starts_with(dir))
    }

    /// Has the kernel refuse all other files to this process; the version of its Landlock.
    fn files(&self, of: ProcessKind) -> Result<u32, Errno> {
        let enforces = of == ProcessKind::Enforcer;
        let abstract_sockets = std::env::var_os("NOTIFY_SOCKET")
            .is_some_and(|place| enforces && of_path(Path::new(&place)).starts_with(b"@"));
        let ports = if enforces { &self.ports[..] } else { &[] };
        let rules = Ruleset::new(Beside { ports, abstract_sockets })?;
        // What is not there cannot be allowed, and needs not be.
        let allow = |path: &Path, what| drop(rules.allow(path, what));
        // Wildcards are looked for everywhere; which files there are is no secret from who may search.
        allow(Path::new("/"), FileRights::Names);
        unguarded(&mut |path| allow(path, FileRights::Read));
        // Interfaces, sockets, limits of the kernel, sessions; of other processes the kernel shows nothing
        // that is theirs alone.
        ["/proc", "/run/log"].iter().chain(&HOST).for_each(|path| allow(Path::new(path), FileRights::Read));
        self.read.iter().for_each(|path| allow(path, FileRights::Read));
        if enforces {
            self.own.iter().for_each(|path| allow(path, FileRights::Own));
            self.log_dir().iter().for_each(|path| allow(path, FileRights::Log));
            allow(Path::new("/dev/null"), FileRights::Write);
        }
        if self.kmsg {
            allow(Path::new("/dev/kmsg"), FileRights::Read);
        }
        let version = rules.version;
        rules.enforce().map(|()| version)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_reads_is_told() {
        let mut confined =
            Confined { level: Confine::Full, holds: vec![APART.to_owned()], missing: Vec::new(), kept: None };
        assert_eq!(confined.text(), "full: logs read by a process of its own");
        confined.set_together();
        assert_eq!(confined.text(), "full; without logs read by a process of its own");
    }

    #[test]
    fn only_what_the_first_process_lacks_may_be_missing_to_the_second() {
        let lacks = |what: &[&str]| Confined {
            level: Confine::Full,
            holds: Vec::new(),
            missing: what.iter().map(|what| (*what).to_owned()).collect(),
            kept: None,
        };
        for (first, second, is_whole) in [
            (&[][..], &[][..], true),
            (&["Landlock (not in this kernel)"], &["Landlock (not in this kernel)"], true),
            (&[], &["Landlock (not in this kernel)"], false),
            (&["user mef (EPERM)"], &["seccomp (EINVAL)"], false),
        ] {
            let mut observer = lacks(second);
            observer.beside(&lacks(first));
            assert_eq!(observer.is_whole(), is_whole, "{first:?} {second:?}");
        }
        // Without what it takes to confine it, nothing is.
        assert!(!lacks(&[]).observe().is_whole());
    }
}
