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

/// What has been heard since it was last cleared.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct News {
    /// Of the table of bans.
    pub guard: Harm,
    /// Deny lists were deleted, and not by mef.
    pub lists_gone: bool,
    /// Deny lists are being deleted: by whom is still to be told.
    lists_touched: bool,
    /// The table of the rule set was deleted, and not by a command of ours.
    pub rules_gone: bool,
    /// Who did it: process, and its name.
    by: Option<(u32, Box<str>)>,
    /// Something was done, and who did it is still to be told.
    asked: bool,
    /// A deletion of the rule set that is meant is under way.
    meant: bool,
}

impl News {
    /// Takes what was done, and leaves what is under way: who did it is told last.
    pub fn take_harm(&mut self) -> (Harm, bool) {
        let taken = (self.guard, self.rules_gone);
        self.asked = taken != (Harm::None, false);
        (self.guard, self.rules_gone) = (Harm::None, false);
        taken
    }

    /// Who did it, if that was told.
    pub fn take_who(&mut self) -> Option<(u32, Box<str>)> {
        self.asked = false;
        self.by.take()
    }

    fn take(&mut self, m: Msg<'_>) {
        let body = m.payload.get(4..).unwrap_or_default();
        if m.kind == message(msg::NEWGEN) {
            let name = attr(body, GEN_PROC.1).and_then(nlattr::text).unwrap_or("");
            self.lists_gone |= std::mem::take(&mut self.lists_touched) && !name.starts_with("mef");
            if self.asked || self.guard != Harm::None || self.rules_gone {
                let pid = attr(body, GEN_PROC.0).and_then(be32).unwrap_or(0);
                let name = name.get(..NAME_MAX).unwrap_or(name);
                self.by.get_or_insert((pid, name.into()));
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
                self.lists_touched = true;
                return;
            }
            let harm = match m.kind & 0xff {
                msg::DELTABLE => Harm::Table,
                msg::DELSET => Harm::Sets,
                msg::DELCHAIN | msg::DELRULE => Harm::Rules,
                _ => Harm::None,
            };
            self.guard = self.guard.max(harm);
        } else if is(&rules::TABLE) {
            let chain = || attr(body, CHAIN_NAME).and_then(nlattr::text);
            match m.kind & 0xff {
                msg::NEWTABLE => self.rules_gone = false,
                msg::DELTABLE => self.rules_gone = !std::mem::take(&mut self.meant),
                msg::NEWCHAIN => self.meant |= chain() == Some(rules::MEANT.as_str()),
                _ => {}
            }
        }
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
                Err(Lost::Answers) => {
                    news.guard = news.guard.max(Harm::Unknown);
                    let meant = std::mem::take(&mut news.meant);
                    news.rules_gone = !meant && !rules::there().unwrap_or(true);
                }
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
            assert_eq!(heard(all).guard, *want, "{name}");
        }
        let by = heard(&[(msg::DELTABLE, 1, "mef_guard", None), (msg::NEWGEN, 0, "nft", None)]).by;
        assert_eq!(by, Some((77, "nft".into())));
        assert_eq!(heard(&[(msg::NEWGEN, 0, "nft", None)]).by, None);
    }

    #[test]
    fn a_rule_set_that_we_delete_is_not_gone() {
        let gone = |all: &[Told]| heard(all).rules_gone;
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
