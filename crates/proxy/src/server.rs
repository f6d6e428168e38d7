//! Listeners: accept, count, hand over. [`serve`] runs on whatever runtime calls it: once on a shared one, or once per
//! core with a socket of its own ([`bind`] with `share`).

use std::io;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use http::{HeaderValue, Response};
use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};
use tidegate_tls::Certificates;
use tidegate_tls::tokio_rustls::server::TlsStream;
use tokio::net::{TcpListener, TcpStream};
use tracing::{debug, warn};

use crate::announced;
use crate::connection::{self, Client, Held, Promised, Room, Speech, Version};
use crate::drain::{Draining, Phase};
use crate::gate::{Count, Gate};
use crate::local::Local;
use crate::malformed;
use crate::refusal::Refusal;
use crate::reply::Reply;
use crate::request::{self, Begun};

/// One bound socket and how it is spoken on.
#[derive(Debug)]
pub struct Listener {
    /// As in node.toml: `http`, `https`.
    pub name: Arc<str>,
    pub socket: StdListener,
    /// `None`: clear text.
    pub tls: Option<Arc<Certificates>>,
    /// Open connections of this listener: share one [`Count`] between the sockets of one name.
    pub connections: Count,
    /// Of TLS: whether HTTP/3 is spoken beside it.
    pub http3: Http3,
}

/// Is HTTP/3 spoken on the UDP port of the same number? Shared by those who do so and those who tell clients.
#[derive(Debug, Clone, Default)]
pub struct Http3(Arc<AtomicBool>);

impl Http3 {
    #[must_use]
    pub fn is_spoken(&self) -> bool {
        self.0.load(Relaxed)
    }

    #[cfg(feature = "h3")]
    pub(crate) fn set(&self, spoken: bool) {
        self.0.store(spoken, Relaxed);
    }
}

/// A socket that has its address; clients are refused until [`listen`] is called. `share`: several sockets may be bound to the
/// same address and the kernel spreads connections over them (`SO_REUSEPORT`).
///
/// # Errors
/// The address is taken, not ours, or needs rights we lack.
pub fn bind(address: SocketAddr, share: bool) -> io::Result<StdListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if share {
        socket.set_reuse_port(true)?;
    }
    if address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    Ok(socket.into())
}

/// From now on clients can connect, and wait for [`serve`]. Harmless to a socket that listens already.
///
/// # Errors
/// Somebody else listens on the address since it was bound.
pub fn listen(socket: &StdListener) -> io::Result<()> {
    SockRef::from(socket).listen(BACKLOG)
}

const BACKLOG: i32 = 4_096;

/// A client that vanished without a word is found out after two minutes, whatever its connection waits for.
const KEEPALIVE: TcpKeepalive =
    TcpKeepalive::new().with_time(Duration::from_secs(60)).with_interval(Duration::from_secs(20)).with_retries(3);

/// Accepts and serves until the node drains or another process accepts in its place, then until every connection has ended or is cut.
///
/// # Errors
/// The socket cannot be used with this runtime.
pub async fn serve(listener: Listener, gate: Arc<Gate>, mut draining: Draining) -> io::Result<()> {
    let Listener { name, socket, tls, connections, http3 } = listener;
    let socket = TcpListener::from_std(socket)?;
    let speech = Arc::new(Speech::new(&gate.bounds));
    let local = Local::new(&gate);
    let room = Room::new();
    let go = request::go;
    let door = Door { name, tls, connections, http3, speech, gate, local, room, go, draining: draining.clone() };
    let (alive, mut ended) = tokio::sync::mpsc::channel::<()>(1);
    loop {
        tokio::select! {
            biased;
            accepted = socket.accept() => door.welcome(accepted, &alive).await,
            () = draining.until(Phase::Passing) => break,
        }
    }
    if draining.phase() != Phase::Passing {
        door.clear_queue(&socket, &alive).await;
    }
    drop((socket, alive, door));
    let _all_senders_gone = ended.recv().await;
    Ok(())
}

struct Door<F, G> {
    name: Arc<str>,
    tls: Option<Arc<Certificates>>,
    connections: Count,
    http3: Http3,
    speech: Arc<Speech>,
    gate: Arc<Gate>,
    local: Arc<Local>,
    /// Where requests are worked on, and how.
    room: Room<F>,
    go: G,
    draining: Draining,
}

type Accepted = io::Result<(TcpStream, SocketAddr)>;

