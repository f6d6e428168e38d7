//! The decision log: one record per permit, and the judge who reads them.
//!
//! Exactness is judged from decisions, not from clients' clocks: every permit is stamped with the boot clock at the instant
//! it was taken and written to a file that survives the process. Files of all nodes of one machine share one boot clock,
//! so merging them and testing *every* window is exact.
//!
//! ```text
//!  file    = header (64 bytes) record*           little endian, records of 64 bytes
//!  header  = "TIDEDEC1" node:u64 incarnation:u128 zero*
//!  record  = check:u64 stamp:u64 limit:u64 subject:u128 cost:u56 kind:u8 request:u128
//!  permit (kind 1) · policy (kind 2: subject = max | window << 64) · name (kind 3: UTF-8 in subject and request)
//!  dated (kind 4: a permit, request = the mark's upper 96 bits | window) · begin, end (kinds 5, 6: of permits in use)
//!  settled (kind 7: cost = used, request = reserved) · rule (kind 8: subject = max | per << 64, request = kind | rate << 64)
//! ```
//! Kinds from 16 on are orders of operators: a subject's maximum (16), extra permits (17), a reset (18), a rate of its own (19).
//! `check` is written last. A record without a right one among the last of a file was cut off by a crash; anywhere
//! else the file was damaged since, and the verdict says that evidence is missing.

mod bucket;
mod course;
mod dated;
#[doc(hidden)]
pub mod fuzz;
mod judge;
mod orders;
mod others;
mod places;
mod record;

use std::collections::{BTreeMap, HashSet};

use tidegate_model::{Incarnation, LimitId, Nanos, NodeId, Permits};

pub use self::judge::Finding;
pub use self::record::{Record, RequestMark, Rule, short_name};
use crate::protocol::Key;

pub const MAGIC: [u8; 8] = *b"TIDEDEC1";
pub const RECORD_BYTES: usize = 64;
/// How long a file is from its first moment on.
pub const SEGMENT_BYTES: usize = 16 << 20;
/// A policy as a node learnt of it: when, its maximum, its window.
type Learnt = (Nanos, Permits, Nanos);

#[must_use]
pub fn header(node: NodeId, incarnation: Incarnation) -> [u8; RECORD_BYTES] {
    let mut bytes = [0; RECORD_BYTES];
    bytes[..8].copy_from_slice(&MAGIC);
    bytes[8..16].copy_from_slice(&node.0.to_le_bytes());
    bytes[16..32].copy_from_slice(&incarnation.0.to_le_bytes());
    bytes
}

fn is_blank(bytes: &[u8; RECORD_BYTES]) -> bool {
    bytes.iter().all(|byte| *byte == 0)
}

/// All records of all nodes' files, merged.
#[derive(Debug, Clone, Default)]
pub struct Evidence {
    permits: BTreeMap<Key, Vec<(Nanos, Permits)>>,
    policies: BTreeMap<LimitId, Vec<Learnt>>,
    others: others::Others,
    names: BTreeMap<LimitId, String>,
    requests: HashSet<RequestMark>,
    orders: orders::Told,
    torn: u64,
}

/// Of a whole file, the header apart.
pub const SEGMENT_RECORDS: usize = SEGMENT_BYTES / RECORD_BYTES - 1;

/// Records that threads may have begun and not finished when their process was killed.
const UNFINISHED: usize = 1_024;

/// What was found in one file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileFacts {
    pub node: NodeId,
    pub incarnation: Incarnation,
    /// Room that was used, in records: up to the last one that is not blank.
    pub used: usize,
    /// Blank or unreadable records further from the end than a crash explains.
    pub damaged: u64,
}

/// A file that is no decision log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotALog(pub &'static str);

impl Evidence {
    /// Reads one file.
    ///
    /// # Errors
    /// [`NotALog`] if it does not begin as one.
    pub fn read(&mut self, file: &[u8]) -> Result<FileFacts, NotALog> {
        if file.len() < RECORD_BYTES {
            return Err(NotALog("shorter than a header of 64 bytes"));
        }
        if file[..8] != MAGIC {
            return Err(NotALog("does not begin with TIDEDEC1"));
        }
        let (records, rest) = file[RECORD_BYTES..].as_chunks::<RECORD_BYTES>();
        self.torn += u64::from(rest.iter().any(|byte| *byte != 0));
        let used = records.iter().rposition(|bytes| !is_blank(bytes)).map_or(0, |last| last + 1);
        let mut damaged = 0;
        let incarnation = Incarnation(u128::from_le_bytes(file[16..32].try_into().expect("sixteen bytes")));
        self.others.of = incarnation;
        for (at, bytes) in records[..used].iter().enumerate() {
            match Record::decode(bytes) {
                Some(record) => self.add(record),
                None if at + UNFINISHED < used => damaged += 1,
                None => self.torn += 1,
            }
        }
        let node = NodeId(u64::from_le_bytes(file[8..16].try_into().expect("eight bytes")));
        Ok(FileFacts { node, incarnation, used, damaged })
    }

