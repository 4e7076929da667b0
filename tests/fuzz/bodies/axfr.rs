//! Any messages as a transfer of a zone: no record is handed on that does not stand between the two starts of
//! authority, and it has ended only behind the second one.

use super::{framed, frames};
use mef::cloud::transfer::{Transfer, TransferState};
use mef::dns::name::Name;
use mef::dns::packet::{Message, Section, Writer, class, flag, kind};

fn zone() -> Name {
    Name::parse(b"bl.cloud.example").unwrap()
}

fn message(fill: impl FnOnce(&mut Writer<'_>)) -> Vec<u8> {
    let mut room = [0; 600];
    let mut writer = Writer::new(&mut room, 7, flag::RESPONSE).unwrap();
    writer.question(&zone(), kind::AXFR, class::IN).unwrap();
    fill(&mut writer);
    writer.bytes().to_vec()
}

fn put(writer: &mut Writer<'_>, name: &str, kind: u16, data: &[u8]) {
    let name = Name::parse([name, "bl.cloud.example"].concat().as_bytes()).unwrap();
    writer.record(Section::Answer, &name, kind, class::IN, 300, data).unwrap();
}

/// A transfer in three messages, and one in one message.
pub fn seeds() -> Vec<Vec<u8>> {
    let soa = [zone().wire(), zone().wire(), &[0, 0, 0, 9], &[0; 16]].concat();
    let first = message(|w| put(w, "", kind::SOA, &soa));
    let middle = message(|w| {
        put(w, "7.2.0.192.", kind::A, &[127, 0, 0, 2]);
        put(w, "7.2.0.192.", kind::TXT, b"\x22reported by 3 members of 3 groups!");
        put(w, "2.0.0.127.", kind::A, &[127, 0, 0, 2]);
    });
    let whole = message(|w| {
        put(w, "", kind::SOA, &soa);
        put(w, "*.7.2.0.192.", kind::A, &[127, 0, 0, 2]);
        put(w, "", kind::SOA, &soa);
    });
    vec![framed(&[&first, &middle, &first]), framed(&[&whole])]
}

/// What has to hold of any bytes.
pub fn run(data: &[u8]) {
    let (zone, mut handed) = (zone(), Vec::new());
    let mut transfer = Transfer::new(&zone);
    let (mut starts, mut between) = (0, 0);
    for bytes in frames(data) {
        let Some(message) = Message::new(bytes) else { return };
        let answers = message.records().take_while(Result::is_ok).flatten();
        for record in answers.filter(|record| record.section == Section::Answer) {
            starts += usize::from(record.soa().is_some());
            between += usize::from(starts == 1);
        }
        let state = transfer.take(&message, &mut |record| {
            handed.push(record.name);
            Ok(())
        });
        assert!(handed.len() <= between);
        match state {
            Ok(TransferState::Open) => assert!(starts < 2),
            Ok(TransferState::Ended) => {
                assert!(starts == 2 && handed.len() == between, "{starts} {between}");
                return;
            }
            Err(_) => return,
        }
    }
}
