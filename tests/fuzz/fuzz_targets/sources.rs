#![no_main]
mef_fuzz::target!(sources);
