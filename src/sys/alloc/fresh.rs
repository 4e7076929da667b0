//! A heap for a process that was forked from one that goes on, or has forked one. To the C library's
//! allocator the holes among the blocks that were there before are as good as any other place: each of them
//! that is filled makes a page two, one for either process. Here new blocks are beside each other, in pages
//! that were nobody's.

use std::ptr::null_mut;
use std::sync::atomic::{AtomicPtr, AtomicUsize, Ordering::Relaxed};

/// Bytes of blocks at most. The system gives pages when they are written to.
const ROOM: usize = 64 << 20;
/// A larger block is the C library's, which gives each such pages of its own.
pub(super) const LARGE: usize = 128 * 1024;
/// The step from one size of small blocks to the next.
const UNIT: usize = 16;
/// Sizes in units of one: below that, each is a size; above, there are four until it is twice as much.
const SMALL: usize = 8;
/// Sizes of blocks: those, and four for each bit from there to [`LARGE`].
const SIZES: usize = SMALL + 4 * 10;

/// The heap. Only the one thread that mef has changes it.
pub(super) struct FreshHeap {
    /// Where it is; null = nowhere.
    start: AtomicPtr<u8>,
    /// Bytes that were ever given, from the start on.
    used: AtomicUsize,
    /// Blocks that came back, for each size: each holds the address of the next.
    free: [AtomicPtr<u8>; SIZES],
}

/// A size of blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct BlockSize {
    /// Its number.
    class: usize,
    bytes: usize,
}

impl BlockSize {
    /// The smallest that holds so many bytes; at most [`LARGE`].
    fn of(bytes: usize) -> BlockSize {
        let units = bytes.div_ceil(UNIT).max(1);
        if units <= SMALL {
            return BlockSize { class: units - 1, bytes: units * UNIT };
        }
        let shift = (units - 1).ilog2() as usize - 2;
        let steps = units.div_ceil(1 << shift);
        // Five to eight steps.
        BlockSize { class: SMALL + (shift - 1) * 4 + steps - 5, bytes: (steps << shift) * UNIT }
    }
}

impl FreshHeap {
    pub(super) const fn new() -> FreshHeap {
        FreshHeap {
            start: AtomicPtr::new(null_mut()),
            used: AtomicUsize::new(0),
            free: [const { AtomicPtr::new(null_mut()) }; SIZES],
        }
    }

    /// Begins an empty one. The one before stays what it is, and nothing of it is used again. Whether there
    /// was room for it: else nothing has changed.
    pub(super) fn begin(&self) -> bool {
        let start = super::map(ROOM);
        if !start.is_null() {
            self.start.store(start, Relaxed);
            self.used.store(0, Relaxed);
            self.free.iter().for_each(|first| first.store(null_mut(), Relaxed));
        }
        !start.is_null()
    }

    pub(super) fn is_open(&self) -> bool {
        !self.start.load(Relaxed).is_null()
    }

    pub(super) fn holds(&self, memory: *mut u8) -> bool {
        self.is_open() && memory.addr().wrapping_sub(self.start.load(Relaxed).addr()) < ROOM
    }

    /// A block; null: it is full, or there is none.
    pub(super) fn take(&self, bytes: usize) -> *mut u8 {
        if !self.is_open() || bytes > LARGE {
            return null_mut();
        }
        let size = BlockSize::of(bytes);
        let Some(free) = self.free.get(size.class) else { return null_mut() };
        let first = free.load(Relaxed);
        if !first.is_null() {
            // SAFETY: a block that came back has room for an address, and holds that of the next.
            free.store(unsafe { first.cast::<*mut u8>().read() }, Relaxed);
            return first;
        }
        let used = self.used.load(Relaxed);
        if size.bytes > ROOM - used {
            return null_mut();
        }
        self.used.store(used + size.bytes, Relaxed);
        self.start.load(Relaxed).wrapping_add(used)
    }

    /// Whether a block for so many bytes has room for so many others, and is not much too large.
    pub(super) fn fits(before: usize, after: usize) -> bool {
        after <= LARGE && BlockSize::of(before) == BlockSize::of(after)
    }

    /// Takes a block back.
    ///
    /// # Safety
    /// It is one of this heap's, for so many bytes, and nobody uses it.
    pub(super) unsafe fn give_back(&self, memory: *mut u8, bytes: usize) {
        if let Some(free) = self.free.get(BlockSize::of(bytes).class) {
            // SAFETY: the block is free, aligned, and has room for an address.
            unsafe { memory.cast::<*mut u8>().write(free.load(Relaxed)) };
            free.store(memory, Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_size_holds_what_it_is_for_and_wastes_a_quarter_at_most() {
        let mut last = BlockSize { class: 0, bytes: 16 };
        for bytes in 0..=LARGE {
            let size = BlockSize::of(bytes);
            assert!(size.bytes >= bytes && size.class < SIZES && size.bytes.is_multiple_of(UNIT), "{bytes}");
            assert!(size.bytes - bytes < UNIT.max(bytes.div_ceil(4)) || bytes == 0, "{bytes}: {size:?}");
            assert!(size == last || size.class == last.class + 1 && size.bytes > last.bytes, "{bytes}");
            last = size;
        }
        assert_eq!((last.class, last.bytes), (SIZES - 1, LARGE));
    }

    #[test]
    fn what_came_back_is_given_again_and_nothing_twice() {
        let heap = FreshHeap::new();
        assert!(heap.take(10).is_null() && !heap.holds(null_mut()), "there is none yet");
        assert!(heap.begin());
        let blocks: Vec<*mut u8> = (0..100).map(|n| heap.take(n * 40)).collect();
        let distinct: std::collections::BTreeSet<_> = blocks.iter().collect();
        assert_eq!(distinct.len(), 100);
        assert!(blocks.iter().all(|block| heap.holds(*block) && block.addr().is_multiple_of(UNIT)));
        let [a, b] = [blocks[10], blocks[11]];
        // SAFETY: both are of this heap, for so many bytes.
        unsafe { heap.give_back(a, 400) };
        // SAFETY: as above.
        unsafe { heap.give_back(b, 440) };
        assert!(FreshHeap::fits(400, 440) && !FreshHeap::fits(400, 600) && !FreshHeap::fits(400, LARGE + 1));
        assert_eq!([heap.take(400), heap.take(440)], [b, a]);
        assert!(heap.take(LARGE + 1).is_null());
        assert!(!heap.holds((&raw const heap).cast_mut().cast()));
        let before = heap.take(100);
        assert!(heap.begin());
        assert!(!heap.holds(before) && heap.holds(heap.take(100)));
    }
}
