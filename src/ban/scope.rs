#![forbid(unsafe_code)]
//! The ports that a ban covers.

/// What a ban covers: everything, or some ports of TCP, UDP or both. Rules and hand-made bans with the
/// same ports share a set, so the number of look-ups does not grow with the number of rules.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Scope {
    ports: Vec<(u16, u16)>,
    tcp: bool,
    udp: bool,
}

impl Scope {
    /// Every packet.
    pub const ALL: Scope = Scope { ports: Vec::new(), tcp: true, udp: true };

    /// Sorted ranges of ports, ends included; none = all ports and protocols.
    #[must_use]
    pub fn new(ports: Vec<(u16, u16)>, tcp: bool, udp: bool) -> Scope {
        if ports.is_empty() { Scope::ALL } else { Scope { ports, tcp, udp } }
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
    pub fn protocols(&self) -> (bool, bool) {
        (self.tcp, self.udp)
    }

    /// Reads what `Display` writes.
    #[must_use]
    pub fn read(text: &str) -> Option<Scope> {
        let (ports, protocol) = match text.split_once('/') {
            Some((ports, protocol)) => (ports, Some(protocol)),
            None => (text, None),
        };
        let (tcp, udp) = match protocol {
            None => (true, true),
            Some("tcp") => (true, false),
            Some("udp") => (false, true),
            Some(_) => return None,
        };
        let mut ranges = Vec::new();
        for part in ports.split(',') {
            let (from, to) = part.split_once('-').unwrap_or((part, part));
            ranges.push((from.parse().ok()?, to.parse().ok()?));
        }
        (ranges.iter().all(|(from, to)| from <= to)).then(|| Scope::new(ranges, tcp, udp))
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
        match (self.is_all(), self.tcp, self.udp) {
            (true, ..) => f.write_str("all"),
            (false, true, false) => f.write_str("/tcp"),
            (false, false, true) => f.write_str("/udp"),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_read_back() {
        type ScopeRow = (&'static [(u16, u16)], bool, bool, &'static str);
        let cases: &[ScopeRow] = &[
            (&[(22, 22)], true, true, "22"),
            (&[(80, 80), (443, 443)], true, false, "80,443/tcp"),
            (&[(1000, 2000)], true, true, "1000-2000"),
            (&[(53, 53)], false, true, "53/udp"),
        ];
        for (ports, tcp, udp, text) in cases {
            let scope = Scope::new(ports.to_vec(), *tcp, *udp);
            assert_eq!(scope.to_string(), *text);
            assert_eq!(Scope::read(text), Some(scope));
        }
        for bad in ["", "x", "22,", "5-4", "22/sctp", "70000"] {
            assert_eq!(Scope::read(bad), None, "{bad}");
        }
    }
}
