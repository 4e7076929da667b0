#![forbid(unsafe_code)]
//! What others do to our two tables, as the kernel tells it. Only tells: what is to be done about it is not known here.

use super::nft::{TableId, TxnError, message, msg};
use super::{guard, rules};
use crate::sys::netlink::{Lost, NlSocket};
use crate::sys::nlattr::{self, Msg, attr, be32};
use mnl::Bus;
use std::os::fd::BorrowedFd;

/// NFNLGRP_NFTABLES
const GROUP: u32 = 7;
/// `NFTA_*_TABLE`: the same number in the messages of all kinds of objects.
const TABLE_NAME: u16 = 1;
/// NFTA_RULE_CHAIN and NFTA_SET_NAME
const OBJECT_NAME: u16 = 2;
/// NFTA_CHAIN_NAME
const CHAIN_NAME: u16 = 3;
/// NFTA_GEN_PROC_PID, NFTA_GEN_PROC_NAME
const GEN_PROC: (u16, u16) = (2, 3);
/// Receives at most, in one turn of the daemon's loop.
const TURN: u32 = 1024;
/// Bytes of the receive buffer; the kernel doubles it.
const ROOM: usize = 4 << 20;
/// Longest name of a process that the kernel keeps.
const NAME_MAX: usize = 15;

/// What was done to the table of bans, the worst last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Harm {
    /// Nothing that concerns us.
    #[default]
    None,
    /// Messages were lost: anything.
    Unknown,
    /// Chains or rules were deleted.
    Rules,
    /// Sets were deleted, with what they held.
    Sets,
    /// All of it was deleted.
    Table,
}

/// What one transaction has done so far. Its messages may come in several parts, and who acts on the first of them would
/// act again on the last.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Change {
    guard: Harm,
    /// Deny lists were deleted.
    lists: bool,
    /// The table of the rule set was deleted, or is there again.
    rules_gone: Option<bool>,
    /// It tells that it deletes the rule set on purpose.
    meant: bool,
}

/// What has been heard of transactions that are through, since it was last cleared.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct News {
    /// Of the table of bans.
    pub guard: Harm,
    /// Deny lists were deleted, and not by mef.
    pub lists_gone: bool,
    /// The table of the rule set was deleted, and not by a command of ours.
    pub rules_gone: bool,
    /// Who did it: process, and its name.
    by: Option<(u32, Box<str>)>,
    change: Change,
}

impl News {
    /// Takes what was done to the two tables, and the process that did it.
    pub fn take_harm(&mut self) -> (Harm, bool, Option<(u32, Box<str>)>) {
        (std::mem::take(&mut self.guard), std::mem::take(&mut self.rules_gone), self.by.take())
    }

    fn take(&mut self, m: Msg<'_>) {
        let body = m.payload.get(4..).unwrap_or_default();
        let change = &mut self.change;
        if m.kind == message(msg::NEWGEN) {
            let Change { guard, lists, rules_gone, .. } = std::mem::take(change);
            let name = attr(body, GEN_PROC.1).and_then(nlattr::text).unwrap_or("");
            self.lists_gone |= lists && !name.starts_with("mef");
            self.guard = self.guard.max(guard);
            self.rules_gone = rules_gone.unwrap_or(self.rules_gone);
            if guard != Harm::None || rules_gone == Some(true) {
                let pid = attr(body, GEN_PROC.0).and_then(be32).unwrap_or(0);
                let name = name.get(..NAME_MAX).unwrap_or(name);
                self.by.get_or_insert_with(|| (pid, name.into()));
            }
            return;
        }
        let is = |table: &TableId| {
            m.payload.first() == Some(&table.family)
                && attr(body, TABLE_NAME).and_then(nlattr::text) == Some(table.name.as_str())
        };
        if is(&guard::TABLE) {
            let name = attr(body, OBJECT_NAME).and_then(nlattr::text).unwrap_or("");
            if guard::of_lists(m.kind & 0xff, name) {
                change.lists = true;
                return;
            }
            let harm = match m.kind & 0xff {
                msg::DELTABLE => Harm::Table,
                msg::DELSET => Harm::Sets,
                msg::DELCHAIN | msg::DELRULE => Harm::Rules,
                _ => Harm::None,
            };
            change.guard = change.guard.max(harm);
        } else if is(&rules::TABLE) {
            let chain = || attr(body, CHAIN_NAME).and_then(nlattr::text);
            match m.kind & 0xff {
                msg::NEWTABLE => change.rules_gone = Some(false),
                msg::DELTABLE => change.rules_gone = Some(!std::mem::take(&mut change.meant)),
                msg::NEWCHAIN => change.meant |= chain() == Some(rules::MEANT.as_str()),
                _ => {}
            }
        }
    }

    /// Messages were lost: the end of the change that is under way, too, perhaps. `there` tells whether there is a rule set.
    fn lost(&mut self, there: bool) {
        let Change { guard, lists, meant, .. } = std::mem::take(&mut self.change);
        self.guard = self.guard.max(guard).max(Harm::Unknown);
        self.lists_gone |= lists;
        self.rules_gone = !meant && !there;
    }
}

/// A socket that hears of every change that is not ours.
pub struct Events {
    socket: NlSocket,
}

