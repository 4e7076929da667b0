//! A test that needs root says so: `#[cfg_attr(not_root, ignore = "needs root")]`. Whoever builds as an
//! ordinary user then sees it counted as ignored, never as passed. Looked for in the text: who makes a
//! namespace, or calls somebody who does.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use regex::Regex;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

const MARK: &str = "#[cfg_attr(not_root, ignore = \"needs root\")]";

/// A function: how it is called, `Type::name` if it belongs to one, what stands before it and in it.
struct Function {
    name: String,
    attributes: Vec<String>,
    body: String,
}

fn functions(text: &str) -> Vec<Function> {
    let owner = Regex::new(r"^impl.* ([A-Za-z]+)(?:<[^{ ]*>)? \{").unwrap();
    let start = Regex::new(r"^( *)(?:pub(?:\([^)]*\))? )?(?:const )?fn ([A-Za-z0-9_]+)").unwrap();
    let mut found: Vec<Function> = Vec::new();
    let (mut of, mut attributes) = (None, Vec::new());
    for line in text.lines() {
        if let Some(owner) = owner.captures(line) {
            of = Some(owner[1].to_owned());
        } else if line.starts_with('}') {
            of = None;
        }
        if let Some(start) = start.captures(line) {
            let owner = of.as_ref().filter(|_| !start[1].is_empty());
            let name = owner.map_or_else(|| start[2].to_owned(), |owner| format!("{owner}::{}", &start[2]));
            let attributes = std::mem::take(&mut attributes);
            found.push(Function { name, attributes, body: String::new() });
        } else if line.trim_start().starts_with("#[") {
            attributes.push(line.trim().to_owned());
        } else {
            attributes.clear();
            found.last_mut().into_iter().for_each(|function| function.body.extend([line, "\n"]));
        }
    }
    found
}

/// Whether a text calls that function, or hands it to somebody who does.
fn calls(body: &str, name: &str) -> bool {
    let inside = |c: char| c.is_alphanumeric() || c == '_' || c == '.';
    body.match_indices(name).any(|(at, _)| {
        let (before, behind) = (&body[..at], &body[at + name.len()..]);
        let handed = before.ends_with('(') && behind.starts_with(')');
        handed || (behind.starts_with('(') && !before.ends_with(inside))
    })
}

/// The functions that need root: those that are known to, and who calls them.
fn rooted(functions: &[Function], known: &BTreeSet<String>) -> BTreeSet<String> {
    let mut all = known.clone();
    loop {
        let more = functions.iter().filter(|f| !all.contains(&f.name));
        let more: Vec<_> = more.filter(|f| all.iter().any(|name| calls(&f.body, name))).collect();
        if more.is_empty() {
            return all;
        }
        let names: Vec<String> = more.into_iter().map(|f| f.name.clone()).collect();
        all.extend(names);
    }
}

/// The tests among them that need root and do not say so.
fn unmarked(functions: &[Function], known: &BTreeSet<String>) -> Vec<String> {
    let rooted = rooted(functions, known);
    let has = |f: &Function, attribute: &str| f.attributes.iter().any(|a| a == attribute);
    let tests = functions.iter().filter(|f| has(f, "#[test]") && rooted.contains(&f.name));
    tests.filter(|f| !has(f, MARK)).map(|f| f.name.clone()).collect()
}

/// The files of rust in a directory of tests.
fn files(dir: &Path) -> Vec<PathBuf> {
    let all = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    all.filter(|path| path.extension().is_some_and(|end| end == "rs")).collect()
}

fn read(paths: &[PathBuf]) -> Vec<Function> {
    paths.iter().flat_map(|path| functions(&fs::read_to_string(path).unwrap())).collect()
}

/// The modules that `text` declares in files of their own, and those of these files. A module that stands in
/// braces is a directory below `home`.
fn modules(text: &str, home: &Path, found: &mut BTreeSet<PathBuf>) {
    let mut dir = home.to_owned();
    for line in text.lines() {
        let name = line.trim().trim_start_matches("pub ").strip_prefix("mod ");
        if let Some(name) = name.and_then(|rest| rest.strip_suffix(" {")) {
            dir = home.join(name);
        } else if line == "}" {
            home.clone_into(&mut dir);
        } else if let Some(name) = name.and_then(|rest| rest.strip_suffix(';')) {
            let own = dir.join(name);
            let file = [own.with_extension("rs"), own.join("mod.rs")].into_iter().find(|file| file.exists());
            let file = file.unwrap_or_else(|| panic!("{} is not there", own.display()));
            modules(&fs::read_to_string(&file).unwrap(), &own, found);
            found.insert(file);
        }
    }
}

/// All files of the integration tests.
fn all() -> BTreeSet<PathBuf> {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    let mut found = BTreeSet::new();
    modules(&fs::read_to_string(tests.join("main.rs")).unwrap(), &tests, &mut found);
    found
}

#[test]
fn every_file_is_a_module() {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    let (known, mut lost, mut todo) = (all(), Vec::new(), vec![tests.clone()]);
    while let Some(dir) = todo.pop() {
        lost.extend(files(&dir).into_iter().filter(|file| !known.contains(file)));
        let inside = fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().path());
        // Crates of their own.
        todo.extend(inside.filter(|path| path.is_dir() && !path.join("Cargo.toml").exists()));
    }
    assert_eq!(lost, [tests.join("main.rs")], "what tests/main.rs does not name is not run");
}

#[test]
fn tests_that_need_root_say_so() {
    let first: BTreeSet<String> = ["Ns::new".to_owned()].into();
    let common = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/common");
    let known = rooted(&read(&files(&common)), &first);
    assert!(["Net::new", "World::new"].iter().all(|name| known.contains(*name)), "{known:?}");
    let mut marked = 0;
    for path in all().iter().filter(|path| !path.starts_with(&common)) {
        // What a test is made of beside its file: a directory that is named like it.
        let parts = path.with_extension("");
        let mut all = read(std::slice::from_ref(path));
        if parts.is_dir() {
            all.extend(read(&files(&parts)));
        }
        marked += all.iter().filter(|f| f.attributes.iter().any(|a| a == MARK)).count();
        assert_eq!(unmarked(&all, &known), [""; 0], "{}: put {MARK} below #[test]", path.display());
    }
    assert!(marked > 300, "{marked}");
}

#[test]
fn a_test_without_the_mark_is_found() {
    let known: BTreeSet<String> = ["Made::up".to_owned()].into();
    let host = "impl Host {\n    fn up() -> Host {\n        Host(Made::up())\n    }\n}\n";
    let cases = [
        ("#[test]\nfn t() {\n    let net = Made::up();\n}\n", 1),
        ("#[test]\n#[cfg_attr(not_root, ignore = \"needs root\")]\nfn t() {\n    Made::up();\n}\n", 0),
        ("#[test]\nfn t() {\n    let h = Host::up();\n}\n", 1),
        ("fn a() {\n    Host::up();\n}\n#[test]\nfn t() {\n    [1].map(a);\n}\n", 1),
        ("#[test]\nfn t() {\n    OtherMade::up();\n    up();\n}\n", 0),
        ("fn t() {\n    Made::up();\n}\n", 0),
    ];
    for (text, count) in cases {
        assert_eq!(unmarked(&functions(&format!("{host}{text}")), &known).len(), count, "{text}");
    }
}
