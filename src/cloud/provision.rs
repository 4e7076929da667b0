#![forbid(unsafe_code)]
//! What a server has to be told so that a key can do what it is for and nothing else: configuration for Knot
//! DNS and for BIND, and the zones' first contents.

use crate::dns::tsig::Key;

/// Bytes of the names and records of a member's zone at most, to Knot: some 12,000 reports.
const QUOTA_KNOT: &str = "1M";
/// The same to BIND, in records.
const QUOTA_BIND: &str = "12000";

/// A text in parts, each with a headline of its own.
#[derive(Default)]
pub struct Parts(String);

impl Parts {
    /// Adds a part.
    pub fn add(&mut self, headline: &str, text: &str) -> &mut Parts {
        if !self.0.is_empty() {
            self.0.push('\n');
        }
        for piece in ["# ---- ", headline, "\n", text] {
            self.0.push_str(piece);
        }
        self
    }

    /// All of them.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.0
    }
}

/// A template with values in the places of `%word%`.
#[must_use]
pub fn filled(template: &str, words: &[(&str, &str)]) -> String {
    let (mut out, mut rest) = (String::with_capacity(template.len() * 2), template);
    while let Some((before, behind)) = rest.split_once('%') {
        out.push_str(before);
        let (word, behind) = behind.split_once('%').unwrap_or(("", behind));
        let value = words.iter().find(|(name, _)| *name == word).map_or("", |(_, value)| value);
        out.push_str(value);
        rest = behind;
    }
    out.push_str(rest);
    out
}

const KNOT_OPERATOR: &str = "\
key:
  - id: operator
    algorithm: hmac-sha256
    secret: %secret%
acl:
  - id: mef-list
    key: operator
    action: [transfer, update]
    update-type: [A, TXT]
  - id: mef-read
    key: operator
    action: transfer
zone:
  - domain: bl.%zone%
    file: bl.%zone%.zone
    acl: mef-list
";

const BIND_OPERATOR: &str = "\
key \"operator\" { algorithm hmac-sha256; secret \"%secret%\"; };
zone \"bl.%zone%\" {
    type primary;
    file \"bl.%zone%.zone\";
    update-policy { grant operator zonesub A TXT; };
    allow-transfer { key \"operator\"; };
};
";

const KNOT_MEMBER: &str = "\
key:
  - id: %name%
    algorithm: hmac-sha256
    secret: %secret%
acl:
  - id: mef-member-%name%
    key: %name%
    action: update
    update-type: TXT
    update-owner: zone
    update-owner-match: sub
zone:
  - domain: %name%.r.%zone%
    file: %name%.r.%zone%.zone
    zone-max-size: %quota%
    acl: [mef-member-%name%, mef-read]
";

const BIND_MEMBER: &str = "\
key \"%name%\" { algorithm hmac-sha256; secret \"%secret%\"; };
zone \"%name%.r.%zone%\" {
    type primary;
    file \"%name%.r.%zone%.zone\";
    max-records %quota%;
    update-policy { grant %name% wildcard *.%name%.r.%zone%. TXT; };
    allow-transfer { key \"operator\"; };
};
";

const ZONE: &str = "\
%zone%. 300 IN SOA ns.%cloud%. hostmaster.%cloud%. 1 3600 600 604800 60
%zone%. 300 IN NS ns.%cloud%.
";

const MEMBER_CONF: &str = "\
community_member=%name%
community_key_file=/etc/mef/community.key
community_zone=%zone%
community_server=%server%
community_report=true
community_cloud_protection=true
";

/// The first content of a zone, for either server.
fn zone_part(parts: &mut Parts, cloud: &str, labels: &str) {
    let zone = &[labels, ".", cloud].concat();
    let headline = ["the file ", zone, ".zone on the server"].concat();
    parts.add(&headline, &filled(ZONE, &[("zone", zone), ("cloud", cloud)]));
}

/// What the server of a new cloud needs.
#[must_use]
pub fn operator(zone: &str, key: &Key) -> Parts {
    let mut parts = Parts::default();
    let secret = key.secret();
    let words = [("zone", zone), ("secret", &secret)];
    parts.add("Knot DNS: add to knot.conf", &filled(KNOT_OPERATOR, &words));
    parts.add("BIND: add to named.conf", &filled(BIND_OPERATOR, &words));
    zone_part(&mut parts, zone, "bl");
    parts
}

/// What the server and the member need for a new member.
#[must_use]
pub fn member(zone: &str, server: &str, name: &str, key: &Key) -> Parts {
    let mut parts = Parts::default();
    let secret = key.secret();
    let words =
        |quota| [("zone", zone), ("name", name), ("secret", &secret), ("server", server), ("quota", quota)];
    parts.add("Knot DNS: add to knot.conf", &filled(KNOT_MEMBER, &words(QUOTA_KNOT)));
    parts.add("BIND: add to named.conf", &filled(BIND_MEMBER, &words(QUOTA_BIND)));
    zone_part(&mut parts, zone, &[name, ".r"].concat());
    parts.add("the member: /etc/mef/community.key, mode 0600", &[&key.text(), "\n"].concat());
    parts.add("the member: [global] of mef.conf", &filled(MEMBER_CONF, &words("")));
    parts
}
