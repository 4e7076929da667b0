#![forbid(unsafe_code)]
//! Netlink messages and attributes as bytes (linux/netlink.h): a writer over one bounded buffer and
//! readers with checked bounds. Knows no socket and no subsystem.

use crate::sys::buffer::shrink_spare;

/// Header of a netlink message, bytes.
pub const HDR: usize = 16;
const NLA_HDR: usize = 4;
/// Flag in an attribute's type: it holds attributes.
const NLA_F_NESTED: u16 = 1 << 15;
const NLA_TYPE_MASK: u16 = 0x3fff;

/// NLMSG_ERROR: an error or an acknowledgement.
pub const NLMSG_ERROR: u16 = 2;
/// NLMSG_DONE: the end of a dump.
pub const NLMSG_DONE: u16 = 3;
/// NLM_F_REQUEST
pub const REQUEST: u16 = 0x1;
/// NLM_F_ACK
pub const ACK: u16 = 0x4;
/// NLM_F_ECHO: tell the sender, too, what the message did.
pub const ECHO: u16 = 0x8;
/// NLM_F_DUMP_INTR: the dump saw two generations.
pub const DUMP_INTR: u16 = 0x10;
/// NLM_F_DUMP
pub const DUMP: u16 = 0x300;
/// NLM_F_EXCL
pub const EXCL: u16 = 0x200;
/// NLM_F_CREATE
pub const CREATE: u16 = 0x400;
/// NLM_F_APPEND
pub const APPEND: u16 = 0x800;

/// Where a message or a nest began; its length is written when it is closed.
#[derive(Clone, Copy)]
#[must_use = "an open message has no length yet"]
pub struct Open(usize);

/// Messages in a row, as one `send` takes them.
#[derive(Default)]
pub struct MsgBuf {
    bytes: Vec<u8>,
}

impl MsgBuf {
    /// An empty buffer with room for `capacity` bytes.
    #[must_use]
    pub fn with_capacity(capacity: usize) -> MsgBuf {
        MsgBuf { bytes: Vec::with_capacity(capacity) }
    }

    /// Forgets everything, keeps the memory.
    pub fn clear(&mut self) {
        self.bytes.clear();
    }

    /// Gives memory back that it has used before and does not use now.
    pub fn shrink(&mut self) {
        shrink_spare(&mut self.bytes);
    }

    /// What has been written.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The bytes themselves, for a library that writes whole messages.
    pub fn raw(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    /// Bytes written so far.
    #[must_use]
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether nothing has been written.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Begins a message: `nlmsghdr` without its length.
    pub fn start(&mut self, kind: u16, flags: u16, seq: u32) -> Open {
        let at = self.bytes.len();
        self.bytes.extend_from_slice(&0u32.to_ne_bytes());
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(&flags.to_ne_bytes());
        self.bytes.extend_from_slice(&seq.to_ne_bytes());
        self.bytes.extend_from_slice(&0u32.to_ne_bytes());
        Open(at)
    }

    /// Appends raw bytes (a protocol's own header), padded to four.
    pub fn put(&mut self, data: &[u8]) {
        self.bytes.extend_from_slice(data);
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }

    /// Ends the message: writes its length.
    pub fn finish(&mut self, open: Open) {
        let len = u32::try_from(self.bytes.len() - open.0).unwrap_or(u32::MAX);
        if let Some(slot) = self.bytes.get_mut(open.0..open.0 + 4) {
            slot.copy_from_slice(&len.to_ne_bytes());
        }
    }

    /// Sets flags in the header of the message that began at byte `at`.
    pub fn add_flags(&mut self, at: usize, flags: u16) {
        if let Some(slot @ &mut [a, b]) = self.bytes.get_mut(at + 6..at + 8) {
            slot.copy_from_slice(&(u16::from_ne_bytes([a, b]) | flags).to_ne_bytes());
        }
    }

    /// One attribute; payloads are at most 64 KiB by the callers' bounds.
    pub fn attr(&mut self, kind: u16, data: &[u8]) {
        let len = u16::try_from(NLA_HDR + data.len()).unwrap_or(u16::MAX);
        self.bytes.extend_from_slice(&len.to_ne_bytes());
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.put(data);
    }

    /// A string attribute with its terminating NUL.
    pub fn attr_str(&mut self, kind: u16, text: &str) {
        let open = self.nest(kind & !NLA_F_NESTED);
        self.bytes.extend_from_slice(text.as_bytes());
        self.bytes.push(0);
        self.set_attr(open, kind);
        self.put(&[]);
    }

    /// A number in network order.
    pub fn attr_be32(&mut self, kind: u16, v: u32) {
        self.attr(kind, &v.to_be_bytes());
    }

    /// A number in network order.
    pub fn attr_be64(&mut self, kind: u16, v: u64) {
        self.attr(kind, &v.to_be_bytes());
    }

    /// Opens an attribute that holds attributes.
    pub fn nest(&mut self, kind: u16) -> Open {
        let at = self.bytes.len();
        self.bytes.extend_from_slice(&0u16.to_ne_bytes());
        self.bytes.extend_from_slice(&(kind | NLA_F_NESTED).to_ne_bytes());
        Open(at)
    }

    /// Closes a nest.
    pub fn end(&mut self, open: Open) {
        let len = u16::try_from(self.bytes.len() - open.0).unwrap_or(u16::MAX);
        if let Some(slot) = self.bytes.get_mut(open.0..open.0 + 2) {
            slot.copy_from_slice(&len.to_ne_bytes());
        }
    }

    fn set_attr(&mut self, open: Open, kind: u16) {
        self.end(open);
        if let Some(slot) = self.bytes.get_mut(open.0 + 2..open.0 + 4) {
            slot.copy_from_slice(&kind.to_ne_bytes());
        }
    }
}

/// One received message.
#[derive(Clone, Copy)]
pub struct Msg<'a> {
    /// `nlmsg_type`
    pub kind: u16,
    /// `nlmsg_flags`
    pub flags: u16,
    /// `nlmsg_seq`
    pub seq: u32,
    /// What follows the header.
    pub payload: &'a [u8],
}

