#![forbid(unsafe_code)]
//! The language of mef.rules: text to statements, checks, canonical text, and the way to `plan`.
//! Knows neither the kernel nor netlink; files are read through a trait.

pub mod ast;
mod canonical;
pub mod check;
pub mod compile;
pub mod diff;
mod each;
pub mod export;
pub mod extra;
mod extra_words;
mod keep;
pub mod lex;
mod loopback;
mod names;
pub mod needs;
pub mod parse;
mod print;
mod read;
mod references;
mod shadow;
mod value;
pub mod words;

use crate::base::diag::{Problem, Severity};
use crate::base::name::Name;
use crate::base::range::Family;
use crate::plan::Direction;
use crate::plan::run::GROUP_PREFIX;
use ast::{Action, Address, RuleStatement, SetStatement, StatementPlace, not};
pub use canonical::{canonical, canonical_v1};
use each::RulePlaces;
use names::Names;
use read::RuleFileReader;
use std::io;
use std::ops::ControlFlow;

/// Longest line that is no set, in bytes.
const LINE_MAX: usize = 64 * 1024;
/// Includes within includes.
const DEPTH_MAX: usize = 8;
/// Files of a rule set.
const FILES_MAX: usize = 1024;
/// Errors reported of one rule set, and warnings: the ten-thousandth helps nobody.
const PROBLEMS_MAX: usize = 200;
/// Rules that are kept as trees. What most rule sets have is so parsed once; of more it would be too much
/// memory.
const TREES_MAX: usize = 128;
const TOO_MANY: &str = "too many problems";

/// Is given lines, and says when it is enough.
pub type LineReader<'e> = &'e mut dyn FnMut(&[u8]) -> ControlFlow<()>;

/// How a rule set gets at its files.
pub trait Files {
    /// The content of a file.
    ///
    /// # Errors
    /// Why it cannot be read.
    fn read(&mut self, path: &str) -> io::Result<Vec<u8>>;

    /// Calls `each` with every line of a file, until that says that it is enough. A long one need not be in
    /// memory as a whole.
    ///
    /// # Errors
    /// Why it cannot be read.
    fn lines(&mut self, path: &str, each: LineReader<'_>) -> io::Result<()> {
        let bytes = self.read(path)?;
        let _ = bytes.split(|b| *b == b'\n').try_for_each(each);
        Ok(())
    }

    /// The files that an include names, in the order of their names. A glob may name none.
    ///
    /// # Errors
    /// The file or directory that cannot be looked at.
    fn expand(&mut self, including: &str, pattern: &str) -> io::Result<Vec<String>>;
}

/// One file as it was read.
#[derive(Debug)]
pub struct File {
    /// Its path.
    pub name: String,
    /// The include that names it.
    pub from: Option<StatementPlace>,
    /// Its text, which stays in memory: rules are parsed anew when they are needed, but for the first ones,
    /// since ten thousand of them as trees are several times as large.
    pub text: String,
}

/// A rule set with all that is wrong with it.
#[derive(Debug, Default)]
pub struct RuleSet {
    /// The files in the order in which they were first read.
    pub files: Vec<File>,
    /// What was found, each with the number of its file.
    pub problems: Vec<(u16, Problem)>,
    /// Policies by direction, where they were given.
    pub policies: [Option<(StatementPlace, Action)>; 7],
    /// Named sets in the order of the text.
    pub sets: Vec<(StatementPlace, SetStatement)>,
    /// The first rule that asks for the interface of the default route.
    pub first_auto: Option<StatementPlace>,
    /// The first rule that translates addresses, by family of its packets: IPv4, IPv6.
    pub first_nat: [Option<StatementPlace>; 2],
    /// Which directions have rules that translate addresses, in the order of `Direction::NAT`.
    nat: [bool; 3],
    /// The first statement about frames between ports of bridges.
    pub first_bridge: Option<StatementPlace>,
    /// The sets that rules about them name.
    of_bridges: Vec<Name>,
    /// Groups of rules, in the order of the text.
    pub groups: Vec<(StatementPlace, Name)>,
    /// Names that stand for something in values.
    names: Names,
    /// Why it cuts off the SSH session that it was checked in, if it is known to.
    pub locks_out: Option<String>,
    /// Places in `sets`, in the order of the names.
    by_name: Vec<u32>,
    /// Whether a rule must be looked at again when all sets are known.
    second_look: bool,
    /// What the rules of each direction have to do with loopback.
    loopback: [loopback::Loopback; 3],
    /// Places in `rules` of those that are for loopback only.
    of_loopback: Vec<u32>,
    rules: RulePlaces,
    /// Which of them are kept as trees.
    trees: Trees,
    /// Those, the first ones.
    kept: Vec<RuleStatement>,
}

