//! The three standard streams as plain files: what std has for them locks, buffers and flushes lines, which a
//! program with one thread and buffers of its own does not need.

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::fs::File;
use std::io::{self, Write};
use std::mem::ManuallyDrop;
use std::os::fd::{AsFd as _, AsRawFd as _, FromRawFd as _, RawFd};

/// Standard input, by a descriptor of its own: whoever has read it may close it.
///
/// # Errors
/// When there are too many files open.
pub fn stdin() -> io::Result<File> {
    shared(0).try_clone()
}

/// Whether a read would not wait: there is data, the end, or an error to collect.
#[must_use]
pub fn has_more(file: &File) -> bool {
    let mut fds = [PollFd::new(file.as_fd(), PollFlags::POLLIN)];
    poll(&mut fds, PollTimeout::ZERO) != Ok(0)
}

/// Standard output.
#[must_use]
pub fn stdout() -> Buffered {
    Buffered { file: shared(1), held: Vec::with_capacity(OUTPUT_BUFFER) }
}

/// Standard output itself, for programs that are to write to it.
#[must_use]
pub fn raw_stdout() -> ManuallyDrop<File> {
    shared(1)
}

/// Standard error.
#[must_use]
pub fn stderr() -> ManuallyDrop<File> {
    shared(2)
}

/// Lines of a terminal, if it is one.
#[must_use]
pub fn rows(file: &File) -> Option<usize> {
    window(file).map(|size| size.ws_row.into())
}

fn window(file: &File) -> Option<libc::winsize> {
    let mut size = libc::winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: the kernel writes one `winsize` into ours, which lives until the call returns.
    let done = unsafe { libc::ioctl(file.as_raw_fd(), libc::TIOCGWINSZ, &raw mut size) };
    (done == 0).then_some(size)
}

/// Columns of the terminal that standard output is, if it is one.
#[must_use]
pub fn columns() -> Option<usize> {
    window(&shared(1)).map(|size| size.ws_col.into())
}

/// Whether standard output is a terminal.
#[must_use]
pub fn is_terminal() -> bool {
    rows(&shared(1)).is_some()
}

/// Bytes that [`Buffered`] holds.
const OUTPUT_BUFFER: usize = 4096;

/// A file that is written in large pieces; the last one by `flush`.
pub struct Buffered {
    file: ManuallyDrop<File>,
    held: Vec<u8>,
}

impl Write for Buffered {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.held.len() + bytes.len() > OUTPUT_BUFFER {
            self.flush()?;
        }
        if bytes.len() >= OUTPUT_BUFFER {
            return self.file.write(bytes);
        }
        self.held.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        let written = self.file.write_all(&self.held);
        self.held.clear();
        written
    }
}

/// The descriptor itself. A second one would keep the stream open when a daemon lets go of its terminal.
fn shared(fd: RawFd) -> ManuallyDrop<File> {
    // SAFETY: `start` opened /dev/null where one of the three was missing, and nobody closes them: this file
    // is never dropped.
    ManuallyDrop::new(unsafe { File::from_raw_fd(fd) })
}
