#![no_main]
mef_fuzz::target!(pattern);
