#![forbid(unsafe_code)]
//! The canonical text of a file, with its comments and with the names that stand in values.

use super::ast::Statement;
use super::names::Names;
use super::{lex, parse, print};
use crate::base::diag::{Problem, decode};

/// The canonical form of a file's text: comments and blank lines stay where they are, and so do the names in
/// values that stand for something else.
///
/// # Errors
/// All problems of the text.
pub fn canonical(bytes: &[u8]) -> Result<String, Vec<Problem>> {
    formatted(bytes, None)
}

/// Likewise, without keys that the existing product does not know where nothing stands in them; `beyond` is
/// given the numbers of the lines that it cannot read.
///
/// # Errors
/// All problems of the text.
pub fn canonical_v1(bytes: &[u8], beyond: &mut dyn FnMut(u32)) -> Result<String, Vec<Problem>> {
    formatted(bytes, Some(beyond))
}

fn formatted(bytes: &[u8], mut beyond: Option<&mut dyn FnMut(u32)>) -> Result<String, Vec<Problem>> {
    let mut problems = Vec::new();
    let text = decode(bytes, &mut problems).unwrap_or("");
    let mut out = String::with_capacity(text.len() * 2);
    let mut names = Names { lenient: true, ..Names::default() };
    for (number, line) in (1u32..).zip(text.lines()) {
        let (statement, comment) = parse::line_of(line, number, &names, &mut problems);
        if let Some(Statement::Let(name, value)) = &statement {
            names.add(name, value);
        }
        if let Some(statement) = statement {
            let printed = if beyond.is_some() { format!("{statement:#}") } else { statement.to_string() };
            if let Some(beyond) = beyond.as_mut().filter(|_| !print::is_v1(&printed)) {
                beyond(number);
            }
            out.push_str(&as_written(line, printed));
            out.push_str(if comment.is_empty() { "" } else { " " });
        }
        out.push_str(comment.trim_ascii_end());
        out.push('\n');
    }
    if problems.is_empty() { Ok(out) } else { Err(problems) }
}

/// A printed statement with those values as they were written in which a name stands for something else.
fn as_written(line: &str, printed: String) -> String {
    if !line.contains('$') && !line.contains("uid=") && !line.contains("gid=") {
        return printed;
    }
    let (mut was, mut is) = (lex::StatementLine::default(), lex::StatementLine::default());
    let _ = (lex::cut(line, &mut was), lex::cut(&printed, &mut is));
    let named = |pair: &&lex::Pair<'_>| {
        let names = pair.raw.contains('$') || matches!(pair.key, "uid" | "gid");
        names && !matches!(pair.key, "log" | "comment" | "file")
    };
    let (mut out, mut at) = (String::new(), 0);
    for pair in &is.pairs {
        if let Some(before) = was.pairs.iter().filter(named).find(|before| before.key == pair.key) {
            out.push_str(printed.get(at..pair.value_at).unwrap_or(""));
            out.push_str(before.raw);
            at = pair.value_at + pair.raw.len();
        }
    }
    out.push_str(printed.get(at..).unwrap_or(""));
    out
}
