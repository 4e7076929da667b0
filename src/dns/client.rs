#![forbid(unsafe_code)]
//! Asks name servers: several questions at a time in a table of fixed size, each through a socket of its own.
//! Knows no socket and no clock: those are a [`Wire`] and an argument. Never waits.
//!
//! An answer counts if it comes from the server that was asked (its socket hears nobody else), to the port
//! and with the id that nobody knows, and repeats the question to the letter, in the mixed case in which it
//! was sent. Anything else is passed over: whoever can only guess changes nothing, and the true answer is
//! still waited for. A server that answers in another case is asked over TCP, where there is nothing to
//! guess.

use std::fmt;
use std::io;
use std::net::SocketAddr;

use super::name::Name;
use super::packet::{Message, Writer, class, flag, rcode};
use crate::base::clock::Mono;
use crate::sys::peers::{Peers, Transport};

/// Questions in flight at most.
pub const FLIGHTS: usize = 16;
/// Servers that are asked at most.
pub const SERVERS: usize = 4;
/// Bytes of an answer that are taken at most.
pub const ANSWER: usize = 4096;
/// Bytes of a datagram that we ask for: what passes every network whole.
const DATAGRAM: u16 = 1232;
/// Bytes of our question at most.
const QUESTION: usize = 300;
/// Datagrams that are no answer, after which one try is given up.
const STRANGE: u8 = 32;
/// Milliseconds after which the first server has another chance.
const AGAIN: u64 = 60_000;

/// The sockets, one for each question in flight.
pub trait Wire {
    /// Makes a socket that hears this server only, from a port of its own, in place of the slot's previous
    /// one.
    ///
    /// # Errors
    /// What the system says.
    fn open(&mut self, slot: usize, server: SocketAddr, transport: Transport) -> io::Result<()>;

    /// Sends a question. What a stream cannot take yet it keeps, and sends by itself.
    ///
    /// # Errors
    /// What the system says.
    fn send(&mut self, slot: usize, question: &[u8]) -> io::Result<()>;

    /// Receives an answer, if there is a whole one.
    ///
    /// # Errors
    /// What the system says; then nothing more will come.
    fn receive(&mut self, slot: usize, room: &mut [u8]) -> io::Result<Option<usize>>;

    /// Closes the slot's socket.
    fn close(&mut self, slot: usize);
}

/// Why there is no answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Trouble {
    /// Nobody can be asked.
    NoServer,
    /// As many questions as possible are in flight.
    Busy,
    /// No answer in time.
    Silent,
    /// Datagrams came that do not answer the question: another id, name or kind of message.
    Strange,
    /// The system could not send, or was told that nobody is there.
    Unreachable,
    /// The server does not want to, or cannot: one of [`rcode`].
    Code(u8),
    /// The message ends before its end.
    Broken,
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Trouble::NoServer => "no name server is known",
            Trouble::Busy => "too many queries are in flight",
            Trouble::Silent => "the name servers do not answer",
            Trouble::Strange => "what the name server sends does not answer the query",
            Trouble::Unreachable => "the name servers cannot be reached",
            Trouble::Code(rcode::FORMERR) => "the name servers do not understand the query (FORMERR)",
            Trouble::Code(rcode::SERVFAIL) => "the name servers failed (SERVFAIL)",
            Trouble::Code(rcode::NOTIMP) => "the name servers do not answer such queries (NOTIMP)",
            Trouble::Code(rcode::REFUSED) => "the name servers refuse to answer (REFUSED)",
            Trouble::Code(code) => return write!(f, "the name servers answer with code {code}"),
            Trouble::Broken => "the name server's answer is malformed",
        })
    }
}

/// What came of a question.
pub struct Reply<'b, T> {
    /// What the asker wanted to have back.
    pub tag: T,
    /// What was asked.
    pub name: Name,
    /// Milliseconds that it took.
    pub took: u64,
    /// An answer, also that the name is not there; or why there is none.
    pub answer: Result<Message<'b>, Trouble>,
}

/// A question in flight.
struct Flight<T> {
    tag: T,
    /// In the case in which it was sent.
    name: Name,
    kind: u16,
    id: u16,
    /// Number of the server that is asked now.
    server: usize,
    /// Tries so far.
    tries: usize,
    transport: Transport,
    edns: bool,
    begun: Mono,
    try_until: Mono,
    until: Mono,
    strange: u8,
    trouble: Trouble,
}

/// What a datagram was.
enum Heard {
    Answer,
    /// No answer to the question.
    Strange,
    /// The same server is to be asked again, over a stream.
    Stream,
    /// The same server is to be asked again, without EDNS.
    Plain,
    /// This server is of no use.
    Trouble(Trouble),
}

/// The questions in flight, and who is asked.
pub struct Client<T> {
    flights: [Option<Flight<T>>; FLIGHTS],
    servers: [Option<SocketAddr>; SERVERS],
    /// The server that is asked first, and until when, if that is not the first one.
    first: (usize, Mono),
    random: fn() -> u64,
}

