#![forbid(unsafe_code)]
//! What the start of the daemon takes: configuration, table, journal, log, and the steps by which it gives up
//! what it does not need.

use super::alarms::Alarms;
use super::around::Around;
use super::confine::{self, BackendPrograms, Confined};
use super::dns::Dns;
use super::heal::Heal;
use super::judge::{self, Judge};
use super::lists::{self, ListFollower};
use super::new_sources::NewSources;
use super::observer_link::ObserverLink;
use super::pidfile::PidFile;
use super::punish::BanPolicy;
use super::reading::load_places;
use super::saver::Saver;
use super::sources::{KeptSources, SocketsFrom, SourceSettings, Sources, Wants};
use super::{Daemon, ProcessPlace, setup};
use crate::ban::{BackendChoice, Failure, GuardState};
use crate::base::build_part::BuildPart;
use crate::base::clock::Now;
use crate::base::diag::Severity;
use crate::config::{FileProblem, Loaded, Settings, load, not_needed};
use crate::control::server::Server;
use crate::enforce::{Enforcer, all_options, journal};
use crate::firewall::backend::Backend;
use crate::firewall::{has_left, open};
use crate::lists::Paths;
use crate::services::Compiled;
use crate::state::positions::Positions;
use crate::sys::alloc::with_arena;
use crate::sys::notify::Supervisor;
use crate::sys::signal::Signals;
use crate::sys::{clock, fs, process, sched, syslog};
use nix::errno::Errno;
use std::path::Path;
use std::time::Duration;

/// Longest wait for another process that changes bans. It lets us go first, and so needs this only when it
/// stands still.
const LOCK_WAIT_MAX: Duration = Duration::from_secs(2);

/// Does what the start takes. On its own, so that what that needs of the stack is given back before the
/// daemon waits.
#[inline(never)]
pub(super) fn prepare(conf: &Path, place: ProcessPlace) -> Result<Box<Daemon>, String> {
    // In the background a relative path would lead elsewhere.
    let conf = &fs::absolute(conf).map_err(|e| format!("{}: {e}", conf.to_string_lossy()))?;
    let mut compiled = Compiled::default();
    let loaded = with_arena(|| load(conf, &mut |rule, problems| compiled.add(rule, problems)));
    // Before the log is set up everything is told on standard error.
    syslog::install(syslog::LogTarget::Stderr, log::LevelFilter::Info);
    log_problems(&loaded.problems, &mut |_| ());
    if loaded.failed() {
        return Err("the configuration has errors; nothing was started (mef check shows them)".into());
    }
    // A table that has to be made has the allow list from its first transaction on. What is wrong with the
    // lists is told when the log is there.
    let paths = Paths::of(&loaded.settings);
    crate::firewall::choose(loaded.settings.firewall_backend.into());
    let allow = crate::lists::reader(paths, lists::LOCK_WAIT_MAX, std::rc::Rc::default());
    let mut guard = open(all_options(&loaded.settings), allow.into()).map_err(|e| e.to_string())?;
    // Who is not root is told so by the first question, and nothing else.
    guard.state().map_err(|e| e.to_string())?;
    // The table of a daemon that runs must not be touched.
    let pidfile = PidFile::take(Path::new(&loaded.settings.run_dir), Path::new(&loaded.settings.state_dir))?;
    guard.watch();
    guard.own_through(Path::new(&loaded.settings.run_dir));
    let made = rebuild(&mut *guard).map_err(|e| e.to_string())?;
    if place == ProcessPlace::Background {
        process::background().map_err(|e| format!("cannot go into the background: {e}"))?;
    }
    pidfile.write();
    let signals = Signals::open().map_err(|e| format!("signals: {e}"))?;
    install_log(&loaded.settings);
    sched::ask_for_short_slices();
    log_missing(&mut *guard, made);
    let control = open_control(&loaded.settings.run_dir);
    // What the other backend has left is taken out by its programs.
    let runs = guard.poll_interval().is_some() || has_left(guard.options());
    let backend = if runs { BackendPrograms::Run } else { BackendPrograms::None };
    let confined = confine::enter(conf, &loaded, backend);
    Ok(Box::new(Daemon::start(conf, (loaded, compiled), guard, (signals, pidfile, control, confined))))
}

