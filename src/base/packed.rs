#![forbid(unsafe_code)]
//! Texts inside the binary, packed when it is built: what stood somewhere before is named by how far back and
//! how long, and every bit of the rest takes the less room the better it was foreseen. For text of this kind
//! that is smaller than what zstd and xz make of it, and the way back is small, too.
//!
//! `cross/pack.rs` includes this file: both directions walk through the same model and cannot drift apart.

/// Takes a bit that is written, or gives one that is read, by what is thought of it so far.
pub trait Coder {
    /// The bit that counts: `bit` when writing, what stood there when reading.
    fn bit(&mut self, chance: &mut u16, bit: u32) -> u32;
}

/// Nothing is known of a bit: the chance of a 0 in the upper 12 bits, how often it was seen in the lower 4.
const UNKNOWN: u16 = 2048 << 4;
/// What was seen so often changes its chance the least.
const SEEN_MAX: u16 = 8;
/// No bit is ever sure.
const CHANCE_MIN: u16 = 16;

/// The chance of a 0 in 4096.
#[must_use]
pub fn of_zero(chance: u16) -> u32 {
    u32::from(chance >> 4)
}

/// Takes note of a bit: the first ones change what is thought much, later ones little.
pub fn learn(chance: &mut u16, bit: u32) {
    let seen = *chance & 15;
    let rate = 2 + seen * 3 / 8;
    let zero = *chance >> 4;
    let zero = if bit == 0 { zero + ((4096 - zero) >> rate) } else { zero - (zero >> rate) };
    *chance = zero.clamp(CHANCE_MIN, 4096 - CHANCE_MIN) << 4 | (seen + 1).min(SEEN_MAX);
}

/// Of the last three steps, which were copies: the number of contexts.
const PASTS: usize = 8;
/// A number: 5 bits say how many bits it has, up to 3 bits below the first one depend on that, the rest on
/// their place.
const NUMBER: usize = 32 + 32 * 8 + 32;
/// A byte, without a guess and with one that began with 0 or 1.
const BYTE: usize = 3 * 256;
/// Where each kind of bit has its chances.
const COPY: usize = 0;
const AGAIN: usize = COPY + PASTS;
const NUMBERS: usize = AGAIN + PASTS;
const BYTES: usize = NUMBERS + 4 * NUMBER;
const SIZE: usize = BYTES + 8 * BYTE;

/// Numbers that are foreseen apart from each other.
#[derive(Clone, Copy)]
pub enum PackedNumber {
    /// How long a copy is, beyond 2.
    Length,
    /// The same of one from as far back as the last one, beyond 1.
    LengthAgain,
    /// How far back a copy of 2 begins, beyond 1.
    Near,
    /// The same of longer ones.
    Far,
}

/// What is thought of all that can come.
pub struct Model(Vec<u16>);

impl Default for Model {
    fn default() -> Model {
        Model(vec![UNKNOWN; SIZE])
    }
}

impl Model {
    /// `count` bits, each foreseen by those before it.
    fn tree<C: Coder>(&mut self, coder: &mut C, at: usize, count: u32, value: u32) -> u32 {
        let mut node = 1;
        for place in (0..count).rev() {
            node = node << 1 | coder.bit(&mut self.0[at + node as usize], value >> place & 1);
        }
        node - (1 << count)
    }

    /// Whether a copy comes.
    pub fn copy<C: Coder>(&mut self, coder: &mut C, past: usize, copy: bool) -> bool {
        coder.bit(&mut self.0[COPY + past], copy.into()) != 0
    }

    /// Whether it is from as far back as the last one.
    pub fn again<C: Coder>(&mut self, coder: &mut C, past: usize, again: bool) -> bool {
        coder.bit(&mut self.0[AGAIN + past], again.into()) != 0
    }

    /// A byte behind `before`. The guess is what would have made the last copy longer.
    pub fn byte<C: Coder>(&mut self, coder: &mut C, before: u8, guess: Option<u8>, value: u8) -> u8 {
        let at = BYTES + usize::from(before >> 5) * BYTE;
        let (mut node, mut like) = (1, guess.is_some());
        for place in (0..8).rev() {
            let guessed = u32::from(guess.unwrap_or(0) >> place & 1);
            let part = if like { 256 * (1 + guessed) } else { 0 };
            let bit = coder.bit(&mut self.0[at + (part + node) as usize], u32::from(value >> place & 1));
            like &= bit == guessed;
            node = node << 1 | bit;
        }
        node.to_le_bytes()[0]
    }

    /// A number, 0 and on.
    pub fn number<C: Coder>(&mut self, coder: &mut C, kind: PackedNumber, value: u32) -> u32 {
        let at = NUMBERS + kind as usize * NUMBER;
        let value = value + 1;
        let bits = self.tree(coder, at, 5, value.ilog2());
        let upper = bits.min(3);
        let mut left = bits - upper;
        let mask = (1 << upper) - 1;
        let mut number =
            1 << upper | self.tree(coder, at + 32 + bits as usize * 8, upper, value >> left & mask);
        while left > 0 {
            left -= 1;
            number = number << 1 | coder.bit(&mut self.0[at + 32 + 256 + left as usize], value >> left & 1);
        }
        number - 1
    }
}

/// The context behind one more step.
#[must_use]
pub fn past(before: usize, copied: bool) -> usize {
    (before << 1 | usize::from(copied)) % PASTS
}

/// Reads what `cross/pack.rs` wrote.
struct PackedReader<'a> {
    bytes: std::slice::Iter<'a, u8>,
    range: u32,
    code: u32,
}

