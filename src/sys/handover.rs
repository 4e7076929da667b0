#![forbid(unsafe_code)]
//! Directories of ours change hands: from root to the user as whom the daemon runs, or back. Whoever had them
//! may have put anything there; of that nothing leads out of them.

use super::child::Identity;
use super::dir::Dir;
use super::fs;
use nix::fcntl::{AtFlags, OFlag, open, openat};
use nix::sys::stat::{Mode, SFlag, fstat};
use nix::unistd::fchownat;
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::fchown;
use std::path::{Path, PathBuf};

/// Directories in each other.
const DEPTH: u32 = 8;

/// Gives a directory of ours with all that is in it to somebody: the files and directories of who had it, and
/// those of root, but for the files that are `kept` for root. The directory comes last: until then it is done
/// again.
///
/// # Errors
/// What the system says.
pub fn hand_over(dir: &Path, to: Identity, kept: &[&str]) -> io::Result<()> {
    match try_hand_over(dir, to, kept) {
        // Nobody writes there.
        Err(e) if e.kind() == io::ErrorKind::ReadOnlyFilesystem => Ok(()),
        done => done,
    }
}

fn try_hand_over(dir: &Path, to: Identity, kept: &[&str]) -> io::Result<()> {
    let dir = Dir::create(dir)?;
    let had = fstat(dir.fd())?.st_uid;
    // A file of root that was linked to from a directory of others, and lost its other name since, must not
    // be given away: where that is possible, only what has been given is.
    let links = fs::content(Path::new("/proc/sys/fs/protected_hardlinks"));
    let safe = had == 0 || links.is_ok_and(|text| text.starts_with(b"1"));
    let theirs = &|owner: u32| owner != to.user && (owner == had || owner == 0 && safe);
    give_below(&dir, to, theirs, kept, DEPTH)?;
    if had != to.user {
        fchown(dir.fd(), Some(to.user), Some(to.group))?;
    }
    Ok(())
}

fn give_below(
    dir: &Dir,
    to: Identity,
    theirs: &dyn Fn(u32) -> bool,
    kept: &[&str],
    depth: u32,
) -> io::Result<()> {
    let mut names = Vec::new();
    let path = PathBuf::from(["/proc/self/fd/", &dir.fd().as_raw_fd().to_string()].concat());
    fs::each_name(&path, &mut |name| names.extend(std::str::from_utf8(name).map(str::to_owned)))?;
    for name in names.iter().filter(|name| !kept.contains(&name.as_str())) {
        let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let Ok(there) = openat(dir.fd(), name.as_str(), flags, Mode::empty()) else { continue };
        let facts = fstat(&there)?;
        match SFlag::from_bits_truncate(facts.st_mode) & SFlag::S_IFMT {
            SFlag::S_IFREG | SFlag::S_IFSOCK if facts.st_nlink == 1 => {}
            SFlag::S_IFDIR if depth > 0 => {
                let Ok(below) = dir.below(name) else { continue };
                give_below(&below, to, theirs, &[], depth - 1)?;
            }
            _ => continue,
        }
        if theirs(facts.st_uid) {
            let (user, group) = (to.user.into(), to.group.into());
            fchownat(&there, c"", Some(user), Some(group), AtFlags::AT_EMPTY_PATH)?;
        }
    }
    Ok(())
}

/// Has a file, whose directory stays root's, written by somebody from now on; it is made if there is none.
///
/// # Errors
/// What the system says.
pub fn hand_over_file(path: &Path, user: u32) -> io::Result<()> {
    let how = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_APPEND | OFlag::O_CLOEXEC;
    let flags = how | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
    let file = open(&*fs::c_path(path)?, flags, Mode::from_bits_truncate(0o640))?;
    let facts = fs::facts_of(&file)?;
    // Its group is of those who read it.
    if facts.regular && facts.links == 1 && facts.owner == 0 && user != 0 {
        fchown(&file, Some(user), None)?;
    }
    Ok(())
}
