//! The accepting side: who is it, may they, and then one task per stream.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use quinn::crypto::rustls::HandshakeData;
use quinn::{Connection, Endpoint, Incoming, RecvStream, SendStream, VarInt};
use rustls::pki_types::CertificateDer;
use tidegate_model::NodeId;
use tokio::sync::Semaphore;

use super::identity::{self, Identity};
use super::strangers::Strangers;
use super::{GATHER_ALPN, Handler, JOIN_ALPN, PEER_ALPN, frame_limit};
use crate::codec;
use crate::wire::{Greeting, Hello, PROTOCOL, Request};

/// A peer that has connected says hello at once.
const HELLO_TIMEOUT: Duration = Duration::from_secs(5);
/// Longest frame of a joiner, who is a stranger.
pub(crate) const JOIN_FRAME: usize = 64 << 10;
/// A stranger who has connected shows what it has at once, or gives its place to another.
const JOIN_HELLO_TIMEOUT: Duration = Duration::from_secs(2);
/// Join requests worked on at a time.
const JOINERS: usize = 32;
/// Connections in their handshake at a time; more are asked to prove their address first, and refused beyond twice it.
const HANDSHAKES: usize = 256;

pub(crate) struct Listener<H> {
    pub(crate) endpoint: Endpoint,
    pub(crate) identity: Arc<Identity>,
    pub(crate) feature_level: u32,
    pub(crate) handler: Arc<H>,
    /// Open connections of peers, so that a removed node's can be closed.
    pub(crate) open: Arc<Open>,
}

#[derive(Debug, Default)]
pub(crate) struct Open(Mutex<BTreeMap<NodeId, Vec<Connection>>>);

impl Open {
    fn add(&self, node: NodeId, connection: &Connection) {
        let mut open = self.0.lock().expect("no panic while locked");
        let connections = open.entry(node).or_default();
        connections.retain(|connection| connection.close_reason().is_none());
        connections.push(connection.clone());
    }

    /// Whether all who speak for this node show this key. One that came before the node was known may not: it is cut off.
    pub(crate) fn all_show(&self, node: NodeId, key: &[u8; 32]) -> bool {
        let open = self.0.lock().expect("no panic while locked");
        let others = open.get(&node).into_iter().flatten().filter(|it| shown_key(it).as_ref() != Some(key));
        let others = others.map(|connection| connection.close(REFUSED, b"not the key that the node joined with"));
        others.count() == 0
    }

    pub(crate) fn forget_all(&self) {
        self.0.lock().expect("no panic while locked").clear();
    }

    /// Closes the connections of nodes that are members no more.
    pub(crate) fn close_all_but(&self, is_member: impl Fn(NodeId) -> bool) {
        let mut open = self.0.lock().expect("no panic while locked");
        open.retain(|node, connections| {
            let keep = is_member(*node);
            if !keep {
                connections.iter().for_each(|connection| connection.close(REMOVED, b"removed from the cluster"));
            }
            keep
        });
    }
}

fn shown_key(connection: &Connection) -> Option<[u8; 32]> {
    let certificates = connection.peer_identity()?.downcast::<Vec<CertificateDer>>().ok()?;
    identity::shown_key(certificates.first()?)
}

const REMOVED: VarInt = VarInt::from_u32(2);
const REFUSED: VarInt = VarInt::from_u32(1);

impl<H: Handler> Listener<H> {
    /// Accepts until the endpoint is closed.
    pub(crate) async fn run(self) {
        let this = Arc::new(self);
        let joiners = Arc::new((Semaphore::new(JOINERS), Strangers::default()));
        let handshakes = Arc::new(Semaphore::new(HANDSHAKES * 2));
        while let Some(incoming) = this.endpoint.accept().await {
            let inside = HANDSHAKES * 2 - handshakes.available_permits();
            let Some(incoming) = let_in(incoming, inside, HANDSHAKES * 2) else { continue };
            let Ok(permit) = handshakes.clone().try_acquire_owned() else { continue }; // Not reached: one is free.
            let (this, joiners) = (this.clone(), joiners.clone());
            tokio::spawn(async move {
                let connection = shake(incoming).await;
                drop(permit);
                if let Some((connection, alpn)) = connection {
                    if alpn == PEER_ALPN {
                        this.peer(connection).await;
                    } else if alpn == JOIN_ALPN || alpn == GATHER_ALPN {
                        this.joiner(connection, &alpn, &joiners.0, &joiners.1).await;
                    }
                }
            });
        }
    }

    async fn peer(&self, connection: Connection) {
        let greeted = tokio::time::timeout(HELLO_TIMEOUT, self.greet(&connection)).await;
        let hello = match greeted {
            Ok(Ok(hello)) => hello,
            Ok(Err(reason)) => {
                tracing::debug!(from = %connection.remote_address(), %reason, "a peer was refused");
                // The refusal travels on the stream; the caller closes. Give it the time to.
                _ = tokio::time::timeout(HELLO_TIMEOUT, connection.closed()).await;
                return connection.close(REFUSED, reason.as_bytes());
            }
            Err(_) => return connection.close(REFUSED, b"no hello"),
        };
        self.open.add(hello.node, &connection);
        while let Ok((send, receive)) = connection.accept_bi().await {
            let (handler, from, limit) = (self.handler.clone(), hello.node, frame_limit(hello.lane));
            tokio::spawn(async move {
                if let Err(reason) = serve(handler.as_ref(), from, send, receive, limit).await {
                    tracing::debug!(%from, %reason, "a call of a peer failed");
                }
            });
        }
    }

