#![forbid(unsafe_code)]
//! One line of mef.rules to a statement. Says everything that is wrong with it; what other lines have to do
//! with it is `read`'s matter.

mod fits;
mod items;
mod rule;

use super::ast::{Action, IPSET, SetElements, SetStatement, Statement};
use super::lex::{self, Pair, StatementLine};
use super::names::Names;
use super::value;
use super::words::{self, expected, key};
use crate::base::diag::{Bad, Checked, Problem, Severity};
use crate::base::name::{NAME_MAX, Name};
use crate::base::range::Family;
use crate::plan::Direction;
use crate::plan::run::GROUP_PREFIX;
pub(super) use items::add_element;
use std::borrow::Cow;
use std::ops::Range;

/// The statement of a line that needs no names, and the comment behind it; `None` if it has none or a wrong
/// one.
pub fn line<'a>(text: &'a str, line: u32, problems: &mut Vec<Problem>) -> (Option<Statement>, &'a str) {
    line_of(text, line, &Names::default(), problems)
}

/// The statement of a line, and the comment behind it.
pub fn line_of<'a>(
    text: &'a str,
    line: u32,
    names: &Names,
    problems: &mut Vec<Problem>,
) -> (Option<Statement>, &'a str) {
    let mut cut = StatementLine::default();
    if let Err(broken) = lex::cut(text, &mut cut) {
        let word = text.split_ascii_whitespace().next().unwrap_or("");
        let known = words::STATEMENTS.contains(&word) || word.contains('=');
        let (at, what, hint) = if known {
            (broken.at, broken.what.to_owned(), broken.hint.to_owned())
        } else {
            let at = text.len() - text.trim_ascii_start().len();
            (at..at + word.len(), unknown_statement(word), expected(word, &words::STATEMENTS))
        };
        problems.push(Problem::at(Severity::Error, line, text, at, what, hint));
        return (None, "");
    }
    if cut.word.is_empty() {
        return (None, cut.comment);
    }
    if cut.word == words::LOST {
        let at = cut.word_at..cut.word_at + cut.word.len();
        let what = "here, a rule that drops or refuses packets could not be exported".to_owned();
        let hint = "write what it means, or delete this line".to_owned();
        problems.push(Problem::at(Severity::Error, line, text, at, what, hint));
        return (None, cut.comment);
    }
    let before = problems.len();
    let mut reader = StatementReader {
        text,
        number: line,
        line: &cut,
        known: &[],
        at: [NONE; words::RULE.len()],
        names,
        problems,
    };
    let statement = reader.statement();
    let good = problems.len() == before;
    (statement.filter(|_| good), cut.comment)
}

/// Of a key that is not there.
const NONE: u8 = u8::MAX;

struct StatementReader<'a, 'p> {
    text: &'a str,
    number: u32,
    line: &'p StatementLine<'a>,
    /// The keys of the statement.
    known: &'static [&'static str],
    /// Where among the pairs each of them is.
    at: [u8; words::RULE.len()],
    names: &'p Names,
    problems: &'p mut Vec<Problem>,
}

