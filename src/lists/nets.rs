#![forbid(unsafe_code)]
//! Networks in ascending order, joined where they meet or touch, out of a list that has them in any order and
//! is read again and again: each time the lowest of those that are left are picked. So memory does not grow
//! with the list. Knows no file and no kernel.

use crate::base::range::{Family, Range};
use ipnet::IpNet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Networks picked at once: a megabyte.
pub(super) const NETS_PER_PASS: usize = 64 * 1024;

/// A network as a number: the bits of its prefix from the highest on, and a 1 behind them.
type PackedNets = u128;

fn pack(net: &IpNet) -> PackedNets {
    let first = match net {
        IpNet::V4(n) => u128::from(u32::from(n.addr())) << 96,
        IpNet::V6(n) => u128::from(n.addr()),
    };
    first | 1u128.checked_shl(127u32.saturating_sub(net.prefix_len().into())).unwrap_or(0)
}

/// What puts them in order: first address, then length.
fn key(packed: PackedNets) -> (u128, u128) {
    (packed & packed.wrapping_sub(1), packed)
}

fn unpack(family: Family, packed: PackedNets) -> Option<Range> {
    let (first, _) = key(packed);
    let len = u8::try_from(127u32.checked_sub(packed.trailing_zeros())?).ok()?;
    let addr = match family {
        Family::V4 => IpAddr::V4(Ipv4Addr::from(u32::try_from(first >> 96).ok()?)),
        Family::V6 => IpAddr::V6(Ipv6Addr::from(first)),
    };
    IpNet::new(addr, len).ok().map(Range::from)
}

/// Gives all networks to what it is called with.
pub(super) type NetReader<'a, E> = &'a mut dyn FnMut(&mut dyn FnMut(IpNet)) -> Result<(), E>;

/// Calls `each` with the networks of a family, in order and joined, of which `held` are picked at once.
/// `read` gives all of them each time it is called.
///
/// # Errors
/// What `read` and `each` return.
pub(super) fn in_order<E>(
    family: Family,
    held: usize,
    read: NetReader<'_, E>,
    each: &mut dyn FnMut(&Range) -> Result<(), E>,
) -> Result<(), E> {
    // A heap: its first is its largest, and gives way to what is smaller.
    let mut heap: Vec<PackedNets> = Vec::with_capacity(held);
    let mut done: Option<PackedNets> = None;
    let mut open: Option<Range> = None;
    loop {
        heap.clear();
        read(&mut |net| {
            let packed = pack(&net);
            if done.is_none_or(|done| key(packed) > key(done)) {
                take(&mut heap, held, packed);
            }
        })?;
        let full = heap.len() == held;
        sort(&mut heap);
        done = heap.last().copied();
        for next in heap.iter().filter_map(|packed| unpack(family, *packed)) {
            let before = open.map(|open| (open, open.joined(&next)));
            open = Some(match before {
                Some((_, Some(joined))) => joined,
                Some((before, None)) => {
                    each(&before)?;
                    next
                }
                None => next,
            });
        }
        if !full {
            return open.map_or(Ok(()), |last| each(&last));
        }
    }
}

fn take(heap: &mut Vec<PackedNets>, held: usize, packed: PackedNets) {
    if heap.len() < held {
        heap.push(packed);
        let mut at = heap.len() - 1;
        while at > 0 && less(heap, (at - 1) / 2, at) {
            heap.swap(at, (at - 1) / 2);
            at = (at - 1) / 2;
        }
    } else if let Some(first) = heap.first_mut().filter(|first| key(packed) < key(**first)) {
        *first = packed;
        sink(heap);
    }
}

/// Whether one is before another; not if that is not there.
fn less(heap: &[PackedNets], one: usize, other: usize) -> bool {
    heap.get(other).is_some_and(|other| heap.get(one).is_none_or(|one| key(*one) < key(*other)))
}

/// Moves the first down to its place.
fn sink(heap: &mut [PackedNets]) {
    let mut at = 0;
    loop {
        let (left, right) = (2 * at + 1, 2 * at + 2);
        let larger = if less(heap, left, right) { right } else { left };
        if !less(heap, at, larger) {
            return;
        }
        heap.swap(at, larger);
        at = larger;
    }
}

/// A heap becomes a sorted list, the smallest first.
fn sort(heap: &mut [PackedNets]) {
    for end in (1..heap.len()).rev() {
        heap.swap(0, end);
        if let Some(rest) = heap.get_mut(..end) {
            sink(rest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::range::merge;

    #[test]
    fn any_order_any_overlap_and_little_room_make_the_same_as_a_sort() {
        let mut rng = fastrand::Rng::with_seed(9);
        for round in 0..300 {
            let family = if rng.bool() { Family::V4 } else { Family::V6 };
            let nets: Vec<IpNet> = (0..rng.usize(..200))
                .map(|_| match family {
                    Family::V4 => {
                        let addr = Ipv4Addr::new(rng.u8(8..12), rng.u8(..4), rng.u8(..), rng.u8(..));
                        IpNet::new(addr.into(), rng.u8(8..32)).unwrap().trunc()
                    }
                    Family::V6 => {
                        let addr = Ipv6Addr::from(u128::from(rng.u16(..)) << rng.u8(..112));
                        IpNet::new(addr.into(), rng.u8(16..128)).unwrap().trunc()
                    }
                })
                .collect();
            let mut want: Vec<Range> = nets.iter().copied().map(Range::from).collect();
            merge(&mut want);
            let held = rng.usize(1..300);
            let (mut got, mut passes) = (Vec::new(), 0);
            let result: Result<(), ()> = in_order(
                family,
                held,
                &mut |each| {
                    passes += 1;
                    nets.iter().for_each(|net| each(*net));
                    Ok(())
                },
                &mut |range| {
                    got.push(*range);
                    Ok(())
                },
            );
            assert_eq!((result, got), (Ok(()), want), "round {round}, {held} of {nets:?}");
            assert!(passes <= nets.len() / held + 1);
        }
    }

    #[test]
    fn errors_end_it() {
        let net: IpNet = "10.0.0.0/8".parse().unwrap();
        let mut give = |each: &mut dyn FnMut(IpNet)| {
            each(net);
            Ok(())
        };
        assert_eq!(in_order(Family::V4, 8, &mut give, &mut |_| Err("full")), Err("full"));
        assert_eq!(in_order(Family::V4, 8, &mut |_| Err("gone"), &mut |_| Ok(())), Err("gone"));
    }
}
