#![forbid(unsafe_code)]
//! The init systems: which one there is, what starts mef at boot, and how it is started now.

use super::manifest::Manifest;
use super::root::{Found, Root};
use super::shipped::RUNIT_SYSV;

/// An init system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Init {
    /// systemd.
    Systemd,
    /// OpenRC, whatever its process 1 is.
    OpenRc,
    /// runit.
    Runit,
    /// s6.
    S6,
    /// procd of OpenWrt.
    Procd,
    /// Scripts of System V.
    SysV,
    /// init of busybox, by /etc/inittab.
    Busybox,
    /// Nothing starts it.
    None,
}

/// Each with its name.
pub const NAMES: [(&str, Init); 8] = [
    ("systemd", Init::Systemd),
    ("openrc", Init::OpenRc),
    ("runit", Init::Runit),
    ("s6", Init::S6),
    ("procd", Init::Procd),
    ("sysvinit", Init::SysV),
    ("busybox", Init::Busybox),
    ("none", Init::None),
];

impl Init {
    /// By its name.
    #[must_use]
    pub fn named(name: &str) -> Option<Init> {
        NAMES.iter().find(|(is, _)| *is == name).map(|(_, init)| *init)
    }

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        NAMES.iter().find(|(_, init)| *init == self).map_or("none", |(name, _)| name)
    }

    /// The one that there is, and by what it was found.
    #[must_use]
    pub fn find(root: &Root) -> Option<(Init, &'static str)> {
        if root.is_live() { running(root) } else { None }.or_else(|| installed(root))
    }
}

/// By what runs.
fn running(root: &Root) -> Option<(Init, &'static str)> {
    if root.has("/run/systemd/system") {
        return Some((Init::Systemd, "/run/systemd/system exists"));
    }
    // Its process 1 may be that of busybox, of System V, or its own.
    if root.has("/run/openrc/softlevel") {
        return Some((Init::OpenRc, "/run/openrc/softlevel exists"));
    }
    match root.text("/proc/1/comm").trim() {
        "systemd" => Some((Init::Systemd, "process 1 is systemd")),
        "procd" => Some((Init::Procd, "process 1 is procd")),
        "runit" | "runsvdir" => Some((Init::Runit, "process 1 is runit")),
        "s6-svscan" => Some((Init::S6, "process 1 is s6-svscan")),
        _ => None,
    }
}

/// By what is installed.
fn installed(root: &Root) -> Option<(Init, &'static str)> {
    let init = match root.look("/sbin/init") {
        Ok(Found::Link(target)) => target.to_string_lossy().into_owned(),
        _ => String::new(),
    };
    let has = |paths: &[&str]| paths.iter().any(|path| root.has(path));
    let openrc = has(&["/sbin/openrc-run", "/usr/sbin/openrc-run", "/usr/bin/openrc-run"]);
    let inittab = root.text("/etc/inittab");
    let found = if init.ends_with("/systemd") {
        (Init::Systemd, "/sbin/init is systemd")
    } else if has(&["/sbin/procd"]) {
        (Init::Procd, "/sbin/procd exists")
    } else if init.ends_with("runit-init") {
        (Init::Runit, "/sbin/init is runit")
    } else if openrc && (init.ends_with("openrc-init") || inittab.contains("openrc")) {
        (Init::OpenRc, "it is started by init")
    } else if init.ends_with("s6-linux-init") || has(&["/init"]) && has(&["/etc/s6-overlay"]) {
        (Init::S6, "/sbin/init is s6")
    } else if init.ends_with("busybox") {
        (Init::Busybox, "/sbin/init is busybox")
    } else if has(&["/sbin/init"]) && init.is_empty() && !inittab.is_empty() && has(&["/etc/init.d"]) {
        (Init::SysV, "/sbin/init reads /etc/inittab and /etc/init.d")
    } else {
        return None;
    };
    Some(found)
}

