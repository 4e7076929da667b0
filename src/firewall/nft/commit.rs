#![forbid(unsafe_code)]
//! The way of a transaction to the kernel, and what the kernel says of it.

use super::parts::{self, KernelParts};
use super::refusal::{Op, Refusal, TxnError};
use super::txn::Txn;
use super::{message, msg, owner};
use crate::sys::netlink::{Lost, NlSocket};
use crate::sys::nlattr::{self, ACK, Msg, MsgBuf, REQUEST};
use nix::errno::Errno;
use smallvec::SmallVec;
use std::time::Duration;

/// NFTA_GEN_ID
const GEN_ID: u16 = 1;
const NFNL_MSG_BATCH_BEGIN: u16 = 16;
const NFNL_MSG_BATCH_END: u16 = 17;
const NFNL_SUBSYS_NFTABLES: u16 = 10;
/// NLMSGERR_ATTR_MSG: the kernel's own words.
const ERR_MSG: u16 = 1;
/// How often an exchange whose answers were lost is repeated.
const RESENDS_MAX: u32 = 4;
/// How often a table is found to be another process's before that is believed: it may just begin or end.
/// There is a pause between two of them.
const OWNED: u32 = 100;
const PAUSE: Duration = Duration::from_millis(5);

impl Txn {
    /// Sends the transaction and reads the kernel's judgement. Nothing to send is success. It is cleared
    /// either way. When answers are lost it is sent again.
    ///
    /// # Errors
    /// What the kernel refused, or the system call that failed; then nothing was changed.
    pub fn commit(&mut self, socket: &mut NlSocket) -> Result<(), TxnError> {
        let result = self.commit_copy(socket);
        self.clear();
        result
    }

    /// As `commit`; the messages stay, to be sent again.
    ///
    /// # Errors
    /// As `commit`.
    pub fn commit_copy(&mut self, socket: &mut NlSocket) -> Result<(), TxnError> {
        self.close_elems();
        let len = self.buf.len();
        batch_mark(&mut self.buf, NFNL_MSG_BATCH_END);
        let result = self.send_batch(socket);
        self.buf.raw().truncate(len);
        result
    }

    /// Asks for the kernel's judgement alone: without its end, nothing of a transaction is done.
    ///
    /// # Errors
    /// As `commit`.
    pub fn check(&mut self, socket: &mut NlSocket) -> Result<(), TxnError> {
        self.close_elems();
        self.send_batch(socket)
    }

    fn send_batch(&mut self, socket: &mut NlSocket) -> Result<(), TxnError> {
        if self.is_empty() {
            return Ok(());
        }
        let mut result = Err(TxnError::Lost(Lost::Sys("libnftnl", Errno::ENOMEM)));
        if self.intact {
            result = self.exchange_surely(socket);
        }
        if let Err(TxnError::Refused(all)) = &mut result {
            self.name_missing(all, socket);
        }
        result
    }

    /// Sends it until its answers come, through the owner of the table if that lets others do so.
    fn exchange_surely(&mut self, socket: &mut NlSocket) -> Result<(), TxnError> {
        let (mut lost, mut owned) = (0, 0);
        // What the kernel refuses costs it 20 ms: that is not tried where it is to be expected.
        if socket.has_detour()
            && let Some(port) = owner::of(socket, &self.table)?.port
        {
            socket.take_detour(port);
        }
        loop {
            let result = self.exchange(socket);
            match &result {
                Err(TxnError::Lost(Lost::Overrun)) if lost < RESENDS_MAX => {
                    lost += 1;
                    socket.drain();
                }
                Err(e) if is_owned(e) => {
                    // If it is nobody's any more, nothing stands in the way.
                    let port = owner::of(socket, &self.table)?.port;
                    if let Some(port) = port.filter(|port| owned == OWNED || !socket.take_detour(*port)) {
                        return Err(TxnError::Owned(self.table, port));
                    }
                    if owned == OWNED {
                        return result;
                    }
                    if owned > 0 {
                        std::thread::sleep(PAUSE);
                    }
                    owned += 1;
                }
                _ => return result,
            }
        }
    }

    /// Finds out which parts the kernel lacks that refused rules need. Where it has all, it had another
    /// reason.
    fn name_missing(&self, refused: &mut [Refusal], socket: &mut NlSocket) {
        let lacks =
            |r: &Refusal| matches!(r.errno, Errno::ENOENT | Errno::EOPNOTSUPP) && !r.missing.is_empty();
        let asked = self.table != parts::TABLE && refused.iter().any(lacks);
        if asked {
            socket.drain();
        }
        let missing = if asked { parts::missing(socket).unwrap_or_default() } else { KernelParts::default() };
        for r in refused {
            r.missing = if self.table == parts::TABLE { r.missing } else { r.missing.within(missing) };
        }
    }

