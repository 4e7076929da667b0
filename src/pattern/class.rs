#![forbid(unsafe_code)]
//! The part of the parser that reads classes in brackets.

use super::parse::{Escaped, ParseResult, Parser, Place};
use super::set::ByteSet;

/// The name of a class of POSIX, and what is in it.
type Named = (&'static [u8], fn(u8) -> bool);

impl Parser<'_> {
    /// Behind the `[`.
    pub(super) fn class(&mut self, from: usize) -> ParseResult<ByteSet> {
        let negated = self.eat(b"^");
        let mut set = ByteSet::EMPTY;
        let mut first = true;
        loop {
            let at = self.at;
            // One that is the first thing in a class is a byte of it.
            if !first && self.eat(b"]") {
                break;
            }
            match self.class_item(from)? {
                Escaped::Set(more) => {
                    if self.range_follows() {
                        self.at += 1;
                        return self.fail(
                            at,
                            "a range cannot begin with a class",
                            "a literal - is written \\-",
                        );
                    }
                    set = set.or(more);
                }
                Escaped::Byte(lo) if self.range_follows() => {
                    self.at += 1;
                    match self.class_item(from)? {
                        Escaped::Byte(hi) if lo <= hi => set = set.with(lo, hi),
                        Escaped::Byte(_) => {
                            return self.fail(at, "this range is reversed", "a literal - is written \\-");
                        }
                        Escaped::Set(_) => {
                            return self.fail(
                                at,
                                "a range cannot end with a class",
                                "a literal - is written \\-",
                            );
                        }
                    }
                }
                Escaped::Byte(b) => set = set.with(b, b),
            }
            first = false;
        }
        let set = if self.fold { set.folded() } else { set };
        let set = if negated { set.not() } else { set };
        if set.is_empty() {
            return self.fail(from, "this class matches nothing", "");
        }
        Some(set)
    }

    fn range_follows(&self) -> bool {
        matches!(self.rest(), [b'-', b, ..] if *b != b']')
    }

    /// One byte or escape of the class that began at `from`.
    fn class_item(&mut self, from: usize) -> ParseResult<Escaped> {
        let at = self.at;
        match self.next() {
            None => self.fail_at(from..from + 1, "this class is not closed", "a literal [ is written \\["),
            Some(b'\\') => self.escaped(at, Place::Class),
            Some(b'[') if self.peek() == Some(b':') => self.posix(at).map(Escaped::Set),
            Some(b'[') if matches!(self.peek(), Some(b'.' | b'=')) => {
                self.at += 1;
                self.fail(at, "collating symbols are not supported", "write the bytes themselves")
            }
            Some(b) if b >= 0x80 => {
                let _ = self.wide_char(at);
                self.fail(at, "a class holds single bytes only", "write (?:ä|ö) for non-ASCII characters")
            }
            Some(b) => Some(Escaped::Byte(b)),
        }
    }

    /// `[:alpha:]` and its like, inside a class, behind the `[` at `from`.
    fn posix(&mut self, from: usize) -> ParseResult<ByteSet> {
        const CLASSES: [Named; 13] = [
            (b"alpha", |b| b.is_ascii_alphabetic()),
            (b"digit", |b| b.is_ascii_digit()),
            (b"alnum", |b| b.is_ascii_alphanumeric()),
            (b"upper", |b| b.is_ascii_uppercase()),
            (b"lower", |b| b.is_ascii_lowercase()),
            (b"space", |b| matches!(b, b' ' | 0x09..=0x0d)),
            (b"blank", |b| matches!(b, b' ' | b'\t')),
            (b"punct", |b| b.is_ascii_punctuation()),
            (b"xdigit", |b| b.is_ascii_hexdigit()),
            (b"word", |b| b.is_ascii_alphanumeric() || b == b'_'),
            (b"cntrl", |b| b.is_ascii_control()),
            (b"print", |b| b.is_ascii_graphic() || b == b' '),
            (b"graph", |b| b.is_ascii_graphic()),
        ];
        self.at += 1;
        let negated = self.eat(b"^");
        let rest = self.rest();
        let is = |name: &[u8]| rest.strip_prefix(name).is_some_and(|rest| rest.starts_with(b":]"));
        let Some((name, has)) = CLASSES.iter().find(|(name, _)| is(name)) else {
            let known = "known are [:alpha:], [:digit:], [:alnum:], [:upper:], [:lower:], [:space:], \
                [:blank:], [:punct:], [:xdigit:], [:word:], [:cntrl:], [:print:], [:graph:]";
            return self.fail(from, "there is no class of this name", known);
        };
        self.at += name.len() + 2;
        let set = (0..=u8::MAX).filter(|&b| has(b)).fold(ByteSet::EMPTY, |set, b| set.with(b, b));
        Some(if negated { set.not() } else { set })
    }
}
