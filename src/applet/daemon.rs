#![forbid(unsafe_code)]
//! `mef daemon`, also called as `mefdaemon`, which stays in the foreground.

use super::args::parse;
use super::output::{Output, OutputError};
use crate::config::DEFAULT_PATH;
use crate::daemon::ProcessPlace;
use argh::FromArgs;
use std::path::Path;

/// Watch the logs and ban who abuses a service.
#[derive(FromArgs)]
#[argh(
    help_triggers("-h", "--help"),
    note = "SIGHUP reads the configuration again, SIGTERM stops (bans stay), SIGUSR1 writes statistics to \
        the log.",
    example = "mef daemon\n  mef daemon --foreground --config /etc/mef/mef.conf"
)]
struct DaemonArgs {
    /// path to mef.conf
    #[argh(option, arg_name = "file", default = "DEFAULT_PATH.to_owned()")]
    config: String,
    /// stay in the foreground, for a supervisor
    #[argh(switch)]
    foreground: bool,
}

pub(super) fn run(args: &[&str], _: &mut Output<'_>) -> Result<(), OutputError> {
    let args: DaemonArgs = parse("daemon", args)?;
    let place = if args.foreground { ProcessPlace::Foreground } else { ProcessPlace::Background };
    crate::daemon::run(Path::new(&args.config), place).map_err(OutputError::Failed)
}

/// Called as `mefdaemon`.
pub(super) fn called(args: &[&str], output: &mut Output<'_>) -> Result<(), OutputError> {
    if let ["version" | "--version" | "-version" | "-v"] = args {
        return super::version::run(&[], output);
    }
    // Units that start it by this name expect it to stay.
    let stays: &[&str] = if args.contains(&"--foreground") { &[] } else { &["--foreground"] };
    run(&[stays, args].concat(), output)
}
