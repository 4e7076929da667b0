//! A terminal for a program: a pseudo terminal of any size, what it shows, and keys.

use super::{Net, wait_until};
use nix::pty::{OpenptyResult, openpty};
use nix::sys::termios::{LocalFlags, tcgetattr};
use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::os::fd::AsRawFd;
use std::process::Command;

unsafe extern "C" {
    /// The C library's own knowledge of widths, which is not that of the program.
    fn wcwidth(c: libc::wchar_t) -> libc::c_int;
}

/// Columns of a character on a terminal.
fn columns_of(c: char) -> usize {
    // SAFETY: a category and a name that ends with a NUL.
    assert!(!unsafe { libc::setlocale(libc::LC_CTYPE, c"C.UTF-8".as_ptr()) }.is_null());
    // SAFETY: no memory is involved.
    let width = unsafe { wcwidth(libc::wchar_t::try_from(u32::from(c)).unwrap()) };
    usize::try_from(width).unwrap_or_else(|_| panic!("{c:?} has no width"))
}

/// Stands behind a character of two columns.
const SECOND: char = '\0';

/// A program on a terminal of its own.
pub struct Pty {
    master: File,
    grid: Vec<Vec<char>>,
    at: (usize, usize),
    /// Bytes of an escape sequence or a character that is not whole.
    rest: Vec<u8>,
    /// Everything that was written.
    pub written: String,
    /// Which of the programs of its host it is.
    pub program: usize,
    /// How the terminal read what is typed before the program was there.
    pub modes_before: LocalFlags,
}

impl Pty {
    /// Starts a program on a terminal of so many lines and columns.
    pub fn start(net: &mut Net, mut command: Command, size: (u16, u16)) -> Pty {
        command.env_remove("NO_COLOR");
        Pty::start_in(net, command, size)
    }

    /// Likewise, in the environment that it has.
    pub fn start_in(net: &mut Net, mut command: Command, (rows, columns): (u16, u16)) -> Pty {
        let size = libc::winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        let OpenptyResult { master, slave } = openpty(Some(&size), None).unwrap();
        let modes_before = tcgetattr(&master).unwrap().local_flags;
        let slave = File::from(slave);
        let output = (slave.try_clone().unwrap(), slave.try_clone().unwrap());
        command.stdin(slave).stdout(output.0).stderr(output.1).env("TERM", "xterm");
        let program = net.start_as_is(command);
        let master = File::from(master);
        // SAFETY: a descriptor of ours, and flags.
        let set = unsafe { libc::fcntl(master.as_raw_fd(), libc::F_SETFL, libc::O_NONBLOCK) };
        assert_eq!(set, 0);
        let grid = vec![vec![' '; columns.into()]; rows.into()];
        Pty { master, grid, at: (0, 0), rest: Vec::new(), written: String::new(), program, modes_before }
    }

    /// How the terminal reads what is typed.
    pub fn modes(&self) -> LocalFlags {
        tcgetattr(&self.master).unwrap().local_flags
    }

    /// Presses keys.
    pub fn press(&mut self, keys: &str) {
        self.master.write_all(keys.as_bytes()).unwrap();
    }

    /// Gives it another size.
    pub fn resize(&mut self, rows: u16, columns: u16) {
        let size = libc::winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        // SAFETY: the kernel reads a `winsize` of ours.
        assert_eq!(unsafe { libc::ioctl(self.master.as_raw_fd(), libc::TIOCSWINSZ, &raw const size) }, 0);
        self.screen();
        self.grid = vec![vec![' '; columns.into()]; rows.into()];
        self.at = (0, 0);
    }

    /// What the terminal shows, without blanks at the ends of lines and without empty lines at its end.
    pub fn screen(&mut self) -> String {
        let mut room = [0; 65536];
        loop {
            match self.master.read(&mut room) {
                Ok(0) => break,
                Ok(n) => self.take(&room[..n]),
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                // Nothing there, or nobody has the other end any more.
                Err(_) => break,
            }
        }
        let lines: Vec<String> = self.grid.iter().map(|line| text(line).trim_end().to_owned()).collect();
        lines.join("\n").trim_end().to_owned()
    }

    /// Waits until it shows something; the screen then.
    #[track_caller]
    pub fn wait(&mut self, what: &str) -> String {
        let mut shown = String::new();
        wait_until(what, || {
            shown = self.screen();
            shown.contains(what)
        });
        shown
    }

    fn take(&mut self, bytes: &[u8]) {
        self.rest.extend_from_slice(bytes);
        let bytes = std::mem::take(&mut self.rest);
        let mut at = 0;
        while let Some(&byte) = bytes.get(at) {
            let len = match byte {
                0x1b => {
                    let Some(end) = bytes[at..].iter().skip(2).position(|b| (0x40..0x7f).contains(b)) else {
                        break;
                    };
                    let sequence = std::str::from_utf8(&bytes[at + 2..at + 3 + end]).unwrap().to_owned();
                    assert_eq!(bytes[at + 1], b'[', "an escape that is not known");
                    self.obey(&sequence);
                    end + 3
                }
                b'\r' => {
                    self.at.1 = 0;
                    1
                }
                b'\n' => {
                    self.line_feed();
                    1
                }
                _ => {
                    let len = match byte {
                        0..0x80 => 1,
                        0x80..0xe0 => 2,
                        0xe0..0xf0 => 3,
                        _ => 4,
                    };
                    let Some(text) = bytes.get(at..at + len) else { break };
                    let c = std::str::from_utf8(text).unwrap().chars().next().unwrap();
                    assert!(!c.is_control(), "{c:?} on a terminal");
                    self.put(c);
                    len
                }
            };
            self.written.push_str(&String::from_utf8_lossy(&bytes[at..at + len]));
            at += len;
        }
        self.rest = bytes[at..].to_vec();
    }

    fn obey(&mut self, sequence: &str) {
        let (row, column) = self.at;
        let columns = self.grid[0].len();
        match sequence {
            "H" => self.at = (0, 0),
            "K" => self.grid[row][column.min(columns)..].fill(' '),
            "J" => {
                self.grid[row][column.min(columns)..].fill(' ');
                self.grid[row + 1..].iter_mut().for_each(|line| line.fill(' '));
            }
            // Another screen, and the one that was there before.
            "?1049h" | "?1049l" => {
                self.grid.iter_mut().for_each(|line| line.fill(' '));
                self.at = (0, 0);
            }
            "?25h" | "?25l" => {}
            _ if sequence.ends_with('m') => {}
            _ => panic!("{sequence:?} is not known"),
        }
    }

    fn put(&mut self, c: char) {
        let width = columns_of(c);
        if self.at.1 + width > self.grid[0].len() {
            self.at.1 = 0;
            self.line_feed();
        }
        let (row, column) = self.at;
        // Marks stand above what is there.
        for (at, c) in [c, SECOND].into_iter().take(width).enumerate() {
            self.grid[row][column + at] = c;
        }
        self.at.1 += width;
    }

    fn line_feed(&mut self) {
        if self.at.0 + 1 < self.grid.len() {
            self.at.0 += 1;
        } else {
            let columns = self.grid[0].len();
            self.grid.remove(0);
            self.grid.push(vec![' '; columns]);
        }
    }
}

fn text(line: &[char]) -> String {
    line.iter().filter(|c| **c != SECOND).collect()
}
