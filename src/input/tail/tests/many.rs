//! A thousand files: every line of each comes once, and one that grows is the only one that is looked at.

use super::super::ready::ReadyNames;
use super::*;

/// How many names are to be looked at next; `None` if all are.
fn ready(b: &TailBench) -> Option<usize> {
    match &b.tail.as_ref().unwrap().ready {
        ReadyNames::Any => None,
        ReadyNames::Only(some) => Some(some.len()),
    }
}

fn name(n: usize) -> String {
    format!("log-{n:04}")
}

fn many(test: &str, count: usize) -> TailBench {
    let mut b = TailBench::new(test);
    (0..count).for_each(|n| b.append(&name(n), "before\n"));
    b.start_with(&["log-*"], Recent { limit: usize::MAX, window: u64::MAX });
    assert_eq!(b.lines(), Vec::<String>::new());
    b
}

#[test]
fn one_that_grows_is_looked_at_alone() {
    let mut b = many("many-one", 300);
    assert_eq!(b.tail.as_ref().unwrap().open_files(), 300);
    assert_eq!(ready(&b), Some(0));
    for n in [0, 7, 299, 7] {
        b.append(&name(n), format!("{n}\n"));
        b.tail.as_mut().unwrap().events();
        assert_eq!(ready(&b), Some(1), "{n}");
        b.expect(&[&n.to_string()]);
        assert_eq!(ready(&b), Some(0), "{n}");
    }
}

#[test]
fn all_may_grow_at_once_and_move_meanwhile() {
    let mut b = many("many-all", 300);
    for round in 0..3 {
        (0..300).for_each(|n| b.append(&name(n), format!("{round}-{n}\n")));
        b.rename(&name(5), &format!("old-{round}"));
        b.append(&format!("old-{round}"), "late\n");
        b.append(&name(5), "new\n");
        let mut want: Vec<String> = (0..300).map(|n| format!("{round}-{n}")).collect();
        want.extend(["late".to_owned(), "new".to_owned()]);
        let mut got = b.lines();
        want.sort_unstable();
        got.sort_unstable();
        assert_eq!(got, want, "{round}");
    }
    fs::remove_file(b.path(&name(9))).unwrap();
    b.drain();
    let names = &b.tail.as_ref().unwrap().names;
    assert!(names.len() == 299 && names.iter().all(|name| name.head.is_some()));
    b.append(&name(299), "still\n");
    b.expect(&["still"]);
}

#[test]
fn a_small_budget_leaves_nobody_out() {
    let mut b = many("many-budget", 100);
    for count in [3, 100] {
        (0..count).for_each(|n| b.append(&name(n), format!("{n}\n")));
        let mut all: Vec<Vec<u8>> = Vec::new();
        for _ in 0..1000 {
            let (tail, got) = (b.tail.as_mut().unwrap(), &mut all);
            tail.drain(clock::now(), 1, &mut |_, item| got.push(block(item).0.to_vec()));
        }
        assert_eq!(all.len(), count);
        assert_eq!(ready(&b).unwrap_or(0), 0);
    }
}
