//! Who may call: the consumers of a document, found by tenant and name in constant time.

use std::collections::HashMap;
use std::ops::Deref;
use std::sync::Arc;

use foldhash::fast::RandomState;

use crate::attached::ConsumerLimits;
use crate::overload::Class;

/// An application or a person. `name` is unique in its tenant; keys refer to it by (tenant, name).
#[derive(Debug)]
pub struct Consumer {
    pub name: String,
    pub tenant: String,
    pub team: Option<String>,
    pub plan: Option<String>,
    pub limits: ConsumerLimits,
    /// The language models it may use, by their names in the document; `None`: all.
    pub models: Option<Vec<Arc<str>>>,
    /// Regions or tags of deployments, one of which a call must stay in; `None`: anywhere.
    pub residency: Option<Vec<Box<str>>>,
    /// Its own.
    pub class: Option<Class>,
}

/// Tenant, then name. Looked into by every call with a key; what is in it comes from documents, and not from clients.
type Index = HashMap<String, HashMap<String, usize, RandomState>, RandomState>;

/// A list of consumers with its index; reads like the list.
#[derive(Debug, Default)]
pub struct Consumers {
    list: Vec<Arc<Consumer>>,
    index: Index,
}

impl Consumers {
    #[must_use]
    pub fn find(&self, tenant: &str, name: &str) -> Option<&Arc<Consumer>> {
        self.position(tenant, name).map(|at| &self.list[at])
    }

    /// Its place in the list.
    #[must_use]
    pub fn position(&self, tenant: &str, name: &str) -> Option<usize> {
        self.index.get(tenant)?.get(name).copied()
    }
}

impl From<Vec<Arc<Consumer>>> for Consumers {
    fn from(list: Vec<Arc<Consumer>>) -> Self {
        let mut index = Index::default();
        for (at, consumer) in list.iter().enumerate() {
            index.entry(consumer.tenant.clone()).or_default().entry(consumer.name.clone()).or_insert(at);
        }
        Self { list, index }
    }
}

impl Deref for Consumers {
    type Target = [Arc<Consumer>];

    fn deref(&self) -> &[Arc<Consumer>] {
        &self.list
    }
}
