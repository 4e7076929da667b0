#![forbid(unsafe_code)]
//! `mef test`: one service rule over a log, or all of them, without touching anything.

mod hits;
mod journal;
mod report;
mod selftest;

use super::args::{STDIN, parse};
use super::context::settings;
use super::output::{Output, OutputError};
use crate::base::diag::Severity;
use crate::config::{
    Engine, Loaded, LogFormat, ServiceRule, Settings, builtin, conf_files, duration, load_rule, not_needed,
};
use crate::daemon::rehearse::{Rehearsal, RehearsalExtent};
use crate::detect::{DetectRule, LineCounts, MAX_RULES, RuleBits, header};
use crate::input::blocks;
use crate::input::container::ContainerLog;
use crate::lists::{self, Gone, ListTurn, Paths};
use crate::sys::{capability, count, fs, stdio};
use argh::FromArgs;
use memchr::memchr;
use report::TestReport;
use std::fs::File;
use std::io;
use std::path::Path;

/// Seconds of the journal, if nothing is said.
const DAY: u32 = 86_400;
/// Instead of a name: every rule of `rules_dir`.
const ALL: &str = "all";

/// Run a service rule over a log, and show what it would do. Nothing is banned.
#[derive(FromArgs)]
#[argh(
    help_triggers("-h", "--help"),
    note = "It decides as the daemon would, with the configuration of this host, as if nobody had been \
        banned before: which addresses\nit would ban for how long, and which not and why. FILE may hold what \
        journalctl prints (short forms, with-unit, json).\nRULE is the name of a rule, the path of its file, \
        or all: every rule of rules_dir, also those that are off, except\nthose with engine=webscan. Of all \
        rules, those with programs= read a file that begins with a syslog header, the others any \
        other.\nWith --hits, LINE<TAB>ADDRESS is printed for each line that hits, and nothing else; the \
        summary goes to standard error.",
    example = "mef test sshd /var/log/auth.log\n  mef test all /var/log/auth.log\n  mef test --hits \
        ./my-rule.conf - < log\n  mef test --self"
)]
struct TestArgs {
    /// the rule, then log files; - is standard input
    #[argh(positional, arg_name = "RULE FILE")]
    words: Vec<String>,
    /// print the number and the address of every line that hits
    #[argh(switch)]
    hits: bool,
    /// one JSON object per line: each ban, then the summary
    #[argh(switch)]
    json: bool,
    /// read this machine's journal instead of files
    #[argh(switch)]
    journal: bool,
    /// how far back in the journal (default: 1d)
    #[argh(option, arg_name = "time")]
    since: Option<String>,
    /// run the examples inside every service rule
    #[argh(switch, long = "self")]
    own: bool,
    /// where the rules are (default: rules_dir of mef.conf)
    #[argh(option, arg_name = "dir")]
    rules_dir: Option<String>,
    /// path to mef.conf
    #[argh(option, arg_name = "file")]
    config: Option<String>,
}

/// Logs that are opened before the first is read.
const OPENED_MAX: usize = 128;

