#![forbid(unsafe_code)]
//! `mef watch`: the events of the daemon, as they come.

use super::args::parse;
use super::context::{daemon_of, settings};
use super::output::{Output, OutputError};
use crate::base::json::Object;
use crate::control::proto::Request;
use argh::FromArgs;

/// Follow the events of the daemon: hits, bans, unbans and reloads, one per line.
#[derive(FromArgs)]
#[argh(
    help_triggers("-h", "--help"),
    note = "User names are what attackers choose: control characters in them are shown as \\\\xNN.\nA line \
        'lost N' counts events that came faster than they were read.",
    example = "mef watch\n  mef watch --json"
)]
struct WatchArgs {
    /// one JSON object per line
    #[argh(switch)]
    json: bool,
    /// path to mef.conf
    #[argh(option, arg_name = "file")]
    config: Option<String>,
}

pub(super) fn run(args: &[&str], output: &mut Output<'_>) -> Result<(), OutputError> {
    let args: WatchArgs = parse("watch", args)?;
    let settings = settings(args.config.as_deref(), output);
    let failed = |e| OutputError::Failed(format!("the daemon: {e}"));
    let Some(mut daemon) = daemon_of(&settings, output) else {
        return Err(OutputError::Failed(NO_DAEMON.into()));
    };
    daemon.notify(&Request::Watch).map_err(failed)?;
    let mut written = Ok(());
    daemon
        .lines(true, &mut |line| {
            let text = if args.json { json(line) } else { line.to_owned() };
            written = writeln!(output.out, "{text}").and_then(|()| output.out.flush());
            written.is_ok()
        })
        .map_err(failed)?;
    written?;
    output.note(&"the daemon has stopped");
    Ok(())
}

/// What a command says that needs the daemon.
pub(super) const NO_DAEMON: &str = "no daemon runs (mef daemon starts it)";

/// `TIME EVENT [ADDR] NAME=VALUE…`; the value of `user` or `reason`, the last one, may hold blanks.
fn json(line: &str) -> String {
    // A line of a hit may have a user who is called anything, that of a ban may have a reason, and no other
    // text.
    let name = if line.split(' ').nth(1) == Some("hit") { "user" } else { "reason" };
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
            (
                "T hit 192.0.2.1 rule=a weight=1 user=x rule=b \"",
                r#"{"time":"T","event":"hit","address":"192.0.2.1","rule":"a","weight":1,"user":"x rule=b \""}"#,
            ),
        ] {
            assert_eq!(json(line), want);
        }
    }
}
