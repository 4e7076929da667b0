#![forbid(unsafe_code)]
//! `mef unban`: ends bans, whoever made them.

use super::{Error, Output, STDIN, daemon_of, parse, settings, target};
use crate::base::range::Range;
use crate::control::proto::Request;
use crate::enforce::{Enforcer, journal, options};
use crate::firewall::guard::Guard;
use argh::FromArgs;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(2);

/// End the bans of addresses, networks or ranges.
#[derive(FromArgs)]
#[argh(
    help_triggers("-h", "--help"),
    note = "A network ends the bans of all addresses inside it; an address inside a banned network is taken out of it.\nThe daemon forgets what it has counted of them.",
    example = "mef unban 192.0.2.7\n  mef unban 203.0.113.0/24\n  mef unban --all"
)]
struct Args {
    /// an address, a network or a range; - reads them from standard input, one a line
    #[argh(positional, arg_name = "ADDR")]
    addresses: Vec<String>,
    /// end all bans that have an end
    #[argh(switch)]
    all: bool,
    /// with --all: end the permanent ones too
    #[argh(switch)]
    permanent: bool,
    /// another mef.conf
    #[argh(option, arg_name = "file")]
    config: Option<String>,
}

pub(super) fn run(args: &[&str], output: &mut Output<'_>) -> Result<(), Error> {
    let args: Args = parse("unban", args)?;
    if args.addresses.is_empty() != args.all {
        return Err(Error::Usage("unban whom? Give addresses, or --all".into()));
    }
    let settings = settings(args.config.as_deref(), output);
    let failed = |e| Error::Failed(format!("{e}"));
    let mut guard = Guard::open(options(&settings)).map_err(failed)?;
    let prefix = guard.look().map_err(failed)?.map_or(64, |made| made.ipv6_prefix);
    let now = crate::sys::clock::now().wall;
    let journal = match journal(&settings, now, PATIENCE) {
        Ok((journal, told)) => {
            told.iter().filter(|e| !e.is_refusal()).for_each(|e| output.note(e));
            Some(journal)
        }
        Err(e) => {
            output.note(&e);
            None
        }
    };
    let mut enforcer = Enforcer::new(guard, journal, false);
    let mut notes = Vec::new();
    let mut daemon = daemon_of(&settings, output);
    let mut forget = |who: Option<Range>, was_banned: bool| -> Option<String> {
        let told = daemon.as_mut()?.ask(&Request::Unbanned { who, was_banned });
        let why = match told {
            Ok(true) => return None,
            Ok(false) => "it did not answer".to_owned(),
            Err(e) => e.to_string(),
        };
        daemon = None;
        Some(format!("the daemon was not told, and still counts former hits: {why}"))
    };
    if args.all {
        enforcer.unban_all(now, args.permanent, &mut |n| notes.push(n.to_string())).map_err(failed)?;
        notes.extend(forget(None, true));
        writeln!(
            output.out,
            "ended all bans{}",
            if args.permanent { "" } else { " but the permanent ones" }
        )?;
    }
    let mut end = |text: &str, place: &str, output: &mut Output<'_>| -> Result<(), Error> {
        match target::read(text, prefix) {
            Err(what) => output.problem(&format_args!("{place}{what}")),
            Ok(range) => {
                let count =
                    enforcer.unban(now, &range, &mut |n| notes.push(n.to_string())).map_err(failed)?;
                notes.extend(forget(Some(range), count > 0));
                match count {
                    0 => output.problem(&format_args!("{place}{range} was not banned")),
                    _ => writeln!(output.out, "unbanned {range}")?,
                }
            }
        }
        Ok(())
    };
    for text in &args.addresses {
        if text == STDIN {
            target::each_stdin_line(output, &mut end)?;
        } else {
            end(text, "", output)?;
        }
    }
    if let Err(e) = enforcer.close(now) {
        notes.push(e.to_string());
    }
    notes.dedup();
    notes.iter().for_each(|note| output.note(note));
    output.end()
}
