#![forbid(unsafe_code)]
//! What `mef check` says of the backend: what it lacks for what mef.conf asks of it, and what it has left in
//! files of others.

use crate::base::build_part::BuildPart;
use crate::base::diag::{Problem, Severity};
use crate::config::{Backend, Fastpath, FileProblem, Settings};
use crate::firewall::{loader, restore_programs};
use crate::sys::fs;
use std::path::Path;

/// Where others keep rules of iptables, and load them at boot.
const SAVED: [&str; 4] = [
    "/etc/iptables/rules.v4",
    "/etc/iptables/rules.v6",
    "/etc/sysconfig/iptables",
    "/etc/sysconfig/ip6tables",
];

/// What is wrong with it.
pub(super) fn problems(config: &str, settings: &Settings) -> Vec<FileProblem> {
    let mut all = Vec::new();
    if !BuildPart::Fallback.is_in() {
        return all;
    }
    let mut add = |path: &str, severity, what: &str, hint: &str| {
        let problem = Problem::whole(severity, what.to_owned(), hint.to_owned());
        let shown = problem.render(path, "");
        all.push(FileProblem { path: path.to_owned(), problem, shown });
    };
    if settings.firewall_backend == Backend::Iptables && restore_programs().is_empty() {
        let what = "firewall_backend=iptables: iptables-restore is not installed";
        add(config, Severity::Error, what, "install the package iptables");
    }
    let is_fallback = settings.firewall_backend == Backend::Iptables || loader::is_fallback();
    for (name, _) in
        [("guard_owner", settings.guard_owner), ("fastpath=ingress", settings.fastpath == Fastpath::Ingress)]
            .iter()
            .filter(|(_, is_on)| is_fallback && *is_on)
    {
        let what = format!("{name} has no effect: nf_tables alone has that");
        add(config, Severity::Warning, &what, "see firewall_backend");
    }
    for path in SAVED {
        let text = fs::content(Path::new(path)).unwrap_or_default();
        if text.split(|byte| *byte == b'\n').any(is_ours) {
            let what = "has rules of mef, whose sets are not there at boot: then nothing of it is loaded";
            add(
                path,
                Severity::Warning,
                what,
                "save the rules anew while mef has none, or delete those lines",
            );
        }
    }
    all
}

/// Whether a line of `iptables-save` is a rule or chain of ours.
fn is_ours(line: &[u8]) -> bool {
    let line = String::from_utf8_lossy(line);
    (line.starts_with('-') || line.starts_with(':') || line.starts_with('['))
        && line.split([' ', ':']).any(|word| word.starts_with("mef_") || word.starts_with("mefr_"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_and_chains_of_ours_are_known_by_their_names() {
        for (line, want) in [
            (":mef_hit - [0:0]", true),
            ("-A PREROUTING -m set --match-set mef_ban4 src -j mef_hit", true),
            ("[3:99] -A INPUT -m set --match-set mefr_h04 src -j mefr_in", true),
            ("# Generated for mef_x", false),
            ("-A INPUT -m comment --comment notmef_ -j ACCEPT", false),
            ("*raw", false),
        ] {
            assert_eq!(is_ours(line.as_bytes()), want, "{line}");
        }
    }
}
