#![forbid(unsafe_code)]
//! `mef status`: what the daemon tells of itself, and what the kernel has, with or without a daemon.

use super::bans::about;
use super::{Error, Output, daemon_of, parse, settings};
use crate::base::clock::Wall;
use crate::base::json::Object;
use crate::base::utc::Stamp;
use crate::config::{DEFAULT_PATH, Settings, load};
use crate::control::client::Client;
use crate::control::proto::{FACTS, KERNEL, Request, RuleLine, read_fact};
use crate::enforce::options;
use crate::firewall::guard::{Guard, Made, Refresh};
use crate::rules::on;
use crate::sys::{clock, fs};
use argh::FromArgs;
use std::io::{self, Write};
use std::path::Path;

/// Show what runs, where packets die, what was counted, and what this kernel cannot do.
#[derive(FromArgs)]
#[argh(
    help_triggers("-h", "--help"),
    note = "Works without a daemon, too, and says so then.\nREAD is when something was last read for a rule, LAST its last hit.\nON says which rules are in force, WHY what decided it.",
    example = "mef status\n  mef status --json\n  mef status --prometheus"
)]
struct Args {
    /// one JSON object, then one for each rule
    #[argh(switch)]
    json: bool,
    /// the text format of Prometheus
    #[argh(switch)]
    prometheus: bool,
    /// another mef.conf
    #[argh(option, arg_name = "file")]
    config: Option<String>,
}

/// What a daemon answered.
#[derive(Default)]
pub(super) struct Answer {
    version: String,
    pid: u64,
    since: u64,
    pub(super) facts: [u64; FACTS.len()],
    /// As they came.
    pub(super) rules: Vec<String>,
    pub(super) offenders: Vec<String>,
}

impl Answer {
    /// Asks; `None` if the daemon ended meanwhile.
    pub(super) fn get(daemon: &mut Client, request: &Request<'_>) -> io::Result<Option<Answer>> {
        daemon.tell(request)?;
        let mut answer = Answer::default();
        daemon.lines(false, &mut |line| {
            if let Some((at, value)) = read_fact(line) {
                if let Some(slot) = answer.facts.get_mut(at) {
                    *slot = value;
                }
            } else if line.starts_with("rule ") {
                answer.rules.push(line.to_owned());
            } else if line.starts_with("offender ") {
                answer.offenders.push(line.to_owned());
            } else if let Some((word, value)) = line.split_once(' ') {
                match word {
                    "version" => answer.version = value.to_owned(),
                    "pid" => answer.pid = value.parse().unwrap_or(0),
                    "since" => answer.since = value.parse().unwrap_or(0),
                    _ => {}
                }
            }
            true
        })?;
        Ok((answer.pid != 0).then_some(answer))
    }

    /// A number by its name.
    pub(super) fn fact(&self, name: &str) -> u64 {
        FACTS.iter().zip(self.facts).find(|(fact, _)| fact.name == name).map_or(0, |(_, value)| value)
    }

    /// A rule that is on, by its name.
    fn rule(&self, name: &str) -> Option<RuleLine<'_>> {
        self.rules.iter().filter_map(|line| RuleLine::read(line)).find(|rule| rule.name == name)
    }

    fn age(&self) -> u64 {
        clock::wall().0.saturating_sub(self.since)
    }

    /// Bytes of the daemon in memory.
    fn resident(&self) -> Option<u64> {
        let text = fs::content(Path::new(&format!("/proc/{}/smaps_rollup", self.pid))).ok()?;
        let text = String::from_utf8_lossy(text.as_ref());
        let kb = text.lines().find_map(|line| line.strip_prefix("Rss:"))?;
        kb.trim().strip_suffix(" kB")?.parse::<u64>().ok().map(|kb| kb * 1024)
    }
}

/// What the kernel has.
struct Kernel {
    made: Option<Made>,
    bans: u64,
    allowed: u64,
    /// Sources in the flood throttle.
    throttled: u64,
}

impl Kernel {
    fn look(settings: &Settings) -> Result<Kernel, crate::firewall::guard::Failure> {
        let mut guard = Guard::open(options(settings))?;
        let made = guard.look()?;
        let (mut bans, mut allowed, throttled) = (0, 0, guard.throttled()?);
        if made.is_some() {
            guard.list(&mut |_| bans += 1)?;
            allowed = guard.allowed()?.len() as u64;
        }
        Ok(Kernel { made, bans, allowed, throttled })
    }
}

pub(super) fn run(args: &[&str], output: &mut Output<'_>) -> Result<(), Error> {
    let args: Args = parse("status", args)?;
    let settings = settings(args.config.as_deref(), output);
    let mut answer = None;
    if let Some(mut daemon) = daemon_of(&settings, output) {
        match Answer::get(&mut daemon, &Request::Status) {
            Ok(got) => answer = got,
            Err(e) => output.problem(&format_args!("the daemon does not answer: {e}")),
        }
    }
    let config = args.config.as_deref().unwrap_or(DEFAULT_PATH);
    let states = states(Path::new(config), answer.as_ref(), output);
    let kernel = Kernel::look(&settings).map_err(|e| Error::Failed(e.to_string()))?;
    let answer = answer.as_ref();
    if args.prometheus {
        prometheus(output.out, answer, &kernel)?;
    } else if args.json {
        json(output.out, answer, &kernel, &states)?;
    } else {
        people(output.out, answer, &kernel, &settings)?;
        table(output.out, &states)?;
    }
    output.end()
}

