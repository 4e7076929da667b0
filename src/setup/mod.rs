#![forbid(unsafe_code)]
//! Makes mef at home on a host: plans first, writes each file as a whole, and never over one that somebody
//! has changed. What it writes is inside the binary.

pub mod account;
mod host;
mod init;
mod manifest;
mod plan;
mod root;
mod shipped;

pub use host::{others, ssh_ports};
pub use init::{DaemonChange, Init, NAMES, commands, starts_at_boot};
pub use manifest::{Manifest, is_untouched};
pub use plan::{Removal, SetupStep};
pub use root::{Found, Root};
pub use shipped::shipped_text;

pub use plan::file;
use plan::{gone, link};
use std::io;

/// Where the program is in the files that are shipped.
const PROGRAM: &str = "/usr/sbin/mef";
/// Directories for programs, the one for ours first.
const PROGRAM_DIRS: [&str; 6] =
    ["/usr/local/sbin", "/usr/sbin", "/usr/local/bin", "/usr/bin", "/sbin", "/bin"];
const INITTAB: &str = "/etc/inittab";
/// Files of the host, in which there are only lines of ours.
const SHARED: [&str; 5] = [INITTAB, "/etc/passwd", "/etc/group", "/etc/shadow", "/etc/gshadow"];

/// The rule set that is loaded at boot, but on a router.
const STATE_RULES: &str = "/var/lib/mef/confirmed.rules";

/// What is to be set up.
pub struct SetupRequest<'a> {
    /// Where.
    pub root: &'a Root,
    /// For which init system.
    pub init: Init,
    /// Where the program is, for the files that start it.
    pub program: &'a str,
    /// The rule set is loaded at the next boot although nobody has loaded it here.
    pub load: bool,
}

/// What could not be planned: the path, and why.
pub type PlanTrouble = (String, io::Error);

/// Where the program is or belongs, and whether it has to be put there.
#[must_use]
pub fn program(root: &Root, own: Option<&str>) -> Option<(String, bool)> {
    let is_home = |path: &str| PROGRAM_DIRS.iter().any(|dir| path.strip_prefix(dir) == Some("/mef"));
    let Some(own) = own else {
        let all = PROGRAM_DIRS.iter().map(|dir| [dir, "/mef"].concat());
        return all.into_iter().find(|path| root.has(path)).map(|path| (path, false));
    };
    if is_home(own) {
        return Some((own.to_owned(), false));
    }
    let dir = if root.has("/usr/local/sbin") { "/usr/local/sbin" } else { "/usr/sbin" };
    Some(([dir, "/mef"].concat(), true))
}

/// Every step of a set-up.
///
/// # Errors
/// What cannot be looked at.
pub fn install(wanted: &SetupRequest<'_>, manifest: &Manifest) -> Result<Vec<SetupStep>, PlanTrouble> {
    let SetupRequest { root, init, program, load } = *wanted;
    let mut steps = Vec::new();
    let ports = ssh_ports(root);
    let mut rules = String::new();
    for shipped in shipped::of(init) {
        if !shipped.belongs(root) {
            continue;
        }
        let text = match shipped.path.as_str() {
            shipped::CONF if init == Init::Procd => [&shipped.text, shipped::ROUTER].concat(),
            shipped::RULES => {
                rules = host::rule_set(&shipped.text, &ports);
                rules.clone()
            }
            path if path.contains("/man/") => shipped.text,
            _ => shipped.text.replace(PROGRAM, program),
        };
        let step = file(root, manifest, &shipped.path, text.into_bytes(), shipped.mode);
        steps.push(step.map_err(|e| (shipped.path, e))?);
    }
    if load {
        let confirmed = if init == Init::Procd { "/etc/mef/state/confirmed.rules" } else { STATE_RULES };
        let confirmed = confirmed.to_owned();
        let text = match root.look(shipped::RULES) {
            Ok(Found::File(bytes)) => bytes,
            _ => rules.into_bytes(),
        };
        let step = file(root, manifest, &confirmed, text, 0o600).map_err(|e| (confirmed, e))?;
        steps.push(step);
    }
    if init == Init::Busybox {
        steps.extend(edit(root, INITTAB, &|text| init::with_lines(text, program))?);
    } else if init::has_lines(root) {
        steps.extend(edit(root, INITTAB, &init::without_lines)?);
    }
    let links = init::links(init, root);
    steps.extend(unlinked(root, init, manifest, &links));
    for (path, target) in links {
        let step = link(root, path.clone(), target).map_err(|e| (path, e))?;
        steps.extend(step);
    }
    steps.extend(obsolete(root, init, manifest)?);
    steps.extend(cut_off(root, manifest));
    Ok(steps)
}

