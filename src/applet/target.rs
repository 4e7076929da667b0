#![forbid(unsafe_code)]
//! Who is meant by an argument of `ban`, `unban` and their like, and whether banning them is safe.

use super::output::{Output, OutputError};
use crate::ban::{Allowed, Failure, GuardState};
use crate::base::line::shown;
use crate::base::net::{canonical, offender};
use crate::base::range::{Range, covers, merge};
use crate::config::{ListKind, Settings};
use crate::control::client::ControlClient;
use crate::enforce::{Enforcer, journal, options};
use crate::firewall::backend::{Backend, Lists, View};
use crate::firewall::{Moved, Placement, may_have_left, open, open_in_force, placement, take_over, view};
use crate::lists::{self, Gone, ListNote, ListTurn, Paths};
use crate::state::lock::{HeldLock, LockPart, StateLock};
use crate::sys::child::ChildExit;
use crate::sys::fork;
use crate::sys::{host::Protected, stdio};
use std::cell::{OnceCell, RefCell};
use std::io::{self, BufRead, BufReader, Read};
use std::net::IpAddr;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

/// Reads an address, a CIDR or a range. A plain IPv6 address stands for its prefix, as everywhere in mef;
/// with a length behind it, it is exactly that network.
pub(super) fn read(text: &str, ipv6_prefix: u8) -> Result<Range, String> {
    let text = text.trim();
    let wrong = || {
        let text: String = text.chars().take(80).collect();
        let text = shown(&text);
        format!("'{text}' is not an address, network (192.0.2.0/24) or range (192.0.2.1-192.0.2.9)")
    };
    if text.contains('/') {
        return crate::config::net(text).map(Range::from).map_err(|bad| bad.what);
    }
    let address = |text: &str| text.trim().parse::<IpAddr>().map(canonical).map_err(|_| wrong());
    match text.split_once('-') {
        Some((first, last)) => Range::new(address(first)?, address(last)?).ok_or_else(wrong),
        None => Ok(Range::from(offender(address(text)?, ipv6_prefix))),
    }
}

/// Reads who is meant by arguments.
pub(super) struct TargetReader {
    ipv6_prefix: u8,
    /// Read when the first address of IPv6 comes.
    protected: OnceCell<Protected>,
}

impl TargetReader {
    pub(super) fn new(ipv6_prefix: u8) -> TargetReader {
        TargetReader { ipv6_prefix, protected: OnceCell::new() }
    }

    /// As `read`; but a plain IPv6 address in whose prefix somebody is who must not be banned, this host for
    /// example, is meant alone.
    pub(super) fn read(&self, text: &str) -> Result<Range, String> {
        let range = read(text, self.ipv6_prefix)?;
        let addr = text.trim().parse::<IpAddr>().ok().map(canonical).filter(IpAddr::is_ipv6);
        let is_shared = |_: &IpAddr| self.protected.get_or_init(Protected::read).inside(&range);
        Ok(addr.filter(is_shared).map_or(range, Range::from))
    }
}

/// Longest line of standard input that is read, bytes.
const LINE_MAX: u64 = 4096;

