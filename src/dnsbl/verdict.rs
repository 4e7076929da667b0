#![forbid(unsafe_code)]
//! What an answer of a list means. Only what is certain is a listing: an address of 127.0.0.0/8 that the
//! profile names. Error codes, and what a resolver makes up, never are.

use crate::base::program::glob;
use crate::dns::client::Trouble;
use crate::dns::packet::Message;
use std::fmt;
use std::net::Ipv4Addr;

/// What an answer means.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// The address is listed, with this code.
    Listed(Ipv4Addr),
    /// It is listed with codes that the profile does not mean; the first of them.
    Other(Ipv4Addr),
    /// It is not listed.
    Clean,
    /// The list says that it does not answer.
    Refused(Ipv4Addr),
    /// That is no answer of a list: a resolver has made it up.
    MadeUp(Ipv4Addr),
    /// There is no answer.
    Trouble(Trouble),
}

/// The codes by which lists say why they do not answer.
fn is_error(addr: Ipv4Addr) -> bool {
    matches!(addr.octets(), [127, 255, ..] | [127, 0, 0, 1] | [127, 0, 1, 255])
}

/// Judges the answer to a question for addresses of type A.
#[must_use]
pub fn verdict(answer: Result<Message<'_>, Trouble>, matches: &[Box<str>]) -> Verdict {
    let message = match answer {
        Ok(message) => message,
        Err(trouble) => return Verdict::Trouble(trouble),
    };
    let mut found = Verdict::Clean;
    for record in message.answers() {
        let Ok(record) = record else { return Verdict::Trouble(Trouble::Broken) };
        let Some(addr) = record.a() else { continue };
        if !addr.is_loopback() {
            return Verdict::MadeUp(addr);
        }
        if is_error(addr) {
            return Verdict::Refused(addr);
        }
        // The first code that the profile means, else the first.
        if !matches!(found, Verdict::Listed(_)) {
            let text = addr.to_string();
            if matches.iter().any(|pattern| glob(pattern.as_bytes(), text.as_bytes())) {
                found = Verdict::Listed(addr);
            } else if found == Verdict::Clean {
                found = Verdict::Other(addr);
            }
        }
    }
    found
}

/// Error codes in words.
pub struct Refusal(pub Ipv4Addr);

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let code = self.0;
        match code.octets() {
            [127, 255, 255, 252] => {
                write!(f, "the list does not know this zone: is its name right? ({code})")
            }
            [127, 255, 255, 254] => write!(
                f,
                "the list does not answer public or shared resolvers: dns_servers= has to name a resolver of \
                 your own, or the zone needs a key ({code})"
            ),
            [127, 255, 255, 255] => write!(f, "too many queries, the list's quota is used up ({code})"),
            [127, 0, 0, 1] => write!(f, "the list refuses to answer ({code})"),
            [127, 0, 1, 255] => write!(f, "the list holds names, not addresses ({code})"),
            _ => write!(f, "the list answers with an error code ({code})"),
        }
    }
}

/// The text of a listing, as it may stand in a log: visible characters, and not many.
#[must_use]
pub fn text_of(message: Message<'_>) -> String {
    let mut text = String::new();
    for part in message.answers().flatten().flat_map(|record| record.txt()).flatten() {
        if text.len() == TEXT_MAX {
            break;
        }
        text.push(if (b' '..=b'~').contains(part) { char::from(*part) } else { '?' });
    }
    text
}

/// Bytes of a text at most.
const TEXT_MAX: usize = 120;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dns::name::Name;
    use crate::dns::packet::{Section, Writer, class, flag, kind};

    fn judged(addrs: &[&str], matches: &[&str]) -> Verdict {
        let matches: Vec<Box<str>> = matches.iter().map(|m| (*m).into()).collect();
        let mut buffer = [0; 512];
        let name = Name::parse(b"1.0.0.20.bl.example").unwrap();
        let mut writer = Writer::new(&mut buffer, 1, flag::RESPONSE).unwrap();
        writer.question(&name, kind::A, class::IN).unwrap();
        for addr in addrs {
            let addr: Ipv4Addr = addr.parse().unwrap();
            writer.record(Section::Answer, &name, kind::A, class::IN, 60, &addr.octets()).unwrap();
        }
        verdict(Ok(Message::new(writer.bytes()).unwrap()), &matches)
    }

    #[test]
    fn only_what_is_meant_is_a_listing() {
        let ip = |text: &str| text.parse::<Ipv4Addr>().unwrap();
        let usual = &["127.0.0.*"][..];
        let cases: &[(&[&str], &[&str], Verdict)] = &[
            (&[], usual, Verdict::Clean),
            (&["127.0.0.2"], usual, Verdict::Listed(ip("127.0.0.2"))),
            (&["127.0.0.10"], &["127.0.0.2", "127.0.0.3"], Verdict::Other(ip("127.0.0.10"))),
            (&["127.0.0.10", "127.0.0.3"], &["127.0.0.3"], Verdict::Listed(ip("127.0.0.3"))),
            (&["127.0.0.3", "127.0.0.10"], &["127.0.0.3"], Verdict::Listed(ip("127.0.0.3"))),
            (&["127.0.0.2", "127.255.255.254"], usual, Verdict::Refused(ip("127.255.255.254"))),
            (&["127.255.255.255"], &["127.*", "*"], Verdict::Refused(ip("127.255.255.255"))),
            (&["127.0.0.1"], usual, Verdict::Refused(ip("127.0.0.1"))),
            (&["127.0.1.255"], &["*"], Verdict::Refused(ip("127.0.1.255"))),
            (&["20.9.9.9"], &["*"], Verdict::MadeUp(ip("20.9.9.9"))),
            (&["127.0.0.2", "10.0.0.1"], &["*"], Verdict::MadeUp(ip("10.0.0.1"))),
        ];
        for (addrs, matches, want) in cases {
            assert_eq!(judged(addrs, matches), *want, "{addrs:?} {matches:?}");
        }
        assert_eq!(verdict(Err(Trouble::Silent), &[]), Verdict::Trouble(Trouble::Silent));
    }

    #[test]
    fn texts_are_fit_for_a_log() {
        let mut buffer = [0; 1000];
        let name = Name::parse(b"a").unwrap();
        let mut writer = Writer::new(&mut buffer, 1, flag::RESPONSE).unwrap();
        writer.question(&name, kind::TXT, class::IN).unwrap();
        let data = [b"\x09see \x1b[31m\n".as_slice(), &[200], &[b'x'; 200]].concat();
        writer.record(Section::Answer, &name, kind::TXT, class::IN, 60, &data).unwrap();
        let text = text_of(Message::new(writer.bytes()).unwrap());
        assert_eq!(text, format!("see ?[31m?{}", "x".repeat(TEXT_MAX - 10)));
    }
}
