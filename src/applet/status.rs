#![forbid(unsafe_code)]
//! `mef status`: what the daemon tells of itself, and what the kernel has, with or without a daemon.

mod prometheus;
mod ruleset;
mod states;
mod verdict;

use super::answer::DaemonAnswer;
use super::args::parse;
use super::bans::about;
use super::columns::{EachLine, explained, width, wrapped};
use super::context::settings;
use super::output::{Output, OutputError, required, seen};
use crate::ban::{Capability, Failure, GuardState};
use crate::base::build_part::BuildPart;
use crate::base::clock::Wall;
use crate::base::count::count;
use crate::base::json::Object;
use crate::base::utc::Stamp;
use crate::config::{DEFAULT_PATH, Settings};
use crate::control::NAME as SOCKET;
use crate::control::client::ControlClient;
use crate::control::proto::{FACTS, ListLine, ProblemLine, Request, RuleLine, Sight, SightLine};
use crate::enforce::options;
use crate::firewall::view;
use argh::FromArgs;
use nix::errno::Errno;
use prometheus::prometheus;
use ruleset::RuleSetStatus;
use states::{DaemonState, RuleStates, table};
use std::io::{self, Write};
use std::path::Path;
use verdict::DaemonVerdict;

/// Show what runs, where packets are dropped, what was counted, and what this kernel cannot do.
#[derive(FromArgs)]
#[argh(
    help_triggers("-h", "--help"),
    note = "The first line is the verdict: protected, what sees nothing, or not running. Exit status: 0 \
        protected, 1 not, 3 no\ndaemon runs; with --prometheus 0 whenever the numbers were printed.\nSOURCE \
        is the kind of source it has found, READ when something was last read for it, LAST its last hit, \
        READS what it reads\nnow. WHY says what decided that a rule is in force; with --all those that are \
        not are shown, too.",
    example = "mef status\n  mef status --json\n  mef status --prometheus"
)]
struct StatusArgs {
    /// only what becomes of these addresses, as `mef why`
    #[argh(positional, arg_name = "ADDR")]
    addresses: Vec<String>,
    /// one JSON object, then one for each rule
    #[argh(switch)]
    json: bool,
    /// the text format of Prometheus
    #[argh(switch)]
    prometheus: bool,
    /// also counters that are zero, and service rules that are off
    #[argh(switch)]
    all: bool,
    /// path to mef.conf
    #[argh(option, arg_name = "file")]
    config: Option<String>,
}

/// What the kernel has.
#[derive(Default)]
struct KernelStatus {
    /// What it has not, if there can be no bans at all.
    missing: Option<String>,
    state: Option<GuardState>,
    /// The backend.
    backend: &'static str,
    /// Where bans are kept.
    place: &'static str,
    /// Where packets are dropped, if the options do not tell it.
    hook: Option<&'static str>,
    bans: u64,
    allowed: u64,
    /// Sources in the flood throttle.
    throttled: u64,
    /// Packets dropped since counting began, where that is counted.
    dropped: Option<u64>,
    /// What it cannot do of what is asked of it.
    missing_parts: Vec<String>,
    /// Who alone may change the table.
    owner: Option<String>,
    /// The rule set; `None` where the kernel has none of anybody.
    rules: Option<RuleSetStatus>,
}

impl KernelStatus {
    /// Whether bans are in a table of nf_tables.
    fn is_table(&self) -> bool {
        self.backend != "iptables"
    }

    fn look(settings: &Settings) -> Result<KernelStatus, Failure> {
        let mut guard = view(options(settings))?;
        let state = guard.state()?;
        let (mut bans, mut allowed, throttled, mut dropped) = (0, 0, guard.throttled()?, None);
        if state.is_some() {
            guard.list(&mut |_| bans += 1)?;
            allowed = guard.allowed()?.len() as u64;
            dropped = guard.dropped()?;
        }
        let lacks = state.map_or(Vec::new(), |state| guard.lacking(state));
        let owner = guard.owned_by(Path::new(&settings.run_dir))?;
        let (backend, place, hook) = (guard.name(), guard.place(), guard.hook());
        Ok(KernelStatus {
            missing: None,
            state,
            backend,
            place,
            hook,
            bans,
            allowed,
            throttled,
            dropped,
            missing_parts: lacks,
            owner,
            rules: Some(RuleSetStatus::look(settings)),
        })
    }
}

