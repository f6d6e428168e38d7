//! Kept responses, over real nodes and a real Redis.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, StatusCode};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::harness::{Answer, Cluster, Origin, Redis, answer, eventually};

/// A document whose only route keeps responses as `rule` says.
pub(crate) fn document(origin: &Origin, rule: &str) -> String {
    let mut text = String::from("version: 1\nupstreams:\n");
    writeln!(text, "  - {{name: origin, endpoints: [{{url: \"http://{}\"}}]}}", origin.address).unwrap();
    writeln!(text, "routes:\n  - name: kept\n    match: {{path: /*}}\n    to: [{{upstream: origin}}]").unwrap();
    writeln!(text, "    cache: {rule}").unwrap();
    text
}

/// Says how often it was asked, `path` by `path`; what it sends is fresh for an hour.
pub(crate) async fn counting() -> Origin {
    let turn = AtomicUsize::new(0);
    Origin::start(move |parts, body| {
        let turn = turn.fetch_add(1, SeqCst) + 1;
        async move {
            let text = format!("{turn} {}", String::from_utf8_lossy(&body));
            match parts.uri.path() {
                slow if slow.starts_with("/slow") => tokio::time::sleep(Duration::from_millis(300)).await,
                "/validated" if parts.headers.contains_key("if-none-match") => {
                    let mut response =
                        answer(&[("cache-control", "max-age=0, must-revalidate"), ("etag", "\"v\"")], "");
                    *response.status_mut() = StatusCode::NOT_MODIFIED;
                    return response;
                }
                "/validated" => {
                    return answer(&[("cache-control", "max-age=0, must-revalidate"), ("etag", "\"v\"")], text);
                }
                "/letters" => return answer(&[("cache-control", "max-age=3600")], "abcdefghij"),
                _ => {}
            }
            answer(&[("cache-control", "max-age=3600"), ("surrogate-key", "all")], text)
        }
    })
    .await
}

