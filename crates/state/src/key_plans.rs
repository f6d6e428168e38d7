//! Plans that keys have of their own, instead of their consumer's.
//!
//! Beside the keys and not in them: the first states did not have this. A revoked key keeps its entry; nobody asks for it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tidegate_model::KeyId;

use crate::MAX_NAME;
use crate::keys::Keys;
use crate::outcome::{Change, Outcome};

#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct KeyPlans {
    plans: BTreeMap<KeyId, String>,
}

impl KeyPlans {
    /// The plan a key has of its own, by name. The document says whether there is such a plan.
    #[must_use]
    pub fn of(&self, key: KeyId) -> Option<&str> {
        self.plans.get(&key).map(String::as_str)
    }

    pub(crate) fn set(&mut self, keys: &Keys, key: KeyId, plan: Option<&str>) -> (Outcome, Vec<Change>) {
        if plan.is_some_and(|plan| plan.is_empty() || MAX_NAME < plan.len()) {
            return (Outcome::TooLarge { limit: MAX_NAME as u64 }, Vec::new());
        }
        if keys.by_id(key).is_none_or(|key| key.revoked_at.is_some()) {
            return (Outcome::NotFound, Vec::new());
        }
        match plan {
            Some(plan) => self.plans.insert(key, plan.to_owned()),
            None => self.plans.remove(&key),
        };
        (Outcome::Done, vec![Change::KeyPlan(key)])
    }
}
