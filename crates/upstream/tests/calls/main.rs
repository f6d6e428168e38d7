//! Calls over real sockets.

mod backend;
mod balance;
mod bodies;
mod names;
mod pools;
mod retries;
mod secure;
mod timeouts;
