#![forbid(unsafe_code)]
//! Tables of keys: one row says the name, the default, the kind of value and where it is stored.
//! Parsing, defaults, suggestions and the test of the shipped mef.conf all come from the rows.

use super::ini::Entry;
use super::ports::Ports;
use super::value::{self, Bad};
use crate::base::clock::Span;
use crate::base::diag::{Problem, Severity, suggest};
use ipnet::IpNet;

/// One key of a section whose values end in a `T`.
pub(super) struct Key<T: 'static> {
    pub name: &'static str,
    /// The default as text; it goes through the same reader as a value from a file.
    pub default: &'static str,
    pub slot: Slot<T>,
}

/// What a value may be, and the place that it goes to. Accessors, not closures over a parsed value:
/// each is one instruction, where a setter would bring its own error and drop code.
pub(super) enum Slot<T: 'static> {
    /// `true` or `false`.
    Flag(fn(&mut T) -> &mut bool),
    /// A whole number within limits.
    Count(u32, u32, fn(&mut T) -> &mut u32),
    /// A duration within limits, in seconds.
    Secs(u32, u32, fn(&mut T) -> &mut u32),
    /// A duration, or `permanent`.
    Span(fn(&mut T) -> &mut Span),
    /// One of the words; its number is passed on.
    Word(&'static [&'static str], fn(&mut T, usize)),
    /// Some of the words; bit 0 is the first.
    Words(&'static [&'static str], fn(&mut T, u8)),
    /// An absolute path.
    Path(fn(&mut T) -> &mut String),
    /// Short free text, may be empty.
    Text(fn(&mut T) -> &mut String),
    /// A comma list of words.
    Names(fn(&mut T) -> &mut Vec<String>),
    /// A comma list of absolute paths and globs.
    Paths(fn(&mut T) -> &mut Vec<String>),
    /// A program and its arguments.
    Command(fn(&mut T) -> &mut Vec<String>),
    /// Networks, or `none`.
    Nets(fn(&mut T) -> &mut Vec<IpNet>),
    /// Ports, or `all`.
    Ports(fn(&mut T) -> &mut Ports),
    /// What only one key has.
    Own(fn(&mut T, &str) -> Result<(), Bad>),
}

/// Free text is for names and prefixes: the kernel's log prefix ends at 127 bytes.
const TEXT_MAX: usize = 127;

impl<T> Key<T> {
    /// Reads `text` and stores it in `target`, which stays as it was on an error.
    pub fn set(&self, target: &mut T, text: &str) -> Result<(), Bad> {
        match self.slot {
            Slot::Flag(at) => *at(target) = value::word(text, &["true", "false"])? == 0,
            Slot::Count(min, max, at) => *at(target) = value::count(text, min, max)?,
            Slot::Secs(min, max, at) => *at(target) = value::secs(text, min, max)?,
            Slot::Span(at) => *at(target) = value::span(text)?,
            Slot::Word(words, put) => put(target, value::word(text, words)?),
            Slot::Words(words, put) => put(target, value::word_bits(text, words)?),
            Slot::Path(at) => {
                value::path(text)?;
                *at(target) = text.to_string();
            }
            Slot::Text(at) if text.len() <= TEXT_MAX => *at(target) = text.to_string(),
            Slot::Text(_) => return Err(Bad::word(0, text, "is too long", "at most 127 bytes")),
            Slot::Names(at) => *at(target) = value::names(text)?,
            Slot::Paths(at) => *at(target) = value::paths(text)?,
            Slot::Command(at) => *at(target) = value::command(text)?,
            Slot::Nets(at) => *at(target) = value::nets(text)?,
            Slot::Ports(at) => *at(target) = Ports::parse(text)?,
            Slot::Own(read) => read(target, text)?,
        }
        Ok(())
    }

    /// Whether an empty value says something: lists and texts can be empty, numbers and words cannot.
    fn may_be_empty(&self) -> bool {
        match self.slot {
            Slot::Text(_) | Slot::Names(_) | Slot::Paths(_) | Slot::Command(_) => true,
            Slot::Own(_) => self.default.is_empty(),
            _ => false,
        }
    }
}

/// Sets every key of `table` to its default. A row with a wrong default is found by a test.
pub(super) fn set_defaults<T>(table: &[Key<T>], target: &mut T) {
    for key in table {
        if !key.default.is_empty() || key.may_be_empty() {
            let _ = key.set(target, key.default);
        }
    }
}

/// Stores the entry's value under `name`; `None` when the table has no such key.
pub(super) fn store<'t, T>(
    table: &'t [Key<T>],
    name: &str,
    target: &mut T,
    entry: &Entry<'_>,
    problems: &mut Vec<Problem>,
) -> Option<&'t Key<T>> {
    let key = table.iter().find(|k| k.name == name)?;
    let text = entry.unquoted();
    let done = if text.is_empty() && !key.may_be_empty() {
        let what = ["'", entry.key, "' has no value"].concat();
        Err(Bad { at: 0..0, what, hint: ["the default is ", key.default].concat() })
    } else {
        key.set(target, &text)
    };
    if let Err(bad) = done {
        problems.push(entry.value_error(bad));
    }
    Some(key)
}

/// What is said about a key that nobody knows.
pub(super) fn unknown<'k>(entry: &Entry<'_>, known: impl IntoIterator<Item = &'k str>) -> Problem {
    let what = ["unknown key '", entry.key, "'"].concat();
    let hint = match suggest(entry.key, known) {
        Some(near) => ["it has no effect; did you mean '", near, "'?"].concat(),
        None => "it has no effect".to_string(),
    };
    entry.key_problem(Severity::Warning, what, hint)
}

/// What is said about a key of the existing product that means nothing here.
pub(super) fn no_longer_needed(entry: &Entry<'_>, why: &str) -> Problem {
    let what = ["'", entry.key, "' is no longer needed"].concat();
    entry.key_problem(Severity::Warning, what, why.to_string())
}

/// An enum whose values are words of the configuration. Words behind the bar are other names for a value.
macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $word:literal,)+ $(| $alias:literal => $to:ident,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum $name { $($(#[$vdoc])* $variant,)+ }

        impl $name {
            /// Every word that stands for a value, other names last.
            pub const WORDS: &'static [&'static str] = &[$($word,)+ $($alias,)*];

            /// The value that word number `i` of `WORDS` stands for.
            pub(in crate::config) fn from_word(i: usize) -> $name {
                const VALUES: &[$name] = &[$($name::$variant,)+ $($name::$to,)*];
                VALUES.get(i).copied().unwrap_or(VALUES[0])
            }

            /// The word for this value.
            #[must_use]
            pub fn word(self) -> &'static str {
                Self::WORDS.get(self as usize).copied().unwrap_or("")
            }
        }

        /// The first word's value.
        impl Default for $name {
            fn default() -> $name {
                $name::from_word(0)
            }
        }
    };
}
pub(super) use words;