pub(super) fn run(args: &[&str], output: &mut Output<'_>) -> Result<(), OutputError> {
    let args: StatusArgs = parse("status", args)?;
    if args.prometheus && (args.json || !args.addresses.is_empty()) {
        return Err(OutputError::Usage("--prometheus excludes --json and ADDR".into()));
    }
    if !args.addresses.is_empty() {
        required(BuildPart::Why)?;
        return super::why::answer(&args.addresses, args.json.into(), args.config.as_deref(), output);
    }
    let settings = settings(args.config.as_deref(), output);
    let heard = ControlClient::connect(Path::new(&settings.run_dir))
        .and_then(|daemon| daemon.map_or(Ok(None), |mut d| DaemonAnswer::get(&mut d, &Request::Status)));
    let (answer, silent) = match heard {
        Ok(answer) => (answer, None),
        Err(e) => (None, Some(e.to_string())),
    };
    let config = args.config.as_deref().unwrap_or(DEFAULT_PATH);
    let states = RuleStates::read(Path::new(config), answer.as_ref());
    let kernel = match KernelStatus::look(&settings) {
        Ok(kernel) => kernel,
        // Who may not ask knows nothing; what the kernel cannot do is an answer.
        Err(e) if e.errno() == Errno::EPERM => return Err(OutputError::Failed(e.to_string())),
        Err(e) => KernelStatus { missing: Some(e.to_string()), ..KernelStatus::default() },
    };
    let answer = answer.as_ref();
    if args.prometheus {
        prometheus(output.out, answer, &kernel, states.is_refused)?;
        return output.end();
    }
    let verdict = DaemonVerdict::of(answer, silent.as_deref(), &kernel);
    let page = StatusPage { answer, kernel: &kernel, states: &states, verdict, settings: &settings };
    let written = if args.json { page.json(output.out) } else { page.people(output.out, args.all) };
    seen(written)?;
    page.verdict.end(output)
}

/// Everything that is shown.
struct StatusPage<'a> {
    answer: Option<&'a DaemonAnswer>,
    kernel: &'a KernelStatus,
    states: &'a RuleStates,
    verdict: DaemonVerdict<'a>,
    settings: &'a Settings,
}

impl StatusPage<'_> {
    fn people(&self, out: &mut dyn Write, all: bool) -> io::Result<()> {
        self.verdict.show(out)?;
        let out = &mut EachLine::cut(out);
        let StatusPage { answer, kernel, settings, .. } = self;
        match answer {
            Some(answer) => process(out, answer)?,
            None if matches!(self.verdict, DaemonVerdict::Silent(_)) => {
                writeln!(out, "daemon      does not answer on {}/{SOCKET}", settings.run_dir)?;
            }
            None => writeln!(out, "daemon      does not run")?,
        }
        match kernel.state {
            None if let Some(why) = &kernel.missing => writeln!(out, "bans        none can be made: {why}")?,
            None if kernel.is_table() => {
                writeln!(out, "bans        none: there is no table {}", kernel.place)?
            }
            None => writeln!(out, "bans        none: nothing of mef is in iptables and ip_set")?,
            Some(state) => {
                bans(out, kernel, state, settings)?;
                watches(out, kernel, state)?;
            }
        }
        if let Some(rules) = &kernel.rules {
            writeln!(out, "{rules}")?;
        }
        if self.states.is_refused {
            writeln!(
                out,
                "problem     the configuration has errors: no daemon starts with it (see mef check)"
            )?;
        }
        if let Some(answer) = answer {
            counted(out, answer, all)?;
        }
        table(out, &self.states.all, |state| all || state.on)
    }

    fn json(&self, out: &mut dyn Write) -> io::Result<()> {
        let StatusPage { answer, kernel, .. } = *self;
        let mut object = Object::new()
            .flag("daemon", answer.is_some())
            .text("verdict", self.verdict.word())
            .text("missing", kernel.missing.as_deref())
            .text("version", answer.map(|a| a.version.as_str()))
            .number("pid", answer.map(|a| a.pid))
            .number("since", answer.map(|a| a.since))
            .text("confined", answer.map(|a| a.confined.as_str()))
            .number("resident", answer.and_then(DaemonAnswer::resident))
            .flag("config_errors", self.states.is_refused)
            .text("backend", Some(kernel.backend).filter(|backend| !backend.is_empty()))
            .text("table", kernel.state.map(|_| kernel.place))
            .texts("lacks", &kernel.missing_parts)
            .text("owner", kernel.owner.as_deref())
            .number("bans_in_force", kernel.bans)
            .number("allowed", kernel.allowed)
            .number("throttled", kernel.throttled)
            .number("dropped", kernel.dropped)
            .flag("logs", kernel.state.is_some_and(|state| state.logs));
        if let Some(rules) = &kernel.rules {
            object = rules.json(object);
        }
        if let Some(answer) = answer {
            for (fact, value) in FACTS.iter().zip(answer.facts) {
                object = object.number(fact.name, value);
            }
        }
        writeln!(out, "{}", object.finish())?;
        for state in &self.states.all {
            writeln!(out, "{}", rule_object(state, answer).finish())?;
        }
        json_of_daemon(out, answer)
    }
}

