#![forbid(unsafe_code)]
//! The chains through which packets come to rule sets, and what in a rule set was refused.

use super::letters::Made;
use super::restore::{self, Via};
use super::ruleset::{HOOKS, Refusal, hook_set, trial_set};
use super::written::{LETTER, TABLES, chain_name};
use crate::ban::Failure;
use crate::base::range::Family;
use nix::errno::Errno;

/// Where packets are to go in a family.
pub(super) struct Lead {
    /// How often the rules of hooks are there.
    pub(super) asked: [u32; HOOKS.len()],
    /// Whether the chain of ours may be there although that is nowhere.
    pub(super) reached: [bool; HOOKS.len()],
    pub(super) now: Option<(char, Made)>,
    pub(super) trial: Option<(char, Made)>,
}

/// The chains that lead to rule sets, in place of those that are there.
pub(super) fn switch_text(family: Family, via: Via, lead: &Lead) -> String {
    let &Lead { asked, reached, now, trial } = lead;
    let mut text = String::new();
    for (nat, table) in TABLES.into_iter().enumerate() {
        let mut part = String::new();
        let hooks = HOOKS.into_iter().zip(asked).enumerate();
        for (dir, ((hook, chain), asked)) in hooks.filter(|(dir, _)| usize::from(*dir > 2) == nat) {
            let set = hook_set(dir, family, via);
            let to = |made: Option<(char, Made)>| {
                let (letter, made) = made?;
                let number = made.base(family, dir)?;
                Some([" -g ", &chain_name(number).replace(LETTER, &String::from(letter)), "\n"].concat())
            };
            let rule = [hook, " -m set ! --match-set ", &set, " src -j ", chain, "\n"].concat();
            let (now, on_trial) = (to(now), to(trial));
            if now.is_none() && on_trial.is_none() {
                if asked > 0 || reached.get(dir) == Some(&true) {
                    part.extend([":", chain, " - [0:0]\n"]);
                    (0..asked).for_each(|_| part.extend(["-D ", &rule]));
                    part.extend(["-X ", chain, "\n"]);
                }
                continue;
            }
            part.extend([":", chain, " - [0:0]\n"]);
            if trial.is_some() {
                let asks = ["-A ", chain, " -m set --match-set ", &trial_set(family), " src"];
                part.extend(asks);
                // What only the previous rules translate, the new ones leave alone.
                part.push_str(on_trial.as_deref().unwrap_or(" -j RETURN\n"));
            }
            now.into_iter().for_each(|now| part.extend(["-A ", chain, &now]));
            (1..asked).for_each(|_| part.extend(["-D ", &rule]));
            if asked == 0 {
                let (first, rest) = rule.split_at(hook.len());
                part.extend(["-I ", first, " 1", rest]);
            }
        }
        if !part.is_empty() {
            text.extend(["*", table, "\n", &part, "COMMIT\n"]);
        }
    }
    text
}

/// The statement of the line that a refusal names.
fn statement(e: &Failure, origins: &[u32]) -> Option<u32> {
    let line = restore::line_of(&e.to_string())?;
    origins.get(line.checked_sub(1)?).copied().filter(|statement| *statement > 0)
}

/// Which statement was refused. The legacy variant names the end of the table alone: then the first half of
/// the rules is tried, a quarter, and so on, in the same chains, to which no packet comes yet.
pub(super) fn blame(e: Failure, (family, via): (Family, Via), text: &str, origins: &[u32]) -> Refusal {
    let named = statement(&e, origins);
    let ends = restore::line_of(&e.to_string())
        .and_then(|line| text.lines().nth(line.checked_sub(1)?))
        .is_some_and(|line| line == restore::COMMIT);
    if named.is_some() || !ends {
        return (named, e);
    }
    let is_rule = |(_, statement): &(&str, &u32)| **statement > 0;
    let count = text.lines().zip(origins).filter(is_rule).count();
    let first = |many: usize| {
        let mut left = many;
        let lines = text.lines().zip(origins).filter(|line| {
            let wanted = !is_rule(line) || left > 0;
            left -= usize::from(is_rule(line) && wanted);
            wanted
        });
        lines.fold(String::new(), |text, (line, _)| text + line + "\n")
    };
    // The fewest that are refused: none of them is only known to be taken once it was tried.
    let (mut low, mut refused, mut why) = (0, count, e);
    while low < refused {
        let many = low.midpoint(refused);
        match restore::restore_via(family, &[first(many)], via) {
            Ok(_) => low = many + 1,
            Err(e) if e.errno() == Errno::EIO => (refused, why) = (many, e),
            // Somebody holds the lock now, or it takes too long.
            Err(_) => return (None, why),
        }
    }
    let mut rules = text.lines().zip(origins).filter(is_rule);
    (refused.checked_sub(1).and_then(|at| rules.nth(at)).map(|(_, statement)| *statement), why)
}
