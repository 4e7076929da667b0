//! Random messages, compared with those of the crate `domain`: what it writes is read, what is written it
//! reads, and of broken ones no more is believed than it believes.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::net::{Ipv4Addr, Ipv6Addr};

use domain::base::ToName as _;
use domain::base::iana::{Class, Opcode, Rcode};
use domain::base::message_builder::{MessageBuilder, TreeCompressor};
use domain::base::{Message as Theirs, Name as TheirName, ParsedName, Rtype, Serial, Ttl, UnknownRecordData};
use domain::rdata::{A, Aaaa, Cname, Soa, Txt};
use fastrand::Rng;

use super::name::Name;
use super::packet::{Message, Record, Section, Writer, class, flag, kind};

/// A name that often shares its end with others.
pub(super) fn name(rng: &mut Rng) -> Name {
    let mut name = Name::default();
    for _ in 0..rng.usize(..5) {
        let label: Vec<u8> = match rng.u8(..4) {
            0 => (0..rng.usize(1..64)).map(|_| rng.u8(..)).collect(),
            1 => vec![rng.u8(b'a'..b'd')],
            _ => b"Example"[..rng.usize(1..8)].to_vec(),
        };
        name = name.push(&label).unwrap_or(name);
    }
    name
}

pub(super) fn their(name: &Name) -> TheirName<Vec<u8>> {
    TheirName::from_octets(name.wire().to_vec()).unwrap()
}

/// What of a record both must see in the same way.
pub(super) type Seen = (Vec<u8>, u16, u16, u32, usize);

pub(super) fn ours(message: Message<'_>) -> Option<Vec<Seen>> {
    let seen = |r: Record<'_>| (r.name.wire().to_vec(), r.kind, r.class, r.ttl, r.data.len());
    message.records().map(|record| record.ok().map(seen)).collect()
}

pub(super) fn theirs(bytes: &[u8]) -> Option<Vec<Seen>> {
    let message = Theirs::from_octets(bytes).unwrap();
    let mut seen = Vec::new();
    for record in message.iter() {
        let (record, _) = record.ok()?;
        let owner: TheirName<Vec<u8>> = record.owner().try_to_name().ok()?;
        let data: UnknownRecordData<&[u8]> = record.to_record().ok()??.into_data();
        let numbers = (record.rtype().to_int(), record.class().to_int(), record.ttl().as_secs());
        seen.push((owner.as_slice().to_vec(), numbers.0, numbers.1, numbers.2, data.data().len()));
    }
    Some(seen)
}

/// A message of all types that are read, compressed as far as it goes.
fn written_by_them(rng: &mut Rng) -> (Vec<u8>, Vec<Name>) {
    let mut message = MessageBuilder::from_target(TreeCompressor::new(Vec::new())).unwrap();
    message.header_mut().set_id(rng.u16(..));
    message.header_mut().set_qr(true);
    message.header_mut().set_opcode(Opcode::QUERY);
    message.header_mut().set_rcode(Rcode::NXDOMAIN);
    let mut question = message.question();
    let mut names = vec![name(rng)];
    question.push((their(&names[0]), Rtype::A, Class::IN)).unwrap();
    let mut answer = question.answer();
    let ttl = Ttl::from_secs(rng.u32(..));
    for _ in 0..rng.usize(..6) {
        let (owner, other) = (name(rng), name(rng));
        let theirs = (their(&owner), Class::IN, ttl);
        let (owner, class, ttl) = theirs;
        match rng.u8(..5) {
            0 => answer.push((owner, class, ttl, A::new(rng.u32(..).into()))).unwrap(),
            1 => answer.push((owner, class, ttl, Aaaa::new(rng.u128(..).into()))).unwrap(),
            2 => answer.push((owner, class, ttl, Cname::new(their(&other)))).unwrap(),
            3 => {
                let text: Txt<Vec<u8>> = Txt::build_from_slice(&vec![b'x'; rng.usize(..600)]).unwrap();
                answer.push((owner, class, ttl, text)).unwrap();
            }
            _ => {
                let (serial, minimum) = (Serial(rng.u32(..)), Ttl::from_secs(rng.u32(..)));
                let soa = Soa::new(their(&other), their(&other), serial, ttl, ttl, ttl, minimum);
                answer.push((owner, class, ttl, soa)).unwrap();
            }
        }
        names.push(other);
    }
    (answer.finish().into_target(), names)
}

