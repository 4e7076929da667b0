//! Any bytes as a set, its elements, a rule's expressions and its user data: no panic, and what is exported
//! of them is a rule set without errors, free of control characters.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mef::base::range::Family;
use mef::firewall::listing::{rule, sets};
use mef::plan::listed::{Base, Chain, Table};
use mef::plan::{Direction, Policy};
use mef::ruleset::{canonical, export};

fuzz_target!(|data: &[u8]| {
    let [kind, a, b, c, data @ ..] = data else { return };
    let (message, data) = data.split_at(usize::from(*a).min(data.len()));
    let (elements, data) = data.split_at(usize::from(*b).min(data.len()));
    let (userdata, expressions) = data.split_at(usize::from(*c).min(data.len()));
    let family = [None, Some(Family::V4), Some(Family::V6)][usize::from(*kind % 3)];
    let ours = *kind & 64 != 0;
    let (mut table, mut used) = (Table { title: "inet \
        t".into(), family, ours, ..Table::default() }, Vec::new());
    let mut known: Vec<sets::Listed> = sets::set(message, b"t", ours).into_iter().collect();
    for set in &mut known {
        sets::elements(elements, set);
        sets::finish(set);
        if !set.anonymous() {
            match sets::named(set, ours, &mut used) {
                Ok(made) => table.sets.push(made),
                Err(why) => table.unsaid.push((sets::title(set, "inet t"), why)),
            }
        }
    }
    let context = rule::Context { family, sets: &known, interface: |_| None };
    let listed = rule::read(&context, expressions, userdata);
    for (name, base) in [
        ("input", Base::Filter(Direction::In, 0, Policy::Drop)),
        ("output", Base::Filter(Direction::Out, 0, Policy::Accept)),
        ("a", Base::None),
    ] {
        let rules = vec![listed.clone(), listed.clone()];
        table.chains.push(Chain { name: name.into(), base, rules });
    }
    let all = export::all(&mut [table]);
    let text = all.lines.iter().map(|line| line.clone() + "\n").collect::<String>();
    assert!(all.lines.iter().all(|line| !line.chars().any(char::is_control)), "{text:?}");
    assert!(canonical(text.as_bytes()).is_ok(), "{text}");
});
