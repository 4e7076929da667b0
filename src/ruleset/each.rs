#![forbid(unsafe_code)]
//! The rules of a rule set, one after the other: the first ones from memory, the others parsed anew from its text.

use super::ast::{Place, Rule, Statement};
use super::{RuleAt, RuleSet, first_line, parse};

/// Text that goes at once when its rules have passed, bytes.
const PASSED: u32 = 128 * 1024;

impl RuleSet {
    /// Calls `each` with every rule in the order in which they count.
    pub fn each(&self, each: &mut dyn FnMut(Place, &Rule)) {
        let mut none = Vec::new();
        let mut kept = self.kept.iter();
        for RuleAt { place, at } in &self.rules {
            if let Some(Statement::Rule(rule)) = kept.next() {
                each(*place, rule);
                continue;
            }
            let (statement, _) = parse::line(self.line(*place, *at), place.line, &mut none);
            if let Some(Statement::Rule(rule)) = statement {
                each(*place, &rule);
            }
        }
    }

    /// The same for the last time: the text goes as its rules have passed, so that it does not take memory beside
    /// what becomes of them. Afterwards nothing can be marked in it.
    pub fn each_last(&mut self, each: &mut dyn FnMut(&RuleSet, &Rule)) {
        let mut none = Vec::new();
        let mut kept = std::mem::take(&mut self.kept).into_iter();
        let mut texts: Vec<(String, u32)> =
            self.files.iter_mut().map(|file| (std::mem::take(&mut file.text), 0)).collect();
        for RuleAt { place, at } in &self.rules {
            if let Some(Statement::Rule(rule)) = kept.next() {
                each(self, &rule);
                continue;
            }
            let Some((text, gone)) = texts.get_mut(usize::from(place.file)) else { continue };
            if at - *gone > PASSED {
                *text = text.get((at - *gone) as usize..).unwrap_or("").to_owned();
                *gone = *at;
            }
            let line = text.get((at - *gone) as usize..).map_or("", |rest| first_line(rest).0);
            if let (Some(Statement::Rule(rule)), _) = parse::line(line, place.line, &mut none) {
                each(self, &rule);
            }
        }
    }

    /// Where rule number `number` stands, counted from 1.
    #[must_use]
    pub fn rule_place(&self, number: u32) -> Option<Place> {
        self.rules.get((number as usize).checked_sub(1)?).map(|rule| rule.place)
    }
}
