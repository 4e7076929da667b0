//! No circle of imports goes beyond one directory.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::iter::Peekable;
use std::path::{Path, PathBuf};
use std::str::Chars;

use super::layers::sources;

/// The words of a path.
type Words = Vec<String>;

/// A path as it is written.
struct Written {
    words: Words,
    /// The name that it has in this file, if it is imported.
    name: Option<String>,
}

/// What a file imports.
#[derive(Default)]
struct Imports {
    /// By the names that they have in the file, from the root of the crate.
    names: BTreeMap<String, Words>,
    /// Modules of which it takes all names.
    globs: Vec<Words>,
}

/// A module.
struct Module {
    /// The directory of its children or, if it has none, its own.
    home: PathBuf,
    text: String,
}

/// All of them, by their names.
type Modules = BTreeMap<Words, Module>;

/// What each module uses.
type Uses<'a> = BTreeMap<&'a [String], BTreeSet<&'a [String]>>;

/// What a file uses: its paths, from the root of the crate. Those of other crates look as if they stood in
/// it.
fn paths(module: &[String], text: &str) -> Vec<Words> {
    let written = written(&code(text));
    let mut imports = Imports::default();
    for path in &written {
        let whole = absolute(module, &path.words, &imports);
        match path.name.as_deref() {
            Some("*") => imports.globs.push(whole),
            Some(name) if path.words[0] != name => drop(imports.names.insert(name.to_owned(), whole)),
            _ => {}
        }
    }
    let mut found: Vec<Words> = Vec::new();
    for path in &written {
        found.push(absolute(module, &path.words, &imports));
        // What is not known may be of them.
        let globs = imports.globs.iter().filter(|_| path.name.is_none());
        found.extend(globs.map(|glob| [glob, &path.words[..]].concat()));
    }
    found
}

