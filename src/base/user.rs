#![forbid(unsafe_code)]
//! Users by their numbers. Knows no names.

/// Whether a user is a person, not a service: as journald, which keeps a journal of its own for each person,
/// draws the line (system users to 999; 61184 to 65519 are lent to services; nobody).
#[must_use]
pub fn is_person(uid: u32) -> bool {
    !matches!(uid, 0..=999 | 61_184..=65_519 | 65_534)
}
