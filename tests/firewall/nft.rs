//! The nf_tables layer against the real kernel: every expression, sets of every kind, refusals, lost answers.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs, reason = "tests")]

use mef::base::name::Name;
use mef::firewall::nft::elem::{Elem, Timeout};
use mef::firewall::nft::expr::{self, Cmp, NftVerdict, PayloadBase, REG, REG32};
use mef::firewall::nft::{Expr, NftRule, Op, TableId, Txn, TxnError, query};
use mef::firewall::nft::{Hook, Optional, SetSpec};
use mef::sys::netlink::NlSocket;
use mnl::Bus;
use nix::errno::Errno;
use nix::sys::socket::{setsockopt, sockopt};
use std::process::Command;

const TABLE: TableId = TableId { family: 1, name: Name::of("t") };
const CHAIN: Name = Name::of("c");
const OTHER: Name = Name::of("other");
const IPV4_ADDR: (u32, u32) = (7, 4);
/// `ipv4_addr . inet_service`: types of six bits each, fields of four bytes each.
const ADDR_PORT: (u32, u32) = (7 << 6 | 13, 8);
const DYNAMIC: i32 = libc::NFT_SET_EVAL | libc::NFT_SET_TIMEOUT;

fn namespace() -> NlSocket {
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET)
        .expect("root is needed for a network namespace");
    NlSocket::open(Bus::Netfilter).unwrap()
}

fn nft_list() -> String {
    let out = Command::new("nft").args(["list", "ruleset"]).output().expect("package nftables");
    assert!(out.status.success());
    // nft 1.1 names the burst of a limit also where that is the default.
    String::from_utf8(out.stdout).unwrap().replace(" burst 5 packets", "")
}

/// A table with a base chain on `hook` and another chain.
fn begin(hook: i32) -> Txn {
    let mut txn = Txn::new(TABLE, 4096);
    txn.add_table();
    txn.add_chain(&CHAIN, Some(Hook::new(hook)));
    txn.add_chain(&OTHER, None);
    txn
}

fn add(txn: &mut Txn, exprs: Vec<Expr>) {
    let mut rule = NftRule::new();
    exprs.into_iter().for_each(|e| rule.push(e));
    txn.add_rule(&CHAIN, &rule, Optional::No);
}

fn tcp(then: Expr) -> Vec<Expr> {
    let tcp = [libc::IPPROTO_TCP.to_le_bytes()[0]];
    vec![expr::meta(libc::NFT_META_L4PROTO, REG), expr::cmp(Cmp::Eq, REG, &tcp), then]
}

