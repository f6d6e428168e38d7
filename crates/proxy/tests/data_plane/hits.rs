//! What is stored is answered alike whether all stages are asked or the short way is taken, which a target that was hit
//! once goes from then on; and whatever asks for more than that is asked about.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use http::{HeaderName, HeaderValue, StatusCode};
use tidegate_cache::purge::{Epoch, Purge, PurgeEntry};
use tidegate_policy::{
    AccessLog, Action, Cache as Policy, CacheKey, HeaderEdit, HeaderEdits, HeaderMatch, Route, Telemetry, Ttl,
    ValueMatch,
};

use crate::backend;
use crate::harness::{Reply, Setup, World, route, soon, upstream, with_action};

struct Kept {
    world: World,
    seen: Arc<backend::Seen>,
}

impl Kept {
    /// A gate that keeps what the backend says for a minute; `more` routes beside.
    async fn new(change: impl FnOnce(&mut Route), more: Vec<Route>) -> Self {
        let (backend, seen) = backend::start().await;
        let mut kept = route("/", &upstream(backend));
        kept.cache = Some(Arc::new(policy()));
        change(&mut kept);
        let routes = std::iter::once(kept).chain(more).collect();
        Self { world: Setup::routes(routes).keeping().start().await, seen }
    }

    fn asked(&self) -> usize {
        self.seen.requests.load(Ordering::SeqCst)
    }

    /// Fetched, then hit the long way, then hit the short way.
    async fn warm(&self, path: &str) -> Reply {
        let mut last = None;
        for _ in 0..4 {
            last = Some(self.world.get(path).await);
        }
        assert_eq!(self.asked(), 1, "it is kept");
        last.unwrap()
    }
}

fn policy() -> Policy {
    Policy { ttl: Ttl::Fixed(Duration::from_mins(1)), ..Policy::default() }
}

fn fixed(prefix: &str, body: &'static str) -> Route {
    let action = Action::Respond { status: StatusCode::OK, headers: vec![], body: body.as_bytes().into() };
    with_action(prefix, action)
}

