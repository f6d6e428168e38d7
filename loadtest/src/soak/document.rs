//! The document, a new one each second: the same routes for the same traffic, and around them limits, headers, routes,
//! consumers, pools and certificates that come, change and go.

use std::net::SocketAddr;
use std::path::PathBuf;

use serde_json::{Value, json};

use super::line::HOST;
use super::listed::Kind;

/// Routes that are there in two of three documents.
pub(super) const COMING: usize = 6;
/// Cached responses have it.
pub(super) const TAG: &str = "kept";

/// Models that are asked for: what for, and whether as a stream.
pub(super) const MODELS: [(&str, Kind, bool); 6] = [
    ("chat", Kind::Chat, false),
    ("stream", Kind::ChatStream, true),
    ("translated", Kind::ChatStream, true),
    ("shaky", Kind::ChatShaky, false),
    ("shaky", Kind::ChatShaky, true),
    ("broken", Kind::ChatBroken, true),
];

/// Who stands behind the gateway.
#[derive(Debug, Clone)]
pub(super) struct Places {
    /// Lives all the time.
    pub(super) steady: SocketAddr,
    /// Dies and returns.
    pub(super) mortal: SocketAddr,
    pub(super) provider: SocketAddr,
    pub(super) certificate: PathBuf,
    pub(super) key: PathBuf,
}

/// The `nth` of them, from 0.
pub(super) fn document(nth: usize, places: &Places) -> Value {
    let mut document = json!({
        "version": 1,
        "consumers": [{"name": "soak"}, {"name": format!("guest-{}", nth % 7)}],
        "limits": limits(nth),
        "upstreams": upstreams(nth, places),
        "routes": routes(nth),
        // The second one is renamed: a handshake finds either.
        "certificates": [
            {"name": "soak", "hosts": [HOST], "file": places.certificate, "key": places.key},
            {"name": format!("other-{}", nth % 3), "hosts": ["other.test"], "file": places.certificate, "key": places.key},
        ],
        "telemetry": {"revision_header": nth.is_multiple_of(2)},
    });
    let models = models(places);
    document["providers"] = models.0;
    document["models"] = models.1;
    document
}

fn limits(nth: usize) -> Value {
    json!([
        {"name": "few", "window": "1s", "max": 4 + nth % 10, "per": ["route"]},
        {"name": "by-device", "window": "10s", "max": 20 + nth % 5, "per": ["header:x-device"]},
        {"name": "at-once", "concurrency": 1_000 + nth % 3, "per": ["ip"]},
        {"name": "by-key", "rate": "10000/s", "burst": 10_000, "per": ["key"]},
        {"name": "tokens", "window": "1m", "max": 1_000_000_000_u64, "per": ["model"], "cost": {"from": "tokens"}},
    ])
}

fn upstreams(nth: usize, places: &Places) -> Value {
    let endpoint = |address: SocketAddr| json!({"url": format!("http://{address}")});
    let breaker = json!({"consecutive": 3, "open_for": "2s", "longest_open": "4s"});
    json!([
        // Another pool every third document.
        {"name": "steady", "endpoints": [endpoint(places.steady)], "idle_timeout": "8s", "max_idle": 40 + nth / 3 % 5},
        {
            "name": "faulty", "endpoints": [endpoint(places.steady)], "idle_timeout": "8s",
            "timeouts": {"first_byte": "1s", "idle": "1s"},
        },
        {
            "name": "twins", "endpoints": [endpoint(places.steady), endpoint(places.mortal)], "idle_timeout": "8s",
            "retries": {"max": 1, "on": ["connect", "reset"]},
            "health": {"path": "/health", "interval": "1s", "timeout": "1s"}, "breaker": breaker,
        },
        {"name": "alone", "endpoints": [endpoint(places.mortal)], "idle_timeout": "8s", "breaker": breaker},
    ])
}

