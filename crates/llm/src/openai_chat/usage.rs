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
    let [prompt, completion, whole, told, cost, beside, tier] = value.each([
        names.prompt_details,
        names.completion_details,
        names.prompt,
        names.completion,
        "cost",
        "cost_details",
        "service_tier",
    ]);
    let [read, audio_in, image_in, writes, creation] =
        prompt.each(["cached_tokens", "audio_tokens", "image_tokens", "cache_write_tokens", "cache_creation"]);
    let [reasoning, audio_out, image_out] = completion.each(["reasoning_tokens", "audio_tokens", "image_tokens"]);
    let (whole, told, hour) = (tally(whole), tally(told), tally(creation.at("ephemeral_1h_input_tokens")));
    let mut usage = Usage {
        cache_read: cached(value, tally(read), names),
        audio_in: tally(audio_in),
        image_in: tally(image_in),
        reasoning: tally(reasoning),
        audio_out: tally(audio_out),
        image_out: tally(image_out),
        tier: Tier::read(tier),
        cost: dollars(
            cost,
            if value.at("is_byok").is_true() { beside.at("upstream_inference_cost").f64() } else { None },
        ),
        cache_write_1h: hour,
        cache_write_5m: tally(writes).saturating_sub(hour),
        ..Usage::default()
    };
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
fn cached<'v>(value: impl Look<'v>, told: u64, names: &Names) -> u64 {
    if told > 0 || !names.dialects {
        return told;
    }
    let [hit, cached] = value.each(["prompt_cache_hit_tokens", "cached_tokens"]);
    match tally(hit) {
        0 => tally(cached),
        tokens => tokens,
    }
}

/// OpenRouter's `cost`, Perplexity's `cost.total_cost`: dollars. `beside`: OpenRouter's share is all of its cost where it asks
/// with a key of ours; the provider behind bills the rest.
fn dollars<'v>(cost: impl Look<'v>, beside: Option<f64>) -> Option<NanoUsd> {
    let cost = cost.f64().or_else(|| cost.at("total_cost").f64())?;
    NanoUsd::from_dollars(cost + beside.filter(|beside| beside.is_finite() && *beside > 0.0).unwrap_or(0.0))
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
