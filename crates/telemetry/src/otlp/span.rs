//! A request's spans: the server's, and one of each try of an upstream or provider, by the semantic conventions for HTTP
//! and generative AI.

use std::sync::Arc;

use http::HeaderValue;
use smallvec::SmallVec;
use tidegate_model::Nanos;
use tidegate_policy::{Action, ProviderKind};

use super::proto::Message;
use crate::record::{Record, Try};
use crate::redact;
use crate::spoken::{Cost, Spoken};
use crate::trace::Trace;

const SERVER: u64 = 2;
const CLIENT: u64 = 3;
const FAILED: u64 = 2;
/// Attributes of texts from outside end here.
const LONGEST: usize = 1_024;

/// Where each span ends in `out`.
pub(super) fn write(
    out: &mut Vec<u8>,
    record: &Record,
    trace: &Trace,
    took: Nanos,
    ended: Nanos,
) -> SmallVec<[usize; 4]> {
    let mut ends = SmallVec::new();
    let when = |boot: Nanos| ended.saturating_sub(record.started.saturating_add(took).saturating_sub(boot));
    server(out, record, trace, (when(record.started), ended));
    ends.push(out.len());
    for tried in &record.tries {
        client(out, record, trace, tried, (when(tried.began), when(tried.ended)));
        ends.push(out.len());
    }
    if let Some(last) = last(record) {
        client(out, record, trace, &last, (when(last.began), ended));
        ends.push(out.len());
    }
    ends
}

/// The try that is not over: its answer was relayed, or there was none.
fn last(record: &Record) -> Option<Try> {
    let (span, began) = record.asking?;
    let answered = record.first_byte.is_some();
    if !answered && record.endpoint.is_none() {
        return None; // A breaker was open: nobody was asked.
    }
    let spoken = record.spoken.as_ref();
    Some(Try {
        span,
        began,
        ended: began,
        towards: record.towards,
        endpoint: record.endpoint.clone(),
        deployed: spoken.and_then(|spoken| spoken.deployed.clone()),
        status: if answered { record.status } else { 0 },
        error: match record.cut {
            Some(cut) => Some(cut.name()),
            None if answered => None,
            None => record.refusal.or(Some("_OTHER")),
        },
    })
}

fn head(span: &mut Message<'_>, trace: &Trace, id: u64, parent: Option<u64>, (from, to): (Nanos, Nanos)) {
    span.bytes(1, &trace.trace.to_be_bytes());
    span.bytes(2, &id.to_be_bytes());
    if let Some(state) = trace.state() {
        span.text(3, state);
    }
    if let Some(parent) = parent {
        span.bytes(4, &parent.to_be_bytes());
    }
    span.fixed64(7, from.0);
    span.fixed64(8, to.0.max(from.0));
    span.fixed32(16, u32::from(trace.sampled));
}

fn failed(span: &mut Message<'_>, kind: &str) {
    span.text_attribute(9, "error.type", kind);
    span.message(15, |status| status.number(3, FAILED));
}

