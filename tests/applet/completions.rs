//! The completions that ship are those of the program's own help, and bash, zsh and fish complete by them.
#![allow(clippy::unwrap_used, reason = "a helper that fails is a test that fails")]

use crate::common;

use common::pty::Pty;
use std::fs;
use std::path::Path;
use std::process::Command;

const SHIPPED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/rootfs/usr/share");
const FILES: [&str; 3] =
    ["bash-completion/completions/mef", "fish/vendor_completions.d/mef.fish", "zsh/site-functions/_mef"];

/// What bash offers: the functions are called as it calls them.
const BASH: &str = r#"
    source "$1/bash-completion/completions/mef"
    COMP_LINE=$2 COMP_POINT=${#2}
    _mef
    printf '%s\n' "${COMPREPLY[@]}"
"#;

/// What the line becomes when TAB is typed behind it, in a zsh that has a terminal.
const ZSH: &str = r#"
    zmodload zsh/zpty
    zpty -b z zsh -f -i
    zpty -w z "PROMPT= PS2=; fpath=($1/zsh/site-functions \$fpath); autoload -Uz compinit; compinit -D -u"
    zpty -w z "show() { print -r -- \"<\$BUFFER>\"; BUFFER=; zle accept-line }; zle -N show; bindkey ^X show"
    zpty -w z "print RE''ADY"
    zpty -r -m z ready '*READY*'
    zpty -w -n z "$2"$'\t\x18'
    zpty -r -m z shown '*<mef*>*'
    shown=${shown##*<}
    print -r -- "${shown%%>*}"
"#;

/// What fish offers.
const FISH: &[&str] = &[
    "fish",
    "--no-config",
    "-c",
    "source $argv[1]/fish/vendor_completions.d/mef.fish; complete -C $argv[2]",
];

/// What a shell says of a line; `mef` is the program that is tested.
fn offered(shell: &[&str], line: &str) -> Vec<String> {
    let bin = common::mef_binary();
    let path = format!("{}:{}", bin.parent().unwrap().display(), std::env::var("PATH").unwrap());
    let mut command = Command::new(shell[0]);
    let out = command.args(&shell[1..]).args([SHIPPED, line]).env("PATH", path).output().unwrap();
    assert!(out.status.success(), "{shell:?} {line}: {}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).unwrap().lines().map(|l| l.split('\t').next().unwrap().to_owned()).collect()
}

fn bash(line: &str) -> Vec<String> {
    offered(&["bash", "-c", BASH, "-"], line)
}

fn fish(line: &str) -> Vec<String> {
    offered(FISH, line)
}

fn zsh(line: &str) -> String {
    offered(&["zsh", "-f", "-c", ZSH, "-"], line).concat()
}

#[test]
fn completions_are_those_of_the_help() {
    let made = std::env::temp_dir().join(format!("mef-completions-{}", std::process::id()));
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/cross/completions.sh");
    let status = Command::new("bash").arg(script).arg(common::mef_binary()).arg(&made).status().unwrap();
    assert!(status.success());
    for file in FILES {
        let (now, shipped) = (fs::read(made.join(file)).unwrap(), fs::read(Path::new(SHIPPED).join(file)));
        assert!(
            shipped.unwrap_or_default() == now,
            "{file} is out of date: run `make && bash cross/completions.sh target/mef rootfs/usr/share`"
        );
    }
    fs::remove_dir_all(made).unwrap();
}

#[test]
fn shells_complete_commands_options_and_values() {
    for (line, expected) in [
        ("mef unb", vec!["unban"]),
        ("mef ban --perm", vec!["--permanent"]),
        ("mef export --family ne", vec!["netdev"]),
        ("mef help vers", vec!["version"]),
        ("mef setup --init op", vec!["openrc"]),
        ("mef rules home-", vec!["home-assistant"]),
    ] {
        assert_eq!(bash(line), expected, "bash: {line}");
        assert_eq!(fish(line), expected, "fish: {line}");
        let cut = line.rfind(' ').unwrap() + 1;
        assert_eq!(zsh(line).trim_end(), format!("{}{}", &line[..cut], expected[0]), "zsh: {line}");
    }
    assert!(bash("mef ").len() > 20 && fish("mef ").len() > 20);
    // No option of another command, and nothing where anything may stand.
    assert_eq!(bash("mef confirm --p"), [""]);
    assert_eq!(bash("mef ban "), [""]);
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn banned_addresses_are_offered_to_unban() {
    let net = common::Net::new();
    assert!(net.mef(&["ban", "192.0.2.7", "2001:db8:7::/64"]).status == 0);
    let bin = common::mef_binary();
    let path = format!("{}:{}", bin.parent().unwrap().display(), std::env::var("PATH").unwrap());
    let run = |shell: &[&str], line: &str| {
        let mut command = net.command(shell[0], &[&shell[1..], &[SHIPPED, line]].concat());
        let out = command.env("PATH", &path).output().unwrap();
        let said = String::from_utf8(out.stdout).unwrap();
        said.lines().map(|line| line.split('\t').next().unwrap().trim_end().to_owned()).collect::<Vec<_>>()
    };
    for command in ["unban", "why", "bans", "history"] {
        let line = |word: &str| format!("mef {command} {word}");
        let bash = |word: &str| run(&["bash", "-c", BASH, "-"], &line(word));
        assert_eq!(bash("192"), ["192.0.2.7"], "{command}");
        // What stands before the last colon is on the line already.
        assert_eq!(bash("2001:db8"), ["db8:7::/64"], "{command}");
        assert_eq!(bash("203"), [""], "{command}");
        for (word, want) in [("192", "192.0.2.7"), ("2001:db8", "2001:db8:7::/64")] {
            assert_eq!(run(FISH, &line(word)), [want], "{command}");
            assert_eq!(run(&["zsh", "-f", "-c", ZSH, "-"], &line(word)), [line(want)], "{command}");
        }
        assert_eq!(run(FISH, &line("203")), Vec::<String>::new(), "{command}");
    }
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn bash_goes_on_where_addresses_differ() {
    let mut net = common::Net::new();
    net.mef(&["ban", "2001:db8:1:2::/64", "2001:db8:1:3::/64"]).ok();
    net.write(
        "inputrc",
        "set enable-bracketed-paste off\nset bell-style none\nset horizontal-scroll-mode off\n",
    );
    let bin = common::mef_binary();
    let path = format!("{}:{}", bin.parent().unwrap().display(), std::env::var("PATH").unwrap());
    let mut command = net.command("bash", &["--norc", "--noprofile", "-i"]);
    command.env("PATH", path).env("PS1", "at> ").env("INPUTRC", net.path("inputrc"));
    let mut shell = Pty::start(&mut net, command, (24, 80));
    shell.wait("at>");
    shell.press(&format!("source {SHIPPED}/bash-completion/completions/mef\n"));
    shell.wait("at>");
    // As far as they are the same, then what is left.
    shell.press("mef unban 2001\t");
    shell.wait("at> mef unban 2001:db8:1:");
    shell.press("3\t");
    shell.wait("at> mef unban 2001:db8:1:3::/64");
    // A blank stands behind what is whole.
    shell.press("2001:db8:1:2\t");
    shell.wait("at> mef unban 2001:db8:1:3::/64 2001:db8:1:2::/64");
    // Names of files have their quotes, and directories their slash.
    net.write("zz top/x.conf", "");
    shell.press(&format!("\u{15}cd {}\n", net.path("").display()));
    shell.wait("at>");
    shell.press("mef check z\t");
    shell.wait("at> mef check zz\\ top/");
    shell.press("\u{15}exit\n");
    assert_eq!(net.wait(shell.program), 0);
}
