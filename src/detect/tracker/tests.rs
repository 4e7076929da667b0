//! The table against a list of all hits that forgets nothing but what left the window.

use super::*;
use std::net::IpAddr;

const KEY: [u64; 2] = [0x0123_4567_89ab_cdef, 0xfedc_ba98_7654_3210];

fn v4(n: u32) -> IpNet {
    IpNet::from(IpAddr::from(n.to_be_bytes()))
}

fn net(text: &str) -> IpNet {
    text.parse::<IpNet>().unwrap_or_else(|_| IpNet::from(text.parse::<IpAddr>().unwrap()))
}

fn table(slots: usize, rules: &[(u32, u32)]) -> Tracker {
    Tracker::new(slots, &limits(rules), KEY)
}

fn limits(rules: &[(u32, u32)]) -> Vec<Limits> {
    rules.iter().map(|&(findtime, maxretry)| Limits::plain(findtime, maxretry)).collect()
}

fn listed(t: &Tracker, now: u64) -> Vec<(u16, String, u32, u64)> {
    let mut all = Vec::new();
    t.for_each(Mono(now), None, &mut |rule, addr, count, last| {
        all.push((rule, addr.to_string(), count, last.0))
    });
    all.sort();
    for one in &all {
        let (mut found, addr) = (false, one.1.parse().unwrap());
        let each = &mut |rule, addr: IpNet, count, last: Mono| {
            found |= (rule, addr.to_string(), count, last.0) == *one;
        };
        t.for_each(Mono(now), Some(addr), each);
        assert!(found, "{one:?} is found by itself");
    }
    all
}

#[test]
fn verdicts_of_one_offender() {
    // findtime 10 s, maxretry 3; each row: hits as (ms, weight), and which of them bring a verdict of which
    // count.
    type Row<'a> = (&'a str, &'a [(u64, u8)], &'a [(usize, u32)]);
    let rows: &[Row] = &[
        ("two are not enough", &[(0, 1), (1, 1)], &[]),
        ("three in one millisecond", &[(5, 1), (5, 1), (5, 1)], &[(2, 3)]),
        ("counting starts anew", &[(0, 1), (1, 1), (2, 1), (3, 1), (4, 1), (5, 1)], &[(2, 3), (5, 3)]),
        ("exactly findtime ago is outside", &[(0, 1), (1, 1), (10_000, 1)], &[]),
        ("a millisecond less is inside", &[(0, 1), (1, 1), (9_999, 1)], &[(2, 3)]),
        ("weight counts", &[(0, 1), (1, 2)], &[(1, 3)]),
        ("weight alone", &[(0, 9)], &[(0, 9)]),
        ("weight 0 is no hit", &[(0, 0), (0, 0), (0, 0), (0, 2)], &[]),
        ("going back is inside", &[(9_000, 1), (1_000, 1), (5_000, 1)], &[(2, 3)]),
        ("too old when it comes", &[(20_000, 1), (10_000, 1), (20_001, 1)], &[]),
        ("old hits count where they belong", &[(9_000, 1), (1_000, 1), (11_000, 1), (11_001, 1)], &[(3, 3)]),
        (
            "years later",
            &[(0, 1), (1, 1), (1 << 40, 1), (1 << 41, 1), (1 << 62, 1), ((1 << 62) + 1, 2)],
            &[(5, 3)],
        ),
    ];
    for (name, hits, want) in rows {
        let mut t = table(64, &[(10, 3)]);
        let verdicts: Vec<_> = hits.iter().map(|&(ms, w)| t.hit(Mono(ms), 0, v4(1), w)).collect();
        let got: Vec<_> = verdicts.iter().enumerate().filter_map(|(i, v)| v.map(|c| (i, c))).collect();
        assert_eq!(got, *want, "{name}");
    }
}