    /// What the rule needs that the `index`th message adds.
    pub(super) fn needs_of(&self, index: u32) -> KernelParts {
        let mut at = 0;
        for _ in 0..=index {
            at += at_len(self.buf.bytes(), at);
        }
        let message = self.buf.bytes().get(at..at + at_len(self.buf.bytes(), at)).unwrap_or_default();
        KernelParts::needed(message.get(nlattr::HDR..).unwrap_or_default())
    }

    fn exchange(&mut self, socket: &mut NlSocket) -> Result<(), TxnError> {
        let (begin, last) = self.number(socket);
        socket.submit(self.buf.bytes())?;
        let mut refused: Vec<Refusal> = Vec::new();
        let mut done = false;
        while !done {
            socket.verdict(&mut |m| {
                let Some(errno) = m.errno() else {
                    if m.kind == message(msg::NEWGEN) && self.generation != 0 {
                        self.generation = next(self.generation, &m);
                    }
                    return;
                };
                let index = m.seq.wrapping_sub(begin);
                if index > self.ops.len {
                    return;
                }
                if errno != 0 {
                    let op = index.checked_sub(1).and_then(|i| self.ops.get(i));
                    let op = op.unwrap_or(Op::Commit);
                    let is_rule = matches!(op, Op::Rule(..) | Op::Statement(_));
                    let missing = if is_rule { self.needs_of(index - 1) } else { KernelParts::default() };
                    let (at, errno) = (index.saturating_sub(1), Errno::from_raw(errno));
                    refused.push(Refusal { op, at, errno, words: extack(&m), missing });
                }
                // An error of the whole batch carries the number of its first message, and is the last word.
                done |= m.seq == last || (m.seq == begin && errno != 0);
            })?;
        }
        if refused.is_empty() { Ok(()) } else { Err(TxnError::Refused(refused)) }
    }

    /// Writes fresh sequence numbers and asks for one acknowledgement, on the last real message.
    fn number(&mut self, socket: &mut NlSocket) -> (u32, u32) {
        let (begin, mut last) = (socket.next_seq(), 0);
        set_seq(self.buf.raw(), 0, begin);
        let mut at = 0;
        for _ in 0..self.ops.len {
            at += at_len(self.buf.bytes(), at);
            last = socket.next_seq();
            set_seq(self.buf.raw(), at, last);
        }
        if at > 0 {
            self.buf.add_flags(at, ACK);
        }
        (begin, last)
    }
}

/// Whether the table is another process's: who may change nothing at all is refused the transaction itself.
fn is_owned(e: &TxnError) -> bool {
    matches!(e, TxnError::Refused(all) if all.iter().all(|r| r.errno == Errno::EPERM && r.op != Op::Commit))
}

/// The generation that is known when the kernel tells of one that a commit has made.
fn next(known: u32, m: &Msg<'_>) -> u32 {
    let made = m.payload.get(4..).and_then(|body| nlattr::attr(body, GEN_ID)).and_then(nlattr::be32);
    // The kernel counts on, and leaves out 0.
    let ours = known.wrapping_add(1).max(1);
    if made == Some(ours) { ours } else { known }
}

/// Bytes of the message that begins there, with those up to the next one.
fn at_len(bytes: &[u8], at: usize) -> usize {
    let len = bytes.get(at..).and_then(|rest| rest.first_chunk()).map_or(0, |len| u32::from_ne_bytes(*len));
    (len as usize).next_multiple_of(4)
}

fn set_seq(bytes: &mut [u8], at: usize, seq: u32) {
    if let Some(slot) = bytes.get_mut(at + 8..at + 12) {
        slot.copy_from_slice(&seq.to_ne_bytes());
    }
}

pub(super) fn batch_begin(buf: &mut MsgBuf) {
    batch_mark(buf, NFNL_MSG_BATCH_BEGIN);
}

fn batch_mark(buf: &mut MsgBuf, kind: u16) {
    let open = buf.start(kind, REQUEST, 0);
    let [high, low] = NFNL_SUBSYS_NFTABLES.to_be_bytes();
    buf.put(&[0, 0, high, low]);
    buf.finish(open);
}

/// The extended acknowledgement's text, behind the error number and the capped request header.
fn extack(m: &Msg<'_>) -> SmallVec<[u8; 32]> {
    let text =
        m.payload.get(4 + nlattr::HDR..).and_then(|tlvs| nlattr::attr(tlvs, ERR_MSG)).and_then(nlattr::text);
    SmallVec::from_slice(text.unwrap_or("").as_bytes())
}
