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
        (
            "203.0.113.0/24",
            1,
            "203.0.113.0/24 is dropped in part (203.0.113.0/25): on the deny list feed.conf",
            "feed.conf:2",
        ),
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
        ("203.0.113.0/24", "203.0.113.0/24 is dropped in part (203.0.113.0/28): banned by hand for "),
        ("192.0.2.0/24", "192.0.2.0/24 is dropped in part (192.0.2.1 on ports 22,25): banned by hand "),
        ("2001:db8:1::1", "2001:db8:1::/64 is dropped: "),
        ("2001:db8:1::9/128", "2001:db8:1::9 is dropped: "),
        ("2001:db8:2::7/128", "2001:db8:2::7 is dropped: "),
        ("2001:db8:2::7", "2001:db8:2::/64 is dropped in part (2001:db8:2::7): "),
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
    // However many others are counted, the one who is asked about is found, and of a network all.
    let others: String = (1..=40).map(|n| fails(&format!("198.51.100.{n}"), 1)).collect();
    net.append(LOG, others);
    net.mark(LOG);
    let counted = findings(&net, "203.0.113.1", "counted");
    assert_eq!(counted.iter().map(|row| text(row, "counted")).collect::<Vec<_>>(), ["203.0.113.1"]);
    let said = net.mef(&["why", "198.51.100.0/25"]).stdout;
    assert!(said.contains("  counted    198.51.100.") && said.contains("35 offenders more"), "{said}");
    assert_eq!(number(&rows(&net.mef(&["why", "--json", "198.51.100.0/25"]).stdout)[0], "more"), Some(35));
    assert!(findings(&net, "198.51.100.41", "counted").is_empty());
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

/// A range is told by what holds for all of it; what holds for a part is said of that part.
#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn what_holds_for_a_part_of_a_range_is_not_said_of_all() {
    let net = Net::new();
    net.ip("addr add 10.9.0.2/32 dev lo");
    net.ip("addr add 10.8.0.1/32 dev lo");
    net.configure("", &[]);
    net.write("blacklist/lan.conf", "10.9.0.0/24 force\n10.8.0.0/24\n");
    let many: String = (0..32).map(|n| format!("198.18.0.{n}\n")).collect();
    net.write("blacklist/many.conf", &many);
    net.write("whitelist/office.conf", "203.0.113.7\n2001:db8:88::1\n");
    let config = net.path("mef.conf").display().to_string();
    net.mef(&["reload", "--config", &config]);
    net.mef(&["ban", "198.51.100.0/27", "203.0.113.99", "--config", &config]).ok();
    let singles: Vec<String> = (0..32).map(|n| format!("192.0.2.{n}")).collect();
    let singles: Vec<&str> = singles.iter().map(String::as_str).collect();
    net.mef(&[&["ban", "--config", &config], singles.as_slice()].concat()).ok();
    net.mef(&["ban", "198.18.0.5", "--config", &config]).ok();
    let why = |addr: &str| {
        let output = net.mef(&["why", "--config", &config, addr]);
        (output.status, output.stdout)
    };
    let cases = [
        ("10.8.0.1-10.8.0.9", 1, "is dropped in part (10.8.0.2-10.8.0.9): on the deny list lan.conf"),
        ("10.8.0.9", 1, "10.8.0.9 is dropped: on the deny list lan.conf"),
        ("10.8.0.1", 0, "10.8.0.1 passes: exempt, this host's own address"),
        ("10.8.0.0/24", 1, "10.8.0.0/24 is dropped in part (all but 10.8.0.1): on the deny list"),
        ("10.9.0.0/24", 1, "10.9.0.0/24 is dropped: on the deny list lan.conf"),
        ("10.9.0.1-10.9.0.9", 1, "10.9.0.1-10.9.0.9 is dropped: on the deny list lan.conf"),
        ("192.0.2.0/27", 1, "192.0.2.0/27 is dropped: 32 bans"),
        ("192.0.2.0/26", 1, "192.0.2.0/26 is dropped in part (192.0.2.0/27): 32 bans"),
        ("198.18.0.0/27", 1, "198.18.0.0/27 is dropped: 1 ban and 32 entries of deny lists"),
        ("198.18.0.5", 1, "198.18.0.5 is dropped: on the deny list many.conf"),
        (
            "203.0.113.0/26",
            0,
            "203.0.113.0/26 passes: neither banned nor denied; on the allow list: 203.0.113.7",
        ),
        ("203.0.113.7", 0, "203.0.113.7 passes: on the allow list office.conf"),
        (
            "2001:db8:88::1",
            0,
            "2001:db8:88::/64 passes: neither banned nor denied; on the allow list: 2001:db8:88::1",
        ),
        ("127.0.0.1", 0, "127.0.0.1 passes: exempt, "),
        ("126.255.255.0-127.0.0.1", 0, "passes: neither banned nor denied; exempt: 127.0.0.0/31"),
    ];
    for (addr, status, first) in cases {
        let (got, said) = why(addr);
        let said_first = said.lines().next().unwrap();
        let is_first =
            said_first.starts_with(first) || said_first.split_once(' ').unwrap().1.starts_with(first);
        assert!(got == status && is_first, "{addr}: {said}");
    }
    // What is not told one by one is counted, and one screen is enough.
    let (_, said) = why("198.18.0.0/27");
    assert!(said.contains("27 entries more") && said.lines().count() < 24, "{said}");
    assert!(why("192.0.2.0/27").1.lines().count() < 24);
    // From standard input.
    let lines =
        net.mef_input(&["why", "--config", &config, "-"], b"203.0.113.99 # x\nnobody\n\n192.0.2.200\n");
    assert_eq!(lines.status, 1);
    assert!(lines.stderr.contains("standard input, line 2: 'nobody' is not an address"), "{lines:?}");
    assert!(lines.stdout.contains("203.0.113.99 is dropped") && lines.stdout.contains("192.0.2.200 passes"));
}

