#![forbid(unsafe_code)]
//! The answer to a request for a whole zone (RFC 5936): records between two starts of authority, in as many
//! messages as the server likes. Knows no connection and no signature.

use super::session::Trouble;
use crate::dns::name::Name;
use crate::dns::packet::{Message, Record, Section};
use std::io;

/// How far it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TransferState {
    /// More is to come.
    Open,
    /// That was the last message.
    Ended,
}

/// A transfer that has begun.
pub struct Transfer<'z> {
    zone: &'z Name,
    /// Of the start of authority, once that has come.
    serial: Option<u32>,
}

impl<'z> Transfer<'z> {
    /// Of that zone.
    #[must_use]
    pub fn new(zone: &'z Name) -> Transfer<'z> {
        Transfer { zone, serial: None }
    }

    /// Takes in the next message and hands on each of its records but the second start of authority.
    ///
    /// # Errors
    /// It is no part of such an answer; or what `each` says.
    pub fn take(
        &mut self,
        message: &Message<'_>,
        each: &mut dyn FnMut(&Record<'_>) -> io::Result<()>,
    ) -> Result<TransferState, Trouble> {
        let mut state = TransferState::Open;
        for record in message.records() {
            let record = record.map_err(|_| Trouble::Nonsense)?;
            if record.section != Section::Answer {
                continue;
            }
            let own = record.soa().map(|soa| soa.serial);
            let ended = state == TransferState::Ended;
            if ended || self.serial.is_none() && !(own.is_some() && record.name.is_same(self.zone)) {
                return Err(Trouble::Nonsense);
            }
            if self.serial.is_some() && own.is_some() {
                if own != self.serial {
                    return Err(Trouble::Nonsense);
                }
                state = TransferState::Ended;
            } else {
                self.serial = self.serial.or(own);
                each(&record).map_err(|e| Trouble::Local(e.raw_os_error().unwrap_or(libc::EIO)))?;
            }
        }
        Ok(state)
    }
}
