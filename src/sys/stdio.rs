//! The three standard streams as plain files: what std has for them locks, buffers and flushes lines, which a
//! program with one thread and buffers of its own does not need.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{BorrowedFd, RawFd};

/// Standard input.
///
/// # Errors
/// When there are too many files open.
pub fn stdin() -> io::Result<File> {
    file(0)
}

/// Standard error.
///
/// # Errors
/// When there are too many files open.
pub fn stderr() -> io::Result<File> {
    file(2)
}

/// Bytes that [`Stdout`] holds.
const ROOM: usize = 4096;

/// Standard output, written in large pieces; the last one by `flush`.
#[derive(Default)]
pub struct Stdout {
    held: Vec<u8>,
}

impl Write for Stdout {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.held.len() + bytes.len() > ROOM {
            self.flush()?;
        }
        if bytes.len() >= ROOM {
            return file(1)?.write(bytes);
        }
        self.held.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.held.is_empty() {
            return Ok(());
        }
        let written = file(1).and_then(|mut file| file.write_all(&self.held));
        self.held.clear();
        written
    }
}

/// A descriptor of its own, since the three stay open for whoever comes later. Not to be kept: a daemon in the
/// background would hold open the pipe of whoever waits for the end of what it says.
fn file(fd: RawFd) -> io::Result<File> {
    // SAFETY: std opened /dev/null at the start where one of the three was missing, and nobody closes them.
    let fd = unsafe { BorrowedFd::borrow_raw(fd) };
    Ok(File::from(fd.try_clone_to_owned()?))
}
