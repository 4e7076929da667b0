#![forbid(unsafe_code)]
//! Opening files so that nobody who owns a directory can trick us. Knows no format.

use super::busy;
use crate::base::user::is_person;
use nix::fcntl::{self, OFlag};
use nix::sys::stat::{FileStat, Mode, SFlag, fstat};
use nix::sys::statfs::{self, FsType, fstatfs};
use std::ffi::CString;
use std::fmt;
use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::{AsFd, AsRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

/// An error that the system does not have, in words of our own.
#[derive(Debug)]
struct ErrorText(&'static str);

impl fmt::Display for ErrorText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for ErrorText {}

/// `InvalidInput` in these words.
#[must_use]
pub fn invalid(what: &'static str) -> io::Error {
    // Not the text itself: std would bring along how to show any text to programmers, with tables of Unicode.
    io::Error::new(io::ErrorKind::InvalidInput, ErrorText(what))
}

/// A path as system calls take it. nix does this as well, but by code of its own for each call.
pub(super) fn c_path(path: impl AsRef<Path>) -> io::Result<CString> {
    Ok(CString::new(path.as_ref().as_os_str().as_bytes())?)
}

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
pub struct FileFacts {
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
    /// User whose file it is.
    pub owner: u32,
    /// Group, of which `mode` says what it may.
    pub group: u32,
    /// Rights.
    pub mode: u32,
}

impl FileFacts {
    // The widths differ by platform.
    #[allow(clippy::useless_conversion, clippy::unnecessary_fallible_conversions)]
    fn of(st: &FileStat) -> FileFacts {
        FileFacts {
            id: FileId { dev: st.st_dev.into(), ino: st.st_ino.into() },
            regular: SFlag::from_bits_truncate(st.st_mode) & SFlag::S_IFMT == SFlag::S_IFREG,
            size: u64::try_from(st.st_size).unwrap_or(0),
            mtime: (st.st_mtime.into(), st.st_mtime_nsec.into()),
            links: st.st_nlink.into(),
            owner: st.st_uid,
            group: st.st_gid,
            mode: st.st_mode,
        }
    }

    /// Whether only root and the service `owner`, by itself or by a group of the system, can write to it. The
    /// group `users` is one of people.
    #[must_use]
    pub fn is_private(&self, owner: u32) -> bool {
        const USERS: u32 = 100;
        let service = !is_person(owner) && (self.owner == owner || self.owner == 0);
        let group = self.mode & 0o020 == 0 || self.group != USERS && !is_person(self.group);
        service && group && self.mode & 0o002 == 0
    }
}

/// The facts of what `path` leads to, links followed.
///
/// # Errors
/// When it leads nowhere or may not be looked at.
pub fn facts(path: &Path) -> io::Result<FileFacts> {
    // A disk may be slow, and there may be many of them.
    busy::tell();
    Ok(FileFacts::of(&nix::sys::stat::stat(&*c_path(path)?)?))
}

/// The facts of an open file.
///
/// # Errors
/// When the file system fails.
pub fn facts_of(file: impl AsFd) -> io::Result<FileFacts> {
    Ok(FileFacts::of(&fstat(file)?))
}

/// Whether the last component of a path may be a symbolic link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Links {
    /// Followed: log files are often links.
    Follow,
    /// Refused with ELOOP: for files that only we and root write.
    Refuse,
}

/// File systems in which the kernel, or a program that stands for one, answers: what is read there may be
/// used up by it.
const OF_KERNEL: [FsType; 8] = [
    statfs::PROC_SUPER_MAGIC,
    statfs::SYSFS_MAGIC,
    statfs::DEBUGFS_MAGIC,
    statfs::TRACEFS_MAGIC,
    statfs::SECURITYFS_MAGIC,
    statfs::CGROUP_SUPER_MAGIC,
    statfs::CGROUP2_SUPER_MAGIC,
    statfs::BPF_FS_MAGIC,
];

/// The facts of an open file that may be read as one.
fn readable(file: impl AsFd) -> io::Result<FileFacts> {
    let facts = facts_of(&file)?;
    if !facts.regular {
        return Err(invalid("not a regular file"));
    }
    if OF_KERNEL.contains(&fstatfs(file)?.filesystem_type()) {
        return Err(io::Error::new(
            io::ErrorKind::Unsupported,
            ErrorText("a file of the kernel, in proc or sysfs"),
        ));
    }
    Ok(facts)
}

/// Whether the file system of a file has no room for more.
pub fn is_full(file: impl AsFd) -> bool {
    fstatfs(file).is_ok_and(|facts| facts.blocks() > 0 && facts.blocks_available() == 0)
}

/// Opens a regular file for reading. Never blocks, never becomes our terminal, never inherited by children.
///
/// # Errors
/// As `open(2)`; `InvalidInput` for what is not a regular file, `Unsupported` for files of the kernel. None
/// of these is opened at all: it is first seen what the path leads to, and then just that is opened.
pub fn open_regular(path: &Path, links: Links) -> io::Result<File> {
    busy::tell();
    let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NOCTTY | OFlag::O_NONBLOCK;
    let at =
        |path: &Path, more| Ok::<_, io::Error>(fcntl::open(&*c_path(path)?, flags | more, Mode::empty())?);
    if links == Links::Refuse {
        let file = at(path, OFlag::O_NOFOLLOW)?;
        return readable(&file).map(|_| file.into());
    }
    let found = at(path, OFlag::O_PATH)?;
    let id = readable(&found)?.id;
    let same = PathBuf::from(format!("/proc/self/fd/{}", found.as_raw_fd()));
    let file = match at(&same, OFlag::empty()) {
        // Without /proc. It may be exchanged in between.
        Err(e) if e.kind() == io::ErrorKind::NotFound => at(path, OFlag::empty())?,
        opened => opened?,
    };
    if readable(&file)?.id == id { Ok(file.into()) } else { Err(invalid("not a regular file")) }
}

/// Opens whatever the path leads to for reading.
///
/// # Errors
/// As `open(2)`.
pub fn open(path: &Path) -> io::Result<File> {
    // Not by std: its ways of opening bring along texts about options that do not go together.
    Ok(File::from(fcntl::open(&*c_path(path)?, OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty())?))
}

/// `/dev/null` for reading and writing.
///
/// # Errors
/// When there is none.
pub(super) fn null() -> nix::Result<OwnedFd> {
    fcntl::open(c"/dev/null", OFlag::O_RDWR | OFlag::O_CLOEXEC, Mode::empty())
}

/// Opens a device or a pipe for reading that never blocks.
///
/// # Errors
/// As `open(2)`.
pub fn open_stream(path: &Path) -> io::Result<File> {
    let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NOCTTY | OFlag::O_NONBLOCK;
    Ok(File::from(fcntl::open(&*c_path(path)?, flags, Mode::empty())?))
}

/// A file in `dir` that has no name, for reading and writing: it ends with who has it open.
///
/// # Errors
/// As `open(2)`.
pub fn unnamed(dir: &Path) -> io::Result<File> {
    let own = OFlag::O_RDWR | OFlag::O_CLOEXEC;
    let mode = Mode::S_IRUSR | Mode::S_IWUSR;
    if let Ok(file) = fcntl::open(&*c_path(dir)?, own | OFlag::O_TMPFILE, mode) {
        return Ok(file.into());
    }
    // Older kernels, and file systems that cannot do it.
    let path = c_path(dir.join([".mef-", &std::process::id().to_string()].concat()))?;
    let file = fcntl::open(&*path, own | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW, mode)?;
    nix::unistd::unlink(&*path)?;
    Ok(file.into())
}

/// What an open file still holds, at most `max` bytes.
///
/// # Errors
/// When reading fails.
pub fn read(file: File, max: u64) -> io::Result<Vec<u8>> {
    // For files that do not say their size, as those of /proc.
    const UNSIZED: usize = 2000;
    // As much as the file says it has: growing by steps would take twice that. The one byte more finds its
    // end.
    let size = usize::try_from(facts_of(&file)?.size.min(max)).unwrap_or(0);
    let mut bytes = Vec::with_capacity(if size > 0 { size + 1 } else { UNSIZED });
    file.take(max).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The content of a file.
///
/// # Errors
/// When it cannot be opened or read.
pub fn content(path: &Path) -> io::Result<Vec<u8>> {
    read(open(path)?, u64::MAX)
}

/// The names in a directory, except `.` and `..`.
///
/// # Errors
/// When it cannot be opened or read to its end.
pub fn each_name(dir: &Path, each: &mut dyn FnMut(&[u8])) -> io::Result<()> {
    let dir = if dir.as_os_str().is_empty() { Path::new(".") } else { dir };
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK;
    let mut dir = nix::dir::Dir::open(&*c_path(dir)?, flags, Mode::empty())?;
    for entry in dir.iter() {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            each(name);
        }
    }
    Ok(())
}

/// The path from the root on, without empty parts and `.`. Links and `..` stay as they are.
///
/// # Errors
/// When the working directory is gone.
pub fn absolute(path: &Path) -> io::Result<PathBuf> {
    let from = if path.is_absolute() { PathBuf::new() } else { std::env::current_dir()? };
    Ok(from.join(path).components().collect())
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
    use std::os::unix::fs::symlink;

    #[test]
    fn paths_are_made_absolute_as_std_does_it() {
        for path in ["/etc/mef", "/etc//mef/./x/", "x", "./x/../y", "a/./b//c", "..", "/"] {
            let (ours, std) = (absolute(Path::new(path)).unwrap(), std::path::absolute(path).unwrap());
            assert_eq!(ours.as_os_str(), Path::new(&std).components().as_path().as_os_str(), "{path}");
        }
    }

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
