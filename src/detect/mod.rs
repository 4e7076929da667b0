#![forbid(unsafe_code)]
//! Lines in, hits out: candidates, headers, programs, patterns. No I/O, no clock, no firewall.
//!
//! Work goes from cheap to dear: a search for literals over a whole block finds the lines that can matter
//! (`scan`); only those get their header parsed (`header`), their program compared and the patterns run
//! (`extract`). Nothing is allocated after [`Detector::new`].

pub mod access;
mod attempts;
mod colour;
pub mod escalate;
mod extract;
pub mod header;
pub mod observe;
mod path;
mod places;
mod scan;
pub mod stamp;
#[cfg(test)]
mod tests;
pub mod tracker;
pub mod webscan;
pub mod wide;

pub use crate::base::program::Program;
pub use crate::base::rule_bits::RuleBits;

use crate::base::webscan::{WebscanSettings, fits};
use crate::pattern::{CaptureGroup, Captures, MatchScratch, Pattern};
use crate::sys::buffer::Buffer;
use crate::sys::count;
use access::{AccessClient, HttpRequest};
use attempts::Attempts;
use extract::AddrFinding;
use header::{HeaderStamp, StampMemo};
use memchr::{memchr, memrchr};
use path::Path;
use scan::{LiteralScan, Possible, TextKind, bit};
use std::net::IpAddr;
use std::ops::Range;

/// Most rules that one detector can hold: a set of them has so many bits.
pub const MAX_RULES: usize = RuleBits::BITS as usize;
/// Longest line of which the colours are taken out whole, as long as sources give lines.
const LINE: usize = 8192;

/// What one service rule looks for.
#[derive(Clone)]
pub struct DetectRule {
    /// Name, for messages.
    pub name: Box<str>,
    /// Who may have written the line. None: the patterns judge whole lines, header and all.
    pub programs: Vec<Program>,
    /// Lines of the programs have no header: a container's engine keeps what they print.
    pub headless: bool,
    /// Patterns of failures, each with an ip group, and what a hit counts for. Weight 0 is a line that
    /// accompanies others about the same attempt: it counts 1 if the process wrote nothing else about that
    /// address.
    pub fail: Vec<(Pattern, u8)>,
    /// A line that one of these matches is no hit.
    pub ignore: Vec<Pattern>,
    /// Patterns of log-ins that succeeded, with an ip and a user group; the number means nothing.
    pub success: Vec<(Pattern, u8)>,
    /// Lines are of access logs, and each request is a hit: whether it is too much is for
    /// [`webscan::WebscanSettings`] to say. Without patterns the lines are in one of the formats of
    /// [`access`].
    pub webscan: Option<Box<WebscanSettings>>,
}

impl DetectRule {
    /// Every pattern, in the order of their numbers: of failures, of what is ignored, of success.
    pub fn patterns(&self) -> impl Iterator<Item = &Pattern> {
        self.fail.iter().map(|f| &f.0).chain(&self.ignore).chain(self.success.iter().map(|s| &s.0))
    }

    fn patterns_mut(&mut self) -> impl Iterator<Item = &mut Pattern> {
        let [fail, success] =
            [&mut self.fail, &mut self.success].map(|some| some.iter_mut().map(|f| &mut f.0));
        fail.chain(&mut self.ignore).chain(success)
    }

    /// How many bytes of the name of one of its programs stand in every line that it judges.
    fn name_len(&self) -> usize {
        let shortest = self.programs.iter().map(|program| program.stem().len()).min();
        shortest.filter(|_| !self.headless).unwrap_or(0)
    }
}

/// A line that a rule matched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hit {
    /// Index of the rule, as given to [`Detector::new`].
    pub rule: u16,
    /// Who is to blame; IPv4 is never in IPv6 form.
    pub addr: IpAddr,
    /// What it counts for; 0 when the attempt has been counted by another line.
    pub weight: u8,
    /// Where the user name stands in the line (of a record: in its message). Attackers choose it.
    pub user: Option<Range<usize>>,
    /// Where the path of a request stands, if the pattern has a uri group.
    pub path: Option<Range<usize>>,
    /// In which way it failed: the number of the pattern that matched, or 0 if that has no weight.
    pub way: u8,
    /// Somebody has logged in: no offence, but the end of those under this name.
    pub success: bool,
    /// What was asked of a web server, for a rule with `webscan`.
    pub request: Option<HttpRequest>,
    /// When the line was written, where its header says so.
    pub stamp: Option<HeaderStamp>,
}

