//! When the observer is started again, where it goes on, and how much of what it says is written.

use super::limits::{LOG_SPAN, WAITED_SPAN};
use super::news::{READS_MAX, READS_SPAN, SIGHT};
use super::places::ASK;
use super::process::{FORKS, PAUSE_MAX, WELL};
use super::told::LATE_LEAST;
use super::*;
use crate::base::bytes::of_path;
use crate::base::clock::{LineTime, Now, Wall};
use crate::base::position::{CAUGHT_UP, FOLLOWED, NANOS, WRITTEN, time_behind};
use crate::config::Settings;
use crate::daemon::wire::ObserverNews;
use crate::state::positions::line_max;
use crate::sys::child::ChildExit;
use std::os::fd::OwnedFd;
use std::time::Duration;

/// One that waits to be killed, which began to run and last answered so many milliseconds ago.
fn running(link: &mut ObserverLink, began: Option<u64>, answered: u64) {
    let idle = &mut |_: [OwnedFd; 2]| std::thread::sleep(Duration::from_secs(1000));
    link.set_running(ObserverLink::fork(Vec::new(), idle).unwrap());
    // The clock begins with the machine.
    let ago = |ms| Mono(clock::mono().0.saturating_sub(ms));
    if let Some(began) = began {
        link.process.set_answered(ago(began));
        link.process.set_answered(ago(answered));
    }
}

fn link() -> ObserverLink {
    let settings = Settings { run_dir: "/nonexistent".to_owned(), ..Settings::default() };
    ObserverLink::new(Wants::default(), SourceSettings::of(&settings), Vec::new())
}

#[test]
fn pauses_grow_until_one_ran_well_and_a_hang_is_nothing_that_it_did_well() {
    let mut link = link();
    let long = WELL.min(clock::mono().0);
    let mut pauses = |rows: &[(ObserverEnd, Option<u64>, u64)]| {
        let all = rows.iter().map(|&(why, began, answered)| {
            running(&mut link, began, answered);
            assert!(!link.may_start());
            link.kill();
            let lost = link.lose(why).unwrap();
            assert_eq!(lost.end, ChildExit::Signal(libc::SIGKILL));
            assert!(link.lose(why).is_none() && link.ending.is_empty());
            // The log says when, and it is so.
            let ObserverProcess::Absent(Some(again)) = link.process else { panic!("it runs") };
            let waits = again.since(clock::mono());
            assert!(waits <= lost.pause, "{waits} {}", lost.pause);
            lost.pause
        });
        all.collect::<Vec<_>>()
    };
    use ObserverEnd::{Died as END, Late as HANG, Lied, OtherRules};
    // One that never began, and those that hang for as long as others run well.
    assert_eq!(pauses(&[(END, None, 0), (HANG, None, long), (HANG, Some(long), long)]), [100, 200, 400]);
    assert_eq!(pauses(&[(Lied, Some(0), 0), (OtherRules, Some(0), 0), (END, Some(1), 0)]), [800, 0, 1600]);
    if long == WELL {
        assert_eq!(pauses(&[(END, Some(long), long), (HANG, Some(long), 0)]), [100, 100]);
    }
}

#[test]
fn it_is_started_again_when_the_pause_is_over_and_not_before() {
    let mut link = link();
    assert!(link.may_start(), "the first is started at once");
    link.pause = PAUSE_MAX;
    running(&mut link, None, 0);
    link.kill();
    assert_eq!(link.lose(ObserverEnd::Died).unwrap().pause, PAUSE_MAX);
    // What the last one told is heard at once.
    link.news.read = true;
    assert_eq!(link.due(), Some(Mono(0)));
    assert!(!link.may_start());
    link.hurry();
    assert!(link.may_start(), "who has the configuration read does not wait");
}

