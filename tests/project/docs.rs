//! What is written about mef is so: the examples of the README, of every page, of the manual pages and of
//! `--help` run, on a host of their own, and say what is shown; commands and options are the same in all.
#![allow(clippy::unwrap_used, reason = "a helper that fails is a test that fails")]

use crate::common;
mod pages;

use common::{Net, ns, wait_for, wait_until};
use pages::{Block, Page, blocks, links_lead_somewhere, masked, pages, skeleton};
use regex::Regex;
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");
const MANUAL: &str = include_str!("../../rootfs/usr/share/man/man8/mef.8");
const MAKEFILE: &str = include_str!("../../Makefile");
const SIGTERM: i32 = libc::SIGTERM;

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
        let log = include_str!("../logs/openssh-9.2.log");
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
            wait_until("the daemon", || self.status().contains("\"daemon\":true"));
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
        let pending_confirmation = line.starts_with("mef load --confirm");
        if pending_confirmation || line == "mef confirm" {
            return self.trial(if pending_confirmation { line } else { "mef load --confirm 1h" }, place);
        }
        let output = self.shell(&format!("exec 2>&1\n{line}")).output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        // No daemon runs then, and its exit status says so.
        let verdict = line.starts_with("mef status") && output.status.code() == Some(3);
        // Nor is there a list to be asked, as shipped.
        let no_list = line.starts_with("mef lookup") && said.contains("mef.conf names no DNSBL");
        // Somebody is dropped.
        let dropped = line.starts_with("mef why") && said.contains(" is dropped");
        assert!(
            output.status.success() || verdict || no_list || dropped,
            "{place}: {line}\n{} {said}",
            output.status
        );
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
        wait_until(&what, || self.0.read("daemon.log").contains(" watches "));
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

