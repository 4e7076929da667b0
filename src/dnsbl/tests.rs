//! Lists that are a function: what is asked of them, what follows, and that it stays within its bounds.
#![allow(clippy::unwrap_used, reason = "tests")]

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
    Dnsbl::new(zones_on(&settings).filter_map(Profile::of).collect(), [5, 6], START)
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
    assert_eq!(dnsbl.look_up(START, nine, Some(22)), None);
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
    assert_eq!(dnsbl.look_up(START, nine, Some(22)), Some(0));
    assert_eq!(dnsbl.look_up(START, addr("20.0.0.8"), None), None);
    assert_eq!(serve(&mut dnsbl, START, &list).0.len(), 1);
    assert_eq!(dnsbl.look_up(START, addr("20.0.0.8"), None), None);
    assert!(serve(&mut dnsbl, START, &list).0.is_empty());
    let later = START.after(900_000);
    dnsbl.look_up(later, addr("20.0.0.8"), None);
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
        dnsbl.look_up(START, addr("20.0.0.9"), None);
        let (questions, findings) = serve(&mut dnsbl, START, list);
        assert_eq!((questions.len(), findings), (4, vec![Finding::Changed]), "{what}");
        assert_eq!(dnsbl.profiles()[0].state, state, "{what}");
        if let State::Off(why) = state {
            assert!(why.to_string().contains(words), "{why}");
        }
        dnsbl.look_up(START, addr("20.0.0.8"), None);
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
    dnsbl.look_up(START, addr("20.0.0.9"), None);
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
        let _ = ["20.0.0.9", "2600::9"].map(|text| dnsbl.look_up(START, addr(text), None));
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
            dnsbl.look_up(now, n(at), Some(80));
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
        dnsbl.look_up(START, addr("20.0.0.9"), None);
        dnsbl.look_up(START, addr("20.0.0.8"), None);
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
        dnsbl.look_up(START, addr(&format!("20.0.0.{at}")), None);
        let findings = serve(&mut dnsbl, START, silent).1;
        assert_eq!(findings == [Finding::Silent(Some(Trouble::Silent))], want, "{findings:?}");
    }
    // The failure is remembered for its time only.
    dnsbl.look_up(START, addr("20.0.0.1"), None);
    assert!(serve(&mut dnsbl, START, silent).0.is_empty());
    let later = START.after(30_000);
    dnsbl.look_up(later, addr("20.0.0.1"), None);
    let (questions, findings) = serve(&mut dnsbl, later, &good(|addr| addr == self::addr("20.0.0.1")));
    assert_eq!(questions.len(), 2);
    assert!(findings[0] == Finding::Silent(None) && matches!(findings[1], Finding::Listed(..)));
    let counts = dnsbl.profiles()[0].counts;
    assert_eq!((counts.asked, counts.listed, counts.failed, counts.mean()), (3, 1, 2, 3));
}

#[test]
fn ports_say_which_lists_are_asked() {
    let mut dnsbl =
        lists("rbl_x_ports=22\nrbl_y_enabled=true\nrbl_y_zone=y.example\nrbl_off_zone=off.example\n");
    let list = good(|_| false);
    serve(&mut dnsbl, START, &list);
    for (at, port, want) in [(1, Some(22), vec![0, 1]), (2, Some(80), vec![1]), (3, None, vec![0, 1])] {
        dnsbl.look_up(START, addr(&format!("20.0.0.{at}")), port);
        let questions = serve(&mut dnsbl, START, &list).0;
        assert_eq!(questions.iter().map(|q| q.ask.list).collect::<Vec<_>>(), want, "{port:?}");
    }
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
            dnsbl.look_up(now, from.into(), Some(22));
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
    dnsbl.look_up(late, last, Some(22));
    assert_eq!(serve(&mut dnsbl, late, &list).0.last().unwrap().ask.what, What::Addr(last));
}
