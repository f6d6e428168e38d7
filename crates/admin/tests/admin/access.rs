//! Who may do what at the admin port, and how it says no.

use crate::common::{ADMIN, GOOD, OPERATOR, READER, start};
use serde_json::Value;
use tidegate_admin::wire::Readiness;

#[tokio::test]
async fn every_described_operation_but_probes_needs_a_token() {
    let port = start().await;
    let api = port.send("GET", "/openapi.json", &[], b"").await.ok();
    let mut asked = 0;
    for (path, item) in api["paths"].as_object().unwrap() {
        for method in item.as_object().unwrap().keys() {
            let path = path.replace("{id}", "1").replace("{revision}", "1");
            let answer = port.send(&method.to_uppercase(), &path, &[], b"").await;
            if path.starts_with("/v1/") {
                answer.refused(401, "unauthorized");
                assert!(answer.header("www-authenticate").is_some_and(|v| v.starts_with("Bearer")));
            } else {
                assert_eq!(answer.status, 200, "{path}");
            }
            asked += 1;
        }
    }
    assert!(asked >= 23, "{asked}");
}

#[tokio::test]
async fn each_role_may_do_what_the_ones_before_it_may_and_no_more() {
    let port = start().await;
    let key = r#"{"consumer": "acme"}"#;
    let token = r#"{"name": "x", "role": "reader"}"#;
    let asks = [
        ("GET", "/v1/cluster", "", READER),
        ("GET", "/v1/history", "", READER),
        ("GET", "/v1/keys", "", READER),
        ("POST", "/v1/document/check", GOOD, READER),
        ("POST", "/v1/document/diff", GOOD, READER),
        ("PUT", "/v1/document", GOOD, OPERATOR),
        ("POST", "/v1/rollback/1", "", OPERATOR),
        ("POST", "/v1/keys", key, OPERATOR),
        ("POST", "/v1/keys/1/rotate", "", OPERATOR),
        ("POST", "/v1/keys/1/plan", r#"{"plan": null}"#, OPERATOR),
        ("GET", "/v1/cache", "", READER),
        ("GET", "/v1/secrets", "", READER),
        ("GET", "/v1/cache/kept?url=example.com", "", READER),
        ("POST", "/v1/cache/purge", r#"{"tags": ["users"]}"#, OPERATOR),
        ("DELETE", "/v1/keys/1", "", OPERATOR),
        ("POST", "/v1/cluster/token", "", ADMIN),
        ("POST", "/v1/cluster/transfer", "", ADMIN),
        ("POST", "/v1/cluster/tickets", "", ADMIN),
        ("POST", "/v1/cluster/key", "", ADMIN),
        ("GET", "/v1/tokens", "", ADMIN),
        ("POST", "/v1/tokens", token, ADMIN),
    ];
    let rank = |token| [READER, OPERATOR, ADMIN].iter().position(|t| *t == token).unwrap();
    for (method, path, body, needs) in asks {
        for token in [READER, OPERATOR, ADMIN] {
            let answer = port.ask(token, method, path, body).await;
            if rank(token) < rank(needs) {
                answer.refused(403, "forbidden");
            } else {
                assert!((200..300).contains(&answer.status), "{token} {method} {path}: {}", answer.text());
            }
        }
    }
}

#[tokio::test]
async fn wrong_tokens_are_refused_and_soon_told_to_wait_while_right_ones_still_work() {
    let port = start().await;
    let mut heard = Vec::new();
    for n in 0..15 {
        let answer = port.get(&format!("tga_guess{n}"), "/v1/cluster").await;
        heard.push(answer.status);
        if answer.status == 429 {
            answer.refused(429, "too_many_failures");
            assert!(answer.header("retry-after").is_some());
        } else {
            answer.refused(401, "unauthorized");
        }
    }
    assert_eq!(heard, [vec![401; 10], vec![429; 5]].concat());
    port.get(READER, "/v1/cluster").await.ok();
}

#[tokio::test]
async fn malformed_credentials_are_refused_and_never_a_fault() {
    let port = start().await;
    for value in
        ["", "Bearer", "Bearer ", "Basic dGdhX2FkbWlu", "tga_admin", "Bearer \u{e4}", "Bearer tga_admin tga_admin"]
    {
        let answer = port.send("GET", "/v1/cluster", &[("authorization", value)], b"").await;
        answer.refused(401, "unauthorized");
    }
    let long = format!("Bearer {}", "x".repeat(10_000));
    assert!([401, 429].contains(&port.send("GET", "/v1/cluster", &[("authorization", &long)], b"").await.status));
    let twice = [("authorization", "Bearer tga_admin"), ("authorization", "Bearer tga_reader")];
    assert!([401, 429].contains(&port.send("GET", "/v1/cluster", &twice, b"").await.status));
    let lower = [("authorization", "bearer tga_admin")];
    port.send("GET", "/v1/cluster", &lower, b"").await.ok();
}

#[tokio::test]
async fn malformed_requests_are_the_callers_fault() {
    let port = start().await;
    let bodies =
        ["{", "[]", "nul", "\u{0}", r#"{"consumer": 1}"#, r#"{"consumer": "a", "unknown": 1}"#, "{}", r#""x""#];
    for body in bodies {
        port.ask(ADMIN, "POST", "/v1/keys", body).await.refused(400, "bad_request");
    }
    let deep = "[".repeat(50_000);
    port.ask(ADMIN, "POST", "/v1/tokens", &deep).await.refused(400, "bad_request");
    let large = format!(r#"{{"consumer": "{}"}}"#, "x".repeat(70_000));
    port.ask(ADMIN, "POST", "/v1/keys", &large).await.refused(413, "too_large");
    for path in ["/v1/keys/x", "/v1/keys/-1", "/v1/keys/99999999999999999999", "/v1/keys/%ff", "/v1/tokens/1.5"] {
        port.ask(ADMIN, "DELETE", path, "").await.refused(400, "bad_request");
    }
    port.get(ADMIN, "/v1/keys?limit=0").await.refused(400, "bad_request");
    port.get(ADMIN, "/v1/keys?limit=x").await.refused(400, "bad_request");
    port.ask(ADMIN, "POST", "/v1/cluster/token", r#"{"ttl_seconds": 1}"#).await.refused(400, "bad_request");
    port.ask(ADMIN, "POST", "/v1/cluster/token", r#"{"uses": 0}"#).await.refused(400, "bad_request");
    port.ask(ADMIN, "POST", "/v1/cluster/transfer", r#"{"to": -1}"#).await.refused(400, "bad_request");
    port.ask(ADMIN, "POST", "/v1/tokens", r#"{"name": "x", "role": "root"}"#).await.refused(400, "bad_request");
    port.ask(ADMIN, "POST", "/v1/tokens", r#"{"name": " ", "role": "admin"}"#).await.refused(400, "bad_request");
    let huge = format!(r#"{{"name": "x", "role": "admin", "ttl_seconds": {}}}"#, u64::MAX);
    port.ask(ADMIN, "POST", "/v1/tokens", &huge).await.refused(400, "bad_request");
}

#[tokio::test]
async fn unknown_paths_and_methods_are_refused_in_the_same_shape() {
    let port = start().await;
    for path in ["/", "/v1", "/v1/nothing", "/v1/keys/1/2", "/v2/document", "/metrics/", "//", "/%00"] {
        port.get(ADMIN, path).await.refused(404, "unknown_path");
    }
    for (method, path) in
        [("POST", "/v1/document"), ("DELETE", "/v1/history"), ("PUT", "/healthz"), ("TRACE", "/v1/keys")]
    {
        let answer = port.ask(ADMIN, method, path, "").await;
        answer.refused(405, "method_not_allowed");
        assert!(answer.header("allow").is_some(), "{method} {path}");
    }
}

#[tokio::test]
async fn ready_follows_the_node() {
    let port = start().await;
    let ready = async |accept: &str| port.send("GET", "/readyz", &[("accept", accept)], b"").await;
    let answer = ready("*/*").await;
    assert_eq!((answer.status, answer.text().as_str()), (200, "ready\n"));
    port.memory.be(Readiness::Degraded, &["no quorum in the control group"]);
    let answer = ready("*/*").await;
    assert_eq!((answer.status, answer.text().as_str()), (200, "degraded\nno quorum in the control group\n"));
    let json = ready("application/json").await.ok();
    assert_eq!(
        (json["status"].as_str(), json["reasons"][0].as_str()),
        (Some("degraded"), Some("no quorum in the control group"))
    );
    for (readiness, word) in [(Readiness::Draining, "draining\n"), (Readiness::Starting, "starting\n")] {
        port.memory.be(readiness, &[]);
        let answer = ready("*/*").await;
        assert_eq!((answer.status, answer.text().as_str()), (503, word));
        assert_eq!(port.send("GET", "/healthz", &[], b"").await.status, 200, "alive all the same");
    }
}

#[tokio::test]
async fn admin_tokens_are_made_listed_and_ended_and_the_last_admin_stays() {
    let port = start().await;
    let ask = r#"{"name": "ci", "role": "operator", "ttl_seconds": 3600}"#;
    let made = port.ask(ADMIN, "POST", "/v1/tokens", ask).await;
    assert_eq!(made.status, 201);
    let made = made.ok();
    let token = made["token"].as_str().unwrap();
    assert!(token.starts_with("tga_") && token.len() == 68, "256 bits");
    port.ask(token, "PUT", "/v1/document", GOOD).await.ok();
    assert_eq!(port.get(READER, "/v1/document").await.ok()["by"], "ci");

    let list = port.get(ADMIN, "/v1/tokens").await;
    assert!(!list.text().contains(token), "the secret is shown once");
    let tokens = list.ok();
    let id = |name: &str| -> Value {
        let tokens = tokens["tokens"].as_array().unwrap();
        tokens.iter().find(|token| token["name"] == name).unwrap()["id"].clone()
    };
    port.ask(ADMIN, "DELETE", &format!("/v1/tokens/{}", id("ci")), "").await.ok();
    port.get(token, "/v1/cluster").await.refused(401, "unauthorized");
    port.ask(ADMIN, "DELETE", &format!("/v1/tokens/{}", id("ci")), "").await.refused(404, "not_found");
    port.ask(ADMIN, "DELETE", &format!("/v1/tokens/{}", id("bootstrap")), "").await.refused(409, "rejected");
    port.get(ADMIN, "/v1/tokens").await.ok();
}

#[tokio::test]
async fn every_answer_names_its_request_and_forbids_caching() {
    let port = start().await;
    let mut seen = std::collections::HashSet::new();
    for path in ["/healthz", "/v1/cluster", "/nothing", "/metrics"] {
        let answer = port.get(READER, path).await;
        assert!(seen.insert(answer.header("x-request-id").unwrap().to_owned()));
        assert_eq!(answer.header("cache-control"), Some("no-store"));
    }
}

#[tokio::test]
async fn the_port_closes_in_time_while_a_request_hangs() {
    let mut port = start().await;
    // A body that never comes.
    let mut hanging = tokio::net::TcpStream::connect(port.address).await.unwrap();
    let head = b"PUT /v1/document HTTP/1.1\r\nhost: a\r\nauthorization: Bearer tga_admin\r\ncontent-length: 10\r\n\r\n";
    tokio::io::AsyncWriteExt::write_all(&mut hanging, head).await.unwrap();
    port.get(READER, "/v1/cluster").await.ok();
    drop(port.stop.take());
    let closed = tokio::time::timeout(std::time::Duration::from_secs(8), &mut port.served).await;
    assert!(closed.is_ok_and(|joined| joined.is_ok()));
}
