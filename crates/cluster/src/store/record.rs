//! A checked record: eight bytes of blake3 over its place and body, then the body.
//!
//! The place is part of the sum, so that a record that was moved is as wrong as one that was changed.

use crate::codec;
use crate::raft::Entry;

const SUM: usize = 8;

pub(crate) fn seal(place: u64, body: &[u8]) -> Vec<u8> {
    let mut record = Vec::with_capacity(SUM + body.len());
    record.extend_from_slice(&sum(place, body));
    record.extend_from_slice(body);
    record
}

/// The body, or what is wrong with the record.
pub(crate) fn check(place: u64, record: &[u8]) -> Result<&[u8], String> {
    let Some((found, body)) = record.split_first_chunk::<SUM>() else {
        return Err(format!("record of {} bytes is too short", record.len()));
    };
    if *found == sum(place, body) { Ok(body) } else { Err("checksum does not match".into()) }
}

/// The log entry in a record.
pub(crate) fn open(index: u64, record: &[u8]) -> Result<Entry, String> {
    let body = check(index, record)?;
    let entry: Entry = codec::decode(body).map_err(|error| error.to_string())?;
    if entry.log_id.index == index { Ok(entry) } else { Err(format!("holds entry {}", entry.log_id.index)) }
}

fn sum(place: u64, body: &[u8]) -> [u8; SUM] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&place.to_le_bytes()).update(body);
    let mut sum = [0; SUM];
    sum.copy_from_slice(&hasher.finalize().as_bytes()[..SUM]);
    sum
}
