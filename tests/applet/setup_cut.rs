//! `mef setup` that is cut off: by an error at each system call that changes something, and by an end at each
//! of them, as if the power failed. Nothing is half-written, what was not done is named, and the next run
//! completes it.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use super::setup::{Tree, number};
use crate::common;

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;

/// What changes a disk. Those with which a file is opened change it only if they may make one.
const CHANGES: [&str; 13] = [
    "open", "openat", "mkdir", "write", "fchown", "fchmod", "chmod", "fsync", "symlink", "rename",
    "renameat", "unlink", "unlinkat",
];
/// The name under which set-up writes.
const TEMPORARY: &str = ".mef-setup.new";
type Files = BTreeMap<String, String>;

/// How a run ended.
struct Run {
    status: Option<i32>,
    said: String,
    problems: String,
    trace: String,
}

/// Runs set-up under strace, with more of strace's words.
fn traced(tree: &Tree, words: &[&str], args: &[&str]) -> Run {
    let trace = tree.0.with_extension("trace");
    let mut command = Command::new("strace");
    command.args(["-qq", "-e", "signal=none", "-o"]).arg(&trace).args(words).arg(common::mef_binary());
    let out = command.args(["setup", "--root", tree.0.to_str().unwrap()]).args(args).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    let run = Run {
        status: out.status.code(),
        said: text(out.stdout),
        problems: text(out.stderr),
        trace: fs::read_to_string(&trace).unwrap(),
    };
    fs::remove_file(trace).unwrap();
    run
}

/// Each change that a run makes in such a tree: the system call, and which one of its kind it is.
fn changes(tree: &Tree, args: &[&str]) -> Vec<(&'static str, usize)> {
    let trace = traced(tree, &[], args).trace;
    let mut all = Vec::new();
    for call in CHANGES {
        let begins = format!("{call}(");
        let calls = (1..).zip(trace.lines().filter(|line| line.starts_with(&begins)));
        let changes = |line: &str| !call.starts_with("open") || line.contains("O_CREAT");
        all.extend(calls.filter(|(_, line)| changes(line)).map(|(n, _)| (call, n)));
    }
    assert!(all.len() > 10, "{all:?}");
    all
}

fn cut(tree: &Tree, args: &[&str], (call, n): (&str, usize), how: &str) -> Run {
    let inject = format!("inject=?{call}:{how}:when={n}");
    traced(tree, &["-e", &format!("trace=?{call}"), "-e", &inject], args)
}

/// Every file has what it had before or what it is to have. `killed`: the file that was being written may
/// be there under another name.
fn whole(tree: &Tree, states: [&Files; 2], killed: bool, place: &str) {
    for (path, text) in tree.all() {
        let known = states.iter().any(|state| state.get(&path) == Some(&text));
        let list = path == "etc/mef/.setup";
        assert!(known || list || killed && path.ends_with(TEMPORARY), "{place}: {path}: {text:.200}");
    }
    // And nothing that was there before is lost but what is to go.
    let now = tree.all();
    let lost = |path: &&String| !now.contains_key(*path) && states[1].contains_key(*path);
    let lost: Vec<_> = states[0].keys().filter(lost).collect();
    assert!(lost.is_empty(), "{place}: {lost:?}");
}

