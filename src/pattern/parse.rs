#![forbid(unsafe_code)]
//! Pattern text to tree. Names every construct that is not supported and says what to write instead.
//! Knows nothing of programs or matching.

use super::advice::{unknown_escape, unsupported};
use super::program::Order;
use super::set::{self, ByteSet};
use super::{CaptureGroup, PatternError};
use core::ops::Range;

/// Groups within groups.
const MAX_DEPTH: u8 = 40;
/// Steps a pattern may have after its repeats are written out; bounds memory and time per byte of text.
pub(super) const MAX_STEPS: u32 = 1000;

/// A part of a pattern.
#[derive(Clone)]
pub(super) enum Node {
    /// Matches here, always.
    Empty,
    /// This byte.
    Byte(u8),
    /// This letter, given in lower case, in either case.
    Letter(u8),
    /// One byte of the set.
    Set(ByteSet),
    /// A condition on the place.
    Look(Look),
    /// An address, see `addr`; it is an ip group.
    Addr,
    /// A named group.
    Group(CaptureGroup, Box<Node>),
    /// One behind the other.
    Cat(Vec<Node>),
    /// The first that leads to a match.
    Alt(Vec<Node>),
    /// `min` times up to `max` times (`None`: any number).
    Repeat { what: Box<Node>, min: u32, max: Option<u32>, order: Order, empty: bool },
}

/// A condition on the place between two bytes.
#[derive(Clone, Copy, PartialEq, Eq)]
#[cfg_attr(test, derive(Debug))]
pub(super) enum Look {
    /// `^`
    Start,
    /// `$`
    End,
    /// `\b`
    Word,
    /// `\B`
    NotWord,
}

/// A node and what its parents need to know of it.
pub(super) struct PatternPart {
    pub(super) node: Node,
    /// Groups (bits) that may take part.
    pub(super) may: u8,
    /// Groups (bits) that take part in every match.
    pub(super) always: u8,
    /// Upper bound of steps.
    steps: u32,
    /// Whether it may match the empty text.
    empty: bool,
    /// Whether a repeat may follow.
    repeatable: bool,
}

impl PatternPart {
    fn one(node: Node) -> PatternPart {
        PatternPart { node, may: 0, always: 0, steps: 1, empty: false, repeatable: true }
    }

    fn nothing() -> PatternPart {
        PatternPart { node: Node::Empty, may: 0, always: 0, steps: 1, empty: true, repeatable: false }
    }
}

/// Parses a whole pattern.
pub(super) fn parse(text: &str) -> Result<PatternPart, PatternError> {
    let mut p = Parser {
        text: text.as_bytes(),
        at: 0,
        depth: 0,
        fold: false,
        point: set::ANY,
        fault: PatternError::default(),
    };
    p.whole().ok_or(p.fault)
}

/// What was read; `None` at a fault, which stands in the parser then.
pub(super) type ParseResult<T> = Option<T>;

/// The text and how far it is read.
pub(super) struct Parser<'a> {
    text: &'a [u8],
    pub(super) at: usize,
    depth: u8,
    /// Whether letters stand for either case.
    pub(super) fold: bool,
    /// What a point stands for.
    point: ByteSet,
    /// What is wrong, once something is.
    fault: PatternError,
}