#[test]
fn what_they_write_is_read() {
    let mut rng = Rng::with_seed(53);
    for _ in 0..3000 {
        let (bytes, names) = written_by_them(&mut rng);
        let message = Message::new(&bytes).unwrap();
        assert!(message.is_response() && message.rcode() == 3 && message.opcode() == 0);
        assert_eq!(message.question().unwrap().name.wire(), names[0].wire());
        assert_eq!(ours(message), theirs(&bytes));
        assert!(ours(message).is_some());
        for (record, other) in message.records().zip(&names[1..]) {
            let record = record.unwrap();
            let octets = record.data;
            match record.kind {
                kind::A => assert_eq!(record.a(), Some(<[u8; 4]>::try_from(octets).unwrap().into())),
                kind::AAAA => assert_eq!(record.aaaa(), Some(<[u8; 16]>::try_from(octets).unwrap().into())),
                kind::TXT => assert!(record.txt().flatten().all(|byte| *byte == b'x')),
                kind::CNAME => assert!(record.target().unwrap().is_same(other)),
                _ => assert!(record.soa().unwrap().primary.is_same(other)),
            }
        }
    }
}

#[test]
fn they_read_what_is_written() {
    let mut rng = Rng::with_seed(54);
    for _ in 0..3000 {
        let mut buffer = vec![0; rng.usize(12..900)];
        let mut writer = Writer::new(&mut buffer, rng.u16(..), flag::RECURSION_DESIRED).unwrap();
        let zone = name(&mut rng);
        let asked = writer.question(&zone, kind::A, class::IN).is_ok();
        let mut wanted = Vec::new();
        for _ in 0..if asked { rng.usize(..20) } else { 0 } {
            let owner = name(&mut rng);
            let owner = if rng.bool() { owner.join(&zone).unwrap_or(owner) } else { owner };
            let data = vec![7; rng.usize(..40)];
            let (number, ttl) = (rng.u16(1000..2000), rng.u32(..));
            if writer.record(Section::Authority, &owner, number, class::IN, ttl, &data).is_ok() {
                wanted.push((owner.wire().to_vec(), number, class::IN, ttl, data.len()));
            }
        }
        if asked && writer.edns(1232).is_ok() {
            wanted.push((vec![0], kind::OPT, 1232, 0, 0));
        }
        let bytes = writer.bytes();
        assert_eq!(theirs(bytes).as_ref(), Some(&wanted));
        assert_eq!(ours(Message::new(bytes).unwrap()), Some(wanted));
        let question = Theirs::from_octets(bytes).unwrap().first_question();
        assert_eq!(question.is_some(), asked);
    }
}

#[test]
fn of_broken_messages_no_more_is_believed() {
    let mut rng = Rng::with_seed(55);
    let (mut whole, mut broken) = (0, 0);
    for _ in 0..30_000 {
        let (mut bytes, _) = written_by_them(&mut rng);
        for _ in 0..rng.usize(1..4) {
            let at = rng.usize(4..bytes.len());
            match rng.u8(..4) {
                0 => bytes.truncate(at.max(12)),
                1 => bytes.insert(at, rng.u8(..)),
                2 => bytes[at] = 0xc0,
                _ => bytes[at] = rng.u8(..),
            }
        }
        let message = Message::new(&bytes).unwrap();
        for record in message.records().flatten() {
            let _ = (record.a(), record.aaaa(), record.txt().count(), record.soa(), record.target());
        }
        match ours(message) {
            Some(seen) => {
                whole += 1;
                assert_eq!(Some(seen), theirs(&bytes));
            }
            None => broken += 1,
        }
    }
    assert!(whole > 1000 && broken > 1000, "{whole} {broken}");
}

#[test]
fn names_are_shown_as_they_show_them() {
    let mut rng = Rng::with_seed(56);
    for _ in 0..3000 {
        let name = name(&mut rng);
        assert_eq!(name.to_string(), their(&name).to_string());
        let parsed: ParsedName<&[u8]> =
            ParsedName::parse(&mut domain::dep::octseq::Parser::from_ref(name.wire())).unwrap();
        assert_eq!(Name::read(name.wire(), 0).unwrap().0.labels().count() + 1, parsed.label_count());
    }
    let zone = Name::parse(b"zone.example").unwrap();
    for _ in 0..3000 {
        let v4 = Ipv4Addr::from_bits(rng.u32(..)).into();
        let v6 = Ipv6Addr::from_bits(rng.u128(..) >> (rng.u32(..4) * 32)).into();
        for addr in [v4, v6] {
            assert_eq!(Name::of_addr(addr, &zone).unwrap().to_addr(&zone), Some(addr));
        }
    }
}
