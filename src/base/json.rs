#![forbid(unsafe_code)]
//! JSON text (RFC 8259): objects are written, one a line; of what others wrote, escapes in strings are read.

use std::fmt::{Display, Write as _};

/// Bytes that most objects have room in.
const ROOM: usize = 320;

/// An object that is being written.
pub struct Object {
    text: String,
}

impl Object {
    /// An object without members.
    #[must_use]
    pub fn new() -> Object {
        let mut text = String::with_capacity(ROOM);
        text.push('{');
        Object { text }
    }

    /// A member with a string, or null.
    #[must_use]
    pub fn text<'a>(mut self, key: &str, value: impl Into<Option<&'a str>>) -> Object {
        self.key(key);
        match value.into() {
            Some(value) => quote(&mut self.text, value),
            None => self.text.push_str("null"),
        }
        self
    }

    /// A member with a whole number, or null.
    #[must_use]
    pub fn number(mut self, key: &str, value: impl Into<Option<u64>>) -> Object {
        self.key(key);
        let _ = match value.into() {
            Some(value) => write!(self.text, "{value}"),
            None => write!(self.text, "null"),
        };
        self
    }

    /// A member with a string that needs no escape: an address, a network, a word of ours.
    #[must_use]
    pub fn word(mut self, key: &str, value: &dyn Display) -> Object {
        self.key(key);
        let _ = write!(self.text, "\"{value}\"");
        self
    }

    /// A member that is true or false.
    #[must_use]
    pub fn flag(mut self, key: &str, value: bool) -> Object {
        self.key(key);
        self.text.push_str(if value { "true" } else { "false" });
        self
    }

    /// A member with strings.
    #[must_use]
    pub fn texts(mut self, key: &str, values: &[String]) -> Object {
        self.key(key);
        self.text.push('[');
        for (at, value) in values.iter().enumerate() {
            self.text.push_str(if at > 0 { "," } else { "" });
            quote(&mut self.text, value);
        }
        self.text.push(']');
        self
    }

    /// A member whose value is JSON already.
    #[must_use]
    pub fn json(mut self, key: &str, value: &str) -> Object {
        self.key(key);
        self.text.push_str(value);
        self
    }

    /// The object's text, without a newline.
    #[must_use]
    pub fn finish(mut self) -> String {
        self.text.push('}');
        self.text
    }

    fn key(&mut self, key: &str) {
        if self.text.len() > 1 {
            self.text.push(',');
        }
        quote(&mut self.text, key);
        self.text.push(':');
    }
}

/// The character that an escape in a string stands for, and its length; `text` begins behind the backslash.
/// Half a surrogate pair is the replacement character. Nothing for what RFC 8259 does not know.
#[must_use]
pub fn escaped(text: &[u8]) -> Option<(char, usize)> {
    let c = match text.first()? {
        b'n' => '\n',
        b't' => '\t',
        b'r' => '\r',
        b'b' => '\x08',
        b'f' => '\x0c',
        b'u' => return unicode(text.get(1..)?).map(|(c, len)| (c, len + 1)),
        &byte @ (b'"' | b'\\' | b'/') => char::from(byte),
        _ => return None,
    };
    Some((c, 1))
}

/// The same of `XXXX`, and of `XXXX\uXXXX` for a character beyond 16 bits.
fn unicode(text: &[u8]) -> Option<(char, usize)> {
    let unit = |digits: &[u8]| {
        digits.iter().try_fold(0_u32, |n, &digit| Some(n << 4 | char::from(digit).to_digit(16)?))
    };
    let high = unit(text.get(..4)?)?;
    if (0xd800..0xdc00).contains(&high)
        && let Some(b"\\u") = text.get(4..6)
        && let Some(low @ 0xdc00..0xe000) = text.get(6..10).and_then(unit)
    {
        return Some((char::from_u32(0x1_0000 + ((high - 0xd800) << 10 | (low - 0xdc00)))?, 10));
    }
    Some((char::from_u32(high).unwrap_or(char::REPLACEMENT_CHARACTER), 4))
}

impl Default for Object {
    fn default() -> Self {
        Object::new()
    }
}

fn quote(out: &mut String, text: &str) {
    out.push('"');
    let mut rest = text;
    loop {
        let is_plain = |b: u8| matches!(b, b' '..=b'~') && b != b'"' && b != b'\\';
        let end = rest.bytes().position(|b| !is_plain(b)).unwrap_or(rest.len());
        let (plain, other) = rest.split_at_checked(end).unwrap_or((rest, ""));
        out.push_str(plain);
        let mut chars = other.chars();
        match chars.next() {
            None => break,
            Some(c @ ('"' | '\\')) => out.extend(['\\', c]),
            // DEL and the C1 controls need no escape in JSON, but terminals obey them.
            Some(c) if c.is_control() => {
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            }
            Some(c) => out.push(c),
        }
        rest = chars.as_str();
    }
    out.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_hold_any_text() {
        let text =
            Object::new().text("a", "q\"\\\n\u{1b}[1m ü").number("n", 7).text("t", None).number("u", None);
        assert_eq!(text.finish(), "{\"a\":\"q\\\"\\\\\\u000a\\u001b[1m ü\",\"n\":7,\"t\":null,\"u\":null}");
        assert_eq!(Object::new().finish(), "{}");
        assert_eq!(Object::new().json("a", "[1]").number("b", 2).finish(), "{\"a\":[1],\"b\":2}");
    }
}