/// Where a supervisor looks for services: the first one is where it is told what to do with them, and all of
/// them together are what it looks at now and after the next boot.
fn service_dirs(init: Init, root: &Root) -> Vec<String> {
    let (places, program): (&[&str], _) = match init {
        Init::Runit => (&RUNIT_PLACES, "runsvdir"),
        _ => (&S6_PLACES, "s6-svscan"),
    };
    let usual = places.iter().find(|path| root.has(path)).or(places.first());
    let mut dirs = vec![(*usual.unwrap_or(&"/service")).to_owned()];
    let Some(told) = root.is_live().then(|| told(root, program)).flatten() else { return dirs };
    let is_copied = told.starts_with("/run/");
    match init {
        Init::Runit => {
            // A link through which runit changes between its sets leads to the one that is on now.
            let now = root.real(&told).unwrap_or(told);
            if !now.starts_with(RUNIT_SETS) && !now.starts_with("/run/") {
                return vec![now];
            }
            dirs.push(now);
            dirs.dedup();
        }
        _ => {
            dirs = vec![told];
            let image = S6_IMAGES.iter().find(|dir| is_copied && root.has(dir));
            dirs.extend(image.map(|dir| (*dir).to_owned()));
        }
    }
    dirs
}

/// What the supervisor that runs was told to look at: that of this host's root, not that of a user, of a
/// container or of a tree below.
fn told(root: &Root, program: &str) -> Option<String> {
    let space = |dir: &str| root.look(&[dir, "/ns/mnt"].concat()).ok();
    let own = space("/proc/self")?;
    let is_ours = |dir: &str| {
        let status = root.text(&[dir, "/status"].concat());
        status.contains("\nUid:\t0\t0\t0\t0\n")
            && space(dir).as_ref() == Some(&own)
            && root.is_one_dir(&[dir, "/root"].concat(), "/proc/self/root")
    };
    // Anybody's script or link may have that name.
    let is_program = |dir: &str| match root.look(&[dir, "/exe"].concat()) {
        Ok(Found::Link(exe)) => {
            let name = exe.file_name().unwrap_or_default().to_string_lossy();
            [program, "busybox"].contains(&name.strip_suffix(" (deleted)").unwrap_or(&name))
        }
        _ => false,
    };
    let is_it = |dir: &str, name: &str| name == program && is_program(dir) && is_ours(dir);
    let (dir, _) = root.processes().find(|(dir, name)| is_it(dir, name))?;
    let line = root.text(&[&dir, "/cmdline"].concat());
    line.split('\0').skip(1).find(|word| word.starts_with('/')).map(str::to_owned)
}

/// Where runit has sets of services, and where it looks for services.
const RUNIT_SETS: &str = "/etc/runit/runsvdir/";
const RUNIT_PLACES: [&str; 4] = ["/etc/runit/runsvdir/default", "/etc/service", "/var/service", "/service"];
/// Where s6-linux-init and s6-overlay have what they copy to below /run at boot.
const S6_IMAGES: [&str; 2] = ["/etc/s6-linux-init/current/run-image/service", "/etc/services.d"];
const S6_PLACES: [&str; 5] = ["/etc/s6/service", S6_IMAGES[0], S6_IMAGES[1], "/service", "/run/service"];

/// In each of these directories a link to the service.
fn service_links(dirs: Vec<String>, target: &str) -> Vec<(String, String)> {
    dirs.into_iter().map(|dir| ([&dir, "/mef"].concat(), target.to_owned())).collect()
}

/// The link by which scripts of System V load the rule set before the network is up.
const RULES_LINK: (&str, &str) = ("/etc/rcS.d/S12mef-rules", "../init.d/mef-rules");

