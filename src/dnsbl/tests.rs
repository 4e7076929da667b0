//! Lists that are a function: what is asked of them, what follows, and that it stays within its bounds.
#![allow(clippy::unwrap_used, reason = "tests")]

use super::waiting::SHARED;
use super::*;
use crate::config::parse_global;
use crate::dns::packet::{Section, Writer, class, flag};

/// What a list says of an address: codes, or why it says nothing.
type List<'l> = &'l dyn Fn(IpAddr) -> Result<Vec<[u8; 4]>, Trouble>;

const START: Mono = Mono(1_000_000);

fn lists(settings: &str) -> Dnsbl {
    let text = format!("[global]\nrbl_enabled=true\nrbl_x_enabled=true\nrbl_x_zone=bl.example\n{settings}");
    let (settings, problems) = parse_global(text.as_bytes());
    assert!(problems.is_empty(), "{text}: {}", problems.len());
    Dnsbl::new(settings.zones_on().filter_map(Profile::of).collect(), [5, 6], START)
}

/// Answers all questions that may be sent now, for as long as there are any; returns them, and what followed.
fn serve(dnsbl: &mut Dnsbl, now: Mono, list: List<'_>) -> (Vec<Question>, Vec<Finding>) {
    let (mut questions, mut findings) = (Vec::new(), Vec::new());
    while let Some(question) = dnsbl.next_question(now) {
        let addr = match question.ask.what {
            What::Test(number) => TESTS[usize::from(number)],
            What::Addr(addr) | What::Text(addr, _) => addr,
        };
        assert!(question.name.labels().count() > 4);
        let mut buffer = [0; 512];
        let answer = list(addr).map(|codes| {
            let mut writer = Writer::new(&mut buffer, 1, flag::RESPONSE).unwrap();
            writer.question(&question.name, question.kind, class::IN).unwrap();
            for code in codes {
                let data = if question.kind == kind::TXT { b"\x03why".to_vec() } else { code.to_vec() };
                let (name, kind) = (&question.name, question.kind);
                writer.record(Section::Answer, name, kind, class::IN, 60, &data).unwrap();
            }
            writer.bytes().to_vec()
        });
        let answer = answer.as_ref().map(|bytes| Message::new(bytes).unwrap()).map_err(|e| *e);
        findings.push(dnsbl.answered(now, question.ask, 3, answer));
        questions.push(question);
    }
    findings.retain(|finding| *finding != Finding::Nothing);
    (questions, findings)
}

