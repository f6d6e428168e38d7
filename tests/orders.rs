//! Operators' orders about limits over three real nodes: maxima, grants, resets, blocks; who gave them, and that they last.

use std::time::Duration;

use http::StatusCode;
use serde_json::Value;
use tokio::time::Instant;

use crate::harness::{Backend, Cluster, eventually};
use crate::walk::document;

struct Bench {
    backend: Backend,
    cluster: Cluster,
    key: String,
}

impl Bench {
    async fn start(max: u64, window: &str) -> Self {
        Self::with(|backend| document(backend, max, window)).await
    }

    async fn with(document: impl FnOnce(&Backend) -> String) -> Self {
        let (backend, cluster) = (Backend::start().await, Cluster::start(3).await);
        cluster.apply(&document(&backend)).await;
        let key = format!("Bearer {}", cluster.key("acme").await);
        let bench = Self { backend, cluster, key };
        eventually("the key is known everywhere", Duration::from_secs(5), async || {
            let mut known = true;
            for node in 0..3 {
                // A request would take a permit; a node that reads the keys has applied them.
                let keys = bench.cluster.cli_at(node, &["key", "ls"]).await.unwrap();
                known &= keys["keys"].as_array().is_some_and(|keys| keys.len() == 1);
            }
            known
        })
        .await;
        bench
    }

    async fn get(&self, node: usize, path: &str) -> StatusCode {
        let url = self.cluster.nodes[node].url(path);
        self.cluster.client.get(&url, &[("authorization", &self.key)]).await.unwrap().status
    }

    async fn limited(&self, node: usize) -> StatusCode {
        self.get(node, "/limited/x").await
    }

    /// All that can be had now, over all nodes that run.
    async fn take_all(&self) -> u64 {
        let mut taken = 0;
        let running: Vec<usize> = (0..3).filter(|node| self.cluster.nodes[*node].is_running()).collect();
        let mut refusals = 0;
        while refusals < 3 * running.len() {
            refusals = 0;
            for node in running.iter().copied().cycle().take(3 * running.len()) {
                match self.limited(node).await {
                    StatusCode::OK => taken += 1,
                    StatusCode::TOO_MANY_REQUESTS => refusals += 1,
                    other => panic!("{other}"),
                }
            }
        }
        taken
    }

    async fn quota(&self, node: usize, words: &str) -> Value {
        let words: Vec<&str> = ["quota"].into_iter().chain(words.split(' ')).collect();
        self.cluster.cli_at(node, &words).await.unwrap_or_else(|why| panic!("{words:?}: {why}"))
    }

    /// More than the limit allows, on all nodes.
    fn load(&self, ends: Instant) -> tokio::task::JoinHandle<()> {
        self.load_on("/limited/x", ends)
    }

    /// How many of them are admitted in so many seconds.
    async fn admitted(&self, path: &str, seconds: u64) -> usize {
        let before = self.backend.seen().len();
        self.load_on(path, Instant::now() + Duration::from_secs(seconds)).await.unwrap();
        self.backend.seen().len() - before
    }

    /// What the caller is told of his limit, by each node.
    async fn is_told(&self, path: &str, policy: &str) {
        eventually(policy, Duration::from_secs(10), async || {
            let mut told = true;
            for node in &self.cluster.nodes {
                let answer = self.cluster.client.get(&node.url(path), &[("authorization", &self.key)]).await.unwrap();
                told &= answer.headers.get("ratelimit-policy").is_some_and(|it| it == policy);
            }
            told
        })
        .await;
    }

