#![forbid(unsafe_code)]
//! What becomes of a range: the verdict is what holds for every address of it. Knows no kernel and no file.

use super::parts::Parts;
use crate::ban::{Scope, Transports};
use crate::base::range::{Range, merge, split};
use crate::config::PortRanges;

/// Parts of a range that are named.
pub(super) const NAMED: usize = 2;

/// A ban of some ports.
pub(super) struct PortBan {
    pub(super) addr: Range,
    pub(super) scope: Scope,
}

/// All that decides about a range.
pub(super) struct Holds {
    range: Range,
    /// Who passes, whatever else holds. Sorted and merged.
    pub(super) allowed: Vec<Range>,
    /// Of the others, whose packets are all dropped: by bans, and by deny lists.
    pub(super) dropped: Parts,
    pub(super) on_ports: Vec<PortBan>,
}

/// What becomes of packets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    Passes,
    Dropped,
    /// Not of all addresses the same: of which what, if that can be said in a few words.
    InPart(String),
    /// Dropped on some ports.
    OnPorts(String),
}

impl Verdict {
    pub(super) fn is_dropped(&self) -> bool {
        !matches!(self, Verdict::Passes)
    }

    /// For programs.
    pub(super) fn word(&self) -> &'static str {
        match self {
            Verdict::Passes => "passes",
            Verdict::Dropped => "dropped",
            Verdict::InPart(_) => "dropped in part",
            Verdict::OnPorts(_) => "dropped on ports",
        }
    }
}

impl Holds {
    /// What holds for a range of which these parts are allowed.
    pub(super) fn of(range: &Range, mut allowed: Vec<Range>) -> Holds {
        merge(&mut allowed);
        Holds { range: *range, allowed, dropped: Parts::default(), on_ports: Vec::new() }
    }

    /// Takes somebody whose packets are all dropped, unless the allow list has him.
    pub(super) fn drop(&mut self, addr: &Range) {
        let Some(part) = addr.common(&self.range) else { return };
        split(&part, &self.allowed).into_iter().for_each(|part| self.dropped.push(part));
    }

    /// Allow lists win, then all that drops everything, then bans of ports.
    pub(super) fn verdict(&mut self) -> Verdict {
        let range = &self.range;
        let rest = split(range, &self.allowed);
        let dropped = self.dropped.ranges();
        let passing: Vec<Range> = rest.iter().flat_map(|part| split(part, dropped)).collect();
        if self.dropped.is_cut() {
            // What is kept has more gaps than can be named, and so has all of it.
            return Verdict::InPart(String::new());
        }
        if passing.is_empty() && rest == [*range] {
            return Verdict::Dropped;
        }
        let groups = groups(&self.on_ports, &passing);
        if passing == rest && groups.is_empty() {
            return Verdict::Passes;
        }
        if !groups.is_empty() && groups.iter().all(|group| group.ranges == [*range]) {
            let scopes: Vec<&Scope> = groups.iter().map(|group| group.scope).collect();
            return Verdict::OnPorts(ports(&scopes));
        }
        let dropped: Vec<Range> = rest.iter().flat_map(|part| split(part, &passing)).collect();
        Verdict::InPart(match groups.as_slice() {
            [] => parts(range, &dropped),
            [one] if dropped.is_empty() => match parts(range, &one.ranges) {
                whose if whose.is_empty() => whose,
                whose => format!("{whose} on ports {}", one.scope),
            },
            _ => String::new(),
        })
    }
}

/// Who is banned on the same ports.
struct PortGroup<'h> {
    scope: &'h Scope,
    ranges: Vec<Range>,
}

/// Who of those who pass otherwise is banned on which ports.
fn groups<'h>(bans: &'h [PortBan], passing: &[Range]) -> Vec<PortGroup<'h>> {
    let mut groups: Vec<PortGroup<'_>> = Vec::new();
    for ban in bans {
        let from = passing.partition_point(|part| part.last() < ban.addr.first());
        let common = passing.iter().skip(from).map_while(|part| part.common(&ban.addr));
        match groups.iter_mut().find(|group| *group.scope == ban.scope) {
            Some(group) => group.ranges.extend(common),
            None => groups.push(PortGroup { scope: &ban.scope, ranges: common.collect() }),
        }
    }
    groups.retain(|group| !group.ranges.is_empty());
    groups.iter_mut().for_each(|group| merge(&mut group.ranges));
    groups
}

