//! `mef why`: one answer about an address, from the kernel, the lists and the journal.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use crate::common;

use common::bans::{Row, number, rows, text};
use common::daemon::{LOG, failed, fails, host};
use common::{Net, wait_until};

/// Exit status and first line.
#[track_caller]
fn verdict(net: &Net, addr: &str) -> (i32, String) {
    let people = net.mef(&["why", addr]);
    let json = net.mef(&["why", "--json", addr]);
    assert_eq!(people.status, json.status, "{people:?} {json:?}");
    assert_eq!((people.stderr.as_str(), json.stderr.as_str()), ("", ""));
    let first = people.stdout.lines().next().unwrap().to_owned();
    let why = text(&rows(&json.stdout)[0], "why");
    // A second may have passed between the two.
    let [said, object] = [&first, &why].map(|text| without_time(text));
    assert!(said.ends_with(&format!(": {object}")), "{first} {why}");
    (people.status, first)
}

/// The text without how long something lasts: up to two numbers with their units.
fn without_time(text: &str) -> String {
    let Some((before, behind)) = text.split_once(" for another ") else { return text.to_owned() };
    let is_time =
        |word: &&str| word.starts_with(|c: char| c.is_ascii_digit()) && word.ends_with(char::is_alphabetic);
    let mut words = behind.split(' ').peekable();
    let mut count = 0;
    while words.next_if(is_time).is_some() {
        count += 1;
    }
    assert!((1..=2).contains(&count), "{text}");
    [before, "for another TIME"].into_iter().chain(words).collect::<Vec<_>>().join(" ")
}

#[test]
fn only_the_time_is_left_out() {
    assert_eq!(without_time("banned for another 9m 59s by rule x"), "banned for another TIME by rule x");
    assert_eq!(without_time("held back for another 5s"), "held back for another TIME");
    assert_eq!(without_time("permanently"), "permanently");
}

