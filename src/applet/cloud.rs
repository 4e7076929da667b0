#![forbid(unsafe_code)]
//! `mef cloud`: how reporting goes, for a member; and for who runs a cloud, its members and its list.

mod aggregate;
mod status;

use super::args::parse;
use super::output::{Output, OutputError, failed, required};
use crate::base::build_part::BuildPart;
use crate::base::json::Object;
use crate::base::range::Range;
use crate::cloud::{keyfile, provision};
use crate::config::{Operator, member_name, parse_operator};
use crate::dns::name::Name;
use crate::dns::tsig::Key;
use crate::sys::dir::Dir;
use crate::sys::fs;
use argh::FromArgs;
use std::io::{self, ErrorKind};
use std::path::Path;

/// Where the operator's file is, and its key beside it.
const OPERATOR: &str = "/etc/mef/cloud.conf";
/// The operator's key, by its name.
const KEY_NAME: &str = "operator";
/// What a new file of the operator begins with.
const NEW: &str = "\
# The community cloud that is run from here: mef cloud aggregate. See cloud.md.
[cloud]
zone=%zone%
server=%server%
key_file=%key%
# An address is listed when this many members of this many groups have reported it within this time.
#min_members=3
#min_groups=3
#max_age=7d
# Least total weight of the reports: 100 each when new, half as much every day.
#min_weight=0
# Percent of the list that may depend on one member, and entries that may in any case.
#max_share=5
#share_floor=100

# NAME=GROUP, then weight=PERCENT and the member's own addresses, which are never listed.
[members]
";

/// Show how reports to the community cloud go; or run a cloud: its members and its list.
#[derive(FromArgs)]
#[argh(
    help_triggers("-h", "--help"),
    note = "A member needs community_* in mef.conf, and `status` alone. To run a cloud, begin with `init`: \
        the configuration\nthat the server needs is printed, for Knot DNS and for BIND.",
    example = "mef cloud status\n  mef cloud init cloud.example --server 192.0.2.53\n  mef cloud member \
    add web1 \
        --group acme"
)]
struct Args {
    /// status, aggregate, init ZONE, member add NAME, member list, member remove NAME
    #[argh(positional, arg_name = "WORD")]
    words: Vec<String>,
    /// who runs a new member: members of one group count as one
    #[argh(option, arg_name = "name")]
    group: Option<String>,
    /// a new member's own address or network, never listed; may be repeated
    #[argh(option, arg_name = "addr")]
    own: Vec<String>,
    /// the server of a new cloud: an address, with a port if it is not 53
    #[argh(option, arg_name = "addr")]
    server: Option<String>,
    /// only show what would be changed, and why
    #[argh(switch)]
    dry_run: bool,
    /// JSON objects
    #[argh(switch)]
    json: bool,
    /// path to cloud.conf
    #[argh(option, arg_name = "file", default = "OPERATOR.to_owned()")]
    operator: String,
    /// path to mef.conf
    #[argh(option, arg_name = "file")]
    config: Option<String>,
}

/// Whom the output is for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum CloudForm {
    People,
    Programs,
}

impl Args {
    fn form(&self) -> CloudForm {
        if self.json { CloudForm::Programs } else { CloudForm::People }
    }
}

pub(super) fn run(args: &[&str], output: &mut Output<'_>) -> Result<(), OutputError> {
    let args: Args = parse("cloud", args)?;
    let words: Vec<&str> = args.words.iter().map(String::as_str).collect();
    if words == ["status"] {
        return status::show(args.config.as_deref(), args.form(), output);
    }
    required(BuildPart::Operator)?;
    match words.as_slice() {
        ["aggregate"] => aggregate::run(&args, output),
        ["init", zone] => init(zone, &args, output),
        ["member", "add", name] => add(name, &args, output),
        ["member", "list"] => list(&args, output),
        ["member", "remove", name] => remove(name, &args, output),
        _ => Err(OutputError::Usage(
            "expected status, aggregate, init ZONE, member add NAME, member list or member remove NAME; see \
             mef cloud --help"
                .to_owned(),
        )),
    }
}