impl<T: Copy> Client<T> {
    /// Without servers. `random` is to give numbers that nobody can guess.
    #[must_use]
    pub fn new(random: fn() -> u64) -> Client<T> {
        Client {
            flights: std::array::from_fn(|_| None),
            servers: [None; SERVERS],
            first: (0, Mono::default()),
            random,
        }
    }

    /// Takes other servers, in their order; those beyond [`SERVERS`] are left out. Questions in flight go on
    /// with them.
    pub fn set_servers(&mut self, servers: &[SocketAddr]) {
        for (at, place) in self.servers.iter_mut().enumerate() {
            *place = servers.get(at).copied();
        }
        self.first = (0, Mono::default());
    }

    /// How many there are.
    #[must_use]
    pub fn servers(&self) -> usize {
        self.servers.iter().flatten().count()
    }

    /// Questions in flight.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.flights.iter().flatten().count()
    }

    /// The tags of questions in flight.
    pub fn tags(&self) -> impl Iterator<Item = &T> {
        self.flights.iter().flatten().map(|flight| &flight.tag)
    }

    /// When [`Client::next`] is to be called even if no socket has anything.
    #[must_use]
    pub fn deadline(&self) -> Option<Mono> {
        self.flights.iter().flatten().map(|flight| flight.try_until.min(flight.until)).min()
    }

    /// Asks. `timeout` is how many milliseconds all tries may take together.
    ///
    /// # Errors
    /// Nobody can be asked, or there is no room.
    pub fn ask(
        &mut self,
        now: Mono,
        (name, kind): (&Name, u16),
        timeout: u64,
        tag: T,
        wire: &mut dyn Wire,
    ) -> Result<(), Trouble> {
        if self.servers() == 0 {
            return Err(Trouble::NoServer);
        }
        if self.first.1 <= now {
            self.first = (0, Mono::default());
        }
        let Some(slot) = self.flights.iter().position(Option::is_none) else { return Err(Trouble::Busy) };
        let flight = Flight {
            tag,
            name: *name,
            kind,
            id: 0,
            server: self.first.0,
            tries: 0,
            transport: Transport::Udp,
            edns: true,
            begun: now,
            try_until: now,
            until: now.after(timeout),
            strange: 0,
            trouble: Trouble::Silent,
        };
        if let Some(place) = self.flights.get_mut(slot) {
            *place = Some(flight);
        }
        // What cannot be sent now fails when its turn comes, like what is not answered.
        self.attempt(slot, now, wire);
        Ok(())
    }

    /// The next question that has an answer or will have none; `None` until something more comes or the
    /// deadline passes. `room` has [`ANSWER`] bytes.
    pub fn next<'b>(&mut self, now: Mono, wire: &mut dyn Wire, room: &'b mut [u8]) -> Option<Reply<'b, T>> {
        for slot in 0..FLIGHTS {
            let Some(result) = self.look(slot, now, wire, room) else { continue };
            let flight = self.flights.get_mut(slot).and_then(Option::take)?;
            wire.close(slot);
            let answer =
                result.and_then(|length| room.get(..length).and_then(Message::new).ok_or(Trouble::Broken));
            let (tag, name, took) = (flight.tag, flight.name, now.since(flight.begun));
            return Some(Reply { tag, name, took, answer });
        }
        None
    }

    /// What came of a question: the length of its answer, or trouble; `None` while it is open.
    fn look(
        &mut self,
        slot: usize,
        now: Mono,
        wire: &mut dyn Wire,
        room: &mut [u8],
    ) -> Option<Result<usize, Trouble>> {
        let flight = self.flights.get_mut(slot)?.as_mut()?;
        // A bound on what one wake-up does; what is left wakes us again.
        for _ in 0..STRANGE {
            let trouble = match wire.receive(slot, room) {
                Ok(None) => break,
                Ok(Some(length)) => match flight.hear(room.get(..length).unwrap_or(room)) {
                    Heard::Answer => return Some(Ok(length.min(room.len()))),
                    Heard::Strange => {
                        flight.strange += 1;
                        flight.trouble = Trouble::Strange;
                        if flight.strange < STRANGE {
                            continue;
                        }
                        Trouble::Strange
                    }
                    Heard::Stream => {
                        flight.transport = Transport::Tcp;
                        return self.send(slot, wire).err().and_then(|e| self.after(slot, now, wire, e));
                    }
                    Heard::Plain => {
                        flight.edns = false;
                        return self.send(slot, wire).err().and_then(|e| self.after(slot, now, wire, e));
                    }
                    Heard::Trouble(trouble) => trouble,
                },
                Err(_) => Trouble::Unreachable,
            };
            return self.after(slot, now, wire, trouble);
        }
        if now >= flight.until {
            let trouble = flight.trouble;
            self.avoid(slot, now);
            return Some(Err(trouble));
        }
        if now >= flight.try_until {
            let trouble = flight.trouble;
            return self.after(slot, now, wire, trouble);
        }
        None
    }

    /// Goes on after a try that failed: with the next server, or not at all.
    fn after(
        &mut self,
        slot: usize,
        now: Mono,
        wire: &mut dyn Wire,
        trouble: Trouble,
    ) -> Option<Result<usize, Trouble>> {
        let (tries, servers) = (self.tries(), self.servers());
        self.avoid(slot, now);
        let flight = self.flights.get_mut(slot)?.as_mut()?;
        flight.trouble = trouble;
        flight.server = (flight.server + 1) % servers.max(1);
        // Whoever has answered is not asked the same again.
        let most = if matches!(trouble, Trouble::Silent | Trouble::Strange) { tries } else { servers };
        if flight.tries >= most || now >= flight.until || servers == 0 {
            return Some(Err(trouble));
        }
        flight.transport = Transport::Udp;
        flight.edns = true;
        self.attempt(slot, now, wire);
        None
    }

    /// Others begin with the next server, if this one was the first.
    fn avoid(&mut self, slot: usize, now: Mono) {
        let servers = self.servers().max(1);
        let server = self.flights.get(slot).and_then(Option::as_ref).map(|flight| flight.server);
        if server == Some(self.first.0) && servers > 1 {
            self.first = ((self.first.0 + 1) % servers, now.after(AGAIN));
        }
    }

    /// Tries that a question has, with all servers together.
    fn tries(&self) -> usize {
        (self.servers() * 2).clamp(2, SERVERS)
    }

    /// Begins a try. What cannot be sent has failed at once.
    fn attempt(&mut self, slot: usize, now: Mono, wire: &mut dyn Wire) {
        let tries = self.tries() as u64;
        if let Some(flight) = self.flights.get_mut(slot).and_then(Option::as_mut) {
            flight.tries += 1;
            flight.strange = 0;
            let share = flight.until.since(flight.begun) / tries.max(1);
            flight.try_until = now.after(share.max(1)).min(flight.until);
        }
        if let Err(trouble) = self.send(slot, wire)
            && let Some(flight) = self.flights.get_mut(slot).and_then(Option::as_mut)
        {
            (flight.trouble, flight.try_until) = (trouble, now);
        }
    }

    /// Sends the question, from a new port and with a new id.
    fn send(&mut self, slot: usize, wire: &mut dyn Wire) -> Result<(), Trouble> {
        let (random, more) = ((self.random)(), (self.random)());
        let flight = self.flights.get_mut(slot).and_then(Option::as_mut).ok_or(Trouble::Busy)?;
        let server = self.servers.iter().flatten().nth(flight.server).ok_or(Trouble::NoServer)?;
        let [a, b, ..] = more.to_ne_bytes();
        flight.id = u16::from_ne_bytes([a, b]);
        flight.name = flight.name.mix_case(random);
        let mut buffer = [0; QUESTION];
        let mut writer =
            Writer::new(&mut buffer, flight.id, flag::RECURSION_DESIRED).map_err(|_| Trouble::Broken)?;
        writer.question(&flight.name, flight.kind, class::IN).map_err(|_| Trouble::Broken)?;
        if flight.edns {
            writer.edns(DATAGRAM).map_err(|_| Trouble::Broken)?;
        }
        let sent = wire.open(slot, *server, flight.transport).and_then(|()| wire.send(slot, writer.bytes()));
        sent.map_err(|_| Trouble::Unreachable)
    }
}