#[test]
fn limits_at_their_edges() {
    let rows = [
        ("0 counts as 1", 0, 1),
        ("1", 1, 1),
        ("exact", 32, 32),
        ("first inexact", 33, 33),
        ("largest", 65_535, 65_535),
    ];
    for (name, maxretry, hits) in rows {
        let mut t = table(8, &[(600, maxretry)]);
        let first = (1..).find(|_| t.hit(Mono(7), 0, v4(1), 1).is_some());
        assert_eq!(first, Some(hits), "{name}");
        assert_eq!(t.used(), 0, "{name}");
    }
    let mut t = table(8, &[(600, u32::MAX)]);
    assert_eq!((0..257).find_map(|_| t.hit(Mono(7), 0, v4(1), 255)), Some(65_535));
    assert_eq!(t.hit(Mono(7), 1, v4(1), 9), None, "a rule that does not exist");
    assert_eq!(table(8, &[]).hit(Mono(7), 0, v4(1), 9), None, "no rules at all");
}

/// The same sequence for the table and for a list of everything. `shorter` is the window that an inexact
/// table surely covers.
fn compare(seed: u64, findtime: u32, maxretry: u32, start: u64) {
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut t = table(256, &[(findtime, maxretry), (findtime, maxretry)]);
    // Times are kept in ticks: what falls on them is judged exactly.
    let tick = 1 << table(8, &[(findtime, maxretry)]).rules[0].shift;
    let window = u64::from(findtime) * 1000 / tick * tick;
    let shorter = if maxretry <= window::EXACT { window } else { window / tick / 16 * 15 * tick };
    let mut all: Vec<(u16, IpNet, u64)> = Vec::new();
    let (mut now, mut latest) = (start, start);
    for step in 0..2000 {
        now = match rng.u32(0..100) {
            0 => now + window * rng.u64(1..20),
            1..20 => now.saturating_sub(rng.u64(0..window)),
            20..30 => now + window / 16 * rng.u64(0..17),
            30..50 => now,
            _ => now + rng.u64(0..=window / u64::from(maxretry) * 2),
        };
        now = now / tick * tick;
        latest = latest.max(now);
        now = now.max(latest.saturating_sub(window));
        all.retain(|h| latest - h.2 < window * 3);
        let (rule, addr, weight) = (rng.u16(0..2), v4(rng.u32(0..3)), rng.u8(0..4).max(1));
        let newest = |all: &[(u16, IpNet, u64)]| {
            all.iter().filter(|h| (h.0, h.1) == (rule, addr)).map(|h| h.2).max().unwrap_or(0).max(now)
        };
        let end = newest(&all);
        let count = |all: &[(u16, IpNet, u64)], len: u64| {
            u32::try_from(all.iter().filter(|h| (h.0, h.1) == (rule, addr) && end - h.2 < len).count())
                .unwrap()
        };
        for _ in 0..weight {
            all.push((rule, addr, now));
        }
        let (least, most) = (count(&all, shorter), count(&all, window));
        let verdict = t.hit(Mono(now), rule, addr, weight);
        let what = format!("seed {seed}, findtime {findtime}, maxretry {maxretry}, step {step}");
        match verdict {
            Some(n) => {
                assert!(most >= maxretry, "too early: {what}");
                assert!((least..=most).contains(&n), "{what}: {least} <= {n} <= {most}");
                all.retain(|h| (h.0, h.1) != (rule, addr));
            }
            None => {
                // A hit that is too old when it comes gives no verdict.
                assert!(least < maxretry || end - now >= shorter, "too late: {what}");
                let n = t.count(Mono(end), rule, addr);
                assert!((least..=most).contains(&n), "{what}: {least} <= {n} <= {most}");
            }
        }
    }
}

#[test]
fn same_verdicts_as_a_list_of_all_hits() {
    let starts = [0, 86_400_000, (1 << 32) - 5000, 1 << 45];
    for seed in 0..24 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let start = starts[rng.usize(..starts.len())];
        compare(seed, rng.u32(1..700), rng.u32(1..=32), start);
        compare(seed, rng.u32(1..700), rng.u32(33..200), start);
    }
}

#[test]
fn the_clock_of_the_table_runs_over_quietly() {
    // Hits every two minutes for 130 days: the stored 32 bits of milliseconds run over twice.
    for (maxretry, findtime) in [(5, 600), (60, 7200)] {
        let mut t = table(64, &[(findtime, maxretry + 1)]);
        for step in 0..93_600u64 {
            let now = Mono(step * 120_000);
            assert_eq!(t.hit(now, 0, v4(1), 1), None);
            let full = u64::from(findtime) / 120;
            let n = u64::from(t.count(now, 0, v4(1)));
            assert!(n <= full && n >= (step + 1).min(full * 15 / 16), "{n} hits at step {step}");
        }
    }
}

