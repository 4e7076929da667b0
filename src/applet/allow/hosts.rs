#![forbid(unsafe_code)]
//! Host names, of which the daemon finds out who they are.

use super::super::output::{Output, OutputError, OutputShape};
use super::super::unban;
use super::AllowChange;
use crate::lists::hosts::{NAMES, hosts};
use crate::lists::{Gone, LOCAL, Paths};

/// Keeps those that were taken off.
pub(super) fn keep_removed(names: &mut Vec<String>, removed: &[bool], output: &mut Output<'_>) {
    let mut removed = removed.iter();
    names.retain(|name| {
        let is_gone = removed.next() == Some(&true);
        if !is_gone {
            output.problem(&format_args!("{name} is not in {LOCAL}"));
        }
        is_gone
    });
}

/// Says what was done.
pub(super) fn report(
    change: &AllowChange,
    paths: &Paths,
    names: &[String],
    output: &mut Output<'_>,
) -> Result<(), OutputError> {
    let word = &change.said[0];
    let listed = if names.is_empty() { Vec::new() } else { hosts(paths, Gone::Forget) };
    for name in names {
        match change.shape {
            OutputShape::Json => writeln!(output.out, "{}", unban::result(name, word))?,
            OutputShape::Text => writeln!(output.out, "{word} {name}")?,
        }
        match (listed.iter().find(|host| host.name == *name), change.adds) {
            (None, Some(_)) => output.problem(&format_args!("only {NAMES} host names are looked up")),
            (Some(host), Some(_)) if host.addrs.is_empty() => {
                output.note(&format_args!(
                    "{name} passes as soon as a daemon has looked it up: see `mef lists`"
                ));
            }
            (Some(host), None) => {
                output.note(&format_args!("{name} is still allowed: it is in {}", host.file()));
            }
            _ => {}
        }
    }
    Ok(())
}
