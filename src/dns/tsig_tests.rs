//! Signatures, compared with those of the crate `domain` on random messages: it believes what is signed here,
//! what it signs is believed, and of what was changed on the way both believe the same.
#![allow(clippy::unwrap_used, reason = "tests")]

use domain::base::ToName as _;
use domain::base::iana::{Class, Rcode};
use domain::base::message_builder::{AdditionalBuilder, MessageBuilder};
use domain::base::{Message as Theirs, Name as TheirName, Rtype, Ttl};
use domain::rdata::Txt;
use domain::rdata::tsig::Time48;
use domain::tsig::{Algorithm, ClientSequence, ClientTransaction, Key as TheirKey};
use domain::tsig::{ServerSequence, ServerTransaction};
use fastrand::Rng;
use std::sync::Arc;

use super::packet::{Message, Section, Writer, class, flag, kind};
use super::random_tests::{name, their, theirs};
use super::tsig::{Key, Verified, Verifier};
use crate::base::clock::Wall;

const NOW: Wall = Wall(1_800_000_000);

fn now() -> Time48 {
    Time48::from_u64(NOW.0)
}

/// The same key twice.
fn keys(rng: &mut Rng) -> (Key, Arc<TheirKey>) {
    let secret: Vec<u8> = (0..rng.usize(16..100)).map(|_| rng.u8(..)).collect();
    let name = name(rng);
    let their_name = TheirName::from_octets(name.wire().try_into().unwrap()).unwrap();
    let theirs = TheirKey::new(Algorithm::Sha256, &secret, their_name, None, None).unwrap();
    (Key::new(name, secret).unwrap(), Arc::new(theirs))
}

/// Changes one thing behind the header's first word.
fn meddle(rng: &mut Rng, bytes: &mut Vec<u8>) {
    let at = rng.usize(2..bytes.len());
    match rng.u8(..8) {
        0 => bytes.truncate(at.max(12)),
        1 => bytes.insert(at, rng.u8(..)),
        2 => drop(bytes.remove(at)),
        3 => bytes[at] = rng.u8(..),
        _ => bytes[at] ^= 1 << rng.u8(..8),
    }
}

/// Whether a signature is said to hold longer than for this message, or by another class, or tells an error:
/// they do not look, and a signature behind the first of a transfer does not sign that itself.
fn is_odd(message: &Message<'_>) -> bool {
    let odd = |record: super::packet::Record<'_>| {
        record.kind == kind::TSIG
            && (record.class != class::ANY || record.ttl != 0 || !record.data.ends_with(&[0; 4]))
    };
    message.records().flatten().any(odd)
}

#[test]
fn they_believe_what_is_signed() {
    let mut rng = Rng::with_seed(57);
    for _ in 0..1000 {
        let (key, their_key) = keys(&mut rng);
        let mut buffer = vec![0; 4000];
        let mut update = Writer::new(&mut buffer, rng.u16(..), flag::UPDATE).unwrap();
        let zone = name(&mut rng);
        update.question(&zone, kind::SOA, class::IN).unwrap();
        for _ in 0..rng.usize(..9) {
            let owner = name(&mut rng).join(&zone).unwrap_or(zone);
            let (class, ttl, data) = match rng.u8(..3) {
                0 => (class::ANY, 0, vec![]),
                1 => (class::NONE, 0, b"\x01x".to_vec()),
                _ => (class::IN, rng.u32(..), b"\x0fs=sshd t=495000".to_vec()),
            };
            update.record(Section::Authority, &owner, kind::TXT, class, ttl, &data).unwrap();
        }
        let plain = update.bytes().to_vec();
        key.sign(&mut update, NOW).unwrap();
        let signed = update.bytes().to_vec();
        let at = Time48::from_u64(NOW.0 + rng.u64(..300));
        let mut message = Theirs::from_octets(signed.clone()).unwrap();
        let believed = ServerTransaction::request(&their_key, &mut message, at);
        assert!(believed.is_ok_and(|signature| signature.is_some()));
        assert_eq!(message.as_slice()[..plain.len()], plain, "and see what was signed");
        assert_eq!(message.header().opcode().to_int(), 5);
        let shown = message.sole_question().unwrap();
        assert_eq!((shown.qname().to_vec(), shown.qtype()), (their(&zone), Rtype::SOA));
        let updates: Vec<_> = Message::new(&plain).unwrap().records().flatten().collect();
        assert_eq!(theirs(&plain).unwrap().len(), updates.len());
        // Not with another secret, and not later.
        let (_, other) = keys(&mut rng);
        let mut message = Theirs::from_octets(signed.clone()).unwrap();
        assert!(ServerTransaction::request(&other, &mut message, at).is_err());
        let mut message = Theirs::from_octets(signed).unwrap();
        let late = Time48::from_u64(NOW.0 + 301);
        assert!(ServerTransaction::request(&their_key, &mut message, late).is_err());
    }
}

