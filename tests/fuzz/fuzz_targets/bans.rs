#![no_main]
mef_fuzz::target!(bans);
