#![forbid(unsafe_code)]
//! Literals of which at least one stands in every text that a pattern matches, for looking through large
//! chunks before any line is cut. Knows trees only.

use super::parse::Node;
use super::program::rarity;

/// Longer literals are cut: more bytes do not make the search better.
const MAX_LEN: usize = 16;
/// Shorter literals are looked for in smaller steps.
const SHORT: usize = 7;
/// More literals than these are not worth searching for.
const MAX_COUNT: usize = 16;

/// The best such literals, each led by its length; empty if there are none.
pub(super) fn required(node: &Node) -> Box<[u8]> {
    let mut out = Vec::new();
    for literal in Finder::search(node) {
        out.push(u8::try_from(literal.len()).unwrap_or(0));
        out.extend_from_slice(&literal);
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

struct Finder {
    /// What may stand before the present place, without a gap: one of these.
    runs: Vec<Vec<u8>>,
    best: Vec<Vec<u8>>,
    score: i32,
}

impl Finder {
    fn search(node: &Node) -> Vec<Vec<u8>> {
        Finder::behind(vec![Vec::new()], node)
    }

    /// The best of a node that stands right behind one of `runs`.
    fn behind(runs: Vec<Vec<u8>>, node: &Node) -> Vec<Vec<u8>> {
        let mut finder = Finder { runs, best: Vec::new(), score: i32::MIN };
        finder.walk(node);
        finder.flush();
        finder.best
    }

    fn walk(&mut self, node: &Node) {
        match node {
            // What takes no byte: what stands before and behind it touches.
            Node::Empty | Node::Look(_) => {}
            Node::Byte(b) => push(&mut self.runs, *b),
            Node::Group(_, inner) => self.walk(inner),
            Node::Cat(all) => all.iter().for_each(|n| self.walk(n)),
            Node::Letter(_) | Node::Addr => self.flush(),
            Node::Alt(_) | Node::Set(_) | Node::Repeat { .. } => {
                if let Some(more) = exact(node).filter(|more| self.runs.len() * more.len() <= MAX_COUNT) {
                    self.offer(self.runs.clone());
                    self.runs = product(&self.runs, &more);
                    return;
                }
                self.within(node);
                self.flush();
            }
        }
    }

    /// What can be said in parts only: what stands before touches the begin of each.
    fn within(&mut self, node: &Node) {
        match node {
            Node::Repeat { what, min, .. } if *min > 0 => {
                self.walk(what);
            }
            Node::Alt(all) => {
                let mut union = Vec::new();
                for branch in all {
                    let found = Finder::behind(self.runs.clone(), branch);
                    if found.is_empty() {
                        return;
                    }
                    union.extend(found);
                }
                union.sort_unstable();
                union.dedup();
                self.offer(union);
            }
            _ => {}
        }
    }

    fn flush(&mut self) {
        let runs = std::mem::replace(&mut self.runs, vec![Vec::new()]);
        self.offer(runs);
    }

    fn offer(&mut self, literals: Vec<Vec<u8>>) {
        // What is short sets the pace at which all are looked for.
        let slow = |len: usize| i32::try_from(SHORT.saturating_sub(len)).unwrap_or(0) * 8;
        let worth = |l: &Vec<u8>| l.iter().fold(-slow(l.len()), |sum, &b| sum + 1 + i32::from(rarity(b)));
        let Some(worst) = literals.iter().map(worth).min() else { return };
        let count = i32::try_from(literals.len()).unwrap_or(i32::MAX);
        let score = worst.saturating_sub(count);
        let usable = literals.len() <= MAX_COUNT && !literals.iter().any(Vec::is_empty);
        if usable && score > self.score {
            self.score = score;
            self.best = literals;
        }
    }
}

fn push(texts: &mut [Vec<u8>], b: u8) {
    texts.iter_mut().filter(|text| text.len() < MAX_LEN).for_each(|text| text.push(b));
}

/// All the texts that a node matches, if these are few and it matches no others.
fn exact(node: &Node) -> Option<Vec<Vec<u8>>> {
    let mut all = vec![Vec::new()];
    append(&mut all, node).then_some(all)
}

/// Appends all the texts that a node matches to each of `texts`. False: that cannot be said, or they are too
/// many.
fn append(texts: &mut Vec<Vec<u8>>, node: &Node) -> bool {
    let more = match node {
        Node::Empty | Node::Look(_) => return true,
        Node::Byte(b) => {
            push(texts, *b);
            return true;
        }
        Node::Group(_, inner) => return append(texts, inner),
        Node::Cat(parts) => return parts.iter().all(|part| append(texts, part)),
        Node::Repeat { what, min: 0, max: Some(1), .. } => {
            let mut all = exact(what).unwrap_or_default();
            // Empty beside nothing would be wrong: then it is not known what the other texts are.
            if !all.is_empty() {
                all.push(Vec::new());
            }
            all
        }
        Node::Alt(branches) => {
            let mut all = Vec::new();
            for branch in branches {
                match exact(branch) {
                    Some(mut more) => all.append(&mut more),
                    None => return false,
                }
            }
            all
        }
        Node::Set(set) => set.few(MAX_COUNT).map(|byte| vec![byte]).collect(),
        Node::Letter(_) | Node::Addr | Node::Repeat { .. } => return false,
    };
    if more.is_empty() || texts.len() * more.len() > MAX_COUNT {
        return false;
    }
    *texts = product(texts, &more);
    true
}

/// Each of the one followed by each of the other, and no more than `MAX_LEN` bytes of it.
fn product(heads: &[Vec<u8>], tails: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let mut all = Vec::with_capacity(heads.len() * tails.len());
    for head in heads {
        for tail in tails {
            let mut one = [head.as_slice(), tail].concat();
            // What is cut stays cut: nothing that is appended later fits.
            one.truncate(MAX_LEN);
            if !all.contains(&one) {
                all.push(one);
            }
        }
    }
    all
}
