#![forbid(unsafe_code)]
//! Changes to a list, `local.conf` as a rule: lines are added or taken away, all others stay as they are, and
//! the file is replaced as a whole. Two commands at once wait for each other. Knows no kernel.

use super::hosts::plain;
use super::kept::write_entry;
use super::{LOCAL, ListTurn, Paths};
use crate::base::clock::Wall;
use crate::base::range::Range;
use crate::config::{ListCounts, ListEntry, ListKind, ListWord, list_lines, list_word, read_list};
use crate::sys::dir::{Access, Dir};
use crate::sys::fs;
use ipnet::IpNet;
use std::fs::File;
use std::io::{self, ErrorKind};

/// Longest file that is edited.
const BYTES: u64 = 16 << 20;

/// On what terms entries are added.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ListTerms {
    /// When they end.
    pub until: Option<Wall>,
    /// Whether they hold whatever speaks against them.
    pub force: bool,
}

impl ListTerms {
    /// An entry on these terms.
    #[must_use]
    pub fn of(self, net: IpNet) -> ListEntry {
        ListEntry { net, until: self.until, force: self.force }
    }
}

/// A list that is being changed; no other command changes it meanwhile.
pub struct Edit {
    kind: ListKind,
    name: String,
    dir: Dir,
    file: Option<File>,
    text: Vec<u8>,
    changed: bool,
}

impl Edit {
    /// Reads `local.conf`. The directory is made if it is missing.
    ///
    /// # Errors
    /// What the system says; `InvalidInput` for a link.
    pub fn open(paths: &Paths, kind: ListKind, turn: &ListTurn) -> io::Result<Edit> {
        Edit::open_list(paths, kind, LOCAL, turn)
    }

    /// Likewise the list of this name.
    ///
    /// # Errors
    /// As `open`.
    pub fn open_list(paths: &Paths, kind: ListKind, name: &str, _turn: &ListTurn) -> io::Result<Edit> {
        let dir = Dir::create(paths.dir(kind))?;
        let file = match dir.file(name, Access::Read) {
            Ok(file) => Some(file),
            Err(e) if e.kind() == ErrorKind::NotFound => None,
            Err(e) => return Err(e),
        };
        let text = match &file {
            Some(file) if fs::facts_of(file)?.size > BYTES => {
                return Err(fs::invalid("it is larger than 16 MiB"));
            }
            Some(file) => fs::read(file.try_clone()?, BYTES)?,
            None => Vec::new(),
        };
        // Lines at the end of what is no text would make it no better.
        read_list(kind, &mut text.as_slice(), &mut |_| ())?;
        Ok(Edit { kind, name: name.to_owned(), dir, file, text, changed: false })
    }

    /// Adds entries, each once, instead of what the file says of the same networks.
    pub fn add(&mut self, ranges: &[Range], terms: ListTerms) {
        let mut nets: Vec<Range> = ranges.iter().flat_map(|r| r.nets()).map(Range::from).collect();
        nets.sort_unstable();
        nets.dedup();
        let mut there = vec![false; nets.len()];
        self.retain(&mut |entries| {
            // A range or several clients in one line stay as they are.
            let [entry] = entries else { return true };
            let Ok(at) = nets.binary_search(&Range::from(entry.net)) else { return true };
            let same = terms.of(entry.net) == *entry;
            let again = there.get_mut(at).is_none_or(|seen| same && std::mem::replace(seen, true));
            same && !again
        });
        self.end_line();
        for (net, _) in nets.iter().zip(&there).filter(|(_, there)| !**there) {
            net.nets().for_each(|net| write_entry(&mut self.text, &terms.of(net)));
            self.changed = true;
        }
    }

    /// Takes away every line whose entries are in the ranges; for each range, whether there was any.
    pub fn remove(&mut self, ranges: &[Range]) -> Vec<bool> {
        let mut found = vec![false; ranges.len()];
        let covers = |entry: &ListEntry| ranges.iter().position(|r| r.covers(&Range::from(entry.net)));
        self.retain(&mut |entries| {
            if !entries.iter().all(|entry| covers(entry).is_some()) {
                return true;
            }
            for net in entries.iter().map(|entry| Range::from(entry.net)) {
                let hit = ranges.iter().zip(&mut found).filter(|(range, _)| range.covers(&net));
                hit.for_each(|(_, found)| *found = true);
            }
            false
        });
        found
    }

