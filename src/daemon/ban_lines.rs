#![forbid(unsafe_code)]
//! What a line of the ban log looks like.

use crate::ban::{BY_HAND, CLOUD, FLOODS, LISTED, SCANS};
use crate::base::clock::Span;
use crate::base::line::Line;
use crate::base::net::write_net;
use crate::base::utc::Stamp;
use crate::sys::banlog::{BanLogEntry, BanLogEvent};
use std::fmt::Write as _;

/// `2026-11-22T08:00:01Z ban 192.0.2.7 rule=sshd hits=5 for=3600 ports=all`
pub(super) fn plain(line: &mut Line, entry: &BanLogEntry<'_>) -> std::fmt::Result {
    let word = if entry.event == BanLogEvent::Unban { "unban" } else { "ban" };
    write!(line, "{} {word} ", Stamp(entry.at))?;
    write_net(line, entry.net)?;
    write!(line, " rule={} hits={}", entry.rule, entry.hits)?;
    match entry.event {
        BanLogEvent::Ban(Span::Secs(secs)) => write!(line, " for={secs}")?,
        BanLogEvent::Ban(Span::Permanent) => line.write_str(" for=permanent")?,
        BanLogEvent::Unban => {}
    }
    write_ports(line, entry)?;
    if !entry.reason.is_empty() {
        write!(line, " reason={}", entry.reason)?;
    }
    Ok(())
}

/// The form of the existing product:
/// `2026-11-22T08:00:01Z RULE=SSHD | SOURCE=LOG | BAN | ip=192.0.2.7 | bantime=1h | action=ban | msg="hits=5
/// ports=all"`
pub(super) fn mef(line: &mut Line, entry: &BanLogEntry<'_>) -> std::fmt::Result {
    write!(line, "{} RULE=", Stamp(entry.at))?;
    let profile = entry.rule.strip_prefix(LISTED);
    let (rule, source) = match entry.rule {
        FLOODS => ("ddos", "KERNEL"),
        SCANS => (SCANS, "KERNEL"),
        BY_HAND => (BY_HAND, "MANUAL"),
        _ if profile == Some(CLOUD) => ("cloud", "DNS"),
        _ if profile.is_some() => ("rbl", "DNS"),
        rule => (rule, "LOG"),
    };
    rule.chars().try_for_each(|c| line.write_char(c.to_ascii_uppercase()))?;
    let word = match entry.event {
        BanLogEvent::Ban(Span::Secs(_)) => "BAN",
        BanLogEvent::Ban(Span::Permanent) => "PERM_BAN",
        BanLogEvent::Unban => "UNBAN",
    };
    write!(line, " | SOURCE={source} | {word} | ip=")?;
    write_net(line, entry.net)?;
    match entry.event {
        BanLogEvent::Ban(Span::Secs(secs)) => write!(line, " | bantime={} | action=ban", duration(secs))?,
        BanLogEvent::Ban(Span::Permanent) => line.write_str(" | bantime=permanent | action=ban")?,
        BanLogEvent::Unban => line.write_str(" | action=unban")?,
    }
    if let Some(profile) = profile {
        write!(line, " | profile={profile}")?;
    }
    write!(line, " | msg=\"hits={}", entry.hits)?;
    write_ports(line, entry)?;
    if !entry.reason.is_empty() {
        line.write_str(" reason=")?;
        // A quote would end the message.
        entry.reason.chars().try_for_each(|c| line.write_char(if c == '"' { '\'' } else { c }))?;
    }
    line.write_str("\"")
}

/// The ports that a ban closes, and those that a scanner has touched.
fn write_ports(line: &mut Line, entry: &BanLogEntry<'_>) -> std::fmt::Result {
    line.write_str(" ports=")?;
    if entry.ports.is_empty() {
        line.write_str("all")?;
    }
    for (i, (first, last)) in entry.ports.iter().enumerate() {
        let comma = if i == 0 { "" } else { "," };
        if first == last { write!(line, "{comma}{first}")? } else { write!(line, "{comma}{first}-{last}")? }
    }
    write_seen(line, entry.seen)
}

