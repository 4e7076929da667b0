use super::*;
use crate::dns::packet::flag;

const NOW: Wall = Wall(1_800_000_000);

fn name(text: &str) -> Name {
    Name::parse(text.as_bytes()).unwrap()
}

fn key(text: &str, fill: u8) -> Key {
    Key::new(name(text), vec![fill; MAC]).unwrap()
}

fn question(buffer: &mut [u8], flags: u16) -> Writer<'_> {
    let mut writer = Writer::new(buffer, 7, flags).unwrap();
    writer.question(&name("web1.r.cloud.example"), kind::SOA, class::IN).unwrap();
    writer
}

/// Where a message is among those of an answer.
#[derive(Clone, Copy, PartialEq, Eq)]
enum MessagePlace {
    First,
    Later,
}

/// What a server answers: the message, signed behind `prior`; `rest` are messages of a transfer before it
/// without a signature.
fn answer(
    key: &Key,
    prior: &[u8],
    rest: &[Vec<u8>],
    place: MessagePlace,
    (error, at): (u16, Wall),
) -> (Vec<u8>, [u8; MAC]) {
    let mut buffer = [0; 512];
    let mut writer = question(&mut buffer, flag::RESPONSE);
    let mut hmac = key.hmac(prior);
    rest.iter().for_each(|message| hmac.update(message.as_slice()));
    hmac.update(writer.bytes());
    let times = Times { signed: at.0, fudge: FUDGE };
    let other = if error == error::BADTIME { NOW.0.to_be_bytes()[2..].to_vec() } else { Vec::new() };
    if place == MessagePlace::First {
        key.variables(&mut hmac, &times, error, &other);
    } else {
        hmac.update(times.bytes().as_slice());
    }
    let mac = hmac.finalize();
    let length = u16::try_from(other.len()).unwrap().to_be_bytes();
    let data = [ALGORITHM, &times.bytes(), &[0, 32], &mac, &[0, 7], &error.to_be_bytes(), &length, &other];
    writer.record(Section::Additional, &key.name, kind::TSIG, class::ANY, 0, &data.concat()).unwrap();
    (writer.bytes().to_vec(), mac)
}

fn take(verifier: &mut Verifier<'_>, bytes: &[u8]) -> Result<Verified, Fault> {
    verifier.next(&Message::new(bytes).unwrap(), NOW)
}

#[test]
fn keys_are_read_as_they_are_written() {
    let text = key("web1", 7).text();
    assert_eq!(Key::parse(&text).unwrap().text(), text);
    assert_eq!(
        Key::parse(&format!(" {}\n", text.replace("hmac-sha256", "HMAC-SHA256"))).unwrap().text(),
        text
    );
    for bad in [
        "",
        "web1:AAAA",
        "hmac-md5:web1:AAAA",
        "hmac-sha256::AAAA",
        "hmac-sha256:web1:AAAA",
        "hmac-sha256:web1:?",
    ] {
        assert!(Key::parse(bad).is_err(), "{bad}");
    }
}

#[test]
fn an_answer_is_believed_only_if_every_bit_of_it_is_signed() {
    let key = key("web1", 7);
    let mut buffer = [0; 512];
    let mut verifier = key.sign(&mut question(&mut buffer, 0), NOW).unwrap();
    let prior = verifier.prior;
    let (bytes, _) = answer(&key, &prior, &[], MessagePlace::First, (0, NOW));
    for at in 0..bytes.len() * 8 {
        let mut changed = bytes.clone();
        changed[at / 8] ^= 1 << (at % 8);
        let mut verifier = Verifier { key: &key, now: NOW, prior, running: None, unsigned: 0, first: true };
        let Some(message) = Message::new(&changed) else { continue };
        // The case of names is no part of what is signed.
        let name = (at % 8 == 5) && changed[at / 8].is_ascii_alphabetic();
        // The identifier of the message itself: that of the request is in the signature.
        let id = at / 8 < 2;
        assert!(verifier.next(&message, NOW).is_err() || name || id, "bit {at}");
    }
    assert_eq!(take(&mut verifier, &bytes), Ok(Verified::Signed));
    assert!(verifier.is_complete());
}

#[test]
fn faults_by_name() {
    let (ours, other) = (key("web1", 7), key("web1", 8));
    let mut buffer = [0; 512];
    let plain = question(&mut [0; 512], flag::RESPONSE | 5).bytes().to_vec();
    let later = Wall(NOW.0 + 301);
    let prior = ours.sign(&mut question(&mut buffer, 0), NOW).unwrap().prior;
    let cases = [
        (plain, Fault::Unsigned(5, 0)),
        (answer(&other, &prior, &[], MessagePlace::First, (0, NOW)).0, Fault::BadSignature),
        (answer(&key("web2", 7), &prior, &[], MessagePlace::First, (0, NOW)).0, Fault::BadSignature),
        (answer(&ours, &[1; MAC], &[], MessagePlace::First, (0, NOW)).0, Fault::BadSignature),
        (answer(&ours, &prior, &[], MessagePlace::First, (0, later)).0, Fault::BadTime(later)),
        (answer(&ours, &prior, &[], MessagePlace::First, (error::BADTIME, later)).0, Fault::BadTime(NOW)),
    ];
    for (bytes, want) in cases {
        let mut buffer = [0; 512];
        let mut verifier = ours.sign(&mut question(&mut buffer, 0), NOW).unwrap();
        assert_eq!(take(&mut verifier, &bytes), Err(want));
    }
}

#[test]
fn messages_of_a_transfer_are_vouched_for_by_later_ones() {
    let key = key("operator", 7);
    let mut buffer = [0; 512];
    let mut verifier = key.sign(&mut question(&mut buffer, 0), NOW).unwrap();
    let (first, mac) = answer(&key, &verifier.prior, &[], MessagePlace::First, (0, NOW));
    let plain = question(&mut [0; 512], flag::RESPONSE).bytes().to_vec();
    let (last, next) = answer(&key, &mac, &[plain.clone(), plain.clone()], MessagePlace::Later, (0, NOW));
    assert_eq!(take(&mut verifier, &first), Ok(Verified::Signed));
    assert_eq!(take(&mut verifier, &plain), Ok(Verified::Pending));
    assert!(!verifier.is_complete());
    assert_eq!(take(&mut verifier, &plain), Ok(Verified::Pending));
    assert_eq!(take(&mut verifier, &last), Ok(Verified::Signed));
    assert!(verifier.is_complete());
    // One message too few, and a hundred without a signature.
    let (last, _) = answer(&key, &next, &[plain.clone(), plain.clone()], MessagePlace::Later, (0, NOW));
    assert_eq!(take(&mut verifier, &plain), Ok(Verified::Pending));
    assert_eq!(take(&mut verifier, &last), Err(Fault::BadSignature));
    let mut verifier = key.sign(&mut question(&mut [0; 512], 0), NOW).unwrap();
    let (first, _) = answer(&key, &verifier.prior, &[], MessagePlace::First, (0, NOW));
    assert_eq!(take(&mut verifier, &first), Ok(Verified::Signed));
    for _ in 0..99 {
        assert_eq!(take(&mut verifier, &plain), Ok(Verified::Pending));
    }
    assert_eq!(take(&mut verifier, &plain), Err(Fault::Unsigned(0, 0)));
}
