#![forbid(unsafe_code)]
//! The words of the language, in the order in which they are shown and printed.

use super::extra;
use crate::base::diag::suggest;
use crate::base::range::Family;

/// First words of statements.
pub const STATEMENTS: [&str; 7] = ["policy", "rule", "nat", "set", "include", "let", "group"];
/// The statement that an export puts in place of a rule that drops or refuses packets and cannot be said. No
/// rule set with one is loaded.
pub const LOST: &str = "lost";
/// Keys of `policy`; all are required.
pub const POLICY: [&str; 2] = ["dir", "action"];
/// Keys of `rule` and `nat` that are not of `extra::ROWS`. The first three are required; `group` stands in
/// place of the first one, and `nat` needs no protocol.
const OWN: [&str; 18] = [
    "dir",
    "action",
    "proto",
    "family",
    "log",
    "ratelimit",
    "limit",
    "burst",
    "iif",
    "oif",
    "src",
    "dst",
    "sport",
    "dport",
    "ct",
    "comment",
    "to",
    "group",
];

/// Keys of `rule` and `nat`.
pub const RULE: [&str; OWN.len() + extra::LEN] = {
    let mut all = [""; OWN.len() + extra::LEN];
    let mut i = 0;
    while i < all.len() {
        all[i] = if i < OWN.len() { OWN[i] } else { extra::ROWS[i - OWN.len()].key };
        i += 1;
    }
    all
};
/// The places of keys in `POLICY` and `RULE`, `SET` and `INCLUDE`.
pub mod key {
    #![allow(missing_docs, reason = "the names are the keys")]
    pub const DIR: usize = 0;
    pub const ACTION: usize = 1;
    pub const PROTO: usize = 2;
    pub const FAMILY: usize = 3;
    pub const LOG: usize = 4;
    pub const RATELIMIT: usize = 5;
    pub const LIMIT: usize = 6;
    pub const BURST: usize = 7;
    pub const IIF: usize = 8;
    pub const OIF: usize = 9;
    pub const SRC: usize = 10;
    pub const DST: usize = 11;
    pub const SPORT: usize = 12;
    pub const DPORT: usize = 13;
    pub const CT: usize = 14;
    pub const COMMENT: usize = 15;
    pub const TO: usize = 16;
    pub const GROUP: usize = 17;
    /// The first one of `extra::ROWS`.
    pub const EXTRA: usize = 18;
    pub const SET_NAME: usize = 0;
    pub const SET_FAMILY: usize = 1;
    pub const SET_TYPE: usize = 2;
    pub const SET_ELEMENTS: usize = 3;
    pub const SET_FILE: usize = 4;
    pub const SET_SOURCE: usize = 5;
    pub const FILE: usize = 0;
}
/// Keys of `set`; the first three are required, and one of the others.
pub const SET: [&str; 6] = ["name", "family", "type", "elements", "file", "source"];
/// The elements of a set that has none: a file may be empty.
pub const NO_ELEMENTS: &str = "none";
/// The key of `group`.
pub const GROUP: [&str; 1] = ["name"];
/// The key of `include`.
pub const INCLUDE: [&str; 1] = ["file"];

/// `dir=` of `rule` and `policy`.
pub const DIRECTIONS: [&str; 4] = ["in", "out", "fwd", "bridge"];
/// `dir=` of `nat`.
pub const NAT_DIRECTIONS: [&str; 3] = ["pre", "post", "out"];
/// `action=`, in the order of `Action::ALL`: those of policies, those of rules behind them, and the rest of
/// `nat`.
pub const ACTIONS: [&str; 10] =
    ["accept", "drop", "reject", "log", "count", "return", "masquerade", "snat", "dnat", "redirect"];
/// `proto=`: words for numbers.
pub const PROTOCOLS: [(&str, u8); 15] = [
    ("all", 0),
    ("tcp", 6),
    ("udp", 17),
    ("icmp", 1),
    ("icmp6", 58),
    ("igmp", 2),
    ("ipip", 4),
    ("dccp", 33),
    ("6in4", 41),
    ("gre", 47),
    ("esp", 50),
    ("ah", 51),
    ("vrrp", 112),
    ("sctp", 132),
    ("udplite", 136),
];
/// Kinds of addresses and their numbers (`RTN_*`).
pub const KINDS: [(&str, u8); 5] =
    [("local", 2), ("broadcast", 3), ("multicast", 5), ("unicast", 1), ("anycast", 4)];
/// `family=`
pub const FAMILIES: [&str; 3] = ["any", "ip", "ip6"];
/// `type=`
pub const TYPES: [&str; 3] = ["addr", "port", "iface"];
/// `ct=`, in the order of the bits of `plan::ct`.
pub const STATES: [&str; 7] = ["established", "related", "new", "invalid", "untracked", "dnat", "snat"];
/// Units of a rate and their seconds.
pub const UNITS: [(&str, u32); 4] = [("s", 1), ("m", 60), ("h", 3600), ("d", 86_400)];

/// Words of nft's language that it takes for no name, as of 1.0.6 and later ones: a set that is called so
/// could be made, but not be read back from a listing.
const OF_NFT: &str = "\
    accept add ah all arp auto-merge bridge broute cgroup chain comment comp constant continue counter cpu \
    create ct day dccp define delete describe destroy device devices dnat drop dst dup dynamic ecn element \
    elements esp ether exists expires export exthdr fib flags flow flowtable flush frag fwd gc-interval \
    geneve get goto gre gretap handle hbh hook hour ibrhwaddr ibriport ibrname icmp icmpv6 igmp iif \
    iifgroup iifname iiftype import include index inet insert interval ip ip6 ipsec jhash jump last limit \
    list ll log map mark masquerade meta meter mh missing monitor netdev nftrace nh notrack numgen \
    obriport obrname offload oif oifgroup oifname oiftype or osf pkttype policy position priority queue \
    quota random redefine redirect reject rename replace reset return rt rt0 rt2 rtclassid rule ruleset \
    sctp secmark set size skgid skuid snat socket srh symhash synproxy table tcp th time timeout tproxy \
    tunnel type typeof udp udplite undefine update vlan vmap vxlan xt";

/// Whether a set cannot have this name in the kernel.
pub(super) fn is_of_nft(name: &str) -> bool {
    OF_NFT.split(' ').any(|word| word == name)
}

/// Longest prefix that the kernel puts before a log line (NF_LOG_PREFIXLEN with its NUL).
pub const PREFIX_MAX: usize = 127;
/// Longest comment that every version of nft shows.
pub const COMMENT_MAX: usize = 127;

/// "expected one of", and the word that was probably meant.
pub(super) fn expected(word: &str, known: &[&str]) -> String {
    let mut hint = ["expected one of: ", &known.join(", ")].concat();
    if let Some(near) = suggest(word, known.iter().copied()) {
        hint.push_str(&[" (did you mean '", near, "'?)"].concat());
    }
    hint
}

/// The word for a family.
pub(super) fn family_word(family: Option<Family>) -> &'static str {
    match family {
        None => "any",
        Some(Family::V4) => "ip",
        Some(Family::V6) => "ip6",
    }
}
