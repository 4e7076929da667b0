#![forbid(unsafe_code)]
//! Takes away what was set up.

use super::execute::{AGAIN, LIST, run as run_steps, run_all};
use super::{SetupJob, cannot, pid, plan};
use crate::applet::output::{Output, OutputError};
use crate::config::{Settings, is_ours};
use crate::enforce::options;
use crate::firewall::{self, loader};
use crate::setup::{self, DaemonChange, Init, NAMES, Removal, Root, SetupStep};
use crate::sys::process;
use std::time::Duration;

/// Between two looks whether the daemon has ended.
pub(super) const STEP: Duration = Duration::from_millis(20);
/// Longest wait for that, in steps.
pub(super) const STEPS_MAX: u32 = 1000;
const CONFIGURATION: &str = "/etc/mef";

pub(super) fn run(mut job: SetupJob, removal: Removal, output: &mut Output<'_>) -> Result<(), OutputError> {
    let removed = setup::remove(&job.root, job.init, &job.manifest, removal);
    let (starts, mut files) = removed.map_err(|trouble| cannot(&trouble))?;
    let settings = job.settings();
    let mut trees = Vec::new();
    if removal == Removal::Purge {
        for dir in [&settings.state_dir, &settings.run_dir] {
            if is_ours(dir) {
                trees.push(dir.clone());
            } else {
                files.push(SetupStep::Keep { path: dir.clone(), why: "it may hold more than ours" });
            }
        }
        logs(&job.root, &settings, &mut trees, &mut files);
        // The last one: the list of what was written is in it.
        trees.push(CONFIGURATION.to_owned());
        files.extend(setup::account::gone(&job.root).map_err(|trouble| cannot(&trouble))?);
        // The program, if it was put there.
        let programs = job.manifest.files.iter().filter(|(path, _)| path.ends_with("bin/mef"));
        files.extend(programs.map(|(path, _)| SetupStep::Remove { path: path.clone() }));
    }
    let commands = if job.root.is_live() {
        setup::commands(job.init, &job.root, DaemonChange::Stop)
    } else {
        Vec::new()
    };
    plan(&[], &commands, output)?;
    show(&job, removal, &mut starts.iter().chain(&files), &trees, output)?;
    if job.dry_run {
        writeln!(output.out, "nothing was changed")?;
        return Ok(());
    }
    // Without anything that starts it, nothing of the init system is ours.
    let started = job.root.is_live() && !starts.is_empty();
    if started {
        run_all(&commands, output);
    }
    run_steps(&mut job, &starts, &files, output)?;
    if started {
        run_all(&setup::commands(job.init, &job.root, DaemonChange::Gone), output);
    }
    if job.root.is_live() {
        end(&settings)?;
    }
    run_steps(&mut job, &files, &[], output)?;
    let steps: Vec<SetupStep> = starts.into_iter().chain(files).collect();
    tidy(&job.root, job.init, &steps)?;
    if removal == Removal::Purge {
        if job.root.is_live() {
            tables(&settings, output);
        }
        remove_trees(&job.root, &trees, output)?;
    } else {
        job.manifest.files.retain(|(path, _)| path.starts_with(CONFIGURATION));
        job.manifest.write(&job.root).map_err(|e| OutputError::Failed(format!("not done: {LIST}: {e}")))?;
    }
    tell_what_stays(&job.root, removal, output)
}

/// Says what goes.
fn show(
    job: &SetupJob,
    removal: Removal,
    steps: &mut dyn Iterator<Item = &SetupStep>,
    trees: &[String],
    output: &mut Output<'_>,
) -> Result<(), OutputError> {
    for step in steps {
        writeln!(output.out, "  {step}")?;
    }
    for tree in trees.iter().filter(|tree| job.root.has(tree)) {
        writeln!(output.out, "  remove   {tree} with all that is in it")?;
    }
    if removal == Removal::Purge && job.root.is_live() {
        writeln!(output.out, "  remove   the rule set and the table of bans from the kernel")?;
    }
    Ok(())
}

/// Directories with all that is in them. What cannot be removed ends it, and what is left is named.
fn remove_trees(root: &Root, trees: &[String], output: &mut Output<'_>) -> Result<(), OutputError> {
    let mut left = trees.iter();
    while let Some(tree) = left.next() {
        if let Err(e) = root.remove_all(tree) {
            output.problem(&format_args!("not done: remove   {tree}: {e}"));
            for tree in left.filter(|tree| root.has(tree)) {
                output.problem(&format_args!("not done: remove   {tree}"));
            }
            return Err(OutputError::Failed(AGAIN.into()));
        }
    }
    Ok(())
}

/// The logs: of a supervisor, and of bans, with what logrotate has made of it.
fn logs(root: &Root, settings: &Settings, trees: &mut Vec<String>, files: &mut Vec<SetupStep>) {
    trees.push("/var/log/mef".to_owned());
    let Some((dir, name)) = settings.ban_log_path.rsplit_once('/').filter(|(_, name)| is_ours(name)) else {
        return;
    };
    let ours = root.names(dir).into_iter().filter(|other| {
        other.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '-']))
    });
    files.extend(ours.map(|file| SetupStep::Remove { path: [dir, "/", &file].concat() }));
}

/// Removes the directories of an init system, and those of others from which something was removed; but for
/// those in which something stays.
pub(super) fn tidy(root: &Root, init: Init, steps: &[SetupStep]) -> Result<(), OutputError> {
    let below = |path: &str, dir: &str| path.strip_prefix(dir).is_some_and(|rest| rest.starts_with('/'));
    let removed =
        |dir: &str| steps.iter().any(|step| matches!(step, SetupStep::Remove { path } if below(path, dir)));
    let stays = |dir: &str| {
        steps.iter().any(|step| !matches!(step, SetupStep::Remove { .. }) && below(step.path(), dir))
    };
    for (_, other) in NAMES {
        let dirs = setup::dirs(other);
        if other != init && !dirs.iter().any(|dir| removed(dir)) {
            continue;
        }
        if let Some(tree) = setup::supervised(other).filter(|tree| !stays(tree)) {
            root.remove_all(tree).map_err(|e| OutputError::Failed(format!("{tree}: {e}")))?;
        }
        dirs.iter().for_each(|dir| root.prune(dir));
    }
    Ok(())
}

/// Ends a daemon that nobody else has ended, and waits for it.
pub(super) fn end(settings: &Settings) -> Result<(), OutputError> {
    for step in 0..STEPS_MAX {
        let Some(pid) = pid(settings) else { return Ok(()) };
        if step == 0 {
            process::ask_to_end(&pid);
        }
        std::thread::sleep(STEP);
    }
    Err(OutputError::Failed("the daemon does not stop: its files stay".into()))
}

/// Takes the tables out of the kernel.
fn tables(settings: &Settings, output: &mut Output<'_>) {
    firewall::choose(settings.firewall_backend.into());
    if let Err(e) = loader::unload() {
        output.problem(&e);
    }
    if let Err(e) = firewall::remove(options(settings)) {
        output.problem(&e);
    }
}

fn tell_what_stays(root: &Root, removal: Removal, output: &mut Output<'_>) -> Result<(), OutputError> {
    if let Some((program, _)) = setup::program(root, None) {
        writeln!(output.out, "the program stays: rm {program}")?;
    }
    if removal == Removal::Ours {
        writeln!(output.out, "bans stay in force until they end; configuration and bans go with --purge")?;
    }
    output.end()
}
