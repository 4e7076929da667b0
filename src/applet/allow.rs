#![forbid(unsafe_code)]
//! `mef allow`, `disallow`, `deny`, `undeny`: local.conf is changed, and the kernel follows at once, with and
//! without a daemon.

mod check;
mod hosts;

use super::args::parse;
use super::context::{LISTED_MAX, settings};
use super::output::{Output, OutputError, OutputShape, failed};
use super::target::{self, Safety};
use crate::ban::Scope;
use crate::base::clock::Wall;
use crate::base::range::{Range, any_meets, merge, split};
use crate::config::{ListEntry, ListKind, Settings, conf_files, duration};
use crate::control::proto::Request;
use crate::enforce::Enforcer;
use crate::firewall::end_connections;
use crate::lists::{self, Edit, Gone, LOCAL, ListTerms, ListTurn, Paths};
use argh::FromArgs;
use check::{Wanted, droppable, meant, not_listed, only_in_force, permanently_banned, wanted};
use std::path::Path;

/// Put addresses on a list: allow = they are never dropped, deny = they always are.
#[derive(FromArgs)]
#[argh(
    help_triggers("-h", "--help"),
    note = "They become lines of local.conf in whitelist_dir or blacklist_dir, and take effect immediately. \
        What is on the allow\nlist passes even if it is also banned or denied. An IPv6 address stands for \
        its prefix (ipv6_prefix, 64): write ADDR/128 for it alone.\nallow takes host names, too: the daemon \
        looks up what they lead to, again and again.",
    example = "mef allow 192.0.2.7 2001:db8::/48\n  mef allow 198.51.100.7 --for 2h\n  mef allow \
        admin.dyn.example\n  mef deny 203.0.113.0/24\n  mef deny - < addresses"
)]
struct Add {
    /// an address, a network (192.0.2.0/24) or a range (192.0.2.1-192.0.2.9), for allow also a host name; -
    /// reads them from standard input, one per line
    #[argh(positional, arg_name = "ADDR")]
    addresses: Vec<String>,
    /// only for allow: how long: 90s, 10m, 1h, 7d (default: for good)
    #[argh(option, long = "for", arg_name = "time")]
    time: Option<String>,
    /// deny: also protected or allowed addresses, and large networks; allow: a host name may lead to private
    /// addresses
    #[argh(switch)]
    force: bool,
    /// one JSON object per line
    #[argh(switch)]
    json: bool,
    /// path to mef.conf
    #[argh(option, arg_name = "file")]
    config: Option<String>,
}

/// Take addresses off a list: disallow = off the allow list, undeny = off the deny list.
#[derive(FromArgs)]
#[argh(
    help_triggers("-h", "--help"),
    note = "Lines of local.conf go; other files of the directory are not changed. A network takes all of its \
        parts along.",
    example = "mef disallow 192.0.2.7\n  mef undeny 203.0.113.0/24"
)]
struct Remove {
    /// an address, a network or a range; - reads them from standard input, one per line
    #[argh(positional, arg_name = "ADDR")]
    addresses: Vec<String>,
    /// one JSON object per line
    #[argh(switch)]
    json: bool,
    /// path to mef.conf
    #[argh(option, arg_name = "file")]
    config: Option<String>,
}

pub(super) fn allow(args: &[&str], output: &mut Output<'_>) -> Result<(), OutputError> {
    add("allow", ListKind::Allow, args, output)
}

pub(super) fn deny(args: &[&str], output: &mut Output<'_>) -> Result<(), OutputError> {
    add("deny", ListKind::Deny, args, output)
}

pub(super) fn disallow(args: &[&str], output: &mut Output<'_>) -> Result<(), OutputError> {
    remove("disallow", ListKind::Allow, args, output)
}

pub(super) fn undeny(args: &[&str], output: &mut Output<'_>) -> Result<(), OutputError> {
    remove("undeny", ListKind::Deny, args, output)
}

