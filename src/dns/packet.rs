#![forbid(unsafe_code)]
//! Messages: read out of a slice that is lent, written into a buffer that is lent. One form serves queries,
//! answers, UPDATE (where the sections are called zone, prerequisites, updates) and transfers of zones.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::name::Name;

/// Types of records.
pub mod kind {
    #![allow(missing_docs, reason = "the names are those of the RFCs")]
    pub const A: u16 = 1;
    pub const NS: u16 = 2;
    pub const CNAME: u16 = 5;
    pub const SOA: u16 = 6;
    pub const TXT: u16 = 16;
    pub const AAAA: u16 = 28;
    pub const DNAME: u16 = 39;
    pub const OPT: u16 = 41;
    pub const TSIG: u16 = 250;
    pub const AXFR: u16 = 252;
    pub const ANY: u16 = 255;
}

/// Classes of records.
pub mod class {
    #![allow(missing_docs, reason = "the names are those of the RFCs")]
    pub const IN: u16 = 1;
    pub const NONE: u16 = 254;
    pub const ANY: u16 = 255;
}

/// Codes of answers.
pub mod rcode {
    #![allow(missing_docs, reason = "the names are those of the RFCs")]
    pub const NOERROR: u8 = 0;
    pub const FORMERR: u8 = 1;
    pub const SERVFAIL: u8 = 2;
    pub const NXDOMAIN: u8 = 3;
    pub const NOTIMP: u8 = 4;
    pub const REFUSED: u8 = 5;
    pub const NOTAUTH: u8 = 9;
    pub const NOTZONE: u8 = 10;
}

/// Bits of the header's second word.
pub mod flag {
    #![allow(missing_docs, reason = "the names are those of the RFCs")]
    pub const RESPONSE: u16 = 1 << 15;
    pub const AUTHORITATIVE: u16 = 1 << 10;
    pub const TRUNCATED: u16 = 1 << 9;
    pub const RECURSION_DESIRED: u16 = 1 << 8;
    /// The opcode UPDATE, in its place.
    pub const UPDATE: u16 = 5 << 11;
}

/// Bytes of the header.
pub const HEADER: usize = 12;
/// What stands for the name of the question, which follows the header.
const POINTER_TO_QUESTION: [u8; 2] = [0xc0, 12];

/// The sections behind the question, in their order.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Section {
    /// Answers; in an UPDATE the prerequisites.
    Answer = 1,
    /// Authorities; in an UPDATE the updates.
    Authority = 2,
    /// The rest: EDNS, TSIG.
    Additional = 3,
}

/// Bytes that are no message, or not one to its end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Malformed;

/// The buffer has no room for what was to be written; what is in it is still a whole message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Full;

/// A message that was received.
#[derive(Clone, Copy)]
pub struct Message<'a> {
    bytes: &'a [u8],
}

/// What is asked. In an UPDATE: the zone.
#[derive(Clone, Copy, Debug)]
pub struct Question {
    /// The name, in the case in which it was written.
    pub name: Name,
    /// The type, one of [`kind`].
    pub kind: u16,
    /// The class, one of [`class`].
    pub class: u16,
}

/// A record of a message.
#[derive(Clone, Copy)]
pub struct Record<'a> {
    /// The section in which it stands.
    pub section: Section,
    /// Its owner.
    pub name: Name,
    /// Its type, one of [`kind`].
    pub kind: u16,
    /// Its class; of EDNS the size of datagrams.
    pub class: u16,
    /// How many seconds it holds; of EDNS flags.
    pub ttl: u32,
    /// Its data as it stands in the message: names in it may be compressed.
    pub data: &'a [u8],
    /// Where in the message the record begins: what is before it is what a TSIG signs.
    pub start: usize,
    message: &'a [u8],
    data_at: usize,
}

/// The start of a zone's authority.
#[derive(Clone, Copy, Debug)]
pub struct Soa {
    /// The primary server.
    pub primary: Name,
    /// Which version of the zone it is.
    pub serial: u32,
    /// How many seconds it holds that a name is not there.
    pub minimum: u32,
}

fn word(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk().map(|two| u16::from_be_bytes(*two))
}

fn long(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|four| u32::from_be_bytes(*four))
}

