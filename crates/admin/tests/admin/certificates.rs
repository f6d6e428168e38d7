//! Certificates over the admin port.

use serde_json::json;

use crate::common::{OPERATOR, READER, start};

fn made(hosts: &[&str]) -> (String, String) {
    let made =
        rcgen::generate_simple_self_signed(hosts.iter().map(|host| (*host).to_owned()).collect::<Vec<_>>()).unwrap();
    (made.cert.pem(), made.signing_key.serialize_pem())
}

fn body(chain: &str, key: &str) -> String {
    json!({"chain": chain, "key": key}).to_string()
}

#[tokio::test]
async fn what_is_imported_is_told_of_and_its_key_is_not() {
    let port = start().await;
    let (chain, key) = made(&["api.test", "*.b.test"]);
    let done = port.ask(OPERATOR, "PUT", "/v1/certificates/api", &body(&chain, &key)).await.ok();
    assert_eq!((done["complete"].as_bool(), done["certificate"]["state"].as_str()), (Some(true), Some("served")));
    let list = port.get(READER, "/v1/certificates").await;
    assert!(!list.text().contains(key.lines().nth(1).unwrap()));
    let it = list.ok()["certificates"][0].clone();
    assert_eq!(it["hosts"], json!(["api.test", "*.b.test"]));
    assert_eq!((it["source"].as_str(), it["key_type"].as_str()), (Some("imported"), Some("ecdsa-256")));
    port.ask(READER, "PUT", "/v1/certificates/api", &body(&chain, &key)).await.refused(403, "forbidden");
    port.ask(OPERATOR, "DELETE", "/v1/certificates/api", "").await.ok();
    port.ask(OPERATOR, "DELETE", "/v1/certificates/api", "").await.refused(404, "not_found");
}

#[tokio::test]
async fn what_cannot_be_served_is_refused_with_the_reason_and_without_the_key() {
    let port = start().await;
    let ((chain, key), (other, _)) = (made(&["api.test"]), made(&["b.test"]));
    let mut old = rcgen::CertificateParams::new(vec!["old.test".to_owned()]).unwrap();
    (old.not_before, old.not_after) = (rcgen::date_time_ymd(2020, 1, 1), rcgen::date_time_ymd(2021, 1, 1));
    let its = rcgen::KeyPair::generate().unwrap();
    let expired = (old.self_signed(&its).unwrap().pem(), its.serialize_pem());
    for (name, chain, key, why) in [
        ("api", other.as_str(), key.as_str(), "the key does not belong"),
        ("api", &chain, "", "no PRIVATE KEY"),
        ("api", "", &key, "no CERTIFICATE"),
        ("api", &key, &key, "no CERTIFICATE"),
        ("api", &expired.0, &expired.1, "has expired: it was good until 2021-01-01T00:00:00Z"),
        ("a%20b", &chain, &key, "a name is 1 to 128"),
    ] {
        let answer = port.ask(OPERATOR, "PUT", &format!("/v1/certificates/{name}"), &body(chain, key)).await;
        assert!(key.lines().nth(1).is_none_or(|secret| !answer.text().contains(secret)), "{}", answer.text());
        let error = answer.refused(400, "bad_request");
        assert!(error["message"].as_str().unwrap().contains(why), "{why}: {error}");
    }
    assert_eq!(port.get(READER, "/v1/certificates").await.ok()["certificates"], json!([]));
}

#[tokio::test]
async fn a_document_and_what_the_cluster_keeps_do_not_contradict_each_other() {
    let port = start().await;
    let (chain, key) = made(&["api.test"]);
    let named = "version: 1\ncertificates: [{name: shop, hosts: [api.test], stored: api}]\n";
    let error = port.ask(OPERATOR, "PUT", "/v1/document", named).await.refused(409, "rejected");
    assert!(error["message"].as_str().unwrap().contains("keeps no certificate `api`"), "{error}");
    port.ask(OPERATOR, "PUT", "/v1/certificates/api", &body(&chain, &key)).await.ok();
    port.ask(OPERATOR, "PUT", "/v1/document", named).await.ok();
    let error = port.ask(OPERATOR, "DELETE", "/v1/certificates/api", "").await.refused(409, "rejected");
    assert!(error["message"].as_str().unwrap().contains("certificates.shop"), "{error}");

    let asked = "version: 1\nacme: {terms_agreed: true, certificates: [{name: site, hosts: [a.test]}]}\n";
    port.ask(OPERATOR, "PUT", "/v1/document", asked).await.ok();
    let list = port.get(READER, "/v1/certificates").await.ok();
    let site = &list["certificates"][1];
    assert_eq!((site["name"].as_str(), site["state"].as_str()), (Some("site"), Some("pending")), "{list}");
    port.ask(OPERATOR, "PUT", "/v1/certificates/site", &body(&chain, &key)).await.refused(409, "rejected");
    port.ask(OPERATOR, "DELETE", "/v1/certificates/site", "").await.refused(409, "rejected");
    port.ask(OPERATOR, "POST", "/v1/certificates/site/renew", "").await.ok();
    port.ask(OPERATOR, "POST", "/v1/certificates/api/renew", "").await.refused(404, "not_found");
    port.ask(OPERATOR, "DELETE", "/v1/certificates/api", "").await.ok();
}
