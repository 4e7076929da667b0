//! Packs texts for `src/base/packed.rs`, which has the model and the way back. Of all ways to say a text by
//! copies and bytes the cheapest is looked for, by what each bit would cost; that changes what bits cost, so
//! it is done again. There is no fraction in it: every machine makes the same bytes.

use super::packed::{self, Coder, Model, PackedNumber, of_zero};

/// Places that are looked at for a copy, and the longest copy.
const PLACES_MAX: usize = 300;
const LENGTH_MAX: usize = 1000;
/// How often the cheapest way is looked for.
const PASSES: usize = 4;

/// Names and texts, none of which holds a NUL, packed.
pub fn pack<'a>(texts: impl IntoIterator<Item = (&'a str, &'a str)>) -> Vec<u8> {
    let mut all = Vec::new();
    for (name, text) in texts {
        for part in [name, text] {
            all.extend(part.bytes().filter(|byte| *byte != 0));
            all.push(0);
        }
    }
    all.push(0);
    let copies = copies(&all);
    let mut model = Model::default();
    let mut packed = Vec::new();
    for _ in 0..PASSES {
        let steps = cheapest(&all, &copies, &mut model);
        model = Model::default();
        packed = write(&all, &steps, &mut model);
    }
    packed
}

/// A byte (length 0) or a copy.
#[derive(Clone, Copy, Default)]
struct Step {
    len: usize,
    back: usize,
}

/// What is known before a step.
#[derive(Clone, Copy)]
struct Before {
    past: usize,
    last: usize,
}

impl Before {
    const START: Before = Before { past: 0, last: 1 };

    fn then(self, step: Step) -> Before {
        let copied = step.len > 0;
        Before { past: packed::past(self.past, copied), last: if copied { step.back } else { self.last } }
    }

    fn put<C: Coder>(self, model: &mut Model, coder: &mut C, text: &[u8], at: usize, step: Step) {
        model.copy(coder, self.past, step.len > 0);
        if step.len == 0 {
            let from = |back: usize| at.checked_sub(back).map(|at| text[at]);
            let guess = from(self.last).filter(|_| self.past % 2 == 1);
            model.byte(coder, from(1).unwrap_or(0), guess, text[at]);
        } else if model.again(coder, self.past, step.back == self.last) {
            model.number(coder, PackedNumber::LengthAgain, number(step.len - 1));
        } else {
            model.number(coder, PackedNumber::Length, number(step.len - 2));
            model.number(
                coder,
                if step.len == 2 { PackedNumber::Near } else { PackedNumber::Far },
                number(step.back - 1),
            );
        }
    }
}

fn number(value: usize) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}

/// How long what stands at two places is the same.
fn alike(text: &[u8], at: usize, back: usize) -> usize {
    let pairs = text[at..].iter().zip(&text[at - back..]).take(LENGTH_MAX);
    pairs.take_while(|(a, b)| a == b).count()
}

/// For each place the copies that could begin there: of each length the nearest.
fn copies(text: &[u8]) -> Vec<Vec<Step>> {
    let mut newest = vec![None; 1 << 16];
    let mut before: Vec<Option<usize>> = Vec::with_capacity(text.len());
    let mut all = Vec::with_capacity(text.len());
    for at in 0..text.len() {
        let mut found = Vec::new();
        let pair = text.get(at..at + 2).map(|pair| usize::from(pair[0]) << 8 | usize::from(pair[1]));
        let first = pair.and_then(|pair| newest[pair]);
        let (mut place, mut longest, mut looked) = (first, 1, 0);
        while let Some(other) = place.filter(|_| looked < PLACES_MAX && longest < LENGTH_MAX) {
            let back = at - other;
            // What is longer has to differ from the longest so far behind its end.
            if text.get(at + longest) == text.get(other + longest) {
                let len = alike(text, at, back);
                if len > longest {
                    longest = len;
                    found.push(Step { len, back });
                }
            }
            place = before[other];
            looked += 1;
        }
        before.push(first);
        if let Some(pair) = pair {
            newest[pair] = Some(at);
        }
        all.push(found);
    }
    all
}

/// The cheapest way to a place.
#[derive(Clone, Copy)]
struct Way {
    cost: u32,
    step: Step,
    known: Before,
}