pub(super) fn run(args: &[&str], output: &mut Output<'_>) -> Result<(), OutputError> {
    let args: TestArgs = parse("test", args)?;
    let mut settings = settings(args.config.as_deref(), output);
    if let Some(dir) = &args.rules_dir {
        settings.rules_dir.clone_from(dir);
    }
    if args.own {
        capability::give_up_all_but(&[]);
        return selftest::run(settings, &args.words, output);
    }
    let since = since(&args)?;
    // Logs are their services': opened with all rights, and read, with the rules, without any.
    let opened: Vec<_> = args.words.iter().skip(1).take(OPENED_MAX).map(|file| open_log(file)).collect();
    capability::give_up_all_but(&[]);
    let complete = |files: &[String]| files.is_empty() == args.journal;
    let Some((name, files)) = args.words.split_first().filter(|(_, files)| complete(files)) else {
        return Err(OutputError::Usage("missing RULE FILE; `mef test --help` shows examples".into()));
    };
    let names = if name == ALL { all(&args, &settings)? } else { vec![name.clone()] };
    let (mut own, mut rules) = (Vec::new(), Vec::new());
    for path in &names {
        let loaded = load_rule(settings, path, &mut |rule, problems| match crate::services::compile(rule) {
            // To webscan every line of any log is a request that it cannot read.
            Ok(compiled) if name != ALL || compiled.webscan.is_none() => rules.push(compiled),
            Ok(_) => {}
            Err(more) => problems.extend(more),
        });
        report(&loaded, output);
        own.extend(loaded.rules.into_iter().filter(|rule| name != ALL || rule.engine != Engine::Webscan));
        settings = loaded.settings;
    }
    if rules.is_empty() || rules.len() != own.len() {
        return Err(OutputError::Told);
    }
    let (paths, note): (_, lists::ListNote<'_>) = (Paths::of(&settings), &mut |e| output.note(e));
    let allowed = lists::allowed(&paths, &ListTurn::NOBODYS, Gone::Wait, &mut Vec::new, note).allowed;
    // Those with programs first: they do not read what the others read.
    let mut both: Vec<_> = own.into_iter().zip(rules).collect();
    both.sort_by_key(|(rule, _)| rule.programs.is_empty());
    let (own, rules): (Vec<_>, Vec<_>) = both.into_iter().unzip();
    let extent = if args.hits { RehearsalExtent::Hits } else { RehearsalExtent::Decisions };
    let groups = groups(&own, rules, &mut |own, rules| {
        Rehearsal::new(rules, own, &mut settings, allowed.clone(), extent)
    });
    let report = TestReport::new(&args, &own);
    let docker = own.first().is_some_and(|rule| own.len() == 1 && rule.format == LogFormat::Docker);
    let container = docker.then(|| (ContainerLog::behind(b""), Vec::new()));
    let mut test = TestRun { groups, report, own: &own, container, lines: 0, failed: None };
    if args.journal {
        test.journal(since, output)?;
    }
    let mut opened = opened.into_iter();
    for file in files {
        let opened = opened.next().unwrap_or_else(|| open_log(file));
        let read = |file| blocks(file, &mut |block| test.block(block, output));
        if let Err(e) = opened.and_then(read) {
            output.problem(&format_args!("{file}: {e}"));
        }
    }
    test.end(output)
}

/// A log, or standard input.
fn open_log(file: &str) -> io::Result<File> {
    let stdin = file == "-" || file == STDIN;
    if stdin { stdio::stdin() } else { fs::open(Path::new(file)) }
}

/// The files of `rules_dir`, and the names of the built-in rules that none of them replaces.
fn all(args: &TestArgs, settings: &Settings) -> Result<Vec<String>, OutputError> {
    let dir = settings.rules_dir.as_str();
    let files = conf_files(Path::new(dir)).map_err(|e| OutputError::Failed(format!("{dir}: {e}")))?;
    let mut names: Vec<_> = files.iter().map(|file| format!("{dir}/{file}")).collect();
    // Who names a directory means what is in it.
    if args.rules_dir.is_none() {
        builtin(&mut |name, _| {
            if !files.iter().any(|file| file.strip_suffix(".conf") == Some(name)) {
                names.push(name.to_owned());
            }
            true
        });
    }
    Ok(names)
}

/// Seconds of the journal to read.
fn since(args: &TestArgs) -> Result<u32, OutputError> {
    let Some(text) = &args.since else { return Ok(DAY) };
    if !args.journal {
        return Err(OutputError::Usage("--since goes with --journal".into()));
    }
    duration(text).map_err(|bad| OutputError::Usage(format!("--since={text} {}: {}", bad.what, bad.hint)))
}

pub(super) fn report(loaded: &Loaded, output: &mut Output<'_>) {
    let _ = output.out.flush();
    let told = loaded.problems.iter().filter(|p| p.problem.severity != Severity::Obsolete);
    told.for_each(|p| output.raw(&p.shown));
    not_needed(&loaded.problems).iter().for_each(|text| output.note(text));
}

/// As many rules as one detector takes, all with programs or all without.
struct DetectorGroup {
    /// The number of its first.
    first: usize,
    len: usize,
    rehearsal: Rehearsal,
}

/// Rules in groups; those with programs are in front.
fn groups(
    own: &[ServiceRule],
    rules: Vec<DetectRule>,
    rehearse: &mut dyn FnMut(&[ServiceRule], Vec<DetectRule>) -> Rehearsal,
) -> Vec<DetectorGroup> {
    let (mut groups, mut rules) = (Vec::new(), rules.into_iter());
    for kind in own.chunk_by(|a, b| a.programs.is_empty() == b.programs.is_empty()) {
        for some in kind.chunks(MAX_RULES) {
            let first = groups.last().map_or(0, |last: &DetectorGroup| last.first + last.len);
            let rehearsal = rehearse(some, rules.by_ref().take(some.len()).collect());
            groups.push(DetectorGroup { first, len: some.len(), rehearsal });
        }
    }
    groups
}

/// One run over the files.
struct TestRun<'a> {
    groups: Vec<DetectorGroup>,
    report: TestReport<'a>,
    /// The rules that read the files.
    own: &'a [ServiceRule],
    /// Where the lines of a container's engine go on, and room for what the service said.
    container: Option<(ContainerLog, Vec<u8>)>,
    /// Lines and entries read so far.
    lines: u64,
    failed: Option<io::Error>,
}

