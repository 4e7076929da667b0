#![forbid(unsafe_code)]
//! How long each ban of the daemon is to last: what `detect::escalate` decides, wired to the configuration,
//! the journal and the log. Makes no ban itself.

use super::policy::{ServicePolicy, scope_tag};
use crate::base::clock::{Mono, Now, Span, Wall};
use crate::config::Settings;
use crate::detect::escalate::{
    BanDecision, EscalationTerms, NetworkEscalation, Pace, Past, RateAlarm, RepeatOffenders, Spoofable,
};
use crate::state::record::BanRecord;
use crate::sys::random;
use ipnet::IpNet;
use std::collections::VecDeque;
use std::ops::Range;

/// What is known of previous bans.
pub(super) struct BanPolicy {
    repeat_offenders: RepeatOffenders,
    parts: NetworkEscalation,
    levels: Vec<u8>,
    pace: Pace,
    /// The starts of previous bans, for the journal, of all verdicts since the last `clear`.
    starts: Vec<u8>,
    /// What was over of whom; `None`: no line is ever read again.
    over: Option<VecDeque<Over>>,
}

/// What somebody did before a moment is over and done with: it was forgiven then, or banned for. For lines
/// that are read once more.
struct Over {
    who: IpNet,
    /// Of a ban: stands for its ports.
    scope: Option<u16>,
    at: Mono,
}

impl Over {
    fn of(who: IpNet, scope: Option<u16>, at: Mono) -> Over {
        Over { who, scope, at }
    }
}

/// Of these at most; the oldest give way.
const OVER_MAX: usize = 1024;

/// A sentence, with what the journal is to remember of it.
pub(super) struct RecordedDecision {
    pub(super) decision: BanDecision,
    /// The offender alone did it, and nobody could have made it up.
    pub(super) is_proven: bool,
    starts: Range<usize>,
}

impl BanPolicy {
    pub(super) fn new(settings: &Settings, policies: &[ServicePolicy]) -> BanPolicy {
        let slots = usize::try_from(settings.track_max).unwrap_or(4096);
        let (terms, levels) = (terms(settings, policies), settings.ipv6_escalate.clone());
        BanPolicy {
            repeat_offenders: RepeatOffenders::new(slots, terms, random::key()),
            parts: NetworkEscalation::new(slots, &levels, terms.memory, random::key()),
            levels,
            pace: Pace::new(settings.max_bans_per_minute),
            starts: Vec::new(),
            over: None,
        }
    }

    /// Lines may be read again from now on: what is over is kept in mind.
    pub(super) fn reads_again(&mut self) {
        self.over.get_or_insert_default();
    }

    /// No line is read again that was written before.
    pub(super) fn read_until(&mut self, then: Mono) {
        self.over.iter_mut().for_each(|all| all.retain(|over| over.at >= then));
    }

    fn set_over(&mut self, over: Over) {
        let Some(all) = &mut self.over else { return };
        all.retain(|old| over.scope.is_some() && over.scope != old.scope || !over.who.contains(&old.who));
        if all.len() == OVER_MAX {
            all.pop_front();
        }
        all.push_back(over);
    }

    /// Takes other settings; whether everything was forgotten for it, so that the journal has to be read
    /// again.
    pub(super) fn reconfigure(&mut self, settings: &Settings, policies: &[ServicePolicy]) -> bool {
        self.pace.limit = settings.max_bans_per_minute;
        let same = *self.repeat_offenders.terms() == terms(settings, policies)
            && self.levels == settings.ipv6_escalate;
        if !same {
            let (pace, over) = (self.pace, self.over.take());
            *self = BanPolicy { pace, over, ..BanPolicy::new(settings, policies) };
        }
        !same
    }

    /// Seconds that a ban is of interest after its end.
    pub(super) fn memory(&self) -> u64 {
        self.repeat_offenders.terms().memory.into()
    }

    /// Seconds that bans last at most, unless a rule says more.
    pub(super) fn longest(&self) -> u32 {
        self.repeat_offenders.terms().max
    }

    /// Takes in a ban of the journal.
    pub(super) fn restore(&mut self, now: Now, entry: &BanRecord<'_>) {
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
        self.repeat_offenders.restore(now.mono, entry.addr, &past);
        if entry.bans > 0 {
            self.parts.banned(now.mono, entry.addr);
        }
    }

    /// Whether a ban of the journal that has ended is still of interest.
    pub(super) fn worth(&self, now: Mono, entry: &BanRecord<'_>) -> bool {
        entry.bans > 0 && self.repeat_offenders.knows(now, entry.addr)
    }