impl<F, G> Door<F, G>
where
    F: Future<Output = Response<Reply>> + Send + 'static,
    G: Fn(Begun) -> F + Copy + Send + 'static,
{
    async fn welcome(&self, accepted: Accepted, alive: &tokio::sync::mpsc::Sender<()>) {
        let (socket, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(why) => return self.cannot_accept(&why).await,
        };
        if self.gate.pressure.is_beyond(&socket) {
            self.call_for_room();
            self.gate.telemetry.connection_ended("descriptors");
            return turn_away(socket, self.tls.is_none());
        }
        if self.gate.pressure.is_full(self.gate.in_flight.now()) {
            self.gate.telemetry.connection_ended("memory");
            return turn_away(socket, self.tls.is_none());
        }
        let (here, node) =
            (self.connections.enter(self.gate.bounds.connections), self.gate.connections.enter(usize::MAX));
        let (Some(here), Some(node)) = (here, node) else {
            self.gate.telemetry.connection_ended("too_many_connections");
            return turn_away(socket, self.tls.is_none());
        };
        let _nagle = socket.set_nodelay(true);
        let _patience = SockRef::from(&socket).set_tcp_keepalive(&KEEPALIVE);
        let Ok(address) = socket.local_addr() else { return };
        let (gate, local) = (self.gate.clone(), self.local.clone());
        let (speech, tls, draining) = (self.speech.clone(), self.tls.clone(), self.draining.clone());
        let work = (self.room.clone(), self.go);
        let held = Held { _listener: here, _node: node, _alive: alive.clone() };
        let http3 = self.tls.is_some().then(|| self.http3.clone());
        tokio::spawn(async move {
            let mut who = Who { gate, local, peer, address, held, http3 };
            let mut socket = socket;
            if who.is_announced() && !who.announced(&mut socket).await {
                return;
            }
            match tls {
                // Boxed, for it is several times as large as what a connection in clear text needs.
                Some(certificates) => Box::pin(secure(socket, certificates, who, &speech, work, draining)).await,
                None => {
                    let client = who.client(None, None, draining.clone());
                    connection::serve(socket, None, client, &speech, work, &mut { draining }).await;
                }
            }
        });
    }

    /// Descriptors are short: connections that nobody uses end.
    fn call_for_room(&self) {
        if self.gate.pressure.may_call() {
            warn!(listener = %self.name, "few file descriptors are left: idle connections are closed");
            self.draining.make_room();
        }
    }

    /// Out of descriptors or memory: wait a little instead of spinning. A client that left is nothing.
    async fn cannot_accept(&self, why: &io::Error) {
        use io::ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted};
        if !matches!(why.kind(), ConnectionAborted | ConnectionReset | Interrupted) {
            self.call_for_room();
            warn!(listener = %self.name, %why, "cannot accept");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// What the kernel took before the listener closes is served, not reset.
    async fn clear_queue(&self, socket: &TcpListener, alive: &tokio::sync::mpsc::Sender<()>) {
        while let Ok(accepted) = tokio::time::timeout(Duration::ZERO, socket.accept()).await {
            let failed = accepted.is_err();
            self.welcome(accepted, alive).await;
            if failed {
                return;
            }
        }
    }
}

struct Who {
    gate: Arc<Gate>,
    local: Arc<Local>,
    peer: SocketAddr,
    address: SocketAddr,
    held: Held,
    http3: Option<Http3>,
}

impl Who {
    /// Does this peer say first whose the connection is?
    fn is_announced(&self) -> bool {
        let peer = self.peer.ip().to_canonical();
        self.gate.snapshot.load().announced_by.iter().any(|network| network.contains(&peer))
    }

    /// Takes the peer's word for both ends. `false`: it gave none.
    async fn announced(&mut self, socket: &mut TcpStream) -> bool {
        match tokio::time::timeout(self.gate.bounds.head_timeout, announced::read(socket)).await {
            Ok(Ok(None)) => true,
            Ok(Ok(Some(ends))) => {
                (self.peer, self.address) = (ends.client, ends.here);
                true
            }
            Ok(Err(why)) => {
                debug!(peer = %self.peer, %why, "a connection that was to be announced");
                false
            }
            Err(_) => {
                debug!(peer = %self.peer, "a connection was not announced in time");
                false
            }
        }
    }

    fn client(self, tls: Option<&'static str>, promised: Option<Promised>, draining: Draining) -> Arc<Client> {
        let mut client = Client::new(self.gate, self.local, self.peer, self.address, tls, draining, self.held);
        (client.promised, client.http3) = (promised, self.http3);
        Arc::new(client)
    }
}

async fn secure<F: Future<Output = Response<Reply>> + Send + 'static>(
    socket: TcpStream,
    certificates: Arc<Certificates>,
    who: Who,
    speech: &Speech,
    work: (Room<F>, impl Fn(Begun) -> F + Copy + Send + 'static),
    mut draining: Draining,
) {
    let patience = who.gate.bounds.handshake_timeout;
    let socket = match tokio::time::timeout(patience, certificates.accept(socket)).await {
        Ok(Ok(socket)) => socket,
        Ok(Err(why)) => return debug!(peer = %who.peer, %why, "no TLS"),
        Err(_) => {
            who.gate.telemetry.connection_ended("handshake_timeout");
            return debug!(peer = %who.peer, "TLS handshake timed out");
        }
    };
    let (version, tls) = agreed(&socket);
    let name = socket.get_ref().1.server_name().map(Into::into);
    let shown = socket.get_ref().1.peer_certificates().and_then(<[_]>::first).map(|shown| client_cert(shown));
    let client = who.client(Some(tls), Some(Promised { certificates, name, shown }), draining.clone());
    connection::serve(socket, version, client, speech, work, &mut draining).await;
}

/// As RFC 9440 § 2.1 writes it: a byte sequence of structured fields (RFC 8941 § 3.3.5).
pub(crate) fn client_cert(der: &[u8]) -> HeaderValue {
    let text = format!(":{}:", BASE64.encode(der));
    HeaderValue::try_from(text).expect("base64 and colons")
}

fn agreed(socket: &TlsStream<TcpStream>) -> (Option<Version>, &'static str) {
    use tidegate_tls::rustls::ProtocolVersion::TLSv1_3;
    let (_, session) = socket.get_ref();
    let version = match session.alpn_protocol() {
        Some(b"h2") => Some(Version::Http2),
        Some(_) => Some(Version::Http1),
        None => None,
    };
    (version, if session.protocol_version() == Some(TLSv1_3) { "TLSv1.3" } else { "TLSv1.2" })
}

/// Too many connections: 503 in clear text, nothing in TLS (a handshake would cost what we lack). Best effort: a new
/// socket has room for this, and nobody waits.
fn turn_away(socket: TcpStream, clear: bool) {
    if clear {
        let (answer, _id) = malformed::answer(&Refusal::Overloaded, "");
        let _best_effort = socket.try_write(&answer);
    }
}
