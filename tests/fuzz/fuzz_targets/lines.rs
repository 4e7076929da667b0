#![no_main]
mef_fuzz::target!(lines);
