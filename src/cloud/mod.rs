//! The community cloud: what members report to a zone of their own on a DNS server, and what the operator's
//! aggregate makes of it. Nothing of it runs in the daemon's process but a list of what is new.

pub mod aggregate;
pub mod keyfile;
pub mod operator;
pub mod provision;
pub mod report;
pub mod reports;
pub mod session;
mod spill;
pub mod subject;
pub mod transfer;
