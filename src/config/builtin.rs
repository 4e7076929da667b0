#![forbid(unsafe_code)]
//! The service rules inside the binary: the files of rootfs/etc/mef/rules.d, for hosts that have none.

/// Name without `.conf`, and text.
pub const BUILTIN: &[(&str, &str)] = &[
    ("dropbear", include_str!("../../rootfs/etc/mef/rules.d/dropbear.conf")),
    ("sshd", include_str!("../../rootfs/etc/mef/rules.d/sshd.conf")),
];
