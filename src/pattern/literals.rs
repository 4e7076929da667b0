#![forbid(unsafe_code)]
//! Literals of which at least one stands in every text that a pattern matches, for looking through large chunks
//! before any line is cut. Knows trees only.

use super::parse::Node;
use super::program::rarity;

/// Longer literals are cut: more bytes do not make the search better.
const MAX_LEN: usize = 24;
/// More literals than these are not worth searching for.
const MAX_COUNT: usize = 16;

/// The best such literals, each led by its length; empty if there are none.
pub(super) fn required(node: &Node) -> Box<[u8]> {
    let mut out = Vec::new();
    for literal in Finder::search(node) {
        let literal = literal.get(..literal.len().min(MAX_LEN)).unwrap_or_default();
        out.push(u8::try_from(literal.len()).unwrap_or(0));
        out.extend_from_slice(literal);
    }
    out.into_boxed_slice()
}

/// The literals one by one.
pub(super) fn iter(mut packed: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let (len, rest) = packed.split_first()?;
        let (literal, rest) = rest.split_at_checked(usize::from(*len))?;
        packed = rest;
        Some(literal)
    })
}

#[derive(Default)]
struct Finder {
    /// Bytes that stand next to each other.
    run: Vec<u8>,
    best: Vec<Vec<u8>>,
    score: i32,
}

impl Finder {
    fn search(node: &Node) -> Vec<Vec<u8>> {
        let mut finder = Finder::default();
        finder.walk(node);
        finder.flush();
        finder.best
    }

    fn walk(&mut self, node: &Node) {
        match node {
            Node::Byte(b) => self.run.push(*b),
            // They take no byte: what stands before and behind them touches.
            Node::Empty | Node::Look(_) => {}
            Node::Group(_, inner) => self.walk(inner),
            Node::Cat(all) => all.iter().for_each(|n| self.walk(n)),
            Node::Letter(_) | Node::Set(_) | Node::Addr => self.flush(),
            Node::Repeat { what, min, .. } => {
                self.flush();
                if *min > 0 {
                    self.walk(what);
                    self.flush();
                }
            }
            Node::Alt(all) => {
                self.flush();
                let mut union = Vec::new();
                for branch in all {
                    let found = Finder::search(branch);
                    if found.is_empty() {
                        return;
                    }
                    union.extend(found);
                }
                union.sort_unstable();
                union.dedup();
                self.offer(union);
            }
        }
    }

    fn flush(&mut self) {
        let run = std::mem::take(&mut self.run);
        if !run.is_empty() {
            self.offer(vec![run]);
        }
    }

    fn offer(&mut self, literals: Vec<Vec<u8>>) {
        let worth = |l: &Vec<u8>| l.iter().take(MAX_LEN).fold(0i32, |sum, &b| sum + 1 + i32::from(rarity(b)));
        let worst = literals.iter().map(worth).min().unwrap_or(0);
        let count = i32::try_from(literals.len()).unwrap_or(i32::MAX);
        let score = worst.saturating_sub(count.saturating_sub(1).saturating_mul(3)).max(1);
        if literals.len() <= MAX_COUNT && score > self.score {
            self.score = score;
            self.best = literals;
        }
    }
}
