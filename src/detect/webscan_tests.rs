#![forbid(unsafe_code)]
//! Windows and thresholds against a model that remembers every request.

use super::*;
use std::collections::BTreeSet;

const KEY: [u64; 2] = [7, 11];

fn threshold(window: u32) -> Threshold {
    Threshold {
        number: 1,
        name: String::new(),
        window,
        requests: 0,
        paths: 0,
        agents: 0,
        statuses: Statuses::ALL,
        status_text: String::new(),
        matching: 0,
        matching_paths: 0,
        matching_tops: 0,
        share: 0,
        detect: false,
        bantime: None,
    }
}

fn only(status: u16, text: &str, t: Threshold) -> Threshold {
    let mut statuses = Statuses::NONE;
    statuses.add(status, status);
    Threshold { statuses, status_text: text.into(), ..t }
}

fn engine(addresses: u32, thresholds: Vec<Threshold>) -> Webscan {
    let settings = Settings { thresholds, addresses, idle: 86_400, skip_paths: vec![], skip_agents: vec![] };
    let rule = DetectRule {
        name: "web".into(),
        headless: false,
        programs: vec![],
        fail: vec![],
        ignore: vec![],
        success: vec![],
        webscan: Some(Box::new(settings)),
    };
    Webscan::new(&[rule], KEY)
}

/// A request at so many milliseconds; the reason if it was too much.
fn ask(engine: &mut Webscan, ms: u64, addr: &str, path: &str, agent: &str, status: u16) -> Option<String> {
    let line = [path, agent].concat();
    let request = HttpRequest { path: 0..path.len(), agent: path.len()..line.len(), status, stamp: None };
    let addr = format!("{addr}/32").parse().unwrap();
    engine.request(Mono(ms), 0, addr, line.as_bytes(), &request).map(|e| e.reason)
}

const A: &str = "192.0.2.1";

/// When the first of a number of requests, so many milliseconds apart, is too much.
fn first(t: Threshold, apart: u64, each: impl Fn(u64) -> (String, String, u16)) -> Option<(u64, String)> {
    let mut e = engine(8, vec![t]);
    (1..=500).find_map(|n| {
        let (path, agent, status) = each(n);
        ask(&mut e, 1_000_000 + n * apart, A, &path, &agent, status).map(|reason| (n, reason))
    })
}

#[test]
fn each_condition_is_met_when_it_says() {
    let paths = |n: u64| (format!("/{n}"), "u".to_owned(), 404);
    let want = |n, reason: &str| Some((n, reason.to_owned()));
    let t = || threshold(60);
    assert_eq!(first(Threshold { requests: 10, ..t() }, 1, paths), want(10, "10 requests in 60 s"));
    assert_eq!(first(Threshold { paths: 10, ..t() }, 1, paths), want(10, "10 distinct paths in 60 s"));
    assert_eq!(first(Threshold { paths: 10, ..t() }, 1, |_| paths(1)), None);
    assert_eq!(first(Threshold { agents: 3, ..t() }, 1, paths), None);
    let agents = |n: u64| ("/".to_owned(), format!("u{}", n % 7), 200);
    assert_eq!(first(Threshold { agents: 3, ..t() }, 1, agents), want(3, "3 distinct agents in 60 s"));
    let half = |n: u64| (format!("/{n}"), "u".to_owned(), if n.is_multiple_of(2) { 404 } else { 200 });
    let t404 = |t| only(404, "404", t);
    assert_eq!(
        first(t404(Threshold { matching: 5, ..t() }), 1, half),
        want(10, "404 for 5 requests in 60 s")
    );
    assert_eq!(
        first(t404(Threshold { matching_paths: 5, ..t() }), 1, half),
        want(10, "404 for 5 distinct paths in 60 s")
    );
    // The requests that were missing need not be of that status.
    let after = |n: u64| (format!("/{n}"), "u".to_owned(), if n <= 5 { 404 } else { 200 });
    let both = t404(Threshold { matching: 5, requests: 12, ..t() });
    assert_eq!(first(both, 1, after), want(12, "404 for 5 requests, 12 requests in 60 s"));
    let all = Threshold { name: "x".into(), matching_paths: 5, requests: 30, agents: 1, share: 50, ..t() };
    let reason = "x: 404 for 15 distinct paths, 50% of the requests, 1 distinct agents, 30 requests in 60 s";
    let found = first(t404(all.clone()), 1, half).unwrap();
    // Counts are exact up to the threshold, no further.
    assert_eq!((found.0, found.1.replace("404 for 5 ", "404 for 15 ").as_str()), (30, reason));
    assert_eq!(first(t404(Threshold { share: 51, ..all }), 1, half), None);
    // Too slow: no window holds ten.
    assert_eq!(first(Threshold { requests: 10, ..t() }, 6700, paths), None);
    assert_eq!(first(Threshold { paths: 10, ..t() }, 6700, paths), None);
    assert!(first(Threshold { requests: 10, ..t() }, 5800, paths).is_some());
    assert!(first(Threshold { paths: 10, ..t() }, 6600, paths).is_some());
}

