//! Damage, writers beside each other, and file systems that refuse.

use super::*;

#[test]
fn a_flipped_byte_costs_one_record() {
    let scratch = ScratchDir::new();
    let mut journal = open(&scratch);
    (1..6).for_each(|n| journal.put(&ban(v4(n))).unwrap());
    journal.flush().unwrap();
    let path = scratch.path().join(NAME);
    let good = std::fs::read(&path).unwrap();
    let record = (good.len() - HEADER_LEN) / 5;
    for at in 0..good.len() {
        for flip in [1, 0x80, 0xff, good[at], good[at] ^ 0xb4] {
            let mut bytes = good.clone();
            bytes[at] ^= flip;
            std::fs::write(&path, &bytes).unwrap();
            let mut journal = open(&scratch);
            let hit = at.checked_sub(HEADER_LEN).map(|at| at / record);
            let want: Vec<_> = (0..5).filter(|&n| flip == 0 || hit != Some(n)).collect();
            let want: Vec<_> = want.iter().map(|&n| v4(u32::try_from(n).unwrap() + 1).to_string()).collect();
            assert_eq!(addresses(&mut journal), want, "byte {at} ^ {flip:#x}");
        }
    }
}

/// What a process leaves behind that is killed while it writes.
#[test]
fn a_file_cut_anywhere_is_read_and_continued() {
    let scratch = ScratchDir::new();
    let mut journal = open(&scratch);
    (1..4).for_each(|n| journal.put(&ban(v4(n))).unwrap());
    journal.flush().unwrap();
    let path = scratch.path().join(NAME);
    let good = std::fs::read(&path).unwrap();
    let record = (good.len() - HEADER_LEN) / 3;
    for len in 0..=good.len() {
        std::fs::write(&path, &good[..len]).unwrap();
        let whole = u32::try_from(len.saturating_sub(HEADER_LEN) / record).unwrap();
        let mut want: Vec<_> = (1..=whole).map(|n| v4(n).to_string()).collect();
        let mut journal = open(&scratch);
        assert_eq!(addresses(&mut journal), want, "{len} bytes");
        want.push(v4(99).to_string());
        journal.put(&ban(v4(99))).unwrap();
        journal.flush().unwrap();
        for mut journal in [journal, open(&scratch)] {
            assert_eq!(addresses(&mut journal), want, "{len} bytes and one more record");
            compact(&mut journal, NOW, 0);
            assert_eq!(addresses(&mut journal), want, "{len} bytes, compacted");
        }
    }
}

#[test]
fn foreign_files_are_set_aside() {
    let scratch = ScratchDir::new();
    let contents = [
        &b"hello"[..],
        b"mef bans 2 0000000000\nsomething else",
        &[0; 5000],
        &[0xb4; 40_000],
        b"mef bans 1 000000002",
    ];
    for content in contents.iter().take(4) {
        std::fs::write(scratch.path().join(NAME), content).unwrap();
        let (mut journal, note) = BanJournal::open(scratch.path(), NOW, KEY, Duration::ZERO).unwrap();
        let text = note.unwrap().to_string();
        assert!(
            text.contains("bans is not a file of this version") && text.contains("bans.bad-1800000000"),
            "{text}"
        );
        assert_eq!(std::fs::read(scratch.path().join("bans.bad-1800000000")).unwrap(), *content);
        journal.put(&ban(v4(1))).unwrap();
        assert_eq!(addresses(&mut journal), ["0.0.0.1/32"]);
    }
}

