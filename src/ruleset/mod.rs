#![forbid(unsafe_code)]
//! The language of mef.rules: text to statements, checks, canonical text, and the way to `plan`.
//! Knows neither the kernel nor netlink; files are read through a trait.

pub mod ast;
pub mod check;
pub mod compile;
pub mod diff;
mod each;
pub mod export;
pub mod extra;
pub mod lex;
mod loopback;
mod names;
pub mod needs;
pub mod parse;
mod print;
mod shadow;
mod value;
pub mod words;

use crate::base::diag::{Problem, Severity, decode};
use crate::base::name::Name;
use crate::base::range::Family;
use crate::base::range_list::RangeList;
use crate::plan::Direction;
use crate::plan::run::GROUP_PREFIX;
use ast::{
    Action, Address, InterfaceList, Port, RuleStatement, SetElements, SetStatement, Statement,
    StatementPlace, not,
};
use each::{RuleAt, RulePlaces};
use names::Names;
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
    pub policies: [Option<(StatementPlace, Action)>; 3],
    /// Named sets in the order of the text.
    pub sets: Vec<(StatementPlace, SetStatement)>,
    /// The first rule that asks for the interface of the default route.
    pub first_auto: Option<StatementPlace>,
    /// The first rule that translates addresses, by family of its packets: IPv4, IPv6.
    pub first_nat: [Option<StatementPlace>; 2],
    /// Which directions have rules that translate addresses, in the order of `Direction::NAT`.
    nat: [bool; 3],
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
    /// The first of them as statements.
    kept: Vec<Statement>,
}

