#![forbid(unsafe_code)]
//! The observer's end of what it and the enforcer say to each other: what it has to know of sources beside
//! what they do is asked, and what it finds is sent. Without the enforcer it ends.

use super::decide::{self, Decider, Knowledge};
use super::policy::ServicePolicy;
use super::wire::{
    Evidence, HitReports, MESSAGE_MAX, Observed, ObservedHit, ObserverNews, ObserverOrder, ObserverPart,
    READ_NEWS, Truth, offence,
};
use crate::base::clock::{Mono, Wall};
use crate::base::net::canonical;
use crate::detect::Hit;
use crate::detect::observe::{KnownSources, Listener, Offence, Origin};
use crate::detect::webscan::Excess;
use crate::sys::process;
use crate::sys::seqpacket::{self, PacketWait};
use ipnet::IpNet;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::net::IpAddr;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

/// What is known of a source for a moment, in the eyes of a rule.
#[derive(Clone, Copy)]
struct KnownSource {
    addr: IpAddr,
    rule: u16,
    source: IpNet,
    is_banned: Truth,
}

/// Addresses of which is known for a moment who answers for them.
const KNOWN: usize = 64;

/// An order, and what came beside it.
pub(super) type TakenOrder = (ObserverOrder, Vec<OwnedFd>);

/// Whether the enforcer knows that files were opened.
#[derive(Default, Clone, Copy, PartialEq, Eq)]
enum OpenedNews {
    #[default]
    Untold,
    Told,
}

/// Whether a line says when it was written.
#[derive(Default, Clone, Copy, PartialEq, Eq)]
enum LineStamp {
    #[default]
    There,
    Missing,
}

/// The enforcer, from here.
pub(super) struct EnforcerLink {
    fd: OwnedFd,
    /// When another observer, which this one goes on for, last said how far it had read.
    goes_on_from: Option<Wall>,
    /// Orders that came before an answer.
    waiting: RefCell<VecDeque<TakenOrder>>,
    pub(super) reports: Cell<HitReports>,
    /// When the enforcer was last told of lines, and when it is to be told again.
    read_told: Cell<Option<Mono>>,
    read_due: Cell<Option<Mono>>,
    /// What it was told of since it last asked for positions.
    opened: Cell<OpenedNews>,
    /// Files whose positions there was no room for, when that was last told.
    left_out: Cell<usize>,
    /// Who answers for the addresses that were asked for last, and who of them is banned.
    known: RefCell<VecDeque<KnownSource>>,
}

impl EnforcerLink {
    pub(super) fn new(fd: OwnedFd, goes_on_from: Option<Wall>) -> EnforcerLink {
        EnforcerLink {
            fd,
            goes_on_from,
            waiting: RefCell::default(),
            reports: Cell::new(HitReports::Unwanted),
            read_told: Cell::default(),
            read_due: Cell::default(),
            opened: Cell::default(),
            left_out: Cell::default(),
            known: RefCell::default(),
        }
    }

    /// For polling.
    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// Whether an order waits that was taken already.
    pub(super) fn due(&self) -> Option<Mono> {
        (!self.waiting.borrow().is_empty()).then_some(Mono(0))
    }

    fn send(&self, bytes: &[u8]) {
        if seqpacket::send(self.fd(), bytes, &[], PacketWait::Waits).is_err() {
            process::end();
        }
    }

    /// The next message. What is none does not come from an enforcer. The room for it is on the stack only
    /// here.
    #[inline(never)]
    fn receive(&self) -> TakenOrder {
        let mut room = [0; MESSAGE_MAX];
        let got = seqpacket::receive_beside(self.fd(), &mut room, PacketWait::Waits);
        let order = got.ok().and_then(|(len, fds)| Some((ObserverOrder::read(room.get(..len)?)?, fds)));
        order.unwrap_or_else(|| process::end())
    }

    /// The next order.
    pub(super) fn take(&self) -> TakenOrder {
        let first = self.waiting.borrow_mut().pop_front();
        first.unwrap_or_else(|| self.receive())
    }

    /// Asks; orders that come first wait.
    fn ask(&self, question: &Observed<'_>) -> ObserverOrder {
        self.send(&question.write());
        loop {
            match self.receive() {
                (answer @ (ObserverOrder::Who(..) | ObserverOrder::Truth(_)), _) => return answer,
                order => self.waiting.borrow_mut().push_back(order),
            }
        }
    }

    /// Who answers for an address of IPv6: each of its hits would be a question.
    fn who(&self, addr: IpAddr, rule: u16) -> IpNet {
        let mut known = self.known.borrow_mut();
        if let Some(one) = known.iter().find(|one| (one.addr, one.rule) == (addr, rule)) {
            return one.source;
        }
        let (source, is_banned) = match self.ask(&Observed::Who(addr, rule)) {
            ObserverOrder::Who(net, is_banned) => (net, is_banned),
            _ => (Decider::alone(addr), Truth::No),
        };
        known.truncate(KNOWN - 1);
        known.push_front(KnownSource { addr, rule, source, is_banned });
        source
    }

