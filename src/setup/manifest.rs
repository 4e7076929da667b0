#![forbid(unsafe_code)]
//! What was set up, so that a file that nobody has changed since can be told from one that somebody has.

use super::root::Root;
use crate::base::siphash::sip13;
use std::io;

/// Where it is written down. In /etc, since /var is in memory on some systems.
pub const PATH: &str = "/etc/mef/.setup";
/// Nobody is to be kept from making two files alike; it is about accidents.
const KEY: [u64; 2] = [0x6d65_6620_7365_7475, 0x7020_6669_6c65_7321];

/// A number that stands for a content.
#[must_use]
pub fn hash(bytes: &[u8]) -> u64 {
    sip13(KEY, bytes)
}

/// Files that were written, each with what it was then.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Manifest {
    /// The init system that they are for.
    pub init: String,
    /// Path and number.
    pub files: Vec<(String, u64)>,
}

impl Manifest {
    /// As it was written down last; empty if it was not.
    #[must_use]
    pub fn read(root: &Root) -> Manifest {
        Manifest::parse(&root.text(PATH))
    }

    fn parse(text: &str) -> Manifest {
        let mut all = Manifest::default();
        for line in text.lines() {
            match line.split_once(' ') {
                Some(("init", name)) => name.clone_into(&mut all.init),
                Some((number, path)) if path.starts_with('/') => {
                    all.files
                        .extend(u64::from_str_radix(number, 16).ok().map(|number| (path.to_owned(), number)));
                }
                _ => {}
            }
        }
        all
    }

    /// Writes it down.
    ///
    /// # Errors
    /// What the system says.
    pub fn write(&self, root: &Root) -> io::Result<()> {
        let mut text = ["# What `mef setup` has written here.\ninit ", &self.init, "\n"].concat();
        let mut files: Vec<_> = self.files.iter().collect();
        files.sort();
        for (path, number) in files {
            text.push_str(&format!("{number:016x} {path}\n"));
        }
        if root.text(PATH) == text { Ok(()) } else { root.write(PATH, text.as_bytes(), 0o644) }
    }

    /// What a file was when it was written.
    #[must_use]
    pub fn number(&self, path: &str) -> Option<u64> {
        self.files.iter().find(|(is, _)| is == path).map(|(_, number)| *number)
    }

    /// A file is gone.
    pub fn forget(&mut self, path: &str) {
        self.files.retain(|(is, _)| is != path);
    }

    /// A file was written with this content.
    pub fn set(&mut self, path: &str, bytes: &[u8]) {
        if super::SHARED.contains(&path) {
            return;
        }
        let number = hash(bytes);
        match self.files.iter_mut().find(|(is, _)| is == path) {
            Some(known) => known.1 = number,
            None => self.files.push((path.to_owned(), number)),
        }
    }
}

/// Whether a file is as set-up wrote it.
#[must_use]
pub fn is_untouched(path: &str) -> bool {
    let root = Root::new(std::path::Path::new("/"));
    let Some(number) = Manifest::read(&root).number(path) else { return false };
    matches!(root.look(path), Ok(super::root::Found::File(bytes)) if hash(&bytes) == number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back_and_a_changed_byte_is_seen() {
        let root = Root::new(&std::env::temp_dir().join(format!("mef-manifest-{}", std::process::id())));
        let mut all = Manifest { init: "openrc".into(), ..Manifest::default() };
        for (path, text) in [("/etc/a b", "some text"), ("/etc/c", "")] {
            all.set(path, text.as_bytes());
        }
        all.set("/etc/c", b"more");
        all.write(&root).unwrap();
        assert_eq!(Manifest::read(&root), all);
        assert_eq!(all.number("/etc/c"), Some(hash(b"more")));
        assert!(hash(b"12345678") != hash(b"12345679") && hash(b"") != hash(b"\0"));
        root.remove_all("/").unwrap();
        assert_eq!(Manifest::read(&root), Manifest::default());
        assert_eq!(Manifest::parse("zz /etc/a\n\n1\ninit\n12 b"), Manifest::default());
    }
}
