//! The guards of the escrow protocol, each by its name, and the switch that the mutation gate turns one off with.
//!
//! `guard!("name")` is the constant `true` in every build but the gate's (feature `mutants`), where it asks whether that
//! guard is in force: in this thread ([`without`]), or in this process (`TIDEGATE_GUARD_OFF=name`, for specs and loom).
//! A name that is not listed does not compile. What catches each one: `crates/testkit/src/mutants/list.rs`.

#[cfg(all(feature = "mutants", not(debug_assertions)))]
compile_error!("the feature `mutants` is the mutation gate's own: nothing that ships is built with it");

/// Every guard of docs/quota.md.
pub const GUARDS: &[&str] = &[
    // Clocks.
    "holder-margin",
    "holder-margin-of-slewed-clocks",
    "log-clock-margin",
    "holder-clock-counts-suspend",
    "leader-clock-is-not-slewed",
    "span-counted-once",
    "nothing-known-before-the-first-entry",
    "new-leadership-counts-from-what-it-applied",
    "sent-read-before-the-batch-leaves",
    "no-cached-clock-decides-an-expiry",
    "standstill-ends-leases",
    // The leader.
    "blank-entry-applied-first",
    "answered-after-the-commit",
    "idle-leader-ticks",
    "stale-batch-is-not-decided",
    // Requests and replies.
    "late-batch-dropped",
    "reply-used-once",
    "reply-of-the-newest-batch",
    "retry-is-a-new-batch",
    "incarnation-is-new",
    "recreated-key-has-a-new-epoch",
    "old-epoch-stays-closed",
    "forgotten-after-acknowledgement",
    "epoch-new-on-reset",
    "cell-emptied-on-reset",
    // Charging.
    "outstanding-charged-for-d",
    "outstanding-charged-for-w",
    "outstanding-counts",
    "spend-is-booked",
    "spend-charged-for-w",
    "ring-stamped-with-the-latest",
    "sums-saturate",
    "grant-within-the-free",
    "handed-back-is-free",
    "handed-back-leaves-the-lease",
    "shortened-lease-keeps-the-longer",
    "have-only-what-is-charged",
    "unknown-lease-refused",
    "charged-count-kept",
    "removed-node-refused",
    "removed-node-stays-charged",
    // The cell.
    "cell-never-below-zero",
    "one-swap-hands-back",
    "report-reads-one-atomic",
    "expiry-loaded-before-the-take",
    "lapsed-is-burnt",
    "burnt-is-never-put-back",
    "cut-between-take-and-clock-burns",
    "put-back-in-its-generation",
    "lapsed-emptied-before-an-answer",
    "lapsed-emptied-before-a-report",
    // Policies.
    "lower-revision-refused",
    "lowered-limit-is-not-renewed",
    "longer-window-kept",
    "announced-limits-do-not-bind",
    "withdrawn-limit-drains",
    // Snapshots.
    "snapshot-holds-policies",
    "snapshot-holds-records",
    "snapshot-holds-rings",
    "snapshot-holds-reserves",
    "snapshot-holds-removed-nodes",
    "snapshot-holds-the-clock",
    "snapshot-holds-closed-processes",
    "snapshot-holds-windows",
    "snapshot-holds-orders",
    // Token buckets.
    "bucket-caps-the-sum",
    "bucket-lapsed-is-gone",
    "bucket-slower-rate-counts",
    "bucket-kept-until-full",
    // Rate shares.
    "share-within-the-rate",
    "share-within-the-burst",
    "share-leaves-the-rest",
    "share-lowered-when-acknowledged",
    "share-moves-with-its-level",
    "share-only-what-is-charged",
    "share-fills-no-further-than-its-room",
    "share-raised-from-then-on",
    "refilled-cell-is-cut",
    "reserved-of-this-share",
    // Calendar windows and budgets.
    "windows-open-by-agreement",
    "window-open-before-a-grant",
    "window-never-backwards",
    "held-counts-to-its-own-window",
    "lapsed-dated-lease-counts-as-spent",
    "carry-over-is-bounded",
    "left-is-counted-by-the-old-maximum",
    "used-up-budget-is-remembered",
    "threshold-told-once",
    "closed-process-refused",
    "only-who-journals-is-closed",
    "dead-lease-charged-to-its-mark",
    "whole-journal-names-what-was-spent",
    "late-report-keeps-what-is-reserved",
    "alerts-kept-until-told",
    "journal-before-it-is-at-hand",
    "snapshot-holds-lapsed-leases",
    // Places, reservations, calls with several limits.
    "busy-places-are-not-called-back",
    "place-ends-with-its-lease",
    "settled-in-its-own-epoch",
    "debt-is-paid-first",
    "reservation-stays-outstanding",
    "all-or-none",
    // Orders.
    "ordered-maximum-binds",
    "ordered-rate-binds",
    "extra-comes-once",
    "extra-is-used-up",
    // Slices.
    "grant-capped-for-long-windows",
    "large-cost-gathers",
    "large-cost-is-not-nibbled",
    "large-cost-keeps-its-turn",
    "turn-kept-between-tries",
    "granted-to-whom-it-was-gathered-for",
    "waits-for-what-is-missing",
    "part-of-a-reservation-is-called-back",
    "called-back-what-is-not-spent",
    "handed-back-above-four-times",
    "idle-permits-recalled",
    "report-that-crosses-a-recall-is-no-answer",
    "a-node-alone-has-it-all",
    "who-was-heard-lately-is-there",
    "what-is-at-hand-leaves-as-much-free",
    "small-keys-have-an-owner",
    "called-back-twice-has-an-owner",
    "waits-before-an-uncovered-refusal",
    "covered-refusal-is-local",
    "cover-is-capped",
    "waiting-queue-bounded",
    "bound-of-counts-holds",
    "bound-of-keys-holds",
    "one-key-for-a-subject",
    "room-is-made-at-the-bound",
    "who-leaves-keeps-nothing",
    "steady-keys-leave-last",
    "turnover-of-keys-is-bounded",
    "charged-key-never-evicted",
    "another-keys-permit-is-noticed",
    // The partition reserve.
    "reserve-spent-at-the-start",
    "reserve-window-margin",
    "reserve-lapses",
    "reserve-counts",
    "reserve-shrinks",
    "reserve-ended-is-charged",
    "reserve-shrinks-by-agreement",
    "reserve-not-ended-by-a-late-batch",
    "reserve-not-ended-by-a-former-life",
];

