//! Owned libnftnl objects. The only file of the firewall with `unsafe`: everything that crosses into C
//! passes here, and every result of C is looked at.

use crate::base::name::Name;
use crate::sys::nlattr::MsgBuf;
use libc::nlmsghdr;
use nftnl::nftnl_sys as sys;
use std::ffi::{CStr, c_void};
use std::ptr::NonNull;

/// The largest message that libnftnl builds: one nested attribute of 64 KiB and its surroundings.
const MESSAGE_ROOM: usize = 72 * 1024;

/// Room in which libnftnl writes one message. Zeroed memory that is never touched costs no page.
pub struct Scratch(Vec<u32>);

impl Scratch {
    /// Room for one message.
    #[must_use]
    pub fn new() -> Scratch {
        Scratch(vec![0; MESSAGE_ROOM / size_of::<u32>()])
    }

    /// Lets `object` be written as one message and appends it to `out`.
    fn write(&mut self, out: &mut MsgBuf, head: Head, object: &dyn Payload) {
        let at: *mut u32 = self.0.as_mut_ptr();
        // SAFETY: `at` is aligned for nlmsghdr (u32) and has MESSAGE_ROOM bytes; the header takes 20.
        let header =
            unsafe { sys::nftnl_nlmsg_build_hdr(at.cast(), head.kind, head.family, head.flags, head.seq) };
        object.write(header);
        let len = self.0.first().map_or(0, |&l| l as usize);
        for word in self.0.iter().take(len.div_ceil(4)) {
            out.raw().extend_from_slice(&word.to_ne_bytes());
        }
    }
}

impl Default for Scratch {
    fn default() -> Self {
        Scratch::new()
    }
}

/// The header of a message to libnftnl.
#[derive(Clone, Copy)]
pub struct Head {
    /// `NFT_MSG_*`
    pub kind: u16,
    /// `NFPROTO_*`
    pub family: u16,
    /// `NLM_F_*`
    pub flags: u16,
    /// Sequence number by which the answer is found.
    pub seq: u32,
}

/// What all objects share: attributes by number.
pub trait Object {
    /// Sets an attribute; libnftnl copies the bytes.
    fn set(&mut self, attr: u32, data: &[u8]);

    /// Sets a number in host order, as libnftnl keeps it.
    fn set_u32(&mut self, attr: u32, value: u32) {
        self.set(attr, &value.to_ne_bytes());
    }

    /// Sets a string; its NUL goes with it.
    fn set_str(&mut self, attr: u32, text: &CStr) {
        self.set(attr, text.to_bytes_with_nul());
    }

    /// Sets a name.
    fn set_name(&mut self, attr: u32, name: &Name) {
        self.set_str(attr, name.as_cstr());
    }
}

trait Payload {
    fn write(&self, header: *mut nlmsghdr);
}

macro_rules! object {
    ($(#[$doc:meta])* $name:ident, $c:ident, $alloc:ident, $free:ident, $set:ident, $build:ident) => {
        $(#[$doc])*
        pub struct $name(Option<NonNull<sys::$c>>);

        impl $name {
            /// An empty object; one that could not be allocated is refused when it is written.
            #[must_use]
            pub fn new() -> $name {
                // SAFETY: takes no argument; a null result is kept as None.
                $name(NonNull::new(unsafe { sys::$alloc() }))
            }

            /// Whether every step so far succeeded.
            #[must_use]
            pub fn is_whole(&self) -> bool {
                self.0.is_some()
            }

            /// Writes the object as one message.
            pub fn write(&self, scratch: &mut Scratch, out: &mut MsgBuf, head: Head) {
                scratch.write(out, head, self);
            }

            fn fail(&mut self) {
                if let Some(object) = self.0.take() {
                    // SAFETY: `object` was owned by `self` alone and is not used again.
                    unsafe { sys::$free(object.as_ptr()) };
                }
            }
        }

        impl Object for $name {
            fn set(&mut self, attr: u32, data: &[u8]) {
                let (Some(object), Ok(attr), Ok(len)) = (self.0, u16::try_from(attr), u32::try_from(data.len())) else {
                    return;
                };
                // SAFETY: `object` is live and owned by `self`; `data` is valid for `len` bytes and is copied.
                let rc = unsafe { sys::$set(object.as_ptr(), attr, data.as_ptr().cast::<c_void>(), len) };
                if rc < 0 {
                    self.fail();
                }
            }
        }

        impl Default for $name {
            fn default() -> Self {
                $name::new()
            }
        }

        impl Payload for $name {
            fn write(&self, header: *mut nlmsghdr) {
                if let Some(object) = self.0 {
                    // SAFETY: `header` starts a buffer of MESSAGE_ROOM bytes, more than any object takes
                    // (attribute lengths are 16 bits); `object` is live.
                    unsafe { sys::$build(header, object.as_ptr()) };
                }
            }
        }

        impl Drop for $name {
            fn drop(&mut self) {
                self.fail();
            }
        }
    };
}

object!(
    /// A table.
    Table, nftnl_table, nftnl_table_alloc, nftnl_table_free, nftnl_table_set_data, nftnl_table_nlmsg_build_payload
);
object!(
    /// A chain.
    Chain, nftnl_chain, nftnl_chain_alloc, nftnl_chain_free, nftnl_chain_set_data, nftnl_chain_nlmsg_build_payload
);
object!(
    /// A set, without its elements.
    Set, nftnl_set, nftnl_set_alloc, nftnl_set_free, nftnl_set_set_data, nftnl_set_nlmsg_build_payload
);
object!(
    /// A rule with its expressions.
    Rule, nftnl_rule, nftnl_rule_alloc, nftnl_rule_free, nftnl_rule_set_data, nftnl_rule_nlmsg_build_payload
);

impl Rule {
    /// Appends an expression, which the rule then owns.
    pub fn push(&mut self, mut expr: Expr) {
        match (self.0, expr.0.take()) {
            // SAFETY: both are live; libnftnl takes the expression over, and `expr` no longer holds it.
            (Some(rule), Some(e)) => unsafe { sys::nftnl_rule_add_expr(rule.as_ptr(), e.as_ptr()) },
            (_, e) => {
                expr.0 = e;
                self.fail();
            }
        }
    }
}

/// One expression of a rule or of a dynamic set.
pub struct Expr(Option<NonNull<sys::nftnl_expr>>);

impl Expr {
    /// An expression by its kernel name.
    #[must_use]
    pub fn new(name: &CStr) -> Expr {
        // SAFETY: `name` ends with NUL; libnftnl looks it up in its own table and keeps no pointer.
        Expr(NonNull::new(unsafe { sys::nftnl_expr_alloc(name.as_ptr()) }))
    }

    /// Sets an attribute; libnftnl copies the bytes.
    #[must_use]
    pub fn with(mut self, attr: u32, data: &[u8]) -> Expr {
        let (Some(expr), Ok(attr), Ok(len)) = (self.0, u16::try_from(attr), u32::try_from(data.len())) else {
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

    /// Puts an expression into this one (a dynamic set's).
    #[must_use]
    pub fn with_expr(mut self, mut inner: Expr) -> Expr {
        match (self.0, inner.0.take()) {
            // SAFETY: both are live; the outer expression takes the inner one over.
            (Some(outer), Some(i)) => unsafe {
                sys::nftnl_expr_add_expr(outer.as_ptr(), DYNSET_EXPRESSIONS, i.as_ptr())
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

/// NFTNL_EXPR_DYNSET_EXPRESSIONS
const DYNSET_EXPRESSIONS: u32 = sys::NFTNL_EXPR_DYNSET_EXPRESSIONS;
