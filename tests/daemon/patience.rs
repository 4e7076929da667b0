//! The daemon waits for nobody: not for the disk, not for clients, not for descriptors; and no change of ours
//! is so large that who listens to it costs the machine its memory.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use crate::common;

use common::daemon::{LOG, failed, host};
use common::ns::{USER, has_user};
use common::{Net, mef_binary, wait_until};
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::time::Duration;

/// Ticks of the processor that a process has used.
fn ticks(pid: u32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let words: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    words[11].parse::<u64>().unwrap() + words[12].parse::<u64>().unwrap()
}

/// Programs of the test run with few rights; this one, as the daemon's user, changes what the daemon may
/// open.
fn descriptors(pid: &str, count: usize) {
    let limit = format!("--nofile={count}:4096");
    let user = if has_user() { USER.to_string() } else { "0".to_owned() };
    let mut command = Command::new("setpriv");
    command.args(["--reuid", &user, "--regid", &user, "--clear-groups", "prlimit", "--pid", pid, &limit]);
    assert!(command.status().unwrap().success());
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn many_commands_at_a_time_are_all_heard() {
    let mut net = host("", "maxretry=1\nbantime=10m");
    let daemon = net.daemon("daemon");
    // Some that ask nothing keep places.
    let socket = net.path("run").join("mef/mef.sock");
    let _idle: Vec<UnixStream> = (0..40).map(|_| UnixStream::connect(&socket).unwrap()).collect();
    let addresses: Vec<String> = (1..=48).map(|n| format!("203.0.113.{n}")).collect();
    let lines: String = addresses.iter().map(|addr| failed(addr)).collect();
    net.append(LOG, lines);
    net.mark(LOG);
    let reported = std::thread::scope(|scope| {
        let all: Vec<_> = addresses
            .chunks(4)
            .map(|part| {
                let (net, args): (&Net, Vec<&str>) =
                    (&net, ["unban"].into_iter().chain(part.iter().map(String::as_str)).collect());
                let ns = common::ns::Ns::current();
                scope.spawn(move || {
                    ns.enter();
                    net.mef(&args)
                })
            })
            .collect();
        all.into_iter().map(|one| one.join().unwrap()).collect::<Vec<_>>()
    });
    for out in reported {
        assert!(out.status == 0 && !out.stderr.contains("not reported"), "{out:?}");
    }
    let said = net.said("daemon");
    let heard = addresses.iter().filter(|addr| said.contains(&format!("unban {addr}\n"))).count();
    assert_eq!(heard, addresses.len(), "{said}");
    net.stop(daemon);
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn without_descriptors_the_daemon_waits_and_bans() {
    let mut net = host("", "maxretry=1\nbantime=10m");
    let daemon = net.daemon("daemon");
    let pid = net.pid(daemon).to_string();
    let open = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count();
    descriptors(&pid, open + 2);
    let socket = net.path("run").join("mef/mef.sock");
    let clients: Vec<UnixStream> = (0..12).map(|_| UnixStream::connect(&socket).unwrap()).collect();
    wait_until("the line", || net.said("daemon").contains("commands have to wait"));
    let before = ticks(net.pid(daemon));
    std::thread::sleep(Duration::from_secs(2));
    let used = ticks(net.pid(daemon)) - before;
    assert!(used < 50, "{used} ticks in two seconds");
    assert_eq!(net.said("daemon").matches("commands have to wait").count(), 1);
    // When there are descriptors again it answers.
    descriptors(&pid, 1024);
    drop(clients);
    wait_until("an answer", || net.mef(&["top", "--once"]).stdout.contains("offenders tracked"));
    net.append(LOG, failed("203.0.113.1"));
    net.mark(LOG);
    assert!(net.banned().contains(&"203.0.113.1".to_owned()));
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn a_listener_of_others_meets_short_transactions_only() {
    let mut net = host("", "maxretry=1\nbantime=10m");
    let command = net.command("nft", &["monitor"]);
    let listener = net.start("monitor", command);
    net.nft("table ip ready {}");
    wait_until("the listener", || {
        net.nft("add counter ip ready c; delete counter ip ready c");
        net.said("monitor").contains("counter ip ready c") || net.said("monitor").contains("add counter")
    });
    let v4 = |n: u32| std::net::Ipv4Addr::from(0x0b00_0000 + n);
    let list: String = (0..3000).map(|n| format!("{}\n{}/24\n", v4(n * 2), v4((n + 100) * 512))).collect();
    net.write("blacklist/big.conf", &list);
    net.daemon("daemon");
    net.wait_said("daemon", "3000 addresses and 3000 networks denied");
    let most = || {
        let said = net.said("monitor");
        let counts =
            said.split("# new generation").map(|part| part.matches("element inet mef_guard").count());
        (counts.clone().max().unwrap(), counts.sum::<usize>())
    };
    wait_until("all events", || most().1 >= 6000);
    // Another content in its place: the previous sets go without a word about their elements.
    net.write("blacklist/big.conf", &format!("{list}192.0.2.77\n"));
    net.wait_said("daemon", "3001 addresses and 3000 networks denied");
    wait_until("all events again", || most().1 >= 12_000);
    assert!(most().0 <= 512, "{} elements in one transaction", most().0);
    net.signal(listener, libc::SIGTERM);
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn a_slow_disk_delays_no_ban() {
    let mut net = host("state_sync=1s", "maxretry=1\nbantime=10m");
    let daemon = net.daemon("daemon");
    let slow =
        ["-f", "-qq", "-e", "trace=fsync,fdatasync", "-e", "inject=fsync,fdatasync:delay_enter=2000000"];
    let pid = net.pid(daemon).to_string();
    let args: Vec<&str> = slow.into_iter().chain(["-p", pid.as_str()]).collect();
    let mut command = Command::new("strace");
    command.args(&args);
    let tracer = net.start("strace", command);
    let syncs = || net.said("strace").matches("sync(").count();
    wait_until("the disk to be asked", || {
        net.append(LOG, failed("203.0.113.1"));
        syncs() > 0
    });
    // While one is under way, bans go on: ten of them in less time than a single sync takes.
    let before = std::time::Instant::now();
    for n in 2..12 {
        net.append(LOG, failed(&format!("203.0.113.{n}")));
        net.mark(LOG);
    }
    let took = before.elapsed();
    let done = net.said("strace").matches("DELAYED").count();
    assert!(net.banned().len() >= 11);
    // Each would have waited for one at least.
    assert!(done < 10, "{done} syncs while ten were banned");
    let text = format!("ten bans took {took:?} with a disk that takes 2 s for each sync ({done} done)\n");
    std::io::Write::write_all(&mut std::io::stdout(), text.as_bytes()).unwrap();
    // What was done in between is written as well, by one process at a time.
    wait_until("the next one", || syncs() > 3);
    net.signal(tracer, libc::SIGTERM);
    net.wait(tracer);
    net.stop(daemon);
}

/// What the kernel's scheduler knows of a process: how long it may run at a time, in nanoseconds, and its
/// nice value. `None` where the kernel does not tell the first.
fn scheduled(pid: u32) -> (Option<u64>, i64) {
    let text = std::fs::read_to_string(format!("/proc/{pid}/sched")).unwrap();
    let slice = text.lines().find_map(|line| line.strip_prefix("se.slice")?.split_once(':'));
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let nice = stat.rsplit(')').next().unwrap().split_whitespace().nth(16).unwrap();
    (slice.map(|(_, number)| number.trim().parse().unwrap()), nice.parse().unwrap())
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn both_processes_ask_for_short_turns_of_the_processor() {
    let mut net = host("", "maxretry=1");
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let mut numbers = release.split(['.', '-']).map_while(|number| number.parse::<u32>().ok());
    let is_known = (numbers.next(), numbers.next()) >= (Some(6), Some(12));
    assert!(scheduled(std::process::id()).0.is_none_or(|slice| slice != 100_000), "everybody has them");
    for nice in ["0", "7"] {
        let config = net.path("mef.conf");
        let mef = mef_binary();
        let args = ["-n", nice, mef.to_str().unwrap(), "daemon", "--foreground", "--config"];
        let mut command = net.command("nice", &args);
        command.arg(config);
        net.own(&mut command);
        let name = format!("nice-{nice}");
        let daemon = net.start(&name, command);
        net.wait_ready(&name);
        let pid = net.pid(daemon);
        let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
        let children: Vec<u32> = children.split_whitespace().map(|pid| pid.parse().unwrap()).collect();
        assert!(!children.is_empty(), "who reads logs");
        for pid in children.into_iter().chain([pid]) {
            let (slice, given) = scheduled(pid);
            assert_eq!(given.to_string(), nice, "what somebody has given it is left alone");
            assert!(!is_known || slice == Some(100_000), "{slice:?}");
        }
        net.append(LOG, failed(&format!("203.0.113.1{nice}")));
        wait_until("a ban", || net.banned().contains(&format!("203.0.113.1{nice}")));
        net.stop(daemon);
    }
}