    pub fn add(&mut self, record: Record) {
        self.others.see(&record);
        self.orders.see(&record);
        match record {
            Record::Dated { request, .. } | Record::Begin { request, .. } => {
                self.requests.insert(request.short());
            }
            Record::End { .. } | Record::Settled { .. } | Record::Rule { .. } => {}
            Record::Permit { at, key, cost, request } => {
                self.permits.entry(key).or_default().push((at, cost));
                self.requests.insert(request.short());
            }
            Record::Policy { at, limit, max, window } => {
                self.policies.entry(limit).or_default().push((at, max, window));
            }
            Record::Name { limit, name, .. } => {
                let text = String::from_utf8_lossy(&name);
                self.names.insert(limit, text.trim_end_matches('\0').to_owned());
            }
            Record::Ordered { .. } | Record::Rated { .. } | Record::Extra { .. } | Record::Reset { .. } => {}
        }
    }

    /// Records that were cut off by a crash.
    #[must_use]
    pub fn torn(&self) -> u64 {
        self.torn
    }

    #[must_use]
    pub fn permits(&self) -> usize {
        self.permits.values().map(Vec::len).sum::<usize>() + self.others.permits()
    }

    /// Was a permit logged for this request?
    #[must_use]
    pub fn knows(&self, request: RequestMark) -> bool {
        self.requests.contains(&request.short())
    }
}

#[cfg(test)]
mod tests {
    use tidegate_model::Subject;

    use super::*;

    const KEY: Key = Key { limit: LimitId(3), subject: Subject(1) };

    fn evidence(max: u64, stamps: &[u64]) -> Evidence {
        let mut evidence = Evidence::default();
        evidence.add(Record::Policy { at: Nanos(0), limit: KEY.limit, max: Permits(max), window: Nanos(100) });
        for stamp in stamps {
            let request = RequestMark::of(&stamp.to_le_bytes());
            evidence.add(Record::Permit { at: Nanos(*stamp), key: KEY, cost: Permits(1), request });
        }
        evidence
    }

    #[test]
    fn a_window_is_open_at_its_start_and_closed_at_its_end() {
        assert_eq!(evidence(2, &[0, 1, 100]).judge()[0].worst, Permits(2));
        assert_eq!(evidence(2, &[1, 50, 100]).judge()[0].worst, Permits(3));
    }

    #[test]
    fn one_permit_too_many_is_found_wherever_it_hides() {
        let mut stamps: Vec<u64> = (0..1_000).map(|i| i * 50).collect();
        assert!(evidence(2, &stamps).judge()[0].worst_ratio <= 1.0);
        stamps.push(31_425);
        let finding = &evidence(2, &stamps).judge()[0];
        assert_eq!((finding.worst, finding.worst_ratio), (Permits(3), 1.5));
    }

    #[test]
    fn files_are_read_whole_and_what_a_crash_tore_is_counted() {
        let permit = Record::Permit { at: Nanos(5), key: KEY, cost: Permits(2), request: RequestMark::of(b"r1") };
        let mut file = header(NodeId(1), Incarnation(2)).to_vec();
        file.extend(permit.encode());
        let mut torn = permit.encode();
        torn[30] ^= 1;
        file.extend(torn);
        file.extend([0; 640]); // never written
        let mut evidence = Evidence::default();
        evidence.read(&file).expect("a log");
        assert_eq!((evidence.permits(), evidence.torn()), (1, 1));
        assert!(evidence.knows(RequestMark::of(b"r1")) && !evidence.knows(RequestMark::of(b"r2")));
        assert!(evidence.read(b"short").is_err());
        assert!(evidence.read(&[7; 128]).is_err());
    }

    #[test]
    fn what_no_crash_explains_is_damage() {
        let permit = Record::Permit { at: Nanos(5), key: KEY, cost: Permits(2), request: RequestMark::of(b"r1") };
        let mut file = header(NodeId(1), Incarnation(2)).to_vec();
        file.extend(std::iter::repeat_n(permit.encode(), 3 * UNFINISHED).flatten());
        let whole = FileFacts { node: NodeId(1), incarnation: Incarnation(2), used: 3 * UNFINISHED, damaged: 0 };
        assert_eq!(Evidence::default().read(&file), Ok(whole));
        file[RECORD_BYTES * 10 + 3] ^= 1; // a flipped bit
        file[RECORD_BYTES * 20..RECORD_BYTES * 84].fill(0); // a page of nothing
        assert_eq!(Evidence::default().read(&file), Ok(FileFacts { damaged: 65, ..whole }));
        file.truncate(file.len() - RECORD_BYTES);
        file.extend([0; 4 * RECORD_BYTES]);
        let facts = Evidence::default().read(&file).expect("a log");
        assert_eq!((facts.used, facts.damaged), (3 * UNFINISHED - 1, 65));
    }
}
