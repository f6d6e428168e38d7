//! Histograms of calls of language models, in the buckets that the conventions advise.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tidegate_model::Nanos;

use super::proto::Message;
use super::span::kind;
use crate::record::Record;

/// More are told as one.
const SERIES: usize = 1_000;

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
const DURATION: [f64; 14] = [0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92];
const FIRST: [f64; 16] = [0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0];
const PER_TOKEN: [f64; 13] = [0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5];

#[derive(Debug, Default)]
pub(super) struct Calls(Mutex<HashMap<Key, Series>>);

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Key {
    operation: &'static str,
    provider: &'static str,
    /// As the document names it.
    model: Arc<str>,
    deployed: Box<str>,
    error: Option<&'static str>,
}

#[derive(Debug)]
struct Series {
    input: Histogram,
    output: Histogram,
    duration: Histogram,
    first: Histogram,
    per_token: Histogram,
}

#[derive(Debug)]
struct Histogram {
    bounds: &'static [f64],
    /// The last one: above all bounds.
    buckets: Vec<u64>,
    sum: f64,
}

impl Histogram {
    fn new(bounds: &'static [f64]) -> Self {
        Self { bounds, buckets: vec![0; bounds.len() + 1], sum: 0.0 }
    }

    fn observe(&mut self, value: f64) {
        self.buckets[self.bounds.partition_point(|bound| *bound < value)] += 1;
        self.sum += value;
    }
}

impl Default for Series {
    fn default() -> Self {
        Self {
            input: Histogram::new(&TOKENS),
            output: Histogram::new(&TOKENS),
            duration: Histogram::new(&DURATION),
            first: Histogram::new(&FIRST),
            per_token: Histogram::new(&PER_TOKEN),
        }
    }
}

/// A histogram of a series, and the class of tokens that it is of.
type Part<'a> = (&'a Histogram, Option<&'static str>);

impl Calls {
    pub(super) fn clear(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    pub(super) fn count(&self, record: &Record, took: Nanos) {
        let Some(spoken) = &record.spoken else { return };
        let Some((provider, _)) = kind(record) else { return }; // Nobody was asked.
        let failed = record.cut.map(|cut| cut.name()).or(record.refusal);
        let error = failed.or_else(|| record.tries.last().filter(|_| record.status >= 400).and_then(|last| last.error));
        let mut key = Key {
            operation: spoken.operation,
            provider,
            model: Arc::clone(&spoken.model),
            deployed: spoken.deployed.clone().unwrap_or_default(),
            error,
        };
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() >= SERIES && !all.contains_key(&key) {
            (key.model, key.deployed) = ("other".into(), "other".into());
        }
        let series = all.entry(key).or_default();
        #[expect(clippy::cast_precision_loss, reason = "2^53 ns are 104 days, and nobody has so many tokens")]
        let (seconds, input, output) =
            (took.0 as f64 / 1e9, spoken.tokens.prompt() as f64, spoken.tokens.completion() as f64);
        series.duration.observe(seconds);
        if error.is_none() {
            series.input.observe(input);
            series.output.observe(output);
        }
        if let Some(first) = spoken.first_token {
            series.first.observe(first.as_secs_f64());
        }
        if let Some(span) = spoken.per_token() {
            series.per_token.observe(span.as_secs_f64());
        }
    }

    pub(super) fn write(&self, out: &mut Message<'_>, when: (Nanos, Nanos)) {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if all.is_empty() {
            return;
        }
        let mut each = |name, unit, help, of: &dyn Fn(&Series) -> Vec<Part<'_>>| {
            super::metrics::histogram(out, name, unit, help, |points| {
                for (key, series) in &*all {
                    for (histogram, class) in of(series).into_iter().filter(|(h, _)| h.buckets.iter().any(|n| *n > 0)) {
                        points.message(1, |point| {
                            let counted = (histogram.bounds, &histogram.buckets[..], histogram.sum);
                            super::metrics::point(point, counted, when);
                            named(point, key, class);
                        });
                    }
                }
            });
        };
        each("gen_ai.client.token.usage", "{token}", "Tokens of calls, by class", &|series| {
            vec![(&series.input, Some("input")), (&series.output, Some("output"))]
        });
        each("gen_ai.client.operation.duration", "s", "From the call to the end of the answer", &|series| {
            vec![(&series.duration, None)]
        });
        each("gen_ai.server.time_to_first_token", "s", "From the call to the first token", &|series| {
            vec![(&series.first, None)]
        });
        each("gen_ai.server.time_per_output_token", "s", "Between two tokens, the first apart", &|series| {
            vec![(&series.per_token, None)]
        });
    }
}

fn named(point: &mut Message<'_>, key: &Key, class: Option<&'static str>) {
    point.text_attribute(9, "gen_ai.operation.name", key.operation);
    point.text_attribute(9, "gen_ai.provider.name", key.provider);
    point.text_attribute(9, "gen_ai.request.model", &key.deployed);
    point.text_attribute(9, "gen_ai.response.model", &key.deployed);
    point.text_attribute(9, "tidegate.llm.model", &key.model);
    if let Some(class) = class {
        point.text_attribute(9, "gen_ai.token.type", class);
    }
    if let Some(error) = key.error {
        point.text_attribute(9, "error.type", error);
    }
}
