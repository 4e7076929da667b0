#![forbid(unsafe_code)]
//! Rule sets in iptables. Each has chains and sets of its own, whose names begin with its letter: all of them
//! are there before a packet comes to the first one, and the switch from one rule set to the next is one rule
//! in each of a few chains that never change their places. What iptables refuses, so changes nothing.
//!
//! A trial has both: the first rule asks a set whose elements have the time of the trial, and leads to the
//! new ones while they are there. They go by themselves, whatever has become of every process by then.

use super::guards::everybody;
use super::letters::{self, LETTERS, Made, State};
use super::restore::{self, VIAS, Via};
use super::rules::has_ipv6;
use super::switch::{Lead, blame, switch_text};
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
/// The element of [`MADE`] that says which are in force; those of the letters come behind it.
pub(super) const STATE: u32 = 1;
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

/// The set that the rule of a hook asks, which has never an element: by its references it is known how often
/// the rule is there, and in which variant of iptables.
pub(super) fn hook_set(dir: usize, family: Family, via: Via) -> String {
    [PREFIX, "h", &dir.to_string(), digit(family), &via.to_string()].concat()
}

pub(super) fn trial_set(family: Family) -> String {
    [PREFIX, "t", digit(family)].concat()
}

/// The number under which a rule set is registered.
fn number(letter: char) -> u32 {
    STATE + 1 + u32::try_from(letters::place(letter)).unwrap_or(0)
}

/// The families that the kernel has.
/// Whether the kernel has IPv6, and no tables for its rules.
#[must_use]
pub fn lacks_ipv6() -> bool {
    has_ipv6() && restore::lacks_table(Family::V6, "filter")
}

/// Said where that is so: rules for IPv4 alone would leave the host open.
pub const NO_IPV6: &str = "this kernel has IPv6 and no tables for its rules (it lacks ip6_tables, or \
    ip6table_filter): load them, or switch IPv6 off (ipv6.disable=1)";

