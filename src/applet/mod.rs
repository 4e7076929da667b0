#![forbid(unsafe_code)]
//! The command surface: one table from which dispatch and `--help` are made. An applet parses its arguments
//! and calls the library; it has no logic of its own.

mod allow;
mod ban;
mod bans;
mod check;
mod daemon;
mod diff;
mod export;
mod fmt;
mod lists;
mod load;
mod selftest;
mod status;
mod target;
mod test;
mod top;
mod unban;
mod version;
mod watch;

use crate::control::client::Client;
use crate::sys::{fs, stdio};
use argh::FromArgs;
use std::io::{self, Write};
use std::path::Path;

/// A command.
struct Applet {
    name: &'static str,
    about: &'static str,
    run: fn(&[&str], &mut Output<'_>) -> Result<(), Error>,
}

/// Every command, in the order in which help shows them.
const APPLETS: &[Applet] = &[
    Applet { name: "ban", about: "ban addresses, networks or ranges", run: ban::run },
    Applet { name: "unban", about: "end bans", run: unban::run },
    Applet { name: "bans", about: "list the bans in force", run: bans::run },
    Applet { name: "allow", about: "put addresses on the allow list", run: allow::allow },
    Applet { name: "disallow", about: "take addresses off the allow list", run: allow::disallow },
    Applet { name: "deny", about: "put addresses on the deny list", run: allow::deny },
    Applet { name: "undeny", about: "take addresses off the deny list", run: allow::undeny },
    Applet { name: "lists", about: "show what is in the allow and deny lists", run: lists::run },
    Applet { name: "daemon", about: "watch the logs and ban who abuses a service", run: daemon::run },
    Applet {
        name: "status",
        about: "show what runs, what was counted and what is in force",
        run: status::run,
    },
    Applet { name: "top", about: "watch offenders and rules, live", run: top::run },
    Applet { name: "watch", about: "follow the daemon's events: hits, bans, unbans", run: watch::run },
    Applet { name: "test", about: "run a service rule over a log and show what it would do", run: test::run },
    Applet { name: "load", about: "put the rule set into the kernel", run: load::load },
    Applet { name: "confirm", about: "keep the rules that load --confirm put on trial", run: load::confirm },
    Applet { name: "unload", about: "take the rule set out of the kernel", run: load::unload },
    Applet { name: "check", about: "check rule set, configuration and service rules", run: check::run },
    Applet { name: "fmt", about: "show a rule set in canonical form", run: fmt::run },
    Applet { name: "diff", about: "show what loading the rule set would change", run: diff::run },
    Applet { name: "export", about: "show rules of the kernel, anybody's, as a rule set", run: export::run },
    Applet { name: "version", about: "show version and licence", run: version::run },
];

/// How a command ended, if it did not simply end well.
enum Error {
    /// Exit status 2, the text on standard error.
    Usage(String),
    /// Exit status 0, the text on standard output.
    Help(String),
    /// Exit status 1, the text on standard error.
    Failed(String),
    /// Exit status 1; everything has been said.
    Told,
    /// Another exit status; everything has been said.
    Status(u8),
    /// Standard output cannot be written.
    Output(io::Error),
}

impl From<io::Error> for Error {
    fn from(e: io::Error) -> Self {
        Error::Output(e)
    }
}

/// Where results go, and how many problems were told on the way.
struct Output<'a> {
    out: &'a mut dyn Write,
    problems: u32,
}

impl Output<'_> {
    /// Tells a problem on standard error; the command goes on and ends with status 1.
    fn problem(&mut self, text: &dyn std::fmt::Display) {
        self.problems += 1;
        let _ = self.out.flush();
        say(text);
    }

    /// Tells something on standard error that is no failure.
    fn note(&mut self, text: &dyn std::fmt::Display) {
        let _ = self.out.flush();
        say(text);
    }

    /// Shows text that is complete in itself on standard error.
    fn raw(&mut self, text: &str) {
        let _ = self.out.flush();
        let _ = stdio::stderr().write_all(text.as_bytes());
    }

    /// Status 1 if anything was told.
    fn end(&self) -> Result<(), Error> {
        if self.problems == 0 { Ok(()) } else { Err(Error::Told) }
    }
}

/// Runs the command that the arguments name, the program's name first. Returns the exit status.
#[must_use]
pub fn main(args: &[String]) -> u8 {
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let mut stdout = stdio::stdout();
    let mut output = Output { out: &mut stdout, problems: 0 };
    let result = dispatch(&args, &mut output);
    let result = result.and(output.out.flush().map_err(Error::Output));
    match result {
        Ok(()) => 0,
        // Whoever reads our output has seen enough.
        Err(Error::Output(e)) if e.kind() == io::ErrorKind::BrokenPipe => 0,
        Err(Error::Output(e)) => fail(1, &format!("standard output: {e}")),
        Err(Error::Help(text)) => {
            let _ = output.out.write_all(text.as_bytes()).and_then(|()| output.out.flush());
            0
        }
        Err(Error::Usage(text)) => fail(2, text.trim_end()),
        Err(Error::Failed(text)) => fail(1, &text),
        Err(Error::Told) => {
            let _ = output.out.flush();
            1
        }
        Err(Error::Status(status)) => {
            let _ = output.out.flush();
            status
        }
    }
}