/// One call of a command.
struct AllowChange {
    kind: ListKind,
    addresses: Vec<String>,
    config: Option<String>,
    /// How something is added. Without it, something is taken away.
    adds: Option<ListTerms>,
    /// What is said of each that was changed, and behind it.
    said: [String; 2],
    shape: OutputShape,
}

fn add(command: &str, kind: ListKind, args: &[&str], output: &mut Output<'_>) -> Result<(), OutputError> {
    let args: Add = parse(command, args)?;
    let until = match &args.time {
        Some(_) if kind == ListKind::Deny => {
            return Err(OutputError::Usage("deny has no --for: `mef ban` is for a time".into()));
        }
        Some(text) => {
            let secs = duration(text)
                .map_err(|bad| OutputError::Usage(format!("--for: {}, {}", bad.what, bad.hint)))?;
            if secs == 0 {
                return Err(OutputError::Usage("--for: an entry lasts at least 1s".into()));
            }
            Some(Wall(crate::sys::clock::wall().0.saturating_add(u64::from(secs))))
        }
        None => None,
    };
    let word = if kind == ListKind::Allow { "allowed" } else { "denied" };
    let said = [word.to_owned(), args.time.map_or(String::new(), |time| format!(" for {time}"))];
    let (addresses, config, shape) = (args.addresses, args.config, args.json.into());
    let adds = Some(ListTerms { until, force: args.force });
    change(command, AllowChange { kind, addresses, config, adds, said, shape }, output)
}

fn remove(command: &str, kind: ListKind, args: &[&str], output: &mut Output<'_>) -> Result<(), OutputError> {
    let args: Remove = parse(command, args)?;
    let word = if kind == ListKind::Allow { "disallowed" } else { "undenied" };
    let said = [word.to_owned(), String::new()];
    let (addresses, config, shape) = (args.addresses, args.config, args.json.into());
    change(command, AllowChange { kind, addresses, config, adds: None, said, shape }, output)
}

fn change(command: &str, change: AllowChange, output: &mut Output<'_>) -> Result<(), OutputError> {
    let AllowChange { kind, adds, .. } = change;
    if change.addresses.is_empty() {
        return Err(OutputError::Usage(format!("missing ADDR: `mef {command} --help` shows examples")));
    }
    let settings = settings(change.config.as_deref(), output);
    let (mut enforcer, made) = target::table(&settings, output)?;
    let paths = Paths::of(&settings);
    let safety = Safety::read(enforcer.guard()).map_err(failed)?;
    let Wanted { mut ranges, mut hosts } = wanted(&change, &safety, made.ipv6_prefix, output)?;
    if kind == ListKind::Deny && adds.is_some() {
        droppable(enforcer.guard(), &mut ranges, output)?;
    }
    write(&change, &paths, &mut enforcer, (&mut ranges, &mut hosts), output)?;
    if kind == ListKind::Allow {
        // A daemon that does not watch the files is to know, too.
        super::context::notify_daemon(Path::new(&settings.run_dir), &[Request::Lists]);
        if adds.is_some() {
            only_in_force(enforcer.guard(), &mut ranges, output)?;
        }
    }
    report(&change, &ranges, output)?;
    hosts::report(&change, &paths, &hosts, output)?;
    if !ranges.is_empty() || !hosts.is_empty() {
        super::context::changed(Path::new(&settings.run_dir), command, &ranges);
    }
    merge(&mut ranges);
    match (kind, adds) {
        (_, None) => note_other_files(&paths, kind, &ranges, output),
        (ListKind::Deny, Some(_)) => {
            end_what_is_denied(&settings, &mut enforcer, &safety, &ranges, change.shape, output)?
        }
        (ListKind::Allow, Some(_)) => {}
    }
    output.end()
}

