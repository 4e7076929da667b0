#![forbid(unsafe_code)]
//! The service rules inside the binary: the files of rootfs/etc/mef/rules.d, for hosts that have none.
//! Comments and examples are left out when it is compiled: they are most of the text.

macro_rules! rule {
    ($path:literal) => {{
        const TEXT: &[u8] = include_bytes!($path);
        const BYTES: [u8; without_comments(TEXT, &mut [])] = {
            let mut bytes = [0; without_comments(TEXT, &mut [])];
            without_comments(TEXT, &mut bytes);
            bytes
        };
        match std::str::from_utf8(&BYTES) {
            Ok(text) => text,
            Err(_) => "not UTF-8",
        }
    }};
}
/// Name without `.conf`, and text without comments.
pub const BUILTIN: &[(&str, &str)] = &[
    ("dropbear", rule!("../../rootfs/etc/mef/rules.d/dropbear.conf")),
    ("sshd", rule!("../../rootfs/etc/mef/rules.d/sshd.conf")),
    ("sshd-keys", rule!("../../rootfs/etc/mef/rules.d/sshd-keys.conf")),
];

/// Copies the lines that are no comments, as far as there is room; the length of all of them.
const fn without_comments(text: &[u8], out: &mut [u8]) -> usize {
    let (mut at, mut len, mut begins, mut skips) = (0, 0, true, false);
    while at < text.len() {
        if begins {
            skips = text[at] == b'#';
        }
        if !skips {
            if len < out.len() {
                out[len] = text[at];
            }
            len += 1;
        }
        begins = text[at] == b'\n';
        at += 1;
    }
    len
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_comments_are_left_out() {
        let text = b"# a\n[rule]\n#b\nx=1 # kept\n#";
        let mut out = [0; 64];
        let len = without_comments(text, &mut out);
        assert_eq!(&out[..len], b"[rule]\nx=1 # kept\n");
        assert!(BUILTIN.iter().all(|(_, text)| text.contains("[rule]\n") && !text.contains("\n#")));
    }
}
