//! The daemon reports, the operator aggregates: whole circles on real servers, and what the daemon does when
//! the server does not.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use super::servers::{Cloud, KINDS, Kind, ZONE, hour};
use crate::common::bans::text;
use crate::common::daemon::{LOG, failed, seconds};
use crate::common::frames::{SYN, Way};
use crate::common::schema::assert_fits;
use crate::common::{Net, wait_or_show, wait_until};
use mef::base::clock::Wall;
use mef::cloud::reports::Reports;
use mef::sys::dir::Dir;

/// The settings of a member.
fn settings(net: &Net, cloud: &Cloud, member: &str) -> String {
    let key = net.path(&format!("{member}.key"));
    format!(
        "community_report=true\ncommunity_report_interval=1s\ncommunity_member={member}\n\
         community_key_file={}\ncommunity_zone={ZONE}\ncommunity_server={}\nstate_dir={}",
        key.display(),
        cloud.addr,
        net.path(&format!("state-{member}")).display()
    )
}

/// A host that is a member, its daemon's configuration written.
pub fn member(kind: Kind, lines: &str) -> (Net, Cloud) {
    let net = Net::new();
    let mut cloud = Cloud::new(&net, kind);
    cloud.add(&net, "web1", "acme");
    configure(&net, &cloud, "web1", lines);
    (net, cloud)
}

fn configure(net: &Net, cloud: &Cloud, member: &str, lines: &str) {
    net.append(LOG, "");
    net.configure(&format!("{}\n{lines}", settings(net, cloud, member)), &[LOG]);
    net.rule_for("app", LOG, "maxretry=1");
}

/// A report as it stands in a zone.
fn report(name: &str, member: &str, service: &str) -> String {
    format!("{name}.{member}.r.{ZONE} 16 s={service} t=")
}

