#![forbid(unsafe_code)]
//! The lists of a running daemon: their directories are watched, changes are noticed when a file is complete,
//! and deny lists are loaded by a second process, so that neither time nor memory of this one goes into them.

use crate::ban::{Allowed, Failure};
use crate::base::clock::Mono;
use crate::base::range::Range;
use crate::config::{ListKind, Settings};
use crate::firewall::backend::{Lists as Enforced, View};
use crate::firewall::view;
use crate::lists::hosts::{self, Host};
use crate::lists::{self, Exempt, Gone, ListJob, ListReading, ListTurn, Paths};
use crate::sys::child::{Child, ChildExit};
use crate::sys::fork;
use crate::sys::inotify::{Mask, WatchDescriptor, Watcher};
use crate::sys::{syslog, trim};
use std::os::fd::{AsFd as _, BorrowedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How often everything is looked at when the kernel does not tell, ms.
const POLL: u64 = 10_000;
/// How long a file of an allow list may be gone before that is meant, ms: an editor may be about to bring it
/// back.
const GONE_GRACE: u64 = 2000;
/// Longest wait for a command that changes the allow list: others must not stop us.
pub(super) const LOCK_WAIT_MAX: Duration = Duration::from_millis(200);
/// When its turn was not ours, the list is read again after this, ms.
const RETRY_INTERVAL: u64 = 1000;
/// Names of changed lists that are remembered; of more, all lists are looked at.
const NAMES: usize = 16;

/// A directory of lists.
struct ListPlace {
    kind: ListKind,
    path: PathBuf,
    /// Its watch, while it is there.
    own: Option<WatchDescriptor>,
    /// That of the nearest directory above it that is there.
    above: Option<WatchDescriptor>,
}

/// What is to be loaded.
enum Due {
    Nothing,
    /// The lists of these names.
    Names(Vec<String>),
    All,
}

/// Both kinds of lists.
pub(super) struct ListFollower {
    paths: Paths,
    watcher: Option<Watcher>,
    places: Vec<ListPlace>,
    /// Some watch could not be set: everything is looked at now and then.
    poll_at: Option<Mono>,
    due: Due,
    loader: Option<Child>,
    /// Whom deny lists leave out, if that is known of the last loading.
    exempt: Option<Vec<Range>>,
    /// When the allow list is to be read again.
    again_at: Option<Mono>,
    /// How files were taken that were not there.
    gone: Gone,
}

impl ListFollower {
    /// Begins to watch what the settings name, and to load all deny lists.
    pub(super) fn open(settings: &Settings, now: Mono) -> ListFollower {
        let mut this = ListFollower {
            paths: Paths::of(settings),
            watcher: None,
            places: Vec::new(),
            poll_at: None,
            due: Due::Nothing,
            loader: None,
            exempt: None,
            again_at: None,
            gone: Gone::Forget,
        };
        this.reopen(settings, now);
        this
    }

    /// The same with other settings.
    pub(super) fn reopen(&mut self, settings: &Settings, now: Mono) {
        (self.paths, self.gone) = (Paths::of(settings), Gone::Forget);
        (self.watcher, self.poll_at) = (None, None);
        self.places.clear();
        for (kind, reload) in
            [(ListKind::Allow, settings.whitelist_reload), (ListKind::Deny, settings.blacklist_reload)]
        {
            if reload > 0 {
                let path = self.paths.dir(kind).to_owned();
                self.places.push(ListPlace { kind, path, own: None, above: None });
            }
        }
        if !self.places.is_empty() {
            match Watcher::open() {
                Ok(watcher) => self.watcher = Some(watcher),
                Err(e) => self.blind(&e.to_string(), now),
            }
        }
        self.watch(now);
        // Not yet: the second process would have a copy of all that the configuration was read into.
        self.due = Due::All;
    }

    pub(super) fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.watcher.as_ref().map(|w| w.as_fd())
    }

    /// When everything must be looked at without an event.
    pub(super) fn deadline(&self) -> Option<Mono> {
        let due = (self.loader.is_none() && !matches!(self.due, Due::Nothing)).then(Mono::default);
        [due, self.poll_at, self.again_at].into_iter().flatten().min()
    }

    /// Has the kernel get what it lacks of the deny lists: at the start, and when the table was made anew.
    pub(super) fn load_all(&mut self) {
        self.due = Due::All;
        self.load();
    }

    /// Has deny lists loaded again if addresses of this host or networks that are connected have come or
    /// gone; whether that is so, or not known.
    pub(super) fn look_around(&mut self) -> bool {
        let exempt = Some(Exempt::read().into_ranges());
        let changed = exempt != self.exempt;
        if changed {
            self.load_all();
            self.exempt = exempt;
        }
        changed
    }

    /// A child has ended: perhaps ours.
    pub(super) fn child_ended(&mut self) {
        if let Some(end) = self.loader.as_ref().and_then(Child::ended) {
            self.loader = None;
            if end != ChildExit::Status(0) {
                // It has logged what; what it knows is gone with it.
                syslog::keep("warning: deny lists have bad lines, or are not all in force: see `mef lists`");
            }
            self.load();
        }
    }

    /// Looks at what has changed, and has deny lists loaded. The new allow list, if that may have changed.
    pub(super) fn look(&mut self, now: Mono, guard: &mut dyn View) -> Option<Allowed> {
        let again = self.again_at.is_some_and(|at| at <= now);
        let mut allow = again;
        let mut moved = false;
        if self.poll_at.is_some_and(|at| at <= now) {
            self.poll_at = Some(now.after(POLL));
            (allow, self.due) = (self.places.iter().any(|p| p.kind == ListKind::Allow), Due::All);
        }
        let ListFollower { watcher, places, due, .. } = self;
        if let Some(watcher) = watcher {
            let result = watcher.read(&mut |event| {
                let lost = event.mask.contains(Mask::IN_Q_OVERFLOW);
                for place in places.iter() {
                    let wd = |wd: Option<WatchDescriptor>| wd.is_some_and(|wd| wd.as_raw() == event.wd);
                    if wd(place.own) && !event.name.is_empty() {
                        if !complete(&place.path, event.name, event.mask) {
                            continue;
                        }
                        match place.kind {
                            ListKind::Allow => allow = true,
                            ListKind::Deny => due.add(event.name),
                        }
                    } else if lost || wd(place.own) || wd(place.above) {
                        moved = true;
                    }
                }
            });
            if let Err(e) = result {
                log::warn!("cannot read file events: {e}");
            }
        }
        if moved && self.watch(now) {
            (allow, self.due) = (true, Due::All);
        }
        self.load();
        allow.then(|| self.allowed(now, if again { Gone::Forget } else { Gone::Wait }, guard))
    }

    /// The host names of the allow list as it was read last.
    pub(super) fn hosts(&self) -> Vec<Host> {
        hosts::hosts(&self.paths, self.gone)
    }

    /// Keeps what they lead to.
    pub(super) fn keep_hosts(&self, found: &[Host]) {
        if let Err(e) = hosts::keep(&self.paths, found) {
            log::warn!("{e}: what host names of the allow list lead to is not kept");
        }
    }

    /// Reads the allow list: a command has changed it.
    pub(super) fn reread(&mut self, now: Mono, guard: &mut dyn View) -> Allowed {
        self.allowed(now, Gone::Wait, guard)
    }

    fn allowed(&mut self, now: Mono, gone: Gone, guard: &mut dyn View) -> Allowed {
        self.gone = gone;
        let (reading, own) = read(&self.paths, gone, guard);
        let pause = match own {
            true if reading.waits => Some(GONE_GRACE),
            true => None,
            false => Some(RETRY_INTERVAL),
        };
        self.again_at = pause.map(|pause| now.after(pause));
        reading.allowed
    }

    /// Watches the directories, and what is above those that are not there; whether anything is another one
    /// now.
    fn watch(&mut self, now: Mono) -> bool {
        let ListFollower { watcher, places, .. } = self;
        let Some(watcher) = watcher else { return true };
        let inside = Mask::IN_CLOSE_WRITE
            | Mask::IN_CREATE
            | Mask::IN_MOVE
            | Mask::IN_DELETE
            | Mask::IN_DELETE_SELF
            | Mask::IN_MOVE_SELF
            | Mask::IN_ONLYDIR;
        let outside = Mask::IN_CREATE
            | Mask::IN_MOVED_TO
            | Mask::IN_DELETE_SELF
            | Mask::IN_MOVE_SELF
            | Mask::IN_ONLYDIR;
        let (mut changed, mut trouble) = (false, None);
        for place in places.iter_mut() {
            // From above to below: what appears meanwhile is seen by one of the two.
            let above = place.path.ancestors().skip(1);
            place.above = above
                .filter(|dir| !dir.as_os_str().is_empty())
                .find_map(|dir| watcher.add(dir, outside).ok());
            let own = watcher.add(&place.path, inside);
            if let Err(e) = &own
                && e.kind() != std::io::ErrorKind::NotFound
            {
                trouble = Some(e.to_string());
            }
            let own = own.ok();
            changed |= own != place.own;
            place.own = own;
        }
        if let Some(e) = trouble {
            self.blind(&e, now);
        }
        changed
    }

    fn blind(&mut self, why: &str, now: Mono) {
        if self.poll_at.is_none() {
            log::warn!("no file events ({why}): checking the lists every {} s instead", POLL / 1000);
            self.poll_at = Some(now.after(POLL));
        }
    }

    /// Begins to load what is due, unless somebody is at it: then that comes next.
    fn load(&mut self) {
        if self.loader.is_some() {
            return;
        }
        let only = match std::mem::replace(&mut self.due, Due::Nothing) {
            Due::Nothing => return,
            Due::Names(names) => Some(names),
            Due::All => None,
        };
        self.exempt = None;
        let paths = &self.paths;
        match fork::fork_worker(&mut || load(paths, only.as_deref()).into()) {
            Ok(loader) => self.loader = Some(loader),
            Err(e) => log::error!("deny lists are not loaded: {e}"),
        }
    }
}

