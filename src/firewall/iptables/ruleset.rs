#![forbid(unsafe_code)]
//! Rule sets in iptables. Each has chains and sets of its own, whose names begin with its letter: all of them
//! are there before a packet comes to the first one, and the switch from one rule set to the next is one rule
//! in each of a few chains that never change their places. What iptables refuses, so changes nothing.
//!
//! A trial has both: the first rule asks a set whose elements have the time of the trial, and leads to the
//! new ones while they are there. They go by themselves, whatever has become of every process by then.

use super::guards::everybody;
use super::restore::{self, Via};
use super::rules::has_ipv6;
use super::switch::{blame, run_switch, switch_text};
use super::written::{LETTER, PREFIX, TABLES, chain_name};
pub use super::written::{Text, Unsaid};
use super::{OURS, OURS_LIST, destroy, elems, is_ours, spec};
use crate::ban::{Doing, Failure};
use crate::base::range::Family;
use crate::firewall::ipset::message::{Command, Elem, Key, SetSpec, Type};
use crate::firewall::ipset::{DoneBefore, Sets};
use nix::errno::Errno;
use std::cell::RefCell;
use std::net::{IpAddr, Ipv4Addr};

/// Which rule sets there are.
const MADE: &str = "mefr_made";
/// Letters of rule sets: of the one in force, of one on trial, of one that is being made, and one to spare.
const LETTERS: [char; 4] = ['a', 'b', 'c', 'd'];
/// The element of [`MADE`] that says which are in force; those of the letters come behind it.
const STATE: u32 = 1;
/// Changes with the layout.
const VERSION: &str = "mef rules 2";
/// Chains of the kernel, and ours that they lead to, by directions.
pub(super) const HOOKS: [(&str, &str); 6] = [
    ("INPUT", "mefr_in"),
    ("OUTPUT", "mefr_out"),
    ("FORWARD", "mefr_fwd"),
    ("PREROUTING", "mefr_pre"),
    ("POSTROUTING", "mefr_post"),
    ("OUTPUT", "mefr_local"),
];
/// Room in sets that packets add to.
const DYNAMIC_SIZE: u32 = 65_536 + OURS_LIST;

/// One rule set, as it is registered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Made {
    /// Chains in the tables of each family.
    chains: [[u32; 2]; 2],
    /// The directions that have one, as bits, and the numbers of those chains.
    pub(super) bases: [[Option<u32>; 6]; 2],
    via: [Via; 2],
    /// What stands for its content.
    fingerprint: u64,
}

impl Made {
    fn write(&self) -> String {
        let mut text = VERSION.to_owned();
        let mut push = |n: usize| text.extend([" ", &n.to_string()]);
        self.chains.iter().flatten().for_each(|n| push(*n as usize));
        self.bases.iter().flatten().for_each(|base| push(base.map_or(0, |n| n as usize + 1)));
        self.via.iter().for_each(|via| push(*via));
        text.extend([" ", &self.fingerprint.to_string()]);
        text
    }

    fn read(comment: &str) -> Option<Made> {
        let mut numbers =
            comment.strip_prefix(VERSION)?.split_whitespace().map_while(|n| n.parse::<u64>().ok());
        let mut small = || numbers.next()?.try_into().ok();
        let mut this = Made::default();
        for slot in this.chains.iter_mut().flatten() {
            *slot = small()?;
        }
        for slot in this.bases.iter_mut().flatten() {
            *slot = u32::checked_sub(small()?, 1);
        }
        for slot in &mut this.via {
            *slot = small()? as usize;
        }
        this.fingerprint = numbers.next()?;
        Some(this)
    }
}

/// What there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct State {
    /// The rule set in force, if no trial goes on.
    now: Option<char>,
    /// The one on trial.
    trial: Option<char>,
    /// All of them.
    all: [Option<Made>; LETTERS.len()],
}

impl State {
    fn made(&self, letter: Option<char>) -> Option<(char, Made)> {
        let letter = letter?;
        let at = LETTERS.iter().position(|one| *one == letter)?;
        self.all.get(at).copied().flatten().map(|made| (letter, made))
    }
}

/// How long a rule set is to be in force.
pub enum Term {
    /// From now on, in place of the one that is there.
    ForGood,
    /// For so many seconds.
    Trial(u32),
}

