#![forbid(unsafe_code)]
//! What has to be done so that everything is as it should be, as data; and the doing of it.

use super::manifest::{Manifest, hash};
use super::root::{Found, Root};
use std::fmt;
use std::io;

/// One thing to do, or to leave.
#[allow(missing_docs, reason = "paths and contents")]
#[derive(Debug, PartialEq, Eq)]
pub enum SetupStep {
    /// A file gets this content; what it is now.
    Write { path: String, bytes: Vec<u8>, mode: u32, is_there: bool },
    /// The new version of a file that somebody has changed is put beside it.
    Beside { path: String, bytes: Vec<u8>, mode: u32 },
    /// A link.
    Link { path: String, target: String },
    /// A file or a link goes.
    Remove { path: String },
    /// Something stays as it is; why.
    Keep { path: String, why: &'static str },
    /// It is right already.
    Right { path: String, bytes: Vec<u8> },
}

impl SetupStep {
    /// Whether it changes anything.
    #[must_use]
    pub fn changes(&self) -> bool {
        !matches!(self, SetupStep::Keep { .. } | SetupStep::Right { .. })
    }

    /// What it is about.
    #[must_use]
    pub fn path(&self) -> &str {
        match self {
            SetupStep::Write { path, .. }
            | SetupStep::Beside { path, .. }
            | SetupStep::Link { path, .. }
            | SetupStep::Remove { path }
            | SetupStep::Keep { path, .. }
            | SetupStep::Right { path, .. } => path,
        }
    }

    /// Notes what it will write, beside what was there.
    pub fn intend(&self, manifest: &mut Manifest) {
        if let SetupStep::Write { path, bytes, .. } = self {
            manifest.intend(path, bytes);
        }
    }

    /// Does it.
    ///
    /// # Errors
    /// What the system says; then nothing of this step is done.
    pub fn run(&self, root: &Root, manifest: &mut Manifest) -> io::Result<()> {
        match self {
            SetupStep::Write { path, bytes, mode, .. } => {
                root.write(path, bytes, *mode)?;
                manifest.set(path, bytes);
            }
            SetupStep::Beside { path, bytes, mode } => root.write(&beside(path), bytes, *mode)?,
            SetupStep::Link { path, target } => root.link(path, target)?,
            SetupStep::Remove { path } => {
                root.remove(path)?;
                manifest.forget(path);
            }
            SetupStep::Right { path, bytes } => manifest.set(path, bytes),
            SetupStep::Keep { .. } => {}
        }
        Ok(())
    }
}

impl fmt::Display for SetupStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SetupStep::Write { path, is_there: false, .. } => write!(f, "write    {path}"),
            SetupStep::Write { path, .. } => write!(f, "update   {path}"),
            SetupStep::Beside { path, .. } => {
                write!(f, "keep     {path}: you changed it; the new version is {}", beside(path))
            }
            SetupStep::Link { path, target } => write!(f, "link     {path} -> {target}"),
            SetupStep::Remove { path } => write!(f, "remove   {path}"),
            SetupStep::Keep { path, why } => write!(f, "keep     {path}: {why}"),
            SetupStep::Right { path, .. } => write!(f, "as it is {path}"),
        }
    }
}

/// Where a new version is put.
#[must_use]
pub fn beside(path: &str) -> String {
    [path, ".new"].concat()
}

/// What it takes that a file has this content.
///
/// # Errors
/// The file cannot be looked at.
pub fn file(
    root: &Root,
    manifest: &Manifest,
    path: &str,
    bytes: Vec<u8>,
    mode: u32,
) -> io::Result<SetupStep> {
    let path = path.to_owned();
    Ok(match root.look(&path)? {
        Found::Nothing => SetupStep::Write { path, bytes, mode, is_there: false },
        Found::File(now) if now == bytes => SetupStep::Right { path, bytes },
        Found::File(now) if manifest.knows(&path, hash(&now)) => {
            SetupStep::Write { path, bytes, mode, is_there: true }
        }
        Found::File(_) if root.look(&beside(&path))? == Found::File(bytes.clone()) => {
            SetupStep::Keep { path, why: "you changed it; the new version is beside it already" }
        }
        Found::File(_) => SetupStep::Beside { path, bytes, mode },
        Found::Link(_) => SetupStep::Keep { path, why: "it is a link" },
        Found::Other => SetupStep::Keep { path, why: "it is not a file" },
    })
}

/// What it takes that a link leads there.
///
/// # Errors
/// It cannot be looked at.
pub fn link(root: &Root, path: String, target: String) -> io::Result<Option<SetupStep>> {
    Ok(match root.look(&path)? {
        Found::Link(now) if now.as_os_str() == target.as_str() => None,
        Found::Link(_) | Found::Nothing => Some(SetupStep::Link { path, target }),
        Found::File(_) | Found::Other => Some(SetupStep::Keep { path, why: "it is not a link" }),
    })
}

/// How much of it goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Removal {
    /// What is ours: the configuration stays, and what somebody has changed.
    Ours,
    /// All of it.
    Purge,
}

/// What it takes that a file is gone, with the version beside it. One that is not `ours`, by its number, goes
/// only when everything is to go.
///
/// # Errors
/// It cannot be looked at.
pub fn gone(
    root: &Root,
    path: &str,
    ours: &dyn Fn(u64) -> bool,
    removal: Removal,
) -> io::Result<Vec<SetupStep>> {
    let mut steps = Vec::new();
    match root.look(path)? {
        Found::Nothing => {}
        Found::File(now) if removal == Removal::Purge || ours(hash(&now)) => {
            steps.push(SetupStep::Remove { path: path.to_owned() });
        }
        _ => steps.push(SetupStep::Keep { path: path.to_owned(), why: "you changed it" }),
    }
    if matches!(root.look(&beside(path))?, Found::File(_)) {
        steps.push(SetupStep::Remove { path: beside(path) });
    }
    Ok(steps)
}
