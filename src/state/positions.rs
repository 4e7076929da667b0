#![forbid(unsafe_code)]
//! How far each file was read, in the file `positions` in state_dir.
//!
//! Text, so that people can look at it: a first line that names the version, then for each file one line with
//! checksum (CRC-32C of what follows it in the line, in hexadecimal), device, inode, offset, hash of the
//! bytes before the offset, and the path, in which bytes other than printable ASCII and `\` are written
//! `\xHH`. Where nothing was read of a file the hash is the time until which all was; more lines for the same
//! path are places in older generations. The file is replaced as a whole, and only when its content changed:
//! its own time says until when nothing else was known. Each line stands for itself: a damaged one costs one
//! position. This module knows no source and no log.

use super::StateError;
use crate::base::crc::crc32c;
use crate::base::position::Position;
use crate::sys::dir::{Access, Dir};
use crate::sys::{clock, fs};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

const NAME: &str = "positions";
const TEMP: &str = "positions.tmp";
/// That of who does not wait for the disk.
const TEMP_SOON: &str = "positions.new";
const FIRST: &[u8] = b"mef positions 1";
/// Largest file that is read.
const SIZE_MAX: u64 = 4 << 20;
/// Bytes of all lines of a file at most, so that it is read back.
pub const LINES_MAX: usize = (4 << 20) - FIRST.len() - 1;
/// Longest path, as the system's PATH_MAX.
const PATH_MAX: usize = 4096;

/// The place where positions are kept.
pub struct Positions {
    dir: Dir,
    path: PathBuf,
    /// Checksum and length of what the file holds, to write it only when something changed.
    written: Option<(u32, usize)>,
    /// The same of what was written last without waiting for the disk.
    noted: Option<(u32, usize)>,
}

impl Positions {
    /// Opens `dir`, which is made if missing.
    ///
    /// # Errors
    /// The directory cannot be made or opened.
    pub fn open(dir: &Path) -> Result<Positions, StateError> {
        let path = dir.join(NAME);
        match Dir::create(dir) {
            Ok(dir) => Ok(Positions { dir, path, written: None, noted: None }),
            Err(error) => Err(StateError::System { call: "open", path: dir.to_owned(), error }),
        }
    }

    /// Gives path and position of every file to `each`. A missing file is an empty one.
    ///
    /// # Errors
    /// The file cannot be read, or is damaged; what was given is good nonetheless, and the rest is to be
    /// treated as if it had never been saved.
    pub fn load(&mut self, each: &mut dyn FnMut(&[u8], Position)) -> Result<(), StateError> {
        let bytes = match self.dir.file(NAME, Access::Read).and_then(|file| fs::read(file, SIZE_MAX)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(self.system("read", error)),
            Ok(bytes) => bytes,
        };
        let damaged = parse(&bytes, each);
        if damaged > 0 {
            return Err(StateError::Damaged { path: self.path.clone(), amount: damaged });
        }
        self.written = Some((crc32c(&bytes), bytes.len()));
        Ok(())
    }

    /// When the file was last changed, in nanoseconds since 1970.
    #[must_use]
    pub fn written_at(&self) -> Option<u64> {
        let (seconds, nanoseconds) = fs::facts_of(self.dir.file(NAME, Access::Read).ok()?).ok()?.mtime;
        Some(clock::nanos(seconds, nanoseconds))
    }

