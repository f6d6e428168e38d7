//! The Redis tier against a real redis-server: shared, slow, dead, full, full of garbage, flushed.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use http_body_util::{BodyExt, Full};
use tidegate_cache::purge::{Epoch, Purge, PurgeEntry};
use tidegate_cache::rules::key::Url;
use tidegate_cache::{Ask, Cache, Changed, Lookup, Next, Settings, TeeBody, remote};
use tidegate_policy::Cache as Policy;

/// A server of our own. Killed when it is dropped.
struct Redis {
    child: Child,
    port: u16,
    _folder: tempfile::TempDir,
}

impl Redis {
    fn start(options: &[&str]) -> Self {
        // Taken by nobody a moment ago; should somebody be quicker, the next port is tried.
        for _ in 0..20 {
            let port = std::net::TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a port").port();
            if let Some(redis) = Self::start_on(port, options) {
                return redis;
            }
        }
        panic!("redis-server does not start");
    }

    fn start_on(port: u16, options: &[&str]) -> Option<Self> {
        let folder = tempfile::tempdir().expect("a folder");
        let mut command = Command::new("redis-server");
        command.args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]);
        command.arg("--dir").arg(folder.path()).args(options).stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = command.spawn().expect("redis-server is installed");
        loop {
            if child.try_wait().expect("a child").is_some() {
                return None;
            }
            if std::net::TcpStream::connect(("127.0.0.1", port)).is_ok() {
                return Some(Self { child, port, _folder: folder });
            }
            std::thread::yield_now();
        }
    }

    fn url(&self) -> String {
        format!("redis://127.0.0.1:{}/", self.port)
    }

    fn signal(&self, name: &str) {
        let status = Command::new("kill").args([name, &self.child.id().to_string()]).status().expect("kill runs");
        assert!(status.success());
    }

    async fn run(&self, command: &[&str]) -> redis::Value {
        let client = redis::Client::open(self.url()).expect("a URL");
        let mut connection = client.get_multiplexed_async_connection().await.expect("a connection");
        let mut packed = redis::cmd(command[0]);
        packed.arg(&command[1..]);
        packed.query_async(&mut connection).await.expect("an answer")
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.child.kill().expect("it can be killed");
        self.child.wait().expect("it ended");
    }
}

/// A node with a cache, and an origin that all nodes of a test share.
#[derive(Clone)]
struct Node {
    cache: Arc<Cache>,
    origin: Arc<Origin>,
}

#[derive(Default)]
struct Origin {
    asked: AtomicUsize,
    takes: Duration,
    headers: HeaderMap,
}

fn origin(lines: &[(&'static str, &'static str)], takes: Duration) -> Arc<Origin> {
    let headers = lines.iter().map(|(n, v)| (n.parse().expect("a name"), HeaderValue::from_static(v))).collect();
    Arc::new(Origin { asked: AtomicUsize::new(0), takes, headers })
}

const FRESH: &[(&str, &str)] = &[("cache-control", "max-age=600"), ("surrogate-key", "tag")];

impl Node {
    async fn start(url: &str, origin: &Arc<Origin>) -> Self {
        let node = Self::begin(url, origin, |_| {});
        node.connected().await;
        node
    }

    fn begin(url: &str, origin: &Arc<Origin>, set: impl FnOnce(&mut remote::Settings)) -> Self {
        let mut redis = remote::Settings::new(url, "test");
        // A loaded machine may take its time; what a test is about is said in the test.
        redis.open_for = Duration::from_millis(100);
        set(&mut redis);
        let settings = Settings { memory: 16 << 20, redis: Some(redis), ..Settings::default() };
        Self { cache: Cache::start(settings).expect("a URL"), origin: Arc::clone(origin) }
    }

    fn remote(&self) -> Arc<remote::Remote> {
        self.cache.remote().expect("it has one")
    }

    async fn connected(&self) {
        until(|| self.remote().is_available()).await;
    }

    async fn get(&self, path: &str) -> (String, String) {
        self.send(path, &HeaderMap::new()).await
    }

