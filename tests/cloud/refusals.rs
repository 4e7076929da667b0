//! What a member's key may do on a server that has the printed configuration, and what it may not.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use super::servers::{Cloud, KINDS, Kind, hour};
use crate::common::Net;
use mef::base::clock::Wall;
use mef::cloud::keyfile;
use mef::cloud::session::{Session, Trouble};
use mef::dns::name::Name;
use mef::dns::tsig::Key;
use mef::sys::clock;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};

/// Names with texts.
type Records<'r> = &'r [(&'r str, &'r str)];

/// Three members on a server.
fn three(kind: Kind) -> (Net, Cloud) {
    let mut net = Net::new();
    let mut cloud = Cloud::new(&net, kind);
    for (name, group) in [("web1", "acme"), ("web2", "beta"), ("web3", "gamma")] {
        cloud.add(&net, name, group);
    }
    cloud.start(&mut net, 0);
    (net, cloud)
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn a_key_writes_txt_below_its_own_name_and_nothing_else() {
    for kind in KINDS {
        let (net, cloud) = three(kind);
        let key = Cloud::key(&net, "web1");
        let own = ("4.3.2.1.web1", "s=sshd t=1");
        assert_eq!(cloud.update(&key, "web1", &[own, ("5.3.2.1.web1", "s=x t=2")]), Ok(()), "{kind:?}");
        let before = cloud.zone(&net, "web1.r");
        assert_eq!(before.len(), 2, "{kind:?}: {before:?}");
        let cases: &[(&str, &str, Records<'_>)] = &[
            ("another member's zone", "web2", &[("4.3.2.1.web2", "x")]),
            ("another member's name in its own zone", "web1", &[("4.3.2.1.web2", "x")]),
            ("the apex", "web1", &[("web1", "x")]),
            ("an A record", "web1", &[("6.3.2.1.web1", "")]),
            ("a batch with one foreign name", "web1", &[("7.3.2.1.web1", "x"), ("7.3.2.1.web2", "x")]),
            ("a batch with the apex", "web1", &[("7.3.2.1.web1", "x"), ("web1", "x")]),
            ("a batch with one A record", "web1", &[("7.3.2.1.web1", "x"), ("8.3.2.1.web1", "")]),
        ];
        for (what, zone, records) in cases {
            let refused = cloud.update(&key, zone, records);
            let Err(Trouble::Refused(..)) = refused else { panic!("{kind:?}, {what}: {refused:?}") };
            let words = refused.unwrap_err().to_string();
            assert!(words.starts_with("the server") || words.starts_with("a name"), "{what}: {words}");
        }
        assert_eq!(cloud.zone(&net, "web1.r"), before, "{kind:?}: nothing of a refused batch is there");
        assert_eq!(cloud.zone(&net, "web2.r").len(), 0, "{kind:?}");
        // Nor may it read others' zones, or its own.
        for zone in ["web1.r", "web2.r", "bl"] {
            let name = Name::parse(format!("{zone}.cloud.example").as_bytes()).unwrap();
            let result = Session::open(cloud.addr, &key).unwrap().transfer(&name, &mut |_| Ok(()));
            assert!(matches!(result, Err(Trouble::Refused(..))), "{kind:?} {zone}: {result:?}");
        }
    }
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn strangers_and_wrong_secrets_are_refused_and_told() {
    for kind in KINDS {
        let (net, cloud) = three(kind);
        let records = [("4.3.2.1.web1", "x")];
        let name = |text: &str| Name::parse(text.as_bytes()).unwrap();
        let wrong = Key::new(name("web1"), keyfile::secret()).unwrap();
        let told = cloud.update(&wrong, "web1", &records).unwrap_err();
        assert!(matches!(told, Trouble::Refused(_, 16)), "{kind:?}: {told:?}");
        assert!(told.to_string().contains("another secret for this key (BADSIG)"), "{told}");
        let stranger = Key::new(name("stranger"), keyfile::secret()).unwrap();
        let told = cloud.update(&stranger, "web1", &records).unwrap_err();
        assert!(matches!(told, Trouble::Refused(_, 17)), "{kind:?}: {told:?}");
        assert!(told.to_string().contains("does not know this key"), "{told}");
        assert_eq!(cloud.zone(&net, "web1.r").len(), 0, "{kind:?}");
        // And without any key.
        let text = "server 127.0.0.1\nzone web1.r.cloud.example\nadd 4.3.2.1.web1.r.cloud.example 60 TXT x\n\
            send\n";
        assert_ne!(net.input("nsupdate", &["-v"], text.as_bytes()).status, 0, "{kind:?}");
        assert_eq!(cloud.zone(&net, "web1.r").len(), 0, "{kind:?}");
        // A zone that is not there.
        let told = cloud.update(&Cloud::key(&net, "web1"), "web9", &[("1.2.3.4.web9", "x")]).unwrap_err();
        assert!(matches!(told, Trouble::Refused(..)), "{kind:?}: {told:?}");
        assert_eq!(cloud.update(&Cloud::key(&net, "web1"), "web1", &records), Ok(()), "{kind:?}");
    }
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn a_wrong_clock_is_told_with_the_servers_time() {
    for kind in KINDS {
        let mut net = Net::new();
        let mut cloud = Cloud::new(&net, kind);
        cloud.add(&net, "web1", "acme");
        cloud.start(&mut net, 0);
        let clocks: [fn() -> Wall; 2] = [|| Wall(clock::wall().0 - 3600), || Wall(clock::wall().0 + 3600)];
        for wrong in clocks {
            let records = [("4.3.2.1.web1", "x")];
            let told = cloud.update_by(wrong, &Cloud::key(&net, "web1"), "web1", &records).unwrap_err();
            let Trouble::Clock(time) = told else { panic!("{kind:?}: {told:?}") };
            assert!(time.0.abs_diff(clock::wall().0) < 300, "{kind:?}: {time:?}");
            assert!(told.to_string().contains("(BADTIME)"));
            assert_eq!(cloud.zone(&net, "web1.r").len(), 0, "{kind:?}");
        }
    }
}

/// Between us and the server: changes one bit of what the server says, `at` bytes after the begin.
fn meddler(server: std::net::SocketAddr, at: usize) -> std::net::SocketAddr {
    let door = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = door.local_addr().unwrap();
    std::thread::spawn(move || {
        let (mut near, _) = door.accept().unwrap();
        let mut far = TcpStream::connect(server).unwrap();
        let (mut asks, mut asked) = (near.try_clone().unwrap(), far.try_clone().unwrap());
        std::thread::spawn(move || std::io::copy(&mut asks, &mut asked));
        let (mut room, mut passed) = ([0; 4096], 0);
        while let Ok(length @ 1..) = far.read(&mut room) {
            if (passed..passed + length).contains(&at) {
                room[at - passed] ^= 1 << (at % 8);
            }
            passed += length;
            if near.write_all(&room[..length]).is_err() {
                break;
            }
        }
        let _ = near.shutdown(std::net::Shutdown::Both);
        let _ = far.shutdown(std::net::Shutdown::Both);
    });
    addr
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn a_transfer_of_many_messages_is_believed_only_if_every_byte_is_the_servers() {
    for kind in KINDS {
        let mut net = Net::new();
        let mut cloud = Cloud::new(&net, kind);
        cloud.add(&net, "web1", "acme");
        let file = "server/web1.r.cloud.example.zone";
        let mut text = net.read(file);
        for n in 0..3000 {
            text +=
                &format!("{}.{}.3.11.web1.r.cloud.example. 60 IN TXT \"s=sshd t={n}\"\n", n % 256, n / 256);
        }
        net.write(file, &text);
        cloud.start(&mut net, 0);
        let whole = cloud.zone(&net, "web1.r");
        assert_eq!(whole.len(), 3000, "{kind:?}");
        let key = Cloud::key(&net, "operator");
        let zone = Name::parse(b"web1.r.cloud.example").unwrap();
        let transfer = |addr| {
            let (mut count, mut session) = (0, Session::open(addr, &key).unwrap());
            let counted = session.transfer(&zone, &mut |record| {
                count += usize::from(record.kind == mef::dns::packet::kind::TXT);
                Ok(())
            });
            counted.map(|()| count)
        };
        assert_eq!(transfer(meddler(cloud.addr, usize::MAX)), Ok(3000), "{kind:?}: nobody meddles");
        // Of a length, the message goes on for longer, and the end of what comes is waited for in vain: not
        // tried. Everything else, from the header to the signatures.
        for at in (2..60).chain((61..60_000).step_by(1237)) {
            let result = transfer(meddler(cloud.addr, at));
            assert!(result.is_err(), "{kind:?}: byte {at}: {result:?}");
        }
    }
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn a_quota_ends_what_a_member_can_write() {
    for kind in KINDS {
        let mut net = Net::new();
        let mut cloud = Cloud::new(&net, kind);
        cloud.add(&net, "web1", "acme");
        match kind {
            Kind::Knot => cloud.edit("zone-max-size: 1M", "zone-max-size: 1000"),
            Kind::Bind => cloud.edit("max-records 12000", "max-records 12"),
        }
        cloud.start(&mut net, 0);
        let key = Cloud::key(&net, "web1");
        let text = format!("s=sshd t={}", hour());
        let mut refused = None;
        for n in 0..40 {
            let name = format!("{n}.3.2.1.web1");
            if let Err(trouble) = cloud.update(&key, "web1", &[(&name, &text)]) {
                refused = Some((n, trouble));
                break;
            }
        }
        let (n, trouble) = refused.unwrap();
        assert!(
            (5..30).contains(&n) && matches!(trouble, Trouble::Refused(_, 0)),
            "{kind:?}: {n} {trouble:?}"
        );
        assert!(trouble.to_string().contains("quota"), "{trouble}");
        assert_eq!(cloud.zone(&net, "web1.r").len(), n, "{kind:?}");
    }
}
