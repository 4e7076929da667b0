#![forbid(unsafe_code)]
//! Names of programs, as service rules give them.

use super::bytes::find;

/// A program's name as rules give it: exact, or with `*` for any run of bytes. `sshd` is also the two
/// programs that OpenSSH split from it, and `postfix` is every `postfix/…`.
#[derive(Clone)]
pub struct Program(Box<[u8]>);

impl Program {
    /// Takes the name as written.
    #[must_use]
    pub fn new(name: &str) -> Program {
        Program(name.as_bytes().into())
    }

    /// What the names of all such programs begin with.
    #[must_use]
    pub fn stem(&self) -> &[u8] {
        self.0.split(|&b| b == b'*').next().unwrap_or_default()
    }

    /// Whether this is the program `name`.
    #[must_use]
    pub fn fits(&self, name: &[u8]) -> bool {
        let sshd = || &*self.0 == b"sshd" && matches!(name, b"sshd-session" | b"sshd-auth");
        // Of a program that consists of several: postfix/smtpd.
        let part = || name.get(self.0.len()) == Some(&b'/') && name.starts_with(&self.0);
        // Most names have no star.
        *self.0 == *name || sshd() || part() || (self.0.contains(&b'*') && glob(&self.0, name))
    }
}

/// Whether `name` is `pattern` with each `*` standing for any run of bytes. Linear but for the number of
/// stars.
#[must_use]
pub fn glob(pattern: &[u8], name: &[u8]) -> bool {
    let mut parts = pattern.split(|&b| b == b'*');
    let Some(mut rest) = name.strip_prefix(parts.next().unwrap_or_default()) else { return false };
    let Some(last) = parts.next_back() else { return rest.is_empty() };
    for part in parts {
        let Some(at) = find(rest, part) else { return false };
        rest = rest.get(at + part.len()..).unwrap_or_default();
    }
    rest.ends_with(last)
}
