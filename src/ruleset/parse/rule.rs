#![forbid(unsafe_code)]
//! Statements `rule` and `nat`: the values of their keys.

use super::items::{addresses, interfaces, ports};
use super::{NONE, StatementReader};
use crate::base::diag::{Bad, Checked};
use crate::base::name::NAME_MAX;
use crate::plan::{Direction, ct};
use crate::ruleset::ast::{Action, Extra, LimitOption, Protos, RuleStatement, not};
use crate::ruleset::lex::Pair;
use crate::ruleset::words::{self, expected, key};
use crate::ruleset::{extra, value};
use smallvec::SmallVec;

impl<'a> StatementReader<'a, '_> {
    pub(super) fn rule(&mut self) -> Option<RuleStatement> {
        let (dir, action) = (self.direction(), self.action());
        let proto = if self.line.word == "nat" { self.find(key::PROTO) } else { self.required(key::PROTO) };
        let mut rule = RuleStatement::new(dir.unwrap_or(Direction::In), action.unwrap_or(Action::Drop));
        let before = self.problems.len();
        if let Some(pair) = proto {
            self.protocols(&pair, &mut rule);
        }
        let proto = before == self.problems.len() && (proto.is_some() || self.line.word == "nat");
        rule.family = self.family(key::FAMILY);
        if self.find(key::GROUP).is_some() {
            rule.rare.group = self.group(key::GROUP, NAME_MAX);
        }
        self.optional(key::LOG, "none", &mut |t| put(&mut rule.rare.log, value::prefix(t).map(Some)));
        self.optional(key::RATELIMIT, "any", &mut |t| {
            put(&mut rule.rare.ratelimit, value::rate(t).map(Some))
        });
        self.optional(key::LIMIT, "any", &mut |t| put(&mut rule.rare.limit, limit(t).map(Some)));
        self.optional(key::BURST, "", &mut |t| put(&mut rule.rare.burst, value::burst(t)));
        self.optional(key::IIF, "any", &mut |t| put(&mut rule.iif, interfaces(t)));
        self.optional(key::OIF, "any", &mut |t| put(&mut rule.oif, interfaces(t)));
        let bits = &mut rule.not;
        self.optional(key::SRC, "any", &mut |t| put(&mut rule.src, addresses(t, (not::SRC, bits))));
        self.optional(key::DST, "any", &mut |t| put(&mut rule.dst, addresses(t, (not::DST, bits))));
        self.optional(key::SPORT, "any", &mut |t| {
            put(&mut rule.rare.sport, ports(t, (not::SPORT, bits)).map(<[_]>::into_vec))
        });
        self.optional(key::DPORT, "any", &mut |t| put(&mut rule.dport, ports(t, (not::DPORT, bits))));
        self.optional(key::CT, "any", &mut |t| {
            let list = t.strip_prefix('!');
            rule.not |= if list.is_some() { not::CT } else { 0 };
            let read = value::states(list.unwrap_or(t));
            put(&mut rule.ct, read.map_err(|bad| bad.moved(usize::from(list.is_some()))))?;
            if list.is_some() && rule.ct & ct::ALL == ct::ALL {
                return Err(Bad::word(0, t, "leaves no state", "every packet has one of them"));
            }
            Ok(())
        });
        self.optional(key::COMMENT, "", &mut |t| put(&mut rule.comment, value::comment(t)));
        self.optional(key::TO, "", &mut |t| put(&mut rule.rare.to, value::target(t).map(Some)));
        let names = self.names;
        let mut extras: Vec<Extra> = Vec::new();
        for (place, row) in (0u8..).zip(&extra::ROWS) {
            let key = key::EXTRA + usize::from(place);
            if self.at.get(key) == Some(&NONE) {
                continue;
            }
            self.optional(key, "any", &mut |t| {
                extras.push(extra::read((place, row), t, &|key, name| names.account(key, name))?);
                Ok(())
            });
        }
        if !extras.is_empty() {
            rule.rare.extras = extras;
        }
        let whole = dir.is_some() && action.is_some() && proto;
        if whole {
            self.fits(&rule);
            self.fits_more(&rule);
        }
        whole.then_some(rule)
    }

    /// `proto=`
    fn protocols(&mut self, pair: &Pair<'a>, rule: &mut RuleStatement) {
        let Some(text) = self.text(pair) else { return };
        let (is_not, list) = text.strip_prefix('!').map_or((false, &*text), |list| (true, list));
        if list == "all" && !is_not {
            return;
        }
        let mut numbers: SmallVec<[u8; Protos::MAX]> = SmallVec::new();
        let read = value::items(list, &mut |item, at| {
            let word = words::PROTOCOLS.iter().find(|(word, n)| *word == item && *n > 0);
            let digits = item.bytes().all(|b| b.is_ascii_digit());
            let number = word.map(|(_, n)| *n).or_else(|| item.parse().ok().filter(|n| digits && *n > 0));
            let number = number.ok_or_else(|| {
                if item == "all" {
                    return Bad::word(at, item, "stands alone", "without ! and other protocols");
                }
                let words: Vec<&str> = words::PROTOCOLS.iter().map(|(word, _)| *word).collect();
                let what = ["unknown protocol '", item, "'"].concat();
                Bad::new(at..at + item.len(), what, &(expected(item, &words) + "; or a number"))
            })?;
            if !numbers.contains(&number) {
                numbers.push(number);
            }
            Ok(())
        });
        match (read, Protos::new(&numbers)) {
            (Err(bad), _) => self.bad(pair, *bad.moved(usize::from(is_not))),
            (Ok(()), None) => self.key_wrong(pair, " has too many protocols", "at most 8"),
            (Ok(()), Some(all)) => {
                rule.proto = all;
                rule.not |= if is_not { not::PROTO } else { 0 };
            }
        }
    }
}

/// Stores a value that was read.
fn put<T>(place: &mut T, read: Checked<T>) -> Checked<()> {
    *place = read?;
    Ok(())
}

fn limit(text: &str) -> Checked<LimitOption> {
    let (rate, per_source) = match text.strip_suffix("/src") {
        Some(rate) => (rate, true),
        None => (text, false),
    };
    Ok(LimitOption { rate: value::rate(rate)?, per_source })
}
