#![forbid(unsafe_code)]
//! Domain names as they stand in messages: labels with their lengths in front, up to the root's empty one.
//! A name is a value of fixed size; nothing here allocates.

use std::fmt::{self, Write as _};
use std::net::{IpAddr, Ipv6Addr};

/// Bytes of the longest name in wire form, the root's label included.
pub const MAX_NAME: usize = 255;
/// Bytes of the longest label.
pub const MAX_LABEL: u8 = 63;
/// More than one pointer for each label leads nowhere.
const MAX_POINTERS: usize = 127;

/// A domain name. The default one is the root.
#[derive(Clone, Copy)]
pub struct Name {
    /// The labels in wire form; what stands behind `len` is of no meaning.
    bytes: [u8; MAX_NAME],
    /// Bytes in use, the root's label not counted: that is a zero byte which always stands behind them.
    len: u8,
}

impl Default for Name {
    fn default() -> Name {
        Name { bytes: [0; MAX_NAME], len: 0 }
    }
}

impl Name {
    /// The name that a text means, with or without a dot at the end. There are no escapes: a label is made of
    /// visible ASCII but for the dot and the backslash.
    #[must_use]
    pub fn parse(text: &[u8]) -> Option<Name> {
        let mut name = Name::default();
        let text = text.strip_suffix(b".").unwrap_or(text);
        for label in text.split(|byte| *byte == b'.') {
            let is_plain = label.iter().all(|byte| byte.is_ascii_graphic() && *byte != b'\\');
            name = if is_plain { name.push(label)? } else { return None };
        }
        Some(name)
    }

    /// The name by which a zone of addresses knows an address: its octets, or its 32 nibbles, the last first.
    #[must_use]
    pub fn of_addr(addr: IpAddr, zone: &Name) -> Option<Name> {
        let mut name = Name::default();
        match addr {
            IpAddr::V4(v4) => {
                for octet in v4.octets().iter().rev() {
                    let digits = [octet / 100, octet / 10 % 10, octet % 10].map(|digit| b'0' + digit);
                    let from = if *octet > 99 { 0 } else { 2 - usize::from(*octet > 9) };
                    name = name.push(digits.get(from..)?)?;
                }
            }
            IpAddr::V6(v6) => {
                for octet in v6.octets().iter().rev() {
                    for nibble in [octet & 15, octet >> 4] {
                        name = name.push(&[nibble + if nibble < 10 { b'0' } else { b'a' - 10 }])?;
                    }
                }
            }
        }
        name.join(zone)
    }

    /// The address that a name below `zone` means: the opposite of [`Name::of_addr`]. What would be written
    /// in another way (a leading zero) is none.
    #[must_use]
    pub fn to_addr(&self, zone: &Name) -> Option<IpAddr> {
        if !self.is_below(zone) {
            return None;
        }
        let count = self.labels().count() - zone.labels().count();
        let labels = || self.labels().take(count);
        let found = match count {
            4 => {
                let mut octets = [0u8; 4];
                for (octet, label) in octets.iter_mut().rev().zip(labels()) {
                    *octet = str::from_utf8(label).ok()?.parse().ok()?;
                }
                IpAddr::from(octets)
            }
            32 => {
                let mut bits = 0u128;
                for label in labels() {
                    let &[digit] = label else { return None };
                    bits = bits >> 4 | u128::from(char::from(digit).to_digit(16)?) << 124;
                }
                Ipv6Addr::from_bits(bits).into()
            }
            _ => return None,
        };
        Name::of_addr(found, zone).filter(|name| name.is_same(self)).map(|_| found)
    }

    /// The name with one more label at its end, before the root.
    #[must_use]
    pub fn push(mut self, label: &[u8]) -> Option<Name> {
        let length = u8::try_from(label.len()).ok().filter(|len| (1..=MAX_LABEL).contains(len))?;
        let start = usize::from(self.len);
        let end = start + 1 + label.len();
        if end >= MAX_NAME {
            return None;
        }
        *self.bytes.get_mut(start)? = length;
        self.bytes.get_mut(start + 1..end)?.copy_from_slice(label);
        *self.bytes.get_mut(end)? = 0;
        self.len = u8::try_from(end).ok()?;
        Some(self)
    }

