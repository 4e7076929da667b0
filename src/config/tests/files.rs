#![forbid(unsafe_code)]
use super::super::*;
use std::fs;
use std::io::Read;
use std::net::Ipv4Addr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

/// A directory of its own for each test, removed at its end.
pub(super) struct ConfigDir(pub(super) PathBuf);

impl ConfigDir {
    pub(super) fn new(name: &str) -> ConfigDir {
        let dir = std::env::temp_dir().join(format!("mef-config-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir_all(dir.join("rules.d")).unwrap();
        let dir = ConfigDir(dir);
        dir.put("mef.conf", &format!("[global]\nrules_dir={}\n", dir.0.join("rules.d").to_string_lossy()));
        dir
    }

    pub(super) fn put(&self, name: &str, text: &str) {
        let path = self.0.join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o644)).unwrap();
    }

    fn load(&self) -> (Vec<String>, Vec<String>) {
        let loaded = load(&self.0.join("mef.conf"), &mut |_, _| {});
        let rules = loaded.rules.iter().map(|r| format!("{}:{}", r.name, r.path.starts_with('<'))).collect();
        let root = format!("{}/", self.0.to_string_lossy());
        (rules, loaded.problems.iter().map(|p| p.shown.replace(&root, "")).collect())
    }
}

impl Drop for ConfigDir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

const RULE: &str = "[rule]\nprograms=p\nfailregex=x <HOST>\n";

#[test]
fn what_was_read_has_its_mark() {
    let dir = ConfigDir::new("mark");
    let mark = || load(&dir.0.join("mef.conf"), &mut |_, _| {}).mark;
    let mut marks = vec![mark()];
    // A rule, another threshold of it, what adds to it, what adds to one that ships, another name, a setting.
    for (name, text) in [
        ("rules.d/a.conf", [RULE, "maxretry=3\n"].concat()),
        ("rules.d/a.conf", [RULE, "maxretry=4\n"].concat()),
        ("rules.d/a.local", "[rule]\nmaxretry=5\n".to_owned()),
        ("rules.d/sshd.local", "[rule]\nmaxretry=6\n".to_owned()),
        ("rules.d/b.conf", [RULE, "maxretry=4\n"].concat()),
    ] {
        dir.put(name, &text);
        assert!(!marks.contains(&mark()), "{name}: {text}");
        marks.push(mark());
        assert_eq!(marks.last(), Some(&mark()), "nothing has changed");
    }
    fs::rename(dir.0.join("rules.d/b.conf"), dir.0.join("rules.d/c.conf")).unwrap();
    assert!(!marks.contains(&mark()), "the name is part of it");
    fs::rename(dir.0.join("rules.d/c.conf"), dir.0.join("rules.d/b.conf")).unwrap();
    assert_eq!(marks.last(), Some(&mark()));
}

#[test]
fn built_in_rules_are_good() {
    let mut count = 0;
    builtin(&mut |name, text| {
        let (rule, problems) = parse_service(name, text.as_bytes());
        assert_eq!(
            (rule.map(|r| r.name), super::reported(&problems)),
            (Some(name.to_string()), vec![]),
            "{name}"
        );
        assert!(examples(text).1.is_empty(), "{name}");
        count += 1;
        true
    });
    assert!(count > 60, "{count}");
}

/// Of what was loaded, the rules named here.
fn some(names: &[&str], (rules, reported): (Vec<String>, Vec<String>)) -> (Vec<String>, Vec<String>) {
    let named = |rule: &String| rule.split_once(':').is_some_and(|(name, _)| names.contains(&name));
    (rules.into_iter().filter(named).collect(), reported)
}

#[test]
fn a_directory_adds_to_the_built_in_rules_and_replaces_them_by_name() {
    let dir = ConfigDir::new("names");
    let load = || some(&["dropbear", "sshd", "sshd-keys", "zz-web"], dir.load());
    let builtin = ["dropbear:true", "sshd:true", "sshd-keys:true"];
    assert_eq!(load(), (builtin.map(String::from).to_vec(), vec![]));
    let all = dir.load().0.len();
    dir.put("rules.d/sshd.conf", &format!("{RULE}enabled=false\n"));
    dir.put("rules.d/web.conf", &format!("{RULE}name=zz-web\n"));
    for ignored in [".hidden.conf", "a.conf~", "b.conf.bak", "c.txt", "d.conf.dpkg-new"] {
        dir.put(&format!("rules.d/{ignored}"), "not a rule");
    }
    let want = ["dropbear:true", "sshd:false", "sshd-keys:true", "zz-web:false"];
    assert_eq!(load(), (want.map(String::from).to_vec(), vec![]));
    assert_eq!(dir.load().0.len(), all + 1);
    dir.put("rules.d/other.conf", &format!("{RULE}name=dropbear\n"));
    assert_eq!(load().0, ["dropbear:false", "sshd:false", "sshd-keys:true", "zz-web:false"]);
    dir.put("rules.d/a.conf", &format!("{RULE}name=dropbear\n"));
    let (_, reported) = dir.load();
    let want = "rules.d/other.conf: the name 'dropbear' is taken by rules.d/a.conf (give one of them another \
        name=)\n";
    assert_eq!(reported, [want]);
    fs::remove_dir_all(dir.0.join("rules.d")).unwrap();
    assert_eq!(load(), (builtin.map(String::from).to_vec(), vec![]));
}

