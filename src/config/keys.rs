#![forbid(unsafe_code)]
//! Tables of keys: one row says the name, the default, the kind of value and where it is stored.
//! Parsing, defaults, suggestions and the test of the shipped mef.conf all come from the rows.

use super::ini::IniEntry;
use super::ports::{ExcludedPorts, PortRanges};
use super::settings::InterfaceChoice;
use super::value;
use crate::base::clock::Span;
use crate::base::diag::{Bad, Checked, Problem, Severity, suggest};
use ipnet::IpNet;
use std::net::{IpAddr, SocketAddr};

/// One key of a section whose values end in a `T`.
pub(super) struct SettingKey<T: 'static> {
    pub name: &'static str,
    /// The default as text; it goes through the same reader as a value from a file. Empty = there is none.
    pub default: &'static str,
    /// Where the value goes, and so what it may be. A place instead of a setter: a setter for every key
    /// would bring its own copy of the errors and of dropping the old value.
    pub slot: fn(&mut T) -> SettingSlot<'_>,
}

/// A place for a value, and what the value may be.
pub(super) enum SettingSlot<'a> {
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
    Ports(&'a mut PortRanges),
    /// Ports, `auto`, or both.
    ExcludedPorts(&'a mut ExcludedPorts),
    /// Names of interfaces, `auto`, or both; or `all`.
    Interfaces(&'a mut InterfaceChoice),
}

/// Free text is for names and prefixes: the kernel's log prefix ends at 127 bytes.
const TEXT_MAX: usize = 127;

impl SettingSlot<'_> {
    /// Reads `text` and stores it; on an error everything stays as it was.
    pub fn set(self, text: &str) -> Checked<()> {
        match self {
            SettingSlot::Flag(to) => *to = value::word(text, &["true", "false"])? == 0,
            SettingSlot::Either(words, to) => *to = value::word(text, &words)? == 0,
            SettingSlot::Both(words, to) => {
                let found = value::some_of(text, words)?;
                for (to, found) in to.into_iter().zip(found) {
                    *to = found;
                }
            }
            SettingSlot::Count(min, max, to) => *to = value::count(text, min, max)?,
            SettingSlot::Secs(min, max, to) => *to = value::secs(text, min, max)?,
            SettingSlot::Never(to) => {
                *to = if value::is_never(text) { None } else { Some(value::duration(text)?) }
            }
            SettingSlot::Reload(_, to) if value::is_never(text) => *to = 0,
            SettingSlot::Reload(max, to) => *to = value::secs(text, 0, max)?,
            SettingSlot::Ago(to) => *to = value::ago(text)?,
            SettingSlot::Span(to) => *to = value::span(text)?,
            SettingSlot::Word(to) => to.set_word(value::word(text, to.words())?),
            SettingSlot::Path(to) => put_text(to, text, value::path(text))?,
            SettingSlot::OptionalPath(to) if text.is_empty() => to.clear(),
            SettingSlot::OptionalPath(to) => put_text(to, text, value::path(text))?,
            SettingSlot::Text(to) if text.len() <= TEXT_MAX => put_text(to, text, Ok(()))?,
            SettingSlot::Text(_) => return Err(Bad::word(0, text, "is too long", "at most 127 bytes")),
            SettingSlot::Domain(to) if text.is_empty() => to.clear(),
            SettingSlot::Domain(to) => put_text(to, text, value::domain(text))?,
            SettingSlot::Name(_) if text.is_empty() => {}
            SettingSlot::Name(to) => put_text(to, text, value::name(text))?,
            SettingSlot::Names(to) => *to = value::names(text)?,
            SettingSlot::Paths(to) => *to = value::paths(text)?,
            SettingSlot::Command(to) => *to = value::command(text)?,
            SettingSlot::Hook(to) => {
                let command = value::command(text)?;
                command.first().map_or(Ok(()), |program| value::path(program))?;
                *to = command;
            }
            SettingSlot::Nets(to) => *to = value::nets(text)?,
            SettingSlot::Addresses(to) => *to = value::addresses(text)?,
            SettingSlot::Loopback(to) => *to = value::loopback(text)?,
            SettingSlot::Server(to) => *to = value::server(text)?,
            SettingSlot::Prefixes(to) => *to = value::prefixes(text)?,
            SettingSlot::Ports(to) => *to = PortRanges::of_ban(text)?,
            SettingSlot::ExcludedPorts(to) => *to = ExcludedPorts::parse(text)?,
            SettingSlot::Interfaces(to) => *to = InterfaceChoice::parse(text)?,
        }
        Ok(())
    }

    /// Whether an empty value says something: lists and texts can be empty, numbers and words cannot.
    fn may_be_empty(&self) -> bool {
        matches!(
            self,
            SettingSlot::Text(_)
                | SettingSlot::OptionalPath(_)
                | SettingSlot::Server(_)
                | SettingSlot::Name(_)
                | SettingSlot::Domain(_)
                | SettingSlot::Names(_)
                | SettingSlot::Paths(_)
                | SettingSlot::Command(_)
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
pub(super) fn set_defaults<T>(table: &[SettingKey<T>], target: &mut T) {
    for key in table.iter().filter(|k| !k.default.is_empty()) {
        let _ = (key.slot)(target).set(key.default);
    }
}

/// The row of `name`.
pub(super) fn find<'t, T>(table: &'t [SettingKey<T>], name: &str) -> Option<&'t SettingKey<T>> {
    table.iter().find(|k| k.name == name)
}

/// Stores the entry's value in `slot`, whose default is `default`.
pub(super) fn store(slot: SettingSlot<'_>, default: &str, entry: &IniEntry<'_>, problems: &mut Vec<Problem>) {
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
pub(super) fn unknown<'k>(entry: &IniEntry<'_>, known: impl IntoIterator<Item = &'k str>) -> Problem {
    let what = ["unknown key '", entry.key, "'"].concat();
    let hint = match suggest(entry.key, known) {
        Some(near) => ["it has no effect; did you mean '", near, "'?"].concat(),
        None => "it has no effect".to_string(),
    };
    entry.key_problem(Severity::Warning, what, hint)
}

/// What is said about a key of the existing product that means nothing here.
pub(super) fn no_longer_needed(entry: &IniEntry<'_>, why: &str) -> Problem {
    let what = ["'", entry.key, "' is no longer needed"].concat();
    entry.key_problem(Severity::Obsolete, what, why.to_string())
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