fn server(out: &mut Vec<u8>, record: &Record, trace: &Trace, when: (Nanos, Nanos)) {
    Message::new(out).message(2, |span| {
        head(span, trace, trace.span, trace.parent, when);
        let route = record.route.and_then(|at| record.scene.route(at));
        let method = record.method.as_str();
        span.text(5, &route.map_or_else(|| method.to_owned(), |route| format!("{method} {}", route.id)));
        span.number(6, SERVER);
        span.text_attribute(9, "http.request.method", method);
        span.text_attribute(9, "url.scheme", if record.tls.is_some() { "https" } else { "http" });
        if let Some(target) = &record.target {
            text(span, "url.path", redact::target(target.path()).as_bytes());
            let whole = redact::target(target.as_str());
            if let Some((_, query)) = whole.split_once('?') {
                text(span, "url.query", query.as_bytes());
            }
        }
        header(span, "server.address", record.host.as_ref());
        header(span, "user_agent.original", record.user_agent.as_ref());
        header(span, "tidegate.request_id", record.request_id.as_ref());
        if let Some(client) = record.client {
            span.text_attribute(9, "client.address", &client.to_string());
        }
        if let Some(route) = route {
            span.text_attribute(9, "http.route", &route.id);
        }
        let consumer = record.consumer.and_then(|at| record.scene.consumer(at));
        if let Some(tenant) = consumer.map(|consumer| consumer.tenant.as_str()).or(route.map(|route| &*route.tenant)) {
            span.text_attribute(9, "tidegate.tenant", tenant);
        }
        if let Some(consumer) = consumer {
            span.text_attribute(9, "tidegate.consumer", &consumer.name);
        }
        if let Some(key) = record.key {
            span.number_attribute(9, "tidegate.key_id", key.0);
        }
        if record.status > 0 {
            span.number_attribute(9, "http.response.status_code", u64::from(record.status));
        }
        if let Some(cache) = record.cache {
            span.text_attribute(9, "tidegate.cache", cache.name());
        }
        if let Some(code) = record.refusal {
            span.text_attribute(9, "tidegate.refusal", code);
        }
        if let Some(spoken) = &record.spoken {
            call(span, spoken);
        }
        match (record.cut, record.status) {
            (Some(cut), _) => failed(span, cut.name()),
            (None, status @ 500..) => failed(span, record.refusal.unwrap_or(&status.to_string())),
            _ => {}
        }
    });
}

/// What a call came to, over all its tries.
fn call(span: &mut Message<'_>, spoken: &Spoken) {
    span.text_attribute(9, "tidegate.llm.model", &spoken.model);
    span.text_attribute(9, "tidegate.llm.dialect", spoken.dialects.0);
    span.number_attribute(9, "tidegate.llm.fallbacks", u64::from(spoken.fallbacks));
    cost(span, spoken.cost);
    if spoken.saved > 0 {
        span.number_attribute(9, "tidegate.llm.saved_tokens", spoken.saved);
    }
}

fn cost(span: &mut Message<'_>, cost: Cost) {
    if let Cost::Nanos(nanos) = cost {
        span.number_attribute(9, "tidegate.cost.nanos", nanos);
        #[expect(clippy::cast_precision_loss, reason = "for people; the number beside it is exact")]
        span.double_attribute(9, "tidegate.cost.usd", nanos as f64 / 1e9);
    }
}

fn client(out: &mut Vec<u8>, record: &Record, trace: &Trace, tried: &Try, when: (Nanos, Nanos)) {
    Message::new(out).message(2, |span| {
        head(span, trace, tried.span, Some(trace.span), when);
        span.number(6, CLIENT);
        let upstream = record.route.zip(tried.towards).and_then(|(route, at)| record.scene.upstream(route, at));
        match &record.spoken {
            Some(spoken) => generative(span, record, spoken, tried),
            None => {
                let method = record.method.as_str();
                span.text(5, &upstream.map_or_else(|| method.to_owned(), |id| format!("{method} {id}")));
                span.text_attribute(9, "http.request.method", method);
                if let Some((host, port)) = tried.endpoint.as_deref().and_then(|place| place.rsplit_once(':')) {
                    place(span, host, port);
                }
            }
        }
        if let Some(upstream) = upstream {
            span.text_attribute(9, "tidegate.upstream", upstream);
        }
        if let Some(endpoint) = &tried.endpoint {
            span.text_attribute(9, "network.peer.address", endpoint);
        }
        if tried.status > 0 {
            span.number_attribute(9, "http.response.status_code", u64::from(tried.status));
        }
        match (tried.error, tried.status) {
            (Some(kind), _) => failed(span, kind),
            (None, status @ 400..) => failed(span, &status.to_string()),
            _ => {}
        }
    });
}