#[test]
fn long_windows_lose_only_fractions() {
    let year = 31_536_000;
    let mut t = table(8, &[(year, 2)]);
    let edge = u64::from(year) * 1000;
    t.hit(Mono(1000), 0, v4(1), 1);
    let fraction = edge / 8000;
    assert_eq!(t.count(Mono(1000 + edge - fraction), 0, v4(1)), 1);
    assert_eq!(t.count(Mono(1000 + edge + fraction), 0, v4(1)), 0);
    let mut t = table(8, &[(u32::MAX, 2)]);
    assert_eq!(t.hit(Mono(u64::MAX - 1), 0, v4(1), 1), None);
    assert_eq!(t.hit(Mono(u64::MAX), 0, v4(1), 1), Some(2));
}

#[test]
fn rules_and_addresses_are_counted_apart() {
    let mut t = table(64, &[(600, 3), (600, 3)]);
    let addr =
        ["192.0.2.1", "2001:db8::/64", "2001:db8::/56", "2001:db8::/128", "0.0.0.0", "::/128", "32.1.13.184"];
    for (rule, addr) in (0..2).flat_map(|rule| addr.map(|addr| (rule, addr))) {
        assert_eq!(t.hit(Mono(64), rule, net(addr), 2), None, "{addr}");
    }
    assert_eq!(t.used(), 14);
    let all = listed(&t, 65);
    assert_eq!(all.len(), 14);
    assert!(
        all.contains(&(1, "2001:db8::/56".into(), 2, 64)) && all.contains(&(0, "0.0.0.0/32".into(), 2, 64))
    );
    assert_eq!(listed(&t, 600_064), []);
    assert_eq!(t.hit(Mono(65), 0, net("192.0.2.1"), 1), Some(3));
    assert_eq!(t.count(Mono(65), 1, net("192.0.2.1")), 2);
}

#[test]
fn forgetting() {
    let rows = [
        ("an address, on all rules", "192.0.2.1", "192.0.2.2/32 2001:db8::/64"),
        ("a network", "192.0.2.0/24", "2001:db8::/64"),
        ("the prefix that is counted", "2001:db8::/64", "192.0.2.1/32 192.0.2.2/32"),
        ("a wider prefix", "2001:db8::/32", "192.0.2.1/32 192.0.2.2/32"),
        ("somebody else", "192.0.2.3", "192.0.2.1/32 192.0.2.2/32 2001:db8::/64"),
    ];
    for (name, addr, left) in rows {
        let mut t = table(64, &[(600, 3), (600, 50)]);
        for (rule, addr) in (0..2).flat_map(|r| ["192.0.2.1", "192.0.2.2", "2001:db8::/64"].map(|w| (r, w))) {
            t.hit(Mono(5), rule, net(addr), 1);
        }
        t.forget(net(addr));
        let mut nets: Vec<_> = listed(&t, 6).into_iter().map(|row| row.1).collect();
        nets.sort();
        nets.dedup();
        assert_eq!(nets.join(" "), left, "{name}");
        assert_eq!(t.used(), listed(&t, 6).len(), "{name}");
    }
}

/// A table of one set, so that every address fights for the same eight places.
#[test]
fn the_least_dangerous_gives_way() {
    let mut t = table(8, &[(600, 30)]);
    for n in 0..8 {
        for hit in 0..=n {
            t.hit(Mono(u64::from(100 * n + hit)), 0, v4(n), 1);
        }
    }
    assert_eq!((t.used(), t.evicted()), (8, 0));
    for n in 0..1_000_000 {
        assert_eq!(t.hit(Mono(2000 + u64::from(n / 100)), 0, v4(1000 + n), 1), None);
    }
    assert_eq!((t.used(), t.evicted()), (8, 1_000_000));
    for n in 1..8 {
        assert_eq!(t.count(Mono(12_000), 0, v4(n)), n + 1, "hits of address {n}");
    }
    t.hit(Mono(610_500), 0, v4(1), 1);
    assert_eq!(t.count(Mono(610_500), 0, v4(7)), 0, "all but the newest have left the window");
    for n in 0..7 {
        t.hit(Mono(620_000), 0, v4(5000 + n), 1);
    }
    assert_eq!(t.evicted(), 1_000_000, "expired offenders give way before live ones");
    assert_eq!(t.count(Mono(620_000), 0, v4(1)), 1);
    t.hit(Mono(620_001), 0, v4(6000), 1);
    assert_eq!(t.count(Mono(620_001), 0, v4(1)), 0, "of equals, the oldest gives way");
}

