//! What an observer can do to who hears it: whatever it says or leaves unsaid, an order comes to its end, and
//! what it has said before its own end counts.

use super::{BEGIN, JudgeHost, Knowledge, range};
use crate::base::clock::{Now, Wall};
use crate::base::position::Position;
use crate::control::proto::Sight;
use crate::daemon::judge::Counterpart;
use crate::daemon::observer_link::{AnswerLimits, ObserverLink};
use crate::daemon::sources::{SourceSettings, Wants};
use crate::daemon::wire::{
    Evidence, GivenSockets, HitReports, MESSAGE_MAX, Observed, ObservedHit, ObserverNews, ObserverOrder,
    ObserverPart, RuleView,
};
use crate::detect::hand_over::{CountTable, CountedPlace};
use crate::detect::observe::KnownSources as _;
use crate::detect::observe::Offence;
use crate::state::positions::{LINES_MAX, line_max};
use crate::sys::seqpacket::{self, PacketWait};
use std::net::IpAddr;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::time::Duration;

/// For what must not last.
const SOON: AnswerLimits = AnswerLimits {
    needed: 100,
    all_needed: 600_000,
    least: 100,
    other: 100,
    all: 600_000,
    silence: 30_000,
    parts: LINES_MAX,
};
/// For what must not be late.
const LATE: AnswerLimits = AnswerLimits { needed: 600_000, other: 600_000, ..SOON };

/// A host whose observer does `work`, in a process of its own, and ends.
fn host(limits: AnswerLimits, work: &mut dyn FnMut(BorrowedFd<'_>)) -> JudgeHost {
    let mut host = JudgeHost::new("", "", &[]);
    let settings = SourceSettings::of(&host.settings);
    let mut link = ObserverLink::new(Wants::default(), settings, vec![place("/before", 1)]);
    link.limits = limits;
    let forked = ObserverLink::fork(Vec::new(), &mut |[fd, _desk]: [OwnedFd; 2]| work(fd.as_fd()));
    link.set_running(forked.unwrap());
    host.judge.counterpart = Counterpart::Observer(Box::new(link));
    host
}

fn place(path: &str, offset: u64) -> (PathBuf, Position) {
    (path.into(), Position { offset, ..Position::default() })
}

/// Whether there was an order.
fn ordered(fd: BorrowedFd<'_>) -> bool {
    seqpacket::receive(fd, &mut [0; MESSAGE_MAX], PacketWait::Waits).is_ok()
}

fn say(fd: BorrowedFd<'_>, message: &Observed<'_>) -> bool {
    seqpacket::send(fd, &message.write(), &[], PacketWait::Waits).is_ok()
}

fn accuse(fd: BorrowedFd<'_>, addr: [u8; 4]) -> bool {
    let source = IpAddr::from(addr).into();
    let offence = Offence { source, rule: 0, hits: 3, wide: None, excess: None, line: Box::default() };
    say(fd, &Observed::Offence(offence, Evidence::Attested))
}

/// Asks it how far it has read: what is known, and whether it still runs.
fn ask(host: &mut JudgeHost) -> (Option<Vec<(PathBuf, Position)>>, bool) {
    asked(host, &ObserverOrder::Places)
}

/// The same, where it cannot be late.
fn need(host: &mut JudgeHost) -> (Option<Vec<(PathBuf, Position)>>, bool) {
    asked(host, &ObserverOrder::Pause)
}

fn asked(host: &mut JudgeHost, order: &ObserverOrder) -> (Option<Vec<(PathBuf, Position)>>, bool) {
    host.judge.ask_places(host.now, order);
    let places = host.judge.observer().and_then(ObserverLink::take_places);
    (places, host.judge.observer_pid().is_some())
}

/// Part of an answer.
fn part(offset: u64) -> Observed<'static> {
    Observed::Part(ObserverPart::Place(b"/log", place("", offset).1))
}

