#![forbid(unsafe_code)]
//! `mef watch`: the events of the daemon, as they come.

use super::answer::DaemonAnswer;
use super::args::parse;
use super::columns::{Colours, colours};
use super::context::{needed_daemon, settings};
use super::output::{Output, OutputError};
use crate::base::json::Object;
use crate::control::client::Patience;
use crate::control::proto::{CHANGES, Request};
use argh::FromArgs;

/// Follow the events of the daemon: hits, bans, unbans, changes of lists and rules, one per line.
#[derive(FromArgs)]
#[argh(
    help_triggers("-h", "--help"),
    note = "Kinds: hit, line (accompanies others and counts nothing), ban, unban, throttle, new, lookup, \
        reload,\nallow, disallow, deny, undeny, load, unload, confirm, rollback. User names are what \
        attackers choose:\ncontrol characters in them are shown as \\\\xNN. A line 'lost N' counts events \
        that came faster than they were read.\nColours only on a terminal, and without NO_COLOR.",
    example = "mef watch\n  mef watch --kind ban,unban --rule sshd\n  mef watch --json"
)]
struct WatchArgs {
    /// only events of this service rule, manual for bans by hand; those of no rule, as unban, are left out
    #[argh(option, arg_name = "name")]
    rule: Option<String>,
    /// only these kinds of events
    #[argh(option, arg_name = "list")]
    kind: Option<String>,
    /// one JSON object per line
    #[argh(switch)]
    json: bool,
    /// path to mef.conf
    #[argh(option, arg_name = "file")]
    config: Option<String>,
}

pub(super) fn run(args: &[&str], output: &mut Output<'_>) -> Result<(), OutputError> {
    let args: WatchArgs = parse("watch", args)?;
    let kinds: Vec<&str> = args.kind.iter().flat_map(|list| list.split(',')).collect();
    let is_kind = |word: &str| KINDS.iter().any(|(kind, _)| *kind == word) || CHANGES.contains(&word);
    if let Some(unknown) = kinds.iter().find(|word| !is_kind(word)) {
        let unknown = crate::base::line::shown(unknown);
        return Err(OutputError::Usage(format!(
            "--kind: unknown kind '{unknown}'; `mef watch --help` lists them"
        )));
    }
    let settings = settings(args.config.as_deref(), output);
    let failed = |e| OutputError::Failed(format!("the daemon: {e}"));
    let mut daemon = needed_daemon(&settings)?;
    // One that stands still has no events for ever: it must answer first.
    DaemonAnswer::get(&mut daemon, &Request::Status).map_err(failed)?;
    daemon.notify(&Request::Watch).map_err(failed)?;
    let (mut written, colours) = (Ok(()), colours());
    daemon
        .lines(Patience::Endless, &mut |line| {
            let kind = kind(line);
            // What was missed is told whatever was asked for.
            let is_wanted = kind == "lost"
                || (kinds.is_empty() || kinds.contains(&kind))
                    && args.rule.as_deref().is_none_or(|name| rule(line) == Some(name));
            if is_wanted {
                written = if args.json {
                    writeln!(output.out, "{}", json(line))
                } else {
                    let (on, off) = if colours == Colours::On { (colour(kind), "\x1b[0m") } else { ("", "") };
                    writeln!(output.out, "{on}{line}{off}")
                }
                .and_then(|()| output.out.flush());
            }
            written.is_ok()
        })
        .map_err(failed)?;
    written?;
    output.note(&"the daemon has stopped");
    Ok(())
}

/// Kinds of events beside those of commands, each with its colour.
const KINDS: [(&str, &str); 8] = [
    ("hit", "\x1b[33m"),
    ("line", "\x1b[2m"),
    ("ban", "\x1b[1;31m"),
    ("unban", "\x1b[32m"),
    ("throttle", "\x1b[35m"),
    ("new", "\x1b[36m"),
    ("lookup", "\x1b[34m"),
    ("reload", OTHER),
];
/// Colour of what commands do.
const OTHER: &str = "\x1b[1m";

