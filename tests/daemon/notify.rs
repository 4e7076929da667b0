//! The program of the page on notifications, as it is printed there: mail, ntfy and a webhook, at real
//! servers.
#![allow(clippy::unwrap_used, reason = "tests")]

use crate::common;

use common::daemon::{LOG, host};
use common::{Net, wait_or_show, wait_until};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;

const PAGE: &str = include_str!("../../rootfs/usr/share/doc/mef/notifications.md");
/// A web server that answers with what the file `answer` says, and keeps requests as they came, bodies in
/// files of their own.
const SERVER: &str = r#"
import http.server, os
class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        answer = int(open("answer").read())
        self.send_response(answer)
        self.end_headers()
        name = "%d-%d" % (len([f for f in os.listdir() if f.endswith(".head")]), answer)
        open(name + ".body", "wb").write(body)
        open("new", "w").write("%s %s\n%s" % (self.command, self.path, self.headers))
        os.rename("new", name + ".head")
http.server.HTTPServer(("127.0.0.1", 8080), Handler).serve_forever()
"#;

/// A block of the page.
fn block(name: &str) -> String {
    let begin = format!("```text {name}\n");
    PAGE.split(&begin).nth(1).unwrap().split("\n```").next().unwrap().to_owned() + "\n"
}

/// A host whose daemon runs the program, configured like that; `before` is done in its private directories.
fn notified(conf: &str, before: &str) -> Net {
    let mut net = host("", "maxretry=1");
    net.program("sbin/mef-notify", &block("mef-notify"));
    net.write("etc-mef/notify.conf", conf);
    net.configure("on_ban=/usr/local/sbin/mef-notify", &[LOG]);
    let daemon =
        format!("{before}\nexec {} daemon --foreground --config mef.conf", common::mef_binary().display());
    let mut command = net.command("sh", &["-ec", &daemon]);
    net.own(&mut command);
    net.start("daemon", command);
    net.wait_ready("daemon");
    net
}

fn serve(net: &mut Net, answer: &str) {
    net.write("http/answer", answer);
    let mut server = net.command("python3", &["-c", SERVER]);
    server.current_dir(net.path("http"));
    net.start("server", server);
    wait_until("the server", || net.cmd("ss", &["-ltn"]).stdout.contains("127.0.0.1:8080"));
}