#[test]
fn one_that_answers_is_heard_and_one_that_says_nothing_is_ended() {
    let mut honest = host(LATE, &mut |fd| {
        while ordered(fd) && accuse(fd, [203, 0, 113, 1]) && say(fd, &part(7)) && say(fd, &Observed::End) {}
    });
    assert_eq!(ask(&mut honest), (Some(vec![place("/log", 7)]), true));
    assert!(honest.drops("203.0.113.1") && !honest.drops("203.0.113.2"));
    assert_eq!(ask(&mut honest), (Some(vec![place("/log", 7)]), true), "and again");

    let mut silent = host(SOON, &mut |_| std::thread::sleep(Duration::from_secs(1000)));
    assert_eq!(need(&mut silent), (None, false));
    assert_eq!(silent.judge.observer().unwrap().saved(), [place("/before", 1)]);
    assert!(silent.judge.observer_due().is_some(), "it is started again");
    assert_eq!(ask(&mut silent), (None, false), "who is gone is not waited for");
}

#[test]
fn one_that_ends_before_it_has_said_how_far_it_read_is_followed_from_where_it_began() {
    let mut short = host(LATE, &mut |fd| {
        let _ = ordered(fd) && say(fd, &part(7)) && say(fd, &Observed::End);
    });
    assert!(short.judge.order(short.now, &ObserverOrder::Start(GivenSockets::default()), &mut |_, _| ()));
    assert_eq!(ask(&mut short), (None, false));
    assert_eq!(short.judge.observer().unwrap().saved(), [place("/before", 1), place("/log", 7)]);
}

#[test]
fn one_that_still_opens_logs_is_not_waited_for() {
    let mut opens = host(SOON, &mut |_| std::thread::sleep(Duration::from_secs(1000)));
    assert!(!opens.judge.order(opens.now, &ObserverOrder::Start(GivenSockets::default()), &mut |_, _| ()));
    for _ in 0..3 {
        opens.judge.forget(&range("203.0.113.1"));
    }
    assert!(opens.judge.observer_pid().is_some(), "there is nothing to forget yet");
    opens.judge.pause_observer(opens.now);
    assert!(opens.judge.observer_pid().is_none(), "what it opens is wanted no more");
    assert!(opens.judge.observer().unwrap().may_start(), "nothing was wrong with it");
}

#[test]
fn one_that_is_late_is_heard_later() {
    let mut late = host(SOON, &mut |fd| {
        // It answers when the next order is there.
        let _ = ordered(fd) && ordered(fd);
        for offset in [7, 8] {
            let _ = accuse(fd, [203, 0, 113, 1]) && say(fd, &part(offset)) && say(fd, &Observed::End);
        }
        while ordered(fd) && say(fd, &part(9)) && say(fd, &Observed::End) {}
    });
    assert_eq!(ask(&mut late), (None, true), "it is not waited for");
    for order in [ObserverOrder::Places, ObserverOrder::Status, ObserverOrder::Hits(HitReports::Wanted)] {
        assert!(!late.judge.order(late.now, &order, &mut |_, _| ()), "nor asked once more: {order:?}");
    }
    late.judge.observer().unwrap().limits = LATE;
    assert_eq!(need(&mut late), (Some(vec![place("/log", 8)]), true));
    assert!(late.drops("203.0.113.1"));
    assert_eq!(ask(&mut late), (Some(vec![place("/log", 9)]), true));
}

