#![forbid(unsafe_code)]
use super::super::parts::merged;
use super::super::*;
use super::reported;
use crate::base::clock::Span;

fn parse(lines: &str) -> (Option<ServiceRule>, Vec<String>) {
    let (rule, problems) = parse_service("stem", format!("[rule]\n{lines}\n").as_bytes());
    (rule, reported(&problems))
}

/// A rule made of what it must have and of `lines`.
fn rule(lines: &str) -> ServiceRule {
    let (rule, reported) = parse(&format!("programs=p\nfailregex=x <HOST>\n{lines}"));
    rule.unwrap_or_else(|| panic!("{lines}: {reported:?}"))
}

#[test]
fn defaults_are_those_of_the_manual() {
    let r = rule("");
    assert_eq!(
        (r.name.as_str(), r.enabled, r.source, r.trust_any),
        ("stem", Enabled::True, Source::Auto, false)
    );
    assert_eq!((r.findtime, r.maxretry, r.bantime), (600, 5, Span::Secs(600)));
    assert_eq!(
        (r.ports.is_all(), r.tcp, r.udp, r.action, r.engine),
        (true, true, true, Action::Ban, Engine::Pattern)
    );
    assert_eq!((r.escalation_enabled, r.escalation_window, r.permanent_threshold), (false, 86_400, 5));
    assert!(r.share && !rule("share=false").share);
    assert!(
        r.files.is_empty() && r.command.is_empty() && r.ignore.is_empty() && r.webscan.thresholds.is_empty()
    );
}

#[test]
fn a_rule_of_the_existing_product_reads_unchanged() {
    let text = "[rule]\nenabled=true\nname=nginx\n\n# input\nsource=file\n\
        files=/var/log/nginx/access.log,/var/log/nginx/*.access.log\n\
        failregex=^(?P<ip>\\S+)\\s+\\[[^\\]]+\\]\\s+\"[^\"]*\"\\s+(?:444|403)\\s+\"[^\"]*\"\nignoreregex=\n\
        findtime=120\nmaxretry=8\n\
        bantime=3600\nescalation_enabled=false\nescalation_window=24h\npermanent_threshold=5\naction=ban\n\
        ports=80,443 # all | 80,443 | 80-8080\nbackend=auto\n";
    let (rule, problems) = parse_service("x", text.as_bytes());
    let r = rule.unwrap();
    let say = "Obsolete 18:1+7 'backend' is no longer needed | firewall_backend in mef.conf is for all rules";
    assert_eq!(reported(&problems), [say]);
    assert_eq!(
        (r.name.as_str(), r.source, r.files.len(), r.ports.to_string()),
        ("nginx", Source::File, 2, "80,443".into())
    );
    assert_eq!(
        r.fail[0].text.text,
        "^(?P<ip>\\S+)\\s+\\[[^\\]]+\\]\\s+\"[^\"]*\"\\s+(?:444|403)\\s+\"[^\"]*\""
    );
    assert_eq!((r.fail[0].text.line, r.fail[0].text.col, r.fail.len(), r.ignore.len()), (8, 11, 1, 0));
}

