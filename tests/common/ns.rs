//! Namespaces of the kernel: the only unsafe code of the tests.

use std::ffi::CString;
use std::fs::File;
use std::io;
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

const THREAD_NS: &str = "/proc/thread-self/ns/net";

/// A network namespace. It ends with this value and the programs in it.
pub struct Ns(OwnedFd);

impl Ns {
    /// The namespace of this thread.
    pub fn current() -> Ns {
        Ns(File::open(THREAD_NS).unwrap().into())
    }

    /// A new, empty namespace; the thread stays where it is.
    pub fn new() -> Ns {
        let before = Ns::current();
        // SAFETY: no memory is involved; only the calling thread moves.
        let rc = unsafe { libc::unshare(libc::CLONE_NEWNET) };
        assert!(rc == 0, "a network namespace of its own needs root: {}", io::Error::last_os_error());
        let new = Ns::current();
        before.enter();
        new
    }

    /// Moves this thread, and the programs it starts from now on, into the namespace.
    pub fn enter(&self) {
        // SAFETY: the descriptor is open as long as `self`; only the calling thread moves.
        let rc = unsafe { libc::setns(self.0.as_raw_fd(), libc::CLONE_NEWNET) };
        assert!(rc == 0, "setns: {}", io::Error::last_os_error());
    }

    /// Ends the programs in it: those that a daemon has started go on when it is killed.
    pub fn end_programs(&self) {
        let id = |path: &str| std::fs::metadata(path).map(|meta| (meta.dev(), meta.ino())).ok();
        let here = id(&self.path());
        let programs = || -> Vec<i32> {
            let names = std::fs::read_dir("/proc").into_iter().flatten();
            let pids = names.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
            let own = std::process::id().cast_signed();
            pids.filter(|pid| *pid != own && here.is_some() && id(&format!("/proc/{pid}/ns/net")) == here)
                .collect()
        };
        // Again: those that are being ended may have started others.
        for _ in 0..1000 {
            let left = programs();
            if left.is_empty() {
                break;
            }
            for pid in left {
                // SAFETY: no memory is involved; a program that has just ended by itself is as good.
                unsafe { libc::kill(pid, libc::SIGKILL) };
            }
            std::thread::sleep(std::time::Duration::from_millis(2));
        }
    }

    /// How `ip link` names it.
    pub fn path(&self) -> String {
        format!("/proc/{}/fd/{}", std::process::id(), self.0.as_raw_fd())
    }
}

/// Puts Ethernet frames on an interface of the namespace in which it was made, past all rules of that
/// namespace.
pub struct Wire(OwnedFd);

impl Wire {
    pub fn new(link: &str) -> Wire {
        let name = CString::new(link).unwrap();
        // SAFETY: no memory is involved.
        let fd = unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0) };
        assert!(fd >= 0, "socket: {}", io::Error::last_os_error());
        // SAFETY: the descriptor is new, and nobody else's.
        let socket = unsafe { std::os::fd::FromRawFd::from_raw_fd(fd) };
        // SAFETY: an all-zero address is valid.
        let mut to: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
        to.sll_family = u16::try_from(libc::AF_PACKET).unwrap();
        // SAFETY: the name ends with a NUL and lives until the call returns.
        to.sll_ifindex = unsafe { libc::if_nametoindex(name.as_ptr()) }.cast_signed();
        let len = libc::socklen_t::try_from(size_of_val(&to)).unwrap();
        // SAFETY: the address lives until the call returns, and has the length that is told.
        check(unsafe { libc::bind(fd, (&raw const to).cast(), len) }).unwrap();
        Wire(socket)
    }

    /// Sends all of them, in order.
    pub fn send(&self, frames: &[Vec<u8>]) {
        for batch in frames.chunks(64) {
            let mut parts: Vec<libc::iovec> = batch
                .iter()
                .map(|f| libc::iovec { iov_base: f.as_ptr().cast_mut().cast(), iov_len: f.len() })
                .collect();
            let mut messages: Vec<libc::mmsghdr> = parts
                .iter_mut()
                .map(|part| {
                    // SAFETY: an all-zero message is valid: it has no address, no parts and no control data.
                    let mut message: libc::mmsghdr = unsafe { std::mem::zeroed() };
                    message.msg_hdr.msg_iov = part;
                    message.msg_hdr.msg_iovlen = 1;
                    message
                })
                .collect();
            let mut sent = 0;
            while sent < messages.len() {
                let rest = &mut messages[sent..];
                let count = u32::try_from(rest.len()).unwrap();
                // SAFETY: all messages, their parts and the frames live until the call returns; nothing is
                // written to frames.
                let n = unsafe { libc::sendmmsg(self.0.as_raw_fd(), rest.as_mut_ptr(), count, 0) };
                match usize::try_from(n) {
                    Ok(n) => sent += n,
                    // The queue of the interface is full.
                    Err(_) if io::Error::last_os_error().raw_os_error() == Some(libc::ENOBUFS) => {
                        std::thread::yield_now();
                    }
                    Err(_) => panic!("sendmmsg: {}", io::Error::last_os_error()),
                }
            }
        }
    }
}