/// Whether a service rule is on, and why.
struct State {
    name: String,
    on: bool,
    why: String,
}

/// All service rules by name: those of the configuration as it is now, and those that only the daemon still has.
fn states(conf: &Path, answer: Option<&Answer>, output: &mut Output<'_>) -> Vec<State> {
    let mut states: Vec<State> = Vec::new();
    let mut add = |state: State| {
        let place = states.partition_point(|s| s.name < state.name);
        states.insert(place, state);
    };
    let loaded = load(conf, &mut |rule, _| {
        let (mut on, mut why) = on(rule);
        if let Some(answer) = answer {
            let has = answer.rule(&rule.name).is_some();
            if has != on {
                why += "; the daemon learns of it at a reload";
            }
            on = has;
        }
        add(State { name: rule.name.clone(), on, why });
    });
    for rule in answer.iter().flat_map(|a| &a.rules).filter_map(|line| RuleLine::read(line)) {
        if rule.source != KERNEL && !loaded.rules.iter().any(|r| r.name == rule.name) {
            let why = "no longer in the configuration; the daemon learns of it at a reload".to_owned();
            add(State { name: rule.name.to_owned(), on: true, why });
        }
    }
    if loaded.failed() {
        output.note(&"service rules or mef.conf have errors, see `mef check`");
    }
    states
}

/// Which rules are on, and why.
fn table(out: &mut dyn Write, states: &[State]) -> io::Result<()> {
    let width = states.iter().map(|s| s.name.len()).max().unwrap_or(0).max(4);
    writeln!(out, "\n{:<width$}  ON   WHY", "RULE")?;
    for State { name, on, why } in states {
        writeln!(out, "{name:<width$}  {:<3}  {why}", if *on { "yes" } else { "no" })?;
    }
    Ok(())
}

fn people(
    out: &mut dyn Write,
    answer: Option<&Answer>,
    kernel: &Kernel,
    settings: &Settings,
) -> io::Result<()> {
    match answer {
        None => writeln!(out, "daemon      does not run")?,
        Some(a) => {
            let (age, since) = (about(a.age()), Stamp(Wall(a.since)));
            writeln!(
                out,
                "daemon      runs for {age} (since {since}), process {}, version {}",
                a.pid, a.version
            )?;
            if let Some(bytes) = a.resident() {
                writeln!(out, "memory      {} kB", bytes / 1024)?;
            }
        }
    }
    match kernel.made {
        None => writeln!(out, "bans        none: there is no table inet mef_guard")?,
        Some(made) => {
            writeln!(
                out,
                "bans        {} in force, {} ranges on the allow list",
                kernel.bans, kernel.allowed
            )?;
            let place = match (settings.ban_host, settings.ban_forward) {
                (true, false) => "input, behind connection tracking",
                (false, true) => "forward, behind connection tracking",
                _ if made.ingress => "the ingress hook of the interfaces of the default routes",
                _ => "prerouting raw, before connection tracking",
            };
            writeln!(out, "packets     die in {place} (inet mef_guard)")?;
            let prolonged = match made.refresh {
                Refresh::Update => "prolongs a ban in place",
                Refresh::Replace => "cannot prolong a ban: it is replaced",
            };
            write!(out, "kernel      {prolonged}")?;
            for what in made.lacking() {
                write!(out, "; {what}")?;
            }
            writeln!(out)?;
            let scans = if made.scans != 0 { "banned by the kernel" } else { "not looked for" };
            writeln!(out, "port scans  {scans}")?;
            match made.floods {
                0 => writeln!(out, "floods      not looked for")?,
                _ => writeln!(
                    out,
                    "floods      held back by the kernel, {} sources in the throttle",
                    kernel.throttled
                )?,
            }
            let new = if made.seen != 0 { "told by the kernel" } else { "not looked for" };
            writeln!(out, "new sources {new}")?;
        }
    }
    let Some(answer) = answer else { return Ok(()) };
    writeln!(out)?;
    for (fact, value) in FACTS.iter().zip(answer.facts) {
        writeln!(out, "{value:>11} {}", fact.about)?;
    }
    writeln!(out)?;
    rules(out, answer)
}

