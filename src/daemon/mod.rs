#![forbid(unsafe_code)]
//! `mef daemon`: wires sources, detection and enforcement into one poll loop. Sleeps until a descriptor is
//! ready or a deadline comes; nothing ticks.

mod alarms;
mod around;
mod ban_lines;
pub mod confine;
mod decide;
mod dns;
mod events;
mod follow;
mod heal;
mod hooks;
mod judge;
mod lists;
mod new_sources;
mod notes;
mod pidfile;
mod policy;
mod ports;
mod programs;
mod punish;
pub mod rehearse;
mod reporter;
mod saver;
mod serve;
mod setup;
mod slot;
mod sources;
mod trust;
mod turns;

use crate::ban::{BackendChoice, Failure, GuardState};
use crate::base::bytes::{of_path, to_path};
use crate::base::clock::{Mono, Now, Wall};
use crate::base::count::count;
use crate::base::diag::Severity;
use crate::base::position::{Position, WRITTEN};
use crate::config::{FileProblem, Loaded, Settings, load, not_needed};
use crate::control::server::Server;
use crate::enforce::{Enforcer, all_options, journal};
use crate::firewall::backend::Backend;
use crate::firewall::{has_left, open, take_over};
use crate::lists::Paths;
use crate::services::Compiled;
use crate::state::disk::Failed;
use crate::state::positions::Positions;
use crate::sys::alloc::with_arena;
use crate::sys::notify::{ServiceState, Supervisor};
use crate::sys::poll::Ready;
use crate::sys::signal::Signals;
use crate::sys::{clock, fs, process, syslog};
use alarms::Alarms;
use around::Around;
use confine::{BackendPrograms, Confined};
use dns::Dns;
use heal::Heal;
use judge::Judge;
use lists::ListFollower;
use new_sources::NewSources;
use nix::errno::Errno;
use punish::BanPolicy;
use saver::Saver;
use sources::Sources;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Longest wait for another process that changes bans. It lets us go first, and so needs this only when it
/// stands still.
const LOCK_WAIT_MAX: Duration = Duration::from_secs(2);

/// Milliseconds from one write of positions to the next, when files are opened one after the other.
const NOTE: u64 = 10_000;
/// The same between two tries to write what the disk had no room for.
const RETRY_INTERVAL: u64 = 10_000;

/// The running daemon.
struct Daemon {
    conf: PathBuf,
    judge: Judge,
    heal: Heal,
    alarms: Alarms,
    news: NewSources,
    dns: Dns,
    around: Around,
    control: Option<Server>,
    since: Wall,
    sources: Sources,
    signals: Signals,
    lists: ListFollower,
    positions: Option<Positions>,
    saver: Saver,
    /// Seconds between writes to state_dir; `None` = only when it stops.
    state_sync: Option<u32>,
    /// When what happened since the last write is to be written.
    save_at: Option<Mono>,
    /// When positions were written because files were opened.
    noted_at: Option<Mono>,
    /// The journal is being compacted.
    compacts: bool,
    /// The last look at the tables found that nobody has changed any.
    unchanged: bool,
    clear_on_stop: bool,
    supervisor: Supervisor,
    /// What only the start can set: run_dir, state_dir, track_max.
    fixed: (String, String, u32),
    confined: Confined,
    _pidfile: pidfile::PidFile,
}

/// Where the daemon runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProcessPlace {
    /// As a supervisor started it.
    Foreground,
    /// As a process of its own.
    Background,
}

/// Runs until it is told to stop.
///
/// # Errors
/// Why it could not start, for people; problems of the configuration have then been written to the log.
pub fn run(conf: &Path, place: ProcessPlace) -> Result<(), String> {
    let mut daemon = prepare(conf, place)?;
    daemon.begin();
    daemon.go();
    daemon.stop();
    Ok(())
}