/// Where a guard stands in the list. Evaluated when compiled.
#[must_use]
pub const fn index(name: &str) -> usize {
    let mut at = 0;
    while at < GUARDS.len() {
        if is_same(GUARDS[at].as_bytes(), name.as_bytes()) {
            return at;
        }
        at += 1;
    }
    panic!("no such guard: list it in quota/src/guard.rs")
}

const fn is_same(a: &[u8], b: &[u8]) -> bool {
    let mut at = 0;
    while at < a.len() && at < b.len() && a[at] == b[at] {
        at += 1;
    }
    at == a.len() && at == b.len()
}

/// Is this guard in force? In all that ships: yes, known when compiled.
#[cfg(not(feature = "mutants"))]
#[inline(always)]
#[must_use]
pub const fn holds(_guard: usize) -> bool {
    true
}

#[cfg(feature = "mutants")]
pub use switch::{holds, without};

#[cfg(feature = "mutants")]
mod switch {
    use std::cell::Cell;
    use std::sync::LazyLock;

    /// All in force.
    const NONE: usize = usize::MAX;

    static OF_PROCESS: LazyLock<usize> =
        LazyLock::new(|| std::env::var("TIDEGATE_GUARD_OFF").map_or(NONE, |name| super::index(&name)));

    thread_local! {
        static OFF: Cell<usize> = Cell::new(*OF_PROCESS);
    }

    #[must_use]
    pub fn holds(guard: usize) -> bool {
        OFF.with(Cell::get) != guard
    }

    /// Runs `what` in this thread without the guard of this name.
    ///
    /// # Panics
    /// If there is no such guard.
    pub fn without<T>(name: &str, what: impl FnOnce() -> T) -> T {
        let _back = Back(OFF.with(|off| off.replace(super::index(name))));
        what()
    }

    struct Back(usize);

    impl Drop for Back {
        fn drop(&mut self) {
            OFF.with(|off| off.set(self.0));
        }
    }
}

/// Is the guard of this name in force? See [`guard`](mod@crate::guard).
#[macro_export]
macro_rules! guard {
    ($name:literal) => {
        $crate::guard::holds(const { $crate::guard::index($name) })
    };
}