/// A file without its comments and its tests, and without what only says who sees something.
fn code(text: &str) -> String {
    let mut code = String::new();
    for line in text.split("\n#[cfg(test)]\nmod tests {").next().unwrap().lines() {
        code += line.split("//").next().unwrap();
        code.push('\n');
    }
    code.replace("pub(in crate::", "pub(in ").replace("pub(super)", "pub")
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

fn written(code: &str) -> Vec<Written> {
    let (mut found, mut read) = (Vec::new(), 0);
    for (at, _) in code.match_indices("::") {
        let start = code[..at].trim_end_matches(is_word).len();
        // What stands in a path or its braces was found with it.
        if start < at && start >= read {
            let mut text = code[start..].chars().peekable();
            let first = found.len();
            expand(&mut Vec::new(), &mut text, &mut found);
            read = code.len() - text.map(char::len_utf8).sum::<usize>();
            let before = code[..start].trim_end();
            if before.len() == start || !before.ends_with("use") {
                found[first..].iter_mut().for_each(|path| path.name = None);
            }
        }
    }
    found
}

fn skip_blanks(text: &mut Peekable<Chars<'_>>) {
    while text.next_if(|c| c.is_whitespace()).is_some() {}
}

fn word(text: &mut Peekable<Chars<'_>>) -> String {
    let mut word = String::new();
    while let Some(c) = text.next_if(|c| is_word(*c)) {
        word.push(c);
    }
    word
}

/// Reads one path or, in braces, several, each behind `before`.
fn expand(before: &mut Words, text: &mut Peekable<Chars<'_>>, found: &mut Vec<Written>) {
    let depth = before.len();
    loop {
        skip_blanks(text);
        if text.next_if_eq(&'{').is_some() {
            while text.peek().is_some_and(|c| *c != '}') {
                expand(before, text, found);
                while text.next_if(|c| c.is_whitespace() || *c == ',').is_some() {}
                if text.peek().is_some_and(|c| !is_word(*c) && !['{', '}', '*'].contains(c)) {
                    break;
                }
            }
            text.next();
            break;
        }
        if text.next_if_eq(&'*').is_some() {
            found.push(Written { words: before.clone(), name: Some("*".to_owned()) });
            break;
        }
        before.push(word(text));
        let next: String = text.clone().take(2).collect();
        if next != "::" {
            let name = other_name(text).or_else(|| before.iter().rfind(|word| *word != "self").cloned());
            found.push(Written { words: before.clone(), name });
            break;
        }
        text.nth(1);
    }
    before.truncate(depth);
}

/// What stands behind `as`.
fn other_name(text: &mut Peekable<Chars<'_>>) -> Option<String> {
    let mut ahead = text.clone();
    skip_blanks(&mut ahead);
    if word(&mut ahead) != "as" {
        return None;
    }
    skip_blanks(&mut ahead);
    let name = word(&mut ahead);
    *text = ahead;
    Some(name)
}

fn absolute(module: &[String], path: &[String], imports: &Imports) -> Words {
    let ups = path.iter().take_while(|word| *word == "super").count();
    let (base, rest) = match path[0].as_str() {
        "crate" => (&[][..], 1),
        "super" => (&module[..module.len().saturating_sub(ups)], ups),
        "self" => (module, 1),
        // Imported, of this module, or of another crate.
        first => imports.names.get(first).map_or((module, 0), |import| (&import[..], 1)),
    };
    let end = path.len() - usize::from(path.len() > rest && path.ends_with(&["self".to_owned()]));
    base.iter().chain(&path[rest..end]).cloned().collect()
}

fn modules(src: &Path) -> Modules {
    let mut files = Vec::new();
    sources(src, &mut files);
    let words = |path: &Path| -> Words {
        path.components().map(|c| c.as_os_str().to_str().unwrap().to_owned()).collect()
    };
    let own = |file: &&PathBuf| !file.strip_prefix(src).unwrap().to_str().unwrap().contains("tests");
    let read = files.iter().filter(own).map(|file| {
        let inside = file.strip_prefix(src).unwrap().with_extension("");
        let module = if inside.ends_with("mod") { inside.parent().unwrap().to_owned() } else { inside };
        let own = src.join(&module);
        let home = if own.is_dir() { own } else { own.parent().unwrap().to_owned() };
        (words(&module), Module { home, text: fs::read_to_string(file).unwrap() })
    });
    read.collect()
}

/// The modules that a text names which stands in `module`, but itself.
fn used<'a>(modules: &'a Modules, module: &[String], text: &str) -> BTreeSet<&'a [String]> {
    let owner = |path: Words| {
        let mut names = (1..=path.len()).rev();
        names.find_map(|n| modules.get_key_value(&path[..n]).map(|(name, _)| name.as_slice()))
    };
    paths(module, text).into_iter().filter_map(owner).filter(|other| *other != module).collect()
}

fn uses(modules: &Modules) -> Uses<'_> {
    modules.iter().map(|(name, module)| (name.as_slice(), used(modules, name, &module.text))).collect()
}

/// Everything that can be reached from each module, itself only in a circle.
fn reach<'a>(uses: &Uses<'a>) -> Uses<'a> {
    let all = uses.keys().map(|name| {
        let (mut seen, mut todo) = (BTreeSet::new(), Vec::from_iter(uses[name].iter().copied()));
        while let Some(next) = todo.pop() {
            if seen.insert(next) {
                todo.extend(&uses[next]);
            }
        }
        (*name, seen)
    });
    all.collect()
}

fn shown(module: &[String]) -> String {
    module.join("::")
}