fn addr(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn is_test(addr: IpAddr, number: usize) -> bool {
    addr == TESTS[number]
}

/// A list as it should be, which has what `has` says beside the test entries.
fn good(has: impl Fn(IpAddr) -> bool) -> impl Fn(IpAddr) -> Result<Vec<[u8; 4]>, Trouble> {
    move |addr| {
        let there =
            is_test(addr, 0) || is_test(addr, 2) || (has(addr) && !is_test(addr, 1) && !is_test(addr, 3));
        Ok(if there { vec![[127, 0, 0, 14]] } else { vec![] })
    }
}

#[test]
fn a_list_is_asked_once_its_test_entries_are_right() {
    let mut dnsbl = lists("");
    let nine = addr("20.0.0.9");
    dnsbl.look_up(START, nine);
    let list = good(|addr| addr == nine);
    let (questions, findings) = serve(&mut dnsbl, START, &list);
    let asked: Vec<String> = questions.iter().map(|q| q.name.to_string()).collect();
    assert_eq!(asked[..2], ["2.0.0.127.bl.example", "1.0.0.127.bl.example"]);
    assert!(asked[2].starts_with("2.0.0.0.0.0.f.7.f.f.f.f.0."));
    assert_eq!(asked[4..], ["9.0.0.20.bl.example", "9.0.0.20.bl.example"], "who came first has waited");
    let code = Ipv4Addr::new(127, 0, 0, 14);
    assert_eq!(
        findings,
        [
            Finding::Changed,
            Finding::Looked(nine, Verdict::Listed(code)),
            Finding::Listed(nine, "listed by x: why".into())
        ]
    );
    // Known until its time is over: it is not asked again, and who is listed is known to be.
    dnsbl.look_up(START, nine);
    dnsbl.look_up(START, nine);
    let (questions, findings) = serve(&mut dnsbl, START, &list);
    assert_eq!(questions.iter().map(|q| q.ask.what).collect::<Vec<_>>(), [What::Text(nine, code)]);
    assert_eq!(findings, [Finding::Listed(nine, "listed by x: why".into())]);
    dnsbl.look_up(START, addr("20.0.0.8"));
    assert_eq!(serve(&mut dnsbl, START, &list).0.len(), 1);
    dnsbl.look_up(START, addr("20.0.0.8"));
    assert!(serve(&mut dnsbl, START, &list).0.is_empty());
    let later = START.after(900_000);
    dnsbl.look_up(later, addr("20.0.0.8"));
    assert_eq!(serve(&mut dnsbl, later, &list).0.len(), 1, "negative_ttl is over");
}

#[test]
fn a_list_that_is_not_right_is_switched_off_and_told_why() {
    let all: List<'_> = &|_| Ok(vec![[127, 0, 0, 2]]);
    let none: List<'_> = &|_| Ok(vec![]);
    let made_up: List<'_> = &|_| Ok(vec![[20, 1, 1, 1]]);
    let refused: List<'_> = &|_| Ok(vec![[127, 255, 255, 254]]);
    let silent: List<'_> = &|_| Err(Trouble::Silent);
    let ip = |octets: [u8; 4]| Ipv4Addr::from(octets);
    let cases: [(&str, List<'_>, State, &str); 5] = [
        ("lists everything", all, State::Off(Unreliable::ListsAll), "lists everything"),
        ("is empty", none, State::Off(Unreliable::NoTestEntry), "test entry"),
        ("is made up", made_up, State::Off(Unreliable::MadeUp(ip([20, 1, 1, 1]))), "makes up answers"),
        (
            "refuses",
            refused,
            State::Off(Unreliable::Refused(ip([127, 255, 255, 254]))),
            "resolver of your own",
        ),
        ("is silent", silent, State::Waits(Some(Trouble::Silent)), ""),
    ];
    for (what, list, state, words) in cases {
        let mut dnsbl = lists("");
        dnsbl.look_up(START, addr("20.0.0.9"));
        let (questions, findings) = serve(&mut dnsbl, START, list);
        assert_eq!((questions.len(), findings), (4, vec![Finding::Changed]), "{what}");
        assert_eq!(dnsbl.profiles()[0].state, state, "{what}");
        if let State::Off(why) = state {
            assert!(why.to_string().contains(words), "{why}");
        }
        dnsbl.look_up(START, addr("20.0.0.8"));
        assert!(serve(&mut dnsbl, START, list).0.is_empty(), "{what}: nobody is asked about");
        // When it has become right it is asked again: at the next test, within an hour.
        let right = good(|_| false);
        let at = dnsbl.deadline().unwrap();
        assert!(at > START && at <= START.after(3_600_000), "{what}");
        assert!(serve(&mut dnsbl, at, &right).1.contains(&Finding::Changed), "{what}");
        assert_eq!(dnsbl.profiles()[0].state, State::On, "{what}");
    }
}

#[test]
fn a_list_without_test_entries_has_to_be_called_one() {
    let list: List<'_> =
        &|addr| Ok(if addr == self::addr("20.0.0.9") { vec![[127, 0, 0, 2]] } else { vec![] });
    let mut dnsbl = lists("rbl_x_no_test_entry=true");
    dnsbl.look_up(START, addr("20.0.0.9"));
    assert!(matches!(serve(&mut dnsbl, START, list).1[..], [.., Finding::Listed(..)]));
    let all: List<'_> = &|_| Ok(vec![[127, 0, 0, 2]]);
    let mut dnsbl = lists("rbl_x_no_test_entry=true");
    serve(&mut dnsbl, START, all);
    assert_eq!(
        dnsbl.profiles()[0].state,
        State::Off(Unreliable::ListsAll),
        "what must not be there is looked for"
    );
}

#[test]
fn who_has_no_entries_of_ipv6_is_not_asked_about_it() {
    let four: List<'_> = &|addr| Ok(if is_test(addr, 0) { vec![[127, 0, 0, 2]] } else { vec![] });
    let six: List<'_> = &|addr| Ok(if is_test(addr, 2) { vec![[127, 0, 0, 2]] } else { vec![] });
    for (list, asked) in [(four, "20.0.0.9"), (six, "2600::9")] {
        let mut dnsbl = lists("");
        serve(&mut dnsbl, START, list);
        let _ = ["20.0.0.9", "2600::9"].map(|text| dnsbl.look_up(START, addr(text)));
        let questions = serve(&mut dnsbl, START, list).0;
        assert_eq!(questions.iter().map(|q| q.ask.what).collect::<Vec<_>>(), [What::Addr(addr(asked))]);
    }
}

#[test]
fn a_list_that_suddenly_has_nearly_everybody_is_switched_off() {
    let n = |n: u32| IpAddr::from(Ipv4Addr::from_bits(0x1400_0000 + n));
    for (limit, share, off) in [("", 3, false), ("", 1, true), ("rbl_x_mass_limit=100", 1, false)] {
        let mut dnsbl = lists(limit);
        let mad = good(|addr| matches!(addr, IpAddr::V4(v4) if v4.to_bits() % share == 0));
        let mut bans = 0;
        for at in 0..200 {
            let now = START.after(u64::from(at) * 1000);
            dnsbl.look_up(now, n(at));
            let findings = serve(&mut dnsbl, now, &mad).1;
            bans += findings.iter().filter(|f| matches!(f, Finding::Listed(..))).count();
        }
        let state = dnsbl.profiles()[0].state;
        assert_eq!(matches!(state, State::Off(Unreliable::TooMany(_))), off, "{limit} {share} {state:?}");
        assert_eq!(bans < 16, off, "{bans}");
    }
}

#[test]
fn errors_stop_the_questions_and_ban_nobody() {
    for code in [[127, 255, 255, 252], [127, 255, 255, 254], [127, 255, 255, 255], [20, 1, 1, 1]] {
        let mut dnsbl = lists("rbl_x_answer_match=*");
        serve(&mut dnsbl, START, &good(|_| false));
        dnsbl.look_up(START, addr("20.0.0.9"));
        dnsbl.look_up(START, addr("20.0.0.8"));
        let (questions, findings) = serve(&mut dnsbl, START, &|_| Ok(vec![code]));
        assert_eq!((questions.len(), findings), (1, vec![Finding::Changed]), "{code:?}");
        assert!(matches!(dnsbl.profiles()[0].state, State::Off(_)));
    }
}

#[test]
fn silence_is_told_when_it_begins_and_ends_and_bans_nobody() {
    let mut dnsbl = lists("");
    serve(&mut dnsbl, START, &good(|_| false));
    let silent: List<'_> = &|_| Err(Trouble::Silent);
    for (at, want) in [(1, true), (2, false)] {
        dnsbl.look_up(START, addr(&format!("20.0.0.{at}")));
        let findings = serve(&mut dnsbl, START, silent).1;
        let told = matches!(findings[..], [Finding::Silent(_, Verdict::Trouble(Trouble::Silent))]);
        assert_eq!(told, want, "{findings:?}");
    }
    // The failure is remembered for its time only.
    dnsbl.look_up(START, addr("20.0.0.1"));
    assert!(serve(&mut dnsbl, START, silent).0.is_empty());
    let later = START.after(30_000);
    dnsbl.look_up(later, addr("20.0.0.1"));
    let (questions, findings) = serve(&mut dnsbl, later, &good(|addr| addr == self::addr("20.0.0.1")));
    assert_eq!(questions.len(), 2);
    assert!(matches!(findings[..], [Finding::Silent(_, Verdict::Listed(_)), Finding::Listed(..)]));
    let counts = dnsbl.profiles()[0].counts;
    assert_eq!((counts.asked, counts.listed, counts.failed, counts.mean()), (3, 1, 2, 3));
}

#[test]
fn all_lists_are_asked_about_whoever_comes() {
    let mut dnsbl =
        lists("rbl_x_ports=22\nrbl_y_enabled=true\nrbl_y_zone=y.example\nrbl_off_zone=off.example\n");
    let list = good(|_| false);
    serve(&mut dnsbl, START, &list);
    dnsbl.look_up(START, addr("20.0.0.1"));
    let questions = serve(&mut dnsbl, START, &list).0;
    assert_eq!(questions.iter().map(|q| q.ask.list).collect::<Vec<_>>(), [0, 1]);
    assert_eq!(dnsbl.take_anew(), None);
}

#[test]
fn a_list_that_does_not_answer_takes_nothing_from_the_others() {
    let mut dnsbl = lists("rbl_x_timeout=5s\nrbl_y_enabled=true\nrbl_y_zone=y.example\n");
    let list = good(|addr| !addr.is_loopback());
    serve(&mut dnsbl, START, &list);
    // Forty strangers a second: one list answers at once, the other never.
    let (mut open, mut banned, mut most) = (Vec::<(Mono, Ask)>::new(), 0, 0);
    for n in 0..800u32 {
        let now = START.after(u64::from(n) * 25);
        open.retain(|(until, ask)| {
            let ended = *until <= now;
            if ended {
                dnsbl.answered(now, *ask, 5000, Err(Trouble::Silent));
            }
            !ended
        });
        dnsbl.look_up(now, IpAddr::from(Ipv4Addr::from_bits(0x1400_0000 + n)));
        while let Some(question) = dnsbl.next_question(now) {
            let ask = question.ask;
            if ask.list == 0 {
                open.push((now.after(5000), ask));
                continue;
            }
            let mut buffer = [0; 512];
            let mut writer = Writer::new(&mut buffer, 1, flag::RESPONSE).unwrap();
            writer.question(&question.name, question.kind, class::IN).unwrap();
            let data: &[u8] = if question.kind == kind::TXT { b"\x03why" } else { &[127, 0, 0, 2] };
            let listed = n % 3 == 0 || question.kind == kind::TXT;
            if listed {
                writer.record(Section::Answer, &question.name, question.kind, class::IN, 60, data).unwrap();
            }
            let answer = Message::new(writer.bytes()).unwrap();
            banned += u32::from(matches!(dnsbl.answered(now, ask, 1, Ok(answer)), Finding::Listed(..)));
        }
        most = most.max(open.len());
        assert!(n < 250 || open.len() <= 1, "one question finds out whether it answers again");
    }
    assert_eq!(banned, 800u32.div_ceil(3), "everybody whom the other list has");
    assert!(most <= SHARED / 2, "{most}");
    // Whoever was not asked about is to come again, and is asked about then.
    let Some(Anew::Some(missed)) = dnsbl.take_anew() else { panic!("nobody") };
    assert!(missed.iter().all(|one| matches!(one.after, 1 | 30)), "{missed:?}");
    let (late, who) = (START.after(60_000), missed[0].addr);
    open.drain(..).for_each(|(_, ask)| drop(dnsbl.answered(late, ask, 1, Err(Trouble::Silent))));
    dnsbl.look_up(late, who);
    let asked = serve(&mut dnsbl, late, &good(|_| false)).0;
    assert!(asked.iter().any(|q| q.ask == Ask { list: 0, what: What::Addr(who) }));
}

#[test]
fn who_was_not_asked_about_is_to_be_reported_again() {
    let mut dnsbl = lists("rbl_x_error_ttl=7s");
    let (right, silent): (_, List<'_>) = (good(|_| false), &|_| Err(Trouble::Silent));
    serve(&mut dnsbl, START, &right);
    assert_eq!(dnsbl.take_anew(), None);
    let who = addr("20.0.0.1");
    dnsbl.look_up(START, who);
    serve(&mut dnsbl, START, silent);
    let missed = |after| Some(Anew::Some(vec![Missed { addr: who, after }]));
    assert_eq!(dnsbl.take_anew(), missed(7));
    // He comes too early: for the rest of the time.
    let now = START.after(5000);
    dnsbl.look_up(now, who);
    assert_eq!((dnsbl.take_anew(), serve(&mut dnsbl, now, silent).0.len()), (missed(2), 0));
    let now = START.after(7000);
    dnsbl.look_up(now, who);
    assert_eq!((serve(&mut dnsbl, now, &right).0.len(), dnsbl.take_anew()), (1, None));
    // While a list is off nobody is asked about: when it is on again everybody is to be reported.
    let all: List<'_> = &|_| Ok(vec![[127, 0, 0, 2]]);
    let hour = START.after(3_600_000);
    serve(&mut dnsbl, hour, all);
    dnsbl.look_up(hour, addr("20.0.0.3"));
    assert_eq!(dnsbl.take_anew(), None);
    serve(&mut dnsbl, hour.after(3_600_000), &right);
    assert_eq!(dnsbl.take_anew(), Some(Anew::All));
    assert_eq!(dnsbl.take_anew(), None);
}

#[test]
fn other_servers_are_tried_at_once_for_what_was_not_heard_of() {
    let mut dnsbl = lists("");
    serve(&mut dnsbl, START, &|_| Err(Trouble::Silent));
    let now = START.after(100);
    assert!(dnsbl.deadline().unwrap() > now);
    dnsbl.servers_changed(now);
    assert_eq!(dnsbl.deadline(), Some(now));
    assert_eq!(serve(&mut dnsbl, now, &good(|_| false)).1, [Finding::Changed]);
    let at = dnsbl.deadline();
    dnsbl.servers_changed(now);
    assert_eq!(dnsbl.deadline(), at, "what is known stays so");
}

#[test]
fn a_flood_of_strangers_is_bounded_in_number_and_rate() {
    let mut dnsbl = lists("");
    let list = good(|_| false);
    serve(&mut dnsbl, START, &list);
    let mut asked = 0;
    // 100,000 a minute, for ten seconds.
    for ms in 0..10_000u32 {
        let now = START.after(ms.into());
        for n in 0..2 {
            let from = Ipv4Addr::from_bits(0x1400_0000 + ms * 2 + n);
            dnsbl.look_up(now, from.into());
        }
        assert!(dnsbl.waiting.len() <= WAITING);
        asked += serve(&mut dnsbl, now, &list).0.len();
    }
    assert!((1900..=2300).contains(&asked), "{asked}");
    assert!(dnsbl.skipped() > 17_000, "{}", dnsbl.skipped());
    // Who was left out is asked about when it comes again.
    let late = START.after(20_000);
    let last = Ipv4Addr::from_bits(0x1400_0000 + 19_999).into();
    serve(&mut dnsbl, late, &list);
    dnsbl.look_up(late, last);
    assert_eq!(serve(&mut dnsbl, late, &list).0.last().unwrap().ask.what, What::Addr(last));
}
