#![forbid(unsafe_code)]
//! The sections [webscan], [thresholds] and [whitelist] of a service rule with engine=webscan. The keys are
//! those of the existing product, and a few more. Knows neither logs nor addresses.

use super::ini::IniEntry;
use super::keys::{self, SettingKey, SettingSlot};
use super::value;
use crate::base::clock::Span;
use crate::base::diag::{Bad, Checked, Problem};
use crate::base::webscan::{Statuses, Threshold, WebscanSettings};

/// Sections that are read here.
pub(super) const SECTIONS: [&str; 3] = ["webscan", "thresholds", "whitelist"];
/// Thresholds of one rule, and patterns of each kind in [whitelist], at most.
const THRESHOLDS_MAX: usize = 16;
const SKIPS_MAX: usize = 64;
/// Different things that are counted for one address at most: they are remembered one by one.
const DISTINCT_MAX: u32 = 1024;
/// The longest window.
const DAY: u32 = 86_400;

const fn key<T>(
    name: &'static str,
    default: &'static str,
    slot: fn(&mut T) -> SettingSlot<'_>,
) -> SettingKey<T> {
    SettingKey { name, default, slot }
}

/// Keys behind `rule_N_`, but for those that `own` reads.
pub(super) const KEYS: &[SettingKey<Threshold>] = &[
    key("requests_min", "0", |t| SettingSlot::Count(0, 60_000, &mut t.requests)),
    key("uri_count_min", "0", |t| SettingSlot::Count(0, DISTINCT_MAX, &mut t.paths)),
    key("ua_count_min", "0", |t| SettingSlot::Count(0, DISTINCT_MAX, &mut t.agents)),
    key("status_threshold", "0", |t| SettingSlot::Count(0, 60_000, &mut t.matching)),
    key("status_uri_min", "0", |t| SettingSlot::Count(0, DISTINCT_MAX, &mut t.matching_paths)),
    key("status_top_min", "0", |t| SettingSlot::Count(0, DISTINCT_MAX, &mut t.matching_tops)),
    key("status_share", "0", |t| SettingSlot::Count(0, 100, &mut t.share)),
    key("window", "", |t| SettingSlot::Secs(1, DAY, &mut t.window)),
    key("action", "ban", |t| SettingSlot::Either(["detect", "ban"], &mut t.detect)),
];
/// Keys of the existing product's [webscan] that need no choice here.
const OBSOLETE: [&str; 5] = ["uri_hash_limit", "ua_hash_limit", "uri_limit", "ua_limit", "request_limit"];

/// A key of [webscan] by its other name.
fn renamed(name: &str) -> &str {
    if name == "request_timeout" { "ip_inactivity_timeout" } else { name }
}

/// The rest of them.
pub(super) const OWN: [&str; 3] = ["name", "status_code", "bantime"];

pub(super) const WEBSCAN: &[SettingKey<WebscanSettings>] = &[
    key("max_active_ips", "1024", |w| SettingSlot::Count(8, 1 << 20, &mut w.addresses)),
    key("ip_inactivity_timeout", "1h", |w| SettingSlot::Secs(1, DAY, &mut w.idle)),
];

/// Of a rule that says nothing.
pub(super) fn blank() -> WebscanSettings {
    let mut web = WebscanSettings {
        thresholds: Vec::new(),
        addresses: 0,
        idle: 0,
        skip_paths: Vec::new(),
        skip_agents: Vec::new(),
    };
    keys::set_defaults(WEBSCAN, &mut web);
    web
}

/// What is kept while these sections are read.
#[derive(Default)]
pub(super) struct WebscanReader {
    /// The value of windows=.
    windows: Vec<u32>,
    /// Numbers of the thresholds without a name in their keys, which begin with window= in the manual of the
    /// existing product.
    nameless: Vec<u32>,
}

impl WebscanReader {
    pub(super) fn has_windows(&self) -> bool {
        !self.windows.is_empty()
    }

