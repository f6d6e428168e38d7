//! A gate with a snapshot of the test's making, and clients to talk to it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use arc_swap::ArcSwap;
use http::{Method, Version};
use tidegate_auth::{KeyEntry, Keys};
use tidegate_cache::Cache;
use tidegate_limiter::{Limiter, Settings};
use tidegate_model::{Incarnation, KeyId, NodeId, Revision};
use tidegate_policy::{
    Action, Balance, Consumer, ConsumerLimits, Endpoint, PathPattern, Protocol, Rare, Retries, Rewrite, Route, Router,
    Snapshot, Target, Upstream, UpstreamTimeouts, UpstreamTls,
};
use tidegate_proxy::{Bounds, Count, Drain, Gate, Http3, Listener, bind, listen, serve};
use tidegate_telemetry::Telemetry;
use tidegate_tls::Certificates;
use tidegate_upstream::Upstreams;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

pub(crate) const KEY: &str = "tg_test";
/// Nothing on loopback takes so long; a test that waits longer hangs.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) struct World {
    pub(crate) address: SocketAddr,
    pub(crate) gate: Arc<Gate>,
    pub(crate) drain: Drain,
    pub(crate) serving: JoinHandle<std::io::Result<()>>,
}

pub(crate) struct Setup {
    pub(crate) snapshot: Snapshot,
    pub(crate) bounds: Bounds,
    pub(crate) tls: Option<Arc<Certificates>>,
    pub(crate) cache: Option<Arc<Cache>>,
}

impl Setup {
    pub(crate) fn routes(routes: Vec<Route>) -> Self {
        let consumer = Consumer {
            models: None,
            residency: None,
            class: None,
            name: "acme".into(),
            tenant: "default".into(),
            team: None,
            plan: None,
            limits: ConsumerLimits::default(),
        };
        let snapshot = Snapshot {
            revision: Revision(1),
            router: Router::new(routes.into_iter().map(Arc::new).collect()),
            consumers: vec![Arc::new(consumer)].into(),
            ..Snapshot::default()
        };
        Self { snapshot, bounds: Bounds::default(), tls: None, cache: None }
    }

    pub(crate) fn bounds(mut self, change: impl FnOnce(&mut Bounds)) -> Self {
        change(&mut self.bounds);
        self
    }

    pub(crate) fn keeping(mut self) -> Self {
        self.cache = Some(Cache::start(tidegate_cache::Settings::default()).unwrap());
        self
    }

    pub(crate) fn trusting_loopback(mut self) -> Self {
        self.snapshot.trusted_proxies = vec!["127.0.0.0/8".parse().unwrap()];
        self
    }

    pub(crate) async fn start(self) -> World {
        tidegate_tls::install();
        let keys = Keys::new();
        let entry = |id, consumer: &str| KeyEntry {
            id: KeyId(id),
            tenant: "default".into(),
            consumer: consumer.into(),
            plan: None,
            not_after: None,
        };
        keys.insert(tidegate_auth::hash(KEY.as_bytes()), entry(1, "acme").into());
        keys.insert(tidegate_auth::hash(b"tg_orphan"), entry(2, "nobody").into());
        let limiter = Limiter::new(Settings {
            node: NodeId(1),
            incarnation: Incarnation(1),
            secret: [7; 16],
            most_keys: 1_000,
            decisions: None,
        });
        let gate = Arc::new(Gate {
            snapshot: Arc::new(ArcSwap::from_pointee(self.snapshot)),
            keys: Arc::new(keys),
            issuers: Arc::default(),
            limiter,
            upstreams: Upstreams::new(),
            telemetry: Telemetry::start(&tidegate_policy::Telemetry::default()).unwrap(),
            bounds: self.bounds,
            cache: self.cache,
            keys_stale: Arc::new(AtomicBool::new(false)),
            blocks: Arc::default(),
            challenges: Arc::default(),
            seen: Arc::default(),
            fleet: Arc::default(),
            tokens: Arc::default(),
            in_flight: Count::default(),
            connections: Count::default(),
            resting: Count::default(),
            pressure: Arc::default(),
        });
        let socket = bind("127.0.0.1:0".parse().unwrap(), false).unwrap();
        listen(&socket).unwrap();
        let address = socket.local_addr().unwrap();
        let listener = Listener {
            name: "http".into(),
            socket,
            tls: self.tls,
            connections: Count::default(),
            http3: Http3::default(),
        };
        let drain = Drain::new();
        let serving = tokio::spawn(serve(listener, gate.clone(), drain.listen()));
        World { address, gate, drain, serving }
    }
}