#[test]
fn what_is_late_is_taken_in_when_it_comes_and_who_stays_silent_is_ended() {
    let mut late = host(SOON, &mut |fd| {
        ordered(fd);
        std::thread::sleep(Duration::from_millis(300));
        let _ = say(fd, &part(7)) && say(fd, &Observed::End);
        ordered(fd);
        ordered(fd);
    });
    assert_eq!(ask(&mut late), (None, true));
    let places = std::iter::repeat_with(|| {
        late.judge.hear(late.now);
        late.judge.observer().unwrap().take_places()
    });
    assert_eq!(places.into_iter().flatten().next(), Some(vec![place("/log", 7)]));

    assert!(late.judge.take_news(late.now).sight, "who was told what was before is told again");

    let silence = |millis| Now { mono: crate::sys::clock::mono().after(millis), wall: Wall(BEGIN) };
    late.judge.look_after_observer(silence(60_000));
    assert!(late.judge.observer_pid().is_some(), "it was told nothing");
    assert_eq!(ask(&mut late), (None, true), "what it said last is written down already");
    late.judge.look_after_observer(silence(SOON.silence - 20_000));
    assert!(late.judge.observer_pid().is_some() && late.judge.observer_due().is_some());
    late.judge.look_after_observer(silence(SOON.silence));
    assert!(late.judge.observer_pid().is_none());
}

#[test]
fn all_of_its_answers_together_are_waited_for_so_long() {
    let slow = AnswerLimits { needed: 600_000, all_needed: 60, ..LATE };
    let mut slow = host(slow, &mut |_| std::thread::sleep(Duration::from_secs(1000)));
    assert_eq!(need(&mut slow), (None, false), "ten minutes are not waited for");
}

#[test]
fn what_others_were_waited_for_costs_nobody_his_time() {
    // Of what may be late nothing is left; the answer to what may not comes after all that.
    let busy = AnswerLimits { other: 50, all: 50, ..LATE };
    let mut busy = host(busy, &mut |fd| {
        ordered(fd);
        ordered(fd);
        let _ = say(fd, &Observed::End) && say(fd, &part(7)) && say(fd, &Observed::End);
        while ordered(fd) && say(fd, &part(8)) && say(fd, &Observed::End) {}
    });
    assert!(!busy.judge.order(busy.now, &ObserverOrder::Status, &mut |_, _| ()));
    assert_eq!(need(&mut busy), (Some(vec![place("/log", 7)]), true));
    // And who is well is not ended though all time be used up.
    busy.judge.observer().unwrap().limits = AnswerLimits { all_needed: 0, least: 600_000, ..LATE };
    for _ in 0..3 {
        assert_eq!(need(&mut busy), (Some(vec![place("/log", 8)]), true));
    }
}

#[test]
fn ends_of_programs_are_told_and_nobody_waits() {
    let mut host = host(SOON, &mut |fd| {
        ordered(fd);
        accuse(fd, [203, 0, 113, 1]);
        ordered(fd);
    });
    let link = host.judge.observer().unwrap();
    link.send(&ObserverOrder::Ended(7, crate::sys::child::ChildExit::Status(0))).unwrap();
    assert!(!link.owes());
    while !host.drops("203.0.113.1") {
        host.judge.hear(host.now);
        host.judge.commit(host.now);
    }
    assert!(host.judge.observer_pid().is_some());
}

#[test]
fn where_there_is_no_other_process_this_one_reads() {
    let mut host = host(LATE, &mut |_| std::thread::sleep(Duration::from_secs(1000)));
    assert!(host.judge.end_observer().is_some() && host.judge.observer().is_none());
    assert!(host.judge.end_observer().is_none());
    host.fails("203.0.113.1", 3);
    assert!(host.drops("203.0.113.1"), "what is read here bans");
}

#[test]
fn one_that_talks_for_ever_is_ended() {
    let addr = IpAddr::from([203, 0, 113, 1]);
    let hit = ObservedHit { source: addr.into(), addr, rule: 0, weight: 1, user: None };
    let view = RuleView { hits: 1, read: None, last: None, sight: Sight::Blind, kind: "", text: "" };
    for message in [
        Observed::News(ObserverNews::Read),
        Observed::Log(log::Level::Debug, "x"),
        Observed::Hit(hit),
        Observed::Part(ObserverPart::Text("x")),
        Observed::Part(ObserverPart::Rule(view)),
        Observed::Part(ObserverPart::Place(&[b'a'; 4096], Position::default())),
    ] {
        let mut talks = host(SOON, &mut |fd| while say(fd, &message) {});
        ask(&mut talks);
        assert_eq!(need(&mut talks), (None, false), "{message:?}");
    }
}

