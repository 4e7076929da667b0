//! Gives back memory that is not needed while a process waits: that of the program's own file, and of the
//! stack. Knows nothing of who calls it, or when.

#[cfg(target_pointer_width = "32")]
use libc::Elf32_Phdr as Header;
#[cfg(target_pointer_width = "64")]
use libc::Elf64_Phdr as Header;
use libc::{c_int, c_ulong, c_void};
use std::sync::atomic::{AtomicBool, Ordering};

/// Bytes that the kernel maps at most when a page of code is needed again. On a machine with larger
/// pages than this, nothing is cut.
const AREA: usize = 8 * 1024;
/// Whether the mappings have been cut: once is enough.
static CUT: AtomicBool = AtomicBool::new(false);

/// Below the frames of whoever calls [`stack`]: what the call itself needs.
const FRAMES: usize = 2 * 1024;
/// The unit in which memory is asked for; on a machine with larger pages the kernel refuses it.
const PAGE: usize = 4096;
/// Deepest use of the stack that is given back.
const DEPTH: usize = 512 * 1024;

/// Gives back what deeper calls have used of the stack. For the first thread: below its stack there is
/// nothing for a megabyte (the kernel's `stack_guard_gap`), so that nothing else is meant.
pub fn stack() {
    let here = 0u8;
    let top = (&raw const here).addr().saturating_sub(FRAMES);
    let end = top - top % PAGE;
    let start = end.saturating_sub(DEPTH);
    // SAFETY: memory below the frames that are in use holds nothing that anybody will read; it is zero at its
    // next use.
    unsafe { libc::madvise(std::ptr::without_provenance_mut(start), end - start, libc::MADV_DONTNEED) };
}

/// Unmaps the pages of code and constants that the start has touched. They stay in the page cache,
/// and what is needed again is mapped again at its first use, without reading the file.
///
/// For one needed page the kernel maps its neighbours too: 64 KiB, and since Linux 6.18 the whole
/// file if the page cache holds it in one piece, but never beyond a mapping's end. So the mapping
/// is cut into areas that differ in a flag without a meaning for us (whether a core dump has them).
///
/// To be called before a process begins to wait. A failure changes nothing and is not told.
pub fn drop_code_pages() {
    let at = reported(libc::AT_PHDR);
    if at == 0 {
        return;
    }
    let first = std::ptr::with_exposed_provenance::<Header>(at);
    // SAFETY: the kernel told where it has mapped the headers of the program, and how many there are; they
    // stay.
    let headers = unsafe { std::slice::from_raw_parts(first, reported(libc::AT_PHNUM)) };
    // A program that may be loaded anywhere says in a header of its own where the headers were meant to be.
    let own = headers.iter().find(|h| h.p_type == libc::PT_PHDR);
    let moved = own.map_or(0, |h| at.wrapping_sub(h.p_vaddr.try_into().unwrap_or(at)));
    let cut = !CUT.swap(true, Ordering::Relaxed);
    for header in headers.iter().filter(|h| h.p_type == libc::PT_LOAD && h.p_flags & libc::PF_W == 0) {
        let start = moved.wrapping_add(header.p_vaddr.try_into().unwrap_or(0));
        let end = start.saturating_add(header.p_memsz.try_into().unwrap_or(0));
        drop_pages(start, end, cut);
    }
}

/// What the kernel told the process at its start; 0 if it told nothing of the kind.
fn reported(what: c_ulong) -> usize {
    // SAFETY: takes a number and gives a number.
    usize::try_from(unsafe { libc::getauxval(what) }).unwrap_or(0)
}

/// For one of the program's segments that are not writable. Whole pages of the file are mapped for it.
fn drop_pages(start: usize, end: usize, cut: bool) {
    for at in (start.next_multiple_of(AREA)..end - end % AREA).step_by(2 * AREA).filter(|_| cut) {
        advise(at, AREA, libc::MADV_DONTDUMP);
    }
    let start = start - start % PAGE;
    advise(start, end.next_multiple_of(PAGE) - start, libc::MADV_DONTNEED);
}

fn advise(at: usize, len: usize, what: c_int) {
    let at = std::ptr::without_provenance_mut::<c_void>(at);
    // SAFETY: a private mapping of the program's file that is never written, so that what is
    // dropped comes back as it was. An empty range does nothing.
    unsafe { libc::madvise(at, len, what) };
}

#[cfg(test)]
mod tests {
    /// Resident kB of the mapped parts of this program's file, the writable ones left out.
    fn resident() -> u64 {
        let file = std::env::current_exe().unwrap();
        let (mut ours, mut sum) = (false, 0);
        for line in std::fs::read_to_string("/proc/self/smaps").unwrap().lines() {
            let mut words = line.split_whitespace();
            match (words.next().unwrap(), words.next()) {
                ("Rss:", Some(kb)) if ours => sum += kb.parse::<u64>().unwrap(),
                (head, Some(mode)) if !head.ends_with(':') => {
                    ours = line.ends_with(file.to_str().unwrap()) && !mode.contains('w');
                }
                _ => {}
            }
        }
        sum
    }

    #[test]
    fn code_goes_and_comes_back() {
        let words = || crate::base::diag::suggest("bantme", ["bantime", "findtime"]);
        let before = (words(), resident());
        super::drop_code_pages();
        let after = resident();
        assert!(after < before.1, "{after} kB are left of {}", before.1);
        assert_eq!(words(), before.0);
    }
}
