#![forbid(unsafe_code)]
//! `mef rules`: the service rules, where each comes from, and one as it is in force.

use super::args::parse;
use super::columns;
use super::output::{Output, OutputError};
use crate::base::diag::suggest;
use crate::base::json::Object;
use crate::base::line::shown;
use crate::config::{DEFAULT_PATH, Loaded, in_force, load};
use crate::services::on;
use argh::FromArgs;
use std::path::Path;

/// List the service rules: whether each is on and why, and where it comes from. With a name: that rule as it
/// is in force.
#[derive(FromArgs)]
#[argh(
    help_triggers("-h", "--help"),
    note = "All shipped rules are built into the program. NAME.conf in rules_dir overrides the keys that it \
        has, or takes\nthe place of the whole rule if it has a failregex of its own; NAME.local beside it \
        changes it further.\nWith NAME, each line of that rule is shown with its origin; what is printed \
        is itself a rule file.",
    example = "mef rules\n  mef rules sshd\n  mef rules --json"
)]
struct RulesArgs {
    /// the rule to show
    #[argh(positional, arg_name = "NAME")]
    name: Option<String>,
    /// one JSON object per line
    #[argh(switch)]
    json: bool,
    /// path to mef.conf
    #[argh(option, arg_name = "file", default = "DEFAULT_PATH.to_owned()")]
    config: String,
}

/// A rule of the list.
struct RuleRow {
    name: String,
    is_on: bool,
    why: String,
    from: String,
}

pub(super) fn run(args: &[&str], output: &mut Output<'_>) -> Result<(), OutputError> {
    let args: RulesArgs = parse("rules", args)?;
    let mut rows: Vec<RuleRow> = Vec::new();
    let loaded = load(Path::new(&args.config), &mut |rule, problems| {
        crate::services::check(rule, problems);
        let (is_on, why) = on(rule);
        let row = RuleRow { name: rule.name.clone(), is_on, why, from: rule.path.clone() };
        rows.insert(rows.partition_point(|other| other.name < row.name), row);
    });
    if let Some(name) = &args.name {
        return one(&args, name, &rows, loaded, output);
    }
    super::test::report(&loaded, output);
    let width = rows.iter().map(|row| row.name.len()).max().unwrap_or(0);
    for row in &rows {
        let RuleRow { name, is_on, why, from } = row;
        let state = if *is_on { "on" } else { "off" };
        let from = &*shown(from);
        if args.json {
            writeln!(output.out, "{}", object(row).finish())?;
        } else {
            let text = format!("{name:<width$}  {state:<3}  {why}; {from}");
            columns::line(output.out, &text, columns::width())?;
        }
    }
    if loaded.failed() { Err(OutputError::Told) } else { output.end() }
}

fn object(RuleRow { name, is_on, why, from }: &RuleRow) -> Object {
    let object = Object::new().text("rule", name.as_str()).flag("on", *is_on);
    object.text("why", why.as_str()).text("from", from.as_str())
}

/// One rule, by its name or by that of its file.
fn one(
    args: &RulesArgs,
    name: &str,
    rows: &[RuleRow],
    loaded: Loaded,
    output: &mut Output<'_>,
) -> Result<(), OutputError> {
    let row = rows.iter().find(|row| row.name == *name);
    // A rule may be called otherwise than its file.
    let file = row.and_then(|row| row.from.rsplit(" + ").next()).filter(|path| !path.starts_with('<'));
    let rule = file.unwrap_or(name);
    let text = match in_force(loaded.settings, &args.config, rule) {
        Ok(text) => text,
        Err(problems) => {
            problems.iter().for_each(|problem| output.raw(&problem.shown));
            let names = rows.iter().map(|row| row.name.as_str());
            if row.is_none() && name.starts_with("rbl-") {
                output.note(
                    &"bans of DNSBLs and of the cloud have such names: see rbl_* and community_* in mef.conf",
                );
            } else if row.is_none()
                && let Some(meant) = suggest(name, names)
            {
                output.note(&format_args!("there is no such rule, did you mean '{meant}'?"));
            }
            return Err(OutputError::Told);
        }
    };
    if args.json {
        let why = "it has errors".to_owned();
        let wrong = RuleRow { name: name.to_owned(), is_on: false, why, from: String::new() };
        writeln!(output.out, "{}", object(row.unwrap_or(&wrong)).text("text", text.as_str()).finish())?;
    } else {
        if let Some(row) = row {
            writeln!(output.out, "# {name}: {}, {}", if row.is_on { "on" } else { "off" }, shown(&row.why))?;
        }
        output.out.write_all(text.as_bytes())?;
    }
    output.end()
}
