//! The targets for `cargo fuzz`. What each does stands in `bodies`, which `cargo test` runs as well.
#![allow(clippy::unwrap_used, clippy::panic, reason = "to fail is their purpose")]

pub mod bodies;

pub use libfuzzer_sys::fuzz_target;

use std::fs;
use std::path::Path;

/// A target: the body of that name.
#[macro_export]
macro_rules! target {
    ($name:ident) => {
        $crate::fuzz_target!(
            init: $crate::write_seeds($crate::bodies::$name::seeds()),
            |data: &[u8]| $crate::bodies::$name::run(data)
        );
    };
}

/// Writes what a body begins with into the directory that `MEF_FUZZ_SEEDS` names, before it is read as a
/// corpus.
pub fn write_seeds(seeds: Vec<Vec<u8>>) {
    let Some(dir) = std::env::var_os("MEF_FUZZ_SEEDS") else { return };
    let dir = Path::new(&dir);
    fs::create_dir_all(dir).unwrap();
    for (number, seed) in seeds.iter().enumerate() {
        fs::write(dir.join(format!("seed-{number}")), seed).unwrap();
    }
}
