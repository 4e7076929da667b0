#![forbid(unsafe_code)]
//! `mefctl bans`: the kernel's bans in the groups of the existing product, and changes to one group alone.
//!
//! A ban is permanent if it has no end, or stands on a deny list; all others are runtime bans, those of a
//! service rule in a group of their own. Sources in the flood throttle are the fourth group.

use super::words::{self, GivenWords, unknown};
use crate::applet::bans::about;
use crate::applet::context::settings;
use crate::applet::output::{Output, OutputError, failed};
use crate::applet::target::TargetReader;
use crate::applet::{allow, ban, target, unban};
use crate::ban::{
    BY_HAND, Ban, BanEntry, Capability, FLOODS, GuardState, Repeat, SCANS, Scope, Transports, WhichBans,
};
use crate::base::clock::Span;
use crate::base::count::count;
use crate::base::json::Object;
use crate::base::line::shown;
use crate::base::range::Range;
use crate::config::{ListKind, PortRanges, Settings};
use crate::enforce::options;
use crate::firewall::backend::Lists;
use crate::firewall::view;
use crate::lists::{self, Paths};

const SCOPES: [&str; 4] = ["--permanent", "--ddos", "--all", "--fastpath"];

pub(super) fn run(args: &[&str], output: &mut Output<'_>) -> Result<(), OutputError> {
    let (action, rest) = words::action("bans", args, &["list", "add", "delete", "clear", "unban"])?;
    match action {
        "list" => list(rest, output),
        "add" => add(rest, output),
        "delete" | "unban" => delete(rest, output),
        _ => clear(rest, output),
    }
}

fn missing() -> OutputError {
    OutputError::Usage("missing IP, or a network such as 192.0.2.0/24".into())
}

/// What is permanent becomes a line of the deny list, as there; with ports it is a ban without an end.
fn add(args: &[&str], output: &mut Output<'_>) -> Result<(), OutputError> {
    let words = GivenWords::read(args, &["--permanent", "--force"], &["--timeout", "--ports"])?;
    let (time, ports) = (words.value("--timeout"), words.value("--ports").filter(|ports| *ports != "all"));
    if words.rest().is_empty() {
        return Err(missing());
    }
    if words.has("--permanent") && time.is_some() {
        return Err(OutputError::Usage("--permanent and --timeout exclude each other".into()));
    }
    let mut args = words.rest().to_vec();
    args.extend(ports.iter().flat_map(|ports| ["--ports", ports]));
    // What is refused names it.
    args.extend(words.has("--force").then_some("--force"));
    match (words.has("--permanent"), ports) {
        (true, None) => return allow::deny(&args, output),
        (true, Some(_)) => args.push("--permanent"),
        (false, _) => args.extend(time.iter().flat_map(|time| ["--for", time])),
    }
    ban::run(&args, output)
}

fn clear(args: &[&str], output: &mut Output<'_>) -> Result<(), OutputError> {
    let words = GivenWords::read(args, &["--ddos", "--all"], &[])?;
    words.none()?;
    match words.one_of(&["--ddos", "--all"])? {
        None => return unban::everybody(WhichBans::ButThrottled, output),
        Some("--all") => return unban::everybody(WhichBans::Timed, output),
        Some(_) => {}
    }
    let mut guard = view(options(&settings(None, output))).map_err(failed)?;
    guard.state().map_err(failed)?;
    let ended = guard.end_throttle(&[]).map_err(failed)?;
    writeln!(output.out, "{} taken out of the flood throttle", count(ended, "source"))?;
    Ok(())
}

/// A ban as it is, for the time after its parts were looked at.
struct HeldBan {
    addr: Range,
    scope: Scope,
    rule: String,
    reason: String,
    hits: u32,
    age: u64,
    left: Option<u64>,
}

impl HeldBan {
    fn of(entry: &BanEntry<'_>) -> HeldBan {
        HeldBan {
            addr: entry.addr,
            scope: entry.scope.clone(),
            rule: entry.rule.to_owned(),
            reason: entry.reason.to_owned(),
            hits: entry.hits,
            age: entry.age.unwrap_or(0),
            left: entry.left,
        }
    }

