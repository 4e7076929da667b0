//! Any bytes as a set, its elements, a rule's expressions and its user data: no panic, and what is exported
//! of them is a rule set without errors, free of control characters.

use mef::base::range::Family;
use mef::firewall::listing::{rule, sets};
use mef::plan::listed::{ChainBase, ListedChain, ListedTable};
use mef::plan::{Direction, Policy, TableOf};
use mef::ruleset::{canonical, export};
use mef::sys::nlattr::MsgBuf;

/// A set with a name, a type and a key, and an expression: as netlink writes such things.
pub fn seeds() -> Vec<Vec<u8>> {
    let mut set = MsgBuf::default();
    set.attr_str(1, "t");
    set.attr_str(2, "s");
    [(3, 0), (4, 7), (5, 4)].iter().for_each(|(kind, value)| set.attr_be32(*kind, *value));
    let mut rule = MsgBuf::default();
    let elem = rule.nest(1);
    rule.attr_str(1, "immediate");
    let data = rule.nest(2);
    rule.attr_be32(1, 0);
    let verdict = rule.nest(2);
    rule.attr_be32(1, 1);
    [verdict, data, elem].into_iter().for_each(|open| rule.end(open));
    let lengths = [64, u8::try_from(set.len()).unwrap(), 0, 0];
    vec![[&lengths[..], set.bytes(), rule.bytes()].concat()]
}

/// What has to hold of any bytes.
pub fn run(data: &[u8]) {
    let [kind, a, b, c, data @ ..] = data else { return };
    let (message, data) = data.split_at(usize::from(*a).min(data.len()));
    let (elements, data) = data.split_at(usize::from(*b).min(data.len()));
    let (userdata, expressions) = data.split_at(usize::from(*c).min(data.len()));
    let family = [None, Some(Family::V4), Some(Family::V6)][usize::from(*kind % 3)];
    let ours = *kind & 64 != 0;
    let owner = if ours { sets::SetOwner::Ours } else { sets::SetOwner::Others };
    let (mut table, mut used) =
        (ListedTable { title: "inet t".into(), family, ours, ..ListedTable::default() }, Vec::new());
    let mut known: Vec<sets::ListedSet> = sets::set(message, b"t", owner).into_iter().collect();
    for set in &mut known {
        sets::elements(elements, set);
        sets::finish(set);
        if !set.anonymous() {
            match sets::named(set, owner, &mut used) {
                Ok(set) => table.sets.push(set),
                Err(why) => table.unsaid.push((sets::title(set, "inet t"), why)),
            }
        }
    }
    let of = if ours { TableOf::Packets } else { TableOf::Frames };
    let context = rule::Context { family, of, sets: &known, interface: |_| None };
    let listed = rule::read(&context, expressions, userdata);
    for (name, base) in [
        ("input", ChainBase::Filter(Direction::In, 0, Policy::Drop)),
        ("output", ChainBase::Filter(Direction::Out, 0, Policy::Accept)),
        ("a", ChainBase::None),
    ] {
        let rules = vec![listed.clone(), listed.clone()];
        table.chains.push(ListedChain { name: name.into(), base, rules });
    }
    let all = export::all(&mut [table]);
    let text = all.lines.iter().map(|line| line.clone() + "\n").collect::<String>();
    assert!(all.lines.iter().all(|line| !line.chars().any(char::is_control)), "{text:?}");
    assert!(canonical(text.as_bytes()).is_ok(), "{text}");
}
