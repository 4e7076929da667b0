//! Gives the memory of the program's own file back. Knows nothing of who calls it, or when.

use std::ffi::c_void;

unsafe extern "C" {
    /// Where the linker put the first byte of the program: headers, code, constants, in this order.
    safe static __executable_start: u8;
    /// The first byte behind them: what is writable begins here.
    safe static __preinit_array_start: u8;
}

/// Bytes that the kernel maps at most when a page of code is needed again. A multiple of every
/// architecture's page size up to 16 KiB; on larger ones `text` does nothing.
const AREA: usize = 16 * 1024;

/// Unmaps the pages of code and constants that the start has touched. They stay in the page cache,
/// and what is needed again is mapped again at its first use, without reading the file.
///
/// For one needed page the kernel maps its neighbours too: 64 KiB, and since Linux 6.18 the whole
/// file if the page cache holds it in one piece, but never beyond a mapping's end. So the mapping
/// is cut into areas that differ in a flag without a meaning for us (whether a core dump has them).
///
/// To be called once, before a process begins to wait. A failure changes nothing and is not told.
pub fn text() {
    let start = (&raw const __executable_start).addr();
    let end = (&raw const __preinit_array_start).addr();
    // Rounded inwards or left alone: the page in which the writable part begins is not ours.
    let (start, end) = (start.next_multiple_of(AREA), end - end % AREA);
    for at in (start..end).step_by(2 * AREA) {
        advise(at, AREA, libc::MADV_DONTDUMP);
    }
    advise(start, end.saturating_sub(start), libc::MADV_DONTNEED);
}

fn advise(at: usize, len: usize, what: libc::c_int) {
    let at = std::ptr::without_provenance_mut::<c_void>(at);
    // SAFETY: called with ranges of the program's code and constants only: private mappings of its
    // file that are never written, so that what is dropped comes back as it was. The kernel skips gaps.
    unsafe { libc::madvise(at, len, what) };
}

#[cfg(test)]
mod tests {
    /// Resident kB of the process, exactly.
    fn resident() -> u64 {
        let text = std::fs::read_to_string("/proc/self/smaps_rollup").unwrap();
        let line = text.lines().find(|line| line.starts_with("Rss:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }

    #[test]
    fn code_goes_and_comes_back() {
        let words = || crate::base::diag::suggest("bantme", ["bantime", "findtime"]);
        let before = (words(), resident());
        super::text();
        let after = resident();
        assert!(after < before.1, "{after} kB are left of {}", before.1);
        assert_eq!(words(), before.0);
    }
}
