use super::*;
use crate::ban::FloodLimits;
use crate::base::clock::Mono;

fn options() -> Options {
    let limits = FloodLimits { syn: (30, 100), new: (20, 50), conns: 7 };
    let scan = ScanOptions {
        limit: 10,
        interval: 300,
        bantime: 600,
        udp: false,
        interfaces: None,
        excluded: vec![IfName::new("lo").unwrap()],
        listening: true,
        ports: vec![(100, 140)],
        calm_until: Mono(0),
    };
    let flood = FloodOptions { ports: vec![(80, 80, limits)], drop: false, timeout: 60 };
    Options { scan: Some(scan), flood: Some(flood), ..Options::default() }
}

#[test]
fn a_scan_is_counted_by_sets_alone() {
    let options = Options { flood: None, ..options() };
    let text = Packets::new(&options, Capabilities::NONE, Family::V4, 64).write(0);
    let rules: Vec<&str> = text.lines().filter(|line| line.starts_with("-A mef_count4")).collect();
    assert_eq!(
        rules,
        [
            "-A mef_count4 -m set --match-set mef_scan_seen4 src,dst -j RETURN",
            "-A mef_count4 -j SET --add-set mef_scan_seen4 src,dst --timeout 300",
            "-A mef_count4 -m set ! --match-set mef_scan_seen4 src,dst -j RETURN",
            "-A mef_count4 -j SET --add-set mef_scan_rate4 src --timeout 300",
            "-A mef_count4 -m set --match-set mef_scan_rate4 src --packets-gt 11 -g mef_caught4",
        ]
    );
    assert!(text.contains("-A mef_look -p tcp -m tcp --dport 100:140 -j RETURN\n"), "{text}");
    assert!(!text.contains("hashlimit") && !text.contains("$") && !text.contains('@'), "{text}");
    // Nobody tracks connections for the sake of that.
    assert!(!text.contains("-I INPUT 1 -p udp") && !text.contains("-I PREROUTING"), "{text}");
}

#[test]
fn hashlimit_is_asked_about_those_alone_that_there_is_room_for() {
    let options = options();
    let text = Packets::new(&options, Capability::Reports.into(), Family::V6, 64).write(0);
    let limits: Vec<&str> = text.lines().filter(|line| line.contains("-m hashlimit")).collect();
    assert_eq!(limits.len(), 4, "{text}");
    for line in limits {
        assert!(line.contains("-m set --match-set mef_flood_"), "{line}");
        let name = line.split("--hashlimit-name ").nth(1).unwrap().split(' ').next().unwrap();
        assert!(name.len() <= 15, "{name}");
    }
    assert!(!text.contains("NFLOG"));
    assert!(text.contains("-A mef_syn -m set --match-set mef_single6 src -g mef_syns\n"), "{text}");
}

#[test]
fn what_is_off_leaves_nothing() {
    let text = Packets::new(&Options::default(), Capabilities::NONE, Family::V4, 64).write(SCAN_TCP);
    assert!(text.contains("-D INPUT -p tcp") && !text.contains("-A ") && !text.contains("-I "), "{text}");
    let made = text.lines().filter(|line| line.starts_with(':')).count();
    assert_eq!(text.lines().filter(|line| line.starts_with("-X ")).count(), made);
}

#[test]
fn the_likeliest_jumps_come_first() {
    assert_eq!(guesses(0b1111, 0b11, 4).0[0], 0b1111);
    assert_eq!(guesses(0, 0b11, 2), ([0b11, 0, 0, 0, 0], true));
    assert_eq!(guesses(0b1111, 0b11, 0).0[0], 0);
    assert!(!guesses(0, 0b11, 5).1);
}
