#![forbid(unsafe_code)]
//! Where a file went when its name was given to another: looks through its directory. Keeps no state but, for
//! who looks for many files, the names of a directory that rests.

use super::reader::FileReader;
use crate::base::position::Position;
use crate::input::glob::is_packed;
use crate::sys::clock;
use crate::sys::fs::{self, FileId};
use std::cell::RefCell;
use std::cmp::Ordering;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

/// The name part of a path.
fn name_of(path: &Path) -> &[u8] {
    path.file_name().map_or(&[], OsStr::as_bytes)
}

fn dir_of(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new("/"))
}

/// What a rotation adds to a name: a number or a date, or `.old`.
fn is_stamp(added: &[u8]) -> bool {
    let begins = matches!(added.first(), Some(b'.' | b'-' | b'_'));
    let digits = added.iter().any(u8::is_ascii_digit)
        && added.iter().all(|b| b.is_ascii_digit() || matches!(b, b'.' | b'-' | b'_' | b':' | b'T'));
    begins && (digits || added == b".old")
}

/// A name up to its last dot, and from there on.
fn stem(base: &[u8]) -> (&[u8], &[u8]) {
    base.split_at(memchr::memrchr(b'.', base).filter(|&dot| dot > 0).unwrap_or(base.len()))
}

/// Whether `name` is what a rotation makes of `base`: `log.1`, `log-20261122`, `log.old`, and for `app.log`
/// also `app-20261122.log`.
fn is_rotated(base: &[u8], name: &[u8]) -> bool {
    if name.strip_prefix(base).is_some_and(is_stamp) {
        return true;
    }
    let (stem, end) = stem(base);
    !end.is_empty() && name.strip_prefix(stem).and_then(|rest| rest.strip_suffix(end)).is_some_and(is_stamp)
}

/// Whether the file at `path` is an older generation of the one at `base`.
pub(super) fn descends(base: &Path, path: &Path) -> bool {
    // Most are not: of many files each is compared with each.
    path.as_os_str().as_bytes().starts_with(stem(base.as_os_str().as_bytes()).0)
        && dir_of(base) == dir_of(path)
        && is_rotated(name_of(base), name_of(path))
}

/// Age of a generation: the time of its last change; names decide what the clock's grain left open.
pub(super) struct RotationAge {
    pub(super) mtime: (i64, i64),
    pub(super) name: PathBuf,
}

impl RotationAge {
    /// Whether this one was written before `other`.
    pub(super) fn before(&self, other: &RotationAge) -> bool {
        match self.mtime.cmp(&other.mtime) {
            Ordering::Equal => older_name(name_of(&self.name), name_of(&other.name)),
            order => order == Ordering::Less,
        }
    }
}

/// Whether the name `a` stands for an older generation than `b`: `log.2` before `log.1`, `log-20261121`
/// before `log-20261122`.
fn older_name(a: &[u8], b: &[u8]) -> bool {
    match (counter(a), counter(b)) {
        (Some(a), Some(b)) if a != b => a > b,
        _ => a < b,
    }
}

/// The number behind the last dot, if it is a counter and no date.
fn counter(name: &[u8]) -> Option<u32> {
    let dot = memchr::memrchr(b'.', name)?;
    let digits = name.get(dot + 1..).filter(|d| (1..=5).contains(&d.len()))?;
    digits.iter().try_fold(0u32, |n, b| b.is_ascii_digit().then(|| n * 10 + u32::from(b - b'0')))
}

/// Nanoseconds for which the time of a directory's last change may be the same though it was changed again.
const UNSURE: u64 = 2_000_000_000;

/// Names of a directory, for who asks for the generations of many files in it: each question would read it
/// whole.
#[derive(Default)]
pub(super) struct DirNames(RefCell<Option<ReadNames>>);

struct ReadNames {
    dir: PathBuf,
    /// When it was last changed.
    mtime: (i64, i64),
    /// In their order.
    names: Vec<Box<[u8]>>,
}

