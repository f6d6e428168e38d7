//! Who changed what: one record for each command that somebody caused, each with a hash over the one before it and itself.
//!
//! Part of the state, so the same on every node, in snapshots and in backups. Bounded: of the oldest nothing is kept but the
//! hash of the last that was forgotten, so that what is left can still be checked. Holds names and hashes, never a secret.
//! What of a command is told stands in `action`; who checks a chain needs nothing but [`Record::follows`].

mod action;

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};
use tidegate_model::{Millis, NodeId};

use crate::lineage::Ending;
use crate::tokens::Role;
use crate::{Command, Outcome, Proposal};

/// Records that are kept at most.
pub const MOST_RECORDS: usize = 50_000;
/// Their bytes at most, as [`Record::size`] counts them.
pub const MOST_BYTES: usize = 8 << 20;
/// Longest text in a record; what is longer is cut.
pub const MAX_TEXT: usize = 512;

/// Whose doing a proposal is. Travels with it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct By {
    pub actor: Actor,
    /// Where the request came from, without the port; empty when nobody asked from outside.
    pub address: String,
    /// The id of the request at the admin port, as its answer and the log say it; empty when there was none.
    pub request: String,
}

/// Append only.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Actor {
    /// The cluster itself, by one of its nodes.
    Node(NodeId),
    /// An admin token.
    Token { id: u64, name: String, role: Role },
    /// An operator's certificate.
    Certificate { name: String, role: Role },
}

/// One change. Positional: append only.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Record {
    /// Counts from 1, without gaps, over restores too.
    pub seq: u64,
    /// The entry of the control log. A restored cluster counts anew.
    pub index: u64,
    /// The proposer's wall clock.
    pub at: Millis,
    pub by: By,
    /// As `key.revoke`.
    pub action: String,
    /// What it was done to, as `key 3`.
    pub target: String,
    /// More about it, as far as it is no secret.
    pub detail: String,
    /// `done`, or `refused: ` and why.
    pub result: String,
    pub hash: [u8; 32],
}

/// The newest records, oldest first.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Audit {
    records: VecDeque<Record>,
    /// How many were forgotten, and the hash of the last of them; zeros when there was none.
    forgotten: u64,
    before: [u8; 32],
    /// The sum of the records' sizes.
    bytes: u64,
}

impl By {
    /// A node of its own accord.
    #[must_use]
    pub fn node(id: NodeId) -> Self {
        Self { actor: Actor::Node(id), address: String::new(), request: String::new() }
    }
}

impl Actor {
    /// As people filter by it: a name, or `node 2`.
    #[must_use]
    pub fn name(&self) -> String {
        match self {
            Self::Node(id) => format!("node {id}"),
            Self::Token { name, .. } | Self::Certificate { name, .. } => name.clone(),
        }
    }

    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Node(_) => "node",
            Self::Token { .. } => "token",
            Self::Certificate { .. } => "certificate",
        }
    }

    /// Of the node or the token; a certificate has none.
    #[must_use]
    pub fn id(&self) -> Option<u64> {
        match self {
            Self::Node(id) => Some(id.0),
            Self::Token { id, .. } => Some(*id),
            Self::Certificate { .. } => None,
        }
    }

    #[must_use]
    pub fn role(&self) -> Option<Role> {
        match self {
            Self::Node(_) => None,
            Self::Token { role, .. } | Self::Certificate { role, .. } => Some(*role),
        }
    }
}

impl Record {
    /// The hash that this record has after one with the hash `previous`: BLAKE3 over that hash and the record's fields in
    /// their order, numbers as eight bytes, texts with their length in four bytes before them, all of them little-endian.
    /// docs/audit.md says so to whoever checks a chain without us.
    #[must_use]
    pub fn follows(&self, previous: &[u8; 32]) -> [u8; 32] {
        let Self { seq, index, at, by, action, target, detail, result, hash: _ } = self;
        let By { actor, address, request } = by;
        let mut hasher = blake3::Hasher::new();
        hasher.update(previous);
        for number in [*seq, *index, at.0, actor.id().unwrap_or(0)] {
            hasher.update(&number.to_le_bytes());
        }
        let (name, role) = (actor.name(), actor.role().map_or("", Role::as_str));
        for text in [actor.kind(), &name, role, address, request, action, target, detail, result] {
            hasher.update(&u32::try_from(text.len()).unwrap_or(u32::MAX).to_le_bytes());
            hasher.update(text.as_bytes());
        }
        *hasher.finalize().as_bytes()
    }

