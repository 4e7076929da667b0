#![forbid(unsafe_code)]
//! Whose the table is. With `guard_owner` it belongs to the daemon's socket, so that nobody else changes it,
//! whatever they flush; commands have the daemon send what they change. When the daemon is gone the table
//! stays, nobody's.

use super::{Guard, TABLE};
use crate::ban::Failure;
use crate::firewall::nft::owner::{self, OWNER, Ownership, PERSIST};
use crate::firewall::nft::{TxnError, message, msg};
use crate::sys::nlattr::{attrs, messages, text};
use crate::sys::relay::Relay;
use crate::sys::socket::remove;
use nix::errno::Errno;
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};
use std::rc::Rc;

/// The socket in run_dir of who owns the table.
const NAME: &str = "guard.sock";
/// NFNL_SUBSYS_NFTABLES, and the marks around a batch.
const NF_TABLES: u16 = message(0) >> 8;
const NONE: u16 = 0;
/// NFNL_MSG_BATCH_BEGIN: what comes without it is no transaction.
const BATCH_BEGIN: u16 = 16;
/// The table's name, in messages of all kinds, and its number in those about tables.
const NAME_ATTR: u16 = 1;
const TABLE_HANDLE: u16 = 4;
/// NFT_MSG_DESTROYTABLE (Linux 6.3).
const DESTROYTABLE: u16 = 26;

/// What this process does about whose the table is.
#[derive(Default)]
pub(super) enum Role {
    /// It changes what it may change.
    #[default]
    Guest,
    /// It owns the table where the options say so, and lets others in at a socket in this directory.
    Keeper(PathBuf),
}

/// Whose the table is to be.
#[derive(Default)]
pub(super) struct Owner {
    role: Role,
    relay: Option<Rc<Relay>>,
    /// Why that could not be done, until it is told.
    trouble: Option<String>,
    /// It was found that the kernel cannot do it.
    refused: bool,
}

/// What the table's addition has to say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Claim {
    /// `NFT_TABLE_F_*`
    pub(super) flags: u32,
    /// A table that is there can get no owner any more: it is made anew.
    pub(super) renews: bool,
}

impl Guard {
    /// For the daemon: where the options say so, the table is this process's own from the next `rebuild` on.
    /// Others change it through a socket in `run_dir`.
    pub fn own_through(&mut self, run_dir: &Path) {
        // One that was killed has left its socket.
        remove(&run_dir.join(NAME));
        self.owner.role = Role::Keeper(run_dir.to_owned());
    }

    /// For everybody else: a table that the daemon owns is changed through it.
    pub fn go_through(&mut self, run_dir: &Path) {
        self.socket.set_detour(run_dir.join(NAME));
    }

