//! A binary is replaced while it serves: the new process is given the listening sockets, then the data folder.
//!
//! ```text
//!   serves                                        starts with --take-over
//!     │ ◄── hello: version, release ────────────────── │   at DATA/handover.sock
//!     │ ─── offer, listening sockets ────────────────► │   binds what it was not given
//!     │ ◄── take ───────────────────────────────────── │   from here on connections wait in the kernel
//!   steps down, stops both groups, closes the folder   │
//!     │ ─── yours ───────────────────────────────────► │   opens the folder, catches up, accepts
//!     │ ◄── serving ────────────────────────────────── │
//!   finishes what is open ─── ask: leases, usage ────► │   its way to the cluster until it ends
//! ```
//! If the new one ends before it serves, or takes too long, the old one opens the folder again in a process that never
//! stopped ([`super::Ended::Alone`]). Both processes have incarnations of their own: no lease changes hands, each spends its own.

mod door;
mod heir;
mod link;
mod sockets;
mod upgrade;
mod ways;

use std::io::{self, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

pub(super) use self::door::{Door, Successor, Terms};
pub(super) use self::heir::{Predecessor, find};
pub(super) use self::link::serve;
pub(super) use self::sockets::Sockets;
pub(super) use self::upgrade::Upgrade;
pub(super) use self::ways::{Way, Ways};

/// Of the words between the two processes. Another one is refused: stop and start such a node.
const PROTOCOL: u32 = 1;
/// Between two words, before the folder changes hands.
const PATIENCE: Duration = Duration::from_secs(10);
/// Longest word of a greeting.
const LONGEST: usize = 1 << 20;

/// The first words, which any release can read: JSON behind its length.
#[derive(Debug, Serialize, Deserialize)]
struct Hello {
    tidegate_handover: u32,
    release: String,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Offer {
    /// What the listening sockets that follow are for, in this order.
    Sockets {
        release: String,
        pid: u32,
        /// That its node says.
        feature_level: u32,
        names: Vec<String>,
    },
    Refused {
        why: String,
    },
}

fn path(data: &Path) -> PathBuf {
    data.join("handover.sock")
}

fn write_word(stream: &mut UnixStream, word: &impl Serialize) -> io::Result<()> {
    let text = serde_json::to_vec(word)?;
    let length = u32::try_from(text.len()).map_err(io::Error::other)?;
    stream.write_all(&length.to_be_bytes())?;
    stream.write_all(&text)
}

fn read_word<T: DeserializeOwned>(stream: &mut UnixStream) -> io::Result<T> {
    let mut length = [0; 4];
    stream.read_exact(&mut length)?;
    let length = u32::from_be_bytes(length) as usize;
    if length > LONGEST {
        return Err(io::Error::other(format!("a word of {length} bytes: this is no Tidegate")));
    }
    let mut text = vec![0; length];
    stream.read_exact(&mut text)?;
    Ok(serde_json::from_slice(&text)?)
}
