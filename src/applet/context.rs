#![forbid(unsafe_code)]
//! What a command works with: the configuration, and the daemon if one runs.

use super::output::{Output, OutputError, failed};
use crate::base::diag::Severity;
use crate::base::range::Range;
use crate::config::Settings;
use crate::control::client::ControlClient;
use crate::control::proto::{CHANGES, Request};
use crate::state::journal::BanJournal;
use crate::sys::fs;
use std::io;
use std::path::Path;

/// Reads mef.conf alone, for commands that must work whatever stands in it.
pub(super) fn settings(path: Option<&str>, output: &mut Output<'_>) -> Settings {
    let settings = read_settings(path, output);
    crate::firewall::choose(settings.firewall_backend.into());
    settings
}

fn read_settings(path: Option<&str>, output: &mut Output<'_>) -> Settings {
    let file = path.unwrap_or(crate::config::DEFAULT_PATH);
    match fs::content(Path::new(file)) {
        Ok(text) => {
            let (settings, problems) = crate::config::parse_global(&text);
            let bad = problems.iter().filter(|p| p.severity == Severity::Error).count();
            if bad > 0 {
                output.note(&format_args!(
                    "{file} has errors, see `mef check`; wrong keys have their defaults"
                ));
            }
            settings
        }
        Err(e) => {
            if path.is_some() || e.kind() != io::ErrorKind::NotFound {
                output.note(&format_args!("{file}: {e}; using the defaults"));
            }
            Settings::default()
        }
    }
}

/// The ban journal, to read what it tells; `None` where there is none yet, and none is made.
pub(super) fn journal_to_read(settings: &Settings) -> Result<Option<BanJournal>, OutputError> {
    let dir = Path::new(&settings.state_dir);
    if !dir.join(BanJournal::FILE).exists() {
        return Ok(None);
    }
    BanJournal::view(dir).map(Some).map_err(failed)
}

/// Likewise, for a command that has most of what it shows from elsewhere: that it cannot be read is told.
pub(super) fn journal_if_any(settings: &Settings, output: &mut Output<'_>) -> Option<BanJournal> {
    journal_to_read(settings).unwrap_or_else(|e| {
        if let OutputError::Failed(why) = e {
            output.note(&why);
        }
        None
    })
}

/// Tells the daemon something, if there is one; it does without if it does not hear.
pub(super) fn notify_daemon(run_dir: &Path, requests: &[Request<'_>]) {
    if let Ok(Some(mut daemon)) = ControlClient::connect(run_dir) {
        let _ = requests.iter().try_for_each(|request| daemon.notify(request));
    }
}

/// Tells it, for those who watch, what was done: a word of [`CHANGES`], and of whom, if of few.
pub(super) fn changed(run_dir: &Path, what: &str, addresses: &[Range]) {
    let Some(what) = CHANGES.into_iter().find(|known| *known == what) else { return };
    let of = |addr| Request::Changed { what, addr };
    let all: Vec<Request<'_>> = match addresses.len() {
        1..=LISTED_MAX => addresses.iter().map(|addr| of(Some(*addr))).collect(),
        _ => vec![of(None)],
    };
    notify_daemon(run_dir, &all);
}

/// More than these are told as a number.
pub(super) const LISTED_MAX: usize = 100;

/// The daemon, for a command that is nothing without it.
pub(super) fn needed_daemon(settings: &Settings) -> Result<ControlClient, OutputError> {
    let found = ControlClient::connect(Path::new(&settings.run_dir));
    let found = found.map_err(|e| OutputError::Failed(format!("the daemon in {}: {e}", settings.run_dir)))?;
    found.ok_or_else(|| OutputError::Failed("no daemon runs (mef daemon starts it)".into()))
}

/// The daemon, if it runs and can be reached.
pub(super) fn daemon_of(settings: &Settings, output: &mut Output<'_>) -> Option<ControlClient> {
    ControlClient::connect(Path::new(&settings.run_dir)).unwrap_or_else(|e| {
        output.note(&format_args!("{}: {e}; continuing without the daemon", settings.run_dir));
        None
    })
}
