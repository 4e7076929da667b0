#![forbid(unsafe_code)]
//! Who is meant by an argument of `ban`, `unban` and their like, and whether banning them is safe.

use crate::base::net::{canonical, offender};
use crate::base::range::Range;
use crate::firewall::guard::{Failure, Guard};
use crate::sys::host::Protected;
use std::net::IpAddr;

/// Reads an address, a CIDR or a range. A plain IPv6 address stands for its prefix, as everywhere in mef; with
/// a length behind it, it is exactly that network.
pub(super) fn read(text: &str, ipv6_prefix: u8) -> Result<Range, String> {
    let text = text.trim();
    let wrong = || {
        let shown: String = text.chars().take(80).collect();
        format!(
            "'{}' is no address, network (192.0.2.0/24) or range (192.0.2.1-192.0.2.9)",
            shown.escape_debug()
        )
    };
    if text.contains('/') {
        return crate::config::net(text).map(Range::from).map_err(|bad| bad.what);
    }
    let address = |text: &str| text.trim().parse::<IpAddr>().map(canonical).map_err(|_| wrong());
    match text.split_once('-') {
        Some((first, last)) => Range::new(address(first)?, address(last)?).ok_or_else(wrong),
        None => Ok(Range::from(offender(address(text)?, ipv6_prefix))),
    }
}

/// Whom a ban would lock out.
pub(super) struct Safety {
    protected: Protected,
    allowed: Vec<Range>,
}

impl Safety {
    pub(super) fn read(guard: &mut Guard) -> Result<Safety, Failure> {
        Ok(Safety { protected: Protected::read(), allowed: guard.allowed()? })
    }

    /// Why the range must not be banned, if so.
    pub(super) fn objection(&self, range: &Range) -> Option<&'static str> {
        if self.allowed.iter().any(|a| a.meets(range)) {
            return Some("on the allow list");
        }
        self.protected.why(range)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_addresses_networks_and_ranges() {
        let cases = [
            ("192.0.2.7", Some("192.0.2.7")),
            (" 192.0.2.7 ", Some("192.0.2.7")),
            ("::ffff:192.0.2.7", Some("192.0.2.7")),
            ("2001:db8::1", Some("2001:db8::/64")),
            ("2001:db8::1/128", Some("2001:db8::1")),
            ("192.0.2.7/24", Some("192.0.2.0/24")),
            ("192.0.2.0/255.255.255.0", Some("192.0.2.0/24")),
            ("192.0.2.0-192.0.2.127", Some("192.0.2.0/25")),
            ("2001:db8::1-2001:db8::2", Some("2001:db8::1-2001:db8::2")),
            ("192.0.2.9-192.0.2.1", None),
            ("192.0.2.9-::1", None),
            ("192.0.2.0/33", None),
            ("host.example", None),
            ("", None),
            ("192.0.2.7;reboot", None),
        ];
        for (text, want) in cases {
            assert_eq!(read(text, 64).map(|r| r.to_string()).ok().as_deref(), want, "{text}");
        }
    }
}