/// The ports of several bans as one list. Where they are not all of the same protocols, each has its own
/// behind it.
fn ports(scopes: &[&Scope]) -> String {
    let mut lists = Vec::new();
    for (transports, mark) in [(Transports::Both, ""), (Transports::Tcp, "/tcp"), (Transports::Udp, "/udp")] {
        let mut text = String::new();
        for scope in scopes.iter().filter(|scope| scope.transports() == transports) {
            text += if text.is_empty() { "" } else { "," };
            text += scope.to_string().trim_end_matches(mark);
        }
        if !text.is_empty() {
            // In order, and each once, unless there are more than anybody wrote by hand.
            lists.push((PortRanges::parse(&text).map_or(text, |ports| ports.to_string()), mark));
        }
    }
    if let [(list, mark)] = lists.as_slice() {
        return [list, *mark].concat();
    }
    let each: Vec<String> =
        lists.iter().map(|(list, mark)| list.replace(',', &[mark, ","].concat()) + mark).collect();
    each.join(",")
}

/// These parts of a range, or all but the others; empty where both are many.
fn parts(range: &Range, these: &[Range]) -> String {
    let named = |ranges: &[Range]| ranges.iter().map(Range::to_string).collect::<Vec<_>>().join(", ");
    let others = split(range, these);
    match (these.len(), others.len()) {
        (some, rest) if some <= rest && some <= NAMED => named(these),
        (_, ..=NAMED) => ["all but ", &named(&others)].concat(),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::applet::target::read;
    use crate::applet::why::parts::testing::of_few;
    use crate::base::range::Family;
    use std::collections::BTreeSet;

    /// Addresses of the model.
    const SIZE: u8 = 24;

    fn range(first: u8, last: u8) -> Range {
        let at = |n: u8| 0xc000_0200 + u128::from(n);
        Range::of_numbers(Family::V4, (at(first), at(last))).unwrap()
    }

    fn random(rng: &mut fastrand::Rng) -> Range {
        let first = rng.u8(..SIZE);
        let length = if rng.bool() { 0 } else { rng.u8(..SIZE) };
        range(first, (first + length).min(SIZE - 1))
    }

    /// What holds for one address.
    #[derive(Debug, Clone, PartialEq, Eq)]
    enum Fate {
        Passes,
        Dropped,
        OnPorts(BTreeSet<String>),
    }

    fn fate(holds: &Holds, dropped: &[Range], n: u8) -> Fate {
        let addr = range(n, n);
        let has = |ranges: &[Range]| ranges.iter().any(|range| range.covers(&addr));
        let bans = holds.on_ports.iter().filter(|ban| ban.addr.covers(&addr));
        let ports: BTreeSet<String> = bans.map(|ban| ban.scope.to_string()).collect();
        match () {
            () if has(&holds.allowed) => Fate::Passes,
            () if has(dropped) => Fate::Dropped,
            () if ports.is_empty() => Fate::Passes,
            () => Fate::OnPorts(ports),
        }
    }

    /// The addresses that the words of a verdict in part are about.
    fn named(text: &str, asked: (u8, u8)) -> Vec<u8> {
        let text = text.split(" on ports ").next().unwrap();
        let (is_but, text) = text.strip_prefix("all but ").map_or((false, text), |rest| (true, rest));
        let ranges: Vec<Range> = text.split(", ").map(|part| read(part, 128).unwrap()).collect();
        let is_named = |n: u8| ranges.iter().any(|part| part.covers(&range(n, n)));
        (asked.0..=asked.1).filter(|n| is_named(*n) != is_but).collect()
    }

    /// Whatever is allowed, dropped and banned on ports: the verdict of a range is what every address of it
    /// has, and otherwise says of a part only what that part has.
    #[test]
    fn the_verdict_of_a_range_is_that_of_each_of_its_addresses() {
        let mut rng = fastrand::Rng::with_seed(26);
        let mut seen = [0; 5];
        for _ in 0..40_000 {
            let asked = (rng.u8(..SIZE), rng.u8(..SIZE));
            let asked = (asked.0.min(asked.1), asked.0.max(asked.1));
            let allowed = (0..rng.u8(..4)).map(|_| random(&mut rng)).collect();
            let mut holds = Holds::of(&range(asked.0, asked.1), allowed);
            let most = if rng.bool() { 4 } else { SIZE };
            let dropped: Vec<Range> = (0..rng.u8(..most)).map(|_| random(&mut rng)).collect();
            dropped.iter().for_each(|addr| holds.drop(addr));
            let kept = holds.dropped.ranges().to_vec();
            holds.dropped = of_few(&kept, &mut rng);
            let ban = |rng: &mut fastrand::Rng| PortBan {
                addr: random(rng),
                scope: Scope::read(rng.choice(["22", "25", "80,443", "23-24/tcp"]).unwrap()).unwrap(),
            };
            holds.on_ports = (0..rng.u8(..4)).map(|_| ban(&mut rng)).collect();
            let fates: Vec<Fate> = (asked.0..=asked.1).map(|n| fate(&holds, &dropped, n)).collect();
            let verdict = holds.verdict();
            let is_same = fates.iter().all(|fate| *fate == fates[0]);
            let want = match &fates[0] {
                Fate::Passes if is_same => Verdict::Passes,
                Fate::Dropped if is_same => Verdict::Dropped,
                Fate::OnPorts(_) if is_same => Verdict::OnPorts(String::new()),
                _ => Verdict::InPart(String::new()),
            };
            assert_eq!(verdict.word(), want.word(), "{asked:?} {fates:?} {verdict:?}");
            match &verdict {
                Verdict::Passes => seen[0] += 1,
                Verdict::Dropped => seen[1] += 1,
                Verdict::OnPorts(ports) => {
                    let Fate::OnPorts(all) = &fates[0] else { panic!("{fates:?}") };
                    let scopes: Vec<Scope> = all.iter().map(|text| Scope::read(text).unwrap()).collect();
                    assert_eq!(*ports, super::ports(&scopes.iter().collect::<Vec<_>>()));
                    seen[2] += 1;
                }
                Verdict::InPart(text) if text.is_empty() => seen[3] += 1,
                Verdict::InPart(text) => {
                    let of: Vec<u8> = named(text, asked);
                    let all = (asked.0..=asked.1).zip(&fates);
                    let affected: Vec<u8> =
                        all.filter(|(_, f)| **f != Fate::Passes).map(|(n, _)| n).collect();
                    assert_eq!(of, affected, "{text} {asked:?} {fates:?}");
                    let ports = text.split(" on ports ").nth(1);
                    let mut fates = fates.iter().filter(|f| **f != Fate::Passes);
                    let fits = |fate: &Fate| match (fate, ports) {
                        (Fate::Dropped, None) => true,
                        (Fate::OnPorts(all), Some(ports)) => all.len() == 1 && all.contains(ports),
                        _ => false,
                    };
                    assert!(fates.all(fits), "{text}");
                    seen[4] += 1;
                }
            }
        }
        assert!(seen.iter().all(|count| *count > 500), "{seen:?}");
    }

    #[test]
    fn ports_of_several_bans_are_one_list() {
        let cases: &[(&[&str], &str)] = &[
            (&["80,443", "22"], "22,80,443"),
            (&["22", "22,25"], "22,25"),
            (&["1000-2000", "1500-3000", "3001"], "1000-3001"),
            (&["65535", "1-65534"], "all"),
            (&["80,443/tcp", "22/tcp"], "22,80,443/tcp"),
            (&["80,443/tcp", "53/udp", "22"], "22,80/tcp,443/tcp,53/udp"),
        ];
        for (bans, want) in cases {
            let scopes: Vec<Scope> = bans.iter().map(|text| Scope::read(text).unwrap()).collect();
            assert_eq!(ports(&scopes.iter().collect::<Vec<_>>()), *want);
        }
    }
}