pub fn kill(pid: u32, signal: i32) {
    // SAFETY: no memory is involved; the process is a child that has not been waited for.
    let rc = unsafe { libc::kill(pid.cast_signed(), signal) };
    assert!(rc == 0, "kill: {}", io::Error::last_os_error());
}

/// Sends packets of this host with headers of their own.
pub fn raw_socket(family: libc::c_int) -> OwnedFd {
    // SAFETY: no memory is involved.
    let fd = unsafe { libc::socket(family, libc::SOCK_RAW | libc::SOCK_CLOEXEC, libc::IPPROTO_RAW) };
    assert!(fd >= 0, "socket: {}", io::Error::last_os_error());
    // SAFETY: the descriptor is new, and nobody else's.
    unsafe { std::os::fd::FromRawFd::from_raw_fd(fd) }
}

/// Resets the connection of a TCP socket and forgets its addresses, whoever else holds the socket.
pub fn disconnect(socket: &OwnedFd) {
    // SAFETY: an all-zero address is valid: its family is AF_UNSPEC.
    let nothing: libc::sockaddr = unsafe { std::mem::zeroed() };
    let len = libc::socklen_t::try_from(size_of::<libc::sockaddr>()).unwrap();
    // SAFETY: the address lives until the call returns, and has the length that is told.
    let rc = unsafe { libc::connect(socket.as_raw_fd(), &raw const nothing, len) };
    assert!(rc == 0, "disconnect: {}", io::Error::last_os_error());
}

/// Has the kernel keep the first packet of each connection that this socket takes.
pub fn save_syns(listener: &TcpListener) {
    let (fd, yes) = (listener.as_raw_fd(), 1i32);
    let len = libc::socklen_t::try_from(size_of_val(&yes)).unwrap();
    // SAFETY: the value lives until the call returns, and has the length that is told.
    let rc =
        unsafe { libc::setsockopt(fd, libc::IPPROTO_TCP, libc::TCP_SAVE_SYN, (&raw const yes).cast(), len) };
    check(rc).unwrap();
}

/// The headers of the packet that a connection began with, as it came here.
pub fn saved_syn(stream: &TcpStream) -> Vec<u8> {
    let mut bytes = vec![0u8; 256];
    let mut len = libc::socklen_t::try_from(bytes.len()).unwrap();
    // SAFETY: the buffer lives until the call returns, and has the length that is told.
    let rc = unsafe {
        let (fd, to) = (stream.as_raw_fd(), bytes.as_mut_ptr().cast());
        libc::getsockopt(fd, libc::IPPROTO_TCP, libc::TCP_SAVED_SYN, to, &raw mut len)
    };
    check(rc).unwrap();
    bytes.truncate(len as usize);
    bytes
}

fn check(rc: libc::c_int) -> io::Result<()> {
    if rc == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// The program is killed when the thread that starts it ends, and no signal is ignored because whoever runs
/// the tests, a shell in the background or nohup, ignores it.
pub fn start_clean(command: &mut Command) {
    let hook = || {
        for signal in [libc::SIGINT, libc::SIGQUIT, libc::SIGHUP] {
            // SAFETY: async-signal-safe, and no handler is installed.
            unsafe { libc::signal(signal, libc::SIG_DFL) };
        }
        // SAFETY: async-signal-safe, no memory is involved.
        check(unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) })
    };
    // SAFETY: the closure makes system calls and allocates nothing unless they fail.
    unsafe { command.pre_exec(hook) };
}

/// What programs use of /dev.
const DEVICES: [&str; 8] = ["null", "zero", "full", "random", "urandom", "tty", "ptmx", "kmsg"];

/// The user as whom a daemon of the tests runs: the number of nobody on this machine.
pub const USER: u32 = 61_234;

/// Whether there is that user; `MEF_TEST_USER=none` runs the tests without it.
pub fn has_user() -> bool {
    std::env::var("MEF_TEST_USER").map_or(true, |user| user != "none")
}

/// The users of this machine, and the daemon's.
fn users() -> String {
    let all = std::fs::read_to_string("/etc/passwd").unwrap();
    let others = all.lines().filter(|line| !line.starts_with("mef:"));
    let mut users: String = others.flat_map(|line| [line, "\n"]).collect();
    if has_user() {
        users += &format!("mef:x:{USER}:{USER}:mef daemon:/:/usr/sbin/nologin\n");
    }
    users
}

