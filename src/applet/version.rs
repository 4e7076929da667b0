#![forbid(unsafe_code)]
//! `mef version`.

use super::args::parse;
use super::output::{Error, Output};
use crate::firewall::nft::TxnError;
use crate::firewall::nft::parts::{PARTS, missing};
use crate::sys::fs;
use crate::sys::netlink::NlSocket;
use argh::FromArgs;
use mnl::Bus;
use nix::errno::Errno;
use std::path::Path;

/// Show version and licence.
#[derive(FromArgs)]
#[argh(
    help_triggers("-h", "--help"),
    note = "--verbose asks the kernel for every part, and so has it load the modules that it has; only root \
        may ask.",
    example = "mef version\n  mef version --verbose"
)]
struct Args {
    /// also what this kernel can do
    #[argh(switch)]
    verbose: bool,
}

pub(super) fn run(args: &[&str], output: &mut Output<'_>) -> Result<(), Error> {
    let args: Args = parse("version", args)?;
    writeln!(output.out, "mef {} {}-linux", env!("CARGO_PKG_VERSION"), std::env::consts::ARCH)?;
    writeln!(output.out, "GPL-2.0-or-later; contains libnftnl and libmnl")?;
    if args.verbose {
        kernel(output)?;
    }
    Ok(())
}

/// What this kernel can do, a line for each part.
fn kernel(output: &mut Output<'_>) -> Result<(), Error> {
    let release = fs::content(Path::new("/proc/sys/kernel/osrelease")).unwrap_or_default();
    let release = String::from_utf8_lossy(&release).trim().to_owned();
    writeln!(output.out, "\nkernel {release}")?;
    // Modules that were deleted with an upgrade cannot be loaded before a reboot into the new kernel.
    let modules = ["/lib/modules/", &release].concat();
    if !Path::new(&modules).exists() && Path::new("/lib/modules").exists() {
        output.note(&format_args!("there is no {modules}: was the kernel upgraded without a reboot?"));
    }
    let line = |output: &mut Output<'_>, name: &str, has: bool, about: &str, package: &str| {
        let package = if has { String::new() } else { format!(" (on OpenWrt {package})") };
        writeln!(output.out, "{:<28} {:<7} {about}{package}", name, if has { "yes" } else { "missing" })
    };
    let asked = NlSocket::open(Bus::Netfilter).map_err(TxnError::from);
    match asked.and_then(|mut socket| missing(&mut socket)) {
        Err(e) if e.errno() == Errno::EPERM => return Err(Error::Failed(e.to_string())),
        Err(e) => {
            line(output, "nf_tables", false, "everything but reading logs", "kmod-nft-core")?;
            output.note(&e);
        }
        Ok(missing) => {
            line(output, "nf_tables", true, "bans, lists and rules", "")?;
            for (n, part) in PARTS.iter().enumerate() {
                line(output, part.module, !missing.has(n), part.about, part.package)?;
            }
        }
    }
    for (name, has, about, package) in crate::firewall::conntrack::abilities() {
        line(output, name, has, about, package)?;
    }
    Ok(())
}
