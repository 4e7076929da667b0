//! A table of the layout before this one, found in the kernel by a newer program.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use crate::common;

use common::daemon::{ends, host, same_ends};
use common::{Net, wait_until};

/// Bans, an allow list, guards against bare packets and news of sources.
const SETTINGS: &str = "ps_boot_grace=0\nddos_enabled=true\nddos_ports=80\nrbl_enabled=true\n\
                        rbl_x_enabled=true\nrbl_x_zone=x.test";

/// Makes the table what the previous layout would have made: other names of sets, another mark.
fn age(net: &Net) -> String {
    let table = net.nft_list("table inet mef_guard");
    let words =
        [("exempt4", "spare4"), ("exempt6", "spare6"), ("bogons4", "seen_not4"), ("bogons6", "seen_not6")];
    let mut old = table.replace("\"mef 5 ", "\"mef 4 ");
    for (now, then) in words {
        assert!(old.contains(now), "{now}: {old}");
        old = old.replace(now, then);
    }
    assert_ne!(old, table);
    net.nft(&format!("delete table inet mef_guard\n{old}"));
    table
}

/// The content of a set.
fn elements(net: &Net, set: &str) -> String {
    let text = net.nft_list(&format!("set inet mef_guard {set}"));
    text.split("elements = ").nth(1).unwrap_or_else(|| panic!("{set} is empty")).to_owned()
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn a_table_of_the_previous_layout_is_taken_over_in_one_transaction() {
    let mut net = host(SETTINGS, "");
    net.write("whitelist/office.conf", "198.51.100.0/24\n");
    let peer = net.peer();
    net.ip(&format!("route add default via {}", peer.v4));
    let daemon = net.daemon("daemon");
    for words in [&["192.0.2.77", "--for", "1h"][..], &["203.0.113.0/28"], &["203.0.113.77", "--ports", "22"]]
    {
        net.mef(&[&["ban"], words].concat()).ok();
    }
    wait_until("whom no scan bans", || elements(&net, "exempt4").contains(&peer.v4.to_string()));
    net.signal(daemon, libc::SIGKILL);
    net.wait(daemon);
    let (before, exempt) = (ends(&net), elements(&net, "exempt4"));
    let now = age(&net);

    // What a command does needs nothing of the new layout, and leaves the guards in force.
    net.mef(&["ban", "192.0.2.78", "--for", "1h"]).ok();
    net.mef(&["unban", "192.0.2.78"]).ok();
    assert_eq!(elements(&net, "spare4"), exempt);

    let watch = net.command("nft", &["monitor"]);
    net.start("monitor", watch);
    wait_until("the monitor", || {
        net.nft("add table inet probe; delete table inet probe");
        net.said("monitor").contains("probe")
    });
    net.daemon("again");
    net.mef(&["ban", "192.0.2.79", "--for", "1h"]).ok();
    wait_until("the ban", || net.said("monitor").contains("192.0.2.79"));
    let said = net.said("monitor");
    let changes: Vec<&str> = said.split("# new generation").filter(|text| text.contains("spare4")).collect();
    assert_eq!(changes.len(), 1, "{said}");
    for part in
        ["delete set inet mef_guard spare4", "add rule inet mef_guard gate", "add rule inet mef_guard scan"]
    {
        assert!(changes[0].contains(part), "{part}: {}", changes[0]);
    }
    assert!(changes[0].contains("create element inet mef_guard exempt4 { 127.0.0.0/8 }"), "{}", changes[0]);
    assert!(!said.contains("delete table inet mef_guard"), "{said}");

    let table = net.nft_list("table inet mef_guard");
    assert!(!table.contains("set spare") && !table.contains("set seen_not"), "{table}");
    assert_eq!(elements(&net, "exempt4"), exempt, "whom bare packets never have banned");
    let sets = |text: &str| {
        let mut lines: Vec<String> =
            text.lines().filter(|l| l.starts_with("\tset ")).map(str::to_owned).collect();
        lines.sort();
        lines
    };
    assert_eq!(sets(&table), sets(&now));
    net.mef(&["unban", "192.0.2.79"]).ok();
    assert!(!net.said("again").contains("damage"), "{}", net.said("again"));
    same_ends(&before, &ends(&net));
}
