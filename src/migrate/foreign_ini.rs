#![forbid(unsafe_code)]
//! Configuration of fail2ban: several files, of which later ones win, lines that go on, and values that name
//! others.

use crate::setup::Root;

/// Values that are put into one another at most.
const DEPTH: u8 = 12;
/// Longest value.
const VALUE_MAX: usize = 64 * 1024;

/// A value, where it stands, and the number of the file that it is from.
struct PlacedValue {
    section: String,
    key: String,
    text: String,
    file: usize,
}

/// All that was read.
#[derive(Default)]
pub(super) struct ForeignIni {
    values: Vec<PlacedValue>,
    /// Sections in the order in which they first stood.
    pub(super) order: Vec<String>,
    /// Files in the order in which they were read.
    pub(super) files: Vec<String>,
}

impl ForeignIni {
    /// Reads a file if it is there, and what it includes before and after itself.
    pub(super) fn read(&mut self, root: &Root, path: &str) {
        self.read_part(root, path, DEPTH);
    }

    fn read_part(&mut self, root: &Root, path: &str, depth: u8) {
        if !root.has(path) || depth == 0 {
            return;
        }
        let text = root.text(path);
        let dir = path.rsplit_once('/').map_or("", |(dir, _)| dir);
        let included = |key: &str| -> Vec<String> {
            let (mut in_includes, mut is_key, mut all) = (false, false, Vec::new());
            for line in text.lines() {
                let mut names = line;
                if let Some(name) = line.trim().strip_prefix('[') {
                    (in_includes, is_key) = (name.starts_with("INCLUDES]"), false);
                    continue;
                }
                // A line that begins with a blank goes on.
                if !line.starts_with([' ', '\t'])
                    && let Some((name, value)) = line.split_once('=')
                {
                    (is_key, names) = (name.trim() == key, value);
                }
                if in_includes && is_key && !line.starts_with(['#', ';']) {
                    all.extend(names.split_whitespace().map(|file| match file.starts_with('/') {
                        true => file.to_owned(),
                        false => [dir, "/", file].concat(),
                    }));
                }
            }
            all
        };
        included("before").iter().for_each(|other| self.read_part(root, other, depth - 1));
        self.files.push(path.to_owned());
        self.add(&text);
        included("after").iter().for_each(|other| self.read_part(root, other, depth - 1));
    }

    fn add(&mut self, text: &str) {
        let file = self.files.len() - 1;
        let (mut section, mut goes_on) = (String::new(), None);
        for line in text.lines() {
            let trimmed = line.trim();
            if trimmed.is_empty() || trimmed.starts_with(['#', ';']) {
                continue;
            }
            if line.starts_with([' ', '\t']) {
                if let Some(value) = goes_on.and_then(|at: usize| self.values.get_mut(at))
                    && value.text.len() < VALUE_MAX
                {
                    value.text += &["\n", comment_cut(trimmed)].concat();
                }
            } else if let Some(name) = trimmed.strip_prefix('[').and_then(|rest| rest.split(']').next()) {
                section = name.trim().to_owned();
                goes_on = None;
                if !self.order.contains(&section) {
                    self.order.push(section.clone());
                }
            } else if let Some((key, text)) = trimmed.split_once(['=', ':']) {
                let (key, text) = (key.trim(), comment_cut(text.trim()));
                // `known/` is what the value was before.
                if let Some((before, at)) = self.own(&section, key) {
                    let before = before.to_owned();
                    self.set(&section, &["known/", key].concat(), &before, at);
                }
                goes_on = Some(self.set(&section, key, text, file));
            }
        }
    }

    /// Puts a value in the place of the one that is there, and says where.
    fn set(&mut self, section: &str, key: &str, text: &str, file: usize) -> usize {
        let at = self.values.iter().position(|value| value.section == section && value.key == key);
        let text = text.to_owned();
        if let Some((at, known)) = at.and_then(|at| Some((at, self.values.get_mut(at)?))) {
            (known.text, known.file) = (text, file);
            return at;
        }
        self.values.push(PlacedValue { section: section.to_owned(), key: key.to_owned(), text, file });
        self.values.len() - 1
    }

    /// The value of a key as it stands, and the file that it is from. Sections without it have that of
    /// `[DEFAULT]`.
    pub(super) fn raw(&self, section: &str, key: &str) -> Option<(&str, usize)> {
        self.own(section, key).or_else(|| self.own("DEFAULT", key))
    }

    /// Likewise, and of the section itself only.
    pub(super) fn own(&self, section: &str, key: &str) -> Option<(&str, usize)> {
        let found = self.values.iter().find(|value| value.section == section && value.key == key)?;
        Some((&found.text, found.file))
    }

    /// The value with all that it names in the place of the names; what is not known stays as it is.
    pub(super) fn value(&self, section: &str, key: &str) -> Option<String> {
        self.raw(section, key).map(|(text, _)| self.filled(section, text, DEPTH))
    }

    /// `%(name)s` and `%(section/name)s` filled in.
    pub(super) fn filled(&self, section: &str, text: &str, depth: u8) -> String {
        let (mut out, mut rest) = (String::new(), text);
        while let Some((before, behind)) = rest.split_once("%(") {
            out += before;
            let Some((name, behind)) = behind.split_once(")s") else {
                // It has no end: it is no name.
                return out + "%(" + behind;
            };
            let (of, key) = match name.split_once('/') {
                Some((of, key)) if of != "known" => (if of == "default" { "DEFAULT" } else { of }, key),
                _ => (section, name),
            };
            match self.raw(of, key).filter(|_| depth > 0 && out.len() < VALUE_MAX) {
                Some((value, _)) => out += &self.filled(of, value, depth - 1),
                None if name == "__name__" => out += section,
                None => out += &["%(", name, ")s"].concat(),
            }
            rest = behind;
        }
        out + rest
    }
}

/// Without the comment behind it.
fn comment_cut(value: &str) -> &str {
    value.split_once(" ;").or_else(|| value.split_once(" #")).map_or(value, |(before, _)| before.trim_end())
}
