//! The language of mef.rules by files: `NAME.rules` with what fmt prints (`.fmt`) and what check says
//! (`.said`). UPDATE_GOLDEN=1 writes them anew.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use crate::common;
mod random;

use mef::ruleset::ast::Statement;
use mef::ruleset::{Files, RuleSet, Trees, canonical, compile::compile, parse, words};
use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/ruleset/rules")
}

/// Compares with the file beside the case, or writes it.
fn same(case: &Path, ending: &str, text: &str) {
    let file = case.with_extension(ending);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(&file, text).unwrap();
    }
    assert_eq!(text, fs::read_to_string(&file).unwrap(), "{}", file.display());
}

fn cases() -> Vec<PathBuf> {
    let mut all: Vec<PathBuf> = fs::read_dir(directory()).unwrap().map(|e| e.unwrap().path()).collect();
    all.retain(|path| path.extension().is_some_and(|e| e == "rules"));
    all.sort();
    assert!(all.len() >= 3);
    all
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn check_says_what_is_wrong_at_its_place() {
    let net = common::Net::new();
    for case in cases() {
        let name = case.file_name().unwrap().to_str().unwrap();
        net.write(name, &fs::read_to_string(&case).unwrap());
        let path = net.path(name);
        let said = net.mef(&["check", path.to_str().unwrap()]).stdout;
        same(&case, "said", &said.replace(path.parent().unwrap().to_str().unwrap(), ""));
    }
}

fn is_wrong(case: &Path) -> bool {
    case.to_str().unwrap().ends_with("errors.rules")
}

#[test]
fn fmt_is_canonical_and_means_the_same() {
    for case in cases().into_iter().filter(|case| !is_wrong(case)) {
        let bytes = fs::read(&case).unwrap();
        let printed = canonical(&bytes).unwrap_or_else(|_| panic!("{}", case.display()));
        same(&case, "fmt", &printed);
        assert_eq!(canonical(printed.as_bytes()).unwrap(), printed, "idempotent");
        assert_eq!(compiled(&printed), compiled(&String::from_utf8(bytes).unwrap()));
    }
}

/// A line that has no error.
fn parsed(line: &str) -> (Statement, String) {
    let mut problems = Vec::new();
    let (statement, remark) = parse::line(line, 1, &mut problems);
    let said: Vec<&String> = problems.iter().map(|p| &p.what).collect();
    assert!(said.is_empty(), "{line}\n{said:?}");
    (statement.unwrap(), remark.to_owned())
}

#[test]
fn what_fmt_prints_is_what_was_read() {
    let mut rng = fastrand::Rng::with_seed(5);
    let mut keys: BTreeSet<&str> = BTreeSet::new();
    for _ in 0..5_000 {
        let written = random::Written::statement(&mut rng);
        let (read, remark) = parsed(&written.line);
        assert_eq!(remark, written.remark, "{}", written.line);
        if matches!(read, Statement::Rule(_)) {
            keys.extend(words::RULE.iter().filter(|key| written.line.contains(&[key, "="].concat())));
        }
        if let Statement::Rule(rule) = &read
            && !rule.dir.is_nat()
        {
            assert_eq!(rule.rare.log.as_deref(), written.prefix.as_deref(), "{}", written.line);
            assert_eq!(*rule.comment, *written.comment, "{}", written.line);
        }
        let printed = canonical(written.line.as_bytes()).unwrap();
        assert_eq!(parsed(printed.trim_end_matches('\n')), (read, remark), "{}", written.line);
        assert_eq!(canonical(printed.as_bytes()).unwrap(), printed, "{}", written.line);
    }
    assert_eq!(keys.len(), words::RULE.len(), "{keys:?}");
}

/// Texts in memory.
struct Texts<'a>(&'a [(&'a str, &'a str)]);

