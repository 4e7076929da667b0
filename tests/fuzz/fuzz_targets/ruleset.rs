#![no_main]
mef_fuzz::target!(ruleset);
