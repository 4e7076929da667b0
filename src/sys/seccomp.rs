//! The system calls that a confined daemon makes, and a filter by which the kernel refuses all others, for
//! good. Written as instructions of the classic packet filter, which is what seccomp(2) takes.

use libc::{SECCOMP_RET_ALLOW, SECCOMP_RET_ERRNO, SECCOMP_RET_KILL_PROCESS, c_long, sock_filter};
use nix::errno::Errno;

/// What the calls are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sockets {
    /// UDP and TCP: somebody is to be asked or told something, or listened to.
    pub internet: bool,
}

/// What is known as the architecture of a system call.
#[cfg(target_arch = "x86_64")]
const ARCHITECTURE: Option<u32> = Some(0xc000_003e);
#[cfg(target_arch = "aarch64")]
const ARCHITECTURE: Option<u32> = Some(0xc000_00b7);
#[cfg(target_arch = "riscv64")]
const ARCHITECTURE: Option<u32> = Some(0xc000_00f3);
#[cfg(target_arch = "arm")]
const ARCHITECTURE: Option<u32> = Some(0x4000_0028);
#[cfg(not(any(
    target_arch = "x86_64",
    target_arch = "aarch64",
    target_arch = "riscv64",
    target_arch = "arm"
)))]
const ARCHITECTURE: Option<u32> = None;

/// Calls that are allowed whatever their arguments are.
#[rustfmt::skip]
static ALLOWED: &[c_long] = &[
    // Files: logs and lists are read, the state is written, sockets of ours are made.
    libc::SYS_read, libc::SYS_readv, libc::SYS_pread64,       // logs, lists, the configuration, answers
    libc::SYS_write, libc::SYS_writev, libc::SYS_pwrite64,    // journal, positions, messages
    libc::SYS_openat,                                         // all of these; Landlock says which
    libc::SYS_close, libc::SYS_close_range,                   // also before a second process begins
    libc::SYS_lseek,                                          // where a log was read to, a journal's begin
    libc::SYS_fstat, libc::SYS_statx,                         // whether a log was rotated, a list changed
    libc::SYS_statfs, libc::SYS_fstatfs,                      // whether a file is one of the kernel
    libc::SYS_getdents64,                                     // which logs and lists there are
    libc::SYS_readlinkat, libc::SYS_faccessat,                // whether a program is installed
    libc::SYS_ftruncate, libc::SYS_fsync, libc::SYS_fdatasync, // the journal of bans
    libc::SYS_fallocate,                                      // its room is taken beforehand
    libc::SYS_mkdirat, libc::SYS_unlinkat,                    // in state_dir and run_dir
    libc::SYS_renameat2,                                      // a file is replaced as a whole
    libc::SYS_flock,                                          // commands and daemon take turns
    libc::SYS_umask,                                          // a socket is made for nobody else
    libc::SYS_getcwd,                                         // of the C library
    libc::SYS_dup, libc::SYS_dup3, libc::SYS_pipe2,           // descriptors are shared, a program is heard
    // Waiting.
    libc::SYS_ppoll,                                          // the loop
    libc::SYS_epoll_create1, libc::SYS_epoll_ctl, libc::SYS_epoll_pwait, // who sends through our socket
    libc::SYS_inotify_init1, libc::SYS_inotify_add_watch, libc::SYS_inotify_rm_watch, // logs and lists
    libc::SYS_signalfd4,                                      // signals as something to read
    libc::SYS_nanosleep, libc::SYS_clock_nanosleep,           // a lock is tried again
    libc::SYS_futex, libc::SYS_sched_yield, libc::SYS_restart_syscall, // of the C library
    // Sockets; which families is said below.
    libc::SYS_bind, libc::SYS_listen, libc::SYS_accept4,      // commands, syslog daemons
    libc::SYS_connect,                                        // the system's log, name servers
    libc::SYS_sendto, libc::SYS_sendmsg, libc::SYS_recvfrom, libc::SYS_recvmsg, // netlink, all others
    libc::SYS_getsockname, libc::SYS_getpeername, libc::SYS_getsockopt, libc::SYS_setsockopt, // who asks
    libc::SYS_shutdown,                                       // an answer is complete
    // Memory; none of it can be executed: see below.
    libc::SYS_munmap, libc::SYS_mremap, libc::SYS_brk, libc::SYS_madvise,
    // Second processes of this program: deny lists, writing to a slow disk, reports.
    libc::SYS_wait4, libc::SYS_waitid,                        // how they ended
    libc::SYS_exit, libc::SYS_exit_group,                     // their end and ours
    libc::SYS_kill, libc::SYS_tgkill, libc::SYS_tkill,        // theirs before time; abort(3)
    libc::SYS_setpgid,                                        // each in a group of its own
    libc::SYS_set_tid_address, libc::SYS_set_robust_list,     // of the C library
    libc::SYS_rt_sigprocmask, libc::SYS_rt_sigaction, libc::SYS_rt_sigreturn, libc::SYS_sigaltstack,
    // Questions that tell nothing secret.
    libc::SYS_getpid, libc::SYS_getppid, libc::SYS_gettid, libc::SYS_getpgid,
    libc::SYS_getuid, libc::SYS_geteuid, libc::SYS_getgid, libc::SYS_getegid,
    libc::SYS_capget,                                         // what can be had still
    libc::SYS_uname, libc::SYS_sysinfo,
    libc::SYS_clock_gettime, libc::SYS_clock_getres, libc::SYS_gettimeofday, // where the vDSO does not know
    libc::SYS_getrandom,                                      // keys of tables, numbers of questions
    libc::SYS_memfd_create,                                   // what iptables-restore reads
    // The process that reads lines is forked, and gives up more; nothing is gained by these.
    libc::SYS_capset, libc::SYS_landlock_create_ruleset, libc::SYS_landlock_add_rule,
    libc::SYS_landlock_restrict_self,
];

