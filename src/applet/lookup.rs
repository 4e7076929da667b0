#![forbid(unsafe_code)]
//! `mef lookup`: what DNSBLs say of an address, by the same questions as the daemon's.

use super::args::parse;
use super::columns;
use super::context::settings;
use super::output::{Output, OutputError, failed};
use crate::base::json::Object;
use crate::base::net::canonical;
use crate::base::range::Range;
use crate::config::Settings;
use crate::dns::client::{ANSWER, Client, FLIGHTS};
use crate::dns::resolv;
use crate::dnsbl::{Ask, Dnsbl, Finding, Profile, State, Tag, Verdict};
use crate::lists::{Paths, reader};
use crate::sys::host::Protected;
use crate::sys::peers::Peers;
use crate::sys::poll::{Ready, wait};
use crate::sys::{clock, random};
use argh::FromArgs;
use std::net::IpAddr;
use std::time::Duration;

/// Ask DNSBLs about an address.
#[derive(FromArgs)]
#[argh(
    help_triggers("-h", "--help"),
    note = "All lists of mef.conf are asked, even those that are off, and tested first (RFC 5782): for one \
        that cannot be relied on, the reason is shown instead.\nNo list is asked about private and reserved \
        addresses, nor, without --force, about addresses on the allow list or of this host's own.\nWorks \
        with and without a daemon; bans nobody. Exit status 1: a list gave no usable answer.",
    example = "mef lookup 192.0.2.7\n  mef lookup --json 2001:db8::7"
)]
struct LookupArgs {
    /// also ask about addresses that are never banned
    #[argh(switch)]
    force: bool,
    /// one JSON object for each list
    #[argh(switch)]
    json: bool,
    /// path to mef.conf
    #[argh(option, arg_name = "file")]
    config: Option<String>,
    /// the address
    #[argh(positional)]
    addr: String,
}

/// What a list says.
#[derive(Default)]
struct LookupRow {
    verdict: Option<(Verdict, u64)>,
    text: String,
}

pub(super) fn run(args: &[&str], output: &mut Output<'_>) -> Result<(), OutputError> {
    let args: LookupArgs = parse("lookup", args)?;
    let settings = settings(args.config.as_deref(), output);
    let addr = args.addr.trim().parse::<IpAddr>().map(canonical);
    let addr = addr.map_err(|_| {
        OutputError::Usage(format!("'{}' is not an address", crate::base::line::shown(&args.addr)))
    })?;
    let zones = settings.zones.iter().filter(|zone| !zone.zone.is_empty());
    let cloud = Some(&settings.cloud.lookup).filter(|zone| !zone.zone.is_empty());
    let profiles: Vec<Profile> = zones.chain(cloud).filter_map(Profile::of).collect();
    if profiles.is_empty() {
        return Err(OutputError::Failed("mef.conf names no DNSBL (rbl_NAME_zone=…)".into()));
    }
    if crate::ban::is_bogon(addr) {
        return Err(OutputError::Failed(format!("{addr} is private or reserved: no list is asked about it")));
    }
    if let Some(why) = exempt(&settings, addr).filter(|_| !args.force) {
        return Err(OutputError::Failed(format!(
            "{addr} is {why}: not asked about (use --force to override)"
        )));
    }
    let mut dnsbl = Dnsbl::new(profiles, random::key(), clock::mono());
    let rows = ask(&settings, &mut dnsbl, addr).map_err(failed)?;
    let mut silent = false;
    for (profile, row) in dnsbl.profiles().iter().zip(&rows) {
        let (word, code, text, answered) = reported(profile, row);
        silent |= !answered;
        let took = row.verdict.map(|(_, took)| took);
        if args.json {
            let object = Object::new()
                .text("list", &*profile.name)
                .text("addr", addr.to_string().as_str())
                .text("result", word)
                .text("answer", Some(code.as_str()).filter(|code| !code.is_empty()))
                .number("ms", took)
                .text("text", Some(text.as_str()).filter(|text| !text.is_empty()));
            writeln!(output.out, "{}", object.finish())?;
        } else {
            let took = took.map(|ms| format!("{ms} ms")).unwrap_or_default();
            let line = format!("{:<12}  {word:<10}  {code:<15}  {took:>7}", profile.name);
            columns::explained(output.out, &line, &text)?;
        }
    }
    if silent { Err(OutputError::Told) } else { output.end() }
}

