//! The short way to what is asked for again and again: a request that wants a response whole and as it is, whoever sends
//! it, is answered from the place where one like it was answered before.
//!
//! Knows nothing of routes: `proxy` remembers which requests are alike ([`Spot`]) and how their answers were dressed
//! ([`Again::tells`]). Every promise of the long way holds: leases, purges, lifetimes and early refreshes are looked at
//! each time, and whatever is not simply a fresh hit goes the long way.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, Method, Response, StatusCode};
use tidegate_model::Millis;

use crate::answer::{self, Asker, Kind};
use crate::cache::Cache;
use crate::flight::Body;
use crate::memory::Found;
use crate::rules::control::RequestControl;
use crate::rules::key::Key;
use crate::rules::reuse::Reuse;
use crate::rules::status::Report;
use crate::stored::{Serial, Stored};

/// Where responses to a request, and to those like it, are kept for everybody.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Spot(pub(crate) Key);

/// A response that is fresh now.
#[derive(Debug)]
pub struct Again {
    stored: Arc<Stored>,
    now: Millis,
}

/// All that the head of an answer depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tells {
    serial: Serial,
    age: u64,
    ttl: i64,
}

impl Cache {
    /// `request`: of a GET without conditions, ranges, credentials and `Cache-Control`. `None`: go the long way.
    #[must_use]
    pub fn again(&self, spot: &Spot, request: &HeaderMap) -> Option<Again> {
        if !self.is_live() {
            return None;
        }
        let now = self.now();
        let Found::This(stored) = self.memory().find(&spot.0, request, now) else { return None };
        let terms = &stored.terms;
        let fresh = terms.reuse(&RequestControl::default(), now) == Reuse::Fresh
            && !terms.refreshes_early(stored.fetch(), self.throw(), now);
        if !fresh || !self.purges().outlived_by(&stored) {
            return None;
        }
        self.counters.answered(Kind::Hit);
        Some(Again { stored, now })
    }
}

impl Again {
    #[must_use]
    pub fn tells(&self) -> Tells {
        let terms = &self.stored.terms;
        Tells { serial: self.stored.serial, age: terms.age(self.now).0 / 1_000, ttl: terms.ttl_seconds(self.now) }
    }

    /// Head and body, as the long way makes them.
    #[must_use]
    pub fn answer(&self) -> Response<Body> {
        let plain = HeaderMap::new();
        let asker = Asker { method: &Method::GET, headers: &plain };
        let report = Report::hit(self.stored.terms.ttl_seconds(self.now));
        answer::of(&self.stored, asker, false, Kind::Hit, &report, self.now).response
    }

    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.stored.status
    }

    #[must_use]
    pub fn body(&self) -> Body {
        if self.stored.body.is_empty() { Body::Empty } else { Body::Whole(Bytes::clone(&self.stored.body)) }
    }
}
