//! One check of one endpoint, over a connection of its own: a kept one would say that the endpoint was well when it was
//! made.

use bytes::{BufMut, Bytes, BytesMut};
use http::header::{CONTENT_TYPE, HOST, TE, USER_AGENT};
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tidegate_policy::Check;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::AbortHandle;

use crate::connect::Connector;
use crate::endpoint::Address;
use crate::wire::Socket;
use crate::{BoxError, Whom};

/// More of an answer is not read.
const MOST: usize = 64 * 1024;
const AGENT: &str = "tidegate-health";

/// Ends with the check.
struct Driven(AbortHandle);

impl Drop for Driven {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// # Errors
/// Why it is not well.
pub(super) async fn ask(connector: &Connector, address: &Address, check: &Check) -> Result<(), BoxError> {
    match check {
        Check::Tcp => connector.tcp(address, &Whom::Ourselves).await.map(drop),
        Check::Http { path, host, statuses } => {
            let (socket, http2) = connector.socket(address, false).await?;
            let authority = host.clone().unwrap_or_else(|| authority(address));
            let uri = if http2 { format!("{}://{authority}{path}", scheme(address)) } else { path.clone() };
            let mut request = Request::get(uri).header(USER_AGENT, AGENT);
            if !http2 {
                request = request.header(HOST, authority);
            }
            let (response, _driven) = send(socket, http2, request.body(Full::default())?).await?;
            let status = response.status().as_u16();
            let good = statuses.iter().any(|(first, last)| (*first..=*last).contains(&status));
            if good { Ok(()) } else { Err(format!("status {status}").into()) }
        }
        Check::Grpc { service } => {
            let (socket, _) = connector.socket(address, true).await?;
            let uri = format!("{}://{}/grpc.health.v1.Health/Check", scheme(address), authority(address));
            let request = Request::post(uri)
                .header(USER_AGENT, AGENT)
                .header(CONTENT_TYPE, "application/grpc")
                .header(TE, "trailers")
                .body(Full::new(question(service)))?;
            let (response, _driven) = send(socket, true, request).await?;
            serving(response).await
        }
    }
}

async fn send(
    socket: Socket,
    http2: bool,
    request: Request<Full<Bytes>>,
) -> Result<(Response<Incoming>, Driven), BoxError> {
    match socket {
        Socket::Clear(tcp) => send_on(tcp, http2, request).await,
        Socket::Tls(tls) => send_on(tls, http2, request).await,
    }
}

async fn send_on<S: AsyncRead + AsyncWrite + Send + Unpin + 'static>(
    socket: S,
    http2: bool,
    request: Request<Full<Bytes>>,
) -> Result<(Response<Incoming>, Driven), BoxError> {
    let io = TokioIo::new(socket);
    if http2 {
        let (mut sender, connection) = http2::handshake(TokioExecutor::new(), io).await?;
        let driven = Driven(tokio::spawn(async move { drop(connection.await) }).abort_handle());
        return Ok((sender.send_request(request).await?, driven));
    }
    let (mut sender, connection) = http1::handshake(io).await?;
    let driven = Driven(tokio::spawn(async move { drop(connection.await) }).abort_handle());
    Ok((sender.send_request(request).await?, driven))
}

fn scheme(address: &Address) -> &'static str {
    if address.https { "https" } else { "http" }
}

fn authority(address: &Address) -> String {
    if address.host.contains(':') {
        format!("[{}]:{}", address.host, address.port)
    } else {
        format!("{}:{}", address.host, address.port)
    }
}

/// `HealthCheckRequest { service }` in its gRPC frame. Names are at most 256 bytes long.
fn question(service: &str) -> Bytes {
    let mut message = BytesMut::new();
    if !service.is_empty() {
        message.put_u8(0x0a); // Field 1, length-delimited.
        let length = service.len();
        if length >= 0x80 {
            message.put_u8(u8::try_from(length & 0x7f).unwrap_or(0) | 0x80);
            message.put_u8(u8::try_from(length >> 7).unwrap_or(0));
        } else {
            message.put_u8(u8::try_from(length).unwrap_or(0));
        }
        message.put_slice(service.as_bytes());
    }
    let mut frame = BytesMut::new();
    frame.put_u8(0);
    frame.put_u32(u32::try_from(message.len()).unwrap_or(0));
    frame.put(message);
    frame.freeze()
}

async fn serving(response: Response<Incoming>) -> Result<(), BoxError> {
    if response.status() != http::StatusCode::OK {
        return Err(format!("status {}", response.status()).into());
    }
    well(response.headers(), true)?;
    let body = Limited::new(response.into_body(), MOST).collect().await?;
    if let Some(trailers) = body.trailers() {
        well(trailers, false)?;
    }
    // `HealthCheckResponse { status: SERVING = 1 }`, uncompressed, is these bytes; other fields may follow.
    let bytes = body.to_bytes();
    match bytes.get(..7) {
        Some([0, _, _, _, _, 0x08, 1]) => Ok(()),
        Some([0, _, _, _, _, 0x08, other]) => Err(format!("serving status {other}").into()),
        _ => Err("not an answer of grpc.health.v1".into()),
    }
}

/// `first`: the headers, in which a status is only there when nothing else comes.
fn well(headers: &HeaderMap, first: bool) -> Result<(), BoxError> {
    match headers.get("grpc-status").map(http::HeaderValue::as_bytes) {
        Some(b"0") => Ok(()),
        None if first => Ok(()),
        other => Err(format!("grpc-status {:?}", other.map(String::from_utf8_lossy)).into()),
    }
}