/// The rules as a table.
pub(super) fn rules(out: &mut dyn Write, answer: &Answer) -> io::Result<()> {
    let all = || answer.rules.iter().filter_map(|line| RuleLine::read(line));
    let width = all().map(|rule| rule.name.len()).max().unwrap_or(0).max(4);
    writeln!(
        out,
        "{:<width$}  {:<8}  {:>8}  {:>8}  {:>9}  {:>9}",
        "RULE", "SOURCE", "HITS", "BANS", "READ", "LAST"
    )?;
    let ago = |age: Option<u64>| age.map_or("never".to_owned(), |age| about(age) + " ago");
    for RuleLine { name, source, hits, bans, read, hit, .. } in all() {
        let (read, hit) = (ago(read), ago(hit));
        writeln!(out, "{name:<width$}  {source:<8}  {hits:>8}  {bans:>8}  {read:>9}  {hit:>9}")?;
    }
    for RuleLine { name, last_ban, .. } in all().filter(|rule| !rule.last_ban.is_empty()) {
        writeln!(out, "last ban of {name}: {}", crate::base::line::shown(last_ban))?;
    }
    Ok(())
}

fn json(out: &mut dyn Write, answer: Option<&Answer>, kernel: &Kernel, states: &[State]) -> io::Result<()> {
    let mut object = Object::new()
        .text("daemon", if answer.is_some() { "runs" } else { "does not run" })
        .text("version", answer.map(|a| a.version.as_str()))
        .number("pid", answer.map(|a| a.pid))
        .number("since", answer.map(|a| a.since))
        .number("resident", answer.and_then(Answer::resident))
        .text("table", kernel.made.map(|_| "inet mef_guard"))
        .number("bans_in_force", kernel.bans)
        .number("allowed", kernel.allowed)
        .number("throttled", kernel.throttled)
        .number("logs", kernel.made.map(|made| made.logs.into()))
        .number("prolongs", kernel.made.map(|made| u64::from(made.refresh == Refresh::Update)));
    if let Some(answer) = answer {
        for (fact, value) in FACTS.iter().zip(answer.facts) {
            object = object.number(fact.name, value);
        }
    }
    writeln!(out, "{}", object.finish())?;
    for state in states {
        let rule = answer.and_then(|a| a.rule(&state.name));
        let object = Object::new()
            .text("rule", state.name.as_str())
            .text("source", rule.map(|r| r.source))
            .number("hits", rule.map(|r| r.hits))
            .number("bans", rule.map(|r| r.bans))
            .number("read", rule.and_then(|r| r.read))
            .number("last", rule.and_then(|r| r.hit))
            .number("on", u64::from(state.on))
            .text("why", state.why.as_str())
            .text("last_ban", rule.map(|r| r.last_ban).filter(|text| !text.is_empty()));
        writeln!(out, "{}", object.finish())?;
    }
    Ok(())
}

fn prometheus(out: &mut dyn Write, answer: Option<&Answer>, kernel: &Kernel) -> io::Result<()> {
    let mut one = |name: &str, grows: bool, about: &str, value: u64| {
        let (kind, total) = if grows { ("counter", "_total") } else { ("gauge", "") };
        writeln!(
            out,
            "# HELP mef_{name}{total} {about}.\n# TYPE mef_{name}{total} {kind}\nmef_{name}{total} {value}"
        )
    };
    one("up", false, "Whether the daemon runs", answer.is_some().into())?;
    one("table", false, "Whether the table of bans is there", kernel.made.is_some().into())?;
    one("bans_in_force", false, "Bans that the kernel holds", kernel.bans)?;
    one("allowed", false, "Ranges on the allow list that the kernel holds", kernel.allowed)?;
    one("throttled", false, "Sources in the flood throttle", kernel.throttled)?;
    let Some(answer) = answer else { return Ok(()) };
    one("start_time_seconds", false, "When the daemon was started", answer.since)?;
    if let Some(bytes) = answer.resident() {
        one("resident_bytes", false, "Memory of the daemon", bytes)?;
    }
    for (fact, value) in FACTS.iter().zip(answer.facts) {
        one(fact.name, fact.grows, fact.about, value)?;
    }
    type Column = (&'static str, &'static str, &'static str, fn(&RuleLine<'_>) -> Option<u64>);
    let columns: [Column; 4] = [
        ("rule_hits_total", "counter", "Hits of a service rule", |rule| Some(rule.hits)),
        ("rule_bans_total", "counter", "Bans of a service rule", |rule| Some(rule.bans)),
        ("rule_read_age_seconds", "gauge", "Time since something was read for a service rule", |rule| {
            rule.read
        }),
        ("rule_hit_age_seconds", "gauge", "Time since the last hit of a service rule", |rule| rule.hit),
    ];
    for (name, kind, about, value) in columns {
        writeln!(out, "# HELP mef_{name} {about}.\n# TYPE mef_{name} {kind}")?;
        for rule in answer.rules.iter().filter_map(|line| RuleLine::read(line)) {
            if let Some(value) = value(&rule) {
                // Names of rules are letters, digits and '-': nothing in them needs an escape.
                writeln!(out, "mef_{name}{{rule=\"{}\",source=\"{}\"}} {value}", rule.name, rule.source)?;
            }
        }
    }
    Ok(())
}