    async fn greet(&self, connection: &Connection) -> Result<Hello, String> {
        let (mut send, mut receive) = connection.accept_bi().await.map_err(|error| error.to_string())?;
        let frame = receive.read_to_end(JOIN_FRAME).await.map_err(|error| error.to_string())?;
        let request: Request = codec::decode(&frame).map_err(|error| error.to_string())?;
        let Request::Hello(hello) = request else { return Err("no hello".into()) };
        let verdict = self.judge(connection, &hello);
        let greeting = match &verdict {
            Ok(()) => Greeting::Welcome { node: self.identity.node, feature_level: self.feature_level },
            Err((removed, reason)) => Greeting::Refused { removed: *removed, reason: reason.clone() },
        };
        reply(&mut send, &codec::encode(&greeting)).await?;
        verdict.map(|()| hello).map_err(|(_, reason)| reason)
    }

    fn judge(&self, connection: &Connection, hello: &Hello) -> Result<(), (bool, String)> {
        if hello.protocol != PROTOCOL {
            let reason = format!("peer protocol {} is not {PROTOCOL}: upgrade one release at a time", hello.protocol);
            return Err((false, reason));
        }
        if hello.cluster != self.identity.cluster {
            let (ended, reason) = self.handler.other_cluster(hello.cluster);
            tracing::warn!(node = %hello.node, from = %connection.remote_address(), %reason, "a node of another cluster was refused");
            return Err((ended, reason));
        }
        let certificates = connection.peer_identity().and_then(|chain| chain.downcast::<Vec<CertificateDer>>().ok());
        let certificate = certificates.as_ref().and_then(|chain| chain.first());
        let proven = certificate.and_then(|certificate| identity::node_in(certificate, self.identity.cluster));
        let key = certificate.and_then(|certificate| identity::shown_key(certificate));
        match key.filter(|_| proven == Some(hello.node)) {
            Some(key) => self.handler.welcome(hello, &key),
            None => Err((false, format!("the certificate is not node {}'s", hello.node))),
        }
    }

    async fn joiner(&self, connection: Connection, alpn: &[u8], joiners: &Semaphore, strangers: &Strangers) {
        let Some(_place) = strangers.enter(connection.remote_address().ip()) else {
            return connection.close(REFUSED, b"too many nodes join at once");
        };
        let hello = tokio::time::timeout(JOIN_HELLO_TIMEOUT, async {
            let (send, mut receive) = connection.accept_bi().await.map_err(|error| error.to_string())?;
            let frame = receive.read_to_end(JOIN_FRAME).await.map_err(|error| error.to_string())?;
            Ok::<_, String>((send, frame))
        });
        let Ok(Ok((mut send, frame))) = hello.await else {
            return connection.close(REFUSED, b"no join request");
        };
        let admitted = tokio::time::timeout(HELLO_TIMEOUT * 4, async {
            let _permit = joiners.acquire().await.map_err(|error| error.to_string())?;
            let answer = match alpn {
                GATHER_ALPN => self.handler.gather(&frame),
                _ => self.handler.admit(&frame).await,
            };
            reply(&mut send, &answer).await
        });
        match admitted.await {
            // The joiner closes when it has read the answer.
            Ok(Ok(())) => _ = tokio::time::timeout(HELLO_TIMEOUT, connection.closed()).await,
            Ok(Err(reason)) => tracing::debug!(%reason, "a joiner failed"),
            Err(_) => tracing::debug!("a joiner took too long"),
        }
        connection.close(VarInt::from_u32(0), b"");
    }
}

/// While so many are inside: from half of the most on a caller has to prove its address first, beyond them it is refused.
pub(crate) fn let_in(incoming: Incoming, inside: usize, most: usize) -> Option<Incoming> {
    if most / 2 <= inside && !incoming.remote_address_validated() && incoming.may_retry() {
        _ = incoming.retry(); // Cannot fail: it may retry.
        return None;
    }
    if most <= inside {
        incoming.refuse();
        return None;
    }
    Some(incoming)
}

pub(crate) async fn shake(incoming: Incoming) -> Option<(Connection, Vec<u8>)> {
    let connection = incoming.await.ok()?;
    let data = connection.handshake_data()?.downcast::<HandshakeData>().ok()?;
    Some((connection, data.protocol?))
}

async fn serve<H: Handler>(
    handler: &H,
    from: NodeId,
    mut send: SendStream,
    mut receive: RecvStream,
    limit: usize,
) -> Result<(), String> {
    let frame = receive.read_to_end(limit).await.map_err(|error| error.to_string())?;
    let request = if limit == codec::MAX_SNAPSHOT { codec::decode_bulk(&frame) } else { codec::decode(&frame) };
    let request: Request = request.map_err(|error| error.to_string())?;
    drop(frame);
    // Somebody who has gone away needs no answer: the work stops where it may.
    tokio::select! {
        answer = Box::pin(handler.answer(from, request)) => reply(&mut send, &answer).await,
        _ = async { send.stopped().await } => Err("the caller gave up".into()),
    }
}

pub(crate) async fn reply(send: &mut SendStream, bytes: &[u8]) -> Result<(), String> {
    send.write_all(bytes).await.map_err(|error| error.to_string())?;
    send.finish().map_err(|error| error.to_string())
}
