//! A host of its own for every test: a network namespace with neighbours, directories, servers, `mef`.
//!
//! Namespaces are held by file descriptors of the test process only (no `ip netns` names, no mounts), and
//! every program started here dies with the thread that started it, its descendants with the test: nothing
//! is left behind, however a test ends. A program that is missing fails the test with the package to install;
//! nothing is skipped.
#![allow(dead_code, reason = "each test file uses its part")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a helper that fails is a test that fails")]

pub mod backend;
pub mod bans;
pub mod daemon;
pub mod dns;
pub mod elements;
pub mod frames;
pub mod journald;
pub mod ns;
pub mod pty;
pub mod ready;
pub mod schema;
pub mod ssh;
pub mod town;
pub mod world;

use ns::Ns;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, TcpStream};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// Limit for things that take milliseconds: reaching it means failure, never "slow".
pub const LIMIT: Duration = Duration::from_secs(60);

/// What a program said and how it ended.
#[derive(Debug)]
pub struct Output {
    /// Exit status, -1 if a signal ended it.
    pub status: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Output {
    /// The standard output of a success; a failure fails the test with all that was said.
    #[track_caller]
    pub fn ok(self) -> String {
        assert!(self.status == 0, "exit status {}\n{}{}", self.status, self.stdout, self.stderr);
        self.stdout
    }

    /// What `mef status` has shown, whatever its verdict.
    #[track_caller]
    pub fn shown(self) -> String {
        assert!(
            matches!(self.status, 0 | 1 | 3) && !self.stdout.is_empty(),
            "exit status {}\n{}{}",
            self.status,
            self.stdout,
            self.stderr
        );
        self.stdout
    }
}

/// A neighbour of the host, in a namespace of its own behind a veth pair.
pub struct Peer {
    pub ns: Ns,
    /// Its addresses, and the host's on that link.
    pub v4: Ipv4Addr,
    pub v6: Ipv6Addr,
    pub host4: Ipv4Addr,
    pub host6: Ipv6Addr,
    /// The interface on both ends.
    pub link: String,
}

/// The host under test. The thread that made it lives in its namespace, and so do the programs it starts.
///
/// It has a syslog daemon: what `sshd` and `mef` send to /dev/log ends up in `auth.log` (facilities auth
/// and authpriv) and `daemon.log` (all others) in the directory.
pub struct Net {
    /// A directory for logs, configuration and state, removed at the end.
    pub dir: PathBuf,
    home: Ns,
    outside: Ns,
    links: u8,
    children: Vec<Child>,
    syslog: UnixDatagram,
    supervisor: ready::Supervisor,
}

impl Net {
    #[must_use]
    pub fn new() -> Net {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let n = COUNT.fetch_add(1, Ordering::Relaxed);
        let dir = std::env::temp_dir().join(format!("mef-{}-{n}", std::process::id()));
        // A test of the same number, which was killed, may have left one.
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir_all(&dir).unwrap();
        let outside = Ns::current();
        let home = Ns::new();
        home.enter();
        ns::make_private_dirs(&dir);
        let syslog = ns::open_socket(&dir.join("dev/log"));
        let (socket, logs) = (syslog.try_clone().unwrap(), dir.clone());
        std::thread::spawn(move || keep_logs(&socket, &logs));
        let supervisor = ready::Supervisor::new(&dir);
        let net = Net { dir, home, outside, links: 0, children: Vec::new(), syslog, supervisor };
        net.ip("link set lo up");
        backend::prepare(&net);
        net
    }

    /// Adds a neighbour with IPv4 and IPv6 on a link of its own.
    pub fn peer(&mut self) -> Peer {
        const NETS: [[u8; 3]; 4] = [[192, 0, 2], [198, 51, 100], [203, 0, 113], [10, 9, 8]];
        let i = self.links;
        let [a, b, c] = NETS[usize::from(i)];
        self.links += 1;
        let v6 = |host| Ipv6Addr::new(0x2001, 0xdb8, u16::from(i), 0, 0, 0, 0, host);
        let peer = Peer {
            ns: Ns::new(),
            v4: Ipv4Addr::new(a, b, c, 2),
            v6: v6(2),
            host4: Ipv4Addr::new(a, b, c, 1),
            host6: v6(1),
            link: format!("v{i}"),
        };
        let link = &peer.link;
        quiet_links();
        self.within(&peer.ns, |_| quiet_links());
        self.ip(&format!("link add {link} type veth peer name {link} netns {}", peer.ns.path()));
        self.join(link, peer.host4, peer.host6);
        self.within(&peer.ns, |net| {
            net.ip("link set lo up");
            net.join(link, peer.v4, peer.v6);
            net.ip(&format!("route add default via {}", peer.host4));
            net.ip(&format!("route add default via {}", peer.host6));
        });
        peer
    }

