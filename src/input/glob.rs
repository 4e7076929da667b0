#![forbid(unsafe_code)]
//! File names with wildcards, matched as bytes, one path component at a time. Touches no file system.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

/// A path in which components may hold `*`, `?` and `[…]`.
pub struct Glob {
    text: Box<[u8]>,
    /// Components without slashes; `.` and empty ones are left out.
    parts: Vec<Box<[u8]>>,
}

impl Glob {
    /// Reads an absolute pattern.
    ///
    /// # Errors
    /// A text that says what is wrong with it.
    pub fn parse(pattern: &[u8]) -> Result<Glob, &'static str> {
        if pattern.first() != Some(&b'/') {
            return Err("a path must begin with '/'");
        }
        if pattern.contains(&0) {
            return Err("a path cannot hold a NUL byte");
        }
        let parts: Vec<Box<[u8]>> =
            pattern.split(|&b| b == b'/').filter(|p| !p.is_empty() && *p != b".").map(Box::from).collect();
        if parts.iter().any(|p| **p == *b"..") {
            return Err("a path cannot hold '..'");
        }
        if parts.is_empty() || pattern.last() == Some(&b'/') {
            return Err("a directory is not a log file");
        }
        Ok(Glob { text: pattern.into(), parts })
    }

    /// The pattern as it was written.
    #[must_use]
    pub fn text(&self) -> &[u8] {
        &self.text
    }

    /// The path, if there is no wildcard in it.
    #[must_use]
    pub fn literal(&self) -> Option<PathBuf> {
        self.parts.iter().all(|p| !is_wild(p)).then(|| self.path(self.parts.len()))
    }

    /// The directory below which all that fits is: what stands before the first wildcard.
    #[must_use]
    pub fn prefix(&self) -> PathBuf {
        let plain = self.parts.iter().take_while(|part| !is_wild(part)).count();
        self.path(plain.min(self.parts.len() - 1))
    }

    /// How many components there are; at least one.
    #[must_use]
    pub fn depth(&self) -> usize {
        self.parts.len()
    }

    /// The component at `depth`, counted from 0, if it has no wildcard.
    #[must_use]
    pub fn plain(&self, depth: usize) -> Option<&OsStr> {
        self.parts.get(depth).filter(|p| !is_wild(p)).map(|p| OsStr::from_bytes(p))
    }

    /// Whether `name` fits the component at `depth`.
    #[must_use]
    pub fn fits(&self, depth: usize, name: &[u8]) -> bool {
        let Some(part) = self.parts.get(depth) else { return false };
        if !is_wild(part) {
            return **part == *name;
        }
        // As in a shell: hidden names only when asked for. And what a rotation packed is no log.
        if name.first() == Some(&b'.') && part.first() != Some(&b'.') {
            return false;
        }
        let packed = depth + 1 == self.parts.len() && is_packed(name) && !is_packed(part);
        !packed && wild_match(part, name)
    }

    /// How `path` relates to the pattern.
    #[must_use]
    pub fn judge(&self, path: &Path) -> Fit {
        let mut depth = 0;
        for part in path.as_os_str().as_bytes().split(|&b| b == b'/').filter(|p| !p.is_empty()) {
            if !self.fits(depth, part) {
                return Fit::No;
            }
            depth += 1;
        }
        if depth == self.parts.len() { Fit::File } else { Fit::Above }
    }

    /// The first `depth` components as a path.
    fn path(&self, depth: usize) -> PathBuf {
        let mut out = PathBuf::from("/");
        out.extend(self.parts.iter().take(depth).map(|p| OsStr::from_bytes(p)));
        out
    }
}

/// Answer of [`Glob::judge`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fit {
    /// It has nothing to do with the pattern.
    No,
    /// A directory under which files of the pattern may be.
    Above,
    /// It matches.
    File,
}

fn is_wild(part: &[u8]) -> bool {
    part.iter().any(|b| matches!(b, b'*' | b'?' | b'['))
}

/// Whether a name is that of a compressed file.
#[must_use]
pub fn is_packed(name: &[u8]) -> bool {
    [b".gz".as_slice(), b".xz", b".zst", b".bz2", b".lz4", b".lzma", b".lzo", b".Z", b".zip"]
        .iter()
        .any(|end| name.ends_with(end))
}

