#![forbid(unsafe_code)]
//! The sections [webscan], [thresholds] and [whitelist] of a service rule with engine=webscan. The keys are
//! those of the existing product, and a few more. Knows neither logs nor addresses.

use super::ini::IniEntry;
use super::keys::{self, SettingKey, SettingSlot};
use super::value;
use crate::base::clock::Span;
use crate::base::diag::{Bad, Checked, Problem, Severity};
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

/// One line of these sections. `windows` is where the value of windows= is kept for `complete`.
pub(super) fn entry(
    web: &mut WebscanSettings,
    windows: &mut Vec<u32>,
    e: &IniEntry<'_>,
    problems: &mut Vec<Problem>,
) {
    let done = match (e.section, e.key) {
        ("webscan", "windows") => value::items(e.value, &mut |at, item| {
            windows.push(value::secs(item, 1, DAY).map_err(|bad| bad.moved(at))?);
            Ok(())
        }),
        ("webscan", "uri_hash_limit" | "ua_hash_limit") => {
            let why = "what the thresholds need is remembered, no more";
            return problems.push(keys::no_longer_needed(e, why));
        }
        ("webscan", name) => match keys::find(WEBSCAN, name) {
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
        _ => return threshold(web, e, problems),
    };
    if let Err(bad) = done {
        problems.push(e.value_error(*bad));
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

/// `rule_N_FIELD=`.
fn threshold(web: &mut WebscanSettings, e: &IniEntry<'_>, problems: &mut Vec<Problem>) {
    let parts = e.key.strip_prefix("rule_").and_then(|rest| rest.split_once('_'));
    let Some((Ok(number), field)) = parts.map(|(n, field)| (n.parse::<u32>(), field)) else {
        let (what, hint) = (["unknown key '", e.key, "'"].concat(), "expected rule_N_… with a number N");
        return problems.push(e.key_problem(Severity::Warning, what, hint.to_string()));
    };
    let known = KEYS.iter().map(|k| k.name).chain(OWN);
    let key = keys::find(KEYS, field);
    if key.is_none() && !OWN.contains(&field) {
        let mut problem = keys::unknown(e, known.clone());
        if let Some(near) = crate::base::diag::suggest(field, known) {
            problem.hint = ["it has no effect; did you mean 'rule_N_", near, "'?"].concat();
        }
        return problems.push(problem);
    }
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

/// What single keys cannot say: a threshold without a window takes the first one; one without a condition is
/// an error.
pub(super) fn complete(web: &mut WebscanSettings, windows: &[u32], say: &mut dyn FnMut(&str, &str)) {
    if web.thresholds.len() > THRESHOLDS_MAX {
        return say("too many thresholds", "at most 16 in one rule");
    }
    if web.thresholds.is_empty() {
        say("the rule can never match", "it needs rule_1_requests_min= and the like in section [thresholds]");
    }
    for t in &mut web.thresholds {
        if t.window == 0 {
            t.window = windows.first().copied().unwrap_or(60);
        }
        let about = ["rule_", &t.number.to_string()].concat();
        let of_status = t.matching.max(t.matching_paths).max(t.matching_tops).max(t.share);
        if t.requests.max(t.paths).max(t.agents).max(of_status) == 0 {
            say(
                &[&about, ": a threshold without a condition"].concat(),
                "it needs requests_min= or the like",
            );
        } else if of_status == 0 && t.statuses != Statuses::ALL {
            let hint = "it needs status_threshold=, status_uri_min=, status_top_min= or status_share=";
            say(&[&about, ": status_code without a number of them"].concat(), hint);
        } else if t.share > 0
            && t.requests.max(t.matching).max(t.matching_paths).max(t.matching_tops).max(t.paths) == 0
        {
            let hint = "it needs requests_min= or status_threshold=, too: one of one is 100 percent";
            say(&[&about, ": status_share alone"].concat(), hint);
        }
    }
}