    fn join(&self, link: &str, v4: Ipv4Addr, v6: Ipv6Addr) {
        self.ip(&format!("addr add {v4}/24 dev {link}"));
        self.ip(&format!("addr add {v6}/64 dev {link} nodad"));
        self.ip(&format!("link set {link} up"));
    }

    /// Does something in another namespace, in this thread.
    pub fn within<R>(&self, ns: &Ns, f: impl FnOnce(&Net) -> R) -> R {
        ns.enter();
        let result = f(self);
        self.home.enter();
        result
    }

    /// Does something in this one's namespace, in this thread; for tests with several.
    pub fn within_self<R>(&self, f: impl FnOnce() -> R) -> R {
        self.home.enter();
        f()
    }

    /// Gives the neighbour one more address, beyond the link, and makes it speak from there. Its own IPv6
    /// address shares a prefix with the host's, so a ban of that would lock out the host.
    pub fn speak_as(&self, peer: &Peer, addr: IpAddr) {
        let (via, host, len) = match addr {
            IpAddr::V4(_) => (IpAddr::V4(peer.v4), IpAddr::V4(peer.host4), 32),
            IpAddr::V6(_) => (peer.v6.into(), peer.host6.into(), 128),
        };
        self.ip(&format!("route replace {addr}/{len} via {via}"));
        self.within(&peer.ns, |net| {
            net.ip(&format!("addr replace {addr}/{len} dev lo {}", if len == 128 { "nodad" } else { "" }));
            net.ip(&format!("route replace {host}/{len} dev {} src {addr}", peer.link));
        });
    }

    /// Runs `ip` with words separated by spaces.
    #[track_caller]
    pub fn ip(&self, words: &str) -> String {
        self.cmd("ip", &words.split_whitespace().collect::<Vec<_>>()).ok()
    }

    /// Runs `nft` with the text as its rule file.
    #[track_caller]
    pub fn nft(&self, text: &str) -> String {
        self.input("nft", &["-f", "-"], text.as_bytes()).ok()
    }

    /// Connection tracking begins in a namespace with the first rule that asks for it.
    pub fn track(&self) {
        self.nft(
            "table inet tracked { chain c { type filter hook prerouting priority 0; ct state new \
            counter; }; }",
        );
    }

    /// What `nft list` shows of our table's object, such as `set inet mef_guard ban4`; empty if it is not
    /// there.
    pub fn nft_list(&self, object: &str) -> String {
        let mut words = vec!["list"];
        words.extend(object.split_whitespace());
        older_words(&self.cmd("nft", &words).stdout)
    }

    /// A program in the namespace of this thread, ready to be started.
    pub fn command(&self, program: &str, args: &[&str]) -> Command {
        let mut command = Command::new(find(program));
        command.args(args).current_dir(&self.dir).stdin(Stdio::null());
        command
            .env("HOME", &self.dir)
            .env("LC_ALL", "C")
            .env_remove("SSH_CONNECTION")
            .env_remove("SSH_CLIENT");
        ns::start_clean(&mut command);
        command
    }

    /// Waits until the daemon that was started last has told its supervisor that it is ready.
    #[track_caller]
    pub fn wait_ready(&self, name: &str) {
        let ready = || self.supervisor.is_ready().then_some(());
        wait_or_show(&format!("{name} to be ready"), ready, || self.read(&format!("{name}.out")));
    }

