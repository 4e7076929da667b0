//! What root may do is 41 single rights: keeps some of them and gives up the others for good. Knows nothing
//! of what they are needed for.

use nix::errno::Errno;
use std::ffi::c_ulong;

/// One right, by the kernel's number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capability {
    number: u32,
    /// As capabilities(7) has it, without `CAP_`, in small letters.
    pub name: &'static str,
}

const fn capability(number: u32, name: &'static str) -> Capability {
    Capability { number, name }
}

/// Read any file, look into any directory.
pub const DAC_READ_SEARCH: Capability = capability(2, "dac_read_search");
/// Bind a port below 1024.
pub const NET_BIND_SERVICE: Capability = capability(10, "net_bind_service");
/// Change the firewall of this network namespace, end connections.
pub const NET_ADMIN: Capability = capability(12, "net_admin");
/// Read the kernel's log.
pub const SYSLOG: Capability = capability(34, "syslog");

/// The kernel has no capability with a larger number yet: the highest that a 64-bit mask has room for.
const LAST: c_ulong = 63;
/// `_LINUX_CAPABILITY_VERSION_3`
const VERSION: u32 = 0x2008_0522;

/// Sets as capget(2) and capset(2) have them: the low words of all, then the high words.
#[repr(C)]
#[derive(Default, Clone, Copy, PartialEq, Eq)]
struct CapabilityWords {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

#[repr(C)]
struct SetsHeader {
    version: u32,
    pid: i32,
}

/// Gives up all capabilities but these, of which those are kept that this process has. Nothing is inheritable
/// or ambient afterwards.
///
/// # Errors
/// What the system says.
pub fn keep_only(kept: &[Capability]) -> Result<(), Errno> {
    let before = get()?;
    let mut sets = before;
    for (half, words) in (0..).zip(&mut sets) {
        let mask =
            kept.iter().filter(|c| c.number / 32 == half).fold(0, |mask, c| mask | 1 << (c.number % 32));
        words.permitted &= mask;
        words.effective = words.permitted;
        words.inheritable = 0;
    }
    // A service manager may have refused the call itself, and taken away the rest.
    if sets == before {
        return Ok(());
    }
    let mut header = SetsHeader { version: VERSION, pid: 0 };
    // SAFETY: the header and the two elements that this version has are read.
    Errno::result(unsafe { libc::syscall(libc::SYS_capset, &raw mut header, sets.as_ptr()) }).map(drop)
}

/// Gives up what a command does not need that only reads, and what a program that it starts could gain.
/// Whoever cannot has nothing to give up, or a kernel that knows none of this.
pub fn give_up_all_but(kept: &[Capability]) {
    let _ = empty_bounding_set();
    let _ = keep_only(kept);
    let _ = nix::sys::prctl::set_no_new_privs();
}

/// Whether this process has it.
#[must_use]
pub fn has(one: Capability) -> bool {
    let half = usize::try_from(one.number / 32).unwrap_or(0);
    get().is_ok_and(|sets| sets.get(half).is_some_and(|words| words.effective >> (one.number % 32) & 1 == 1))
}

fn get() -> Result<[CapabilityWords; 2], Errno> {
    let mut sets = [CapabilityWords::default(); 2];
    let mut header = SetsHeader { version: VERSION, pid: 0 };
    // SAFETY: the header is read, and the two elements that this version has are filled.
    Errno::result(unsafe { libc::syscall(libc::SYS_capget, &raw mut header, sets.as_mut_ptr()) })?;
    Ok(sets)
}

/// Empties the set that bounds what any program started from here can ever have. Whether nothing is left in
/// it: without CAP_SETPCAP it stays as it is.
#[must_use]
pub fn empty_bounding_set() -> bool {
    let mut left = false;
    for number in 0..=LAST {
        // SAFETY: no memory is involved.
        let dropped = unsafe { libc::prctl(libc::PR_CAPBSET_DROP, number, 0, 0, 0) } == 0;
        // SAFETY: as above. A number that the kernel does not have is no member.
        left |= !dropped && unsafe { libc::prctl(libc::PR_CAPBSET_READ, number, 0, 0, 0) } == 1;
    }
    !left
}
