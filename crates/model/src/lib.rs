//! The words every crate shares: ids and units. No behaviour beyond what the word means.
//!
//! Owns nothing but names. Knows no clock, no socket, no document.

mod feature;
mod id;
mod unit;

pub use feature::{Feature, LEVEL};
pub use id::{Incarnation, KeyId, LimitId, NodeId, Revision, Subject};
pub use unit::{Millis, Nanos, Permits};
