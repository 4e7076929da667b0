//! mef protects a Linux host that faces the internet: static rules and dynamic bans in nftables.
//!
//! The library holds everything; `main.rs` only hands it the arguments. Modules are layered:
//! each may use only those listed above it (`tests/project/layers.rs` holds the table).

pub mod base;

pub mod ban;
pub mod pattern;
pub mod plan;
pub mod sys;

pub mod config;
pub mod control;
pub mod detect;
pub mod dns;
pub mod firewall;
pub mod input;
pub mod ruleset;
pub mod state;

pub mod cloud;
pub mod dnsbl;
pub mod enforce;
pub mod lists;
pub mod report;
pub mod rulefile;
pub mod services;
pub mod trial;

pub mod daemon;
pub mod setup;

pub mod migrate;

pub mod applet;