#[test]
fn a_crowd_does_not_hide_an_attacker() {
    let mut t = table(4096, &[(600, 5)]);
    let mut rng = fastrand::Rng::with_seed(7);
    for n in 0..200 {
        t.hit(Mono(1), 0, v4(n), 2);
    }
    for n in 0..300_000u64 {
        t.hit(Mono(2 + n / 100), 0, v4(rng.u32(1000..)), 1);
    }
    assert_eq!(t.used(), 4096);
    for n in 0..200 {
        assert_eq!(t.hit(Mono(4000), 0, v4(n), 3), Some(5), "address {n}");
    }
}

#[test]
fn places_spread_and_depend_on_the_key() {
    let place = |key, n| {
        let t = Tracker::new(4096, &limits(&[(600, 5)]), key);
        t.set(NetKey::of(v4(n))) / t.stride / WAYS
    };
    let mut sets = [0u32; 512];
    (0..5120).for_each(|n| sets[place(KEY, n)] += 1);
    assert!(sets.iter().all(|&n| n < 40), "neighbouring addresses crowd together");
    assert!((0..64).filter(|&n| place(KEY, n) == place([1, 2], n)).count() < 8);
}

#[test]
fn sizes_are_taken_as_they_come() {
    for (slots, want) in [(0, 8), (1, 8), (8, 8), (9, 16), (4096, 4096)] {
        let t = table(slots, &[(600, 5)]);
        assert_eq!((t.stride, t.words.len() / t.stride), (9, want), "{slots} slots");
    }
    assert_eq!(table(8, &[(600, 32), (1, 10_000)]).stride, WORDS_MAX);
    assert_eq!(table(8, &[(600, 10_000)]).stride, 14);
}

#[test]
fn counters_survive_a_reload() {
    let names: &[(&str, &[(u32, u32)])] = &[
        ("same limits", &[(600, 5), (600, 50)]),
        ("more hits, larger places", &[(600, 20), (600, 500)]),
        ("fewer hits, smaller places", &[(600, 4), (600, 4)]),
        ("exact and inexact swapped", &[(600, 50), (600, 5)]),
        ("a window of years beside", &[(600, 5), (u32::MAX, 50)]),
    ];
    for (name, new) in names {
        let mut t = table(8192, &[(600, 5), (600, 50), (600, 5)]);
        for n in 0..20 {
            t.hit(Mono(1000), 0, v4(n), 3);
            t.hit(Mono(2000), 1, v4(n), 3);
            t.hit(Mono(3000), 2, v4(n), 3);
        }
        // The rules change places, and the third one is gone.
        t.remap(Mono(4000), &limits(new), &|old| [Some(1), Some(0), None].get(usize::from(old)).copied()?);
        assert_eq!(t.used(), 40, "{name}");
        for n in 0..20 {
            assert_eq!((t.count(Mono(5000), 1, v4(n)), t.count(Mono(5000), 0, v4(n))), (3, 3), "{name}");
        }
        let left = new[1].1 - 3;
        let first = (1..).find(|_| t.hit(Mono(5000), 1, v4(7), 1).is_some());
        assert_eq!(first, Some(left), "{name}");
    }
}

