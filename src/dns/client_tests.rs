//! The client, with servers that are a function: everything that may come over a wire, without one.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::cell::Cell;
use std::collections::VecDeque;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};

use super::client::{ANSWER, Client, FLIGHTS, Trouble, Wire};
use super::name::Name;
use super::packet::{Message, Section, Writer, class, flag, kind};
use crate::base::clock::Mono;
use crate::sys::peers::Transport;

/// What servers do with a question: its bytes, the server's number, and how it came.
type Serve = dyn Fn(&[u8], usize, Transport) -> Vec<Vec<u8>>;

/// Server, how it is talked to, and what is to be received.
type Slot = (usize, Transport, VecDeque<Vec<u8>>);

struct Fake<'s> {
    serve: &'s Serve,
    slots: Vec<Option<Slot>>,
    /// (server, transport, bytes) of every question.
    asked: Vec<(usize, Transport, Vec<u8>)>,
    /// Servers that cannot be reached.
    dead: Vec<usize>,
}

impl Wire for Fake<'_> {
    fn open(&mut self, slot: usize, server: SocketAddr, transport: Transport) -> io::Result<()> {
        self.slots[slot] = Some((server.port().into(), transport, VecDeque::new()));
        Ok(())
    }

    fn send(&mut self, slot: usize, question: &[u8]) -> io::Result<()> {
        let (server, transport, answers) = self.slots[slot].as_mut().unwrap();
        self.asked.push((*server, *transport, question.to_vec()));
        answers.extend((self.serve)(question, *server, *transport));
        Ok(())
    }

    fn receive(&mut self, slot: usize, room: &mut [u8]) -> io::Result<Option<usize>> {
        let (server, _, answers) = self.slots[slot].as_mut().unwrap();
        if self.dead.contains(server) {
            return Err(io::ErrorKind::ConnectionRefused.into());
        }
        let Some(answer) = answers.pop_front() else { return Ok(None) };
        room[..answer.len()].copy_from_slice(&answer);
        Ok(Some(answer.len()))
    }

    fn close(&mut self, slot: usize) {
        self.slots[slot] = None;
    }
}

fn fake(serve: &Serve) -> Fake<'_> {
    Fake { serve, slots: vec![const { None }; FLIGHTS], asked: Vec::new(), dead: Vec::new() }
}

thread_local!(static SEED: Cell<u64> = const { Cell::new(9) });

fn random() -> u64 {
    let mut rng = fastrand::Rng::with_seed(SEED.get());
    SEED.set(rng.u64(..));
    SEED.get()
}

/// Servers are told by their ports.
fn client(servers: u16) -> Client<usize> {
    let mut client = Client::new(random);
    let servers: Vec<SocketAddr> = (0..servers).map(|port| (Ipv4Addr::LOCALHOST, port).into()).collect();
    client.set_servers(&servers);
    client
}

/// An answer to a question, with these flags beside that it is one.
fn answer(question: &[u8], flags: u16, addrs: &[[u8; 4]]) -> Vec<u8> {
    let asked = Message::new(question).unwrap();
    let name = asked.question().unwrap().name;
    let mut buffer = [0; 2000];
    let mut writer = Writer::new(&mut buffer, asked.id(), flag::RESPONSE | flags).unwrap();
    writer.question(&name, kind::A, class::IN).unwrap();
    for addr in addrs {
        writer.record(Section::Answer, &name, kind::A, class::IN, 60, addr).unwrap();
    }
    writer.bytes().to_vec()
}

const START: Mono = Mono(1000);
const TIMEOUT: u64 = 2000;

/// Asks one question, and lets time pass up to each deadline until there is a result.
fn ask(client: &mut Client<usize>, fake: &mut Fake<'_>) -> (Result<Vec<[u8; 4]>, Trouble>, u64) {
    let name = Name::parse(b"2.0.0.127.list.example").unwrap();
    client.ask(START, (&name, kind::A), TIMEOUT, 7, fake).unwrap();
    let (mut now, mut room) = (START, [0; ANSWER]);
    loop {
        if let Some(reply) = client.next(now, fake, &mut room) {
            assert!(reply.tag == 7 && reply.name.is_same(&name));
            assert_eq!(client.in_flight(), 0);
            let octets =
                |m: Message<'_>| m.answers().filter_map(|r| Some(r.unwrap().a()?.octets())).collect();
            return (reply.answer.map(octets), reply.took);
        }
        let pending = |slot: &Option<Slot>| {
            slot.as_ref().is_some_and(|(server, _, all)| !all.is_empty() || fake.dead.contains(server))
        };
        if fake.slots.iter().any(pending) {
            continue;
        }
        let next = client.deadline().unwrap();
        assert!(next > now, "nothing is done again and again");
        now = next;
    }
}

