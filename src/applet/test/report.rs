#![forbid(unsafe_code)]
//! What `mef test` says: each finding as it comes, then the sums.

use super::hits::push_line;
use super::{ALL, TestArgs};
use crate::applet::bans::about;
use crate::applet::output::{Output, OutputError};
use crate::ban::Scope;
use crate::base::clock::Span;
use crate::base::count::count;
use crate::base::json::Object;
use crate::base::range::Range;
use crate::config::{Engine, ServiceRule, written};
use crate::daemon::rehearse::{RehearsalEvent, RehearsalFinding, RehearsalOutcome};
use crate::detect::LineCounts;

/// Findings shown to people; `--json` shows all.
const SHOWN: u64 = 20;
/// Addresses that are never banned, remembered so that each is told once; beyond that some are told again.
const EXEMPT: usize = 256;

/// How many findings ended in what.
#[derive(Clone, Copy, Default)]
struct Sums {
    hits: u64,
    bans: u64,
    /// Somebody was banned already.
    repeated: u64,
    /// Somebody must not be banned.
    exempt: u64,
    /// It would only be told.
    detected: u64,
}

/// Everything that was found so far.
pub(super) struct TestReport<'a> {
    args: &'a TestArgs,
    own: &'a [ServiceRule],
    sums: Vec<Sums>,
    exempt: Vec<(usize, Range)>,
    shown: u64,
    /// What stands for a line: `line`, or `entry` of the journal.
    unit: &'static str,
    /// Output that is to be written.
    text: Vec<u8>,
}

impl<'a> TestReport<'a> {
    pub(super) fn new(args: &'a TestArgs, own: &'a [ServiceRule]) -> TestReport<'a> {
        TestReport {
            args,
            own,
            sums: vec![Sums::default(); own.len()],
            exempt: Vec::new(),
            shown: 0,
            unit: "line",
            text: Vec::with_capacity(8192),
        }
    }

    /// From now on it is about records of the journal.
    pub(super) fn entries(&mut self) {
        self.unit = "entry";
    }

    /// Takes in what line `number` has led to; the numbers of rules in it count from `first`.
    pub(super) fn event(&mut self, first: usize, number: u64, event: &RehearsalEvent<'_>) {
        match event {
            RehearsalEvent::Hit(rule, addr) => {
                if let Some(sums) = self.sums.get_mut(first + usize::from(*rule)) {
                    sums.hits += 1;
                }
                if self.args.hits {
                    push_line(&mut self.text, number, *addr);
                }
            }
            RehearsalEvent::Finding(finding) => {
                self.finding(first + usize::from(finding.rule), number, finding);
            }
        }
    }

    fn finding(&mut self, index: usize, number: u64, finding: &RehearsalFinding<'_>) {
        let sums = self.sums.get_mut(index);
        let count = sums.map(|sums| match finding.outcome {
            RehearsalOutcome::Ban { .. } => &mut sums.bans,
            RehearsalOutcome::Already => &mut sums.repeated,
            RehearsalOutcome::Exempt(_) => &mut sums.exempt,
            RehearsalOutcome::Detected => &mut sums.detected,
        });
        count.into_iter().for_each(|count| *count += 1);
        let rule = self.own.get(index).map_or("", |rule| &rule.name);
        if self.args.json {
            let object = as_json(number, rule, finding);
            self.text.extend_from_slice(object.as_bytes());
            self.text.push(b'\n');
            return;
        }
        match finding.outcome {
            // The sum is enough: it goes on as long as the log does.
            RehearsalOutcome::Already => return,
            RehearsalOutcome::Exempt(_) => {
                let key = (index, finding.addr);
                if self.exempt.contains(&key) {
                    return;
                }
                if self.exempt.len() < EXEMPT {
                    self.exempt.push(key);
                }
            }
            _ => {}
        }
        self.shown += 1;
        if self.shown <= SHOWN {
            // One rule needs no name.
            let rule = if self.own.len() > 1 { format!(" ({rule})") } else { String::new() };
            let text = format!("{} {number}: {}{rule}\n", self.unit, in_words(finding));
            self.text.extend_from_slice(text.as_bytes());
        } else if self.shown == SHOWN + 1 {
            self.text.extend_from_slice(b"\xe2\x80\xa6 and more (--json shows all)\n");
        }
    }

    /// Writes what has come together.
    pub(super) fn flush(&mut self, output: &mut Output<'_>) -> std::io::Result<()> {
        let result = output.out.write_all(&self.text);
        self.text.clear();
        result
    }

    /// Writes the sums.
    pub(super) fn summary(&self, c: &LineCounts, output: &mut Output<'_>) -> Result<(), OutputError> {
        let mut all = Sums::default();
        for s in &self.sums {
            all.hits += s.hits;
            all.bans += s.bans;
            all.repeated += s.repeated;
            all.exempt += s.exempt;
            all.detected += s.detected;
        }
        let one = if let [one] = self.own { Some(one) } else { None };
        let name = one.map_or(ALL, |rule| &rule.name);
        // Of several rules those that found something.
        let each = self.own.iter().zip(&self.sums).filter(|(_, sums)| one.is_none() && sums.hits > 0);
        if self.args.json && !self.args.hits {
            for (rule, sums) in each {
                let object = Object::new().text("event", "rule").text("rule", rule.name.as_str());
                writeln!(output.out, "{}", with_sums(object.number("hits", sums.hits), sums).finish())?;
            }
            let object = Object::new().text("event", "summary").text("rule", name);
            let object =
                object.number("lines", c.lines).number("hits", all.hits).number("ignored", c.ignored);
            let object = object.number("ambiguous", c.ambiguous).number("no_address", c.no_address);
            writeln!(output.out, "{}", with_sums(object, &all).finish())?;
            return Ok(());
        }
        let text = format!(
            "{name}: {}, {}, {} ignored, {} ambiguous, {} without an address",
            count(c.lines, "line"),
            count(all.hits, "hit"),
            c.ignored,
            c.ambiguous,
            c.no_address
        );
        if self.args.hits {
            output.note(&text);
            return Ok(());
        }
        let (bans, rest) = (count(all.bans, "ban"), Rest(all));
        let Some(rule) = one else {
            writeln!(output.out, "{text}\n{bans}{rest}")?;
            for (rule, sums) in each {
                writeln!(
                    output.out,
                    "{}: {}, {}{}",
                    rule.name,
                    count(sums.hits, "hit"),
                    count(sums.bans, "ban"),
                    Rest(*sums)
                )?;
            }
            return Ok(());
        };
        if rule.engine == Engine::Webscan {
            writeln!(output.out, "{text}, {} not understood\n{bans}{rest}", c.no_header)?;
        } else {
            let (times, within) = (count(rule.maxretry, "hit"), written(rule.findtime));
            writeln!(output.out, "{text}\n{bans} ({times} within {within}){rest}")?;
        }
        Ok(())
    }
}

