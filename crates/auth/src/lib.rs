//! Who is asking: keys as presented in a request and the entries they stand for; tokens, and who signed them (`token`);
//! and how we prove to providers who we are (`outward`).
//!
//! Owns the shape of a key, its hash and where a request may carry it. Knows no document, no plan, no cluster: the
//! binary fills [`Keys`] from the agreed state, `proxy` asks, `admin` mints. A secret is never stored, only its hash.

#[doc(hidden)]
pub mod fuzz;
mod keys;
mod mint;
pub mod outward;
mod presented;
mod strip;
pub mod token;

pub use keys::{KeyEntry, Keys, Rejected};
pub use mint::{Hash, Minted, Secret, hash, mint};
pub use presented::{Conflict, MAX_KEY_BYTES, Place, Presented, presented};
pub use strip::{strip_headers, strip_query};
