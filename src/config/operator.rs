#![forbid(unsafe_code)]
//! cloud.conf, the file of who runs a community cloud: its zone, its server, what an address must have to be
//! listed, and the members.

use super::ini::{self, IniEntry};
use super::keys::{self, SettingKey, SettingSlot};
use super::value;
use crate::base::diag::{Bad, Checked, Problem, Severity, decode};
use ipnet::IpNet;
use std::net::SocketAddr;

/// Members at most.
const MEMBERS_MAX: usize = 10_000;
const DAY: u32 = 86_400;

/// A member of the cloud.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CloudMember {
    /// Its name, and that of its key.
    pub name: String,
    /// Who runs it: members of one group count as one.
    pub group: String,
    /// Percent of a report that one of its reports counts as.
    pub weight: u32,
    /// Its own addresses, never listed.
    pub own: Vec<IpNet>,
}

/// What stands in cloud.conf.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs, reason = "each field is the key of that name, which cloud.conf documents")]
pub struct Operator {
    pub zone: String,
    pub server: Option<SocketAddr>,
    pub key_file: String,
    pub min_members: u32,
    pub min_groups: u32,
    pub max_age: u32,
    pub min_weight: u32,
    pub max_share: u32,
    pub share_floor: u32,
    pub members: Vec<CloudMember>,
}

const fn key(
    name: &'static str,
    default: &'static str,
    slot: fn(&mut Operator) -> SettingSlot<'_>,
) -> SettingKey<Operator> {
    SettingKey { name, default, slot }
}

/// Every key of [cloud].
pub(super) const KEYS: &[SettingKey<Operator>] = &[
    key("zone", "", |o| SettingSlot::Text(&mut o.zone)),
    key("server", "", |o| SettingSlot::Server(&mut o.server)),
    key("key_file", "", |o| SettingSlot::OptionalPath(&mut o.key_file)),
    key("min_members", "3", |o| SettingSlot::Count(1, 32, &mut o.min_members)),
    key("min_groups", "3", |o| SettingSlot::Count(1, 32, &mut o.min_groups)),
    key("max_age", "7d", |o| SettingSlot::Secs(3600, 365 * DAY, &mut o.max_age)),
    key("min_weight", "0", |o| SettingSlot::Count(0, 1_000_000, &mut o.min_weight)),
    key("max_share", "5", |o| SettingSlot::Count(1, 100, &mut o.max_share)),
    key("share_floor", "100", |o| SettingSlot::Count(0, 1_000_000, &mut o.share_floor)),
];

impl Operator {
    fn blank() -> Operator {
        let mut this = Operator {
            zone: String::new(),
            server: None,
            key_file: String::new(),
            min_members: 0,
            min_groups: 0,
            max_age: 0,
            min_weight: 0,
            max_share: 0,
            share_floor: 0,
            members: Vec::new(),
        };
        keys::set_defaults(KEYS, &mut this);
        this
    }
}

/// Reads cloud.conf.
#[must_use]
pub fn parse_operator(text: &[u8]) -> (Operator, Vec<Problem>) {
    let (mut operator, mut problems) = (Operator::blank(), Vec::new());
    if let Some(text) = decode(text, &mut problems) {
        ini::read(text, &["cloud", "members"], &mut problems, &mut |entry, problems| match entry.section {
            "members" => match member(entry, &operator.members) {
                Ok(member) => operator.members.push(member),
                Err(bad) => problems.push(entry.value_error(*bad)),
            },
            _ => match keys::find(KEYS, entry.key) {
                Some(key) => keys::store((key.slot)(&mut operator), key.default, entry, problems),
                None => problems.push(keys::unknown(entry, KEYS.iter().map(|key| key.name))),
            },
        });
        for (key, missing) in [("zone", operator.zone.is_empty()), ("server", operator.server.is_none())] {
            if missing {
                let what = ["'", key, "' is missing"].concat();
                problems.push(Problem::whole(Severity::Error, what, "add it to section [cloud]".to_owned()));
            }
        }
    }
    (operator, problems)
}

/// `NAME=GROUP`, and behind it `weight=PERCENT` and addresses.
fn member(entry: &IniEntry<'_>, before: &[CloudMember]) -> Checked<CloudMember> {
    member_name(entry.key)?;
    if before.iter().any(|other| other.name == entry.key) {
        return Err(Bad::word(0, entry.value, "is the group of an existing member", "name it once"));
    }
    if before.len() >= MEMBERS_MAX {
        return Err(Bad::word(0, entry.value, "is one member too many", "at most 10000"));
    }
    let mut words = entry.value.split_ascii_whitespace();
    let group = words.next().unwrap_or("");
    member_name(group)?;
    let mut found =
        CloudMember { name: entry.key.to_owned(), group: group.to_owned(), weight: 100, own: Vec::new() };
    for word in words {
        match word.strip_prefix("weight=") {
            Some(percent) => found.weight = value::count(percent, 1, 100)?,
            None => found.own.push(value::net(word)?),
        }
    }
    Ok(found)
}

/// A name of a member or a group, as it can be a label in a zone.
///
/// # Errors
/// What it must be.
pub fn member_name(text: &str) -> Checked<()> {
    let good = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    if text.bytes().all(good)
        && (1..=32).contains(&text.len())
        && !text.starts_with('-')
        && text != "operator"
    {
        return Ok(());
    }
    let hint = "a name consists of lower-case letters, digits and '-', at most 32; 'operator' is taken";
    Err(Bad::word(0, text, "cannot be a name", hint))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "[cloud]\nzone=cloud.example\nserver=192.0.2.53\nmin_members=2 # few\n[members]\n";

    #[test]
    fn members_with_groups_weights_and_addresses() {
        let text = [TEXT, "web1=acme\nweb2=acme weight=50 192.0.2.7 2001:db8::/48\n"].concat();
        let (operator, problems) = parse_operator(text.as_bytes());
        assert!(problems.is_empty(), "{problems:?}");
        assert_eq!((operator.min_members, operator.min_groups, operator.max_age), (2, 3, 7 * DAY));
        assert_eq!(operator.server, Some("192.0.2.53:53".parse().unwrap()));
        let [one, two] = operator.members.as_slice() else { panic!() };
        assert_eq!((one.name.as_str(), one.group.as_str(), one.weight), ("web1", "acme", 100));
        assert_eq!((two.weight, two.own.len()), (50, 2));
    }

    #[test]
    fn what_is_wrong_is_said() {
        let cases = [
            ("web1=acme\nweb1=other", "an existing member"),
            ("Web1=acme", "cannot be a name"),
            ("web1=", "cannot be a name"),
            ("operator=acme", "cannot be a name"),
            ("a.b=acme", "cannot be a name"),
            ("web1=acme weight=0", "out of range"),
            ("web1=acme 192.0.2.300", "192.0.2.300"),
        ];
        for (line, want) in cases {
            let (_, problems) = parse_operator([TEXT, line].concat().as_bytes());
            assert!(
                problems.len() == 1 && format!("{:?}", problems[0]).contains(want),
                "{line}: {problems:?}"
            );
        }
        assert_eq!(parse_operator(b"[cloud]\n").1.len(), 2);
        assert_eq!(parse_operator(b"").1.len(), 2);
        assert_eq!(parse_operator([TEXT, "\n[cloud]\nzoen=x"].concat().as_bytes()).1.len(), 1);
    }
}
