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

/// Files that were written, each with what it was then. One that is being written is there twice: with what
/// it was and what it will be, so that it is known as ours wherever a set-up is cut off.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
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

    /// Whether a file with this number is as it was written.
    #[must_use]
    pub fn knows(&self, path: &str, number: u64) -> bool {
        self.files.iter().any(|(is, known)| is == path && *known == number)
    }

    /// Whether a file was written.
    #[must_use]
    pub fn has(&self, path: &str) -> bool {
        self.files.iter().any(|(is, _)| is == path)
    }

    /// A file is about to be written with this content.
    pub fn intend(&mut self, path: &str, bytes: &[u8]) {
        if !super::SHARED.contains(&path) && !self.knows(path, hash(bytes)) {
            self.files.push((path.to_owned(), hash(bytes)));
        }
    }

    /// A file is gone.
    pub fn forget(&mut self, path: &str) {
        self.files.retain(|(is, _)| is != path);
    }

    /// A file was written with this content.
    pub fn set(&mut self, path: &str, bytes: &[u8]) {
        self.forget(path);
        self.intend(path, bytes);
    }
}

/// Whether a file is as set-up wrote it.
#[must_use]
pub fn is_untouched(path: &str) -> bool {
    let root = Root::new(std::path::Path::new("/"));
    let manifest = Manifest::read(&root);
    matches!(root.look(path), Ok(super::root::Found::File(bytes)) if manifest.knows(path, hash(&bytes)))
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
        assert!(all.knows("/etc/c", hash(b"more")) && !all.knows("/etc/c", hash(b"")));
        // Cut off while it is written, both are ours.
        all.intend("/etc/c", b"new");
        all.files.sort();
        assert!(all.knows("/etc/c", hash(b"more")) && all.knows("/etc/c", hash(b"new")));
        all.write(&root).unwrap();
        assert_eq!(Manifest::read(&root), all);
        all.set("/etc/c", b"new");
        assert!(!all.knows("/etc/c", hash(b"more")) && all.files.len() == 2);
        assert!(hash(b"12345678") != hash(b"12345679") && hash(b"") != hash(b"\0"));
        root.remove_all("/").unwrap();
        assert_eq!(Manifest::read(&root), Manifest::default());
        assert_eq!(Manifest::parse("zz /etc/a\n\n1\ninit\n12 b"), Manifest::default());
    }
}