    async fn send(&self, path: &str, headers: &HeaderMap) -> (String, String) {
        let policy = Arc::new(Policy::default());
        let ask = Ask {
            policy: &policy,
            tenant: "default",
            route: "r",
            secure: false,
            host: "example.com",
            authority: "example.com",
            own_port: false,
            path,
            query: None,
            method: &Method::GET,
            headers,
            body: None,
            consumer: None,
            credentials: None,
        };
        match self.cache.lookup(&ask).await {
            Lookup::Answer(answer) | Lookup::Refresh(answer, _) => {
                let (parts, body) = answer.response.into_parts();
                text(&parts.headers, body.collect().await.expect("a body").to_bytes())
            }
            Lookup::Fetch(fetch) => {
                let n = self.origin.asked.fetch_add(1, Ordering::SeqCst) + 1;
                tokio::time::sleep(self.origin.takes).await;
                let mut headers = self.origin.headers.clone();
                let body = Bytes::from(format!("{path} {n} {}", "filler ".repeat(400)));
                match fetch.answered(StatusCode::OK, &mut headers) {
                    Next::Relay(Some(tee)) => {
                        let body = TeeBody::new(Full::new(body), tee).collect().await.expect("a body").to_bytes();
                        text(&headers, body)
                    }
                    _ => text(&headers, body),
                }
            }
            Lookup::Pass(_) => panic!("it is for the cache"),
        }
    }

    fn asked(&self) -> usize {
        self.origin.asked.load(Ordering::SeqCst)
    }

    async fn written(&self) {
        until(|| self.remote().queued() == 0).await;
    }
}

fn text(headers: &HeaderMap, body: Bytes) -> (String, String) {
    let body = String::from_utf8(body.to_vec()).expect("text");
    let report = headers["cache-status"].to_str().expect("ASCII").to_owned();
    (body.split(" filler").next().unwrap_or_default().to_owned(), report)
}

async fn until(mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < Duration::from_secs(20), "it never came to hold");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

