//! The cluster's sealed secrets that the served document was compiled with: a new value is used without a new document.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use tidegate_cluster::Cluster;
use tidegate_config::{Document, Need};
use tidegate_model::Millis;

/// By name: which value. `None`: there was none.
#[derive(Debug, Default)]
pub(super) struct Secrets(Mutex<BTreeMap<String, Option<Value>>>);

/// Names come back after a removal, and count from one again.
type Value = (u64, Millis);

impl Secrets {
    /// These are about to be read.
    pub(super) fn reading(&self, cluster: &Cluster, document: &Document) {
        let names = tidegate_config::needs(document).into_iter().filter_map(|need| match need {
            Need::Sealed(name) => Some(name),
            Need::Env(_) | Need::File(_) => None,
        });
        let values = names.map(|name| {
            let value = value(cluster, &name);
            (name, value)
        });
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = values.collect();
    }

    /// Has one of them another value since it was read?
    pub(super) fn have_changed(&self, cluster: &Cluster) -> bool {
        let read = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        read.iter().any(|(name, read)| *read != value(cluster, name))
    }
}

fn value(cluster: &Cluster, name: &str) -> Option<Value> {
    cluster.read(|state| state.later.secrets.by_name(name).map(|secret| (secret.generation, secret.put_at)))
}
