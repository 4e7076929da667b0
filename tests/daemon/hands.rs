//! Many hands at once: commands of all kinds, a log with offenders, a daemon that is killed and reloaded,
//! lists that are replaced, and others who change the table. Whatever was acknowledged is so at the end, in
//! the kernel and in the journal. HANDS_OPS=1000 tries it for longer.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use crate::common;

use common::daemon::{Ends, LOG, ends, host, seconds};
use common::{Net, wait_or_show, wait_until};
use mef::base::clock::Wall;
use mef::base::utc::Stamp;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::net::Ipv4Addr;
use std::process::Child;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread::sleep;
use std::time::Duration;

const HANDS: u8 = 50;
/// What others take out of the table is not there, and the journal has it still.
const TAKEN: &str = "10.251.";
/// Banned and lifted by everybody.
const SHARED: &str = "10.250.";

/// Ends of what one hand has banned; `None` = never.
type Model = BTreeMap<String, Option<u64>>;

fn ops() -> usize {
    std::env::var("HANDS_OPS").map_or(10, |text| text.parse().unwrap())
}

fn mef(net: &Net, args: &[&str], input: &str) -> common::Output {
    let config = net.path("mef.conf");
    let mut all = args.to_vec();
    all.extend(["--config", config.to_str().unwrap()]);
    net.mef_input(&all, input.as_bytes())
}

/// A ban that came about: it lasts as long as the longest.
fn note(model: &mut Model, addr: String, end: Option<u64>) {
    let entry = model.entry(addr).or_insert(Some(0));
    *entry = entry.zip(end).map(|(a, b)| a.max(b));
}

struct Hand<'a> {
    net: &'a Net,
    number: u8,
    rng: fastrand::Rng,
    model: Model,
}

impl Hand<'_> {
    fn addr(&mut self) -> String {
        format!("10.{}.{}.{}", self.number, self.rng.u8(0..4), self.rng.u8(1..7))
    }

    /// One operation; what it says must be so.
    fn act(&mut self) {
        let Hand { net, number, .. } = *self;
        let listed = format!("10.200.{number}.{}", self.rng.u8(1..6));
        let shared = format!("{SHARED}0.{}", self.rng.u8(1..9));
        match self.rng.u8(0..34) {
            0..10 => self.ban(),
            10..18 => self.unban(),
            18..20 => self.many(true),
            20 => self.many(false),
            21 => drop(net.bans()),
            // Whether a daemon runs right now, nobody knows.
            22 => drop(mef(net, &["status", "--json"], "")),
            23 => drop(mef(net, &["allow", &listed], "").ok()),
            24 => drop(mef(net, &["disallow", &listed], "")),
            25 => drop(mef(net, &["deny", &listed, "--force"], "")),
            26 => drop(mef(net, &["undeny", &listed], "")),
            27 => drop(net.mef(&["load", net.path("a.rules").to_str().unwrap()]).ok()),
            28..32 => drop(mef(net, &["ban", &shared, "--for", "3h"], "").ok()),
            _ => drop(mef(net, &["unban", &shared], "")),
        }
    }

    fn ban(&mut self) {
        let addr = self.addr();
        if self.rng.u8(0..4) == 0 {
            mef(self.net, &["ban", &addr, "--permanent"], "").ok();
            note(&mut self.model, addr, None);
        } else {
            let time = *self.rng.choice(&[3600, 7200, 86400]).unwrap();
            mef(self.net, &["ban", &addr, "--for", &time.to_string()], "").ok();
            note(&mut self.model, addr, Some(seconds() + time));
        }
    }

    fn unban(&mut self) {
        let addr = self.addr();
        let output = mef(self.net, &["unban", &addr], "");
        let was = self.model.remove(&addr).is_some();
        assert_eq!(output.status == 0, was, "unban {addr}: {output:?}");
    }

    /// Many on standard input.
    fn many(&mut self, bans: bool) {
        let addrs: Vec<String> =
            (0..40).map(|_| format!("10.{}.9.{}", self.number, self.rng.u8(1..200))).collect();
        let text = addrs.join("\n") + "\n";
        if bans {
            let output = mef(self.net, &["ban", "-", "--for", "2h"], &text);
            // A daemon that is killed at this moment is not told, which is said; that the journal has it is
            // not in question.
            assert!(output.status == 0 && !output.stderr.contains("/lib/mef/"), "{output:?}");
            let end = seconds() + 7200;
            addrs.into_iter().for_each(|addr| note(&mut self.model, addr, Some(end)));
        } else {
            mef(self.net, &["unban", "-"], &text);
            self.model.retain(|addr, _| !addrs.contains(addr));
        }
    }
}

