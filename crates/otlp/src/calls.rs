//! What is measured of each request that ends: histograms, in the buckets that the conventions advise.

use opentelemetry::metrics::{Histogram, Meter};
use opentelemetry::{KeyValue, StringValue, Value};
use smallvec::SmallVec;
use tidegate_model::Nanos;
use tidegate_telemetry::{Record, Spoken};

use crate::span::asked;

const TOKENS: [f64; 14] = [
    1.0,
    4.0,
    16.0,
    64.0,
    256.0,
    1_024.0,
    4_096.0,
    16_384.0,
    65_536.0,
    262_144.0,
    1_048_576.0,
    4_194_304.0,
    16_777_216.0,
    67_108_864.0,
];
const OPERATION: [f64; 14] = [0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92];
const FIRST: [f64; 16] = [0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0];
const PER_TOKEN: [f64; 13] = [0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5];
const REQUEST: [f64; 14] = [0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0];
/// Others are told as `_OTHER` by metrics.
pub(crate) const METHODS: [&str; 9] = ["GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH", "CONNECT", "TRACE"];

#[derive(Debug)]
pub(crate) struct Calls {
    request: Histogram<f64>,
    tokens: Histogram<u64>,
    operation: Histogram<f64>,
    first: Histogram<f64>,
    per_token: Histogram<f64>,
}

impl Calls {
    pub(crate) fn new(meter: &Meter) -> Self {
        let seconds = |name: &'static str, help: &'static str, bounds: &[f64]| {
            let builder = meter.f64_histogram(name).with_unit("s").with_description(help);
            builder.with_boundaries(bounds.to_vec()).build()
        };
        let tokens = meter.u64_histogram("gen_ai.client.token.usage").with_unit("{token}");
        Self {
            request: seconds(
                "http.server.request.duration",
                "From the request's head to the end of the answer",
                &REQUEST,
            ),
            tokens: tokens.with_description("Tokens of calls, by class").with_boundaries(TOKENS.to_vec()).build(),
            operation: seconds(
                "gen_ai.client.operation.duration",
                "From the call to the end of the answer",
                &OPERATION,
            ),
            first: seconds("gen_ai.server.time_to_first_token", "From the call to the first token", &FIRST),
            per_token: seconds(
                "gen_ai.server.time_per_output_token",
                "Between two tokens, the first apart",
                &PER_TOKEN,
            ),
        }
    }

    pub(crate) fn count(&self, record: &Record, took: Nanos) {
        self.request(record, took);
        // Of other calls nobody was asked.
        if let Some((spoken, provider)) = record.spoken.as_deref().zip(asked(record)) {
            self.call(record, spoken, provider, took);
        }
    }

    fn request(&self, record: &Record, took: Nanos) {
        let method = METHODS.iter().find(|known| **known == record.method.as_str()).unwrap_or(&"_OTHER");
        let scheme = if record.tls.is_some() { "https" } else { "http" };
        let common = [KeyValue::new("http.request.method", *method), KeyValue::new("url.scheme", scheme)];
        let route = record.route.and_then(|at| record.scene().route(at));
        let route = route.map(|route| KeyValue::new("http.route", route.id.clone()));
        let status = (record.status > 0).then(|| KeyValue::new("http.response.status_code", i64::from(record.status)));
        let error = match (record.cut, record.status, record.refusal) {
            (Some(cut), _, _) => Some(KeyValue::new("error.type", cut.name())),
            (None, 500.., Some(refusal)) => Some(KeyValue::new("error.type", refusal)),
            (None, status @ 500.., None) => Some(KeyValue::new("error.type", status.to_string())),
            _ => None,
        };
        let mut names = SmallVec::<[KeyValue; 5]>::new();
        names.extend(common);
        names.extend([route, status, error].into_iter().flatten());
        self.request.record(seconds(took), &names);
    }

    fn call(&self, record: &Record, spoken: &Spoken, provider: &'static str, took: Nanos) {
        let failed = record.cut.map(|cut| cut.name()).or(record.refusal);
        let error = failed.or_else(|| record.tries.last().filter(|_| record.status >= 400).and_then(|last| last.error));
        let deployed = StringValue::from(spoken.deployed.as_deref().unwrap_or_default().to_owned());
        let answered = spoken.answered.as_deref().map_or(deployed.clone(), |model| model.to_owned().into());
        let mut names = Vec::with_capacity(7);
        names.extend([
            KeyValue::new("gen_ai.operation.name", spoken.operation),
            KeyValue::new("gen_ai.provider.name", provider),
            KeyValue::new("gen_ai.request.model", Value::String(deployed)),
            KeyValue::new("gen_ai.response.model", Value::String(answered)),
            KeyValue::new("tidegate.llm.model", spoken.model.clone()),
        ]);
        if let Some(first) = spoken.first_token {
            self.first.record(first.as_secs_f64(), &names);
        }
        if let Some(span) = spoken.per_token() {
            self.per_token.record(span.as_secs_f64(), &names);
        }
        let Some(error) = error else {
            self.operation.record(seconds(took), &names);
            for (class, tokens) in [("input", spoken.tokens.prompt()), ("output", spoken.tokens.completion())] {
                names.push(KeyValue::new("gen_ai.token.type", class));
                self.tokens.record(tokens, &names);
                names.pop();
            }
            return;
        };
        names.push(KeyValue::new("error.type", error));
        self.operation.record(seconds(took), &names);
    }
}

#[expect(clippy::cast_precision_loss, reason = "2^53 ns are 104 days")]
fn seconds(span: Nanos) -> f64 {
    span.0 as f64 / 1e9
}
