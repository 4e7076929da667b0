//! How soon this process runs when it is woken on a machine that is busy.

use libc::{c_long, sched_attr};

/// Nanoseconds that it asks for at a time, the least that the kernel takes: whoever asks for little goes
/// before others who run, and gets no more of the processor for it.
const SLICE: u64 = 100_000;
/// Of this process, and without flags.
const NONE: c_long = 0;

/// Asks for short slices of the processor (sched_setattr(2), `sched_runtime`), for this process and for those
/// that it starts. Kernels before 6.12 take no notice; whoever was given another policy than the usual one
/// keeps that.
pub fn ask_for_short_slices() {
    let size = const { size_of::<sched_attr>() };
    // SAFETY: the structure has numbers alone, of which all may be zero.
    let mut attributes: sched_attr = unsafe { std::mem::zeroed() };
    // SAFETY: the system call writes `size` bytes at most, into a structure of that size.
    let got = unsafe { libc::syscall(libc::SYS_sched_getattr, NONE, &raw mut attributes, size, NONE) };
    if got != 0 || attributes.sched_policy != libc::SCHED_OTHER.unsigned_abs() {
        return;
    }
    attributes.sched_runtime = SLICE;
    // SAFETY: the system call reads as many bytes as the structure says it has, which it does have.
    unsafe { libc::syscall(libc::SYS_sched_setattr, NONE, &raw const attributes, NONE) };
}
