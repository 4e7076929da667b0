#![forbid(unsafe_code)]
//! `mef load`, `mef confirm` and `mef unload`: the rule set into the kernel, and out of it.

use super::args::{STDIN, parse};
use super::context::settings;
use super::output::{Output, OutputError, OutputShape};
use crate::base::count::count;
use crate::base::diag::Severity;
use crate::base::json::Object;
use crate::config::duration;
use crate::firewall::loader::{self, Goal, LoadError, Loader};
use crate::rulefile::{self, DEFAULT_PATH};
use crate::ruleset::RuleSet;
use crate::sys::terminal::AnswersFrom;
use crate::trial::{self, Noted, Saved, Trial, TrialEnd, TrialTurn};
use argh::FromArgs;
use std::path::{Path, PathBuf};

/// Longest trial, s.
const TRIAL_MAX: u32 = 86_400;

/// Put the rule set into the kernel, in one transaction, in place of the one that is there.
#[derive(FromArgs)]
#[argh(
    help_triggers("-h", "--help"),
    note = "Bans are not touched. A rule set with errors, or one that the kernel refuses, changes nothing.",
    note = "With --confirm, the previous rules return by themselves: when nobody confirms in time, when the \
        terminal hangs up, and with ^C. The kernel sees to it, whatever happens to mef.",
    example = "mef load\n  mef load --check /etc/mef/mef.rules\n  mef load --confirm 30s"
)]
struct LoadArgs {
    /// the rule set (default /etc/mef/mef.rules); - is standard input
    #[argh(positional, arg_name = "FILE")]
    file: Option<String>,
    /// only say what is wrong with it
    #[argh(switch)]
    check: bool,
    /// print a JSON object
    #[argh(switch)]
    json: bool,
    /// how long the rules are pending confirmation, such as 30s: then the previous ones return, unless you
    /// type yes or
    /// `mef confirm` is run
    #[argh(option, arg_name = "time")]
    confirm: Option<String>,
    /// load a rule set that is known to cut off the SSH session that this command runs in
    #[argh(switch)]
    force: bool,
    /// at boot: put the bans back, too; and if nobody has confirmed the rules of the last trial, load those
    /// that were confirmed last
    /// instead
    #[argh(switch)]
    boot: bool,
}

pub(super) fn load(args: &[&str], output: &mut Output<'_>) -> Result<(), OutputError> {
    load_by(args, AnswersFrom::Terminal, output)
}

/// Likewise, with a yes from there.
pub(super) fn load_by(
    args: &[&str],
    answers: AnswersFrom,
    output: &mut Output<'_>,
) -> Result<(), OutputError> {
    let args: LoadArgs = parse("load", args)?;
    let seconds = args.confirm.as_deref().map(time).transpose()?;
    if args.boot && (seconds.is_some() || args.check) {
        return Err(OutputError::Usage("--boot excludes --confirm and --check".into()));
    }
    let (saved, run_dir) = places(output);
    if args.boot {
        bans_at_boot(output);
        if args.file.is_none() && is_left_alone(&saved, output) {
            return output.end();
        }
    }
    let boot = if args.boot { at_boot(&saved, output)? } else { None };
    let path = boot.as_deref().or(args.file.as_deref()).unwrap_or(DEFAULT_PATH);
    let depth = if args.check { rulefile::CheckDepth::Thorough } else { rulefile::CheckDepth::Quick };
    let mut set = rulefile::read(path, depth);
    report(&set, output)?;
    let name = if path == STDIN { "standard input" } else { path };
    if args.check {
        return checked(&mut set, name, OutputShape::from(args.json), output);
    }
    if let Some(why) = set.locks_out.take().filter(|_| !args.force && !args.boot && seconds.is_none()) {
        let how = "; `mef load --confirm 30s` tries them for a time, --force loads them anyway";
        return Err(OutputError::Failed([&why, how].concat()));
    }
    let text = if boot.is_none() { set.whole_text() } else { String::new() };
    let keepable = rulefile::keepable(text.len());
    if let Err(why) = keepable.as_ref() {
        // At boot, rules are better than none.
        if !args.boot {
            return Err(OutputError::Failed(["not loaded: ", why].concat()));
        }
        not_saved(why, output);
    }
    let turn = TrialTurn::take(&run_dir).map_err(OutputError::Failed)?;
    note_foreign(output);
    let rules = set.rules();
    let (end, parts) = match seconds {
        None => (TrialEnd::Kept, for_good(&mut set, &run_dir, output)?),
        Some(seconds) => {
            let terms = TrialTerms { seconds, answers };
            pending_confirmation(turn, &terms, (&mut set, &text), (&saved, &run_dir), output)?
        }
    };
    ended(&end, name, &run_dir)?;
    // The watcher of a trial has done so.
    if seconds.is_none()
        && boot.is_none()
        && keepable.is_ok()
        && let Err(e) = saved.keep(&text)
    {
        not_saved(&e, output);
    }
    let (sets, shape) = (set.sets.len(), OutputShape::from(args.json));
    loaded(name, (rules, parts, sets), shape, output)
}