fn count(counter: &std::sync::atomic::AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_node_fetched_serves_the_others() {
    let redis = Redis::start(&[]);
    let origin = origin(FRESH, Duration::ZERO);
    let (one, two) = (Node::start(&redis.url(), &origin).await, Node::start(&redis.url(), &origin).await);
    assert_eq!(one.get("/a").await.0, "/a 1");
    one.written().await;
    let (body, report) = two.get("/a").await;
    assert!(body == "/a 1" && report.contains("hit"), "{report}");
    // Now from its own memory.
    let before = count(&two.remote().counters.hits);
    two.get("/a").await;
    assert_eq!((one.asked(), count(&two.remote().counters.hits)), (1, before));
    let redis::Value::Array(keys) = redis.run(&["KEYS", "tidegate:test:1:*"]).await else { panic!("a list") };
    assert_eq!(keys.len(), 1);
    let redis::Value::BulkString(name) = &keys[0] else { panic!("a name") };
    let name = std::str::from_utf8(name).expect("ASCII");
    let redis::Value::Int(left) = redis.run(&["PTTL", name]).await else { panic!("a number") };
    assert!(left > 500_000, "{left}");
    let redis::Value::Int(bytes) = redis.run(&["STRLEN", name]).await else { panic!("a number") };
    assert!(bytes < 1_000, "{bytes} bytes: it is not compressed");
}

#[tokio::test(flavor = "multi_thread")]
async fn variants_are_shared_too() {
    let redis = Redis::start(&[]);
    let origin = origin(&[("cache-control", "max-age=600"), ("vary", "accept-language")], Duration::ZERO);
    let (one, two) = (Node::start(&redis.url(), &origin).await, Node::start(&redis.url(), &origin).await);
    let language =
        |text| HeaderMap::from_iter([("accept-language".parse().expect("a name"), HeaderValue::from_static(text))]);
    for text in ["en", "de"] {
        one.send("/a", &language(text)).await;
    }
    one.written().await;
    assert_eq!(two.send("/a", &language("de")).await.0, "/a 2");
    assert_eq!(two.send("/a", &language("en")).await.0, "/a 1");
    assert_eq!(two.send("/a", &language("fr")).await.0, "/a 3");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crowd_over_three_nodes_on_a_cold_key_is_one_fetch() {
    let redis = Redis::start(&[]);
    let origin = origin(FRESH, Duration::from_millis(100));
    // The crowd and the server share two cores with other tests: not the deadline is on trial here.
    let patient = |set: &mut remote::Settings| set.deadline = Duration::from_millis(500);
    let nodes: Vec<Node> = (0..3).map(|_| Node::begin(&redis.url(), &origin, patient)).collect();
    for node in &nodes {
        node.connected().await;
    }
    for round in 0..5 {
        let path = format!("/{round}");
        let crowd: Vec<_> = (0..1_000)
            .map(|n| {
                let (node, path) = (nodes[n % 3].clone(), path.clone());
                tokio::spawn(async move { node.get(&path).await.0 })
            })
            .collect();
        for one in crowd {
            assert_eq!(one.await.expect("no panic"), format!("{path} {}", round + 1));
        }
        assert_eq!(nodes[0].asked(), round + 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_purge_holds_whatever_redis_still_has() {
    let redis = Redis::start(&[]);
    let origin = origin(FRESH, Duration::ZERO);
    let nodes = [Node::start(&redis.url(), &origin).await, Node::start(&redis.url(), &origin).await];
    let tag = Purge::Tag { tenant: "default".into(), tag: "tag".into() };
    nodes[0].get("/a").await;
    nodes[0].written().await;
    assert_eq!(nodes[1].get("/a").await.0, "/a 1");
    for node in &nodes {
        node.cache.purge(&PurgeEntry { epoch: Epoch(1), what: tag.clone() });
    }
    assert_eq!(nodes[1].get("/a").await.0, "/a 2");
    nodes[1].written().await;
    assert_eq!(nodes[0].get("/a").await.0, "/a 2");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_node_fills_that_has_not_heard_of_a_purge_is_void_for_those_who_have() {
    let redis = Redis::start(&[]);
    let origin = origin(FRESH, Duration::ZERO);
    let nodes = [Node::start(&redis.url(), &origin).await, Node::start(&redis.url(), &origin).await];
    let entry = PurgeEntry { epoch: Epoch(1), what: Purge::Tag { tenant: "default".into(), tag: "tag".into() } };
    nodes[1].cache.purge(&entry);
    // Behind, and cut off from the log, but not from Redis.
    assert_eq!(nodes[0].get("/a").await.0, "/a 1");
    nodes[0].written().await;
    assert_eq!(nodes[1].get("/a").await.0, "/a 2", "whatever the clocks say: it may be from before");
    nodes[1].written().await;
    nodes[0].cache.purge(&entry);
    assert_eq!(nodes[0].get("/a").await.0, "/a 2", "once it has heard, its own is void and the other's is not");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_on_one_node_is_heard_by_the_others() {
    let redis = Redis::start(&[]);
    let origin = origin(FRESH, Duration::ZERO);
    let (one, two) = (Node::start(&redis.url(), &origin).await, Node::start(&redis.url(), &origin).await);
    one.get("/a").await;
    one.written().await;
    two.get("/a").await;
    let what = Changed { tenant: "default", host: "example.com", target: "/a", method: &Method::POST };
    one.cache.changed(&what, None, StatusCode::OK, &HeaderMap::new());
    let url = Url { tenant: "default", host: "example.com", path: "/a", query: None };
    until(|| two.cache.stored(&url).is_empty()).await;
    assert_eq!(two.get("/a").await.0, "/a 2");
    two.written().await;
    assert_eq!(one.get("/a").await.0, "/a 2");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_redis_costs_a_few_deadlines_and_is_asked_again_when_it_is_well() {
    let redis = Redis::start(&[]);
    let origin = origin(FRESH, Duration::ZERO);
    let node = Node::start(&redis.url(), &origin).await;
    redis.signal("-STOP");
    let mut longest = Duration::ZERO;
    let start = Instant::now();
    for n in 0..200 {
        let began = Instant::now();
        node.get(&format!("/{n}")).await;
        longest = longest.max(began.elapsed());
    }
    // Each of the first few waited for its deadline, the rest for nothing; the margins are for a loaded machine.
    assert!(
        longest < Duration::from_millis(150) && start.elapsed() < Duration::from_secs(2),
        "{longest:?} {:?}",
        start.elapsed()
    );
    assert!(!node.remote().is_available() && node.remote().given_up() == 1);
    let remote = node.remote();
    let counters = &remote.counters;
    assert!((1..=10).contains(&count(&counters.late)) && count(&counters.dropped) > 100);
    assert_eq!(node.get("/7").await.0, "/7 8", "memory goes on");
    redis.signal("-CONT");
    node.connected().await;
    node.get("/after").await;
    node.written().await;
    until(|| count(&counters.writes) > 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_redis_is_done_without_until_it_is_back() {
    let origin = origin(FRESH, Duration::ZERO);
    let redis = Redis::start(&[]);
    let (port, url) = (redis.port, redis.url());
    let node = Node::start(&url, &origin).await;
    node.get("/a").await;
    drop(redis); // SIGKILL
    for n in 0..100 {
        node.get(&format!("/{n}")).await;
    }
    assert_eq!(node.get("/a").await.0, "/a 1");
    until(|| !node.remote().is_available()).await;
    let again = Redis::start_on(port, &[]).expect("the port is free again");
    node.connected().await;
    node.get("/b").await;
    until(|| count(&node.remote().counters.writes) > 1).await;
    drop(again);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_starts_without_the_redis_it_was_promised() {
    let origin = origin(FRESH, Duration::ZERO);
    let node = Node::begin("redis://127.0.0.1:1/", &origin, |_| {});
    assert_eq!(node.get("/a").await.0, "/a 1");
    assert!(node.get("/a").await.1.contains("hit"));
    assert!(!node.remote().is_available());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_redis_takes_no_more_and_still_answers() {
    let redis = Redis::start(&["--maxmemory", "1mb", "--maxmemory-policy", "noeviction"]);
    let origin = origin(FRESH, Duration::ZERO);
    let node = Node::start(&redis.url(), &origin).await;
    for n in 0..5_000 {
        assert_eq!(node.get(&format!("/{n}")).await.0, format!("/{n} {}", n + 1));
        if count(&node.remote().counters.write_errors) > 0 && n > 10 {
            break;
        }
    }
    until(|| count(&node.remote().counters.write_errors) > 0).await;
    assert!(node.remote().is_available(), "a full server is not a sick one");
    assert!(node.get("/7").await.1.contains("hit"));
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_in_redis_is_a_miss() {
    let redis = Redis::start(&[]);
    let origin = origin(FRESH, Duration::ZERO);
    let one = Node::start(&redis.url(), &origin).await;
    for (n, garbage) in ["", "TGC", "\u{1}\u{2}", "TGC\u{1}12345678rest"].iter().enumerate() {
        let path = format!("/{n}");
        one.get(&path).await;
        one.written().await;
        until(|| count(&one.remote().counters.writes) > 0).await;
        let redis::Value::Array(keys) = redis.run(&["KEYS", "tidegate:test:1:*"]).await else { panic!("a list") };
        for key in keys {
            let redis::Value::BulkString(name) = key else { panic!("a name") };
            redis.run(&["SET", std::str::from_utf8(&name).expect("ASCII"), garbage]).await;
        }
        let other = Node::start(&redis.url(), &origin).await;
        assert_eq!(other.get(&path).await.0, format!("{path} {}", 2 * n + 2));
        assert!(count(&other.remote().counters.garbage) >= 1);
        // A list where a value should be is an error of that one call.
        redis.run(&["FLUSHALL"]).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flushed_redis_is_filled_again() {
    let redis = Redis::start(&[]);
    let origin = origin(FRESH, Duration::ZERO);
    let (one, two) = (Node::start(&redis.url(), &origin).await, Node::start(&redis.url(), &origin).await);
    one.get("/a").await;
    one.written().await;
    redis.run(&["FLUSHALL"]).await;
    assert_eq!(one.get("/a").await.0, "/a 1", "memory is not Redis's to flush");
    assert_eq!(two.get("/a").await.0, "/a 2");
    two.written().await;
    until(|| count(&two.remote().counters.writes) >= 1).await;
    let three = Node::start(&redis.url(), &origin).await;
    assert_eq!(three.get("/a").await.0, "/a 2");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_and_a_user_are_given() {
    let redis = Redis::start(&["--requirepass", "top:secret"]);
    let origin = origin(FRESH, Duration::ZERO);
    let url = format!("redis://:top%3Asecret@127.0.0.1:{}/", redis.port);
    let node = Node::start(&url, &origin).await;
    node.get("/a").await;
    until(|| count(&node.remote().counters.writes) > 0).await;
    let stranger = Node::begin(&redis.url(), &origin, |_| {});
    assert_eq!(stranger.get("/a").await.0, "/a 2");
    assert!(!stranger.remote().is_available());
    assert!(!format!("{:?}", node.cache).contains("secret"));
}

/// `openssl` makes the certificates; without it, or without TLS in the server, there is nothing to try.
#[tokio::test(flavor = "multi_thread")]
async fn tls_is_spoken_to_a_server_that_the_given_authority_vouches_for() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = |name: &str| folder.path().join(name).to_str().expect("UTF-8").to_owned();
    if !certificates(folder.path()) {
        return;
    }
    tidegate_tls::install();
    let (cert, key, ca) = (at("server.pem"), at("server.key"), at("ca.pem"));
    let tls_port = std::net::TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a port").port();
    let port = tls_port.to_string();
    let options = [
        "--tls-port",
        &port,
        "--tls-cert-file",
        &cert,
        "--tls-key-file",
        &key,
        "--tls-ca-cert-file",
        &ca,
        "--tls-auth-clients",
        "no",
    ];
    let _redis = Redis::start(&options);
    let origin = origin(FRESH, Duration::ZERO);
    let url = format!("rediss://localhost:{tls_port}/");
    let pem = std::fs::read(&ca).expect("it was made");
    let node = Node::begin(&url, &origin, |set| set.authority = Some(pem));
    node.connected().await;
    let doubtful = Node::begin(&url, &origin, |_| {});
    doubtful.get("/a").await;
    assert!(!doubtful.remote().is_available());
}

fn certificates(folder: &Path) -> bool {
    let run = |arguments: &str| {
        let status = Command::new("openssl")
            .args(arguments.split(' '))
            .current_dir(folder)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        status.is_ok_and(|status| status.success())
    };
    std::fs::write(folder.join("ext"), "subjectAltName=DNS:localhost").expect("a file");
    run("req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout ca.key -out ca.pem -subj /CN=ca -days 2")
        && run(
            "req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout server.key -out server.csr -subj /CN=localhost",
        )
        && run("x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -out server.pem -days 2 -extfile ext")
}

/// Connections that others than we have open, by the server's numbers.
async fn clients(redis: &Redis) -> Vec<u64> {
    let list = match redis.run(&["CLIENT", "LIST"]).await {
        redis::Value::BulkString(list) => String::from_utf8(list).expect("text"),
        redis::Value::VerbatimString { text, .. } => text,
        other => panic!("a list: {other:?}"),
    };
    let others = list.lines().filter(|line| !line.contains("cmd=client|list"));
    others.map(|line| line.split(['=', ' ']).nth(1).and_then(|id| id.parse().ok()).expect("id=7 addr=…")).collect()
}

/// A connection beyond these.
async fn another(redis: &Redis, known: &[u64], mut meanwhile: impl AsyncFnMut()) -> u64 {
    let end = Instant::now() + Duration::from_secs(20);
    loop {
        meanwhile().await;
        if let Some(new) = clients(redis).await.into_iter().find(|id| !known.contains(id)) {
            return new;
        }
        assert!(Instant::now() < end, "no other connection than {known:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_runtime_that_asks_gets_a_connection_of_its_own_and_another_when_it_breaks() {
    let redis = Redis::start(&[]);
    let origin = origin(FRESH, Duration::ZERO);
    let (one, two) = (Node::start(&redis.url(), &origin).await, Node::start(&redis.url(), &origin).await);
    let mut known = clients(&redis).await;
    let elsewhere =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("threads");
    let mut nth = 0;
    for _ in 0..2 {
        let own = another(&redis, &known, async || {
            nth += 1;
            let (two, path) = (two.clone(), format!("/{nth}"));
            let (body, _) = elsewhere.spawn(async move { two.get(&path).await }).await.expect("it is answered");
            assert!(body.starts_with(&format!("/{nth} ")), "{body}");
        })
        .await;
        known.push(own);
        redis.run(&["CLIENT", "KILL", "ID", &own.to_string()]).await;
    }
    two.connected().await;
    one.get("/shared").await;
    one.written().await;
    let hits = count(&two.remote().counters.hits);
    let there = two.clone();
    elsewhere.spawn(async move { there.get("/shared").await }).await.expect("it is answered");
    assert_eq!(count(&two.remote().counters.hits), hits + 1);
    elsewhere.shutdown_background();
}