/// A directory of rules that need not say that they are of engine=webscan; a name is taken once.
#[test]
fn files_of_webscan_dir_are_rules_about_access_logs() {
    let dir = ConfigDir::new("webscan");
    fs::create_dir(dir.0.join("scans")).unwrap();
    let at = |name: &str| dir.0.join(name).to_string_lossy().into_owned();
    dir.put("mef.conf", &format!("[global]\nrules_dir={}\nwebscan_dir={}\n", at("rules.d"), at("scans")));
    dir.put(
        "scans/httpd.conf",
        "[rule]\nenabled=false\nname=webscan\nfiles=/a\n[thresholds]\nrule_1_requests_min=9\n",
    );
    dir.put("scans/shop.conf", "[rule]\nenabled=true\nfiles=/b\n[thresholds]\nrule_1_requests_min=9\n");
    let loaded = load(&dir.0.join("mef.conf"), &mut |_, _| {});
    let of = |name: &str| loaded.rules.iter().find(|rule| rule.name == name).unwrap();
    assert_eq!(loaded.problems.iter().map(|p| p.shown.as_str()).collect::<Vec<_>>(), Vec::<&str>::new());
    assert_eq!(
        (of("webscan").enabled, of("webscan").path.as_str()),
        (Enabled::False, &*at("scans/httpd.conf"))
    );
    assert_eq!((of("shop").enabled, of("shop").engine), (Enabled::True, Engine::Webscan));
    // Where that directory comes from, a rule is off unless it says that it is on.
    dir.put("scans/shop.conf", "[rule]\nfiles=/b\n[thresholds]\nrule_1_requests_min=9\n");
    let reported = load(&dir.0.join("mef.conf"), &mut |_, _| {}).problems;
    let reported: Vec<&str> = reported.iter().map(|p| p.shown.as_str()).collect();
    assert!(
        matches!(reported.as_slice(), [one] if one.contains("no enabled=, so the rule is on")),
        "{reported:?}"
    );
    let by_name = |name: &str| rule_file(&load(&dir.0.join("mef.conf"), &mut |_, _| {}).settings, name);
    assert_eq!(by_name("shop"), dir.0.join("scans/shop.conf"));
    assert_eq!(by_name("webscan"), dir.0.join("scans/httpd.conf"), "it says so itself");
    assert_eq!(by_name("sshd"), dir.0.join("rules.d/sshd.conf"), "where it would be");
    let named = load_rule(loaded.settings, "shop", &mut |_, _| {});
    assert_eq!(named.rules.first().map(|rule| rule.engine), Some(Engine::Webscan));
    dir.put("rules.d/shop.conf", RULE);
    let (_, reported) = dir.load();
    assert!(
        reported.iter().any(|what| what.contains("the name 'shop' is taken by rules.d/shop.conf")),
        "{reported:?}"
    );
}

#[test]
fn a_broken_file_is_not_replaced_by_the_built_in_rule() {
    let dir = ConfigDir::new("broken");
    dir.put("rules.d/sshd.conf", "[rule]\nprograms=sshd\nfailregex=x\nmaxretry=many\n");
    dir.put("rules.d/b.conf", "[rule]\nprograms=p\nfailregex=x\naction=bann\n");
    let (rules, reported) = some(&["b", "dropbear", "sshd", "sshd-keys"], dir.load());
    assert_eq!(rules, ["dropbear:true", "sshd-keys:true"]);
    assert_eq!(
        reported,
        [
            "rules.d/b.conf:4:8: 'bann' is not allowed here\n    4 | action=bann\n      |        ^~~~ \
             expected one of: ban, detect (did you mean 'ban'?)\n",
            "rules.d/sshd.conf:4:10: 'many' is not a whole number\n    4 | maxretry=many\n      |          \
             ^~~~ expected a number from 1 to 100000\n",
        ]
    );
}