    fn ban(&self, addr: Range) -> Ban<'_> {
        let time = self.left.map_or(Span::Permanent, Span::Secs);
        let HeldBan { scope, rule, reason, hits, age, .. } = self;
        Ban { addr, scope, time, age: *age, rule, hits: *hits, reason, bans: 0, starts: &[], line: "" }
    }
}

/// Which bans `bans delete` is to end.
struct WantedBans {
    runtime: bool,
    permanent: bool,
    throttle: bool,
    ports: Option<Scope>,
}

impl WantedBans {
    fn read(words: &GivenWords<'_>) -> Result<WantedBans, OutputError> {
        let scope = words.one_of(&["--permanent", "--ddos", "--all"])?;
        let ports =
            words.value("--ports").filter(|ports| *ports != "all").map(PortRanges::of_ban).transpose();
        let ports =
            ports.map_err(|bad| OutputError::Usage(format!("--ports: {}, {}", bad.what, bad.hint)))?;
        if ports.is_some() && scope == Some("--ddos") {
            return Err(OutputError::Usage("--ddos and --ports exclude each other".into()));
        }
        Ok(WantedBans {
            runtime: matches!(scope, None | Some("--all")),
            permanent: matches!(scope, Some("--permanent" | "--all")),
            throttle: matches!(scope, None | Some("--ddos" | "--all")) && ports.is_none(),
            ports: ports.map(|ports| Scope::new(ports.ranges().to_vec(), Transports::Both)),
        })
    }

    fn takes(&self, ban: &HeldBan) -> bool {
        let kind = if ban.left.is_none() { self.permanent } else { self.runtime };
        kind && self.ports.as_ref().is_none_or(|ports| *ports == ban.scope)
    }

    /// Deny lists have no ports.
    fn lists(&self) -> bool {
        self.permanent && self.ports.is_none()
    }
}

fn delete(args: &[&str], output: &mut Output<'_>) -> Result<(), OutputError> {
    let words = GivenWords::read(args, &["--permanent", "--ddos", "--all"], &["--ports"])?;
    let wanted = WantedBans::read(&words)?;
    if words.rest().is_empty() {
        return Err(missing());
    }
    let settings = settings(None, output);
    let mut guard = view(options(&settings)).map_err(failed)?;
    let ipv6_prefix = guard.state().map_err(failed)?.map_or(64, |state| state.ipv6_prefix);
    let reader = TargetReader::new(ipv6_prefix);
    for text in words.rest() {
        match reader.read(text) {
            Ok(range) => end(&range, text, (&wanted, &settings), &mut *guard, output)?,
            Err(what) => output.problem(&what),
        }
    }
    output.end()
}

/// Ends what is wanted of a range's bans.
fn end(
    range: &Range,
    text: &str,
    (wanted, settings): (&WantedBans, &Settings),
    guard: &mut dyn Lists,
    output: &mut Output<'_>,
) -> Result<(), OutputError> {
    let (mut ended, mut others) = (false, None);
    if wanted.lists() && allow::strike(range, settings, output)? {
        writeln!(output.out, "{range} is no longer on a deny list")?;
        ended = true;
    }
    let mut bans = Vec::new();
    let meets =
        &mut |e: &BanEntry<'_>| bans.extend(Some(e).filter(|e| range.meets(&e.addr)).map(HeldBan::of));
    guard.list(meets).map_err(failed)?;
    let (ends, stays): (Vec<HeldBan>, Vec<HeldBan>) = bans.into_iter().partition(|ban| wanted.takes(ban));
    if !ends.is_empty() {
        // It ends all bans of the range; those that are to stay come back at once.
        match unban::run(&[text], output) {
            Ok(()) | Err(OutputError::Told) => {}
            Err(e) => return Err(e),
        }
        again(range, &stays, settings, output)?;
        ended = true;
    } else if let Some(other) = stays.first() {
        let kind = if other.left.is_none() { "permanently: use --permanent" } else { "for a time" };
        let ports = if other.scope.is_all() { String::new() } else { format!(", on ports {}", other.scope) };
        others = Some(format!("{} is banned {kind}{ports}", other.addr));
    }
    if wanted.throttle && guard.end_throttle(&[*range]).map_err(failed)? > 0 {
        writeln!(output.out, "{range} is no longer in the flood throttle")?;
        ended = true;
    }
    if !ended {
        let others = others.map(|others| format!(" ({others})")).unwrap_or_default();
        output.problem(&format_args!("{range} has no such ban{others}"));
    }
    Ok(())
}

