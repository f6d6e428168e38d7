//! Collectors of OpenTelemetry's that are slow, busy, choosy or gone: what becomes of spans, and that nothing becomes of
//! requests. Over gRPC and over HTTP, each judged by OpenTelemetry's own types.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use super::traces::counters;
use crate::harness::{Cluster, Collector, Manner, eventually};

const WAYS: [&str; 2] = ["grpc", "http"];

fn text(endpoint: &str, more: &str) -> String {
    format!(
        "version: 1\ntelemetry: {{otlp: {{endpoint: \"{endpoint}\", interval: 1s, {more}}}}}\n\
         routes: [{{name: r, match: {{path: /*}}, respond: {{status: 200, body: fine}}}}]\n"
    )
}

fn of(collector: &Collector, way: &str) -> String {
    text(&format!("http://{}", collector.address), &format!("protocol: {way}"))
}

/// Requests, none of which may wait for a collector.
async fn ask(cluster: &Cluster, times: usize) {
    let began = Instant::now();
    for _ in 0..times {
        assert_eq!(cluster.client.get(&cluster.nodes[0].url("/"), &[]).await.unwrap().status, 200);
    }
    let took = began.elapsed();
    assert!(took < Duration::from_secs(5), "{times} requests took {took:?}");
}

/// Each span came once.
fn distinct(collector: &Collector) -> usize {
    let spans = collector.spans();
    let ids: HashSet<_> = spans.iter().map(|span| span.span_id.clone()).collect();
    assert_eq!(ids.len(), spans.len(), "a span was told twice");
    ids.len()
}

#[tokio::test]
async fn a_collector_that_never_answers_costs_spans_alone_and_the_next_one_is_told_at_once() {
    for (way, manner) in WAYS.into_iter().flat_map(|way| [(way, Manner::Hangs), (way, Manner::BreaksOff)]) {
        let (dead, alive) = (Collector::start().await, Collector::start().await);
        dead.is(manner);
        let cluster = Cluster::start(1).await;
        cluster.apply(&text(&format!("http://{}", dead.address), &format!("protocol: {way}, queue: 64"))).await;
        ask(&cluster, 10).await;
        eventually("it was asked", Duration::from_secs(5), async || !dead.told.lock().unwrap().is_empty()).await;
        ask(&cluster, 100).await;
        let [taken, dropped, _] = counters(&cluster).await;
        assert!(taken == 0 && dropped >= 36, "64 of 100 wait: {dropped} ({way}, {manner:?})");

        cluster.apply(&of(&alive, way)).await;
        // What waited is told to whoever listens now; only what was on its way is lost.
        eventually("what waited is told", Duration::from_secs(10), async || distinct(&alive) >= 64).await;
        ask(&cluster, 1).await;
        eventually("and what comes", Duration::from_secs(5), async || {
            let [taken, dropped, _] = counters(&cluster).await;
            taken + dropped == 111 && taken as usize == distinct(&alive)
        })
        .await;
    }
}

#[tokio::test]
async fn a_collector_that_asks_for_time_gets_it_and_then_every_span_once() {
    for way in WAYS {
        let collector = Collector::start().await;
        collector.is(Manner::AsksForTime(2, 2));
        let cluster = Cluster::start(1).await;
        cluster.apply(&of(&collector, way)).await;
        ask(&cluster, 20).await;
        eventually("all are told", Duration::from_secs(20), async || distinct(&collector) == 20).await;
        let told = collector.told.lock().unwrap().clone();
        let pauses: Vec<_> = told.windows(2).map(|pair| pair[1] - pair[0]).take(2).collect();
        assert!(pauses.len() == 2 && pauses.iter().all(|pause| *pause >= Duration::from_secs(2)), "{way}: {pauses:?}");
        eventually("it is counted", Duration::from_secs(5), async || counters(&cluster).await == [20, 0, 2]).await;
    }
}

#[tokio::test]
async fn what_a_collector_leaves_out_or_never_takes_is_counted_and_not_told_again() {
    for way in WAYS {
        let collector = Collector::start().await;
        collector.is(Manner::LeavesOut(1));
        let cluster = Cluster::start(1).await;
        cluster.apply(&of(&collector, way)).await;
        ask(&cluster, 20).await;
        eventually("all are told", Duration::from_secs(10), async || distinct(&collector) == 20).await;
        let batches = collector.told.lock().unwrap().len() as u64;
        eventually("what it left out is counted", Duration::from_secs(5), async || {
            counters(&cluster).await == [20 - batches, batches, 0]
        })
        .await;
        let log = cluster.nodes[0].log();
        assert!(log.contains("does not take all") && log.contains("too long for us"), "{way}: {log}");
        assert_eq!(log.matches("does not take all").count(), 1, "it is told once: {way}: {log}");

        collector.is(Manner::Never);
        ask(&cluster, 1).await;
        eventually("it is lost at once", Duration::from_secs(5), async || {
            counters(&cluster).await[1..] == [batches + 1, 1]
        })
        .await;
        assert_eq!(collector.told.lock().unwrap().len() as u64, batches + 1, "{way}: it was not tried again");
        // It is told once that it fails, and nothing that an address or an answer could hold.
        let log = cluster.nodes[0].log();
        assert!(!log.contains(&collector.address.to_string()), "{way}: {log}");
    }
}

#[tokio::test]
async fn collectors_are_told_over_tls_and_nobody_else_is() {
    for way in WAYS {
        let (collector, ca) = Collector::start_tls().await;
        let cluster = Cluster::start(1).await;
        let endpoint = format!("https://{}", collector.address);
        // Nobody whom the system trusts signed its certificate.
        cluster.apply(&text(&endpoint, &format!("protocol: {way}"))).await;
        ask(&cluster, 1).await;
        eventually("it is not believed", Duration::from_secs(10), async || counters(&cluster).await[2] > 0).await;
        assert!(collector.told.lock().unwrap().is_empty());
        let file = cluster.write("ca.pem", &ca);
        cluster.apply(&text(&endpoint, &format!("protocol: {way}, ca: \"{}\"", file.display()))).await;
        ask(&cluster, 1).await;
        eventually("it is told", Duration::from_secs(10), async || distinct(&collector) >= 1).await;
    }
}

#[tokio::test]
async fn the_last_spans_of_a_node_that_stops_are_told() {
    for way in WAYS {
        let collector = Collector::start().await;
        let mut cluster = Cluster::start(1).await;
        cluster.apply(&of(&collector, way)).await;
        ask(&cluster, 700).await;
        assert_eq!(cluster.nodes[0].drain().await, Some(0));
        assert_eq!(distinct(&collector), 700, "{way}");
    }
}
