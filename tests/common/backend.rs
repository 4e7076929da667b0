//! Which backend the hosts of a test use: bodies run over both.

use super::{Net, wait_until};
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
        net.choose_variant("legacy");
    }
}

impl Net {
    /// The host chooses a variant of iptables, `legacy` or `nft`, as by alternatives.
    pub fn choose_variant(&self, variant: &str) {
        for name in ["iptables-restore", "ip6tables-restore"] {
            let (to, new) = (self.path(&format!("sbin/{name}")), self.path("sbin/new"));
            std::os::unix::fs::symlink(format!("/usr/sbin/xtables-{variant}-multi"), &new).unwrap();
            std::fs::rename(new, to).unwrap();
        }
    }

    /// In place of every program that writes rules: a script that says these words and fails if any of them
    /// matches a pattern of the shell, as where the kernel lacks something.
    pub fn refuse_rules(&self, pattern: &str, fails: &str) {
        for name in ["iptables", "ip6tables"] {
            for variant in ["", "-legacy", "-nft"] {
                self.program(
                    &format!("sbin/{name}{variant}-restore"),
                    &format!(
                        "#!/bin/sh\nrules=$(cat)\ncase $rules in {pattern})\n{fails};; esac\n\
                        printf '%s\\n' \"$rules\" | \
                        exec /usr/sbin/xtables-legacy-multi {name}-restore \"$@\"\n"
                    ),
                );
            }
        }
    }

    /// What `ipset` says of a set of ours, `""` if it is not there.
    pub fn ipset(&self, set: &str) -> String {
        self.cmd("ipset", &["list", &format!("mef_{set}")]).stdout
    }

    /// What a set of ours holds, as text: of IPv6 single addresses, too. Empty if it is empty.
    pub fn set_text(&self, set: &str) -> String {
        if !is_fallback() {
            let list = self.nft_list(&format!("set inet mef_guard {set}"));
            return list.split("elements = {").nth(1).unwrap_or("").to_owned();
        }
        let single = set.replace('6', "s");
        let all: Vec<String> = [set, &single].iter().map(|set| self.ipset(set)).collect();
        let all = if set.ends_with('6') { &all[..] } else { &all[..1] };
        let members = all.iter().flat_map(|list| list.split("Members:\n").skip(1));
        // What has no end tells the kernel how long prefixes are.
        members
            .flat_map(|all| all.lines())
            .filter(|l| !l.contains(" timeout 0"))
            .collect::<Vec<_>>()
            .join("\n")
    }

    /// How many elements with an end it has.
    pub fn set_len(&self, set: &str) -> usize {
        self.set_text(set).matches(if is_fallback() { " timeout " } else { " expires " }).count()
    }

    /// All that is in force of ours, with the names of the sets.
    pub fn shown(&self) -> String {
        if is_fallback() {
            let rules = self.rules_of_iptables();
            let rules: Vec<&str> = rules.lines().filter(|line| !line.starts_with(':')).collect();
            rules.join("\n") + &self.cmd("ipset", &["list", "-n"]).stdout
        } else {
            self.nft_list("table inet mef_guard")
        }
    }

    /// Empties sets of ours.
    pub fn flush_sets(&self, sets: &[&str]) {
        for set in sets {
            if is_fallback() {
                self.cmd("ipset", &["flush", &format!("mef_{set}")]).ok();
            } else {
                self.nft(&format!("flush set inet mef_guard {set}"));
            }
        }
    }

    /// Takes an address out of a set of ours.
    pub fn take_out(&self, set: &str, addr: &str) {
        if is_fallback() {
            self.cmd("ipset", &["del", &format!("mef_{set}"), addr]).ok();
        } else {
            self.nft(&format!("delete element inet mef_guard {set} {{ {addr} }}"));
        }
    }

    /// Packets that each rule of these chains has dropped: by their name in nf_tables, and in iptables.
    pub fn drops_of(&self, nft: &str, iptables: &str) -> Vec<u64> {
        if !is_fallback() {
            let chain = self.nft_list(&format!("chain inet mef_guard {nft}"));
            let counts = chain.split("counter packets ").skip(1);
            return counts.map(|rest| rest.split(' ').next().unwrap().parse().unwrap()).collect();
        }
        let (rules, chain) = (self.rules_of_iptables(), format!("-A mef_{iptables}"));
        let drops = rules.lines().filter(|l| l.contains(&chain) && l.ends_with("-j DROP"));
        drops.map(|l| l[1..].split(':').next().unwrap().parse().unwrap()).collect()
    }

