//! Certificates that all nodes serve, their keys sealed before they come here; and how far those are that an authority is asked
//! for (ACME, RFC 8555). What an order holds that is secret, or that only its driver understands, is sealed bytes as well.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tidegate_model::{Millis, Revision};

use crate::MAX_NAME;
use crate::outcome::{Change, Outcome};

/// Of a chain, of a sealed key, and of what is sealed of an order.
const MAX_PART: usize = 256 << 10;
const MAX_CERTIFICATES: usize = 10_000;
const MAX_ACCOUNTS: usize = 64;
const MAX_WORDS: usize = 2_048;

#[derive(Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Certificates {
    stored: BTreeMap<String, Arc<Stored>>,
    orders: BTreeMap<String, Arc<Order>>,
    /// By directory, sealed: the account's key, and what the authority calls it.
    accounts: BTreeMap<String, Account>,
    /// Of all changes: the version of whatever is put next.
    changes: u64,
}

/// A certificate and its key.
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Stored {
    /// PEM, the server's certificate first. Public.
    pub chain: String,
    /// PEM, sealed under [`key_name`].
    pub sealed_key: Vec<u8>,
    pub source: Source,
    pub stored_at: Millis,
    pub version: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Source {
    /// By an operator.
    Imported,
    /// From an authority that the document names.
    Acme,
}

/// How far a certificate is that an authority is asked for.
#[derive(Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Order {
    /// Whoever goes on names the version it knows, so that of two who believe to lead only one does.
    pub version: u64,
    /// What is in flight, sealed under [`order_name`]; empty: nothing is.
    pub sealed: Vec<u8>,
    /// Attempts in a row that came to nothing.
    pub failures: u32,
    /// Why the last one did; empty: it did not.
    pub error: String,
    /// When it is to be taken up again: after a failure, or to renew.
    pub next_at: Millis,
}

#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
struct Account {
    version: u64,
    sealed: Vec<u8>,
}

/// The next step of an order.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// Name of the certificate.
    pub name: String,
    /// The version that it goes on from; 0: there is none yet.
    pub replaces: u64,
    pub sealed: Vec<u8>,
    pub failures: u32,
    pub error: String,
    pub next_at: Millis,
    /// The authority has issued it: it is served from now on.
    pub issued: Option<Issued>,
}

#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Issued {
    pub chain: String,
    pub sealed_key: Vec<u8>,
}

/// The name under which a certificate's private key is sealed.
#[must_use]
pub fn key_name(name: &str) -> String {
    format!("certificate/{name}")
}

/// The name under which an order in flight is sealed.
#[must_use]
pub fn order_name(name: &str) -> String {
    format!("acme-order/{name}")
}

/// The name under which the account at a directory is sealed.
#[must_use]
pub fn account_name(directory: &str) -> String {
    format!("acme-account/{directory}")
}

impl Certificates {
    pub fn stored(&self) -> impl Iterator<Item = (&str, &Arc<Stored>)> {
        self.stored.iter().map(|(name, stored)| (name.as_str(), stored))
    }

    #[must_use]
    pub fn by_name(&self, name: &str) -> Option<&Arc<Stored>> {
        self.stored.get(name)
    }

    pub fn orders(&self) -> impl Iterator<Item = (&str, &Arc<Order>)> {
        self.orders.iter().map(|(name, order)| (name.as_str(), order))
    }

    #[must_use]
    pub fn order(&self, name: &str) -> Option<&Arc<Order>> {
        self.orders.get(name)
    }

    /// The sealed account at this directory, and its version.
    #[must_use]
    pub fn account(&self, directory: &str) -> Option<(&[u8], u64)> {
        self.accounts.get(directory).map(|account| (account.sealed.as_slice(), account.version))
    }

    /// Directories of authorities.
    pub fn accounts(&self) -> impl Iterator<Item = &str> {
        self.accounts.keys().map(String::as_str)
    }

    /// The same key: its version stays.
    pub(crate) fn reseal_key(&mut self, name: &str, sealed: Vec<u8>) {
        if let Some(stored) = self.stored.get_mut(name) {
            Arc::make_mut(stored).sealed_key = sealed;
        }
    }

    pub(crate) fn reseal_order(&mut self, name: &str, sealed: Vec<u8>) {
        if let Some(order) = self.orders.get_mut(name) {
            Arc::make_mut(order).sealed = sealed;
        }
    }

