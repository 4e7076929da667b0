#![no_main]
//! Any bytes as a message of the DNS: what is read lies in it, and what is written again reads the same.

use libfuzzer_sys::fuzz_target;
use mef::dns::name::Name;
use mef::dns::packet::{Message, Writer};

fuzz_target!(|data: &[u8]| {
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
});
