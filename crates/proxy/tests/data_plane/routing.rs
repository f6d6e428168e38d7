//! Which route answers, and what it makes of the target.

use http::{HeaderValue, Method, StatusCode};
use tidegate_policy::{
    Action, Cors, HeaderEdit, HeaderEdits, HostPattern, PathPattern, Rare, Redirect, Rewrite, Target,
};

use crate::backend;
use crate::harness::{Setup, rewriting, route, upstream, with_action};

#[tokio::test]
async fn a_request_reaches_its_backend_and_the_answer_comes_back() {
    let (backend, _) = backend::start().await;
    let world = Setup::routes(vec![route("/", &upstream(backend))]).start().await;
    let reply = world.get("/a/b?c=d").await;
    assert_eq!(reply.status, 200, "{reply:?}");
    assert_eq!(reply.target(), "/a/b?c=d");
    assert_eq!(reply.header("x-request-id").map(str::len), Some(32));
}

#[tokio::test]
async fn what_no_route_takes_is_404_and_a_wrong_method_405_with_allow() {
    let (backend, seen) = backend::start().await;
    let mut only_get = route("/v1", &upstream(backend));
    only_get.methods = vec![Method::GET];
    only_get.hosts = vec![HostPattern::Exact("gate.test".into())].into();
    let world = Setup::routes(vec![only_get]).start().await;
    let lost = world.get("/v2").await;
    assert_eq!((lost.status, lost.code().as_str()), (404, "no_route"));
    assert_eq!(lost.json()["error"]["request_id"].as_str(), lost.header("x-request-id"));
    assert_eq!(world.ask("GET", "/v1", "host: other.test\r\n").await.status, 404);
    assert_eq!(world.ask("GET", "/v1", "Host: GATE.test.:8080\r\n").await.status, 200);
    let wrong = world.ask("DELETE", "/v1/x", "").await;
    assert_eq!((wrong.status, wrong.code().as_str()), (405, "method_not_allowed"));
    assert_eq!(wrong.header("allow"), Some("get, head"));
    assert_eq!(seen.requests.load(std::sync::atomic::Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_refusal_to_head_has_headers_and_no_body() {
    let world = Setup::routes(vec![]).start().await;
    let reply = world.ask("HEAD", "/x", "").await;
    assert_eq!((reply.status, reply.body.as_str()), (404, ""));
    assert!(reply.header("content-length").is_some_and(|n| n != "0"), "{}", reply.head);
}

#[tokio::test]
async fn targets_are_rewritten_as_the_route_says() {
    let (backend, _) = backend::start().await;
    let to = upstream(backend);
    let mut template = route("/users", &to);
    template.path = PathPattern::Template("/users/{id}/posts/{*rest}".into());
    let strip = Rewrite { strip_prefix: Some("/v1".into()), add_prefix: Some("/api".into()), ..Rewrite::default() };
    let whole =
        Rewrite { path: Some("/p/{rest}/by/{id}".into()), host: Some("inner.test".into()), ..Rewrite::default() };
    let world = Setup::routes(vec![rewriting(route("/v1", &to), strip), rewriting(template, whole)]).start().await;
    assert_eq!(world.get("/v1/x?y").await.target(), "/api/x?y");
    let reply = world.get("/users/7/posts/a/b?q=1").await;
    assert_eq!(reply.target(), "/p/a/b/by/7?q=1");
    assert_eq!(reply.sent("host"), ["inner.test"]);
    assert_eq!(reply.sent("x-forwarded-host"), ["gate.test"]);
}

#[tokio::test]
async fn the_backend_sees_the_path_that_was_judged() {
    let (backend, _) = backend::start().await;
    let world = Setup::routes(vec![route("/", &upstream(backend))]).start().await;
    assert_eq!(world.get("/public/../admin/%2e%2e/x?a=..").await.target(), "/x?a=..");
    assert_eq!(world.get("/%61bc").await.target(), "/abc");
}

#[tokio::test]
async fn weights_share_requests_out() {
    let ((a, seen_a), (b, seen_b)) = (backend::start().await, backend::start().await);
    let to = vec![
        Target { upstream: upstream(a), weight: 3 },
        Target { upstream: upstream(b), weight: 1 },
        Target { upstream: upstream(a), weight: 0 },
    ];
    let split = with_action("/", Action::Forward { to: to.into(), rewrite: Rare::default() });
    let world = Setup::routes(vec![split]).start().await;
    for _ in 0..200 {
        assert_eq!(world.get("/x").await.status, 200);
    }
    let count = |seen: &backend::Seen| seen.requests.load(std::sync::atomic::Ordering::SeqCst);
    assert_eq!(count(&seen_a) + count(&seen_b), 200);
    assert!((20..=85).contains(&count(&seen_b)), "{}", count(&seen_b));
}

#[tokio::test]
async fn redirects_and_fixed_responses_need_no_upstream() {
    let to = |scheme: Option<&str>, host: Option<&str>, path: Option<&str>| {
        Action::Redirect(Box::new(Redirect {
            status: StatusCode::PERMANENT_REDIRECT,
            scheme: scheme.map(Into::into),
            host: host.map(Into::into),
            port: None,
            path: path.map(Into::into),
        }))
    };
    let mut renamed = with_action("/old", to(None, None, Some("/new/{id}")));
    renamed.path = PathPattern::Template("/old/{id}".into());
    let fixed = Action::Respond {
        status: StatusCode::IM_A_TEAPOT,
        headers: vec![(http::header::RETRY_AFTER, HeaderValue::from_static("60"))],
        body: "short and stout".into(),
    };
    let world = Setup::routes(vec![
        with_action("/tls", to(Some("https"), None, None)),
        with_action("/away", to(None, Some("elsewhere.test"), None)),
        renamed,
        with_action("/tea", fixed),
    ])
    .start()
    .await;
    let location = |reply: &crate::harness::Reply| reply.header("location").map(str::to_owned);
    let tls = world.ask("GET", "/tls/x?y", "host: gate.test:8080\r\n").await;
    assert_eq!((tls.status, location(&tls).as_deref()), (308, Some("https://gate.test/tls/x?y")));
    assert_eq!(location(&world.get("/away/x").await).as_deref(), Some("http://elsewhere.test/away/x"));
    let kept = world.ask("GET", "/old/7?z", "host: gate.test:8080\r\n").await;
    assert_eq!(location(&kept).as_deref(), Some("http://gate.test:8080/new/7?z"));
    let tea = world.get("/tea").await;
    assert_eq!((tea.status, tea.body.as_str(), tea.header("retry-after")), (418, "short and stout", Some("60")));
}

#[tokio::test]
async fn headers_are_edited_both_ways() {
    let (backend, _) = backend::start().await;
    let mut edited = route("/", &upstream(backend));
    let value = HeaderValue::from_static;
    let name = http::HeaderName::from_static;
    edited.request_headers = HeaderEdits(vec![
        HeaderEdit::Set(name("x-set"), value("gate")),
        HeaderEdit::Add(name("x-add"), value("gate")),
        HeaderEdit::Remove(name("x-gone")),
    ])
    .into();
    edited.response_headers = HeaderEdits(vec![HeaderEdit::Set(name("x-answer"), value("gate"))]).into();
    let world = Setup::routes(vec![edited]).start().await;
    let reply = world.ask("GET", "/", "x-set: me\r\nx-add: me\r\nx-gone: me\r\n").await;
    assert_eq!(reply.sent("x-set"), ["gate"]);
    assert_eq!(reply.sent("x-add"), ["me", "gate"]);
    assert!(reply.sent("x-gone").is_empty());
    assert_eq!(reply.header("x-answer"), Some("gate"));
}

#[tokio::test]
async fn cors_is_answered_for_listed_origins_alone() {
    let (backend, seen) = backend::start().await;
    let mut shared = route("/", &upstream(backend));
    shared.cors = Some(Box::new(Cors {
        origins: vec!["https://app.test".into()],
        methods: vec![Method::GET, Method::PUT],
        headers: vec![],
        expose: vec![http::HeaderName::from_static("x-request-id")],
        credentials: true,
        max_age: Some(std::time::Duration::from_secs(600)),
    }));
    let world = Setup::routes(vec![shared]).start().await;
    let ask = "access-control-request-method: PUT\r\naccess-control-request-headers: x-a, x-b\r\n";
    let yes = world.ask("OPTIONS", "/x", &format!("origin: https://app.test\r\n{ask}")).await;
    assert_eq!(yes.status, 204, "{yes:?}");
    assert_eq!(yes.header("access-control-allow-origin"), Some("https://app.test"));
    assert_eq!(yes.header("access-control-allow-methods"), Some("get, put"));
    assert_eq!(yes.header("access-control-allow-headers"), Some("x-a, x-b"));
    assert_eq!(yes.header("access-control-allow-credentials"), Some("true"));
    assert_eq!(yes.header("access-control-max-age"), Some("600"));
    let no = world.ask("OPTIONS", "/x", &format!("origin: https://evil.test\r\n{ask}")).await;
    assert_eq!((no.status, no.header("access-control-allow-origin")), (403, None));
    assert_eq!(seen.requests.load(std::sync::atomic::Ordering::SeqCst), 0, "preflights end here");
    let plain = world.ask("GET", "/x", "origin: https://app.test\r\n").await;
    assert_eq!(plain.header("access-control-allow-origin"), Some("https://app.test"));
    assert_eq!(plain.header("access-control-expose-headers"), Some("x-request-id"));
    assert_eq!(plain.header("vary"), Some("origin"));
    let other = world.ask("GET", "/x", "origin: https://evil.test\r\n").await;
    assert_eq!((other.status, other.header("access-control-allow-origin")), (200, None));
}
