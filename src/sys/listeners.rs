#![forbid(unsafe_code)]
//! Those who listen to changes of the ruleset (`nft monitor`, firewalld). What they have not read yet is
//! kernel memory, up to 32 MB for a socket of `nft monitor`: where that is much, whoever changes much waits
//! for them.

use super::fs;
use super::{memory, relay};
use std::path::Path;
use std::time::Duration;

/// Bytes that are left unread wherever mef runs.
const UNREAD: u64 = 1 << 20;
/// Part of the memory that may be left unread where there is more of it.
const SHARE: u64 = 64;
/// Between two looks.
const STEP: Duration = Duration::from_millis(2);
/// Looks in a row that find nothing read, after which one who listens is taken for stopped.
const LOOKS: u32 = 250;
/// NETLINK_NETFILTER, and the bit of NFNLGRP_NFTABLES in a mask of groups.
const NETFILTER: &str = "12";
const NFTABLES: u32 = 1 << 6;

/// How far behind they are.
#[derive(Debug, Default)]
pub struct Listeners {
    /// Bytes that are left unread; 0 = not known yet.
    limit: u64,
    /// What was unread when they were not waited for any more.
    stopped: Option<u64>,
}

impl Listeners {
    /// Waits until they have read most of what there is, but not for one that does not read at all.
    pub fn wait(&mut self) {
        let unread = unread();
        if unread <= UNREAD {
            self.stopped = None;
            return;
        }
        if self.limit == 0 {
            self.limit = UNREAD.max(memory::available().unwrap_or(0) / SHARE);
        }
        self.wait_for(unread, &mut || {
            relay::pause(STEP);
            self::unread()
        });
    }

    fn wait_for(&mut self, mut unread: u64, look: &mut dyn FnMut() -> u64) {
        if self.stopped.is_some_and(|stopped| unread >= stopped) {
            return;
        }
        self.stopped = None;
        let (mut least, mut looks) = (unread, 0);
        while unread > self.limit {
            unread = look();
            looks += 1;
            if unread < least {
                (least, looks) = (unread, 0);
            } else if looks == LOOKS {
                self.stopped = Some(least);
                return;
            }
        }
    }
}

/// Bytes that one of them has not read, the most of all; 0 where the kernel does not tell.
#[must_use]
pub fn unread() -> u64 {
    fs::content(Path::new("/proc/thread-self/net/netlink")).map_or(0, |table| most(&table))
}

/// Columns: the socket, its protocol, its process, groups (hexadecimal), bytes to read, and more.
fn most(table: &[u8]) -> u64 {
    let text = std::str::from_utf8(table).unwrap_or("");
    let unread = |line: &str| {
        let mut columns = line.split_ascii_whitespace().skip(1);
        columns.next().filter(|protocol| *protocol == NETFILTER)?;
        let groups = u32::from_str_radix(columns.nth(1)?, 16).ok()?;
        columns.next().filter(|_| groups & NFTABLES != 0)?.parse().ok()
    };
    text.lines().filter_map(unread).max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_members_of_the_group_count() {
        let table =
            b"sk               Eth Pid        Groups   Rmem     Wmem     Dump  Locks    Drops    Inode\n\
            0000000000000000 0   842        00000551 7000000  0        0     2        0        17654   \n\
            0000000000000000 12  900        00000000 6000000  0        0     2        0        17655   \n\
            0000000000000000 12  901        00000040 4096     0        0     2        0        17656   \n\
            0000000000000000 12  902        000000ff 81920    0        0     2        0        17657   \n\
            0000000000000000 12  903        x";
        assert_eq!(most(table), 81_920);
        assert_eq!((most(b""), most(b"\xff"), most(b"sk Eth\n12 12 12")), (0, 0, 0));
    }

    /// Waits, beginning with `first`, while they read by and by; how often it looked.
    fn looks(listeners: &mut Listeners, first: u64, read: &mut dyn FnMut(u64) -> u64) -> u32 {
        let (mut unread, mut looks) = (first, 0);
        listeners.wait_for(first, &mut || {
            looks += 1;
            unread = read(unread);
            unread
        });
        looks
    }

    #[test]
    fn who_reads_is_waited_for_and_who_does_not_only_once() {
        let mut listeners = Listeners { limit: 100, stopped: None };
        let (slow, stopped) = (&mut |unread| unread - 1, &mut |unread| unread);
        assert_eq!(looks(&mut listeners, 100, slow), 0, "that much is left");
        assert_eq!(looks(&mut listeners, 1000, slow), 900, "however long it takes");
        assert_eq!(looks(&mut listeners, 1000, stopped), LOOKS);
        assert_eq!(looks(&mut listeners, 1500, stopped), 0, "it is known to be stopped");
        assert_eq!(looks(&mut listeners, 900, slow), 800, "it reads again");
        assert_eq!(looks(&mut listeners, 101, stopped), LOOKS);
    }
}
