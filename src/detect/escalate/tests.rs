//! Sentences against tables and against a list of everything that happened.

use super::*;
use std::collections::BTreeMap;

const KEY: [u64; 2] = [3, 5];
const TERMS: EscalationTerms = EscalationTerms { factor: 2, max: 10_000, memory: 20_000, starts: 4 };
const CHARGE: BanRequest = BanRequest {
    bantime: Span::Secs(100),
    permanent: None,
    spoofable: Spoofable::No,
    scope: 0,
    flood: false,
};

fn at(secs: u64) -> Mono {
    Mono(secs * 1000)
}

fn addr(n: u32) -> IpNet {
    IpNet::from(std::net::IpAddr::from(n.to_be_bytes()))
}

fn table(terms: EscalationTerms) -> RepeatOffenders {
    RepeatOffenders::new(64, terms, KEY)
}

/// Bans and remembers it.
fn ban(table: &mut RepeatOffenders, secs: u64, n: u32, request: &BanRequest) -> (Span, u32) {
    let decision = table.decide(at(secs), addr(n), request);
    table.record(at(secs), addr(n), request.scope, &decision);
    (decision.time, decision.bans)
}

#[test]
fn each_further_ban_lasts_longer_up_to_the_longest() {
    let cases: &[(&str, u32, u32, u64, &[u64])] = &[
        ("twice as long", 2, 1000, 100, &[100, 200, 400, 800, 1000, 1000]),
        ("three times", 3, 1000, 100, &[100, 300, 900, 1000]),
        ("as long", 1, 1000, 100, &[100, 100, 100]),
        ("never shorter than the rule's", 2, 50, 100, &[100, 100, 100]),
        ("very long", 100, u32::MAX, 1 << 31, &[1 << 31, u32::MAX as u64, u32::MAX as u64]),
    ];
    for &(name, factor, max, bantime, want) in cases {
        let mut table = table(EscalationTerms { factor, max, ..TERMS });
        let request = BanRequest { bantime: Span::Secs(bantime), ..CHARGE };
        let mut now = 1000;
        for (i, &secs) in want.iter().enumerate() {
            let n = u32::try_from(i).unwrap() + 1;
            assert_eq!(ban(&mut table, now, 1, &request), (Span::Secs(secs), n), "{name}, ban {n}");
            now += secs + 1;
        }
    }
}

#[test]
fn who_keeps_quiet_begins_anew() {
    let mut table = table(TERMS);
    ban(&mut table, 1000, 1, &CHARGE);
    ban(&mut table, 2000, 1, &CHARGE);
    let end = 2000 + 200;
    assert_eq!(table.decide(at(end + 19_999), addr(1), &CHARGE).bans, 3);
    assert_eq!(table.decide(at(end + 20_000), addr(1), &CHARGE).bans, 1);
    assert!(table.knows(at(end + 19_999), addr(1)) && !table.knows(at(end + 20_000), addr(1)));
    assert_eq!(ban(&mut table, end + 20_000, 1, &CHARGE), (Span::Secs(100), 1));
    let often = BanRequest { permanent: Some((1_000_000, 3)), ..CHARGE };
    assert_eq!(
        ban(&mut table, end + 21_000, 1, &often),
        (Span::Secs(200), 2),
        "forgotten bans are in no window"
    );
}

