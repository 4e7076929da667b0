//! The journal against a map of what was said; its history.

mod trouble;

use super::*;
use crate::base::clock::Span;
use crate::state::record::RECORD_MAX;
use crate::state::record::{BanRecord, scan};
use crate::sys::dir::testing::ScratchDir;
use ipnet::{IpNet, Ipv4Net};
use std::collections::BTreeMap;
use std::net::IpAddr;

const KEY: [u64; 2] = [7, 9];
const NOW: Wall = Wall(1_800_000_000);
const NOTHING: Keep = Keep { ended: 0, events: 0 };
const FOREVER: u64 = u64::MAX;

/// The live bans by key: until, bans, rule.
type BansByKey = BTreeMap<(String, String), (Option<u64>, u32, String)>;

fn open(scratch: &ScratchDir) -> BanJournal {
    let (journal, note) = BanJournal::open(scratch.path(), NOW, KEY, Duration::from_millis(5)).unwrap();
    assert!(note.is_none(), "{}", note.unwrap());
    journal
}

fn v4(n: u32) -> IpNet {
    IpNet::from(IpAddr::from(n.to_be_bytes()))
}

fn entry(addr: IpNet) -> BanRecord<'static> {
    let (since, until) = (NOW, Some(Wall(NOW.0 + 3600)));
    BanRecord {
        addr,
        scope: "",
        rule: "sshd",
        reason: "",
        since,
        until,
        hits: 5,
        bans: 1,
        starts: &[],
        line: "",
    }
}

fn ban(addr: IpNet) -> JournalRecord<'static> {
    JournalRecord::Ban(entry(addr))
}

fn live(journal: &mut BanJournal, now: Wall, keep: u64) -> BansByKey {
    let mut bans = BansByKey::new();
    let each = &mut |e: BanRecord<'_>| {
        let value = (e.until.map(|u| u.0), e.bans, e.rule.to_owned());
        let before = bans.insert((e.addr.to_string(), e.scope.to_owned()), value);
        assert!(before.is_none(), "{} came twice", e.addr);
    };
    journal.live(now, keep, each).unwrap();
    bans
}

fn addresses(journal: &mut BanJournal) -> Vec<String> {
    live(journal, NOW, 0).into_keys().map(|key| key.0).collect()
}

fn compact(journal: &mut BanJournal, now: Wall, keep: u64) {
    compact_what(journal, now, keep, &|_| true);
}

