#![forbid(unsafe_code)]
//! What a host has to let pass so that nobody is locked out and nothing breaks that nobody meant: packets
//! that are run through the plan, and the words for those that do not pass. Knows the host only as far as it
//! is told.

mod packet;

use super::RuleSet;
use super::ast::{RuleStatement, StatementPlace};
use super::compile::{compile, compile_beside};
use crate::base::clock::Wall;
use crate::base::name::IfName;
use crate::base::range::Family;
use crate::plan::Direction::{self, Fwd, In, Out, Pre};
use crate::plan::Field;
use crate::plan::ct::{ESTABLISHED, NEW, RELATED, UNTRACKED};
use crate::plan::run::{Packet, PacketAnswer, PacketRun};
use packet::{FOR_A_GROUP, ICMP, ICMP6, LOCAL, MULTICAST, TCP, UDP, UNICAST, over, packet, with};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// An SSH session of this host.
#[derive(Debug, Clone, Copy)]
pub struct SshSession {
    /// Where it comes from.
    pub peer: (IpAddr, u16),
    /// Where it came to; an older `SSH_CLIENT` has not the address.
    pub here: (Option<IpAddr>, u16),
    /// The interface that leads to the peer.
    pub link: Option<IfName>,
}

/// A network behind this host, whose packets it forwards.
#[derive(Debug, Clone, Copy)]
pub struct Behind {
    /// The interface that leads to it.
    pub link: IfName,
    /// An address of this host in it.
    pub addr: IpAddr,
}

/// What is known of the host.
#[derive(Debug, Clone, Default)]
pub struct Situation {
    /// The SSH session that the check runs in.
    pub ssh: Option<SshSession>,
    /// Whether a DHCP client waits for answers, over IPv4 and IPv6.
    pub dhcp: [bool; 2],
    /// Whether the host has addresses that lead further than its links, of IPv4 and IPv6.
    pub speaks: [bool; 2],
    /// Whether it has IPv6 at all, and so neighbours to discover.
    pub has_ipv6: bool,
    /// The interfaces of the default routes.
    pub uplinks: Vec<IfName>,
    /// Networks that it forwards for.
    pub behind: Vec<Behind>,
    /// The clock.
    pub now: Wall,
}

/// What does not pass.
#[derive(Debug, PartialEq, Eq)]
pub struct Unmet {
    /// The direction whose policy or rules are in the way.
    pub direction: Direction,
    /// In words.
    pub what: String,
    /// What to do.
    pub hint: &'static str,
    /// Whether the SSH session is cut off.
    pub locks_out: bool,
}

/// One packet that has to pass, and its word among those of its need.
struct Probe {
    packet: Packet,
    word: &'static str,
    /// The packet that has to pass for this one to matter, by its place.
    only_after: Option<usize>,
}

/// Probes with the same words: from which place on, and how many.
struct Need {
    from: usize,
    what: String,
    hint: &'static str,
    locks_out: bool,
}

#[derive(Default)]
struct HostNeeds {
    probes: Vec<Probe>,
    needs: Vec<Need>,
}

/// What does not pass of what has to; on the way, `each` is called with every rule.
pub(super) fn unmet(
    set: &RuleSet,
    host: &Situation,
    each: &mut dyn FnMut(StatementPlace, &RuleStatement),
) -> Vec<Unmet> {
    let mut needs = HostNeeds::default();
    needs.neighbours(host);
    needs.answers(host);
    needs.dhcp(host);
    needs.loopback(host);
    needs.served(host);
    if let Some(session) = &host.ssh {
        needs.session(session, host.now);
    }
    needs.forwarded(host);
    if set.first_bridge.is_some() {
        needs.frames();
    }
    let mut run = PacketRun::new(needs.packets(), Vec::new());
    compile_beside(set, &host.uplinks, &mut run, each);
    if !run.added().is_empty() {
        // Whoever was put into a set is in it when the next packet comes.
        run = PacketRun::new(needs.packets(), run.added().to_vec());
        compile(set, &host.uplinks, &mut run);
    }
    let passes: Vec<bool> = run.fates().iter().map(|fate| fate.passes != PacketAnswer::No).collect();
    needs.judge(&passes)
}

