#![forbid(unsafe_code)]
//! Whom the daemon itself has banned just now. A command ends a ban in the kernel first and tells the daemon
//! then: what that makes in between, of lines that were written before, must not outlast the command.

use super::Judge;
use crate::ban::{Ban, Failure, WhichBans};
use crate::base::clock::{Mono, Now, Span};
use crate::base::range::Range;
use crate::sys::syslog;

/// Bans that are kept. If all of them are recent, there may have been more, of anybody.
const KEPT: usize = 8;
/// Milliseconds from the end of a ban in the kernel until the daemon hears of it, at most: it may wait for
/// the process that reads lines, 20 seconds within a minute and some more.
const RECENT: u64 = 30_000;

#[derive(Clone, Copy)]
struct RecentBan {
    addr: Range,
    at: Mono,
    ends: bool,
}

/// The last bans.
#[derive(Default)]
pub(super) struct RecentBans {
    bans: [Option<RecentBan>; KEPT],
    next: usize,
}

impl RecentBans {
    /// Takes a ban in.
    pub(super) fn add(&mut self, ban: &Ban<'_>, at: Mono) {
        if let Some(place) = self.bans.get_mut(self.next) {
            *place = Some(RecentBan { addr: ban.addr, at, ends: ban.time != Span::Permanent });
        }
        self.next = (self.next + 1) % KEPT;
    }

    fn recent(&self, now: Mono) -> impl Iterator<Item = &RecentBan> {
        self.bans.iter().flatten().filter(move |ban| now.since(ban.at) <= RECENT)
    }

    /// Whether there may have been more than are kept.
    fn overflows(&self, now: Mono) -> bool {
        self.recent(now).count() == KEPT
    }

    /// Whether one of these addresses may have been banned just now.
    fn may_have(&self, addr: &Range, now: Mono) -> bool {
        self.overflows(now) || self.recent(now).any(|ban| ban.addr.meets(addr))
    }

    /// Those that a command ends which ends all, or all that have an end.
    fn ended_by(&self, which: WhichBans, now: Mono) -> impl Iterator<Item = Range> {
        self.recent(now).filter(move |ban| ban.ends || which == WhichBans::All).map(|ban| ban.addr)
    }
}

impl Judge {
    /// A command has ended bans in the kernel, of whom it named or of all: ends again what was made since;
    /// how many there were, as far as that is known.
    pub(super) fn unban_recent(
        &mut self,
        now: Now,
        (addr, which): (Option<&Range>, WhichBans),
    ) -> Result<usize, Failure> {
        let Judge { counted, enforcer, .. } = self;
        let recent = &counted.recent;
        // What could not be written waits there, and is tried again.
        let mut again = |addr: Option<&Range>| -> Result<usize, Failure> {
            let lifted = enforcer.unban_again(now.wall, (addr, which), &mut syslog::warn)?;
            Ok(lifted.counts.iter().sum())
        };
        match addr {
            Some(addr) if !recent.may_have(addr, now.mono) => Ok(0),
            None if !recent.overflows(now.mono) => {
                recent.ended_by(which, now.mono).try_fold(0, |sum, addr| Ok(sum + again(Some(&addr))?))
            }
            addr => again(addr),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use std::net::IpAddr;

    fn addr(last: u8) -> Range {
        Range::from(IpAddr::from([192, 0, 2, last]))
    }

    fn add(bans: &mut RecentBans, last: u8, time: Span, at: Mono) {
        bans.add(&Ban::for_packets(addr(last), time, "", 0), at);
    }

    #[test]
    fn only_recent_bans_of_whom_is_asked_for_are_meant() {
        let (start, mut bans) = (Mono(1_000_000), RecentBans::default());
        assert!(!bans.may_have(&addr(1), start));
        add(&mut bans, 1, Span::Secs(60), start);
        let net = Range::from("192.0.2.0/30".parse::<ipnet::IpNet>().unwrap());
        for (whom, is_meant) in [(addr(1), true), (net, true), (addr(2), false)] {
            assert_eq!(bans.may_have(&whom, start.after(RECENT)), is_meant, "{whom}");
            assert!(!bans.may_have(&whom, start.after(RECENT + 1)), "{whom}");
        }
        add(&mut bans, 2, Span::Permanent, start);
        let all = |which, at| bans.ended_by(which, at).collect::<Vec<_>>();
        assert_eq!(all(WhichBans::Timed, start), [addr(1)]);
        assert_eq!(all(WhichBans::All, start), [addr(1), addr(2)]);
        assert!(all(WhichBans::All, start.after(RECENT + 1)).is_empty());
    }

    #[test]
    fn of_more_than_are_kept_anybody_may_be_one() {
        let (start, mut bans) = (Mono(1_000_000), RecentBans::default());
        (1..=8).for_each(|last| add(&mut bans, last, Span::Secs(60), start));
        assert!(bans.may_have(&addr(99), start) && bans.overflows(start));
        let later = start.after(RECENT + 1);
        add(&mut bans, 9, Span::Secs(60), later);
        assert!(!bans.may_have(&addr(99), later) && bans.may_have(&addr(9), later));
    }
}
