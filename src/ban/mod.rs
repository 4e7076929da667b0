#![forbid(unsafe_code)]
//! Bans and lists as everybody means them: whom, from which ports, for how long; who is never dropped; what
//! became of it. Knows no kernel, no file and no clock.

mod alarm;
mod allowed;
mod bogons;
mod capabilities;
mod failure;
mod health;
mod lifting;
mod listed;
mod options;
mod scope;
mod standing;

pub use alarm::{Alarm, FloodLimit, ReportedPacket};
pub use allowed::{AllowEntry, AllowReader, AllowSource, Allowed};
pub use bogons::{BOGONS, is_bogon};
pub use capabilities::{Capabilities, Capability};
pub use failure::{Doing, Failure, Shortage};
pub use health::{Damage, Health, RuleTables};
pub use lifting::{Pardon, WhichBans};
pub use listed::{
    BY_HAND, BanEntry, CLOUD, FLOODS, GuardState, LISTED, ListForm, ListId, ListMembers, PORT_MEMORY, SCANS,
    Scanner, TOUCHED, Unseen,
};
pub use options::{
    BackendChoice, DropLog, FloodLimits, FloodOptions, Options, Reach, ScanOptions, SeenOptions,
};
pub use scope::{Scope, Transports};
pub use standing::{Ban, BanOutcome, BanReport, Repeat, Standing, meet};

#[cfg(test)]
pub(crate) mod tests {
    use crate::base::range::Range;
    use std::net::IpAddr;

    /// A range of up to 17 of 256 addresses, at random.
    pub(crate) fn pick(rng: &mut fastrand::Rng) -> Range {
        let (a, b) = (rng.u8(..), rng.u8(..).min(16));
        let first = IpAddr::from([10, 0, 0, a]);
        Range::new(first, IpAddr::from([10, 0, 0, a.saturating_add(b)])).unwrap()
    }
}