/// What is done with the addresses of standard input.
pub(super) trait TargetLines {
    /// Takes an address and its place for messages.
    fn line(&mut self, text: &str, place: &str, output: &mut Output<'_>) -> Result<(), OutputError>;

    /// Nothing more is there for now: whoever writes may take his time.
    fn pause(&mut self, _output: &mut Output<'_>) -> Result<(), OutputError> {
        Ok(())
    }
}

impl<F: FnMut(&str, &str, &mut Output<'_>) -> Result<(), OutputError>> TargetLines for F {
    fn line(&mut self, text: &str, place: &str, output: &mut Output<'_>) -> Result<(), OutputError> {
        self(text, place, output)
    }
}

/// Gives every address on the lines of standard input to `take`.
pub(super) fn each_stdin_line(
    output: &mut Output<'_>,
    take: &mut dyn TargetLines,
) -> Result<(), OutputError> {
    let input = stdio::stdin().map_err(unread)?;
    let more = input.try_clone().map_err(unread)?;
    each_line(input, &|| stdio::has_more(&more), output, take)
}

fn unread(e: io::Error) -> OutputError {
    OutputError::Failed(format!("standard input: {e}"))
}

/// Gives every address on the lines of `input` to `take`, with its place for messages. Comments begin with
/// `#` or `;`. Of a line that is too long nothing is taken: its end might look like an address. `more` says
/// whether a read would not wait.
fn each_line(
    input: impl Read,
    more: &dyn Fn() -> bool,
    output: &mut Output<'_>,
    take: &mut dyn TargetLines,
) -> Result<(), OutputError> {
    let mut input = BufReader::new(input);
    let mut line = Vec::new();
    for number in 1u64.. {
        line.clear();
        if !input.buffer().contains(&b'\n') && !more() {
            take.pause(output)?;
        }
        if Read::take(&mut input, LINE_MAX).read_until(b'\n', &mut line).map_err(unread)? == 0 {
            break;
        }
        let cut = line.len() as u64 == LINE_MAX && !line.ends_with(b"\n");
        if cut {
            input.skip_until(b'\n').map_err(unread)?;
        }
        let whole = String::from_utf8_lossy(&line);
        let text = whole.split(['#', ';']).next().unwrap_or("");
        let place = format!("standard input, line {number}: ");
        if cut && text.len() == whole.len() {
            output.problem(&format_args!("{place}longer than {LINE_MAX} bytes"));
        } else if !text.trim().is_empty() {
            take.line(text.trim(), &place, output)?;
        }
    }
    Ok(())
}

/// Longest wait for another process that writes the journal.
pub(super) const LOCK_WAIT_MAX: Duration = Duration::from_secs(10);

/// The table and the journal, for a command that changes something. Whoever makes the table fills it.
pub(super) fn table(
    settings: &Settings,
    output: &mut Output<'_>,
) -> Result<(Enforcer, GuardState), OutputError> {
    let failed = |e| OutputError::Failed(format!("{e}"));
    let notes = Rc::new(RefCell::new(Vec::new()));
    let allow = lists::reader(Paths::of(settings), LIST_PATIENCE, notes.clone());
    let placement = placement(&options(settings));
    let is_daemons = placement != Placement::Here && has_daemon(settings);
    let mut guard = match placement {
        Placement::There if is_daemons => open_in_force(options(settings), allow.into()),
        _ => open(options(settings), allow.into()),
    }
    .map_err(failed)?;
    guard.go_through(Path::new(&settings.run_dir));
    let state = {
        let _turn = rules_turn(settings, &mut *guard);
        guard.ensure().map_err(failed)?
    };
    notes.take().iter().for_each(|note: &String| output.note(note));
    let fresh = guard.take_recreated();
    let now = crate::sys::clock::wall();
    let journal = match journal(settings, now, LOCK_WAIT_MAX) {
        Ok((journal, reported)) => {
            reported.iter().filter(|e| !e.is_refusal()).for_each(|e| output.note(e));
            Some(journal)
        }
        Err(e) => {
            output.note(&format_args!("{e}; bans are in force until the next reboot"));
            None
        }
    };
    let mut enforcer = Enforcer::new(guard, journal);
    enforcer.set_kill(settings.kill_connections);
    enforcer.set_history(settings.history_max);
    enforcer.lock_beside(Path::new(&settings.run_dir));
    if fresh && let Err(e) = enforcer.restore(now, &mut |note| output.note(note)) {
        output.note(&e);
    }
    let may_be_elsewhere = may_have_left() || enforcer.guard().poll_interval().is_some();
    if placement == Placement::Both && !is_daemons || fresh && may_be_elsewhere {
        move_bans(settings, output);
    }
    Ok((enforcer, state))
}

/// The turn of whoever makes rules where programs do that, which takes long: who comes next finds them made.
fn rules_turn(settings: &Settings, guard: &mut dyn Backend) -> Option<HeldLock> {
    let is_new = guard.poll_interval().is_some() && matches!(guard.state(), Ok(None));
    let lock = is_new.then(|| StateLock::open(Path::new(&settings.run_dir)));
    lock?.ok()?.hold(LockPart::Rules, LOCK_WAIT_MAX).ok()
}

/// Whether a daemon runs. Then bans stay where they are although mef.conf wants them elsewhere: it has not
/// read that yet, and would take what is gone there for deleted by others.
fn has_daemon(settings: &Settings) -> bool {
    ControlClient::connect(Path::new(&settings.run_dir)).is_ok_and(|daemon| daemon.is_some())
}

/// Has what another backend has in force move to this one. In a second process: as a rule there is nothing,
/// and this one needs no memory for that.
pub(super) fn move_bans(settings: &Settings, output: &mut Output<'_>) {
    let mut work = || {
        if placement(&options(settings)) == Placement::Here {
            return 0;
        }
        let paths = Paths::of(settings);
        let allow = lists::reader(Paths::of(settings), LIST_PATIENCE, Rc::default());
        let moved = open(options(settings), allow.into()).and_then(|mut guard| {
            // Whoever was denied there is denied here before.
            let turn = ListTurn::within(&paths, ListKind::Deny, LIST_PATIENCE);
            let job = lists::ListJob { only: None, gone: Gone::Forget, emptied: false };
            lists::apply(&mut *guard, &paths, &turn, &job, &mut |_| (), &mut |_| ())?;
            take_over(&mut *guard)
        });
        u8::from(!matches!(moved, Ok(None | Some(Moved { left: None, .. }))))
    };
    let end = fork::fork_worker(&mut work).map(|child| child.wait());
    if !matches!(end, Ok(ChildExit::Status(0))) {
        output.note(&"bans of another backend stay in force there: see firewall_backend in mef.conf");
    }
}

/// Opens the way to bans where they are, and says so if mef.conf wants them elsewhere.
pub(super) fn view_bans(settings: &Settings, output: &mut Output<'_>) -> Result<Box<dyn Lists>, Failure> {
    let what = match placement(&options(settings)) {
        Placement::Here => None,
        Placement::There => Some("has them"),
        Placement::Both => Some("has some, too"),
    };
    if let Some(what) = what {
        let how = if has_daemon(settings) { "`mef reload`" } else { "the next ban" };
        let other = "another backend than firewall_backend names";
        output.note(&format_args!("bans and lists: {other} {what}: {how} moves them"));
    }
    view(options(settings))
}

/// Longest wait for another process that reads or changes the allow list.
pub(super) const LIST_PATIENCE: Duration = Duration::from_secs(10);

/// What the allow lists say, for a table that has none.
pub(super) fn allow_list(settings: &Settings, guard: &mut dyn View, note: ListNote<'_>) -> Allowed {
    let paths = Paths::of(settings);
    let turn = ListTurn::within(&paths, ListKind::Allow, LIST_PATIENCE);
    let mut in_force = || guard.allowed_until().unwrap_or_default();
    lists::allowed(&paths, &turn, Gone::Forget, &mut in_force, note).allowed
}

/// Parts of a range that are named.
const NAMED: usize = 4;

/// Whom a ban would lock out.
pub(super) struct Safety {
    protected: Protected,
    /// Sorted and merged.
    allowed: Vec<Range>,
}

impl Safety {
    pub(super) fn read(guard: &mut dyn View) -> Result<Safety, Failure> {
        let mut allowed = guard.allowed()?;
        merge(&mut allowed);
        Ok(Safety { protected: Protected::read(), allowed })
    }

