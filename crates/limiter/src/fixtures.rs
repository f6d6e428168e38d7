//! What several tests of this crate begin with.

use tidegate_model::{LimitId, Nanos, Permits, Revision, Subject};
use tidegate_policy::{Kind, Limit, Mode, OnUnavailable};
use tidegate_quota::protocol::{Answer, Verdict};

use crate::slot::{Found, Slot};
use crate::table::Table;

pub(crate) fn limit() -> Limit {
    Limit {
        id: LimitId(1),
        revision: Revision(1),
        name: "spec".into(),
        max: Permits(100),
        kind: Kind::Sliding { window: Nanos::SECOND },
        cost: tidegate_policy::Cost::ONE,
        per: Vec::new(),
        mode: Mode::Enforce,
        on_unavailable: OnUnavailable::Deny,
        count_hits: true,
        on_missing: tidegate_policy::OnMissing::Share,
        terms: tidegate_policy::Terms::default(),
    }
}

pub(crate) fn find(table: &Table, subject: u128) -> Found<'_> {
    table.find(&limit(), Subject(subject), |_| ()).expect("room")
}

/// A report and its answer, as the tick does them: the leader grants so much. Returns the epoch that was told.
pub(crate) fn grant(slot: &Slot, permits: u64, seq: u64) -> u64 {
    grant_at(slot, permits, seq, Nanos(seq), Nanos::SECOND)
}

/// As [`grant`], at this instant of the boot clock, for so long.
pub(crate) fn grant_at(slot: &Slot, permits: u64, seq: u64, now: Nanos, ttl: Nanos) -> u64 {
    let mut holding = slot.holding();
    let item = holding.report(&slot.cell, seq, slot.surroundings(now));
    let verdict = Verdict::Lease {
        granted: Permits(permits),
        free: Permits(100),
        ttl,
        retry: Nanos::ZERO,
        reserve: Permits::ZERO,
    };
    let answer = Answer { key: item.key, epoch: item.epoch, verdict };
    holding.answer(&slot.cell, seq, &answer, Nanos::SECOND, now, || unreachable!("no reset"));
    item.epoch
}
