#![forbid(unsafe_code)]
//! Users by their names, as /etc/passwd has them: whoever is known elsewhere only is not known here.

use super::child::Identity;
use super::fs;
use std::path::Path;

/// Bytes of it that are read.
const MAX: u64 = 1 << 20;

/// The user of that name.
#[must_use]
pub fn find(name: &str) -> Option<Identity> {
    let text = fs::open(Path::new("/etc/passwd")).and_then(|file| fs::read(file, MAX)).ok()?;
    in_text(&String::from_utf8_lossy(&text), name)
}

fn in_text(text: &str, name: &str) -> Option<Identity> {
    text.lines().find_map(|line| {
        let mut fields = line.split(':');
        let (found, _, user, group) = (fields.next()?, fields.next()?, fields.next()?, fields.next()?);
        (found == name).then_some(())?;
        Some(Identity { user: user.parse().ok()?, group: group.parse().ok()? })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_found_by_their_whole_names() {
        let text =
            "root:x:0:0:root:/root:/bin/sh\n\nmefx:x:9:9::/:\nmef:x:998:997::/:\nodd:x:a:1::/:\nshort:x\n";
        assert_eq!(in_text(text, "mef"), Some(Identity { user: 998, group: 997 }));
        assert_eq!(in_text(text, "root"), Some(Identity { user: 0, group: 0 }));
        for nobody in ["", "me", "odd", "short", "x"] {
            assert_eq!(in_text(text, nobody), None, "{nobody}");
        }
        assert_eq!(find("root"), Some(Identity { user: 0, group: 0 }));
    }
}
