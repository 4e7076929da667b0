#![forbid(unsafe_code)]
//! Whose a table is: the kernel lets a socket have it for itself (Linux 5.12), and leave it behind (6.9).

use super::{TableId, msg, query};
use crate::sys::netlink::{Lost, NlSocket};
use crate::sys::nlattr::{attr, be32};
use crate::sys::process;
use std::cell::Cell;

const TABLE_FLAGS: u16 = 2;
const TABLE_OWNER: u16 = 7;

/// NFT_TABLE_F_OWNER: only the socket that added it may change the table.
pub const OWNER: u32 = 2;
/// NFT_TABLE_F_PERSIST: the table stays when its owner's socket is closed, and may get another owner then.
pub const PERSIST: u32 = 4;

/// Whose a table is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Ownership {
    /// Whether it is there.
    pub there: bool,
    /// `NFT_TABLE_F_*`
    pub flags: u32,
    /// The netlink port of its owner.
    pub port: Option<u32>,
}

/// Asks whose a table is.
///
/// # Errors
/// The system call or the kernel's error.
pub fn of(socket: &mut NlSocket, table: &TableId) -> Result<Ownership, Lost> {
    let found = Cell::new(Ownership::default());
    let mut restart = || found.set(Ownership::default());
    query::objects(socket, table, (msg::GETTABLE, None), &mut restart, &mut |table| {
        let number = |kind| attr(table, kind).and_then(be32);
        let (flags, port) = (number(TABLE_FLAGS).unwrap_or(0), number(TABLE_OWNER));
        found.set(Ownership { there: true, flags, port });
    })?;
    Ok(found.get())
}

/// The process of a port, for people: the first netlink socket of a process has its number.
#[must_use]
pub fn holder(port: u32) -> String {
    let name = process::name(port).map_or_else(String::new, |name| [" (", &name, ")"].concat());
    ["process ", &port.to_string(), &name].concat()
}
