#![forbid(unsafe_code)]
//! What is written down of rule sets in iptables: each has a letter, and one of them is in force.

use super::restore::Via;
use super::ruleset::{STATE, index};
use super::written::Text;
use crate::base::range::Family;

/// Letters of rule sets: of the one in force, of one on trial, of one that is being made, and one to spare.
pub(super) const LETTERS: [char; 4] = ['a', 'b', 'c', 'd'];
/// Changes with the layout.
const VERSION: &str = "mef rules 3";

/// One rule set, as it is registered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Made {
    /// Chains in the tables of each family.
    pub(super) chains: [[u32; 2]; 2],
    /// The directions that have one, as bits, and the numbers of those chains.
    pub(super) bases: [[Option<u32>; 6]; 2],
    pub(super) via: [Via; 2],
    /// What stands for its content.
    pub(super) fingerprint: u64,
}

impl Made {
    pub(super) fn write(&self) -> String {
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

    /// Takes down which chains a rule set has.
    pub(super) fn take(&mut self, text: &Text) {
        for ((chains, bases), family) in self.chains.iter_mut().zip(&mut self.bases).zip(&text.families) {
            *chains = [family.tables[0].chains, family.tables[1].chains];
            *bases = family.bases;
        }
    }

    /// How many chains it has in each table.
    pub(super) fn chains_of(&self, family: Family) -> [u32; 2] {
        self.chains.get(index(family)).copied().unwrap_or_default()
    }

    /// The chain of a direction.
    pub(super) fn base(&self, family: Family, dir: usize) -> Option<u32> {
        self.bases.get(index(family))?.get(dir).copied().flatten()
    }

    pub(super) fn via_of(&self, family: Family) -> Via {
        self.via.get(index(family)).copied().unwrap_or(0)
    }

    pub(super) fn set_via(&mut self, family: Family, via: Via) {
        self.via.get_mut(index(family)).into_iter().for_each(|slot| *slot = via);
    }
}

/// What there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct State {
    /// The rule set in force, if no trial goes on.
    pub(super) now: Option<char>,
    /// The one on trial.
    pub(super) trial: Option<char>,
    /// Packets are about to be led to others.
    pub(super) is_half: bool,
    /// A comment is being written.
    pub(super) has_blank: bool,
    /// All of them.
    pub(super) all: [Option<Made>; LETTERS.len()],
}

impl State {
    /// Takes in what is registered under a number.
    pub(super) fn read(&mut self, number: u32, comment: &str) {
        self.has_blank |= comment.is_empty();
        if number == STATE {
            let mut letters = comment.chars().map(|c| Some(c).filter(|c| LETTERS.contains(c)));
            (self.now, self.trial) = (letters.next().flatten(), letters.next().flatten());
            self.is_half = letters.next().is_some();
        } else if let Some(slot) =
            number.checked_sub(STATE + 1).and_then(|at| self.all.get_mut(usize::try_from(at).ok()?))
        {
            *slot = Made::read(comment);
        }
    }

    /// What of it is registered under [`STATE`].
    pub(super) fn write(&self) -> String {
        let mut text = String::from_iter([self.now.unwrap_or('-'), self.trial.unwrap_or('-')]);
        text.push_str(if self.is_half { "!" } else { "" });
        text
    }

    pub(super) fn made(&self, letter: Option<char>) -> Option<(char, Made)> {
        let letter = letter?;
        self.all.get(place(letter)).copied().flatten().map(|made| (letter, made))
    }

    /// The same with one more.
    pub(super) fn with(&self, letter: char, made: Made) -> State {
        let mut this = *self;
        this.all.get_mut(place(letter)).into_iter().for_each(|slot| *slot = Some(made));
        this
    }

    /// Letters of which nothing is in force.
    pub(super) fn unused(&self) -> impl Iterator<Item = char> + use<> {
        let used = [self.now, self.trial];
        LETTERS.into_iter().filter(move |letter| !used.contains(&Some(*letter)))
    }

    /// Whether one of them is made by this program, and has a direction.
    pub(super) fn reaches(&self, family: Family, via: Via, dir: usize) -> bool {
        let mut all = self.all.iter().flatten();
        all.any(|made| made.via_of(family) == via && made.base(family, dir).is_some())
    }

    /// Leads to none of them in a direction.
    pub(super) fn forget_base(&mut self, family: Family, dir: usize) {
        for made in self.all.iter_mut().flatten() {
            let base = made.bases.get_mut(index(family)).and_then(|bases| bases.get_mut(dir));
            base.into_iter().for_each(|base| *base = None);
        }
    }
}

/// Which of the letters it is.
pub(super) fn place(letter: char) -> usize {
    LETTERS.iter().position(|one| *one == letter).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_down_is_read_back() {
        let mut made = Made { chains: [[3, 0], [2, 1]], fingerprint: u64::MAX, ..Made::default() };
        made.bases[1][4] = Some(0);
        made.set_via(Family::V6, 2);
        let mut state = State::default().with('c', made);
        for (now, trial, is_half) in [
            (None, None, false),
            (Some('a'), None, true),
            (Some('d'), Some('c'), false),
            (None, Some('b'), true),
        ] {
            (state.now, state.trial, state.is_half) = (now, trial, is_half);
            let mut read = State::default();
            read.read(STATE, &state.write());
            read.read(STATE + 3, &made.write());
            assert_eq!(read, state);
        }
        assert_eq!(state.unused().collect::<String>(), "acd");
        let mut other = State::default();
        for (number, text) in [(0, "x"), (STATE, "xyzzy"), (STATE + 1, "mef rules 2 1"), (u32::MAX, "ab")] {
            other.read(number, text);
        }
        assert_eq!((other.now, other.trial, other.made(Some('a'))), (None, None, None));
        assert!(!other.has_blank);
        other.read(STATE, "");
        assert!(other.has_blank);
    }
}
