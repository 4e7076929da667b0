#![forbid(unsafe_code)]
//! One attempt, one count: a service often writes several lines about the same attempt.
//!
//! Patterns of weight 0 match lines that accompany others (`Invalid user …`, then `Failed password …`, then
//! `Connection closed …`, all by the process that serves the connection). Such a line counts once if it is
//! all that this process has written about that address, and nothing otherwise. So a connection counts as
//! often as it was caught trying, and at least once. Must not know lines or patterns.

use std::net::IpAddr;

/// Connections remembered, by sets of which each holds as many as there are `WAYS`. One that was forgotten
/// may count once too often: that needs as many others of its set at the same time, each with a hit.
const SETS: usize = 16;
const WAYS: usize = 4;

#[derive(Clone, Copy)]
struct LoggedConnection {
    addr: IpAddr,
    pid: u32,
    rule: u8,
    /// Counted only for a line that accompanies: the first line proper is what that count was for.
    advance: bool,
}

/// The connections of a set that last had a hit.
#[derive(Clone, Copy)]
struct AttemptSet {
    ring: [Option<LoggedConnection>; WAYS],
    next: usize,
}

/// The connections that last had a hit.
pub(super) struct Attempts {
    sets: [AttemptSet; SETS],
}

impl Attempts {
    pub(super) fn new() -> Attempts {
        Attempts { sets: [AttemptSet { ring: [None; WAYS], next: 0 }; SETS] }
    }

    /// What a hit of `weight` counts for. Without a process each line stands for itself.
    pub(super) fn count(&mut self, rule: u8, pid: Option<u32>, addr: IpAddr, weight: u8) -> u8 {
        let Some(pid) = pid else { return weight.max(1) };
        let last = match addr {
            IpAddr::V4(v4) => v4.octets()[3],
            IpAddr::V6(v6) => v6.octets()[7],
        };
        // Whoever aims at another's place gains nothing: that one's next line counts, as it would alone.
        let set =
            usize::try_from(pid).unwrap_or(0).wrapping_add(usize::from(rule) + usize::from(last)) % SETS;
        let Some(AttemptSet { ring, next }) = self.sets.get_mut(set) else { return weight.max(1) };
        let known = ring.iter_mut().flatten().find(|c| (c.pid, c.rule, c.addr) == (pid, rule, addr));
        if let Some(known) = known {
            let paid = weight > 0 && std::mem::take(&mut known.advance);
            return weight - u8::from(paid);
        }
        if let Some(slot) = ring.get_mut(*next) {
            *slot = Some(LoggedConnection { addr, pid, rule, advance: weight == 0 });
        }
        *next = (*next + 1) % WAYS;
        weight.max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_counts_as_often_as_it_was_caught_trying() {
        let cases: &[(&str, &[u8], &[u8])] = &[
            ("password guesses", &[1, 1, 1], &[1, 1, 1]),
            ("unknown user, guess, close", &[0, 1, 0], &[1, 0, 0]),
            ("unknown user, three guesses, close", &[0, 1, 1, 1, 0], &[1, 0, 1, 1, 0]),
            ("guess, close", &[1, 0], &[1, 0]),
            ("only a close", &[0], &[1]),
            ("unknown user, close", &[0, 0], &[1, 0]),
            ("unknown user, then worse", &[0, 3], &[1, 2]),
        ];
        for (name, weights, want) in cases {
            let mut attempts = Attempts::new();
            let addr = "192.0.2.1".parse().unwrap();
            let counts: Vec<u8> = weights.iter().map(|&w| attempts.count(0, Some(7), addr, w)).collect();
            assert_eq!(counts, *want, "{name}");
        }
    }

    #[test]
    fn others_stand_for_themselves() {
        let (a, b) = ("192.0.2.1".parse().unwrap(), "192.0.2.2".parse().unwrap());
        let mut attempts = Attempts::new();
        assert_eq!(attempts.count(0, Some(7), a, 0), 1);
        let cases = [
            ("address", 0, Some(7), b),
            ("process", 0, Some(8), a),
            ("rule", 1, Some(7), a),
            ("none", 0, None, a),
        ];
        for (name, rule, pid, addr) in cases {
            assert_eq!(attempts.count(rule, pid, addr, 0), 1, "another {name}");
        }
        assert_eq!(attempts.count(0, None, a, 0), 1, "no process, again");
        for pid in 100..100 + 64 {
            attempts.count(0, Some(pid), a, 1);
        }
        assert_eq!(attempts.count(0, Some(7), a, 0), 1, "forgotten");
    }
}
