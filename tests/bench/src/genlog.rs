//! Logs of busy hosts, the same bytes in every run. Of a quiet log one line in a hundred belongs to a failed
//! log-in, of an attack 95. The rest is what such hosts write all day; none of it is a failure. In a mixed
//! log three lines of ten are failures, of several services.

use crate::random::{Random, mix};
use crate::{Result, USAGE};
use std::io::Write;
use std::net::{Ipv4Addr, Ipv6Addr};

const HOSTS: &[&str] = &["web1", "web2", "mail", "db-primary", "gw"];
const USERS: &[&str] = &["root", "admin", "backup", "www-data", "git"];
const GUESSES: &[&str] = &[
    "ubuntu",
    "test",
    "oracle",
    "postgres",
    "user",
    "ftpuser",
    "hadoop",
    "pi",
    "guest",
    "deploy",
    "minecraft",
];
const UNITS: &[&str] =
    &["apt-daily.service", "logrotate.service", "fstrim.service", "certbot.service", "man-db.service"];
/// The text is handed on in pieces of this size.
const CHUNK: usize = 1 << 20;

/// Writes so many lines to standard output; the failures come from so many addresses.
pub fn write(kind: &str, lines: u64, addresses: u64) -> Result<()> {
    // Of 100 lines so many are failures, and so many come in a second.
    let (failures, pace) = match kind {
        "quiet" => (1, 4),
        "attack" => (95, 40),
        "mixed" => (10, 20),
        _ => return Err(USAGE.into()),
    };
    let mut out = std::io::stdout().lock();
    let mut text = Vec::with_capacity(CHUNK + 1024);
    let mut log =
        Log { random: Random::new(42), addresses: addresses.max(1), pid: 700, second: 0, attacker: None };
    for line in 0..lines {
        log.second = line / pace;
        if log.random.below(100) < failures {
            log.failure(&mut text)?
        } else if kind == "mixed" && log.random.below(9) < 2 {
            log.other_failure(&mut text)?
        } else {
            log.noise(&mut text)?
        }
        text.push(b'\n');
        if text.len() >= CHUNK {
            out.write_all(&text)?;
            text.clear();
        }
    }
    Ok(out.write_all(&text)?)
}

struct Log {
    random: Random,
    addresses: u64,
    pid: u64,
    second: u64,
    attacker: Option<Attacker>,
}

/// A connection in which log-ins fail.
#[derive(Clone, Copy)]
struct Attacker {
    source: u64,
    host: &'static str,
    pid: u64,
    port: u64,
    user: &'static str,
    known: bool,
    step: u8,
}

impl Log {
    /// The next line of a connection that fails. After its last line another one begins.
    fn failure(&mut self, out: &mut Vec<u8>) -> std::io::Result<()> {
        let mut now = self.attacker.unwrap_or_else(|| self.attacker());
        header(out, self.second, now.host)?;
        write!(out, "sshd[{}]: ", now.pid)?;
        let (user, port) = (now.user, now.port);
        let mut goes_on = true;
        match (now.step, now.known) {
            (0, false) => {
                write!(out, "Invalid user {user} from ")?;
                source(out, now.source)?;
                write!(out, " port {port}")?;
            }
            (0, true) | (1, false) => {
                write!(
                    out,
                    "Failed password for {}{user} from ",
                    if now.known { "" } else { "invalid user " }
                )?;
                source(out, now.source)?;
                write!(out, " port {port} ssh2")?;
            }
            _ => {
                let which = if now.known { "authenticating" } else { "invalid" };
                let how =
                    self.random.pick(&["Connection closed by", "Connection reset by", "Disconnected from"]);
                write!(out, "{how} {which} user {user} ")?;
                source(out, now.source)?;
                write!(out, " port {port} [preauth]")?;
                goes_on = false;
            }
        }
        now.step += 1;
        self.attacker = goes_on.then_some(now);
        Ok(())
    }

    /// A failure at another service.
    fn other_failure(&mut self, out: &mut Vec<u8>) -> std::io::Result<()> {
        let (pid, user, addr) =
            (self.next_pid(), self.random.pick(GUESSES), self.random.below(self.addresses));
        let host = self.random.pick(HOSTS);
        header(out, self.second, host)?;
        match self.random.below(5) {
            0 => {
                write!(out, "postfix/smtpd[{pid}]: warning: unknown[")?;
                source(out, addr)?;
                write!(out, "]: SASL LOGIN authentication failed: UGFzc3dvcmQ6, sasl_username={user}")
            }
            1 => {
                write!(out, "postfix/smtpd[{pid}]: NOQUEUE: reject: RCPT from unknown[")?;
                source(out, addr)?;
                write!(out, "]: 554 5.7.1 <{user}@example.net>: Relay access denied; from=<a@b.example> ")?;
                write!(out, "to=<{user}@example.net> proto=ESMTP helo=<{user}>")
            }
            2 => {
                write!(
                    out,
                    "dovecot: imap-login: Disconnected: Connection closed (auth failed, 2 attempts in 9 \
                     secs): "
                )?;
                write!(out, "user=<{user}>, method=PLAIN, rip=")?;
                source(out, addr)?;
                write!(out, ", lip=10.0.0.2, TLS, session=<x{pid}>")
            }
            3 => {
                write!(out, "proftpd[{pid}]: 10.0.0.2 (")?;
                source(out, addr)?;
                write!(out, "[")?;
                source(out, addr)?;
                write!(out, "]) - USER {user}: no such user found from ")?;
                source(out, addr)?;
                write!(out, " [")?;
                source(out, addr)?;
                write!(out, "] to 10.0.0.2:21")
            }
            _ => {
                write!(out, "dropbear[{pid}]: Bad password attempt for '{user}' from ")?;
                source(out, addr)?;
                write!(out, ":{}", 1024 + pid)
            }
        }
    }

