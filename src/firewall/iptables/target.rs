#![forbid(unsafe_code)]
//! What rules do with packets, as options of `iptables-restore`: targets, and the bounds on how many packets
//! they get.

use super::spell::{Names as _, Sense, option, span};
use super::written::{LETTER, Place, Text, chain_name, quoted};
use crate::base::diag::Severity;
use crate::base::range::Family;
use crate::plan::{Change, Limit, LogTarget, Nat, NatKind, NatPick, PacketVerdict, Reject, Rule};

/// Bytes before what is logged, to the kernel's log and to a group.
const LOG_PREFIX_MAX: [usize; 2] = [29, 63];
/// Seconds in which a bucket has to become full: the kernel cannot count further.
const FULL_MAX: u64 = 86_400;
/// Buckets that there is room for: what has none would drop packets, so the sets have half as many.
const BUCKETS_MAX: &str = "131072";
/// What targets need of the protocol.
pub(super) const TCP: &str = " -p 6";
const WITH_PORTS: [&str; 4] = [TCP, " -p 17", " -p 132", " -p 33"];
/// Errors of ICMP and ICMPv6, in the order of `Refusal::ALL`.
const REFUSALS: [&str; 4] =
    ["icmp-net-unreachable", "icmp-port-unreachable", "icmp-host-unreachable", "icmp-admin-prohibited"];
const REFUSALS6: [&str; 4] =
    ["icmp6-no-route", "icmp6-port-unreachable", "icmp6-addr-unreachable", "icmp6-adm-prohibited"];

/// What is done to a packet: what it must be for that, and the target.
type Step = (&'static str, String);

impl Text {
    /// What is done to packets, one after the other; at least one step.
    pub(super) fn steps(&mut self, place: Place, rule: &Rule) -> Vec<Step> {
        let mut all = Vec::new();
        if let Some(prefix) = &rule.log {
            let [plain, group] = LOG_PREFIX_MAX;
            let (target, number, word, max) = match rule.log_to {
                LogTarget::Level(level) => {
                    (" -j LOG --log-level ", u16::from(level), " --log-prefix ", plain)
                }
                LogTarget::Group(number) => (" -j NFLOG --nflog-group ", number, " --nflog-prefix ", group),
            };
            if prefix.len() > max {
                self.say(
                    rule.origin,
                    ("log", "the prefix is cut: 29 bytes, or 63 to a group"),
                    Severity::Warning,
                );
            }
            all.push(("", [target, &number.to_string(), word, &quoted(prefix, max)].concat()));
        }
        for change in &rule.changes {
            all.push(match change {
                Change::Mark(value, mask) => {
                    ("", [" -j MARK --set-xmark ", &value.to_string(), "/", &mask.to_string()].concat())
                }
                Change::Mss(size) => {
                    let syn = " -p 6 -m tcp --tcp-flags SYN,RST SYN";
                    let clamp = " -j TCPMSS --clamp-mss-to-pmtu".to_owned();
                    let fixed = [" -j TCPMSS --set-mss ", &size.to_string()].concat();
                    (syn, if *size == 0 { clamp } else { fixed })
                }
                Change::Offload => {
                    self.say(rule.origin, ("offload", "it has no flow offload"), Severity::Error);
                    continue;
                }
                Change::Add(set, seconds) => {
                    let name = self.addresses(set.as_str());
                    // Its sources stand for themselves, not for the network of a bucket.
                    let made = self.sets.iter_mut().filter(|made| made.name == name);
                    made.for_each(|made| made.dynamic = Some(0));
                    ("", add(&name, *seconds))
                }
            });
        }
        let target = self.verdict(place, rule);
        match rule.verdict {
            PacketVerdict::Reject(Reject::Reset) => all.push((TCP, target)),
            PacketVerdict::Nat(nat) if nat.ports.is_some() && rule.proto.is_none() => {
                // Whoever led here has looked at the protocol; ports want to know it once more.
                WITH_PORTS.iter().for_each(|proto| all.push((proto, target.clone())));
            }
            _ if !target.is_empty() || all.is_empty() => all.push(("", target)),
            _ => {}
        }
        all
    }

    fn verdict(&mut self, place: Place, rule: &Rule) -> String {
        let fixed = match &rule.verdict {
            PacketVerdict::Accept => " -j ACCEPT",
            PacketVerdict::Drop => " -j DROP",
            PacketVerdict::Return => " -j RETURN",
            PacketVerdict::Next => "",
            PacketVerdict::Reject(Reject::Reset) => " -j REJECT --reject-with tcp-reset",
            PacketVerdict::Reject(Reject::With(refusal)) => {
                let words = if place.family == Family::V4 { REFUSALS } else { REFUSALS6 };
                let word = words.get(*refusal as usize).unwrap_or(&"");
                return [" -j REJECT --reject-with ", word].concat();
            }
            PacketVerdict::Jump(name) => return [" -j ", &chain_name(self.own(place, *name))].concat(),
            PacketVerdict::Nat(nat) => {
                if !can_pick(nat) {
                    let why = "the target of this action has no such option; all have random";
                    self.say(rule.origin, ("pick", why), Severity::Error);
                }
                return translated(nat);
            }
        };
        fixed.to_owned()
    }

    /// The number of a limit, which parts of one rule share.
    fn limit_number(&mut self) -> u32 {
        self.shared.unwrap_or_else(|| {
            self.limits += 1;
            self.limits
        })
    }

    /// The matches with a bound on how many packets pass them. Whom a set of buckets has no room for is under
    /// no limit.
    pub(super) fn limit(&mut self, place: Place, at: (u32, u32), plain: String, limit: &Limit) -> String {
        let (rate, per) = (limit.rate, u64::from(limit.rate.per));
        let mask = match (limit.set, place.family) {
            (None, _) => "0",
            (Some(_), Family::V4) => "32",
            (Some(_), Family::V6) => "64",
        };
        let side = if limit.over { "above " } else { "upto " };
        let count = rate.packets.to_string();
        if per == 0 {
            let bound = [" -m connlimit --connlimit-", side, &count, " --connlimit-saddr --connlimit-mask "];
            return plain + &bound.concat() + mask;
        }
        let unit = unit(per);
        let packets = u64::from(rate.packets.max(1));
        let burst = u64::from(limit.burst).min((FULL_MAX * packets / per).max(1));
        if burst < u64::from(limit.burst) {
            let what = ("limit", "the burst is less, so that an empty bucket is full after a day");
            self.say(at.1, what, Severity::Warning);
        }
        let full = burst * per / packets + 1;
        let (mut number, mut kind) = (self.limit_number(), "_");
        let (mut set, mut life, mut mode) = (String::new(), full.min(FULL_MAX), String::new());
        if let Some(name) = limit.set {
            // Rules that ask the same set share its buckets.
            if let Some(at) = self.buckets.iter().position(|(known, _)| *known == name) {
                life = self.buckets.get(at).map_or(life, |(_, life)| (*life).into());
                (number, kind) = (u32::try_from(at).unwrap_or(0), "s");
            }
            let name = self.addresses(name.as_str());
            self.line(place, at, [&plain, &add(&name, u32::try_from(life).unwrap_or(u32::MAX))]);
            set = option(Sense::Is, "set", "match-set", &name) + " src";
            mode = [" --hashlimit-mode srcip --hashlimit-srcmask ", mask].concat();
        }
        let life = (life * 1000).to_string();
        let bound = [
            &set,
            " -m hashlimit --hashlimit-",
            side,
            &count,
            unit,
            " --hashlimit-burst ",
            &burst.to_string(),
            &mode,
            " --hashlimit-name mefr_",
            &String::from(LETTER),
            kind,
            &number.to_string(),
            " --hashlimit-htable-max ",
            BUCKETS_MAX,
            " --hashlimit-htable-expire ",
            &life,
        ];
        plain + &bound.concat()
    }
}

/// What a rate is per.
fn unit(seconds: u64) -> &'static str {
    match seconds {
        1 => "/sec",
        60 => "/min",
        3600 => "/hour",
        _ => "/day",
    }
}