/// The keys are those of the existing product's webscan.d, whose names have underscores.
#[test]
fn a_web_scan_file_of_the_existing_product_reads_unchanged() {
    let text = "[rule]\nenabled=true\nname=webscan\nengine=webscan\nsource=file\n\
        files=/var/log/nginx/*access.log\n[detection]\n\
        failregex=^(?P<ip>\\S+)\\s+\"(?P<method>\\S+)\\s+(?P<uri>[^\\s?]+)\"\\s+\
        (?P<status>\\d+)\\s+\"(?P<ua>[^\"]*)\"\\s*$\n\
        [webscan]\nwindows=60s,300s\nuri_hash_limit=1000   # max\nua_hash_limit=500\nmax_active_ips=10000\n\
        ip_inactivity_timeout=5m\n\
        [thresholds]\nrule_1_name=rotating_crawlers\nrule_1_requests_min=10\nrule_1_ua_count_min=5\n\
        rule_1_status_code=3xx,404\n\
        rule_1_status_threshold=8\nrule_1_window=60s\nrule_1_action=ban\nrule_1_bantime=3600\n\
        rule_3_name=volume_spike\n\
        rule_3_requests_min=80\nrule_3_status_code=*\nrule_3_action=detect\n[whitelist]\nuri=/health*, \
        *.jpg\nuri=/a\nua=*bot*\nextension=png,css\n";
    let (rule, problems) = parse_service("web", text.as_bytes());
    let why = "is no longer needed | what the thresholds need is remembered, no more";
    let want = [
        format!("Obsolete 11:1+14 'uri_hash_limit' {why}"),
        format!("Obsolete 12:1+13 'ua_hash_limit' {why}"),
    ];
    assert_eq!(reported(&problems), want);
    let r = rule.unwrap();
    assert_eq!(
        (r.engine, r.fail.len(), r.webscan.addresses, r.webscan.idle),
        (Engine::Webscan, 1, 10_000, 300)
    );
    let [one, three] = r.webscan.thresholds.as_slice() else { panic!("{:?}", r.webscan) };
    assert_eq!((one.number, one.name.as_str(), one.window, one.detect), (1, "rotating-crawlers", 60, false));
    assert_eq!((one.requests, one.paths, one.agents, one.matching), (10, 0, 5, 8));
    assert_eq!((one.status_text.as_str(), one.bantime), ("3xx,404", Some(Span::Secs(3600))));
    assert!(
        [300, 399, 404].iter().all(|&s| one.statuses.has(s))
            && ![200, 299, 400].iter().any(|&s| one.statuses.has(s))
    );
    assert_eq!((three.number, three.window, three.detect, three.bantime), (3, 60, true, None));
    assert_eq!(r.webscan.skip_paths, ["/health*", "*.jpg", "/a", "*.png", "*.css"]);
    assert_eq!(r.webscan.skip_agents, ["*bot*"]);
}

/// The form that the existing product's manual has: window= begins a threshold, [action] is [rule] continued.
#[test]
fn a_web_scan_file_without_numbers_reads_unchanged() {
    let text = "[rule]\nenabled=true\nname=shop\ninput=source=file\nengine=webscan\n\
        [detection]\nfiles=/var/log/a,/var/log/b\n\
        [webscan]\nrequest_timeout=120\nuri_limit=9\nua_limit=9\nrequest_limit=9\n\
        [thresholds]\nwindow=30\nrequests_min=12\nuri_count_min=4\nstatus_code=40[346]\n\
        window=90\nrequests_min=70\nua_count_min=3\n\
        requests_min=80\nwindow=5m\nstatus_code=404\nstatus_threshold=50\nrequests_min=60\n\
        [whitelist]\nuri=/ping\n[action]\naction=detect\nports=80\nbantime=2h\n";
    let (rule, problems) = parse_service("web", text.as_bytes());
    let obsolete = problems.iter().filter(|p| p.severity == Severity::Obsolete).count();
    assert_eq!((obsolete, problems.len()), (3, 3), "{problems:?}");
    let r = rule.unwrap();
    assert_eq!((r.source, r.action, r.bantime), (Source::File, Action::Detect, Span::Secs(7200)));
    assert_eq!((r.files.len(), r.webscan.idle, r.ports.ranges()), (2, 120, &[(80, 80)][..]));
    let numbers = |t: &crate::base::webscan::Threshold| {
        (t.window, [t.requests, t.paths, t.agents], [t.matching, t.matching_paths])
    };
    // With a status but no number of its own, all numbers are about requests with that status.
    let all: Vec<_> = r.webscan.thresholds.iter().map(numbers).collect();
    assert_eq!(all, [(30, [0, 0, 0], [12, 4]), (90, [80, 0, 3], [0, 0]), (300, [60, 0, 0], [50, 0])]);
    let merged =
        merged("shop", "mef.conf", &[], &[ConfigPart { path: "a", text: text.as_bytes(), adds: false }]);
    let again = parse_service("web", merged.as_bytes()).0.unwrap();
    assert_eq!((again.webscan, again.source, again.ports), (r.webscan, r.source, r.ports), "{merged}");
    for (lines, want) in [
        ("requests_min=5", ""),
        ("window=60", "threshold 1: a threshold without a condition"),
        ("requests_mni=5", "unknown key 'requests_mni'"),
        ("rule_x_requests_min=5", "unknown key 'rule_x_requests_min'"),
    ] {
        let text = format!("[rule]\nengine=webscan\nfiles=/a\n[thresholds]\n{lines}\n");
        let said = parse_service("web", text.as_bytes()).1;
        let said: Vec<_> = said.iter().map(|p| p.what.as_str()).collect();
        assert_eq!(said.first().copied().unwrap_or(""), want, "{lines}");
    }
}

