#![forbid(unsafe_code)]
//! `mef test`: one service rule over a log, or all of them, without touching anything.

use super::{Error, Output, STDIN, parse, selftest, settings};
use crate::base::clock::{Mono, Wall};
use crate::base::json::Object;
use crate::base::net::offender;
use crate::base::range::Range;
use crate::config::{Engine, FileProblem, Loaded, ServiceRule, conf_files, load_rule};
use crate::detect::header::{self, Stamp};
use crate::detect::tracker::{Attempt, Limits, Tracker};
use crate::detect::webscan::{Excess, Webscan};
use crate::detect::{Counts, Detector, Hit, MAX_RULES};
use crate::input::blocks;
use crate::sys::{clock, fs, random, stdio};
use argh::FromArgs;
use std::net::IpAddr;
use std::path::Path;

/// Offenders tracked: more than the daemon has, so that little is evicted however long the log is.
const TRACK: usize = 1 << 16;
/// Instead of a name: every rule of `rules_dir`.
const ALL: &str = "all";
/// Bans shown to people; `--json` shows all.
const SHOWN: u64 = 20;

/// Run a service rule over a log, and show what it would do. Nothing is banned.
#[derive(FromArgs)]
#[argh(
    help_triggers("-h", "--help"),
    note = "RULE is the name of a rule, the path of its file, or all: every rule of rules_dir, also those that are off, but for\nthose of engine=webscan. Of all rules, those with programs= read a file that begins with a syslog header, the others any other.\nWith --hits, LINE<TAB>ADDRESS is printed for each line that hits, and nothing else; the summary goes to standard error.",
    example = "mef test sshd /var/log/auth.log\n  mef test all /var/log/auth.log\n  mef test --hits ./my-rule.conf - < log\n  mef test --self"
)]
struct Args {
    /// the rule, then log files; - is standard input
    #[argh(positional, arg_name = "RULE FILE")]
    words: Vec<String>,
    /// print the number and the address of every line that hits
    #[argh(switch)]
    hits: bool,
    /// one JSON object a line: each ban, then the summary
    #[argh(switch)]
    json: bool,
    /// run the examples inside every service rule
    #[argh(switch, long = "self")]
    own: bool,
    /// where the rules are (default: rules_dir of mef.conf)
    #[argh(option, arg_name = "dir")]
    rules_dir: Option<String>,
    /// another mef.conf
    #[argh(option, arg_name = "file")]
    config: Option<String>,
}

pub(super) fn run(args: &[&str], output: &mut Output<'_>) -> Result<(), Error> {
    let args: Args = parse("test", args)?;
    let mut settings = settings(args.config.as_deref(), output);
    if let Some(dir) = &args.rules_dir {
        settings.rules_dir.clone_from(dir);
    }
    if args.own {
        return selftest::run(settings, &args.words, output);
    }
    let Some((name, files)) = args.words.split_first().filter(|(_, files)| !files.is_empty()) else {
        return Err(Error::Usage("test which rule on which file? `mef test --help` shows examples".into()));
    };
    let prefix = u8::try_from(settings.ipv6_prefix).unwrap_or(64);
    let mut names = vec![name.clone()];
    if name == ALL {
        let dir = settings.rules_dir.as_str();
        let files = conf_files(Path::new(dir)).map_err(|e| Error::Failed(format!("{dir}: {e}")))?;
        names = files.iter().map(|file| format!("{dir}/{file}")).collect();
    }
    let (mut own, mut rules) = (Vec::new(), Vec::new());
    for path in &names {
        let loaded = load_rule(settings, path, &mut |rule, problems| match crate::rules::compile(rule) {
            // To webscan every line of any log is a request that it cannot read.
            Ok(compiled) if name != ALL || compiled.webscan.is_none() => rules.push(compiled),
            Ok(_) => {}
            Err(more) => problems.extend(more),
        });
        tell(&loaded, output);
        own.extend(loaded.rules.into_iter().filter(|rule| name != ALL || rule.engine != Engine::Webscan));
        settings = loaded.settings;
    }
    if rules.is_empty() || rules.len() != own.len() {
        return Err(Error::Told);
    }
    if rules.len() > MAX_RULES {
        return Err(Error::Failed(format!("{} rules are more than {MAX_RULES}", rules.len())));
    }
    let limits: Vec<Limits> =
        own.iter().zip(&rules).map(|(rule, compiled)| crate::rules::limits(rule, compiled)).collect();
    let mut test = Test {
        args: &args,
        own: &own,
        counts: vec![[0; 2]; own.len()],
        prefix,
        tracker: Tracker::new(TRACK, &limits, random::key()),
        webscan: Webscan::new(&rules, random::key()),
        now: clock::wall(),
        local: clock::local_offset(clock::wall()),
        last: Mono::default(),
        shown: 0,
        text: Vec::with_capacity(8192),
        failed: None,
    };
    let mut detector = Detector::new(rules);
    for file in files {
        let path = if file == "-" { STDIN } else { file };
        let opened = if path == STDIN { stdio::stdin() } else { fs::open(Path::new(path)) };
        let read = |file| blocks(file, &mut |block| test.block(&mut detector, block, output));
        if let Err(e) = opened.and_then(read) {
            output.problem(&format_args!("{file}: {e}"));
        }
    }
    test.summary(detector.counts(), output)?;
    output.end()
}

