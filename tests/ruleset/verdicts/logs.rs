//! `log=`: what stands in the kernel's log, and how often.

use crate::common::world::Kind::{Ping, Tcp, Udp};
use crate::common::world::{Packet, Spot, World, packet};
use nix::fcntl::{Flock, FlockArg};
use std::fs::File;
use std::io::{ErrorKind, Read, Seek, SeekFrom};
use std::os::unix::fs::{FileExt, OpenOptionsExt};

/// The kernel logs packets of other namespaces than the first one only if it is told to.
const ALL: &str = "/proc/sys/net/netfilter/nf_log_all_netns";

/// The kernel's log from now on, with lines of this namespace in it.
struct KernelLog {
    /// Held against other runs of this test, which set the same thing back.
    log: Flock<File>,
    switch: File,
    before: String,
}

impl KernelLog {
    /// To be called before the thread goes to a namespace of its own: the switch is seen in the first one
    /// only.
    fn open() -> KernelLog {
        let log = File::options().read(true).custom_flags(libc::O_NONBLOCK).open("/dev/kmsg").unwrap();
        let log = Flock::lock(log, FlockArg::LockExclusive).map_err(|(_, e)| e).unwrap();
        (&*log).seek(SeekFrom::End(0)).unwrap();
        let switch = File::options().read(true).write(true).open(ALL);
        let switch = switch.expect("logged packets are seen in the first network namespace only");
        let before = std::io::read_to_string(&switch).unwrap();
        switch.write_all_at(b"1", 0).unwrap();
        KernelLog { log, switch, before }
    }

    /// Lines that have come since the last call and have the word in them.
    fn lines(&self, word: &str) -> Vec<String> {
        let mut found = Vec::new();
        let mut record = [0; 8192];
        loop {
            match (&*self.log).read(&mut record) {
                Ok(len) => found.push(String::from_utf8_lossy(&record[..len]).into_owned()),
                // Older lines have made room for newer ones.
                Err(e) if e.kind() == ErrorKind::BrokenPipe => {}
                Err(e) if e.kind() == ErrorKind::WouldBlock => break,
                Err(e) => panic!("/dev/kmsg: {e}"),
            }
        }
        found.retain(|line| line.contains(word));
        found
    }
}

impl Drop for KernelLog {
    fn drop(&mut self) {
        let _ = self.switch.write_all_at(self.before.as_bytes(), 0);
    }
}

const FRIEND: Packet = packet(Udp, Spot::Friend);

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
pub fn packets_are_logged_once_and_at_most_as_often_as_the_rate_says() {
    let log = KernelLog::open();
    let mut world = World::new();
    // Another test, or another run of this one, logs under another name.
    let name = format!("mef{}", std::process::id());
    let lists = "src=192.0.2.0/24,198.51.100.2,2001:db8::/64 dport=1000,1001-1002";
    let cases: [(&str, usize, usize, &str); 8] = [
        ("drop", 0, 3, "proto=udp dport=1000"),
        ("accept", 3, 3, "proto=udp dport=1000"),
        ("reject", 0, 3, "proto=udp dport=1000"),
        // Two rules of the kernel for two answers, and one for each family, log every packet once.
        ("reject", 0, 3, "proto=all"),
        ("accept", 3, 3, &["proto=udp ", lists].concat()),
        // The bound is one of log lines: what becomes of packets stays.
        ("accept", 8, 5, "proto=udp ratelimit=1/h"),
        ("drop", 0, 5, &["proto=udp ratelimit=1/h ", lists].concat()),
        // What is over the limit of packets does not match, so it is not logged.
        ("accept", 2, 2, "proto=udp limit=1/h burst=2"),
    ];
    for (action, pass, logged, rule) in cases {
        world.load(&format!(
            "policy dir=in action=drop\nrule dir=in action={action} {rule} log=\"prefix:{name} in: \""
        ));
        let passed = world.passing(if logged == 5 { 8 } else { 3 }, FRIEND);
        assert_eq!(passed, pass, "{action} {rule}");
        let lines = log.lines(&name);
        assert_eq!(lines.len(), logged, "{action} {rule}: {lines:#?}");
        let wanted = [
            &[&name, " in: IN=v0 OUT= "].concat(),
            " SRC=192.0.2.2 DST=192.0.2.1 ",
            " PROTO=UDP ",
            " DPT=1000 ",
        ];
        for line in &lines {
            // Level 4, a warning.
            assert!(line.starts_with("4,") && wanted.iter().all(|part| line.contains(part)), "{line}");
        }
    }
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
pub fn only_what_matches_is_logged() {
    let log = KernelLog::open();
    let mut world = World::new();
    let name = format!("mef-{}", std::process::id());
    world.load(&format!(
        "rule dir=in action=drop proto=tcp dport=1000 log=prefix:{name}-tcp\n\
         rule dir=in action=accept proto=icmp6 src=2001:db8::2 log=prefix:{name}-ping\n\
         rule dir=fwd action=reject proto=udp family=ip6 log=prefix:{name}-fwd\n\
         rule dir=out action=accept proto=udp dport=2000 log=prefix:{name}-out"
    ));
    let tcp = packet(Tcp, Spot::Stranger);
    let forwarded = FRIEND.to(Spot::Stranger);
    let cases = [
        (tcp, "-tcpIN=v1 OUT= "),
        (tcp.port(1001), ""),
        (packet(Udp, Spot::Stranger), ""),
        (packet(Ping, Spot::Friend), ""),
        (packet(Ping, Spot::Friend).in_v6(), "-pingIN=v0 OUT= "),
        (forwarded, ""),
        (forwarded.in_v6(), "-fwdIN=v0 OUT=v1 "),
        (packet(Udp, Spot::Host).to(Spot::Friend), ""),
        (packet(Udp, Spot::Host).to(Spot::Friend).port(2000), "-outIN= OUT=v0 "),
    ];
    for (packet, want) in cases {
        world.judge(packet);
        let lines = log.lines(&name);
        let wanted = [&name, want].concat();
        assert_eq!(lines.len(), usize::from(!want.is_empty()), "{packet:?}: {lines:#?}");
        assert!(lines.iter().all(|line| line.contains(&wanted)), "{packet:?}: {lines:#?}");
    }
}