impl<'a> Message<'a> {
    /// A message, if there is a whole header. What follows is checked as it is read.
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Option<Message<'a>> {
        (bytes.len() >= HEADER).then_some(Message { bytes })
    }

    /// All bytes.
    #[must_use]
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    fn header(&self, at: usize) -> u16 {
        word(self.bytes, at * 2).unwrap_or(0)
    }

    /// The number by which an answer is told from others.
    #[must_use]
    pub fn id(&self) -> u16 {
        self.header(0)
    }

    /// The bits of [`flag`], opcode and code.
    #[must_use]
    pub fn flags(&self) -> u16 {
        self.header(1)
    }

    /// Whether it is an answer.
    #[must_use]
    pub fn is_response(&self) -> bool {
        self.flags() & flag::RESPONSE != 0
    }

    /// Whether the answer was too long for a datagram.
    #[must_use]
    pub fn is_truncated(&self) -> bool {
        self.flags() & flag::TRUNCATED != 0
    }

    /// What kind of request it is or answers: 0 query, 5 update.
    #[must_use]
    pub fn opcode(&self) -> u8 {
        self.flags().to_be_bytes()[0] >> 3 & 15
    }

    /// How it went, one of [`rcode`]: the header's part of it, without the upper bits of EDNS.
    #[must_use]
    pub fn rcode(&self) -> u8 {
        self.flags().to_be_bytes()[1] & 15
    }

    /// How many questions there are: one, in all that is sent and received here.
    #[must_use]
    pub fn questions(&self) -> u16 {
        self.header(2)
    }

    /// How many records a section is said to have.
    #[must_use]
    pub fn count(&self, section: Section) -> u16 {
        self.header(2 + section as usize)
    }

    /// The first question, if there is one.
    #[must_use]
    pub fn question(&self) -> Option<Question> {
        if self.questions() == 0 {
            return None;
        }
        let (name, at) = Name::read(self.bytes, HEADER)?;
        Some(Question { name, kind: word(self.bytes, at)?, class: word(self.bytes, at + 2)? })
    }

    /// The records of all sections, in their order.
    #[must_use]
    pub fn records(&self) -> Records<'a> {
        let mut records = Records { bytes: self.bytes, at: HEADER, left: [0; 3], failed: false };
        for _ in 0..self.questions() {
            match Name::read(self.bytes, records.at) {
                Some((_, at)) => records.at = at + 4,
                None => {
                    records.failed = true;
                    return records;
                }
            }
        }
        records.left = [self.header(3), self.header(4), self.header(5)];
        records
    }

    /// The records that answer the question; where aliases lead elsewhere, those of the name to which they
    /// lead.
    pub fn answers(&self) -> impl Iterator<Item = Result<Record<'a>, Malformed>> {
        let mut name = self.question().map_or_else(Name::default, |question| question.name);
        self.records().take(self.count(Section::Answer).into()).filter(move |record| {
            let Ok(record) = record else { return true };
            let own = record.name.is_same(&name);
            if own && record.kind == kind::CNAME {
                name = record.target().unwrap_or(name);
                return false;
            }
            own
        })
    }
}

/// The records of a message, one after the other. What is malformed is the last item.
#[derive(Clone)]
pub struct Records<'a> {
    bytes: &'a [u8],
    at: usize,
    left: [u16; 3],
    failed: bool,
}

impl<'a> Iterator for Records<'a> {
    type Item = Result<Record<'a>, Malformed>;

    fn next(&mut self) -> Option<Result<Record<'a>, Malformed>> {
        if self.failed {
            self.failed = false;
            self.left = [0; 3];
            return Some(Err(Malformed));
        }
        let sections = [Section::Answer, Section::Authority, Section::Additional];
        let (left, section) = self.left.iter_mut().zip(sections).find(|(left, _)| **left > 0)?;
        *left -= 1;
        let read = read_record(self.bytes, self.at, section);
        match read {
            Some(record) => self.at = record.data_at + record.data.len(),
            None => self.left = [0; 3],
        }
        Some(read.ok_or(Malformed))
    }
}

fn read_record(bytes: &[u8], start: usize, section: Section) -> Option<Record<'_>> {
    let (name, at) = Name::read(bytes, start)?;
    let length = usize::from(word(bytes, at + 8)?);
    let data_at = at + 10;
    Some(Record {
        section,
        name,
        kind: word(bytes, at)?,
        class: word(bytes, at + 2)?,
        ttl: long(bytes, at + 4)?,
        data: bytes.get(data_at..data_at + length)?,
        start,
        message: bytes,
        data_at,
    })
}

impl<'a> Record<'a> {
    /// The address of an A record.
    #[must_use]
    pub fn a(&self) -> Option<Ipv4Addr> {
        let octets: [u8; 4] = self.data.try_into().ok()?;
        (self.kind == kind::A && self.class == class::IN).then(|| octets.into())
    }

    /// The address of an AAAA record.
    #[must_use]
    pub fn aaaa(&self) -> Option<Ipv6Addr> {
        let octets: [u8; 16] = self.data.try_into().ok()?;
        (self.kind == kind::AAAA && self.class == class::IN).then(|| octets.into())
    }