#[test]
fn what_is_in_force_is_repeated_and_not_counted() {
    let mut table = table(TERMS);
    let other = BanRequest { scope: 7, ..CHARGE };
    assert_eq!(ban(&mut table, 1000, 1, &CHARGE), (Span::Secs(100), 1));
    assert_eq!(ban(&mut table, 1000, 1, &CHARGE), (Span::Secs(100), 1), "at once");
    assert_eq!(ban(&mut table, 1090, 1, &CHARGE), (Span::Secs(100), 1), "and it lasts from now");
    assert_eq!(ban(&mut table, 1189, 1, &CHARGE), (Span::Secs(100), 1));
    assert_eq!(ban(&mut table, 1190, 1, &other).1, 2, "of other ports it is a further one");
    assert_eq!(ban(&mut table, 1191, 1, &CHARGE).1, 2, "not within a minute, whatever the ports");
    assert_eq!(ban(&mut table, 1300, 1, &CHARGE).1, 3);
    // A longer one in force is not made shorter by a rule with a shorter time.
    let long = BanRequest { bantime: Span::Secs(5000), ..CHARGE };
    assert_eq!(ban(&mut table, 100, 2, &long).0, Span::Secs(5000));
    assert_eq!(ban(&mut table, 200, 2, &CHARGE).0, Span::Secs(4900));
    let forever = BanRequest { bantime: Span::Permanent, ..CHARGE };
    assert_eq!(ban(&mut table, 100, 3, &forever).0, Span::Permanent);
    assert_eq!(ban(&mut table, 90_000_000, 3, &CHARGE).0, Span::Permanent);
}

#[test]
fn enough_bans_in_the_window_are_permanent() {
    let cases: &[(&str, u32, u32, &[u64], bool)] = &[
        ("one is enough", 100, 1, &[5000], true),
        ("three inside", 5000, 3, &[1000, 2000, 5999], true),
        ("the first just left", 5000, 3, &[1000, 2000, 6000], false),
        ("two are not three", 5000, 3, &[1000, 2000], false),
        ("across the start of a window", 5000, 3, &[1000, 5000, 7000, 9000], true),
        ("five, the usual threshold", 86_400, 5, &[1000, 5000, 9000, 13_000, 17_000], true),
        ("many more than are remembered", 86_400, 9, &[1000, 2000, 4000, 7000, 12_000], false),
    ];
    for &(name, window, threshold, times, want) in cases {
        let starts = usize::try_from(threshold).unwrap() - 1;
        let mut table = table(EscalationTerms { starts, factor: 1, ..TERMS });
        let request = BanRequest { permanent: Some((window, threshold)), ..CHARGE };
        let all: Vec<Span> = times.iter().map(|&time| ban(&mut table, time, 1, &request).0).collect();
        let (last, before) = all.split_last().unwrap();
        assert_eq!(*last == Span::Permanent, want, "{name}: {all:?}");
        assert!(!before.contains(&Span::Permanent), "{name}: {all:?}");
    }
}

#[test]
fn evidence_that_can_be_forged_weighs_little() {
    let mut table = table(TERMS);
    let forged = BanRequest { spoofable: Spoofable::ByAnybody, permanent: Some((10_000, 2)), ..CHARGE };
    for i in 0..10 {
        assert_eq!(ban(&mut table, 1000 + i * 200, 1, &forged), (Span::Secs(100), 0));
    }
    assert!(!table.knows(at(3000), addr(1)));
    let often = BanRequest { permanent: Some((10_000, 2)), ..CHARGE };
    assert_eq!(ban(&mut table, 4000, 1, &often), (Span::Secs(100), 1), "nothing was counted");
    assert_eq!(ban(&mut table, 4200, 1, &forged), (Span::Secs(100), 1), "nor does it grow");
    let forever = BanRequest { bantime: Span::Permanent, ..forged };
    assert_eq!(ban(&mut table, 4400, 2, &forever).0, Span::Secs(TERMS.max.into()), "never permanent");
    // What is in force for good reasons stays so.
    let proven = BanRequest { bantime: Span::Permanent, ..CHARGE };
    assert_eq!(ban(&mut table, 5000, 3, &proven).0, Span::Permanent);
    assert_eq!(ban(&mut table, 5100, 3, &forged).0, Span::Permanent);
}

