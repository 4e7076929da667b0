//! Any bytes as mef.rules: no panic, every problem can be shown, the canonical form is a fixed point, and
//! what has no error compiles.

use super::texts;
use mef::base::clock::Wall;
use mef::base::name::{IfName, Name};
use mef::base::range::Family;
use mef::plan::{Chain, Direction, Policy, Rule, Set, Sink};
use mef::ruleset::needs::{Behind, Situation, SshSession};
use mef::ruleset::{Files, RuleSet, Trees, canonical, check, compile::compile};
use std::io;

struct Text<'a>(&'a [u8]);

impl Files for Text<'_> {
    fn read(&mut self, _: &str) -> io::Result<Vec<u8>> {
        Ok(self.0.to_vec())
    }

    fn expand(&mut self, _: &str, pattern: &str) -> io::Result<Vec<String>> {
        Ok(vec![pattern.to_owned()])
    }
}

struct Nothing;

impl Sink for Nothing {
    fn base(&mut self, _: Direction, _: Policy) {}
    fn set(&mut self, _: &Set) {}
    fn buckets(&mut self, _: Name, _: Family, _: u32) {}
    fn chain(&mut self, _: Name) {}
    fn rule(&mut self, _: Chain, _: &Rule) {}
}

/// What ships, and statements of each kind.
pub fn seeds() -> Vec<Vec<u8>> {
    texts(&[
        include_str!("../../../rootfs/etc/mef/mef.rules"),
        "set name=a type=ip elements=192.0.2.0/24,198.51.100.1-198.51.100.9\n\
         rule dir=in action=drop src=@a log=x\n",
        "nat type=snat oif=eth0 to=192.0.2.1\n\
         rule dir=fwd action=accept proto=tcp dport=80,443 limit=9/s per=src\n",
    ])
}

/// What has to hold of any bytes.
pub fn run(data: &[u8]) {
    if let Ok(printed) = canonical(data) {
        assert_eq!(canonical(printed.as_bytes()).ok().as_deref(), Some(printed.as_str()));
    }
    let set = RuleSet::read("main", &mut Text(data), Trees::All);
    for (file, problem) in &set.problems {
        let file = &set.files[usize::from(*file)];
        assert!(problem.col >= 1 && problem.len >= 1);
        let _ = problem.render(&file.name, &file.text);
    }
    if !set.failed() {
        let address = "192.0.2.1".parse().expect("an address");
        let uplink = IfName::new("eth0");
        let ssh = Some(SshSession { peer: (address, 50_000), here: (None, 22), link: uplink });
        let behind = uplink.map(|link| Behind { link, addr: address }).into_iter().collect();
        let uplinks = uplink.into_iter().collect();
        let all = Situation {
            ssh,
            dhcp: [true; 2],
            speaks: [true; 2],
            has_ipv6: true,
            uplinks,
            behind,
            now: Wall(1_800_000_000),
        };
        let host = check::Host { has_interface: &|name| name == "eth0", situation: &all };
        let _ = check::warnings(&set, &host);
        compile(&set, &IfName::new("wan0").into_iter().collect::<Vec<_>>(), &mut Nothing);
    }
}