impl TestRun<'_> {
    /// Says what has come out.
    fn end(self, output: &mut Output<'_>) -> Result<(), OutputError> {
        if let Some(e) = self.failed {
            return Err(OutputError::Output(e));
        }
        self.report.summary(&self.counts(), output)?;
        let others: u64 = self.groups.iter().map(|group| group.rehearsal.disbelieved()).sum();
        if others > 0 {
            output
                .note(&format_args!("{others} entries do not count: their sender is not the one they name"));
        }
        output.end()
    }

    fn block(&mut self, block: &[u8], output: &mut Output<'_>) {
        if self.failed.is_some() {
            return;
        }
        if let Some((mut log, mut room)) = self.container.take() {
            room.resize(room.len().max(block.len()), 0);
            let len = log.unwrap(block, &mut room);
            self.plain(room.get(..len).unwrap_or_default());
            self.container = Some((log, room));
        } else if !self.printed(block) {
            self.plain(block);
        }
        self.failed = self.report.flush(output).err();
    }

    /// Lines as every log has them.
    fn plain(&mut self, block: &[u8]) {
        let TestRun { groups, report, own, lines, .. } = self;
        let before = *lines;
        let mut read = None;
        let syslog = is_syslog(block);
        for DetectorGroup { first, len, rehearsal } in groups {
            let wanted = bits(own.iter().skip(*first).take(*len), |rule| {
                own.len() == 1 || rule.programs.is_empty() != syslog
            });
            if wanted != 0 {
                // Lines are counted up to those that say something only.
                let (mut counted, mut number) = (0, before + 1);
                let all = rehearsal.block(wanted, block, &mut |at, event| {
                    number += newlines(block.get(counted..at).unwrap_or_default());
                    counted = at;
                    report.event(*first, number, &event);
                });
                read = u64::try_from(all).ok();
            }
        }
        *lines += read.unwrap_or_else(|| newlines(block));
    }

    /// What was seen by all.
    fn counts(&self) -> LineCounts {
        let mut all = LineCounts { lines: self.lines, ..LineCounts::default() };
        for counts in self.groups.iter().map(|group| group.rehearsal.counts()) {
            all.ignored += counts.ignored;
            all.ambiguous += counts.ambiguous;
            all.no_address += counts.no_address;
            all.no_header += counts.no_header;
        }
        all
    }
}

fn newlines(text: &[u8]) -> u64 {
    match memchr(b'\n', text) {
        // Often it is one line.
        Some(end) if end + 1 == text.len() => 1,
        _ => u64::try_from(count::newlines(text)).unwrap_or(u64::MAX),
    }
}

/// Of all rules, as the daemon has it: what begins with a syslog header is for those with programs,
/// everything else for the others.
fn is_syslog(block: &[u8]) -> bool {
    header::parse(block.split(|b| *b == b'\n').next().unwrap_or_default()).is_some()
}

/// The bits of the rules that `fits`.
fn bits<'r>(rules: impl Iterator<Item = &'r ServiceRule>, fits: impl Fn(&ServiceRule) -> bool) -> RuleBits {
    let chosen = (0..RuleBits::BITS).zip(rules).filter(|(_, rule)| fits(rule));
    chosen.fold(0, |all, (n, _)| all | 1 << n)
}
