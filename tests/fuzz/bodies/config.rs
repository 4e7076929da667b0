//! Any bytes as mef.conf, as a service rule, as a list: no panic, and every problem can be shown.

use super::texts;
use mef::config::{
    ListKind, ListLine, PortRanges, duration, examples, list_lines, net, parse_global, parse_service, span,
    written,
};

/// What ships, and a list with all that may stand in one.
pub fn seeds() -> Vec<Vec<u8>> {
    texts(&[
        include_str!("../../../rootfs/etc/mef/mef.conf"),
        include_str!("../../../rootfs/etc/mef/rules.d/sshd.conf"),
        include_str!("../../../rootfs/etc/mef/rules.d/webscan.conf"),
        "192.0.2.0/24 # office\nadmin.example force\n2001:db8::/32 until=2026-11-25T21:00:00Z\n\
         10.0.0.1-10.0.0.9\n",
        "22,80-90,udp/53",
        "1w2d3h4m5s",
    ])
}

/// What has to hold of any bytes.
pub fn run(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let (_, mut problems) = parse_global(data);
    let (rule, more) = parse_service("stem", data);
    problems.extend(more);
    problems.extend(examples(&text).1);
    for problem in &problems {
        assert!(problem.col >= 1 && problem.len >= 1);
        let _ = problem.render("file", &text);
    }
    for pattern in rule.iter().flat_map(|r| &r.fail).map(|fail| &fail.text) {
        assert!(!pattern.text.is_empty());
        let _ = pattern.problem(0..pattern.text.len(), String::new(), String::new()).render("file", &text);
    }
    let mut entries = 0;
    let counts = list_lines(ListKind::Allow, data, &mut |line| {
        entries += u32::from(matches!(line, ListLine::Entry(..) | ListLine::Host(..)));
    });
    // A line may have several.
    assert!(counts.good <= entries);
    if let Ok(ports) = PortRanges::parse(&text) {
        assert_eq!(PortRanges::parse(&ports.to_string()), Ok(ports));
    }
    if let Ok(secs) = duration(&text) {
        assert_eq!(duration(&written(secs)), Ok(secs));
    }
    if let Ok(n) = net(&text) {
        assert_eq!(net(&n.to_string()), Ok(n));
    }
    let _ = span(&text);
}
