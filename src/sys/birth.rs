//! When a file was made. std does not ask with musl, nor does nix.

use super::clock;
use super::fs::c_path;
use std::path::Path;

/// `struct statx` of the kernel, the same on every machine: only two of its fields are read.
#[repr(C)]
struct Statx {
    /// STATX_*: what is told.
    mask: u32,
    /// From `stx_blksize` to `stx_atime`.
    _before: [u32; 19],
    /// `stx_btime`, in two parts.
    seconds: i64,
    nanoseconds: u32,
    /// To the end of the 256 bytes.
    _after: [u32; 41],
}

/// STATX_BTIME.
const BIRTH: u32 = 0x800;

/// When the file to which `path` leads was made, in nanoseconds since 1970; `None` where the file system or
/// the kernel (before 4.11) does not tell.
#[must_use]
pub fn born(path: &Path) -> Option<u64> {
    let path = c_path(path).ok()?;
    let mut facts = Statx { mask: 0, _before: [0; 19], seconds: 0, nanoseconds: 0, _after: [0; 41] };
    // SAFETY: the path ends with a NUL, and there is room for all that the kernel writes.
    let result =
        unsafe { libc::syscall(libc::SYS_statx, libc::AT_FDCWD, path.as_ptr(), 0, BIRTH, &raw mut facts) };
    let told = result == 0 && facts.mask & BIRTH != 0;
    told.then(|| clock::nanos(facts.seconds, facts.nanoseconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_writes_no_more_than_there_is_room_for() {
        assert_eq!(size_of::<Statx>(), 256);
        assert_eq!(std::mem::offset_of!(Statx, seconds), 80);
    }

    #[test]
    fn a_file_is_born_when_it_is_made_and_a_change_is_no_birth() {
        let path = std::env::temp_dir().join(format!("mef-born-{}", std::process::id()));
        let before = clock::wall_nanos() - 1_000_000_000;
        std::fs::write(&path, "x").unwrap();
        let first = born(&path);
        std::fs::write(&path, "y").unwrap();
        assert_eq!(first, born(&path));
        // File systems that do not tell are few, but there are some.
        assert!(first.is_none_or(|at| at > before && at <= clock::wall_nanos()));
        std::fs::remove_file(&path).unwrap();
        assert_eq!(born(&path), None);
    }
}
