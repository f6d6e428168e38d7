//! Whom limits count, and who brings them, over real nodes: all levels at once, maxima of their own, weights, plans.

use std::fmt::Write as _;
use std::time::Duration;

use bytes::Bytes;
use http::Method;
use serde_json::Value;
use tokio::time::Instant;

use crate::harness::{Answer, Backend, Cluster, Origin, answer, eventually};

/// One upstream, and what else is written here.
fn document(address: std::net::SocketAddr, rest: &str) -> String {
    format!(
        "version: 1\nupstreams:\n  - {{name: echo, endpoints: [{{url: \"http://{address}\"}}], retries: {{max: 0}}}}\n{rest}"
    )
}

async fn ask(cluster: &Cluster, node: usize, path: &str, headers: &[(&str, &str)]) -> Answer {
    cluster.client.get(&cluster.nodes[node].url(path), headers).await.unwrap()
}

/// Asks all nodes in turn until `most` were served, and then so long that one more would have been; how many were.
async fn served(cluster: &Cluster, path: &str, headers: &[(&str, &str)], most: usize) -> usize {
    let (mut count, mut idle, ends) = (0, 0, Instant::now() + Duration::from_secs(20));
    while idle < 4 && Instant::now() < ends {
        let mut some = false;
        for node in 0..cluster.nodes.len() {
            let status = ask(cluster, node, path, headers).await.status.as_u16();
            assert!(status == 200 || status == 429, "{path}: {status}");
            some |= status == 200;
            count += usize::from(status == 200);
        }
        assert!(count <= most, "{path}: {count} were served of {most}");
        // What one node holds comes to another within a few reports.
        idle = if some { 0 } else { idle + 1 };
        tokio::time::sleep(Duration::from_millis(if some { 0 } else { 150 })).await;
    }
    count
}

async fn key(cluster: &Cluster, words: &[&str]) -> (u64, String) {
    let all = [&["key", "create"], words].concat();
    let key = cluster.cli(&all).await.expect("a key");
    (key["id"].as_u64().unwrap(), format!("Bearer {}", key["secret"].as_str().unwrap()))
}

async fn judged(cluster: &Cluster, backend: &Backend) {
    let verdict = cluster.verify(&backend.seen()).await;
    assert_eq!(verdict["backend_requests_missing"], 0, "{verdict}");
    assert!(verdict["worst_window_ratio"].as_f64().unwrap() <= 1.0, "{verdict}");
}

