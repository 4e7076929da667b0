//! A heap for a process that was forked from one that goes on, or has forked one. To the C library's
//! allocator the holes among the blocks that were there before are as good as any other place: each of them
//! that is filled makes a page two, one for either process. Here new blocks are beside each other, in pages
//! that were nobody's.

use crate::base::build_part::BuildPart;
use std::ptr::null_mut;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicUsize, Ordering::Relaxed};

/// Bytes of blocks at most. The system gives pages when they are written to.
const ROOM: usize = 64 << 20;
/// A larger block is the C library's: musl gives each such pages of its own, glibc until the first of them
/// has come back.
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
    /// Where the one before it is, which a parent has begun; null = there was none. Nobody gives blocks of it
    /// back.
    before: AtomicPtr<u8>,
    /// Bytes that were ever given, from the start on.
    used: AtomicUsize,
    /// It takes blocks back, and gives none.
    closed: AtomicBool,
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

fn is_in(heap: &AtomicPtr<u8>, memory: *mut u8) -> bool {
    let start = heap.load(Relaxed);
    BuildPart::Observer.is_in() && !start.is_null() && memory.addr().wrapping_sub(start.addr()) < ROOM
}

impl FreshHeap {
    pub(super) const fn new() -> FreshHeap {
        FreshHeap {
            start: AtomicPtr::new(null_mut()),
            before: AtomicPtr::new(null_mut()),
            used: AtomicUsize::new(0),
            closed: AtomicBool::new(false),
            free: [const { AtomicPtr::new(null_mut()) }; SIZES],
        }
    }

    /// Begins an empty one. The one before stays what it is, and nothing of it is used again; it has to be
    /// known, so that there is one such at most. Whether one was begun: else nothing has changed.
    pub(super) fn begin(&self) -> bool {
        let is_second = !self.before.load(Relaxed).is_null();
        let start = if is_second { null_mut() } else { super::map(ROOM) };
        if !start.is_null() {
            self.before.store(self.start.load(Relaxed), Relaxed);
            self.start.store(start, Relaxed);
            self.used.store(0, Relaxed);
            self.closed.store(false, Relaxed);
            self.free.iter().for_each(|first| first.store(null_mut(), Relaxed));
        }
        !start.is_null()
    }

    pub(super) fn is_open(&self) -> bool {
        BuildPart::Observer.is_in() && !self.start.load(Relaxed).is_null()
    }

    /// Whether new blocks are its.
    pub(super) fn gives(&self) -> bool {
        self.is_open() && !self.closed.load(Relaxed)
    }

    /// Gives no blocks any more.
    pub(super) fn close(&self) {
        self.closed.store(true, Relaxed);
    }

    /// Gives blocks again; whether it did not.
    pub(super) fn reopen(&self) -> bool {
        self.closed.swap(false, Relaxed)
    }

    pub(super) fn holds(&self, memory: *mut u8) -> bool {
        is_in(&self.start, memory)
    }

    /// Whether a block is one of the heap before this one.
    pub(super) fn had(&self, memory: *mut u8) -> bool {
        is_in(&self.before, memory)
    }

    /// A block; null: it is full, or there is none.
    pub(super) fn take(&self, bytes: usize) -> *mut u8 {
        if !self.gives() || bytes > LARGE {
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
        assert!(!heap.holds(before) && heap.had(before));
        let after = heap.take(100);
        assert!(heap.holds(after) && !heap.had(after) && !heap.had(null_mut()));
        assert!(!heap.begin() && heap.holds(after) && heap.had(before), "two are known at most");
    }
}