    /// The strings of a TXT record; those of a broken one up to where it breaks.
    #[must_use]
    pub fn txt(&self) -> Strings<'a> {
        Strings(if self.kind == kind::TXT { self.data } else { &[] })
    }

    /// The name that a CNAME, DNAME or NS record leads to.
    #[must_use]
    pub fn target(&self) -> Option<Name> {
        if !matches!(self.kind, kind::CNAME | kind::DNAME | kind::NS) {
            return None;
        }
        self.whole_name(self.data_at).filter(|(_, end)| *end == self.data.len()).map(|(name, _)| name)
    }

    /// The start of authority.
    #[must_use]
    pub fn soa(&self) -> Option<Soa> {
        if self.kind != kind::SOA {
            return None;
        }
        let (primary, end) = self.whole_name(self.data_at)?;
        let (_, end) = self.whole_name(self.data_at + end)?;
        let numbers = self.data.get(end..).filter(|rest| rest.len() == 20)?;
        Some(Soa { primary, serial: long(numbers, 0)?, minimum: long(numbers, 16)? })
    }

    /// A name in the data, and where in the data it ends.
    fn whole_name(&self, at: usize) -> Option<(Name, usize)> {
        let (name, end) = Name::read(self.message, at)?;
        end.checked_sub(self.data_at).filter(|end| *end <= self.data.len()).map(|end| (name, end))
    }
}

/// The strings of a TXT record.
#[derive(Clone)]
pub struct Strings<'a>(&'a [u8]);

impl<'a> Iterator for Strings<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let (length, rest) = self.0.split_first()?;
        let (text, rest) = rest.split_at_checked(usize::from(*length))?;
        self.0 = rest;
        Some(text)
    }
}

/// A message that is being written. It is whole after every call, so that it can be sent or signed as it is.
pub struct Writer<'b> {
    buffer: &'b mut [u8],
    len: usize,
}

impl<'b> Writer<'b> {
    /// A message with nothing in it. `flags` are those of [`flag`], with opcode and code in their places.
    ///
    /// # Errors
    /// The buffer is shorter than a header.
    pub fn new(buffer: &'b mut [u8], id: u16, flags: u16) -> Result<Writer<'b>, Full> {
        let mut header = [0u8; HEADER];
        let [a, b] = id.to_be_bytes();
        let [c, d] = flags.to_be_bytes();
        if let Some(start) = header.first_chunk_mut() {
            *start = [a, b, c, d];
        }
        buffer.get_mut(..HEADER).ok_or(Full)?.copy_from_slice(&header);
        Ok(Writer { buffer, len: HEADER })
    }

    /// The message so far.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        self.buffer.get(..self.len).unwrap_or_default()
    }

    /// Adds a question, in an UPDATE the zone. There is to be one, and nothing before it.
    ///
    /// # Errors
    /// There is no room for it.
    pub fn question(&mut self, name: &Name, kind: u16, class: u16) -> Result<(), Full> {
        let end = self.put(self.len, name.wire()).and_then(|at| self.put(at, &kind.to_be_bytes()));
        self.len = end.and_then(|at| self.put(at, &class.to_be_bytes())).ok_or(Full)?;
        self.count(2)
    }

    /// Adds a record. Sections are to be filled in their order. The owner is compressed where it stands below
    /// the question's name; names in `data` are the caller's and stay as they are.
    ///
    /// # Errors
    /// There is no room for it.
    pub fn record(
        &mut self,
        section: Section,
        name: &Name,
        kind: u16,
        class: u16,
        ttl: u32,
        data: &[u8],
    ) -> Result<(), Full> {
        let length = u16::try_from(data.len()).map_err(|_| Full)?;
        let ([a, b], [c, d], [e, f]) = (kind.to_be_bytes(), class.to_be_bytes(), length.to_be_bytes());
        let [g, h, i, j] = ttl.to_be_bytes();
        let head = [a, b, c, d, g, h, i, j, e, f];
        let end = self.put_owner(name).and_then(|at| self.put(at, &head));
        self.len = end.and_then(|at| self.put(at, data)).ok_or(Full)?;
        self.count(2 + section as usize)
    }

    /// Adds EDNS, version 0, and says how long a datagram may be that answers.
    ///
    /// # Errors
    /// There is no room for it.
    pub fn edns(&mut self, size: u16) -> Result<(), Full> {
        self.record(Section::Additional, &Name::default(), kind::OPT, size, 0, &[])
    }

    /// Writes an owner: the labels before the question's name, and a pointer to that.
    fn put_owner(&mut self, name: &Name) -> Option<usize> {
        let whole = name.wire();
        let shared = Name::read(self.bytes(), HEADER)
            .map(|(zone, _)| zone)
            .filter(|zone| !zone.is_root() && whole.ends_with(zone.wire()) && name.is_below(zone));
        let Some(zone) = shared.filter(|_| self.len > HEADER) else { return self.put(self.len, whole) };
        let own = whole.get(..whole.len() - zone.wire().len())?;
        let at = self.put(self.len, own)?;
        self.put(at, &POINTER_TO_QUESTION)
    }

    fn put(&mut self, at: usize, bytes: &[u8]) -> Option<usize> {
        let end = at + bytes.len();
        self.buffer.get_mut(at..end)?.copy_from_slice(bytes);
        Some(end)
    }

    /// One more in a word of the header.
    fn count(&mut self, at: usize) -> Result<(), Full> {
        let counted = word(self.buffer, at * 2).and_then(|count| count.checked_add(1)).ok_or(Full)?;
        self.put(at * 2, &counted.to_be_bytes()).map(|_| ()).ok_or(Full)
    }
}
