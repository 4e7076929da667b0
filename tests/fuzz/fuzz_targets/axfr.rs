#![no_main]
mef_fuzz::target!(axfr);