fn not_saved(why: &dyn std::fmt::Display, output: &mut Output<'_>) {
    output.note(&format_args!("the rules are not saved for the case of a trial: {why}"));
}

/// Says what was loaded: rules of the file, rules of the kernel that they are, and sets.
fn loaded(
    name: &str,
    (rules, parts, sets): (usize, u32, usize),
    shape: OutputShape,
    output: &mut Output<'_>,
) -> Result<(), OutputError> {
    if shape == OutputShape::Json {
        let object = object("loaded", name, rules, sets).number("kernel_rules", u64::from(parts));
        writeln!(output.out, "{}", object.finish())?;
    } else {
        let (rules, sets) = (count(rules, "rule"), count(sets, "set"));
        writeln!(output.out, "{name}: {rules} ({parts} in the kernel), {sets}")?;
    }
    output.end()
}

/// `--check`: has the kernel's transaction made, and says what is in the rule set.
fn checked(
    set: &mut RuleSet,
    name: &str,
    shape: OutputShape,
    output: &mut Output<'_>,
) -> Result<(), OutputError> {
    rulefile::batch(set, Goal::Replace).map_err(|text| failed(&text, output))?;
    let (rules, sets) = (set.rules(), set.sets.len());
    match shape {
        OutputShape::Json => writeln!(output.out, "{}", object("checked", name, rules, sets).finish())?,
        OutputShape::Text => {
            writeln!(output.out, "{name}: {}, {}, no errors", count(rules, "rule"), count(sets, "set"))?;
        }
    }
    Ok(())
}

/// What others have put into our table goes with a load.
fn note_foreign(output: &mut Output<'_>) {
    if rulefile::is_foreign().unwrap_or(false) {
        output.note(
            &"the table mef (inet or bridge) holds chains or rules of another program: \
            they are replaced, too",
        );
    }
}

/// Tells the daemon which rules are in force, and the user if they are not those of the file.
fn ended(end: &TrialEnd, name: &str, run_dir: &Path) -> Result<(), OutputError> {
    match end {
        TrialEnd::Kept => super::context::changed(run_dir, "load", &[]),
        TrialEnd::Back => {
            super::context::changed(run_dir, "rollback", &[]);
            let what = ["not confirmed: the previous rules are back, but ", name, " still has the new ones"];
            return Err(OutputError::Failed(what.concat()));
        }
        TrialEnd::Stuck => return Err(OutputError::Failed(STUCK.into())),
    }
    Ok(())
}

/// What was done with a rule set, for programs.
fn object(result: &str, name: &str, rules: usize, sets: usize) -> Object {
    let object = Object::new().text("result", result).text("file", name);
    object.number("rules", rules as u64).number("sets", sets as u64)
}

/// Puts the bans back: the daemon may start after the network.
fn bans_at_boot(output: &mut Output<'_>) {
    let settings = settings(None, output);
    if let Err(OutputError::Failed(why) | OutputError::Usage(why)) = super::target::table(&settings, output) {
        output.problem(&format_args!("bans: {why}"));
    }
}

/// Why a boot cannot load any rules.
pub(super) const UNCONFIRMED: &str = "the last rules were never confirmed, nor any before";

/// Why there is nothing to load at boot, if there is not.
pub(super) fn none_at_boot(saved: &Saved) -> Option<&'static str> {
    if saved.is_fresh() && crate::setup::is_untouched(DEFAULT_PATH) {
        // It opens the port of SSH alone: nobody has said yet that this is enough for this host.
        return Some("mef.rules is as installed and was never loaded");
    }
    let none = saved.pending().is_none() && !Path::new(DEFAULT_PATH).exists();
    none.then_some("there is no mef.rules")
}

/// Whether no rule set is loaded at boot; says why one that is there is not.
fn is_left_alone(saved: &Saved, output: &mut Output<'_>) -> bool {
    let why = none_at_boot(saved);
    if let Some(why) = why.filter(|_| Path::new(DEFAULT_PATH).exists()) {
        output.note(&format_args!("{why}: it is left alone until `mef load`"));
    }
    why.is_some()
}

