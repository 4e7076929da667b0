#![forbid(unsafe_code)]
//! What packets themselves are watched for: each a file of its own, and a row of `FEATURES`. The table does
//! without what the kernel or the configuration does not have.

use super::layout::Ipv6Prefix;
use super::{FEATURES, Guard, TableState};
use crate::ban::{Capabilities, Capability, Options};
use crate::base::name::Name;

/// What has become of what a feature has noted in its sets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stale {
    /// It was noted by other limits.
    Digest,
    /// IPv6 prefixes have another length.
    Prefix,
}

/// Something that the guard does beside looking up bans.
pub trait Feature {
    /// Its word in the table's mark; also how the names of its chains and sets begin.
    fn word(&self) -> &'static str;

    /// Whether a set is its own, by name.
    fn owns(&self, name: &str) -> bool {
        name.starts_with(self.word())
    }

    /// What it is for kernels without it.
    fn part(&self) -> Capability;

    /// More parts that it is of no use without.
    fn needs(&self) -> Capabilities {
        Capabilities::NONE
    }

    /// Stands for its limits, in the table's mark; 0 = it is off.
    fn digest(&self, options: &Options) -> u16;

    /// Whether it bans for bare packets.
    fn bans(&self) -> bool {
        false
    }

    /// Whether it needs connections to be tracked.
    fn tracks(&self, _: &Options) -> bool {
        false
    }

    /// Its chains, the base chain first.
    fn chains(&self) -> &'static [Name];

    /// Adds its sets, if they are not there.
    fn write_sets(&self, guard: &mut Guard);

    /// Deletes its sets, which are there.
    fn delete_sets(&self, guard: &mut Guard);

    /// Writes its chains; the sets are there.
    fn write(&self, guard: &mut Guard, made: TableState);

    /// Empties the sets, or makes them anew, whose content is of no use any more.
    fn forget(&self, guard: &mut Guard, stale: Stale);
}

/// The digests of all, 0 where it is off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Digests([u16; FEATURES.len()]);

impl Digests {
    /// Those that the options ask for and the kernel has.
    pub(super) fn of(options: &Options, lacks: Capabilities) -> Digests {
        Digests(FEATURES.map(|feature| match lacks.has(feature.needs().and(feature.part())) {
            false => feature.digest(options),
            true => 0,
        }))
    }

    /// Those that a mark tells of, by word; one that it does not know is off.
    pub(super) fn read(number: &dyn Fn(&str) -> Option<u16>) -> Digests {
        Digests(FEATURES.map(|feature| number(feature.word()).unwrap_or(0)))
    }

    /// The digest of one.
    pub(super) fn get(self, feature: &dyn Feature) -> u16 {
        self.pairs().find(|(other, _)| other.word() == feature.word()).map_or(0, |(_, digest)| digest)
    }

    /// Each with its digest.
    pub(super) fn pairs(self) -> impl Iterator<Item = (&'static dyn Feature, u16)> {
        FEATURES.into_iter().zip(self.0)
    }

    /// Those that are on.
    pub(super) fn on(self) -> impl Iterator<Item = &'static dyn Feature> {
        self.pairs().filter(|(_, digest)| *digest != 0).map(|(feature, _)| feature)
    }
}

impl Guard {
    /// Takes away what is there of a table that was made before: all chains, and the sets of what is off now.
    pub(super) fn unwrite_features(&mut self, previous: TableState, made: TableState) {
        for (feature, digest) in previous.features.pairs() {
            for chain in feature.chains() {
                // What is added first can be deleted, whether it was there or not.
                self.txn.add_chain(chain, None);
                self.txn.flush_chain(chain);
            }
            feature.chains().iter().for_each(|chain| self.txn.delete_chain(chain));
            if digest != 0 && !made.has(feature) {
                feature.write_sets(self);
                feature.delete_sets(self);
            }
        }
    }

    /// Writes those that are on; `prefix` is that of keys.
    pub(super) fn write_features(
        &mut self,
        made: TableState,
        previous: Option<TableState>,
        prefix: Ipv6Prefix,
    ) {
        for (feature, digest) in made.features.pairs().filter(|(_, digest)| *digest != 0) {
            feature.write_sets(self);
            if previous.is_some_and(|previous| previous.features.get(feature) != digest) {
                feature.forget(self, Stale::Digest);
            }
            if prefix == Ipv6Prefix::Changed {
                feature.forget(self, Stale::Prefix);
            }
            feature.write(self, made);
        }
    }
}
