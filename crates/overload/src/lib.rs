//! What a node does when more is asked than can be served: how many requests may run at an upstream (`learn.rs`), and who
//! of those that wait is next (`line.rs`). No clock, no locks, no I/O: the caller brings `now`, as a time since any fixed
//! instant. Called by `upstream`, which has the atomics, the timers and the tasks.

pub mod learn;
pub mod line;

pub use learn::{Learner, Seen};
pub use line::{Line, Next, Pushed, Ticket};
