#![forbid(unsafe_code)]
//! Which rules see what they are to read, and which see nothing: at the start, and whenever that changes. A
//! source that is gone for a moment (a rotation, a program that is started again) is not told.

use super::{RING, Sources, Wants};
use crate::base::build_part::BuildPart;
use crate::base::bytes::of_path;
use crate::base::clock::Mono;
use crate::control::proto::Sight;
use crate::input::{Shown, Tags, kmsg};

/// Milliseconds for which a rule sees nothing before that is told.
const GRACE: u64 = 10_000;

/// What the rules have asked for, and which of them are known to see nothing.
#[derive(Default)]
pub(super) struct SourceSight {
    files: Tags,
    journal: Tags,
    /// They want a journal where there cannot be one.
    no_journal: Tags,
    kmsg: Tags,
    syslog: Tags,
    commands: Tags,
    auto: Tags,
    /// They are on by themselves and have not seen anything yet: nobody is told of those.
    waiting: Tags,
    blind: Tags,
    /// It was looked once; from then on blindness has to last.
    looked: bool,
    /// When those that see nothing now are told.
    tell_at: Option<Mono>,
}

impl SourceSight {
    pub(super) fn of(wants: &Wants) -> SourceSight {
        let all = |tags: &mut dyn Iterator<Item = Tags>| tags.fold(Tags::default(), Tags::and);
        SourceSight {
            files: all(&mut wants.globs.iter().map(|(_, tags)| *tags)),
            journal: all(&mut wants.journal.iter().map(|wanted| wanted.tags)),
            no_journal: wants.no_journal,
            kmsg: wants.kmsg,
            syslog: wants.syslog,
            commands: all(&mut wants.commands.iter().map(|(_, tags)| *tags)),
            auto: wants.auto,
            waiting: wants.by_itself,
            ..SourceSight::default()
        }
    }

    /// Everybody who wants to read.
    fn everybody(&self) -> Tags {
        let parts =
            [self.files, self.journal, self.no_journal, self.kmsg, self.syslog, self.commands, self.auto];
        parts.into_iter().fold(Tags::default(), Tags::and)
    }

    pub(super) fn deadline(&self) -> Option<Mono> {
        self.tell_at
    }
}

/// Rules whose sight has changed, and how.
pub(in crate::daemon) struct SightChange {
    /// These see nothing now.
    pub(in crate::daemon) lost: Tags,
    /// These see something again.
    pub(in crate::daemon) found: Tags,
}

impl Sources {
    /// Who reads something now.
    fn seeing(&self, now: Mono) -> Tags {
        let Sources { sight, tail, journal, kmsg, sockets, commands, not_files, .. } = self;
        let mut seeing = tail.found().without(*not_files);
        let mut add = |there: bool, tags: Tags| seeing = seeing.and(if there { tags } else { Tags(0) });
        add(journal.as_ref().is_some_and(|journal| journal.is_there()), sight.journal);
        add(kmsg.is_some(), sight.kmsg);
        add(sockets.iter().any(Option::is_some), sight.syslog);
        commands.iter().fold(seeing, |all, command| all.and(command.reads_for(now)))
    }

    /// What has changed since this was last asked, if it is to be told now.
    pub(in crate::daemon) fn look_around(&mut self, now: Mono) -> Option<SightChange> {
        let seeing = self.seeing(now);
        let sight = &mut self.sight;
        sight.waiting = sight.waiting.without(seeing);
        let blind = sight.everybody().without(seeing).without(sight.waiting);
        let found = sight.blind.without(blind);
        let fresh = blind.without(sight.blind);
        let wait = if std::mem::replace(&mut sight.looked, true) { GRACE } else { 0 };
        let tell_at = *sight.tell_at.get_or_insert(now.after(wait));
        let due = tell_at <= now && !fresh.is_empty();
        if due || fresh.is_empty() {
            sight.tell_at = None;
        }
        let lost = if due { fresh } else { Tags::default() };
        sight.blind = sight.blind.without(found).and(lost);
        (!lost.is_empty() || !found.is_empty()).then_some(SightChange { lost, found })
    }

    /// Whether a rule is on by itself, because its service is installed, which has written nothing yet.
    pub(in crate::daemon) fn waits(&self, tag: Tags) -> bool {
        !self.sight.waiting.within(tag).is_empty()
    }

    /// What a rule reads, or why it reads nothing.
    pub(in crate::daemon) fn sight(&self, now: Mono, tag: Tags) -> Result<String, String> {
        let Sources { sight, tail, journal, commands, not_files, .. } = self;
        let is = |tags: Tags| !tags.within(tag).is_empty();
        if is(sight.no_journal) {
            if !BuildPart::Journal.is_in() {
                return Err(BuildPart::Journal.is_missing());
            }
            return Err("without /etc/machine-id there is no journal".to_owned());
        }
        if is(sight.journal) {
            let there = journal.as_ref().is_some_and(|journal| journal.is_there());
            return if there { Ok("the journal".to_owned()) } else { Err("there is no journal".to_owned()) };
        }
        if is(sight.kmsg) {
            return if self.kmsg.is_some() {
                Ok(kmsg::PATH.to_owned())
            } else {
                Err([kmsg::PATH, " cannot be read"].concat())
            };
        }
        if is(sight.syslog) {
            let places: Vec<String> =
                self.sockets.iter().flatten().map(|socket| socket.place().to_string()).collect();
            let none = || Err("its socket cannot be opened".to_owned());
            return if places.is_empty() { none() } else { Ok(places.join(", ")) };
        }
        if let Some(command) = commands.iter().find(|command| is(command.reads_for(now))) {
            return Ok(command.argv().join(" "));
        }
        if is(sight.commands) {
            let command = commands.iter().find(|command| is(command.tags()));
            let name = command.map_or_else(String::new, |command| command.argv().join(" "));
            return Err(name + " does not run");
        }
        if let Some((path, count)) = tail.read_for(tag).filter(|_| !is(*not_files)) {
            return Ok(and_more(&Shown(of_path(path)), count));
        }
        if let Some(why) = tail.trouble_of(tag) {
            return Err(why);
        }
        let none = if is(sight.auto) { "no journal, no log file and no logread" } else { "no log file" };
        Err(match tail.wanted_by(tag) {
            Some((path, count)) => format!("{none} ({})", and_more(&Shown(path), count)),
            None => none.to_owned(),
        })
    }

    /// Whether a rule sees something, what `source=auto` has become for it, and what it sees, or why nothing.
    pub(in crate::daemon) fn seen(&self, now: Mono, tag: Tags) -> (Sight, &'static str, String) {
        let (sight, text) = match self.sight(now, tag) {
            Ok(what) => (Sight::Sees, what),
            Err(why) if self.waits(tag) => (Sight::Waits, why),
            Err(why) => (Sight::Blind, why),
        };
        (sight, self.kind(now, tag).unwrap_or(""), text)
    }

    /// What `source=auto` has become for a rule, in a word; `None` while nothing is found.
    pub(in crate::daemon) fn kind(&self, now: Mono, tag: Tags) -> Option<&'static str> {
        let is = |tags: Tags| !tags.within(tag).is_empty();
        if is(self.sight.journal) {
            Some("journal")
        } else if self.commands.iter().any(|command| is(command.reads_for(now))) {
            Some(RING[0])
        } else {
            is(self.tail.found().without(self.not_files)).then_some("file")
        }
    }
}

/// `PATH and 3 more`.
fn and_more(first: &Shown<'_>, count: usize) -> String {
    if count > 1 { format!("{first} and {} more", count - 1) } else { first.to_string() }
}