#[test]
fn writers_beside_each_other() {
    let scratch = ScratchDir::new();
    let (mut daemon, mut person) = (open(&scratch), open(&scratch));
    daemon.put(&ban(v4(1))).unwrap();
    daemon.flush().unwrap();
    person.put(&ban(v4(2))).unwrap();
    person.flush().unwrap();
    assert_eq!(addresses(&mut daemon).len(), 2);

    let mut compaction = daemon.compact(NOW, NOTHING).unwrap();
    assert!(matches!(person.compact(NOW, NOTHING), Err(StateError::Busy(_))), "one compaction at a time");
    while let Some(next) = {
        person.put(&JournalRecord::Unban(v4(1))).unwrap();
        person.put(&ban(v4(3))).unwrap();
        person.flush().unwrap();
        daemon.compact_step(compaction, &|_| true).unwrap()
    } {
        compaction = next;
    }
    person.put(&ban(v4(4))).unwrap();
    person.flush().unwrap();
    let want = ["0.0.0.2/32", "0.0.0.3/32", "0.0.0.4/32"];
    assert_eq!(
        (addresses(&mut daemon), addresses(&mut person)),
        (want.map(String::from).into(), want.map(String::from).into())
    );

    let under_way = daemon.compact(NOW, NOTHING).unwrap();
    std::fs::remove_file(scratch.path().join(NAME)).unwrap();
    person.put(&ban(v4(5))).unwrap();
    person.flush().unwrap();
    let mut step = daemon.compact_step(under_way, &|_| true);
    while let Ok(Some(under_way)) = step {
        step = daemon.compact_step(under_way, &|_| true);
    }
    assert!(matches!(step, Err(StateError::Busy(_))), "the journal is another one now");
    assert!(!scratch.path().join(TEMP).exists());
    assert_eq!(addresses(&mut daemon), ["0.0.0.5/32"], "a removed journal is begun anew");
    std::fs::remove_dir_all(scratch.path()).unwrap();
    daemon.put(&ban(v4(6))).unwrap();
    daemon.flush().unwrap();
    assert_eq!(addresses(&mut daemon), ["0.0.0.6/32"], "and so is a removed directory");
}

#[test]
fn a_stopped_process_with_the_lock_does_not_stop_us() {
    let scratch = ScratchDir::new();
    let (mut journal, mut other) = (open(&scratch), open(&scratch));
    let lock = other.hold().unwrap();
    journal.put(&ban(v4(1))).unwrap();
    assert!(matches!(journal.flush(), Err(StateError::Busy(_))));
    assert_eq!(addresses(&mut journal), ["0.0.0.1/32"], "what could not be written still counts");
    journal.put(&JournalRecord::Unban(v4(1))).unwrap();
    journal.put(&ban(v4(2))).unwrap();
    assert_eq!(addresses(&mut journal), ["0.0.0.2/32"]);
    drop(lock);
    journal.flush().unwrap();
    assert_eq!(addresses(&mut open(&scratch)), ["0.0.0.2/32"]);
}

/// Runs `test` in a thread with a mount namespace of its own, in which `scratch` is a small file system.
fn on_small_disk(scratch: &ScratchDir, test: impl FnOnce() + Send) {
    let mount = |args: &[&str]| {
        let status = std::process::Command::new("mount").args(args).arg(scratch.path()).status().unwrap();
        assert!(status.success(), "mount {args:?}");
    };
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS).unwrap();
            let private =
                std::process::Command::new("mount").args(["--make-rprivate", "/"]).status().unwrap();
            assert!(private.success());
            mount(&["-t", "tmpfs", "-o", "size=64k,mode=700", "tmpfs"]);
            test();
        });
        thread.join().unwrap();
    });
}

fn root() -> bool {
    let root = nix::unistd::geteuid().is_root();
    if !root {
        let _ = writeln!(io::stderr(), "not run: mounting a small disk needs root");
    }
    root
}

