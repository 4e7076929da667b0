//! A file's bytes where the kernel has them, without a copy. Only of a file that nobody can change or shorten
//! meanwhile: a lease says so. Knows nothing of what is in it.

use crate::sys::fs::facts_of;
use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};
use std::ffi::c_void;
use std::fs::File;
use std::io;
use std::num::NonZeroUsize;
use std::os::fd::AsRawFd;
use std::ptr::NonNull;

/// Bytes that are mapped together.
const WINDOW: usize = 1 << 20;
/// Where windows begin: a multiple of each size that pages have.
const ALIGN: usize = 1 << 16;
/// Says by which signal somebody who waits is told of; the same number on every architecture of Linux.
const F_SETSIG: libc::c_int = 10;
/// Has pages there before they are touched, and says what cannot be had of them (Linux 5.14).
const MADV_POPULATE_READ: libc::c_int = 22;

/// A file that is the same for as long as this is there: whoever opens it to write, or shortens it, waits.
pub struct LeasedFile<'f> {
    file: &'f File,
    size: usize,
}

impl<'f> LeasedFile<'f> {
    /// `None` if somebody has it open to write, or its file system or its owner's rights know no leases: then
    /// it is to be read.
    #[must_use]
    pub fn lease(file: &'f File) -> Option<LeasedFile<'f>> {
        let size = usize::try_from(facts_of(file).ok()?.size).ok()?;
        // The signal that tells of somebody who waits would end the process; this one does nothing.
        fcntl(file, F_SETSIG, libc::SIGURG).ok()?;
        fcntl(file, libc::F_SETLEASE, libc::F_RDLCK).ok()?;
        let this = LeasedFile { file, size };
        // Nobody has shortened it between the two, and the kernel can do this.
        let is_same = facts_of(file).ok()?.size == size as u64;
        this.map(0, ALIGN).ok().filter(|_| is_same).map(|_| this)
    }

    /// How many bytes it has.
    #[must_use]
    pub fn size(&self) -> usize {
        self.size
    }

    /// Calls `each` with the bytes from `start` on, about a million of them.
    ///
    /// # Errors
    /// They cannot be read.
    pub fn piece(&self, start: usize, each: &mut dyn FnMut(&[u8])) -> io::Result<()> {
        let mapping = self.map(start & !(ALIGN - 1), WINDOW)?;
        // SAFETY: the mapping is there until it is dropped, its bytes are within the file, which nobody
        // changes or shortens while we have the lease.
        let bytes = unsafe { std::slice::from_raw_parts(mapping.start.as_ptr().cast(), mapping.len.get()) };
        each(bytes.get(start & (ALIGN - 1)..).unwrap_or_default());
        Ok(())
    }

    fn map(&self, start: usize, most: usize) -> io::Result<Mapping> {
        let len = NonZeroUsize::new(self.size.saturating_sub(start).min(most));
        let len = len.ok_or(io::ErrorKind::UnexpectedEof)?;
        let offset = start.try_into().map_err(|_| io::ErrorKind::FileTooLarge)?;
        // SAFETY: a new mapping to read only, at a place that the kernel chooses.
        let start =
            unsafe { mmap(None, len, ProtFlags::PROT_READ, MapFlags::MAP_SHARED, self.file, offset)? };
        let mapping = Mapping { start, len };
        mapping.populate()?;
        Ok(mapping)
    }
}

impl Drop for LeasedFile<'_> {
    fn drop(&mut self) {
        let _ = fcntl(self.file, libc::F_SETLEASE, libc::F_UNLCK);
    }
}

/// Pages that are mapped.
struct Mapping {
    start: NonNull<c_void>,
    len: NonZeroUsize,
}

impl Mapping {
    fn populate(&self) -> io::Result<()> {
        // SAFETY: reads pages of our own mapping; nothing in it changes.
        match unsafe { libc::madvise(self.start.as_ptr(), self.len.get(), MADV_POPULATE_READ) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: our own mapping, which no reference outlives.
        let _ = unsafe { munmap(self.start, self.len.get()) };
    }
}

fn fcntl(file: &File, command: libc::c_int, value: libc::c_int) -> io::Result<()> {
    // SAFETY: commands that take a number.
    match unsafe { libc::fcntl(file.as_raw_fd(), command, value) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::dir::testing::ScratchDir;

    fn content(leased: &LeasedFile<'_>, step: usize) -> Vec<u8> {
        let mut all = Vec::new();
        while all.len() < leased.size() {
            let start = all.len();
            let each = &mut |bytes: &[u8]| all.extend_from_slice(&bytes[..bytes.len().min(step)]);
            leased.piece(start, each).unwrap();
            assert!(all.len() > start);
        }
        all
    }

    #[test]
    fn all_of_a_file_is_seen_in_pieces_of_any_size() {
        let dir = ScratchDir::new();
        let path = dir.path().join("file");
        let mut rng = fastrand::Rng::with_seed(26);
        for size in [1, 4095, ALIGN, WINDOW, WINDOW + 1, 2 * WINDOW + ALIGN + 77] {
            let bytes: Vec<u8> = (0..size).map(|_| rng.u8(..)).collect();
            std::fs::write(&path, &bytes).unwrap();
            let file = File::open(&path).unwrap();
            let leased = LeasedFile::lease(&file).expect("a lease");
            for step in [usize::MAX, WINDOW / 2, 777_777] {
                assert!(content(&leased, step) == bytes, "{size} {step}");
            }
        }
    }

    #[test]
    fn what_somebody_writes_or_has_nothing_is_not_leased() {
        let dir = ScratchDir::new();
        let path = dir.path().join("file");
        std::fs::write(&path, "192.0.2.7\n").unwrap();
        let writer = File::options().append(true).open(&path).unwrap();
        let file = File::open(&path).unwrap();
        assert!(LeasedFile::lease(&file).is_none());
        drop(writer);
        let leased = LeasedFile::lease(&file).unwrap();
        // Whoever would not wait is refused.
        let flags = nix::fcntl::OFlag::O_WRONLY | nix::fcntl::OFlag::O_NONBLOCK;
        let open = || nix::fcntl::open(&path, flags, nix::sys::stat::Mode::empty());
        assert_eq!(open().err(), Some(nix::errno::Errno::EAGAIN));
        drop(leased);
        assert!(open().is_ok());
        std::fs::write(&path, "").unwrap();
        assert!(LeasedFile::lease(&file).is_none());
    }
}
