//! The words of mefctl for bans.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs, reason = "tests")]

use super::{host, mefctl, mefdaemon};
use crate::common;
use common::{Net, wait_until};

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn bans_are_added_with_every_option() {
    let net = host("");
    mefctl(&net, "bans add 192.0.2.1").ok();
    mefctl(&net, "bans add 192.0.2.2 --timeout 2h").ok();
    mefctl(&net, "bans add --ports 22,25 192.0.2.3").ok();
    mefctl(&net, "bans add --permanent 203.0.113.0/24").ok();
    mefctl(&net, "bans add --permanent --ports=80 192.0.2.4").ok();
    let list = mefctl(&net, "bans list").ok();
    for want in ["  192.0.2.1       left=", "  192.0.2.2       left=", " ports=22,25 rule=manual"] {
        assert!(list.contains(want), "{want}\n{list}");
    }
    // What is permanent survives a reboot in the directory of lists.
    assert!(net.read("etc-mef/blacklist/local.conf").contains("203.0.113.0/24"));
    let permanent = mefctl(&net, "bans list --permanent").ok();
    assert!(permanent.contains("203.0.113.0/24  list=local.conf"), "{permanent}");
    assert!(permanent.contains("192.0.2.4       permanent ports=80 rule=manual"), "{permanent}");
    assert!(!permanent.contains("192.0.2.1 "), "{permanent}");
    let objects = mefctl(&net, "bans list --format json").ok();
    let object = r#"{"address":"203.0.113.0/24","group":"Permanent","list":"local.conf"}"#;
    assert!(objects.lines().any(|line| line == object) && objects.lines().count() == 5, "{objects}");
    // Nobody on the allow list is banned for good.
    net.mef(&["allow", "198.51.100.7"]).ok();
    let out = mefctl(&net, "bans add --permanent 198.51.100.7");
    assert!(out.status == 1 && out.stderr.contains("allow list"), "{out:?}");
    mefctl(&net, "bans add --permanent --force 198.51.100.7").ok();
    assert!(mefctl(&net, "bans list --permanent --ips-only").ok().contains("198.51.100.7"));
    for wrong in
        ["bans add", "bans add 192.0.2.1 --permanent --timeout 1h", "bans add 192.0.2.1 --timeout never"]
    {
        assert_eq!(mefctl(&net, wrong).status, 2, "{wrong}");
    }
    assert_eq!(mefctl(&net, "bans add nobody").status, 1);
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn a_deletion_ends_what_it_names_and_nothing_else() {
    let net = host("");
    let list = |words: &str| mefctl(&net, &format!("bans list --ips-only {words}")).ok();
    net.write("etc-mef/blacklist/auto-permanent.conf", "# by hand\n192.0.2.9 # once\n192.0.2.10\n");
    mefctl(&net, "bans add 192.0.2.1").ok();
    mefctl(&net, "bans add 192.0.2.2").ok();
    mefctl(&net, "bans add --permanent --ports 80 192.0.2.2").ok();
    mefctl(&net, "bans add --permanent 192.0.2.3").ok();
    mefctl(&net, "bans delete 192.0.2.1").ok();
    assert_eq!(mefctl(&net, "bans delete 192.0.2.1").status, 1, "it has none any more");
    // Of two bans of an address the one that was named.
    mefctl(&net, "bans delete 192.0.2.2").ok();
    let left = mefctl(&net, "bans list --verbose").ok();
    assert!(
        left.contains("192.0.2.2") && left.contains("ports=80 ") && !left.contains("ports=all rule"),
        "{left}"
    );
    let out = mefctl(&net, "bans delete 192.0.2.2");
    assert!(out.status == 1 && out.stderr.contains("use --permanent"), "{out:?}");
    mefctl(&net, "bans add 192.0.2.2").ok();
    assert_eq!(mefctl(&net, "bans delete 192.0.2.2 --permanent --ports 443").status, 1);
    mefctl(&net, "bans delete 192.0.2.2 --permanent --ports 80").ok();
    assert_eq!(list(""), "192.0.2.2\n192.0.2.3\n192.0.2.9\n192.0.2.10\n");
    assert!(!mefctl(&net, "bans list --verbose").ok().contains("ports=80"));
    // Files of others lose the line, and only that.
    mefctl(&net, "bans delete --permanent 192.0.2.9").ok();
    assert_eq!(net.read("etc-mef/blacklist/auto-permanent.conf"), "# by hand\n192.0.2.10\n");
    mefctl(&net, "bans delete --all 192.0.2.2").ok();
    mefctl(&net, "bans delete --all 192.0.2.3").ok();
    assert_eq!(list(""), "192.0.2.10\n");
    assert!(net.nft_list("table inet mef_guard").contains("192.0.2.10"), "it is still in force");
    for wrong in
        ["bans delete", "bans delete 192.0.2.1 --all --permanent", "bans delete 192.0.2.1 --ddos --ports 22"]
    {
        assert_eq!(mefctl(&net, wrong).status, 2, "{wrong}");
    }
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn a_hole_in_a_banned_network_leaves_the_rest() {
    let net = host("");
    mefctl(&net, "bans add 198.51.100.0/24 --timeout 1h").ok();
    mefctl(&net, "bans add 198.51.100.0/24 --permanent --ports 22").ok();
    mefctl(&net, "bans delete 198.51.100.7").ok();
    let list = mefctl(&net, "bans list --verbose").ok();
    let all: Vec<&str> = list.lines().filter(|line| line.contains("ports=all")).collect();
    assert!(!all.is_empty() && all.iter().all(|line| !line.contains("198.51.100.0/24")), "{list}");
    let of_22 =
        list.lines().filter(|line| line.contains("ports=22 ") && line.contains("left=never ends")).count();
    assert!(of_22 >= 1, "{list}");
    let sets = net.nft_list("table inet mef_guard");
    assert!(sets.contains("198.51.100.7") || list.contains("198.51.100.0/24"), "{sets}");
}

/// A daemon with a flood guard that runs as the unit starts it, and two sources in its throttle.
fn throttled() -> (Net, usize) {
    let mut net = host("ddos_enabled=true");
    let started = mefdaemon(&mut net);
    wait_until("the throttle", || net.nft_list("set inet mef_guard throttle6").contains("throttle6"));
    net.nft("add element inet mef_guard throttle4 { 203.0.113.1 timeout 1h, 203.0.113.2 timeout 1h }");
    (net, started)
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn sources_in_the_throttle_are_a_group_of_their_own() {
    let (net, _) = throttled();
    mefctl(&net, "bans add 192.0.2.1").ok();
    let ddos = || mefctl(&net, "bans list --ddos --ips-only").ok();
    assert_eq!(ddos(), "203.0.113.1\n203.0.113.2\n");
    let all = mefctl(&net, "bans list --all").ok();
    let heads: Vec<&str> = all.lines().filter(|line| !line.starts_with(' ')).collect();
    assert_eq!(heads, ["Runtime (1)", "DDoS Throttle (2)", "Permanent (0)", "Per-Rule (0)"]);
    assert_eq!(mefctl(&net, "bans list").ok().lines().count(), all.lines().count());
    assert_eq!(mefctl(&net, "bans delete --ddos 192.0.2.1").status, 1, "a ban is none");
    mefctl(&net, "bans delete --ddos 203.0.113.1").ok();
    assert_eq!(ddos(), "203.0.113.2\n");
    mefctl(&net, "bans delete 203.0.113.2").ok();
    assert_eq!(ddos(), "");
    net.nft("add element inet mef_guard throttle4 { 203.0.113.3 timeout 1h, 203.0.113.4 timeout 1h }");
    mefctl(&net, "bans clear --ddos").ok();
    assert_eq!((ddos(), mefctl(&net, "bans list --ips-only").ok()), (String::new(), "192.0.2.1\n".into()));
    mefctl(&net, "bans add --permanent --ports 22 192.0.2.5").ok();
    net.nft("add element inet mef_guard throttle4 { 203.0.113.3 timeout 1h }");
    mefctl(&net, "bans clear").ok();
    assert_eq!(mefctl(&net, "bans list --ips-only").ok(), "192.0.2.5\n203.0.113.3\n", "no ban, no end");
    mefctl(&net, "bans add 192.0.2.1").ok();
    mefctl(&net, "bans clear --all").ok();
    assert_eq!(mefctl(&net, "bans list --ips-only").ok(), "192.0.2.5\n", "the permanent ones stay");
    for wrong in [
        "bans list --ddos --permanent",
        "bans list --ips-only --verbose",
        "bans clear --ddos --all",
        "bans list x",
    ] {
        assert_eq!(mefctl(&net, wrong).status, 2, "{wrong}");
    }
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn bans_of_service_rules_are_a_group_of_their_own() {
    let mut net = host("");
    let log = net.write("auth.log", "");
    net.write(
        "etc-mef/mef.conf",
        &format!(
            "[global]\nlog=stderr\nps_enabled=false\nsyslog_trusted=true\nrules_dir={}\n",
            net.path("rules.d").display()
        ),
    );
    net.write(
        "rules.d/mine.conf",
        &format!("[rule]\nprograms=mine\nfiles={}\nfailregex=^bad <HOST>$\nmaxretry=1\n", log.display()),
    );
    mefdaemon(&mut net);
    net.append("auth.log", "Nov 22 08:00:01 host mine[1]: bad 203.0.113.5\n");
    wait_until("the ban", || mefctl(&net, "bans list --ips-only").ok() == "203.0.113.5\n");
    let list = mefctl(&net, "bans list").ok();
    let (_, rules) = list.split_once("Per-Rule (1)\n").unwrap();
    assert!(rules.starts_with("  203.0.113.5  left=") && rules.contains(" rule=mine"), "{list}");
    // The ban is in the journal a moment after it is in the kernel.
    let is_it = |line: &str| line.trim_start().starts_with("1 ") && line.ends_with(" 203.0.113.5");
    wait_until("its count", || mefctl(&net, "lists recidive").ok().lines().any(is_it));
    mefctl(&net, "bans clear").ok();
    assert_eq!(mefctl(&net, "bans list --ips-only").ok(), "");
}