#[test]
fn the_caller_judges_patterns() {
    let dir = ConfigDir::new("check");
    dir.put("rules.d/p.conf", RULE);
    let mut seen = Vec::new();
    let loaded = load(&dir.0.join("mef.conf"), &mut |rule, problems| {
        seen.push(rule.name.clone());
        if rule.name == "p" {
            problems.push(rule.fail[0].text.problem(2..8, "no group".into(), "add one".into()));
        }
    });
    assert_eq!(seen[0], "p");
    assert!(seen.len() > 60 && seen.iter().any(|name| name == "sshd"), "{seen:?}");
    assert!(loaded.failed());
    let shown = &loaded.problems[0].shown;
    assert!(
        shown.ends_with(
            "p.conf:3:13: no group\n    3 | failregex=x <HOST>\n      |             ^~~~~~ add one\n"
        ),
        "{shown}"
    );
}

#[test]
fn files_that_cannot_be_read_are_told() {
    let dir = ConfigDir::new("unread");
    fs::create_dir(dir.0.join("rules.d/dir.conf")).unwrap();
    dir.put("rules.d/big.conf", &"#".repeat(2 << 20));
    let (_, reported) = dir.load();
    assert_eq!(
        reported,
        [
            "rules.d/big.conf: cannot be read: it is larger than 1 MiB\n",
            "rules.d/dir.conf: cannot be read: it is not a file\n"
        ]
    );
    let missing = load(&dir.0.join("none.conf"), &mut |_, _| {});
    assert!(missing.failed() && missing.problems[0].shown.ends_with("none.conf: no such file\n"));
    dir.put("rules.d/big.conf", RULE);
    fs::remove_dir(dir.0.join("rules.d/dir.conf")).unwrap();
    let open = fs::Permissions::from_mode(0o666);
    fs::set_permissions(dir.0.join("rules.d/big.conf"), open).unwrap();
    let reported = dir.load().1;
    assert_eq!(
        reported,
        ["rules.d/big.conf: warning: the file is writable by everybody (chmod 644, owner root)\n"]
    );
}

#[test]
fn a_name_that_is_not_text_is_told_and_a_missing_directory_is_empty() {
    use std::os::unix::ffi::OsStrExt as _;
    let dir = ConfigDir::new("bytes");
    assert!(conf_files(&dir.0.join("none")).is_ok_and(|names| names.is_empty()));
    fs::write(dir.0.join("rules.d").join(std::ffi::OsStr::from_bytes(b"\xff.conf")), RULE).unwrap();
    assert_eq!(dir.load().1, ["rules.d: cannot be read: the name of a file in it is not UTF-8\n"]);
}

#[test]
fn one_rule_by_name_or_path() {
    let dir = ConfigDir::new("one");
    dir.put("rules.d/p.conf", RULE);
    let one = |rule: &str| {
        let rules_dir = dir.0.join("rules.d").to_string_lossy().to_string();
        let loaded = load_rule(Settings { rules_dir, ..Settings::default() }, rule, &mut |_, _| {});
        (loaded.rules.first().map(|r| r.name.clone()), loaded.failed())
    };
    let path = dir.0.join("rules.d/p.conf").to_string_lossy().to_string();
    assert_eq!([one("p"), one(&path), one("sshd")], ["p", "p", "sshd"].map(|n| (Some(n.to_string()), false)));
    assert_eq!(one("nosuch"), (None, true));
}

fn list(text: &[u8]) -> (Vec<String>, Vec<String>, ListCounts) {
    let (mut nets, mut bad) = (Vec::new(), Vec::new());
    let counts = list_lines(ListKind::Deny, text, &mut |line| match line {
        ListLine::Entry(entry, _) => nets.push(entry.net.to_string()),
        ListLine::Host(..) => panic!("a host in a deny list"),
        ListLine::Bad(p, text) | ListLine::Foreign(p, text) => {
            bad.push(format!("{}:{}+{} {} [{text}]", p.line, p.col, p.len, p.what))
        }
    });
    (nets, bad, counts)
}

