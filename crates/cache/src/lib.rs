//! The response cache: what may be reused, for how long and for whom (`rules`), and where it is kept.
//!
//! Owns both tiers and is the only crate that names `redis`. Knows no route, no document and no Raft: `proxy` asks it
//! with a compiled policy ([`Ask`]), the binary feeds it purges. Start reading in `cache.rs`; `rules` is pure.

#[doc(hidden)]
pub mod fuzz;
pub mod memory;
pub mod peers;
pub mod purge;
pub mod remote;
pub mod rules;
pub mod stored;

mod again;
mod answer;
mod ask;
mod cache;
mod counters;
mod fetch;
mod flight;
mod pending;
mod tee;
mod teed;

pub use again::{Again, Spot, Tells};
pub use answer::{Answer, Kind};
pub use ask::Ask;
pub use cache::{Cache, Changed, Glance, Lease, Lookup, Settings};
pub use counters::Counters;
pub use fetch::{Fetch, Next};
pub use flight::{Body, Broken};
pub use peers::Peers;
pub use pending::Pending;
pub use rules::status::{Forward, Report};
pub use tee::Tee;
pub use teed::{Broke, TeeBody};
