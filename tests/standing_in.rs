//! What is stored stands in for a backend that is sick, where its breaker lets it.

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

use http::StatusCode;

use crate::caching::{get, metric, said};
use crate::harness::{Cluster, Origin, answer};

/// Stale as soon as it comes; sick when it is told to be.
async fn sickly() -> (Origin, Arc<AtomicBool>) {
    let sick = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&sick);
    let origin = Origin::start(move |parts, _| {
        let sick = told.load(SeqCst);
        async move {
            let mut response = match parts.uri.path() {
                _ if sick => answer(&[("cache-control", "no-store")], "sick"),
                strict if strict.starts_with("/strict") => answer(
                    &[("cache-control", "max-age=60, must-revalidate"), ("age", "100"), ("etag", "\"v\"")],
                    "good",
                ),
                own if own.starts_with("/own") => {
                    answer(&[("cache-control", "private, max-age=60"), ("age", "100"), ("etag", "\"v\"")], "good")
                }
                never if never.starts_with("/never") => answer(&[("cache-control", "no-store")], "good"),
                // Older than the breaker lets it be.
                old if old.starts_with("/old") => {
                    answer(&[("cache-control", "max-age=60"), ("age", "7200"), ("etag", "\"v\"")], "good")
                }
                _ => answer(&[("cache-control", "max-age=60"), ("age", "100"), ("surrogate-key", "tag")], "good"),
            };
            if sick {
                *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
            }
            response
        }
    })
    .await;
    (origin, sick)
}

fn document(origin: &Origin, breaker: &str) -> String {
    let mut text = String::from("version: 1\nupstreams:\n");
    writeln!(text, "  - name: origin\n    endpoints: [{{url: \"http://{}\"}}]", origin.address).unwrap();
    writeln!(text, "    retries: {{max: 0}}\n    breaker: {{consecutive: 3, open_for: 60s, {breaker}}}").unwrap();
    text + "routes: [{name: kept, match: {path: /*}, to: [{upstream: origin}], cache: {}}]\n"
}

#[tokio::test]
async fn what_is_stored_stands_in_while_the_backend_fails_and_while_its_breaker_is_open() {
    let (origin, sick) = sickly().await;
    let cluster = Cluster::start(1).await;
    cluster.apply(&document(&origin, "stored: 1h")).await;
    for path in ["/a", "/b", "/strict", "/own", "/never", "/old"] {
        let first = get(&cluster, 0, path).await;
        assert_eq!(&first.body[..], b"good", "{path}");
    }
    assert_eq!(&get(&cluster, 0, "/a").await.body[..], b"good");
    assert_eq!(origin.asked("GET /a"), 2, "it is stale: the origin is asked");

    sick.store(true, SeqCst);
    for _ in 0..10 {
        let answer = get(&cluster, 0, "/a").await;
        assert_eq!((answer.status, &answer.body[..]), (StatusCode::OK, &b"good"[..]), "{answer:?}");
        assert!(said(&answer).contains("detail=stale-if-error"), "{}", said(&answer));
        let age: u64 = answer.headers["age"].to_str().unwrap().parse().unwrap();
        assert!((100..200).contains(&age), "{age}");
    }
    let asked = origin.asked("GET /a");
    assert!(asked < 10, "asked {asked} times: the breaker is open");
    assert_eq!(get(&cluster, 0, "/b").await.status, StatusCode::OK, "nobody asked for it since");
    assert_eq!(metric(&cluster, 0, "stand_ins").await, 11);
    for path in ["/strict", "/own", "/never", "/old", "/unknown"] {
        let answer = get(&cluster, 0, path).await;
        assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE, "{path}: {answer:?}");
    }
    cluster.cli(&["cache", "purge", "--tag", "tag"]).await.unwrap();
    for path in ["/a", "/b"] {
        assert_eq!(get(&cluster, 0, path).await.status, StatusCode::SERVICE_UNAVAILABLE, "{path} was purged");
    }
}

#[tokio::test]
async fn a_fixed_answer_comes_after_what_is_stored() {
    let (origin, sick) = sickly().await;
    let cluster = Cluster::start(1).await;
    cluster.apply(&document(&origin, "stored: 1h, respond: {status: 203, body: later}")).await;
    assert_eq!(&get(&cluster, 0, "/a").await.body[..], b"good");
    sick.store(true, SeqCst);
    for _ in 0..5 {
        assert_eq!(&get(&cluster, 0, "/a").await.body[..], b"good");
    }
    let other = get(&cluster, 0, "/c").await;
    assert_eq!((other.status.as_u16(), &other.body[..]), (203, &b"later"[..]));
}

#[tokio::test]
async fn without_it_what_is_stale_stands_in_for_nobody() {
    let (origin, sick) = sickly().await;
    let cluster = Cluster::start(1).await;
    cluster.apply(&document(&origin, "")).await;
    assert_eq!(&get(&cluster, 0, "/a").await.body[..], b"good");
    sick.store(true, SeqCst);
    for _ in 0..5 {
        assert_eq!(get(&cluster, 0, "/a").await.status, StatusCode::SERVICE_UNAVAILABLE);
    }
}
