#![forbid(unsafe_code)]
//! Cuts streams of bytes into blocks of whole lines of bounded length. Every byte but `\n` is ordinary.

use crate::sys::buffer::Buffer;
use memchr::{memchr, memrchr};

/// Longest line, newline not counted. Of a longer one the first and the last half of this is kept.
pub const MAX_LINE: usize = 8192;
/// What is kept of either end of a longer line: addresses stand near the one or the other.
pub const HALF: usize = MAX_LINE / 2;

/// Hands out `data` in blocks. It must consist of whole lines; lines longer than [`MAX_LINE`] lose their
/// middle and are handed out alone. Returns how many there were.
pub fn each_block(mut data: &mut [u8], each: &mut dyn FnMut(&[u8])) -> u64 {
    let mut cut = 0;
    while let Some(start) = first_long(data) {
        let Some((before, rest)) = std::mem::take(&mut data).split_at_mut_checked(start) else { break };
        if !before.is_empty() {
            each(before);
        }
        let end = memchr(b'\n', rest).map_or(rest.len(), |i| i + 1);
        let Some((line, after)) = rest.split_at_mut_checked(end) else { break };
        let tail = line.len().saturating_sub(HALF + 1);
        line.copy_within(tail.., HALF);
        each(line.get(..=MAX_LINE).unwrap_or(line));
        cut += 1;
        data = after;
    }
    if !data.is_empty() {
        each(data);
    }
    cut
}

/// Where the first line longer than [`MAX_LINE`] begins. Looks at few bytes: one newline is enough to know
/// that everything between it and the line start lies in lines that are short enough.
fn first_long(data: &[u8]) -> Option<usize> {
    let mut start = 0;
    loop {
        let ahead = data.get(start..).unwrap_or(&[]);
        if ahead.len() <= MAX_LINE + 1 {
            return None; // too short for a long line and its newline
        }
        let window = ahead.get(..=MAX_LINE).unwrap_or(ahead);
        match memrchr(b'\n', window) {
            Some(i) => start += i + 1,
            None => return Some(start),
        }
    }
}

/// Cuts what is read from a stream: the caller reads into [`Splitter::space`] and says how much came.
pub struct Splitter {
    buffer: Buffer,
    /// Bytes of an incomplete line at the front of the buffer.
    held: usize,
    /// Its middle is gone already: `HALF` bytes of its head are followed by the newest `HALF` bytes.
    gapped: bool,
    cut: u64,
}

impl Splitter {
    /// A splitter that reads `chunk` bytes at once; that much memory and [`MAX_LINE`] are reserved.
    #[must_use]
    pub fn new(chunk: usize) -> Splitter {
        Splitter { buffer: Buffer::new(chunk.max(1) + MAX_LINE), held: 0, gapped: false, cut: 0 }
    }

    /// Where the next bytes go; never empty.
    pub fn space(&mut self) -> &mut [u8] {
        self.buffer.get_mut(self.held..).unwrap_or(&mut [])
    }

    /// Takes the first `n` bytes of the space as read and hands out the lines that are complete now.
    pub fn filled(&mut self, n: usize, each: &mut dyn FnMut(&[u8])) {
        let end = self.held.saturating_add(n).min(self.buffer.len());
        let fresh = self.buffer.get(self.held..end).unwrap_or(&[]);
        let Some(last) = memrchr(b'\n', fresh).map(|i| self.held + i + 1) else { return self.hold(0, end) };
        let mut begin = 0;
        if self.gapped {
            // The line is longer than it looks, so it is taken apart from the others.
            begin = memchr(b'\n', fresh).map_or(last, |i| self.held + i + 1);
            self.gapped = false;
            self.cut += 1;
            self.emit_gapped(begin, each);
        }
        if let Some(lines) = self.buffer.get_mut(begin..last) {
            self.cut += each_block(lines, each);
        }
        self.hold(last, end);
    }

    /// Hands out an incomplete last line with a newline added.
    pub fn finish(&mut self, each: &mut dyn FnMut(&[u8])) {
        if self.held > 0 {
            if let Some(first) = self.space().first_mut() {
                *first = b'\n';
            }
            self.filled(1, each);
        }
    }

    /// How many lines lost their middle.
    #[must_use]
    pub fn cut_lines(&self) -> u64 {
        self.cut
    }

    /// Gives back the memory that a burst needed.
    pub fn shrink(&mut self) {
        self.buffer.shrink(self.held);
    }

    /// Moves the incomplete line at `begin..end` to the front, bounded.
    fn hold(&mut self, begin: usize, end: usize) {
        self.buffer.copy_within(begin..end, 0);
        self.held = end - begin;
        if self.held > MAX_LINE {
            self.buffer.copy_within(self.held - HALF..self.held, HALF);
            self.held = MAX_LINE;
            self.gapped = true;
        }
    }

