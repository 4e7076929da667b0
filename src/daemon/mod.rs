#![forbid(unsafe_code)]
//! `mef daemon`: wires sources, detection and enforcement into one poll loop. Sleeps until a descriptor is
//! ready or a deadline comes; nothing ticks.

mod alarms;
mod around;
mod ban_lines;
pub mod confine;
mod decide;
mod dns;
mod enforcer_link;
mod events;
mod follow;
mod guarded;
mod heal;
mod hooks;
mod judge;
mod lists;
mod new_sources;
mod notes;
mod observer_link;
mod observing;
mod pidfile;
mod policy;
mod ports;
mod programs;
mod punish;
mod reading;
pub mod rehearse;
mod reporter;
mod saver;
mod saving;
mod serve;
mod setup;
mod slot;
mod sources;
mod start;
mod trust;
mod turns;
pub mod wire;

use crate::base::clock::{Mono, Now, Wall};
use crate::base::count::count;
use crate::config::load;
use crate::control::server::Server;
use crate::input::Tags;
use crate::lists::Paths;
use crate::services::Compiled;
use crate::state::positions::Positions;
use crate::sys::alloc::{share_no_more, with_arena};
use crate::sys::clock;
use crate::sys::notify::{ServiceState, Supervisor};
use crate::sys::signal::Signals;
use alarms::Alarms;
use around::Around;
use confine::Confined;
use dns::Dns;
use heal::Heal;
use judge::Judge;
use lists::ListFollower;
use new_sources::NewSources;
use saver::Saver;
use sources::{SocketsFrom, SourceSettings, Sources};
use start::{fixed, install_log, log_problems, prepare};
use std::path::{Path, PathBuf};

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

impl Daemon {
    /// Opens the files and says what is watched.
    #[inline(never)]
    fn begin(&mut self) {
        // Files are opened by the first look at them.
        let now = clock::now();
        self.start_observer(now);
        self.read(now, None);
        self.after_reading(now);
        self.follow_hosts(clock::mono());
        // What comes while we are away, and that it is new, is known by what there is now. A slow disk delays
        // no ban: the sooner this is written, the better, but nothing waits for it.
        if self.state_sync.is_some() {
            self.note();
            self.save_in_worker();
        } else {
            self.ask_places(now);
        }
        let (version, rules) = (env!("CARGO_PKG_VERSION"), count(self.judge.rules(), "rule"));
        log::info!("mef {version} watches {} for {rules}", self.describe(now));
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
    fn tell_supervisor(&mut self, state: ServiceState) {
        if self.supervisor.listens() {
            let now = clock::now();
            self.judge.refresh(now);
            let (judge, sources) = (&self.judge, &self.sources);
            let verdict = match judge.first_blind(&|at| match judge.seen_elsewhere(at) {
                Some((sight, _, text)) => (sight, text.to_owned()),
                None => {
                    let (sight, _, text) = sources.seen(now.mono, Tags(1 << at));
                    (sight, text)
                }
            }) {
                _ if judge.rules() == 0 => "watches nothing: no service rule is on".to_owned(),
                Some((name, why)) => format!("sees nothing for {name}: {why}"),
                None if judge.observer_opens() => "still opens logs".to_owned(),
                None => "protected".to_owned(),
            };
            self.supervisor.tell(state, &verdict);
        }
    }

    /// Takes the new configuration, or keeps everything as it is when that has errors.
    #[inline(never)]
    fn reload(&mut self, each_line: &mut dyn FnMut(&str)) -> Result<String, String> {
        self.supervisor.tell(ServiceState::Reloading, "reads the configuration");
        let result = self.take_configuration(each_line).map(|now| self.go_on(now));
        if let Err(why) = &result {
            log::error!("{why}");
        }
        self.tell_supervisor(ServiceState::Ready);
        result
    }

    #[inline(never)]
    fn take_configuration(&mut self, each_line: &mut dyn FnMut(&str)) -> Result<Now, String> {
        share_no_more();
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
        // What the observer has found so far is about the rules that are in force.
        self.judge.pause_observer(now);
        if let Err(e) = self.judge.reconfigure(now, plan.rules, plan.policies, settings, allowed) {
            self.judge.resume_observer(now);
            return Err(format!("{e}: the previous configuration stays in force"));
        }
        let read = SourceSettings::of(settings);
        if self.judge.observer().is_some() {
            self.judge.reload_observer(now, (plan.wants, read, loaded.mark));
        } else {
            self.sources.reopen(plan.wants, &read, now, SocketsFrom::Here);
        }
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
        Ok(now)
    }

    /// Goes on with a configuration that was taken, when what was read of it is gone: a new process would
    /// keep that for good.
    fn go_on(&mut self, now: Now) -> String {
        self.start_observer(now);
        self.follow_hosts(now.mono);
        self.read(now, None);
        self.after_reading(now);
        self.judge.events().changed(now.wall, "reload", None);
        let watched = self.describe(now);
        let done = format!("configuration read: {watched} for {}", count(self.judge.rules(), "rule"));
        log::info!("{done}");
        done
    }

    fn stop(&mut self) {
        self.supervisor.tell(ServiceState::Stopping, "bans stay in force");
        let now = clock::now();
        self.stop_reading(now);
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