/// The way to rule sets.
pub struct Rules {
    sets: Sets,
}

/// The statement that is refused, if it is known, and why.
pub type Refusal = (Option<u32>, Failure);

fn whole(failure: Failure) -> Refusal {
    (None, failure)
}

pub(super) fn index(family: Family) -> usize {
    usize::from(family == Family::V6)
}

fn digit(family: Family) -> &'static str {
    if family == Family::V4 { "4" } else { "6" }
}

/// The set that the rule of a hook asks, which has never an element: by its references the rule is known to
/// be there.
pub(super) fn hook_set(dir: usize, family: Family) -> String {
    [PREFIX, "h", &dir.to_string(), digit(family)].concat()
}

pub(super) fn trial_set(family: Family) -> String {
    [PREFIX, "t", digit(family)].concat()
}

/// The families that the kernel has.
fn families() -> impl Iterator<Item = Family> {
    Family::ALL.into_iter().filter(|family| *family == Family::V4 || has_ipv6())
}

/// Whether a set is one of rule sets, by its name.
pub(super) fn is_of_rules(set: &str) -> bool {
    set.starts_with(PREFIX)
}

impl Rules {
    /// Opens the way to the kernel; changes nothing.
    ///
    /// # Errors
    /// The system call that failed.
    pub fn open() -> Result<Rules, Failure> {
        Ok(Rules { sets: Sets::open()? })
    }

    fn state(&mut self) -> Result<State, Failure> {
        let state = RefCell::new(State::default());
        self.sets.elements(MADE, &mut || *state.borrow_mut() = State::default(), &mut |elem| {
            let mut state = state.borrow_mut();
            let first = elem.range.map(|range| range.numbers().0).unwrap_or(0);
            if first == u128::from(STATE) {
                let mut letters = elem.comment.chars().map(|c| Some(c).filter(|c| LETTERS.contains(c)));
                (state.now, state.trial) = (letters.next().flatten(), letters.next().flatten());
            } else if let Some(slot) =
                usize::try_from(first).ok().and_then(|n| state.all.get_mut(n.checked_sub(2)?))
            {
                *slot = Made::read(elem.comment);
            }
        })?;
        Ok(state.into_inner())
    }

    fn note(&mut self, number: u32, comment: &str) -> Result<(), Failure> {
        let key = Key::Net(IpAddr::V4(Ipv4Addr::from(number)), 0);
        let elem = Elem { key, timeout: (!comment.is_empty()).then_some(0), comment };
        let command = if comment.is_empty() { Command::Del } else { Command::Add };
        self.write(command, MADE, &[elem])
    }

