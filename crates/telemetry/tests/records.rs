//! From a record to its line and its numbers, over real files.

#![allow(clippy::unwrap_used, reason = "a test that unwraps says what it expects by failing")]

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Version};
use serde_json::{Value, json};
use tidegate_model::{KeyId, LimitId, Nanos, Permits, Revision};
use tidegate_policy::{
    AccessLog, Action, Balance, Consumer, ConsumerLimits, Consumers, Limit, Mode, OnUnavailable, PathPattern, Protocol,
    Rare, Retries, Route, Router, Snapshot, Target, Upstream, UpstreamTimeouts, UpstreamTls,
};
use tidegate_telemetry::{Cached, Cut, Kind, Record, Sample, Scene, Standing, Standings, Telemetry, Verdict};

fn settings(file: &Path) -> AccessLog {
    AccessLog { file: Some(file.to_owned()), rotate_bytes: None, keep: 3, headers: Vec::new() }
}

fn started(access_log: Option<AccessLog>) -> Arc<Telemetry> {
    Telemetry::start(&tidegate_policy::Telemetry { access_log, ..Default::default() }).unwrap()
}

/// Under a policy of nothing.
fn record(telemetry: &Arc<Telemetry>) -> Record {
    record_under(telemetry, Snapshot::default())
}

fn record_under(telemetry: &Arc<Telemetry>, snapshot: Snapshot) -> Record {
    record_in(&Scene::new(telemetry, Arc::new(snapshot)))
}

fn record_in(scene: &Arc<Scene>) -> Record {
    Record::begin(Arc::clone(scene), tidegate_clock::boot())
}

/// These routes to one upstream, one consumer, one limit.
fn policy(routes: &[&str], upstream: &str, limited: &str) -> Snapshot {
    let upstream = Arc::new(Upstream {
        id: upstream.into(),
        endpoints: Vec::new(),
        balance: Balance::default(),
        protocol: Protocol::default(),
        timeouts: UpstreamTimeouts {
            connect: Duration::from_secs(1),
            first_byte: Duration::from_secs(1),
            total: None,
            idle: Duration::from_secs(1),
        },
        retries: Retries { max: 0, budget: 0.0, on: Vec::new(), unsafe_methods: false },
        max_connections: 1,
        max_idle: 1,
        idle_timeout: Duration::from_secs(1),
        tls: UpstreamTls::default(),
        breaker: None,
        overload: None,
        hedge: None,
        health: None,
        announce: None,
    });
    let consumer = |name: &str| Consumer {
        models: None,
        residency: None,
        class: None,
        name: name.into(),
        tenant: "default".into(),
        team: None,
        plan: None,
        limits: ConsumerLimits::default(),
    };
    Snapshot {
        router: Router::new(routes.iter().map(|id| Arc::new(route(id, &upstream))).collect()),
        limits: vec![Arc::new(limit(limited))],
        consumers: Consumers::from(vec![Arc::new(consumer("acme"))]),
        ..Snapshot::default()
    }
}

fn route(id: &str, upstream: &Arc<Upstream>) -> Route {
    let to = vec![Target { upstream: Arc::clone(upstream), weight: 1 }];
    Route {
        id: id.into(),
        tenant: "default".into(),
        hosts: Rare::default(),
        path: PathPattern::Prefix(format!("/{id}")),
        methods: Vec::new(),
        headers: Rare::default(),
        query: Rare::default(),
        priority: 0,
        action: Action::Forward { to: to.into(), rewrite: Rare::default() },
        auth: Vec::new(),
        claims: Rare::default(),
        claim_headers: std::sync::Arc::default(),
        limits: Rare::default(),
        cors: None,
        request_headers: Rare::default(),
        response_headers: Rare::default(),
        timeouts: Rare::default(),
        max_body: 1,
        min_body_rate: 0,
        upgrade: false,
        early_hints: false,
        grpc_web: false,
        decompress: false,
        compression: None,
        class: None,
        cache: None,
    }
}

fn lines(file: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    text.lines().map(|line| serde_json::from_str(line).expect(line)).collect()
}

fn value(page: &str, series: &str) -> Option<f64> {
    page.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' ')?.parse().ok())
}

