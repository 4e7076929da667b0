#![no_main]
mef_fuzz::target!(positions);
