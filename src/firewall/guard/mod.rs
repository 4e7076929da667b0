#![forbid(unsafe_code)]
//! The table `inet mef_guard`: who is banned and who never is. The daemon and `mef ban` write to the same
//! sets, each change one transaction; whoever comes first makes the table.

mod allow;
mod ban;
mod bare;
mod change;
mod deny;
mod feature;
mod flood;
mod health;
mod layout;
mod list;
mod networks;
mod owner;
mod ports;
pub mod room;
mod scan;
mod scope;
mod seen;
mod unban;
mod verdict;

pub use allow::{Allowed, Reader};
pub use ban::{Ban, Outcome, Repeat, Report, Standing};
pub use deny::{DenySet, Filling, ListId};
pub use feature::{Feature, Stale};
pub use flood::{Flood, FloodLimits, FloodOptions};
pub use health::{Damage, Health};
pub use list::{Entry, FLOODS, SCANS};
pub use ports::{PORT_MEMORY, Scanner};
pub use scan::{Scan, ScanOptions};
pub use scope::Scope;
pub use seen::{Seen, SeenOptions};

use scope::Scopes;

use crate::base::name::{IfName, Name};
use crate::firewall::nft::parts::{self, Parts};
use crate::firewall::nft::{Txn, TxnError, query};
use crate::firewall::tables::GUARD as TABLE;
use crate::sys::listeners::Listeners;
use crate::sys::netlink::{Lost, NlSocket};
use mnl::Bus;
use nix::errno::Errno;

/// Room of one transaction: one message of elements and the batch marks. Larger changes are cut.
const TXN_ROOM: usize = 64 * 1024;
/// Send buffer asked for; the kernel doubles it.
const SEND_ROOM: usize = 1 << 20;
/// Receive buffer asked for: thousands of errors fit.
const RECEIVE_ROOM: usize = 1 << 20;

/// Which traffic a ban covers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// To this host and through it.
    HostAndForward,
    /// To this host only.
    Host,
    /// Through this host only.
    Forward,
}

/// How dropped packets are logged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DropLog {
    /// Text before the packet's description, at most 127 bytes.
    pub prefix: std::ffi::CString,
    /// As in syslog(3), 0 to 7.
    pub level: u32,
    /// Lines a second.
    pub rate: u32,
    /// Lines in a burst.
    pub burst: u32,
}

/// What the configuration says of the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Length of the prefix that an IPv6 offender is, 1 to 128.
    pub ipv6_prefix: u8,
    /// Refuse with RST or ICMP rather than drop.
    pub reject: bool,
    /// Which traffic is covered.
    pub reach: Reach,
    /// Log what is dropped.
    pub log: Option<DropLog>,
    /// Count packets for each banned address.
    pub element_counters: bool,
    /// The table is the daemon's own.
    pub owner: bool,
    /// Interfaces in whose ingress hook packets die, instead of in prerouting; only for
    /// [`Reach::HostAndForward`].
    pub ingress: Vec<IfName>,
    /// Ban port scans inside the kernel.
    pub scan: Option<ScanOptions>,
    /// Hold floods back inside the kernel.
    pub flood: Option<FloodOptions>,
    /// Tell of sources that are new.
    pub seen: Option<SeenOptions>,
    /// Parts of [`lack`] that are done without, even where the kernel has them.
    pub without: u8,
}

impl Default for Options {
    fn default() -> Self {
        let log = DropLog { prefix: c"MEF_".into(), level: 4, rate: 1, burst: 5 };
        Options {
            ipv6_prefix: 64,
            reject: false,
            reach: Reach::HostAndForward,
            log: Some(log),
            element_counters: false,
            owner: false,
            ingress: Vec::new(),
            scan: None,
            flood: None,
            seen: None,
            without: 0,
        }
    }
}

/// What the table that is there was made with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Made {
    /// IPv6 offenders in hash sets are prefixes of this length.
    pub ipv6_prefix: u8,
    /// Whether drops are logged.
    pub logs: bool,
    /// What packets are watched for, and by which limits.
    features: feature::Digests,
    /// Whether packets die in the ingress hook.
    pub ingress: bool,
    /// What the kernel lacks, of [`lack`].
    pub lacks: u8,
}

/// Parts of nf_tables that the table does without where the kernel lacks them.
pub mod lack {
    /// Drops are not logged.
    pub const LOG: u8 = 1;
    /// Which ports are open is told to the kernel.
    pub const SOCKET: u8 = 2;
    /// Sets that packets write to: port scans are not seen.
    pub const SCAN: u8 = 4;
    /// The ingress hook (Linux 5.10), or one of the interfaces.
    pub const INGRESS: u8 = 8;
    /// Floods are not held back.
    pub const FLOOD: u8 = 16;
    /// Connections at the same time are not counted (Linux 4.18).
    pub const COUNT: u8 = 32;
    /// Sets that packets write to: new sources are not told.
    pub const SEEN: u8 = 64;
    /// nfnetlink_log: nobody is told of scans, floods and new sources.
    pub const TELL: u8 = 128;
    /// Each: what it means, and the modules of which one may be missing.
    pub const WORDS: [(u8, &str, &[&str]); 8] = [
        (LOG, "cannot log dropped packets", &["nft_limit", "nf_log_syslog", "nft_log"]),
        (
            TELL,
            "cannot report port scans, floods and new sources",
            &["nfnetlink_log", "nft_log", "nft_limit"],
        ),
        (SOCKET, "cannot look up sockets: the ports that listen are told to it", &["nft_socket"]),
        (SCAN, "cannot see port scans", &["nft_limit"]),
        (INGRESS, "cannot drop in the ingress hook of these interfaces; prerouting raw does it", &[]),
        (FLOOD, "cannot hold floods back", &["nft_ct", "nft_limit"]),
        (SEEN, "cannot tell of new sources: DNSBLs hear of nobody by that", &["nft_limit"]),
        (COUNT, "cannot count connections: ddos_connlimit has no effect", &["nft_connlimit"]),
    ];
}

