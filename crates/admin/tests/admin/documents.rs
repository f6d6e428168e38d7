//! Documents over the admin port: published, refused, remembered, taken back.

use crate::common::{ADMIN, BAD, GOOD, OPERATOR, READER, start};
use tidegate_state::{Command, Format, Publish};

#[tokio::test]
async fn a_published_document_comes_back_as_it_was_written() {
    let port = start().await;
    port.get(READER, "/v1/document").await.refused(404, "not_found");
    let published = port.ask(OPERATOR, "PUT", "/v1/document?note=first%20one", GOOD).await;
    assert_eq!(published.ok()["revision"], 1);
    assert_eq!(published.header("etag"), Some("\"1\""));
    let current = port.get(READER, "/v1/document").await;
    assert_eq!(current.header("etag"), Some("\"1\""));
    let current = current.ok();
    assert_eq!((current["text"].as_str(), current["by"].as_str()), (Some(GOOD), Some("operator")));
    assert_eq!(current["note"], "first one");
    let bearer = format!("Bearer {READER}");
    let headers = [("authorization", bearer.as_str()), ("accept", "application/yaml")];
    let raw = port.send("GET", "/v1/document", &headers, b"").await;
    assert_eq!((raw.text().as_str(), raw.header("content-type")), (GOOD, Some("application/yaml")));
}

