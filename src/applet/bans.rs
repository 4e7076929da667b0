#![forbid(unsafe_code)]
//! `mef bans`: what the kernel holds, asked from the kernel.

use super::{Error, Output, parse, settings};
use crate::base::json::Object;
use crate::base::line::shown;
use crate::enforce::options;
use crate::firewall::guard::{Entry, Guard};
use argh::FromArgs;

const HEAD: [&str; COLUMNS] = ["ADDRESS", "RULE", "SINCE", "LEFT", "HITS", "DROPPED", "PORTS", "REASON"];
const COLUMNS: usize = 8;

/// List the bans in force, as the kernel has them.
#[derive(FromArgs)]
#[argh(
    help_triggers("-h", "--help"),
    note = "DROPPED is counted for each address only with element_counters=true, since that costs kernel memory.",
    example = "mef bans\n  mef bans --rule sshd --json"
)]
struct Args {
    /// one JSON object a line
    #[argh(switch)]
    json: bool,
    /// only those that this service rule made
    #[argh(option, arg_name = "name")]
    rule: Option<String>,
    /// only those without an end
    #[argh(switch)]
    permanent: bool,
    /// another mef.conf
    #[argh(option, arg_name = "file")]
    config: Option<String>,
}

pub(super) fn run(args: &[&str], output: &mut Output<'_>) -> Result<(), Error> {
    let args: Args = parse("bans", args)?;
    let settings = settings(args.config.as_deref(), output);
    let failed = |e| Error::Failed(format!("{e}"));
    let mut guard = Guard::open(options(&settings)).map_err(failed)?;
    let wanted = |e: &Entry<'_>| {
        args.rule.as_deref().is_none_or(|rule| rule == e.rule) && (!args.permanent || e.left.is_none())
    };
    let mut written = Ok(());
    if args.json {
        let now = crate::sys::clock::now().wall.0;
        guard
            .list(&mut |e| {
                if written.is_ok() && wanted(e) {
                    written = writeln!(output.out, "{}", json(e, now));
                }
            })
            .map_err(failed)?;
        return Ok(written?);
    }
    // Two walks, one for the widths: what is listed may be long, and nothing is kept of it.
    let mut widths = HEAD.map(str::len);
    guard
        .list(&mut |e| {
            if wanted(e) {
                widen(&mut widths, &row(e))
            }
        })
        .map_err(failed)?;
    let mut head = true;
    guard
        .list(&mut |e| {
            if written.is_ok() && wanted(e) {
                if std::mem::take(&mut head) {
                    written = line(output, &widths, &HEAD.map(str::to_owned));
                }
                written =
                    std::mem::replace(&mut written, Ok(())).and_then(|()| line(output, &widths, &row(e)));
            }
        })
        .map_err(failed)?;
    Ok(written?)
}

fn row(e: &Entry<'_>) -> [String; COLUMNS] {
    let time = |secs: Option<u64>, never: &str| secs.map_or(never.to_owned(), about);
    let number = |n: Option<u64>| n.map_or("-".to_owned(), |n| n.to_string());
    // What stands in the kernel was perhaps put there by somebody else.
    let text = |text: &str| if text.is_empty() { "-".to_owned() } else { shown(text) };
    [
        e.who.to_string(),
        text(e.rule),
        time(e.age, "-"),
        time(e.left, "permanent"),
        number((e.hits > 0).then_some(u64::from(e.hits))),
        number(e.packets),
        e.scope.to_string(),
        text(e.reason),
    ]
}

/// A time for people: its two largest units.
pub(super) fn about(secs: u64) -> String {
    let parts = [(secs / 86_400, "d"), (secs / 3600 % 24, "h"), (secs / 60 % 60, "m"), (secs % 60, "s")];
    let first = parts.iter().position(|(n, _)| *n > 0).unwrap_or(parts.len() - 1);
    let shown: Vec<String> = parts
        .iter()
        .skip(first)
        .take(2)
        .filter(|(n, _)| *n > 0 || secs == 0)
        .map(|(n, unit)| n.to_string() + unit)
        .collect();
    shown.join(" ")
}

fn widen(widths: &mut [usize; COLUMNS], row: &[String; COLUMNS]) {
    for (width, cell) in widths.iter_mut().zip(row) {
        *width = cell.chars().count().max(*width);
    }
}

fn line(output: &mut Output<'_>, widths: &[usize; COLUMNS], row: &[String; COLUMNS]) -> std::io::Result<()> {
    for (at, (width, cell)) in widths.iter().zip(row).enumerate() {
        if at + 1 == COLUMNS {
            writeln!(output.out, "{cell}")?;
        } else {
            write!(output.out, "{cell:<width$}  ")?;
        }
    }
    Ok(())
}

fn json(e: &Entry<'_>, now: u64) -> String {
    let some = |text| Some(text).filter(|t: &&str| !t.is_empty());
    Object::new()
        .text("address", e.who.to_string().as_str())
        .text("rule", some(e.rule))
        .number("since", e.age.map(|age| now.saturating_sub(age)))
        .number("left", e.left)
        .number("hits", (e.hits > 0).then_some(u64::from(e.hits)))
        .number("dropped", e.packets)
        .text("ports", e.scope.to_string().as_str())
        .text("reason", some(e.reason))
        .finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_told_in_their_two_largest_units() {
        let cases = [
            (0, "0s"),
            (59, "59s"),
            (60, "1m"),
            (3598, "59m 58s"),
            (3600, "1h"),
            (3605, "1h"),
            (90_061, "1d 1h"),
            (86_400, "1d"),
            (u64::from(u32::MAX), "49710d 6h"),
        ];
        for (secs, want) in cases {
            assert_eq!(about(secs), want);
        }
    }
}
