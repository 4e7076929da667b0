//! What is written about mef is so: the examples of the README, the manual page and `--help` run, on a host
//! of their own, and say what is shown; commands and options are the same in all three.
#![allow(clippy::unwrap_used, reason = "a helper that fails is a test that fails")]

mod common;

use common::{Net, ns, wait_for, wait_until};
use regex::Regex;
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");
const README: &str = include_str!("../README.md");
const MANUAL: &str = include_str!("../rootfs/usr/share/man/man8/mef.8");
const MAKEFILE: &str = include_str!("../Makefile");
const SIGTERM: i32 = libc::SIGTERM;

/// A fenced block of a text in Markdown.
struct Block<'a> {
    /// What stands behind the fence: a kind, and a file's name if the block is that file's content.
    info: &'a str,
    text: String,
    line: usize,
    /// Nothing but empty lines stands between the block before and this one.
    adjacent: bool,
}

fn blocks(markdown: &str) -> Vec<Block<'_>> {
    let mut found = Vec::new();
    let mut open: Option<Block<'_>> = None;
    let mut adjacent = false;
    for (number, line) in (1..).zip(markdown.lines()) {
        match (&mut open, line.strip_prefix("```")) {
            (Some(_), Some("")) => {
                found.extend(open.take());
                adjacent = true;
            }
            (Some(block), _) => block.text.extend([line, "\n"]),
            (None, Some(info)) => open = Some(Block { info, text: String::new(), line: number, adjacent }),
            (None, None) => adjacent &= line.is_empty(),
        }
    }
    assert!(open.is_none(), "a block without an end");
    found
}

/// A host with mef and its files installed, a log, and what the examples take for granted.
struct Host(Net);

impl Host {
    fn new() -> Host {
        let net = Net::new();
        for (file, at) in [
            ("mef.conf", "etc/mef/mef.conf"),
            ("mef.rules", "etc/mef/mef.rules"),
            ("rules.d/sshd.conf", "etc/mef/rules.d/sshd.conf"),
            ("rules.d/dropbear.conf", "etc/mef/rules.d/dropbear.conf"),
            ("rules.d/sshd.conf", "work/my-rule.conf"),
        ] {
            let text = fs::read_to_string(Path::new(ROOT).join("rootfs/etc/mef").join(file)).unwrap();
            net.write(at, &text);
        }
        let log = include_str!("logs/openssh-9.2.log");
        net.write("log/auth.log", log);
        net.write("work/log", log);
        net.write("work/addresses", "192.0.2.7\n203.0.113.0/24 # scans\n");
        fs::create_dir_all(net.path("bin")).unwrap();
        std::os::unix::fs::symlink(common::mef_binary(), net.path("bin/mef")).unwrap();
        Host(net)
    }

    /// The shell with a line to run, in a directory that has the files of the examples.
    fn shell(&self, line: &str) -> Command {
        let dir = self.0.dir.display();
        let script = format!("mount --bind {dir}/etc /etc && cd work || exit 99\n{line}");
        let mut command = self.0.command("sh", &["-c", &script]);
        let path = std::env::var("PATH").unwrap_or_default();
        command.env("PATH", format!("{dir}/bin:{path}:/usr/sbin:/sbin:/usr/bin:/bin"));
        ns::private_dirs(&mut command, &self.0.dir);
        command
    }

    /// Runs a line to its end; what it says, errors included. Daemons are stopped when they have started.
    fn run(&mut self, line: &str, place: &str) -> String {
        assert!(common::mef_binary().exists(), "target/mef is missing: run `make` first");
        if line.starts_with("mef daemon") && line.contains("--foreground") {
            let command = self.shell(&format!("exec {line}"));
            let daemon = self.0.start("daemon", command);
            self.watches(place);
            self.0.signal(daemon, SIGTERM);
            assert_eq!(self.0.wait(daemon), 0, "{place}: {line}\n{}", self.0.read("daemon.out"));
            return String::new();
        }
        // These ask a daemon, and watch ends with it.
        if ["mef watch", "mef top"].iter().any(|asks| line.starts_with(asks)) {
            let command = self.shell("exec mef daemon --foreground");
            let daemon = self.0.start("daemon", command);
            wait_until("the daemon", || self.status().contains("\"daemon\":\"runs\""));
            let command = self.shell(&format!("exec {line}"));
            let asks = self.0.start("asks", command);
            if line.starts_with("mef watch") {
                wait_until("a reader", || self.status().contains("\"watchers\":1"));
                self.0.signal(daemon, SIGTERM);
            }
            assert_eq!(self.0.wait(asks), 0, "{place}: {line}\n{}", self.0.read("asks.out"));
            self.0.signal(daemon, SIGTERM);
            assert_eq!(self.0.wait(daemon), 0);
            return self.0.read("asks.out");
        }
        let on_trial = line.starts_with("mef load --confirm");
        if on_trial || line == "mef confirm" {
            return self.trial(if on_trial { line } else { "mef load --confirm 1h" }, place);
        }
        let output = self.shell(&format!("exec 2>&1\n{line}")).output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        // No daemon runs then, and its exit status says so.
        let verdict = line.starts_with("mef status") && output.status.code() == Some(3);
        assert!(output.status.success() || verdict, "{place}: {line}\n{} {said}", output.status);
        if line.starts_with("mef daemon") {
            self.watches(place);
            ns::kill(self.pid().unwrap(), SIGTERM);
            wait_until("the daemon's end", || {
                self.0.read("daemon.log").contains(" stopped; bans stay in force")
            });
        }
        said
    }

