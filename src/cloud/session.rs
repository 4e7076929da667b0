#![forbid(unsafe_code)]
//! A conversation with the server that holds the zones: signed updates (RFC 2136) and transfers (RFC 5936)
//! over TCP. It waits for answers; it is for processes that have nothing else to do.

use super::transfer::{Transfer, TransferState};
use crate::base::clock::Wall;
use crate::dns::name::Name;
use crate::dns::packet::{Full, Message, Record, Writer, class, flag, kind, rcode};
use crate::dns::tsig::{Fault, Key, Verified, Verifier, error};
use crate::sys::tcp::TcpConnection;
use crate::sys::{clock, random};
use nix::errno::Errno;
use std::fmt;
use std::io;
use std::net::SocketAddr;

/// Seconds that a step takes at most.
const PATIENCE: u32 = 20;
/// Bytes of the longest message, and of its length in front.
const MESSAGE: usize = 0xffff;
const LENGTH: usize = 2;

/// What went wrong. A number for each, so that it can be the status of a process or stand in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// The server cannot be reached, or went away.
    Unreachable(i32),
    /// It has answered what is no answer to what it was asked.
    Nonsense,
    /// It refuses: the code of the answer and that of the signature, which may be 0.
    Refused(u8, u16),
    /// Its answer is not signed with our key.
    Forged,
    /// Its clock says this.
    Clock(Wall),
    /// Something of our own files.
    Local(i32),
    /// Our own clock has not been set, or was set back.
    NoClock,
    /// Our key cannot be read.
    Key,
}

impl From<io::Error> for Trouble {
    fn from(e: io::Error) -> Trouble {
        Trouble::Unreachable(e.raw_os_error().unwrap_or(libc::EIO))
    }
}

impl From<Fault> for Trouble {
    fn from(fault: Fault) -> Trouble {
        match fault {
            Fault::Malformed => Trouble::Nonsense,
            Fault::Unsigned(code, signature) if code != rcode::NOERROR || signature != 0 => {
                Trouble::Refused(code, signature)
            }
            Fault::Unsigned(..) | Fault::BadSignature => Trouble::Forged,
            Fault::BadTime(time) => Trouble::Clock(time),
        }
    }
}

impl From<Full> for Trouble {
    fn from(_: Full) -> Trouble {
        Trouble::Nonsense
    }
}

impl Trouble {
    /// As two numbers.
    #[must_use]
    pub fn pack(self) -> (u8, u64) {
        match self {
            Trouble::Unreachable(errno) => (1, errno.unsigned_abs().into()),
            Trouble::Nonsense => (2, 0),
            Trouble::Refused(code, signature) => (3, u64::from(code) << 16 | u64::from(signature)),
            Trouble::Forged => (4, 0),
            Trouble::Clock(time) => (5, time.0),
            Trouble::Local(errno) => (6, errno.unsigned_abs().into()),
            Trouble::NoClock => (7, 0),
            Trouble::Key => (8, 0),
        }
    }

    /// Reads what [`Trouble::pack`] made.
    #[must_use]
    pub fn unpack(kind: u8, number: u64) -> Option<Trouble> {
        let errno = || i32::try_from(number).unwrap_or(libc::EIO);
        Some(match kind {
            1 => Trouble::Unreachable(errno()),
            2 => Trouble::Nonsense,
            3 => {
                let [_, _, _, _, _, code, a, b] = number.to_be_bytes();
                Trouble::Refused(code, u16::from_be_bytes([a, b]))
            }
            4 => Trouble::Forged,
            5 => Trouble::Clock(Wall(number)),
            6 => Trouble::Local(errno()),
            7 => Trouble::NoClock,
            8 => Trouble::Key,
            _ => return None,
        })
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match *self {
            Trouble::Unreachable(errno) => {
                return write!(f, "the server cannot be reached: {}", strerror(errno));
            }
            Trouble::Nonsense => "the server's answer is malformed, or answers something else",
            Trouble::Refused(_, error::BADSIG) => {
                "the server has another secret for this key (BADSIG): is community_key_file the one that \
                 mef cloud member add printed?"
            }
            Trouble::Refused(code, error::BADKEY) => {
                let code = if code == rcode::NOTAUTH { "NOTAUTH, " } else { "" };
                return write!(
                    f,
                    "the server does not know this key, or does not allow it this ({code}BADKEY): each \
                    member may write TXT below its own name only"
                );
            }
            Trouble::Refused(_, error::BADTIME) => "the server says that our clock is wrong (BADTIME)",
            Trouble::Refused(rcode::REFUSED, _) => {
                "the server refuses it (REFUSED): the zone has reached its quota, or the key is not allowed \
                this"
            }
            Trouble::Refused(rcode::NOTAUTH, _) => "the server does not have this zone (NOTAUTH)",
            Trouble::Refused(rcode::NOTZONE, _) => "a name is outside the member's zone (NOTZONE)",
            Trouble::Refused(rcode::SERVFAIL, _) => {
                "the server failed (SERVFAIL): its log says why; a quota may be reached"
            }
            Trouble::Refused(code, signature) => {
                return write!(f, "the server refuses it with code {code}, signature error {signature}");
            }
            Trouble::Forged => "the server's answer is not signed with our key: it is not believed",
            Trouble::Clock(time) => {
                let stamp = crate::base::utc::Stamp(time);
                return write!(f, "the clocks differ: it is {stamp} on the server (BADTIME)");
            }
            Trouble::NoClock => "the clock is not set: nothing is signed with such a time",
            Trouble::Key => "community_key_file cannot be read, is not a key, or others can read it",
            Trouble::Local(errno) => return write!(f, "state_dir: {}", strerror(errno)),
        };
        f.write_str(text)
    }
}

