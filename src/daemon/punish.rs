#![forbid(unsafe_code)]
//! How long each ban of the daemon is to last: what `detect::escalate` decides, wired to the configuration,
//! the journal and the log. Makes no ban itself.

use super::policy::{Policy, scope_tag};
use crate::base::clock::{Mono, Now, Span, Wall};
use crate::config::Settings;
use crate::detect::escalate::{Evidence, News, Pace, Parts, Past, Recidives, Sentence, Terms};
use crate::state::record::Entry;
use crate::sys::random;
use ipnet::IpNet;
use std::ops::Range;

/// What is known of former bans.
pub(super) struct Punisher {
    recidives: Recidives,
    parts: Parts,
    levels: Vec<u8>,
    pace: Pace,
    /// The starts of former bans, for the journal, of all verdicts since the last `clear`.
    starts: Vec<u8>,
}

/// A sentence, with what the journal is to remember of it.
pub(super) struct Verdict {
    pub(super) sentence: Sentence,
    /// The offender alone did it, and nobody could have made it up.
    pub(super) is_proven: bool,
    starts: Range<usize>,
}

impl Punisher {
    pub(super) fn new(settings: &Settings, policies: &[Policy]) -> Punisher {
        let slots = usize::try_from(settings.track_max).unwrap_or(4096);
        let (terms, levels) = (terms(settings, policies), settings.ipv6_escalate.clone());
        Punisher {
            recidives: Recidives::new(slots, terms, random::key()),
            parts: Parts::new(slots, &levels, terms.memory, random::key()),
            levels,
            pace: Pace::new(settings.max_bans_per_minute),
            starts: Vec::new(),
        }
    }

    /// Takes other settings; whether everything was forgotten for it, so that the journal has to be read
    /// again.
    pub(super) fn reconfigure(&mut self, settings: &Settings, policies: &[Policy]) -> bool {
        self.pace.limit = settings.max_bans_per_minute;
        let same =
            *self.recidives.terms() == terms(settings, policies) && self.levels == settings.ipv6_escalate;
        if !same {
            let pace = self.pace;
            *self = Punisher { pace, ..Punisher::new(settings, policies) };
        }
        !same
    }

    /// Seconds that a ban is of interest after its end.
    pub(super) fn memory(&self) -> u64 {
        self.recidives.terms().memory.into()
    }

    /// Seconds that bans last at most, unless a rule says more.
    pub(super) fn longest(&self) -> u32 {
        self.recidives.terms().max
    }

    /// Takes in a ban of the journal.
    pub(super) fn recall(&mut self, now: Now, entry: &Entry<'_>) {
        let left = |until: Wall| {
            let secs = |wall: Wall| i64::try_from(wall.0).unwrap_or(i64::MAX);
            secs(until).saturating_sub(secs(now.wall))
        };
        let past = Past {
            bans: entry.bans,
            age: now.wall.0.saturating_sub(entry.since.0),
            left: entry.until.map(left),
            scope: scope_tag(entry.scope),
            starts: entry.starts,
        };
        self.recidives.recall(now.mono, entry.who, &past);
        if entry.bans > 0 {
            self.parts.banned(now.mono, entry.who);
        }
    }

    /// Whether a ban of the journal that has ended is still of interest.
    pub(super) fn worth(&self, now: Mono, entry: &Entry<'_>) -> bool {
        entry.bans > 0 && self.recidives.knows(now, entry.who)
    }

    /// Whether something that `who` did so many seconds ago was before a ban of the same ports that is in
    /// force.
    pub(super) fn spent(&self, now: Mono, who: IpNet, policy: &Policy, age: u64) -> bool {
        // The seconds of the two clocks do not begin at the same moment.
        self.recidives.since(now, who, policy.charge.scope).is_some_and(|since| since <= age + 1)
    }

    /// Whether `who` is banned from the ports of the policy.
    pub(super) fn in_force(&self, now: Mono, who: IpNet, policy: &Policy) -> bool {
        self.recidives.since(now, who, policy.charge.scope).is_some()
    }

    /// Begins a batch of verdicts.
    pub(super) fn clear(&mut self) {
        self.starts.clear();
    }

    /// What `who` gets, for what `policy` says; `wide` says that it is banned for what its parts did.
    /// `bantime` is that of a threshold that has one of its own.
    pub(super) fn judge(
        &mut self,
        now: Mono,
        who: IpNet,
        policy: &Policy,
        wide: bool,
        bantime: Option<Span>,
    ) -> Verdict {
        let mut charge = policy.charge;
        if charge.evidence == Evidence::Proven && policy.is_hearsay(now) {
            charge.evidence = Evidence::Local;
        }
        charge.bantime = bantime.unwrap_or(charge.bantime);
        if wide {
            // Many share such a network.
            charge.permanent = None;
        }
        let mut sentence = self.recidives.sentence(now, who, &charge);
        if !sentence.repeats {
            let (flood, news) = self.pace.ban(now);
            self.tell(news);
            if flood {
                charge.flood = true;
                sentence = self.recidives.sentence(now, who, &charge);
            }
        }
        let from = self.starts.len();
        self.recidives.starts(now, who, sentence.further, &mut self.starts);
        // In a flood of bans the log itself is in doubt.
        let is_proven = charge.evidence == Evidence::Proven && !charge.flood && !wide;
        Verdict { sentence, is_proven, starts: from..self.starts.len() }
    }

    /// What the journal is to remember beside the sentence.
    pub(super) fn starts(&self, verdict: &Verdict) -> &[u8] {
        self.starts.get(verdict.starts.clone()).unwrap_or(&[])
    }

    /// Takes in that the ban is made. Returns a wider network that is to be banned now.
    pub(super) fn made(
        &mut self,
        now: Mono,
        who: IpNet,
        policy: &Policy,
        sentence: &Sentence,
    ) -> Option<IpNet> {
        self.recidives.serve(now, who, policy.charge.scope, sentence);
        if sentence.further { self.parts.banned(now, who) } else { None }
    }

    /// Forgets how often an address, or all that is in a network, was banned.
    pub(super) fn forget(&mut self, who: IpNet) {
        self.recidives.forget(who);
        self.parts.forget(who);
    }

    fn tell(&self, news: Option<News>) {
        match news {
            Some(News::Flood) => log::error!(
                "more than {} bans within a minute (max_bans_per_minute): until that is over new bans last \
                 10 minutes at most and are not \
                 counted; is a log broken or forged?",
                self.pace.limit
            ),
            Some(News::Over) => log::info!("not too many bans any more: they last as usual again"),
            None => {}
        }
    }
}

fn terms(settings: &Settings, policies: &[Policy]) -> Terms {
    let windows = || policies.iter().filter_map(|policy| policy.charge.permanent);
    let longest = windows().map(|(window, _)| window).max().unwrap_or(0);
    let most = windows().map(|(_, threshold)| threshold).max().unwrap_or(0);
    Terms {
        factor: if settings.bantime_increment { settings.bantime_factor } else { 1 },
        max: settings.bantime_max,
        memory: settings.bantime_max.max(longest),
        starts: usize::try_from(most.saturating_sub(1)).unwrap_or(0),
    }
}