#[test]
fn statuses_are_written_in_many_ways() {
    let of = |text: &str| {
        let text = format!(
            "[rule]\nengine=webscan\nfiles=/a\n[thresholds]\nrule_1_status_threshold=1\nrule_1_status_code={text}\n"
        );
        let rule = parse_service("web", text.as_bytes()).0?;
        let statuses = rule.webscan.thresholds.first()?.statuses;
        Some((100..600).filter(|&status| statuses.has(status)).collect::<Vec<u16>>())
    };
    let range = |range: std::ops::RangeInclusive<u16>| Some(range.collect::<Vec<_>>());
    assert_eq!(of("40[346]"), Some(vec![403, 404, 406]));
    assert_eq!(
        of("40[0-2],5?3"),
        Some(vec![400, 401, 402, 503, 513, 523, 533, 543, 553, 563, 573, 583, 593])
    );
    assert_eq!(of("[45]00"), Some(vec![400, 500]));
    assert_eq!((of("4xx"), of("4*"), of("41X")), (range(400..=499), range(400..=499), range(410..=419)));
    for wrong in ["40[", "40[]", "40[3-", "40[x]", "4", "4040", "6xx", "0xx", "4*4", "40[9-0]", "[", "-"] {
        assert_eq!(of(wrong), None, "{wrong}");
    }
}

#[test]
fn a_rule_that_would_be_off_elsewhere_is_told_of() {
    let say = "Warning 0:1+1 there is no enabled=, so the rule is on | where this file comes from it would \
               be off: add enabled=true or enabled=false";
    let (_, reported) = parse("programs=p\n[detection]\nfailregex=x <HOST>");
    assert_eq!(reported, [say]);
    for quiet in
        ["programs=p\nfailregex=x <HOST>", "programs=p\nenabled=auto\n[detection]\nfailregex=x <HOST>"]
    {
        assert_eq!(parse(quiet).1, Vec::<String>::new());
    }
}

#[test]
fn what_is_wrong_with_a_web_scan_is_told() {
    let web = |lines: &str| {
        let text = format!("[rule]\nengine=webscan\nfiles=/a\n[thresholds]\n{lines}\n");
        reported(&parse_service("web", text.as_bytes()).1)
    };
    let cases = [
        (
            "",
            "Error 0:1+1 the rule can never match | it needs rule_1_requests_min= and the like in section \
             [thresholds]",
        ),
        (
            "rule_1_window=1m",
            "Error 0:1+1 rule_1: a threshold without a condition | it needs requests_min= or the like",
        ),
        (
            "rule_1_requests_min=9\nrule_1_status_code=404",
            "Error 0:1+1 rule_1: status_code without a number of them | it needs status_threshold=, \
             status_uri_min=, status_top_min= or status_share=",
        ),
        (
            "rule_1_status_code=404\nrule_1_status_share=50",
            "Error 0:1+1 rule_1: status_share alone | it needs requests_min= or status_threshold=, too: one \
             of one is 100 percent",
        ),
        (
            "rule_1_status_code=4x",
            "Error 5:20+2 '4x' is not a status | expected 404, 4xx, 40[346] or *, or a comma \
             list",
        ),
        (
            "rule_1_status_code=404,700",
            "Error 5:24+3 '700' is not a status | expected 404, 4xx, 40[346] or *, or a comma \
             list",
        ),
        (
            "rule_1_requests_min=9\nrule_1_request_min=2",
            "Warning 6:1+18 unknown key 'rule_1_request_min' | it has no effect; did you mean \
             'rule_N_requests_min'?",
        ),
        (
            "rule_1_requests_min=9\nrule_x_name=a",
            "Warning 6:1+11 unknown key 'rule_x_name' | expected rule_N_… with a number N",
        ),
    ];
    for (lines, want) in cases {
        assert_eq!(web(lines), [want], "{lines}");
    }
    let (_, reported) = parse("programs=p\nfailregex=x\n[webscan]\nwindows=1s");
    assert_eq!(
        reported,
        ["Warning 0:1+1 [webscan] and [thresholds] have no effect | they need engine=webscan"]
    );
}

#[test]
fn patterns_end_where_a_person_thinks() {
    let cases: &[(&str, &str)] = &[
        ("a b", "a b"),
        ("  a b  ", "a b"),
        ("a#b;c", "a#b;c"),
        ("a # b", "a"),
        ("a\t;b", "a"),
        ("a\\x20# b", "a\\x20# b"),
        ("\"a # b\" # c", "a # b"),
        ("\"a # b\"#c", "\"a"),
        ("\" a \"", " a "),
        ("\"GET [^\"]*\" 404", "\"GET [^\"]*\" 404"),
        ("\"a\" \"b\"", "\"a\" \"b\""),
        ("\"a \\\" # b\"", "a \\\" # b"),
        ("\"a\\\\\" ; c", "a\\\\"),
        ("\"open", "\"open"),
        ("x\"y\"", "x\"y\""),
        ("a=b", "a=b"),
    ];
    for (text, want) in cases {
        let r = rule(&format!("failregex={text}"));
        assert_eq!(r.fail[1].text.text, *want, "{text}");
    }
}