/// Does what the start takes. On its own, so that what that needs of the stack is given back before the
/// daemon waits.
#[inline(never)]
fn prepare(conf: &Path, place: ProcessPlace) -> Result<Box<Daemon>, String> {
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
    let pidfile =
        pidfile::PidFile::take(Path::new(&loaded.settings.run_dir), Path::new(&loaded.settings.state_dir))?;
    guard.watch();
    guard.own_through(Path::new(&loaded.settings.run_dir));
    let made = rebuild(&mut *guard).map_err(|e| e.to_string())?;
    if place == ProcessPlace::Background {
        process::background().map_err(|e| format!("cannot go into the background: {e}"))?;
    }
    pidfile.write();
    let signals = Signals::open().map_err(|e| format!("signals: {e}"))?;
    install_log(&loaded.settings);
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
        (signals, pidfile, control, confined): (Signals, pidfile::PidFile, Option<Server>, Confined),
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
        // What the journal does not know moves from the kernel's other part, which is given up then.
        judge::log_moved(take_over(enforcer.guard()));
        enforcer.doubt_repeats();
        let mut positions = None;
        let mut saved: Vec<(PathBuf, Position)> = Vec::new();
        match Positions::open(Path::new(&settings.state_dir)) {
            Ok(mut file) => {
                let each = &mut |path: &[u8], position| saved.push((to_path(path), position));
                file.load(each).unwrap_or_else(|e| syslog::warn(&e));
                let written = file.written_at().map(|tail| Position { tail, ..Position::default() });
                saved.extend(written.map(|at| (PathBuf::from(WRITTEN), at)));
                positions = Some(file);
            }
            Err(e) => syslog::warn(&e),
        }
        let sources = Sources::open(plan.wants, settings, &saved, now, sources::KeptSources::default());
        let heal = Heal::open(enforcer.guard(), settings);
        let mut judge = Judge::new(plan.rules, plan.policies, settings, (enforcer, ban_policy), allowed);
        judge.events().configure(settings);
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

    /// Opens the files and says what is watched.
    #[inline(never)]
    fn begin(&mut self) {
        // Files are opened by the first look at them.
        self.read(clock::now(), None);
        self.follow_hosts(clock::mono());
        // What comes while we are away, and that it is new, is known by what there is now. A slow disk delays
        // no ban: the sooner this is written, the better, but nothing waits for it.
        if self.state_sync.is_some() {
            self.note();
            self.save_in_worker();
        }
        let (version, rules) = (env!("CARGO_PKG_VERSION"), count(self.judge.rules(), "rule"));
        log::info!("mef {version} watches {} for {rules}", self.sources);
        self.tell_supervisor(ServiceState::Ready);
    }

    /// Has the host names of the allow list looked up that there are now.
    #[inline(never)]
    fn follow_hosts(&mut self, now: Mono) {
        let found = self.lists.hosts();
        if !found.is_empty() && !self.confined.may_ask() {
            log::warn!("host names of allow lists are looked up only after a restart (confine=full)");
        }
        let hosts = self.dns.set_hosts(found, now);
        self.lists.keep_hosts(&hosts);
    }

    /// Tells it the verdict: whether every rule sees something.
    #[inline(never)]
    fn tell_supervisor(&self, state: ServiceState) {
        if self.supervisor.listens() {
            let (judge, sources, now) = (&self.judge, &self.sources, clock::mono());
            let verdict = match judge.first_blind(&|tags| match sources.waits(tags) {
                true => Ok(String::new()),
                false => sources.sight(now, tags),
            }) {
                _ if judge.rules() == 0 => "watches nothing: no service rule is on".to_owned(),
                Some((name, why)) => format!("sees nothing for {name}: {why}"),
                None => "protected".to_owned(),
            };
            self.supervisor.tell(state, &verdict);
        }
    }

    /// Reads what the sources have, those that are ready or all, and bans.
    fn read(&mut self, now: Now, ready: Option<&[Ready]>) {
        let Daemon { judge, sources, .. } = self;
        let before = judge.seen();
        sources.drain(now, ready, &mut |tags, item| judge.take(now, tags.0, item));
        if judge.commit(now) {
            self.compacts = judge.compact(now);
        }
        let change = sources.look_around(now.mono);
        if let Some(change) = &change {
            judge.log_sight(change, &|tags| sources.sight(now.mono, tags));
        }
        if let Some(sync) = self.state_sync {
            // Handed to the system at once: bans survive the daemon, and stay in order with those of
            // commands.
            judge.flush();
            if judge.seen() != before {
                self.save_by(now.mono.after(u64::from(sync) * 1000));
            }
            // What is written to a file while we are away is only known to be new if it is known where it
            // ended.
            if self.sources.take_opened() {
                let at = self.noted_at.map_or(now.mono, |last| last.after(NOTE).max(now.mono));
                self.noted_at = Some(at);
                self.save_by(at);
                if at == now.mono {
                    self.note();
                }
            }
        }
        if change.is_some() && ready.is_some() {
            self.tell_supervisor(ServiceState::Same);
        }
    }

    /// Has everything written down then at the latest.
    fn save_by(&mut self, at: Mono) {
        self.save_at = Some(self.save_at.map_or(at, |due| due.min(at)));
    }

    /// Takes the new configuration, or keeps everything as it is when that has errors.
    #[inline(never)]
    fn reload(&mut self, each_line: &mut dyn FnMut(&str)) -> Result<String, String> {
        self.supervisor.tell(ServiceState::Reloading, "reads the configuration");
        let result = self.take_configuration(each_line);
        if let Err(why) = &result {
            log::error!("{why}");
        }
        self.tell_supervisor(ServiceState::Ready);
        result
    }

    fn take_configuration(&mut self, each_line: &mut dyn FnMut(&str)) -> Result<String, String> {
        let mut compiled = Compiled::default();
        let loaded = with_arena(|| load(&self.conf, &mut |rule, problems| compiled.add(rule, problems)));
        log_problems(&loaded.problems, each_line);
        if loaded.failed() {
            return Err("the configuration has errors: the previous one stays in force".into());
        }
        let now = clock::now();
        let settings = &loaded.settings;
        self.confined.configure(&self.conf, &loaded);
        let plan = setup::plan(&loaded, compiled);
        let allowed = lists::allowed(&Paths::of(settings), self.judge.guard());
        if let Err(e) = self.judge.reconfigure(now, plan.rules, plan.policies, settings, allowed) {
            return Err(format!("{e}: the previous configuration stays in force"));
        }
        self.sources.reopen(plan.wants, settings, now);
        install_log(settings);
        self.lists.reopen(settings, now.mono);
        self.judge.events().configure(settings);
        self.alarms.configure(settings);
        self.news.configure(&mut self.judge);
        self.dns.configure(settings, now.mono, &mut self.judge);
        self.around.configure(settings);
        self.heal.configure(settings);
        self.state_sync = settings.state_sync;
        self.clear_on_stop = settings.clear_bans_on_stop;
        if self.fixed != fixed(settings) {
            log::warn!("changes of run_dir, state_dir and track_max take effect after a restart");
        }
        self.judge.guard().take_owner_trouble().iter().for_each(|why| log::warn!("{why}"));
        self.follow_hosts(now.mono);
        self.read(now, None);
        self.judge.events().changed(now.wall, "reload", None);
        let done = format!("configuration read: {} for {}", self.sources, count(self.judge.rules(), "rule"));
        log::info!("{done}");
        Ok(done)
    }

    /// Writes positions and journal to state_dir, without waiting for the disk. What fails is told once and
    /// tried again at the next time.
    #[inline(never)]
    fn save_in_worker(&mut self) {
        if self.positions.is_none() || self.state_sync == Some(0) {
            // Where there can be no file of them, or where everything is to be on the disk at once.
            return self.save();
        }
        self.save_at = None;
        if self.judge.settle() {
            // A full disk may have room again although nothing else happens.
            self.save_by(clock::mono().after(RETRY_INTERVAL));
        }
        let Daemon { judge, sources, saver, .. } = self;
        let mut work = || saver::SaveWork { ports: judge.ports_due(clock::now()), places: places(sources) };
        if saver.begin(&mut work).is_err() {
            // No room for another process: then bans wait.
            self.save();
        }
    }

    /// Tells how it went, and does it again if more has happened meanwhile.
    fn saved(&mut self) {
        let Some(result) = self.saver.ended() else { return };
        for (once, mine) in [(notes::Topic::Sync, true), (notes::Topic::Positions, false)] {
            let failed = result.as_ref().err().filter(|failed| matches!(failed, Failed::Journal(_)) == mine);
            // Without the first one nothing is known of the second.
            if mine || !matches!(result, Err(Failed::Journal(_))) {
                let text = failed.map(|failed| self.saver.error(failed));
                self.judge.once(once, text.as_ref().map(|e| e as _));
            }
        }
        if self.saver.again() {
            self.save_in_worker();
        }
    }

    /// Writes positions so that they outlive this process, whatever the disk does. What fails here is told by
    /// what follows.
    #[inline(never)]
    fn note(&mut self) {
        // It would write what was so before over what is so now.
        if !self.saver.is_busy()
            && let Some(file) = &mut self.positions
        {
            let all = places(&self.sources);
            let _ = file.note(all.iter().map(|(path, position)| (of_path(path), *position)));
        }
    }

    /// The same at once.
    #[inline(never)]
    fn save(&mut self) {
        self.save_at = None;
        self.judge.save();
        self.judge.save_ports(clock::now());
        if let Some(file) = &mut self.positions {
            let all = places(&self.sources);
            let bytes = all.iter().map(|(path, position)| (of_path(path), *position));
            let result = file.store(bytes);
            self.judge.once(notes::Topic::Positions, result.err().as_ref().map(|e| e as _));
        }
    }

    fn stop(&mut self) {
        self.supervisor.tell(ServiceState::Stopping, "bans stay in force");
        let now = clock::now();
        // What was forwarded to us is nowhere else.
        self.read(now, None);
        self.sources.stop();
        self.judge.events().hooks.stop();
        if self.clear_on_stop {
            self.judge.clear();
            self.judge.events().reporter.unbanned(None);
        }
        // It would write what was so before over what is so now.
        self.judge.events().reporter.stop();
        self.saver.wait();
        self.judge.hurry_ports();
        self.save();
        log::info!(
            "stopped; {}",
            if self.clear_on_stop {
                "all bans but the permanent ones were removed"
            } else {
                "bans stay in force"
            }
        );
    }
}

/// How far each file was read.
fn places(sources: &Sources) -> Vec<(PathBuf, Position)> {
    let mut all = Vec::new();
    sources.positions(&mut |path, position| all.push((path.to_owned(), position)));
    all
}

fn fixed(settings: &Settings) -> (String, String, u32) {
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
fn log_problems(problems: &[FileProblem], each_line: &mut dyn FnMut(&str)) {
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

fn install_log(settings: &Settings) {
    use crate::config::{LogLevel, LogTo};
    let target = match settings.log {
        LogTo::Syslog => syslog::LogTarget::Syslog,
        LogTo::Stderr => syslog::LogTarget::Stderr,
        LogTo::Both => syslog::LogTarget::Both,
    };
    let level = match settings.log_level {
        LogLevel::Error => log::LevelFilter::Error,
        LogLevel::Warn => log::LevelFilter::Warn,
        LogLevel::Info => log::LevelFilter::Info,
        LogLevel::Debug => log::LevelFilter::Debug,
    };
    syslog::install(target, level);
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
