#![forbid(unsafe_code)]
//! The words of the language, in the order in which they are shown and printed.

/// First words of statements.
pub const STATEMENTS: [&str; 4] = ["policy", "rule", "set", "include"];
/// Keys of `policy`; all are required.
pub const POLICY: [&str; 2] = ["dir", "action"];
/// Keys of `rule`; the first three are required.
pub const RULE: [&str; 16] = [
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
];
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
    pub const SET_NAME: usize = 0;
    pub const SET_FAMILY: usize = 1;
    pub const SET_TYPE: usize = 2;
    pub const SET_ELEMENTS: usize = 3;
    pub const FILE: usize = 0;
}
/// Keys of `set`; all are required.
pub const SET: [&str; 4] = ["name", "family", "type", "elements"];
/// The key of `include`.
pub const INCLUDE: [&str; 1] = ["file"];

/// `dir=`
pub const DIRECTIONS: [&str; 3] = ["in", "out", "fwd"];
/// `action=`
pub const ACTIONS: [&str; 3] = ["accept", "drop", "reject"];
/// `proto=`
pub const PROTOCOLS: [&str; 5] = ["all", "tcp", "udp", "icmp", "icmp6"];
/// `family=`
pub const FAMILIES: [&str; 3] = ["any", "ip", "ip6"];
/// `type=`
pub const TYPES: [&str; 2] = ["addr", "port"];
/// `ct=`, in the order of the bits of `plan::ct`.
pub const STATES: [&str; 5] = ["established", "related", "new", "invalid", "untracked"];
/// Units of a rate and their seconds.
pub const UNITS: [(&str, u32); 4] = [("s", 1), ("m", 60), ("h", 3600), ("d", 86_400)];