    /// About what it takes in a snapshot.
    fn size(&self) -> usize {
        let By { actor, address, request } = &self.by;
        let texts = [address, request, &self.action, &self.target, &self.detail, &self.result];
        let own = texts.into_iter().map(String::len).sum::<usize>();
        own + actor.name().len() + 64
    }
}

impl Audit {
    /// Oldest first.
    pub fn records(&self) -> impl DoubleEndedIterator<Item = &Record> + ExactSizeIterator {
        self.records.iter()
    }

    /// Those after the one of this number, oldest first.
    pub fn after(&self, seq: u64) -> impl Iterator<Item = &Record> {
        let skip = usize::try_from(seq.saturating_sub(self.forgotten)).unwrap_or(usize::MAX);
        self.records.range(skip.min(self.records.len())..)
    }

    /// How many were forgotten, and the hash that the oldest that is kept follows.
    #[must_use]
    pub fn before(&self) -> (u64, [u8; 32]) {
        (self.forgotten, self.before)
    }

    /// The hash that a record follows.
    #[must_use]
    pub fn previous(&self, seq: u64) -> Option<[u8; 32]> {
        let place = usize::try_from(seq.checked_sub(self.forgotten + 1)?).ok()?;
        match place.checked_sub(1) {
            None => Some(self.before),
            Some(before) => self.records.get(before).map(|record| record.hash),
        }
    }

    /// Number and hash of the newest record.
    #[must_use]
    pub fn head(&self) -> (u64, [u8; 32]) {
        self.records.back().map_or((self.forgotten, self.before), |newest| (newest.seq, newest.hash))
    }

    /// Nothing was ever recorded.
    #[must_use]
    pub fn is_new(&self) -> bool {
        self.forgotten == 0 && self.records.is_empty()
    }

    /// What came of a proposal; nothing, when nobody caused it or it is not worth a record.
    pub(crate) fn note(&mut self, index: u64, proposal: &Proposal, outcome: &Outcome) {
        let Some(by) = &proposal.by else { return };
        let Some(told) = action::of(&proposal.command, &by.actor, outcome) else { return };
        self.add(index, proposal.at, by, told);
    }

    pub(crate) fn add(&mut self, index: u64, at: Millis, by: &By, told: Told) {
        let (last, previous) = self.head();
        let Told { action, target, detail, result } = told;
        let by = By { actor: cut_name(&by.actor), address: cut(by.address.clone()), request: cut(by.request.clone()) };
        let (target, detail, result) = (cut(target), cut(detail), cut(result));
        let action = action.to_owned();
        let mut record = Record { seq: last + 1, index, at, by, action, target, detail, result, hash: [0; 32] };
        record.hash = record.follows(&previous);
        self.bytes += record.size() as u64;
        self.records.push_back(record);
        while MOST_RECORDS < self.records.len() || MOST_BYTES as u64 <= self.bytes {
            let Some(oldest) = self.records.pop_front() else { return };
            self.bytes = self.bytes.saturating_sub(oldest.size() as u64);
            self.forgotten = oldest.seq;
            self.before = oldest.hash;
        }
    }
}

/// What a record says of a command.
#[derive(Debug)]
pub(crate) struct Told {
    pub(crate) action: &'static str,
    pub(crate) target: String,
    pub(crate) detail: String,
    pub(crate) result: String,
}

/// What is told of a cluster that takes the place of another.
pub(crate) fn anew(how: Ending, old: &str) -> Told {
    action::anew(how, old)
}

/// Would anything be recorded of this, if this one caused it?
#[must_use]
pub fn is_recorded(command: &Command, actor: &Actor) -> bool {
    action::name(command, actor).is_some()
}

fn cut_name(actor: &Actor) -> Actor {
    let mut actor = actor.clone();
    match &mut actor {
        Actor::Node(_) => {}
        Actor::Token { name, .. } | Actor::Certificate { name, .. } => *name = cut(std::mem::take(name)),
    }
    actor
}

fn cut(mut text: String) -> String {
    if MAX_TEXT < text.len() {
        text.truncate(text.floor_char_boundary(MAX_TEXT));
    }
    text
}

#[cfg(test)]
mod tests;