/// What is planned, one step a line.
fn plan(said: &str) -> Vec<String> {
    let lines = said.lines().skip_while(|line| *line != "plan:").skip(1);
    let steps = lines.take_while(|line| line.starts_with("  "));
    steps.filter(|line| !line.ends_with(" should be")).map(|line| line.trim().to_owned()).collect()
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn an_error_at_any_change_leaves_whole_files_and_is_told_and_the_next_run_completes_it() {
    let args = ["--init", "systemd"];
    let tree = Tree::new("cut-error");
    let before = tree.all();
    let planned = plan(&tree.setup(&["--init", "systemd", "--dry-run"]).ok());
    let changes = changes(&tree, &args);
    let after = tree.all();
    let mut failed = 0;
    for change in changes {
        let place = format!("{change:?}");
        tree.empty();
        let run = cut(&tree, &args, change, "error=ENOSPC");
        assert!(run.trace.contains("(INJECTED)"), "{place}: {}", run.trace);
        whole(&tree, [&before, &after], false, &place);
        match run.status {
            Some(0) => assert!(tree.all() == after, "{place}: {}", run.problems),
            Some(1) if tree.all() != after || !run.said.is_empty() => {
                failed += 1;
                let done = run.said.split("\ndone:\n").nth(1).unwrap_or("");
                for step in &planned {
                    let not = run.problems.contains(&format!("not done: {step}"));
                    let list = run.problems.contains("not done: the list of what was written");
                    assert!(done.contains(step) != not || list && not, "{place}: {step}: {}", run.problems);
                }
                assert!(run.problems.contains("No space left on device"), "{place}: {}", run.problems);
            }
            // Nobody could be told.
            Some(1) => {}
            other => panic!("{place}: {other:?} {}", run.problems),
        }
        tree.setup(&args).ok();
        assert!(tree.all() == after, "{place}: completed");
    }
    assert!(failed > 50, "{failed}");
}

/// Makes a tree one that a former version has set up: two files were others, and one is no more.
fn former(tree: &Tree) {
    tree.setup(&["--init", "openrc"]).ok();
    let mut list = tree.text("etc/mef/.setup");
    for path in ["etc/init.d/mef", "usr/share/man/man8/mef.8", "etc/init.d/mef-former"] {
        let text = format!("{}# of the former version\n", tree.text(path));
        tree.put(path, &text);
        list = list
            .lines()
            .filter(|line| !line.ends_with(&format!(" /{path}")))
            .flat_map(|l| [l, "\n"])
            .collect();
        list += &format!("{} /{path}\n", number(&text));
    }
    tree.put("etc/mef/.setup", &list);
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn an_upgrade_that_is_killed_anywhere_is_completed_by_the_next_one() {
    let args = ["--init", "openrc", "--upgrade"];
    let tree = Tree::new("cut-upgrade");
    former(&tree);
    let before = tree.all();
    let changes = changes(&tree, &args);
    let after = tree.all();
    assert!(!after.contains_key("etc/init.d/mef-former") && after != before);
    for change in changes {
        let place = format!("{change:?}");
        tree.empty();
        former(&tree);
        let run = cut(&tree, &args, change, "signal=KILL");
        assert_eq!(run.status, None, "{place}: {}", run.problems);
        whole(&tree, [&before, &after], true, &place);
        // What the former version wrote is nobody's change, wherever it stopped.
        let said = tree.setup(&args).ok();
        assert!(!said.contains("you changed it"), "{place}: {said}");
        assert!(tree.all() == after, "{place}: {said}");
    }
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn a_set_up_that_is_killed_anywhere_can_be_taken_back() {
    for (init, purge) in [("busybox", false), ("systemd", true)] {
        let (setup, remove) = (["--init", init], ["--init", init, "--remove", "--purge"]);
        let tree = Tree::new(&format!("cut-back-{init}"));
        let before = tree.all();
        if purge {
            tree.setup(&setup).ok();
        }
        let full = tree.all();
        let args = if purge { &remove[..] } else { &setup[..] };
        let changes = changes(&tree, args);
        for change in changes {
            let place = format!("{init}: {change:?}");
            tree.empty();
            if purge {
                tree.setup(&setup).ok();
                assert!(tree.all() == full);
            }
            let run = cut(&tree, args, change, "signal=KILL");
            assert_eq!(run.status, None, "{place}: {}", run.problems);
            tree.setup(&remove).ok();
            assert!(tree.all() == before, "{place}: {:?}", tree.all().keys());
        }
    }
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn a_switch_of_init_systems_that_is_killed_anywhere_can_be_taken_back() {
    let pairs = [("openrc", "systemd"), ("systemd", "runit"), ("runit", "s6"), ("s6", "sysvinit")];
    for (former, init) in pairs.into_iter().chain([("none", "busybox")]) {
        let tree = Tree::new(&format!("cut-switch-{former}-{init}"));
        let begin = || {
            tree.empty();
            for dir in ["0", "1", "2", "3", "4", "5", "6", "S"].map(|level| format!("etc/rc{level}.d")) {
                fs::create_dir_all(tree.0.join(dir)).unwrap();
            }
            for dir in ["etc/runlevels/boot", "etc/systemd/system"] {
                fs::create_dir_all(tree.0.join(dir)).unwrap();
            }
            fs::create_dir_all(tree.0.join("etc/s6-linux-init/current/run-image/service")).unwrap();
            fs::create_dir_all(tree.0.join("etc/runit/runsvdir/default")).unwrap();
            let before = tree.all();
            tree.setup(&["--init", former]).ok();
            before
        };
        begin();
        let args = ["--init", init];
        for (n, change) in changes(&tree, &args).into_iter().enumerate() {
            let place = format!("from {former} to {init}: {change:?}");
            let before = begin();
            let run = cut(&tree, &args, change, "signal=KILL");
            assert_eq!(run.status, None, "{place}: {}", run.problems);
            // Back to the former one, or away with all of it.
            if n % 2 == 0 {
                tree.setup(&["--init", former]).ok();
                let now = tree.all();
                begin();
                assert!(now == tree.all(), "{place}: {:?}", now.keys());
            }
            tree.setup(&["--remove", "--purge"]).ok();
            assert!(tree.all() == before, "{place}: {:?}", tree.all().keys());
        }
    }
}