/// Makes the parts of bans that lie in a range again.
fn again(
    range: &Range,
    stays: &[HeldBan],
    settings: &Settings,
    output: &mut Output<'_>,
) -> Result<(), OutputError> {
    if stays.is_empty() {
        return Ok(());
    }
    let (mut enforcer, _) = target::table(settings, output)?;
    let part = |held: &'_ HeldBan| held.addr.common(range);
    let bans: Vec<Ban<'_>> = stays.iter().filter_map(|held| part(held).map(|addr| held.ban(addr))).collect();
    let (mut refused, mut notes) = (Vec::new(), Vec::new());
    enforcer.ban(
        crate::sys::clock::wall(),
        &bans,
        Repeat::Prolongs,
        &mut |_, result| refused.extend(result.err().map(ToString::to_string)),
        &mut |note| notes.push(note.to_string()),
    );
    refused.iter().for_each(|why| output.problem(why));
    notes.iter().for_each(|note| output.note(note));
    enforcer.close(crate::sys::clock::wall()).map_err(failed)
}

/// What is shown of the bans.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    Grouped,
    /// Each address once, nothing else.
    Addresses,
    /// Everything that the kernel has of each.
    Rows,
    /// A JSON object for each.
    Objects,
}

const RUNTIME: &str = "Runtime";
const THROTTLE: &str = "DDoS Throttle";
const PERMANENT: &str = "Permanent";
const PER_RULE: &str = "Per-Rule";

/// A group with its lines.
struct Group(&'static str, Vec<(Range, String)>);

fn list(args: &[&str], output: &mut Output<'_>) -> Result<(), OutputError> {
    let flags = ["--permanent", "--ddos", "--all", "--fastpath", "--ips-only", "--verbose"];
    let words = GivenWords::read(args, &flags, &["--format"])?;
    let scope = words.one_of(&SCOPES)?;
    if let Some(more) = words.rest().first() {
        return Err(unknown("word", more, &flags));
    }
    let form = match (words.has("--ips-only"), words.has("--verbose")) {
        (true, true) => return Err(OutputError::Usage("--ips-only and --verbose exclude each other".into())),
        (true, _) => Form::Addresses,
        (_, true) => Form::Rows,
        _ => match words.value("--format") {
            None | Some("text") => Form::Grouped,
            Some("json") => Form::Objects,
            Some(other) => return Err(unknown("format", other, &["text", "json"])),
        },
    };
    let settings = settings(None, output);
    let mut guard = view(options(&settings)).map_err(failed)?;
    let made = guard.state().map_err(failed)?;
    let shown: &[&'static str] = match scope {
        Some("--permanent") => &[PERMANENT],
        Some("--ddos") => &[THROTTLE],
        Some("--fastpath") if !fast(made) => {
            output.note(&if guard.hook().is_some() { NEVER_FAST } else { NOT_FAST });
            return Ok(());
        }
        _ => &[RUNTIME, THROTTLE, PERMANENT, PER_RULE],
    };
    let mut groups: Vec<Group> = shown.iter().map(|name| Group(name, Vec::new())).collect();
    collect(&mut groups, &mut *guard, &settings, form)?;
    show(groups, form, output)
}

const NOT_FAST: &str = "no separate fast path: packets of banned addresses are dropped in prerouting raw, \
    before connection tracking (fastpath=ingress in mef.conf has the ingress hook do it)";

const NEVER_FAST: &str = "no separate fast path with iptables: firewall_backend=nftables in mef.conf has one";

/// Whether packets are dropped in the ingress hook.
pub(super) fn fast(state: Option<GuardState>) -> bool {
    state.is_some_and(|state| state.watches.has(Capability::Ingress))
}

fn collect(
    groups: &mut [Group],
    guard: &mut dyn Lists,
    settings: &Settings,
    form: Form,
) -> Result<(), OutputError> {
    let mut put = |name: &str, addr: Range, text: &mut dyn FnMut() -> String| {
        if let Some(Group(_, lines)) = groups.iter_mut().find(|group| group.0 == name) {
            lines.push((addr, if form == Form::Addresses { String::new() } else { text() }));
        }
    };
    let each = &mut |e: &BanEntry<'_>| {
        let group = match e.rule {
            _ if e.left.is_none() => PERMANENT,
            "" | SCANS | FLOODS => RUNTIME,
            _ => PER_RULE,
        };
        put(group, e.addr, &mut || match form {
            Form::Objects => of_ban(group, e),
            Form::Rows => row(e),
            _ => brief(e),
        });
    };
    guard.list(each).map_err(failed)?;
    let throttled = &mut |addr: Range, left: u64| {
        put(THROTTLE, addr, &mut || match form {
            Form::Objects => object(THROTTLE, &addr).number("left", left).finish(),
            _ => format!("set=throttle left={}", about(left)),
        });
    };
    guard.each_throttled(throttled).map_err(failed)?;
    let paths = Paths::of(settings);
    let dir = paths.dir(ListKind::Deny);
    for name in lists::list_names(dir).map_err(failed)?.unwrap_or_default() {
        let line = &mut |entry: &crate::config::ListEntry| {
            let addr = Range::from(entry.net);
            put(PERMANENT, addr, &mut || match form {
                Form::Objects => object(PERMANENT, &addr).text("list", &*shown(&name)).finish(),
                _ => format!("list={}", shown(&name)),
            });
        };
        lists::each_entry(ListKind::Deny, &dir.join(&name), line)
            .map_err(|e| failed(format!("{}: {e}", dir.join(&name).to_string_lossy())))?;
    }
    Ok(())
}

