//! One request and its answer on their stream. The request goes the way of all requests ([`request::serve`]); the answer is written
//! piece by piece, the next when QUIC has taken the one before.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use h3::error::StreamError;
use h3::server::{RequestResolver, RequestStream};
use http::header::{CONNECTION, CONTENT_LENGTH, DATE, TRANSFER_ENCODING, UPGRADE};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body::Body;
use tokio::time::timeout;
use tracing::debug;

use super::line::Line;
use super::quic::{Asked, Quic, Sending, Stopped};
use super::upload::Upload;
use super::{code, fields};
use crate::connection::{Client, Room};
use crate::malformed;
use crate::received::Received;
use crate::refusal::Refusal;
use crate::reply::Reply;
use crate::request::{self, Begun};

type Outward = RequestStream<Sending<Bytes>, Bytes>;

/// Why an answer was not sent to its end.
enum Unsent {
    /// The client wants no more of it.
    GivenUp,
    /// It took nothing for too long.
    Slow,
    /// The answer broke, or the connection.
    Broken,
}

pub(super) async fn serve<F: Future<Output = Response<Reply>> + Send + 'static>(
    resolver: RequestResolver<Quic, Bytes>,
    (line, mut stopped): Asked,
    room: Room<F>,
    go: impl FnOnce(Begun) -> F,
) {
    let client = Arc::clone(&line.common.client);
    let Some((request, send)) = read(resolver, &line, &client).await else { return };
    let method = request.method().clone();
    let mut serving = pin!(request::serve(Arc::clone(&client), &room, request, go));
    let response = tokio::select! {
        biased;
        Ok(response) = &mut serving => response,
        () = &mut stopped => {
            line.ends_with(code::REQUEST_CANCELLED);
            return line.is_given_up();
        }
    };
    let patience = client.gate.bounds.stall_timeout;
    match answer(send, response, &method, &mut stopped, patience).await {
        Ok(()) => {
            line.common.answered();
            // Until the client has it: a connection that is closed before takes it back.
            let _heard = timeout(client.gate.bounds.send_timeout, stopped).await;
        }
        Err(Unsent::GivenUp) => line.is_given_up(),
        Err(Unsent::Slow) => client.gate.telemetry.connection_ended("slow_reader"),
        Err(Unsent::Broken) => {}
    }
}

/// The request as the others see it. `None`: there is none, and the stream has ended.
async fn read(
    resolver: RequestResolver<Quic, Bytes>,
    line: &Arc<Line>,
    client: &Client,
) -> Option<(Request<Received>, Outward)> {
    let resolved = match timeout(client.gate.bounds.head_timeout, resolver.resolve_request()).await {
        Ok(resolved) => resolved,
        Err(_) => {
            debug!(client = %client.address, "an HTTP/3 request's head did not end in time");
            return None;
        }
    };
    let (request, stream) = match resolved {
        Ok(resolved) => resolved,
        Err(why) => {
            if matches!(why, StreamError::HeaderTooBig { .. }) {
                // h3 has answered it; this is for the record.
                drop(malformed::recorded(&Refusal::HeadersTooLarge, client, ""));
            }
            debug!(client = %client.address, %why, "no HTTP/3 request");
            return None;
        }
    };
    line.begins();
    let (parts, ()) = request.into_parts();
    let length = fields::vet(&parts).and_then(|()| fields::length(&parts.headers));
    let length = match length {
        Ok(length) => length,
        Err(why) => return malformed(line, client, why),
    };
    let (send, receive) = stream.split();
    let mut upload = Upload::new(receive, length, Arc::clone(line));
    if !upload.looks().await {
        if line.code() == code::NO_ERROR {
            line.ends_with(code::REQUEST_INCOMPLETE);
        }
        return None;
    }
    Some((Request::from_parts(parts, Received::Quic(Box::new(upload))), send))
}

/// § 4.1.2: a stream error.
fn malformed<T>(line: &Line, client: &Client, why: &'static str) -> Option<T> {
    debug!(client = %client.address, why, "a malformed HTTP/3 request");
    line.ends_with(code::MESSAGE_ERROR);
    None
}

async fn answer(
    mut to: Outward,
    response: Response<Reply>,
    method: &Method,
    stopped: &mut Stopped,
    patience: Duration,
) -> Result<(), Unsent> {
    let (mut parts, body) = response.into_parts();
    let bodiless = method == Method::HEAD
        || matches!(parts.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED | StatusCode::RESET_CONTENT);
    dress(&mut parts, &body);
    within(to.send_response(Response::from_parts(parts, ())), stopped, patience).await?;
    if !bodiless {
        let mut body = pin!(body);
        while !body.is_end_stream() {
            let frame = tokio::select! {
                biased;
                frame = poll_fn(|cx| body.as_mut().poll_frame(cx)) => frame,
                () = &mut *stopped => return Err(Unsent::GivenUp),
            };
            let Some(frame) = frame else { break };
            let Ok(frame) = frame else { return Err(Unsent::Broken) };
            match frame.into_data() {
                Ok(data) if data.is_empty() => {}
                Ok(data) => within(to.send_data(data), stopped, patience).await?,
                Err(frame) => {
                    if let Ok(trailers) = frame.into_trailers() {
                        within(to.send_trailers(trailers), stopped, patience).await?;
                    }
                    break;
                }
            }
        }
    }
    within(to.finish(), stopped, patience).await
}

/// What hyper would add, and take away (§ 4.2).
fn dress(parts: &mut http::response::Parts, body: &Reply) {
    let headers = &mut parts.headers;
    for name in [CONNECTION, TRANSFER_ENCODING, UPGRADE] {
        headers.remove(name);
    }
    for name in ["keep-alive", "proxy-connection"] {
        headers.remove(name);
    }
    let length = body.size_hint().exact().filter(|_| !body.is_end_stream());
    if let Some(length) = length.filter(|_| !headers.contains_key(CONTENT_LENGTH)) {
        headers.insert(CONTENT_LENGTH, length.into());
    }
    if !headers.contains_key(DATE) {
        let now = SystemTime::UNIX_EPOCH + Duration::from_nanos(tidegate_clock::wall().0);
        if let Ok(now) = HeaderValue::try_from(httpdate::fmt_http_date(now)) {
            headers.insert(DATE, now);
        }
    }
}

async fn within<T>(
    sends: impl Future<Output = Result<T, StreamError>>,
    stopped: &mut Stopped,
    patience: Duration,
) -> Result<T, Unsent> {
    tokio::select! {
        biased;
        sent = timeout(patience, sends) => match sent {
            Ok(Ok(sent)) => Ok(sent),
            Ok(Err(StreamError::RemoteTerminate { .. })) => Err(Unsent::GivenUp),
            Ok(Err(_)) => Err(Unsent::Broken),
            Err(_) => Err(Unsent::Slow),
        },
        () = stopped => Err(Unsent::GivenUp),
    }
}
