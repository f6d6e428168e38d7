//! HTTP/3 from clients (RFC 9114), over quinn and the h3 crate; behind the cargo feature `h3`. Its listener is UDP, beside one of
//! TLS and by the same certificates; open while the document says so.
//!
//! Owns the endpoint, its connections, and the frames of their streams. Requests go the way of all others: `request::serve`. One
//! endpoint on one runtime: the kernel would spread packets over several sockets by addresses, and a connection's packets have to
//! find their connection.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use http::Response;
use quinn::{Endpoint, EndpointConfig, IdleTimeout, ServerConfig, TokioRuntime, TransportConfig, VarInt};
use socket2::{Domain, Protocol, Socket, Type};
use tidegate_tls::Certificates;
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;
use tracing::{info, warn};

use crate::bounds::Bounds;
use crate::connection::{Held, Room};
use crate::drain::{Drain, Draining, Phase};
use crate::gate::{Count, Gate};
use crate::local::Local;
use crate::reply::Reply;
use crate::request::{self, Begun};
use crate::server::Http3;

mod connection;
mod exchange;
mod fields;
mod frames;
mod line;
mod quic;
mod upload;

pub(crate) use upload::Upload;

/// RFC 9114 § 8.1.
mod code {
    pub(super) const NO_ERROR: u64 = 0x100;
    pub(super) const INTERNAL_ERROR: u64 = 0x102;
    pub(super) const STREAM_CREATION_ERROR: u64 = 0x103;
    pub(super) const FRAME_UNEXPECTED: u64 = 0x105;
    pub(super) const FRAME_ERROR: u64 = 0x106;
    pub(super) const EXCESSIVE_LOAD: u64 = 0x107;
    pub(super) const ID_ERROR: u64 = 0x108;
    pub(super) const MISSING_SETTINGS: u64 = 0x10a;
    pub(super) const REQUEST_REJECTED: u64 = 0x10b;
    pub(super) const REQUEST_CANCELLED: u64 = 0x10c;
    pub(super) const REQUEST_INCOMPLETE: u64 = 0x10d;
    pub(super) const MESSAGE_ERROR: u64 = 0x10e;
}

fn varint(code: u64) -> VarInt {
    VarInt::from_u64(code).unwrap_or(VarInt::MAX)
}

/// Where HTTP/3 is spoken, beside a TLS listener.
#[derive(Debug)]
pub struct Http3Listener {
    /// That listener's.
    pub name: Arc<str>,
    pub address: SocketAddr,
    pub certificates: Arc<Certificates>,
    /// That listener's: both have one bound.
    pub connections: Count,
    /// Set here.
    pub spoken: Http3,
    /// Does the document ask for it?
    pub wanted: watch::Receiver<bool>,
}

/// Handshakes in progress above which clients have to show first that they are where they say (RFC 9000 § 8.1.2).
const RETRY_ABOVE: usize = 64;
/// Streams of one direction that a client may open at once: three it needs.
const UNI_STREAMS: u32 = 8;
/// A client that is silent is asked whether it lives.
const PING: Duration = Duration::from_secs(15);
/// Of answers that the client has not confirmed, in one connection.
const SEND_WINDOW: u64 = 1 << 20;
/// After a port could not be opened.
const AGAIN: Duration = Duration::from_secs(2);
/// How long closing connections have to say so.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Opens the port while that is wanted, until the node drains.
///
/// # Errors
/// None: a port that cannot be opened is tried again.
pub async fn serve(listener: Http3Listener, gate: Arc<Gate>, mut draining: Draining) -> io::Result<()> {
    let Http3Listener { name, address, certificates, connections, spoken, mut wanted } = listener;
    let local = Local::new(&gate);
    let (room, go, shaking) = (Room::new(), request::go, Count::default());
    let door = Door { certificates, connections, gate, local, room, go, address, spoken, shaking };
    let mut kept = None;
    loop {
        tokio::select! {
            biased;
            () = draining.until(Phase::Draining) => return Ok(()),
            Ok(_) = wanted.wait_for(|wanted| *wanted) => {}
            else => return Ok(()),
        }
        let endpoint = match kept.take().map_or_else(|| door.open(), Ok) {
            Ok(endpoint) => endpoint,
            Err(why) => {
                warn!(listener = %name, %address, %why, "the UDP port of HTTP/3 cannot be opened");
                tokio::time::sleep(AGAIN).await;
                continue;
            }
        };
        info!(listener = %name, %address, "speaking HTTP/3");
        if door.serve(&endpoint, &mut wanted, &mut draining).await {
            kept = Some(endpoint);
        } else {
            let _told = timeout(LAST_WORDS, endpoint.wait_idle()).await;
        }
    }
}

