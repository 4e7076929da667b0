//! `mef migrate ufw`: the real ufw lets pass and refuses what its rule set of ours does.

use crate::common;

use common::Net;
use common::ns::private_dirs;
use common::world::{Fate, Kind, Packet, Spot, World, every_packet, fates};
use std::collections::BTreeMap;

/// What the administrator has said, as ufw itself has written it down; the first lines let the probes' own
/// signals pass.
const SAID: &[&str] = &[
    "--force reset",
    "default deny incoming",
    "default deny routed",
    "allow 9/udp",
    "allow out 9/udp",
    "route allow proto udp from any port 9 to any port 9",
    "allow 1000/tcp comment 'the \"first\" one'",
    "reject 1001",
    "deny in on v1 to any port 2000 proto tcp",
    "allow from 192.0.2.0/24 to any port 1002 proto udp",
    "allow from 2001:db8::/16 to any port 1002 proto tcp",
    "limit 2000:2010/tcp",
    "allow log 2000/udp",
    "reject out on v1 to any port 1001 proto tcp",
    "deny out to 198.51.100.2 port 1002 proto udp",
    "route allow in on v0 out on v1 to any port 1000 proto tcp",
    "route deny in on v0 out on v1 to any port 1001 proto udp",
    "route reject in on v0 out on v1 to any port 1002",
];

/// What a script says that sees the directories of the test in the place of this host's.
fn shell(net: &Net, script: &str) -> String {
    let mut command = net.command("sh", &["-ec", script]);
    private_dirs(&mut command, &net.dir);
    net.run(command).ok()
}

