//! Thousands of members, a tenth of them hostile or broken, and what is listed then; and each condition
//! alone.

use super::*;
use crate::sys::fs::unnamed;
use std::collections::{BTreeMap, BTreeSet};

const NOW: u64 = 500_000;

fn room() -> Room<'static> {
    Room { file: &|| unnamed(&std::env::temp_dir()), key: [1, 2] }
}

fn v4(bits: u32) -> Subject {
    Subject::V4(bits)
}

/// What the list is after the aggregate, and why others are not in it any more.
#[derive(Default)]
struct After {
    listed: BTreeMap<Subject, Listing>,
    gone: BTreeMap<Subject, Why>,
    changes: usize,
    summary: Summary,
}

/// Runs it: the list before, and reports by member, address and age in hours.
fn run(
    terms: Terms,
    members: &[Member],
    exempt: &[Range],
    before: &BTreeMap<Subject, Listing>,
    reports: &[(u16, Subject, u64)],
) -> After {
    let mut aggregate = Aggregate::new(terms, members, exempt, NOW, room()).unwrap();
    for (who, listing) in before {
        aggregate.listed(*who, Some(*listing)).unwrap();
        aggregate.listed(*who, None).unwrap();
    }
    for (member, who, age) in reports {
        aggregate.report(*member, *who, NOW - age).unwrap();
    }
    let mut after = After { listed: before.clone(), ..After::default() };
    let result = aggregate.finish(&mut |who, change| {
        after.changes += 1;
        match change {
            Change::Add(listing) => assert_eq!(after.listed.insert(who, listing), None),
            Change::Update(listing) => assert!(after.listed.insert(who, listing).is_some()),
            Change::Remove(why) => {
                assert!(after.listed.remove(&who).is_some());
                after.gone.insert(who, why);
            }
        }
        Ok(())
    });
    after.summary = result.unwrap();
    assert_eq!(after.listed.len() as u64, after.summary.listed);
    after
}

/// So many members, each a group of its own.
fn strangers(count: u16) -> Vec<Member> {
    (0..count).map(|group| Member { group, weight: WHOLE }).collect()
}

/// Reports of one address by these members, all new.
fn by(members: std::ops::Range<u16>, who: Subject) -> Vec<(u16, Subject, u64)> {
    members.map(|member| (member, who, 0)).collect()
}

#[test]
fn each_condition_alone() {
    let who = v4(0x0102_0304);
    let members = strangers(10);
    let mut one_group = strangers(10);
    one_group[1].group = 0;
    let old = |age| vec![(0, who, age), (1, who, age), (2, who, age)];
    type Case<'c> = (&'c str, &'c [Member], Vec<(u16, Subject, u64)>, bool);
    let cases: &[Case<'_>] = &[
        ("two members", &members, by(0..2, who), false),
        ("three members", &members, by(0..3, who), true),
        ("three members of two groups", &one_group, by(0..3, who), false),
        ("four members of three groups", &one_group, by(0..4, who), true),
        ("one member three times", &members, vec![(0, who, 0), (0, who, 1), (0, who, 2)], false),
        ("as old as may be", &members, old(7 * 24), true),
        ("too old", &members, old(7 * 24 + 1), false),
        ("nobody on the internet", &members, by(0..9, v4(0x0a00_0001)), false),
        ("multicast", &members, by(0..9, v4(0xe000_0001)), false),
        ("an IPv6 network", &members, by(0..3, Subject::Net(0x2a00_0001_0002_0003)), true),
        ("local IPv6", &members, by(0..9, Subject::Net(0xfe80 << 48)), false),
        ("nobody", &members, vec![], false),
    ];
    for (name, members, reports, listed) in cases {
        let after = run(Terms::default(), members, &[], &BTreeMap::new(), reports);
        assert_eq!(!after.listed.is_empty(), *listed, "{name}");
    }
    let exempt = [Range::from(std::net::IpAddr::from([1, 2, 3, 4]))];
    let after = run(Terms::default(), &members, &exempt, &BTreeMap::new(), &by(0..9, who));
    assert_eq!((after.listed.len(), after.summary.exempt), (0, 9));
    let after = run(Terms::default(), &members, &exempt, &BTreeMap::new(), &by(0..9, v4(0x0102_0305)));
    assert_eq!(after.listed.len(), 1, "its neighbour is not exempt");
    // Clocks differ; but nobody reports from tomorrow.
    for (ahead, listed) in [(1, 1), (2, 0)] {
        let mut aggregate = Aggregate::new(Terms::default(), &members, &[], NOW, room()).unwrap();
        (0..3).for_each(|member| aggregate.report(member, who, NOW + ahead).unwrap());
        assert_eq!(aggregate.finish(&mut |_, _| Ok(())).unwrap().listed, listed, "{ahead} hours ahead");
    }
}

