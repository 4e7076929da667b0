//! Lists with iptables and ip_set. Left out are tests of what nf_tables alone has: intervals that others add
//! to, chains of early and late look-ups.
#![allow(missing_docs, reason = "tests")]

use crate::common::backend::also;

also! {
    lists files:
        lists_are_changed_by_command_on_a_fresh_host,
        a_permanent_ban_moves_into_the_deny_list,
        what_would_lock_out_is_not_denied,
        two_commands_at_once_lose_nothing,
        an_entry_for_a_time_ends_without_a_daemon_and_survives_a_flush,
        the_allow_list_wins_over_the_deny_list,
        with_reload_0_lists_are_read_on_sighup_only,
        bad_lists_never_replace_good_ones,
        what_the_host_needs_is_left_out_of_the_lists_of_others,
        a_large_list_is_swapped_without_a_gap,
        the_daemon_is_killed_while_it_loads;
    lists kept:
        a_damaged_allow_list_leaves_its_entries_in_force,
        a_damaged_deny_list_leaves_its_entries_in_force,
        a_directory_that_is_moved_away_takes_nobody_along,
        a_list_that_may_not_be_read_leaves_its_entries_in_force,
        a_list_that_a_full_disk_has_cut_leaves_its_entries_in_force,
        what_a_list_left_in_force_is_dropped_on_demand;
}
