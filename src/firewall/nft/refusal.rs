#![forbid(unsafe_code)]
//! What the messages of a transaction do, and what the kernel says against them, in words. Knows no message's
//! bytes.

use super::TableId;
use super::owner;
use super::parts::KernelParts;
use super::query::QUERY;
use crate::ban::Capability;
use crate::base::name::Name;
use crate::sys::netlink::{Lost, strerror as words_of};
use nix::errno::Errno;
use smallvec::SmallVec;

/// What a message does, for the words of a refusal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Op {
    /// The transaction as a whole.
    Commit,
    /// Adds or deletes the table.
    Table,
    /// Likewise that for frames between ports of bridges.
    FrameTable,
    /// Adds a chain.
    Chain(Name),
    /// Deletes a chain.
    DeleteChain(Name),
    /// Empties a chain.
    Flush(Name),
    /// Adds a set.
    Set(Name),
    /// Deletes a set.
    DeleteSet(Name),
    /// Adds a rule: its chain, its number in the transaction, whether mef can do without it.
    Rule(Name, u16, Optional),
    /// Deletes a rule of a chain.
    DeleteRule(Name),
    /// Adds what a rule of the rule set needs, by the number that the rule has there.
    Statement(u32),
    /// Adds elements.
    Add(Name),
    /// Deletes elements.
    Delete(Name),
    /// Adds or deletes a gate of a trial.
    Gate,
}

/// Whether a refusal of a rule can be borne.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Optional {
    /// Nothing works without it.
    No,
    /// This can be done without.
    Part(Capability),
}

impl std::fmt::Display for Op {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Op::Commit => f.write_str("the transaction"),
            Op::Table => f.write_str("the table"),
            Op::FrameTable => f.write_str("the table of family bridge"),
            Op::Chain(name) => write!(f, "chain {name}"),
            Op::DeleteChain(name) => write!(f, "to delete chain {name}"),
            Op::Flush(name) => write!(f, "to empty chain {name}"),
            Op::Set(name) => write!(f, "set {name}"),
            Op::DeleteSet(name) => write!(f, "to delete set {name}"),
            Op::Rule(chain, no, _) => write!(f, "rule {no} of chain {chain}"),
            Op::DeleteRule(chain) => write!(f, "to delete a rule of chain {chain}"),
            Op::Statement(0) => f.write_str("what a policy needs"),
            Op::Statement(no) => write!(f, "rule {no}"),
            Op::Add(set) => write!(f, "new elements of set {set}"),
            Op::Delete(set) => write!(f, "to delete elements of set {set}"),
            Op::Gate => f.write_str("a gate of the trial"),
        }
    }
}

/// One message that the kernel refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// What it would have done.
    pub op: Op,
    /// Its number in the transaction, from 0.
    pub at: u32,
    /// Why not.
    pub errno: Errno,
    /// The kernel's own words, often empty.
    pub words: SmallVec<[u8; 32]>,
    /// Parts that the kernel lacks for it, as far as is known.
    pub missing: KernelParts,
}

/// Why a transaction changed nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TxnError {
    /// The kernel refused these messages, and so all.
    Refused(Vec<Refusal>),
    /// The table belongs to the socket of another process, with this netlink port.
    Owned(TableId, u32),
    /// The exchange failed.
    Lost(Lost),
}

impl From<Lost> for TxnError {
    fn from(lost: Lost) -> Self {
        TxnError::Lost(lost)
    }
}

impl TxnError {
    /// The first refusal's error number, or that of the failed system call.
    #[must_use]
    pub fn errno(&self) -> Errno {
        match self {
            TxnError::Refused(all) => all.first().map_or(Errno::UnknownErrno, |r| r.errno),
            TxnError::Owned(..) => Errno::EPERM,
            TxnError::Lost(Lost::Sys(_, errno)) => *errno,
            TxnError::Lost(Lost::Overrun) => Errno::ENOBUFS,
        }
    }
}

