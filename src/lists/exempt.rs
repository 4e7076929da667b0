#![forbid(unsafe_code)]
//! What deny lists leave out, because this house needs it: the host's own addresses, its gateways and name
//! servers, and the networks that are connected beside the uplink. Knows no file.

use crate::base::range::{Range, any_meets, merge, split};
use crate::sys::direct::direct_networks;
use crate::sys::host::Protected;

/// Parts of one entry that are named.
const NAMED: usize = 4;

/// Whom no list of others may name.
#[derive(Default)]
pub struct Exempt {
    /// Sorted and merged.
    ranges: Vec<Range>,
    named: Vec<(Range, String)>,
}

impl Exempt {
    /// As the host is now.
    #[must_use]
    pub fn read() -> Exempt {
        let mut this = Exempt::default();
        for (range, name) in direct_networks() {
            this.named.push((range, ["directly connected on ", name.as_str()].concat()));
        }
        Protected::read().each(&mut |range, why| this.named.push((range, why.to_owned())));
        this.ranges = this.named.iter().map(|(range, _)| *range).collect();
        merge(&mut this.ranges);
        this
    }

    /// Whether something of the range is exempt.
    #[must_use]
    pub fn meets(&self, range: &Range) -> bool {
        any_meets(&self.ranges, range)
    }

    /// What of the range a list may name.
    #[must_use]
    pub fn without(&self, range: &Range) -> Vec<Range> {
        split(range, &self.ranges)
    }

    /// The directly connected network that has something of the range, and its interface, for people.
    #[must_use]
    pub fn network_of(&self, range: &Range) -> Option<String> {
        let (net, why) =
            self.named.iter().find(|(net, why)| net.meets(range) && why.starts_with("directly"))?;
        Some(format!("in {net}, {why}"))
    }

    /// What of the range is exempt, with reasons.
    #[must_use]
    pub fn named(&self, range: &Range) -> String {
        let all = || self.named.iter().filter(|(part, _)| part.meets(range));
        let shown: Vec<String> = all().take(NAMED).map(|(part, why)| format!("{part} ({why})")).collect();
        let mut text = shown.join(", ");
        let more = all().count().saturating_sub(NAMED);
        if more > 0 {
            text.push_str(&format!(" and {more} more"));
        }
        text
    }

    /// The ranges, to see whether they have changed.
    #[must_use]
    pub fn into_ranges(self) -> Vec<Range> {
        self.ranges
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(text: &str) -> Range {
        Range::from(text.parse::<ipnet::IpNet>().unwrap())
    }

    #[test]
    fn what_is_left_out_is_named_and_the_rest_stays() {
        let mut exempt = Exempt::default();
        for (net, why) in [
            ("192.168.1.0/24", "directly connected on br-lan"),
            ("192.168.1.1/32", "this host's own address"),
            ("172.17.0.0/16", "directly connected on docker0"),
        ] {
            exempt.named.push((range(net), why.to_owned()));
        }
        exempt.ranges = exempt.named.iter().map(|(r, _)| *r).collect();
        merge(&mut exempt.ranges);
        let wide = range("192.168.0.0/16");
        assert_eq!(
            exempt.named(&wide),
            "192.168.1.0/24 (directly connected on br-lan), 192.168.1.1 (this host's own address)"
        );
        let rest: Vec<String> = exempt.without(&wide).iter().map(ToString::to_string).collect();
        assert_eq!(rest, ["192.168.0.0/24", "192.168.2.0-192.168.255.255"]);
        assert!(exempt.without(&range("172.17.3.0/24")).is_empty());
        assert_eq!(exempt.without(&range("10.0.0.0/8")), [range("10.0.0.0/8")]);
        assert!(!exempt.meets(&range("10.0.0.0/8")) && exempt.meets(&range("192.168.1.77/32")));
        let why = exempt.network_of(&range("192.168.1.77/32"));
        assert_eq!(why.as_deref(), Some("in 192.168.1.0/24, directly connected on br-lan"));
        assert_eq!(exempt.network_of(&range("192.168.2.77/32")), None);
    }
}