/// A socket of the system, to which anybody may send.
pub fn open_socket(path: &Path) -> UnixDatagram {
    let socket = UnixDatagram::bind(path).unwrap();
    std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
    socket
}

/// Makes the directories that `private_dirs` shows to programs.
pub fn make_private_dirs(dir: &Path) {
    for inside in ["run", "lib", "log", "etc-mef", "sbin", "dev/pts"] {
        std::fs::create_dir_all(dir.join(inside)).unwrap();
    }
    for device in DEVICES {
        File::create(dir.join("dev").join(device)).unwrap();
    }
    std::fs::write(dir.join("passwd"), users()).unwrap();
    // What is not there cannot be covered, and the program would make it on the real host.
    std::fs::create_dir_all("/etc/mef").unwrap();
}

/// In the program's eyes /run, /var/lib, /var/log and /usr/local/sbin are directories below `dir`, /etc/mef
/// is empty, and /dev has the usual devices and the test's own /dev/log: a fresh host, whatever the real one
/// has. The users are those of this machine, and the
/// daemon's. A directory `etc` below `dir` is all of /etc, and a file `meminfo` says how much memory there
/// is.
pub fn private_dirs(command: &mut Command, dir: &Path) {
    let name = |path: &Path| CString::new(path.as_os_str().as_bytes()).unwrap();
    let bind = |from: &Path, to: &Path| (from.exists() && to.exists()).then(|| (name(from), name(to)));
    let dev = dir.join("dev");
    let devices =
        DEVICES.iter().chain([&"pts"]).filter_map(|d| bind(&Path::new("/dev").join(d), &dev.join(d)));
    let dirs = [
        ("run", "/run"),
        ("lib", "/var/lib"),
        ("log", "/var/log"),
        ("etc-mef", "/etc/mef"),
        ("passwd", "/etc/passwd"),
        ("etc", "/etc"),
        ("sbin", "/usr/local/sbin"),
        ("dev", "/dev"),
        ("meminfo", "/proc/meminfo"),
    ];
    let dirs = dirs.iter().filter_map(|(inside, outside)| bind(&dir.join(inside), Path::new(outside)));
    let binds: Vec<_> = devices.chain(dirs).collect();
    let hook = move || {
        // SAFETY: no memory is involved; only the child moves.
        check(unsafe { libc::unshare(libc::CLONE_NEWNS) })?;
        mount(c"none", c"/", libc::MS_REC | libc::MS_PRIVATE)?;
        binds.iter().try_for_each(|(from, to)| mount(from, to, libc::MS_BIND | libc::MS_REC))
    };
    // SAFETY: the closure makes system calls with memory that was allocated before the fork.
    unsafe { command.pre_exec(hook) };
}

fn mount(from: &std::ffi::CStr, to: &std::ffi::CStr, flags: libc::c_ulong) -> io::Result<()> {
    // SAFETY: both strings end with a NUL and live until the call returns; no type and no data are needed
    // here.
    check(unsafe { libc::mount(from.as_ptr(), to.as_ptr(), std::ptr::null(), flags, std::ptr::null()) })
}

/// Waits for the end of a program that waits for its input, which `feed` gives it; its exit status and the
/// most memory that it had, in KiB. What `wait4` tells is at least the memory of this process, which forked
/// it.
pub fn end_and_peak(child: &mut std::process::Child, feed: impl FnOnce()) -> (i32, u64) {
    let pid = child.id().cast_signed();
    let none = std::ptr::null_mut::<libc::c_void>();
    let exits =
        std::ptr::without_provenance_mut::<libc::c_void>(usize::try_from(libc::PTRACE_O_TRACEEXIT).unwrap());
    // SAFETY: the child is ours and has not been waited for; nothing is read from or written to memory.
    let rc = unsafe { libc::ptrace(libc::PTRACE_SEIZE, pid, none, exits) };
    assert!(rc == 0, "ptrace: {}", io::Error::last_os_error());
    feed();
    let mut peak = 0;
    loop {
        let mut status = 0;
        // SAFETY: `status` lives until the call returns.
        let rc = unsafe { libc::waitpid(pid, &raw mut status, 0) };
        assert!(rc == pid, "waitpid: {}", io::Error::last_os_error());
        if !libc::WIFSTOPPED(status) {
            return (if libc::WIFEXITED(status) { libc::WEXITSTATUS(status) } else { -1 }, peak);
        }
        let exiting = status >> 8 == libc::SIGTRAP | libc::PTRACE_EVENT_EXIT << 8;
        if exiting {
            let text = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
            let line = text.lines().find_map(|l| l.strip_prefix("VmHWM:")).unwrap();
            peak = line.trim().trim_end_matches(" kB").parse().unwrap();
        }
        let signal = if exiting { 0 } else { libc::WSTOPSIG(status) };
        let signal = std::ptr::without_provenance_mut::<libc::c_void>(usize::try_from(signal).unwrap());
        // SAFETY: the child is stopped; nothing is read from or written to memory.
        let rc = unsafe { libc::ptrace(libc::PTRACE_CONT, pid, none, signal) };
        assert!(rc == 0, "ptrace: {}", io::Error::last_os_error());
    }
}

