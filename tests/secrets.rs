//! Secrets of the operator's own: sealed in the cluster, sent to upstreams, replaced without a new document.

use std::path::Path;
use std::time::Duration;

use http::Method;
use serde_json::Value;
use tokio::io::AsyncWriteExt;

use crate::harness::{Cluster, Origin, TIDEGATE, answer, eventually};
use crate::renewals::Traffic;

const FIRST: &str = "planted-4be1c0-first";
const SECOND: &str = "planted-77aa02-second";

/// Answers with what it was sent as credential; `/slow` takes its time.
async fn mirror() -> Origin {
    Origin::start(|parts, _| async move {
        if parts.uri.path().starts_with("/slow") {
            tokio::time::sleep(Duration::from_millis(1_500)).await;
        }
        let sent = parts.headers.get("authorization").and_then(|value| value.to_str().ok()).unwrap_or_default();
        answer(&[], sent.to_owned())
    })
    .await
}

fn document(origin: &Origin, from: &str) -> String {
    format!(
        "version: 1\nsecrets: [{{name: partner, from: {from}}}]\n\
         upstreams: [{{name: origin, endpoints: [{{url: \"http://{}\"}}]}}]\n\
         routes:\n- {{name: all, match: {{path: /*}}, to: [{{upstream: origin}}], \
         request_headers: {{set: {{authorization: \"Bearer ${{secrets.partner}}\"}}}}}}\n",
        origin.address
    )
}

async fn sent(cluster: &Cluster, node: usize, path: &str) -> String {
    let answer = cluster.client.get(&cluster.nodes[node].url(path), &[]).await.unwrap();
    assert_eq!(answer.status, 200, "{answer:?}");
    String::from_utf8_lossy(&answer.body).into_owned()
}

/// With a value on standard input.
async fn told(cluster: &Cluster, node: usize, words: &[&str], value: &str) -> Result<Value, String> {
    let mut command = tokio::process::Command::new(TIDEGATE);
    command.args(words).args(["-o", "json"]);
    command.env("TIDEGATE_ADMIN", cluster.nodes[node].admin("")).env("TIDEGATE_TOKEN", &cluster.token);
    command.stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped());
    let mut child = command.stderr(std::process::Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(value.as_bytes()).await.unwrap();
    let output = child.wait_with_output().await.unwrap();
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(!out.contains("planted") && !err.contains("planted"), "a value is told: {out}{err}");
    if output.status.success() { Ok(serde_json::from_str(&out).unwrap()) } else { Err(format!("{out}{err}")) }
}

/// Does any file below hold these bytes?
fn holds(folder: &Path, bytes: &[u8]) -> bool {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.into_iter().any(|path| match path.is_dir() {
        true => holds(&path, bytes),
        false => std::fs::read(&path).is_ok_and(|file| file.windows(bytes.len()).any(|window| window == bytes)),
    })
}

