#![forbid(unsafe_code)]
//! `mef migrate`: the configuration of another program as files of mef. Says what it would write, and what
//! has no counterpart; writes it when it is told to.

use super::args::parse;
use super::output::{Output, OutputError};
use crate::base::count::count;
use crate::base::json::Object;
use crate::base::line::shown;
use crate::config::DEFAULT_PATH;
use crate::migrate::{MigratedBan, Migration, PRODUCTS};
use crate::setup::{self, Manifest, Root, SetupStep};
use crate::sys::{child, clock};
use argh::FromArgs;
use std::path::Path;

/// Lines of a file that are shown; lists may have a million.
const SHOWN: usize = 200;

/// Show what the configuration of another program becomes, and write it with --write. Nothing of the other
/// program is changed.
#[derive(FromArgs)]
#[argh(
    help_triggers("-h", "--help"),
    note = "Your own files are never overwritten: where there is one, the new one is put beside it as \
        .new.\nBans in force are taken along, with the time that they have left.",
    example = "mef migrate fail2ban\n  mef migrate ufw --write\n  mef migrate csf --root /mnt/old"
)]
struct MigrateArgs {
    /// fail2ban, csf or ufw
    #[argh(positional, arg_name = "PROGRAM")]
    product: String,
    /// read from a tree that does not run, and write into it
    #[argh(option, arg_name = "dir")]
    root: Option<String>,
    /// write the files, and make the bans
    #[argh(switch)]
    write: bool,
    /// JSON objects
    #[argh(switch)]
    json: bool,
}

/// The tree whose configuration is taken over.
#[derive(Clone, Copy, PartialEq, Eq)]
enum MigratedTree {
    /// That of this host: programs can be asked, and bans are in force.
    Running,
    /// That of an image.
    Resting,
}

pub(super) fn run(args: &[&str], output: &mut Output<'_>) -> Result<(), OutputError> {
    let args: MigrateArgs = parse("migrate", args)?;
    let Some(product) = PRODUCTS.iter().find(|product| product.name == args.product) else {
        let names: Vec<&str> = PRODUCTS.iter().map(|product| product.name).collect();
        let what =
            ["unknown program '", &shown(&args.product), "', expected one of: ", &names.join(", ")].concat();
        return Err(OutputError::Usage(what));
    };
    let dir = Path::new(args.root.as_deref().unwrap_or("/"));
    if !dir.is_dir() {
        return Err(OutputError::Failed([&shown(&dir.to_string_lossy()), ": no such directory"].concat()));
    }
    let root = Root::new(dir);
    let tree = if dir == Path::new("/") { MigratedTree::Running } else { MigratedTree::Resting };
    let now = clock::wall();
    let ask = |argv: &[&str]| if tree == MigratedTree::Running { child::output(argv).ok() } else { None };
    let mut found =
        (product.read)(&root, (now.0, clock::local_offset(now)), &ask).map_err(OutputError::Failed)?;
    add_settings(&root, &mut found);
    found.verify();
    let manifest = Manifest::read(&root);
    let steps = plan(&root, &manifest, &found)?;
    if args.json {
        objects(&found, &steps, output)?;
    } else {
        show(&found, &steps, output)?;
    }
    if !args.write {
        if !args.json {
            writeln!(output.out, "nothing was changed; --write does this")?;
        }
        return output.end();
    }
    let written = write(&root, &steps)?;
    let form = if args.json { "--json" } else { "" };
    if args.json {
        writeln!(output.out, "{}", Object::new().number("written", u64::from(written)).finish())?;
    } else {
        writeln!(output.out, "wrote {}", count(written, "file"))?;
    }
    ban(&found, tree, form, output)?;
    if !args.json {
        last_words(&found, output)?;
    }
    output.end()
}

/// Settings go to the end of mef.conf, as it is or as it ships.
fn add_settings(root: &Root, found: &mut Migration) {
    if found.settings.is_empty() {
        return;
    }
    let mut text = root.text(DEFAULT_PATH);
    // The last of several equal keys counts.
    let section = if text.is_empty() { "[global]\n" } else { "\n[global]\n" };
    text += &[section, &found.settings.join("\n"), "\n"].concat();
    found.files.push((DEFAULT_PATH.into(), text));
}

fn plan(root: &Root, manifest: &Manifest, found: &Migration) -> Result<Vec<SetupStep>, OutputError> {
    let step = |(path, text): &(String, String)| {
        setup::file(root, manifest, path, text.clone().into_bytes(), 0o600)
            .map_err(|e| OutputError::Failed(format!("{path}: {e}; nothing was changed")))
    };
    found.files.iter().map(step).collect()
}

