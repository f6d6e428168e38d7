//! Calls over real sockets.

#![allow(clippy::unwrap_used, reason = "a test that unwraps says what it expects by failing")]

mod announced;
mod backend;
mod balance;
mod bodies;
mod exchanges;
mod hedges;
mod names;
mod pools;
mod resends;
mod retries;
mod secure;
mod sick;
mod suspects;
mod timeouts;
