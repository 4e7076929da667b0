//! What the kernel reports of packets: strangers have written them.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mef::firewall::nflog::packet;
use mef::sys::nlattr::messages;

fuzz_target!(|data: &[u8]| {
    messages(data).filter_map(packet).for_each(drop);
});
