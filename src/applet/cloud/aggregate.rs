#![forbid(unsafe_code)]
//! `mef cloud aggregate`: the reports of all members, and the list that is made of them.

use super::Args;
use crate::applet::context::settings;
use crate::applet::output::{Output, OutputError, failed};
use crate::base::count::count;
use crate::base::json::Object;
use crate::base::range::{Range, merge};
use crate::cloud::aggregate::{Change, Listing, Summary, Why};
use crate::cloud::keyfile;
use crate::cloud::operator::{AggregateRun, Work, aggregate};
use crate::config::{ListKind, Operator, Settings, conf_files};
use crate::lists::{self, Paths};
use crate::sys::clock;
use crate::sys::dir::Dir;
use std::io;
use std::path::Path;

/// Makes the list of the reports.
pub(super) fn run(args: &Args, output: &mut Output<'_>) -> Result<(), OutputError> {
    let (operator, _) = super::operator(args, output)?;
    let settings = settings(args.config.as_deref(), output);
    let key = keyfile::read(Path::new(&operator.key_file)).map_err(OutputError::Failed)?;
    let allowed = allowed(&settings)?;
    Dir::create(Path::new(&settings.state_dir))
        .map_err(|e| OutputError::Failed(format!("{}: {e}", settings.state_dir)))?;
    let dir = Path::new(&settings.state_dir);
    let work = Work { operator: &operator, key: &key, allowed, dir, now: clock::wall() };
    let (mut unread, mut lines) = (Vec::new(), args.dry_run.then_some(&mut *output.out));
    let run = if args.dry_run { AggregateRun::Dry } else { AggregateRun::Real };
    let show = if args.json { object } else { line };
    let result = aggregate(
        &work,
        run,
        &mut |who, change| match &mut lines {
            Some(out) => show(&mut **out, &operator, &who.range(), change),
            None => Ok(()),
        },
        &mut |name, trouble| unread.push(format!("{name}.r.{}: {trouble}", operator.zone)),
    );
    unread.iter().for_each(|text| output.problem(text));
    let summary = result.map_err(failed)?;
    if args.json {
        writeln!(output.out, "{}", summary_object(&summary, run))?;
    } else {
        sum_up(&summary, run, output)?;
    }
    output.end()
}

/// Whom the allow lists of this host name: resolvers, mail providers, whatever must never be listed.
fn allowed(settings: &Settings) -> Result<Vec<Range>, OutputError> {
    let paths = Paths::of(settings);
    let dir = paths.dir(ListKind::Allow);
    let mut all = Vec::new();
    for name in conf_files(dir).map_err(|e| OutputError::Failed(format!("{}: {e}", dir.to_string_lossy())))? {
        let path = dir.join(name);
        // Without it, somebody could be listed who must not be.
        lists::each_entry(ListKind::Allow, &path, &mut |entry| all.push(Range::from(entry.net)))
            .map_err(|e| OutputError::Failed(format!("{}: {e}", path.to_string_lossy())))?;
    }
    merge(&mut all);
    Ok(all)
}

/// A change of the list, for people.
fn line(out: &mut dyn io::Write, operator: &Operator, who: &Range, change: Change) -> io::Result<()> {
    match change {
        Change::Add(Listing { members, groups }) => {
            writeln!(out, "+ {who}  {} of {}", count(members, "member"), count(groups, "group"))
        }
        Change::Update(Listing { members, groups }) => {
            writeln!(out, "~ {who}  {} of {}", count(members, "member"), count(groups, "group"))
        }
        Change::Remove(why) => writeln!(out, "- {who}  {}", reason(operator, why)),
    }
}

/// The same for programs.
fn object(out: &mut dyn io::Write, operator: &Operator, who: &Range, change: Change) -> io::Result<()> {
    let (word, listing, why) = match change {
        Change::Add(listing) => ("add", Some(listing), None),
        Change::Update(listing) => ("update", Some(listing), None),
        Change::Remove(why) => ("remove", None, Some(reason(operator, why))),
    };
    let object = Object::new().text("change", word).word("address", who);
    let object = object.number("members", listing.as_ref().map(|listing| listing.members.into()));
    let object = object.number("groups", listing.as_ref().map(|listing| listing.groups.into()));
    writeln!(out, "{}", object.text("why", why.as_deref()).finish())
}

fn reason(operator: &Operator, why: Why) -> String {
    match why {
        Why::Unreported => "no longer reported".to_owned(),
        Why::Exempt => "allowed, a member's own, or nobody's on the internet".to_owned(),
        Why::Members(n) => format!("reported by {}, {} needed", count(n, "member"), operator.min_members),
        Why::Groups(n) => {
            format!("reported by members of {}, {} needed", count(n, "group"), operator.min_groups)
        }
        Why::Weight(n) => format!("its reports weigh {}, {} needed", n / 10, operator.min_weight),
        Why::Wide => "too many others from its network".to_owned(),
        Why::Share(member) => {
            let name = operator.members.get(usize::from(member)).map_or("", |member| &member.name);
            format!("it depends on {name}, on which too much of the list depends")
        }
    }
}

fn summary_object(sum: &Summary, run: AggregateRun) -> String {
    let numbers = [
        ("listed", sum.listed),
        ("added", sum.added),
        ("changed", sum.updated),
        ("removed", sum.removed),
        ("reports", sum.reports),
        ("addresses", sum.addresses),
        ("too_few", sum.few),
        ("wide", sum.wide),
        ("dependent", sum.share),
        ("may_depend", sum.may_depend()),
        ("exempt", sum.exempt),
        ("stale", sum.stale),
        ("flooded", sum.flooded),
    ];
    let object = Object::new().flag("dry_run", run == AggregateRun::Dry);
    numbers.into_iter().fold(object, |object, (name, number)| object.number(name, number)).finish()
}

fn sum_up(sum: &Summary, run: AggregateRun, output: &mut Output<'_>) -> Result<(), OutputError> {
    let would = if run == AggregateRun::Dry { "would be " } else { "" };
    writeln!(
        output.out,
        "{} listed: {} {would}added, {} {would}changed, {} {would}removed",
        sum.listed, sum.added, sum.updated, sum.removed
    )?;
    writeln!(
        output.out,
        "{} of {}; not listed: {} from too few members or groups, {} in networks with too \
        many others, {} that depend on one member (at most {} may)",
        count(sum.reports, "report"),
        count(sum.addresses, "address"),
        sum.few,
        sum.wide,
        sum.share,
        sum.may_depend()
    )?;
    writeln!(
        output.out,
        "not counted: {} of exempt addresses, {} too old or from the future, {} of \
        flooded networks",
        count(sum.exempt, "report"),
        sum.stale,
        sum.flooded
    )?;
    Ok(())
}
