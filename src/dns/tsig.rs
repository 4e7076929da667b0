#![forbid(unsafe_code)]
//! Signatures of messages by a shared secret (RFC 8945), with HMAC-SHA-256 and nothing else: signs requests,
//! and verifies answers, also those of many messages. Knows no clock: the time is an argument.

use super::name::Name;
use super::packet::{Full, Message, Record, Section, Writer, class, kind, rcode};
use crate::base::base64;
use crate::base::clock::Wall;
use hmac_sha256::HMAC;

/// Seconds by which two clocks may differ.
pub const FUDGE: u16 = 300;
/// Bytes of a signature.
pub const MAC: usize = 32;
/// The algorithm's name, as in messages.
const ALGORITHM: &[u8] = b"\x0bhmac-sha256\0";
/// The algorithm, as in texts.
const ALGORITHM_TEXT: &str = "hmac-sha256";
/// Most messages of a transfer that one signature may cover.
const UNSIGNED_MAX: u32 = 99;

/// Codes of the signature itself.
pub mod error {
    #![allow(missing_docs, reason = "the names are those of the RFC")]
    pub const BADSIG: u16 = 16;
    pub const BADKEY: u16 = 17;
    pub const BADTIME: u16 = 18;
    pub const BADTRUNC: u16 = 22;
}

/// A shared secret and its name.
pub struct Key {
    name: Name,
    secret: Vec<u8>,
}

impl Key {
    /// Reads `hmac-sha256:NAME:SECRET`, the secret in base64.
    ///
    /// # Errors
    /// What is wrong with it, for people.
    pub fn parse(text: &str) -> Result<Key, &'static str> {
        let mut parts = text.trim_ascii().splitn(3, ':');
        let (Some(algorithm), Some(name), Some(secret)) = (parts.next(), parts.next(), parts.next()) else {
            return Err("it does not have the form hmac-sha256:NAME:SECRET");
        };
        if !algorithm.eq_ignore_ascii_case(ALGORITHM_TEXT) {
            return Err("its algorithm is not hmac-sha256");
        }
        let name = Name::parse(name.as_bytes()).ok_or("its name is not a domain name")?;
        let secret = base64::decode(secret).ok_or("its secret is not base64")?;
        Key::new(name, secret)
    }

    /// A key.
    ///
    /// # Errors
    /// The secret is shorter than half of a signature: it could be guessed.
    pub fn new(name: Name, secret: Vec<u8>) -> Result<Key, &'static str> {
        if secret.len() < MAC / 2 { Err("its secret is too short") } else { Ok(Key { name, secret }) }
    }

    /// The text that [`Key::parse`] reads.
    #[must_use]
    pub fn text(&self) -> String {
        [ALGORITHM_TEXT, ":", &self.name.to_string(), ":", &self.secret()].concat()
    }

    /// The secret in base64.
    #[must_use]
    pub fn secret(&self) -> String {
        base64::encode(&self.secret)
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &Name {
        &self.name
    }

    fn hmac(&self, prior: &[u8]) -> HMAC {
        let mut hmac = HMAC::new(self.secret.as_slice());
        if let Ok(length @ 1..) = u16::try_from(prior.len()) {
            hmac.update(length.to_be_bytes().as_slice());
            hmac.update(prior);
        }
        hmac
    }

    /// Signs a request, as it is then, and adds the signature to it. Nothing may be added after that. The
    /// answer is verified by what is returned.
    ///
    /// # Errors
    /// There is no room for it.
    pub fn sign(&self, writer: &mut Writer<'_>, now: Wall) -> Result<Verifier<'_>, Full> {
        let mut hmac = self.hmac(&[]);
        hmac.update(writer.bytes());
        let times = Times { signed: now.0, fudge: FUDGE };
        self.variables(&mut hmac, &times, 0, &[]);
        let mac = hmac.finalize();
        let id = writer.bytes().get(..2).unwrap_or_default().to_owned();
        let mut data = Vec::with_capacity(ALGORITHM.len() + MAC + 16);
        data.extend_from_slice(ALGORITHM);
        data.extend_from_slice(&times.bytes());
        data.extend_from_slice(&[0, 32]);
        data.extend_from_slice(&mac);
        data.extend_from_slice(&id);
        data.extend_from_slice(&[0; 4]);
        writer.record(Section::Additional, &self.name, kind::TSIG, class::ANY, 0, &data)?;
        Ok(Verifier { key: self, now, prior: mac, running: None, unsigned: 0, first: true })
    }

    /// What is signed beside the message.
    fn variables(&self, hmac: &mut HMAC, times: &Times, error: u16, other: &[u8]) {
        let [a, b] = class::ANY.to_be_bytes();
        let length = u16::try_from(other.len()).unwrap_or(u16::MAX).to_be_bytes();
        let name = self.name.to_lower();
        let parts: [&[u8]; 7] = [
            name.wire(),
            &[a, b, 0, 0, 0, 0],
            ALGORITHM,
            &times.bytes(),
            &error.to_be_bytes(),
            &length,
            other,
        ];
        parts.into_iter().for_each(|part| hmac.update(part));
    }
}

/// When something was signed, and by how much clocks may differ.
struct Times {
    signed: u64,
    fudge: u16,
}

impl Times {
    fn bytes(&self) -> [u8; 8] {
        let [_, _, a, b, c, d, e, f] = self.signed.to_be_bytes();
        let [g, h] = self.fudge.to_be_bytes();
        [a, b, c, d, e, f, g, h]
    }
}

/// Why a message is not believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// It is not a whole message, or its signature is not at its end.
    Malformed,
    /// It has no signature, though it would need one; with its code, and that of the signature if it has an
    /// empty one. Anybody on the way could have said so.
    Unsigned(u8, u16),
    /// It is signed by another key, or by none that this could be.
    BadSignature,
    /// It was signed at that time, which is not now.
    BadTime(Wall),
}