#[test]
fn a_true_answer_is_taken_at_once() {
    let serve = |q: &[u8], _: usize, _: Transport| vec![answer(q, 0, &[[127, 0, 0, 2]])];
    let (mut client, mut fake) = (client(2), fake(&serve));
    assert_eq!(ask(&mut client, &mut fake), (Ok(vec![[127, 0, 0, 2]]), 0));
    assert_eq!(fake.asked.len(), 1);
    let first = fake.asked[0].2.clone();
    ask(&mut client, &mut fake).0.unwrap();
    let second = &fake.asked[1].2;
    assert_ne!(first[..2], second[..2], "another id");
    assert_ne!(first, *second);
    let name = |bytes: &[u8]| Message::new(bytes).unwrap().question().unwrap().name;
    assert_ne!(name(&first).wire(), name(second).wire(), "another case");
}

#[test]
fn that_a_name_is_not_there_is_an_answer() {
    let serve = |q: &[u8], _: usize, _: Transport| vec![answer(q, 3, &[])];
    assert_eq!(ask(&mut client(1), &mut fake(&serve)), (Ok(vec![]), 0));
}

#[test]
fn lies_are_passed_over_and_the_truth_is_waited_for() {
    type Lie = fn(&mut Vec<u8>);
    let lies: [(&str, Lie); 7] = [
        ("another id", |m| m[0] ^= 1),
        ("a question", |m| m[2] &= 0x7f),
        ("another name", |m| m[13] ^= 1),
        ("another type", |m| m[12 + 25] ^= 1),
        ("another kind of message", |m| m[2] |= 5 << 3),
        ("two questions", |m| m[5] = 2),
        ("half a header", |m| m.truncate(11)),
    ];
    for (what, lie) in lies {
        let serve = move |q: &[u8], _: usize, _: Transport| {
            let mut lied = answer(q, 0, &[[127, 0, 0, 2]]);
            lie(&mut lied);
            vec![lied, answer(q, 3, &[])]
        };
        assert_eq!(ask(&mut client(1), &mut fake(&serve)).0, Ok(vec![]), "{what}");
        let serve = move |q: &[u8], _: usize, _: Transport| {
            let mut lied = answer(q, 0, &[[127, 0, 0, 2]]);
            lie(&mut lied);
            vec![lied; 100]
        };
        let (result, took) = ask(&mut client(1), &mut fake(&serve));
        assert_eq!(result, Err(Trouble::Strange), "{what}");
        assert!(took <= TIMEOUT, "{what}");
    }
}

#[test]
fn who_loses_the_case_is_asked_over_a_stream() {
    let serve = |q: &[u8], _: usize, transport: Transport| {
        let mut lowered = answer(q, 0, &[[127, 0, 0, if transport == Transport::Tcp { 2 } else { 9 }]]);
        lowered.make_ascii_lowercase();
        vec![lowered]
    };
    let mut fake = fake(&serve);
    assert_eq!(ask(&mut client(1), &mut fake).0, Ok(vec![[127, 0, 0, 2]]));
    assert_eq!(
        fake.asked.iter().map(|(_, transport, _)| *transport).collect::<Vec<_>>(),
        [Transport::Udp, Transport::Tcp]
    );
}

#[test]
fn what_is_truncated_is_asked_over_a_stream() {
    let serve = |q: &[u8], _: usize, transport: Transport| {
        vec![if transport == Transport::Tcp {
            answer(q, 0, &[[127, 0, 0, 2]])
        } else {
            answer(q, flag::TRUNCATED, &[])
        }]
    };
    assert_eq!(ask(&mut client(1), &mut fake(&serve)).0, Ok(vec![[127, 0, 0, 2]]));
}

#[test]
fn who_does_not_understand_extensions_is_asked_without() {
    let serve = |q: &[u8], _: usize, _: Transport| {
        let plain = Message::new(q).unwrap().count(Section::Additional) == 0;
        vec![answer(q, u16::from(!plain), &[])]
    };
    let mut fake = fake(&serve);
    assert_eq!(ask(&mut client(1), &mut fake).0, Ok(vec![]));
    assert_eq!(fake.asked.len(), 2);
    let serve = |q: &[u8], _: usize, _: Transport| vec![answer(q, 1, &[])];
    assert_eq!(ask(&mut client(1), &mut self::fake(&serve)).0, Err(Trouble::Code(1)));
}

