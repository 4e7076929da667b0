//! What the daemon decides, on a backend that only records: no root, no kernel.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod apart;
mod liar;
mod over;

use super::*;
use crate::ban::{Options, Repeat};
use crate::base::clock::{LineTime, Span};
use crate::config::{load_rule, parse_global};
use crate::daemon::policy;
use crate::daemon::rehearse::{self, Rehearsal, RehearsalExtent};
use crate::daemon::wire::Evidence;
use crate::detect::observe::KnownSources as _;
use crate::detect::tracker::Limits;
use crate::firewall::record::{RecordedStep, Recorder, World};
use crate::state::journal::BanJournal;
use nix::errno::Errno;
use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

static HOSTS: AtomicU32 = AtomicU32::new(0);
/// When everything begins, by both clocks; lines have stamps of other times.
const BEGIN: u64 = 1_800_000_000;

/// A host with one service rule.
struct JudgeHost {
    judge: Judge,
    world: Rc<RefCell<World>>,
    settings: Settings,
    dir: PathBuf,
    rule: String,
    now: Now,
}

impl Drop for JudgeHost {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

fn range(text: &str) -> Range {
    let net = text.parse::<IpNet>().or_else(|_| text.parse::<std::net::IpAddr>().map(IpNet::from));
    Range::from(net.unwrap())
}

fn allowed(ranges: &[&str]) -> Allowed {
    let mut all = Allowed::from(ranges.iter().map(|text| range(text)).collect::<Vec<_>>());
    all.settle();
    all
}

/// A rule as its file says it, with what it takes to decide by it.
fn compiled(settings: Settings, path: &str) -> (Settings, crate::config::ServiceRule, DetectRule) {
    let mut ready = None;
    let mut loaded = load_rule(settings, path, &mut |rule, _| ready = crate::services::compile(rule).ok());
    assert!(!loaded.failed(), "{path}: {:?}", loaded.problems.first().map(|p| &p.shown));
    (loaded.settings, loaded.rules.remove(0), ready.unwrap())
}

impl JudgeHost {
    fn new(settings: &str, rule: &str, allow: &[&str]) -> JudgeHost {
        let number = HOSTS.fetch_add(1, Ordering::Relaxed);
        let dir = std::env::temp_dir().join(format!("mef-decides-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let path = dir.join("app.conf");
        let text = "programs=sshd\nfiles=/var/log/app.log\nfailregex=^Failed for <HOST>$\nfindtime=600\n\
            maxretry=3\nbantime=1h\n";
        std::fs::write(&path, format!("[rule]\n{text}{rule}\n")).unwrap();
        JudgeHost::of(settings, &dir, path.to_str().unwrap(), allow)
    }

    fn of(settings: &str, dir: &Path, rule: &str, allow: &[&str]) -> JudgeHost {
        let text = format!("[global]\nstate_dir={0}\nrun_dir={0}\n{settings}\n", dir.display());
        let (settings, problems) = parse_global(text.as_bytes());
        assert!(problems.is_empty(), "{}", problems[0].what);
        let now = Now { mono: Mono(BEGIN * 1000), wall: Wall(BEGIN) };
        let (world, judge) = start(&settings, rule, allow, now);
        JudgeHost { judge, world, settings, dir: dir.to_owned(), rule: rule.to_owned(), now }
    }

    /// The daemon starts anew; nothing of what was in force is there any more.
    fn reboot(&mut self, allow: &[&str]) {
        self.judge.save();
        let rule = self.rule.clone();
        // The journal has one user.
        let other = std::env::temp_dir().join(format!("mef-decides-none-{}", std::process::id()));
        let nowhere = Settings { state_dir: other.display().to_string(), ..self.settings.clone() };
        (self.world, self.judge) = start(&nowhere, &rule, allow, self.now);
        (self.world, self.judge) = start(&self.settings, &rule, allow, self.now);
        let _ = std::fs::remove_dir_all(other);
    }

    fn pass(&mut self, secs: u64) {
        self.now = Now { mono: self.now.mono.after(secs * 1000), wall: Wall(self.now.wall.0 + secs) };
        self.world.borrow_mut().now = self.now.wall;
    }

    fn lines(&mut self, lines: &str) {
        let item = Item::Block { lines: lines.as_bytes(), time: LineTime::Now, attested: true };
        self.judge.take(self.now, 1, item);
        self.judge.commit(self.now);
    }

    /// An address fails so often.
    fn fails(&mut self, addr: &str, count: usize) {
        self.lines(&format!("Nov 22 08:00:01 host sshd[130]: Failed for {addr}\n").repeat(count));
    }

    fn drops(&self, addr: &str) -> bool {
        self.world.borrow().drops(&range(addr), None)
    }

    /// The bans that were made since this was last asked.
    fn banned(&self) -> Vec<(String, Option<u64>)> {
        let steps = std::mem::take(&mut self.world.borrow_mut().steps);
        let bans = steps.into_iter().filter_map(|step| match step {
            RecordedStep::Banned(addr, secs) => Some((addr.to_string(), secs)),
            _ => None,
        });
        bans.collect()
    }
}

fn start(settings: &Settings, rule: &str, allow: &[&str], now: Now) -> (Rc<RefCell<World>>, Judge) {
    let (settings, own, ready) = compiled(settings.clone(), rule);
    let allowed = allowed(allow);
    let (backend, world) = Recorder::open(Options::default(), allowed.clone().into());
    world.borrow_mut().now = now.wall;
    let policies = vec![policy::of(&own, &ready)];
    let mut ban_policy = BanPolicy::new(&settings, &policies);
    let patience = Duration::from_secs(5);
    let journal = BanJournal::open(Path::new(&settings.state_dir), now.wall, [1, 2], patience).unwrap().0;
    let mut enforcer = Enforcer::new(Box::new(backend), Some(journal));
    enforcer.guard().ensure().unwrap();
    let keep = ban_policy.memory();
    enforcer
        .restore_and(now.wall, keep, &mut |entry| ban_policy.restore(now, entry), &mut |e| panic!("{e}"))
        .unwrap();
    let limits: Vec<Limits> = policies.iter().map(|policy| policy.limits).collect();
    let prefix = decide::ipv6_prefix(&settings);
    let rules = vec![ready.clone()];
    let mut judge = Judge::new(vec![ready], policies, &settings, (enforcer, ban_policy), allowed);
    judge.decider.protect_nobody();
    // Names are counted by a hash of few bits: by another key other ones are the same, now and then.
    judge.observer = Observer::new(rules, limits, prefix, 4096, rehearse::KEY);
    (world, judge)
}

#[test]
fn whoever_fails_too_often_is_banned_and_nobody_else() {
    let mut host = JudgeHost::new("", "", &[]);
    host.fails("192.0.2.1", 2);
    assert!(host.banned().is_empty());
    host.fails("192.0.2.1", 1);
    host.fails("192.0.2.2", 2);
    assert_eq!(host.banned(), [("192.0.2.1".to_owned(), Some(3600))]);
    assert!(host.drops("192.0.2.1") && !host.drops("192.0.2.2"));
    host.pass(3601);
    assert!(!host.drops("192.0.2.1"), "a ban that has ended");
}

#[test]
fn what_a_ban_was_for_does_not_count_again_though_the_ban_is_over() {
    let mut host = JudgeHost::new("bantime_max=1d", "", &[]);
    host.fails("192.0.2.1", 3);
    host.pass(4000);
    assert!(!host.drops("192.0.2.1"), "the ban has ended");
    // What is read again is timed by its stamp.
    for (age, is_spent) in [(3998, false), (4000, true), (9000, true), (u64::MAX, true)] {
        let known = Knowledge { decider: &host.judge.decider, now: host.now };
        assert_eq!(known.is_spent(range("192.0.2.1").as_net().unwrap(), 0, age), is_spent, "{age}");
        assert!(!known.is_spent(range("192.0.2.2").as_net().unwrap(), 0, age));
    }
    host.fails("192.0.2.1", 3);
    assert!(host.drops("192.0.2.1"), "what comes then counts");
}

#[test]
fn the_process_that_reads_lines_accuses_only_by_rules_that_read() {
    let mut host = JudgeHost::new("", "", &["198.51.100.0/24"]);
    let offence = |addr: &str, rule, excess: Option<Excess>| Offence {
        source: addr.parse().unwrap(),
        rule,
        hits: 3,
        wide: None,
        excess: excess.map(Box::new),
        line: "x".into(),
    };
    let excess = Excess { reason: "much".into(), requests: 9, detect: false, bantime: Some(Span::Permanent) };
    let mut accuse = |one, evidence| host.judge.accused(host.now, one, evidence).is_ok();
    assert!(!accuse(offence("192.0.2.1/32", 1, None), Evidence::Attested), "there is no such rule");
    assert!(!accuse(offence("192.0.2.1/32", 0, Some(excess)), Evidence::Attested), "it counts no requests");
    assert!(accuse(offence("192.0.2.2/32", 0, None), Evidence::Hearsay));
    assert!(accuse(offence("198.51.100.7/32", 0, None), Evidence::Attested));
    host.judge.commit(host.now);
    assert_eq!(host.banned(), [("192.0.2.2".to_owned(), Some(3600))], "who is exempt stays so");
    assert!(host.judge.decider.policies[0].is_hearsay(host.now.mono));
}

#[test]
fn lines_in_spite_of_a_ban_are_no_other_offence() {
    let mut host = JudgeHost::new("", "maxretry=1", &[]);
    host.fails("192.0.2.1", 1);
    host.fails("192.0.2.1", 5);
    assert_eq!(host.banned().len(), 1);
    assert_eq!(host.judge.counted.bans, 1);
}

#[test]
fn who_is_exempt_is_not_banned_and_neighbours_are() {
    let mut host = JudgeHost::new("trusted_proxies=203.0.113.8", "maxretry=1", &["198.51.100.0/24"]);
    for addr in ["198.51.100.7", "203.0.113.8", "127.0.0.1"] {
        host.fails(addr, 5);
        assert!(host.banned().is_empty(), "{addr}");
    }
    for addr in ["198.51.101.7", "203.0.113.9"] {
        host.fails(addr, 1);
        assert_eq!(host.banned().len(), 1, "{addr}");
    }
    // Taken off the list, it is banned for what it does from then on.
    host.judge.set_allowed(Allowed::default());
    host.fails("198.51.100.7", 1);
    assert_eq!(host.banned().len(), 1);
}

#[test]
fn an_allowed_neighbour_passes_in_spite_of_a_ban_of_the_prefix() {
    let mut host = JudgeHost::new("", "maxretry=1", &["2001:db8::7"]);
    host.fails("2001:db8::9", 1);
    assert_eq!(host.banned(), [("2001:db8::/64".to_owned(), Some(3600))]);
    assert!(host.drops("2001:db8::9") && !host.drops("2001:db8::7"));
}

#[test]
fn a_rule_that_only_tells_bans_nobody() {
    let mut host = JudgeHost::new("", "maxretry=1\naction=detect", &[]);
    host.fails("192.0.2.1", 5);
    assert!(host.banned().is_empty() && host.judge.counted.bans == 0);
}

#[test]
fn who_comes_back_is_banned_for_longer_also_after_a_reboot() {
    let mut host = JudgeHost::new("bantime_factor=2\nbantime_max=1d", "maxretry=1", &[]);
    let mut times = Vec::new();
    for round in 0..3 {
        host.fails("192.0.2.1", 1);
        times.extend(host.banned());
        host.pass(8 * 3600);
        if round == 1 {
            host.reboot(&[]);
            assert!(host.banned().is_empty(), "what has ended is not put back");
        }
    }
    let secs: Vec<Option<u64>> = times.iter().map(|(_, secs)| *secs).collect();
    assert_eq!(secs, [Some(3600), Some(7200), Some(14_400)]);
}

#[test]
fn four_parts_of_a_wider_network_ban_it_unless_somebody_in_it_is_allowed() {
    for (allow, wide) in [(&[][..], true), (&["2001:db8:0:ff::1"][..], false)] {
        let mut host = JudgeHost::new("ipv6_escalate=56", "maxretry=1", allow);
        for part in 1..=4 {
            host.fails(&format!("2001:db8:0:{part}::1"), 1);
        }
        let banned = host.banned();
        let has = banned.iter().any(|(addr, _)| addr == "2001:db8::/56");
        assert_eq!(has, wide, "{banned:?}");
    }
}

#[test]
fn a_table_never_comes_without_its_allow_list() {
    let mut host = JudgeHost::new("", "maxretry=1", &["198.51.100.1", "198.51.100.3"]);
    host.fails("192.0.2.1", 1);
    host.world.borrow_mut().flush();
    assert!(!host.drops("192.0.2.1"));
    host.world.borrow_mut().steps.clear();
    // The next ban makes the table anew.
    host.fails("192.0.2.2", 1);
    assert_eq!(host.world.borrow().steps[0], RecordedStep::Made(2));
    assert!(host.drops("192.0.2.1") && host.drops("192.0.2.2"), "what was in force is back");
    assert!(!host.drops("198.51.100.1"));
}

#[test]
fn damage_is_repaired_with_everything_that_was_in_force() {
    let mut host = JudgeHost::new("", "maxretry=1", &["198.51.100.1"]);
    host.fails("192.0.2.1", 1);
    host.world.borrow_mut().flush();
    host.world.borrow_mut().steps.clear();
    // The kernel refuses the first try.
    host.world.borrow_mut().refuse.push(Errno::ENOBUFS);
    assert_eq!(host.judge.repair(host.now.wall, Damage::Table), Repair::Failed);
    assert!(!host.world.borrow().has_table());
    assert_eq!(host.judge.repair(host.now.wall, Damage::Table), Repair::Done);
    let steps = host.world.borrow().steps.clone();
    assert!(matches!(steps[..], [RecordedStep::Made(1), RecordedStep::Banned(..)]), "{steps:?}");
    assert!(host.drops("192.0.2.1"));
}

#[test]
fn a_ban_that_is_refused_is_none_and_made_at_the_next_offence() {
    let mut host = JudgeHost::new("", "maxretry=1", &[]);
    host.world.borrow_mut().refuse.push(Errno::ENOBUFS);
    host.fails("192.0.2.1", 1);
    assert!(!host.drops("192.0.2.1") && host.judge.counted.bans == 0);
    host.fails("192.0.2.1", 1);
    assert!(host.drops("192.0.2.1") && host.judge.counted.bans == 1);
}

#[test]
fn who_is_unbanned_begins_anew() {
    let mut host = JudgeHost::new("bantime_factor=2", "", &[]);
    host.fails("192.0.2.1", 3);
    let addr = range("192.0.2.1");
    host.judge.enforcer.unban(host.now.wall, &[addr], &mut |e| panic!("{e}")).unwrap();
    host.judge.unbanned(host.now, (Some(&addr), WhichBans::Timed), Unbanned::Banned);
    assert!(!host.drops("192.0.2.1"));
    host.fails("192.0.2.1", 2);
    assert!(!host.drops("192.0.2.1"), "what was counted before is forgotten");
    host.fails("192.0.2.1", 1);
    assert_eq!(
        host.banned().last().unwrap(),
        &("192.0.2.1".to_owned(), Some(3600)),
        "and previous bans, too"
    );
}

#[test]
fn a_ban_made_before_an_unban_is_heard_of_does_not_outlast_it() {
    let whom = range("192.0.2.1");
    for named in [Some(&whom), None] {
        let mut host = JudgeHost::new("", "", &[]);
        host.fails("192.0.2.1", 3);
        // The kernel first, as commands do it, and the daemon reads on before it hears of that.
        host.judge.enforcer.unban(host.now.wall, &[whom], &mut |e| panic!("{e}")).unwrap();
        host.fails("192.0.2.1", 3);
        host.fails("192.0.2.2", 3);
        assert!(host.drops("192.0.2.1"));
        host.judge.unbanned(host.now, (named, WhichBans::Timed), Unbanned::Banned);
        assert!(!host.drops("192.0.2.1"));
        assert_eq!(host.drops("192.0.2.2"), named.is_some(), "who was not named stays banned");
        // Neither the kernel nor the journal has it.
        host.reboot(&[]);
        assert!(!host.drops("192.0.2.1"));
        host.fails("192.0.2.1", 3);
        assert!(host.drops("192.0.2.1"), "what comes later counts");
    }
}

#[test]
fn a_ban_by_hand_after_an_unban_outlasts_what_the_daemon_hears_of_it() {
    let whom = range("192.0.2.1");
    // The daemon has banned whom it is about, or so many that it may be anybody.
    for (named, bans) in [(Some(&whom), 1..2), (None, 1..2), (Some(&whom), 2..12), (None, 2..12)] {
        let mut host = JudgeHost::new("", "", &[]);
        host.fails("192.0.2.1", 3);
        host.judge.enforcer.unban(host.now.wall, &[whom], &mut |e| panic!("{e}")).unwrap();
        for last in bans.clone() {
            host.fails(&format!("192.0.2.{last}"), 3);
        }
        let ban = Ban::for_packets(whom, Span::Secs(86_400), "", 0);
        let now = host.now;
        host.judge.enforcer.ban(now.wall, &[ban], Repeat::Prolongs, &mut |_, _| (), &mut |e| panic!("{e}"));
        host.judge.unbanned(now, (named, WhichBans::Timed), Unbanned::Banned);
        host.judge.remember_unban(now.wall, (named, WhichBans::Timed), true);
        let others = named.is_some() && bans.end > 2;
        for again in 0..2 {
            assert!(host.drops("192.0.2.1"), "{named:?} {bans:?} {again}");
            assert_eq!(host.drops("192.0.2.2"), others, "{named:?} {bans:?} {again}: those of rules end");
            host.reboot(&[]);
        }
    }
}

#[test]
fn the_journal_puts_bans_back_with_the_time_that_is_left() {
    let mut host = JudgeHost::new("", "maxretry=1", &["198.51.100.1"]);
    host.fails("192.0.2.1", 1);
    host.pass(600);
    host.reboot(&["198.51.100.1"]);
    assert_eq!(host.world.borrow().steps[0], RecordedStep::Made(1), "the allow list is there before any ban");
    assert!(host.drops("192.0.2.1"));
    host.pass(3001);
    assert!(!host.drops("192.0.2.1"));
}

#[test]
fn a_crowd_is_banned_to_the_last() {
    let mut host = JudgeHost::new("max_bans_per_minute=100000", "maxretry=1", &[]);
    let line = |n: u32| {
        let addr = std::net::Ipv4Addr::from(0x0a00_0000 + n);
        format!("Nov 22 08:00:01 host sshd[130]: Failed for {addr}\n")
    };
    host.lines(&(0..1000).map(line).collect::<String>());
    assert_eq!(host.banned().len(), 1000);
}

/// What a log leads to: bans with their times in order, and who is exempt.
type Fates = (Vec<(String, Option<u64>)>, Vec<String>);

/// Gives each line to a rehearsal and to the daemon, at the time that it has for the rehearsal.
fn both(host: &mut JudgeHost, log: &str, allow: &[&str]) -> [Fates; 2] {
    let (mut settings, own, ready) = compiled(host.settings.clone(), &host.rule);
    let all = RehearsalExtent::Decisions;
    let mut rehearsal = Rehearsal::new(vec![ready], &[own], &mut settings, allowed(allow), all);
    rehearsal.protect_nobody();
    let (mut bans, mut exempt) = (Vec::new(), Vec::new());
    host.banned();
    for line in log.split_inclusive('\n') {
        rehearsal.block(1, line.as_bytes(), &mut |_, event| {
            let rehearse::RehearsalEvent::Finding(finding) = event else { return };
            let addr = finding.addr.to_string();
            match finding.outcome {
                rehearse::RehearsalOutcome::Ban { time: Span::Permanent, .. } => bans.push((addr, None)),
                rehearse::RehearsalOutcome::Ban { time: Span::Secs(secs), .. } => {
                    bans.push((addr, Some(secs)))
                }
                rehearse::RehearsalOutcome::Exempt(_) => exempt.push(addr),
                _ => {}
            }
        });
        host.now = rehearsal.now();
        host.world.borrow_mut().now = host.now.wall;
        host.lines(line);
    }
    let mut reported: Vec<String> = host.judge.notes.reported().map(|addr| addr.to_string()).collect();
    [&mut exempt, &mut reported].into_iter().for_each(|list| {
        list.sort();
        list.dedup();
    });
    [(bans, exempt), (host.banned(), reported)]
}

#[test]
fn a_rehearsal_says_what_the_daemon_does_with_the_lines_of_every_service() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("rootfs/etc/mef/rules.d");
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let (mut bans, mut exempt) = (0, 0);
    for file in &files {
        let text = std::fs::read_to_string(file).unwrap();
        // All examples, honest and hostile, a few times: enough for a ban of each that hits.
        let mut log = String::new();
        for line in text.lines() {
            let example =
                line.strip_prefix("#- ").or_else(|| Some(line.strip_prefix("#+ ")?.split_once(' ')?.1));
            let Some(example) = example else { continue };
            for (v4, v6, count) in [
                ("192.0.2.1", "2001:db8::1", 7),
                ("203.0.113.7", "2001:db8:7::7", 5),
                ("192.0.2.77", "2001:db8:0:1::1", 2),
                ("198.18.0.3", "2001:db8:0:2::1", 3),
            ] {
                let line = example.replace("192.0.2.1", v4).replace("2001:db8::1", v6)
                    + "
";
                log += &line.repeat(count);
            }
        }
        let allow = ["203.0.113.0/25", "2001:db8:7::/48"];
        let mut host = {
            let number = HOSTS.fetch_add(1, Ordering::Relaxed);
            let dir = std::env::temp_dir().join(format!("mef-decides-{}-{number}", std::process::id()));
            std::fs::create_dir_all(&dir).unwrap();
            JudgeHost::of("max_bans_per_minute=100000", &dir, file.to_str().unwrap(), &allow)
        };
        let [want, got] = both(&mut host, &log, &allow);
        assert_eq!(got, want, "{}", file.display());
        bans += want.0.len();
        exempt += want.1.len();
    }
    assert!(files.len() > 50 && bans > files.len() && exempt > 40, "{bans} bans, {exempt} exempt");
}
