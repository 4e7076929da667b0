//! The C library's allocator as the program's own. std's way to it brings along what alignments of more than 16 bytes
//! take, 1 kB: nothing in mef has one.

use libc::{c_void, max_align_t};
use std::alloc::{GlobalAlloc, Layout};
use std::ptr::null_mut;

/// `malloc` and its like.
pub struct Malloc;

/// The C library gives this alignment to every allocation, small ones too.
fn aligned(layout: Layout) -> bool {
    layout.align() <= align_of::<max_align_t>()
}

// SAFETY: what `malloc`, `calloc` and `realloc` give is free memory of the size asked for, aligned for every type up to
// `max_align_t`; more is refused. Memory that one of them gave goes back by `free`. Nothing here panics.
unsafe impl GlobalAlloc for Malloc {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if !aligned(layout) {
            return null_mut();
        }
        // SAFETY: takes a number.
        unsafe { libc::malloc(layout.size()) }.cast()
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        if !aligned(layout) {
            return null_mut();
        }
        // SAFETY: takes numbers.
        unsafe { libc::calloc(layout.size(), 1) }.cast()
    }

    unsafe fn dealloc(&self, memory: *mut u8, _: Layout) {
        // SAFETY: the caller has it from one of these functions.
        unsafe { libc::free(memory.cast::<c_void>()) }
    }

    unsafe fn realloc(&self, memory: *mut u8, _: Layout, size: usize) -> *mut u8 {
        // SAFETY: the caller has it from one of these functions, with an alignment that all memory has.
        unsafe { libc::realloc(memory.cast::<c_void>(), size) }.cast()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_aligned_zeroed_and_keeps_its_content() {
        for (size, align) in [(1, 1), (1, 16), (24, 8), (70_000, 16)] {
            let layout = Layout::from_size_align(size, align).unwrap();
            // SAFETY: the layout has a size.
            let memory = unsafe { Malloc.alloc_zeroed(layout) };
            assert!(!memory.is_null() && memory.addr().is_multiple_of(align), "{size} {align}");
            // SAFETY: `size` bytes were allocated and zeroed.
            assert!(unsafe { std::slice::from_raw_parts(memory, size) }.iter().all(|&b| b == 0));
            // SAFETY: the memory and its layout are those from above.
            let grown = unsafe { Malloc.realloc(memory, layout, 2 * size) };
            // SAFETY: the first half was moved along.
            assert!(unsafe { std::slice::from_raw_parts(grown, size) }.iter().all(|&b| b == 0));
            // SAFETY: it is not used again.
            unsafe { Malloc.dealloc(grown, layout) };
        }
        let wide = Layout::from_size_align(64, 64).unwrap();
        // SAFETY: the layout has a size.
        assert!(unsafe { Malloc.alloc(wide) }.is_null());
    }
}
