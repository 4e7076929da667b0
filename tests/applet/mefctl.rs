//! The command language of the existing product, word by word and option by option, as its manual has it.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod bans;
mod ends;

use crate::common;

use common::world::Fate::{Lost, Passes};
use common::world::Kind::Udp;
use common::world::{RULES, Spot, World, packet};
use common::{Net, Output, wait_until};
use std::fs;
use std::io::Write as _;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};

fn command(net: &Net, args: &[&str]) -> Command {
    let mut command = net.mef_command(args);
    command.arg0("/usr/local/sbin/mefctl");
    command
}

/// Runs it with words separated by blanks.
fn mefctl(net: &Net, words: &str) -> Output {
    net.run(command(net, &words.split_whitespace().collect::<Vec<_>>()))
}

/// Runs it with something on its standard input.
fn answered(net: &Net, words: &str, input: &str) -> Output {
    let mut command = command(net, &words.split_whitespace().collect::<Vec<_>>());
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let out = child.wait_with_output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Output { status: out.status.code().unwrap(), stdout: text(&out.stdout), stderr: text(&out.stderr) }
}

/// A host with these lines in /etc/mef/mef.conf.
fn host(lines: &str) -> Net {
    let net = Net::new();
    net.write(
        "etc-mef/mef.conf",
        &format!("[global]\nps_enabled=false\nlog=stderr\nrules_dir=/etc/mef/none\n{lines}\n"),
    );
    net
}

/// Starts the daemon as the existing product's unit does.
fn mefdaemon(net: &mut Net) -> usize {
    let mut command = net.mef_command(&[]);
    command.arg0("/usr/local/sbin/mefdaemon");
    let started = net.start("mefdaemon", command);
    net.wait_ready("mefdaemon");
    started
}

const OPEN_1000: &str = "policy dir=in action=drop\nrule dir=in action=accept proto=udp dport=1000\n";
const OPEN_1001: &str = "policy dir=in action=drop\nrule dir=in action=accept proto=udp dport=1001\n";