    /// Whether something that `who` did so many seconds ago was before a ban of the same ports, be that over
    /// or not, or before it was forgiven.
    pub(super) fn spent(&self, now: Mono, addr: IpNet, policy: &ServicePolicy, age: u64) -> bool {
        // The seconds of the two clocks do not begin at the same moment.
        let before = |since: u64| since <= age.saturating_add(1);
        let scope = policy.request.scope;
        let mut over = self.over.iter().flatten();
        self.repeat_offenders.began(now, addr, scope).is_some_and(before)
            || over.any(|over| {
                let same = over.scope.is_none_or(|of| of == scope);
                same && over.who.contains(&addr) && before(now.since(over.at) / 1000)
            })
    }

    /// Whether `who` is banned from the ports of the policy.
    pub(super) fn in_force(&self, now: Mono, addr: IpNet, policy: &ServicePolicy) -> bool {
        self.repeat_offenders.is_banned(now, addr, policy.request.scope)
    }

    /// Begins a batch of verdicts.
    pub(super) fn clear(&mut self) {
        self.starts.clear();
    }

    /// What `who` gets, for what `policy` says; `wide` says that it is banned for what its parts did.
    /// `bantime` is that of a threshold that has one of its own.
    pub(super) fn decide(
        &mut self,
        now: Mono,
        addr: IpNet,
        policy: &ServicePolicy,
        wide: bool,
        bantime: Option<Span>,
    ) -> RecordedDecision {
        let mut request = policy.request;
        if request.spoofable == Spoofable::No && policy.is_hearsay(now) {
            request.spoofable = Spoofable::ByLocalUsers;
        }
        request.bantime = bantime.unwrap_or(request.bantime);
        if wide {
            // Many share such a network.
            request.permanent = None;
        }
        let mut decision = self.repeat_offenders.decide(now, addr, &request);
        if !decision.repeats {
            let (flood, news) = self.pace.ban(now);
            self.log_alarm(news);
            if flood {
                request.flood = true;
                decision = self.repeat_offenders.decide(now, addr, &request);
            }
        }
        let from = self.starts.len();
        self.repeat_offenders.starts(now, addr, decision.further, &mut self.starts);
        // In a flood of bans the log itself is in doubt.
        let is_proven = request.spoofable == Spoofable::No && !request.flood && !wide;
        RecordedDecision { decision, is_proven, starts: from..self.starts.len() }
    }

    /// What the journal is to remember beside the sentence.
    pub(super) fn starts(&self, verdict: &RecordedDecision) -> &[u8] {
        self.starts.get(verdict.starts.clone()).unwrap_or(&[])
    }

    /// Takes in that the ban is made. Returns a wider network that is to be banned now.
    pub(super) fn made(
        &mut self,
        now: Mono,
        addr: IpNet,
        policy: &ServicePolicy,
        decision: &BanDecision,
    ) -> Option<IpNet> {
        self.repeat_offenders.record(now, addr, policy.request.scope, decision);
        if decision.further {
            return self.parts.banned(now, addr);
        }
        // Nobody else remembers it.
        self.set_over(Over::of(addr, Some(policy.request.scope), now));
        None
    }

    /// Forgets how often an address, or all that is in a network, was banned.
    pub(super) fn forget(&mut self, now: Mono, addr: IpNet) {
        self.set_over(Over::of(addr, None, now));
        self.repeat_offenders.forget(addr);
        self.parts.forget(addr);
    }

    fn log_alarm(&self, news: Option<RateAlarm>) {
        match news {
            Some(RateAlarm::Flood) => log::error!(
                "more than {} bans within a minute (max_bans_per_minute): until that is over new bans last \
                 10 minutes at most and are not \
                 counted; is a log broken or forged?",
                self.pace.limit
            ),
            Some(RateAlarm::Over) => log::info!("the ban rate is normal again: new bans last as usual"),
            None => {}
        }
    }
}

fn terms(settings: &Settings, policies: &[ServicePolicy]) -> EscalationTerms {
    let windows = || policies.iter().filter_map(|policy| policy.request.permanent);
    let longest = windows().map(|(window, _)| window).max().unwrap_or(0);
    let most = windows().map(|(_, threshold)| threshold).max().unwrap_or(0);
    EscalationTerms {
        factor: if settings.bantime_increment { settings.bantime_factor } else { 1 },
        max: settings.bantime_max,
        memory: settings.bantime_max.max(longest),
        starts: usize::try_from(most.saturating_sub(1)).unwrap_or(0),
    }
}
