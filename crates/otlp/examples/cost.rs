//! What it costs to tell a collector of requests: CPU time of this process per request, its threads for the way there
//! included. `cargo run --profile perf -p tidegate-otlp --example cost -- http://127.0.0.1:4318 [REQUESTS]`; with
//! port 4317: over gRPC. Over HTTP, nginx that says `return 200` is collector enough.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderValue, Uri};
use hyper_util::client::legacy::connect::HttpConnector;
use tidegate_otlp::{Collected, Lines, Transport};
use tidegate_policy::{Otlp, OtlpProtocol, Snapshot};
use tidegate_telemetry::{Record, Scene, Telemetry};

/// Requests between two looks at what waits, which lets the collector follow.
const BURST: u64 = 1_000;
const MOST_WAITING: f64 = 8_000.0;

fn main() {
    let mut words = std::env::args().skip(1);
    let endpoint: Uri = words.next().expect("a collector's address").parse().expect("an address");
    let requests: u64 = words.next().map_or(100_000, |count| count.parse().expect("a number"));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("threads");
    let telemetry = Telemetry::start(&tidegate_policy::Telemetry::default()).expect("no file is opened");
    let collected = {
        let _inside = runtime.enter();
        Collected::start(&telemetry, "cost", Lines::hear().0)
    };
    runtime.spawn(Arc::clone(&collected).tell_forever(|rules: &Otlp| {
        let connector = HttpConnector::new();
        match rules.protocol {
            OtlpProtocol::Grpc => Transport::grpc(&rules.endpoint, connector),
            OtlpProtocol::Http => Ok(Transport::http(connector)),
        }
    }));
    let grpc = endpoint.port_u16() == Some(4317);
    let rules = |traces, metrics, sample| Otlp {
        endpoint: endpoint.clone(),
        protocol: if grpc { OtlpProtocol::Grpc } else { OtlpProtocol::Http },
        headers: vec![],
        authority: None,
        traces,
        metrics,
        logs: false,
        sample,
        parent_based: true,
        interval: Duration::from_secs(1),
        queue: 1_000_000,
        resource: vec![],
    };
    const ALL: u64 = 1 << 32;
    let ways = [
        ("off", None),
        ("metrics", Some(rules(false, true, ALL))),
        ("spans of 1 %", Some(rules(true, false, ALL / 100))),
        ("spans of all", Some(rules(true, false, ALL))),
        ("all", Some(rules(true, true, ALL))),
    ];
    let scene = Scene::new(&telemetry, Arc::new(Snapshot::default()));
    let mut best = [f64::MAX; 5];
    for _ in 0..3 {
        for ((_, otlp), best) in ways.iter().zip(&mut best) {
            let policy = tidegate_policy::Telemetry { otlp: otlp.clone().map(Arc::new), ..Default::default() };
            telemetry.apply(&policy).expect("no file is opened");
            round(&scene, &telemetry, BURST);
            let before = cpu(&telemetry);
            round(&scene, &telemetry, requests);
            *best = best.min((cpu(&telemetry) - before) / requests as f64 * 1e6);
        }
    }
    for ((name, _), best) in ways.iter().zip(best) {
        println!("{name:14} {best:6.2} µs a request");
    }
    let [told, lost] =
        ["spans", "dropped_spans"].map(|name| shown(&telemetry, &format!("tidegate_otlp_{name}_total ")));
    println!("{told} spans were told, {lost} lost");
}

/// Until the collector has all of it.
fn round(scene: &Arc<Scene>, telemetry: &Telemetry, requests: u64) {
    let mut state = 1_u64;
    let mut draw = move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        state ^ (state >> 29)
    };
    for n in 1..=requests {
        request(scene, &mut draw);
        let most = if n == requests { 0.0 } else { MOST_WAITING };
        if n % BURST == 0 || n == requests {
            while shown(telemetry, "tidegate_otlp_waiting_spans ") > most {
                std::thread::sleep(Duration::from_millis(20));
            }
        }
    }
}

/// As one that an upstream answered.
fn request(scene: &Arc<Scene>, mut draw: impl FnMut() -> u64) {
    let mut headers = HeaderMap::new();
    let mut record = Record::begin(Arc::clone(scene), tidegate_clock::boot());
    record.follow(&headers, &mut draw);
    record.asks(&mut headers, &mut draw);
    if record.is_logged() {
        record.request_id = Some(HeaderValue::from_static("01a1fc32-e23f-70b5-95e7-5757c4a14df1"));
        record.client = Some([127, 0, 0, 1].into());
        record.host = Some(HeaderValue::from_static("api.example.com"));
        record.target = Some("/v1/orders/17?expand=lines".parse().expect("a path"));
        record.user_agent = Some(HeaderValue::from_static("curl/8.5.0"));
        record.endpoint = Some(Arc::from("10.0.0.5:8000"));
    }
    record.first_byte = Some(Duration::from_millis(1));
    record.status = 200;
    record.finish();
}

/// A sample of the metrics page.
fn shown(telemetry: &Telemetry, name: &str) -> f64 {
    let page = telemetry.render();
    page.lines().find_map(|line| line.strip_prefix(name)).expect("a sample").parse().expect("a number")
}

/// Seconds of this process, user and system.
fn cpu(telemetry: &Telemetry) -> f64 {
    shown(telemetry, "process_cpu_seconds_total ")
}
