#![forbid(unsafe_code)]
//! How one list of lines becomes another. Knows nothing of what they say.

/// What becomes of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LineChange {
    /// It is in the old list only.
    Gone,
    /// It is in the new list only.
    New,
}

/// Calls `each` for every line that is in one list only or at another place, in the order of the lists. Lines
/// that are in both once keep their order where most of them do; time and memory grow little faster than the
/// lists.
#[inline(never)]
pub fn lines(old: &[String], new: &[String], each: &mut dyn FnMut(LineChange, &str)) {
    let (mut a, mut b) = (0, 0);
    let mut stay = anchors(old, new);
    stay.push((old.len(), new.len()));
    for (x, y) in stay {
        between(old.get(a..x).unwrap_or_default(), new.get(b..y).unwrap_or_default(), each);
        (a, b) = (x + 1, y + 1);
    }
}

/// Lines between two that stay: equal ones at the start and the end stay, too.
fn between(mut old: &[String], mut new: &[String], each: &mut dyn FnMut(LineChange, &str)) {
    while let (Some((a, old_rest)), Some((b, new_rest))) = (old.split_first(), new.split_first())
        && a == b
    {
        (old, new) = (old_rest, new_rest);
    }
    while let (Some((a, old_rest)), Some((b, new_rest))) = (old.split_last(), new.split_last())
        && a == b
    {
        (old, new) = (old_rest, new_rest);
    }
    old.iter().for_each(|line| each(LineChange::Gone, line));
    new.iter().for_each(|line| each(LineChange::New, line));
}

/// Pairs of places of lines that are once in both lists; the longest run of them that ascends in both.
#[inline(never)]
fn anchors(old: &[String], new: &[String]) -> Vec<(usize, usize)> {
    let (old, new) = (once(old), once(new));
    let mut both: Vec<(usize, usize)> = Vec::new();
    for (text, at) in &old {
        if let Ok(found) = new.binary_search_by(|(other, _)| other.cmp(text)) {
            both.extend(new.get(found).map(|(_, other)| (*at, *other)));
        }
    }
    both.sort_unstable();
    ascending(&both)
}

/// The lines that are in a list once, sorted, with their places.
fn once(lines: &[String]) -> Vec<(&str, usize)> {
    let mut all: Vec<(&str, usize)> =
        lines.iter().enumerate().map(|(at, line)| (line.as_str(), at)).collect();
    all.sort_unstable();
    let mut single = Vec::new();
    for same in all.chunk_by(|a, b| a.0 == b.0) {
        if let [one] = same {
            single.push(*one);
        }
    }
    single
}

/// The longest run whose second numbers ascend, of pairs whose first numbers do.
#[inline(never)]
fn ascending(pairs: &[(usize, usize)]) -> Vec<(usize, usize)> {
    // For every length the run that ends lowest, by its last pair; and before each pair the one it follows.
    let mut ends: Vec<usize> = Vec::new();
    let mut before: Vec<Option<usize>> = Vec::with_capacity(pairs.len());
    for (at, (_, second)) in pairs.iter().enumerate() {
        let len = ends.partition_point(|end| pairs.get(*end).is_some_and(|(_, last)| last < second));
        before.push(len.checked_sub(1).and_then(|shorter| ends.get(shorter)).copied());
        match ends.get_mut(len) {
            Some(end) => *end = at,
            None => ends.push(at),
        }
    }
    let mut run = Vec::with_capacity(ends.len());
    let mut next = ends.last().copied();
    while let Some(at) = next {
        run.extend(pairs.get(at));
        next = before.get(at).copied().flatten();
    }
    run.reverse();
    run
}

#[cfg(test)]
mod tests {
    use super::*;

    fn diff(old: &str, new: &str) -> String {
        let split = |text: &str| text.chars().map(String::from).collect::<Vec<_>>();
        let mut out = String::new();
        lines(&split(old), &split(new), &mut |change, line| {
            out += if change == LineChange::Gone { "-" } else { "+" };
            out += line;
        });
        out
    }

    #[test]
    fn lists_and_their_differences() {
        let cases = [
            ("", "", ""),
            ("abc", "abc", ""),
            ("", "ab", "+a+b"),
            ("ab", "", "-a-b"),
            ("abc", "axc", "-b+x"),
            ("abcd", "abd", "-c"),
            ("abd", "abcd", "+c"),
            ("aab", "ab", "-a"),
            ("aaaa", "aa", "-a-a"),
            ("abcde", "bcdea", "-a+a"),
        ];
        for (old, new, want) in cases {
            assert_eq!(diff(old, new), want, "{old} {new}");
        }
    }

    #[test]
    fn what_is_told_makes_the_new_list_of_the_old_one() {
        let mut rng = fastrand::Rng::with_seed(9);
        for _ in 0..3000 {
            let mut list =
                || (0..rng.usize(0..12)).map(|_| rng.char('a'..='h').to_string()).collect::<Vec<_>>();
            let (old, new) = (list(), list());
            let (mut gone, mut come) = (Vec::new(), Vec::new());
            lines(&old, &new, &mut |change, line| match change {
                LineChange::Gone => gone.push(line.to_owned()),
                LineChange::New => come.push(line.to_owned()),
            });
            let mut a = [old.clone(), come.clone()].concat();
            let mut b = [new.clone(), gone.clone()].concat();
            a.sort();
            b.sort();
            assert_eq!(a, b);
            assert_eq!(gone.is_empty() && come.is_empty(), old == new);
        }
    }
}
