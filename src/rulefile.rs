#![forbid(unsafe_code)]
//! mef.rules from the disk into the kernel: the meeting point of the language, the host and the firewall.

mod disk;

use crate::base::build_part::BuildPart;
use crate::base::diag::{Problem, Severity};
use crate::base::name::IfName;
use crate::firewall::loader::{self, Goal, ListingScope, LoadError, Loader};
use crate::plan::listed::ListedTable;
use crate::ruleset::check::{self, Host};
use crate::ruleset::compile::{compile, compile_last};
use crate::ruleset::export::{self, ExportPurpose, Exported};
use crate::ruleset::needs::{Behind, Situation, SshSession};
use crate::ruleset::{Files as _, RuleSet, Trees};
use crate::sys::dir::Dir;
use crate::sys::{clock, fs, host, routes, trim};
use disk::{Disk, RuleSetText};
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

/// The rule set that is meant when none is named.
pub const DEFAULT_PATH: &str = "/etc/mef/mef.rules";

/// The path that stands for standard input.
pub const STDIN: &str = "/dev/stdin";

/// Largest file that is read.
const SIZE_MAX: u64 = 64 * 1024 * 1024;

/// How closely a rule set is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CheckDepth {
    /// Every rule by itself.
    Quick,
    /// Every rule is compared with those before it, too.
    Thorough,
}

/// From so many rules on, the code that has read them is given back: it need not take memory beside them.
const MANY_RULES: usize = 2048;

/// Reads a rule set and finds all that is wrong with it, what this host has to do with it included.
/// Nothing is found that only a comparison of rules shows, unless `depth` asks for it.
#[must_use]
pub fn read(path: &str, depth: CheckDepth) -> RuleSet {
    let thorough = depth == CheckDepth::Thorough;
    let mut set = RuleSet::read(path, &mut Disk, if thorough { Trees::All } else { Trees::First });
    let failed = set.failed();
    if set.rules() >= MANY_RULES {
        trim::drop_code_pages();
    }
    if !failed {
        let has_interface = &|name: &str| routes::has_interface(name);
        let situation = &situation();
        let (mut warnings, locks_out) = check::warnings(&set, &Host { has_interface, situation });
        if situation.uplinks.is_empty()
            && let Some(place) = set.first_auto
        {
            let what = "auto: there is no default route now, so it means no interface".to_owned();
            let problem = set.mark(
                place,
                Severity::Warning,
                set.auto_key(place),
                what,
                "a daemon that runs follows the route",
            );
            set.problems.push((place.file, problem));
        }
        set.problems.append(&mut warnings);
        unforwarded(&mut set);
        if loader::is_fallback()
            && let Some(place) = set.first_bridge
        {
            let what = "iptables cannot say this: it sees no frames between ports of a bridge".to_owned();
            let problem = set.mark(place, Severity::Error, "dir", what, BACKEND);
            set.problems.push((place.file, problem));
        } else if loader::is_fallback() {
            unsaid(&mut set, &situation.uplinks);
            if let Some(why) = loader::objection() {
                set.problems.push((0, Problem::whole(Severity::Error, why.to_owned(), BACKEND.to_owned())));
            }
        } else {
            let foreign =
                set.sets.iter().filter(|(_, named)| named.ipset().is_some()).map(|(place, _)| *place);
            let foreign: Vec<_> = foreign.collect();
            for place in foreign {
                let what = "nf_tables cannot ask a set of ip_set".to_owned();
                let problem = set.mark(place, Severity::Error, "source", what, BACKEND);
                set.problems.push((place.file, problem));
            }
        }
        set.locks_out = locks_out;
        if thorough && let Err(why) = keepable(set.whole_len()) {
            set.problems.push((0, Problem::whole(Severity::Error, why, String::new())));
        }
    }
    set
}

/// Where another backend is chosen.
const BACKEND: &str = "see firewall_backend in mef.conf";

/// Finds what the backend cannot say.
fn unsaid(set: &mut RuleSet, uplinks: &[IfName]) {
    let mut batch = loader::loader(Goal::Replace);
    compile(set, uplinks, &mut *batch);
    for (severity, statement, key, why) in batch.unsaid() {
        if let Some(place) = set.rule_place(statement) {
            let what = ["iptables cannot say this: ", why].concat();
            let problem = set.mark(place, severity, key, what, BACKEND);
            set.problems.push((place.file, problem));
        }
    }
}

/// Warns of rules that translate what the kernel does not forward.
fn unforwarded(set: &mut RuleSet) {
    let families = [
        ("forwarding is off for IPv4 in the kernel", "sysctl net.ipv4.ip_forward=1"),
        ("forwarding is off for IPv6 in the kernel", "sysctl net.ipv6.conf.all.forwarding=1"),
    ];
    for ((place, forwards), (what, hint)) in set.first_nat.into_iter().zip(host::forwards()).zip(families) {
        if let Some(place) = place.filter(|_| !forwards) {
            let problem = set.mark(place, Severity::Warning, "action", what.to_owned(), hint);
            set.problems.push((place.file, problem));
        }
    }
}