impl ReadNames {
    /// Reads them; `None` if the directory was changed so lately that it may be changed again unnoticed.
    fn read(dir: &Path, mtime: (i64, i64)) -> Option<ReadNames> {
        let changed = clock::nanos(mtime.0, mtime.1);
        if clock::wall_nanos().checked_sub(changed).is_none_or(|age| age < UNSURE) {
            return None;
        }
        let mut names: Vec<Box<[u8]>> = Vec::new();
        fs::each_name(dir, &mut |name| names.push(name.into())).ok()?;
        names.sort_unstable();
        Some(ReadNames { dir: dir.to_owned(), mtime, names })
    }

    /// Those that begin with this.
    fn with(&self, start: &[u8]) -> impl Iterator<Item = &[u8]> {
        let from = self.names.partition_point(|name| &**name < start);
        self.names.iter().skip(from).map(|name| &**name).take_while(move |name| name.starts_with(start))
    }
}

impl DirNames {
    /// Gives every name of the directory that may be one of an older generation of `base` to `each`.
    fn each(&self, dir: &Path, base: &[u8], each: &mut dyn FnMut(&[u8])) {
        let mut kept = self.0.borrow_mut();
        let mtime = fs::facts(dir).map(|facts| facts.mtime).unwrap_or_default();
        if kept.as_ref().is_none_or(|kept| kept.dir != dir || kept.mtime != mtime) {
            *kept = ReadNames::read(dir, mtime);
        }
        match &*kept {
            Some(kept) => kept.with(stem(base).0).for_each(each),
            None => drop(fs::each_name(dir, each)),
        }
    }
}

/// Gives every older generation of the log at `path` to `each`: regular files under rotated names.
pub(super) fn generations(path: &Path, each: &mut dyn FnMut(RotationAge, fs::FileFacts)) {
    let (dir, base) = (dir_of(path), name_of(path));
    let _ = fs::each_name(dir, &mut |name| generation((dir, base), name, each));
}

/// Likewise, where this is asked for many of a directory.
pub(super) fn generations_among(
    names: &DirNames,
    path: &Path,
    each: &mut dyn FnMut(RotationAge, fs::FileFacts),
) {
    let (dir, base) = (dir_of(path), name_of(path));
    names.each(dir, base, &mut |name| generation((dir, base), name, each));
}

fn generation((dir, base): (&Path, &[u8]), name: &[u8], each: &mut dyn FnMut(RotationAge, fs::FileFacts)) {
    if !is_rotated(base, name) {
        return;
    }
    let candidate = dir.join(OsStr::from_bytes(name));
    if let Ok(facts) = fs::facts(&candidate)
        && facts.regular
    {
        each(RotationAge { mtime: facts.mtime, name: candidate }, facts);
    }
}

/// A compressed generation of the log at `path` that was last changed at `since`, in seconds, or later.
pub(super) fn packed(path: &Path, since: i64) -> Option<PathBuf> {
    let mut found = None;
    let _ = fs::each_name(dir_of(path), &mut |name| {
        let end = memchr::memrchr(b'.', name).filter(|_| is_packed(name)).unwrap_or(0);
        if is_rotated(name_of(path), name.get(..end).unwrap_or(&[])) {
            let candidate = dir_of(path).join(OsStr::from_bytes(name));
            if fs::facts(&candidate).is_ok_and(|f| f.mtime.0 >= since) {
                found = Some(candidate);
            }
        }
    });
    found
}