#[test]
fn weight_decides_where_it_is_asked_for() {
    let who = v4(0x0102_0304);
    let mut members = strangers(6);
    let terms = Terms { min_weight: 1500, ..Terms::default() };
    let listed =
        |members: &[Member], reports: &[_]| run(terms, members, &[], &BTreeMap::new(), reports).listed.len();
    let old = |count: u16, age| (0..count).map(|member| (member, who, age)).collect::<Vec<_>>();
    assert_eq!(listed(&members, &old(3, 0)), 1);
    assert_eq!(listed(&members, &old(3, 24)), 1, "half of three");
    assert_eq!(listed(&members, &old(3, 25)), 0);
    assert_eq!(listed(&members, &old(6, 48)), 1, "more members hold for longer");
    members[0].weight = 100;
    assert_eq!(listed(&members, &old(3, 24)), 0, "who is new counts for little");
}

#[test]
fn the_difference_is_the_least_that_has_to_be_done() {
    let members = strangers(5);
    let (a, b, c, d) = (v4(0x0101_0101), v4(0x0101_0102), v4(0x0101_0103), v4(0x0101_0104));
    let reports = [by(0..3, a), by(0..4, b), by(0..2, c)].concat();
    let first = run(Terms::default(), &members, &[], &BTreeMap::new(), &reports);
    assert_eq!(first.listed.keys().copied().collect::<Vec<_>>(), [a, b]);
    assert_eq!(first.listed[&b], Listing { members: 4, groups: 4 });
    let again = run(Terms::default(), &members, &[], &first.listed, &reports);
    assert_eq!((again.changes, again.listed), (0, first.listed.clone()));
    let mut before = first.listed.clone();
    before.insert(c, Listing { members: 3, groups: 3 });
    before.insert(d, Listing { members: 3, groups: 3 });
    before.insert(v4(0x7f00_0009), Listing { members: 3, groups: 3 });
    let reports = [by(0..4, a), by(0..4, b), by(0..2, c)].concat();
    let after = run(Terms::default(), &members, &[], &before, &reports);
    assert_eq!(after.listed[&a].members, 4);
    assert_eq!(after.gone[&c], Why::Members(2));
    assert_eq!(after.gone[&d], Why::Unreported);
    assert_eq!(after.gone[&v4(0x7f00_0009)], Why::Exempt);
    assert_eq!(after.changes, 4);
    // An entry with a record missing is made whole.
    let mut aggregate = Aggregate::new(Terms::default(), &members, &[], NOW, room()).unwrap();
    aggregate.listed(a, Some(Listing { members: 3, groups: 3 })).unwrap();
    (0..3).for_each(|member| aggregate.report(member, a, NOW).unwrap());
    let mut changes = Vec::new();
    aggregate
        .finish(&mut |who, change| {
            changes.push((who, change));
            Ok(())
        })
        .unwrap();
    assert_eq!(changes, [(a, Change::Update(Listing { members: 3, groups: 3 }))]);
}

#[test]
fn of_one_network_only_so_much_unless_everybody_agrees() {
    let members = strangers(20);
    for (base, step) in [(v4(0x0102_0300), 1u64), (Subject::Net(0x2a00_0001_0002_0000), 1)] {
        let at = |n: u64| match base {
            Subject::V4(bits) => v4(bits + u32::try_from(n * step).unwrap()),
            Subject::Net(bits) => Subject::Net(bits + n * step),
            Subject::V6(bits) => Subject::V6(bits),
        };
        let mut reports: Vec<_> = (0..200).flat_map(|n| by(0..5, at(n))).collect();
        // The heaviest of them.
        reports.extend((0..10).flat_map(|n| by(5..8, at(n * 7))));
        let after = run(Terms::default(), &members, &[], &BTreeMap::new(), &reports);
        assert_eq!((after.listed.len(), after.summary.wide), (64, 136));
        assert!((0..10).all(|n| after.listed.contains_key(&at(n * 7))));
        let reports: Vec<_> = (0..200).flat_map(|n| by(0..20, at(n))).collect();
        let after = run(Terms::default(), &members, &[], &BTreeMap::new(), &reports);
        assert_eq!(after.listed.len(), 200, "all twenty agree");
    }
}

