#![forbid(unsafe_code)]
//! `mef allow`, `disallow`, `deny`, `undeny`: local.conf is changed, and the kernel follows at once, with and
//! without a daemon.

use super::target::{self, Safety};
use super::{Error, Output, STDIN, parse, settings};
use crate::base::clock::Wall;
use crate::base::range::{Range, any_meets, merge};
use crate::config::{ListKind, conf_files, duration};
use crate::firewall::conntrack;
use crate::firewall::guard::Scope;
use crate::lists::{self, Edit, LOCAL, Paths, allowed};
use argh::FromArgs;

/// Put addresses on a list: allow = they are never dropped, deny = they always are.
#[derive(FromArgs)]
#[argh(
    help_triggers("-h", "--help"),
    note = "They become lines of local.conf in whitelist_dir or blacklist_dir, and take effect at once. What is on the allow\nlist passes, whatever else is said of it. An IPv6 address stands for its prefix (ipv6_prefix, 64): write ADDR/128 for it alone.",
    example = "mef allow 192.0.2.7 2001:db8::/48\n  mef allow 198.51.100.7 --for 2h\n  mef deny 203.0.113.0/24\n  mef deny - < addresses"
)]
struct Add {
    /// an address, a network (192.0.2.0/24) or a range (192.0.2.1-192.0.2.9); - reads them from standard input, one a line
    #[argh(positional, arg_name = "ADDR")]
    addresses: Vec<String>,
    /// only for allow: how long: 90s, 10m, 1h, 7d (default: for good)
    #[argh(option, long = "for", arg_name = "time")]
    time: Option<String>,
    /// only for deny: also who is protected or allowed, and large networks
    #[argh(switch)]
    force: bool,
    /// another mef.conf
    #[argh(option, arg_name = "file")]
    config: Option<String>,
}

/// Take addresses off a list: disallow = off the allow list, undeny = off the deny list.
#[derive(FromArgs)]
#[argh(
    help_triggers("-h", "--help"),
    note = "Lines of local.conf go; other files of the directory are not changed. A network takes all of its parts along.",
    example = "mef disallow 192.0.2.7\n  mef undeny 203.0.113.0/24"
)]
struct Remove {
    /// an address, a network or a range; - reads them from standard input, one a line
    #[argh(positional, arg_name = "ADDR")]
    addresses: Vec<String>,
    /// another mef.conf
    #[argh(option, arg_name = "file")]
    config: Option<String>,
}

pub(super) fn allow(args: &[&str], output: &mut Output<'_>) -> Result<(), Error> {
    add("allow", ListKind::Allow, args, output)
}

pub(super) fn deny(args: &[&str], output: &mut Output<'_>) -> Result<(), Error> {
    add("deny", ListKind::Deny, args, output)
}

pub(super) fn disallow(args: &[&str], output: &mut Output<'_>) -> Result<(), Error> {
    remove("disallow", ListKind::Allow, args, output)
}

pub(super) fn undeny(args: &[&str], output: &mut Output<'_>) -> Result<(), Error> {
    remove("undeny", ListKind::Deny, args, output)
}

fn failed(e: impl std::fmt::Display) -> Error {
    Error::Failed(e.to_string())
}

/// One call of a command.
struct Change {
    kind: ListKind,
    addresses: Vec<String>,
    config: Option<String>,
    /// What is added: until when, and whether by force. Without it, something is taken away.
    adds: Option<(Option<Wall>, bool)>,
    /// What is said of each that was changed, and behind it.
    said: [String; 2],
}

fn add(command: &str, kind: ListKind, args: &[&str], output: &mut Output<'_>) -> Result<(), Error> {
    let args: Add = parse(command, args)?;
    let until = match &args.time {
        Some(_) if kind == ListKind::Deny => {
            return Err(Error::Usage("deny has no --for: `mef ban` is for a time".into()));
        }
        Some(text) => {
            let secs =
                duration(text).map_err(|bad| Error::Usage(format!("--for: {}, {}", bad.what, bad.hint)))?;
            if secs == 0 {
                return Err(Error::Usage("--for: an entry lasts at least 1s".into()));
            }
            Some(Wall(crate::sys::clock::wall().0.saturating_add(u64::from(secs))))
        }
        None => None,
    };
    let word = if kind == ListKind::Allow { "allowed" } else { "denied" };
    let said = [word.to_owned(), args.time.map_or(String::new(), |time| format!(" for {time}"))];
    let (addresses, config, adds) = (args.addresses, args.config, Some((until, args.force)));
    change(command, Change { kind, addresses, config, adds, said }, output)
}

fn remove(command: &str, kind: ListKind, args: &[&str], output: &mut Output<'_>) -> Result<(), Error> {
    let args: Remove = parse(command, args)?;
    let word = if kind == ListKind::Allow { "disallowed" } else { "undenied" };
    let said = [word.to_owned(), String::new()];
    let (addresses, config) = (args.addresses, args.config);
    change(command, Change { kind, addresses, config, adds: None, said }, output)
}