#[test]
fn the_next_server_is_asked_when_one_is_of_no_use() {
    fn good(q: &[u8]) -> Vec<Vec<u8>> {
        vec![answer(q, 3, &[])]
    }
    let cases: [(&str, &Serve, &[usize], u64); 4] = [
        ("refuses", &|q, server, _| if server == 0 { vec![answer(q, 5, &[])] } else { good(q) }, &[], 0),
        ("is silent", &|q, server, _| if server == 0 { vec![] } else { good(q) }, &[], 500),
        ("is dead", &|q, _, _| good(q), &[0], 0),
        (
            "is broken",
            &|q, server, _| {
                let mut whole = answer(q, 0, &[[127, 0, 0, 2]]);
                whole.truncate(whole.len() - if server == 0 { 2 } else { 0 });
                if server == 0 { vec![whole] } else { good(q) }
            },
            &[],
            0,
        ),
    ];
    for (what, serve, dead, wait) in cases {
        let (mut client, mut fake) = (client(2), fake(serve));
        fake.dead = dead.to_vec();
        assert_eq!(ask(&mut client, &mut fake), (Ok(vec![]), wait), "{what}");
        // The next question begins with who was of use.
        assert_eq!(ask(&mut client, &mut fake), (Ok(vec![]), 0), "{what}");
        assert_eq!(fake.asked.last().unwrap().0, 1, "{what}");
    }
}

#[test]
fn in_the_end_it_is_told_why_there_is_no_answer() {
    let silent: &Serve = &|_, _, _| vec![];
    for servers in 1..=4 {
        let mut fake = fake(silent);
        assert_eq!(ask(&mut client(servers), &mut fake), (Err(Trouble::Silent), TIMEOUT));
        assert_eq!(fake.asked.len(), [2, 4, 4, 4][usize::from(servers) - 1]);
        assert!(fake.slots.iter().all(Option::is_none), "sockets are closed");
    }
    let failing: &Serve = &|q, _, _| vec![answer(q, 2, &[])];
    assert_eq!(ask(&mut client(3), &mut fake(failing)), (Err(Trouble::Code(2)), 0));
    let mut dead = fake(silent);
    dead.dead = vec![0, 1];
    assert_eq!(ask(&mut client(2), &mut dead), (Err(Trouble::Unreachable), 0));
    assert_eq!(dead.asked.len(), 2);
    let name = Name::parse(b"a").unwrap();
    let nobody = client(0).ask(START, (&name, kind::A), TIMEOUT, 0, &mut dead);
    assert_eq!(nobody, Err(Trouble::NoServer));
}

#[test]
fn no_more_are_in_flight_than_there_is_room_for() {
    let silent: &Serve = &|_, _, _| vec![];
    let (mut client, mut fake) = (client(1), fake(silent));
    let name = Name::parse(b"a.example").unwrap();
    for tag in 0..FLIGHTS {
        client.ask(START, (&name, kind::A), TIMEOUT, tag, &mut fake).unwrap();
    }
    assert_eq!(client.ask(START, (&name, kind::A), TIMEOUT, 99, &mut fake), Err(Trouble::Busy));
    assert!(client.tags().copied().eq(0..FLIGHTS));
    let mut room = [0; ANSWER];
    assert!(client.next(START, &mut fake, &mut room).is_none());
    let late = START.after(TIMEOUT);
    let failed = std::iter::from_fn(|| client.next(late, &mut fake, &mut room).map(|reply| reply.tag));
    assert!(failed.eq(0..FLIGHTS));
    assert_eq!((client.in_flight(), client.deadline()), (0, None));
}

#[test]
fn aliases_are_followed_and_other_names_are_not_believed() {
    let (alias, other) = (Name::parse(b"alias.example").unwrap(), Name::parse(b"other.example").unwrap());
    let serve = move |q: &[u8], _: usize, _: Transport| {
        let asked = Message::new(q).unwrap();
        let name = asked.question().unwrap().name;
        let mut buffer = [0; 500];
        let mut writer = Writer::new(&mut buffer, asked.id(), flag::RESPONSE).unwrap();
        writer.question(&name, kind::A, class::IN).unwrap();
        let mut put = |owner: &Name, kind, data: &[u8]| {
            writer.record(Section::Answer, owner, kind, class::IN, 60, data).unwrap();
        };
        put(&other, kind::A, &[127, 0, 0, 3]);
        put(&name, kind::CNAME, alias.wire());
        put(&alias, kind::A, &[127, 0, 0, 2]);
        put(&name, kind::A, &[127, 0, 0, 4]);
        writer.record(Section::Additional, &alias, kind::A, class::IN, 60, &[127, 0, 0, 5]).unwrap();
        vec![writer.bytes().to_vec()]
    };
    assert_eq!(ask(&mut client(1), &mut fake(&serve)).0, Ok(vec![[127, 0, 0, 2]]));
}
