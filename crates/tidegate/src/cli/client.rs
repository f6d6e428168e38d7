//! The CLI's side of the admin API: one request, one typed answer or one [`Error`].

use std::net::IpAddr;
use std::path::Path;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::uri::Scheme;
use http::{HeaderValue, Method, Request, StatusCode, Uri, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::client::legacy;
use hyper_util::rt::TokioExecutor;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tidegate_admin::proto::cluster::cluster_client::ClusterClient;
use tidegate_admin::wire::{ErrorBody, ErrorReply};
use tidegate_policy::TlsIdentity;

use super::exit::Error;
use super::{Global, Secret};
use crate::connect::Connector;

pub(super) const DEFAULT_ADMIN: &str = "http://127.0.0.1:7080";
const TOKEN_FILE: &str = "tidegate-data/admin.token";
/// For an answer that waits for nothing but the cluster.
const PATIENCE: Duration = Duration::from_secs(35);
/// The largest answer is a backup with many budgets.
const MAX_ANSWER: usize = 2 << 30;

#[derive(Clone)]
pub(super) struct Client {
    base: Uri,
    token: Option<Secret>,
    connector: Connector,
}

/// One request under construction.
pub(super) struct Ask {
    method: Method,
    path: String,
    if_match: Option<u64>,
    body: Bytes,
    patience: Duration,
}

pub(super) type Grpc = legacy::Client<Connector, tonic::body::Body>;

impl Client {
    pub(super) fn new(global: &Global) -> Result<Self, Error> {
        let base = parse(&global.admin)?;
        let connector = if base.scheme() == Some(&Scheme::HTTPS) {
            let ca = global.admin_ca.as_deref().map(read).transpose()?;
            let own = global.client_cert.as_deref().zip(global.client_key.as_deref());
            let own =
                own.map(|(chain, key)| Ok::<_, Error>(TlsIdentity { chain_pem: read(chain)?, key_pem: read(key)? }));
            Connector::tls_as(ca, own.transpose()?, &[b"h2", b"http/1.1"]).map_err(Error::Local)?
        } else {
            Connector::plain()
        };
        let given = global.token.as_ref().map(|token| token.0.trim()).filter(|token| !token.is_empty());
        let token = match given {
            Some(token) => Some(Secret(token.to_owned())),
            // Who shows a certificate is known by it.
            None if is_local(&base) && global.client_cert.is_none() => {
                std::fs::read_to_string(TOKEN_FILE).ok().map(|text| Secret(text.trim().to_owned()))
            }
            None => None, // A local token is no business of another machine.
        };
        Ok(Self { base, token, connector })
    }

    pub(super) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Error> {
        self.send(Ask::new(Method::GET, path)).await
    }

    /// The same with another node.
    pub(super) fn at(&self, address: &str) -> Self {
        let scheme = self.base.scheme_str().unwrap_or("http");
        let base = format!("{scheme}://{address}").parse().unwrap_or_else(|_| self.base.clone());
        Self { base, ..self.clone() }
    }

    /// What is no JSON, and when the node says that it was.
    pub(super) async fn text(&self, path: &str) -> Result<(String, Option<SystemTime>), Error> {
        let (parts, body) = self.whole(Ask::new(Method::GET, path)).await?;
        if !parts.status.is_success() {
            return Err(no(parts.status, &body));
        }
        let date = parts.headers.get(header::DATE).and_then(|date| date.to_str().ok());
        let date = date.and_then(|date| httpdate::parse_http_date(date).ok());
        Ok((String::from_utf8_lossy(&body).into_owned(), date))
    }

    pub(super) async fn send<T: DeserializeOwned>(&self, ask: Ask) -> Result<T, Error> {
        let (status, body) = self.raw(ask).await?;
        if !status.is_success() {
            return Err(no(status, &body));
        }
        serde_json::from_slice(&body)
            .map_err(|error| Error::Unreachable(format!("{} is no Tidegate admin port: {error}", self.base)))
    }

    /// What is no JSON: a file.
    pub(super) async fn bytes(&self, ask: Ask) -> Result<Bytes, Error> {
        let (status, body) = self.raw(ask).await?;
        if status.is_success() { Ok(body) } else { Err(no(status, &body)) }
    }

    async fn raw(&self, ask: Ask) -> Result<(StatusCode, Bytes), Error> {
        self.whole(ask).await.map(|(parts, body)| (parts.status, body))
    }

    async fn whole(&self, ask: Ask) -> Result<(http::response::Parts, Bytes), Error> {
        let patience = ask.patience;
        let request = self.request(ask)?;
        // One request a process: nothing is kept for a second one.
        let http = legacy::Client::builder(TokioExecutor::new()).build(self.connector.clone());
        let answer = async {
            let response = http.request(request).await.map_err(|error| self.unreachable(&error))?;
            let (parts, body) = response.into_parts();
            let body = Limited::new(body, MAX_ANSWER).collect().await;
            let body = body.map_err(|error| self.unreachable(error.as_ref()))?;
            Ok((parts, body.to_bytes()))
        };
        match tokio::time::timeout(patience, answer).await {
            Ok(answer) => answer,
            Err(_) => Err(Error::Unreachable(format!("{} did not answer within {} s", self.base, patience.as_secs()))),
        }
    }

    fn request(&self, ask: Ask) -> Result<Request<Full<Bytes>>, Error> {
        let base = self.base.to_string();
        let mut request =
            Request::builder().method(ask.method).uri(format!("{}{}", base.trim_end_matches('/'), ask.path));
        if let Some(value) = self.authorization()? {
            request = request.header(header::AUTHORIZATION, value);
        }
        if let Some(revision) = ask.if_match {
            request = request.header(header::IF_MATCH, format!("\"{revision}\""));
        }
        request
            .header(header::ACCEPT, "application/json")
            .header(header::USER_AGENT, concat!("tidegate/", env!("CARGO_PKG_VERSION")))
            .body(Full::new(ask.body))
            .map_err(|error| Error::Usage(format!("{}: {error}", self.base)))
    }

    /// `authorization: Bearer …`, marked so that it is never printed.
    pub(super) fn authorization(&self) -> Result<Option<HeaderValue>, Error> {
        let Some(token) = &self.token else { return Ok(None) };
        let mut value = HeaderValue::from_str(&format!("Bearer {}", token.0))
            .map_err(|_| Error::Usage("the token holds characters no token has".to_owned()))?;
        value.set_sensitive(true);
        Ok(Some(value))
    }

    /// gRPC over the same connections: HTTP/2 with prior knowledge, or by ALPN.
    pub(super) fn grpc(&self) -> ClusterClient<Grpc> {
        let http = legacy::Client::builder(TokioExecutor::new()).http2_only(true).build(self.connector.clone());
        ClusterClient::with_origin(http, self.base.clone())
    }

    pub(super) fn base(&self) -> &Uri {
        &self.base
    }

    pub(super) fn unreachable(&self, error: &(dyn std::error::Error + 'static)) -> Error {
        let mut why = error.to_string();
        let mut source = error.source();
        while let Some(cause) = source {
            why = cause.to_string(); // The innermost says it best: "Connection refused".
            source = cause.source();
        }
        let is_tls = self.base.scheme() == Some(&Scheme::HTTPS);
        let hint = if is_tls && why.contains("InvalidContentType") {
            " (it seems to speak no TLS: http://…)"
        } else if !is_tls && why.contains("invalid HTTP version") {
            " (it seems to speak TLS: https://…)"
        } else {
            ""
        };
        Error::Unreachable(format!("cannot reach {}: {why}{hint}", self.base))
    }
}

impl Ask {
    pub(super) fn new(method: Method, path: &str) -> Self {
        Self { method, path: path.to_owned(), if_match: None, body: Bytes::new(), patience: PATIENCE }
    }

    /// `path`, then a name that may hold anything, then `rest`.
    pub(super) fn at(method: Method, path: &str, name: &str, rest: &str) -> Self {
        let mut ask = Self::new(method, path);
        encode(&mut ask.path, name);
        ask.path.push_str(rest);
        ask
    }

    pub(super) fn json(mut self, body: &impl Serialize) -> Self {
        self.body = serde_json::to_vec(body).expect("the wire types are JSON").into();
        self
    }

    pub(super) fn text(mut self, body: String) -> Self {
        self.body = body.into();
        self
    }

    pub(super) fn if_match(mut self, revision: Option<u64>) -> Self {
        self.if_match = revision;
        self
    }

    /// Adds `name=value` to the query.
    pub(super) fn query(mut self, name: &str, value: &str) -> Self {
        self.path.push(if self.path.contains('?') { '&' } else { '?' });
        self.path.push_str(name);
        self.path.push('=');
        encode(&mut self.path, value);
        self
    }

    /// The node may take so long on purpose.
    pub(super) fn waiting(mut self, wait: Duration) -> Self {
        self.patience = PATIENCE.saturating_add(wait);
        self
    }
}

fn encode(path: &mut String, value: &str) {
    for byte in value.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => path.push(char::from(byte)),
            _ => path.push_str(&format!("%{byte:02X}")),
        }
    }
}