/// Those that are left of them to the process that reads lines. What it may open is said below.
#[rustfmt::skip]
static OBSERVED: &[c_long] = &[
    libc::SYS_read, libc::SYS_readv, libc::SYS_pread64,       // logs, the journal, the configuration
    libc::SYS_write, libc::SYS_writev,                        // last words; nothing open takes them
    libc::SYS_close, libc::SYS_lseek, libc::SYS_fstat, libc::SYS_statx, // where a log was read to
    libc::SYS_statfs, libc::SYS_fstatfs, libc::SYS_getdents64, libc::SYS_readlinkat, libc::SYS_faccessat,
    libc::SYS_getcwd,                                         // of the C library
    libc::SYS_pipe2,                                          // what programs write into, run by others
    libc::SYS_ppoll,                                          // the loop
    libc::SYS_inotify_init1, libc::SYS_inotify_add_watch, libc::SYS_inotify_rm_watch, // logs
    libc::SYS_sendto, libc::SYS_sendmsg, libc::SYS_recvfrom, libc::SYS_recvmsg, // the other process; syslog
    libc::SYS_getsockopt,                                     // which of them is what
    libc::SYS_munmap, libc::SYS_mremap, libc::SYS_brk, libc::SYS_madvise,
    libc::SYS_futex, libc::SYS_sched_yield, libc::SYS_restart_syscall, // of the C library
    libc::SYS_rt_sigprocmask, libc::SYS_rt_sigaction, libc::SYS_rt_sigreturn, libc::SYS_sigaltstack,
    libc::SYS_exit, libc::SYS_exit_group,
    libc::SYS_getpid, libc::SYS_gettid, libc::SYS_getuid, libc::SYS_geteuid, libc::SYS_getgid,
    libc::SYS_getegid, libc::SYS_capget, libc::SYS_uname, libc::SYS_sysinfo,
    libc::SYS_clock_gettime, libc::SYS_clock_getres, libc::SYS_gettimeofday,
    libc::SYS_getrandom,                                      // keys of tables
];

