//! Who is told by a daemon that it is ready, as systemd is.

use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Reads what daemons say on `NOTIFY_SOCKET`.
pub struct Supervisor {
    path: PathBuf,
    socket: UnixDatagram,
    ready: Arc<AtomicBool>,
}

impl Supervisor {
    /// With its socket in this directory.
    pub fn new(dir: &Path) -> Supervisor {
        let path = dir.join("ready.sock");
        let socket = super::ns::open_socket(&path);
        let ready = Arc::new(AtomicBool::new(false));
        let (reader, flag) = (socket.try_clone().unwrap(), Arc::clone(&ready));
        std::thread::spawn(move || {
            let mut room = [0; 1024];
            while let Ok(n @ 1..) = reader.recv(&mut room) {
                if room[..n].starts_with(b"READY=1") {
                    flag.store(true, Ordering::SeqCst);
                }
            }
        });
        Supervisor { path, socket, ready }
    }

    /// Has a program tell it.
    pub fn name(&self, command: &mut Command) {
        command.env("NOTIFY_SOCKET", &self.path);
    }

    /// From now on the next one is waited for.
    pub fn expect(&self) {
        self.ready.store(false, Ordering::SeqCst);
    }

    /// Whether somebody has said so since.
    pub fn is_ready(&self) -> bool {
        self.ready.load(Ordering::SeqCst)
    }

    /// Lets go of the thread that reads.
    pub fn end(&self) {
        let _ = self.socket.shutdown(std::net::Shutdown::Both);
    }
}
