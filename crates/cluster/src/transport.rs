//! QUIC between nodes: mutual TLS from the cluster's own CA, one stream per call, a connection per lane.
//!
//! Knows who is at the other end (from the certificate, never from what a frame says); knows nothing of what the calls
//! mean: a [`Handler`] answers them.

pub(crate) mod addresses;
pub(crate) mod identity;
pub(crate) mod joining;
pub(crate) mod listener;
pub(crate) mod peers;
pub(crate) mod strangers;
pub(crate) mod tls;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use quinn::{IdleTimeout, TransportConfig, VarInt};
use tidegate_model::NodeId;
use tidegate_state::ClusterId;

use crate::codec;
use crate::wire::{Hello, Lane, Request};

/// Spoken between members.
pub(crate) const PEER_ALPN: &[u8] = b"tidegate-peer/1";
/// Spoken by those who want to become one: they have no certificate yet.
pub(crate) const JOIN_ALPN: &[u8] = b"tidegate-join/1";
/// Spoken by those who look for each other, or for a cluster, with a pre-shared secret.
pub(crate) const GATHER_ALPN: &[u8] = b"tidegate-gather/1";

/// Answers what peers ask.
pub(crate) trait Handler: Send + Sync + 'static {
    /// May this node talk to us? The reason otherwise; `true`: it was removed for good.
    fn welcome(&self, hello: &Hello, key: &[u8; 32]) -> Result<(), (bool, String)>;

    /// What is said to a node of another cluster with our CA; `true`: that one is no more, since ours took its place.
    fn other_cluster(&self, other: ClusterId) -> (bool, String);

    /// The encoded reply to one request of an authenticated peer.
    fn answer(&self, from: NodeId, request: Request) -> impl Future<Output = Vec<u8>> + Send;

    /// The encoded reply to a joiner's request.
    fn admit(&self, request: &[u8]) -> impl Future<Output = Vec<u8>> + Send;

    /// The encoded reply to one who looks for a cluster.
    fn gather(&self, call: &[u8]) -> Vec<u8>;
}

/// Longest frame of a lane.
pub(crate) fn frame_limit(lane: Lane) -> usize {
    match lane {
        Lane::Calls | Lane::Pulse | Lane::Fills => codec::MAX_FRAME,
        Lane::Bulk => codec::MAX_SNAPSHOT,
    }
}

fn transport() -> Arc<TransportConfig> {
    let mut config = TransportConfig::default();
    config.max_concurrent_bidi_streams(VarInt::from_u32(1024));
    config.max_concurrent_uni_streams(VarInt::from_u32(0));
    config.max_idle_timeout(Some(IdleTimeout::from(VarInt::from_u32(10_000))));
    config.keep_alive_interval(Some(Duration::from_secs(3)));
    config.initial_rtt(Duration::from_millis(20)); // Nodes of one cluster: not the open internet's 333 ms.
    Arc::new(config)
}
