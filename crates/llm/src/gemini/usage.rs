//! `usageMetadata`: the prompt includes what was cached, thoughts stand beside the candidates, results of Google's own
//! tools beside the prompt.

use serde_json::{Value, json};

use crate::json::{Look, Object, tally};
use crate::meaning::{NanoUsd, Tier, Usage};

pub(crate) fn read<'v>(value: impl Look<'v>) -> Option<Usage> {
    if !value.is_object() {
        return None;
    }
    // What was cached of a modality is told apart, and counts as cached.
    let fresh = |modality: &str| {
        let cached = of(value.at("cacheTokensDetails"), modality);
        of(value.at("promptTokensDetails"), modality).saturating_sub(cached)
    };
    let hour = tally(value.at("cacheWrite1hTokenCount"));
    let mut usage = Usage {
        cache_read: tally(value.at("cachedContentTokenCount")),
        cache_write_1h: hour,
        cache_write_5m: tally(value.at("cacheWriteTokenCount")).saturating_sub(hour),
        audio_in: fresh("AUDIO"),
        image_in: fresh("IMAGE"),
        audio_out: of(value.at("candidatesTokensDetails"), "AUDIO"),
        image_out: of(value.at("candidatesTokensDetails"), "IMAGE"),
        tier: Tier::read(value.at("trafficType")),
        cost: value.at("cost").f64().and_then(NanoUsd::from_dollars),
        ..Usage::default()
    };
    usage.split_prompt(tally(value.at("promptTokenCount")).saturating_add(tally(value.at("toolUsePromptTokenCount"))));
    usage.split_completion(tally(value.at("candidatesTokenCount")));
    usage.reasoning = tally(value.at("thoughtsTokenCount"));
    Some(usage)
}

fn of<'v>(details: impl Look<'v>, modality: &str) -> u64 {
    let rows = details.items();
    rows.filter(|row| row.at("modality").says(modality))
        .map(|row| tally(row.at("tokenCount")))
        .fold(0, u64::saturating_add)
}

pub(super) fn write(usage: &Usage) -> Value {
    let candidates = usage.output.saturating_add(usage.audio_out).saturating_add(usage.image_out);
    let mut value = Object::new()
        .with("promptTokenCount", usage.prompt())
        .with("candidatesTokenCount", candidates)
        .with("totalTokenCount", usage.total());
    let counts = [
        ("cachedContentTokenCount", usage.cache_read),
        ("thoughtsTokenCount", usage.reasoning),
        // Google writes no caches that it bills for; callers who know these fields see what another provider did.
        ("cacheWriteTokenCount", usage.cache_writes()),
        ("cacheWrite1hTokenCount", usage.cache_write_1h),
    ];
    for (name, count) in counts.into_iter().filter(|(_, count)| *count > 0) {
        value.put(name, count);
    }
    let text = usage.prompt().saturating_sub(usage.audio_in).saturating_sub(usage.image_in);
    value.put_some("promptTokensDetails", details(text, usage.audio_in, usage.image_in));
    value.put_some("candidatesTokensDetails", details(usage.output, usage.audio_out, usage.image_out));
    value.put_some("trafficType", usage.tier.said().map(|tier| format!("ON_DEMAND_{}", tier.to_ascii_uppercase())));
    value.put_some("cost", usage.cost.map(NanoUsd::dollars));
    value.done()
}

fn details(text: u64, audio: u64, image: u64) -> Option<Value> {
    let rows = [("TEXT", text), ("AUDIO", audio), ("IMAGE", image)];
    let rows = rows.into_iter().filter(|(_, count)| *count > 0);
    let rows: Vec<Value> = rows.map(|(name, count)| json!({"modality": name, "tokenCount": count})).collect();
    (!rows.is_empty()).then_some(Value::Array(rows))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_7_thoughts_are_outside_the_candidates_and_the_total_is_not_their_sum() {
        let value = json!({"promptTokenCount": 100, "cachedContentTokenCount": 40, "candidatesTokenCount": 7,
            "thoughtsTokenCount": 93, "toolUsePromptTokenCount": 5, "totalTokenCount": 205,
            "promptTokensDetails": [{"modality": "TEXT", "tokenCount": 70}, {"modality": "AUDIO", "tokenCount": 30}],
            "cacheTokensDetails": [{"modality": "AUDIO", "tokenCount": 10}]});
        let usage = read(&value).unwrap();
        assert_eq!((usage.input, usage.cache_read, usage.audio_in), (45, 40, 20));
        assert_eq!((usage.output, usage.reasoning, usage.total()), (7, 93, 205));
    }

    #[test]
    fn line_16_every_class_survives_our_own_writing() {
        let usage = Usage::of_every_class();
        assert_eq!(read(&write(&usage)), Some(usage));
    }
}
