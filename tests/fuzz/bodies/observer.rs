//! What the process that reads lines says to the one that bans, and the orders that it takes: any bytes.

use mef::base::clock::{Mono, Span};
use mef::base::position::Position;
use mef::base::range::Range;
use mef::control::proto::Sight;
use mef::daemon::wire::{
    Evidence, GivenSockets, HitReports, Level, MESSAGE_MAX, Observed, ObservedHit, ObserverCounts,
    ObserverNews, ObserverOrder, ObserverPart, Offender, RuleView, Truth,
};
use mef::detect::hand_over::{CountTable, CountedPlace};
use mef::detect::observe::{Observer, Offence, SPREAD};
use mef::detect::tracker::Limits;
use mef::detect::webscan::Excess;
use mef::sys::child::ChildExit;

fn offence() -> Offence {
    let source = "203.0.113.1/32".parse().unwrap();
    Offence { source, rule: 1, hits: 3, wide: None, excess: None, line: "Failed".into() }
}

/// When that is read.
const NOW: Mono = Mono(1_000_000_000);

/// One that counts, and takes in what another has counted.
fn counter() -> Observer {
    Observer::new(Vec::new(), vec![Limits::plain(600, 5), Limits::plain(600, 60)], 64, 8, [1, 2])
}

/// What one has counted.
fn counted() -> Vec<Vec<u8>> {
    let (mut one, mut all) = (counter(), Vec::new());
    for rule in 0..2 {
        let _ = one.counter.tracker.hit(NOW, rule, "203.0.113.1/32".parse().unwrap(), 3);
    }
    one.hand_over(NOW, &mut |place| all.push(Observed::Part(ObserverPart::Counted(place)).write()));
    assert_eq!(all.len(), 2);
    all
}

fn observed() -> Vec<Vec<u8>> {
    let net = "203.0.113.1/32".parse().unwrap();
    let wide = "2001:db8::/48".parse().unwrap();
    let excess =
        Excess { reason: "9 requests".into(), requests: 9, detect: false, bantime: Some(Span::Secs(60)) };
    let offence = offence();
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
        ObserverPart::Counted(CountedPlace { table: CountTable::Requests(1), base: 3, bytes: &[1, 2, 3, 4] }),
        ObserverPart::Counted(CountedPlace { table: CountTable::Networks, base: u64::MAX, bytes: &[9; 60] }),
        ObserverPart::Behind,
        ObserverPart::Taken,
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
        Observed::Who(wide.addr(), 1),
        Observed::Spent(net, 1, 60, Mono(7)),
        Observed::Banned(wide, 1),
        Observed::News(ObserverNews::Opened),
        Observed::End,
    ];
    all.iter()
        .map(Observed::write)
        .chain(parts.map(|part| Observed::Part(part).write()))
        .chain(counted())
        .collect()
}

fn orders() -> Vec<Vec<u8>> {
    let net = "2001:db8::/48".parse().unwrap();
    let given = GivenSockets { unix: true, udp: false };
    let all = [
        ObserverOrder::Start(given),
        ObserverOrder::Reload(given, 7),
        ObserverOrder::Pause,
        ObserverOrder::Stop,
        ObserverOrder::Places,
        ObserverOrder::Status,
        ObserverOrder::Offenders(Range::EVERYBODY_V6),
        ObserverOrder::Describe,
        ObserverOrder::Report,
        ObserverOrder::Forget(net),
        ObserverOrder::Hits(HitReports::Wanted),
        ObserverOrder::Ended(9, ChildExit::Signal(9)),
        ObserverOrder::Ended(9, ChildExit::Status(1)),
        ObserverOrder::Who(net, Truth::Yes),
        ObserverOrder::HandOver,
        ObserverOrder::Truth(Truth::No),
    ];
    all.iter().map(ObserverOrder::write).collect()
}

/// One of each kind.
pub fn seeds() -> Vec<Vec<u8>> {
    let all: Vec<_> = observed().into_iter().chain(orders()).collect();
    assert!(observed().iter().all(|bytes| Observed::read(bytes).is_some()));
    assert!(orders().iter().all(|bytes| ObserverOrder::read(bytes).is_some()));
    let mapped = Observed::Banned("::ffff:192.0.2.1/128".parse().unwrap(), 1).write();
    assert_eq!(Observed::read(&mapped), None);
    let clears = Offence { line: "\x1b[2J".into(), ..offence() };
    let clears = Observed::Offence(clears, Evidence::Attested).write();
    assert_eq!(Observed::read(&clears), None);
    [all, vec![mapped, clears]].concat()
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
            assert_eq!(mef::base::line::shown(&offence.line), *offence.line);
            assert_eq!(mef::base::net::unmapped(net), net, "who is allowed would be banned");
        }
    }
    if let Some(Observed::Part(ObserverPart::Counted(place))) = Observed::read(bytes) {
        let mut next = counter();
        let _ = next.take_in(NOW, &place);
        let _ = next.counter.tracker.hit(NOW, 0, "203.0.113.1/32".parse().unwrap(), 1);
        assert!(next.counter.tracker.used() <= 2);
    }
    if let Some(order) = ObserverOrder::read(bytes) {
        assert_eq!(order.write(), bytes);
    }
}
