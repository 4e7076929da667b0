//! Random numbers of the kernel, for keys that nobody may guess.

/// A secret for keyed hashes. Before the kernel has gathered randomness (the first seconds after a boot on a
/// device without a clock) it waits.
#[must_use]
pub fn key() -> [u64; 2] {
    let mut bytes = [0u8; 16];
    let mut filled = 0;
    while let Some(rest) = bytes.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        // SAFETY: `rest` is valid for writes of its length until the call returns.
        let got = unsafe { libc::getrandom(rest.as_mut_ptr().cast(), rest.len(), 0) };
        // Only EINTR is possible: the kernel has had this call since 3.17.
        filled += usize::try_from(got).unwrap_or(0);
    }
    let [a, b, c, d, e, f, g, h, rest @ ..] = bytes;
    [u64::from_ne_bytes([a, b, c, d, e, f, g, h]), u64::from_ne_bytes(rest)]
}
