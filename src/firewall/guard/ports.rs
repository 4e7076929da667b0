#![forbid(unsafe_code)]
//! Ports: those that something has listened on, which are no closed ones, and those that a scanner was seen
//! to touch.

use super::list::host;
use super::scan::{PORTS, Scan, seen_set};
use super::words::key_type;
use super::{Guard, TABLE};
use crate::ban::{Capability, Failure, Scanner};
use crate::base::range::Family;
use crate::firewall::nft::elem::{Elem, Timeout};
use crate::firewall::nft::query;

/// Ports that are told the kernel at once at most.
pub(in crate::firewall) const PORTS_TOLD_MAX: usize = 2048;
/// Ports that are told of a scan at most.
pub const PORTS_TOLD: usize = 32;

impl Guard {
    /// Whether the ports that sockets listen on have to be told to the kernel.
    #[must_use]
    pub fn wants_open_ports(&self) -> bool {
        self.remembers_ports() && self.made.is_some_and(|made| made.missing.has(Capability::Sockets))
    }

    /// Whether ports that something listens on are remembered.
    #[must_use]
    pub fn remembers_ports(&self) -> bool {
        let listening = self.options.scan.as_ref().is_some_and(|scan| scan.listening);
        listening && self.made.is_some_and(|made| made.has(&Scan))
    }

    /// Ports that something has listened on, each for how many milliseconds more that is remembered.
    ///
    /// # Errors
    /// The system call or the kernel's error.
    pub fn open_ports(&mut self) -> Result<Vec<(u16, u64)>, Failure> {
        let ports = std::cell::RefCell::new(Vec::new());
        if self.remembers_ports() {
            query::elements(
                &mut self.socket,
                &TABLE,
                &PORTS,
                &mut || ports.borrow_mut().clear(),
                &mut |e| {
                    if let Ok(port) = e.key.try_into() {
                        ports.borrow_mut().push((u16::from_be_bytes(port), e.left_ms));
                    }
                },
            )?;
        }
        Ok(ports.into_inner())
    }

    /// Has ports remembered as open for so many milliseconds from now.
    ///
    /// # Errors
    /// What the kernel refused; then none of them is.
    pub fn set_open_ports(&mut self, ports: &[(u16, u64)]) -> Result<(), Failure> {
        if !self.remembers_ports() {
            return Ok(());
        }
        // Old kernels keep the first time: what is added can be deleted without an error, and added anew.
        for adds in [true, false, true] {
            for (port, left) in ports.iter().take(PORTS_TOLD_MAX) {
                let key = &port.to_be_bytes();
                let timeout = if adds { Timeout::Ms((*left).max(1)) } else { Timeout::None };
                let elem = Elem { key, end: None, timeout, comment: "" };
                if adds { self.txn.add_elem(&PORTS, &elem) } else { self.txn.delete_elem(&PORTS, &elem) }
            }
        }
        Ok(self.txn.commit(&mut self.socket)?)
    }

    /// Finds which closed ports each has touched; what cannot be found is left out.
    ///
    /// # Errors
    /// The system call or the kernel's error.
    pub fn scanned_ports(&mut self, scanners: &mut [Scanner]) -> Result<(), Failure> {
        let Some(made) = self.made else { return Ok(()) };
        for family in Family::ALL {
            if scanners.iter().all(|s| s.addr.family() != family) {
                continue;
            }
            let len = key_type(family).1 as usize;
            query::elements(&mut self.socket, &TABLE, &seen_set(family), &mut || (), &mut |e| {
                let Some((source, &[a, b, ..])) = e.key.split_at_checked(len) else { return };
                let Some(from) = host(source, made) else { return };
                let port = u16::from_be_bytes([a, b]);
                for s in scanners.iter_mut().filter(|s| s.addr == from) {
                    if s.ports.len() < PORTS_TOLD && !s.ports.contains(&port) {
                        s.ports.push(port);
                    }
                }
            })?;
        }
        Ok(())
    }
}
