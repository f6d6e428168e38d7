//! Making a connection: name, TCP, TLS; for HTTP/2 also the handshake, and the one task that drives it from then on.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsRawFd as _;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tidegate_policy::{Protocol, Upstream};
use tidegate_tls::rustls::ClientConfig;
use tidegate_tls::rustls::pki_types::ServerName;
use tidegate_tls::tokio_rustls::TlsConnector;
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tracing::debug;

use crate::announce;
use crate::checkout::Want;
use crate::endpoint::{Address, Endpoint};
use crate::h1::{Exchange, One};
use crate::names::Names;
use crate::outgoing::Outgoing;
use crate::pool::{Line, Open, Pool};
use crate::shard::Shard;
use crate::wire::{Socket, Wire};
use crate::{BoxError, Whom};

const STREAM_WINDOW: u32 = 1024 * 1024;
const CONNECTION_WINDOW: u32 = 4 * 1024 * 1024;
const MAX_HEADER_BYTES: u32 = 64 * 1024;
/// An HTTP/2 connection that carries streams but no frames is asked whether it lives.
const PING_EVERY: Duration = Duration::from_secs(20);
const PING_TIMEOUT: Duration = Duration::from_secs(10);

/// How an upstream is connected to: one per upstream and document.
#[derive(Debug)]
pub(crate) struct Connector {
    upstream: Arc<Upstream>,
    names: Arc<Names>,
    tls: OnceLock<Result<Offers, String>>,
}

/// TLS settings by what ALPN offers.
#[derive(Debug)]
struct Offers {
    usual: Arc<ClientConfig>,
    http1: Arc<ClientConfig>,
}

impl Connector {
    pub(crate) fn new(upstream: Arc<Upstream>, names: Arc<Names>) -> Self {
        Self { upstream, names, tls: OnceLock::new() }
    }

    /// Do both lead to the same kind of connection?
    pub(crate) fn is_like(&self, other: &Upstream) -> bool {
        let own = &self.upstream;
        (own.protocol, &own.tls, own.announce) == (other.protocol, &other.tls, other.announce)
    }

    /// May a connection to `endpoint` turn out to be HTTP/2?
    pub(crate) fn may_share(&self, endpoint: &Endpoint) -> bool {
        match self.upstream.protocol {
            Protocol::Http2 => true,
            Protocol::Http1 => false,
            Protocol::Auto => endpoint.address.https && endpoint.pool.speaks.http2() != Some(false),
        }
    }

    pub(crate) async fn connect(
        &self,
        endpoint: &Arc<Endpoint>,
        open: Open,
        shard: Shard,
        want: Want<'_>,
    ) -> Result<Line, BoxError> {
        let (address, upgrade) = (&endpoint.address, want.upgrade);
        let tcp = self.tcp(address, want.whom.map_or(&Whom::Ourselves, |whom| whom)).await?;
        let (socket, http2) = if address.https {
            self.tls(address, tcp, upgrade).await?
        } else {
            (Socket::Clear(tcp), self.upstream.protocol == Protocol::Http2)
        };
        if !upgrade {
            endpoint.pool.speaks.learn(http2);
        }
        if http2 { many(endpoint, socket, open, shard, want.whom).await } else { Ok(one(socket, open, want.whom)) }
    }

    /// A socket of its own, for a check; and whether HTTP/2 is spoken on it.
    pub(crate) async fn socket(&self, address: &Address, http2: bool) -> Result<(Socket, bool), BoxError> {
        let tcp = self.tcp(address, &Whom::Ourselves).await?;
        if address.https {
            let (socket, chosen) = self.tls(address, tcp, false).await?;
            return Ok((socket, chosen || http2));
        }
        Ok((Socket::Clear(tcp), http2 || self.upstream.protocol == Protocol::Http2))
    }

    /// A connection that says for whom it is made, where that is to be said.
    pub(crate) async fn tcp(&self, address: &Address, whom: &Whom) -> Result<TcpStream, BoxError> {
        let mut tcp = self.reach(address).await?;
        if let Some(version) = self.upstream.announce {
            announce::say(&mut tcp, version, whom).await?;
        }
        Ok(tcp)
    }

    async fn reach(&self, address: &Address) -> Result<TcpStream, BoxError> {
        if let Some(ip) = address.ip {
            return Ok(dial(ip, address.port).await?);
        }
        let mut last: BoxError = "the name has no address".into();
        for ip in self.names.addresses(&address.host).await? {
            match dial(ip, address.port).await {
                Ok(tcp) => return Ok(tcp),
                Err(why) => last = why.into(),
            }
        }
        Err(last)
    }

