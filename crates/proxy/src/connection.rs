//! One client connection: telling HTTP/1.1 from h2, serving it, and ending it when the client is too slow or the node
//! drains.

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use http::Response;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::time::{Instant, sleep_until, timeout};
use tracing::debug;

use crate::bounds::Bounds;
use crate::drain::{Draining, Phase, Told};
use crate::received::Received;
use crate::refusal::Refusal;
use crate::reply::Reply;
use crate::request::Begun;
use crate::wire::Wire;
use crate::{malformed, request};

mod client;
mod parked;
mod rest;
mod room;

pub(crate) use client::{Client, Exchange, Held, Late, Promised};
use rest::{first_words, rest};
pub(crate) use room::{Guest, Room};

/// So many header fields hyper parses without allocating, as long as no other number was asked for.
const ON_STACK: usize = 100;

/// How connections of a listener are spoken to: built once.
#[derive(Clone)]
pub(crate) struct Speech {
    http1: http1::Builder,
    http2: http2::Builder<TokioExecutor>,
}

impl Speech {
    pub(crate) fn new(bounds: &Bounds) -> Self {
        let mut http1 = http1::Builder::new();
        http1
            .half_close(false)
            .keep_alive(true)
            // With it on, hyper closes without having sent its own 400 or 431 when bytes are left to read.
            .pipeline_flush(false)
            .max_header_size(bounds.head_bytes)
            .max_buf_size(bounds.head_bytes.max(bounds.read_buffer))
            .header_read_timeout(None); // A timer per request; `Watch` needs one per connection.
        if bounds.headers != ON_STACK {
            http1.max_headers(bounds.headers);
        }
        let mut http2 = http2::Builder::new(TokioExecutor::new());
        http2
            .timer(TokioTimer::new())
            .enable_connect_protocol()
            .max_concurrent_streams(bounds.h2_streams)
            .max_header_list_size(u32::try_from(bounds.head_bytes).unwrap_or(u32::MAX))
            .max_pending_accept_reset_streams(bounds.h2_resets)
            .max_local_error_reset_streams(bounds.h2_resets * 8)
            .initial_stream_window_size(bounds.h2_stream_window)
            .initial_connection_window_size(bounds.h2_connection_window)
            .max_send_buf_size(bounds.h2_send_buffer)
            .keep_alive_interval(bounds.h2_ping)
            .keep_alive_timeout(bounds.h2_ping_timeout);
        Self { http1, http2 }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Version {
    Http1,
    Http2,
    #[cfg(feature = "h3")]
    Http3,
}

/// Serves until the client leaves, is told to, or is cut. `version`: what ALPN said, if anything. `go`: what is done with a
/// request, in a place of `room`.
pub(crate) async fn serve<S, F>(
    mut socket: S,
    version: Option<Version>,
    client: Arc<Client>,
    speech: &Speech,
    (room, go): (Room<F>, impl Fn(Begun) -> F + Copy + Send + 'static),
    draining: &mut Draining,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    F: Future<Output = Response<Reply>> + Send + 'static,
{
    let (version, mut first) = match version {
        Some(version) => (version, Bytes::new()),
        None => match timeout(client.gate.bounds.head_timeout, first_words(&mut socket, draining)).await {
            Ok(Some(told)) => told,
            Ok(None) | Err(_) => return,
        },
    };
    client.speaks(version);
    let answer = client.clone();
    let mut service =
        service_fn(move |request| request::serve(answer.clone(), &room, request.map(Received::Hyper), go));
    // Machines are boxed: a connection that rests has none, and few speak h2.
    match version {
        Version::Http1 => loop {
            let wire = TokioIo::new(Wire::new(socket, first, client.clone(), true));
            let mut connection = Box::new(speech.http1.serve_connection(wire, service).with_upgrades());
            let late = match drive(Pin::new(&mut *connection), &client, draining).await {
                End::Rests => None,
                End::Over => return client.ended(None),
                End::Late(late) => Some(late),
            };
            let parts = connection.into_parts();
            if let Some(late) = late {
                client.ended(Some(late));
                // Nothing is in flight: the head never ended, so the socket is ours to answer on.
                if let (Late::Head, Some(parts)) = (late, parts) {
                    tell_late(parts.io.into_inner(), &client).await;
                }
                return;
            }
            let Some(parts) = parts else { return client.ended(None) };
            let unread = parts.read_buf;
            (socket, service) = (parts.io.into_inner().into_socket(), parts.service);
            // Empty lines before a head are nothing (RFC 9112 § 2.2).
            first = if unread.iter().all(|byte| matches!(byte, b'\r' | b'\n')) {
                drop(unread);
                match rest(&mut socket, &client, draining).await {
                    Some(first) => first,
                    None => return,
                }
            } else {
                // The beginning of a head that came behind a request: until it is one, nothing rests here.
                client.leaves_unread();
                unread
            };
        },
        Version::Http2 => {
            let wire = TokioIo::new(Wire::new(socket, first, client.clone(), false));
            let mut connection = Box::pin(speech.http2.serve_connection(wire, service));
            match drive(connection.as_mut(), &client, draining).await {
                End::Late(late) => client.ended(Some(late)),
                End::Over | End::Rests => client.ended(None),
            }
        }
        #[cfg(feature = "h3")]
        Version::Http3 => {} // Not over a stream of bytes.
    }
}

pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

trait Driven: Future<Output = hyper::Result<()>> {
    fn finish_and_close(self: Pin<&mut Self>);
}

impl<I, B, S> Driven for http1::UpgradeableConnection<I, S>
where
    S: hyper::service::HttpService<hyper::body::Incoming, ResBody = B>,
    S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    I: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
    B: http_body::Body + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    fn finish_and_close(self: Pin<&mut Self>) {
        self.graceful_shutdown();
    }
}

impl<I, B, S, E> Driven for http2::Connection<I, S, E>
where
    S: hyper::service::HttpService<hyper::body::Incoming, ResBody = B>,
    S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    I: hyper::rt::Read + hyper::rt::Write + Unpin,
    B: http_body::Body + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    E: hyper::rt::bounds::Http2ServerConnExec<S::Future, B>,
{
    fn finish_and_close(self: Pin<&mut Self>) {
        self.graceful_shutdown();
    }
}

/// How driving a connection ended.
enum End {
    Over,
    /// The client was too slow and is to be dropped.
    Late(Late),
    /// It has been idle for a while, and says nothing more until its client does (`rest`).
    Rests,
}

/// Runs a connection to its end, or until it may rest.
///
/// One timer per connection. It is moved only to an earlier end, or when it fires: a busy connection touches it about
/// once in `idle_timeout`, not once per request.
async fn drive<C: Driven>(mut connection: Pin<&mut C>, client: &Client, draining: &Draining) -> End {
    let idle = client.gate.bounds.idle_timeout;
    let mut timer = pin!(sleep_until(client.deadline().map_or_else(|| Instant::now() + idle, |(end, _)| end)));
    let mut phases = pin!(draining.changes());
    let mut closing = false;
    let mut heard: Option<Waker> = None;
    std::future::poll_fn(move |cx| {
        if let Poll::Ready(ended) = connection.as_mut().poll(cx) {
            if let Err(why) = ended {
                debug!(client = %client.address, %why, "connection ended");
                if let Some(reason) = broken_rule(&why) {
                    client.is_at_fault(reason);
                }
            }
            return Poll::Ready(End::Over);
        }
        let sooner = next(client, closing).filter(|end| *end < timer.deadline());
        let known = heard.as_ref().is_some_and(|waker| waker.will_wake(cx.waker()));
        if known && sooner.is_none() && !timer.is_elapsed() && phases.is_quiet() {
            return Poll::Pending; // As nearly always: both will wake us.
        }
        heard = Some(cx.waker().clone());
        while let Poll::Ready(told) = phases.as_mut().poll_next(cx) {
            let phase = match told {
                Told::Phase(phase) => phase,
                Told::MakeRoom => {
                    if !closing && client.has_been_idle(IDLE_ENOUGH) {
                        closing = true;
                        client.is_at_fault("descriptors");
                        connection.as_mut().finish_and_close();
                        cx.waker().wake_by_ref();
                    }
                    continue;
                }
            };
            if phase == Phase::Cut {
                return Poll::Ready(End::Over);
            }
            if phase == Phase::Draining && !closing {
                closing = true;
                connection.as_mut().finish_and_close();
                cx.waker().wake_by_ref();
            }
        }
        if let Some(end) = sooner {
            timer.as_mut().reset(end);
        }
        while timer.as_mut().poll(cx).is_ready() {
            let now = Instant::now();
            if !closing && client.rests_at().is_some_and(|at| at <= now) {
                return Poll::Ready(End::Rests);
            }
            match client.deadline() {
                None => timer.as_mut().reset(now + idle),
                Some((end, _)) if end > now => timer.as_mut().reset(next(client, closing).unwrap_or(end)),
                // An idle h2 client is told before it is left.
                Some((_, Late::Idle)) if client.is_multiplexed() && !closing => {
                    closing = true;
                    client.is_at_fault(Late::Idle.reason());
                    connection.as_mut().finish_and_close();
                    cx.waker().wake_by_ref();
                    timer.as_mut().reset(now + GOODBYE);
                    heard = None; // The timer that rang knows no waker any more.
                    return Poll::Pending;
                }
                Some((_, late)) => return Poll::Ready(End::Late(late)),
            }
        }
        Poll::Pending
    })
    .await
}

/// When something is to be done unless the client does.
fn next(client: &Client, closing: bool) -> Option<Instant> {
    let (end, _) = client.deadline()?;
    let rests = client.rests_at().filter(|_| !closing);
    Some(rests.map_or(end, |rests| rests.min(end)))
}

/// Why the h2 crate itself ended a connection, as the metrics call it. `None`: it did not.
fn broken_rule(why: &hyper::Error) -> Option<&'static str> {
    use h2::Reason;
    let mut source = std::error::Error::source(why);
    while let Some(cause) = source {
        if let Some(why) = cause.downcast_ref::<h2::Error>() {
            return why.is_library().then(|| match why.reason() {
                Some(Reason::FLOW_CONTROL_ERROR) => "flow_control_error",
                Some(Reason::FRAME_SIZE_ERROR) => "frame_size_error",
                Some(Reason::STREAM_CLOSED) => "stream_closed",
                Some(Reason::COMPRESSION_ERROR) => "compression_error",
                Some(Reason::ENHANCE_YOUR_CALM) => "enhance_your_calm",
                _ => "protocol_error",
            });
        }
        source = cause.source();
    }
    None
}

/// A connection without a request for so long is one that nobody uses.
const IDLE_ENOUGH: Duration = Duration::from_secs(1);

/// How long an idle h2 client has to answer GOAWAY.
const GOODBYE: Duration = Duration::from_secs(5);

/// What nginx does as well: 408, then close. Best effort, never waited for long.
async fn tell_late<S: AsyncRead + AsyncWrite + Unpin>(mut socket: S, client: &Client) {
    let answer = malformed::recorded(&Refusal::HeaderTimeout, client, "");
    let tell = async {
        socket.write_all(&answer).await?;
        socket.shutdown().await
    };
    drop(timeout(Duration::from_secs(1), tell).await);
}