#[test]
fn it_goes_on_where_the_last_daemon_was_until_it_is_asked() {
    let place = |offset| (PathBuf::from("/log"), Position { offset, ..Position::default() });
    let mut link = link();
    link.places = vec![place(7)];
    assert_eq!((link.saved(), link.take_places()), (vec![place(7)], None));
    let now = Now { mono: Mono(5), wall: Wall(9) };
    link.set_places(now, vec![place(8)]);
    assert_eq!(link.take_places(), Some(vec![place(8)]));
    assert_eq!(link.take_places(), None, "the file's own time is when that was known");
    let then = |of: &str| (PathBuf::from(of), Position { tail: 9 * NANOS, ..Position::default() });
    assert_eq!(link.saved(), [place(8), then(WRITTEN), then(FOLLOWED)]);
    link.set_places(now, Vec::new());
    assert_eq!(link.take_places(), Some(Vec::new()), "there is nothing to read any more");
}

#[test]
fn what_the_next_one_reads_is_as_new_as_is_known_of_the_last_one() {
    let mut link = link();
    let then = Now { mono: Mono(5), wall: Wall(9) };
    let mut end = |why, read: &mut dyn FnMut(&mut ObserverLink)| {
        running(&mut link, None, 0);
        read(&mut link);
        link.kill();
        let before = clock::wall();
        link.lose(why).unwrap();
        let time = time_behind(&link.saved());
        let is_now = matches!(time, LineTime::Since(at) if (before..=clock::wall()).contains(&at));
        (time, is_now)
    };
    use ObserverEnd::{Died, Late, OtherRules, Replaced};
    let behind = &mut |link: &mut ObserverLink| link.set_places(then, Vec::new());
    assert_eq!(end(Replaced, behind).0, LineTime::Stamped, "of a time when nobody read");
    let reads = &mut |link: &mut ObserverLink| {
        link.set_places(then, Vec::new());
        link.set_caught_up(then.wall);
        link.set_read();
    };
    for why in [Died, Late, Replaced] {
        assert_eq!(end(why, reads).0, LineTime::Since(then.wall));
    }
    let rests = &mut |link: &mut ObserverLink| {
        link.set_places(then, Vec::new());
        link.set_caught_up(then.wall);
    };
    assert!(end(Died, rests).1 && end(Late, rests).1, "nothing was read since");
    assert_eq!((end(OtherRules, rests).0, end(Replaced, rests).0), (LineTime::Now, LineTime::Now));
    // The next one has not begun; and one that is behind.
    assert!(end(Died, &mut |_| ()).1);
    assert!(matches!(end(Replaced, behind).0, LineTime::Since(at) if at > then.wall));
    let names = link.saved().iter().filter(|(path, _)| path.as_os_str() == CAUGHT_UP).count();
    assert_eq!(names, 1);
    assert_eq!(link.take_places(), Some(Vec::new()), "no moment is written down");
}

#[test]
fn where_it_has_begun_with_what_nobody_had_read_is_where_the_next_one_begins() {
    let place = |path: &str, offset| (PathBuf::from(path), Position { offset, ..Position::default() });
    let mut link = link();
    let before = [place("/b", 7), place("/b", 5), place("/a", 3)];
    link.places = before.to_vec();
    link.add_places(vec![place("/a", 4), place("/c", 9), place("/c", 8), place("/b", 1)]);
    let all = [&before[..], &[place("/c", 9), place("/c", 8)]].concat();
    assert_eq!((link.saved(), link.take_places()), (all, None), "how far it has read is not known yet");
    // One that makes up names each time it begins.
    for round in 0..4 {
        let made_up = (0..20_000).map(|n| place(&format!("/{round}/{:0100}", n), 1));
        link.add_places(made_up.collect());
        let bytes: usize = link.places.iter().map(|(path, _)| line_max(of_path(path))).sum();
        assert!(bytes <= link.limits.parts && link.saved().starts_with(&before), "{bytes}");
    }
    assert!(link.places.len() > 10_000);
}

