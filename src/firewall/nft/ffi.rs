//! Owned libnftnl expressions, and rules as the bytes that they make. The only file of the firewall with `unsafe`:
//! everything that crosses into C passes here, and every result of C is looked at.

use crate::sys::nlattr::MsgBuf;
use libc::nlmsghdr;
use nftnl::nftnl_sys as sys;
use std::ffi::{CStr, c_void};
use std::ptr::NonNull;

/// Longest value of an attribute: a log prefix (NF_LOG_PREFIXLEN).
const VALUE_MAX: usize = 128;
/// Room for one expression in 32-bit words. None of libnftnl has more than 16 attributes; with their headers, the
/// expression's name and one expression inside, all of VALUE_MAX, that is less than 5 KiB.
const ROOM: usize = 2048;
/// Bytes of `nlmsghdr`.
const HEADER: u32 = 16;
/// NFTA_LIST_ELEM
const LIST_ELEM: u16 = 1;

/// The expressions of a rule, and its user data.
pub struct Rule {
    expressions: MsgBuf,
    userdata: Vec<u8>,
    whole: bool,
    /// Where libnftnl writes; aligned for nlmsghdr.
    room: Box<[u32; ROOM]>,
}

impl Rule {
    /// A rule without expressions.
    #[must_use]
    pub fn new() -> Rule {
        Rule {
            expressions: MsgBuf::with_capacity(512),
            userdata: Vec::new(),
            whole: true,
            room: Box::new([0; ROOM]),
        }
    }

    /// Empties it for the next rule.
    pub fn clear(&mut self) {
        self.expressions.clear();
        self.userdata.clear();
        self.whole = true;
    }

    /// Whether every step so far succeeded.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.whole
    }

    /// The content of NFTA_RULE_EXPRESSIONS.
    #[must_use]
    pub fn expressions(&self) -> &[u8] {
        self.expressions.bytes()
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
            self.whole = false;
            return;
        };
        self.room[0] = HEADER; // nlmsg_len: libnftnl writes behind it
        let header = self.room.as_mut_ptr().cast::<nlmsghdr>();
        // SAFETY: `header` is aligned (u32) and starts ROOM words, more than any expression takes (see ROOM, and
        // `Expr` for the bounds); its length is set; `object` is live until `expr` is dropped.
        unsafe { sys::nftnl_expr_build_payload(header, object.as_ptr()) };
        let len = self.room[0].div_ceil(4) as usize;
        let nest = self.expressions.nest(LIST_ELEM);
        for word in self.room.iter().take(len).skip(HEADER as usize / 4) {
            self.expressions.put(&word.to_ne_bytes());
        }
        self.expressions.end(nest);
    }
}

impl Default for Rule {
    fn default() -> Self {
        Rule::new()
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