fn colour(kind: &str) -> &'static str {
    KINDS.iter().find(|(known, _)| *known == kind).map_or(OTHER, |(_, colour)| colour)
}

/// The kind of an event.
fn kind(line: &str) -> &str {
    let mut words = line.split(' ');
    match words.next() {
        Some("lost") => "lost",
        _ => words.next().unwrap_or(""),
    }
}

/// The service rule of an event: `TIME EVENT ADDR rule=NAME`. What a user is called comes behind it.
fn rule(line: &str) -> Option<&str> {
    line.split(' ').nth(3)?.strip_prefix("rule=")
}

/// `TIME EVENT [ADDR] NAME=VALUE…`; the value of `user` or `reason`, the last one, may hold blanks.
fn json(line: &str) -> String {
    // A line of a hit may have a user who is called anything, that of a ban may have a reason, and no other
    // text.
    let name = if matches!(kind(line), "hit" | "line") { "user" } else { "reason" };
    let (head, text) = match line.split_once(&[" ", name, "="].concat()) {
        Some((head, text)) => (head, Some(text)),
        None => (line, None),
    };
    let mut words = head.split(' ');
    let mut object = Object::new();
    match (words.next().unwrap_or(""), words.next().unwrap_or("")) {
        ("lost", count) => object = object.text("event", "lost").number("count", count.parse().ok()),
        (time, event) => object = object.text("time", time).text("event", event),
    }
    for word in words {
        object = match word.split_once('=') {
            None => object.text("address", word),
            // A rule may be called 7, and one port is a list of ports.
            Some((name, value)) => match value.parse::<u64>() {
                Ok(number) if !matches!(name, "rule" | "ports") => object.number(name, number),
                _ => object.text(name, value),
            },
        };
    }
    if text.is_some() {
        object = object.text(name, text);
    }
    object.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_become_objects() {
        for (line, want) in [
            ("T reload", r#"{"time":"T","event":"reload"}"#),
            ("lost 7", r#"{"event":"lost","count":7}"#),
            (
                "T ban 192.0.2.1 rule=7 hits=5 for=permanent ports=22",
                r#"{"time":"T","event":"ban","address":"192.0.2.1","rule":"7","hits":5,"for":"permanent","ports":"22"}"#,
            ),
            (
                "T ban 192.0.2.1 rule=a hits=5 bans=1 reason=path-scan: 404 for 30 distinct paths in 60 s",
                r#"{"time":"T","event":"ban","address":"192.0.2.1","rule":"a","hits":5,"bans":1,"reason":"path-scan: 404 for 30 distinct paths in 60 s"}"#,
            ),
            ("T deny 192.0.2.0/24", r#"{"time":"T","event":"deny","address":"192.0.2.0/24"}"#),
            (
                "T line 192.0.2.1 rule=a weight=0 user=x reason=y",
                r#"{"time":"T","event":"line","address":"192.0.2.1","rule":"a","weight":0,"user":"x reason=y"}"#,
            ),
            (
                "T hit 192.0.2.1 rule=a weight=1 user=x rule=b \"",
                r#"{"time":"T","event":"hit","address":"192.0.2.1","rule":"a","weight":1,"user":"x rule=b \""}"#,
            ),
        ] {
            assert_eq!(json(line), want);
        }
    }

    #[test]
    fn rules_are_those_of_the_daemon_and_no_words_of_users() {
        for (line, want) in [
            ("T hit 192.0.2.1 rule=a weight=1 user=x rule=b", Some("a")),
            ("T ban 192.0.2.1 rule=manual hits=0 for=60", Some("manual")),
            ("T new 192.0.2.1 port=22", None),
            ("T reload", None),
            ("lost 7", None),
        ] {
            assert_eq!(rule(line), want, "{line}");
        }
        assert_eq!(
            [kind("lost 7"), kind("T reload"), kind("T hit x"), kind("")],
            ["lost", "reload", "hit", ""]
        );
    }
}
