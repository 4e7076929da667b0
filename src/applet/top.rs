#![forbid(unsafe_code)]
//! `mef top`: who is near to a ban and what the rules do, asked from the daemon every second.

use super::answer::DaemonAnswer;
use super::args::parse;
use super::bans::about;
use super::context::{daemon_of, settings};
use super::output::{Output, OutputError};
use super::status::rules;
use super::watch::NO_DAEMON;
use crate::base::count::count;
use crate::control::proto::{OffenderLine, Request};
use crate::sys::stdio;
use crate::sys::terminal::Screen;
use argh::FromArgs;
use std::io::{self, Write};

/// Milliseconds between two looks.
const PAUSE: u16 = 1000;
/// To the first place of the screen; from there to its end, and to the end of the line, nothing.
const HOME: &str = "\x1b[H";
const CLEAR: &str = "\x1b[J";
const CLEAR_LINE: &str = "\x1b[K";

/// Watch offenders, rules and bans, live.
#[derive(FromArgs)]
#[argh(
    help_triggers("-h", "--help"),
    note = "q ends it. The daemon is asked only while this runs. NO_COLOR in the environment: without bold \
        type.",
    example = "mef top\n  mef top --once"
)]
struct TopArgs {
    /// show it once and end
    #[argh(switch)]
    once: bool,
    /// path to mef.conf
    #[argh(option, arg_name = "file")]
    config: Option<String>,
}

pub(super) fn run(args: &[&str], output: &mut Output<'_>) -> Result<(), OutputError> {
    let args: TopArgs = parse("top", args)?;
    let settings = settings(args.config.as_deref(), output);
    let once = args.once || !stdio::is_terminal();
    let mut screen = if once { None } else { Screen::open() };
    let bold = screen.is_some() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    loop {
        let answer = match daemon_of(&settings, output) {
            Some(mut daemon) => DaemonAnswer::get(&mut daemon, &Request::Top)
                .map_err(|e| OutputError::Failed(format!("the daemon does not answer: {e}")))?,
            None => None,
        };
        let Some(answer) = answer else { return Err(OutputError::Failed(NO_DAEMON.into())) };
        let mut text = Vec::new();
        draw(&mut text, &answer)?;
        let Some(screen) = &mut screen else { return Ok(output.out.write_all(&text)?) };
        show(output.out, &text, screen.lines(), bold)?;
        match screen.key(PAUSE) {
            None => {}
            // q, Ctrl-C, Ctrl-D, or no terminal any more.
            Some(b'q' | 3 | 4 | 0) => return Ok(writeln!(output.out)?),
            Some(_) => {}
        }
    }
}

fn draw(out: &mut dyn Write, answer: &DaemonAnswer) -> io::Result<()> {
    let fact = |name| answer.fact(name);
    writeln!(
        out,
        "{}, {}, {} ({} in the last minute), {} of {} offenders tracked",
        count(fact("lines"), "line"),
        count(fact("hits"), "hit"),
        count(fact("bans"), "ban"),
        fact("bans_a_minute"),
        fact("tracked"),
        fact("track_max")
    )?;
    writeln!(out, "\n{:<40}  {:<16}  {:>11}  {:>9}", "OFFENDER", "RULE", "HITS", "LAST")?;
    for line in &answer.offenders {
        let Some(OffenderLine { addr, rule, hits, maxretry, age }) = OffenderLine::read(line) else {
            continue;
        };
        let hits = format!("{hits} of {maxretry}");
        writeln!(out, "{addr:<40}  {rule:<16}  {hits:>11}  {:>9}", about(age) + " ago")?;
    }
    writeln!(out)?;
    rules(out, answer)
}

/// Writes over what was there, without a flicker; what does not fit the screen is left out.
fn show(out: &mut dyn Write, text: &[u8], lines: usize, bold: bool) -> io::Result<()> {
    out.write_all(HOME.as_bytes())?;
    for (at, line) in text.split(|&b| b == b'\n').take(lines.saturating_sub(1)).enumerate() {
        if at > 0 {
            out.write_all(b"\n")?;
        }
        let head = bold && (line.starts_with(b"OFFENDER") || line.starts_with(b"RULE"));
        out.write_all(if head { b"\x1b[1m" } else { b"" })?;
        out.write_all(line)?;
        out.write_all(if head { b"\x1b[0m" } else { b"" })?;
        out.write_all(CLEAR_LINE.as_bytes())?;
    }
    out.write_all(CLEAR.as_bytes())?;
    out.flush()
}
