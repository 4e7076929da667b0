//! DNSBLs that Knot DNS and BIND hold, and what these say of those that they do not hold.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use super::servers::{Cloud, KINDS, Kind};
use crate::common::bans::text;
use crate::common::daemon::{LOG, failed};
use crate::common::frames::{SYN, Way};
use crate::common::{Net, wait_until};

/// A zone as people write them: the test entry, single addresses, a network, a code that means no listing,
/// and IPv6.
const ZONE: &str = "$TTL 300\n@ SOA ns.list.example. admin.list.example. 1 3600 600 86400 300\n@ NS ns\n\
    ns A 192.0.2.53\n2.0.0.127 A 127.0.0.2\n\
    9.0.0.20 A 127.0.0.4\n9.0.0.20 TXT \"attacks, see https://list.example/20.0.0.9\"\n\
    *.1.0.20 A 127.0.0.2\n*.1.0.20 TXT \"a network\"\n10.0.0.20 A 127.0.0.10\n\
    2.0.0.0.0.0.f.7.f.f.f.f.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0 A 127.0.0.2\n\
    *.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.6.2 A 127.0.0.2\n";

/// The same that answers everybody with an error code.
fn refusing(code: u8) -> String {
    format!(
        "$TTL 300\n@ SOA ns.list.example. admin.list.example. 1 3600 600 86400 300\n@ NS ns.list.example.\n\
         * A 127.255.255.{code}\n"
    )
}

/// What is asked, by its name: the zone's file, and what is said of it.
fn refusals() -> [(&'static str, Option<String>, &'static str); 5] {
    [
        ("typo", Some(refusing(252)), "does not know this zone: is its name right? (127.255.255.252)"),
        ("public", Some(refusing(254)), "does not answer public or shared resolvers"),
        ("quota", Some(refusing(255)), "the list's quota is used up (127.255.255.255)"),
        ("broken", Some("this is no zone\n".into()), "the name servers failed (SERVFAIL)"),
        ("gone", None, "the name servers refuse to answer (REFUSED)"),
    ]
}

fn serve(net: &Net, cloud: &mut Cloud, name: &str, text: &str) {
    net.write(&format!("server/{name}.example.zone"), text);
    cloud.append(&match cloud.kind {
        Kind::Knot => format!("zone:\n  - domain: {name}.example\n    file: {name}.example.zone\n"),
        Kind::Bind => {
            format!("zone \"{name}.example\" {{ type primary; file \"{name}.example.zone\"; }};\n")
        }
    });
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn zones_of_knot_and_bind_are_lists_and_what_they_refuse_is_told_in_words() {
    for kind in KINDS {
        let mut net = Net::new();
        let peer = net.peer();
        for far in ["20.0.0.0/8", "2600::/16"] {
            net.ip(&format!("route add blackhole {far}"));
        }
        let mut cloud = Cloud::new(&net, kind);
        let mut conf = "rbl_enabled=true\ndns_servers=127.0.0.1\nps_enabled=false\nrbl_list_enabled=true\n\
            rbl_list_zone=list.example\nrbl_list_answer_match=127.0.0.2,127.0.0.3,127.0.0.4\n"
            .to_owned();
        serve(&net, &mut cloud, "list", ZONE);
        for (name, text, _) in refusals() {
            text.iter().for_each(|text| serve(&net, &mut cloud, name, text));
            conf += &format!("rbl_{name}_enabled=true\nrbl_{name}_zone={name}.example\n");
        }
        cloud.start(&mut net, 0);
        net.append(LOG, "");
        net.configure(&conf, &[LOG]);
        net.rule_for("app", LOG, "");
        let daemon = net.daemon("daemon");
        net.wait_said("daemon", "DNSBL list is asked: its test entries are right");
        for (name, _, words) in refusals() {
            net.wait_said("daemon", words);
            let lines = |line: &&str| line.contains(&format!("DNSBL {name} ")) && line.contains(words);
            assert_eq!(net.said("daemon").lines().filter(lines).count(), 1, "{kind:?} {name}");
        }
        let knock = |from: &str| {
            let from = from.parse().unwrap();
            let to =
                if matches!(from, std::net::IpAddr::V4(_)) { peer.host4.into() } else { peer.host6.into() };
            Way::new(&net, &peer).burst(from, (to, 80), SYN, 1);
        };
        // Whom it does not have, and whom it has with another code; and others, one by a hit.
        ["20.0.0.8", "20.0.0.10", "20.0.0.9", "2600::9"].into_iter().for_each(knock);
        net.append(LOG, failed("20.0.1.77"));
        let banned = ["20.0.0.9", "20.0.1.77", "2600::/64"];
        for who in banned {
            wait_until(who, || net.banned().contains(&who.to_owned()));
        }
        assert_eq!(net.banned().len(), banned.len(), "{kind:?}: {:?}", net.banned());
        let reason = text(&net.ban_of("20.0.0.9"), "reason");
        assert_eq!(reason, "listed by list: attacks, see https://list.example/20.0.0.9", "{kind:?}");
        assert_eq!(text(&net.ban_of("20.0.1.77"), "reason"), "listed by list: a network");
        assert_eq!(text(&net.ban_of("2600::/64"), "reason"), "listed by list: 127.0.0.2", "without a text");
        let shown =
            net.mef(&["lookup", "--config", net.path("mef.conf").to_str().unwrap(), "20.0.0.9"]).shown();
        for words in ["listed", "unreliable", "no answer", "127.0.0.4"] {
            assert!(shown.contains(words), "{kind:?}: {shown}");
        }
        net.stop(daemon);
    }
}