fn change(command: &str, change: Change, output: &mut Output<'_>) -> Result<(), Error> {
    let Change { kind, adds, .. } = change;
    if change.addresses.is_empty() {
        return Err(Error::Usage(format!("{command} whom? `mef {command} --help` shows examples")));
    }
    let settings = settings(change.config.as_deref(), output);
    let (mut enforcer, made) = target::table(&settings, output)?;
    let safety = Safety::read(enforcer.guard()).map_err(failed)?;
    let paths = Paths::of(&settings);
    let unwritten = |e| Error::Failed(format!("{}/{LOCAL}: {e}", paths.dir(kind).to_string_lossy()));
    let mut edit = Edit::open(&paths, kind).map_err(unwritten)?;
    let mut ranges = Vec::new();
    let mut take = |text: &str, place: &str, output: &mut Output<'_>| {
        let range = match target::read(text, made.ipv6_prefix) {
            Err(what) => {
                output.problem(&format_args!("{place}{what}"));
                return Ok(());
            }
            Ok(range) => range,
        };
        match adds {
            Some((_, force)) => {
                let why = if kind == ListKind::Deny { safety.objection(&range) } else { None };
                match why.or_else(|| too_wide(&range, kind)).filter(|_| !force) {
                    Some(why) => {
                        output.problem(&format_args!("{place}{range} is {why}: not listed (--force does it)"))
                    }
                    None => ranges.push(range),
                }
            }
            None if edit.remove(&range) > 0 => ranges.push(range),
            None => match find(&paths, kind, &[range]) {
                Some((name, listed)) => output
                    .problem(&format_args!("{place}{range} is not a line of {LOCAL}: {name} has {listed}")),
                None => output.problem(&format_args!("{place}{range} was not listed")),
            },
        }
        Ok(())
    };
    for text in &change.addresses {
        if text == STDIN {
            target::each_stdin_line(output, &mut take)?;
        } else {
            take(text, "", output)?;
        }
    }
    if let Some((until, force)) = adds {
        edit.add(&ranges, until, force);
    }
    edit.save(crate::sys::clock::wall()).map_err(unwritten)?;
    put(&mut enforcer, &paths, kind, output)?;
    let [word, time] = &change.said;
    if ranges.len() > MANY {
        writeln!(output.out, "{word} {} addresses{time}", ranges.len())?;
    } else {
        for range in &ranges {
            writeln!(output.out, "{word} {range}{time}")?;
        }
    }
    merge(&mut ranges);
    if adds.is_none()
        && let Some((name, listed)) = find(&paths, kind, &ranges)
    {
        let word = word.trim_start_matches("dis").trim_start_matches("un");
        output.note(&format_args!("{listed} stays {word}: {name} has it"));
    }
    if kind == ListKind::Deny
        && adds.is_some()
        && settings.kill_connections
        && !ranges.is_empty()
        && let Err(e) = conntrack::kill(&ranges, &Scope::ALL)
    {
        output.note(&e);
    }
    output.end()
}

/// More than these are told as a number.
const MANY: usize = 100;

/// What a list would refuse without `force`.
fn too_wide(range: &Range, kind: ListKind) -> Option<&'static str> {
    let wide = range.nets().any(|net| crate::config::too_wide(kind, &net));
    wide.then_some("too large a part of the internet")
}

/// Has the kernel follow.
fn put(
    enforcer: &mut crate::enforce::Enforcer,
    paths: &Paths,
    kind: ListKind,
    output: &mut Output<'_>,
) -> Result<(), Error> {
    let guard = enforcer.guard();
    match kind {
        ListKind::Allow => {
            let mut allowed = allowed(paths, &mut |e| output.note(e));
            guard.set_allowed(&mut allowed).map_err(failed)
        }
        ListKind::Deny => {
            let only = [LOCAL.to_owned()];
            let good = lists::apply(guard, paths, Some(&only), &mut |e| output.note(e), &mut |_| ());
            match good.map_err(failed)? {
                true => Ok(()),
                false => Err(Error::Told),
            }
        }
    }
}

/// The first entry that has something of the ranges, which are sorted and merged, and its file.
fn find(paths: &Paths, kind: ListKind, ranges: &[Range]) -> Option<(String, Range)> {
    let dir = paths.dir(kind);
    let now = crate::sys::clock::wall();
    let mut found = None;
    for name in conf_files(dir).unwrap_or_default() {
        // What cannot be read has been told by whoever loads it.
        let _ = lists::entries(
            kind,
            &dir.join(&name),
            &mut |entry| {
                let listed = Range::from(entry.net);
                let holds = || entry.until.is_none_or(|until| until > now) && any_meets(ranges, &listed);
                if found.is_none() && holds() {
                    found = Some((name.clone(), listed));
                }
            },
            &mut |_| (),
        );
    }
    found
}