fn compact_what(journal: &mut BanJournal, now: Wall, keep: u64, worth: &dyn Fn(&BanRecord<'_>) -> bool) {
    compact_with(journal, now, Keep { ended: keep, events: 3 }, worth);
}

fn compact_with(journal: &mut BanJournal, now: Wall, keep: Keep, worth: &dyn Fn(&BanRecord<'_>) -> bool) {
    let mut compaction = Some(journal.compact(now, keep).unwrap());
    while let Some(under_way) = compaction {
        compaction = journal.compact_step(under_way, worth).unwrap();
    }
}

#[test]
fn records_come_back_as_they_were() {
    let long = "ü".repeat(200);
    let full = BanRecord {
        addr: "2001:db8::/48".parse().unwrap(),
        scope: "22,25:tcp",
        rule: "postfix-auth",
        reason: &long[..254],
        since: Wall(0),
        until: None,
        hits: u32::MAX,
        bans: u32::MAX,
        starts: &[7; 252],
        line: "",
    };
    let records = [
        JournalRecord::Ban(full),
        ban("192.0.2.0/24".parse().unwrap()),
        ban("0.0.0.0/0".parse().unwrap()),
        JournalRecord::Unban("::1/128".parse().unwrap()),
        JournalRecord::Note(v4(7), NOW, "Failed password \u{e9}"),
        JournalRecord::Carried,
        JournalRecord::Clear,
    ];
    let mut bytes = Vec::new();
    records.iter().for_each(|record| encode(record, &mut bytes));
    let mut got = Vec::new();
    assert_eq!(scan(&bytes, &mut |_, record| got.push(record)), 0);
    assert_eq!(got, records);
    let mut cut = Vec::new();
    encode(
        &JournalRecord::Ban(BanRecord {
            reason: &long,
            scope: &long,
            rule: &long,
            starts: &[1; 300],
            ..full
        }),
        &mut cut,
    );
    assert!(cut.len() <= RECORD_MAX);
    scan(&cut, &mut |_, record| {
        assert!(matches!(record, JournalRecord::Ban(e) if e.reason == &long[..254] && e.starts == [1; 252]))
    });
}

#[test]
fn time_left() {
    let e =
        |since, until: Option<u64>| BanRecord { since: Wall(since), until: until.map(Wall), ..entry(v4(1)) };
    let rows = [
        ("under way", e(100, Some(200)), 150, Some(Span::Secs(50))),
        ("last second", e(100, Some(200)), 199, Some(Span::Secs(1))),
        ("over", e(100, Some(200)), 200, None),
        ("clock before the ban", e(100, Some(200)), 5, Some(Span::Secs(100))),
        ("permanent", e(100, None), u64::MAX, Some(Span::Permanent)),
        ("ends before it begins", e(200, Some(100)), 50, None),
    ];
    for (name, entry, now, want) in rows {
        assert_eq!(entry.left(Wall(now)), want, "{name}");
    }
    assert!(e(1, Some(200)).forgotten(Wall(300), 100) && !e(1, Some(200)).forgotten(Wall(299), 100));
    assert!(!e(1, Some(200)).forgotten(Wall(300), u64::MAX) && !e(1, None).forgotten(Wall(u64::MAX), 0));
}

/// Random histories, with compactions and reopenings in between, against a map.
#[test]
fn the_latest_end_of_what_was_not_lifted_counts() {
    for seed in 0..30 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let scratch = ScratchDir::new();
        let (mut journal, mut want) = (open(&scratch), BansByKey::new());
        for step in 0..400 {
            let addr: IpNet = format!("192.0.{}.1/32", rng.u8(0..8)).parse().unwrap();
            let until = (!rng.bool()).then(|| NOW.0 - 50 + rng.u64(0..100));
            let (scope, bans) = (["", "22", "25"][rng.usize(..3)], rng.u32(1..9));
            match rng.u32(0..100) {
                0 => {
                    journal.put(&JournalRecord::Clear).unwrap();
                    want.clear();
                }
                1..20 => {
                    journal.put(&JournalRecord::Unban(addr)).unwrap();
                    want.retain(|key, _| key.0 != addr.to_string());
                }
                20 => compact(&mut journal, NOW, 20),
                21 => drop(std::mem::replace(&mut journal, open(&scratch))),
                22..30 => journal.flush().unwrap(),
                _ => {
                    let record = BanRecord { scope, until: until.map(Wall), bans, ..entry(addr) };
                    journal.put(&JournalRecord::Ban(record)).unwrap();
                    let latest = |until: Option<u64>| until.unwrap_or(u64::MAX);
                    let key = (addr.to_string(), scope.to_owned());
                    if want.get(&key).is_none_or(|old| latest(old.0) <= latest(until)) {
                        want.insert(key, (until, bans, "sshd".into()));
                    }
                }
            }
            if journal.pending() > 0 && rng.u32(0..10) == 0 {
                journal.flush().unwrap();
            }
            // What is pending is lost with the journal, so it must be flushed before a reopening can come.
            journal.flush().unwrap();
            if step % 40 == 39 {
                let mut recent = want.clone();
                recent.retain(|_, ban| ban.0.is_none_or(|until| until + 20 > NOW.0));
                assert_eq!(live(&mut journal, NOW, 20), recent, "seed {seed}, step {step}");
            }
        }
    }
}

/// One of 64 addresses, or a network of them; for IPv6 they are /64s with a half of each.
fn prefix(rng: &mut fastrand::Rng) -> IpNet {
    let n = rng.u8(..64);
    match rng.u8(..4) {
        0 => format!("2001:db8:0:{n:x}::/{}", rng.u8(58..67)).parse().unwrap(),
        1 => format!("192.0.2.{n}/{}", rng.u8(26..32)).parse().unwrap(),
        _ => format!("192.0.2.{n}/32").parse().unwrap(),
    }
}

/// Every address that the test knows, with the ban that counts for it.
type Plain = BTreeMap<(IpAddr, &'static str), Option<u64>>;

fn known() -> Vec<IpAddr> {
    let v6 = (0..128u128).map(|n| 0x2001_0db8 << 96 | (n / 2) << 64 | (n % 2) << 63);
    (0..64u8).map(|n| IpAddr::from([192, 0, 2, n])).chain(v6.map(|n| IpAddr::from(n.to_be_bytes()))).collect()
}

/// What a journal says of each address.
fn said(journal: &mut BanJournal) -> Plain {
    let mut plain = Plain::new();
    let known = known();
    let each = &mut |e: BanRecord<'_>| {
        let scope = ["", "22"].into_iter().find(|scope| *scope == e.scope).unwrap();
        for addr in known.iter().filter(|addr| e.addr.contains(*addr)) {
            let until = e.until.map(|until| until.0);
            let best = plain.entry((*addr, scope)).or_insert(until);
            *best = latest(*best, until);
        }
    };
    journal.live(NOW, 0, each).unwrap();
    plain
}

fn latest(a: Option<u64>, b: Option<u64>) -> Option<u64> {
    a.zip(b).map(|(a, b)| a.max(b))
}

/// Networks, addresses inside them and holes in them, against a plain map of addresses.
#[test]
fn overlapping_prefixes_ban_each_address_until_its_latest_end() {
    let known = known();
    for seed in 0..40 {
        let mut rng = fastrand::Rng::with_seed(100 + seed);
        let scratch = ScratchDir::new();
        let (mut journal, mut plain) = (open(&scratch), Plain::new());
        for step in 0..250 {
            let net = prefix(&mut rng);
            let scope = ["", "22"][rng.usize(..2)];
            match rng.u32(..100) {
                0 => {
                    journal.put(&JournalRecord::Clear).unwrap();
                    plain.clear();
                }
                1 | 2 => {
                    journal.put(&JournalRecord::ClearTimed).unwrap();
                    plain.retain(|_, until| until.is_none());
                }
                3..30 => {
                    journal.put(&JournalRecord::Unban(net)).unwrap();
                    plain.retain(|(addr, _), _| !net.contains(addr));
                }
                30..33 => compact(&mut journal, NOW, 0),
                33..36 => {
                    journal.flush().unwrap();
                    journal = open(&scratch);
                }
                _ => {
                    let until = (rng.u8(..4) > 0).then(|| NOW.0 + 1 + rng.u64(..50));
                    let net = net.trunc();
                    journal
                        .put(&JournalRecord::Ban(BanRecord {
                            addr: net,
                            scope,
                            until: until.map(Wall),
                            ..entry(net)
                        }))
                        .unwrap();
                    for addr in known.iter().filter(|addr| net.contains(*addr)) {
                        let best = plain.entry((*addr, scope)).or_insert(until);
                        *best = latest(*best, until);
                    }
                }
            }
            if step % 10 == 9 {
                assert_eq!(said(&mut journal), plain, "seed {seed}, step {step}");
            }
        }
    }
}

#[test]
fn what_others_append_can_be_asked_for() {
    let scratch = ScratchDir::new();
    let (mut journal, mut other) = (open(&scratch), open(&scratch));
    journal.put(&ban(v4(1))).unwrap();
    journal.flush().unwrap();
    let mut mark = journal.mark().unwrap();
    let news = |journal: &mut BanJournal, mark: &mut JournalMark| {
        let mut all = Vec::new();
        let same = journal.since(mark, &mut |record| all.push(format!("{record:?}"))).unwrap();
        (same, all.len())
    };
    assert_eq!(news(&mut journal, &mut mark), (true, 0));
    other.put(&JournalRecord::Unban(v4(1))).unwrap();
    other.put(&ban(v4(2))).unwrap();
    other.flush().unwrap();
    assert_eq!(news(&mut journal, &mut mark), (true, 2));
    assert_eq!(news(&mut journal, &mut mark), (true, 0));
    compact(&mut other, NOW, 0);
    assert_eq!(news(&mut journal, &mut mark), (false, 0), "everything has to be read again");
}

#[test]
fn more_addresses_than_one_table_holds() {
    let scratch = ScratchDir::new();
    let mut journal = open(&scratch);
    for n in 0..65_000 {
        journal.put(&ban(v4(n % 50_000))).unwrap();
    }
    for n in (0..50_000).step_by(10) {
        journal.put(&JournalRecord::Unban(v4(n))).unwrap();
    }
    journal.flush().unwrap();
    assert!(journal.wants_compaction());
    assert_eq!(live(&mut journal, NOW, 0).len(), 45_000);
    let before = journal.size().unwrap();
    compact(&mut journal, NOW, 0);
    assert!(journal.size().unwrap() * 4 < before * 3 && !journal.wants_compaction());
    assert_eq!(live(&mut journal, NOW, 0).len(), 45_000);
    assert!(!open(&scratch).wants_compaction(), "the first line tells everybody");
    compact_with(&mut journal, Wall(NOW.0 + 3600), NOTHING, &|_| true);
    assert_eq!(journal.size().unwrap(), HEADER_LEN as u64, "all bans are over");
}

/// Liftings are shorter than the records that the table is sized by, and each takes a place.
#[test]
fn more_keys_than_the_size_of_the_file_suggests() {
    let scratch = ScratchDir::new();
    let mut journal = open(&scratch);
    let bans = || (0..70_000).step_by(7);
    bans().for_each(|n| journal.put(&ban(v4(n))).unwrap());
    (100_000..400_000).for_each(|n| journal.put(&JournalRecord::Unban(v4(n))).unwrap());
    for n in bans().step_by(2) {
        journal.put(&JournalRecord::Unban(v4(n))).unwrap();
    }
    journal.flush().unwrap();
    let want: Vec<_> = bans().skip(1).step_by(2).map(|n| v4(n).to_string()).collect();
    let mut got = addresses(&mut journal);
    got.sort_by_key(|addr| addr.parse::<Ipv4Net>().unwrap());
    assert_eq!(got, want);
}

#[test]
fn of_ended_bans_only_what_is_worth_it_outlives_a_compaction() {
    let scratch = ScratchDir::new();
    let mut journal = open(&scratch);
    (1..6).for_each(|n| journal.put(&ban(v4(n))).unwrap());
    let later = Wall(NOW.0 + 4000);
    journal.put(&JournalRecord::Ban(BanRecord { until: None, ..entry(v4(6)) })).unwrap();
    compact_what(&mut journal, later, 1000, &|e| e.addr == v4(2));
    let all: Vec<_> = live(&mut journal, later, FOREVER).into_keys().map(|key| key.0).collect();
    assert_eq!(all, ["0.0.0.2/32", "0.0.0.6/32"]);
}

/// What the history tells, the newest first: when, whom, and the line.
fn past(journal: &mut BanJournal, most: u32) -> Vec<(u64, String, String)> {
    let mut told = Vec::new();
    let mut each = |event: &JournalEvent<'_>| {
        let what = match event.record {
            JournalRecord::Ban(entry) => format!("ban {}", entry.addr),
            other => format!("{other:?}"),
        };
        told.push((event.at.0, what, event.line.to_owned()));
        Ok(())
    };
    journal.events().unwrap().newest_first(most, &|_| true, &mut each).unwrap();
    told
}

