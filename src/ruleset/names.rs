#![forbid(unsafe_code)]
//! What words in values stand for that a line alone does not tell: texts that `let` has named, and users and
//! groups of the host.

use std::borrow::Cow;

/// The names that are known.
#[derive(Debug, Default)]
pub struct Names {
    /// Names and texts of `let`.
    pub(super) lets: Vec<(String, String)>,
    /// /etc/passwd and /etc/group, where a rule has asked for them.
    pub(super) accounts: [Option<String>; 2],
    /// Takes users and groups as they come: only the form of the text counts.
    pub(super) lenient: bool,
}

/// Longest text that a value may become, bytes.
const TEXT_MAX: usize = 256 * 1024;

impl Names {
    /// Adds a name; false if there is such a one.
    pub(super) fn add(&mut self, name: &str, text: &str) -> bool {
        let free = !self.has(name);
        if free {
            self.lets.push((name.to_owned(), text.to_owned()));
        }
        free
    }

    fn has(&self, name: &str) -> bool {
        self.lets.iter().any(|(known, _)| known == name)
    }

    /// The value with the texts in the places of their names. Without a single `let`, `$` is no sign.
    ///
    /// # Errors
    /// The name that is not known.
    pub(super) fn expand<'a>(&self, value: Cow<'a, str>) -> Result<Cow<'a, str>, String> {
        if self.lets.is_empty() || !value.contains('$') {
            return Ok(value);
        }
        let mut out = String::with_capacity(value.len() * 2);
        for (at, item) in value.split(',').enumerate() {
            out.push_str(if at > 0 { "," } else { "" });
            let (not, item) = item.strip_prefix('!').map_or(("", item), |rest| ("!", rest));
            out.push_str(not);
            let Some(name) = item.strip_prefix('$') else {
                out.push_str(item);
                continue;
            };
            let found = self.lets.iter().find(|(known, _)| known == name).map(|(_, text)| text);
            out.push_str(found.filter(|text| text.len() + out.len() < TEXT_MAX).ok_or(name)?);
        }
        Ok(Cow::Owned(out))
    }

    /// The number of a user, or of a group.
    pub(super) fn account(&self, key: &str, name: &str) -> Option<u64> {
        let file = match key {
            "uid" => self.accounts.first(),
            "gid" => self.accounts.last(),
            _ => return None,
        };
        if self.lenient && !name.is_empty() && !name.starts_with(|c: char| c.is_ascii_digit()) {
            return Some(0);
        }
        let lines = file?.as_deref()?.lines();
        let mut fields =
            lines.map(|line| line.split(':')).find_map(|mut f| (f.next()? == name).then_some(f))?;
        fields.nth(1)?.parse().ok()
    }
}
