#![forbid(unsafe_code)]
//! The observer's end of what it and the enforcer say to each other: what it has to know of sources beside
//! what they do is asked, and what it finds is sent. Without the enforcer it ends.

use super::decide::{Decider, Knowledge};
use super::policy::ServicePolicy;
use super::wire::{
    Evidence, HitReports, MESSAGE_MAX, Observed, ObservedHit, ObserverNews, ObserverOrder, ObserverPart,
    Truth, offence,
};
use crate::base::clock::Mono;
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

/// An order, and what came beside it.
pub(super) type TakenOrder = (ObserverOrder, Vec<OwnedFd>);

/// The enforcer, from here.
pub(super) struct EnforcerLink {
    fd: OwnedFd,
    /// Orders that came before an answer.
    waiting: RefCell<VecDeque<TakenOrder>>,
    pub(super) reports: Cell<HitReports>,
    /// What the enforcer was told of since it last asked for positions.
    told: Cell<[bool; 2]>,
}

impl EnforcerLink {
    pub(super) fn new(fd: OwnedFd) -> EnforcerLink {
        EnforcerLink {
            fd,
            waiting: RefCell::default(),
            reports: Cell::new(HitReports::Unwanted),
            told: Cell::default(),
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
        let got = seqpacket::receive(self.fd(), &mut room, PacketWait::Waits);
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
                (answer @ (ObserverOrder::Who(_) | ObserverOrder::Truth(_)), _) => return answer,
                order => self.waiting.borrow_mut().push_back(order),
            }
        }
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

    /// Tells something, once until positions are asked for.
    pub(super) fn tell(&self, news: ObserverNews) {
        let [mut read, mut opened] = self.told.get();
        let told = match news {
            ObserverNews::Read => std::mem::replace(&mut read, true),
            ObserverNews::Opened => std::mem::replace(&mut opened, true),
            ObserverNews::Sight => false,
        };
        self.told.set([read, opened]);
        if !told {
            self.send(&Observed::News(news).write());
        }
    }

    /// Positions are asked for.
    pub(super) fn forget_told(&self) {
        self.told.set([false; 2]);
    }

    /// Sends what somebody has done.
    pub(super) fn accuse(&self, now: Mono, w: &Offence, policies: &[ServicePolicy]) {
        let policy = policies.get(usize::from(w.rule));
        let hearsay = policy.is_some_and(|policy| policy.is_hearsay(now));
        self.send(&offence(w, if hearsay { Evidence::Hearsay } else { Evidence::Attested }));
    }
}

/// What is known of sources there.
pub(super) struct AskedKnowledge<'k> {
    pub(super) link: &'k EnforcerLink,
    /// What does not change there is known here, too.
    pub(super) own: Knowledge<'k>,
}

impl KnownSources for AskedKnowledge<'_> {
    fn source(&self, addr: IpAddr) -> IpNet {
        // Of IPv4 everybody answers alone.
        if canonical(addr).is_ipv4() {
            return Decider::alone(addr);
        }
        match self.link.ask(&Observed::Who(addr)) {
            ObserverOrder::Who(net) => net,
            _ => Decider::alone(addr),
        }
    }

    fn is_spent(&self, source: IpNet, rule: u16, age: u64) -> bool {
        self.link.is_true(&Observed::Spent(source, rule, age))
    }

    fn is_banned(&self, source: IpNet, rule: u16) -> bool {
        self.link.is_true(&Observed::Banned(source, rule))
    }

    fn weigh(&self, hit: &Hit, line: &[u8], origin: Origin) {
        self.own.weigh(hit, line, origin);
    }

    fn age(&self, hit: &Hit, line: &[u8]) -> u64 {
        self.own.age(hit, line)
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
            let hit = ObservedHit { source, addr: hit.addr, rule: hit.rule, weight: hit.weight, user };
            self.link.send(&Observed::Hit(hit).write());
        }
    }

    fn detected(&mut self, source: IpNet, rule: u16, excess: &Excess) {
        self.own.detected(source, rule, excess);
    }
}
