#![forbid(unsafe_code)]
//! Rules that are made of several texts.

use super::super::parts::merged;
use super::super::service::parse_parts;
use super::super::*;
use super::files::ConfigDir;
use std::collections::BTreeMap;

fn plain(mut rule: ServiceRule) -> ServiceRule {
    rule.path.clear();
    let all =
        rule.fail.iter_mut().map(|fail| &mut fail.text).chain(&mut rule.ignore).chain(&mut rule.success);
    all.for_each(|text| (text.line, text.col, text.part) = (0, 0, 0));
    rule
}

/// Lines that may stand in a rule: the section, the key and values.
const LINES: [(&str, &str, &[&str]); 21] = [
    ("rule", "enabled", &["auto", "false", "true"]),
    ("rule", "maxretry", &["1", "3", "99"]),
    ("rule", "findtime", &["1h", "600", "2d"]),
    ("rule", "bantime", &["1h", "permanent"]),
    ("rule", "source", &["auto", "file"]),
    ("rule", "programs", &["a", "a,b", "\"c\""]),
    ("rule", "files", &["/x", "/y,/z", "/w/*.log"]),
    ("rule", "ports", &["22", "80,443", "all"]),
    ("rule", "action", &["ban", "detect"]),
    ("rule", "proto", &["tcp", "udp,tcp"]),
    ("rule", "same_user", &["0", "5m"]),
    ("rule", "failregex", &["^a <HOST>$", "\"^b # <HOST>\"", "x <HOST>"]),
    ("rule", "failregex@3", &["^c <HOST>$", "^d <HOST>$"]),
    ("rule", "failregex[aggressive]@0", &["^e <HOST>$"]),
    ("rule", "ignoreregex", &["e", "f # comment", ""]),
    ("rule", "successregex", &["^g <HOST> (?P<user>\\S+)$"]),
    ("webscan", "windows", &["60", "60,300"]),
    ("webscan", "max_active_ips", &["100", "2048"]),
    ("thresholds", "rule_1_requests_min", &["10", "20"]),
    ("thresholds", "rule_2_requests_min", &["30"]),
    ("whitelist", "uri", &["/a", "/b,/c"]),
];