#[tokio::test]
async fn a_sealed_secret_is_sent_upstream_by_every_node_and_replaced_without_a_new_document() {
    let origin = mirror().await;
    let mut cluster = Cluster::start(3).await;
    // A document that names one which nobody keeps is refused, by name.
    let path = cluster.write("early.yaml", &document(&origin, "sealed"));
    let refused = cluster.cli(&["apply", path.to_str().unwrap()]).await.unwrap_err();
    assert!(refused.contains("secrets[0].from") && refused.contains("tidegate secret put partner"), "{refused}");

    let put = told(&cluster, 0, &["secret", "put", "partner"], &format!("{FIRST}\n")).await.unwrap();
    assert_eq!((&put["complete"], &put["secret"]["generation"]), (&true.into(), &1.into()), "{put}");
    // Put at one node, it is usable at another at once.
    let published = cluster.cli_at(1, &["apply", path.to_str().unwrap(), "--wait"]).await.unwrap();
    assert_eq!(published["complete"], true, "{published}");
    for node in 0..3 {
        assert_eq!(sent(&cluster, node, "/x").await, format!("Bearer {FIRST}"), "node {node}");
    }
    let again = told(&cluster, 1, &["secret", "put", "partner"], SECOND).await.unwrap_err();
    assert!(again.contains("tidegate secret rotate partner"), "{again}");
    let unknown = told(&cluster, 1, &["secret", "rotate", "partnr"], SECOND).await.unwrap_err();
    assert!(unknown.contains("no secret `partnr`"), "{unknown}");
    let used = cluster.cli(&["secret", "rm", "partner"]).await.unwrap_err();
    assert!(used.contains("secrets.partner, routes.all"), "{used}");

    // A value that the document cannot be served with is refused before it is anywhere, and says so without the value.
    let torn = told(&cluster, 1, &["secret", "rotate", "partner"], "planted-torn\nvalue").await.unwrap_err();
    assert!(torn.contains("routes[0].request_headers"), "{torn}");
    assert_eq!(sent(&cluster, 1, "/x").await, format!("Bearer {FIRST}"));

    // A new value: what is under way ends with the one it began with, whoever comes next goes by the new one.
    let (client, url) = (cluster.client.clone(), cluster.nodes[2].url("/slow"));
    let under_way = tokio::spawn(async move { client.get(&url, &[]).await });
    eventually("the origin has the slow one", Duration::from_secs(5), async || origin.asked("GET /slow") == 1).await;
    let file = cluster.write("value.txt", SECOND);
    let file = file.to_str().unwrap();
    let rotated = cluster.cli_at(1, &["secret", "rotate", "partner", "--from-file", file]).await.unwrap();
    assert_eq!((&rotated["complete"], &rotated["secret"]["generation"]), (&true.into(), &2.into()), "{rotated}");
    for node in 0..3 {
        assert_eq!(sent(&cluster, node, "/x").await, format!("Bearer {SECOND}"), "node {node}");
    }
    let slow = under_way.await.unwrap().unwrap();
    assert_eq!((slow.status.as_u16(), &slow.body[..]), (200, format!("Bearer {FIRST}").as_bytes()));
    assert_eq!(cluster.status().await["revision"], 1, "no document was published");

    // A node that was down goes by the newest value when it is back.
    cluster.nodes[2].drain().await;
    told(&cluster, 0, &["secret", "rotate", "partner"], FIRST).await.unwrap();
    cluster.nodes[2].spawn(None);
    cluster.nodes[2].wait_until_ready().await;
    assert_eq!(sent(&cluster, 2, "/x").await, format!("Bearer {FIRST}"));

    let all = cluster.cli_at(2, &["secret", "ls"]).await.unwrap();
    let listed = &all["secrets"][0];
    assert_eq!((&listed["name"], &listed["generation"]), (&"partner".into(), &3.into()), "{all}");
    assert_eq!((&listed["by"], &listed["used_by"][1]), (&"bootstrap".into(), &"routes.all".into()), "{all}");
    nothing_in_clear(&cluster).await;

    cluster.apply("version: 1\n").await;
    cluster.cli(&["secret", "rm", "partner"]).await.unwrap();
    let gone = cluster.cli(&["rollback", "1"]).await.unwrap_err();
    assert!(gone.contains("tidegate secret put partner"), "{gone}");
}

