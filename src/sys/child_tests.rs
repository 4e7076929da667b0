//! Programs that are started, and how they end.

use super::*;
use std::io::Read as _;
use std::time::{Duration, Instant};

fn sh(script: &str) -> Vec<String> {
    ["sh", "-c", script].map(String::from).to_vec()
}

/// What the program writes, and how it ends.
fn run(argv: &[String], env: &[String]) -> (String, ChildExit) {
    let (mut read, write) = pipe(WhenFull::Wait).unwrap();
    let child = start(argv, env, Some(write.as_fd()), None).unwrap();
    drop(write);
    let end = wait(&child);
    (String::from_utf8(all_of(&mut read)).unwrap(), end)
}

/// What stands in a pipe up to its end. That may come a moment after the program's: a process that
/// another test starts has all that is open here until it becomes its program.
fn all_of(read: &mut File) -> Vec<u8> {
    let late = Instant::now() + Duration::from_secs(20);
    let mut said = Vec::new();
    while let Err(e) = read.read_to_end(&mut said) {
        assert_eq!(e.kind(), io::ErrorKind::WouldBlock);
        assert!(Instant::now() < late, "somebody lives");
        std::thread::sleep(Duration::from_millis(1));
    }
    said
}

fn wait(child: &Child) -> ChildExit {
    let late = Instant::now() + Duration::from_secs(20);
    loop {
        if let Some(end) = child.ended() {
            return end;
        }
        assert!(Instant::now() < late, "it does not end");
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn a_program_has_what_it_needs_and_nothing_of_ours() {
    let ours = std::env::temp_dir().join(format!("mef-child-ours-{}", std::process::id()));
    let own = File::create(&ours).unwrap();
    let (said, end) = run(&sh("env | sort; pwd; readlink /proc/self/fd/0; cat"), &["A=b c".to_string()]);
    assert_eq!(end, ChildExit::Status(0));
    assert_eq!(said, format!("A=b c\nLC_ALL=C\n{}\nPWD=/\n/\n/dev/null\n", ENVIRONMENT[0]));
    let (said, _) = run(&sh("ls -l /proc/$$/fd"), &[]);
    assert!(said.contains("/dev/null") && !said.contains("mef-child-ours"), "{said}");
    std::fs::remove_file(&ours).unwrap();
    // One that would outlive an exec, as those may that the daemon was started with.
    let inherited = nix::unistd::dup(&own).unwrap();
    nix::fcntl::fcntl(&inherited, nix::fcntl::FcntlArg::F_SETFD(nix::fcntl::FdFlag::empty())).unwrap();
    for script in ["for fd in /proc/self/fd/*; do echo ${fd##*/}; done", "exec ls /proc/self/fd"] {
        // The last one is the directory itself.
        assert_eq!(run(&sh(script), &[]).0, "0\n1\n2\n3\n", "{script}");
    }
    let (said, _) = run(&sh("grep -E '^Sig(Blk|Ign)' /proc/self/status"), &[]);
    for line in said.lines() {
        let set = u64::from_str_radix(line.rsplit('\t').next().unwrap(), 16).unwrap();
        assert_eq!(set & 1 << (libc::SIGPIPE - 1), 0, "{said}");
        assert_eq!(set & 1 << (libc::SIGTERM - 1), 0, "{said}");
    }
}

#[test]
fn ends_are_told() {
    assert_eq!(run(&sh("exit 3"), &[]).1, ChildExit::Status(3));
    assert_eq!(run(&sh("kill -9 $$"), &[]).1, ChildExit::Signal(9));
    // A file that may be run and is no program.
    let text = std::env::temp_dir().join(format!("mef-child-{}", std::process::id()));
    std::fs::write(&text, "\0text").unwrap();
    std::fs::set_permissions(&text, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    assert_eq!(run(&[text.to_str().unwrap().into()], &[]).1, ChildExit::Status(NO_EXEC));
    std::fs::remove_file(&text).unwrap();
}

#[test]
fn what_cannot_be_started_is_an_error() {
    for argv in [vec![], vec!["mef-no-such-program".into()], vec!["/".into()], vec!["sh".into(), "\0".into()]]
    {
        assert!(start(&argv, &[], None, None).is_err(), "{argv:?}");
    }
}

#[test]
fn its_children_go_with_it() {
    let (mut read, write) = pipe(WhenFull::Wait).unwrap();
    let child = start(&sh("sleep 1000 & sleep 1000 & wait"), &[], Some(write.as_fd()), None).unwrap();
    drop(write);
    assert_eq!(child.ended(), None);
    assert_eq!(read.read(&mut [0]).unwrap_err().kind(), io::ErrorKind::WouldBlock);
    child.kill();
    assert_eq!(wait(&child), ChildExit::Signal(9));
    // Nobody has the other end any more.
    assert!(all_of(&mut read).is_empty());
}

#[test]
fn a_pipe_that_drops_stops_nobody() {
    let (mut read, write) = pipe(WhenFull::Lose).unwrap();
    let child = start(&sh("yes 2>/dev/null | head -c 1000000 >&2"), &[], None, Some(write.as_fd())).unwrap();
    drop(write);
    wait(&child);
    let said = all_of(&mut read);
    assert!(!said.is_empty() && said.len() < 1_000_000, "{}", said.len());
}
