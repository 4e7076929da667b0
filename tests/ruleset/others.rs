//! Rule sets of other programs, as their packages make them: what they let pass and refuse, that does what is
//! exported of them; and nearly all of their rules are said.

use crate::common;

use common::ns::private_dirs;
use common::world::{Kind, Packet, Spot, World, every_packet, fates};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// What a script says that sees the directories of the test in the place of this host's; its /etc is a copy.
fn shell(world: &World, script: &str) -> String {
    let etc = world.net.path("etc");
    if !etc.exists() {
        world.net.cmd("sh", &["-ec", &format!("cp -a /etc {}", etc.display())]).ok();
    }
    let mut command = world.net.command("sh", &["-ec", script]);
    private_dirs(&mut command, &world.net.dir);
    world.net.run(command).ok()
}

/// How many rules the kernel has, and how many of them an export shows in comments. One that stands at
/// several places counts once.
#[derive(Clone, Copy)]
struct Share {
    rules: usize,
    unsaid: usize,
}

impl Share {
    fn of(world: &World, exported: &str) -> Share {
        let listing = world.net.cmd("nft", &["-a", "list", "ruleset"]).ok();
        let is_rule = |line: &&str| line.contains("# handle ") && !line.contains("{ # handle ");
        let shown = exported.lines().filter_map(|line| {
            let why = line.strip_prefix("lost action=drop ").unwrap_or(line);
            why.strip_prefix("# cannot be expressed: ")?.split_once(": table ").map(|(_, rule)| rule)
        });
        let unsaid: BTreeSet<&str> = shown.collect();
        Share { rules: listing.lines().filter(is_rule).count(), unsaid: unsaid.len() }
    }

    fn percent(self) -> usize {
        (self.rules - self.unsaid) * 100 / self.rules.max(1)
    }
}

/// The fates of packets are what they were when what is exported stands in place of what made it.
#[track_caller]
fn same_fates(set: &RuleSetOfOthers) {
    let mut world = World::new();
    (set.load)(&world);
    let packets: Vec<Packet> = every_packet().into_iter().filter(set.are_meant).collect();
    let before = fates(&mut world, &packets);
    let exported = world.net.mef(&["export"]).stdout;
    let kept: String =
        exported.lines().filter(|line| !line.starts_with("lost ")).flat_map(|line| [line, "\n"]).collect();
    world.net.nft("flush ruleset");
    let loaded = world.net.mef_input(&["load", "--force", "-"], kept.as_bytes());
    assert_eq!(loaded.status, 0, "{loaded:?}\n{kept}");
    let after = fates(&mut world, &packets);
    let differ: Vec<_> = before.iter().zip(&after).filter(|(a, b)| a.1 != b.1).collect();
    assert!(differ.is_empty(), "{}: {differ:#?}\n{exported}", set.name);
    let mut seen = BTreeMap::new();
    before.iter().for_each(|(_, fate)| *seen.entry(format!("{fate:?}")).or_insert(0) += 1);
    assert!(seen.values().filter(|count| **count > 3).count() >= 2, "too much alike: {seen:?}");
}

/// What a program or a page has its users load.
struct RuleSetOfOthers {
    name: &'static str,
    load: fn(&World),
    /// Packets that come to no rule that the export shows in a comment.
    are_meant: fn(&Packet) -> bool,
    /// So many of its rules are said at least, in percent.
    least: usize,
}

/// A file of `tests/ruleset/sets`: what iptables-save or nft lists where the program runs, written for the
/// addresses and ports here.
fn file(world: &World, name: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/ruleset/sets").join(name);
    let text = fs::read(path).unwrap();
    let (program, arguments): (&str, &[&str]) = match name.rsplit_once('.') {
        Some((_, "ip")) => ("iptables-nft-restore", &[]),
        Some((_, "ip6")) => ("ip6tables-nft-restore", &[]),
        _ => ("nft", &["-f", "-"]),
    };
    world.net.input(program, arguments, &text).ok();
}

fn v4(packet: &Packet) -> bool {
    !packet.v6
}

