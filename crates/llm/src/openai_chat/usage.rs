//! Usage of the chat dialect: prompts include what was cached, completions include thoughts. Mostly.

use serde_json::{Value, json};

use crate::json::{Object, tally};
use crate::meaning::{NanoUsd, Tier, Usage};

/// `None` for `null` and for what is no object.
pub(crate) fn parse_usage(value: &Value) -> Option<Usage> {
    if !value.is_object() {
        return None;
    }
    let prompt = &value["prompt_tokens_details"];
    let completion = &value["completion_tokens_details"];
    let mut usage = Usage {
        cache_read: cached(value),
        audio_in: tally(&prompt["audio_tokens"]),
        image_in: tally(&prompt["image_tokens"]),
        reasoning: tally(&completion["reasoning_tokens"]),
        audio_out: tally(&completion["audio_tokens"]),
        image_out: tally(&completion["image_tokens"]),
        tier: Tier::read(&value["service_tier"]),
        cost: cost(value),
        ..Usage::default()
    };
    let hour = tally(&prompt["cache_creation"]["ephemeral_1h_input_tokens"]);
    usage.cache_write_1h = hour;
    usage.cache_write_5m = tally(&prompt["cache_write_tokens"]).saturating_sub(hour);
    usage.split_prompt(tally(&value["prompt_tokens"]));
    let mut whole = tally(&value["completion_tokens"]);
    if outside(value, usage.reasoning) {
        whole = whole.saturating_add(usage.reasoning);
    }
    usage.split_completion(whole);
    Some(usage)
}

/// OpenAI, then DeepSeek, then Moonshot.
fn cached(value: &Value) -> u64 {
    [&value["prompt_tokens_details"]["cached_tokens"], &value["prompt_cache_hit_tokens"], &value["cached_tokens"]]
        .into_iter()
        .map(tally)
        .find(|tokens| *tokens > 0)
        .unwrap_or(0)
}

/// xAI counts thoughts beside the completion, not inside: only the total tells.
fn outside(value: &Value, reasoning: u64) -> bool {
    let [prompt, completion, total] =
        ["prompt_tokens", "completion_tokens", "total_tokens"].map(|name| tally(&value[name]));
    reasoning > 0 && total == prompt.saturating_add(completion).saturating_add(reasoning)
}

/// OpenRouter's `cost`, Perplexity's `cost.total_cost`: dollars.
fn cost(value: &Value) -> Option<NanoUsd> {
    value["cost"].as_f64().or_else(|| value["cost"]["total_cost"].as_f64()).and_then(NanoUsd::from_dollars)
}

pub(crate) fn render_usage(usage: &Usage) -> Value {
    let mut prompt = Object::new().with("cached_tokens", usage.cache_read).with("audio_tokens", usage.audio_in);
    if usage.cache_writes() > 0 {
        prompt.put("cache_write_tokens", usage.cache_writes());
    }
    if usage.cache_write_1h > 0 {
        prompt.put(
            "cache_creation",
            json!({
                "ephemeral_5m_input_tokens": usage.cache_write_5m,
                "ephemeral_1h_input_tokens": usage.cache_write_1h,
            }),
        );
    }
    if usage.image_in > 0 {
        prompt.put("image_tokens", usage.image_in);
    }
    let mut completion = Object::new().with("reasoning_tokens", usage.reasoning).with("audio_tokens", usage.audio_out);
    if usage.image_out > 0 {
        completion.put("image_tokens", usage.image_out);
    }
    Object::new()
        .with("prompt_tokens", usage.prompt())
        .with("completion_tokens", usage.completion())
        .with("total_tokens", usage.total())
        .with("prompt_tokens_details", prompt.done())
        .with("completion_tokens_details", completion.done())
        .maybe("service_tier", usage.tier.said())
        .maybe("cost", usage.cost.map(NanoUsd::dollars))
        .done()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_16_prompts_include_what_was_cached() {
        let value = json!({"prompt_tokens": 100, "completion_tokens": 30, "total_tokens": 130,
            "prompt_tokens_details": {"cached_tokens": 60, "audio_tokens": 10},
            "completion_tokens_details": {"reasoning_tokens": 20}});
        let usage = parse_usage(&value).unwrap();
        assert_eq!((usage.input, usage.cache_read, usage.audio_in), (30, 60, 10));
        assert_eq!((usage.output, usage.reasoning), (10, 20));
    }

    #[test]
    fn line_16_xai_counts_thoughts_beside_the_completion() {
        let value = json!({"prompt_tokens": 12, "completion_tokens": 2, "total_tokens": 334,
            "completion_tokens_details": {"reasoning_tokens": 320}});
        let usage = parse_usage(&value).unwrap();
        assert_eq!((usage.input, usage.output, usage.reasoning), (12, 2, 320));
    }

    #[test]
    fn line_16_every_class_survives_our_own_writing() {
        let usage = Usage::of_every_class();
        assert_eq!(parse_usage(&render_usage(&usage)), Some(usage));
    }
}
