#![forbid(unsafe_code)]
//! Which names have something to do. Of a thousand files one grows at a time: that must not cost a look at
//! all the others.

use super::Tail;
use super::name::WatchedName;
use crate::input::Tags;
use smallvec::SmallVec;

/// Names that are kept one by one; of more, all are looked at.
const KEPT: usize = 16;

/// The names that may have something to do.
pub(super) enum ReadyNames {
    /// Any of them.
    Any,
    /// These, by their places.
    Only(SmallVec<[usize; KEPT]>),
}

/// Whose watch is which, as far as it is known: it is checked before it is believed.
#[derive(Default)]
pub(super) struct WatchPlaces(Option<Vec<(i32, usize)>>);

impl Tail {
    /// Something else happened than that a file grew: any name may have something to do, and another place.
    pub(super) fn stir(&mut self) {
        self.ready = ReadyNames::Any;
        self.places.0 = None;
        self.found.set(None);
    }

    /// A name has something to do.
    pub(super) fn wake(&mut self, i: usize) {
        if let ReadyNames::Only(some) = &mut self.ready
            && !some.contains(&i)
        {
            if some.len() < KEPT { some.push(i) } else { self.ready = ReadyNames::Any }
        }
    }

    /// These names have waited longer than those that have something to do again.
    pub(super) fn wake_first(&mut self, waiting: &[usize]) {
        if let ReadyNames::Only(again) = &mut self.ready {
            let again = std::mem::replace(again, SmallVec::from_slice(waiting));
            again.into_iter().for_each(|i| self.wake(i));
        }
    }

    /// Whether a name has something to do.
    pub(super) fn any_ready(&self) -> bool {
        match &self.ready {
            ReadyNames::Any => self.names.iter().any(WatchedName::pending),
            ReadyNames::Only(some) => {
                some.iter().filter_map(|i| self.names.get(*i)).any(WatchedName::pending)
            }
        }
    }

    /// The place of the name whose file has this watch.
    pub(super) fn place_of(&mut self, wd: i32) -> Option<usize> {
        let Tail { names, places, .. } = self;
        let known = places.0.get_or_insert_with(|| {
            let mut all: Vec<(i32, usize)> = Vec::with_capacity(names.len());
            for (i, name) in names.iter().enumerate() {
                all.extend(name.watches().map(|wd| (wd, i)));
            }
            all.sort_unstable();
            all
        });
        let at = known.partition_point(|(known, _)| *known < wd);
        let place = known.get(at).map(|(_, i)| *i);
        let count = names.len();
        let mut has = |i: usize| names.get_mut(i).is_some_and(|name| name.watched(wd).is_some());
        match place.filter(|i| has(*i)) {
            Some(i) => Some(i),
            None => (0..count).find(|i| has(*i)),
        }
    }

    /// Who has at least one file.
    #[must_use]
    pub fn found(&self) -> Tags {
        let found = self.found.get().unwrap_or_else(|| {
            self.names.iter().filter(|n| n.is_read()).fold(Tags(0), |all, name| all.and(name.tags))
        });
        self.found.set(Some(found));
        found
    }
}
