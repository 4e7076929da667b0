//! Scanners of web sites: a real nginx, a real scanner, and those who must be left alone.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use crate::common;

use common::bans::text;
use common::daemon::seconds;
use common::{Net, Peer, wait_until};
use std::fmt::Write as _;
use std::net::{IpAddr, TcpStream};

const LOG: &str = "access.log";
const BROWSER: &str = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0";

/// A host with the rule as it ships, but on our log, and these settings.
fn host(settings: &str, lines: &str) -> Net {
    let net = Net::new();
    net.configure(
        &format!("ban_log_enabled=true\nban_log_path={}\n{settings}", net.path("mef.log").display()),
        &[LOG],
    );
    shipped(&net, lines);
    net.append(LOG, "");
    net
}

fn conf(net: &Net) -> String {
    net.path("mef.conf").display().to_string()
}

fn shipped(net: &Net, lines: &str) {
    let shipped = include_str!("../../rootfs/etc/mef/rules.d/webscan.conf");
    let files = format!("files={}\n{lines}", net.path(LOG).display());
    let text: Vec<&str> =
        shipped.lines().map(|l| if l.starts_with("files=") { files.as_str() } else { l }).collect();
    net.write("rules.d/webscan.conf", &text.join("\n"));
}

/// Starts nginx on a site of 2,000 pages that link to each other, in which 25 links are dead, and a page with
/// 80 parts.
fn site(net: &mut Net) {
    for i in 0..2000 {
        let links: String = (i * 3 + 1..=i * 3 + 3)
            .filter(|n| *n < 2000)
            .map(|n| format!("<a href=\"/p/{n}.html\">{n}</a> "))
            .collect();
        let dead = if i % 80 == 0 { format!("<a href=\"/gone/{i}.html\">x</a>") } else { String::new() };
        net.write(&format!("www/p/{i}.html"), &format!("<html><body>{links}{dead}</body></html>"));
    }
    net.write("www/index.html", "<html><body><a href=\"/p/0.html\">all</a></body></html>");
    net.write("www/feed.xml", "<rss/>");
    for i in 0..80 {
        net.write(&format!("www/a/{i}.js"), "x");
    }
    let dir = net.dir.display();
    let conf = format!(
        "daemon off;\nuser root;\nworker_processes 1;\npid {dir}/nginx.pid;\nerror_log {dir}/nginx.err;\n\
         events {{}}\n\
         http {{\n access_log {dir}/{LOG} combined;\n client_body_temp_path {dir}/b;\n proxy_temp_path \
         {dir}/x;\n\
         fastcgi_temp_path {dir}/f;\n uwsgi_temp_path {dir}/u;\n scgi_temp_path {dir}/s;\n types {{ \
         text/html html; }}\n\
         server {{ listen 80; listen [::]:80; root {dir}/www; if_modified_since before; }}\n}}\n"
    );
    let conf = net.write("nginx.conf", &conf);
    // With whoever ends the first process of this namespace, nginx's workers end too.
    let command = net.command(
        "unshare",
        &["--pid", "--fork", "--kill-child", "nginx", "-e", "stderr", "-c", conf.to_str().unwrap()],
    );
    net.start("nginx", command);
    wait_until("nginx", || TcpStream::connect(("127.0.0.1", 80)).is_ok());
}

/// Gives a neighbour one more address on its link.
fn address(net: &Net, peer: &Peer, last: u8) -> String {
    let [a, b, c, _] = peer.v4.octets();
    let addr = format!("{a}.{b}.{c}.{last}");
    net.within(&peer.ns, |net| net.ip(&format!("addr add {addr}/24 dev {}", peer.link)));
    addr
}

