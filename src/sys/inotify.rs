#![forbid(unsafe_code)]
//! File system events, read into a fixed buffer and parsed with every bound checked.

use nix::errno::Errno;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

pub use nix::sys::inotify::{AddWatchFlags as Mask, WatchDescriptor};

/// Room for some events; one with the longest name needs 272 bytes.
const EVENT_BUFFER: usize = 1024;
/// `wd`, `mask`, `cookie`, `len`: four 32-bit numbers before the name.
const HEAD: usize = 16;

/// One thing that happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileEvent<'a> {
    /// Number of the watch ([`WatchDescriptor::as_raw`]); -1 when events were lost.
    pub wd: i32,
    /// What happened.
    pub mask: Mask,
    /// Name inside the watched directory, empty for the watched object itself.
    pub name: &'a [u8],
}

/// An inotify instance that never blocks.
pub struct Watcher(Inotify);

impl Watcher {
    /// Opens an instance.
    ///
    /// # Errors
    /// When the kernel has no inotify or the user's limit of instances is reached.
    pub fn open() -> io::Result<Watcher> {
        Ok(Watcher(Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?))
    }

    /// Watches what `path` leads to. Watching the same object again gives the same watch, with the new mask.
    ///
    /// # Errors
    /// When the path leads nowhere, may not be read, or the limit of watches is reached (ENOSPC).
    pub fn add(&self, path: &Path, mask: Mask) -> io::Result<WatchDescriptor> {
        Ok(self.0.add_watch(&*super::fs::c_path(path)?, mask)?)
    }

    /// Ends a watch; one that ended by itself is no error.
    pub fn remove(&self, wd: WatchDescriptor) {
        let _ = self.0.rm_watch(wd);
    }

    /// Reads events until none is left and hands out each.
    ///
    /// # Errors
    /// When the descriptor cannot be read.
    pub fn read(&self, each: &mut dyn FnMut(FileEvent<'_>)) -> io::Result<()> {
        let mut room = [0u8; EVENT_BUFFER];
        loop {
            match nix::unistd::read(&self.0, &mut room) {
                Ok(0) | Err(Errno::EAGAIN) => return Ok(()),
                Ok(n) => {
                    parse(room.get(..n).unwrap_or(&[]), each);
                    if n + HEAD + 256 <= EVENT_BUFFER {
                        return Ok(()); // the kernel had room for one more and had none
                    }
                }
                Err(Errno::EINTR) => {}
                Err(e) => return Err(e.into()),
            }
        }
    }
}

impl AsFd for Watcher {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Hands out the events in `data`; an event cut off at its end is dropped.
fn parse(mut data: &[u8], each: &mut dyn FnMut(FileEvent<'_>)) {
    while let Some((wd, mask, len)) = head(data) {
        let Some((event, rest)) = data.split_at_checked(HEAD.saturating_add(len)) else { return };
        let name = event.get(HEAD..).unwrap_or(&[]);
        let name = name.split(|&b| b == 0).next().unwrap_or(&[]);
        each(FileEvent { wd, mask: AddWatchFlags::from_bits_retain(mask), name });
        data = rest;
    }
}

fn head(data: &[u8]) -> Option<(i32, u32, usize)> {
    let word = |at: usize| data.get(at..at + 4).and_then(|b| b.try_into().ok());
    let len = u32::from_ne_bytes(word(12)?);
    Some((i32::from_ne_bytes(word(0)?), u32::from_ne_bytes(word(4)?), usize::try_from(len).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(wd: i32, mask: u32, len: u32, name: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        out.extend(wd.to_ne_bytes());
        out.extend(mask.to_ne_bytes());
        out.extend(7u32.to_ne_bytes());
        out.extend(len.to_ne_bytes());
        out.extend(name);
        out
    }

    #[test]
    fn events_are_parsed_within_their_bounds() {
        let create = Mask::IN_CREATE.bits();
        let whole = [event(1, create, 8, b"log\0\0\0\0\0"), event(2, 2, 0, b"")].concat();
        type Want<'a> = &'a [(i32, &'a [u8])];
        let cases: &[(&str, Vec<u8>, Want<'_>)] = &[
            ("nothing", vec![], &[]),
            ("half a head", vec![0; 15], &[]),
            ("two", whole.clone(), &[(1, b"log"), (2, b"")]),
            ("second cut", whole[..whole.len() - 1].to_vec(), &[(1, b"log")]),
            ("name cut", whole[..20].to_vec(), &[]),
            ("length lies", event(1, create, u32::MAX, b"log\0"), &[]),
            ("no end of name", event(1, create, 4, b"logs"), &[(1, b"logs")]),
            ("lost events", event(-1, Mask::IN_Q_OVERFLOW.bits(), 0, b""), &[(-1, b"")]),
        ];
        for (name, data, want) in cases {
            let mut got = Vec::new();
            parse(data, &mut |e| got.push((e.wd, e.name.to_vec())));
            let want: Vec<_> = want.iter().map(|(wd, n)| (*wd, n.to_vec())).collect();
            assert_eq!(got, want, "{name}");
        }
    }

    #[test]
    fn a_burst_larger_than_the_room_is_read_whole() {
        let dir = std::env::temp_dir().join(format!("mef-inotify-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let watcher = Watcher::open().unwrap();
        let wd = watcher.add(&dir, Mask::IN_CREATE | Mask::IN_ONLYDIR).unwrap();
        let names: Vec<String> = (0..100).map(|i| format!("{i:03}-{}", "x".repeat(i))).collect();
        for name in &names {
            std::fs::write(dir.join(name), b"").unwrap();
        }
        let mut got = Vec::new();
        watcher
            .read(&mut |e| {
                assert_eq!(e.wd, wd.as_raw());
                got.push(String::from_utf8(e.name.to_vec()).unwrap());
            })
            .unwrap();
        std::fs::remove_dir_all(&dir).unwrap();
        assert_eq!(got, names);
    }
}
