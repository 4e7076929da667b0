#![forbid(unsafe_code)]
//! Tests of the readers, by what a person writes and what comes back.

mod files;
mod formats;
mod global;
mod manual;
mod overlay;
mod random;
mod service;
mod values;

use crate::base::diag::Problem;

/// `line:col-end what | hint` of every problem, for comparison.
fn reported(problems: &[Problem]) -> Vec<String> {
    problems
        .iter()
        .map(|p| format!("{:?} {}:{}+{} {} | {}", p.severity, p.line, p.col, p.len, p.what, p.hint))
        .collect()
}