/// Matches one component; time at most the product of the lengths.
fn wild_match(pattern: &[u8], name: &[u8]) -> bool {
    let (mut p, mut n) = (0, 0);
    let mut star: Option<(usize, usize)> = None; // behind the last `*`, and where its match ends
    loop {
        let step = match (pattern.get(p), name.get(n)) {
            (None, None) => return true,
            (Some(b'*'), _) => {
                star = Some((p + 1, n));
                p += 1;
                continue;
            }
            (Some(b'['), Some(&c)) => class(pattern.get(p + 1..).unwrap_or(&[]), c),
            (Some(b'?'), Some(_)) => Some((true, 1)),
            (Some(want), Some(c)) => Some((want == c, 1)),
            _ => Some((false, 0)),
        };
        // A bracket that is never closed stands for itself.
        let (hit, len) = step.map_or((name.get(n) == Some(&b'['), 1), |(hit, len)| (hit, len));
        if hit {
            p += len;
            n += 1;
        } else if let Some((after, end)) = star.filter(|s| s.1 < name.len()) {
            star = Some((after, end + 1));
            (p, n) = (after, end + 1);
        } else {
            return false;
        }
    }
}

/// A class behind its `[`: whether `c` is in it, and the length of the whole including the brackets.
fn class(body: &[u8], c: u8) -> Option<(bool, usize)> {
    let negated = matches!(body.first(), Some(b'!' | b'^'));
    let mut i = usize::from(negated);
    let first = i;
    let mut hit = false;
    loop {
        let &low = body.get(i)?;
        if low == b']' && i > first {
            return Some((hit != negated, i + 2));
        }
        match (body.get(i + 1), body.get(i + 2)) {
            (Some(b'-'), Some(&high)) if high != b']' => {
                hit |= (low..=high).contains(&c);
                i += 3;
            }
            _ => {
                hit |= low == c;
                i += 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn components_match_as_in_a_shell() {
        let cases = [
            ("*.log", "a.log", true),
            ("*.log", ".log", false),
            ("*.log", ".hidden.log", false),
            (".*", ".hidden", true),
            ("*", "a.gz", false),
            ("*.gz", "a.gz", true),
            ("a*b*c", "a-b-b-c", true),
            ("a*b*c", "a-b-b-d", false),
            ("a?c", "abc", true),
            ("a?c", "ac", false),
            ("[a-c]x", "bx", true),
            ("[a-c]x", "dx", false),
            ("[!a-c]x", "dx", true),
            ("[]x]", "]", true),
            ("[a-]", "-", true),
            ("[abc", "[abc", true),
            ("[abc", "a", false),
            ("*[0-9]", "log7", true),
            ("*[0-9]", "log", false),
            ("**", "x", true),
            ("*a", "", false),
        ];
        for (pattern, name, want) in cases {
            let glob = Glob::parse(format!("/{pattern}").as_bytes()).unwrap();
            assert_eq!(glob.fits(0, name.as_bytes()), want, "{pattern} {name}");
        }
        let slow = Glob::parse(format!("/{}b", "a*".repeat(100)).as_bytes()).unwrap();
        assert!(!slow.fits(0, "a".repeat(255).as_bytes()));
    }

    #[test]
    fn paths_are_judged_component_by_component() {
        let glob = Glob::parse(b"/home/*//logs/./x*.log").unwrap();
        let cases = [
            ("/home", Fit::Above),
            ("/", Fit::Above),
            ("/home/u/logs", Fit::Above),
            ("/home/u/other", Fit::No),
            ("/home/u/logs/x1.log", Fit::File),
            ("/home/u/logs/x1.log/y", Fit::No),
            ("/home/u/logs/y.log", Fit::No),
        ];
        for (path, want) in cases {
            assert_eq!(glob.judge(Path::new(path)), want, "{path}");
        }
        assert_eq!((glob.depth(), glob.literal()), (4, None));
        assert_eq!(glob.plain(0), Some(OsStr::new("home")));
        assert_eq!(glob.plain(1), None);
        let plain = Glob::parse(b"//var/./log/auth.log").unwrap();
        assert_eq!(plain.literal(), Some(PathBuf::from("/var/log/auth.log")));
        assert_eq!(plain.prefix(), PathBuf::from("/var/log"));
        assert_eq!(Glob::parse(b"/srv/*/log/a*.log").unwrap().prefix(), PathBuf::from("/srv"));
    }

    #[test]
    fn bad_patterns_are_refused() {
        for bad in ["", "auth.log", "/", "/var/log/", "/var/../etc/x", "/a\0b"] {
            assert!(Glob::parse(bad.as_bytes()).is_err(), "{bad:?}");
        }
    }
}
