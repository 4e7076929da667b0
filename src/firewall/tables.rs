#![forbid(unsafe_code)]
//! The tables that are ours.

use super::nft::TableId;
use crate::base::name::Name;

/// `NFPROTO_INET`, as wide as the message has it.
const NFPROTO_INET: u8 = 1;
/// Bans, lists and the guards against bare packets.
pub const GUARD: TableId = TableId { family: NFPROTO_INET, name: Name::of("mef_guard") };
/// The set of it whose comment tells what it was made with.
pub const MADE: Name = Name::of("made");
/// The table, for people.
pub const GUARD_PLACE: &str = "inet mef_guard";
/// The rule set of `mef load`.
pub const RULES: TableId = TableId { family: NFPROTO_INET, name: Name::of("mef") };
/// Its flowtable.
pub const FLOWS: Name = Name::of("fast");
