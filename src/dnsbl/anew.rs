#![forbid(unsafe_code)]
//! Who could not be asked about: he is to be reported when he comes again.

use super::WAITING;
use std::net::IpAddr;

/// Somebody who was not asked about: the kernel is to report him when he comes again, after this time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Missed {
    /// Whom.
    pub addr: IpAddr,
    /// Seconds.
    pub after: u32,
}

/// Whom the kernel is to report again.
#[derive(PartialEq, Eq, Debug)]
pub enum Anew {
    /// These.
    Some(Vec<Missed>),
    /// Everybody: while a list was not asked, nobody was asked about.
    All,
}

impl Anew {
    /// Whoever finds no room is reported when the kernel has forgotten him.
    pub(super) fn add(&mut self, addr: IpAddr, after: u32) {
        if let Anew::Some(missed) = self
            && missed.len() < 2 * WAITING
        {
            missed.push(Missed { addr, after });
        }
    }
}
