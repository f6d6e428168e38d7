//! Checks a listing of who changed what: record by record, without the cluster that made it. The CLI calls it.

use std::fmt;

use jiff::Timestamp;
use tidegate_model::{Millis, NodeId};
use tidegate_state::audit::{Actor, By, Record};

use crate::wire::{AuditActor, AuditRecord, AuditReply};

/// How far a listing was checked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Chain {
    first: Option<u64>,
    last: Option<(u64, String)>,
    /// A record whose hash is known from elsewhere.
    expected: Option<(u64, String)>,
}

/// The first record that does not fit, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Misfit {
    pub seq: u64,
    pub why: String,
}

impl Chain {
    /// Whoever kept number and hash of a record knows that nothing up to it was written anew since.
    #[must_use]
    pub fn expecting(seq: u64, hash: String) -> Self {
        Self { expected: Some((seq, hash)), ..Self::default() }
    }

    /// A page: the listing's first, or the one after the last that was checked.
    ///
    /// # Errors
    /// The first record that does not fit.
    pub fn page(&mut self, reply: &AuditReply) -> Result<(), Misfit> {
        for record in &reply.records {
            let seq = record.seq;
            self.record(reply, record).map_err(|why| Misfit { seq, why })?;
        }
        if reply.next.is_some() {
            return Ok(());
        }
        let (seq, hash) = self.last.clone().unwrap_or((reply.forgotten, reply.before.clone()));
        if seq != reply.head {
            return Err(Misfit { seq: seq + 1, why: format!("is missing: the newest is {}", reply.head) });
        }
        if hash != reply.head_hash {
            return Err(Misfit { seq, why: "does not have the hash that the listing says is the newest".to_owned() });
        }
        match &self.expected {
            Some((expected, _)) if self.first.is_none_or(|first| *expected < first) || seq < *expected => {
                Err(Misfit { seq: *expected, why: "was expected and is not in the listing".to_owned() })
            }
            _ => Ok(()),
        }
    }

    /// Numbers of the first and the last record, and the hash of that.
    #[must_use]
    pub fn checked(&self) -> Option<(u64, u64, &str)> {
        let (last, hash) = self.last.as_ref()?;
        Some((self.first?, *last, hash))
    }

    fn record(&mut self, reply: &AuditReply, told: &AuditRecord) -> Result<(), String> {
        let previous = match &self.last {
            Some((last, hash)) if told.seq == last + 1 => hash,
            Some((last, _)) => return Err(format!("comes after {last}: something is missing or was moved")),
            None if told.seq == reply.forgotten + 1 => &reply.before,
            None => &told.previous,
        };
        if *previous != told.previous {
            return Err("does not follow the record before it".to_owned());
        }
        let unread = || "holds something that no node writes".to_owned();
        let record = record(told).ok_or_else(unread)?;
        let previous = hash(&told.previous).ok_or_else(unread)?;
        if blake3::Hash::from(record.follows(&previous)).to_hex().as_str() != told.hash {
            return Err("was changed: its hash is another one".to_owned());
        }
        if self.expected.as_ref().is_some_and(|(seq, hash)| *seq == told.seq && *hash != told.hash) {
            return Err("does not have the hash that was expected".to_owned());
        }
        self.first.get_or_insert(told.seq);
        self.last = Some((told.seq, told.hash.clone()));
        Ok(())
    }
}

/// As the state has it; `None` unless it is told in the very form that nodes tell it in.
fn record(told: &AuditRecord) -> Option<Record> {
    let at: Timestamp = told.at.parse().ok()?;
    let at = Millis(u64::try_from(at.as_millisecond()).ok()?);
    if crate::routes::moment(at) != told.at {
        return None;
    }
    let AuditActor { kind, id, name, role } = told.actor.clone();
    let actor = match (kind.as_str(), id, role) {
        ("node", Some(id), None) if name == format!("node {id}") => Actor::Node(NodeId(id)),
        ("token", Some(id), Some(role)) => Actor::Token { id, name, role: role.into() },
        ("certificate", None, Some(role)) => Actor::Certificate { name, role: role.into() },
        _ => return None,
    };
    Some(Record {
        seq: told.seq,
        index: told.index,
        at,
        by: By { actor, address: told.address.clone(), request: told.request.clone() },
        action: told.action.clone(),
        target: told.target.clone(),
        detail: told.detail.clone(),
        result: told.result.clone(),
        hash: hash(&told.hash)?,
    })
}

fn hash(hex: &str) -> Option<[u8; 32]> {
    let hash = blake3::Hash::from_hex(hex).ok()?;
    (hash.to_hex().as_str() == hex).then_some(*hash.as_bytes())
}

impl fmt::Display for Misfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "record {} {}", self.seq, self.why)
    }
}
