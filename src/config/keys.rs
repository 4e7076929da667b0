#![forbid(unsafe_code)]
//! Tables of keys: one row says the name, the default, the kind of value and where it is stored.
//! Parsing, defaults, suggestions and the test of the shipped mef.conf all come from the rows.

use super::ini::Entry;
use super::ports::{ExcludedPorts, Ports};
use super::settings::Interfaces;
use super::value;
use crate::base::clock::Span;
use crate::base::diag::{Bad, Checked, Problem, Severity, suggest};
use ipnet::IpNet;
use std::net::{IpAddr, SocketAddr};

/// One key of a section whose values end in a `T`.
pub(super) struct Key<T: 'static> {
    pub name: &'static str,
    /// The default as text; it goes through the same reader as a value from a file. Empty = there is none.
    pub default: &'static str,
    /// Where the value goes, and so what it may be. A place instead of a setter: a setter for every key
    /// would bring its own copy of the errors and of dropping the old value.
    pub slot: fn(&mut T) -> Slot<'_>,
}

/// A place for a value, and what the value may be.
pub(super) enum Slot<'a> {
    /// `true` or `false`.
    Flag(&'a mut bool),
    /// The first word is true, the second is false.
    Either([&'static str; 2], &'a mut bool),
    /// A comma list of the two words, at least one: which of them is there.
    Both([&'static str; 2], [&'a mut bool; 2]),
    /// A whole number within limits.
    Count(u32, u32, &'a mut u32),
    /// A duration within limits, in seconds.
    Secs(u32, u32, &'a mut u32),
    /// A duration, or `never`.
    Never(&'a mut Option<u32>),
    /// A duration up to this one, in seconds, or `never`, which is 0.
    Reload(u32, &'a mut u32),
    /// How long ago, in seconds.
    Ago(&'a mut u32),
    /// A duration, or `permanent`.
    Span(&'a mut Span),
    /// One of the words of an enum.
    Word(&'a mut dyn Worded),
    /// An absolute path.
    Path(&'a mut String),
    /// An absolute path or nothing.
    OptionalPath(&'a mut String),
    /// Short free text or nothing.
    Text(&'a mut String),
    /// A domain name or nothing.
    Domain(&'a mut String),
    /// A rule's name; nothing leaves it as it is.
    Name(&'a mut String),
    /// A comma list of words.
    Names(&'a mut Vec<String>),
    /// A comma list of absolute paths and globs.
    Paths(&'a mut Vec<String>),
    /// A program and its arguments.
    Command(&'a mut Vec<String>),
    /// The same, the program by its full path.
    Hook(&'a mut Vec<String>),
    /// Networks, or `none`.
    Nets(&'a mut Vec<IpNet>),
    /// Addresses, or `auto` for none.
    Addresses(&'a mut Vec<IpAddr>),
    /// A loopback address with a port, or `off`.
    Loopback(&'a mut Option<SocketAddr>),
    /// An address with a port if it is another one than 53; or nothing.
    Server(&'a mut Option<SocketAddr>),
    /// Ever shorter prefix lengths, or `off`.
    Prefixes(&'a mut Vec<u8>),
    /// Ports, or `all`.
    Ports(&'a mut Ports),
    /// Ports, `auto`, or both.
    ExcludedPorts(&'a mut ExcludedPorts),
    /// Names of interfaces, `auto`, or both; or `all`.
    Interfaces(&'a mut Interfaces),
}

/// Free text is for names and prefixes: the kernel's log prefix ends at 127 bytes.
const TEXT_MAX: usize = 127;

impl Slot<'_> {
    /// Reads `text` and stores it; on an error everything stays as it was.
    pub fn set(self, text: &str) -> Checked<()> {
        match self {
            Slot::Flag(to) => *to = value::word(text, &["true", "false"])? == 0,
            Slot::Either(words, to) => *to = value::word(text, &words)? == 0,
            Slot::Both(words, to) => {
                let found = value::some_of(text, words)?;
                for (to, found) in to.into_iter().zip(found) {
                    *to = found;
                }
            }
            Slot::Count(min, max, to) => *to = value::count(text, min, max)?,
            Slot::Secs(min, max, to) => *to = value::secs(text, min, max)?,
            Slot::Never(to) => *to = if value::is_never(text) { None } else { Some(value::duration(text)?) },
            Slot::Reload(_, to) if value::is_never(text) => *to = 0,
            Slot::Reload(max, to) => *to = value::secs(text, 0, max)?,
            Slot::Ago(to) => *to = value::ago(text)?,
            Slot::Span(to) => *to = value::span(text)?,
            Slot::Word(to) => to.set_word(value::word(text, to.words())?),
            Slot::Path(to) => put_text(to, text, value::path(text))?,
            Slot::OptionalPath(to) if text.is_empty() => to.clear(),
            Slot::OptionalPath(to) => put_text(to, text, value::path(text))?,
            Slot::Text(to) if text.len() <= TEXT_MAX => put_text(to, text, Ok(()))?,
            Slot::Text(_) => return Err(Bad::word(0, text, "is too long", "at most 127 bytes")),
            Slot::Domain(to) if text.is_empty() => to.clear(),
            Slot::Domain(to) => put_text(to, text, value::domain(text))?,
            Slot::Name(_) if text.is_empty() => {}
            Slot::Name(to) => put_text(to, text, value::name(text))?,
            Slot::Names(to) => *to = value::names(text)?,
            Slot::Paths(to) => *to = value::paths(text)?,
            Slot::Command(to) => *to = value::command(text)?,
            Slot::Hook(to) => {
                let command = value::command(text)?;
                command.first().map_or(Ok(()), |program| value::path(program))?;
                *to = command;
            }
            Slot::Nets(to) => *to = value::nets(text)?,
            Slot::Addresses(to) => *to = value::addresses(text)?,
            Slot::Loopback(to) => *to = value::loopback(text)?,
            Slot::Server(to) => *to = value::server(text)?,
            Slot::Prefixes(to) => *to = value::prefixes(text)?,
            Slot::Ports(to) => *to = Ports::parse(text)?,
            Slot::ExcludedPorts(to) => *to = ExcludedPorts::parse(text)?,
            Slot::Interfaces(to) => *to = Interfaces::parse(text)?,
        }
        Ok(())
    }

    /// Whether an empty value says something: lists and texts can be empty, numbers and words cannot.
    fn may_be_empty(&self) -> bool {
        matches!(
            self,
            Slot::Text(_)
                | Slot::OptionalPath(_)
                | Slot::Server(_)
                | Slot::Name(_)
                | Slot::Domain(_)
                | Slot::Names(_)
                | Slot::Paths(_)
                | Slot::Command(_)
        )
    }
}

fn put_text(to: &mut String, text: &str, judged: Checked<()>) -> Checked<()> {
    judged?;
    to.clear();
    to.push_str(text);
    Ok(())
}

/// Sets every key of `table` to its default. A row with a wrong default is found by a test.
pub(super) fn set_defaults<T>(table: &[Key<T>], target: &mut T) {
    for key in table.iter().filter(|k| !k.default.is_empty()) {
        let _ = (key.slot)(target).set(key.default);
    }
}

/// The row of `name`.
pub(super) fn find<'t, T>(table: &'t [Key<T>], name: &str) -> Option<&'t Key<T>> {
    table.iter().find(|k| k.name == name)
}

/// Stores the entry's value in `slot`, whose default is `default`.
pub(super) fn store(slot: Slot<'_>, default: &str, entry: &Entry<'_>, problems: &mut Vec<Problem>) {
    let text = entry.unquoted();
    let done = if text.is_empty() && !slot.may_be_empty() {
        let what = ["'", entry.key, "' has no value"].concat();
        let hint = if default.is_empty() { String::new() } else { ["the default is ", default].concat() };
        Err(Bad::new(0..0, what, &hint))
    } else {
        slot.set(&text)
    };
    if let Err(bad) = done {
        problems.push(entry.value_error(*bad));
    }
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

/// An enum whose values are words of the configuration.
pub(super) trait Worded {
    /// Every word that stands for a value, other names last.
    fn words(&self) -> &'static [&'static str];
    /// Becomes the value that word number `i` stands for.
    fn set_word(&mut self, i: usize);
}

/// Makes such an enum; the first value is its `Default`. Words behind a bar are other names for a value.
macro_rules! words {
    ($(#[$doc:meta])* $name:ident {
        $(#[$fdoc:meta])* $first:ident = $fword:literal,
        $($(#[$vdoc:meta])* $variant:ident = $word:literal,)*
        $(| $alias:literal => $to:ident,)*
    }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
        pub enum $name { #[default] $(#[$fdoc])* $first, $($(#[$vdoc])* $variant,)* }

        impl $name {
            const WORDS: &'static [&'static str] = &[$fword, $($word,)* $($alias,)*];

            /// The word for this value.
            #[must_use]
            pub fn word(self) -> &'static str {
                Self::WORDS.get(self as usize).copied().unwrap_or("")
            }
        }

        impl $crate::config::keys::Worded for $name {
            fn words(&self) -> &'static [&'static str] {
                Self::WORDS
            }

            fn set_word(&mut self, i: usize) {
                const VALUES: &[$name] = &[$name::$first, $($name::$variant,)* $($name::$to,)*];
                *self = VALUES.get(i).copied().unwrap_or_default();
            }
        }
    };
}
pub(super) use words;
