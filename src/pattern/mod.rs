#![forbid(unsafe_code)]
//! The pattern engine: the documented subset of regular expressions of service rules.