impl Coder for PackedReader<'_> {
    fn bit(&mut self, chance: &mut u16, _: u32) -> u32 {
        let bound = (self.range >> 12) * of_zero(*chance);
        let bit = u32::from(self.code >= bound);
        if bit == 0 {
            self.range = bound;
        } else {
            self.code -= bound;
            self.range -= bound;
        }
        learn(chance, bit);
        while self.range < 1 << 24 {
            self.range <<= 8;
            self.code = self.code << 8 | self.next();
        }
        bit
    }
}

impl PackedReader<'_> {
    /// Behind the end there are zeros.
    fn next(&mut self) -> u32 {
        self.bytes.next().map_or(0, |byte| u32::from(*byte))
    }
}

/// Bytes that texts may take, unpacked: what is beyond is not ours.
const UNPACKED_MAX: usize = 1 << 20;

/// Unpacks texts one after the other, and calls `each` with the name and the text until that is false. What
/// is behind stays packed; what was before is kept until the end, since later texts copy from it.
pub fn each(packed: &[u8], each: &mut dyn FnMut(&str, &str) -> bool) {
    let mut reader = PackedReader { bytes: packed.iter(), range: u32::MAX, code: 0 };
    for _ in 0..4 {
        reader.code = reader.code << 8 | reader.next();
    }
    let mut unpacking = Unpacking { model: Model::default(), out: Vec::new(), past: 0, last: 1, begun: 0 };
    while let Some(name) = unpacking.text(&mut reader).filter(|name| !name.is_empty()) {
        let Some(text) = unpacking.text(&mut reader) else { return };
        let at = |range| unpacking.out.get(range).and_then(|bytes| std::str::from_utf8(bytes).ok());
        if !each(at(name).unwrap_or(""), at(text).unwrap_or("")) {
            return;
        }
    }
}

/// How far unpacking has come.
struct Unpacking {
    model: Model,
    /// Everything so far.
    out: Vec<u8>,
    past: usize,
    /// How far back the last copy began.
    last: usize,
    /// Where the next text begins.
    begun: usize,
}

impl Unpacking {
    /// Where the next text is, which ends before a NUL. A copy may go on behind that.
    fn text(&mut self, reader: &mut PackedReader<'_>) -> Option<std::ops::Range<usize>> {
        let mut looked = self.begun;
        loop {
            if let Some(len) = self.out.get(looked..)?.iter().position(|byte| *byte == 0) {
                let text = self.begun..looked + len;
                self.begun = text.end + 1;
                return Some(text);
            }
            looked = self.out.len();
            if looked > UNPACKED_MAX {
                return None;
            }
            self.step(reader);
        }
    }

    /// One byte, or one copy.
    fn step(&mut self, reader: &mut PackedReader<'_>) {
        let Unpacking { model, out, past: context, last, .. } = self;
        let from = |back: usize| out.len().checked_sub(back).and_then(|at| out.get(at)).copied();
        let copied = model.copy(reader, *context, false);
        if !copied {
            let guess = from(*last).filter(|_| *context % 2 == 1);
            out.push(model.byte(reader, from(1).unwrap_or(0), guess, 0));
        } else {
            let len = if model.again(reader, *context, false) {
                model.number(reader, PackedNumber::LengthAgain, 0) as usize + 1
            } else {
                let len = model.number(reader, PackedNumber::Length, 0) as usize + 2;
                let kind = if len == 2 { PackedNumber::Near } else { PackedNumber::Far };
                *last = model.number(reader, kind, 0) as usize + 1;
                len
            };
            for _ in 0..len.min(UNPACKED_MAX) {
                out.push(out.len().checked_sub(*last).and_then(|at| out.get(at)).copied().unwrap_or(0));
            }
        }
        *context = past(*context, copied);
    }
}

#[cfg(test)]
mod tests {
    use super::super::pack::pack;
    use super::*;

    fn back(packed: &[u8]) -> Vec<(String, String)> {
        let mut texts = Vec::new();
        each(packed, &mut |name, text| {
            texts.push((name.to_owned(), text.to_owned()));
            true
        });
        texts
    }

    #[test]
    fn what_is_packed_comes_back() {
        let long = "a".repeat(2000);
        let random: String = (0..700).map(|_| fastrand::char('\u{1}'..'\u{2000}')).collect();
        let words: String = (0..700).map(|_| fastrand::choice(["ab", "abc", "b\n", "ca"]).unwrap()).collect();
        let cases: [&[(&str, &str)]; 6] = [
            &[],
            &[("a", "")],
            &[("a", "x"), ("b", "x"), ("c", "")],
            &[("a", &long), ("b", &long), ("c", "aaab")],
            &[("r", &random), ("w", &words), ("again", &random)],
            &[("w", &words)],
        ];
        for texts in cases {
            let packed = pack(texts.iter().copied());
            let want: Vec<_> = texts.iter().map(|(n, t)| ((*n).to_owned(), (*t).to_owned())).collect();
            assert!(back(&packed) == want, "{} bytes", packed.len());
            assert_eq!(packed, pack(texts.iter().copied()), "the same each time");
        }
        assert!(pack([("a", long.as_str())]).len() < 20 && pack([("w", words.as_str())]).len() < 600);
    }

    #[test]
    fn reading_ends_when_nothing_more_is_wanted() {
        let packed = pack([("a", "1"), ("b", "2"), ("c", "3")]);
        let mut names = String::new();
        each(&packed, &mut |name, _| {
            names.push_str(name);
            name != "b"
        });
        assert_eq!(names, "ab");
    }

    #[test]
    fn what_is_broken_ends() {
        let whole = pack([("a", "some text that is some text"), ("b", "and some other text")]);
        for len in 0..whole.len() {
            let mut broken = whole[..len].to_vec();
            back(&broken);
            broken.extend((0..200).map(|_| fastrand::u8(..)));
            back(&broken);
        }
    }
}