/// Those of an architecture that has older forms of the same calls.
#[cfg(target_arch = "x86_64")]
#[rustfmt::skip]
static OBSERVED_HERE: &[c_long] = &[
    libc::SYS_stat, libc::SYS_lstat, libc::SYS_newfstatat, libc::SYS_access, libc::SYS_readlink,
    libc::SYS_poll, libc::SYS_pipe, libc::SYS_getrlimit, libc::SYS_time,
];
#[cfg(any(target_arch = "aarch64", target_arch = "riscv64"))]
static OBSERVED_HERE: &[c_long] = &[libc::SYS_newfstatat];
#[cfg(target_arch = "arm")]
#[rustfmt::skip]
static OBSERVED_HERE: &[c_long] = &[
    libc::SYS_stat64, libc::SYS_lstat64, libc::SYS_fstat64, libc::SYS_fstatat64, libc::SYS_access,
    libc::SYS_readlink, libc::SYS_poll, libc::SYS_pipe, libc::SYS_ugetrlimit,
    libc::SYS__llseek, libc::SYS_statfs64, libc::SYS_fstatfs64, libc::SYS_getuid32, libc::SYS_geteuid32,
    libc::SYS_getgid32, libc::SYS_getegid32, libc::SYS_send, libc::SYS_recv, libc::SYS_sigreturn,
    403 /* clock_gettime64 */, 406 /* clock_getres_time64 */, 414 /* ppoll_time64 */, 422 /* futex_time64 */,
    0xf_0002 /* cacheflush */, 0xf_0005 /* set_tls */,
];
#[cfg(not(any(
    target_arch = "x86_64",
    target_arch = "aarch64",
    target_arch = "riscv64",
    target_arch = "arm"
)))]
static OBSERVED_HERE: &[c_long] = &[];

/// Those of an architecture that has older forms of the same calls.
#[cfg(target_arch = "x86_64")]
#[rustfmt::skip]
static ALLOWED_HERE: &[c_long] = &[
    libc::SYS_open, libc::SYS_stat, libc::SYS_lstat, libc::SYS_newfstatat, libc::SYS_access,
    libc::SYS_readlink,
    libc::SYS_mkdir, libc::SYS_rmdir, libc::SYS_unlink, libc::SYS_rename, libc::SYS_renameat,
    libc::SYS_dup2, libc::SYS_pipe, libc::SYS_poll, libc::SYS_epoll_wait, libc::SYS_epoll_create,
    libc::SYS_accept, libc::SYS_fork, libc::SYS_getrlimit, libc::SYS_time, libc::SYS_getpgrp,
];
#[cfg(target_arch = "aarch64")]
static ALLOWED_HERE: &[c_long] =
    &[libc::SYS_newfstatat, libc::SYS_renameat, libc::SYS_accept, libc::SYS_getrlimit];
#[cfg(target_arch = "riscv64")]
static ALLOWED_HERE: &[c_long] = &[libc::SYS_newfstatat, libc::SYS_accept];
/// With those that have room for times after 2038, by number: the C library's own, which falls back to the
/// older ones.
#[cfg(target_arch = "arm")]
#[rustfmt::skip]
static ALLOWED_HERE: &[c_long] = &[
    libc::SYS_open, libc::SYS_stat64, libc::SYS_lstat64, libc::SYS_fstat64, libc::SYS_fstatat64,
    libc::SYS_access, libc::SYS_readlink, libc::SYS_mkdir, libc::SYS_rmdir, libc::SYS_unlink,
    libc::SYS_rename,
    libc::SYS_renameat, libc::SYS_dup2, libc::SYS_pipe, libc::SYS_poll, libc::SYS_epoll_wait,
    libc::SYS_epoll_create, libc::SYS_accept, libc::SYS_fork, libc::SYS_ugetrlimit, libc::SYS_getpgrp,
    libc::SYS__llseek, libc::SYS_ftruncate64, libc::SYS_statfs64, libc::SYS_fstatfs64,
    libc::SYS_getuid32, libc::SYS_geteuid32, libc::SYS_getgid32, libc::SYS_getegid32,
    libc::SYS_send, libc::SYS_recv, libc::SYS_sigreturn,
    403 /* clock_gettime64 */, 406 /* clock_getres_time64 */, 407 /* clock_nanosleep_time64 */,
    414 /* ppoll_time64 */, 422 /* futex_time64 */,
    0xf_0002 /* cacheflush */, 0xf_0005 /* set_tls */,
];
#[cfg(not(any(
    target_arch = "x86_64",
    target_arch = "aarch64",
    target_arch = "riscv64",
    target_arch = "arm"
)))]
static ALLOWED_HERE: &[c_long] = &[];