/// Which rules stay in memory as trees. The others are parsed anew whenever they are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Trees {
    /// So many as most rule sets have: what loads a large one has no memory for all of them.
    #[default]
    First,
    /// All of them, for who compares each rule with those before it.
    All,
}

impl RuleSet {
    /// Reads a file and all that it includes; of its rules, `trees` stay in memory as they were parsed.
    #[must_use]
    pub fn read(path: &str, files: &mut dyn Files, trees: Trees) -> RuleSet {
        let mut this = RuleSet { trees, ..RuleSet::default() };
        match files.read(path) {
            Ok(bytes) => RuleFileReader::new(&mut this, files).file(path.to_owned(), None, bytes),
            Err(e) => {
                this.files.push(File { name: path.to_owned(), from: None, text: String::new() });
                this.problems.push((0, Problem::whole(Severity::Error, e.to_string(), String::new())));
            }
        }
        if this.second_look {
            let mut problems = std::mem::take(&mut this.problems);
            this.each(&mut |place, rule| {
                if !full(&mut problems, place.file, Severity::Error) {
                    this.references(place, rule, &mut problems);
                }
            });
            this.problems = problems;
        }
        this
    }

    /// Whether it must not be loaded.
    #[must_use]
    pub fn failed(&self) -> bool {
        self.problems.iter().any(|(_, p)| p.severity == Severity::Error)
    }

    /// The tree of a rule by its number, counted from 0, if it is kept.
    fn tree(&self, number: u32) -> Option<&RuleStatement> {
        self.kept.get(number as usize)
    }

    /// How many rules there are.
    #[must_use]
    pub fn rules(&self) -> usize {
        self.rules.len() as usize
    }

    /// The named set.
    #[must_use]
    pub fn set(&self, name: &Name) -> Option<&SetStatement> {
        self.sets.get(self.position(name).ok()?).map(|(_, set)| set)
    }

    /// Adds a named set.
    ///
    /// # Errors
    /// The place of the one that has its name already.
    fn add(&mut self, place: StatementPlace, set: SetStatement) -> Result<(), StatementPlace> {
        match self.position(&set.name) {
            Ok(first) => Err(self.sets.get(first).map_or(place, |(before, _)| *before)),
            Err(at) => {
                self.by_name.insert(at, u32::try_from(self.sets.len()).unwrap_or(u32::MAX));
                self.sets.push((place, set));
                Ok(())
            }
        }
    }

    /// Where in `sets` the named set is; or where in `by_name` it would have its place.
    fn position(&self, name: &Name) -> Result<usize, usize> {
        let named = |i: u32| self.sets.get(i as usize).map(|(_, set)| set.name);
        let found = self.by_name.binary_search_by(|&i| named(i).cmp(&Some(*name)))?;
        self.by_name.get(found).map(|&i| i as usize).ok_or(found)
    }

    /// A problem that marks the value of a key in a rule's line.
    #[must_use]
    pub fn mark(
        &self,
        place: StatementPlace,
        severity: Severity,
        key: &str,
        what: String,
        hint: &str,
    ) -> Problem {
        let text = self.text_at(place);
        let mut line = lex::StatementLine::default();
        let _ = lex::cut(text, &mut line);
        let pair = line.pairs.iter().find(|p| p.key == key);
        let at = match pair {
            Some(pair) => pair.value_at..pair.value_at + pair.raw.len(),
            None => line.word_at..line.word_at + line.word.len(),
        };
        Problem::at(severity, place.line, text, at, what, hint.to_owned())
    }