    /// Makes `all` the content of the file, durably, unless it is already. Paths that no system call would
    /// take are left out.
    ///
    /// # Errors
    /// The file cannot be written. It is as it was then.
    pub fn store<'a>(&mut self, all: impl Iterator<Item = (&'a [u8], Position)>) -> Result<(), StateError> {
        let bytes = text(all);
        let content = Some((crc32c(&bytes), bytes.len()));
        if self.written == content {
            return Ok(());
        }
        // What the file has already is not newer than it says.
        let is_there = self.noted == content && self.settle(&bytes).is_ok_and(|is_there| is_there);
        let done = if is_there { Ok(()) } else { self.dir.replace(NAME, TEMP, &bytes) };
        done.map_err(|e| self.system("write", e))?;
        (self.written, self.noted) = (content, None);
        Ok(())
    }

    /// The same without waiting for the disk, and so not durably: it outlives this process, and perhaps not a
    /// power cut.
    ///
    /// # Errors
    /// The file cannot be written. It is as it was then.
    pub fn note<'a>(&mut self, all: impl Iterator<Item = (&'a [u8], Position)>) -> Result<(), StateError> {
        let bytes = text(all);
        (self.written, self.noted) = (None, None);
        self.dir.replace_soon(NAME, TEMP_SOON, &bytes).map_err(|e| self.system("write", e))?;
        self.noted = Some((crc32c(&bytes), bytes.len()));
        Ok(())
    }

    /// Waits until what was noted is on the disk; whether it is still what the file holds.
    fn settle(&self, bytes: &[u8]) -> io::Result<bool> {
        let file = self.dir.file(NAME, Access::Read)?;
        file.sync_data()?;
        self.dir.sync()?;
        Ok(fs::read(file, SIZE_MAX)? == bytes)
    }

    fn system(&self, call: &'static str, error: io::Error) -> StateError {
        StateError::System { call, path: self.path.clone(), error }
    }
}

/// Reads the content of a file of positions and gives every good line to `each`. Returns how many lines are
/// damaged.
pub fn parse(bytes: &[u8], each: &mut dyn FnMut(&[u8], Position)) -> u64 {
    let mut damaged = 0;
    let mut path = Vec::new();
    for (n, line) in bytes.split_inclusive(|&byte| byte == b'\n').enumerate() {
        match line.strip_suffix(b"\n") {
            Some(FIRST) if n == 0 => {}
            Some(line) => match parse_line(line, &mut path) {
                Some(position) => each(&path, position),
                None => damaged += 1,
            },
            None => damaged += 1,
        }
    }
    damaged
}

/// How long the line of a path is at most.
#[must_use]
pub fn line_max(path: &[u8]) -> usize {
    // The checksum, three numbers of 20 digits, one of 16; a blank behind each, and the newline.
    let numbers = 9 + 3 * 21 + 17 + 1;
    path.iter().map(|&byte| if is_plain(byte) { 1 } else { 4 }).sum::<usize>() + numbers
}

/// Whether a byte of a path stands for itself.
fn is_plain(byte: u8) -> bool {
    byte.is_ascii_graphic() && byte != b'\\'
}

fn text<'a>(all: impl Iterator<Item = (&'a [u8], Position)>) -> Vec<u8> {
    let mut bytes = FIRST.to_vec();
    bytes.push(b'\n');
    all.for_each(|(path, position)| write_line(path, &position, &mut bytes));
    bytes
}

fn write_line(path: &[u8], position: &Position, out: &mut Vec<u8>) {
    if path.is_empty() || path.len() > PATH_MAX || path.contains(&0) {
        return;
    }
    let start = out.len();
    let Position { dev, ino, offset, tail } = position;
    let _ = write!(out, "00000000 {dev} {ino} {offset} {tail:016x} ");
    for &byte in path {
        if is_plain(byte) {
            out.push(byte);
        } else {
            let _ = write!(out, "\\x{byte:02x}");
        }
    }
    let (sum, rest) = out.split_at_mut(start + 8);
    let crc = crc32c(rest);
    let _ = write!(sum.get_mut(start..).unwrap_or(&mut []), "{crc:08x}");
    out.push(b'\n');
}

/// Reads one line; the path goes to `path`.
fn parse_line(line: &[u8], path: &mut Vec<u8>) -> Option<Position> {
    let (sum, rest) = line.split_at_checked(8)?;
    if sum != format!("{:08x}", crc32c(rest)).as_bytes() {
        return None;
    }
    let mut words = rest.strip_prefix(b" ")?.split(|&byte| byte == b' ');
    let dev = number(words.next()?, 10)?;
    let ino = number(words.next()?, 10)?;
    let offset = number(words.next()?, 10)?;
    let tail = number(words.next()?, 16)?;
    unescape(words.next()?, path)?;
    words.next().is_none().then_some(Position { dev, ino, offset, tail })
}

