//! Bodies that run over nftables run over iptables and ip_set, too, or it is said here why not: of the
//! modules that `also!` names anywhere, none is left out silently.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

/// Where bodies are run again.
const AGAIN: [&str; 3] = ["firewall/fallback.rs", "lists/fallback.rs", "ruleset/fallback.rs"];

/// A module, bodies of it that do not run over iptables, and why.
type LeftOut = (&'static str, &'static [&'static str], &'static str);

const LEFT_OUT: [LeftOut; 20] = [
    (
        "applet/control",
        &[
            "status_tells_what_runs_and_what_the_kernel_has",
            "a_rule_is_on_when_its_service_is_here",
            "unban_forgets_what_was_counted",
            "watch_shows_events_as_they_come",
            "who_reads_slowly_misses_events_and_is_told_how_many",
            "bad_clients_delay_nothing",
            "only_root_is_answered",
            "top_shows_who_is_near_to_a_ban",
        ],
        "what the daemon's socket says, whatever enforces",
    ),
    (
        "daemon/heal",
        &[
            "a_flushed_rule_set_is_back_with_the_time_that_each_ban_has_left",
            "what_is_deleted_inside_the_table_is_put_back",
            "two_programs_that_fight_are_bounded",
            "the_first_line_after_a_flush_finds_the_table_whole",
            "a_flush_that_nothing_follows_is_healed_by_the_clock",
            "deny_lists_that_others_delete_are_loaded_again",
        ],
        "by commands of nft: firewall/fallback.rs and former.rs delete what there is with iptables",
    ),
    (
        "daemon/heal",
        &[
            "bans_of_ours_and_changes_of_others_cause_no_repair",
            "transactions_while_the_daemon_looks_are_no_damage",
            "the_daemon_is_no_member_of_the_kernels_events",
            "a_storm_of_events_is_survived",
        ],
        "generations, transactions and events are those of nf_tables",
    ),
    (
        "daemon/heal",
        &["what_ends_by_itself_or_by_a_command_stays_ended"],
        "iptables is looked at once a second at most, and nothing tells when: firewall/backends.rs asks it",
    ),
    (
        "daemon/heal",
        &[
            "a_managed_rule_set_is_loaded_again_but_not_after_unload",
            "a_managed_rule_set_is_not_loaded_while_somebody_loads_one",
        ],
        "by commands of nft: ruleset/fallback.rs and cut.rs flush and halve rule sets of iptables",
    ),
    (
        "daemon/heal",
        &["rules_for_frames_that_are_deleted_alone_are_loaded_again"],
        "iptables sees no frames between ports of a bridge",
    ),
    (
        "firewall/scan",
        &["without_a_look_up_of_sockets_the_kernel_is_told_which_ports_listen"],
        "firewall/fallback.rs leaves xt_socket out",
    ),
    ("firewall/scan", &["the_ingress_hook_follows_the_default_routes"], "iptables has no such hook"),
    (
        "firewall/flood",
        &["a_kernel_that_counts_no_connections_is_told"],
        "firewall/fallback.rs leaves xt_connlimit out",
    ),
    (
        "firewall/seen",
        &["forged_senders_harm_nobody_and_what_was_missed_is_told_later"],
        "fills sets by nft, and counts as they do; with iptables scan and flood have forged senders",
    ),
    (
        "firewall/seen",
        &["a_kernel_that_cannot_tell_is_told_of"],
        "firewall/fallback.rs leaves out what reports take",
    ),
    (
        "lists/files",
        &[
            "the_daemon_notices_every_way_to_change_a_list",
            "leftovers_go_and_what_the_kernel_has_is_not_loaded_again",
            "a_fifth_list_is_asked_by_new_flows_only",
        ],
        "how nf_tables numbers and orders sets; files are watched alike",
    ),
    ("lists/kept", &["commands_and_a_damaged_local_conf"], "about the files, whatever enforces"),
    (
        "lists/kept",
        &["a_table_has_its_allow_list_before_anything_is_dropped"],
        "the order of one transaction; with iptables firewall/switch.rs sends packets meanwhile",
    ),
    ("verdicts/matches", &["counters_count_what_a_rule_matched"], "counters are read by nft"),
    (
        "verdicts/limits",
        &[
            "nobody_is_refused_because_a_set_of_buckets_is_full",
            "nobody_is_refused_because_a_set_of_connections_is_full",
            "what_a_set_of_buckets_remembers_goes_soon",
        ],
        "sets of nf_tables have sizes that are filled here; xt_hashlimit and xt_connlimit keep no sets",
    ),
    (
        "ruleset/nat",
        &[
            "packets_whose_source_is_elsewhere_fail_the_reverse_path",
            "connections_are_offloaded_or_the_rule_is_named_that_cannot_do_it",
            "check_says_when_forwarding_is_off",
            "check_knows_which_types_of_icmp_a_host_needs",
            "check_knows_in_what_frames_neighbours_ask",
            "check_knows_where_there_are_no_fragments",
        ],
        "words of `mef check` before any backend, and two things that iptables cannot say",
    ),
    (
        "trial/deadman",
        &["rules_that_were_kept_nowhere_are_kept_when_a_trial_begins", "what_is_shown_and_kept"],
        "rules of iptables are not read back",
    ),
    (
        "trial/outcome",
        &[
            "the_watcher_has_a_session_of_its_own",
            "what_was_typed_before_the_question_is_no_answer",
            "no_trial_without_a_place_for_the_watcher",
        ],
        "about the process that watches, whatever enforces",
    ),
    (
        "trial/outcome",
        &[
            "tables_of_others_may_change_all_the_time",
            "what_the_kernel_refuses_is_tried_again",
            "a_watcher_that_is_killed_while_the_kernel_refuses",
            "a_table_with_an_owner_is_named_as_that",
            "everything_that_a_table_can_hold_returns",
            "nothing_is_seen_in_between",
        ],
        "tables, owners and transactions of nf_tables; ruleset/cut.rs refuses at each step of iptables",
    ),
];

fn text(file: &str) -> String {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests").join(file);
    fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// The tests of a file, by their names.
fn tests_of(text: &str) -> BTreeSet<String> {
    let after = text.split("#[test]\n").skip(1);
    let name = |rest: &str| {
        let line = rest.lines().find(|line| line.contains("fn ")).unwrap();
        line.split("fn ").nth(1).unwrap().split('(').next().unwrap().to_owned()
    };
    after.map(name).collect()
}

/// The modules that `also!` names in a text, as their directories and names, with their bodies.
fn run_again(text: &str) -> Vec<(String, String, BTreeSet<String>)> {
    let table = text.split("also! {\n").nth(1).unwrap().split("\n}\n").next().unwrap();
    let row = |row: &str| {
        let (head, bodies) = row.split_once(':')?;
        let words: Vec<&str> = head.split_whitespace().collect();
        let (file, module) = match words[..] {
            [area, module] => (format!("{area}/{module}.rs"), format!("{area}/{module}")),
            [area, module, "in", inner] => {
                (format!("{area}/{inner}/{module}.rs"), format!("{inner}/{module}"))
            }
            _ => panic!("{head}"),
        };
        Some((file, module, bodies.split(',').map(|body| body.trim().to_owned()).collect()))
    };
    table.split(';').filter_map(row).collect()
}

#[test]
fn every_body_runs_over_both_backends_or_it_is_said_why_not() {
    let mut modules = BTreeSet::new();
    for (file, module, run) in AGAIN.iter().flat_map(|file| run_again(&text(file))) {
        let there = tests_of(&text(&file));
        assert!(!there.is_empty() && run.is_subset(&there), "{file}: {run:?}");
        let said = LEFT_OUT.iter().filter(|(of, ..)| *of == module).flat_map(|(_, bodies, _)| *bodies);
        let said: BTreeSet<String> = said.map(|body| (*body).to_owned()).collect();
        let left: BTreeSet<String> = there.difference(&run).cloned().collect();
        assert_eq!(left, said, "{file}: what does not run with iptables, and what is said of it here");
        modules.insert(module);
    }
    for (module, _, why) in LEFT_OUT {
        assert!(modules.contains(module) && !why.is_empty(), "{module}: no module of `also!`");
    }
}

#[test]
fn a_body_that_is_left_out_is_seen() {
    let file = "#[test]\nfn one() {}\n#[test]\n#[cfg_attr(x, y)]\npub(super) fn two() {}\nfn helper() {}\n";
    assert_eq!(tests_of(file).into_iter().collect::<Vec<_>>(), ["one", "two"]);
    let again = run_again("also! {\n    a b:\n        one,\n        two;\n    a c in d:\n        x;\n}\n");
    let names: Vec<(&str, usize)> = again.iter().map(|(file, _, all)| (file.as_str(), all.len())).collect();
    assert_eq!(names, [("a/b.rs", 2), ("a/d/c.rs", 1)]);
}
