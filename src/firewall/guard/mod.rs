#![forbid(unsafe_code)]
//! The table `inet mef_guard`: who is banned and who never is. The daemon and `mef ban` write to the same
//! sets, each change one transaction; whoever comes first makes the table.

mod allow;
mod ban;
mod bare;
mod change;
mod deny;
mod driver;
mod feature;
mod find;
mod flood;
mod gate;
mod health;
mod layout;
mod list;
mod networks;
mod owner;
mod ports;
pub(super) mod room;
mod scan;
mod scope;
mod seen;
mod unban;
mod upgrade;
mod verdict;
mod words;

pub use deny::{DenySet, Filling};
pub use feature::{Feature, Stale};
pub use flood::Flood;
pub use scan::Scan;
pub use seen::NewSourceReports;

pub(super) use ban::{kind, read_comment};
pub(super) use bare::{BANS, CONNECTED};
pub(super) use deny::fresh_name as fresh_deny_name;
pub(super) use ports::{PORTS_TOLD, PORTS_TOLD_MAX};
pub(super) use scan::COUNTED;
use scope::Scopes;
pub(super) use scope::{SetKind, fnv1a};
pub(super) use seen::{NOTED, RATE as NEWS_RATE};

use crate::ban::{AllowSource, Capabilities, Capability, Doing, Failure, Options};
use crate::base::name::Name;
use crate::firewall::contents::Contents;
use crate::firewall::nft::parts::{self, KernelParts};
use crate::firewall::nft::{Txn, TxnError, query};
use crate::firewall::tables::GUARD as TABLE;
use crate::sys::listeners::Listeners;
use crate::sys::netlink::{Lost, NlSocket};
use mnl::Bus;

/// What packets are watched for, in the order in which it is written.
const FEATURES: [&dyn Feature; 3] = [&Scan, &Flood, &NewSourceReports];

/// Room of one transaction: one message of elements and the batch marks. Larger changes are cut.
const BATCH_BUFFER: usize = 64 * 1024;
/// Send buffer asked for; the kernel doubles it.
const SEND_BUFFER: usize = 1 << 20;
/// Receive buffer asked for: thousands of errors fit.
const RECEIVE_BUFFER: usize = 1 << 20;

/// What the table that is there was made with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TableState {
    /// IPv6 offenders in hash sets are prefixes of this length.
    pub ipv6_prefix: u8,
    /// Whether drops are logged.
    pub logs: bool,
    /// What packets are watched for, and by which limits.
    features: feature::Digests,
    /// Whether packets are dropped in the ingress hook.
    pub ingress: bool,
    /// What the kernel lacks.
    pub missing: Capabilities,
}

/// What is said of a kernel that lacks something, and the modules of which one may be missing.
const WORDS: [(Capability, &str, &[&str]); 8] = [
    (Capability::DropLog, "cannot log dropped packets", &["nft_limit", "nf_log_syslog", "nft_log"]),
    (
        Capability::Reports,
        "cannot report port scans, floods and new sources",
        &["nfnetlink_log", "nft_log", "nft_limit"],
    ),
    (Capability::Sockets, "cannot look up sockets: it is given the ports that listen", &["nft_socket"]),
    (Capability::Scans, "cannot see port scans", &["nft_limit"]),
    (Capability::Ingress, "cannot drop in the ingress hook of these interfaces; prerouting raw does it", &[]),
    (Capability::Floods, "cannot hold floods back", &["nft_ct", "nft_limit"]),
    (Capability::NewSources, "cannot report new sources: DNSBLs are not asked about them", &["nft_limit"]),
    (Capability::Connections, "cannot count connections: ddos_connlimit has no effect", &["nft_connlimit"]),
];

impl TableState {
    /// Whether packets are watched for this.
    #[must_use]
    pub fn has(self, feature: &dyn Feature) -> bool {
        self.features.get(feature) != 0
    }

    /// Whether there is something that bare packets are reason enough for.
    fn bare_packets(self) -> bool {
        self.features.on().any(|feature| feature.bans())
    }

    /// Whether sources are kept in sets, by prefix or alone.
    fn keeps_singles(self) -> bool {
        self.features.on().next().is_some()
    }
}

/// What the kernel cannot do, for people, and for lack of what; `missing` are the parts that it is known to
/// lack.
fn missing_features(lacks: Capabilities, missing: KernelParts) -> impl Iterator<Item = String> {
    let words = WORDS.into_iter().filter(move |(what, ..)| lacks.has(*what));
    words.map(move |(_, what, modules)| {
        let lacked = KernelParts::of(modules).within(missing);
        if lacked.is_empty() { what.to_owned() } else { format!("{what} (it lacks {lacked})") }
    })
}

