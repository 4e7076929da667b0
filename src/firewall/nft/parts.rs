#![forbid(unsafe_code)]
//! The parts of nf_tables that a kernel may lack, since they are modules of their own: which of them rules
//! need, which of them are missing, and what they are called.

use super::TableId;
use super::expr;
use super::ffi::{Expr, NftRule};
use super::refusal::{Op, Optional, TxnError};
use super::txn::Txn;
use super::{Hook, SetSpec};
use crate::base::name::Name;
use crate::sys::netlink::NlSocket;
use crate::sys::nlattr::{attr, attrs, text};

/// Attributes of a rule message and of the expressions in it, by the kernel's names.
const NFTA_RULE_EXPRESSIONS: u16 = 4;
const NFTA_EXPR_NAME: u16 = 1;
const NFTA_EXPR_DATA: u16 = 2;
const NFTA_LOG_GROUP: u16 = 1;
const NFTA_DYNSET_EXPR: u16 = 7;

/// A table that is asked for and never made.
pub(super) const TABLE: TableId = TableId { family: 1, name: Name::of("mef_probe") };
const CHAIN: Name = Name::of("probe");
/// The type of IPv4 addresses: its number, and how long they are.
const IPV4_ADDR: (u32, u32) = (7, 4);

/// Parts, as a set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct KernelParts(u16);

/// A part of the kernel.
pub struct KernelPart {
    /// The expression that it is, by the kernel's name.
    expression: &'static str,
    /// The module, and what else it takes.
    pub module: &'static str,
    /// What has it on OpenWrt.
    pub package: &'static str,
    /// What it is for.
    pub about: &'static str,
    /// What is tried.
    probe: fn() -> Expr,
}

const LOG: usize = 2;
const NFLOG: usize = 3;
/// What both ways of logging have in common: missing if neither works.
const EITHER_LOG: usize = 8;
/// Every part, in the order of its bit.
pub const PARTS: [KernelPart; 9] = [
    KernelPart {
        expression: "ct",
        module: "nft_ct (with nf_conntrack)",
        package: "kmod-nft-core",
        about: "states of connections, flood guard",
        probe: || expr::ct(libc::NFT_CT_STATE, expr::REG),
    },
    KernelPart {
        expression: "limit",
        module: "nft_limit",
        package: "kmod-nft-core",
        about: "limits, port scans, log lines of drops",
        probe: || expr::limit(1, 1, 1, expr::LimitSide::UpTo),
    },
    KernelPart {
        expression: "log",
        module: "nf_log_syslog",
        package: "kmod-nf-log",
        about: "log lines of drops",
        probe: || expr::log(c"mef", 4),
    },
    KernelPart {
        expression: "log",
        module: "nfnetlink_log",
        package: "kmod-nfnetlink-log",
        about: "reports of port scans, floods and new sources",
        probe: || expr::nflog(c"mef", 5, 64),
    },
    KernelPart {
        expression: "reject",
        module: "nft_reject_inet",
        package: "kmod-nft-core",
        about: "reject",
        probe: expr::reject_icmpx,
    },
    KernelPart {
        expression: "socket",
        module: "nft_socket",
        package: "kmod-nft-socket",
        about: "which ports are open, for port scans",
        probe: || expr::socket(0, expr::REG),
    },
    KernelPart {
        expression: "connlimit",
        module: "nft_connlimit",
        package: "kmod-nft-connlimit",
        about: "connections at the same time, flood guard",
        probe: || expr::connlimit(1, expr::LimitSide::Above),
    },
    KernelPart {
        expression: "counter",
        module: "nft_counter",
        package: "kmod-nft-core",
        about: "counters",
        probe: expr::counter,
    },
    KernelPart {
        expression: "log",
        module: "nft_log",
        package: "kmod-nft-core",
        about: "both ways of logging",
        probe: expr::counter,
    },
];

impl KernelParts {
    /// None of them.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Those that are in both.
    #[must_use]
    pub fn within(self, other: KernelParts) -> KernelParts {
        KernelParts(self.0 & other.0)
    }

    /// Whether the part of this number is one of them.
    #[must_use]
    pub fn has(self, number: usize) -> bool {
        self.0 >> number & 1 == 1
    }

    /// Those of these modules, each by the first word of its name.
    #[must_use]
    pub fn of(modules: &[&str]) -> KernelParts {
        let is = |part: &KernelPart| modules.contains(&part.module.split(' ').next().unwrap_or(""));
        PARTS.iter().enumerate().filter(|(_, part)| is(part)).fold(KernelParts(0), |all, (n, _)| all.with(n))
    }

    fn with(self, number: usize) -> KernelParts {
        KernelParts(self.0 | 1 << number)
    }

    /// What a message that adds a rule needs; `body` is what follows its header.
    pub(super) fn needed(body: &[u8]) -> KernelParts {
        let list = body.get(4..).and_then(|attributes| attr(attributes, NFTA_RULE_EXPRESSIONS));
        attrs(list.unwrap_or(&[]))
            .fold(KernelParts(0), |all, (_, one)| KernelParts(all.0 | expression(one).0))
    }

    /// The modules, for people.
    fn modules(self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let either = self.has(EITHER_LOG);
        let mut comma = "";
        let shown = |n: &usize| self.has(*n) && !(either && [LOG, NFLOG].contains(n));
        for (_, part) in PARTS.iter().enumerate().filter(|(n, _)| shown(n)) {
            let module = part.module;
            write!(f, "{comma}{module}")?;
            comma = ", ";
        }
        Ok(())
    }
}

/// `nft_ct (with nf_conntrack), nft_limit`
impl std::fmt::Display for KernelParts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.modules(f)
    }
}

