//! Any bytes as an answer that should be signed, as a report, as cloud.conf: nothing is believed that is not
//! signed, and what is read is written the same again.

use super::texts;
use mef::base::clock::Wall;
use mef::cloud::reports::read_hour;
use mef::cloud::subject::Subject;
use mef::config::parse_operator;
use mef::dns::name::Name;
use mef::dns::packet::{Message, Section, Writer, class, flag, kind};
use mef::dns::tsig::Key;

/// A text of a report, cloud.conf, and a report as it stands in an answer.
pub fn seeds() -> Vec<Vec<u8>> {
    let mut room = [0; 300];
    let mut writer = Writer::new(&mut room, 1, flag::RESPONSE).unwrap();
    let zone = Name::parse(b"web1.r.cloud.example").unwrap();
    writer.question(&zone, kind::AXFR, class::IN).unwrap();
    for name in ["7.2.0.192.web1.r.cloud.example", "1.0.0.0.2.0.0.0.8.b.d.0.1.0.0.2.web1.r.cloud.example"] {
        let name = Name::parse(name.as_bytes()).unwrap();
        let text = b"\x0fs=sshd t=495000";
        writer.record(Section::Answer, &name, kind::TXT, class::IN, 60, text).unwrap();
    }
    let mut seeds = texts(&[
        "s=sshd t=495000",
        "[cloud]\nzone=cloud.example\nserver=192.0.2.1:53\nkey_file=/etc/mef/cloud.key\nmin_members=3\n\
         [members]\nweb1=acme weight=50 192.0.2.0/24 2001:db8::/48\n",
    ]);
    seeds.push(writer.bytes().to_vec());
    seeds
}

/// What has to hold of any bytes.
pub fn run(data: &[u8]) {
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
}