/// One message on standard error. Nobody may be reading it any more: that is no reason to die, as `eprintln`
/// would.
fn say(text: &dyn std::fmt::Display) {
    let text = format!("mef: {text}\n");
    let _ = stdio::stderr().write_all(text.as_bytes());
}

fn fail(status: u8, text: &str) -> u8 {
    say(&text);
    status
}

fn dispatch(args: &[&str], output: &mut Output<'_>) -> Result<(), Error> {
    let called = args.first().map_or("mef", |path| path.rsplit('/').next().unwrap_or(path));
    let rest = args.get(1..).unwrap_or_default();
    if let Some(applet) = called.strip_prefix("mef").and_then(find) {
        return (applet.run)(rest, output);
    }
    match rest.split_first() {
        None => Err(Error::Usage(help())),
        Some((&"help", [name, ..])) if find(name).is_some() => dispatch(&["mef", name, "--help"], output),
        Some((&("help" | "--help" | "-h"), _)) => Err(Error::Help(help())),
        Some((&("--version" | "-V"), _)) => version::run(&[], output),
        Some((name, rest)) => match find(name) {
            Some(applet) => (applet.run)(rest, output),
            None => Err(Error::Usage(unknown(name))),
        },
    }
}

/// Exact names only: a link called `xban` is an error, never a guess.
fn find(name: &str) -> Option<&'static Applet> {
    APPLETS.iter().find(|a| a.name == name)
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
        text.push_str(&format!("  {:<10}{}\n", applet.name, applet.about));
    }
    text.push_str(
        "\n`mef COMMAND --help` tells more, with examples. Exit status: 0 done, 1 failed or something\n",
    );
    text.push_str("was found wrong, 2 wrong usage.\n");
    text
}

/// What stands for `-` among the arguments: standard input.
const STDIN: &str = crate::rulefile::STDIN;

/// Reads a command's arguments.
fn parse<T: FromArgs>(name: &str, args: &[&str]) -> Result<T, Error> {
    T::from_args(&["mef", name], &stdin_named(args)).map_err(early)
}

/// Alone, `-` is standard input; argh takes everything with a dash for an option. Behind `--reason` it is a
/// text.
fn stdin_named<'a>(args: &[&'a str]) -> Vec<&'a str> {
    let mut named = args.to_vec();
    let mut before = "";
    for arg in &mut named {
        if *arg == "-" && before != "--reason" {
            *arg = STDIN;
        }
        before = arg;
    }
    named
}

fn early(early: argh::EarlyExit) -> Error {
    match early.status {
        Ok(()) => Error::Help(early.output),
        Err(()) => Error::Usage(early.output),
    }
}

/// Reads mef.conf alone, for commands that must work whatever stands in it.
fn settings(path: Option<&str>, output: &mut Output<'_>) -> crate::config::Settings {
    let file = path.unwrap_or(crate::config::DEFAULT_PATH);
    match fs::content(Path::new(file)) {
        Ok(text) => {
            let (settings, problems) = crate::config::parse_global(&text);
            let bad = problems.iter().filter(|p| p.severity == crate::base::diag::Severity::Error).count();
            if bad > 0 {
                output.note(&format_args!(
                    "{file} has errors, see `mef check`; what is wrong in it has its default"
                ));
            }
            settings
        }
        Err(e) => {
            if path.is_some() || e.kind() != io::ErrorKind::NotFound {
                output.note(&format_args!("{file}: {e}; using the defaults"));
            }
            crate::config::Settings::default()
        }
    }
}

/// Tells the daemon something, if there is one; it does without if it does not hear.
fn tell_daemon(settings: &crate::config::Settings, request: &crate::control::proto::Request<'_>) {
    if let Ok(Some(mut daemon)) = Client::connect(Path::new(&settings.run_dir)) {
        let _ = daemon.tell(request);
    }
}

/// The daemon, if it runs and can be reached.
fn daemon_of(settings: &crate::config::Settings, output: &mut Output<'_>) -> Option<Client> {
    Client::connect(Path::new(&settings.run_dir)).unwrap_or_else(|e| {
        output.note(&format_args!("{}: {e}; going on without the daemon", settings.run_dir));
        None
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_has_no_name_twice_and_no_entry_without_words() {
        for (i, a) in APPLETS.iter().enumerate() {
            assert!(!a.about.is_empty() && a.name.bytes().all(|b| b.is_ascii_lowercase()), "{}", a.name);
            assert!(APPLETS.iter().skip(i + 1).all(|b| b.name != a.name), "{} twice", a.name);
        }
        assert!(find("xban").is_none() && find("").is_none());
    }
}
