//! Bedrock's usage: the input excludes what was read from or written to a cache.

use serde_json::{Value, json};

use crate::json::{Look, Object, tally};
use crate::meaning::{NanoUsd, Tier, Usage};

pub(crate) fn read<'v>(value: impl Look<'v>) -> Option<Usage> {
    if !value.is_object() {
        return None;
    }
    let details = value.at("cacheDetails");
    let of = |ttl: &str| {
        let rows = details.items().filter(|row| row.at("ttl").says(ttl));
        rows.map(|row| tally(row.at("inputTokens"))).fold(0, u64::saturating_add)
    };
    let written = tally(value.at("cacheWriteInputTokens")).max(tally(value.at("cacheWriteInputTokenCount")));
    let hour = of("1h").min(written);
    let more = value.at("tokenDetails");
    let mut usage = Usage {
        audio_in: tally(more.at("audioInputTokens")),
        image_in: tally(more.at("imageInputTokens")),
        reasoning: tally(more.at("reasoningOutputTokens")),
        audio_out: tally(more.at("audioOutputTokens")),
        image_out: tally(more.at("imageOutputTokens")),
        tier: Tier::read(more.at("serviceTier")),
        cost: more.at("cost").f64().and_then(NanoUsd::from_dollars),
        ..Usage::default()
    };
    usage.split_prompt(tally(value.at("inputTokens")));
    usage.split_completion(tally(value.at("outputTokens")));
    usage.cache_read = tally(value.at("cacheReadInputTokens")).max(tally(value.at("cacheReadInputTokenCount")));
    usage.cache_write_1h = hour;
    usage.cache_write_5m = written - hour;
    Some(usage)
}

pub(super) fn write(usage: &Usage) -> Value {
    let input = usage.fresh();
    let mut value = Object::new()
        .with("inputTokens", input)
        .with("outputTokens", usage.completion())
        .with("totalTokens", usage.total());
    if usage.cache_read > 0 || usage.cache_writes() > 0 {
        value.put("cacheReadInputTokens", usage.cache_read);
        value.put("cacheWriteInputTokens", usage.cache_writes());
    }
    if usage.cache_writes() > 0 {
        let rows = [("5m", usage.cache_write_5m), ("1h", usage.cache_write_1h)];
        let rows = rows.into_iter().filter(|(_, tokens)| *tokens > 0);
        let rows: Vec<Value> = rows.map(|(ttl, tokens)| json!({"ttl": ttl, "inputTokens": tokens})).collect();
        value.put("cacheDetails", rows);
    }
    value.put_some("tokenDetails", details(usage));
    value.done()
}

/// Classes that Bedrock does not have, told only if there are any.
fn details(usage: &Usage) -> Option<Value> {
    let mut object = Object::new();
    object.put_positive(&[
        ("audioInputTokens", usage.audio_in),
        ("imageInputTokens", usage.image_in),
        ("reasoningOutputTokens", usage.reasoning),
        ("audioOutputTokens", usage.audio_out),
        ("imageOutputTokens", usage.image_out),
    ]);
    object.put_some("serviceTier", usage.tier.said());
    object.put_some("cost", usage.cost.map(NanoUsd::dollars));
    object.unless_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_16_every_class_survives_our_own_writing() {
        let usage = Usage::of_every_class();
        assert_eq!(read(&write(&usage)), Some(usage));
    }
}
