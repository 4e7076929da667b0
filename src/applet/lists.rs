#![forbid(unsafe_code)]
//! `mef lists`: what is in the files, and whether the kernel has it; `--drop` ends what a file left in force.

use super::args::parse;
use super::columns;
use super::context::{notify_daemon, settings};
use super::output::{Output, OutputError, OutputShape, failed};
use crate::ban::Failure;
use crate::base::count::count;
use crate::base::json::Object;
use crate::base::line::shown;
use crate::base::range::{Range, covers, merge};
use crate::config::{ListCounts, ListEntry, ListKind, Settings};
use crate::control::proto::Request;
use crate::enforce::options;
use crate::firewall::backend::DenySet;
use crate::firewall::{open_in_force, view};
use crate::lists::hosts::Host;
use crate::lists::{self, Before, Exempt, Gone, ListFate, ListSurvey, ListTurn, Paths, list_names};
use crate::sys::fs;
use argh::FromArgs;
use ipnet::IpNet;
use std::path::{Path, PathBuf};
use std::rc::Rc;

/// Show what is in the allow and deny lists, file by file, and whether the kernel has it.
#[derive(FromArgs)]
#[argh(
    help_triggers("-h", "--help"),
    note = "ADDRESSES counts what host names lead to, too. BAD counts lines that are passed over; `mef \
        check` shows them. A list\nis refused when most of it is bad, when it is empty and was not, or when \
        it cannot be read; then, and when its directory\nis gone, its previous content stays in force until \
        it is good again, deleted, or dropped.",
    example = "mef lists\n  mef lists --json"
)]
struct ListsArgs {
    /// end what this list, by name or path, left in force when it was refused or cut off
    #[argh(option, arg_name = "file")]
    drop: Option<String>,
    /// one JSON object per line
    #[argh(switch)]
    json: bool,
    /// path to mef.conf
    #[argh(option, arg_name = "file")]
    config: Option<String>,
}

const KINDS: [ListKind; 2] = [ListKind::Allow, ListKind::Deny];

/// What is in force.
struct KernelLists {
    allowed: Vec<Range>,
    denied: Vec<DenySet>,
    /// Of allow lists, and what they lead to.
    hosts: Vec<Host>,
    /// Bans without an end.
    permanent: usize,
}

/// One list.
struct ListRow {
    kind: ListKind,
    path: PathBuf,
    survey: ListSurvey,
    state: &'static str,
}

pub(super) fn run(args: &[&str], output: &mut Output<'_>) -> Result<(), OutputError> {
    let args: ListsArgs = parse("lists", args)?;
    let settings = settings(args.config.as_deref(), output);
    let paths = Paths::of(&settings);
    if let Some(file) = &args.drop {
        return drop_list(file, &settings, &paths, output);
    }
    let kernel = ask(&settings).map_err(failed)?;
    let exempt = Exempt::read();
    let mut head = !args.json;
    for kind in KINDS {
        for name in names(kind, &paths, &kernel, output) {
            let Some(row) = row(kind, &name, &paths, &kernel, &exempt, output) else { continue };
            if std::mem::take(&mut head) {
                let names = "LIST   ADDRESSES  NETWORKS   BAD  STATE         FILE";
                columns::line(output.out, names, columns::width())?;
            }
            show(&row, args.json.into(), output)?;
        }
    }
    if head {
        output.note(&"there are no lists");
    }
    if !args.json && kernel.permanent > 0 {
        let bans = count(kernel.permanent, "ban");
        output.note(&format_args!("{bans} without an end, in the ban journal: `mef bans --permanent`"));
    }
    output.end()
}

fn ask(settings: &Settings) -> Result<KernelLists, Failure> {
    let mut guard = view(options(settings))?;
    let (mut allowed, denied) = match guard.state()? {
        Some(_) => (guard.allowed()?, guard.deny_sets()?),
        None => (Vec::new(), Vec::new()),
    };
    merge(&mut allowed);
    let mut permanent = 0;
    if guard.state()?.is_some() {
        guard.list(&mut |ban| permanent += usize::from(ban.left.is_none()))?;
    }
    let hosts = lists::hosts::hosts(&Paths::of(settings), Gone::Wait);
    Ok(KernelLists { allowed, denied, hosts, permanent })
}