pub(super) fn tell(loaded: &Loaded, output: &mut Output<'_>) {
    let _ = output.out.flush();
    for FileProblem { shown, .. } in &loaded.problems {
        output.raw(shown);
    }
}

/// One run over the files.
struct Test<'a> {
    args: &'a Args,
    /// The rules that read the files.
    own: &'a [ServiceRule],
    /// Hits and bans of each.
    counts: Vec<[u64; 2]>,
    prefix: u8,
    tracker: Tracker,
    webscan: Webscan,
    now: Wall,
    local: i32,
    /// When the last line with a stamp was written.
    last: Mono,
    /// Lines about bans so far.
    shown: u64,
    /// Output that is to be written.
    text: Vec<u8>,
    failed: Option<std::io::Error>,
}

impl Test<'_> {
    fn block(&mut self, detector: &mut Detector, block: &[u8], output: &mut Output<'_>) {
        if self.failed.is_some() {
            return;
        }
        let before = detector.counts().lines;
        detector.block(self.wanted(block), block, &mut |at, line, hit| {
            let number = before + 1 + u64::try_from(at).unwrap_or(0);
            self.hit(number, line, &hit);
        });
        self.failed = output.out.write_all(&self.text).err();
        self.text.clear();
    }

    /// Which rules read the block. Of all rules, as the daemon has it: what begins with a syslog header is for those with
    /// programs, everything else for the others.
    fn wanted(&self, block: &[u8]) -> u64 {
        let line = block.split(|b| *b == b'\n').next().unwrap_or_default();
        let syslog = header::parse(line).is_some();
        let reads = |rule: &ServiceRule| self.own.len() == 1 || rule.programs.is_empty() != syslog;
        let rules = (0..).zip(self.own).filter(|(_, rule)| reads(rule));
        rules.fold(0, |all, (n, _): (u32, _)| all | 1 << n)
    }

    fn hit(&mut self, number: u64, line: &[u8], hit: &Hit) {
        if hit.success {
            if let Some(name) = hit.name(line) {
                self.tracker.success(hit.rule, offender(hit.addr, self.prefix), name);
            }
            return;
        }
        let Some(request) = &hit.request else {
            if !self.args.hits {
                self.time(header::parse(line).and_then(|h| h.stamp));
                let who = offender(hit.addr, self.prefix);
                let attempt = Attempt { weight: hit.weight, name: hit.name(line), way: hit.way };
                if let Some(hits) = self.tracker.attempt(self.last, hit.rule, who, &attempt) {
                    self.ban(number, hit.rule, &Range::from(who), hits, None);
                }
            }
            return self.line(number, hit);
        };
        // A request is a hit when it is too much.
        self.time(request.stamp);
        let who = offender(hit.addr, self.prefix);
        let Some(excess) = self.webscan.request(self.last, hit.rule, who, line, request) else { return };
        if !self.args.hits {
            self.ban(number, hit.rule, &Range::from(who), excess.requests, Some(&excess));
        }
        self.line(number, hit);
    }

    /// Counts a hit; a line of `--hits`.
    fn line(&mut self, number: u64, hit: &Hit) {
        if let Some([hits, _]) = self.counts.get_mut(usize::from(hit.rule)) {
            *hits += 1;
        }
        if self.args.hits {
            push_line(&mut self.text, number, hit.addr);
        }
    }

    fn time(&mut self, stamp: Option<Stamp>) {
        if let Some(stamp) = stamp {
            // Ages count from one moment, so they keep the order and the distances of the stamps.
            let at = self.now.0.saturating_sub(stamp.age(self.now, self.local));
            self.last = Mono(at.saturating_mul(1000));
        }
    }

    /// A ban, or what a threshold with action=detect would tell.
    fn ban(&mut self, number: u64, rule: u16, who: &Range, hits: u32, excess: Option<&Excess>) {
        let event = if excess.is_some_and(|e| e.detect) { "detect" } else { "ban" };
        let index = usize::from(rule);
        if let Some([_, bans]) = self.counts.get_mut(index).filter(|_| event == "ban") {
            *bans += 1;
        }
        let rule = self.own.get(index).map_or("", |rule| &rule.name);
        self.shown += 1;
        let who = who.to_string();
        if self.args.json {
            let ban = Object::new().text("event", event).number("line", number);
            let mut ban = ban.text("address", who.as_str()).number("hits", u64::from(hits));
            ban = ban.text("rule", rule);
            if let Some(excess) = excess {
                ban = ban.text("reason", excess.reason.as_str());
            }
            self.text.extend_from_slice(ban.finish().as_bytes());
            self.text.push(b'\n');
        } else if self.shown <= SHOWN {
            // One rule needs no name.
            let rule = if self.own.len() > 1 { format!(" ({rule})") } else { String::new() };
            let text = match excess {
                Some(excess) => format!("line {number}: {event} {who}: {}{rule}\n", excess.reason),
                None => format!("line {number}: ban {who} after {hits} hits{rule}\n"),
            };
            self.text.extend_from_slice(text.as_bytes());
        } else if self.shown == SHOWN + 1 {
            self.text.extend_from_slice(b"\xe2\x80\xa6 and more (--json shows all)\n");
        }
    }

    fn summary(&mut self, c: &Counts, output: &mut Output<'_>) -> Result<(), Error> {
        if let Some(e) = self.failed.take() {
            return Err(Error::Output(e));
        }
        let [hits, bans] = self.counts.iter().fold([0; 2], |[hits, bans], [h, b]| [hits + h, bans + b]);
        let one = if let [one] = self.own { Some(one) } else { None };
        let name = one.map_or(ALL, |rule| &rule.name);
        // Of several rules those that found something.
        let each = self.own.iter().zip(&self.counts).filter(|(_, [hits, _])| one.is_none() && *hits > 0);
        if self.args.json && !self.args.hits {
            for (rule, [hits, bans]) in each {
                let text = Object::new().text("event", "rule").text("rule", rule.name.as_str());
                writeln!(output.out, "{}", text.number("hits", *hits).number("bans", *bans).finish())?;
            }
            let text = Object::new().text("event", "summary").text("rule", name);
            let text = text.number("lines", c.lines).number("hits", hits).number("ignored", c.ignored);
            let text = text.number("ambiguous", c.ambiguous).number("no_address", c.no_address);
            writeln!(output.out, "{}", text.number("bans", bans).finish())?;
            return Ok(());
        }
        let text = format!(
            "{name}: {} lines, {hits} hits, {} ignored, {} ambiguous, {} without an address",
            c.lines, c.ignored, c.ambiguous, c.no_address
        );
        if self.args.hits {
            output.note(&text);
            return Ok(());
        }
        let Some(rule) = one else {
            writeln!(output.out, "{text}\n{bans} bans")?;
            for (rule, [hits, bans]) in each {
                writeln!(output.out, "{}: {hits} hits, {bans} bans", rule.name)?;
            }
            return Ok(());
        };
        if rule.engine == Engine::Webscan {
            writeln!(output.out, "{text}, {} not understood\n{bans} bans", c.no_header)?;
        } else {
            let (times, within) = (rule.maxretry, crate::config::written(rule.findtime));
            writeln!(output.out, "{text}\n{bans} bans ({times} hits within {within})")?;
        }
        Ok(())
    }
}