#[test]
fn pattern_places_lead_back_to_the_file() {
    let r = rule("failregex@3 =  \"ä(b) # <HOST>\" # why");
    let FailPattern { text: p, weight, .. } = &r.fail[1];
    assert_eq!((p.text.as_str(), p.line, p.col, *weight), ("ä(b) # <HOST>", 4, 17, 3));
    let reported = |at| {
        let p = p.problem(at, "w".into(), "h".into());
        (p.line, p.col, p.len)
    };
    assert_eq!(
        [reported(0..2), reported(2..5), reported(2..2), reported(90..99)],
        [(4, 17, 1), (4, 18, 3), (4, 18, 1), (4, 30, 1)]
    );
}

#[test]
fn weights() {
    let weights = |text: &str| rule(text).fail.iter().map(|fail| fail.weight).collect::<Vec<_>>();
    assert_eq!(weights("failregex@255=a\nfailregex@ 2 =b\nfailregex=c\nfailregex@9="), [1, 255, 2, 1]);
    let cases: &[(&str, &str)] = &[
        (
            "failregex@256=a",
            "Error 2:1+13 the weight '256' is out of range | expected a number from 0 to 255",
        ),
        (
            "failregex@=a",
            "Error 2:1+10 the weight '' is not a whole number | expected a number from 0 to 255",
        ),
        ("ignoreregex@2=a", "Error 2:1+13 only failregex has a weight | other lines count nothing"),
        (
            "weight=3",
            "Error 2:1+6 'weight' is not a key of its own | it belongs to one pattern: failregex@3=…",
        ),
    ];
    for (text, want) in cases {
        assert_eq!(parse(text).1, [*want], "{text}");
    }
}

#[test]
fn patterns_of_modes() {
    let of = |text: &str| {
        let rule = rule(text);
        let least: Vec<_> = rule.fail.iter().skip(1).map(|fail| (fail.least, fail.weight)).collect();
        (rule.mode, least)
    };
    let (mode, least) = of("failregex[normal]=a\nfailregex [ aggressive ] @ 3 =b\nfailregex@0=c");
    assert_eq!(mode, Mode::Normal);
    assert_eq!(least, [(Mode::Normal, 1), (Mode::Aggressive, 3), (Mode::Strict, 0)]);
    // The key of the mode may stand anywhere.
    assert_eq!(of("failregex[normal]=a\nmode=strict"), (Mode::Strict, vec![(Mode::Normal, 1)]));
    assert!(Mode::Normal.reaches(Mode::Strict) && !Mode::Normal.reaches(Mode::Aggressive));
    let cases: &[(&str, &str)] = &[
        (
            "failregex[loud]=a",
            "Error 2:1+15 the mode 'loud' is not allowed here | expected one of: strict, normal, aggressive",
        ),
        ("ignoreregex[normal]=a", "Error 2:1+19 only failregex has a mode | other lines count nothing"),
    ];
    for (text, want) in cases {
        assert_eq!(parse(text).1, [*want], "{text}");
    }
    let none = "programs=p\nfailregex[aggressive]=x\n";
    let want = "Warning 0:1+1 the rule is off | each failregex= is for another mode=";
    assert_eq!(parse(none).1, [want]);
    assert!(parse(none).0.unwrap().is_of_other_modes());
    let other = parse(&[none, "mode=aggressive"].concat());
    assert!(other.1.is_empty() && !other.0.unwrap().is_of_other_modes());
}

