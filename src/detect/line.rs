#![forbid(unsafe_code)]
//! One line or message that may matter: its header, the patterns of the rules that it may be for, and the
//! request that it is.

use super::access::{AccessClient, HttpRequest};
use super::attempts::Attempts;
use super::extract::AddrFinding;
use super::header::{HeaderStamp, StampMemo};
use super::path::Path;
use super::scan::{Possible, bit};
use super::{DetectRule, Hit, LineCounts, RuleBits, access, chosen, extract, header};
use crate::base::webscan::{WebscanSettings, fits};
use crate::pattern::{CaptureGroup, Captures, MatchScratch};
use std::ops::Range;

/// What changes while lines are judged.
pub(super) struct LineMatcher {
    pub(super) scratch: MatchScratch,
    pub(super) possible: Possible,
    pub(super) attempts: Attempts,
    pub(super) counts: LineCounts,
    pub(super) memo: StampMemo,
}

impl LineMatcher {
    /// Judges a line by the rules that `possible` names. Returns those to which it says something.
    pub(super) fn line(&mut self, rules: &[DetectRule], line: &[u8], hit: &mut dyn FnMut(Hit)) -> RuleBits {
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
    pub(super) fn record(
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
pub(super) fn own(line: &[u8], found: &Captures) -> HttpRequest {
    let get = |group| found.get(group).unwrap_or_default();
    let status = line.get(get(CaptureGroup::Status)).unwrap_or_default();
    HttpRequest {
        path: access::without_query(line, get(CaptureGroup::Uri)),
        agent: get(CaptureGroup::Ua),
        status: access::number(status).unwrap_or(0),
        stamp: access::stamp(line),
    }
}

/// What patterns are run on.
#[derive(Clone, Copy)]
pub(super) struct LineText<'a> {
    pid: Option<u32>,
    stamp: Option<HeaderStamp>,
    bytes: &'a [u8],
    /// Where it begins in the line.
    offset: usize,
    /// How often it was written: syslog daemons fold what comes several times in a row.
    times: u8,
}

impl<'a> LineText<'a> {
    /// A message that begins at `offset` of a line, by the process that the header names, or the message.
    pub(super) fn message(message: &'a [u8], offset: usize, pid: Option<u32>) -> LineText<'a> {
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
