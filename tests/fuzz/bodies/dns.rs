//! Any bytes as a message of the DNS: what is read lies in it, and what is written again reads the same.

use mef::dns::name::Name;
use mef::dns::packet::{Message, Section, Writer, class, flag, kind};

/// An answer with a record of each kind that is read, one to an UPDATE, and one with a loop of pointers.
pub fn seeds() -> Vec<Vec<u8>> {
    let mut room = [0; 600];
    let mut answer = Writer::new(&mut room, 7, flag::RESPONSE | flag::TRUNCATED).unwrap();
    let name = Name::parse(b"7.2.0.192.bl.example").unwrap();
    answer.question(&name, kind::A, class::IN).unwrap();
    let soa = [name.wire(), &[0], &[9; 20]].concat();
    let records: [(u16, &[u8]); 5] = [
        (kind::CNAME, name.wire()),
        (kind::A, &[127, 0, 0, 2]),
        (kind::AAAA, &[1; 16]),
        (kind::TXT, b"\x04text\x00\x01x"),
        (kind::SOA, &soa),
    ];
    for (kind, data) in records {
        answer.record(Section::Answer, &name, kind, class::IN, 60, data).unwrap();
    }
    answer.edns(1232).unwrap();
    let whole = answer.bytes().to_vec();
    let mut update = [0; 100];
    let mut update = Writer::new(&mut update, 7, flag::UPDATE).unwrap();
    update.question(&name, kind::SOA, class::IN).unwrap();
    update.record(Section::Authority, &name, kind::TXT, class::ANY, 0, &[]).unwrap();
    let looped = [&whole[..12], &[0xc0, 14, 0xc0, 12, 0, 1, 0, 1]].concat();
    vec![whole, update.bytes().to_vec(), looped]
}

/// What has to hold of any bytes.
pub fn run(data: &[u8]) {
    let Some(message) = Message::new(data) else { return };
    let mut buffer = vec![0; 65_535];
    let Ok(mut writer) = Writer::new(&mut buffer, message.id(), message.flags()) else { return };
    let question = message.question();
    if let Some(question) = question {
        assert!(writer.question(&question.name, question.kind, question.class).is_ok());
    }
    let mut kept = Vec::new();
    for record in message.records().flatten() {
        assert!(record.start < data.len());
        let _views = (record.a(), record.aaaa(), record.soa(), record.target(), record.name.to_string());
        assert!(record.txt().flatten().count() <= record.data.len());
        if let Some(addr) = record.name.to_addr(&Name::default()) {
            let again = Name::of_addr(addr, &Name::default());
            assert!(again.is_some_and(|name| name.is_same(&record.name)));
        }
        let section = record.section;
        if writer.record(section, &record.name, record.kind, record.class, record.ttl, record.data).is_ok() {
            kept.push(record);
        }
    }
    let again = Message::new(writer.bytes());
    let mut again = again.iter().flat_map(Message::records);
    for record in kept {
        let read = again.next().and_then(Result::ok);
        assert!(read.is_some_and(|read| read.name.is_same(&record.name) && read.data == record.data));
    }
    assert!(again.next().is_none());
}
