//! What the process that reads lines may say, and what ends it.

use super::*;
use crate::daemon::observer_link::{LogTopic, LogVerdict, ObserverLink};
use crate::daemon::sources::{SourceSettings, Wants};
use crate::daemon::wire::{
    HitReports, MESSAGE_MAX, Observed, ObservedHit, ObserverNews, ObserverOrder, Truth,
};
use crate::sys::seqpacket::{self, PacketWait};
use std::os::fd::{AsFd as _, OwnedFd};

impl JudgeHost {
    /// There is such a process, to which `judge` belongs; where it says something.
    fn observed(&mut self) -> OwnedFd {
        let link = ObserverLink::new(Wants::default(), SourceSettings::of(&self.settings), Vec::new());
        self.judge.counterpart = Counterpart::Observer(Box::new(link));
        self.judge.observer().unwrap().pretend()
    }

    /// Whether it may say this at once.
    fn may_say(&mut self, all: &[Observed<'_>], reports: HitReports) -> bool {
        let theirs = self.observed();
        self.judge.observer().unwrap().reports = reports;
        for one in all {
            seqpacket::send(theirs.as_fd(), &one.write(), &[], PacketWait::None).unwrap();
        }
        self.judge.hear(self.now);
        let stays = self.judge.observer_fd().is_some();
        self.judge.observer().unwrap().end();
        stays
    }
}

#[test]
fn who_asks_says_nothing_more_until_he_is_answered() {
    let mut host = JudgeHost::new("", "", &[]);
    let news = Observed::News(ObserverNews::Read);
    let net: IpNet = "192.0.2.1/32".parse().unwrap();
    for question in [
        Observed::Who("2001:db8::1".parse().unwrap(), 0),
        Observed::Spent(net, 0, 9, Mono(5)),
        Observed::Banned(net, 0),
    ] {
        let mut may = |all: &[Observed<'_>]| host.may_say(all, HitReports::Unwanted);
        assert!(may(&[news.clone(), question.clone()]), "{question:?}");
        assert!(!may(&[question.clone(), news.clone()]), "{question:?}");
        assert!(!may(&[question.clone(), question.clone()]), "{question:?}");
    }
}

#[test]
fn who_has_been_answered_asks_again() {
    let mut host = JudgeHost::new("", "", &[]);
    let theirs = host.observed();
    for last in 1..9 {
        let addr = std::net::IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, last]);
        let question = Observed::Who(addr, 0).write();
        seqpacket::send(theirs.as_fd(), &question, &[], PacketWait::None).unwrap();
        host.judge.hear(host.now);
        let mut room = [0; MESSAGE_MAX];
        let len = seqpacket::receive(theirs.as_fd(), &mut room, PacketWait::None).unwrap();
        let want = ObserverOrder::Who("2001:db8::/64".parse().unwrap(), Truth::No);
        assert_eq!(ObserverOrder::read(&room[..len]), Some(want));
    }
    // Whom it has accused before is banned before it is answered; for a rule that there is.
    let source = "2001:db8::/64".parse().unwrap();
    for (rule, is_banned) in [(0, Truth::Yes), (9, Truth::No)] {
        let offence = Offence { source, rule: 0, hits: 3, wide: None, excess: None, line: Box::default() };
        let accused = Observed::Offence(offence, Evidence::Attested);
        for said in [accused, Observed::Who("2001:db8::7".parse().unwrap(), rule)] {
            seqpacket::send(theirs.as_fd(), &said.write(), &[], PacketWait::None).unwrap();
        }
        host.judge.hear(host.now);
        let mut room = [0; MESSAGE_MAX];
        let len = seqpacket::receive(theirs.as_fd(), &mut room, PacketWait::None).unwrap();
        assert_eq!(ObserverOrder::read(&room[..len]), Some(ObserverOrder::Who(source, is_banned)));
    }
    host.judge.observer().unwrap().end();
}