    /// This name below another: `mail` and `example.org` are `mail.example.org`.
    #[must_use]
    pub fn join(mut self, zone: &Name) -> Option<Name> {
        let start = usize::from(self.len);
        let whole = zone.wire();
        self.bytes.get_mut(start..start + whole.len())?.copy_from_slice(whole);
        self.len += zone.len;
        Some(self)
    }

    /// Reads a name out of a message, through its compression pointers; also says where what follows it
    /// stands. A pointer must lead to something before the part it ends: so no message makes this go round.
    #[must_use]
    pub fn read(message: &[u8], at: usize) -> Option<(Name, usize)> {
        let mut name = Name::default();
        let (mut from, mut start, mut end, mut pointers) = (at, at, None, 0);
        loop {
            let length = *message.get(from)?;
            match length {
                0 => return Some((name, end.unwrap_or(from + 1))),
                1..=63 => {
                    let next = from + 1 + usize::from(length);
                    name = name.push(message.get(from + 1..next)?)?;
                    from = next;
                }
                0xc0.. => {
                    let target = usize::from(length & 0x3f) << 8 | usize::from(*message.get(from + 1)?);
                    pointers += 1;
                    if target >= start || pointers > MAX_POINTERS {
                        return None;
                    }
                    end = end.or(Some(from + 2));
                    (from, start) = (target, target);
                }
                // Two kinds of labels that were never used.
                _ => return None,
            }
        }
    }

    /// The wire form, with the root's empty label at its end.
    #[must_use]
    pub fn wire(&self) -> &[u8] {
        self.bytes.get(..=usize::from(self.len)).unwrap_or(&[0])
    }

    /// The labels, the root's left out.
    #[must_use]
    pub fn labels(&self) -> Labels<'_> {
        Labels(self.wire())
    }

    /// Whether it is the root.
    #[must_use]
    pub fn is_root(&self) -> bool {
        self.len == 0
    }

    /// Whether both are the same name: case does not count. (Lengths are below 64, no letters.)
    #[must_use]
    pub fn is_same(&self, other: &Name) -> bool {
        self.wire().eq_ignore_ascii_case(other.wire())
    }

    /// Whether it is `zone` or stands below it.
    #[must_use]
    pub fn is_below(&self, zone: &Name) -> bool {
        let mut labels = self.labels();
        loop {
            if labels.0.eq_ignore_ascii_case(zone.wire()) {
                return true;
            }
            if labels.next().is_none() {
                return false;
            }
        }
    }

    /// The name with its letters in lower case, as it is signed.
    #[must_use]
    pub fn to_lower(mut self) -> Name {
        self.bytes.make_ascii_lowercase();
        self
    }

    /// The name with letters in upper case where a bit of `bits` is set, bit after bit: an answer must have
    /// them, too, which one who did not see the question has to guess.
    #[must_use]
    pub fn mix_case(mut self, mut bits: u64) -> Name {
        for byte in self.bytes.iter_mut().take(usize::from(self.len)) {
            if byte.is_ascii_alphabetic() {
                *byte = if bits & 1 == 1 { byte.to_ascii_uppercase() } else { byte.to_ascii_lowercase() };
                bits = bits.rotate_right(1);
            }
        }
        self
    }
}

/// The labels of a name, one after the other.
#[derive(Clone)]
pub struct Labels<'a>(&'a [u8]);

impl<'a> Iterator for Labels<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let (length, rest) = self.0.split_first().filter(|(length, _)| **length != 0)?;
        let (label, rest) = rest.split_at_checked(usize::from(*length))?;
        self.0 = rest;
        Some(label)
    }
}

