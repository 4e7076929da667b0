//! The control socket and the commands that ask the daemon.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use crate::common;

use common::daemon::{LOG, failed, fails, host};
use common::{Net, wait_until};
use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;

fn connect(net: &Net) -> UnixStream {
    UnixStream::connect(net.path("run/mef/mef.sock")).unwrap()
}

/// Starts `mef watch`, and waits until the daemon knows of it.
fn watch(net: &mut Net, name: &str, args: &[&str]) -> usize {
    let before = metrics(&prometheus(net))["mef_watchers"];
    let command = net.mef_command(&[&["watch"], args].concat());
    let started = net.start(name, command);
    wait_until("the watcher", || metrics(&prometheus(net))["mef_watchers"] > before);
    started
}

fn prometheus(net: &Net) -> String {
    net.mef(&["status", "--prometheus"]).shown()
}

/// The values by their names and labels, as strictly as a scraper reads them.
fn metrics(text: &str) -> BTreeMap<String, f64> {
    let (mut all, mut kind, mut seen) = (BTreeMap::new(), None, Vec::new());
    let is_name = |s: &str| {
        s.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
            && s.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
    };
    assert!(text.ends_with('\n'));
    let mut helped = "";
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, about) = rest.split_once(' ').unwrap();
            assert!(is_name(name) && !about.is_empty() && !seen.contains(&name), "{line}");
            helped = name;
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, what) = rest.split_once(' ').unwrap();
            assert!(name == helped && ["counter", "gauge"].contains(&what), "{line}");
            assert_eq!(what == "counter", name.ends_with("_total"), "{line}");
            seen.push(name);
            kind = Some(name);
        } else {
            let (series, value) = line.rsplit_once(' ').unwrap();
            let name = series.split('{').next().unwrap();
            assert!(Some(name) == kind && is_name(name), "{line} below {kind:?}");
            if let Some(labels) = series.strip_prefix(name).and_then(|l| l.strip_prefix('{')) {
                for label in labels.strip_suffix('}').unwrap().split(',') {
                    let (label, value) = label.split_once('=').unwrap();
                    let value = value.strip_prefix('"').and_then(|v| v.strip_suffix('"')).unwrap();
                    assert!(is_name(label) && !value.contains(['"', '\\']), "{line}");
                }
            }
            assert!(all.insert(series.to_owned(), value.parse().unwrap()).is_none(), "{line} twice");
        }
    }
    all
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn status_tells_what_runs_and_what_the_kernel_has() {
    let mut net = host("", "maxretry=3");
    net.write("whitelist/local.conf", "198.51.100.0/24\n");
    let text = net.mef(&["status"]).shown();
    assert!(text.contains("daemon      does not run") && text.contains("there is no table"), "{text}");
    assert_eq!(metrics(&prometheus(&net))["mef_up"], 0.0);
    assert!(net.mef(&["status", "--json"]).shown().starts_with("{\"daemon\":false,"));
    let daemon = net.daemon("daemon");
    net.append(LOG, fails("203.0.113.1", 3) + &fails("203.0.113.2", 2));
    net.mark(LOG);
    let text = net.mef(&["status"]).shown();
    assert!(text.contains("bans        2 in force, 1 range on the allow list"), "{text}");
    for part in
        ["daemon      runs for ", "memory      ", "packets     dropped in prerouting raw", "kernel      "]
    {
        assert!(text.contains(part), "{part}: {text}");
    }
    let row = text.lines().find(|line| line.starts_with("app ")).unwrap();
    assert_eq!(row.split_whitespace().take(4).collect::<Vec<_>>(), ["app", "file", "5", "1"], "{text}");
    let all = metrics(&prometheus(&net));
    for (name, want) in [
        ("mef_up", 1.0),
        ("mef_table", 1.0),
        ("mef_bans_in_force", 2.0),
        ("mef_allowed", 1.0),
        ("mef_lines_total", 6.0),
        ("mef_hits_total", 6.0),
        ("mef_bans_total", 2.0),
        ("mef_tracked", 1.0),
        ("mef_track_max", 4096.0),
        ("mef_rule_hits_total{rule=\"app\",source=\"auto\"}", 5.0),
        ("mef_rule_bans_total{rule=\"app\",source=\"auto\"}", 1.0),
    ] {
        assert_eq!(all.get(name), Some(&want), "{name}: {all:#?}");
    }
    assert!(all["mef_resident_bytes"] > 100_000.0 && all["mef_start_time_seconds"] > 1.7e9);
    let json = net.mef(&["status", "--json"]).shown();
    assert!(
        json.lines().any(|l| l.starts_with("{\"rule\":\"app\",\"source\":\"auto\",\"hits\":5,\"bans\":1,")),
        "{json}"
    );
    assert!(json.lines().next().unwrap().contains("\"bans_in_force\":2,"), "{json}");
    // A reload keeps the counts, rules that are new begin at 0.
    net.rule_for("other", "other.log", "");
    net.signal(daemon, libc::SIGHUP);
    net.wait_said("daemon", "configuration read");
    let all = metrics(&prometheus(&net));
    assert_eq!(
        (all["mef_hits_total"], all["mef_rule_hits_total{rule=\"other\",source=\"auto\"}"]),
        (6.0, 0.0)
    );
    assert_eq!(all["mef_rule_hits_total{rule=\"app\",source=\"auto\"}"], 5.0);
    net.stop(daemon);
    assert!(!net.path("run/mef/mef.sock").exists() && net.mef(&["status"]).shown().contains("does not run"));
    // One that was killed leaves its socket.
    let daemon = net.daemon("killed");
    net.signal(daemon, libc::SIGKILL);
    net.wait(daemon);
    assert!(net.path("run/mef/mef.sock").exists());
    // Its other process has the socket, too, until it has seen that it is alone.
    wait_until("the end of it", || net.mef(&["status"]).shown().contains("does not run"));
    net.daemon("again");
    assert!(net.mef(&["status"]).shown().contains("runs for"));
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn a_rule_is_on_when_its_service_is_here() {
    let mut net = host("", "maxretry=3");
    let log = net.path("own.log");
    let auto = |what: &str| {
        format!(
            "enabled=auto\nsource=file\nfiles={}\nfailregex={what}\nmaxretry=2\nbantime=1h",
            log.display()
        )
    };
    // What is off is not looked at, but for `mef check` and `mef test`.
    net.rule("own", &auto("^x(<HOST>$"));
    net.rule("not", "enabled=false\nprograms=x\nfailregex=<HOST>");
    let off = "{\"rule\":\"own\",\"source\":null,\"hits\":null,\"bans\":null,\"read\":null,\
               \"last\":null,\"on\":false,\
               \"why\":\"found neither a file nor a program of \
               it\",\"last_ban\":null,\"kind\":null,\"reads\":null,\
               \"blind\":null}";
    let config = net.path("mef.conf").display().to_string();
    let with = |net: &Net, args: &[&str]| net.mef(&[args, &["--config", &config]].concat());
    let status = |net: &Net| with(net, &["status", "--json"]).shown();
    assert!(status(&net).contains(off), "{}", status(&net));
    let daemon = net.daemon("daemon");
    assert!(status(&net).contains(off), "{}", status(&net));
    let check = with(&net, &["check"]);
    assert!(check.status == 1 && check.stdout.contains("own.conf:6:"), "{}", check.stdout);
    net.rule("own", &auto("^x <HOST>$"));
    net.append("own.log", "x 203.0.113.7\n");
    assert_eq!(with(&net, &["test", "--hits", "own", &log.display().to_string()]).stdout.lines().count(), 1);
    // A reload finds what has come.
    let found = format!("found {}", log.display());
    assert!(
        status(&net)
            .contains(&format!("\"on\":false,\"why\":\"{found}; the daemon learns of it at a reload\""))
    );
    net.signal(daemon, libc::SIGHUP);
    net.wait_said("daemon", "configuration read");
    net.append("own.log", "x 203.0.113.8\nx 203.0.113.8\n");
    net.wait_said("daemon", "203.0.113.8");
    let text = with(&net, &["status", "--all"]).shown();
    let row = |name: &str| text.lines().rfind(|l| l.starts_with(&format!("{name} "))).unwrap().to_owned();
    let words = |name: &str| row(name).split_whitespace().skip(1).collect::<Vec<_>>().join(" ");
    assert_eq!(
        (words("app"), words("own"), words("not")),
        ("yes enabled=true".to_owned(), format!("yes {found}"), "no enabled=false".to_owned())
    );
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn unban_forgets_what_was_counted() {
    let mut net = host("", "maxretry=3");
    net.daemon("daemon");
    let hits = |net: &Net, addr: &str, count: usize| {
        net.append(LOG, fails(addr, count));
        net.mark(LOG);
    };
    hits(&net, "203.0.113.1", 2);
    hits(&net, "203.0.113.2", 2);
    hits(&net, "2001:db8:1::5", 2);
    let out = net.mef(&["unban", "203.0.113.1", "2001:db8:1::7"]);
    assert!(out.status == 1 && out.stderr.contains("203.0.113.1 was not banned"), "{out:?}");
    hits(&net, "203.0.113.1", 2);
    hits(&net, "203.0.113.2", 1);
    hits(&net, "2001:db8:1::6", 2);
    assert_eq!(net.banned(), ["203.0.113.2"]);
    // Of a network, everybody in it; and of all, all.
    assert_eq!(net.mef(&["unban", "203.0.113.0/24"]).status, 0);
    hits(&net, "203.0.113.1", 2);
    assert!(net.banned().is_empty());
    net.mef(&["unban", "--all"]).ok();
    hits(&net, "203.0.113.1", 2);
    hits(&net, "2001:db8:1::6", 2);
    assert!(net.banned().is_empty());
    hits(&net, "203.0.113.1", 1);
    assert_eq!(net.banned(), ["203.0.113.1"]);
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
pub fn an_unban_outlasts_lines_that_the_daemon_reads_before_it_hears_of_it() {
    let mut net = host("", "maxretry=2");
    let daemon = net.daemon("daemon");
    let banned = |net: &Net| {
        net.mark(LOG);
        net.banned().into_iter().filter(|addr| addr.starts_with("203.")).collect::<Vec<_>>()
    };
    net.append(LOG, fails("203.0.113.1", 2));
    assert_eq!(banned(&net), ["203.0.113.1"]);
    for who in ["203.0.113.1", "203.0.113.0/29", "--all"] {
        net.signal(daemon, libc::SIGSTOP);
        net.append(LOG, fails("203.0.113.1", 2) + &fails("203.0.113.99", 2));
        let command = net.mef_command(&["unban", who]);
        let unban = net.start("unban", command);
        wait_until("the end of the ban", || !net.in_set("ban4", "203.0.113.1".parse().unwrap()));
        net.signal(daemon, libc::SIGCONT);
        assert_eq!(net.wait(unban), 0, "{}", net.said("unban"));
        // It ends those that were made meanwhile, and nobody else's.
        let others: &[&str] = if who == "--all" { &[] } else { &["203.0.113.99"] };
        assert_eq!(banned(&net), others, "{who}");
        net.append(LOG, failed("203.0.113.1"));
        assert_eq!(banned(&net), others, "{who}: what was counted is forgotten");
        net.append(LOG, failed("203.0.113.1"));
        assert!(banned(&net).contains(&"203.0.113.1".to_owned()), "{who}: what comes later counts");
    }
    let past = net.mef(&["history", "203.0.113.1"]).ok();
    let told = |word: &str| past.lines().filter(|line| line.contains(&format!(" {word} "))).count();
    assert_eq!((told("unban"), told("ban")), (6, 7), "each is told: {past}");
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn watch_shows_events_as_they_come() {
    let mut net = host("ban_log_enabled=true", "maxretry=2\nbantime=10m\nports=22");
    let daemon = net.daemon("daemon");
    let text = watch(&mut net, "text", &[]);
    let json = watch(&mut net, "json", &["--json"]);
    net.rule(
        "named",
        &format!(
            "programs=app\nfiles={}\nfailregex=^bad user (?P<user>.*) from <HOST>$\nmaxretry=99",
            net.path(LOG).display()
        ),
    );
    net.signal(daemon, libc::SIGHUP);
    net.wait_said("daemon", "configuration read");
    net.append(LOG, "Nov 22 08:00:01 host app[1]: bad user \x1b[31mroot rule=x\x07 from 203.0.113.9\n");
    net.append(LOG, fails("203.0.113.1", 2));
    net.mark(LOG);
    net.mef(&["ban", "192.0.2.0/24", "--permanent", "--ports", "22,80-90"]).ok();
    net.mef(&["unban", "203.0.113.1"]).ok();
    wait_until("the last event", || net.said("text").contains("unban") && net.said("json").contains("unban"));
    let events: Vec<String> = net
        .said("text")
        .lines()
        .filter(|line| !line.contains("rule=mark"))
        .map(|line| line.split_once(' ').unwrap().1.to_owned())
        .collect();
    assert_eq!(
        events,
        [
            "reload",
            "hit 203.0.113.9 rule=named weight=1 user=\\x1b[31mroot rule=x\\x07",
            "hit 203.0.113.1 rule=app weight=1",
            "hit 203.0.113.1 rule=app weight=1",
            "ban 203.0.113.1 rule=app hits=2 for=600 ports=22 bans=1",
            "ban 192.0.2.0/24 rule=manual hits=0 for=permanent ports=22,80-90 bans=1",
            "unban 203.0.113.1",
        ]
    );
    let said = net.said("json");
    let line = said.lines().find(|line| line.contains("\"named\"")).unwrap();
    let event = r#""event":"hit","address":"203.0.113.9","rule":"named","weight":1,"#;
    let user = r#""user":"\\x1b[31mroot rule=x\\x07"}"#;
    assert!(line.ends_with(&format!("{event}{user}")), "{line}");
    let log = net.read("log/mef.log");
    assert!(log.contains(" ban 192.0.2.0/24 rule=manual hits=0 for=permanent ports=22,80-90"), "{log}");
    assert!(log.contains(" unban 203.0.113.1 rule=manual"), "{log}");
    net.stop(daemon);
    assert_eq!((net.wait(text), net.wait(json)), (0, 0));
    assert!(net.said("text").ends_with("mef: the daemon has stopped\n"));
    assert!(net.mef(&["watch"]).stderr.contains("no daemon runs"));
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn who_reads_slowly_misses_events_and_is_told_how_many() {
    let mut net = host("", "maxretry=60000");
    net.daemon("daemon");
    let mut slow = connect(&net);
    slow.write_all(b"watch\n").unwrap();
    wait_until("the watcher", || metrics(&prometheus(&net))["mef_watchers"] == 1.0);
    for _ in 0..10 {
        net.append(LOG, fails("203.0.113.1", 2000));
        net.mark(LOG);
    }
    let lost = metrics(&prometheus(&net))["mef_events_lost_total"];
    assert!(lost > 1000.0, "{lost}");
    slow.set_nonblocking(true).unwrap();
    let mut heard = String::new();
    let _ = slow.read_to_string(&mut heard);
    assert!(
        !heard.contains("lost") && heard.lines().all(|line| line.contains(" hit ") || line.contains(" ban "))
    );
    net.append(LOG, failed("203.0.113.1"));
    let mark = net.mark(LOG);
    let mut more = String::new();
    // The kernel has a ban before anybody is told.
    wait_until("the event of the ban", || {
        let _ = slow.read_to_string(&mut more);
        more.contains(&format!(" ban {mark}"))
    });
    assert!(more.starts_with(&format!("lost {lost}\n")), "{more}");
    // All events are accounted for: 20,001 hits, and of each mark a hit and a ban.
    let seen = heard.lines().count() + more.lines().count() - 1;
    assert_eq!(seen as f64 + lost, f64::from(20_001 + 2 * 11));
    // One that has gone is forgotten with the next event. Programs that other tests start have our
    // descriptors until they are loaded.
    drop(slow);
    wait_until("nobody who watches", || {
        net.mark(LOG);
        metrics(&prometheus(&net))["mef_watchers"] == 0.0
    });
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn bad_clients_delay_nothing() {
    let mut net = host("", "maxretry=1");
    net.daemon("daemon");
    let mut clients: Vec<UnixStream> = (0..40).map(|_| connect(&net)).collect();
    for (i, client) in clients.iter_mut().enumerate() {
        client.set_nonblocking(true).unwrap();
        let bytes: &[u8] = match i % 5 {
            0 => b"",
            1 => b"stat",
            2 => &[b'x'; 5000],
            3 => b"\xff\xfe\0status\n\n\n",
            _ => b"top\ntop\ntop\ntop\n",
        };
        let _ = client.write_all(bytes);
    }
    net.append(LOG, failed("203.0.113.1"));
    net.mark(LOG);
    assert_eq!(net.banned(), ["203.0.113.1"]);
    for _ in 0..20_000 {
        let _ = clients[39].write(b"status\n");
    }
    net.append(LOG, failed("203.0.113.2"));
    net.mark(LOG);
    assert_eq!(net.banned().len(), 2);
    assert!(net.mef(&["status"]).shown().contains("runs for"));
    drop(clients);
    // A daemon that stands still does not hold up who bans.
    let daemon = 0;
    net.signal(daemon, libc::SIGSTOP);
    net.mef(&["ban", "192.0.2.1"]).ok();
    let out = net.mef(&["unban", "192.0.2.1"]);
    assert!(out.status == 0 && out.stderr.contains("not reported to the daemon"), "{out:?}");
    net.signal(daemon, libc::SIGCONT);
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn only_root_is_answered() {
    let mut net = host("", "maxretry=1");
    let dir = net.path("ctl");
    net.configure(&format!("run_dir={}", dir.display()), &[LOG]);
    net.daemon("daemon");
    let socket = dir.join("mef.sock");
    let mode = |path: &std::path::Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&dir), mode(&socket)), (0o700, 0o600));
    let config = net.path("mef.conf");
    let binary = common::mef_binary();
    let ask = |args: &[&str]| {
        let all = [args, &[binary.to_str().unwrap(), "top", "--once", "--config", config.to_str().unwrap()]]
            .concat();
        net.cmd("setpriv", &all)
    };
    let nobody = ["--reuid", "65534", "--regid", "65534", "--clear-groups"];
    assert!(ask(&nobody).stderr.contains("Permission denied"));
    // Even if somebody opens the way there.
    for (path, mode) in [(&dir, 0o755), (&socket, 0o666)] {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    }
    let out = ask(&nobody);
    assert!(out.status == 1 && out.stdout.is_empty(), "{out:?}");
    assert!(ask(&["--reuid", "0"]).ok().contains("offenders tracked"));
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn top_shows_who_is_near_to_a_ban() {
    let mut net = host("", "maxretry=5");
    net.daemon("daemon");
    net.append(LOG, fails("203.0.113.1", 2) + &fails("203.0.113.2", 4) + &fails("203.0.113.3", 5));
    net.mark(LOG);
    let text = net.mef(&["top", "--once"]).ok();
    let at = |what: &str| text.find(what).unwrap_or_else(|| panic!("{what} is not in:\n{text}"));
    // Who is banned is in the other table.
    let offenders = at("203.0.113.2") < at("203.0.113.1") && at("203.0.113.1") < at("BANNED");
    assert!(offenders && at("BANNED") < at("203.0.113.3"), "{text}");
    assert!(text.contains("4 of 5") && text.contains("2 of 4096 offenders tracked"), "{text}");
    assert!(text.contains("2 bans,") && text.contains("now, 2 in the last hour"), "{text}");
    let json = net.mef(&["top", "--json"]).ok();
    let first = "{\"address\":\"203.0.113.2\",\"rule\":\"app\",\"hits\":4,\"of\":5,\"age\":";
    assert!(json.starts_with(first) && json.lines().count() == 2, "{json}");
}
