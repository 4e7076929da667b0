#![forbid(unsafe_code)]
//! One line of mef.rules to a statement. Says everything that is wrong with it; what other lines have to do
//! with it is `read`'s matter.

use super::ast::{
    Action, Address, InterfaceList, LimitOption, Port, Proto, RuleStatement, SetElements, SetStatement,
    Statement,
};
use super::lex::{self, Pair, StatementLine};
use super::value;
use super::words::{self, key};
use crate::base::diag::{Bad, Checked, Problem, Severity, suggest};
use crate::base::name::{IfName, NAME_MAX, Name};
use crate::base::range::Family;
use crate::plan::Direction;
use std::ops::Range;

/// Longest prefix that the kernel puts before a log line (NF_LOG_PREFIXLEN with its NUL).
pub const PREFIX_MAX: usize = 127;
/// Longest comment that every version of nft shows.
pub const COMMENT_MAX: usize = 127;

/// The statement of a line and the comment behind it; `None` if it has none or a wrong one.
pub fn line<'a>(text: &'a str, line: u32, problems: &mut Vec<Problem>) -> (Option<Statement>, &'a str) {
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
        let end = pair.value_at + pair.raw.len();
        let at = (pair.value_at + bad.at.start).min(end)..(pair.value_at + bad.at.end).min(end);
        self.wrong(at, bad.what, bad.hint);
    }

    fn statement(&mut self) -> Option<Statement> {
        self.known = match self.line.word {
            "policy" => &words::POLICY,
            "rule" => &words::RULE,
            "set" => &words::SET,
            "include" => &words::INCLUDE,
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
            "rule" => self.rule().map(|rule| Statement::Rule(Box::new(rule))),
            "set" => self.set().map(Statement::Set),
            _ => self.include(),
        }
    }

    /// Finds the keys; tells unknown and repeated ones.
    fn keys(&mut self) {
        let line = self.line;
        for (i, pair) in (0u8..).zip(&line.pairs) {
            let at = pair.key_at..pair.key_at + pair.key.len();
            let known = self.known.iter().position(|k| *k == pair.key);
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
        let Some(pair) = self.find(key).filter(|p| p.raw != word) else { return };
        if let Err(bad) = read(&pair.value()) {
            self.bad(&pair, *bad);
        }
    }

    fn direction(&mut self) -> Option<Direction> {
        let pair = self.required(key::DIR)?;
        let i = self.choice(&pair, "direction", &words::DIRECTIONS)?;
        Direction::ALL.get(i).copied()
    }

    fn action(&mut self) -> Option<Action> {
        let pair = self.required(key::ACTION)?;
        let i = self.choice(&pair, "action", &words::ACTIONS)?;
        Action::ALL.get(i).copied()
    }

    fn family(&mut self, key: usize) -> Option<Family> {
        let pair = self.find(key)?;
        let i = self.choice(&pair, "family", &words::FAMILIES)?;
        Family::ALL.get(i.checked_sub(1)?).copied()
    }

    fn policy(&mut self) -> Option<Statement> {
        let (dir, action) = (self.direction(), self.action());
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
        let elements = self.required(key::SET_ELEMENTS);
        let family = self.family(key::SET_FAMILY);
        let mut ports = Vec::new();
        let mut ranges = Vec::new();
        if let (Some(pair), Some(kind)) = (elements, kind) {
            let mut read = |text: &str, at: usize| {
                if kind == 0 {
                    ranges.push(value::range(text, at)?);
                } else {
                    ports.push(value::ports(text, at)?);
                }
                Ok(())
            };
            if let Err(bad) = value::items(&pair.value(), &mut read) {
                self.bad(&pair, *bad);
            }
            if let Some((range, family)) =
                family.and_then(|f| Some((ranges.iter().find(|r| r.family() != f)?, f)))
            {
                let what =
                    [range.to_string().as_str(), " is not of family ", family_word(Some(family))].concat();
                self.bad(
                    &pair,
                    *Bad::new(0..pair.value().len(), what, "the family of all elements, or family=any"),
                );
            }
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
        let (family, elements) = match kind? {
            0 => (family, SetElements::Addresses(ranges)),
            _ => (None, SetElements::Ports(ports)),
        };
        Some(SetStatement { name: parsed?, family, elements })
    }

    fn rule(&mut self) -> Option<RuleStatement> {
        let (dir, action) = (self.direction(), self.action());
        let proto = self.required(key::PROTO).and_then(|p| self.choice(&p, "protocol", &words::PROTOCOLS));
        let proto = proto.and_then(|i| Proto::ALL.get(i).copied());
        let mut rule = RuleStatement {
            dir: dir.unwrap_or(Direction::In),
            action: action.unwrap_or(Action::Drop),
            proto: proto.unwrap_or(Proto::All),
            family: self.family(key::FAMILY),
            log: None,
            ratelimit: None,
            limit: None,
            burst: 0,
            iif: InterfaceList::Any,
            oif: InterfaceList::Any,
            src: Box::default(),
            dst: Box::default(),
            sport: Box::default(),
            dport: Box::default(),
            ct: 0,
            comment: Box::default(),
        };
        self.optional(key::LOG, "none", &mut |t| put(&mut rule.log, value::prefix(t).map(Some)));
        self.optional(key::RATELIMIT, "any", &mut |t| put(&mut rule.ratelimit, value::rate(t).map(Some)));
        self.optional(key::LIMIT, "any", &mut |t| put(&mut rule.limit, limit(t).map(Some)));
        self.optional(key::BURST, "", &mut |t| put(&mut rule.burst, value::burst(t)));
        self.optional(key::IIF, "any", &mut |t| put(&mut rule.iif, interfaces(t)));
        self.optional(key::OIF, "any", &mut |t| put(&mut rule.oif, interfaces(t)));
        self.optional(key::SRC, "any", &mut |t| put(&mut rule.src, addresses(t)));
        self.optional(key::DST, "any", &mut |t| put(&mut rule.dst, addresses(t)));
        self.optional(key::SPORT, "any", &mut |t| put(&mut rule.sport, ports(t)));
        self.optional(key::DPORT, "any", &mut |t| put(&mut rule.dport, ports(t)));
        self.optional(key::CT, "any", &mut |t| put(&mut rule.ct, value::states(t)));
        self.optional(key::COMMENT, "", &mut |t| put(&mut rule.comment, value::comment(t)));
        let whole = dir.is_some() && action.is_some() && proto.is_some();
        if whole {
            self.fits(&rule);
        }
        whole.then_some(rule)
    }

    /// Keys that do not go together.
    fn fits(&mut self, rule: &RuleStatement) {
        let hints: [(usize, bool, &str, &str); 7] = [
            (
                key::SPORT,
                !rule.sport.is_empty() && !rule.proto.has_ports(),
                " needs a protocol with ports",
                PORTS,
            ),
            (
                key::DPORT,
                !rule.dport.is_empty() && !rule.proto.has_ports(),
                " needs a protocol with ports",
                PORTS,
            ),
            (
                key::RATELIMIT,
                rule.ratelimit.is_some() && rule.log.is_none(),
                " without log",
                "it limits the logging only; limit= limits packets",
            ),
            (
                key::BURST,
                rule.burst > 0 && rule.limit.is_none(),
                " without limit",
                "add limit=, as in limit=10/m burst=20",
            ),
            (
                key::OIF,
                rule.oif != InterfaceList::Any && rule.dir == Direction::In,
                " in a rule with dir=in",
                "where it goes out is not known for packets to this host",
            ),
            (
                key::IIF,
                rule.iif != InterfaceList::Any && rule.dir == Direction::Out,
                " in a rule with dir=out",
                "where it came in is not known for packets of this host",
            ),
            (
                key::FAMILY,
                rule.family.is_some_and(|f| rule.proto.family().is_some_and(|p| p != f)),
                " contradicts proto",
                "icmp is IPv4, icmp6 is IPv6",
            ),
        ];
        for (key, is_wrong, what, hint) in hints {
            if let Some(pair) = self.find(key).filter(|_| is_wrong) {
                self.key_wrong(&pair, what, hint);
            }
        }
        let family = rule.only_family();
        for (key, list) in [(key::SRC, &rule.src), (key::DST, &rule.dst)] {
            let other = |a: &&Address| matches!((a, family), (Address::Range(r), Some(f)) if r.family() != f);
            if let (Some(Address::Range(range)), Some(pair)) = (list.iter().find(other), self.find(key)) {
                let what = [range.to_string().as_str(), " is not of family ", family_word(family)].concat();
                self.bad(&pair, *Bad::new(0..pair.value().len(), what, "addresses of the rule's family"));
            }
        }
    }
}

const NO_INTERFACE: &str = "is not an interface name";
const PORTS: &str = "expected proto=tcp or proto=udp";

fn unknown_statement(word: &str) -> String {
    ["unknown statement '", word, "'"].concat()
}

/// "expected one of", and the word that was probably meant.
pub(super) fn expected(word: &str, known: &[&str]) -> String {
    let mut hint = ["expected one of: ", &known.join(", ")].concat();
    if let Some(near) = suggest(word, known.iter().copied()) {
        hint.push_str(&[" (did you mean '", near, "'?)"].concat());
    }
    hint
}

/// The word for a family.
pub(super) fn family_word(family: Option<Family>) -> &'static str {
    match family {
        None => "any",
        Some(Family::V4) => "ip",
        Some(Family::V6) => "ip6",
    }
}