impl<'a> StatementReader<'a, '_> {
    fn wrong(&mut self, at: Range<usize>, what: String, hint: String) {
        self.problems.push(Problem::at(Severity::Error, self.number, self.text, at, what, hint));
    }

    fn key_wrong(&mut self, pair: &Pair<'a>, what: &str, hint: &str) {
        self.wrong(pair.key_at..pair.key_at + pair.key.len(), [pair.key, what].concat(), hint.to_owned());
    }

    fn bad(&mut self, pair: &Pair<'a>, bad: Bad) {
        if pair.raw.contains('$') {
            // What stands for another text is to blame as a whole.
            return self.wrong(pair.value_at..pair.value_at + pair.raw.len(), bad.what, bad.hint);
        }
        let end = pair.value_at + pair.raw.len();
        let at = (pair.value_at + bad.at.start).min(end)..(pair.value_at + bad.at.end).min(end);
        self.wrong(at, bad.what, bad.hint);
    }

    fn statement(&mut self) -> Option<Statement> {
        self.known = match self.line.word {
            "policy" => &words::POLICY,
            "rule" | "nat" => &words::RULE,
            "set" => &words::SET,
            "include" => &words::INCLUDE,
            "group" => &words::GROUP,
            "let" => return self.name(),
            word => {
                let at = self.line.word_at..self.line.word_at + word.len();
                let hint = expected(word, &words::STATEMENTS);
                self.wrong(at, unknown_statement(word), hint);
                return None;
            }
        };
        self.keys();
        match self.line.word {
            "policy" => self.policy(),
            "rule" | "nat" => self.rule().map(|rule| Statement::Rule(Box::new(rule))),
            "set" => self.set().map(Statement::Set),
            "group" => self.group(0, NAME_MAX - GROUP_PREFIX.len()).map(Statement::Group),
            _ => self.include(),
        }
    }

    /// `let NAME=TEXT`
    fn name(&mut self) -> Option<Statement> {
        let whole = self.line.word_at..self.line.word_at + self.line.word.len();
        let [pair] = self.line.pairs.as_slice() else {
            self.wrong(whole, "let takes one name=text".into(), "as in let lan=eth1,br-lan".into());
            return None;
        };
        let pair = *pair;
        let plain = Name::new(pair.key).filter(|_| !pair.key.contains('.'));
        if plain.is_none() {
            self.key_wrong(&pair, " is not a valid name", "a letter, then letters, digits, _ and -");
        }
        let value = self.text(&pair)?.into_owned();
        if value.is_empty() {
            self.key_wrong(&pair, " is empty", "expected what it stands for");
        }
        Some(Statement::Let(pair.key.to_owned(), value))
    }

    /// The value of a pair with the texts that `let` has named.
    fn text(&mut self, pair: &Pair<'a>) -> Option<Cow<'a, str>> {
        match self.names.expand(pair.value()) {
            Ok(text) => Some(text),
            Err(name) => {
                let at = pair.value_at..pair.value_at + pair.raw.len();
                let hint = "a let statement before it names the text";
                self.wrong(at, ["there is no $", &name].concat(), hint.into());
                None
            }
        }
    }

    /// Finds the keys; tells unknown and repeated ones.
    fn keys(&mut self) {
        let line = self.line;
        for (i, pair) in (0u8..).zip(&line.pairs) {
            let at = pair.key_at..pair.key_at + pair.key.len();
            let known = place_of(self.known, pair.key);
            match known.and_then(|k| self.at.get_mut(k)) {
                None => {
                    let hint = expected(pair.key, self.known);
                    self.wrong(at, ["unknown key '", pair.key, "'"].concat(), hint);
                }
                Some(slot @ &mut NONE) => *slot = i,
                Some(_) => {
                    self.wrong(at, [pair.key, " is given twice"].concat(), "remove one of them".into());
                }
            }
        }
    }

    /// The pair of a key, by its number among those of the statement.
    fn find(&self, key: usize) -> Option<Pair<'a>> {
        self.at.get(key).and_then(|&at| self.line.pairs.get(usize::from(at))).copied()
    }

    fn required(&mut self, key: usize) -> Option<Pair<'a>> {
        let found = self.find(key);
        if found.is_none() {
            let at = self.line.word_at..self.line.word_at + self.line.word.len();
            let key = self.known.get(key).copied().unwrap_or("");
            self.wrong(at, [self.line.word, " without ", key].concat(), ["expected ", key, "=…"].concat());
        }
        found
    }

    /// Which of the words the value is.
    fn choice(&mut self, pair: &Pair<'a>, noun: &str, known: &[&str]) -> Option<usize> {
        let found = known.iter().position(|w| *w == pair.raw);
        if found.is_none() {
            let what = ["unknown ", noun, " '", pair.raw, "'"].concat();
            self.wrong(pair.value_at..pair.value_at + pair.raw.len(), what, expected(pair.raw, known));
        }
        found
    }

    /// Reads the value of a key that may be missing; `word` means the same as a missing one.
    fn optional(&mut self, key: usize, word: &str, read: &mut dyn FnMut(&str) -> Checked<()>) {
        let Some(pair) = self.find(key) else { return };
        if pair.raw == word {
            return;
        }
        let literal = matches!(key, key::LOG | key::COMMENT);
        let Some(text) = (if literal { Some(pair.value()) } else { self.text(&pair) }) else { return };
        if let Err(bad) = read(&text) {
            self.bad(&pair, *bad);
        }
    }

    fn direction(&mut self) -> Option<Direction> {
        let is_nat = self.line.word == "nat";
        if self.line.word == "rule" && self.find(key::GROUP).is_some() {
            if let Some(pair) = self.find(key::DIR) {
                self.key_wrong(&pair, " in a rule of a group", "the rule that leads to the group has it");
            }
            return Some(Direction::Fwd);
        }
        let pair = self.required(key::DIR)?;
        let (words, all) = match is_nat {
            true => (words::NAT_DIRECTIONS.as_slice(), Direction::NAT.as_slice()),
            false => (words::DIRECTIONS.as_slice(), Direction::DECIDING.as_slice()),
        };
        all.get(self.choice(&pair, "direction", words)?).copied()
    }

    fn action(&mut self) -> Option<Action> {
        let pair = self.required(key::ACTION)?;
        let is_rule = self.line.word == "rule";
        if let Some((word, rest)) = pair.raw.split_once(':').filter(|_| is_rule) {
            match word {
                "group" if Name::new(rest).is_some() => return Name::new(rest).map(Action::Group),
                "add" => match value::addition(rest) {
                    Ok((name, seconds)) => return Some(Action::Add(name, seconds)),
                    Err(bad) => self.bad(&pair, *bad.moved(4)),
                },
                _ => {
                    let at = pair.value_at..pair.value_at + pair.raw.len();
                    let what = ["unknown action '", pair.raw, "'"].concat();
                    self.wrong(at, what, "expected group:NAME or add:@SET/TIME".into());
                }
            }
            return None;
        }
        let (all, nat) = words::ACTIONS.split_at(words::ACTIONS.len() - 4);
        // The usual case needs no list of what could be meant.
        if is_rule && let Some(at) = place_of(all, pair.raw) {
            return Action::ALL.get(at).copied();
        }
        if is_rule && nat.contains(&pair.raw) {
            let what = ["'", pair.raw, "' is no action of rules"].concat();
            let hint = "a nat statement translates, as in nat dir=post action=masquerade";
            self.bad(&pair, *Bad::new(0..pair.raw.len(), what, hint));
            return None;
        }
        let known = match self.line.word {
            "policy" => all.get(..3).unwrap_or_default().to_vec(),
            "nat" => [nat, &["accept", "log", "count"]].concat(),
            _ => [all, &["add:@SET/TIME", "group:NAME"]].concat(),
        };
        let word = self.choice(&pair, "action", &known).and_then(|i| known.get(i).copied())?;
        words::ACTIONS.iter().position(|w| *w == word).and_then(|i| Action::ALL.get(i).copied())
    }

    /// The name of a group, by the key that has it.
    fn group(&mut self, key: usize, room: usize) -> Option<Name> {
        let pair = self.required(key)?;
        let name = Name::new(pair.raw).filter(|_| pair.raw.len() <= room && !pair.raw.contains('.'));
        if name.is_none() {
            let what = ["'", pair.raw, "' is not a valid name for a group"].concat();
            let hint =
                ["a letter, then letters, digits, _ and -, at most ", &room.to_string(), " in all"].concat();
            self.bad(&pair, *Bad::new(0..pair.raw.len(), what, &hint));
        }
        name
    }

    fn family(&mut self, key: usize) -> Option<Family> {
        let pair = self.find(key)?;
        let i = self.choice(&pair, "family", &words::FAMILIES)?;
        Family::ALL.get(i.checked_sub(1)?).copied()
    }

    fn policy(&mut self) -> Option<Statement> {
        let (dir, action) = (self.direction(), self.action());
        if let (Some(Direction::Bridge), Some(Action::Reject), Some(pair)) =
            (dir, action, self.find(key::ACTION))
        {
            self.key_wrong(&pair, fits::NO_BRIDGE, fits::NO_ANSWER);
        }
        Some(Statement::Policy(dir?, action?))
    }

    fn include(&mut self) -> Option<Statement> {
        let pair = self.required(key::FILE)?;
        if pair.raw.is_empty() {
            self.key_wrong(&pair, " is empty", "expected a path or a glob");
        }
        Some(Statement::Include(pair.value().into_owned()))
    }

    fn set(&mut self) -> Option<SetStatement> {
        let name = self.required(key::SET_NAME);
        self.required(key::SET_FAMILY);
        let kind = self.required(key::SET_TYPE).and_then(|p| self.choice(&p, "type", &words::TYPES));
        let source = self.find(key::SET_SOURCE);
        let file = source.or(self.find(key::SET_FILE));
        let elements = if file.is_some() { None } else { self.required(key::SET_ELEMENTS) };
        if let Some(pair) = file.filter(|_| self.find(key::SET_ELEMENTS).is_some()) {
            self.key_wrong(&pair, " and elements", "the elements stand here or there");
        }
        if let Some(pair) = file.filter(|pair| pair.raw.is_empty() || kind == Some(2)) {
            self.key_wrong(&pair, " is not for this set", "expected a file of addresses or of ports");
        }
        let known = |pair: &Pair<'_>| {
            let name = pair.raw.strip_prefix(IPSET).unwrap_or("");
            let plain = name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-.:".contains(&b));
            kind == Some(0) && plain && (1..=IPSET_NAME_MAX).contains(&name.len())
        };
        if let Some(pair) = source.filter(|pair| !known(pair)) {
            self.key_wrong(&pair, " is no source of this set", "expected ipset:NAME, and type=addr");
        }
        let family = self.family(key::SET_FAMILY);
        let mut list = empty(kind?);
        if let Some(pair) = elements
            && let Some(text) = self.text(&pair)
            && text != words::NO_ELEMENTS
            && let Err(bad) = value::items(&text, &mut |text, at| add_element(&mut list, family, text, at))
        {
            self.bad(&pair, *bad);
        }
        // In the kernel, a set of both families is two, NAME.4 and NAME.6.
        let room = if kind == Some(0) && family.is_none() { NAME_MAX - 2 } else { NAME_MAX };
        let parsed = name.and_then(|pair| {
            let parsed = Name::new(pair.raw).filter(|_| pair.raw.len() <= room && !pair.raw.contains('.'));
            if parsed.is_none() {
                let hint =
                    ["a letter, then letters, digits, _ and -, at most ", &room.to_string(), " in all"];
                let what = ["'", pair.raw, "' is not a valid name for this set"].concat();
                self.bad(&pair, *Bad::new(0..pair.raw.len(), what, &hint.concat()));
            }
            parsed
        });
        // Ports have no family: whatever is said of it means nothing.
        let family = family.filter(|_| kind == Some(0));
        let file = file.map(|pair| pair.value()).unwrap_or_default();
        let is_path = source.is_none() && file.starts_with(IPSET);
        let file = [if is_path { "./" } else { "" }, &file].concat().into();
        Some(SetStatement { name: parsed?, family, elements: list, file })
    }
}

/// Longest name of a set of ip_set.
const IPSET_NAME_MAX: usize = 31;

/// The elements of a set of this type before the first one.
fn empty(kind: usize) -> SetElements {
    match kind {
        0 => SetElements::Addresses(Vec::new()),
        1 => SetElements::Ports(Vec::new()),
        _ => SetElements::Interfaces(Vec::new()),
    }
}

/// Where a word is in a list; most of the others differ in length or in their first byte.
fn place_of(known: &[&str], word: &str) -> Option<usize> {
    let first = word.as_bytes().first();
    known.iter().position(|k| k.len() == word.len() && k.as_bytes().first() == first && *k == word)
}

fn unknown_statement(word: &str) -> String {
    ["unknown statement '", word, "'"].concat()
}