/// The signature of a message, taken apart.
struct Signature<'a> {
    /// Where it begins in the message.
    start: usize,
    times: Times,
    mac: &'a [u8],
    id: [u8; 2],
    error: u16,
    other: &'a [u8],
    /// Of our key and algorithm.
    ours: bool,
}

/// Reads the data of a TSIG record: the algorithm's name stands uncompressed.
fn parse<'a>(key: &Key, record: &Record<'a>) -> Option<Signature<'a>> {
    let (algorithm, end) = Name::read(record.data, 0)?;
    let (times, rest) = record.data.get(end..)?.split_first_chunk::<8>()?;
    let [a, b, c, d, e, f, fudge @ ..] = *times;
    let (size, rest) = rest.split_first_chunk::<2>()?;
    let (mac, rest) = rest.split_at_checked(u16::from_be_bytes(*size).into())?;
    let (&[i, j, k, l, m, n], other) = rest.split_first_chunk::<6>()?;
    Some(Signature {
        start: record.start,
        times: Times {
            signed: u64::from_be_bytes([0, 0, a, b, c, d, e, f]),
            fudge: u16::from_be_bytes(fudge),
        },
        mac,
        id: [i, j],
        error: u16::from_be_bytes([k, l]),
        other: Some(other).filter(|other| other.len() == usize::from(u16::from_be_bytes([m, n])))?,
        ours: record.name.is_same(&key.name)
            && algorithm.wire().eq_ignore_ascii_case(ALGORITHM)
            && record.class == class::ANY
            && record.ttl == 0,
    })
}

/// The signature of a message, if it has one; it stands behind everything else.
fn find<'a>(key: &Key, message: &Message<'a>) -> Result<Option<Signature<'a>>, Fault> {
    let (mut found, mut records) = (None, 0);
    for record in message.records() {
        let record = record.map_err(|_| Fault::Malformed)?;
        records += 1;
        if record.kind == kind::TSIG {
            let last = record.section == Section::Additional
                && records
                    == [Section::Answer, Section::Authority, Section::Additional]
                        .iter()
                        .map(|section| u32::from(message.count(*section)))
                        .sum::<u32>();
            found = Some(parse(key, &record).filter(|_| last).ok_or(Fault::Malformed)?);
        }
    }
    Ok(found)
}

