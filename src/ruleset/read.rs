#![forbid(unsafe_code)]
//! The files of a rule set: every line to its place in it, with what it includes and names.

use super::ast::{
    Action, Address, InterfaceList, Port, RuleStatement, SetElements, SetStatement, Statement, StatementPlace,
};
use super::each::RuleAt;
use super::{DEPTH_MAX, FILES_MAX, File, Files, LINE_MAX, RuleSet, TREES_MAX, first_line, full, parse};
use crate::base::diag::{Problem, Severity, decode};
use crate::base::name::Name;
use crate::base::range::Family;
use crate::base::range_list::RangeList;
use crate::plan::Direction;
use std::io;
use std::ops::ControlFlow;

impl RuleSet {
    pub(super) fn file(
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
                if dir == Direction::Bridge {
                    self.first_bridge = self.first_bridge.or(Some(place));
                }
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
        if rule.dir == Direction::Bridge {
            self.first_bridge = self.first_bridge.or(Some(place));
            let addresses = rule.src.iter().chain(&rule.dst);
            let of_addresses =
                addresses.filter_map(|a| if let Address::Set(name) = a { Some(*name) } else { None });
            let ports = rule.sport.iter().chain(&rule.dport);
            let of_ports = ports.filter_map(|p| if let Port::Set(name) = p { Some(*name) } else { None });
            for name in of_addresses.chain(of_ports) {
                if !self.of_bridges.contains(&name) {
                    self.of_bridges.push(name);
                }
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
