#![forbid(unsafe_code)]
//! Opening and replacing files so that nobody who owns a directory can trick us. Knows no format.

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, open, openat, renameat};
use nix::sys::stat::{FileStat, Mode, SFlag, fchmod, fstat};
use nix::unistd::{UnlinkatFlags, fsync, unlinkat};
use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

/// Which file it is, whatever its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct FileId {
    /// Device.
    pub dev: u64,
    /// Inode, unique on its device as long as the file exists.
    pub ino: u64,
}

/// What we want to know of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Facts {
    /// Which file it is.
    pub id: FileId,
    /// Whether it is a regular file: nothing else can be followed.
    pub regular: bool,
    /// Bytes.
    pub size: u64,
    /// Last change of the content: seconds and nanoseconds since 1970.
    pub mtime: (i64, i64),
    /// Names it has; 0 when it was deleted.
    pub links: u64,
}

impl Facts {
    #[allow(clippy::useless_conversion, clippy::unnecessary_fallible_conversions)] // the widths differ by platform
    fn of(st: &FileStat) -> Facts {
        Facts {
            id: FileId { dev: st.st_dev.into(), ino: st.st_ino.into() },
            regular: SFlag::from_bits_truncate(st.st_mode) & SFlag::S_IFMT == SFlag::S_IFREG,
            size: u64::try_from(st.st_size).unwrap_or(0),
            mtime: (st.st_mtime.into(), st.st_mtime_nsec.into()),
            links: st.st_nlink.into(),
        }
    }
}

/// The facts of what `path` leads to, links followed.
///
/// # Errors
/// When it leads nowhere or may not be looked at.
pub fn facts(path: &Path) -> io::Result<Facts> {
    Ok(Facts::of(&nix::sys::stat::stat(path)?))
}

/// The facts of an open file.
///
/// # Errors
/// When the file system fails.
pub fn facts_of(file: impl AsFd) -> io::Result<Facts> {
    Ok(Facts::of(&fstat(file)?))
}

/// Whether the last component of a path may be a symbolic link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Links {
    /// Followed: log files are often links.
    Follow,
    /// Refused with ELOOP: for files that only we and root write.
    Refuse,
}

/// Opens a regular file for reading. Never blocks, never becomes our terminal, never inherited by children.
///
/// # Errors
/// As `open(2)`; `InvalidInput` for what is no regular file. A device or FIFO is not opened at all.
pub fn open_regular(path: &Path, links: Links) -> io::Result<File> {
    let not_regular = || io::Error::from(io::ErrorKind::InvalidInput);
    if links == Links::Follow && !facts(path)?.regular {
        return Err(not_regular());
    }
    let mut flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NOCTTY | OFlag::O_NONBLOCK;
    if links == Links::Refuse {
        flags |= OFlag::O_NOFOLLOW;
    }
    let file = File::from(open(path, flags, Mode::empty())?);
    // It may have been exchanged in between.
    if facts_of(&file)?.regular { Ok(file) } else { Err(not_regular()) }
}

/// Replaces `path` by a file with exactly these bytes and mode: after a crash the old or the new content is there,
/// whole. A link is replaced itself, not what it leads to.
///
/// # Errors
/// As `open`, `write`, `fsync` and `rename`; then the old file is untouched and no temporary file is left.
pub fn replace(path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    let dir = match path.parent() {
        Some(p) if !p.as_os_str().is_empty() => p,
        _ => Path::new("."),
    };
    let dir = open_dir(dir)?;
    // One fixed name: what a crash left behind is removed by the next try, and never piles up.
    let mut temp = Vec::with_capacity(name.len() + 5);
    temp.push(b'.');
    temp.extend_from_slice(name.as_bytes());
    temp.extend_from_slice(b".new");
    let done =
        write_new(&dir, &temp, content, mode).and_then(|()| Ok(renameat(&dir, temp.as_slice(), &dir, name)?));
    if done.is_err() {
        let _ = unlinkat(&dir, temp.as_slice(), UnlinkatFlags::NoRemoveDir);
        return done;
    }
    match fsync(&dir) {
        // Some file systems cannot sync a directory: then the rename is as durable as it gets.
        Ok(()) | Err(Errno::EINVAL) => Ok(()),
        Err(e) => Err(e.into()),
    }
}

fn open_dir(dir: &Path) -> io::Result<OwnedFd> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    Ok(openat(AT_FDCWD, dir, flags, Mode::empty())?)
}

