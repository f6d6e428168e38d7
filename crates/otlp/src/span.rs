//! A request's spans: the server's, and one of each try of an upstream or provider, by the semantic conventions for HTTP
//! and generative AI. Pure: a record in, OpenTelemetry's own spans out.

use std::sync::LazyLock;
use std::time::{Duration, SystemTime};

use http::HeaderValue;
use opentelemetry::trace::{SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceId, TraceState};
use opentelemetry::{Array, InstrumentationScope, KeyValue, StringValue, Value};
use opentelemetry_sdk::trace::SpanData;
use smallvec::SmallVec;
use tidegate_model::Nanos;
use tidegate_policy::{Action, ProviderKind};
use tidegate_telemetry::{Cost, Record, Spoken, Trace, Try, redact};

use crate::calls::METHODS;
use crate::queue::Told;

/// Attributes of texts from outside end here.
const LONGEST: usize = 1_024;

/// Who tells.
pub(crate) static SCOPE: LazyLock<InstrumentationScope> =
    LazyLock::new(|| InstrumentationScope::builder("tidegate").with_version(env!("CARGO_PKG_VERSION")).build());

/// The server's first. A request hardly ever has more tries.
pub(crate) type Spans = SmallVec<[SpanData; 2]>;

pub(crate) fn spans(record: &Record, trace: &Trace, took: Nanos, ended: Nanos) -> Spans {
    let mut spans = Spans::new();
    let when = |boot: Nanos| ended.saturating_sub(record.started.saturating_add(took).saturating_sub(boot));
    let state = trace.state().and_then(|state| state.parse::<TraceState>().ok()).unwrap_or_default();
    let base = Base { trace, state };
    spans.push(server(record, &base, (when(record.started), ended)));
    for tried in &record.tries {
        spans.push(client(record, &base, tried, (when(tried.began), when(tried.ended))));
    }
    if let Some(last) = last(record) {
        spans.push(client(record, &base, &last, (when(last.began), ended)));
    }
    spans
}

impl Told for SpanData {
    const MOST_BYTES: usize = 64 << 20;

    /// Texts are all that callers can make long.
    fn size(&self) -> usize {
        let text = |value: &Value| if let Value::String(text) = value { text.as_str().len() } else { 0 };
        let attributes = self.attributes.iter().map(|pair| size_of_val(pair) + text(&pair.value));
        size_of_val(self) + self.name.len() + attributes.sum::<usize>()
    }
}

/// So many spans a request has.
pub(crate) fn number(record: &Record) -> usize {
    1 + record.tries.len() + usize::from(last(record).is_some())
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

/// What all spans of a request share.
struct Base<'a> {
    trace: &'a Trace,
    state: TraceState,
}

/// A span whose attributes are being put together.
struct Draft {
    attributes: Vec<KeyValue>,
    status: Status,
}

impl Draft {
    fn new() -> Self {
        Self { attributes: Vec::with_capacity(24), status: Status::Unset }
    }

    fn put(&mut self, name: &'static str, value: impl Into<Value>) {
        self.attributes.push(KeyValue::new(name, value));
    }

    fn number(&mut self, name: &'static str, value: u64) {
        self.put(name, i64::try_from(value).unwrap_or(i64::MAX));
    }

