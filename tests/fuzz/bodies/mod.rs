//! What holds of any bytes that come from outside, a file for each kind of them: `run` checks it, `seeds` are
//! whole ones to begin with. `cargo fuzz` runs each for as long as one likes; `cargo test` compiles them all,
//! and runs each on its seeds and on what mutations make of them.

pub mod access;
pub mod axfr;
pub mod bans;
pub mod client;
pub mod cloud;
pub mod config;
pub mod control;
pub mod detect;
pub mod dns;
pub mod dnsbl;
pub mod header;
pub mod hosts;
pub mod ipset;
pub mod journal;
pub mod lines;
pub mod listing;
pub mod nflog;
pub mod observer;
pub mod pattern;
pub mod positions;
pub mod ruleset;
pub mod sources;
pub mod tsig;

/// One of them.
pub struct Body {
    /// Its name, that of its file and of the target.
    pub name: &'static str,
    /// Whole ones to begin with.
    pub seeds: fn() -> Vec<Vec<u8>>,
    /// Panics if something does not hold.
    pub run: fn(&[u8]),
}

macro_rules! bodies {
    ($($name:ident)*) => {
        /// All of them.
        pub const ALL: &[Body] =
            &[$(Body { name: stringify!($name), seeds: $name::seeds, run: $name::run }),*];
    };
}

bodies! {
    access axfr bans client cloud config control detect dns dnsbl header hosts ipset journal lines listing
    nflog observer pattern positions ruleset sources tsig
}

/// Texts as bytes.
fn texts(all: &[&str]) -> Vec<Vec<u8>> {
    all.iter().map(|text| text.as_bytes().to_vec()).collect()
}

/// What a function writes.
fn made(write: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut bytes = Vec::new();
    write(&mut bytes);
    bytes
}

/// Parts, each with its length of two bytes in front: as messages stand in a stream.
fn framed(parts: &[&[u8]]) -> Vec<u8> {
    parts.iter().flat_map(|part| [&(part.len() as u16).to_be_bytes(), *part].concat()).collect()
}

/// Takes such parts apart again; the last one may be cut.
fn frames(mut bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let (length, rest) = bytes.split_first_chunk()?;
        let (part, rest) = rest.split_at(usize::from(u16::from_be_bytes(*length)).min(rest.len()));
        bytes = rest;
        Some(part)
    })
}