    /// For polling, while the table is owned: who wants to change it.
    #[must_use]
    pub fn relay_fd(&self) -> Option<BorrowedFd<'_>> {
        self.owner.relay.as_ref().map(|relay| relay.fd())
    }

    /// Whether the table was to be owned and cannot be; told once.
    pub fn take_owner_trouble(&mut self) -> Option<String> {
        self.owner.trouble.take()
    }

    /// Who owns the table, for people: the daemon, if it lets others in at a socket in `run_dir`. `None` if
    /// nobody does.
    ///
    /// # Errors
    /// The system call or the kernel's error.
    pub fn owned_by(&mut self, run_dir: &Path) -> Result<Option<String>, Failure> {
        let port = owner::of(&mut self.socket, &TABLE)?.port;
        let daemon = run_dir.join(NAME).exists();
        Ok(port.map(|port| if daemon { "the daemon".to_owned() } else { owner::holder(port) }))
    }

    /// Other options: what could not be done may be tried again, or need not be done.
    pub(super) fn invalidate_owner(&mut self) {
        self.owner.refused = false;
    }

    /// What the transaction that writes the table has to say of its owner.
    pub(super) fn claim(&mut self) -> Result<Claim, Failure> {
        let Ownership { there, flags, .. } = owner::of(&mut self.socket, &TABLE)?;
        let wanted = self.options.owner && !self.owner.refused;
        let Role::Keeper(run_dir) = &self.owner.role else {
            // A table that a command makes can be owned by the daemon later.
            let claim = Claim { flags: if wanted && !there { PERSIST } else { 0 }, renews: false };
            return Ok(if claim.flags != 0 && self.is_refused(claim)? { Claim::default() } else { claim });
        };
        if !wanted {
            self.disown()?;
            return Ok(Claim::default());
        }
        if self.owner.relay.is_none() {
            match Relay::open(&run_dir.join(NAME), self.socket.fd(), is_ours) {
                Ok(relay) => self.owner.relay = Some(relay),
                Err(e) => {
                    self.give_up(&[&run_dir.join(NAME).to_string_lossy(), ": ", &e.to_string()].concat());
                    return Ok(Claim::default());
                }
            }
        }
        let claim = Claim { flags: OWNER | PERSIST, renews: there && flags & PERSIST == 0 };
        if self.is_refused(claim)? {
            self.give_up("this kernel has no tables that stay when their owner ends (Linux 6.9)");
            return Ok(Claim::default());
        }
        if there && !claim.renews && flags & OWNER == 0 {
            // On its own: while a table's flags change, the kernel adds no chain with a hook.
            self.begin_table(claim);
            self.txn.commit(&mut self.socket)?;
        }
        Ok(claim)
    }

    /// Begins the transaction that writes the table.
    pub(super) fn begin_table(&mut self, claim: Claim) {
        if claim.renews {
            self.txn.set_table_flags(0);
            self.txn.add_table();
            self.txn.delete_table();
        }
        self.txn.set_table_flags(claim.flags);
        self.txn.add_table();
    }

    /// Asks the kernel whether it has such tables, without doing anything.
    fn is_refused(&mut self, claim: Claim) -> Result<bool, Failure> {
        self.begin_table(claim);
        let result = self.txn.check(&mut self.socket);
        self.txn.clear();
        match result {
            Err(TxnError::Refused(all)) if all.iter().any(|r| is_unknown(r.errno)) => Ok(true),
            result => Ok(result.map(|()| false)?),
        }
    }

    fn give_up(&mut self, why: &str) {
        self.owner.refused = true;
        self.owner.relay = None;
        self.owner.trouble = Some([why, ": guard_owner has no effect"].concat());
    }

    /// Gives the table back: that happens when the last descriptor of the socket is closed.
    fn disown(&mut self) -> Result<(), Failure> {
        if self.owner.relay.take().is_some() {
            self.socket = super::open_socket()?;
        }
        Ok(())
    }
}

/// What kernels say of flags that they do not know.
fn is_unknown(errno: Errno) -> bool {
    matches!(errno, Errno::EOPNOTSUPP | Errno::EINVAL)
}

/// Whether messages are a transaction that changes nothing but the table. Others have no business with this
/// process's rights.
fn is_ours(bytes: &[u8]) -> bool {
    let mut rest = messages(bytes);
    let begins = rest.next().is_some_and(|m| m.kind == BATCH_BEGIN);
    begins
        && rest.all(|m| match m.kind >> 8 {
            NONE => true,
            NF_TABLES => m.payload.first() == Some(&TABLE.family) && is_about_table(m.kind, m.payload),
            _ => false,
        })
}

/// Whether the kernel takes that message to be about the table: of several names the last one counts for it,
/// and for a table itself its number before its name.
fn is_about_table(kind: u16, payload: &[u8]) -> bool {
    let body = || attrs(payload.get(4..).unwrap_or_default());
    let mut names = body().filter(|&(attr, _)| attr == NAME_ATTR).peekable();
    let of_tables = [message(msg::NEWTABLE), message(msg::DELTABLE), message(DESTROYTABLE)].contains(&kind);
    if names.peek().is_none() || of_tables && body().any(|(attr, _)| attr == TABLE_HANDLE) {
        return false;
    }
    names.all(|(_, name)| text(name) == Some(TABLE.name.as_str()))
}