#[test]
fn the_history_is_as_long_as_it_may_be_whatever_is_compacted() {
    for most in [0u32, 1, 7, 1000] {
        let scratch = ScratchDir::new();
        let mut journal = open(&scratch);
        let mut said: Vec<(u64, String, String)> = Vec::new();
        let mut rng = fastrand::Rng::with_seed(u64::from(most));
        for n in 0..600u64 {
            let (at, addr) = (Wall(NOW.0 + n), v4(rng.u32(1..40)));
            let line = if rng.bool() { format!("line {n}") } else { String::new() };
            if rng.u8(..) < 200 {
                let ban = BanRecord { since: at, until: Some(Wall(at.0 + 60)), line: &line, ..entry(addr) };
                journal.put(&JournalRecord::Ban(ban)).unwrap();
                said.insert(0, (at.0, format!("ban {addr}"), line));
            } else {
                journal.put(&JournalRecord::Note(addr, at, "")).unwrap();
                journal.put(&JournalRecord::Unban(addr)).unwrap();
                said.insert(0, (at.0, format!("Unban({addr})"), String::new()));
            }
            if rng.u8(..) < 12 {
                journal.flush().unwrap();
                compact_with(&mut journal, at, Keep { ended: 0, events: most.into() }, &|_| false);
                // What is kept is all that there is now, and it is all there.
                said.truncate(most.try_into().unwrap());
                assert_eq!(past(&mut journal, u32::MAX), said, "{most} events, compacted at {n}");
            }
        }
        journal.flush().unwrap();
        assert_eq!(past(&mut journal, u32::MAX), said, "{most} events");
        said.truncate(most.try_into().unwrap());
        assert_eq!(past(&mut journal, most), said, "the last {most} events");
        drop(journal);
        assert_eq!(past(&mut open(&scratch), most), said, "read anew");
    }
}

