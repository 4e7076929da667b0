#![forbid(unsafe_code)]
//! The arguments of `mefctl`: options with one or two dashes, anywhere among the words, values behind a `=`
//! or as the next word.

use crate::applet::output::{Output, OutputError};
use crate::base::diag::suggest;
use crate::base::line::shown;
use crate::rulefile::replace;
use crate::sys::stdio;
use std::io::{BufRead as _, BufReader, Read as _};

/// Longest answer to a question, bytes.
const ANSWER: u64 = 64;

/// What was given.
pub(super) struct GivenWords<'a> {
    flags: Vec<&'static str>,
    values: Vec<(&'static str, &'a str)>,
    rest: Vec<&'a str>,
}

impl<'a> GivenWords<'a> {
    /// Reads arguments of which `flags` stand alone and `valued` have a value.
    pub(super) fn read(
        args: &[&'a str],
        flags: &[&'static str],
        valued: &[&'static str],
    ) -> Result<GivenWords<'a>, OutputError> {
        let mut words = GivenWords { flags: Vec::new(), values: Vec::new(), rest: Vec::new() };
        let mut args = args.iter().copied();
        while let Some(arg) = args.next() {
            if arg == "--" {
                words.rest.extend(args);
                break;
            }
            if !arg.starts_with('-') || arg == "-" {
                words.rest.push(arg);
                continue;
            }
            let (name, value) = match arg.split_once('=') {
                Some((name, value)) => (name, Some(value)),
                None => (arg, None),
            };
            let is = |known: &&&str| known.trim_start_matches('-') == name.trim_start_matches('-');
            if let Some(flag) = flags.iter().find(is) {
                match value {
                    None | Some("true") => words.flags.push(flag),
                    Some("false") => {}
                    Some(_) => return Err(OutputError::Usage(format!("{flag} takes no value"))),
                }
            } else if let Some(option) = valued.iter().find(is) {
                let value = value.or_else(|| args.next());
                let value = value.ok_or_else(|| OutputError::Usage(format!("{option} needs a value")))?;
                words.values.push((option, value));
            } else {
                let known: Vec<&str> = flags.iter().chain(valued).copied().collect();
                return Err(unknown("option", name, &known));
            }
        }
        Ok(words)
    }

    pub(super) fn has(&self, flag: &str) -> bool {
        self.flags.contains(&flag)
    }

    /// The value of an option; the last one counts.
    pub(super) fn value(&self, option: &str) -> Option<&'a str> {
        self.values.iter().rev().find(|(name, _)| *name == option).map(|(_, value)| *value)
    }

    pub(super) fn rest(&self) -> &[&'a str] {
        &self.rest
    }

    /// There must be nothing more.
    pub(super) fn none(&self) -> Result<(), OutputError> {
        self.rest.first().map_or(Ok(()), |more| Err(too_many(more)))
    }

    /// The one file that was given, or this one.
    pub(super) fn file(&self, default: &'a str) -> Result<&'a str, OutputError> {
        match self.rest.as_slice() {
            [] => Ok(default),
            [file] => Ok(file),
            [_, more, ..] => Err(too_many(more)),
        }
    }

    /// Of options that exclude each other, the one that was given.
    pub(super) fn one_of(&self, flags: &[&'static str]) -> Result<Option<&'static str>, OutputError> {
        let mut given = flags.iter().filter(|flag| self.has(flag));
        match (given.next(), given.next()) {
            (Some(one), Some(other)) => {
                Err(OutputError::Usage(format!("{one} and {other} exclude each other")))
            }
            (one, _) => Ok(one.copied()),
        }
    }
}

fn too_many(word: &str) -> OutputError {
    OutputError::Usage(format!("unexpected word '{}'; see `mefctl help`", shown(word)))
}

/// What is said about a word that nobody knows.
pub(super) fn unknown(what: &str, word: &str, known: &[&str]) -> OutputError {
    let meant = suggest(word, known.iter().copied()).map(|near| format!(", did you mean '{near}'?"));
    let known = if known.is_empty() { String::new() } else { format!("; expected: {}", known.join(", ")) };
    OutputError::Usage(format!("unknown {what} '{}'{}{known}", shown(word), meant.unwrap_or_default()))
}

/// The action behind a word, and what follows it.
pub(super) fn action<'w, 'a>(
    word: &str,
    args: &'w [&'a str],
    known: &[&'static str],
) -> Result<(&'static str, &'w [&'a str]), OutputError> {
    let Some((action, rest)) = args.split_first() else {
        return Err(OutputError::Usage(format!("missing word after '{word}': {}", known.join(", "))));
    };
    match known.iter().find(|known| *known == action) {
        Some(known) => Ok((known, rest)),
        None => Err(unknown("action", action, known)),
    }
}

/// Writes what a command shows into a file, if it succeeds.
pub(super) fn into_file(
    path: &str,
    output: &mut Output<'_>,
    command: impl FnOnce(&mut Output<'_>) -> Result<(), OutputError>,
) -> Result<(), OutputError> {
    let mut text = Vec::new();
    let mut inner = Output { out: &mut text, problems: output.problems };
    let result = command(&mut inner);
    output.problems = inner.problems;
    // Rules that `mef load` would refuse are of use to whoever edits them; without any there is nothing.
    if !text.is_empty() {
        replace(path, &text).map_err(|e| OutputError::Failed(format!("{path}: {e}")))?;
        output.note(&format_args!("written to {path}"));
    }
    result
}

/// Asks; only the whole word is a yes.
pub(super) fn confirmed(question: &str, output: &mut Output<'_>) -> Result<bool, OutputError> {
    output.raw(question);
    let failed = |e: std::io::Error| OutputError::Failed(format!("standard input: {e}"));
    let mut answer = String::new();
    let input = stdio::stdin().map_err(failed)?;
    BufReader::new(input.take(ANSWER)).read_line(&mut answer).map_err(failed)?;
    Ok(answer.trim() == "yes")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read<'a>(args: &[&'a str]) -> Result<GivenWords<'a>, OutputError> {
        GivenWords::read(args, &["--yes", "--all"], &["--timeout"])
    }

    #[test]
    fn options_stand_anywhere_and_in_every_form() {
        for args in [
            &["--yes", "--timeout", "5s", "f"][..],
            &["f", "-yes", "-timeout=5s"],
            &["--timeout=5s", "f", "--yes=true"],
            &["--timeout", "9s", "--timeout", "5s", "--yes", "--", "f"],
        ] {
            let words = read(args).ok().unwrap();
            assert!(words.has("--yes") && !words.has("--all"), "{args:?}");
            assert_eq!((words.value("--timeout"), words.rest()), (Some("5s"), &["f"][..]), "{args:?}");
        }
        let words = read(&["--yes=false", "--", "--all"]).ok().unwrap();
        assert!(!words.has("--yes") && !words.has("--all") && words.rest() == ["--all"]);
    }

    #[test]
    fn what_is_wrong_is_named() {
        let cases = [
            (&["--yess"][..], "did you mean '--yes'?"),
            (&["--timeout"], "--timeout needs a value"),
            (&["--yes=5"], "--yes takes no value"),
            (&["-x"], "unknown option '-x'"),
        ];
        for (args, want) in cases {
            assert!(matches!(read(args), Err(OutputError::Usage(text)) if text.contains(want)), "{args:?}");
        }
        let words = read(&["a", "b"]).ok().unwrap();
        assert!(matches!(words.file("d"), Err(OutputError::Usage(text)) if text.contains("'b'")));
        let words = read(&["--yes", "--all"]).ok().unwrap();
        assert!(words.one_of(&["--yes", "--all"]).is_err() && words.none().is_ok());
    }
}
