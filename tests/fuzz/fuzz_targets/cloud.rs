#![no_main]
//! Any bytes as an answer that should be signed, as a report, as cloud.conf: nothing is believed that is not
//! signed, and what is read is written the same again.

use libfuzzer_sys::fuzz_target;
use mef::base::clock::Wall;
use mef::cloud::reports::read_hour;
use mef::cloud::subject::Subject;
use mef::config::parse_operator;
use mef::dns::name::Name;
use mef::dns::packet::{Message, Writer, class, kind};
use mef::dns::tsig::Key;

fuzz_target!(|data: &[u8]| {
    let now = Wall(1_800_000_000);
    let key = Key::parse("hmac-sha256:web1:AAECAwQFBgcICQoLDA0ODw==").unwrap();
    let mut room = [0; 512];
    let mut writer = Writer::new(&mut room, 1, 0).unwrap();
    let zone = Name::parse(b"web1.r.cloud.example").unwrap();
    writer.question(&zone, kind::AXFR, class::IN).unwrap();
    let mut verifier = key.sign(&mut writer, now).unwrap();
    if let Some(message) = Message::new(data) {
        assert!(verifier.next(&message, now).is_err(), "nobody has the secret");
        for record in message.records().flatten() {
            if let Some(who) = Subject::parse(&record.name, 0) {
                let again = who.name(&Name::default());
                assert!(again.and_then(|name| Subject::parse(&name, 0)) == Some(who));
            }
        }
    }
    let _hour = read_hour(data);
    let _operator = parse_operator(data);
});
