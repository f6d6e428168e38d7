//! The data plane over real sockets: a gate on 127.0.0.1:0, a backend behind it, clients that write raw bytes.
#![allow(clippy::unwrap_used)] // a failing step is a failing test

mod backend;
mod harness;

mod announced;
mod attacks;
mod bodies;
mod callers;
mod connections;
mod edges;
mod forwarding;
mod hits;
mod places;
mod records;
mod resting;
mod routing;
mod scopes;
mod secure;
mod slow;
mod upgrades;
