#![forbid(unsafe_code)]
//! One line of mef.rules to a statement. Says everything that is wrong with it; what other lines have to do with it
//! is `read`'s matter.

use super::ast::{Action, Address, Elements, Interfaces, Limit, Port, Proto, Rule, Set, Statement};
use super::lex::{self, Line, Pair};
use super::value::{self, Bad};
use super::words;
use crate::base::diag::{Problem, Severity, suggest};
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
    let cut = match lex::cut(text) {
        Ok(cut) => cut,
        Err(broken) => {
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
    };
    if cut.word.is_empty() {
        return (None, cut.comment);
    }
    let before = problems.len();
    let mut reader = Reader { text, number: line, line: &cut, problems };
    let statement = reader.statement();
    let good = problems.len() == before;
    (statement.filter(|_| good), cut.comment)
}

struct Reader<'a, 'p> {
    text: &'a str,
    number: u32,
    line: &'p Line<'a>,
    problems: &'p mut Vec<Problem>,
}

impl<'a> Reader<'a, '_> {
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
        let keys: &[&str] = match self.line.word {
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
        self.keys(keys);
        match self.line.word {
            "policy" => self.policy(),
            "rule" => self.rule().map(|rule| Statement::Rule(Box::new(rule))),
            "set" => self.set().map(Statement::Set),
            _ => self.include(),
        }
    }

    /// Unknown and repeated keys.
    fn keys(&mut self, known: &[&str]) {
        for (i, pair) in self.line.pairs.iter().enumerate() {
            let at = pair.key_at..pair.key_at + pair.key.len();
            if !known.contains(&pair.key) {
                self.wrong(at, ["unknown key '", pair.key, "'"].concat(), expected(pair.key, known));
            } else if self.line.pairs.iter().take(i).any(|p| p.key == pair.key) {
                self.wrong(at, [pair.key, " stands here twice"].concat(), "remove one of them".into());
            }
        }
    }

    fn find(&self, key: &str) -> Option<Pair<'a>> {
        self.line.pairs.iter().find(|p| p.key == key).copied()
    }

    fn required(&mut self, key: &str) -> Option<Pair<'a>> {
        let found = self.find(key);
        if found.is_none() {
            let at = self.line.word_at..self.line.word_at + self.line.word.len();
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
    fn optional<T>(
        &mut self,
        key: &str,
        word: &str,
        default: T,
        read: &mut dyn FnMut(&str) -> Result<T, Bad>,
    ) -> T {
        let Some(pair) = self.find(key).filter(|p| p.raw != word) else { return default };
        match read(&pair.value()) {
            Ok(value) => value,
            Err(bad) => {
                self.bad(&pair, bad);
                default
            }
        }
    }

    fn direction(&mut self) -> Option<Direction> {
        let pair = self.required("dir")?;
        let i = self.choice(&pair, "direction", &words::DIRECTIONS)?;
        Direction::ALL.get(i).copied()
    }

    fn action(&mut self) -> Option<Action> {
        let pair = self.required("action")?;
        let i = self.choice(&pair, "action", &words::ACTIONS)?;
        Action::ALL.get(i).copied()
    }

    fn family(&mut self) -> Option<Family> {
        let pair = self.find("family")?;
        let i = self.choice(&pair, "family", &words::FAMILIES)?;
        Family::ALL.get(i.checked_sub(1)?).copied()
    }

    fn policy(&mut self) -> Option<Statement> {
        let (dir, action) = (self.direction(), self.action());
        Some(Statement::Policy(dir?, action?))
    }

    fn include(&mut self) -> Option<Statement> {
        let pair = self.required("file")?;
        if pair.raw.is_empty() {
            self.key_wrong(&pair, " is empty", "expected a path or a glob");
        }
        Some(Statement::Include(pair.value().into_owned()))
    }

    fn set(&mut self) -> Option<Set> {
        let name = self.required("name");
        self.required("family");
        let kind = self.required("type").and_then(|p| self.choice(&p, "type", &words::TYPES));
        let elements = self.required("elements");
        let family = self.family();
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
                self.bad(&pair, bad);
            }
            if let Some((range, family)) =
                family.and_then(|f| Some((ranges.iter().find(|r| r.family() != f)?, f)))
            {
                let what =
                    [range.to_string().as_str(), " is not of family ", family_word(Some(family))].concat();
                self.bad(&pair, Bad::all(&pair.value(), what, "the family of all elements, or family=any"));
            }
        }
        // In the kernel, a set of both families is two, NAME.4 and NAME.6.
        let room = if kind == Some(0) && family.is_none() { NAME_MAX - 2 } else { NAME_MAX };
        let parsed = name.and_then(|pair| {
            let parsed = Name::new(pair.raw).filter(|_| pair.raw.len() <= room && !pair.raw.contains('.'));
            if parsed.is_none() {
                let hint =
                    ["a letter, then letters, digits, _ and -, at most ", &room.to_string(), " in all"];
                let what = ["'", pair.raw, "' is no name for this set"].concat();
                self.bad(&pair, Bad::all(pair.raw, what, &hint.concat()));
            }
            parsed
        });
        // Ports have no family: whatever is said of it means nothing.
        let (family, elements) = match kind? {
            0 => (family, Elements::Addresses(ranges)),
            _ => (None, Elements::Ports(ports)),
        };
        Some(Set { name: parsed?, family, elements })
    }

    fn rule(&mut self) -> Option<Rule> {
        let (dir, action) = (self.direction(), self.action());
        let proto = self.required("proto").and_then(|p| self.choice(&p, "protocol", &words::PROTOCOLS));
        let proto = proto.and_then(|i| Proto::ALL.get(i).copied());
        let rule = Rule {
            dir: dir.unwrap_or(Direction::In),
            action: action.unwrap_or(Action::Drop),
            proto: proto.unwrap_or(Proto::All),
            family: self.family(),
            log: self.optional("log", "none", None, &mut |t| value::prefix(t).map(Some)),
            ratelimit: self.optional("ratelimit", "any", None, &mut |t| value::rate(t).map(Some)),
            limit: self.optional("limit", "any", None, &mut |t| limit(t).map(Some)),
            burst: self.optional("burst", "", 0, &mut value::burst),
            iif: self.interfaces("iif"),
            oif: self.interfaces("oif"),
            src: self.optional("src", "any", Box::default(), &mut addresses),
            dst: self.optional("dst", "any", Box::default(), &mut addresses),
            sport: self.optional("sport", "any", Box::default(), &mut ports),
            dport: self.optional("dport", "any", Box::default(), &mut ports),
            ct: self.optional("ct", "any", 0, &mut value::states),
            comment: self.optional("comment", "", Box::default(), &mut value::comment),
        };
        let whole = dir.is_some() && action.is_some() && proto.is_some();
        if whole {
            self.fits(&rule);
        }
        whole.then_some(rule)
    }

    fn interfaces(&mut self, key: &str) -> Interfaces {
        self.optional(key, "any", Interfaces::Any, &mut |text| {
            match text {
                "auto" => return Ok(Interfaces::Auto),
                "*" => return Ok(Interfaces::Every),
                _ => {}
            }
            let (not, list, skipped) = match text.strip_prefix('!') {
                Some(list) => (true, list, 1),
                None => (false, text, 0),
            };
            let mut names = Vec::new();
            value::items(list, &mut |item, at| {
                let (name, why, hint) = match item {
                    "any" | "auto" => (None, "' stands alone", "without ! and other names"),
                    _ => (IfName::new(item), NO_INTERFACE, "at most 15 characters; a * may end it"),
                };
                names.push(name.ok_or_else(|| Bad::item(item, at, why, hint))?);
                Ok(())
            })
            .map_err(|bad| bad.moved(skipped))?;
            Ok(Interfaces::Names { not, names: names.into() })
        })
    }

    /// Keys that do not go together.
    fn fits(&mut self, rule: &Rule) {
        let hints: [(&str, bool, &str, &str); 7] = [
            (
                "sport",
                !rule.sport.is_empty() && !rule.proto.has_ports(),
                " needs a protocol with ports",
                PORTS,
            ),
            (
                "dport",
                !rule.dport.is_empty() && !rule.proto.has_ports(),
                " needs a protocol with ports",
                PORTS,
            ),
            (
                "ratelimit",
                rule.ratelimit.is_some() && rule.log.is_none(),
                " without log",
                "it bounds the logging only; limit= bounds packets",
            ),
            (
                "burst",
                rule.burst > 0 && rule.limit.is_none(),
                " without limit",
                "add limit=, as in limit=10/m burst=20",
            ),
            (
                "oif",
                rule.oif != Interfaces::Any && rule.dir == Direction::In,
                " in a rule with dir=in",
                "where it goes out is not known for packets to this host",
            ),
            (
                "iif",
                rule.iif != Interfaces::Any && rule.dir == Direction::Out,
                " in a rule with dir=out",
                "where it came in is not known for packets of this host",
            ),
            (
                "family",
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
        for (key, list) in [("src", &rule.src), ("dst", &rule.dst)] {
            let other = |a: &&Address| matches!((a, family), (Address::Range(r), Some(f)) if r.family() != f);
            if let (Some(Address::Range(range)), Some(pair)) = (list.iter().find(other), self.find(key)) {
                let what = [range.to_string().as_str(), " is not of family ", family_word(family)].concat();
                self.bad(&pair, Bad::all(&pair.value(), what, "addresses of the rule's family"));
            }
        }
    }
}

const NO_INTERFACE: &str = "' is no name of an interface";
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

fn limit(text: &str) -> Result<Limit, Bad> {
    let (rate, per_source) = match text.strip_suffix("/src") {
        Some(rate) => (rate, true),
        None => (text, false),
    };
    Ok(Limit { rate: value::rate(rate)?, per_source })
}

fn addresses(text: &str) -> Result<Box<[Address]>, Bad> {
    let mut list = Vec::new();
    value::items(text, &mut |item, at| {
        list.push(match item.strip_prefix('@') {
            Some(_) => Address::Set(value::set_name(item, at)?),
            None => Address::Range(value::range(item, at)?),
        });
        Ok(())
    })?;
    Ok(list.into())
}

fn ports(text: &str) -> Result<Box<[Port]>, Bad> {
    let mut list = Vec::new();
    value::items(text, &mut |item, at| {
        list.push(match item.strip_prefix('@') {
            Some(_) => Port::Set(value::set_name(item, at)?),
            None => value::ports(item, at).map(|(first, last)| Port::Range(first, last))?,
        });
        Ok(())
    })?;
    Ok(list.into())
}
