#![forbid(unsafe_code)]
//! `mef lists`: what is in the files, and whether the kernel has it.

use super::{Error, Output, parse, settings};
use crate::base::json::Object;
use crate::base::line::shown;
use crate::base::range::{Range, covers, merge};
use crate::config::{ListKind, conf_files};
use crate::firewall::guard::{DenySet, Failure, Guard, Options};
use crate::lists::{self, Fate, Paths, Survey};
use crate::sys::host::Protected;
use argh::FromArgs;
use std::path::Path;

/// Show what is in the allow and deny lists, file by file, and whether the kernel has it.
#[derive(FromArgs)]
#[argh(
    help_triggers("-h", "--help"),
    note = "BAD counts lines that are passed over: `mef check` shows them. A list is refused when most of it is bad; what the\nkernel had of it before stays in force.",
    example = "mef lists\n  mef lists --json"
)]
struct Args {
    /// one JSON object a line
    #[argh(switch)]
    json: bool,
    /// another mef.conf
    #[argh(option, arg_name = "file")]
    config: Option<String>,
}

/// What the kernel has.
struct Kernel {
    allowed: Vec<Range>,
    denied: Vec<DenySet>,
}

pub(super) fn run(args: &[&str], output: &mut Output<'_>) -> Result<(), Error> {
    let args: Args = parse("lists", args)?;
    let paths = Paths::of(&settings(args.config.as_deref(), output));
    let kernel = ask().map_err(|e| Error::Failed(e.to_string()))?;
    let protected = Protected::read().ranges();
    let mut head = !args.json;
    for kind in [ListKind::Allow, ListKind::Deny] {
        let dir = paths.dir(kind);
        let names = conf_files(dir).unwrap_or_else(|e| {
            output.problem(&format_args!("{}: {e}", dir.to_string_lossy()));
            Vec::new()
        });
        for name in names {
            let path = dir.join(&name);
            let result = match kind {
                ListKind::Allow => allow(&path, &kernel.allowed),
                ListKind::Deny => deny(&path, &name, &kernel.denied, &protected),
            };
            let (survey, state) = match result {
                Ok(found) => found,
                Err(e) => {
                    output.problem(&format_args!("{}: {e}", path.to_string_lossy()));
                    continue;
                }
            };
            let list = if kind == ListKind::Allow { "allow" } else { "deny" };
            let (addresses, networks) = survey.totals();
            let bad = survey.counts.bad;
            if args.json {
                let [addresses, networks, bad] = [addresses, networks, bad].map(u64::from);
                let object = Object::new()
                    .text("list", list)
                    .text("file", &*path.to_string_lossy())
                    .number("addresses", addresses)
                    .number("networks", networks)
                    .number("bad", bad)
                    .text("state", state);
                writeln!(output.out, "{}", object.finish())?;
                continue;
            }
            if std::mem::take(&mut head) {
                output
                    .out
                    .write_all(b"LIST   ADDRESSES  NETWORKS       BAD  STATE                     FILE\n")?;
            }
            let name = shown(&name);
            writeln!(output.out, "{list:<5}  {addresses:>9}  {networks:>8}  {bad:>8}  {state:<24}  {name}")?;
        }
    }
    output.end()
}

fn ask() -> Result<Kernel, Failure> {
    let mut guard = Guard::open(Options::default())?;
    let (mut allowed, denied) = match guard.look()? {
        Some(_) => (guard.allowed()?, guard.deny_sets()?),
        None => (Vec::new(), Vec::new()),
    };
    merge(&mut allowed);
    Ok(Kernel { allowed, denied })
}

const IN_FORCE: &str = "in force";
const MISSING: &str = "not in force";
const REFUSED: &str = "refused";

fn allow(path: &Path, allowed: &[Range]) -> std::io::Result<(Survey, &'static str)> {
    let mut survey = Survey::default();
    let now = crate::sys::clock::wall();
    let mut missing = false;
    survey.counts = lists::entries(
        ListKind::Allow,
        path,
        &mut |entry| {
            if entry.until.is_none_or(|until| until > now) {
                survey.count_in(&entry.net);
                missing |= !covers(allowed, &Range::from(entry.net));
            }
        },
        &mut |_| (),
    )?;
    let state = match (survey.counts.refused(), missing) {
        (true, _) => REFUSED,
        (_, true) => MISSING,
        _ => IN_FORCE,
    };
    Ok((survey, state))
}

fn deny(
    path: &Path,
    name: &str,
    denied: &[DenySet],
    protected: &[Range],
) -> std::io::Result<(Survey, &'static str)> {
    let survey = lists::survey(path, protected, &mut |_| ())?;
    let state = match (survey.counts.refused(), lists::fate(denied, name, &survey)) {
        (true, Fate::Missing) => REFUSED,
        (_, Fate::InForce) => IN_FORCE,
        (true, Fate::Former) => "refused, former in force",
        (false, Fate::Former) => "former in force",
        (false, Fate::Missing) => MISSING,
    };
    Ok((survey, state))
}
