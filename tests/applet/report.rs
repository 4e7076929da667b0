//! `mef report`: what it counts, from where, and how it looks: on terminals of three widths, as JSON, and
//! in a real browser.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use crate::common;

use common::bans::{Row, Value, number, rows, text};
use common::daemon::{LOG, fails, host, seconds};
use common::{Net, Output, wait_until};
use std::fmt::Write as _;
use std::fs;
use std::io::Read as _;
use std::os::fd::AsFd as _;
use std::os::unix::process::CommandExt as _;

const DAY: u64 = 86_400;

/// A report as JSON: its numbers, and each of its tables.
struct Counted(String);

impl Counted {
    fn of(out: &str) -> Counted {
        assert!(out.starts_with('{') && out.ends_with("}\n") && out.lines().count() == 1, "{out}");
        Counted(out.to_owned())
    }

    fn number(&self, key: &str) -> u64 {
        let (_, rest) =
            self.0.split_once(&format!("\"{key}\":")).unwrap_or_else(|| panic!("{key}: {}", self.0));
        rest.split([',', '}']).next().unwrap().parse().unwrap()
    }

    fn table(&self, key: &str) -> Vec<Row> {
        let (_, rest) =
            self.0.split_once(&format!("\"{key}\":[")).unwrap_or_else(|| panic!("{key}: {}", self.0));
        rows(&rest.split(']').next().unwrap().replace("},{", "}\n{"))
    }

    /// Names and numbers of a chart.
    fn chart(&self, key: &str, name: &str) -> Vec<(String, u64)> {
        self.table(key).iter().map(|row| (text(row, name), number(row, "bans").unwrap())).collect()
    }
}

fn report(net: &Net, args: &[&str]) -> Counted {
    let mut words = vec!["report", "--json"];
    words.extend(args);
    Counted::of(&net.mef(&words).ok())
}

fn stamp(at: u64) -> String {
    mef::base::utc::Stamp(mef::base::clock::Wall(at)).to_string()
}

