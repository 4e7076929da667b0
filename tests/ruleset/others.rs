//! Rule sets of other programs, as their packages make them: what they let pass and refuse, that does what is
//! exported of them; and nearly all of their rules are said.

use crate::common;

use common::ns::private_dirs;
use common::world::{Fate, Kind, Packet, World, every_packet, fates};
use std::collections::BTreeMap;

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

/// How much of what was exported is said, in percent.
fn share(exported: &str) -> usize {
    let begins = |word: &str| exported.lines().filter(|line| line.starts_with(word)).count();
    let said = begins("rule ") + begins("nat ");
    let unsaid = begins("# cannot be expressed") + begins("lost ");
    said * 100 / (said + unsaid).max(1)
}

/// The fates of packets are what they were when what is exported stands in place of what made it.
#[track_caller]
fn same_fates(world: &mut World, are_meant: impl Fn(&Packet) -> bool, least: usize) {
    let packets: Vec<Packet> = every_packet().into_iter().filter(are_meant).collect();
    let before = fates(world, &packets);
    let exported = world.net.mef(&["export"]).stdout;
    let kept: String =
        exported.lines().filter(|line| !line.starts_with("lost ")).flat_map(|line| [line, "\n"]).collect();
    world.net.nft("flush ruleset");
    let loaded = world.net.mef_input(&["load", "--force", "-"], kept.as_bytes());
    assert_eq!(loaded.status, 0, "{loaded:?}\n{kept}");
    let after = fates(world, &packets);
    let differ: Vec<_> = before.iter().zip(&after).filter(|(a, b)| a.1 != b.1).collect();
    assert!(differ.is_empty(), "{differ:#?}\n{exported}");
    let mut seen = BTreeMap::new();
    before.iter().for_each(|(_, fate)| *seen.entry(format!("{fate:?}")).or_insert(0) += 1);
    assert!(seen.len() >= 2 && seen.values().all(|count| *count > 5), "too much alike: {seen:?}");
    let share = share(&exported);
    assert!(share >= least, "{share} % are said\n{exported}");
}

/// Zones, policies between them, forwarded ports; the permanent configuration, which needs no bus.
const FIREWALLD: &str = "\
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

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn what_firewalld_does_its_export_does() {
    let mut world = World::new();
    shell(&world, FIREWALLD);
    assert!(world.net.nft_list("ruleset").contains("table inet firewalld"), "it has left its rules");
    same_fates(&mut world, |_| true, 95);
}

/// The sample of its package for two interfaces, without what the language does not have: limits of log lines
/// that several rules share, and helpers of connections.
const SHOREWALL: &str = "\
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
fn what_shorewall_does_its_export_does() {
    let mut world = World::new();
    shell(&world, SHOREWALL);
    // Errors of ICMP would be bounded, and so what a sender hears.
    let of_v4 = |packet: &Packet| !packet.v6 && (packet.kind != Kind::Ping || packet.from != packet.to);
    // Its log lines have more in them than ours can.
    same_fates(&mut world, of_v4, 80);
    assert_eq!(world.judge(Packet { v6: true, ..every_packet()[0] }), Fate::Passes, "it knows no IPv6");
}
