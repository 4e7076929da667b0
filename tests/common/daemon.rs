//! The daemon under test, and the logs that it reads.

use super::bans::{number, text};
use super::{Net, wait_for, wait_until};
use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

impl Net {
    /// Writes mef.conf: directories below ours, messages on standard error, state written at once, a look
    /// every second at what others do to the tables, and these lines, which win.
    /// A rule `mark` that bans at once is what `mark` needs; it reads the given logs.
    pub fn configure(&self, lines: &str, logs: &[&str]) {
        let dir = self.dir.display();
        let text = format!(
            "[global]\nrules_dir={dir}/rules.d\nwhitelist_dir={dir}/whitelist\n\
             blacklist_dir={dir}/blacklist\n\
             log=stderr\nstate_sync=0\nheal_interval=1s\nsyslog_trusted=true\n{}{lines}\n",
            super::backend::line()
        );
        self.write("mef.conf", &text);
        self.without_others();
        let logs: Vec<String> = logs.iter().map(|log| self.path(log).display().to_string()).collect();
        self.rule(
            "mark",
            &format!(
                "programs=mark\nfiles={}\nfailregex=^mark <HOST>$\nmaxretry=1\nbantime=1h",
                logs.join(",")
            ),
        );
    }

    /// Switches off the shipped rules that this machine could have something for, and that could read what
    /// another test writes there: those for SSH are what every test has had.
    fn without_others(&self) {
        let shipped = concat!(env!("CARGO_MANIFEST_DIR"), "/rootfs/etc/mef/rules.d");
        for entry in fs::read_dir(shipped).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            let file = format!("rules.d/{name}");
            if !["sshd.conf", "sshd-keys.conf", "dropbear.conf"].contains(&name.as_str())
                && !self.path(&file).exists()
            {
                self.write(&file, "[rule]\nenabled=false\nprograms=x\nfailregex=<HOST>\n");
            }
        }
    }

    /// Writes the service rule NAME.
    pub fn rule(&self, name: &str, lines: &str) {
        self.write(&format!("rules.d/{name}.conf"), &format!("[rule]\nenabled=true\n{lines}\n"));
    }

    /// The service rule of the tests: three failed passwords in `log`, and these lines.
    pub fn rule_for(&self, name: &str, log: &str, lines: &str) {
        let log = self.path(log);
        self.rule(
            name,
            &format!(
                "programs=sshd\nfiles={}\nfailregex=^Failed password for .* from <HOST> port \\d+ ssh2$\n\
             findtime=600\nmaxretry=3\nbantime=1h\n{lines}",
                log.display()
            ),
        );
    }

    /// The rule for sshd as it ships, but with our log.
    pub fn shipped_sshd_rule(&self, lines: &str) {
        let shipped = include_str!("../../rootfs/etc/mef/rules.d/sshd.conf");
        let files = format!("files={}", self.path("auth.log").display());
        let text: Vec<&str> =
            shipped.lines().map(|l| if l.starts_with("files=") { files.as_str() } else { l }).collect();
        // Later keys win.
        self.write("rules.d/sshd.conf", &format!("{}\n{lines}\n", text.join("\n")));
    }

    /// Starts the daemon and waits until it reads its logs. What it says is in `NAME.out`.
    #[track_caller]
    pub fn daemon(&mut self, name: &str) -> usize {
        let started = self.start_daemon(name);
        self.wait_ready(name);
        started
    }

    /// Starts the daemon.
    pub fn start_daemon(&mut self, name: &str) -> usize {
        let config = self.path("mef.conf");
        let command = self.mef_command(&["daemon", "--foreground", "--config", config.to_str().unwrap()]);
        self.start(name, command)
    }

    /// Ends the daemon as an init system does.
    #[track_caller]
    pub fn stop(&mut self, started: usize) {
        self.signal(started, libc::SIGTERM);
        assert_eq!(self.wait(started), 0, "SIGTERM is no failure");
    }

    /// What a started program has said so far.
    #[must_use]
    pub fn said(&self, name: &str) -> String {
        self.read(&format!("{name}.out"))
    }

    /// Waits until a started program has said something.
    #[track_caller]
    pub fn wait_said(&self, name: &str, what: &str) {
        let said = || self.said(name);
        super::wait_or_show(&format!("{name} to say '{what}'"), || said().contains(what).then_some(()), said);
    }

    /// Appends bytes to a log in one write.
    pub fn append(&self, log: &str, bytes: impl AsRef<[u8]>) {
        let mut file = fs::OpenOptions::new().create(true).append(true).open(self.path(log)).unwrap();
        file.write_all(bytes.as_ref()).unwrap();
    }

    /// Returns when the daemon has read all that the log holds now, and the kernel has what comes of it; whom
    /// it has banned for that.
    #[track_caller]
    pub fn mark(&self, log: &str) -> IpAddr {
        static COUNT: AtomicU16 = AtomicU16::new(0);
        let [high, low] = COUNT.fetch_add(1, Ordering::Relaxed).to_be_bytes();
        let addr = IpAddr::from([100, 64, high, low]);
        self.append(log, format!("Nov 22 08:00:01 host mark[1]: mark {addr}\n"));
        wait_until(&format!("the mark at the end of {log}"), || self.in_set("ban4", addr));
        addr
    }

    /// Asks the daemon for its statistics: lines, candidates, hits, ignored, ambiguous, in this order. The
    /// marks are among them.
    #[track_caller]
    pub fn counts(&self, started: usize, name: &str) -> Vec<u64> {
        let before = self.said(name).matches(" evicted; the table was ").count();
        self.signal(started, libc::SIGUSR1);
        wait_until("statistics", || self.said(name).matches(" evicted; the table was ").count() > before);
        let said = self.said(name);
        let line = said.lines().rev().find(|l| l.contains(" looked at, ")).unwrap();
        line.split(", ").filter_map(|part| part.split(' ').find_map(|word| word.parse().ok())).collect()
    }
}

