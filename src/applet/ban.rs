#![forbid(unsafe_code)]
//! `mef ban`: works without a daemon and on a host where nothing was set up.

use super::args::{STDIN, parse};
use super::context::settings;
use super::output::{Output, OutputError};
use super::target::{self, Safety, TargetLines, TargetReader};
use crate::ban::{Ban, BanOutcome, Repeat, Scope, Shortage, Standing, Transports};
use crate::base::clock::Span;
use crate::base::count::count;
use crate::base::json::Object;
use crate::base::line::shown;
use crate::base::range::Range;
use crate::config::{PortRanges, Settings, span, written};
use crate::control::client::ControlClient;
use crate::control::proto::Request;
use crate::enforce::Enforcer;
use crate::sys::trim;
use argh::FromArgs;

/// Bans made at once when they come from standard input.
const BATCH: usize = 512;
/// Different problems that are remembered as told.
const NOTES: usize = 16;
/// Bans that the daemon is told of, so that it logs them and runs on_ban: long lists are no news.
const TELLS: u32 = 1000;

/// Ban addresses, networks or ranges in the kernel, immediately.
#[derive(FromArgs)]
#[argh(
    help_triggers("-h", "--help"),
    note = "An IPv6 address stands for its prefix (ipv6_prefix, 64): write ADDR/128 for it alone.\nNever \
        banned unless --force: this host's own addresses, the peer of your SSH session, the gateway.",
    example = "mef ban 192.0.2.7\n  mef ban 203.0.113.0/24 --for 7d --reason 'scans'\n  mef ban \
        198.51.100.10-198.51.100.20 --ports 22,80-90\n  mef ban - < addresses"
)]
struct BanArgs {
    /// an address, a network (192.0.2.0/24) or a range (192.0.2.1-192.0.2.9); - reads them from standard
    /// input, one per line
    #[argh(positional, arg_name = "ADDR")]
    addresses: Vec<String>,
    /// how long: 90, 90s, 10m, 1h, 7d (default 1h)
    #[argh(option, long = "for", arg_name = "time")]
    time: Option<String>,
    /// until it is lifted by hand
    #[argh(switch)]
    permanent: bool,
    /// only these ports, tcp and udp: 22,25,1000-2000
    #[argh(option, arg_name = "list")]
    ports: Option<String>,
    /// shown by `mef bans`
    #[argh(option, arg_name = "text", default = "String::new()")]
    reason: String,
    /// ban even protected addresses
    #[argh(switch)]
    force: bool,
    /// one JSON object per line
    #[argh(switch)]
    json: bool,
    /// path to mef.conf
    #[argh(option, arg_name = "file")]
    config: Option<String>,
}

pub(super) fn run(args: &[&str], output: &mut Output<'_>) -> Result<(), OutputError> {
    let args: BanArgs = parse("ban", args)?;
    if args.addresses.is_empty() {
        return Err(OutputError::Usage("missing ADDR; `mef ban --help` shows examples".into()));
    }
    let time = match (&args.time, args.permanent) {
        (Some(_), true) => return Err(OutputError::Usage("--for and --permanent exclude each other".into())),
        (None, true) => Span::Permanent,
        (None, false) => Span::Secs(3600),
        (Some(text), false) => {
            span(text).map_err(|bad| OutputError::Usage(format!("--for: {}, {}", bad.what, bad.hint)))?
        }
    };
    let ports = PortRanges::of_ban(args.ports.as_deref().unwrap_or("all"));
    let ports = ports.map_err(|bad| OutputError::Usage(format!("--ports: {}, {}", bad.what, bad.hint)))?;
    let scope = Scope::new(ports.ranges().to_vec(), Transports::Both);
    let settings = settings(args.config.as_deref(), output);
    let mut session = BanSession::open(&args, time, &scope, &settings, output)?;
    for text in &args.addresses {
        if text == STDIN {
            session.counting = true;
            target::each_stdin_line(output, &mut session)?;
        } else {
            session.take(text, "", output)?;
        }
    }
    session.commit(output)?;
    session.close(output);
    output.end()
}

impl TargetLines for BanSession<'_> {
    fn line(&mut self, text: &str, place: &str, output: &mut Output<'_>) -> Result<(), OutputError> {
        self.take(text, place, output)
    }

    fn pause(&mut self, output: &mut Output<'_>) -> Result<(), OutputError> {
        self.commit(output)
    }
}