#[test]
fn a_threshold_that_only_tells_does_so_once_and_forgets_nothing() {
    let tells = Threshold { requests: 5, detect: true, ..threshold(60) };
    let bans = Threshold { paths: 9, ..threshold(60) };
    let mut e = engine(8, vec![tells, bans]);
    let said: Vec<_> = (1..=9).map(|n| ask(&mut e, n, A, &format!("/{n}"), "", 200).is_some()).collect();
    assert_eq!(said, [false, false, false, false, true, false, false, false, true]);
    // After a ban counting starts anew.
    assert_eq!(ask(&mut e, 10, A, "/x", "", 200), None);
}

#[test]
fn hours_later_nothing_is_left_and_time_may_go_back() {
    let mut e = engine(8, vec![Threshold { requests: 4, paths: 4, ..threshold(60) }]);
    let mut ask = |ms, path| ask(&mut e, ms, A, path, "", 200);
    assert_eq!([ask(100_000, "/1"), ask(100_001, "/2"), ask(100_002, "/3")], [None, None, None]);
    assert_eq!(ask(100_000 + 86_400_000 * 400, "/4"), None);
    let now = 100_000 + 86_400_000 * 400;
    assert_eq!([ask(now - 10_000, "/5"), ask(now - 90_000, "/6"), ask(now - 5000, "/7")], [None, None, None]);
    assert!(ask(now - 1000, "/8").is_some());
}

/// Requests at random times, judged by a model that has them all: what the engine says too much is too much
/// within the window, and what is too much within seven eighths of it is told.
#[test]
fn agrees_with_a_model_that_forgets_nothing() {
    let mut reported = 0;
    for seed in 0..60 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let window = rng.u32(1..100);
        let t = only(404, "404", threshold(window));
        let t = match seed % 4 {
            0 => Threshold { requests: rng.u32(2..20), ..t },
            1 => Threshold { paths: rng.u32(2..20), ..t },
            2 => Threshold { matching: rng.u32(2..20), ..t },
            _ => Threshold { matching_paths: rng.u32(2..20), agents: rng.u32(1..4), ..t },
        };
        let mut e = engine(8, vec![t.clone(), only(999, "", threshold(rng.u32(1..400)))]);
        let mut seen: Vec<(u64, u32, u32, u16)> = Vec::new();
        let mut time = rng.u64(0..1 << 40);
        for _ in 0..3000 {
            time +=
                if rng.u8(0..100) == 0 { rng.u64(0..400_000) } else { rng.u64(0..u64::from(window) * 150) };
            let (path, agent) = (rng.u32(0..30), rng.u32(0..5));
            let status = if rng.bool() { 404 } else { 200 };
            seen.push((time, path, agent, status));
            let enough = |ms: u64| {
                let within: Vec<_> = seen.iter().filter(|s| time - s.0 < ms).collect();
                let bad: Vec<_> = within.iter().filter(|s| s.3 == 404).collect();
                let count = |n: usize| u32::try_from(n).unwrap();
                count(within.len()) >= t.requests
                    && count(within.iter().map(|s| s.1).collect::<BTreeSet<_>>().len()) >= t.paths
                    && count(within.iter().map(|s| s.2).collect::<BTreeSet<_>>().len()) >= t.agents
                    && count(bad.len()) >= t.matching
                    && count(bad.iter().map(|s| s.1).collect::<BTreeSet<_>>().len()) >= t.matching_paths
            };
            let ms = u64::from(window) * 1000;
            let said = ask(&mut e, time, A, &format!("/{path}"), &format!("u{agent}"), status).is_some();
            // What counts only some requests is judged at these.
            let judged = status == 404 || t.requests.max(t.paths).max(t.agents) > 0;
            if said {
                reported += 1;
                assert!(judged && enough(ms + ms / 512 + 20), "seed {seed}: {t:?} at {time}");
                seen.clear();
            } else if judged {
                assert!(!enough(ms - ms / 8 - ms / 64 - 20.min(ms / 8)), "seed {seed}: {t:?} at {time}");
            }
        }
    }
    assert!(reported > 1000, "{reported}");
}