    /// One line of these sections.
    pub(super) fn entry(&mut self, web: &mut WebscanSettings, e: &IniEntry<'_>, problems: &mut Vec<Problem>) {
        let done = match (e.section, e.key) {
            ("webscan", "windows") => value::items(e.value, &mut |at, item| {
                self.windows.push(value::secs(item, 1, DAY).map_err(|bad| bad.moved(at))?);
                Ok(())
            }),
            ("webscan", name) if OBSOLETE.contains(&name) => {
                let why = "what the thresholds need is remembered, no more";
                return problems.push(keys::no_longer_needed(e, why));
            }
            ("webscan", name) => match keys::find(WEBSCAN, renamed(name)) {
                Some(key) => return keys::store((key.slot)(web), key.default, e, problems),
                None => {
                    let known = WEBSCAN.iter().map(|k| k.name).chain(["windows"]);
                    return problems.push(keys::unknown(e, known));
                }
            },
            ("whitelist", "uri") => skip(&mut web.skip_paths, e.value, ""),
            ("whitelist", "ua") => skip(&mut web.skip_agents, e.value, ""),
            ("whitelist", "extension") => skip(&mut web.skip_paths, e.value, "*."),
            ("whitelist", _) => return problems.push(keys::unknown(e, ["uri", "ua", "extension"])),
            _ => return self.threshold(web, e, problems),
        };
        if let Err(bad) = done {
            problems.push(e.value_error(*bad));
        }
    }

    /// `rule_N_FIELD=`, or `FIELD=` alone.
    fn threshold(&mut self, web: &mut WebscanSettings, e: &IniEntry<'_>, problems: &mut Vec<Problem>) {
        let parts = e.key.strip_prefix("rule_").and_then(|rest| rest.split_once('_'));
        let numbered = parts.and_then(|(n, field)| Some((n.parse::<u32>().ok()?, field)));
        let field = numbered.map_or(e.key, |(_, field)| field);
        let known = KEYS.iter().map(|k| k.name).chain(OWN);
        let key = keys::find(KEYS, field);
        if key.is_none() && !OWN.contains(&field) {
            let mut problem = keys::unknown(e, known.clone());
            if numbered.is_none() && e.key.starts_with("rule_") {
                problem.hint = "expected rule_N_… with a number N".to_owned();
            } else if numbered.is_some()
                && let Some(near) = crate::base::diag::suggest(field, known)
            {
                problem.hint = ["it has no effect; did you mean 'rule_N_", near, "'?"].concat();
            }
            return problems.push(problem);
        }
        let number = numbered.map_or_else(|| self.nameless(web, field), |(number, _)| number);
        let at = web.thresholds.iter().position(|t| t.number == number).unwrap_or_else(|| {
            web.thresholds.push(new(number));
            web.thresholds.len() - 1
        });
        let Some(t) = web.thresholds.get_mut(at) else { return };
        let done = match (key, field) {
            (Some(key), _) => return keys::store((key.slot)(t), key.default, e, problems),
            (_, "name") => {
                // The existing product's names have underscores.
                let name = e.value.replace('_', "-");
                value::name(&name).map(|()| t.name = name)
            }
            (_, "bantime") => value::span(e.value).map(|span| t.bantime = Some(span)),
            _ => statuses(e.value).map(|found| {
                t.statuses = found;
                t.status_text = e.value.to_string();
            }),
        };
        if let Err(bad) = done {
            problems.push(e.value_error(*bad));
        }
    }

    /// The number of the threshold that a key without one belongs to.
    fn nameless(&mut self, web: &WebscanSettings, field: &str) -> u32 {
        let last = self.nameless.last().copied();
        let of_last = web.thresholds.iter().find(|t| Some(t.number) == last);
        match last {
            Some(number) if field != "window" || of_last.is_none_or(|t| t.window == 0) => number,
            _ => {
                let number = web.thresholds.iter().map(|t| t.number).max().unwrap_or(0).saturating_add(1);
                self.nameless.push(number);
                number
            }
        }
    }

    /// What single keys cannot say: a threshold without a window takes the first one; one without a condition
    /// is an error.
    pub(super) fn complete(&self, web: &mut WebscanSettings, say: &mut dyn FnMut(&str, &str)) {
        if web.thresholds.len() > THRESHOLDS_MAX {
            return say("too many thresholds", "at most 16 in one rule");
        }
        if web.thresholds.is_empty() {
            let hint = "it needs rule_1_requests_min= and the like in section [thresholds]";
            say("the rule can never match", hint);
        }
        for t in &mut web.thresholds {
            if t.window == 0 {
                t.window = self.windows.first().copied().unwrap_or(60);
            }
            let nameless = self.nameless.contains(&t.number);
            if nameless && t.statuses != Statuses::ALL && of_status(t) == 0 {
                // There its numbers are those of requests with such a status.
                (t.matching, t.requests) = (t.requests.max(1), 0);
                (t.matching_paths, t.paths) = (t.paths, 0);
            }
            let number = t.number.to_string();
            let about = [if nameless { "threshold " } else { "rule_" }, &number].concat();
            judge(t, &about, say);
        }
    }
}