fn limit(name: &str) -> Limit {
    Limit {
        id: LimitId(1),
        revision: Revision(1),
        name: name.into(),
        max: Permits(10),
        kind: tidegate_policy::Kind::Sliding { window: Nanos::SECOND },
        cost: tidegate_policy::Cost::ONE,
        per: Vec::new(),
        mode: Mode::Enforce,
        on_unavailable: OnUnavailable::Deny,
        count_hits: true,
        on_missing: tidegate_policy::OnMissing::Share,
        terms: tidegate_policy::Terms::default(),
    }
}

#[test]
fn a_full_record_is_one_line_with_every_field() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("logs/access.log");
    let telemetry = started(Some(settings(&file)));
    let mut r = record_under(&telemetry, policy(&["users"], "users-up", "per-key"));
    r.request_id = Some(HeaderValue::from_static("01J"));
    r.client = Some([192, 0, 2, 7].into());
    r.version = Version::HTTP_2;
    r.tls = Some("TLSv1.3");
    r.method = Method::POST;
    r.host = Some(HeaderValue::from_static("api.example.com"));
    r.target = Some("/v1/users?a=b&key=tg_hidden".parse().unwrap());
    r.user_agent = Some(HeaderValue::from_bytes(b"curl\t\"8\" \xff").unwrap());
    (r.route, r.towards) = (Some(0), Some(0));
    (r.consumer, r.key) = (Some(0), Some(KeyId(7)));
    (r.endpoint, r.attempts) = (Some("10.0.0.5:8000".into()), 2);
    (r.connect, r.first_byte) = (Some(Duration::from_micros(250)), Some(Duration::from_millis(12)));
    (r.status, r.bytes_in, r.bytes_out) = (StatusCode::BAD_GATEWAY.as_u16(), 10, 2_000);
    (r.refusal, r.cut) = (Some("upstream_failed"), Some(Cut::Upstream));
    r.detail = Some("reset by tg_aaaaaaaaaaaaaaaaaaaaaaaaaaaa".into());
    r.limits.push(Standing { limit: 0, verdict: Verdict::Admitted, remaining: Some(Permits(3)) });
    r.finish();
    telemetry.flush();
    let mut line = lines(&file).pop().unwrap();
    let object = line.as_object_mut().unwrap();
    let time = object.remove("time").unwrap();
    assert!(time.as_str().unwrap().parse::<jiff::Timestamp>().is_ok(), "{time}");
    assert!(object.remove("duration_ms").unwrap().as_f64().unwrap() < 1_000.0);
    let expected = json!({
        "request_id": "01J", "client": "192.0.2.7", "tenant": "default", "consumer": "acme", "key_id": 7,
        "protocol": "HTTP/2.0", "tls": "TLSv1.3", "method": "POST", "host": "api.example.com",
        "path": "/v1/users?a=b&key=REDACTED", "route": "users", "status": 502, "refusal": "upstream_failed",
        "cut": "upstream", "bytes_in": 10, "bytes_out": 2000, "user_agent": "curl\t\"8\" \u{fffd}",
        "detail": "reset by tg_REDACTED", "upstream": "users-up", "endpoint": "10.0.0.5:8000", "attempts": 2,
        "connect_ms": 0.25, "first_byte_ms": 12.0,
        "limits": [{"name": "per-key", "verdict": "admitted", "remaining": 3}],
    });
    assert_eq!(line, expected);
}

#[test]
fn a_dropped_record_is_logged_as_well() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("access.log");
    let telemetry = started(Some(settings(&file)));
    drop(record(&telemetry));
    telemetry.flush();
    assert_eq!(lines(&file)[0]["status"], 0);
}

#[test]
fn wanted_headers_are_logged_and_secret_ones_redacted() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("access.log");
    let names = ["accept", "authorization", "cookie", "x-api-key", "referer", "set-cookie", "x-many"];
    let headers = names.map(HeaderName::from_static).to_vec();
    let telemetry = started(Some(AccessLog { headers, ..settings(&file) }));
    let mut request = HeaderMap::new();
    request.insert("accept", HeaderValue::from_static("*/*"));
    request.insert("x-unwanted", HeaderValue::from_static("no"));
    request.insert("referer", HeaderValue::from_static("https://a/?token=hush"));
    for name in ["authorization", "cookie", "x-api-key"] {
        request.insert(name, HeaderValue::from_static("hush"));
    }
    request.append("x-many", HeaderValue::from_static("1"));
    request.append("x-many", HeaderValue::from_static("2"));
    let mut response = HeaderMap::new();
    response.insert("set-cookie", HeaderValue::from_static("hush"));
    let mut r = record(&telemetry);
    r.request_headers(&request);
    r.response_headers(&response);
    r.finish();
    telemetry.flush();
    let line = lines(&file).pop().unwrap();
    assert_eq!(
        line["request_headers"],
        json!({"accept": "*/*", "authorization": "REDACTED", "cookie": "REDACTED", "x-api-key": "REDACTED",
               "referer": "https://a/?token=REDACTED", "x-many": "1, 2"})
    );
    assert_eq!(line["response_headers"], json!({"set-cookie": "REDACTED"}));
    assert!(!std::fs::read_to_string(&file).unwrap().contains("hush"));
}