#[test]
fn in_a_flood_bans_are_short_and_not_counted() {
    let mut table = table(TERMS);
    let flood = |bantime| BanRequest { bantime, flood: true, permanent: Some((10_000, 1)), ..CHARGE };
    let rows =
        [(Span::Secs(100), 100), (Span::Secs(600), 600), (Span::Secs(3600), 600), (Span::Permanent, 600)];
    for (n, (bantime, want)) in (0..).zip(rows) {
        assert_eq!(ban(&mut table, 1000, n, &flood(bantime)), (Span::Secs(want), 0));
        assert_eq!(table.decide(at(3000), addr(n), &CHARGE).bans, 1);
    }
    ban(&mut table, 1000, 9, &BanRequest { bantime: Span::Secs(3600), ..CHARGE });
    assert_eq!(
        ban(&mut table, 1100, 9, &flood(Span::Secs(3600))).0,
        Span::Secs(3500),
        "nothing gets shorter"
    );
}

#[test]
fn a_minute_with_too_many_bans_is_a_flood_until_one_without() {
    let mut pace = Pace::new(3);
    let rows = [
        (1000, false, None),
        (1001, false, None),
        (1002, false, None),
        (1003, true, Some(RateAlarm::Flood)),
        (1004, true, None),
        (1059, true, None),
        // The next minute: still one until it was seen to be calm.
        (1060, true, None),
        (1061, true, None),
        (1062, true, None),
        (1063, true, Some(RateAlarm::Flood)),
        (1120, true, None),
        (1121, true, None),
        (1180, false, Some(RateAlarm::Over)),
        (1181, false, None),
        (1182, false, None),
        (1183, true, Some(RateAlarm::Flood)),
        (9000, false, Some(RateAlarm::Over)),
    ];
    for (secs, flood, news) in rows {
        assert_eq!(pace.ban(at(secs)), (flood, news), "second {secs}");
    }
}

#[test]
fn what_is_written_to_the_journal_brings_the_same_back() {
    let terms = EscalationTerms { starts: 4, ..TERMS };
    let often = BanRequest { permanent: Some((5000, 4)), ..CHARGE };
    let mut old = table(terms);
    let mut starts = Vec::new();
    let mut record = |table: &mut RepeatOffenders, secs: u64, request: &BanRequest| {
        let decision = table.decide(at(secs), addr(1), request);
        starts.clear();
        table.starts(at(secs), addr(1), decision.further, &mut starts);
        table.record(at(secs), addr(1), request.scope, &decision);
        let Span::Secs(time) = decision.time else { panic!("permanent") };
        (decision.bans, secs, secs + time, starts.clone())
    };
    let times = [(1000, often), (1300, often), (1800, BanRequest { flood: true, ..often }), (1900, often)];
    let mut last = (0, 0, 0, Vec::new());
    for (secs, request) in times {
        last = record(&mut old, secs, &request);
        // Another machine, whose clock began elsewhere.
        let mut new = table(terms);
        let (bans, began, end, starts) = &last;
        let shift = 777;
        let later = secs + 1;
        let past = Past {
            bans: *bans,
            age: later - began,
            left: Some(i64::try_from(*end).unwrap() - i64::try_from(later).unwrap()),
            scope: 0,
            starts,
        };
        new.restore(at(later + shift), addr(1), &past);
        for probe in [later, end + 1, end + 2000, began + 4999, began + 5000, end + 19_999, end + 20_000] {
            let both =
                [(&old, probe), (&new, probe + shift)].map(|(t, now)| t.decide(at(now), addr(1), &often));
            assert_eq!(both[0], both[1], "after {secs}, asked at {probe}");
        }
    }
    assert_eq!(last.0, 3, "what came in a flood is not among them");
}

