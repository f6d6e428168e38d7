//! Several caches that fetch together without Redis: one asks the origin, whoever dies, is slow or knows of a purge.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use http_body_util::{BodyExt, Full};
use tidegate_cache::peers::{LARGEST, Message, Reply};
use tidegate_cache::purge::{Epoch, Purge, PurgeEntry};
use tidegate_cache::{Ask, Cache, Changed, Lookup, Next, Peers, Settings, TeeBody};
use tidegate_policy::Cache as Policy;
use tokio::task::JoinSet;
use tokio::time::Instant;

/// How a node is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wire {
    Well,
    /// Says nothing, to nobody.
    Silent,
    /// An older release: nobody listens.
    Deaf,
}

#[derive(Debug, Default)]
struct Net {
    nodes: Mutex<BTreeMap<u64, (Weak<Cache>, Wire)>>,
}

#[derive(Debug)]
struct Link {
    net: Arc<Net>,
    me: u64,
    live: Arc<Box<[u64]>>,
}

impl Peers for Link {
    fn me(&self) -> u64 {
        self.me
    }

    fn live(&self) -> Arc<Box<[u64]>> {
        Arc::clone(&self.live)
    }

    fn ask(
        &self,
        to: u64,
        message: Message,
        patience: Duration,
    ) -> Pin<Box<dyn Future<Output = Option<Reply>> + Send>> {
        let (net, me) = (Arc::clone(&self.net), self.me);
        Box::pin(async move {
            let of = |node: u64| net.nodes.lock().expect("no panic while locked").get(&node).cloned();
            let (cache, wire) = of(to)?;
            let (_, own) = of(me)?;
            if wire == Wire::Silent || own == Wire::Silent {
                tokio::time::sleep(patience).await;
                return None;
            }
            if wire == Wire::Deaf {
                return None;
            }
            tokio::time::timeout(patience, cache.upgrade()?.heard(me, message)).await.ok()
        })
    }
}

#[derive(Debug, Default)]
struct Origin {
    asked: AtomicUsize,
    takes: Duration,
    length: usize,
    headers: HeaderMap,
    /// The first answer never comes.
    hangs_first: bool,
}

fn origin(lines: &[(&'static str, &'static str)], millis: u64) -> Origin {
    let headers = lines.iter().map(|(n, v)| (n.parse().expect("a name"), HeaderValue::from_static(v))).collect();
    Origin { takes: Duration::from_millis(millis), headers, ..Origin::default() }
}

const FRESH: &[(&str, &str)] = &[("cache-control", "max-age=600"), ("surrogate-key", "tag")];

#[derive(Clone)]
struct World {
    net: Arc<Net>,
    caches: Vec<Arc<Cache>>,
    origin: Arc<Origin>,
}

fn world(nodes: u64, origin: Origin) -> World {
    let net = Arc::new(Net::default());
    let live: Arc<Box<[u64]>> = Arc::new((1..=nodes).collect());
    let start = |me: u64| {
        let link = Link { net: Arc::clone(&net), me, live: Arc::clone(&live) };
        let peers: Option<Arc<dyn Peers>> = Some(Arc::new(link));
        let settings = Settings { memory: 64 << 20, wait: PATIENCE, peers, ..Settings::default() };
        let cache = Cache::start(settings).expect("no Redis, no error");
        net.nodes.lock().expect("no panic while locked").insert(me, (Arc::downgrade(&cache), Wire::Well));
        cache
    };
    let caches = (1..=nodes).map(start).collect();
    World { net, caches, origin: Arc::new(origin) }
}

impl World {
    fn asked(&self) -> usize {
        self.origin.asked.load(SeqCst)
    }

    fn wire(&self, node: usize, wire: Wire) {
        let mut nodes = self.net.nodes.lock().expect("no panic while locked");
        nodes.get_mut(&(node as u64 + 1)).expect("a node").1 = wire;
    }

    async fn get(&self, node: usize, path: &str) -> (String, String) {
        self.send(node, path, &[], None).await
    }

