//! What commands show on terminals of several sizes, and without one.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use crate::common;

use common::daemon::{LOG, fails, host};
use common::pty::Pty;
use common::{Net, wait_until};
use regex::Regex;

/// Lines and columns.
const SIZES: [(u16, u16); 3] = [(20, 60), (24, 80), (60, 200)];

/// A host with offenders, bans and a service that cannot be seen.
fn busy() -> Net {
    let mut net = host("", "maxretry=5");
    net.daemon("daemon");
    net.append(LOG, fails("203.0.113.1", 2) + &fails("203.0.113.2", 4) + &fails("203.0.113.3", 5));
    net.mark(LOG);
    net
}

/// A screen without what time and place make of it: ages are T, graphs and paths are short, and columns stand
/// apart by `|`.
fn plain(screen: &str) -> String {
    let replaced = [
        ("[0-9]+[smhd] ago", "T ago"),
        ("[▁-█]+", "▁"),
        ("[0-9]+ now", "N now"),
        (r"/tmp/[^ ]*/app\.log|/tmp/[^ ]*…", "PATH"),
        (" {2,}", " | "),
    ];
    let mut text = screen.to_owned();
    for (from, to) in replaced {
        text = Regex::new(from).unwrap().replace_all(&text, to).into_owned();
    }
    text
}

const TOP: &str = "\
12 lines, 12 hits, 2 bans, 2 of 4096 offenders tracked
bans a minute | ▁ | N now, 2 in the last hour
drops a second | ▁ | N now, 0 in all

OFFENDER | RULE | HITS | LAST
203.0.113.2 | app | 4 of 5 | T ago
203.0.113.1 | app | 2 of 5 | T ago

