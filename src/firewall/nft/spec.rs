#![forbid(unsafe_code)]
//! What sets and base chains are made of.

use crate::base::name::{IfName, Name};

/// What a set is made of.
#[derive(Clone, Copy)]
pub struct SetSpec<'a> {
    /// Its name.
    pub name: Name,
    /// `NFT_SET_*` flags.
    pub flags: i32,
    /// Type number of `nft` (only shown), and bytes of a key.
    pub key: (u32, u32),
    /// Most elements; 0 = no limit but memory.
    pub size: u32,
    /// Default life of an element, ms; 0 = none.
    pub timeout_ms: u64,
    /// Shown by `nft list`; empty = none.
    pub comment: &'a str,
    /// The key is no number in network order: `nft list` wants to know.
    pub host_order: bool,
    /// EEXIST if it is there, rather than nothing.
    pub must_be_new: bool,
    /// Which rule of a rule set needs it; 0 = none alone.
    pub statement: u32,
}

impl<'a> SetSpec<'a> {
    /// A set without size, default life and comment.
    #[must_use]
    pub fn new(name: Name, flags: i32, key: (u32, u32)) -> SetSpec<'a> {
        SetSpec {
            name,
            flags,
            key,
            size: 0,
            timeout_ms: 0,
            comment: "",
            host_order: false,
            must_be_new: false,
            statement: 0,
        }
    }
}

/// Where and how a base chain hangs.
#[derive(Clone, Copy)]
pub struct Hook<'a> {
    /// `NF_INET_*`
    pub number: i32,
    /// Order among the chains of the hook.
    pub priority: i32,
    /// Whether its rules translate addresses.
    pub is_nat: bool,
    /// `NF_ACCEPT` or `NF_DROP`: what happens to packets that no rule decides on.
    pub policy: i32,
    /// The interfaces, where a hook belongs to interfaces.
    pub devices: &'a [IfName],
}

impl Hook<'_> {
    /// First of all, and accepting.
    #[must_use]
    pub fn new(number: i32) -> Hook<'static> {
        Hook { number, priority: 0, is_nat: false, policy: libc::NF_ACCEPT, devices: &[] }
    }
}