fn write_new(dir: &OwnedFd, name: &[u8], content: &[u8], mode: u32) -> io::Result<()> {
    let flags = OFlag::O_WRONLY
        | OFlag::O_CREAT
        | OFlag::O_EXCL
        | OFlag::O_NOFOLLOW
        | OFlag::O_CLOEXEC
        | OFlag::O_NOCTTY;
    let private = Mode::S_IRUSR | Mode::S_IWUSR;
    let fd = match openat(dir, name, flags, private) {
        Err(Errno::EEXIST) => {
            unlinkat(dir, name, UnlinkatFlags::NoRemoveDir)?;
            openat(dir, name, flags, private)?
        }
        opened => opened?,
    };
    let mut file = File::from(fd);
    file.write_all(content)?;
    fchmod(&file, Mode::from_bits_truncate(mode))?; // whatever the umask is
    Ok(fsync(&file)?)
}

/// The names in a directory, except `.` and `..`. A directory that cannot be read has none.
pub fn each_name(dir: &Path, each: &mut dyn FnMut(&[u8])) {
    let dir = if dir.as_os_str().is_empty() { Path::new(".") } else { dir };
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK;
    let Ok(mut dir) = nix::dir::Dir::open(dir, flags, Mode::empty()) else { return };
    for entry in dir.iter().flatten() {
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            each(name);
        }
    }
}

/// Where a symbolic link leads, made absolute by the link's own directory; `None` if it is no link.
#[must_use]
pub fn link_target(path: &Path) -> Option<PathBuf> {
    let target = std::fs::read_link(path).ok()?;
    Some(path.parent().map_or_else(|| target.clone(), |dir| dir.join(&target)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{MetadataExt as _, symlink};

    fn scratch(name: &str) -> PathBuf {
        let dir = std::env::temp_dir().join(format!("mef-fs-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&dir);
        std::fs::create_dir_all(&dir).unwrap();
        dir
    }

    #[test]
    fn only_regular_files_are_opened() {
        let dir = scratch("open");
        std::fs::write(dir.join("file"), b"x").unwrap();
        symlink("file", dir.join("link")).unwrap();
        symlink("nowhere", dir.join("dangling")).unwrap();
        nix::unistd::mkfifo(&dir.join("fifo"), Mode::S_IRWXU).unwrap();
        let kind = |name: &str, links| open_regular(&dir.join(name), links).map(drop).map_err(|e| e.kind());
        use io::ErrorKind::{InvalidInput, NotFound};
        assert_eq!(kind("file", Links::Refuse), Ok(()));
        assert_eq!(kind("link", Links::Follow), Ok(()));
        assert!(kind("link", Links::Refuse).is_err());
        assert_eq!(kind("dangling", Links::Follow), Err(NotFound));
        for links in [Links::Follow, Links::Refuse] {
            assert_eq!(kind("fifo", links), Err(InvalidInput));
            assert_eq!(kind(".", links), Err(InvalidInput));
            assert_eq!(
                open_regular(Path::new("/dev/null"), links).map_err(|e| e.kind()).err(),
                Some(InvalidInput)
            );
        }
        std::fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn a_file_is_replaced_whole_or_not_at_all() {
        let dir = scratch("replace");
        let path = dir.join("state");
        replace(&path, b"one", 0o600).unwrap();
        let first = facts(&path).unwrap().id;
        std::fs::write(dir.join(".state.new"), b"left by a crash").unwrap();
        replace(&path, b"two", 0o644).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"two");
        assert_eq!(path.metadata().unwrap().mode() & 0o7777, 0o644);
        assert_ne!(facts(&path).unwrap().id, first);
        // A link at the temporary name must not be written through.
        std::fs::write(dir.join("victim"), b"mine").unwrap();
        symlink("victim", dir.join(".state.new")).unwrap();
        replace(&path, b"three", 0o600).unwrap();
        assert_eq!(std::fs::read(dir.join("victim")).unwrap(), b"mine");
        assert_eq!(std::fs::read(&path).unwrap(), b"three");
        // A target that cannot be replaced leaves nothing behind.
        std::fs::create_dir(dir.join("full")).unwrap();
        std::fs::write(dir.join("full/x"), b"").unwrap();
        assert!(replace(&dir.join("full"), b"x", 0o600).is_err());
        let mut names = Vec::new();
        each_name(&dir, &mut |n| names.push(n.to_vec()));
        names.sort();
        assert_eq!(names, [&b"full"[..], b"state", b"victim"]);
        assert!(replace(Path::new("/"), b"", 0o600).is_err());
        std::fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn links_lead_where_their_directory_says() {
        let dir = scratch("link");
        symlink("sub/file", dir.join("relative")).unwrap();
        symlink("/abs", dir.join("absolute")).unwrap();
        assert_eq!(link_target(&dir.join("relative")), Some(dir.join("sub/file")));
        assert_eq!(link_target(&dir.join("absolute")), Some(PathBuf::from("/abs")));
        assert_eq!(link_target(&dir), None);
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