impl Hit {
    /// What makes a hit the same as another: the user name, or else the path.
    #[must_use]
    pub fn name<'t>(&self, text: &'t [u8]) -> Option<&'t [u8]> {
        text.get(self.user.clone().or_else(|| self.path.clone())?)
    }
}

/// What has been seen since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LineCounts {
    /// Lines and records.
    pub lines: u64,
    /// Those that were looked at closely.
    pub candidates: u64,
    /// Hits; one line may be a hit of several rules.
    pub hits: u64,
    /// Hits cancelled by an ignoreregex.
    pub ignored: u64,
    /// Matches in which more than one address is possible: no hits.
    pub ambiguous: u64,
    /// Matches without a valid address: no hits.
    pub no_address: u64,
    /// Candidates without a header that can be relied on, for rules that need the program and could match.
    pub no_header: u64,
}

/// Finds the lines that service rules look for.
pub struct Detector {
    rules: Box<[DetectRule]>,
    scan: LiteralScan,
    judge: LineMatcher,
    /// Room for a line without its colours.
    plain: Buffer,
}

/// What changes while lines are judged.
struct LineMatcher {
    scratch: MatchScratch,
    possible: Possible,
    attempts: Attempts,
    counts: LineCounts,
    memo: StampMemo,
}

impl Detector {
    /// Makes a detector for at most [`MAX_RULES`] rules; more have no effect.
    #[must_use]
    pub fn new(mut rules: Vec<DetectRule>) -> Detector {
        rules.truncate(MAX_RULES);
        let patterns = rules.iter().flat_map(DetectRule::patterns);
        let scratch = MatchScratch::for_patterns(patterns);
        let (attempts, counts) = (Attempts::new(), LineCounts::default());
        let judge = LineMatcher {
            scratch,
            possible: Possible::new(rules.len()),
            attempts,
            counts,
            memo: StampMemo::default(),
        };
        let scan = LiteralScan::new(&rules);
        let forget = |pattern: &mut Pattern| pattern.forget_required(scan::LONG);
        rules.iter_mut().flat_map(DetectRule::patterns_mut).for_each(forget);
        Detector { scan, rules: rules.into(), judge, plain: Buffer::new(LINE) }
    }

    /// Looks through `block`, whole lines that each end with a newline (the last may lack it), for the rules
    /// whose bits are set in `wanted`. Calls `hit` with the number of the line in the block, from 0, and the
    /// line.
    pub fn block(&mut self, wanted: RuleBits, block: &[u8], hit: &mut dyn FnMut(usize, &[u8], Hit)) {
        let (mut at, mut number) = (0, 0);
        let rest = |at: usize| block.get(at..).unwrap_or_default();
        while let Some(escape) = memchr(colour::ESCAPE, rest(at)) {
            let begin = memrchr(b'\n', rest(at).get(..escape).unwrap_or_default()).map_or(at, |n| at + n + 1);
            let end = memchr(b'\n', rest(at + escape)).map_or(block.len(), |n| at + escape + n + 1);
            number += self.lines(wanted, block.get(at..begin).unwrap_or_default(), number, hit);
            self.coloured(wanted, block.get(begin..end).unwrap_or_default(), number, hit);
            (at, number) = (end, number + 1);
        }
        self.lines(wanted, rest(at), number, hit);
    }