#[test]
fn lists() {
    let text = b"\xef\xbb\xbf# head\r\n192.0.2.10\r\n 203.0.113.7/24 ; office\n\n\
        198.51.100.0/255.255.255.0#x\n  host.example # no\n2001:db8::1\n1.2.3.4 5.6.7.8\n\xff\n0.0.0.0/0\n;\n\
        192.0.2.9";
    let (nets, bad, counts) = list(text);
    assert_eq!(
        nets,
        ["192.0.2.10/32", "203.0.113.0/24", "198.51.100.0/24", "2001:db8::1/128", "192.0.2.9/32"]
    );
    assert_eq!(
        bad,
        [
            "6:3+12 'host.example' is not an address or network [  host.example # no]",
            "8:9+7 '5.6.7.8' is not known after an address [1.2.3.4 5.6.7.8]",
            "9:1+1 bytes that are not UTF-8 [\u{fffd}]",
            "10:1+9 '0.0.0.0/0' is too large a part of the internet [0.0.0.0/0]",
        ]
    );
    assert_eq!((counts, counts.refused()), (ListCounts { good: 5, bad: 4, foreign: 0, cut: true }, false));
    let counts = |good, bad, foreign| ListCounts { good, bad, foreign, cut: false };
    assert!(counts(1, 2, 0).refused() && !counts(1, 1, 0).refused() && !counts(1, 0, 9).refused());
    assert_eq!(list(b"").2, ListCounts::default());
}

pub(super) fn word(kind: ListKind, line: &str) -> String {
    match list_word(kind, line.as_bytes()) {
        ListWord::Nothing => "nothing".to_owned(),
        ListWord::Entry(e) => {
            let until = e.until.map_or(String::new(), |at| format!(" until {}", at.0));
            format!("{}{until}{}", e.net, if e.force { " force" } else { "" })
        }
        ListWord::Several(all) => {
            let all: Vec<String> = all.iter().map(|e| e.net.to_string()).collect();
            all.join(" ")
        }
        ListWord::Host(name, _) => format!("host {name}"),
        ListWord::Foreign(bad) => format!("foreign {:?} {}", &line[bad.at], bad.what),
        ListWord::Bad(bad) => format!("{:?} {}", &line[bad.at], bad.what),
    }
}

#[test]
fn words_behind_an_address_and_what_is_too_wide() {
    let deny: &[(&str, &str)] = &[
        ("10.0.0.0/8", "10.0.0.0/8"),
        ("8.0.0.0/7", "\"8.0.0.0/7\" '8.0.0.0/7' is too large a part of the internet"),
        ("\t8.0.0.0/7  force # all of it", "8.0.0.0/7 force"),
        ("::/0 force", "::/0 force"),
        ("2000::/15", "\"2000::/15\" '2000::/15' is too large a part of the internet"),
        ("2000::/16", "2000::/16"),
        // What lists of bogons have, and what of the internet stands beside it.
        ("224.0.0.0/4", "224.0.0.0/4"),
        ("224.0.0.0/3", "224.0.0.0/3"),
        ("240.0.0.0/4", "240.0.0.0/4"),
        ("224.0.0.0-255.255.255.255", "224.0.0.0/3"),
        ("192.0.0.0/2", "\"192.0.0.0/2\" '192.0.0.0/2' is too large a part of the internet"),
        ("fc00::/7", "fc00::/7"),
        ("fe80::/10", "fe80::/10"),
        ("ff00::/8", "ff00::/8"),
        ("4000::/2", "4000::/2"),
        ("8000::/1", "8000::/1"),
        ("100::/8", "100::/8"),
        ("::/8", "\"::/8\" '::/8' is too large a part of the internet"),
        ("::/2", "\"::/2\" '::/2' is too large a part of the internet"),
        ("3000::/4", "\"3000::/4\" '3000::/4' is too large a part of the internet"),
        ("192.0.2.1 until=2026-11-25T21:00:00Z", "192.0.2.1/32 until 1795640400"),
        ("192.0.2.1 until=2026-11-25T21:00Z force", "192.0.2.1/32 until 1795640400 force"),
        ("192.0.2.1 until=tomorrow", "\"until=tomorrow\" 'until=tomorrow' is not known after an address"),
        ("192.0.2.1 forced", "\"forced\" 'forced' is not known after an address"),
        ("  host.example", "\"host.example\" 'host.example' is not an address or network"),
        ("192.0.2.1/24", "192.0.2.0/24"),
        ("::ffff:192.0.2.1", "192.0.2.1/32"),
        ("; 192.0.2.1", "nothing"),
    ];
    for (line, want) in deny {
        assert_eq!(word(ListKind::Deny, line), *want, "{line}");
    }
    let allow: &[(&str, &str)] = &[
        ("8.0.0.0/7", "8.0.0.0/7"),
        ("fc00::/7", "fc00::/7"),
        ("0.0.0.0/0", "\"0.0.0.0/0\" '0.0.0.0/0' is too large a part of the internet"),
        (" home.dyn-1.example. # me", "host home.dyn-1.example."),
        ("192.0.2", "\"192.0.2\" '192.0.2' is not an address or network"),
        ("a_b", "\"a_b\" 'a_b' is not an address or network"),
        ("-a.example", "\"-a.example\" '-a.example' is not an address or network"),
        ("a..b", "\"a..b\" 'a..b' is not an address or network"),
    ];
    for (line, want) in allow {
        assert_eq!(word(ListKind::Allow, line), *want, "{line}");
    }
}