async fn nothing_in_clear(cluster: &Cluster) {
    for node in &cluster.nodes {
        for value in [FIRST, SECOND] {
            assert!(!node.log().contains(value), "{} has logged a value", node.name);
            assert!(!holds(&node.data, value.as_bytes()), "{} keeps a value in the clear", node.name);
        }
        let token = format!("Bearer {}", cluster.token);
        for path in ["/v1/secrets", "/v1/document", "/v1/history/1", "/v1/cluster", "/metrics"] {
            let told = cluster.client.get(&node.admin(path), &[("authorization", &token)]).await.unwrap();
            assert_eq!(told.status, 200, "{path}");
            assert!(!String::from_utf8_lossy(&told.body).contains("planted"), "{path} tells a value");
        }
    }
    // What does not fit is refused without being repeated.
    let token = format!("Bearer {}", cluster.token);
    let url = cluster.nodes[0].admin("/v1/secrets/other");
    for body in
        [r#"{"value": 7, "x": "planted"}"#, r#"{"vale": "planted"}"#, r#"{"value": ""}"#, r#""planted""#, "planted"]
    {
        let headers = [("authorization", token.as_str()), ("content-type", "application/json")];
        let told = cluster.client.send(Method::PUT, &url, &headers, body).await.unwrap();
        assert_eq!(told.status, 400, "{body}");
        assert!(!String::from_utf8_lossy(&told.body).contains("planted"), "{:?}", told.body);
    }
}

/// Until everything is sealed with this key, and those before are deleted, as every running node says of itself.
async fn sealed_with(cluster: &Cluster, generation: u64) {
    eventually("everything is sealed with another key", Duration::from_secs(90), async || {
        let mut all = true;
        for at in (0..cluster.nodes.len()).filter(|at| cluster.nodes[*at].is_running()) {
            let status = cluster.cli_at(at, &["cluster", "status"]).await.unwrap_or_default();
            let key = &status["cluster_key"];
            all &= key["generation"] == generation && key["replacing"] == false && key["older"] == 0;
        }
        all
    })
    .await;
}

async fn sends(cluster: &Cluster, node: usize, value: &str) {
    eventually("it sends the secret", Duration::from_secs(30), async || {
        let asked = cluster.client.get(&cluster.nodes[node].url("/x"), &[]).await;
        asked.is_ok_and(|answer| answer.body[..] == *format!("Bearer {value}").as_bytes())
    })
    .await;
}

/// As soon as nothing needs a key it is deleted, instead of after half a minute.
const SOON: [&str; 2] = ["--cluster-key-grace", "2s"];

#[tokio::test]
async fn the_clusters_key_is_replaced_under_traffic_and_a_node_that_was_down_gets_it() {
    let origin = mirror().await;
    let mut cluster = Cluster::start_with(3, &SOON).await;
    told(&cluster, 0, &["secret", "put", "partner"], FIRST).await.unwrap();
    let limited = "consumers: [{name: acme, plan: gold}]\nplans: [{name: gold, limits: [few]}]\n\
                   limits: [{name: few, window: 1h, max: 3, per: [key]}]\n";
    let text = document(&origin, "sealed").replace("version: 1\n", &format!("version: 1\n{limited}"));
    let route = "- {name: few, match: {path: /few}, to: [{upstream: origin}], auth: [key]}\n";
    cluster.apply(&format!("{text}{route}")).await;
    let key = format!("Bearer {}", cluster.key("acme").await);
    let few = async |cluster: &Cluster, node: usize| {
        let answer = cluster.client.get(&cluster.nodes[node].url("/few"), &[("authorization", &key)]).await.unwrap();
        answer.status.as_u16()
    };
    for node in [0, 1] {
        eventually("the key is known", Duration::from_secs(10), async || few(&cluster, node).await == 200).await;
    }
    let first = std::fs::read(cluster.nodes[0].data.join("tls/cluster.key")).unwrap();
    cluster.nodes[2].kill().await;

    let urls = cluster.nodes[..2].iter().map(|node| node.url("/x")).collect();
    let traffic = Traffic::start(urls, String::new());
    let begun = cluster.cli_at(1, &["cluster", "rotate-key"]).await.unwrap();
    assert_eq!(begun["generation"], 2, "{begun}");
    // Secrets are put meanwhile, whatever seals them.
    for n in 0..10 {
        told(&cluster, n % 2, &["secret", "put", &format!("meanwhile-{n}")], SECOND).await.unwrap();
    }
    sealed_with(&cluster, 2).await;
    traffic.stop().await;
    assert_eq!(sent(&cluster, 1, "/x").await, format!("Bearer {FIRST}"));
    let audit = cluster.cli(&["audit", "ls"]).await.unwrap().to_string();
    for action in ["cluster.rotate_key", "cluster.use_key", "cluster.forget_key"] {
        assert_eq!(audit.matches(action).count(), 1, "{action}: {audit}");
    }

    // It knows the first key alone, and gets the other before it serves.
    cluster.nodes[2].spawn(None);
    cluster.nodes[2].wait_until_ready().await;
    sends(&cluster, 2, FIRST).await;
    told(&cluster, 2, &["secret", "rotate", "partner"], SECOND).await.unwrap();
    for node in 0..3 {
        sends(&cluster, node, SECOND).await;
    }
    // Who joins has the new one, and all count the same subjects as before: one of three is left.
    let fourth = cluster.join().await;
    sends(&cluster, fourth, SECOND).await;
    let told = [few(&cluster, fourth).await, few(&cluster, 2).await, few(&cluster, 0).await];
    assert_eq!(told.iter().filter(|status| **status == 200).count(), 1, "{told:?}");
    sealed_with(&cluster, 2).await;
    for node in &cluster.nodes {
        assert!(!holds(&node.data.join("tls"), &first), "the first key is deleted");
    }
    nothing_in_clear(&cluster).await;
}

#[tokio::test]
async fn a_new_key_of_the_cluster_outlives_the_leader_that_began_with_it_and_a_restart_of_all() {
    let origin = mirror().await;
    let mut cluster = Cluster::start_with(3, &SOON).await;
    told(&cluster, 0, &["secret", "put", "partner"], FIRST).await.unwrap();
    cluster.apply(&document(&origin, "sealed")).await;
    let leader = cluster.leader("control").await;
    cluster.cli_at(leader, &["cluster", "rotate-key"]).await.unwrap();
    cluster.nodes[leader].kill().await;
    sealed_with(&cluster, 2).await;
    cluster.nodes[leader].spawn(None);
    cluster.nodes[leader].wait_until_ready().await;
    sealed_with(&cluster, 2).await;
    cluster.restart().await;
    for node in 0..3 {
        sends(&cluster, node, FIRST).await;
    }
    let seen = cluster.cli_at(2, &["cluster", "status"]).await.unwrap();
    assert_eq!((&seen["cluster_key"]["generation"], &seen["cluster_key"]["lacks"]), (&2.into(), &false.into()));
}
