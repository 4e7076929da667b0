//! Rule sets in iptables whose load or end is cut off, or fails: at every message to ip_set, and before,
//! behind and at every program that writes rules.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs, reason = "tests")]

use crate::common::Net;
use crate::common::backend::with_iptables;

const OLD: &str = "9";
const NEW: &str = "10";

/// A rule set of both tables, known by its port.
fn text(port: &str) -> String {
    format!(
        "policy dir=in action=accept\n\
         set name=k family=any type=addr elements=192.0.2.{port},2001:db8::{port}\n\
         rule dir=in action=drop proto=udp src=@k dport={port}\nnat dir=post action=masquerade oif=v1\n"
    )
}

/// What packets of each family meet, without the letters of rule sets.
fn in_force(net: &Net) -> [String; 2] {
    ["iptables-legacy-save", "ip6tables-legacy-save"].map(|program| {
        let all = net.cmd(program, &[]).ok();
        let lines: Vec<&str> = all.lines().filter(|line| line.starts_with("-A ")).collect();
        let chain = |line: &str| line.split(' ').nth(1).unwrap().to_owned();
        let mut met: Vec<&str> =
            lines.iter().copied().filter(|line| !chain(line).starts_with("mef")).collect();
        let mut at = 0;
        while at < met.len() {
            let to = met[at].rsplit(' ').next().unwrap();
            let next = lines.iter().filter(|line| to.starts_with("mef") && chain(line) == to);
            met.extend(next);
            at += 1;
        }
        let plain = |line: &str| {
            ["a", "b", "c", "d"]
                .iter()
                .fold(line.to_owned(), |line, letter| line.replace(&format!("mefr_{letter}"), "mefr_X"))
        };
        met.into_iter().map(plain).collect::<Vec<_>>().join("\n")
    })
}

/// Nothing is there but what is in force.
fn assert_tidy(net: &Net, loaded: bool, place: &str) {
    let chains: String =
        ["iptables-legacy-save", "ip6tables-legacy-save"].map(|program| net.cmd(program, &[]).ok()).concat();
    let sets = net.cmd("ipset", &["list", "-n"]).stdout;
    let has = |letter: &&str| {
        let name = format!("mefr_{letter}");
        chains.contains(&format!(":{name}")) || sets.contains(&format!("{name}_"))
    };
    let letters = ["a", "b", "c", "d"].iter().filter(|letter| has(letter)).count();
    assert_eq!(letters, usize::from(loaded), "{place}: {chains}{sets}");
    assert!(loaded || !chains.contains("mefr") && sets.is_empty(), "{place}: {chains}{sets}");
}

/// A change of what is in force, by the ports of the rule sets before and behind it.
#[derive(Clone, Copy)]
struct Change {
    from: Option<&'static str>,
    to: Option<&'static str>,
}

struct Bench {
    net: Net,
    change: Change,
    old: [String; 2],
    new: [String; 2],
    points: usize,
}

impl Bench {
    fn new(change: Change) -> Bench {
        let net = Net::new();
        for port in [OLD, NEW] {
            net.write(&format!("{port}.rules"), &text(port));
        }
        net.write("etc-mef/mef.rules", &text(NEW));
        let mut bench = Bench { net, change, old: Default::default(), new: Default::default(), points: 0 };
        bench.begin();
        bench.old = in_force(&bench.net);
        bench.net.mef(&bench.args()).ok();
        bench.new = in_force(&bench.net);
        assert!(bench.old != bench.new && bench.new[0].is_empty() == change.to.is_none());
        bench
    }