impl World {
    /// Sends these bytes, reads until the gate closes. Ask for `Connection: close`.
    pub(crate) async fn raw(&self, request: impl AsRef<[u8]>) -> String {
        let mut socket = self.connect().await;
        socket.write_all(request.as_ref()).await.unwrap();
        rest(&mut socket).await
    }

    pub(crate) async fn connect(&self) -> TcpStream {
        let socket = TcpStream::connect(self.address).await.unwrap();
        socket.set_nodelay(true).unwrap();
        socket
    }

    pub(crate) async fn get(&self, path: &str) -> Reply {
        self.ask("GET", path, "").await
    }

    /// `headers`: whole lines with their CRLF.
    pub(crate) async fn ask(&self, method: &str, path: &str, headers: &str) -> Reply {
        let has_host = headers.to_ascii_lowercase().lines().any(|line| line.starts_with("host:"));
        let host = if has_host { "" } else { "host: gate.test\r\n" };
        Reply::parse(&self.raw(format!("{method} {path} HTTP/1.1\r\n{host}connection: close\r\n{headers}\r\n")).await)
    }
}

/// Everything until the end, or until nothing came for too long.
pub(crate) async fn rest(socket: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    let read = tokio::time::timeout(PATIENCE, socket.read_to_end(&mut bytes)).await;
    if let Ok(Err(why)) = &read {
        eprintln!("read: {why}");
    }
    assert!(read.is_ok(), "the gate did not close; so far: {}", String::from_utf8_lossy(&bytes));
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Reads up to and including `end`.
pub(crate) async fn until(socket: &mut (impl tokio::io::AsyncRead + Unpin), end: &str) -> String {
    let mut bytes = Vec::new();
    while !bytes.ends_with(end.as_bytes()) {
        let byte = tokio::time::timeout(PATIENCE, socket.read_u8()).await.expect("no more came");
        match byte {
            Ok(byte) => bytes.push(byte),
            Err(_) => panic!("closed before {end:?}: {}", String::from_utf8_lossy(&bytes)),
        }
    }
    String::from_utf8(bytes).unwrap()
}

/// An HTTP/1.1 answer, taken apart.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Reply {
    pub(crate) fn parse(text: &str) -> Self {
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {text:?}"));
        let status = head.split(' ').nth(1).and_then(|s| s.parse().ok()).unwrap_or_else(|| panic!("{head}"));
        Self { status, head: head.to_ascii_lowercase(), body: body.to_owned() }
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        let body = if self.header("transfer-encoding").is_some() { dechunk(&self.body) } else { self.body.clone() };
        serde_json::from_str(&body).unwrap_or_else(|why| panic!("{why}: {body:?}"))
    }

    pub(crate) fn code(&self) -> String {
        self.json()["error"]["code"].as_str().unwrap().to_owned()
    }

    /// What the backend was sent.
    pub(crate) fn sent(&self, header: &str) -> Vec<String> {
        let headers = self.json()["headers"].as_array().unwrap().clone();
        let named = headers.iter().filter(|pair| pair[0] == header);
        named.map(|pair| pair[1].as_str().unwrap().to_owned()).collect()
    }

    pub(crate) fn target(&self) -> String {
        self.json()["target"].as_str().unwrap_or_else(|| panic!("{}", self.body)).to_owned()
    }
}

