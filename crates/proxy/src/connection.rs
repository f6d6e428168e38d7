//! One client connection: telling HTTP/1.1 from h2, serving it, and ending it when the client is too slow or the node
//! drains.

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use http::Response;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use socket2::SockRef;
use tidegate_tls::tokio_rustls::server::TlsStream;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep_until, timeout};
use tracing::debug;

use crate::bounds::Bounds;
use crate::drain::{Draining, Phase, Told};
use crate::http1::Machine;
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

/// How connections of a listener are spoken to: built once.
#[derive(Clone)]
pub(crate) struct Speech {
    http2: http2::Builder<TokioExecutor>,
}

impl Speech {
    pub(crate) fn new(bounds: &Bounds) -> Self {
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
        Self { http2 }
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
    S: AsyncRead + AsyncWrite + Cut + Unpin + Send + 'static,
    F: Future<Output = Response<Reply>> + Send + 'static,
{
    let (version, mut first) = match version {
        Some(version) => (version, Bytes::new()),
        None => match timeout(client.gate.bounds.head_timeout, first_words(&mut socket, draining)).await {
            Ok(Some(told)) => told,
            Ok(None) => return,
            Err(_) => return client.ended(Some(Late::Head)),
        },
    };
    client.speaks(version);
    // Machines are boxed: a connection that rests has none, and few speak h2.
    match version {
        Version::Http1 => {
            let mut work = (room, go);
            loop {
                let mut machine = Box::new(Machine::new(socket, first, client.clone(), work));
                let late = match drive(Pin::new(&mut *machine), &client, draining).await {
                    End::Rests => None,
                    End::Over => return client.ended(None),
                    End::Late(late) => Some(late),
                };
                let (left, unread, again) = machine.into_parts();
                if let Some(late) = late {
                    client.ended(Some(late));
                    // Nothing is in flight: the head never ended, so the socket is ours to answer on.
                    if let (Late::Head, Some(left)) = (late, left) {
                        tell_late(left, &client).await;
                    }
                    return;
                }
                let Some(left) = left else { return client.ended(None) };
                (socket, work, first) = (left, again, unread);
                if first.is_empty() {
                    first = match rest(&mut socket, &client, draining).await {
                        Some(first) => first,
                        None => return,
                    };
                }
            }
        }
        Version::Http2 => {
            let wire = TokioIo::new(Wire::new(socket, first, client.clone()));
            let answer = client.clone();
            let service =
                service_fn(move |request| request::serve(answer.clone(), &room, request.map(Received::Hyper), go));
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

/// A socket that can end in the middle of what is said, so that nobody takes it for the whole.
pub(crate) trait Cut {
    /// Its end will be a reset, though some of what was said is lost by that.
    fn cut(&self);
}

impl Cut for TcpStream {
    fn cut(&self) {
        let _best_effort = SockRef::from(self).set_linger(Some(Duration::ZERO));
    }
}

/// Without a `close_notify` either.
impl Cut for TlsStream<TcpStream> {
    fn cut(&self) {
        self.get_ref().0.cut();
    }
}

pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

trait Driven {
    /// Ready: it is over; with the rule that its client broke, as the metrics call it, if it did.
    fn poll_on(self: Pin<&mut Self>, client: &Client, cx: &mut Context<'_>) -> Poll<Option<&'static str>>;
    fn finish_and_close(self: Pin<&mut Self>);
}

impl<S, F, G> Driven for Machine<S, F, G>
where
    S: AsyncRead + AsyncWrite + Cut + Unpin + Send + 'static,
    F: Future<Output = Response<Reply>> + Send + 'static,
    G: Fn(Begun) -> F + Copy + Send + 'static,
{
    fn poll_on(self: Pin<&mut Self>, _: &Client, cx: &mut Context<'_>) -> Poll<Option<&'static str>> {
        Machine::poll_on(self.get_mut(), cx).map(|()| None)
    }

    fn finish_and_close(self: Pin<&mut Self>) {
        Machine::finish_and_close(self.get_mut());
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
    fn poll_on(self: Pin<&mut Self>, client: &Client, cx: &mut Context<'_>) -> Poll<Option<&'static str>> {
        self.poll(cx).map(|ended| {
            let why = ended.err()?;
            debug!(client = %client.address, %why, "connection ended");
            broken_rule(&why)
        })
    }

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
        if let Poll::Ready(broken) = connection.as_mut().poll_on(client, cx) {
            if let Some(reason) = broken {
                client.is_at_fault(reason);
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