    /// Looks through lines without colours, of which the first is number `first`. How many there are.
    fn lines(
        &mut self,
        wanted: RuleBits,
        block: &[u8],
        first: usize,
        hit: &mut dyn FnMut(usize, &[u8], Hit),
    ) -> usize {
        let Detector { rules, scan, judge, plain } = self;
        let mut number = 0;
        let mut at = 0;
        let newlines = |range: Range<usize>| count::newlines(block.get(range).unwrap_or_default());
        let mut ahead = scan::Ahead::default();
        while let Some(found) = scan.next(wanted, block, at, &mut ahead, &mut judge.possible) {
            number += newlines(at..found.start);
            at = (found.end + 1).min(block.len());
            let line = without_zeros(block.get(found).unwrap_or_default());
            let judged = judge.line(rules, said(line), &mut |h| hit(first + number, line, h));
            let left = judge.possible.rules & !judged;
            // An escape that a syslog daemon has spelled out.
            if left != 0
                && colour::is_in(line)
                && let Some(len) = colour::strip(line, plain)
            {
                let line = plain.get(..len).unwrap_or_default();
                scan.text(left, line, TextKind::Line, &mut judge.possible);
                judge.line(rules, said(line), &mut |h| hit(first + number, line, h));
            }
            number += 1;
        }
        let rest = newlines(at..block.len()) + usize::from(at < block.len() && !block.ends_with(b"\n"));
        judge.counts.lines += u64::try_from(number + rest).unwrap_or(u64::MAX);
        number + rest
    }

    /// Looks at one line with an escape in it: as it is, and by the rules that say nothing to it, without its
    /// colours.
    #[cold]
    fn coloured(
        &mut self,
        wanted: RuleBits,
        line: &[u8],
        number: usize,
        hit: &mut dyn FnMut(usize, &[u8], Hit),
    ) {
        let Detector { rules, scan, judge, plain } = self;
        judge.counts.lines += 1;
        let line = without_zeros(line.strip_suffix(b"\n").unwrap_or(line));
        scan.text(wanted, line, TextKind::Line, &mut judge.possible);
        let judged = judge.line(rules, said(line), &mut |h| hit(number, line, h));
        if let Some(len) = colour::strip(line, plain) {
            let line = plain.get(..len).unwrap_or_default();
            scan.text(wanted & !judged, line, TextKind::Line, &mut judge.possible);
            judge.line(rules, said(line), &mut |h| hit(number, line, h));
        }
    }

    /// Judges a message whose program the source knows for certain. Rules without programs judge it too.
    pub fn record(
        &mut self,
        wanted: RuleBits,
        program: &[u8],
        pid: Option<u32>,
        message: &[u8],
        hit: &mut dyn FnMut(Hit),
    ) {
        let Detector { rules, scan, judge, plain } = self;
        judge.counts.lines += 1;
        judge.counts.candidates += 1;
        scan.text(wanted, message, TextKind::Message, &mut judge.possible);
        let judged = judge.record(rules, program, LineText::message(message, 0, pid), hit);
        if colour::is_in(message)
            && let Some(len) = colour::strip(message, plain)
        {
            let plain = plain.get(..len).unwrap_or_default();
            // Places in requests are those of the message.
            let web = chosen(rules, wanted).filter(|(_, rule)| rule.webscan.is_some());
            let left = web.fold(wanted & !judged, |left, (index, _)| left & !(1 << index));
            scan.text(left, plain, TextKind::Message, &mut judge.possible);
            let text = LineText::message(plain, 0, pid);
            judge.record(rules, program, text, &mut |found| hit(Hit { user: None, ..found }));
        }
    }

    /// From now on only failures are looked for, in lines: nobody wants to know of log-ins that succeed.
    pub fn skip_successes(&mut self) {
        self.scan.successes = false;
    }

    /// What has been seen since the start.
    #[must_use]
    pub fn counts(&self) -> &LineCounts {
        &self.judge.counts
    }

    /// Goes on from what a previous detector has seen.
    pub fn count_on(&mut self, counts: LineCounts) {
        self.judge.counts = counts;
    }

    /// The rules, in the order of their bits.
    #[must_use]
    pub fn rules(&self) -> &[DetectRule] {
        &self.rules
    }
}

/// The rules whose bits are set, with their numbers.
pub fn chosen(rules: &[DetectRule], wanted: RuleBits) -> impl Iterator<Item = (u8, &DetectRule)> {
    scan::bits(wanted).filter_map(|index| Some((index, rules.get(usize::from(index))?)))
}

/// A line without the zeros in front that a writer left who kept its place while the file was emptied, or a
/// power cut.
fn without_zeros(line: &[u8]) -> &[u8] {
    let zeros = line.iter().take_while(|&&b| b == 0).count();
    line.get(zeros..).unwrap_or_default()
}