impl Msg<'_> {
    /// The error number in an NLMSG_ERROR (0 = acknowledged), `None` for other messages.
    #[must_use]
    pub fn errno(&self) -> Option<i32> {
        if self.kind != NLMSG_ERROR {
            return None;
        }
        Some(u32_at(self.payload, 0).map_or(libc::EBADMSG, |v| 0i32.wrapping_sub(v.cast_signed())))
    }
}

/// Splits what one receive brought into messages; stops at the first that does not fit.
pub fn messages(mut bytes: &[u8]) -> impl Iterator<Item = Msg<'_>> {
    std::iter::from_fn(move || {
        let len = u32_at(bytes, 0)? as usize;
        let msg = bytes.get(..len).filter(|m| m.len() >= HDR)?;
        bytes = bytes.get(len.next_multiple_of(4)..).unwrap_or(&[]);
        Some(Msg {
            kind: u16_at(msg, 4)?,
            flags: u16_at(msg, 6)?,
            seq: u32_at(msg, 8)?,
            payload: msg.get(HDR..)?,
        })
    })
}

/// Splits a payload into attributes (type without flag bits, content); stops at the first that does not fit.
pub fn attrs(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let len = u16_at(bytes, 0)? as usize;
        let attr = bytes.get(..len).filter(|a| a.len() >= NLA_HDR)?;
        bytes = bytes.get(len.next_multiple_of(4)..).unwrap_or(&[]);
        Some((u16_at(attr, 2)? & NLA_TYPE_MASK, attr.get(NLA_HDR..)?))
    })
}

/// The same, each with its header and padding, as it stands in the message.
pub fn whole_attrs(bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    let mut rest = bytes;
    attrs(bytes).map(move |(kind, data)| {
        let len = (data.len() + NLA_HDR).next_multiple_of(4).min(rest.len());
        let (whole, next) = rest.split_at(len);
        rest = next;
        (kind, whole)
    })
}

/// The first attribute of a type.
#[must_use]
pub fn attr(bytes: &[u8], kind: u16) -> Option<&[u8]> {
    attrs(bytes).find(|&(k, _)| k == kind).map(|(_, data)| data)
}

/// A number in host order at byte `at`.
#[must_use]
pub fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at.checked_add(4)?)?.try_into().ok().map(u32::from_ne_bytes)
}

/// A number in host order at byte `at`.
#[must_use]
pub fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..at.checked_add(2)?)?.try_into().ok().map(u16::from_ne_bytes)
}

/// An attribute's content as a number in network order.
#[must_use]
pub fn be32(data: &[u8]) -> Option<u32> {
    data.try_into().ok().map(u32::from_be_bytes)
}

/// An attribute's content as a number in network order.
#[must_use]
pub fn be64(data: &[u8]) -> Option<u64> {
    data.try_into().ok().map(u64::from_be_bytes)
}

/// A string attribute without its NUL, `None` if it is not UTF-8.
#[must_use]
pub fn text(data: &[u8]) -> Option<&str> {
    std::str::from_utf8(data.split(|&b| b == 0).next()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        let mut b = MsgBuf::with_capacity(256);
        let m = b.start(0x0a0c, REQUEST | ACK, 7);
        b.put(&[1, 0, 0, 0]);
        b.attr_str(1, "mef");
        let n = b.nest(3);
        b.attr_be32(1, 0x0102_0304);
        b.attr_be64(2, 5);
        b.end(n);
        b.finish(m);
        let m = b.start(NLMSG_ERROR, 0, 8);
        b.put(&(-17i32).to_ne_bytes());
        b.finish(m);

        let all: Vec<Msg> = messages(b.bytes()).collect();
        assert_eq!(all.len(), 2);
        assert_eq!((all[0].kind, all[0].seq, all[0].errno()), (0x0a0c, 7, None));
        let body = &all[0].payload[4..];
        assert_eq!(attr(body, 1).and_then(text), Some("mef"));
        let nest = attr(body, 3).unwrap();
        assert_eq!(attr(nest, 1).and_then(be32), Some(0x0102_0304));
        assert_eq!(attr(nest, 2).and_then(be64), Some(5));
        assert_eq!(all[1].errno(), Some(17));
    }

    #[test]
    fn damaged_bytes_end_the_reading() {
        let mut rng = fastrand::Rng::with_seed(7);
        for _ in 0..20_000 {
            let bytes: Vec<u8> = (0..rng.usize(0..64)).map(|_| rng.u8(0..24)).collect();
            for m in messages(&bytes) {
                for (_, a) in attrs(m.payload) {
                    let _ = (attrs(a).count(), text(a), be32(a));
                }
            }
        }
        assert_eq!(messages(&[0, 0, 0, 0, 0, 0, 0, 0]).count(), 0);
        assert_eq!(attrs(&[0, 0, 0, 0]).count(), 0);
    }
}
