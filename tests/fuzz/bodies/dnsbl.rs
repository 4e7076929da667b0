//! Any messages as answers of a DNSBL: nobody is listed by anything but its own answers, what is said of a
//! listing is fit for a log, and no more is asked than there is to ask.

use super::{framed, frames};
use mef::base::clock::Mono;
use mef::config::parse_global;
use mef::dns::name::Name;
use mef::dns::packet::{Message, Section, Writer, class, flag, kind};
use mef::dnsbl::{Dnsbl, Finding, Profile, What};
use std::net::{IpAddr, Ipv4Addr};

const CONF: &[u8] = b"[global]\nrbl_enabled=true\nrbl_x_enabled=true\nrbl_x_zone=bl.example\n\
    rbl_x_answer_match=127.0.0.*\nrbl_x_no_test_entry=true\n";

fn answer(records: &[(u16, &[u8])]) -> Vec<u8> {
    let mut room = [0; 300];
    let mut writer = Writer::new(&mut room, 1, flag::RESPONSE).unwrap();
    let name = Name::parse(b"7.0.0.20.bl.example").unwrap();
    writer.question(&name, kind::A, class::IN).unwrap();
    for (kind, data) in records {
        writer.record(Section::Answer, &name, *kind, class::IN, 60, data).unwrap();
    }
    writer.bytes().to_vec()
}

/// Nothing, a listing and its text, an error, what a resolver makes up.
pub fn seeds() -> Vec<Vec<u8>> {
    let (none, listed) = (answer(&[]), answer(&[(kind::A, &[127, 0, 0, 2])]));
    let text = answer(&[(kind::TXT, b"\x08see \x1b[1m\x03two")]);
    let (refused, made_up) =
        (answer(&[(kind::A, &[127, 255, 255, 254])]), answer(&[(kind::A, &[20, 0, 0, 1])]));
    vec![
        framed(&[&none, &none, &none, &none, &listed, &text, &none, &refused]),
        framed(&[&none, &none, &none, &none, &listed, &listed, &text, &made_up, &none]),
    ]
}

/// What has to hold of any bytes.
pub fn run(data: &[u8]) {
    let (settings, problems) = parse_global(CONF);
    assert!(problems.is_empty());
    let mut now = Mono(1_000_000);
    let profiles: Vec<Profile> = settings.zones_on().filter_map(Profile::of).collect();
    let mut dnsbl = Dnsbl::new(profiles, [1, 2], now);
    let addr = |n: u8| IpAddr::from(Ipv4Addr::new(20, 0, 0, n));
    let mut answers = frames(data);
    let mut asked = 0;
    for turn in 1..=40u8 {
        now = now.after(1000);
        dnsbl.look_up(now, addr(turn % 20));
        while let Some(question) = dnsbl.next_question(now) {
            asked += 1;
            let message = answers.next().and_then(Message::new);
            let what = question.ask.what;
            let finding =
                dnsbl.answered(now, question.ask, 1, message.ok_or(mef::dns::client::Trouble::Broken));
            match finding {
                Finding::Listed(who, reason) => {
                    assert!(matches!(what, What::Text(asked, _) if asked == who));
                    assert!(reason.len() <= 140 && reason.bytes().all(|b| (b' '..=b'~').contains(&b)));
                }
                Finding::Looked(who, _) => assert_eq!(what, What::Addr(who)),
                _ => {}
            }
        }
    }
    assert!(asked <= 40 * (1 + 2), "{asked}");
}