    fn args(&self) -> Vec<&'static str> {
        self.change
            .to
            .map_or(vec!["unload"], |port| vec!["load", if port == OLD { "9.rules" } else { "10.rules" }])
    }

    /// Puts in force what is there before.
    fn begin(&self) {
        match self.change.from {
            Some(port) => self.net.mef(&["load", &format!("{port}.rules")]).ok(),
            None => self.net.mef(&["unload"]).ok(),
        };
    }

    /// What is done, with more of strace's words.
    fn traced(&self, words: &[&str]) -> (i32, String) {
        let record = self.net.path("strace");
        let mut command = self.net.command("strace", &["-qq", "-e", "signal=none", "-o"]);
        command.arg(&record).args(words).arg(crate::common::mef_binary()).args(self.args());
        self.net.own(&mut command);
        let out = self.net.run(command);
        (out.status, out.stderr)
    }

    /// Every place at which it can be cut off or fail, in strace's words.
    fn places(&self) -> Vec<String> {
        self.begin();
        assert_eq!(self.traced(&[]).0, 0);
        let (mut sends, mut receives, mut forks, mut waits) = (0, 0, 0, 0);
        let mut all = Vec::new();
        for line in self.net.read("strace").lines() {
            if line.starts_with("sendto(") {
                sends += 1;
                if line.contains("IPSET_CMD_LIST") {
                    all.push(format!("sendto:error=ENOMEM:when={sends}"));
                } else if line.contains("NFNL_SUBSYS_IPSET") {
                    all.push(format!("sendto:signal=KILL:when={sends}"));
                    all.push(format!("sendto:error=ENOMEM:when={sends}"));
                    all.push(format!("recvfrom:error=ENOBUFS:when={}", receives + 1));
                }
            } else if line.starts_with("recvfrom(") {
                receives += 1;
            } else if line.starts_with("fork(") {
                forks += 1;
                all.push(format!("fork:signal=KILL:when={forks}"));
                all.push(format!("fork:error=EAGAIN:when={forks}"));
            } else if line.starts_with("waitid(") {
                waits += 1;
                all.push(format!("waitid:signal=KILL:when={waits}"));
            }
        }
        assert!(forks > 3 && waits == forks && all.len() > 60, "{forks} {waits} {all:?}");
        all
    }

    /// What is true after it has ended so, and that whatever comes next works.
    fn judge(&mut self, (status, said): (i32, String), place: &str) {
        let now = in_force(&self.net);
        match status {
            0 => assert_eq!(now, self.new, "{place}"),
            // What nobody meets any more is still there.
            1 if self.change.to.is_none() && now == self.new => {}
            1 => assert_eq!(now, self.old, "{place}: {said}"),
            -1 => {}
            _ => panic!("{place}: {status} {said}"),
        }
        let json = self.net.mef(&["status", "--json"]).stdout;
        let told = json.split("\"rule_set\":\"").nth(1).unwrap().split('"').next().unwrap();
        let diff = self.net.mef(&["diff", "10.rules"]);
        let is_new = self.change.to.is_some() && now == self.new;
        match told {
            "half loaded" => {
                assert_eq!(status, -1, "{place}: {said}");
                assert!(diff.status == 1 && diff.stderr.contains("or was cut off"), "{place}: {diff:?}");
                for (family, now) in now.iter().enumerate() {
                    assert!([&self.old[family], &self.new[family]].contains(&now), "{place}: {now}");
                }
            }
            "loaded" => assert!(is_new && diff.status == 0, "{place}: {now:?} {diff:?}"),
            "not loaded" => assert_eq!(now.concat(), "", "{place}"),
            "differs" => assert!(now == self.old && diff.status == 1, "{place}: {now:?} {diff:?}"),
            _ => panic!("{place}: {told}"),
        }
        self.points += 1;
        if self.points.is_multiple_of(2) {
            self.net.mef(&["load", "10.rules"]).ok();
            assert!(in_force(&self.net).iter().all(|rules| rules.contains("--dports 10")), "{place}");
            assert_tidy(&self.net, true, place);
        }
        self.net.mef(&["unload"]).ok();
        assert_tidy(&self.net, false, place);
    }

    /// Is cut off or fails at every place in turn.
    fn everywhere(mut self) {
        for place in self.places() {
            self.begin();
            let call = place.split(':').next().unwrap();
            let end = self.traced(&["-e", &format!("trace={call}"), "-e", &format!("inject={place}")]);
            assert!(self.net.read("strace").contains("(INJECTED)") || end.0 == -1, "{place}");
            self.judge(end, &place);
        }
    }

    /// Each program that writes rules refuses in turn, or says that the lock is held.
    fn refused_everywhere(mut self) {
        let dir = self.net.path("").to_str().unwrap().to_owned();
        for name in ["iptables", "ip6tables"] {
            let script = format!(
                "#!/bin/sh\nn=$(($(cat {dir}/n)+1)); echo $n >{dir}/n\n\
                 [ $n != \"$(cat {dir}/at)\" ] || . {dir}/fails\n\
                 exec /usr/sbin/xtables-legacy-multi {name}-restore \"$@\"\n"
            );
            self.net.program(&format!("sbin/{name}-legacy-restore"), &script);
            self.net.program(&format!("sbin/{name}-nft-restore"), "#!/bin/sh\necho none >&2\nexit 1\n");
            std::fs::remove_file(self.net.path(&format!("sbin/{name}-restore"))).unwrap();
            let link = self.net.path(&format!("sbin/{name}-restore"));
            std::os::unix::fs::symlink(format!("{dir}/sbin/{name}-legacy-restore"), link).unwrap();
        }
        for fails in [
            "echo 'iptables-restore: line 3 failed' >&2; exit 1",
            "echo 'Another app is currently holding the xtables lock.' >&2; exit 4",
        ] {
            self.net.write("fails", fails);
            for at in 1.. {
                self.net.write("at", "none");
                self.net.write("n", "0");
                self.begin();
                self.net.write("n", "0");
                self.net.write("at", &at.to_string());
                let end = self.net.mef(&self.args());
                let count: u32 = self.net.read("n").trim().parse().unwrap();
                self.net.write("at", "none");
                self.judge((end.status, end.stderr), &format!("{fails} at {at}"));
                if count < at {
                    assert!(at > 4, "{at}");
                    break;
                }
            }
        }
    }
}