fn routes(nth: usize) -> Value {
    let to = |upstream: &str| json!([{"upstream": upstream}]);
    let under = |name: &str, upstream: &str| {
        json!({"name": name, "match": {"path": format!("/{name}/*")}, "to": to(upstream),
               "rewrite": {"strip_prefix": format!("/{name}")}})
    };
    let plain = |name: &str| json!({"name": name, "match": {"path": format!("/{name}/*")}, "to": to("steady")});
    let mut routes = vec![plain("bytes"), plain("chunks"), plain("events")];
    for route in &mut routes {
        route["response_headers"] = json!({"set": {"x-document": nth.to_string()}});
    }
    routes.push(json!({"name": "echo", "match": {"path": "/echo"}, "to": to("steady"),
        "request_headers": {"set": {"x-document": nth.to_string()}}}));
    let mut kept = plain("kept");
    kept["cache"] = json!({"tags": [TAG], "stale_while_revalidate": format!("{}s", 1 + nth % 2)});
    let mut rooms = plain("rooms");
    rooms["upgrade"] = true.into();
    let mut limited = under("limited", "steady");
    limited["limits"] = json!(["few", "by-device", "at-once"]);
    let mut keyed = under("keyed", "steady");
    keyed["auth"] = json!(["key"]);
    keyed["limits"] = json!(["by-key"]);
    let mut faulty = plain("faulty");
    faulty["to"] = to("faulty");
    routes.extend([kept, rooms, limited, keyed, faulty, under("twins", "twins"), under("alone", "alone")]);
    for coming in (0..COMING).filter(|coming| !(nth + coming).is_multiple_of(3)) {
        routes.push(json!({"name": format!("coming-{coming}"), "match": {"path": format!("/coming/{coming}/*")},
            "to": to("steady"), "rewrite": {"strip_prefix": format!("/coming/{coming}")}}));
    }
    routes.push(json!({"name": "fixed", "match": {"path": "/fixed"}, "respond": {"status": 200, "body": "fixed"}}));
    routes.push(
        json!({"name": "moved", "match": {"path": "/moved/{id}"}, "redirect": {"status": 308, "path": "/fixed/{id}"}}),
    );
    routes.push(json!({"name": "llm", "match": {"path": "/llm/*"}, "limits": ["tokens"],
        "llm": {"models": ["chat", "stream", "translated", "shaky", "broken", "long"]}}));
    routes.into()
}

fn models(places: &Places) -> (Value, Value) {
    let url = format!("http://{}", places.provider);
    let providers = json!([
        {"name": "fake", "kind": "openai_compatible", "url": format!("{url}/v1")},
        {"name": "other", "kind": "anthropic", "url": url},
    ]);
    let model = |name: &str, provider: &str, model: &str| json!({"name": name, "deployments": [{"provider": provider, "model": model}]});
    let mut shaky = model("shaky", "fake", "fake-events.12-fault.503-every.3");
    shaky["fallbacks"] = json!(["chat"]);
    let models = json!([
        model("chat", "fake", "fake-events.16"),
        model("stream", "fake", "fake-events.40-pace.20"),
        model("translated", "other", "fake-events.40-pace.20"),
        model("broken", "fake", "fake-events.12-fault.break-every.2"),
        model("long", "fake", "fake-events.400-pace.25"),
        shaky,
    ]);
    (providers, models)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_documents_in_a_row_are_alike_and_each_route_comes_and_goes() {
        let address = SocketAddr::from(([127, 0, 0, 1], 9));
        let (certificate, key) = (PathBuf::from("a.pem"), PathBuf::from("a.key"));
        let places = Places { steady: address, mortal: address, provider: address, certificate, key };
        let documents: Vec<Value> = (0..12).map(|nth| document(nth, &places)).collect();
        assert!(documents.windows(2).all(|pair| pair[0] != pair[1]));
        for coming in 0..COMING {
            let name = format!("coming-{coming}");
            let there = |document: &&Value| document["routes"].to_string().contains(&name);
            assert_eq!(documents.iter().filter(there).count(), 8, "{name} is there in two of three");
        }
    }
}