    /// Whether the allow list has every address of the range: then a ban has no effect.
    pub(super) fn is_allowed(&self, range: &Range) -> bool {
        covers(&self.allowed, range)
    }

    /// The allow list, sorted and merged.
    pub(super) fn passing(&self) -> &[Range] {
        &self.allowed
    }

    /// The parts of a range that the allow list has, for people; they pass whatever is banned around them.
    pub(super) fn passing_parts(&self, range: &Range) -> Option<String> {
        let mut parts = self.allowed.iter().filter_map(|allowed| allowed.common(range));
        let shown: Vec<String> = parts.by_ref().take(NAMED).map(|part| part.to_string()).collect();
        let more = parts.count();
        let rest = if more > 0 { format!(" and {more} more") } else { String::new() };
        (!shown.is_empty()).then(|| shown.join(", ") + &rest)
    }

    /// Why the range must not be banned, if so.
    pub(super) fn objection(&self, range: &Range) -> Option<&'static str> {
        if self.is_allowed(range) {
            return Some("on the allow list");
        }
        self.protected.why(range)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_give_their_addresses_and_nothing_else() {
        let long = "x".repeat(4095);
        let cases: &[(&str, String, &[&str], u32)] = &[
            ("empty", String::new(), &[], 0),
            ("last line without newline", "192.0.2.1\n192.0.2.2".into(), &["192.0.2.1", "192.0.2.2"], 0),
            (
                "blanks and comments",
                " 192.0.2.1\t# x\r\n;y\n\n192.0.2.2;\n".into(),
                &["192.0.2.1", "192.0.2.2"],
                0,
            ),
            ("the end of a long comment", format!("#{long}192.0.2.9\n192.0.2.1\n"), &["192.0.2.1"], 0),
            (
                "a long comment behind",
                format!("192.0.2.1 #{long}192.0.2.9\n192.0.2.2"),
                &["192.0.2.1", "192.0.2.2"],
                0,
            ),
            ("the end of a long line", format!("x{long}192.0.2.9\n192.0.2.1\n"), &["192.0.2.1"], 1),
            ("a long last line", format!("{long}{long}192.0.2.9"), &[], 1),
        ];
        for (name, input, want, problems) in cases {
            let mut sink = Vec::new();
            let mut output = Output { out: &mut sink, problems: 0 };
            let mut got = Vec::new();
            let mut take = |text: &str, _: &str, _: &mut Output<'_>| {
                got.push(text.to_owned());
                Ok(())
            };
            let result = each_line(input.as_bytes(), &|| true, &mut output, &mut take);
            assert!(result.is_ok(), "{name}");
            assert_eq!(
                (got, output.problems),
                (want.iter().map(ToString::to_string).collect(), *problems),
                "{name}"
            );
        }
    }

    #[test]
    fn arguments_are_addresses_networks_and_ranges() {
        let cases = [
            ("192.0.2.7", Some("192.0.2.7")),
            (" 192.0.2.7 ", Some("192.0.2.7")),
            ("::ffff:192.0.2.7", Some("192.0.2.7")),
            ("2001:db8::1", Some("2001:db8::/64")),
            ("2001:db8::1/128", Some("2001:db8::1")),
            ("192.0.2.7/24", Some("192.0.2.0/24")),
            ("192.0.2.0/255.255.255.0", Some("192.0.2.0/24")),
            ("192.0.2.0-192.0.2.127", Some("192.0.2.0/25")),
            ("2001:db8::1-2001:db8::2", Some("2001:db8::1-2001:db8::2")),
            ("192.0.2.9-192.0.2.1", None),
            ("192.0.2.9-::1", None),
            ("192.0.2.0/33", None),
            ("host.example", None),
            ("", None),
            ("192.0.2.7;reboot", None),
        ];
        for (text, want) in cases {
            assert_eq!(read(text, 64).map(|r| r.to_string()).ok().as_deref(), want, "{text}");
        }
    }
}