#[test]
fn lowered_limits_ban_at_the_next_hit_and_not_before() {
    let mut t = table(64, &[(600, 30), (600, 3000)]);
    t.hit(Mono(1000), 0, v4(1), 20);
    t.hit(Mono(1000), 1, v4(1), 200);
    t.remap(Mono(2000), &limits(&[(600, 5), (600, 40)]), &Some);
    assert_eq!((t.count(Mono(2000), 0, v4(1)), t.count(Mono(2000), 1, v4(1))), (4, 200));
    assert_eq!(t.hit(Mono(2000), 0, v4(1), 1), Some(5));
    assert_eq!(t.hit(Mono(2000), 1, v4(1), 1), Some(201));
    t.remap(Mono(3000), &[], &Some);
    assert_eq!((t.used(), listed(&t, 3000).len()), (0, 0));
}

fn named(t: &mut Tracker, secs: u64, name: &str, way: u8) -> Option<u32> {
    t.attempt(Mono(secs * 1000), 0, v4(1), &Attempt { weight: 1, name: Some(name.as_bytes()), way })
}

fn sparing(maxretry: u32, findtime: u32, same_user: u32, same_user_max: u32) -> Tracker {
    Tracker::new(64, &[Limits { findtime, maxretry, same_user, same_user_max }], KEY)
}

/// The attempt, from 1, with which somebody is banned who makes one every `every` seconds for a day, with
/// each of `names` in turn; 0 = none.
fn banned_at(t: &mut Tracker, every: u64, names: &[&str]) -> u64 {
    let turns = (1..=86_400 / every).zip(names.iter().cycle());
    turns.into_iter().find(|(n, name)| named(t, n * every, name, 0).is_some()).map_or(0, |(n, _)| n)
}

#[test]
fn an_old_password_is_no_guessing() {
    type Row<'a> = (&'a str, u64, &'a [&'a str], std::ops::RangeInclusive<u64>);
    let rows: &[Row] = &[
        ("every two minutes", 120, &["anna"], 0..=0),
        ("every ten minutes", 600, &["anna"], 0..=0),
        ("whatever the case", 300, &["anna", "ANNA", "Anna"], 0..=0),
        ("as often as is spared", 101, &["anna"], 0..=0),
        ("two names, each seldom", 150, &["anna", "berta"], 0..=0),
        ("without end", 1, &["anna"], 35..=35),
        ("too often for long", 60, &["anna"], 70..=80),
        ("one of four names all the time", 1, &["a", "b", "c", "d", "a", "a", "a", "a", "a"], 35..=60),
        ("five names", 1, &["a", "b", "c", "d", "e"], 5..=5),
        ("five names, in as many passes", 1, &["a", "a", "a", "b", "b", "c", "d", "e"], 8..=8),
    ];
    for (name, every, names, want) in rows {
        let got = banned_at(&mut sparing(5, 600, 600, 30), *every, names);
        assert!(want.contains(&got), "{name}: {got}, not {want:?}");
    }
}

#[test]
fn nothing_is_spared_without_a_name_or_in_another_way() {
    let mut t = sparing(3, 600, 600, 30);
    assert_eq!([1, 2, 3].map(|n| t.hit(Mono(n), 0, v4(1), 1)), [None, None, Some(3)], "no name");
    assert_eq!([0, 1, 2].map(|way| named(&mut t, 1, "a", way)), [None, None, Some(3)], "three ways");
    let off = &mut sparing(3, 600, 0, 30);
    assert_eq!([0, 0, 0].map(|way| named(off, 1, "a", way)), [None, None, Some(3)], "off");
    assert_eq!(banned_at(&mut sparing(5, 600, 600, 0), 1, &["a"]), 0, "no end of what is spared");
    assert_eq!(banned_at(&mut sparing(40, 600, 600, 30), 1, &["a"]), 40, "beyond what is counted exactly");
}

#[test]
fn what_weighs_more_is_spared_as_a_whole() {
    let mut t = sparing(5, 600, 600, 30);
    let heavy = |t: &mut Tracker, name: &str| {
        t.attempt(Mono(1), 0, v4(1), &Attempt { weight: 3, name: Some(name.as_bytes()), way: 0 })
    };
    assert_eq!([heavy(&mut t, "a"), heavy(&mut t, "a"), heavy(&mut t, "b")], [None, None, Some(6)]);
}

