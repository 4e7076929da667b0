#![forbid(unsafe_code)]
//! Configuration of other programs, as files of mef. Reads what they have written, changes nothing of it, and
//! says what has no counterpart: what protected somebody there is never passed over without a word.

mod csf;
mod fail2ban;
mod filter;
mod foreign_ini;
mod lfd;
mod packets;
mod samples;
mod ufw;

use crate::base::diag::Severity;
use crate::ruleset::{Files, RuleSet, Trees};
use crate::setup::Root;
use std::io;

pub use fail2ban::{import_filter, own_rule};
pub use filter::ImportedFilter;

/// What becomes of another program's configuration.
#[derive(Default)]
pub struct Migration {
    /// What was found of it, for people.
    pub found: Vec<String>,
    /// Files of mef: the path, and the text.
    pub files: Vec<(String, String)>,
    /// Lines of mef.conf.
    pub settings: Vec<String>,
    /// Bans in force.
    pub bans: Vec<MigratedBan>,
    /// What has no counterpart, or another one than one would think: the place, and what to do.
    pub notes: Vec<String>,
    /// How the other program is stopped.
    pub stop: &'static str,
    /// How to go back to it.
    pub back: &'static str,
}

/// A ban that another program has made.
#[derive(Debug, PartialEq, Eq)]
pub struct MigratedBan {
    /// Address, network or range.
    pub who: String,
    /// Seconds that are left.
    pub left: u64,
    /// As `mef ban --ports` has them; empty: all.
    pub ports: String,
    /// Why, for people.
    pub reason: String,
}

/// Whose configuration is read.
pub struct Product {
    /// What it is called.
    pub name: &'static str,
    /// Reads what there is.
    pub read: ReadProduct,
}

/// Reads what there is below a root. The time is in seconds since 1970, with the seconds that local time is
/// ahead of UTC.
type ReadProduct = fn(&Root, (u64, i32), AskProgram<'_>) -> Result<Migration, String>;

/// Runs a program of this host with these arguments, and gives what it prints if it ends well; nothing, if
/// what is read is another tree.
pub type AskProgram<'a> = &'a dyn Fn(&[&str]) -> Option<String>;

/// Every program whose configuration is known.
pub const PRODUCTS: [Product; 3] = [
    Product { name: "fail2ban", read: fail2ban::read },
    Product { name: "csf", read: csf::read },
    Product { name: "ufw", read: ufw::read },
];

/// Where the files go.
const RULE_SET: &str = "/etc/mef/mef.rules";
const RULES_DIR: &str = "/etc/mef/rules.d/";
const ALLOWED: &str = "/etc/mef/whitelist/";
const DENIED: &str = "/etc/mef/blacklist/";

impl Migration {
    fn note(&mut self, parts: &[&str]) {
        self.notes.push(parts.concat());
    }

    fn file(&mut self, dir: &str, name: &str, text: String) {
        self.files.push(([dir, name].concat(), text));
    }
}

impl Migration {
    /// Takes out of the rule set what does not hold there, and says so: a rule set that cannot be loaded is
    /// none.
    pub fn verify(&mut self) {
        while let Some(at) = self.files.iter().position(|(path, _)| path == RULE_SET) {
            let read = RuleSet::read(RULE_SET, &mut MigratedFiles(&self.files), Trees::First);
            let wrong = read.problems.iter().find(|(_, p)| p.severity == Severity::Error && p.line > 0);
            let Some((_, problem)) = wrong else { return };
            let number = usize::try_from(problem.line).unwrap_or(1).saturating_sub(1);
            let what = [problem.what.as_str(), "; write it by hand: "].concat();
            let Some((_, text)) = self.files.get_mut(at) else { return };
            let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
            let Some(line) = lines.get_mut(number).filter(|line| !line.starts_with('#')) else { return };
            self.notes.push([RULE_SET, ": ", &what, line].concat());
            line.insert_str(0, "# ");
            *text = lines.join("\n") + "\n";
        }
    }
}

/// The files that are to be written, as the rule set finds them.
struct MigratedFiles<'a>(&'a [(String, String)]);

impl Files for MigratedFiles<'_> {
    fn read(&mut self, path: &str) -> io::Result<Vec<u8>> {
        let found = self.0.iter().find(|(name, _)| name == path);
        found.map(|(_, text)| text.clone().into_bytes()).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn expand(&mut self, _: &str, pattern: &str) -> io::Result<Vec<String>> {
        Ok(vec![pattern.to_owned()])
    }
}

/// The text of a file without which nothing can be said: what cannot be read must not look like nothing.
fn needed(root: &Root, path: &str) -> Result<String, String> {
    let text = root.text(path);
    if text.trim().is_empty() { Err([path, " cannot be read, or is empty"].concat()) } else { Ok(text) }
}

/// A text as a value of a statement or a comment: what would end it, or does not show, is gone.
fn plain(text: &str) -> String {
    text.chars()
        .filter(|c| !c.is_control() && *c != '"' && *c != '\\')
        .take(120)
        .collect::<String>()
        .trim()
        .into()
}