/// What the daemon tells of its time.
fn counted(out: &mut dyn Write, answer: &DaemonAnswer, all: bool) -> io::Result<()> {
    for ProblemLine { at, text } in answer.problems() {
        let age = about(crate::sys::clock::wall().0.saturating_sub(at));
        writeln!(out, "problem     {age} ago: {}", crate::base::line::shown(text))?;
    }
    writeln!(out)?;
    for (fact, value) in FACTS.iter().zip(answer.facts).filter(|(_, value)| all || *value > 0) {
        writeln!(out, "{value:>11} {}", fact.about)?;
    }
    writeln!(out)?;
    rules(out, answer)?;
    dnsbls(out, answer)
}

/// The daemon's process.
fn process(out: &mut dyn Write, answer: &DaemonAnswer) -> io::Result<()> {
    let (age, since) = (about(answer.age()), Stamp(Wall(answer.since)));
    let DaemonAnswer { pid, version, .. } = answer;
    writeln!(out, "daemon      runs for {age} (since {since}), process {pid}, version {version}")?;
    if let Some(bytes) = answer.resident() {
        writeln!(out, "memory      {} kB", bytes / 1024)?;
    }
    writeln!(out, "confined    {}", crate::base::line::shown(&answer.confined))
}

/// The table of bans: what is in it, where packets meet it, and whose it is.
fn bans(
    out: &mut dyn Write,
    kernel: &KernelStatus,
    state: GuardState,
    settings: &Settings,
) -> io::Result<()> {
    writeln!(
        out,
        "bans        {} in force, {} on the allow list",
        kernel.bans,
        count(kernel.allowed, "range")
    )?;
    let place = match (settings.ban_host, settings.ban_forward) {
        _ if let Some(hook) = kernel.hook => hook,
        (true, false) => "input, after connection tracking",
        (false, true) => "forward, after connection tracking",
        _ if state.watches.has(Capability::Ingress) => {
            "the ingress hook of the interfaces of the default routes"
        }
        _ => "prerouting raw, before connection tracking",
    };
    // What the counters go with: rules that are written anew, or sets that stay.
    let since = match kernel.is_table() {
        true => {
            writeln!(out, "packets     dropped in {place} ({})", kernel.place)?;
            "the table was changed last"
        }
        false => {
            writeln!(out, "packets     dropped by iptables and ip_set in {place}")?;
            "the sets were made"
        }
    };
    if let Some(packets) = kernel.dropped {
        writeln!(out, "dropped     {} since {since}", count(packets, "packet"))?;
    }
    match &kernel.owner {
        Some(owner) => writeln!(out, "table       only {owner} can change it")?,
        None if settings.guard_owner => writeln!(out, "table       no owner: other programs can change it")?,
        None => {}
    }
    Ok(())
}

/// What the kernel counts by itself, and what it has not.
fn watches(out: &mut dyn Write, kernel: &KernelStatus, state: GuardState) -> io::Result<()> {
    let lacks = &kernel.missing_parts;
    if lacks.is_empty() {
        writeln!(out, "kernel      has everything that is asked of it")?;
    }
    for (at, lack) in lacks.iter().enumerate() {
        let head = if at == 0 { "kernel" } else { "" };
        out.write_all(wrapped(&format!("{head:<12}{lack}\n"), width()).as_bytes())?;
    }
    let scans = if state.watches.has(Capability::Scans) { "banned by the kernel" } else { "off" };
    writeln!(out, "port scans  {scans}")?;
    if state.watches.has(Capability::Floods) {
        let throttled = count(kernel.throttled, "source");
        writeln!(out, "floods      held back by the kernel, {throttled} in the throttle")?;
    } else {
        writeln!(out, "floods      off")?;
    }
    let new = if state.watches.has(Capability::NewSources) { "reported by the kernel" } else { "off" };
    writeln!(out, "new sources {new}")
}

