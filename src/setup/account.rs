#![forbid(unsafe_code)]
//! The user as whom the daemon runs: made by the host's own programs, or where it has none, and in images, by
//! hand.

use super::init::Init;
use super::plan::SetupStep;
use super::root::Root;
use super::{PlanTrouble, edit};
use crate::sys::child::find;

/// Its name, and by what it is known as ours.
const NAME: &str = "mef";
const GECOS: &str = "mef daemon";
const PASSWD: &str = "/etc/passwd";
const GROUP: &str = "/etc/group";
/// The files of users and groups; the line of ours in each, with its number. What says whose user it is comes
/// first and goes last: wherever that is cut off, the next run does the rest.
const FILES: [(&str, &str); 4] = [
    (PASSWD, "mef:x:ID:ID:mef daemon:/:/usr/sbin/nologin\n"),
    (GROUP, "mef:x:ID:\n"),
    ("/etc/shadow", "mef:!*:::::::\n"),
    ("/etc/gshadow", "mef:!*::\n"),
];
/// Programs that make a user of the system, the second one that of busybox; and what systemd does by a file
/// that is shipped.
const SYSUSERS: &str = "systemd-sysusers /etc/sysusers.d/mef.conf";
const PROGRAMS: [(&str, &[&str]); 2] = [
    ("useradd", &["useradd -r -U -M -d / -s /usr/sbin/nologin -c"]),
    ("adduser", &["addgroup -S", "adduser -S -D -H -h / -s /sbin/nologin -G mef -g"]),
];

/// Whether a line is that of the user or group.
fn is_of(line: &str) -> bool {
    line.split(':').next() == Some(NAME)
}

/// Whether a line of users is that of a user whom set-up has made.
fn is_ours(line: &str) -> bool {
    line.split(':').nth(4) == Some(GECOS)
}

/// Whether the user is there.
#[must_use]
pub fn is_there(root: &Root) -> bool {
    root.text(PASSWD).lines().any(is_of)
}

/// The commands that make it. None: it is there, or made by hand.
#[must_use]
pub fn commands(root: &Root, init: Init) -> Vec<Vec<String>> {
    // Not every such program makes a user whose group is there.
    let has_group = root.text(GROUP).lines().any(is_of);
    if !root.is_live() || is_there(root) || has_group || init == Init::Procd {
        return Vec::new();
    }
    let words = |line: &str| line.split(' ').map(str::to_owned).collect::<Vec<_>>();
    if init == Init::Systemd && find("systemd-sysusers").is_some() {
        return vec![words(SYSUSERS)];
    }
    let found = PROGRAMS.iter().find(|(program, _)| find(program).is_some());
    let lines = found.map_or(&[][..], |(_, lines)| lines).iter();
    let ends = |line: &str| if line.ends_with('S') { vec![NAME] } else { vec![GECOS, NAME] };
    lines
        .map(|line| words(line).into_iter().chain(ends(line).into_iter().map(str::to_owned)).collect())
        .collect()
}

/// What makes it by hand, where there are such files, or what is missing of it.
///
/// # Errors
/// What cannot be looked at.
pub fn by_hand(root: &Root) -> Result<Vec<SetupStep>, PlanTrouble> {
    let texts = [PASSWD, GROUP].map(|path| root.text(path));
    let user = texts[0].lines().find(|line| is_of(line));
    if user.is_some_and(|line| !is_ours(line)) {
        return Ok(Vec::new());
    }
    let is_taken = |id: &u32| {
        let id = id.to_string();
        texts.iter().flat_map(|text| text.lines()).any(|line| line.split(':').nth(2) == Some(&id))
    };
    // As others count them: from the last one of those of the system down.
    let group = user.and_then(|line| line.split(':').nth(3)?.parse().ok());
    let Some(id) = group.or_else(|| (100..1000).rev().find(|id| !is_taken(id))) else {
        return Ok(Vec::new());
    };
    let add = |line: &str, text: &str| {
        if user.is_some() && text.lines().any(is_of) {
            return text.to_owned();
        }
        let text = text.strip_suffix('\n').unwrap_or(text);
        let others = text.lines().filter(|line| !is_of(line)).flat_map(|line| [line, "\n"]);
        others.collect::<String>() + &line.replace("ID", &id.to_string())
    };
    FILES.iter().filter_map(|(path, line)| edit(root, path, &|text| add(line, text)).transpose()).collect()
}

/// What takes it away, if it is ours.
///
/// # Errors
/// What cannot be looked at.
pub fn gone(root: &Root) -> Result<Vec<SetupStep>, PlanTrouble> {
    if !root.text(PASSWD).lines().any(|line| is_of(line) && is_ours(line)) {
        return Ok(Vec::new());
    }
    let rest = |text: &str| text.split_inclusive('\n').filter(|line| !is_of(line)).collect();
    FILES.iter().rev().filter_map(|(path, _)| edit(root, path, &rest).transpose()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::setup::Manifest;
    use crate::sys::dir::testing::ScratchDir;

    #[test]
    fn a_user_made_by_hand_is_one_more_line_and_goes_again() {
        let scratch = ScratchDir::new();
        let root = Root::new(scratch.path());
        assert_eq!((by_hand(&root).unwrap(), gone(&root).unwrap()), (Vec::new(), Vec::new()), "no users");
        let before = [
            ("/etc/passwd", "root:x:0:0::/:/bin/sh\nlast:x:999:5::/:\nmefx:x:5:6::/:\n"),
            ("/etc/group", "root:x:0:\nother:x:998:mef\n"),
            ("/etc/shadow", "root:*:1::::::\n"),
        ];
        before.iter().for_each(|(path, text)| root.write(path, text.as_bytes(), 0o600).unwrap());
        let mut manifest = Manifest::default();
        let mut run = |steps: Vec<SetupStep>| {
            steps.iter().for_each(|step| step.run(&root, &mut manifest).unwrap());
            assert!(manifest.files.is_empty(), "these are the host's files");
        };
        run(by_hand(&root).unwrap());
        assert!(is_there(&root) && by_hand(&root).unwrap().is_empty());
        let text = |path: &str| root.text(path);
        assert!(
            text("/etc/passwd").ends_with("mefx:x:5:6::/:\nmef:x:997:997:mef daemon:/:/usr/sbin/nologin\n")
        );
        assert!(text("/etc/group").ends_with("\nmef:x:997:\n"));
        assert!(text("/etc/shadow").ends_with("\nmef:!*:::::::\n") && !root.has("/etc/gshadow"));
        // Cut off before the group was made.
        root.write("/etc/group", before[1].1.as_bytes(), 0o644).unwrap();
        run(by_hand(&root).unwrap());
        assert!(text("/etc/group").ends_with("\nmef:x:997:\n"));
        run(gone(&root).unwrap());
        before.iter().for_each(|(path, was)| assert_eq!(text(path), *was, "{path}"));
        // Somebody of that name who is not ours.
        root.write("/etc/passwd", b"mef:x:1000:1000:Mefisto:/home/mef:/bin/sh\n", 0o644).unwrap();
        assert_eq!((by_hand(&root).unwrap(), gone(&root).unwrap()), (Vec::new(), Vec::new()));
    }
}