/// The same as an error, if it is why there are no rules.
fn without_tables(family: Family, e: Failure) -> Failure {
    match family {
        Family::V6 if e.errno() == Errno::EIO && lacks_ipv6() => {
            Failure::new(Doing::Change, Errno::EOPNOTSUPP, NO_IPV6.to_owned())
        }
        _ => e,
    }
}

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

    /// What is registered. While somebody writes a comment anew there is none for a moment: then once more.
    fn state(&mut self) -> Result<State, Failure> {
        let mut state = self.state_now()?;
        for _ in 0..super::BLANK_TRIES {
            if !state.has_blank {
                break;
            }
            std::thread::sleep(super::BLANK_PAUSE);
            state = self.state_now()?;
        }
        Ok(state)
    }

    fn state_now(&mut self) -> Result<State, Failure> {
        let state = RefCell::new(State::default());
        self.sets.elements(MADE, &mut || *state.borrow_mut() = State::default(), &mut |elem| {
            let first = elem.range.map(|range| range.numbers().0).unwrap_or(0);
            state.borrow_mut().read(u32::try_from(first).unwrap_or(0), elem.comment);
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

    fn note_state(&mut self, state: &State) -> Result<(), Failure> {
        self.note(STATE, &state.write())
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
        let mut whole = true;
        for family in families() {
            whole &= self.gone_in(family, state)?.is_empty();
        }
        Ok(whole)
    }

    /// The directions in which nothing leads to the rules that are registered.
    fn gone_in(&mut self, family: Family, state: &State) -> Result<Vec<usize>, Failure> {
        let mut gone = Vec::new();
        for (_, made) in [state.made(state.now), state.made(state.trial)].into_iter().flatten() {
            for dir in (0..HOOKS.len()).filter(|dir| made.base(family, *dir).is_some()) {
                if self.references(&hook_set(dir, family, made.via_of(family)))? == 0 {
                    gone.push(dir);
                }
            }
        }
        Ok(gone)
    }

    /// Whether somebody is about to lead packets to other rules, or was when he was killed: then each family
    /// has the former rules or the new ones.
    ///
    /// # Errors
    /// The kernel's.
    pub fn is_half(&mut self) -> Result<bool, Failure> {
        Ok(self.state()?.is_half)
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
        let mut ours = false;
        self.sets.header(MADE, &mut |header| ours = is_ours(header, Type::Hosts))?;
        Ok(ours)
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
        let state = self.tidied().map_err(whole)?;
        let letter = state.unused().next().unwrap_or('a');
        let made = Made { fingerprint: text.fingerprint(), ..Made::default() };
        let result = self.load_as((letter, made), &state, &text, term);
        if result.is_err() {
            let _ = self.give_up(letter);
        }
        result
    }

    /// What is there, without what a load has left that did not live to its end.
    fn tidied(&mut self) -> Result<State, Failure> {
        let mut state = self.state()?;
        // Of chains that others have flushed nobody knows what is left.
        for family in families() {
            for dir in self.gone_in(family, &state)? {
                state.forget_base(family, dir);
            }
        }
        if state.is_half || state.unused().any(|letter| state.made(Some(letter)).is_some()) {
            self.settle(&state)?;
            state.is_half = false;
            self.note_state(&state)?;
            for letter in state.unused() {
                self.drop_rules(&state, Some(letter))?;
            }
        }
        Ok(state)
    }

    /// Takes away what was made of a rule set that is not in force, and everything if there is no other one.
    fn give_up(&mut self, letter: char) -> Result<(), Failure> {
        let state = self.state()?;
        if state.is_half {
            return Ok(());
        }
        self.drop_rules(&state, Some(letter))?;
        if state.now.is_none() && state.trial.is_none() { self.forget() } else { Ok(()) }
    }

    fn load_as(
        &mut self,
        (letter, mut made): (char, Made),
        state: &State,
        text: &Text,
        term: &Term,
    ) -> Result<(), Refusal> {
        made.take(text);
        for family in families() {
            self.make_for(family).map_err(whole)?;
            let (whole_text, origins) = text.whole(family, letter);
            let former = state.made(state.now.or(state.trial)).map(|(_, made)| made.via_of(family));
            // Rules on trial stand beside those that return; others go where the host wants them now.
            let stays = |via: &Via| matches!(term, Term::Trial(_)) || restore::stays(family, *via);
            let via = former.filter(stays);
            let via = via.map_or_else(|| self.probe(family, (letter, &mut made)), Ok);
            let via = via.map_err(|e| whole(without_tables(family, e)))?;
            made.set_via(family, via);
            self.register(letter, &made).map_err(whole)?;
            self.make_sets((family, via), letter, text).map_err(whole)?;
            restore::restore_via(family, std::slice::from_ref(&whole_text), via)
                .map_err(|e| blame(e, (family, via), &whole_text, &origins))?;
        }
        let mut wanted = state.with(letter, made);
        match term {
            Term::ForGood => (wanted.now, wanted.trial) = (Some(letter), None),
            Term::Trial(seconds) => {
                self.fill_trial(*seconds).map_err(whole)?;
                wanted.trial = Some(letter);
            }
        }
        self.turn_to(state, &wanted).map_err(whole)?;
        if wanted.trial.is_none() {
            // The next load takes away what is left.
            let _ = [state.now, state.trial].map(|former| self.drop_rules(state, former));
        }
        Ok(())
    }

    fn register(&mut self, letter: char, made: &Made) -> Result<(), Failure> {
        self.note(number(letter), &made.write())
    }

    /// Makes what a family's rules ask whatever they are.
    fn make_for(&mut self, family: Family) -> Result<(), Failure> {
        let name = trial_set(family);
        self.make(&SetSpec { timed: true, expected: 1, ..spec(&name, Type::Networks, family) })
    }

    /// Makes and fills the sets of a rule set in a family, and those that hooks ask.
    fn make_sets(&mut self, (family, via): (Family, Via), letter: char, text: &Text) -> Result<(), Failure> {
        for dir in 0..HOOKS.len() {
            self.make(&SetSpec { expected: 1, ..spec(&hook_set(dir, family, via), Type::Hosts, family) })?;
        }
        for set in text.sets.iter().filter(|set| set.family == family) {
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
            let all = elems::net_elems(&[everybody(family)], Some(seconds), "");
            self.write(Command::Add, &trial_set(family), &all)?;
        }
        Ok(())
    }

    /// Which program works, the one that the host has chosen before others. What is tried is registered
    /// before, so that it is known where it may have been left.
    fn probe(&mut self, family: Family, (letter, made): (char, &mut Made)) -> Result<Via, Failure> {
        let chain = chain_name(0).replace(LETTER, &String::from(letter));
        let asks = [" -m set --match-set ", &trial_set(family), " src -j RETURN\nCOMMIT\n"].concat();
        let text = ["*filter\n:", &chain, " - [0:0]\n-A ", &chain, &asks].concat();
        let mut why = None;
        for via in restore::order(family) {
            made.set_via(family, via);
            self.register(letter, made)?;
            match restore::restore_via(family, std::slice::from_ref(&text), via) {
                Err(e) if !restore::is_passing(e.errno()) => why = why.or(Some(e)),
                result => return result,
            }
        }
        why.map_or(Ok(0), Err)
    }

    /// Has packets come to other rule sets and notes it, or changes nothing. While it goes on that is noted,
    /// too: whoever comes after somebody who was killed knows.
    fn turn_to(&mut self, from: &State, to: &State) -> Result<(), Failure> {
        // A trial is noted before it begins: from here on whoever comes later tidies up.
        let begun = State { trial: to.trial.or(from.trial), is_half: true, ..*from };
        let done = self.note_state(&begun).and_then(|()| self.settle(to)).and_then(|()| self.note_state(to));
        if done.is_err() && self.settle(from).is_ok() {
            let _ = self.note_state(from);
        }
        done
    }

    /// Has packets come to what is to be in force, whatever they come to now. What is in force of one family
    /// is in force when that of the other is switched.
    fn settle(&mut self, to: &State) -> Result<(), Failure> {
        families().try_for_each(|family| self.settle_in(family, to))
    }

    /// Likewise in one family. Where another variant of iptables leads to rules, too, it does so until those
    /// that are wanted are in force.
    fn settle_in(&mut self, family: Family, to: &State) -> Result<(), Failure> {
        let (now, trial) = (to.made(to.now), to.made(to.trial));
        let wanted = trial.or(now).map(|(_, made)| made.via_of(family));
        let others = (0..VIAS).filter(|via| Some(*via) != wanted);
        let registered = self.state()?;
        for via in wanted.into_iter().chain(others) {
            let (now, trial) = if Some(via) == wanted { (now, trial) } else { (None, None) };
            // Where others have deleted what leads to a chain of ours, that may still lead to rules. Two
            // names may be those of one program: nothing leads there by any of them.
            let mut reached = std::array::from_fn(|dir| registered.reaches(family, via, dir));
            let mut asked = [0; HOOKS.len()];
            for any in 0..VIAS {
                let hooks = self.asked(family, any)?;
                reached.iter_mut().zip(hooks).for_each(|(reached, hooks)| *reached &= hooks == 0);
                if any == via {
                    asked = hooks;
                }
            }
            let text = switch_text(family, via, &Lead { asked, reached, now, trial });
            if !text.is_empty() {
                restore::restore_via(family, &[text], via)?;
            }
        }
        Ok(())
    }

    /// How often the rules of hooks are there.
    fn asked(&mut self, family: Family, via: Via) -> Result<[u32; HOOKS.len()], Failure> {
        let mut all = [0; HOOKS.len()];
        for (dir, slot) in all.iter_mut().enumerate() {
            *slot = self.references(&hook_set(dir, family, via))?;
        }
        Ok(all)
    }

    /// Takes a rule set away to which no packet comes.
    fn drop_rules(&mut self, state: &State, letter: Option<char>) -> Result<(), Failure> {
        let Some((letter, made)) = state.made(letter) else { return Ok(()) };
        for family in families() {
            let mut text = String::new();
            let counts = made.chains_of(family);
            for (table, count) in TABLES.into_iter().zip(counts).filter(|(_, count)| *count > 0) {
                text.extend(["*", table, "\n"]);
                for (before, behind) in [(":", " - [0:0]\n"), ("-X ", "\n")] {
                    (0..count).for_each(|n| text.extend([before, &chain_name(n), behind]));
                }
                text.push_str("COMMIT\n");
            }
            if text.is_empty() {
                continue;
            }
            let (text, via) = (text.replace(LETTER, &String::from(letter)), made.via_of(family));
            if let Err(e) = restore::restore_via(family, &[text], via)
                // Who does not work at all was tried in vain.
                && restore::works(family, via, &e)
            {
                return Err(e);
            }
        }
        self.destroy(&[PREFIX, &String::from(letter), "_"].concat())?;
        self.note(number(letter), "")
    }

    /// Destroys sets of ours by what their names begin with.
    fn destroy(&mut self, prefix: &str) -> Result<(), Failure> {
        destroy(&mut self.sets, prefix, &[])
    }

    /// Forgets everything; no rule is left. What tells of the others goes last.
    fn forget(&mut self) -> Result<(), Failure> {
        let first = ["h", "t", "a_", "b_", "c_", "d_", ""];
        first.iter().try_for_each(|rest| self.destroy(&[PREFIX, rest].concat()))
    }

    /// Takes all rules away.
    ///
    /// # Errors
    /// What was refused.
    pub fn unload(&mut self) -> Result<(), Failure> {
        let state = self.state()?;
        self.turn_to(&state, &State { now: None, trial: None, is_half: false, ..state })?;
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
        let wanted = State { now: state.trial, trial: None, is_half: false, ..state };
        self.turn_to(&state, &wanted)?;
        let _ = self.drop_rules(&state, state.now);
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
        let wanted = State { trial: None, is_half: false, ..state };
        self.turn_to(&state, &wanted)?;
        let _ = self.drop_rules(&state, state.trial);
        Ok(true)
    }
}
