#![forbid(unsafe_code)]
//! Where a rule set is read from: the files of this host, or a text.

use super::{SIZE_MAX, STDIN};
use crate::input::glob::Glob;
use crate::ruleset::{Files, LineReader};
use crate::sys::{fs, stdio};
use std::io::{self, Read as _};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Largest file of a set, of which only what a block takes is in memory.
const LINES_MAX: u64 = 512 * 1024 * 1024;

const BLOCK: usize = 64 * 1024;

/// The files of this host.
pub(super) struct Disk;

impl Files for Disk {
    fn read(&mut self, path: &str) -> io::Result<Vec<u8>> {
        // By its descriptor: not every host has a /dev/stdin.
        let file = match path.strip_prefix("/dev/fd/") {
            None if path == STDIN => stdio::stdin()?,
            None => fs::open_regular(Path::new(path), fs::Links::Follow)?,
            // A FIFO by name would wait for ever; what a shell hands over as a descriptor has a writer.
            Some(_) => fs::open(Path::new(path))?,
        };
        let bytes = fs::read(file, SIZE_MAX + 1)?;
        if bytes.len() as u64 > SIZE_MAX {
            return Err(io::Error::from(io::ErrorKind::FileTooLarge));
        }
        Ok(bytes)
    }

    fn lines(&mut self, path: &str, each: LineReader<'_>) -> io::Result<()> {
        let mut file = fs::open_regular(Path::new(path), fs::Links::Follow)?;
        let (mut block, mut begun, mut size) = (vec![0; BLOCK], Vec::new(), 0);
        loop {
            let len = file.read(&mut block)?;
            size += len as u64;
            if size > LINES_MAX || begun.len() as u64 > SIZE_MAX {
                return Err(io::Error::from(io::ErrorKind::FileTooLarge));
            }
            let mut rest = block.get(..len).unwrap_or_default();
            while let Some((line, behind)) =
                memchr::memchr(b'\n', rest).and_then(|end| Some((rest.get(..end)?, rest.get(end + 1..)?)))
            {
                rest = behind;
                let enough = if begun.is_empty() {
                    each(line)
                } else {
                    begun.extend_from_slice(line);
                    let enough = each(&begun);
                    begun.clear();
                    enough
                };
                if enough.is_break() {
                    return Ok(());
                }
            }
            begun.extend_from_slice(rest);
            if len == 0 {
                let _ = each(&begun);
                return Ok(());
            }
        }
    }

    fn expand(&mut self, including: &str, pattern: &str) -> io::Result<Vec<String>> {
        let base = Path::new(including).parent().unwrap_or(Path::new(""));
        let path = fs::absolute(&base.join(pattern))?;
        if !pattern.bytes().any(|b| matches!(b, b'*' | b'?' | b'[')) {
            return Ok(vec![path.to_string_lossy().into_owned()]);
        }
        let glob = Glob::parse(path.as_os_str().as_bytes()).map_err(fs::invalid)?;
        let (dir, last) = (path.parent().unwrap_or(Path::new("/")), glob.depth().saturating_sub(1));
        if (0..last).any(|depth| glob.plain(depth).is_none()) {
            return Err(fs::invalid("wildcards are allowed after the last '/' only"));
        }
        let mut found: Vec<PathBuf> = Vec::new();
        fs::each_name(dir, &mut |name| {
            if glob.fits(last, name) {
                let path = dir.join(std::ffi::OsStr::from_bytes(name));
                let place = found.iter().position(|p| *p > path).unwrap_or(found.len());
                found.insert(place, path);
            }
        })?;
        Ok(found.into_iter().map(|p| p.to_string_lossy().into_owned()).collect())
    }
}

/// The text of a rule set is given as it is.
pub(super) struct RuleSetText<'a>(pub(super) &'a str);

impl Files for RuleSetText<'_> {
    fn read(&mut self, path: &str) -> io::Result<Vec<u8>> {
        match path {
            // Users and groups are those of the host, whatever the text.
            "/etc/passwd" | "/etc/group" => Disk.read(path),
            _ => Ok(self.0.as_bytes().to_vec()),
        }
    }

    fn expand(&mut self, _: &str, _: &str) -> io::Result<Vec<String>> {
        Err(io::ErrorKind::Unsupported.into())
    }
}
