#![forbid(unsafe_code)]
//! Packets that rules are tried with.

use crate::base::name::IfName;
use crate::base::range::Family;
use crate::plan::Direction::{self, In, Out, Pre};
use crate::plan::Field;
use crate::plan::ct::NEW;
use crate::plan::run::Packet;

pub(super) const TCP: u8 = 6;
pub(super) const UDP: u8 = 17;
pub(super) const ICMP: u8 = 1;
pub(super) const ICMP6: u8 = 58;
pub(super) const SYN: u128 = 2;
pub(super) const ACK: u128 = 16;
/// `RTN_*`.
pub(super) const UNICAST: u128 = 1;
pub(super) const LOCAL: u128 = 2;
pub(super) const MULTICAST: u128 = 5;
/// `PACKET_HOST`, `PACKET_MULTICAST`.
pub(super) const FOR_THIS_HOST: u128 = 0;
pub(super) const FOR_A_GROUP: u128 = 2;
/// The number of no extension header (IPPROTO_RAW).
pub(super) const NO_HEADER: u128 = 255;

pub(super) fn packet(
    direction: Direction,
    family: Family,
    proto: u8,
    ports: (u16, u16),
    state: u8,
) -> Packet {
    let ports = if proto == TCP || proto == UDP { (Some(ports.0), Some(ports.1)) } else { (None, None) };
    let always = state != NEW;
    let (addrs, links, icmp) = ((None, None), (None, None), None);
    let mut facts = kinds(direction);
    // None has an extension header.
    facts.push((Field::Header, Some(NO_HEADER)));
    if proto == TCP {
        facts.push((Field::Flags, Some(if state == NEW { SYN } else { ACK })));
    }
    Packet { direction, family, proto, ports, icmp, state, addrs, links, always, facts }
}

/// What the routes say of where packets of this host come from and go to.
fn kinds(direction: Direction) -> Vec<(Field, Option<u128>)> {
    let from = |src, dst| vec![(Field::SrcKind, Some(src)), (Field::DstKind, Some(dst))];
    match direction {
        // By the way that leads back.
        In => {
            let frame = (Field::PacketType, Some(FOR_THIS_HOST));
            [from(UNICAST, LOCAL), vec![(Field::WayBack, Some(1)), frame]].concat()
        }
        Out => from(LOCAL, UNICAST),
        _ => Vec::new(),
    }
}

/// A packet of which something is known otherwise.
pub(super) fn with(mut packet: Packet, facts: &[(Field, Option<u128>)]) -> Packet {
    packet.facts.retain(|(field, _)| facts.iter().all(|other| other.0 != *field));
    packet.facts.extend_from_slice(facts);
    packet
}

/// A packet over an interface.
pub(super) fn over(mut packet: Packet, link: Option<IfName>) -> Packet {
    match packet.direction {
        In | Pre => packet.links.0 = link,
        Out => packet.links.1 = link,
        _ => {}
    }
    packet
}
