#![forbid(unsafe_code)]
//! The file of reports: a head with how it goes, then the reports, all of one length.

use super::{MAX, Report, Reports, SERVICE, Service, Standing, State};
use crate::base::clock::{Mono, Wall};
use crate::base::crc::crc32c;
use crate::cloud::subject::Subject;
use crate::sys::dir::{Access, Dir};
use crate::sys::fs::invalid;
use std::io::{self, Read as _};

/// The file, and the one that takes its place.
pub(super) const FILE: &str = "reports";
const TEMP: &str = "reports.tmp";
/// What is said of one that is broken.
const DAMAGED: &str = "state_dir/reports is damaged; the next report begins a new one";
/// What it begins with; the last one is the version.
const MAGIC: [u8; 8] = *b"mefrpt\0\x01";
/// Bytes of the head: what it begins with, the numbers, a checksum of all that follows it.
const HEAD: usize = MAGIC.len() + 12 * 8 + 4;
/// Bytes of a report.
const REPORT: usize = 1 + 16 + 3 + 4 + 8 + SERVICE;

impl Reports {
    /// Reads the file. What is not there is empty, and so is what is broken; the latter is said.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn load(dir: &Dir) -> io::Result<(Reports, bool)> {
        let mut bytes = Vec::new();
        match dir.file(FILE, Access::Read) {
            Ok(file) => file.take((HEAD + MAX * REPORT) as u64 + 1).read_to_end(&mut bytes)?,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok((Reports::default(), false)),
            Err(e) => return Err(e),
        };
        let read = parse(&bytes);
        let broken = read.is_none();
        Ok((read.unwrap_or_default(), broken))
    }

    /// Only how it goes.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn standing(dir: &Dir) -> io::Result<Option<Standing>> {
        let mut head = [0; HEAD];
        match dir.file(FILE, Access::Read).and_then(|mut file| file.read_exact(&mut head)) {
            Ok(()) => parse_head(&head).map(|(standing, _)| Some(standing)).ok_or_else(|| invalid(DAMAGED)),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => Err(invalid(DAMAGED)),
            Err(e) => Err(e),
        }
    }

    /// Writes the file if something is different.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn save(&mut self, dir: &Dir) -> io::Result<()> {
        if !std::mem::take(&mut self.is_changed) {
            return Ok(());
        }
        let mut body = Vec::with_capacity(self.all.len() * REPORT);
        self.all.iter().for_each(|report| report.write(&mut body));
        let mut bytes = Vec::with_capacity(HEAD + body.len());
        bytes.extend_from_slice(&MAGIC);
        self.standing.numbers().iter().for_each(|number| bytes.extend_from_slice(&number.to_le_bytes()));
        let sum = crc32c(&[bytes.as_slice(), body.as_slice()].concat());
        bytes.extend_from_slice(&sum.to_le_bytes());
        bytes.extend_from_slice(&body);
        dir.replace_soon(FILE, TEMP, &bytes)
    }
}

impl Standing {
    fn numbers(&self) -> [u64; 12] {
        let [a, b, c] = self.totals;
        [
            self.waiting.into(),
            self.sent.into(),
            a,
            b,
            c,
            self.done_at.0,
            self.tried_at.0,
            self.failures.into(),
            self.trouble.0.into(),
            self.trouble.1,
            self.trouble_at.0,
            self.ends_at.0,
        ]
    }

    fn of(numbers: [u64; 12]) -> Standing {
        let [waiting, sent, a, b, c, done, tried, failures, kind, number, at, ends] = numbers;
        let short = |n: u64| u32::try_from(n).unwrap_or(u32::MAX);
        Standing {
            waiting: short(waiting),
            sent: short(sent),
            totals: [a, b, c],
            done_at: Wall(done),
            tried_at: Wall(tried),
            failures: short(failures),
            trouble: (u8::try_from(kind).unwrap_or(0), number),
            trouble_at: Mono(at),
            ends_at: Wall(ends),
        }
    }
}

impl Report {
    fn write(&self, out: &mut Vec<u8>) {
        let start = out.len();
        self.who.pack(out);
        out.resize(start + 17, 0);
        out.extend_from_slice(&[self.state as u8, self.known.into(), self.tries]);
        out.extend_from_slice(&self.hour.to_le_bytes());
        out.extend_from_slice(&self.until.0.to_le_bytes());
        out.extend_from_slice(&self.service.0);
    }

    fn read(bytes: &[u8; REPORT]) -> Option<Report> {
        let (who, _) = Subject::unpack(bytes)?;
        let (&[state, known, tries], rest) = bytes.get(17..)?.split_first_chunk::<3>()?;
        let (hour, rest) = rest.split_first_chunk::<4>()?;
        let (until, rest) = rest.split_first_chunk::<8>()?;
        let state = match state {
            0 => State::Waiting,
            1 => State::Sent,
            2 => State::Leaving,
            _ => return None,
        };
        Some(Report {
            who,
            state,
            known: known != 0,
            tries,
            hour: u32::from_le_bytes(*hour),
            until: Wall(u64::from_le_bytes(*until)),
            service: Service(*rest.first_chunk::<SERVICE>()?),
        })
    }
}

fn parse_head(head: &[u8]) -> Option<(Standing, u32)> {
    let (magic, rest) = head.split_first_chunk::<8>()?;
    if *magic != MAGIC {
        return None;
    }
    let mut numbers = [0; 12];
    let (words, _) = rest.as_chunks::<8>();
    for (number, word) in numbers.iter_mut().zip(words) {
        *number = u64::from_le_bytes(*word);
    }
    Some((Standing::of(numbers), u32::from_le_bytes(*rest.get(96..)?.first_chunk()?)))
}

fn parse(bytes: &[u8]) -> Option<Reports> {
    let (head, body) = bytes.split_at_checked(HEAD)?;
    let (standing, sum) = parse_head(head)?;
    let signed = head.get(..HEAD - 4)?;
    if crc32c(&[signed, body].concat()) != sum || body.len() > MAX * REPORT {
        return None;
    }
    let (records, rest) = body.as_chunks::<REPORT>();
    let all = records.iter().map(Report::read).collect::<Option<Vec<_>>>();
    all.filter(|_| rest.is_empty()).map(|all| Reports { all, standing, is_changed: false })
}
