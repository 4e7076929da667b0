#![forbid(unsafe_code)]
//! The command surface: one table from which dispatch and `--help` are made. An applet parses its arguments
//! and calls the library; it has no logic of its own.

mod allow;
mod answer;
mod args;
mod ban;
mod bans;
mod check;
#[cfg(feature = "operator")]
mod cloud;
#[cfg(not(feature = "operator"))]
#[path = "cloud_member.rs"]
mod cloud;
mod columns;
mod context;
mod daemon;
mod diff;
mod export;
mod fmt;
mod history;
#[cfg(feature = "migrate")]
mod import_filter;
mod lists;
mod load;
mod lookup;
mod mefctl;
#[cfg(feature = "migrate")]
mod migrate;
mod output;
mod reload;
mod report;
mod rules;
mod setup;
mod status;
mod target;
mod test;
mod top;
mod unban;
mod version;
mod watch;
mod why;

use crate::sys::stdio;
use output::{Output, OutputError, say};
use std::io;

/// A command.
struct Applet {
    name: &'static str,
    about: &'static str,
    run: fn(&[&str], &mut Output<'_>) -> Result<(), OutputError>,
}

/// Every command, in the order in which help shows them.
const APPLETS: &[Applet] = &[
    Applet { name: "ban", about: "ban addresses, networks or ranges", run: ban::run },
    Applet { name: "unban", about: "end bans", run: unban::run },
    Applet { name: "bans", about: "list the bans in force", run: bans::run },
    Applet { name: "why", about: "say what becomes of an address, and why", run: why::run },
    Applet { name: "history", about: "list the bans and unbans of the past", run: history::run },
    Applet {
        name: "report",
        about: "count the bans of the past: by day, rule, network and address",
        run: report::run,
    },
    Applet { name: "allow", about: "put addresses on the allow list", run: allow::allow },
    Applet { name: "disallow", about: "take addresses off the allow list", run: allow::disallow },
    Applet { name: "deny", about: "put addresses on the deny list", run: allow::deny },
    Applet { name: "undeny", about: "take addresses off the deny list", run: allow::undeny },
    Applet { name: "lists", about: "show what is in the allow and deny lists", run: lists::run },
    Applet { name: "daemon", about: "watch the logs and ban abusers", run: daemon::run },
    Applet { name: "reload", about: "make the daemon read its configuration again", run: reload::run },
    Applet {
        name: "status",
        about: "show what runs, what was counted and what is in force",
        run: status::run,
    },
    Applet { name: "top", about: "watch offenders and rules, live", run: top::run },
    Applet { name: "watch", about: "follow the daemon's events: hits, bans, unbans", run: watch::run },
    Applet { name: "lookup", about: "ask DNSBLs about an address", run: lookup::run },
    Applet { name: "rules", about: "list the service rules, or show one as it is in force", run: rules::run },
    Applet { name: "test", about: "run a service rule over a log and show what it would do", run: test::run },
    Applet { name: "load", about: "put the rule set into the kernel", run: load::load },
    Applet { name: "confirm", about: "keep the rules that load --confirm has loaded", run: load::confirm },
    Applet { name: "unload", about: "take the rule set out of the kernel", run: load::unload },
    Applet { name: "check", about: "check rule set, configuration and service rules", run: check::run },
    Applet { name: "fmt", about: "show a rule set in canonical form", run: fmt::run },
    Applet { name: "diff", about: "show what loading the rule set would change", run: diff::run },
    Applet { name: "export", about: "show any program's rules as a rule set", run: export::run },
    Applet {
        name: "cloud",
        about: "share bans with others, or run the list of a community",
        run: cloud::run,
    },
    Applet { name: "setup", about: "install mef on this host, or remove it", run: setup::run },
    #[cfg(feature = "migrate")]
    Applet {
        name: "migrate",
        about: "take over the configuration of fail2ban, CSF or ufw",
        run: migrate::run,
    },
    #[cfg(feature = "migrate")]
    Applet {
        name: "import-filter",
        about: "make a service rule of a filter of fail2ban",
        run: import_filter::run,
    },
    Applet { name: "version", about: "show version and licence", run: version::run },
];

/// Runs the command that the arguments name, the program's name first. Returns the exit status.
#[must_use]
pub fn main(args: &[String]) -> u8 {
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let mut stdout = stdio::stdout();
    let mut output = Output { out: &mut stdout, problems: 0 };
    let result = dispatch(&args, &mut output);
    let result = result.and(output.out.flush().map_err(OutputError::Output));
    match result {
        Ok(()) => 0,
        // Whoever reads our output has seen enough.
        Err(OutputError::Output(e)) if e.kind() == io::ErrorKind::BrokenPipe => 0,
        Err(OutputError::Output(e)) => fail(1, &format!("standard output: {e}")),
        Err(OutputError::Help(text)) => {
            let _ = output.out.write_all(text.as_bytes()).and_then(|()| output.out.flush());
            0
        }
        Err(OutputError::Usage(text)) => fail(2, text.trim_end()),
        Err(OutputError::Failed(text)) => fail(1, &text),
        Err(OutputError::Told) => {
            let _ = output.out.flush();
            1
        }
        Err(OutputError::Status(status)) => {
            let _ = output.out.flush();
            status
        }
    }
}

fn fail(status: u8, text: &str) -> u8 {
    say(&text);
    status
}

fn dispatch(args: &[&str], output: &mut Output<'_>) -> Result<(), OutputError> {
    let called = args.first().map_or("mef", |path| path.rsplit('/').next().unwrap_or(path));
    let rest = args.get(1..).unwrap_or_default();
    match called {
        "mefctl" => return mefctl::run(rest, &|name| find(name).map(|applet| applet.run), output),
        "mefdaemon" => return daemon::called(rest, output),
        _ => {}
    }
    if let Some(applet) = called.strip_prefix("mef").and_then(find) {
        return (applet.run)(rest, output);
    }
    match rest.split_first() {
        None => Err(OutputError::Usage(help())),
        Some((&"help", [name, ..])) if find(name).is_some() => dispatch(&["mef", name, "--help"], output),
        Some((&"help", [word, ..])) => about(word),
        Some((&("help" | "--help" | "-h"), _)) => Err(OutputError::Help(help())),
        Some((&("--version" | "-V"), _)) => version::run(&[], output),
        Some((name, rest)) => match find(name) {
            Some(applet) => (applet.run)(rest, output),
            None => Err(OutputError::Usage(unknown(name))),
        },
    }
}

/// Exact names only: a link called `xban` is an error, never a guess.
fn find(name: &str) -> Option<&'static Applet> {
    APPLETS.iter().find(|a| a.name == name)
}

