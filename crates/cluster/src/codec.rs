//! The one place that turns our types into bytes and back: frames between nodes, records and files on disk.
//!
//! ```text
//! +---+------------------------------------------------+
//! | 1 | bincode (standard, varint)                     |
//! +---+------------------------------------------------+
//! | 2 | the same, compressed (`packed`)                |
//! +---+------------------------------------------------+
//! ```
//! Bincode is positional: append fields and variants, never reorder. What one release writes, the one before and the
//! one after must read; `tests/golden` holds the proof. So every release reads the version after the one that all of its
//! cluster read, and writes it only when all do: version 2 is written to the control log and into its snapshots, from the
//! feature level on that brought it (`Feature::Packed`), and read nowhere else: whatever a stranger sends is not unpacked.
//! Nothing here panics, whatever the bytes.

mod packed;

use std::borrow::Cow;
use std::fmt;
use std::sync::atomic::{AtomicU8, Ordering};

use serde::Serialize;
use serde::de::DeserializeOwned;

/// The first byte of every frame, record and file that is not compressed.
pub const VERSION: u8 = 1;
/// The newest that this release reads.
pub const NEWEST: u8 = packed::PACKED;
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
    /// Written by a release this one does not know, or compressed where nothing is.
    Version(u8),
    Malformed(String),
    /// Bytes were left over.
    Trailing(usize),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("no bytes"),
            Self::Version(version) if (VERSION..=reads()).contains(version) => {
                write!(f, "format version {version}, compressed: here only version {VERSION} is written")
            }
            Self::Version(version) => {
                let newest = reads();
                write!(f, "format version {version}, which a newer release wrote; this one reads up to {newest}")
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

/// What [`encode`] wrote, compressed where that makes it shorter. Only for what every reader reads.
#[must_use]
pub(crate) fn pack(plain: Vec<u8>) -> Vec<u8> {
    packed::pack(plain)
}

/// Is it worth to [`pack`] it?
#[must_use]
pub(crate) fn is_long(plain: &[u8]) -> bool {
    packed::LEAST <= plain.len()
}

/// For rehearsals of upgrades, with the feature level that a node says: from now on this process reads what a release of that
/// level reads.
pub fn read_like(level: u32) {
    let newest = if level < tidegate_model::Feature::Packed.level() { VERSION } else { NEWEST };
    READS.store(newest, Ordering::Relaxed);
}

static READS: AtomicU8 = AtomicU8::new(NEWEST);

fn reads() -> u8 {
    READS.load(Ordering::Relaxed)
}

/// A hash over the bytes that a snapshot of a value has.
pub(crate) fn digest<T: Serialize>(value: &T) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    bincode::serde::encode_into_std_write(value, &mut hasher, bincode::config::standard())
        .expect("our types hold nothing that cannot be written, and a hasher takes all bytes");
    *hasher.finalize().as_bytes()
}

/// Reads a frame or a record, which nobody compresses: no length inside may claim more than [`MAX_FRAME`].
///
/// # Errors
/// When the bytes are not exactly one value of this type.
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Error> {
    read_frame(plain(bytes)?)
}

/// Reads what an entry of a log says, [packed](pack) or not: the same limit.
///
/// # Errors
/// As [`decode`].
pub fn decode_packed<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Error> {
    read_frame(&unpacked(bytes, MAX_FRAME)?)
}

/// Reads a frame with a snapshot in it: as [`decode`] with the limit [`MAX_SNAPSHOT`].
///
/// # Errors
/// As [`decode`].
pub fn decode_bulk<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Error> {
    read_bulk(plain(bytes)?)
}

/// Reads the state in a snapshot, [packed](pack) or not: the same limit.
///
/// # Errors
/// As [`decode`].
pub fn decode_snapshot<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Error> {
    read_bulk(&unpacked(bytes, MAX_SNAPSHOT)?)
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

fn plain(bytes: &[u8]) -> Result<&[u8], Error> {
    match bytes.split_first().ok_or(Error::Empty)? {
        (&VERSION, body) => Ok(body),
        (other, _) => Err(Error::Version(*other)),
    }
}

fn unpacked(bytes: &[u8], most: usize) -> Result<Cow<'_, [u8]>, Error> {
    match bytes.split_first() {
        Some((&packed::PACKED, body)) if packed::PACKED <= reads() => packed::unpack(body, most).map(Cow::Owned),
        _ => plain(bytes).map(Cow::Borrowed),
    }
}

fn read_frame<T: DeserializeOwned>(body: &[u8]) -> Result<T, Error> {
    let limit = bincode::config::standard();
    if body.len() <= SHORT {
        return read(body, limit.with_limit::<SHORT_CLAIMS>());
    }
    read(body, limit.with_limit::<MAX_FRAME>())
}

fn read_bulk<T: DeserializeOwned>(body: &[u8]) -> Result<T, Error> {
    let limit = bincode::config::standard();
    if body.len() <= SHORT {
        return read(body, limit.with_limit::<SHORT_CLAIMS>());
    }
    if body.len() <= MEDIUM {
        return read(body, limit.with_limit::<MEDIUM_CLAIMS>());
    }
    read(body, limit.with_limit::<MAX_SNAPSHOT>())
}

fn read<T: DeserializeOwned, C: bincode::config::Config>(body: &[u8], config: C) -> Result<T, Error> {
    let (value, used) =
        bincode::serde::decode_from_slice(body, config).map_err(|error| Error::Malformed(error.to_string()))?;
    if used != body.len() {
        return Err(Error::Trailing(body.len() - used));
    }
    Ok(value)
}