    fn load_on(&self, path: &str, ends: Instant) -> tokio::task::JoinHandle<()> {
        let urls: Vec<_> = self.cluster.nodes.iter().map(|node| node.url(path)).collect();
        let (client, key) = (self.cluster.client.clone(), self.key.clone());
        tokio::spawn(async move {
            let mut asks = tokio::task::JoinSet::new();
            for url in urls.into_iter().cycle() {
                if Instant::now() >= ends {
                    break;
                }
                let (client, key) = (client.clone(), key.clone());
                asks.spawn(async move { client.get(&url, &[("authorization", &key)]).await.map(|it| it.status).ok() });
                if asks.len() > 50 {
                    asks.join_next().await;
                }
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            while asks.join_next().await.is_some() {}
        })
    }

    async fn is_exact(&self) {
        let verdict = self.cluster.verify(&self.backend.seen()).await;
        assert!(verdict["worst_window_ratio"].as_f64().unwrap() <= 1.0, "{verdict}");
        assert_eq!(verdict["backend_requests_missing"], 0, "{verdict}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn maxima_grants_and_resets_bind_on_all_nodes_and_the_judge_knows_them() {
    let bench = Bench::start(20, "10m").await;
    assert_eq!(bench.take_all().await, 20);
    let count = bench.quota(1, "get per-key --key 1").await;
    assert_eq!((&count["max"], &count["spent"], &count["free"]), (&20.into(), &20.into(), &0.into()), "{count}");
    assert_eq!(count["words"], "tenant=default key=1");
    assert_eq!((&count["worst_window"], &count["document_max"]), (&20.into(), &20.into()), "{count}");

    // Raising holds at once, for the limit or for one subject.
    let set = bench.quota(2, "set per-key --max 25 --reason launch").await;
    assert_eq!((&set["complete"], &set["order"]["by"]), (&true.into(), &"bootstrap".into()), "{set}");
    assert_eq!(bench.take_all().await, 5);
    bench.quota(0, "set per-key --key 1 --max 28").await;
    assert_eq!(bench.take_all().await, 3);

    // A grant is so many permits more, and no other.
    bench.quota(1, "grant per-key 7 --key 1 --for 1h").await;
    let count = bench.quota(2, "get per-key --key 1").await;
    assert_eq!((&count["max"], &count["extra"], &count["free"]), (&35.into(), &7.into(), &7.into()), "{count}");
    assert_eq!(bench.take_all().await, 7);
    bench.quota(1, "set per-key --key 1 --max 28 --reason again").await;
    assert_eq!(bench.take_all().await, 0);

    // After a reset the window holds its maximum again.
    bench.quota(2, "reset per-key --key 1 --reason complaint").await;
    assert_eq!(bench.take_all().await, 28);
    bench.quota(2, "unset per-key --key 1").await;
    assert_eq!(bench.take_all().await, 0);

    let top = bench.quota(0, "top --limit per-key").await;
    let first = &top["counters"][0];
    assert_eq!((&first["words"], &first["spent"]), (&"tenant=default key=1".into(), &28.into()), "{top}");
    assert!(first["refused"].as_u64().unwrap() > 9, "{top}");
    assert_eq!(bench.quota(1, "top --by refused").await["counters"][0]["words"], "tenant=default key=1");

    let history = bench.cluster.cli(&["history"]).await.unwrap();
    let told: Vec<_> =
        history["orders"].as_array().unwrap().iter().rev().map(|event| event["order"]["order"].clone()).collect();
    assert_eq!(told, ["set", "set", "grant", "set", "set", "reset", "set"], "{history}");
    let path = bench.cluster.write("document.yaml", &document(&bench.backend, 30, "10m"));
    let diff = bench.cluster.cli(&["diff", path.to_str().unwrap()]).await.unwrap();
    assert_eq!(diff["orders"][0]["permits"], 25, "{diff}");
    bench.cluster.apply(&document(&bench.backend, 30, "10m")).await;
    let count = bench.quota(0, "get per-key --key 1").await;
    assert_eq!((&count["max"], &count["document_max"]), (&25.into(), &30.into()), "the order stays: {count}");
    bench.is_exact().await;

    // Nothing of it is open to those who may only look.
    let reader = bench.cluster.cli(&["token", "create", "looker", "--role", "reader"]).await.unwrap();
    let reader = reader["secret"].as_str().or(reader["token"].as_str()).unwrap().to_owned();
    for verb in ["set per-key --max 1", "grant per-key 1 --key 1", "reset per-key", "block --key 1", "unset per-key"] {
        let words: Vec<&str> = ["--token", &reader, "quota"].into_iter().chain(verb.split(' ')).collect();
        let why = bench.cluster.cli(&words).await.expect_err(verb);
        assert!(why.contains("needs the role operator"), "{why}");
    }
    let words = ["--token", &reader, "quota", "get", "per-key", "--key", "1"];
    assert!(bench.cluster.cli(&words).await.is_ok());
    for (verb, hint) in [
        ("get per-key", "--key ID"),
        ("get nothing --key 1", "per-key"),
        ("get per-key --key 1 --route open", "--route"),
        ("get per-key --key 99", "key 99"),
        ("unset per-key --key 1", "no such order"),
    ] {
        let words: Vec<&str> = ["quota"].into_iter().chain(verb.split(' ')).collect();
        let why = bench.cluster.cli(&words).await.expect_err(verb);
        assert!(why.contains(hint), "{verb}: {why}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_maximum_of_ones_own_is_a_count_of_ones_own_whoever_has_it() {
    let (backend, cluster) = (Backend::start().await, Cluster::start(1).await);
    let address = backend.address;
    let document = format!(
        "\
version: 1
tenants: [{{name: default, limits: [{{limit: whole, max: 90}}], plan: free}}]
teams: [{{name: web, tenant: default, limits: [{{limit: team, max: 70}}]}}]
consumers: [{{name: acme, team: web}}]
plans:
  - {{name: free, limits: [{{limit: per-key, max: 20}}]}}
  - {{name: gold, limits: [{{limit: per-key, max: 30}}]}}
limits:
  - {{name: per-key, window: 60s, max: 10, per: [key]}}
  - {{name: team, window: 60s, max: 10, per: [team]}}
  - {{name: whole, window: 60s, max: 10, per: [tenant]}}
  - {{name: offer, window: 60s, max: 10, per: [consumer]}}
upstreams: [{{name: echo, endpoints: [{{url: \"http://{address}\"}}]}}]
products: [{{name: p, routes: [r], plans: [{{plan: free, limits: [{{limit: offer, max: 40}}]}}, {{plan: gold}}]}}]
routes: [{{name: r, match: {{path: /r}}, to: [{{upstream: echo}}], auth: [key]}}]
"
    );
    cluster.apply(&document).await;
    let key = format!("Bearer {}", cluster.key("acme").await);
    cluster.cli(&["key", "create", "acme", "--plan", "gold"]).await.unwrap();
    let answer = cluster.client.get(&cluster.nodes[0].url("/r"), &[("authorization", &key)]).await.unwrap();
    assert_eq!(answer.status, StatusCode::OK);
    for (words, max, spent) in [
        ("per-key --key 1", 20, 1),
        ("per-key --key 2", 30, 0),
        ("team --team web", 70, 1),
        ("whole --tenant default", 90, 1),
        ("offer --consumer acme", 40, 1),
    ] {
        eventually(words, Duration::from_secs(5), async || {
            let words: Vec<&str> = ["quota", "get"].into_iter().chain(words.split(' ')).collect();
            let count = cluster.cli(&words).await.unwrap();
            count["max"] == max && count["spent"] == spent
        })
        .await;
    }
    // So an order binds who is meant.
    cluster.cli(&["quota", "block", "team", "--team", "web"]).await.unwrap();
    let answer = cluster.client.get(&cluster.nodes[0].url("/r"), &[("authorization", &key)]).await.unwrap();
    assert_eq!(answer.status, StatusCode::FORBIDDEN);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lowered_maximum_binds_within_a_leases_life_and_outlives_leaders_and_restarts_until_its_end() {
    let mut bench = Bench::start(400, "2s").await;
    let load = bench.load(Instant::now() + Duration::from_secs(12));
    tokio::time::sleep(Duration::from_secs(3)).await;
    bench.quota(0, "set per-key --max 40 --reason trouble").await;
    load.await.unwrap();
    // The decision logs say so of every window, the first ones after the order apart.
    bench.is_exact().await;
    let count = bench.quota(1, "get per-key --key 1").await;
    assert!(count["worst_window"].as_u64().unwrap() > 100 && count["spent"].as_u64().unwrap() <= 40, "{count}");

    let leader = bench.cluster.leader("quota").await;
    bench.cluster.nodes[leader].kill().await;
    let other = (leader + 1) % 3;
    eventually("another leads", Duration::from_secs(10), async || {
        let words = ["quota", "get", "per-key", "--key", "1"];
        bench.cluster.cli_at(other, &words).await.is_ok_and(|count| count["max"] == 40)
    })
    .await;
    for node in (0..3).filter(|node| *node != leader) {
        bench.cluster.nodes[node].kill().await;
    }
    for node in 0..3 {
        bench.cluster.nodes[node].spawn(None);
    }
    for node in 0..3 {
        bench.cluster.nodes[node].wait_until_ready().await;
    }
    assert_eq!(bench.quota(2, "get per-key --key 1").await["max"], 40);

    // With an end it goes by itself.
    bench.quota(1, "set per-key --max 50 --for 2s").await;
    assert_eq!(bench.quota(2, "get per-key --key 1").await["max"], 50);
    eventually("it has ended", Duration::from_secs(10), async || {
        bench.quota(2, "get per-key --key 1").await["max"] == 400
    })
    .await;
    let events = bench.quota(0, "ls").await;
    assert_eq!((&events["events"][0]["happened"], &events["orders"]), (&"lapsed".into(), &Value::Array(vec![])));
    let load = bench.load(Instant::now() + Duration::from_secs(3));
    load.await.unwrap();
    bench.is_exact().await;
}

fn buckets(backend: &Backend) -> String {
    let address = backend.address;
    format!(
        "\
version: 1
consumers:
  - {{name: acme}}
limits:
  - {{name: bucket, rate: 1/m, burst: 5, per: [key]}}
  - {{name: smooth, rate: 1000/s, burst: 5, per: [key]}}
  - {{name: window, window: 60s, max: 5, per: [key]}}
upstreams:
  - name: echo
    endpoints: [{{url: \"http://{address}\"}}]
routes:
  - name: limited
    match: {{path: /limited/*}}
    to: [{{upstream: echo}}]
    auth: [key]
    limits: [bucket]
  - name: fast
    match: {{path: /fast/*}}
    to: [{{upstream: echo}}]
    auth: [key]
    limits: [smooth]
  - name: slow
    match: {{path: /slow/*}}
    to: [{{upstream: echo}}]
    auth: [key]
    limits: [window]
"
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rate_and_a_burst_of_ones_own_bind_on_all_nodes_and_the_caller_is_told_of_them() {
    let bench = Bench::with(buckets).await;
    bench.is_told("/limited/x", "\"bucket\";q=5;w=300").await;
    assert!(bench.admitted("/limited/x", 2).await <= 6, "a burst of five, some of which was used");

    let set = bench.quota(2, "set bucket --key 1 --rate 20/s --burst 40 --reason launch").await;
    let order = &set["order"];
    assert_eq!(
        (&order["rate"], &order["permits"], &set["complete"]),
        (&"20/s".into(), &40.into(), &true.into()),
        "{set}"
    );
    bench.is_told("/limited/x", "\"bucket\";q=40;w=2").await;
    let admitted = bench.admitted("/limited/x", 4).await;
    assert!(admitted >= 40, "{admitted} in four seconds at 20 a second");
    let count = bench.quota(1, "get bucket --key 1").await;
    assert_eq!((&count["max"], &count["document_max"]), (&40.into(), &5.into()), "{count}");
    assert_eq!((&count["rate"], &count["document_rate"]), (&"20/s".into(), &"1/m".into()), "{count}");
    assert_eq!(count["span_ms"], 2_000, "{count}");
    let path = bench.cluster.write("document.yaml", &buckets(&bench.backend));
    let diff = bench.cluster.cli(&["diff", path.to_str().unwrap()]).await.unwrap();
    assert_eq!((&diff["orders"][0]["rate"], &diff["orders"][0]["permits"]), (&"20/s".into(), &40.into()), "{diff}");

    // Slower again, and the burst is the document's: what nodes hold is over within the life of a lease.
    bench.quota(0, "set bucket --key 1 --rate 2/s").await;
    bench.is_told("/limited/x", "\"bucket\";q=5;w=3").await;
    bench.admitted("/limited/x", 8).await;
    bench.is_exact().await;

    // The whole limit, and a leader that is gone.
    bench.quota(1, "unset bucket --key 1").await;
    bench.is_told("/limited/x", "\"bucket\";q=5;w=300").await;
    bench.quota(1, "set bucket --rate 10/s --burst 20").await;
    bench.is_told("/limited/x", "\"bucket\";q=20;w=2").await;
    let admitted = bench.admitted("/limited/x", 3).await;
    assert!(admitted >= 15, "{admitted} in three seconds at 10 a second");
    bench.quota(0, "unset bucket").await;
    bench.is_told("/limited/x", "\"bucket\";q=5;w=300").await;

    // Of a limit whose rate nodes hold in parts.
    bench.is_told("/fast/x", "\"smooth\";q=5;w=1").await;
    bench.quota(0, "set smooth --key 1 --rate 20/s --burst 10").await;
    bench.is_told("/fast/x", "\"smooth\";q=10;w=1").await;
    bench.admitted("/fast/x", 8).await;
    bench.quota(1, "set smooth --key 1 --rate 200/s --burst 10").await;
    let admitted = bench.admitted("/fast/x", 4).await;
    assert!(admitted > 100, "{admitted} in four seconds at 200 a second, and 20 before");

    // A window's own maximum.
    bench.quota(2, "set window --key 1 --max 9").await;
    bench.is_told("/slow/x", "\"window\";q=9;w=60").await;
    for (words, hint) in [
        ("set window --key 1 --rate 5/s", "--max"),
        ("set window --key 1 --burst 5", "no rate and no burst"),
        ("set bucket --key 1 --rate 0/s", "block the subject"),
        ("set smooth --key 1 --rate 1/m", "at least 1/s"),
    ] {
        let words: Vec<&str> = ["quota"].into_iter().chain(words.split(' ')).collect();
        let why = bench.cluster.cli(&words).await.expect_err(hint);
        assert!(why.contains(hint), "{words:?}: {why}");
    }
    let history = bench.cluster.cli(&["history"]).await.unwrap();
    assert!(history["orders"].as_array().unwrap().iter().any(|event| event["order"]["rate"] == "200/s"), "{history}");
    bench.is_exact().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_block_is_dead_on_all_nodes_when_the_call_returns_and_gone_when_it_ends() {
    let bench = Bench::start(1_000, "60s").await;
    for (turn, block) in ["block --key 1", "block --consumer acme", "block per-key --key 1"].iter().enumerate() {
        for node in 0..3 {
            assert_eq!(bench.limited(node).await, StatusCode::OK);
        }
        let done = bench.quota(turn, block).await;
        for node in 0..3 {
            assert_eq!(bench.limited(node).await, StatusCode::FORBIDDEN, "{block} on node {node}: {done}");
        }
        let url = bench.cluster.nodes[turn].url("/limited/x");
        let answer = bench.cluster.client.get(&url, &[("authorization", &bench.key)]).await.unwrap();
        assert_eq!(answer.json()["error"]["code"], "blocked");
        bench.quota((turn + 1) % 3, &format!("un{block}")).await;
    }
    bench.quota(0, "block --key 1 --for 1s").await;
    assert_eq!(bench.limited(2).await, StatusCode::FORBIDDEN);
    eventually("it has ended", Duration::from_secs(5), async || bench.limited(2).await == StatusCode::OK).await;
}
