//! The C library's allocator as the program's own, and a place apart for what passes. std's way to the C
//! library's brings along what alignments of more than 16 bytes take, 1 kB: nothing in mef has one.
//!
//! What reading the configuration takes lives among what the daemon keeps: when it is gone, holes are left in
//! pages that stay. So it is put where nothing else is, and the whole of that goes back to the system at
//! once.

use libc::c_void;
use std::alloc::{GlobalAlloc, Layout};
use std::ptr::null_mut;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicUsize, Ordering::Relaxed};

/// `malloc` and its like, or the place apart for what [`briefly`] does.
pub struct Malloc;

/// Bytes that can be apart; what does not fit is among the rest. The system gives pages when they are written
/// to.
const ARENA_SIZE: usize = 16 << 20;
/// The alignment of everything: musl and glibc give this much or more on every machine.
const ALIGN: usize = 2 * size_of::<usize>();

/// The place apart. Only the one thread that mef has changes it: nothing here has to be seen by another one.
struct Arena {
    /// Where it is; null = nowhere.
    start: AtomicPtr<u8>,
    /// Bytes in use, from the start on.
    used: AtomicUsize,
    /// Blocks that were given and did not come back.
    blocks: AtomicUsize,
    /// Whether what is asked for now is put there.
    open: AtomicBool,
}

static ARENA: Arena = Arena {
    start: AtomicPtr::new(null_mut()),
    used: AtomicUsize::new(0),
    blocks: AtomicUsize::new(0),
    open: AtomicBool::new(false),
};

/// Does something whose memory is given back soon, all of it. What is kept for long has to be copied, after
/// this, or the memory is kept with it. For a process with one thread, and not within itself.
pub fn with_arena<R>(work: impl FnOnce() -> R) -> R {
    ARENA.open.store(true, Relaxed);
    let result = work();
    ARENA.open.store(false, Relaxed);
    ARENA.leave();
    result
}

/// Gives back what is apart although it is still in use, in a process that was forked meanwhile.
///
/// # Safety
/// This process uses nothing of it any more, and drops nothing of it: what it does next it does to its end.
pub(super) unsafe fn abandon_arena() {
    ARENA.blocks.store(0, Relaxed);
    ARENA.leave();
}

