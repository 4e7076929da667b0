//! The C library's allocator as the program's own, and a place apart for what passes. std's way to the C
//! library's brings along what alignments of more than 16 bytes take, 1 kB: nothing in mef has one.
//!
//! What reading the configuration takes lives among what the daemon keeps: when it is gone, holes are left in
//! pages that stay. So it is put where nothing else is, and the whole of that goes back to the system at
//! once.
//!
//! Two processes of which one was forked from the other have their pages together until one writes to them:
//! from the fork on both put new blocks into pages of their own. Such a page stays when all in it has come
//! back, for the next blocks of its sizes.
//!
//! | when | new blocks | what was there before the fork |
//! | --- | --- | --- |
//! | before any fork | the C library's | |
//! | forked ([`start_afresh`]) | apart | stays as it is when it is given back |
//! | much of that comes back ([`reuse_blocks`]) | apart | is the C library's again |
//! | all is made anew ([`share_no_more`]) | the C library's | is the C library's again |
//!
//! What a parent had put apart when it forked nobody in the child gives back, whatever follows.

mod fresh;

use fresh::{FreshHeap, LARGE};
use libc::c_void;
use std::alloc::{GlobalAlloc, Layout};
use std::ptr::null_mut;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicUsize, Ordering::Relaxed};

/// `malloc` and its like, the place apart for what [`with_arena`] does, and what [`start_afresh`] begins.
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

static FRESH: FreshHeap = FreshHeap::new();

/// Which of the two processes after a fork.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum ForkSide {
    /// The one that was there before.
    Parent,
    /// The new one.
    Child,
}

/// Whether blocks of before [`start_afresh`] stay as they are when they are given back, so that their pages
/// are those of both processes.
static LEAVES: AtomicBool = AtomicBool::new(false);

/// Puts what is asked for from now on where nothing else is, and leaves all that is there as it is. A parent
/// does that once, however many it forks, and after [`share_no_more`]; a child once, whatever its parent did.
/// For a process with one thread.
pub fn start_afresh(side: ForkSide) {
    if side == ForkSide::Parent && FRESH.is_open() {
        if FRESH.reopen() {
            LEAVES.store(true, Relaxed);
        }
        return;
    }
    if FRESH.begin() {
        LEAVES.store(true, Relaxed);
    } else {
        log::debug!("no room for blocks apart: two processes use more memory");
    }
}

/// What was there before [`start_afresh`] is used again when it is given back: there is much of it now. But
/// not what a parent had begun: see [`FreshHeap::had`].
pub fn reuse_blocks() {
    LEAVES.store(false, Relaxed);
}

/// All that two processes have together is made anew in each: from here on this one is as if it had never
/// forked, until it does.
pub fn share_no_more() {
    reuse_blocks();
    FRESH.close();
}

/// Memory of our own, of which pages are made when they are written to; or null.
fn map(size: usize) -> *mut u8 {
    let (rights, kind) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
    // SAFETY: asks for memory of its own, and touches none that is there.
    let got = unsafe { libc::mmap(null_mut(), size, rights, kind | libc::MAP_NORESERVE, -1, 0) };
    if got == libc::MAP_FAILED {
        return null_mut();
    }
    // Where the kernel gives huge pages to whom it likes, the first byte would take two megabytes.
    // SAFETY: the mapping is ours, and nobody has it yet. A kernel without them refuses, which is as good.
    unsafe { libc::madvise(got, size, libc::MADV_NOHUGEPAGE) };
    got.cast()
}

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
            start = map(ARENA_SIZE);
            if start.is_null() {
                return null_mut();
            }
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

// SAFETY: what `malloc`, `calloc`, the place apart and the fresh heap give is free memory of the size asked
// for, aligned to ALIGN; more is refused. Each block goes back to where it came from, which its address
// tells, or to nobody: that of a heap which was begun before the one that is used is known by its address,
// too, so that no other than the C library's blocks go to the C library, whatever LEAVES says. Nothing here
// panics.
unsafe impl GlobalAlloc for Malloc {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if !aligned(layout) {
            return null_mut();
        }
        let ours = Malloc::take(layout.size());
        if !ours.is_null() {
            return ours;
        }
        // SAFETY: takes a number.
        unsafe { libc::malloc(layout.size()) }.cast()
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        if !aligned(layout) {
            return null_mut();
        }
        let ours = Malloc::take(layout.size());
        if !ours.is_null() {
            // SAFETY: the block is new, and has this size.
            unsafe { ours.write_bytes(0, layout.size()) };
            return ours;
        }
        // SAFETY: takes numbers.
        unsafe { libc::calloc(layout.size(), 1) }.cast()
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        if let Some(at) = ARENA.place(memory) {
            ARENA.give_back(at, layout.size());
        } else if FRESH.holds(memory) {
            // SAFETY: the caller has it from there, for so many bytes.
            unsafe { FRESH.give_back(memory, layout.size()) }
        } else if !FRESH.had(memory) && !Malloc::leaves(layout.size()) {
            // SAFETY: the caller has it from one of these functions, and from none of the places above.
            unsafe { libc::free(memory.cast::<c_void>()) }
        }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        let is_large = layout.size() > LARGE && size > LARGE;
        let is_c = || !FRESH.holds(memory) && !FRESH.had(memory);
        match ARENA.place(memory) {
            Some(at) if ARENA.fit(at, layout.size(), size) => return memory,
            None if FRESH.holds(memory) && FreshHeap::fits(layout.size(), size) => return memory,
            None if is_large || !FRESH.gives() && is_c() => {
                // SAFETY: the caller has it from the C library, with an alignment that all memory has.
                return unsafe { libc::realloc(memory.cast::<c_void>(), size) }.cast();
            }
            _ => {}
        }
        let Ok(wanted) = Layout::from_size_align(size, layout.align()) else { return null_mut() };
        // SAFETY: a caller never asks for no bytes.
        let new = unsafe { self.alloc(wanted) };
        if !new.is_null() {
            // SAFETY: both blocks have as many bytes, and the new one is nobody else's.
            unsafe { memory.copy_to_nonoverlapping(new, layout.size().min(size)) };
            // SAFETY: the caller's block, which is not used again.
            unsafe { self.dealloc(memory, layout) };
        }
        new
    }
}