impl Files for Texts<'_> {
    fn read(&mut self, path: &str) -> io::Result<Vec<u8>> {
        if path == "/etc/passwd" {
            return Ok(b"nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n".to_vec());
        }
        let found = self.0.iter().find(|(name, _)| *name == path);
        found.map(|(_, text)| text.as_bytes().to_vec()).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn expand(&mut self, _: &str, pattern: &str) -> io::Result<Vec<String>> {
        let stem = pattern.strip_suffix('*');
        let fits = |name: &str| stem.map_or(name == pattern, |stem| name.starts_with(stem));
        let found: Vec<String> =
            self.0.iter().filter(|(n, _)| fits(n)).map(|(n, _)| (*n).to_owned()).collect();
        if found.is_empty() && stem.is_none() { Ok(vec![pattern.to_owned()]) } else { Ok(found) }
    }
}

/// Everything that a rule set is compiled to, as text.
#[derive(Default)]
struct Lines(String);

impl mef::plan::Sink for Lines {
    fn base(&mut self, direction: mef::plan::Direction, policy: mef::plan::Policy) {
        self.0 += &format!("{direction:?} {policy:?}\n");
    }
    fn set(&mut self, set: &mef::plan::Set) {
        self.0 += &format!("{set:?}\n");
    }
    fn buckets(&mut self, name: mef::base::name::Name, family: mef::base::range::Family, timeout: u32) {
        self.0 += &format!("buckets {name} {family:?} {timeout}\n");
    }
    fn chain(&mut self, name: mef::base::name::Name) {
        self.0 += &format!("chain {name}\n");
    }
    fn rule(&mut self, chain: mef::plan::Chain, rule: &mef::plan::Rule) {
        self.0 += &format!("{chain:?} {rule:?}\n");
    }
}

fn compiled(text: &str) -> String {
    let set = RuleSet::read("x", &mut Texts(&[("x", text)]), Trees::First);
    assert!(!set.failed(), "{:?}", set.problems);
    let mut lines = Lines::default();
    compile(&set, &[mef::base::name::IfName::new("wan0").unwrap()], &mut lines);
    lines.0
}

