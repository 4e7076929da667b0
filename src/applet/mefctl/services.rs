#![forbid(unsafe_code)]
//! `mefctl start`, `stop` and their like: the init system that runs does it.

use super::words::{GivenWords, unknown};
use crate::applet::output::{Output, OutputError};
use crate::sys::child::{self, ChildExit};
use crate::sys::stdio;
use std::fs;
use std::io::ErrorKind;
use std::os::fd::AsFd as _;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

/// The rule set at boot, and the daemon.
const SERVICES: [&str; 2] = ["mef", "mefdaemon"];

/// An init system, and the directory of links that has runit start a service.
enum ServiceManager {
    Systemd,
    OpenRc,
    Runit(&'static str),
    /// OpenWrt's, whose scripts know `enable` themselves.
    Procd,
    /// Scripts in /etc/init.d.
    SysV,
}

/// Where systemd has its units.
const UNITS: [&str; 5] = [
    "/etc/systemd/system",
    "/run/systemd/system",
    "/usr/local/lib/systemd/system",
    "/usr/lib/systemd/system",
    "/lib/systemd/system",
];
const SCRIPTS: &str = "/etc/init.d";
/// Where runit has its services, and where the ones that it runs are linked.
const RUNIT_SERVICES: &str = "/etc/sv";
const RUNIT_LINKS: [&str; 3] = ["/var/service", "/etc/service", "/service"];

impl ServiceManager {
    /// What runs, by what it leaves in the file system.
    fn find() -> Option<ServiceManager> {
        let there = |path: &str| Path::new(path).exists();
        let links = RUNIT_LINKS.into_iter().find(|dir| there(dir));
        if there("/run/systemd/system") {
            Some(ServiceManager::Systemd)
        } else if there("/run/openrc") {
            Some(ServiceManager::OpenRc)
        } else if there("/sbin/procd") && there("/etc/rc.common") {
            Some(ServiceManager::Procd)
        } else if let Some(links) = links.filter(|_| there(RUNIT_SERVICES) && child::find("sv").is_some()) {
            Some(ServiceManager::Runit(links))
        } else if there("/etc/inittab") && there(SCRIPTS) {
            Some(ServiceManager::SysV)
        } else {
            None
        }
    }

    /// Whether it has a service of this name.
    fn has(&self, service: &str) -> bool {
        let dirs: &[&str] = match self {
            ServiceManager::Systemd => &UNITS,
            ServiceManager::Runit(_) => &[RUNIT_SERVICES],
            _ => &[SCRIPTS],
        };
        let name = if matches!(self, ServiceManager::Systemd) { ".service" } else { "" };
        dirs.iter().any(|dir| Path::new(&[dir, "/", service, name].concat()).exists())
    }

