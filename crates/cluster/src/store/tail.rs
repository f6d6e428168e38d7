//! The part of a group's log that is not purged, as memory holds it, and how it is read from a file's records: each
//! in its place, none missing, none changed. Knows records, not the file they come from.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use super::{Damage, record};
use crate::codec;
use crate::raft::{Entry, LogId, Vote};

#[derive(Default)]
pub(crate) struct Tail {
    pub(crate) entries: BTreeMap<u64, Entry>,
    pub(crate) purged: Option<LogId>,
    pub(crate) vote: Option<Vote>,
    pub(crate) committed: Option<LogId>,
}

impl Tail {
    pub(crate) fn last(&self) -> Option<LogId> {
        self.entries.values().next_back().map(|entry| entry.log_id).or(self.purged)
    }
}

/// The records beside the entries.
#[derive(Default)]
pub(crate) struct Facts {
    pub(crate) vote: Option<Vec<u8>>,
    pub(crate) purged: Option<Vec<u8>>,
    /// The index of the last entry written.
    pub(crate) last: Option<Vec<u8>>,
}

/// Which record is wrong, and how.
#[derive(Debug)]
pub(crate) struct Fault {
    place: String,
    what: String,
}

/// A log that is being read.
pub(crate) struct Reading {
    tail: Tail,
    /// Where the next entry must stand.
    next: u64,
    last: Option<u64>,
}

impl Reading {
    pub(crate) fn begin(facts: &Facts) -> Result<Self, Fault> {
        let vote = value(facts.vote.as_deref(), "vote", codec::decode)?;
        let purged = value(facts.purged.as_deref(), "purged", codec::decode::<LogId>)?;
        let last = value(facts.last.as_deref(), "last", |body| match <[u8; 8]>::try_from(body) {
            Ok(bytes) => Ok(u64::from_le_bytes(bytes)),
            Err(_) => Err("malformed"),
        })?;
        let next = purged.map_or(Some(0), |id| id.index.checked_add(1));
        let next = next.ok_or_else(|| Fault::at("purged", "no log is that long"))?;
        Ok(Self { tail: Tail { vote, purged, ..Tail::default() }, next, last })
    }

    /// The last entry that there should be, by the records' own word or a snapshot's that stands for it.
    pub(crate) fn reaches(&self) -> Option<u64> {
        self.last.max(self.tail.purged.map(|id| id.index))
    }

    /// The next record of the log.
    pub(crate) fn row(&mut self, index: u64, record: &[u8]) -> Result<(), Fault> {
        if index != self.next {
            return Err(self.fault("missing"));
        }
        let entry = record::open(index, record).map_err(|what| Fault::at(index, what))?;
        self.next = index.checked_add(1).ok_or_else(|| Fault::at(index, "no log is that long"))?;
        self.tail.entries.insert(index, entry);
        Ok(())
    }

    pub(crate) fn end(self) -> Result<Tail, Fault> {
        let found = self.tail.last().map_or(0, |id| id.index);
        match self.last {
            Some(last) if found < last => {
                Err(Fault::at(found.saturating_add(1), format!("missing, the log ended at {last}")))
            }
            _ => Ok(self.tail),
        }
    }

    /// Something is wrong where the next record should be.
    pub(crate) fn fault(&self, what: impl fmt::Display) -> Fault {
        Fault::at(self.next, what)
    }
}

fn value<T, E: fmt::Display>(
    record: Option<&[u8]>,
    name: &str,
    read: impl FnOnce(&[u8]) -> Result<T, E>,
) -> Result<Option<T>, Fault> {
    let Some(record) = record else { return Ok(None) };
    let body = record::check(0, record).map_err(|what| Fault::at(name, what))?;
    read(body).map(Some).map_err(|what| Fault::at(name, what))
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.what)
    }
}

impl Fault {
    fn at(record: impl fmt::Display, what: impl fmt::Display) -> Self {
        Self { place: format!("record {record}"), what: what.to_string() }
    }

    pub(crate) fn damage(self, file: &Path) -> Damage {
        Damage::new(file, self.place, self.what)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::raft::LeaderId;

    fn purged(index: u64) -> Facts {
        let id = LogId::new(LeaderId { term: 1, node_id: 1 }, index);
        Facts { purged: Some(record::seal(0, &codec::encode(&id))), ..Facts::default() }
    }

    #[test]
    fn a_log_at_the_end_of_all_numbers_is_damage() {
        let fault = Reading::begin(&purged(u64::MAX)).err().expect("no log is that long");
        assert_eq!(fault.place, "record purged");
        let mut reading = Reading::begin(&purged(u64::MAX - 1)).expect("nothing is wrong yet");
        let last = Entry {
            log_id: LogId::new(LeaderId { term: 1, node_id: 1 }, u64::MAX),
            payload: openraft::EntryPayload::Blank,
        };
        let fault = reading.row(u64::MAX, &record::seal(u64::MAX, &codec::encode(&last)));
        assert_eq!(fault.err().map(|fault| fault.place), Some(format!("record {}", u64::MAX)));
    }

    #[test]
    fn a_gap_is_named_by_what_is_missing() {
        let mut reading = Reading::begin(&purged(6)).expect("a good record");
        assert_eq!(reading.row(8, &[]).err().map(|fault| fault.place), Some("record 7".to_owned()));
    }
}