/// One call of the command.
struct BanSession<'a> {
    args: &'a BanArgs,
    time: Span,
    scope: &'a Scope,
    settings: &'a Settings,
    enforcer: Enforcer,
    reader: TargetReader,
    safety: Safety,
    batch: Vec<Range>,
    /// Addresses of previous batches.
    before: u64,
    /// Bans made from standard input: told as a number, not one by one.
    counted: u64,
    counting: bool,
    /// What went wrong beside the kernel, told once each.
    noted: Vec<String>,
    daemon: Option<ControlClient>,
    /// Bans that the daemon may still be told of.
    tells: u32,
    /// More than one batch came.
    is_long: bool,
}

impl<'a> BanSession<'a> {
    fn open(
        args: &'a BanArgs,
        time: Span,
        scope: &'a Scope,
        settings: &'a Settings,
        output: &mut Output<'_>,
    ) -> Result<BanSession<'a>, OutputError> {
        let (mut enforcer, state) = target::table(settings, output)?;
        let safety = Safety::read(enforcer.guard()).map_err(|e| OutputError::Failed(e.to_string()))?;
        enforcer.set_passing(safety.passing().to_vec());
        let batch = Vec::new();
        Ok(BanSession {
            args,
            time,
            scope,
            settings,
            enforcer,
            reader: TargetReader::new(state.ipv6_prefix),
            safety,
            batch,
            before: 0,
            counted: 0,
            counting: false,
            noted: Vec::new(),
            daemon: super::context::daemon_of(settings, output),
            tells: TELLS,
            is_long: false,
        })
    }

    /// Takes one address in; a wrong one is told and passed over.
    fn take(&mut self, text: &str, place: &str, output: &mut Output<'_>) -> Result<(), OutputError> {
        match self.reader.read(text) {
            Err(what) => output.problem(&format_args!("{place}{what}")),
            Ok(range) => match self.safety.objection(&range).filter(|_| !self.args.force) {
                Some(why) => output
                    .problem(&format_args!("{place}{range} is {why}: not banned (use --force to override)")),
                None => self.batch.push(range),
            },
        }
        if self.batch.len() < BATCH {
            return Ok(());
        }
        // A long list: what the start has touched of the program is not needed beside what grows now.
        if !self.is_long {
            trim::drop_code_pages();
            self.is_long = true;
        }
        self.commit(output)
    }

    /// Bans what has come together. Times count from now, however long the next address is waited for.
    fn commit(&mut self, output: &mut Output<'_>) -> Result<(), OutputError> {
        if self.batch.is_empty() {
            return Ok(());
        }
        if let Err(short) = self.enforcer.guard().room_for_bans(self.batch.len() as u64, self.before) {
            return Err(OutputError::Failed(self.refused(&short, output)));
        }
        let now = crate::sys::clock::wall();
        let (time, scope, reason) = (self.time, self.scope, self.args.reason.as_str());
        let ban = |&addr: &Range| Ban {
            addr,
            scope,
            time,
            age: 0,
            rule: "",
            hits: 0,
            reason,
            bans: 0,
            starts: &[],
            line: "",
        };
        let bans: Vec<Ban<'_>> = self.batch.iter().map(ban).collect();
        let mut results: Vec<Option<Result<BanOutcome, String>>> = vec![None; bans.len()];
        let mut notes: Vec<String> = Vec::new();
        self.enforcer.ban(
            now,
            &bans,
            Repeat::Prolongs,
            &mut |at, result| {
                let result = result.map_err(ToString::to_string);
                results.get_mut(at).into_iter().for_each(|place| *place = Some(result.clone()));
            },
            &mut |note| notes.push(note.to_string()),
        );
        if self.enforcer.guard().take_recreated() {
            let guard = self.enforcer.guard();
            let mut allowed = target::allow_list(self.settings, guard, &mut |e| notes.push(e.to_string()));
            if let Err(e) = guard.set_allowed(&mut allowed) {
                notes.push(e.to_string());
            }
            if let Err(e) = self.enforcer.restore(now, &mut |note| notes.push(note.to_string())) {
                notes.push(e.to_string());
            }
        }
        let batch = std::mem::take(&mut self.batch);
        self.before += batch.len() as u64;
        for (range, result) in batch.iter().zip(results) {
            match result {
                Some(Ok(outcome)) => self.notify_daemon(range, &outcome, &mut notes, output)?,
                Some(Err(why)) => output.problem(&format_args!("{range}: {why}")),
                None => output.problem(&format_args!("{range}: not banned")),
            }
        }
        notes.into_iter().for_each(|note| self.note(note, output));
        if batch.len() > 1 {
            self.enforcer.guard().wait_for_listeners();
        }
        Ok(())
    }

    /// Says who is not banned for want of memory; what was banned before stays so.
    fn refused(&mut self, short: &Shortage, output: &mut Output<'_>) -> String {
        let batch = std::mem::take(&mut self.batch);
        self.close(output);
        match batch.as_slice() {
            [range] => format!("{range} is not banned: {short}"),
            all => format!("{} addresses and all that follow are not banned: {short}", all.len()),
        }
    }

    /// Says what is in force for an address now.
    fn notify_daemon(
        &mut self,
        range: &Range,
        outcome: &BanOutcome,
        notes: &mut Vec<String>,
        output: &mut Output<'_>,
    ) -> Result<(), OutputError> {
        let (time, scope) = (self.time, self.scope);
        // What was in force before is no news.
        if let (BanOutcome::Banned, Some(daemon)) = (outcome, self.daemon.as_mut().filter(|_| self.tells > 0))
        {
            self.tells -= 1;
            let (ports, reason) = (scope.to_string(), shown(&self.args.reason));
            let request = Request::Banned { addr: *range, time, ports: &ports, reason: &reason };
            if self.tells == 0 || daemon.notify(&request).is_err() {
                self.daemon = None;
                notes.push("not every ban was reported to the daemon; all are in force".to_owned());
            }
        }
        if self.args.force && self.safety.is_allowed(range) {
            let text = "is on the allow list: banned, but its packets pass (see mef disallow)";
            output.problem(&format_args!("{range} {text}"));
            return Ok(());
        }
        if let Some(parts) = self.safety.passing_parts(range) {
            self.note(format!("{range} is banned except {parts}: on the allow list"), output);
        }
        if self.args.json {
            writeln!(output.out, "{}", json(range, time, scope, outcome))?;
        } else if self.counting {
            self.counted += 1;
        } else {
            match outcome {
                BanOutcome::Banned => writeln!(output.out, "banned {range} {}", describe(time, scope))?,
                BanOutcome::Extended(now) => {
                    writeln!(output.out, "{range} {}, was banned before", lasts(now, scope, ""))?;
                }
                BanOutcome::InForce(now) => {
                    writeln!(output.out, "{range} {}", lasts(now, scope, " already"))?
                }
            }
        }
        Ok(())
    }

    fn note(&mut self, note: String, output: &mut Output<'_>) {
        if !self.noted.contains(&note) {
            output.note(&note);
            self.noted.truncate(NOTES - 1);
            self.noted.push(note);
        }
    }

    fn close(&mut self, output: &mut Output<'_>) {
        if self.counting && !self.args.json {
            let banned = count(self.counted, "address");
            let _ = writeln!(output.out, "banned {banned} {}", describe(self.time, self.scope));
        }
        if let Err(e) = self.enforcer.close(crate::sys::clock::wall()) {
            self.note(e.to_string(), output);
        }
    }
}