fn rules_file(net: &Net, name: &str, text: &str) -> String {
    net.write(name, &[RULES, text].concat()).to_str().unwrap().to_owned()
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn rules_are_applied_at_once_with_yes_and_go_with_clear() {
    let mut world = World::new();
    let file = rules_file(&world.net, "etc-mef/mef.rules", OPEN_1000);
    let (old, new) = (packet(Udp, Spot::Friend), packet(Udp, Spot::Friend).port(1001));
    // The default file, and one by name, as the unit has it.
    mefctl(&world.net, "rules apply --yes").ok();
    assert_eq!((world.judge(old), world.judge(new)), (Passes, Lost));
    let other = rules_file(&world.net, "other.rules", OPEN_1001);
    mefctl(&world.net, &format!("rules apply --yes {other}")).ok();
    assert_eq!((world.judge(old), world.judge(new)), (Lost, Passes));
    mefctl(&world.net, &format!("rules apply {file} --yes")).ok();
    assert_eq!((world.judge(old), world.judge(new)), (Passes, Lost));
    // A bad file changes nothing.
    let bad = rules_file(&world.net, "bad.rules", "rule dir=in action=acept\n");
    let out = mefctl(&world.net, &format!("rules apply --yes {bad}"));
    assert!(out.status == 1 && out.stderr.contains("acept"), "{out:?}");
    assert_eq!(mefctl(&world.net, "rules apply --yes /nowhere").status, 1);
    assert_eq!((world.judge(old), world.judge(new)), (Passes, Lost));
    mefctl(&world.net, "rules clear").ok();
    assert_eq!((world.judge(old), world.judge(new)), (Passes, Passes));
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn rules_without_yes_go_again_unless_somebody_confirms() {
    let mut world = World::new();
    rules_file(&world.net, "etc-mef/mef.rules", OPEN_1000);
    let other = packet(Udp, Spot::Friend).port(1001);
    let out = answered(&world.net, "rules apply --timeout 1s", "");
    assert!(out.status == 1 && out.stderr.contains("not confirmed"), "{out:?}");
    assert_eq!(world.judge(other), Passes, "the rules before it had none");
    // A no ends it before its time, a word that is neither does not, and a line has an end.
    for input in ["no\n", "maybe\n no \nyes\n", "no"] {
        let out = answered(&world.net, "rules apply --timeout 1h", input);
        assert!(out.status == 1 && out.stderr.contains("not confirmed"), "{input:?}: {out:?}");
    }
    let long = ["yes".repeat(100), "\nno\n".into()].concat();
    assert_eq!(answered(&world.net, "rules apply --timeout 1h", &long).status, 1);
    let padded = ["yes", &" ".repeat(61), "no way\nno\n"].concat();
    assert_eq!(answered(&world.net, "rules apply --timeout 1h", &padded).status, 1);
    // Who says the same for ever is told once what is wanted, and heard no longer after some lines.
    let flood = ["y\n".repeat(20_000), "yes\n".into()].concat();
    let out = answered(&world.net, "rules apply --timeout 1s", &flood);
    let told = [&out.stdout, &out.stderr].map(|text| text.matches("type yes to keep the rules").count());
    assert!(out.status == 1 && told.iter().sum::<usize>() <= 1, "{out:?}");
    assert_eq!(world.judge(other), Passes);
    for input in ["yes\n", "yes", "what?\nyes\nno\n"] {
        answered(&world.net, "rules apply --timeout 1h", input).ok();
        assert_eq!(world.judge(other), Lost, "{input:?}");
        mefctl(&world.net, "rules clear").ok();
        assert_eq!(world.judge(other), Passes);
    }
    let apply = command(&world.net, &["rules", "apply", "--timeout=60s"]);
    let trial = world.net.start("apply", apply);
    wait_until("the trial", || world.net.nft_list("table inet mef").contains("set trial"));
    world.net.mef(&["confirm"]).ok();
    assert_eq!(world.net.wait(trial), 0, "{}", world.net.said("apply"));
    assert_eq!(world.judge(other), Lost);
    assert_eq!(mefctl(&world.net, "rules apply --timeout soon").status, 2);
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn rules_are_validated_and_formatted_without_being_applied() {
    let net = Net::new();
    let file = net.write("etc-mef/mef.rules", "rule   dir=in proto=tcp dport=22 action=accept\n");
    let out = mefctl(&net, "rules validate").ok();
    assert!(out.contains("1 rule"), "{out}");
    let bad = net.write("bad.rules", "rule dir=in action=nothing\n");
    let out = mefctl(&net, &format!("rules validate {}", bad.display()));
    assert!(out.status == 1 && out.stderr.contains("nothing"), "{out:?}");
    let canonical = mefctl(&net, "rules fmt").ok();
    // In the order of that product's specification, and with a comment in quotes.
    let want = "rule dir=in family=any action=accept log=none ratelimit=any proto=tcp iif=any oif=any \
        src=any dst=any sport=any dport=22 ct=any comment=\"\"\n";
    assert_eq!(canonical, want);
    let word = net.write("word.rules", "rule dir=in proto=all action=drop comment=word\n");
    assert!(mefctl(&net, &format!("rules fmt {}", word.display())).ok().ends_with(" comment=\"word\"\n"));
    let to = net.path("new.rules");
    mefctl(&net, &format!("rules fmt --out {}", to.display())).ok();
    assert_eq!(fs::read_to_string(&to).unwrap(), canonical);
    assert_ne!(fs::read_to_string(&file).unwrap(), canonical);
    assert_eq!(mefctl(&net, &format!("rules fmt --write --out {}", to.display())).status, 2);
    mefctl(&net, "rules fmt --write").ok();
    assert_eq!(fs::read_to_string(&file).unwrap(), canonical);
    let before = fs::read_to_string(&to).unwrap();
    let out = mefctl(&net, &format!("rules fmt --out {} {}", to.display(), bad.display()));
    assert_eq!((out.status, fs::read_to_string(&to).unwrap()), (1, before));
    assert_eq!(net.cmd("nft", &["list", "tables"]).ok(), "");
    // What the existing product could read, it still can: every key is one of its manual.
    let known = "dir family action log ratelimit proto iif oif src dst sport dport ct comment";
    let keys: Vec<&str> =
        canonical.split_whitespace().filter_map(|pair| pair.split_once('=')).map(|p| p.0).collect();
    assert!(keys.iter().all(|key| known.split(' ').any(|k| k == *key)) && keys.len() == 14, "{canonical}");
    assert!(net.mef(&["fmt"]).ok().contains(" limit=any"), "ours has every key");
    let mixed = net.write("mixed.rules", "rule dir=in proto=all iif=lo,!docker0 action=drop\n");
    assert_eq!(net.mef(&["fmt", mixed.to_str().unwrap()]).status, 1, "no list is half the others");
    for (line, is_known) in [
        ("rule dir=fwd proto=udp iif=!lo,!docker0 src=@a,10.0.0.0/8,2001:db8::1 sport=1-5 action=drop", true),
        ("set name=a family=any type=addr elements=192.0.2.1", true),
        ("policy dir=in action=drop # comment", true),
        ("rule dir=in proto=all log=\"prefix:a limit=any\" comment=\" limit=any\" action=drop", true),
        ("rule dir=in proto=tcp dport=22 limit=5/m action=accept", false),
        ("rule dir=in proto=tcp,udp dport=22 action=accept", false),
        ("rule dir=in proto=all src=!10.0.0.0/8 action=accept", false),
        ("rule dir=in proto=all src=10.0.0.1-10.0.0.9 action=accept", false),
        ("rule dir=in proto=all action=log log=prefix:x", false),
        ("rule dir=in proto=tcp dport=22 conns=5/src action=drop", false),
        ("let a=eth1", false),
        ("group name=web", false),
        ("nat dir=post proto=all oif=eth0 action=masquerade", false),
    ] {
        let set =
            if line.contains("@a") { "set name=a family=any type=addr elements=192.0.2.1\n" } else { "" };
        let file = net.write("one.rules", &format!("{set}{line}\n"));
        let out = mefctl(&net, &format!("rules fmt {}", file.display()));
        assert_eq!(out.status, 0, "{line}: {out:?}");
        assert_eq!(out.stderr.contains("MEF does not know"), !is_known, "{line}: {out:?}");
        assert_eq!(out.stdout.contains("iif=!lo,!docker0"), line.contains("iif=!lo,!docker0"));
        assert_eq!(out.stdout.contains("prefix:a limit=any"), line.contains("prefix:a limit=any"));
        let rest = out.stdout.replace("a limit=any", "").replace("\" limit=any", "");
        assert!(!is_known || !rest.contains(" limit=any"), "{line}: {out:?}");
    }
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn clear_all_asks_and_ends_the_bans_with_the_rules() {
    let net = host("");
    net.write("etc-mef/mef.rules", OPEN_1000);
    mefctl(&net, "rules apply --yes").ok();
    mefctl(&net, "bans add 192.0.2.7").ok();
    mefctl(&net, "rules clear").ok();
    assert_eq!(mefctl(&net, "bans list --ips-only").ok(), "192.0.2.7\n", "bans are no rules");
    mefctl(&net, "rules apply --yes").ok();
    let out = answered(&net, "rules clear --all", "y\n");
    assert!(out.status == 1 && out.stderr.contains("type yes"), "{out:?}");
    assert!(net.nft_list("table inet mef").contains("dport 1000"));
    answered(&net, "rules clear --all", "yes\n").ok();
    assert_eq!(
        (net.nft_list("table inet mef").as_str(), mefctl(&net, "bans list --ips-only").ok().as_str()),
        ("", "")
    );
    mefctl(&net, "rules apply --yes").ok();
    mefctl(&net, "rules clear --all --force").ok();
    assert_eq!(net.nft_list("table inet mef"), "");
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn rules_of_others_are_migrated() {
    let net = Net::new();
    net.nft("table ip mine { chain c { type filter hook input priority 0; tcp dport 22 accept; }; }");
    net.nft("table ip6 other { chain c { type filter hook input priority 0; tcp dport 25 accept; }; }");
    let all = mefctl(&net, "rules migrate").ok();
    assert!(all.contains("dport=22") && all.contains("dport=25"), "{all}");
    let one = mefctl(&net, "rules migrate --family ip --table mine").ok();
    assert!(one.contains("dport=22") && !one.contains("dport=25"), "{one}");
    let file = net.path("out.rules");
    mefctl(&net, &format!("rules migrate --table other --out {}", file.display())).ok();
    assert!(fs::read_to_string(&file).unwrap().contains("dport=25"));
    mefctl(&net, "rules migrate --write").ok();
    assert_eq!(net.read("etc-mef/rules.migrate"), all);
    assert_eq!(mefctl(&net, "rules migrate --table none").status, 1);
    assert_eq!(mefctl(&net, "rules migrate --family none").status, 2);
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn lists_show_what_stands_in_the_files() {
    let net = host("");
    net.write("etc-mef/whitelist/office.conf", "192.0.2.0/255.255.255.0 # office\n2001:db8::1\n");
    net.write("etc-mef/blacklist/bad.conf", "203.0.113.0/24\n");
    mefctl(&net, "bans add --permanent --ports 22 198.51.100.1").ok();
    let white = mefctl(&net, "lists whitelist").ok();
    assert_eq!(white, "/etc/mef/whitelist/office.conf\n  192.0.2.0/24\n  2001:db8::1/128\n");
    let black = mefctl(&net, "lists blacklist").ok();
    assert!(black.starts_with("/etc/mef/blacklist/bad.conf\n  203.0.113.0/24\nban journal in "), "{black}");
    assert!(black.contains("  198.51.100.1  rule=manual ports=22\n"), "{black}");
    assert_eq!(mefctl(&net, "lists").status, 2);
    let out = mefctl(&net, "lists greylist");
    assert!(out.status == 2 && out.stderr.contains("whitelist, blacklist, recidive"), "{out:?}");
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn the_configuration_is_checked_and_completed() {
    let net = Net::new();
    let text = "[global]\nps_limit=10\nps_limt=5\ncache_dir=/etc/mef/cache";
    let file = net.write("etc-mef/mef.conf", text);
    let said = mefctl(&net, "config check").ok();
    assert!(
        said.contains("did you mean 'ps_limit'?")
            && said.contains("ps_interval is not set, its default is 300"),
        "{said}"
    );
    assert!(!said.contains("ps_limit is not set") && !said.contains("state_dir is not set"), "{said}");
    let bad = net.write("bad.conf", "[global]\nps_limit=many\n");
    assert_eq!(mefctl(&net, &format!("config check {}", bad.display())).status, 1);
    assert_eq!(mefctl(&net, "config check /nowhere.conf").status, 1);
    let preview = mefctl(&net, "config update --dry-run").ok();
    assert!(preview.contains("would add ps_interval=300\n") && !preview.contains("ps_limit="), "{preview}");
    assert_eq!(fs::read_to_string(&file).unwrap(), text);
    assert!(!net.path("etc-mef/mef.conf.bak").exists());
    mefctl(&net, "config update").ok();
    assert_eq!(net.read("etc-mef/mef.conf.bak"), text);
    let updated = fs::read_to_string(&file).unwrap();
    assert!(
        updated.starts_with(&format!("{text}\n")) && updated.contains("\nps_interval=300\n"),
        "{updated}"
    );
    let said = mefctl(&net, "config check").ok();
    assert!(said.contains(" 0 errors, ") && !said.contains("is not set"), "{said}");
    mefctl(&net, &format!("config update {}", file.display())).ok();
    assert_eq!(fs::read_to_string(&file).unwrap(), updated, "there is nothing more to add");
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn status_tells_by_its_exit_status_whether_the_host_is_protected() {
    let mut net = host("");
    assert_eq!(mefctl(&net, "status").status, 3);
    assert_eq!(mefctl(&net, "fix check").status, 3);
    let daemon = mefdaemon(&mut net);
    let out = mefctl(&net, "status --verbose");
    assert!(out.status != 3 && out.stdout.contains("daemon      runs"), "{out:?}");
    let fast = mefctl(&net, "status --verbose fastpath").ok();
    assert!(fast.contains("active      prerouting raw") && fast.contains("configured  auto"), "{fast}");
    let out = mefctl(&net, "bans list --fastpath");
    assert!(out.status == 0 && out.stdout.is_empty() && out.stderr.contains("prerouting raw"), "{out:?}");
    assert_eq!(mefctl(&net, "status everything").status, 2);
    // Called by that name, it is the process that was started, and ends with SIGTERM.
    net.stop(daemon);
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn versions_are_told_without_anything_else() {
    let net = Net::new();
    for word in ["version", "--version", "-v"] {
        assert!(mefctl(&net, word).ok().starts_with("mef "), "{word}");
        let mut command = net.mef_command(&[word]);
        command.arg0("mefdaemon");
        assert!(net.run(command).ok().starts_with("mef "), "{word}");
    }
    let out = mefctl(&net, "update");
    assert!(
        out.status == 1
            && out.stdout.contains("no network traffic")
            && out.stdout.contains("with a newer one"),
        "{out:?}"
    );
    assert!(mefctl(&net, "update check").ok().contains("no network traffic"));
    assert_eq!(mefctl(&net, "update --force --version 1.0.9").status, 1);
    assert_eq!(mefctl(&net, "update now").status, 2);
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn wrong_words_are_named_with_what_was_meant() {
    let net = Net::new();
    for (words, want) in [
        ("", "Usage: mefctl"),
        ("ruels apply", "did you mean 'rules'?"),
        ("rules", "missing word after 'rules'"),
        ("rules aply", "did you mean 'apply'?"),
        ("rules apply --yse", "did you mean '--yes'?"),
        ("rules apply a b", "unexpected word 'b'"),
        ("bans lst", "did you mean 'list'?"),
        ("start", "missing service"),
        ("enable sshd", "unknown service 'sshd'"),
        ("fix everything", "expected: check, all"),
    ] {
        let out = mefctl(&net, words);
        assert!(out.status == 2 && out.stderr.contains(want), "{words}: {out:?}");
    }
    for words in ["help", "--help", "bans --help", "rules apply --help"] {
        let help = mefctl(&net, words).ok();
        assert!(
            help.contains("bans delete IP[/LEN]") && help.lines().all(|line| line.len() <= 100),
            "{help}"
        );
    }
}

/// Programs of an init system that note what they were asked.
fn init(net: &Net, programs: &[&str]) {
    for program in programs {
        let script =
            format!("#!/bin/sh\necho \"$(basename \"$0\") $*\" >> {}\n", net.path("asked").display());
        net.program(program, &script);
    }
}

fn asked(net: &Net) -> String {
    let said = net.read("asked");
    let _ = fs::remove_file(net.path("asked"));
    said
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn services_are_the_business_of_the_init_system_that_runs() {
    let net = Net::new();
    net.write("etc/passwd", "root:x:0:0:root:/:/bin/sh\n");
    let out = mefctl(&net, "start mef");
    assert!(out.status == 1 && out.stderr.contains("no init system"), "{out:?}");
    // systemd
    init(&net, &["sbin/systemctl", "sbin/rc-service", "sbin/rc-update", "sbin/sv", "sbin/update-rc.d"]);
    fs::create_dir_all(net.path("run/systemd/system")).unwrap();
    for action in ["start", "stop", "restart", "reload", "enable", "disable"] {
        mefctl(&net, &format!("{action} mefdaemon")).ok();
        assert_eq!(asked(&net), format!("systemctl {action} mefdaemon\n"));
    }
    mefctl(&net, "enable").ok();
    assert_eq!(asked(&net), "systemctl enable mef mefdaemon\n");
    net.write("sbin/systemctl", "#!/bin/sh\necho no >&2\nexit 5\n");
    let out = mefctl(&net, "start mef");
    assert!(out.status == 1 && out.stderr.contains("no\n") && out.stderr.contains("status 5"), "{out:?}");
    fs::remove_dir_all(net.path("run/systemd")).unwrap();
    // OpenRC
    fs::create_dir_all(net.path("run/openrc")).unwrap();
    mefctl(&net, "restart mef").ok();
    mefctl(&net, "enable").ok();
    mefctl(&net, "disable mefdaemon").ok();
    let want = "rc-service mef restart\nrc-update add mef boot\nrc-update add mefdaemon default\n\
        rc-update -a del mefdaemon\n";
    assert_eq!(asked(&net), want);
    fs::remove_dir_all(net.path("run/openrc")).unwrap();
    // runit
    for dir in ["etc/sv/mefdaemon", "etc/service"] {
        fs::create_dir_all(net.path(dir)).unwrap();
    }
    mefctl(&net, "reload mefdaemon").ok();
    assert_eq!(asked(&net), "sv reload mefdaemon\n");
    let link = net.path("etc/service/mefdaemon");
    mefctl(&net, "enable mefdaemon").ok();
    mefctl(&net, "enable mefdaemon").ok();
    assert_eq!(fs::read_link(&link).unwrap().to_str(), Some("/etc/sv/mefdaemon"));
    assert_eq!(mefctl(&net, "enable mef").status, 1, "there is no such service");
    mefctl(&net, "disable mefdaemon").ok();
    mefctl(&net, "disable mefdaemon").ok();
    assert!(link.symlink_metadata().is_err());
    fs::remove_dir_all(net.path("etc/sv")).unwrap();
    // Scripts, those of `mef setup` first.
    net.write("etc/inittab", "");
    init(&net, &["etc/init.d/mef", "etc/init.d/mef-rules"]);
    mefctl(&net, "stop mef").ok();
    mefctl(&net, "stop mefdaemon").ok();
    assert_eq!(asked(&net), "mef-rules stop\nmef stop\n");
    fs::remove_file(net.path("etc/init.d/mef-rules")).unwrap();
    let out = mefctl(&net, "stop mef");
    assert!(out.status == 1 && out.stderr.contains("mef unload"), "the daemon is not meant: {out:?}");
    init(&net, &["etc/init.d/mef", "etc/init.d/mefdaemon"]);
    mefctl(&net, "stop mef").ok();
    mefctl(&net, "enable mef").ok();
    mefctl(&net, "disable mef").ok();
    assert_eq!(asked(&net), "mef stop\nupdate-rc.d mef defaults\nupdate-rc.d mef remove\n");
}
