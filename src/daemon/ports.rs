#![forbid(unsafe_code)]
//! The ports that something has listened on within a day: who asks for a service that restarts is no
//! scanner. The kernel notes them by itself; here is what outlives a reboot, in a small file of state_dir,
//! and what nobody has asked for yet.

use crate::ban::PORT_MEMORY;
use crate::base::clock::{Now, Wall};
use crate::firewall::backend::Backend;
use crate::sys::dir::Dir;
use crate::sys::{fs, host};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// The file, one `PORT UNTIL` a line, and the one it is written as.
const NAME: &str = "ports";
const TEMP: &str = "ports.new";
/// Largest file that is read.
const FILE_MAX: u64 = 256 * 1024;
/// Seconds between two writes, so that flash does not wear.
const PAUSE: u64 = 3600;

/// Where they are kept.
pub(super) struct ServedPorts {
    dir: PathBuf,
    written: Option<Wall>,
}

impl ServedPorts {
    pub(super) fn new(state_dir: &str) -> ServedPorts {
        ServedPorts { dir: PathBuf::from(state_dir), written: None }
    }

    /// Tells the kernel what is known, and what listens now.
    pub(super) fn restore(&self, now: Now, guard: &mut dyn Backend) {
        if !guard.remembers_ports() {
            return;
        }
        let text =
            fs::open(&self.dir.join(NAME)).and_then(|file| fs::read(file, FILE_MAX)).unwrap_or_default();
        let mut ports: Vec<(u16, u64)> =
            host::open_ports().into_iter().map(|port| (port, PORT_MEMORY)).collect();
        for (port, left) in read(&text, now.wall) {
            if ports.iter().all(|(known, _)| *known != port) {
                ports.push((port, left));
            }
        }
        if let Err(e) = guard.set_open_ports(&ports) {
            log::warn!("{e}: services that restart may look like closed ports");
        }
    }

    /// What the kernel knows, if it has not been written for an hour: for [`write`].
    pub(super) fn due(&mut self, now: Now, guard: &mut dyn Backend) -> Option<String> {
        let due = self.written.is_none_or(|at| now.wall.0.abs_diff(at.0) >= PAUSE);
        if !guard.remembers_ports() || !due {
            return None;
        }
        self.written = Some(now.wall);
        // What cannot be read is told by whoever keeps bans there, and five minutes after a boot nothing
        // counts.
        guard.open_ports().ok().map(|ports| text(&ports, now.wall))
    }

    /// Has it written by the next save, however long ago that was.
    pub(super) fn hurry(&mut self) {
        self.written = None;
    }

    /// Writes what the kernel knows, if it is due.
    pub(super) fn save(&mut self, now: Now, guard: &mut dyn Backend) {
        self.due(now, guard).iter().for_each(|text| write(&self.dir, text));
    }
}

fn text(ports: &[(u16, u64)], now: Wall) -> String {
    let mut text = String::new();
    for (port, left) in ports {
        let _ = writeln!(text, "{port} {}", now.0.saturating_add(left / 1000));
    }
    text
}

/// Keeps it in state_dir; what cannot be written is told by whoever keeps bans there.
pub(super) fn write(dir: &Path, text: &str) {
    let _ = Dir::create(dir).and_then(|dir| dir.replace(NAME, TEMP, text.as_bytes()));
}

/// Ports and how many milliseconds they are remembered for; what is no such line, or is over, is passed over.
fn read(text: &[u8], now: Wall) -> impl Iterator<Item = (u16, u64)> {
    text.split(|&b| b == b'\n').filter_map(move |line| {
        let (port, until) = std::str::from_utf8(line).ok()?.split_once(' ')?;
        let (port, until): (u16, u64) = (port.parse().ok()?, until.parse().ok()?);
        let left = until.checked_sub(now.0)?.saturating_mul(1000).min(PORT_MEMORY);
        (left > 0).then_some((port, left))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back_without_what_is_over() {
        let dir = std::env::temp_dir().join(format!("mef-ports-{}", std::process::id()));
        let ports = [(80, PORT_MEMORY), (8080, 5000), (9100, 1_000_000)];
        write(&dir, &text(&ports, Wall(1000)));
        let text = std::fs::read(dir.join(NAME)).unwrap();
        let left: Vec<_> = read(&text, Wall(1010)).collect();
        assert_eq!(left, [(80, PORT_MEMORY - 10_000), (9100, 990_000)]);
        // A clock that was set back makes nothing last longer than it may.
        assert!(read(&text, Wall(0)).all(|(_, left)| left <= PORT_MEMORY));
        std::fs::remove_dir_all(&dir).unwrap();
        for junk in ["", "\n\n", "x y", "80", "80 ", "99999 5000", "80 -1", "\u{fffd} 1"] {
            assert_eq!(read(junk.as_bytes(), Wall(0)).count(), 0, "{junk}");
        }
    }
}
