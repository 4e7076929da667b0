#![no_main]
mef_fuzz::target!(access);
