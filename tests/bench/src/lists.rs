//! Lists of IPv4 addresses and networks, all of them different.

use crate::Result;
use std::io::{BufWriter, Write};
use std::net::Ipv4Addr;

/// Address number `n`, of 2^21. The numbers are scattered over 10.0.0.0/11, since no list comes sorted.
pub fn address(n: u64) -> Ipv4Addr {
    // An odd factor permutes the numbers below a power of two.
    let scattered = (n as u32).wrapping_mul(0x9e37_79b1) & 0x001f_ffff;
    Ipv4Addr::from(0x0a00_0000 | scattered)
}

/// Network number `n`, of 2^20: /26 to /30, scattered over 64.0.0.0/6, none beside another.
fn network(n: u64) -> String {
    let scattered = (n as u32).wrapping_mul(0x9e37_79b1) & 0x000f_ffff;
    format!("{}/{}", Ipv4Addr::from(0x4000_0000 | scattered << 6), 27 + n % 4)
}

/// Writes `count` addresses: `plain` for mef, `nft` as elements of the set, `ipset` as a script for `ipset
/// restore`.
pub fn write(form: &str, count: u64, set: &str) -> Result<()> {
    entries(form, count, set, &|n| address(n).to_string())
}

/// The same with networks.
pub fn networks(form: &str, count: u64, set: &str) -> Result<()> {
    entries(form, count, set, &network)
}

fn entries(form: &str, count: u64, set: &str, entry: &dyn Fn(u64) -> String) -> Result<()> {
    let mut out = BufWriter::new(std::io::stdout().lock());
    match form {
        "plain" => (0..count).try_for_each(|n| writeln!(out, "{}", entry(n)))?,
        "ipset" => (0..count).try_for_each(|n| writeln!(out, "add {set} {}", entry(n)))?,
        "nft" => {
            write!(out, "add element {set} {{ ")?;
            (0..count).try_for_each(|n| writeln!(out, "{},", entry(n)))?;
            writeln!(out, "}}")?;
        }
        _ => return Err(crate::USAGE.into()),
    }
    Ok(out.flush()?)
}
