#![forbid(unsafe_code)]
//! Keys of a rule that do not go together.

use super::StatementReader;
use crate::base::diag::Bad;
use crate::base::range::Family;
use crate::plan::{Direction, ct};
use crate::ruleset::ast::{Action, Address, InterfaceList, Protos, RuleStatement};
use crate::ruleset::extra::{self, at};
use crate::ruleset::words::{family_word, key};

/// Said of what is not for frames, and of refusing one.
pub(super) const NO_BRIDGE: &str = " does not go with dir=bridge";
pub(super) const NO_ANSWER: &str = "a bridge answers nobody: drop";
const PORTS: &str = "expected proto=tcp or proto=udp";

impl StatementReader<'_, '_> {
    /// Keys that do not go together.
    pub(super) fn fits(&mut self, rule: &RuleStatement) {
        self.misfits(&basics(rule));
        let family = rule.only_family();
        for (key, list) in [(key::SRC, &rule.src), (key::DST, &rule.dst)] {
            let other = |a: &&Address| matches!((a, family), (Address::Range(r), Some(f)) if r.family() != f);
            if let (Some(Address::Range(range)), Some(pair)) = (list.iter().find(other), self.find(key)) {
                let what = [range.to_string().as_str(), " is not of family ", family_word(family)].concat();
                self.bad(&pair, *Bad::new(0..pair.value().len(), what, "addresses of the rule's family"));
            }
        }
    }

    /// Says what does not fit.
    fn misfits(&mut self, all: &[Misfit]) {
        for wrong in all.iter().filter(|misfit| misfit.is) {
            if let Some(pair) = self.find(wrong.key) {
                self.key_wrong(&pair, wrong.what, wrong.hint);
            }
        }
    }

    /// Keys of the table that miss what they need, and actions that do.
    pub(super) fn fits_more(&mut self, rule: &RuleStatement) {
        for extra in &rule.rare.extras {
            let row = extra::ROWS.get(usize::from(extra.row));
            if let (Some((what, hint)), Some(pair)) =
                (row.and_then(|row| row.missing(rule)), self.find(key::EXTRA + usize::from(extra.row)))
            {
                self.key_wrong(&pair, what, hint);
            }
        }
        // Of most rules only a few of these can be wrong.
        let more = !rule.rare.extras.is_empty();
        if rule.action.is_nat() || rule.dir.is_nat() || rule.rare.to.is_some() {
            self.misfits(&translation(rule));
        }
        if rule.rare.limit.is_some() || more || rule.action == Action::Return {
            self.misfits(&bounds(rule));
        }
        if rule.dir == Direction::Bridge || more {
            self.misfits(&frames(rule));
        }
        if matches!(rule.action, Action::Snat | Action::Dnat) && rule.rare.to.is_none() {
            self.required(key::TO);
        }
        if rule.action == Action::Log && rule.rare.log.is_none() {
            self.required(key::LOG);
        }
    }
}

/// A value that does not go with others of its rule.
struct Misfit {
    key: usize,
    is: bool,
    what: &'static str,
    hint: &'static str,
}

const fn misfit(key: usize, is: bool, what: &'static str, hint: &'static str) -> Misfit {
    Misfit { key, is, what, hint }
}

/// What does not go with the direction or the protocol, or misses what it bounds.
fn basics(rule: &RuleStatement) -> [Misfit; 7] {
    let ports = " needs a protocol with ports";
    let other = rule.family.is_some_and(|f| rule.proto_family().is_some_and(|p| p != f));
    [
        misfit(key::SPORT, !rule.rare.sport.is_empty() && !rule.has_ports(), ports, PORTS),
        misfit(key::DPORT, !rule.dport.is_empty() && !rule.has_ports(), ports, PORTS),
        misfit(
            key::RATELIMIT,
            rule.rare.ratelimit.is_some() && rule.rare.log.is_none(),
            " without log",
            "it limits the logging only; limit= limits packets",
        ),
        misfit(
            key::BURST,
            rule.rare.burst > 0 && rule.rare.limit.is_none(),
            " without limit",
            "add limit=, as in limit=10/m burst=20",
        ),
        misfit(
            key::OIF,
            rule.oif != InterfaceList::Any && !rule.dir.goes_out(),
            " is not known in this direction",
            "where a packet goes out is known with dir=out, dir=fwd and dir=post",
        ),
        misfit(
            key::IIF,
            rule.iif != InterfaceList::Any && !rule.dir.comes_in(),
            " is not known in this direction",
            "where a packet came in is known with dir=in, dir=fwd and dir=pre",
        ),
        misfit(key::FAMILY, other, " contradicts proto", "icmp is IPv4, icmp6 is IPv6"),
    ]
}

/// What does not go with the keys that translate addresses.
fn translation(rule: &RuleStatement) -> [Misfit; 7] {
    let to = rule.rare.to.unwrap_or((None, None));
    let decides = matches!(rule.action, Action::Snat | Action::Masquerade);
    let source = decides && rule.dir != Direction::Post;
    let target = matches!(rule.action, Action::Dnat | Action::Redirect) && rule.dir == Direction::Post;
    let states = rule.ct & (ct::DNAT | ct::SNAT) != 0;
    let known = rule.family.or(rule.proto_family());
    let foreign = known.is_some_and(|f| to.0.is_some_and(|to| to.family() != f));
    let interface = to.0.is_some() && matches!(rule.action, Action::Masquerade | Action::Redirect);
    let direction = " does not go with this direction";
    [
        misfit(
            key::TO,
            foreign,
            " is of another family than the rule",
            "the address is of the rule's family",
        ),
        misfit(key::ACTION, source, direction, "sources are translated in dir=post"),
        misfit(key::ACTION, target, direction, "destinations are translated in dir=pre or dir=out"),
        misfit(
            key::TO,
            rule.rare.to.is_some() && !rule.action.is_nat(),
            " without nat",
            "add action=dnat or the like",
        ),
        misfit(
            key::TO,
            interface,
            " with an address",
            "the interface has the address; only ports are given, as in to=:8080",
        ),
        misfit(
            key::TO,
            to.1.is_some() && !rule.has_ports(),
            " with a port needs a protocol with ports",
            PORTS,
        ),
        misfit(key::CT, states && rule.dir.is_nat(), " with dnat or snat", "nat rules make it so"),
    ]
}