fn show(found: &Migration, steps: &[SetupStep], output: &mut Output<'_>) -> Result<(), OutputError> {
    if !found.found.is_empty() {
        writeln!(output.out, "found: {}", found.found.join(", "))?;
    }
    for (step, (_, text)) in steps.iter().zip(&found.files) {
        writeln!(output.out, "{step}")?;
        if step.changes() {
            for line in text.lines().take(SHOWN) {
                writeln!(output.out, "  + {}", shown(line))?;
            }
            let more = text.lines().count().saturating_sub(SHOWN);
            if more > 0 {
                writeln!(output.out, "  + and {more} more lines")?;
            }
        }
    }
    if !found.bans.is_empty() {
        writeln!(output.out, "bans     {} in force", found.bans.len())?;
    }
    for note in &found.notes {
        writeln!(output.out, "note     {}", shown(note))?;
    }
    Ok(())
}

/// The same for programs.
fn objects(found: &Migration, steps: &[SetupStep], output: &mut Output<'_>) -> Result<(), OutputError> {
    for what in &found.found {
        writeln!(output.out, "{}", Object::new().text("found", what.as_str()).finish())?;
    }
    for (step, (path, text)) in steps.iter().zip(&found.files) {
        let text = Some(text.as_str()).filter(|_| step.changes());
        let object = Object::new().text("file", path.as_str()).text("step", step.to_string().as_str());
        writeln!(output.out, "{}", object.text("text", text).finish())?;
    }
    for ban in &found.bans {
        let ports = if ban.ports.is_empty() { "all" } else { &ban.ports };
        let object = Object::new()
            .text("banned", ban.who.as_str())
            .number("left", minutes(ban.left).map(|minutes| minutes * 60))
            .text("ports", ports)
            .text("reason", ban.reason.as_str());
        writeln!(output.out, "{}", object.finish())?;
    }
    for note in &found.notes {
        writeln!(output.out, "{}", Object::new().text("note", note.as_str()).finish())?;
    }
    let object = Object::new().text("stop", found.stop).text("back", found.back);
    writeln!(output.out, "{}", object.finish())?;
    Ok(())
}

/// What is written is the user's from now on: a new version of mef does not replace it. Returns how many
/// files that are.
fn write(root: &Root, steps: &[SetupStep]) -> Result<u32, OutputError> {
    let steps: Vec<_> = steps.iter().filter(|step| step.changes()).collect();
    for step in &steps {
        step.run(root, &mut Manifest::default()).map_err(|e| {
            OutputError::Failed(format!("not done: {step}: {e}; run it again: it continues where it stopped"))
        })?;
    }
    Ok(u32::try_from(steps.len()).unwrap_or(u32::MAX))
}

/// Makes the bans, those that end together and are about the same ports at once; `form` is an option that
/// says how that is told, if any.
fn ban(
    found: &Migration,
    tree: MigratedTree,
    form: &str,
    output: &mut Output<'_>,
) -> Result<(), OutputError> {
    if tree == MigratedTree::Resting {
        if !found.bans.is_empty() {
            output.note(&"bans in force are not taken along: this tree does not run");
        }
        return Ok(());
    }
    let mut rest: Vec<&MigratedBan> = found.bans.iter().collect();
    while let Some(first) = rest.first().copied() {
        let (same, others) = rest.into_iter().partition(|ban| alike(ban, first));
        rest = others;
        let time = minutes(first.left).map(|minutes| [&minutes.to_string(), "m"].concat());
        let mut argv = vec!["--reason", &first.reason];
        argv.extend(time.iter().flat_map(|time| ["--for", time.as_str()]));
        argv.extend(time.is_none().then_some("--permanent"));
        if !first.ports.is_empty() {
            argv.extend(["--ports", &first.ports]);
        }
        argv.extend(Some(form).filter(|form| !form.is_empty()));
        argv.push("--");
        argv.extend::<Vec<&str>>(same.iter().map(|ban: &&MigratedBan| ban.who.as_str()).collect());
        match super::ban::run(&argv, output) {
            // One that is not made does not keep the others from being made.
            Err(OutputError::Failed(text)) => output.problem(&text),
            Err(OutputError::Told) => output.problems = output.problems.max(1),
            other => other?,
        }
    }
    Ok(())
}

fn alike(one: &MigratedBan, other: &MigratedBan) -> bool {
    (minutes(one.left), &one.ports, &one.reason) == (minutes(other.left), &other.ports, &other.reason)
}

/// The time that is left in minutes, rounded up; `None` is for ever.
fn minutes(seconds: u64) -> Option<u64> {
    Some(seconds.div_ceil(60)).filter(|minutes| *minutes < u64::from(u32::MAX) / 60)
}

fn last_words(found: &Migration, output: &mut Output<'_>) -> Result<(), OutputError> {
    if found.files.iter().any(|(path, _)| path.ends_with(".rules")) {
        writeln!(output.out, "try the rules: mef check; mef load --confirm 60s")?;
    }
    writeln!(output.out, "look at it: mef check; start it: mef setup")?;
    writeln!(output.out, "then stop the other program: {}", found.stop)?;
    writeln!(output.out, "to go back: mef setup --remove; {}", found.back)?;
    Ok(())
}