/// A target that puts the source into a set, or has it stay there for longer.
fn add(set: &str, seconds: u32) -> String {
    [" -j SET --add-set ", set, " src --exist --timeout ", &seconds.to_string()].concat()
}

/// Whether the target has an option for how addresses and ports are picked.
fn can_pick(nat: &Nat) -> bool {
    match nat.pick {
        None | Some(NatPick::Random) => true,
        Some(NatPick::FullyRandom) => matches!(nat.kind, NatKind::Snat | NatKind::Masquerade),
        Some(NatPick::Persistent) => matches!(nat.kind, NatKind::Snat | NatKind::Dnat),
    }
}

/// The target that gives packets other addresses.
fn translated(nat: &Nat) -> String {
    let ports = nat.ports.map(|(a, b)| span(&a.to_string(), "-", &b.to_string()));
    let (target, word) = match nat.kind {
        NatKind::Snat => (" -j SNAT", " --to-source "),
        NatKind::Dnat => (" -j DNAT", " --to-destination "),
        NatKind::Masquerade => (" -j MASQUERADE", " --to-ports "),
        NatKind::Redirect => (" -j REDIRECT", " --to-ports "),
    };
    let to = nat.to.map(|range| span(&range.first().to_string(), "-", &range.last().to_string()));
    let braced = to.map(|to| if to.contains(':') { ["[", &to, "]"].concat() } else { to });
    let behind = matches!(nat.kind, NatKind::Snat | NatKind::Dnat) && ports.is_some();
    let all = braced.unwrap_or_default() + if behind { ":" } else { "" } + &ports.unwrap_or_default();
    let pick = match nat.pick {
        None => "",
        Some(NatPick::Random) => " --random",
        Some(NatPick::FullyRandom) => " --random-fully",
        Some(NatPick::Persistent) => " --persistent",
    };
    [target, if all.is_empty() { "" } else { word }, &all, pick].concat()
}