/// Has wget ask for paths, from an address.
fn wget(net: &Net, peer: &Peer, from: &str, args: &[&str], paths: &[String]) {
    let base = format!("http://{}", peer.host4);
    let list: String = paths.iter().map(|path| format!("{base}{path}\n")).collect();
    let list = net.write(&format!("list-{from}"), &list);
    let mut all =
        vec!["-q", "--tries=1", "--timeout=10", "--bind-address", from, "-i", list.to_str().unwrap()];
    all.extend(args);
    let out = net.within(&peer.ns, |net| net.cmd("wget", &all));
    // 8: the server has answered with an error, as it should.
    assert!(matches!(out.status, 0 | 8), "{out:?}");
}

fn paths(count: usize, each: impl Fn(usize) -> String) -> Vec<String> {
    (0..count).map(each).collect()
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn a_scanner_is_banned_and_nobody_else() {
    let mut net = host("", "");
    site(&mut net);
    let (good, bad) = (net.peer(), net.peer());
    net.daemon("daemon");
    let watch = net.mef_command(&["watch"]);
    net.start("watch", watch);
    let json = |net: &Net| net.mef(&["status", "--json", "--config", conf(net).as_str()]).shown();
    wait_until("the watcher", || json(&net).contains("\"watchers\":1"));

    // A browser: a page with its parts, of which some are missing, three times.
    let browser = address(&net, &good, 11);
    let mut page = vec!["/".to_owned(), "/favicon.ico".into(), "/apple-touch-icon.png".into()];
    page.extend(paths(80, |i| format!("/a/{i}.js")));
    page.extend(paths(20, |i| format!("/a/{i}.js.map")));
    page.extend(paths(12, |i| format!("/img/{i}.webp")));
    for _ in 0..3 {
        wget(&net, &good, &browser, &["-O", "/dev/null", "-U", BROWSER], &page);
    }
    // Somebody with an old link to a gallery that is gone.
    let visitor = address(&net, &good, 12);
    wget(&net, &good, &visitor, &["-O", "/dev/null"], &paths(25, |i| format!("/gallery/{i}.jpg")));
    // A crawler: all pages, and the dead links.
    let crawler = address(&net, &good, 13);
    let tree = net.path("tree");
    let crawl = ["-r", "-l", "inf", "--delete-after", "-P", tree.to_str().unwrap()];
    wget(&net, &good, &crawler, &crawl, &paths(1, |_| "/".into()));
    // A feed reader, which is told that nothing is new, and a probe.
    let reader = address(&net, &good, 14);
    let since = ["-O", "/dev/null", "--header", "If-Modified-Since: Thu, 31 Dec 2099 00:00:00 GMT"];
    wget(&net, &good, &reader, &since, &paths(300, |_| "/feed.xml".into()));
    let probe = address(&net, &good, 15);
    wget(&net, &good, &probe, &["--spider"], &paths(100, |_| "/health".into()));
    net.mark(LOG);
    let log = net.read(LOG);
    let asked = |addr: &str, status: &str| {
        log.lines()
            .filter(|l| l.starts_with(&format!("{addr} ")) && l.contains(&format!("\" {status} ")))
            .count()
    };
    assert_eq!((asked(&browser, "200"), asked(&browser, "404")), (243, 102));
    assert_eq!((asked(&crawler, "200"), asked(&crawler, "404")), (2001, 26), "with robots.txt");
    assert_eq!((asked(&reader, "304"), asked(&probe, "404"), asked(&visitor, "404")), (300, 100, 25));
    let banned =
        |net: &Net| net.banned().into_iter().filter(|addr| !addr.starts_with("100.64.")).collect::<Vec<_>>();
    assert_eq!(banned(&net), [""; 0]);

    // The scanner.
    let scanner = IpAddr::from(bad.v4);
    let words = net.write("words", &(0..3000).map(|i| format!("w{i}\n")).collect::<String>());
    let target = format!("http://{}/", bad.host4);
    let command = net.command("dirb", &[&target, words.to_str().unwrap(), "-r", "-S"]);
    bad.ns.enter();
    let scan = net.start("dirb", command);
    net.within_self(|| ());
    wait_until("the ban", || net.in_set("ban_80_443_4", scanner));
    assert!(net.shut_out(&bad, bad.host4.into(), 80));
    net.signal(scan, libc::SIGKILL);
    assert_eq!(banned(&net), [scanner.to_string()]);
    // Why is told everywhere.
    let why = "path-scan: 400,401,403,404,405,410 for 60 distinct names at the top in 60 s";
    wait_until("the event", || net.said("watch").contains(&format!("ban {scanner} rule=webscan")));
    for said in [net.said("watch"), net.said("daemon"), net.read("mef.log")] {
        let line = said.lines().find(|l| l.contains(&format!("ban {scanner}"))).unwrap();
        assert!(line.ends_with(&format!(" reason={why}")), "{line}");
    }
    assert!(text(&net.ban_of(&scanner.to_string()), "reason").starts_with(why));
    let rule = json(&net).lines().find(|l| l.contains("\"rule\":\"webscan\"")).unwrap().to_owned();
    assert!(rule.contains("\"hits\":1,\"bans\":1,"), "{rule}");
    assert!(rule.contains(&format!("\"last_ban\":\"{scanner} {why}")), "{rule}");
    assert!(
        net.mef(&["status", "--config", conf(&net).as_str()])
            .shown()
            .contains(&format!("last ban of webscan: {scanner} {why}"))
    );

    // The same, seen in the log afterwards.
    let (rule, log) = (net.path("rules.d/webscan.conf"), net.path(LOG));
    let test = |options: &[&str]| {
        let mut all = vec!["test"];
        all.extend(options);
        all.extend([rule.to_str().unwrap(), log.to_str().unwrap()]);
        net.mef(&all).ok()
    };
    let first = log_line(&net, &scanner.to_string(), 60);
    let people = test(&[]);
    assert!(people.starts_with(&format!("line {first}: ban {scanner}: {why}")), "{people}");
    assert!(test(&["--hits"]).starts_with(&format!("{first}\t{scanner}\n")));
    let json = test(&["--json"]);
    assert!(
        json.starts_with(&format!("{{\"event\":\"ban\",\"line\":{first},\"address\":\"{scanner}\",")),
        "{json}"
    );
    assert!(!json.contains(&good.v4.to_string()[..8]), "{json}");
}

/// The number of the line in which an address asks for the `n`th path that is not there.
fn log_line(net: &Net, addr: &str, n: usize) -> usize {
    let log = net.read(LOG);
    let wrong =
        log.lines().enumerate().filter(|(_, l)| l.starts_with(&format!("{addr} ")) && l.contains("\" 404 "));
    let mut seen = std::collections::BTreeSet::new();
    let mut nth = wrong.filter(|(_, l)| seen.insert(l.split(' ').nth(6).unwrap().to_owned()));
    nth.nth(n - 1).unwrap().0 + 1
}

/// Requests of a scan that is over the threshold of 60 names, also if two of them have one fingerprint of 16
/// bits, as happens in one run of thirty.
const SCAN: u64 = 66;

/// Requests for paths that are not there, one after the other, the last of them so many seconds ago.
fn scan(net: &Net, addr: &str, count: u64, apart: u64, ago: u64) -> String {
    let mut text = String::new();
    let now = seconds();
    for n in 0..count {
        let at = format!("@{}", now - ago - (count - 1 - n) * apart);
        let stamp = net.cmd("date", &["-u", "-d", &at, "+%d/%b/%Y:%H:%M:%S +0000"]).ok();
        let stamp = stamp.trim_end();
        let _ = writeln!(text, "{addr} - - [{stamp}] \"GET /{n}.php HTTP/1.1\" 404 153 \"-\" \"x\"");
    }
    text
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn who_is_never_banned_and_what_happened_while_nobody_watched() {
    let mut net = host("trusted_proxies=203.0.113.9", "");
    net.write("whitelist/own.conf", "203.0.113.8\n");
    let daemon = net.daemon("daemon");
    let mut lines = String::new();
    for addr in ["203.0.113.7", "203.0.113.8", "203.0.113.9", "2001:db8:7::1"] {
        lines += &scan(&net, addr, SCAN, 0, 0);
    }
    // Somebody spreads over a prefix, another writes the host's name, a third one asks for a victim as host.
    lines += &scan(&net, "2001:db8:8::1", 30, 0, 0);
    lines += &scan(&net, "2001:db8:8::2", SCAN, 0, 0);
    lines += &scan(&net, "203.0.113.20 203.0.113.21", 70, 0, 0);
    net.append(LOG, lines);
    net.mark(LOG);
    let mut want = vec!["2001:db8:7::/64", "2001:db8:8::/64", "203.0.113.21", "203.0.113.7"];
    let banned =
        |net: &Net| net.banned().into_iter().filter(|addr| !addr.starts_with("100.64.")).collect::<Vec<_>>();
    let sorted = |net: &Net| {
        let mut banned = banned(net);
        banned.sort();
        banned
    };
    assert_eq!(sorted(&net), want);
    for (addr, why) in [("203.0.113.8", "on the allow list"), ("203.0.113.9", "a trusted reverse proxy")] {
        // Once the threshold of 60 is reached, or a request later for each name that looked like another.
        net.wait_said("daemon", &format!("{addr} is not banned after 6"));
        net.wait_said("daemon", &format!(" hits: it is {why}"));
    }
    // Of a night, read at once: 70 requests within hours are none within a minute.
    net.stop(daemon);
    let mut lines = scan(&net, "203.0.113.30", 70, 400, 0);
    lines += &scan(&net, "203.0.113.31", 70, 0, 5);
    lines += &scan(&net, "203.0.113.32", 70, 0, 7200);
    lines += "203.0.113.33 - - [no time] \"GET / HTTP/1.1\" 404 153 \"-\" \"x\"\n".repeat(99).as_str();
    net.append(LOG, lines);
    net.daemon("again");
    net.mark(LOG);
    want.insert(3, "203.0.113.31");
    assert_eq!(sorted(&net), want);
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn thresholds_and_formats_of_ones_own() {
    let rule = "[webscan]\nwindows=30s\n[thresholds]\nrule_7_name=many\nrule_7_requests_min=5\n\
        rule_7_bantime=5m\n\
        rule_8_ua_count_min=3\nrule_8_action=detect\n[whitelist]\nuri=/ok*\n";
    let mut net = Net::new();
    net.configure("", &[LOG]);
    let log = net.path(LOG);
    let own = "failregex=^<HOST> (?P<status>\\d+) \"(?P<uri>[^\"]*)\" \"(?P<ua>[^\"]*)\"$";
    net.rule("own", &format!("engine=webscan\nfiles={}\n{own}\n{rule}", log.display()));
    net.append(LOG, "");
    net.daemon("daemon");
    let ask = |addr: &str, path: &str, ua: &str| format!("{addr} 200 \"{path}\" \"{ua}\"\n");
    net.append(LOG, ask("203.0.113.1", "/", "a").repeat(4) + &ask("203.0.113.1", "/ok/x", "a").repeat(9));
    net.append(LOG, (0..4).map(|n| ask("203.0.113.2", "/", &format!("u{n}"))).collect::<String>());
    net.append(LOG, ask("203.0.113.3", "/", "a").repeat(5));
    net.mark(LOG);
    let ban = net.ban_of("203.0.113.3");
    assert_eq!(text(&ban, "reason"), "many: 5 requests in 30 s");
    assert!(common::bans::number(&ban, "left").is_some_and(|left| left <= 300), "{ban:?}");
    assert_eq!(net.banned().iter().filter(|addr| addr.starts_with("203.")).count(), 1, "{:?}", net.banned());
    let reported = "rule own detected 203.0.113.2 (3 distinct agents in 30 s; action=detect)";
    assert_eq!(net.said("daemon").matches(reported).count(), 1, "{}", net.said("daemon"));
}
