//! Owned libnftnl expressions, and rules as the bytes that they make. The only file of the firewall with
//! `unsafe`: everything that crosses into C passes here, and every result of C is looked at.

use libc::nlmsghdr;
use nftnl::nftnl_sys as sys;
use std::ffi::{CStr, c_void};
use std::ptr::NonNull;

/// Longest value of an attribute: a log prefix (NF_LOG_PREFIXLEN).
const VALUE_MAX: usize = 128;
/// Room for one expression in 32-bit words. None of libnftnl has more than 16 attributes; with their headers,
/// the expression's name and one expression inside, all of VALUE_MAX, that is less than 5 KiB.
const EXPR_WORDS_MAX: usize = 1280;
/// `nlmsghdr` in words.
const HEADER: usize = 4;
/// NFTA_LIST_ELEM, and that it holds attributes.
const LIST_ELEM: u16 = 1 | 1 << 15;

/// NFTA_EXPR_NAME, and NFTA_EXPR_DATA, which holds attributes.
const EXPR_NAME: u16 = 1;
const EXPR_DATA: u16 = 2 | 1 << 15;

/// An attribute's header in one word.
fn attribute(len: u16, kind: u16) -> u32 {
    let ([a, b], [c, d]) = (len.to_ne_bytes(), kind.to_ne_bytes());
    u32::from_ne_bytes([a, b, c, d])
}

/// Which of the expressions that most rules are made of: a letter, and what its values are.
pub type KnownExpr = (u8, u32, u32, u32);

/// The expressions of a rule, and its user data.
pub struct NftRule {
    /// As libnftnl writes messages: their header, of which only the length is used, then the content of
    /// NFTA_RULE_EXPRESSIONS, and at least ROOM words behind it.
    words: Vec<u32>,
    /// Words in use.
    len: usize,
    /// Expressions that libnftnl has written, to be had again: where each begins and ends in `written`.
    known: Vec<(KnownExpr, usize, usize)>,
    written: Vec<u32>,
    userdata: Vec<u8>,
    intact: bool,
}

impl NftRule {
    /// A rule without expressions.
    #[must_use]
    pub fn new() -> NftRule {
        NftRule {
            words: vec![0; EXPR_WORDS_MAX + 256],
            len: HEADER,
            known: Vec::new(),
            written: Vec::new(),
            userdata: Vec::new(),
            intact: true,
        }
    }

    /// Empties it for the next rule.
    pub fn clear(&mut self) {
        self.len = HEADER;
        self.userdata.clear();
        self.intact = true;
    }

    /// Whether every step so far succeeded.
    #[must_use]
    pub fn is_intact(&self) -> bool {
        self.intact
    }

    /// The content of NFTA_RULE_EXPRESSIONS.
    #[must_use]
    pub fn expressions(&self) -> &[u8] {
        let words = self.words.get(HEADER..self.len).unwrap_or_default();
        // SAFETY: the words are initialised and borrowed as long as `self`; bytes may stand anywhere and have
        // any value.
        unsafe { std::slice::from_raw_parts(words.as_ptr().cast::<u8>(), size_of_val(words)) }
    }

    /// The content of NFTA_RULE_USERDATA; empty = none.
    #[must_use]
    pub fn userdata(&self) -> &[u8] {
        &self.userdata
    }

    /// Appends to the user data: type, length and value, as nft(8) reads them.
    pub fn add_userdata(&mut self, data: &[u8]) {
        self.userdata.extend_from_slice(data);
    }

    /// Appends an expression.
    pub fn push(&mut self, expr: Expr) {
        let Some(object) = expr.0 else {
            self.intact = false;
            return;
        };
        let start = self.len;
        self.make_room();
        // nlmsg_len: libnftnl writes behind it, and so behind the header of the list's element.
        self.words[0] = u32::try_from((start + 1) * 4).unwrap_or(0);
        let header = self.words.as_mut_ptr().cast::<nlmsghdr>();
        // SAFETY: `header` is aligned (u32); its length is set, and behind that `make_room` has seen to ROOM
        // words, more than any expression takes (see ROOM, and `Expr` for the bounds); `object` is live until
        // `expr` is dropped.
        unsafe { sys::nftnl_expr_build_payload(header, object.as_ptr()) };
        self.len = self.words[0].div_ceil(4) as usize;
        self.shorten(start + 1);
        let len = u16::try_from((self.len - start) * 4).unwrap_or(u16::MAX);
        self.words[start] = attribute(len, LIST_ELEM);
    }