async fn ask(
    cluster: &Cluster,
    node: usize,
    method: Method,
    path: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> Answer {
    let url = cluster.nodes[node].url(path);
    let headers: Vec<(&str, &str)> = headers.iter().copied().chain([("host", "example.com")]).collect();
    cluster.client.send(method, &url, &headers, body.to_owned()).await.unwrap()
}

pub(crate) async fn get(cluster: &Cluster, node: usize, path: &str) -> Answer {
    ask(cluster, node, Method::GET, path, &[], "").await
}

pub(crate) fn said(answer: &Answer) -> &str {
    answer.headers["cache-status"].to_str().unwrap()
}

pub(crate) async fn metric(cluster: &Cluster, node: usize, name: &str) -> u64 {
    let stats = cluster.cli_at(node, &["cache", "stats"]).await.unwrap();
    let id = cluster.nodes[node].id();
    let of = stats["nodes"].as_array().unwrap().iter().find(|it| it["node"] == id).unwrap();
    let found = if let Some(name) = name.strip_prefix("redis.") {
        &of["redis"]["counters"][name]
    } else {
        &of["counters"][name]
    };
    found.as_u64().unwrap_or_else(|| panic!("no {name} in {of}"))
}

#[tokio::test]
async fn what_one_node_fetched_all_nodes_serve() {
    let (origin, redis) = (counting().await, Redis::start().await);
    let cluster = Cluster::start_with(2, &["--redis-url", &redis.url()]).await;
    let log = cluster.write("access.log", "");
    cluster
        .apply(
            &(document(&origin, "{tags: [web]}")
                + "telemetry: {access_log: {format: json, file: \""
                + log.to_str().unwrap()
                + "\"}}\n"),
        )
        .await;

    let first = get(&cluster, 0, "/a?b").await;
    assert_eq!((&first.body[..], said(&first)), (&b"1 "[..], "Tidegate; fwd=uri-miss; stored"));
    assert!(said(&get(&cluster, 0, "/a?b").await).starts_with("Tidegate; hit"));
    eventually("it comes by Redis", Duration::from_secs(5), async || {
        let second = get(&cluster, 1, "/a?b").await;
        second.body == first.body && said(&second).starts_with("Tidegate; hit")
    })
    .await;
    let head = ask(&cluster, 1, Method::HEAD, "/a?b", &[], "").await;
    assert!(said(&head).starts_with("Tidegate; hit") && head.body.is_empty() && head.headers["content-length"] == "2");

    get(&cluster, 0, "/letters").await;
    let part = ask(&cluster, 0, Method::GET, "/letters", &[("range", "bytes=2-4")], "").await;
    assert_eq!((part.status, &part.body[..]), (StatusCode::PARTIAL_CONTENT, &b"cde"[..]));

    let validated = get(&cluster, 0, "/validated").await;
    let again = get(&cluster, 0, "/validated").await;
    assert_eq!(again.body, validated.body, "a 304 renewed it");
    assert!(said(&again).contains("fwd=stale; fwd-status=304"), "{}", said(&again));
    let mine = ask(&cluster, 0, Method::GET, "/validated", &[("if-none-match", "\"v\"")], "").await;
    assert_eq!(mine.status, StatusCode::NOT_MODIFIED);

    // People look at it, and make it void.
    let kept = cluster.cli(&["cache", "get", "https://example.com/a?b"]).await.unwrap();
    let nodes: Vec<_> = kept["responses"].as_array().unwrap().iter().map(|it| it["node"].as_u64().unwrap()).collect();
    assert_eq!(nodes, [cluster.nodes[0].id(), cluster.nodes[1].id()]);
    assert_eq!(kept["responses"][0]["tags"], serde_json::json!(["all", "web"]), "{kept}");
    let purged = cluster.cli_at(1, &["cache", "purge", "--tag", "web"]).await.unwrap();
    assert_eq!(purged["complete"], true);
    for node in 0..2 {
        assert_ne!(get(&cluster, node, "/a?b").await.body, first.body);
    }
    assert!(metric(&cluster, 0, "hits").await >= 1 && metric(&cluster, 1, "redis.hits").await >= 1);

    let words = ["\"cache\":\"miss\"", "\"cache\":\"hit\"", "\"cache\":\"revalidated\""];
    eventually("the log tells", Duration::from_secs(5), async || {
        let log = std::fs::read_to_string(&log).unwrap();
        words.iter().all(|word| log.contains(word))
    })
    .await;
}

#[tokio::test]
async fn nodes_that_are_reached_by_their_own_addresses_share_and_strange_ports_stay_apart() {
    let (origin, redis) = (counting().await, Redis::start().await);
    let cluster = Cluster::start_with(3, &["--redis-url", &redis.url()]).await;
    cluster.apply(&document(&origin, "{}")).await;
    all_use_redis(&cluster).await;
    // As `tidegate dev` prints them: one address, another port on each node.
    let own = async |node: usize| cluster.client.get(&cluster.nodes[node].url("/own"), &[]).await.unwrap();
    let as_host = async |node: usize, host: &str| {
        cluster.client.get(&cluster.nodes[node].url("/own"), &[("host", host)]).await.unwrap()
    };
    let first = own(0).await;
    for node in 0..3 {
        eventually("it is everywhere", Duration::from_secs(5), async || {
            let next = own(node).await;
            next.body == first.body && said(&next).starts_with("Tidegate; hit")
        })
        .await;
    }
    assert_eq!(origin.asked("GET /own"), 1);
    // Who comes without a port, or with one that nobody listens on here, poisons nothing and gets nothing of it.
    for (nth, host) in ["127.0.0.1", "127.0.0.1:1", "127.0.0.1:80"].into_iter().enumerate() {
        assert!(said(&as_host(1, host).await).contains("fwd=uri-miss"), "{host}");
        assert_eq!(origin.asked("GET /own"), nth + 2);
    }
    assert_eq!(own(1).await.body, first.body);
    let page = cluster.client.get(&cluster.nodes[1].admin("/metrics"), &[]).await.unwrap();
    let page = String::from_utf8_lossy(&page.body).into_owned();
    assert!(page.contains("tidegate_cache_requests_total{route=\"kept\",result=\"miss\"} 3"), "{page}");

    // People name it by any of its addresses.
    let url = cluster.nodes[2].url("/own");
    let kept = cluster.cli(&["cache", "get", &url]).await.unwrap();
    let nodes: std::collections::BTreeSet<_> =
        kept["responses"].as_array().unwrap().iter().map(|it| it["node"].as_u64().unwrap()).collect();
    assert_eq!(nodes.len(), 3, "{kept}");
    assert_eq!(cluster.cli_at(1, &["cache", "purge", &url]).await.unwrap()["complete"], true);
    for node in 0..3 {
        assert_ne!(own(node).await.body, first.body);
    }
}

#[tokio::test]
async fn however_a_path_is_spelled_it_is_kept_once_and_a_purge_finds_it() {
    let origin = counting().await;
    let cluster = Cluster::start(1).await;
    cluster.apply(&document(&origin, "{}")).await;
    let spellings = ["/dir/page", "/dir/%70age", "/x/../dir/page", "/dir//page", "/dir/./page"];
    let purges =
        [vec!["example.com/dir/page"], vec!["example.com/%64ir/./page"], vec!["--prefix", "example.com/x/../dir/"]];
    for (turn, purge) in purges.iter().enumerate() {
        for path in spellings {
            assert_eq!(get(&cluster, 0, path).await.body, format!("{} ", turn + 1), "{path}");
        }
        let words: Vec<&str> = ["cache", "purge"].into_iter().chain(purge.iter().copied()).collect();
        cluster.cli(&words).await.unwrap();
    }
    get(&cluster, 0, "/dir/%70age").await;
    ask(&cluster, 0, Method::DELETE, "/dir/./page", &[], "").await;
    assert_eq!(get(&cluster, 0, "/dir/page").await.body, "6 ", "the change voids it under every name");
    for wrong in ["user:secret@example.com/dir", "ftp://example.com/dir", "%%%"] {
        let said = cluster.cli(&["cache", "purge", wrong]).await.expect_err("that is no URL of ours");
        assert!(said.contains("is no URL"), "{said}");
    }
}

#[tokio::test]
async fn answers_to_post_are_kept_where_the_route_says_so() {
    let origin = counting().await;
    let cluster = Cluster::start(1).await;
    cluster.apply(&document(&origin, "{post: {max_body: 16B}}")).await;
    let post =
        async |body: &str, kind: &str| ask(&cluster, 0, Method::POST, "/query", &[("content-type", kind)], body).await;
    let first = post("what?", "text/plain").await;
    assert_eq!(&first.body[..], b"1 what?");
    let again = post("what?", "text/plain").await;
    assert_eq!((&again.body[..], &said(&again)[..13]), (&b"1 what?"[..], "Tidegate; hit"));
    assert_eq!(&post("what?", "text/html").await.body[..], b"2 what?", "another type, another question");
    assert_eq!(&post("who?", "text/plain").await.body[..], b"3 who?");
    let long = "a body that is longer than sixteen bytes";
    for turn in 4..6 {
        assert_eq!(post(long, "text/plain").await.body, format!("{turn} {long}"), "passed on whole, and not kept");
    }
    assert_eq!(&get(&cluster, 0, "/query").await.body[..], b"6 ", "GET is something else");
    assert_eq!(&post("what?", "text/plain").await.body[..], b"1 what?", "and voids nothing");
    let purged = cluster.cli(&["cache", "purge", "example.com/query"]).await.unwrap();
    assert_eq!(purged["complete"], true);
    assert_eq!(&post("what?", "text/plain").await.body[..], b"7 what?");
}

/// What the node says of its Redis; null when it has none.
pub(crate) async fn redis_of(cluster: &Cluster, node: usize) -> serde_json::Value {
    let stats = cluster.cli_at(node, &["cache", "stats"]).await.unwrap();
    let id = cluster.nodes[node].id();
    stats["nodes"].as_array().unwrap().iter().find(|it| it["node"] == id).unwrap()["redis"].clone()
}

pub(crate) async fn all_use_redis(cluster: &Cluster) {
    eventually("every node is connected", Duration::from_secs(15), async || {
        let mut up = true;
        for node in 0..cluster.nodes.len() {
            up &= redis_of(cluster, node).await["up"] == true;
        }
        up
    })
    .await;
}

pub(crate) async fn herd(cluster: &Cluster, clients: usize, path: &str) -> Vec<Bytes> {
    let mut asks = JoinSet::new();
    for n in 0..clients {
        let (client, url) = (cluster.client.clone(), cluster.nodes[n % cluster.nodes.len()].url(path));
        asks.spawn(async move { client.get(&url, &[("host", "example.com")]).await.unwrap().body });
    }
    asks.join_all().await
}

#[tokio::test]
async fn a_thousand_clients_of_a_cold_key_are_one_request_to_the_origin() {
    let (origin, redis) = (counting().await, Redis::start().await);
    let cluster = Cluster::start_with(3, &["--redis-url", &redis.url()]).await;
    cluster.apply(&document(&origin, "{}")).await;
    for node in 0..3 {
        get(&cluster, node, "/warm").await; // Redis is connected to in the background.
    }
    all_use_redis(&cluster).await;
    // A node that waits ten milliseconds for Redis in vain, or loses its lease, goes by itself: that is no herd to count.
    let hurried = async || {
        let mut sum = 0;
        for node in 0..3 {
            sum += metric(&cluster, node, "redis.late").await + metric(&cluster, node, "redis.errors").await;
            sum += metric(&cluster, node, "bypassed").await + metric(&cluster, node, "stillborn").await;
        }
        sum
    };
    for turn in 0..8 {
        let (path, before) = (format!("/slow/{turn}"), hurried().await);
        let bodies = herd(&cluster, 1_000, &path).await;
        if hurried().await == before {
            assert_eq!(origin.asked(&format!("GET {path}")), 1);
            assert!(bodies.iter().all(|body| *body == bodies[0]));
            return;
        }
    }
    panic!("Redis was late each time: this machine has too much to do");
}

#[tokio::test]
async fn a_redis_that_hangs_dies_and_comes_back_harms_nobody() {
    let origin = counting().await;
    let mut redis = Redis::start().await;
    let cluster = Cluster::start_with(2, &["--redis-url", &redis.url()]).await;
    cluster.apply(&document(&origin, "{}")).await;
    get(&cluster, 0, "/x").await;
    redis.holds_something().await;
    let mut path = (0..).map(|n| format!("/fresh/{n}"));
    let mut slowest = async |count: usize| {
        let mut slowest = Duration::ZERO;
        for _ in 0..count {
            let began = Instant::now();
            let answer = get(&cluster, 0, &path.next().unwrap()).await;
            assert_eq!(answer.status, StatusCode::OK);
            slowest = slowest.max(began.elapsed());
        }
        slowest
    };

    redis.signal("STOP");
    let (late, waited) = (metric(&cluster, 0, "redis.late").await, slowest(40).await);
    // Ten milliseconds a question, three questions at most; the rest is a machine with much to do.
    assert!(waited < Duration::from_millis(400), "{waited:?}");
    let asked = metric(&cluster, 0, "redis.late").await - late;
    assert!((1..=20).contains(&asked), "it gives up after a few: {asked}");
    let up = async |node: usize| {
        let stats = cluster.cli_at(node, &["cache", "stats"]).await.unwrap();
        let id = cluster.nodes[node].id();
        stats["nodes"].as_array().unwrap().iter().find(|it| it["node"] == id).unwrap()["redis"]["up"].as_bool().unwrap()
    };
    assert!(!up(0).await);
    tokio::time::sleep(Duration::from_secs(1)).await;
    redis.signal("CONT");
    eventually("it is asked again", Duration::from_secs(10), async || up(0).await).await;

    redis.kill().await;
    let waited = slowest(40).await;
    assert!(waited < Duration::from_millis(400), "{waited:?}");
    eventually("it is given up", Duration::from_secs(10), async || {
        slowest(1).await;
        !up(0).await
    })
    .await;
    assert!(said(&get(&cluster, 0, "/x").await).starts_with("Tidegate; hit"), "memory is another matter");

    assert!(redis.spawn().await, "it comes back, empty");
    eventually("it is asked again", Duration::from_secs(10), async || up(0).await).await;
    get(&cluster, 0, "/after").await;
    eventually("nodes share again", Duration::from_secs(10), async || {
        said(&get(&cluster, 1, "/after").await).starts_with("Tidegate; hit")
    })
    .await;
    assert_eq!(origin.asked("GET /after"), 1);
}

/// Nodes share through whatever this is: what one fetched the other serves. Which path it was.
async fn they_share(cluster: &Cluster, origin: &Origin, word: &str, within: Duration) {
    let mut turn = 0..;
    eventually("nodes share", within, async || {
        let path = format!("/{word}/{}", turn.next().unwrap());
        let first = get(cluster, 0, &path).await;
        for _ in 0..10 {
            tokio::time::sleep(Duration::from_millis(20)).await;
            let kept = ask(cluster, 1, Method::GET, &path, &[("cache-control", "only-if-cached")], "").await;
            if kept.body == first.body {
                return origin.asked(&format!("GET {path}")) == 1;
            }
        }
        false
    })
    .await;
}

#[tokio::test]
async fn nodes_share_through_a_redis_cluster() {
    let origin = counting().await;
    let mut servers = Vec::new();
    for _ in 0..3 {
        // The bus would be ten thousand ports further on, which may be none.
        let bus = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port().to_string();
        servers.push(Redis::start_with(&["--cluster-enabled", "yes", "--cluster-port", &bus]).await);
    }
    let hosts: Vec<String> = servers.iter().map(|redis| redis.address().to_string()).collect();
    let words: Vec<&str> =
        ["--cluster", "create"].into_iter().chain(hosts.iter().map(String::as_str)).chain(["--cluster-yes"]).collect();
    let said = servers[0].cli(&words).await;
    assert!(said.contains("All 16384 slots covered"), "{said}");
    let cluster = Cluster::start_with(2, &["--redis-url", &format!("redis+cluster://{}", hosts.join(","))]).await;
    cluster.apply(&document(&origin, "{}")).await;
    they_share(&cluster, &origin, "shared", Duration::from_secs(10)).await;
    let purged = cluster.cli(&["cache", "purge", "--prefix", "example.com/shared/"]).await.unwrap();
    assert_eq!(purged["complete"], true);
    get(&cluster, 0, "/shared/0").await;
    assert_eq!(origin.asked("GET /shared/0"), 2, "whatever the servers hold");
}

#[tokio::test]
async fn when_a_sentinel_moves_the_master_nodes_follow() {
    let origin = counting().await;
    let mut master = Redis::start().await;
    let replica = Redis::start_with(&["--replicaof", "127.0.0.1", &master.port.to_string()]).await;
    let sentinel = Redis::sentinel_of(master.port).await;
    eventually("the replica follows", Duration::from_secs(10), async || {
        replica.cli(&["info", "replication"]).await.contains("master_link_status:up")
            && sentinel.cli(&["sentinel", "replicas", "main"]).await.contains(&replica.port.to_string())
    })
    .await;
    let cluster =
        Cluster::start_with(2, &["--redis-url", &format!("redis+sentinel://{}/main", sentinel.address())]).await;
    cluster.apply(&document(&origin, "{}")).await;
    they_share(&cluster, &origin, "before", Duration::from_secs(10)).await;
    assert!(master.keys().await > 0);
    master.kill().await;
    eventually("the replica is master", Duration::from_secs(30), async || {
        assert_eq!(get(&cluster, 0, "/letters").await.status, StatusCode::OK);
        replica.cli(&["role"]).await.starts_with("master")
    })
    .await;
    they_share(&cluster, &origin, "after", Duration::from_secs(20)).await;
}