/// However many entries a network has: the verdict is that of each address, and little memory is needed.
#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn a_network_with_many_entries_is_told_exactly() {
    let net = Net::new();
    net.configure("", &[]);
    let mut dense: Vec<u32> = (0..1 << 14).collect();
    fastrand::Rng::with_seed(26).shuffle(&mut dense);
    let dense = dense.into_iter().map(|n| format!("198.18.{}.{}\n", n >> 8, n & 255));
    let sparse = (0..9000).map(|n| format!("20.{}.{}.7\n", n >> 8, n & 255));
    net.write("blacklist/many.conf", &dense.chain(sparse).collect::<String>());
    let config = net.path("mef.conf").display().to_string();
    net.mef(&["reload", "--config", &config]);
    let first = |addr: &str| {
        let output = net.mef(&["why", "--config", &config, addr]);
        (output.status, output.stdout.lines().next().unwrap().to_owned())
    };
    let all = "198.18.0.0/18 is dropped: 16384 entries of deny lists";
    assert_eq!(first("198.18.0.0/18"), (1, all.to_owned()));
    let part = "198.18.0.0/17 is dropped in part (198.18.0.0/18): 16384 entries of deny lists";
    assert_eq!(first("198.18.0.0/17"), (1, part.to_owned()));
    let sparse = "20.0.0.0/8 is dropped in part: 9000 entries of deny lists";
    assert_eq!(first("20.0.0.0/8"), (1, sparse.to_owned()));
    // What is on the allow list in the middle of it is all that passes.
    net.mef(&["allow", "198.18.9.9", "--config", &config]).ok();
    let but = "198.18.0.0/18 is dropped in part (all but 198.18.9.9): 16383 entries of deny lists";
    assert_eq!(first("198.18.0.0/18"), (1, but.to_owned()));
    net.mef(&["disallow", "198.18.9.9", "--config", &config]).ok();
    // What a file has and the kernel has not is not in force.
    net.append("blacklist/many.conf", "203.0.113.0/24\n198.18.64.1\n");
    assert_eq!(first("203.0.113.0/24").0, 0);
    assert_eq!(first("198.18.0.0/17"), (1, part.to_owned()));
    net.mef(&["reload", "--config", &config]);
    assert_eq!(first("203.0.113.0/24").0, 1);
}

