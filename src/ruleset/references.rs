#![forbid(unsafe_code)]
//! The sets that rules name: whether there are such sets, and whether they hold what the rules ask for.

use super::RuleSet;
use super::ast::{Action, Address, InterfaceList, Port, RuleStatement, SetElements, StatementPlace};
use crate::base::diag::{Problem, Severity};
use crate::base::name::Name;
use crate::plan::Direction;

impl RuleSet {
    /// What is wrong with the sets that a rule names.
    pub(super) fn references(
        &self,
        place: StatementPlace,
        rule: &RuleStatement,
        problems: &mut Vec<(u16, Problem)>,
    ) {
        let mut named: Vec<(&str, &Name)> = Vec::new();
        for (key, list) in [("src", &rule.src), ("dst", &rule.dst)] {
            named.extend(
                list.iter().filter_map(|a| if let Address::Set(name) = a { Some((key, name)) } else { None }),
            );
        }
        for (key, list) in [("sport", &*rule.rare.sport), ("dport", &*rule.dport)] {
            named.extend(
                list.iter().filter_map(|p| if let Port::Set(name) = p { Some((key, name)) } else { None }),
            );
        }
        for (key, list) in [("iif", &rule.iif), ("oif", &rule.oif)] {
            if let InterfaceList::Set(_, name) = list {
                named.push((key, name));
            }
        }
        if let Action::Add(name, _) = &rule.action {
            named.push(("action", name));
        }
        let kind = |elements: &SetElements| match elements {
            SetElements::Ports(_) => "ports",
            SetElements::Interfaces(_) => "interfaces",
            SetElements::Addresses(_) | SetElements::Listed(_) | SetElements::Dynamic => "addresses",
        };
        for (key, name) in named {
            let wanted = match key {
                "src" | "dst" | "action" => "addresses",
                "iif" | "oif" => "interfaces",
                _ => "ports",
            };
            let (what, hint) = match self.set(name) {
                None => ("there is no set ".to_owned(), "expected the name of a set statement"),
                Some(set) => match (kind(&set.elements), set.family, rule.only_family()) {
                    (found, ..) if found != wanted => {
                        ([found, ", not ", wanted, ", are in the set "].concat(), "")
                    }
                    _ if rule.dir == Direction::Bridge && set.elements == SetElements::Dynamic => {
                        ("rules for packets fill the set ".to_owned(), "name another one for frames")
                    }
                    _ if key == "action" && set.elements != SetElements::Dynamic => {
                        ("a set with elements of its own is ".to_owned(), "rename one: rules fill it alone")
                    }
                    (_, Some(a), Some(b)) if a != b => {
                        ("the rule is of another family than the set ".to_owned(), "")
                    }
                    _ => continue,
                },
            };
            let what = [what.as_str(), name.as_str()].concat();
            insert(problems, place.file, self.mark(place, Severity::Error, key, what, hint));
        }
        if no_family_left(self, rule) {
            let what = "source and destination have no family in common".to_owned();
            problems.push((
                place.file,
                self.mark(place, Severity::Error, "dst", what, "the rule can never match"),
            ));
        }
    }
}

/// Adds a problem where its line has its place among those of its file.
fn insert(problems: &mut Vec<(u16, Problem)>, file: u16, problem: Problem) {
    let behind = problems.iter().position(|(f, p)| *f == file && p.line > problem.line);
    problems.insert(behind.unwrap_or(problems.len()), (file, problem));
}

/// Whether source and destination exclude each other.
fn no_family_left(set: &RuleSet, rule: &RuleStatement) -> bool {
    let [src, dst] = set.both_families(rule);
    !src.iter().zip(dst).any(|(&a, b)| a && b)
}
