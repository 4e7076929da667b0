#![forbid(unsafe_code)]
//! `mefctl lists`: what stands in the files, and who was banned how often; and where packets are dropped.

use super::bans::{fast, rule};
use super::words::{self, GivenWords};
use crate::applet::bans::about;
use crate::applet::context::settings;
use crate::applet::output::{Output, OutputError, failed};
use crate::applet::target::LOCK_WAIT_MAX;
use crate::base::count::count;
use crate::base::range::Range;
use crate::base::utc::Stamp;
use crate::config::{ListKind, Settings};
use crate::enforce::{journal, options};
use crate::firewall::view;
use crate::lists::{self, Paths};
use crate::sys::clock;

/// Seconds after its end in which a ban is at least remembered.
const REMEMBERED: u32 = 86_400;

pub(super) fn run(args: &[&str], output: &mut Output<'_>) -> Result<(), OutputError> {
    let (kind, rest) = words::action("lists", args, &["whitelist", "blacklist", "recidive"])?;
    GivenWords::read(rest, &[], &[])?.none()?;
    let settings = settings(None, output);
    match kind {
        "whitelist" => files(ListKind::Allow, &settings, output),
        "recidive" => recidive(&settings, output),
        _ => {
            files(ListKind::Deny, &settings, output)?;
            permanent(&settings, output)
        }
    }
}

/// The entries of every list of a directory.
fn files(kind: ListKind, settings: &Settings, output: &mut Output<'_>) -> Result<(), OutputError> {
    let paths = Paths::of(settings);
    let dir = paths.dir(kind);
    let names = lists::list_names(dir).map_err(|e| failed(format!("{}: {e}", dir.to_string_lossy())))?;
    for name in names.unwrap_or_default() {
        let path = dir.join(&name);
        let path = path.to_string_lossy();
        let mut written = writeln!(output.out, "{path}");
        let out = &mut *output.out;
        let counts = lists::each_entry(kind, &dir.join(&name), &mut |entry| {
            let until = entry.until.map(|until| format!("  until {}", Stamp(until))).unwrap_or_default();
            if written.is_ok() {
                written = writeln!(out, "  {}{until}", entry.net);
            }
        });
        written?;
        match counts {
            Ok(counts) if counts.passed_over() > 0 => {
                output.note(&format_args!("{path}: {} bad lines, see `mef check`", counts.passed_over()));
            }
            Ok(_) => {}
            Err(e) => output.problem(&format_args!("{path}: {e}")),
        }
    }
    output.end()
}

/// Bans without an end stand in the ban journal, not in a file.
fn permanent(settings: &Settings, output: &mut Output<'_>) -> Result<(), OutputError> {
    let mut guard = view(options(settings)).map_err(failed)?;
    let mut all = Vec::new();
    guard
        .list(&mut |e| all.extend(e.left.is_none().then(|| (e.addr, rule(e.rule), e.scope.to_string()))))
        .map_err(failed)?;
    if !all.is_empty() {
        writeln!(output.out, "ban journal in {} (bans without an end)", settings.state_dir)?;
    }
    for (addr, rule, scope) in all {
        writeln!(output.out, "  {addr}  rule={rule} ports={scope}")?;
    }
    Ok(())
}

/// Who was banned how often, as the ban journal has it.
fn recidive(settings: &Settings, output: &mut Output<'_>) -> Result<(), OutputError> {
    let now = clock::wall();
    let (mut journal, note) = journal(settings, now, LOCK_WAIT_MAX).map_err(failed)?;
    note.iter().filter(|e| !e.is_refusal()).for_each(|e| output.note(e));
    let keep = settings.bantime_max.max(REMEMBERED).into();
    let mut all = Vec::new();
    journal
        .live(now, keep, &mut |entry| {
            let left = entry.until.map(|until| until.0.saturating_sub(now.0));
            all.push((
                entry.bans.max(1),
                Range::from(entry.addr).to_string(),
                now.0.saturating_sub(entry.since.0),
                left,
                rule(entry.rule),
            ));
        })
        .map_err(failed)?;
    // Those that came back most often first.
    all.sort_by(|a, b| b.0.cmp(&a.0).then_with(|| a.1.cmp(&b.1)));
    if !all.is_empty() {
        writeln!(output.out, "BANS  LAST      STATE         RULE              ADDRESS")?;
    }
    for (bans, addr, age, left, rule) in all {
        let state = match left {
            None => "permanent".to_owned(),
            Some(0) => "over".to_owned(),
            Some(left) => format!("{} left", about(left)),
        };
        writeln!(output.out, "{bans:>4}  {:<8}  {state:<12}  {rule:<16}  {addr}", about(age))?;
    }
    Ok(())
}

/// Where the packets of who is banned are dropped.
pub(super) fn fastpath(output: &mut Output<'_>) -> Result<(), OutputError> {
    let settings = settings(None, output);
    let mut guard = view(options(&settings)).map_err(failed)?;
    let made = guard.state().map_err(failed)?;
    let (place, mut bans) = match made {
        None => ("none: nothing is in force", 0),
        Some(_) if fast(made) => ("ingress: the hook of the interfaces of the default routes", 0),
        Some(_) if let Some(hook) = guard.hook() => (hook, 0),
        Some(_) => ("prerouting raw, before connection tracking", 0),
    };
    guard.list(&mut |_| bans += 1).map_err(failed)?;
    writeln!(output.out, "configured  {}", settings.fastpath.word())?;
    writeln!(output.out, "active      {place}")?;
    writeln!(output.out, "entries     {}, and the deny lists (`mef lists`)", count(bans, "ban"))?;
    writeln!(output.out, "table       {}, also without a daemon; a restart changes nothing", guard.place())?;
    Ok(())
}
