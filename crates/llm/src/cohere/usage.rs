//! Usage: `tokens` as they went through the model, with what Cohere puts around a prompt, and `billed_units` as they are
//! charged (its prices are of these, docs.cohere.com/docs/how-does-cohere-pricing-work). The bill counts.

use serde_json::Value;

use crate::json::{Look, Object, tally};
use crate::meaning::{NanoUsd, Tier, Usage};

pub(crate) fn read<'v>(value: impl Look<'v>) -> Option<Usage> {
    let billed = [value.at("billed_units"), value.at("tokens")].into_iter().find(|units| units.is_object())?;
    // Written by a gateway like us; Cohere's own `cached_tokens` are of `tokens`, and cost what others cost.
    let more = value.at("token_details");
    let mut usage = Usage {
        cache_read: tally(more.at("cache_read")),
        cache_write_5m: tally(more.at("cache_write_5m")),
        cache_write_1h: tally(more.at("cache_write_1h")),
        audio_in: tally(more.at("audio_in")),
        image_in: tally(more.at("image_in")),
        reasoning: tally(more.at("reasoning")),
        audio_out: tally(more.at("audio_out")),
        image_out: tally(more.at("image_out")),
        tier: Tier::read(more.at("service_tier")),
        cost: more.at("cost").f64().and_then(NanoUsd::from_dollars),
        ..Usage::default()
    };
    usage.split_prompt(tally(billed.at("input_tokens")));
    usage.split_completion(tally(billed.at("output_tokens")));
    Some(usage)
}

pub(super) fn write(usage: &Usage) -> Value {
    let units = Object::new().with("input_tokens", usage.prompt()).with("output_tokens", usage.completion()).done();
    let mut value = Object::new().with("billed_units", units.clone()).with("tokens", units);
    let mut more = Object::new();
    more.put_positive(&[
        ("cache_read", usage.cache_read),
        ("cache_write_5m", usage.cache_write_5m),
        ("cache_write_1h", usage.cache_write_1h),
        ("audio_in", usage.audio_in),
        ("image_in", usage.image_in),
        ("reasoning", usage.reasoning),
        ("audio_out", usage.audio_out),
        ("image_out", usage.image_out),
    ]);
    more.put_some("service_tier", usage.tier.said());
    more.put_some("cost", usage.cost.map(NanoUsd::dollars));
    if usage.cache_read > 0 {
        value.put("cached_tokens", usage.cache_read);
    }
    value.put_some("token_details", more.unless_empty());
    value.done()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn line_16_every_class_survives_our_own_writing() {
        let usage = Usage::of_every_class();
        assert_eq!(read(&write(&usage)), Some(usage));
    }

    #[test]
    fn line_16_cohere_bills_less_than_it_counts() {
        let told = json!({"billed_units": {"input_tokens": 12, "output_tokens": 7}, "tokens": {"input_tokens": 507,
            "output_tokens": 10}, "cached_tokens": 448});
        assert_eq!(read(&told), Some(Usage { input: 12, output: 7, ..Usage::default() }));
        let counted = json!({"tokens": {"input_tokens": 5, "output_tokens": 1}});
        assert_eq!(read(&counted), Some(Usage { input: 5, output: 1, ..Usage::default() }));
        assert_eq!(read(&Value::Null), None);
    }
}