#[test]
fn a_full_disk() {
    if !root() {
        return;
    }
    let scratch = ScratchDir::new();
    on_small_disk(&scratch, || {
        let mut journal = open(&scratch);
        let ballast = scratch.path().join("ballast");
        std::fs::write(&ballast, vec![1; 40_000]).unwrap();
        let mut put = 0;
        let error = loop {
            if let Err(error) = journal.put(&ban(v4(put))) {
                break error;
            }
            put += 1;
        };
        assert!(error.to_string().contains("No space left on device"), "{error}");
        let size = journal.size().unwrap();
        assert!(journal.flush().is_err() && journal.size().unwrap() == size, "no half batch stays");
        assert!(journal.compact(NOW, NOTHING).is_err());
        assert_eq!(live(&mut journal, NOW, 0).len(), put as usize, "all that was taken counts");

        let mut positions = crate::state::positions::Positions::open(scratch.path()).unwrap();
        let paths: Vec<Vec<u8>> = (0..500).map(|n| format!("/var/log/{n:050}").into_bytes()).collect();
        let all = || paths.iter().map(|path| (&path[..], Default::default()));
        assert!(positions.store(all()).unwrap_err().to_string().contains("No space left"));
        assert!(!scratch.path().join("positions.tmp").exists());

        std::fs::remove_file(ballast).unwrap();
        journal.flush().unwrap();
        assert_eq!(
            live(&mut open(&scratch), NOW, 0).len(),
            put as usize,
            "and is written once there is room"
        );
    });
}

#[test]
fn a_read_only_disk() {
    if !root() {
        return;
    }
    let scratch = ScratchDir::new();
    on_small_disk(&scratch, || {
        let remount = || {
            let args = ["-o", "remount,ro"];
            assert!(
                std::process::Command::new("mount")
                    .args(args)
                    .arg(scratch.path())
                    .status()
                    .unwrap()
                    .success()
            );
        };
        let mut journal = open(&scratch);
        journal.put(&ban(v4(1))).unwrap();
        journal.flush().unwrap();
        drop(journal);
        remount();
        let (mut journal, note) = BanJournal::open(scratch.path(), NOW, KEY, Duration::ZERO).unwrap();
        assert!(note.unwrap().to_string().contains("Read-only file system"));
        assert_eq!(addresses(&mut journal), ["0.0.0.1/32"], "the bans of a read-only disk are put back");
        journal.put(&ban(v4(2))).unwrap();
        assert!(journal.flush().unwrap_err().to_string().contains("Read-only file system"));
        assert_eq!(addresses(&mut journal).len(), 2);
        assert!(!journal.wants_compaction());
    });
}

#[test]
fn places_that_cannot_be_used() {
    let scratch = ScratchDir::new();
    let path = scratch.path().join("x");
    let error = |dir: &Path| BanJournal::open(dir, NOW, KEY, Duration::ZERO).err().unwrap().to_string();
    std::fs::write(&path, "a file").unwrap();
    assert!(error(&path).contains("state_dir must be a directory"), "{}", error(&path));
    assert!(error(&path.join("deeper")).contains("state_dir must be a directory"));
    std::os::unix::fs::symlink(&path, scratch.path().join(NAME)).unwrap();
    assert!(error(scratch.path()).contains("it is a link"), "{}", error(scratch.path()));
    assert_eq!(std::fs::read(&path).unwrap(), b"a file");
}

#[test]
fn random_bytes_are_survived() {
    let mut rng = fastrand::Rng::with_seed(5);
    let mut good = Vec::new();
    (0..4).for_each(|n| encode(&ban(v4(n)), &mut good));
    for _ in 0..3000 {
        let mut bytes = good.clone();
        for _ in 0..rng.usize(..6) {
            let at = rng.usize(..bytes.len());
            match rng.u32(0..3) {
                0 => bytes[at] = rng.u8(..),
                1 => drop(bytes.drain(at..(at + rng.usize(..9)).min(bytes.len()))),
                _ => bytes.splice(at..at, [0xb4, 0x6d, rng.u8(..), 0]).for_each(drop),
            }
        }
        let damaged = scan(&bytes, &mut |_, record| assert!(matches!(record, JournalRecord::Ban(_))));
        assert!(damaged <= bytes.len());
    }
    assert_eq!(live(&mut open(&ScratchDir::new()), NOW, FOREVER).len(), 0);
}
