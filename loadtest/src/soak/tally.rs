//! What came of every request, by kind of traffic; and what is not on the list, with where and when.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::listed::{How, Kind, listed};

/// Failures beyond this many are counted, not described.
const KEPT: usize = 1_000;

pub(super) struct Tally {
    began: Instant,
    all: AtomicU64,
    unlisted: AtomicU64,
    counts: Mutex<Counts>,
    failures: Mutex<Vec<Failure>>,
    /// Listed, but worth a look.
    seldom: Mutex<Vec<Failure>>,
}

pub(super) type Counts = BTreeMap<(Kind, String), u64>;

/// Something that must not happen.
#[derive(Debug, Clone)]
pub(super) struct Failure {
    /// Since the scenario began.
    pub(super) at: Duration,
    pub(super) node: String,
    pub(super) kind: Kind,
    pub(super) outcome: String,
    /// What was asked, and what is known beyond the outcome.
    pub(super) request: String,
}

impl Tally {
    pub(super) fn new() -> Self {
        Self {
            began: Instant::now(),
            all: AtomicU64::new(0),
            unlisted: AtomicU64::new(0),
            counts: Mutex::default(),
            failures: Mutex::default(),
            seldom: Mutex::default(),
        }
    }

    /// `request` is only asked for when the outcome is not on the list.
    pub(super) fn note(&self, kind: Kind, node: &str, outcome: &str, request: impl FnOnce() -> String) {
        self.all.fetch_add(1, Relaxed);
        {
            let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
            *counts.entry((kind, outcome.to_owned())).or_default() += 1;
        }
        let how = listed(kind, outcome).map(|line| line.how);
        let failures = match how {
            Some(How::Must | How::May) => return,
            Some(How::Seldom) => &self.seldom,
            None => &self.failures,
        };
        if how.is_none() {
            self.unlisted.fetch_add(1, Relaxed);
        }
        let mut failures = failures.lock().unwrap_or_else(PoisonError::into_inner);
        if failures.len() < KEPT {
            let (node, outcome) = (node.to_owned(), outcome.to_owned());
            failures.push(Failure { at: self.began.elapsed(), node, kind, outcome, request: request() });
        }
    }

    pub(super) fn since_the_beginning(&self) -> Duration {
        self.began.elapsed()
    }

    pub(super) fn all(&self) -> u64 {
        self.all.load(Relaxed)
    }

    pub(super) fn unlisted(&self) -> u64 {
        self.unlisted.load(Relaxed)
    }

    pub(super) fn counts(&self) -> Counts {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What is listed, but to be seldom.
    pub(super) fn seldom(&self) -> Vec<Failure> {
        self.seldom.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn failures(&self) -> Vec<Failure> {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { at, node, kind, outcome, request } = self;
        write!(f, "{:7.2} s  {node:<4} {:<12} {outcome}: {request}", at.as_secs_f64(), kind.name())
    }
}