    /// Whether the rules that watch packets for this are in force, by what is in the name of each of their
    /// chains: in nf_tables, and in iptables.
    pub fn watches(&self, nft: &str, iptables: &str) -> bool {
        if is_fallback() {
            let rules = self.rules_of_iptables();
            let chain = format!("-j mef_{iptables}");
            return rules.lines().filter(|line| line.ends_with(&chain)).count() >= 2;
        }
        self.nft_list(&format!("chain inet mef_guard {nft}")).contains(&format!("goto {nft}_look"))
    }

    /// Deletes what is in force, as a firewall script does that begins anew, and as a reboot does.
    pub fn lose_table(&self) {
        if !is_fallback() {
            self.cmd("nft", &["flush", "ruleset"]).ok();
            return;
        }
        wait_until("the end of all sets", || {
            self.flush_iptables();
            // Sets of sets hold their members.
            self.cmd("ipset", &["flush"]).ok();
            self.cmd("ipset", &["destroy"]).status == 0
        });
    }

    /// The rule set in force, without what counts and what comes and goes by itself.
    pub fn rule_set(&self) -> String {
        if !is_fallback() {
            return self.cmd("nft", &["-s", "-t", "list", "table", "inet", "mef"]).stdout;
        }
        // Rule sets have letters, which say nothing.
        let plain = |line: &str| {
            ["a", "b", "c", "d"]
                .iter()
                .fold(line.to_owned(), |line, letter| line.replace(&format!("mefr_{letter}"), "mefr_X"))
        };
        let saved = ["iptables-legacy-save", "ip6tables-legacy-save"].map(|program| {
            let text = self.cmd(program, &[]).ok();
            let ours = text.lines().filter(|line| line.starts_with('-') && line.contains("mefr_"));
            let mut ours: Vec<String> = ours.map(plain).collect();
            // Chains stand in the order in which they were made.
            ours.sort_by_key(|line| line.split(' ').nth(1).unwrap_or("").to_owned());
            ours.join("\n")
        });
        saved.concat()
    }

    /// Whether the kernel has rules on trial.
    pub fn has_trial(&self) -> bool {
        if is_fallback() {
            // Those of IPv6 come behind those of IPv4.
            let rules = self.rule_set();
            return rules.contains("mefr_t4 src -g") && rules.contains("mefr_t6 src -g");
        }
        let list = self.nft_list("table inet mef");
        list.contains("set trial") && list.contains("the new rules are in force while this has an element")
    }

    /// Ends the time of a trial.
    pub fn end_trial(&self) {
        if is_fallback() {
            ["mefr_t4", "mefr_t6"].iter().for_each(|set| drop(self.cmd("ipset", &["flush", set]).ok()));
        } else {
            self.cmd("nft", &["flush", "set", "inet", "mef", "trial"]).ok();
        }
    }

    /// Deletes the rule set, as a firewall script does that begins anew, and as a reboot does.
    pub fn lose_rules(&self) {
        if is_fallback() {
            self.lose_table();
        } else {
            self.cmd("nft", &["delete table inet mef"]);
        }
    }

    /// Deletes all rules and chains of iptables.
    pub fn flush_iptables(&self) {
        for program in ["iptables-legacy", "ip6tables-legacy"] {
            for table in ["raw", "mangle", "filter", "nat"] {
                // A daemon may put rules back between the two.
                wait_until("the end of its chains", || {
                    self.cmd(program, &["-t", table, "-F"]).ok();
                    self.cmd(program, &["-t", table, "-X"]).status == 0
                });
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
        let saved = ["iptables-legacy-save", "ip6tables-legacy-save"].map(|program| {
            loop {
                let out = self.cmd(program, &["-c"]);
                // A set that was deleted after the rules were read.
                if !out.stderr.contains("doesn't exist") {
                    return out.ok();
                }
            }
        });
        saved.concat()
    }
}

/// Runs tests of other modules again.
macro_rules! also {
    ($($area:ident $module:ident $(in $inner:ident)?: $($body:ident),+ $(,)?;)+) => {
        $(mod $module {
            use $crate::$area::$($inner::)?$module as bodies;
            $(
                #[test]
                #[cfg_attr(not_root, ignore = "needs root")]
                fn $body() {
                    $crate::common::backend::with_iptables(bodies::$body);
                }
            )+
        })+
    };
}
pub(crate) use also;