    /// The line at `..end` had a middle: brings its ends together.
    fn emit_gapped(&mut self, end: usize, each: &mut dyn FnMut(&[u8])) {
        let tail = end.saturating_sub(HALF + 1);
        self.buffer.copy_within(tail..end, HALF);
        each(self.buffer.get(..=MAX_LINE).unwrap_or(&[]));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What must come out, the slow and obvious way.
    fn naive(data: &[u8], finish: bool) -> (Vec<Vec<u8>>, u64) {
        let mut cut = 0;
        let mut lines: Vec<&[u8]> = data.split(|&b| b == b'\n').collect();
        let last = lines.pop().unwrap();
        if finish && !last.is_empty() {
            lines.push(last);
        }
        let short = |l: &[u8]| {
            if l.len() <= MAX_LINE {
                return l.to_vec();
            }
            cut += 1;
            [&l[..HALF], &l[l.len() - HALF..]].concat()
        };
        (lines.into_iter().map(short).collect(), cut)
    }

    fn lines_of(block: &[u8]) -> Vec<Vec<u8>> {
        let body = block.strip_suffix(b"\n").expect("a block ends with a newline");
        body.split(|&b| b == b'\n').map(<[u8]>::to_vec).collect()
    }

    fn random_text(rng: &mut fastrand::Rng) -> Vec<u8> {
        let mut data = Vec::new();
        for _ in 0..rng.usize(..40) {
            let edge = MAX_LINE - 3 + rng.usize(..7);
            let len = *rng.choice(&[0, 1, 7, 80, 80, 80, edge, HALF, 20_000]).unwrap();
            data.extend((0..len).map(|_| *rng.choice(b"ab\0\r\xff").unwrap()));
            if rng.usize(..20) > 0 {
                data.push(b'\n');
            }
        }
        data
    }

    #[test]
    fn splitting_does_not_depend_on_the_pieces() {
        let seed = 6;
        let mut rng = fastrand::Rng::with_seed(seed);
        for round in 0..150 {
            let data = random_text(&mut rng);
            let (want, want_cut) = naive(&data, true);
            let chunk = *rng.choice(&[1, 5, 100, 5000, 30_000]).unwrap();
            let mut splitter = Splitter::new(chunk);
            let mut got = Vec::new();
            let mut sink = |b: &[u8]| got.extend(lines_of(b));
            let mut rest = data.as_slice();
            while !rest.is_empty() {
                let space = splitter.space();
                let n = rng.usize(1..=space.len().min(rest.len()));
                space[..n].copy_from_slice(&rest[..n]);
                splitter.filled(n, &mut sink);
                rest = &rest[n..];
                if rng.u8(..) == 0 {
                    splitter.shrink();
                }
            }
            splitter.finish(&mut sink);
            assert!(got == want, "seed {seed} round {round} chunk {chunk}");
            assert_eq!(splitter.cut_lines(), want_cut, "seed {seed} round {round}");
        }
    }

    #[test]
    fn whole_lines_are_cut_as_a_naive_split_does() {
        let mut rng = fastrand::Rng::with_seed(7);
        for round in 0..150 {
            let mut data = random_text(&mut rng);
            data.push(b'\n');
            let (want, want_cut) = naive(&data, false);
            let mut got = Vec::new();
            let cut = each_block(&mut data, &mut |b| got.extend(lines_of(b)));
            assert!(got == want, "seed 7 round {round}");
            assert_eq!(cut, want_cut, "seed 7 round {round}");
        }
    }

    #[test]
    fn lines_up_to_the_limit_stay_whole() {
        for (len, want, cut) in
            [(0, 0, 0), (8191, 8191, 0), (8192, 8192, 0), (8193, 8192, 1), (100_000, 8192, 1)]
        {
            let mut data: Vec<u8> = (0..len).map(|i| b'a' + u8::try_from(i % 23).unwrap()).collect();
            let (head, tail) = (data[..len.min(HALF)].to_vec(), data[len - len.min(HALF)..].to_vec());
            data.push(b'\n');
            let mut got = Vec::new();
            assert_eq!(each_block(&mut data, &mut |b| got.push(b.to_vec())), cut, "{len}");
            assert_eq!(got.len(), 1, "{len}");
            let line = got[0].strip_suffix(b"\n").unwrap();
            assert_eq!(line.len(), want, "{len}");
            assert!(line.starts_with(&head) && line.ends_with(&tail), "{len}");
        }
    }

    #[test]
    fn an_unended_line_takes_bounded_memory() {
        let mut splitter = Splitter::new(1000);
        for _ in 0..1000 {
            let space = splitter.space();
            assert!(space.len() >= 1000);
            space[..1000].fill(b'x');
            splitter.filled(1000, &mut |_| panic!("no line ended"));
        }
        let mut got = 0;
        splitter.finish(&mut |b| got += b.len());
        assert_eq!((got, splitter.cut_lines()), (MAX_LINE + 1, 1));
    }
}