/// Links that make it start at boot, and where they lead.
#[must_use]
pub fn links(init: Init, root: &Root) -> Vec<(String, String)> {
    let pair = |path: &str, target: &str| (path.to_owned(), target.to_owned());
    let service = |of: &str| {
        let path = ["/etc/systemd/system/multi-user.target.wants/", of].concat();
        (path, ["/etc/systemd/system/", of].concat())
    };
    match init {
        Init::Systemd => vec![service("mef-rules.service"), service("mef.service")],
        Init::OpenRc => vec![
            pair("/etc/runlevels/boot/mef-rules", "/etc/init.d/mef-rules"),
            pair("/etc/runlevels/boot/mef", "/etc/init.d/mef"),
        ],
        Init::Runit => {
            let mut all = service_links(service_dirs(init, root), "/etc/sv/mef");
            if RUNIT_SYSV.iter().all(|path| root.has(path)) {
                all.push(pair(RULES_LINK.0, RULES_LINK.1));
            }
            all
        }
        Init::S6 => service_links(service_dirs(init, root), "/etc/s6/sv/mef"),
        Init::Procd => {
            vec![pair("/etc/rc.d/S18mef", "../init.d/mef"), pair("/etc/rc.d/K90mef", "../init.d/mef")]
        }
        Init::SysV => {
            let mut all = vec![pair(RULES_LINK.0, RULES_LINK.1)];
            for level in ["2", "3", "4", "5"] {
                all.push((["/etc/rc", level, ".d/S02mef"].concat(), "../init.d/mef".to_owned()));
            }
            for level in ["0", "1", "6"] {
                all.push((["/etc/rc", level, ".d/K01mef"].concat(), "../init.d/mef".to_owned()));
            }
            all
        }
        Init::Busybox | Init::None => Vec::new(),
    }
}

/// Whether what starts mef at boot is in its place: `None` where it is not known what starts this host.
#[must_use]
pub fn starts_at_boot(root: &Root) -> Option<bool> {
    let (init, _) = Init::find(root)?;
    if Manifest::read(root) == Manifest::default() {
        return units_of_others(init, root);
    }
    // What lies in /run is of this boot.
    Some(match links(init, root).iter().find(|(path, _)| !path.starts_with("/run/")) {
        Some((path, _)) => root.look(path).is_ok_and(|found| found != Found::Nothing),
        None => has_lines(root),
    })
}

/// Where systemd finds units.
const UNITS: [&str; 3] = ["/etc/systemd/system/", "/usr/lib/systemd/system/", "/lib/systemd/system/"];

/// Likewise of units that a package has brought, or the existing product, whose mef.service is the rule set.
/// What else there may be nobody knows.
fn units_of_others(init: Init, root: &Root) -> Option<bool> {
    let text =
        |unit: &str| UNITS.iter().map(|dir| root.text(&[dir, unit].concat())).find(|text| !text.is_empty());
    let unit = match init {
        Init::Systemd if text("mef-rules.service").is_some() => "mef-rules.service",
        Init::Systemd if text("mef.service")?.contains("mefctl rules apply") => "mef.service",
        _ => return None,
    };
    let link = ["/etc/systemd/system/multi-user.target.wants/", unit].concat();
    Some(root.look(&link).is_ok_and(|found| found != Found::Nothing))
}

/// What is to be done with the daemon that runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DaemonChange {
    /// It is started.
    Start,
    /// It is replaced by one of the new program.
    Restart,
    /// It ends, before its files are removed.
    Stop,
    /// They are removed.
    Gone,
}