impl HostNeeds {
    fn need(&mut self, what: &str, hint: &'static str) {
        self.needs.push(Need { from: self.probes.len(), what: what.to_owned(), hint, locks_out: false });
    }

    fn packets(&self) -> Vec<Packet> {
        self.probes.iter().map(|probe| probe.packet.clone()).collect()
    }

    fn probe(&mut self, packet: Packet, word: &'static str) -> usize {
        self.probes.push(Probe { packet, word, only_after: None });
        self.probes.len() - 1
    }

    fn judge(self, passes: &[bool]) -> Vec<Unmet> {
        let mut found = Vec::new();
        let ends = self.needs.iter().skip(1).map(|need| need.from).chain([self.probes.len()]);
        for (need, end) in self.needs.iter().zip(ends) {
            let passed = |at: usize| passes.get(at) == Some(&true);
            let probes = (need.from..end).filter_map(|at| Some((at, self.probes.get(at)?)));
            // What only opens the way for another one has no word.
            let asked: Vec<_> = probes
                .filter(|(_, probe)| !probe.word.is_empty() && probe.only_after.is_none_or(&passed))
                .collect();
            let failed: Vec<_> =
                asked.iter().filter(|(at, _)| !passed(*at)).map(|(_, probe)| probe).collect();
            let Some(first) = failed.first() else { continue };
            let mut words: Vec<&str> = failed.iter().map(|probe| probe.word).collect();
            words.dedup();
            let all = failed.len() == asked.len() || words == [SAME];
            let what =
                if all { need.what.clone() } else { [need.what.as_str(), ": ", &words.join(", ")].concat() };
            let (direction, hint, locks_out) = (first.packet.direction, need.hint, need.locks_out);
            found.push(Unmet { direction, what, hint, locks_out });
        }
        found
    }

    fn neighbours(&mut self, host: &Situation) {
        if !host.has_ipv6 {
            return;
        }
        // Neighbour discovery and router advertisements are not tracked.
        let all = [
            (
                In,
                "neighbour discovery does not get in, so IPv6 will not work",
                "rule dir=in action=accept proto=icmp6",
            ),
            (
                Out,
                "neighbour discovery does not get out, so IPv6 will not work",
                "rule dir=out action=accept proto=icmp6",
            ),
        ];
        for (dir, what, hint) in all {
            self.need(what, hint);
            let one = packet(dir, Family::V6, ICMP6, (0, 0), UNTRACKED);
            for link in links(host) {
                // The kernel asks a group and answers one, and no user is known for what it sends.
                for (icmp, kind) in [(135, MULTICAST), (136, if dir == In { LOCAL } else { UNICAST })] {
                    let facts = [(Field::DstKind, Some(kind)), (Field::Uid, None), (Field::Gid, None)];
                    let mut packet = with(Packet { icmp: Some(icmp), ..one.clone() }, &facts);
                    if dir == In && kind == MULTICAST {
                        packet = with(packet, &[(Field::PacketType, Some(FOR_A_GROUP))]);
                    }
                    self.probe(over(packet, link), SAME);
                }
            }
        }
    }

    fn answers(&mut self, host: &Situation) {
        self.need(
            "answers to what this host asks for do not get in",
            "rule dir=in action=accept proto=all ct=established,related",
        );
        let words = [
            ["TCP over IPv4", "UDP over IPv4", "ICMP errors"],
            ["TCP over IPv6", "UDP over IPv6", "ICMPv6 errors"],
        ];
        let icmp = [ICMP, ICMP6];
        for ((family, [tcp, udp, error]), icmp) in Family::ALL.into_iter().zip(words).zip(icmp) {
            if host.speaks.get(family as usize) != Some(&true) {
                continue;
            }
            for link in links(host) {
                let mut asks = Vec::new();
                for (proto, port, word) in [(TCP, 443, tcp), (UDP, 53, udp)] {
                    let question = over(packet(Out, family, proto, (50_000, port), NEW), link);
                    let question = self.probe(question, "");
                    let answer = over(packet(In, family, proto, (port, 50_000), ESTABLISHED), link);
                    let at = self.probe(answer, word);
                    self.after(at, question);
                    asks.push(question);
                }
                // That the way or the port is not there; that a packet is too big for IPv6.
                let kind = Some(if family == Family::V4 { 3 } else { 2 });
                let lost = Packet { icmp: kind, ..packet(In, family, icmp, (0, 0), RELATED) };
                let at = self.probe(over(lost, link), error);
                if let Some(first) = asks.first() {
                    self.after(at, *first);
                }
            }
        }
    }

