//! Keys and limits at the door.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tidegate_limiter::{Leases, Unreachable};
use tidegate_model::{LimitId, Nanos, Permits, Revision};
use tidegate_policy::{AuthScheme, Dimension, Kind, Limit, Mode, OnUnavailable};
use tidegate_quota::protocol::{Answer, Batch, Key, Reply, Verdict};

use crate::backend;
use crate::harness::{KEY, Setup, route, upstream};

fn limit(name: &str, mode: Mode, on_unavailable: OnUnavailable) -> Arc<Limit> {
    Arc::new(Limit {
        id: LimitId(name.len() as u64),
        revision: Revision(1),
        name: name.into(),
        max: Permits(100),
        kind: Kind::Sliding { window: Nanos::from_secs(60) },
        cost: tidegate_policy::Cost::ONE,
        per: vec![Dimension::Ip(tidegate_policy::Prefix::default()), Dimension::Route],
        mode,
        on_unavailable,
        count_hits: true,
        on_missing: tidegate_policy::OnMissing::Share,
        terms: tidegate_policy::Terms::default(),
    })
}

#[tokio::test]
async fn a_route_that_asks_for_a_key_takes_a_good_one_and_does_not_pass_it_on() {
    let (backend, seen) = backend::start().await;
    let mut guarded = route("/", &upstream(backend));
    guarded.auth = vec![AuthScheme::Key];
    let world = Setup::routes(vec![guarded]).start().await;
    let refusal = async |headers: &str, path: &str| {
        let reply = world.ask("GET", path, headers).await;
        (reply.status, reply.code())
    };
    assert_eq!(refusal("", "/").await, (401, "key_missing".into()));
    assert_eq!(refusal("x-api-key: tg_wrong\r\n", "/").await, (401, "key_unknown".into()));
    assert_eq!(refusal("x-api-key: tg_orphan\r\n", "/").await, (403, "key_without_consumer".into()));
    assert_eq!(refusal(&format!("x-api-key: {KEY}\r\n"), "/?key=other").await, (400, "key_conflict".into()));
    assert_eq!(seen.requests.load(Ordering::SeqCst), 0);
    assert!(world.ask("GET", "/", "").await.header("www-authenticate").is_some());

    let good = world.ask("GET", &format!("/?a=1&key={KEY}"), &format!("authorization: Bearer {KEY}\r\n")).await;
    assert_eq!((good.status, good.target().as_str()), (200, "/?a=1"));
    assert!(good.sent("authorization").is_empty());

    world.gate.keys_stale.store(true, Ordering::Relaxed);
    assert_eq!(refusal(&format!("x-api-key: {KEY}\r\n"), "/").await, (503, "keys_stale".into()));
}

#[tokio::test]
async fn a_limit_that_nobody_can_check_does_as_it_says() {
    let (backend, _) = backend::start().await;
    let mut denied = route("/deny", &upstream(backend));
    denied.limits = [0].into();
    let mut allowed = route("/allow", &upstream(backend));
    allowed.limits = [1].into();
    let mut setup = Setup::routes(vec![denied, allowed]);
    setup.snapshot.limits = vec![
        limit("strict", Mode::Enforce, OnUnavailable::Deny),
        limit("lenient", Mode::Enforce, OnUnavailable::Allow),
    ];
    let world = setup.start().await;
    let reply = world.get("/deny").await;
    assert_eq!((reply.status, reply.code().as_str()), (503, "limit_unavailable"));
    assert!(reply.header("retry-after").is_some_and(|s| s.parse::<u64>().is_ok()), "{}", reply.head);
    assert_eq!(reply.header("ratelimit-policy"), Some("\"strict\";q=100;w=60"));
    let reply = world.get("/allow").await;
    assert_eq!(reply.status, 200);
    assert_eq!(reply.header("ratelimit-policy"), Some("\"lenient\";q=100;w=60"));
    assert!(reply.header("ratelimit").is_some_and(|r| r.starts_with("\"lenient\";r=")), "{}", reply.head);
}

/// A leader that has so many permits to give, for all keys together.
struct Purse(AtomicU64);

impl Leases for Purse {
    fn exchange(&self, batch: Batch) -> Pin<Box<dyn Future<Output = Result<Reply, Unreachable>> + Send + '_>> {
        let answer = |item: &tidegate_quota::protocol::Item| {
            let had = self.0.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| Some(n.saturating_sub(item.want.0)));
            let had = had.unwrap_or(0);
            let granted = had.min(item.want.0);
            let verdict = Verdict::Lease {
                granted: Permits(granted),
                free: Permits(had - granted),
                ttl: Nanos::from_secs(4),
                retry: if granted < item.waiting.0 { Nanos::from_millis(29_500) } else { Nanos::ZERO },
                reserve: Permits::ZERO,
            };
            Answer { key: item.key, epoch: item.epoch, verdict }
        };
        let items = batch.items.iter().map(answer).collect();
        let reply = Reply { node: batch.node, incarnation: batch.incarnation, seq: batch.seq, items };
        Box::pin(std::future::ready(Ok(reply)))
    }

    fn recalled(&self) -> Pin<Box<dyn Future<Output = Key> + Send + '_>> {
        Box::pin(std::future::pending())
    }
}

#[tokio::test]
async fn what_a_limit_refuses_is_429_and_says_when_to_come_back() {
    let (backend, seen) = backend::start().await;
    let mut limited = route("/", &upstream(backend));
    limited.limits = [0].into();
    let mut setup = Setup::routes(vec![limited]);
    setup.snapshot.limits = vec![limit("three", Mode::Enforce, OnUnavailable::Deny)];
    let world = setup.start().await;
    tokio::spawn(world.gate.limiter.clone().run(Arc::new(Purse(AtomicU64::new(3)))));
    let mut served = 0;
    let reply = loop {
        let reply = world.get("/").await;
        if reply.status != 200 {
            break reply;
        }
        assert_eq!(reply.header("ratelimit-policy"), Some("\"three\";q=100;w=60"));
        served += 1;
    };
    assert_eq!(served, 3);
    assert_eq!((reply.status, reply.code().as_str()), (429, "rate_limited"));
    let wait: u64 = reply.header("retry-after").unwrap().parse().unwrap();
    assert!((29..=30).contains(&wait), "{wait}");
    assert!(reply.header("ratelimit").is_some_and(|r| r.starts_with("\"three\";r=0;t=")), "{}", reply.head);
    assert_eq!(seen.requests.load(Ordering::SeqCst), served);
}
