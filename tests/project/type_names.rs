//! The name of a type says of what it is, so that few names stand for two things.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use super::layers::sources;

/// How many of a hundred names may be those of several types.
const MOST: usize = 5;

/// The type that a line declares. An indented `type` belongs to a trait, or to one function.
fn declared(line: &str) -> Option<&str> {
    let code = line.trim_start();
    let code = match code.strip_prefix("pub") {
        Some(rest) if rest.starts_with('(') => rest.split_once(')')?.1,
        Some(rest) => rest,
        None => code,
    };
    let (kind, rest) = code.trim_start().split_once(' ')?;
    let name = rest.trim_start().split(|c: char| !c.is_alphanumeric() && c != '_').next()?;
    let declares = match kind {
        "struct" | "enum" | "trait" | "union" => true,
        "type" => !line.starts_with(' '),
        _ => false,
    };
    (declares && name.starts_with(char::is_uppercase)).then_some(name)
}

/// Every name, with the files that declare a type of this name.
fn names(files: &[(String, String)]) -> BTreeMap<&str, Vec<&str>> {
    let mut all = BTreeMap::<_, Vec<_>>::new();
    for (path, text) in files {
        for name in text.lines().filter_map(declared) {
            all.entry(name).or_default().push(path.as_str());
        }
    }
    all
}

/// The names of several types, if they are too many: each with its files.
fn too_many(files: &[(String, String)]) -> Option<String> {
    let all = names(files);
    let again: Vec<_> = all.iter().filter(|(_, files)| files.len() > 1).collect();
    (again.len() * 100 > all.len() * MOST).then(|| {
        let list: String =
            again.iter().map(|(name, files)| format!("\n  {name}: {}", files.join(", "))).collect();
        format!(
            "{} of {} names are those of several types; say of what each is:{list}",
            again.len(),
            all.len()
        )
    })
}

#[test]
fn few_names_stand_for_two_types() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut paths = Vec::new();
    sources(&root.join("src"), &mut paths);
    paths.sort();
    let shown = |path: &Path| path.strip_prefix(root).unwrap().display().to_string();
    let files: Vec<_> = paths.iter().map(|path| (shown(path), fs::read_to_string(path).unwrap())).collect();
    assert!(names(&files).len() > 500, "types are not found any more");
    if let Some(problem) = too_many(&files) {
        panic!("{problem}");
    }
}

#[test]
fn a_name_that_comes_twice_is_found() {
    let lines = [
        ("struct Row;", Some("Row")),
        ("    pub(in crate::daemon) enum Row<'a> {", Some("Row")),
        ("pub trait Row: View {", Some("Row")),
        ("pub type Row = u8;", Some("Row")),
        ("    type Item = u8;", None),
        ("// struct Row;", None),
        ("structure Row", None),
        ("use std::fmt as Row;", None),
    ];
    for (line, name) in lines {
        assert_eq!(declared(line), name, "{line}");
    }
    let file = |path: &str, types: std::ops::Range<u32>, more: &str| {
        let text: String = types.map(|i| format!("struct T{i};\n")).collect();
        (path.to_owned(), text + more)
    };
    // One of twenty, and then of nineteen.
    let twice = |last| [file("a.rs", 0..last, "enum Row {}\n"), file("b.rs", 100..109, "pub struct Row;\n")];
    assert_eq!(too_many(&twice(10)), None);
    let problem = too_many(&twice(9)).unwrap();
    assert!(problem.starts_with("1 of 19 ") && problem.ends_with("\n  Row: a.rs, b.rs"), "{problem}");
}