    /// Runs a program to its end.
    pub fn cmd(&self, program: &str, args: &[&str]) -> Output {
        finish(
            self.command(program, args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap(),
            &[],
        )
    }

    /// Runs a program with something on its standard input.
    pub fn input(&self, program: &str, args: &[&str], input: &[u8]) -> Output {
        let mut command = self.command(program, args);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        finish(command.spawn().unwrap(), input)
    }

    /// Starts a program that runs until the test ends; what it says goes to `NAME.out` in the directory.
    pub fn start(&mut self, name: &str, mut command: Command) -> usize {
        let out = fs::File::create(self.path(&format!("{name}.out"))).unwrap();
        command.stdout(out.try_clone().unwrap()).stderr(out);
        self.supervisor.expect();
        self.children.push(command.spawn().unwrap());
        self.children.len() - 1
    }

    /// The same, with the streams that it was given.
    pub fn start_as_is(&mut self, mut command: Command) -> usize {
        self.children.push(command.spawn().unwrap());
        self.children.len() - 1
    }

    /// The process id of a started program.
    #[must_use]
    pub fn pid(&self, started: usize) -> u32 {
        self.children[started].id()
    }

    /// Sends a signal to a started program.
    pub fn signal(&self, started: usize, signal: i32) {
        let pid = self.children[started].id();
        ns::kill(pid, signal);
        // A daemon that stands still does not read either.
        if [libc::SIGSTOP, libc::SIGCONT].contains(&signal) {
            daemon::observers(pid).into_iter().for_each(|observer| ns::kill(observer, signal));
        }
    }

    /// Waits for the end of a started program and returns its exit status, -1 for a signal.
    #[track_caller]
    pub fn wait(&mut self, started: usize) -> i32 {
        let child = &mut self.children[started];
        wait_for("the end of a program", || child.try_wait().unwrap()).code().unwrap_or(-1)
    }

    /// Runs the static binary, in directories of its own instead of the host's /run, /var/lib and /etc/mef.
    pub fn mef(&self, args: &[&str]) -> Output {
        self.run(self.mef_command(args))
    }

    /// Runs a command to its end.
    pub fn run(&self, mut command: Command) -> Output {
        finish(command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap(), &[])
    }

    /// The same with something on standard input.
    pub fn mef_input(&self, args: &[&str], input: &[u8]) -> Output {
        let mut command = self.mef_command(args);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        finish(command.spawn().unwrap(), input)
    }

    /// The static binary, ready to be started.
    pub fn mef_command(&self, args: &[&str]) -> Command {
        let binary = mef_binary();
        assert!(binary.exists(), "{} is missing: run `make` first", binary.display());
        let mut command = self.command(binary.to_str().unwrap(), args);
        self.own(&mut command);
        command
    }

    /// Gives a command that runs the binary the directories of this host, and tells it whom to tell when a
    /// daemon is ready.
    pub fn own(&self, command: &mut Command) {
        ns::private_dirs(command, &self.dir);
        self.supervisor.name(command);
    }

    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// Writes a file below the directory, with the directories above it.
    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        path
    }

    /// Writes a script below the directory, with the directories above it; as [`install`].
    #[track_caller]
    pub fn program(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        let to = path.to_str().unwrap();
        self.input("install", &["-D", "-m", "755", "/dev/stdin", to], text.as_bytes()).ok();
        path
    }

    /// The content of a file below the directory; empty if it is not there.
    #[must_use]
    pub fn read(&self, name: &str) -> String {
        fs::read(self.path(name)).map(|b| String::from_utf8_lossy(&b).into_owned()).unwrap_or_default()
    }

    /// Whether a TCP connection from the neighbour comes about, however busy the machine is.
    pub fn reaches(&self, from: &Peer, to: IpAddr, port: u16) -> bool {
        let end = Instant::now() + LIMIT;
        while self.shut_out(from, to, port) {
            if Instant::now() > end {
                return false;
            }
        }
        true
    }

    /// Whether no TCP connection from the neighbour comes about within a second.
    pub fn shut_out(&self, from: &Peer, to: IpAddr, port: u16) -> bool {
        self.within(&from.ns, |_| {
            TcpStream::connect_timeout(&(to, port).into(), Duration::from_secs(1)).is_err()
        })
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        for child in &mut self.children {
            let _ = child.kill();
            let _ = child.wait();
        }
        self.home.end_programs();
        let _ = self.syslog.shutdown(std::net::Shutdown::Both);
        self.supervisor.end();
        self.outside.enter();
        let _ = fs::remove_dir_all(&self.dir);
    }
}

/// Loads a rule set.
#[track_caller]
pub fn load(net: &Net, text: &str) {
    let out = net.mef_input(&["load", "-"], text.as_bytes());
    assert_eq!(out.status, 0, "{out:?}\n{text}");
}

/// A listing as nft before 1.1 prints it: since then it names the burst of a limit also where that is the
/// default.
#[must_use]
pub fn older_words(listing: &str) -> String {
    listing.replace(" burst 5 packets", "")
}

/// What nft lists, without what the kernel counts.
#[must_use]
pub fn uncounted(listing: &str) -> String {
    let mut out = String::new();
    for line in listing.lines() {
        let words: Vec<&str> = line.split(' ').collect();
        let counts = |i: usize| {
            i > 0 && matches!(words[i - 1], "packets" | "bytes") && words[i].parse::<u64>().is_ok()
        };
        let words: Vec<&str> = (0..words.len()).map(|i| if counts(i) { "N" } else { words[i] }).collect();
        out += &words.join(" ");
        out.push('\n');
    }
    out
}

/// The static binary: `MEF_BIN`, or what `make` builds.
#[must_use]
pub fn mef_binary() -> PathBuf {
    // Absolute, because programs are started in the test's own directory.
    std::env::var_os("MEF_BIN").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("target/mef"),
        |path| std::path::absolute(path).unwrap(),
    )
}

