#![forbid(unsafe_code)]
//! The command surface: one table from which dispatch and `--help` are made. An applet parses its arguments
//! and calls the library; it has no logic of its own.

mod allow;
mod answer;
mod args;
mod ban;
mod bans;
mod check;
mod cloud;
mod columns;
mod context;
mod daemon;
mod diff;
mod export;
mod fmt;
mod history;
mod import_filter;
mod lists;
mod load;
mod lookup;
mod mefctl;
mod migrate;
mod output;
mod reload;
mod report;
mod rules;
mod setup;
mod status;
mod synonyms;
mod target;
mod test;
mod top;
mod unban;
mod version;
mod watch;
mod why;

use crate::base::build_part::BuildPart;
use crate::sys::stdio;
use output::{Output, OutputError, required, say};
use std::io;

/// What a command is.
type Run = fn(&[&str], &mut Output<'_>) -> Result<(), OutputError>;

/// A command.
struct Applet {
    name: &'static str,
    about: &'static str,
    run: Run,
    /// What it is a part of, if a build may leave it out.
    part: Option<BuildPart>,
}

/// A row of the table.
const fn row(name: &'static str, about: &'static str, run: Run) -> Applet {
    Applet { name, about, run, part: None }
}

impl Applet {
    /// The row of a command that a build may leave out: then nothing of it is in the program but its name.
    const fn of(self, part: BuildPart) -> Applet {
        let run = if part.is_in() { self.run } else { absent };
        Applet { run, part: Some(part), ..self }
    }

    fn is_in(&self) -> bool {
        self.part.is_none_or(BuildPart::is_in)
    }

    fn run(&self, args: &[&str], output: &mut Output<'_>) -> Result<(), OutputError> {
        self.part.map_or(Ok(()), required)?;
        (self.run)(args, output)
    }
}

/// In the place of a command that is not in the program; `Applet::run` says so instead.
fn absent(_: &[&str], _: &mut Output<'_>) -> Result<(), OutputError> {
    Err(OutputError::Told)
}

/// Every command, in the order in which help shows them.
const APPLETS: &[Applet] = &[
    row("ban", "ban addresses, networks or ranges", ban::run),
    row("unban", "end bans", unban::run),
    row("bans", "list the bans in force", bans::run),
    row("why", "say what becomes of an address, and why", why::run).of(BuildPart::Why),
    row("history", "list the bans and unbans of the past", history::run),
    row("report", "count the bans of the past: by day, rule, network and address", report::run)
        .of(BuildPart::Report),
    row("allow", "put addresses on the allow list", allow::allow),
    row("disallow", "take addresses off the allow list", allow::disallow),
    row("deny", "put addresses on the deny list", allow::deny),
    row("undeny", "take addresses off the deny list", allow::undeny),
    row("lists", "show what is in the allow and deny lists", lists::run),
    row("daemon", "watch the logs and ban abusers", daemon::run),
    row("reload", "make the daemon read its configuration again", reload::run),
    row("status", "show what runs, what was counted and what is in force", status::run),
    row("top", "watch offenders and rules, live", top::run).of(BuildPart::Top),
    row("watch", "follow the daemon's events: hits, bans, unbans", watch::run),
    row("lookup", "ask DNSBLs about an address", lookup::run),
    row("rules", "list the service rules, or show one as it is in force", rules::run),
    row("test", "run a service rule over a log and show what it would do", test::run).of(BuildPart::Test),
    row("load", "put the rule set into the kernel", load::load),
    row("confirm", "keep the rules that load --confirm has loaded", load::confirm),
    row("unload", "take the rule set out of the kernel", load::unload),
    row("check", "check rule set, configuration and service rules", check::run),
    row("fmt", "show a rule set in canonical form", fmt::run),
    row("diff", "show what loading the rule set would change", diff::run).of(BuildPart::Export),
    row("export", "show any program's rules as a rule set", export::run).of(BuildPart::Export),
    row("cloud", "share bans with others, or run the list of a community", cloud::run).of(BuildPart::Cloud),
    row("setup", "install mef on this host, or remove it", setup::run),
    row("migrate", "take over the configuration of fail2ban, CSF or ufw", migrate::run)
        .of(BuildPart::Migrate),
    row("import-filter", "make a service rule of a filter of fail2ban", import_filter::run)
        .of(BuildPart::Migrate),
    row("version", "show version and licence", version::run),
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
        Err(OutputError::Output(e)) if e.kind() == io::ErrorKind::BrokenPipe => (output.problems > 0).into(),
        Err(OutputError::Output(e)) => fail(1, &format!("standard output: {e}")),
        Err(OutputError::Help(text)) => {
            let text = columns::wrapped(&text, columns::width());
            match output.out.write_all(text.as_bytes()).and_then(|()| output.out.flush()) {
                Err(e) if e.kind() != io::ErrorKind::BrokenPipe => fail(1, &format!("standard output: {e}")),
                _ => 0,
            }
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
        "mefctl" => {
            required(BuildPart::Mefctl)?;
            let call: &mefctl::MefctlCall<'_> = &|name, args, output| Some(find(name)?.run(args, output));
            return mefctl::run(rest, call, output);
        }
        "mefdaemon" => return daemon::called(rest, output),
        _ => {}
    }
    if let Some(applet) = called.strip_prefix("mef").and_then(find) {
        return applet.run(rest, output);
    }
    match rest.split_first() {
        None => Err(OutputError::Usage(help())),
        Some((&"help", words)) => about(words, output),
        Some((&("--help" | "-h"), _)) => Err(OutputError::Help(help())),
        Some((&("--version" | "-V"), _)) => version::run(&[], output),
        Some((name, rest)) => match find(name) {
            Some(applet) => applet.run(rest, output),
            None => Err(OutputError::Usage(unknown(name))),
        },
    }
}

/// Exact names only: a link called `xban` is an error, never a guess.
fn find(name: &str) -> Option<&'static Applet> {
    APPLETS.iter().find(|a| a.name == name)
}