/// Bans of addresses and of networks are found in a small network without looking through all, and in a large
/// one.
#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn bans_in_networks_of_any_size_are_found() {
    let net = Net::new();
    net.mef(&["ban", "192.0.2.0", "192.0.2.255", "192.0.3.0/25", "192.0.4.1-192.0.4.2", "10.1.2.3"]).ok();
    net.mef(&["ban", "192.0.2.7", "--ports", "22,25"]).ok();
    net.mef(&["ban", "192.0.2.7", "--ports", "80,443"]).ok();
    net.mef(&["ban", "192.0.2.8/30", "--ports", "22"]).ok();
    let banned = |addr: &str| {
        let mut all: Vec<String> =
            findings(&net, addr, "ban").iter().map(|ban| text(ban, "banned")).collect();
        all.sort();
        let verdict = &rows(&net.mef(&["why", "--json", addr]).stdout)[0];
        (all.join(" "), number(verdict, "more").unwrap())
    };
    let cases = [
        ("192.0.2.0/29", "192.0.2.0 192.0.2.7 192.0.2.7", 0),
        ("192.0.2.9", "192.0.2.8/30", 0),
        ("192.0.2.11-192.0.2.12", "192.0.2.8/30", 0),
        ("192.0.2.12-192.0.2.254", "", 0),
        ("192.0.2.255-192.0.3.0", "192.0.2.255 192.0.3.0/25", 0),
        ("192.0.3.128-192.0.4.1", "192.0.4.1-192.0.4.2", 0),
        ("192.0.3.127-192.0.4.126", "192.0.3.0/25 192.0.4.1-192.0.4.2", 0),
        ("192.0.3.127-192.0.4.127", "192.0.3.0/25 192.0.4.1-192.0.4.2", 0),
        ("10.0.0.0/8", "10.1.2.3", 0),
        ("192.0.4.3-192.0.5.0", "", 0),
    ];
    for (addr, want, more) in cases {
        assert_eq!(banned(addr), (want.to_owned(), more), "{addr}");
    }
    assert_eq!(banned("192.0.0.0/16").1, 4);
    let object = &rows(&net.mef(&["why", "--json", "192.0.2.7"]).stdout)[0];
    assert_eq!(text(object, "ports"), "22,25,80,443");
    let (status, first) = verdict(&net, "192.0.2.7");
    assert!(status == 1 && first.starts_with("192.0.2.7 is dropped on ports 22,25,80,443: "), "{first}");
}

/// In the prefix of this host an address of IPv6 is meant alone, whatever is asked about it.
#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn neighbours_in_the_prefix_of_this_host_are_meant_alone() {
    let mut net = Net::new();
    let peer = net.peer();
    net.ip(&format!("addr add 2001:db8:9::2/64 dev {} nodad", peer.link));
    net.configure("", &[]);
    net.write("blacklist/local.conf", "");
    let config = net.path("mef.conf").display().to_string();
    let mef = |words: &str| {
        let mut words: Vec<&str> = words.split(' ').collect();
        words.extend(["--config", config.as_str()]);
        net.mef(&words)
    };
    let (one, two) = ("2001:db8:9::1234", "2001:db8:9::5678");
    mef(&format!("ban {one} {two}")).ok();
    assert!(mef(&format!("why {one}")).stdout.starts_with(&format!("{one} is dropped: banned by hand")));
    assert_eq!(mef(&format!("bans {one}")).stdout.matches("2001:db8").count(), 1);
    assert_eq!(mef(&format!("unban {one}")).ok(), format!("unbanned {one}\n"));
    let first = |addr: &str| mef(&format!("why {addr}")).stdout.lines().next().unwrap().to_owned();
    assert_eq!(first(one), format!("{one} passes: neither banned nor denied"));
    assert!(first(two).contains("is dropped"), "{}", first(two));
    assert_eq!(first("2001:db8:9::2"), "2001:db8:9::2 passes: exempt, this host's own address");
    assert!(first("2001:db8:9::/64").starts_with(&format!("2001:db8:9::/64 is dropped in part ({two}): ")));
    mef(&format!("allow {two}")).ok();
    assert!(first(two).contains("passes: on the allow list local.conf"), "{}", first(two));
    assert!(first(one).contains("neither"), "{}", first(one));
    mef(&format!("disallow {two}")).ok();
    mef(&format!("history {one}")).ok();
    // Elsewhere it stands for its prefix.
    mef("ban 2001:db8:7::1").ok();
    assert!(first("2001:db8:7::1").starts_with("2001:db8:7::/64 is dropped"));
}