/// The rule set to load at boot in place of the usual one: a reboot loads nothing that nobody has confirmed.
fn at_boot(saved: &Saved, output: &mut Output<'_>) -> Result<Option<String>, OutputError> {
    if saved.pending().is_none() {
        return Ok(None);
    }
    let Some(path) = saved.confirmed() else {
        return Err(OutputError::Failed([UNCONFIRMED, ": none are loaded"].concat()));
    };
    output.note(
        &"nobody has confirmed the rules of the last trial: the ones before are loaded (`mef load` \
        ends that)",
    );
    Ok(Some(path.to_string_lossy().into_owned()))
}

/// Replaces the rules; how many rules of the kernel they are.
fn for_good(set: &mut RuleSet, run_dir: &Path, output: &mut Output<'_>) -> Result<u32, OutputError> {
    let batch = rulefile::batch(set, Goal::Replace).map_err(|text| failed(&text, output))?;
    let parts = batch.rules();
    rulefile::load(set, batch).map_err(|(why, _)| OutputError::Failed(why))?;
    trial::note(run_dir, Noted::Rules);
    Ok(parts)
}

/// How long rules wait for a yes, and where it may come from.
struct TrialTerms {
    seconds: u32,
    answers: AnswersFrom,
}

/// Loads rules until they are confirmed or their time is up.
fn pending_confirmation(
    turn: TrialTurn,
    &TrialTerms { seconds, answers }: &TrialTerms,
    (set, text): (&mut RuleSet, &str),
    (saved, run_dir): (&Saved, &Path),
    output: &mut Output<'_>,
) -> Result<(TrialEnd, u32), OutputError> {
    let refused = |e: LoadError| OutputError::Failed(["no trial: ", &e.to_string()].concat());
    let previous = loader::previous().map_err(refused)?;
    let had_rules = loader::is_loaded().map_err(refused)?;
    // It is kept where nothing else is.
    let is_first = had_rules && saved.confirmed().is_none();
    let before = if is_first { rulefile::loaded_text() } else { None };
    let goal = Goal::Trial(previous, u64::from(seconds) * 1000);
    let batch = rulefile::batch(set, goal).map_err(|text| failed(&text, output))?;
    let parts = batch.rules();
    let unconfirmed = saved.pending().is_some();
    match saved.begin(text, before.as_deref()) {
        Ok(true) => {}
        Ok(false) => {
            output.note(&"a reboot during the trial loads the new rules: state_dir cannot be written")
        }
        Err(e) => {
            return Err(OutputError::Failed(
                ["no trial: its rules cannot be saved: ", &e.to_string()].concat(),
            ));
        }
    }
    let trial = Trial { seconds, text, saved, had_rules, answers };
    let mut rules = OnTrial { set, batch: Some(batch), text, saved, run_dir };
    let end = turn.trial(&trial, &mut rules, &mut |text| output.note(&text));
    end.map(|end| (end, parts)).map_err(|why| {
        if !unconfirmed && matches!(loader::pending(), Ok(None)) {
            saved.cancel();
        }
        OutputError::Failed(why)
    })
}

/// The rules of a trial.
struct OnTrial<'a> {
    set: &'a RuleSet,
    batch: Option<Box<dyn Loader>>,
    text: &'a str,
    saved: &'a Saved,
    run_dir: &'a Path,
}

impl trial::Rules for OnTrial<'_> {
    fn begin(&mut self) -> Result<(), (String, bool)> {
        self.batch.take().map_or(Ok(()), |batch| rulefile::load(self.set, batch))?;
        trial::note(self.run_dir, Noted::Rules);
        Ok(())
    }

    fn confirm(&mut self) -> Result<bool, String> {
        confirm_text(self.text)
    }

    fn reload(&mut self) -> Result<(), String> {
        let path = self.saved.confirmed().ok_or("they were not saved")?;
        let mut set = rulefile::read(&path.to_string_lossy(), rulefile::CheckDepth::Quick);
        let batch = rulefile::batch(&mut set, Goal::Replace)?;
        rulefile::load(&set, batch).map_err(|(why, _)| why)
    }
}

/// Makes the unconfirmed rules, of which this is the text, the only ones. False if the trial is over.
fn confirm_text(text: &str) -> Result<bool, String> {
    let Some(pending) = loader::pending().map_err(|e| e.to_string())? else { return Ok(false) };
    let mut set = rulefile::read_text("the unconfirmed rules", text);
    if set.failed() {
        return Err(rulefile::shown(&set).concat());
    }
    let batch = rulefile::batch(&mut set, Goal::Confirm(&pending))?;
    match rulefile::load(&set, batch) {
        Ok(()) => Ok(true),
        // The element that ends the trial was not there any more.
        Err(_) if loader::pending().is_ok_and(|found| found.is_none_or(|trial| trial.left_ms == 0)) => {
            Ok(false)
        }
        Err((why, _)) => Err(why),
    }
}