    /// Appends an expression by its attributes, NFTA_EXPR_*.
    pub fn push_bytes(&mut self, attributes: &[u8]) {
        let start = self.len;
        self.make_room();
        let words = attributes.len().div_ceil(4);
        let len = u16::try_from(attributes.len() + 4).unwrap_or(u16::MAX);
        let Some(room) = self.words.get_mut(start..=start + words).filter(|_| words < EXPR_WORDS_MAX) else {
            self.intact = false;
            return;
        };
        for (word, bytes) in room.iter_mut().skip(1).zip(attributes.chunks(4)) {
            let mut padded = [0; 4];
            padded.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
            *word = u32::from_ne_bytes(padded);
        }
        self.words[start] = attribute(len, LIST_ELEM);
        self.len += words + 1;
    }

    /// Leaves out of the expression whose attributes begin there what the kernel does without: the NUL behind
    /// a name that would take a word alone, and the list of attributes of a counter, which is empty.
    fn shorten(&mut self, at: usize) {
        let is = |word: Option<&u32>, len: u16, kind: u16| word == Some(&attribute(len, kind));
        if is(self.words.get(at), 9, EXPR_NAME) {
            self.words[at] = attribute(8, EXPR_NAME);
            self.words.copy_within(at + 3..self.len, at + 2);
            self.len -= 1;
        }
        if self.len == at + 4 && is(self.words.get(at + 3), 4, EXPR_DATA) {
            self.len -= 1;
        }
    }

    /// Appends an expression that `make` makes where there was none yet. `known` tells it from the others,
    /// but for the value at its end, which is `last`.
    pub fn push_known(&mut self, known: KnownExpr, last: &[u8], make: &dyn Fn() -> Expr) {
        let start = self.len;
        match self.known.iter().find(|(k, ..)| *k == known) {
            Some(&(_, from, to)) => {
                self.make_room();
                self.len += to - from;
                self.words[start..self.len].copy_from_slice(&self.written[from..to]);
            }
            None => {
                let from = self.written.len();
                self.push(make());
                self.written.extend_from_slice(&self.words[start..self.len]);
                self.known.push((known, from, self.written.len()));
            }
        }
        let end = &mut self.words[start..self.len];
        let at = end.len().saturating_sub(last.len().div_ceil(4));
        for (word, bytes) in end[at..].iter_mut().zip(last.chunks(4)) {
            let mut padded = [0; 4];
            padded[..bytes.len()].copy_from_slice(bytes);
            *word = u32::from_ne_bytes(padded);
        }
    }

    /// Sees to room for one more expression.
    fn make_room(&mut self) {
        if self.words.len() < self.len + EXPR_WORDS_MAX {
            self.words.resize(self.len + 2 * EXPR_WORDS_MAX, 0);
        }
    }
}

impl Default for NftRule {
    fn default() -> Self {
        NftRule::new()
    }
}

/// One expression of a rule or of a dynamic set; `None` once a step has failed.
pub struct Expr(Option<NonNull<sys::nftnl_expr>>);

impl Expr {
    /// An expression by its kernel name.
    #[must_use]
    pub fn new(name: &CStr) -> Expr {
        // SAFETY: `name` ends with NUL; libnftnl looks it up in its own table and keeps no pointer.
        Expr(NonNull::new(unsafe { sys::nftnl_expr_alloc(name.as_ptr()) }))
    }

    /// Sets an attribute to at most VALUE_MAX bytes; libnftnl copies them.
    #[must_use]
    pub fn with(mut self, attr: u32, data: &[u8]) -> Expr {
        let fits = data.len() <= VALUE_MAX;
        let (Some(expr), Ok(attr), Ok(len), true) =
            (self.0, u16::try_from(attr), u32::try_from(data.len()), fits)
        else {
            self.fail();
            return self;
        };
        // SAFETY: `expr` is live and owned by `self`; `data` is valid for `len` bytes and is copied.
        let rc = unsafe { sys::nftnl_expr_set(expr.as_ptr(), attr, data.as_ptr().cast::<c_void>(), len) };
        if rc < 0 {
            self.fail();
        }
        self
    }

    /// Sets a number of the width that libnftnl expects for this attribute.
    #[must_use]
    pub fn with_u32(self, attr: u32, value: u32) -> Expr {
        self.with(attr, &value.to_ne_bytes())
    }

    /// A dynamic set's expression for each element: one, and none that holds another.
    #[must_use]
    pub fn with_expr(mut self, mut inner: Expr) -> Expr {
        match (self.0, inner.0.take()) {
            // SAFETY: both are live; the outer expression takes the inner one over.
            (Some(outer), Some(i)) => unsafe {
                sys::nftnl_expr_add_expr(outer.as_ptr(), sys::NFTNL_EXPR_DYNSET_EXPRESSIONS, i.as_ptr())
            },
            (_, i) => {
                inner.0 = i;
                self.fail();
            }
        }
        self
    }

    fn fail(&mut self) {
        if let Some(expr) = self.0.take() {
            // SAFETY: `expr` was owned by `self` alone and is not used again.
            unsafe { sys::nftnl_expr_free(expr.as_ptr()) };
        }
    }
}

impl Drop for Expr {
    fn drop(&mut self) {
        self.fail();
    }
}