    fn attacker(&mut self) -> Attacker {
        let known = self.random.below(2) == 0;
        Attacker {
            source: self.random.below(self.addresses),
            host: self.random.pick(HOSTS),
            pid: self.next_pid(),
            port: 1024 + self.random.below(64_000),
            user: self.random.pick(if known { USERS } else { GUESSES }),
            known,
            step: 0,
        }
    }

    fn next_pid(&mut self) -> u64 {
        self.pid = 700 + (self.pid - 699) % 60_000;
        self.pid
    }

    /// A line of everyday life.
    fn noise(&mut self, out: &mut Vec<u8>) -> std::io::Result<()> {
        let host = self.random.pick(HOSTS);
        header(out, self.second, host)?;
        let (pid, user, n) = (self.next_pid(), self.random.pick(USERS), self.random.next());
        let unit = self.random.pick(UNITS);
        let port = 1024 + n % 64_000;
        match self.random.below(14) {
            0 => write!(
                out,
                "CRON[{pid}]: ({user}) CMD (test -x /usr/sbin/anacron || run-parts /etc/cron.hourly)"
            ),
            1 => write!(
                out,
                "CRON[{pid}]: pam_unix(cron:session): session opened for user {user}(uid=0) by (uid=0)"
            ),
            2 => write!(out, "CRON[{pid}]: pam_unix(cron:session): session closed for user {user}"),
            3 => write!(out, "systemd[1]: Starting {unit} - periodic work of this host..."),
            4 => write!(out, "systemd[1]: {unit}: Deactivated successfully."),
            5 => write!(out, "systemd[1]: session-{}.scope: Consumed {}ms CPU time.", n % 9000, n % 777),
            6 => write!(
                out,
                "kernel: [{}.{:06}] eth0: renewed lease of {} s",
                self.second,
                n % 1_000_000,
                n % 7200
            ),
            7 => {
                let (mac, to) = (n % 256, n % 250);
                write!(
                    out,
                    "kernel: [{}.{:06}] FORWARD IN=eth0 OUT=br0 MAC=02:42:ac:11:{mac:02x}:02 \
                     SRC=10.1.2.{to} ",
                    self.second,
                    n % 1_000_000
                )?;
                write!(
                    out,
                    "DST=10.2.0.{to} LEN=60 TOS=0x00 TTL=63 PROTO=TCP SPT={port} DPT=443 WINDOW=64240 SYN"
                )
            }
            8 => {
                write!(
                    out,
                    "sshd[{pid}]: Accepted publickey for {user} from 10.1.{}.{} port {port} ",
                    n % 200,
                    n % 99
                )?;
                write!(out, "ssh2: ED25519 SHA256:GEVJGU8LL5mcTtnKhDfnzLLMD8OqjPXLQs7C2bUPS0Y")
            }
            9 => write!(
                out,
                "sshd[{pid}]: pam_unix(sshd:session): session opened for user {user}(uid=1000) by (uid=0)"
            ),
            10 => write!(out, "systemd-logind[612]: New session {} of user {user}.", n % 9000),
            11 => write!(
                out,
                "postfix/smtpd[{pid}]: connect from mx{}.example.net[10.3.{}.{}]",
                n % 30,
                n % 200,
                n % 99
            ),
            12 => write!(
                out,
                "postfix/qmgr[1101]: {:010X}: from=<{user}@example.com>, size={}, nrcpt=1 (queue active)",
                n % (1 << 40),
                n % 90_000
            ),
            _ => write!(
                out,
                "dovecot: imap-login: Login: user=<{user}>, method=PLAIN, rip=10.4.{}.{}, lip=10.0.0.2, \
                 mpid={pid}, TLS",
                n % 200,
                n % 99
            ),
        }
    }
}

/// `Nov  3 21:41:03 web1 `: the log begins with November and starts again after its thirty days.
fn header(out: &mut Vec<u8>, second: u64, host: &str) -> std::io::Result<()> {
    let (day, second) = (second / 86_400 % 30 + 1, second % 86_400);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    write!(out, "Nov {day:2} {hour:02}:{minute:02}:{second:02} {host} ")
}

/// The address of attacker number `n`; every eighth has IPv6.
fn source(out: &mut Vec<u8>, n: u64) -> std::io::Result<()> {
    let scattered = mix(n);
    if n.is_multiple_of(8) {
        let [a, b, c, d] = [48, 32, 16, 0].map(|shift| (scattered >> shift) as u16);
        let [high, low] = [(n >> 16) as u16, n as u16];
        write!(out, "{}", Ipv6Addr::new(0x2001, 0xdb8, high, low, a, b, c, d))
    } else {
        // An odd factor permutes the numbers below 2^24: no two attackers share an address.
        write!(out, "{}", Ipv4Addr::from(0x6400_0000 | ((n as u32).wrapping_mul(0x009e_3779) & 0x00ff_ffff)))
    }
}
