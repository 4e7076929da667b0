//! What the process that reads lines says to the one that bans, and the orders that it takes: any bytes.

use mef::base::clock::{Mono, Span};
use mef::base::position::Position;
use mef::control::proto::Sight;
use mef::daemon::wire::{
    Evidence, GivenSockets, HitReports, Level, MESSAGE_MAX, Observed, ObservedHit, ObserverCounts,
    ObserverNews, ObserverOrder, ObserverPart, Offender, RuleView, Truth,
};
use mef::detect::observe::{Offence, SPREAD};
use mef::detect::webscan::Excess;
use mef::sys::child::ChildExit;

fn observed() -> Vec<Vec<u8>> {
    let net = "203.0.113.1/32".parse().unwrap();
    let wide = "2001:db8::/48".parse().unwrap();
    let excess =
        Excess { reason: "9 requests".into(), requests: 9, detect: false, bantime: Some(Span::Secs(60)) };
    let offence = Offence { source: net, rule: 1, hits: 3, wide: None, excess: None, line: "Failed".into() };
    let view = RuleView {
        hits: 3,
        read: Some(Mono(9)),
        last: None,
        sight: Sight::Blind,
        kind: "file",
        text: "no log file (/var/log/ä)",
    };
    let place = Position { dev: 1, ino: 2, offset: 3, tail: u64::MAX };
    let hit = ObservedHit { source: wide, addr: wide.addr(), rule: 0, weight: 1, user: Some(b"root\xff") };
    let counts = ObserverCounts { tracked: 4, evicted: 5, ..ObserverCounts::default() };
    let parts = [
        ObserverPart::Place(b"/var/log/auth.log", place),
        ObserverPart::Text("the journal, 3 files"),
        ObserverPart::Rule(view),
        ObserverPart::Counts(counts),
        ObserverPart::Offender(Offender { source: wide, rule: 2, hits: 3, last: Mono(4) }),
        ObserverPart::Rules(7),
    ];
    let all = [
        Observed::Log(Level::Warn, "sees nothing for sshd"),
        Observed::Offence(offence.clone(), Evidence::Hearsay),
        Observed::Offence(
            Offence { source: wide, wide: Some(SPREAD), ..offence.clone() },
            Evidence::Attested,
        ),
        Observed::Offence(Offence { excess: Some(Box::new(excess)), ..offence }, Evidence::Attested),
        Observed::Hit(hit),
        Observed::Hit(ObservedHit { user: None, ..hit }),
        Observed::Who(wide.addr()),
        Observed::Spent(net, 1, 60),
        Observed::Banned(wide, 1),
        Observed::News(ObserverNews::Opened),
        Observed::End,
    ];
    all.iter().map(Observed::write).chain(parts.map(|part| Observed::Part(part).write())).collect()
}

fn orders() -> Vec<Vec<u8>> {
    let net = "2001:db8::/48".parse().unwrap();
    let given = GivenSockets { unix: true, udp: false };
    let all = [
        ObserverOrder::Start(given),
        ObserverOrder::Reload(given),
        ObserverOrder::Stop,
        ObserverOrder::Places,
        ObserverOrder::Status,
        ObserverOrder::Describe,
        ObserverOrder::Report,
        ObserverOrder::Forget(net),
        ObserverOrder::Hits(HitReports::Wanted),
        ObserverOrder::Ended(9, ChildExit::Signal(9)),
        ObserverOrder::Ended(9, ChildExit::Status(1)),
        ObserverOrder::Who(net),
        ObserverOrder::Truth(Truth::No),
    ];
    all.iter().map(ObserverOrder::write).collect()
}

/// One of each kind.
pub fn seeds() -> Vec<Vec<u8>> {
    let all: Vec<_> = observed().into_iter().chain(orders()).collect();
    assert!(observed().iter().all(|bytes| Observed::read(bytes).is_some()));
    assert!(orders().iter().all(|bytes| ObserverOrder::read(bytes).is_some()));
    all
}

/// What has to hold of any bytes.
pub fn run(bytes: &[u8]) {
    if let Some(message) = Observed::read(bytes) {
        assert_eq!(message.write(), bytes, "a message can be written in one way only");
        assert!(bytes.len() <= MESSAGE_MAX);
        if let Observed::Offence(offence, _) = &message {
            let net = offence.source;
            assert!(net.addr().is_ipv6() || net.prefix_len() == 32, "{net} is no address");
            assert!(net.prefix_len() >= 32 && net.trunc() == net && offence.line.len() <= 200);
        }
    }
    if let Some(order) = ObserverOrder::read(bytes) {
        assert_eq!(order.write(), bytes);
    }
}