#[test]
fn where_one_has_run_a_start_that_fails_is_tried_again_for_a_while() {
    let mut never = link();
    assert!(!never.try_later(Mono(7)));
    let mut link = link();
    running(&mut link, None, 0);
    assert!(link.is_opening());
    link.set_told(Now { mono: Mono(9), wall: Wall(9) }, &ObserverOrder::Start(GivenSockets::default()));
    link.take_pending().unwrap();
    assert!(!link.is_opening());
    link.kill();
    link.lose(ObserverEnd::Died).unwrap();
    for _ in 0..2 {
        let tries = (0..2 * FORKS).take_while(|_| {
            let later = link.try_later(Mono(7));
            assert!(!later || link.due() > Some(Mono(7)));
            later
        });
        assert_eq!(tries.count(), 9);
        link.failed = 0;
    }
    // One that has not begun is no worse for being ended.
    running(&mut link, None, 0);
    link.pause = PAUSE;
    assert_eq!(link.lose(ObserverEnd::NotBegun).unwrap().pause, 0);
    assert_eq!(link.pause, PAUSE);
    link.end();
}

#[test]
fn so_many_messages_are_written_and_more_only_later() {
    let mut limit = LogLimit::default();
    let hour = Mono(LOG_SPAN * 7);
    for _ in 0..LOG_MAX {
        assert_eq!(limit.take(hour), LogVerdict::Written);
    }
    assert_eq!(limit.take(hour), LogVerdict::LastWritten);
    for later in [0, 1000, LOG_SPAN - 1] {
        assert_eq!(limit.take(hour.after(later)), LogVerdict::Dropped, "{later}");
    }
    let next = hour.after(LOG_SPAN);
    assert_eq!(limit.take(next), LogVerdict::WrittenAfter(4), "and it is told how many were not");
    assert_eq!(limit.take(next), LogVerdict::Written);
    // Who says little is never left out.
    let calm = (1..100).map(|n| next.after(n * LOG_SPAN / 1000));
    assert!(calm.into_iter().all(|at| limit.take(at) == LogVerdict::Written));
}

#[test]
fn after_bans_it_is_asked_how_far_it_has_read_and_not_too_often() {
    let mut link = link();
    let now = |mono| Now { mono, wall: Wall(9) };
    let start = Mono(ASK * 7);
    link.ask_by(start);
    assert!(!link.asks_now(start), "there is nobody to ask");
    running(&mut link, None, 0);
    link.ask_by(start);
    assert!(link.asks_now(start) && link.due() == Some(start), "the first time at once");
    link.set_places(now(start), Vec::new());
    assert!(!link.asks_now(start.after(ASK * 9)) && link.due().is_none(), "without bans never");
    for later in [1, ASK - 1] {
        link.ask_by(start.after(later));
    }
    assert!(!link.asks_now(start.after(ASK - 1)) && link.asks_now(start.after(ASK)));
    link.set_places(now(start.after(ASK)), Vec::new());
    link.ask_by(start.after(ASK * 5));
    assert!(link.asks_now(start.after(ASK * 5)));
    // Nobody wakes for it while something else is late.
    link.set_told(now(start), &ObserverOrder::Status);
    assert!(!link.asks_now(start.after(ASK * 9)) && link.due() == link.silent_at());
    link.take_pending().unwrap();
    assert!(link.asks_now(start.after(ASK * 9)));
    link.end();
}

#[test]
fn news_of_what_rules_see_is_dealt_with_now_and_then() {
    let mut link = link();
    let start = Mono(SIGHT * 7);
    let sight = |link: &mut ObserverLink, at| {
        link.news.add(ObserverNews::Sight);
        link.news.add(ObserverNews::Opened);
        let news = link.take_news(at);
        assert!(news.opened && !news.read);
        news.sight
    };
    assert!(sight(&mut link, start));
    assert_eq!(link.due(), None);
    for later in [0, SIGHT - 1] {
        assert!(!sight(&mut link, start.after(later)));
        assert_eq!(link.due(), Some(start.after(SIGHT)), "it is not forgotten");
    }
    assert!(link.take_news(start.after(SIGHT)).sight);
    assert!(!link.take_news(start.after(SIGHT * 9)).sight);
}