    /// Text from outside: keys of ours in it are masked, and it has an end.
    fn text(&mut self, name: &'static str, value: &[u8]) {
        let masked = redact::keys(value);
        let text = String::from_utf8_lossy(&masked);
        let end = (0..=LONGEST.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        self.put(name, text[..end].to_owned());
    }

    fn header(&mut self, name: &'static str, value: Option<&HeaderValue>) {
        if let Some(value) = value {
            self.text(name, value.as_bytes());
        }
    }

    fn failed(&mut self, kind: impl Into<StringValue>) {
        self.put("error.type", Value::String(kind.into()));
        self.status = Status::error("");
    }

    fn place(&mut self, host: &str, port: &str) {
        self.put("server.address", host.trim_start_matches('[').trim_end_matches(']').to_owned());
        if let Ok(port) = port.parse::<u16>() {
            self.number("server.port", port.into());
        }
    }

    fn cost(&mut self, cost: Cost) {
        if let Cost::Nanos(nanos) = cost {
            self.number("tidegate.cost.nanos", nanos);
            #[expect(clippy::cast_precision_loss, reason = "for people; the number beside it is exact")]
            self.put("tidegate.cost.usd", nanos as f64 / 1e9);
        }
    }

    fn done(self, base: &Base<'_>, own: Own, (from, to): (Nanos, Nanos)) -> SpanData {
        let flags = if base.trace.sampled { TraceFlags::SAMPLED } else { TraceFlags::NOT_SAMPLED };
        let trace = TraceId::from_bytes(base.trace.trace.to_be_bytes());
        let id = SpanId::from_bytes(own.span.to_be_bytes());
        SpanData {
            span_context: SpanContext::new(trace, id, flags, false, base.state.clone()),
            parent_span_id: own.parent.map_or(SpanId::INVALID, |parent| SpanId::from_bytes(parent.to_be_bytes())),
            parent_span_is_remote: own.kind == SpanKind::Server && own.parent.is_some(),
            span_kind: own.kind,
            name: own.name.into(),
            start_time: at(from),
            end_time: at(to.max(from)),
            attributes: self.attributes,
            dropped_attributes_count: 0,
            events: Default::default(),
            links: Default::default(),
            status: self.status,
            instrumentation_scope: SCOPE.clone(),
        }
    }
}

/// Which span it is.
struct Own {
    span: u64,
    parent: Option<u64>,
    kind: SpanKind,
    name: String,
}

/// Known ones need no copy.
fn method(record: &Record) -> StringValue {
    let known = METHODS.iter().find(|known| **known == record.method.as_str());
    known.map_or_else(|| record.method.as_str().to_owned().into(), |known| (*known).into())
}

fn at(wall: Nanos) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_nanos(wall.0)
}

fn server(record: &Record, base: &Base<'_>, when: (Nanos, Nanos)) -> SpanData {
    let mut span = Draft::new();
    let route = record.route.and_then(|at| record.scene().route(at));
    let method = record.method.as_str();
    span.put("http.request.method", Value::String(self::method(record)));
    span.put("url.scheme", if record.tls.is_some() { "https" } else { "http" });
    if let Some(target) = &record.target {
        span.text("url.path", redact::target(target.path()).as_bytes());
        if let Some((_, query)) = redact::target(target.as_str()).split_once('?') {
            span.text("url.query", query.as_bytes());
        }
    }
    span.header("server.address", record.host.as_ref());
    span.header("user_agent.original", record.user_agent.as_ref());
    span.header("tidegate.request_id", record.request_id.as_ref());
    if let Some(client) = record.client {
        span.put("client.address", client.to_string());
    }
    if let Some(route) = route {
        span.put("http.route", route.id.clone());
    }
    let consumer = record.consumer.and_then(|at| record.scene().consumer(at));
    if let Some(consumer) = consumer {
        span.put("tidegate.tenant", consumer.tenant.clone());
        span.put("tidegate.consumer", consumer.name.clone());
    } else if let Some(route) = route {
        span.put("tidegate.tenant", route.tenant.clone());
    }
    if let Some(key) = record.key {
        span.number("tidegate.key_id", key.0);
    }
    if record.status > 0 {
        span.number("http.response.status_code", record.status.into());
    }
    if let Some(cache) = record.cache {
        span.put("tidegate.cache", cache.name());
    }
    if let Some(code) = record.refusal {
        span.put("tidegate.refusal", code);
    }
    if let Some(spoken) = &record.spoken {
        call(&mut span, spoken);
    }
    match (record.cut, record.status, record.refusal) {
        (Some(cut), _, _) => span.failed(cut.name()),
        (None, 500.., Some(refusal)) => span.failed(refusal),
        (None, status @ 500.., None) => span.failed(status.to_string()),
        _ => {}
    }
    let name = route.map_or_else(|| method.to_owned(), |route| format!("{method} {}", route.id));
    let own = Own { span: base.trace.span, parent: base.trace.parent, kind: SpanKind::Server, name };
    span.done(base, own, when)
}