    async fn send(
        &self,
        node: usize,
        path: &str,
        lines: &[(&'static str, &'static str)],
        consumer: Option<&str>,
    ) -> (String, String) {
        let headers: HeaderMap =
            lines.iter().map(|(n, v)| (n.parse().expect("a name"), HeaderValue::from_static(v))).collect();
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
            headers: &headers,
            body: None,
            consumer,
            credentials: None,
        };
        match self.caches[node].lookup(&ask).await {
            Lookup::Answer(answer) | Lookup::Refresh(answer, _) => {
                let (parts, body) = answer.response.into_parts();
                told(&parts.headers, body.collect().await.expect("a body").to_bytes())
            }
            Lookup::Fetch(fetch) => {
                let n = self.origin.asked.fetch_add(1, SeqCst) + 1;
                if n == 1 && self.origin.hangs_first {
                    std::future::pending::<()>().await;
                }
                tokio::time::sleep(self.origin.takes).await;
                let mut answer = self.origin.headers.clone();
                let values: Vec<&str> = headers.values().filter_map(|value| value.to_str().ok()).collect();
                let body = Bytes::from(format!("{n}{}{}", values.concat(), ".".repeat(self.origin.length)));
                match fetch.answered(StatusCode::OK, &mut answer) {
                    Next::Relay(Some(tee)) => {
                        let body = TeeBody::new(Full::new(body), tee).collect().await.expect("a body").to_bytes();
                        told(&answer, body)
                    }
                    _ => told(&answer, body),
                }
            }
            Lookup::Pass(_) => panic!("it has a cache"),
        }
    }

    async fn herd(&self, clients: usize, path: &'static str) -> Vec<(String, String)> {
        let mut asks = JoinSet::new();
        for n in 0..clients {
            let world = self.clone();
            asks.spawn(async move { world.get(n % world.caches.len(), path).await });
        }
        asks.join_all().await
    }
}

fn told(headers: &HeaderMap, body: Bytes) -> (String, String) {
    let status = headers.get("cache-status").and_then(|value| value.to_str().ok()).unwrap_or_default();
    (String::from_utf8(body.to_vec()).expect("text"), status.to_owned())
}

/// Of a lookup with who fetches.
const PATIENCE: Duration = Duration::from_secs(2);
const PATHS: [&str; 12] = ["/a", "/b", "/c", "/d", "/e", "/f", "/g", "/h", "/i", "/j", "/k", "/l"];

#[tokio::test]
async fn a_herd_on_three_nodes_is_one_request_whoever_owns_the_key() {
    let world = world(3, origin(FRESH, 30));
    for (n, path) in PATHS.into_iter().enumerate() {
        let bodies = world.herd(300, path).await;
        assert_eq!(world.asked(), n + 1, "{path}");
        assert!(bodies.iter().all(|(body, _)| *body == bodies[0].0));
    }
}

#[tokio::test]
async fn what_one_node_has_another_gets_of_its_owner_later() {
    let world = world(3, origin(FRESH, 0));
    for (n, path) in PATHS.into_iter().enumerate() {
        for turn in 0..6 {
            let (body, _) = world.get((n + turn) % 3, path).await;
            tokio::task::yield_now().await; // What is done is told in the background.
            assert_eq!(body, (n + 1).to_string(), "{path}");
        }
    }
    assert_eq!(world.asked(), PATHS.len());
}

#[tokio::test]
async fn each_variant_is_fetched_once() {
    let world = world(3, origin(&[("cache-control", "max-age=600"), ("vary", "x-v")], 0));
    for _ in 0..2 {
        for path in PATHS {
            for node in 0..3 {
                for v in ["a", "b"] {
                    let (body, _) = world.send(node, path, &[("x-v", if v == "a" { "a" } else { "b" })], None).await;
                    assert!(body.ends_with(v), "{body} for {v}");
                    tokio::task::yield_now().await;
                }
            }
        }
    }
    assert_eq!(world.asked(), 2 * PATHS.len());
}

#[tokio::test]
async fn what_is_one_callers_own_goes_to_nobody_else() {
    let world = world(3, origin(FRESH, 5));
    for consumer in ["ann", "bob"] {
        for node in 0..3 {
            world.send(node, "/a", &[], Some(consumer)).await;
        }
    }
    assert_eq!(world.asked(), 6, "each caller on each node");
    let (body, _) = world.send(2, "/a", &[], Some("bob")).await;
    assert_eq!(body, "6");
}

#[tokio::test]
async fn what_nobody_may_keep_and_what_is_too_long_everybody_fetches_at_once() {
    for (lines, length) in [(&[("cache-control", "no-store")][..], 0), (FRESH, LARGEST)] {
        let world = world(3, Origin { length, ..origin(lines, 50) });
        let began = Instant::now();
        let bodies = world.herd(9, "/a").await;
        assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
        assert_eq!(bodies.len(), 9);
        assert!(world.asked() >= 3, "{} for {length}", world.asked());
    }
}

/// One fetches what never comes, on the first node; then something happens to it.
async fn with_one_that_hangs<T>(path: &'static str, then: impl AsyncFnOnce(&World) -> T) -> T {
    let world = world(3, Origin { hangs_first: true, ..origin(FRESH, 10) });
    let first = {
        let world = world.clone();
        tokio::spawn(async move { world.get(0, path).await })
    };
    while world.asked() == 0 {
        tokio::task::yield_now().await;
    }
    let out = then(&world).await;
    first.abort();
    out
}

