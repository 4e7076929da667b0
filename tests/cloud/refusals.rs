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
        let text = "server 127.0.0.1 5300\nzone web1.r.cloud.example\nadd 4.3.2.1.web1.r.cloud.example 60 \
        TXT x\n\
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
