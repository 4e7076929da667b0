//! Any bytes as what is kept of host names, as answers to them and as resolv.conf: what a name leads to is
//! bounded, and private only where that was meant; nobody is asked for a name twice in a minute.

use super::{framed, frames};
use mef::ban::is_bogon;
use mef::base::clock::Mono;
use mef::dns::client::Trouble;
use mef::dns::name::Name;
use mef::dns::packet::{Message, Section, Writer, class, flag, kind};
use mef::dns::resolv;
use mef::lists::hosts::{Hosts, read_record};
use std::collections::BTreeMap;

/// Two names, and an answer for the first.
pub fn seeds() -> Vec<Vec<u8>> {
    let kept = b"admin.example - 20.0.0.5,2600::5 home.conf\nother.example force 10.0.0.1 my list.conf\n";
    let mut room = [0; 300];
    let mut writer = Writer::new(&mut room, 1, flag::RESPONSE).unwrap();
    let name = Name::parse(b"admin.example").unwrap();
    writer.question(&name, kind::A, class::IN).unwrap();
    for (kind, data) in [(kind::A, &[20, 0, 0, 8][..]), (kind::A, &[10, 9, 9, 9]), (kind::AAAA, &[32; 16])] {
        writer.record(Section::Answer, &name, kind, class::IN, 7, data).unwrap();
    }
    let answer = writer.bytes();
    let servers =
        b"search example.org\nnameserver 192.0.2.1\nnameserver fe80::1%7\nnameserver 2001:db8::53\n";
    vec![framed(&[kept, answer, answer, &[], answer]), servers.to_vec()]
}

/// What has to hold of any bytes.
pub fn run(data: &[u8]) {
    assert!(resolv::servers(data).len() <= 4);
    let mut parts = frames(data);
    let Some(kept) = parts.next() else { return };
    let mut now = Mono(1_000_000);
    let mut hosts = Hosts::default();
    hosts.set(read_record(&String::from_utf8_lossy(kept)), now);
    let before: Vec<_> = hosts.to_keep();
    assert!(before.len() <= 64);
    let mut asked = BTreeMap::new();
    for _ in 0..3 {
        while let Some(question) = hosts.next_question(now) {
            let earlier = asked.insert((question.number, question.six), now);
            assert!(earlier.is_none_or(|earlier: Mono| earlier.after(60_000) <= now));
            let answer = parts.next().and_then(Message::new).ok_or(Trouble::Silent);
            hosts.answered(now, (question.number, question.six), answer);
        }
        assert!(asked.len() <= 2 * before.len());
        let Some(next) = hosts.deadline() else { return };
        assert!(now < next && next <= now.after(86_400_000));
        now = next;
    }
    for (host, was) in hosts.to_keep().iter().zip(&before) {
        assert!(host.addrs.len() <= 32 && host.name == was.name);
        assert!(host.force || host.addrs == was.addrs || !host.addrs.iter().any(|addr| is_bogon(*addr)));
    }
}
