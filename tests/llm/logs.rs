//! The node's own log at a collector of OpenTelemetry's, over gRPC and over HTTP.

use std::time::Duration;

use crate::harness::{Cluster, Collector, Manner, attribute, eventually};

const SOON: Duration = Duration::from_secs(20);

fn text(collector: &Collector, more: &str) -> String {
    format!(
        "version: 1\ntelemetry: {{otlp: {{endpoint: \"http://{}\", {more}}}}}\n\
         routes: [{{name: r, match: {{path: /*}}, respond: {{status: 200, body: fine}}}}]\n",
        collector.address
    )
}

/// Lines of the log that were told, dropped, and wait.
async fn counters(cluster: &Cluster) -> [u64; 3] {
    let text = cluster.metrics(0).await;
    ["log_records_total", "dropped_log_records_total", "waiting_log_records"].map(|name| {
        let name = format!("tidegate_otlp_{name} ");
        let line = text.lines().find_map(|line| line.strip_prefix(&name)).expect("a sample");
        line.trim().parse::<f64>().unwrap() as u64
    })
}

#[tokio::test]
async fn a_collector_is_told_each_line_from_the_first_one_on_and_the_last_ones_of_a_node_that_stops() {
    for way in ["grpc", "http"] {
        let (silent, collector) = (Collector::start().await, Collector::start().await);
        let mut cluster = Cluster::start(1).await;
        cluster.apply(&text(&silent, &format!("protocol: {way}"))).await;
        cluster.apply(&text(&collector, &format!("protocol: {way}, logs: true, attributes: {{zone: a}}"))).await;
        // Of before anybody was named, of now.
        eventually("two documents and the start", SOON, async || {
            !collector.lines("ready").is_empty() && collector.lines("document in effect").len() == 2
        })
        .await;
        assert!(silent.lines("").is_empty(), "only `logs: true` asks for them");
        let ready = collector.lines("ready");
        let [(scope, line)] = &ready[..] else { panic!("{ready:?}") };
        assert!(scope.starts_with("tidegate"), "{scope}");
        assert_eq!((line.severity_number, line.severity_text.as_str()), (9, "INFO"));
        let admin = cluster.nodes[0].admin("");
        assert!(admin.contains(&attribute(&line.attributes, "admin")), "{admin}: {line:?}");
        let resource = collector.resource.lock().unwrap().clone();
        assert_eq!(
            (attribute(&resource, "service.name"), attribute(&resource, "zone")),
            ("tidegate".into(), "a".into())
        );
        assert!(cluster.nodes[0].log().contains("document in effect"), "standard error has them as before");

        assert_eq!(cluster.nodes[0].drain().await, Some(0));
        assert!(!collector.lines("draining").is_empty(), "the last lines of a node that stops");
        let told = collector.lines("").len();
        let log = cluster.nodes[0].log();
        let said = log.lines().filter(|line| [" INFO ", " WARN ", " ERROR "].iter().any(|level| line.contains(level)));
        let said = said.count();
        assert!(
            told <= said && said <= told + 5,
            "{told} of {said}: none twice, and all but what comes after the last\n{log}"
        );
    }
}

#[tokio::test]
async fn lines_about_telling_lines_do_not_breed_and_what_is_not_taken_is_counted() {
    let collector = Collector::start().await;
    collector.is(Manner::Refuses);
    let cluster = Cluster::start_with(1, &["--log", "trace"]).await;
    cluster.apply(&text(&collector, "protocol: http, logs: true, queue: 64")).await;
    eventually("some are lost", SOON, async || {
        let [told, dropped, waiting] = counters(&cluster).await;
        assert!(told == 0 && waiting <= 64);
        dropped > 0
    })
    .await;
    collector.is(Manner::Takes);
    eventually("the rest is told", SOON, async || counters(&cluster).await[0] > 0).await;
    let lines = collector.lines("");
    assert!(lines.iter().any(|(_, line)| line.severity_number < 9), "finer levels are told as well");
    for speaker in ["h2", "hyper", "tonic", "opentelemetry"] {
        assert!(!lines.iter().any(|(scope, _)| scope.starts_with(speaker)), "{speaker}");
    }
}