/// Reads the operator's file.
fn operator(args: &Args, output: &mut Output<'_>) -> Result<(Operator, String), OutputError> {
    let path = &args.operator;
    let text = fs::content(Path::new(path)).map_err(|e| match e.kind() {
        ErrorKind::NotFound => {
            OutputError::Failed(format!("{path} does not exist; mef cloud init ZONE creates it"))
        }
        _ => OutputError::Failed(format!("{path}: {e}")),
    })?;
    let (operator, problems) = parse_operator(&text);
    for problem in &problems {
        output.raw(&problem.render(path, &String::from_utf8_lossy(&text)));
    }
    if problems.iter().any(|p| p.severity == crate::base::diag::Severity::Error) {
        return Err(OutputError::Told);
    }
    let text = String::from_utf8(text).map_err(failed)?;
    Ok((operator, text))
}

/// Replaces a file, or makes it; nobody else may read it.
fn write(path: &str, text: &str) -> Result<(), OutputError> {
    let wrong = |e: io::Error| OutputError::Failed(format!("{path}: {e}"));
    let path = Path::new(path);
    let (Some(dir), Some(name)) = (path.parent(), path.file_name().and_then(|name| name.to_str())) else {
        return Err(wrong(fs::invalid("not a file path")));
    };
    Dir::create(dir)
        .and_then(|dir| dir.replace(name, &[name, ".tmp"].concat(), text.as_bytes()))
        .map_err(wrong)
}

fn init(zone: &str, args: &Args, output: &mut Output<'_>) -> Result<(), OutputError> {
    let Some(server) = &args.server else {
        return Err(OutputError::Usage("missing --server ADDR: where the zones will be".to_owned()));
    };
    let zone = zone.trim_end_matches('.');
    if Name::parse(["bl.", zone].concat().as_bytes()).is_none() {
        return Err(OutputError::Usage(format!("'{zone}' is not a domain name")));
    }
    if Path::new(&args.operator).exists() {
        return Err(OutputError::Failed(format!("{} already exists", args.operator)));
    }
    let key_file = [args.operator.trim_end_matches(".conf"), ".key"].concat();
    let text = provision::filled(NEW, &[("zone", zone), ("server", server), ("key", &key_file)]);
    let (_, problems) = parse_operator(text.as_bytes());
    if let Some(problem) = problems.first() {
        return Err(OutputError::Usage(problem.render(&args.operator, &text)));
    }
    let key = new_key(KEY_NAME)?;
    write(&key_file, &[&key.text(), "\n"].concat())?;
    write(&args.operator, &text)?;
    let parts = provision::operator(zone, &key);
    if args.json {
        let object = Object::new().text("file", args.operator.as_str()).text("key_file", key_file.as_str());
        writeln!(output.out, "{}", object.text("text", parts.text()).finish())?;
        return Ok(());
    }
    output.note(&format_args!("wrote {} and {key_file}; the server needs this:", args.operator));
    output.out.write_all(parts.text().as_bytes())?;
    Ok(())
}

fn new_key(name: &str) -> Result<Key, OutputError> {
    let name =
        Name::parse(name.as_bytes()).ok_or_else(|| OutputError::Failed("not a key name".to_owned()))?;
    Key::new(name, keyfile::secret()).map_err(failed)
}

