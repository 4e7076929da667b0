//! Programs that ask again and again without guessing anything, and guessers of the same services.

use super::host::{Host, Lines, sender};

/// The lines of `clients` that begin so: rule, seconds between two lines, and the line.
fn clients(kind: &str) -> Vec<(&'static str, u64, &'static str)> {
    let all = include_str!("clients").lines().filter_map(|line| line.strip_prefix(kind)?.strip_prefix(' '));
    let fields = |line: &'static str| {
        let mut words = line.splitn(3, ' ');
        let mut word = || words.next().unwrap();
        (word(), word().parse().unwrap(), word())
    };
    all.map(fields).collect()
}

fn bans((rule, every, line): (&str, u64, &str), count: u64) -> usize {
    let text = |n: u64| line.replace("{n}", &n.to_string()) + "\n";
    let lines: Lines = (0..count).map(|n| (n * every, text(n))).collect();
    Host::new(&[rule]).read(&lines, sender).len()
}

#[test]
fn who_asks_again_and_again_is_not_banned() {
    let honest = clients("-");
    assert!(honest.len() > 5);
    for client in honest {
        assert_eq!(bans(client, 3600 / client.1), 0, "{client:?}");
    }
}

#[test]
fn who_guesses_is_banned() {
    let guessers = clients("+");
    assert!(guessers.len() > 5);
    for client in guessers {
        assert_eq!(bans(client, 100), 1, "{client:?}");
    }
}
