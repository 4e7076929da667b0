#![forbid(unsafe_code)]
//! The words of keys that look at one number each, and their numbers.

pub(super) const PACKET_TYPES: [(&str, u64); 4] =
    [("host", 0), ("broadcast", 1), ("multicast", 2), ("other", 3)];
pub(super) const KINDS: [(&str, u64); 5] = {
    let mut all = [("", 0); 5];
    let mut i = 0;
    while i < all.len() {
        all[i] = (crate::ruleset::words::KINDS[i].0, crate::ruleset::words::KINDS[i].1 as u64);
        i += 1;
    }
    all
};
/// Stands in the number of a routing header of one type.
pub(super) const ROUTING_TYPE: u64 = 0x8000;
/// Numbers of extension headers of IPv6; of routing headers with their type, as in `Field::Header`.
pub(super) const HEADERS: [(&str, u64); 6] =
    [("hbh", 0), ("rt", 43), ("rt0", ROUTING_TYPE | 43), ("frag", 44), ("dst", 60), ("mh", 135)];
/// In the order of `Refusal::ALL`.
pub(super) const REFUSALS: [(&str, u64); 4] =
    [("no-route", 0), ("port-unreachable", 1), ("host-unreachable", 2), ("admin-prohibited", 3)];
/// With the bits of `NatPick::ALL`.
pub(super) const PICKS: [(&str, u64); 3] = [("random", 4), ("fully-random", 16), ("persistent", 8)];

/// Types of ICMP by their names; with what each of them is in ICMP and in ICMPv6. Behind the single ones
/// stand the groups.
pub const ICMP_TYPES: [(&str, &[u8], &[u8]); 29] = [
    ("echo-reply", &[0], &[129]),
    ("echo-request", &[8], &[128]),
    ("destination-unreachable", &[3], &[1]),
    ("time-exceeded", &[11], &[3]),
    ("parameter-problem", &[12], &[4]),
    ("redirect", &[5], &[137]),
    ("router-advertisement", &[9], &[134]),
    ("router-solicitation", &[10], &[133]),
    ("packet-too-big", &[], &[2]),
    ("neighbour-solicitation", &[], &[135]),
    ("neighbour-advertisement", &[], &[136]),
    ("mld-query", &[], &[130]),
    ("mld-report", &[], &[131]),
    ("mld-done", &[], &[132]),
    ("mld2-report", &[], &[143]),
    ("inverse-solicitation", &[], &[141]),
    ("inverse-advertisement", &[], &[142]),
    ("certificate-solicitation", &[], &[148]),
    ("certificate-advertisement", &[], &[149]),
    ("source-quench", &[4], &[]),
    ("timestamp-request", &[13], &[]),
    ("timestamp-reply", &[14], &[]),
    ("info-request", &[15], &[]),
    ("info-reply", &[16], &[]),
    ("address-mask-request", &[17], &[]),
    ("ping", &[0, 8], &[128, 129]),
    ("errors", &[3, 11, 12], &[1, 2, 3, 4]),
    ("nd", &[], &[133, 134, 135, 136]),
    ("mld", &[], &[130, 131, 132, 143]),
];

/// Numbers from here on are places in `ICMP_TYPES`.
pub(super) const ICMP_WORD: u64 = 256;

const fn icmp_words() -> [(&'static str, u64); ICMP_TYPES.len()] {
    let mut words = [("", 0); ICMP_TYPES.len()];
    let mut i = 0;
    while i < words.len() {
        words[i] = (ICMP_TYPES[i].0, ICMP_WORD + i as u64);
        i += 1;
    }
    words
}
pub(super) const ICMP_WORDS: [(&str, u64); ICMP_TYPES.len()] = icmp_words();
pub(super) const FLAGS: [(&str, u64); 9] = [
    ("fin", 1),
    ("syn", 2),
    ("rst", 4),
    ("psh", 8),
    ("ack", 16),
    ("urg", 32),
    ("ecn", 64),
    ("cwr", 128),
    ("none", 0),
];
pub(super) const ETHER_TYPES: [(&str, u64); 6] = [
    ("ip", ETHER_IP),
    ("ip6", ETHER_IP6),
    ("arp", 0x0806),
    ("rarp", 0x8035),
    ("pppoe-discovery", 0x8863),
    ("pppoe", 0x8864),
];
/// `ETH_P_IP`, which is a family.
pub const ETHER_IP: u64 = 0x0800;
/// `ETH_P_IPV6`, likewise.
pub const ETHER_IP6: u64 = 0x86dd;
/// Days of a week: what ends in the next one has a greater number.
pub const WEEK: u64 = 7;
pub(super) const DAYS: [(&str, u64); 7] =
    [("sun", 0), ("mon", 1), ("tue", 2), ("wed", 3), ("thu", 4), ("fri", 5), ("sat", 6)];
pub(super) const DSCP: [(&str, u64); 22] = [
    ("cs0", 0),
    ("cs1", 8),
    ("cs2", 16),
    ("cs3", 24),
    ("cs4", 32),
    ("cs5", 40),
    ("cs6", 48),
    ("cs7", 56),
    ("af11", 10),
    ("af12", 12),
    ("af13", 14),
    ("af21", 18),
    ("af22", 20),
    ("af23", 22),
    ("af31", 26),
    ("af32", 28),
    ("af33", 30),
    ("af41", 34),
    ("af42", 36),
    ("af43", 38),
    ("ef", 46),
    ("lephb", 1),
];
pub(super) const LEVELS: [(&str, u64); 8] = [
    ("emerg", 0),
    ("alert", 1),
    ("crit", 2),
    ("err", 3),
    ("warn", 4),
    ("notice", 5),
    ("info", 6),
    ("debug", 7),
];