#[test]
fn hits_are_told_only_if_they_are_wanted_and_by_whom_they_are() {
    use HitReports::{Unwanted, Wanted};
    let mut host = JudgeHost::new("", "", &[]);
    for (source, addr, reports, may) in [
        ("192.0.2.1/32", "192.0.2.1", Wanted, true),
        ("192.0.2.1/32", "192.0.2.1", Unwanted, false),
        ("192.0.2.1/32", "192.0.2.2", Wanted, false),
        ("2001:db8::/64", "2001:db8::7", Wanted, true),
        ("2001:db8::/64", "2001:db8:1::7", Wanted, false),
        ("2001:db8::/64", "192.0.2.1", Wanted, false),
    ] {
        let (source, addr) = (source.parse().unwrap(), addr.parse().unwrap());
        let hit = Observed::Hit(ObservedHit { source, addr, rule: 0, weight: 1, user: None });
        assert_eq!(host.may_say(&[hit], reports), may, "{source} {addr} {reports:?}");
    }
}

/// Accuses so many; what becomes of the next message for the log.
fn next_message(rule: &str, refused: bool, topic: LogTopic) -> LogVerdict {
    let mut host = JudgeHost::new("max_bans_per_minute=100000", rule, &["203.0.113.0/24"]);
    let _theirs = host.observed();
    for n in 0..3000u32 {
        if refused {
            host.world.borrow_mut().refuse.push(Errno::ENOBUFS);
        }
        let addr = std::net::Ipv4Addr::from(0x0a00_0000 + n);
        let source = IpNet::from(std::net::IpAddr::from(addr));
        let one = Offence { source, rule: 0, hits: 3, wide: None, excess: None, line: "x".into() };
        host.judge.accused(host.now, one, Evidence::Attested).unwrap();
        if refused {
            host.judge.commit(host.now);
        }
    }
    host.judge.commit(host.now);
    let link = host.judge.observer().unwrap();
    let verdict = link.log_verdict(host.now.mono, topic);
    link.end();
    verdict
}

#[test]
fn offences_that_are_only_told_are_told_so_often_and_bans_always() {
    use LogTopic::{Refused, Said, Told};
    for (rule, refused, full) in
        [("action=detect", false, Some(Told)), ("", true, Some(Refused)), ("", false, None)]
    {
        for topic in [Said, Told, Refused] {
            let want = if full == Some(topic) { LogVerdict::Dropped } else { LogVerdict::Written };
            assert_eq!(next_message(rule, refused, topic), want, "{rule} {refused} {topic:?}");
        }
    }
}

#[test]
fn whoever_is_exempt_is_not_banned_whatever_is_said_of_him() {
    let allowed = ["198.51.100.0/24", "2001:db8:7::/48", "2001:db8:8:1::9/128"];
    let mut host = JudgeHost::new("", "", &allowed);
    let mut accuse = |source: &str, wide| {
        let (source, line) = (source.parse().unwrap(), Box::default());
        let offence = Offence { source, rule: 0, hits: u32::MAX, wide, excess: None, line };
        let may = host.may_say(&[Observed::Offence(offence, Evidence::Attested)], HitReports::Unwanted);
        host.judge.commit(host.now);
        may
    };
    let (alone, wide) = (None, Some("many addresses"));
    // Alone, as a part of a wider network, and in one that has him among others.
    for (source, of, may) in [
        ("198.51.100.7/32", alone, true),
        ("198.51.100.7/32", wide, false),
        ("198.51.100.0/25", wide, false),
        ("2001:db8:7:1::/64", alone, true),
        ("2001:db8:7:1::5/128", alone, true),
        ("2001:db8:7:100::/56", wide, true),
        ("2001:db8:7::/48", wide, true),
        ("2001:db8:8::/56", wide, true),
        ("2001:db8:8::/48", wide, true),
        ("2001:db8::/47", wide, false),
        ("2001:db8::/32", wide, false),
        ("2001:db8:8:1::/64", wide, false),
        ("2001:db8:8::/48", alone, false),
        ("2001:db8:8::/56", alone, false),
        ("::ffff:198.51.100.7/128", alone, false),
        ("::ffff:198.51.100.0/120", alone, false),
        ("64:ff9b::/64", alone, false),
        ("64:ff9b::/48", wide, false),
        ("203.0.113.7/32", alone, true),
        ("2001:db8:9::/48", wide, true),
    ] {
        assert_eq!(accuse(source, of), may, "{source} {of:?}");
    }
    for other in ["203.0.113.7", "2001:db8:9:1::1"] {
        assert!(host.drops(other), "{other}: and the others are");
    }
    for exempt in
        ["198.51.100.7", "198.51.100.8", "2001:db8:7:1::1", "2001:db8:8:1::9", "::ffff:198.51.100.7"]
    {
        assert!(!host.drops(exempt), "{exempt}");
    }
}