impl Due {
    fn add(&mut self, name: &[u8]) {
        let name = String::from_utf8_lossy(name).into_owned();
        match self {
            Due::All => {}
            Due::Nothing => *self = Due::Names(vec![name]),
            Due::Names(names) if names.contains(&name) => {}
            Due::Names(names) if names.len() < NAMES => names.push(name),
            Due::Names(_) => *self = Due::All,
        }
    }
}

/// Whether the event is about a list, and leaves it complete. Of a file that is made, its writer's end is
/// told later; a link has its content at once.
fn complete(dir: &Path, name: &[u8], mask: Mask) -> bool {
    if name.starts_with(b".") || !name.ends_with(b".conf") {
        return false;
    }
    let path = dir.join(std::ffi::OsStr::from_bytes(name));
    !mask.contains(Mask::IN_CREATE)
        || std::fs::symlink_metadata(path)
            .is_ok_and(|m| m.file_type().is_symlink() || std::os::unix::fs::MetadataExt::nlink(&m) > 1)
}

/// In the second process; whether there was anything to warn of.
fn load(paths: &Paths, only: Option<&[String]>) -> bool {
    // What it needs of the program is little: without the neighbours of each page it stays so.
    trim::drop_code_pages();
    let mut warned = false;
    let mut warn = |e: &dyn std::fmt::Display| {
        log::warn!("{e}");
        warned = true;
    };
    let result = view(paths.options()).and_then(|mut guard| {
        guard.go_through(paths.run());
        let gone = apply(&mut *guard, paths, only, Gone::Wait, &mut warn)?;
        if !gone.is_empty() {
            std::thread::sleep(Duration::from_millis(GONE_GRACE));
            apply(&mut *guard, paths, Some(&gone), Gone::Forget, &mut warn)?;
        }
        Ok(())
    });
    if let Err(e) = result {
        warn(&format_args!("deny lists are not all loaded: {e}"));
    }
    warned
}

fn apply(
    guard: &mut dyn Enforced,
    paths: &Paths,
    only: Option<&[String]>,
    gone: Gone,
    warn: lists::ListNote<'_>,
) -> Result<Vec<String>, Failure> {
    let turn = ListTurn::wait(paths, ListKind::Deny);
    let job = ListJob { only, gone, emptied: false };
    let done = lists::apply(guard, paths, &turn, &job, warn, &mut |e| log::info!("{e}"))?;
    Ok(done.waits)
}

/// Reads the allow lists and tells what is wrong with them.
pub(super) fn allowed(paths: &Paths, guard: &mut dyn View) -> Allowed {
    read(paths, Gone::Forget, guard).0.allowed
}

/// Likewise, and whether it was our turn.
fn read(paths: &Paths, gone: Gone, guard: &mut dyn View) -> (ListReading, bool) {
    let turn = ListTurn::within(paths, ListKind::Allow, LOCK_WAIT_MAX);
    let mut in_force = || guard.allowed_until().unwrap_or_default();
    let reading = lists::allowed(paths, &turn, gone, &mut in_force, &mut |e| log::warn!("{e}"));
    (reading, turn.is_own())
}