/// Feeds a message as it was before it was signed.
fn feed(hmac: &mut HMAC, message: &Message<'_>, signature: Option<&Signature<'_>>) {
    let bytes = message.bytes();
    let Some(signature) = signature else { return hmac.update(bytes) };
    let additional = message.count(Section::Additional).saturating_sub(1).to_be_bytes();
    let parts = [
        &signature.id,
        bytes.get(2..10).unwrap_or_default(),
        &additional,
        bytes.get(12..signature.start).unwrap_or_default(),
    ];
    parts.into_iter().for_each(|part| hmac.update(part));
}

/// Whether two signatures are the same, in a time that does not say where they differ.
fn same(one: &[u8], other: &[u8; MAC]) -> bool {
    one.len() == MAC && one.iter().zip(other).fold(0, |differ, (a, b)| differ | (a ^ b)) == 0
}

/// Verifies the messages of an answer, in their order.
pub struct Verifier<'k> {
    key: &'k Key,
    now: Wall,
    /// The last signature.
    prior: [u8; MAC],
    /// What came since, of a transfer.
    running: Option<HMAC>,
    unsigned: u32,
    first: bool,
}

/// What is known of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verified {
    /// It and all before it are signed.
    Signed,
    /// A later one has to vouch for it.
    Pending,
}

impl Verifier<'_> {
    /// Takes in the next message of the answer, which came at `now`: a transfer takes its time. Only those
    /// behind the first may be without a signature, and not many of them.
    ///
    /// # Errors
    /// Why nothing of the answer is to be believed.
    pub fn next(&mut self, message: &Message<'_>, now: Wall) -> Result<Verified, Fault> {
        self.now = now;
        let found = find(self.key, message)?;
        let error = found.as_ref().map_or(0, |signature| signature.error);
        let Some(signature) = found.filter(|signature| !signature.mac.is_empty()) else {
            if self.first || error != 0 || message.rcode() != rcode::NOERROR || self.unsigned >= UNSIGNED_MAX
            {
                return Err(Fault::Unsigned(message.rcode(), error));
            }
            self.unsigned += 1;
            let key = self.key;
            let prior = self.prior;
            feed(self.running.get_or_insert_with(|| key.hmac(&prior)), message, None);
            return Ok(Verified::Pending);
        };
        self.check(message, &signature)?;
        (self.first, self.unsigned) = (false, 0);
        Ok(Verified::Signed)
    }

    fn check(&mut self, message: &Message<'_>, signature: &Signature<'_>) -> Result<(), Fault> {
        if !signature.ours {
            return Err(Fault::BadSignature);
        }
        let key = self.key;
        let prior = self.prior;
        let mut hmac = self.running.take().unwrap_or_else(|| key.hmac(&prior));
        feed(&mut hmac, message, Some(signature));
        if self.first {
            key.variables(&mut hmac, &signature.times, signature.error, signature.other);
        } else {
            hmac.update(signature.times.bytes().as_slice());
        }
        let mac = hmac.finalize();
        if !same(signature.mac, &mac) {
            return Err(Fault::BadSignature);
        }
        self.prior = mac;
        match signature.error {
            // The server's clock says something else than ours; its own time stands beside that.
            error::BADTIME => {
                let time = signature
                    .other
                    .first_chunk::<6>()
                    .map(|&[a, b, c, d, e, f]| u64::from_be_bytes([0, 0, a, b, c, d, e, f]));
                Err(Fault::BadTime(Wall(time.unwrap_or(signature.times.signed))))
            }
            0 if self.now.0.abs_diff(signature.times.signed) > u64::from(signature.times.fudge) => {
                Err(Fault::BadTime(Wall(signature.times.signed)))
            }
            0 => Ok(()),
            error => Err(Fault::Unsigned(message.rcode(), error)),
        }
    }

    /// Whether everything that came is signed.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        !self.first && self.unsigned == 0
    }
}

#[cfg(test)]
mod tests;
