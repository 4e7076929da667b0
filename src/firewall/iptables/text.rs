#![forbid(unsafe_code)]
//! The rules, as `iptables-restore` reads them. All that they ask is sets, so that no ban needs a rule.

use super::packets::Class;
use crate::ban::{Capabilities, Capability, Options, Reach, Scope};
use crate::base::name::Name;
use crate::base::range::Family;
use crate::firewall::guard::SetKind;
use std::fmt::Write as _;

/// What all of our sets and chains begin with.
pub(super) const PREFIX: &str = "mef_";
/// Whom the gate asks for; those who are banned for everything are asked before it.
const GATE: &str = "mef_gate";
/// What becomes of packets of whom is banned.
const HIT: &str = "mef_hit";
/// The sets that count dropped packets.
pub(super) const DROPS: &str = "drops";
/// The empty sets that jumps to the gate ask.
pub(super) const GATES: &str = "gates";
/// Tables, and the chains of the kernel in them: before connection tracking; behind it; where packets can be
/// refused, and are known to be for this host or others.
const PLACES: [(&str, &[&str], &str); 5] = [
    ("raw", &["PREROUTING"], "prerouting raw, before connection tracking"),
    ("mangle", &["PREROUTING"], "prerouting mangle, after connection tracking"),
    ("filter", &["INPUT", "FORWARD"], "input and forward, after connection tracking"),
    ("filter", &["INPUT"], "input, after connection tracking"),
    ("filter", &["FORWARD"], "forward, after connection tracking"),
];
/// Ports that one rule can ask for; a range counts twice.
const MULTIPORT_MAX: usize = 15;
/// Bytes of the text before what is logged, and packets a second that can be counted.
const LOG_PREFIX_MAX: usize = 28;
const LIMIT_MAX: u32 = 10_000;

/// What there is to be asked.
pub(super) struct Plan<'p> {
    pub(super) options: &'p Options,
    /// The sets of bans of some ports.
    pub(super) scopes: &'p [(Scope, SetKind)],
    pub(super) lacks: Capabilities,
    /// Which of [`PLACES`].
    pub(super) place: usize,
    /// The kinds of sources that are banned for bare packets.
    pub(super) bare: &'p [Class],
}

/// Jumps of ours that are there: to what is done with banned packets, and to the gate.
pub(super) type Jumps = [usize; 2];

/// A set's name in the kernel.
pub(super) fn set_name(name: Name) -> String {
    [PREFIX, name.as_str()].concat()
}

/// Likewise, of one that there is of each family.
pub(super) fn family_name(base: &str, family: Family) -> String {
    let digit = if family == Family::V4 { "4" } else { "6" };
    [PREFIX, base, digit].concat()
}

/// What of ours goes away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Removal {
    /// What leads to our chains.
    Jumps,
    /// That and the chains.
    Everything,
}

/// The places that will do, by their numbers, the best first: not every kernel has all tables.
pub(super) fn places(options: &Options) -> &'static [usize] {
    match options.reach {
        Reach::HostAndForward if options.reject => &[2],
        Reach::HostAndForward => &[0, 1],
        Reach::Host => &[3],
        Reach::Forward => &[4],
    }
}

/// A place, for people.
pub(super) fn words(place: usize) -> &'static str {
    PLACES.get(place).map_or("", |(.., words)| words)
}

/// What changes nothing of the table of a place.
pub(super) fn nothing(place: usize) -> String {
    ["*", table_of(place), "\nCOMMIT\n"].concat()
}

/// The table of a place.
pub(super) fn table_of(place: usize) -> &'static str {
    PLACES.get(place).map_or("raw", |(table, ..)| table)
}

/// How often our jumps of each kind stand at a place, and whether two places are in one table.
pub(super) fn hooks_of(place: usize) -> usize {
    PLACES.get(place).map_or(1, |(_, hooks, _)| hooks.len())
}

pub(super) fn share_table(one: usize, other: usize) -> bool {
    table_of(one) == table_of(other)
}

