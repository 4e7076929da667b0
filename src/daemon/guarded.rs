#![forbid(unsafe_code)]
//! What is there to be read, and what of that holds secrets.

use crate::config::Settings;
use crate::input::glob::Glob;
use crate::rulefile;
use crate::sys::runner::RESOLV_CONF;
use std::path::{Path, PathBuf};

/// Directories that hold secrets beside logs: of these only what the configuration names can be read. All
/// others at the top may be, since what a reload adds to the logs is as a rule in one of them, and nothing
/// can be allowed later.
const GUARDED: [&str; 16] = [
    "/",
    "/boot",
    "/dev",
    "/etc",
    "/home",
    "/lost+found",
    "/proc",
    "/root",
    "/run",
    "/sys",
    "/var",
    "/var/backups",
    "/var/lib",
    "/var/mail",
    "/var/run",
    "/var/spool",
];
const ROOT: &str = "/";
const VAR: &str = "/var";
/// What is read by everybody who speaks to the network, or asks who this host is.
pub(super) const HOST: [&str; 4] = [RESOLV_CONF, "/etc/hosts", "/etc/machine-id", "/etc/localtime"];

/// What the configuration has read.
pub(super) fn read(
    conf: &Path,
    settings: &Settings,
    files: &mut dyn Iterator<Item = &String>,
) -> Vec<PathBuf> {
    let dirs = [&settings.rules_dir, &settings.whitelist_dir, &settings.blacklist_dir];
    let mut all: Vec<PathBuf> = dirs.into_iter().map(PathBuf::from).collect();
    // A file may be replaced by another one of its name: its directory.
    all.extend(
        [conf, Path::new(&settings.cloud.key_file)]
            .iter()
            .filter_map(|path| path.parent())
            .map(PathBuf::from),
    );
    // The rule set that is put back, and what it includes.
    all.extend(Path::new(rulefile::DEFAULT_PATH).parent().map(PathBuf::from));
    // Kept elsewhere by whoever manages it, and replaced there.
    all.extend(target(Path::new(HOST[0])).filter(|path| !is_guarded(path)));
    for glob in files.filter_map(|file| Glob::parse(file.as_bytes()).ok()) {
        all.push(glob.prefix());
        all.extend(glob.literal().and_then(|path| target(&path)).filter(|path| !is_guarded(path)));
    }
    let mut all: Vec<PathBuf> = all.into_iter().filter_map(|path| nearest(&path)).collect();
    all.retain(|path| !is_open(path));
    all.sort_unstable();
    all.dedup();
    all
}

/// The directory of what a link leads to; `None` for what is no link.
fn target(path: &Path) -> Option<PathBuf> {
    let to = std::fs::read_link(path).ok()?;
    let real = std::fs::canonicalize(path).unwrap_or_else(|_| path.with_file_name(to));
    real.parent().map(Path::to_owned)
}

/// Where the path leads, or what there is above it: it may come.
fn nearest(path: &Path) -> Option<PathBuf> {
    let there = path.ancestors().find(|path| path.exists())?;
    let real = std::fs::canonicalize(there).ok()?;
    (there == path || !is_guarded(&real)).then_some(real)
}

/// Whether what is there, a real path, can be read without being named.
fn is_open(path: &Path) -> bool {
    let top = path.ancestors().filter(|path| !is_guarded(path)).last();
    top.and_then(Path::parent).is_some_and(|above| [ROOT, VAR].iter().any(|open| Path::new(open) == above))
}

fn is_guarded(path: &Path) -> bool {
    GUARDED.iter().any(|guarded| Path::new(guarded) == path)
}

/// Calls `each` with the directories at the top and in /var that are not guarded. Links lead to others.
pub(super) fn unguarded(each: &mut dyn FnMut(&Path)) {
    for entry in [ROOT, VAR].iter().flat_map(std::fs::read_dir).flatten().flatten() {
        let path = entry.path();
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) && !is_guarded(&path) {
            each(&path);
        }
    }
}