#[test]
fn a_line_stays_with_its_ban_and_no_other() {
    let scratch = ScratchDir::new();
    let mut journal = open(&scratch);
    for n in 1..200 {
        let line = format!("line of {n}");
        journal.put(&JournalRecord::Ban(BanRecord { line: &line, ..entry(v4(n)) })).unwrap();
    }
    // Bans without a line behind those with one, and of the same address for other ports.
    journal.put(&JournalRecord::Ban(BanRecord { scope: "22", ..entry(v4(199)) })).unwrap();
    journal.put(&ban(v4(500))).unwrap();
    for events in [0, 1000] {
        compact_with(&mut journal, NOW, Keep { ended: 0, events }, &|_| true);
        let mut count = 0;
        let each = &mut |e: BanRecord<'_>| {
            count += 1;
            let n = (1..501).find(|n| v4(*n) == e.addr).unwrap();
            let want = if n < 500 && e.scope.is_empty() { format!("line of {n}") } else { String::new() };
            assert_eq!(e.line, want, "{} {events}", e.addr);
        };
        journal.live(NOW, 0, each).unwrap();
        assert_eq!(count, 201);
    }
}

#[test]
fn a_journal_of_the_version_before_is_a_history_too() {
    let scratch = ScratchDir::new();
    let mut bytes = header(HEADER_LEN as u64);
    for record in [ban(v4(1)), ban(v4(2)), JournalRecord::Unban(v4(1)), JournalRecord::Clear] {
        encode(&record, &mut bytes);
    }
    std::fs::write(scratch.path().join(NAME), bytes).unwrap();
    let told: Vec<String> = past(&mut open(&scratch), 10).into_iter().map(|(_, what, _)| what).collect();
    assert_eq!(told, ["Clear", "Unban(0.0.0.1/32)", "ban 0.0.0.2/32", "ban 0.0.0.1/32"]);
}