/// Whoever may write looks first whether it is there: what the server takes in was no search. What only looks
/// like an answer takes nothing back.
#[test]
fn what_is_created_was_not_searched_for() {
    let by = |e: &mut Webscan, n: u64, method: &str, status| {
        let line = format!("{A} - - [x] \"{method} /{n} HTTP/1.1\" {status} 1");
        let begin = line.find('/').unwrap();
        let path = begin..line.rfind(" HTTP").unwrap();
        let request = HttpRequest { path, agent: 0..0, status, stamp: None };
        e.request(Mono(1_000_000 + n), 0, format!("{A}/32").parse().unwrap(), line.as_bytes(), &request)
    };
    let both = || only(404, "404", Threshold { matching_paths: 30, matching_tops: 30, ..threshold(60) });
    let cases = [
        ("PUT", 201, false),
        ("MKCOL", 201, false),
        ("PUT", 200, false),
        ("PUT", 204, false),
        ("GET", 200, true),
        ("OPTIONS", 200, true),
        ("OPTIONS", 204, true),
        ("PUT", 405, true),
        ("PUT", 403, true),
        ("XPUT", 200, true),
        ("PROPFIND", 207, true),
    ];
    for (method, status, is_scan) in cases {
        let mut e = engine(8, vec![both()]);
        let banned =
            (0..200).any(|n| by(&mut e, n, "HEAD", 404).is_some() || by(&mut e, n, method, status).is_some());
        assert_eq!(banned, is_scan, "{method} {status}");
    }
    // Nor is it one to look into a network drive; a server without any answers otherwise.
    for (method, status, is_scan) in
        [("PROPFIND", 404, false), ("PROPFIND", 405, true), ("PROPFIND", 401, true), ("HEAD", 404, true)]
    {
        let mut refused = both();
        refused.statuses.add(401, 405);
        let mut e = engine(8, vec![refused]);
        assert_eq!((0..200).any(|n| by(&mut e, n, method, status).is_some()), is_scan, "{method} {status}");
    }
    // One thing that is there takes back one name.
    let mut e = engine(8, vec![both()]);
    let mut each = (0..200).map(|n| {
        by(&mut e, n, "GET", 404).is_some() || ask(&mut e, 1_000_000 + n, A, "/own", "", 201).is_some()
    });
    assert_eq!(each.position(|banned| banned), Some(29));
}

/// Memory is fixed, and a crowd does not hide who scans: between two requests of the scanner a thousand
/// others ask.
#[test]
fn a_scanner_is_found_among_a_million_addresses() {
    let t = only(404, "404", Threshold { matching_paths: 30, share: 50, ..threshold(60) });
    let mut e = engine(1024, vec![t]);
    let before = words(&e);
    let mut rng = fastrand::Rng::with_seed(3);
    let mut found = None;
    for n in 0u32..1_000_000 {
        let addr = std::net::Ipv4Addr::from(0x0a00_0000 + n).to_string();
        let path = format!("/{:x}", rng.u64(..));
        assert_eq!(ask(&mut e, u64::from(n) / 20, &addr, &path, "", 404), None, "{n}");
        if found.is_none() && n % 250 == 0 {
            found = ask(&mut e, u64::from(n) / 20, A, &path, "", 404).map(|reason| (n, reason));
        }
    }
    let (n, reason) = found.unwrap();
    assert!(n < 15_000, "{n}");
    assert_eq!(reason, "404 for 30 distinct paths, 100% of the requests in 60 s");
    assert_eq!(words(&e), before);
}

fn words(e: &Webscan) -> usize {
    e.tables.iter().flatten().map(|t| t.places.size()).sum()
}

#[test]
fn without_a_rule_there_is_no_memory_and_a_reload_keeps_counts() {
    let rule = || DetectRule {
        name: "a".into(),
        headless: false,
        programs: vec![],
        fail: vec![],
        ignore: vec![],
        success: vec![],
        webscan: None,
    };
    assert_eq!(words(&Webscan::new(&[rule()], KEY)), 0);
    let t = || Threshold { requests: 3, ..threshold(60) };
    let mut old = engine(8, vec![t()]);
    assert!((1..3).all(|n| ask(&mut old, n, A, "/", "", 200).is_none()));
    let mut new = engine(8, vec![t()]);
    new.take_over(old);
    assert!(ask(&mut new, 3, A, "/", "", 200).is_some());
    // Another threshold: counting starts anew.
    let mut other = engine(8, vec![Threshold { requests: 2, ..t() }]);
    assert!(ask(&mut new, 4, A, "/", "", 200).is_none());
    other.take_over(new);
    assert!(ask(&mut other, 5, A, "/", "", 200).is_none());
    other.forget("192.0.2.0/24".parse().unwrap());
    assert!(ask(&mut other, 6, A, "/", "", 200).is_none());
}
