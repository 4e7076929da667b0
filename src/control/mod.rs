#![forbid(unsafe_code)]
//! The control socket of the daemon, `RUN_DIR/mef.sock`: lines of text, both its ends. Knows neither what the
//! daemon counts nor how a command shows it.

pub mod client;
pub mod proto;
pub mod server;

/// The socket's name in run_dir.
pub const NAME: &str = "mef.sock";