/// What sshd writes about a wrong password.
#[must_use]
pub fn failed(addr: &str) -> String {
    format!("Nov 22 08:00:01 host sshd[130]: Failed password for root from {addr} port 58216 ssh2\n")
}

/// Address and ports of every ban, with its end.
pub type Ends = BTreeMap<(String, String), u64>;

/// The log that `host` watches.
pub const LOG: &str = "app.log";

/// So many wrong passwords from an address.
pub fn fails(addr: &str, count: usize) -> String {
    failed(addr).repeat(count)
}

/// Now, in seconds since 1970.
pub fn seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

/// A host with the test's rule on an empty log.
pub fn host(settings: &str, rule: &str) -> Net {
    let net = Net::new();
    net.configure(settings, &[LOG]);
    net.rule_for("app", LOG, rule);
    net.append(LOG, "");
    net
}

/// Every ban with the second in which it ends; 0 = never.
pub fn ends(net: &Net) -> Ends {
    // Asked again when a second passed over the question.
    let (now, bans) = wait_for("an answer within a second", || {
        let (now, bans) = (seconds(), net.bans());
        (now == seconds()).then_some((now, bans))
    });
    let end = |row| number(row, "left").map_or(0, |left| now + left);
    bans.iter().map(|row| ((text(row, "address"), text(row, "ports")), end(row))).collect()
}

/// The same bans, with the same end give or take the seconds that are cut off.
#[track_caller]
pub fn same_ends(before: &Ends, after: &Ends) {
    let near = |(a, b): (&u64, &u64)| (*a == 0) == (*b == 0) && a.abs_diff(*b) <= 2;
    assert!(
        before.keys().eq(after.keys()) && before.values().zip(after.values()).all(near),
        "{before:#?}\n{after:#?}"
    );
}

/// The children of a daemon that cannot change the firewall: programs apart, that is the observer.
pub fn observers(daemon: u32) -> Vec<u32> {
    let children = fs::read_to_string(format!("/proc/{daemon}/task/{daemon}/children")).unwrap_or_default();
    let children = children.split_whitespace().map(|pid| pid.parse().unwrap());
    let is_one = |pid: &u32| {
        let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("CapEff:")).unwrap_or("").trim();
        !text.contains("State:\tZ") && u64::from_str_radix(line, 16).is_ok_and(|caps| caps & (1 << 12) == 0)
    };
    children.filter(is_one).collect()
}

/// The one that there is.
pub fn observer(daemon: u32) -> u32 {
    wait_for("the observer", || observers(daemon).pop())
}
