#![forbid(unsafe_code)]
//! The files of a rule set: every line to its place in it, with what it includes and names.

use super::ast::{Action, SetElements, SetStatement, Statement, StatementPlace};
use super::{DEPTH_MAX, FILES_MAX, File, Files, LINE_MAX, RuleSet, first_line, full, parse};
use crate::base::diag::{Problem, Severity, decode};
use crate::base::name::Name;
use crate::base::range_list::RangeList;
use crate::plan::Direction;
use std::io;
use std::ops::{ControlFlow, Range};

/// So many wrong lines of a set's file are told.
const WRONG_LINES_MAX: usize = 8;

/// Puts files into a rule set.
pub(super) struct RuleFileReader<'r> {
    pub(super) set: &'r mut RuleSet,
    files: &'r mut dyn Files,
    /// The paths of the files that are being read: each one is included by the one before it.
    open: Vec<String>,
    /// What is wrong with the line that is being read.
    problems: Vec<Problem>,
}

/// A line of a file.
#[derive(Clone, Copy)]
pub(super) struct FileLine<'t> {
    pub place: StatementPlace,
    /// Its first byte in the file.
    pub at: u32,
    pub text: &'t str,
}

impl FileLine<'_> {
    /// All of it but blanks at its end.
    fn whole(&self) -> Range<usize> {
        0..self.text.trim_ascii_end().len()
    }
}