impl From<TxnError> for Failure {
    fn from(e: TxnError) -> Self {
        let doing = if matches!(e, TxnError::Lost(_)) { Doing::Exchange } else { Doing::Change };
        let text = match e {
            TxnError::Owned(..) => e.to_string(),
            _ => format!("{TABLE}: {e}"),
        };
        Failure::new(doing, e.errno(), text)
    }
}

impl From<Lost> for Failure {
    fn from(lost: Lost) -> Self {
        let e = TxnError::Lost(lost);
        Failure::new(Doing::Question, e.errno(), format!("{TABLE}: {e}"))
    }
}

/// The table and the socket to it.
pub struct Guard {
    socket: NlSocket,
    txn: Txn,
    listeners: Listeners,
    /// Sets that were not empty when that was last looked at: whether they are by now is not worth another
    /// look.
    filled: Vec<Name>,
    /// Those of bans that hold something, for who keeps an eye on them.
    contents: Contents,
    made: Option<TableState>,
    /// The sets of some ports that are known to be there.
    scopes: Scopes,
    /// Whether the table was made, with empty sets, since this was last asked.
    recreated: bool,
    /// The allow list of a table that is made.
    allow: AllowSource,
    /// What the table is to be like, for who keeps it so.
    shape: Option<health::Shape>,
    owner: owner::Owner,
    options: Options,
}

fn open_socket() -> Result<NlSocket, Lost> {
    let socket = NlSocket::open(Bus::Netfilter)?;
    socket.reserve(SEND_BUFFER, RECEIVE_BUFFER);
    Ok(socket)
}

impl Guard {
    /// Opens the way to the kernel; changes nothing. A table that is made has this allow list from its first
    /// transaction on.
    ///
    /// # Errors
    /// The system call that failed.
    pub fn open(options: Options, allow: impl Into<AllowSource>) -> Result<Guard, Failure> {
        let socket = open_socket()?;
        let mut txn = Txn::new(TABLE, BATCH_BUFFER);
        txn.set_counters(options.element_counters);
        Ok(Guard {
            socket,
            txn,
            listeners: Listeners::default(),
            filled: Vec::new(),
            contents: Contents::default(),
            made: None,
            scopes: Vec::new(),
            recreated: false,
            allow: allow.into(),
            shape: None,
            owner: owner::Owner::default(),
            options,
        })
    }

    /// What the table was made with, `None` if there is none.
    ///
    /// # Errors
    /// The system call or the kernel's error.
    pub fn probe(&mut self) -> Result<Option<TableState>, Failure> {
        let mut made = None;
        query::set(&mut self.socket, &TABLE, &layout::MADE, &mut |set| {
            made = layout::read_mark(set.comment);
        })?;
        self.made = made;
        Ok(made)
    }

    /// The parts of nf_tables that this kernel lacks, if the table had to do without something.
    fn missing(&mut self, lacks: Capabilities) -> KernelParts {
        if lacks.is_none() {
            KernelParts::default()
        } else {
            parts::missing(&mut self.socket).unwrap_or_default()
        }
    }

    /// The table as it is, made first if it is missing.
    ///
    /// # Errors
    /// What the kernel refused.
    pub fn ensure(&mut self) -> Result<TableState, Failure> {
        match self.probe()? {
            Some(made) => Ok(made),
            None => self.rebuild(),
        }
    }

    /// Forgets what is known of the table: somebody else changed it.
    pub fn invalidate(&mut self) {
        self.made = None;
        self.scopes.clear();
    }

    /// Whether the table had to be made since the last call: then it lacks all previous bans and the allow
    /// list.
    pub fn take_recreated(&mut self) -> bool {
        std::mem::take(&mut self.recreated)
    }

    /// The options that `rebuild` puts in force.
    #[must_use]
    pub fn options(&self) -> &Options {
        &self.options
    }

    /// Takes new options, and gives the previous; `rebuild` puts them in force.
    pub fn set_options(&mut self, options: Options) -> Options {
        self.txn.set_counters(options.element_counters);
        if options.owner != self.options.owner {
            self.invalidate_owner();
        }
        std::mem::replace(&mut self.options, options)
    }

    /// Gives back the memory that messages to and from the kernel have used.
    pub fn shrink(&mut self) {
        self.txn.shrink();
        self.socket.shrink();
    }

    /// Between many changes: waits until those who listen to changes have read of what was done, if memory is
    /// short.
    pub fn wait_for_listeners(&mut self) {
        self.listeners.wait();
    }

    /// Deletes the table and all that is in it; no error if there is none.
    ///
    /// # Errors
    /// What the kernel refused.
    pub fn remove(&mut self) -> Result<(), Failure> {
        self.invalidate();
        // Adding first: a table that is not there cannot be deleted.
        self.txn.add_table();
        self.txn.delete_table();
        Ok(self.txn.commit(&mut self.socket)?)
    }
}
