//! What the fuzz targets do, for cargo test: see tests/project/fuzz.rs. The targets themselves are lib.rs.
#![allow(clippy::cast_possible_truncation, reason = "of lengths of seeds, which are short")]

pub mod bodies;