/// The filter of system calls that a process has last been given, as the kernel has it: instructions of the
/// classic packet filter. The process stands still meanwhile.
pub fn filter_of(pid: u32) -> Vec<libc::sock_filter> {
    /// `PTRACE_SECCOMP_GET_FILTER`
    const GET_FILTER: libc::c_uint = 0x420c;
    let pid = pid.cast_signed();
    let none = std::ptr::null_mut::<libc::c_void>();
    // SAFETY: nothing is read from or written to memory.
    check(i32::try_from(unsafe { libc::ptrace(libc::PTRACE_ATTACH, pid, none, none) }).unwrap()).unwrap();
    let mut status = 0;
    // SAFETY: `status` lives until the call returns.
    assert_eq!(unsafe { libc::waitpid(pid, &raw mut status, 0) }, pid);
    let nothing = libc::sock_filter { code: 0, jt: 0, jf: 0, k: 0 };
    let mut filter = vec![nothing; 4096];
    let mut newest = Err(io::Error::last_os_error());
    // The kernel counts from the oldest.
    for at in 0..64_usize {
        let at = std::ptr::without_provenance_mut::<libc::c_void>(at);
        // SAFETY: a filter has at most 4096 instructions, for which there is room.
        let len = unsafe { libc::ptrace(GET_FILTER as _, pid, at, filter.as_mut_ptr()) };
        match usize::try_from(len) {
            Ok(len) => newest = Ok(len),
            Err(_) if newest.is_err() => newest = Err(io::Error::last_os_error()),
            Err(_) => break,
        }
    }
    // SAFETY: as above.
    unsafe { libc::ptrace(libc::PTRACE_DETACH, pid, none, none) };
    filter.truncate(newest.unwrap_or_else(|e| panic!("the filter of a process cannot be read: {e}")));
    filter
}

/// A file system of its own at a directory, seen by this thread and the programs that it starts; it ends with
/// this value.
pub struct Disk(CString);

impl Disk {
    /// `options` as for `mount -t tmpfs -o`.
    pub fn new(at: &Path, options: &str) -> Disk {
        std::fs::create_dir_all(at).unwrap();
        // SAFETY: no memory is involved; only the calling thread moves.
        let rc = unsafe { libc::unshare(libc::CLONE_NEWNS) };
        check(rc).unwrap();
        mount(c"none", c"/", libc::MS_REC | libc::MS_PRIVATE).unwrap();
        let disk = Disk(CString::new(at.as_os_str().as_bytes()).unwrap());
        disk.mount(options, 0);
        disk
    }

    /// Whether nothing can be written from now on.
    pub fn read_only(&self, yes: bool) {
        self.mount("", libc::MS_REMOUNT | if yes { libc::MS_RDONLY } else { 0 });
    }

    /// Likewise for programs that are started from now on alone.
    pub fn read_only_for_later(&self, yes: bool) {
        self.mount("", libc::MS_REMOUNT | libc::MS_BIND | if yes { libc::MS_RDONLY } else { 0 });
    }

    fn mount(&self, options: &str, flags: libc::c_ulong) {
        let options = CString::new(options).unwrap();
        let (kind, at, options) = (c"tmpfs".as_ptr(), self.0.as_ptr(), options.as_ptr().cast());
        // SAFETY: all strings end with a NUL and live until the call returns.
        check(unsafe { libc::mount(kind, at, kind, flags, options) }).unwrap();
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // SAFETY: the string ends with a NUL and lives until the call returns.
        let _ = unsafe { libc::umount2(self.0.as_ptr(), libc::MNT_DETACH) };
    }
}

/// Any system call, for a test that the kernel refuses it.
///
/// # Errors
/// The kernel's.
pub fn call(number: libc::c_long, args: [i64; 5]) -> io::Result<i64> {
    let [a, b, c, d, e] = args;
    // SAFETY: callers pass numbers, null or text that lives; what the kernel would do then concerns no memory
    // that is in use here.
    let result = unsafe { libc::syscall(number, a, b, c, d, e, 0i64) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}
