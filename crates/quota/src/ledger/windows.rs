//! Calendar windows that are open: one for each limit that has them, by the log's word. Never backwards.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize};
use tidegate_model::{LimitId, Millis, Nanos};

use crate::calendar;
use crate::guard;
use crate::protocol::{Opening, Policy, Span, Verdict};

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Windows(BTreeMap<LimitId, Window>);

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Window {
    pub(super) number: u64,
    pub(super) ends: Millis,
    /// Was there a window of this limit before?
    pub(super) follows: bool,
}

impl Window {
    /// Its number, for what is otherwise told by the log clock.
    pub(super) const fn since(&self) -> Nanos {
        Nanos(self.number)
    }
}

impl Windows {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn of(&self, limit: LimitId) -> Option<&Window> {
        self.0.get(&limit)
    }

    pub(super) fn open(&mut self, opening: &Opening) {
        let Opening { limit, number, span } = *opening;
        let before = self.0.get(&limit).map(|window| window.number);
        if number > before.unwrap_or(0) || !guard!("window-never-backwards") {
            self.0.insert(limit, Window { number, ends: span.end, follows: before.is_some() });
        }
    }

    pub(super) fn keep(&mut self, known: impl Fn(&LimitId) -> bool) {
        if !self.0.is_empty() {
            self.0.retain(|limit, _| known(limit));
        }
    }

    pub(super) fn due(&self, policy: &Policy, now: Millis) -> Option<Opening> {
        let (period, zone) = policy.kind.period()?;
        let open = self.0.get(&policy.limit);
        if open.is_some_and(|open| now < open.ends) {
            return None;
        }
        let span = calendar::window(period, zone, now)?;
        // Where clocks are set by half an hour an hour may begin before the last one ended: it begins when that ends.
        let start = open.map_or(span.start, |open| span.start.max(open.ends));
        let span = Span { start, ..span };
        Some(Opening { limit: policy.limit, number: span.number(), span })
    }

    pub(super) fn next_end(&self) -> Option<Millis> {
        self.0.values().map(|window| window.ends).min()
    }
}

/// Names the window that an answer's permits count to.
pub(super) fn dated(verdict: Verdict, window: Option<&Window>) -> Verdict {
    match (verdict, window) {
        (Verdict::Lease { granted, free, ttl, retry, .. }, Some(Window { number, ends, .. })) => {
            Verdict::Dated { granted, free, ttl, retry, window: *number, ends: *ends }
        }
        (verdict, _) => verdict,
    }
}

/// For what the first ledgers did not have: those end before it.
pub(super) fn added_later<'de, D: Deserializer<'de>>(from: D) -> Result<Windows, D::Error> {
    Ok(Windows::deserialize(from).unwrap_or_default())
}