impl std::fmt::Display for TxnError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            TxnError::Refused(all) => {
                for (i, r) in all.iter().enumerate() {
                    let same = |other: &Refusal| {
                        (&other.op, other.errno, &other.missing) == (&r.op, r.errno, &r.missing)
                    };
                    if all.iter().take(i).any(same) {
                        // What a rule needs is refused together with it.
                        continue;
                    }
                    let words = std::str::from_utf8(&r.words).unwrap_or("");
                    let sep = if i == 0 { "" } else { "; " };
                    if let Some(why) = whole(advice(r)) {
                        // More of the same follows from it.
                        return f.write_str(why);
                    }
                    write!(f, "{sep}the kernel refused {}: {}", r.op, words_of(r.errno))?;
                    if !words.is_empty() {
                        write!(f, " ({words})")?;
                    }
                    match r.missing.is_empty() {
                        true => f.write_str(advice(r))?,
                        false => write!(f, ": this kernel lacks {}", r.missing)?,
                    }
                }
                Ok(())
            }
            TxnError::Owned(table, port) => write!(
                f,
                "the table {table} belongs to {} (flags owner), the only one that may change it; it is \
                 released when that ends",
                owner::holder(*port)
            ),
            TxnError::Lost(Lost::Overrun) => {
                f.write_str("netlink: netlink receive buffer overrun (ENOBUFS) repeatedly")
            }
            TxnError::Lost(Lost::Sys(call, errno)) => {
                let advice = match errno {
                    // A group has one reader. Who got this far is root.
                    Errno::EPERM | Errno::EBUSY if *call == NFLOG => ": another program reads this group",
                    Errno::EPERM => ROOT,
                    // So nfnetlink answers for a part that it does not have.
                    Errno::EINVAL if *call == NFLOG => NO_NFLOG,
                    Errno::EINVAL | Errno::EOPNOTSUPP if *call == QUERY => NO_TABLES,
                    Errno::EPROTONOSUPPORT if call.contains("AF_NETLINK") => NO_NETFILTER,
                    _ => "",
                };
                match whole(advice) {
                    Some(why) => f.write_str(why),
                    None => write!(f, "{call}: {}{advice}", words_of(*errno)),
                }
            }
        }
    }
}

/// Said where there can be no table at all.
const NO_TABLES: &str = ": this kernel lacks nf_tables: load the module nf_tables, or install the package \
    that has it (on OpenWrt kmod-nft-core)";
/// What fails when nobody can listen to packets that rules report.
pub const NFLOG: &str = "nfnetlink_log";
const NO_NFLOG: &str = ": this kernel lacks nfnetlink_log (on OpenWrt kmod-nfnetlink-log)";
const NO_INET: &str = ": the nf_tables of this kernel lacks the family inet (nf_tables_inet)";
const NO_BRIDGE: &str = ": the nf_tables of this kernel lacks the family bridge (NF_TABLES_BRIDGE)";
const NO_TRACKING: &str = ": this kernel tracks no connections through a bridge (nf_conntrack_bridge, \
    Linux 5.3 and newer), so that ct= and conns= mean nothing with dir=bridge";
const NO_NETFILTER: &str = ": this kernel lacks nfnetlink: load the module nfnetlink, or install the package \
    that has it (on OpenWrt kmod-nfnetlink)";

/// Said to who may not.
pub(in crate::firewall) const ROOT: &str = ": run it as root (CAP_NET_ADMIN in this network namespace)";

/// What says everything alone: the kernel's word for it would only mislead.
fn whole(advice: &str) -> Option<&str> {
    let alone = [NO_TABLES, NO_INET, NO_NETFILTER, NO_NFLOG].contains(&advice);
    advice.strip_prefix(": ").filter(|_| alone)
}

fn advice(r: &Refusal) -> &'static str {
    match (r.errno, r.op) {
        (Errno::EPERM, _) => ROOT,
        (Errno::ENFILE, Op::Add(_)) => ": the set is full",
        (Errno::ENOMEM, _) => ": no memory for it, perhaps the cgroup's limit",
        (Errno::EAFNOSUPPORT, Op::Table) => NO_INET,
        (Errno::EPROTONOSUPPORT | Errno::EINVAL | Errno::EOPNOTSUPP, Op::Commit | Op::Table) => NO_TABLES,
        (Errno::EAFNOSUPPORT | Errno::EOPNOTSUPP, Op::FrameTable) => NO_BRIDGE,
        (Errno::EPROTO, Op::Statement(_)) => NO_TRACKING,
        (Errno::EOPNOTSUPP, Op::Set(_)) => {
            ": this kernel lacks this kind of set (nft_set_hash, nft_set_rbtree)"
        }
        (Errno::EOPNOTSUPP, Op::Chain(_)) => ": this kernel lacks this hook",
        (Errno::ENOENT | Errno::EOPNOTSUPP, Op::Rule(..) | Op::Statement(_)) => {
            ": this kernel lacks a part of nf_tables (`mef version --verbose` tells which)"
        }
        _ => "",
    }
}

