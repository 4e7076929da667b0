//! Which backend the hosts of a test use: bodies run over both.

use super::Net;
use std::cell::Cell;

thread_local! {
    static LINE: Cell<&'static str> = const { Cell::new("") };
}

/// The line of mef.conf that says so; empty is what mef does by itself.
pub fn line() -> &'static str {
    LINE.get()
}

/// Whether it is iptables and ip_set.
pub fn is_fallback() -> bool {
    !line().is_empty()
}

/// Does something on hosts that use iptables and ip_set.
pub fn with_iptables(body: fn()) {
    LINE.set("firewall_backend=iptables\n");
    body();
    LINE.set("");
}

/// Has the programs of a host find the backend: the rules are those of the legacy iptables.
pub fn prepare(net: &Net) {
    if is_fallback() {
        net.write("etc-mef/mef.conf", &format!("[global]\n{}", line()));
        for name in ["iptables-restore", "ip6tables-restore"] {
            let to = net.path(&format!("sbin/{name}"));
            std::os::unix::fs::symlink("/usr/sbin/xtables-legacy-multi", to).unwrap();
        }
    }
}

impl Net {
    /// What `ipset` says of a set of ours, `""` if it is not there.
    pub fn ipset(&self, set: &str) -> String {
        self.cmd("ipset", &["list", &format!("mef_{set}")]).stdout
    }

    /// Deletes what is in force, as a firewall script does that begins anew, and as a reboot does.
    pub fn lose_table(&self) {
        if !is_fallback() {
            self.cmd("nft", &["flush", "ruleset"]).ok();
            return;
        }
        self.flush_iptables();
        self.cmd("ipset", &["destroy"]).ok();
    }

    /// Deletes all rules and chains of iptables.
    pub fn flush_iptables(&self) {
        for program in ["iptables-legacy", "ip6tables-legacy"] {
            for table in ["raw", "mangle", "filter"] {
                self.cmd(program, &["-t", table, "-F"]).ok();
                self.cmd(program, &["-t", table, "-X"]).ok();
            }
        }
    }

    /// Has mef take away all that is its own.
    pub fn lose_ours(&self) {
        let options = mef::ban::Options::default();
        mef::firewall::iptables::Fallback::open(options, mef::ban::Allowed::default())
            .unwrap()
            .remove()
            .unwrap();
    }

    /// All rules of iptables, of both families, with their counts.
    pub fn rules_of_iptables(&self) -> String {
        let saved =
            ["iptables-legacy-save", "ip6tables-legacy-save"].map(|program| self.cmd(program, &["-c"]).ok());
        saved.concat()
    }
}

/// Runs tests of other modules again.
macro_rules! also {
    ($($area:ident $module:ident: $($body:ident),+ $(,)?;)+) => {
        $(mod $module {
            $(
                #[test]
                #[cfg_attr(not_root, ignore = "needs root")]
                fn $body() {
                    $crate::common::backend::with_iptables(crate::$area::$module::$body);
                }
            )+
        })+
    };
}
pub(crate) use also;
