#![forbid(unsafe_code)]
//! Which programs of others the daemon may ever start: those of the configuration, and those of a backend
//! that cannot do without. A process that is forked for them before the daemon gives up its rights runs them.

use super::confine::{BackendPrograms, asks};
use super::sources;
use crate::config::{Confine, Enabled, Loaded, Settings, Source, load};
use crate::firewall::restore_programs;
use crate::services::Compiled;
use crate::sys::alloc::with_arena;
use crate::sys::child::Identity;
use crate::sys::runner::{self, RunProgram};
use crate::sys::user;
use std::path::Path;

/// Who runs programs by default.
const ROOT: &str = "root";

/// As whom hooks run: `Some(None)` as the daemon was started, `None` not at all. To be asked by a process
/// that can read who there is.
pub(super) fn hook_identity(settings: &Settings) -> Option<Option<Identity>> {
    if settings.hook_user.is_empty() || settings.hook_user == ROOT {
        return Some(None);
    }
    let found = user::find(&settings.hook_user);
    if found.is_none() && !(settings.on_ban.is_empty() && settings.on_unban.is_empty()) {
        log::error!("hook_user={}: no such user: no hooks are run", settings.hook_user);
    }
    found.map(Some)
}

/// All of them, hooks as `hooks` says.
pub(super) fn of(
    loaded: &Loaded,
    backend: BackendPrograms,
    hooks: Option<Option<Identity>>,
) -> Vec<RunProgram> {
    let settings = &loaded.settings;
    let mut all: Vec<RunProgram> = Vec::new();
    let mut add = |argv: &[String], identity| {
        if !argv.is_empty() && !all.iter().any(|known| known.argv == argv) {
            all.push(RunProgram { argv: argv.to_vec(), identity });
        }
    };
    if let Some(identity) = hooks {
        [&settings.on_ban, &settings.on_unban].into_iter().for_each(|argv| add(argv, identity));
    }
    let on = || loaded.rules.iter().filter(|rule| rule.enabled != Enabled::False);
    on().filter(|rule| rule.source == Source::Command).for_each(|rule| add(&rule.command, None));
    if on().any(|rule| rule.source == Source::Auto) && sources::has_ring() {
        add(&sources::ring(), None);
    }
    if backend == BackendPrograms::Run {
        restore_programs().iter().for_each(|argv| add(argv, None));
    }
    all
}

/// Whether resolv.conf is opened for a daemon that may read the one that was there first only: who may read
/// all that is beside it could read passwords.
fn opens_resolv_conf(settings: &Settings) -> bool {
    settings.confine == Confine::Full && settings.dns_servers.is_empty() && asks(settings)
}

/// Forks the process that runs them, if there are any, or a file is to be opened. Why there is none, if there
/// should be one.
pub(super) fn open(conf: &Path, loaded: &Loaded, backend: BackendPrograms) -> Option<String> {
    let all = of(loaded, backend, hook_identity(&loaded.settings));
    if all.is_empty() && !opens_resolv_conf(&loaded.settings) {
        return None;
    }
    let read = match backend {
        BackendPrograms::Run => |conf: &Path| read_again(conf, BackendPrograms::Run),
        BackendPrograms::None => |conf: &Path| read_again(conf, BackendPrograms::None),
    };
    runner::open(all, conf, read).err().map(|e| format!("programs cannot be run: {e}"))
}

fn read_again(conf: &Path, backend: BackendPrograms) -> Option<Vec<RunProgram>> {
    // What is wrong with it is told by the daemon.
    let mut compiled = Compiled::default();
    let loaded = with_arena(|| load(conf, &mut |rule, problems| compiled.add(rule, problems)));
    (!loaded.failed()).then(|| of(&loaded, backend, hook_identity(&loaded.settings)))
}
