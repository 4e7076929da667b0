//! The build script of cargo: says in plain words which libraries are missing, and tells tests who builds.
#![allow(clippy::print_stdout, reason = "that is how a build script speaks to cargo")]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

#[path = "pack.rs"]
mod pack;
#[path = "../src/base/packed.rs"]
#[allow(dead_code, reason = "the way back is for the program")]
mod packed;

/// Where the service rules are.
const RULES: &str = "rootfs/etc/mef/rules.d";

/// Likewise what starts mef, a tree for each init system.
const INITS: &str = "rootfs/usr/share/mef/init";
/// Likewise what every host gets, below rootfs/.
const ANYWHERE: [&str; 6] = [
    "etc/mef/mef.conf",
    "etc/mef/mef.rules",
    "etc/logrotate.d/mef",
    "usr/share/man/man8/mef.8",
    "usr/share/man/man5/mef.conf.5",
    "usr/share/man/man5/mef.rules.5",
];

/// What a router needs of both: its init system has a tree, busybox has none.
const ROUTER: [&str; 3] = ["procd/", "any/etc/mef/mef.conf", "any/etc/mef/mef.rules"];

/// Libraries as pkg-config knows them, the oldest version that will do, and the variable that names a
/// directory with the library instead.
const LIBRARIES: [(&str, &str, &str); 2] =
    [("libmnl", "1.0.4", "LIBMNL_LIB_DIR"), ("libnftnl", "1.2.0", "LIBNFTNL_LIB_DIR")];

fn main() {
    for file in ["cross/build.rs", "cross/pack.rs", "src/base/packed.rs", RULES] {
        println!("cargo::rerun-if-changed={file}");
    }
    for variable in ["PKG_CONFIG", "PKG_CONFIG_PATH", "PATH", "HOME", "USER"] {
        println!("cargo::rerun-if-env-changed={variable}");
    }
    say_what_is_missing();
    tell_tests_who_builds();
    pack_files("rules", &files_in(RULES), &without_comments);
    pack_setup();
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
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let uid = status.lines().find_map(|line| line.strip_prefix("Uid:"));
    let is_root = uid.and_then(|ids| ids.split_whitespace().nth(1)) == Some("0");
    if !is_root && env::var("PROFILE").as_deref() == Ok("debug") {
        println!("cargo::rustc-cfg=not_root");
    }
}

/// Packs what `mef setup` writes: the trees of the init systems, and what every host gets as the tree `any`.
fn pack_setup() {
    println!("cargo::rerun-if-changed={INITS}");
    let mut files = Vec::new();
    walk(Path::new(INITS), &mut files);
    let mut named: Vec<_> = files
        .into_iter()
        .filter_map(|path| Some((path.strip_prefix(INITS).ok()?.to_str()?.to_owned(), path)))
        .collect();
    named.sort();
    named.extend(ANYWHERE.iter().map(|path| (["any/", path].concat(), Path::new("rootfs").join(path))));
    if env::var_os("CARGO_FEATURE_HOMES").is_none() {
        named.retain(|(name, _)| ROUTER.iter().any(|wanted| name.starts_with(wanted)));
    }
    let read = |(name, path): &(String, PathBuf)| {
        println!("cargo::rerun-if-changed={}", path.display());
        Some((name.clone(), fs::read_to_string(path).ok()?))
    };
    let texts: Vec<_> = named.iter().filter_map(read).collect();
    write_packed("setup", &texts, named.len());
}

/// Every file below a directory.
fn walk(dir: &Path, found: &mut Vec<PathBuf>) {
    for path in fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path()) {
        if path.is_dir() { walk(&path, found) } else { found.push(path) }
    }
}

/// Packs files into OUT_DIR/NAME.packed, each under its name without `.conf` and as `kept` leaves it.
fn pack_files(name: &str, files: &[PathBuf], kept: &dyn Fn(&str) -> String) {
    let read = |path: &PathBuf| {
        println!("cargo::rerun-if-changed={}", path.display());
        let name = path.file_name()?.to_str()?;
        let text = fs::read_to_string(path).ok()?;
        Some((name.strip_suffix(".conf").unwrap_or(name).to_owned(), kept(&text)))
    };
    let texts: Vec<_> = files.iter().filter_map(read).collect();
    write_packed(name, &texts, files.len());
}

/// Writes texts packed; there have to be so many.
fn write_packed(name: &str, texts: &[(String, String)], count: usize) {
    let packed = pack::pack(texts.iter().map(|(name, text)| (name.as_str(), text.as_str())));
    let out = PathBuf::from(env::var_os("OUT_DIR").unwrap_or_default()).join(name).with_extension("packed");
    match fs::write(&out, packed) {
        Ok(()) if texts.len() == count => {}
        _ => println!("cargo::error=cannot pack the files for {}", out.display()),
    }
}

/// The files of a directory, sorted, so that every machine packs them in the same order.
fn files_in(dir: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(Path::new(dir)).into_iter().flatten().flatten();
    let mut files: Vec<_> = entries.map(|entry| entry.path()).filter(|path| path.is_file()).collect();
    files.sort();
    files
}

/// A service rule without what only people and `mef test --self` read: three quarters of it.
fn without_comments(text: &str) -> String {
    let lines = text.lines().filter(|line| !line.trim().is_empty() && !line.starts_with('#'));
    lines.flat_map(|line| [line, "\n"]).collect()
}