fn problems(texts: &[(&str, &str)]) -> Vec<String> {
    let set = RuleSet::read("main", &mut Texts(texts), Trees::First);
    let all = set.problems.iter();
    all.map(|(file, p)| format!("{}:{}: {}", set.files[usize::from(*file)].name, p.line, p.what)).collect()
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn the_shipped_rule_set_has_nothing_to_say_about() {
    let net = common::Net::new();
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("rootfs/etc/mef/mef.rules");
    let said = net.mef(&["check", shipped.to_str().unwrap()]);
    assert_eq!((said.status, said.stdout.as_str()), (0, "8 rules; 0 errors, 0 warnings\n"), "{said:?}");
    // Nor have those of the manual page.
    let manual = fs::read_to_string(
        Path::new(env!("CARGO_MANIFEST_DIR")).join("rootfs/usr/share/man/man5/mef.rules.5"),
    );
    let manual = manual.unwrap().replace("\\-", "-");
    let blocks: Vec<&str> = manual.split(".Bd -literal -offset indent\n").skip(1).collect();
    assert!(blocks.len() >= 3);
    for block in blocks {
        let text = block.split("\n.Ed").next().unwrap();
        assert!(canonical(text.as_bytes()).is_ok(), "{text}");
    }
}

#[test]
fn includes() {
    let rule = "rule dir=in action=accept proto=tcp dport=1\n";
    type Case<'a> = (&'a str, &'a [(&'a str, &'a str)], &'a [&'a str]);
    let cases: &[Case<'_>] = &[
        ("none match a glob", &[("main", "include file=d/*")], &[]),
        ("in order", &[("main", "include file=d/*"), ("d/a", rule), ("d/b", rule)], &[]),
        ("missing", &[("main", "\ninclude file=gone")], &["main:2: gone: entity not found"]),
        ("itself", &[("main", "include file=main")], &["main:1: main includes itself"]),
        (
            "in a circle",
            &[("main", "include file=a"), ("a", "include file=main")],
            &["a:1: main includes itself"],
        ),
        (
            "an error in it",
            &[("main", "include file=a"), ("a", "\nrule")],
            &["a:2: rule without dir", "a:2: rule without action", "a:2: rule without proto"],
        ),
        (
            "a set used before it is known",
            &[
                ("main", "rule dir=in action=accept proto=tcp dport=@p\ninclude file=a"),
                ("a", "set name=p family=any type=port elements=1"),
            ],
            &[],
        ),
    ];
    for (name, texts, want) in cases {
        assert_eq!(problems(texts), *want, "{name}");
    }
    let files: Vec<(String, String)> =
        (0..20).map(|i| (format!("f{i}"), format!("include file=f{}\n", i + 1))).collect();
    let mut texts: Vec<(&str, &str)> = files.iter().map(|(a, b)| (a.as_str(), b.as_str())).collect();
    texts.push(("main", "include file=f0"));
    assert_eq!(problems(&texts), ["f6:1: too many includes"]);
}

/// What stands in a file of its own is what it would be in the statement, in any order and however it
/// overlaps.
#[test]
fn sets_from_files_have_what_the_files_have() {
    let rule = "\nrule dir=in action=drop proto=tcp src=@s\n";
    let (mut rng, families) = (fastrand::Rng::with_seed(3), ["any", "ip", "ip6"]);
    for round in 0..300 {
        let family = families[round % 3];
        let mut items: Vec<String> = Vec::new();
        for _ in 0..rng.usize(1..12) {
            let (a, b) = (rng.u8(0..4), rng.u8(..));
            let v4 = [format!("10.0.{a}.{b}"), format!("10.0.{a}.0/26"), format!("10.0.{a}.7-10.0.{a}.99")];
            let v6 = [format!("2001:db8::{a}:{b}"), format!("2001:db8::{a}:0/112")];
            let is_v4 = if family == "any" { rng.bool() } else { family == "ip" };
            let of = if is_v4 { &v4[..] } else { &v6[..] };
            items.push(of[rng.usize(0..of.len())].clone());
        }
        let set = format!("set name=s family={family} type=addr");
        let inside = compiled(&format!("{set} elements={}{rule}", items.join(",")));
        let signs = [",", "\n", " # what it is\n", "\r\n", "\n\n\t", " "];
        let file: String = items.iter().map(|item| [item, signs[rng.usize(0..6)]].concat()).collect();
        let main = format!("{set} file=list{rule}");
        let read = RuleSet::read("x", &mut Texts(&[("x", &main), ("list", &file)]), Trees::First);
        assert!(!read.failed(), "{file}: {:?}", read.problems);
        let mut lines = Lines::default();
        compile(&read, &[], &mut lines);
        assert_eq!(lines.0, inside, "{file}");
        // What is kept for the next boot has them in it.
        assert_eq!(compiled(&read.whole_text()), inside, "{file}");
    }
    let main = "set name=s family=ip type=addr file=list\nrule dir=in action=drop proto=tcp src=@s\n";
    for (file, want) in [
        ("192.0.2.1\n192.0.2\n", "main:1: list:2: '192.0.2' is not an address or network"),
        ("192.0.2.1\n\n2001:db8::1", "main:1: list:3: 2001:db8::1 is not of family ip"),
    ] {
        assert_eq!(problems(&[("main", main), ("list", file)]), [want]);
    }
    assert!(problems(&[("main", main), ("list", "# nothing\n")]).is_empty());
    // What editors put before a text is no part of it, but there alone; and every wrong line is told, of many
    // the first ones.
    assert!(problems(&[("main", main), ("list", "\u{feff}192.0.2.1\r\n")]).is_empty());
    assert_eq!(problems(&[("main", main), ("list", "192.0.2.1\n\u{feff}192.0.2.2\n")]).len(), 1);
    assert_eq!(problems(&[("main", main), ("list", "a\n192.0.2.1\nb\n")]).len(), 2);
    assert_eq!(problems(&[("main", main), ("list", &"a\n".repeat(100))]).len(), 8);
    for (kind, rule) in [("addr", "proto=tcp src=@s"), ("port", "proto=tcp dport=@s")] {
        let main = format!("set name=s family=any type={kind} file=list\nrule dir=in action=drop {rule}\n");
        let read = RuleSet::read("x", &mut Texts(&[("x", &main), ("list", "# nothing\n")]), Trees::First);
        let mut lines = Lines::default();
        compile(&read, &[], &mut lines);
        let text = read.whole_text();
        assert!(text.contains(" elements=none\n"), "{text}");
        assert_eq!(compiled(&text), lines.0, "{text}");
        assert_eq!(canonical(text.as_bytes()).unwrap().matches("elements=none").count(), 1);
        // It stands alone.
        assert!(canonical(text.replace("=none", "=none,none").as_bytes()).is_err());
    }
}

#[test]
fn hostile_text_is_refused_and_never_more() {
    let good = fs::read_to_string(directory().join("everything.rules")).unwrap();
    let mut rng = fastrand::Rng::with_seed(11);
    for round in 0..20_000 {
        let mut bytes = good.lines().nth(rng.usize(0..good.lines().count())).unwrap().as_bytes().to_vec();
        for _ in 0..rng.usize(1..4) {
            let at = rng.usize(0..bytes.len().max(1));
            match rng.u8(0..4) {
                0 if at < bytes.len() => bytes[at] = rng.u8(..),
                1 if at < bytes.len() => drop(bytes.remove(at)),
                2 => bytes.insert(at.min(bytes.len()), b" =\",@!-/*#\\0:"[rng.usize(0..13)]),
                _ => bytes.truncate(at),
            }
        }
        if let Ok(printed) = canonical(&bytes) {
            let again = canonical(printed.as_bytes());
            assert_eq!(again.ok().as_deref(), Some(printed.as_str()), "{round}: {}", bytes.escape_ascii());
        }
    }
    assert!(canonical(b"\xff").is_err() && canonical(b"policy\0").is_err());
    assert_eq!(canonical(b"\xef\xbb\xbf# x\r\n").unwrap(), "# x\n");
    assert!(RuleSet::read("x", &mut Texts(&[("x", &"#".repeat(70_000))]), Trees::First).failed());
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn problems_without_end_are_cut_off() {
    let many = |line: &dyn Fn(usize) -> String| (0..10_000).map(line).collect::<String>();
    let rule = "rule dir=in action=accept proto=tcp";
    let undefined = many(&|i| format!("{rule} src=@s{i}\n"));
    let unused = many(&|i| format!("set name=s{i} family=any type=port elements=1\n"));
    let shadowed = many(&|_| format!("{rule} dport=1\n"));
    let net = common::Net::new();
    for (name, text, status) in
        [("undefined", undefined, 1), ("unused", unused, 0), ("shadowed", shadowed, 0)]
    {
        net.write("many.rules", &text);
        let out = net.mef(&["check", net.path("many.rules").to_str().unwrap()]);
        let kind = if status == 0 { "warning: " } else { "" };
        assert_eq!(out.status, status, "{name}");
        assert!(out.stdout.contains(&format!("{kind}too many problems")), "{name}: {}", out.stdout);
        assert!(out.stdout.lines().count() < 650, "{name}");
    }
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn a_pipe_by_name_is_refused_and_one_by_descriptor_read() {
    let net = common::Net::new();
    nix::unistd::mkfifo(&net.path("fifo.rules"), nix::sys::stat::Mode::S_IRUSR).unwrap();
    net.write("main.rules", "include file=fifo.rules\n");
    for name in ["fifo.rules", "main.rules"] {
        let said = net.mef(&["check", net.path(name).to_str().unwrap()]);
        assert!(said.status == 1 && said.stdout.contains("not a regular file"), "{said:?}");
    }
    let script =
        format!("exec {} load --check <(echo policy dir=in action=accept)", common::mef_binary().display());
    assert!(net.cmd("bash", &["-c", &script]).ok().contains("0 rules"), "read");
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn a_check_finds_what_is_too_long_to_be_kept() {
    let net = common::Net::new();
    let file = |name: &str, text: &str| {
        fs::write(net.path(name), text).unwrap();
        net.path(name).to_str().unwrap().to_owned()
    };
    let half = "# half of it\n".repeat((33 << 20) / 13);
    let (a, b) = (file("a.rules", &half), file("b.rules", &half));
    let rule = "rule dir=in action=accept proto=tcp dport=22\n";
    let one = file("one.rules", &format!("{rule}include file={a}\n"));
    let both = file("both.rules", &format!("{rule}include file={a}\ninclude file={b}\n"));
    net.mef(&["load", "--check", &one]).ok();
    net.mef(&["check", &one]).ok();
    let why = "the rules are 66 MB of text; 64 MB can be kept";
    let checked = net.mef(&["check", &both]);
    assert!(checked.status == 1 && checked.stdout.contains(why), "{checked:?}");
    for args in [&["load", "--check", &*both][..], &["load", &both]] {
        let out = net.mef(args);
        assert!(out.status == 1 && out.stderr.contains(why), "{args:?}: {}", out.stderr);
    }
    net.mef(&["load", &one]).ok();
}

/// The rule set that is loaded on each kernel (`make vm`): nothing of the language is missing in it, and it
/// comes back as it was said.
#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn the_rule_set_of_virtual_machines_says_everything() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vm/every.rules");
    let text = fs::read_to_string(file).unwrap();
    let said: BTreeSet<&str> = text.split([' ', '\n']).collect();
    let has = |start: &str| said.iter().any(|word| word.starts_with(start));
    // A set of ip_set is none of nftables.
    let keys = words::RULE.iter().chain(&words::SET).filter(|key| **key != "source");
    let keys = keys.map(|key| [key, "="].concat());
    let actions = words::ACTIONS.iter().chain(&["group:", "add:"]).map(|action| ["action=", action].concat());
    let directions = words::DIRECTIONS.iter().chain(&words::NAT_DIRECTIONS);
    let directions = directions.map(|direction| ["dir=", direction].concat());
    let statements = words::STATEMENTS.iter().map(|word| (*word).to_owned());
    for word in keys.chain(actions).chain(directions).chain(statements) {
        assert!(has(&word), "{word}");
    }
    let net = common::Net::new();
    net.ip("link add eth0 type veth peer name eth1");
    net.ip("addr add 192.0.2.1/24 dev eth0");
    net.ip("link set eth0 up");
    net.ip("route add default via 192.0.2.2");
    net.write("every.list", "20.9.8.0/24\n");
    // Not every kernel that tests run on has flowtables.
    let text: String = text.split_inclusive('\n').filter(|line| !line.contains("offload")).collect();
    let path = net.write("every.rules", &text);
    let path = path.to_str().unwrap();
    net.mef(&["load", path]).ok();
    assert_eq!(net.mef(&["diff", path]).ok(), "");
    let exported = net.mef(&["export"]).ok();
    let count = |text: &str, start: &str| text.lines().filter(|line| line.starts_with(start)).count();
    for start in ["rule ", "nat ", "group "] {
        assert_eq!(count(&exported, start), count(&text, start), "{exported}");
    }
    assert_eq!(count(&exported, "# cannot"), 0, "{exported}");
    net.write("exported.rules", &exported);
    net.mef(&["load", net.path("exported.rules").to_str().unwrap()]).ok();
    assert_eq!(net.mef(&["diff", path]).ok(), "");
}
