#![forbid(unsafe_code)]
//! Bans and lists as everybody means them: whom, from which ports, for how long; who is never dropped; what
//! became of it. Knows no kernel, no file and no clock.

mod alarm;
mod allowed;
mod capabilities;
mod failure;
mod health;
mod listed;
mod options;
mod scope;
mod standing;

pub use alarm::{Alarm, Limit, Packet};
pub use allowed::{AllowEntry, AllowSource, Allowed, Reader};
pub use capabilities::{Capabilities, Capability};
pub use failure::{Doing, Failure, Shortage};
pub use health::{Damage, Health};
pub use listed::{Entry, FLOODS, GuardState, ListId, PORT_MEMORY, SCANS, Scanner};
pub use options::{DropLog, FloodLimits, FloodOptions, Options, Reach, ScanOptions, SeenOptions};
pub use scope::Scope;
pub use standing::{Ban, Outcome, Repeat, Report, Standing, meet};