#[test]
fn so_much_is_an_answer_and_more_is_none() {
    let message = Observed::Part(ObserverPart::Place(&[b'a'; 4000], Position::default()));
    let most = LATE.parts / line_max(&[b'a'; 4000]);
    for (count, want) in [(most, true), (most + 1, false)] {
        let mut talks = host(LATE, &mut |fd| {
            let _ = ordered(fd) && (0..count).all(|_| say(fd, &message)) && say(fd, &Observed::End);
            // More than enough is said without an end, which is not waited for.
            ordered(fd);
        });
        let (places, runs) = ask(&mut talks);
        assert_eq!((places.map(|all| all.len()), runs), (want.then_some(count), want));
    }
}

#[test]
fn what_it_said_before_its_end_counts() {
    // Its end is seen before anything that it said, or while an order waits, or by the signal.
    let last = |fd: BorrowedFd<'_>| {
        for last in 1..=200 {
            accuse(fd, [203, 0, 113, last]);
        }
    };
    let banned = |host: &JudgeHost| (1..=200).filter(|n| host.drops(&format!("203.0.113.{n}"))).count();
    let mut ended = host(LATE, &mut |fd| last(fd));
    assert_eq!(ask(&mut ended), (None, false));
    assert_eq!(banned(&ended), 200);

    let mut hangs = host(SOON, &mut |fd| {
        ordered(fd);
        last(fd);
        std::thread::sleep(Duration::from_secs(1000));
    });
    assert_eq!(need(&mut hangs), (None, false));
    assert_eq!(banned(&hangs), 200);

    let mut unread = host(LATE, &mut |fd| last(fd));
    while unread.judge.observer_pid().is_some() {
        unread.judge.observer_child_ended(unread.now);
        std::thread::sleep(Duration::from_millis(1));
    }
    assert_eq!(banned(&unread), 200);

    // It leaves an order unread, for which it was not waited.
    let mut owes = host(SOON, &mut |fd| {
        std::thread::sleep(Duration::from_millis(300));
        last(fd);
    });
    assert_eq!(ask(&mut owes), (None, true));
    while owes.judge.observer_pid().is_some() {
        owes.judge.observer_child_ended(owes.now);
        std::thread::sleep(Duration::from_millis(1));
    }
    assert_eq!(banned(&owes), 200);

    // What comes behind that which it must not say does not.
    let mut lies = host(LATE, &mut |fd| {
        accuse(fd, [203, 0, 113, 1]);
        say(fd, &Observed::Part(ObserverPart::Taken));
        accuse(fd, [203, 0, 113, 2]);
        ordered(fd);
        ordered(fd);
    });
    while lies.judge.observer_pid().is_some() {
        lies.judge.hear(lies.now);
    }
    assert!(lies.drops("203.0.113.1") && !lies.drops("203.0.113.2"));
}

/// What one says that has counted somebody.
fn counted(bytes: &[u8]) -> Observed<'_> {
    Observed::Part(ObserverPart::Counted(CountedPlace { table: CountTable::Sources, base: 9, bytes }))
}

/// One that has taken another configuration and is told to hand over, at a moment when that is due.
fn heir(host: &mut JudgeHost) -> Now {
    let link = host.judge.observer().unwrap();
    link.replace_soon(host.now.mono);
    host.judge.look_after_observer(host.now);
    assert!(host.judge.observer_pid().is_some(), "not before it is time");
    let later = Now { mono: host.now.mono.after(60_000), ..host.now };
    host.judge.look_after_observer(later);
    later
}