fn cheapest(text: &[u8], copies: &[Vec<Step>], model: &mut Model) -> Vec<Step> {
    let mut costs = Costs::new();
    let mut lengths = |kind, least: usize| -> Vec<u32> {
        (0..=LENGTH_MAX).map(|len| costs.of(model, kind, len.saturating_sub(least))).collect()
    };
    let (plain, again) = (lengths(PackedNumber::Length, 2), lengths(PackedNumber::LengthAgain, 1));
    let far = Way { cost: u32::MAX, step: Step::default(), known: Before::START };
    let mut ways = vec![far; text.len() + 1];
    ways[0].cost = 0;
    for at in 0..text.len() {
        let Way { cost, known, .. } = ways[at];
        let mut reach = |step: Step, cost: u32| {
            let way = &mut ways[at + step.len.max(1)];
            if cost < way.cost {
                *way = Way { cost, step, known: known.then(step) };
            }
        };
        costs.sum = cost;
        known.put(model, &mut costs, text, at, Step::default());
        reach(Step::default(), costs.sum);
        costs.sum = cost;
        model.copy(&mut costs, known.past, true);
        let copy = costs.sum;
        if known.last <= at {
            model.again(&mut costs, known.past, true);
            let longest = alike(text, at, known.last);
            for (len, length) in again.iter().enumerate().take(longest + 1).skip(1) {
                reach(Step { len, back: known.last }, costs.sum + length);
            }
        }
        costs.sum = copy;
        model.again(&mut costs, known.past, false);
        let other = costs.sum;
        let mut least = 2;
        for step in copies[at].iter().filter(|step| step.back != known.last) {
            let near = costs.of(model, PackedNumber::Near, step.back - 1);
            let far = costs.of(model, PackedNumber::Far, step.back - 1);
            for (len, length) in plain.iter().enumerate().take(step.len + 1).skip(least) {
                let back = if len == 2 { near } else { far };
                reach(Step { len, back: step.back }, other + length + back);
            }
            least = step.len + 1;
        }
    }
    let (mut steps, mut at) = (Vec::new(), text.len());
    while at > 0 {
        steps.push(ways[at].step);
        at -= ways[at].step.len.max(1);
    }
    steps.reverse();
    steps
}

/// Adds up what bits cost, in parts of a bit, and learns nothing.
struct Costs {
    sum: u32,
    table: [u32; 128],
}

impl Costs {
    /// The logarithm by squaring: each time its next binary digit comes out.
    fn new() -> Costs {
        let mut table = [0; 128];
        for (cost, chance) in table.iter_mut().zip(0u64..) {
            let (mut square, mut log) = ((2 * chance + 1) << 7, 0);
            for _ in 0..5 {
                square *= square;
                log *= 2;
                while square >= 1 << 16 {
                    square >>= 1;
                    log += 1;
                }
            }
            *cost = (15 * 31_u32).saturating_sub(log);
        }
        Costs { sum: 0, table }
    }

    fn of(&mut self, model: &mut Model, kind: PackedNumber, value: usize) -> u32 {
        self.sum = 0;
        model.number(self, kind, number(value));
        self.sum
    }
}

impl Coder for Costs {
    fn bit(&mut self, chance: &mut u16, bit: u32) -> u32 {
        let zero = of_zero(*chance);
        let likely = if bit == 0 { zero } else { 4096 - zero };
        self.sum += self.table[(likely.min(4095) >> 5) as usize];
        bit
    }
}

fn write(text: &[u8], steps: &[Step], model: &mut Model) -> Vec<u8> {
    let mut writer = Writer { low: 0, range: u32::MAX, held: None, full: 0, out: Vec::new() };
    let (mut known, mut at) = (Before::START, 0);
    for step in steps {
        known.put(model, &mut writer, text, at, *step);
        known = known.then(*step);
        at += step.len.max(1);
    }
    writer.end()
}

/// Writes bits as a fraction within a range that gets ever narrower.
struct Writer {
    low: u64,
    range: u32,
    /// A byte that a carry may still change, and how many of 0xff stand behind it.
    held: Option<u8>,
    full: usize,
    out: Vec<u8>,
}

impl Writer {
    fn shift(&mut self) {
        if self.low < 0xff00_0000 || self.low > 0xffff_ffff {
            let carry = u8::from(self.low > 0xffff_ffff);
            self.out.extend(self.held.map(|byte| byte.wrapping_add(carry)));
            self.out.extend(std::iter::repeat_n(0xff_u8.wrapping_add(carry), self.full));
            self.full = 0;
            self.held = Some(self.low.to_le_bytes()[3]);
        } else {
            self.full += 1;
        }
        self.low = (self.low & 0x00ff_ffff) << 8;
    }

    /// Zeros at the end are read where nothing is.
    fn end(mut self) -> Vec<u8> {
        for _ in 0..5 {
            self.shift();
        }
        while self.out.last() == Some(&0) {
            self.out.pop();
        }
        self.out
    }
}

impl Coder for Writer {
    fn bit(&mut self, chance: &mut u16, bit: u32) -> u32 {
        let bound = (self.range >> 12) * of_zero(*chance);
        if bit == 0 {
            self.range = bound;
        } else {
            self.low += u64::from(bound);
            self.range -= bound;
        }
        packed::learn(chance, bit);
        while self.range < 1 << 24 {
            self.range <<= 8;
            self.shift();
        }
        bit
    }
}