const UFW: RuleSetOfOthers = RuleSetOfOthers {
    name: "ufw",
    load: |world| drop(shell(world, UFW_SCRIPT)),
    are_meant: |_| true,
    least: 96,
};
const FIREWALLD: RuleSetOfOthers = RuleSetOfOthers {
    name: "firewalld",
    load: |world| {
        shell(world, FIREWALLD_SCRIPT);
        assert!(world.net.nft_list("ruleset").contains("table inet firewalld"), "it has left its rules");
    },
    are_meant: |_| true,
    least: 98,
};
const SHOREWALL: RuleSetOfOthers = RuleSetOfOthers {
    name: "shorewall",
    load: |world| drop(shell(world, SHOREWALL_SCRIPT)),
    // Errors of ICMP would be bounded, and so what a sender hears. It knows no IPv6.
    are_meant: |packet| !packet.v6 && (packet.kind != Kind::Ping || packet.from != packet.to),
    least: 99,
};
const DOCKER: RuleSetOfOthers =
    RuleSetOfOthers { name: "Docker", load: |world| file(world, "docker.ip"), are_meant: v4, least: 100 };
const KUBERNETES: RuleSetOfOthers = RuleSetOfOthers {
    name: "Kubernetes",
    load: |world| file(world, "kubernetes.ip"),
    are_meant: v4,
    least: 93,
};
const CSF: RuleSetOfOthers =
    RuleSetOfOthers { name: "CSF", load: |world| file(world, "csf.ip"), are_meant: v4, least: 100 };
const NIXOS: RuleSetOfOthers = RuleSetOfOthers {
    name: "NixOS",
    load: |world| ["nixos.ip", "nixos.ip6"].iter().for_each(|name| file(world, name)),
    are_meant: |_| true,
    least: 84,
};
const ARCH: RuleSetOfOthers = RuleSetOfOthers {
    name: "Arch Linux",
    load: |world| file(world, "arch.nft"),
    // What is answered is what the rule refuses that bounds its answers, and the kernel bounds them, too.
    are_meant: |packet| {
        let is_let_in = packet.kind == Kind::Tcp && matches!(packet.dport, 1000 | 2000);
        packet.to != Spot::Host || packet.from == Spot::Host || is_let_in || packet.kind == Kind::Ping
    },
    least: 100,
};
const WIKI_ROUTER: RuleSetOfOthers = RuleSetOfOthers {
    name: "nftables wiki: router",
    load: |world| file(world, "wiki-router.nft"),
    are_meant: v4,
    least: 100,
};
const WIKI_SERVER: RuleSetOfOthers = RuleSetOfOthers {
    name: "nftables wiki: server",
    load: |world| file(world, "wiki-server.nft"),
    are_meant: |_| true,
    least: 100,
};

/// The nine, by what is known of them.
#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn of_the_rules_of_nine_others_nearly_all_are_said() {
    let all =
        [&UFW, &FIREWALLD, &SHOREWALL, &DOCKER, &KUBERNETES, &CSF, &NIXOS, &ARCH, &WIKI_ROUTER, &WIKI_SERVER];
    let (mut table, mut sum, mut weak) = (String::new(), Share { rules: 0, unsaid: 0 }, Vec::new());
    let mut shown = String::new();
    for set in all {
        let world = World::new();
        (set.load)(&world);
        let exported = world.net.mef(&["export"]).stdout;
        let share = Share::of(&world, &exported);
        sum = Share { rules: sum.rules + share.rules, unsaid: sum.unsaid + share.unsaid };
        let row = format!("{:24}{:5}{:5}{:5} %", set.name, share.rules, share.unsaid, share.percent());
        table += &[&row, "\n"].concat();
        let unsaid = exported.lines().filter(|line| line.contains("# cannot be expressed: "));
        shown.extend(unsaid.flat_map(|line| [line, "\n"]));
        if share.percent() < set.least {
            weak.push(set.name);
        }
    }
    let whole = format!("{table}{:24}{:5}{:5}{:5} %\n", "all", sum.rules, sum.unsaid, sum.percent());
    std::io::Write::write_all(&mut std::io::stdout(), whole.as_bytes()).unwrap();
    assert!(weak.is_empty() && sum.percent() >= 95, "{weak:?}\n{whole}{shown}");
}

