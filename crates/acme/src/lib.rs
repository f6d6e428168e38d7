//! What is said to a certificate authority (ACME, RFC 8555): an account, an order, its challenges, a certificate.
//!
//! Owns the protocol and its signatures. Opens no connection ([`Http`] is the caller's), keeps nothing (what must outlive a
//! process goes to a [`Log`] before anything depends on it), answers no challenge: `tidegate` lets every node do that. So
//! whoever leads next goes on with the order, the key and the account of the one before.
//!
//! ```text
//!   intent + key ─keep─► newOrder ─keep─► challenges ─keep─► "look now" … finalize … certificate
//! ```

mod account;
mod client;
mod jws;
mod order;
mod schedule;
mod trouble;
mod wire;

pub use account::{Account, External};
pub use client::{Client, Http, Sent};
pub use order::{Answer, Certificate, KeyType, Kind, Log, Order, Wanted, issue};
pub use schedule::{pause, renew_at};
pub use trouble::{Then, Trouble};
