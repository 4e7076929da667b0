//! What commands show of names whose characters are wider than one column, or take none.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use crate::common;

use common::daemon::{LOG, fails, host};
use common::pty::Pty;
use common::wait_until;

/// A name of a user that takes twice as many columns as it has characters, and one of marks that take none.
const WIDE: [&str; 2] =
    ["漢字漢字漢字漢字漢字漢字漢字漢字漢字漢字漢字漢字漢字漢字漢字😀가", "e\u{301}e\u{301}e\u{301}"];

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn names_of_wide_characters_stay_on_their_lines() {
    // How much of a ban is left would be said in more or less words from one second to the next.
    let mut net = host("", "maxretry=5\nbantime=permanent");
    net.daemon("daemon");
    for (at, name) in (1..).zip(WIDE) {
        net.append(LOG, fails(&format!("203.0.113.{at}"), 5).replace("for root", &format!("for {name}")));
    }
    net.mark(LOG);
    // The report says since when there is a journal, once that is a second ago.
    wait_until("a second", || net.mef(&["report"]).stdout.contains(" has what happened since "));
    for size in [(20, 60), (24, 80)] {
        let command = net.mef_command(&["top"]);
        let mut top = Pty::start(&mut net, command, size);
        let screen = top.wait("q quit");
        let lines: Vec<&str> = screen.lines().collect();
        assert!(lines.len() == usize::from(size.0) && lines[0].starts_with("11 lines, 11 hits"), "{screen}");
        let rows: Vec<&str> = lines.iter().copied().filter(|line| line.starts_with("203.0.113.")).collect();
        assert!(rows.len() == 2 && rows.iter().all(|row| row.ends_with('…')), "{screen}");
        top.press("q");
        assert_eq!(net.wait(top.program), 0);
        for command in [&["bans"][..], &["history"], &["why", "203.0.113.1"], &["report"]] {
            let whole = net.mef(command).stdout;
            assert!(whole.contains(WIDE[0]), "{whole}");
            let one = net.mef_command(command);
            let mut shown = Pty::start(&mut net, one, (60, size.1));
            net.wait(shown.program);
            let screen = shown.screen();
            assert_eq!(
                screen.lines().count(),
                whole.lines().count(),
                "{command:?} {size:?}\n{screen}\n{whole}"
            );
        }
    }
}
