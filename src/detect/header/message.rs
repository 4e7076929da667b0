//! What is put around a message: the kernel's clock, how often a syslog daemon got it, and the process and
//! date that a service writes itself where it does not know of any syslog.

use super::text::{HeaderText, number};

/// A message without what stands before it by the kernel's habit: `[ 1234.567890] `, since its start.
pub(super) fn plain<'a>(program: &[u8], message: &'a [u8]) -> &'a [u8] {
    if program == b"kernel" { without_clock(message).unwrap_or(message) } else { message }
}

fn without_clock(message: &[u8]) -> Option<&[u8]> {
    let mut text = HeaderText(message);
    text.byte(b'[')?;
    let blanks = text.0.iter().take_while(|&&b| b == b' ').count();
    text.take(blanks)?;
    let close = text.0.iter().take(24).position(|&b| b == b']')?;
    let clock = text.take(close)?;
    let dot = clock.iter().position(|&b| b == b'.')?;
    let (seconds, fraction) = clock.split_at(dot);
    number(seconds)?;
    number(fraction.get(1..)?)?;
    text.byte(b']')?;
    text.byte(b' ')?;
    Some(text.0)
}

/// The message in `message repeated 3 times: [ MESSAGE]`, as rsyslog writes what it got several times in a
/// row, and how often; any other message is itself, once.
pub(in crate::detect) fn repeated(message: &[u8]) -> (u8, &[u8]) {
    folded(message).unwrap_or((1, message))
}

fn folded(message: &[u8]) -> Option<(u8, &[u8])> {
    let mut text = HeaderText(message.strip_prefix(b"message repeated ")?);
    let times = number(text.word()?)?;
    let inner = text.0.strip_prefix(b"times: [ ")?.strip_suffix(b"]")?;
    Some((u8::try_from(times).unwrap_or(u8::MAX).max(1), inner))
}

/// The process and the message in `[4711] Nov 26 08:00:57 MESSAGE`, as Dropbear writes it to its standard
/// error: there one process stands for all that it has begun.
pub(in crate::detect) fn own_process(message: &[u8]) -> Option<(u32, &[u8])> {
    let mut text = HeaderText(message);
    text.byte(b'[')?;
    let close = text.0.iter().take(11).position(|&b| b == b']')?;
    let pid = number(text.take(close)?)?;
    text.byte(b']')?;
    text.byte(b' ')?;
    if !text.at_date() {
        return None;
    }
    text.dated()?;
    text.byte(b' ')?;
    Some((pid, text.0))
}
