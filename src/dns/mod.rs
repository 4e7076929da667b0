//! The Domain Name System, as much of it as mef asks and is told: names and messages in wire form, with hard
//! bounds and without allocation.

#[cfg(test)]
mod captured_tests;
pub mod client;
#[cfg(test)]
mod client_tests;
pub mod name;
pub mod packet;
#[cfg(test)]
mod random_tests;
pub mod resolv;
pub mod tsig;
#[cfg(test)]
mod tsig_tests;