/// A question, signed by both with the same result.
struct Asked<'k, T> {
    bytes: Vec<u8>,
    ours: Verifier<'k>,
    theirs: T,
}

fn ask<'k, T>(
    rng: &mut Rng,
    key: &'k Key,
    kinds: (u16, Rtype),
    sign: impl Fn(&mut AdditionalBuilder<Vec<u8>>) -> T,
) -> Asked<'k, T> {
    let (zone, id) = (name(rng), rng.u16(..));
    let mut message = MessageBuilder::new_vec();
    message.header_mut().set_id(id);
    let mut message = message.question();
    message.push((their(&zone), kinds.1, Class::IN)).unwrap();
    let mut message = message.additional();
    let theirs = sign(&mut message);
    let mut buffer = vec![0; 2000];
    let mut writer = Writer::new(&mut buffer, id, 0).unwrap();
    writer.question(&zone, kinds.0, class::IN).unwrap();
    let ours = key.sign(&mut writer, NOW).unwrap();
    // The owner is compressed here where it is below the zone.
    if !key.name().is_below(&zone) {
        assert_eq!(writer.bytes(), message.as_slice());
    }
    Asked { bytes: writer.bytes().to_vec(), ours, theirs }
}

/// An answer with some records.
fn answer(rng: &mut Rng, request: &[u8]) -> AdditionalBuilder<Vec<u8>> {
    let request = Theirs::from_octets(request.to_vec()).unwrap();
    let code = if rng.u8(..4) == 0 { Rcode::REFUSED } else { Rcode::NOERROR };
    let mut message = MessageBuilder::new_vec().start_answer(&request, code).unwrap();
    for _ in 0..rng.usize(..4) {
        let text: Txt<Vec<u8>> = Txt::build_from_slice(&vec![b'x'; rng.usize(..40)]).unwrap();
        message.push((their(&name(rng)), Class::IN, Ttl::from_secs(rng.u32(..)), text)).unwrap();
    }
    message.additional()
}

#[test]
fn of_an_answer_both_believe_the_same() {
    let mut rng = Rng::with_seed(58);
    let (mut believed, mut refused) = (0, 0);
    for _ in 0..10_000 {
        let (key, their_key) = keys(&mut rng);
        let sign = |message: &mut AdditionalBuilder<Vec<u8>>| {
            ClientTransaction::request(their_key.clone(), message, now()).unwrap()
        };
        let mut asked = ask(&mut rng, &key, (kind::SOA, Rtype::SOA), sign);
        let mut request = Theirs::from_octets(asked.bytes.clone()).unwrap();
        let server = ServerTransaction::request(&their_key, &mut request, now()).unwrap().unwrap();
        let mut message = answer(&mut rng, &asked.bytes);
        let at = NOW.0 + rng.u64(..400) - 200;
        server.answer(&mut message, Time48::from_u64(at)).unwrap();
        let mut bytes = message.finish();
        let changed = rng.bool();
        if changed {
            meddle(&mut rng, &mut bytes);
        }
        let message = Message::new(&bytes).unwrap();
        let got = asked.ours.next(&message, NOW);
        let want = asked.theirs.answer(&mut Theirs::from_octets(bytes.clone()).unwrap(), now());
        if is_odd(&message) {
            assert!(got.is_err());
            continue;
        }
        assert_eq!(got.is_ok(), want.is_ok(), "{got:?} {want:?} {}", bytes.escape_ascii());
        assert!(changed || got == Ok(Verified::Signed));
        *(if got.is_ok() { &mut believed } else { &mut refused }) += 1;
    }
    assert!(believed > 4000 && refused > 4000, "{believed} {refused}");
}