fn source() -> Vec<Expr> {
    let ipv4 = [libc::NFPROTO_IPV4.to_le_bytes()[0]];
    vec![
        expr::meta(libc::NFT_META_NFPROTO, REG),
        expr::cmp(Cmp::Eq, REG, &ipv4),
        expr::payload(PayloadBase::Network, 12, 4, REG),
    ]
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn nft_reads_every_expression_as_it_was_meant() {
    let mut socket = namespace();
    let mut txn = begin(libc::NF_INET_LOCAL_IN);
    let seen = Name::of("seen");
    let pairs = Name::of("pairs");
    txn.add_set(&SetSpec { size: 100, timeout_ms: 60_000, ..SetSpec::new(seen, DYNAMIC, IPV4_ADDR) });
    txn.add_set(&SetSpec { size: 50, comment: "two fields", ..SetSpec::new(pairs, DYNAMIC, ADDR_PORT) });
    add(
        &mut txn,
        vec![
            expr::ct(libc::NFT_CT_STATE, REG),
            expr::mask(REG, &2u32.to_ne_bytes()),
            expr::cmp(Cmp::Neq, REG, &[0; 4]),
            expr::verdict(NftVerdict::Accept),
        ],
    );
    add(
        &mut txn,
        vec![
            expr::limit(10, 60, 7, expr::LimitSide::Above),
            expr::log(c"slow down ", 3),
            expr::verdict(NftVerdict::Drop),
        ],
    );
    add(&mut txn, vec![expr::nflog(c"scan", 5, 64), expr::verdict(NftVerdict::Return)]);
    add(&mut txn, tcp(expr::reject_tcp()));
    add(&mut txn, vec![expr::reject_icmpx()]);
    add(&mut txn, vec![expr::connlimit(80, expr::LimitSide::Above), expr::verdict(NftVerdict::Jump(&OTHER))]);
    add(
        &mut txn,
        vec![expr::socket(2, REG), expr::cmp(Cmp::Eq, REG, &[1]), expr::verdict(NftVerdict::Goto(&OTHER))],
    );
    let mut exprs = source();
    exprs.push(expr::dynset(
        &seen,
        0,
        REG,
        30_000,
        expr::DynsetOp::Update,
        Some(expr::limit(1, 1, 5, expr::LimitSide::Above)),
    ));
    exprs.push(expr::counter());
    add(&mut txn, exprs);
    let mut exprs = tcp(expr::counter());
    exprs.pop();
    exprs.extend(source());
    exprs.push(expr::payload(PayloadBase::Transport, 2, 2, REG32 + 1));
    exprs.push(expr::dynset(&pairs, 0, REG, 0, expr::DynsetOp::Add, None));
    add(&mut txn, exprs);
    let mut exprs = tcp(expr::payload(PayloadBase::Transport, 2, 2, REG));
    exprs.push(expr::range(Cmp::Neq, REG, &80u16.to_be_bytes(), &90u16.to_be_bytes()));
    exprs.push(expr::verdict(NftVerdict::Accept));
    add(&mut txn, exprs);
    let mut exprs = source();
    exprs.push(expr::lookup(Cmp::Neq, &seen, 0, REG));
    exprs.push(expr::verdict(NftVerdict::Drop));
    add(&mut txn, exprs);
    txn.commit(&mut socket).unwrap_or_else(|e| panic!("{e}"));

    let text = nft_list();
    for line in [
        "size 100",
        "timeout 1m",
        "flags dynamic,timeout",
        "comment \"two fields\"",
        "type ipv4_addr . inet_service",
        "ct state established accept",
        "limit rate over 10/minute burst 7 packets log prefix \"slow down \" level err drop",
        "log prefix \"scan\" group 5 snaplen 64 return",
        "meta l4proto tcp reject with tcp reset",
        "reject",
        "ct count over 80 jump other",
        "socket wildcard 1 goto other",
        "update @seen { ip saddr timeout 30s limit rate over 1/second } counter packets 0 bytes 0",
        "add @pairs { ip saddr . tcp dport }",
        "tcp dport != 80-90 accept",
        "ip saddr != @seen drop",
    ] {
        assert!(text.contains(line), "{line:?} is not in\n{text}");
    }
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn a_refusal_names_the_object_and_changes_nothing() {
    let mut socket = namespace();
    let mut txn = begin(libc::NF_INET_LOCAL_IN);
    let mut rule = NftRule::new();
    rule.push(expr::lookup(Cmp::Eq, &Name::of("nosuch"), 0, REG));
    txn.add_rule(&CHAIN, &rule, Optional::No);
    let Err(TxnError::Refused(all)) = txn.commit(&mut socket) else { panic!("a set that is not there") };
    assert_eq!((all[0].op, all[0].errno), (Op::Rule(CHAIN, 1, Optional::No), Errno::ENOENT));
    let text = TxnError::Refused(all).to_string();
    assert!(text.starts_with("the kernel refused rule 1 of chain c: No such file or directory"), "{text}");
    assert_eq!(nft_list(), "");

    let long = Name::new("a_name_of_16_chs");
    assert!(long.is_none(), "old kernels refuse it");
    let mut txn = Txn::new(TABLE, 64);
    txn.delete_table();
    assert_eq!(txn.commit(&mut socket).unwrap_err().errno(), Errno::ENOENT);
    assert!(txn.is_empty() && txn.commit(&mut socket).is_ok(), "nothing to do is done");
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn without_privilege_the_error_says_so() {
    drop(namespace());
    let child = std::thread::spawn(|| {
        let mut socket = NlSocket::open(Bus::Netfilter).unwrap();
        // Of this thread alone: the raw call, not the library's, which changes all threads.
        let nobody = 65_534;
        // SAFETY: takes numbers only.
        assert_eq!(unsafe { libc::syscall(libc::SYS_setresuid, nobody, nobody, nobody) }, 0);
        begin(libc::NF_INET_LOCAL_IN).commit(&mut socket).unwrap_err().to_string()
    });
    let text = child.join().unwrap();
    assert!(text.contains("the transaction: Operation not permitted: run it as root"), "{text}");
}

/// Joins or leaves the group of events about nf_tables.
fn listen(socket: &NlSocket, option: i32) {
    let group = libc::NFNLGRP_NFTABLES;
    let fd = std::os::fd::AsRawFd::as_raw_fd(&socket.fd());
    // SAFETY: the descriptor is open, and the kernel reads the four bytes of `group`.
    let rc = unsafe { libc::setsockopt(fd, libc::SOL_NETLINK, option, (&raw const group).cast(), 4) };
    assert_eq!(rc, 0);
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn lost_answers_are_no_failure() {
    let mut socket = namespace();
    // The smallest receive buffer that there is, so full of others' events that no answer fits.
    setsockopt(&socket.fd(), sockopt::RcvBuf, &0).unwrap();
    let mut other = NlSocket::open(Bus::Netfilter).unwrap();
    let set = Name::of("s");
    let mut txn = begin(libc::NF_INET_LOCAL_IN);
    txn.add_set(&SetSpec::new(set, libc::NFT_SET_TIMEOUT, IPV4_ADDR));
    txn.commit(&mut other).unwrap();
    for round in 0..20u8 {
        listen(&socket, libc::NETLINK_ADD_MEMBERSHIP);
        for n in 0..200u8 {
            let key = [10, 0, round, n];
            txn.add_elem(&set, &Elem { key: &key, end: None, timeout: Timeout::Ms(60_000), comment: "" });
        }
        txn.commit(&mut other).unwrap();
        listen(&socket, libc::NETLINK_DROP_MEMBERSHIP);
        let key = [192, 0, 2, round];
        let elem = Elem { key: &key, end: None, timeout: Timeout::Ms(60_000), comment: "mine" };
        txn.add_elem(&set, &elem);
        txn.commit(&mut socket).unwrap_or_else(|e| panic!("{e}"));
        let mut found = false;
        query::element(&mut other, &TABLE, &set, &key, &mut |e| found |= e.comment == "mine").unwrap();
        assert!(found);
    }
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn elements_tell_their_time_and_their_packets() {
    let mut socket = namespace();
    let mut txn = begin(libc::NF_INET_LOCAL_IN);
    let set = Name::of("s");
    txn.add_set(&SetSpec::new(set, DYNAMIC, IPV4_ADDR));
    let mut exprs = source();
    exprs.push(expr::dynset(&set, 0, REG, 90_000, expr::DynsetOp::Update, Some(expr::counter())));
    add(&mut txn, exprs);
    txn.commit(&mut socket).unwrap();
    assert!(Command::new("ip").args(["link", "set", "lo", "up"]).status().unwrap().success());
    let udp = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    for _ in 0..3 {
        udp.send_to(b"x", udp.local_addr().unwrap()).unwrap();
    }
    let mut seen = Vec::new();
    query::elements(&mut socket, &TABLE, &set, &mut || (), &mut |e| {
        seen.push((e.key.to_vec(), e.timeout_ms, e.left_ms > 0 && e.left_ms <= 90_000, e.packets));
    })
    .unwrap();
    assert_eq!(seen, [(vec![127, 0, 0, 1], 90_000, true, Some(3))]);
    assert_eq!(query::set(&mut socket, &TABLE, &Name::of("none"), &mut |_| ()), Ok(false));
}