/// ` seen=21,23,25`, if there is anything to tell.
pub(super) fn write_seen(line: &mut Line, seen: &[u16]) -> std::fmt::Result {
    for (i, port) in seen.iter().enumerate() {
        write!(line, "{}{port}", if i == 0 { " seen=" } else { "," })?;
    }
    Ok(())
}

/// As short as it can be said in one unit.
fn duration(secs: u64) -> String {
    let (number, unit) = match secs {
        _ if secs.is_multiple_of(3600) => (secs / 3600, "h"),
        _ if secs.is_multiple_of(60) => (secs / 60, "m"),
        _ => (secs, "s"),
    };
    [&number.to_string(), unit].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::clock::Wall;

    const BAN: BanLogEvent = BanLogEvent::Ban(Span::Secs(3600));

    fn entry(net: &str, event: BanLogEvent) -> BanLogEntry<'static> {
        let ports = if event == BanLogEvent::Unban { &[(22, 22), (8000, 8010)][..] } else { &[] };
        BanLogEntry {
            at: Wall(1_795_334_401),
            event,
            net: net.parse().unwrap(),
            rule: "sshd",
            hits: 5,
            ports,
            reason: "",
            seen: &[],
        }
    }

    #[test]
    fn lines() {
        let cases = [
            (
                entry("192.0.2.7/32", BAN),
                "2026-11-22T08:00:01Z ban 192.0.2.7 rule=sshd hits=5 for=3600 ports=all\n",
            ),
            (
                entry("2001:db8::/64", BanLogEvent::Ban(Span::Permanent)),
                "2026-11-22T08:00:01Z ban 2001:db8::/64 rule=sshd hits=5 for=permanent ports=all\n",
            ),
            (
                entry("192.0.2.7/32", BanLogEvent::Unban),
                "2026-11-22T08:00:01Z unban 192.0.2.7 rule=sshd hits=5 ports=22,8000-8010\n",
            ),
        ];
        for (entry, want) in cases {
            let mut line = Line::new();
            plain(&mut line, &entry).unwrap();
            assert_eq!(String::from_utf8_lossy(line.with_newline()), want);
        }
    }

    #[test]
    fn lines_as_the_existing_product_writes_them() {
        let scan = BanLogEntry { rule: "portscan", seen: &[21, 23], ..entry("192.0.2.7/32", BAN) };
        let reason = BanLogEntry {
            reason: "listed by \"x\"",
            ..entry("192.0.2.7/32", BanLogEvent::Ban(Span::Permanent))
        };
        let by_hand = BanLogEntry { rule: "manual", hits: 0, ..entry("2001:db8::/64", BanLogEvent::Unban) };
        for (entry, want) in [
            (
                entry("192.0.2.7/32", BAN),
                "RULE=SSHD | SOURCE=LOG | BAN | ip=192.0.2.7 | bantime=1h | action=ban | msg=\"hits=5 \
                 ports=all\"",
            ),
            (
                scan,
                "RULE=PORTSCAN | SOURCE=KERNEL | BAN | ip=192.0.2.7 | bantime=1h | action=ban | msg=\"hits=5 \
                 ports=all seen=21,23\"",
            ),
            (
                reason,
                "RULE=SSHD | SOURCE=LOG | PERM_BAN | ip=192.0.2.7 | bantime=permanent | action=ban | \
                 msg=\"hits=5 ports=all reason=listed by 'x'\"",
            ),
            (
                BanLogEntry { rule: "rbl-bl", reason: "listed", ..entry("192.0.2.7/32", BAN) },
                "RULE=RBL | SOURCE=DNS | BAN | ip=192.0.2.7 | bantime=1h | action=ban | profile=bl | \
                 msg=\"hits=5 ports=all reason=listed\"",
            ),
            (
                by_hand,
                "RULE=MANUAL | SOURCE=MANUAL | UNBAN | ip=2001:db8::/64 | action=unban | \
                 msg=\"hits=0 ports=22,8000-8010\"",
            ),
        ] {
            let mut line = Line::new();
            mef(&mut line, &entry).unwrap();
            assert_eq!(String::from_utf8_lossy(line.bytes()), format!("2026-11-22T08:00:01Z {want}"));
        }
    }
}