fn strerror(errno: i32) -> &'static str {
    Errno::from_raw(errno).desc()
}

/// A connection to the server.
pub struct Session<'k> {
    stream: TcpConnection,
    key: &'k Key,
    buffer: Vec<u8>,
    /// What of it was received and not yet read.
    filled: (usize, usize),
    clock: fn() -> Wall,
}

impl<'k> Session<'k> {
    /// Connects.
    ///
    /// # Errors
    /// The server cannot be reached.
    pub fn open(server: SocketAddr, key: &'k Key) -> Result<Session<'k>, Trouble> {
        let stream = TcpConnection::connect(server, PATIENCE)?;
        Ok(Session { stream, key, buffer: vec![0; LENGTH + MESSAGE], filled: (0, 0), clock: clock::wall })
    }

    /// The same by another clock than ours.
    #[must_use]
    pub fn by(self, clock: fn() -> Wall) -> Session<'k> {
        Session { clock, ..self }
    }

    /// Sends an update of a zone, with what `fill` writes into it, and waits until the server has done it.
    ///
    /// # Errors
    /// Why it has not.
    pub fn update(
        &mut self,
        zone: &Name,
        fill: &mut dyn FnMut(&mut Writer<'_>) -> Result<(), Full>,
    ) -> Result<(), Trouble> {
        let (id, mut verifier) = self.ask(zone, flag::UPDATE, kind::SOA, fill)?;
        let clock = self.clock;
        let message = self.receive()?;
        let message = Message::new(message).ok_or(Trouble::Nonsense)?;
        if !answers(&message, id, 5) {
            return Err(Trouble::Nonsense);
        }
        verifier.next(&message, clock())?;
        match message.rcode() {
            rcode::NOERROR => Ok(()),
            code => Err(Trouble::Refused(code, 0)),
        }
    }

    /// Has a zone sent and hands on each record but the start of authority, which `each` gets once. Only when
    /// this has ended well they are all there, and the server's.
    ///
    /// # Errors
    /// Why it is not whole; or what `each` says.
    pub fn transfer(
        &mut self,
        zone: &Name,
        each: &mut dyn FnMut(&Record<'_>) -> io::Result<()>,
    ) -> Result<(), Trouble> {
        let (id, mut verifier) = self.ask(zone, 0, kind::AXFR, &mut |_| Ok(()))?;
        let (clock, mut transfer) = (self.clock, Transfer::new(zone));
        loop {
            let bytes = self.receive()?;
            let message = Message::new(bytes).ok_or(Trouble::Nonsense)?;
            if !answers(&message, id, 0) {
                return Err(Trouble::Nonsense);
            }
            let verified = verifier.next(&message, clock())?;
            if message.rcode() != rcode::NOERROR {
                return Err(Trouble::Refused(message.rcode(), 0));
            }
            if transfer.take(&message, each)? == TransferState::Ended {
                return if verified == Verified::Signed { Ok(()) } else { Err(Trouble::Forged) };
            }
        }
    }

    /// Sends a request; by what the answer is known.
    fn ask(
        &mut self,
        zone: &Name,
        flags: u16,
        what: u16,
        fill: &mut dyn FnMut(&mut Writer<'_>) -> Result<(), Full>,
    ) -> Result<(u16, Verifier<'k>), Trouble> {
        let [random, _] = random::key();
        let id = u16::try_from(random & 0xffff).unwrap_or(0);
        let room = self.buffer.get_mut(LENGTH..).ok_or(Trouble::Nonsense)?;
        let mut writer = Writer::new(room, id, flags)?;
        writer.question(zone, what, class::IN)?;
        fill(&mut writer)?;
        let verifier = self.key.sign(&mut writer, (self.clock)())?;
        let length = writer.bytes().len();
        let [a, b] = u16::try_from(length).map_err(|_| Trouble::Nonsense)?.to_be_bytes();
        if let Some(front) = self.buffer.first_chunk_mut() {
            *front = [a, b];
        }
        self.stream.send(self.buffer.get(..LENGTH + length).unwrap_or_default())?;
        self.filled = (0, 0);
        Ok((id, verifier))
    }

    /// The next message.
    fn receive(&mut self) -> Result<&[u8], Trouble> {
        loop {
            let (from, to) = self.filled;
            let there = self.buffer.get(from..to).unwrap_or_default();
            if let Some((length, rest)) = there.split_first_chunk::<LENGTH>() {
                let length = usize::from(u16::from_be_bytes(*length));
                if rest.len() >= length {
                    let start = from + LENGTH;
                    self.filled.0 = start + length;
                    return self.buffer.get(start..start + length).ok_or(Trouble::Nonsense);
                }
            }
            self.buffer.copy_within(from..to, 0);
            self.filled = (0, to - from);
            let room = self.buffer.get_mut(to - from..).unwrap_or_default();
            match self.stream.receive(room)? {
                0 => return Err(Trouble::Unreachable(libc::ECONNRESET)),
                length => self.filled.1 += length,
            }
        }
    }
}

/// Whether a message answers that request.
fn answers(message: &Message<'_>, id: u16, opcode: u8) -> bool {
    message.is_response() && message.id() == id && message.opcode() == opcode
}
