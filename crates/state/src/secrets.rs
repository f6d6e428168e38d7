//! Secrets of the operator's own, sealed with the cluster's key before they come here. A document names them
//! (`secrets[].from: sealed`); what a new value is used for follows the state, without a new document.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};
use tidegate_model::Millis;

use crate::MAX_NAME;
use crate::outcome::{Change, Outcome};

/// Of a value when it is sealed, in bytes.
const LONGEST: usize = 16 << 10;
const MOST: usize = 1_000;

/// The newest value of each, by name.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Secrets(BTreeMap<String, Secret>);

#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Secret {
    /// How many values it has had.
    pub generation: u64,
    pub sealed: Vec<u8>,
    /// When this value was put here, and by whom.
    pub put_at: Millis,
    pub author: String,
}

#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Put {
    pub name: String,
    pub sealed: Vec<u8>,
    pub author: String,
    pub how: How,
}

/// Whoever means a new one shall not replace one by accident, and a misspelt name shall not make one. Append only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum How {
    New,
    Again,
}

impl Secrets {
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    #[must_use]
    pub fn by_name(&self, name: &str) -> Option<&Secret> {
        self.0.get(name)
    }

    pub fn iter(&self) -> impl Iterator<Item = (&str, &Secret)> {
        self.0.iter().map(|(name, secret)| (name.as_str(), secret))
    }

    /// The name under which a value is sealed: one cannot stand for another.
    #[must_use]
    pub fn sealing(name: &str) -> String {
        format!("secret/{name}")
    }

    pub(crate) fn put(&mut self, put: &Put, at: Millis) -> (Outcome, Vec<Change>) {
        let Put { name, sealed, author, how } = put;
        if name.is_empty() || MAX_NAME < name.len() || MAX_NAME < author.len() {
            return (Outcome::TooLarge { limit: MAX_NAME as u64 }, Vec::new());
        }
        if LONGEST < sealed.len() {
            return (Outcome::TooLarge { limit: LONGEST as u64 }, Vec::new());
        }
        let refused = match (self.0.get(name), how) {
            (Some(_), How::New) => Some(Outcome::Duplicate),
            (None, How::Again) => Some(Outcome::NotFound),
            (None, How::New) => (MOST <= self.0.len()).then_some(Outcome::Full),
            (Some(_), How::Again) => None,
        };
        if let Some(refused) = refused {
            return (refused, Vec::new());
        }
        let generation = self.0.get(name).map_or(1, |before| before.generation.saturating_add(1));
        let secret = Secret { generation, sealed: sealed.clone(), put_at: at, author: author.clone() };
        self.0.insert(name.clone(), secret);
        (Outcome::Done, vec![Change::Secret(name.clone())])
    }

    /// The same value: its generation stays.
    pub(crate) fn reseal(&mut self, name: &str, sealed: Vec<u8>) {
        if let Some(secret) = self.0.get_mut(name) {
            secret.sealed = sealed;
        }
    }

    pub(crate) fn remove(&mut self, name: &str) -> (Outcome, Vec<Change>) {
        match self.0.remove(name) {
            Some(_) => (Outcome::Done, vec![Change::Secret(name.to_owned())]),
            None => (Outcome::NotFound, Vec::new()),
        }
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Secret").field("generation", &self.generation).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(secrets: &mut Secrets, name: &str, how: How) -> Outcome {
        let put = Put { name: name.into(), sealed: b"sealed".to_vec(), author: "ann".into(), how };
        secrets.put(&put, Millis(7)).0
    }

    #[test]
    fn what_is_new_replaces_nothing_and_what_is_put_again_was_there() {
        let mut secrets = Secrets::default();
        assert_eq!(put(&mut secrets, "a", How::Again), Outcome::NotFound);
        assert_eq!(put(&mut secrets, "a", How::New), Outcome::Done);
        assert_eq!(put(&mut secrets, "a", How::New), Outcome::Duplicate);
        assert_eq!(put(&mut secrets, "a", How::Again), Outcome::Done);
        let kept = secrets.by_name("a").unwrap();
        assert_eq!((kept.generation, kept.put_at, kept.author.as_str()), (2, Millis(7), "ann"));
        assert!(!format!("{secrets:?}").contains("115, 101"), "bytes are shown");
        assert_eq!(secrets.remove("a").0, Outcome::Done);
        assert_eq!(secrets.remove("a").0, Outcome::NotFound);
    }

    #[test]
    fn number_and_size_are_bounded() {
        let mut secrets = Secrets::default();
        for n in 0..MOST {
            assert_eq!(put(&mut secrets, &format!("s{n}"), How::New), Outcome::Done);
        }
        assert_eq!(put(&mut secrets, "more", How::New), Outcome::Full);
        assert_eq!(put(&mut secrets, "s1", How::Again), Outcome::Done);
        let long = Put { name: "s1".into(), sealed: vec![0; LONGEST + 1], author: String::new(), how: How::Again };
        assert_eq!(secrets.put(&long, Millis(1)).0, Outcome::TooLarge { limit: LONGEST as u64 });
        assert_eq!(put(&mut secrets, &"n".repeat(MAX_NAME + 1), How::New), Outcome::TooLarge { limit: 256 });
    }
}