/// The commands that have to do with a word which is none.
fn about(word: &str) -> Result<(), OutputError> {
    let word = word.to_ascii_lowercase();
    let has = |applet: &&Applet| [applet.name, applet.about].join(" ").to_ascii_lowercase().contains(&word);
    let text: String = APPLETS.iter().filter(has).map(line).collect();
    if text.is_empty() { Err(OutputError::Usage(unknown(&word))) } else { Err(OutputError::Help(text)) }
}

fn line(applet: &Applet) -> String {
    format!("  {:<14}{}\n", applet.name, applet.about)
}

fn unknown(name: &str) -> String {
    let meant = crate::base::diag::suggest(name, APPLETS.iter().map(|a| a.name));
    let meant = meant.map(|m| format!(", did you mean '{m}'?")).unwrap_or_default();
    format!("unknown command '{}'{meant}\n`mef help` lists them", crate::base::line::shown(name))
}

fn help() -> String {
    let mut text = String::from(
        "mef protects a Linux host on the internet: rules and bans in nftables\n\nUsage: mef COMMAND …\n\n",
    );
    for applet in APPLETS {
        text.push_str(&line(applet));
    }
    text.push_str(
        "\n`mef COMMAND --help` has details and examples. Exit status: 0 done, 1 failed or something\n",
    );
    text.push_str("was found wrong, 2 wrong usage.\n");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_has_no_name_twice_and_no_entry_without_words() {
        for (i, a) in APPLETS.iter().enumerate() {
            assert!(
                !a.about.is_empty() && a.name.bytes().all(|b| b.is_ascii_lowercase() || b == b'-'),
                "{}",
                a.name
            );
            assert!(APPLETS.iter().skip(i + 1).all(|b| b.name != a.name), "{} twice", a.name);
        }
        assert!(find("xban").is_none() && find("").is_none());
    }
}