/// Longest line of [`push_line`].
const LINE: usize = 20 + 1 + 39 + 1;

/// A number, a tab, an address and a newline, without the formatting machinery: there may be millions of them.
fn push_line(out: &mut Vec<u8>, number: u64, addr: IpAddr) {
    // From its end, as digits come.
    let mut line = [0; LINE];
    let mut at = LINE;
    let mut put = |byte: u8| {
        at -= 1;
        if let Some(place) = line.get_mut(at) {
            *place = byte;
        }
    };
    put(b'\n');
    match addr {
        IpAddr::V4(v4) => {
            for (octet, before) in v4.octets().into_iter().zip(*b"\t...").rev() {
                digits(octet.into(), &mut put);
                put(before);
            }
        }
        IpAddr::V6(v6) => {
            v6_backwards(v6.segments(), &mut put);
            put(b'\t');
        }
    }
    digits(number, &mut put);
    out.extend_from_slice(line.get(at..).unwrap_or_default());
}

/// An IPv6 address as RFC 5952 writes it, the last byte first.
fn v6_backwards(groups: [u16; 8], put: &mut impl FnMut(u8)) {
    let zeros = |from: &usize| groups.iter().skip(*from).take_while(|&&group| group == 0).count();
    // Of equals the first, which the last of a reversed order is.
    let begin = (0..8).rev().max_by_key(zeros).unwrap_or(0);
    let gap = begin..begin + Some(zeros(&begin)).filter(|&len| len > 1).unwrap_or(0);
    for (at, mut group) in groups.into_iter().enumerate().rev() {
        if gap.contains(&at) {
            // The other colon is that before the group behind.
            if at == gap.start {
                put(b':');
                (gap.end == 8).then(|| put(b':'));
            }
            continue;
        }
        loop {
            put(b"0123456789abcdef".get(usize::from(group % 16)).copied().unwrap_or(b'0'));
            group /= 16;
            if group == 0 {
                break;
            }
        }
        if at > 0 {
            put(b':');
        }
    }
}

