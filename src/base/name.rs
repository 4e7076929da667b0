#![forbid(unsafe_code)]
//! Names of nf_tables objects: at most 15 characters, since old kernels refuse longer ones.

use std::ffi::CStr;

/// Longest name, in bytes.
pub const NAME_MAX: usize = 15;

/// A name that every kernel takes and `nft` can print: a letter, then letters, digits, `_`, `.`, `-`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Name([u8; NAME_MAX + 1]);

impl Name {
    /// The name of a set that belongs to one rule, as the kernel would make it up. Where it does (for
    /// `__set%d`) it reads the numbers of all others each time, which takes ten seconds for ten thousand.
    #[must_use]
    pub fn anonymous(number: u32) -> Name {
        let mut name = [0; NAME_MAX + 1];
        let digits = number.to_string();
        for (slot, byte) in name.iter_mut().zip(b"__set".iter().chain(digits.as_bytes())) {
            *slot = *byte;
        }
        Name(name)
    }

    /// Checks a name, `None` if the kernel or `nft` would not take it.
    #[must_use]
    pub const fn new(text: &str) -> Option<Name> {
        let bytes = text.as_bytes();
        if bytes.is_empty() || bytes.len() > NAME_MAX || !bytes[0].is_ascii_alphabetic() {
            return None;
        }
        let mut name = [0; NAME_MAX + 1];
        let mut i = 0;
        while i < bytes.len() {
            if !(bytes[i].is_ascii_alphanumeric() || matches!(bytes[i], b'_' | b'.' | b'-')) {
                return None;
            }
            name[i] = bytes[i];
            i += 1;
        }
        Some(Name(name))
    }

    /// A name written in the source, checked when it is compiled.
    #[must_use]
    pub const fn of(text: &'static str) -> Name {
        match Name::new(text) {
            Some(name) => name,
            None => Name([0; NAME_MAX + 1]),
        }
    }

    /// For people.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.as_cstr().to_str().unwrap_or("")
    }

    /// For the C library.
    #[must_use]
    pub fn as_cstr(&self) -> &CStr {
        CStr::from_bytes_until_nul(&self.0).unwrap_or(c"")
    }
}

/// The name of an interface as rules write it (IFNAMSIZ with its NUL is 16 bytes). With `*` at its end it
/// stands for all that begin so.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct IfName([u8; NAME_MAX + 1]);

impl IfName {
    /// Checks a name: at most 15 bytes, which the kernel takes (`dev_valid_name`) and neither the language
    /// nor a terminal takes for something else. `None` if it is none.
    #[must_use]
    pub fn new(text: &str) -> Option<IfName> {
        let stem = text.strip_suffix('*').unwrap_or(text);
        let good = |b: u8| b.is_ascii_graphic() && !b"/:,!*\"\\#=@".contains(&b);
        let fits = !stem.is_empty() && stem.len() <= NAME_MAX && text.len() <= NAME_MAX + 1;
        if !fits || matches!(stem, "." | "..") || !stem.bytes().all(good) {
            return None;
        }
        let mut name = [0; NAME_MAX + 1];
        name.get_mut(..text.len())?.copy_from_slice(text.as_bytes());
        Some(IfName(name))
    }

    /// As it is written, with the `*`.
    #[must_use]
    pub fn as_str(&self) -> &str {
        let len = self.0.iter().position(|&b| b == 0).unwrap_or(self.0.len());
        self.0.get(..len).and_then(|name| std::str::from_utf8(name).ok()).unwrap_or("")
    }

    /// What a name begins with, if this stands for all that begin so.
    #[must_use]
    pub fn wildcard(&self) -> Option<&str> {
        self.as_str().strip_suffix('*')
    }

    /// Whether an interface of that name is meant.
    #[must_use]
    pub fn matches(&self, interface: &str) -> bool {
        match self.wildcard() {
            Some(stem) => interface.starts_with(stem),
            None => interface == self.as_str(),
        }
    }
}

impl std::fmt::Debug for IfName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

impl std::fmt::Display for Name {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

impl std::fmt::Debug for Name {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_that_the_kernel_takes() {
        for good in ["a", "ban4", "ban_22_4", "abcdefghijklmno", "a.b", "a-b"] {
            assert_eq!(Name::new(good).unwrap().as_str(), good);
        }
        for bad in ["", "4ban", "abcdefghijklmnop", "a b", "a;b", "ü", "a\0b", "_a"] {
            assert!(Name::new(bad).is_none(), "{bad:?}");
        }
    }
    #[test]
    fn interface_names_and_their_wildcards() {
        for good in ["lo", "eth0", "eth0.100", "veth-a_b", "ppp*", "abcdefghijklmno", "abcdefghijklmno*"] {
            assert_eq!(IfName::new(good).unwrap().as_str(), good);
        }
        let bad =
            ["", "*", ".", "..", "a b", "a/b", "a:b", "a,b", "!a", "a*b", "a#", "a=b", "@a", "\"a", "ü"];
        for bad in bad.into_iter().chain(["abcdefghijklmnop", "abcdefghijklmnop*", "a\0b"]) {
            assert!(IfName::new(bad).is_none(), "{bad:?}");
        }
        let ppp = IfName::new("ppp*").unwrap();
        assert!(ppp.matches("ppp0") && ppp.matches("ppp") && !ppp.matches("pp") && !ppp.matches("appp"));
        assert!(!IfName::new("ppp").unwrap().matches("ppp0"));
    }
}
