#![forbid(unsafe_code)]
//! What is allowed and yet probably not meant: rules that can never match, sets that nobody uses, a host that
//! cuts itself off. Knows the host only as far as it is told.

use super::ast::{Address, InterfaceList, Port, RuleStatement, StatementPlace, proto};
use super::extra;
use super::needs::{self, Situation, Unmet};
use super::shadow::{ShadowingRules, short};
use super::{RuleSet, Trees, full};
use crate::base::diag::{Problem, Severity};
use crate::base::name::IfName;
use crate::base::range::Family;
use crate::plan::Direction;

/// What a rule set is checked against.
pub struct Host<'a> {
    /// Whether there is an interface of this name.
    pub has_interface: &'a dyn Fn(&str) -> bool,
    /// What has to pass here.
    pub situation: &'a Situation,
}

/// All warnings; and why the rule set locks out the SSH session of this host, if it is known to. Rules are
/// compared with each other if the rule set has all of them as trees.
#[must_use]
pub fn warnings(set: &RuleSet, host: &Host<'_>) -> (Vec<(u16, Problem)>, Option<String>) {
    let mut found = Vec::new();
    let mut used = vec![false; set.sets.len()];
    let mut asked = Vec::new();
    let mut seen = ShadowingRules::new(set);
    let mut rules = 0;
    let mut fragments = Fragments::default();
    let unmet = needs::unmet(set, host.situation, &mut |place, rule| {
        let number = rules;
        rules += 1;
        fragments.look(place, rule);
        if full(&mut found, place.file, Severity::Warning) {
            return;
        }
        mark_used(set, rule, &mut used);
        missing_interfaces(set, host, place, rule, &mut asked, &mut found);
        if has_no_type(rule) {
            let what = "this rule can never match: its protocol has none of these types".to_owned();
            let hint = "neighbour discovery and packet-too-big are proto=icmp6";
            found.push((place.file, set.mark(place, Severity::Warning, "icmp", what, hint)));
        }
        if set.trees == Trees::All {
            let short = short(number, rule);
            if let Some(cover) = seen.cover(&short, rule) {
                let what = ["this rule can never match: ", &set.place(cover), " takes all of it"].concat();
                let hint = "remove one of them, or change their order";
                found.push((place.file, set.mark(place, Severity::Warning, "", what, hint)));
            }
            seen.add(short);
        }
    });
    drop(seen);
    fragments.warn(set, &mut found);
    let locks_out = unmet.iter().find(|unmet| unmet.locks_out).map(|unmet| unmet.what.clone());
    rest(set, (&used, unmet), &mut found);
    (found, locks_out)
}

/// Sets that nobody uses, and what the host needs and has not.
fn rest(set: &RuleSet, (used, unmet): (&[bool], Vec<Unmet>), found: &mut Vec<(u16, Problem)>) {
    for ((place, named), _) in set.sets.iter().zip(used).filter(|(_, used)| !**used) {
        if full(found, place.file, Severity::Warning) {
            return;
        }
        let what = ["no rule uses the set ", named.name.as_str()].concat();
        found.push((place.file, set.mark(*place, Severity::Warning, "name", what, "")));
    }
    for Unmet { direction, what, hint, .. } in unmet {
        found.push(match set.policies.get(direction as usize).copied().flatten() {
            Some((at, _)) => (at.file, set.mark(at, Severity::Warning, "action", what, hint)),
            None => (0, Problem::whole(Severity::Warning, what, hint.to_owned())),
        });
    }
}

/// Item of `exthdr=` for a fragment.
const FRAGMENT: (u64, u64) = (44, 44);

/// Rules that ask for fragments of IPv6, of packets and of frames, and whether connections are tracked there:
/// the kernel puts fragments together before it looks for the connection.
#[derive(Default)]
struct Fragments {
    asked: [Vec<StatementPlace>; 2],
    tracked: [bool; 2],
}

impl Fragments {
    #[inline(never)]
    fn look(&mut self, place: StatementPlace, rule: &RuleStatement) {
        let at = usize::from(rule.dir == Direction::Bridge);
        let asks = rule.extra(extra::at::EXTHDR).is_some_and(|e| !e.not && e.items.contains(&FRAGMENT));
        if let Some(asked) = self.asked.get_mut(at).filter(|_| asks) {
            asked.push(place);
        }
        let translates = rule.dir.is_nat() || rule.action.is_nat();
        if let Some(tracked) = self.tracked.get_mut(at) {
            *tracked |= rule.ct != 0 || translates || rule.extra(extra::at::CONNS).is_some();
        }
    }

    #[inline(never)]
    fn warn(&self, set: &RuleSet, found: &mut Vec<(u16, Problem)>) {
        let asked = self.asked.iter().zip(self.tracked).filter(|(_, tracked)| *tracked);
        for place in asked.flat_map(|(asked, _)| asked) {
            if full(found, place.file, Severity::Warning) {
                return;
            }
            let what = "this rule can never match: fragments have been put together before".to_owned();
            let hint = "the kernel does so where rules ask for ct or conns, or translate";
            found.push((place.file, set.mark(*place, Severity::Warning, "exthdr", what, hint)));
        }
    }
}

/// Whether a rule asks for types of ICMP that are none of its protocols.
fn has_no_type(rule: &RuleStatement) -> bool {
    let protocol = |family| if family == Family::V6 { &proto::ICMP6 } else { &proto::ICMP };
    let is_of = |family| rule.proto.numbers().contains(protocol(family));
    rule.extra(extra::at::ICMP).filter(|extra| !extra.not).is_some_and(|extra| {
        let is = |item, family| is_of(family) && !extra::icmp_types(item, family).is_empty();
        extra.items.iter().all(|item| !Family::ALL.into_iter().any(|family| is(*item, family)))
    })
}

fn mark_used(set: &RuleSet, rule: &RuleStatement, used: &mut [bool]) {
    let addresses = rule.src.iter().chain(&rule.dst);
    let ports = rule.rare.sport.iter().chain(&rule.dport);
    let addresses = addresses.filter_map(|a| if let Address::Set(name) = a { Some(name) } else { None });
    let ports = ports.filter_map(|p| if let Port::Set(name) = p { Some(name) } else { None });
    let links = [&rule.iif, &rule.oif].into_iter();
    let links = links.filter_map(|l| if let InterfaceList::Set(_, name) = l { Some(name) } else { None });
    for name in addresses.chain(ports).chain(links) {
        if let Some(slot) = set.position(name).ok().and_then(|i| used.get_mut(i)) {
            *slot = true;
        }
    }
}

fn missing_interfaces(
    set: &RuleSet,
    host: &Host<'_>,
    place: StatementPlace,
    rule: &RuleStatement,
    asked: &mut Vec<IfName>,
    found: &mut Vec<(u16, Problem)>,
) {
    for (key, list) in [("iif", &rule.iif), ("oif", &rule.oif)] {
        let InterfaceList::Names { names, .. } = list else { continue };
        for name in names {
            // Every network has its loopback.
            if name.as_str() == "lo" || name.wildcard().is_some() || asked.contains(name) {
                continue;
            }
            asked.push(*name);
            if !(host.has_interface)(name.as_str()) {
                let what = ["there is no interface ", name.as_str(), " now"].concat();
                let hint = "the rule matches when it comes up";
                found.push((place.file, set.mark(place, Severity::Warning, key, what, hint)));
            }
        }
    }
}
