//! Random patterns of the subset and random lines. Shared by the tests that compare matchers.

/// What random patterns are made of.
#[derive(Clone, Debug)]
pub enum Tree {
    Empty,
    Byte(u8),
    Class(String),
    Look(&'static str),
    Plain(Box<Tree>),
    Fold(Box<Tree>),
    Named(&'static str, Box<Tree>),
    Cat(Vec<Tree>),
    Alt(Vec<Tree>),
    Repeat(Box<Tree>, u32, Option<u32>, bool),
}

pub struct Maker {
    pub rng: fastrand::Rng,
    /// Names that are still to be given.
    pub names: Vec<&'static str>,
    /// Only bodies that take at least one byte are repeated.
    pub full_loops: bool,
}

const BYTES: &[u8] = b"aabbAB 1_.\n\x00\xff";
const CLASSES: &[&str] = &[
    ".",
    r"\d",
    r"\w",
    r"\s",
    r"\D",
    r"\W",
    r"\S",
    "[ab]",
    "[^a]",
    "[a-c]",
    "[^a-b ]",
    r"[\d_]",
    r"[^\w]",
    "[]a]",
    "[^]b]",
    "[b-]",
    r"[\x00-\x40]",
    r"[^\xff]",
    "[A-Z]",
];

impl Maker {
    /// A random pattern of at most this depth.
    pub fn tree(&mut self, depth: u32) -> Tree {
        let kind = if depth == 0 { self.rng.u32(..8) } else { self.rng.u32(..24) };
        match kind {
            0..=3 => Tree::Byte(BYTES[self.rng.usize(..BYTES.len())]),
            4..=5 => Tree::Class(CLASSES[self.rng.usize(..CLASSES.len())].into()),
            6 => Tree::Look(["^", "$", r"\b", r"\B"][self.rng.usize(..4)]),
            7 => Tree::Byte(b'a'),
            8 => Tree::Empty,
            9..=13 => Tree::Cat((0..self.rng.usize(1..5)).map(|_| self.tree(depth - 1)).collect()),
            14..=16 => {
                let all = (0..self.rng.usize(2..4)).map(|_| self.tree(depth - 1)).collect();
                Tree::Plain(Box::new(Tree::Alt(all)))
            }
            17 => Tree::Fold(Box::new(self.tree(depth - 1))),
            18..=19 => match self.names.pop() {
                Some(name) => Tree::Named(name, Box::new(self.tree(depth - 1))),
                None => Tree::Plain(Box::new(self.tree(depth - 1))),
            },
            _ => {
                // The ip group may not repeat.
                let names = std::mem::take(&mut self.names);
                self.names = names.iter().copied().filter(|n| *n != "ip").collect();
                let body = if self.rng.u32(..6) == 0 { self.escaped() } else { self.tree(depth - 1) };
                if names.contains(&"ip") {
                    self.names.push("ip");
                }
                let (min, max) = match self.rng.u32(..6) {
                    0..=1 => (0, None),
                    2 => (1, None),
                    3 => (0, Some(1)),
                    4 => (self.rng.u32(..3), None),
                    _ => {
                        let min = self.rng.u32(..3);
                        (min, Some(min + self.rng.u32(..6)))
                    }
                };
                if self.full_loops && may_be_empty(&body) {
                    return body;
                }
                Tree::Repeat(Box::new(body), min, max, self.rng.bool())
            }
        }
    }

    /// One byte of a class, or two of which the first may be none of that: what is between quotes.
    fn escaped(&mut self) -> Tree {
        let mut class = || Tree::Class(CLASSES[self.rng.usize(..CLASSES.len())].into());
        let (plain, second) = (class(), class());
        let first = Tree::Byte(BYTES[self.rng.usize(..BYTES.len())]);
        Tree::Plain(Box::new(Tree::Alt(vec![plain, Tree::Cat(vec![first, second])])))
    }

    /// A random line.
    pub fn line(&mut self) -> Vec<u8> {
        let alphabet: &[u8] =
            [&b"ab"[..], b"aA b1", BYTES, b"a \nbc-]", b"ab\x00\xff1_"][self.rng.usize(..5)];
        let most = if self.rng.u32(..8) == 0 { 60 } else { 12 };
        let len = self.rng.usize(..most);
        (0..len).map(|_| alphabet[self.rng.usize(..alphabet.len())]).collect()
    }
}

pub fn may_be_empty(tree: &Tree) -> bool {
    match tree {
        Tree::Empty | Tree::Look(_) => true,
        Tree::Byte(_) | Tree::Class(_) => false,
        Tree::Plain(t) | Tree::Fold(t) | Tree::Named(_, t) => may_be_empty(t),
        Tree::Cat(all) => all.iter().all(may_be_empty),
        Tree::Alt(all) => all.iter().any(may_be_empty),
        Tree::Repeat(t, min, ..) => *min == 0 || may_be_empty(t),
    }
}

/// Writes the tree as a pattern.
pub fn write(tree: &Tree, out: &mut String) {
    match tree {
        Tree::Empty => {}
        Tree::Byte(b @ (b'.' | b'\\' | b'^' | b'$')) => out.push_str(&format!("\\{}", char::from(*b))),
        Tree::Byte(b'\n') => out.push_str("\\n"),
        Tree::Byte(b) if *b == 0 || *b >= 0x80 => out.push_str(&format!("\\x{b:02x}")),
        Tree::Byte(b) => out.push(char::from(*b)),
        Tree::Class(class) => out.push_str(class),
        Tree::Look(look) => out.push_str(look),
        Tree::Plain(t) => {
            out.push_str("(?:");
            write(t, out);
            out.push(')');
        }
        Tree::Fold(t) => {
            out.push_str("(?i:");
            write(t, out);
            out.push(')');
        }
        Tree::Named(name, t) => {
            out.push_str(&format!("(?P<{name}>"));
            write(t, out);
            out.push(')');
        }
        Tree::Cat(all) => all.iter().for_each(|t| write(t, out)),
        Tree::Alt(all) => all.iter().enumerate().for_each(|(i, t)| {
            out.push_str(if i > 0 { "|" } else { "" });
            write(t, out);
        }),
        Tree::Repeat(t, min, max, greedy) => {
            let single = matches!(**t, Tree::Byte(_) | Tree::Class(_));
            out.push_str(if single { "" } else { "(?:" });
            write(t, out);
            out.push_str(if single { "" } else { ")" });
            match (min, max) {
                (0, None) => out.push('*'),
                (1, None) => out.push('+'),
                (0, Some(1)) => out.push('?'),
                (min, None) => out.push_str(&format!("{{{min},}}")),
                (min, Some(max)) if min == max => out.push_str(&format!("{{{min}}}")),
                (min, Some(max)) => out.push_str(&format!("{{{min},{max}}}")),
            }
            out.push_str(if *greedy { "" } else { "?" });
        }
    }
}
