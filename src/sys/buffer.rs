//! Memory of a fixed size whose unused part costs nothing. Knows nothing of what is in it.

use nix::sys::mman::{MapFlags, MmapAdvise, ProtFlags, madvise, mmap_anonymous, munmap};
use std::alloc::{Layout, handle_alloc_error};
use std::ffi::c_void;
use std::marker::PhantomData;
use std::num::NonZeroUsize;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;

/// What a [`Buffer`] can be made of: numbers, for which any bytes are a value.
pub trait BufferItem: Copy + private::Sealed {}
impl BufferItem for u8 {}
impl BufferItem for u32 {}

mod private {
    pub trait Sealed {}
    impl Sealed for u8 {}
    impl Sealed for u32 {}
}

/// Numbers that are taken from the system once; pages that were touched can be given back.
///
/// A mapping of its own: an allocator would touch the first and the last page of such a piece for notes of
/// its own, and those two pages are most of what a quiet buffer costs.
pub struct Buffer<T: BufferItem = u8> {
    start: NonNull<T>,
    /// Numbers in it.
    len: usize,
    own: PhantomData<[T]>,
}

impl<T: BufferItem> Buffer<T> {
    /// `len` zeros, none of them resident yet. Without memory for them the process ends, as with any
    /// allocation.
    #[must_use]
    pub fn new(len: usize) -> Buffer<T> {
        let mut buffer = Buffer { start: NonNull::dangling(), len: 0, own: PhantomData };
        let Ok(layout) = Layout::array::<T>(len) else { return buffer };
        let Some(size) = NonZeroUsize::new(layout.size()) else { return buffer };
        let rights = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: a new mapping, at a place that the kernel chooses.
        let got = unsafe { mmap_anonymous(None, size, rights, MapFlags::MAP_PRIVATE) };
        let Ok(start) = got else { handle_alloc_error(layout) };
        (buffer.start, buffer.len) = (start.cast(), len);
        buffer
    }

    /// Gives the whole pages behind the first `keep` numbers back to the system; what they held may be lost.
    pub fn shrink(&mut self, keep: usize) {
        let cold = self.get_mut(keep..).unwrap_or_default();
        // SAFETY: private anonymous memory that we hold exclusively: afterwards it reads as zeros or as
        // before, and both are numbers.
        unsafe { give_back(cold.as_mut_ptr().cast(), size_of_val(cold)) };
    }
}

/// Gives the whole pages behind what is in use of an allocation back to the system.
pub fn shrink_spare(bytes: &mut Vec<u8>) {
    let spare = bytes.spare_capacity_mut();
    // SAFETY: private anonymous memory of the allocator's data area, in which nothing has been written yet as
    // far as anybody knows.
    unsafe { give_back(spare.as_mut_ptr().cast(), size_of_val(spare)) };
}

/// Gives back the whole pages of some bytes. A failure leaves them as they were.
///
/// # Safety
/// The bytes are private anonymous memory that nobody else has, and may become zeros.
unsafe fn give_back(start: *mut u8, len: usize) {
    // SAFETY: asks for a number that the kernel gave the process at its start.
    let page = unsafe { libc::getauxval(libc::AT_PAGESZ) };
    let Some(page) = usize::try_from(page).ok().filter(|p| p.is_power_of_two()) else { return };
    let skip = start.align_offset(page);
    let len = len.saturating_sub(skip) & !(page - 1);
    if len > 0
        && let Some(start) = NonNull::new(start.wrapping_add(skip))
    {
        // SAFETY: whole pages inside of what the caller speaks for.
        let _ = unsafe { madvise(start.cast(), len, MmapAdvise::MADV_DONTNEED) };
    }
}

impl<T: BufferItem> Drop for Buffer<T> {
    fn drop(&mut self) {
        let size = size_of_val(&**self);
        if size > 0 {
            let start: NonNull<c_void> = self.start.cast();
            // SAFETY: the mapping that `new` made, of this size; nothing borrows it any more.
            let _ = unsafe { munmap(start, size) };
        }
    }
}

impl<T: BufferItem> Deref for Buffer<T> {
    type Target = [T];
    fn deref(&self) -> &[T] {
        // SAFETY: `new` has mapped `len` numbers there, aligned to a page and zeroed by the kernel (or none,
        // at an aligned address); they are ours until we are dropped, and borrowed as long as `self`.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.len) }
    }
}

impl<T: BufferItem> DerefMut for Buffer<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: as in `deref`; `self` is borrowed exclusively.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.len) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_used_part_of_an_allocation_stays() {
        let mut bytes = Vec::with_capacity(200_000);
        bytes.extend_from_slice(&[7; 50_000]);
        shrink_spare(&mut bytes);
        bytes.extend_from_slice(&[8; 150_000]);
        assert!(bytes.iter().enumerate().all(|(n, &b)| b == if n < 50_000 { 7 } else { 8 }));
    }

    #[test]
    fn any_length_is_there_and_zero() {
        for len in [0, 1, 4095, 4096, 4097] {
            let mut words = Buffer::<u32>::new(len);
            assert_eq!(words.len(), len);
            assert!(words.iter().all(|&w| w == 0));
            words.fill(u32::MAX);
            assert!(words.iter().all(|&w| w == u32::MAX));
        }
    }

    #[test]
    fn cooling_keeps_the_front_and_its_own_bounds() {
        for keep in [0, 1, 4095, 4096, 5000, 65536, 70000, 80000] {
            let mut three: Vec<Buffer<u8>> = (0..3).map(|_| Buffer::new(70000)).collect();
            for b in &mut three {
                b.fill(7);
            }
            three[1].shrink(keep);
            assert!(three[0].iter().all(|&b| b == 7), "{keep}");
            assert!(three[2].iter().all(|&b| b == 7), "{keep}");
            assert!(three[1].iter().take(keep).all(|&b| b == 7), "{keep}");
            let cold = three[1].iter().filter(|&&b| b == 0).count();
            assert!(cold > 0 || keep > 60000, "{keep}");
        }
    }
}