impl Made {
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

    /// What the kernel cannot do, for people, and for lack of what; `missing` are the parts that it is known
    /// to lack.
    pub fn lacking(self, missing: Parts) -> impl Iterator<Item = String> {
        let words = lack::WORDS.into_iter().filter(move |(bit, ..)| self.lacks & bit != 0);
        words.map(move |(_, what, modules)| {
            let lacked = Parts::of(modules).within(missing);
            if lacked.is_empty() { what.to_owned() } else { format!("{what} (it lacks {lacked})") }
        })
    }
}

/// Why the kernel did not do what was asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// A change was refused.
    Change(TxnError),
    /// A question was not answered.
    Question(Lost),
}

impl From<TxnError> for Failure {
    fn from(e: TxnError) -> Self {
        Failure::Change(e)
    }
}

impl From<Lost> for Failure {
    fn from(e: Lost) -> Self {
        Failure::Question(e)
    }
}

impl Failure {
    /// The error number of the kernel, or of the system call.
    #[must_use]
    pub fn errno(&self) -> Errno {
        match self {
            Failure::Change(e) => e.errno(),
            Failure::Question(lost) => TxnError::Lost(*lost).errno(),
        }
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Failure::Change(e @ TxnError::Owned(..)) => write!(f, "{e}"),
            Failure::Change(e) => write!(f, "{TABLE}: {e}"),
            Failure::Question(lost) => write!(f, "{TABLE}: {}", TxnError::Lost(*lost)),
        }
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
    made: Option<Made>,
    /// The sets of some ports that are known to be there.
    scopes: Scopes,
    /// Whether the table was made, with empty sets, since this was last asked.
    fresh: bool,
    /// The allow list of a table that is made.
    allow: allow::Source,
    /// What the table is to be like, for who keeps it so.
    shape: Option<health::Shape>,
    owner: owner::Owner,
    options: Options,
}

fn open_socket() -> Result<NlSocket, Lost> {
    let socket = NlSocket::open(Bus::Netfilter)?;
    socket.reserve(SEND_ROOM, RECEIVE_ROOM);
    Ok(socket)
}

impl Guard {
    /// Opens the way to the kernel; changes nothing.
    ///
    /// # Errors
    /// The system call that failed.
    pub fn open(options: Options) -> Result<Guard, Failure> {
        let socket = open_socket()?;
        let mut txn = Txn::new(TABLE, TXN_ROOM);
        txn.set_counters(options.element_counters);
        Ok(Guard {
            socket,
            txn,
            listeners: Listeners::default(),
            filled: Vec::new(),
            made: None,
            scopes: Vec::new(),
            fresh: false,
            allow: allow::Source::Nothing,
            shape: None,
            owner: owner::Owner::default(),
            options,
        })
    }

    /// What the table was made with, `None` if there is none.
    ///
    /// # Errors
    /// The system call or the kernel's error.
    pub fn look(&mut self) -> Result<Option<Made>, Failure> {
        let mut made = None;
        query::set(&mut self.socket, &TABLE, &layout::MADE, &mut |set| {
            made = layout::read_mark(set.comment)
        })?;
        self.made = made;
        Ok(made)
    }

    /// The parts of nf_tables that this kernel lacks, if the table had to do without something.
    pub fn missing(&mut self, made: Made) -> Parts {
        if made.lacks == 0 { Parts::default() } else { parts::missing(&mut self.socket).unwrap_or_default() }
    }

    /// The table as it is, made first if it is missing.
    ///
    /// # Errors
    /// What the kernel refused.
    pub fn ensure(&mut self) -> Result<Made, Failure> {
        match self.look()? {
            Some(made) => Ok(made),
            None => self.rebuild(),
        }
    }

    /// Forgets what is known of the table: somebody else changed it.
    pub fn forget(&mut self) {
        self.made = None;
        self.scopes.clear();
    }

    /// Whether the table had to be made since the last call: then it lacks all former bans and the allow
    /// list.
    pub fn take_fresh(&mut self) -> bool {
        std::mem::take(&mut self.fresh)
    }

    /// The options that `rebuild` puts in force.
    #[must_use]
    pub fn options(&self) -> &Options {
        &self.options
    }

    /// Takes new options, and gives the former; `rebuild` puts them in force.
    pub fn set_options(&mut self, options: Options) -> Options {
        self.txn.set_counters(options.element_counters);
        if options.owner != self.options.owner {
            self.forget_owner();
        }
        std::mem::replace(&mut self.options, options)
    }

    /// Gives back the memory that messages to and from the kernel have used.
    pub fn cool(&mut self) {
        self.txn.cool();
        self.socket.cool();
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
        self.forget();
        // Adding first: a table that is not there cannot be deleted.
        self.txn.add_table();
        self.txn.delete_table();
        Ok(self.txn.commit(&mut self.socket)?)
    }
}