#[test]
fn no_circle_of_imports_leaves_its_directory() {
    let modules = modules(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"));
    let reach = reach(&uses(&modules));
    let mut circles = Vec::new();
    for (one, from) in &reach {
        for other in from {
            if one < other && reach[other].contains(one) && modules[*one].home != modules[*other].home {
                circles.push(format!("{} and {}", shown(one), shown(other)));
            }
        }
    }
    assert!(reach.len() > 50 && circles.is_empty(), "{circles:#?}");
}

/// Every import that would close a circle between two directories, tried in each form that it can have.
#[test]
fn every_import_that_makes_a_circle_is_found() {
    let modules = modules(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"));
    let reach = reach(&uses(&modules));
    let (mut tried, mut missed) = (0, Vec::new());
    let inside = |name: &&Words| name[0] == "firewall" && name.len() > 1;
    for (one, module) in modules.iter().filter(|(name, _)| inside(name)) {
        for other in modules.keys().filter(inside) {
            if module.home == modules[other].home || !reach[other.as_slice()].contains(one.as_slice()) {
                continue;
            }
            for import in forms(one, other) {
                tried += 1;
                let text = format!("{import}\n{}", module.text);
                if !used(&modules, one, &text).contains(other.as_slice()) {
                    missed.push(format!("in {}: {import}", shown(one)));
                }
            }
        }
    }
    assert!(tried > 1000 && missed.is_empty(), "{tried} tried: {missed:#?}");
}

/// How a module can import something of another one.
fn forms(one: &[String], other: &[String]) -> Vec<String> {
    let common = one.iter().zip(other).take_while(|(a, b)| a == b).count();
    let path = shown(other);
    let (parent, last) = (shown(&other[..other.len() - 1]), &other[other.len() - 1]);
    let from_here = "super::".repeat(one.len() - common);
    vec![
        format!("use crate::{path}::Thing;"),
        format!("use crate::{{base::net, {path}::{{self, Thing}}}};"),
        format!("use crate::{parent}::{{*, {last}::Thing}};"),
        format!("use {from_here}{};", shown(&other[common.min(other.len() - 1)..])),
        format!("use crate::{parent};\nfn f() {{ {}::{last}::thing() }}", other[other.len() - 2]),
        format!("use crate::{parent} as away;\nfn f() {{ away::{last}::thing() }}"),
        format!("use crate::{parent} as away;\nuse away::{{{last} as further}};"),
        format!("use crate::{parent}::*;\nfn f() -> {last}::Thing {{}}"),
        format!("fn f() {{ crate::{path}::thing(&mut 0) }}"),
    ]
}

#[test]
fn paths_are_found_however_they_are_written() {
    let module = ["a", "b"].map(str::to_owned);
    let cases = [
        ("use crate::x::y;", &["x::y"][..]),
        ("use super::{c, d::{self, E}};\nlet x = super::super::z();", &["a::c", "a::d", "a::d::E", "z"]),
        ("fn f() -> crate::x::Y<super::Z> {", &["x::Y", "a::Z"]),
        (
            "pub use c::{D, e};\nlet x = c::f(&mut e::G);",
            &["a::b::c::D", "a::b::c::e", "a::b::c::f", "a::b::c::e::G"],
        ),
        ("use crate::x;\nx::y::f();", &["x", "x::y::f"]),
        ("use crate::x as y;\ny::z::f();", &["x", "x::z::f"]),
        ("use super::{c as d, e};\nd::f(); e::g();", &["a::c", "a::e", "a::c::f", "a::e::g"]),
        ("use crate::x::{*, y};\nfn f() -> z::Z {}", &["x", "x::y", "a::b::z::Z", "x::z::Z"]),
        ("crate::x::y();\ny::z();", &["x::y", "a::b::y::z"]),
        ("// crate::no\npub(in crate::a) fn f() {}\npub(super) fn g() {}", &[]),
        ("use crate::x;\n#[cfg(test)]\nmod tests {\n    use crate::y;", &["x"]),
    ];
    for (text, want) in cases {
        let mut found: Vec<String> = paths(&module, text).iter().map(|path| shown(path)).collect();
        let mut want: Vec<String> = want.iter().map(|path| (*path).to_owned()).collect();
        found.sort();
        want.sort();
        assert_eq!(found, want, "{text}");
    }
}
