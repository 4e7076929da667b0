//! Landlock: a process takes from itself what it will not need of the file system, for good. Raw system
//! calls, for which the C library has no functions. Knows nothing of what is needed.

use super::fs::c_path;
use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;
use std::io;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
use std::path::Path;

const CREATE_RULESET_VERSION: u32 = 1;
const RULE_PATH_BENEATH: u32 = 1;
const RULE_NET_PORT: u32 = 2;

const WRITE_FILE: u64 = 1 << 1;
const READ_FILE: u64 = 1 << 2;
const READ_DIR: u64 = 1 << 3;
const REMOVE_DIR: u64 = 1 << 4;
const REMOVE_FILE: u64 = 1 << 5;
const MAKE_DIR: u64 = 1 << 7;
const MAKE_REG: u64 = 1 << 8;
const MAKE_SOCK: u64 = 1 << 9;
const TRUNCATE: u64 = 1 << 14;
const IOCTL_DEV: u64 = 1 << 15;
/// What a rule for a single file may say.
const OF_FILES: u64 = 1 | WRITE_FILE | READ_FILE | TRUNCATE | IOCTL_DEV;
const CONNECT_TCP: u64 = 1 << 1;

/// What is allowed below a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileRights {
    /// Names of files, not what is in them.
    Names,
    /// To read files.
    Read,
    /// To write to files that there are.
    Write,
    /// To make files and append to them.
    Log,
    /// To read, write, make and remove files, sockets and directories.
    Own,
}

impl FileRights {
    fn rights(self) -> u64 {
        match self {
            FileRights::Names => READ_DIR,
            FileRights::Read => READ_DIR | READ_FILE,
            FileRights::Write => READ_FILE | WRITE_FILE,
            FileRights::Log => WRITE_FILE | MAKE_REG,
            FileRights::Own => {
                let files = READ_FILE | WRITE_FILE | TRUNCATE | MAKE_REG | REMOVE_FILE;
                files | READ_DIR | MAKE_DIR | REMOVE_DIR | MAKE_SOCK
            }
        }
    }
}

/// Restrictions of other things than files, where the kernel knows them.
#[derive(Debug, Clone, Copy)]
pub struct Beside<'a> {
    /// TCP ports that may be connected to; none may be bound.
    pub ports: &'a [u16],
    /// Sockets with abstract names, of processes that are not confined with this one, stay reachable.
    pub abstract_sockets: bool,
}

#[repr(C)]
struct Attributes {
    fs: u64,
    net: u64,
    scoped: u64,
}

#[repr(C, packed)]
struct PathBeneath {
    rights: u64,
    parent: i32,
}

#[repr(C)]
struct NetPort {
    rights: u64,
    port: u64,
}

/// What will be allowed. All that is not is refused from [`Ruleset::enforce`] on.
pub struct Ruleset {
    fd: OwnedFd,
    handled: u64,
    /// The version of the kernel's interface.
    pub version: u32,
}

impl Ruleset {
    /// Allows nothing yet.
    ///
    /// # Errors
    /// ENOSYS or EOPNOTSUPP: this kernel has no Landlock, or it is switched off.
    pub fn new(beside: Beside<'_>) -> Result<Ruleset, Errno> {
        let nothing = std::ptr::null::<Attributes>();
        // SAFETY: with this flag nothing is read.
        let version = unsafe {
            libc::syscall(libc::SYS_landlock_create_ruleset, nothing, 0usize, CREATE_RULESET_VERSION)
        };
        let version = u32::try_from(Errno::result(version)?).unwrap_or(0);
        // Execute to make-symlink; then refer, truncate, ioctl of devices.
        let handled = match version {
            0..=1 => (1 << 13) - 1,
            2 => (1 << 14) - 1,
            3..=4 => (1 << 15) - 1,
            _ => (1 << 16) - 1,
        };
        let (net, size) = if version >= 4 { (3, 16usize) } else { (0, 8) };
        // Signals to others; sockets with abstract names.
        let scopes = if beside.abstract_sockets { 2 } else { 3 };
        let (scoped, size) = if version >= 6 { (scopes, 24) } else { (0, size) };
        let attributes = Attributes { fs: handled, net, scoped };
        // SAFETY: `size` bytes are read, and no more than there are.
        let fd =
            unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, &raw const attributes, size, 0u32) };
        let fd = i32::try_from(Errno::result(fd)?).unwrap_or(-1);
        // SAFETY: the kernel has just made it, with FD_CLOEXEC, and nobody else has it.
        let this = Ruleset { fd: unsafe { OwnedFd::from_raw_fd(fd) }, handled, version };
        if version >= 4 {
            for port in beside.ports {
                let port = NetPort { rights: CONNECT_TCP, port: (*port).into() };
                this.add(RULE_NET_PORT, (&raw const port).cast())?;
            }
        }
        Ok(this)
    }

    /// Allows something below what is at `path` now, links followed; what comes there later under the same
    /// name is another matter.
    ///
    /// # Errors
    /// There is nothing, or it cannot be opened.
    pub fn allow(&self, path: &Path, what: FileRights) -> io::Result<()> {
        let parent = open(&*c_path(path)?, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty())?;
        let kind = nix::sys::stat::fstat(&parent)?.st_mode & libc::S_IFMT;
        let of_kind = if kind == libc::S_IFDIR { u64::MAX } else { OF_FILES };
        let rights = what.rights() & self.handled & of_kind;
        let rule = PathBeneath { rights, parent: parent.as_raw_fd() };
        Ok(self.add(RULE_PATH_BENEATH, (&raw const rule).cast())?)
    }

    fn add(&self, kind: u32, rule: *const libc::c_void) -> Result<(), Errno> {
        // SAFETY: both callers pass the structure that goes with the kind.
        Errno::result(unsafe {
            libc::syscall(libc::SYS_landlock_add_rule, self.fd.as_raw_fd(), kind, rule, 0u32)
        })
        .map(drop)
    }

    /// Refuses all that is not allowed to this process and all that it starts, for good.
    ///
    /// # Errors
    /// What the system says.
    pub fn enforce(self) -> Result<(), Errno> {
        // SAFETY: no memory is involved.
        Errno::result(unsafe { libc::syscall(libc::SYS_landlock_restrict_self, self.fd.as_raw_fd(), 0u32) })
            .map(drop)
    }
}
