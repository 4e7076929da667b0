use super::*;
use crate::dns::packet::Message;
use crate::sys::dir::Dir;
use crate::sys::dir::testing::ScratchDir;

const NOW: Wall = Wall(1_800_000_000);
const HOUR: u64 = 3600;

fn v4(n: u32) -> Subject {
    Subject::V4(0x0101_0000 + n)
}

fn after(secs: u64) -> Wall {
    Wall(NOW.0 + secs)
}

fn ban(reports: &mut Reports, now: Wall, who: Subject, until: Wall) {
    reports.take(now, &Event::Banned(who, until, Service::of("sshd")));
}

/// Everything that is due is done.
fn all_done(reports: &mut Reports, now: Wall) -> Vec<usize> {
    let mut sizes = Vec::new();
    loop {
        let batch = reports.batch(100);
        if batch.is_empty() {
            return sizes;
        }
        sizes.push(batch.len());
        reports.done(now, &batch);
    }
}

fn counts(reports: &mut Reports) -> (u32, u32) {
    reports.settle();
    (reports.standing.waiting, reports.standing.sent)
}

/// What an update says: names, classes, texts.
fn written(reports: &Reports, batch: &[usize]) -> Vec<(String, u16, String)> {
    let zone = Name::parse(b"web1.r.cloud.example").unwrap();
    let mut buffer = [0; 0xffff];
    let mut writer = Writer::new(&mut buffer, 1, 5 << 11).unwrap();
    writer.question(&zone, kind::SOA, class::IN).unwrap();
    reports.write(batch, &zone, &mut writer).unwrap();
    let records = Message::new(writer.bytes()).unwrap().records().map(|record| {
        let record = record.unwrap();
        assert_eq!(record.kind, kind::TXT);
        let text = record.txt().next().map(|text| String::from_utf8(text.to_vec()).unwrap());
        (record.name.to_string(), record.class, text.unwrap_or_default())
    });
    records.collect()
}

#[test]
fn only_address_service_and_hour_leave_the_host() {
    let mut reports = Reports::default();
    ban(&mut reports, NOW, v4(0x0203), after(600));
    let name = "3.2.1.1.web1.r.cloud.example".to_owned();
    let text = format!("s=sshd t={}", NOW.0 / HOUR);
    assert_eq!(read_hour(text.as_bytes()), Some(NOW.0 / HOUR));
    let batch = reports.batch(100);
    let deletion = (name.clone(), class::ANY, String::new());
    assert_eq!(written(&reports, &batch), [deletion.clone(), (name, class::IN, text)]);
    reports.done(NOW, &batch);
    assert_eq!(counts(&mut reports), (0, 1));
    reports.expire(after(599));
    assert!(!reports.is_due());
    reports.expire(after(600));
    let batch = reports.batch(100);
    assert_eq!(written(&reports, &batch), [deletion], "the ban is over");
    reports.done(after(600), &batch);
    assert_eq!(counts(&mut reports), (0, 0));
    assert_eq!(reports.standing.totals, [1, 1, 0]);
}

#[test]
fn what_was_never_sent_need_not_be_taken_back() {
    let mut reports = Reports::default();
    ban(&mut reports, NOW, v4(1), after(60));
    ban(&mut reports, NOW, v4(2), after(60));
    reports.take(NOW, &Event::Unbanned(v4(2).range()));
    assert_eq!(counts(&mut reports), (1, 0));
    reports.expire(after(60));
    assert_eq!(counts(&mut reports), (0, 0));
    // But what was, is, also when it was to be sent again.
    ban(&mut reports, NOW, v4(3), after(9000));
    all_done(&mut reports, NOW);
    ban(&mut reports, after(7200), v4(3), after(99_000));
    assert_eq!(counts(&mut reports), (1, 0));
    reports.take(after(7200), &Event::Unbanned(Range::EVERYBODY_V4));
    assert_eq!(counts(&mut reports), (1, 0));
    all_done(&mut reports, after(7200));
    assert_eq!(counts(&mut reports), (0, 0));
    assert_eq!(reports.standing.totals, [1, 1, 0]);
}

#[test]
fn a_ban_that_goes_on_is_told_anew_by_the_hour_only() {
    let mut reports = Reports::default();
    ban(&mut reports, NOW, v4(1), after(600));
    all_done(&mut reports, NOW);
    ban(&mut reports, after(5), v4(1), after(1200));
    assert!(!reports.is_due());
    reports.expire(after(600));
    assert!(!reports.is_due(), "it is in force for longer");
    ban(&mut reports, after(HOUR), v4(1), after(9000));
    assert_eq!(all_done(&mut reports, after(HOUR)), [1]);
    // A permanent one is taken back when nobody counts it any more.
    ban(&mut reports, after(HOUR), v4(2), Wall(u64::MAX));
    all_done(&mut reports, after(HOUR));
    reports.expire(after(8 * 86_400));
    assert_eq!(all_done(&mut reports, after(8 * 86_400)), [2]);
    // One that is to be taken back, and banned once more before that was done.
    ban(&mut reports, NOW, v4(3), after(60));
    all_done(&mut reports, NOW);
    reports.expire(after(60));
    ban(&mut reports, after(61), v4(3), after(600));
    assert_eq!(written(&reports, &reports.batch(9)).len(), 2);
}

