use super::*;

const TEXT: &str = "*filter\n:mefr_a0 - [0:0]\n-A mefr_a0 -m time --timestart 10:00 -j REJECT\n\
    -A mefr_a0 -m comment --comment \"-m nobody\" -m tcp -j mefr_a1\nCOMMIT\n\
    *nat\n-A x -j SNAT\nCOMMIT\n";

#[test]
fn only_who_says_that_there_is_no_table_lacks_it() {
    for (said, lacks) in [
        ("ip6tables-restore: unable to initialize table 'raw': this kernel lacks ip6table_raw", true),
        ("ip6tables-restore v1.8.9 (nf_tables): Failed to initialize nft: Protocol not supported", true),
        ("ip6tables-restore v1.8.9 (nf_tables): Could not fetch rule set generation id", true),
        ("can't initialize ip6tables table `raw': Table does not exist (do you need to insmod?)", true),
        ("can't initialize ip6tables table `raw': Cannot allocate memory", false),
        ("ip6tables-restore: it did not end within 30 s", false),
        ("ip6tables-restore: Resource temporarily unavailable (os error 11)", false),
        ("ip6tables-restore: signal 9", false),
        ("ip6tables-restore: line 2 failed", false),
        ("", false),
    ] {
        assert_eq!(names_no_table(said), lacks, "{said}");
    }
}

#[test]
fn what_loads_modules_is_not_what_is_wrong() {
    let modprobe = "modprobe: can't load module ip6_tables (kernel/net/ip6_tables.ko): No such file or \
                    directory\n";
    let own = "ip6tables-restore v1.8.9 (legacy): ip6tables-restore: unable to initialize table 'raw'\n";
    for (said, want) in [
        ([modprobe, modprobe, own, "\nError occurred at line: 1\n"].concat(), own.trim_end()),
        (modprobe.to_owned(), modprobe.trim_end()),
        (["Warning: old\n", own].concat(), own.trim_end()),
        (
            "iptables-restore v1.8.9 (nf_tables):\nline 2: no\n".to_owned(),
            "iptables-restore v1.8.9 (nf_tables): line 2: no",
        ),
        (String::new(), ""),
    ] {
        assert_eq!(words(&said), want, "{said}");
    }
    assert!(names_no_table(&words(&[modprobe, own].concat())));
}

#[test]
fn words_name_a_line_or_the_end_of_a_table() {
    for (said, line) in [
        ("iptables-restore: line 5 failed", Some(5)),
        ("ip6tables-restore v1.8.9 (nf_tables): Rate too fast \"4/sec\" (line 12)", Some(12)),
        ("Another app is currently holding the xtables lock.", None),
        ("line 99999999999999999999999", None),
        ("line", None),
    ] {
        assert_eq!(line_of(said), line, "{said}");
    }
    assert_eq!(refused_part(TEXT, "line 3").unwrap().matches('\n').count(), 0);
    let all = refused_part(TEXT, "line 5").unwrap();
    assert!(all.starts_with("*filter") && !all.contains("*nat"));
    for none in ["", "line 0", "line 9", "line 99"] {
        assert_eq!(refused_part(TEXT, none), None, "{none}");
    }
}

#[test]
fn a_table_that_is_not_there_is_named_by_its_module() {
    for (family, said, module) in [
        (Family::V4, "iptables-restore: unable to initialize table 'raw'", Some("iptable_raw")),
        (Family::V6, "can't initialize ip6tables table `nat': Table does not exist", Some("ip6table_nat")),
        (Family::V4, "iptables-restore: line 5 failed", None),
        (Family::V4, "unable to initialize table 'raw", None),
    ] {
        assert_eq!(missing_table(family, said).as_deref(), module, "{said}");
    }
}

#[test]
fn the_nft_variant_is_known_by_its_name_or_its_words() {
    for (name, said, nft) in [
        ("iptables-nft-restore", "", true),
        ("no-such-restore", "no-such-restore v1.8.9 (nf_tables): line 5: RULE_APPEND failed", true),
        ("iptables-legacy-restore", "iptables-restore: line 5 failed", false),
        ("no-such-restore", "no-such-restore v1.8.9 (legacy): unknown option", false),
    ] {
        assert_eq!(is_nft(name, said), nft, "{name}: {said}");
    }
}

#[test]
fn what_the_kernel_does_not_list_is_missing() {
    let lists = ["tcp\nset\n", "LOG\n"];
    assert_eq!(modules_beyond(lists, Family::V4, TEXT), ["xt_time", "ipt_REJECT", "xt_comment", "xt_nat"]);
    assert_eq!(modules_beyond(lists, Family::V6, "-A x -m set -j REJECT"), ["ip6t_REJECT"]);
    assert_eq!(modules_beyond(lists, Family::V4, "-A x -m tcp -j SET\n-A x -j SET"), ["xt_set"]);
    // Who may not look knows of nothing that is missing.
    assert!(modules_beyond(["", ""], Family::V4, TEXT).is_empty());
}