BANNED | RULE | WHEN | FOR | WHY
";

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn top_fits_every_terminal_and_has_everything_on_it() {
    let mut net = busy();
    for size in SIZES {
        let command = net.mef_command(&["top"]);
        let mut top = Pty::start(&mut net, command, size);
        let screen = top.wait("q quit");
        let text = plain(&screen);
        assert!(text.starts_with(TOP), "{size:?}\n{text}");
        let line =
            "Nov 22 08:00:01 host sshd[130]: Failed password for root from 203.0.113.3 port 58216 ssh2";
        let (row, fits) = (screen.lines().find(|l| l.starts_with("203.0.113.3")).unwrap(), size.1 == 200);
        assert!(if fits { row.ends_with(line) } else { row.ends_with('…') }, "{row}");
        assert!(text.contains("RULE | HITS | BANS | LAST | READS\napp | 11 | 1 | T ago | PATH\n"), "{text}");
        assert_eq!(screen.lines().count(), size.0.into());
        let keys = "q quit | Tab offenders 1-2 of 2 | ↑↓ scroll | s sort: hits";
        assert_eq!(text.lines().last(), Some(keys));
        top.press("q");
        assert_eq!(net.wait(top.program), 0);
        assert_eq!(top.screen(), "", "the screen that was there before is back");
        assert!(top.written.ends_with("\u{1b}[?25h\u{1b}[?1049l"));
    }
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn keys_of_top_sort_scroll_and_end_it() {
    let mut net = busy();
    let command = net.mef_command(&["top"]);
    let mut top = Pty::start(&mut net, command, (14, 60));
    top.wait("Tab offenders");
    top.press("\t");
    top.wait("Tab bans");
    top.press("\t");
    // Of the rules one fits; which there are is the host's matter.
    let first = |screen: &str| {
        let mut rows = screen.lines().skip_while(|line| !line.starts_with("RULE "));
        rows.nth(1).unwrap_or("").split(' ').next().unwrap().to_owned()
    };
    let screen = top.wait("Tab rules 1-1 of ");
    assert_eq!(first(&screen), "app");
    let all: u32 = screen.split("rules 1-1 of ").nth(1).unwrap().split(' ').next().unwrap().parse().unwrap();
    assert!(all >= 4, "{screen}");
    top.press("\u{1b}[B");
    assert_eq!(first(&top.wait("rules 2-2 of ")), "mark");
    top.press("j");
    top.wait("rules 3-3 of ");
    // No further than to the end, and back.
    top.press("\u{1b}[6~\u{1b}[6~\u{1b}[6~\u{1b}[B");
    top.wait(&format!("rules {all}-{all} of "));
    top.press("k\u{1b}OA\u{1b}[5~\u{1b}[5~\u{1b}[A");
    top.wait("rules 1-1 of ");
    for order in ["bans", "last hit", "name", "hits"] {
        top.press("s");
        top.wait(&format!("s sort: {order}"));
    }
    // What is no key does nothing.
    top.press("xyz\u{1b}[24~\u{1b}\u{1b}");
    top.press("s");
    top.wait("s sort: bans");
    top.press("\u{3}");
    assert_eq!(net.wait(top.program), 0);
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn the_terminal_is_as_it_was_whatever_ends_top_or_watch() {
    let mut net = busy();
    for signal in [libc::SIGTERM, libc::SIGHUP, libc::SIGINT] {
        let command = net.mef_command(&["top"]);
        let mut top = Pty::start(&mut net, command, (24, 80));
        top.wait("q quit");
        assert_ne!(top.modes(), top.modes_before);
        net.signal(top.program, signal);
        assert_eq!(net.wait(top.program), 0);
        top.screen();
        assert_eq!(top.modes(), top.modes_before, "{signal}");
        assert!(top.written.ends_with("\u{1b}[?25h\u{1b}[?1049l"), "{signal}");
        let command = net.mef_command(&["watch"]);
        let mut watch = Pty::start(&mut net, command, (24, 80));
        wait_until("a reader", || net.mef(&["status", "--json"]).shown().contains("\"watchers\":1"));
        net.append(LOG, fails("203.0.113.9", 1));
        watch.wait("203.0.113.9");
        net.signal(watch.program, signal);
        net.wait(watch.program);
        watch.screen();
        assert!(
            watch.modes() == watch.modes_before && watch.written.trim_end().ends_with("\u{1b}[0m"),
            "{signal}"
        );
        // Who is gone is noticed by the next event.
        net.mark(LOG);
    }
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn top_writes_nothing_while_nothing_changes_and_shows_what_does() {
    let mut net = host("", "maxretry=2");
    net.daemon("daemon");
    let command = net.mef_command(&["top"]);
    let mut top = Pty::start(&mut net, command, (24, 80));
    top.wait("nobody is being counted");
    let frames = |top: &mut Pty| {
        top.screen();
        top.written.matches("\u{1b}[H").count()
    };
    std::thread::sleep(std::time::Duration::from_secs(3));
    assert_eq!(frames(&mut top), 1, "{}", top.screen());
    net.append(LOG, fails("203.0.113.9", 1));
    top.wait("203.0.113.9  app   1 of 2");
    net.append(LOG, fails("203.0.113.9", 1));
    wait_until("the ban", || {
        let screen = top.screen();
        screen.split("BANNED").nth(1).is_some_and(|below| below.contains("203.0.113.9"))
    });
    assert!(!top.written.contains("\u{1b}[2J") && !top.written.contains("\u{1b}[H\u{1b}[J"), "no flicker");
    // Another size is taken in.
    top.resize(20, 60);
    wait_until("the other size", || {
        let screen = top.screen();
        screen.lines().count() == 20 && screen.lines().last().unwrap().starts_with("q quit")
    });
    net.stop(0);
    assert_eq!(net.wait(top.program), 1);
    wait_until("the reason", || top.screen().contains("no daemon runs"));
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn no_table_is_wider_than_its_terminal() {
    let mut net = busy();
    net.mef(&["ban", "2001:db8:1:2::/64", "--reason", &"long ".repeat(40)]).ok();
    net.mef(&["deny", "198.51.100.0/24"]).ok();
    let commands: [&[&str]; 7] = [
        &["bans"],
        &["history"],
        &["why", "203.0.113.3"],
        &["status", "--all"],
        &["lists"],
        &["rules"],
        &["top", "--once"],
    ];
    for size in SIZES {
        for command in commands {
            let piped = net.mef(command).stdout;
            let program = net.mef_command(command);
            let mut pty = Pty::start(&mut net, program, (1000, size.1));
            net.wait(pty.program);
            let screen = pty.screen();
            // Verdicts go on in the next line, and graphs are shorter.
            let is_verdict = |line: &str| {
                ["sees nothing for ", "bans a minute ", "drops a second "].iter().any(|b| line.starts_with(b))
                    || line.contains(" is dropped: ")
            };
            let all: Vec<&str> = screen.lines().filter(|line| !line.is_empty()).collect();
            let want: Vec<&str> = piped.lines().filter(|line| !line.is_empty()).collect();
            let verdicts = want.iter().filter(|line| is_verdict(line)).count();
            if verdicts == 0 {
                assert_eq!(all.len(), want.len(), "{command:?} {size:?}\n{screen}");
            }
            // Of what is wider the beginning is there, and a mark.
            for line in want.iter().filter(|line| line.chars().count() > size.1.into()) {
                let begin: String = line.chars().take(10).collect();
                let cut = |shown: &&str| shown.starts_with(&begin) && shown.ends_with('…');
                assert!(is_verdict(line) || all.iter().any(cut), "{command:?} {line}\n{screen}");
            }
            assert!(!piped.contains('\u{1b}') && !piped.contains('…'), "{command:?}");
        }
    }
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn help_fits_every_terminal_and_loses_nothing() {
    let mut net = Net::new();
    let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    for size in SIZES {
        for command in [&["help"][..], &["why", "--help"], &["status", "--help"], &["help", "log"]] {
            let piped = net.mef(command).stdout;
            let program = net.mef_command(command);
            let mut pty = Pty::start(&mut net, program, (1000, size.1));
            net.wait(pty.program);
            let screen = pty.screen();
            // A line that the terminal has broken has its last word in two pieces.
            assert_eq!(words(&screen), words(&piped), "{command:?} {size:?}");
        }
    }
}

/// What does not depend on the moment: stamps are as wide as before, ages are T.
fn timeless(screen: &str) -> String {
    let replaced = [
        ("[0-9]{4}-[0-9]{2}-[0-9]{2} [0-9:]{8}", "YYYY-MM-DD hh:mm:ss"),
        ("[0-9]+[smh] ago", "T ago"),
        ("(-|[0-9]+[smh]) +permanent  ", "T  permanent  "),
    ];
    let mut text = screen.to_owned();
    for (from, to) in replaced {
        text = Regex::new(from).unwrap().replace_all(&text, to).into_owned();
    }
    text.lines().map(|line| line.trim_end().to_owned() + "\n").collect()
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn golden_texts_of_what_is_banned_and_why() {
    let mut net = Net::new();
    let reason = "somebody who has tried every name in the book, and then some more of them, by hand";
    net.mef(&["ban", "192.0.2.7", "--permanent", "--reason", reason]).ok();
    net.mef(&["ban", "2001:db8:1:2::/64", "--permanent", "--ports", "22,80-90"]).ok();
    net.mef(&["deny", "198.51.100.0/24", "203.0.113.9"]).ok();
    net.mef(&["allow", "198.51.100.77"]).ok();
    let commands: [&[&str]; 6] = [
        &["bans", "192.0.2.7"],
        &["history"],
        &["lists"],
        &["why", "192.0.2.7"],
        &["why", "198.51.100.0/24"],
        &["why", "198.51.100.77"],
    ];
    for columns in [Some(60), Some(80), Some(200), None] {
        let mut all = String::new();
        for command in commands {
            let screen = match columns {
                None => net.mef(command).stdout,
                Some(columns) => {
                    let mut program = net.mef_command(command);
                    program.env("NO_COLOR", "1");
                    let mut pty = Pty::start_in(&mut net, program, (60, columns));
                    net.wait(pty.program);
                    pty.screen()
                }
            };
            all += &format!("$ mef {}\n{}\n", command.join(" "), timeless(&screen));
        }
        let name = columns.map_or("none".to_owned(), |columns| columns.to_string());
        let file = format!("{}/tests/applet/screens/{name}.txt", env!("CARGO_MANIFEST_DIR"));
        if std::env::var_os("MEF_GOLDEN").is_some() {
            std::fs::write(&file, &all).unwrap();
        }
        assert_eq!(all, std::fs::read_to_string(&file).unwrap_or_default(), "{name}");
    }
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn colours_are_for_terminals_without_no_color() {
    let mut net = busy();
    for (command, colour) in [(["why", "203.0.113.3"], "\u{1b}[1;31m"), (["status", "--all"], "\u{1b}[1;33m")]
    {
        for no_color in [false, true] {
            let mut program = net.mef_command(&command);
            if no_color {
                program.env("NO_COLOR", "1");
            }
            let mut pty = Pty::start_in(&mut net, program, (200, 80));
            net.wait(pty.program);
            pty.screen();
            assert_eq!(pty.written.contains(colour), !no_color, "{command:?} {}", pty.written);
            assert_eq!(pty.written.contains('\u{1b}'), !no_color, "{command:?}");
        }
    }
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn watch_has_a_colour_for_each_kind_and_shows_those_that_are_wanted() {
    let mut net = host("", "maxretry=2\nfailregex@0=^Invalid user \\S+ from <HOST>");
    net.daemon("daemon");
    let all = net.mef_command(&["watch"]);
    let mut all = Pty::start(&mut net, all, (40, 200));
    let watch = |net: &mut Net, name: &str, args: &[&str]| {
        let command = net.mef_command(&[&["watch"], args].concat());
        net.start(name, command);
    };
    watch(&mut net, "bans", &["--kind", "ban,unban"]);
    watch(&mut net, "app", &["--rule=app", "--json"]);
    watch(&mut net, "lists", &["--kind", "allow,disallow,deny,undeny,load,unload"]);
    wait_until("readers", || net.mef(&["status", "--json"]).shown().contains("\"watchers\":4"));
    net.append(LOG, "Nov 22 08:00:01 host sshd[130]: Invalid user x from 203.0.113.7 port 1\n");
    net.append(LOG, fails("203.0.113.7", 2));
    net.mark(LOG);
    net.mef(&["unban", "203.0.113.7"]).ok();
    net.mef(&["deny", "198.51.100.0/24"]).ok();
    net.mef(&["undeny", "198.51.100.0/24"]).ok();
    net.mef(&["allow", "192.0.2.7", "192.0.2.9"]).ok();
    net.mef(&["disallow", "192.0.2.7"]).ok();
    net.write("good.rules", "policy dir=in action=accept\n");
    net.mef(&["load", net.path("good.rules").to_str().unwrap()]).ok();
    net.mef(&["unload"]).ok();
    let screen = all.wait(" unload");
    // What the mark is for comes when it comes.
    let of_interest = screen.lines().filter(|line| !line.contains("rule=mark"));
    let kinds: Vec<&str> = of_interest.map(|line| line.split(' ').nth(1).unwrap()).collect();
    // The second of three lines is about the attempt that the first one has counted.
    let want = ["hit", "line", "hit", "ban", "unban", "deny", "undeny"];
    assert_eq!(kinds[..7], want, "{screen}");
    assert_eq!(kinds[7..], ["allow", "allow", "disallow", "load", "unload"], "{screen}");
    assert!(
        screen.contains(" line 203.0.113.7 rule=app weight=0") && screen.contains(" deny 198.51.100.0/24")
    );
    for (kind, colour) in [("line", "2"), ("hit", "33"), ("ban", "1;31"), ("unban", "32"), ("deny", "1")] {
        let is_painted =
            |line: &str| line.starts_with(&format!("\u{1b}[{colour}m")) && line.ends_with("\u{1b}[0m");
        let mut of_kind = all.written.lines().filter(|l| l.contains(&format!(" {kind} "))).peekable();
        assert!(of_kind.peek().is_some() && of_kind.all(|line| is_painted(line.trim_end())), "{kind}");
    }
    let words = |net: &Net, name: &str| -> Vec<String> {
        net.said(name).lines().map(|line| line.split(' ').nth(1).unwrap_or(line).to_owned()).collect()
    };
    wait_until("the end", || words(&net, "lists").last().is_some_and(|last| last == "unload"));
    assert_eq!(words(&net, "bans"), ["ban", "ban", "unban"]);
    assert_eq!(words(&net, "lists"), ["deny", "undeny", "allow", "allow", "disallow", "load", "unload"]);
    let app = net.said("app");
    assert!(app.lines().count() == 4 && app.lines().all(|line| line.contains("\"rule\":\"app\"")), "{app}");
    let wrong = net.mef(&["watch", "--kind", "ban,bang"]);
    assert!(wrong.status == 2 && wrong.stderr.contains("'bang'"), "{}", wrong.stderr);
}