    fn after(&mut self, at: usize, other: usize) {
        if let Some(probe) = self.probes.get_mut(at) {
            probe.only_after = Some(other);
        }
    }

    fn dhcp(&mut self, host: &Situation) {
        let all = [
            (Family::V4, (67, 68), "rule dir=in action=accept proto=udp sport=67 dport=68"),
            (Family::V6, (547, 546), "rule dir=in action=accept proto=udp sport=547 dport=546"),
        ];
        for ((family, ports, hint), _) in all.into_iter().zip(host.dhcp).filter(|(_, waits)| *waits) {
            self.need("answers of the DHCP server do not get in", hint);
            for link in links(host) {
                // Perhaps to everybody.
                let mut answer = Packet { always: true, ..packet(In, family, UDP, ports, NEW) };
                answer.facts.retain(|(field, _)| *field == Field::Header);
                self.probe(over(answer, link), SAME);
            }
            self.need("this host cannot renew its lease with the DHCP server", OUT);
            for link in links(host) {
                self.probe(over(packet(Out, family, UDP, (ports.1, ports.0), NEW), link), SAME);
            }
        }
    }

    fn loopback(&mut self, host: &Situation) {
        let lo = IfName::new("lo");
        let addresses = [IpAddr::from(Ipv4Addr::LOCALHOST), Ipv6Addr::LOCALHOST.into()];
        let all = [
            (
                In,
                "programs of this host cannot reach each other over loopback",
                "rule dir=in action=accept proto=all iif=lo",
            ),
            (
                Out,
                "programs of this host cannot reach each other over loopback",
                "rule dir=out action=accept proto=all oif=lo",
            ),
        ];
        for (dir, what, hint) in all {
            self.need(what, hint);
            for (family, addr) in Family::ALL.into_iter().zip(addresses) {
                if family == Family::V6 && !host.has_ipv6 {
                    continue;
                }
                let own = [(Field::SrcKind, Some(LOCAL)), (Field::DstKind, Some(LOCAL))];
                for (proto, word) in [(TCP, "TCP"), (UDP, "UDP")] {
                    let mut one = with(packet(dir, family, proto, (50_000, 5432), NEW), &own);
                    (one.addrs, one.always) = ((Some(addr), Some(addr)), true);
                    // Rules of loopback name it as where packets come in, or where they go out.
                    let other = with(packet(dir, family, proto, (5432, 50_000), ESTABLISHED), &own);
                    let other = Packet { addrs: one.addrs, ..other };
                    let begun = self.probe(over(one, lo), word);
                    let answer = self.probe(over(other, lo), word);
                    self.after(answer, begun);
                }
            }
        }
    }

    /// Who is served has to be answered.
    fn served(&mut self, host: &Situation) {
        self.need("answers of this host's services do not get out", OUT);
        for family in Family::ALL.into_iter().filter(|f| host.speaks.get(*f as usize) == Some(&true)) {
            for link in links(host) {
                let (question, answer) = ((50_000, 443), (443, 50_000));
                let begun = self.probe(over(packet(In, family, TCP, question, NEW), link), "");
                let at = self.probe(over(packet(Out, family, TCP, answer, ESTABLISHED), link), SAME);
                self.after(at, begun);
            }
        }
    }