/// The commands for that.
#[must_use]
pub fn commands(init: Init, root: &Root, now: DaemonChange) -> Vec<Vec<String>> {
    let words = |line: &str| line.split(' ').map(str::to_owned).collect::<Vec<_>>();
    let verb = match now {
        DaemonChange::Start => "start",
        DaemonChange::Restart => "restart",
        DaemonChange::Stop | DaemonChange::Gone => "stop",
    };
    let dir = || service_dirs(init, root).swap_remove(0);
    let lines = match (init, now) {
        (Init::None, _) => vec![],
        (Init::Systemd, DaemonChange::Start | DaemonChange::Restart) => {
            vec!["systemctl daemon-reload".to_owned(), format!("systemctl {verb} mef.service")]
        }
        (Init::Systemd, DaemonChange::Stop) => {
            vec!["systemctl stop mef.service mef-rules.service".to_owned()]
        }
        (Init::Systemd, DaemonChange::Gone) => {
            // What failed is remembered until it is told to forget it.
            vec!["systemctl daemon-reload".to_owned(), "systemctl reset-failed".to_owned()]
        }
        (Init::OpenRc, DaemonChange::Gone) => vec![],
        (Init::OpenRc, _) => vec![format!("rc-service mef {verb}")],
        // What it finds it starts, and what is gone it ends.
        (Init::Runit, DaemonChange::Start | DaemonChange::Gone) => vec![],
        (Init::Runit, DaemonChange::Restart) => vec![format!("sv restart {}/mef", dir())],
        (Init::Runit, DaemonChange::Stop) => vec![format!("sv force-stop {}/mef", dir())],
        (Init::S6, DaemonChange::Start) => vec![format!("s6-svscanctl -a {}", dir())],
        (Init::S6, DaemonChange::Restart) => vec![format!("s6-svc -r {}/mef", dir())],
        (Init::S6, DaemonChange::Stop) => vec![format!("s6-svc -wD -T 20000 -d {}/mef", dir())],
        (Init::S6, DaemonChange::Gone) => vec![format!("s6-svscanctl -an {}", dir())],
        (Init::Procd | Init::SysV, DaemonChange::Gone) => vec![],
        (Init::Procd | Init::SysV, _) => vec![format!("/etc/init.d/mef {verb}")],
        // It starts again by itself.
        (Init::Busybox, DaemonChange::Restart | DaemonChange::Stop) => vec![],
        (Init::Busybox, _) => vec!["kill -HUP 1".to_owned()],
    };
    lines.iter().map(|line| words(line)).collect()
}

/// The lines of ours in /etc/inittab stand between these.
const BEGIN: &str = "# mef: begin";
const END: &str = "# mef: end";

/// Whether /etc/inittab has them.
#[must_use]
pub fn has_lines(root: &Root) -> bool {
    root.text(super::INITTAB).contains(BEGIN)
}

/// /etc/inittab of busybox with our lines: before the scripts that bring the network up.
#[must_use]
pub fn with_lines(inittab: &str, program: &str) -> String {
    let rest = without_lines(inittab);
    let ours =
        format!("{BEGIN}\n::sysinit:{program} load --boot\n::respawn:{program} daemon --foreground\n{END}\n");
    let at = rest.find("::sysinit:").map_or(rest.len(), |first| {
        let scripts = rest.match_indices("::sysinit:").map(|(at, _)| at);
        let line = |at: usize| rest.get(at..).and_then(|rest| rest.lines().next()).unwrap_or("");
        let runs_scripts =
            |at: &usize| ["rcS", "init.d", "networ"].iter().any(|word| line(*at).contains(word));
        let last = || rest.rfind("::sysinit:").unwrap_or(first);
        scripts.clone().find(runs_scripts).unwrap_or_else(|| last() + line(last()).len() + 1)
    });
    let (before, after) = rest.split_at_checked(at).unwrap_or((&rest, ""));
    let newline = if before.is_empty() || before.ends_with('\n') { "" } else { "\n" };
    [before, newline, &ours, after].concat()
}

