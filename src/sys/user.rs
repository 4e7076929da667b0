#![forbid(unsafe_code)]
//! Users by their names, as /etc/passwd has them: whoever is known elsewhere only is not known here. And as
//! whom this process runs.

use super::child::Identity;
use super::fs;
use nix::errno::Errno;
use nix::sys::prctl::set_keepcaps;
use nix::unistd::{geteuid, setgroups, setresgid, setresuid};
use std::path::Path;

/// Root and its group.
pub const ROOT: Identity = Identity { user: 0, group: 0 };

/// Bytes of it that are read.
const MAX: u64 = 1 << 20;

/// The user of that name.
#[must_use]
pub fn find(name: &str) -> Option<Identity> {
    let text = fs::open(Path::new("/etc/passwd")).and_then(|file| fs::read(file, MAX)).ok()?;
    in_text(&String::from_utf8_lossy(&text), name)
}

/// Whether this process runs as root.
#[must_use]
pub fn is_root() -> bool {
    geteuid().is_root()
}

/// Whether the user is root, or who runs this process: what is theirs can be believed.
#[must_use]
pub fn is_own(user: u32) -> bool {
    user == 0 || user == geteuid().as_raw()
}

/// Goes on as somebody else, of no other group, for good. What root may do is kept, but has to be taken up
/// again.
///
/// # Errors
/// What the system says; then it goes on as before.
pub fn become_user(to: Identity) -> Result<(), Errno> {
    let (user, group) = (to.user.into(), to.group.into());
    set_keepcaps(true)?;
    setgroups(&[])?;
    setresgid(group, group, group)?;
    let done = setresuid(user, user, user);
    if done.is_err() {
        let _ = setresgid(0.into(), 0.into(), 0.into());
    }
    done.and(set_keepcaps(false))
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
