#![forbid(unsafe_code)]
//! The bans that the kernel holds, as its own sets tell them.

use super::scope::{Kind, Scopes};
use super::{Failure, Guard, Made, Scope, TABLE, layout, networks};
use crate::base::bytes::find;
use crate::base::net::prefix;
use crate::base::range::{Family, Range};
use crate::firewall::nft::query;

/// A ban in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry<'a> {
    /// Whom.
    pub who: Range,
    /// Which ports.
    pub scope: &'a Scope,
    /// The service rule, empty for a ban by hand.
    pub rule: &'a str,
    /// Hits that led to it, 0 = not known.
    pub hits: u32,
    /// Free text, or empty.
    pub reason: &'a str,
    /// Seconds since it was made or prolonged; `None` for a permanent one.
    pub age: Option<u64>,
    /// Seconds it has left; `None` for a permanent one.
    pub left: Option<u64>,
    /// Packets dropped, where each element counts.
    pub packets: Option<u64>,
}

/// The rule of bans that the kernel makes for port scans.
pub const SCANS: &str = "portscan";
/// The rule of bans of those who flood again and again.
pub const FLOODS: &str = "flood";

/// Takes apart what `Ban::comment` wrote.
pub(super) fn read_comment(comment: &str) -> (&str, u32, &str) {
    let colon = find(comment.as_bytes(), b": ");
    let (head, reason) = colon.and_then(|at| comment.split_at_checked(at)).unwrap_or((comment, ""));
    let reason = reason.strip_prefix(": ").unwrap_or("");
    let (rule, last) = head.rsplit_once(' ').unwrap_or(("", head));
    match last.strip_prefix("hits=") {
        Some(hits) => (rule, hits.parse().unwrap_or(0), reason),
        None => (head, 0, reason),
    }
}

impl Guard {
    /// Every scope with its kind of set that the table has.
    pub(super) fn all_scopes(&mut self) -> Result<Scopes, Failure> {
        let mut scopes = Kind::ALL.map(|kind| (Scope::ALL, kind)).to_vec();
        query::sets(&mut self.socket, &TABLE, &mut |set| {
            let scans = Scope::ALL.set(Kind::Scans, Family::V4);
            let scope = match layout::read_scope(&set) {
                None if set.name == scans.as_str() => Some((Scope::ALL, Kind::Scans)),
                scope => scope,
            };
            if let Some(scope) = scope
                && !scopes.contains(&scope)
            {
                scopes.push(scope);
            }
        })?;
        Ok(scopes)
    }

    /// Calls `each` for every ban in force; a ban may come twice when others write at the same time.
    ///
    /// # Errors
    /// The system call or the kernel's error.
    pub fn list(&mut self, each: &mut dyn FnMut(&Entry<'_>)) -> Result<(), Failure> {
        let Some(made) = self.look()? else { return Ok(()) };
        for (scope, kind) in self.all_scopes()? {
            for family in Family::ALL {
                let set = scope.set(kind, family);
                if kind == Kind::Networks {
                    networks::read(&mut self.socket, &set, &mut |p| {
                        each(&entry(p.range, &scope, &p.comment, p.timeout_ms, p.left_ms, p.packets));
                    })?;
                } else {
                    query::elements(&mut self.socket, &TABLE, &set, &mut || (), &mut |e| {
                        if let Some(who) = host(e.key, made) {
                            let by_kernel = kind == Kind::Scans && e.comment.is_empty();
                            let comment = if by_kernel { SCANS } else { e.comment };
                            each(&entry(who, &scope, comment, e.timeout_ms, e.left_ms, e.packets));
                        }
                    })?;
                }
            }
        }
        Ok(())
    }
}

/// The address or prefix that a key of a hash set stands for.
pub(super) fn host(key: &[u8], made: Made) -> Option<Range> {
    let address = Range::from_key(key)?;
    let prefix = Range::from(prefix(address.first(), made.ipv6_prefix));
    // A key of bits behind the prefix is an address that counts alone.
    let is_prefix = address.family() == Family::V6 && prefix.first() == address.first();
    Some(if is_prefix { prefix } else { address })
}

fn entry<'a>(
    who: Range,
    scope: &'a Scope,
    comment: &'a str,
    timeout_ms: u64,
    left_ms: u64,
    packets: Option<u64>,
) -> Entry<'a> {
    let (rule, hits, reason) = read_comment(comment);
    let limited = timeout_ms > 0;
    Entry {
        who,
        scope,
        rule,
        hits,
        reason,
        age: limited.then(|| timeout_ms.saturating_sub(left_ms) / 1000),
        left: limited.then(|| left_ms.div_ceil(1000)),
        packets,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_are_taken_apart() {
        let cases = [
            ("", ("", 0, "")),
            ("sshd hits=5", ("sshd", 5, "")),
            ("hits=5: a: b", ("", 5, "a: b")),
            ("a:b hits", ("a:b hits", 0, "")),
            ("sshd", ("sshd", 0, "")),
            (": too many: mails", ("", 0, "too many: mails")),
            ("sshd hits=x: why", ("sshd", 0, "why")),
        ];
        for (text, want) in cases {
            assert_eq!(read_comment(text), want, "{text}");
        }
    }
}