/// Starts the daemon; it ends with the thread.
fn start(net: &Net) -> Child {
    let config = net.path("mef.conf");
    let mut command = net.mef_command(&["daemon", "--foreground", "--config", config.to_str().unwrap()]);
    let out = File::options().create(true).append(true).open(net.path("daemon.out")).unwrap();
    command.stdout(out.try_clone().unwrap()).stderr(out).spawn().unwrap()
}

/// A daemon that is reloaded, and killed, until `done`.
fn kill_and_reload(net: &Net, done: &AtomicBool) {
    let mut child = start(net);
    for n in 1.. {
        sleep(Duration::from_millis(300));
        if done.load(SeqCst) {
            break;
        }
        if n % 6 == 0 {
            child.kill().unwrap();
            child.wait().unwrap();
            child = start(net);
        } else {
            common::ns::kill(child.id(), libc::SIGHUP);
        }
    }
    child.kill().unwrap();
    child.wait().unwrap();
}

/// Offenders in the log, and deny lists that are written anew; gives the offenders.
fn offend(net: &Net, done: &AtomicBool) -> Vec<String> {
    // What was there before the first daemon is none of its business.
    net.wait_ready("daemon");
    let mut all = Vec::new();
    for n in 0.. {
        if done.load(SeqCst) {
            break;
        }
        let addr = Ipv4Addr::from(0xac14_0001 + n).to_string();
        // A daemon that was away goes by the stamp.
        let stamp = Stamp(Wall(seconds()));
        net.append(
            LOG,
            format!("{stamp} host sshd[7]: Failed password for root from {addr} port 58216 ssh2\n"),
        );
        all.push(addr);
        let list: String = (1..100).map(|i| format!("192.88.{}.{i}\n", n % 200)).collect();
        let written = net.write("blacklist/feed.tmp", &list);
        fs::rename(written, net.path("blacklist/feed.conf")).unwrap();
        sleep(Duration::from_millis(50));
    }
    all
}

/// Others who change the table.
fn meddle(net: &Net, done: &AtomicBool) {
    for n in 0..u8::MAX {
        if done.load(SeqCst) {
            break;
        }
        let addr = format!("{TAKEN}0.{}", n % 30 + 1);
        mef(net, &["ban", &addr, "--for", "4h"], "").ok();
        net.cmd("nft", &["delete", "element", "inet", "mef_guard", "ban4", "{", &addr, "}"]);
        net.cmd("nft", &["add", "rule", "inet", "mef_guard", "gate", "counter", "comment", "\"foreign\""]);
        sleep(Duration::from_millis(100));
    }
}

