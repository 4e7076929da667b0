//! Rules as bytes: what they are read to, and that no other bytes do harm.

use super::{rule, sets};
use crate::base::range::Family;
use crate::plan::{PacketVerdict, Rule, ct};
use crate::sys::nlattr::MsgBuf;

/// Appends an expression whose attributes `fill` writes.
fn expr(out: &mut MsgBuf, name: &str, fill: &dyn Fn(&mut MsgBuf)) {
    let open = out.nest(1);
    out.attr_str(1, name);
    let data = out.nest(2);
    fill(out);
    out.end(data);
    out.end(open);
}

fn data(out: &mut MsgBuf, kind: u16, value: &[u8]) {
    let nest = out.nest(kind);
    out.attr(1, value);
    out.end(nest);
}

fn numbers(out: &mut MsgBuf, all: &[(u16, u32)]) {
    all.iter().for_each(|&(kind, value)| out.attr_be32(kind, value));
}

fn cmp(out: &mut MsgBuf, op: u32, value: &[u8]) {
    expr(out, "cmp", &|out| {
        numbers(out, &[(1, 1), (2, op)]);
        data(out, 3, value);
    });
}

fn accept(out: &mut MsgBuf) {
    expr(out, "immediate", &|out| {
        numbers(out, &[(1, 0)]);
        let nest = out.nest(2);
        let verdict = out.nest(2);
        numbers(out, &[(1, 1)]);
        out.end(verdict);
        out.end(nest);
    });
}

fn states(out: &mut MsgBuf, mask: u32) {
    expr(out, "ct", &|out| numbers(out, &[(1, 1), (2, 0)]));
    expr(out, "bitwise", &|out| {
        numbers(out, &[(1, 1), (2, 1), (3, 4)]);
        data(out, 4, &mask.to_ne_bytes());
        data(out, 5, &[0; 4]);
    });
    cmp(out, 1, &[0; 4]);
}

/// `ip saddr 192.0.2.0/24 tcp dport @ports ct state new limit rate 5/second log prefix "x" accept`
fn whole(out: &mut MsgBuf) {
    expr(out, "meta", &|out| numbers(out, &[(1, 1), (2, 15)]));
    cmp(out, 0, &[2]);
    expr(out, "payload", &|out| numbers(out, &[(1, 1), (2, 1), (3, 12), (4, 3)]));
    cmp(out, 0, &[192, 0, 2]);
    expr(out, "meta", &|out| numbers(out, &[(1, 1), (2, 16)]));
    cmp(out, 0, &[6]);
    expr(out, "payload", &|out| numbers(out, &[(1, 1), (2, 2), (3, 2), (4, 2)]));
    expr(out, "lookup", &|out| {
        out.attr_str(1, "ports");
        numbers(out, &[(2, 1)]);
    });
    states(out, 8);
    expr(out, "limit", &|out| {
        out.attr_be64(1, 5);
        out.attr_be64(2, 1);
        numbers(out, &[(3, 5), (4, 0), (5, 0)]);
    });
    expr(out, "log", &|out| out.attr_str(2, "x"));
    accept(out);
}

fn known_sets(message: &[u8], elements: &[u8]) -> Vec<sets::ListedSet> {
    let mut all: Vec<sets::ListedSet> =
        sets::set(message, b"t", sets::SetOwner::Others).into_iter().collect();
    for set in &mut all {
        sets::elements(elements, set);
        sets::finish(set);
        let _ = sets::named(set, sets::SetOwner::Others, &mut Vec::new());
    }
    all
}

fn set_messages() -> (MsgBuf, MsgBuf) {
    let (mut set, mut elements) = (MsgBuf::default(), MsgBuf::default());
    set.attr_str(1, "t");
    set.attr_str(2, "ports");
    numbers(&mut set, &[(3, 4), (4, 13), (5, 2)]);
    let list = elements.nest(3);
    for (key, end) in [(80u16, false), (90, true), (443, false), (444, true)] {
        let one = elements.nest(1);
        data(&mut elements, 1, &key.to_be_bytes());
        numbers(&mut elements, if end { &[(3, 1)] } else { &[] });
        elements.end(one);
    }
    elements.end(list);
    (set, elements)
}