/// Memory with a length in bytes, or in pages.
#[cfg(not(target_arch = "arm"))]
const MMAP: c_long = libc::SYS_mmap;
#[cfg(target_arch = "arm")]
const MMAP: c_long = libc::SYS_mmap2;

/// Calls by which somebody else's code would get further. Nothing of mef makes them once it is confined: who
/// does is ended.
#[rustfmt::skip]
static FATAL: &[c_long] = &[
    libc::SYS_execve, libc::SYS_execveat,
    libc::SYS_ptrace, libc::SYS_process_vm_readv, libc::SYS_process_vm_writev,
    libc::SYS_init_module, libc::SYS_finit_module, libc::SYS_delete_module,
    libc::SYS_mount, libc::SYS_umount2, libc::SYS_pivot_root, libc::SYS_chroot,
    libc::SYS_unshare, libc::SYS_setns,
    libc::SYS_bpf, libc::SYS_reboot,
];

/// Namespaces, which a new process must not get: they would make it root in them.
const NAMESPACES: u32 = 0x7e02_0080;
/// What may be asked of a descriptor: that it does not block, whether it is a terminal, the number and the
/// name of an interface.
const IOCTLS: [u32; 5] = [0x5421, 0x5401, 0x5413, 0x8933, 0x8910];
/// What is asked of descriptors by fcntl(2): that one ends with an exec, does not block, is there twice. None
/// of what has the kernel send signals to another process (F_SETOWN, F_SETSIG, F_NOTIFY, F_SETLEASE).
const FCNTLS: &[libc::c_int] =
    &[libc::F_DUPFD_CLOEXEC, libc::F_GETFD, libc::F_SETFD, libc::F_GETFL, libc::F_SETFL];
/// Also by who bans: commands and daemon take turns at files (src/sys/lock.rs), and what programs of the one
/// that reads write to is asked whether it is a pipe (src/sys/runner.rs).
const FCNTLS_OF_ENFORCER: &[libc::c_int] = &[libc::F_OFD_SETLK, libc::F_OFD_GETLK, libc::F_GETPIPE_SZ];
#[cfg(not(target_arch = "arm"))]
const FCNTL: &[c_long] = &[libc::SYS_fcntl];
#[cfg(target_arch = "arm")]
const FCNTL: &[c_long] = &[libc::SYS_fcntl, libc::SYS_fcntl64];
/// Netlink: routes and addresses; sockets; nf_tables, conntrack, ip_set, and packets that are reported.
const NETLINK: [i32; 3] = [libc::NETLINK_ROUTE, libc::NETLINK_SOCK_DIAG, libc::NETLINK_NETFILTER];

/// Offsets of what the filter sees: the call, the architecture, the low halves of the arguments.
const NUMBER: u32 = 0;
const ARCH: u32 = 4;
const fn argument(at: u32) -> u32 {
    16 + 8 * at
}

const LOAD: u16 = 0x20;
const JUMP_EQUAL: u16 = 0x15;
#[cfg(target_arch = "x86_64")]
const JUMP_AT_LEAST: u16 = 0x35;
const JUMP_ANY_BIT: u16 = 0x45;
const AND: u16 = 0x54;
const RETURN: u16 = 0x06;

const fn refuse(errno: Errno) -> u32 {
    SECCOMP_RET_ERRNO | errno as u32
}