/// What the messages of a transaction do, in their order. Those of statements that follow each other take no
/// room.
#[derive(Default)]
pub(super) struct Ops {
    /// What the first message of a run does, and how many there are: each is about the statement behind the
    /// one before.
    runs: Vec<(Op, u32)>,
    /// Messages.
    pub(super) len: u32,
}

impl Ops {
    pub(super) fn push(&mut self, op: Op) {
        self.len += 1;
        if let (Op::Statement(number), Some((Op::Statement(first), count))) = (op, self.runs.last_mut())
            && number == *first + *count
        {
            *count += 1;
            return;
        }
        self.runs.push((op, 1));
    }

    pub(super) fn get(&self, mut at: u32) -> Option<Op> {
        for (op, count) in &self.runs {
            match op {
                Op::Statement(first) if at < *count => return Some(Op::Statement(first + at)),
                _ if at < *count => return Some(*op),
                _ => at -= count,
            }
        }
        None
    }

    /// Rules of a chain.
    pub(super) fn rules(&self, chain: &Name) -> usize {
        self.runs.iter().filter(|(op, _)| matches!(op, Op::Rule(c, ..) if c == chain)).count()
    }

    pub(super) fn clear(&mut self) {
        self.runs.clear();
        self.len = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(op: Op, errno: Errno) -> String {
        let missing = KernelParts::default();
        TxnError::Refused(vec![Refusal { op, errno, words: SmallVec::new(), at: 0, missing }]).to_string()
    }

    #[test]
    fn a_kernel_without_nf_tables_is_told_as_that_and_by_no_other_word() {
        let lost = |call, errno| TxnError::Lost(Lost::Sys(call, errno)).to_string();
        for text in [
            refused(Op::Table, Errno::EOPNOTSUPP),
            refused(Op::Commit, Errno::EOPNOTSUPP),
            refused(Op::Commit, Errno::EINVAL),
            lost(QUERY, Errno::EINVAL),
        ] {
            assert!(text.starts_with("this kernel lacks nf_tables: load the module"), "{text}");
        }
        assert!(refused(Op::Table, Errno::EAFNOSUPPORT).contains("lacks the family inet"));
        assert!(
            lost("socket(AF_NETLINK)", Errno::EPROTONOSUPPORT).starts_with("this kernel lacks nfnetlink")
        );
        assert!(lost(NFLOG, Errno::EINVAL).starts_with("this kernel lacks nfnetlink_log"));
        assert!(lost(NFLOG, Errno::EPERM).ends_with("another program reads this group"));
        // What else there is keeps its words.
        assert!(lost(QUERY, Errno::EPERM).contains("run it as root"));
        assert!(lost("sendto(AF_NETLINK)", Errno::EINVAL).ends_with("Invalid argument"));
        assert!(refused(Op::Add(Name::of("ban4")), Errno::ENFILE).ends_with(": the set is full"));
    }

    #[test]
    fn a_refused_rule_names_the_parts_that_are_missing() {
        let missing = KernelParts::of(&["nft_ct", "nft_limit"]);
        let refusal =
            Refusal { op: Op::Statement(7), errno: Errno::ENOENT, words: SmallVec::new(), at: 0, missing };
        // What it needs is refused with it, which is said once.
        let text = TxnError::Refused(vec![refusal.clone(), refusal]).to_string();
        assert_eq!(text.matches("the kernel refused rule 7: ").count(), 1, "{text}");
        assert!(text.starts_with("the kernel refused rule 7: "), "{text}");
        assert!(text.ends_with(": this kernel lacks nft_ct (with nf_conntrack), nft_limit"), "{text}");
    }
}