/// Without what differs from answer to answer.
fn head(reply: &Reply) -> BTreeSet<String> {
    let differs = |line: &&str| ["x-request-id", "age", "cache-status"].iter().any(|name| line.starts_with(name));
    reply.head.lines().filter(|line| !differs(line)).map(str::to_owned).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn hits_say_the_same_on_either_way() {
    let edit = |kept: &mut Route| {
        let name = HeaderName::from_static("x-edited");
        kept.response_headers = HeaderEdits(vec![HeaderEdit::Add(name, HeaderValue::from_static("once"))]).into();
    };
    let kept = Kept::new(edit, vec![]).await;
    let fetched = kept.world.get("/a?b=c").await;
    let mut ids = BTreeSet::new();
    let mut heads = BTreeSet::new();
    for _ in 0..4 {
        let hit = kept.world.get("/a?b=c").await;
        assert_eq!((hit.status, &hit.body), (200, &fetched.body));
        assert!(hit.header("cache-status").is_some_and(|says| says.starts_with("tidegate; hit; ttl=")), "{}", hit.head);
        assert!(hit.header("age").is_some_and(|age| age.parse::<u64>().is_ok_and(|age| age < 60)), "{}", hit.head);
        assert_eq!(hit.head.matches("x-edited: once").count(), 1, "{}", hit.head);
        ids.insert(hit.header("x-request-id").unwrap().to_owned());
        heads.insert(head(&hit));
    }
    assert_eq!((kept.asked(), ids.len(), heads.len()), (1, 4, 1), "{heads:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_age_grows_while_the_target_is_hit() {
    let kept = Kept::new(|_| {}, vec![]).await;
    kept.warm("/a").await;
    let end = tokio::time::Instant::now() + crate::harness::PATIENCE;
    loop {
        let hit = kept.world.get("/a").await;
        let age: i64 = hit.header("age").unwrap().parse().unwrap();
        let ttl: i64 = hit.header("cache-status").unwrap().rsplit('=').next().unwrap().parse().unwrap();
        assert!((59..=60).contains(&(age + ttl)), "{}", hit.head);
        if age >= 2 {
            break;
        }
        assert!(tokio::time::Instant::now() < end, "the age stands still: {}", hit.head);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(kept.asked(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_asks_for_more_than_a_target_is_heard() {
    let kept = Kept::new(|_| {}, vec![]).await;
    let whole = kept.warm("/a").await;

    let part = kept.world.ask("GET", "/a", "range: bytes=0-3\r\n").await;
    assert_eq!((part.status, part.body.as_str()), (206, &whole.body[..4]));
    let known = kept.world.ask("GET", "/a", "if-modified-since: Fri, 31 Dec 2100 23:59:59 GMT\r\n").await;
    assert_eq!((known.status, known.body.as_str()), (304, ""));
    let head = kept.world.ask("HEAD", "/a", "").await;
    assert_eq!((head.status, head.body.as_str()), (200, ""));
    assert_eq!(head.header("content-length"), whole.header("content-length"));
    let twice = kept.world.ask("GET", "/a", "host: gate.test\r\nhost: gate.test\r\n").await;
    assert_eq!(twice.status, 400);
    assert_eq!(kept.asked(), 1);

    for (nth, more) in ["cache-control: no-cache", "pragma: no-cache", "host: other.test"].into_iter().enumerate() {
        assert_eq!(kept.world.ask("GET", "/a", &format!("{more}\r\n")).await.status, 200);
        assert_eq!(kept.asked(), nth + 2, "{more}");
    }
    assert_eq!(kept.world.ask("POST", "/a", "content-length: 0\r\n").await.status, 200);
    assert_eq!(kept.asked(), 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_wants_what_is_stored_or_nothing_is_told_that_there_is_nothing() {
    let kept = Kept::new(|_| {}, vec![]).await;
    let none = kept.world.ask("GET", "/a", "cache-control: only-if-cached\r\n").await;
    assert_eq!((none.status, none.code().as_str()), (504, "only_if_cached"), "{}", none.head);
    assert_eq!(none.header("content-type"), Some("application/json"));
    assert_eq!(none.header("cache-status"), Some("tidegate; fwd=uri-miss; detail=only-if-cached"));
    let head = kept.world.ask("HEAD", "/a", "cache-control: only-if-cached\r\n").await;
    assert_eq!((head.status, head.body.as_str()), (504, ""));
    assert_eq!(kept.asked(), 0, "nobody asked for the origin");
    let warm = kept.warm("/a").await;
    let some = kept.world.ask("GET", "/a", "cache-control: only-if-cached\r\n").await;
    assert_eq!((some.status, some.body), (200, warm.body));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_with_the_port_it_came_in_by_is_another_than_without_or_with_a_strange_one() {
    let kept = Kept::new(|_| {}, vec![]).await;
    let port = kept.world.address.port();
    let hosts = [
        format!("gate.test:{port}"),
        "gate.test".to_owned(),
        "gate.test:1".to_owned(),
        format!("gate.test:0{port}"),
        format!("[2001:db8::1]:{port}"),
        "[2001:db8::1]".to_owned(),
    ];
    for round in 0..3 {
        for (nth, host) in hosts.iter().enumerate() {
            let reply = kept.world.ask("GET", "/a", &format!("host: {host}\r\n")).await;
            assert_eq!(reply.sent("x-forwarded-host"), [host.as_str()], "it is nobody else's answer");
            assert_eq!(kept.asked(), if round == 0 { nth + 1 } else { hosts.len() }, "{host}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_route_or_a_key_by_headers_is_not_taken_from_the_target_alone() {
    let mut beta = fixed("/", "beta");
    beta.headers = vec![HeaderMatch { name: HeaderName::from_static("x-beta"), value: ValueMatch::Present }].into();
    let kept = Kept::new(|_| {}, vec![beta]).await;
    kept.warm("/a").await;
    assert_eq!(kept.world.ask("GET", "/a", "x-beta: 1\r\n").await.body, "beta");

    let by_language = |kept: &mut Route| {
        let key = CacheKey { headers: vec![HeaderName::from_static("x-language")], ..CacheKey::default() };
        kept.cache = Some(Arc::new(Policy { key, ..policy() }));
    };
    let kept = Kept::new(by_language, vec![]).await;
    kept.warm("/a").await;
    assert_eq!(kept.world.ask("GET", "/a", "x-language: la\r\n").await.sent("x-language"), ["la"]);
    assert_eq!(kept.asked(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_purge_and_a_new_document_hold_at_once() {
    let kept = Kept::new(|_| {}, vec![]).await;
    kept.warm("/a").await;
    let cache = kept.world.gate.cache.as_ref().unwrap();
    cache.purge(&PurgeEntry { epoch: Epoch(1), what: Purge::Tenant("default".into()) });
    assert_eq!(kept.world.get("/a").await.status, 200);
    assert_eq!(kept.asked(), 2);
    cache.set_live(false);
    kept.world.get("/a").await;
    assert_eq!(kept.asked(), 3, "a node without its lease does without its cache");
    cache.set_live(true);
    kept.world.get("/a").await;
    assert_eq!(kept.asked(), 3);

    let snapshot = Setup::routes(vec![fixed("/", "new")]).snapshot;
    kept.world.gate.snapshot.store(Arc::new(snapshot));
    assert_eq!(kept.world.get("/a").await.body, "new");
}

#[tokio::test(flavor = "multi_thread")]
async fn hits_of_either_way_are_told_alike() {
    let kept = Kept::new(|_| {}, vec![]).await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("access.log");
    let logged = vec![HeaderName::from_static("x-kept"), HeaderName::from_static("cache-control")];
    let log = AccessLog { file: Some(file.clone()), rotate_bytes: None, keep: 1, headers: logged };
    let telemetry = &kept.world.gate.telemetry;
    telemetry.apply(&Telemetry { access_log: Some(log), ..Telemetry::default() }).unwrap();
    for _ in 0..4 {
        kept.world.ask("GET", "/a", "x-kept: 1\r\nuser-agent: test\r\n").await;
    }
    let mut lines: Vec<serde_json::Value> = Vec::new();
    soon("four lines", || {
        telemetry.flush();
        let text = std::fs::read_to_string(&file).unwrap_or_default();
        lines = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        lines.len() == 4
    })
    .await;
    let mut hits: BTreeSet<String> = BTreeSet::new();
    for mut line in lines.into_iter().filter(|line| line["cache"] == "hit") {
        assert_eq!(
            (&line["route"], &line["host"], &line["status"]),
            (&"route /".into(), &"gate.test".into(), &200.into())
        );
        let fields = line.as_object_mut().unwrap();
        for differs in ["time", "request_id", "duration_ms"] {
            assert!(fields.remove(differs).is_some(), "{fields:?}");
        }
        hits.insert(line.to_string());
    }
    assert_eq!(hits.len(), 1, "{hits:?}");
}