/// What there is, but for what others took away.
fn in_force(net: &Net) -> Ends {
    let mut all = ends(net);
    all.retain(|(addr, _), _| !addr.starts_with(TAKEN));
    all
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn what_was_acknowledged_is_in_the_kernel_and_in_the_journal() {
    let mut net = host("max_bans_per_minute=1000000\nps_enabled=false", "maxretry=1");
    net.write("a.rules", "policy dir=in action=accept\nrule dir=in action=drop proto=tcp dport=99\n");
    fs::create_dir_all(net.path("blacklist")).unwrap();
    // So much that the journal is compacted early.
    let many: String = (0..1200).map(|n| format!("{}\n", Ipv4Addr::from(0x0afc_0000 + n))).collect();
    mef(&net, &["ban", "-", "--for", "5h"], &many).ok();
    let end = seconds() + 5 * 3600;
    let mut model: Model =
        (0..1200).map(|n| (Ipv4Addr::from(0x0afc_0000 + n).to_string(), Some(end))).collect();
    let done = AtomicBool::new(false);
    let space = common::ns::Ns::current();
    let (shared, done, space) = (&net, &done, &space);
    let offenders = std::thread::scope(|scope| {
        let run = |what: fn(&Net, &AtomicBool)| {
            scope.spawn(move || {
                space.enter();
                what(shared, done);
            })
        };
        run(kill_and_reload);
        run(meddle);
        let offending = scope.spawn(move || {
            space.enter();
            offend(shared, done)
        });
        let hands: Vec<_> = (0..HANDS)
            .map(|number| {
                scope.spawn(move || {
                    space.enter();
                    let rng = fastrand::Rng::with_seed(u64::from(number));
                    let mut hand = Hand { net: shared, number: number + 1, rng, model: Model::new() };
                    (0..ops()).for_each(|_| hand.act());
                    hand.model
                })
            })
            .collect();
        let ended: Vec<_> = hands.into_iter().map(std::thread::ScopedJoinHandle::join).collect();
        done.store(true, SeqCst);
        ended.into_iter().for_each(|hand| model.extend(hand.unwrap()));
        offending.join().unwrap()
    });
    let daemon = net.daemon("last");
    net.mark(LOG);
    let missing = || -> Vec<String> {
        let banned = net.banned();
        offenders.iter().filter(|addr| !banned.contains(addr)).cloned().collect()
    };
    wait_or_show("all offenders", || missing().is_empty().then_some(()), || format!("{:?}", missing()));
    compare(&model, &in_force(&net));
    net.stop(daemon);
    let before = in_force(&net);
    // The journal alone says the same.
    net.nft("delete table inet mef_guard");
    let daemon = net.daemon("next");
    wait_until("the bans", || net.said("next").contains("restored from the journal"));
    let after = in_force(&net);
    // The kernel counts from when it has it; with so many at work that is seconds later.
    let near = |a: u64, b: u64| (a == 0) == (b == 0) && a.abs_diff(b) <= 10;
    let other = |from: &Ends, to: &Ends| -> Vec<String> {
        let differs = |(key, end): (&(String, String), &u64)| match to.get(key) {
            Some(there) if near(*end, *there) => None,
            there => Some(format!("{} until {end}, {there:?}", key.0)),
        };
        from.iter().filter_map(differs).collect()
    };
    let (gone, new) = (other(&before, &after), other(&after, &before));
    assert!(gone.is_empty() && new.is_empty(), "in the kernel: {gone:?}, in the journal: {new:?}");
    net.stop(daemon);
}

/// The hands' own addresses are banned as they were told, and no others.
fn compare(model: &Model, all: &Ends) {
    let own: BTreeMap<&str, u64> = all
        .iter()
        .map(|((addr, _), end)| (addr.as_str(), *end))
        .filter(|(addr, _)| addr.starts_with("10.") && !addr.starts_with(SHARED))
        .collect();
    let lost: Vec<_> = model.keys().filter(|addr| !own.contains_key(addr.as_str())).collect();
    let extra: Vec<_> = own.keys().filter(|addr| !model.contains_key(**addr)).collect();
    assert!(lost.is_empty() && extra.is_empty(), "lost: {lost:?}, too many: {extra:?}");
    for (addr, end) in model {
        let (want, have) = (end.unwrap_or(0), own[addr.as_str()]);
        // Before and behind the moment that counted there is the wait for the others.
        let near = (want == 0) == (have == 0) && want.saturating_sub(30) <= have && have <= want + 5;
        assert!(near, "{addr}: until {have} instead of {want}");
    }
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn a_ban_on_ports_is_about_the_published_port_not_that_of_the_container() {
    let mut net = Net::new();
    let [peer, container] = [net.peer(), net.peer()];
    fs::write("/proc/sys/net/ipv4/ip_forward", "1").unwrap();
    net.nft(&format!(
        "table ip published {{ chain c {{ type nat hook prerouting priority dstnat; tcp dport 8080 dnat to \
         {}:80; }}; }}",
        container.v4
    ));
    let _service = net.within(&container.ns, |_| std::net::TcpListener::bind("0.0.0.0:80").unwrap());
    let (addr, host) = (peer.v4.to_string(), peer.host4.into());
    assert!(net.reaches(&peer, host, 8080));
    net.mef(&["ban", &addr, "--ports", "80"]).ok();
    assert!(net.reaches(&peer, host, 8080), "the port of the container");
    net.mef(&["unban", &addr]).ok();
    net.mef(&["ban", &addr, "--ports", "8080"]).ok();
    assert!(net.shut_out(&peer, host, 8080), "the published port");
}
