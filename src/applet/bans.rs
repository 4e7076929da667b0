#![forbid(unsafe_code)]
//! `mef bans`: what the kernel holds, asked from the kernel.

use super::args::parse;
use super::context::settings;
use super::output::{Output, OutputError};
use super::target;
use crate::ban::BanEntry;
use crate::base::json::Object;
use crate::base::line::shown;
use crate::enforce::options;
use crate::firewall::view;
use argh::FromArgs;

const HEAD: [&str; COLUMNS] = ["ADDRESS", "RULE", "SINCE", "LEFT", "HITS", "DROPPED", "PORTS", "REASON"];
const COLUMNS: usize = 8;
/// Stands between cells until the widths are known; no cell has one.
const BETWEEN: &str = "\0";

/// List the bans in force, as the kernel has them, the newest first.
#[derive(FromArgs)]
#[argh(
    help_triggers("-h", "--help"),
    note = "DROPPED is counted for each address only with element_counters=true, since that costs kernel \
        memory.",
    example = "mef bans\n  mef bans 192.0.2.0/24\n  mef bans --rule sshd --json"
)]
struct BansArgs {
    /// only those that have to do with this address, network or range
    #[argh(positional, arg_name = "ADDR")]
    address: Option<String>,
    /// one JSON object per line
    #[argh(switch)]
    json: bool,
    /// only those that this service rule made
    #[argh(option, arg_name = "name")]
    rule: Option<String>,
    /// only those without an end
    #[argh(switch)]
    permanent: bool,
    /// path to mef.conf
    #[argh(option, arg_name = "file")]
    config: Option<String>,
}

pub(super) fn run(args: &[&str], output: &mut Output<'_>) -> Result<(), OutputError> {
    let args: BansArgs = parse("bans", args)?;
    let settings = settings(args.config.as_deref(), output);
    let failed = |e| OutputError::Failed(format!("{e}"));
    let mut guard = view(options(&settings)).map_err(failed)?;
    let ipv6_prefix = guard.state().map_err(failed)?.map_or(64, |state| state.ipv6_prefix);
    let range = args.address.as_deref().map(|text| target::read(text, ipv6_prefix));
    let range = range.transpose().map_err(OutputError::Failed)?;
    let wanted = |e: &BanEntry<'_>| {
        range.is_none_or(|range| range.meets(&e.addr))
            && args.rule.as_deref().is_none_or(|rule| rule == e.rule)
            && (!args.permanent || e.left.is_none())
    };
    let now = crate::sys::clock::wall().0;
    let (mut rows, mut widths) = (Vec::new(), HEAD.map(str::len));
    guard
        .list(&mut |e| {
            if !wanted(e) {
                return;
            }
            let text = if args.json {
                json(e, now)
            } else {
                let row = row(e);
                widen(&mut widths, &row);
                row.join(BETWEEN)
            };
            rows.push((e.age.unwrap_or(u64::MAX), text.into_boxed_str()));
        })
        .map_err(failed)?;
    // The newest first; those of one second by their addresses.
    rows.sort_by_key(|(age, _)| *age);
    if !args.json && !rows.is_empty() {
        line(output, &widths, HEAD.into_iter())?;
    }
    for (_, text) in &rows {
        if args.json {
            writeln!(output.out, "{text}")?;
        } else {
            line(output, &widths, text.split(BETWEEN))?;
        }
    }
    Ok(())
}

fn row(e: &BanEntry<'_>) -> [String; COLUMNS] {
    let time = |secs: Option<u64>, never: &str| secs.map_or(never.to_owned(), about);
    let number = |n: Option<u64>| n.map_or("-".to_owned(), |n| n.to_string());
    // What stands in the kernel was perhaps put there by somebody else.
    let text = |text: &str| if text.is_empty() { "-".to_owned() } else { shown(text) };
    [
        e.addr.to_string(),
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

fn line<'a>(
    output: &mut Output<'_>,
    widths: &[usize; COLUMNS],
    row: impl Iterator<Item = &'a str>,
) -> std::io::Result<()> {
    for (at, (width, cell)) in widths.iter().zip(row).enumerate() {
        if at + 1 == COLUMNS {
            writeln!(output.out, "{cell}")?;
        } else {
            write!(output.out, "{cell:<width$}  ")?;
        }
    }
    Ok(())
}

fn json(e: &BanEntry<'_>, now: u64) -> String {
    let some = |text| Some(text).filter(|t: &&str| !t.is_empty());
    Object::new()
        .text("address", e.addr.to_string().as_str())
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
