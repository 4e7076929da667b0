//! `mef migrate fail2ban` and `mef import-filter`, with the jails, filters and sample logs of Debian's
//! package and the program itself.

use crate::common;

use common::ns::private_dirs;
use common::{Net, wait_until};
use std::fs;
use std::path::Path;

const FILTERS: &str = "/etc/fail2ban/filter.d";
const SAMPLES: &str = "/usr/lib/python3/dist-packages/fail2ban/tests/files/logs";

/// A copy of the package's configuration, with a jail.local.
fn tree(net: &Net, local: &str) -> String {
    let root = net.path("root").display().to_string();
    net.cmd("sh", &["-ec", &format!("mkdir -p {root}/etc; cp -r /etc/fail2ban /etc/services {root}/etc/")])
        .ok();
    net.write("root/etc/fail2ban/jail.local", local);
    // Which jail that is differs from release to release.
    let _ = fs::remove_dir_all(net.path("root/etc/fail2ban/jail.d"));
    root
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn jails_are_changes_of_rules_and_what_ships_is_not_taken_over() {
    let net = Net::new();
    let local = "[DEFAULT]\nignoreip = 127.0.0.1/8 ::1 192.0.2.0/24\n    admin.example.org\nbantime = 1h\n\
        destemail = root@example.org\n\
        [sshd]\nenabled = true\nport = ssh,2222\nmaxretry = 3\nfindtime = 1d 12h\nmode = aggressive\n\
        [nginx-http-auth]\nenabled = true\nlogpath = /srv/log/error.log\n   /srv/log/other.log\n\
        [postfix]\nenabled = true\nbantime = -1\nmode = rbl\n[dovecot]\nenabled = false\nmaxretry = 1\n\
        [exim]\nenabled = true\nmode = aggressive\nfilter = exim[mode=normal]\n\
        [sendmail-reject]\nenabled = true\nmode = normal\nfilter = sendmail-reject[mode = \"aggressive\"]\n\
        [courier-auth]\nenabled = true\nmode = more\n\
        [recidive]\nenabled = true\n[nosuch]\nenabled = true\nport = 8080\n\
        [myapp]\nenabled = true\nlogpath = /var/log/myapp.log\nport = 8080\n";
    let root = tree(&net, local);
    net.write(
        "root/etc/fail2ban/filter.d/myapp.conf",
        "[INCLUDES]\nbefore = common.conf\n[Definition]\n_daemon = my(?:app|other)\n\
         failregex = ^%(__prefix_line)slogin of <F-USER>\\S+</F-USER> from <ADDR> failed$\n\
         \x20           ^%(__prefix_line)s(?!x)refused <HOST>$\nignoreregex = \n",
    );
    let out = net.mef(&["migrate", "fail2ban", "--root", &root, "--write"]).ok();
    let rule = |name: &str| net.read(&format!("root/etc/mef/rules.d/{name}"));
    assert_eq!(
        rule("sshd.local"),
        "# From fail2ban\n[rule]\nenabled=true\nmaxretry=3\nfindtime=36h\nbantime=1h\nports=22,2222\n\
         mode=aggressive\n"
    );
    assert_eq!(
        rule("nginx-auth.local"),
        "# From fail2ban\n[rule]\nenabled=true\nbantime=1h\nsource=file\n\
         files=/srv/log/error.log,/srv/log/other.log\n"
    );
    assert!(rule("postfix.local").ends_with("bantime=permanent\n"));
    // What a jail tells its filter decides, as in fail2ban.
    assert!(
        !rule("exim.local").contains("mode=") && rule("sendmail-abuse.local").contains("\nmode=aggressive\n")
    );
    assert!(!net.path("root/etc/mef/rules.d/dovecot.local").exists(), "a jail that is off");
    let own = rule("myapp.conf");
    assert!(own.contains("programs=myapp,myother\n") && own.contains("ports=8080\n"), "{own}");
    assert!(own.contains("failregex=^login of (?P<user>\\S+) from <HOST> failed$\n"), "{own}");
    assert_eq!(
        net.read("root/etc/mef/whitelist/fail2ban.conf"),
        "# ignoreip of fail2ban\n192.0.2.0/24\nadmin.example.org\n"
    );
    for note in [
        "jail recidive: each further ban",
        "jail nosuch: nothing of mef watches it: filter nosuch",
        "a pattern of filter myapp is left out: negative look-ahead is not supported",
        "[DEFAULT] destemail=root@example.org: programs that are told of bans: on_ban=",
        "bantime.increment is not set",
        "jail postfix: mode=rbl: mef rules postfix shows what counts here",
        "jail courier-auth: mode=more: mef rules courier shows what counts here",
    ] {
        assert!(out.contains(note), "{note}\n{out}");
    }
    let dir = format!("{root}/etc/mef/rules.d");
    let checked = net.mef(&[
        "rules",
        "--config",
        &net.write("m.conf", &format!("[global]\nrules_dir={dir}\n")).display().to_string(),
    ]);
    assert!(checked.stdout.contains("myapp"), "{}", checked.stderr);
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn bans_of_the_running_fail2ban_move_with_their_time() {
    let mut net = Net::new();
    let etc = net.path("etc").display().to_string();
    net.cmd("sh", &["-ec", &format!("cp -a /etc {etc}; rm -f {etc}/fail2ban/jail.d/*; mkdir -p {etc}/mef")])
        .ok();
    net.write("log/empty.log", "");
    // One jail that bans nothing by itself.
    net.write(
        "etc/fail2ban/jail.local",
        "[DEFAULT]\naction =\nbackend = polling\n[sshd]\nenabled = true\nport = 22,2222\nbantime = 2h\n\
         logpath = /var/log/empty.log\n",
    );
    net.write("run/fail2ban/x", "");
    net.write("lib/fail2ban/x", "");
    let mut command = net.command("fail2ban-server", &["-f", "start"]);
    private_dirs(&mut command, &net.dir);
    net.start("fail2ban-server", command);
    let client = |args: &[&str]| {
        let mut command = net.command("fail2ban-client", args);
        private_dirs(&mut command, &net.dir);
        net.run(command)
    };
    wait_until("its jail", || client(&["status", "sshd"]).status == 0);
    client(&["set", "sshd", "banip", "203.0.113.7", "2001:db8:7::1"]).ok();
    let json = net.mef(&["migrate", "fail2ban", "--json"]).ok();
    common::schema::assert_fits(&net, "migrate", &json);
    assert!(json.contains("{\"banned\":\"203.0.113.7\",\"left\":"), "{json}");
    let out = net.mef(&["migrate", "fail2ban", "--write"]).ok();
    assert!(out.contains("bans     2 in force"), "{out}");
    let bans = net.mef(&["bans"]).ok();
    let line = bans.lines().find(|line| line.contains("203.0.113.7")).unwrap_or_else(|| panic!("{bans}"));
    assert!(line.contains("22,2222"), "{bans}");
    assert!(bans.contains("2001:db8:7::"), "{bans}");
    let why = net.mef(&["why", "203.0.113.7"]).stdout;
    assert!(why.contains("from fail2ban, jail sshd"), "{why}");
}

/// What the filters of the package become; those that are refused, each with why.
fn import_all(net: &Net) -> (usize, Vec<String>) {
    let (mut passed, mut refused) = (0, Vec::new());
    let mut names: Vec<_> = fs::read_dir(FILTERS).unwrap().map(|entry| entry.unwrap().path()).collect();
    names.sort();
    for path in names.iter().filter(|path| path.extension().is_some_and(|end| end == "conf")) {
        let samples = Path::new(SAMPLES).join(path.file_stem().unwrap());
        if !samples.exists() {
            continue;
        }
        let (path, samples) = (path.display().to_string(), samples.display().to_string());
        let out = net.mef(&["import-filter", &path, &samples]);
        assert!(!out.stderr.contains("a hit for somebody else"), "{path}: {out:?}");
        if out.status == 0 {
            // Its samples are examples of the rule, and the rule is right by itself.
            let rule = net.write("imported.conf", &out.stdout).display().to_string();
            let tested = net.mef(&["test", "--self", &rule]);
            assert!(tested.status == 0 && out.stdout.contains("#+ "), "{path}: {tested:?}\n{}", out.stdout);
            passed += 1;
        } else {
            assert!(out.stdout.is_empty() && out.stderr.contains(": refused: "), "{path}: {out:?}");
            refused.push(out.stderr);
        }
    }
    (passed, refused)
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn sixty_filters_of_the_package_pass_all_their_samples_and_none_has_a_false_hit() {
    let net = Net::new();
    let (passed, refused) = import_all(&net);
    assert!(passed >= 60, "{passed} passed; refused:\n{}", refused.concat());
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn what_cannot_be_said_is_refused_by_its_name() {
    let net = Net::new();
    let refused = |text: &str| {
        let path = net.write("f.conf", text).display().to_string();
        let out = net.mef(&["import-filter", &path]);
        assert!(out.status == 1 && out.stdout.is_empty(), "{text}: {out:?}");
        out.stderr
    };
    let cases = [
        (
            "[Definition]\nfailregex = ^a <HOST>$\nmaxlines = 3\n",
            "maxlines: a pattern is about one line here",
        ),
        ("[Definition]\nfailregex = ^a (?!b)<HOST>$\n", "negative look-ahead is not supported"),
        ("[Definition]\nfailregex = ^(a)\\1 <HOST>$\n", "back references"),
        ("[Definition]\nfailregex = ^a <F-ID>\\S+</F-ID>$\n", "what is banned is no address"),
        ("[Definition]\nfailregex = ^a <HOST>$\nignoreregex = (?!x)y\n", "ignoreregex: negative look-ahead"),
        (
            "[Definition]\nprefregex = ^a <F-CONTENT>b.*</F-CONTENT>$\nfailregex = ^c <HOST>$\n",
            "prefregex whose <F-CONTENT> is",
        ),
        ("[Definition]\n", "it has no [Definition] with a failregex"),
        ("", "it has no [Definition] with a failregex"),
        ("\u{0}\u{1}\n[[[\n%(\n<<<>>>", "it has no [Definition] with a failregex"),
    ];
    for (text, want) in cases {
        let said = refused(text);
        assert!(said.contains(want), "{text}: {said}");
    }
    // One that fails its own sample.
    let samples =
        net.write("s", "# failJSON: { \"match\": true , \"host\": \"192.0.2.1\" }\nother 192.0.2.1\n");
    let filter = net.write("g.conf", "[Definition]\nfailregex = ^Jan 01 00:00:00 a <HOST>$\n");
    let out = net.mef(&["import-filter", &filter.display().to_string(), &samples.display().to_string()]);
    assert!(out.status == 1 && out.stderr.contains("its own sample is no hit: other 192.0.2.1"), "{out:?}");
}
