#![forbid(unsafe_code)]
//! Which name servers this host uses: those of resolv.conf, read again when it has changed. Search domains
//! mean nothing here: only whole names are asked for.

use super::client::SERVERS;
use crate::base::clock::Mono;
use crate::base::net::parse_addr;
use crate::sys::fs::{self, FileFacts};
use crate::sys::host::resolv_conf;
use nix::net::if_::if_nametoindex;
use std::net::{IpAddr, SocketAddr, SocketAddrV6};
use std::path::Path;

/// Where it is; often a link that leads elsewhere.
const PATH: &str = "/etc/resolv.conf";
/// Bytes of it that are read at most.
const MAX: u64 = 16 * 1024;
/// Milliseconds between two looks at it, while there is something to ask. Nobody looks otherwise.
const LOOK: u64 = 2000;
const PORT: u16 = 53;

/// What is known of resolv.conf.
#[derive(Default)]
pub struct Resolv {
    /// What the file was when it was read.
    seen: Option<FileFacts>,
    /// When it is to be looked at again.
    look_at: Mono,
}

impl Resolv {
    /// The servers, if they may be others than before.
    pub fn look(&mut self, now: Mono) -> Option<Vec<SocketAddr>> {
        if now < self.look_at {
            return None;
        }
        let facts = fs::facts(Path::new(PATH)).ok();
        let first = self.look_at == Mono::default();
        self.look_at = now.after(LOOK);
        let same = |a: &FileFacts, b: &FileFacts| (a.id, a.size, a.mtime) == (b.id, b.size, b.mtime);
        if !first && self.seen.as_ref().zip(facts.as_ref()).is_some_and(|(a, b)| same(a, b)) {
            return None;
        }
        self.seen = facts;
        Some(read())
    }
}

/// The servers of resolv.conf. Without any it is the one on this host, as for everybody else.
#[must_use]
pub fn read() -> Vec<SocketAddr> {
    let mut servers = servers(&resolv_conf(MAX));
    if servers.is_empty() {
        servers.push(of(IpAddr::V4(std::net::Ipv4Addr::LOCALHOST)));
    }
    servers
}

/// A server at the usual port.
#[must_use]
pub fn of(addr: IpAddr) -> SocketAddr {
    SocketAddr::new(addr, PORT)
}

/// The servers in a text of resolv.conf, as many as are asked.
#[must_use]
pub fn servers(text: &[u8]) -> Vec<SocketAddr> {
    let mut found = Vec::new();
    for line in text.split(|&b| b == b'\n') {
        let mut words = line.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
        if words.next() == Some(b"nameserver") {
            found.extend(words.next().and_then(server));
        }
    }
    found.truncate(SERVERS);
    found
}

fn server(word: &[u8]) -> Option<SocketAddr> {
    let addr = parse_addr(word)?;
    let zone = word.iter().position(|b| *b == b'%').and_then(|at| word.get(at + 1..));
    Some(match (addr, zone) {
        (IpAddr::V6(v6), Some(zone)) => {
            let name = str::from_utf8(zone).ok()?;
            let number = name.parse().ok().or_else(|| if_nametoindex(name).ok()).unwrap_or(0);
            SocketAddrV6::new(v6, PORT, 0, number).into()
        }
        _ => of(addr),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_read_in_their_order() {
        let text = b"# a comment\nsearch example.org\nnameserver 192.0.2.1\n nameserver\t2001:db8::53 # x\n\
                     nameserver fe80::1%7\noptions edns0\nnameserver no\nnameserver\nnameserver 192.0.2.2\n\
                     nameserver 192.0.2.3\n";
        let found: Vec<String> = servers(text).iter().map(ToString::to_string).collect();
        assert_eq!(found, ["192.0.2.1:53", "[2001:db8::53]:53", "[fe80::1%7]:53", "192.0.2.2:53"]);
        assert_eq!(server(b"fe80::1%lo").map(|s| s.to_string()), Some("[fe80::1%1]:53".into()));
    }
}
