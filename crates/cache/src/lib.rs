//! The response cache: what may be reused, for how long and for whom (`rules`), and where it is kept.
//!
//! Owns both tiers and is the only crate that names `redis`. Knows no route, no document and no Raft: `proxy` asks it
//! with a compiled policy and a key, the binary feeds it purges.

pub mod rules;

pub mod memory;
pub mod purge;
pub mod stored;
