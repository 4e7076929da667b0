#![forbid(unsafe_code)]
//! What a list's file would do if it were loaded now, for `mef check` and `mef lists`: by the code that loads
//! it.

use super::kept::Kept;
use super::read::{Detail, ListNote, survey};
use super::{Before, Exempt, Paths, allow, deny, hosts, refusal};
use crate::base::count::count;
use crate::config::{ListCounts, ListKind};
use crate::firewall::view;
use std::path::Path;

/// What becomes of a file.
pub struct ListVerdict {
    /// Its lines.
    pub counts: ListCounts,
    /// Why it cannot be used, and what is in force instead.
    pub refused: Option<String>,
}

/// Reads a list as whoever loads it would, and shows everything that is wrong with it.
pub fn check(kind: ListKind, path: &Path, paths: &Paths, note: ListNote<'_>) -> ListVerdict {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or("");
    let kept = Kept::of(paths, kind).read(name);
    match kind {
        ListKind::Allow => {
            let (counts, result) = allow::content(path, kept.as_deref(), Detail::Shown, note);
            if let Some(all) = hosts::too_many(path) {
                note(&format_args!(
                    "{}: {all} host names, of which {} are looked up",
                    path.display(),
                    hosts::NAMES
                ));
            }
            let stays = match kept.map(|kept| kept.len()) {
                Some(0) => "nothing of it is in force".to_owned(),
                Some(n) => format!("{} kept in force", count(n, "previous entry")),
                None => "its previous content stays in force".to_owned(),
            };
            ListVerdict { counts, refused: result.err().map(|why| format!("{why}: {stays}")) }
        }
        ListKind::Deny => {
            // Who may not ask the kernel still hears what is wrong with the file.
            let sets = view(paths.options()).and_then(|mut lists| lists.deny_sets());
            let had = deny::had(&sets.unwrap_or_default(), kept.as_deref(), name);
            let (counts, why) = match survey(path, &Exempt::read(), Detail::Shown, note) {
                Ok(survey) => (survey.counts, refusal(survey.counts, Before::from(had)).map(str::to_owned)),
                Err(e) => (ListCounts::default(), Some(e.to_string())),
            };
            let stays = if had { "its previous content stays in force" } else { "nothing of it is in force" };
            ListVerdict { counts, refused: why.map(|why| format!("{why}: {stays}")) }
        }
    }
}