/// What the service said in a line: some writers end lines as DOS does, and `$` is the end of what was said.
/// A blank at the end may be what a pattern asks for before text of a client: it stays, but in syslog.
fn said(line: &[u8]) -> &[u8] {
    line.strip_suffix(b"\r").unwrap_or(line)
}

/// What patterns are run on.
#[derive(Clone, Copy)]
struct LineText<'a> {
    pid: Option<u32>,
    stamp: Option<HeaderStamp>,
    bytes: &'a [u8],
    /// Where it begins in the line.
    offset: usize,
    /// How often it was written: syslog daemons fold what comes several times in a row.
    times: u8,
}

impl LineMatcher {
    /// Judges a line by the rules that `possible` names. Returns those to which it says something.
    fn line(&mut self, rules: &[DetectRule], line: &[u8], hit: &mut dyn FnMut(Hit)) -> RuleBits {
        self.counts.candidates += 1;
        let header = header::parse_after(line, &mut self.memo);
        let stamp = header.and_then(|header| header.stamp);
        let (mut judged, mut lacking) = (0, false);
        for (index, rule) in chosen(rules, self.possible.rules) {
            let text = if rule.programs.is_empty() {
                LineText { pid: header.and_then(|h| h.pid), stamp, bytes: line, offset: 0, times: 1 }
            } else if let Some(header) = header {
                if !rule.programs.iter().any(|p| p.fits(header.program)) {
                    continue;
                }
                // The message is the end of the line.
                let offset = line.len() - header.message.len();
                LineText { stamp, ..LineText::message(header.message, offset, header.pid) }
            } else if rule.headless {
                LineText::message(line, 0, None)
            } else {
                lacking = true;
                continue;
            };
            judged |= RuleBits::from(self.text((index, rule), text, hit)) << index;
        }
        self.counts.no_header += u64::from(lacking);
        judged
    }

    /// Judges a message by the rules that `possible` names. Returns those to which it says something.
    fn record(
        &mut self,
        rules: &[DetectRule],
        program: &[u8],
        text: LineText<'_>,
        hit: &mut dyn FnMut(Hit),
    ) -> RuleBits {
        let mut judged = 0;
        for (index, rule) in chosen(rules, self.possible.rules) {
            if rule.programs.is_empty() || rule.programs.iter().any(|p| p.fits(program)) {
                judged |= RuleBits::from(self.text((index, rule), text, hit)) << index;
            }
        }
        judged
    }

    /// Judges a text by one rule. Whether it says something to it, be it that nobody is to blame.
    fn text(
        &mut self,
        (index, rule): (u8, &DetectRule),
        text: LineText<'_>,
        hit: &mut dyn FnMut(Hit),
    ) -> bool {
        if let Some(web) = &rule.webscan {
            self.request((index, rule), web, &text, hit);
            return true;
        }
        let may = self.possible.patterns(index);
        let found = match extract::sender(&rule.fail, may, text.bytes, &mut self.scratch) {
            AddrFinding::Nothing => return self.success((index, rule), &text, hit),
            AddrFinding::NoAddress => {
                self.counts.no_address += 1;
                return false;
            }
            AddrFinding::Ambiguous => {
                self.counts.ambiguous += 1;
                return true;
            }
            AddrFinding::Sender(found) => found,
        };
        let mut ignore = rule.ignore.iter().zip(rule.fail.len()..).filter(|(_, n)| may & bit(*n) != 0);
        if ignore.any(|(p, _)| p.is_match(text.bytes, &mut self.scratch)) {
            self.counts.ignored += 1;
            return true;
        }
        self.counts.hits += 1;
        let weight = self.attempts.count(index, text.pid, found.addr, found.weight);
        // Each further time counts what the line does that is no longer the first of its attempt.
        let more = found.weight.saturating_mul(text.times - 1);
        hit(text.hit(index, &found, weight.saturating_add(more)));
        true
    }

    /// Looks for a log-in that succeeded. Whether the text says something about one.
    fn success(
        &mut self,
        (index, rule): (u8, &DetectRule),
        text: &LineText<'_>,
        hit: &mut dyn FnMut(Hit),
    ) -> bool {
        let before = rule.fail.len() + rule.ignore.len();
        if rule.success.is_empty() || self.possible.patterns(index) < bit(before) {
            return false;
        }
        match extract::sender(&rule.success, u64::MAX, text.bytes, &mut self.scratch) {
            AddrFinding::Sender(found) => hit(Hit { success: true, ..text.hit(index, &found, 0) }),
            AddrFinding::Ambiguous => self.counts.ambiguous += 1,
            AddrFinding::Nothing | AddrFinding::NoAddress => return false,
        }
        true
    }

