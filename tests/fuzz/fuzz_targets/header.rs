#![no_main]
mef_fuzz::target!(header);
