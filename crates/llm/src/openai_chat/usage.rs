//! Usage of the chat dialect: prompts include what was cached, completions include thoughts. Mostly.

use serde_json::{Value, json};

use crate::json::{Look, Object, tally};
use crate::meaning::{NanoUsd, Tier, Usage};

/// `None` for `null` and for what is no object.
pub(crate) fn parse_usage<'v>(value: impl Look<'v>) -> Option<Usage> {
    parse(value, &OWN)
}

/// What the parts of a report are called.
pub(crate) struct Names {
    pub(crate) prompt: &'static str,
    pub(crate) completion: &'static str,
    pub(crate) prompt_details: &'static str,
    pub(crate) completion_details: &'static str,
    /// And what else some who speak this dialect tell.
    pub(crate) dialects: bool,
}

const OWN: Names = Names {
    prompt: "prompt_tokens",
    completion: "completion_tokens",
    prompt_details: "prompt_tokens_details",
    completion_details: "completion_tokens_details",
    dialects: true,
};

pub(crate) fn parse<'v>(value: impl Look<'v>, names: &Names) -> Option<Usage> {
    if !value.is_object() {
        return None;
    }
    let prompt = value.at(names.prompt_details);
    let completion = value.at(names.completion_details);
    let told = tally(value.at(names.completion));
    let mut usage = Usage {
        cache_read: cached(value, prompt, names),
        audio_in: tally(prompt.at("audio_tokens")),
        image_in: tally(prompt.at("image_tokens")),
        reasoning: tally(completion.at("reasoning_tokens")),
        audio_out: tally(completion.at("audio_tokens")),
        image_out: tally(completion.at("image_tokens")),
        tier: Tier::read(value.at("service_tier")),
        cost: cost(value),
        ..Usage::default()
    };
    let hour = tally(prompt.at("cache_creation").at("ephemeral_1h_input_tokens"));
    usage.cache_write_1h = hour;
    usage.cache_write_5m = tally(prompt.at("cache_write_tokens")).saturating_sub(hour);
    let whole = tally(value.at(names.prompt));
    usage.split_prompt(whole);
    // xAI counts thoughts beside the completion, not inside: only the total tells.
    let reasoning = usage.reasoning;
    let outside = names.dialects
        && reasoning > 0
        && tally(value.at("total_tokens")) == whole.saturating_add(told).saturating_add(reasoning);
    usage.split_completion(if outside { told.saturating_add(reasoning) } else { told });
    Some(usage)
}

/// OpenAI, then DeepSeek, then Moonshot.
fn cached<'v, L: Look<'v>>(value: L, prompt: L, names: &Names) -> u64 {
    match tally(prompt.at("cached_tokens")) {
        0 if names.dialects => match tally(value.at("prompt_cache_hit_tokens")) {
            0 => tally(value.at("cached_tokens")),
            tokens => tokens,
        },
        tokens => tokens,
    }
}

/// OpenRouter's `cost`, Perplexity's `cost.total_cost`: dollars.
fn cost<'v>(value: impl Look<'v>) -> Option<NanoUsd> {
    let cost = value.at("cost");
    cost.f64().or_else(|| cost.at("total_cost").f64()).and_then(NanoUsd::from_dollars)
}

pub(crate) fn render_usage(usage: &Usage) -> Value {
    written(usage).done()
}

pub(super) fn written(usage: &Usage) -> Object {
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
        .with("prompt_tokens_details", prompt)
        .with("completion_tokens_details", completion)
        .maybe("service_tier", usage.tier.said())
        .maybe("cost", usage.cost.map(NanoUsd::dollars))
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