#[test]
fn not_much_of_the_list_hangs_on_one_member() {
    let members = strangers(200);
    // Far apart: this is not about networks.
    let at = |n: u32| v4(0x0b00_0000 + n * 0x201);
    let firm: Vec<_> = (0..4000)
        .flat_map(|n| by(u16::try_from(n % 150).unwrap()..u16::try_from(n % 150 + 5).unwrap(), at(n)))
        .collect();
    // Three who agree on anything, each a group of its own.
    let flood: Vec<_> = (0..20_000).flat_map(|n| by(197..200, at(10_000 + n))).collect();
    let after = run(Terms::default(), &members, &[], &BTreeMap::new(), &[firm.clone(), flood].concat());
    let hostile = after.listed.keys().filter(|who| **who >= at(10_000)).count();
    assert!(hostile * 20 <= after.listed.len() && hostile > 200, "{hostile} of {}", after.listed.len());
    assert_eq!(after.listed.len() - hostile, 4000, "and nobody else suffers for it");
    assert!(after.summary.share_limit >= 200 && after.summary.share > 19_000);
    // What a fourth names, too, hangs on nobody.
    let known: Vec<_> = (0..1000).flat_map(|n| by(196..200, at(10_000 + n))).collect();
    let after = run(Terms::default(), &members, &[], &BTreeMap::new(), &[firm, known].concat());
    assert_eq!(after.listed.len(), 5000);
    // In a small cloud everything hangs on everybody.
    let reports: Vec<_> = (0..150).flat_map(|n| by(0..3, at(n))).collect();
    let after = run(Terms::default(), &strangers(3), &[], &BTreeMap::new(), &reports);
    assert_eq!(after.listed.len(), 100);
}

/// A source that is drawn often is one that attacks many: the share of the n-th falls as 1/n.
fn attacker(rng: &mut fastrand::Rng, many: u32) -> u32 {
    let exponent = rng.f64() * f64::from(many).ln();
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "below many")]
    let n = exponent.exp() as u32;
    n.min(many - 1)
}

#[test]
fn a_tenth_of_three_thousand_members_is_hostile() {
    const MEMBERS: u16 = 3000;
    const HOSTILE: std::ops::Range<u16> = 2700..3000;
    let mut rng = fastrand::Rng::with_seed(21);
    let mut members = strangers(MEMBERS);
    // The hostile have got themselves into 40 groups, most of them into one.
    for (at, member) in members.iter_mut().enumerate().skip(2700) {
        member.group = 2700 + u16::try_from(at % 60).unwrap().saturating_sub(20);
    }
    let spread = |n: u32| v4(0x1000_0000 + n.wrapping_mul(2_654_435_761) % 0x6000_0000);
    let real: Vec<Subject> = (0..60_000).map(spread).collect();
    let victims: Vec<Subject> = (0..6000).map(|n| v4(0xd000_0000 + n * 0x101)).collect();
    let mut reports = Vec::new();
    for member in 0..2700 {
        // Some are quiet, some loud; some see little of what others see.
        for _ in 0..rng.u32(5..120) {
            reports.push((member, real[attacker(&mut rng, 60_000) as usize], rng.u64(0..200)));
        }
    }
    for member in HOSTILE {
        // All name the same, those of other networks, banks, each other's enemies; as if it were now.
        let group = members[usize::from(member)].group;
        for (n, victim) in victims.iter().enumerate() {
            // A third is named by one group alone, a third by two, the rest by all.
            let named = match n % 3 {
                0 => group == 2700,
                1 => group == 2700 || group == 2701,
                _ => true,
            };
            if named {
                reports.push((member, *victim, 0));
            }
        }
        // Broken ones name whatever there is, private networks too.
        reports.push((member, v4(0x0a00_0000 + u32::from(member)), 0));
        reports.push((member, real[rng.usize(0..60_000)], 0));
    }
    let before = BTreeMap::new();
    let after = run(Terms::default(), &members, &[], &before, &reports);
    let victim = |n: usize| after.listed.contains_key(&victims[n]);
    let few = (0..victims.len()).filter(|n| n % 3 < 2 && victim(*n)).count();
    assert_eq!(few, 0, "named by hostile members of fewer than three groups");

    // The same by the plain words of the conditions, without what is clever about it.
    let mut want: BTreeMap<Subject, (BTreeSet<u16>, BTreeSet<u16>)> = BTreeMap::new();
    for (member, who, age) in &reports {
        if *age <= 168 && who.is_global() {
            let (by, groups) = want.entry(*who).or_default();
            by.insert(*member);
            groups.insert(members[usize::from(*member)].group);
        }
    }
    want.retain(|_, (by, groups)| by.len() >= 3 && groups.len() >= 3);
    assert!(after.listed.keys().all(|who| want.contains_key(who)), "nobody else is listed");
    for (who, listing) in &after.listed {
        let (by, groups) = &want[who];
        assert_eq!((usize::from(listing.members), usize::from(listing.groups)), (by.len(), groups.len()));
    }
    let missed = want.keys().filter(|who| !after.listed.contains_key(who)).count();
    assert!(missed * 50 < want.len(), "{missed} of {} are missed", want.len());
    // Three hostile groups that are three in truth can list somebody: that is what groups are for.
    assert!((0..victims.len()).any(|n| n % 3 == 2 && victim(n)));
    // It is the same whatever the key, and again from where it is.
    let again = run(Terms::default(), &members, &[], &after.listed, &reports);
    assert_eq!(again.changes, 0);
}
