use super::*;
use crate::sys::nlattr::{MsgBuf, messages};

fn found(run: impl FnOnce(&mut dyn FnMut(IpAddr))) -> Vec<String> {
    let mut all = Vec::new();
    run(&mut |addr| all.push(addr.to_string()));
    all
}

#[test]
fn who_is_at_the_keyboard_stays_protected() {
    let mut before = Protected::default();
    before.add("203.0.113.7".parse().unwrap(), SSH);
    before.add("203.0.113.8".parse().unwrap(), GATEWAY);
    let after = before.again();
    let why = |addr: &str| after.why(&Range::from(addr.parse::<IpAddr>().unwrap()));
    assert_eq!(why("203.0.113.7"), Some(SSH));
    assert_eq!(why("203.0.113.8"), None, "that was the gateway");
}

#[test]
fn what_must_not_be_banned() {
    let mut own = Protected::default();
    own.add("198.51.100.7".parse().unwrap(), OWN);
    own.add("2001:db8::7".parse().unwrap(), SSH);
    own.add("::ffff:203.0.113.1".parse().unwrap(), GATEWAY);
    own.add("fe80::1".parse().unwrap(), GATEWAY);
    let cases: &[(&str, Option<&str>)] = &[
        ("198.51.100.7/32", Some(OWN)),
        ("198.51.100.0/24", Some(OWN)),
        ("198.51.100.99/24", Some(OWN)),
        ("::ffff:198.51.100.7/128", Some(OWN)),
        ("198.51.100.8/32", None),
        ("2001:db8::/64", Some(SSH)),
        ("2001:db8:0:1::/64", None),
        ("203.0.113.1/32", Some(GATEWAY)),
        ("fe80::/64", Some(GATEWAY)),
        ("127.9.9.9/32", Some("loopback")),
        ("126.0.0.0/7", Some("loopback")),
        ("::1/128", Some("loopback")),
        ("0.1.2.3/32", Some("not a host address")),
        ("::/128", Some("not a host address")),
        ("0.0.0.0/0", Some(OWN)),
        ("::/0", Some(SSH)),
        ("::ffff:0:0/96", Some(OWN)),
        ("239.1.1.1/32", Some("multicast")),
        ("ff02::1/128", Some("multicast")),
        ("255.255.255.255/32", Some("broadcast")),
        ("192.0.2.1/32", None),
        ("8.0.0.0/8", None),
    ];
    for wide in ["0.0.0.0/0", "::/0", "::ffff:0:0/96"] {
        assert!(Protected::default().why(&Range::from(wide.parse::<IpNet>().unwrap())).is_some(), "{wide}");
    }
    for (net, want) in cases {
        assert_eq!(own.why(&Range::from(net.parse::<IpNet>().unwrap())), *want, "{net}");
    }
}

#[test]
fn the_peer_of_the_session() {
    let cases: &[(&[u8], &[&str])] = &[
        (b"A=1\0SSH_CONNECTION=192.0.2.1 50000 198.51.100.7 22\0B=2\0", &["192.0.2.1"]),
        (b"SSH_CLIENT=192.0.2.1 50000 22\0", &["192.0.2.1"]),
        (b"SSH_CONNECTION=fe80::1%eth0 5 fe80::2%eth0 22", &["fe80::1"]),
        (b"SSH_CONNECTION=::ffff:192.0.2.1 5 ::ffff:192.0.2.2 22", &["192.0.2.1"]),
        (b"SSH_CONNECTION=UNKNOWN 65535 UNKNOWN 65535\0", &[]),
        (b"SSH_CONNECTION=\0SSH_CLIENT\0", &[]),
        (b"MY_SSH_CONNECTION=192.0.2.1 5\0", &[]),
        (b"SSH_CONNECTION=\xff\xfe 1 2 3\0", &[]),
        (b"", &[]),
    ];
    for (environ, want) in cases {
        assert_eq!(
            found(|each| {
                in_environment(environ, &mut |v| {
                    first_word(v).into_iter().for_each(&mut *each);
                    false
                });
            }),
            *want,
            "{}",
            environ.escape_ascii()
        );
    }
}

#[test]
fn parents_are_asked_up_to_init() {
    let proc = std::env::temp_dir().join(format!("mef-host-{}", std::process::id()));
    let put = |pid: u32, ppid: u32, environ: Option<&str>| {
        let dir = proc.join(pid.to_string());
        std::fs::create_dir_all(&dir).unwrap();
        std::fs::write(dir.join("stat"), format!("{pid} (a) S 1 b) S {ppid} 7 8")).unwrap();
        environ.inspect(|e| std::fs::write(dir.join("environ"), e).unwrap());
    };
    put(50, 40, Some("SUDO_USER=x\0"));
    put(40, 30, None);
    put(30, 1, Some("SSH_CONNECTION=192.0.2.9 5 198.51.100.7 22\0"));
    put(1, 0, Some("SSH_CONNECTION=192.0.2.66 5 198.51.100.7 22\0"));
    // A cycle, as a hostile or racing /proc might show, ends.
    put(60, 61, None);
    put(61, 60, None);
    let peers = |pid| {
        found(|each| {
            ancestors(&proc, pid, &mut |v| {
                first_word(v).into_iter().for_each(&mut *each);
                false
            });
        })
    };
    assert_eq!(peers(50), ["192.0.2.9"]);
    assert!(peers(60).is_empty());
    assert!(peers(7000).is_empty());
    std::fs::remove_dir_all(&proc).unwrap();
}

#[test]
fn name_servers() {
    let text = b"# nameserver 192.0.2.9\nnameserver 192.0.2.1\n\tnameserver\t2001:db8::53 # x\n\
        nameserver\n\
                 nameserver fe80::1%eth0\nnameservers 192.0.2.8\nnameserver \xff\nsearch nameserver \
                 192.0.2.7";
    assert_eq!(found(|each| resolvers(text, each)), ["192.0.2.1", "2001:db8::53", "fe80::1"]);
}

#[test]
fn gateways_of_default_routes_only() {
    let mut wire = MsgBuf::default();
    for (dst_len, last) in [(0u8, 1u8), (8, 2)] {
        let m = wire.start(24, 0, 1);
        wire.put(&[2, dst_len, 0, 0, 254, 0, 0, 1, 0, 0, 0, 0]);
        wire.attr(RTA_GATEWAY, &[192, 0, 2, last]);
        let paths = wire.nest(RTA_MULTIPATH);
        for hop in [3, 4] {
            let [a, b] = 16_u16.to_ne_bytes();
            wire.put(&[a, b, 0, 0, 1, 0, 0, 0]);
            wire.attr(RTA_GATEWAY, &[192, 0, 2, hop]);
        }
        wire.end(paths);
        wire.attr(RTA_VIA, &[&[10, 0][..], &Ipv6Addr::LOCALHOST.octets()].concat());
        wire.finish(m);
    }
    let all = found(|each| messages(wire.bytes()).for_each(|m| gateways(m, each)));
    assert_eq!(all, ["192.0.2.1", "::1", "192.0.2.3", "192.0.2.4"]);
    let whole = wire.bytes().to_vec();
    let mut rng = fastrand::Rng::with_seed(4);
    for _ in 0..20_000 {
        let mut bytes = whole.clone();
        let at = rng.usize(16..bytes.len());
        bytes[at] = rng.u8(..);
        messages(&bytes).for_each(|m| gateways(m, &mut |_| ()));
    }
}
