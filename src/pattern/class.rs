#![forbid(unsafe_code)]
//! The part of the parser that reads classes in brackets.

use super::parse::{Escaped, Parser, Read};
use super::set::ByteSet;

impl Parser<'_> {
    /// Behind the `[`.
    pub(super) fn class(&mut self, from: usize) -> Read<ByteSet> {
        let negated = self.eat(b"^");
        let mut set = ByteSet::EMPTY;
        let mut first = true;
        loop {
            let at = self.at;
            match self.class_item(from, first)? {
                None => break,
                Some(Escaped::Set(more)) => {
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
                Some(Escaped::Byte(lo)) if self.range_follows() => {
                    self.at += 1;
                    match self.class_item(from, true)? {
                        Some(Escaped::Byte(hi)) if lo <= hi => set = set.with(lo, hi),
                        Some(Escaped::Byte(_)) => {
                            return self.fail(at, "this range runs backwards", "a literal - is written \\-");
                        }
                        _ => {
                            return self.fail(
                                at,
                                "a range cannot end with a class",
                                "a literal - is written \\-",
                            );
                        }
                    }
                }
                Some(Escaped::Byte(b)) => set = set.with(b, b),
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

    /// One byte or escape of the class that began at `from`; nothing at its end.
    fn class_item(&mut self, from: usize, first: bool) -> Read<Option<Escaped>> {
        let at = self.at;
        match self.next() {
            None => self.fail_at(from..from + 1, "this class is not closed", "a literal [ is written \\["),
            Some(b']') if !first => Some(None),
            Some(b'\\') => self.escaped(at, true).map(Some),
            Some(b'[') if matches!(self.peek(), Some(b':' | b'.' | b'=')) => {
                self.at += 1;
                self.fail(
                    at,
                    "POSIX classes are not supported",
                    "write \\d, \\w, \\s or the bytes themselves",
                )
            }
            Some(b) if b >= 0x80 => {
                let _ = self.wide_char(at);
                self.fail(at, "a class holds single bytes only", "write (?:ä|ö) for characters beyond ASCII")
            }
            Some(b) => Some(Some(Escaped::Byte(b))),
        }
    }
}
