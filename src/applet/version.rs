#![forbid(unsafe_code)]
//! `mef version`.

use super::{Error, Output, parse};
use argh::FromArgs;

/// Show version and licence.
#[derive(FromArgs)]
#[argh(help_triggers("-h", "--help"), example = "mef version")]
struct Args {}

pub(super) fn run(args: &[&str], output: &mut Output<'_>) -> Result<(), Error> {
    let Args {} = parse("version", args)?;
    writeln!(output.out, "mef {} {}-linux", env!("CARGO_PKG_VERSION"), std::env::consts::ARCH)?;
    writeln!(output.out, "GPL-2.0-or-later; contains libnftnl and libmnl")?;
    Ok(())
}