#[test]
fn of_several_bans_in_the_journal_the_newest_counts() {
    let past = |bans, age, left| Past { bans, age, left, scope: 0, starts: &[] };
    let all = [past(1, 5000, Some(-4900)), past(3, 900, Some(-500)), past(2, 2000, Some(-1800))];
    for order in [[0, 1, 2], [2, 1, 0], [1, 0, 2]] {
        let mut table = table(TERMS);
        order.iter().for_each(|&i: &usize| table.restore(at(50_000), addr(1), &all[i]));
        assert_eq!(table.decide(at(50_000), addr(1), &CHARGE).bans, 4);
    }
    let mut table = table(TERMS);
    table.restore(at(50_000), addr(1), &past(0, 10, Some(100)));
    assert!(!table.knows(at(50_000), addr(1)), "one by hand counts for nothing");
    table.restore(at(50_000), addr(2), &past(0, 10, None));
    assert_eq!(table.decide(at(50_000), addr(2), &CHARGE).time, Span::Permanent, "but stays permanent");
    table.restore(at(50_000), addr(3), &past(5, 90_000, Some(-20_000)));
    assert!(!table.knows(at(50_000), addr(3)), "forgotten meanwhile");
    table.restore(at(5), addr(4), &past(1, u64::MAX, Some(i64::MIN)));
    table.restore(at(5), addr(5), &past(u32::MAX, 0, Some(i64::MAX)));
    assert_eq!(table.decide(at(5), addr(5), &BanRequest { bantime: Span::Secs(1), ..CHARGE }).bans, 255);
}

#[test]
fn forgetting_is_for_an_address_or_all_of_a_network() {
    let mut table = table(TERMS);
    for n in [1, 2, 256] {
        ban(&mut table, 1000, n, &CHARGE);
    }
    table.forget(addr(1));
    assert_eq!([1, 2, 256].map(|n| table.knows(at(1000), addr(n))), [false, true, true]);
    table.forget("0.0.0.0/24".parse().unwrap());
    assert_eq!([2, 256].map(|n| table.knows(at(1000), addr(n))), [false, true]);
}

#[test]
fn the_table_is_of_one_size_and_keeps_the_worst() {
    let mut table = RepeatOffenders::new(64, TERMS, KEY);
    for round in 0..3 {
        for n in 0..4 {
            ban(&mut table, 1000 + round * 1000, n, &CHARGE);
        }
    }
    for n in 100..5000 {
        ban(&mut table, 4000, n, &CHARGE);
    }
    assert!((0..4).all(|n| table.decide(at(5000), addr(n), &CHARGE).bans == 4));
    let known = (100..5000).filter(|&n| table.knows(at(4000), addr(n))).count();
    assert_eq!(known, 60, "all other places");
    let none = RepeatOffenders::new(0, TERMS, KEY);
    assert!(!none.knows(at(1), addr(1)));
}

/// Random bans of a few addresses against lists of when each was banned.
#[test]
fn counts_agree_with_a_list_of_everything() {
    for seed in 0..40 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let terms = EscalationTerms { factor: rng.u32(1..4), max: 2000, memory: 3000, starts: 5 };
        let mut table = RepeatOffenders::new(64, terms, KEY);
        let mut lists: BTreeMap<u32, (Vec<u64>, u64)> = BTreeMap::new();
        let mut now = 10_000;
        for _ in 0..500 {
            now += rng.u64(1..400);
            let n = rng.u32(0..5);
            let permanent = rng.bool().then(|| (rng.u32(1..4000), 6));
            let (starts, end) = lists.entry(n).or_default();
            if *end > 0 && *end + 3000 <= now {
                (*starts, *end) = (Vec::new(), 0);
            }
            let repeats = *end > now;
            let count = u32::try_from(starts.len()).unwrap() + u32::from(!repeats);
            let mut time = (1..count).fold(100, |t: u64, _| (t * u64::from(terms.factor)).min(2000));
            time = time.max(end.saturating_sub(now));
            let window = permanent.map_or(0, |(window, _)| u64::from(window));
            let inside = starts.iter().filter(|&&start| now - start < window).count();
            let forever = permanent.is_some() && !repeats && inside + 1 >= 6;
            let got = ban(&mut table, now, n, &BanRequest { permanent, ..CHARGE });
            let want = if forever { Span::Permanent } else { Span::Secs(time) };
            assert_eq!(got, (want, count), "seed {seed}, second {now}, {n}");
            if forever {
                table.forget(addr(n));
                lists.remove(&n);
            } else {
                *end = now + time;
                if !repeats {
                    starts.push(now);
                }
            }
        }
    }
}