impl Events {
    /// Listens, but not for what the socket with the number `own` does.
    pub(super) fn open(own: u32) -> Result<Events, Lost> {
        let socket = NlSocket::open(Bus::Netfilter)?;
        // Only a hint, and memory only while it is full: what deletes ten thousand rules tells of each.
        socket.reserve(0, ROOM);
        // Lists of a million elements are no news.
        socket.subscribe(GROUP, own, message(msg::NEWSETELEM))?;
        Ok(Events { socket })
    }

    /// Adds what there is to hear; never waits, and reads a bounded number of messages.
    ///
    /// # Errors
    /// The system call that failed. Messages that were lost are no error: they are `Harm::Unknown`, and whether the
    /// table of the rule set is gone is asked.
    pub fn hear(&mut self, news: &mut News) -> Result<(), TxnError> {
        for _ in 0..TURN {
            match self.socket.receive_now(&mut |m| news.take(m)) {
                Ok(true) => {}
                Ok(false) => break,
                Err(Lost::Answers) => news.lost(rules::there().unwrap_or(true)),
                Err(e) => return Err(e.into()),
            }
        }
        Ok(())
    }

    /// For polling.
    #[must_use]
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.socket.fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::nlattr::{MsgBuf, messages};

    /// Type, family, table, chain.
    type Told = (u16, u8, &'static str, Option<&'static str>);

    fn heard(all: &[Told]) -> News {
        let mut buf = MsgBuf::default();
        for &(kind, family, table, chain) in all {
            let open = buf.start(message(kind), 0, 0);
            buf.put(&[family, 0, 0, 0]);
            if kind == msg::NEWGEN {
                buf.attr_be32(2, 77);
            }
            buf.attr_str(if kind == msg::NEWGEN { 3 } else { 1 }, table);
            if let Some(chain) = chain {
                buf.attr_str(3, chain);
            }
            buf.finish(open);
        }
        let mut news = News::default();
        messages(buf.bytes()).for_each(|m| news.take(m));
        news
    }

    /// The end of a transaction of nft.
    const END: Told = (msg::NEWGEN, 0, "nft", None);

    #[test]
    fn the_worst_counts_and_other_tables_do_not() {
        let cases: &[(&str, &[Told], Harm)] = &[
            ("another table", &[(msg::DELTABLE, 1, "filter", None)], Harm::None),
            ("another family", &[(msg::DELTABLE, 2, "mef_guard", None)], Harm::None),
            ("an element", &[(msg::DELSETELEM, 1, "mef_guard", None)], Harm::None),
            ("new ones", &[(msg::NEWSET, 1, "mef_guard", None)], Harm::None),
            ("a rule", &[(msg::DELRULE, 1, "mef_guard", None)], Harm::Rules),
            (
                "all",
                &[(msg::DELTABLE, 1, "mef_guard", None), (msg::DELRULE, 1, "mef_guard", None)],
                Harm::Table,
            ),
            (
                "a set",
                &[(msg::DELRULE, 1, "mef_guard", None), (msg::DELSET, 1, "mef_guard", None)],
                Harm::Sets,
            ),
        ];
        for (name, all, want) in cases {
            let news = heard(&[*all, &[END]].concat());
            assert_eq!(news.guard, *want, "{name}");
            assert_eq!(news.by, (*want != Harm::None).then(|| (77, "nft".into())), "{name}");
        }
    }

    #[test]
    fn what_is_under_way_is_told_once_and_at_its_end() {
        let told = |all: &[Told]| {
            let (guard, rules_gone, by) = heard(all).take_harm();
            (guard, rules_gone, by.is_some())
        };
        let (rule, table) = ((msg::DELRULE, 1, "mef_guard", None), (msg::DELTABLE, 1, "mef_guard", None));
        let none = (Harm::None, false, false);
        assert_eq!(told(&[rule, rule, table]), none);
        assert_eq!(told(&[rule, END, table]), (Harm::Rules, false, true));
        assert_eq!(told(&[(msg::DELTABLE, 1, "mef", None)]), none);
        let mut news = heard(&[rule, (msg::NEWCHAIN, 1, "mef", Some("meant"))]);
        news.lost(false);
        assert_eq!(news.take_harm(), (Harm::Rules, false, None));
        assert_eq!(news, News::default());
        news.lost(false);
        assert_eq!(news.take_harm(), (Harm::Unknown, true, None));
    }

    #[test]
    fn a_rule_set_that_we_delete_is_not_gone() {
        let gone = |all: &[Told]| heard(&[all, &[END]].concat()).rules_gone;
        let deleted = (msg::DELTABLE, 1, "mef", None);
        assert!(gone(&[deleted]) && gone(&[(msg::NEWCHAIN, 1, "mef", Some("in")), deleted]));
        assert!(!gone(&[(msg::NEWCHAIN, 1, "mef", Some("meant")), deleted]));
        assert!(!gone(&[deleted, (msg::NEWTABLE, 1, "mef", None)]));
        assert!(gone(&[
            (msg::NEWCHAIN, 1, "mef", Some("meant")),
            deleted,
            (msg::NEWTABLE, 1, "mef", None),
            deleted
        ]));
    }

    #[test]
    fn any_bytes_are_survived() {
        let mut rng = fastrand::Rng::with_seed(3);
        for _ in 0..20_000 {
            let bytes: Vec<u8> = (0..rng.usize(0..80)).map(|_| rng.u8(0..24)).collect();
            let mut news = News::default();
            messages(&bytes).for_each(|m| news.take(m));
        }
    }
}