/// What a call came to, over all its tries.
fn call(span: &mut Draft, spoken: &Spoken) {
    span.put("tidegate.llm.model", spoken.model.clone());
    span.put("tidegate.llm.dialect", spoken.dialects.0);
    span.number("tidegate.llm.fallbacks", spoken.fallbacks.into());
    span.cost(spoken.cost);
    if spoken.saved > 0 {
        span.number("tidegate.llm.saved_tokens", spoken.saved);
    }
}

fn client(record: &Record, base: &Base<'_>, tried: &Try, when: (Nanos, Nanos)) -> SpanData {
    let mut span = Draft::new();
    let upstream = record.route.zip(tried.towards).and_then(|(route, at)| record.scene().upstream(route, at));
    let name = match &record.spoken {
        Some(spoken) => generative(&mut span, record, spoken, tried),
        None => {
            let method = record.method.as_str();
            span.put("http.request.method", Value::String(self::method(record)));
            if let Some((host, port)) = tried.endpoint.as_deref().and_then(|place| place.rsplit_once(':')) {
                span.place(host, port);
            }
            upstream.map_or_else(|| method.to_owned(), |id| format!("{method} {id}"))
        }
    };
    if let Some(upstream) = upstream {
        span.put("tidegate.upstream", upstream.clone());
    }
    if let Some(endpoint) = &tried.endpoint {
        span.put("network.peer.address", endpoint.clone());
    }
    if tried.status > 0 {
        span.number("http.response.status_code", tried.status.into());
    }
    match (tried.error, tried.status) {
        (Some(kind), _) => span.failed(kind),
        (None, status @ 400..) => span.failed(status.to_string()),
        _ => {}
    }
    span.done(base, Own { span: tried.span, parent: Some(base.trace.span), kind: SpanKind::Client, name }, when)
}

/// The span's name.
fn generative(span: &mut Draft, record: &Record, spoken: &Spoken, tried: &Try) -> String {
    let deployed = tried.deployed.as_deref().unwrap_or(&spoken.model);
    let name = format!("{} {deployed}", spoken.operation);
    span.put("gen_ai.operation.name", spoken.operation);
    span.put("gen_ai.request.model", deployed.to_owned());
    let route = record.route.and_then(|at| record.scene().route(at));
    if let (Some(Action::Llm(llm)), Some(at)) = (route.map(|route| &route.action), tried.towards)
        && let Some(provider) = llm.providers.get(at)
    {
        span.put("gen_ai.provider.name", provider_name(provider.kind));
        let authority = provider.host.to_str().unwrap_or_default();
        let (host, port) = authority.rsplit_once(':').unwrap_or((authority, ""));
        span.place(host, port);
    }
    if tried.error.is_some() || record.first_byte.is_none() {
        return name;
    }
    span.put("gen_ai.response.model", spoken.answered.as_deref().unwrap_or(deployed).to_owned());
    let tokens = spoken.tokens;
    // By the conventions the first holds what came from a cache and what went into one.
    span.number("gen_ai.usage.input_tokens", tokens.prompt());
    span.number("gen_ai.usage.output_tokens", tokens.completion());
    span.number("gen_ai.usage.cache_read.input_tokens", tokens.cache_read);
    span.number("gen_ai.usage.cache_creation.input_tokens", tokens.cache_write);
    span.number("gen_ai.usage.reasoning.output_tokens", tokens.reasoning);
    if let Some(finish) = spoken.finish {
        span.put("gen_ai.response.finish_reasons", Value::Array(Array::String(vec![finish.into()])));
    }
    if let Some(first) = spoken.first_token {
        span.put("gen_ai.response.time_to_first_chunk", first.as_secs_f64());
    }
    if spoken.stream {
        span.put("gen_ai.request.stream", true);
    }
    span.cost(spoken.cost);
    name
}

/// Of the one who was asked last. `None`: nobody was, or no language model was meant.
pub(crate) fn asked(record: &Record) -> Option<&'static str> {
    let Action::Llm(llm) = &record.scene().route(record.route?)?.action else { return None };
    Some(provider_name(llm.providers.get(record.towards?)?.kind))
}

/// As the conventions name them.
fn provider_name(kind: ProviderKind) -> &'static str {
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