#[test]
fn the_file_is_rotated_by_size_and_a_few_are_kept() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("access.log");
    let telemetry = started(Some(AccessLog { rotate_bytes: Some(2_000), keep: 2, ..settings(&file) }));
    for _ in 0..200 {
        record(&telemetry).finish();
    }
    telemetry.flush();
    let mut names: Vec<_> = std::fs::read_dir(folder.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["access.log", "access.log.1", "access.log.2"]);
    for name in names {
        let path = folder.path().join(name);
        assert!(std::fs::metadata(&path).unwrap().len() <= 2_000);
        assert!(!lines(&path).is_empty(), "whole lines only");
    }
}

#[test]
fn reopening_leaves_a_renamed_file_alone() {
    let folder = tempfile::tempdir().unwrap();
    let (file, moved) = (folder.path().join("access.log"), folder.path().join("moved.log"));
    let telemetry = started(Some(settings(&file)));
    record(&telemetry).finish();
    telemetry.flush();
    std::fs::rename(&file, &moved).unwrap();
    record(&telemetry).finish();
    telemetry.flush();
    telemetry.reopen();
    telemetry.flush();
    record(&telemetry).finish();
    telemetry.flush();
    assert_eq!((lines(&moved).len(), lines(&file).len()), (2, 1));
}

#[test]
fn a_new_document_moves_the_log_and_a_bad_one_does_not() {
    let folder = tempfile::tempdir().unwrap();
    let (a, b) = (folder.path().join("a.log"), folder.path().join("b.log"));
    let telemetry = started(Some(settings(&a)));
    record(&telemetry).finish();
    telemetry.apply(&tidegate_policy::Telemetry { access_log: Some(settings(&b)), ..Default::default() }).unwrap();
    record(&telemetry).finish();
    let impossible = settings(Path::new("/proc/nowhere/access.log"));
    assert!(
        telemetry.apply(&tidegate_policy::Telemetry { access_log: Some(impossible), ..Default::default() }).is_err()
    );
    record(&telemetry).finish();
    telemetry.flush();
    assert_eq!((lines(&a).len(), lines(&b).len()), (1, 2));
    telemetry.apply(&tidegate_policy::Telemetry::default()).unwrap();
    record(&telemetry).finish();
    telemetry.flush();
    assert_eq!(lines(&b).len(), 2);
}

#[test]
fn a_writer_that_falls_behind_loses_lines_and_counts_them() {
    let folder = tempfile::tempdir().unwrap();
    // A pipe nobody reads: the writer blocks, requests do not.
    let pipe = folder.path().join("pipe");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let reader = std::fs::OpenOptions::new().read(true).write(true).open(&pipe).unwrap();
    let telemetry = started(Some(settings(&pipe)));
    let agent = HeaderValue::from_bytes(&[b'a'; 4_000]).unwrap();
    for _ in 0..2_000 {
        let mut r = record(&telemetry);
        r.user_agent = Some(agent.clone());
        r.finish();
    }
    assert!(telemetry.dropped_lines() > 0);
    assert!(value(&telemetry.render(), "tidegate_access_log_dropped_total").unwrap() > 0.0);
    // Unblock the writer, so that it can end.
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut sink = std::io::sink();
            let mut reader = &reader;
            let mut chunk = [0; 65_536];
            loop {
                let read = std::io::Read::read(&mut reader, &mut chunk).unwrap();
                std::io::Write::write_all(&mut sink, &chunk[..read]).unwrap();
                if chunk[..read].windows(4).any(|w| w == b"end!") {
                    break;
                }
            }
        });
        telemetry.flush();
        let mut r = record(&telemetry);
        r.user_agent = Some(HeaderValue::from_static("end!"));
        r.finish();
        telemetry.flush();
    });
}