    fn session(&mut self, ssh: &SshSession, now: Wall) {
        let ((peer, from), (here, port)) = (ssh.peer, ssh.here);
        let family = Family::of(&peer);
        // The daemon of SSH is root's. Days and times are those of now.
        let (day, time) = ((now.0 / 86_400 + 4) % 7, now.0 % 86_400);
        let known = [(Field::Uid, 0), (Field::Gid, 0), (Field::Day, day), (Field::Time, time)];
        let known = known.map(|(field, number)| (field, Some(u128::from(number))));
        let to = |direction, state| {
            let (addrs, ports) = if direction == Out {
                ((here, Some(peer)), (port, from))
            } else {
                ((Some(peer), here), (from, port))
            };
            let packet = Packet { addrs, ..packet(direction, family, TCP, ports, state) };
            over(with(packet, &known), ssh.link)
        };
        let addr = [peer.to_string(), " to port ".to_owned(), port.to_string()].concat();
        let mut needs = Vec::new();
        for (direction, state, what) in [
            (Pre, NEW, "a nat statement sends new SSH sessions elsewhere that come from "),
            (In, NEW, "no new SSH session gets in from "),
            (In, ESTABLISHED, "the SSH session that runs is cut off, from "),
            (Out, ESTABLISHED, "what this host answers does not get out to the SSH session from "),
        ] {
            self.need(&[what, &addr].concat(), "that is where you are logged in from");
            needs.push(self.probe(to(direction, state), SAME));
            self.lock_out();
        }
        // Only one thing is said of what comes in.
        if let [pre, new, running, _] = needs[..] {
            self.after(new, pre);
            self.after(running, new);
        }
    }

    /// Whoever is behind one port of a bridge has to find who is behind another.
    fn frames(&mut self) {
        let all = [
            (
                "ARP does not pass the bridge, so IPv4 between its ports will not work",
                "rule dir=bridge action=accept proto=all ether=arp",
                (Family::V4, 0, 0x0806, &[None][..]),
            ),
            (
                "neighbour discovery does not pass the bridge, so IPv6 between its ports will not work",
                "rule dir=bridge action=accept proto=icmp6 icmp=nd",
                (Family::V6, ICMP6, 0x86dd, &[Some(135), Some(136)]),
            ),
        ];
        for (what, hint, (family, proto, ether, types)) in all {
            self.need(what, hint);
            for icmp in types {
                let frame = packet(Direction::Bridge, family, proto, (0, 0), UNTRACKED);
                self.probe(Packet { icmp: *icmp, ..with(frame, &[(Field::Ether, Some(ether))]) }, SAME);
            }
        }
    }

    fn lock_out(&mut self) {
        if let Some(need) = self.needs.last_mut() {
            need.locks_out = true;
        }
    }

    fn forwarded(&mut self, host: &Situation) {
        for Behind { link, addr } in &host.behind {
            let family = Family::of(addr);
            let what =
                ["this host forwards for ", link.as_str(), ", but nothing passes between that and the rest"];
            self.need(&what.concat(), "rule dir=fwd action=accept proto=all, with iif= and oif=");
            for up in links(host) {
                let (question, answer) = ((50_000, 443), (443, 50_000));
                let mut out = packet(Fwd, family, TCP, question, NEW);
                (out.links, out.addrs.0) = ((Some(*link), up), Some(beside(*addr)));
                let mut back = packet(Fwd, family, TCP, answer, ESTABLISHED);
                (back.links, back.addrs.1) = ((up, Some(*link)), Some(beside(*addr)));
                self.probe(out, "what goes out");
                self.probe(back, "answers");
            }
        }
    }
}

/// The word of a need that has only one.
const SAME: &str = "-";
const OUT: &str = "rule dir=out action=accept proto=all ct=established,related";

/// The links over which the host speaks with the rest of the world; one that is not known, if there is none.
fn links(host: &Situation) -> Vec<Option<IfName>> {
    if host.uplinks.is_empty() { vec![None] } else { host.uplinks.iter().copied().map(Some).collect() }
}

/// Another address of a network.
fn beside(addr: IpAddr) -> IpAddr {
    match addr {
        IpAddr::V4(v4) => Ipv4Addr::from(u32::from(v4) ^ 2).into(),
        IpAddr::V6(v6) => Ipv6Addr::from(u128::from(v6) ^ 2).into(),
    }
}