impl RuleSet {
    /// Reads a file and all that it includes.
    #[must_use]
    pub fn read(path: &str, files: &mut dyn Files) -> RuleSet {
        let mut this = RuleSet::default();
        match files.read(path) {
            Ok(bytes) => this.file((path, None), &bytes, files, &mut vec![path.to_owned()]),
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
        let mut out = String::with_capacity(self.files.iter().map(|file| file.text.len() + 1).sum());
        self.write_whole(0, &mut out);
        out
    }

    fn write_whole(&self, number: u16, out: &mut String) {
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
                print::set_itself(out, set);
                out.push('\n');
            } else {
                out.extend([text, "\n"]);
            }
        }
    }

    fn file(
        &mut self,
        (path, from): (&str, Option<StatementPlace>),
        bytes: &[u8],
        files: &mut dyn Files,
        open: &mut Vec<String>,
    ) {
        let number = u16::try_from(self.files.len()).unwrap_or(u16::MAX);
        let mut problems = Vec::new();
        let text = decode(bytes, &mut problems).unwrap_or("").to_owned();
        self.files.push(File { name: path.to_owned(), from, text: String::new() });
        self.report(number, &mut problems);
        let mut at = 0;
        for line in 1u32.. {
            let rest = text.get(at..).unwrap_or("");
            if rest.is_empty() || full(&mut self.problems, number, Severity::Error) {
                break;
            }
            let place = StatementPlace { file: number, line };
            let (content, len) = first_line(rest);
            let start = u32::try_from(at).unwrap_or(u32::MAX);
            self.statement(place, start, content, &mut problems, (files, open));
            self.report(number, &mut problems);
            at += len;
        }
        if let Some(file) = self.files.get_mut(usize::from(number)) {
            file.text = text;
        }
    }

    fn report(&mut self, file: u16, problems: &mut Vec<Problem>) {
        self.problems.extend(problems.drain(..).map(|p| (file, p)));
    }

    fn statement(
        &mut self,
        place: StatementPlace,
        at: u32,
        text: &str,
        problems: &mut Vec<Problem>,
        (files, open): (&mut dyn Files, &mut Vec<String>),
    ) {
        let mut wrong = |what: String, hint: &str| {
            let all = 0..text.trim_ascii_end().len();
            problems.push(Problem::at(Severity::Error, place.line, text, all, what, hint.to_owned()));
        };
        if text.len() > LINE_MAX && !text.trim_ascii_start().starts_with("set") {
            return wrong(
                ["a line of ", &text.len().to_string(), " bytes"].concat(),
                "at most 65536 are allowed; put a long list in a set",
            );
        }
        self.know_accounts(text, files);
        match parse::line_of(text, place.line, &self.names, problems).0 {
            None => {}
            Some(Statement::Rule(rule)) => {
                self.note(place, &rule, text, problems);
                if rule.iif == InterfaceList::Auto || rule.oif == InterfaceList::Auto {
                    self.first_auto = self.first_auto.or(Some(place));
                }
                let of = |list: &InterfaceList| matches!(list, InterfaceList::Set(..));
                let named = rule.src.iter().chain(&rule.dst).any(|a| matches!(a, Address::Set(_)))
                    || of(&rule.iif)
                    || of(&rule.oif)
                    || matches!(rule.action, Action::Add(..));
                let ports = rule.sport.iter().chain(&rule.dport).any(|p| matches!(p, Port::Set(_)));
                self.second_look |= named || ports || !rule.src.is_empty() && !rule.dst.is_empty();
                if self.loopback.get_mut(rule.dir as usize).is_some_and(|dir| dir.note(&rule)) {
                    self.of_loopback.push(self.rules.len());
                }
                self.rules.push(RuleAt { place, at });
                if self.kept.len() < TREES_MAX {
                    self.kept.push(Statement::Rule(rule));
                }
            }
            Some(Statement::Policy(dir, action)) => {
                if let Some(slot) = self.policies.get_mut(dir as usize)
                    && let Some((before, _)) = slot.replace((place, action))
                {
                    let what =
                        ["a second policy for this direction; the first is ", &self.place(before)].concat();
                    problems.push(Problem::at(
                        Severity::Error,
                        place.line,
                        text,
                        0..6,
                        what,
                        "keep one".into(),
                    ));
                }
            }
            Some(Statement::Let(name, value)) if self.names.add(&name, &value) => {}
            Some(Statement::Let(name, _)) => {
                let what = ["a second let of the name ", &name].concat();
                let at = 0..text.trim_ascii_end().len();
                problems.push(Problem::at(Severity::Error, place.line, text, at, what, "rename one".into()));
            }
            Some(Statement::Group(name)) => {
                if self.groups.iter().any(|(_, known)| *known == name) {
                    let what = ["a second group of the name ", name.as_str()].concat();
                    let at = 0..text.trim_ascii_end().len();
                    problems.push(Problem::at(
                        Severity::Error,
                        place.line,
                        text,
                        at,
                        what,
                        "rename one".into(),
                    ));
                } else {
                    self.groups.push((place, name));
                }
            }
            Some(Statement::Set(mut set)) => {
                if !set.file.is_empty() && set.ipset().is_none() {
                    self.elements(place, &mut set, text, problems, files);
                }
                if let Err(before) = self.add(place, set) {
                    let what = ["a second set of this name; the first is ", &self.place(before)].concat();
                    problems.push(Problem::at(
                        Severity::Error,
                        place.line,
                        text,
                        0..3,
                        what,
                        "rename one".into(),
                    ));
                }
            }
            Some(Statement::Include(pattern)) => {
                if let Err((what, hint)) = self.include(place, &pattern, files, open) {
                    let all = 0..text.trim_ascii_end().len();
                    problems.push(Problem::at(Severity::Error, place.line, text, all, what, hint.to_owned()));
                }
            }
        }
    }

    /// Reads the users and groups of the host, if a rule asks for them.
    fn know_accounts(&mut self, text: &str, files: &mut dyn Files) {
        let all = [(" uid=", "/etc/passwd"), (" gid=", "/etc/group")];
        for (slot, (key, path)) in self.names.accounts.iter_mut().zip(all) {
            if slot.is_none() && text.contains(key) {
                let bytes = files.read(path).unwrap_or_default();
                *slot = Some(String::from_utf8_lossy(&bytes).into_owned());
            }
        }
    }

    /// Takes notice of what of a rule others have to do with.
    fn note(&mut self, place: StatementPlace, rule: &RuleStatement, text: &str, problems: &mut Vec<Problem>) {
        for (slot, dir) in self.nat.iter_mut().zip(Direction::NAT) {
            *slot |= rule.dir == dir;
        }
        if rule.action.is_nat() && rule.action != Action::Redirect && rule.dir != Direction::Local {
            // IPv6 is meant where it is named.
            let of = |f| move |a: &Address| matches!(a, Address::Range(range) if range.family() == f);
            let v6 = rule.src.iter().chain(&rule.dst).any(of(Family::V6));
            let v4 = rule.src.iter().chain(&rule.dst).any(of(Family::V4));
            let only = rule.only_family();
            let is = [only != Some(Family::V6) && (v4 || !v6), only == Some(Family::V6) || v6];
            for (slot, _) in self.first_nat.iter_mut().zip(is).filter(|(_, is)| *is) {
                *slot = slot.or(Some(place));
            }
        }
        if let Action::Add(name, _) = rule.action
            && self.set(&name).is_none()
        {
            let elements = SetElements::Dynamic;
            let _ = self.add(place, SetStatement { name, family: None, elements, file: Box::default() });
        }
        // A group leads to none that comes behind it, so that no circle is possible.
        let position = |name: &Name| self.groups.iter().position(|(_, known)| known == name);
        let to = if let Action::Group(name) = rule.action { Some(name) } else { None };
        let (of, to) =
            (rule.group.map(|name| (name, position(&name))), to.map(|name| (name, position(&name))));
        let mut wrong = |key: &str, name: Name, what: &str, hint: &str| {
            let at = text.find(key).unwrap_or(0);
            let end =
                text.get(at..).and_then(|rest| rest.find([' ', '\t'])).map_or(text.len(), |len| at + len);
            let what = [what, name.as_str()].concat();
            problems.push(Problem::at(Severity::Error, place.line, text, at..end, what, hint.to_owned()));
        };
        if let Some((name, None)) = of {
            wrong("group=", name, "there is no group ", "expected the name of a group statement before it");
        }
        match to {
            Some((name, None)) => {
                wrong(
                    "group:",
                    name,
                    "there is no group ",
                    "expected the name of a group statement before it",
                );
            }
            Some((name, to)) if of.is_some_and(|(_, of)| of <= to) => {
                wrong("group:", name, "a group leads to itself or to a later one: ", "change their order");
            }
            _ => {}
        }
    }

    /// The elements of a set that stand in a file of their own.
    fn elements(
        &mut self,
        place: StatementPlace,
        set: &mut SetStatement,
        text: &str,
        problems: &mut Vec<Problem>,
        files: &mut dyn Files,
    ) {
        let including = self.files.get(usize::from(place.file)).map_or("", |f| &f.name);
        if matches!(set.elements, SetElements::Addresses(_)) {
            set.elements = SetElements::Listed(RangeList::default());
        }
        let file = set.file.clone();
        let (mut number, mut wrong) = (0u32, None);
        let mut line = |line: &[u8]| {
            number += 1;
            wrong = line_of_elements(line, set);
            if wrong.is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        let found = files.expand(including, &file).and_then(|paths| match paths.as_slice() {
            [path] => files.lines(path, &mut line),
            _ => Err(io::ErrorKind::NotFound.into()),
        });
        let what = match (found, wrong) {
            (Err(e), _) => [&*file, ": ", &e.to_string()].concat(),
            (Ok(()), Some(what)) => [&*file, ":", &number.to_string(), ": ", &what].concat(),
            (Ok(()), None) => {
                if let SetElements::Listed(list) = &mut set.elements {
                    list.finish();
                }
                return;
            }
        };
        let all = 0..text.trim_ascii_end().len();
        problems.push(Problem::at(Severity::Error, place.line, text, all, what, String::new()));
    }

    fn include(
        &mut self,
        place: StatementPlace,
        pattern: &str,
        files: &mut dyn Files,
        open: &mut Vec<String>,
    ) -> Result<(), (String, &'static str)> {
        let including = self.files.get(usize::from(place.file)).map_or("", |f| &f.name).to_owned();
        let paths =
            files.expand(&including, pattern).map_err(|e| ([pattern, ": ", &e.to_string()].concat(), ""))?;
        for path in paths {
            if open.contains(&path) {
                return Err(([path.as_str(), " includes itself"].concat(), "remove one include"));
            }
            if open.len() == DEPTH_MAX || self.files.len() == FILES_MAX {
                return Err(("too many includes".into(), "at most 8 within each other and 1024 in all"));
            }
            let bytes =
                files.read(&path).map_err(|e| ([path.as_str(), ": ", &e.to_string()].concat(), ""))?;
            open.push(path);
            if let Some(path) = open.last().cloned() {
                self.file((&path, Some(place)), &bytes, files, open);
            }
            open.pop();
        }
        Ok(())
    }

    /// What is wrong with the sets that a rule names.
    fn references(&self, place: StatementPlace, rule: &RuleStatement, problems: &mut Vec<(u16, Problem)>) {
        let mut named: Vec<(&str, &Name)> = Vec::new();
        for (key, list) in [("src", &rule.src), ("dst", &rule.dst)] {
            named.extend(
                list.iter().filter_map(|a| if let Address::Set(name) = a { Some((key, name)) } else { None }),
            );
        }
        for (key, list) in [("sport", &rule.sport), ("dport", &rule.dport)] {
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

/// Adds the elements of a line of a set's file; what is wrong with one of them.
fn line_of_elements(line: &[u8], set: &mut SetStatement) -> Option<String> {
    let line = line.split(|b| matches!(b, b'#' | b';')).next().unwrap_or_default();
    let mut words = line.split(|b| b.is_ascii_whitespace() || *b == b',').filter(|word| !word.is_empty());
    words.find_map(|word| match std::str::from_utf8(word) {
        Ok(word) => parse::add_element(&mut set.elements, set.family, word, 0).err().map(|bad| bad.what),
        Err(_) => Some("not UTF-8".to_owned()),
    })
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

/// The canonical form of a file's text: comments and blank lines stay where they are, and so do the names in
/// values that stand for something else.
///
/// # Errors
/// All problems of the text.
pub fn canonical(bytes: &[u8]) -> Result<String, Vec<Problem>> {
    formatted(bytes, None)
}

/// Likewise, without keys that the existing product does not know where nothing stands in them; `beyond` is
/// given the numbers of the lines that it cannot read.
///
/// # Errors
/// All problems of the text.
pub fn canonical_v1(bytes: &[u8], beyond: &mut dyn FnMut(u32)) -> Result<String, Vec<Problem>> {
    formatted(bytes, Some(beyond))
}

fn formatted(bytes: &[u8], mut beyond: Option<&mut dyn FnMut(u32)>) -> Result<String, Vec<Problem>> {
    let mut problems = Vec::new();
    let text = decode(bytes, &mut problems).unwrap_or("");
    let mut out = String::with_capacity(text.len() * 2);
    let mut names = Names { lenient: true, ..Names::default() };
    for (number, line) in (1u32..).zip(text.lines()) {
        let (statement, comment) = parse::line_of(line, number, &names, &mut problems);
        if let Some(Statement::Let(name, value)) = &statement {
            names.add(name, value);
        }
        if let Some(statement) = statement {
            let printed = if beyond.is_some() { format!("{statement:#}") } else { statement.to_string() };
            if let Some(beyond) = beyond.as_mut().filter(|_| !print::is_v1(&printed)) {
                beyond(number);
            }
            out.push_str(&as_written(line, printed));
            out.push_str(if comment.is_empty() { "" } else { " " });
        }
        out.push_str(comment.trim_ascii_end());
        out.push('\n');
    }
    if problems.is_empty() { Ok(out) } else { Err(problems) }
}

/// A printed statement with those values as they were written in which a name stands for something else.
fn as_written(line: &str, printed: String) -> String {
    if !line.contains('$') && !line.contains("uid=") && !line.contains("gid=") {
        return printed;
    }
    let (mut was, mut is) = (lex::StatementLine::default(), lex::StatementLine::default());
    let _ = (lex::cut(line, &mut was), lex::cut(&printed, &mut is));
    let named = |pair: &&lex::Pair<'_>| {
        let names = pair.raw.contains('$') || matches!(pair.key, "uid" | "gid");
        names && !matches!(pair.key, "log" | "comment" | "file")
    };
    let (mut out, mut at) = (String::new(), 0);
    for pair in &is.pairs {
        if let Some(before) = was.pairs.iter().filter(named).find(|before| before.key == pair.key) {
            out.push_str(printed.get(at..pair.value_at).unwrap_or(""));
            out.push_str(before.raw);
            at = pair.value_at + pair.raw.len();
        }
    }
    out.push_str(printed.get(at..).unwrap_or(""));
    out
}

/// The word for a direction, as the language has it.
#[must_use]
pub fn direction_word(dir: Direction) -> &'static str {
    print::direction(dir)
}