impl Plan<'_> {
    /// The chains of the kernel from which we are jumped to.
    fn hooks(&self) -> &'static [&'static str] {
        PLACES.get(self.place).map_or(&[], |(_, hooks, _)| hooks)
    }

    /// All rules of a family in place of those that are there, in one go.
    pub(super) fn rules(&self, family: Family, jumps: Jumps) -> String {
        let mut text = self.begin();
        let _ = write!(text, ":{HIT} - [0:0]\n:{GATE} - [0:0]\n");
        self.drop_jumps(&mut text, family, jumps);
        self.hit(&mut text, family);
        let lookups = |text: &mut String, wanted: SetKind| {
            for (scope, _) in self.scopes.iter().filter(|(_, kind)| *kind == wanted) {
                scope_rules(text, "-A mef_gate", scope, wanted, family);
            }
        };
        lookups(&mut text, SetKind::Hosts);
        let ask = |text: &mut String, set: &str| {
            let _ = writeln!(text, "-A {GATE} -m set --match-set {set} src -j {HIT}");
        };
        for class in self.bare {
            let _ = writeln!(
                text,
                "-A {GATE} -p tcp -m tcp --tcp-flags RST,ACK NONE -m set --match-set mef_scan_ban{class} src \
                -j {HIT}"
            );
        }
        ask(&mut text, &family_name("deny", family));
        // What no packet of a connection that is there pays for.
        let _ = writeln!(text, "-A {GATE} -p tcp ! --syn -j RETURN");
        ask(&mut text, &set_name(Scope::ALL.set(SetKind::Networks, family)));
        lookups(&mut text, SetKind::Networks);
        ask(&mut text, &family_name("denynet", family));
        for hook in self.hooks() {
            for jump in [gate(family), first(family)] {
                let _ = writeln!(text, "-I {hook} 1 {jump}");
            }
        }
        text + "COMMIT\n"
    }

    /// Takes our rules away.
    pub(super) fn none(&self, family: Family, jumps: Jumps, removal: Removal) -> String {
        let mut text = self.begin();
        self.drop_jumps(&mut text, family, jumps);
        for option in ["-F", "-X"].into_iter().filter(|_| removal == Removal::Everything) {
            let _ = write!(text, "{option} {GATE}\n{option} {HIT}\n");
        }
        text + "COMMIT\n"
    }

    /// Takes jumps of ours away one by one, each text one of a chain of the kernel.
    pub(super) fn single_jumps(&self, family: Family) -> impl Iterator<Item = String> {
        let jumps =
            self.hooks().iter().flat_map(move |hook| [first(family), gate(family)].map(|j| (hook, j)));
        let begin = self.begin();
        jumps.map(move |(hook, jump)| format!("{begin}-D {hook} {jump}\nCOMMIT\n"))
    }

    /// The rules of one more scope, before those that are there.
    pub(super) fn scope(&self, family: Family, scope: &Scope, kind: SetKind) -> String {
        let mut text = self.begin();
        scope_rules(&mut text, "-I mef_gate 1", scope, kind, family);
        text + "COMMIT\n"
    }

    fn begin(&self) -> String {
        ["*", table_of(self.place), "\n"].concat()
    }

    fn drop_jumps(&self, text: &mut String, family: Family, [hits, gates]: Jumps) {
        for hook in self.hooks() {
            (0..hits).for_each(|_| {
                let _ = writeln!(text, "-D {hook} {}", first(family));
            });
            (0..gates).for_each(|_| {
                let _ = writeln!(text, "-D {hook} {}", gate(family));
            });
        }
    }

    fn hit(&self, text: &mut String, family: Family) {
        let allow = family_name("allow", family);
        let _ = writeln!(text, "-A {HIT} -m set --match-set {allow} src -j RETURN");
        if let Some(log) = self.options.log.as_ref().filter(|_| !self.lacks.has(Capability::DropLog)) {
            let (rate, burst) = (log.rate.min(LIMIT_MAX), log.burst.min(LIMIT_MAX));
            let _ = writeln!(
                text,
                "-A {HIT} -m limit --limit {rate}/second --limit-burst {burst} -j LOG --log-level {} \
                --log-prefix \"{}\"",
                log.level,
                log_prefix(&log.prefix.to_string_lossy())
            );
        }
        // It matches everything, and leads nowhere.
        let _ = writeln!(text, "-A {HIT} -m set --match-set {} src", family_name(DROPS, family));
        if self.options.reject {
            let icmp = match family {
                Family::V4 => "icmp-port-unreachable",
                Family::V6 => "icmp6-port-unreachable",
            };
            let _ = writeln!(text, "-A {HIT} -p tcp -j REJECT --reject-with tcp-reset");
            let _ = writeln!(text, "-A {HIT} -j REJECT --reject-with {icmp}");
        } else {
            let _ = writeln!(text, "-A {HIT} -j DROP");
        }
    }
}

/// The rule that comes first: who is banned for everything. While it is there, the set has one reference more
/// than without.
fn first(family: Family) -> String {
    let set = set_name(Scope::ALL.set(SetKind::Hosts, family));
    format!("-m set --match-set {set} src -j {HIT}")
}