fn add(name: &str, args: &Args, output: &mut Output<'_>) -> Result<(), OutputError> {
    let (operator, text) = operator(args, output)?;
    let Some(group) = &args.group else {
        return Err(OutputError::Usage("missing --group NAME: who runs the member".to_owned()));
    };
    for word in [name, group] {
        member_name(word).map_err(|bad| OutputError::Usage([bad.what.as_str(), "; ", &bad.hint].concat()))?;
    }
    if let Some(known) = operator.members.iter().find(|member| member.name == name) {
        return Err(OutputError::Failed(format!("{name} is a member already, of {}", known.group)));
    }
    let mut line = [name, "=", group].concat();
    args.own.iter().for_each(|own| line.push_str(&[" ", own].concat()));
    // Behind the last section, which is that of the members, or a new one.
    let newline = if text.ends_with('\n') || text.is_empty() { "" } else { "\n" };
    let new = [&text, newline, "[members]\n", &line, "\n"].concat();
    let (_, problems) = parse_operator(new.as_bytes());
    if let Some(problem) = problems.first() {
        return Err(OutputError::Failed(problem.render(&args.operator, &new)));
    }
    // One headline is enough where the members stand last.
    let short = [&text, newline, &line, "\n"].concat();
    let new =
        if parse_operator(short.as_bytes()).0 == parse_operator(new.as_bytes()).0 { short } else { new };
    let key = new_key(name)?;
    write(&args.operator, &new)?;
    let server = operator.server.map_or_else(String::new, shown_server);
    let parts = provision::member(&operator.zone, &server, name, &key);
    if args.json {
        let object = Object::new().text("member", name).text("group", group.as_str());
        writeln!(output.out, "{}", object.text("text", parts.text()).finish())?;
        return Ok(());
    }
    output.note(&format_args!("{name} of {group} is a member; the key is shown this once:"));
    output.out.write_all(parts.text().as_bytes())?;
    Ok(())
}

/// A server as it is written in configurations.
fn shown_server(server: std::net::SocketAddr) -> String {
    if server.port() == 53 { server.ip().to_string() } else { server.to_string() }
}

fn list(args: &Args, output: &mut Output<'_>) -> Result<(), OutputError> {
    let (operator, _) = operator(args, output)?;
    if !args.json {
        writeln!(
            output.out,
            "MEMBER                            GROUP                             WEIGHT  OWN"
        )?;
    }
    for member in &operator.members {
        let own: Vec<String> = member.own.iter().map(|net| Range::from(*net).to_string()).collect();
        let (name, group) = (&member.name, &member.group);
        if args.json {
            let own: Vec<String> = own.iter().map(|own| ["\"", own, "\""].concat()).collect();
            let object = Object::new().text("member", name.as_str()).text("group", group.as_str());
            let object = object.number("weight", u64::from(member.weight));
            let object = object.json("own", &["[", &own.join(","), "]"].concat());
            writeln!(output.out, "{}", object.finish())?;
            continue;
        }
        let line = format!("{name:<33} {group:<33} {:>5}%  {}", member.weight, own.join(" "));
        writeln!(output.out, "{}", line.trim_end())?;
    }
    Ok(())
}

fn remove(name: &str, args: &Args, output: &mut Output<'_>) -> Result<(), OutputError> {
    let (operator, text) = operator(args, output)?;
    if !operator.members.iter().any(|member| member.name == name) {
        return Err(OutputError::Failed(format!("{name} is not a member")));
    }
    let is_it = |line: &str| line.split_once('=').is_some_and(|(key, _)| key.trim_ascii() == name);
    let mut members = false;
    let kept: String = text
        .split_inclusive('\n')
        .filter(|line| {
            if line.trim_ascii_start().starts_with('[') {
                members = line.trim_ascii().starts_with("[members]");
            }
            !(members && is_it(line))
        })
        .collect();
    write(&args.operator, &kept)?;
    let zone = [name, ".r.", &operator.zone].concat();
    if args.json {
        let object = Object::new().text("member", name).text("zone", zone.as_str()).flag("removed", true);
        writeln!(output.out, "{}", object.finish())?;
        return Ok(());
    }
    output.note(&format_args!(
        "{name} is no longer a member; remove its key, its acl and its zone {zone} from the server"
    ));
    Ok(())
}
