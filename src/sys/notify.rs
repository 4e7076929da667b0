#![forbid(unsafe_code)]
//! Tells a supervisor that speaks systemd's protocol how the daemon is (sd_notify): a datagram for each
//! change. Whoever did not ask for it is told nothing.

use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockType, UnixAddr, sendto, setsockopt, socket, sockopt,
};
use nix::time::{ClockId, clock_gettime};
use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::time::Duration;

/// Longest datagram; longer ones are cut, since only the status can be long.
const LONGEST: usize = 512;
/// Room for what the supervisor has not read yet, so that telling it never waits.
const SEND_BUFFER: usize = 16 * 1024;

/// What happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServiceState {
    /// It works: after the start and after each reload.
    Ready,
    /// It reads the configuration again, until it is ready.
    Reloading,
    /// It ends.
    Stopping,
    /// Only the status has changed.
    Same,
}

/// Where the supervisor listens.
#[derive(Default)]
pub struct Supervisor(Option<(OwnedFd, UnixAddr)>);

impl Supervisor {
    /// As the environment of the program says it. Without a word from there nobody listens, and neither does
    /// an address that is none.
    #[must_use]
    pub fn of_environment() -> Supervisor {
        Supervisor(std::env::var_os("NOTIFY_SOCKET").and_then(|place| open(&place).ok()))
    }

    /// Tells it, with a status in words that people read. It does without what it cannot be told.
    pub fn tell(&self, state: ServiceState, status: &str) {
        let Some((fd, place)) = &self.0 else { return };
        let text = text(state, status);
        let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
        let _ = sendto(fd.as_raw_fd(), text.as_bytes(), place, flags);
    }

    /// Whether anybody listens.
    #[must_use]
    pub fn listens(&self) -> bool {
        self.0.is_some()
    }
}

fn open(place: &OsStr) -> io::Result<(OwnedFd, UnixAddr)> {
    let place = match place.as_bytes() {
        [b'@', name @ ..] => UnixAddr::new_abstract(name)?,
        [b'/', ..] => UnixAddr::new(place)?,
        _ => return Err(super::fs::invalid("no address of a supervisor")),
    };
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let fd = socket(AddressFamily::Unix, SockType::Datagram, flags, None)?;
    let _ = setsockopt(&fd, sockopt::SndBuf, &SEND_BUFFER);
    Ok((fd, place))
}

fn text(state: ServiceState, status: &str) -> String {
    let mut text = match state {
        ServiceState::Ready => "READY=1\n".to_owned(),
        ServiceState::Stopping => "STOPPING=1\n".to_owned(),
        ServiceState::Same => String::new(),
        // The time lets the supervisor match the answer to its question.
        ServiceState::Reloading => ["RELOADING=1\nMONOTONIC_USEC=", &monotonic().to_string(), "\n"].concat(),
    };
    if !status.is_empty() {
        text.push_str("STATUS=");
        // A newline would begin another assignment.
        text.extend(status.chars().map(|c| if c.is_control() { ' ' } else { c }));
        let end = (0..=LONGEST.min(text.len())).rev().find(|end| text.is_char_boundary(*end));
        text.truncate(end.unwrap_or(0));
    }
    text
}

/// Microseconds of the clock that systemd compares by.
fn monotonic() -> u128 {
    clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(0, |time| Duration::from(time).as_micros())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixDatagram;

    #[test]
    fn a_status_is_one_line_and_has_an_end() {
        assert_eq!(text(ServiceState::Ready, "protected"), "READY=1\nSTATUS=protected");
        assert_eq!(text(ServiceState::Same, "a\nREADY=1\tb"), "STATUS=a READY=1 b");
        assert_eq!(text(ServiceState::Stopping, ""), "STOPPING=1\n");
        let long = text(ServiceState::Same, &"é".repeat(600));
        assert!(long.len() <= LONGEST && long.ends_with('é'), "{}", long.len());
        let reload = text(ServiceState::Reloading, "");
        let time = reload.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").unwrap().trim_end();
        assert!(time.parse::<u64>().unwrap() > 0);
    }

    #[test]
    fn who_listens_is_told_and_who_does_not_stops_nobody() {
        let path = std::env::temp_dir().join(format!("mef-notify-{}", std::process::id()));
        let _ = std::fs::remove_file(&path);
        let there = UnixDatagram::bind(&path).unwrap();
        let supervisor = Supervisor(Some(open(path.as_os_str()).unwrap()));
        supervisor.tell(ServiceState::Ready, "protected");
        let mut room = [0; 64];
        let n = there.recv(&mut room).unwrap();
        assert_eq!(&room[..n], b"READY=1\nSTATUS=protected");
        // Nobody reads: it does not wait.
        (0..5000).for_each(|_| supervisor.tell(ServiceState::Same, "protected"));
        drop(there);
        std::fs::remove_file(&path).unwrap();
        supervisor.tell(ServiceState::Same, "protected");
        for place in ["", "relative", "vsock:2:1"] {
            assert!(open(OsStr::new(place)).is_err(), "{place}");
        }
        assert!(open(OsStr::new("@mef")).is_ok());
        Supervisor::default().tell(ServiceState::Ready, "protected");
    }
}
