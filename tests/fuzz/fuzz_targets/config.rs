//! Any bytes as mef.conf, as a service rule, as a list: no panic, and every problem can be shown.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mef::config::{
    ListKind, ListLine, Ports, duration, examples, list_lines, net, parse_global, parse_service, span,
    written,
};

fuzz_target!(|data: &[u8]| {
    let text = String::from_utf8_lossy(data);
    let (_, mut problems) = parse_global(data);
    let (rule, more) = parse_service("stem", data);
    problems.extend(more);
    problems.extend(examples(&text).1);
    for problem in &problems {
        assert!(problem.col >= 1 && problem.len >= 1);
        let _ = problem.render("file", &text);
    }
    for (pattern, weight) in rule.iter().flat_map(|r| &r.fail) {
        assert!(*weight >= 1 && !pattern.text.is_empty());
        let _ = pattern.problem(0..pattern.text.len(), String::new(), String::new()).render("file", &text);
    }
    let mut entries = 0;
    let counts = list_lines(ListKind::Allow, data, &mut |line| {
        entries += u32::from(matches!(line, ListLine::Entry(..)));
    });
    // A line may have several.
    assert!(counts.good <= entries);
    if let Ok(ports) = Ports::parse(&text) {
        assert_eq!(Ports::parse(&ports.to_string()), Ok(ports));
    }
    if let Ok(secs) = duration(&text) {
        assert_eq!(duration(&written(secs)), Ok(secs));
    }
    if let Ok(n) = net(&text) {
        assert_eq!(net(&n.to_string()), Ok(n));
    }
    let _ = span(&text);
});
