#![forbid(unsafe_code)]
//! Examples inside a service rule's file: lines that must hit and lines that must not.
//! They are comments to everything but `mef test --self` and `mef check`, so the daemon never holds them.
//!
//! `#+ ADDR LINE` must be a hit for ADDR, `#= ADDR LINE` a log-in of ADDR that succeeded, `#- LINE` neither.
//! Those are about the mode that the file says. `#+[MODE] ADDR LINE` must be a hit in that mode, and none in
//! those that count less; `#-[MODE] LINE` none in that mode.
//! In LINE `\xHH` is that byte and `\\` a backslash, so that control bytes can be written; there is no other
//! escape.

use super::ini::LINE_MAX;
use super::keys::Worded;
use super::service::Mode;
use crate::base::diag::{Problem, Severity};
use std::net::IpAddr;

/// One log line and what it must do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Example {
    /// Whom it must hit; `None` when it must be no hit.
    pub hit: Option<IpAddr>,
    /// It must be a log-in that succeeded, not a hit.
    pub success: bool,
    /// In which mode, if not in that of the file.
    pub mode: Option<Mode>,
    /// Line of the file, counted from 1.
    pub line: u32,
    /// The raw log line without its newline.
    pub text: Vec<u8>,
}

/// The examples of a file, in its order. Broken ones are problems, never errors: they are comments.
#[must_use]
pub fn examples(text: &str) -> (Vec<Example>, Vec<Problem>) {
    let mut out = Vec::new();
    let mut problems = Vec::new();
    for (line, text) in (1u32..).zip(text.lines()) {
        let Some(head) = Head::read(text).filter(|_| text.len() <= LINE_MAX) else { continue };
        let mut hit = None;
        let mut rest = head.rest;
        if head.sign != '-' {
            let (addr, log) = rest.split_once(' ').unwrap_or((rest, ""));
            let Ok(addr) = addr.parse() else {
                let hint = "expected '#+ ADDRESS LINE'".replace('+', head.sign.encode_utf8(&mut [0; 4]));
                let what = ["'", addr, "' is not an address"].concat();
                let at = text.len() - rest.len();
                problems.push(Problem::at(Severity::Warning, line, text, at..at + addr.len(), what, hint));
                continue;
            };
            (hit, rest) = (Some(addr), log);
        }
        match unescape(rest) {
            Ok(text) => out.push(Example { hit, success: head.sign == '=', mode: head.mode, line, text }),
            Err(at) => {
                let at = text.len() - rest.len() + at;
                let hint = "only \\xHH and \\\\ are escapes here".to_string();
                problems.push(Problem::at(
                    Severity::Warning,
                    line,
                    text,
                    at..at + 2,
                    "an unknown escape".into(),
                    hint,
                ));
            }
        }
    }
    (out, problems)
}

/// How a line of an example begins.
struct Head<'a> {
    /// `+`, `=` or `-`.
    sign: char,
    mode: Option<Mode>,
    rest: &'a str,
}

impl Head<'_> {
    fn read(text: &str) -> Option<Head<'_>> {
        let rest = text.strip_prefix('#')?;
        let sign = rest.chars().next().filter(|sign| matches!(sign, '+' | '=' | '-'))?;
        let rest = rest.get(1..)?;
        if let Some(rest) = rest.strip_prefix(' ') {
            return Some(Head { sign, mode: None, rest });
        }
        let (word, rest) = rest.strip_prefix('[')?.split_once("] ")?;
        let mut mode = Mode::default();
        let at = mode.words().iter().position(|known| *known == word)?;
        mode.set_word(at);
        Some(Head { sign, mode: Some(mode), rest })
    }
}

/// Bytes of the line, or where an escape is wrong.
fn unescape(text: &str) -> Result<Vec<u8>, usize> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes().enumerate();
    while let Some((at, b)) = bytes.next() {
        if b != b'\\' {
            out.push(b);
            continue;
        }
        match bytes.next() {
            Some((_, b'\\')) => out.push(b'\\'),
            Some((_, b'x')) => {
                let mut digit = || bytes.next().and_then(|(_, b)| char::from(b).to_digit(16));
                let byte = digit().zip(digit()).and_then(|(high, low)| u8::try_from(high * 16 + low).ok());
                out.push(byte.ok_or(at)?);
            }
            _ => return Err(at),
        }
    }
    Ok(out)
}