fn read(sets: &[sets::ListedSet], expressions: &[u8], userdata: &[u8]) -> crate::plan::listed::ListedRule {
    let context =
        rule::Context { family: None, of: crate::plan::TableOf::Packets, sets, interface: |_| None };
    rule::read(&context, expressions, userdata)
}

#[test]
fn a_rule_is_read_as_it_is() {
    let (set, elements) = set_messages();
    let sets = known_sets(set.bytes(), elements.bytes());
    let mut bytes = MsgBuf::default();
    whole(&mut bytes);
    let listed = read(&sets, bytes.bytes(), b"\0\x03hi\0");
    assert_eq!(
        listed.text,
        "meta nfproto ipv4 ip saddr 192.0.2.0/24 meta l4proto tcp tcp dport @ports \
         ct state & 0x00000008 != 0x00000000 limit rate 5 in 1 s burst 5 log prefix \"x\" accept comment \
         \"hi\""
    );
    let part = &listed.parts.unwrap()[0].rule;
    assert_eq!((part.family, part.proto, part.ct), (Some(Family::V4), Some(6), ct::NEW));
    assert_eq!((part.log.as_deref(), part.comment.as_str()), (Some("x"), "hi"));
    assert_eq!(part.limit.map(|l| (l.rate.packets, l.rate.per, l.burst)), Some((5, 1, 5)));
    let plain = Rule::new(PacketVerdict::Accept);
    assert_eq!((part.verdict, &part.sport, &part.iif), (plain.verdict, &plain.sport, &plain.iif));
    assert!(format!("{:?} {:?}", part.src, part.dport).contains("Set(ports)"));
}

#[test]
fn what_comes_too_late_or_twice_is_no_rule() {
    type Write = fn(&mut MsgBuf);
    let log: Write = |out| expr(out, "log", &|out| out.attr_str(2, "x"));
    let cases: &[(&str, &[Write])] = &[
        ("a match behind a log", &[log, |out| states(out, 8), accept]),
        ("two logs", &[log, log, accept]),
        ("something behind the verdict", &[accept, log]),
        ("a register that nothing was loaded into", &[|out| cmp(out, 0, &[1]), accept]),
        ("a state that is not known", &[|out| states(out, 128), accept]),
        ("no state at all", &[|out| states(out, 0), accept]),
        ("an expression of tomorrow", &[|out| expr(out, "later", &|_| ()), accept]),
        ("nothing but a name", &[|out| expr(out, "meta", &|_| ()), accept]),
        (
            "a value that is too long",
            &[
                |out| expr(out, "meta", &|out| numbers(out, &[(1, 1), (2, 6)])),
                |out| cmp(out, 0, b"eth0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0"),
                accept,
            ],
        ),
    ];
    for (name, expressions) in cases {
        let mut bytes = MsgBuf::default();
        expressions.iter().for_each(|write| write(&mut bytes));
        assert!(read(&[], bytes.bytes(), &[]).parts.is_err(), "{name}");
    }
}

#[test]
fn damaged_bytes_do_no_harm() {
    let (set, elements) = set_messages();
    let mut bytes = MsgBuf::default();
    whole(&mut bytes);
    let mut rng = fastrand::Rng::with_seed(31);
    let damaged = |rng: &mut fastrand::Rng, bytes: &[u8]| {
        let mut bytes = bytes.to_vec();
        for _ in 0..rng.usize(0..4) {
            let at = rng.usize(0..bytes.len());
            bytes[at] = if rng.bool() { rng.u8(..) } else { rng.u8(0..20) };
        }
        bytes.truncate(bytes.len() - if rng.u8(0..4) == 0 { rng.usize(0..bytes.len()) } else { 0 });
        bytes
    };
    let mut whole = 0;
    for _ in 0..50_000 {
        let sets = known_sets(&damaged(&mut rng, set.bytes()), &damaged(&mut rng, elements.bytes()));
        let userdata = damaged(&mut rng, b"\0\x03hi\0\x4d\x04\0\0\0\x01");
        let listed = read(&sets, &damaged(&mut rng, bytes.bytes()), &userdata);
        assert!(!listed.text.chars().any(char::is_control), "{:?}", listed.text);
        whole += usize::from(listed.parts.is_ok());
    }
    assert!(whole > 1000, "{whole}");
}
