//! The measuring half of `make bench`: makes logs and lists, and takes times where a shell is too slow to.
//! Every command prints bare numbers or lines for tests/bench/*.sh to lay out. It knows nothing of mef's
//! code: the peers are measured with the same means.

mod events;
mod genlog;
mod latency;
mod lists;
mod loading;
mod packets;
mod process;
mod random;

use std::process::ExitCode;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

const USAGE: &str = "usage:
  mef-bench log quiet|attack|mixed LINES [ADDRESSES]       a log, always the same, on standard output
  mef-bench list plain|nft|ipset COUNT [SET]         addresses, in the form that a program reads
  mef-bench networks plain|nft|ipset COUNT [SET]     likewise networks
  mef-bench loading -- PROGRAM...                    start of a daemon to its word that a deny list is in \
  force, in
                                                     microseconds; user and system time of all of it; the \
                                                     most memory of its second process, in kB
  mef-bench time [--runs N] [--fresh] [--before CMD] [--stdin FILE] [--stdout FILE] -- PROGRAM...
                                                     medians: wall, user and system time in microseconds
  mef-bench rss [--stdin FILE] -- PROGRAM...         the most memory it had, in kB
  mef-bench latency LOG [--bans N] [--lines N] [--pause MS] [--first N]
                                                     deciding line to element: median, 95 % in microseconds
  mef-bench rate LOG [--bans N] [--lines N] [--first N]
                                                     bans a second, from a log written at once
  mef-bench start LOG [--lines N] [--first N] -- PROGRAM...
                                                     start of a daemon to its first ban, in microseconds
  mef-bench packets syn|ack FROM TO [--count N] [--runs N]
                                                     bare packets: nanoseconds for each, received on the CPU \
                                                     that sends";

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    match run(&words) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("mef-bench: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(words: &[String]) -> Result<()> {
    let (command, rest) = words.split_first().ok_or(USAGE)?;
    let args = Args::parse(rest)?;
    match command.as_str() {
        "log" => genlog::write(args.word(0)?, args.number(1)?, args.number(2).unwrap_or(50_000)),
        "list" => lists::write(args.word(0)?, args.number(1)?, args.word(2).unwrap_or_default()),
        "networks" => lists::networks(args.word(0)?, args.number(1)?, args.word(2).unwrap_or_default()),
        "packets" => packets::packets(&args),
        "loading" => loading::loading(&args),
        "time" => process::time(&args),
        "rss" => process::rss(&args),
        "latency" => latency::latency(&args),
        "rate" => latency::rate(&args),
        "start" => latency::start(&args),
        _ => Err(USAGE.into()),
    }
}

/// The words of a command: options with a value, plain words, and behind `--` a program.
pub struct Args {
    options: Vec<(String, String)>,
    words: Vec<String>,
    /// The program with its arguments, empty if there is none.
    pub program: Vec<String>,
}

impl Args {
    fn parse(all: &[String]) -> Result<Args> {
        let mut args = Args { options: Vec::new(), words: Vec::new(), program: Vec::new() };
        let mut rest = all.iter();
        while let Some(word) = rest.next() {
            match word.strip_prefix("--") {
                Some("") => args.program = rest.by_ref().cloned().collect(),
                Some(name @ ("fresh" | "own")) => args.options.push((name.into(), String::new())),
                Some(name) => args.options.push((name.into(), rest.next().ok_or(USAGE)?.clone())),
                None => args.words.push(word.clone()),
            }
        }
        Ok(args)
    }

    /// The plain word at that place.
    pub fn word(&self, at: usize) -> Result<&str> {
        self.words.get(at).map(String::as_str).ok_or_else(|| USAGE.into())
    }

    fn number(&self, at: usize) -> Result<u64> {
        Ok(self.word(at)?.parse()?)
    }

    /// The value of an option, if it was given.
    pub fn option(&self, name: &str) -> Option<&str> {
        self.options.iter().rev().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    /// Likewise a number, or `default`.
    pub fn value(&self, name: &str, default: u64) -> Result<u64> {
        self.option(name).map_or(Ok(default), |text| Ok(text.parse()?))
    }
}