/// A filter that is being written. Every piece ends with a verdict, or leaves the number of the call loaded.
struct Assembler(Vec<sock_filter>);

impl Assembler {
    fn put(&mut self, code: u16, k: u32, (jt, jf): (u8, u8)) {
        self.0.push(sock_filter { code, jt, jf, k });
    }

    fn give(&mut self, verdict: u32) {
        self.put(RETURN, verdict, (0, 0));
    }

    /// The call has this verdict.
    fn call(&mut self, number: c_long, verdict: u32) {
        self.put(JUMP_EQUAL, u32::try_from(number).unwrap_or(u32::MAX), (0, 1));
        self.give(verdict);
    }

    /// The call is allowed if the piece says so, and else refused.
    fn call_if(&mut self, number: c_long, piece: &dyn Fn(&mut Assembler)) {
        let jump = self.0.len();
        self.put(JUMP_EQUAL, u32::try_from(number).unwrap_or(u32::MAX), (0, 0));
        piece(self);
        self.give(refuse(Errno::EPERM));
        let behind = self.0.len() - jump - 1;
        if let Some(jump) = self.0.get_mut(jump) {
            jump.jf = u8::try_from(behind).unwrap_or(u8::MAX);
        }
    }

    /// An argument, which is one of these: allowed.
    fn one_of(&mut self, at: u32, values: &[u32]) {
        self.put(LOAD, argument(at), (0, 0));
        for value in values {
            self.put(JUMP_EQUAL, *value, (0, 1));
            self.give(SECCOMP_RET_ALLOW);
        }
    }

    /// An argument, which has none of these bits: allowed.
    fn none_of(&mut self, at: u32, bits: u32) {
        self.put(LOAD, argument(at), (0, 0));
        self.put(JUMP_ANY_BIT, bits, (1, 0));
        self.give(SECCOMP_RET_ALLOW);
    }
}

/// The filter.
fn filter(architecture: u32, sockets: Sockets) -> Vec<sock_filter> {
    let mut to = begin(architecture);
    ALLOWED.iter().chain(ALLOWED_HERE).for_each(|call| to.call(*call, SECCOMP_RET_ALLOW));
    FATAL.iter().for_each(|call| to.call(*call, SECCOMP_RET_KILL_PROCESS));
    memory(&mut to);
    to.call_if(libc::SYS_clone, &|to| to.none_of(0, NAMESPACES));
    // The C library then takes clone(2), whose flags can be seen.
    to.call(libc::SYS_clone3, refuse(Errno::ENOSYS));
    // A second process ends with this one; it may have more calls refused.
    let own = [libc::PR_SET_PDEATHSIG, libc::PR_SET_SECCOMP].map(i32::cast_unsigned);
    to.call_if(libc::SYS_prctl, &|to| to.one_of(0, &own));
    to.call_if(libc::SYS_socket, &|to| families(to, sockets));
    to.call_if(libc::SYS_socketpair, &|to| to.one_of(0, &[libc::AF_UNIX.cast_unsigned()]));
    end(to, FCNTLS_OF_ENFORCER)
}

/// That of the process that reads lines, beside the one that it has already.
fn observed(architecture: u32) -> Vec<sock_filter> {
    let mut to = begin(architecture);
    OBSERVED.iter().chain(OBSERVED_HERE).for_each(|call| to.call(*call, SECCOMP_RET_ALLOW));
    memory(&mut to);
    let writes = (libc::O_WRONLY | libc::O_RDWR | libc::O_CREAT | libc::O_TRUNC).cast_unsigned();
    to.call_if(libc::SYS_openat, &|to| to.none_of(2, writes));
    #[cfg(any(target_arch = "x86_64", target_arch = "arm"))]
    to.call_if(libc::SYS_open, &|to| to.none_of(1, writes));
    end(to, &[])
}

