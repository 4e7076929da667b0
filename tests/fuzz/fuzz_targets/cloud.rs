#![no_main]
mef_fuzz::target!(cloud);
