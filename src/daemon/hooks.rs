#![forbid(unsafe_code)]
//! Runs the programs of on_ban and on_unban, after the kernel has acknowledged. A few at a time and for a
//! limited time; a ban waits for none of them.

use crate::base::clock::Mono;
use crate::base::count::count;
use crate::sys::child::{Child, ChildExit, Identity, start_as};

/// Programs at a time.
const RUNNING: usize = 4;
/// Events that wait for their turn at most.
const WAITING: usize = 64;
/// Milliseconds after which a program is killed, with all that it started.
const LIMIT: u64 = 30_000;

/// Which of the two programs an event is for.
#[derive(Clone, Copy)]
pub(super) enum HookKind {
    Ban,
    Unban,
}

/// What happened, as the environment of a program: `NAME=value` each.
struct HookEvent {
    kind: HookKind,
    env: Vec<String>,
}

struct Running {
    child: Child,
    /// When it was started, or killed.
    since: Mono,
    killed: bool,
}

/// The programs, those that run and what they wait for.
#[derive(Default)]
pub(super) struct Hooks {
    on_ban: Vec<String>,
    on_unban: Vec<String>,
    identity: Option<Identity>,
    waiting: Vec<HookEvent>,
    running: [Option<Running>; RUNNING],
    /// Events without a program that ran to its end.
    lost: u64,
    /// Something went wrong, and was told.
    failing: bool,
}

impl Hooks {
    pub(super) fn set(&mut self, on_ban: &[String], on_unban: &[String], identity: Option<Identity>) {
        self.identity = identity;
        self.on_ban = on_ban.to_vec();
        self.on_unban = on_unban.to_vec();
    }

    /// Whether there is a program for such an event.
    pub(super) fn wants(&self, kind: HookKind) -> bool {
        !self.program(kind).is_empty()
    }

    pub(super) fn lost(&self) -> u64 {
        self.lost
    }

    /// Takes an event in. What does not fit is counted and told.
    pub(super) fn add(&mut self, kind: HookKind, env: Vec<String>) {
        if self.waiting.len() < WAITING {
            self.waiting.push(HookEvent { kind, env });
        } else {
            self.lose(&format_args!("more than {WAITING} events wait for on_ban and on_unban"));
        }
    }

    /// When the next program has run for too long, or at once when one may be started.
    pub(super) fn deadline(&self) -> Option<Mono> {
        if !self.waiting.is_empty() && self.running.iter().any(Option::is_none) {
            return Some(Mono::default());
        }
        self.running.iter().flatten().map(|running| running.since.after(LIMIT)).min()
    }

    /// Looks after those that run, and starts what waits.
    pub(super) fn turn(&mut self, now: Mono) {
        for at in 0..RUNNING {
            let Some(slot) = self.running.get_mut(at) else { continue };
            let Some(running) = slot else { continue };
            if running.since.after(LIMIT) <= now {
                // It ends in a moment, and SIGCHLD says so; if it does not, it is killed again.
                running.child.kill();
                (running.since, running.killed) = (now, true);
            }
            let Some(end) = running.child.ended() else { continue };
            let killed = running.killed;
            *slot = None;
            match end {
                _ if killed => {
                    let secs = LIMIT / 1000;
                    self.lose(&format_args!("an on_ban or on_unban program ran for {secs} s and was killed"));
                }
                ChildExit::Status(0) => self.failing = false,
                end => self.lose(&format_args!("an on_ban or on_unban program ended with {end}")),
            }
        }
        while !self.waiting.is_empty()
            && let Some(free) = self.running.iter().position(Option::is_none)
        {
            let event = self.waiting.remove(0);
            match start_as(self.identity, self.program(event.kind), &event.env, [None; 3]) {
                Ok(child) => {
                    if let Some(slot) = self.running.get_mut(free) {
                        *slot = Some(Running { child, since: now, killed: false });
                    }
                }
                Err(e) => {
                    let name = self.program(event.kind).first().cloned().unwrap_or_default();
                    self.lose(&format_args!("{name}: {e}"));
                }
            }
        }
    }

    /// Ends those that run, with all that they started: the daemon ends.
    pub(super) fn stop(&mut self) {
        let running = self.running.iter().flatten().map(|running| running.child.kill()).count();
        let left = running + self.waiting.len();
        if left > 0 {
            log::warn!("on_ban and on_unban: {} not run to the end", count(left, "program"));
        }
    }

    fn program(&self, kind: HookKind) -> &[String] {
        match kind {
            HookKind::Ban => &self.on_ban,
            HookKind::Unban => &self.on_unban,
        }
    }

    /// Told once, and again when it has gone well in between.
    fn lose(&mut self, why: &dyn std::fmt::Display) {
        if !self.failing {
            log::warn!("{why}; status counts what follows as hooks_lost");
        }
        self.failing = true;
        self.lost += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::clock;
    use std::time::{Duration, Instant};

    fn hooks(script: &str) -> Hooks {
        let mut hooks = Hooks::default();
        hooks.set(&["/bin/sh", "-c", script].map(String::from), &[], None);
        hooks
    }

    /// Turns until something is so.
    fn until(hooks: &mut Hooks, now: Mono, is: &dyn Fn(&Hooks) -> bool) {
        let end = Instant::now() + Duration::from_secs(20);
        while !is(hooks) {
            assert!(Instant::now() < end);
            hooks.turn(now);
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    #[test]
    fn a_program_that_hangs_is_killed_with_what_it_started() {
        let mut hooks = hooks("trap '' TERM HUP; sleep 1000 & sleep 1000");
        let now = clock::mono();
        for _ in 0..RUNNING + 1 {
            hooks.add(HookKind::Ban, Vec::new());
        }
        assert_eq!(hooks.deadline(), Some(Mono::default()), "one may start");
        hooks.turn(now);
        assert_eq!((hooks.waiting.len(), hooks.deadline()), (1, Some(now.after(LIMIT))));
        hooks.turn(now.after(LIMIT - 1));
        assert_eq!(hooks.lost, 0);
        // Then the last one has its turn.
        until(&mut hooks, now.after(LIMIT), &|hooks| hooks.lost == 4 && hooks.waiting.is_empty());
        assert!(hooks.failing && hooks.running.iter().flatten().count() == 1);
        until(&mut hooks, now.after(3 * LIMIT), &|hooks| hooks.running.iter().all(Option::is_none));
        assert_eq!((hooks.lost, hooks.deadline()), (5, None));
    }

    #[test]
    fn what_does_not_fit_is_counted() {
        let mut hooks = hooks("exit 0");
        for _ in 0..WAITING + 10 {
            hooks.add(HookKind::Ban, Vec::new());
        }
        assert_eq!((hooks.lost, hooks.failing), (10, true));
        let now = clock::mono();
        until(&mut hooks, now, &|hooks| hooks.deadline().is_none());
        assert_eq!((hooks.lost, hooks.failing), (10, false), "all others have run");
    }
}
