//! The build script of cargo: says in plain words which libraries are missing, and tells tests who builds.
#![allow(clippy::print_stdout, reason = "that is how a build script speaks to cargo")]

use std::env;
use std::path::PathBuf;
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

/// Libraries that are in no directory that was named have to be known to pkg-config.
fn say_what_is_missing() {
    for (library, oldest, variable) in LIBRARIES {
        println!("cargo::rerun-if-env-changed={variable}");
        let named = env::var_os(variable).map(PathBuf::from);
        if named
            .is_some_and(|dir| ["a", "so"].iter().any(|end| dir.join(library).with_extension(end).exists()))
        {
            continue;
        }
        let missing = match pkg_config(library, &format!("--atleast-version={oldest}")) {
            Some(_) => {
                // Where the linker does not look by itself.
                let dir = pkg_config(library, "--variable=libdir").unwrap_or_default();
                println!("cargo::rustc-link-search=native={}", dir.trim());
                continue;
            }
            None if pkg_config("", "--version").is_none() => {
                "pkg-config is missing, which finds libmnl and libnftnl".to_owned()
            }
            None => format!("{library} {oldest} or newer, with what one links against, is missing"),
        };
        println!("cargo::error={missing}");
        println!("cargo::error=On Debian or Ubuntu: apt-get install -y pkg-config libmnl-dev libnftnl-dev");
        println!("cargo::error=Or run `make`, which fetches both. CONTRIBUTING.md has more.");
        return;
    }
}

/// What pkg-config answers, if it is there and has nothing against it.
fn pkg_config(library: &str, question: &str) -> Option<String> {
    let program = env::var_os("PKG_CONFIG").unwrap_or_else(|| "pkg-config".into());
    let library = Some(library).filter(|name| !name.is_empty());
    let output = Command::new(program).arg(question).args(library).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
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