#[test]
fn four_parts_ban_the_wider_network() {
    let net = |text: &str| -> IpNet { text.parse().unwrap() };
    type EscalateCase =
        (&'static str, &'static [u8], &'static [&'static str], &'static [Option<&'static str>]);
    let cases: &[EscalateCase] = &[
        (
            "four of one /56",
            &[56, 48],
            &[
                "2001:db8:0:0::/64",
                "2001:db8:0:1::/64",
                "2001:db8:0:1::/64",
                "2001:db8:0:2::/64",
                "2001:db8:0:3::/64",
            ],
            &[None, None, None, None, Some("2001:db8::/56")],
        ),
        (
            "of four /56, which are parts of a /48",
            &[56, 48],
            &["2001:db8:0:0::/64", "2001:db8:0:100::/64", "2001:db8:0:200::/64", "2001:db8:0:300::/64"],
            &[None, None, None, Some("2001:db8::/48")],
        ),
        (
            "the widest",
            &[56, 48],
            &[
                "2001:db8:0:0::/64",
                "2001:db8:0:1::/64",
                "2001:db8:0:2::/64",
                "2001:db8:0:100::/64",
                "2001:db8:0:200::/64",
                "2001:db8:0:3::/64",
                "2001:db8:0:300::/64",
            ],
            &[None, None, None, None, None, Some("2001:db8::/56"), Some("2001:db8::/48")],
        ),
        ("off", &[], &["2001:db8:0:0::/64"; 9], &[None; 9]),
        ("no wider than the offender", &[64, 56], &["2001:db8:0:0::/56"; 5], &[None; 5]),
        ("IPv4", &[16], &["10.0.0.1/32", "10.0.0.2/32", "10.0.0.3/32", "10.0.0.4/32"], &[None; 4]),
        (
            "different networks",
            &[48],
            &["2001:db8:1::/64", "2001:db8:2::/64", "2001:db8:3::/64", "2001:db8:4::/64"],
            &[None; 4],
        ),
    ];
    for (name, levels, bans, want) in cases {
        let mut parts = NetworkEscalation::new(64, levels, 1000, KEY);
        for (ban, want) in bans.iter().zip(*want) {
            assert_eq!(parts.banned(at(5), net(ban)), want.map(net), "{name}: {ban}");
        }
    }
    let mut parts = NetworkEscalation::new(64, &[56], 1000, KEY);
    let nth = |n: u16| net(&format!("2001:db8:0:{n:x}::/64"));
    for (secs, n) in [(0, 0), (500, 1), (999, 2)] {
        assert_eq!(parts.banned(at(secs), nth(n)), None);
    }
    assert_eq!(parts.banned(at(1000), nth(3)), None, "the first is forgotten");
    assert_eq!(parts.banned(at(1001), nth(4)), Some(net("2001:db8::/56")));
    parts.forget(net("2001:db8::/56"));
    assert_eq!(parts.banned(at(1002), nth(5)), None);
    // A crowd of networks takes the places of others, and no more.
    for n in 0..40_000_u32 {
        let addr = net(&format!("2001:{:x}:{:x}::/64", 0x1000 + n / 256, n % 256));
        assert_eq!(parts.banned(at(2000), addr), None);
    }
    let all: Vec<_> = (0..4).map(|n| parts.banned(at(2000), nth(n))).collect();
    assert_eq!(all, [None, None, None, Some(net("2001:db8::/56"))]);
}
