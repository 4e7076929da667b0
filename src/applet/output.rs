#![forbid(unsafe_code)]
//! Where a command writes, and how it ends.

use crate::base::build_part::BuildPart;
use crate::sys::stdio;
use std::fmt::Display;
use std::io::{self, Write};

/// How a command ended, if it did not simply end well.
pub(super) enum OutputError {
    /// Exit status 2, the text on standard error.
    Usage(String),
    /// Exit status 0, the text on standard output.
    Help(String),
    /// Exit status 1, the text on standard error.
    Failed(String),
    /// Exit status 1; everything has been said.
    Told,
    /// Another exit status; everything has been said.
    Status(u8),
    /// Standard output cannot be written.
    Output(io::Error),
}

/// How results are written: what `--json` in the command line chooses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum OutputShape {
    /// For people.
    Text,
    /// An object a line.
    Json,
}

impl From<bool> for OutputShape {
    fn from(json: bool) -> OutputShape {
        if json { OutputShape::Json } else { OutputShape::Text }
    }
}

/// What a command fails of, as it is said.
pub(super) fn failed(e: impl Display) -> OutputError {
    OutputError::Failed(e.to_string())
}

impl From<io::Error> for OutputError {
    fn from(e: io::Error) -> Self {
        OutputError::Output(e)
    }
}

/// How writing went: whoever reads may have seen enough, and then the exit status is what it is otherwise.
pub(super) fn seen(written: io::Result<()>) -> Result<(), OutputError> {
    match written {
        Err(e) if e.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => Ok(written?),
    }
}

/// Where results go, and how many problems were told on the way.
pub(super) struct Output<'a> {
    pub(super) out: &'a mut dyn Write,
    pub(super) problems: u32,
}

impl Output<'_> {
    /// Tells a problem on standard error; the command goes on and ends with status 1.
    pub(super) fn problem(&mut self, text: &dyn Display) {
        self.problems += 1;
        let _ = self.out.flush();
        say(text);
    }

    /// Tells something on standard error that is no failure.
    pub(super) fn note(&mut self, text: &dyn Display) {
        let _ = self.out.flush();
        say(text);
    }

    /// Shows text that is complete in itself on standard error.
    pub(super) fn raw(&mut self, text: &str) {
        let _ = self.out.flush();
        let _ = stdio::stderr().write_all(text.as_bytes());
    }

    /// Status 1 if anything was told.
    pub(super) fn end(&self) -> Result<(), OutputError> {
        if self.problems == 0 { Ok(()) } else { Err(OutputError::Told) }
    }
}

/// One message on standard error. Nobody may be reading it any more: that is no reason to die, as `eprintln`
/// would.
pub(super) fn say(text: &dyn Display) {
    let text = format!("mef: {text}\n");
    let _ = stdio::stderr().write_all(text.as_bytes());
}

/// Says that something was left out, if it was.
#[inline(always)]
pub(super) fn required(part: BuildPart) -> Result<(), OutputError> {
    if part.is_in() { Ok(()) } else { Err(OutputError::Failed(part.is_missing())) }
}
