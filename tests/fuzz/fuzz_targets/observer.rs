#![no_main]
mef_fuzz::target!(observer);
