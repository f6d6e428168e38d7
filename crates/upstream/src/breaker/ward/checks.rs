//! What this node's checks of its endpoints' health come to.

use std::sync::Arc;

use tidegate_policy::Health;

use super::{Inner, Ward};
use crate::health::Opinion;

impl Ward {
    /// One of this node's checks came back.
    pub(crate) fn heard_check(&self, endpoint: &Arc<str>, good: bool, rules: &Health, now: u64) {
        let mut inner = self.lock();
        let Some(patient) = inner.named(endpoint) else { return };
        let healthy = patient.opinion.hear(good, rules);
        self.checked(&mut inner, endpoint, healthy, now);
    }

    /// Others check it now.
    pub(crate) fn not_ours(&self, endpoint: &Arc<str>, now: u64) {
        let mut inner = self.lock();
        let Some(patient) = inner.named(endpoint) else { return };
        patient.opinion = Opinion::default();
        self.checked(&mut inner, endpoint, None, now);
    }

    /// Nobody checks any more.
    pub(crate) fn unchecked(&self, now: u64) {
        let mut inner = self.lock();
        for patient in &mut inner.patients {
            (patient.checked, patient.opinion) = (None, Opinion::default());
        }
        self.settle(&mut inner, now);
    }

    pub(crate) fn counts_check(&self, endpoint: &Arc<str>) {
        if let Some(patient) = self.lock().named(endpoint) {
            patient.checks += 1;
        }
    }

    fn checked(&self, inner: &mut Inner, endpoint: &Arc<str>, healthy: Option<bool>, now: u64) {
        let Some(patient) = inner.named(endpoint) else { return };
        if patient.checked == healthy {
            return;
        }
        let was_sick = patient.is_sick();
        (patient.checked, patient.untold) = (healthy, true);
        if was_sick && !patient.is_sick() {
            patient.warming_since = Some(now);
        }
        self.settle(inner, now);
        self.post.news.notify_one();
    }
}