fn show(groups: Vec<Group>, form: Form, output: &mut Output<'_>) -> Result<(), OutputError> {
    if form == Form::Addresses {
        let mut all: Vec<Range> = groups.into_iter().flat_map(|Group(_, lines)| lines).map(|l| l.0).collect();
        all.sort_unstable();
        all.dedup();
        for range in all {
            writeln!(output.out, "{range}")?;
        }
        return Ok(());
    }
    let width = groups.iter().flat_map(|Group(_, lines)| lines).map(|(addr, _)| addr.to_string().len()).max();
    let width = width.unwrap_or(0);
    for Group(name, mut lines) in groups {
        lines.sort();
        if form == Form::Grouped {
            writeln!(output.out, "{name} ({})", lines.len())?;
        }
        for (addr, text) in lines {
            if form == Form::Objects {
                writeln!(output.out, "{text}")?;
                continue;
            }
            let indent = if form == Form::Grouped { "  " } else { "" };
            writeln!(output.out, "{indent}{:<width$}  {text}", addr.to_string())?;
        }
    }
    Ok(())
}

/// The beginning of an object.
fn object(group: &str, addr: &Range) -> Object {
    Object::new().word("address", addr).word("group", &group)
}

fn of_ban(group: &str, e: &BanEntry<'_>) -> String {
    let object = object(group, &e.addr).number("left", e.left).word("ports", &e.scope);
    object.text("rule", &*rule(e.rule)).number("hits", u64::from(e.hits)).finish()
}

fn brief(e: &BanEntry<'_>) -> String {
    let left = e.left.map_or("permanent".to_owned(), |left| format!("left={}", about(left)));
    let ports = if e.scope.is_all() { String::new() } else { format!(" ports={}", e.scope) };
    format!("{left}{ports} rule={}", rule(e.rule))
}

/// A rule's name as it is shown.
pub(super) fn rule(name: &str) -> String {
    if name.is_empty() { BY_HAND.to_owned() } else { shown(name) }
}

/// All of it, with the set that it stands in.
fn row(e: &BanEntry<'_>) -> String {
    let set = if e.rule == SCANS { "scans" } else { "bans" };
    let dropped = e.packets.map(|n| format!(" dropped={n}")).unwrap_or_default();
    let since = e.age.map(|age| format!(" since={}", about(age))).unwrap_or_default();
    let reason = if e.reason.is_empty() { String::new() } else { format!(" reason={}", shown(e.reason)) };
    let left = e.left.map_or("never ends".to_owned(), about);
    format!(
        "set={set} left={left}{since} ports={} rule={} hits={}{dropped}{reason}",
        e.scope,
        rule(e.rule),
        e.hits
    )
}