#[test]
fn batches_are_bounded_and_what_makes_room_goes_first() {
    let mut reports = Reports::default();
    (0..250).for_each(|n| ban(&mut reports, NOW, v4(n), after(600)));
    assert_eq!(all_done(&mut reports, NOW), [100, 100, 50]);
    (250..260).for_each(|n| ban(&mut reports, NOW, v4(n), after(6000)));
    reports.expire(after(600));
    assert_eq!(all_done(&mut reports, after(600)), [100, 100, 50, 10]);
    assert_eq!(counts(&mut reports), (0, 10));
    let net = Subject::Net(0x2a00_0001_0002_0000);
    for n in 0..100 {
        ban(&mut reports, NOW, Subject::Net(0x2a00_0001_0002_0000 + n), after(600));
    }
    let one_fits = written(&reports, &reports.batch(100));
    assert_eq!(one_fits.len(), 200, "a whole batch of the longest names has room in one message");
    let zone = Name::parse(b"x").unwrap();
    assert!(net.name(&zone).is_some());
}

#[test]
fn it_is_bounded_and_nothing_is_repeated_for_ever() {
    let mut reports = Reports::default();
    let count = u32::try_from(MAX).unwrap();
    (0..count + 7).for_each(|n| ban(&mut reports, NOW, v4(n), Wall(u64::MAX)));
    assert_eq!(counts(&mut reports), (count, 0));
    assert_eq!(reports.standing.totals[2], 7);
    let now = Now { wall: NOW, mono: Mono(1) };
    for _ in 0..3 {
        // The server cannot be reached, or does not know us: that says nothing of the reports.
        for trouble in [Trouble::Unreachable(110), Trouble::Refused(9, 17), Trouble::Forged, Trouble::NoClock]
        {
            let batch = reports.batch(100);
            reports.failed(now, &batch, trouble);
        }
    }
    assert_eq!(counts(&mut reports), (count, 0));
    for _ in 0..8 * (MAX / 100 + 1) {
        let batch = reports.batch(100);
        reports.failed(now, &batch, Trouble::Refused(5, 0));
    }
    assert_eq!(counts(&mut reports), (0, 0), "the quota was reached");
    assert_eq!(reports.standing.totals[2], 7 + u64::from(count));
}

#[test]
fn it_outlives_the_process_and_is_begun_anew_if_broken() {
    let scratch = ScratchDir::new();
    let dir = Dir::open(scratch.path()).unwrap();
    let mut reports = Reports::default();
    reports.save(&dir).unwrap();
    assert!(!scratch.path().join(file::FILE).exists(), "nothing has happened");
    for (n, who) in [v4(1), Subject::Net(7 << 61), Subject::V6(9 << 125)].into_iter().enumerate() {
        ban(&mut reports, NOW, who, after(60 * n as u64 + 60));
        reports.done(NOW, &reports.batch(1));
    }
    reports.expire(after(70));
    ban(&mut reports, NOW, v4(2), after(100));
    reports.tried(NOW);
    let now = Now { wall: NOW, mono: Mono(77) };
    reports.failed(now, &[], Trouble::Clock(Wall(5)));
    reports.settle();
    reports.save(&dir).unwrap();
    let (read, broken) = Reports::load(&dir).unwrap();
    assert!(!broken && read.all == reports.all && read.standing == reports.standing);
    assert_eq!(Reports::standing(&dir).unwrap(), Some(reports.standing));
    assert_eq!(read.standing.trouble(), Some(Trouble::Clock(Wall(5))));
    let path = scratch.path().join(file::FILE);
    let whole = std::fs::read(&path).unwrap();
    for at in 0..whole.len() {
        let mut bytes = whole.clone();
        bytes[at] ^= 1 << (at % 8);
        std::fs::write(&path, bytes).unwrap();
        let (read, broken) = Reports::load(&dir).unwrap();
        assert!(broken && read.all.is_empty(), "byte {at}");
    }
    std::fs::write(&path, &whole[..whole.len() / 2]).unwrap();
    assert!(Reports::load(&dir).unwrap().1);
}

#[test]
fn troubles_are_two_numbers_and_words() {
    let all = [
        Trouble::Unreachable(111),
        Trouble::Nonsense,
        Trouble::Refused(5, 0),
        Trouble::Refused(9, 17),
        Trouble::Forged,
        Trouble::Clock(NOW),
        Trouble::Local(28),
        Trouble::NoClock,
        Trouble::Key,
    ];
    for trouble in all {
        let (kind, number) = trouble.pack();
        assert_eq!(Trouble::unpack(kind, number), Some(trouble));
        assert!(trouble.to_string().len() > 15);
    }
    assert_eq!(Trouble::unpack(0, 0), None);
    for (text, hour) in
        [("t=5", Some(5)), ("s=x t=499999", Some(499_999)), ("t=", None), ("t=-1", None), ("", None)]
    {
        assert_eq!(read_hour(text.as_bytes()), hour, "{text}");
    }
}
