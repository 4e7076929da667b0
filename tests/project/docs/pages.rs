//! Pages in Markdown: their blocks, their links, and how the output of examples is compared.

use super::ROOT;
use regex::Regex;
use std::fs;
use std::path::Path;

/// Where the pages are, one per task.
pub const PAGES: &str = "rootfs/usr/share/doc/mef";

/// A text in Markdown: its path from the top of the repository, and what it says.
pub struct Page {
    pub path: String,
    pub text: String,
}

/// The README, the guides beside it, and every page that gets installed.
pub fn pages() -> Vec<Page> {
    let read = |path: String| {
        let text = fs::read_to_string(Path::new(ROOT).join(&path)).unwrap();
        Page { path, text }
    };
    let mut paths: Vec<String> =
        ["README.md", "CONTRIBUTING.md", "SECURITY.md", "ARCHITECTURE.md"].map(str::to_owned).into();
    let installed = fs::read_dir(Path::new(ROOT).join(PAGES)).unwrap();
    let names = installed.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let names = names.filter(|name| name.ends_with(".md"));
    let mut names: Vec<String> = names.map(|name| format!("{PAGES}/{name}")).collect();
    names.sort();
    paths.append(&mut names);
    paths.into_iter().map(read).collect()
}

/// A fenced block of a text in Markdown.
pub struct Block<'a> {
    /// What stands behind the fence: a kind, and a file's name if the block is that file's content.
    pub info: &'a str,
    pub text: String,
    pub line: usize,
    /// Nothing but empty lines stands between the block before and this one.
    pub adjacent: bool,
}

pub fn blocks(markdown: &str) -> Vec<Block<'_>> {
    let mut found = Vec::new();
    let mut open: Option<Block<'_>> = None;
    let mut adjacent = false;
    for (number, line) in (1..).zip(markdown.lines()) {
        match (&mut open, line.strip_prefix("```")) {
            (Some(_), Some("")) => {
                found.extend(open.take());
                adjacent = true;
            }
            (Some(block), _) => block.text.extend([line, "\n"]),
            (None, Some(info)) => open = Some(Block { info, text: String::new(), line: number, adjacent }),
            (None, None) => adjacent &= line.is_empty(),
        }
    }
    assert!(open.is_none(), "a block without an end");
    found
}

/// Output with everything masked that differs from run to run: times, counters, widths of columns.
pub fn masked(text: &str) -> String {
    // "1h" is "59m 59s" a moment later: one time, since columns are further apart.
    let times = Regex::new(r"(?-u:\b)[0-9]+(?:ms|[smhdw])(?: ?[0-9]+(?:ms|[smhdw]))*(?-u:\b)").unwrap();
    let numbers = Regex::new(r#"("since":|"left":|packets |bytes )[0-9]+"#).unwrap();
    let moments =
        Regex::new(r"[0-9]{4}-[0-9]{2}-[0-9]{2} [0-9]{2}:[0-9]{2}:[0-9]{2}|(?-u:\b)1[0-9]{9}(?-u:\b)")
            .unwrap();
    let blanks = Regex::new(r"[ \t]+").unwrap();
    let text = numbers.replace_all(text, "${1}NUMBER");
    let text = moments.replace_all(&text, "MOMENT");
    let text = times.replace_all(&text, "TIME");
    blanks.replace_all(&text, " ").lines().map(|line| line.trim_end().to_owned() + "\n").collect()
}

/// Of what `nft` prints, the parts that do not change from one of its versions to the next: names and
/// verdicts.
pub fn skeleton(text: &str) -> Vec<&str> {
    let words: Vec<&str> = text.split_whitespace().collect();
    let keyword = |w: &str| matches!(w, "table" | "set" | "chain" | "hook" | "jump");
    let kept = |i: usize| {
        let before = i.checked_sub(1).and_then(|i| words.get(i)).is_some_and(|w| keyword(w));
        before || words[i].starts_with('@') || matches!(words[i], "accept" | "drop" | "return" | "log")
    };
    (0..words.len()).filter(|&i| kept(i)).map(|i| words[i]).collect()
}

/// The anchors of a text: its titles as hosts of repositories spell them.
pub fn anchors(text: &str) -> Vec<String> {
    let titles = text.lines().filter(|line| line.starts_with('#'));
    let titles = titles.map(|line| line.trim_start_matches('#').trim().to_lowercase());
    titles.map(|title| title.replace(' ', "-").replace([',', '.', '`', ':'], "")).collect()
}

pub fn links_lead_somewhere(page: &Page) {
    let own = Path::new(ROOT).join(&page.path);
    for link in Regex::new(r"\]\(([^)]*)\)").unwrap().captures_iter(&page.text) {
        if link[1].starts_with("https://") {
            continue;
        }
        let (file, anchor) = link[1].split_once('#').unwrap_or((&link[1], ""));
        let target = if file.is_empty() { own.clone() } else { own.parent().unwrap().join(file) };
        assert!(target.exists(), "{}: {file} is not there", page.path);
        if !anchor.is_empty() {
            let text = fs::read_to_string(&target).unwrap();
            assert!(anchors(&text).iter().any(|a| a == anchor), "{}: no heading for {}", page.path, &link[1]);
        }
    }
}
