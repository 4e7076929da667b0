#![forbid(unsafe_code)]
//! `mef allow`, `disallow`, `deny`, `undeny`: local.conf is changed, and the kernel follows at once, with and
//! without a daemon.

use super::args::{STDIN, parse};
use super::context::{LISTED_MAX, settings};
use super::output::{Output, OutputError, OutputShape, failed};
use super::target::{self, Safety};
use crate::ban::{BanEntry, Scope};
use crate::base::clock::Wall;
use crate::base::range::{Family, Range, any_meets, covers, merge, split};
use crate::config::{ListEntry, ListKind, Settings, conf_files, duration};
use crate::control::proto::Request;
use crate::firewall::backend::View;
use crate::firewall::end_connections;
use crate::lists::{self, Edit, Exempt, Gone, LOCAL, ListTerms, ListTurn, Paths};
use argh::FromArgs;
use std::path::Path;

/// Put addresses on a list: allow = they are never dropped, deny = they always are.
#[derive(FromArgs)]
#[argh(
    help_triggers("-h", "--help"),
    note = "They become lines of local.conf in whitelist_dir or blacklist_dir, and take effect immediately. \
        What is on the allow\nlist passes even if it is also banned or denied. An IPv6 address stands for \
        its prefix (ipv6_prefix, 64): write ADDR/128 for it alone.",
    example = "mef allow 192.0.2.7 2001:db8::/48\n  mef allow 198.51.100.7 --for 2h\n  mef deny \
        203.0.113.0/24\n  mef deny - < addresses"
)]
struct Add {
    /// an address, a network (192.0.2.0/24) or a range (192.0.2.1-192.0.2.9); - reads them from standard
    /// input, one per line
    #[argh(positional, arg_name = "ADDR")]
    addresses: Vec<String>,
    /// only for allow: how long: 90s, 10m, 1h, 7d (default: for good)
    #[argh(option, long = "for", arg_name = "time")]
    time: Option<String>,
    /// only for deny: also protected or allowed addresses, and large networks
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
    let mut ranges = wanted(&change, &safety, made.ipv6_prefix, output)?;
    if kind == ListKind::Deny && adds.is_some() {
        droppable(enforcer.guard(), &mut ranges, output)?;
    }
    let unwritten = |e| OutputError::Failed(format!("{}/{LOCAL}: {e}", paths.dir(kind).to_string_lossy()));
    let turn = match kind {
        ListKind::Allow => ListTurn::within(&paths, kind, target::LIST_PATIENCE),
        ListKind::Deny => ListTurn::wait(&paths, kind),
    };
    let mut edit = Edit::open(&paths, kind, &turn).map_err(unwritten)?;
    let kept = paths.kept(kind);
    match adds {
        Some(terms) => edit.add(&ranges, terms),
        None => {
            let listed = edit.remove(&ranges);
            let kept = kept.remove(LOCAL, &ranges).map_err(unwritten)?;
            let mut gone = listed.iter().zip(&kept).map(|(listed, kept)| *listed || *kept);
            let mut missing = Vec::new();
            ranges.retain(|range| {
                let is_gone = gone.next().unwrap_or(false);
                missing.extend((!is_gone).then_some(*range));
                is_gone || not_listed(range, &paths, kind, output)
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
    let removed: &[Range] = if adds.is_none() { &ranges } else { &[] };
    put(&mut enforcer, &paths, (kind, &turn, removed), output)?;
    drop(turn);
    // A daemon that does not watch the files is to know, too.
    if kind == ListKind::Allow {
        super::context::notify_daemon(Path::new(&settings.run_dir), &[Request::Lists]);
    }
    if adds.is_some() && kind == ListKind::Allow {
        only_in_force(enforcer.guard(), &mut ranges, output)?;
    }
    report(&change, &ranges, output)?;
    if !ranges.is_empty() {
        super::context::changed(Path::new(&settings.run_dir), command, &ranges);
    }
    merge(&mut ranges);
    if kind == ListKind::Deny && adds.is_some() {
        let banned = permanently_banned(enforcer.guard(), &ranges)?;
        if !banned.is_empty() {
            super::unban::superseded(&settings, &banned, change.shape, output)?;
        }
    }
    if adds.is_none()
        && let Some((name, listed)) = find(&paths, kind, &ranges)
    {
        let word = if kind == ListKind::Allow { "allowed" } else { "denied" };
        output.note(&format_args!("{listed} is still {word}: it is in {name}"));
    }
    if kind == ListKind::Deny && adds.is_some() && settings.kill_connections && !ranges.is_empty() {
        let ended: Vec<Range> = ranges.iter().flat_map(|range| split(range, safety.passing())).collect();
        if let Err(e) = end_connections(&ended, &Scope::ALL) {
            output.note(&e);
        }
    }
    output.end()
}

/// Says the command that was meant, of those who are shut out otherwise than by a list.
fn meant(
    guard: &mut dyn View,
    kind: ListKind,
    missing: &[Range],
    output: &mut Output<'_>,
) -> Result<(), OutputError> {
    for range in missing {
        let mut is_banned = false;
        guard.bans_of(range, &mut |_| is_banned = true).map_err(failed)?;
        if is_banned {
            output.note(&format_args!("{range} is banned: `mef unban {range}` ends that"));
        }
        let denied = guard.denied(&[*range]).map_err(failed)?.into_iter().flatten().next();
        if let Some(list) = denied.filter(|_| kind == ListKind::Allow) {
            output.note(&format_args!("{range} is on the deny list {list}: see mef undeny"));
        }
    }
    Ok(())
}

/// The addresses that are meant, and that may be listed.
fn wanted(
    change: &AllowChange,
    safety: &Safety,
    ipv6_prefix: u8,
    output: &mut Output<'_>,
) -> Result<Vec<Range>, OutputError> {
    let AllowChange { kind, adds, .. } = *change;
    let exempt = if kind == ListKind::Deny { Exempt::read() } else { Exempt::default() };
    let mut ranges = Vec::new();
    let mut take = |text: &str, place: &str, output: &mut Output<'_>| {
        let range = match target::read(text, ipv6_prefix) {
            Err(what) => {
                output.problem(&format_args!("{place}{what}"));
                return Ok(());
            }
            Ok(range) => range,
        };
        let why = || {
            let force = adds.is_none_or(|terms| terms.force);
            let objection = || safety.objection(&range).filter(|_| kind == ListKind::Deny).map(str::to_owned);
            let wide = || too_wide(&range, kind).map(str::to_owned);
            if force { None } else { objection().or_else(|| exempt.network_of(&range)).or_else(wide) }
        };
        if let Some(why) = why() {
            output.problem(&format_args!("{place}{range} is {why}: not listed (use --force to override)"));
            return Ok(());
        }
        if kind == ListKind::Deny
            && adds.is_some()
            && let Some(parts) = safety.passing_parts(&range)
        {
            output.note(&format_args!("{place}{range} is denied except {parts}: on the allow list"));
        }
        ranges.push(range);
        Ok(())
    };
    for text in &change.addresses {
        if text == STDIN {
            target::each_stdin_line(output, &mut take)?;
        } else {
            take(text, "", output)?;
        }
    }
    Ok(ranges)
}

/// Keeps those whose packets this kernel can drop.
fn droppable(
    guard: &mut dyn View,
    ranges: &mut Vec<Range>,
    output: &mut Output<'_>,
) -> Result<(), OutputError> {
    for family in Family::ALL {
        if ranges.iter().any(|range| range.family() == family)
            && let Some(why) = guard.cannot_drop(family).map_err(failed)?
        {
            ranges.retain(|range| {
                let is_meant = range.family() == family;
                if is_meant {
                    output.problem(&format_args!("{range}: this kernel {why}: not listed"));
                }
                !is_meant
            });
        }
    }
    Ok(())
}

/// Says why a range cannot be taken off.
fn not_listed(range: &Range, paths: &Paths, kind: ListKind, output: &mut Output<'_>) -> bool {
    match find(paths, kind, &[*range]) {
        Some((name, listed)) if name == LOCAL => {
            output.problem(&format_args!("{range} is part of {listed} in {LOCAL}: remove that"));
        }
        Some((name, listed)) => {
            output.problem(&format_args!("{range} is not in {LOCAL}: {name} has {listed}"));
        }
        None => output.problem(&format_args!("{range} was not listed")),
    }
    false
}

/// Keeps those that the kernel lets pass now, and says which it does not.
fn only_in_force(
    guard: &mut dyn View,
    ranges: &mut Vec<Range>,
    output: &mut Output<'_>,
) -> Result<(), OutputError> {
    let mut allowed = guard.allowed().map_err(failed)?;
    merge(&mut allowed);
    ranges.retain(|range| {
        let passes = covers(&allowed, range);
        if !passes {
            output.problem(&format_args!("{range} is not allowed: its line has no effect"));
        }
        passes
    });
    Ok(())
}

/// What is banned for good, on all ports, within ranges that are sorted and merged.
fn permanently_banned(guard: &mut dyn View, ranges: &[Range]) -> Result<Vec<Range>, OutputError> {
    let mut found = Vec::new();
    let mut each = |ban: &BanEntry<'_>| {
        if ban.left.is_none() && *ban.scope == Scope::ALL && covers(ranges, &ban.addr) {
            found.push(ban.addr);
        }
    };
    match ranges {
        [] => Ok(()),
        // One is looked up, however many others are banned.
        [one] => guard.bans_of(one, &mut each),
        _ => guard.list(&mut each),
    }
    .map_err(failed)?;
    Ok(found)
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

/// What a list would refuse without `force`.
fn too_wide(range: &Range, kind: ListKind) -> Option<&'static str> {
    let wide = range.nets().any(|net| crate::config::too_wide(kind, &net));
    wide.then_some("too large a part of the internet")
}

/// Has the kernel follow. What was taken off is not taken for something that is in force.
fn put(
    enforcer: &mut crate::enforce::Enforcer,
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
