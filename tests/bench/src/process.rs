//! Whole processes: how long they take, and how much memory they have.

use crate::{Args, Result, lists};
use nix::sched::{CloneFlags, unshare};
use nix::sys::ptrace;
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::signal::{Signal, kill};
use nix::sys::time::TimeValLike;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use std::fs::File;
use std::process::{Command, Stdio};
use std::time::Instant;

/// Prints the medians over all runs. The kernel tells exactly how long a program ran, but only samples in
/// which mode, so the median of that time is parted as all runs together are. In the program's words `{}`
/// stands for another address in each run; `--status` is how it is to end.
pub fn time(args: &Args) -> Result<()> {
    let (runs, status) = (args.value("runs", 1)?, args.value("status", 0)?);
    let mut taken = [const { Vec::new() }; 3];
    for run in 0..runs {
        if args.option("fresh").is_some() {
            unshare(CloneFlags::CLONE_NEWNET)?;
        }
        if let Some(before) = args.option("before") {
            succeed(Command::new("sh").args(["-c", before]))?;
        }
        let mut command = command(args, &args.program, run)?;
        let (user, system) = children()?;
        let start = Instant::now();
        end_with(&mut command, status)?;
        let wall = start.elapsed().as_micros() as i64;
        let (user_now, system_now) = children()?;
        for (list, value) in taken.iter_mut().zip([wall, user_now - user, system_now - system]) {
            list.push(value);
        }
    }
    let [wall, user, system] = taken;
    let both = quantile(user.iter().zip(&system).map(|(user, system)| user + system).collect(), 50);
    let (user, system): (i64, i64) = (user.iter().sum(), system.iter().sum());
    let user = both * user / (user + system).max(1);
    println!("{} {user} {}", quantile(wall, 50), both - user);
    Ok(())
}

/// Prints the peak of the resident set, in kB. It is read when the program is about to end: what wait4(2)
/// tells includes the memory of whoever started it. With `--own` only what is no page of a file: how many of
/// those the kernel maps beside a page that is needed is its own affair. Nobody keeps that, so it is read at
/// each system call: memory is given back by one.
pub fn rss(args: &Args) -> Result<()> {
    let is_own = args.option("own").is_some();
    let mut words: Vec<String> = ["sh", "-c", "kill -STOP $$; exec \"$@\"", "sh"].map(String::from).into();
    words.extend(args.program.iter().cloned());
    let child = command(args, &words, 0)?.spawn()?;
    let pid = Pid::from_raw(i32::try_from(child.id())?);
    waitpid(pid, Some(WaitPidFlag::WUNTRACED))?;
    use ptrace::Options as Trace;
    let events = Trace::PTRACE_O_TRACEEXIT | Trace::PTRACE_O_TRACEEXEC | Trace::PTRACE_O_TRACESYSGOOD;
    ptrace::seize(pid, events)?;
    kill(pid, Signal::SIGCONT)?;
    let go_on = |signal| if is_own { ptrace::syscall(pid, signal) } else { ptrace::cont(pid, signal) };
    let (mut peak, mut runs) = (0, false);
    loop {
        match waitpid(pid, None)? {
            WaitStatus::Exited(_, 0) => break,
            WaitStatus::PtraceEvent(_, _, event) => {
                if event == ptrace::Event::PTRACE_EVENT_EXIT as i32 && !is_own {
                    peak = peak_of(pid)?;
                }
                // The shell before it is not meant.
                runs |= event == ptrace::Event::PTRACE_EVENT_EXEC as i32;
                go_on(None)?;
            }
            WaitStatus::PtraceSyscall(_) => {
                if runs {
                    peak = peak.max(value(pid, "status", "RssAnon:")?);
                }
                go_on(None)?;
            }
            WaitStatus::Stopped(_, signal) => go_on(Some(signal))?,
            status => return Err(format!("{}: {status:?}", args.program.join(" ")).into()),
        }
    }
    println!("{peak}");
    Ok(())
}

/// The larger of the peak that the kernel kept and the exact value now: the previous lags behind by some
/// pages.
fn peak_of(pid: Pid) -> Result<u64> {
    Ok(value(pid, "status", "VmHWM:")?.max(value(pid, "smaps_rollup", "Rss:")?))
}

/// A line of a file that the kernel has of a process, in kB.
fn value(pid: Pid, file: &str, name: &str) -> Result<u64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/{file}"))?;
    let line = text.lines().find_map(|line| line.strip_prefix(name)).ok_or("no such line")?;
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}

fn command(args: &Args, words: &[String], run: u64) -> Result<Command> {
    let (program, rest) = words.split_first().ok_or(crate::USAGE)?;
    let mut command = Command::new(program);
    command.args(rest.iter().map(|word| word.replace("{}", &lists::address(run).to_string())));
    command.stdin(match args.option("stdin") {
        Some(path) => Stdio::from(File::open(path)?),
        None => Stdio::null(),
    });
    command.stdout(match args.option("stdout") {
        Some(path) => Stdio::from(File::create(path)?),
        None => Stdio::null(),
    });
    Ok(command)
}

/// Runs it, and repeats what it complained of if it failed.
fn succeed(command: &mut Command) -> Result<()> {
    end_with(command, 0)
}

/// The same of a program that ends with a status of its own.
fn end_with(command: &mut Command, status: u64) -> Result<()> {
    let output = command.stderr(Stdio::piped()).output()?;
    if output.status.code().and_then(|code| u64::try_from(code).ok()) == Some(status) {
        return Ok(());
    }
    Err(format!("{command:?}: {}\n{}", output.status, String::from_utf8_lossy(&output.stderr)).into())
}

/// User and system time of all children that have ended, in microseconds.
pub fn children() -> Result<(i64, i64)> {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN)?;
    Ok((usage.user_time().num_microseconds(), usage.system_time().num_microseconds()))
}

/// The value that so many percent are not above. The list is not empty.
pub fn quantile(mut list: Vec<i64>, percent: usize) -> i64 {
    list.sort_unstable();
    list[(list.len() * percent).div_ceil(100).max(1) - 1]
}
