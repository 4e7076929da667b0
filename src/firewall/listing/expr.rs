#![forbid(unsafe_code)]
//! Numbers of linux/netfilter/nf_tables.h for reading expressions, and their attributes by number. Every byte
//! may be anything.

use crate::sys::nlattr::{attr, be32};

/// NFTA_LIST_ELEM's content: an expression's name and its attributes.
pub const NAME: u16 = 1;
pub const DATA: u16 = 2;
/// In NFTA_DATA: a value, or a verdict.
pub const VALUE: u16 = 1;
pub const VERDICT: u16 = 2;
/// In a verdict.
const CODE: u16 = 1;
const CHAIN: u16 = 2;

/// The attributes of one expression.
#[derive(Clone, Copy)]
pub struct ListedExpr<'a>(pub &'a [u8]);

impl<'a> ListedExpr<'a> {
    /// An attribute's bytes.
    pub fn bytes(self, kind: u16) -> Option<&'a [u8]> {
        attr(self.0, kind)
    }

    /// A number.
    pub fn number(self, kind: u16) -> Option<u32> {
        self.bytes(kind).and_then(be32)
    }

    /// A number that is 0 where it is not told.
    pub fn or_0(self, kind: u16) -> u32 {
        self.number(kind).unwrap_or(0)
    }

    /// The value in NFTA_DATA.
    pub fn value(self, kind: u16) -> Option<&'a [u8]> {
        attr(self.bytes(kind)?, VALUE)
    }

    /// The verdict in NFTA_DATA.
    pub fn verdict(self, kind: u16) -> Option<(i32, &'a [u8])> {
        let verdict = attr(self.bytes(kind)?, VERDICT)?;
        let code = attr(verdict, CODE).and_then(be32)?.cast_signed();
        Some((code, until_nul(attr(verdict, CHAIN).unwrap_or_default())))
    }
}

/// Bytes up to the first NUL.
pub fn until_nul(bytes: &[u8]) -> &[u8] {
    bytes.split(|&b| b == 0).next().unwrap_or_default()
}

/// Words of a name for people; the kernel takes any bytes.
pub fn shown(bytes: &[u8]) -> String {
    until_nul(bytes).escape_ascii().to_string()
}

/// Bytes as a hexadecimal number.
pub fn hex(bytes: &[u8]) -> String {
    let digit = |n: u8| char::from_digit(u32::from(n), 16).unwrap_or('0');
    let digits = bytes.iter().flat_map(|b| [digit(b >> 4), digit(b & 15)]);
    "0x".chars().chain(digits).collect()
}

/// One more than a number in network order; `None` beyond its end.
pub fn next(bytes: &[u8]) -> Option<Vec<u8>> {
    step(bytes, |byte| byte.overflowing_add(1))
}

/// One less.
pub fn previous(bytes: &[u8]) -> Option<Vec<u8>> {
    step(bytes, |byte| byte.overflowing_sub(1))
}

fn step(bytes: &[u8], by: fn(u8) -> (u8, bool)) -> Option<Vec<u8>> {
    let mut out = bytes.to_vec();
    for byte in out.iter_mut().rev() {
        let (next, carries) = by(*byte);
        *byte = next;
        if !carries {
            return Some(out);
        }
    }
    None
}