/// The greatest of the numbers that are about requests with a status.
fn of_status(t: &Threshold) -> u32 {
    t.matching.max(t.matching_paths).max(t.matching_tops).max(t.share)
}

/// Whether a threshold has what it needs.
fn judge(t: &Threshold, about: &str, say: &mut dyn FnMut(&str, &str)) {
    if t.requests.max(t.paths).max(t.agents).max(of_status(t)) == 0 {
        say(&[about, ": a threshold without a condition"].concat(), "it needs requests_min= or the like");
    } else if of_status(t) == 0 && t.statuses != Statuses::ALL {
        let hint = "it needs status_threshold=, status_uri_min=, status_top_min= or status_share=";
        say(&[about, ": status_code without a number of them"].concat(), hint);
    } else if t.share > 0
        && t.requests.max(t.matching).max(t.matching_paths).max(t.matching_tops).max(t.paths) == 0
    {
        let hint = "it needs requests_min= or status_threshold=, too: one of one is 100 percent";
        say(&[about, ": status_share alone"].concat(), hint);
    }
}

/// Adds the patterns of a comma list, each behind `lead`.
fn skip(to: &mut Vec<String>, text: &str, lead: &str) -> Checked<()> {
    value::items(text, &mut |at, item| {
        if to.len() == SKIPS_MAX {
            return Err(Bad::word(at, item, "is one too many", "at most 64 of a kind"));
        }
        to.push([lead, item].concat());
        Ok(())
    })
}

fn new(number: u32) -> Threshold {
    let mut t = Threshold {
        number,
        name: String::new(),
        window: 0,
        requests: 0,
        paths: 0,
        agents: 0,
        statuses: Statuses::ALL,
        status_text: String::new(),
        matching: 0,
        matching_paths: 0,
        matching_tops: 0,
        share: 0,
        detect: false,
        bantime: None::<Span>,
    };
    keys::set_defaults(KEYS, &mut t);
    t
}

/// `404`, `4xx`, `40[346]`, `40[0-5]`, `4*`, a comma list of these, or `*`.
fn statuses(text: &str) -> Checked<Statuses> {
    let mut found = Statuses::NONE;
    value::items(text, &mut |at, item| {
        if item == "*" {
            found = Statuses::ALL;
            return Ok(());
        }
        let digits = digits(item.as_bytes()).ok_or_else(|| {
            Bad::word(at, item, "is not a status", "expected 404, 4xx, 40[346] or *, or a comma list")
        })?;
        for status in 100..600_u16 {
            let of = [status / 100, status / 10 % 10, status % 10];
            if digits.iter().zip(of).all(|(set, digit)| set >> digit & 1 == 1) {
                found.add(status, status);
            }
        }
        Ok(())
    })?;
    Ok(found)
}

/// The digits that a pattern allows at each place of a status, a bit for each. Nothing when it is no pattern,
/// or no status fits it.
fn digits(mut text: &[u8]) -> Option<[u16; 3]> {
    const ANY: u16 = 0x3ff;
    const FIRST: u16 = 0b11_1110;
    let one = |byte: u8| byte.is_ascii_digit().then(|| 1_u16 << (byte - b'0'));
    let mut places = [0; 3];
    for place in &mut places {
        (*place, text) = match text {
            [b'*'] => (ANY, text),
            [b'x' | b'X' | b'?', rest @ ..] => (ANY, rest),
            [b'[', rest @ ..] => {
                let end = rest.iter().position(|&byte| byte == b']')?;
                let (mut inside, mut set) = (rest.get(..end)?, 0);
                while let [from, more @ ..] = inside {
                    let (last, more) = match more {
                        [b'-', last, more @ ..] => (*last, more),
                        _ => (*from, more),
                    };
                    for byte in *from..=last {
                        set |= one(byte)?;
                    }
                    inside = more;
                }
                (set, rest.get(end + 1..)?)
            }
            [byte, rest @ ..] => (one(*byte)?, rest),
            [] => return None,
        };
    }
    places[0] &= FIRST;
    (matches!(text, [] | [b'*']) && places.iter().all(|&set| set != 0)).then_some(places)
}