#[tokio::test]
async fn nobody_waits_longer_than_his_patience_for_whoever_hangs() {
    let one = async |path| {
        with_one_that_hangs(path, async |world| {
            let began = Instant::now();
            let (body, _) = world.get(1, path).await;
            // Whoever owns the key: it is being fetched, as far as anybody knows.
            let waited = began.elapsed();
            assert!((PATIENCE..PATIENCE + Duration::from_millis(900)).contains(&waited), "{path}: {waited:?}");
            assert_eq!(body, "2");
        })
        .await
    };
    futures_util::future::join_all(PATHS.map(one)).await;
}

#[tokio::test]
async fn a_silent_owner_costs_a_moment_and_then_nothing() {
    let world = world(3, origin(FRESH, 0));
    world.wire(2, Wire::Silent);
    let began = Instant::now();
    for path in PATHS {
        world.get(0, path).await;
        tokio::time::sleep(Duration::from_millis(10)).await;
        world.get(1, path).await;
    }
    // Each of the two notes it for itself: three tenths of a second, not a dozen times.
    assert!(began.elapsed() < Duration::from_millis(1_500), "{:?}", began.elapsed());
    // Passed over, its keys have another owner.
    assert!(world.asked() <= PATHS.len() + 2, "{}", world.asked());
}

#[tokio::test]
async fn the_turn_of_a_fetcher_that_died_goes_to_the_next() {
    let one = async |path| {
        with_one_that_hangs(path, async |world| {
            world.wire(0, Wire::Silent);
            let began = Instant::now();
            let (one, two) = tokio::join!(world.get(1, path), world.get(2, path));
            assert!(began.elapsed() < PATIENCE - Duration::from_millis(100), "{path}: {:?}", began.elapsed());
            one.0 == two.0
        })
        .await
    };
    let together = futures_util::future::join_all(PATHS.map(one)).await;
    let together = together.into_iter().filter(|together| *together).count();
    assert!(together >= PATHS.len() / 2, "{together}: only those that the dead node owned are fetched by each");
}

#[tokio::test]
async fn an_older_release_is_no_owner_and_holds_nobody_up() {
    let world = world(3, origin(FRESH, 0));
    world.wire(1, Wire::Deaf);
    world.wire(2, Wire::Deaf);
    let began = Instant::now();
    for path in PATHS {
        assert_eq!(world.get(0, path).await.0, world.get(0, path).await.0);
    }
    assert_eq!(world.asked(), PATHS.len());
    assert!(began.elapsed() < Duration::from_secs(1));
}

#[tokio::test]
async fn a_fetch_begun_before_a_purge_is_neither_kept_nor_handed_on() {
    let world = world(3, origin(FRESH, 150));
    for (n, path) in PATHS.into_iter().enumerate() {
        let before = world.asked();
        let first = {
            let world = world.clone();
            tokio::spawn(async move { world.get(n % 3, path).await })
        };
        let waits = {
            let world = world.clone();
            tokio::spawn(async move { world.get((n + 1) % 3, path).await })
        };
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert_eq!(world.asked(), before + 1, "one fetches");
        let purge =
            PurgeEntry { epoch: Epoch(n as u64 + 1), what: Purge::Tag { tenant: "default".into(), tag: "tag".into() } };
        for cache in &world.caches {
            cache.purge(&purge);
        }
        let after = world.get((n + 2) % 3, path).await.0;
        assert_eq!(after, (before + 2).to_string(), "fetched after the purge");
        let old = (before + 1).to_string();
        let (first, waits) = (first.await.expect("it ends").0, waits.await.expect("it ends").0);
        assert!([&first, &waits].iter().filter(|body| ***body == old).count() <= 1, "one at most, who began it");
        for node in 0..3 {
            assert_ne!(world.get(node, path).await.0, old, "{path} on {node}");
        }
    }
}

#[tokio::test]
async fn what_a_change_made_void_no_node_serves_for_long() {
    let world = world(3, origin(FRESH, 0));
    for path in PATHS {
        for node in 0..3 {
            world.get(node, path).await;
        }
    }
    let before = world.asked();
    for (n, path) in PATHS.into_iter().enumerate() {
        let ok = StatusCode::OK;
        let what = Changed { tenant: "default", host: "example.com", target: path, method: &Method::POST };
        world.caches[n % 3].changed(&what, None, ok, &HeaderMap::new());
    }
    tokio::time::sleep(Duration::from_millis(50)).await;
    for path in PATHS {
        for node in 0..3 {
            let (body, _) = world.get(node, path).await;
            assert!(body.parse::<usize>().expect("a number") > before, "{path} on {node}: {body}");
        }
    }
}
