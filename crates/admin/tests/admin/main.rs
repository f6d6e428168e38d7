//! The admin port over real sockets; behind it a cluster in memory.

#![allow(clippy::unwrap_used)] // a failing step is a failing test

mod access;
mod cache;
mod certificates;
mod common;
mod connections;
mod documents;
mod grpc;
mod keys;