/// The lists that are there, and those of which something is in force.
fn names(kind: ListKind, paths: &Paths, kernel: &KernelLists, output: &mut Output<'_>) -> Vec<String> {
    let dir = paths.dir(kind);
    let found = list_names(dir).unwrap_or_else(|e| {
        output.problem(&format_args!("{}: {e}", dir.to_string_lossy()));
        None
    });
    let mut names = found.unwrap_or_default();
    let kept = paths.kept(kind);
    let previous =
        kept.names().into_iter().filter(|name| kept.read(name).is_some_and(|list| !list.is_empty()));
    let denied = kernel.denied.iter().filter(|_| kind == ListKind::Deny).map(|set| set.label.clone());
    for name in previous.chain(denied) {
        // The kernel has the beginning of a long name only.
        if !names.iter().any(|known| known.starts_with(&name)) {
            names.push(name);
        }
    }
    names
}

fn row(
    kind: ListKind,
    name: &str,
    paths: &Paths,
    kernel: &KernelLists,
    exempt: &Exempt,
    output: &mut Output<'_>,
) -> Option<ListRow> {
    let path = paths.dir(kind).join(name);
    let kept = paths.kept(kind).read(name);
    let result = match kind {
        ListKind::Allow => allow((&path, name), kept.as_deref(), kernel),
        ListKind::Deny => deny(&path, name, kept.as_deref(), &kernel.denied, exempt),
    };
    match result {
        Ok((survey, state)) => Some(ListRow { kind, path, survey, state }),
        Err(e) => {
            let survey = of_entries(kept.as_deref().unwrap_or_default());
            let gone = path.symlink_metadata().is_err();
            let had = kept.is_some_and(|kept| !kept.is_empty()) || had_sets(name, &kernel.denied);
            let state = match (gone, had) {
                (true, _) => "gone, previous in force",
                (false, true) => PREVIOUS,
                (false, false) => REFUSED,
            };
            if !gone {
                output.problem(&format_args!("{}: {e}", path.to_string_lossy()));
            }
            Some(ListRow { kind, path, survey, state })
        }
    }
}

fn had_sets(name: &str, denied: &[DenySet]) -> bool {
    denied.iter().any(|set| set.label == name && set.in_force())
}

/// What would be there of these entries.
fn of_entries(entries: &[ListEntry]) -> ListSurvey {
    let mut survey = ListSurvey::default();
    let now = crate::sys::clock::wall();
    let live = entries.iter().filter(|entry| entry.until.is_none_or(|until| until > now));
    live.for_each(|entry| survey.count_in(&entry.net));
    survey
}

fn show(row: &ListRow, shape: OutputShape, output: &mut Output<'_>) -> Result<(), OutputError> {
    let list = if row.kind == ListKind::Allow { "allow" } else { "deny" };
    let (addresses, networks) = row.survey.totals();
    let bad = row.survey.counts.passed_over();
    let state = row.state;
    if shape == OutputShape::Json {
        let [addresses, networks, bad] = [addresses, networks, bad].map(u64::from);
        let object = Object::new()
            .text("list", list)
            .text("file", &*row.path.to_string_lossy())
            .number("addresses", addresses)
            .number("networks", networks)
            .number("bad", bad)
            .text("state", state);
        writeln!(output.out, "{}", object.finish())?;
        return Ok(());
    }
    let name = row.path.file_name().unwrap_or_default().to_string_lossy();
    let name = shown(&name);
    let text = format!("{list:<5}  {addresses:>9}  {networks:>8}  {bad:>4}  {state:<12}  {name}");
    Ok(columns::line(output.out, &text, columns::width())?)
}

const IN_FORCE: &str = "in force";
const MISSING: &str = "not in force";
const REFUSED: &str = "refused";
const PREVIOUS: &str = "refused, previous in force";

fn allow(
    (path, name): (&Path, &str),
    kept: Option<&[ListEntry]>,
    KernelLists { allowed, hosts, .. }: &KernelLists,
) -> std::io::Result<(ListSurvey, &'static str)> {
    let mut quiet = |_: &dyn std::fmt::Display| ();
    let (found, counts) = lists::entries(ListKind::Allow, path, lists::Detail::Nothing, &mut quiet)?;
    let mut survey = ListSurvey { counts, ..of_entries(&found) };
    let leads_to = || hosts.iter().filter(|host| host.file() == name).flat_map(|host| &host.addrs);
    leads_to().for_each(|addr| survey.count_in(&IpNet::from(*addr)));
    let now = crate::sys::clock::wall();
    let live = |e: &&ListEntry| e.until.is_none_or(|until| until > now);
    let passes = |e: &ListEntry| covers(allowed, &Range::from(e.net));
    let previous: Vec<&ListEntry> = kept.unwrap_or_default().iter().filter(live).collect();
    let refused = lists::refusal(counts, Before::from(!previous.is_empty())).is_some();
    let more = previous.iter().any(|kept| found.iter().all(|entry| entry.net != kept.net));
    let all_pass =
        found.iter().filter(live).all(passes) && leads_to().all(|addr| covers(allowed, &Range::from(*addr)));
    let state = match (refused, all_pass) {
        (true, _) if previous.is_empty() => REFUSED,
        (true, _) => PREVIOUS,
        (false, false) => MISSING,
        (false, true) if counts.bad > 0 && more => "in force, previous too",
        (false, true) => IN_FORCE,
    };
    Ok((survey, state))
}

