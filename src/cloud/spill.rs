#![forbid(unsafe_code)]
//! What is too much for memory goes to a file that has no name, in parts that are read back one at a time.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

/// Bytes of a part that are written together.
const BLOCK: usize = 4096;

/// One part: whole blocks in the file, and the bytes of the one that is being filled.
#[derive(Default)]
struct Part {
    blocks: Vec<u32>,
    tail: Vec<u8>,
}

/// A file in parts, each a sequence of records of its own.
pub(super) struct Spill {
    file: File,
    parts: Vec<Part>,
    /// Blocks in the file.
    used: u32,
}

impl Spill {
    /// Nothing yet, in so many parts. The file is empty, and nobody else's.
    pub(super) fn new(file: File, parts: usize) -> Spill {
        let mut all = Vec::new();
        all.resize_with(parts, Part::default);
        Spill { file, parts: all, used: 0 }
    }

    /// Adds a record to a part: its length in one byte, and itself.
    pub(super) fn put(&mut self, part: usize, record: &[u8]) -> io::Result<()> {
        let count = self.parts.len().max(1);
        let Some(part) = self.parts.get_mut(part % count) else { return Ok(()) };
        part.tail.push(u8::try_from(record.len()).map_err(|_| io::ErrorKind::InvalidInput)?);
        part.tail.extend_from_slice(record);
        if part.tail.len() >= BLOCK {
            let (block, rest) = part.tail.split_at(BLOCK);
            self.file.write_all_at(block, u64::from(self.used) * BLOCK as u64)?;
            part.blocks.push(self.used);
            self.used = self.used.checked_add(1).ok_or(io::ErrorKind::FileTooLarge)?;
            let rest = rest.len();
            part.tail.drain(..BLOCK);
            part.tail.truncate(rest);
        }
        Ok(())
    }

    /// Hands on the records of a part, in the order in which they were added.
    pub(super) fn read(&self, part: usize, each: &mut dyn FnMut(&[u8])) -> io::Result<()> {
        let Some(part) = self.parts.get(part) else { return Ok(()) };
        // A record may go on in the next block.
        let mut bytes = Vec::with_capacity(2 * BLOCK);
        for block in &part.blocks {
            let start = bytes.len();
            bytes.resize(start + BLOCK, 0);
            let room = bytes.get_mut(start..).unwrap_or_default();
            self.file.read_exact_at(room, u64::from(*block) * BLOCK as u64)?;
            let taken = take(&bytes, each);
            bytes.drain(..taken);
        }
        bytes.extend_from_slice(&part.tail);
        take(&bytes, each);
        Ok(())
    }

    /// The number of parts.
    pub(super) fn parts(&self) -> usize {
        self.parts.len()
    }
}

/// Hands on whole records; how many bytes they were.
fn take(bytes: &[u8], each: &mut dyn FnMut(&[u8])) -> usize {
    let mut at = 0;
    while let Some((length, rest)) = bytes.get(at..).and_then(<[u8]>::split_first) {
        let Some(record) = rest.get(..usize::from(*length)) else { break };
        each(record);
        at += 1 + record.len();
    }
    at
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_come_back_in_order_whatever_their_length() {
        let mut spill = Spill::new(crate::sys::fs::unnamed(&std::env::temp_dir()).unwrap(), 3);
        let record = |part: usize, n: usize| vec![u8::try_from((n + part) % 256).unwrap(); n % 60];
        for n in 0..5000 {
            for part in 0..2 {
                spill.put(part, &record(part, n)).unwrap();
            }
        }
        for part in 0..2 {
            let mut n = 0;
            spill
                .read(part, &mut |bytes| {
                    assert_eq!(bytes, record(part, n));
                    n += 1;
                })
                .unwrap();
            assert_eq!(n, 5000);
        }
        spill.read(2, &mut |_| panic!("nothing is in it")).unwrap();
    }
}
