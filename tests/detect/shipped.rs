//! The service rules that ship: their own examples, whole sessions, and hostile text.

use super::conf::{Conf, hits, successes};

#[test]
fn examples_in_the_rules_are_judged_as_they_say() {
    for conf in Conf::all() {
        let name = &conf.name;
        let mut detector = conf.detector();
        let no_hits = conf.examples.iter().filter(|e| e.0.is_none()).count();
        assert!(no_hits > 1 && conf.examples.len() > no_hits, "{name}: {} examples", conf.examples.len());
        let wrong: Vec<String> = conf
            .examples
            .iter()
            .filter_map(|(want, line)| {
                let got = hits(&mut detector, line);
                let got: Vec<_> = got.iter().map(|h| h.addr).collect();
                (got != want.iter().copied().collect::<Vec<_>>())
                    .then(|| format!("want {want:?}, got {got:?}: {}", line.escape_ascii()))
            })
            .collect();
        assert!(wrong.is_empty(), "{name}:\n{}", wrong.join("\n"));
        for (want, line) in &conf.successes {
            assert_eq!(successes(&mut detector, line), [*want], "{name}: {}", line.escape_ascii());
            assert_eq!(hits(&mut detector, line), [], "{name}: {}", line.escape_ascii());
        }
        for (_, line) in &conf.examples {
            assert!(successes(&mut detector, line).is_empty(), "{name}: {}", line.escape_ascii());
        }
    }
}

#[test]
fn every_pattern_has_an_example() {
    for conf in Conf::all() {
        let name = &conf.name;
        for (n, text) in conf.success.iter().enumerate() {
            let mut one = conf.only_success(n);
            let used = conf.successes.iter().any(|(_, line)| !successes(&mut one, line).is_empty());
            assert!(used, "{name}: no example for {text}");
        }
        for (n, _) in conf.fail.iter().enumerate() {
            let mut one = conf.only(n);
            let used =
                conf.examples.iter().any(|(want, line)| want.is_some() && !hits(&mut one, line).is_empty());
            assert!(used, "{name}: no example for {}", conf.fail[n].1);
        }
    }
}

#[test]
fn all_rules_together_are_small() {
    let rules: Vec<_> = Conf::all().iter().map(|conf| conf.rule(|_| true)).collect();
    let size = |rule: &mef::detect::DetectRule| {
        let patterns = rule.fail.iter().map(|f| &f.0).chain(&rule.ignore);
        patterns.map(|p| p.heap_size() + size_of_val(p)).sum::<usize>()
    };
    let detectors: Vec<_> = rules.into_iter().map(|rule| mef::detect::Detector::new(vec![rule])).collect();
    let rules = || detectors.iter().flat_map(mef::detect::Detector::rules);
    let mut sizes: Vec<_> = rules().map(|rule| (size(rule), rule.name.clone())).collect();
    // As many as can be on at once, the largest of all.
    sizes.sort();
    let total: usize = sizes.iter().rev().take(mef::detect::MAX_RULES).map(|s| s.0).sum();
    // The idle daemon has 420 kB with all of them on; those that are off cost nothing.
    assert!(total < 114 * 1024, "{total} bytes: {sizes:?}");
}