/// Its defaults, and what an administrator adds.
const UFW_SCRIPT: &str = "\
cp /usr/share/ufw/iptables/*.rules /etc/ufw/
tell() { ufw \"$@\" >/dev/null; }
tell --force reset
tell default deny incoming
tell default deny routed
tell allow 9/udp
tell allow out 9/udp
tell route allow proto udp from any port 9 to any port 9
tell limit 22/tcp
tell allow 80,443/tcp
tell allow 1000/tcp
tell reject 1001
tell deny in on v1 to any port 2000 proto tcp
tell allow from 192.0.2.0/24 to any port 1002 proto udp
tell allow log 2000/udp
tell deny out to 198.51.100.2 port 1002 proto udp
tell route allow in on v0 out on v1 to any port 1000 proto tcp
tell route reject in on v0 out on v1 to any port 1002
tell --force enable
";

/// Zones, policies between them, forwarded ports; the permanent configuration, which needs no bus.
const FIREWALLD_SCRIPT: &str = "\
sed -i s/^CleanupOnExit=.*/CleanupOnExit=no/ /etc/firewalld/firewalld.conf
set_up() { firewall-offline-cmd \"$@\" >/dev/null; }
set_up --zone=internal --add-interface=v0
set_up --zone=public --add-interface=v1
for zone in internal public; do set_up --zone=$zone --add-port=9/udp; done
set_up --zone=public --add-port=1000/tcp
set_up --zone=public --add-port=2000-2010/udp
set_up --zone=internal --add-port=1001/tcp
set_up --zone=internal --add-port=1002/udp
set_up --zone=internal --add-masquerade
set_up --zone=public --add-forward-port=port=1002:proto=tcp:toport=1000:toaddr=192.0.2.2
set_up --zone=public --add-icmp-block=timestamp-request
set_up --new-policy=out
set_up --policy=out --add-ingress-zone=internal
set_up --policy=out --add-egress-zone=public
set_up --policy=out --add-port=9/udp
set_up --policy=out --add-port=1000-1001/tcp
set_up --new-policy=back
set_up --policy=back --add-ingress-zone=public
set_up --policy=back --add-egress-zone=internal
set_up --policy=back --add-port=9/udp
set_up --policy=back --add-port=2000/tcp
mkdir -p /run/dbus
wall=
dbus-daemon --system --nofork --nopidfile >/dev/null 2>&1 &
bus=$!
trap 'kill $wall $bus 2>/dev/null || true; wait' EXIT
firewalld --nofork --nopid >/run/firewalld.log 2>&1 &
wall=$!
tries=0
until firewall-cmd --state >/dev/null 2>&1; do
    tries=$((tries + 1))
    if [ $tries -gt 300 ]; then cat /run/firewalld.log; exit 1; fi
    sleep 0.2
done
kill $wall
wait $wall || true
wall=
";

/// The sample of its package for two interfaces, without what the language does not have: helpers of
/// connections.
const SHOREWALL_SCRIPT: &str = "\
mkdir -p /run/wall /var/lib/shorewall /run/lock
cp -r /usr/share/doc/shorewall/examples/two-interfaces/. /run/wall
cd /run/wall
gunzip -f ./*.gz 2>/dev/null || true
rm -f stoppedrules
sed -i 's/^STARTUP_ENABLED=.*/STARTUP_ENABLED=Yes/; s/^LOGLIMIT=.*/LOGLIMIT=/' shorewall.conf
sed -i s/^AUTOHELPERS=.*/AUTOHELPERS=No/ shorewall.conf
cat >interfaces <<'END'
?FORMAT 2
net v1 tcpflags,nosmurfs
loc v0 tcpflags,nosmurfs
END
cat >snat <<'END'
MASQUERADE 192.0.2.0/24 v1
END
cat >rules <<'END'
?SECTION NEW
ACCEPT all all udp 9
Invalid(DROP) net all tcp
ACCEPT net $FW tcp 1000
ACCEPT net $FW udp 2000:2010
REJECT loc $FW tcp 1001
ACCEPT loc $FW tcp 1000:1002
DROP loc net udp 1001
REJECT loc net tcp 2000
DNAT net loc:192.0.2.2 tcp 1002
Ping(ACCEPT) loc $FW
Ping(DROP) net $FW
ACCEPT $FW loc icmp
ACCEPT $FW net icmp
END
shorewall start /run/wall >/run/said 2>&1 || { cat /run/said; exit 1; }
";

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn what_ufw_does_its_export_does() {
    same_fates(&UFW);
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn what_firewalld_does_its_export_does() {
    same_fates(&FIREWALLD);
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn what_shorewall_does_its_export_does() {
    same_fates(&SHOREWALL);
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn what_docker_does_its_export_does() {
    same_fates(&DOCKER);
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn what_kubernetes_does_its_export_does() {
    same_fates(&KUBERNETES);
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn what_csf_does_its_export_does() {
    same_fates(&CSF);
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn what_nixos_does_its_export_does() {
    same_fates(&NIXOS);
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn what_arch_does_its_export_does() {
    same_fates(&ARCH);
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn what_the_router_of_the_wiki_does_its_export_does() {
    same_fates(&WIKI_ROUTER);
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn what_the_server_of_the_wiki_does_its_export_does() {
    same_fates(&WIKI_SERVER);
}
