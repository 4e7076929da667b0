#![forbid(unsafe_code)]
//! mef.conf and rules.d: text to plain settings. Knows no kernel, no source, no clock.