impl Parser<'_> {
    pub(super) fn rest(&self) -> &[u8] {
        self.text.get(self.at..).unwrap_or_default()
    }

    pub(super) fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    pub(super) fn next(&mut self) -> Option<u8> {
        let b = self.peek()?;
        self.at += 1;
        Some(b)
    }

    pub(super) fn eat(&mut self, word: &[u8]) -> bool {
        let found = self.rest().starts_with(word);
        if found {
            self.at += word.len();
        }
        found
    }

    /// Ends the parsing: what stands from `from` up to here is wrong.
    pub(super) fn fail<T>(&mut self, from: usize, what: &str, hint: &str) -> ParseResult<T> {
        let to = self.at.max(from + 1).min(self.text.len().max(from));
        self.fail_at(from..to, what, hint)
    }

    /// Ends the parsing: these bytes are wrong.
    pub(super) fn fail_at<T>(&mut self, at: Range<usize>, what: &str, hint: &str) -> ParseResult<T> {
        self.fault = PatternError::new(at, what, hint);
        None
    }

    fn whole(&mut self) -> ParseResult<PatternPart> {
        let part = self.alternatives()?;
        if self.at < self.text.len() {
            let at = self.at..self.at + 1;
            return self.fail_at(at, "this ) closes no group", "a literal ) is written \\)");
        }
        if part.steps > MAX_STEPS {
            return self.fail(0, "the pattern is too large", "split it in several");
        }
        Some(part)
    }

    fn alternatives(&mut self) -> ParseResult<PatternPart> {
        let mut all = self.sequence()?;
        if self.peek() != Some(b'|') {
            return Some(all);
        }
        let mut nodes = vec![all.node];
        while self.eat(b"|") {
            let next = self.sequence()?;
            all.may |= next.may;
            all.always &= next.always;
            all.steps = all.steps.saturating_add(next.steps).saturating_add(2);
            all.empty |= next.empty;
            nodes.push(next.node);
        }
        Some(PatternPart { node: Node::Alt(nodes), repeatable: true, ..all })
    }

    fn sequence(&mut self) -> ParseResult<PatternPart> {
        let mut all = PatternPart::nothing();
        let mut nodes = Vec::new();
        while !matches!(self.peek(), None | Some(b'|' | b')')) {
            let from = self.at;
            let part = self.atom()?;
            let part = self.repeat(part, from)?;
            if all.may & part.may != 0 {
                return self.fail(
                    from,
                    "a group of this name precedes it",
                    "the same name is fine in different alternatives only",
                );
            }
            all.may |= part.may;
            all.always |= part.always;
            all.steps = all.steps.saturating_add(part.steps);
            all.empty &= part.empty;
            nodes.push(part.node);
        }
        all.node = if nodes.len() == 1 { nodes.remove(0) } else { Node::Cat(nodes) };
        Some(all)
    }

    fn atom(&mut self) -> ParseResult<PatternPart> {
        let from = self.at;
        if self.eat(b"<HOST>") || self.eat(b"<ADDR>") {
            let bit = CaptureGroup::Ip.bit();
            return Some(PatternPart { may: bit, always: bit, steps: 4, ..PatternPart::one(Node::Addr) });
        }
        Some(match self.next() {
            None => PatternPart::nothing(),
            Some(b'.') => PatternPart::one(Node::Set(self.point)),
            Some(b'^') => {
                PatternPart { empty: true, repeatable: false, ..PatternPart::one(Node::Look(Look::Start)) }
            }
            Some(b'$') => {
                PatternPart { empty: true, repeatable: false, ..PatternPart::one(Node::Look(Look::End)) }
            }
            Some(b'(') => self.group(from)?,
            Some(b'[') => PatternPart::one(Node::Set(self.class(from)?)),
            Some(b'\\') => self.escape(from)?,
            Some(b @ (b'*' | b'+' | b'?')) => {
                let what = format!("nothing for {} to repeat", char::from(b));
                return self.fail(from, &what, &format!("a literal {0} is written \\{0}", char::from(b)));
            }
            Some(b'{') => return self.fail(from, "nothing for { to repeat", "a literal { is written \\{"),
            Some(b'<') => {
                self.foreign_tag(from)?;
                PatternPart::one(Node::Byte(b'<'))
            }
            Some(b'%') if self.rest().starts_with(b"(") => {
                let len = self.rest().iter().position(|&b| b == b')').map_or(1, |n| n + 1);
                self.at += len;
                let hint = "write out what it stands for; a literal ( is written \\(";
                return self.fail(from, "fail2ban's %( )s variables are not known here", hint);
            }
            Some(b) if b < 0x80 => PatternPart::one(self.literal(b)),
            Some(_) => self.wide_char(from),
        })
    }

    fn literal(&self, b: u8) -> Node {
        if self.fold && b.is_ascii_alphabetic() {
            Node::Letter(b.to_ascii_lowercase())
        } else {
            Node::Byte(b)
        }
    }

    /// A character beyond ASCII is the sequence of its UTF-8 bytes; a repeat behind it repeats them all.
    pub(super) fn wide_char(&mut self, from: usize) -> PatternPart {
        while self.peek().is_some_and(|b| b & 0xc0 == 0x80) {
            self.at += 1;
        }
        let bytes = self.text.get(from..self.at).unwrap_or_default();
        let steps = u32::try_from(bytes.len()).unwrap_or(MAX_STEPS);
        PatternPart { steps, ..PatternPart::one(Node::Cat(bytes.iter().map(|&b| Node::Byte(b)).collect())) }
    }

    /// Tags of other tools would be matched as they stand, which nobody means.
    fn foreign_tag(&mut self, from: usize) -> ParseResult<()> {
        const TAGS: [&[u8]; 6] = [b"IP4>", b"IP6>", b"DNS>", b"CIDR>", b"SUBNET>", b"SKIPLINES>"];
        let tag = TAGS.iter().any(|tag| self.rest().starts_with(tag));
        if !tag && !self.rest().starts_with(b"F-") && !self.rest().starts_with(b"/F-") {
            return Some(());
        }
        self.at += self.rest().iter().position(|&b| b == b'>').map_or(1, |n| n + 1);
        let hint = "write <HOST>, or a group such as (?P<user>\\S+); a literal < is written \\<";
        self.fail(from, "this tag of fail2ban is not known here", hint)
    }

    fn group(&mut self, from: usize) -> ParseResult<PatternPart> {
        let outer = (self.fold, self.point);
        let mut name = None;
        if self.eat(b"?") {
            if self.eat(b"P<") || (self.peek() == Some(b'<') && !self.look_behind() && self.eat(b"<")) {
                name = Some(self.group_name()?);
            } else if !self.flags(from)? {
                return Some(PatternPart::nothing());
            }
        } else if self.peek() == Some(b'*') {
            self.at += 1;
            return self.fail(from, "verbs such as (*SKIP) are not supported", "a literal ( is written \\(");
        }
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return self.fail(from, "too many groups within groups", &format!("at most {MAX_DEPTH} deep"));
        }
        let mut part = self.alternatives()?;
        if !self.eat(b")") {
            return self.fail_at(from..from + 1, "this group is not closed", "a literal ( is written \\(");
        }
        self.depth -= 1;
        (self.fold, self.point) = outer;
        part.repeatable = true;
        let Some(group) = name else { return Some(part) };
        if part.may & group.bit() != 0 {
            return self.fail(from, &format!("a group {} within itself", group.name()), "");
        }
        part.may |= group.bit();
        part.always |= group.bit();
        part.steps = part.steps.saturating_add(2);
        Some(PatternPart { node: Node::Group(group, Box::new(part.node)), ..part })
    }

    fn look_behind(&self) -> bool {
        matches!(self.rest(), [b'<', b'=' | b'!', ..])
    }

    fn group_name(&mut self) -> ParseResult<CaptureGroup> {
        let from = self.at;
        let Some(len) = self.rest().iter().position(|&b| b == b'>') else {
            self.at = self.text.len();
            return self.fail(from, "the name of this group has no end", "write (?P<user>...)");
        };
        self.at += len;
        let name = self.text.get(from..self.at).unwrap_or_default();
        let Some(group) = CaptureGroup::ALL.into_iter().find(|g| g.name().as_bytes() == name) else {
            let what = format!("unknown group '{}'", String::from_utf8_lossy(name));
            return self.fail(from, &what, "known are ip, user, port, uri, status, ua, method");
        };
        self.at += 1;
        Some(group)
    }

    /// Behind `(?`: reads `i`, `-i`, `s`. True if a group follows, false if the flag stands alone.
    fn flags(&mut self, from: usize) -> ParseResult<bool> {
        let mut on = true;
        let (mut fold, mut point) = (self.fold, self.point);
        loop {
            match self.next() {
                Some(b':') => {
                    (self.fold, self.point) = (fold, point);
                    return Some(true);
                }
                Some(b')') if self.at > from + 3 => {
                    (self.fold, self.point) = (fold, point);
                    return Some(false);
                }
                Some(b'-') if on => on = false,
                Some(b'i') => fold = on,
                Some(b's') => point = if on { ByteSet::EMPTY.not() } else { set::ANY },
                _ => {
                    self.at = (self.at).min(self.text.len());
                    let (what, hint) = unsupported(self.text.get(from + 2..).unwrap_or_default());
                    return self.fail(from, what, hint);
                }
            }
        }
    }

    fn escape(&mut self, from: usize) -> ParseResult<PatternPart> {
        Some(match self.peek() {
            Some(b'b') => self.look(Look::Word),
            Some(b'B') => self.look(Look::NotWord),
            Some(b'A') => self.look(Look::Start),
            Some(b'z' | b'Z') => self.look(Look::End),
            _ => match self.escaped(from, Place::Outside)? {
                Escaped::Byte(b) => PatternPart::one(self.literal(b)),
                Escaped::Set(set) => PatternPart::one(Node::Set(set)),
            },
        })
    }

    fn look(&mut self, look: Look) -> PatternPart {
        self.at += 1;
        PatternPart { empty: true, repeatable: false, ..PatternPart::one(Node::Look(look)) }
    }

    /// Behind the `\`: what means the same within a class and outside.
    pub(super) fn escaped(&mut self, from: usize, place: Place) -> ParseResult<Escaped> {
        let Some(b) = self.next() else {
            return self.fail(from, "nothing follows this \\", "a literal \\ is written \\\\");
        };
        Some(Escaped::Byte(match b {
            b'd' => return Some(Escaped::Set(set::DIGIT)),
            b'D' => return Some(Escaped::Set(set::DIGIT.not())),
            b'w' => return Some(Escaped::Set(set::WORD)),
            b'W' => return Some(Escaped::Set(set::WORD.not())),
            b's' => return Some(Escaped::Set(set::SPACE)),
            b'S' => return Some(Escaped::Set(set::SPACE.not())),
            b't' => b'\t',
            b'n' => b'\n',
            b'r' => b'\r',
            b'f' => 0x0c,
            b'v' => 0x0b,
            b'a' => 0x07,
            b'x' => {
                let digits = self.rest().first_chunk::<2>().and_then(|d| std::str::from_utf8(d).ok());
                let good = digits.filter(|d| d.bytes().all(|b| b.is_ascii_hexdigit()));
                let Some(byte) = good.and_then(|d| u8::from_str_radix(d, 16).ok()) else {
                    return self.fail(from, "\\x without two hex digits", "write it as \\x1b");
                };
                self.at += 2;
                byte
            }
            b if b.is_ascii_punctuation() || b == b' ' => b,
            b => {
                let (what, hint) = unknown_escape(b, place);
                return self.fail(from, &what, hint);
            }
        }))
    }

    /// The repeat behind `part`, which began at `from`, if there is one.
    fn repeat(&mut self, part: PatternPart, from: usize) -> ParseResult<PatternPart> {
        let at = self.at;
        let (min, max) = match self.peek() {
            Some(b'*') => (0, None),
            Some(b'+') => (1, None),
            Some(b'?') => (0, Some(1)),
            Some(b'{') => self.counts()?,
            _ => return Some(part),
        };
        self.at += 1;
        if !part.repeatable {
            return self.fail(at, "there is nothing to repeat before this", "");
        }
        let order = if self.eat(b"?") { Order::Lazy } else { Order::Greedy };
        match self.peek() {
            Some(b'+') if order == Order::Greedy => {
                self.at += 1;
                return self.fail(at, "possessive repeats are not supported", "leave the second + out");
            }
            Some(b'*' | b'+' | b'?' | b'{') => {
                return self.fail(at, "a repeat of a repeat", "put the first in a group: (?: )");
            }
            _ => {}
        }
        if part.may & CaptureGroup::Ip.bit() != 0 && max != Some(1) {
            return self.fail(from, "the ip group may not repeat", "a line has one address to ban");
        }
        let copies = max.unwrap_or(min.saturating_add(1)).max(1);
        let steps = part.steps.saturating_add(2).saturating_mul(copies);
        if steps > MAX_STEPS {
            return self.fail(
                from,
                "this repeat makes the pattern too large",
                "write *, + or a smaller count",
            );
        }
        let empty = part.empty || min == 0;
        let always = if min > 0 { part.always } else { 0 };
        let may = if max == Some(0) { 0 } else { part.may };
        let what = Box::new(part.node);
        let node = Node::Repeat { what, min, max, order, empty: part.empty };
        Some(PatternPart { node, may, always, steps, empty, repeatable: false })
    }

    /// At a `{`: reads up to the `}`, which is left to be skipped.
    fn counts(&mut self) -> ParseResult<(u32, Option<u32>)> {
        let from = self.at;
        self.at += 1;
        let min = self.number();
        let comma = self.eat(b",");
        let max = if comma { self.number() } else { min };
        let Some(min) = min.filter(|_| self.peek() == Some(b'}')) else {
            return self.fail(
                from,
                "not a repeat count",
                "write {2}, {2,} or {2,5}; a literal { is written \\{",
            );
        };
        if max.is_some_and(|max| max < min) {
            self.at += 1;
            return self.fail(from, "this repeat is reversed", "write the smaller count first");
        }
        if min > MAX_STEPS || max.is_some_and(|max| max > MAX_STEPS) {
            self.at += 1;
            return self.fail(from, "this repeat count is too large", &format!("at most {MAX_STEPS}"));
        }
        Some((min, max))
    }

    fn number(&mut self) -> Option<u32> {
        let len = self.rest().iter().take_while(|b| b.is_ascii_digit()).count();
        let digits = self.rest().get(..len).filter(|d| !d.is_empty())?;
        let number =
            digits.iter().fold(0u32, |n, b| n.saturating_mul(10).saturating_add(u32::from(b - b'0')));
        self.at += len;
        Some(number)
    }
}

/// Where a backslash stands.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// In a class in brackets.
    Class,
    Outside,
}

/// What one backslash or one byte of a class stands for.
pub(super) enum Escaped {
    Byte(u8),
    Set(ByteSet),
}
