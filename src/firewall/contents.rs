#![forbid(unsafe_code)]
//! Which sets of bans hold something, for who keeps them so. That one is empty that was not may be nothing:
//! bans end, and are lifted. What the journal has in force of it tells whether others have emptied it.

use crate::base::name::Name;

/// What is known of sets of bans.
#[derive(Debug, Default)]
pub(super) struct Contents {
    /// They held something when that was last known.
    filled: Vec<Name>,
    /// They did, and do not any more.
    emptied: Vec<Name>,
}

/// What a look has found in a set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fill {
    /// Nothing.
    Empty,
    /// Something, or nobody can tell.
    Some,
}

impl From<Option<u32>> for Fill {
    /// So many elements, where the kernel tells.
    fn from(count: Option<u32>) -> Fill {
        if count == Some(0) { Fill::Empty } else { Fill::Some }
    }
}

impl Contents {
    /// Something was put into a set.
    pub(super) fn note(&mut self, set: Name) {
        if !self.filled.contains(&set) {
            self.filled.push(set);
        }
    }

    /// Takes in what a look has found in a set.
    pub(super) fn look(&mut self, set: Name, fill: Fill) {
        match fill {
            Fill::Some => self.note(set),
            Fill::Empty => {
                if let Some(at) = self.filled.iter().position(|filled| *filled == set) {
                    self.emptied.push(self.filled.swap_remove(at));
                }
            }
        }
    }

    /// Whether any was emptied that nobody has looked after.
    pub(super) fn has_emptied(&self) -> bool {
        !self.emptied.is_empty()
    }

    /// Whether this one was.
    pub(super) fn is_emptied(&self, set: Name) -> bool {
        self.emptied.contains(&set)
    }

    /// Somebody has looked after those that were emptied.
    pub(super) fn forget_emptied(&mut self) {
        self.emptied.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_held_something_can_be_emptied() {
        let (one, other) = (Name::of("ban4"), Name::of("ban6"));
        let mut contents = Contents::default();
        contents.look(one, Fill::Empty);
        assert!(!contents.has_emptied());
        contents.note(one);
        contents.look(other, Fill::from(None));
        contents.look(one, Fill::from(Some(3)));
        contents.look(one, Fill::from(Some(0)));
        assert!(contents.is_emptied(one) && !contents.is_emptied(other));
        // It stays so until somebody has seen to it, and is no news twice.
        contents.look(one, Fill::Empty);
        assert_eq!(contents.emptied, [one]);
        contents.forget_emptied();
        assert!(!contents.has_emptied());
        contents.look(other, Fill::Empty);
        assert!(contents.is_emptied(other));
    }
}
