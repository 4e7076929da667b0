#![forbid(unsafe_code)]
//! Lines in, hits and verdicts out: headers, programs, patterns, the table of offenders. No I/O.

pub mod header;
