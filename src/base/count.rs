#![forbid(unsafe_code)]
//! Counts with their nouns, as people write them: 1 ban, 2 bans, 3 addresses, 4 entries.

use std::fmt;

/// A count with its noun, which is given in the singular.
#[derive(Clone, Copy)]
pub struct Count(u64, &'static str);

/// That many of these.
pub fn count(n: impl TryInto<u64>, noun: &'static str) -> Count {
    Count(n.try_into().unwrap_or(u64::MAX), noun)
}

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (stem, end) = match (self.0, self.1) {
            (1, noun) => (noun, ""),
            (_, noun) if noun.ends_with('s') => (noun, "es"),
            (_, noun) if noun.ends_with("ey") => (noun, "s"),
            (_, noun) => noun.strip_suffix('y').map_or((noun, "s"), |stem| (stem, "ies")),
        };
        write!(f, "{} {stem}{end}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_noun_agrees_with_the_count() {
        for (n, noun, text) in [
            (0, "ban", "0 bans"),
            (1, "ban", "1 ban"),
            (2, "service rule", "2 service rules"),
            (1, "address", "1 address"),
            (3, "address", "3 addresses"),
            (1, "entry", "1 entry"),
            (4, "entry", "4 entries"),
            (31, "key", "31 keys"),
            (11, "time", "11 times"),
        ] {
            assert_eq!(count(n, noun).to_string(), text);
        }
        assert_eq!(count(usize::MAX, "hit").to_string(), format!("{} hits", usize::MAX));
    }
}
