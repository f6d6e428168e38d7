//! Secrets of the cluster, sealed with its key before they come here.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::MAX_NAME;
use crate::outcome::{Change, Outcome};

const MAX_SECRET: usize = 1 << 20;
const MAX_SECRETS: usize = 10_000;

#[derive(Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Sealed(BTreeMap<String, Vec<u8>>);

impl Sealed {
    /// The sealed bytes: whoever holds the cluster key can open them.
    #[must_use]
    pub fn bytes(&self, name: &str) -> Option<&[u8]> {
        self.0.get(name).map(Vec::as_slice)
    }

    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    pub(crate) fn put(&mut self, name: &str, bytes: &[u8]) -> (Outcome, Vec<Change>) {
        if MAX_SECRET < bytes.len() || MAX_NAME < name.len() {
            return (Outcome::TooLarge { limit: MAX_SECRET as u64 }, Vec::new());
        }
        if MAX_SECRETS <= self.0.len() && !self.0.contains_key(name) {
            return (Outcome::Full, Vec::new());
        }
        self.0.insert(name.to_owned(), bytes.to_vec());
        (Outcome::Done, vec![Change::Sealed(name.to_owned())])
    }

    pub(crate) fn reseal(&mut self, name: &str, bytes: Vec<u8>) {
        self.0.insert(name.to_owned(), bytes);
    }

    pub(crate) fn remove(&mut self, name: &str) -> (Outcome, Vec<Change>) {
        match self.0.remove(name) {
            Some(_) => (Outcome::Done, vec![Change::Sealed(name.to_owned())]),
            None => (Outcome::NotFound, Vec::new()),
        }
    }
}

impl fmt::Debug for Sealed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}