#[test]
fn of_a_transfer_both_believe_the_same() {
    let mut rng = Rng::with_seed(59);
    let (mut believed, mut refused) = (0, 0);
    for _ in 0..3000 {
        let (key, their_key) = keys(&mut rng);
        let sign = |message: &mut AdditionalBuilder<Vec<u8>>| {
            ClientSequence::request(their_key.clone(), message, now()).unwrap()
        };
        let mut asked = ask(&mut rng, &key, (kind::AXFR, Rtype::AXFR), sign);
        let mut request = Theirs::from_octets(asked.bytes.clone()).unwrap();
        let mut server = ServerSequence::request(&their_key, &mut request, now()).unwrap().unwrap();
        let mut messages: Vec<Vec<u8>> = (0..rng.usize(1..6))
            .map(|_| {
                let mut message = answer(&mut rng, &asked.bytes);
                message.header_mut().set_rcode(Rcode::NOERROR);
                server.answer(&mut message, now()).unwrap();
                message.finish()
            })
            .collect();
        let at = rng.usize(..messages.len());
        match rng.u8(..6) {
            0 => drop(messages.remove(at)),
            1 => {
                let other = rng.usize(..messages.len());
                messages.swap(at, other);
            }
            2 => messages.insert(at, answer(&mut rng, &asked.bytes).finish()),
            3 => meddle(&mut rng, &mut messages[at]),
            _ => {}
        }
        // Both give up with the first one that they do not believe.
        let mut got = true;
        for bytes in &messages {
            got &= got && asked.ours.next(&Message::new(bytes).unwrap(), NOW).is_ok();
        }
        let mut client = asked.theirs;
        let mut want = true;
        for bytes in &messages {
            let mut message = Theirs::from_octets(bytes.clone()).unwrap();
            want &= want && client.answer(&mut message, now()).is_ok();
        }
        let got = got && (asked.ours.is_complete() || messages.is_empty());
        let want = want && client.done().is_ok();
        let of_us = |message: Message<'_>| is_odd(&message) || message.rcode() != 0;
        let stricter = messages.iter().any(|bytes| Message::new(bytes).is_some_and(of_us));
        assert!(got == want || stricter && !got, "{got} {want}");
        *(if got { &mut believed } else { &mut refused }) += 1;
    }
    assert!(believed > 1000 && refused > 1000, "{believed} {refused}");
}

#[test]
fn names_are_told_apart_as_they_tell_them() {
    let mut rng = Rng::with_seed(60);
    let mut same = 0;
    for _ in 0..10_000 {
        let (one, mut other) = (name(&mut rng), name(&mut rng));
        if rng.bool() {
            other = one.mix_case(rng.u64(..));
        }
        if rng.u8(..4) == 0 {
            other = name(&mut rng).join(&other).unwrap_or(other);
        }
        let (a, b) = (their(&one), their(&other));
        assert_eq!(one.is_same(&other), a == b, "{one} {other}");
        assert_eq!(other.is_below(&one), b.ends_with(&a), "{one} {other}");
        let mut canonical = Vec::new();
        a.compose_canonical(&mut canonical).unwrap();
        assert_eq!(one.to_lower().wire(), canonical);
        same += u32::from(a == b);
    }
    assert!(same > 1000);
}
