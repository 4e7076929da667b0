#![forbid(unsafe_code)]
//! Ranges of addresses of one family as numbers: what interval sets hold and what is cut out of them.

use super::net::canonical;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The family of an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Family {
    /// IPv4
    V4,
    /// IPv6
    V6,
}

impl Family {
    /// Both, in the order in which they are shown.
    pub const ALL: [Family; 2] = [Family::V4, Family::V6];

    /// Bytes of an address.
    #[must_use]
    pub const fn bytes(self) -> usize {
        match self {
            Family::V4 => 4,
            Family::V6 => 16,
        }
    }

    /// The family of an address.
    #[must_use]
    pub const fn of(addr: &IpAddr) -> Family {
        match addr {
            IpAddr::V4(_) => Family::V4,
            IpAddr::V6(_) => Family::V6,
        }
    }

    const fn bits(self) -> u32 {
        match self {
            Family::V4 => 32,
            Family::V6 => 128,
        }
    }

    const fn max(self) -> u128 {
        match self {
            Family::V4 => u32::MAX as u128,
            Family::V6 => u128::MAX,
        }
    }
}

/// From one address to another of the same family, both included.
/// Packed, since large rule sets keep ten thousand of them: 40 bytes in place of 48.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(Rust, packed(8))]
pub struct Range {
    family: Family,
    first: u128,
    last: u128,
}

/// An address as a set key: its bytes in network order.
#[derive(Clone, Copy)]
pub struct AddrKey([u8; 16], usize);

impl AddrKey {
    /// The bytes that the kernel compares.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        self.0.get(..self.1).unwrap_or_default()
    }
}

fn number(addr: IpAddr) -> u128 {
    match addr {
        IpAddr::V4(a) => u128::from(u32::from(a)),
        IpAddr::V6(a) => u128::from(a),
    }
}

fn address(family: Family, n: u128) -> IpAddr {
    match family {
        Family::V4 => IpAddr::V4(Ipv4Addr::from(u32::try_from(n).unwrap_or(u32::MAX))),
        Family::V6 => IpAddr::V6(Ipv6Addr::from(n)),
    }
}

impl Range {
    /// Every IPv4 address.
    pub const EVERYBODY_V4: Range = Range { family: Family::V4, first: 0, last: Family::V4.max() };
    /// Every IPv6 address.
    pub const EVERYBODY_V6: Range = Range { family: Family::V6, first: 0, last: Family::V6.max() };

    /// From `first` to `last`; `None` if they are of two families or in the wrong order.
    #[must_use]
    pub fn new(first: IpAddr, last: IpAddr) -> Option<Range> {
        let family = Family::of(&first);
        let range = Range { family, first: number(first), last: number(last) };
        (family == Family::of(&last) && range.first <= range.last).then_some(range)
    }

    /// The range that two keys of an interval set enclose: `end` is the first key behind it.
    #[must_use]
    pub fn from_keys(first: &[u8], end: Option<&[u8]>) -> Option<Range> {
        let (family, first) = read_key(first)?;
        let last = match end {
            Some(end) => read_key(end)?.1.checked_sub(1)?,
            None => family.max(),
        };
        (first <= last).then_some(Range { family, first, last })
    }

    /// The one address that a key of a hash set is.
    #[must_use]
    pub fn from_key(key: &[u8]) -> Option<Range> {
        let (family, n) = read_key(key)?;
        Some(Range { family, first: n, last: n })
    }

    /// A part of ::ffff:0:0/96 is the IPv4 range that it means; everything else stays.
    #[must_use]
    pub fn canonical(self) -> Range {
        Range::new(canonical(self.first()), canonical(self.last())).unwrap_or(self)
    }

    /// IPv4 or IPv6.
    #[must_use]
    pub fn family(&self) -> Family {
        self.family
    }

    /// The first address.
    #[must_use]
    pub fn first(&self) -> IpAddr {
        address(self.family, self.first)
    }

    /// The last address.
    #[must_use]
    pub fn last(&self) -> IpAddr {
        address(self.family, self.last)
    }

    /// The first and the last address as numbers.
    #[must_use]
    pub fn numbers(&self) -> (u128, u128) {
        (self.first, self.last)
    }

    /// The addresses of a family from one number to another; `None` if there are no such.
    #[must_use]
    pub fn of_numbers(family: Family, (first, last): (u128, u128)) -> Option<Range> {
        (first <= last && last <= family.max()).then_some(Range { family, first, last })
    }

    /// The first address as a set key.
    #[must_use]
    pub fn key(&self) -> AddrKey {
        write_key(self.family, self.first)
    }

    /// The first key behind the range, `None` if it reaches the last address.
    #[must_use]
    pub fn end_key(&self) -> Option<AddrKey> {
        (self.last < self.family.max()).then(|| write_key(self.family, self.last + 1))
    }