#[test]
fn however_often_it_says_that_it_has_read_that_is_dealt_with_now_and_then() {
    let mut link = link();
    let start = Mono(READS_SPAN * 70);
    let read = |link: &mut ObserverLink, at| {
        link.news.add(ObserverNews::Read);
        link.take_news(at).read
    };
    for at in 0..u64::from(READS_MAX) {
        assert!(read(&mut link, start.after(at)) && link.due().is_none(), "{at}");
    }
    for later in [READS_SPAN / 2, READS_SPAN - 1] {
        assert!(!read(&mut link, start.after(later)));
        assert_eq!(link.due(), Some(start.after(READS_SPAN)), "it is not forgotten");
    }
    assert!(link.take_news(start.after(READS_SPAN)).read);
    assert!(!link.take_news(start.after(READS_SPAN * 9)).read);
    assert!(read(&mut link, start.after(READS_SPAN * 9)));
}

#[test]
fn one_that_still_opens_what_is_not_wanted_any_more_is_not_waited_for_long() {
    let mut link = link();
    let start = Mono(WAITED_SPAN * 7);
    let AnswerLimits { needed, other, .. } = AnswerLimits::USUAL;
    running(&mut link, Some(0), 0);
    link.set_reopening(start);
    let wait = |link: &mut ObserverLink, order| link.answer_until(start, &order).since(start);
    assert_eq!(wait(&mut link, ObserverOrder::Pause), other);
    assert_eq!(link.end_by(&ObserverOrder::Pause, Errno::ETIMEDOUT), ObserverEnd::NotBegun);
    assert_eq!(link.end_by(&ObserverOrder::Pause, Errno::EPIPE), ObserverEnd::Died);
    assert_eq!(link.end_by(&ObserverOrder::Stop, Errno::ETIMEDOUT), ObserverEnd::Late);
    assert_eq!(wait(&mut link, ObserverOrder::Stop), needed);
    // It has said where it has begun.
    link.set_places(Now { mono: start, wall: Wall(9) }, Vec::new());
    assert_eq!(wait(&mut link, ObserverOrder::Pause), needed);
    assert_eq!(link.end_by(&ObserverOrder::Pause, Errno::ETIMEDOUT), ObserverEnd::Late);
    link.end();
}

#[test]
fn it_is_waited_for_so_long_within_a_minute() {
    let mut link = link();
    let start = Mono(WAITED_SPAN * 7);
    let wait = |link: &mut ObserverLink, at: Mono, order| link.answer_until(at, &order).since(at);
    let AnswerLimits { needed, all_needed, least, other, all, .. } = AnswerLimits::USUAL;
    assert_eq!(wait(&mut link, start, ObserverOrder::Pause), needed);
    assert_eq!(wait(&mut link, start, ObserverOrder::Status), other);
    link.add_wait(start, &ObserverOrder::Describe, all - 500);
    assert_eq!(wait(&mut link, start.after(9), ObserverOrder::Status), 500);
    link.add_wait(start.after(9), &ObserverOrder::Status, 700);
    let last = start.after(WAITED_SPAN - 1);
    assert_eq!(wait(&mut link, last, ObserverOrder::Status), LATE_LEAST);
    // What has to be done has a time of its own, and never none.
    assert_eq!(wait(&mut link, last, ObserverOrder::Pause), needed);
    link.add_wait(last, &ObserverOrder::Stop, all_needed - least - 5);
    assert_eq!(wait(&mut link, last, ObserverOrder::Pause), least + 5);
    link.add_wait(last, &ObserverOrder::Stop, all_needed);
    assert_eq!(wait(&mut link, last, ObserverOrder::Pause), least);
    assert_eq!(wait(&mut link, last, ObserverOrder::Stop), needed);
    assert_eq!(wait(&mut link, start.after(WAITED_SPAN), ObserverOrder::Status), other);
    assert_eq!(wait(&mut link, last.after(WAITED_SPAN), ObserverOrder::Pause), needed);
}

#[test]
fn who_had_nothing_to_say_is_not_silent_when_it_is_told_something() {
    let mut link = link();
    let _theirs = link.pretend();
    link.heard.set(Mono(0));
    let now = clock::now();
    link.set_told(now, &ObserverOrder::Places);
    assert!(!link.is_silent(now.mono.after(link.limits.silence - 1)));
    // That it is told more does not give it more time.
    link.heard.set(now.mono);
    link.set_told(Now { mono: now.mono.after(9), ..now }, &ObserverOrder::Pause);
    assert!(link.is_silent(now.mono.after(link.limits.silence)));
    link.kill();
}