/// What does not call as this architecture does ends.
fn begin(architecture: u32) -> Assembler {
    let mut to = Assembler(Vec::with_capacity(512));
    to.put(LOAD, ARCH, (0, 0));
    to.put(JUMP_EQUAL, architecture, (1, 0));
    to.give(SECCOMP_RET_KILL_PROCESS);
    to.put(LOAD, NUMBER, (0, 0));
    // Calls of x32, which have the same architecture and other numbers.
    #[cfg(target_arch = "x86_64")]
    {
        to.put(JUMP_AT_LEAST, 0x4000_0000, (0, 1));
        to.give(SECCOMP_RET_KILL_PROCESS);
    }
    to
}

/// Memory, none of which can be executed.
fn memory(to: &mut Assembler) {
    let exec = libc::PROT_EXEC.cast_unsigned();
    to.call_if(MMAP, &|to| to.none_of(2, exec));
    to.call_if(libc::SYS_mprotect, &|to| to.none_of(2, exec));
}

/// What is asked of descriptors, and of files by fcntl(2) beside that; all other calls are refused.
fn end(mut to: Assembler, locks: &[libc::c_int]) -> Vec<sock_filter> {
    // How many descriptors there can be; of nobody else.
    to.call_if(libc::SYS_prlimit64, &|to| to.one_of(0, &[0]));
    to.call_if(libc::SYS_ioctl, &|to| to.one_of(1, &IOCTLS));
    let fcntls: Vec<u32> = FCNTLS.iter().chain(locks).map(|what| what.cast_unsigned()).collect();
    FCNTL.iter().for_each(|call| to.call_if(*call, &|to| to.one_of(1, &fcntls)));
    to.give(refuse(Errno::EPERM));
    to.0
}

/// Which families of sockets may be made, and which kinds of them.
fn families(to: &mut Assembler, sockets: Sockets) {
    if sockets.internet {
        to.one_of(0, &[libc::AF_INET, libc::AF_INET6].map(i32::cast_unsigned));
    } else {
        to.put(LOAD, argument(0), (0, 0));
    }
    to.put(JUMP_EQUAL, libc::AF_UNIX.cast_unsigned(), (0, 5));
    // No streams: those of other services, which ask who connects (docker, D-Bus), would do anything for
    // root. Our own is open. The kind is in the low bits.
    to.put(LOAD, argument(1), (0, 0));
    to.put(AND, 0xf, (0, 0));
    to.put(JUMP_EQUAL, libc::SOCK_STREAM.cast_unsigned(), (0, 1));
    to.give(refuse(Errno::EPERM));
    to.give(SECCOMP_RET_ALLOW);
    to.put(JUMP_EQUAL, libc::AF_NETLINK.cast_unsigned(), (1, 0));
    to.give(refuse(Errno::EPERM));
    to.one_of(2, &NETLINK.map(i32::cast_unsigned));
}

/// Refuses all calls but these, to this process and all that it starts, for good. It must have given up the
/// right to gain privileges (`no_new_privs`).
///
/// # Errors
/// EINVAL or ENOSYS: this kernel has no filters of system calls; ENOSYS also for an architecture whose calls
/// are not known here.
pub fn enforce(sockets: Sockets) -> Result<(), Errno> {
    install(filter(ARCHITECTURE.ok_or(Errno::ENOSYS)?, sockets))
}

/// Likewise all but those of the process that reads lines.
///
/// # Errors
/// As [`enforce`].
pub fn enforce_observed() -> Result<(), Errno> {
    install(observed(ARCHITECTURE.ok_or(Errno::ENOSYS)?))
}

fn install(mut filter: Vec<sock_filter>) -> Result<(), Errno> {
    let len = libc::c_ushort::try_from(filter.len()).map_err(|_| Errno::EINVAL)?;
    let program = libc::sock_fprog { len, filter: filter.as_mut_ptr() };
    let mode = libc::SECCOMP_MODE_FILTER;
    // SAFETY: the program and its instructions are read during the call, and live.
    Errno::result(unsafe { libc::prctl(libc::PR_SET_SECCOMP, mode, &raw const program, 0, 0) }).map(drop)
}