impl<T> Flight<T> {
    /// What a message is to this question.
    fn hear(&self, bytes: &[u8]) -> Heard {
        let Some(message) = Message::new(bytes) else { return Heard::Strange };
        if !message.is_response() || message.opcode() != 0 || message.id() != self.id {
            return Heard::Strange;
        }
        let code = message.rcode();
        let failed = !matches!(code, rcode::NOERROR | rcode::NXDOMAIN);
        match message.question() {
            // Some say that they do not understand without saying what.
            None if message.questions() == 0 && failed => {}
            Some(asked)
                if asked.kind == self.kind && asked.class == class::IN && message.questions() == 1 =>
            {
                if !asked.name.is_same(&self.name) {
                    return Heard::Strange;
                }
                if asked.name.wire() != self.name.wire() && self.transport == Transport::Udp {
                    return Heard::Stream;
                }
            }
            _ => return Heard::Strange,
        }
        match code {
            rcode::FORMERR | rcode::NOTIMP if self.edns => Heard::Plain,
            _ if failed => Heard::Trouble(Trouble::Code(code)),
            _ if message.is_truncated() && self.transport == Transport::Udp => Heard::Stream,
            _ if message.answers().any(|record| record.is_err()) => Heard::Trouble(Trouble::Broken),
            _ => Heard::Answer,
        }
    }
}

impl Wire for Peers<FLIGHTS> {
    fn open(&mut self, slot: usize, server: SocketAddr, transport: Transport) -> io::Result<()> {
        self.open(slot, server, transport)
    }

    fn send(&mut self, slot: usize, question: &[u8]) -> io::Result<()> {
        self.send(slot, question)
    }

    fn receive(&mut self, slot: usize, room: &mut [u8]) -> io::Result<Option<usize>> {
        self.receive(slot, room)
    }

    fn close(&mut self, slot: usize) {
        self.close(slot);
    }
}
