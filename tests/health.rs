//! Who is asked whether it is well, how, and what comes of it; and endpoints that are found.

use std::net::SocketAddr;
use std::time::Duration;

use http_body_util::Full;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::time::Instant;

use crate::harness::{Backend, Cluster, eventually, health_server};

fn document(endpoints: &[SocketAddr], more: &str) -> String {
    let all: Vec<_> = endpoints.iter().map(|at| format!("{{url: \"http://{at}\"}}")).collect();
    format!(
        "\
version: 1
upstreams:
  - {{name: echo, balance: round_robin, endpoints: [{}], retries: {{max: 0}}, {more}}}
routes:
  - {{name: all, match: {{path: /*}}, to: [{{upstream: echo}}]}}
",
        all.join(", ")
    )
}

async fn backends<const N: usize>() -> ([Backend; N], Vec<SocketAddr>) {
    let mut all = Vec::new();
    for _ in 0..N {
        all.push(Backend::start().await);
    }
    let at = all.iter().map(|backend| backend.address).collect();
    (all.try_into().expect("so many were started"), at)
}

/// What the endpoints got of so many requests to the first node.
async fn shares(cluster: &Cluster, backends: &[Backend], requests: usize) -> Vec<usize> {
    let before: Vec<_> = backends.iter().map(Backend::hits).collect();
    for _ in 0..requests {
        cluster.client.get(&cluster.nodes[0].url("/x"), &[]).await.unwrap();
    }
    backends.iter().zip(before).map(|(backend, before)| backend.hits() - before).collect()
}

/// A sample of the node's metrics: of the upstream, or of one of its endpoints.
async fn metric(cluster: &Cluster, node: usize, name: &str, of: &str) -> u64 {
    let text = cluster.client.get(&cluster.nodes[node].admin("/metrics"), &[]).await.unwrap().body;
    let text = String::from_utf8_lossy(&text).into_owned();
    let start = format!("tidegate_{name}");
    let line = text.lines().find(|line| line.starts_with(&start) && line.contains(&format!("\"{of}\"")));
    let line = line.unwrap_or_else(|| panic!("no {name} of {of} in {text}"));
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "counts")]
    line.rsplit(' ').next().and_then(|number| number.parse::<f64>().ok()).map(|number| number as u64).unwrap()
}

async fn sick(cluster: &Cluster, at: SocketAddr) -> bool {
    metric(cluster, 0, "endpoint_unhealthy", &at.to_string()).await == 1
}

#[tokio::test]
async fn a_grpc_server_is_asked_for_the_service_it_is_meant_for() {
    let server = health_server().await;
    let cluster = Cluster::start(1).await;
    let one = |name: &str, service: &str| {
        format!(
            "  - {{name: {name}, protocol: http2, endpoints: [{{url: \"http://{}\"}}], \
             health: {{grpc: \"{service}\", interval: 100ms, healthy: 1, unhealthy: 2}}}}\n",
            server.address
        )
    };
    let upstreams = [one("whole", ""), one("shop", "shop.v1.Orders"), one("other", "other.v1.Unknown")].concat();
    let routes = "routes:\n  - {name: all, match: {path: /*}, to: [{upstream: whole}]}\n";
    cluster.apply(&format!("version: 1\nupstreams:\n{upstreams}{routes}")).await;
    let unhealthy = async |name: &str| metric(&cluster, 0, "endpoint_unhealthy", name).await == 1;
    eventually("a service that nobody knows is sick", Duration::from_secs(10), async || unhealthy("other").await).await;
    assert!(!unhealthy("whole").await && !unhealthy("shop").await);
    server.serves("shop.v1.Orders", false);
    eventually("it does not serve", Duration::from_secs(10), async || unhealthy("shop").await).await;
    assert!(!unhealthy("whole").await, "others of the same server do");
    server.serves("shop.v1.Orders", true);
    eventually("it serves again", Duration::from_secs(10), async || !unhealthy("shop").await).await;
    assert!(server.agents().iter().all(|agent| agent.contains("tidegate")), "{:?}", server.agents());
}

#[tokio::test]
async fn a_port_that_takes_connections_is_well_whatever_it_speaks() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mute = listener.local_addr().unwrap();
    // Never accepted, never answered: the kernel takes the connections.
    let ([well], at) = backends().await;
    let cluster = Cluster::start(1).await;
    let health = "health: {tcp: true, interval: 100ms, healthy: 1, unhealthy: 2}";
    cluster.apply(&document(&[mute, at[0]], health)).await;
    eventually("both were checked", Duration::from_secs(10), async || {
        metric(&cluster, 0, "endpoint_checks", &mute.to_string()).await >= 3
    })
    .await;
    assert!(!sick(&cluster, mute).await);
    drop(listener);
    eventually("its port is closed", Duration::from_secs(10), async || sick(&cluster, mute).await).await;
    assert_eq!(shares(&cluster, &[well], 6).await, [6]);
    let _again = TcpListener::bind(mute).await.unwrap();
    eventually("its port is open again", Duration::from_secs(10), async || !sick(&cluster, mute).await).await;
}

#[tokio::test]
async fn what_came_back_gets_its_share_bit_by_bit() {
    let (both, at) = backends::<2>().await;
    let cluster = Cluster::start(1).await;
    let health = "health: {path: /health, interval: 100ms, healthy: 1, unhealthy: 1, slow_start: 4s}";
    cluster.apply(&document(&at, health)).await;
    assert_eq!(shares(&cluster, &both, 20).await, [10, 10], "what is there from the beginning has its share");
    both[0].answer_with(503);
    eventually("it is sick", Duration::from_secs(10), async || sick(&cluster, at[0]).await).await;
    assert_eq!(shares(&cluster, &both, 20).await, [0, 20]);
    both[0].answer_with(0);
    eventually("it is well", Duration::from_secs(10), async || !sick(&cluster, at[0]).await).await;
    let begun = Instant::now();
    let mut parts = Vec::new();
    for quarter in 0..4 {
        tokio::time::sleep_until(begun + Duration::from_secs(quarter) + Duration::from_millis(200)).await;
        parts.push(shares(&cluster, &both, 300).await[0]);
    }
    println!("of 300 each second: {parts:?}");
    // At least a tenth of its 150, then a quarter, a half, three quarters, as far as dice go.
    assert!((2..=45).contains(&parts[0]), "{parts:?}");
    assert!(parts[0] + 10 < parts[2] && parts[1] + 10 < parts[3] && parts[3] < 150, "{parts:?}");
    eventually("its whole share", Duration::from_secs(10), async || shares(&cluster, &both, 40).await == [20, 20])
        .await;
}

#[tokio::test]
async fn when_too_few_are_well_all_are_used_and_that_is_told() {
    let (all, at) = backends::<4>().await;
    let cluster = Cluster::start(1).await;
    let health = "health: {path: /health, interval: 100ms, healthy: 1, unhealthy: 1, panic_below: 50%}";
    cluster.apply(&document(&at, health)).await;
    for (sick_ones, expected) in [(1, [0, 4, 4, 4]), (2, [0, 0, 6, 6]), (3, [3, 3, 3, 3]), (4, [3, 3, 3, 3])] {
        all[sick_ones - 1].answer_with(503);
        eventually("it is sick", Duration::from_secs(10), async || sick(&cluster, at[sick_ones - 1]).await).await;
        assert_eq!(shares(&cluster, &all, 12).await, expected, "{sick_ones} of four are sick");
        assert_eq!(metric(&cluster, 0, "upstream_panic", "echo").await, u64::from(sick_ones > 2));
    }
    assert!(cluster.nodes[0].log().contains("too few endpoints are well"), "{}", cluster.nodes[0].log());
    for backend in &all {
        backend.answer_with(0);
    }
    eventually("no panic", Duration::from_secs(10), async || metric(&cluster, 0, "upstream_panic", "echo").await == 0)
        .await;
}

#[tokio::test]
async fn no_more_endpoints_are_set_aside_than_the_document_allows() {
    let (all, at) = backends::<4>().await;
    let cluster = Cluster::start(1).await;
    let breaker = "breaker: {consecutive: 2, min_requests: 1000000, open_for: 60s, max_ejected: 50%}";
    cluster.apply(&document(&at, breaker)).await;
    for backend in &all[..3] {
        backend.answer_with(503);
    }
    shares(&cluster, &all, 24).await;
    let seen = shares(&cluster, &all, 20).await;
    let out = seen.iter().filter(|hits| **hits == 0).count();
    assert_eq!((out, seen[3], seen.iter().sum::<usize>()), (2, 10, 20), "two of three sick ones: {seen:?}");
}

#[tokio::test]
async fn three_of_five_nodes_check_an_endpoint_and_share_the_work() {
    let (all, at) = backends::<6>().await;
    let cluster = Cluster::start(5).await;
    cluster.apply(&document(&at, "health: {path: /health, interval: 200ms}")).await;
    let checks = async || {
        let mut all = Vec::new();
        for node in 0..5 {
            let mut of = Vec::new();
            for at in &at {
                of.push(metric(&cluster, node, "endpoint_checks", &at.to_string()).await);
            }
            all.push(of);
        }
        all
    };
    // Who is alive is known within seconds; then three check, and two do not.
    eventually("three checkers each", Duration::from_secs(30), async || {
        let before = checks().await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        let after = checks().await;
        (0..at.len())
            .all(|endpoint| (0..5).filter(|node| after[*node][endpoint] > before[*node][endpoint]).count() == 3)
    })
    .await;
    let (before, begun) = (all.iter().map(Backend::checks).collect::<Vec<_>>(), Instant::now());
    tokio::time::sleep(Duration::from_secs(2)).await;
    let spent = begun.elapsed().as_secs_f64();
    for (backend, before) in all.iter().zip(before) {
        #[expect(clippy::cast_precision_loss, reason = "a handful")]
        let rate = (backend.checks() - before) as f64 / spent;
        assert!(rate < 3.0 * 5.0 * 1.25, "{rate} checks a second");
    }
}

#[tokio::test]
async fn a_file_of_endpoints_is_followed_and_a_broken_one_changes_nothing() {
    let (all, at) = backends::<3>().await;
    let mut cluster = Cluster::start(1).await;
    let path = cluster.write("endpoints.json", &list(&at[..1]));
    let text = format!(
        "version: 1\nupstreams:\n  - {{name: echo, balance: round_robin, endpoints: [{{file: \"{}\"}}]}}\nroutes:\n  - {{name: all, match: {{path: /*}}, to: [{{upstream: echo}}]}}\n",
        path.display()
    );
    cluster.apply(&text).await;
    let settles = async |cluster: &Cluster, expected: [usize; 3]| {
        eventually("the shares", Duration::from_secs(10), async || shares(cluster, &all, 6).await == expected).await;
    };
    let alarms = async |cluster: &Cluster, count| {
        let alarm = async || metric(cluster, 0, "endpoint_source_alarms", "echo").await == count;
        eventually("the alarm", Duration::from_secs(10), alarm).await;
    };
    let replace = |cluster: &Cluster, text: &str| {
        let new = cluster.write("endpoints.new", text);
        std::fs::rename(new, &path).unwrap();
    };
    settles(&cluster, [6, 0, 0]).await;
    replace(&cluster, &list(&at));
    settles(&cluster, [2, 2, 2]).await;
    for broken in ["[", "[]", "[{\"url\": \"ftp://10.0.0.5\"}]", "\u{0}\u{1}"] {
        replace(&cluster, broken);
        alarms(&cluster, 1).await;
        assert_eq!(shares(&cluster, &all, 6).await, [2, 2, 2], "{broken}");
        replace(&cluster, &list(&at));
        alarms(&cluster, 0).await;
    }
    assert!(cluster.nodes[0].log().contains("keeping the last good ones"));
    // Others in its place, with the same length and the same time, as deterministic tools write them.
    let long_ago = std::time::SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
    for (only, expected) in [(&at[..2], [3, 3, 0]), (&[at[0], at[2]], [3, 0, 3])] {
        let new = cluster.write("endpoints.new", &format!("{:<400}", list(only)));
        std::fs::File::options().write(true).open(&new).unwrap().set_modified(long_ago).unwrap();
        std::fs::rename(new, &path).unwrap();
        settles(&cluster, expected).await;
    }
    std::fs::remove_file(&path).unwrap();
    alarms(&cluster, 1).await;
    assert_eq!(shares(&cluster, &all, 6).await, [3, 0, 3], "a file that is gone says nothing");
    // Nothing is found at a start without the file; once it is there, it is found.
    cluster.nodes[0].drain().await;
    cluster.nodes[0].spawn(None);
    cluster.nodes[0].wait_until_ready().await;
    let answer = cluster.client.get(&cluster.nodes[0].url("/x"), &[]).await.unwrap();
    assert_eq!((answer.status.as_u16(), answer.json()["error"]["code"].as_str()), (503, Some("no_endpoint")));
    replace(&cluster, &list(&at[1..2]));
    settles(&cluster, [0, 6, 0]).await;
}

fn list(at: &[SocketAddr]) -> String {
    let all: Vec<Value> = at.iter().map(|at| serde_json::json!({"url": format!("http://{at}")})).collect();
    Value::from(all).to_string()
}

#[tokio::test]
async fn without_a_quorum_a_node_decides_for_itself() {
    let ([backend], at) = backends().await;
    let mut cluster = Cluster::start(3).await;
    let breaker = "breaker: {consecutive: 3, min_requests: 1000000, open_for: 500ms, ramp: 100ms}";
    cluster.apply(&document(&at, breaker)).await;
    cluster.nodes[1].kill().await;
    cluster.nodes[2].kill().await;
    eventually("it knows that it is cut off", Duration::from_secs(15), async || {
        let text = cluster.client.get(&cluster.nodes[0].admin("/metrics"), &[]).await.unwrap().body;
        let text = String::from_utf8_lossy(&text).into_owned();
        let line = text.lines().find(|line| line.starts_with("tidegate_node_live"));
        line.is_some_and(|line| line.ends_with(" 0") || line.ends_with(" 0.0"))
    })
    .await;
    backend.answer_with(503);
    let begun = Instant::now();
    let seen = shares(&cluster, std::slice::from_ref(&backend), 20).await;
    assert!(seen[0] >= 3 && begun.elapsed() < Duration::from_secs(5), "{seen:?}");
    assert!(seen[0] <= 6, "three, and a probe or two: {seen:?}");
    backend.answer_with(0);
    eventually("it asks again by its own clock", Duration::from_secs(15), async || {
        let mut well = true;
        for _ in 0..5 {
            well &= cluster.client.get(&cluster.nodes[0].url("/x"), &[]).await.unwrap().status == 200;
        }
        well
    })
    .await;
}

#[tokio::test]
async fn a_backend_that_says_too_many_requests_is_not_sick() {
    let ([backend], at) = backends().await;
    let cluster = Cluster::start(3).await;
    cluster.apply(&document(&at, "breaker: {consecutive: 2, min_requests: 2, open_for: 60s}")).await;
    for status in [429, 400, 401, 404, 499, 500, 501] {
        backend.answer_with(status);
        for node in 0..3 {
            for _ in 0..4 {
                let answer = cluster.client.get(&cluster.nodes[node].url("/x"), &[]).await.unwrap();
                assert_eq!(answer.status.as_u16(), status);
            }
        }
    }
    assert_eq!(metric(&cluster, 0, "breaker_ejections", &at[0].to_string()).await, 0);
}

#[tokio::test]
async fn slow_answers_open_the_breaker_too() {
    let slow = crate::harness::Origin::start(|parts, _| async move {
        if parts.uri.path() == "/slow" {
            tokio::time::sleep(Duration::from_millis(150)).await;
        }
        http::Response::new(Full::from("ok\n"))
    })
    .await;
    let cluster = Cluster::start(1).await;
    let breaker = "breaker: {slow: {over: 100ms, ratio: 50%}, min_requests: 10, window: 10s, open_for: 60s}";
    cluster.apply(&document(&[slow.address], breaker)).await;
    let ask = async |path: &str| cluster.client.get(&cluster.nodes[0].url(path), &[]).await.unwrap().status.as_u16();
    for _ in 0..6 {
        assert_eq!(ask("/quick").await, 200);
    }
    for _ in 0..5 {
        assert_eq!(ask("/slow").await, 200, "less than half is slow");
    }
    ask("/slow").await;
    eventually("half of them were slow", Duration::from_secs(5), async || ask("/slow").await == 503).await;
    assert!(cluster.nodes[0].log().contains("share of slow answers"), "{}", cluster.nodes[0].log());
    drop(slow);
}
