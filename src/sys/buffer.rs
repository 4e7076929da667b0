//! A buffer whose unused part costs no memory. Knows nothing of what is in it.

use nix::sys::mman::{MmapAdvise, madvise};
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;

/// Bytes that are allocated once; pages that were touched can be given back.
pub struct Buffer(Box<[u8]>);

impl Buffer {
    /// `len` bytes of zeros, none of them resident yet.
    #[must_use]
    pub fn new(len: usize) -> Buffer {
        let mut buffer = Buffer(vec![0; len].into_boxed_slice());
        buffer.cool(0); // an allocator may have zeroed them by hand
        buffer
    }

    /// Gives the whole pages behind the first `keep` bytes back to the system; what they held may be lost.
    pub fn cool(&mut self, keep: usize) {
        // SAFETY: asks for a number that the kernel gave the process at its start.
        let page = unsafe { libc::getauxval(libc::AT_PAGESZ) };
        let Some(page) = usize::try_from(page).ok().filter(|p| p.is_power_of_two()) else { return };
        let Some(cold) = self.0.get_mut(keep..) else { return };
        let skip = cold.as_ptr().align_offset(page);
        let Some(cold) = cold.get_mut(skip..) else { return };
        let len = cold.len() & !(page - 1);
        if len == 0 {
            return;
        }
        let start = NonNull::from(cold).cast();
        // SAFETY: the `len` bytes at `start` are whole pages inside `self.0`, which we hold exclusively. They are
        // private anonymous memory of the allocator's data area, so afterwards they read as zeros: valid `u8`s.
        // A failure leaves them as they were.
        let _ = unsafe { madvise(start, len, MmapAdvise::MADV_DONTNEED) };
    }
}

impl Deref for Buffer {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cooling_keeps_the_front_and_its_own_bounds() {
        for keep in [0, 1, 4095, 4096, 5000, 65536, 70000, 80000] {
            let mut three: Vec<Buffer> = (0..3).map(|_| Buffer::new(70000)).collect();
            for b in &mut three {
                b.fill(7);
            }
            three[1].cool(keep);
            assert!(three[0].iter().all(|&b| b == 7), "{keep}");
            assert!(three[2].iter().all(|&b| b == 7), "{keep}");
            assert!(three[1].iter().take(keep).all(|&b| b == 7), "{keep}");
            let cold = three[1].iter().filter(|&&b| b == 0).count();
            assert!(cold > 0 || keep > 60000, "{keep}");
        }
    }
}