/// What is said of words: the help of one command, or the commands that have to do with them.
fn about(words: &[&str], output: &mut Output<'_>) -> Result<(), OutputError> {
    let word = match *words {
        [] | ["" | "help"] => return Err(OutputError::Help(help())),
        [name] if find(name).is_some() => return dispatch(&["mef", name, "--help"], output),
        _ => words.join(" ").to_ascii_lowercase(),
    };
    let has = |applet: &&Applet| {
        let is_in_line = [applet.name, applet.about].join(" ").to_ascii_lowercase().contains(&word);
        is_in_line || synonyms::is_called(applet.name, &word)
    };
    let text: String = APPLETS.iter().filter(|a| a.is_in()).filter(has).map(line).collect();
    if text.is_empty() { Err(OutputError::Usage(unknown(&word))) } else { Err(OutputError::Help(text)) }
}

fn line(applet: &Applet) -> String {
    format!("  {:<14}{}\n", applet.name, applet.about)
}

fn unknown(name: &str) -> String {
    let word = name.to_ascii_lowercase();
    let commands = || APPLETS.iter().filter(|a| a.is_in()).map(|a| a.name);
    // A word of another program is no slip of the fingers, however near it is to a name.
    let mut meant: Vec<&str> = commands().filter(|command| synonyms::is_called(command, &word)).collect();
    if meant.is_empty() {
        meant.extend(crate::base::diag::suggest(&word, commands()));
    }
    let meant = match meant.is_empty() {
        true => String::new(),
        false => format!(", did you mean '{}'?", meant.join("' or '")),
    };
    format!("unknown command '{}'{meant}\n`mef help` lists them", crate::base::line::shown(name))
}

fn help() -> String {
    let mut text = String::from(
        "mef protects a Linux host on the internet: rules and bans in nftables\n\nUsage: mef COMMAND …\n\n",
    );
    for applet in APPLETS.iter().filter(|a| a.is_in()) {
        text.push_str(&line(applet));
    }
    text.push_str("\n`mef COMMAND --help` has details and examples. Exit status: 0 done, 1 failed\n");
    text.push_str("or something was found wrong, 2 wrong usage.\n");
    let missing: Vec<&str> = BuildPart::left_out().map(BuildPart::name).collect();
    if !missing.is_empty() {
        text.push_str(&["This mef was built without: ", &missing.join(", "), ".\n"].concat());
    }
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
