#![forbid(unsafe_code)]
//! `mef why`: everything that decides about an address in one answer.

mod denied;
mod facts;
mod found;
mod parts;
mod show;
mod verdict;

use super::args::{STDIN, parse};
use super::columns::colours;
use super::context::{daemon_of, journal_if_any, settings};
use super::output::{Output, OutputError, OutputShape, failed};
use super::target::{self, TargetReader};
use crate::base::range::Range;
use crate::config::Settings;
use crate::firewall::backend::Lists;
use crate::lists::{Paths, hosts};
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
    /// an address, a network or a range, or a host name of an allow list; - reads addresses from standard
    /// input, one per line
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
    let mut guard = target::view_bans(&settings, output).map_err(failed)?;
    let own = u8::try_from(settings.ipv6_prefix).unwrap_or(64);
    let ipv6_prefix = guard.state().map_err(failed)?.map_or(own, |state| state.ipv6_prefix);
    let journal = journal_if_any(&settings, output);
    let reader = TargetReader::new(ipv6_prefix);
    let addresses = &named(addresses, &reader, &settings)?;
    // What is wrong among the arguments is told before any answer.
    let arguments = addresses.iter().filter(|text| *text != STDIN).map(|text| reader.read(text));
    let mut arguments =
        arguments.collect::<Result<Vec<Range>, String>>().map_err(OutputError::Usage)?.into_iter();
    let mut answers =
        Answers { sources: Sources { settings, guard, journal }, shape, count: 0, is_dropped: false };
    for text in addresses {
        if text == STDIN {
            let mut take = |text: &str, place: &str, output: &mut Output<'_>| match reader.read(text) {
                Ok(range) => answers.give(text, &range, output),
                Err(what) => {
                    output.problem(&format_args!("{place}{what}"));
                    Ok(())
                }
            };
            target::each_stdin_line(output, &mut take)?;
        } else if let Some(range) = arguments.next() {
            answers.give(text, &range, output)?;
        }
    }
    if answers.is_dropped { Err(OutputError::Told) } else { output.end() }
}

/// The arguments, with the addresses that host names of allow lists lead to in the place of those.
fn named(
    arguments: &[String],
    reader: &TargetReader,
    settings: &Settings,
) -> Result<Vec<String>, OutputError> {
    let mut addresses = Vec::new();
    for text in arguments {
        let is_plain = text == STDIN || reader.read(text).is_ok();
        let host = if is_plain { None } else { hosts::host(&Paths::of(settings), text) };
        match host {
            Some(host) if host.addrs.is_empty() => {
                let file = host.file();
                let why = format!("{} of the allow list {file} was not looked up yet", host.name);
                return Err(failed(why));
            }
            Some(host) => addresses.extend(host.addrs.iter().map(ToString::to_string)),
            None => addresses.push(text.clone()),
        }
    }
    Ok(addresses)
}

/// The answers of one call.
struct Answers {
    sources: Sources,
    shape: OutputShape,
    /// How many there were.
    count: u32,
    is_dropped: bool,
}

impl Answers {
    /// Answers about what was read of a text.
    fn give(&mut self, text: &str, range: &Range, output: &mut Output<'_>) -> Result<(), OutputError> {
        let alone = Some(range.first()).filter(|first| *first == range.last());
        let addr = alone.or_else(|| text.trim().parse().ok());
        let daemon = &mut |settings: &Settings| daemon_of(settings, output);
        let facts = Facts::gather(&mut self.sources, (range, addr), daemon)?;
        self.is_dropped |= facts.verdict.is_dropped();
        if self.shape == OutputShape::Json {
            show::json(output.out, &facts)?;
        } else {
            if self.count > 0 {
                writeln!(output.out)?;
            }
            show::people(output.out, &facts, colours())?;
        }
        self.count += 1;
        Ok(())
    }
}