/// The short way to read an address must not know anything that the long one does not.
#[test]
fn plain_addresses_are_read_as_the_library_does() {
    let mut random = fastrand::Rng::with_seed(8);
    for _ in 0..200_000 {
        let mut text: Vec<u8> = match random.bool() {
            true => format!("{}/{}", Ipv4Addr::from(random.u32(..)), random.u8(..36)).into_bytes(),
            false => Ipv4Addr::from(random.u32(..)).to_string().into_bytes(),
        };
        if random.bool() {
            let at = random.usize(..text.len());
            match random.u8(..3) {
                0 => text[at] = b"0123456789./"[random.usize(..12)],
                1 => drop(text.remove(at)),
                _ => text.insert(at, b"0123456789./"[random.usize(..12)]),
            }
        }
        let text = String::from_utf8(text).unwrap();
        let narrow =
            |net: &ipnet::IpNet| net.prefix_len() >= 8 || net.network() >= Ipv4Addr::new(224, 0, 0, 0);
        let want = net(&text).ok().filter(narrow);
        let got = match list_word(ListKind::Deny, text.as_bytes()) {
            ListWord::Entry(entry) => Some(entry.net),
            _ => None,
        };
        assert_eq!(got, want, "{text}");
    }
}

#[test]
fn long_lines_of_a_list_are_one_problem_and_reading_goes_on() {
    for len in [4096, 4097, 16_384, 16_385, 100_000] {
        let text = format!("192.0.2.1\n#{}\n192.0.2.2\n192.0.2.3", "x".repeat(len - 1));
        let (nets, bad, counts) = list(text.as_bytes());
        assert_eq!((nets.len(), counts.bad), (3, u32::from(len > 4096)), "{len}");
        assert!(bad.iter().all(|b| b.starts_with("2:1+1 a line of more than 4096 bytes")), "{len}: {bad:?}");
        let (nets, _, counts) = list(&text.as_bytes()[..text.len() - 20]);
        assert_eq!((nets.len(), counts.bad), (1, u32::from(len > 4096)), "{len}, cut off");
    }
}

/// Gives out small pieces, as a pipe would.
struct Pieces<'a>(&'a [u8], fastrand::Rng);

impl Read for Pieces<'_> {
    fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
        if self.1.u8(..8) == 0 {
            return Err(std::io::ErrorKind::Interrupted.into());
        }
        let n = self.1.usize(1..=40).min(buf.len()).min(self.0.len());
        buf[..n].copy_from_slice(&self.0[..n]);
        self.0 = &self.0[n..];
        Ok(n)
    }
}

#[test]
fn a_list_reads_the_same_in_any_pieces() {
    let mut random = fastrand::Rng::with_seed(3);
    for seed in 0..50 {
        let mut text = b"# what the first line has may refuse all of it\n".to_vec();
        for _ in 0..random.usize(..400) {
            match random.u8(..6) {
                0 => text.extend(format!("# {}", random.u64(..)).bytes()),
                1 => text.extend(std::iter::repeat_with(|| random.u8(..)).take(20)),
                2 => text.extend(vec![b'y'; if random.u8(..9) == 0 { 5000 } else { 9 }]),
                _ => text.extend(format!("{}", Ipv4Addr::from(random.u32(..))).bytes()),
            }
            text.push(b'\n');
        }
        let want = list(&text);
        let (mut nets, mut bad) = (0, 0);
        let mut pieces = Pieces(&text, fastrand::Rng::with_seed(seed));
        let counts = read_list(ListKind::Deny, &mut pieces, &mut |line| match line {
            ListLine::Entry(..) => nets += 1,
            ListLine::Host(..) | ListLine::Foreign(..) | ListLine::Bad(..) => bad += 1,
        });
        assert_eq!(counts.unwrap(), want.2, "seed {seed}");
        assert_eq!((nets, bad), (want.0.len(), want.1.len()), "seed {seed}");
    }
}