const STUCK: &str = "not confirmed, but somebody deleted the previous rules, which cannot be loaded again \
    (see the system log)";

/// The time of a trial, s.
fn time(text: &str) -> Result<u32, OutputError> {
    let wrong = |why: &str| OutputError::Usage(["--confirm ", text, ": ", why].concat());
    match duration(text).map_err(|bad| wrong(&bad.hint))? {
        seconds @ 1..=TRIAL_MAX => Ok(seconds),
        _ => Err(wrong("expected 1s to 1d")),
    }
}

/// Where rule sets are kept, and the directory with the lock of those who change rules.
pub(super) fn places(output: &mut Output<'_>) -> (Saved, PathBuf) {
    let settings = settings(None, output);
    let run = PathBuf::from(&settings.run_dir);
    (Saved::new(Path::new(&settings.state_dir), &run), run)
}

/// Keep the rules that `mef load --confirm` has loaded.
#[derive(FromArgs)]
#[argh(help_triggers("-h", "--help"), example = "mef confirm")]
struct ConfirmArgs {
    /// print a JSON object
    #[argh(switch)]
    json: bool,
}

pub(super) fn confirm(args: &[&str], output: &mut Output<'_>) -> Result<(), OutputError> {
    let args: ConfirmArgs = parse("confirm", args)?;
    let (saved, run) = places(output);
    let mut alone = || {
        let Some(path) = saved.pending() else { return Ok(None) };
        let bytes = rulefile::read_file(&path.to_string_lossy()).map_err(|e| e.to_string())?;
        let text = String::from_utf8(bytes).map_err(|e| e.to_string())?;
        Ok(Some((confirm_text(&text)?, text)))
    };
    trial::confirm(&run, &saved, &mut alone).map_err(OutputError::Failed)?;
    super::context::changed(&run, "confirm", &[]);
    let done = if args.json { "{\"result\":\"confirmed\"}" } else { "rules confirmed" };
    Ok(writeln!(output.out, "{done}")?)
}

/// Shows what is wrong on standard error. Errors end the command.
pub(super) fn report(set: &RuleSet, output: &mut Output<'_>) -> Result<(), OutputError> {
    for text in rulefile::shown(set) {
        output.raw(&text);
    }
    let errors = set.problems.iter().filter(|(_, p)| p.severity == Severity::Error).count();
    if errors > 0 {
        let noun = if errors == 1 { " error" } else { " errors" };
        return Err(OutputError::Failed(
            [errors.to_string().as_str(), noun, "; nothing was changed"].concat(),
        ));
    }
    Ok(())
}

/// A text that is complete in itself.
pub(super) fn failed(text: &str, output: &mut Output<'_>) -> OutputError {
    output.raw(text);
    OutputError::Failed("nothing was changed".into())
}

/// Take the rule set out of the kernel. Bans stay.
#[derive(FromArgs)]
#[argh(help_triggers("-h", "--help"), example = "mef unload\n  mef unload --all")]
struct UnloadArgs {
    /// also the table of bans, with the deny lists and guards in it; a daemon that runs makes it again
    #[argh(switch)]
    all: bool,
    /// print a JSON object
    #[argh(switch)]
    json: bool,
}

pub(super) fn unload(args: &[&str], output: &mut Output<'_>) -> Result<(), OutputError> {
    let args: UnloadArgs = parse("unload", args)?;
    let settings = settings(None, output);
    let run_dir = PathBuf::from(&settings.run_dir);
    let _turn = TrialTurn::take(&run_dir).map_err(OutputError::Failed)?;
    let foreign = rulefile::is_foreign().unwrap_or(false);
    // Before it: the daemon must not take it for an accident.
    trial::note(&run_dir, Noted::None);
    loader::unload().map_err(|e| OutputError::Failed(e.to_string()))?;
    super::context::changed(&run_dir, "unload", &[]);
    if foreign {
        output.note(
            &"the table mef (inet or bridge) held chains or rules of another program: they are gone, too",
        );
    }
    if args.all {
        crate::firewall::remove(crate::enforce::options(&settings))
            .map_err(|e| OutputError::Failed(e.to_string()))?;
    }
    if args.json {
        writeln!(output.out, "{{\"result\":\"unloaded\"}}")?;
    }
    Ok(())
}
