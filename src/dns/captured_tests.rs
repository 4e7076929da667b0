//! What real servers have answered, compared with what the crate `domain` reads in it.
#![allow(clippy::unwrap_used, reason = "tests")]

use super::name::Name;
use super::packet::{Message, Record, kind};
use super::random_tests::{ours, theirs};
use domain::base::Message as Theirs;
use domain::rdata::{A, Aaaa, Txt};
use std::net::{Ipv4Addr, Ipv6Addr};

/// A message, who sent it, and what it answers.
struct Captured {
    server: &'static str,
    name: &'static str,
    about: &'static str,
    bytes: Vec<u8>,
}

fn captured() -> Vec<Captured> {
    let mut all: Vec<Captured> = Vec::new();
    for line in include_str!("../../tests/dns/captured").lines().filter(|line| !line.starts_with('#')) {
        if let Some(hex) = line.strip_prefix("  ") {
            let byte = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
            all.last_mut().unwrap().bytes.extend((0..hex.len()).step_by(2).map(byte));
        } else {
            let words: Vec<&str> = line.split(' ').collect();
            let [server, name, about] = words[..] else { panic!("{line}") };
            all.push(Captured { server, name, about, bytes: Vec::new() });
        }
    }
    all
}

#[test]
fn real_servers_are_read_as_they_read_them() {
    let all = captured();
    assert!(
        ["rbldnsd", "knot", "bind"].iter().all(|who| all.iter().filter(|m| m.server == *who).count() > 10)
    );
    for Captured { server, name, about, bytes } in &all {
        let (message, their) = (Message::new(bytes).unwrap(), Theirs::from_octets(bytes).unwrap());
        let what = format!("{server} {name} {about}");
        assert_eq!(ours(message), theirs(bytes), "{what}");
        assert!(ours(message).is_some() && message.is_response(), "{what}");
        assert_eq!(message.rcode(), their.header().rcode().to_int(), "{what}");
        assert_eq!(message.opcode(), their.header().opcode().to_int(), "{what}");
        if let Some(question) = message.question() {
            // In the case in which it was asked for.
            assert_eq!(question.name.wire(), Name::parse(name.as_bytes()).unwrap().wire(), "{what}");
        }
        // Of a transfer each record has a name of its own.
        if *about == "AXFR" {
            continue;
        }
        let answers = || message.answers().flatten();
        let answer = || their.answer().unwrap();
        let v4: Vec<Ipv4Addr> = answers().filter_map(|record| record.a()).collect();
        let theirs = answer().limit_to::<A>().map(|record| record.unwrap().data().addr().octets().into());
        assert_eq!(v4, theirs.collect::<Vec<Ipv4Addr>>(), "{what}");
        let v6: Vec<Ipv6Addr> = answers().filter_map(|record| record.aaaa()).collect();
        let theirs = answer().limit_to::<Aaaa>().map(|record| record.unwrap().data().addr().octets().into());
        assert_eq!(v6, theirs.collect::<Vec<Ipv6Addr>>(), "{what}");
        let text = |record: Record<'_>| record.txt().flatten().copied().collect();
        let texts: Vec<Vec<u8>> = answers().filter(|record| record.kind == kind::TXT).map(text).collect();
        let theirs = answer().limit_to::<Txt<_>>().map(|record| record.unwrap().data().text::<Vec<u8>>());
        assert_eq!(texts, theirs.collect::<Vec<_>>(), "{what}");
        if (*about, *name) == ("TXT", "9.0.0.20.bl.example") {
            assert_eq!(texts.concat(), b"attacks, see https://list.example/20.0.0.9", "{what}");
        }
    }
}

#[test]
fn of_their_beginnings_no_more_is_believed() {
    for Captured { bytes, .. } in captured() {
        for end in 12..bytes.len() {
            if let Some(seen) = ours(Message::new(&bytes[..end]).unwrap()) {
                assert_eq!(Some(seen), theirs(&bytes[..end]));
            }
        }
    }
}
