#![forbid(unsafe_code)]
//! `mef cloud status`: how reports to the community cloud go.

use crate::applet::context::settings;
use crate::applet::output::{Output, OutputError, failed};
use crate::base::clock::Wall;
use crate::base::utc::Stamp;
use crate::cloud::report;
use std::path::Path;

/// How reports go.
pub(super) fn show(config: Option<&str>, output: &mut Output<'_>) -> Result<(), OutputError> {
    let settings = settings(config, output);
    let cloud = &settings.cloud;
    let out = &mut output.out;
    if !cloud.report {
        writeln!(out, "reports      off (community_report=true switches them on)")?;
        return Ok(());
    }
    let server = cloud.server.map_or_else(|| "no community_server=".to_owned(), |server| server.to_string());
    writeln!(out, "reports      as {} to {server}, zone {}.r.{}", cloud.member, cloud.member, cloud.zone)?;
    let Some(standing) = report::standing(Path::new(&settings.state_dir)).map_err(failed)? else {
        writeln!(out, "nothing was reported yet")?;
        return Ok(());
    };
    let [sent, taken_back, dropped] = standing.totals;
    writeln!(out, "waiting      {}", standing.waiting)?;
    writeln!(out, "in the zone  {}", standing.sent)?;
    writeln!(out, "ever         {sent} sent, {taken_back} withdrawn, {dropped} dropped")?;
    if standing.done_at != Wall(0) {
        writeln!(out, "last success {}", Stamp(standing.done_at))?;
    }
    let Some(trouble) = standing.trouble() else { return Ok(()) };
    writeln!(out, "trouble      {trouble}")?;
    let due = report::due(&standing, cloud.report_interval);
    let due = due.map_or_else(|| "when there is something to report".to_owned(), |at| Stamp(at).to_string());
    writeln!(out, "next try     {due}, after {} failures", standing.failures)?;
    Err(OutputError::Told)
}