#[test]
fn a_success_takes_back_what_its_name_did_and_nothing_else() {
    let mut t = sparing(5, 600, 600, 30);
    let count = |t: &Tracker| t.count(Mono(5000), 0, v4(1));
    for (name, way) in [("anna", 0), ("berta", 0), ("anna", 1), ("carl", 0)] {
        assert_eq!(named(&mut t, 1, name, way), None);
    }
    t.hit(Mono(1000), 0, v4(2), 3);
    assert!(!t.success(0, v4(3), b"anna") && !t.success(7, v4(1), b"anna") && !t.success(0, v4(1), b"dora"));
    assert_eq!(count(&t), 4);
    assert!(t.success(0, v4(1), b"Anna"));
    assert_eq!((count(&t), t.count(Mono(5000), 0, v4(2))), (2, 3));
    // Whoever has one account guesses others no longer than without it.
    let guesses = (0..).find(|n| {
        t.success(0, v4(1), b"anna");
        named(&mut t, 2, &format!("guess{n}"), 0).is_some()
    });
    assert!(guesses.is_some_and(|n| n < 6), "{guesses:?}");
    for name in ["anna", "berta"] {
        named(&mut t, 3, name, 0);
        t.success(0, v4(1), name.as_bytes());
    }
    assert_eq!((count(&t), t.used()), (0, 1), "an empty place is given back");
}

#[test]
fn five_typos_each_followed_by_success() {
    let mut t = sparing(5, 86_400, 600, 30);
    for n in 0..1000 {
        assert_eq!(named(&mut t, n * 700, "anna", 0), None);
        t.success(0, v4(1), b"anna");
    }
}

/// Names as they are told apart: with few bits some share theirs, but few.
#[test]
fn few_names_are_taken_for_others() {
    let t = sparing(5, 600, 600, 30);
    let mut seen = [0; 256];
    (0..6300).for_each(|n| seen[usize::from(t.mark(format!("user{n}").as_bytes(), 0).bits())] += 1);
    assert!(seen.iter().all(|&n| n < 200) && seen[0] == 0 && seen.iter().filter(|&&n| n > 40).count() == 63);
}

/// Names and successes against a list of all that happened, for hits that are not spared.
#[test]
fn the_same_as_a_list_of_all_with_names() {
    for seed in 0..40 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut t = sparing(rng.u32(2..=32), 640, 0, 0);
        let (limit, tick) = (t.rules[0].limits.limit, 1 << t.rules[0].shift);
        // Names that are told apart.
        let names: Vec<String> = (0..4).map(|n| format!("name{n}")).collect();
        let marks: Vec<u8> = names.iter().map(|n| t.mark(n.as_bytes(), 0).bits()).collect();
        assert!((1..4).all(|n| !marks[..n].contains(&marks[n])), "choose other names");
        let (mut all, mut now): (Vec<(u64, usize)>, u64) = (Vec::new(), 0);
        for step in 0..3000 {
            now += rng.u64(0..40_000) / tick * tick;
            let addr = rng.usize(..4);
            all.retain(|hit| now - hit.0 < 640_000 / tick * tick);
            if rng.u8(..4) == 0 {
                let had = all.iter().any(|hit| hit.1 == addr);
                // What has left the window may still be there.
                assert!(t.success(0, v4(1), names[addr].as_bytes()) >= had);
                all.retain(|hit| hit.1 != addr);
                continue;
            }
            all.push((now, addr));
            let attempt = Attempt { weight: 1, name: Some(names[addr].as_bytes()), way: rng.u8(..) };
            let got = t.attempt(Mono(now), 0, v4(1), &attempt);
            let count = u32::try_from(all.len()).unwrap();
            assert_eq!(got, (count >= limit).then_some(count), "seed {seed}, step {step}");
            if got.is_some() {
                all.clear();
            }
        }
    }
}

#[test]
fn what_is_spared_survives_a_reload() {
    let mut t = sparing(5, 600, 600, 30);
    assert_eq!((0..31).find(|_| named(&mut t, 10, "anna", 0).is_some()), None);
    let limits = Limits { findtime: 600, maxretry: 9, same_user: 600, same_user_max: 30 };
    t.remap(Mono(10_000), &[limits], &Some);
    assert_eq!(banned_at(&mut t, 11, &["anna"]), 8, "nothing is spared any more");
}
