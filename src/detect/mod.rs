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
pub mod hand_over;
pub mod header;
mod line;
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

use crate::base::webscan::WebscanSettings;
use crate::pattern::{MatchScratch, Pattern};
use crate::sys::buffer::Buffer;
use crate::sys::count;
use access::HttpRequest;
use attempts::Attempts;
use header::{HeaderStamp, StampMemo};
use line::{LineMatcher, LineText};
use memchr::{memchr, memrchr};
use scan::{LiteralScan, Possible, TextKind};
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
    /// whose bits are set in `wanted`. Calls `hit` with the line and where it begins in the block. How many
    /// lines there are.
    pub fn block(&mut self, wanted: RuleBits, block: &[u8], hit: &mut dyn FnMut(usize, &[u8], Hit)) -> usize {
        let seen = count::newlines_and(colour::ESCAPE, block);
        let lines = seen.newlines + usize::from(!block.is_empty() && !block.ends_with(b"\n"));
        self.judge.counts.lines += u64::try_from(lines).unwrap_or(u64::MAX);
        let mut at = 0;
        let rest = |at: usize| block.get(at..).unwrap_or_default();
        while seen.has_other
            && let Some(escape) = memchr(colour::ESCAPE, rest(at))
        {
            let begin = memrchr(b'\n', rest(at).get(..escape).unwrap_or_default()).map_or(at, |n| at + n + 1);
            let end = memchr(b'\n', rest(at + escape)).map_or(block.len(), |n| at + escape + n + 1);
            self.lines(wanted, block.get(at..begin).unwrap_or_default(), at, hit);
            self.coloured(wanted, block.get(begin..end).unwrap_or_default(), begin, hit);
            at = end;
        }
        self.lines(wanted, rest(at), at, hit);
        lines
    }

    /// Looks through lines without colours, of which the first begins at `first`.
    fn lines(
        &mut self,
        wanted: RuleBits,
        block: &[u8],
        first: usize,
        hit: &mut dyn FnMut(usize, &[u8], Hit),
    ) {
        let Detector { rules, scan, judge, plain } = self;
        let mut at = 0;
        let mut ahead = scan::Ahead::default();
        while let Some(found) = scan.next(wanted, block, at, &mut ahead, &mut judge.possible) {
            let begin = first + found.start;
            at = (found.end + 1).min(block.len());
            let line = without_zeros(block.get(found).unwrap_or_default());
            let judged = judge.line(rules, said(line), &mut |h| hit(begin, line, h));
            let left = judge.possible.rules & !judged;
            // An escape that a syslog daemon has spelled out.
            if left != 0
                && colour::is_in(line)
                && let Some(len) = colour::strip(line, plain)
            {
                let line = plain.get(..len).unwrap_or_default();
                scan.text(left, line, TextKind::Line, &mut judge.possible);
                judge.line(rules, said(line), &mut |h| hit(begin, line, h));
            }
        }
    }

    /// Looks at one line with an escape in it: as it is, and by the rules that say nothing to it, without its
    /// colours.
    #[cold]
    fn coloured(
        &mut self,
        wanted: RuleBits,
        line: &[u8],
        begin: usize,
        hit: &mut dyn FnMut(usize, &[u8], Hit),
    ) {
        let Detector { rules, scan, judge, plain } = self;
        let line = without_zeros(line.strip_suffix(b"\n").unwrap_or(line));
        scan.text(wanted, line, TextKind::Line, &mut judge.possible);
        let judged = judge.line(rules, said(line), &mut |h| hit(begin, line, h));
        if let Some(len) = colour::strip(line, plain) {
            let line = plain.get(..len).unwrap_or_default();
            scan.text(wanted & !judged, line, TextKind::Line, &mut judge.possible);
            judge.line(rules, said(line), &mut |h| hit(begin, line, h));
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