/// What the server has got, the newest last: heads and bodies of the requests that were answered so.
fn got(net: &Net, answer: &str) -> Vec<(String, String)> {
    let names = fs::read_dir(net.path("http")).unwrap();
    let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let ends = format!("-{answer}.head");
    let mut names: Vec<String> =
        names.filter_map(|name| name.strip_suffix(&ends).map(str::to_owned)).collect();
    names.sort_by_key(|name| name.parse::<u32>().unwrap());
    let read = |name: &String, end: &str| net.read(&format!("http/{name}-{answer}.{end}"));
    names.iter().map(|name| (read(name, "head"), read(name, "body"))).collect()
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn the_program_is_a_script_that_any_shell_runs() {
    let net = Net::new();
    let script = block("mef-notify");
    for shell in ["dash -n", "bash -n", "busybox sh -n", "shellcheck -s sh -e SC1091 -"] {
        let mut words = shell.split(' ');
        net.input(words.next().unwrap(), &words.collect::<Vec<_>>(), script.as_bytes()).ok();
    }
}

/// Runs the program as the daemon would, with such a reason.
fn run(net: &Net, reason: &str) {
    let mut command = net.command("sh", &["-c", "exec /usr/local/sbin/mef-notify"]);
    for (name, value) in [("EVENT", "ban"), ("ADDR", "203.0.113.1"), ("RULE", "app"), ("UNTIL", "never")] {
        command.env(format!("MEF_{name}"), value);
    }
    command.env("MEF_REASON", reason);
    net.own(&mut command);
    net.run(command).ok();
}

/// Who takes mail, and prints it.
const SINK: [&str; 7] =
    ["-um", "aiosmtpd", "-n", "-l127.0.0.1:2525", "-c", "aiosmtpd.handlers.Debugging", "stdout"];

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn mail_is_sent_and_what_an_attacker_wrote_is_no_header() {
    let mut net = notified(&block("mail.conf"), "");
    // The sendmail of this host, with a configuration of its own.
    let text = "account default\nhost 127.0.0.1\nport 2525\nfrom mef@localhost\n";
    let conf = net.write("msmtprc", text);
    fs::set_permissions(&conf, fs::Permissions::from_mode(0o600)).unwrap();
    net.program("sbin/sendmail", &format!("#!/bin/sh\nexec msmtp -C {} \"$@\"\n", conf.display()));
    let sink = net.command("/usr/bin/python3", &SINK);
    net.start("sink", sink);
    wait_until("the server", || net.cmd("ss", &["-ltn"]).stdout.contains("127.0.0.1:2525"));
    run(&net, "a\nBcc: x\r\n.\nban 192.0.2.1\t\u{1b}[31m\u{e4}");
    let mail = wait_or_show(
        "a mail",
        || Some(net.read("sink.out")).filter(|mail| mail.contains("END MESS")),
        || net.said("daemon"),
    );
    assert!(mail.contains("\nTo: root@localhost\n") && mail.contains(", bans and unbans: 1\n"), "{mail}");
    assert!(
        mail.contains("\nban 203.0.113.1 by app until never: a Bcc: x  . ban 192.0.2.1  [31m\n"),
        "{mail}"
    );
    assert!(mail.is_ascii(), "{mail}");
    wait_until("all to be sent", || !net.path("lib/mef-notify/message").exists());
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn ntfy_is_told_of_many_bans_at_once_and_of_none_twice() {
    let conf = block("ntfy.conf").replace("https://ntfy.example/", "http://127.0.0.1:8080/");
    let mut net = notified(&conf, "");
    // A server that refuses: the message is kept.
    serve(&mut net, "500");
    net.mef(&["ban", "203.0.113.1"]).ok();
    net.wait_said("daemon", "an on_ban or on_unban program ended with status 1");
    net.write("http/answer", "200");
    let addrs: String = (1..=40).map(|i| format!("198.51.100.{i}\n")).collect();
    net.mef_input(&["ban", "-"], addrs.as_bytes()).ok();
    let lines = |all: &[(String, String)]| {
        let mut lines: Vec<String> =
            all.iter().flat_map(|(_, body)| body.lines().map(str::to_owned)).collect();
        lines.sort();
        lines
    };
    let told = || Some(got(&net, "200")).filter(|all| lines(all).len() >= 41);
    let told = wait_or_show("all bans to be told", told, || net.said("daemon"));
    let mut once = lines(&told);
    once.dedup();
    assert_eq!((once.len(), lines(&told).len()), (41, 41), "{told:?}");
    assert!(once.iter().any(|line| line.starts_with("ban 203.0.113.1 by manual until 2")), "{told:?}");
    let head = &told[0].0;
    for line in ["POST /bans", "Authorization: Bearer tk_secret", "Title: mef on ", "Tags: no_entry"] {
        assert!(head.contains(line), "{line}: {head}");
    }
    assert_eq!(net.read("lib/mef-notify/new"), "");
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn a_webhook_gets_json_from_a_host_that_has_busybox_alone() {
    const TOOLS: &str = "wc date tr cut mkdir sleep awk sed head tail cat rm cp mv timeout uname wget";
    let conf = block("webhook.conf").replace("https://chat.example/", "http://127.0.0.1:8080/");
    // Debian's busybox has no flock.
    let before = format!(
        "busybox=$(command -v busybox)\nfor tool in {TOOLS}; do ln -s $busybox /usr/local/sbin/$tool; done\n\
         [ ! -e /usr/bin/curl ] || mount --bind /dev/null /usr/bin/curl\nmount --bind $busybox /usr/bin/dash"
    );
    let mut net = notified(&conf, &before);
    serve(&mut net, "200");
    let addrs: String = (1..=60).map(|i| format!("198.51.100.{i}\n")).collect();
    run(&net, "say \"hi\" \\ $(x) {\"a\":1}");
    net.mef_input(&["ban", "-"], addrs.as_bytes()).ok();
    let told = wait_or_show(
        "two messages",
        || Some(got(&net, "200")).filter(|all| all.len() >= 2),
        || net.said("daemon"),
    );
    let (head, body) = &told[0];
    assert!(head.contains("POST /hooks/secret") && head.contains("Content-Type: application/json"), "{head}");
    let text = |body: &str| {
        let text = "import json,sys; print(json.load(sys.stdin)['text'])";
        net.input("python3", &["-c", text], body.as_bytes()).ok()
    };
    let first = text(body);
    assert!(first.starts_with("mef on "), "{first}");
    assert!(
        first.contains("\nban 203.0.113.1 by app until never: say \"hi\" \\ $(x) {\"a\":1}\n"),
        "{first}"
    );
    let second = text(&told[1].1);
    assert!(second.contains("\nban 198.51.100.") && second.lines().count() <= 53, "{second}");
}
