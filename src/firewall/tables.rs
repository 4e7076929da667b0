#![forbid(unsafe_code)]
//! The tables that are ours.

use super::nft::{Hook, TableId, Txn};
use crate::base::name::Name;
use crate::plan::{Direction, listed};

/// `NFPROTO_INET`, as wide as the message has it.
const NFPROTO_INET: u8 = 1;
const NFPROTO_BRIDGE: u8 = 7;
/// Bans, lists and the guards against bare packets.
pub const GUARD: TableId = TableId { family: NFPROTO_INET, name: Name::of("mef_guard") };
/// The set of it whose comment tells what it was made with.
pub const MADE: Name = Name::of("made");
/// The table, for people.
pub const GUARD_PLACE: &str = "inet mef_guard";
/// The rule set of `mef load`.
pub const RULES: TableId = TableId { family: NFPROTO_INET, name: Name::of("mef") };
/// What of it is for frames between ports of bridges.
pub const BRIDGES: TableId = TableId { family: NFPROTO_BRIDGE, name: Name::of("mef") };
/// Its flowtable.
pub const FLOWS: Name = Name::of("fast");

/// Where the base chain of a direction hangs, with an accepting policy.
#[must_use]
pub fn hook_of(direction: Direction) -> Hook<'static> {
    let number = match direction {
        Direction::In => libc::NF_INET_LOCAL_IN,
        Direction::Out => libc::NF_INET_LOCAL_OUT,
        // NF_BR_FORWARD is the same number.
        Direction::Fwd | Direction::Bridge => libc::NF_INET_FORWARD,
        Direction::Pre => libc::NF_INET_PRE_ROUTING,
        Direction::Post => libc::NF_INET_POST_ROUTING,
        Direction::Local => libc::NF_INET_LOCAL_OUT,
    };
    Hook { priority: listed::priority(direction), is_nat: direction.is_nat(), ..Hook::new(number) }
}

/// Has the transaction begin with there being no such table.
pub fn clear_into(txn: &mut Txn) {
    // What is added first can be deleted without an error, whether it was there or not.
    txn.add_table();
    txn.delete_table();
}

/// Has the transaction leave nothing for frames, and go on with the table for packets. Only where there is
/// such a table: a kernel may lack the family.
pub fn clear_frames_into(txn: &mut Txn) {
    txn.turn_to(BRIDGES);
    clear_into(txn);
    txn.turn_to(RULES);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transaction_that_is_sent_again_deletes_nothing_that_it_has_not_added() {
        const NEWTABLE: u16 = 0xa00;
        const DELTABLE: u16 = 0xa02;
        let mut txn = Txn::new(RULES, 256);
        clear_frames_into(&mut txn);
        let (mut bytes, mut kinds) = (txn.bytes(), Vec::new());
        while let Some((len, rest)) = bytes.split_first_chunk() {
            let kind = u16::from_ne_bytes([rest[0], rest[1]]);
            kinds.extend((kind >> 8 == 10).then_some((kind, bytes[16])));
            bytes = &bytes[u32::from_ne_bytes(*len).next_multiple_of(4) as usize..];
        }
        assert_eq!(kinds, [(NEWTABLE, BRIDGES.family), (DELTABLE, BRIDGES.family)]);
    }
}
