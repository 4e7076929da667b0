//! How commands are called, and what they say of wrong words.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs, reason = "tests")]

use super::one_line;
use crate::common;
use common::bans::text;
use common::{Net, ns};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::process::Stdio;

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn without_root_every_command_says_so_in_one_line() {
    let net = Net::new();
    // Where others may read it.
    let mef = net.path("mef");
    common::install(&common::mef_binary(), &mef);
    std::fs::set_permissions(&net.dir, std::fs::Permissions::from_mode(0o755)).unwrap();
    let mef = mef.to_str().unwrap();
    let cases: [&[&str]; 6] = [
        &["ban", "192.0.2.7"],
        &["ban", "192.0.2.7", "192.0.2.8", "--permanent"],
        &["unban", "192.0.2.7"],
        &["unban", "--all"],
        &["bans"],
        &["daemon", "--foreground"],
    ];
    for table in [false, true] {
        for args in cases {
            let nobody = ["--reuid=65534", "--regid=65534", "--clear-groups", "--", mef];
            let mut command = net.command("setpriv", &[&nobody[..], args].concat());
            ns::private_dirs(&mut command, &net.dir);
            let output = net.run(command);
            let said = one_line(&output, 1);
            assert!(said.contains("root") && output.stdout.is_empty(), "{args:?}, table {table}: {output:?}");
        }
        net.mef(&["ban", "192.0.2.99"]).ok();
    }
    assert_eq!(net.banned(), ["192.0.2.99"]);
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn wrong_usage_is_status_2_and_says_what_is_meant() {
    let net = Net::new();
    let cases: [(&[&str], &str); 22] = [
        (&[], "Usage: mef COMMAND"),
        (&["bna", "192.0.2.7"], "unknown command 'bna', did you mean 'ban'?"),
        (&["xban"], "unknown command 'xban'"),
        (&["BAN"], "unknown command 'BAN', did you mean 'ban'?"),
        (&["Drop"], "unknown command 'Drop', did you mean 'ban'?"),
        // Words of other programs, though `top` is nearer.
        (&["drop", "192.0.2.7"], "unknown command 'drop', did you mean 'ban'?"),
        (&["unblock", "192.0.2.7"], "unknown command 'unblock', did you mean 'unban'?"),
        (&["whitelist"], "unknown command 'whitelist', did you mean 'allow'?"),
        (&["list"], "unknown command 'list', did you mean 'bans' or 'lists'?"),
        (&["help", "frobnicate"], "unknown command 'frobnicate'\n"),
        (&["help", "bna"], "unknown command 'bna', did you mean 'ban'?"),
        (&["ban"], "missing ADDR"),
        (&["ban", "192.0.2.7", "--frobnicate"], "frobnicate"),
        (&["ban", "192.0.2.7", "--for"], "for"),
        (&["ban", "192.0.2.7", "--for", "soon"], "--for: "),
        (&["ban", "192.0.2.7", "--for", "0"], "--for: "),
        (&["ban", "192.0.2.7", "--for", "1h", "--permanent"], "--for and --permanent exclude each other"),
        (&["ban", "192.0.2.7", "--ports", "0"], "--ports: "),
        (&["ban", "192.0.2.7", "--ports", "90-80"], "--ports: "),
        (&["ban", "192.0.2.7", "--ports", "70000"], "--ports: "),
        (&["unban"], "missing ADDR"),
        (&["unban", "--all", "192.0.2.7"], "missing ADDR"),
    ];
    for (args, what) in cases {
        let output = net.mef(args);
        assert_eq!((output.status, output.stdout.as_str()), (2, ""), "{args:?}: {output:?}");
        assert!(output.stderr.starts_with("mef: ") && output.stderr.contains(what), "{args:?}: {output:?}");
    }
    assert_eq!(net.nft_list("tables"), "", "nothing was done");
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn help_names_the_command_that_a_word_of_another_program_means() {
    let net = Net::new();
    let named = |word: &str| {
        let help = net.mef(&["help", word]).ok();
        help.lines().map(|line| line.split_whitespace().next().unwrap().to_owned()).collect::<Vec<_>>()
    };
    for (word, commands) in [
        ("drop", vec!["ban"]),
        ("Block", vec!["ban"]),
        ("unblock", vec!["unban"]),
        ("whitelist", vec!["allow"]),
        ("log", vec!["history", "daemon", "watch", "test"]),
        ("list", vec!["bans", "history", "allow", "disallow", "deny", "undeny", "lists", "rules", "cloud"]),
    ] {
        assert_eq!(named(word), commands, "{word}");
    }
    // A command's own help is not a list of commands.
    assert!(net.mef(&["help", "ban"]).ok().contains("Usage: mef ban"));
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn every_command_has_help_with_an_example() {
    let net = Net::new();
    let help = net.mef(&["help"]).ok();
    assert_eq!(net.mef(&["--help"]).ok(), help);
    let names: Vec<&str> =
        help.lines().filter_map(|l| l.strip_prefix("  ")?.split_whitespace().next()).collect();
    assert!(names.contains(&"ban") && names.contains(&"daemon"), "{names:?}");
    for name in names {
        for flag in ["--help", "-h"] {
            let text = net.mef(&[name, flag]).ok();
            assert!(
                text.contains("Example") && text.contains(&format!("mef {name}")),
                "{name} {flag}: {text}"
            );
        }
    }
    assert_eq!(net.mef(&["--version"]).ok(), net.mef(&["version"]).ok());
    assert!(net.mef(&["version"]).ok().starts_with(&format!("mef {} ", env!("CARGO_PKG_VERSION"))));
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn the_name_it_is_called_with_is_a_command() {
    let net = Net::new();
    for (name, status) in [("mefban", 0), ("mef", 2), ("other", 2)] {
        let link = net.path(name);
        symlink(common::mef_binary(), &link).unwrap();
        let mut command = net.command(link.to_str().unwrap(), &["192.0.2.7"]);
        ns::private_dirs(&mut command, &net.dir);
        let output = net.run(command);
        assert_eq!(output.status, status, "{name}: {output:?}");
    }
    assert_eq!(net.banned(), ["192.0.2.7"]);
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn a_reader_that_has_seen_enough_is_no_failure() {
    let net = Net::new();
    let list: String = (0..2000).map(|i| format!("10.7.{}.{}\n", i / 250, i % 250)).collect();
    net.mef_input(&["ban", "-"], list.as_bytes()).ok();
    for (args, status) in [
        (&["bans"][..], 0),
        (&["bans", "--json"], 0),
        (&["history"], 0),
        (&["history", "--json"], 0),
        (&["history", "--csv"], 0),
        (&["report"], 0),
        (&["rules"], 0),
        (&["help"], 0),
        (&["ban", "192.0.2.7"], 0),
        (&["ban", "--help"], 0),
        // What the exit status says is said to whoever reads nothing, too.
        (&["status"], 3),
        (&["status", "--json"], 3),
    ] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut command = net.mef_command(args);
        let child = command.stdout(OwnedFd::from(writer)).stderr(Stdio::piped()).spawn().unwrap();
        drop(command);
        let output = child.wait_with_output().unwrap();
        assert_eq!((output.status.code(), output.stderr.len()), (Some(status), 0), "{args:?}: {output:?}");
    }
    // A full disk is one.
    for args in [&["bans"][..], &["history"], &["history", "--csv"], &["help"], &["status", "--json"]] {
        let mut command = net.mef_command(args);
        let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        let output = command.stdout(full).stderr(Stdio::piped()).spawn().unwrap().wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{args:?}");
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(told.starts_with("mef: standard output: No space left"), "{args:?}: {told}");
    }
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn what_is_opened_never_becomes_a_standard_stream() {
    let net = Net::new();
    let mef = common::mef_binary();
    for closed in ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"] {
        // A socket to the kernel in place of standard output would not take what is told.
        let script = format!("exec \"$0\" ban 192.0.2.7 {closed}");
        let mut command = net.command("sh", &["-c", &script, mef.to_str().unwrap()]);
        ns::private_dirs(&mut command, &net.path(""));
        assert_eq!(command.status().unwrap().code(), Some(0), "{closed}");
    }
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn options_may_have_their_value_behind_a_sign_and_help_knows_words() {
    let net = Net::new();
    assert_eq!(net.mef(&["ban", "192.0.2.7", "--for=2h", "--reason=a=b"]).ok(), "banned 192.0.2.7 for 2h\n");
    assert_eq!(text(&net.ban_of("192.0.2.7"), "reason"), "a=b");
    let help = net.mef(&["help", "deny"]).ok();
    assert!(help.starts_with("Usage: mef deny"), "{help}");
    let help = net.mef(&["help", "DNSBL"]).ok();
    assert!(help.contains("  lookup ") && !help.contains("  unban "), "{help}");
    assert_eq!(net.mef(&["help", "deny", "undeny"]).status, 2);
    let whole = net.mef(&["help"]).ok();
    assert_eq!([net.mef(&["help", "help"]).ok(), net.mef(&["help", ""]).ok()], [&*whole, &*whole]);
    assert!(net.mef(&["help", "deny", "list"]).ok().contains("  undeny "));
    // Behind the sign as behind a blank, - is standard output or input.
    let page = net.mef(&["report", "--html=-"]);
    assert!(page.status == 0 && page.stdout.starts_with("<!") && !net.path("-").exists(), "{page:?}");
    for wrong in [&["status", "--json", "--prometheus"][..], &["status", "--prometheus", "192.0.2.7"]] {
        assert_eq!(net.mef(wrong).status, 2);
    }
    let near = net.mef(&["rules", "ssdh"]);
    assert!(near.status == 1 && near.stderr.ends_with("did you mean 'sshd'?\n"), "{near:?}");
    assert_eq!(net.mef_input(&["ban", "-"], b"192.0.2.8\n").ok(), "banned 1 address for 1h\n");
    let unknown = net.mef(&["help", "nonsense"]);
    assert!(unknown.status == 2 && unknown.stdout.is_empty(), "{unknown:?}");
    // Every help ends with a newline, and its examples stand below each other.
    for command in ["ban", "why", "history", "status"] {
        let help = net.mef(&[command, "--help"]).ok();
        assert!(help.ends_with('\n') && !help.contains("\n    mef "), "{help}");
    }
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn what_is_empty_says_so_and_the_command_that_was_meant_is_named() {
    let net = Net::new();
    let said = |args: &[&str]| {
        let output = net.mef(args);
        (output.status, output.stdout, output.stderr)
    };
    assert_eq!(said(&["bans"]), (0, String::new(), "mef: no ban is in force\n".into()));
    assert_eq!(said(&["lists"]), (0, String::new(), "mef: there are no lists\n".into()));
    net.mef(&["ban", "192.0.2.7"]).ok();
    assert_eq!(said(&["bans", "--rule", "sshd"]).2, "mef: no such ban is in force\n");
    let (status, _, told) = said(&["undeny", "192.0.2.7"]);
    assert!(status == 1 && told.contains("192.0.2.7 is banned: `mef unban 192.0.2.7`"), "{told}");
    net.mef(&["deny", "192.0.2.8"]).ok();
    let (status, _, told) = said(&["disallow", "192.0.2.8"]);
    assert!(status == 1 && told.contains("on the deny list local.conf: see mef undeny"), "{told}");
    let (status, _, told) = said(&["unban", "192.0.2.8"]);
    assert!(status == 1 && told.contains("(see mef undeny)"), "{told}");
    let (status, told, _) = said(&["status", "192.0.2.7"]);
    assert!(status == 1 && told.starts_with("192.0.2.7 is dropped: banned by hand"), "{told}");
}