    /// Whether a source is banned for a rule.
    fn is_banned(&self, source: IpNet, rule: u16) -> bool {
        let known = self.known.borrow();
        match known.iter().find(|one| (one.source, one.rule) == (source, rule)) {
            Some(one) => one.is_banned == Truth::Yes,
            None => self.is_true(&Observed::Banned(source, rule)),
        }
    }

    /// What was asked may be otherwise by now.
    pub(super) fn forget_known(&self) {
        self.known.borrow_mut().clear();
    }

    fn is_true(&self, question: &Observed<'_>) -> bool {
        self.ask(question) == ObserverOrder::Truth(Truth::Yes)
    }

    /// A part of an answer.
    pub(super) fn part(&self, part: ObserverPart<'_>) {
        self.send(&Observed::Part(part).write());
    }

    /// An order is carried out.
    pub(super) fn end(&self) {
        self.send(&Observed::End.write());
    }

    /// Tells that files were opened, once until positions are asked for.
    pub(super) fn tell_opened(&self) {
        if self.opened.replace(OpenedNews::Told) == OpenedNews::Untold {
            self.tell(ObserverNews::Opened);
        }
    }

    /// Tells that lines were read: now, or when it is long enough ago that it was told.
    pub(super) fn tell_read(&self, now: Mono) {
        match self.read_told.get().map(|last| last.after(READ_NEWS)) {
            Some(due) if due > now => self.read_due.set(Some(due)),
            _ => {
                self.read_told.set(Some(now));
                self.read_due.set(None);
                self.tell(ObserverNews::Read);
            }
        }
    }

    /// When it is to be told.
    pub(super) fn read_due(&self) -> Option<Mono> {
        self.read_due.get()
    }

    /// Tells something.
    pub(super) fn tell(&self, news: ObserverNews) {
        self.send(&Observed::News(news).write());
    }

    /// Positions are asked for: whoever wants them wants to know at once that there are others.
    pub(super) fn forget_told(&self) {
        self.read_told.set(None);
        self.opened.set(OpenedNews::Untold);
    }

    /// Warns, once, that there is no room for the positions of so many files.
    pub(super) fn warn_left_out(&self, count: usize) {
        if count > 0 && self.left_out.replace(count) == 0 {
            log::warn!(
                "there are more logs than positions are kept of: what is written to {count} of them while \
                 nobody reads is not read later"
            );
        }
    }

    /// Sends what somebody has done.
    pub(super) fn accuse(&self, now: Mono, w: &Offence, policies: &[ServicePolicy]) {
        let policy = policies.get(usize::from(w.rule));
        let hearsay = policy.is_some_and(|policy| policy.is_hearsay(now));
        self.send(&offence(w, if hearsay { Evidence::Hearsay } else { Evidence::Attested }));
        // It may be banned from here on.
        self.forget_known();
    }
}

/// What is known of sources there.
pub(super) struct AskedKnowledge<'k> {
    pub(super) link: &'k EnforcerLink,
    /// What does not change there is known here, too.
    own: Knowledge<'k>,
    /// Of the line whose age was asked for last.
    stamp: Cell<LineStamp>,
}

impl<'k> AskedKnowledge<'k> {
    pub(super) fn new(link: &'k EnforcerLink, own: Knowledge<'k>) -> AskedKnowledge<'k> {
        AskedKnowledge { link, own, stamp: Cell::default() }
    }
}

impl KnownSources for AskedKnowledge<'_> {
    fn source(&self, addr: IpAddr, rule: u16) -> IpNet {
        // Of IPv4 everybody answers alone.
        if canonical(addr).is_ipv4() {
            return Decider::alone(addr);
        }
        self.link.who(addr, rule)
    }

    fn is_spent(&self, source: IpNet, rule: u16, age: u64) -> bool {
        // A line that does not say when it was written, and that somebody may have read before, counts as if
        // it were as old as it can be: whoever was unbanned since stays so.
        let age = match (self.stamp.get(), self.link.goes_on_from) {
            (LineStamp::Missing, Some(from)) => age.max(self.own.now.wall.0.saturating_sub(from.0)),
            _ => age,
        };
        self.link.is_true(&Observed::Spent(source, rule, age, self.own.now.mono))
    }

    fn is_banned(&self, source: IpNet, rule: u16) -> bool {
        self.link.is_banned(source, rule)
    }

    fn weigh(&self, hit: &Hit, line: &[u8], origin: Origin) {
        self.own.weigh(hit, line, origin);
    }

    fn age(&self, hit: &Hit, line: &[u8], origin: Origin) -> u64 {
        let is_there = decide::stamp(line, hit).is_some();
        self.stamp.set(if is_there { LineStamp::There } else { LineStamp::Missing });
        self.own.age(hit, line, origin)
    }
}

