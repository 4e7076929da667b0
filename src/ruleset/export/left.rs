#![forbid(unsafe_code)]
//! What is left of tables when all that packets come to by a hook is said.

use super::Export;
use crate::plan::listed::{ChainBase, DROPS, ListedTable};

impl Export<'_> {
    /// Chains that were not followed, and those at hooks that the language does not know.
    pub(super) fn left_over(&mut self) {
        self.flat.sort();
        for table in self.tables {
            let led = Led::new(table);
            for (at, chain) in table.chains.iter().enumerate() {
                let why = match &chain.base {
                    ChainBase::Filter(..) => continue,
                    ChainBase::Other(why) if self.compares() || why.ends_with(DROPS) => why.as_str(),
                    ChainBase::None if self.flat.is_said(table, at) => continue,
                    // What does nothing needs no words.
                    _ if !self.compares() && self.flat.is_idle(table, at, 0) => continue,
                    // Nor what no packet comes to.
                    ChainBase::None if !self.compares() && !led.to(&chain.name) => continue,
                    ChainBase::Other(why) => why.as_str(),
                    ChainBase::None => "a rule could not be followed into this chain",
                };
                // One without rules is there all the same.
                if chain.rules.is_empty() && self.compares() {
                    self.unsaid(why, &["table ", &table.title, " chain ", &chain.name].concat());
                }
                for rule in &chain.rules {
                    self.unsaid_rule(why, table, &chain.name, &rule.text);
                }
            }
        }
    }
}

/// Where the rules of a table lead.
struct Led<'t> {
    /// Sorted.
    names: Vec<&'t str>,
    /// The texts of rules that are not understood.
    texts: Vec<&'t str>,
    /// Whether one of them asks a map of verdicts, which may lead to any chain.
    maps: bool,
}

impl<'t> Led<'t> {
    fn new(table: &'t ListedTable) -> Led<'t> {
        let (mut names, mut texts) = (Vec::new(), Vec::new());
        for rule in table.chains.iter().flat_map(|chain| &chain.rules) {
            match &rule.parts {
                Ok(parts) => {
                    names.extend(parts.iter().filter_map(|part| Some(part.to.as_ref()?.chain.as_str())))
                }
                Err(_) => texts.push(rule.text.as_str()),
            }
        }
        names.sort_unstable();
        let maps = texts.iter().any(|text| text.contains("vmap "));
        Led { names, texts, maps }
    }

    /// Whether a rule may lead to a chain.
    fn to(&self, chain: &str) -> bool {
        self.maps
            || self.names.binary_search(&chain).is_ok()
            || self.texts.iter().any(|text| text.contains(chain))
    }
}
