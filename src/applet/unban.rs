#![forbid(unsafe_code)]
//! `mef unban`: ends bans, whoever made them.

use super::args::{STDIN, parse};
use super::context::{daemon_of, settings};
use super::output::{Output, OutputError, OutputShape, failed};
use super::target::{self, TargetLines, TargetReader};
use crate::ban::{LISTED, WhichBans};
use crate::base::json::Object;
use crate::base::range::Range;
use crate::config::Settings;
use crate::control::client::ControlClient;
use crate::control::proto::Request;
use crate::enforce::{Enforcer, journal, options};
use crate::firewall::{Placement, open_beside, open_in_force, placement};
use crate::lists::{self, Paths};
use argh::FromArgs;
use std::path::Path;
use std::rc::Rc;

/// Liftings made at once when they come from standard input.
const BATCH: usize = 256;
/// Liftings that the daemon logs and runs on_unban for: long lists are no news. It forgets previous hits of
/// all.
const REPORTS: usize = 1000;

/// End the bans of addresses, networks or ranges.
#[derive(FromArgs)]
#[argh(
    help_triggers("-h", "--help"),
    note = "A network ends the bans of all addresses inside it; an address inside a banned network is taken \
        out of it.\nThe daemon forgets the hits it has counted for them. Exit status 1 if an address is \
        still dropped, by a deny list for example.",
    example = "mef unban 192.0.2.7\n  mef unban 203.0.113.0/24\n  mef unban --all"
)]
struct UnbanArgs {
    /// an address, a network or a range; - reads them from standard input, one per line
    #[argh(positional, arg_name = "ADDR")]
    addresses: Vec<String>,
    /// end all bans that have an end
    #[argh(switch)]
    all: bool,
    /// with --all: end the permanent ones too
    #[argh(switch)]
    permanent: bool,
    /// one JSON object per line
    #[argh(switch)]
    json: bool,
    /// path to mef.conf
    #[argh(option, arg_name = "file")]
    config: Option<String>,
}

pub(super) fn run(args: &[&str], output: &mut Output<'_>) -> Result<(), OutputError> {
    let args: UnbanArgs = parse("unban", args)?;
    if args.addresses.is_empty() != args.all {
        return Err(OutputError::Usage("missing ADDR: give addresses, or --all".into()));
    }
    let settings = settings(args.config.as_deref(), output);
    let mut session = UnbanSession::open(&settings, output)?;
    session.shape = args.json.into();
    if args.all {
        session.all(if args.permanent { WhichBans::All } else { WhichBans::Timed }, output)?;
    }
    for text in &args.addresses {
        if text == STDIN {
            target::each_stdin_line(output, &mut session)?;
        } else {
            session.line(text, "", output)?;
        }
    }
    session.pause(output)?;
    session.close(output);
    output.end()
}

/// Ends bans of everybody.
pub(super) fn everybody(which: WhichBans, output: &mut Output<'_>) -> Result<(), OutputError> {
    let mut session = UnbanSession::open(&settings(None, output), output)?;
    session.all(which, output)?;
    session.close(output);
    output.end()
}

/// One call of the command.
struct UnbanSession {
    enforcer: Enforcer,
    reader: TargetReader,
    daemon: Option<ControlClient>,
    /// What is to be lifted, with its place for messages.
    batch: Vec<(Range, String)>,
    /// Liftings that the daemon has still to report.
    reports: usize,
    /// What went wrong beside the kernel.
    notes: Vec<String>,
    /// Something is not in the journal.
    unwritten: bool,
    shape: OutputShape,
}

impl UnbanSession {
    fn open(settings: &Settings, output: &mut Output<'_>) -> Result<UnbanSession, OutputError> {
        let allow = lists::reader(Paths::of(settings), target::LIST_PATIENCE, Rc::default());
        if placement(&options(settings)) == Placement::Both {
            target::move_bans(settings, output);
        }
        let mut guard = open_in_force(options(settings), allow.into()).map_err(failed)?;
        guard.go_through(Path::new(&settings.run_dir));
        let ipv6_prefix = guard.state().map_err(failed)?.map_or(64, |state| state.ipv6_prefix);
        let mut notes = Vec::new();
        let journal = match journal(settings, crate::sys::clock::wall(), target::LOCK_WAIT_MAX) {
            Ok((journal, reported)) => {
                notes.extend(reported.filter(|e| !e.is_refusal()).map(|e| e.to_string()));
                Some(journal)
            }
            Err(e) => {
                notes.push(e.to_string());
                None
            }
        };
        let unwritten = journal.is_none();
        let mut enforcer = Enforcer::new(guard, journal);
        enforcer.set_history(settings.history_max);
        enforcer.lock_beside(Path::new(&settings.run_dir));
        enforcer.unban_beside(open_beside(options(settings)).map_err(failed)?);
        let daemon = daemon_of(settings, output);
        Ok(UnbanSession {
            enforcer,
            reader: TargetReader::new(ipv6_prefix),
            daemon,
            batch: Vec::new(),
            reports: REPORTS,
            notes,
            unwritten,
            shape: OutputShape::Text,
        })
    }

    fn all(&mut self, which: WhichBans, output: &mut Output<'_>) -> Result<(), OutputError> {
        let written = self.enforcer.unban_all(which, &mut |n| self.notes.push(n.to_string()));
        let written = written.map_err(failed)?;
        self.unwritten |= !written;
        let permanent = which == WhichBans::All;
        self.notify_daemon(&[Request::Unbanned { addr: None, permanent, was_banned: true, written }]);
        if self.shape == OutputShape::Json {
            let whom: &dyn std::fmt::Display = if permanent { &"all" } else { &"all timed" };
            return Ok(writeln!(output.out, "{}", result(whom, "unbanned"))?);
        }
        let but = if permanent { "" } else { " but the permanent ones" };
        Ok(writeln!(output.out, "ended all bans{but}")?)
    }