fn number(digits: &[u8], radix: u32) -> Option<u64> {
    // A sign would be taken by from_str_radix.
    let digits = std::str::from_utf8(digits).ok().filter(|digits| !digits.starts_with('+'))?;
    u64::from_str_radix(digits, radix).ok()
}

fn unescape(text: &[u8], path: &mut Vec<u8>) -> Option<()> {
    path.clear();
    let mut rest = text;
    while let Some((&byte, after)) = rest.split_first() {
        if byte != b'\\' {
            path.push(byte);
            rest = after;
            continue;
        }
        let (digits, after) = after.strip_prefix(b"x")?.split_at_checked(2)?;
        path.push(u8::try_from(number(digits, 16)?).ok()?);
        rest = after;
    }
    (!path.is_empty() && path.len() <= PATH_MAX && !path.contains(&0)).then_some(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::dir::testing::ScratchDir;

    type PositionRow = (Vec<u8>, Position);

    #[test]
    fn no_line_is_longer_than_is_said() {
        let most = Position { dev: u64::MAX, ino: u64::MAX, offset: u64::MAX, tail: u64::MAX };
        let all: Vec<u8> = (1..=255).collect();
        for path in [&b"/var/log/auth.log"[..], b"\n", b" \\ ", &all] {
            let mut line = Vec::new();
            write_line(path, &most, &mut line);
            assert_eq!(line.len(), line_max(path));
            write_line(path, &Position::default(), &mut line);
            assert!(line.len() < 2 * line_max(path));
        }
        assert_eq!(LINES_MAX + text(std::iter::empty()).len(), usize::try_from(SIZE_MAX).unwrap());
    }

    fn rows() -> Vec<PositionRow> {
        let position = |n: u64| Position { dev: n, ino: n * 7, offset: n * 1000, tail: !n };
        vec![
            (b"/var/log/auth.log".to_vec(), position(1)),
            (b"/var/log/with space\n\\ and \xff\xc3\xbc".to_vec(), position(2)),
            (b"/x".to_vec(), Position { dev: u64::MAX, ino: u64::MAX, offset: u64::MAX, tail: 0 }),
            (b"relative\t\x7f\x1b[31m".to_vec(), Position::default()),
        ]
    }

    fn store(scratch: &ScratchDir, rows: &[PositionRow]) -> Vec<u8> {
        let mut positions = Positions::open(scratch.path()).unwrap();
        positions.store(rows.iter().map(|(path, p)| (&path[..], *p))).unwrap();
        std::fs::read(scratch.path().join(NAME)).unwrap()
    }

    fn parsed(bytes: &[u8]) -> (Vec<PositionRow>, u64) {
        let mut got = Vec::new();
        let damaged = parse(bytes, &mut |path, p| got.push((path.to_vec(), p)));
        (got, damaged)
    }

    #[test]
    fn what_is_stored_is_loaded() {
        let scratch = ScratchDir::new();
        let mut positions = Positions::open(&scratch.path().join("state")).unwrap();
        positions.load(&mut |_, _| panic!("nothing was stored")).unwrap();
        for rows in [rows(), Vec::new()] {
            positions.store(rows.iter().map(|(path, p)| (&path[..], *p))).unwrap();
            let mut got = Vec::new();
            positions.load(&mut |path, p| got.push((path.to_vec(), p))).unwrap();
            assert_eq!(got, rows);
        }
    }

    #[test]
    fn nothing_is_written_when_nothing_changed() {
        use std::os::unix::fs::MetadataExt as _;
        let scratch = ScratchDir::new();
        let rows = rows();
        store(&scratch, &rows);
        let inode = || std::fs::metadata(scratch.path().join(NAME)).unwrap().ino();
        let mut positions = Positions::open(scratch.path()).unwrap();
        positions.load(&mut |_, _| {}).unwrap();
        let before = inode();
        positions.store(rows.iter().map(|(path, p)| (&path[..], *p))).unwrap();
        assert_eq!(inode(), before);
        positions.store(rows.iter().skip(1).map(|(path, p)| (&path[..], *p))).unwrap();
        assert_ne!(inode(), before);
        // What was noted is not written again, unless somebody else has written meanwhile.
        let all = || rows.iter().map(|(path, p)| (&path[..], *p));
        positions.note(all()).unwrap();
        let noted = inode();
        positions.store(all()).unwrap();
        assert_eq!(inode(), noted);
        positions.note(all()).unwrap();
        store(&scratch, &rows[1..]);
        positions.store(all()).unwrap();
        assert_eq!(parsed(&std::fs::read(scratch.path().join(NAME)).unwrap()), (rows, 0));
    }

    #[test]
    fn a_flipped_byte_costs_one_line() {
        let (scratch, rows) = (ScratchDir::new(), rows());
        let good = store(&scratch, &rows);
        for at in 0..good.len() {
            for flip in [1, 0x80, 0x20, good[at] ^ b'\n', good[at] ^ b' ', good[at]] {
                let mut bytes = good.clone();
                bytes[at] ^= flip;
                let hit = good[..at].iter().filter(|&&b| b == b'\n').count();
                let newline = good[at] == b'\n';
                let (got, damaged) = parsed(&bytes);
                for (n, row) in rows.iter().enumerate().map(|(n, row)| (n + 1, row)) {
                    let touched = flip != 0 && (n == hit || (newline && n == hit + 1));
                    assert!(touched || got.contains(row), "byte {at} ^ {flip:#x}, line {n}");
                }
                assert!(got.iter().all(|row| rows.contains(row)), "byte {at} ^ {flip:#x}");
                assert_eq!(damaged == 0, flip == 0, "byte {at} ^ {flip:#x}");
            }
        }
    }

    #[test]
    fn a_file_cut_anywhere_keeps_the_lines_before() {
        let (scratch, rows) = (ScratchDir::new(), rows());
        let good = store(&scratch, &rows);
        for len in 0..good.len() {
            let lines = good[..len].iter().filter(|&&b| b == b'\n').count().saturating_sub(1);
            assert_eq!(parsed(&good[..len]).0, rows[..lines], "{len} bytes");
        }
    }

    #[test]
    fn foreign_content_is_reported_once_and_replaced() {
        let scratch = ScratchDir::new();
        for content in [
            &b"hello"[..],
            b"\0\0\0\0",
            b"mef positions 2\nx y z\n",
            &[b'9'; 100_000],
            b"+1234567 1 1 1 1 /x\n",
        ] {
            std::fs::write(scratch.path().join(NAME), content).unwrap();
            let mut positions = Positions::open(scratch.path()).unwrap();
            let error = positions.load(&mut |_, _| panic!("nothing in it is good")).unwrap_err();
            assert!(error.to_string().contains("damaged line"), "{error}");
            let rows = rows();
            assert_eq!(parsed(&store(&scratch, &rows)), (rows, 0));
        }
        let odd = [b"".to_vec(), b"/nul\0".to_vec(), vec![b'/'; PATH_MAX + 1]]
            .map(|path| (path, Position::default()));
        assert_eq!(parsed(&store(&scratch, &odd)), (Vec::new(), 0), "paths that cannot be");
    }

    #[test]
    fn random_bytes_are_survived() {
        let mut rng = fastrand::Rng::with_seed(3);
        let alphabet = b"0123456789abcdef \n\\x/\xff";
        for _ in 0..20_000 {
            let bytes: Vec<u8> =
                (0..rng.usize(..80)).map(|_| alphabet[rng.usize(..alphabet.len())]).collect();
            parsed(&bytes);
        }
    }
}
