#![forbid(unsafe_code)]
//! The tree that is set up: this host's or that of an image. Links in an image lead into the image, and files
//! are replaced as a whole.

use crate::sys::dir::{Access, Dir};
use crate::sys::fs::invalid;
use std::fs::{self, DirBuilder, Permissions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

/// Links on the way to a file, as many as the kernel follows.
const LINKS_MAX: u32 = 40;
/// Name under which a new file is written.
pub const TEMPORARY: &str = ".mef-setup.new";

/// How often, and after which pause, a directory is removed in which somebody writes.
const BUSY_TRIES: u32 = 100;
const BUSY_PAUSE: Duration = Duration::from_millis(50);

/// What is at a path.
#[derive(Debug, PartialEq, Eq)]
pub enum Found {
    /// Nothing.
    Nothing,
    /// A file with this content.
    File(Vec<u8>),
    /// A link to this.
    Link(PathBuf),
    /// Something else.
    Other,
}

/// A tree.
pub struct Root(PathBuf);

impl Root {
    /// The tree below a directory.
    #[must_use]
    pub fn new(at: &Path) -> Root {
        Root(at.to_owned())
    }

    /// Whether it is that of this host, on which things run.
    #[must_use]
    pub fn is_live(&self) -> bool {
        self.0 == Path::new("/")
    }

    /// Where a path of the tree is on this host; its last part may be a link, and is not followed.
    ///
    /// # Errors
    /// More links than anybody needs, or what the system says.
    pub fn at(&self, path: &str) -> io::Result<PathBuf> {
        let path = Path::new(path);
        let mut at = self.resolve(path.parent().unwrap_or(path))?;
        at.extend(path.file_name());
        Ok(at)
    }

    /// Likewise with every link followed.
    fn resolve(&self, path: &Path) -> io::Result<PathBuf> {
        let mut left: Vec<PathBuf> = parts(path);
        let (mut at, mut links) = (self.0.clone(), 0);
        while let Some(part) = left.pop() {
            if part == Path::new("..") {
                if at != self.0 {
                    at.pop();
                }
                continue;
            }
            let next = at.join(&part);
            match fs::read_link(&next) {
                Ok(target) => {
                    links += 1;
                    if links > LINKS_MAX {
                        return Err(invalid("too many links"));
                    }
                    if target.is_absolute() {
                        at.clone_from(&self.0);
                    }
                    left.extend(parts(&target));
                }
                Err(_) => at = next,
            }
        }
        Ok(at)
    }

    /// Whether something is there, links followed.
    #[must_use]
    pub fn has(&self, path: &str) -> bool {
        self.resolve(Path::new(path)).is_ok_and(|at| at.exists())
    }

    /// The path of the tree to which the links of another one lead, if something is there.
    #[must_use]
    pub fn real(&self, path: &str) -> Option<String> {
        let at = self.resolve(Path::new(path)).ok().filter(|at| at.exists())?;
        Some(["/", &*at.strip_prefix(&self.0).ok()?.to_string_lossy()].concat())
    }

    /// What is at a path, the last link not followed.
    ///
    /// # Errors
    /// What the system says.
    pub fn look(&self, path: &str) -> io::Result<Found> {
        let at = self.at(path)?;
        let facts = match fs::symlink_metadata(&at) {
            Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
                return Ok(Found::Nothing);
            }
            facts => facts?,
        };
        match facts.file_type() {
            kind if kind.is_symlink() => Ok(Found::Link(fs::read_link(&at)?)),
            kind if kind.is_file() => Ok(Found::File(crate::sys::fs::content(&at)?)),
            _ => Ok(Found::Other),
        }
    }

    /// The text of a file, links followed; empty if there is none.
    #[must_use]
    pub fn text(&self, path: &str) -> String {
        let bytes = self.resolve(Path::new(path)).and_then(|at| crate::sys::fs::content(&at));
        String::from_utf8_lossy(&bytes.unwrap_or_default()).into_owned()
    }

    /// Names in a directory, sorted; none if there is no such directory.
    #[must_use]
    pub fn names(&self, dir: &str) -> Vec<String> {
        let mut names = Vec::new();
        if let Ok(at) = self.resolve(Path::new(dir)) {
            let each = &mut |name: &[u8]| names.push(String::from_utf8_lossy(name).into_owned());
            let _ = crate::sys::fs::each_name(&at, each);
        }
        names.sort();
        names
    }

    /// Whether two paths lead to one directory, links followed by the kernel: those of /proc lead where their
    /// text does not.
    #[must_use]
    pub fn is_one_dir(&self, path: &str, other: &str) -> bool {
        let found = |path: &str| {
            let at = self.at(path).and_then(fs::metadata).ok()?;
            Some((at.dev(), at.ino()))
        };
        found(path).is_some_and(|one| found(other) == Some(one))
    }

    /// The processes that run, those of small numbers first: the directory of each, and its name.
    pub fn processes(&self) -> impl Iterator<Item = (String, String)> + '_ {
        let mut pids: Vec<u32> = self.names("/proc").iter().filter_map(|name| name.parse().ok()).collect();
        pids.sort_unstable();
        pids.into_iter().map(|pid| {
            let dir = ["/proc/", &pid.to_string()].concat();
            let name = self.text(&[&dir, "/comm"].concat()).trim().to_owned();
            (dir, name)
        })
    }

    /// Makes this the content of a file, whose directory is made if it is missing. At any time the path has
    /// the old content or the new.
    ///
    /// # Errors
    /// What the system says; a directory that somebody else can write to.
    pub fn write(&self, path: &str, bytes: &[u8], mode: u32) -> io::Result<()> {
        let (dir, name) = self.dir_of(path)?;
        let at = Dir::open(&dir)?;
        let old = fs::symlink_metadata(dir.join(&name)).ok().filter(fs::Metadata::is_file);
        let temporary = dir.join(TEMPORARY);
        let _ = at.remove(TEMPORARY);
        let file = at.file(TEMPORARY, Access::Write)?;
        // A file of the user keeps its owner and its rights.
        let rights = old.as_ref().map_or(mode, |old| old.mode() & 0o7777 | mode & 0o111);
        let written = io::Write::write_all(&mut &file, bytes)
            .and_then(|()| match &old {
                Some(old) if (old.uid(), old.gid()) != own(&file)? => {
                    std::os::unix::fs::fchown(&file, Some(old.uid()), Some(old.gid()))
                }
                _ => Ok(()),
            })
            .and_then(|()| file.set_permissions(Permissions::from_mode(rights)))
            .and_then(|()| file.sync_all())
            .and_then(|()| at.rename(TEMPORARY, &name));
        if let Err(e) = written {
            let _ = fs::remove_file(temporary);
            return Err(e);
        }
        at.sync()
    }

    /// Makes a link, in place of one that leads elsewhere.
    ///
    /// # Errors
    /// As [`Root::write`]; something else has the name.
    pub fn link(&self, path: &str, target: &str) -> io::Result<()> {
        let (dir, name) = self.dir_of(path)?;
        let at = Dir::open(&dir)?;
        let now = fs::symlink_metadata(dir.join(&name));
        if now.is_ok_and(|facts| !facts.is_symlink()) {
            return Err(ErrorKind::AlreadyExists.into());
        }
        let _ = at.remove(TEMPORARY);
        symlink(target, dir.join(TEMPORARY))?;
        if let Err(e) = at.rename(TEMPORARY, &name) {
            let _ = at.remove(TEMPORARY);
            return Err(e);
        }
        at.sync()
    }

    /// Removes a file or a link; it is no error if there is none.
    ///
    /// # Errors
    /// What the system says.
    pub fn remove(&self, path: &str) -> io::Result<()> {
        match fs::remove_file(self.at(path)?) {
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(()),
            removed => removed,
        }
    }

    /// Removes a directory that is empty, and leaves one that is not.
    pub fn prune(&self, dir: &str) {
        let _ = self.at(dir).and_then(fs::remove_dir);
    }

    /// Removes a directory with all that is in it; what links in it lead to stays. A supervisor or its log
    /// may be writing there for a moment.
    ///
    /// # Errors
    /// What the system says.
    pub fn remove_all(&self, dir: &str) -> io::Result<()> {
        let at = self.at(dir)?;
        for _ in 0..BUSY_TRIES {
            match fs::remove_dir_all(&at) {
                Err(e) if e.kind() == ErrorKind::NotFound => return Ok(()),
                Err(e) if e.kind() == ErrorKind::DirectoryNotEmpty => std::thread::sleep(BUSY_PAUSE),
                removed => return removed,
            }
        }
        fs::remove_dir_all(&at)
    }

    /// The directory of a path, made if it is missing, and the name in it.
    fn dir_of(&self, path: &str) -> io::Result<(PathBuf, String)> {
        let path = Path::new(path);
        let dir = self.resolve(path.parent().unwrap_or(path))?;
        make(&dir)?;
        let facts = fs::metadata(&dir)?;
        let mine = own_uid()?;
        if facts.uid() != 0 && facts.uid() != mine || facts.mode() & 0o1002 == 0o002 {
            return Err(invalid("users other than root can write to its directory"));
        }
        Ok((dir, path.file_name().unwrap_or_default().to_string_lossy().into_owned()))
    }
}

/// Makes a directory and those above it that are missing, readable for everybody.
fn make(dir: &Path) -> io::Result<()> {
    if dir.is_dir() {
        return Ok(());
    }
    dir.parent().map_or(Ok(()), make)?;
    match DirBuilder::new().mode(0o755).create(dir) {
        Err(e) if e.kind() == ErrorKind::AlreadyExists => Ok(()),
        made => made.and_then(|()| fs::set_permissions(dir, Permissions::from_mode(0o755))),
    }
}

fn own(file: &fs::File) -> io::Result<(u32, u32)> {
    file.metadata().map(|facts| (facts.uid(), facts.gid()))
}

fn own_uid() -> io::Result<u32> {
    fs::metadata("/proc/self").map(|facts| facts.uid())
}

/// The names of a path, the first one last.
fn parts(path: &Path) -> Vec<PathBuf> {
    let mut parts: Vec<PathBuf> = path
        .components()
        .filter(|part| matches!(part, Component::Normal(_) | Component::ParentDir))
        .map(|part| PathBuf::from(part.as_os_str()))
        .collect();
    parts.reverse();
    parts
}
