#![forbid(unsafe_code)]
//! What a rule with engine=webscan says: the windows and thresholds of what one address asks web servers for.
//! Between the reader of the configuration and the engine; decides nothing but which HTTP statuses are meant.

use super::clock::Span;

/// A set of HTTP statuses from 100 to 611, a bit for each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Statuses(pub [u64; 8]);

impl Statuses {
    /// Any status, and none.
    pub const ALL: Statuses = Statuses([u64::MAX; 8]);
    /// No status.
    pub const NONE: Statuses = Statuses([0; 8]);

    /// Adds those from `first` to `last`.
    pub fn add(&mut self, first: u16, last: u16) {
        for status in first..=last {
            let bit = usize::from(status.saturating_sub(100));
            if let Some(word) = self.0.get_mut(bit / 64) {
                *word |= 1 << (bit % 64);
            }
        }
    }

    /// Whether `status` is one of them. A status that no server sends is only in `ALL`.
    #[must_use]
    pub fn has(&self, status: u16) -> bool {
        let bit = usize::from(status.wrapping_sub(100));
        self.0.get(bit / 64).map_or(*self == Statuses::ALL, |word| word >> (bit % 64) & 1 == 1)
    }
}

/// When an address has asked for too much: every condition that is not 0 must be met within one window.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Threshold {
    /// N of `rule_N_…`.
    pub number: u32,
    /// For people; letters, digits and `-`, or empty.
    pub name: String,
    /// Length of the window, seconds.
    pub window: u32,
    /// Requests.
    pub requests: u32,
    /// Different paths.
    pub paths: u32,
    /// Different user agents.
    pub agents: u32,
    /// The statuses that the next three are about.
    pub statuses: Statuses,
    /// The same as text.
    pub status_text: String,
    /// Requests with such a status.
    pub matching: u32,
    /// Different paths among these.
    pub matching_paths: u32,
    /// Different names at the top of the site among these.
    pub matching_tops: u32,
    /// Percent that these are of all requests.
    pub share: u32,
    /// Only tell.
    pub detect: bool,
    /// How long a first ban lasts; none: as the rule says.
    pub bantime: Option<Span>,
}

/// The sections of a rule with engine=webscan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WebscanSettings {
    /// In the order of their first mention.
    pub thresholds: Vec<Threshold>,
    /// Addresses observed at a time.
    pub addresses: u32,
    /// Seconds after which an address that asks for nothing is forgotten.
    pub idle: u32,
    /// Paths that do not count; `*` stands for anything.
    pub skip_paths: Vec<String>,
    /// User agents whose requests do not count.
    pub skip_agents: Vec<String>,
}

impl WebscanSettings {
    /// The longest window, seconds.
    #[must_use]
    pub fn longest(&self) -> u32 {
        self.thresholds.iter().map(|t| t.window).max().unwrap_or(0)
    }
}

/// Whether `text` fits a pattern in which `*` stands for anything, and everything else for itself. The time
/// is at worst the product of both lengths.
#[must_use]
pub fn fits(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t) = (0, 0);
    // Behind the last star, and where the text went on from there.
    let mut again: Option<(usize, usize)> = None;
    while let Some(&byte) = text.get(t) {
        match pattern.get(p) {
            Some(b'*') => {
                p += 1;
                again = Some((p, t));
            }
            Some(&want) if want == byte => (p, t) = (p + 1, t + 1),
            _ => {
                let Some((star, from)) = again else { return false };
                again = Some((star, from + 1));
                (p, t) = (star, from + 1);
            }
        }
    }
    pattern.get(p..).is_some_and(|rest| rest.iter().all(|&b| b == b'*'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stars_stand_for_anything() {
        let cases = [
            ("", "", true),
            ("", "a", false),
            ("*", "", true),
            ("a*", "abc", true),
            ("*c", "abc", true),
            ("*.png", "/a.png/b.png", true),
            ("*.png", "/a.png/b", false),
            ("/a*b*c", "/aXbYbZc", true),
            ("/a*b*c", "/aXbYbZ", false),
            ("a", "a*", false),
            ("a**", "a", true),
        ];
        for (pattern, text, want) in cases {
            assert_eq!(fits(pattern.as_bytes(), text.as_bytes()), want, "{pattern} {text}");
        }
    }

    #[test]
    fn statuses_are_those_that_were_added() {
        let mut some = Statuses::NONE;
        some.add(404, 404);
        some.add(500, 599);
        let has: Vec<u16> = (0..2000).filter(|&s| some.has(s)).collect();
        let want: Vec<u16> = [404].into_iter().chain(500..600).collect();
        assert_eq!(has, want);
        assert!([0, 99, 100, 611, 612, u16::MAX].iter().all(|&s| Statuses::ALL.has(s)));
    }
}