type Lines = Vec<(&'static str, &'static str, &'static str)>;

fn lines(random: &mut fastrand::Rng, count: usize) -> Lines {
    let one = |random: &mut fastrand::Rng| {
        let (section, key, values) = LINES[random.usize(..LINES.len())];
        (section, key, values[random.usize(..values.len())])
    };
    (0..count).map(|_| one(random)).collect()
}

/// As a file, sections in the order of their first line.
fn file(lines: &Lines) -> String {
    let mut text = String::new();
    for (section, key, value) in lines {
        text += &format!("[{section}]\n{key}={value}\n");
    }
    text
}

#[test]
fn an_overlay_is_the_same_as_the_text_with_its_keys_replaced() {
    let mut random = fastrand::Rng::with_seed(20);
    let mut good = 0;
    for round in 0..3000 {
        let mut base = lines(&mut random, round % 12);
        base.extend([
            ("rule", "failregex", "^z <HOST>$"),
            ("rule", "programs", "p"),
            ("rule", "files", "/f"),
        ]);
        let (overlay, local) = (lines(&mut random, round % 5), lines(&mut random, round % 3));
        let name =
            |line: &(&'static str, &'static str, &str)| (line.0, line.1.split(['@', '[']).next().unwrap());
        let adds = |line: &(&'static str, &'static str, &str)| name(line).1.ends_with("regex");
        // What a person would do with an editor.
        let replaced = |lines: Lines, by: &Lines, local: bool| -> Lines {
            let gone = |line: &_| by.iter().any(|new| name(new) == name(line) && !(local && adds(new)));
            lines.into_iter().filter(|line| !gone(line)).chain(by.iter().copied()).collect()
        };
        let by_hand = replaced(replaced(base.clone(), &overlay, false), &local, true);
        let want = parse_service("x", file(&by_hand).as_bytes()).0.map(plain);
        let texts = [file(&base), file(&overlay), file(&local)];
        let part = |at: usize, path| ConfigPart { path, text: texts[at].as_bytes(), adds: at == 2 };
        let parts = [part(0, "<built-in x>"), part(1, "/r/x.conf"), part(2, "/r/x.local")];
        let got = parse_parts("x", &[], &parts).0.map(plain);
        assert_eq!(got, want, "{texts:#?}\n{by_hand:#?}");
        // And what is shown of it is a rule that says the same.
        let shown = merged("x", "/etc/mef/mef.conf", &[], &parts);
        if want.is_some() {
            good += 1;
            let (again, reported) = parse_service("x", shown.as_bytes());
            assert_eq!(again.map(plain), want, "{shown}\n{reported:?}");
        }
    }
    assert!(good > 1000, "{good}");
}

#[test]
fn every_rule_that_ships_is_shown_as_it_is() {
    builtin(&mut |name, text| {
        let parts = [ConfigPart { path: "<built-in>", text: text.as_bytes(), adds: false }];
        let shown = merged(name, "mef.conf", &[], &parts);
        let (want, (got, reported)) =
            (parse_service(name, text.as_bytes()).0, parse_service(name, shown.as_bytes()));
        assert_eq!((got.map(plain), super::reported(&reported)), (want.map(plain), vec![]), "{shown}");
        true
    });
}

/// What of some rules is in force.
fn loaded(dir: &ConfigDir) -> (BTreeMap<String, ServiceRule>, Vec<String>) {
    let loaded = load(&dir.0.join("mef.conf"), &mut |_, _| {});
    let root = format!("{}/", dir.0.to_string_lossy());
    let reported = loaded.problems.iter().map(|p| p.shown.replace(&root, "")).collect();
    (loaded.rules.into_iter().map(|rule| (rule.name.clone(), rule)).collect(), reported)
}

fn conf(dir: &ConfigDir, lines: &str) {
    let rules = dir.0.join("rules.d");
    dir.put("mef.conf", &format!("[global]\nrules_dir={}\n{lines}", rules.to_string_lossy()));
}

#[test]
fn one_line_changes_a_number() {
    let dir = ConfigDir::new("overlay");
    let shipped = loaded(&dir).0.remove("sshd").unwrap();
    dir.put("rules.d/sshd.conf", "[rule]\nmaxretry=3\n");
    let (mut rules, reported) = loaded(&dir);
    assert_eq!(reported, [""; 0]);
    let sshd = rules.remove("sshd").unwrap();
    assert!(
        sshd.path.starts_with("<built-in sshd> + ") && sshd.path.ends_with("/rules.d/sshd.conf"),
        "{}",
        sshd.path
    );
    assert_eq!(plain(sshd), ServiceRule { maxretry: 3, ..plain(shipped.clone()) });
    // A local file is stronger, and its patterns are added.
    dir.put("rules.d/sshd.local", "[rule]\nmaxretry=4\nfailregex=^mine <HOST>$\n");
    let sshd = loaded(&dir).0.remove("sshd").unwrap();
    assert_eq!((sshd.maxretry, sshd.fail.len()), (4, shipped.fail.len() + 1));
    assert_eq!(sshd.fail.last().unwrap().text.text, "^mine <HOST>$");
    // Without a file it changes what ships.
    std::fs::remove_file(dir.0.join("rules.d/sshd.conf")).unwrap();
    assert_eq!(loaded(&dir).0["sshd"].fail.len(), shipped.fail.len() + 1);
    // A whole rule is what it says, and nothing else.
    dir.put("rules.d/sshd.conf", "[rule]\nprograms=sshd\nfailregex=^x <HOST>$\n");
    let sshd = loaded(&dir).0.remove("sshd").unwrap();
    assert_eq!((sshd.maxretry, sshd.fail.len(), sshd.findtime), (4, 2, 600));
    // So is a copy.
    let text = builtin_text("sshd").unwrap();
    std::fs::remove_file(dir.0.join("rules.d/sshd.local")).unwrap();
    dir.put("rules.d/sshd.conf", &text);
    assert_eq!(plain(loaded(&dir).0.remove("sshd").unwrap()), plain(shipped));
    // Patterns of an overlay take the place of those that ship.
    let ignored = builtin_text("webscan").map(|_| "[rule]\nignoreregex=^a\nignoreregex=^b\n");
    dir.put("rules.d/postfix.conf", ignored.unwrap());
    assert_eq!(loaded(&dir).0["postfix"].ignore.len(), 2);
}

#[test]
fn what_is_wrong_is_told_in_its_own_file() {
    let dir = ConfigDir::new("overlay-wrong");
    dir.put("rules.d/sshd.conf", "[rule]\nmaxretry=many\n");
    dir.put("rules.d/postfix.local", "[rule]\n\nfailregex=x\nbantme=1\n");
    dir.put("rules.d/nosuch.conf", "[rule]\nmaxretry=3\n");
    dir.put("rules.d/lonely.local", "[rule]\nmaxretry=3\n");
    let loaded = load(&dir.0.join("mef.conf"), &mut |rule, problems| {
        for text in rule.fail.iter().map(|fail| &fail.text).filter(|text| text.text == "x") {
            problems.push(text.problem(0..1, "no group".into(), String::new()));
        }
    });
    let reported: Vec<&str> =
        loaded.problems.iter().map(|p| p.shown.rsplit("/rules.d/").next().unwrap()).collect();
    let reported: Vec<&str> = reported.iter().filter_map(|text| text.lines().next()).collect();
    assert_eq!(
        reported,
        [
            "postfix.local:4:1: warning: unknown key 'bantme'",
            "postfix.local:3:11: no group",
            "sshd.conf:2:10: 'many' is not a whole number",
            "nosuch.conf: the rule can never match (it needs a failregex= in section [rule])",
            "nosuch.conf: nothing says where the lines come from (add programs= or files=)",
            "lonely.local: warning: it has no effect: no shipped rule and no .conf file beside it has this \
             name",
        ]
    );
    assert!(!loaded.rules.iter().any(|rule| ["sshd", "postfix", "nosuch"].contains(&rule.name.as_str())));
}

#[test]
fn defaults_hold_for_rules_that_say_nothing() {
    let dir = ConfigDir::new("defaults");
    dir.put("rules.d/mine.conf", "[rule]\nprograms=p\nfailregex=^x <HOST>$\nbantime=2h\n");
    conf(&dir, "[defaults]\nmaxretry=7\nbantime=1d\naction=detect\n");
    let (rules, reported) = loaded(&dir);
    assert_eq!(reported, [""; 0]);
    let mine = &rules["mine"];
    let span = crate::base::clock::Span::Secs(7200);
    assert_eq!((mine.maxretry, mine.bantime, mine.action, mine.findtime), (7, span, Action::Detect, 600));
    // What a rule that ships says stays, and its file can say otherwise.
    assert_eq!(rules["sshd"].findtime, 7200);
    let cases = [
        ("[defaults]\nmaxretry=0\n", "4:10: '0' is out of range"),
        ("[defaults]\nfiles=/x\n", "4:1: 'files' belongs to one rule"),
        ("[defaults]\nfailregex=x\n", "4:1: 'failregex' belongs to one rule"),
        ("[defaults]\nmaxrety=1\n", "4:1: warning: unknown key 'maxrety'"),
        ("maxretry=3\n", "3:1: 'maxretry' is a key of service rules"),
        ("failregex=3\n", "3:1: 'failregex' is a key of service rules"),
        ("bantime.increment=true\n", "3:1: warning: 'bantime.increment' is a key of another program"),
    ];
    for (lines, want) in cases {
        conf(&dir, lines);
        let reported = loaded(&dir).1;
        assert_eq!(reported.len(), 1, "{lines}: {reported:?}");
        assert!(reported[0].starts_with(&format!("mef.conf:{want}\n")), "{lines}: {}", reported[0]);
    }
}

#[test]
fn what_a_user_switched_off_stays_off() {
    let dir = ConfigDir::new("off");
    // By its name.
    dir.put("rules.d/sshd.conf", "[rule]\nenabled=false\n");
    assert_eq!(loaded(&dir).0["sshd"].enabled, Enabled::False);
    assert_eq!(loaded(&dir).0["sshd-keys"].enabled, Enabled::True);
    std::fs::remove_file(dir.0.join("rules.d/sshd.conf")).unwrap();
    // By what it is about.
    dir.put("rules.d/ssh-old.conf", "[rule]\nenabled=false\nprograms=sshd\nfailregex=^x <HOST>$\n");
    let (rules, reported) = loaded(&dir);
    assert_eq!((rules["sshd"].enabled, rules["sshd-keys"].enabled), (Enabled::False, Enabled::False));
    assert_ne!(rules["dropbear"].enabled, Enabled::False);
    assert!(reported.iter().all(|text| text.contains("warning: it is off, since ")), "{reported:?}");
    assert_eq!(reported.len(), 2, "{reported:?}");
    // One that is on switches nothing off, nor does one about something else.
    dir.put("rules.d/ssh-old.conf", "[rule]\nprograms=sshd\nfailregex=^x <HOST>$\n");
    assert_eq!(loaded(&dir).0["sshd"].enabled, Enabled::True);
    dir.put("rules.d/ssh-old.conf", "[rule]\nenabled=false\nprograms=other\nfailregex=^x <HOST>$\n");
    assert_eq!(loaded(&dir).0["sshd"].enabled, Enabled::True);
    // Who wants it says so.
    dir.put("rules.d/ssh-old.conf", "[rule]\nenabled=false\nprograms=sshd\nfailregex=^x <HOST>$\n");
    dir.put("rules.d/sshd.conf", "[rule]\nenabled=true\n");
    assert_eq!(loaded(&dir).0["sshd"].enabled, Enabled::True);
}

#[test]
fn a_mode_for_all_rules_makes_no_rule_an_error_and_switches_no_other_off() {
    let dir = ConfigDir::new("modes");
    conf(&dir, "[defaults]\nmode=strict\n");
    dir.put("rules.d/mine.conf", "[rule]\nprograms=sshd\nfailregex[normal]=^x <HOST>$\n");
    let (rules, reported) = loaded(&dir);
    assert_eq!(reported.len(), 1, "{reported:?}");
    assert!(reported[0].contains("warning: the rule is off"), "{reported:?}");
    assert!(rules["mine"].is_of_other_modes());
    for name in ["sshd", "sshd-keys"] {
        assert!(!rules[name].is_of_other_modes() && rules[name].enabled == Enabled::True, "{name}");
    }
    conf(&dir, "");
    let (rules, reported) = loaded(&dir);
    assert!(reported.is_empty() && !rules["mine"].is_of_other_modes(), "{reported:?}");
}

#[test]
fn words_of_other_programs_are_answered() {
    let reported = |text: &str| {
        let (_, problems) = parse_service("x", text.as_bytes());
        problems.iter().map(|p| format!("{} ({})", p.what, p.hint)).collect::<Vec<_>>().join("\n")
    };
    let rule = |line: &str| reported(&format!("[rule]\nprograms=p\nfailregex=^x <HOST>$\n{line}\n"));
    let cases = [
        ("logpath=/var/log/app.log", "it is files= here"),
        ("ignoreip=127.0.0.1/8", "whitelist_dir"),
        ("filter=app", "no counterpart"),
        ("backend=systemd", "source= here"),
        ("backend=nftables", "firewall_backend in mef.conf"),
        ("port=ssh", "ports= here"),
        ("bantime.increment=true", "bantime_increment="),
        ("            ^bad password from <HOST>$", "repeat failregex= before each"),
    ];
    for (line, want) in cases {
        assert!(rule(line).contains(want), "{line}: {}", rule(line));
    }
    assert!(reported("[Definition]\nfailregex=x\n").contains("fail2ban's [Definition] is [rule] here"));
    assert!(rule("files=/a /b").contains("comma"), "{}", rule("files=/a /b"));
}

#[test]
fn lines_of_files_add_up() {
    let rule =
        |lines: &str| parse_service("x", format!("[rule]\nfailregex=<HOST>\n{lines}").as_bytes()).0.unwrap();
    assert_eq!(rule("files=/a,/b\nfiles=/c\n").files, ["/a", "/b", "/c"]);
    assert_eq!(rule("files=/a\n").files, ["/a"]);
}