const REPLACE: Change = Change { from: Some(OLD), to: Some(NEW) };
const FIRST: Change = Change { from: None, to: Some(NEW) };
const UNLOAD: Change = Change { from: Some(OLD), to: None };

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn a_load_that_is_cut_off_anywhere_is_told_and_the_next_one_works() {
    with_iptables(|| Bench::new(REPLACE).everywhere());
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn the_first_load_of_all_that_is_cut_off_anywhere_is_told_and_the_next_one_works() {
    with_iptables(|| Bench::new(FIRST).everywhere());
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn an_unload_that_is_cut_off_anywhere_is_told_and_the_next_one_works() {
    with_iptables(|| Bench::new(UNLOAD).everywhere());
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn what_is_refused_at_any_step_changes_nothing_or_is_done() {
    with_iptables(|| {
        [REPLACE, FIRST, UNLOAD].into_iter().for_each(|change| Bench::new(change).refused_everywhere());
    });
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn what_others_flush_is_in_the_way_of_no_load_and_no_unload() {
    with_iptables(|| {
        for (table, chain) in [("filter", "INPUT"), ("nat", "POSTROUTING")] {
            for loads in [&[][..], &[NEW], &["plain"], &["plain", NEW]] {
                let net = Net::new();
                let load = |port: &str| {
                    let plain = "policy dir=in action=accept\nrule dir=fwd action=drop dport=7 proto=tcp\n";
                    net.write("rules", &if port == "plain" { plain.to_owned() } else { text(port) });
                    net.mef(&["load", &net.path("rules").display().to_string()]).ok();
                };
                load(OLD);
                for program in ["iptables-legacy", "ip6tables-legacy"] {
                    net.cmd(program, &["-t", table, "-F", chain]).ok();
                }
                for port in loads {
                    load(port);
                    assert_tidy(&net, true, &format!("{table} {loads:?}"));
                }
                net.mef(&["unload"]).ok();
                assert_tidy(&net, false, &format!("{table} {loads:?}"));
            }
        }
    });
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn a_load_that_is_refused_leaves_the_rules_that_others_have_not_flushed() {
    with_iptables(|| {
        let net = Net::new();
        let rules = "rule dir=in action=drop proto=udp dport=9\nrule dir=fwd action=drop proto=udp dport=9\n";
        net.write("rules", rules);
        let path = net.path("rules").display().to_string();
        net.mef(&["load", &path]).ok();
        net.cmd("iptables-legacy", &["-F", "FORWARD"]).ok();
        let before = in_force(&net);
        assert!(before[0].contains("INPUT"), "{before:?}");
        for name in ["ip6tables-restore", "ip6tables-legacy-restore", "ip6tables-nft-restore"] {
            let _ = std::fs::remove_file(net.path(&format!("sbin/{name}")));
            let words = "Another app is currently holding the xtables lock.";
            net.program(&format!("sbin/{name}"), &format!("#!/bin/sh\necho '{words}' >&2\nexit 4\n"));
        }
        net.write("rules", &rules.replace("=9", "=10"));
        assert_ne!(net.mef(&["load", &path]).status, 0);
        let now = in_force(&net);
        assert!(now[0].contains("INPUT"), "{now:?}");
    });
}