#[test]
fn mistakes_refuse_the_rule() {
    let base = "programs=p\nfailregex=x\n";
    let cases: &[(&str, &str)] = &[
        ("programs=p", "Error 0:1+1 the rule can never match | it needs a failregex= in section [rule]"),
        ("failregex=x", "Error 0:1+1 nothing says where the lines come from | add programs= or files="),
        (
            "failregex=x\nsource=file\nprograms=p",
            "Error 0:1+1 source=file without files | add files=/var/log/…",
        ),
        (
            "failregex=x\nsource=command",
            "Error 0:1+1 source=command without a command | add command=logread -f",
        ),
        (
            "failregex=x\nsource=journal",
            "Error 0:1+1 source=journal without programs | add programs=, or trust=any for any sender",
        ),
        (
            "failregex=x\nsource=files",
            "Error 3:8+5 'files' is not allowed here | expected one of: auto, file, journal, syslog, kmsg, \
             command (did you mean 'file'?)",
        ),
        (
            "failregex=x\nname=a.b",
            "Error 3:6+3 'a.b' is not a rule name | a name consists of letters, digits, '-' and '_', at most \
             32",
        ),
        ("failregex=x\nmaxretry=0", "Error 3:10+1 '0' is out of range | expected a number from 1 to 100000"),
        ("failregex=x\nbantime=0", "Error 3:9+1 '0' is too short | a ban lasts at least 1s"),
    ];
    for (text, want) in cases {
        assert_eq!(parse(text), (None, vec![want.to_string()]), "{text}");
    }
    let (rule, reported) = parse(&format!("{base}maxrety=3"));
    assert!(rule.is_some());
    assert_eq!(
        reported,
        ["Warning 4:1+7 unknown key 'maxrety' | it has no effect; did you mean 'maxretry'?"]
    );
    let (rule, reported) = parse(&format!("{base}failregex=a # (?P<ip>\\S+)"));
    assert!(
        rule.is_some()
            && reported[0].starts_with("Warning 4:1+9 a part of this pattern is taken for a comment")
    );
    let (rule, problems) = parse_service("a b", format!("[rule]\n{base}").as_bytes());
    assert!(rule.is_none() && problems[0].what == "the file's name 'a b' is not a rule name");
    assert_eq!(parse(&format!("{base}name=")).0.map(|r| r.name).as_deref(), Some("stem"));
    assert!(parse(&format!("{base}source=journal\ntrust=any\nprograms=")).0.is_some_and(|r| r.trust_any));
}

#[test]
fn examples_are_read_from_comments() {
    let text = "#+ 192.0.2.7 Nov 22 host sshd[1]: a\\x1b\\\\b # c\n#- no hit \n#-----\n# +x\n#+ here x\n#- \
        bad \\n\n[rule]\n#+ ::1 \n#- \\x4\n#+ 192.0.2.1";
    let (found, problems) = examples(text);
    let shown: Vec<_> =
        found.iter().map(|e| (e.hit.map(|a| a.to_string()), e.line, e.text.as_slice())).collect();
    let want: [(Option<String>, u32, &[u8]); 4] = [
        (Some("192.0.2.7".into()), 1, b"Nov 22 host sshd[1]: a\x1b\\b # c"),
        (None, 2, b"no hit "),
        (Some("::1".into()), 8, b""),
        (Some("192.0.2.1".into()), 10, b""),
    ];
    assert_eq!(shown, want);
    let hint = "only \\xHH and \\\\ are escapes here";
    assert_eq!(
        reported(&problems),
        [
            "Warning 5:4+4 'here' is not an address | expected '#+ ADDRESS LINE'".to_string(),
            format!("Warning 6:8+2 an unknown escape | {hint}"),
            format!("Warning 9:4+2 an unknown escape | {hint}"),
        ]
    );
}

#[test]
fn examples_of_a_mode_say_it() {
    let text =
        "#+[aggressive] 192.0.2.7 a\n#-[strict] b\n#=[normal] here c\n#+[loud] 192.0.2.7 d\n#+[x\n#[y] z";
    let (found, problems) = examples(text);
    let shown: Vec<_> = found.iter().map(|e| (e.mode, e.hit.is_some(), e.text.as_slice())).collect();
    let want: [(_, _, &[u8]); 2] = [(Some(Mode::Aggressive), true, b"a"), (Some(Mode::Strict), false, b"b")];
    assert_eq!(shown, want);
    assert_eq!(reported(&problems), ["Warning 3:12+4 'here' is not an address | expected '#= ADDRESS LINE'"]);
}

#[test]
fn paths_are_separated_by_commas() {
    let (rule, reported) = parse("failregex=x <HOST>\nfiles=/var/log/a.log /var/log/b.log");
    assert!(rule.is_none());
    let say = "Error 3:22+14 '/var/log/b.log' is a second path after a space | a list of paths is separated \
        by commas: /var/log/a.log,/…";
    assert_eq!(reported, [say]);
    let (rule, _) = parse("failregex=x <HOST>\nfiles=/var/log/my app.log, /var/log/b.log");
    assert_eq!(rule.unwrap().files, ["/var/log/my app.log", "/var/log/b.log"], "a blank in a name");
}