impl Daemon {
    fn start(
        conf: &Path,
        (loaded, compiled): (Loaded, Compiled),
        mut guard: Box<dyn Backend>,
        (signals, pidfile, control, confined): (Signals, PidFile, Option<Server>, Confined),
    ) -> Daemon {
        let now = clock::now();
        let settings = &loaded.settings;
        // Before any ban: nobody on it is dropped for a moment.
        let mut allowed = lists::allowed(&Paths::of(settings), &mut *guard);
        if let Err(e) = guard.set_allowed(&mut allowed) {
            log::error!("allow list: {e}");
        }
        guard.take_recreated();
        let plan = setup::plan(&loaded, compiled);
        let mut enforcer = Enforcer::new(guard, open_journal(settings, now));
        enforcer.set_kill(settings.kill_connections);
        enforcer.set_history(settings.history_max);
        enforcer.lock_beside(Path::new(&settings.run_dir));
        enforcer.set_prompt(settings.state_sync.is_some());
        let mut ban_policy = BanPolicy::new(settings, &plan.policies);
        let keep = ban_policy.memory();
        judge::log_restored(enforcer.restore_and(
            now.wall,
            keep,
            &mut |entry| ban_policy.restore(now, entry),
            &mut syslog::warn,
        ));
        enforcer.doubt_repeats();
        let positions = Positions::open(Path::new(&settings.state_dir));
        let mut positions = positions.map_err(|e| syslog::warn(&e)).ok();
        let read = SourceSettings::of(settings);
        let saved = load_places(&mut positions);
        let (own, saved, others) = match confined.is_apart() {
            true => (Wants::default(), Vec::new(), Some((plan.wants, saved))),
            false => (plan.wants, saved, None),
        };
        let from = (SocketsFrom::Here, KeptSources::default());
        let sources = Sources::open(own, &read, &saved, now, from);
        let heal = Heal::open(enforcer.guard(), settings);
        let mut judge = Judge::new(plan.rules, plan.policies, settings, (enforcer, ban_policy), allowed);
        judge.events().configure(settings);
        // What the journal does not know moves from the kernel's other part, which is given up then.
        judge.take_over(now.mono);
        if let Some((wants, saved)) = others
            && BuildPart::Observer.is_in()
        {
            judge.set_observer(ObserverLink::new(wants, read, saved));
        }
        Daemon {
            conf: conf.to_owned(),
            alarms: Alarms::open(settings, &mut judge),
            news: NewSources::open(&mut judge),
            dns: Dns::open(settings, now.mono, &mut judge),
            around: Around::open(settings),
            judge,
            heal,
            control,
            since: now.wall,
            sources,
            signals,
            lists: ListFollower::open(settings, now.mono),
            positions,
            saver: Saver::new(Path::new(&settings.state_dir)),
            state_sync: settings.state_sync,
            save_at: None,
            noted_at: None,
            compacts: false,
            unchanged: false,
            clear_on_stop: settings.clear_bans_on_stop,
            supervisor: Supervisor::of_environment(),
            fixed: fixed(settings),
            confined,
            _pidfile: pidfile,
        }
    }
}

pub(super) fn fixed(settings: &Settings) -> (String, String, u32) {
    (settings.run_dir.clone(), settings.state_dir.clone(), settings.track_max)
}

/// Writes the table. A daemon that was killed may own it for a moment yet.
fn rebuild(guard: &mut dyn Backend) -> Result<GuardState, Failure> {
    const REBUILD_TRIES_MAX: u32 = 100;
    const PAUSE: Duration = Duration::from_millis(20);
    let mut tries = 0;
    loop {
        match guard.rebuild() {
            Err(e) if e.errno() == Errno::EPERM && tries < REBUILD_TRIES_MAX => std::thread::sleep(PAUSE),
            result => return result,
        }
        tries += 1;
    }
}

fn log_missing(guard: &mut dyn Backend, state: GuardState) {
    if guard.options().backend == BackendChoice::Auto && guard.poll_interval().is_some() {
        log::warn!("nf_tables cannot be used here: bans are kept in {}", guard.place());
    }
    guard.take_owner_trouble().iter().for_each(|why| log::warn!("{why}"));
    guard.lacking(state).iter().for_each(|what| log::warn!("this kernel {what}"));
}

/// Errors and warnings in full; of what is not needed only how much it is. Who asked is told the same.
pub(super) fn log_problems(problems: &[FileProblem], each_line: &mut dyn FnMut(&str)) {
    let mut each = |level, text: &str| {
        for line in text.lines() {
            log::log!(level, "{line}");
            each_line(line);
        }
    };
    for p in problems {
        match p.problem.severity {
            Severity::Error => each(log::Level::Error, &p.shown),
            Severity::Warning => each(log::Level::Warn, &p.shown),
            Severity::Obsolete => {}
        }
    }
    not_needed(problems).iter().for_each(|text| each(log::Level::Warn, text));
}

fn open_journal(settings: &Settings, now: Now) -> Option<crate::state::journal::BanJournal> {
    match journal(settings, now.wall, LOCK_WAIT_MAX) {
        Ok((mut journal, reported)) => {
            reported.iter().for_each(|e| syslog::warn(e));
            journal.go_first();
            Some(journal)
        }
        Err(e) => {
            log::warn!("{e}; bans are in force until the next reboot");
            None
        }
    }
}

/// Takes where the log goes, and what it hears of.
pub(super) fn install_log(settings: &Settings) {
    use crate::config::LogTo;
    let target = match settings.log {
        LogTo::Syslog => syslog::LogTarget::Syslog,
        LogTo::Stderr => syslog::LogTarget::Stderr,
        LogTo::Both => syslog::LogTarget::Both,
    };
    syslog::install(target, log_level(settings));
}

/// What the log hears of.
pub(super) fn log_level(settings: &Settings) -> log::LevelFilter {
    use crate::config::LogLevel;
    match settings.log_level {
        LogLevel::Error => log::LevelFilter::Error,
        LogLevel::Warn => log::LevelFilter::Warn,
        LogLevel::Info => log::LevelFilter::Info,
        LogLevel::Debug => log::LevelFilter::Debug,
    }
}

/// Commands do without it, as without a daemon.
fn open_control(run_dir: &str) -> Option<Server> {
    match Server::open(Path::new(run_dir)) {
        Ok(server) => Some(server),
        Err(e) => {
            log::warn!("{run_dir}/{}: {e}; commands cannot reach the daemon", crate::control::NAME);
            None
        }
    }
}