/// DNSBLs as a table, if there are any.
fn dnsbls(out: &mut dyn Write, answer: &DaemonAnswer) -> io::Result<()> {
    if !answer.lists.is_empty() {
        let head = ["DNSBL", "STATE", "ASKED", "LISTED", "FAILED", "TIME", "WHY"];
        dnsbl(out, head)?;
    }
    for ListLine { name, state, numbers: [asked, listed, failed, took], why } in answer.lists() {
        let [asked, listed, failed] = [asked, listed, failed].map(|number| number.to_string());
        let took = format!("{took} ms");
        dnsbl(out, [name, state, &asked, &listed, &failed, &took, &crate::base::line::shown(why)])?;
    }
    Ok(())
}

fn dnsbl(out: &mut dyn Write, row: [&str; 7]) -> io::Result<()> {
    let [name, state, asked, listed, failed, took, why] = row;
    let line = format!("{name:<12}  {state:<5}  {asked:>8}  {listed:>8}  {failed:>8}  {took:>8}");
    explained(out, &line, why)
}

/// The rules as a table.
pub(super) fn rules(out: &mut dyn Write, answer: &DaemonAnswer) -> io::Result<()> {
    let all = || answer.rules.iter().filter_map(|line| RuleLine::read(line));
    let width = all().map(|rule| rule.name.len()).max().unwrap_or(0).max(4);
    writeln!(
        out,
        "{:<width$}  {:<8}  {:>8}  {:>8}  {:>9}  {:>9}  READS",
        "RULE", "SOURCE", "HITS", "BANS", "READ", "LAST"
    )?;
    let ago = |age: Option<u64>| age.map_or("never".to_owned(), |age| about(age) + " ago");
    for RuleLine { name, source, hits, bans, read, hit, .. } in all() {
        let (read, hit) = (ago(read), ago(hit));
        // What it has found, in place of how it was told to look for it.
        let found = answer.sight(name).map_or("", |sight| sight.kind);
        let source = if !found.is_empty() {
            found
        } else if source == "auto" {
            "-"
        } else {
            source
        };
        write!(out, "{name:<width$}  {source:<8}  {hits:>8}  {bans:>8}  {read:>9}  {hit:>9}")?;
        match answer.sight(name) {
            Some(SightLine { sight: Sight::Sees, text, .. }) => {
                writeln!(out, "  {}", crate::base::line::shown(text))?;
            }
            Some(SightLine { sight: Sight::Waits, .. }) => writeln!(out, "  nothing yet")?,
            Some(_) => writeln!(out, "  nothing")?,
            None => writeln!(out)?,
        }
    }
    for RuleLine { name, last_ban, .. } in all().filter(|rule| !rule.last_ban.is_empty()) {
        writeln!(out, "last ban of {name}: {}", crate::base::line::shown(last_ban))?;
    }
    Ok(())
}

/// A service rule.
fn rule_object(state: &DaemonState, answer: Option<&DaemonAnswer>) -> Object {
    let rule = answer.and_then(|a| a.rule(&state.name));
    let sight = answer.and_then(|a| a.sight(&state.name));
    let object = Object::new()
        .text("rule", state.name.as_str())
        .text("source", rule.map(|r| r.source))
        .number("hits", rule.map(|r| r.hits))
        .number("bans", rule.map(|r| r.bans))
        .number("read", rule.and_then(|r| r.read))
        .number("last", rule.and_then(|r| r.hit))
        .flag("on", state.on)
        .text("why", state.why.as_str())
        .text("last_ban", rule.map(|r| r.last_ban).filter(|text| !text.is_empty()))
        .text("kind", sight.map(|s| s.kind).filter(|kind| !kind.is_empty()))
        .text("reads", sight.filter(|s| s.sight == Sight::Sees).map(|s| s.text))
        .text("blind", sight.filter(|s| s.sight == Sight::Blind).map(|s| s.text));
    match sight.filter(|s| s.sight == Sight::Waits) {
        Some(waiting) => object.text("waits", waiting.text),
        None => object,
    }
}

/// What has gone wrong, and the DNSBLs.
fn json_of_daemon(out: &mut dyn Write, answer: Option<&DaemonAnswer>) -> io::Result<()> {
    for ProblemLine { at, text } in answer.into_iter().flat_map(DaemonAnswer::problems) {
        writeln!(out, "{}", Object::new().text("problem", text).number("time", at).finish())?;
    }
    for ListLine { name, state, numbers: [asked, listed, failed, took], why } in
        answer.into_iter().flat_map(DaemonAnswer::lists)
    {
        let object = Object::new()
            .text("dnsbl", name)
            .text("state", state)
            .number("asked", asked)
            .number("listed", listed)
            .number("failed", failed)
            .number("ms", took)
            .text("why", Some(why).filter(|why| !why.is_empty()));
        writeln!(out, "{}", object.finish())?;
    }
    Ok(())
}
