//! A directory of ours: its files are opened without following links, locked, and replaced as a whole. It may
//! be that of another user, the daemon's: then what root makes there is that user's, too, and nothing that he
//! has put there leads root elsewhere.

use super::fs::{c_path, invalid};
pub use super::lock::{ByteLock, Lock};
use super::user::is_own;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat, renameat};
use nix::sys::stat::{Mode, SFlag, fstat, fstatat, mkdirat};
use nix::unistd::{UnlinkatFlags, unlinkat};
use std::fs::{File, Metadata};
use std::io::{self, Write as _};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::fs::{MetadataExt as _, fchown};
use std::path::{Component, Path};

/// An open directory. It stays the same one when its path is renamed or mounted over.
pub struct Dir {
    fd: OwnedFd,
    /// Files that are made here stay those of who makes them.
    keeps: bool,
}

/// How a file is opened.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Must exist.
    Read,
    /// Made (mode 0600) if missing; written at any place.
    Write,
    /// Made (mode 0600) if missing; every write goes to the end.
    Append,
}

impl Dir {
    /// Opens the directory at `path`. Links are followed in directories of root and of who opens it.
    ///
    /// # Errors
    /// What the system says, `ENOTDIR` for something else than a directory, and for a link of others.
    pub fn open(path: &Path) -> io::Result<Dir> {
        let mut parts = path.components();
        let begin = match path.is_absolute().then(|| parts.next()).flatten() {
            Some(_) => c"/",
            None => c".",
        };
        let mut fd = nix::fcntl::open(begin, DIRECTORY, Mode::empty())?;
        for part in parts.filter(|part| *part != Component::CurDir) {
            let links = if is_own(fstat(&fd)?.st_uid) { OFlag::empty() } else { OFlag::O_NOFOLLOW };
            fd = openat(&fd, &*c_path(part)?, DIRECTORY | links, Mode::empty())?;
        }
        let fd = openat(&fd, c".", OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())?;
        Ok(Dir { fd, keeps: false })
    }

    /// What is made here stays root's, whoever has the directory: for what root reads and believes.
    #[must_use]
    pub fn keep_files(mut self) -> Dir {
        self.keeps = true;
        self
    }

    /// Opens the directory at `path`, which is made with mode 0700 if missing (parents with 0755).
    ///
    /// # Errors
    /// As [`Dir::open`], and when it cannot be made.
    pub fn create(path: &Path) -> io::Result<Dir> {
        match Dir::open(path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            other => return other,
        }
        make(path, Mode::S_IRWXU)?;
        Dir::open(path)
    }

    /// Opens the regular file `name`.
    ///
    /// # Errors
    /// What the system says; `InvalidInput` for a link and anything else that is no regular file.
    pub fn file(&self, name: &str, access: Access) -> io::Result<File> {
        let how = match access {
            Access::Read => OFlag::O_RDONLY,
            Access::Write => OFlag::O_RDWR | OFlag::O_CREAT,
            Access::Append => OFlag::O_RDWR | OFlag::O_CREAT | OFlag::O_APPEND,
        };
        // Without O_NONBLOCK, opening a FIFO that somebody put there would wait for its other end.
        let flags = how | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
        let name = &*c_path(name)?;
        let open = |flags| openat(&self.fd, name, flags, Mode::S_IRUSR | Mode::S_IWUSR);
        // Whether it is made here has to be known.
        let made = match open(flags & !OFlag::O_CREAT) {
            Err(Errno::ENOENT) if flags.contains(OFlag::O_CREAT) => match open(flags | OFlag::O_EXCL) {
                // Somebody else was faster.
                Err(Errno::EEXIST) => (open(flags & !OFlag::O_CREAT), false),
                made => (made, true),
            },
            there => (there, false),
        };
        let file = match made.0 {
            Err(nix::Error::ELOOP) => {
                return Err(invalid("it is a link"));
            }
            other => File::from(other?),
        };
        let facts = file.metadata()?;
        if !facts.is_file() {
            return Err(invalid("it is not a regular file"));
        }
        let dir = fstat(&self.fd)?;
        // Whoever has the directory may have given a name in it to a file of somebody else.
        if facts.nlink() > 1 && !is_own(dir.st_uid) {
            return Err(invalid("it has another name"));
        }
        if made.1 && !self.keeps {
            give(file.as_fd(), (dir.st_uid, dir.st_gid), facts.uid());
        }
        Ok(file)
    }

    /// Whether the file `name` is root's, or of who asks: nobody else can have written to it.
    #[must_use]
    pub fn is_trusted(&self, name: &str) -> bool {
        self.file(name, Access::Read)
            .and_then(|file| file.metadata())
            .is_ok_and(|facts| is_own(facts.uid()) && facts.mode() & 0o022 == 0)
    }