impl Arena {
    /// A block, or null: it is not the time, or there is no room.
    fn take(&self, size: usize) -> *mut u8 {
        if !self.open.load(Relaxed) {
            return null_mut();
        }
        let mut start = self.start.load(Relaxed);
        if start.is_null() {
            let (rights, kind) =
                (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
            // SAFETY: asks for memory of its own, and touches none that is there.
            let got =
                unsafe { libc::mmap(null_mut(), ARENA_SIZE, rights, kind | libc::MAP_NORESERVE, -1, 0) };
            if got == libc::MAP_FAILED {
                return null_mut();
            }
            start = got.cast();
            self.start.store(start, Relaxed);
        }
        let at = self.used.load(Relaxed).next_multiple_of(ALIGN);
        if size > ARENA_SIZE - at.min(ARENA_SIZE) {
            return null_mut();
        }
        self.used.store(at + size, Relaxed);
        self.blocks.store(self.blocks.load(Relaxed) + 1, Relaxed);
        start.wrapping_add(at)
    }

    /// How far from the start a block is; `None` for one that is not here.
    fn place(&self, memory: *mut u8) -> Option<usize> {
        let start = self.start.load(Relaxed);
        let at = memory.addr().wrapping_sub(start.addr());
        (!start.is_null() && at < ARENA_SIZE).then_some(at)
    }

    /// Gives the last block another size, if it is that, and if there is room.
    fn fit(&self, at: usize, old: usize, new: usize) -> bool {
        let last = at + old == self.used.load(Relaxed);
        let fits = last && new <= ARENA_SIZE - at;
        if fits {
            self.used.store(at + new, Relaxed);
        }
        fits || new <= old
    }

    fn give_back(&self, at: usize, size: usize) {
        self.fit(at, size, 0);
        self.blocks.store(self.blocks.load(Relaxed) - 1, Relaxed);
        self.leave();
    }

    /// Gives the whole place back, if nothing is there and nothing comes.
    fn leave(&self) {
        if self.blocks.load(Relaxed) > 0 {
            return;
        }
        self.used.store(0, Relaxed);
        let start = self.start.load(Relaxed);
        if !self.open.load(Relaxed) && !start.is_null() {
            self.start.store(null_mut(), Relaxed);
            // SAFETY: the mapping is ours, of this size, and every block in it has come back.
            unsafe { libc::munmap(start.cast(), ARENA_SIZE) };
        }
    }
}

/// The C library gives this alignment to every allocation, small ones too.
fn aligned(layout: Layout) -> bool {
    layout.align() <= ALIGN
}

// SAFETY: what `malloc`, `calloc`, `realloc` and the place apart give is free memory of the size asked for,
// aligned to ALIGN; more is refused. Each block goes back to where it came from,
// which its address tells. Nothing here panics.
unsafe impl GlobalAlloc for Malloc {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if !aligned(layout) {
            return null_mut();
        }
        let apart = ARENA.take(layout.size());
        if !apart.is_null() {
            return apart;
        }
        // SAFETY: takes a number.
        unsafe { libc::malloc(layout.size()) }.cast()
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        if !aligned(layout) {
            return null_mut();
        }
        let apart = ARENA.take(layout.size());
        if !apart.is_null() {
            // SAFETY: the block is new, and has this size.
            unsafe { apart.write_bytes(0, layout.size()) };
            return apart;
        }
        // SAFETY: takes numbers.
        unsafe { libc::calloc(layout.size(), 1) }.cast()
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        match ARENA.place(memory) {
            Some(at) => ARENA.give_back(at, layout.size()),
            // SAFETY: the caller has it from one of these functions, and not from the place apart.
            None => unsafe { libc::free(memory.cast::<c_void>()) },
        }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        let Some(at) = ARENA.place(memory) else {
            // SAFETY: the caller has it from one of these functions, and not from the place apart, with an
            // alignment that all memory has.
            return unsafe { libc::realloc(memory.cast::<c_void>(), size) }.cast();
        };
        if ARENA.fit(at, layout.size(), size) {
            return memory;
        }
        let Ok(wanted) = Layout::from_size_align(size, layout.align()) else { return null_mut() };
        // SAFETY: a caller never asks for no bytes.
        let new = unsafe { self.alloc(wanted) };
        if !new.is_null() {
            // SAFETY: both blocks have as many bytes, and the new one is nobody else's.
            unsafe { memory.copy_to_nonoverlapping(new, layout.size().min(size)) };
            ARENA.give_back(at, layout.size());
        }
        new
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;

    /// The place apart is for one thread.
    static ONE: Mutex<()> = Mutex::new(());

    /// A block of so many bytes of one value.
    fn block(size: usize, value: u8) -> (*mut u8, Layout) {
        let layout = Layout::from_size_align(size, 8).unwrap();
        // SAFETY: the layout has a size.
        let memory = unsafe { Malloc.alloc(layout) };
        // SAFETY: the block is new, and has this size.
        unsafe { memory.write_bytes(value, size) };
        (memory, layout)
    }

    fn holds((memory, layout): (*mut u8, Layout), value: u8) -> bool {
        // SAFETY: blocks of these tests are written to as a whole before they are read.
        unsafe { std::slice::from_raw_parts(memory, layout.size()) }.iter().all(|&b| b == value)
    }

    fn drop_block((memory, layout): (*mut u8, Layout)) {
        // SAFETY: blocks of these tests are given back once.
        unsafe { Malloc.dealloc(memory, layout) }
    }

    fn resized((memory, layout): (*mut u8, Layout), size: usize) -> (*mut u8, Layout) {
        // SAFETY: the block is one of these tests.
        let memory = unsafe { Malloc.realloc(memory, layout, size) };
        (memory, Layout::from_size_align(size, 8).unwrap())
    }

