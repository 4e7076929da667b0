#![forbid(unsafe_code)]
//! The path of a request as servers resolve it: escapes decoded, empty and dot segments gone. So nobody hides
//! what is asked for behind a prefix that does not count. Must not know what the path is wanted for.

use crate::base::bytes::find;

/// Longer paths are not resolved.
const MAX: usize = 512;

/// A resolved path.
pub(super) struct Path {
    bytes: [u8; MAX],
    len: usize,
    /// Where the last segment begins.
    start: usize,
}

impl Path {
    /// Resolves a path without its query; `None` if it is none, or too long.
    pub(super) fn new(text: &[u8]) -> Option<Path> {
        let text = path_of(text)?;
        if text.len() > MAX {
            return None;
        }
        let mut path = Path { bytes: [0; MAX], len: 0, start: 1 };
        path.push(b'/');
        let mut bytes = text.iter().copied().skip(1);
        while let Some(byte) = bytes.next() {
            let mut ahead = bytes.clone();
            let byte = match (byte, digit(ahead.next()), digit(ahead.next())) {
                (b'%', Some(high), Some(low)) => {
                    bytes = ahead;
                    high << 4 | low
                }
                (byte, ..) => byte,
            };
            if byte == b'/' {
                if path.end_segment() {
                    path.push(b'/');
                    path.start = path.len;
                }
            } else {
                path.push(byte);
            }
        }
        path.end_segment();
        Some(path)
    }

    pub(super) fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }

    /// The name at the top of the site: of `/a/b/c` the `a`. What lies below `.well-known` is told apart.
    /// Digests are all one name, none: caches ask for thousands of them, and nobody guesses one.
    pub(super) fn top(&self) -> &[u8] {
        let path = self.bytes().get(1..).unwrap_or_default();
        if is_digest(path) {
            return b"";
        }
        let end = |from: usize| {
            let rest = path.get(from..).unwrap_or_default();
            memchr::memchr(b'/', rest).map_or(path.len(), |at| from + at)
        };
        let first = end(0);
        let end =
            if path.get(..first) == Some(b".well-known") { end((first + 1).min(path.len())) } else { first };
        path.get(..end).unwrap_or_default()
    }

    fn push(&mut self, byte: u8) {
        if let Some(place) = self.bytes.get_mut(self.len) {
            *place = byte;
            self.len += 1;
        }
    }

    /// Ends the last segment. Whether it stays: neither an empty one does nor `.` and `..`.
    fn end_segment(&mut self) -> bool {
        let segment = self.bytes.get(self.start..self.len).unwrap_or_default();
        // Some servers take what is behind a semicolon for parameters.
        match segment.split(|&b| b == b';').next().unwrap_or_default() {
            b"" if segment.is_empty() => return false,
            b"." => self.len = self.start,
            b".." => {
                let before = self.bytes.get(..self.start.saturating_sub(1)).unwrap_or_default();
                self.len = memchr::memrchr(b'/', before).map_or(1, |at| at + 1);
            }
            _ => return true,
        }
        self.start = self.len;
        false
    }
}

fn digit(byte: Option<u8>) -> Option<u8> {
    char::from(byte?).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

/// The path in a request for one, also in one for a whole address, as proxies get it.
fn path_of(text: &[u8]) -> Option<&[u8]> {
    if text.first() == Some(&b'/') {
        return Some(text);
    }
    let host = text.get(find(text, b"://")? + 3..)?;
    host.get(memchr::memchr(b'/', host)?..)
}

/// Whether a path is a digest, or a digest below a directory of its first two digits, as build caches and
/// stores have it; such digests are written to the base of 16 or 32.
fn is_digest(path: &[u8]) -> bool {
    const LEAST: usize = 24;
    let mut names = path.split(|&b| b == b'/');
    let first = names.next().unwrap_or_default();
    let hex = |name: &[u8]| name.iter().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(b));
    let digits = |name: &[u8]| {
        let long = name.len() >= LEAST && name.iter().all(|b| b.is_ascii_digit() || b.is_ascii_lowercase());
        // A word that long has no digits.
        long && name.iter().filter(|b| b.is_ascii_digit()).count() >= 2
    };
    match names.next() {
        Some(second) if first.len() == 2 => hex(first) && digits(second),
        _ => first.len() >= LEAST + 8 && hex(first),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_resolved_as_servers_do() {
        let cases = [
            ("/", "/", ""),
            ("/a/b/c", "/a/b/c", "a"),
            ("/a/", "/a/", "a"),
            ("//a//b", "/a/b", "a"),
            ("/a/./b/.", "/a/b/", "a"),
            ("/a/../b", "/b", "b"),
            ("/a/..", "/", ""),
            ("/../../a", "/a", "a"),
            ("/.well-known/x/y", "/.well-known/x/y", ".well-known/x"),
            ("/.well-known/", "/.well-known/", ".well-known/"),
            ("/.well-known", "/.well-known", ".well-known"),
            ("/.well-known/.%2e/w0", "/w0", "w0"),
            ("/.well-known/%2E%2E/w0", "/w0", "w0"),
            ("/.well-known/%2e./w0", "/w0", "w0"),
            ("/.well-known%2f..%2fw0", "/w0", "w0"),
            ("/.well-known//..;/w0", "/w0", "w0"),
            ("/.well-known/x/..;a=b/../w0", "/w0", "w0"),
            ("/%2ewell-known/../w0", "/w0", "w0"),
            ("/.well-known/..;/../w0/", "/w0/", "w0"),
            ("/..a/...", "/..a/...", "..a"),
            ("/a;b", "/a;b", "a;b"),
            ("/%", "/%", "%"),
            ("/%2", "/%2", "%2"),
            ("/%zz%41", "/%zzA", "%zzA"),
            ("http://host.example/a/../b", "/b", "b"),
            ("/ab/cd0123456789abcdef0123456789ab", "/ab/cd0123456789abcdef0123456789ab", ""),
            ("/ab/0v3k9qm7t1s8u2r4p6n5lbjcgdhe", "/ab/0v3k9qm7t1s8u2r4p6n5lbjcgdhe", ""),
            ("/0123456789abcdef0123456789abcdef", "/0123456789abcdef0123456789abcdef", ""),
            ("/ab/word", "/ab/word", "ab"),
            ("/ad/antidisestablishmentarianism", "/ad/antidisestablishmentarianism", "ad"),
            ("/wp/cd0123456789abcdef0123456789ab", "/wp/cd0123456789abcdef0123456789ab", "wp"),
            ("/ab/x/../../admin", "/admin", "admin"),
        ];
        for (text, want, top) in cases {
            let path = Path::new(text.as_bytes()).unwrap();
            let shown = |bytes| String::from_utf8_lossy(bytes).into_owned();
            assert_eq!((shown(path.bytes()), shown(path.top())), (want.into(), top.into()), "{text}");
        }
        for none in ["", "*", "host.example:443", "\\x16\\x03", "http://host.example"] {
            assert!(Path::new(none.as_bytes()).is_none(), "{none}");
        }
        assert!(Path::new(&[b"/".as_slice(), &[b'a'; MAX]].concat()).is_none());
        assert_eq!(Path::new(&[b"/".as_slice(), &[b'a'; MAX - 1]].concat()).unwrap().bytes().len(), MAX);
    }
}
