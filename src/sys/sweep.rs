#![forbid(unsafe_code)]
//! One walk over a table of the kernel: what it dumps is looked at, what is picked is deleted meanwhile.
//! Memory is one receive buffer and the requests it gives rise to, however large the table is.
//! Knows no table: the caller writes the requests and reads the entries.

use crate::sys::netlink::{Lost, NlSocket};
use crate::sys::nlattr::{ACK, Msg, MsgBuf, NLMSG_DONE, NLMSG_ERROR, u32_at};
use nix::errno::Errno;

/// What a walk did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Swept {
    /// Entries that the kernel deleted.
    pub deleted: u32,
    /// The last refusal of a deletion; entries that were already gone do not count.
    pub refused: Option<Errno>,
}

struct SweepWalk {
    /// Sequence number of the dump.
    dump: u32,
    /// Sequence number of the newest deletion, and whether its answer is still to come.
    newest: u32,
    waiting: bool,
    ended: bool,
    failed: Option<Errno>,
    /// Where the newest deletion begins in the buffer of requests.
    at: usize,
    swept: Swept,
}

/// Dumps with the request that `ask` writes and deletes with the requests that `pick` writes.
///
/// `ask(buf, seq)` writes the request for the dump. `pick(entry, buf, seq)` looks at one entry and either
/// writes exactly one request that deletes it and returns `true`, or writes nothing and returns `false`.
/// An entry that the dump shows twice, or that is gone by the time of its deletion, is no error.
///
/// # Errors
/// What the kernel said to the dump, or the system call that failed.
pub fn sweep(
    socket: &mut NlSocket,
    ask: &mut dyn FnMut(&mut MsgBuf, u32),
    pick: &mut dyn FnMut(Msg<'_>, &mut MsgBuf, u32) -> bool,
) -> Result<Swept, Lost> {
    // Late answers of an earlier exchange could bear the numbers of this one.
    socket.drain();
    let dump = socket.next_seq();
    let mut requests = MsgBuf::with_capacity(4096);
    ask(&mut requests, dump);
    socket.send(requests.bytes())?;
    let mut walk = SweepWalk {
        dump,
        newest: dump,
        waiting: false,
        ended: false,
        failed: None,
        at: 0,
        swept: Swept::default(),
    };
    while !walk.ended || walk.waiting {
        requests.clear();
        match socket.receive(&mut |msg| walk.take(msg, &mut requests, pick)) {
            // The kernel's answers to deletions did not fit; a dump itself is never dropped.
            Err(Lost::Overrun) => walk.waiting = false,
            other => other?,
        }
        if !requests.is_empty() {
            requests.add_flags(walk.at, ACK);
            socket.send(requests.bytes())?;
            walk.waiting = true;
        }
    }
    walk.failed.map_or(Ok(walk.swept), |errno| Err(Lost::Sys("dump", errno)))
}

impl SweepWalk {
    fn take(
        &mut self,
        msg: Msg<'_>,
        requests: &mut MsgBuf,
        pick: &mut dyn FnMut(Msg<'_>, &mut MsgBuf, u32) -> bool,
    ) {
        match (msg.kind, msg.seq == self.dump) {
            (NLMSG_ERROR | NLMSG_DONE, true) => {
                // Both carry a negative errno or 0.
                let code = u32_at(msg.payload, 0).map_or(0, |v| 0i32.wrapping_sub(v.cast_signed()));
                self.failed = (code != 0).then(|| Errno::from_raw(code));
                self.ended = true;
            }
            (NLMSG_ERROR, false) => self.answered(msg),
            (_, true) => {
                let (at, seq) = (requests.len(), self.newest.wrapping_add(1).max(1));
                if pick(msg, requests, seq) {
                    (self.at, self.newest) = (at, seq);
                    self.swept.deleted = self.swept.deleted.saturating_add(1);
                }
            }
            (_, false) => {}
        }
    }

    /// Only the newest deletion of a batch asks for an answer; the others speak up when they fail.
    fn answered(&mut self, msg: Msg<'_>) {
        self.waiting = self.waiting && msg.seq != self.newest;
        match msg.errno() {
            None | Some(0) => {}
            Some(code) => {
                self.swept.deleted = self.swept.deleted.saturating_sub(1);
                if code != libc::ENOENT {
                    self.swept.refused = Some(Errno::from_raw(code));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::nlattr::messages;

    fn walk() -> SweepWalk {
        SweepWalk {
            dump: 1,
            newest: 1,
            waiting: false,
            ended: false,
            failed: None,
            at: 0,
            swept: Swept::default(),
        }
    }

    fn feed(walk: &mut SweepWalk, input: &[(u16, u32, i32)]) -> MsgBuf {
        let (mut wire, mut out) = (MsgBuf::default(), MsgBuf::default());
        for &(kind, seq, value) in input {
            let m = wire.start(kind, 0, seq);
            wire.put(&value.to_ne_bytes());
            wire.finish(m);
        }
        for msg in messages(wire.bytes()) {
            walk.take(msg, &mut out, &mut |entry, out, seq| {
                if entry.payload.first() != Some(&7) {
                    return false;
                }
                let m = out.start(99, 0, seq);
                out.finish(m);
                true
            });
        }
        out
    }

    #[test]
    fn deletions_are_counted_by_their_answers() {
        let mut w = walk();
        let out = feed(&mut w, &[(50, 1, 7), (50, 1, 8), (50, 1, 7), (50, 1, 7)]);
        assert_eq!(messages(out.bytes()).map(|m| m.seq).collect::<Vec<_>>(), [2, 3, 4]);
        assert_eq!((w.at, w.newest, w.swept.deleted), (32, 4, 3));
        w.waiting = true;
        feed(&mut w, &[(NLMSG_ERROR, 2, -libc::ENOENT)]);
        assert!(w.waiting && !w.ended, "the batch is over with its last answer only");
        feed(&mut w, &[(NLMSG_DONE, 1, 0), (NLMSG_ERROR, 4, 0)]);
        assert!(!w.waiting && w.ended);
        assert_eq!(w.swept, Swept { deleted: 2, refused: None });
    }

    #[test]
    fn refusals_are_told() {
        let mut w = walk();
        feed(&mut w, &[(50, 1, 7), (NLMSG_ERROR, 2, -libc::EPERM)]);
        assert_eq!(w.swept, Swept { deleted: 0, refused: Some(Errno::EPERM) });
        for kind in [NLMSG_ERROR, NLMSG_DONE] {
            let mut w = walk();
            feed(&mut w, &[(kind, 1, -libc::EINVAL)]);
            assert_eq!((w.ended, w.failed), (true, Some(Errno::EINVAL)));
        }
    }
}