/// What it takes to change a file of the host.
fn edit(root: &Root, path: &str, change: &dyn Fn(&str) -> String) -> Result<Option<SetupStep>, PlanTrouble> {
    let path = path.to_owned();
    Ok(match root.look(&path).map_err(|e| (path.clone(), e))? {
        Found::File(now) => {
            // A character for each byte: whatever the encoding, what is not changed stays as it is.
            let text = change(&now.iter().map(|byte| char::from(*byte)).collect::<String>());
            let bytes: Vec<u8> = text.chars().map(|c| u8::try_from(c).unwrap_or(b'?')).collect();
            (now != bytes).then_some(SetupStep::Write { path, bytes, mode: 0o644, is_there: true })
        }
        Found::Nothing => None,
        Found::Link(_) | Found::Other => Some(SetupStep::Keep { path, why: "it is not a file" }),
    })
}

/// The steps that take away what starts it, and those that take away its files.
///
/// # Errors
/// What cannot be looked at.
pub fn remove(
    root: &Root,
    init: Init,
    manifest: &Manifest,
    removal: Removal,
) -> Result<(Vec<SetupStep>, Vec<SetupStep>), PlanTrouble> {
    let (mut starts, mut files) = (unlinked(root, init, manifest, &[]), Vec::new());
    if matches!(init, Init::SysV | Init::Runit) {
        // Whoever orders these links gives them other numbers.
        for level in ["0", "1", "2", "3", "4", "5", "6", "S"] {
            let dir = ["/etc/rc", level, ".d"].concat();
            for name in root.names(&dir) {
                let path = [&dir, "/", &name].concat();
                let ours = ["../init.d/mef", "../init.d/mef-rules"].map(|to| Found::Link(to.into()));
                let step = SetupStep::Remove { path: path.clone() };
                if root.look(&path).is_ok_and(|found| ours.contains(&found)) && !starts.contains(&step) {
                    starts.push(step);
                }
            }
        }
    }
    if init::has_lines(root) {
        starts.extend(edit(root, INITTAB, &init::without_lines)?);
    }
    for shipped in shipped::of(init) {
        if [shipped::CONF, shipped::RULES].contains(&shipped.path.as_str()) {
            if removal == Removal::Ours && root.has(&shipped.path) {
                let why = "configuration; --purge removes it";
                files.push(SetupStep::Keep { path: shipped.path, why });
            }
            continue;
        }
        // Without a manifest there is nothing of ours, but for what is as it ships.
        let ships = (!manifest.has(&shipped.path)).then(|| manifest::hash(shipped.text.as_bytes()));
        let ours = |number| ships == Some(number) || manifest.knows(&shipped.path, number);
        files.extend(gone(root, &shipped.path, &ours, removal).map_err(|e| (shipped.path, e))?);
    }
    files.extend(obsolete(root, init, manifest)?);
    files.extend(cut_off(root, manifest));
    Ok((starts, files))
}

/// What takes away links that start it, but those that are kept: those of the init system, and those of
/// others that lead to files that set-up has written, since from one to another it may have been cut off.
fn unlinked(root: &Root, init: Init, manifest: &Manifest, kept: &[(String, String)]) -> Vec<SetupStep> {
    let is_written = |target: &str| {
        let behind = |(path, _): &(String, u64)| {
            let (_, rest) = path.split_once(target.trim_start_matches('.'))?;
            Some(rest.is_empty() || rest.starts_with('/'))
        };
        manifest.files.iter().any(|file| behind(file) == Some(true))
    };
    let mut steps = Vec::new();
    for (_, other) in NAMES {
        for link in init::links(other, root) {
            if kept.contains(&link) || other != init && !is_written(&link.1) {
                continue;
            }
            let (path, target) = link;
            let is_there = root.look(&path).is_ok_and(|found| found == Found::Link(target.into()));
            let step = SetupStep::Remove { path };
            if is_there && !steps.contains(&step) {
                steps.push(step);
            }
        }
    }
    steps
}

