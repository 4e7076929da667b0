//! What the kernel reports of packets: strangers have written them.

use mef::firewall::nflog::packet;
use mef::sys::nlattr::{MsgBuf, messages};

/// A report as the kernel makes it.
pub fn seeds() -> Vec<Vec<u8>> {
    let mut buf = MsgBuf::default();
    let open = buf.start(4 << 8, 0, 1);
    buf.put(&[2, 0, 0, 6]);
    buf.attr_str(10, "mef:new");
    buf.attr(
        9,
        &[&[0x45, 0, 0, 40, 0, 0, 0, 0, 64, 6, 0, 0, 192, 0, 2, 7, 10, 0, 0, 1][..], &[0; 20]].concat(),
    );
    buf.finish(open);
    vec![buf.bytes().to_vec()]
}

/// What has to hold of any bytes.
pub fn run(data: &[u8]) {
    messages(data).filter_map(packet).for_each(drop);
}
