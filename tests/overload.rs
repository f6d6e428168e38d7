//! More is asked than can be served: backends stay at their best, those who matter most hardly notice, nobody is pushed out.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::harness::{Backend, Client, Cluster, Origin, answer, eventually};

const WORKERS: usize = 8;
const TAKES: Duration = Duration::from_millis(100);

/// So many workers, an answer each 100 ms; the more requests it has beyond those, the slower it is.
async fn busy_backend() -> Origin {
    let (workers, waiting) = (Arc::new(Semaphore::new(WORKERS)), Arc::new(AtomicUsize::new(0)));
    Origin::start(move |_, _| {
        let (workers, waiting) = (Arc::clone(&workers), Arc::clone(&waiting));
        async move {
            let before = waiting.fetch_add(1, Relaxed);
            let _worker = workers.acquire().await.unwrap();
            let more = u32::try_from(before.saturating_sub(WORKERS)).unwrap();
            tokio::time::sleep(TAKES + TAKES / 20 * more).await;
            waiting.fetch_sub(1, Relaxed);
            answer(&[], "ok")
        }
    })
    .await
}

/// One in front of which somebody says who asks.
async fn gate(origin: &Origin, overload: &str) -> Cluster {
    let cluster = Cluster::start(1).await;
    let address = origin.address;
    cluster
        .apply(&format!(
            "\
version: 1
listeners: {{trusted_proxies: [127.0.0.1/32]}}
upstreams:
  - name: busy
    endpoints: [{{url: \"http://{address}\"}}]
    retries: {{max: 0}}
    overload: {overload}
routes:
  - {{name: all, match: {{path: /*}}, to: [{{upstream: busy}}]}}
"
        ))
        .await;
    cluster
}

#[derive(Default, Debug)]
struct Took {
    good: Vec<Duration>,
    refused: usize,
}

impl Took {
    fn p99(&mut self) -> Duration {
        self.good.sort();
        self.good[self.good.len() * 99 / 100]
    }

    fn share(&self) -> f64 {
        self.good.len() as f64 / (self.good.len() + self.refused) as f64
    }
}

/// Somebody asks so often a second, whatever is answered, for so long; what came before `warm` is not told.
async fn ask(url: String, from: &str, class: &str, rate: u32, warm: Duration, whole: Duration) -> Took {
    let (client, began) = (Client::new(), Instant::now());
    let mut asking = JoinSet::new();
    let mut beat = tokio::time::interval(Duration::from_secs(1) / rate);
    while began.elapsed() < whole {
        beat.tick().await;
        let (client, url, from, class) = (client.clone(), url.clone(), from.to_owned(), class.to_owned());
        let counts = began.elapsed() >= warm;
        asking.spawn(async move {
            let sent = Instant::now();
            let headers = [("x-forwarded-for", from.as_str()), ("x-class", class.as_str())];
            let answer = client.get(&url, &headers).await.unwrap();
            assert!(matches!(answer.status.as_u16(), 200 | 503), "{answer:?}");
            (counts, answer.status == 200, sent.elapsed())
        });
    }
    let mut took = Took::default();
    while let Some(asked) = asking.join_next().await {
        match asked.unwrap() {
            (true, true, time) => took.good.push(time),
            (true, false, _) => took.refused += 1,
            (false, ..) => {}
        }
    }
    took
}

/// As many clients as there are workers, each asking again at once.
async fn peak(url: &str, whole: Duration) -> Took {
    let mut clients = JoinSet::new();
    for _ in 0..WORKERS {
        let (url, began) = (url.to_owned(), Instant::now());
        clients.spawn(async move {
            let (client, mut all) = (Client::new(), Vec::new());
            while began.elapsed() < whole {
                let sent = Instant::now();
                assert_eq!(client.get(&url, &[]).await.unwrap().status, 200);
                all.push(sent.elapsed());
            }
            all
        });
    }
    Took { good: clients.join_all().await.concat(), refused: 0 }
}

#[tokio::test(flavor = "multi_thread")]
async fn at_three_times_its_capacity_a_backend_works_as_well_as_ever_and_high_priority_hardly_waits() {
    let origin = busy_backend().await;
    let cluster = gate(&origin, "{class_header: x-class}").await;
    let url = cluster.nodes[0].url("/work");
    let mut best = peak(&url, Duration::from_secs(6)).await;
    let best_rate = best.good.len() as f64 / 6.0;
    let (warm, whole) = (Duration::from_secs(6), Duration::from_secs(24));
    let high = tokio::spawn(ask(url.clone(), "10.0.0.9", "high", 20, warm, whole));
    let others = ["10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4"];
    let normal: Vec<_> =
        others.map(|from| tokio::spawn(ask(url.clone(), from, "normal", 55, warm, whole))).into_iter().collect();
    let mut high = high.await.unwrap();
    let mut good = high.good.len();
    for one in normal {
        let took = one.await.unwrap();
        good += took.good.len();
        assert!(took.refused > 0, "three times as much was asked for");
    }
    let rate = good as f64 / (whole - warm).as_secs_f64();
    assert!(rate >= 0.9 * best_rate, "{rate} of {best_rate} a second");
    assert!(high.share() > 0.99, "{} of {} were refused", high.refused, high.good.len());
    let (before, now) = (best.p99(), high.p99());
    let at = |share: usize| high.good[high.good.len() * share / 1000];
    let told = format!("{:?} {:?} {:?} {:?}", at(500), at(900), at(980), at(999));
    println!("high p99 {now:?}, without load {before:?}; {told}; {rate:.1} of {best_rate:.1} a second");
    assert!(now <= 2 * before, "{now:?}, without load {before:?}; {told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_who_floods_leaves_the_others_their_share() {
    let origin = busy_backend().await;
    let cluster = gate(&origin, "{queue: {max: 100, per_consumer: 60, deadline: 300ms}}").await;
    let url = cluster.nodes[0].url("/work");
    let (warm, whole) = (Duration::from_secs(3), Duration::from_secs(9));
    let flood = tokio::spawn(ask(url.clone(), "10.0.0.1", "", 400, warm, whole));
    let small = ["10.0.0.2", "10.0.0.3"].map(|from| tokio::spawn(ask(url.clone(), from, "", 20, warm, whole)));
    for one in small {
        let took = one.await.unwrap();
        assert!(took.share() > 0.95, "{} refused beside {}", took.refused, took.good.len());
    }
    let flood = flood.await.unwrap();
    assert!(flood.refused > flood.good.len(), "{} refused, {} served", flood.refused, flood.good.len());
    let metrics = cluster.metrics(0).await;
    assert!(value(&metrics, "tidegate_overload_limit{upstream=\"busy\"}") < 30.0, "{metrics}");
}

#[tokio::test]
async fn streams_that_last_do_not_use_up_what_may_run_at_once() {
    let (backend, cluster) = (Backend::start().await, Cluster::start(1).await);
    let address = backend.address;
    cluster
        .apply(&format!(
            "\
version: 1
upstreams: [{{name: busy, endpoints: [{{url: \"http://{address}\"}}], overload: {{max: 3, queue: {{deadline: 5s}}}}}}]
routes: [{{name: all, match: {{path: /*}}, to: [{{upstream: busy}}]}}]
"
        ))
        .await;
    let url = cluster.nodes[0].url("/stream?parts=40&pause_ms=100");
    let mut streams = Vec::new();
    for _ in 0..12 {
        let (method, nothing) = (http::Method::GET, bytes::Bytes::new());
        let opening = cluster.client.open(method, &url, &[], nothing);
        let begun = tokio::time::timeout(Duration::from_secs(2), opening).await.expect("it begins at once").unwrap();
        assert_eq!(begun.status(), 200);
        streams.push(begun);
    }
    assert_eq!(cluster.client.get(&cluster.nodes[0].url("/x"), &[]).await.unwrap().status, 200);
}

#[tokio::test]
async fn who_waits_too_long_is_told_to_come_again_and_who_leaves_is_not_waited_for() {
    let origin = Origin::start(|parts, _| async move {
        let takes = if parts.uri.path() == "/long" { 1_500 } else { 0 };
        tokio::time::sleep(Duration::from_millis(takes)).await;
        answer(&[], "ok")
    })
    .await;
    let cluster = gate(&origin, "{concurrency: 1, queue: {deadline: 600ms}}").await;
    let node = &cluster.nodes[0];
    let (client, url) = (cluster.client.clone(), node.url("/long"));
    let long = tokio::spawn(async move { client.get(&url, &[]).await.unwrap().status });
    eventually("it runs", Duration::from_secs(5), async || {
        value(&cluster.metrics(0).await, "tidegate_overload_running{upstream=\"busy\"}") == 1.0
    })
    .await;
    // One leaves before his time.
    let gone = tokio::time::timeout(Duration::from_millis(100), Client::new().get(&node.url("/gone"), &[])).await;
    assert!(gone.is_err());
    eventually("nobody waits", Duration::from_millis(400), async || {
        value(&cluster.metrics(0).await, "tidegate_overload_queued{upstream=\"busy\",class=\"normal\"}") == 0.0
    })
    .await;
    let refused = cluster.client.get(&node.url("/short"), &[]).await.unwrap();
    assert_eq!((refused.status.as_u16(), refused.headers["retry-after"].as_bytes()), (503, &b"1"[..]));
    assert_eq!(refused.json()["error"]["code"], "upstream_overloaded");
    assert_eq!(long.await.unwrap(), 200);
    assert_eq!(cluster.client.get(&node.url("/short"), &[]).await.unwrap().status, 200);
    assert_eq!((origin.asked("GET /gone"), origin.asked("GET /short")), (0, 1));
    let metrics = cluster.metrics(0).await;
    let shed = "tidegate_overload_shed_total{upstream=\"busy\",class=\"normal\",reason=\"deadline\"}";
    assert_eq!(value(&metrics, shed), 1.0, "{metrics}");
}

#[tokio::test]
async fn who_waits_is_let_in_by_the_class_of_consumer_plan_or_route() {
    let (one, order) = (Arc::new(Semaphore::new(0)), Arc::new(Mutex::new(Vec::new())));
    let (lets, came) = (Arc::clone(&one), Arc::clone(&order));
    let origin = Origin::start(move |parts, _| {
        let lets = Arc::clone(&lets);
        came.lock().unwrap().push(parts.uri.path().to_owned());
        async move {
            lets.acquire().await.unwrap().forget();
            answer(&[], "ok")
        }
    })
    .await;
    let cluster = Cluster::start(1).await;
    let address = origin.address;
    cluster
        .apply(&format!(
            "\
version: 1
tenants: [{{name: default}}]
plans: [{{name: gold, class: high}}, {{name: tin, class: low}}]
consumers:
  - {{name: plain, tenant: default}}
  - {{name: golden, tenant: default, plan: gold}}
  - {{name: tinny, tenant: default, plan: tin}}
  - {{name: chosen, tenant: default, plan: tin, class: critical}}
upstreams:
  - name: busy
    endpoints: [{{url: \"http://{address}\"}}]
    overload: {{concurrency: 1, queue: {{deadline: 1m}}}}
routes:
  - {{name: free, match: {{path: /free}}, to: [{{upstream: busy}}]}}
  - {{name: asked, match: {{path: /keys/*}}, to: [{{upstream: busy}}], auth: [key], class: normal}}
"
        ))
        .await;
    let url = |path: &str| cluster.nodes[0].url(path);
    let ask = |path: &str, bearer: Option<String>| {
        let (url, client) = (url(path), Client::new());
        tokio::spawn(async move {
            let headers: Vec<(&str, &str)> = bearer.iter().map(|key| ("authorization", key.as_str())).collect();
            client.get(&url, &headers).await.unwrap().status
        })
    };
    one.add_permits(8); // While keys become known.
    let mut keys = Vec::new();
    for consumer in ["tinny", "plain", "golden", "chosen"] {
        keys.push((consumer, cluster.bearer(consumer, "/keys/known").await));
    }
    one.forget_permits(usize::MAX);
    order.lock().unwrap().clear();
    let first = ask("/free", None);
    eventually("it runs", Duration::from_secs(10), async || order.lock().unwrap().len() == 1).await;
    // The least come first, and each stands in line before the next comes.
    let mut asked = Vec::new();
    for (waiting, (consumer, key)) in keys.into_iter().enumerate() {
        asked.push(ask(&format!("/keys/{consumer}"), Some(key)));
        eventually("it waits", Duration::from_secs(10), async || {
            let metrics = cluster.metrics(0).await;
            let of =
                |class| value(&metrics, &format!("tidegate_overload_queued{{upstream=\"busy\",class=\"{class}\"}}"));
            let all = ["critical", "high", "normal", "low"].map(of);
            all.iter().sum::<f64>() == (waiting + 1) as f64
        })
        .await;
    }
    one.add_permits(5);
    assert_eq!(first.await.unwrap(), 200);
    for one in asked {
        assert_eq!(one.await.unwrap(), 200);
    }
    let order = order.lock().unwrap().clone();
    assert_eq!(order, ["/free", "/keys/chosen", "/keys/golden", "/keys/plain", "/keys/tinny"]);
}

fn value(metrics: &str, name: &str) -> f64 {
    let line = metrics.lines().find_map(|line| line.strip_prefix(name));
    line.unwrap_or_else(|| panic!("no {name} in\n{metrics}")).trim().parse().unwrap()
}
