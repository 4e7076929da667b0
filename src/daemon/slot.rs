#![forbid(unsafe_code)]
//! What a loop waits for, as rows of a table: whoever stands first has its turn first, and everybody that is
//! ready has one turn before anybody has another. Knows nothing of what the turns do.

use crate::base::clock::{Mono, Now};
use crate::sys::poll::{Ready, wait};
use std::io;
use std::os::fd::BorrowedFd;

/// One row; `D` is what all turns work on.
pub(super) struct Slot<D> {
    /// How many descriptors it has at most.
    pub(super) fds: usize,
    /// Those that are to be waited for, by number.
    pub(super) fd: fn(&D, usize) -> Option<BorrowedFd<'_>>,
    /// When it is due even if none is ready; a moment that has passed means now.
    pub(super) deadline: fn(&D) -> Option<Mono>,
    /// What it does, a bounded amount of it; it is told what of each descriptor.
    pub(super) turn: fn(&mut D, Now, &[Ready]) -> Turn,
    /// It has a turn whenever anybody else has one.
    pub(super) always: bool,
}

impl<D> Slot<D> {
    /// A row without descriptors that is never due.
    pub(super) const fn new(turn: fn(&mut D, Now, &[Ready]) -> Turn) -> Slot<D> {
        Slot { fds: 0, fd: |_, _| None, deadline: |_| None, turn, always: false }
    }

    /// With one descriptor.
    pub(super) const fn on(self, fd: fn(&D, usize) -> Option<BorrowedFd<'_>>) -> Slot<D> {
        self.on_each(1, fd)
    }

    /// With so many descriptors.
    pub(super) const fn on_each(self, fds: usize, fd: fn(&D, usize) -> Option<BorrowedFd<'_>>) -> Slot<D> {
        Slot { fds, fd, ..self }
    }

    /// Due then.
    pub(super) const fn at(self, deadline: fn(&D) -> Option<Mono>) -> Slot<D> {
        Slot { deadline, ..self }
    }

    /// With a turn whenever anybody else has one.
    pub(super) const fn always(self) -> Slot<D> {
        Slot { always: true, ..self }
    }

    fn is_due(&self, on: &D, now: Mono) -> bool {
        (self.deadline)(on).is_some_and(|at| at <= now)
    }
}

/// What is to become of the loop after a turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    /// It goes on.
    Done,
    /// It ends; nobody has another turn.
    Stop,
}

/// How many descriptors these rows have at most.
pub(super) const fn room<D>(slots: &[Slot<D>]) -> usize {
    let (mut room, mut rest) = (0, slots);
    while let [first, behind @ ..] = rest {
        room += first.fds;
        rest = behind;
    }
    room
}

/// Sleeps until a descriptor of a row is ready, or a row or `deadline` is due. `ready` has [`room`].
///
/// # Errors
/// Those of [`wait`].
pub(super) fn sleep<D, const ROOM: usize>(
    slots: &[Slot<D>],
    on: &D,
    deadline: Option<Mono>,
    ready: &mut [Ready; ROOM],
) -> io::Result<()> {
    let mut fds = [None; ROOM];
    let mut places = fds.iter_mut();
    let mut first = deadline;
    for slot in slots {
        for (number, place) in (0..slot.fds).zip(&mut places) {
            *place = (slot.fd)(on, number);
        }
        first = first.into_iter().chain((slot.deadline)(on)).min();
    }
    wait(&fds, ready, first)
}