    fn status(&self) -> String {
        String::from_utf8_lossy(&self.shell("exec mef status --json").output().unwrap().stdout).into_owned()
    }

    /// Begins a trial, and confirms it.
    fn trial(&mut self, line: &str, place: &str) -> String {
        let command = self.shell(&format!("exec {line}"));
        let load = self.0.start("trial", command);
        let confirm = || self.shell("mef confirm").output().unwrap();
        let kept = wait_for("a trial", || Some(confirm()).filter(|out| out.status.success()));
        assert_eq!(self.0.wait(load), 0, "{place}: {line}\n{}", self.0.read("trial.out"));
        String::from_utf8_lossy(&kept.stdout).into_owned()
    }

    /// Waits for the daemon's first words.
    fn watches(&self, place: &str) {
        let what = format!("{place}: the daemon");
        wait_until(&what, || self.0.read("daemon.log").contains(" files for "));
    }

    fn pid(&self) -> Option<u32> {
        self.0.read("run/mef/mef.pid").trim().parse().ok()
    }
}

impl Drop for Host {
    /// A daemon in the background is nobody's child: an example that fails must not leave it behind.
    fn drop(&mut self) {
        let lives = |pid: &u32| {
            let exe = fs::read_link(format!("/proc/{pid}/exe"));
            exe.is_ok_and(|exe| exe == fs::canonicalize(common::mef_binary()).unwrap_or_default())
        };
        if let Some(pid) = self.pid().filter(lives) {
            ns::kill(pid, libc::SIGKILL);
        }
    }
}

