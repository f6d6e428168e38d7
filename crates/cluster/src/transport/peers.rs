//! The calling side: a connection per peer and lane, made when first needed, remade when it broke.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use quinn::{ClientConfig, Connection, Endpoint};
use rustls::pki_types::CertificateDer;
use serde::de::DeserializeOwned;
use tidegate_model::NodeId;
use tidegate_state::{Addresses, ClusterId};
use tokio::time::Instant;

use super::addresses::AddressBook;
use super::frame_limit;
use super::identity::{self, ANY_MEMBER, Identity};
use crate::codec;
use crate::wire::{Greeting, Hello, Lane, PROTOCOL, Request};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// After a failed attempt nobody tries again before this; it doubles up to the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_millis(500);

/// Why a call has no reply.
#[derive(Debug, Clone)]
pub(crate) enum CallError {
    /// The request never left.
    NotSent(String),
    /// It may have arrived.
    Lost(String),
    /// The cluster has removed this node for good.
    Removed(String),
}

pub(crate) struct Peers {
    /// `None` once closed: only then the port is free.
    endpoint: Mutex<Option<Endpoint>>,
    client: ClientConfig,
    identity: Arc<Identity>,
    feature_level: u32,
    /// What this node says about itself.
    own: Addresses,
    pub(crate) addresses: AddressBook,
    lanes: Mutex<BTreeMap<(NodeId, Lane), Arc<Slot>>>,
    successor: Mutex<Option<String>>,
}

#[derive(Default)]
struct Slot {
    connection: tokio::sync::Mutex<Link>,
}

#[derive(Default)]
struct Link {
    connection: Option<Connection>,
    /// The address it was made to.
    address: String,
    pause: Duration,
    retry_at: Option<Instant>,
}

impl Peers {
    pub(crate) fn new(
        endpoint: Endpoint,
        client: ClientConfig,
        identity: Arc<Identity>,
        feature_level: u32,
        own: Addresses,
    ) -> Self {
        let (addresses, lanes) = (AddressBook::default(), Mutex::default());
        let (endpoint, successor) = (Mutex::new(Some(endpoint)), Mutex::default());
        Self { endpoint, client, identity, feature_level, own, addresses, lanes, successor }
    }

    /// Asks a peer and waits for the reply.
    pub(crate) async fn call<T: DeserializeOwned>(
        &self,
        to: NodeId,
        lane: Lane,
        request: &Request,
        timeout: Duration,
    ) -> Result<T, CallError> {
        let deadline = Instant::now() + timeout;
        let connection = tokio::time::timeout_at(deadline, self.connection(to, lane))
            .await
            .map_err(|_| CallError::NotSent(format!("node {to} did not answer")))??;
        let frame = codec::encode(request);
        if frame_limit(lane) < frame.len() {
            return Err(CallError::NotSent(format!("a frame of {} bytes is too long", frame.len())));
        }
        match tokio::time::timeout_at(deadline, exchange(&connection, &frame, frame_limit(lane))).await {
            Ok(Ok(reply)) => {
                let decoded = if lane == Lane::Bulk { codec::decode_bulk(&reply) } else { codec::decode(&reply) };
                decoded.map_err(|error| CallError::Lost(format!("node {to}: {error}")))
            }
            Ok(Err(reason)) => {
                if connection.close_reason().is_some() {
                    self.forget(to, lane, &connection).await;
                }
                Err(CallError::Lost(format!("node {to}: {reason}")))
            }
            Err(_) => {
                // It may have died without a word, or come back as a new process that does not know this connection.
                self.forget(to, lane, &connection).await;
                Err(CallError::Lost(format!("node {to} did not answer within {timeout:?}")))
            }
        }
    }

    async fn connection(&self, to: NodeId, lane: Lane) -> Result<Connection, CallError> {
        let address = self.addresses.of(to).ok_or_else(|| CallError::NotSent(format!("node {to} has no address")))?;
        let slot = self.lanes.lock().expect("no panic while locked").entry((to, lane)).or_default().clone();
        let mut link = slot.connection.lock().await;
        if let Some(connection) = &link.connection {
            if connection.close_reason().is_none() && link.address == address {
                return Ok(connection.clone());
            }
            link.connection = None;
        }
        if link.address != address {
            link.retry_at = None;
            link.address.clone_from(&address);
        }
        if link.retry_at.is_some_and(|at| Instant::now() < at) {
            return Err(CallError::NotSent(format!("node {to} at {address} was not reachable a moment ago")));
        }
        // Should the caller give up in the middle, the pause stays for the next one.
        link.pause = (link.pause * 2).clamp(FIRST_PAUSE, LONGEST_PAUSE);
        link.retry_at = Some(Instant::now() + link.pause);
        let connected = tokio::time::timeout(CONNECT_TIMEOUT, self.connect(to, lane, &address)).await;
        let connection = match connected {
            Ok(connected) => connected?,
            Err(_) => return Err(CallError::NotSent(format!("node {to} at {address} did not answer"))),
        };
        link.connection = Some(connection.clone());
        link.pause = Duration::ZERO;
        link.retry_at = None;
        Ok(connection)
    }

