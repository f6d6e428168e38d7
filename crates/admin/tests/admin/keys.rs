//! Keys over the admin port.

use crate::common::{GOOD, OPERATOR, Port, READER, start};
use serde_json::{Value, json};
use tidegate_model::Millis;

async fn with_document() -> Port {
    let port = start().await;
    port.ask(OPERATOR, "PUT", "/v1/document", GOOD).await.ok();
    port
}

async fn create(port: &Port) -> Value {
    let answer = port.ask(OPERATOR, "POST", "/v1/keys", r#"{"consumer": "acme", "name": "laptop"}"#).await;
    assert_eq!(answer.status, 201, "{}", answer.text());
    answer.ok()
}

#[tokio::test]
async fn a_new_key_shows_its_secret_once_and_only_its_hash_is_kept() {
    let port = with_document().await;
    let made = create(&port).await;
    let secret = made["secret"].as_str().unwrap();
    assert!(secret.starts_with("tg_"));
    assert_eq!((made["state"].as_str(), made["complete"].as_bool()), (Some("active"), Some(true)));
    let list = port.get(READER, "/v1/keys").await;
    assert!(!list.text().contains(secret));
    let key = list.ok()["keys"][0].clone();
    assert_eq!(
        (key["tenant"].as_str(), key["consumer"].as_str(), key["name"].as_str()),
        (Some("default"), Some("acme"), Some("laptop"))
    );
    assert!(secret.starts_with(key["prefix"].as_str().unwrap()));
    let hash = tidegate_auth::hash(secret.as_bytes());
    let kept = port.state().read(|state| state.keys.by_hash(&hash).map(|key| key.id.0));
    assert_eq!(json!(kept), made["id"]);
}

#[tokio::test]
async fn a_key_for_nobody_is_refused() {
    let port = start().await;
    port.ask(OPERATOR, "POST", "/v1/keys", r#"{"consumer": "acme"}"#).await.refused(409, "rejected");
    let port = with_document().await;
    let error = port.ask(OPERATOR, "POST", "/v1/keys", r#"{"consumer": "acmee"}"#).await.refused(409, "rejected");
    assert!(error["message"].as_str().unwrap().contains("acmee"));
    let other = r#"{"consumer": "acme", "tenant": "other"}"#;
    port.ask(OPERATOR, "POST", "/v1/keys", other).await.refused(409, "rejected");
}

#[tokio::test]
async fn a_revoked_key_stays_revoked_and_revoking_twice_is_harmless() {
    let port = with_document().await;
    let id = create(&port).await["id"].clone();
    for _ in 0..2 {
        let revoked = port.ask(OPERATOR, "DELETE", &format!("/v1/keys/{id}"), "").await.ok();
        assert_eq!(
            (revoked["complete"].as_bool(), revoked["nodes"][0]["state"].as_str()),
            (Some(true), Some("applied"))
        );
    }
    port.ask(OPERATOR, "POST", &format!("/v1/keys/{id}/rotate"), "").await.refused(404, "not_found");
    assert_eq!(port.get(READER, "/v1/keys").await.ok()["keys"][0]["state"], "revoked");
    port.ask(OPERATOR, "DELETE", "/v1/keys/99", "").await.refused(404, "not_found");
}

#[tokio::test]
async fn rotation_keeps_the_id_and_lets_the_old_secret_live_for_its_grace() {
    let port = with_document().await;
    let old = create(&port).await;
    let path = format!("/v1/keys/{}/rotate", old["id"]);
    let new = port.ask(OPERATOR, "POST", &path, r#"{"grace_seconds": 60}"#).await.ok();
    assert_eq!(new["id"], old["id"]);
    assert_ne!(new["secret"], old["secret"]);
    assert!(new["grace_until"].is_string());
    let hash = |key: &Value| tidegate_auth::hash(key["secret"].as_str().unwrap().as_bytes());
    let key = port.state().read(|state| state.keys.by_hash(&hash(&new)).cloned()).unwrap();
    let (_, until) = key.previous.unwrap();
    assert!(key.is_good(&hash(&new), until));
    assert!(key.is_good(&hash(&old), Millis(until.0 - 1)));
    assert!(!key.is_good(&hash(&old), until));
    port.ask(OPERATOR, "POST", &path, r#"{"grace_seconds": 99999999}"#).await.refused(400, "bad_request");
}

#[tokio::test]
async fn keys_are_listed_in_pages_and_by_consumer() {
    let port = with_document().await;
    for _ in 0..3 {
        create(&port).await;
    }
    let first = port.get(READER, "/v1/keys?limit=2").await.ok();
    assert_eq!(first["keys"].as_array().unwrap().len(), 2);
    let rest = port.get(READER, &format!("/v1/keys?limit=2&after={}", first["keys"][1]["id"])).await.ok();
    assert_eq!(rest["keys"].as_array().unwrap().len(), 1);
    assert!(port.get(READER, "/v1/keys?consumer=nobody").await.ok()["keys"].as_array().unwrap().is_empty());
}

#[tokio::test]
async fn a_key_may_be_put_on_a_plan_of_its_own_and_back_on_its_consumers() {
    let port = start().await;
    let document = "version: 1\nconsumers: [{name: acme}]\nplans: [{name: gold}, {name: free}]\n";
    port.ask(OPERATOR, "PUT", "/v1/document", document).await.ok();
    let unknown = r#"{"consumer": "acme", "plan": "gould"}"#;
    let error = port.ask(OPERATOR, "POST", "/v1/keys", unknown).await.refused(409, "rejected");
    assert!(error["message"].as_str().unwrap().contains("gould"), "{error}");
    let key = port.ask(OPERATOR, "POST", "/v1/keys", r#"{"consumer": "acme", "plan": "gold"}"#).await.ok();
    assert_eq!(key["plan"], "gold");
    let path = format!("/v1/keys/{}/plan", key["id"]);
    assert_eq!(port.ask(OPERATOR, "POST", &path, r#"{"plan": "free"}"#).await.ok()["plan"], "free");
    port.ask(OPERATOR, "POST", &path, r#"{"plan": "gould"}"#).await.refused(409, "rejected");
    assert_eq!(port.get(READER, "/v1/keys").await.ok()["keys"][0]["plan"], "free");
    assert_eq!(port.ask(OPERATOR, "POST", &path, r#"{"plan": null}"#).await.ok()["plan"], Value::Null);
    port.ask(OPERATOR, "POST", "/v1/keys/99/plan", r#"{"plan": "gold"}"#).await.refused(404, "not_found");
}