/// The rule behind it. What it asks holds nothing: it has as many references as there are such rules.
fn gate(family: Family) -> String {
    format!("-m set ! --match-set {} src -j {GATE}", family_name(GATES, family))
}

/// What may stand between quotes.
fn log_prefix(text: &str) -> String {
    let plain = text.chars().map(|c| if matches!(c, '"' | '\\') || c.is_control() { '\'' } else { c });
    let mut short = String::new();
    for c in plain {
        if short.len() + c.len_utf8() > LOG_PREFIX_MAX {
            break;
        }
        short.push(c);
    }
    short
}

fn scope_rules(text: &mut String, begin: &str, scope: &Scope, kind: SetKind, family: Family) {
    let set = set_name(scope.set(kind, family));
    let transports = scope.transports();
    let (tcp, udp) = (transports.has_tcp(), transports.has_udp());
    for protocol in [("tcp", tcp), ("udp", udp)].into_iter().filter_map(|(word, on)| on.then_some(word)) {
        let mut rest = scope.ports();
        while !rest.is_empty() {
            let mut slots = 0;
            let fits = |(from, to): &&(u16, u16)| {
                slots += if from == to { 1 } else { 2 };
                slots <= MULTIPORT_MAX
            };
            let count = rest.iter().take_while(fits).count().max(1);
            let (ports, more) = rest.split_at(count);
            let _ = write!(text, "{begin} -p {protocol} -m multiport --dports ");
            for (at, (from, to)) in ports.iter().enumerate() {
                let _ = write!(text, "{}{from}", if at > 0 { "," } else { "" });
                if to > from {
                    let _ = write!(text, ":{to}");
                }
            }
            let _ = writeln!(text, " -m set --match-set {set} src -j {HIT}");
            rest = more;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ban::Transports;

    #[test]
    fn the_allow_list_is_asked_before_anything_is_done() {
        let mut options = Options::default();
        let scopes = [(Scope::new(vec![(22, 22), (80, 90)], Transports::Tcp), SetKind::Hosts)];
        let log = options.log.as_mut().unwrap();
        log.prefix = c"a \"word\" and a tail that is too long".into();
        let plan =
            Plan { options: &options, scopes: &scopes, lacks: Capabilities::NONE, place: 0, bare: &['4'] };
        let text = plan.rules(Family::V4, [1, 0]);
        let want = "*raw\n:mef_hit - [0:0]\n:mef_gate - [0:0]\n\
            -D PREROUTING -m set --match-set mef_ban4 src -j mef_hit\n\
            -A mef_hit -m set --match-set mef_allow4 src -j RETURN\n\
            -A mef_hit -m limit --limit 1/second --limit-burst 5 -j LOG --log-level 4 \
            --log-prefix \"a 'word' and a tail that is \"\n\
            -A mef_hit -m set --match-set mef_drops4 src\n\
            -A mef_hit -j DROP\n\
            -A mef_gate -p tcp -m multiport --dports 22,80:90 -m set --match-set mef_ban_t22_80.90_4 src \
            -j mef_hit\n\
            -A mef_gate -p tcp -m tcp --tcp-flags RST,ACK NONE -m set --match-set mef_scan_ban4 src \
            -j mef_hit\n\
            -A mef_gate -m set --match-set mef_deny4 src -j mef_hit\n\
            -A mef_gate -p tcp ! --syn -j RETURN\n\
            -A mef_gate -m set --match-set mef_bannet4 src -j mef_hit\n\
            -A mef_gate -m set --match-set mef_denynet4 src -j mef_hit\n\
            -I PREROUTING 1 -m set ! --match-set mef_gates4 src -j mef_gate\n\
            -I PREROUTING 1 -m set --match-set mef_ban4 src -j mef_hit\n\
            COMMIT\n";
        let got = text.replace(&set_name(scopes[0].0.set(SetKind::Hosts, Family::V4)), "mef_ban_t22_80.90_4");
        assert_eq!(got, want);
    }

    #[test]
    fn many_ports_are_several_rules() {
        let ports: Vec<(u16, u16)> = (0..10).map(|n| (n * 10, n * 10 + 1)).collect();
        let mut text = String::new();
        scope_rules(&mut text, "-A x", &Scope::new(ports, Transports::Both), SetKind::Hosts, Family::V6);
        assert_eq!(text.lines().count(), 4, "{text}");
        for line in text.lines() {
            assert!(line.matches(':').count() * 2 <= MULTIPORT_MAX, "{line}");
        }
    }
}
