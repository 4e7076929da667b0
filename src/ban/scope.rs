#![forbid(unsafe_code)]
//! The ports that a ban covers.

/// What a ban covers: everything, or some ports of TCP, UDP or both. Rules and hand-made bans with the
/// same ports share a set, so the number of look-ups does not grow with the number of rules.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Scope {
    ports: Vec<(u16, u16)>,
    transports: Transports,
}

/// The protocols whose ports are covered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Transports {
    /// Both of them.
    #[default]
    Both,
    /// TCP alone.
    Tcp,
    /// UDP alone.
    Udp,
}

impl Transports {
    /// Whether TCP is one of them.
    #[must_use]
    pub fn has_tcp(self) -> bool {
        self != Transports::Udp
    }

    /// Whether UDP is one of them.
    #[must_use]
    pub fn has_udp(self) -> bool {
        self != Transports::Tcp
    }
}

impl Scope {
    /// Every packet.
    pub const ALL: Scope = Scope { ports: Vec::new(), transports: Transports::Both };

    /// Sorted ranges of ports, ends included; none = all ports and protocols.
    #[must_use]
    pub fn new(ports: Vec<(u16, u16)>, transports: Transports) -> Scope {
        if ports.is_empty() { Scope::ALL } else { Scope { ports, transports } }
    }

    /// Whether it covers every packet.
    #[must_use]
    pub fn is_all(&self) -> bool {
        self.ports.is_empty()
    }

    /// The ranges of ports, ends included.
    #[must_use]
    pub fn ports(&self) -> &[(u16, u16)] {
        &self.ports
    }

    /// The protocols that a rule has to ask for.
    #[must_use]
    pub fn transports(&self) -> Transports {
        self.transports
    }

    /// Reads what `Display` writes.
    #[must_use]
    pub fn read(text: &str) -> Option<Scope> {
        let (ports, protocol) = match text.split_once('/') {
            Some((ports, protocol)) => (ports, Some(protocol)),
            None => (text, None),
        };
        let transports = match protocol {
            None => Transports::Both,
            Some("tcp") => Transports::Tcp,
            Some("udp") => Transports::Udp,
            Some(_) => return None,
        };
        let mut ranges = Vec::new();
        for part in ports.split(',') {
            let (from, to) = part.split_once('-').unwrap_or((part, part));
            ranges.push((from.parse().ok()?, to.parse().ok()?));
        }
        (ranges.iter().all(|(from, to)| from <= to)).then(|| Scope::new(ranges, transports))
    }
}

impl std::fmt::Display for Scope {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (i, (from, to)) in self.ports.iter().enumerate() {
            write!(f, "{}{from}", if i > 0 { "," } else { "" })?;
            if to > from {
                write!(f, "-{to}")?;
            }
        }
        match self.transports {
            _ if self.is_all() => f.write_str("all"),
            Transports::Tcp => f.write_str("/tcp"),
            Transports::Udp => f.write_str("/udp"),
            Transports::Both => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_read_back() {
        type ScopeRow = (&'static [(u16, u16)], Transports, &'static str);
        let cases: &[ScopeRow] = &[
            (&[(22, 22)], Transports::Both, "22"),
            (&[(80, 80), (443, 443)], Transports::Tcp, "80,443/tcp"),
            (&[(1000, 2000)], Transports::Both, "1000-2000"),
            (&[(53, 53)], Transports::Udp, "53/udp"),
        ];
        for (ports, transports, text) in cases {
            let scope = Scope::new(ports.to_vec(), *transports);
            assert_eq!(scope.to_string(), *text);
            assert_eq!(Scope::read(text), Some(scope));
        }
        for bad in ["", "x", "22,", "5-4", "22/sctp", "70000"] {
            assert_eq!(Scope::read(bad), None, "{bad}");
        }
    }
}
