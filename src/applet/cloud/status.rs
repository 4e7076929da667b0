#![forbid(unsafe_code)]
//! `mef cloud status`: how reports to the community cloud go.

use super::CloudForm;
use crate::applet::context::settings;
use crate::applet::output::{Output, OutputError, failed};
use crate::base::clock::Wall;
use crate::base::count::count;
use crate::base::json::Object;
use crate::base::utc::Stamp;
use crate::cloud::report;
use crate::cloud::reports::Standing;
use crate::config::Cloud;
use std::io::{self, Write};
use std::path::Path;

/// How reports go.
pub(super) fn show(
    config: Option<&str>,
    form: CloudForm,
    output: &mut Output<'_>,
) -> Result<(), OutputError> {
    let settings = settings(config, output);
    let cloud = &settings.cloud;
    let standing = match cloud.report {
        true => report::standing(Path::new(&settings.state_dir)).map_err(failed)?,
        false => None,
    };
    let write = match form {
        CloudForm::Programs => object,
        CloudForm::People => people,
    };
    write(output.out, cloud, standing.as_ref())?;
    let is_in_trouble = standing.is_some_and(|standing| standing.trouble().is_some());
    if is_in_trouble { Err(OutputError::Told) } else { Ok(()) }
}

fn object(out: &mut dyn Write, cloud: &Cloud, standing: Option<&Standing>) -> io::Result<()> {
    let (is_on, server) = (cloud.report, cloud.server.map(|server| server.to_string()));
    let zone = [&cloud.member, ".r.", &cloud.zone].concat();
    let number = |number: fn(&Standing) -> u64| standing.map(number);
    let trouble = standing.and_then(Standing::trouble).map(|trouble| trouble.to_string());
    let next = standing.filter(|_| trouble.is_some()).and_then(|s| report::due(s, cloud.report_interval));
    let object = Object::new()
        .flag("reports", is_on)
        .text("member", is_on.then_some(cloud.member.as_str()))
        .text("server", server.as_deref().filter(|_| is_on))
        .text("zone", is_on.then_some(zone.as_str()))
        .number("waiting", number(|s| s.waiting.into()))
        .number("in_zone", number(|s| s.sent.into()))
        .number("sent", number(|s| s.totals[0]))
        .number("withdrawn", number(|s| s.totals[1]))
        .number("dropped", number(|s| s.totals[2]))
        .number("last_success", standing.map(|s| s.done_at.0).filter(|at| *at > 0))
        .text("trouble", trouble.as_deref())
        .number("next_try", next.map(|at| at.0))
        .number("failures", number(|s| s.failures.into()));
    writeln!(out, "{}", object.finish())
}

fn people(out: &mut dyn Write, cloud: &Cloud, standing: Option<&Standing>) -> io::Result<()> {
    if !cloud.report {
        return writeln!(out, "reports      off (community_report=true switches them on)");
    }
    let server = cloud.server.map_or_else(|| "no community_server=".to_owned(), |server| server.to_string());
    writeln!(out, "reports      as {} to {server}, zone {}.r.{}", cloud.member, cloud.member, cloud.zone)?;
    let Some(standing) = standing else { return writeln!(out, "nothing was reported yet") };
    let [sent, taken_back, dropped] = standing.totals;
    writeln!(out, "waiting      {}", standing.waiting)?;
    writeln!(out, "in the zone  {}", standing.sent)?;
    writeln!(out, "ever         {sent} sent, {taken_back} withdrawn, {dropped} dropped")?;
    if standing.done_at != Wall(0) {
        writeln!(out, "last success {}", Stamp(standing.done_at))?;
    }
    let Some(trouble) = standing.trouble() else { return Ok(()) };
    writeln!(out, "trouble      {trouble}")?;
    let due = report::due(standing, cloud.report_interval);
    let due = due.map_or_else(|| "when there is something to report".to_owned(), |at| Stamp(at).to_string());
    writeln!(out, "next try     {due}, after {}", count(standing.failures, "failure"))
}