    /// What a service is called here. The existing product's units have its names; `mef setup` calls the
    /// daemon mef and the rule set mef-rules.
    fn name_of(&self, service: &'static str) -> Result<&'static str, OutputError> {
        match service {
            "mef" if self.has("mef-rules") => Ok("mef-rules"),
            "mef" if self.has("mef") && !self.has("mefdaemon") => {
                let text = "the rule set has no service of its own here: `mef load` and `mef unload` do it";
                Err(OutputError::Failed(text.into()))
            }
            "mefdaemon" if self.has("mef") && !self.has("mefdaemon") => Ok("mef"),
            _ => Ok(service),
        }
    }

    /// The commands that do it, for each service.
    fn commands(&self, action: &str, services: &[&'static str]) -> Vec<Vec<String>> {
        let line = |words: &[&str]| words.iter().map(ToString::to_string).collect::<Vec<String>>();
        let each = |words: &dyn Fn(&str) -> Vec<String>| services.iter().map(|s| words(s)).collect();
        let script = |service: &str| [SCRIPTS, "/", service].concat();
        // The rule set comes before the network.
        let daemon = self.name_of("mefdaemon").unwrap_or("mefdaemon");
        match (self, action) {
            (ServiceManager::Systemd, _) => vec![line(&[&["systemctl", action][..], services].concat())],
            (ServiceManager::OpenRc, "enable") => {
                each(&|s| line(&["rc-update", "add", s, if s == daemon { "default" } else { "boot" }]))
            }
            (ServiceManager::OpenRc, "disable") => each(&|s| line(&["rc-update", "-a", "del", s])),
            (ServiceManager::OpenRc, _) => each(&|s| line(&["rc-service", s, action])),
            (ServiceManager::Runit(_), _) => each(&|s| line(&["sv", action, s])),
            (ServiceManager::SysV, "enable" | "disable") if child::find("chkconfig").is_some() => {
                each(&|s| line(&["chkconfig", s, if action == "enable" { "on" } else { "off" }]))
            }
            (ServiceManager::SysV, "enable") => each(&|s| line(&["update-rc.d", s, "defaults"])),
            (ServiceManager::SysV, "disable") => each(&|s| line(&["update-rc.d", s, "remove"])),
            (ServiceManager::Procd | ServiceManager::SysV, _) => each(&|s| line(&[&script(s), action])),
        }
    }
}

pub(super) fn run(action: &str, args: &[&str], output: &mut Output<'_>) -> Result<(), OutputError> {
    let words = GivenWords::read(args, &[], &[])?;
    let named = words.rest().iter().map(|name| {
        let known = SERVICES.iter().find(|service| *service == name);
        known.copied().ok_or_else(|| unknown("service", name, &SERVICES))
    });
    let mut services = named.collect::<Result<Vec<_>, _>>()?;
    let links = matches!(action, "enable" | "disable");
    if services.is_empty() {
        if !links {
            return Err(OutputError::Usage(format!("missing service: mefctl {action} mef|mefdaemon")));
        }
        services.extend(SERVICES);
    }
    let Some(init) = ServiceManager::find() else {
        let text = "no init system that mefctl knows runs here (systemd, OpenRC, runit, procd, SysV): \
            `mef load --boot` and `mef daemon` are what it would start";
        return Err(OutputError::Failed(text.into()));
    };
    let services = services.into_iter().map(|s| init.name_of(s)).collect::<Result<Vec<_>, _>>()?;
    if let ServiceManager::Runit(dir) = init
        && links
    {
        return services.iter().try_for_each(|service| {
            link(dir, service, if action == "enable" { Boot::Starts } else { Boot::Skips })
        });
    }
    init.commands(action, &services).iter().try_for_each(|command| finish(command, output))
}

/// Runs a command; its words are for whoever asked.
fn finish(command: &[String], output: &mut Output<'_>) -> Result<(), OutputError> {
    output.out.flush()?;
    let words = command.join(" ");
    let failed = |why: &str| OutputError::Failed([&words, ": ", why].concat());
    let (out, err) = (stdio::raw_stdout(), stdio::stderr());
    let child = child::start(command, &[], Some(out.as_fd()), Some(err.as_fd()));
    match child.map_err(|e| failed(&e.to_string()))?.wait() {
        ChildExit::Status(0) => Ok(()),
        end => Err(failed(&end.to_string())),
    }
}

/// What happens to a service at a boot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Boot {
    Starts,
    Skips,
}

/// Has runit start a service, or not any more.
fn link(dir: &str, service: &str, boot: Boot) -> Result<(), OutputError> {
    let (from, to) = (PathBuf::from(dir).join(service), Path::new(RUNIT_SERVICES).join(service));
    let failed = |path: &Path, e: &dyn std::fmt::Display| {
        Err(OutputError::Failed(format!("{}: {e}", path.to_string_lossy())))
    };
    if boot == Boot::Starts && !to.is_dir() {
        return failed(&to, &"no such service");
    }
    let is_link = from.symlink_metadata().is_ok_and(|meta| meta.is_symlink());
    let done = match (boot, is_link) {
        (Boot::Starts, true) => Ok(()),
        (Boot::Starts, false) => symlink(&to, &from),
        (Boot::Skips, true) => fs::remove_file(&from),
        (Boot::Skips, false) if from.exists() => return failed(&from, &"is not a link"),
        (Boot::Skips, false) => Ok(()),
    };
    match done {
        Err(e) if e.kind() != ErrorKind::NotFound || boot == Boot::Starts => failed(&from, &e),
        _ => Ok(()),
    }
}

/// How a newer version comes to this host.
pub(super) fn updated_by() -> String {
    let has = |path: &str| Path::new(path).exists();
    let package = if has("/var/lib/dpkg/info/mef.list") {
        "apt-get update && apt-get install --only-upgrade mef"
    } else if has("/usr/lib/opkg/info/mef.list") {
        "opkg update && opkg upgrade mef"
    } else if installed_by_apk() {
        "apk update && apk upgrade mef"
    } else {
        return by_hand();
    };
    format!("This installation is a package: {package}")
}

/// What is to be replaced: the program may be there under each of its names.
fn by_hand() -> String {
    let own = std::env::current_exe().unwrap_or_else(|_| PathBuf::from("/usr/sbin/mef"));
    let is_file = |path: &PathBuf| path.symlink_metadata().is_ok_and(|meta| meta.is_file());
    let names = ["mef", "mefctl", "mefdaemon"].map(|name| own.with_file_name(name));
    let mut files: Vec<String> =
        names.iter().filter(|path| is_file(path)).map(|path| path.to_string_lossy().into_owned()).collect();
    if files.is_empty() {
        files.push(own.to_string_lossy().into_owned());
    }
    let what = if files.len() == 1 { "one file" } else { "one program, in more than one file" };
    let files = files.join(" and ");
    format!(
        "This installation is {what}: replace {files} with a newer one, then run `mefctl restart mefdaemon`."
    )
}

fn installed_by_apk() -> bool {
    let Ok(text) = fs::read("/lib/apk/db/installed") else { return false };
    text.split(|&b| b == b'\n').any(|line| line == b"P:mef")
}