/// Tells the enforcer of hits, if somebody there wants to know.
pub(super) struct TellingListener<'t, L> {
    pub(super) link: &'t EnforcerLink,
    /// What is counted here.
    pub(super) own: L,
}

impl<L: Listener> Listener for TellingListener<'_, L> {
    fn noticed(&mut self, rule: u16) {
        self.own.noticed(rule);
    }

    fn hit(&mut self, source: IpNet, hit: &Hit, user: Option<&[u8]>) {
        if self.link.reports.get() == HitReports::Wanted {
            let addr = canonical(hit.addr);
            let hit = ObservedHit { source, addr, rule: hit.rule, weight: hit.weight, user };
            self.link.send(&Observed::Hit(hit).write());
        }
    }

    fn detected(&mut self, source: IpNet, rule: u16, excess: &Excess) {
        self.own.detected(source, rule, excess);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn who_answers_for_an_address_is_asked_once_while_lines_are_read() {
        let (ours, theirs) = seqpacket::pair().unwrap();
        let link = EnforcerLink::new(ours, None);
        let addr = |n: u16| IpAddr::from([0x2001, 0xdb8, 0, n, 0, 0, 0, 1]);
        // Answers wait already; whether there was a question is seen behind that.
        let asks = |n| {
            let net = crate::base::net::prefix(addr(n), 64);
            let is_banned = if n % 2 == 0 { Truth::Yes } else { Truth::No };
            let answer = ObserverOrder::Who(net, is_banned).write();
            seqpacket::send(theirs.as_fd(), &answer, &[], PacketWait::None).unwrap();
            assert_eq!(link.who(addr(n), 3), net);
            // Whether that one is banned was asked with it.
            assert_eq!(link.is_banned(net, 3), is_banned == Truth::Yes);
            let mut room = [0; MESSAGE_MAX];
            let asked = seqpacket::receive(theirs.as_fd(), &mut room, PacketWait::None).is_ok();
            if !asked {
                link.receive();
            }
            asked
        };
        assert!(asks(1) && !asks(1) && asks(2) && !asks(1));
        for n in 100..164 {
            asks(n);
        }
        assert!(!asks(163) && asks(1), "so many are known");
        link.forget_known();
        assert!(asks(163));
        // For another rule it is another question.
        let net = crate::base::net::prefix(addr(163), 64);
        let answer = ObserverOrder::Truth(Truth::Yes).write();
        seqpacket::send(theirs.as_fd(), &answer, &[], PacketWait::None).unwrap();
        assert!(link.is_banned(net, 4) && !link.is_banned(net, 3));
        // What was sent of somebody may have him banned.
        let offence =
            Offence { source: net, rule: 3, hits: 1, wide: None, excess: None, line: Box::default() };
        link.accuse(Mono(9), &offence, &[]);
        let mut room = [0; MESSAGE_MAX];
        while seqpacket::receive(theirs.as_fd(), &mut room, PacketWait::None).is_ok() {}
        assert!(asks(163));
    }

    #[test]
    fn lines_are_told_of_at_once_or_soon_and_files_until_positions_are_asked_for() {
        let (ours, theirs) = seqpacket::pair().unwrap();
        let link = EnforcerLink::new(ours, None);
        let told = || {
            let mut room = [0; MESSAGE_MAX];
            let all =
                std::iter::from_fn(|| seqpacket::receive(theirs.as_fd(), &mut room, PacketWait::None).ok());
            all.count()
        };
        let start = Mono(1_000_000);
        link.tell_read(start);
        assert_eq!((told(), link.read_due()), (1, None));
        // Whatever is read meanwhile is told of once, and not never.
        for later in [1, 2, READ_NEWS - 1] {
            link.tell_read(start.after(later));
            assert_eq!((told(), link.read_due()), (0, Some(start.after(READ_NEWS))), "{later}");
        }
        link.tell_read(start.after(READ_NEWS));
        assert_eq!((told(), link.read_due()), (1, None));
        link.tell_read(start.after(READ_NEWS * 9));
        assert_eq!(told(), 1);
        link.forget_told();
        link.tell_read(start.after(READ_NEWS * 9));
        assert_eq!((told(), link.read_due()), (1, None), "positions were asked for");
        for again in 0..2 {
            link.tell_opened();
            link.tell_opened();
            assert_eq!(told(), 1, "{again}");
            link.forget_told();
        }
    }
}
