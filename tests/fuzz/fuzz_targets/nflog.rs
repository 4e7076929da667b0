#![no_main]
mef_fuzz::target!(nflog);
