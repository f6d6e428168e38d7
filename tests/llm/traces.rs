//! What a collector of OpenTelemetry's is told: one trace from the caller through the node to whoever was asked, and the
//! metrics of the conventions for generative AI.

use std::time::Duration;

use opentelemetry_proto::tonic::trace::v1::Span;

use crate::harness::{Cluster, Collector, Manner, Provider, Says, attribute, eventually};
use crate::llm::{document, post};

const CHAT: &str = r#"{"id":"c","object":"chat.completion","created":1,"model":"m-2024","choices":[{"index":0,"message":{"role":"assistant","content":"hi"},"finish_reason":"stop"}],"usage":{"prompt_tokens":30,"completion_tokens":20,"total_tokens":50,"prompt_tokens_details":{"cached_tokens":10},"completion_tokens_details":{"reasoning_tokens":5}}}"#;
const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

async fn providers() -> (Provider, Provider) {
    let one =
        Provider::start(|_| Says::error(429, r#"{"error":{"message":"slow","code":"rate_limit_exceeded"}}"#)).await;
    let two = Provider::start(|asked| match asked.json()["stream"] == true {
        true => {
            let chunk = |text: &str| format!("data: {{\"model\":\"m-2024\",\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"{text}\"}},\"finish_reason\":null}}]}}\n\n");
            let end = "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"length\"}]}\n\ndata: {\"choices\":[],\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":4,\"total_tokens\":7}}\n\ndata: [DONE]\n\n";
            Says::events(&(chunk("a") + &chunk("b") + &chunk("c") + end)).paced(Duration::from_millis(20))
        }
        false => Says::json(CHAT),
    })
    .await;
    (one, two)
}

fn rest(collector: &Collector, more: &str) -> String {
    let otlp = format!("telemetry: {{otlp: {{endpoint: \"http://{}\", interval: 1s, {more}}}}}\n", collector.address);
    otlp + "\
models:
  - name: fast
    deployments:
      - {provider: one, model: m-1, priority: 1, price: {input: 1, output: 2}}
      - {provider: two, model: m-2, price: {input: 1, output: 2, cache_read: 0.5}}
routes: [{name: llm, match: {path: /*}, llm: {models: [fast]}}]
"
}

fn text(cluster: &Cluster, providers: &(Provider, Provider), collector: &Collector, more: &str) -> String {
    let whole =
        document(cluster, &[("one", "openai", &providers.0), ("two", "azure", &providers.1)], &rest(collector, more));
    // One `telemetry` is enough.
    let lines = whole.lines().filter(|line| !line.contains("access_log"));
    lines.collect::<Vec<_>>().join("\n") + "\n"
}

/// Of spans: taken, dropped; and attempts that failed.
pub(super) async fn counters(cluster: &Cluster) -> [u64; 3] {
    let metrics = cluster.client.get(&cluster.nodes[0].admin("/metrics"), &[]).await.unwrap();
    let text = String::from_utf8_lossy(&metrics.body).into_owned();
    ["spans", "dropped_spans", "failed_exports"].map(|name| {
        let name = format!("tidegate_otlp_{name}_total ");
        let line = text.lines().find_map(|line| line.strip_prefix(&name)).expect("a sample");
        line.trim().parse::<f64>().unwrap() as u64
    })
}

async fn spans(collector: &Collector, least: usize) -> Vec<Span> {
    eventually("spans", Duration::from_secs(10), async || collector.spans().len() >= least).await;
    collector.spans()
}

#[tokio::test]
async fn caller_node_and_each_provider_are_one_trace_with_tokens_costs_and_fallbacks() {
    for protocol in ["grpc", "http"] {
        let (providers, collector) = (providers().await, Collector::start().await);
        let cluster = Cluster::start(1).await;
        let secret = cluster.write("otlp.key", "Bearer planted");
        let more = format!(
            "protocol: {protocol}, headers: {{authorization: \"${{secrets.otlp}}\"}}, attributes: {{deployment.environment.name: test}}"
        );
        let text = text(&cluster, &providers, &collector, &more)
            .replace("secrets:\n", &format!("secrets:\n  - {{name: otlp, from: \"file:{}\"}}\n", secret.display()));
        cluster.apply(&text).await;
        let ask = r#"{"model":"fast","messages":[{"role":"user","content":"q"}]}"#;
        let headers = [("traceparent", PARENT), ("tracestate", "v=1")];
        assert_eq!(post(&cluster, "/v1/chat/completions?key=tg_hidden", &headers, ask).await.status, 200);
        let spans = spans(&collector, 3).await;
        assert!(spans.iter().all(|span| hex(&span.trace_id) == TRACE && span.trace_state == "v=1"), "{spans:?}");
        let server = spans.iter().find(|span| span.kind == 2).expect("a server's span");
        assert_eq!((hex(&server.parent_span_id).as_str(), server.name.as_str()), ("b7ad6b7169203331", "POST llm"));
        let of = |span: &Span, name: &str| attribute(&span.attributes, name);
        for (name, value) in [
            ("http.response.status_code", "200"),
            ("url.path", "/v1/chat/completions"),
            ("url.query", "key=REDACTED"),
            ("tidegate.llm.model", "fast"),
            ("tidegate.llm.fallbacks", "1"),
            ("tidegate.tenant", "default"),
        ] {
            assert_eq!(of(server, name), value, "{name}: {server:?}");
        }
        let mut clients: Vec<_> = spans.iter().filter(|span| span.kind == 3).collect();
        clients.sort_by_key(|span| span.start_time_unix_nano);
        assert!(clients.iter().all(|span| span.parent_span_id == server.span_id));
        let [first, second] = clients[..] else { panic!("{clients:?}") };
        assert_eq!((of(first, "error.type").as_str(), first.status.as_ref().unwrap().code), ("rate_limited", 2));
        assert_eq!(
            (of(first, "gen_ai.provider.name"), of(first, "http.response.status_code")),
            ("openai".into(), "429".into())
        );
        for (name, value) in [
            ("gen_ai.operation.name", "chat"),
            ("gen_ai.provider.name", "azure.ai.openai"),
            ("gen_ai.request.model", "m-2"),
            ("gen_ai.response.model", "m-2024"),
            ("gen_ai.usage.input_tokens", "30"),
            ("gen_ai.usage.output_tokens", "20"),
            ("gen_ai.usage.cache_read.input_tokens", "10"),
            ("gen_ai.usage.reasoning.output_tokens", "5"),
            ("gen_ai.response.finish_reasons", "stop"),
            ("server.address", "127.0.0.1"),
            ("server.port", &providers.1.address.port().to_string()),
            // 20 fresh, 10 from the cache, 20 answered.
            ("tidegate.cost.nanos", "65000"),
            ("error.type", ""),
        ] {
            assert_eq!(of(second, name), value, "{name}: {second:?}");
        }
        assert!(second.start_time_unix_nano >= server.start_time_unix_nano);
        assert!(
            second.end_time_unix_nano <= server.end_time_unix_nano
                && second.start_time_unix_nano < second.end_time_unix_nano
        );
        // Each provider was told of its own span.
        for (provider, span) in [(&providers.0, first), (&providers.1, second)] {
            let told = provider.last();
            assert_eq!(told.header("traceparent"), format!("00-{TRACE}-{}-01", hex(&span.span_id)));
            assert_eq!(told.header("tracestate"), "v=1");
        }
        let resource = collector.resource.lock().unwrap().clone();
        assert_eq!(attribute(&resource, "service.name"), "tidegate");
        assert_eq!(attribute(&resource, "deployment.environment.name"), "test");
        assert_eq!(collector.headers.lock().unwrap()["authorization"], "Bearer planted");
        assert!(!cluster.nodes[0].log().contains("planted"));

        let stream = ask.replace("}]}", "}],\"stream\":true}");
        post(&cluster, "/v1/chat/completions", &[], &stream).await;
        eventually("metrics of a stream", Duration::from_secs(10), async || {
            !collector.histogram("gen_ai.server.time_per_output_token").is_empty()
        })
        .await;
        let usage = collector.histogram("gen_ai.client.token.usage");
        let sum = |class: &str| {
            let of = usage.iter().filter(|point| attribute(&point.attributes, "gen_ai.token.type") == class);
            of.map(|point| point.sum.unwrap()).sum::<f64>()
        };
        assert_eq!((sum("input"), sum("output")), (33.0, 24.0), "{usage:?}");
        assert_eq!(usage[0].explicit_bounds[..4], [1.0, 4.0, 16.0, 64.0]);
        let took = collector.histogram("gen_ai.client.operation.duration");
        assert_eq!(took.iter().map(|point| point.count).sum::<u64>(), 2, "{took:?}");
        assert_eq!(took[0].bucket_counts.len(), took[0].explicit_bounds.len() + 1);
        let pace = &collector.histogram("gen_ai.server.time_per_output_token")[0];
        assert!(pace.count == 1 && pace.sum.unwrap() > 0.01 && pace.sum.unwrap() < 1.0, "{pace:?}");
        assert_eq!(collector.histogram("gen_ai.server.time_to_first_token").iter().map(|p| p.count).sum::<u64>(), 1);
        let requests = &collector.histogram("http.server.request.duration")[0];
        for (name, value) in [
            ("http.request.method", "POST"),
            ("http.route", "llm"),
            ("http.response.status_code", "200"),
            ("url.scheme", "http"),
        ] {
            assert_eq!(attribute(&requests.attributes, name), value, "{requests:?}");
        }
        let cost = collector.sums("tidegate.llm.cost");
        assert_eq!(attribute(&cost[0].attributes, "tidegate.llm.model"), "fast");
        let metrics = cluster.client.get(&cluster.nodes[0].admin("/metrics"), &[]).await.unwrap();
        let metrics = String::from_utf8_lossy(&metrics.body).into_owned();
        for sample in [
            "tidegate_llm_failed_tries_total{model=\"fast\",kind=\"rate_limited\"}",
            "tidegate_llm_time_per_output_token_seconds_count{model=\"fast\"} 1",
        ] {
            assert!(metrics.contains(sample), "{sample} is not in {metrics}");
        }
    }
}

#[tokio::test]
async fn plain_requests_are_told_with_each_retry_and_traces_of_nobody_are_sampled_as_the_document_says() {
    let collector = Collector::start().await;
    let backend = Provider::start(|asked| match asked.line.contains("flaky") {
        true => Says::error(503, "no"),
        false => Says::json("fine"),
    })
    .await;
    let cluster = Cluster::start(1).await;
    let text = |sample: &str| {
        format!(
            "version: 1\ntelemetry: {{otlp: {{endpoint: \"http://{}\", protocol: grpc, sample: {sample}, metrics: false}}}}\n\
             upstreams: [{{name: u, endpoints: [{{url: \"{}\"}}], retries: {{max: 1, budget: 100%, on: [503]}}}}]\n\
             routes: [{{name: r, match: {{path: /*}}, to: [{{upstream: u}}]}}]\n",
            collector.address,
            backend.url()
        )
    };
    cluster.apply(&text("0%")).await;
    let get = async |path: &str, headers: &[(&str, &str)]| {
        cluster.client.get(&cluster.nodes[0].url(path), headers).await.unwrap().status.as_u16()
    };
    assert_eq!(get("/a", &[]).await, 200);
    assert!(backend.last().header("traceparent").ends_with("-00"), "its trace is told on, unsampled");
    assert_eq!(get("/flaky", &[("traceparent", PARENT)]).await, 503);
    let spans = spans(&collector, 3).await;
    assert!(spans.len() == 3 && spans.iter().all(|span| hex(&span.trace_id) == TRACE), "{spans:?}");
    let told: Vec<String> =
        backend.asked()[1..].iter().map(|asked| asked.header("traceparent")[36..52].to_owned()).collect();
    let mut clients: Vec<_> = spans.iter().filter(|span| span.kind == 3).collect();
    clients.sort_by_key(|span| span.start_time_unix_nano);
    assert_eq!(clients.iter().map(|span| hex(&span.span_id)).collect::<Vec<_>>(), told, "one span for each try");
    assert!(clients.iter().all(|span| attribute(&span.attributes, "error.type") == "503"), "{clients:?}");
    let server = spans.iter().find(|span| span.kind == 2).expect("a server's span");
    assert_eq!((server.name.as_str(), attribute(&server.attributes, "error.type").as_str()), ("GET r", "503"));

    // Reloaded, and all are.
    cluster.apply(&text("100%")).await;
    assert_eq!(get("/b", &[("traceparent", &PARENT.replace("-01", "-00"))]).await, 200);
    assert_eq!(get("/c", &[]).await, 200);
    eventually("the new trace", Duration::from_secs(10), async || collector.spans().len() >= 5).await;
    let new = &collector.spans()[3..];
    assert!(
        new.len() == 2
            && new
                .iter()
                .all(|span| hex(&span.trace_id) != TRACE && span.parent_span_id.is_empty() == (span.kind == 2))
    );
}

#[tokio::test]
async fn a_collector_that_is_down_costs_spans_and_nothing_else_and_without_one_nobody_is_told() {
    let (providers, collector) = (providers().await, Collector::start().await);
    let cluster = Cluster::start(1).await;
    cluster.apply(&text(&cluster, &providers, &collector, "protocol: http, queue: 64")).await;
    collector.is(Manner::Refuses);
    let ask = r#"{"model":"fast","messages":[]}"#;
    for _ in 0..60 {
        assert_eq!(post(&cluster, "/v1/chat/completions", &[], ask).await.status, 200);
    }
    eventually("lost spans are counted", Duration::from_secs(10), async || {
        let [_, dropped, failed] = counters(&cluster).await;
        dropped > 0 && failed > 0
    })
    .await;
    collector.is(Manner::Takes);
    eventually("it is reached again", Duration::from_secs(20), async || {
        post(&cluster, "/v1/chat/completions", &[], ask).await;
        !collector.spans().is_empty()
    })
    .await;
    let without = text(&cluster, &providers, &collector, "");
    let without: Vec<_> = without.lines().filter(|line| !line.contains("telemetry")).collect();
    cluster.apply(&(without.join("\n") + "\n")).await;
    post(&cluster, "/v1/chat/completions", &[("traceparent", PARENT)], ask).await;
    assert_eq!(providers.1.last().header("traceparent"), PARENT, "it is handed on as it came");
}
