#![forbid(unsafe_code)]
//! `mef version`.

use super::args::parse;
use super::output::{Output, OutputError, OutputShape};
use crate::base::build_part::BuildPart;
use crate::base::json::Object;
use crate::firewall::kernel_parts;
use crate::sys::fs;
use argh::FromArgs;
use nix::errno::Errno;
use std::path::Path;

/// Show version and licence.
#[derive(FromArgs)]
#[argh(
    help_triggers("-h", "--help"),
    note = "--verbose asks the kernel for every part, which makes it load the modules it has; only root may \
        ask.",
    example = "mef version\n  mef version --verbose"
)]
struct VersionArgs {
    /// also what this kernel can do
    #[argh(switch)]
    verbose: bool,
    /// one JSON object per line
    #[argh(switch)]
    json: bool,
}

pub(super) fn run(args: &[&str], output: &mut Output<'_>) -> Result<(), OutputError> {
    let args: VersionArgs = parse("version", args)?;
    if args.json {
        let object = Object::new().text("version", env!("CARGO_PKG_VERSION"));
        writeln!(output.out, "{}", object.text("arch", std::env::consts::ARCH).finish())?;
        return if args.verbose { kernel(OutputShape::Json, output) } else { Ok(()) };
    }
    writeln!(output.out, "mef {} {}-linux", env!("CARGO_PKG_VERSION"), std::env::consts::ARCH)?;
    writeln!(output.out, "GPL-2.0-or-later; contains libnftnl and libmnl")?;
    let missing: Vec<&str> = BuildPart::left_out().map(BuildPart::name).collect();
    if !missing.is_empty() {
        writeln!(output.out, "built without {}", missing.join(", "))?;
    }
    if args.verbose {
        kernel(OutputShape::Text, output)?;
    }
    Ok(())
}

/// What this kernel can do, a line for each part.
fn kernel(shape: OutputShape, output: &mut Output<'_>) -> Result<(), OutputError> {
    let release = fs::content(Path::new("/proc/sys/kernel/osrelease")).unwrap_or_default();
    let release = String::from_utf8_lossy(&release).trim().to_owned();
    if shape == OutputShape::Text {
        writeln!(output.out, "\nkernel {release}")?;
    }
    // Modules that were deleted with an upgrade cannot be loaded before a reboot into the new kernel.
    let modules = ["/lib/modules/", &release].concat();
    if !Path::new(&modules).exists() && Path::new("/lib/modules").exists() {
        output.note(&format_args!("there is no {modules}: was the kernel upgraded without a reboot?"));
    }
    let (parts, why) = kernel_parts();
    if let Some(e) = why.as_ref().filter(|e| e.errno() == Errno::EPERM) {
        return Err(OutputError::Failed(e.to_string()));
    }
    for (at, part) in parts.iter().enumerate() {
        why.iter().filter(|_| at == 0).for_each(|e| output.note(e));
        if shape == OutputShape::Json {
            let object = Object::new().text("part", part.name).flag("there", part.is_there);
            writeln!(output.out, "{}", object.text("about", part.about).finish())?;
            continue;
        }
        let package = if part.is_there { String::new() } else { format!(" (on OpenWrt {})", part.package) };
        let there = if part.is_there { "yes" } else { "missing" };
        writeln!(output.out, "{:<28} {there:<7} {}{package}", part.name, part.about)?;
    }
    Ok(())
}
