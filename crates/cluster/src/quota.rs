//! The quota group: its machine, the decision task on its leader, and the way to that leader from every node.

mod calendar;
mod client;
mod desk;
mod machine;

pub(crate) use calendar::{turn_forever, wall};
pub use client::Unreachable;
pub(crate) use client::{Leader, at_the_desk, command, exchange, find, prepare_policies, set_policies};
pub(crate) use desk::Desk;
pub(crate) use machine::Quota;
