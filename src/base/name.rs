#![forbid(unsafe_code)]
//! Names of nf_tables objects: at most 15 characters, since old kernels refuse longer ones.

use std::ffi::CStr;

/// Longest name, in bytes.
pub const NAME_MAX: usize = 15;

/// A name that every kernel takes and `nft` can print: a letter, then letters, digits, `_`, `.`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Name([u8; NAME_MAX + 1]);

impl Name {
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
            if !(bytes[i].is_ascii_alphanumeric() || bytes[i] == b'_' || bytes[i] == b'.') {
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
        for good in ["a", "ban4", "ban_22_4", "abcdefghijklmno", "a.b"] {
            assert_eq!(Name::new(good).unwrap().as_str(), good);
        }
        for bad in ["", "4ban", "abcdefghijklmnop", "a b", "a;b", "ü", "a\0b", "_a"] {
            assert!(Name::new(bad).is_none(), "{bad:?}");
        }
    }
}
