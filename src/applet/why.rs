#![forbid(unsafe_code)]
//! `mef why`: everything that decides about an address in one answer.

mod facts;
mod show;

use super::args::parse;
use super::columns::colours;
use super::context::{daemon_of, journal_to_read, settings};
use super::output::{Output, OutputError, OutputShape, failed};
use super::target;
use crate::base::range::Range;
use crate::config::Settings;
use crate::enforce::options;
use crate::firewall::backend::Lists;
use crate::firewall::view;
use crate::state::journal::BanJournal;
use argh::FromArgs;
use facts::Facts;

/// Say what becomes of packets of an address, who says so, and where.
#[derive(FromArgs)]
#[argh(
    help_triggers("-h", "--help"),
    note = "The first line is the verdict; below it each ban, list and exemption with its place, the line \
        that decided, what was\nbefore, and what would end it. DNSBLs that are on are asked. Works with and \
        without the daemon.\nExit status: 0 it passes, 1 it is dropped, wholly or in part.",
    example = "mef why 192.0.2.7\n  mef why 203.0.113.0/24\n  mef why --json 192.0.2.7 2001:db8::7"
)]
struct WhyArgs {
    /// an address, a network or a range
    #[argh(positional, arg_name = "ADDR")]
    addresses: Vec<String>,
    /// one JSON object for each verdict, and one for each thing that it follows from
    #[argh(switch)]
    json: bool,
    /// path to mef.conf
    #[argh(option, arg_name = "file")]
    config: Option<String>,
}

/// What is asked about every address.
struct Sources {
    settings: Settings,
    guard: Box<dyn Lists>,
    journal: Option<BanJournal>,
}

pub(super) fn run(args: &[&str], output: &mut Output<'_>) -> Result<(), OutputError> {
    let args: WhyArgs = parse("why", args)?;
    if args.addresses.is_empty() {
        return Err(OutputError::Usage("missing ADDR; `mef why --help` shows examples".into()));
    }
    answer(&args.addresses, args.json.into(), args.config.as_deref(), output)
}

/// Answers about each of these.
pub(super) fn answer(
    addresses: &[String],
    shape: OutputShape,
    config: Option<&str>,
    output: &mut Output<'_>,
) -> Result<(), OutputError> {
    let settings = settings(config, output);
    let mut guard = view(options(&settings)).map_err(failed)?;
    let own = u8::try_from(settings.ipv6_prefix).unwrap_or(64);
    let ipv6_prefix = guard.state().map_err(failed)?.map_or(own, |state| state.ipv6_prefix);
    let journal = journal_to_read(&settings, output)?;
    let mut sources = Sources { settings, guard, journal };
    let ranges: Result<Vec<Range>, String> =
        addresses.iter().map(|text| target::read(text, ipv6_prefix)).collect();
    let mut is_dropped = false;
    for (number, range) in ranges.map_err(OutputError::Usage)?.iter().enumerate() {
        let facts = Facts::gather(&mut sources, range, &mut |settings| daemon_of(settings, output))?;
        let verdict = facts.verdict();
        is_dropped |= verdict.is_dropped();
        if shape == OutputShape::Json {
            show::json(output.out, &facts, &verdict)?;
        } else {
            if number > 0 {
                writeln!(output.out)?;
            }
            show::people(output.out, &facts, &verdict, colours())?;
        }
    }
    if is_dropped { Err(OutputError::Told) } else { output.end() }
}