impl Malloc {
    /// A block of what is ours; null: it is the C library's to give one.
    fn take(size: usize) -> *mut u8 {
        let apart = ARENA.take(size);
        if !apart.is_null() {
            return apart;
        }
        let fresh = FRESH.take(size);
        // It is full: what the C library gives from here on has to come back to it.
        if fresh.is_null() && size <= LARGE && FRESH.gives() {
            LEAVES.store(false, Relaxed);
        }
        fresh
    }

    /// Whether a block of the C library stays where it is. Large ones go back: most have pages of their own.
    fn leaves(size: usize) -> bool {
        LEAVES.load(Relaxed) && size <= LARGE
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

    /// Every block that there is room for, of the largest size; none is written to.
    fn fill() -> Vec<(*mut u8, Layout)> {
        let layout = Layout::from_size_align(LARGE, 8).unwrap();
        // SAFETY: the layout has a size.
        let blocks = std::iter::repeat_with(|| (unsafe { Malloc.alloc(layout) }, layout));
        let mut blocks: Vec<_> = blocks.take_while(|block| FRESH.holds(block.0)).collect();
        blocks.shrink_to_fit();
        blocks
    }

    #[test]
    fn from_a_fork_on_new_blocks_are_apart_and_those_of_before_stay_as_they_are() {
        let _one = ONE.lock().unwrap();
        let (old, kept, large) = (block(100, 1), block(300, 2), block(LARGE + 1, 3));
        start_afresh(ForkSide::Child);
        let new = block(100, 4);
        assert!(FRESH.holds(new.0) && ![old, kept, large].iter().any(|block| FRESH.holds(block.0)));
        // What grows moves, and leaves behind what it was.
        let grown = resized(old, 5000);
        assert!(FRESH.holds(grown.0) && holds((grown.0, old.1), 1) && holds(old, 1));
        drop_block(kept);
        assert!(holds(kept, 2));
        // What has pages of its own is the C library's.
        let large = resized(large, 3 * LARGE);
        assert!(!FRESH.holds(large.0) && holds((large.0, Layout::from_size_align(LARGE, 8).unwrap()), 3));
        let small = resized(large, 50);
        assert!(FRESH.holds(small.0) && holds(small, 3));
        // A parent begins once; a child each time.
        start_afresh(ForkSide::Parent);
        assert!(FRESH.holds(new.0) && holds(new, 4));
        let apart = with_arena(|| block(10, 5));
        assert!(!FRESH.holds(apart.0));
        [new, grown, small, apart].into_iter().for_each(drop_block);
        let of_parent = block(200, 6);
        start_afresh(ForkSide::Child);
        assert!(!FRESH.holds(new.0) && Malloc::leaves(100));
        // What the parent had begun is nobody's to give back; what the C library gave is, from here on.
        reuse_blocks();
        assert!(FRESH.had(of_parent.0) && !FRESH.had(old.0) && !Malloc::leaves(100));
        drop_block(of_parent);
        assert!(holds(of_parent, 6));
        let moved = resized(of_parent, 5000);
        assert!(FRESH.holds(moved.0) && holds((moved.0, of_parent.1), 6));
        drop_block(moved);
        // A child of a child goes on with the heap that it has.
        let kept = block(100, 7);
        start_afresh(ForkSide::Child);
        assert!(FRESH.holds(kept.0) && FRESH.had(of_parent.0));
        // When it is full, what comes instead goes back where it came from.
        LEAVES.store(true, Relaxed);
        let all = fill();
        assert!(all.len() > 100 && !Malloc::leaves(100));
        let beyond = block(LARGE, 8);
        assert!(!FRESH.holds(beyond.0) && holds(beyond, 8));
        [beyond, kept].into_iter().chain(all).for_each(drop_block);
        shares_no_more_until_the_next_fork();
    }

    /// A part of the above: a process begins one such place, and one as a child.
    fn shares_no_more_until_the_next_fork() {
        let apart = [block(100, 1), block(300, 2)];
        share_no_more();
        let new = block(100, 3);
        assert!(!FRESH.holds(new.0) && !Malloc::leaves(100));
        // What grows leaves the place apart, and what is not there grows where it is.
        let grown = [resized(apart[1], 5000), resized(new, 5000)];
        assert!(!grown.iter().any(|block| FRESH.holds(block.0)));
        assert!(holds((grown[0].0, apart[1].1), 2) && holds((grown[1].0, new.1), 3));
        start_afresh(ForkSide::Parent);
        let again = block(300, 4);
        assert!(Malloc::leaves(100) && again.0 == apart[1].0, "what came back is given again");
        assert!(holds(apart[0], 1) && holds(again, 4));
        reuse_blocks();
        [apart[0], again].into_iter().chain(grown).for_each(drop_block);
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
