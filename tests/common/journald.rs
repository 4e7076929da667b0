//! The journal of the host under test: a real systemd-journald on the directories that its programs see, what
//! writes to it, and journalctl, which says what is in it.

use super::{Net, ns, wait_for, wait_until};
use std::fs;
use std::io::Write;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

const JOURNALD: &str = "/lib/systemd/systemd-journald";

/// One entry as journalctl exports it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exported(Vec<(String, Vec<u8>)>);

impl Exported {
    /// The value of a field; empty if the entry has none.
    pub fn get(&self, name: &str) -> &[u8] {
        self.0.iter().find(|(n, _)| n == name).map_or(&[], |(_, v)| v)
    }
}

/// Takes systemd's export format apart.
pub fn exported(mut bytes: &[u8]) -> Vec<Exported> {
    let mut all = Vec::new();
    let mut fields = Vec::new();
    while let Some(end) = bytes.iter().position(|&b| b == b'\n') {
        let (line, rest) = (&bytes[..end], &bytes[end + 1..]);
        bytes = rest;
        if line.is_empty() {
            all.push(Exported(std::mem::take(&mut fields)));
            continue;
        }
        let equals = line.iter().position(|&b| b == b'=');
        let name = String::from_utf8(line[..equals.unwrap_or(line.len())].to_vec()).unwrap();
        let value = match equals {
            Some(at) => line[at + 1..].to_vec(),
            None => {
                let (len, rest) = bytes.split_first_chunk().unwrap();
                let (value, rest) = rest.split_at(usize::try_from(u64::from_le_bytes(*len)).unwrap());
                bytes = &rest[1..];
                value.to_vec()
            }
        };
        fields.push((name, value));
    }
    all
}

/// The machine's name, by which journald names its directories.
pub fn machine() -> String {
    let id = fs::read_to_string("/etc/machine-id")
        .unwrap_or_else(|e| panic!("/etc/machine-id: {e}: the package systemd makes it"));
    id.trim().to_owned()
}

impl Net {
    /// Where journald keeps its files: below /run and below /var.
    pub fn journal_dirs(&self) -> [PathBuf; 2] {
        ["run/log/journal", "log/journal"].map(|dir| self.path(dir).join(machine()))
    }

    /// Starts journald with these lines of configuration and this environment; with `lasting` it writes to
    /// /var at once.
    pub fn journald(&mut self, lines: &str, env: &[(&str, &str)], lasting: bool) -> usize {
        assert!(Path::new(JOURNALD).exists(), "this test needs the package systemd");
        let settings =
            "ReadKMsg=no\nAudit=no\nRateLimitIntervalSec=0\nMaxLevelStore=debug\nSyncIntervalSec=1h";
        self.write("run/systemd/journald.conf.d/test.conf", &format!("[Journal]\n{settings}\n{lines}\n"));
        if lasting {
            fs::create_dir_all(self.path("log/journal")).unwrap();
            self.write("run/systemd/journal/flushed", "");
        }
        let mut command = self.command(JOURNALD, &[]);
        command.envs(env.iter().copied());
        ns::private_dirs(&mut command, &self.dir);
        let _ = fs::remove_file(self.path("run/systemd/journal/socket"));
        let started = self.start("journald", command);
        let file = self.journal_dirs()[usize::from(lasting)].join("system.journal");
        let socket = self.path("run/systemd/journal/socket");
        wait_until("journald", || file.exists() && socket.exists());
        started
    }

    /// Writes an entry, as this process.
    pub fn entry(&self, fields: &[(&str, &[u8])]) {
        let mut message = Vec::new();
        for (name, value) in fields {
            message.extend(name.as_bytes());
            message.push(b'\n');
            message.extend(u64::try_from(value.len()).unwrap().to_le_bytes());
            message.extend(*value);
            message.push(b'\n');
        }
        let socket = UnixDatagram::unbound().unwrap();
        socket.send_to(&message, self.path("run/systemd/journal/socket")).unwrap();
    }

