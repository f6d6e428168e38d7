//! Anthropic's usage: the input excludes what was read from or written to a cache.

use serde_json::{Value, json};

use crate::json::{Look, Object, tally};
use crate::meaning::{NanoUsd, Tier, Usage};

/// Of a stream: each report is cumulative and replaces the fields it names (llm-wire line 4).
#[derive(Clone, Debug, Default)]
pub(crate) struct Report(Value);

impl Report {
    pub(crate) fn read(&mut self, value: &Value) -> Option<Usage> {
        let fields = value.as_object()?;
        if !self.0.is_object() {
            self.0 = json!({});
        }
        for (name, field) in fields.iter().filter(|(_, field)| !field.is_null()) {
            self.0[name.as_str()] = field.clone();
        }
        // A corrected total without its parts: the old parts are about the old total.
        if fields.contains_key("cache_creation_input_tokens") && !fields.contains_key("cache_creation") {
            let parts = &self.0["cache_creation"];
            let sum = tally(&parts["ephemeral_5m_input_tokens"]) + tally(&parts["ephemeral_1h_input_tokens"]);
            if sum != tally(&self.0["cache_creation_input_tokens"]) {
                self.0["cache_creation"] = Value::Null;
            }
        }
        read(&self.0)
    }
}

pub(super) fn read<'v>(value: impl Look<'v>) -> Option<Usage> {
    if !value.is_object() {
        return None;
    }
    let written = tally(value.at("cache_creation_input_tokens"));
    let hour = tally(value.at("cache_creation").at("ephemeral_1h_input_tokens"));
    let five = tally(value.at("cache_creation").at("ephemeral_5m_input_tokens"));
    let input = value.at("input_tokens_details");
    let output = value.at("output_tokens_details");
    let mut usage = Usage {
        audio_in: tally(input.at("audio_tokens")),
        image_in: tally(input.at("image_tokens")),
        reasoning: tally(output.at("thinking_tokens")),
        audio_out: tally(output.at("audio_tokens")),
        image_out: tally(output.at("image_tokens")),
        tier: Tier::read(value.at("service_tier")),
        cost: value.at("cost").f64().and_then(NanoUsd::from_dollars),
        ..Usage::default()
    };
    usage.split_prompt(tally(value.at("input_tokens")));
    usage.split_completion(tally(value.at("output_tokens")));
    usage.cache_read = tally(value.at("cache_read_input_tokens"));
    usage.cache_write_1h = hour;
    usage.cache_write_5m = five.max(written.saturating_sub(hour));
    Some(usage)
}

pub(super) fn write(usage: &Usage) -> Value {
    let input = usage.fresh();
    let mut value = Object::new()
        .with("input_tokens", input)
        .with("cache_creation_input_tokens", usage.cache_writes())
        .with("cache_read_input_tokens", usage.cache_read);
    if usage.cache_writes() > 0 {
        value.put(
            "cache_creation",
            json!({
                "ephemeral_5m_input_tokens": usage.cache_write_5m,
                "ephemeral_1h_input_tokens": usage.cache_write_1h,
            }),
        );
    }
    value.put_some(
        "input_tokens_details",
        details(&[("audio_tokens", usage.audio_in), ("image_tokens", usage.image_in)]),
    );
    value.put("output_tokens", usage.completion());
    let output =
        [("thinking_tokens", usage.reasoning), ("audio_tokens", usage.audio_out), ("image_tokens", usage.image_out)];
    value.put_some("output_tokens_details", details(&output));
    value.put_some("service_tier", usage.tier.said());
    value.put_some("cost", usage.cost.map(NanoUsd::dollars));
    value.done()
}

/// Classes that Anthropic does not have are told only if there are any.
fn details(classes: &[(&'static str, u64)]) -> Option<Value> {
    let mut object = Object::new();
    object.put_positive(classes);
    object.unless_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_4_the_last_report_corrects_the_first() {
        let mut report = Report::default();
        let start = json!({"input_tokens": 34_824, "cache_read_input_tokens": 0, "output_tokens": 1});
        assert_eq!(report.read(&start).unwrap().input, 34_824);
        let delta = json!({"input_tokens": 3_883, "cache_read_input_tokens": 30_464, "output_tokens": 103});
        let usage = report.read(&delta).unwrap();
        assert_eq!((usage.input, usage.cache_read, usage.output), (3_883, 30_464, 103));
        assert_eq!(report.read(&json!({"output_tokens": 104})).unwrap().cache_read, 30_464);
    }

    #[test]
    fn line_16_the_input_excludes_what_caches_did() {
        let value = json!({"input_tokens": 10, "cache_creation_input_tokens": 30, "cache_read_input_tokens": 500,
            "cache_creation": {"ephemeral_5m_input_tokens": 10, "ephemeral_1h_input_tokens": 20},
            "output_tokens": 7, "output_tokens_details": {"thinking_tokens": 4}});
        let usage = read(&value).unwrap();
        assert_eq!((usage.input, usage.cache_read, usage.cache_write_5m, usage.cache_write_1h), (10, 500, 10, 20));
        assert_eq!((usage.output, usage.reasoning, usage.prompt()), (3, 4, 540));
        assert_eq!(read(&write(&usage)), Some(usage));
    }

    #[test]
    fn line_16_every_class_survives_our_own_writing() {
        let usage = Usage::of_every_class();
        assert_eq!(read(&write(&usage)), Some(usage));
    }
}
