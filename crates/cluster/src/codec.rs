//! The one place that turns our types into bytes and back: frames between nodes, records and files on disk.
//!
//! ```text
//! +---------+----------------------------+
//! | version | bincode (standard, varint) |
//! +---------+----------------------------+
//! ```
//! Bincode is positional: append fields and variants, never reorder. What one release writes, the one before and the
//! one after must read; `tests/golden` holds the proof. Nothing here panics, whatever the bytes.

use std::fmt;

use serde::Serialize;
use serde::de::DeserializeOwned;

/// The first byte of every frame, record and file.
pub const VERSION: u8 = 1;
/// Longest frame between nodes, snapshots apart: a document of 16 MiB and its envelope, twice.
pub const MAX_FRAME: usize = 34 << 20;
/// Longest snapshot.
pub const MAX_SNAPSHOT: usize = 2 << 30;

/// A text claims its length in memory before it is read, and a number up to 16 bytes for the one it takes. So what is
/// short may claim 16 times its length and not what the longest may: a lying length gets no memory.
const SHORT: usize = 64 << 10;
const SHORT_CLAIMS: usize = 16 * SHORT;
const MEDIUM: usize = 16 << 20;
const MEDIUM_CLAIMS: usize = 16 * MEDIUM;

/// Why bytes are not what they should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Error {
    Empty,
    /// Written by a release this one does not know.
    Version(u8),
    Malformed(String),
    /// Bytes were left over.
    Trailing(usize),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("no bytes"),
            Self::Version(version) => {
                write!(f, "format version {version}, this release reads version {VERSION}")
            }
            Self::Malformed(what) => write!(f, "malformed: {what}"),
            Self::Trailing(count) => write!(f, "{count} bytes too many"),
        }
    }
}

impl std::error::Error for Error {}

impl From<Error> for std::io::Error {
    fn from(error: Error) -> Self {
        Self::new(std::io::ErrorKind::InvalidData, error)
    }
}

/// The bytes of a value.
#[must_use]
pub fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    let mut bytes = vec![VERSION];
    bincode::serde::encode_into_std_write(value, &mut bytes, bincode::config::standard())
        .expect("our types hold nothing that cannot be written, and a Vec takes all bytes");
    bytes
}

/// Reads a frame or a record: no length inside may claim more than [`MAX_FRAME`].
///
/// # Errors
/// When the bytes are not exactly one value of this type.
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Error> {
    let (body, limit) = (body(bytes)?, bincode::config::standard());
    if body.len() <= SHORT {
        return read(body, limit.with_limit::<SHORT_CLAIMS>());
    }
    read(body, limit.with_limit::<MAX_FRAME>())
}

/// Reads a snapshot: the same with the limit [`MAX_SNAPSHOT`].
///
/// # Errors
/// When the bytes are not exactly one value of this type.
pub fn decode_snapshot<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Error> {
    let (body, limit) = (body(bytes)?, bincode::config::standard());
    if body.len() <= SHORT {
        return read(body, limit.with_limit::<SHORT_CLAIMS>());
    }
    if body.len() <= MEDIUM {
        return read(body, limit.with_limit::<MEDIUM_CLAIMS>());
    }
    read(body, limit.with_limit::<MAX_SNAPSHOT>())
}

/// Reads what a peer sent, for the fuzzer: the outcome does not matter, coming back does.
///
/// # Errors
/// When the bytes are no frame.
pub fn decode_frame(bytes: &[u8]) -> Result<(), Error> {
    decode::<crate::wire::Request>(bytes).map(|_| ())
}

/// Reads what the log file holds, for the fuzzer.
///
/// # Errors
/// When the bytes are no record.
pub fn decode_record(bytes: &[u8]) -> Result<(), Error> {
    crate::store::record::open(0, bytes).map_err(Error::Malformed)?;
    Ok(())
}

fn body(bytes: &[u8]) -> Result<&[u8], Error> {
    let (version, body) = bytes.split_first().ok_or(Error::Empty)?;
    if *version == VERSION { Ok(body) } else { Err(Error::Version(*version)) }
}

fn read<T: DeserializeOwned, C: bincode::config::Config>(body: &[u8], config: C) -> Result<T, Error> {
    let (value, used) =
        bincode::serde::decode_from_slice(body, config).map_err(|error| Error::Malformed(error.to_string()))?;
    if used != body.len() {
        return Err(Error::Trailing(body.len() - used));
    }
    Ok(value)
}