/// Without them.
#[must_use]
pub fn without_lines(inittab: &str) -> String {
    let mut inside = false;
    let mut rest = String::new();
    for line in inittab.split_inclusive('\n') {
        inside |= line.trim_end() == BEGIN;
        if !inside {
            rest.push_str(line);
        }
        inside &= line.trim_end() != END;
    }
    rest
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::dir::testing::ScratchDir;

    #[test]
    fn inittab_gets_our_lines_before_the_scripts_and_loses_them_again() {
        let cases = [
            ("", 0),
            ("::sysinit:/bin/mount -t proc proc /proc\n::sysinit:/etc/init.d/rcS\n::respawn:-/bin/sh\n", 40),
            ("::respawn:-/bin/sh\n", 19),
            ("::sysinit:/bin/mount -a\n::respawn:-/bin/sh\n", 24),
        ];
        for (text, at) in cases {
            let with = with_lines(text, "/usr/sbin/mef");
            assert_eq!(with.find(BEGIN), Some(at), "{with}");
            assert_eq!(with_lines(&with, "/usr/sbin/mef"), with, "once");
            assert_eq!(without_lines(&with), text);
        }
    }

    #[test]
    fn every_init_system_has_a_name_of_its_own() {
        for (name, init) in NAMES {
            assert_eq!((Init::named(name), init.name()), (Some(init), name));
        }
        assert_eq!(Init::named("launchd"), None);
    }

    /// A process of a tree: what runs, as whom, below which root, and what it was told.
    struct Process<'a>(u32, &'a str, u32, &'a str, &'a str);

    #[test]
    fn the_supervisor_is_asked_that_is_this_hosts() {
        let scratch = ScratchDir::new();
        let root = Root::new(scratch.path());
        let link = |path: &str, to: &str| root.link(path, to).unwrap();
        link("/proc/self/ns/mnt", "mnt:[1]");
        link("/proc/self/root", "/");
        let put = |Process(pid, exe, uid, below, word): Process<'_>| {
            let dir = format!("/proc/{pid}");
            let text = |name: &str, text: String| {
                root.write(&format!("{dir}/{name}"), text.as_bytes(), 0o644).unwrap();
            };
            text("comm", "runsvdir\n".to_owned());
            text("status", format!("Name:\trunsvdir\nUid:\t{uid}\t{uid}\t{uid}\t{uid}\nGid:\t0\n"));
            text("cmdline", format!("runsvdir\0-P\0{word}\0"));
            link(&format!("{dir}/ns/mnt"), "mnt:[1]");
            link(&format!("{dir}/exe"), exe);
            link(&format!("{dir}/root"), below);
        };
        let tree = scratch.path().to_string_lossy().into_owned();
        put(Process(2, "/usr/bin/dash", 0, "/", "/script"));
        put(Process(3, "/usr/bin/runsvdir", 1000, "/", "/home/a/service"));
        put(Process(4, "/usr/bin/runsvdir", 0, &tree, "/below"));
        assert_eq!(told(&root, "runsvdir"), None);
        put(Process(1000, "/usr/bin/runsvdir", 0, "/", "/later"));
        put(Process(20, "/usr/bin/runsvdir", 0, "/", "/etc/service"));
        assert_eq!(told(&root, "runsvdir").as_deref(), Some("/etc/service"), "not that of 1000");
        put(Process(6, "/bin/busybox", 0, "/", "/var/service"));
        assert_eq!(told(&root, "runsvdir").as_deref(), Some("/var/service"));
        put(Process(5, "/usr/bin/runsvdir (deleted)", 0, "/", "/service"));
        assert_eq!(told(&root, "runsvdir").as_deref(), Some("/service"));
        assert_eq!(told(&root, "s6-svscan"), None);
    }

    #[test]
    fn whether_units_of_others_are_enabled_is_known() {
        let scratch = ScratchDir::new();
        let root = Root::new(scratch.path());
        let put = |path: &str, text: &str| root.write(path, text.as_bytes(), 0o644).unwrap();
        std::fs::create_dir(scratch.path().join("sbin")).unwrap();
        std::os::unix::fs::symlink("/lib/systemd/systemd", scratch.path().join("sbin/init")).unwrap();
        assert_eq!(starts_at_boot(&root), None);
        // Somebody's own, of which nobody knows what it does.
        put("/etc/systemd/system/mef.service", "[Service]\nExecStart=/usr/sbin/mef daemon\n");
        assert_eq!(starts_at_boot(&root), None);
        put(
            "/etc/systemd/system/mef.service",
            "[Service]\nExecStart=/x/mefctl rules apply --yes /etc/mef/mef.rules\n",
        );
        assert_eq!(starts_at_boot(&root), Some(false));
        put("/etc/systemd/system/multi-user.target.wants/mef.service", "");
        assert_eq!(starts_at_boot(&root), Some(true));
        // Of a package.
        put("/lib/systemd/system/mef-rules.service", "[Service]\n");
        assert_eq!(starts_at_boot(&root), Some(false));
        put("/etc/systemd/system/multi-user.target.wants/mef-rules.service", "");
        assert_eq!(starts_at_boot(&root), Some(true));
    }
}