    /// Adds host names, each once, instead of what the file says of them. They do not end.
    pub fn add_hosts(&mut self, names: &[String], ListTerms { force, .. }: ListTerms) {
        let mut missing: Vec<&String> = names.iter().collect();
        missing.sort_unstable();
        missing.dedup();
        self.retain_words(&mut |word| {
            let ListWord::Host(name, forced) = word else { return true };
            let Some(at) = missing.iter().position(|wanted| plain(wanted) == plain(name)) else {
                return names.iter().all(|wanted| plain(wanted) != plain(name));
            };
            let same = *forced == force;
            if same {
                missing.swap_remove(at);
            }
            same
        });
        self.end_line();
        missing.sort_unstable();
        for name in missing {
            let force = if force { " force" } else { "" };
            self.text.extend_from_slice(format!("{name}{force}\n").as_bytes());
            self.changed = true;
        }
    }

    /// Takes away the lines of host names; for each name, whether there was any.
    pub fn remove_hosts(&mut self, names: &[String]) -> Vec<bool> {
        let mut found = vec![false; names.len()];
        self.retain_words(&mut |word| {
            let ListWord::Host(name, _) = word else { return true };
            let at = names.iter().position(|wanted| plain(wanted) == plain(name));
            at.and_then(|at| found.get_mut(at)).map(|found| *found = true).is_none()
        });
        found
    }

    /// How many of its lines are good and bad now.
    #[must_use]
    pub fn counts(&self) -> ListCounts {
        list_lines(self.kind, &self.text, &mut |_| ())
    }

    /// Takes away what has ended.
    fn expire(&mut self, now: Wall) {
        self.retain(&mut |entries| entries.iter().any(|entry| entry.until.is_none_or(|until| until > now)));
    }

    /// What is added begins a line of its own.
    fn end_line(&mut self) {
        if self.text.last().is_some_and(|&b| b != b'\n') {
            self.text.push(b'\n');
        }
    }

    /// Keeps the lines that are no entries, and those of the entries that are wanted.
    fn retain(&mut self, wanted: &mut dyn FnMut(&[ListEntry]) -> bool) {
        self.retain_words(&mut |word| match word {
            ListWord::Entry(entry) => wanted(std::slice::from_ref(entry)),
            ListWord::Several(entries) => wanted(entries),
            _ => true,
        });
    }