impl fmt::Display for Name {
    /// As text, without the root's dot; what is no visible ASCII as `\DDD`, so that a log or a terminal can
    /// show it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_root() {
            return f.write_char('.');
        }
        for (at, label) in self.labels().enumerate() {
            if at > 0 {
                f.write_char('.')?;
            }
            for byte in label {
                match byte {
                    b'.' | b' ' | b'\\' => write!(f, "\\{}", char::from(*byte))?,
                    b'!'..=b'~' => f.write_char(char::from(*byte))?,
                    _ => write!(f, "\\{byte:03}")?,
                }
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn name(text: &str) -> Name {
        Name::parse(text.as_bytes()).unwrap()
    }

    #[test]
    fn texts_become_names_and_texts_again() {
        let long = "a".repeat(63);
        let most = format!("{long}.{long}.{long}.{}", "a".repeat(61));
        for text in ["example.org", "a.b.c", "_dmarc.example.org", &most] {
            assert_eq!(name(text).to_string(), text);
            assert_eq!(name(&format!("{text}.")).to_string(), text, "with the root's dot");
        }
        for bad in ["", ".", "..", "a..b", ".a", "a b", "a\\.b", "ä", &"a".repeat(64), &format!("{most}a")] {
            assert!(Name::parse(bad.as_bytes()).is_none(), "{bad}");
        }
        assert_eq!(Name::default().push(b"a.\x00\\").unwrap().to_string(), r"a\.\000\\");
        assert_eq!(Name::default().to_string(), ".");
    }

    #[test]
    fn addresses_are_reversed_and_read_again() {
        let zone = name("bl.example");
        let cases: &[(&str, &str)] = &[
            ("192.0.2.99", "99.2.0.192.bl.example"),
            ("10.100.9.255", "255.9.100.10.bl.example"),
            ("2001:db8::a1", "1.a.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.bl.example"),
        ];
        for (addr, text) in cases {
            let addr: IpAddr = addr.parse().unwrap();
            assert_eq!(Name::of_addr(addr, &zone).unwrap().to_string(), *text);
            assert_eq!(name(&text.to_uppercase()).to_addr(&zone), Some(addr));
        }
        for bad in ["bl.example", "1.2.3.bl.example", "01.2.3.4.bl.example", "256.2.3.4.bl.example"] {
            assert_eq!(name(bad).to_addr(&zone), None, "{bad}");
        }
        assert_eq!(name("4.3.2.1.other.example").to_addr(&zone), None);
        let long = format!("{0}.{0}.{0}.{1}", "a".repeat(63), "a".repeat(57));
        assert!(Name::of_addr("192.0.2.1".parse().unwrap(), &name(&long)).is_none(), "too long");
    }

    #[test]
    fn case_does_not_count_and_is_mixed_by_bits() {
        let (mixed, zone) = (name("abc-1.d").mix_case(0b1010), name("D"));
        assert_eq!(mixed.to_string(), "aBc-1.D");
        assert!(mixed.is_same(&name("ABC-1.d")) && mixed.is_below(&zone) && !zone.is_below(&mixed));
        assert!(mixed.is_below(&Name::default()) && !name("abcd").is_below(&zone));
        assert_eq!(mixed.to_lower().wire(), name("abc-1.d").wire());
    }

    #[test]
    fn pointers_lead_back_only() {
        let message = b"\x01a\x01b\x00\x01c\xc0\x02\xc0\x0a\xc0\x05";
        assert_eq!(Name::read(message, 0).map(|(n, end)| (n.to_string(), end)), Some(("a.b".into(), 5)));
        assert_eq!(Name::read(message, 5).map(|(n, end)| (n.to_string(), end)), Some(("c.b".into(), 9)));
        assert!(Name::read(message, 9).is_none(), "a pointer forward");
        assert_eq!(Name::read(message, 11).map(|(n, end)| (n.to_string(), end)), Some(("c.b".into(), 13)));
        assert!(Name::read(b"\xc0\x00", 0).is_none() && Name::read(b"\x01a\xc0\x00", 0).is_none(), "loops");
        assert!(Name::read(b"\x05ab", 0).is_none() && Name::read(b"\x41a\x00", 0).is_none());
        assert!(Name::read(&[1, b'a'].repeat(200), 0).is_none(), "endless");
    }
}