/// Runs the examples of a page, each block on a host of its own; how many lines ran, and how many blocks were
/// compared with the output that follows them.
fn run_examples(page: &Page) -> (usize, usize) {
    let all = blocks(&page.text);
    let (mut ran, mut compared) = (0, 0);
    for (at, block) in all.iter().enumerate().filter(|(_, block)| block.info == "sh") {
        let mut host = Host::new();
        for file in &all {
            if let Some((_, name)) = file.info.split_once(' ') {
                host.0.write(&format!("work/{name}"), &file.text);
            }
        }
        let place = format!("{}:{}", page.path, block.line);
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
            let mut texts = [masked(&said), masked(&shown.text)];
            if block.text.contains("mef bans") {
                // The newest first: which that is depends on where a second ends.
                texts = texts.map(|text| {
                    let mut lines: Vec<&str> = text.lines().collect();
                    lines.sort_unstable();
                    lines.join("\n")
                });
            }
            assert_eq!(texts[0], texts[1], "{place}:\n{said}");
        }
    }
    (ran, compared)
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn the_examples_of_the_readme_run_and_say_what_is_shown() {
    let readme = pages().remove(0);
    let (ran, compared) = run_examples(&readme);
    // The demonstration is compared by tests/recording.sh.
    assert!(ran >= 10 && compared >= 1, "{ran} examples, {compared} of them with their output");
    let length = readme.text.lines().count();
    assert!(length <= 200, "README.md has {length} lines: what is more belongs into a page");
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn the_examples_of_every_page_run_and_say_what_is_shown() {
    let counts = pages().iter().skip(1).map(run_examples).fold((0, 0), |a, b| (a.0 + b.0, a.1 + b.1));
    assert!(counts.0 >= 35 && counts.1 >= 8, "{counts:?}: examples, and those with their output");
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn the_files_that_pages_show_are_right() {
    let net = Net::new();
    let mut checked = 0;
    for page in pages() {
        for block in blocks(&page.text) {
            let place = format!("{}:{}", page.path, block.line);
            let kind = block.info.split(' ').next().unwrap_or("");
            match kind {
                "sh" | "console" | "text" => {}
                "ini" | "rules" => check_file(&net, block.info, &block.text, &place),
                "unit" => check_unit(&net, &block.text, &place),
                "openrc" | "runit" => {
                    net.input("sh", &["-n"], block.text.as_bytes()).ok();
                }
                _ => panic!("{place}: what is a block of kind '{}', and who tests it?", block.info),
            }
            checked += usize::from(!matches!(kind, "sh" | "console" | "text"));
        }
    }
    assert!(checked >= 12, "{checked}");
}

/// A `mef.conf`, a service rule or a rule set: no error in it; examples inside a rule are as they should be.
/// `info` is the kind, and the name if it has one: that of a rule says what it changes.
fn check_file(net: &Net, info: &str, text: &str, place: &str) {
    let name = match (info.split_once(' '), text.contains("[global]")) {
        (Some((_, name)), false) => format!("shown/{name}"),
        _ if info == "rules" => "shown/file.rules".to_owned(),
        (_, true) => "shown/mef.conf".to_owned(),
        (_, false) => "shown/rule.conf".to_owned(),
    };
    let name = name.as_str();
    net.write(name, text);
    let path = net.path(name);
    let path = path.to_str().unwrap();
    let said = net.mef(&["check", path]);
    let errors = format!("{}{}", said.stdout, said.stderr);
    assert!(said.status == 0 && !errors.contains("unknown key"), "{place}: {errors}");
    if text.contains("\n#+ ") {
        assert_eq!(net.mef(&["test", "--self", path]).status, 0, "{place}");
    }
}

/// A unit of systemd, of which systemd thinks nothing bad.
fn check_unit(net: &Net, text: &str, place: &str) {
    let program = common::mef_binary();
    let text = text.replace("/usr/local/sbin/mef", program.to_str().unwrap());
    net.write("shown/mef.service", &text);
    let unit = net.path("shown/mef.service");
    let output = Command::new("systemd-analyze").args(["verify", "--man=no"]).arg(unit).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    let ours: Vec<&str> = said.lines().filter(|line| line.contains("mef.service")).collect();
    assert!(output.status.success() && ours.is_empty(), "{place}: {} {said}", output.status);
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn the_status_that_is_shown_has_the_words_of_the_real_one() {
    let mut host = Host::new();
    let command = host.shell("exec mef daemon --foreground");
    let daemon = host.0.start("daemon", command);
    wait_until("the daemon", || host.status().contains("\"daemon\":true"));
    let real = host.shell("mef status --all").output().unwrap();
    let real = String::from_utf8_lossy(&real.stdout).into_owned();
    host.0.signal(daemon, SIGTERM);
    assert_eq!(host.0.wait(daemon), 0);
    let pages = pages();
    let shown: Vec<Block<'_>> =
        pages.iter().flat_map(|p| blocks(&p.text)).filter(|block| block.info == "text status").collect();
    assert!(!shown.is_empty());
    // What names of rules and numbers stand for differs; labels, counters and titles do not.
    let line =
        Regex::new(r"^(?:(protected)$|([a-z][a-z ]*?) {2,}|([a-z]+ [a-z]+) | *[0-9]+ (.*)$|([A-Z]{2}.*)$)");
    for text in shown.iter().flat_map(|block| block.text.lines()) {
        let Some(found) = line.as_ref().unwrap().captures(text) else { continue };
        let label = found.iter().skip(1).flatten().next().unwrap().as_str();
        let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
        let rule = text.contains("/var/log") || text.contains("enabled=") || text.contains("found neither");
        let known = real.lines().map(words).any(|line| line.contains(&words(label)));
        assert!(rule || label == "protected" || known, "mef status has no '{label}':\n{real}");
    }
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn what_pages_name_is_there() {
    let commands = commands();
    let inline = Regex::new(r"`mef ([a-z]+(?:-[a-z]+)*)(?-u:\b)([^`]*)`").unwrap();
    for page in pages() {
        for block in blocks(&page.text).iter().filter(|block| block.info == "console") {
            for line in block.text.lines() {
                let place = format!("{}:{}: {line}", page.path, block.line);
                targets_exist(line, &place);
                let command = line.rsplit("| ").next().and_then(|part| part.strip_prefix("mef "));
                if let Some((name, rest)) = command.and_then(|command| command.split_once(' ')) {
                    command_exists(&commands, name, rest, &place);
                }
            }
        }
        let text = page.text.replace('\n', " ");
        for found in inline.captures_iter(&text) {
            command_exists(&commands, &found[1], &found[2], &format!("{}: {}", page.path, &found[0]));
        }
        links_lead_somewhere(&page);
    }
}

/// The targets of `make` in a line.
fn targets_exist(line: &str, place: &str) {
    let target = |word: &str| word.bytes().all(|b| b.is_ascii_lowercase() || b == b'-');
    let Some(words) = line.strip_prefix("make") else { return };
    for name in words.split_whitespace().take_while(|word| target(word)) {
        assert!(MAKEFILE.contains(&format!("\n{name}:")), "{place}");
    }
}

/// A command of mef, and the long options that stand behind it.
fn command_exists(commands: &[String], name: &str, rest: &str, place: &str) {
    assert!(
        name == "help" || commands.iter().any(|command| command == name),
        "{place}: there is no such command"
    );
    let mut help = None;
    for option in rest.split_whitespace().filter(|word| word.starts_with("--") && word.len() > 2) {
        let option = option.trim_end_matches([',', '.']);
        let help = help.get_or_insert_with(|| self::help(name));
        assert!(option == "--help" || help.contains(option), "{place}: there is no such option");
    }
}

#[test]
fn the_readme_leads_to_every_page() {
    let pages = pages();
    for page in &pages[1..] {
        assert!(pages[0].text.contains(&format!("({})", page.path)), "{} is not in README.md", page.path);
    }
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
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
#[cfg_attr(not_root, ignore = "needs root")]
fn the_files_that_manual_pages_show_are_right() {
    let net = Net::new();
    // The rule that the manual's examples are of.
    let rule = |examples: &str| {
        format!("[rule]\nprograms=app\nfailregex=^no entry for <HOST>$\nfiles=/x\n{examples}")
    };
    let mut checked = 0;
    for (page, kind) in [
        (MANUAL, "rule"),
        (include_str!("../../rootfs/usr/share/man/man5/mef.conf.5"), "ini"),
        (include_str!("../../rootfs/usr/share/man/man5/mef.rules.5"), "rules"),
    ] {
        for display in page.split(".Bd ").skip(1) {
            let lines = display.lines().skip(1).take_while(|line| *line != ".Ed");
            let text: String = lines.map(|line| plain(line) + "\n").collect();
            match kind {
                "rule" if !text.starts_with('#') => continue,
                "rule" => check_file(&net, "ini", &rule(&text), "mef.8"),
                kind => check_file(&net, kind, &text, kind),
            }
            checked += 1;
        }
    }
    assert!(checked >= 5, "{checked}");
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
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
            if matches!(command.as_str(), "migrate" | "import-filter") {
                // What the other programs would have left.
                let filter = "[Definition]\nfailregex = ^refused <HOST>$\n";
                for (file, text) in [
                    ("etc/fail2ban/jail.local", "[sshd]\nenabled = true\nfilter = myapp\n"),
                    ("etc/fail2ban/filter.d/nsd.conf", filter),
                    ("etc/ufw/user.rules", "### tuple ### allow tcp 22 0.0.0.0/0 any 0.0.0.0/0 in\n"),
                    ("work/myapp.conf", filter),
                    ("work/samples/myapp", "# failJSON: { \"match\": false }\nother\n"),
                ] {
                    host.0.write(file, text);
                }
                host.0.write("mnt/old/etc/csf/csf.conf", "TCP_IN = \"22\"\n");
            }
            if line.contains(" cloud member ") {
                host.run("mef cloud init cloud.example --server 192.0.2.53", "before members");
            }
            assert!(line.starts_with("mef "), "{line}");
            let line = line.replace("/mnt/", &format!("{}/mnt/", host.0.dir.display()));
            host.run(&line, &format!("mef {command} --help"));
        }
    }
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn the_manual_has_every_command_and_option_and_no_other() {
    let section = manual_section(".Sh COMMANDS", &[".Sh "]);
    let titled: Vec<&str> = section.lines().filter_map(|line| line.strip_prefix(".Ss ")).collect();
    assert_eq!(
        titled.iter().copied().collect::<BTreeSet<_>>(),
        commands().iter().map(String::as_str).collect()
    );
    let item = Regex::new(r"(?m)^\.It Fl Fl ([^ \n]+)(?: Ar ([^ \n]+))?$").unwrap();
    let usage = Regex::new(r"--([a-z0-9-]+)(?: <([^>]*)>)?").unwrap();
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
