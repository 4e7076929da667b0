#![forbid(unsafe_code)]
//! What the kernel needs for elements of sets, and whether it is there: a kernel without memory kills what it
//! can find, and stands still at last. Nothing is tried that cannot go well.

use super::change::BATCH;
use crate::ban::Shortage;
use crate::firewall::nft::ELEMENTS_MAX;
use crate::sys::memory;

/// Bytes that an address takes in a set of known size (measured: 75 to 104), and in one that grows, with a
/// timeout and a comment.
const HOST: u64 = 112;
const BAN: u64 = 224;
/// Bytes of a network or range, which is two elements (measured: 133 to 165, and newer kernels keep an array
/// beside).
const NETWORK: u64 = 208;
/// Bytes that are left alone: what the transactions need while somebody listens, and the rest of the machine.
const RESERVE: u64 = 8 << 20;
/// The same for bans, a few of which are to be made on the smallest machine.
const SPARE: u64 = 1 << 20;
/// The same for many bans: what else happens meanwhile.
const BESIDE: u64 = 4 << 20;
/// So many in one call of a command are many.
const BULK_MIN: u64 = 64;
/// A hash that grows gets a table of twice as many places, of 8 bytes each, when three quarters are taken: 21
/// bytes for each element, at once, beside the previous table. An element itself takes 64 bytes of the
/// kernel's objects or more: the next table takes a third of those at most, whatever else they are.
const NEXT_TABLE: u64 = 3;
/// Bytes that a listener costs for each element of a transaction.
const LISTENED: u64 = 8 << 10;
/// Part of the memory that one transaction may need while somebody listens.
const SHARE: u64 = 64;

/// What is missing for so many addresses and networks of a list.
///
/// # Errors
/// There is not enough memory for them.
pub fn for_list(hosts: u64, networks: u64) -> Result<(), Shortage> {
    fits(hosts * HOST + networks * NETWORK, memory::available())
}

/// Likewise for the next bans of a command that has made so many `before`: they are made some at a time.
///
/// # Errors
/// There is not enough memory for them.
pub fn for_bans(bans: u64, before: u64) -> Result<(), Shortage> {
    let reserve = reserve(before.saturating_add(bans), memory::objects().unwrap_or(0));
    fits_beside(reserve, bans * BAN + transaction(bans), memory::available())
}

/// What is left alone by so many bans in all, where the kernel's objects take `objects`.
fn reserve(bans: u64, objects: u64) -> u64 {
    if bans < BULK_MIN { SPARE } else { SPARE + BESIDE + objects / NEXT_TABLE }
}

/// Likewise for the end of bans, which takes memory only while it is under way.
///
/// # Errors
/// There is not enough memory for it.
pub fn for_liftings(bans: u64) -> Result<(), Shortage> {
    fits_beside(SPARE, transaction(bans), memory::available())
}

/// What somebody who listens makes of the transactions of so many bans.
fn transaction(bans: u64) -> u64 {
    bans.min(BATCH as u64) * LISTENED
}

fn fits(needed: u64, available: Option<u64>) -> Result<(), Shortage> {
    fits_beside(RESERVE, needed, available)
}

fn fits_beside(reserve: u64, needed: u64, available: Option<u64>) -> Result<(), Shortage> {
    // Where the kernel does not tell, it is tried.
    let Some(available) = available else { return Ok(()) };
    let free = available.saturating_sub(reserve);
    if needed <= free { Ok(()) } else { Err(Shortage { needed, free }) }
}

/// Elements of one transaction at most for a set of intervals that has `there` already: each transaction
/// costs a walk over all of it (Linux 6.18), so that large ones are filled in larger pieces where the memory
/// allows it.
pub(super) fn piece(there: u32, available: Option<u64>) -> u32 {
    let memory = u32::try_from(available.unwrap_or(0) / SHARE / LISTENED).unwrap_or(u32::MAX);
    (there / 128).min(memory).max(ELEMENTS_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_told_in_numbers() {
        let mb = |n: u64| Some(n << 20);
        assert_eq!(fits(0, mb(0)), Ok(()));
        assert_eq!(fits(u64::MAX, None), Ok(()));
        assert_eq!(fits(100 << 20, mb(108)), Ok(()));
        let short = fits(1_000_000 * HOST, mb(48)).unwrap_err();
        assert_eq!(short.to_string(), "the kernel needs 107 MB of memory for that, and 40 MB are free");
        assert_eq!(fits(1, mb(7)), Err(Shortage { needed: 1, free: 0 }));
        assert!(for_list(1, 1).is_ok() && for_list(1 << 40, 0).is_err() && for_bans(1 << 40, 0).is_err());
    }

    #[test]
    fn a_ban_needs_little_and_many_need_much() {
        for (bans, kb, fits) in [
            (1, 1024 + 8, false),
            (1, 1024 + 9, true),
            (512, 1024 + 2048 + 112, true),
            (512, 1024 + 2048 + 111, false),
            (1_000_000, 216_000, false),
            (1_000_000, 222_000, true),
        ] {
            let needed = bans * BAN + transaction(bans);
            assert_eq!(fits_beside(SPARE, needed, Some(kb << 10)).is_ok(), fits, "{bans} {kb}");
        }
        assert!(for_bans(1, 0).is_ok() && for_liftings(u64::MAX / LISTENED).is_ok());
    }

    #[test]
    fn many_bans_leave_room_for_the_table_of_the_hash_that_grows() {
        assert_eq!(reserve(1, 60 << 20), SPARE);
        assert_eq!(reserve(BULK_MIN, 60 << 20), (25 << 20));
        // However many there are when it grows: of a hash of 64 bytes an element.
        for elements in [196_608u64, 393_216, 786_432] {
            let table = (elements / 3 * 4 * 2).next_power_of_two() * 8;
            assert!(reserve(BULK_MIN, elements * 64) >= table, "{elements} {table}");
        }
    }

    #[test]
    fn transactions_are_short_where_memory_is() {
        let mb = |n: u64| Some(n << 20);
        for (there, available, want) in [
            (0, mb(24_000), ELEMENTS_MAX),
            (1_000_000, None, ELEMENTS_MAX),
            (1_000_000, mb(100), ELEMENTS_MAX),
            (100_000, mb(24_000), 781),
            (1_000_000, mb(24_000), 7812),
            (1_000_000, mb(1000), 2000),
        ] {
            assert_eq!(piece(there, available), want, "{there} {available:?}");
        }
    }
}