/// Asks until there is an answer; none within `LIMIT` fails the test.
#[track_caller]
pub fn wait_for<T>(what: &str, ask: impl FnMut() -> Option<T>) -> T {
    wait_or_show(what, ask, String::new)
}

/// The same, and a failure shows what there is instead.
#[track_caller]
pub fn wait_or_show<T>(what: &str, mut ask: impl FnMut() -> Option<T>, shown: impl Fn() -> String) -> T {
    let end = Instant::now() + LIMIT;
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < end, "waited in vain for {what}\n{}", shown());
        sleep(Duration::from_millis(5));
    }
}

/// Waits until something is so.
#[track_caller]
pub fn wait_until(what: &str, mut is: impl FnMut() -> bool) {
    wait_for(what, || is().then_some(()));
}

/// Copies a program, in another process: whatever other tests start at that moment would inherit a file that
/// this one has open for writing, and until that ended nobody could run the copy ("Text file busy").
pub fn install(from: &Path, to: &Path) {
    let done = Command::new("install").args(["-D", "-m", "755"]).args([from, to]).status().unwrap();
    assert!(done.success(), "{}", to.display());
}

/// A fresh interface can speak IPv6 at once, with its link-local address too, and does so only when a test
/// lets it, in the namespace of this thread.
fn quiet_links() {
    for what in ["accept_dad", "router_solicitations"] {
        fs::write(format!("/proc/sys/net/ipv6/conf/default/{what}"), "0").unwrap();
    }
}

/// The syslog daemon: every message a line, in the traditional form, written at once.
fn keep_logs(socket: &UnixDatagram, dir: &Path) {
    let open = |name| fs::OpenOptions::new().create(true).append(true).open(dir.join(name)).unwrap();
    let (mut auth, mut daemon) = (open("auth.log"), open("daemon.log"));
    let mut buf = [0; 9000];
    // Nothing is what a socket gives after `shutdown`.
    while let Ok(n @ 1..) = socket.recv(&mut buf) {
        let text = String::from_utf8_lossy(&buf[..n]).into_owned();
        let Some((priority, rest)) = text.strip_prefix('<').and_then(|t| t.split_once('>')) else { continue };
        let facility = priority.parse::<u32>().unwrap_or(0) >> 3;
        // "Nov 22 08:00:01 " is there or not.
        let stamped = rest.as_bytes().get(6) == Some(&b' ') && rest.as_bytes().get(15) == Some(&b' ');
        let (stamp, message) = if stamped { rest.split_at(15) } else { ("Nov 22 08:00:01", rest) };
        let line = format!("{stamp} host {}\n", message.trim_start().trim_end_matches(['\n', '\0']));
        let log = if matches!(facility, 4 | 10) { &mut auth } else { &mut daemon };
        if std::io::Write::write_all(log, line.as_bytes()).is_err() {
            return;
        }
    }
}

/// Where a program is; which package has it if it is nowhere.
fn find(program: &str) -> PathBuf {
    const PACKAGES: &[(&str, &str)] = &[
        ("ip", "iproute2"),
        ("nft", "nftables"),
        ("ssh", "openssh-client"),
        ("ssh-keygen", "openssh-client"),
        ("sshd", "openssh-server"),
    ];
    if program.contains('/') {
        return PathBuf::from(program);
    }
    let path = std::env::var("PATH").unwrap_or_default() + ":/usr/sbin:/sbin:/usr/bin:/bin";
    let found = path.split(':').map(|dir| Path::new(dir).join(program)).find(|p| p.is_file());
    found.unwrap_or_else(|| {
        let package =
            PACKAGES.iter().find(|(name, _)| *name == program).map_or(program, |(_, package)| package);
        panic!("{program} is not installed: this test needs the package {package}")
    })
}

/// Feeds the program while it talks, so that neither side waits for the other.
fn finish(mut child: Child, input: &[u8]) -> Output {
    let output = std::thread::scope(|scope| {
        if let Some(mut stdin) = child.stdin.take() {
            // A program may well end before it has read everything.
            scope.spawn(move || std::io::Write::write_all(&mut stdin, input).ok());
        }
        child.wait_with_output().unwrap()
    });
    Output {
        status: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}
