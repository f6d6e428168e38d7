//! Kept responses over the admin port.

use crate::common::{OPERATOR, READER, start};

const TWO: &str = "\
version: 1
upstreams: [{name: u, endpoints: [{url: \"http://127.0.0.1:9\"}]}]
routes:
  - {name: mine, match: {path: /mine/*}, to: [{upstream: u}]}
  - {name: theirs, tenant: other, match: {path: /theirs/*}, to: [{upstream: u}]}
";

#[tokio::test]
async fn a_tenant_that_nobody_declared_is_refused_and_nothing_is_purged() {
    let port = start().await;
    port.ask(OPERATOR, "PUT", "/v1/document", TWO).await.ok();
    let epoch = || port.state().read(|state| state.purges.epoch());
    let before = epoch();
    for body in [
        r#"{"tenant": "nosuch", "all": true}"#,
        r#"{"tenant": "nosuch", "tags": ["users"]}"#,
        r#"{"tenant": "nosuch", "urls": ["example.com/a"]}"#,
    ] {
        let error = port.ask(OPERATOR, "POST", "/v1/cache/purge", body).await.refused(409, "rejected");
        assert_eq!(error["message"], "the document has no tenant `nosuch`", "{error}");
    }
    let kept = "/v1/cache/kept?url=example.com/a&tenant=";
    port.get(READER, &format!("{kept}nosuch")).await.refused(409, "rejected");
    assert_eq!(epoch(), before, "nothing was purged");
    for tenant in ["other", "default"] {
        port.get(READER, &format!("{kept}{tenant}")).await.ok();
        let body = format!(r#"{{"tenant": "{tenant}", "all": true}}"#);
        port.ask(OPERATOR, "POST", "/v1/cache/purge", &body).await.ok();
    }
    assert!(epoch() > before);
}