fn describe(time: Span, scope: &Scope) -> String {
    let time = match time {
        Span::Permanent => "permanently".to_owned(),
        Span::Secs(s) => format!("for {}", written(u32::try_from(s).unwrap_or(u32::MAX))),
    };
    if scope.is_all() { time } else { format!("{time} on ports {scope}") }
}

/// How long a ban lasts that is in force, and whose it is.
fn lasts(now: &Standing, scope: &Scope, already: &str) -> String {
    let time = match now.left {
        None => "permanently".to_owned(),
        Some(secs) => format!("for another {}", super::bans::about(secs)),
    };
    let by = if now.rule.is_empty() { "by hand".to_owned() } else { format!("by rule {}", shown(&now.rule)) };
    let ports = if scope.is_all() { String::new() } else { format!(" on ports {scope}") };
    format!("is banned {time}{ports}{already}, {by}")
}

fn json(range: &Range, time: Span, scope: &Scope, outcome: &BanOutcome) -> String {
    let seconds = |time: Span| match time {
        Span::Permanent => None,
        Span::Secs(s) => Some(s),
    };
    let (result, left) = match outcome {
        BanOutcome::Banned => ("banned", seconds(time)),
        BanOutcome::Extended(now) => ("extended", now.left),
        BanOutcome::InForce(now) => ("in force", now.left),
    };
    let ports = scope.to_string();
    Object::new()
        .text("address", range.to_string().as_str())
        .number("for", seconds(time))
        .text("ports", ports.as_str())
        .text("result", result)
        .number("left", left)
        .finish()
}
