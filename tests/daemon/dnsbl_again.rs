//! DNSBLs: who could not be asked about is asked about when he comes again, a list that does not answer takes
//! nothing from others, and name servers may be others at any time.
#![allow(clippy::unwrap_used, reason = "tests")]

use super::dnsbl::{LISTED, addr, asking, counted, knock, said, settled, status, truth};
use crate::common;

use common::bans::text;
use common::daemon::{LOG, failed};
use common::dns::{Answers, Liar, TEST4, answer, asked_about};
use common::frames::{SYN, Way};
use common::{Net, wait_until};
use std::fs;
use std::net::IpAddr;
use std::sync::atomic::Ordering;

fn is_banned(net: &Net, who: &str) -> bool {
    net.banned().contains(&who.to_owned())
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn whoever_comes_to_the_port_of_one_list_is_asked_about_in_all() {
    let (mut net, peer) =
        asking("rbl_x_ports=80\nrbl_y_enabled=true\nrbl_y_zone=y.example\nrbl_y_ports=25\n");
    let (x, y) = (format!(":127.0.0.2:x\n{TEST4}"), format!(":127.0.0.2:y\n{TEST4}{LISTED}\n"));
    net.rbldnsd(&peer, "rbl", &[("bl.example", "ip4set", &x), ("y.example", "ip4set", &y)]);
    net.daemon("daemon");
    said(&net, "DNSBL x is asked");
    said(&net, "DNSBL y is asked");
    knock(&net, &peer, LISTED);
    wait_until("the ban of the other list", || is_banned(&net, LISTED));
    let ban = net.ban_of(LISTED);
    assert_eq!((text(&ban, "rule"), text(&ban, "ports")), ("rbl-y".to_owned(), "25".to_owned()));
    // Who is on none is asked about once, whatever the ports.
    let way = Way::new(&net, &peer);
    for port in [80, 25, 80] {
        way.burst(addr("20.0.0.8"), (peer.host4.into(), port), SYN, 1);
    }
    settled(&net, 2);
    net.mark(LOG);
    assert_eq!(counted(&net, "asked"), 2);
    // Another ban of the same has its text, too.
    let said = net.mef(&["unban", LISTED]);
    assert!(said.stderr.contains("20.0.0.9 is on the DNSBL y: it is banned again"), "{}", said.stderr);
    net.mef(&["ban", "20.0.0.7"]).ok();
    let said = net.mef(&["unban", "20.0.0.7"]);
    assert!(!said.stderr.contains("DNSBL"), "{}", said.stderr);
    net.append(LOG, failed(LISTED));
    wait_until("the next ban", || is_banned(&net, LISTED));
    assert_eq!(text(&net.ban_of(LISTED), "reason"), "listed by y: y");
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn who_could_not_be_asked_about_is_asked_about_when_he_comes_again() {
    let (mut net, peer) = asking("rbl_x_timeout=1s\nrbl_x_error_ttl=1s\nrbl_x_mass_limit=100");
    let liar = Liar::new(&net, &peer, truth());
    net.daemon("daemon");
    said(&net, "DNSBL x is asked");
    liar.says(Box::new(|_| Vec::new()));
    for n in 1..=200 {
        knock(&net, &peer, &format!("20.0.0.{n}"));
    }
    wait_until("a failure", || counted(&net, "failed") > 0);
    liar.says(truth());
    // Everybody comes again, as whoever knocks at a port does; nobody has a line in a log.
    for n in [1, 2, 100, 199, 200] {
        let who = format!("20.0.0.{n}");
        wait_until("the ban", || {
            knock(&net, &peer, &who);
            is_banned(&net, &who)
        });
    }
    // Who was asked about is not asked about again, however often he comes.
    wait_until("an answer about somebody who is not listed", || {
        knock(&net, &peer, "20.0.1.1");
        status(&net).contains("\"dnsbl\"") && net.said("daemon").contains("DNSBL x answers again")
    });
    knock(&net, &peer, "20.0.1.2");
    net.mark(LOG);
    let before = liar.asked.load(Ordering::Relaxed);
    for _ in 0..20 {
        knock(&net, &peer, "20.0.1.2");
    }
    net.mark(LOG);
    assert!(liar.asked.load(Ordering::Relaxed) <= before + 1);
}

/// As [`truth`], and of another list nothing at all.
fn one_of_two() -> Answers {
    let truth = truth();
    Box::new(move |question| {
        if asked_about(question, "dead.example").is_some_and(|addr| !addr.is_loopback() && addr.is_ipv4()) {
            return Vec::new();
        }
        if asked_about(question, "dead.example").is_some() {
            let test = asked_about(question, "dead.example") == Some(IpAddr::from([127, 0, 0, 2]));
            return vec![answer(
                question,
                if test { 0 } else { 3 },
                if test { &[[127, 0, 0, 2]] } else { &[] },
            )];
        }
        truth(question)
    })
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn a_list_that_does_not_answer_costs_the_others_and_host_names_nothing() {
    let (mut net, peer) = asking(
        "rbl_x_mass_limit=100\nrbl_dead_enabled=true\nrbl_dead_zone=dead.example\nrbl_dead_timeout=60s\n",
    );
    let liar = Liar::new(&net, &peer, one_of_two());
    net.write("whitelist/none.conf", "# nobody\n");
    net.daemon("daemon");
    said(&net, "DNSBL x is asked");
    said(&net, "DNSBL dead is asked");
    // Its questions stay in flight for longer than this test runs.
    for n in 1..=120 {
        let who = format!("20.0.0.{n}");
        knock(&net, &peer, &who);
        if n % 10 == 0 {
            wait_until("the ban", || is_banned(&net, &who));
        }
    }
    for n in 1..=120 {
        wait_until("every ban", || is_banned(&net, &format!("20.0.0.{n}")));
    }
    let asked = liar.asked.load(Ordering::Relaxed);
    net.write("whitelist/none.conf", "admin.example\n");
    net.wait_said("daemon", "allow list: admin.example: ");
    assert!(liar.asked.load(Ordering::Relaxed) > asked);
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn other_servers_in_resolv_conf_are_asked_from_then_on() {
    let (mut net, peer) = asking("dns_servers=auto\nconfine=full\nrbl_x_timeout=1s\nrbl_x_error_ttl=1s");
    let liar = Liar::new(&net, &peer, truth());
    let file = |server: &str| format!("search example.org\noptions ndots:5\nnameserver {server}\n");
    // As whoever manages it does: another file takes its place, or a link.
    let replace = |net: &Net, server: &str| {
        net.write("etc/resolv.new", &file(server));
        fs::rename(net.path("etc/resolv.new"), net.path("etc/resolv.conf")).unwrap();
    };
    net.write("etc/resolv.conf", &file("127.0.0.1"));
    net.write("etc/hidden", "x\n");
    let daemon = net.daemon("daemon");
    said(&net, "DNSBL x is not asked yet: the name servers cannot be reached");
    replace(&net, &peer.v4.to_string());
    said(&net, "DNSBL x is asked");
    assert!(liar.asked.load(Ordering::Relaxed) >= 4);
    wait_until("a ban", || {
        net.append(LOG, failed(LISTED));
        is_banned(&net, LISTED)
    });
    // Who is asked is not banned; that is known of the new one at once, also after a reload.
    for (round, server) in [(1, "20.0.0.53"), (2, "20.0.0.54")] {
        replace(&net, server);
        net.signal(daemon, libc::SIGHUP);
        wait_until("the reload", || net.said("daemon").matches("configuration read").count() == round);
        net.append(LOG, failed(server).repeat(5));
        net.mark(LOG);
        assert!(!is_banned(&net, server));
    }
    fs::write(net.path("etc/linked"), file(&peer.v4.to_string())).unwrap();
    fs::remove_file(net.path("etc/resolv.conf")).unwrap();
    std::os::unix::fs::symlink("linked", net.path("etc/resolv.conf")).unwrap();
    let second = "20.0.0.77";
    wait_until("a ban by the server that the link leads to", || {
        net.append(LOG, failed(second));
        is_banned(&net, second)
    });
    assert!(!net.said("daemon").contains("only after a restart"), "{}", net.said("daemon"));
}