    /// Reads a line of an access log.
    #[inline(never)]
    fn request(
        &mut self,
        (index, rule): (u8, &DetectRule),
        web: &WebscanSettings,
        text: &LineText<'_>,
        hit: &mut dyn FnMut(Hit),
    ) {
        let line = text.bytes;
        let (addr, mut request) = if rule.fail.is_empty() {
            let Some(found) = access::parse(line) else { return self.counts.no_header += 1 };
            found
        } else {
            match extract::sender(&rule.fail, u64::MAX, line, &mut self.scratch) {
                AddrFinding::Nothing => return self.counts.no_header += 1,
                AddrFinding::NoAddress => return self.counts.no_address += 1,
                AddrFinding::Ambiguous => return self.counts.ambiguous += 1,
                AddrFinding::Sender(sender) => (AccessClient::Addr(sender.addr), own(line, &sender.found)),
            }
        };
        let addr = match addr {
            AccessClient::Addr(addr) => addr,
            AccessClient::Unknown => return self.counts.no_address += 1,
        };
        let skips =
            |patterns: &[String], text: &[u8]| patterns.iter().any(|pattern| fits(pattern.as_bytes(), text));
        let part = |range: &Range<usize>| line.get(range.clone()).unwrap_or_default();
        // What is too long to be resolved counts.
        let resolved = Path::new(part(&request.path));
        if resolved.is_some_and(|path| skips(&web.skip_paths, path.bytes()))
            || skips(&web.skip_agents, part(&request.agent))
            || rule.ignore.iter().any(|p| p.is_match(line, &mut self.scratch))
        {
            return self.counts.ignored += 1;
        }
        (request.path, request.agent) = (text.moved(request.path), text.moved(request.agent));
        let plain = Hit {
            rule: index.into(),
            addr,
            weight: 1,
            user: None,
            path: None,
            way: 0,
            success: false,
            request: None,
            stamp: None,
        };
        hit(Hit { request: Some(request), ..plain });
    }
}

/// What a pattern of somebody's own found of a request.
fn own(line: &[u8], found: &Captures) -> HttpRequest {
    let get = |group| found.get(group).unwrap_or_default();
    let status = line.get(get(CaptureGroup::Status)).unwrap_or_default();
    HttpRequest {
        path: access::without_query(line, get(CaptureGroup::Uri)),
        agent: get(CaptureGroup::Ua),
        status: access::number(status).unwrap_or(0),
        stamp: access::stamp(line),
    }
}

impl<'a> LineText<'a> {
    /// A message that begins at `offset` of a line, by the process that the header names, or the message.
    fn message(message: &'a [u8], offset: usize, pid: Option<u32>) -> LineText<'a> {
        let whole = message.trim_ascii_end();
        let (times, mut bytes) = header::repeated(whole);
        // What is folded ends with a bracket of its own.
        let mut offset = offset + whole.len() - bytes.len() - usize::from(bytes.len() < whole.len());
        let mut pid = pid;
        if let Some((own, inner)) = header::own_process(bytes) {
            offset += bytes.len() - inner.len();
            (pid, bytes) = (Some(own), inner);
        }
        LineText { pid, stamp: None, bytes, offset, times }
    }

    /// What a rule found in the text.
    fn hit(&self, rule: u8, found: &extract::LineSender, weight: u8) -> Hit {
        let group = |group| found.found.get(group);
        Hit {
            rule: rule.into(),
            addr: found.addr,
            weight,
            user: group(CaptureGroup::User).map(|user| self.moved(user)),
            path: group(CaptureGroup::Uri).map(|uri| self.moved(access::without_query(self.bytes, uri))),
            way: found.way,
            success: false,
            request: None,
            stamp: self.stamp,
        }
    }

    /// A place in the text as one in the line.
    fn moved(&self, range: Range<usize>) -> Range<usize> {
        range.start + self.offset..range.end + self.offset
    }
}