    /// Keeps the lines that are wanted.
    fn retain_words(&mut self, wanted: &mut dyn FnMut(&ListWord<'_>) -> bool) {
        let text = std::mem::take(&mut self.text);
        for line in text.split_inclusive(|&b| b == b'\n') {
            let stays = wanted(&list_word(self.kind, line));
            if stays {
                self.text.extend_from_slice(line);
            }
            self.changed |= !stays;
        }
    }

    /// Writes the file, if anything was changed.
    ///
    /// # Errors
    /// What the system says; then the file is as before.
    pub fn save(mut self, now: Wall) -> io::Result<()> {
        self.expire(now);
        if !self.changed {
            return Ok(());
        }
        let like = self.file.as_ref().map(File::metadata).transpose()?;
        let temporary = [".", &self.name, ".new"].concat();
        self.dir.replace_like(like.as_ref(), &self.name, &temporary, &self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ban::BackendChoice;
    use crate::sys::dir::testing::ScratchDir;
    use std::os::unix::fs::PermissionsExt as _;

    fn paths(scratch: &ScratchDir) -> Paths {
        let path = |name| scratch.path().join(name);
        Paths {
            allow: path("allow"),
            deny: path("deny"),
            run: path("run"),
            state: path("state"),
            backend: BackendChoice::Auto,
        }
    }

    const LASTING: ListTerms = ListTerms { until: None, force: false };

    fn nets(text: &str) -> Vec<Range> {
        text.split(' ').map(|net| Range::from(net.parse::<IpNet>().unwrap())).collect()
    }

    #[test]
    fn other_lines_stay_and_entries_come_once() {
        let scratch = ScratchDir::new();
        let paths = paths(&scratch);
        let file = scratch.path().join("allow/local.conf");
        let read = || std::fs::read_to_string(&file).unwrap();
        let edit = |f: &dyn Fn(&mut Edit)| {
            let turn = ListTurn::wait(&paths, ListKind::Allow);
            let mut edit = Edit::open(&paths, ListKind::Allow, &turn).unwrap();
            f(&mut edit);
            edit.save(Wall(1000)).unwrap();
        };
        edit(&|e| e.add(&nets("192.0.2.1/32 2001:db8::/64 192.0.2.1/32"), LASTING));
        assert_eq!(read(), "192.0.2.1\n2001:db8::/64\n");
        assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        let text = "# mine\n 192.0.2.1 # me\n\nbad line\n192.0.2.9 until=1970-01-01T00:10Z\nhost.example";
        std::fs::write(&file, text).unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o640)).unwrap();
        let inode = || std::os::unix::fs::MetadataExt::ino(&std::fs::metadata(&file).unwrap());
        let before = inode();
        edit(&|e| e.add(&nets("192.0.2.1/32"), LASTING));
        // What ended is taken away with the next change, and there was none but that.
        assert_eq!(read(), "# mine\n 192.0.2.1 # me\n\nbad line\nhost.example\n");
        assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o640);
        assert_ne!(inode(), before, "it is replaced, not written");
        let before = inode();
        edit(&|e| e.add(&nets("192.0.2.1/32"), LASTING));
        assert_eq!(inode(), before, "nothing to do, nothing written");
        edit(&|e| e.add(&nets("192.0.2.1/32"), ListTerms { until: Some(Wall(2000)), force: true }));
        let timed = "# mine\n\nbad line\nhost.example\n192.0.2.1 until=1970-01-01T00:33:20Z force\n";
        assert_eq!(read(), timed);
        edit(&|e| assert_eq!(e.remove(&nets("192.0.2.0/24 192.0.2.1/32 192.0.3.0/24")), [true, true, false]));
        assert_eq!(read(), "# mine\n\nbad line\nhost.example\n");
        edit(&|e| assert_eq!(e.remove(&nets("192.0.2.0/24")), [false]));
        std::fs::write(&file, "192.0.2.0-192.0.2.2\nsshd: 192.0.2.7, 192.0.2.8\n").unwrap();
        edit(&|e| assert_eq!(e.remove(&nets("192.0.2.2/32 192.0.2.7/32")), [false, false]));
        edit(&|e| assert_eq!(e.remove(&nets("192.0.2.0/30")), [true]));
        assert_eq!(read(), "sshd: 192.0.2.7, 192.0.2.8\n");
        assert!(!scratch.path().join("allow/.local.conf.new").exists());
    }

    #[test]
    fn host_names_come_once_and_go() {
        let scratch = ScratchDir::new();
        let paths = paths(&scratch);
        let file = scratch.path().join("allow/local.conf");
        let edit = |f: &dyn Fn(&mut Edit)| {
            let turn = ListTurn::wait(&paths, ListKind::Allow);
            let mut edit = Edit::open(&paths, ListKind::Allow, &turn).unwrap();
            f(&mut edit);
            edit.save(Wall(1000)).unwrap();
            std::fs::read_to_string(&file).unwrap()
        };
        let names = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        let forced = ListTerms { until: None, force: true };
        std::fs::create_dir(scratch.path().join("allow")).unwrap();
        std::fs::write(&file, "# mine\n192.0.2.1\nHOME.example. # me\nhome.example").unwrap();
        let added = edit(&|e| e.add_hosts(&names("home.example b.example b.example"), LASTING));
        assert_eq!(added, "# mine\n192.0.2.1\nHOME.example. # me\nb.example\n");
        let again = edit(&|e| e.add_hosts(&names("home.example"), forced));
        assert_eq!(again, "# mine\n192.0.2.1\nb.example\nhome.example force\n");
        let gone = edit(&|e| {
            assert_eq!(e.remove_hosts(&names("B.EXAMPLE. c.example")), [true, false]);
        });
        assert_eq!(gone, "# mine\n192.0.2.1\nhome.example force\n");
    }

    #[test]
    fn a_link_is_not_written_through() {
        let scratch = ScratchDir::new();
        std::fs::create_dir(scratch.path().join("deny")).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", scratch.path().join("deny/local.conf")).unwrap();
        let paths = paths(&scratch);
        let turn = ListTurn::wait(&paths, ListKind::Deny);
        assert!(Edit::open(&paths, ListKind::Deny, &turn).is_err());
    }
}
