//! Any messages as a signed answer: nothing is believed whose bytes are not those that were signed, also
//! behind a message that was; and keys are read as they are written.

use super::{framed, frames};
use mef::base::clock::Wall;
use mef::dns::name::Name;
use mef::dns::packet::{Message, Section, Writer, class, flag, kind};
use mef::dns::tsig::{Key, Verified};

const NOW: Wall = Wall(1_800_000_000);
const KEY: &str = "hmac-sha256:web1:AAECAwQFBgcICQoLDA0ODw==";

/// A message with a record of that data in the place of a signature.
fn message(data: &[u8], rcode: u16) -> Vec<u8> {
    let mut room = [0; 300];
    let mut writer = Writer::new(&mut room, 1, flag::RESPONSE | rcode).unwrap();
    let zone = Name::parse(b"web1.r.cloud.example").unwrap();
    writer.question(&zone, kind::SOA, class::IN).unwrap();
    if !data.is_empty() {
        let owner = Name::parse(b"web1").unwrap();
        writer.record(Section::Additional, &owner, kind::TSIG, class::ANY, 0, data).unwrap();
    }
    writer.bytes().to_vec()
}

/// What a signature looks like, empty ones with an error, none; and a key.
pub fn seeds() -> Vec<Vec<u8>> {
    let data = |mac: &[u8], error: u16, other: &[u8]| {
        let [a, b] = (mac.len() as u16).to_be_bytes();
        let ([c, d], [e, f]) = (error.to_be_bytes(), (other.len() as u16).to_be_bytes());
        let time = [&NOW.0.to_be_bytes()[2..], &[1, 44, a, b]].concat();
        [b"\x0bhmac-sha256\0", &time[..], mac, &[0, 1, c, d, e, f], other].concat()
    };
    let signed = message(&data(&[7; 32], 0, &[]), 0);
    let time = message(&data(&[7; 32], 18, &NOW.0.to_be_bytes()[2..]), 9);
    let refused = message(&data(&[], 17, &[]), 9);
    let plain = message(&[], 5);
    vec![framed(&[&signed, &plain]), framed(&[&time]), framed(&[&refused]), framed(&[&plain]), KEY.into()]
}

/// What has to hold of any bytes.
pub fn run(data: &[u8]) {
    if let Some(key) = std::str::from_utf8(data).ok().and_then(|text| Key::parse(text).ok()) {
        assert_eq!(Key::parse(&key.text()).map(|again| again.text()), Ok(key.text()));
    }
    let key = Key::parse(KEY).unwrap();
    let mut room = [0; 512];
    let mut writer = Writer::new(&mut room, 1, 0).unwrap();
    writer.question(&Name::parse(b"web1.r.cloud.example").unwrap(), kind::SOA, class::IN).unwrap();
    let mut verifier = key.sign(&mut writer, NOW).unwrap();
    for message in frames(data).filter_map(Message::new) {
        // Its own question is signed, but is no answer.
        assert_ne!(verifier.next(&message, NOW), Ok(Verified::Signed), "nobody has the secret");
        assert!(!verifier.is_complete());
    }
}