    async fn tls(&self, address: &Address, tcp: TcpStream, upgrade: bool) -> Result<(Socket, bool), BoxError> {
        let offers = self.tls.get_or_init(|| self.offers()).as_ref().map_err(Clone::clone)?;
        let name = self.upstream.tls.server_name.as_ref().unwrap_or(&address.host);
        let name = ServerName::try_from(name.trim_start_matches('[').trim_end_matches(']').to_owned())?;
        let config = if upgrade { &offers.http1 } else { &offers.usual };
        let stream = TlsConnector::from(Arc::clone(config)).connect(name, tcp).await?;
        let http2 = match stream.get_ref().1.alpn_protocol() {
            Some(chosen) => chosen == b"h2",
            // A peer that ignores ALPN is taken at the document's word.
            None => self.upstream.protocol == Protocol::Http2 && !upgrade,
        };
        Ok((Socket::Tls(Box::new(stream)), http2))
    }

    fn offers(&self) -> Result<Offers, String> {
        let usual: &[&[u8]] = match self.upstream.protocol {
            Protocol::Auto => &[b"h2", b"http/1.1"],
            Protocol::Http1 => &[b"http/1.1"],
            Protocol::Http2 => &[b"h2"],
        };
        let client = |alpn| tidegate_tls::client(&self.upstream.tls, alpn).map_err(|why| why.to_string());
        Ok(Offers { usual: client(usual)?, http1: client(&[b"http/1.1"])? })
    }
}

/// Descriptors that upstreams' connections may bring this process to.
static MOST_DESCRIPTORS: AtomicUsize = AtomicUsize::new(usize::MAX);

/// Connections to upstreams leave the descriptors beyond `most` to others. Of the whole process, as descriptors are.
pub fn bound_descriptors(most: usize) {
    MOST_DESCRIPTORS.store(most, Relaxed);
}

async fn dial(ip: IpAddr, port: u16) -> io::Result<TcpStream> {
    let tcp = TcpStream::connect(SocketAddr::new(ip, port)).await?;
    // The kernel gives the lowest number that is free.
    if usize::try_from(tcp.as_raw_fd()).is_ok_and(|number| number >= MOST_DESCRIPTORS.load(Relaxed)) {
        return Err(io::Error::other("no file descriptor is left for upstreams"));
    }
    tcp.set_nodelay(true)?;
    Ok(tcp)
}

fn one(socket: Socket, open: Open, whom: Option<&Arc<Whom>>) -> Line {
    Line::One(One::new(Exchange::new(Wire::new(socket, open, None)), whom.cloned()))
}

async fn many(
    endpoint: &Arc<Endpoint>,
    socket: Socket,
    open: Open,
    shard: Shard,
    whom: Option<&Arc<Whom>>,
) -> Result<Line, BoxError> {
    let (heard, mut peer_spoke) = oneshot::channel();
    let (settle, settled) = oneshot::channel();
    let io = TokioIo::new(Wire::new(socket, open, Some(heard)));
    let (send, mut connection) = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_header_list_size(MAX_HEADER_BYTES)
        .keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(PING_TIMEOUT)
        .handshake::<_, Outgoing>(io)
        .await?;
    let room = Arc::new(AtomicUsize::new(1));
    let told = Arc::clone(&room);
    tokio::spawn(async move {
        let mut settle = Some(settle);
        let ended = std::future::poll_fn(|cx| {
            if settle.is_some() && Pin::new(&mut peer_spoke).poll(cx).is_ready() {
                settle.take().map(|settle| settle.send(()));
            }
            let polled = Pin::new(&mut connection).poll(cx);
            told.store(connection.current_max_send_streams(), Relaxed);
            polled
        });
        if let Err(why) = ended.await {
            debug!(%why, "upstream connection ended");
        }
    });
    // The peer's SETTINGS come first (RFC 9113 § 3.4) and say how many streams it takes. Without waiting for them, a
    // burst would queue on one connection; and a peer that does not speak HTTP/2 is found out here.
    settled.await.map_err(|_| "the connection ended before the peer's HTTP/2 settings")?;
    tokio::task::yield_now().await;
    if send.is_closed() {
        return Err("the peer does not speak HTTP/2".into());
    }
    Ok(Line::Many(Pool::add_trunk(endpoint, shard, send, room, whom)))
}