#[test]
fn metrics_tell_routes_upstreams_limits_and_refusals() {
    let telemetry = started(None);
    let open = record(&telemetry);
    let scene = Scene::new(&telemetry, Arc::new(policy(&["users"], "up", "fleet")));
    for status in [200, 200, 503] {
        let mut r = record_in(&scene);
        (r.route, r.towards, r.attempts) = (Some(0), Some(0), 2);
        (r.status, r.bytes_out, r.first_byte) = (status, 100, Some(Duration::from_millis(3)));
        r.refusal = (status == 503).then_some("no_backend");
        r.cache = Some(if status == 503 { Cached::VaryMiss } else { Cached::Hit });
        r.limits = Standings::from_elem(Standing { limit: 0, verdict: Verdict::WouldRefuse, remaining: None }, 1);
        r.finish();
    }
    let page = telemetry.render();
    let check = |series: &str, expected: f64| assert_eq!(value(&page, series), Some(expected), "{series}\n{page}");
    check(r#"tidegate_requests_total{route="users",method="GET",class="2xx"}"#, 2.0);
    check(r#"tidegate_requests_total{route="users",method="GET",class="5xx"}"#, 1.0);
    check(r#"tidegate_cache_requests_total{route="users",result="hit"}"#, 2.0);
    check(r#"tidegate_cache_requests_total{route="users",result="vary_miss"}"#, 1.0);
    check(r#"tidegate_response_bytes_total{route="users"}"#, 300.0);
    check(r#"tidegate_request_duration_seconds_count{route="users"}"#, 3.0);
    check(r#"tidegate_upstream_requests_total{upstream="up",class="2xx"}"#, 2.0);
    check(r#"tidegate_upstream_attempts_total{upstream="up"}"#, 6.0);
    check(r#"tidegate_upstream_first_byte_seconds_bucket{le="0.005",upstream="up"}"#, 3.0);
    check(r#"tidegate_upstream_first_byte_seconds_bucket{le="0.0025",upstream="up"}"#, 0.0);
    check(r#"tidegate_refusals_total{code="no_backend"}"#, 1.0);
    check(r#"tidegate_limit_decisions_total{limit="fleet",verdict="would_refuse"}"#, 3.0);
    check("tidegate_requests_in_flight", 1.0);
    assert!(value(&page, "process_resident_memory_bytes").unwrap() > 1e6);
    assert!(page.ends_with("# EOF\n"));
    drop(open);
    assert_eq!(value(&telemetry.render(), "tidegate_requests_in_flight"), Some(0.0));
}

#[test]
fn labels_are_bounded_whatever_clients_send() {
    let telemetry = started(None);
    let names: Vec<_> = (0..3_000).map(|n| format!("route-{n}")).collect();
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    let scene = Scene::new(&telemetry, Arc::new(policy(&names, "up", "fleet")));
    for n in 0..3_000 {
        let mut r = record_in(&scene);
        r.method = Method::from_bytes(format!("M{n}").as_bytes()).unwrap();
        r.route = Some(n);
        r.status = 200;
        r.finish();
    }
    let page = telemetry.render();
    let series = page.lines().filter(|line| line.starts_with("tidegate_requests_total{")).count();
    assert_eq!(series, 1_001);
    assert_eq!(value(&page, r#"tidegate_requests_total{route="other",method="other",class="2xx"}"#), Some(2_000.0));
    telemetry.retain(&["route-1".into()], &[]);
    let page = telemetry.render();
    assert_eq!(page.lines().filter(|line| line.starts_with("tidegate_requests_total{")).count(), 2);
}

#[test]
fn the_binary_adds_metrics_of_its_own() {
    let telemetry = started(None);
    telemetry.register("connections_open", "Open connections", Kind::Gauge, || {
        vec![Sample { labels: vec![("listener", "a\"b".into())], value: 3.0 }]
    });
    telemetry.register("leases", "Leases asked for", Kind::Counter, || vec![Sample { labels: vec![], value: 7.0 }]);
    let page = telemetry.render();
    assert!(page.contains(r#"tidegate_connections_open{listener="a\"b"} 3.0"#), "{page}");
    assert!(page.contains("tidegate_leases_total 7.0"), "{page}");
}
