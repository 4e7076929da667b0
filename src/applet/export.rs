#![forbid(unsafe_code)]
//! `mef export`: rules of the kernel as a rule set.

use super::args::parse;
use super::context::settings;
use super::output::{Output, OutputError};
use crate::base::json::Object;
use crate::rulefile;
use crate::sys::capability;
use argh::FromArgs;

/// Families of tables, as nft(8) has them.
const FAMILIES: [&str; 6] = ["inet", "ip", "ip6", "arp", "bridge", "netdev"];

/// Show the rules that the kernel has, whoever made them, in the language of mef.rules. What cannot be said
/// in it stands there as a comment.
#[derive(FromArgs)]
#[argh(
    help_triggers("-h", "--help"),
    note = "A rule that drops or refuses packets and cannot be expressed is a statement that `mef load` \
        refuses, and the exit status is 1.",
    note = "Sets and rules stand as they are at this moment; the table of bans is never shown.",
    example = "mef export\n  mef export --family inet --table mef > old.rules"
)]
struct ExportArgs {
    /// only tables of this family: inet, ip, ip6, arp, bridge or netdev
    #[argh(option, arg_name = "family")]
    family: Option<String>,
    /// only tables of this name
    #[argh(option, arg_name = "name")]
    table: Option<String>,
    /// one JSON object per line
    #[argh(switch)]
    json: bool,
}

pub(super) fn run(args: &[&str], output: &mut Output<'_>) -> Result<(), OutputError> {
    let args: ExportArgs = parse("export", args)?;
    // Which backend it is asked for.
    settings(None, output);
    // It asks the kernel, and that is all.
    capability::give_up_all_but(&[capability::NET_ADMIN]);
    if let Some(family) = args.family.as_deref().filter(|family| !FAMILIES.contains(family)) {
        let family = crate::base::line::shown(family);
        return Err(OutputError::Usage(
            ["unknown family '", &family, "', expected one of: ", &FAMILIES.join(", ")].concat(),
        ));
    }
    let all =
        rulefile::exported(args.family.as_deref(), args.table.as_deref()).map_err(OutputError::Failed)?;
    if all.lines.is_empty() && (args.family.is_some() || args.table.is_some()) {
        return Err(OutputError::Failed("no such table".into()));
    }
    for line in &all.lines {
        if args.json {
            writeln!(output.out, "{}", Object::new().text("text", line.as_str()).finish())?;
        } else {
            writeln!(output.out, "{line}")?;
        }
    }
    let (said, unsaid) = (all.counts.said.to_string(), all.counts.unsaid.to_string());
    output.note(&[said.as_str(), " rules; ", &unsaid, " that cannot be expressed are comments"].concat());
    if !all.meet.is_empty() {
        let hooks = all.meet.join(", ");
        output.note(
            &["several chains at one hook (", &hooks, "): look at what they accept before you load this"]
                .concat(),
        );
    }
    if all.counts.lost > 0 {
        let lost = all.counts.lost.to_string();
        return Err(OutputError::Failed(
            [&lost, " of them drop or refuse packets: `mef load` refuses this until their lines are deleted"]
                .concat(),
        ));
    }
    Ok(())
}