    /// Writes a message of a program, as this process.
    pub fn message(&self, program: &str, message: impl AsRef<[u8]>) {
        self.entry(&[("MESSAGE", message.as_ref()), ("SYSLOG_IDENTIFIER", program.as_bytes())]);
    }

    /// What journalctl finds in files that a pattern of the shell names, below the directory of the journal
    /// in /var or /run.
    pub fn journalctl(&self, lasting: bool, files: &str) -> Vec<Exported> {
        let pattern = self.journal_dirs()[usize::from(lasting)].join(files);
        let args = ["--quiet", "--no-pager", "-o", "export", "--file", pattern.to_str().unwrap()];
        let mut command = self.command("journalctl", &args);
        exported(&command.stderr(Stdio::null()).output().unwrap().stdout)
    }

    /// Waits until journald has put its file away and begun another.
    pub fn rotate(&self, journald: usize, lasting: bool) {
        let dir = &self.journal_dirs()[usize::from(lasting)];
        let files = || fs::read_dir(dir).unwrap().filter(|f| is_system(f.as_ref().unwrap())).count();
        let before = files();
        self.signal(journald, libc::SIGUSR2);
        wait_until("a rotation of the journal", || files() > before && dir.join("system.journal").exists());
    }

    /// Starts a program called `name` that runs as `uid` in the unit `unit` of the service manager and logs
    /// what [`Speaker::say`] gives it as `identifier`.
    pub fn speaker(&self, name: &str, uid: u32, unit: &str, identifier: &str) -> Speaker {
        let program = self.path(&format!("speakers/{}/{uid}/{name}", unit.trim_start_matches('/')));
        super::install(Path::new("/usr/bin/logger"), &program);
        let socket = self.path("run/systemd/journal/dev-log");
        let args = ["-u", socket.to_str().unwrap(), "-t", identifier];
        let mut command = self.command(program.to_str().unwrap(), &args);
        std::os::unix::process::CommandExt::uid(&mut command, uid);
        let child = command.stdin(Stdio::piped()).spawn().unwrap();
        let group = group(unit);
        fs::write(group.join("cgroup.procs"), child.id().to_string()).unwrap();
        Speaker { child, group }
    }
}

fn is_system(file: &fs::DirEntry) -> bool {
    file.file_name().to_string_lossy().starts_with("system")
}

/// The control group of a unit below that of the first process, made if it is missing. A name that begins
/// with `/` is no unit's, but that of a container there.
fn group(unit: &str) -> PathBuf {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    let mut mounts = mounts.lines().map(|l| l.split(' ').collect::<Vec<_>>());
    let mount = mounts.find(|words| words[2] == "cgroup2");
    let root = mount.unwrap_or_else(|| panic!("this test needs a mounted cgroup2"))[1].to_owned();
    let slice = match unit {
        _ if unit.starts_with('/') => ".",
        _ if unit.ends_with(".scope") => "user.slice",
        _ => "system.slice",
    };
    let dir = Path::new(&root).join(slice).join(unit.trim_start_matches('/'));
    fs::create_dir_all(&dir).unwrap();
    dir
}

/// A program that writes to the journal.
pub struct Speaker {
    child: Child,
    group: PathBuf,
}

impl Speaker {
    /// Logs a line.
    pub fn say(&mut self, line: &str) {
        writeln!(self.child.stdin.as_mut().unwrap(), "{line}").unwrap();
    }
}

impl Drop for Speaker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        // The group is empty a moment later. Another test may still use one of that name.
        for _ in 0..50 {
            if fs::remove_dir(&self.group).is_ok() {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(2));
        }
    }
}

/// Waits for `count` entries in the journal, then says what they are.
pub fn settled(net: &Net, lasting: bool, files: &str, program: &str, count: usize) -> Vec<Exported> {
    wait_for("journald to write", || {
        let mut all = net.journalctl(lasting, files);
        all.retain(|e| e.get("SYSLOG_IDENTIFIER") == program.as_bytes());
        (all.len() >= count).then_some(all)
    })
}