/// The sums that are not zero, but for hits and bans.
struct Rest(Sums);

impl std::fmt::Display for Rest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Sums { repeated, exempt, detected, .. } = self.0;
        for (times, what) in [
            (repeated, "by an address that is already banned"),
            (exempt, "by an address that must not be banned"),
            (detected, "only reported (action=detect)"),
        ] {
            if times > 0 {
                write!(f, ", {} {what}", count(times, "time"))?;
            }
        }
        Ok(())
    }
}

fn with_sums(object: Object, sums: &Sums) -> Object {
    let Sums { bans, repeated, exempt, detected, .. } = *sums;
    let object = object.number("bans", bans).number("repeated", repeated);
    object.number("exempt", exempt).number("detected", detected)
}

fn as_json(number: u64, rule: &str, finding: &RehearsalFinding<'_>) -> String {
    let event = match finding.outcome {
        RehearsalOutcome::Ban { .. } => "ban",
        RehearsalOutcome::Already => "repeat",
        RehearsalOutcome::Exempt(_) => "exempt",
        RehearsalOutcome::Detected => "detect",
    };
    let addr = finding.addr.to_string();
    let object = Object::new().text("event", event).number("line", number).text("address", addr.as_str());
    let mut object = object.number("hits", u64::from(finding.hits)).text("rule", rule);
    if !finding.reason.is_empty() {
        object = object.text("reason", finding.reason);
    }
    match &finding.outcome {
        RehearsalOutcome::Ban { time, bans, scope } => {
            // No number is for good.
            let seconds = if let Span::Secs(secs) = *time { Some(secs) } else { None };
            let ports = scope.to_string();
            object.number("for", seconds).number("bans", u64::from(*bans)).text("ports", ports.as_str())
        }
        RehearsalOutcome::Exempt(why) => object.text("why", *why),
        RehearsalOutcome::Already | RehearsalOutcome::Detected => object,
    }
    .finish()
}

fn in_words(finding: &RehearsalFinding<'_>) -> String {
    let RehearsalFinding { addr, hits, reason, .. } = finding;
    let cause =
        if reason.is_empty() { format!(" after {}", count(*hits, "hit")) } else { format!(": {reason}") };
    match &finding.outcome {
        RehearsalOutcome::Ban { time, bans, scope } => {
            format!("ban {addr}{cause}, {}", terms(*time, *bans, scope))
        }
        RehearsalOutcome::Already => format!("{addr} is banned already"),
        RehearsalOutcome::Exempt(why) => format!("no ban of {addr}{cause}: it is {why}"),
        RehearsalOutcome::Detected => format!("detect {addr}{cause}"),
    }
}

/// `for 10m`, and what else there is to say of a ban.
fn terms(time: Span, bans: u32, scope: &Scope) -> String {
    let mut text = match time {
        Span::Secs(secs) => format!("for {}", about(secs)),
        Span::Permanent => "for good".to_owned(),
    };
    if !scope.is_all() {
        text.push_str(&format!(" on ports {scope}"));
    }
    if bans > 1 {
        text.push_str(&format!(" (ban {bans} of it)"));
    }
    text
}
