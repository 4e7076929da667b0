#![forbid(unsafe_code)]
//! Does what was planned, in order. What cannot be done ends it, and what is left is named.

use super::{SetupJob, wait};
use crate::applet::output::{Output, OutputError};
use crate::setup::SetupStep;
use crate::sys::child::ChildExit;
use std::fmt::Display;
use std::io;

/// Every step. What will be written is noted before, and what was written afterwards: wherever this is cut
/// off, the next run knows which files are ours.
pub(super) fn execute(
    job: &mut SetupJob,
    steps: &[SetupStep],
    output: &mut Output<'_>,
) -> Result<(), OutputError> {
    // Nobody has to read this: that is no reason to stop half-way.
    let _ = writeln!(output.out, "done:");
    let mut intended = job.manifest.clone();
    steps.iter().for_each(|step| step.intend(&mut intended));
    // Until all of it is done, the former init system is the one that has files here.
    if intended.init.is_empty() {
        job.init.name().clone_into(&mut intended.init);
    }
    if let Err(e) = intended.write(&job.root) {
        return Err(stopped(&LIST, &e, steps.iter(), output));
    }
    run(job, steps, &[], output)?;
    job.init.name().clone_into(&mut job.manifest.init);
    // What was removed before this was cut off the last time.
    job.manifest.files.retain(|(path, _)| job.root.has(path));
    job.manifest.write(&job.root).map_err(|e| OutputError::Failed(format!("not done: {LIST}: {e}")))
}

/// What is written beside the steps.
pub(super) const LIST: &str = "the list of what was written";
/// What helps then.
pub(super) const AGAIN: &str = "fix that and run it again: it continues where it stopped";

/// Does steps; `later` come after them. That nobody reads what is told is no reason to stop half-way.
pub(super) fn run(
    job: &mut SetupJob,
    steps: &[SetupStep],
    later: &[SetupStep],
    output: &mut Output<'_>,
) -> Result<(), OutputError> {
    let mut left = steps.iter();
    while let Some(step) = left.next() {
        match step.run(&job.root, &mut job.manifest) {
            Ok(()) if step.changes() => {
                let _ = writeln!(output.out, "  {step}");
            }
            Ok(()) => {}
            Err(e) => return Err(stopped(step, &e, left.chain(later), output)),
        }
    }
    Ok(())
}

/// Says what was not done, and why.
fn stopped<'a>(
    at: &dyn Display,
    e: &io::Error,
    left: impl Iterator<Item = &'a SetupStep>,
    output: &mut Output<'_>,
) -> OutputError {
    output.problem(&format_args!("not done: {at}: {e}"));
    for step in left.filter(|step| step.changes()) {
        output.problem(&format_args!("not done: {step}"));
    }
    OutputError::Failed(AGAIN.into())
}

/// Runs commands of the init system; what fails is told, and the next one is run all the same.
pub(super) fn run_all(commands: &[Vec<String>], output: &mut Output<'_>) {
    for argv in commands {
        let _ = output.out.flush();
        match wait(argv) {
            Ok(ChildExit::Status(0)) => {
                let _ = writeln!(output.out, "  run      {}", argv.join(" "));
            }
            Ok(end) => output.problem(&format_args!("{}: {end}", argv.join(" "))),
            Err(e) => output.problem(&format_args!("{}: {e}", argv.join(" "))),
        }
    }
}
