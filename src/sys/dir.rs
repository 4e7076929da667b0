//! A directory of ours: its files are opened without following links, locked, and replaced as a whole.

use super::fs::{c_path, invalid};
use nix::errno::Errno;
use nix::fcntl::{AtFlags, FcntlArg, OFlag, fcntl, openat, renameat};
use nix::sys::stat::{Mode, SFlag, fstat, fstatat};
use nix::unistd::{UnlinkatFlags, mkdir, unlinkat};
use std::fs::{File, Metadata};
use std::io::{self, Write as _};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::fs::{MetadataExt as _, fchown};
use std::path::Path;
use std::rc::Rc;

/// An open directory. It stays the same one when its path is renamed or mounted over.
pub struct Dir {
    fd: OwnedFd,
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
    /// Opens the directory at `path`, whose last part may be a link.
    ///
    /// # Errors
    /// What the system says, `ENOTDIR` for something else than a directory.
    pub fn open(path: &Path) -> io::Result<Dir> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        Ok(Dir { fd: nix::fcntl::open(&*c_path(path)?, flags, Mode::empty())? })
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
        let file = match openat(&self.fd, &*c_path(name)?, flags, Mode::S_IRUSR | Mode::S_IWUSR) {
            Err(nix::Error::ELOOP) => {
                return Err(invalid("it is a link"));
            }
            other => File::from(other?),
        };
        if !file.metadata()?.is_file() {
            return Err(invalid("it is not a regular file"));
        }
        Ok(file)
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

/// Makes a directory and what is missing above it.
fn make(path: &Path, mode: Mode) -> io::Result<()> {
    let name = &*c_path(path)?;
    let made = match (mkdir(name, mode), path.parent()) {
        (Err(Errno::ENOENT), Some(parent)) => {
            make(parent, Mode::from_bits_truncate(0o755))?;
            mkdir(name, mode)
        }
        (made, _) => made,
    };
    if made == Err(Errno::EEXIST) { Ok(()) } else { Ok(made?) }
}

/// An exclusive lock on a file against other processes (`flock`); given back when dropped.
pub struct Lock<'a> {
    file: &'a File,
}

impl Lock<'_> {
    /// Takes the lock if nobody has it.
    ///
    /// # Errors
    /// `WouldBlock` if somebody has it, else what the system says.
    pub fn take(file: &File) -> io::Result<Lock<'_>> {
        // SAFETY: the descriptor is open for as long as `file` is borrowed; flock touches no memory of ours.
        let result = unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) };
        if result == 0 { Ok(Lock { file }) } else { Err(io::Error::last_os_error()) }
    }

    /// Takes the lock, and waits for whoever has it. Only for files that nobody else but root can open.
    ///
    /// # Errors
    /// What the system says.
    pub fn wait(file: &File) -> io::Result<Lock<'_>> {
        loop {
            // SAFETY: as above.
            let result = unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX) };
            match io::Error::last_os_error() {
                _ if result == 0 => return Ok(Lock { file }),
                e if e.kind() == io::ErrorKind::Interrupted => {}
                e => return Err(e),
            }
        }
    }

    /// Keeps the lock until the file is closed.
    pub fn keep(self) {
        std::mem::forget(self);
    }
}

impl Drop for Lock<'_> {
    fn drop(&mut self) {
        // SAFETY: as above. The result is of no use: a lock that is held can be given back, and ends with the
        // process in any case.
        unsafe { libc::flock(self.file.as_raw_fd(), libc::LOCK_UN) };
    }
}

/// An exclusive lock on one byte of a file, which belongs to the open file and not to the process
/// (`F_OFD_SETLK`, Linux 3.15); given back when dropped, and when the file is closed.
pub struct ByteLock {
    file: Rc<File>,
    byte: i64,
}

impl ByteLock {
    /// Takes the lock if nobody has it. The file must be open for writing.
    ///
    /// # Errors
    /// `WouldBlock` if somebody has it, else what the system says.
    pub fn take(file: &Rc<File>, byte: i64) -> io::Result<ByteLock> {
        match fcntl(&**file, FcntlArg::F_OFD_SETLK(&lock_of(libc::F_WRLCK, byte))) {
            Err(Errno::EAGAIN | Errno::EACCES) => Err(io::ErrorKind::WouldBlock.into()),
            Err(e) => Err(e.into()),
            Ok(_) => Ok(ByteLock { file: Rc::clone(file), byte }),
        }
    }

    /// Whether somebody else has the lock; not, if the system cannot tell.
    pub fn is_taken(file: &File, byte: i64) -> bool {
        let mut lock = lock_of(libc::F_WRLCK, byte);
        fcntl(file, FcntlArg::F_OFD_GETLK(&mut lock)).is_ok() && i32::from(lock.l_type) != libc::F_UNLCK
    }
}

impl Drop for ByteLock {
    fn drop(&mut self) {
        // Of no use: a lock that is held can be given back, and ends with the process in any case.
        let _ = fcntl(&*self.file, FcntlArg::F_OFD_SETLK(&lock_of(libc::F_UNLCK, self.byte)));
    }
}

fn lock_of(kind: i32, byte: i64) -> libc::flock {
    // SAFETY: a plain C structure of numbers, for which all zeros are a value.
    let mut lock: libc::flock = unsafe { std::mem::zeroed() };
    lock.l_type = i16::try_from(kind).unwrap_or(0);
    lock.l_whence = i16::try_from(libc::SEEK_SET).unwrap_or(0);
    lock.l_start = byte;
    lock.l_len = 1;
    lock
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
