#![forbid(unsafe_code)]
//! What set-up writes: the files below rootfs/, packed inside the binary.

use super::init::Init;
use super::root::Root;
use crate::base::packed;

/// `cross/build.rs` packs them, each as TREE/PATH: the tree is that of an init system, or `any`.
const PACKED: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/setup.packed"));

/// The configuration.
pub const CONF: &str = "/etc/mef/mef.conf";
/// The rule set.
pub const RULES: &str = "/etc/mef/mef.rules";

/// What is added to the configuration on a router: what /var holds is gone at the next boot, and flash wears
/// out.
pub const ROUTER: &str = "\n# As set up on a system whose /var is in memory: state on the flash, written \
    rarely.\nstate_dir=/etc/mef/state\nstate_sync=6h\n";

/// The script of System V that loads the rule set.
const RULES_SCRIPT: &str = "/etc/init.d/mef-rules";
/// Where these are, the first stage of runit runs scripts of System V: that of Debian and its kin.
pub const RUNIT_SYSV: [&str; 2] = ["/etc/rcS.d", "/lib/runit/run_sysv_scripts"];

/// A file that is written.
pub struct Shipped {
    /// Where.
    pub path: String,
    /// Its rights.
    pub mode: u32,
    /// Its text.
    pub text: String,
    /// Written only where these are.
    beside: &'static [&'static str],
}

impl Shipped {
    /// Whether it is written there.
    #[must_use]
    pub fn belongs(&self, root: &Root) -> bool {
        self.beside.iter().all(|path| root.has(path))
    }
}

/// The files for an init system, in the order in which they are written. busybox has lines in /etc/inittab
/// instead of files.
#[must_use]
pub fn of(init: Init) -> Vec<Shipped> {
    let mut all = Vec::new();
    packed::each(PACKED, &mut |name, text| {
        let (tree, _) = name.split_once('/').unwrap_or((name, ""));
        let path = name.get(tree.len()..).unwrap_or("");
        let borrowed = init == Init::Runit && tree == "sysvinit" && path == RULES_SCRIPT;
        if tree == "any" || tree == init.name() || borrowed {
            let file = path.rsplit('/').next().unwrap_or("");
            let runs = path.starts_with("/etc/init.d/") || matches!(file, "run" | "finish");
            let beside: &[&str] = match path {
                _ if borrowed => &RUNIT_SYSV,
                _ if path.starts_with("/etc/logrotate.d") => &["/etc/logrotate.d"],
                _ if path.starts_with("/usr/share/man") => &["/usr/share/man"],
                _ => &[],
            };
            let (path, text) = (path.to_owned(), text.to_owned());
            all.push(Shipped { path, mode: if runs { 0o755 } else { 0o644 }, text, beside });
        }
        true
    });
    all
}

/// The text of a file for every init system, as it ships.
#[must_use]
pub fn shipped_text(path: &str) -> String {
    let mut found = String::new();
    packed::each(PACKED, &mut |name, text| {
        let is_it = name.strip_prefix("any") == Some(path);
        if is_it {
            found.push_str(text);
        }
        !is_it
    });
    found
}

#[cfg(test)]
mod tests {
    use super::super::init::NAMES;
    use super::*;

    #[test]
    fn every_init_system_has_its_files_and_those_that_run_are_programs() {
        let root = concat!(env!("CARGO_MANIFEST_DIR"), "/rootfs");
        for (name, init) in NAMES {
            let files = of(init);
            let own = files.iter().filter(|file| {
                let from = format!("{root}/usr/share/mef/init/{name}{}", file.path);
                let borrowed = format!("{root}/usr/share/mef/init/sysvinit{}", file.path);
                let all = [from, borrowed, format!("{root}{}", file.path)];
                let from = all.into_iter().find(|path| std::path::Path::new(path).exists()).unwrap();
                assert_eq!(std::fs::read_to_string(&from).unwrap(), file.text, "{from}");
                assert_eq!(file.mode == 0o755, file.text.starts_with("#!"), "{from}");
                from.contains("/usr/share/mef/init/")
            });
            assert_eq!(own.count() > 0, !matches!(init, Init::Busybox | Init::None), "{name}");
            assert_eq!(files.iter().filter(|file| [CONF, RULES].contains(&&*file.path)).count(), 2);
        }
    }
}
