#![forbid(unsafe_code)]
use super::super::keys::SettingKey;
use super::super::table::{FLOOD_KEYS, KEYS, ZONE_KEYS};
use super::super::*;
use super::reported;
use crate::base::clock::Span;

const SHIPPED: &str = include_str!("../../../rootfs/etc/mef/mef.conf");

fn parse(lines: &str) -> (Settings, Vec<String>) {
    let (settings, problems) = parse_global(format!("[global]\n{lines}\n").as_bytes());
    (settings, reported(&problems))
}

fn defaults_are_valid<T>(table: &[SettingKey<T>], mut target: T) {
    for key in table.iter().filter(|k| !k.default.is_empty()) {
        assert_eq!((key.slot)(&mut target).set(key.default), Ok(()), "{}", key.name);
        assert_eq!(table.iter().filter(|k| k.name == key.name).count(), 1, "{}", key.name);
    }
}

#[test]
fn every_default_is_a_value() {
    defaults_are_valid(KEYS, Settings::default());
    defaults_are_valid(ZONE_KEYS, Settings::default().cloud.lookup);
    defaults_are_valid(FLOOD_KEYS, FloodRates::default());
}

#[test]
fn the_shipped_file_shows_every_key_with_its_default() {
    let shown: Vec<&str> = SHIPPED
        .lines()
        .filter_map(|l| l.strip_prefix('#'))
        .filter(|l| {
            l.split_once('=').is_some_and(|(k, _)| k.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_'))
        })
        .collect();
    let want: Vec<String> = KEYS.iter().map(|k| format!("{}={}", k.name, k.default)).collect();
    assert_eq!(shown, want);
    for key in ZONE_KEYS {
        let line = format!("#   rbl_example_{}={}", key.name, key.default);
        assert!(SHIPPED.lines().any(|l| l == line), "{line}");
    }
    for key in FLOOD_KEYS {
        assert!(SHIPPED.contains(key.name), "{}", key.name);
    }
}

#[test]
fn the_shipped_file_changes_nothing_also_when_its_keys_are_set() {
    let (settings, problems) = parse_global(SHIPPED.as_bytes());
    assert_eq!((settings, reported(&problems)), (Settings::default(), vec![]));
    let set: String = SHIPPED
        .lines()
        .map(|l| match l.strip_prefix('#') {
            Some(key) if key.contains('=') && !key.starts_with(' ') => format!("{key}\n"),
            _ => format!("{l}\n"),
        })
        .collect();
    let (settings, problems) = parse_global(set.as_bytes());
    assert_eq!((settings, reported(&problems)), (Settings::default(), vec![]));
}

#[test]
fn defaults_are_those_of_the_manual() {
    let s = Settings::default();
    assert_eq!((s.rules_dir.as_str(), s.state_dir.as_str()), ("/etc/mef/rules.d", "/var/lib/mef"));
    assert_eq!((s.state_sync, s.bantime_max, s.journal_since), (Some(300), 86_400, 120));
    assert_eq!((s.ipv6_prefix, s.track_max, s.max_bans_per_minute), (64, 4096, 1000));
    assert_eq!((s.ban_host, s.ban_forward, s.firewall_log_level), (true, true, KernelLevel::Warn));
    assert_eq!((s.scan.enabled, s.scan.limit, s.scan.bantime, s.scan.interface.auto), (true, 75, 600, true));
    assert_eq!(s.scan.exclude_ports, ExcludedPorts { listening: true, named: None });
    assert_eq!(
        (s.flood.enabled, s.flood.ports.to_string(), s.flood.bantime),
        (false, "80,443".into(), Span::Secs(3600))
    );
    assert!(s.zones.is_empty() && !s.cloud.lookup.enabled && s.on_ban.is_empty() && s.dns_servers.is_empty());
}

#[test]
fn values_arrive() {
    let (s, problems) = parse(
        "cache_dir = /tmp/x ; flash\nstate_sync=never\nblacklist_fastpath=tc\nlog=both\nlog_level=warning\n\
         ipv6_escalate=56, 48\ntrusted_proxies=192.0.2.0/24,2001:db8::1\nban_scope=forward\n\
         on_ban=\"/bin/x \\\"a # b\\\"\"\njournal_since=1 hour ago\nfirewall_log_level=error\ntrack_max=100\n\
         track_max=200",
    );
    assert!(problems.is_empty(), "{problems:?}");
    assert_eq!((s.state_dir.as_str(), s.state_sync, s.fastpath), ("/tmp/x", None, Fastpath::Ingress));
    assert_eq!((s.log, s.log_level, s.firewall_log_level), (LogTo::Both, LogLevel::Warn, KernelLevel::Err));
    assert_eq!((s.ipv6_escalate, s.trusted_proxies.len()), (vec![56, 48], 2));
    assert_eq!((s.ban_host, s.ban_forward, s.track_max), (false, true, 200));
    assert_eq!((s.on_ban, s.journal_since), (vec!["/bin/x".to_string(), "a # b".to_string()], 3600));
}

#[test]
fn mistakes_are_told_with_their_place() {
    let cases: &[(&str, &str)] = &[
        (
            "track_max=4O96",
            "Error 2:11+4 '4O96' is not a whole number | expected a number from 64 to 1048576",
        ),
        ("track_max = 1", "Error 2:13+1 '1' is out of range | expected a number from 64 to 1048576"),
        ("track_max=", "Error 2:1+9 'track_max' has no value | the default is 4096"),
        ("track_max= # none", "Error 2:1+9 'track_max' has no value | the default is 4096"),
        ("track_mx=1", "Warning 2:1+8 unknown key 'track_mx' | it has no effect; did you mean 'track_max'?"),
        ("wärme=1", "Warning 2:1+5 unknown key 'wärme' | it has no effect"),
        ("rules_dir=rules.d", "Error 2:11+7 'rules.d' is not an absolute path | a path begins with '/'"),
        ("on_ban=ban.sh", "Error 2:8+6 'ban.sh' is not an absolute path | a path begins with '/'"),
        (
            "log=sylog",
            "Error 2:5+5 'sylog' is not allowed here | expected one of: syslog, stderr, both (did you mean \
             'syslog'?)",
        ),
        (
            "ban_scope=host,frward",
            "Error 2:16+6 'frward' is not allowed here | expected one of: host, forward (did you mean \
             'forward'?)",
        ),
        ("kill_connections=yes", "Error 2:18+3 'yes' is not allowed here | expected one of: true, false"),
        (
            "state_sync=5 m",
            "Error 2:12+3 '5 m' is not a duration | expected a duration such as 90, 90s, 10m, 1h, 7d or \
             1h30m",
        ),
        (
            "ipv6_escalate=48,56",
            "Error 2:18+2 '56' is not wider than the one before | expected for example 56,48",
        ),
        (
            "trusted_proxies=192.0.2.0/24, cdn.example",
            "Error 2:31+11 'cdn.example' is not an address or network | expected an address, 192.0.2.0/24 or \
             192.0.2.0/255.255.255.0",
        ),
        ("debug=true", "Obsolete 2:1+5 'debug' is no longer needed | set log_level=debug"),
        (
            "ps_source_order=packet",
            "Obsolete 2:1+15 'ps_source_order' is no longer needed | scans are counted inside the kernel, no \
             packet is copied to this program",
        ),
        (
            "no setting",
            "Error 2:1+10 a line that is not a setting | expected key=value, [section] or # comment",
        ),
        ("=5", "Error 2:1+1 a value without a key | expected key=value"),
        (
            "[golbal]",
            "Warning 2:1+8 unknown section [golbal] | its keys have no effect; did you mean [global]?",
        ),
        ("[global", "Error 2:1+7 a broken section header | expected [section] on a line of its own"),
        ("run_dir=/a\x1bb", "Error 2:11+1 a control character | remove it; in a pattern write it as \\x1b"),
        (
            "rbl_x_enabled=true\nrbl_enabled=true",
            "Error 2:1+13 the DNSBL profile 'x' has no zone | add rbl_x_zone=…",
        ),
        ("rbl_x_zone=bl..example", "Error 2:15+1 an empty part | parts have 1 to 63 characters"),
        ("rbl_x_zone=bl.exämple", "Error 2:17+1 not a domain name character | letters, digits, '-' and '_'"),
        ("rbl_X_zone=a", "Warning 2:1+10 unknown key 'rbl_X_zone' | it has no effect"),
        (
            "ddos_port_0_connlimit=1",
            "Error 2:1+21 no limits for this port | ports are 1 to 65535, and at most 32 have limits of \
             their own",
        ),
    ];
    // Of the keys without effect one row is enough.
    let shown = |t: &&str| !t.ends_with("otherwise ignored");
    for (text, want) in cases {
        let (_, reported) = parse(text);
        let reported: Vec<&str> = reported.iter().map(String::as_str).filter(shown).collect();
        assert_eq!(reported.join(";"), *want, "{text}");
    }
}

#[test]
fn every_problem_is_told_at_once_and_errors_keep_the_default() {
    let (s, reported) = parse("track_max=x\nbantime_factor=y\nipv6_prefix=56\n");
    assert_eq!((s.track_max, s.bantime_factor, s.ipv6_prefix, reported.len()), (4096, 4, 56, 2));
    let (_, problems) = parse_global("x\n".repeat(10_000).as_bytes());
    assert_eq!(problems.len(), 201);
}

#[test]
fn what_does_not_exist_yet_is_said_once_and_only_when_it_was_changed() {
    let (s, reported) = parse(
        "rbl_enabled=false\nrbl_enabled=true\ndns_servers=192.0.2.53\nfastpath=ingress\nddos_syn_rate=5",
    );
    assert!(reported.len() == 1 && reported[0].contains("no profile is on"), "{reported:?}");
    assert!(s.rbl_enabled && s.flood.limits.syn_rate == 5);
    let (_, reported) = parse("fastpath=xdp");
    assert!(reported.len() == 1 && reported[0].contains("no xdp"), "{reported:?}");
}

#[test]
fn profiles_and_port_limits_are_put_together() {
    let (s, reported) = parse(
        "rbl_enabled=true\nrbl_a1_zone=bl.example\nrbl_b_zone=x.example\nrbl_a1_enabled=true\n\
         rbl_a1_answer_match=127.0.0.2,127.0.0.3\n\
         rbl_b_bantime=permanent\nddos_port_443_connlimit=7\nddos_port_443_syn_rate=8\nddos_syn_burst=9",
    );
    assert_eq!(reported.len(), 0, "{reported:?}");
    let zones: Vec<_> =
        s.zones.iter().map(|z| (z.key.as_str(), z.enabled, z.answer_match.len(), z.bantime)).collect();
    assert_eq!(zones, [("a1", true, 2, Span::Secs(3600)), ("b", false, 1, Span::Permanent)]);
    let own = FloodRates { syn_rate: 8, syn_burst: 9, newconn_rate: 150, newconn_burst: 750, connlimit: 7 };
    assert_eq!(s.flood.port_limits, [(443, own)]);
    let nine: String = (0..9).map(|n| format!("rbl_z{n}_zone=z\n")).collect();
    let (s, reported) = parse(&nine);
    assert_eq!(s.zones.len(), 8);
    assert!(
        reported.last().is_some_and(|t| t.starts_with("Error 10:1+11 more than 8 DNSBL profiles: 'z8'")),
        "{reported:?}"
    );
}

#[test]
fn encodings() {
    let cases: &[(&str, &[u8], &str)] = &[
        ("byte order mark", b"\xef\xbb\xbf[global]\ntrack_max=64\n", ""),
        ("carriage returns", b"[global]\r\ntrack_max=64\r\n", ""),
        ("no newline", b"[global]\ntrack_max=64", ""),
        (
            "NUL",
            b"[global]\ntrack_max=\x0064",
            "Error 2:11+1 a NUL byte | the file must be plain text in UTF-8",
        ),
        (
            "Latin-1",
            b"[global]\n# \xc3\xa4 \xe4\n",
            "Error 2:5+1 a byte that is not UTF-8 | the file must be plain text in UTF-8",
        ),
        ("empty", b"", ""),
        (
            "outside",
            b"track_max=64\n[global]",
            "Error 1:1+9 a key outside of any section | put [global] above it",
        ),
        (
            "other section",
            b"[gui]\ntrack_max=x\n[global]\ntrack_max=64",
            "Warning 1:1+5 unknown section [gui] | its keys have no effect; known: global, defaults",
        ),
    ];
    for (name, text, want) in cases {
        let (s, problems) = parse_global(text);
        assert_eq!(reported(&problems).join(";"), *want, "{name}");
        let set = !want.starts_with("Error") && !text.is_empty();
        assert_eq!(s.track_max, if set { 64 } else { 4096 }, "{name}");
    }
    let long = format!("[global]\nrun_dir=/{}\nlog=no\n", "x".repeat(9000));
    let (_, problems) = parse_global(long.as_bytes());
    assert_eq!((problems.len(), problems[0].line, problems[0].what.as_str()), (2, 2, "a line of 9009 bytes"));
}

#[test]
fn every_word_for_never_is_known() {
    let read = |text: &str| parse_global(["[global]\n", text, "\n"].concat().as_bytes());
    for word in ["never", "false", "no", "off", "0"] {
        for key in ["whitelist_reload", "blacklist_reload"] {
            let (s, problems) = read(&[key, "=", word].concat());
            assert!(problems.is_empty(), "{key}={word}");
            assert_eq!([s.whitelist_reload, s.blacklist_reload].iter().min(), Some(&0), "{key}={word}");
        }
    }
    for (word, secs) in [("10s", 10), ("1.5m", 90), ("30", 30)] {
        assert_eq!(read(&["whitelist_reload=", word].concat()).0.whitelist_reload, secs, "{word}");
    }
    assert_eq!(read("whitelist_reload=sometimes").1.len(), 1);
    assert_eq!(read("ddos_bantime=permanent").0.flood.bantime, Span::Permanent);
    assert_eq!(read("ddos_bantime=1.5h").0.flood.bantime, Span::Secs(5400));
}