/// The files for an init system there.
fn shipped_paths(root: &Root, init: Init) -> Vec<String> {
    let there = shipped::of(init).into_iter().filter(|shipped| shipped.belongs(root));
    there.map(|shipped| shipped.path).collect()
}

/// What takes away files that a previous version has written and this one does not have, unless somebody has
/// changed them.
///
/// # Errors
/// What cannot be looked at.
pub fn obsolete(root: &Root, init: Init, manifest: &Manifest) -> Result<Vec<SetupStep>, PlanTrouble> {
    let now = shipped_paths(root, init);
    let is_ours =
        |path: &str| !(path.starts_with("/etc/mef/") || path.ends_with("bin/mef")) && path != STATE_RULES;
    let mut steps = Vec::new();
    for (path, _) in manifest.files.iter().filter(|(path, _)| is_ours(path) && !now.contains(path)) {
        let gone = gone(root, path, &|number| manifest.knows(path, number), Removal::Ours);
        let gone = gone.map_err(|e| (path.clone(), e))?;
        let new = gone.into_iter().filter(|step| !steps.contains(step)).collect::<Vec<_>>();
        steps.extend(new);
    }
    Ok(steps)
}

/// What takes away files that a set-up left half-written when it was cut off.
#[must_use]
pub fn cut_off(root: &Root, manifest: &Manifest) -> Vec<SetupStep> {
    let links = NAMES.iter().flat_map(|(_, init)| init::links(*init, root)).map(|(path, _)| path);
    let written = manifest.files.iter().map(|(path, _)| path.clone());
    let shared = SHARED.iter().chain(&[manifest::PATH]).map(|path| (*path).to_owned());
    let dirs = links.chain(written).chain(shared);
    let mut paths: Vec<String> = dirs
        .filter_map(|path| Some([path.rsplit_once('/')?.0, "/", root::TEMPORARY].concat()))
        .filter(|path| root.look(path).is_ok_and(|found| matches!(found, Found::File(_) | Found::Link(_))))
        .collect();
    paths.sort_unstable();
    paths.dedup();
    paths.into_iter().map(|path| SetupStep::Remove { path }).collect()
}

/// The steps that take away what another init system was set up with before; files that both have stay.
///
/// # Errors
/// What cannot be looked at.
pub fn replaced(
    root: &Root,
    (former, init): (Init, Init),
    manifest: &Manifest,
) -> Result<Vec<SetupStep>, PlanTrouble> {
    let now = shipped_paths(root, init);
    let links = init::links(init, root);
    let (mut steps, files) = remove(root, former, manifest, Removal::Ours)?;
    let is_new =
        |path: &str| init == Init::Busybox && path == INITTAB || links.iter().any(|(link, _)| link == path);
    steps.retain(|step| !is_new(step.path()));
    steps.extend(files.into_iter().filter(|step| match step {
        SetupStep::Remove { path } | SetupStep::Keep { path, .. } => {
            !now.iter().any(|other| path == other || *path == plan::beside(other))
        }
        _ => true,
    }));
    Ok(steps)
}

/// Directories that are removed once their files are gone.
#[must_use]
pub fn dirs(init: Init) -> &'static [&'static str] {
    match init {
        Init::Systemd => &[
            "/etc/systemd/system/mef.service.d",
            "/etc/systemd/system/multi-user.target.wants",
            "/etc/sysusers.d",
        ],
        Init::Runit => &["/etc/sv", "/etc/runit/core-services", "/etc/runit"],
        Init::S6 => &["/etc/s6/sv", "/etc/s6"],
        _ => &[],
    }
}

/// Directories of ours in which a supervisor writes, too: they go as a whole.
#[must_use]
pub fn supervised(init: Init) -> Option<&'static str> {
    match init {
        Init::Runit => Some("/etc/sv/mef"),
        Init::S6 => Some("/etc/s6/sv/mef"),
        _ => None,
    }
}
