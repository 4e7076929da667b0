#![forbid(unsafe_code)]
//! The daemon's poll loop: what it waits for, in the order in which it is served. Nothing ticks.

use super::heal::RulesetState;
use super::observer_link::ObserverLink;
use super::serve::{ControlHandler, say};
use super::slot::{Slot, Turn, pass, room, sleep};
use super::{Daemon, sources};
use crate::base::build_part::BuildPart;
use crate::base::clock::{Mono, Now};
use crate::control::server::Server;
use crate::sys::poll::Ready;
use crate::sys::signal::Wish;
use crate::sys::{clock, relay, trim};
use std::fmt::Display;
use std::os::fd::AsFd as _;

/// Milliseconds from the first thing that happens to the moment when memory that it took is given back.
const TRIM: u64 = 2000;

/// Everything that the daemon waits for. What is before a ban, so that it is right: signals, the tables, who
/// must not be banned. Then what bans. Then everybody who has time.
static SLOTS: [Slot<Daemon>; 15] = [
    Slot::new(Daemon::obey).on(|on, _| Some(on.signals.as_fd())),
    // Whoever is banned now is banned in a table that is there.
    Slot::new(Daemon::repair).at(|on| on.heal.deadline()).always(),
    Slot::new(Daemon::follow_lists).on(|on, _| on.lists.fd()).at(|on| on.lists.deadline()),
    Slot::new(Daemon::hear_alarms).on(|on, _| on.alarms.fd()).at(|on| on.alarms.deadline()),
    Slot::new(Daemon::follow_routes).on(|on, _| on.around.fd()),
    Slot::new(Daemon::hear_news).on(|on, _| on.news.fd()),
    Slot::new(Daemon::read_ready)
        .on_each(sources::MAX, |on, at| on.sources.fd(at))
        .at(|on| on.sources.deadline()),
    // The same, where another process reads; and what that wants to have run.
    Slot::new(Daemon::hear_observer).on(|on, _| on.judge.observer_fd()).at(|on| on.judge.observer_due()),
    Slot::new(Daemon::serve_observer).on(|on, _| on.judge.desk_fd()),
    Slot::new(Daemon::keep).at(|on| if on.compacts { Some(Mono::default()) } else { on.save_at }),
    // Who sends through our socket.
    Slot::new(Daemon::relay).on(|on, _| on.judge.relay_fd()),
    Slot::new(Daemon::serve)
        .on(|on, _| on.control.as_ref().map(Server::fd))
        .at(|on| on.control.as_ref().and_then(Server::deadline)),
    Slot::new(Daemon::ask).on(|on, _| on.dns.fd()).at(|on| on.dns.deadline()),
    // Programs that were started are not looked for in vain: SIGCHLD and the time limit tell when.
    Slot::new(Daemon::look_after_hooks).at(|on| on.judge.hooks_at()),
    Slot::new(Daemon::report_bans).at(|on| on.judge.reports_at()),
];

impl Daemon {
    /// Waits and acts until it is told to stop. Never part of a larger function: the linker puts it beside
    /// what else runs on the way back to sleep.
    #[inline(never)]
    pub(super) fn go(&mut self) {
        let mut trim_at = Some(Mono::default());
        loop {
            let mut ready = [Ready::No; room(&SLOTS)];
            if let Err(e) = sleep(&SLOTS, self, trim_at, &mut ready) {
                log::error!("poll: {e}");
                return;
            }
            let now = clock::now();
            self.unchanged = false;
            let Some(happened) = pass(&SLOTS, self, now, &ready) else { return };
            self.judge.follow_watchers(now);
            // Once after whatever happened, not while more of it comes: then nothing wakes us any more. What
            // a question took that found nothing is given back with it.
            let idle = self.unchanged && !happened;
            if trim_at.is_some_and(|at| at <= now.mono) || (idle && trim_at.is_none()) {
                trim_at = None;
                self.judge.shrink();
                trim::drop_code_pages();
                trim::stack();
            } else {
                trim_at.get_or_insert(now.mono.after(TRIM));
            }
        }
    }

    /// Does what the signals ask for.
    fn obey(&mut self, _: Now, _: &[Ready]) -> Turn {
        loop {
            match self.signals.take() {
                Ok(None) => return Turn::Done,
                Ok(Some(Wish::Stop)) => return Turn::Stop,
                Ok(Some(Wish::Reload)) => {
                    let _ = self.reload(&mut |_| ());
                }
                Ok(Some(Wish::Report)) => {
                    let now = clock::now();
                    self.sources_report(now);
                    self.judge.refresh(now);
                    self.judge.report();
                }
                Ok(Some(Wish::Child)) => {
                    self.sources.child_ended();
                    self.judge.observer_child_ended(clock::now());
                    self.lists.child_ended();
                    self.saved();
                    self.judge.events().hooks.turn(clock::mono());
                    self.judge.events().reporter.child_ended();
                }
                Err(e) => {
                    log::error!("signals: {e}");
                    return Turn::Stop;
                }
            }
        }
    }