    pub(crate) fn reseal_account(&mut self, directory: &str, sealed: Vec<u8>) {
        if let Some(account) = self.accounts.get_mut(directory) {
            account.sealed = sealed;
        }
    }

    pub(crate) fn import(&mut self, name: &str, issued: &Issued, at: Millis) -> (Outcome, Vec<Change>) {
        if let Err(refused) = self.has_room(name, issued) {
            return (refused, Vec::new());
        }
        self.store(name, issued, Source::Imported, at);
        (Outcome::Done, vec![Change::Certificates])
    }

    pub(crate) fn remove(&mut self, name: &str) -> (Outcome, Vec<Change>) {
        let (stored, order) = (self.stored.remove(name), self.orders.remove(name));
        if stored.is_none() && order.is_none() {
            return (Outcome::NotFound, Vec::new());
        }
        self.changes = self.changes.saturating_add(1);
        (Outcome::Done, vec![Change::Certificates])
    }

    pub(crate) fn step(&mut self, step: &Step, at: Millis) -> (Outcome, Vec<Change>) {
        let Step { name, replaces, sealed, failures, error, next_at, issued } = step;
        let current = self.orders.get(name).map_or(0, |order| order.version);
        if current != *replaces {
            return (Outcome::Conflict { current: Revision(current) }, Vec::new());
        }
        if MAX_PART < sealed.len() || MAX_NAME < name.len() || MAX_WORDS < error.len() {
            return (Outcome::TooLarge { limit: MAX_PART as u64 }, Vec::new());
        }
        if MAX_CERTIFICATES <= self.orders.len() && current == 0 {
            return (Outcome::Full, Vec::new());
        }
        if let Some(issued) = issued {
            if let Err(refused) = self.has_room(name, issued) {
                return (refused, Vec::new());
            }
            self.store(name, issued, Source::Acme, at);
        }
        self.changes = self.changes.saturating_add(1);
        let (sealed, error) = (sealed.clone(), error.clone());
        let order = Order { version: self.changes, sealed, failures: *failures, error, next_at: *next_at };
        self.orders.insert(name.clone(), Arc::new(order));
        (Outcome::Stepped { version: self.changes }, vec![Change::Certificates])
    }

    pub(crate) fn keep_account(&mut self, directory: &str, replaces: u64, sealed: &[u8]) -> (Outcome, Vec<Change>) {
        let current = self.accounts.get(directory).map_or(0, |account| account.version);
        if current != replaces {
            return (Outcome::Conflict { current: Revision(current) }, Vec::new());
        }
        if MAX_PART < sealed.len() || MAX_WORDS < directory.len() {
            return (Outcome::TooLarge { limit: MAX_PART as u64 }, Vec::new());
        }
        if MAX_ACCOUNTS <= self.accounts.len() && current == 0 {
            return (Outcome::Full, Vec::new());
        }
        self.changes = self.changes.saturating_add(1);
        let account = Account { version: self.changes, sealed: sealed.to_vec() };
        self.accounts.insert(directory.to_owned(), account);
        (Outcome::Stepped { version: self.changes }, Vec::new())
    }

    fn has_room(&self, name: &str, issued: &Issued) -> Result<(), Outcome> {
        if MAX_PART < issued.chain.len()
            || MAX_PART < issued.sealed_key.len()
            || name.is_empty()
            || MAX_NAME < name.len()
        {
            return Err(Outcome::TooLarge { limit: MAX_PART as u64 });
        }
        if MAX_CERTIFICATES <= self.stored.len() && !self.stored.contains_key(name) {
            return Err(Outcome::Full);
        }
        Ok(())
    }

    fn store(&mut self, name: &str, issued: &Issued, source: Source, at: Millis) {
        self.changes = self.changes.saturating_add(1);
        let Issued { chain, sealed_key } = issued.clone();
        let stored = Stored { chain, sealed_key, source, stored_at: at, version: self.changes };
        self.stored.insert(name.to_owned(), Arc::new(stored));
    }
}

impl fmt::Debug for Certificates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { stored, orders, accounts, changes: _ } = self;
        f.debug_struct("Certificates")
            .field("stored", &stored.keys())
            .field("orders", &orders.keys())
            .field("accounts", &accounts.keys())
            .finish()
    }
}

impl fmt::Debug for Stored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Stored({:?}, version {})", self.source, self.version)
    }
}

impl fmt::Debug for Order {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Order(version {}, {} failures)", self.version, self.failures)
    }
}