impl<'r> RuleFileReader<'r> {
    pub(super) fn new(set: &'r mut RuleSet, files: &'r mut dyn Files) -> RuleFileReader<'r> {
        RuleFileReader { set, files, open: Vec::new(), problems: Vec::new() }
    }

    /// Reads a file, which may be included by a statement.
    pub(super) fn file(&mut self, path: String, from: Option<StatementPlace>, bytes: Vec<u8>) {
        let number = u16::try_from(self.set.files.len()).unwrap_or(u16::MAX);
        let text = decode(&bytes, &mut self.problems).unwrap_or("").to_owned();
        // The rules that are kept need the room.
        drop(bytes);
        self.set.files.push(File { name: path.clone(), from, text: String::new() });
        self.open.push(path);
        self.report(number);
        let mut at = 0;
        for line in 1u32.. {
            let rest = text.get(at..).unwrap_or("");
            if rest.is_empty() || full(&mut self.set.problems, number, Severity::Error) {
                break;
            }
            let place = StatementPlace { file: number, line };
            let (content, len) = first_line(rest);
            self.line(&FileLine { place, at: u32::try_from(at).unwrap_or(u32::MAX), text: content });
            self.report(number);
            at += len;
        }
        self.open.pop();
        if let Some(file) = self.set.files.get_mut(usize::from(number)) {
            file.text = text;
        }
    }

    /// Gives the problems of a line to the rule set.
    fn report(&mut self, file: u16) {
        self.set.problems.extend(self.problems.drain(..).map(|p| (file, p)));
    }

    pub(super) fn wrong(&mut self, line: &FileLine<'_>, at: Range<usize>, what: String, hint: &str) {
        let number = line.place.line;
        self.problems.push(Problem::at(Severity::Error, number, line.text, at, what, hint.to_owned()));
    }

    fn line(&mut self, line: &FileLine<'_>) {
        if line.text.len() > LINE_MAX && !line.text.trim_ascii_start().starts_with("set") {
            let what = ["a line of ", &line.text.len().to_string(), " bytes"].concat();
            return self.wrong(
                line,
                line.whole(),
                what,
                "at most 65536 are allowed; put a long list in a set",
            );
        }
        self.know_accounts(line.text);
        match parse::line_of(line.text, line.place.line, &self.set.names, &mut self.problems).0 {
            None => {}
            Some(Statement::Rule(rule)) => self.rule(line, rule),
            Some(Statement::Policy(dir, action)) => self.policy(line, dir, action),
            Some(Statement::Let(name, value)) => self.name(line, &name, &value),
            Some(Statement::Group(name)) => self.group(line, name),
            Some(Statement::Set(set)) => self.set(line, set),
            Some(Statement::Include(pattern)) => {
                if let Err((what, hint)) = self.include(line.place, &pattern) {
                    self.wrong(line, line.whole(), what, hint);
                }
            }
        }
    }

    fn policy(&mut self, line: &FileLine<'_>, dir: Direction, action: Action) {
        if dir == Direction::Bridge {
            self.set.first_bridge = self.set.first_bridge.or(Some(line.place));
        }
        if let Some(slot) = self.set.policies.get_mut(dir as usize)
            && let Some((before, _)) = slot.replace((line.place, action))
        {
            let before = self.set.place(before);
            let what = ["a second policy for this direction; the first is ", &before].concat();
            self.wrong(line, 0..6, what, "keep one");
        }
    }

    fn name(&mut self, line: &FileLine<'_>, name: &str, value: &str) {
        if !self.set.names.add(name, value) {
            self.wrong(line, line.whole(), ["a second let of the name ", name].concat(), "rename one");
        }
    }

    fn group(&mut self, line: &FileLine<'_>, name: Name) {
        if self.set.groups.iter().all(|(_, known)| *known != name) {
            return self.set.groups.push((line.place, name));
        }
        let what = ["a second group of the name ", name.as_str()].concat();
        self.wrong(line, line.whole(), what, "rename one");
    }

    fn set(&mut self, line: &FileLine<'_>, mut set: SetStatement) {
        if !set.file.is_empty() && set.ipset().is_none() {
            self.elements(line, &mut set);
        }
        if let Err(before) = self.set.add(line.place, set) {
            let what = ["a second set of this name; the first is ", &self.set.place(before)].concat();
            self.wrong(line, 0..3, what, "rename one");
        }
    }

    /// Reads the users and groups of the host, if a rule asks for them.
    fn know_accounts(&mut self, text: &str) {
        let all = [(" uid=", "/etc/passwd"), (" gid=", "/etc/group")];
        for (slot, (key, path)) in self.set.names.accounts.iter_mut().zip(all) {
            if slot.is_none() && text.contains(key) {
                let bytes = self.files.read(path).unwrap_or_default();
                *slot = Some(String::from_utf8_lossy(&bytes).into_owned());
            }
        }
    }

    /// The name of the file that a statement stands in.
    fn including(&self, place: StatementPlace) -> String {
        self.set.files.get(usize::from(place.file)).map_or("", |f| &f.name).to_owned()
    }

    /// The elements of a set that stand in a file of their own.
    fn elements(&mut self, of: &FileLine<'_>, set: &mut SetStatement) {
        let including = self.including(of.place);
        if matches!(set.elements, SetElements::Addresses(_)) {
            set.elements = SetElements::Listed(RangeList::default());
        }
        let file = set.file.clone();
        let (mut number, mut wrong) = (0u32, Vec::new());
        let mut line = |line: &[u8]| {
            number += 1;
            let line = line.strip_prefix(b"\xef\xbb\xbf").filter(|_| number == 1).unwrap_or(line);
            let what = line_of_elements(line, set);
            wrong.extend(what.map(|what| [&*file, ":", &number.to_string(), ": ", &what].concat()));
            if wrong.len() < WRONG_LINES_MAX { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        };
        let found = self.files.expand(&including, &file).and_then(|paths| match paths.as_slice() {
            [path] => self.files.lines(path, &mut line),
            _ => Err(io::ErrorKind::NotFound.into()),
        });
        wrong.extend(found.err().map(|e| [&*file, ": ", &e.to_string()].concat()));
        if let SetElements::Listed(list) = &mut set.elements
            && wrong.is_empty()
        {
            list.finish();
        }
        wrong.into_iter().for_each(|what| self.wrong(of, of.whole(), what, ""));
    }

    fn include(&mut self, place: StatementPlace, pattern: &str) -> Result<(), (String, &'static str)> {
        let said = |path: &str, e: &io::Error| ([path, ": ", &e.to_string()].concat(), "");
        let including = self.including(place);
        for path in self.files.expand(&including, pattern).map_err(|e| said(pattern, &e))? {
            if self.open.contains(&path) {
                return Err(([path.as_str(), " includes itself"].concat(), "remove one include"));
            }
            if self.open.len() == DEPTH_MAX || self.set.files.len() == FILES_MAX {
                return Err(("too many includes".into(), "at most 8 within each other and 1024 in all"));
            }
            let bytes = self.files.read(&path).map_err(|e| said(&path, &e))?;
            self.file(path, Some(place), bytes);
        }
        Ok(())
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