fn no(status: StatusCode, body: &[u8]) -> Error {
    match serde_json::from_slice::<ErrorReply>(body) {
        Ok(reply) => Error::Refused(Box::new(reply.error)),
        Err(_) => Error::Refused(Box::new(ErrorBody {
            code: "unknown".to_owned(),
            message: format!("the admin port answered {status} and no more"),
            request_id: String::new(),
            hint: None,
            problems: Vec::new(),
            revision: None,
        })),
    }
}

fn parse(admin: &str) -> Result<Uri, Error> {
    let wrong = |why: &str| Error::Usage(format!("--admin {admin}: {why}"));
    let with_scheme = if admin.contains("://") { admin.to_owned() } else { format!("http://{admin}") };
    let uri: Uri = with_scheme.parse().map_err(|_| wrong("not a URL"))?;
    match uri.scheme_str() {
        Some("http" | "https") => {}
        _ => return Err(wrong("http:// or https://")),
    }
    if uri.path() != "/" || uri.query().is_some() {
        return Err(wrong("a URL without a path"));
    }
    Ok(uri)
}

fn is_local(base: &Uri) -> bool {
    let host = base.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

fn read(path: &Path) -> Result<Vec<u8>, Error> {
    std::fs::read(path).map_err(|error| Error::Usage(format!("{}: {error}", path.display())))
}
