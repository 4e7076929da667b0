#![forbid(unsafe_code)]
//! From one init system to another: what the former one was set up with goes, and its daemon ends before the
//! new one starts.

use super::{SetupJob, cannot, take_away, wait_unheard};
use crate::applet::output::{Output, OutputError};
use crate::setup::{self, DaemonChange, Init, SetupStep};

/// The init system that it was set up for before, if that was another one.
pub(super) struct Switch(Option<Init>);

impl Switch {
    /// Adds the steps for what the former one had.
    pub(super) fn from(job: &SetupJob, steps: &mut Vec<SetupStep>) -> Result<Switch, OutputError> {
        let former = Init::named(&job.manifest.init).filter(|former| *former != job.init);
        if let Some(former) = former {
            let replaced = setup::replaced(&job.root, (former, job.init), &job.manifest);
            for step in replaced.map_err(|trouble| cannot(&trouble))? {
                if !steps.contains(&step) {
                    steps.push(step);
                }
            }
        }
        Ok(Switch(former))
    }

    pub(super) fn is_one(&self) -> bool {
        self.0.is_some()
    }

    /// Says in the plan that the daemon that runs is ended.
    pub(super) fn tell(&self, output: &mut Output<'_>) -> Result<(), OutputError> {
        if let Some(former) = self.0 {
            writeln!(output.out, "  end      the daemon that {} started", former.name())?;
        }
        Ok(())
    }

    /// When the files are as they should be: ends its daemon, if a new one is to start, and removes its
    /// directories.
    pub(super) fn finish(
        &self,
        job: &SetupJob,
        steps: &[SetupStep],
        starts: bool,
    ) -> Result<(), OutputError> {
        let Some(former) = self.0 else { return take_away::tidy(&job.root, job.init, steps) };
        if job.root.is_live() && starts {
            // Where that init system does not run any more nothing supervises it, and these commands fail.
            for now in [DaemonChange::Stop, DaemonChange::Gone] {
                for argv in setup::commands(former, &job.root, now) {
                    let _ = wait_unheard(&argv);
                }
            }
            take_away::end(&job.settings())?;
        }
        take_away::tidy(&job.root, former, steps)
    }
}