    /// The directory `name` in this one; no link.
    ///
    /// # Errors
    /// What the system says.
    pub fn below(&self, name: &str) -> io::Result<Dir> {
        let fd = openat(&self.fd, &*c_path(name)?, DIRECTORY_ITSELF, Mode::empty())?;
        Ok(Dir { fd, keeps: self.keeps })
    }

    /// The directory itself.
    #[must_use]
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// Whether `name` is still the file that was opened as `file`.
    ///
    /// # Errors
    /// What the system says; a missing `name` is no error but `false`.
    pub fn holds(&self, name: &str, file: &File) -> io::Result<bool> {
        let mine = fstat(file)?;
        match fstatat(&self.fd, &*c_path(name)?, AtFlags::AT_SYMLINK_NOFOLLOW) {
            Ok(there) => Ok((there.st_dev, there.st_ino) == (mine.st_dev, mine.st_ino)),
            Err(nix::Error::ENOENT) => Ok(false),
            Err(e) => Err(e.into()),
        }
    }

    /// Gives the file `from` the name `to`, atomically, in place of a file that has it; durable after
    /// [`Dir::sync`].
    ///
    /// # Errors
    /// What the system says.
    pub fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        Ok(renameat(&self.fd, &*c_path(from)?, &self.fd, &*c_path(to)?)?)
    }

    /// Removes the file `name`.
    ///
    /// # Errors
    /// What the system says.
    pub fn remove(&self, name: &str) -> io::Result<()> {
        Ok(unlinkat(&self.fd, &*c_path(name)?, UnlinkatFlags::NoRemoveDir)?)
    }

    /// Makes renames durable.
    ///
    /// # Errors
    /// What the system says. Some file systems cannot do it for a directory (`EINVAL`): that is no error.
    pub fn sync(&self) -> io::Result<()> {
        match nix::unistd::fsync(&self.fd) {
            Err(nix::Error::EINVAL) | Ok(()) => Ok(()),
            Err(e) => Err(e.into()),
        }
    }

    /// Makes `bytes` the whole content of `name`: afterwards, also after a crash or with an error, the file
    /// has either the old content or the new. `temp` is the name under which the new one is written; two
    /// processes must not do this at once.
    ///
    /// # Errors
    /// What the system says; then `temp` is removed and `name` is as before.
    pub fn replace(&self, name: &str, temp: &str, bytes: &[u8]) -> io::Result<()> {
        self.replace_like(None, name, temp, bytes)
    }

    /// The same without waiting for the disk: who reads `name` sees all of the new content, also when this
    /// process is killed now, but a crash of the system may damage it.
    ///
    /// # Errors
    /// As [`Dir::replace`].
    pub fn replace_soon(&self, name: &str, temp: &str, bytes: &[u8]) -> io::Result<()> {
        self.swap(None, name, temp, bytes, &|_| Ok(()))
    }

    /// As [`Dir::replace`]; the file gets owner and mode of `like`.
    ///
    /// # Errors
    /// As [`Dir::replace`].
    pub fn replace_like(
        &self,
        like: Option<&Metadata>,
        name: &str,
        temp: &str,
        bytes: &[u8],
    ) -> io::Result<()> {
        self.swap(like, name, temp, bytes, &File::sync_data)?;
        self.sync()
    }

    fn swap(
        &self,
        like: Option<&Metadata>,
        name: &str,
        temp: &str,
        bytes: &[u8],
        settle: &dyn Fn(&File) -> io::Result<()>,
    ) -> io::Result<()> {
        // Anything in the way under the temporary name, a link too, is removed and not written through.
        match fstatat(&self.fd, &*c_path(temp)?, AtFlags::AT_SYMLINK_NOFOLLOW) {
            Ok(there) if there.st_mode & SFlag::S_IFMT.bits() != SFlag::S_IFDIR.bits() => {
                self.remove(temp)?
            }
            _ => {}
        }
        let mut file = self.file(temp, Access::Write)?;
        let given = like.map_or(Ok(()), |like| {
            let now = file.metadata()?;
            if (now.uid(), now.gid()) != (like.uid(), like.gid()) {
                fchown(&file, Some(like.uid()), Some(like.gid()))?;
            }
            file.set_permissions(like.permissions())
        });
        let done = given
            .and_then(|()| file.write_all(bytes))
            .and_then(|()| settle(&file))
            .and_then(|()| self.rename(temp, name));
        if done.is_err() {
            let _ = self.remove(temp);
        }
        done
    }
}

const DIRECTORY: OFlag = OFlag::O_PATH.union(OFlag::O_DIRECTORY).union(OFlag::O_CLOEXEC);