/// What the lists that are on say of an address, each by its name.
pub(super) fn answers(settings: &Settings, addr: IpAddr) -> std::io::Result<Vec<(String, String)>> {
    if crate::ban::is_bogon(addr) {
        return Ok(Vec::new());
    }
    let profiles = settings.zones_on().filter_map(Profile::of).collect();
    let mut dnsbl = Dnsbl::new(profiles, random::key(), clock::mono());
    let rows = ask(settings, &mut dnsbl, addr)?;
    let says = |(profile, row): (&Profile, &LookupRow)| {
        let (word, code, text, _) = reported(profile, row);
        (profile.name.to_string(), [word, &code, &text].join(" ").trim_end().to_owned())
    };
    Ok(dnsbl.profiles().iter().zip(&rows).map(says).collect())
}

/// Why nobody is to be asked about an address.
fn exempt(settings: &Settings, addr: IpAddr) -> Option<&'static str> {
    let addr = Range::from(addr);
    let allowed = reader(Paths::of(settings), Duration::ZERO, std::rc::Rc::default())(Vec::new());
    if allowed.covers(&addr, clock::wall()) {
        return Some("on the allow list");
    }
    if settings.trusted_proxies.iter().any(|net| Range::from(*net).covers(&addr)) {
        return Some("a trusted proxy");
    }
    Protected::read().why(&addr)
}

/// Result, code and text of a list, and whether it has answered.
fn reported(profile: &Profile, row: &LookupRow) -> (&'static str, String, String, bool) {
    match (row.verdict, profile.state) {
        (Some((Verdict::Listed(code), _)), _) => ("listed", code.to_string(), row.text.clone(), true),
        (Some((Verdict::Other(code), _)), _) => {
            ("not listed", code.to_string(), "by a code that answer_match does not name".to_owned(), true)
        }
        (Some((Verdict::Clean, _)), _) => ("not listed", String::new(), String::new(), true),
        (Some((Verdict::Trouble(trouble), _)), _) | (_, State::Waits(Some(trouble))) => {
            ("no answer", String::new(), trouble.to_string(), false)
        }
        (_, State::Off(why)) => ("unreliable", String::new(), why.to_string(), false),
        (_, State::On | State::Waits(None)) => {
            ("not asked", String::new(), "it has no addresses of this family".to_owned(), true)
        }
    }
}

/// Asks all lists, and waits for the last answer.
fn ask(settings: &Settings, dnsbl: &mut Dnsbl, addr: IpAddr) -> std::io::Result<Vec<LookupRow>> {
    let mut client: Client<Tag> = Client::new(|| random::key()[0]);
    let servers: Vec<_> = match settings.dns_servers.as_slice() {
        [] => resolv::read(),
        named => named.iter().map(|addr| resolv::of(*addr)).collect(),
    };
    client.set_servers(&servers);
    let mut peers = Peers::<FLIGHTS>::new()?;
    let mut rows: Vec<LookupRow> = dnsbl.profiles().iter().map(|_| LookupRow::default()).collect();
    let mut take = |ask: Ask, finding: Finding, took: u64| {
        let Some(row) = rows.get_mut(usize::from(ask.list)) else { return };
        match finding {
            Finding::Looked(_, verdict) | Finding::Silent(_, verdict) => row.verdict = Some((verdict, took)),
            Finding::Listed(_, reason) => {
                row.text = reason.split_once(": ").map_or_else(String::new, |(_, text)| text.to_owned());
            }
            _ => {}
        }
    };
    dnsbl.look_up(clock::mono(), addr);
    let mut room = [0; ANSWER];
    loop {
        let now = clock::mono();
        while client.in_flight() < FLIGHTS
            && let Some(question) = dnsbl.next_question(now)
        {
            let asked = (&question.name, question.kind);
            if let Err(trouble) =
                client.ask(now, asked, question.timeout, Tag::List(question.ask), &mut peers)
            {
                take(question.ask, dnsbl.answered(now, question.ask, 0, Err(trouble)), 0);
            }
        }
        if client.in_flight() == 0 {
            return Ok(rows);
        }
        wait(&[Some(peers.fd())], &mut [Ready::No], client.deadline())?;
        let now = clock::mono();
        while let Some(reply) = client.next(now, &mut peers, &mut room) {
            if let Tag::List(ask) = reply.tag {
                take(ask, dnsbl.answered(now, ask, reply.took, reply.answer), reply.took);
            }
        }
    }
}
