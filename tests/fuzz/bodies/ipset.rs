//! Any bytes as an answer of ip_set: what is found of sets, elements and errors stands in it.

use super::made;
use mef::base::range::Family;
use mef::firewall::ipset::message::{self, Command, Elem, Elements, Key, SetSpec, Type};
use mef::sys::nlattr::MsgBuf;
use mef::sys::nlattr::messages;

/// A set and its elements, as they are written.
pub fn seeds() -> Vec<Vec<u8>> {
    let mut buf = MsgBuf::default();
    let spec = SetSpec {
        name: "mef-ban4",
        kind: Type::NetPorts,
        family: Family::V4,
        size: 65_536,
        expected: 9,
        netmask: 24,
        timed: true,
        counters: true,
    };
    message::create(&mut buf, (0, 1), &spec);
    let elements = Elements::open(&mut buf, Command::Add, (0, 2), spec.name);
    let keys = [
        Key::Net("192.0.2.0".parse().unwrap(), 24),
        Key::NetPort("2001:db8::".parse().unwrap(), 32, (6, 22)),
        Key::Set("mef-allow4"),
    ];
    for (number, key) in (1..).zip(keys) {
        elements.push(&mut buf, number, &Elem { key, timeout: Some(600), comment: "sshd 3" });
    }
    elements.close(&mut buf);
    vec![made(|out| out.extend_from_slice(buf.bytes()))]
}

/// What has to hold of any bytes.
pub fn run(bytes: &[u8]) {
    for message in messages(bytes) {
        if let Some(header) = message::header(message.payload) {
            assert!(header.name.len() <= bytes.len());
        }
        for found in message::elements(message.payload) {
            assert!(found.range.is_some() || !found.member.is_empty());
            assert!(found.comment.len() <= bytes.len());
        }
        let _ = message::refused_line(message.payload);
    }
}