/// Finds the file in which `at` was taken among the neighbours of `path`, and goes on there: the same inode
/// under any name, else a copy under a rotated name. A rotated file with that inode and other bytes was
/// truncated meanwhile: it is read from its start. `taken` files are followed already.
pub(super) fn find(path: &Path, at: &Position, taken: &dyn Fn(FileId) -> bool) -> Option<FileReader> {
    let (dir, base) = (dir_of(path), name_of(path));
    let mut best: Option<(u8, FileReader)> = None;
    let _ = fs::each_name(dir, &mut |name| {
        let worth = best.as_ref().map_or(0, |b| b.0);
        let rotated = is_rotated(base, name);
        if worth == 3 || name == base {
            return;
        }
        let candidate = dir.join(OsStr::from_bytes(name));
        let Ok(facts) = fs::facts(&candidate) else { return };
        let same = facts.id.ino == at.ino;
        // An offset of 0 tells nothing about copies.
        if !facts.regular || taken(facts.id) || !(same || rotated && at.offset > 0) {
            return;
        }
        let Ok(mut reader) = FileReader::open(&candidate) else { return };
        let found = match (reader.resume(at), same) {
            (true, true) => 3,
            (true, false) => 2,
            (false, true) if rotated => 1,
            _ => 0,
        };
        if found > worth {
            best = Some((found, reader));
        }
    });
    best.map(|(_, reader)| reader)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn rotated_names_are_told_from_neighbours() {
        let cases = [
            ("auth.log", "auth.log.1", true),
            ("auth.log", "auth.log-20261122", true),
            ("auth.log", "auth.log.old", true),
            ("auth.log", "auth-2026-11-22.log", true),
            ("auth.log", "auth.1.log", true),
            ("syslog", "syslog.0", true),
            ("auth.log", "auth.log", false),
            ("auth.log", "auth-errors.log", false),
            ("auth.log", "auth.log.bak", false),
            ("auth.log", "auth.log.json", false),
            ("auth.log", "auth2.log", false),
            ("auth.log", "auth.log.", false),
            ("auth.log", "auth.log1", false),
            (".log", "x.log", false),
        ];
        for (base, name, want) in cases {
            assert_eq!(is_rotated(base.as_bytes(), name.as_bytes()), want, "{base} {name}");
            for (dir, other) in [("/var/log", "/var/log"), ("/a.d", "/a.d"), ("/a", "/b"), ("/a.d", "/a.e")] {
                let (base, path) = (Path::new(dir).join(base), Path::new(other).join(name));
                assert_eq!(descends(&base, &path), want && dir == other, "{base:?} {path:?}");
            }
        }
    }

    #[test]
    fn names_tell_age_when_the_clock_does_not() {
        let cases = [
            ("log.2", "log.1", true),
            ("log.10", "log.9", true),
            ("log.1", "log.2", false),
            ("log-20261121", "log-20261122", true),
            ("log.20261122", "log.20261121", false),
            ("a-1.log", "a-2.log", true),
        ];
        for (a, b, want) in cases {
            assert_eq!(older_name(a.as_bytes(), b.as_bytes()), want, "{a} {b}");
        }
    }

    type EachGeneration<'a> = &'a mut dyn FnMut(RotationAge, fs::FileFacts);

    #[test]
    fn kept_names_of_a_directory_are_those_that_are_there() {
        let dir = std::env::temp_dir().join(format!("mef-names-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let log = dir.join("a.log");
        let make = |name: &str| std::fs::write(dir.join(name), "x\n").unwrap();
        for name in ["a.log", "a.log.1", "a-20261122.log", "b.log.1", "a.log.1.gz", "ab.log", "a.1.log"] {
            make(name);
        }
        let rests = |seconds| {
            let then = std::time::SystemTime::now() - std::time::Duration::from_secs(seconds);
            std::fs::File::open(&dir).unwrap().set_modified(then).unwrap();
        };
        let all = |ask: &dyn Fn(EachGeneration<'_>)| {
            let mut found = Vec::new();
            ask(&mut |age, _| found.push(age.name));
            found.sort();
            found
        };
        let names = DirNames::default();
        let same = |count| {
            let kept = all(&|each| generations_among(&names, &log, each));
            assert_eq!(kept, all(&|each| generations(&log, each)));
            assert_eq!(kept.len(), count, "{kept:?}");
        };
        // One that was changed just now is read each time.
        same(3);
        assert!(names.0.borrow().is_none());
        rests(60);
        same(3);
        assert!(names.0.borrow().is_some());
        make("a.log.2");
        same(4);
        rests(50);
        same(4);
        std::fs::remove_file(dir.join("a.log.1")).unwrap();
        rests(40);
        same(3);
        std::fs::remove_dir_all(&dir).unwrap();
        assert_eq!(all(&|each| generations_among(&names, &log, each)).len(), 0);
    }
}
