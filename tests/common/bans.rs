//! Bans as the kernel is given them, and what `mef bans --json` says of them, read by a parser of our own:
//! the form is a promise to other programs.

use super::Net;
use mef::ban::{Ban, Scope};
use mef::base::clock::Span;
use mef::base::range::Range;
use std::collections::BTreeMap;
use std::net::IpAddr;

/// An address, a network or a range.
#[must_use]
pub fn range(text: &str) -> Range {
    match text.split_once('-') {
        Some((a, b)) => Range::new(a.parse().unwrap(), b.parse().unwrap()).unwrap(),
        None if text.contains('/') => Range::from(text.parse::<ipnet::IpNet>().unwrap()),
        None => Range::from(ipnet::IpNet::from(text.parse::<IpAddr>().unwrap())),
    }
}

/// A ban that begins now.
#[must_use]
pub fn a_ban<'a>(addr: &str, scope: &'a Scope, time: Span) -> Ban<'a> {
    Ban {
        addr: range(addr),
        scope,
        time,
        age: 0,
        rule: "test",
        hits: 5,
        reason: "",
        bans: 1,
        starts: &[],
        line: "",
    }
}

/// The value of a member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    Null,
    Flag(bool),
    Number(u64),
    Text(String),
}

/// A JSON object as mef writes it: flat.
pub type Row = BTreeMap<String, Value>;

/// Reads one object a line; what is not such an object fails the test.
#[track_caller]
pub fn rows(text: &str) -> Vec<Row> {
    text.lines().map(|line| object(line).unwrap_or_else(|| panic!("no flat JSON object: {line}"))).collect()
}

fn object(line: &str) -> Option<Row> {
    let mut rest = line.strip_prefix('{')?.strip_suffix('}')?.chars().peekable();
    let mut row = Row::new();
    while rest.peek().is_some() {
        let key = string(&mut rest)?;
        (rest.next()? == ':').then_some(())?;
        let value = if rest.peek() == Some(&'"') {
            Value::Text(string(&mut rest)?)
        } else {
            let mut word = String::new();
            while let Some(c) = rest.next_if(|&c| c != ',') {
                word.push(c);
            }
            match word.as_str() {
                "null" => Value::Null,
                "true" | "false" => Value::Flag(word == "true"),
                _ => Value::Number(word.parse().ok()?),
            }
        };
        row.insert(key, value).is_none().then_some(())?;
        if rest.peek().is_some() {
            (rest.next()? == ',' && rest.peek().is_some()).then_some(())?;
        }
    }
    Some(row)
}

fn string(rest: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Option<String> {
    (rest.next()? == '"').then_some(())?;
    let mut text = String::new();
    loop {
        match rest.next()? {
            '"' => return Some(text),
            '\\' => text.push(match rest.next()? {
                c @ ('"' | '\\' | '/') => c,
                'n' => '\n',
                't' => '\t',
                'u' => {
                    let hex: String = rest.by_ref().take(4).collect();
                    char::from_u32(u32::from_str_radix(&hex, 16).ok()?)?
                }
                _ => return None,
            }),
            c if c.is_control() => return None,
            c => text.push(c),
        }
    }
}

impl Net {
    /// The bans in force, but for the marks that `mark` makes.
    #[track_caller]
    pub fn bans(&self) -> Vec<Row> {
        let mut all = rows(&self.mef(&["bans", "--json"]).ok());
        all.retain(|row| text(row, "rule") != "mark");
        all.sort_by_key(|row| (text(row, "address"), text(row, "ports")));
        all
    }

    /// Who is banned, in the order of their text.
    #[track_caller]
    pub fn banned(&self) -> Vec<String> {
        self.bans().iter().map(|row| text(row, "address")).collect()
    }

    /// The one ban of this address or network.
    #[track_caller]
    pub fn ban_of(&self, addr: &str) -> Row {
        let all = self.bans();
        let mut found = all.iter().filter(|row| text(row, "address") == addr);
        match (found.next(), found.next()) {
            (Some(row), None) => row.clone(),
            _ => panic!("{addr} is not banned once: {all:#?}"),
        }
    }

    /// Whether the kernel, not mef, says that a set has an address.
    pub fn in_set(&self, set: &str, addr: IpAddr) -> bool {
        if super::backend::is_fallback() {
            // Single addresses of IPv6 have sets of their own.
            let single = set.replace('6', "s");
            let sets = [set, &single];
            return sets.iter().take(1 + usize::from(set.ends_with('6'))).any(|set| {
                let out = self.cmd("ipset", &["test", &format!("mef_{set}"), &addr.to_string()]);
                let absent = ["is NOT in set", "does not exist"].iter().any(|no| out.stderr.contains(no));
                assert!(out.status == 0 || absent, "{set} {addr}: {}", out.stderr);
                out.status == 0
            });
        }
        let element = format!("{{ {addr} }}");
        loop {
            let out = self.cmd("nft", &["get", "element", "inet", "mef_guard", set, &element]);
            // nft gives up when others change tables meanwhile. Anything else that goes wrong is no answer.
            if !out.stderr.contains("Interrupted") {
                let absent = out.stderr.contains("No such file");
                assert!(out.status == 0 || absent, "{set} {addr}: {}", out.stderr);
                return !absent;
            }
        }
    }

    /// Packets that were dropped or refused, as the kernel counted them.
    pub fn dropped(&self) -> u64 {
        if super::backend::is_fallback() {
            let rules = self.rules_of_iptables();
            let hit =
                rules.lines().filter(|line| line.contains("-A mef_hit -j") || line.contains("-j REJECT"));
            return hit.filter_map(|line| line[1..].split(':').next()?.parse::<u64>().ok()).sum();
        }
        let chains = ["hit", "hit6"].map(|chain| self.nft_list(&format!("chain inet mef_guard {chain}")));
        let counts = chains.iter().flat_map(|chain| chain.split("counter packets ").skip(1));
        counts.filter_map(|rest| rest.split(' ').next()?.parse::<u64>().ok()).sum()
    }
}

/// A member that is text; empty if it is null.
#[track_caller]
pub fn text(row: &Row, key: &str) -> String {
    match &row[key] {
        Value::Text(text) => text.clone(),
        Value::Null => String::new(),
        Value::Number(_) | Value::Flag(_) => panic!("{key} is no text: {row:?}"),
    }
}

/// A member that is a number.
#[track_caller]
pub fn number(row: &Row, key: &str) -> Option<u64> {
    match &row[key] {
        Value::Number(n) => Some(*n),
        Value::Null => None,
        Value::Text(_) | Value::Flag(_) => panic!("{key} is no number: {row:?}"),
    }
}