/// Makes a directory and what is missing above it.
fn make(path: &Path, mode: Mode) -> io::Result<()> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { return Ok(()) };
    let above = match Dir::open(parent) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            make(parent, Mode::from_bits_truncate(0o755))?;
            Dir::open(parent)
        }
        above => above,
    }?;
    let name = &*c_path(name)?;
    match mkdirat(&above.fd, name, mode) {
        Err(Errno::EEXIST) => return Ok(()),
        made => made?,
    }
    let facts = fstat(&above.fd)?;
    if facts.st_uid != 0 {
        let made = openat(&above.fd, name, DIRECTORY_ITSELF, Mode::empty())?;
        give(made.as_fd(), (facts.st_uid, facts.st_gid), fstat(&made)?.st_uid);
    }
    Ok(())
}

const DIRECTORY_ITSELF: OFlag =
    OFlag::O_RDONLY.union(OFlag::O_DIRECTORY).union(OFlag::O_NOFOLLOW).union(OFlag::O_CLOEXEC);

/// Gives what was just made to who has the directory in which it is. Only root can, and only root makes
/// something in the directory of another.
fn give(fd: BorrowedFd<'_>, (user, group): (u32, u32), owner: u32) {
    if owner != user {
        let _ = fchown(fd, Some(user), Some(group));
    }
}

#[cfg(test)]
pub(crate) mod testing {
    //! Directories for tests, gone afterwards.

    use std::path::{Path, PathBuf};
    use std::sync::atomic::{AtomicU32, Ordering};

    /// A fresh directory.
    pub(crate) struct ScratchDir(PathBuf);

    impl ScratchDir {
        pub(crate) fn new() -> ScratchDir {
            static NEXT: AtomicU32 = AtomicU32::new(0);
            let name = format!("mef-test-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
            // In memory where possible: tests that sync hundreds of times should not wear a disk.
            let memory = Path::new("/dev/shm");
            let base = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
            let path = base.join(name);
            std::fs::create_dir(&path).unwrap();
            ScratchDir(path)
        }

        pub(crate) fn path(&self) -> &Path {
            &self.0
        }
    }

    impl Drop for ScratchDir {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::testing::ScratchDir;
    use super::*;
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    #[test]
    fn a_missing_directory_is_made_for_root_only() {
        let scratch = ScratchDir::new();
        let path = scratch.path().join("a/b/c");
        Dir::create(&path).unwrap().replace("x", "x.tmp", b"1").unwrap();
        let mode = |p: &Path| std::fs::metadata(p).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&path), mode(&path.join("x"))), (0o700, 0o600));
        assert_eq!(mode(path.parent().unwrap()), 0o755);
        assert!(Dir::create(&path.join("x")).is_err(), "a file is no directory");
    }

    #[test]
    fn links_and_other_things_are_not_opened() {
        let scratch = ScratchDir::new();
        let dir = Dir::open(scratch.path()).unwrap();
        std::fs::write(scratch.path().join("target"), "precious").unwrap();
        symlink("target", scratch.path().join("link")).unwrap();
        nix::unistd::mkfifo(&scratch.path().join("fifo"), Mode::S_IRWXU).unwrap();
        std::fs::create_dir(scratch.path().join("dir")).unwrap();
        for (name, access) in
            ["link", "fifo", "dir"].iter().flat_map(|n| [(n, Access::Append), (n, Access::Read)])
        {
            assert!(dir.file(name, access).is_err(), "{name}");
        }
        symlink("target", scratch.path().join("x.tmp")).unwrap();
        dir.replace("x", "x.tmp", b"new").unwrap();
        assert_eq!(std::fs::read(scratch.path().join("target")).unwrap(), b"precious");
        assert_eq!(std::fs::read(scratch.path().join("x")).unwrap(), b"new");
        assert!(dir.replace("dir", "d.tmp", b"new").is_err());
        assert!(!scratch.path().join("d.tmp").exists(), "a failed replacement leaves nothing behind");
    }

    #[test]
    fn a_lock_keeps_others_out_until_it_is_dropped() {
        let scratch = ScratchDir::new();
        let dir = Dir::open(scratch.path()).unwrap();
        let (one, two) = (dir.file("x", Access::Append).unwrap(), dir.file("x", Access::Append).unwrap());
        let lock = Lock::take(&one).unwrap();
        assert_eq!(Lock::take(&two).err().unwrap().kind(), io::ErrorKind::WouldBlock);
        drop(lock);
        assert!(Lock::take(&two).is_ok());
        assert!(dir.holds("x", &one).unwrap());
        dir.rename("x", "y").unwrap();
        assert!(!dir.holds("x", &one).unwrap());
    }
}
