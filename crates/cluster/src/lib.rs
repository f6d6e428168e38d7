//! The cluster: two Raft groups over QUIC, membership, node leases, and the folder on disk that survives it all.
//!
//! Owns consensus, the peer port and the data folder; the only crate that names openraft, redb or quinn. Knows nothing
//! of documents' meaning, of HTTP, of what a limit is for. `tidegate` starts a [`Cluster`] and gives its parts to
//! `admin` (propose, status, membership), `limiter` (exchange, recalled) and `proxy` (state, readiness).
//!
//! ```text
//!   propose(command) ──► control leader ──► log ──► every node: State::apply ──► changes()
//!   exchange(batch)  ──► quota leader   ──► log ──► voters: Ledger::apply    ──► Reply
//! ```

mod certificate;
mod cluster;
pub mod codec;
mod compared;
mod control;
pub mod disaster;
mod error;
mod folder;
#[doc(hidden)]
pub mod fuzz;
mod gathering;
mod group;
mod keys;
mod leases;
mod levels;
#[cfg(feature = "life")]
#[doc(hidden)]
pub mod life;
mod membership;
mod message;
mod network;
mod plausible;
mod propose;
mod quota;
mod raft;
mod ready;
mod replica;
mod runtime;
mod seal;
mod server;
mod settings;
mod start;
mod status;
mod store;
mod tickets;
mod token;
mod transport;
mod voters;
mod wire;

pub use cluster::Cluster;
#[cfg(debug_assertions)]
pub use cluster::Spoilt;
pub use compared::{Compared, Comparisons};
pub use control::News;
pub use error::{Error, ProposeError};
pub use gathering::Secret;
pub use group::GroupStatus;
pub use keys::KeyProgress;
pub use levels::{Behind, Old};
pub use message::Topic;
pub use propose::{Applied, Everywhere};
pub use quota::Unreachable;
pub use ready::Readiness;
pub use settings::{Acks, FirstToken, Progress, Settings, Start};
pub use status::{Disk, MemberStatus, NodeReport, Part, Status};
pub use store::Damage;
pub use store::pace::Commits;
pub use tickets::TICKET_KEY;
pub use token::{JoinToken, admin_token_hash, new_admin_token};