/// What an expression of a rule needs, with one that stands in it.
fn expression(attributes: &[u8]) -> KernelParts {
    let Some(name) = attr(attributes, NFTA_EXPR_NAME).and_then(text) else { return KernelParts(0) };
    let data = attr(attributes, NFTA_EXPR_DATA).unwrap_or(&[]);
    if name == "log" {
        let way = if attr(data, NFTA_LOG_GROUP).is_some() { NFLOG } else { LOG };
        return KernelParts(0).with(way).with(EITHER_LOG);
    }
    if name == "dynset" {
        return attr(data, NFTA_DYNSET_EXPR).map_or(KernelParts(0), expression);
    }
    PARTS.iter().position(|part| part.expression == name).map_or(KernelParts(0), |n| KernelParts(0).with(n))
}

/// Which parts this kernel lacks. Has it load the modules that it has for the others; changes nothing else.
///
/// # Errors
/// It has no nf_tables at all, or must not be asked.
pub fn missing(socket: &mut NlSocket) -> Result<KernelParts, TxnError> {
    let mut txn = Txn::new(TABLE, 1024);
    txn.add_table();
    txn.add_chain(&CHAIN, None);
    for part in PARTS.iter().take(EITHER_LOG) {
        let mut rule = NftRule::new();
        rule.push((part.probe)());
        txn.add_rule(&CHAIN, &rule, Optional::No);
    }
    let result = txn.check(socket);
    socket.drain();
    match result {
        Err(TxnError::Refused(all)) => {
            let rule =
                |op: Op| if let Op::Rule(_, number, _) = op { Some(usize::from(number) - 1) } else { None };
            let refused: Option<Vec<usize>> = all.iter().map(|r| rule(r.op)).collect();
            // Something else was refused, too: it is not about parts.
            let Some(refused) = refused else { return Err(TxnError::Refused(all)) };
            let refused = refused.into_iter().fold(KernelParts(0), KernelParts::with);
            Ok(if refused.has(LOG) && refused.has(NFLOG) { refused.with(EITHER_LOG) } else { refused })
        }
        Ok(()) => Ok(KernelParts(0)),
        Err(e) => Err(e),
    }
}

/// Tries what bans cannot do without: a table of the family inet with a chain and sets as they have them.
/// Nothing of it is made.
///
/// # Errors
/// What the kernel refused.
pub fn try_bans(socket: &mut NlSocket) -> Result<(), TxnError> {
    let mut txn = Txn::new(TABLE, 1024);
    txn.add_table();
    txn.add_chain(
        &CHAIN,
        Some(Hook { priority: libc::NF_IP_PRI_RAW, ..Hook::new(libc::NF_INET_PRE_ROUTING) }),
    );
    for (name, flags) in [("probe_hash", 0), ("probe_nets", libc::NFT_SET_INTERVAL)] {
        txn.add_set(&SetSpec::new(Name::of(name), flags | libc::NFT_SET_TIMEOUT, IPV4_ADDR));
    }
    let result = txn.check(socket);
    socket.drain();
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    fn needs(exprs: Vec<Expr>) -> String {
        let mut rule = NftRule::new();
        exprs.into_iter().for_each(|e| rule.push(e));
        let mut txn = Txn::new(TABLE, 1024);
        txn.add_rule(&CHAIN, &rule, Optional::No);
        // Which of the two that a log line needs is missing is not known here.
        KernelParts(txn.needs_of(0).0 & !(1 << EITHER_LOG)).to_string()
    }

    #[test]
    fn what_a_rule_needs_is_read_from_its_message() {
        let set = Name::of("rate");
        assert_eq!(needs(vec![expr::meta(libc::NFT_META_L4PROTO, expr::REG)]), "");
        assert_eq!(
            needs(vec![expr::ct(libc::NFT_CT_STATE, expr::REG), expr::counter()]),
            "nft_ct (with nf_conntrack), nft_counter"
        );
        assert_eq!(
            needs(vec![expr::limit(1, 1, 5, expr::LimitSide::UpTo), expr::log(c"x", 4)]),
            "nft_limit, nf_log_syslog"
        );
        assert_eq!(needs(vec![expr::nflog(c"x", 5, 64)]), "nfnetlink_log");
        let both = vec![expr::nflog(c"x", 5, 64), expr::log(c"x", 4)];
        assert_eq!(needs(both), "nf_log_syslog, nfnetlink_log");
        let neither = KernelParts(0).with(LOG).with(NFLOG).with(EITHER_LOG);
        assert_eq!(neither.to_string(), "nft_log");
        assert_eq!(KernelParts::of(&["nfnetlink_log", "nft_log"]).within(neither).to_string(), "nft_log");
        let inner = expr::connlimit(5, expr::LimitSide::Above);
        assert_eq!(
            needs(vec![expr::dynset(&set, 0, expr::REG, 0, expr::DynsetOp::Add, Some(inner))]),
            "nft_connlimit"
        );
        assert_eq!(needs(vec![expr::dynset(&set, 0, expr::REG, 0, expr::DynsetOp::Add, None)]), "");
        assert_eq!(
            needs(vec![expr::socket(0, expr::REG), expr::reject_tcp()]),
            "nft_reject_inet, nft_socket"
        );
    }

    #[test]
    fn parts_are_found_by_their_modules() {
        assert_eq!(
            KernelParts::of(&["nft_ct", "nft_limit"]).to_string(),
            "nft_ct (with nf_conntrack), nft_limit"
        );
        assert!(KernelParts::of(&["nft_nothing"]).is_empty() && PARTS.len() <= 16);
        let all: Vec<&str> = PARTS.iter().map(|part| part.module).collect();
        assert!(all.iter().enumerate().all(|(n, name)| all.iter().skip(n + 1).all(|other| other != name)));
    }
}