/// Whether a zone has exactly these reports.
fn has(zone: &[String], want: &[String]) -> bool {
    zone.len() == want.len() && want.iter().all(|start| zone.iter().any(|line| line.starts_with(start)))
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn three_are_attacked_and_the_list_has_the_attacker() {
    for kind in KINDS {
        let mut net = Net::new();
        let mut cloud = Cloud::new(&net, kind);
        let members = [("web1", "acme"), ("web2", "beta"), ("web3", "gamma")];
        for (name, group) in members {
            cloud.add(&net, name, group);
        }
        cloud.start(&mut net, 0);
        for (name, _) in members {
            // One after the other on the same host: they share nothing but the log.
            configure(&net, &cloud, name, "");
            let daemon = net.daemon(name);
            for addr in ["11.2.3.4", "2a00:1:2:3::4", "11.22.33.44"] {
                net.append(LOG, failed(addr));
            }
            if name != "web3" {
                net.append(LOG, failed("11.9.9.9"));
            }
            net.mark(LOG);
            let reports = |zone: &[String]| zone.len() == if name == "web3" { 3 } else { 4 };
            cloud.wait_zone(&net, &format!("{name}.r"), "the reports", reports);
            net.stop(daemon);
            net.mef(&["unban", "--all", "--config", net.path("mef.conf").to_str().unwrap()]);
        }
        let zone = cloud.zone(&net, "web1.r");
        assert!(zone.contains(&format!("{}{}", report("4.3.2.11", "web1", "app"), hour())), "{zone:?}");
        let v6 = "3.0.0.0.2.0.0.0.1.0.0.0.0.0.a.2";
        assert!(zone.iter().any(|line| line.starts_with(&report(v6, "web1", "app"))), "{zone:?}");

        let dry = cloud.mef(&net, &["aggregate", "--dry-run"]).ok();
        for line in ["+ 11.2.3.4  3 members of 3 groups\n", "+ 2a00:1:2:3::/64  3 members of 3 groups\n"] {
            assert!(dry.contains(line), "{kind:?}: {dry}");
        }
        assert!(dry.contains("2 listed: 2 would be added"), "{dry}");
        assert!(
            dry.contains("3 reports of exempt addresses"),
            "11.22.33.44 is allowed by the operator: {dry}"
        );
        assert_eq!(cloud.zone(&net, "bl").len(), 0, "{kind:?}");
        let done = cloud.mef(&net, &["aggregate"]).ok();
        assert!(done.contains("2 listed: 2 added, 0 changed, 0 removed"), "{done}");
        let ask = |net: &Net, name: &str, what: &str| {
            let server = format!("@{}", cloud.addr.ip());
            let port = cloud.addr.port().to_string();
            let name = format!("{name}.bl.{ZONE}");
            net.cmd("kdig", &["+short", &server, "-p", &port, &name, what]).ok()
        };
        assert_eq!(ask(&net, "4.3.2.11", "A"), "127.0.0.2\n", "{kind:?}");
        assert_eq!(ask(&net, "4.3.2.11", "TXT"), "\"reported by 3 members of 3 groups\"\n");
        let whole = format!("4.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.{v6}");
        assert_eq!(ask(&net, &whole, "A"), "127.0.0.2\n", "any address of the network");
        assert_eq!(ask(&net, "2.0.0.127", "A"), "127.0.0.2\n", "the test entry");
        assert_eq!(
            ask(&net, "2.0.0.0.0.0.f.7.f.f.f.f.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0", "A"),
            "127.0.0.2\n"
        );
        for nobody in ["1.0.0.127", "9.9.9.11", "44.33.22.11", "5.3.2.11"] {
            assert_eq!(ask(&net, nobody, "A"), "", "{kind:?} {nobody}");
        }
        let again = cloud.mef(&net, &["aggregate", "--dry-run"]).ok();
        assert!(
            again.contains("2 listed: 0 would be added, 0 would be changed, 0 would be removed"),
            "{again}"
        );

        fourth_host(&mut net, &cloud);

        // One takes its report back: two are not enough.
        let gone = [("4.3.2.11.web3", "")];
        let key = Cloud::key(&net, "web3");
        cloud.delete(&key, "web3", &gone[0].0.replace(".web3", "")).unwrap();
        let dry = cloud.mef(&net, &["aggregate", "--dry-run"]).ok();
        assert!(dry.contains("- 11.2.3.4  reported by 2 members, 3 needed\n"), "{dry}");
        let json = cloud.mef(&net, &["aggregate", "--dry-run", "--json"]).ok();
        assert_fits(&net, "cloud", &json);
        let change = "{\"change\":\"remove\",\"address\":\"11.2.3.4\",\"members\":null,\"groups\":null,\
            \"why\":\"reported by 2 members, 3 needed\"}\n";
        assert!(json.contains(change) && json.contains("{\"dry_run\":true,\"listed\":1,"), "{json}");
        cloud.mef(&net, &["aggregate"]).ok();
        assert_eq!(ask(&net, "4.3.2.11", "A"), "", "{kind:?}");
        assert_eq!(ask(&net, &whole, "A"), "127.0.0.2\n", "{kind:?}");
    }
}

/// A host that has seen nothing of it yet bans whoever is on the list with the first packet, and does not
/// report that.
fn fourth_host(net: &mut Net, cloud: &Cloud) {
    let peer = net.peer();
    net.ip("route add blackhole 11.0.0.0/8");
    let before = cloud.zone(net, "web1.r");
    let lines = "community_cloud_protection=true\ndns_servers=127.0.0.1\nps_enabled=false";
    configure(net, cloud, "web1", lines);
    let daemon = net.daemon("fourth");
    net.wait_said("fourth", "DNSBL community is asked");
    let knock =
        |from: &str| Way::new(net, &peer).burst(from.parse().unwrap(), (peer.host4.into(), 80), SYN, 1);
    knock("11.9.9.9");
    knock("11.2.3.4");
    wait_until("the ban", || net.banned().contains(&"11.2.3.4".to_owned()));
    let reason = text(&net.ban_of("11.2.3.4"), "reason");
    assert_eq!(reason, "listed by community: reported by 3 members of 3 groups");
    let conf = net.path("mef.conf");
    let why = net.mef(&["why", "--config", conf.to_str().unwrap(), "11.2.3.4"]).shown();
    assert!(why.contains("community_cloud_* in mef.conf"), "{why}");
    // What it has seen itself it reports, and nothing else.
    net.append(LOG, failed("11.7.7.7"));
    let own = report("7.7.7.11", "web1", "app");
    cloud.wait_zone(net, "web1.r", "its own report", |zone| zone.iter().any(|line| line.starts_with(&own)));
    assert_eq!(net.banned().iter().filter(|who| who.starts_with("11.")).count(), 2);
    assert_eq!(cloud.zone(net, "web1.r").len(), before.len() + 1);
    net.stop(daemon);
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn only_bans_on_evidence_are_reported_and_taken_back_with_the_ban() {
    for kind in KINDS {
        let (mut net, mut cloud) = member(kind, "syslog_trusted=false");
        // Of a file that a syslog daemon writes nobody knows who wrote a line.
        cloud.start(&mut net, 0);
        net.daemon("hearsay");
        net.append(LOG, failed("11.2.3.4"));
        net.mark(LOG);
        configure(&net, &cloud, "web1", "");
        // Nor of a rule that keeps its bans to itself.
        net.append("own.log", "");
        net.rule_for("own", "own.log", "maxretry=1\nshare=false");
        net.mef(&["reload", "--config", net.path("mef.conf").to_str().unwrap()]).ok();
        net.append("own.log", failed("11.2.3.8"));
        wait_until("the ban that is not shared", || net.banned().contains(&"11.2.3.8".to_owned()));
        net.append(LOG, failed("11.2.3.5"));
        let conf = net.path("mef.conf");
        let config = ["--config", conf.to_str().unwrap()];
        net.mef(&[&["ban", "11.2.3.6"], &config[..]].concat()).ok();
        let five = report("5.3.2.11", "web1", "app");
        cloud.wait_zone(&net, "web1.r", "the one that is proven", |zone| {
            has(zone, std::slice::from_ref(&five))
        });
        // By hand where that is asked for.
        configure(&net, &cloud, "web1", "community_report_manual=true");
        net.mef(&[&["reload"], &config[..]].concat()).ok();
        net.mef(&[&["ban", "11.2.3.7", "--for", "20s"], &config[..]].concat()).ok();
        net.mef(&[&["ban", "11.2.3.0/28"], &config[..]].concat()).ok();
        net.mef(&[&["ban", "192.168.3.4"], &config[..]].concat()).ok();
        let seven = report("7.3.2.11", "web1", "manual");
        let want = [five.clone(), seven];
        cloud.wait_zone(&net, "web1.r", "one by hand", |zone| has(zone, &want));
        cloud.wait_zone(&net, "web1.r", "its end", |zone| has(zone, std::slice::from_ref(&five)));
        net.mef(&[&["unban", "11.2.3.5"], &config[..]].concat()).ok();
        cloud.wait_zone(&net, "web1.r", "the unban", <[String]>::is_empty);
        // The server has it a moment before the file says so.
        let status = || net.mef(&[&["cloud", "status"], &config[..]].concat()).stdout;
        let ever = "ever         2 sent, 2 withdrawn, 0 dropped";
        wait_or_show("the counts", || status().contains(ever).then_some(()), status);
    }
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn reports_wait_for_a_server_that_is_away_and_outlive_the_daemon() {
    let (mut net, mut cloud) = member(Kind::Knot, "");
    let daemon = net.daemon("first");
    net.append(LOG, failed("11.2.3.4"));
    net.wait_said("first", "community cloud: the server cannot be reached: Connection refused");
    net.append(LOG, failed("11.2.3.5"));
    net.mark(LOG);
    let conf = net.path("mef.conf");
    let config = ["--config", conf.to_str().unwrap()];
    let status = net.mef(&[&["cloud", "status"], &config[..]].concat());
    assert_eq!(status.status, 1, "trouble is no success");
    assert!(status.stdout.contains("trouble      the server cannot be reached"), "{}", status.stdout);
    net.stop(daemon);
    assert_eq!(net.said("first").matches("community cloud:").count(), 1, "told once: {}", net.said("first"));
    let daemon = net.daemon("second");
    net.wait_said("second", "community cloud: the server cannot be reached");
    cloud.start(&mut net, 0);
    net.wait_said("second", "community cloud: reports are accepted again");
    let want = ["4.3.2.11", "5.3.2.11"].map(|name| report(name, "web1", "app"));
    assert!(has(&cloud.zone(&net, "web1.r"), &want), "{:?}", cloud.zone(&net, "web1.r"));
    net.signal(daemon, libc::SIGKILL);
    net.wait(daemon);
    // A ban that ends while nobody runs is taken back by the next one.
    let daemon = net.daemon("third");
    net.mef(&[&["unban", "11.2.3.4"], &config[..]].concat()).ok();
    cloud.wait_zone(&net, "web1.r", "the one that is left", |zone| has(zone, &want[1..]));
    net.stop(daemon);
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn every_refusal_is_told_once_in_words() {
    for kind in KINDS {
        let (mut net, mut cloud) = member(kind, "");
        cloud.add(&net, "web2", "beta");
        cloud.start(&mut net, 0);
        let key = net.read("web1.key");
        let secret = key.trim().rsplit(':').next().unwrap().to_owned();
        let other = net.read("web2.key").trim().rsplit(':').next().unwrap().to_owned();
        let cases = [
            (
                "wrong-secret",
                key.replace(&secret, &other),
                "the server has another secret for this key (BADSIG)",
            ),
            ("unknown-key", key.replace(":web1:", ":web7:"), "the server does not know this key"),
            ("another-member", key.replace(":web1:", ":web2:").replace(&secret, &other), "the server "),
            ("no-key", "nonsense\n".to_owned(), "community_key_file cannot be read"),
        ];
        for (at, (name, text, words)) in cases.iter().enumerate() {
            std::fs::write(net.path("web1.key"), text).unwrap();
            let daemon = net.daemon(name);
            net.append(LOG, failed(&format!("11.2.3.{at}")));
            net.wait_said(name, &format!("community cloud: {words}"));
            let conf = net.path("mef.conf");
            let ask = ["cloud", "status", "--config", conf.to_str().unwrap()];
            wait_until("more tries", || {
                let status = net.mef(&ask).stdout;
                !status.contains("after 1 failure") && status.contains("trouble ")
            });
            let json = net.mef(&[&ask[..], &["--json"]].concat()).stdout;
            assert_fits(&net, "cloud", &json);
            assert!(
                json.starts_with("{\"reports\":true,\"member\":\"web1\",")
                    && !json.contains("\"trouble\":null"),
                "{json}"
            );
            let told = net.said(name).matches("reports wait (mef cloud status)").count();
            net.stop(daemon);
            assert_eq!(told, 1, "{kind:?} {name}: {}", net.said(name));
            assert_eq!(cloud.zone(&net, "web1.r").len(), 0, "{kind:?} {name}");
            std::fs::remove_dir_all(net.path("state-web1")).unwrap();
        }
    }
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn a_key_that_others_can_read_is_not_used() {
    use std::os::unix::fs::PermissionsExt as _;
    let (mut net, mut cloud) = member(Kind::Knot, "");
    cloud.start(&mut net, 0);
    std::fs::set_permissions(net.path("web1.key"), std::fs::Permissions::from_mode(0o640)).unwrap();
    let daemon = net.daemon("daemon");
    net.wait_said("daemon", "others can read this key: chmod 600 it");
    net.append(LOG, failed("11.2.3.4"));
    net.wait_said("daemon", "reports wait");
    assert_eq!(cloud.zone(&net, "web1.r").len(), 0);
    std::fs::set_permissions(net.path("web1.key"), std::fs::Permissions::from_mode(0o600)).unwrap();
    cloud.wait_zone(&net, "web1.r", "the report", |zone| zone.len() == 1);
    net.stop(daemon);
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn nothing_is_signed_while_the_clocks_differ() {
    let (mut net, mut cloud) = member(Kind::Knot, "");
    cloud.start(&mut net, 3600);
    let daemon = net.daemon("daemon");
    net.append(LOG, failed("11.2.3.4"));
    net.wait_said("daemon", "community cloud: the clocks differ: it is ");
    let tries = || net.said("server").matches("BADTIME").count();
    assert!(tries() >= 1, "{}", net.said("server"));
    cloud.stop(&mut net);
    cloud.start(&mut net, 0);
    cloud.wait_zone(&net, "web1.r", "the report when the time is right", |zone| zone.len() == 1);
    net.wait_said("daemon", "community cloud: reports are accepted again");
    net.stop(daemon);
    assert_eq!(net.said("daemon").matches("the clocks differ").count(), 1);
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn what_is_missing_is_said_and_nothing_is_reported() {
    let (mut net, cloud) = member(Kind::Knot, "community_member=\ncommunity_server=");
    let daemon = net.daemon("daemon");
    let said = net.said("daemon");
    assert!(said.contains("community_report=true needs community_member, community_server"), "{said}");
    net.append(LOG, failed("11.2.3.4"));
    net.mark(LOG);
    net.stop(daemon);
    assert!(!net.path("state-web1/reports").exists());
    drop(cloud);
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn a_quota_that_is_reached_is_told_once_and_what_waits_stays() {
    for kind in KINDS {
        let (mut net, mut cloud) = member(kind, "");
        match kind {
            Kind::Knot => cloud.edit("zone-max-size: 1M", "zone-max-size: 1000"),
            Kind::Bind => cloud.edit("max-records 12000", "max-records 12"),
        }
        cloud.start(&mut net, 0);
        let daemon = net.daemon("daemon");
        (0..60).for_each(|n| net.append(LOG, failed(&format!("11.2.3.{n}"))));
        net.wait_said("daemon", "reports wait (mef cloud status)");
        let told = net.said("daemon");
        assert!(told.contains("quota"), "{kind:?}: {told}");
        let conf = net.path("mef.conf");
        let status = || net.mef(&["cloud", "status", "--config", conf.to_str().unwrap()]).stdout;
        wait_or_show("another try", || status().contains("after 2 failures").then_some(()), status);
        assert!(cloud.zone(&net, "web1.r").len() < 30, "{kind:?}");
        // The operator gives more room.
        cloud.stop(&mut net);
        match kind {
            Kind::Knot => cloud.edit("zone-max-size: 1000", "zone-max-size: 1M"),
            Kind::Bind => cloud.edit("max-records 12", "max-records 12000"),
        }
        cloud.start(&mut net, 0);
        cloud.wait_zone(&net, "web1.r", "all reports", |zone| zone.len() == 60);
        net.wait_said("daemon", "community cloud: reports are accepted again");
        net.stop(daemon);
        assert_eq!(net.said("daemon").matches("reports wait").count(), 1, "{kind:?}: {}", net.said("daemon"));
    }
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn nothing_is_signed_while_the_clock_is_not_set() {
    let (mut net, mut cloud) = member(Kind::Knot, "");
    cloud.start(&mut net, 0);
    let daemon = net.daemon("before");
    net.append(LOG, failed("11.2.3.4"));
    cloud.wait_zone(&net, "web1.r", "the report", |zone| zone.len() == 1);
    net.stop(daemon);
    // A host without a clock comes up before the time at which it has last reported.
    let dir = Dir::open(&net.path("state-web1")).unwrap();
    let reported_at = |at: Wall| {
        let (mut reports, _) = Reports::load(&dir).unwrap();
        reports.done(at, &[]);
        reports.save(&dir).unwrap();
    };
    reported_at(Wall(seconds() + 86_400));
    let daemon = net.daemon("boot");
    net.append(LOG, failed("11.2.3.5"));
    net.wait_said("boot", "community cloud: the clock is not set: nothing is signed with such a time");
    net.stop(daemon);
    assert_eq!(cloud.zone(&net, "web1.r").len(), 1);
    assert_eq!(net.said("boot").matches("the clock is not set").count(), 1);
    reported_at(Wall(seconds()));
    let daemon = net.daemon("later");
    cloud.wait_zone(&net, "web1.r", "the other report", |zone| zone.len() == 2);
    net.stop(daemon);
}
