//! Lists of single IPv4 addresses, all of them different.

use crate::Result;
use std::io::{BufWriter, Write};
use std::net::Ipv4Addr;

/// Address number `n`, of 2^21. The numbers are scattered over 10.0.0.0/11, since no list comes sorted.
pub fn address(n: u64) -> Ipv4Addr {
    // An odd factor permutes the numbers below a power of two.
    let scattered = (n as u32).wrapping_mul(0x9e37_79b1) & 0x001f_ffff;
    Ipv4Addr::from(0x0a00_0000 | scattered)
}

/// Writes `count` addresses: `plain` for mef, `nft` as elements of the set, `ipset` as a script for `ipset restore`.
pub fn write(form: &str, count: u64, set: &str) -> Result<()> {
    let mut out = BufWriter::new(std::io::stdout().lock());
    match form {
        "plain" => (0..count).try_for_each(|n| writeln!(out, "{}", address(n)))?,
        "ipset" => (0..count).try_for_each(|n| writeln!(out, "add {set} {}", address(n)))?,
        "nft" => {
            write!(out, "add element {set} {{ ")?;
            (0..count).try_for_each(|n| writeln!(out, "{},", address(n)))?;
            writeln!(out, "}}")?;
        }
        _ => return Err(crate::USAGE.into()),
    }
    Ok(out.flush()?)
}