#[tokio::test]
async fn a_document_with_problems_is_refused_with_all_of_them_and_changes_nothing() {
    let port = start().await;
    port.ask(OPERATOR, "PUT", "/v1/document", GOOD).await.ok();
    let refused = port.ask(OPERATOR, "PUT", "/v1/document", BAD).await.refused(422, "invalid_document");
    let problems = refused["problems"].as_array().unwrap();
    let mut lines: Vec<u64> = problems.iter().map(|problem| problem["line"].as_u64().unwrap()).collect();
    lines.sort_unstable();
    assert_eq!(lines, [3, 4], "{problems:?}");
    assert!(problems.iter().any(|problem| problem["path"] == "routes[0].to[0].upstream"), "{problems:?}");
    let current = port.get(READER, "/v1/document").await.ok();
    assert_eq!((current["revision"].as_u64(), current["text"].as_str()), (Some(1), Some(GOOD)));
    assert_eq!(port.get(READER, "/v1/history").await.ok()["revisions"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn a_document_that_is_no_document_is_refused_and_never_a_fault() {
    let port = start().await;
    for text in
        ["", "[]", "42", "{", "version: 99", "\t", "a: &a [*a]", "version: 1\nversion: 1", "!!binary x", "\u{0}"]
    {
        let answer = port.ask(OPERATOR, "PUT", "/v1/document", text).await;
        answer.refused(422, "invalid_document");
    }
    let answer = port.send("PUT", "/v1/document", &[("authorization", "Bearer tga_operator")], b"\xff\xfe").await;
    answer.refused(400, "bad_request");
    port.get(READER, "/v1/document").await.refused(404, "not_found");
}

#[tokio::test]
async fn publishing_against_an_old_revision_is_a_conflict_and_changes_nothing() {
    let port = start().await;
    let put = async |if_match: &str, text: &str| {
        let headers = [("authorization", "Bearer tga_operator"), ("if-match", if_match)];
        port.send("PUT", "/v1/document", &headers, text.as_bytes()).await
    };
    assert_eq!(put("\"0\"", GOOD).await.ok()["revision"], 1);
    assert_eq!(put("\"0\"", GOOD).await.refused(412, "revision_conflict")["revision"], 1);
    assert_eq!(put("\"1\"", GOOD).await.ok()["revision"], 2);
    assert_eq!(put("1", GOOD).await.refused(412, "revision_conflict")["revision"], 2);
    assert_eq!(put("*", GOOD).await.ok()["revision"], 3);
    put("W/\"x\"", GOOD).await.refused(400, "bad_request");
    assert_eq!(port.get(READER, "/v1/document").await.ok()["revision"], 3);
}

#[tokio::test]
async fn of_two_that_publish_at_once_against_one_revision_one_wins() {
    let port = start().await;
    let headers = [("authorization", "Bearer tga_operator"), ("if-match", "\"0\"")];
    let put = || port.send("PUT", "/v1/document", &headers, GOOD.as_bytes());
    let (a, b, c) = tokio::join!(put(), put(), put());
    let mut statuses = [a.status, b.status, c.status];
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 412, 412]);
}

#[tokio::test]
async fn waiting_tells_which_nodes_have_it() {
    let port = start().await;
    let published = port.ask(OPERATOR, "PUT", "/v1/document?wait=2s", GOOD).await.ok();
    assert_eq!(
        (published["complete"].as_bool(), published["nodes"][0]["state"].as_str()),
        (Some(true), Some("applied"))
    );
    assert!(port.ask(OPERATOR, "PUT", "/v1/document", GOOD).await.ok()["nodes"].is_null());
    for wrong in ["1h", "-1", "301s", "soon"] {
        port.ask(OPERATOR, "PUT", &format!("/v1/document?wait={wrong}"), GOOD).await.refused(400, "bad_request");
    }
}

#[tokio::test]
async fn rollback_publishes_an_old_text_as_a_new_revision_and_revives_no_key() {
    let port = start().await;
    port.ask(OPERATOR, "PUT", "/v1/document", GOOD).await.ok();
    let key = port.ask(OPERATOR, "POST", "/v1/keys", r#"{"consumer": "acme"}"#).await.ok();
    let other = GOOD.replace("/users", "/people");
    port.ask(OPERATOR, "PUT", "/v1/document", &other).await.ok();
    port.ask(OPERATOR, "DELETE", &format!("/v1/keys/{}", key["id"]), "").await.ok();
    let back = port.ask(OPERATOR, "POST", "/v1/rollback/1?wait=1s", "").await.ok();
    assert_eq!((back["revision"].as_u64(), back["complete"].as_bool()), (Some(3), Some(true)));
    assert_eq!(port.get(READER, "/v1/document").await.ok()["text"], GOOD);
    assert_eq!(port.get(READER, "/v1/keys").await.ok()["keys"][0]["state"], "revoked");
    let history = port.get(READER, "/v1/history").await.ok();
    let revisions: Vec<_> = history["revisions"].as_array().unwrap().iter().map(|r| r["revision"].as_u64()).collect();
    assert_eq!(revisions, [Some(3), Some(2), Some(1)], "newest first");
    assert_eq!(history["revisions"][0]["note"], "rollback to 1");
    assert_eq!(port.get(READER, "/v1/history/2").await.ok()["text"], other);
    port.ask(OPERATOR, "POST", "/v1/rollback/99", "").await.refused(404, "not_found");
    port.get(READER, "/v1/history/99").await.refused(404, "not_found");
    port.get(READER, "/v1/history/x").await.refused(400, "bad_request");
}

#[tokio::test]
async fn rolling_back_to_a_text_this_release_refuses_changes_nothing() {
    let port = start().await;
    // As an older release may have left it.
    port.memory.apply(Command::PublishDocument(Publish {
        document: BAD.into(),
        format: Format::Yaml,
        replaces: None,
        author: String::new(),
        note: String::new(),
        policies: tidegate_model::Revision(0),
    }));
    port.ask(OPERATOR, "PUT", "/v1/document", GOOD).await.ok();
    port.ask(OPERATOR, "POST", "/v1/rollback/1", "").await.refused(422, "invalid_document");
    assert_eq!(port.get(READER, "/v1/document").await.ok()["revision"], 2);
}

#[tokio::test]
async fn check_says_every_problem_and_diff_every_change_and_neither_changes_anything() {
    let port = start().await;
    let checked = port.ask(READER, "POST", "/v1/document/check", BAD).await.ok();
    assert_eq!((checked["ok"].as_bool(), checked["problems"].as_array().map(Vec::len)), (Some(false), Some(2)));
    let checked = port.ask(READER, "POST", "/v1/document/check", GOOD).await.ok();
    assert_eq!(checked["ok"], true, "{checked}");
    let diff = port.ask(READER, "POST", "/v1/document/diff", GOOD).await.ok();
    assert_eq!(diff["from"], 0);
    assert!(!diff["changes"].as_array().unwrap().is_empty(), "against nothing everything is added");
    port.get(READER, "/v1/document").await.refused(404, "not_found");

    port.ask(OPERATOR, "PUT", "/v1/document", GOOD).await.ok();
    let same = port.ask(READER, "POST", "/v1/document/diff", GOOD).await.ok();
    assert_eq!((same["from"].as_u64(), same["changes"].as_array().map(Vec::len)), (Some(1), Some(0)), "{same}");
    let changed = GOOD.replace("/users", "/people");
    let diff = port.ask(READER, "POST", "/v1/document/diff", &changed).await.ok();
    assert!(diff["changes"].to_string().contains("/people"), "{diff}");
    port.ask(READER, "POST", "/v1/document/diff", BAD).await.refused(422, "invalid_document");
    assert_eq!(port.get(READER, "/v1/document").await.ok()["revision"], 1);
}

#[tokio::test]
async fn the_schema_is_a_json_schema() {
    let port = start().await;
    let schema = port.get(READER, "/v1/schema").await.ok();
    assert!(schema["$schema"].as_str().is_some_and(|s| s.contains("json-schema.org")), "{schema}");
    assert!(schema["properties"]["routes"].is_object());
}

#[tokio::test]
async fn a_document_beyond_sixteen_mebibytes_is_too_large_whether_it_says_so_or_not() {
    let port = start().await;
    let huge = vec![b'#'; 16 * 1024 * 1024 + 1];
    let bearer = format!("Bearer {ADMIN}");
    let announced = port.send("PUT", "/v1/document", &[("authorization", &bearer)], &huge).await;
    announced.refused(413, "too_large");
    let mut chunked = format!(
        "PUT /v1/document HTTP/1.1\r\nhost: a\r\nconnection: close\r\nauthorization: {bearer}\r\ntransfer-encoding: chunked\r\n\r\n{:x}\r\n",
        huge.len()
    )
    .into_bytes();
    chunked.extend_from_slice(&huge);
    chunked.extend_from_slice(b"\r\n0\r\n\r\n");
    port.raw(&chunked).await.refused(413, "too_large");
}