    fn repair(&mut self, now: Now, _: &[Ready]) -> Turn {
        let found = self.heal.probe(now, &mut self.judge);
        self.unchanged = found == RulesetState::Same;
        if self.heal.take_allow() {
            let allowed = self.lists.reread(now.mono, self.judge.guard());
            self.judge.refill_allowed(allowed);
        }
        let anew = self.heal.take_lists(self.judge.counted.reasserted);
        if anew || found == RulesetState::Repaired {
            self.lists.load_all();
        }
        Turn::Done
    }

    fn follow_lists(&mut self, now: Now, _: &[Ready]) -> Turn {
        if let Some(allowed) = self.lists.look(now.mono, self.judge.guard()) {
            self.judge.set_allowed(allowed);
            self.follow_hosts(now.mono);
        }
        Turn::Done
    }

    fn hear_alarms(&mut self, now: Now, ready: &[Ready]) -> Turn {
        if ready == [Ready::No] {
            self.alarms.turn(now, &mut self.judge);
        } else {
            self.alarms.read_packets(now, &mut self.judge);
        }
        Turn::Done
    }

    fn follow_routes(&mut self, _: Now, _: &[Ready]) -> Turn {
        self.around.check_routes(&mut self.judge, &mut self.lists);
        Turn::Done
    }

    fn hear_news(&mut self, now: Now, _: &[Ready]) -> Turn {
        self.news.read_packets(now, &mut self.judge, &mut self.dns);
        Turn::Done
    }

    fn read_ready(&mut self, now: Now, ready: &[Ready]) -> Turn {
        self.read(now, Some(ready));
        self.look_up_first_hits(now);
        Turn::Done
    }

    fn look_up_first_hits(&mut self, now: Now) {
        while let Some(addr) = self.judge.take_first_hit() {
            self.dns.look_up(now, &mut self.judge, addr);
        }
    }

    /// Hears what the process that reads lines says, or starts it again.
    fn hear_observer(&mut self, now: Now, ready: &[Ready]) -> Turn {
        if !BuildPart::Observer.is_in() {
            return Turn::Done;
        }
        if ready == [Ready::No] {
            self.start_observer(now);
        } else {
            self.judge.hear(now);
        }
        self.after_reading(now);
        self.judge.look_after_observer(now);
        // One that has handed over is followed at once.
        self.start_observer(now);
        self.look_up_first_hits(now);
        Turn::Done
    }

    fn serve_observer(&mut self, now: Now, _: &[Ready]) -> Turn {
        if let Some(Err(e)) = self.judge.observer().map(ObserverLink::serve) {
            self.judge.lose_observer(now, e.into());
        }
        Turn::Done
    }

    /// Writes what is due.
    fn keep(&mut self, now: Now, _: &[Ready]) -> Turn {
        if self.save_at.is_some_and(|at| at <= now.mono) {
            if self.state_sync.is_some() {
                self.save_in_worker();
            } else {
                self.ask_places(now);
            }
        }
        if self.compacts {
            self.compacts = self.judge.compact(now);
        }
        Turn::Done
    }

    fn relay(&mut self, _: Now, _: &[Ready]) -> Turn {
        relay::turn();
        Turn::Done
    }

    /// Answers commands. After the sources, so that nobody who asks delays a ban.
    fn serve(&mut self, now: Now, _: &[Ready]) -> Turn {
        let Daemon { judge, control: Some(control), since, sources, dns, confined, .. } = self else {
            return Turn::Done;
        };
        let (since, asked) = (*since, Vec::new());
        let mut desk = ControlHandler {
            judge,
            sources,
            dns,
            confined,
            now,
            since,
            reload: false,
            asked,
            waits: false,
            lists: false,
        };
        control.serve(now.mono, &mut desk);
        let (reload, asked, lists) = (desk.reload, desk.asked, desk.lists);
        if lists {
            let allowed = self.lists.reread(now.mono, self.judge.guard());
            self.judge.set_allowed(allowed);
            self.follow_hosts(now.mono);
        }
        if reload {
            let each = |text: &dyn Display| asked.iter().for_each(|to| say(to, text));
            match self.reload(&mut |line| each(&format_args!("line {line}"))) {
                Ok(what) => each(&format_args!("ok {what}")),
                Err(why) => each(&format_args!("failed {why}")),
            }
        }
        Turn::Done
    }

    fn ask(&mut self, now: Now, _: &[Ready]) -> Turn {
        if let Some(hosts) = self.dns.turn(now, &mut self.judge) {
            self.lists.keep_hosts(&hosts);
            let allowed = self.lists.reread(now.mono, self.judge.guard());
            self.judge.set_allowed(allowed);
        }
        Turn::Done
    }

    fn report_bans(&mut self, now: Now, _: &[Ready]) -> Turn {
        self.judge.events().reporter.turn(now.mono);
        Turn::Done
    }

    fn look_after_hooks(&mut self, now: Now, _: &[Ready]) -> Turn {
        self.judge.events().hooks.turn(now.mono);
        Turn::Done
    }
}