    /// Whether the two have an address in common.
    #[must_use]
    pub fn meets(&self, other: &Range) -> bool {
        self.family == other.family && self.first <= other.last && other.first <= self.last
    }

    /// Whether every address of `other` is in this range.
    #[must_use]
    pub fn covers(&self, other: &Range) -> bool {
        self.family == other.family && self.first <= other.first && other.last <= self.last
    }

    /// Both as one range, if `next`, which does not begin earlier, meets or touches this one.
    #[must_use]
    pub fn joined(&self, next: &Range) -> Option<Range> {
        let joins = self.family == next.family && next.first <= self.last.saturating_add(1);
        joins.then(|| Range { last: self.last.max(next.last), ..*self })
    }

    /// The addresses that are in both.
    #[must_use]
    pub fn common(&self, other: &Range) -> Option<Range> {
        let (first, last) = (self.first.max(other.first), self.last.min(other.last));
        self.meets(other).then_some(Range { first, last, ..*self })
    }

    /// What is left of this range without `other`: the parts before and behind it.
    #[must_use]
    pub fn without(&self, other: &Range) -> [Option<Range>; 2] {
        if !self.meets(other) {
            return [Some(*self), None];
        }
        let before = (self.first < other.first).then(|| Range { last: other.first.wrapping_sub(1), ..*self });
        let behind = (self.last > other.last).then(|| Range { first: other.last.wrapping_add(1), ..*self });
        [before, behind]
    }

    /// The network that is exactly this range, if there is one.
    #[must_use]
    pub fn as_net(&self) -> Option<IpNet> {
        let size = self.last - self.first;
        let bits = u8::try_from(u128::BITS - size.leading_zeros()).ok()?;
        if size & size.wrapping_add(1) != 0 || self.first & size != 0 {
            return None;
        }
        match self.first() {
            IpAddr::V4(a) => Ipv4Net::new(a, 32 - bits).ok().map(IpNet::V4),
            IpAddr::V6(a) => Ipv6Net::new(a, 128 - bits).ok().map(IpNet::V6),
        }
    }

    /// The fewest networks that together are this range, in ascending order.
    pub fn nets(self) -> impl Iterator<Item = IpNet> {
        let mut rest = Some(self);
        std::iter::from_fn(move || {
            let whole = rest?;
            // The largest aligned block that begins here and does not go beyond the end.
            let bits = (0..=whole.family.bits())
                .rev()
                .map(|bits| u128::MAX.checked_shr(u128::BITS - bits).unwrap_or(0))
                .find(|&size| whole.first & size == 0 && size <= whole.last - whole.first)?;
            let block = Range { last: whole.first + bits, ..whole };
            [rest, _] = match whole.without(&block) {
                [None, behind] => [behind, None],
                parts => parts,
            };
            block.as_net()
        })
    }
}

impl From<IpNet> for Range {
    fn from(net: IpNet) -> Range {
        Range {
            family: Family::of(&net.network()),
            first: number(net.network()),
            last: number(net.broadcast()),
        }
    }
}

impl From<IpAddr> for Range {
    fn from(addr: IpAddr) -> Range {
        Range { family: Family::of(&addr), first: number(addr), last: number(addr) }
    }
}

impl std::fmt::Display for Range {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.as_net() {
            Some(net) => super::net::write_net(f, net),
            None => write!(f, "{}-{}", self.first(), self.last()),
        }
    }
}

/// Sorts ranges and joins those that meet or touch, in place.
pub fn merge(ranges: &mut Vec<Range>) {
    ranges.sort_unstable();
    ranges.dedup_by(|next, kept| {
        let joined = kept.joined(next);
        joined.into_iter().for_each(|joined| *kept = joined);
        joined.is_some()
    });
}

/// Whether a sorted, merged list has an address of the range.
#[must_use]
pub fn any_meets(list: &[Range], range: &Range) -> bool {
    let after = list.partition_point(|r| r < range);
    let near = [after.checked_sub(1), Some(after)];
    near.into_iter().flatten().filter_map(|i| list.get(i)).any(|r| r.meets(range))
}

/// Whether a sorted, merged list has every address of the range.
#[must_use]
pub fn covers(list: &[Range], range: &Range) -> bool {
    let behind = list
        .partition_point(|r| r.family < range.family || r.family == range.family && r.first <= range.first);
    behind.checked_sub(1).and_then(|at| list.get(at)).is_some_and(|r| r.covers(range))
}

/// What is left of a range without all that a sorted, merged list has.
#[must_use]
pub fn split(range: &Range, list: &[Range]) -> Vec<Range> {
    let from =
        list.partition_point(|r| r.family < range.family || r.family == range.family && r.last < range.first);
    let mut parts = Vec::new();
    let mut rest = Some(*range);
    for other in list.iter().skip(from).take_while(|other| other.meets(range)) {
        let [before, behind] = rest.map_or([None, None], |rest| rest.without(other));
        parts.extend(before);
        rest = behind;
    }
    parts.extend(rest);
    parts
}