pub(crate) fn dechunk(body: &str) -> String {
    let (mut rest, mut whole) = (body, String::new());
    while let Some((size, after)) = rest.split_once("\r\n") {
        let size = usize::from_str_radix(size.trim(), 16).unwrap();
        if size == 0 {
            break;
        }
        whole.push_str(&after[..size]);
        rest = &after[size + 2..];
    }
    whole
}

pub(crate) fn upstream(address: SocketAddr) -> Arc<Upstream> {
    upstream_with(address, |_| {})
}

pub(crate) fn upstream_with(address: SocketAddr, change: impl FnOnce(&mut Upstream)) -> Arc<Upstream> {
    let mut upstream = Upstream {
        id: format!("backend-{}", address.port()).into(),
        endpoints: vec![Endpoint::Url {
            https: false,
            host: address.ip().to_string(),
            port: address.port(),
            weight: 1,
        }],
        balance: Balance::RoundRobin,
        protocol: Protocol::Auto,
        timeouts: UpstreamTimeouts {
            connect: Duration::from_secs(2),
            first_byte: Duration::from_secs(10),
            total: None,
            idle: Duration::from_secs(10),
        },
        retries: Retries { max: 0, budget: 0.0, on: vec![], unsafe_methods: false },
        max_connections: 100,
        max_idle: 10,
        idle_timeout: Duration::from_secs(30),
        tls: UpstreamTls::default(),
        breaker: None,
        overload: None,
        hedge: None,
        health: None,
        announce: None,
    };
    change(&mut upstream);
    Arc::new(upstream)
}

/// A route for everything below `prefix`, of any host.
pub(crate) fn route(prefix: &str, to: &Arc<Upstream>) -> Route {
    let target = Target { upstream: to.clone(), weight: 1 };
    with_action(prefix, Action::Forward { to: vec![target].into(), rewrite: Rare::default() })
}

pub(crate) fn with_action(prefix: &str, action: Action) -> Route {
    Route {
        id: format!("route {prefix}").into(),
        tenant: "default".into(),
        hosts: Rare::default(),
        path: PathPattern::Prefix(prefix.trim_end_matches('/').into()),
        methods: vec![],
        headers: Rare::default(),
        query: Rare::default(),
        priority: 0,
        action,
        auth: vec![],
        claims: Rare::default(),
        claim_headers: std::sync::Arc::default(),
        limits: Rare::default(),
        cors: None,
        request_headers: Rare::default(),
        response_headers: Rare::default(),
        timeouts: Rare::default(),
        max_body: 1 << 20,
        min_body_rate: 240,
        upgrade: false,
        early_hints: false,
        grpc_web: false,
        decompress: false,
        compression: None,
        class: None,
        cache: None,
    }
}

pub(crate) fn rewriting(mut route: Route, rewrite: Rewrite) -> Route {
    if let Action::Forward { rewrite: old, .. } = &mut route.action {
        *old = rewrite.into();
    }
    route
}

/// Waits for what must become true soon.
pub(crate) async fn soon(what: &str, mut holds: impl FnMut() -> bool) {
    let end = tokio::time::Instant::now() + PATIENCE;
    while !holds() {
        assert!(tokio::time::Instant::now() < end, "never: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// An h2 client in clear text, with prior knowledge.
pub(crate) async fn h2c(
    world: &World,
) -> hyper::client::conn::http2::SendRequest<http_body_util::combinators::BoxBody<bytes::Bytes, std::io::Error>> {
    let socket = hyper_util::rt::TokioIo::new(world.connect().await);
    let executor = hyper_util::rt::TokioExecutor::new();
    let (send, connection) = hyper::client::conn::http2::handshake(executor, socket).await.unwrap();
    tokio::spawn(connection);
    send
}

pub(crate) fn h2_get(path: &str) -> http::Request<http_body_util::combinators::BoxBody<bytes::Bytes, std::io::Error>> {
    use http_body_util::BodyExt;
    http::Request::builder()
        .method(Method::GET)
        .version(Version::HTTP_2)
        .uri(format!("http://gate.test{path}"))
        .body(http_body_util::Empty::new().map_err(|never| match never {}).boxed())
        .unwrap()
}