    /// Has the daemon forget what it has counted.
    fn notify_daemon(&mut self, requests: &[Request<'_>]) {
        let Some(daemon) = &mut self.daemon else { return };
        let why = match daemon.ask_all(requests) {
            Ok(true) => return,
            Ok(false) => "it did not answer".to_owned(),
            Err(e) => e.to_string(),
        };
        self.daemon = None;
        self.notes.push(format!("not reported to the daemon, which still counts previous hits: {why}"));
    }

    /// Who is on a list of others is banned again when he comes again: that is said of the one who is meant.
    fn note_list(&mut self, ranges: &[Range]) {
        let [who] = ranges else { return };
        let mut list = None;
        // What cannot be asked cannot be lifted either, which is told then.
        let _ = self.enforcer.guard().bans_of(who, &mut |ban| {
            list = list.take().or_else(|| ban.rule.strip_prefix(LISTED).map(str::to_owned));
        });
        if let Some(list) = list {
            let but = format!("unless it is on the allow list (mef allow {who})");
            self.notes
                .push(format!("{who} is on the DNSBL {list}: it is banned again when it comes again, {but}"));
        }
    }

    fn close(&mut self, output: &mut Output<'_>) {
        if let Err(e) = self.enforcer.close(crate::sys::clock::wall()) {
            self.notes.push(e.to_string());
        }
        self.notes.dedup();
        self.notes.iter().for_each(|note| output.note(note));
        if self.unwritten {
            output.problem(&"the ban journal could not record this: the bans may return after a reboot");
        }
    }
}

/// Ends bans of addresses that the deny list has now: one place is enough.
pub(super) fn superseded(
    settings: &Settings,
    banned: &[Range],
    shape: OutputShape,
    output: &mut Output<'_>,
) -> Result<(), OutputError> {
    let mut session = UnbanSession::open(settings, output)?;
    let (now, notes) = (crate::sys::clock::wall(), &mut session.notes);
    let lifted = session.enforcer.unban(now, banned, &mut |n| notes.push(n.to_string())).map_err(failed)?;
    session.unwritten |= !lifted.written;
    for addr in banned {
        if shape == OutputShape::Json {
            writeln!(output.out, "{}", result(addr, "unbanned"))?;
        } else {
            writeln!(output.out, "{addr} is no longer banned permanently: it is on the deny list")?;
        }
    }
    session.close(output);
    Ok(())
}

/// What became of somebody, for programs.
pub(super) fn result(addr: &dyn std::fmt::Display, word: &str) -> String {
    Object::new().word("address", addr).text("result", word).finish()
}

impl TargetLines for UnbanSession {
    fn line(&mut self, text: &str, place: &str, output: &mut Output<'_>) -> Result<(), OutputError> {
        match self.reader.read(text) {
            Err(what) => output.problem(&format_args!("{place}{what}")),
            Ok(range) => self.batch.push((range, place.to_owned())),
        }
        if self.batch.len() == BATCH { self.pause(output) } else { Ok(()) }
    }

    /// Ends the bans of what has come together.
    fn pause(&mut self, output: &mut Output<'_>) -> Result<(), OutputError> {
        let batch = std::mem::take(&mut self.batch);
        if batch.is_empty() {
            return Ok(());
        }
        let short = |short| failed(format!("nothing more is unbanned: {short}"));
        self.enforcer.guard().room_for_liftings(batch.len() as u64).map_err(short)?;
        let ranges: Vec<Range> = batch.iter().map(|(range, _)| *range).collect();
        let now = crate::sys::clock::wall();
        self.note_list(&ranges);
        let lifted = self.enforcer.unban(now, &ranges, &mut |n| self.notes.push(n.to_string()));
        let lifted = lifted.map_err(failed)?;
        self.unwritten |= !lifted.written;
        let reports = &mut self.reports;
        let requests: Vec<Request<'_>> = (ranges.iter().zip(&lifted.counts))
            .map(|(range, count)| {
                let was_banned = *count > 0 && *reports > 0;
                *reports -= usize::from(was_banned);
                Request::Unbanned {
                    addr: Some(*range),
                    permanent: false,
                    was_banned,
                    written: lifted.written,
                }
            })
            .collect();
        if *reports == 0 && self.daemon.is_some() {
            self.notes.push(format!("the daemon reports only the first {REPORTS} of these"));
        }
        self.notify_daemon(&requests);
        if ranges.len() > 1 {
            self.enforcer.guard().wait_for_listeners();
        }
        let denied = self.enforcer.guard().denied(&ranges).map_err(failed)?;
        for ((range, place), (count, denied)) in batch.iter().zip(lifted.counts.iter().zip(denied)) {
            match count {
                count if self.shape == OutputShape::Json => {
                    let word = if *count > 0 { "unbanned" } else { "not banned" };
                    writeln!(output.out, "{}", result(range, word))?;
                    output.problems += u32::from(*count == 0);
                }
                0 => output.problem(&format_args!("{place}{range} was not banned")),
                _ => writeln!(output.out, "unbanned {range}")?,
            }
            for file in denied {
                let text = "is still dropped: it is on the deny list";
                output.problem(&format_args!("{place}{range} {text} {file} (see mef undeny)"));
            }
        }
        Ok(())
    }
}