    async fn connect(&self, to: NodeId, lane: Lane, address: &str) -> Result<Connection, CallError> {
        let not_sent = |reason: String| CallError::NotSent(format!("node {to} at {address}: {reason}"));
        let endpoint = self.endpoint.lock().expect("no panic while locked").clone();
        let endpoint = endpoint.ok_or_else(|| not_sent("this node is shutting down".into()))?;
        let target = resolve(address, endpoint.local_addr().ok()).await;
        let target = target.map_err(|error| not_sent(error.to_string()))?;
        // Any member's name will do for TLS: who of them it is, and of which cluster, is looked at below, so that a node of
        // another cluster with our CA can say why it has nothing to do with us.
        let connecting = endpoint.connect_with(self.client.clone(), target, ANY_MEMBER);
        drop(endpoint);
        let connection = connecting.map_err(|error| not_sent(error.to_string()))?;
        let connection = connection.await.map_err(|error| not_sent(error.to_string()))?;
        let hello = Request::Hello(Hello {
            protocol: PROTOCOL,
            cluster: self.identity.cluster,
            node: self.identity.node,
            lane,
            feature_level: self.feature_level,
            addresses: self.own.clone(),
        });
        let reply = exchange(&connection, &codec::encode(&hello), 64 << 10).await.map_err(not_sent)?;
        let proven = proven(&connection, self.identity.cluster);
        match codec::decode(&reply).map_err(|error| not_sent(error.to_string()))? {
            Greeting::Welcome { node, .. } if node == to && proven == Some(to) => Ok(connection),
            Greeting::Welcome { node, .. } => Err(not_sent(format!("node {node} answered"))),
            Greeting::Refused { removed, reason } => {
                connection.close(0_u32.into(), b"");
                if proven.is_none() {
                    if removed {
                        self.was_succeeded(format!("node {to} at {address}: {reason}"));
                    }
                    return Err(not_sent(reason));
                }
                let reason = format!("node {to} at {address} refused this node: {reason}");
                Err(if removed { CallError::Removed(reason) } else { CallError::NotSent(reason) })
            }
        }
    }

    /// A cluster with our CA took our cluster's place.
    fn was_succeeded(&self, reason: String) {
        let mut successor = self.successor.lock().expect("no panic while locked");
        if successor.is_none() {
            tracing::error!(%reason, "another cluster answers in the place of this node's");
        }
        *successor = Some(reason);
    }

    /// What a cluster said that took our cluster's place, if there is one where our members should be.
    pub(crate) fn successor(&self) -> Option<String> {
        self.successor.lock().expect("no panic while locked").clone()
    }

    async fn forget(&self, to: NodeId, lane: Lane, broken: &Connection) {
        let slot = self.lanes.lock().expect("no panic while locked").get(&(to, lane)).cloned();
        if let Some(slot) = slot {
            let mut link = slot.connection.lock().await;
            if link.connection.as_ref().is_some_and(|current| current.stable_id() == broken.stable_id()) {
                link.connection = None;
            }
        }
    }

    /// Goes off the air: closes all connections, both ways, and gives the port back.
    pub(crate) async fn close(&self) {
        let Some(endpoint) = self.endpoint.lock().expect("no panic while locked").take() else { return };
        self.lanes.lock().expect("no panic while locked").clear();
        endpoint.close(0_u32.into(), b"stopping");
        _ = tokio::time::timeout(CLOSE_TIMEOUT, endpoint.wait_idle()).await;
        let Ok(address) = endpoint.local_addr() else { return };
        drop(endpoint);
        // quinn's driver lets go of the socket a moment after its last handle: whoever restarts us wants the port.
        let patience = Instant::now() + CLOSE_TIMEOUT;
        while std::net::UdpSocket::bind(address).is_err() && Instant::now() < patience {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// Connections to nodes that are members no more are of no use.
    pub(crate) fn drop_all_but(&self, is_member: impl Fn(NodeId) -> bool) {
        self.lanes.lock().expect("no panic while locked").retain(|(node, _), _| is_member(*node));
    }
}

/// The node of this cluster at the other end, by its certificate.
fn proven(connection: &Connection, cluster: ClusterId) -> Option<NodeId> {
    let chain = connection.peer_identity()?.downcast::<Vec<CertificateDer>>().ok()?;
    identity::node_in(chain.first()?, cluster)
}

async fn exchange(connection: &Connection, frame: &[u8], limit: usize) -> Result<Vec<u8>, String> {
    let (mut send, mut receive) = connection.open_bi().await.map_err(|error| error.to_string())?;
    send.write_all(frame).await.map_err(|error| error.to_string())?;
    send.finish().map_err(|error| error.to_string())?;
    receive.read_to_end(limit).await.map_err(|error| error.to_string())
}

/// The first address of the same family as our socket, else the first.
pub(crate) async fn resolve(address: &str, local: Option<SocketAddr>) -> std::io::Result<SocketAddr> {
    let found: Vec<SocketAddr> = tokio::net::lookup_host(address).await?.collect();
    let same = found.iter().find(|found| local.is_none_or(|local| local.is_ipv4() == found.is_ipv4()));
    same.or(found.first()).copied().ok_or_else(|| std::io::Error::other(format!("{address} has no address")))
}

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotSent(reason) | Self::Lost(reason) | Self::Removed(reason) => f.write_str(reason),
        }
    }
}

impl std::error::Error for CallError {}
