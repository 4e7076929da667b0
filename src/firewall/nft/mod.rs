//! nf_tables over libnftnl and libmnl: objects, expressions, transactions, dumps.

mod commit;
pub mod elem;
pub mod expr;
mod ffi;
pub mod owner;
pub mod parts;
pub mod query;
mod refusal;
mod spec;
mod txn;

pub use ffi::{Expr, NftRule};
pub(in crate::firewall) use refusal::ROOT;
pub use refusal::{NFLOG, Op, Optional, Refusal, TxnError};
pub use spec::{Hook, SetSpec};
pub use txn::{ELEMENTS_MAX, Txn};

use crate::base::line::quotable;
use crate::base::name::Name;

/// A table's place: `NFPROTO_*` and name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TableId {
    /// `NFPROTO_INET` and so on.
    pub family: u8,
    /// Its name.
    pub name: Name,
}

impl std::fmt::Display for TableId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let family = match i32::from(self.family) {
            libc::NFPROTO_INET => "inet",
            libc::NFPROTO_IPV4 => "ip",
            libc::NFPROTO_IPV6 => "ip6",
            libc::NFPROTO_NETDEV => "netdev",
            _ => "unknown",
        };
        write!(f, "{family} {}", self.name)
    }
}

/// `NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_*`
#[must_use]
pub const fn message(kind: u16) -> u16 {
    10 << 8 | kind
}

/// `enum nft_rule_attributes` (linux/netfilter/nf_tables.h), as far as they are read and written here.
pub mod rule_attr {
    #![allow(missing_docs, reason = "the names are the kernel's")]
    pub const TABLE: u16 = 1;
    pub const CHAIN: u16 = 2;
    pub const HANDLE: u16 = 3;
    pub const EXPRESSIONS: u16 = 4;
    pub const USERDATA: u16 = 7;
}

/// `enum nf_tables_msg_types` (linux/netfilter/nf_tables.h).
pub mod msg {
    #![allow(missing_docs, reason = "the names are the kernel's")]
    pub const NEWTABLE: u16 = 0;
    pub const GETTABLE: u16 = 1;
    pub const DELTABLE: u16 = 2;
    pub const NEWCHAIN: u16 = 3;
    pub const GETCHAIN: u16 = 4;
    pub const DELCHAIN: u16 = 5;
    pub const NEWRULE: u16 = 6;
    pub const GETRULE: u16 = 7;
    pub const DELRULE: u16 = 8;
    pub const NEWSET: u16 = 9;
    pub const GETSET: u16 = 10;
    pub const DELSET: u16 = 11;
    pub const NEWSETELEM: u16 = 12;
    pub const GETSETELEM: u16 = 13;
    pub const DELSETELEM: u16 = 14;
    pub const NEWGEN: u16 = 15;
    pub const GETGEN: u16 = 16;
    pub const NEWOBJ: u16 = 18;
    pub const GETOBJ: u16 = 19;
    pub const NEWFLOWTABLE: u16 = 22;
    pub const GETFLOWTABLE: u16 = 23;
    pub const DELFLOWTABLE: u16 = 24;
}

/// The user data of a comment: type, length with NUL, text, NUL. `nft list` shows it as it is, so what would
/// end its quotes or work on a terminal is replaced; what is too long is cut between characters.
#[must_use]
pub fn comment_udata(kind: u8, text: &str) -> smallvec::SmallVec<[u8; 64]> {
    let mut data = smallvec::SmallVec::from_slice(&[kind, 0]);
    for c in text.chars() {
        let c = quotable(c);
        if data.len() - 2 + c.len_utf8() > COMMENT_MAX {
            break;
        }
        data.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
    }
    data.push(0);
    let len = u8::try_from(data.len() - 2).unwrap_or(u8::MAX);
    if let Some(slot) = data.get_mut(1) {
        *slot = len;
    }
    data
}

/// The user data of a set: its comment, and behind it what of that `nft list` has no room for.
#[must_use]
pub fn set_udata(text: &str) -> smallvec::SmallVec<[u8; 64]> {
    let mut data = comment_udata(UDATA_SET_COMMENT, text);
    let end = text.len().min(SET_COMMENT_MAX);
    if let Some(more) = text.get(COMMENT_MAX..end).filter(|more| text.is_ascii() && !more.is_empty()) {
        data.extend(comment_udata(UDATA_SET_MORE, more));
    }
    data
}

/// Finds a comment in user data.
#[must_use]
pub fn udata_comment(mut data: &[u8], kind: u8) -> Option<&str> {
    while let [k, len, rest @ ..] = data {
        let (value, next) = rest.split_at_checked(usize::from(*len))?;
        if *k == kind {
            return crate::sys::nlattr::text(value);
        }
        data = next;
    }
    None
}

/// Longest comment that every version of `nft` prints.
pub const COMMENT_MAX: usize = 127;
/// Longest that is kept of a set: user data have 256 bytes (NFT_USERDATA_MAXLEN).
pub const SET_COMMENT_MAX: usize = COMMENT_MAX + 120;
/// The rest of a longer comment of a set: a kind of our own, which `nft` passes over.
pub const UDATA_SET_MORE: u8 = 0x6d;
/// NFTNL_UDATA_RULE_COMMENT
pub const UDATA_RULE_COMMENT: u8 = 0;
/// NFTNL_UDATA_SET_COMMENT
pub const UDATA_SET_COMMENT: u8 = 7;
/// NFTNL_UDATA_SET_ELEM_COMMENT
pub const UDATA_ELEM_COMMENT: u8 = 0;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_set_more_is_kept_than_is_shown() {
        for len in [0, 1, COMMENT_MAX, COMMENT_MAX + 1, SET_COMMENT_MAX, SET_COMMENT_MAX + 1, 1000] {
            let text: String = ('0'..='9').cycle().take(len).collect();
            let data = set_udata(&text);
            let part = |kind| udata_comment(&data, kind).unwrap_or_default();
            assert!(data.len() <= 256);
            assert_eq!(part(UDATA_SET_COMMENT).len(), len.min(COMMENT_MAX));
            let all = [part(UDATA_SET_COMMENT), part(UDATA_SET_MORE)].concat();
            assert_eq!(all, text[..len.min(SET_COMMENT_MAX)]);
        }
        assert_eq!(udata_comment(&set_udata(&"ü".repeat(200)), UDATA_SET_MORE), None);
    }

    #[test]
    fn comments_are_cut_between_characters_and_show_on_one_line() {
        let long = "ü".repeat(5000);
        let cut = "ü".repeat(63);
        for (text, want) in [
            ("", ""),
            ("sshd hits=5: why", "sshd hits=5: why"),
            ("a\"b\n\u{1b}[31m\0c", "a'b??[31m?c"),
            (long.as_str(), cut.as_str()),
        ] {
            let data = comment_udata(UDATA_ELEM_COMMENT, text);
            assert!(data.len() <= COMMENT_MAX + 3);
            assert_eq!(udata_comment(&data, UDATA_ELEM_COMMENT), Some(want), "{text:?}");
            assert_eq!(udata_comment(&data, UDATA_ELEM_COMMENT + 1), None);
        }
    }
}
