//! What `mef daemon` knows over rotations, restarts and reboots: no line lost, none read twice, every ban
//! back.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use crate::common;

use common::bans::text;
use common::daemon::{Ends, LOG, ends, failed, fails, host, same_ends, seconds};
use common::{Net, wait_until};
use mef::base::clock::Wall;
use mef::base::utc::Stamp;
use std::fs;
use std::net::IpAddr;

/// What a reboot does to the kernel's tables.
fn reboot(net: &Net) {
    net.nft("delete table inet mef_guard");
    assert!(net.bans().is_empty());
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn rotation_loses_no_line_and_counts_none_twice() {
    let mut net = host("", "maxretry=1000");
    let daemon = net.daemon("daemon");
    let (log, mut written) = (net.path(LOG), 0);
    let mut write = |net: &Net, count| {
        net.append(LOG, fails("203.0.113.1", count));
        written += count;
    };
    for round in 0..4 {
        write(&net, 10);
        fs::rename(&log, net.path(&format!("{LOG}.{round}"))).unwrap();
        // What the writer still has open goes to the old file.
        net.append(&format!("{LOG}.{round}"), fails("203.0.113.1", 5));
        write(&net, 0);
        write(&net, 7);
        net.mark(LOG);
    }
    write(&net, 3);
    net.mark(LOG);
    // copytruncate
    fs::File::options().write(true).truncate(true).open(&log).unwrap();
    write(&net, 2);
    net.mark(LOG);
    // Removed and made anew, later.
    fs::remove_file(&log).unwrap();
    write(&net, 13);
    net.mark(LOG);
    let hits = net.counts(daemon, "daemon")[2];
    assert_eq!(hits, u64::try_from(written + 4 * 5 + 7).unwrap(), "with seven marks");
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn a_restart_continues_where_it_was() {
    let mut net = host("", "maxretry=1000");
    let log = net.path(LOG);
    net.append(LOG, fails("203.0.113.1", 50));
    let mut hits = 0;
    let mut written = 0;
    for (round, name) in ["one", "two", "three", "four"].into_iter().enumerate() {
        let daemon = net.daemon(name);
        net.append(LOG, fails("203.0.113.1", 10));
        net.mark(LOG);
        written += 11;
        hits += net.counts(daemon, name)[2];
        if round % 2 == 0 {
            net.stop(daemon);
        } else {
            // After the answer above, what was read before it has been saved.
            net.signal(daemon, libc::SIGKILL);
            net.wait(daemon);
        }
        // While nobody looks: lines, a rotation, more lines, half a line.
        let now = Stamp(Wall(seconds())).to_string();
        let line = failed("203.0.113.1").replace("Nov 22 08:00:01", &now);
        net.append(LOG, line.repeat(4));
        if round == 1 {
            fs::rename(&log, net.path("app.log.1")).unwrap();
        }
        let (head, tail) = line.split_at(40);
        net.append(LOG, line.repeat(3) + head);
        net.append(LOG, tail);
        written += 8;
    }
    let daemon = net.daemon("last");
    net.mark(LOG);
    hits += net.counts(daemon, "last")[2];
    assert_eq!(hits, written + 1, "what was there before the first start is not read");
}

/// How often the daemon has told a ban, in its own words and to the ban log.
fn reported(net: &Net, name: &str, addr: &str) -> (usize, usize) {
    let count = |text: String, what: &str| text.matches(&format!("{what} {addr} ")).count();
    let banlog = fs::read_to_string(net.path("log/mef.log")).unwrap_or_default();
    (count(net.said(name), "ban"), banlog.lines().filter(|line| line.contains(&format!("{addr} "))).count())
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn a_ban_that_a_killed_daemon_had_made_and_not_told_is_told_once() {
    let mut net = host("", "maxretry=2\nbantime=5h");
    let dir = net.path("state");
    let settings = format!("ban_log_enabled=true\nstate_sync=1s\nstate_dir={}", dir.display());
    net.configure(&settings, &[LOG]);
    // Stamped now: what is old is not caught up.
    let now = Stamp(Wall(seconds())).to_string();
    let fails = |addr, count| fails(addr, count).replace("Nov 22 08:00:01", &now);
    let daemon = net.daemon("first");
    net.append(LOG, fails("203.0.113.9", 2));
    net.mark(LOG);
    net.stop(daemon);
    let state = |file: &str| dir.join(file);
    let (bans, positions) = (fs::read(state("bans")).unwrap(), fs::read(state("positions")).unwrap());
    let banlog = net.read("log/mef.log");

    let daemon = net.daemon("second");
    net.append(LOG, fails("203.0.113.1", 2));
    net.mark(LOG);
    // The kernel has a ban before it is told.
    net.counts(daemon, "second");
    net.signal(daemon, libc::SIGKILL);
    net.wait(daemon);
    assert_eq!(reported(&net, "second", "203.0.113.1"), (1, 1));
    // As if it had been killed when the kernel had the ban, and nobody else. Somebody is banned by hand by a
    // command that died likewise.
    fs::write(state("bans"), &bans).unwrap();
    fs::write(state("positions"), &positions).unwrap();
    fs::write(net.path("log/mef.log"), &banlog).unwrap();
    net.nft("add element inet mef_guard ban4 { 203.0.113.2 timeout 3h }");
    net.append(LOG, fails("203.0.113.2", 2));
    let daemon = net.daemon("third");
    net.mark(LOG);
    net.counts(daemon, "third");
    assert_eq!(reported(&net, "third", "203.0.113.1"), (1, 1), "{}", net.said("third"));
    assert_eq!(reported(&net, "third", "203.0.113.2"), (0, 0), "that is no ban of this daemon");
    assert_eq!(reported(&net, "third", "203.0.113.9"), (0, 1), "that one was told before");
    // Both are the journal's before long.
    wait_until("the ban by hand is in the journal", || {
        fs::read(state("bans")).unwrap().windows(4).any(|addr| addr == [203, 0, 113, 2])
    });
    net.signal(daemon, libc::SIGKILL);
    net.wait(daemon);
    reboot(&net);
    // What the journal has was told, though its lines are read again.
    fs::write(state("positions"), &positions).unwrap();
    let daemon = net.daemon("fourth");
    net.mark(LOG);
    net.counts(daemon, "fourth");
    assert_eq!(net.banned(), ["203.0.113.1", "203.0.113.2", "203.0.113.9"]);
    assert_eq!(reported(&net, "fourth", "203.0.113.1"), (0, 1));
    net.stop(daemon);
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn what_was_written_while_it_was_down_is_caught_up_unless_it_is_old() {
    let mut net = host("", "maxretry=3\nfindtime=1h");
    let daemon = net.daemon("first");
    net.append(LOG, fails("203.0.113.9", 1));
    net.mark(LOG);
    net.stop(daemon);
    let at = |age: u64, addr: &str| {
        failed(addr).replace("Nov 22 08:00:01", &Stamp(Wall(seconds() - age)).to_string())
    };
    let old = (0..5).map(|i| at(7200 - i, "203.0.113.1")).collect::<String>();
    let mixed = at(3700, "203.0.113.2") + &at(60, "203.0.113.2") + &at(30, "203.0.113.2");
    let recent = at(3000, "203.0.113.3") + &at(60, "203.0.113.3") + &at(5, "203.0.113.3");
    net.append(LOG, old + &mixed + &recent);
    net.daemon("second");
    net.mark(LOG);
    assert_eq!(net.banned(), ["203.0.113.3"]);
    // The window goes on from there: two of the three were counted for the second address.
    net.append(LOG, failed("203.0.113.2"));
    net.mark(LOG);
    assert_eq!(net.banned(), ["203.0.113.2", "203.0.113.3"]);
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn what_came_after_a_file_that_was_rotated_away_meanwhile_is_caught_up() {
    let mut net = host("", "maxretry=2\nfindtime=1h");
    let now = Stamp(Wall(seconds())).to_string();
    let fails = |addr, count| fails(addr, count).replace("Nov 22 08:00:01", &now);
    let daemon = net.daemon("first");
    net.append(LOG, fails("203.0.113.9", 1));
    net.mark(LOG);
    net.stop(daemon);
    // A file that is open gives its inode to no other.
    let _first = fs::File::open(net.path(LOG)).unwrap();
    // One generation is kept.
    for addr in ["203.0.113.1", "203.0.113.2", "203.0.113.3"] {
        fs::rename(net.path(LOG), net.path(&format!("{LOG}.1"))).unwrap();
        net.append(LOG, fails(addr, 2));
    }
    net.daemon("second");
    net.mark(LOG);
    assert_eq!(net.banned(), ["203.0.113.2", "203.0.113.3"]);
}

/// `date` of the seconds before now, in UTC.
fn dated(age: u64, format: &str) -> String {
    let at = format!("@{}", seconds() - age);
    let out = std::process::Command::new("date").args(["-u", "-d", &at, format]).env("LC_ALL", "C").output();
    String::from_utf8(out.unwrap().stdout).unwrap().trim().to_string()
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn stamps_of_logs_that_services_write_decide_after_downtime() {
    let mut net = host("", "");
    let log = net.path("web.log");
    net.rule(
        "web",
        &format!(
            "files={}\nfailregex=^<HOST> \\S+ \\S+ \\[[^\\]]+\\] \"[^\"]*\" 401 \nfailregex=login failed for \
             \\S+ from <HOST>$\n\
             findtime=10m\nmaxretry=5",
            log.display()
        ),
    );
    net.append("web.log", "");
    let daemon = net.daemon("first");
    net.mark(LOG);
    net.stop(daemon);
    let web = |age, addr: &str| {
        format!(
            "{addr} - alice [{}] \"PROPFIND /cal HTTP/1.1\" 401 179 \"-\" \"c\"\n",
            dated(age, "+%d/%b/%Y:%H:%M:%S +0000")
        )
    };
    let own = |age, addr: &str, format| format!("{} login failed for x from {addr}\n", dated(age, format));
    let zoned = |age| {
        let local = dated(age + 5 * 3600 - 1800, "+%d/%b/%Y:%H:%M:%S -0430");
        format!("203.0.113.7 - - [{local}] \"GET / HTTP/1.1\" 401 7\n")
    };
    let mut text = String::new();
    for i in 0..6 {
        // Eight hours apart, the last one ten hours old; then the same within minutes.
        text += &web(50 * 3600 - i * 8 * 3600, "203.0.113.1");
        text += &web(300 - i, "203.0.113.2");
        text += &own(86_400 + i, "203.0.113.3", "+[%Y-%m-%d %H:%M:%S]");
        text += &own(60 + i, "203.0.113.4", "+[%Y-%m-%d %H:%M:%S]");
        text += &own(7200 + i, "203.0.113.5", "+[%a %b %d %H:%M:%S.123456 %Y]");
        text += &own(100 + i, "203.0.113.6", "+[%a %b %d %H:%M:%S.123456 %Y]");
        text += &zoned(30 + i);
        // Five in five hours.
        text += &own(18_000 - i * 3600, "203.0.113.8", "+%Y/%m/%d %H:%M:%S");
        // Nobody knows when.
        text += "login failed for x from 203.0.113.9\n";
    }
    net.append("web.log", text);
    net.daemon("second");
    let want = ["203.0.113.2", "203.0.113.4", "203.0.113.6", "203.0.113.7", "203.0.113.9"];
    wait_until("the bans", || net.banned().len() >= want.len());
    net.mark(LOG);
    assert_eq!(net.banned(), want);
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn zeros_that_copytruncate_leaves_hide_no_line() {
    let mut net = host("", "maxretry=1000");
    net.daemon("daemon");
    let path = net.path(LOG);
    let mut writer = fs::File::create(&path).unwrap();
    let line = |addr: &str| failed(addr).repeat(1000);
    std::io::Write::write_all(&mut writer, line("203.0.113.1").as_bytes()).unwrap();
    for (n, addr) in ["203.0.113.2", "203.0.113.3", "203.0.113.4"].into_iter().enumerate() {
        // Short and long holes; the first line behind them counts.
        if n == 1 {
            std::io::Write::write_all(&mut writer, line("203.0.113.1").as_bytes()).unwrap();
        }
        let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
        file.set_len(0).unwrap();
        std::io::Write::write_all(&mut writer, mark(addr).as_bytes()).unwrap();
        wait_until("the line behind the zeros", || net.in_set("ban4", addr.parse().unwrap()));
    }
}

/// A line that bans at once.
fn mark(addr: &str) -> String {
    // Of now: what is read of a file that seems to be another one is judged by its stamps.
    format!("{} host mark[1]: mark {addr}\n", Stamp(Wall(seconds())))
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn clear_bans_on_stop_does_that() {
    let mut net = host("clear_bans_on_stop=true", "maxretry=1\nports=22");
    let daemon = net.daemon("daemon");
    net.append(LOG, failed("203.0.113.1"));
    net.mark(LOG);
    net.mef(&["ban", "198.51.100.0/24", "--permanent"]).ok();
    assert_eq!(net.bans().len(), 2);
    net.stop(daemon);
    // What is permanent is no matter of the daemon, like deny lists.

    assert_eq!(net.banned(), ["198.51.100.0/24"]);
    assert!(net.said("daemon").contains("all bans but the permanent ones were removed"));
    reboot(&net);
    let daemon = net.daemon("again");
    assert_eq!(net.banned(), ["198.51.100.0/24"], "the journal has forgotten the others, too");
    net.stop(daemon);
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn after_a_reboot_every_ban_is_back_with_the_time_it_has_left() {
    let mut net = host("", "maxretry=2\nbantime=20m");
    net.rule_for("mail", "mail.log", "maxretry=1\nbantime=2h\nports=25,465,587\nproto=tcp");
    net.rule_for("forever", "forever.log", "maxretry=1\nbantime=permanent");
    let daemon = net.daemon("daemon");
    net.append(LOG, fails("203.0.113.1", 2) + &fails("2001:db8:1::1", 2));
    net.append("mail.log", failed("203.0.113.2") + &failed("2001:db8:2::1"));
    net.append("forever.log", failed("203.0.113.3"));
    net.mark(LOG);
    wait_until("the bans", || net.bans().len() == 5);
    net.mef(&["ban", "198.51.100.0/24", "2001:db8:3::/48", "--for", "3h"]).ok();
    net.mef(&["ban", "198.51.101.3-198.51.101.9", "2001:db8:4::1/128", "--permanent", "--reason", "scans"])
        .ok();
    net.mef(&["ban", "203.0.113.0/28", "--ports", "80-90", "--for", "10m"]).ok();
    net.mef(&["ban", "203.0.113.77", "203.0.113.78"]).ok();
    net.mef(&["unban", "203.0.113.78"]).ok();
    net.mef(&["ban", "203.0.113.79", "--for", "1s"]).ok();
    let short: IpAddr = "203.0.113.79".parse().unwrap();
    wait_until("the end of the short one", || !net.in_set("ban4", short));
    net.stop(daemon);
    let (before, rows) = (ends(&net), net.bans());
    reboot(&net);
    let daemon = net.daemon("again");
    let (after, again) = (ends(&net), net.bans());
    let split = |all: &Ends| {
        // A range may be back as the networks that it is made of.
        let is_piece = |offender: &str| offender.starts_with("198.51.101.");
        let (pieces, rest): (Vec<_>, Vec<_>) =
            all.clone().into_iter().partition(|((offender, _), _)| is_piece(offender));
        assert!(!pieces.is_empty() && pieces.iter().all(|(_, end)| *end == 0), "{pieces:?}");
        rest.into_iter().collect::<Ends>()
    };
    same_ends(&split(&before), &split(&after));
    for (addr, banned) in [(2, false), (3, true), (4, true), (7, true), (8, true), (9, true), (10, false)] {
        let offender = IpAddr::from([198, 51, 101, addr]);
        assert_eq!(net.in_set("bannet4", offender) || net.in_set("ban4", offender), banned, "{offender}");
    }
    for row in rows.iter().filter(|row| !text(row, "address").starts_with("198.51.101.")) {
        let same = |key: &str| again.iter().any(|a| a["address"] == row["address"] && a[key] == row[key]);
        assert!(same("rule") && same("hits") && same("reason"), "{row:?}\n{again:#?}");
    }
    assert!(net.said("again").contains("bans restored from the journal"));
    // Packets meet them.
    assert!(net.in_set("ban4", "203.0.113.1".parse().unwrap()));
    net.stop(daemon);
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn sigkill_loses_nothing_when_state_is_written_at_once() {
    let mut net = host("", "maxretry=2");
    let daemon = net.daemon("daemon");
    net.append(LOG, fails("203.0.113.1", 2) + &fails("2001:db8:1::1", 2));
    net.mark(LOG);
    net.counts(daemon, "daemon");
    net.signal(daemon, libc::SIGKILL);
    assert_eq!(net.wait(daemon), -1);
    let before = ends(&net);
    assert_eq!(before.len(), 2, "the kernel goes on");
    // The daemon finds them in force, and then puts them back.
    let daemon = net.daemon("second");
    same_ends(&before, &ends(&net));
    net.signal(daemon, libc::SIGKILL);
    net.wait(daemon);
    reboot(&net);
    net.daemon("third");
    same_ends(&before, &ends(&net));
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn a_crash_before_the_first_write_loses_no_line() {
    let mut net = host("state_sync=5m", "maxretry=1");
    net.rule_for("late", "late.log", "maxretry=1");
    // Stamps of old lines would decide.
    let fails = |addr: &str, _| failed(addr).replace("Nov 22 08:00:01", &Stamp(Wall(seconds())).to_string());
    net.append(LOG, fails("203.0.113.9", 1));
    let kill = |net: &mut Net, daemon| {
        net.signal(daemon, libc::SIGKILL);
        net.wait(daemon);
    };
    let daemon = net.daemon("first");
    kill(&mut net, daemon);
    // One file was there and had something in it, the other one was not.
    net.append(LOG, fails("203.0.113.1", 1));
    net.append("late.log", fails("203.0.113.2", 1));
    let daemon = net.daemon("second");
    wait_until("the bans", || net.banned() == ["203.0.113.1", "203.0.113.2"]);
    // One that comes while the daemon runs is kept in mind at once, too.
    fs::rename(net.path(LOG), net.path("app.log.1")).unwrap();
    net.append(LOG, fails("203.0.113.3", 1));
    wait_until("the third ban", || net.banned().len() == 3);
    kill(&mut net, daemon);
    net.append(LOG, fails("203.0.113.4", 1));
    net.daemon("third");
    wait_until("the fourth ban", || net.banned().len() == 4);
    assert!(net.banned().iter().all(|addr| addr != "203.0.113.9"), "what was there before");
}

/// What is done to a log while the daemon is stalled: `a` was written before it, `b` comes behind it.
type Rotation = fn(&Net, a: &str, b: &str);

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn a_stall_over_rotations_loses_no_line() {
    let truncate =
        |net: &Net| fs::File::options().write(true).open(net.path(LOG)).unwrap().set_len(0).unwrap();
    let mut net = host("", "maxretry=1");
    let daemon = net.daemon("daemon");
    net.mark(LOG);
    let over: Rotation = |net, a, b| {
        net.append(LOG, a);
        fs::copy(net.path(LOG), net.path("app.log.1")).unwrap();
        fs::File::options().write(true).open(net.path(LOG)).unwrap().set_len(0).unwrap();
        net.append(LOG, b);
    };
    let rename: Rotation = |net, a, b| {
        net.append(LOG, a);
        let _ = fs::rename(net.path("app.log.1"), net.path("app.log.2"));
        fs::rename(net.path(LOG), net.path("app.log.1")).unwrap();
        net.append(LOG, b);
    };
    let deleted: Rotation = |net, a, b| {
        net.append(LOG, a);
        fs::remove_file(net.path(LOG)).unwrap();
        net.append(LOG, b);
    };
    let twice: Rotation = |net, a, b| {
        for text in [a, b] {
            net.append(LOG, text);
            let _ = fs::rename(net.path("app.log.1"), net.path("app.log.2"));
            fs::copy(net.path(LOG), net.path("app.log.1")).unwrap();
            fs::File::options().write(true).open(net.path(LOG)).unwrap().set_len(0).unwrap();
        }
    };
    let rotations = [over, rename, over, over, twice, deleted, over, rename, rename, twice, twice, over];
    let mut count = 0;
    for (round, rotate) in rotations.into_iter().enumerate() {
        if round % 3 == 1 {
            // Of what comes now nothing was read when the daemon stalls.
            truncate(&net);
        }
        std::thread::sleep(std::time::Duration::from_millis(100));
        net.signal(daemon, libc::SIGSTOP);
        let lines =
            |from: usize| (from..from + 10).map(|n| failed(&format!("198.51.100.{n}"))).collect::<String>();
        rotate(&net, &lines(count + 1), &lines(count + 11).repeat(1 + round % 3));
        net.signal(daemon, libc::SIGCONT);
        count += 20;
        wait_until("all bans", || net.banned().len() >= count);
    }
    net.stop(daemon);
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn lines_that_are_in_a_compressed_copy_only_are_named() {
    let mut net = host("", "maxretry=1");
    let daemon = net.daemon("daemon");
    for (packed, addr) in [(false, "203.0.113.2"), (true, "203.0.113.3")] {
        net.append(LOG, fails("203.0.113.1", 3));
        net.mark(LOG);
        net.signal(daemon, libc::SIGSTOP);
        net.append(LOG, failed(addr));
        fs::copy(net.path(LOG), net.path("app.log.1")).unwrap();
        fs::File::options().write(true).open(net.path(LOG)).unwrap().set_len(0).unwrap();
        if packed {
            // Its content does not matter: nobody reads it.
            fs::rename(net.path("app.log.1"), net.path("app.log.1.gz")).unwrap();
        }
        net.append(LOG, failed("203.0.113.4"));
        net.signal(daemon, libc::SIGCONT);
        net.mark(LOG);
        let banned = net.banned().iter().any(|known| known == addr);
        assert_eq!(
            (banned, net.said("daemon").contains("app.log.1.gz only, which is not read")),
            (!packed, packed)
        );
    }
    net.stop(daemon);
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn commands_and_the_daemon_share_bans_and_journal() {
    let mut net = host("", "maxretry=2");
    let daemon = net.daemon("daemon");
    for i in 0..10 {
        net.append(LOG, fails(&format!("203.0.113.{i}"), 2));
        net.mef(&["ban", &format!("198.51.100.{i}")]).ok();
    }
    net.mark(LOG);
    assert_eq!(net.bans().len(), 20);
    net.mef(&["unban", "203.0.113.5", "198.51.100.5"]).ok();
    assert_eq!(net.bans().len(), 18);
    // Whoever was taken back begins anew.
    net.append(LOG, failed("203.0.113.5"));
    net.mark(LOG);
    assert_eq!(net.bans().len(), 18, "one hit after unban");
    net.append(LOG, failed("203.0.113.5"));
    net.mark(LOG);
    assert_eq!(net.bans().len(), 19);
    net.mef(&["unban", "203.0.113.6"]).ok();
    net.stop(daemon);
    let before = ends(&net);
    reboot(&net);
    net.daemon("again");
    same_ends(&before, &ends(&net));
}
