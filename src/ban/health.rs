#![forbid(unsafe_code)]
//! What others have done to what is in force.

/// What was done to the table, the worst last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Damage {
    /// Nothing that concerns us.
    #[default]
    None,
    /// Sets of bans that held something hold nothing any more; perhaps by themselves.
    Emptied,
    /// Chains or rules were deleted.
    Rules,
    /// Sets were deleted, with what they held.
    Sets,
    /// All of it was deleted.
    Table,
}

/// What a look at the kernel found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Health {
    /// Of the table of bans.
    pub damage: Damage,
    /// Deny lists are not in force any more that were.
    pub lists_lost: bool,
    /// The allow list, or a part of it, was emptied.
    pub allow_lost: bool,
    /// What is there of the rule set.
    pub rules: RuleTables,
}

/// What a look at the kernel found of the rule set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RuleTables {
    /// Nothing.
    #[default]
    None,
    /// Its tables, as they were loaded.
    Loaded,
    /// That for packets is the one that was loaded, and that for frames beside it is gone.
    WithoutFrames,
    /// Perhaps another rule set in one family than in the other.
    Half,
}
