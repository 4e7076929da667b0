#![forbid(unsafe_code)]
//! What a kernel can do and mef can do without.

/// One such thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Capability {
    /// Dropped packets are logged.
    DropLog,
    /// Which ports are open is looked up; without it, the daemon says which.
    Sockets,
    /// Port scans are seen, and banned.
    Scans,
    /// Packets are dropped before anything else looks at them.
    Ingress,
    /// Floods are held back.
    Floods,
    /// Connections at the same time are counted.
    Connections,
    /// New sources are seen.
    NewSources,
    /// Somebody is told of scans, floods and new sources.
    Reports,
}

/// Several of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Capabilities(u8);

impl Capability {
    /// All of them.
    pub const ALL: [Capability; 8] = [
        Capability::DropLog,
        Capability::Sockets,
        Capability::Scans,
        Capability::Ingress,
        Capability::Floods,
        Capability::Connections,
        Capability::NewSources,
        Capability::Reports,
    ];
}

impl From<Capability> for Capabilities {
    fn from(one: Capability) -> Capabilities {
        Capabilities(1 << one as u8)
    }
}

impl Capabilities {
    /// None.
    pub const NONE: Capabilities = Capabilities(0);

    /// Whether one of these is among them.
    #[must_use]
    pub fn has(self, any: impl Into<Capabilities>) -> bool {
        self.0 & any.into().0 != 0
    }

    /// These and those.
    #[must_use]
    pub fn and(self, more: impl Into<Capabilities>) -> Capabilities {
        Capabilities(self.0 | more.into().0)
    }

    /// These but this one.
    #[must_use]
    pub fn without(self, one: Capability) -> Capabilities {
        Capabilities(self.0 & !(1 << one as u8))
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_none(self) -> bool {
        self.0 == 0
    }

    /// Stands for them where they are written down: this number keeps its meaning.
    #[must_use]
    pub fn number(self) -> u8 {
        self.0
    }

    /// Reads [`Capabilities::number`].
    #[must_use]
    pub fn of_number(number: u8) -> Capabilities {
        Capabilities(number)
    }
}
