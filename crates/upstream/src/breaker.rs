//! Breakers: who is not asked any more, and how it comes back.
//!
//! ```text
//! request ── pulse (atomics, one load when all is well) ── circuit (one endpoint, this node) ── evidence ─┐
//!                 ▲                                             ▲                                         ▼
//!                 └── ward (one upstream: cap, panic, dice) ────┴────────── ruling ◄── log ◄── judge (the leader)
//! ```
//! `circuit`, `judge`, `window` are pure: no clock, no locks, no I/O; `now` is a parameter, in milliseconds. The judge runs
//! on whichever node leads; it is never asked by a request.

pub(crate) mod circuit;
pub mod judge;
mod note;
pub(crate) mod post;
pub(crate) mod pulse;
pub mod ruling;
pub(crate) mod ward;
mod window;

pub(crate) use note::Given;
pub use post::Rulings;
pub(crate) use ward::HOLD;
pub use ward::WardFacts;