/// The decimal digits of `n`, the last first.
fn digits(mut n: u64, put: &mut impl FnMut(u8)) {
    loop {
        put(b'0' + u8::try_from(n % 10).unwrap_or(0));
        n /= 10;
        if n == 0 {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_addresses_are_written_as_everywhere() {
        for number in [0, 7, 10, 4096, u64::MAX] {
            for text in ["0.0.0.0", "192.0.2.255", "255.255.255.255", "2001:db8::1", "::1"] {
                let mut out = Vec::new();
                push_line(&mut out, number, text.parse().unwrap());
                assert_eq!(String::from_utf8(out).unwrap(), format!("{number}\t{text}\n"));
            }
        }
    }

    #[test]
    fn ipv6_addresses_are_written_as_by_the_standard_library() {
        let mut rng = fastrand::Rng::with_seed(6);
        for _ in 0..20_000 {
            let groups: [u16; 8] =
                std::array::from_fn(|_| if rng.bool() { 0 } else { rng.u16(..) >> rng.u8(0..16) });
            let addr = std::net::Ipv6Addr::from(groups);
            // Mapped IPv4 is IPv4 here, and written so.
            if addr.to_ipv4_mapped().is_some() {
                continue;
            }
            let mut out = Vec::new();
            push_line(&mut out, 1, addr.into());
            assert_eq!(String::from_utf8(out).unwrap(), format!("1\t{addr}\n"));
        }
    }
}