#[test]
fn one_that_hands_over_ends_and_the_next_one_has_what_it_counted() {
    let mut host = host(LATE, &mut |fd| {
        let said = [counted(&[1; 8]), counted(&[2; 4]), part(7), Observed::Part(ObserverPart::Taken)];
        let _ = ordered(fd) && accuse(fd, [203, 0, 113, 1]) && said.iter().all(|one| say(fd, one));
        let _ = say(fd, &Observed::End) && ordered(fd);
    });
    heir(&mut host);
    assert!(host.judge.observer_pid().is_none() && host.drops("203.0.113.1"));
    let link = host.judge.observer().unwrap();
    assert!(link.may_start(), "nothing was wrong with it");
    assert_eq!(link.saved().first(), Some(&place("/log", 7)));
    let want = [counted(&[1; 8]).write(), counted(&[2; 4]).write()].map(Vec::into_boxed_slice);
    assert_eq!(link.take_handed(), want);
    assert!(link.take_handed().is_empty());
}

#[test]
fn one_that_has_too_much_to_hand_over_stays() {
    let mut host = host(LATE, &mut |fd| while ordered(fd) && say(fd, &Observed::End) {});
    let later = heir(&mut host);
    assert!(host.judge.observer_pid().is_some());
    let link = host.judge.observer().unwrap();
    assert!(link.due().is_some_and(|at| at > later.mono.after(60_000)), "it is asked again, and not soon");
    assert!(link.take_handed().is_empty() && link.take_places().is_none());
    // Nor is one asked that reads much, or whose configuration is that of its start.
    link.replace_soon(host.now.mono);
    link.set_places(host.now, (0..1000).map(|n| place("/log", n)).collect());
    assert!(!link.hands_over_now(later.mono) && link.due().is_none());
    link.set_places(host.now, Vec::new());
    assert!(!link.hands_over_now(later.mono));
}

#[test]
fn what_was_handed_over_counts_until_something_else_is_ordered() {
    let mut host = host(SOON, &mut |fd| {
        // Late: it is heard when something else is there.
        let said = [counted(&[1; 8]), Observed::Part(ObserverPart::Taken), Observed::End];
        let _ = ordered(fd) && ordered(fd) && said.iter().all(|one| say(fd, one));
        while say(fd, &part(7)) && say(fd, &Observed::End) && ordered(fd) {}
    });
    heir(&mut host);
    assert!(host.judge.observer_pid().is_some(), "it is late");
    assert_eq!(need(&mut host), (Some(vec![place("/log", 7)]), true));
    host.judge.look_after_observer(host.now);
    assert!(host.judge.observer_pid().is_some(), "it has gone on since");
    assert!(host.judge.observer().unwrap().take_handed().is_empty());
}

#[test]
fn what_it_counted_is_said_only_to_who_is_to_have_it() {
    for order in [ObserverOrder::Places, ObserverOrder::Status, ObserverOrder::Pause] {
        let mut liar = host(LATE, &mut |fd| {
            let _ = ordered(fd) && say(fd, &counted(&[1; 8])) && say(fd, &Observed::End) && ordered(fd);
        });
        assert!(!asked(&mut liar, &order).1, "{order:?}");
    }
}

#[test]
fn who_was_forgiven_is_so_until_all_is_read_that_was_there_before() {
    let mut behind = host(LATE, &mut |fd| {
        let more = Observed::Part(ObserverPart::Behind);
        let _ = ordered(fd) && say(fd, &part(7)) && say(fd, &more) && say(fd, &Observed::End);
        while ordered(fd) && say(fd, &part(9)) && say(fd, &Observed::End) {}
    });
    let net = range("203.0.113.1").as_net().unwrap();
    behind.judge.decider.ban_policy.reads_again();
    behind.judge.decider.ban_policy.forget(behind.now.mono, net);
    behind.pass(10);
    for is_spent in [true, false] {
        assert!(ask(&mut behind).0.is_some());
        let known = Knowledge { decider: &behind.judge.decider, now: behind.now };
        assert_eq!(known.is_spent(net, 0, 99), is_spent);
    }
}
