#![forbid(unsafe_code)]
//! JSON text, one object a line (RFC 8259). Written only: nothing here is ever read back by mef.

use std::fmt::Write as _;

/// An object that is being written.
pub struct Object {
    text: String,
}

impl Object {
    /// An object without members.
    #[must_use]
    pub fn new() -> Object {
        Object { text: String::from("{") }
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

impl Default for Object {
    fn default() -> Self {
        Object::new()
    }
}

fn quote(out: &mut String, text: &str) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            // DEL and the C1 controls need no escape in JSON, but terminals obey them.
            c if c.is_control() => {
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            }
            c => out.push(c),
        }
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
    }
}
