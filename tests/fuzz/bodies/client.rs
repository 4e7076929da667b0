//! Any datagrams and streams as what name servers say to a question: only what comes with its id and repeats
//! it is taken for its answer, and with all that may be said there is an end.

use super::framed;
use super::frames;
use mef::base::clock::Mono;
use mef::dns::client::{ANSWER, Client, Wire};
use mef::dns::name::Name;
use mef::dns::packet::{HEADER, Message, kind};
use mef::sys::peers::Transport;
use std::io;
use std::net::SocketAddr;

/// Milliseconds that a question has.
const TIMEOUT: u64 = 2000;

/// Says what is left to say, in its order, whatever was asked.
struct Script<'s> {
    left: Box<dyn Iterator<Item = &'s [u8]> + 's>,
    now: Mono,
    asked: Vec<u8>,
    questions: usize,
    streams: usize,
}

impl Wire for Script<'_> {
    fn open(&mut self, _: usize, _: SocketAddr, transport: Transport) -> io::Result<()> {
        self.streams += usize::from(transport == Transport::Tcp);
        Ok(())
    }

    fn send(&mut self, _: usize, question: &[u8]) -> io::Result<()> {
        self.asked = question.to_vec();
        self.questions += 1;
        Ok(())
    }

    /// The first byte says what there is: an error, a pause, or bytes that are as they are, or have the id,
    /// or the id and the question.
    fn receive(&mut self, _: usize, room: &mut [u8]) -> io::Result<Option<usize>> {
        let Some((how, bytes)) = self.left.next().and_then(<[u8]>::split_first) else { return Ok(None) };
        let mut bytes = bytes.to_vec();
        match how % 6 {
            0 => return Err(io::ErrorKind::ConnectionRefused.into()),
            1 => {
                self.now = self.now.after(700);
                return Ok(None);
            }
            2 => {}
            how => {
                bytes.iter_mut().zip(&self.asked).take(2).for_each(|(to, from)| *to = *from);
                if how > 3 && bytes.len() >= HEADER {
                    let end = HEADER + question_len(&self.asked);
                    let question = self.asked[HEADER..end].to_vec();
                    bytes.splice(HEADER..HEADER, question);
                    bytes[4..6].copy_from_slice(&[0, 1]);
                }
                if how == 5 {
                    bytes.make_ascii_lowercase();
                }
            }
        }
        let length = bytes.len().min(room.len());
        room[..length].copy_from_slice(&bytes[..length]);
        Ok(Some(length))
    }

    fn close(&mut self, _: usize) {}
}

fn question_len(message: &[u8]) -> usize {
    Name::read(message, HEADER).unwrap().1 - HEADER + 4
}

/// Answers of each kind.
pub fn seeds() -> Vec<Vec<u8>> {
    let header = |flags: u16, answers: u8| {
        [&[4, 0, 0][..], &flags.to_be_bytes(), &[0, 1, 0, answers, 0, 0, 0, 0]].concat()
    };
    let listed = [&header(0x8180, 1)[..], &[0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 127, 0, 0, 2]].concat();
    let lowered = [&[5], &listed[1..]].concat();
    let (none, cut, plain) = (header(0x8183, 0), header(0x8380, 0), header(0x8181, 0));
    vec![
        framed(&[&listed]),
        framed(&[&cut, &none]),
        framed(&[&lowered, &listed]),
        framed(&[&plain, &none]),
        framed(&[&[1], &[0], &[2, 9, 9], &header(0x8182, 0), &none]),
    ]
}

/// What has to hold of any bytes.
pub fn run(data: &[u8]) {
    let start = Mono(1_000_000);
    let left = Box::new(frames(data));
    let mut script = Script { left, now: start, asked: Vec::new(), questions: 0, streams: 0 };
    let mut client = Client::new(|| 0x0123_4567_89ab_cdef);
    client.set_servers(&["192.0.2.1:53".parse().unwrap(), "[2001:db8::1]:53".parse().unwrap()]);
    let name = Name::parse(b"7.2.0.192.bl.example").unwrap();
    client.ask(start, (&name, kind::A), TIMEOUT, (), &mut script).unwrap();
    let mut room = [0; ANSWER];
    let mut turns = 0;
    let reply = loop {
        let now = script.now;
        if let Some(reply) = client.next(now, &mut script, &mut room) {
            break reply;
        }
        turns += 1;
        assert!(turns < 1000, "it has an end");
        if script.now == now {
            script.now = client.deadline().unwrap().max(now);
        }
    };
    if let Ok(answer) = reply.answer {
        let asked = Message::new(&script.asked).unwrap();
        assert!(answer.is_response() && answer.id() == asked.id());
        let (a, b) = (answer.question().unwrap(), asked.question().unwrap());
        assert!(a.name.is_same(&b.name) && a.kind == b.kind);
        // Over a stream there is nothing to guess, and nobody who has more to say.
        assert!(script.streams > 0 || a.name.wire() == b.name.wire() && !answer.is_truncated());
    }
    // Two servers, each by datagram twice; each try once without extensions, and over a stream.
    assert!(script.questions <= 12, "{}", script.questions);
    assert_eq!(client.in_flight(), 0);
}