/// Stores a value that was read.
fn put<T>(place: &mut T, read: Checked<T>) -> Checked<()> {
    *place = read?;
    Ok(())
}

fn limit(text: &str) -> Checked<LimitOption> {
    let (rate, per_source) = match text.strip_suffix("/src") {
        Some(rate) => (rate, true),
        None => (text, false),
    };
    Ok(LimitOption { rate: value::rate(rate)?, per_source })
}

fn interfaces(text: &str) -> Checked<InterfaceList> {
    match text {
        "auto" => return Ok(InterfaceList::Auto),
        "*" => return Ok(InterfaceList::Every),
        _ => {}
    }
    let (not, list, skipped) = match text.strip_prefix('!') {
        Some(list) => (true, list, 1),
        None => (false, text, 0),
    };
    let mut names = Vec::with_capacity(value::count(list));
    value::items(list, &mut |item, at| {
        let (name, why, hint) = match item {
            "any" | "auto" => (None, "stands alone", "without ! and other names"),
            _ => (IfName::new(item), NO_INTERFACE, "at most 15 characters; a * may end it"),
        };
        names.push(name.ok_or_else(|| Bad::word(at, item, why, hint))?);
        Ok(())
    })
    .map_err(|bad| bad.moved(skipped))?;
    Ok(InterfaceList::Names { not, names: names.into() })
}

fn addresses(text: &str) -> Checked<Box<[Address]>> {
    let mut list = Vec::with_capacity(value::count(text));
    value::items(text, &mut |item, at| {
        list.push(match item.strip_prefix('@') {
            Some(_) => Address::Set(value::set_name(item, at)?),
            None => Address::Range(value::range(item, at)?),
        });
        Ok(())
    })?;
    Ok(list.into())
}

fn ports(text: &str) -> Checked<Box<[Port]>> {
    let mut list = Vec::with_capacity(value::count(text));
    value::items(text, &mut |item, at| {
        list.push(match item.strip_prefix('@') {
            Some(_) => Port::Set(value::set_name(item, at)?),
            None => value::ports(item, at).map(|(first, last)| Port::Range(first, last))?,
        });
        Ok(())
    })?;
    Ok(list.into())
}