fn deny(
    path: &Path,
    name: &str,
    kept: Option<&[ListEntry]>,
    denied: &[DenySet],
    exempt: &Exempt,
) -> std::io::Result<(ListSurvey, &'static str)> {
    let survey = lists::survey(path, exempt, lists::Detail::Nothing, &mut |_| ())?;
    let had = lists::had(denied, kept, name);
    let refused = lists::refusal(survey.counts, Before::from(had)).is_some();
    let state = match (refused, lists::fate(denied, name, &survey)) {
        (true, ListFate::Missing) => REFUSED,
        (true, _) => PREVIOUS,
        (false, ListFate::InForce) => IN_FORCE,
        (false, ListFate::Previous) => "previous in force",
        (false, ListFate::Missing) => MISSING,
    };
    Ok((survey, state))
}

/// Ends what a list left in force.
fn drop_list(
    file: &str,
    settings: &Settings,
    paths: &Paths,
    output: &mut Output<'_>,
) -> Result<(), OutputError> {
    let kernel = ask(settings).map_err(failed)?;
    let (kind, name) = meant(file, paths, &kernel, output)?;
    let path = paths.dir(kind).join(&name);
    let shown = path.to_string_lossy();
    if path.symlink_metadata().is_ok() {
        let verdict = lists::check(kind, &path, paths, &mut |_| ());
        let ListCounts { bad, .. } = verdict.counts;
        if verdict.refused.is_none() && (kind == ListKind::Deny || bad == 0) {
            return Err(failed(format!("{shown} is good, and in force: delete it to end that")));
        }
    }
    let allow = lists::reader(Paths::of(settings), super::target::LIST_PATIENCE, Rc::default());
    let mut guard = open_in_force(options(settings), allow.into()).map_err(failed)?;
    guard.go_through(paths.run());
    let turn = ListTurn::wait(paths, kind);
    let had = match kind {
        ListKind::Allow => lists::drop_allowed(paths, &turn, &name).map_err(failed)?,
        ListKind::Deny => lists::drop_denied(&mut *guard, paths, &turn, &name).map_err(failed)?,
    };
    if kind == ListKind::Allow {
        let mut all = lists::allowed(paths, &turn, Gone::Forget, &mut Vec::new, &mut |_| ()).allowed;
        if guard.state().map_err(failed)?.is_some() {
            guard.set_allowed(&mut all).map_err(failed)?;
        }
        drop(turn);
        notify_daemon(Path::new(&settings.run_dir), &[Request::Lists]);
    }
    if !had {
        return Err(failed(format!("{shown} had nothing in force")));
    }
    writeln!(output.out, "{shown}: its previous content is no longer in force")?;
    output.end()
}

/// The list of this name or path.
fn meant(
    file: &str,
    paths: &Paths,
    kernel: &KernelLists,
    output: &mut Output<'_>,
) -> Result<(ListKind, String), OutputError> {
    let path = Path::new(file);
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or("").to_owned();
    let within = |kind: &ListKind| {
        let parent = path.parent().filter(|_| file.contains('/'));
        parent.is_none_or(|parent| fs::absolute(parent).ok() == fs::absolute(paths.dir(*kind)).ok())
    };
    let kinds: Vec<ListKind> = KINDS
        .into_iter()
        .filter(|kind| within(kind) && names(*kind, paths, kernel, output).contains(&name))
        .collect();
    match kinds.as_slice() {
        [kind] => Ok((*kind, name)),
        [] => Err(failed(format!("{}: no such list", shown(file)))),
        _ => Err(OutputError::Usage(format!("{name} is an allow list and a deny list: give its path"))),
    }
}
