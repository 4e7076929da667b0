//! The service rules that ship: their own examples, whole sessions, and hostile text.

#[cfg(test)]
#[path = "detect/conf.rs"]
mod conf;
#[cfg(test)]
#[path = "detect/hostile.rs"]
mod hostile;
#[cfg(test)]
#[path = "detect/sessions.rs"]
mod sessions;

use conf::{Conf, hits};

#[test]
fn examples_in_the_rules_are_judged_as_they_say() {
    for name in ["sshd", "dropbear"] {
        let conf = Conf::read(name);
        let mut detector = conf.detector();
        assert!(conf.examples.len() > 30, "{name}: {} examples", conf.examples.len());
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
    }
}

#[test]
fn every_pattern_has_an_example() {
    for name in ["sshd", "dropbear"] {
        let conf = Conf::read(name);
        for (n, _) in conf.fail.iter().enumerate() {
            let mut one = conf.only(n);
            let used =
                conf.examples.iter().any(|(want, line)| want.is_some() && !hits(&mut one, line).is_empty());
            assert!(used, "{name}: no example for {}", conf.fail[n].1);
        }
    }
}