/// Output with everything masked that differs from run to run: times, counters, widths of columns.
fn masked(text: &str) -> String {
    let times = Regex::new(r"(?-u:\b)(?:[0-9]+(?:ms|[smhdw]))+(?-u:\b)").unwrap();
    let numbers = Regex::new(r#"("since":|"left":|packets |bytes )[0-9]+"#).unwrap();
    let blanks = Regex::new(r"[ \t]+").unwrap();
    let text = times.replace_all(text, "TIME");
    let text = numbers.replace_all(&text, "${1}NUMBER");
    blanks.replace_all(&text, " ").lines().map(|line| line.trim_end().to_owned() + "\n").collect()
}

/// Of what `nft` prints, the parts that do not change from one of its versions to the next: names and
/// verdicts.
fn skeleton(text: &str) -> Vec<&str> {
    let words: Vec<&str> = text.split_whitespace().collect();
    let keyword = |w: &str| matches!(w, "table" | "set" | "chain" | "hook" | "jump");
    let kept = |i: usize| {
        let before = i.checked_sub(1).and_then(|i| words.get(i)).is_some_and(|w| keyword(w));
        before || words[i].starts_with('@') || matches!(words[i], "accept" | "drop" | "return" | "log")
    };
    (0..words.len()).filter(|&i| kept(i)).map(|i| words[i]).collect()
}

#[test]
fn the_examples_of_the_readme_run_and_say_what_is_shown() {
    let all = blocks(README);
    let (mut ran, mut compared) = (0, 0);
    for (at, block) in all.iter().enumerate().filter(|(_, block)| block.info == "sh") {
        let mut host = Host::new();
        for file in &all {
            if let Some((_, name)) = file.info.split_once(' ') {
                host.0.write(&format!("work/{name}"), &file.text);
            }
        }
        let place = format!("README.md:{}", block.line);
        let mut said = String::new();
        for line in block.text.lines() {
            said += &host.run(line, &place);
            ran += 1;
        }
        let Some(shown) = all.get(at + 1).filter(|next| next.info == "text" && next.adjacent) else {
            continue;
        };
        compared += 1;
        if block.text.lines().any(|line| line.starts_with("nft ")) {
            assert_eq!(skeleton(&said), skeleton(&shown.text), "{place}:\n{said}");
        } else {
            assert_eq!(masked(&said), masked(&shown.text), "{place}:\n{said}");
        }
    }
    assert!(ran >= 10 && compared >= 5, "{ran} examples, {compared} of them with their output");
}

#[test]
fn what_the_readme_names_is_there() {
    for block in blocks(README) {
        for line in block.text.lines().filter(|_| block.info == "console") {
            for target in line.split("make").nth(1).unwrap_or("").split_whitespace() {
                let name = target.bytes().all(|b| b.is_ascii_lowercase() || b == b'-');
                if !name {
                    break;
                }
                assert!(MAKEFILE.contains(&format!("\n{target}:")), "README.md:{}: {line}", block.line);
            }
        }
        if matches!(block.info, "openrc" | "runit") {
            let net = Net::new();
            net.input("sh", &["-n"], block.text.as_bytes()).ok();
        }
    }
    let titles = README.lines().filter_map(|line| line.strip_prefix("## "));
    let anchors: Vec<String> = titles.map(|title| title.to_lowercase().replace(' ', "-")).collect();
    for link in Regex::new(r"\]\(([^)]*)\)").unwrap().captures_iter(README) {
        match link[1].strip_prefix('#') {
            Some(anchor) => assert!(anchors.iter().any(|a| a == anchor), "no heading for #{anchor}"),
            None => assert!(Path::new(ROOT).join(&link[1]).exists(), "{} is not there", &link[1]),
        }
    }
}

#[test]
fn the_examples_of_the_manual_run() {
    let mut ran = 0;
    let examples = manual_section(".Sh EXAMPLES", &[".Sh "]);
    for block in examples.split(".Bd ").skip(1) {
        let mut host = Host::new();
        for line in block.lines().skip(1).take_while(|line| *line != ".Ed") {
            host.run(&plain(line), "mef.8");
            ran += 1;
        }
    }
    assert!(ran >= 10, "{ran} examples");
}

#[test]
fn the_examples_of_every_help_run() {
    for command in commands() {
        let help = help(&command);
        let examples = help.split("\nExamples:\n").nth(1).unwrap_or_else(|| panic!("{command} has none"));
        for line in examples.lines().map(str::trim).take_while(|line| !line.is_empty()) {
            let mut host = Host::new();
            if command == "unban" {
                host.run("mef ban 192.0.2.7 203.0.113.0/24", "before unban");
            }
            if matches!(command.as_str(), "disallow" | "undeny") {
                host.run("mef allow 192.0.2.7", "before disallow");
                host.run("mef deny 203.0.113.0/24", "before undeny");
            }
            if matches!(command.as_str(), "diff" | "export") {
                host.run("mef load", "before its examples");
            }
            assert!(line.starts_with("mef "), "{line}");
            host.run(line, &format!("mef {command} --help"));
        }
    }
}

#[test]
fn the_manual_has_every_command_and_option_and_no_other() {
    let section = manual_section(".Sh COMMANDS", &[".Sh "]);
    let titled: Vec<&str> = section.lines().filter_map(|line| line.strip_prefix(".Ss ")).collect();
    assert_eq!(
        titled.iter().copied().collect::<BTreeSet<_>>(),
        commands().iter().map(String::as_str).collect()
    );
    let item = Regex::new(r"(?m)^\.It Fl Fl ([^ \n]+)(?: Ar ([^ \n]+))?$").unwrap();
    let usage = Regex::new(r"--([a-z-]+)(?: <([^>]*)>)?").unwrap();
    for command in titled {
        let text = manual_section(&format!(".Ss {command}"), &[".Ss ", ".Sh "]);
        let described = pairs(&item, &text);
        let help = help(command);
        assert_eq!(described, pairs(&usage, help.lines().next().unwrap()), "options of mef {command}");
        for (option, _) in described {
            let synopsis = text.lines().filter(|line| !line.starts_with(".It"));
            let named = synopsis.map(plain).any(|line| line.contains(&format!("Fl Fl {option}")));
            assert!(named, "--{option} is missing in the synopsis of mef {command}");
        }
    }
}

/// Options, and the names of what they take.
fn pairs(pattern: &Regex, text: &str) -> BTreeSet<(String, String)> {
    let text = plain(text);
    let group = |c: &regex::Captures<'_>, n| c.get(n).map_or("", |m| m.as_str()).to_owned();
    pattern.captures_iter(&text).map(|c| (group(&c, 1), group(&c, 2))).collect()
}

/// From a line of the manual to the end of its section.
fn manual_section(title: &str, ends: &[&str]) -> String {
    let rest = MANUAL.lines().skip_while(|line| *line != title);
    let section: Vec<&str> =
        rest.skip(1).take_while(|line| !ends.iter().any(|end| line.starts_with(end))).collect();
    assert!(!section.is_empty(), "the manual has no {title}");
    section.join("\n") + "\n"
}

/// A manual's text without its escapes.
fn plain(text: &str) -> String {
    text.replace("\\-", "-").replace("\\(aq", "'").replace("\\&", "").replace("\\e", "\\")
}

/// Every command that `mef help` lists.
fn commands() -> Vec<String> {
    let help = Net::new().mef(&["help"]).ok();
    let names = help.lines().filter_map(|line| line.strip_prefix("  "));
    let names: Vec<String> =
        names.filter_map(|line| Some(line.split_whitespace().next()?.to_owned())).collect();
    assert!(names.iter().any(|name| name == "ban"), "{help}");
    names
}

fn help(command: &str) -> String {
    Net::new().mef(&[command, "--help"]).ok()
}
