#![no_main]
//! Any bytes as an answer of ip_set: what is found of sets, elements and errors stands in it.

use libfuzzer_sys::fuzz_target;
use mef::firewall::ipset::message;
use mef::sys::nlattr::messages;

fuzz_target!(|bytes: &[u8]| {
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
});