fn place(span: &mut Message<'_>, host: &str, port: &str) {
    span.text_attribute(9, "server.address", host.trim_start_matches('[').trim_end_matches(']'));
    if let Ok(port) = port.parse() {
        span.number_attribute(9, "server.port", port);
    }
}

fn generative(span: &mut Message<'_>, record: &Record, spoken: &Spoken, tried: &Try) {
    let deployed = tried.deployed.as_deref().unwrap_or(&spoken.model);
    span.text(5, &format!("{} {deployed}", spoken.operation));
    span.text_attribute(9, "gen_ai.operation.name", spoken.operation);
    span.text_attribute(9, "gen_ai.request.model", deployed);
    let route = record.route.and_then(|at| record.scene.route(at));
    if let (Some(Action::Llm(llm)), Some(at)) = (route.map(|route| &route.action), tried.towards)
        && let Some(provider) = llm.providers.get(at)
    {
        span.text_attribute(9, "gen_ai.provider.name", provider_name(provider.kind));
        let authority = provider.host.to_str().unwrap_or_default();
        let (host, port) = authority.rsplit_once(':').unwrap_or((authority, ""));
        place(span, host, port);
    }
    if tried.error.is_some() || record.first_byte.is_none() {
        return;
    }
    span.text_attribute(9, "gen_ai.response.model", spoken.answered.as_deref().unwrap_or(deployed));
    let tokens = spoken.tokens;
    let of = |name, value| (name, value);
    // By the conventions the first holds what came from a cache and what went into one.
    for (name, value) in [
        of("gen_ai.usage.input_tokens", tokens.prompt()),
        of("gen_ai.usage.output_tokens", tokens.completion()),
        of("gen_ai.usage.cache_read.input_tokens", tokens.cache_read),
        of("gen_ai.usage.cache_creation.input_tokens", tokens.cache_write),
        of("gen_ai.usage.reasoning.output_tokens", tokens.reasoning),
    ] {
        span.number_attribute(9, name, value);
    }
    if let Some(finish) = spoken.finish {
        span.list_attribute(9, "gen_ai.response.finish_reasons", &[finish]);
    }
    if let Some(first) = spoken.first_token {
        span.double_attribute(9, "gen_ai.response.time_to_first_chunk", first.as_secs_f64());
    }
    if spoken.stream {
        span.truth_attribute(9, "gen_ai.request.stream", true);
    }
    cost(span, spoken.cost);
}

/// As the conventions name them.
pub(super) fn provider_name(kind: ProviderKind) -> &'static str {
    match kind {
        ProviderKind::Azure => "azure.ai.openai",
        ProviderKind::Gemini => "gcp.gemini",
        ProviderKind::Vertex | ProviderKind::VertexAnthropic => "gcp.vertex_ai",
        ProviderKind::Bedrock => "aws.bedrock",
        ProviderKind::Mistral => "mistral_ai",
        ProviderKind::Xai => "x_ai",
        other => other.name(),
    }
}

/// Text from outside: keys of ours in it are masked, and it has an end.
fn text(span: &mut Message<'_>, name: &str, value: &[u8]) {
    let masked = redact::keys(value);
    let text = String::from_utf8_lossy(&masked);
    let end = (0..=LONGEST.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    span.text_attribute(9, name, &text[..end]);
}

fn header(span: &mut Message<'_>, name: &str, value: Option<&HeaderValue>) {
    if let Some(value) = value {
        text(span, name, value.as_bytes());
    }
}

/// Of the one who was asked last, for metrics.
pub(super) fn kind(record: &Record) -> Option<(&'static str, Arc<str>)> {
    let route = record.route.and_then(|at| record.scene.route(at))?;
    let Action::Llm(llm) = &route.action else { return None };
    let provider = llm.providers.get(record.towards?)?;
    Some((provider_name(provider.kind), Arc::clone(&provider.name)))
}
