//! What is expected to notice each guard's absence. Not named here: any seed of the simulation.

use super::By;
use super::By::{Check, Loom, Seeds, Spec};
use crate::sim::Family;

const QUOTA: &str = "tidegate-quota";
const LIMITER: &str = "tidegate-limiter";

/// In this order; the first that notices is enough.
#[must_use]
pub fn plan(guard: &str) -> &'static [By] {
    let row = PLAN.iter().find(|(guards, _)| guards.contains(&guard));
    row.map_or(&[Seeds(Family::Any)], |(_, by)| *by)
}

/// Guards, and what notices that one of them is off.
const PLAN: &[(&[&str], &[By])] = &[
    (
        &["holder-margin", "holder-margin-of-slewed-clocks", "holder-clock-counts-suspend"],
        &[Seeds(Family::Stranded), Seeds(Family::Hermit)],
    ),
    (&["blank-entry-applied-first"], &[Seeds(Family::Tails)]),
    (
        &["sent-read-before-the-batch-leaves"],
        &[Spec(QUOTA, "holding", "a_lease_lasts_from_when_its_report_was_cut_however_late_the_answer_comes")],
    ),
    (&["answered-after-the-commit", "reply-of-the-newest-batch"], &[Seeds(Family::Wild), Seeds(Family::Any)]),
    (
        &["nothing-known-before-the-first-entry"],
        &[Spec(QUOTA, "lib", "stamps::tests::nothing_is_known_before_the_first_entry")],
    ),
    (&["stale-batch-is-not-decided"], &[Check("nothing is granted to who asked long ago")]),
    (
        &["place-ends-with-its-lease"],
        &[Spec(QUOTA, "lib", "cell::tests::a_place_ends_with_its_lease_or_its_generation")],
    ),
    (
        &["bound-of-counts-holds"],
        &[Spec(QUOTA, "ledger", "no_more_counts_are_remembered_than_there_is_room_for_and_who_has_one_keeps_it")],
    ),
    (&["idle-leader-ticks"], &[Check("an idle cluster forgets what nobody uses")]),
    (
        &["recreated-key-has-a-new-epoch"],
        &[Spec(LIMITER, "lib", "table::tests::a_key_that_comes_back_has_an_epoch_of_its_own")],
    ),
    (
        &["a-node-alone-has-it-all", "what-is-at-hand-leaves-as-much-free"],
        &[Spec(
            QUOTA,
            "ledger",
            "a_node_alone_on_a_key_has_it_to_itself_and_what_several_have_at_hand_leaves_as_much_free",
        )],
    ),
    (
        &["lowered-limit-is-not-renewed"],
        &[Spec(QUOTA, "ledger", "a_lease_above_a_lowered_limit_is_not_renewed_and_binds_within_its_time")],
    ),
    (&["window-open-before-a-grant"], &[Spec(QUOTA, "kinds", "nothing_is_granted_before_a_window_is_open")]),
    (&["window-never-backwards"], &[Spec(QUOTA, "kinds", "an_opening_that_comes_late_changes_nothing")]),
    (
        &["held-counts-to-its-own-window"],
        &[Spec(QUOTA, "kinds", "what_is_held_when_a_window_ends_counts_to_that_window")],
    ),
    (&["lapsed-dated-lease-counts-as-spent"], &[Spec(QUOTA, "kinds", "what_a_lost_lease_held_may_have_been_spent")]),
    (&["carry-over-is-bounded"], &[Spec(QUOTA, "kinds", "what_was_left_is_carried_over_up_to_its_bound")]),
    (
        &["used-up-budget-is-remembered"],
        &[Spec(QUOTA, "kinds", "a_key_that_used_up_its_budget_does_not_get_more_by_being_forgotten")],
    ),
    (&["threshold-told-once"], &[Spec(QUOTA, "kinds", "each_threshold_is_told_once_in_a_period")]),
    (
        &["closed-process-refused", "snapshot-holds-closed-processes"],
        &[Spec(QUOTA, "journal", "nothing_is_accepted_of_a_process_that_was_closed")],
    ),
    (
        &["snapshot-holds-windows"],
        &[Spec(QUOTA, "journal", "what_a_killed_process_did_not_spend_is_free_again_once_its_journal_is_closed")],
    ),
    (
        &["snapshot-holds-orders"],
        &[Spec(QUOTA, "orders", "orders_survive_a_snapshot_and_a_ledger_without_any_is_written_as_before")],
    ),
    (&["only-who-journals-is-closed"], &[Spec(QUOTA, "journal", "a_process_that_does_not_journal_cannot_be_closed")]),
    (
        &["whole-journal-names-what-was-spent"],
        &[Spec(QUOTA, "journal", "what_was_granted_and_never_at_hand_is_free_again")],
    ),
    (
        &["dead-lease-charged-to-its-mark"],
        &[Spec(QUOTA, "journal", "what_a_killed_process_did_not_spend_is_free_again_once_its_journal_is_closed")],
    ),
    (
        &["late-report-keeps-what-is-reserved"],
        &[Spec(QUOTA, "journal", "a_process_that_was_cut_off_for_longer_than_its_lease_loses_nothing")],
    ),
    (
        &["alerts-kept-until-told"],
        &[Spec(QUOTA, "journal", "alerts_wait_until_they_were_told_once_somebody_keeps_them")],
    ),
    (
        &["journal-before-it-is-at-hand"],
        &[Spec(QUOTA, "journal", "after_a_power_failure_all_that_was_ever_at_hand_is_spent")],
    ),
    (
        &["snapshot-holds-lapsed-leases"],
        &[Spec(QUOTA, "journal", "a_lease_that_has_lapsed_before_its_journal_is_closed_comes_back_as_well")],
    ),
    (
        &["busy-places-are-not-called-back"],
        &[Spec(QUOTA, "kinds", "idle_places_are_called_back_and_busy_ones_are_not")],
    ),
    (
        &["settled-in-its-own-epoch"],
        &[Spec(QUOTA, "holding", "a_reservation_of_an_epoch_that_is_over_brings_nothing_back")],
    ),
    (
        &["debt-is-paid-first", "reservation-stays-outstanding"],
        &[Spec(
            QUOTA,
            "holding",
            "what_is_reserved_stays_outstanding_until_it_is_settled_and_what_is_owed_is_paid_first",
        )],
    ),
    (&["all-or-none"], &[Spec(LIMITER, "admit", "all_limits_are_taken_or_none")]),
    (&["small-keys-have-an-owner"], &[Check("small limits are used, with few messages")]),
    (
        &["standstill-ends-leases"],
        &[Spec(
            LIMITER,
            "lib",
            "standstill::tests::a_wall_clock_that_is_put_forward_tells_of_a_machine_that_stood_still",
        )],
    ),
    (
        &["called-back-twice-has-an-owner"],
        &[Spec(QUOTA, "lib", "owner::tests::a_second_recall_within_a_lease_crowds_a_key_for_whoever_asks_seldom")],
    ),
    (&["incarnation-is-new"], &[Check("a new process frees nothing of the one before")]),
    (&["late-batch-dropped"], &[Spec(QUOTA, "ledger", "repeated_and_late_batches_change_nothing")]),
    (&["old-epoch-stays-closed"], &[Spec(QUOTA, "ledger", "an_old_epoch_cannot_spend_from_a_new_one")]),
    (
        &["epoch-new-on-reset"],
        &[Spec(QUOTA, "holding", "a_reset_begins_a_new_epoch_so_that_what_was_taken_since_the_report_stays_charged")],
    ),
    (&["sums-saturate"], &[Spec(QUOTA, "lib", "window::tests::a_hostile_spend_saturates_instead_of_wrapping")]),
    (&["bucket-caps-the-sum"], &[Spec(QUOTA, "buckets", "nothing_fills_up_in_the_place_of_what_is_held")]),
    (
        &["bucket-lapsed-is-gone"],
        &[Spec(QUOTA, "buckets", "what_comes_back_unspent_is_there_again_and_what_lapses_is_not")],
    ),
    (
        &["bucket-slower-rate-counts"],
        &[Spec(QUOTA, "buckets", "a_lowered_burst_binds_at_once_and_a_raised_rate_from_then_on")],
    ),
    (
        &["share-within-the-rate", "share-within-the-burst", "share-lowered-when-acknowledged"],
        &[Spec(QUOTA, "shares", "a_part_of_the_rate_is_handed_on_only_after_its_holder_has_said_that_it_let_go")],
    ),
    (
        &["share-moves-with-its-level"],
        &[Spec(QUOTA, "shares", "room_that_its_holder_gives_up_comes_back_empty_whatever_was_in_it")],
    ),
    (&["share-leaves-the-rest"], &[Spec(QUOTA, "shares", "what_nobody_holds_fills_up_at_the_rest_of_the_rate")]),
    (
        &["share-only-what-is-charged"],
        &[Spec(QUOTA, "shares", "a_claim_of_more_than_the_part_that_is_charged_begins_anew")],
    ),
    (
        &["share-fills-no-further-than-its-room"],
        &[Spec(QUOTA, "shares", "a_holder_fills_up_no_further_than_its_room_however_long_it_sleeps")],
    ),
    (&["share-raised-from-then-on"], &[Spec(QUOTA, "shares", "a_raised_part_counts_from_when_it_is_known")]),
    (
        &["refilled-cell-is-cut"],
        &[Spec(QUOTA, "shares", "what_was_taken_before_a_refill_is_not_put_back_beside_what_came_in_its_place")],
    ),
    (
        &["reserved-of-this-share"],
        &[Spec(QUOTA, "shares", "what_was_reserved_comes_back_while_its_part_is_held_and_not_after")],
    ),
    (
        &["ordered-maximum-binds"],
        &[Spec(QUOTA, "orders", "an_ordered_maximum_holds_for_a_limit_or_one_subject_until_it_is_gone")],
    ),
    (
        &["ordered-rate-binds"],
        &[Spec(QUOTA, "orders", "an_ordered_rate_holds_for_a_bucket_or_one_subject_until_it_is_gone")],
    ),
    (
        &["extra-comes-once", "extra-is-used-up"],
        &[Spec(QUOTA, "orders", "what_is_granted_comes_once_however_often_it_is_told_and_however_long_it_stands")],
    ),
    (&["bucket-kept-until-full"], &[Spec(QUOTA, "buckets", "a_bucket_that_nobody_holds_is_not_full_for_that")]),
    (
        &["forgotten-after-acknowledgement"],
        &[Spec(QUOTA, "holding", "it_is_not_forgotten_before_the_ledger_has_acknowledged_that_it_holds_nothing")],
    ),
    (&["handed-back-is-free"], &[Spec(QUOTA, "ledger", "a_permit_handed_back_is_free_at_once")]),
    (
        &["have-only-what-is-charged"],
        &[Spec(QUOTA, "ledger", "a_claim_beyond_what_was_granted_is_reset_and_still_charged")],
    ),
    (
        &["unknown-lease-refused"],
        &[Spec(QUOTA, "holding", "a_report_of_a_lease_the_ledger_does_not_know_charges_nothing")],
    ),
    (
        &["removed-node-refused", "removed-node-stays-charged"],
        &[Spec(QUOTA, "ledger", "a_removed_node_gets_nothing_and_what_it_held_stays_charged")],
    ),
    (
        &["one-swap-hands-back", "report-reads-one-atomic"],
        &[Loom(QUOTA, "loom", "what_is_handed_back_was_taken_by_nobody")],
    ),
    (
        &["cut-between-take-and-clock-burns"],
        &[Seeds(Family::Any), Loom(QUOTA, "loom", "what_a_report_tells_of_was_stamped_before_it")],
    ),
    (&["cell-never-below-zero"], &[Spec(QUOTA, "lib", "cell::tests::it_gives_what_it_has_and_not_one_more")]),
    (
        &["expiry-loaded-before-the-take"],
        &[Spec(QUOTA, "lib", "cell::tests::a_renewal_during_a_take_does_not_save_a_lapsed_permit")],
    ),
    (
        &["burnt-is-never-put-back"],
        &[Spec(QUOTA, "lib", "cell::tests::a_permit_taken_at_the_expiry_is_burnt_and_stays_spent")],
    ),
    (
        &["lapsed-emptied-before-an-answer"],
        &[Spec(QUOTA, "holding", "what_lapsed_while_the_node_asked_is_not_revived_by_the_answer")],
    ),
    (&["lapsed-emptied-before-a-report"], &[Spec(QUOTA, "holding", "a_report_never_claims_what_has_lapsed")]),
    (
        &["lower-revision-refused"],
        &[Spec(QUOTA, "ledger", "lowering_binds_at_once_for_new_grants_and_an_older_document_is_refused")],
    ),
    (&["longer-window-kept"], &[Spec(QUOTA, "ledger", "a_shorter_window_under_the_same_id_forgets_nothing_early")]),
    (
        &["announced-limits-do-not-bind"],
        &[Spec(QUOTA, "policies", "an_announced_document_changes_nothing_that_is_in_force")],
    ),
    (
        &["withdrawn-limit-drains"],
        &[Spec(QUOTA, "ledger", "a_withdrawn_limit_that_comes_back_remembers_what_was_spent")],
    ),
    (&["grant-capped-for-long-windows"], &[Spec(QUOTA, "ledger", "a_grant_of_a_long_window_is_a_small_part_of_it")]),
    (&["large-cost-gathers"], &[Spec(QUOTA, "ledger", "a_large_cost_is_not_nibbled_away_by_small_ones")]),
    (
        &["large-cost-is-not-nibbled"],
        &[Spec(QUOTA, "ledger", "a_large_cost_is_not_nibbled_away_by_its_own_nodes_small_ones")],
    ),
    (&["handed-back-above-four-times"], &[Spec(QUOTA, "holding", "what_is_far_more_than_demand_is_handed_back")]),
    (&["idle-permits-recalled"], &[Spec(QUOTA, "ledger", "a_starving_node_calls_idle_permits_back")]),
    (
        &["waits-before-an-uncovered-refusal"],
        &[Spec(LIMITER, "admit", "a_cold_key_is_admitted_after_one_round_trip_and_the_limit_is_exact")],
    ),
    (&["covered-refusal-is-local"], &[Spec(LIMITER, "admit", "a_flood_of_refusals_is_answered_here")]),
    (
        &["cover-is-capped"],
        &[Spec(LIMITER, "lib", "table::tests::a_refusal_covers_others_for_a_fiftieth_of_the_window_at_most")],
    ),
    (
        &["waiting-queue-bounded"],
        &[Spec(LIMITER, "lib", "admit::slow::tests::beyond_the_bound_nobody_waits_and_whoever_leaves_makes_room")],
    ),
    (
        &["bound-of-keys-holds"],
        &[Spec(
            LIMITER,
            "lib",
            "table::tests::beyond_the_bound_nobody_has_a_slot_until_another_key_is_forgotten_and_the_others_keep_theirs",
        )],
    ),
    (&["one-key-for-a-subject"], &[Seeds(Family::Crammed)]),
    (
        &["room-is-made-at-the-bound"],
        &[Spec(LIMITER, "crowd", "beyond_the_bound_everybody_is_served_by_a_key_of_his_own")],
    ),
    (&["who-leaves-keeps-nothing"], &[Spec(QUOTA, "leaving", "who_leaves_hands_all_back_whatever_is_asked_of_it")]),
    (&["steady-keys-leave-last"], &[Spec(QUOTA, "leaving", "who_is_asked_for_again_and_again_leaves_after_others")]),
    (
        &["turnover-of-keys-is-bounded"],
        &[Spec(LIMITER, "lib", "tick::room::tests::no_more_keys_leave_than_the_log_can_bear")],
    ),
    (
        &["charged-key-never-evicted"],
        &[Spec(LIMITER, "lib", "table::tests::what_is_held_listed_missed_or_pinned_is_not_forgotten")],
    ),
    (
        &["another-keys-permit-is-noticed"],
        &[Loom(LIMITER, "lib", "model::nobody_keeps_a_permit_of_the_key_that_came_after_his")],
    ),
    (
        &["reserve-spent-at-the-start"],
        &[Spec(QUOTA, "lib", "reserve::tests::a_new_process_starts_with_its_reserve_spent")],
    ),
    (&["reserve-window-margin"], &[Spec(QUOTA, "lib", "reserve::tests::its_window_is_long_enough_for_a_slow_clock")]),
    (&["reserve-lapses"], &[Spec(QUOTA, "lib", "reserve::tests::it_lapses_when_nobody_renews_it")]),
    (
        &["reserve-ended-is-charged"],
        &[Spec(QUOTA, "ledger", "a_reserve_is_charged_whole_and_one_window_beyond_its_end")],
    ),
    (
        &["reserve-shrinks", "reserve-shrinks-by-agreement"],
        &[Spec(QUOTA, "ledger", "a_reserve_above_a_lowered_limit_is_charged_until_its_node_gave_it_up")],
    ),
    (
        &["reserve-not-ended-by-a-late-batch"],
        &[Spec(QUOTA, "ledger", "late_batches_of_this_life_do_not_end_a_reserve")],
    ),
    (
        &["reserve-not-ended-by-a-former-life"],
        &[Spec(QUOTA, "ledger", "late_batches_of_a_former_life_do_not_end_a_reserve")],
    ),
    (&["reply-used-once"], &[Spec(QUOTA, "holding", "an_answer_that_comes_twice_is_used_once")]),
    (
        &["retry-is-a-new-batch"],
        &[Spec(QUOTA, "holding", "the_late_answer_to_a_batch_that_was_given_up_prolongs_nothing")],
    ),
    (
        &["windows-open-by-agreement"],
        &[Seeds(Family::Dated), Spec(QUOTA, "lib", "calendar::tests::a_clock_that_runs_wild_goes_by_those_that_agree")],
    ),
    (
        &["left-is-counted-by-the-old-maximum"],
        &[Spec(QUOTA, "kinds", "what_is_carried_over_is_counted_by_the_maximum_that_was_in_force")],
    ),
    (
        &["large-cost-keeps-its-turn"],
        &[Spec(QUOTA, "reservations", "who_is_refused_keeps_his_turn_for_two_seconds_whatever_else_his_node_says")],
    ),
    (
        &["waits-for-what-is-missing"],
        &[Spec(QUOTA, "reservations", "a_cost_above_half_of_the_limit_waits_only_for_what_its_node_lacks")],
    ),
    (
        &["called-back-what-is-not-spent"],
        &[Spec(QUOTA, "reservations", "who_is_called_back_keeps_nothing_for_what_was_missed")],
    ),
    (
        &["turn-kept-between-tries"],
        &[Spec(QUOTA, "reservations", "what_is_granted_between_two_tries_is_there_at_the_second")],
    ),
    (
        &["granted-to-whom-it-was-gathered-for"],
        &[Spec(QUOTA, "reservations", "what_was_gathered_for_a_large_cost_is_not_for_small_ones_that_came_before_it")],
    ),
    (
        &["report-that-crosses-a-recall-is-no-answer"],
        &[Spec(QUOTA, "ledger", "a_report_that_was_on_its_way_when_its_node_was_asked_is_no_answer")],
    ),
    (&["who-was-heard-lately-is-there"], &[Spec(QUOTA, "ledger", "who_has_just_handed_all_back_is_not_gone")]),
    (
        &["part-of-a-reservation-is-called-back"],
        &[Spec(QUOTA, "reservations", "nodes_that_hold_parts_of_reservations_do_not_wait_for_each_other")],
    ),
];

#[cfg(test)]
mod tests {
    use tidegate_quota::guard::GUARDS;

    use super::*;

    #[test]
    fn every_row_is_of_guards_that_there_are_and_each_has_one() {
        let named = PLAN.iter().flat_map(|(guards, _)| guards.iter());
        for guard in named.clone() {
            assert!(GUARDS.contains(guard), "{guard} is no guard");
            assert_eq!(named.clone().filter(|other| *other == guard).count(), 1, "{guard} has one row");
        }
    }
}