/// ufw with a configuration of its own in a copy of /etc, as this host's programs in the namespace see it.
fn ufw(world: &World, said: &[&str]) {
    let etc = world.net.path("etc").display().to_string();
    let copy = format!(
        "cp -a /etc {etc}; cp /usr/share/ufw/iptables/*.rules {etc}/ufw/; rm -rf {etc}/mef; mkdir {etc}/mef"
    );
    world.net.cmd("sh", &["-ec", &copy]).ok();
    for line in said {
        shell(&world.net, &format!("ufw {line}"));
    }
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn what_ufw_lets_pass_and_refuses_its_rule_set_of_ours_does() {
    let mut world = World::new();
    ufw(&world, SAID);
    shell(&world.net, "ufw --force enable");
    let before = fates(&mut world, &every_packet());
    let shown = world.net.mef(&["migrate", "ufw"]);
    assert_eq!((shown.status, shown.stderr.as_str()), (0, ""), "{shown:?}");
    assert!(shown.stdout.ends_with("nothing was changed; --write does this\n"), "{}", shown.stdout);
    assert!(!world.net.path("etc/mef/mef.rules").exists(), "nothing was written");
    assert!(!shown.stdout.contains("note "), "{}", shown.stdout);
    let wrote = world.net.mef(&["migrate", "ufw", "--write"]).ok();
    assert!(wrote.contains("then stop the other program: ufw disable"), "{wrote}");
    // What ufw made is still there: nothing of it was changed.
    assert_eq!(shell(&world.net, "ufw status | head -n 1"), "Status: active\n");
    shell(&world.net, "ufw --force disable; iptables -P FORWARD ACCEPT; ip6tables -P FORWARD ACCEPT");
    world.net.mef(&["load", "--force", "/etc/mef/mef.rules"]).ok();
    let after = fates(&mut world, &every_packet());
    let differ: Vec<_> = before.iter().zip(&after).filter(|(a, b)| a.1 != b.1).collect();
    assert!(differ.is_empty(), "{differ:#?}\n{}", shown.stdout);
    let mut seen = BTreeMap::new();
    before.iter().for_each(|(_, fate)| *seen.entry(format!("{fate:?}")).or_insert(0) += 1);
    assert!(seen.len() == 3 && seen.values().all(|count| *count > 10), "too much alike: {seen:?}");
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn six_connections_in_a_row_pass_and_more_are_refused_as_with_ufw() {
    let mut world = World::new();
    ufw(&world, &["--force reset", "allow 9/udp", "limit 1000/tcp"]);
    world.net.mef(&["migrate", "ufw", "--write"]).ok();
    world.net.mef(&["load", "--force", "/etc/mef/mef.rules"]).ok();
    let one =
        Packet { kind: Kind::Tcp, from: Spot::Friend, to: Spot::Host, v6: false, sport: 0, dport: 1000 };
    assert_eq!(world.passing(6, one), 6);
    assert_eq!(world.judge(one), Fate::Refused);
    assert_eq!(world.judge(Packet { from: Spot::Stranger, ..one }), Fate::Passes, "others have their own");
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn what_was_added_by_hand_is_taken_over_or_named() {
    let world = World::new();
    ufw(&world, &["--force reset", "allow 22/tcp"]);
    let frame = world.net.path("etc/ufw/before.rules");
    let text = std::fs::read_to_string(&frame).unwrap();
    let own = "-A ufw-before-input -p tcp --dport 7777 -s 10.1.0.0/16 -j ACCEPT\n\
               -A ufw-before-input -s 203.0.113.5 -j DROP\n\
               -A ufw-before-input -p tcp -m recent --set -j ACCEPT\n";
    let text =
        text.replacen("\nCOMMIT", &["\n", own, "COMMIT"].concat(), 1).replace("--dport 1900", "--dport 1901");
    let nat =
        "*nat\n:POSTROUTING ACCEPT [0:0]\n-A POSTROUTING -s 10.8.0.0/24 -o eth0 -j MASQUERADE\nCOMMIT\n";
    std::fs::write(&frame, text + nat).unwrap();
    let out = world.net.mef(&["migrate", "ufw"]).ok();
    let at = |line: &str| out.find(line).unwrap_or_else(|| panic!("{line}\n{out}"));
    let lo = at("  + rule dir=in action=accept proto=all iif=lo\n");
    assert!(at("  + rule dir=in action=drop proto=all family=ip src=203.0.113.5\n") < lo);
    assert!(at("  + rule dir=in action=accept proto=tcp family=ip dport=7777 src=10.1.0.0/16\n") > lo);
    at("  + nat dir=post action=masquerade proto=all family=ip src=10.8.0.0/24 oif=eth0\n");
    assert!(out.contains("not taken over (-m recent): -A ufw-before-input -p tcp -m recent"), "{out}");
    assert!(out.contains("you have removed or changed what is line"), "{out}");
    // A file that is there is not overwritten, and nothing else is.
    world.net.write("etc/mef/mef.rules", "# mine\n");
    let out = world.net.mef(&["migrate", "ufw", "--write"]).ok();
    assert!(out.contains("keep     /etc/mef/mef.rules: you changed it; the new version is"), "{out}");
    assert_eq!(world.net.read("etc/mef/mef.rules"), "# mine\n");
    assert!(world.net.read("etc/mef/mef.rules.new").contains("dport=22"));
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn where_there_is_no_such_program_it_says_so() {
    let net = Net::new();
    net.write("etc/hostname", "empty\n");
    let root = net.path("").display().to_string();
    for (name, what) in [("ufw", "ufw was never set up here"), ("csf", "CSF is not installed here")] {
        let out = net.mef(&["migrate", name, "--root", &root]);
        assert!(out.status == 1 && out.stderr.contains(what), "{out:?}");
    }
    // What cannot be read is not nothing.
    net.write("etc/ufw/user.rules", "");
    let out = net.mef(&["migrate", "ufw", "--root", &root]);
    assert!(out.status == 1 && out.stderr.contains("user.rules cannot be read, or is empty"), "{out:?}");
    let out = net.mef(&["migrate", "crowdsec"]);
    assert!(out.status == 2 && out.stderr.contains("expected one of: fail2ban, csf, ufw"), "{out:?}");
}