struct Door<F, G> {
    certificates: Arc<Certificates>,
    connections: Count,
    gate: Arc<Gate>,
    local: Arc<Local>,
    room: Room<F>,
    go: G,
    address: SocketAddr,
    spoken: Http3,
    /// Handshakes in progress.
    shaking: Count,
}

impl<F, G> Door<F, G>
where
    F: Future<Output = Response<Reply>> + Send + 'static,
    G: Fn(Begun) -> F + Copy + Send + 'static,
{
    fn open(&self) -> io::Result<Endpoint> {
        let mut config = EndpointConfig::default();
        config.supported_versions(vec![1]);
        Endpoint::new(config, None, bind(self.address)?, Arc::new(TokioRuntime))
    }

    /// Until it is wanted no more or the node drains, and then until every connection has ended or is cut. `true`: it is wanted
    /// again before that, on the same port.
    async fn serve(&self, endpoint: &Endpoint, wanted: &mut watch::Receiver<bool>, draining: &mut Draining) -> bool {
        // Connections drain with the node, or with this listener.
        let ours = Drain::new();
        let (alive, mut ended) = mpsc::channel::<()>(1);
        endpoint.set_server_config(Some(settings(&self.certificates, &self.gate.bounds)));
        self.spoken.set(true);
        loop {
            tokio::select! {
                biased;
                () = draining.until(Phase::Draining) => break,
                _ = wanted.wait_for(|wanted| !*wanted) => break,
                incoming = endpoint.accept() => match incoming {
                    Some(incoming) => self.welcome(incoming, &alive, ours.listen()),
                    None => break,
                },
            }
        }
        self.spoken.set(false);
        endpoint.set_server_config(None);
        ours.begin();
        drop(alive);
        tokio::select! {
            biased;
            _ = ended.recv() => false,
            () = draining.until(Phase::Cut) => {
                endpoint.close(varint(code::NO_ERROR), b"the node ends");
                false
            }
            Ok(_) = wanted.wait_for(|wanted| *wanted), if draining.phase() == Phase::Serving => {
                // A drain that is dropped cuts.
                tokio::spawn(async move {
                    let _all_gone = ended.recv().await;
                    drop(ours);
                });
                true
            }
        }
    }

    fn welcome(&self, incoming: quinn::Incoming, alive: &mpsc::Sender<()>, draining: Draining) {
        let gate = &self.gate;
        if gate.pressure.is_full(gate.in_flight.now()) {
            gate.telemetry.connection_ended("memory");
            return incoming.refuse();
        }
        let proven = incoming.remote_address_validated() || !incoming.may_retry();
        if !proven && (self.shaking.now() >= RETRY_ABOVE || gate.pressure.is_on()) {
            let _may = incoming.retry();
            return;
        }
        let (here, node) = (self.connections.enter(gate.bounds.connections), gate.connections.enter(usize::MAX));
        let (Some(here), Some(node), Some(shaking)) = (here, node, self.shaking.enter(usize::MAX)) else {
            gate.telemetry.connection_ended("too_many_connections");
            return incoming.refuse();
        };
        let comer = connection::Comer {
            gate: Arc::clone(gate),
            local: Arc::clone(&self.local),
            certificates: Arc::clone(&self.certificates),
            port: self.address.port(),
            held: Held { _listener: here, _node: node, _alive: alive.clone() },
            draining,
        };
        tokio::spawn(connection::serve(incoming, comer, shaking, (self.room.clone(), self.go)));
    }
}

fn settings(certificates: &Arc<Certificates>, bounds: &Bounds) -> ServerConfig {
    let mut transport = TransportConfig::default();
    let idle = IdleTimeout::try_from(bounds.idle_timeout.max(Duration::from_secs(1)));
    transport
        .max_concurrent_bidi_streams(VarInt::from_u32(bounds.h2_streams))
        .max_concurrent_uni_streams(VarInt::from_u32(UNI_STREAMS))
        .stream_receive_window(VarInt::from_u32(bounds.h2_stream_window))
        .receive_window(VarInt::from_u32(bounds.h2_connection_window))
        .send_window(SEND_WINDOW)
        .datagram_receive_buffer_size(None)
        .max_idle_timeout(idle.ok())
        .keep_alive_interval(Some(PING.min(bounds.idle_timeout / 3)));
    let mut config = ServerConfig::with_crypto(certificates.over_quic());
    config
        .transport_config(Arc::new(transport))
        // Limits and logs go by the address that was proven when the connection began.
        .migration(false)
        .max_incoming(1_024)
        .incoming_buffer_size(16 << 10)
        .incoming_buffer_size_total(4 << 20);
    config
}

fn bind(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    if address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    socket.set_nonblocking(true)?;
    // All connections share it; the kernel gives what it allows.
    let _as_much = socket.set_recv_buffer_size(2 << 20).and_then(|()| socket.set_send_buffer_size(2 << 20));
    socket.bind(&address.into())?;
    Ok(socket.into())
}