    fn write(&mut self, command: Command, set: &str, elems: &[Elem<'_>]) -> Result<(), Failure> {
        let mut first = None;
        self.sets.write(command, DoneBefore::Taken, set, elems, &mut |_, code| {
            first.get_or_insert(code);
        })?;
        first.map_or(Ok(()), |code| Err(code.failure(set)))
    }

    fn note_state(&mut self, now: Option<char>, trial: Option<char>) -> Result<(), Failure> {
        let text = [now.unwrap_or('-'), trial.unwrap_or('-')];
        self.note(STATE, &String::from_iter(text))
    }

    /// Makes a set; one that is there must be ours.
    fn make(&mut self, wanted: &SetSpec<'_>) -> Result<(), Failure> {
        if self.sets.create(wanted)? {
            return Ok(());
        }
        let mut ours = false;
        self.sets.header(wanted.name, &mut |header| ours = is_ours(header, wanted.kind))?;
        if ours {
            return Ok(());
        }
        let name = wanted.name;
        let text = ["ip_set ", name, ": there is a set of that name that mef did not create: rename it"];
        Err(Failure::new(Doing::Change, Errno::EEXIST, text.concat()))
    }

    /// How often a set is asked by rules.
    fn references(&mut self, set: &str) -> Result<u32, Failure> {
        let mut count = 0;
        self.sets.header(set, &mut |header| count = header.references)?;
        Ok(count)
    }

    /// Whether there are rules, and packets come to them.
    ///
    /// # Errors
    /// The kernel's.
    pub fn is_loaded(&mut self) -> Result<bool, Failure> {
        let state = self.state()?;
        Ok(state.now.or(state.trial).is_some() && self.is_whole(&state)?)
    }

    /// Whether packets come to all that is in force.
    fn is_whole(&mut self, state: &State) -> Result<bool, Failure> {
        let made = [state.made(state.now), state.made(state.trial)];
        for (_, made) in made.into_iter().flatten() {
            for family in families() {
                let bases = made.bases.get(index(family)).copied().unwrap_or_default();
                for (dir, _) in bases.iter().enumerate().filter(|(_, base)| base.is_some()) {
                    if self.references(&hook_set(dir, family))? == 0 {
                        return Ok(false);
                    }
                }
            }
        }
        Ok(true)
    }

    /// What stands for the rule set in force, if packets come to one.
    ///
    /// # Errors
    /// The kernel's.
    pub fn fingerprint(&mut self) -> Result<Option<u64>, Failure> {
        let state = self.state()?;
        let on_trial = self.pending()?.is_some_and(|left| left > 0);
        let made = state.made(if on_trial { state.trial } else { state.now });
        Ok(if self.is_whole(&state)? { made.map(|(_, made)| made.fingerprint) } else { None })
    }

    /// Whether anything of a rule set is there.
    ///
    /// # Errors
    /// The kernel's.
    pub fn is_there(&mut self) -> Result<bool, Failure> {
        Ok(self.state()? != State::default())
    }

    /// The milliseconds that a trial has left, if there is one; 0: the previous rules are in force.
    ///
    /// # Errors
    /// The kernel's.
    pub fn pending(&mut self) -> Result<Option<u64>, Failure> {
        if self.state()?.trial.is_none() {
            return Ok(None);
        }
        let left = std::cell::Cell::new(0);
        self.sets.elements(&trial_set(Family::V4), &mut || left.set(0), &mut |elem| {
            left.set(elem.left.unwrap_or(0));
        })?;
        Ok(Some(u64::from(left.get()) * 1000))
    }

    /// Puts a rule set in force.
    ///
    /// # Errors
    /// What was refused; then the previous rules are in force.
    pub fn load(&mut self, mut text: Text, term: &Term) -> Result<(), Refusal> {
        self.make(&SetSpec { timed: true, ..spec(MADE, Type::Hosts, Family::V4) }).map_err(whole)?;
        let state = self.state().map_err(whole)?;
        let is_used = |letter: &char| Some(*letter) == state.now || Some(*letter) == state.trial;
        // What a load that did not live to its end has left.
        for letter in LETTERS.into_iter().filter(|letter| !is_used(letter)) {
            self.drop_rules(&state, Some(letter)).map_err(whole)?;
        }
        let letter = LETTERS.into_iter().find(|letter| !is_used(letter)).unwrap_or('a');
        let made = Made { fingerprint: text.fingerprint(), ..Made::default() };
        let result = self.load_as((letter, made), &state, &text, term);
        if result.is_err() {
            if let Ok(state) = self.state() {
                let _ = self.drop_rules(&state, Some(letter));
            }
            if state == State::default() {
                let _ = self.forget();
            }
        }
        result
    }

    fn load_as(
        &mut self,
        (letter, mut made): (char, Made),
        state: &State,
        text: &Text,
        term: &Term,
    ) -> Result<(), Refusal> {
        for ((chains, bases), family) in made.chains.iter_mut().zip(&mut made.bases).zip(&text.families) {
            *chains = [family.tables[0].chains, family.tables[1].chains];
            *bases = family.bases;
        }
        self.register(letter, &made).map_err(whole)?;
        self.make_sets(letter, text).map_err(whole)?;
        for family in families() {
            let (whole_text, origins) = text.whole(family, letter);
            let former = state.made(state.now.or(state.trial)).map(|(_, made)| made.via_of(family));
            // Rules on trial stand beside those that return; others go where the host wants them now.
            let stays = |via: &Via| matches!(term, Term::Trial(_)) || restore::stays(family, *via);
            let via = former.filter(stays).map_or_else(|| probe(family, letter), Ok).map_err(whole)?;
            made.via.get_mut(index(family)).into_iter().for_each(|slot| *slot = via);
            self.register(letter, &made).map_err(whole)?;
            restore::restore_via(family, std::slice::from_ref(&whole_text), via)
                .map_err(|e| blame(e, (family, via), &whole_text, &origins))?;
        }
        let mut wanted = *state;
        let slot = LETTERS.iter().position(|one| *one == letter).and_then(|at| wanted.all.get_mut(at));
        slot.into_iter().for_each(|slot| *slot = Some(made));
        match term {
            Term::ForGood => (wanted.now, wanted.trial) = (Some(letter), None),
            Term::Trial(seconds) => {
                self.fill_trial(*seconds).map_err(whole)?;
                wanted.trial = Some(letter);
                // From here on whoever comes later tidies up.
                self.note_state(wanted.now, wanted.trial).map_err(whole)?;
            }
        }
        if let Err(e) = self.switch(state, &wanted) {
            let _ = self.note_state(state.now, state.trial);
            return Err(whole(e));
        }
        if wanted.trial.is_none() {
            self.note_state(wanted.now, None).map_err(whole)?;
            for former in [state.now, state.trial] {
                self.drop_rules(state, former).map_err(whole)?;
            }
        }
        Ok(())
    }

    fn register(&mut self, letter: char, made: &Made) -> Result<(), Failure> {
        let at = LETTERS.iter().position(|one| *one == letter).unwrap_or(0);
        self.note(STATE + 1 + u32::try_from(at).unwrap_or(0), &made.write())
    }

    /// Makes and fills the sets of a rule set, and those that hooks ask.
    fn make_sets(&mut self, letter: char, text: &Text) -> Result<(), Failure> {
        for family in families() {
            for dir in 0..HOOKS.len() {
                self.make(&SetSpec { expected: 1, ..spec(&hook_set(dir, family), Type::Hosts, family) })?;
            }
        }
        for set in &text.sets {
            let name = set.name.replace(LETTER, &String::from(letter));
            let size = if set.dynamic.is_some() { DYNAMIC_SIZE } else { OURS };
            let kind = if set.dynamic.is_some() { Type::Hosts } else { Type::Networks };
            let (timed, netmask) = (set.dynamic.is_some(), set.dynamic.unwrap_or(0));
            self.make(&SetSpec { size, timed, netmask, ..spec(&name, kind, set.family) })?;
            self.write(Command::Add, &name, &elems::net_elems(&set.ranges, None, ""))?;
        }
        Ok(())
    }

    /// Has the trial's set match every packet for so long.
    fn fill_trial(&mut self, seconds: u32) -> Result<(), Failure> {
        for family in families() {
            let name = trial_set(family);
            self.make(&SetSpec { timed: true, expected: 1, ..spec(&name, Type::Networks, family) })?;
            self.write(Command::Add, &name, &elems::net_elems(&[everybody(family)], Some(seconds), ""))?;
        }
        Ok(())
    }

    /// Has packets come to other rule sets, or changes nothing. What is in force of one family is in force
    /// when that of the other is switched.
    fn switch(&mut self, from: &State, to: &State) -> Result<(), Failure> {
        for (at, family) in families().enumerate() {
            if let Err(e) = self.switch_family(family, from, to) {
                families().take(at).for_each(|done| drop(self.switch_family(done, to, from)));
                return Err(e);
            }
        }
        Ok(())
    }

    /// Likewise of one family. Where another variant of iptables has the former rules, they go once the new
    /// ones are there.
    fn switch_family(&mut self, family: Family, from: &State, to: &State) -> Result<(), Failure> {
        let via_of = |state: &State| {
            state.made(state.trial).or(state.made(state.now)).map(|(_, made)| made.via_of(family))
        };
        let (before, after) = (via_of(from), via_of(to));
        let (now, trial) = (to.made(to.now), to.made(to.trial));
        let asked = self.asked(family)?;
        if before.is_none() || after.is_none() || before == after {
            return run_switch(family, switch_text(family, asked, now, trial), after.or(before));
        }
        let none = [0; HOOKS.len()];
        run_switch(family, switch_text(family, none, now, trial), after)?;
        let mut new = self.asked(family)?;
        new.iter_mut().zip(asked).for_each(|(new, former)| *new = new.saturating_sub(former));
        run_switch(family, switch_text(family, asked, None, None), before).inspect_err(|_| {
            let _ = run_switch(family, switch_text(family, new, None, None), after);
        })
    }

    /// How often the rules of hooks are there.
    fn asked(&mut self, family: Family) -> Result<[u32; HOOKS.len()], Failure> {
        let mut all = [0; HOOKS.len()];
        for (dir, slot) in all.iter_mut().enumerate() {
            *slot = self.references(&hook_set(dir, family))?;
        }
        Ok(all)
    }

    /// Takes a rule set away to which no packet comes.
    fn drop_rules(&mut self, state: &State, letter: Option<char>) -> Result<(), Failure> {
        let Some((letter, made)) = state.made(letter) else { return Ok(()) };
        for family in families() {
            let mut text = String::new();
            let counts = made.chains.get(index(family)).copied().unwrap_or_default();
            for (table, count) in TABLES.into_iter().zip(counts).filter(|(_, count)| *count > 0) {
                text.extend(["*", table, "\n"]);
                for (before, behind) in [(":", " - [0:0]\n"), ("-X ", "\n")] {
                    (0..count).for_each(|n| text.extend([before, &chain_name(n), behind]));
                }
                text.push_str("COMMIT\n");
            }
            if !text.is_empty() {
                let text = text.replace(LETTER, &String::from(letter));
                restore::restore_via(family, &[text], made.via_of(family))?;
            }
        }
        self.destroy(&[PREFIX, &String::from(letter), "_"].concat())?;
        let at = LETTERS.iter().position(|one| *one == letter).unwrap_or(0);
        self.note(STATE + 1 + u32::try_from(at).unwrap_or(0), "")
    }

    /// Destroys sets of ours by what their names begin with.
    fn destroy(&mut self, prefix: &str) -> Result<(), Failure> {
        destroy(&mut self.sets, prefix, &[])
    }

    /// Forgets everything; no rule is left.
    fn forget(&mut self) -> Result<(), Failure> {
        self.destroy(PREFIX)
    }

    /// Takes all rules away.
    ///
    /// # Errors
    /// What was refused.
    pub fn unload(&mut self) -> Result<(), Failure> {
        let state = self.state()?;
        if state == State::default() {
            return Ok(());
        }
        self.switch(&state, &State::default())?;
        for letter in LETTERS {
            self.drop_rules(&state, Some(letter))?;
        }
        self.forget()
    }

    /// Makes the rules on trial the only ones; `false` if the trial is over.
    ///
    /// # Errors
    /// What was refused; then they are on trial as before.
    pub fn confirm(&mut self) -> Result<bool, Failure> {
        let state = self.state()?;
        if state.trial.is_none() || self.pending()?.unwrap_or(0) == 0 {
            return Ok(false);
        }
        let wanted = State { now: state.trial, trial: None, ..state };
        self.switch(&state, &wanted)?;
        self.note_state(wanted.now, None)?;
        self.drop_rules(&state, state.now)?;
        Ok(true)
    }

    /// Ends a trial: the previous rules are in force. Whether there was one. `nothing` is called before, if
    /// there were no previous rules.
    ///
    /// # Errors
    /// What was refused.
    pub fn withdraw(&mut self, nothing: &mut dyn FnMut()) -> Result<bool, Failure> {
        let state = self.state()?;
        if state.trial.is_none() {
            return Ok(false);
        }
        if state.now.is_none() {
            nothing();
            return self.unload().map(|()| true);
        }
        if !self.is_whole(&state)? {
            // Others have taken rules away: nobody knows what is left of the previous ones.
            return self.unload().map(|()| false);
        }
        let wanted = State { trial: None, ..state };
        self.switch(&state, &wanted)?;
        self.note_state(wanted.now, None)?;
        self.drop_rules(&state, state.trial)?;
        Ok(true)
    }
}

/// Which program works, the one that the host has chosen before others.
fn probe(family: Family, letter: char) -> Result<Via, Failure> {
    let chain = chain_name(0).replace(LETTER, &String::from(letter));
    let asks = [" -m set --match-set ", &hook_set(0, family), " src -j RETURN\nCOMMIT\n"].concat();
    restore::restore(family, &[["*filter\n:", &chain, " - [0:0]\n-A ", &chain, &asks].concat()])
}

impl Made {
    fn via_of(&self, family: Family) -> Via {
        self.via.get(index(family)).copied().unwrap_or(0)
    }
}