    #[test]
    fn what_is_abandoned_is_gone_and_the_next_begins_anew() {
        let _one = ONE.lock().unwrap();
        let (kept, gone) = (block(100, 1), with_arena(|| block(100_000, 2)));
        assert!(ARENA.place(gone.0).is_some());
        // SAFETY: the block is not used any more.
        unsafe { abandon_arena() };
        assert!(ARENA.start.load(Relaxed).is_null() && holds(kept, 1));
        // Where there is nothing, nothing is given back.
        // SAFETY: as above.
        unsafe { abandon_arena() };
        let next = with_arena(|| block(100, 3));
        assert!(ARENA.place(next.0).is_some() && holds(next, 3));
        drop_block(next);
        drop_block(kept);
    }

    #[test]
    fn what_passes_is_apart_until_the_last_of_it_is_gone() {
        let _one = ONE.lock().unwrap();
        let before = block(100, 1);
        let (a, b, grown) = with_arena(|| {
            let (a, b) = (block(100, 2), block(1000, 3));
            let grown = resized(resized(block(10, 4), 10), 5000);
            assert!(holds((grown.0, Layout::from_size_align(10, 8).unwrap()), 4));
            // SAFETY: the block has this size.
            unsafe { grown.0.write_bytes(4, 5000) };
            let more = block(ARENA_SIZE, 5);
            assert!(ARENA.place(more.0).is_none(), "what does not fit is elsewhere");
            drop_block(more);
            (a, b, grown)
        });
        assert!([a, b, grown].iter().all(|block| ARENA.place(block.0).is_some()));
        assert!(ARENA.place(before.0).is_none() && ARENA.place(block(10, 6).0).is_none());
        // What grows later goes to the rest, and what becomes smaller stays.
        let (a, b) = (resized(a, 50), resized(b, 4000));
        assert!(ARENA.place(a.0).is_some() && ARENA.place(b.0).is_none());
        assert!(holds(a, 2) && holds((b.0, Layout::from_size_align(1000, 8).unwrap()), 3) && holds(grown, 4));
        drop_block(grown);
        assert!(holds(a, 2) && !ARENA.start.load(Relaxed).is_null());
        drop_block(a);
        assert!(ARENA.start.load(Relaxed).is_null() && holds(before, 1));
        drop_block(b);
        drop_block(before);
    }

    #[test]
    fn blocks_that_come_and_go_keep_what_is_theirs() {
        let _one = ONE.lock().unwrap();
        let mut rng = fastrand::Rng::with_seed(3);
        let mut blocks: Vec<((*mut u8, Layout), u8)> = Vec::with_capacity(1000);
        for round in 0..200 {
            let work = |blocks: &mut Vec<_>, rng: &mut fastrand::Rng| {
                for _ in 0..50 {
                    let value = rng.u8(..);
                    match rng.u32(0..4) {
                        0 | 1 if blocks.len() < 1000 => {
                            let size = rng.usize(1..3000);
                            blocks.push((block(size, value), value));
                        }
                        2 if !blocks.is_empty() => {
                            let at = rng.usize(0..blocks.len());
                            let (old, value): ((*mut u8, Layout), u8) = blocks[at];
                            assert!(holds(old, value));
                            let new = resized(old, rng.usize(1..3000));
                            let kept = old.1.size().min(new.1.size());
                            assert!(holds((new.0, Layout::from_size_align(kept, 8).unwrap()), value));
                            // SAFETY: the block has this size.
                            unsafe { new.0.write_bytes(value, new.1.size()) };
                            blocks[at].0 = new;
                        }
                        _ if !blocks.is_empty() => {
                            let (old, value) = blocks.swap_remove(rng.usize(0..blocks.len()));
                            assert!(holds(old, value));
                            drop_block(old);
                        }
                        _ => {}
                    }
                }
            };
            if round % 2 == 0 {
                with_arena(|| work(&mut blocks, &mut rng))
            } else {
                work(&mut blocks, &mut rng)
            }
        }
        blocks.iter().for_each(|(block, _)| drop_block(*block));
        assert!(ARENA.start.load(Relaxed).is_null());
    }

    #[test]
    fn memory_is_aligned_zeroed_and_keeps_its_content() {
        let _one = ONE.lock().unwrap();
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