fn findings(net: &Net, addr: &str, kind: &str) -> Vec<Row> {
    let all = rows(&net.mef(&["why", "--json", addr]).stdout);
    all.into_iter().filter(|row| text(row, "finding") == kind).collect()
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn a_fresh_host_lets_everybody_pass_and_asking_changes_nothing() {
    let net = Net::new();
    let want = (0, "192.0.2.7 passes: neither banned nor denied".to_owned());
    assert_eq!(verdict(&net, "192.0.2.7"), want);
    assert_eq!(net.nft_list("tables"), "");
    assert!(!net.path("lib/mef/bans").exists());
    assert_eq!(verdict(&net, "127.0.0.1").0, 0);
    assert!(verdict(&net, "127.0.0.1").1.contains("exempt"));
    for wrong in [vec![], vec!["nobody"], vec!["192.0.2.7", "192.0.2.0/33"]] {
        let args: Vec<&str> = std::iter::once("why").chain(wrong).collect();
        let output = net.mef(&args);
        assert_eq!((output.status, output.stdout.as_str()), (2, ""), "{args:?}");
    }
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn each_thing_that_decides_is_named_with_its_place_and_its_end() {
    let net = Net::new();
    net.configure("", &[]);
    net.write("blacklist/feed.conf", "# feed\n203.0.113.0/25\n198.51.100.9\n");
    net.write("whitelist/office.conf", "\n198.51.100.8 # office\n");
    let config = net.path("mef.conf").display().to_string();
    net.mef(&["reload", "--config", &config]).ok();
    net.mef(&["ban", "192.0.2.7", "--config", &config]).ok();
    let why = |addr: &str| {
        let output = net.mef(&["why", "--config", &config, addr]);
        (output.status, output.stdout)
    };
    let file = net.path("blacklist/feed.conf").display().to_string();
    let cases = [
        ("192.0.2.7", 1, "192.0.2.7 is dropped: banned by hand for another ", "by `mef unban 192.0.2.7`"),
        ("203.0.113.9", 1, "is dropped: on the deny list feed.conf", &format!("{file}:2: 203.0.113.0/25")),
        ("198.51.100.9", 1, "is dropped: on the deny list feed.conf", &format!("{file}:3: 198.51.100.9")),
        ("203.0.113.200", 0, "203.0.113.200 passes: neither", ""),
        ("203.0.113.0/24", 1, "203.0.113.0/24 is dropped in part: on the deny list", "feed.conf:2"),
        ("203.0.113.0/26", 1, "203.0.113.0/26 is dropped: on the deny list", "feed.conf:2"),
        ("198.51.100.8", 0, "passes: on the allow list office.conf", "office.conf:2: 198.51.100.8"),
        ("198.51.100.8-198.51.100.9", 1, "is dropped in part", "feed.conf:3"),
    ];
    for (addr, status, first, more) in cases {
        let (got, said) = why(addr);
        assert_eq!(got, status, "{said}");
        assert!(said.lines().next().unwrap().contains(first) && said.contains(more), "{addr}: {said}");
    }
    // What would end it ends it.
    net.mef(&["deny", "198.51.100.50", "--config", &config]).ok();
    let (_, said) = why("198.51.100.50");
    assert!(said.contains("by `mef undeny 198.51.100.50`"), "{said}");
    net.mef(&["undeny", "198.51.100.50", "--config", &config]).ok();
    assert_eq!(why("198.51.100.50").0, 0);
    // The allow list wins over a ban, and both are told.
    net.mef(&["ban", "--force", "198.51.100.8", "--config", &config]);
    let (status, said) = why("198.51.100.8");
    assert!(status == 0 && said.contains("allowed") && said.contains("  banned "), "{said}");
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn bans_of_ports_of_networks_and_of_ipv6_are_found() {
    let net = Net::new();
    net.mef(&["ban", "192.0.2.1", "--ports", "22,25", "--permanent"]).ok();
    net.mef(&["ban", "203.0.113.0/28", "2001:db8:1::1", "2001:db8:2::7/128", "2001:db8:3::/48"]).ok();
    let cases = [
        ("192.0.2.1", "192.0.2.1 is dropped on ports 22,25: banned by hand permanently"),
        ("203.0.113.15", "203.0.113.15 is dropped: banned by hand for another "),
        ("203.0.113.0/24", "203.0.113.0/24 is dropped in part"),
        ("2001:db8:1::1", "2001:db8:1::/64 is dropped: "),
        ("2001:db8:1::9/128", "2001:db8:1::9 is dropped: "),
        ("2001:db8:2::7/128", "2001:db8:2::7 is dropped: "),
        ("2001:db8:2::7", "2001:db8:2::/64 is dropped in part: "),
        ("2001:db8:3:4::1/128", "2001:db8:3:4::1 is dropped: "),
        ("2001:db8::/32", "2001:db8::/32 is dropped in part: 3 bans"),
    ];
    for (addr, want) in cases {
        let (status, said) = verdict(&net, addr);
        assert!(status == 1 && said.starts_with(want), "{addr}: {said}");
    }
    for addr in ["203.0.113.16", "2001:db8:2::8/128", "2001:db8:4::/64", "192.0.2.2"] {
        assert_eq!(verdict(&net, addr).0, 0, "{addr}");
    }
    let since = number(&findings(&net, "192.0.2.1", "ban")[0], "since");
    assert!(since.is_some(), "a ban without an end has a beginning");
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn the_line_the_counts_and_the_past_are_told() {
    let mut net = host("", "maxretry=3\nbantime=1h");
    net.append(LOG, "");
    let daemon = net.daemon("daemon");
    net.append(LOG, fails("203.0.113.1", 2));
    net.mark(LOG);
    let counted = findings(&net, "203.0.113.1", "counted");
    assert_eq!((number(&counted[0], "hits"), number(&counted[0], "of")), (Some(2), Some(3)), "{counted:?}");
    assert_eq!(verdict(&net, "203.0.113.1").0, 0);
    net.append(LOG, fails("203.0.113.1", 1));
    // Two questions may have the ban between them: one is enough.
    wait_until("the ban", || net.mef(&["why", "203.0.113.1"]).status == 1);
    net.mark(LOG);
    let check = |net: &Net| {
        let ban = findings(net, "203.0.113.1", "ban").pop().unwrap();
        assert_eq!(text(&ban, "log_line"), failed("203.0.113.1").trim_end());
        assert_eq!((text(&ban, "rule").as_str(), number(&ban, "hits")), ("app", Some(3)));
        assert!(findings(net, "203.0.113.1", "past").is_empty());
    };
    check(&net);
    let config = net.path("mef.conf").display().to_string();
    let said = net.mef(&["why", "--config", &config, "203.0.113.1"]).stdout;
    assert!(said.contains("rules.d/app.conf)"), "{said}");
    // Without a daemon it is the same.
    net.stop(daemon);
    check(&net);
    net.mef(&["unban", "203.0.113.1"]).ok();
    let past = findings(&net, "203.0.113.1", "past");
    let events: Vec<String> = past.iter().map(|row| text(row, "event")).collect();
    assert_eq!(events, ["unban", "ban"]);
    net.mef(&["ban", "203.0.113.1"]).ok();
    let said = net.mef(&["why", "203.0.113.1"]).stdout;
    assert!(said.contains("banned by rule app (1h): Nov 22"), "{said}");
}