/// Gives everybody who is ready or due its turn, in the order of the rows. Whether somebody had one beside
/// those that always have; `None` if the loop is to end.
pub(super) fn pass<D>(slots: &[Slot<D>], on: &mut D, now: Now, ready: &[Ready]) -> Option<bool> {
    let woken = ready.iter().any(|one| *one != Ready::No);
    let any = woken || slots.iter().any(|slot| slot.is_due(on, now.mono));
    let (mut rest, mut others) = (ready, woken);
    for slot in slots {
        let (own, behind) = rest.split_at_checked(slot.fds).unwrap_or((rest, &[]));
        rest = behind;
        let due = slot.is_due(on, now.mono);
        if own.iter().any(|one| *one != Ready::No) || due || slot.always && any {
            others |= due && !slot.always;
            if (slot.turn)(on, now, own) == Turn::Stop {
                return None;
            }
        }
    }
    Some(others)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::clock::Wall;
    use std::io::{Read as _, Write as _};
    use std::os::fd::AsFd as _;
    use std::os::unix::net::UnixStream;

    const MORNING: Now = Now { mono: Mono(1000), wall: Wall(1) };

    struct TestLoop {
        streams: [(UnixStream, UnixStream); 2],
        due: [Option<Mono>; 3],
        said: Vec<&'static str>,
    }

    fn desk() -> TestLoop {
        let streams = [UnixStream::pair().unwrap(), UnixStream::pair().unwrap()];
        TestLoop { streams, due: [None; 3], said: Vec::new() }
    }

    fn first(desk: &mut TestLoop, _: Now, _: &[Ready]) -> Turn {
        desk.said.push("first");
        Turn::Done
    }

    /// Never reads all that there is.
    fn flood(desk: &mut TestLoop, _: Now, ready: &[Ready]) -> Turn {
        desk.said.push("flood");
        if ready == [Ready::Read] {
            desk.streams[0].0.read_exact(&mut [0]).unwrap();
        }
        Turn::Done
    }

    fn quiet(desk: &mut TestLoop, _: Now, ready: &[Ready]) -> Turn {
        desk.said.push("quiet");
        desk.due[2] = None;
        if ready == [Ready::Read] {
            desk.streams[1].0.read_exact(&mut [0]).unwrap();
        }
        if desk.said.len() > 20 { Turn::Stop } else { Turn::Done }
    }

    const SLOTS: [Slot<TestLoop>; 3] = [
        Slot::new(first).always().at(|desk| desk.due[0]),
        Slot::new(flood).on(|desk, _| Some(desk.streams[0].0.as_fd())).at(|desk| desk.due[1]),
        Slot::new(quiet).on(|desk, _| Some(desk.streams[1].0.as_fd())).at(|desk| desk.due[2]),
    ];

    fn turn(desk: &mut TestLoop) -> Option<bool> {
        let mut ready = [Ready::No; room(&SLOTS)];
        sleep(&SLOTS, desk, Some(Mono::default()), &mut ready).unwrap();
        pass(&SLOTS, desk, MORNING, &ready)
    }

    #[test]
    fn a_flood_delays_others_by_one_turn_at_most() {
        let mut desk = desk();
        desk.streams[0].1.write_all(&[1; 5000]).unwrap();
        assert_eq!(turn(&mut desk), Some(true));
        assert_eq!(desk.said, ["first", "flood"]);
        desk.streams[1].1.write_all(&[1]).unwrap();
        assert_eq!(turn(&mut desk), Some(true));
        assert_eq!(desk.said, ["first", "flood", "first", "flood", "quiet"]);
        assert_eq!(turn(&mut desk), Some(true));
        assert_eq!(desk.said.len(), 7, "the flood goes on");
    }

    #[test]
    fn who_is_due_has_a_turn_and_the_first_one_has_it_with_everybody() {
        let mut desk = desk();
        assert_eq!(turn(&mut desk), Some(false));
        assert!(desk.said.is_empty(), "nothing happened");
        desk.due[2] = Some(MORNING.mono);
        assert_eq!(turn(&mut desk), Some(true));
        assert_eq!(desk.said, ["first", "quiet"]);
        desk.due[1] = Some(MORNING.mono.after(1));
        assert_eq!(turn(&mut desk), Some(false), "it is not time yet");
        desk.due = [Some(MORNING.mono), None, None];
        assert_eq!(turn(&mut desk), Some(false), "by itself it counts as nothing that happened");
        assert_eq!(desk.said, ["first", "quiet", "first"]);
    }

    #[test]
    fn who_stops_the_loop_has_the_last_turn() {
        let mut desk = desk();
        desk.said = vec![""; 20];
        desk.due[2] = Some(MORNING.mono);
        assert_eq!(turn(&mut desk), None);
    }
}
