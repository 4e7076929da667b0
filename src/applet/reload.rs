#![forbid(unsafe_code)]
//! `mef reload`: the daemon reads its configuration again, and what is wrong with it is told here. Without a
//! daemon the lists go into the kernel.

use super::args::parse;
use super::context::daemon_of;
use super::output::{Output, OutputError};
use super::target;
use crate::base::json::Object;
use crate::config::{DEFAULT_PATH, ListKind, Settings, load};
use crate::control::client::{ControlClient, Patience};
use crate::control::proto::Request;
use crate::lists::{self, Gone, ListTurn, Paths};
use crate::sys::fs;
use crate::sys::handover::hand_over_file;
use crate::sys::user::is_root;
use argh::FromArgs;
use std::io::ErrorKind;
use std::path::Path;

/// Have the daemon read its configuration, service rules and lists again.
#[derive(FromArgs)]
#[argh(
    help_triggers("-h", "--help"),
    note = "What SIGHUP does, but errors are shown here, and then the exit status is 1 and everything stays \
        as it was.\nWithout a daemon the allow and deny lists are put into the kernel.",
    example = "mef reload"
)]
struct ReloadArgs {
    /// print a JSON object
    #[argh(switch)]
    json: bool,
    /// path to mef.conf
    #[argh(option, arg_name = "file", default = "DEFAULT_PATH.to_owned()")]
    config: String,
}

pub(super) fn run(args: &[&str], output: &mut Output<'_>) -> Result<(), OutputError> {
    let args: ReloadArgs = parse("reload", args)?;
    // What the daemon has in force says where it listens; a broken file may say something else.
    let path = Some(args.config.as_str()).filter(|path| *path != DEFAULT_PATH);
    let settings = super::context::settings(path, output);
    hand_over_log(&settings);
    let daemon = daemon_of(&settings, output);
    let has_daemon = daemon.is_some();
    let done = match daemon {
        Some(daemon) => ask(daemon, output)?,
        None => alone(Path::new(&args.config), output)?,
    };
    if args.json {
        let object = Object::new().flag("daemon", has_daemon).text("text", done.as_str());
        writeln!(output.out, "{}", object.finish())?;
    } else {
        writeln!(output.out, "{done}")?;
    }
    output.end()
}

/// After a rotation there may be none, and the daemon, whose run_dir is, may make none where it belongs.
fn hand_over_log(settings: &Settings) {
    if settings.ban_log_enabled
        && is_root()
        && let Ok(dir) = fs::facts(Path::new(&settings.run_dir))
    {
        let _ = hand_over_file(Path::new(&settings.ban_log_path), dir.owner);
    }
}

/// Has the daemon do it; what it did.
fn ask(mut daemon: ControlClient, output: &mut Output<'_>) -> Result<String, OutputError> {
    let lost = |e| OutputError::Failed(format!("the daemon: {e}"));
    daemon.notify(&Request::Reload).map_err(lost)?;
    let mut end = None;
    // It answers when it is done; whoever waits longer than usual is told for what.
    for patience in [Patience::Bounded, Patience::Work] {
        let heard = daemon.lines(patience, &mut |line| {
            let (word, text) = line.split_once(' ').unwrap_or((line, ""));
            match word {
                "line" => output.raw(&[text, "\n"].concat()),
                "failed" => end = Some(Err(OutputError::Failed(text.to_owned()))),
                "ok" => end = Some(Ok(text.to_owned())),
                _ => {}
            }
            end.is_none()
        });
        match heard {
            Err(e) if patience == Patience::Bounded && e.kind() == ErrorKind::TimedOut => {
                output.note(&format_args!("the daemon: {e}; waiting another minute"));
            }
            heard => {
                heard.map_err(lost)?;
                break;
            }
        }
    }
    end.unwrap_or_else(|| Err(OutputError::Failed("the daemon ended before it was done".into())))
}

/// Does what can be done without one.
fn alone(config: &Path, output: &mut Output<'_>) -> Result<String, OutputError> {
    let loaded = load(config, &mut crate::services::check);
    super::test::report(&loaded, output);
    if loaded.failed() {
        return Err(OutputError::Failed("the configuration has errors: nothing was changed".into()));
    }
    put_lists(&loaded.settings, output)?;
    Ok("no daemon runs: the lists are in the kernel, nobody reads the logs".to_owned())
}

fn put_lists(settings: &Settings, output: &mut Output<'_>) -> Result<(), OutputError> {
    let failed = |e: crate::ban::Failure| OutputError::Failed(e.to_string());
    let (mut enforcer, _) = target::table(settings, output)?;
    let guard = enforcer.guard();
    let paths = Paths::of(settings);
    let turn = ListTurn::within(&paths, ListKind::Allow, target::LIST_PATIENCE);
    let mut in_force = || guard.allowed_until().unwrap_or_default();
    let note: lists::ListNote<'_> = &mut |e| output.note(e);
    let mut allowed = lists::allowed(&paths, &turn, Gone::Forget, &mut in_force, note).allowed;
    guard.set_allowed(&mut allowed).map_err(failed)?;
    drop(turn);
    let turn = ListTurn::wait(&paths, ListKind::Deny);
    let job = lists::ListJob { only: None, gone: Gone::Forget, emptied: false };
    let done = lists::apply(guard, &paths, &turn, &job, &mut |e| output.note(e), &mut |_| ());
    if done.map_err(failed)?.good { Ok(()) } else { Err(OutputError::Told) }
}
