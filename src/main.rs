//! The entry point: the library decides, this file only passes the arguments and the exit status.
#![no_main]

use mef::sys::alloc::Malloc;
use std::ffi::{c_char, c_int};

#[global_allocator]
static MALLOC: Malloc = Malloc;

/// What the C library calls; see `mef::sys::start` for why it is not std.
#[unsafe(no_mangle)]
extern "C" fn main(count: c_int, words: *const *const c_char) -> c_int {
    // SAFETY: they are what the C library passes.
    let words = unsafe { mef::sys::start::begin(count, words) };
    mef::applet::main(&words).into()
}
