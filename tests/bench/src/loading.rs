//! How long a daemon takes to load a deny list, and what its second process needs for it.

use crate::{Args, Result, process};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::collections::HashMap;
use std::fs;
use std::io::Read;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Microseconds of a tick, as the kernel tells of them on every processor that we build for.
const TICK: i64 = 10_000;

/// Starts the program and waits until it says that a list is in force.
pub fn loading(args: &Args) -> Result<()> {
    let (program, rest) = args.program.split_first().ok_or(crate::USAGE)?;
    let start = Instant::now();
    let mut child = Command::new(program)
        .args(rest)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()?;
    let mut said = child.stderr.take().ok_or("no standard error")?;
    let (pid, done) = (child.id(), AtomicBool::new(false));
    let (taken, (peak, ticks)) = std::thread::scope(|scope| {
        let watcher = scope.spawn(|| watch(pid, &done));
        let (mut text, mut buffer) = (String::new(), [0; 4096]);
        while !text.contains(" networks denied") {
            match said.read(&mut buffer) {
                Ok(n @ 1..) => text.push_str(&String::from_utf8_lossy(&buffer[..n])),
                _ => break,
            }
        }
        let taken = text.contains(" networks denied").then(|| start.elapsed());
        done.store(true, Ordering::Relaxed);
        (taken, watcher.join().unwrap_or_default())
    });
    // An error here means that it has ended already.
    let _ = kill(Pid::from_raw(i32::try_from(pid)?), Signal::SIGTERM);
    child.wait()?;
    // Nobody waits for the second process, so that its time is in no sum.
    let (user, system) = process::children()?;
    let second = ticks * TICK;
    println!("{} {} {system} {peak}", taken.ok_or("no list was loaded")?.as_micros(), user + second);
    Ok(())
}

/// Whether a process has a list open: another one only waits for programs to run.
fn reads_list(pid: &str) -> bool {
    let open = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    let mut files = open.filter_map(|entry| fs::read_link(entry.path()).ok());
    files.any(|file| file.extension().is_some_and(|end| end == "conf"))
}

/// The highest mark of the resident set of the child that reads a list; asked a thousand times a second.
/// Beside it, the time that all took that are the program itself, and not another one that it has started, in
/// ticks.
fn watch(pid: u32, done: &AtomicBool) -> (u64, i64) {
    let name = |pid: &str| fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    let (mut peak, mut ticks) = (0, HashMap::new());
    while !done.load(Ordering::Relaxed) {
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
        let own = name(&pid.to_string());
        for child in children.split_whitespace().filter(|child| name(child) == own) {
            let status = fs::read_to_string(format!("/proc/{child}/status")).unwrap_or_default();
            let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
            let value = line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok());
            if reads_list(child) {
                peak = peak.max(value.unwrap_or(0));
            }
            let stat = fs::read_to_string(format!("/proc/{child}/stat")).unwrap_or_default();
            let times = stat.split_whitespace().skip(13).take(2).filter_map(|n| n.parse::<i64>().ok());
            let taken = ticks.entry(child.to_owned()).or_insert(0);
            *taken = times.sum::<i64>().max(*taken);
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    (peak, ticks.values().sum())
}