/// What is known of this host for the check of its rules.
fn situation() -> Situation {
    let ssh =
        host::ssh_session().map(|(peer, here)| SshSession { peer, here, link: routes::interface_to(peer.0) });
    let uplinks = routes::default_interfaces().unwrap_or_default();
    let (dhcp, now) = (host::dhcp_clients(), clock::wall());
    let mut found = Situation { ssh, dhcp, uplinks, now, ..Situation::default() };
    let forwards = host::forwards();
    let mut none = true;
    for (link, addr) in routes::addresses().into_iter().filter(|(link, _)| link.as_str() != "lo") {
        none = false;
        found.has_ipv6 |= addr.is_ipv6();
        if matches!(addr, IpAddr::V6(v6) if v6.is_unicast_link_local()) {
            continue;
        }
        let family = usize::from(addr.is_ipv6());
        found.speaks.get_mut(family).into_iter().for_each(|speaks| *speaks = true);
        let known = |behind: &Behind| behind.link == link && behind.addr.is_ipv6() == addr.is_ipv6();
        let behind = forwards.get(family) == Some(&true) && !found.uplinks.contains(&link);
        if behind && !found.behind.iter().any(known) {
            found.behind.push(Behind { link, addr });
        }
    }
    if none {
        // Before the network is there, any of it may come.
        (found.speaks, found.has_ipv6) = ([true; 2], true);
    }
    found
}

/// The content of one file, or of standard input.
///
/// # Errors
/// What the system says.
pub fn read_file(path: &str) -> io::Result<Vec<u8>> {
    Disk.read(path)
}