/// A line of the ban log.
fn line(at: u64, addr: &str, rule: &str, more: &str) -> String {
    format!("{} ban {addr} rule={rule} hits=5 for=600 {more}\n", stamp(at))
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn the_journal_is_counted() {
    let net = host("ps_enabled=false", "maxretry=3");
    let none = net.mef(&["report"]);
    assert!(none.status == 0 && none.stdout.contains("          0 bans\n"), "{none:?}");
    assert!(!net.path("lib/mef/bans").exists(), "asking makes no journal");
    net.mef(&["ban", "192.0.2.1", "192.0.2.2", "--ports", "22,25"]).ok();
    // Only within one second a longer ban cannot be told from another one.
    std::thread::sleep(std::time::Duration::from_millis(1100));
    net.mef(&["ban", "192.0.2.1", "--ports", "22,25", "--for", "9h"]).ok();
    net.mef(&["ban", "2001:db8:1:2::/64", "2001:db8:1:3::/64", "--permanent"]).ok();
    net.mef(&["unban", "192.0.2.2"]).ok();
    net.mef(&["ban", "192.0.2.2", "--reason", "said \"ö\" \u{1b}[31m"]).ok();
    fs::create_dir_all(net.path("etc-mef/whitelist")).unwrap();
    net.write("etc-mef/whitelist/a.conf", "198.51.100.1\n198.51.100.2\n");
    let counted = report(&net, &[]);
    let facts = ["bans", "permanent", "scans", "addresses", "repeated", "unbans", "in_force", "dropped"];
    // A ban that was made longer is one ban.
    assert_eq!(facts.map(|key| counted.number(key)), [5, 2, 0, 4, 1, 1, 4, 0], "{}", counted.0);
    let lists = ["allow_lists", "allowed", "deny_lists", "denied"];
    assert_eq!(lists.map(|key| counted.number(key)), [1, 2, 0, 0]);
    assert_eq!(counted.chart("rules", "rule"), [("manual".into(), 5)]);
    assert_eq!(
        counted.chart("networks", "network"),
        [("192.0.2.0/24".into(), 3), ("2001:db8:1::/48".into(), 2)]
    );
    let mut ports = counted.chart("ports", "port");
    ports.sort();
    assert_eq!(ports, [("22".into(), 2), ("25".into(), 2), ("all".into(), 3)]);
    let days = counted.chart("days", "day");
    assert_eq!((days.len(), days.last().unwrap().1), (8, 5));
    assert_eq!(counted.table("hours").len(), 24);
    let top = &counted.table("sources")[0];
    assert_eq!((text(top, "address").as_str(), number(top, "bans")), ("192.0.2.2", Some(2)));
    assert_eq!((text(top, "rules").as_str(), text(top, "ports").len()), ("manual:2", "22,25,all".len()));
    let newest = &counted.table("newest")[0];
    let keys: Vec<&str> = newest.keys().map(String::as_str).collect();
    assert_eq!(keys, ["address", "for", "line", "ports", "rule", "time"]);
    assert_eq!((text(newest, "for").as_str(), text(newest, "ports").as_str()), ("1h", "all"));
    assert_eq!(text(newest, "line"), "said \"ö\" \u{1b}[31m");
    let people = net.mef(&["report"]).ok();
    // Whoever was banned once does not repeat anything.
    let repeats = people.split("\nRepeat offenders\n").nth(1).unwrap().split("\n\n").next().unwrap();
    assert!(repeats.lines().count() == 2 && repeats.contains("\n  192.0.2.2 "), "{people}");
    assert!(people.contains("\\x1b[31m") && !people.contains('\u{1b}'), "{people}");
    // What was before the time is not counted.
    assert_eq!(report(&net, &["--scope", "boot", "--since", "9999d"]).number("bans"), 5);
    assert_eq!(report(&net, &["--since", "now", "--log", "/dev/null"]).number("bans"), 0);
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn the_ban_log_tells_what_the_journal_does_not_rotated_and_packed() {
    let net = Net::new();
    let log = net.path("mef.log");
    net.configure(&format!("ban_log_path={}", log.display()), &[]);
    let config = net.path("mef.conf").display().to_string();
    net.mef(&["ban", "192.0.2.1", "--config", &config]).ok();
    let now = seconds();
    // What the journal has is counted once.
    let mut newest = line(now, "192.0.2.1", "manual", "ports=all");
    newest += &line(now - 3600, "203.0.113.9", "portscan", "ports=all seen=23,3389");
    newest += &line(now - DAY, "192.0.2.2", "sshd", "ports=22");
    newest += &line(now - 9 * DAY, "192.0.2.2", "sshd", "ports=22");
    newest += "what is this?\n";
    net.write("mef.log", &newest);
    net.write("mef.log.1", &line(now - 2 * DAY, "192.0.2.2", "sshd", "ports=22"));
    let theirs = format!(
        "{} RULE=SSHD | SOURCE=JOURNAL | BAN | ip=192.0.2.3 | bantime=1h | action=ban | msg=\"x\"\n",
        stamp(now - 3 * DAY)
    );
    for (name, program, text) in [
        ("mef.log.2", "gzip", line(now - 3 * DAY, "192.0.2.2", "sshd", "ports=22")),
        ("mef.log-20260101", "zstd", theirs),
        ("mef.log.4", "xz", line(now - 4 * DAY, "192.0.2.4", "web", "ports=80,443/tcp")),
        ("mef.log.5", "bzip2", line(now - 4 * DAY, "192.0.2.4", "web", "ports=80,443/tcp")),
    ] {
        let path = net.write(name, &text);
        net.cmd(program, &["-q", path.to_str().unwrap()]).ok();
        let _ = fs::remove_file(path);
    }
    net.write("mef.log.bak", &line(now, "192.0.2.99", "sshd", "ports=22"));
    // Something of many blocks.
    let many: String = (0..9000).map(|n| line(now - 5 * DAY - n, "192.0.2.5", "web", "ports=80")).collect();
    let path = net.write("mef.log.6", &many);
    net.cmd("zstd", &["-q", "--rm", path.to_str().unwrap()]).ok();
    let counted = report(&net, &["--config", &config]);
    assert_eq!(
        counted.chart("rules", "rule"),
        [("web".into(), 9002), ("sshd".into(), 4), ("manual".into(), 1), ("portscan".into(), 1)]
    );
    assert_eq!((counted.number("scans"), counted.number("bans")), (1, 9008));
    let ports = counted.chart("ports", "port");
    assert!(ports.contains(&("3389".into(), 1)) && ports.contains(&("80".into(), 9002)), "{ports:?}");
    let all = report(&net, &["--config", &config, "--scope", "lifetime"]);
    assert_eq!(all.number("bans"), 9009);
    let day = report(&net, &["--config", &config, "--since", "25h"]);
    assert_eq!(day.number("bans"), 3);
    // A log by name is counted alone.
    let alone = report(&net, &["--config", &config, "--log", net.path("mef.log.1").to_str().unwrap()]);
    assert_eq!(alone.chart("rules", "rule"), [("sshd".into(), 1)]);
    // What cannot be read is told, and the rest is counted.
    for (name, bytes) in [("mef.log.7.gz", &b"no gzip"[..]), ("mef.log.8.zst", b"no zstd")] {
        fs::write(net.path(name), bytes).unwrap();
        let people = net.mef(&["report", "--config", &config]).ok();
        assert!(people.contains(&format!("{name}: ")) && people.contains("9008 bans"), "{people}");
        fs::remove_file(net.path(name)).unwrap();
    }
    for missing in ["/nowhere/mef.log", "/nowhere"] {
        assert_eq!(net.mef(&["report", "--log", missing]).status, 1);
    }
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn scopes_of_the_daemon_and_wrong_words() {
    let mut net = host("ps_enabled=false", "maxretry=3");
    net.append(LOG, "");
    let config = net.path("mef.conf").display().to_string();
    let none = net.mef(&["report", "--scope", "daemon", "--config", &config]);
    assert!(none.status == 1 && none.stderr.contains("no daemon runs"), "{none:?}");
    net.daemon("daemon");
    net.append(LOG, fails("203.0.113.1", 3));
    wait_until("the ban", || net.banned().contains(&"203.0.113.1".to_owned()));
    net.mark(LOG);
    let counted = report(&net, &["--scope", "daemon", "--config", &config]);
    let rules = counted.chart("rules", "rule");
    assert!(rules.contains(&("app".into(), 1)), "{rules:?}");
    for wrong in [
        vec!["--scope", "week"],
        vec!["--since", "soon"],
        vec!["--top-ports", "0"],
        vec!["--top-sources", "100000"],
        vec!["--json", "--html", "x.html"],
    ] {
        let args: Vec<&str> = std::iter::once("report").chain(wrong).collect();
        assert_eq!(net.mef(&args).status, 2, "{args:?}");
    }
}

/// A log of the days before today, and what stands for each day in a golden text.
fn sample() -> (String, Vec<(String, String)>) {
    let today = seconds() / DAY;
    let mut log = String::new();
    for (back, bans) in [(6, 3), (5, 1), (3, 8), (2, 2), (1, 5)] {
        for n in 0..bans {
            let at = (today - back) * DAY + (n * 3 + back) * 3600 + 60;
            let addr = format!("192.0.2.{}", n % 4 + 1);
            log += &line(
                at,
                &addr,
                if n % 3 == 2 { "postfix" } else { "sshd" },
                &format!("ports=22,{}", 1000 + n),
            );
        }
        let reason = "ports=all reason=Failed password for <b>invalid user</b> \u{202e}admin from \
             2001:db8:1:2::9 port 4711";
        log += &line((today - back) * DAY + 7, "2001:db8:1:2::/64", "dovecot", reason);
    }
    let days = (0..8).map(|n| (stamp((today - n) * DAY)[..10].to_owned(), format!("day -{n}    ")));
    (log, days.collect())
}

/// What is shown on a terminal that is so wide, or without one.
fn shown(net: &Net, columns: Option<u16>, args: &[&str]) -> String {
    let mut command = net.mef_command(args);
    command.env("TZ", "UTC");
    let Some(ws_col) = columns else { return net.run(command).ok() };
    let size = nix::pty::Winsize { ws_row: 24, ws_col, ws_xpixel: 0, ws_ypixel: 0 };
    let pty = nix::pty::openpty(Some(&size), None).unwrap();
    command.stdout(pty.slave.as_fd().try_clone_to_owned().unwrap());
    let mut child = command.spawn().unwrap();
    drop((command, pty.slave));
    let (mut text, mut master) = (Vec::new(), fs::File::from(pty.master));
    // The end of a terminal is an error.
    let _ = master.read_to_end(&mut text);
    assert!(child.wait().unwrap().success());
    String::from_utf8(text).unwrap().replace("\r\n", "\n")
}

/// The sample's report, without what depends on the day.
fn golden(columns: Option<u16>) -> String {
    let net = Net::new();
    loop {
        let (log, days) = sample();
        let path = net.write("ban.log", &log);
        let mut text = shown(&net, columns, &["report", "--log", path.to_str().unwrap()]);
        if sample().1 != days {
            continue;
        }
        assert!(text.starts_with("From "), "{text}");
        for (day, name) in days {
            text = text.replace(&day, &name);
        }
        return text.split_once('\n').unwrap().1.to_owned();
    }
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn golden_texts() {
    for (columns, name, most) in
        [(Some(60), "60", 60), (Some(80), "80", 80), (Some(200), "200", 200), (None, "none", usize::MAX)]
    {
        let text = golden(columns);
        assert!(text.lines().all(|line| line.chars().count() <= most), "{text}");
        let file = format!("{}/tests/applet/report/{name}.txt", env!("CARGO_MANIFEST_DIR"));
        if std::env::var_os("MEF_GOLDEN").is_some() {
            fs::write(&file, &text).unwrap();
        }
        assert_eq!(text, fs::read_to_string(&file).unwrap(), "{name}");
    }
}

/// Finds text that is cut off, in a page that is looked at.
const PROBE: &str = r"<script>
const cut = [];
for (const e of document.querySelectorAll('body, body *'))
    if (e.scrollWidth > e.clientWidth + 1 && e.clientWidth > 0) cut.push(e.tagName + e.scrollWidth);
for (const t of document.querySelectorAll('svg text')) {
    const b = t.getBBox(), v = t.ownerSVGElement.viewBox.baseVal;
    if (b.x < -1 || b.y < -1 || b.x + b.width > v.width + 1 || b.y + b.height > v.height + 1)
        cut.push(t.textContent);
}
const s = document.querySelectorAll('svg').length, r = document.querySelectorAll('td').length;
document.title = 'seen ' + s + ' ' + r + ' cut ' + cut.join(' ') + ' end';
</script></body>";

/// Opens a page in a browser.
fn browse(net: &Net, page: &str, more: &[&str]) -> Output {
    let profile = format!("--user-data-dir={}", net.path("profile").display());
    let mut args = vec![
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--hide-scrollbars",
        "--enable-logging=stderr",
        &profile,
    ];
    let page = format!("file://{}", net.path(page).display());
    args.extend(more);
    args.push(&page);
    let out = net.cmd("chromium", &args);
    assert_eq!(out.status, 0, "{out:?}");
    assert!(!out.stderr.contains("CONSOLE"), "{}", out.stderr);
    out
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn the_page_is_whole_in_a_browser_in_light_and_dark() {
    let net = Net::new();
    let mut log = sample().0;
    let now = seconds();
    let evil = "<script>document.title='run'</script><img src=http://192.0.2.1/x onerror=alert(1)>";
    log += &line(now - 60, "192.0.2.77", "sshd", &format!("ports=22 reason={evil}{}", "x".repeat(300)));
    for n in 0..2000 {
        let _ =
            write!(log, "{}", line(now - n * 431, &format!("198.51.100.{}", n % 256), "web", "ports=80,443"));
    }
    let path = net.write("ban.log", &log);
    let file = net.path("report.html");
    let [path, to] = [&path, &file].map(|path| path.to_str().unwrap());
    for since in ["24h", "7d", "60d"] {
        let out = net.mef(&["report", "--log", path, "--since", since, "--html", to]);
        assert_eq!((out.status, out.stderr), (0, format!("mef: written to {to}\n")));
        let page = fs::read_to_string(&file).unwrap();
        assert!(
            page.contains("&lt;script&gt;") && !page.contains("<script") && !page.contains("<img"),
            "{page}"
        );
        assert!(page.len() < 65_536, "{}", page.len());
        // Without the policy of the page, by which nothing would run.
        let start = page.find("<meta http-equiv").unwrap();
        let end = start + page[start..].find('\n').unwrap();
        let looked_at = [&page[..start], &page[end..].replace("</body>", PROBE)].concat();
        net.write("probe.html", &looked_at);
        for size in ["--window-size=1200,900", "--window-size=700,900", "--window-size=500,900"] {
            let dom = browse(&net, "probe.html", &[size, "--dump-dom"]).stdout;
            let title = dom.split("<title>").nth(1).unwrap().split("</title>").next().unwrap();
            assert!(title.starts_with("seen ") && title.ends_with(" cut  end"), "{since} {size}: {title}");
        }
    }
    let mut pictures = ["0", "1"].map(|scheme| {
        let shot = net.path("shot.png").display().to_string();
        let (scheme, shot) =
            (format!("--blink-settings=preferredColorScheme={scheme}"), format!("--screenshot={shot}"));
        browse(&net, "report.html", &["--window-size=1000,2600", &scheme, &shot]);
        fs::read(net.path("shot.png")).unwrap()
    });
    pictures.sort();
    assert!(
        pictures[0] != pictures[1] && pictures.iter().all(|png| png.len() > 20_000),
        "blank, or not dark"
    );
}

/// Runs `mefctl` with words separated by blanks.
fn mefctl(net: &Net, words: &str) -> Output {
    let mut command = net.mef_command(&words.split_whitespace().collect::<Vec<_>>());
    command.arg0("/usr/local/sbin/mefctl");
    net.run(command)
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn stats_is_the_existing_products_word_for_it() {
    let net = Net::new();
    let now = seconds();
    let mut log = line(now - 3600, "192.0.2.1", "sshd", "ports=22");
    log += &line(now - 2 * DAY, "192.0.2.2", "sshd", "ports=22");
    log += &line(now - 13 * DAY, "192.0.2.3", "portscan", "ports=all seen=1,2,3");
    log += &line(now - 20 * DAY, "192.0.2.4", "web", "ports=80");
    let log = net.write("ban.log", &log);
    let log = log.to_str().unwrap();
    let counted = |words: &str| {
        Counted::of(&mefctl(&net, &format!("stats --format json --log-path {log} {words}")).ok())
    };
    assert_eq!(counted("").number("bans"), 1, "a day is the default");
    assert_eq!(counted("--window 7d").number("bans"), 2);
    assert_eq!(counted("--window=14d").number("bans"), 3);
    assert_eq!(counted("--scope lifetime").number("bans"), 4);
    assert_eq!(counted("--scope lifetime -window 72h").number("bans"), 2);
    let few = counted("--scope lifetime --top-ports 2 --top-sources 1");
    assert_eq!((few.table("ports").len(), few.table("sources").len()), (2, 1));
    assert_eq!(few.table("sources")[0]["rules"], Value::Text("sshd:1".into()));
    let people = mefctl(&net, &format!("stats --log-path {log} --window 14d")).ok();
    for title in ["By rule", "By port", "Last bans"] {
        assert!(people.contains(&format!("\n{title}\n")), "{title}\n{people}");
    }
    assert!(!people.contains("Repeat offenders"), "everybody came once: {people}");
    for wrong in
        ["--window 15d", "--window soon", "--format xml", "--scope year", "--top-ports x", "more", "--what"]
    {
        assert_eq!(mefctl(&net, &format!("stats {wrong}")).status, 2, "{wrong}");
    }
    assert_eq!(mefctl(&net, "stats --log-path /nowhere/x").status, 1);
    // In its place, and when there is nothing yet.
    let nothing = mefctl(&net, "stats").ok();
    assert!(nothing.contains(" 0 bans\n"), "{nothing}");
}
