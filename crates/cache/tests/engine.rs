//! The cache against an origin in the same process: what is asked of it, what is served without it.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use http_body_util::{BodyExt, Full};
use tidegate_cache::purge::{Epoch, Purge, PurgeEntry};
use tidegate_cache::rules::key::Url;
use tidegate_cache::{Ask, Cache, Changed, Lookup, Next, Settings, TeeBody};
use tidegate_policy::{Cache as Policy, CacheKey, Partition, QueryKey};

type Lines = &'static [(&'static str, &'static str)];
type Making = Pin<Box<dyn Future<Output = Option<(u16, Lines, Bytes)>> + Send>>;

fn map(lines: &[(&'static str, &'static str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in lines {
        headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    headers
}

#[derive(Clone)]
struct World {
    cache: Arc<Cache>,
    policy: Arc<Policy>,
    asked: Arc<AtomicUsize>,
    #[allow(clippy::type_complexity, reason = "an origin is a function")]
    origin: Arc<dyn Fn(usize, HeaderMap) -> Making + Send + Sync>,
}

#[derive(Debug, PartialEq, Eq)]
struct Got {
    status: u16,
    body: String,
    cache_status: String,
    headers: HeaderMap,
}

fn world(
    policy: Policy,
    origin: impl Fn(usize, &HeaderMap) -> (u16, Lines, &'static str) + Send + Sync + 'static,
) -> World {
    let origin = move |n: usize, headers: HeaderMap| -> Making {
        let (status, lines, body) = origin(n, &headers);
        Box::pin(async move { (status != 0).then(|| (status, lines, Bytes::from_static(body.as_bytes()))) })
    };
    slow_world(policy, origin)
}

fn slow_world(policy: Policy, origin: impl Fn(usize, HeaderMap) -> Making + Send + Sync + 'static) -> World {
    let cache = Cache::start(Settings { memory: 16 << 20, wait: Duration::from_secs(10), ..Settings::default() });
    let cache = cache.expect("no Redis, no error");
    World { cache, policy: Arc::new(policy), asked: Arc::default(), origin: Arc::new(origin) }
}

/// Who asks for what.
#[derive(Clone)]
struct Request {
    method: Method,
    path: &'static str,
    headers: HeaderMap,
    consumer: Option<&'static str>,
}

fn get(lines: Lines) -> Request {
    Request { method: Method::GET, path: "/p", headers: map(lines), consumer: None }
}

impl World {
    fn ask<'a>(&'a self, request: &'a Request) -> Ask<'a> {
        Ask {
            policy: &self.policy,
            tenant: "default",
            route: "r",
            secure: false,
            host: "example.com",
            authority: "example.com",
            own_port: false,
            path: request.path,
            query: None,
            method: &request.method,
            headers: &request.headers,
            body: None,
            consumer: request.consumer,
            credentials: request.headers.get("authorization").map(HeaderValue::as_bytes),
        }
    }

    async fn send(&self, request: Request) -> Got {
        let ask = self.ask(&request);
        match self.cache.lookup(&ask).await {
            Lookup::Answer(answer) => of_answer(*answer).await,
            Lookup::Refresh(answer, fetch) => {
                let world = self.clone();
                tokio::spawn(async move { world.fetch(*fetch, HeaderMap::new()).await });
                of_answer(*answer).await
            }
            Lookup::Fetch(fetch) => self.fetch(*fetch, request.headers.clone()).await,
            Lookup::Pass(report) => {
                let (status, lines, body) = self.ask_origin(request.headers.clone()).await.expect("an answer");
                let mut headers = map(lines);
                report.put(&mut headers);
                let target = request.path;
                let status = StatusCode::from_u16(status).expect("a status");
                let what = Changed { tenant: "default", host: "example.com", target, method: &request.method };
                self.cache.changed(&what, Some(&self.policy), status, &headers);
                got(status, headers, body)
            }
        }
    }

    async fn ask_origin(&self, headers: HeaderMap) -> Option<(u16, Lines, Bytes)> {
        let n = self.asked.fetch_add(1, Ordering::SeqCst) + 1;
        (self.origin)(n, headers).await
    }

    async fn fetch(&self, mut fetch: tidegate_cache::Fetch, sent: HeaderMap) -> Got {
        loop {
            let mut headers = sent.clone();
            fetch.prepare(&mut headers);
            let Some((status, lines, body)) = self.ask_origin(headers).await else {
                return match fetch.failed() {
                    Some(answer) => of_answer(answer).await,
                    None => got(StatusCode::BAD_GATEWAY, HeaderMap::new(), Bytes::new()),
                };
            };
            let mut headers = map(lines);
            let status = StatusCode::from_u16(status).expect("a status");
            match fetch.answered(status, &mut headers) {
                Next::Relay(None) => return got(status, headers, body),
                Next::Relay(Some(tee)) => {
                    let body = TeeBody::new(Full::new(body), tee).collect().await.expect("a whole body").to_bytes();
                    return got(status, headers, body);
                }
                Next::Answer(answer) => return of_answer(*answer).await,
                Next::Again(again) => fetch = *again,
            }
        }
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

async fn of_answer(answer: tidegate_cache::Answer) -> Got {
    let (parts, body) = answer.response.into_parts();
    got(parts.status, parts.headers, body.collect().await.expect("a whole body").to_bytes())
}

fn got(status: StatusCode, headers: HeaderMap, body: Bytes) -> Got {
    let report = headers.get("cache-status").map(|v| v.to_str().expect("ASCII").to_owned());
    let body = String::from_utf8(body.to_vec()).expect("text");
    Got { status: status.as_u16(), body, cache_status: report.unwrap_or_default(), headers }
}

const FRESH: Lines = &[("cache-control", "max-age=60")];

#[tokio::test]
async fn a_fresh_response_is_fetched_once() {
    let world = world(Policy::default(), |_, _| (200, FRESH, "body"));
    assert_eq!(world.send(get(&[])).await.cache_status, "Tidegate; fwd=uri-miss; stored");
    let hit = world.send(get(&[])).await;
    assert!(hit.cache_status.starts_with("Tidegate; hit; ttl=") && hit.body == "body", "{hit:?}");
    assert_eq!(
        (&hit.headers["age"], &hit.headers["content-length"]),
        (&HeaderValue::from_static("0"), &HeaderValue::from_static("4"))
    );
    let head = world.send(Request { method: Method::HEAD, ..get(&[]) }).await;
    assert!(head.body.is_empty() && head.headers["content-length"] == "4");
    let part = world.send(get(&[("range", "bytes=1-2")])).await;
    assert_eq!(
        (part.status, part.body.as_str(), &part.headers["content-range"]),
        (206, "od", &HeaderValue::from_static("bytes 1-2/4"))
    );
    assert_eq!(world.send(get(&[("range", "bytes=9-")])).await.status, 416);
    assert_eq!(world.asked(), 1);
}

#[tokio::test]
async fn a_stale_response_is_kept_on_the_origins_word() {
    let world = world(Policy::default(), |n, headers| match n {
        1 => (200, &[("cache-control", "max-age=0"), ("etag", "\"1\""), ("x", "old")], "body"),
        2 => {
            assert_eq!(headers["if-none-match"], "\"1\"");
            (304, &[("etag", "\"1\""), ("cache-control", "max-age=60"), ("x", "new")], "")
        }
        _ => (500, &[], "never"),
    });
    world.send(get(&[])).await;
    let renewed = world.send(get(&[])).await;
    assert_eq!(
        (renewed.status, renewed.body.as_str(), &renewed.headers["x"]),
        (200, "body", &HeaderValue::from_static("new"))
    );
    assert!(renewed.cache_status.starts_with("Tidegate; fwd=stale; fwd-status=304"), "{renewed:?}");
    assert_eq!(world.send(get(&[("if-none-match", "\"1\"")])).await.status, 304);
    assert_eq!(world.asked(), 2);
}

#[tokio::test]
async fn a_304_about_something_else_is_not_believed() {
    let world = world(Policy::default(), |n, headers| match n {
        1 => (200, &[("cache-control", "max-age=0"), ("etag", "\"1\"")], "old"),
        2 => (304, &[("etag", "\"2\"")], ""),
        _ => {
            assert!(!headers.contains_key("if-none-match"));
            (200, &[("etag", "\"2\"")], "new")
        }
    });
    world.send(get(&[])).await;
    assert_eq!(world.send(get(&[])).await.body, "new");
}

#[tokio::test]
async fn a_failing_origin_is_stood_in_for() {
    let policy = Policy { stale_if_error: Duration::from_secs(60), ..Policy::default() };
    let world = world(policy, |n, _| match n {
        1 => (200, &[("cache-control", "max-age=0"), ("etag", "\"1\"")], "body"),
        2 => (503, &[], "sorry"),
        _ => (0, &[], ""),
    });
    world.send(get(&[])).await;
    for _ in 0..2 {
        let stale = world.send(get(&[])).await;
        assert!(stale.body == "body" && stale.cache_status.contains("detail=stale-if-error"), "{stale:?}");
    }
}

#[tokio::test]
async fn a_stale_response_is_served_while_it_is_refreshed() {
    let policy = Policy { stale_while_revalidate: Duration::from_secs(60), ..Policy::default() };
    let world = world(policy, |n, _| match n {
        1 => (200, &[("cache-control", "max-age=0"), ("etag", "\"1\"")], "old"),
        _ => (200, FRESH, "new"),
    });
    world.send(get(&[])).await;
    assert_eq!(world.send(get(&[])).await.body, "old");
    while world.asked() < 2 {
        tokio::task::yield_now().await;
    }
    while world.send(get(&[])).await.body == "old" {
        tokio::task::yield_now().await;
    }
    assert_eq!(world.asked(), 2);
}

#[tokio::test]
async fn a_crowd_on_a_cold_key_is_one_fetch() {
    for shared in [true, false] {
        let (open, gate) = tokio::sync::watch::channel(false);
        let world = slow_world(Policy::default(), move |_, _| {
            let mut gate = gate.clone();
            Box::pin(async move {
                gate.wait_for(|open| *open).await.expect("it opens");
                let lines: Lines = if shared {
                    &[("cache-control", "max-age=60"), ("content-length", "4")]
                } else {
                    &[("cache-control", "no-store")]
                };
                Some((200, lines, Bytes::from_static(b"body")))
            })
        });
        let crowd: Vec<_> = (0..1_000)
            .map(|_| {
                tokio::spawn({
                    let world = world.clone();
                    async move { world.send(get(&[])).await }
                })
            })
            .collect();
        while world.asked() == 0 {
            tokio::task::yield_now().await;
        }
        for _ in 0..1_000 {
            tokio::task::yield_now().await;
        }
        assert_eq!(world.asked(), 1);
        open.send_replace(true);
        for one in crowd {
            assert_eq!(one.await.expect("no panic").body, "body");
        }
        assert_eq!(world.asked(), if shared { 1 } else { 1_000 });
        assert_eq!(world.cache.fetching(), 0);
    }
}

#[tokio::test]
async fn what_was_fetched_before_a_purge_is_neither_stored_nor_served() {
    let tag = Purge::Tag { tenant: "default".into(), tag: "users".into() };
    let url = Purge::Url(Url { tenant: "default", host: "example.com", path: "/p", query: None }.digest());
    let prefix = Purge::Prefix { tenant: "default".into(), prefix: "example.com/".into() };
    for what in [Purge::All, tag, url, prefix, Purge::Tenant("default".into())] {
        let (open, gate) = tokio::sync::watch::channel(0);
        let world = slow_world(Policy::default(), move |n, _| {
            let mut gate = gate.clone();
            Box::pin(async move {
                gate.wait_for(|open| *open >= n).await.expect("it opens");
                let body = if n == 1 { "old" } else { "new" };
                Some((
                    200,
                    &[("cache-control", "max-age=60"), ("surrogate-key", "users")][..],
                    Bytes::from_static(body.as_bytes()),
                ))
            })
        });
        let before = tokio::spawn({
            let world = world.clone();
            async move { world.send(get(&[])).await }
        });
        while world.asked() < 1 {
            tokio::task::yield_now().await;
        }
        world.cache.purge(&PurgeEntry { epoch: Epoch(1), what });
        let after = tokio::spawn({
            let world = world.clone();
            async move { world.send(get(&[])).await }
        });
        // It does not join the fetch of before.
        while world.asked() < 2 {
            tokio::task::yield_now().await;
        }
        open.send_replace(1);
        assert_eq!(before.await.expect("no panic").body, "old");
        assert!(
            world.cache.stored(&Url { tenant: "default", host: "example.com", path: "/p", query: None }).is_empty()
        );
        open.send_replace(2);
        assert_eq!(after.await.expect("no panic").body, "new");
        assert_eq!(world.send(get(&[])).await.body, "new");
        assert_eq!(world.asked(), 2);
    }
}

/// Purged while the origin is asked whether what is stored still holds, or why not.
#[tokio::test]
async fn what_waits_for_the_origins_word_is_not_served_after_a_purge() {
    for (word, then) in [(304, "new"), (503, "sorry"), (0, "none")] {
        let policy = Policy { stale_if_error: Duration::from_secs(60), ..Policy::default() };
        let (open, gate) = tokio::sync::watch::channel(false);
        let world = slow_world(policy, move |n, headers| {
            let mut gate = gate.clone();
            Box::pin(async move {
                match n {
                    1 => Some((
                        200,
                        &[("cache-control", "max-age=0"), ("etag", "\"1\"")][..],
                        Bytes::from_static(b"old"),
                    )),
                    2 => {
                        assert_eq!(headers["if-none-match"], "\"1\"");
                        gate.wait_for(|open| *open).await.expect("it opens");
                        let body = Bytes::from_static(if word == 304 { b"" } else { b"sorry" });
                        (word != 0).then_some((word, &[("etag", "\"1\"")][..], body))
                    }
                    _ => {
                        assert!(!headers.contains_key("if-none-match"));
                        Some((200, &[("cache-control", "max-age=60")][..], Bytes::from_static(b"new")))
                    }
                }
            })
        });
        world.send(get(&[])).await;
        let waits = tokio::spawn({
            let world = world.clone();
            async move { world.send(get(&[])).await }
        });
        while world.asked() < 2 {
            tokio::task::yield_now().await;
        }
        world.cache.purge(&PurgeEntry { epoch: Epoch(1), what: Purge::Tenant("default".into()) });
        open.send_replace(true);
        let got = waits.await.expect("no panic");
        assert_ne!(got.body, "old", "{word}: {got:?}");
        assert!(then == "none" || got.body == then, "{word}: {got:?}");
    }
}

#[tokio::test]
async fn an_unsafe_request_voids_what_is_stored_and_what_is_on_its_way() {
    let (open, gate) = tokio::sync::watch::channel(false);
    let world = slow_world(Policy::default(), move |n, _| {
        let mut gate = gate.clone();
        Box::pin(async move {
            if n == 3 {
                gate.wait_for(|open| *open).await.expect("it opens");
            }
            Some((200, FRESH, Bytes::from_static(b"body")))
        })
    });
    let post = || Request { method: Method::POST, ..get(&[]) };
    world.send(get(&[])).await;
    world.send(post()).await;
    let slow = tokio::spawn({
        let world = world.clone();
        async move { world.send(get(&[])).await }
    });
    while world.asked() < 3 {
        tokio::task::yield_now().await;
    }
    world.send(post()).await;
    open.send_replace(true);
    slow.await.expect("no panic");
    assert!(world.send(get(&[])).await.cache_status.contains("fwd=uri-miss"));
    assert!(world.send(get(&[])).await.cache_status.contains("hit"));
}

#[tokio::test]
async fn a_change_voids_its_url_however_path_and_query_are_spelled() {
    let key = CacheKey { query: QueryKey::Sorted { ignore: vec!["utm".into()] }, ..CacheKey::default() };
    let world = world(Policy { key, ..Policy::default() }, |_, _| (200, FRESH, "x"));
    let request = get(&[]);
    let ask = |query| Ask { query, ..world.ask(&request) };
    let is_kept = async || matches!(world.cache.lookup(&ask(Some("a=1&b=2"))).await, Lookup::Answer(_));
    for target in ["/p?b=2&a=1", "/x/../p?a=1&utm=z&b=2", "/%70?a=1&b=2"] {
        let Lookup::Fetch(fetch) = world.cache.lookup(&ask(Some("b=2&a=1"))).await else { panic!("{target}") };
        world.fetch(*fetch, HeaderMap::new()).await;
        assert!(is_kept().await);
        let what = Changed { tenant: "default", host: "example.com", target, method: &Method::PUT };
        world.cache.changed(&what, Some(&world.policy), StatusCode::OK, &HeaderMap::new());
        assert!(!is_kept().await, "{target}");
    }
}

#[tokio::test]
async fn an_authorised_answer_is_its_callers_alone() {
    let private = world(Policy::default(), |_, _| (200, FRESH, "body"));
    let by = |consumer| Request { consumer: Some(consumer), ..get(&[]) };
    private.send(by("a")).await;
    assert!(private.send(by("a")).await.cache_status.contains("hit"));
    assert!(!private.send(by("b")).await.cache_status.contains("hit"));
    assert!(!private.send(get(&[])).await.cache_status.contains("hit"));
    let credentials = get(&[("authorization", "Bearer x")]);
    private.send(credentials.clone()).await;
    // What everybody may have was stored by the one nobody knows.
    assert_eq!(private.asked(), 3);
    assert!(private.send(credentials).await.cache_status.contains("hit"));

    let public = world(Policy::default(), |_, _| (200, &[("cache-control", "public, max-age=60")], "body"));
    public.send(by("a")).await;
    assert!(public.send(by("b")).await.cache_status.contains("hit"));
    assert!(public.send(get(&[])).await.cache_status.contains("hit"));

    let parted = world(Policy { partition: Partition::Consumer, ..Policy::default() }, |_, _| {
        (200, &[("cache-control", "public, max-age=60")], "body")
    });
    parted.send(by("a")).await;
    assert!(!parted.send(by("b")).await.cache_status.contains("hit"));
    assert!(!parted.send(get(&[])).await.cache_status.contains("hit"));
}

#[tokio::test]
async fn variants_are_told_apart() {
    let world =
        world(Policy::default(), |_, headers| match headers.get("accept-language").map(HeaderValue::as_bytes) {
            Some(b"de") => (200, &[("cache-control", "max-age=60"), ("vary", "accept-language")], "hallo"),
            _ => (200, &[("cache-control", "max-age=60"), ("vary", "accept-language")], "hello"),
        });
    world.send(get(&[("accept-language", "de")])).await;
    let other = world.send(get(&[("accept-language", "en")])).await;
    assert_eq!((other.body.as_str(), other.cache_status.as_str()), ("hello", "Tidegate; fwd=vary-miss; stored"));
    assert_eq!(world.send(get(&[("accept-language", "DE")])).await.body, "hallo");
    assert_eq!(world.asked(), 2);
}

#[tokio::test]
async fn a_cut_off_node_does_without() {
    let world = world(Policy::default(), |_, _| (200, FRESH, "body"));
    world.send(get(&[])).await;
    world.cache.set_live(false);
    assert_eq!(world.send(get(&[])).await.cache_status, "Tidegate; fwd=bypass; detail=cut-off");
    world.cache.set_live(true);
    assert!(world.send(get(&[])).await.cache_status.contains("hit"));
}

#[tokio::test]
async fn clients_say_what_they_can_stand() {
    let world = world(Policy::default(), |_, _| (200, FRESH, "body"));
    assert_eq!(world.send(get(&[("cache-control", "only-if-cached")])).await.status, 504);
    assert_eq!(world.asked(), 0);
    assert_eq!(world.send(get(&[("cache-control", "no-store")])).await.cache_status, "Tidegate; fwd=uri-miss");
    world.send(get(&[])).await;
    assert!(world.send(get(&[("cache-control", "only-if-cached")])).await.cache_status.contains("hit"));
    assert!(world.send(get(&[("cache-control", "no-cache")])).await.cache_status.contains("fwd=request"));
    let deaf = self::world(Policy { heed_clients: false, ..Policy::default() }, |_, _| (200, FRESH, "body"));
    deaf.send(get(&[])).await;
    assert!(deaf.send(get(&[("cache-control", "no-cache")])).await.cache_status.contains("hit"));
}

#[tokio::test]
async fn a_large_body_streams_through_unheld() {
    for announced in [true, false] {
        let policy = Policy { max_object: 1_000, ..Policy::default() };
        let world = slow_world(policy, move |_, _| {
            let lines: Lines =
                if announced { &[("cache-control", "max-age=60"), ("content-length", "2000")] } else { FRESH };
            Box::pin(async move { Some((200, lines, Bytes::from(vec![b'x'; 2_000]))) })
        });
        for _ in 0..2 {
            assert_eq!(world.send(get(&[])).await.body.len(), 2_000);
        }
        assert_eq!(world.asked(), 2);
        assert_eq!(world.cache.memory().facts().bytes, 0);
    }
}

/// An origin's body that comes when the test sends it; a channel that is dropped early breaks it.
struct Trickle(tokio::sync::mpsc::Receiver<Result<Bytes, &'static str>>, u64);

impl http_body::Body for Trickle {
    type Data = Bytes;
    type Error = &'static str;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<http_body::Frame<Bytes>, &'static str>>> {
        let next = std::task::ready!(self.0.poll_recv(cx));
        if let Some(Ok(part)) = &next {
            self.1 -= part.len() as u64;
        }
        std::task::Poll::Ready(next.map(|part| part.map(http_body::Frame::data)))
    }

    fn is_end_stream(&self) -> bool {
        self.1 == 0
    }
}

type Coming = tokio::sync::mpsc::Sender<Result<Bytes, &'static str>>;

/// A fetch of twelve bytes: who fetches, and what the origin sends him.
async fn trickling(world: &World) -> (TeeBody<Trickle>, Coming) {
    trickling_as(world, &[("cache-control", "max-age=60"), ("content-length", "12")]).await
}

async fn trickling_as(world: &World, lines: Lines) -> (TeeBody<Trickle>, Coming) {
    let request = get(&[]);
    let Lookup::Fetch(fetch) = world.cache.lookup(&world.ask(&request)).await else { panic!("nothing is stored") };
    let Next::Relay(Some(tee)) = fetch.answered(StatusCode::OK, &mut map(lines)) else { panic!("it is to be stored") };
    let (origin, coming) = tokio::sync::mpsc::channel(8);
    (TeeBody::new(Trickle(coming, 12), tee), origin)
}

async fn next(body: &mut (impl http_body::Body<Data = Bytes, Error: std::fmt::Debug> + Unpin)) -> Bytes {
    body.frame().await.expect("more").expect("not broken").into_data().expect("data")
}

#[tokio::test]
async fn a_client_who_stalls_holds_up_nobody_who_reads_along() {
    let world = world(Policy::default(), |_, _| (0, &[], ""));
    let (mut first, origin) = trickling(&world).await;
    origin.send(Ok("one ".into())).await.unwrap();
    assert_eq!(next(&mut first).await, "one ");

    // From here on the first one takes nothing.
    let request = get(&[]);
    let Lookup::Answer(second) = world.cache.lookup(&world.ask(&request)).await else { panic!("it reads along") };
    let second = tokio::spawn(of_answer(*second));
    for part in ["two ", "six "] {
        origin.send(Ok(part.into())).await.unwrap();
    }
    let second = tokio::time::timeout(Duration::from_secs(10), second).await.expect("it waits for nobody").unwrap();
    assert_eq!(second.body, "one two six ");
    assert!(world.send(get(&[])).await.cache_status.contains("hit"), "it is stored");

    // Back again, he gets all the same what he lacks.
    assert_eq!(http_body::Body::size_hint(&first).exact(), Some(8));
    assert_eq!(first.collect().await.unwrap().to_bytes(), "two six ");
    assert_eq!(world.cache.fetching(), 0);
}

#[tokio::test]
async fn who_waits_for_the_next_part_hears_of_it_when_another_joins() {
    let world = world(Policy::default(), |_, _| (0, &[], ""));
    let (mut first, origin) = trickling(&world).await;
    origin.send(Ok("one ".into())).await.unwrap();
    assert_eq!(next(&mut first).await, "one ");
    let first = tokio::spawn(first.collect());
    tokio::task::yield_now().await; // It waits for the origin by itself.
    let request = get(&[]);
    let Lookup::Answer(second) = world.cache.lookup(&world.ask(&request)).await else { panic!("it reads along") };
    origin.send(Ok("two six ".into())).await.unwrap();
    let first = tokio::time::timeout(Duration::from_secs(10), first).await.expect("it was woken").unwrap().unwrap();
    assert_eq!((first.to_bytes(), of_answer(*second).await.body.as_str()), ("two six ".into(), "one two six "));
}

#[tokio::test]
async fn an_origin_that_breaks_breaks_it_for_all_who_read_and_nothing_is_stored() {
    let world = world(Policy::default(), |_, _| (200, FRESH, "whole"));
    let (mut first, origin) = trickling(&world).await;
    origin.send(Ok("one ".into())).await.unwrap();
    assert_eq!(next(&mut first).await, "one ");
    let request = get(&[]);
    let Lookup::Answer(second) = world.cache.lookup(&world.ask(&request)).await else { panic!("it reads along") };
    origin.send(Err("reset")).await.unwrap();
    second.response.into_body().collect().await.expect_err("it is not whole");
    first.collect().await.expect_err("nor is this");
    assert_eq!(world.send(get(&[])).await.body, "whole");
}

#[tokio::test]
async fn one_crowd_waits_in_vain_for_a_body_of_unknown_length_and_the_next_goes_at_once() {
    let mut world = world(Policy::default(), |_, _| (0, &[], ""));
    let wait = Duration::from_millis(50);
    world.cache = Cache::start(Settings { wait, ..Settings::default() }).expect("no Redis, no error");
    let (first, origin) = trickling_as(&world, FRESH).await;
    origin.send(Ok("one ".into())).await.unwrap();
    let request = get(&[]);
    for _ in 0..3 {
        assert!(matches!(world.cache.lookup(&world.ask(&request)).await, Lookup::Fetch(_)));
        assert_eq!(world.cache.counters.waits_over.load(Ordering::SeqCst), 1, "only the first of them waited");
    }
    // It was worth waiting for after all.
    origin.send(Ok("two six ".into())).await.unwrap();
    drop(origin);
    assert_eq!(first.collect().await.unwrap().to_bytes(), "one two six ");
    assert!(matches!(world.cache.lookup(&world.ask(&request)).await, Lookup::Answer(_)));
}