/// Whether an item of `ether=` is the type of a tag: the rules see frames without their outermost one.
fn is_tag(&(first, last): &(u64, u64)) -> bool {
    first == last && matches!(first, 0x8100 | 0x88a8)
}

/// What does not go with frames between ports of a bridge.
fn frames(rule: &RuleStatement) -> [Misfit; 9] {
    let is = rule.dir == Direction::Bridge;
    let kind = |list: &[Address]| is && list.iter().any(|a| matches!(a, Address::Kind(_)));
    let auto = |list: &InterfaceList| is && *list == InterfaceList::Auto;
    let of_ip =
        rule.family.is_some() || rule.proto != Protos::ALL || !rule.src.is_empty() || !rule.dst.is_empty();
    let extra = |row: u8| key::EXTRA + usize::from(row);
    let (bridge, ports, routes) = (NO_BRIDGE, "name ports of the bridge", "a bridge knows no routes");
    [
        misfit(key::ACTION, is && rule.action == Action::Reject, bridge, NO_ANSWER),
        misfit(
            key::ACTION,
            is && matches!(rule.action, Action::Group(_) | Action::Add(..)),
            bridge,
            "groups, and sets that rules fill, are for packets",
        ),
        misfit(key::SRC, kind(&rule.src), bridge, routes),
        misfit(key::DST, kind(&rule.dst), bridge, routes),
        misfit(key::IIF, auto(&rule.iif), bridge, ports),
        misfit(key::OIF, auto(&rule.oif), bridge, ports),
        misfit(extra(at::RPF), is && rule.extra(at::RPF).is_some(), bridge, routes),
        misfit(
            extra(at::ETHER),
            of_ip && rule.extra(at::ETHER).is_some(),
            " with what only IP has",
            "IPv4 is family=ip; ether= stands beside proto=all",
        ),
        misfit(
            extra(at::ETHER),
            rule.extra(at::ETHER).is_some_and(|extra| extra.items.iter().any(is_tag)),
            " with a type of tags",
            "tags are vlan=, as in vlan=0-4095; ether= is what is behind the tag",
        ),
    ]
}

/// Whether a rule is one of the kernel for sure, so that a bound of it needs no chain of its own.
fn is_single(rule: &RuleStatement) -> bool {
    let link = |list: &InterfaceList| match list {
        InterfaceList::Names { not, names } => *not || names.len() == 1,
        _ => matches!(list, InterfaceList::Any | InterfaceList::Every),
    };
    let lists = [rule.src.len(), rule.dst.len(), rule.rare.sport.len(), rule.dport.len()];
    rule.family.is_some()
        && rule.rare.ratelimit.is_none()
        && lists.iter().all(|len| *len < 2)
        && link(&rule.iif)
        && link(&rule.oif)
        && rule.ct & (ct::DNAT | ct::SNAT) == 0
}

/// What does not go with the keys that bound something, or that say where something goes.
fn bounds(rule: &RuleStatement) -> [Misfit; 10] {
    let has = |row: u8| rule.extra(row).is_some();
    let extra = |row: u8| key::EXTRA + usize::from(row);
    let limit = rule.rare.limit.is_some();
    let leaves = rule.action == Action::Return;
    let several = leaves && !is_single(rule);
    let one =
        "what leaves a group is bounded by one rule: family=ip or family=ip6, one address, one interface";
    let kinds = |list: &[Address]| list.iter().any(|a| matches!(a, Address::Kind(_)));
    let (src, dst) = (kinds(&rule.src), kinds(&rule.dst));
    let one_key = "write all kinds in one of them";
    [
        misfit(extra(at::SRC_KIND), src && has(at::SRC_KIND), " beside a kind in src", one_key),
        misfit(extra(at::DST_KIND), dst && has(at::DST_KIND), " beside a kind in dst", one_key),
        misfit(key::ACTION, leaves && rule.rare.group.is_none(), " needs group", "only a group can be left"),
        misfit(key::LIMIT, several && limit, " with action=return", one),
        misfit(extra(at::CONNS), several && has(at::CONNS), " with action=return", one),
        misfit(
            key::RATELIMIT,
            rule.action == Action::Log && limit && rule.rare.ratelimit.is_some(),
            " and limit",
            "with action=log both bound the same",
        ),
        misfit(extra(at::CONNS), has(at::CONNS) && limit, " and limit", "write two rules"),
        misfit(
            extra(at::EXTHDR),
            has(at::EXTHDR) && rule.only_family() == Some(Family::V4),
            " in IPv4",
            "extension headers are of IPv6",
        ),
        misfit(
            extra(at::GROUP),
            has(at::GROUP) && has(at::LEVEL),
            " and log-level",
            "what goes to a group has no level",
        ),
        misfit(
            extra(at::OFFLOAD),
            has(at::OFFLOAD) && rule.action != Action::Count,
            " needs action=count",
            "which packets pass is for the rules behind it to say",
        ),
    ]
}
