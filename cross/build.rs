//! The build script of cargo: says in plain words which libraries are missing, and tells tests who builds.
#![allow(clippy::print_stdout, reason = "that is how a build script speaks to cargo")]

use std::env;
use std::process::Command;

/// Libraries as pkg-config knows them, the oldest version that will do, and the variable that names a
/// directory with the library instead.
const LIBRARIES: [(&str, &str, &str); 2] =
    [("libmnl", "1.0.4", "LIBMNL_LIB_DIR"), ("libnftnl", "1.2.0", "LIBNFTNL_LIB_DIR")];

fn main() {
    println!("cargo::rerun-if-changed=cross/build.rs");
    for variable in ["PKG_CONFIG", "PKG_CONFIG_PATH", "PATH", "HOME", "USER"] {
        println!("cargo::rerun-if-env-changed={variable}");
    }
    say_what_is_missing();
    tell_tests_who_builds();
}

/// The crates mnl-sys and nftnl-sys look for the libraries, too, and fail in words of their own.
fn say_what_is_missing() {
    for (library, oldest, variable) in LIBRARIES {
        println!("cargo::rerun-if-env-changed={variable}");
        if env::var_os(variable).is_some() {
            continue;
        }
        let pkg_config = env::var_os("PKG_CONFIG").unwrap_or_else(|| "pkg-config".into());
        let asked = Command::new(pkg_config).arg(format!("--atleast-version={oldest}")).arg(library).output();
        let missing = match asked {
            Ok(output) if output.status.success() => continue,
            Ok(_) => format!("{library} {oldest} or newer, with its headers, is missing"),
            Err(_) => "pkg-config is missing, which finds libmnl and libnftnl".to_owned(),
        };
        println!("cargo::error={missing}");
        println!(
            "cargo::error=On Debian or Ubuntu: apt-get install -y gcc libc6-dev pkg-config libmnl-dev \
             libnftnl-dev"
        );
        println!("cargo::error=Or run `make`, which fetches both. CONTRIBUTING.md has more.");
        return;
    }
}

/// Tests that need root are ignored where somebody else builds, and counted as that: see CONTRIBUTING.md. The
/// program does not depend on it, so a release is the same whoever builds it.
fn tell_tests_who_builds() {
    println!("cargo::rustc-check-cfg=cfg(not_root)");
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let uid = status.lines().find_map(|line| line.strip_prefix("Uid:"));
    let is_root = uid.and_then(|ids| ids.split_whitespace().nth(1)) == Some("0");
    if !is_root && env::var("PROFILE").as_deref() == Ok("debug") {
        println!("cargo::rustc-cfg=not_root");
    }
}