/// Changes local.conf, and has the kernel follow. Of what is to be taken off, keeps what was there.
fn write(
    change: &AllowChange,
    paths: &Paths,
    enforcer: &mut Enforcer,
    (ranges, hosts): (&mut Vec<Range>, &mut Vec<String>),
    output: &mut Output<'_>,
) -> Result<(), OutputError> {
    let AllowChange { kind, adds, .. } = *change;
    let unwritten = |e| OutputError::Failed(format!("{}/{LOCAL}: {e}", paths.dir(kind).to_string_lossy()));
    let turn = match kind {
        ListKind::Allow => ListTurn::within(paths, kind, target::LIST_PATIENCE),
        ListKind::Deny => ListTurn::wait(paths, kind),
    };
    let mut edit = Edit::open(paths, kind, &turn).map_err(unwritten)?;
    let kept = paths.kept(kind);
    match adds {
        Some(terms) => {
            edit.add(ranges, terms);
            edit.add_hosts(hosts, terms);
        }
        None => {
            let removed = edit.remove_hosts(hosts);
            hosts::keep_removed(hosts, &removed, output);
            let listed = edit.remove(ranges);
            let kept = kept.remove(LOCAL, ranges).map_err(unwritten)?;
            let mut gone = listed.iter().zip(&kept).map(|(listed, kept)| *listed || *kept);
            let mut missing = Vec::new();
            ranges.retain(|range| {
                let is_gone = gone.next().unwrap_or(false);
                missing.extend((!is_gone).then_some(*range));
                is_gone || not_listed(range, paths, kind, output)
            });
            meant(enforcer.guard(), kind, &missing, output)?;
        }
    }
    if kind == ListKind::Deny && edit.counts().refused() {
        return Err(unwritten(crate::sys::fs::invalid(
            "more than half of its lines are bad: fix it first; nothing was changed",
        )));
    }
    if let (ListKind::Allow, Some(terms)) = (kind, adds)
        && edit.counts().bad > 0
    {
        // What the file says may not be used as a whole.
        let nets = ranges.iter().flat_map(|range| range.nets());
        let more: Vec<ListEntry> = nets.map(|net| terms.of(net)).collect();
        kept.add(LOCAL, &more).map_err(unwritten)?;
    }
    edit.save(crate::sys::clock::wall()).map_err(unwritten)?;
    let removed: &[Range] = if adds.is_none() { ranges } else { &[] };
    put(enforcer, paths, (kind, &turn, removed), output)
}

/// What was taken off local.conf may stand in another file, too.
fn note_other_files(paths: &Paths, kind: ListKind, ranges: &[Range], output: &mut Output<'_>) {
    if let Some((name, listed)) = find(paths, kind, ranges) {
        let word = if kind == ListKind::Allow { "allowed" } else { "denied" };
        output.note(&format_args!("{listed} is still {word}: it is in {name}"));
    }
}

/// Whoever is denied needs no ban any more, and keeps no connection.
fn end_what_is_denied(
    settings: &Settings,
    enforcer: &mut Enforcer,
    safety: &Safety,
    ranges: &[Range],
    shape: OutputShape,
    output: &mut Output<'_>,
) -> Result<(), OutputError> {
    let banned = permanently_banned(enforcer.guard(), ranges)?;
    if !banned.is_empty() {
        super::unban::superseded(settings, &banned, shape, output)?;
    }
    if settings.kill_connections && !ranges.is_empty() {
        let ended: Vec<Range> = ranges.iter().flat_map(|range| split(range, safety.passing())).collect();
        if let Err(e) = end_connections(&ended, &Scope::ALL) {
            output.note(&e);
        }
    }
    Ok(())
}

fn report(change: &AllowChange, ranges: &[Range], output: &mut Output<'_>) -> Result<(), OutputError> {
    let [word, time] = &change.said;
    if change.shape == OutputShape::Json {
        return Ok(ranges
            .iter()
            .try_for_each(|range| writeln!(output.out, "{}", super::unban::result(range, word)))?);
    }
    if ranges.len() > LISTED_MAX {
        writeln!(output.out, "{word} {} addresses{time}", ranges.len())?;
        return Ok(());
    }
    for range in ranges {
        writeln!(output.out, "{word} {range}{time}")?;
    }
    Ok(())
}

