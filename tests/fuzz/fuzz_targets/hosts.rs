#![no_main]
mef_fuzz::target!(hosts);
