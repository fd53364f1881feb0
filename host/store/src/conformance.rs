//! One suite for all engines: what the books promise, as cases that each begin with empty books.
//!
//! An engine lists them as separate tests with [`conformance_tests!`](crate::conformance_tests), or runs them in one go with
//! [`all`]. Time is virtual (`now` is an argument everywhere), so nothing here waits; cases with many tasks rely on a
//! multi-threaded runtime to be more than a formality.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)] // test code

pub mod addresses;
pub mod effects;
pub mod events;
pub mod fixture;
pub mod hosts;
pub mod jobs;
pub mod objects;
pub mod plugins;
pub mod queue;
pub mod records;
pub mod twins;
pub mod wishes;

use crate::Books;

/// Calls a macro with all cases: `$callback! { $make; module::case, … }`.
#[macro_export]
macro_rules! each_conformance_case {
    ($callback:path, $make:expr) => {
        $callback! { $make;
            wishes::a_created_service_has_one_live_operation,
            wishes::one_reference_is_created_once_however_many_ask,
            wishes::the_same_key_with_the_same_words_is_answered_as_before,
            wishes::the_same_key_with_other_words_is_refused,
            wishes::a_refusal_leaves_no_trace_and_no_key,
            wishes::a_key_is_forgotten_after_thirty_days,
            wishes::nothing_for_an_unknown_service_stays_nothing,
            wishes::a_change_of_an_unknown_service_is_refused,
            wishes::creating_what_is_there_is_refused,
            wishes::the_decision_sees_the_live_operation_first_and_the_queued_ones_in_order,
            wishes::an_operation_behind_a_live_one_is_promoted_when_that_ends,
            wishes::a_queued_operation_can_be_cancelled_and_a_live_one_can_not,
            wishes::preempting_makes_a_waiting_run_due,
            wishes::preempting_a_claimed_run_ends_its_next_wait_at_once,
            wishes::a_suspension_is_seen_at_once_while_an_operation_runs,
            wishes::what_is_overtaken_leaves_the_phase_of_the_wish_that_overtook_it,
            queue::a_claim_is_exclusive_until_it_runs_out,
            queue::an_expired_claim_is_taken_over_with_a_higher_epoch,
            queue::a_stale_claim_writes_nothing,
            queue::a_renewed_claim_is_not_taken_over,
            queue::the_oldest_due_is_claimed_first,
            queue::workers_never_share_a_run,
            queue::a_clock_that_was_set_back_stops_nobody,
            addresses::what_was_seen_on_a_server_is_never_given_out,
            queue::in_restored_books_every_live_operation_ends_in_needs_admin,
            queue::a_commit_writes_everything_together,
            queue::a_refused_commit_writes_nothing,
            queue::a_wait_gives_the_claim_back_until_it_is_due,
            queue::a_topic_wakes_those_that_wait_for_it,
            queue::waking_makes_a_waiting_run_due_and_leaves_a_claimed_one,
            queue::the_log_is_numbered_without_gaps,
            queue::a_full_log_loses_its_oldest_lines_and_keeps_its_steps,
            queue::failed_tries_do_not_fill_the_log_without_end,
            queue::history_is_cut_to_fifty_and_open_operations_stay,
            queue::an_operation_in_needs_admin_can_be_resumed,
            queue::a_claim_from_before_a_resume_stays_void,
            queue::resuming_is_refused_while_another_operation_is_live,
            queue::resuming_is_refused_once_the_service_was_terminated,
            queue::an_operation_finishes_only_in_a_final_status,
            queue::services_are_listed_by_what_is_asked,
            queue::live_state_versions_are_counted,
            effects::an_effect_without_a_slot_may_be_sent_at_once,
            effects::an_effect_moves_only_along_its_way,
            effects::an_unresolved_effect_bars_the_next,
            effects::effects_are_numbered_within_the_generation,
            effects::a_full_pool_parks_the_run_whatever_it_wanted_next,
            effects::slots_never_exceed_their_cap,
            effects::a_lowered_cap_counts_those_that_hold_already,
            effects::parked_runs_are_woken_in_the_order_in_which_they_came,
            effects::a_slot_is_given_back_when_nothing_was_sent,
            effects::a_slot_is_given_back_when_the_operation_ends,
            effects::a_parked_run_that_ends_unsent_passes_its_turn_on,
            effects::a_run_that_lost_its_turn_keeps_its_place,
            effects::tasks_are_listed_by_server,
            addresses::leases_are_the_lowest_free_addresses,
            addresses::leasing_again_gives_the_same,
            addresses::a_service_that_wants_more_keeps_its_own_and_goes_on_counting,
            addresses::leases_are_all_or_nothing,
            addresses::ranges_of_another_network_are_not_mixed,
            addresses::excluded_addresses_are_never_leased,
            addresses::the_same_address_in_two_domains_is_two_addresses,
            addresses::both_families_come_ipv4_first,
            addresses::a_huge_ipv6_range_gives_its_first_address,
            addresses::the_last_address_of_all_can_be_leased,
            addresses::many_at_once_get_no_address_twice,
            addresses::release_needs_a_proof_of_absence,
            addresses::a_released_address_rests_in_quarantine,
            addresses::without_a_rest_clock_the_callers_clock_counts,
            addresses::a_clock_that_is_ahead_ends_no_rest,
            addresses::a_clock_that_was_set_back_prolongs_no_rest,
            addresses::time_that_nobody_measured_is_not_rested,
            addresses::a_release_by_a_late_clock_rests_its_full_time,
            addresses::the_rest_clock_is_counted_by_one_at_a_time,
            addresses::an_address_that_is_free_does_not_rest_again,
            addresses::a_ptr_belongs_to_the_lease,
            addresses::a_vm_number_is_reserved_once_and_kept,
            addresses::a_burnt_vm_number_is_never_used_again,
            addresses::many_at_once_get_no_vm_number_twice,
            addresses::a_service_has_one_live_number,
            addresses::what_is_asked_for_under_a_lost_claim_is_refused,
            addresses::room_is_never_promised_twice,
            records::a_wanted_record_is_due_and_settled_when_done,
            records::a_record_that_was_never_sent_vanishes_with_the_wish,
            records::a_record_that_may_be_there_is_removed_by_a_worker,
            records::a_crash_after_sending_leaves_the_record_in_the_ledger,
            records::a_settled_record_stays_untouched,
            records::a_failed_record_is_tried_again_and_says_why,
            records::a_postponed_record_is_not_counted_as_failed,
            records::a_wish_that_turns_round_in_flight_is_not_settled,
            records::a_record_wanted_again_is_written_again,
            records::a_changed_wish_is_not_sent,
            records::a_queue_has_one_owner,
            records::a_lost_dns_claim_writes_nothing,
            records::hurrying_makes_unsettled_records_due,
            records::a_record_that_was_seen_to_be_missing_is_due_again_and_stays_in_the_ledger,
            records::due_records_come_zone_by_zone,
            records::wishes_of_others_are_refused,
            records::a_record_that_another_service_wants_now_is_not_removed,
            records::names_are_said_with_the_name_of_an_address_and_an_audit_row,
            records::no_names_are_said_while_an_operation_is_open_or_of_a_service_that_is_not_active,
            records::names_that_were_made_of_what_has_changed_since_are_not_said,
            records::of_a_terminate_and_many_who_say_names_no_record_is_left,
            events::the_feed_has_no_gaps_and_is_cut_by_panel,
            events::events_of_many_writers_are_numbered_in_order,
            events::a_hook_is_told_what_it_wants_and_nothing_else,
            events::a_hook_gets_the_events_of_a_service_in_order,
            events::a_failed_delivery_comes_again_and_counts,
            events::a_lost_delivery_claim_settles_nothing,
            events::a_deleted_hook_is_told_nothing_more,
            events::the_audit_log_is_newest_first,
            jobs::a_declared_job_is_due_at_once_and_keeps_its_history,
            jobs::a_job_is_run_by_one_at_a_time,
            jobs::only_jobs_that_the_host_knows_are_claimed,
            jobs::missed_ticks_are_made_up_for_once,
            jobs::a_renewed_job_is_not_taken_over,
            jobs::a_job_whose_process_died_is_taken_over_and_that_is_counted,
            jobs::the_end_of_a_lost_job_is_refused_and_writes_nothing,
            jobs::a_failed_job_says_why_and_keeps_its_last_result,
            jobs::findings_become_events_with_the_end_of_the_job,
            jobs::a_forced_job_is_due_now,
            jobs::a_job_forced_while_it_runs_runs_once_more,
            jobs::cleared_locks_let_another_begin_and_refuse_the_zombie,
            jobs::a_clock_that_was_set_back_stops_no_job,
            jobs::a_job_without_a_good_end_is_stale,
            jobs::old_events_go_but_none_that_a_hook_still_waits_for,
            jobs::the_numbers_of_the_feed_go_on_after_pruning,
            jobs::a_reader_from_before_what_was_pruned_is_told_and_other_panels_are_not,
            jobs::old_audit_rows_go_in_batches,
            jobs::old_idempotency_keys_go,
            jobs::effects_of_an_operation_that_is_tried_for_ever_stay_bounded,
            objects::revisions_rise_and_guard_against_lost_updates,
            objects::an_object_goes_with_its_secrets,
            objects::audit_rows_come_with_the_change_or_not_at_all,
            objects::a_secret_once_stored_is_not_replaced,
            objects::secrets_are_replaced_listed_and_deleted,
            objects::the_store_of_a_plugin_has_a_limit,
            objects::keys_are_listed_by_prefix,
            plugins::a_version_is_never_replaced_by_other_bytes,
            plugins::rolling_out_remembers_what_was_before,
            plugins::only_what_is_installed_can_be_rolled_out,
            plugins::versions_sort_as_versions,
            hosts::a_host_is_listed_with_what_it_has_in_hand,
            hosts::a_host_that_stopped_is_gone_and_one_that_was_not_seen_for_long_is_forgotten,
            hosts::what_waits_is_counted,
            hosts::a_server_is_watched_by_one_host_until_its_time_runs_out,
        }
    };
}

/// Makes each case a test of its own. `$make` is an async closure or function that returns `(Books, guard)`: empty books
/// and whatever must live as long as they do.
#[macro_export]
macro_rules! conformance_tests {
    ($make:expr) => {
        $crate::each_conformance_case!($crate::__conformance_test_fns, $make);
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __conformance_test_fns {
    ($make:expr; $($module:ident :: $case:ident),* $(,)?) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                let (books, _guard) = $make().await;
                $crate::conformance::$module::$case(books).await;
            }
        )*
    };
}

/// Runs all cases, each on books of its own, for engines whose books are too dear to be made by a process for each case.
/// Goes on after a failure, and panics in the end with all that failed.
pub async fn all<Guard: Send + 'static>(make: impl AsyncFn() -> (Books, Guard)) {
    let mut failed = Vec::new();
    macro_rules! run {
        ($make:expr; $($module:ident :: $case:ident),* $(,)?) => {
            $(
                let (books, guard) = $make().await;
                if tokio::spawn($module::$case(books)).await.is_err() {
                    failed.push(stringify!($case));
                }
                drop(guard);
            )*
        };
    }
    each_conformance_case!(run, make);
    assert!(failed.is_empty(), "{} cases failed: {}", failed.len(), failed.join(", "));
}
