//! Real nodes, real backends, wires that can be cut, clients.

mod backend;
mod balancer;
mod client;
mod cluster;
mod collector;
mod grpc;
mod node;
mod origin;
pub(crate) mod pebble;
mod ports;
mod provider;
mod redis;
pub(crate) mod store;
mod wire;

pub(crate) use backend::Backend;
pub(crate) use balancer::Balancer;
pub(crate) use client::{Answer, Client, Failed};
pub(crate) use cluster::Cluster;
pub(crate) use collector::{Collector, Manner, attribute};
pub(crate) use grpc::health_server;
pub(crate) use node::{Node, TIDEGATE, signal};
pub(crate) use origin::{Origin, answer};
pub(crate) use provider::{Asked, Provider, Says};
pub(crate) use redis::Redis;
pub(crate) use wire::Switchboard;

use std::time::Duration;

use tokio::time::Instant;

/// Waits until `probe` says yes. Fails with `what` after `within`.
pub(crate) async fn eventually<F: AsyncFnMut() -> bool>(what: &str, within: Duration, mut probe: F) {
    let ends = Instant::now() + within;
    while !probe().await {
        assert!(Instant::now() < ends, "{what}: not within {within:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
