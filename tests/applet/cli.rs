//! The commands, as people and scripts use them: `mef ban`, `unban`, `bans` on a host of its own each time.
#![allow(clippy::unwrap_used, clippy::panic, clippy::expect_used, reason = "tests")]

mod words;

use crate::common;

use common::bans::{Value, number, rows, text};
use common::{Net, Output, ns, wait_until};
use std::fmt::Write as _;
use std::io::Write as _;
use std::net::IpAddr;
use std::process::Stdio;

/// A failure that was told in one line; its text.
#[track_caller]
fn one_line(output: &Output, status: i32) -> &str {
    assert_eq!(output.status, status, "{output:?}");
    let line = output.stderr.strip_suffix('\n').unwrap_or_else(|| panic!("{output:?}"));
    assert!(line.starts_with("mef: ") && !line.contains('\n'), "{output:?}");
    line
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn addresses_networks_and_ranges_are_banned_listed_and_unbanned() {
    let net = Net::new();
    let cases = [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.8", "192.0.2.8"),
        ("203.0.113.0/24", "203.0.113.0/24"),
        ("203.0.114.9/255.255.255.0", "203.0.114.0/24"),
        ("198.51.100.10-198.51.100.20", "198.51.100.10-198.51.100.20"),
        ("198.51.100.64-198.51.100.127", "198.51.100.64/26"),
        ("2001:db8:1::5", "2001:db8:1::/64"),
        ("2001:db8:2::5/128", "2001:db8:2::5"),
        ("2001:db8:3::/48", "2001:db8:3::/48"),
        ("2001:db8:4::1-2001:db8:4::9", "2001:db8:4::1-2001:db8:4::9"),
    ];
    for (argument, listed) in cases {
        let said = net.mef(&["ban", argument]).ok();
        assert_eq!(said, format!("banned {listed} for 1h\n"));
        assert_eq!(net.banned(), [listed], "{argument}");
        let row = net.ban_of(listed);
        assert!(number(&row, "left").is_some_and(|s| s > 3500 && s <= 3600), "{row:?}");
        assert_eq!((row["rule"].clone(), text(&row, "ports")), (Value::Null, "all".into()));
        assert!(net.mef(&["bans"]).ok().contains(listed), "{argument}");
        assert_eq!(net.mef(&["unban", argument]).ok(), format!("unbanned {listed}\n"));
        assert!(net.bans().is_empty(), "{argument}");
        let again = net.mef(&["unban", argument]);
        assert_eq!(one_line(&again, 1), format!("mef: {listed} was not banned"));
    }
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn several_at_once_and_one_wrong() {
    let net = Net::new();
    let output = net.mef(&["ban", "192.0.2.7", "host.example", "192.0.2.8"]);
    assert!(one_line(&output, 1).contains("'host.example' is not an address"), "{output:?}");
    assert_eq!(net.banned(), ["192.0.2.7", "192.0.2.8"]);
    net.mef(&["unban", "--all"]).ok();
    assert!(net.bans().is_empty());
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn the_table_is_made_when_it_is_missing_and_kept_when_it_is_there() {
    let net = Net::new();
    assert_eq!(net.nft_list("tables"), "");
    assert_eq!(net.mef(&["bans"]).ok(), "", "asking makes no table");
    assert_eq!(net.nft_list("tables"), "");
    net.mef(&["ban", "192.0.2.7"]).ok();
    let handle = |net: &Net| net.cmd("nft", &["-a", "list", "table", "inet", "mef_guard"]).stdout;
    let first = handle(&net);
    let first: Vec<&str> = first.lines().filter(|l| l.contains("handle")).collect();
    net.mef(&["ban", "192.0.2.8"]).ok();
    let second = handle(&net);
    let second: Vec<&str> = second.lines().filter(|l| l.contains("handle")).collect();
    assert_eq!(first, second, "no chain, rule or set was made anew");
    assert_eq!(net.banned(), ["192.0.2.7", "192.0.2.8"]);
    // A foreign table of another firewall stays as it is.
    net.nft("table inet other { set s { type ipv4_addr; elements = { 192.0.2.1 }; }; }");
    net.mef(&["unban", "--all", "--permanent"]).ok();
    assert!(net.nft_list("table inet other").contains("192.0.2.1"));
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn a_ban_lasts_as_long_as_the_longest_that_was_asked_for() {
    let net = Net::new();
    let left = |net: &Net| number(&net.ban_of("192.0.2.7"), "left");
    let cases = [
        ("90", 90, "banned 192.0.2.7 for 90s"),
        ("10m", 600, "192.0.2.7 is banned for another 10m, by hand, was banned before"),
        ("7d", 604_800, "192.0.2.7 is banned for another 7d, by hand, was banned before"),
        ("30s", 604_800, "192.0.2.7 is banned for another "),
        ("2h", 604_800, " already, by hand"),
    ];
    for (argument, seconds, words) in cases {
        let said = net.mef(&["ban", "192.0.2.7", "--for", argument]).ok();
        assert!(said.contains(words), "{argument}: {said}");
        let left = left(&net).unwrap();
        assert!(left > seconds - 20 && left <= seconds, "{argument}: {left}");
    }
    net.mef(&["ban", "192.0.2.7", "--permanent"]).ok();
    assert_eq!(left(&net), None);
    assert!(net.mef(&["bans"]).ok().contains("permanent"));
    net.mef(&["ban", "192.0.2.8"]).ok();
    let permanent = rows(&net.mef(&["bans", "--json", "--permanent"]).ok());
    assert_eq!(permanent.iter().map(|r| text(r, "address")).collect::<Vec<_>>(), ["192.0.2.7"]);
    net.mef(&["unban", "--all"]).ok();
    assert_eq!(net.banned(), ["192.0.2.7"], "--all alone spares the permanent ones");
    let said = net.mef(&["ban", "192.0.2.7", "--for", "1h"]).ok();
    assert_eq!(said, "192.0.2.7 is banned permanently already, by hand\n");
    assert_eq!(left(&net), None, "what is for good is ended by unban alone");
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn a_ban_expires_by_itself() {
    let net = Net::new();
    net.mef(&["ban", "192.0.2.7", "203.0.113.0/24", "2001:db8:1::/48", "--for", "1s"]).ok();
    wait_until("the end of the bans", || net.bans().is_empty());
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn ports_and_reason_are_listed() {
    let net = Net::new();
    net.mef(&["ban", "192.0.2.7", "--ports", "22,80-90", "--reason", "a \"quoted\"\treason \u{1b}[31m"]).ok();
    let row = net.ban_of("192.0.2.7");
    assert_eq!(text(&row, "ports"), "22,80-90");
    assert!(text(&row, "reason").starts_with("a 'quoted'"), "{row:?}");
    let table = net.mef(&["bans"]).ok();
    assert!(table.contains("22,80-90") && !table.contains('\u{1b}') && !table.contains('\t'), "{table:?}");
    // The same address with other ports is another ban; without ports it is one for all.
    net.mef(&["ban", "192.0.2.7", "--ports", "25"]).ok();
    assert_eq!(net.banned(), ["192.0.2.7", "192.0.2.7"]);
    net.mef(&["unban", "192.0.2.7"]).ok();
    assert!(net.bans().is_empty());
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn json_is_one_object_a_line() {
    let net = Net::new();
    let made = net.mef(&["ban", "192.0.2.7", "2001:db8:1::1", "--for", "1h", "--json"]).ok();
    let made = rows(&made);
    assert_eq!(made.iter().map(|r| text(r, "address")).collect::<Vec<_>>(), ["192.0.2.7", "2001:db8:1::/64"]);
    assert!(made.iter().all(|r| number(r, "for") == Some(3600) && text(r, "ports") == "all"));
    let row = net.ban_of("192.0.2.7");
    let keys: Vec<&str> = row.keys().map(String::as_str).collect();
    assert_eq!(keys, ["address", "dropped", "hits", "left", "line", "ports", "reason", "rule", "since"]);
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    assert!(number(&row, "since").is_some_and(|since| since + 60 > now && since <= now), "{row:?}");
    let made = rows(&net.mef(&["ban", "192.0.2.9", "--permanent", "--json"]).ok());
    assert_eq!(number(&made[0], "for"), None);
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn lists_come_by_standard_input_with_comments_and_bad_lines() {
    let net = Net::new();
    let input = b"# a comment\r\n192.0.2.7\r\n\r\n192.0.2.8 # behind\n; another\n  2001:db8:1::1\t\n\
        203.0.113.0/24;x\n999.1.1.1\n\xff\xfe\n198.51.100.1-198.51.100.3\n\x1b[2J\n192.0.2.9";
    let output = net.mef_input(&["ban", "-"], input);
    assert_eq!(output.status, 1, "{output:?}");
    assert_eq!(output.stdout, "banned 6 addresses for 1h\n");
    let lines: Vec<&str> = output.stderr.lines().collect();
    assert_eq!(lines.len(), 3, "{lines:#?}");
    for (line, number) in lines.iter().zip([8, 9, 11]) {
        assert!(line.starts_with(&format!("mef: standard input, line {number}: ")), "{line}");
        assert!(!line.chars().any(char::is_control), "{line:?}");
    }
    let want = [
        "192.0.2.7",
        "192.0.2.8",
        "192.0.2.9",
        "198.51.100.1-198.51.100.3",
        "2001:db8:1::/64",
        "203.0.113.0/24",
    ];
    assert_eq!(net.banned(), want);
    let good = net.mef_input(&["ban", "-"], b"192.0.2.10\n");
    assert_eq!((good.status, good.stderr.as_str()), (0, ""));
    let output = net.mef_input(&["unban", "-"], b"192.0.2.7\n192.0.2.10 # both\n");
    assert_eq!(output.status, 0, "{output:?}");
    assert_eq!(net.mef_input(&["ban", "-"], b"").status, 0, "an empty list is a list");
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn a_line_without_an_end_is_a_bad_line() {
    let net = Net::new();
    let mut input = vec![b'1'; 1 << 20];
    input.extend(b"\n192.0.2.7\n");
    let output = net.mef_input(&["ban", "-"], &input);
    assert_eq!(output.status, 1);
    assert_eq!(net.banned(), ["192.0.2.7"]);
    assert!(output.stderr.lines().all(|l| l.len() < 200), "what is told of it is short");
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn a_hundred_thousand_addresses_at_once_take_no_memory_each() {
    let net = Net::new();
    let program = std::fs::metadata(common::mef_binary()).unwrap().len() / 1024;
    let mut list = String::new();
    for i in 0..100_000u32 {
        let _ = writeln!(list, "{}", std::net::Ipv4Addr::from(0x0b00_0000 + 3 * i));
    }
    let mut command = net.mef_command(&["ban", "-"]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let (status, peak) = ns::end_and_peak(&mut child, || {
        std::thread::spawn(move || stdin.write_all(list.as_bytes()));
    });
    let output = std::io::read_to_string(child.stdout.take().unwrap()).unwrap();
    assert_eq!((status, output.as_str()), (0, "banned 100000 addresses for 1h\n"));
    // As much of the program's file as the page cache has is mapped, all of it on some kernels.
    assert!(peak > 0 && peak < program + 400, "{peak} KiB");
    // While the kernel resizes its hash, which it does behind the back of whoever filled it, dumps leave
    // elements out.
    wait_until("100,000 elements", || {
        net.nft_list("set inet mef_guard ban4").matches(" expires ").count() == 100_000
    });
    for i in [0, 1, 65_535, 99_999u32] {
        let addr = std::net::Ipv4Addr::from(0x0b00_0000 + 3 * i);
        assert!(net.in_set("ban4", addr.into()), "{addr}");
    }
    assert_eq!(net.mef(&["bans", "--json"]).ok().lines().count(), 100_000);
    // Their end takes no memory for each either.
    let mut command = net.mef_command(&["unban", "--all"]);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let (status, peak) = ns::end_and_peak(&mut command.spawn().unwrap(), || ());
    assert_eq!(status, 0);
    assert!(peak > 0 && peak < 5000, "{peak} KiB");
    assert!(net.bans().is_empty());
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn who_would_be_locked_out_is_not_banned() {
    let mut net = Net::new();
    let (peer, gateway) = (net.peer(), net.peer());
    net.ip(&format!("route add default via {}", gateway.v4));
    let host6 = peer.host6.to_string();
    let cases = [
        ("127.0.0.1", "this host's own address"),
        ("127.9.9.9", "loopback"),
        ("::1/128", "this host's own address"),
        ("126.0.0.0-127.0.0.0", "loopback"),
        ("0.0.0.0", "not a host address"),
        ("224.0.0.1", "multicast"),
        ("ff02::1/128", "multicast"),
        ("192.0.2.1", "this host's own address"),
        ("192.0.2.0/24", "this host's own address"),
        ("192.0.1.255-192.0.2.1", "this host's own address"),
        ("192.0.0.0/16", "this host's own address"),
        (&host6, "this host's own address"),
        ("2001:db8::/32", "this host's own address"),
        ("::ffff:192.0.2.1", "this host's own address"),
        ("203.0.113.77", "the peer of your SSH session"),
        ("203.0.113.0/24", "the peer of your SSH session"),
        ("198.51.100.2", "the default gateway"),
    ];
    let with_ssh = |args: &[&str]| {
        let mut command = net.mef_command(args);
        command.env("SSH_CONNECTION", "203.0.113.77 50022 192.0.2.1 22");
        net.run(command)
    };
    for (argument, why) in cases {
        let output = with_ssh(&["ban", argument]);
        let said = one_line(&output, 1);
        assert!(
            said.contains(&format!(" is {why}: not banned (use --force to override)")),
            "{argument}: {said}"
        );
        assert!(output.stdout.is_empty() && net.bans().is_empty(), "{argument}");
    }
    // From standard input too, and the others of the list are banned.
    let mut command = net.mef_command(&["ban", "-"]);
    command.env("SSH_CONNECTION", "2001:db8:77::1 50022 2001:db8::1 22").stdin(Stdio::from(
        std::fs::File::open(net.write("list", "203.0.113.1\n2001:db8:77::/48\n192.0.2.1\n203.0.113.2\n"))
            .unwrap(),
    ));
    let output = net.run(command);
    assert_eq!((output.status, output.stderr.lines().count()), (1, 2), "{output:?}");
    assert_eq!(net.banned(), ["203.0.113.1", "203.0.113.2"]);
    // The neighbours of protected addresses can be banned, and with --force everything.
    with_ssh(&["ban", "203.0.113.78", "192.0.2.2", "198.51.100.3"]).ok();
    with_ssh(&["ban", "203.0.113.77", "--force"]).ok();
    assert!(net.banned().contains(&"203.0.113.77".to_owned()));
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn the_allow_list_is_respected() {
    let mut net = Net::new();
    net.configure("", &["app.log"]);
    net.write("whitelist/office.conf", "# office\n203.0.113.0/25\n2001:db8:aa::/48 ; v6\n192.0.2.77\n");
    let daemon = net.daemon("daemon");
    net.stop(daemon);
    for argument in
        ["192.0.2.77", "203.0.113.5", "203.0.113.64/27", "203.0.113.9-203.0.113.20", "2001:db8:aa:5::1"]
    {
        let output = net.mef(&["ban", argument]);
        assert!(one_line(&output, 1).contains("is on the allow list: not banned"), "{argument}: {output:?}");
    }
    assert!(net.bans().is_empty());
    net.mef(&["ban", "203.0.113.128", "192.0.2.78"]).ok();
    let forced = net.mef(&["ban", "203.0.113.5", "--force"]);
    assert!(one_line(&forced, 1).contains("203.0.113.5 is on the allow list: banned, but its packets pass"));
    assert_eq!(net.banned(), ["192.0.2.78", "203.0.113.128", "203.0.113.5"]);
    // Who is allowed in a network passes; the others of it are banned all the same.
    let config = net.path("mef.conf");
    net.mef(&["allow", "2001:db8:7::5/128", "--config", config.to_str().unwrap()]).ok();
    for (argument, parts) in [
        ("2001:db8:7::9", "2001:db8:7::/64 is banned except 2001:db8:7::5: on the allow list"),
        ("203.0.113.0/24", "203.0.113.0/24 is banned except 203.0.113.0/25: on the allow list"),
        ("192.0.2.70-192.0.2.77", "192.0.2.70-192.0.2.77 is banned except 192.0.2.77: on the allow list"),
    ] {
        let output = net.mef(&["ban", argument]);
        assert_eq!(
            (output.status, output.stderr.trim()),
            (0, format!("mef: {parts}").as_str()),
            "{argument}"
        );
        assert!(output.stdout.starts_with("banned "), "{argument}: {}", output.stdout);
    }
    assert!(net.banned().contains(&"2001:db8:7::/64".to_owned()));
    let denied = net.mef(&["deny", "192.0.2.64/26"]);
    assert_eq!(denied.status, 0, "{denied:?}");
    assert!(
        denied.stderr.contains("192.0.2.64/26 is denied except 192.0.2.77: on the allow list"),
        "{denied:?}"
    );
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn unban_takes_out_what_is_inside_and_cuts_what_is_around() {
    let net = Net::new();
    net.mef(&["ban", "203.0.113.0/24", "192.0.2.5", "192.0.2.9", "2001:db8:1::1", "2001:db8:9::/48"]).ok();
    net.mef(&["unban", "192.0.2.0/24"]).ok();
    net.mef(&["unban", "203.0.113.128"]).ok();
    net.mef(&["unban", "2001:db8:1::ffff"]).ok();
    let left =
        ["2001:db8:9::/48", "203.0.113.0-203.0.113.127", "203.0.113.0/25", "203.0.113.129-203.0.113.255"];
    let banned = net.banned();
    assert!(banned.iter().all(|b| left.contains(&b.as_str())) && banned.len() == 3, "{banned:?}");
    let inside: IpAddr = "203.0.113.127".parse().unwrap();
    let out: IpAddr = "203.0.113.128".parse().unwrap();
    assert!(net.in_set("bannet4", inside) && !net.in_set("bannet4", out));
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn two_commands_at_once_lose_nothing() {
    let net = Net::new();
    let children: Vec<_> = (0..16)
        .map(|i| {
            let addr = format!("10.1.{i}.1");
            let mut command = net.mef_command(&["ban", &addr, "--ports", ["all", "22", "25,80"][i % 3]]);
            command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
        })
        .collect();
    for child in children {
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    }
    assert_eq!(net.bans().len(), 16);
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn bans_are_listed_the_newest_first_and_by_address() {
    let net = Net::new();
    let addresses = |args: &[&str]| -> Vec<String> {
        let out = net.mef(args).ok();
        out.lines().skip(1).map(|line| line.split_whitespace().next().unwrap().to_owned()).collect()
    };
    assert!(addresses(&["bans"]).is_empty() && net.mef(&["bans"]).ok().is_empty());
    let order = ["192.0.2.9", "192.0.2.0/29", "2001:db8:1::/64", "192.0.2.1", "198.51.100.7"];
    for (at, addr) in order.iter().enumerate() {
        let time: &[&str] = if at % 2 == 0 { &["--permanent"] } else { &["--for", "1h"] };
        net.mef(&[&["ban", addr, "--ports", if at == 4 { "22" } else { "all" }], time].concat()).ok();
        // SINCE counts in seconds, by two clocks.
        std::thread::sleep(std::time::Duration::from_millis(2100));
    }
    let newest: Vec<&str> = order.iter().rev().copied().collect();
    assert_eq!(addresses(&["bans"]), newest);
    let json = net.mef(&["bans", "--json"]).ok();
    let rows = rows(&json);
    assert_eq!(rows.iter().map(|row| text(row, "address")).collect::<Vec<_>>(), newest);
    assert_eq!(addresses(&["bans", "192.0.2.1"]), ["192.0.2.1", "192.0.2.0/29"]);
    assert_eq!(addresses(&["bans", "192.0.2.0/24"]), ["192.0.2.1", "192.0.2.0/29", "192.0.2.9"]);
    assert_eq!(addresses(&["bans", "2001:db8:1::7", "--permanent"]), ["2001:db8:1::/64"]);
    assert!(net.mef(&["bans", "203.0.113.1"]).ok().is_empty());
    let out = net.mef(&["bans", "nobody"]);
    assert!(out.status == 2 && out.stderr.contains("'nobody' is not an address"), "{out:?}");
}