/// Has the kernel follow. What was taken off is not taken for something that is in force.
fn put(
    enforcer: &mut Enforcer,
    paths: &Paths,
    (kind, turn, removed): (ListKind, &ListTurn, &[Range]),
    output: &mut Output<'_>,
) -> Result<(), OutputError> {
    let guard = enforcer.guard();
    match kind {
        ListKind::Allow => {
            let mut in_force = || {
                let mut all = guard.allowed_until().unwrap_or_default();
                for removed in removed {
                    // The kernel has them joined.
                    let parts = |(range, until): (Range, _)| {
                        range.without(removed).into_iter().flatten().map(move |rest| (rest, until))
                    };
                    all = all.into_iter().flat_map(parts).collect();
                }
                all
            };
            let note: lists::ListNote<'_> = &mut |e| output.note(e);
            let mut allowed = lists::allowed(paths, turn, Gone::Forget, &mut in_force, note).allowed;
            guard.set_allowed(&mut allowed).map_err(failed)
        }
        ListKind::Deny => deny_lists(guard, paths, turn, &[LOCAL.to_owned()], output),
    }
}

/// Has the kernel follow these deny lists.
fn deny_lists(
    guard: &mut dyn crate::firewall::backend::Backend,
    paths: &Paths,
    turn: &ListTurn,
    only: &[String],
    output: &mut Output<'_>,
) -> Result<(), OutputError> {
    let job = lists::ListJob { only: Some(only), gone: Gone::Forget, emptied: true };
    let done = lists::apply(guard, paths, turn, &job, &mut |e| output.note(e), &mut |_| ());
    if done.map_err(failed)?.good { Ok(()) } else { Err(OutputError::Told) }
}

/// Takes a range out of every deny list, whoever wrote it; whether any had it.
pub(super) fn strike(
    range: &Range,
    settings: &Settings,
    output: &mut Output<'_>,
) -> Result<bool, OutputError> {
    let kind = ListKind::Deny;
    let paths = Paths::of(settings);
    let dir = paths.dir(kind);
    let mut changed = Vec::new();
    let (mut enforcer, _) = target::table(settings, output)?;
    let turn = ListTurn::wait(&paths, kind);
    for name in conf_files(dir).map_err(|e| failed(format!("{}: {e}", dir.to_string_lossy())))? {
        let unwritten = |e| OutputError::Failed(format!("{}: {e}", dir.join(&name).to_string_lossy()));
        let mut edit = Edit::open_list(&paths, kind, &name, &turn).map_err(unwritten)?;
        let listed = edit.remove(&[*range]).contains(&true);
        if paths.kept(kind).remove(&name, &[*range]).map_err(unwritten)?.contains(&true) || listed {
            edit.save(crate::sys::clock::wall()).map_err(unwritten)?;
            changed.push(name);
        }
    }
    if !changed.is_empty() {
        deny_lists(enforcer.guard(), &paths, &turn, &changed, output)?;
    }
    drop(turn);
    if let Some((name, listed)) = find(&paths, kind, &[*range]) {
        output.problem(&format_args!("{range} is still denied: {name} has {listed}"));
    }
    Ok(!changed.is_empty())
}

/// The first entry that has something of the ranges, which are sorted and merged, and its file.
fn find(paths: &Paths, kind: ListKind, ranges: &[Range]) -> Option<(String, Range)> {
    let dir = paths.dir(kind);
    let now = crate::sys::clock::wall();
    let mut found = None;
    for name in conf_files(dir).unwrap_or_default() {
        // What cannot be read has been told by whoever loads it.
        let _ = lists::each_entry(kind, &dir.join(&name), &mut |entry| {
            let listed = Range::from(entry.net);
            let holds = || entry.until.is_none_or(|until| until > now) && any_meets(ranges, &listed);
            if found.is_none() && holds() {
                found = Some((name.clone(), listed));
            }
        });
    }
    found
}
