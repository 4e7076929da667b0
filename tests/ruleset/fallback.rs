//! Rule sets where nf_tables cannot be used: what they do to packets there, they do in iptables, too.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs, reason = "tests")]

use crate::common::backend::also;

also! {
    ruleset oracle:
        what_becomes_of_packets_is_what_the_language_says;
    ruleset matches in verdicts:
        interfaces,
        the_interface_of_the_default_route,
        families_and_addresses,
        protocols,
        ports;
    ruleset limits in verdicts:
        a_limit_is_one_bucket_for_all,
        what_is_over_the_limit_meets_the_next_rule,
        a_bucket_fills_again,
        a_limit_by_source_is_a_bucket_for_each;
    ruleset answers in verdicts:
        every_action_has_its_answer,
        the_first_rule_that_matches_decides,
        a_ban_comes_before_every_rule;
    ruleset logs in verdicts:
        packets_are_logged_once_and_at_most_as_often_as_the_rate_says,
        only_what_matches_is_logged;
    ruleset states in verdicts:
        answers_come_in_and_questions_do_not,
        a_flow_is_established_once_it_is_answered,
        errors_are_related,
        what_belongs_to_nothing_is_invalid;
    ruleset ways in verdicts:
        what_the_host_sends,
        answers_of_the_host_are_established,
        what_passes_through_the_host;
    ruleset nat:
        sources_are_translated,
        destinations_are_translated_and_ct_dnat_opens_the_way,
        hairpin,
        programs_of_the_host_are_translated_by_dir_out,
        segments_fit_the_path,
        knocking_opens_a_port,
        connections_at_the_same_time_are_counted_by_source,
        a_trial_translates_and_takes_it_back;
    trial deadman:
        the_kernel_brings_the_previous_rules_back_by_itself,
        without_a_watcher_the_rules_can_be_confirmed,
        a_watcher_that_stands_still_holds_nothing_up,
        a_reboot_loads_nothing_that_nobody_confirmed,
        where_nothing_was_ever_confirmed_a_reboot_after_a_trial_loads_nothing,
        a_table_that_is_deleted_during_a_trial_is_loaded_again_at_its_end;
    trial outcome:
        what_nobody_confirms_goes,
        what_is_confirmed_stays,
        where_no_rules_were_none_return,
        one_trial_at_a_time,
        loads_that_meet_go_one_after_the_other,
        whoever_is_killed_the_former_rules_return,
        words_at_the_terminal,
        a_loader_that_stands_still_is_not_needed,
        a_terminal_that_hangs_up_brings_the_former_rules_back,
        trials_that_meet,
        a_bad_time_or_rule_set_begins_no_trial,
        ten_thousand_rules_return;
}