fn read_key(bytes: &[u8]) -> Option<(Family, u128)> {
    if let Ok(v4) = <[u8; 4]>::try_from(bytes) {
        return Some((Family::V4, u128::from(u32::from_be_bytes(v4))));
    }
    Some((Family::V6, u128::from_be_bytes(bytes.try_into().ok()?)))
}

fn write_key(family: Family, n: u128) -> AddrKey {
    let mut key = n.to_be_bytes();
    key.rotate_left(16 - family.bytes());
    AddrKey(key, family.bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(first: &str, last: &str) -> Range {
        Range::new(first.parse().unwrap(), last.parse().unwrap()).unwrap()
    }

    #[test]
    fn ranges_print_as_networks_where_they_are() {
        let cases = [
            ("192.0.2.0", "192.0.2.255", "192.0.2.0/24"),
            ("192.0.2.7", "192.0.2.7", "192.0.2.7"),
            ("192.0.2.7", "192.0.2.8", "192.0.2.7-192.0.2.8"),
            ("0.0.0.0", "255.255.255.255", "0.0.0.0/0"),
            ("::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "::/0"),
            ("2001:db8::", "2001:db8::ffff:ffff:ffff:ffff", "2001:db8::/64"),
            ("2001:db8::1", "2001:db8::1", "2001:db8::1"),
        ];
        for (first, last, want) in cases {
            assert_eq!(range(first, last).to_string(), want);
        }
        assert!(Range::new("1.1.1.2".parse().unwrap(), "1.1.1.1".parse().unwrap()).is_none());
        assert!(Range::new("1.1.1.2".parse().unwrap(), "::1".parse().unwrap()).is_none());
    }

    #[test]
    fn ranges_are_made_of_networks() {
        let cases = [
            ("192.0.2.1", "192.0.2.6", "192.0.2.1 192.0.2.2/31 192.0.2.4/31 192.0.2.6"),
            ("0.0.0.0", "255.255.255.255", "0.0.0.0/0"),
            ("255.255.255.254", "255.255.255.255", "255.255.255.254/31"),
            ("::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "::/0"),
            ("2001:db8::f", "2001:db8::10", "2001:db8::f 2001:db8::10"),
        ];
        for (first, last, want) in cases {
            let nets: Vec<String> = range(first, last).nets().map(|n| Range::from(n).to_string()).collect();
            assert_eq!(nets.join(" "), want);
        }
    }

    #[test]
    fn keys_go_to_the_kernel_and_back() {
        for r in [range("0.0.0.0", "255.255.255.255"), range("1.2.3.4", "1.2.3.9"), range("::1", "::2:0")] {
            let end = r.end_key();
            assert_eq!(Range::from_keys(r.key().bytes(), end.as_ref().map(AddrKey::bytes)), Some(r));
        }
        assert_eq!(range("1.2.3.4", "1.2.3.4").key().bytes(), [1, 2, 3, 4]);
        assert_eq!(Range::from_keys(&[1, 2, 3], None), None);
        assert_eq!(Range::from_keys(&[1, 2, 3, 4], Some(&[0, 0, 0, 0])), None);
    }

    #[test]
    fn cutting_and_merging_agree_with_sets_of_addresses() {
        let mut rng = fastrand::Rng::with_seed(3);
        let pick = |rng: &mut fastrand::Rng| {
            let (a, b) = (rng.u8(..), rng.u8(..));
            range(&format!("10.0.0.{}", a.min(b)), &format!("10.0.0.{}", a.max(b)))
        };
        let members = |rs: &[Range]| -> Vec<u8> {
            (0..=255u8)
                .filter(|&n| {
                    rs.iter().any(|r| r.covers(&range(&format!("10.0.0.{n}"), &format!("10.0.0.{n}"))))
                })
                .collect()
        };
        for _ in 0..40 {
            let (a, b) = (pick(&mut rng), pick(&mut rng));
            let rest: Vec<Range> = a.without(&b).into_iter().flatten().collect();
            let want: Vec<u8> = members(&[a]).into_iter().filter(|n| !members(&[b]).contains(n)).collect();
            assert_eq!(members(&rest), want, "{a} without {b}");
            let mut all: Vec<Range> = (0..rng.usize(0..8)).map(|_| pick(&mut rng)).collect();
            let before = members(&all);
            merge(&mut all);
            assert_eq!(members(&all), before);
            assert!(all.windows(2).all(|w| w[0].last + 1 < w[1].first), "{all:?} still touch");
            let want: Vec<u8> = members(&[a]).into_iter().filter(|n| !before.contains(n)).collect();
            assert_eq!(members(&split(&a, &all)), want, "{a} without {all:?}");
        }
    }
}