/// Makes `bytes` the content of the file, which may be a new one, all or nothing; owner and mode stay.
///
/// # Errors
/// What the system says.
pub fn replace(path: &str, bytes: &[u8]) -> io::Result<()> {
    // The file itself, where the path is a link to it.
    let (path, like) = match std::fs::canonicalize(path) {
        Ok(path) => (path.clone(), Some(std::fs::metadata(&path)?)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => (fs::absolute(Path::new(path))?, None),
        Err(e) => return Err(e),
    };
    let name = path.file_name().and_then(|name| name.to_str()).ok_or(io::ErrorKind::InvalidFilename)?;
    let dir = Dir::open(path.parent().unwrap_or(Path::new("/")))?;
    dir.replace_like(like.as_ref(), name, &[".", name, ".new"].concat(), bytes)
}

/// Shows the problems of a rule set, those of each file together.
#[must_use]
pub fn shown(set: &RuleSet) -> Vec<String> {
    let show = |(file, problem): &(u16, Problem)| {
        set.files.get(usize::from(*file)).map(|f| problem.render(&f.name, &f.text)).unwrap_or_default()
    };
    set.problems.iter().map(show).collect()
}

/// Whether the text of a rule set, with the elements of its sets, can be read again when it is kept.
///
/// # Errors
/// Why not, for people.
pub fn keepable(len: usize) -> Result<(), String> {
    if len as u64 <= SIZE_MAX {
        return Ok(());
    }
    let megabytes = |bytes: u64| (bytes >> 20).to_string();
    let (is, max) = (megabytes(len as u64), megabytes(SIZE_MAX));
    Err(["with the elements of the sets the rules are ", &is, " MB of text; ", &max, " MB can be kept"]
        .concat())
}

/// Reads a rule set that has no includes, and was checked before.
#[must_use]
pub fn read_text(name: &str, text: &str) -> RuleSet {
    RuleSet::read(name, &mut RuleSetText(text), Trees::First)
}

/// Compiles a rule set without errors to the transaction that loads it. Its text is gone then.
///
/// # Errors
/// What stands in the way, for people.
pub fn batch(set: &mut RuleSet, goal: Goal<'_>) -> Result<Box<dyn Loader>, String> {
    let auto = auto(set)?;
    let mut batch = loader::loader(goal);
    compile_last(set, &auto, &mut *batch);
    Ok(batch)
}

/// The rules that the kernel has from `mef load` as the text of a rule set, if it can be one.
#[must_use]
pub fn loaded_text() -> Option<String> {
    if !BuildPart::Export.is_in() {
        return None;
    }
    let mut tables = loader::listed(&loader::is_ours, ListingScope::Whole).ok()?;
    let exported = export::ours(tables.first_mut()?, ExportPurpose::File);
    (exported.counts.unsaid == 0).then(|| exported.lines.join("\n") + "\n")
}

/// The interfaces that `auto` means, where a rule asks for them.
fn auto(set: &RuleSet) -> Result<Vec<IfName>, String> {
    match set.first_auto {
        None => Ok(Vec::new()),
        Some(_) => routes::default_interfaces().map_err(|e| e.to_string()),
    }
}

/// The statements of a rule set without errors in the form in which `export` would give them back.
///
/// # Errors
/// What stands in the way, for people.
pub fn statements(set: &RuleSet) -> Result<Vec<String>, String> {
    if !BuildPart::Export.is_in() {
        return Err(BuildPart::Export.is_missing());
    }
    let mut table = ListedTable::ours();
    compile(set, &auto(set)?, &mut table);
    for listed in table.chains.iter_mut().flat_map(|chain| &mut chain.rules) {
        for part in listed.parts.iter_mut().flatten() {
            part.rule.comment = loader::kept_comment(&part.rule.comment);
        }
    }
    Ok(comparable(&mut table))
}

/// The statements of a table, those of sets by their names: their order means nothing.
fn comparable(table: &mut ListedTable) -> Vec<String> {
    table.sets.sort_unstable_by_key(|set| set.name);
    export::ours(table, ExportPurpose::Comparison).lines
}

/// The statements of the rules that the kernel has from `mef load`; none if it has none. Where they cannot be
/// read back, `kept` are files one of which may have them.
///
/// # Errors
/// What the kernel refused, for people.
pub fn loaded(kept: &[PathBuf]) -> Result<Vec<String>, String> {
    if !BuildPart::Export.is_in() {
        return Err(BuildPart::Export.is_missing());
    }
    if loader::is_elsewhere().map_err(|e| e.to_string())? {
        return Err(["the rule set is ", loader::ELSEWHERE].concat());
    }
    if loader::is_fallback() {
        return loaded_elsewhere(kept);
    }
    let mut tables =
        loader::listed(&loader::is_ours, ListingScope::ButLargeSets).map_err(|e| e.to_string())?;
    Ok(tables.first_mut().map_or_else(Vec::new, comparable))
}

/// The statements of the file that has become what is in iptables.
fn loaded_elsewhere(kept: &[PathBuf]) -> Result<Vec<String>, String> {
    if loader::is_half().map_err(|e| e.to_string())? {
        return Err(loader::HALF.to_owned());
    }
    let Some(now) = loader::fingerprint().map_err(|e| e.to_string())? else { return Ok(Vec::new()) };
    for path in kept {
        let set = read(&path.to_string_lossy(), CheckDepth::Quick);
        if set.failed() {
            continue;
        }
        let mut batch = loader::loader(Goal::Replace);
        compile(&set, &auto(&set)?, &mut *batch);
        if batch.fingerprint() == Some(now) {
            return statements(&set);
        }
    }
    Err(["they are other rules, whose file is not kept: ", NOT_READ].concat())
}

/// What cannot be done with iptables.
const NOT_READ: &str = "rules in iptables are not read back (`iptables-save` shows them)";

/// Whether the kernel's table `inet mef` is of another program: it has not the chains of `mef load`, others,
/// or rules of others.
///
/// # Errors
/// What the kernel refused, for people.
pub fn is_foreign() -> Result<bool, String> {
    let tables = loader::listed(&loader::is_ours, ListingScope::OfOthers).map_err(|e| e.to_string())?;
    Ok(tables.first().is_some_and(export::is_foreign))
}

/// Tables of the kernel as a rule set: those of a family and a name, where they are told, but never that of
/// bans.
///
/// # Errors
/// What the kernel refused, for people.
pub fn exported(family: Option<&str>, name: Option<&str>) -> Result<Exported, String> {
    if loader::is_fallback() {
        return Err(NOT_READ.to_owned());
    }
    let wanted = |word: &str, text: &str| {
        let is = |asked: Option<&str>, found: &str| asked.is_none_or(|asked| asked == found);
        is(family, word) && is(name, text)
    };
    let mut tables = loader::listed(&wanted, ListingScope::Whole).map_err(|e| e.to_string())?;
    Ok(export::all(&mut tables))
}

/// Puts a rule set into the kernel in one transaction.
///
/// # Errors
/// What stands in the way, for people, and whether the rules may be in force nevertheless: the kernel's
/// answers were lost.
pub fn load(set: &RuleSet, batch: Box<dyn Loader>) -> Result<(), (String, bool)> {
    batch.commit().map_err(|e| (refused(set, &e), e.unsure))
}

/// The kernel's refusal, with the place of the rule that it is about.
fn refused(set: &RuleSet, error: &LoadError) -> String {
    let text = error.to_string();
    let place = error.statement.and_then(|number| set.rule_place(number));
    place.map_or(text.clone(), |place| [set.place(place).as_str(), ": ", &text].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_not_be_read_again_is_not_kept() {
        let max = usize::try_from(SIZE_MAX).unwrap();
        assert!(keepable(0).is_ok() && keepable(max).is_ok());
        let why = keepable(max + (6 << 20)).unwrap_err();
        assert_eq!(why, "with the elements of the sets the rules are 70 MB of text; 64 MB can be kept");
        assert!(keepable(max + 1).is_err());
    }
}