    /// The key of a rule whose value is `auto`.
    #[must_use]
    pub fn auto_key(&self, place: StatementPlace) -> &'static str {
        if self.text_at(place).contains("iif=auto") { "iif" } else { "oif" }
    }

    /// `path:line` for people.
    #[must_use]
    pub fn place(&self, place: StatementPlace) -> String {
        let name = self.files.get(usize::from(place.file)).map_or("", |f| &f.name);
        [name, ":", &place.line.to_string()].concat()
    }

    fn text_at(&self, place: StatementPlace) -> &str {
        let text = self.files.get(usize::from(place.file)).map_or("", |f| &f.text);
        text.lines().nth((place.line as usize).saturating_sub(1)).unwrap_or("")
    }

    fn line(&self, place: StatementPlace, at: u32) -> &str {
        let text = self.files.get(usize::from(place.file)).map_or("", |f| &f.text);
        text.get(at as usize..).map_or("", |rest| first_line(rest).0)
    }

    /// The whole rule set as one text, with what is included in the places of the includes.
    #[must_use]
    pub fn whole_text(&self) -> String {
        let mut out = String::with_capacity(self.whole_len());
        self.write_whole(0, &mut |text| out.push_str(text));
        out
    }

    /// How many bytes that is, without making it.
    #[must_use]
    pub fn whole_len(&self) -> usize {
        let mut len = 0;
        self.write_whole(0, &mut |text| len += text.len());
        len
    }

    fn write_whole(&self, number: u16, out: &mut dyn FnMut(&str)) {
        let text = self.files.get(usize::from(number)).map_or("", |file| &file.text);
        for (line, text) in (1u32..).zip(text.lines()) {
            let place = Some(StatementPlace { file: number, line });
            // No other statement begins so.
            if text.trim_ascii_start().starts_with("include") {
                let included = (0u16..).zip(&self.files).filter(|(_, file)| file.from == place);
                included.for_each(|(file, _)| self.write_whole(file, out));
            } else if let Some((_, set)) = self
                .sets
                .iter()
                .find(|(at, set)| Some(*at) == place && !set.file.is_empty() && set.ipset().is_none())
            {
                // What stands in a file of its own goes into the text, too.
                let mut text = String::new();
                print::set_itself(&mut text, set);
                out(&text);
                out("\n");
            } else {
                out(text);
                out("\n");
            }
        }
    }

    /// The families that the lists of addresses of a rule leave; what a list excepts leaves both.
    #[must_use]
    pub fn both_families(&self, rule: &RuleStatement) -> [[bool; 2]; 2] {
        [(not::SRC, &rule.src), (not::DST, &rule.dst)]
            .map(|(bit, list)| if rule.is_not(bit) { [true; 2] } else { self.families(list) })
    }

    /// The families that a list of addresses leaves.
    #[must_use]
    pub fn families(&self, list: &[Address]) -> [bool; 2] {
        let mut has = [list.is_empty(); 2];
        for item in list {
            let family = match item {
                Address::Range(range) => Some(range.family()),
                Address::Set(name) => self.set(name).and_then(|set| set.family),
                Address::Kind(_) => None,
            };
            for (slot, f) in has.iter_mut().zip(Family::ALL) {
                *slot |= family.is_none_or(|family| family == f);
            }
        }
        has
    }
}

/// The first line of a text that is not empty, and how many bytes it takes with its end.
fn first_line(text: &str) -> (&str, usize) {
    let Some(end) = memchr::memchr(b'\n', text.as_bytes()) else { return (text, text.len()) };
    let line = text.get(..end).unwrap_or("");
    (line.strip_suffix('\r').unwrap_or(line), end + 1)
}

/// Whether so much was found that no more is looked for; the last of it says so.
fn full(found: &mut Vec<(u16, Problem)>, file: u16, severity: Severity) -> bool {
    if found.len() < PROBLEMS_MAX {
        return false;
    }
    if found.last().is_none_or(|(_, p)| p.what != TOO_MANY) {
        let hint = "the rest was not read".to_owned();
        found.push((file, Problem::whole(severity, TOO_MANY.into(), hint)));
    }
    true
}

/// The word for a direction, as the language has it.
#[must_use]
pub fn direction_word(dir: Direction) -> &'static str {
    print::direction(dir)
}
