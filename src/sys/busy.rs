#![forbid(unsafe_code)]
//! A word now and then of who is at something that takes long, so that nobody takes him for one that hangs.

use super::clock;
use super::seqpacket::{self, PacketWait};
use crate::base::build_part::BuildPart;
use crate::base::clock::Mono;
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::{Mutex, PoisonError};

/// Milliseconds from one word to the next.
const PAUSE: u64 = 1000;

/// Where it goes.
struct BusyWord {
    to: OwnedFd,
    word: Vec<u8>,
    told: Mono,
}

static WORD: Mutex<Option<BusyWord>> = Mutex::new(None);

/// Has `word` sent there from now on, which is another process of ours.
pub fn give_to(to: OwnedFd, word: Vec<u8>) {
    *WORD.lock().unwrap_or_else(PoisonError::into_inner) = Some(BusyWord { to, word, told: clock::mono() });
}

/// This process is at something: a part of that is done.
pub fn tell() {
    if !BuildPart::Observer.is_in() {
        return;
    }
    let mut all = WORD.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(all) = &mut *all else { return };
    let now = clock::mono();
    if now.since(all.told) >= PAUSE {
        all.told = now;
        // Who has no room for it has something to hear already.
        let _ = seqpacket::send(all.to.as_fd(), &all.word, &[], PacketWait::None);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn a_word_is_said_now_and_then() {
        let (ours, theirs) = seqpacket::pair().unwrap();
        tell();
        let now = clock::mono();
        *WORD.lock().unwrap() = Some(BusyWord { to: ours, word: vec![7, 8], told: now });
        let said = |told: Mono| {
            WORD.lock().unwrap().as_mut().unwrap().told = told;
            tell();
            let mut room = [0; 8];
            seqpacket::receive(theirs.as_fd(), &mut room, PacketWait::None)
                .is_ok_and(|len| room[..len] == [7, 8])
        };
        assert!(said(Mono(now.0.saturating_sub(PAUSE))));
        assert!(!said(now.after(60_000)), "that was just now");
        // Nobody waits for who does not hear.
        for _ in 0..10_000 {
            WORD.lock().unwrap().as_mut().unwrap().told = Mono(0);
            tell();
        }
        *WORD.lock().unwrap() = None;
    }
}