#[tokio::test]
async fn a_call_passes_its_consumers_teams_and_tenants_limits_all_or_none() {
    let (backend, cluster) = (Backend::start().await, Cluster::start(3).await);
    let rest = "\
limits:
  - {name: daily, window: 1h, max: 100, per: [consumer]}
  - {name: team, window: 1h, max: 8, per: [team], on_missing: skip}
  - {name: all, window: 1h, max: 12, per: [tenant]}
tenants: [{name: default, limits: [all], plan: free}]
teams: [{name: web, limits: [team]}]
plans: [{name: free, limits: [daily]}]
consumers:
  - {name: ann, team: web, limits: [{limit: daily, max: 5}]}
  - {name: cid, team: web}
  - {name: bob}
routes:
  - {name: all, match: {path: /*}, to: [{upstream: echo}], auth: [key]}
";
    cluster.apply(&document(backend.address, rest)).await;
    let ann = key(&cluster, &["ann"]).await.1;
    let cid = key(&cluster, &["cid"]).await.1;
    let bob = key(&cluster, &["bob"]).await.1;
    let count = async |key: &str, most| served(&cluster, "/x", &[("authorization", key)], most).await;
    assert_eq!(count(&ann, 5).await, 5, "ann has a maximum of her own");
    let refused = ask(&cluster, 0, "/x", &[("authorization", &ann)]).await;
    let told = refused.headers["ratelimit"].to_str().unwrap().to_owned();
    assert!(told.starts_with("\"daily\";r=0;"), "the most specific is told first: {told}");
    assert_eq!(count(&cid, 3).await, 3, "what ann was refused took nothing of her team's");
    assert_eq!(count(&bob, 4).await, 4, "nor of the tenant's");
    // Another maximum keeps the count: two more, not seven.
    let raised = rest.replace("max: 5}", "max: 7}").replace("max: 8", "max: 80").replace("max: 12", "max: 120");
    cluster.apply(&document(backend.address, &raised)).await;
    assert_eq!(count(&ann, 2).await, 2);
    assert_eq!(backend.hits(), 14);
    judged(&cluster, &backend).await;
}

#[tokio::test]
async fn plans_hold_for_those_on_them_and_products_are_for_their_plans() {
    let (backend, cluster) = (Backend::start().await, Cluster::start(3).await);
    let rest = "\
limits:
  - {name: calls, window: 1h, max: 6, per: [key]}
  - {name: network, window: 1h, max: 3, per: [ip/24]}
  - {name: shop, window: 1h, max: 2, per: [product, end_user], on_missing: refuse}
tenants: [{name: default, plan: free, anonymous_plan: public}]
plans:
  - {name: free, limits: [{limit: calls, max: 1}]}
  - {name: gold, limits: [calls]}
  - {name: public, limits: [network]}
products:
  - {name: shop, routes: [shop], plans: [{plan: gold, limits: [shop]}]}
consumers: [{name: ann}]
routes:
  - {name: shop, match: {path: /shop/*}, to: [{upstream: echo}], auth: [key]}
  - {name: keyed, match: {path: /keyed/*}, to: [{upstream: echo}], auth: [key]}
  - {name: open, match: {path: /open/*}, to: [{upstream: echo}]}
";
    cluster.apply(&document(backend.address, rest)).await;
    let (id, free) = key(&cluster, &["ann"]).await;
    let gold = key(&cluster, &["ann", "--plan", "gold"]).await.1;
    assert_eq!(served(&cluster, "/open/x", &[], 3).await, 3, "callers without a key are on a plan of their own");
    assert_eq!(served(&cluster, "/keyed/x", &[("authorization", &free)], 1).await, 1, "its tenant's plan");
    assert_eq!(served(&cluster, "/keyed/x", &[("authorization", &gold)], 6).await, 6, "the key's plan");
    let shop = ask(&cluster, 1, "/shop/x", &[("authorization", &free), ("x-end-user", "u")]).await;
    assert_eq!((shop.status.as_u16(), shop.json()["error"]["code"].as_str().unwrap()), (403, "not_subscribed"));

    let moved = cluster.cli(&["key", "plan", &id.to_string(), "gold"]).await.expect("a plan that is there");
    assert_eq!(moved["plan"], "gold");
    cluster.cli(&["key", "plan", &id.to_string(), "gould"]).await.expect_err("a plan that is not");
    let user = |name| [("authorization", free.as_str()), ("x-end-user", name)];
    let nobody = ask(&cluster, 2, "/shop/x", &[("authorization", &free)]).await;
    assert_eq!((nobody.status.as_u16(), nobody.json()["error"]["code"].as_str().unwrap()), (400, "subject_missing"));
    assert_eq!(served(&cluster, "/shop/x", &user("u"), 2).await, 2);
    assert_eq!(served(&cluster, "/shop/x", &user("v"), 2).await, 2, "another end user");
    let list = cluster.cli(&["key", "ls"]).await.expect("keys");
    assert_eq!(list["keys"][0]["plan"], "gold", "{list}");
    judged(&cluster, &backend).await;
}

#[tokio::test]
async fn an_observed_limit_of_every_scope_tells_what_it_would_have_refused_and_nobody_else_notices() {
    let (backend, cluster) = (Backend::start().await, Cluster::start(3).await);
    let log = cluster.write("access.log", "");
    let parts = [
        "tenant",
        "team",
        "consumer",
        "key",
        "end_user",
        "route",
        "product",
        "method",
        "host",
        "ip/24/56",
        "header:x-device",
    ];
    let mut rest = String::from("limits:\n");
    for (i, part) in parts.iter().enumerate() {
        writeln!(rest, "  - {{name: l{i}, window: 1h, max: 1, per: ['{part}'], mode: observe, on_missing: refuse}}")
            .unwrap();
    }
    let names = |range: std::ops::Range<usize>| range.map(|i| format!("l{i}")).collect::<Vec<_>>().join(", ");
    write!(
        rest,
        "consumers: [{{name: ann, team: web, limits: [{}]}}]
products: [{{name: shop, routes: [all], limits: [{}]}}]
routes: [{{name: all, match: {{path: /*}}, to: [{{upstream: echo}}], auth: [key]}}]
telemetry: {{access_log: {{format: json, file: \"{}\"}}}}
",
        names(0..5),
        names(5..parts.len()),
        log.display()
    )
    .unwrap();
    cluster.apply(&document(backend.address, &rest)).await;
    let key = key(&cluster, &["ann"]).await.1;
    let headers = [("authorization", key.as_str()), ("x-end-user", "u"), ("x-device", "d"), ("host", "a.example")];
    for node in [0, 1, 2, 0] {
        let answer = ask(&cluster, node, "/x", &headers).await;
        assert_eq!((answer.status.as_u16(), answer.headers.get("ratelimit")), (200, None), "{answer:?}");
    }
    // Neither an end user nor a device: that would have been refused as well.
    assert_eq!(ask(&cluster, 0, "/x", &headers[..1]).await.status, 200);
    let mut lines: Vec<Value> = Vec::new();
    eventually("five lines", Duration::from_secs(10), async || {
        let text = std::fs::read_to_string(&log).unwrap_or_default();
        lines = text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
        lines.len() == 5
    })
    .await;
    let verdicts = |line: &Value| -> Vec<(String, String)> {
        let limits = line["limits"].as_array().cloned().unwrap_or_default();
        let one = |l: &Value| (l["name"].as_str().unwrap().to_owned(), l["verdict"].as_str().unwrap().to_owned());
        limits.iter().map(one).collect()
    };
    for (i, part) in parts.iter().enumerate() {
        let name = format!("l{i}");
        let said = lines.iter().flat_map(verdicts).filter(|(limit, _)| *limit == name);
        let said: Vec<String> = said.map(|(_, verdict)| verdict).collect();
        let host = *part == "host"; // The last call came to another.
        let admitted = said.iter().filter(|verdict| *verdict == "admitted").count();
        assert_eq!((said.len(), admitted), (5, if host { 2 } else { 1 }), "{part}: {said:?}");
        assert!(said.iter().all(|verdict| verdict == "admitted" || verdict == "would_refuse"), "{part}: {said:?}");
    }
    let mut would = 0;
    for node in &cluster.nodes {
        let text = cluster.client.get(&node.admin("/metrics"), &[]).await.unwrap().body;
        let text = String::from_utf8_lossy(&text).into_owned();
        let line = text.lines().find(|l| l.contains("limit=\"l4\"") && l.contains("verdict=\"would_refuse\""));
        would += line.and_then(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).unwrap_or(0);
    }
    assert_eq!(would, 4, "end users");
}

#[tokio::test]
async fn a_weighty_route_takes_its_weight_for_every_try_and_for_what_the_cache_answers() {
    let (backend, cluster) = (Backend::start().await, Cluster::start(3).await);
    let origin = Origin::start(|_, _: Bytes| async { answer(&[("cache-control", "max-age=3600")], "kept") }).await;
    let rest = format!(
        "  - {{name: sick, endpoints: [{{url: \"http://{}\"}}], retries: {{max: 3, budget: 100%, on: [503]}}}}
  - {{name: origin, endpoints: [{{url: \"http://{}\"}}]}}
limits:
  - {{name: work, window: 1h, max: 31, per: [route]}}
products:
  - {{name: heavy, routes: [sick, kept, free], limits: [work], weights: {{work: 10}}}}
routes:
  - {{name: sick, match: {{path: /sick/*}}, to: [{{upstream: sick}}]}}
  - {{name: kept, match: {{path: /kept/*}}, to: [{{upstream: origin}}], cache: {{ttl: from_origin}}, weights: {{work: 5}}}}
  - {{name: free, match: {{path: /free/*}}, to: [{{upstream: origin}}], weights: {{work: 0}}}}
",
        backend.address, origin.address
    );
    cluster.apply(&document(backend.address, &rest)).await;
    assert_eq!(served(&cluster, "/kept/x", &[], 6).await, 6, "31 admits six of 5, whoever answers");
    assert!(origin.asked("GET /kept/x") < 6, "the cache answered some");
    for _ in 0..8 {
        assert_eq!(ask(&cluster, 0, "/free/x", &[]).await.status, 200);
    }
    let before = backend.hits();
    backend.answer_with(503);
    let mut statuses = Vec::new();
    for turn in 0..12 {
        statuses.push(ask(&cluster, turn % 3, "/sick/x", &[]).await.status.as_u16());
        tokio::time::sleep(Duration::from_millis(60)).await;
    }
    assert_eq!(backend.hits() - before, 3, "31 admits three tries of 10: {statuses:?}");
    assert_eq!((statuses[0], statuses.last()), (503, Some(&429)));
    judged(&cluster, &backend).await;
}

#[tokio::test]
async fn what_callers_send_gives_them_no_more_than_the_limit_of_their_network() {
    let (backend, cluster) = (Backend::start().await, Cluster::start(3).await);
    let rest = "\
limits:
  - {name: network, window: 1h, max: 4, per: [ip/24]}
  - {name: device, window: 1h, max: 100, per: ['header:x-device']}
listeners: {trusted_proxies: [127.0.0.0/8]}
routes:
  - {name: all, match: {path: /*}, to: [{upstream: echo}], limits: [network, device]}
";
    cluster.apply(&document(backend.address, rest)).await;
    let mut count = 0;
    for turn in 0..30 {
        let (from, device) = (format!("192.0.2.{turn}"), format!("d{turn}"));
        let method = Method::from_bytes(format!("M{turn}").as_bytes()).unwrap();
        let url = cluster.nodes[turn % 3].url("/x");
        let headers = [("x-forwarded-for", from.as_str()), ("x-device", device.as_str())];
        let answer = cluster.client.send(method, &url, &headers, Bytes::new()).await.unwrap();
        count += usize::from(answer.status == 200);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(count, 4, "one /24");
    let other = [("x-forwarded-for", "192.0.3.1"), ("x-device", "d")];
    assert_eq!(ask(&cluster, 0, "/x", &other).await.status, 200, "the next /24");
    judged(&cluster, &backend).await;
}
