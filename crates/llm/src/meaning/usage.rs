//! Tokens in classes that do not overlap, so that prices multiply and sums are sums.
//!
//! ```text
//!  OpenAI, Gemini:     prompt      = input + cache_read + writes + audio + image      (includes what was cached)
//!  Anthropic, Bedrock: input       = input + audio + image                           (excludes it)
//!  all but Gemini:     completion  = output + reasoning + audio + image
//!  Gemini:             candidates  = output + audio + image;   thoughts = reasoning
//! ```

use crate::json::Look;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Prompt text that no cache knew.
    pub input: u64,
    pub cache_read: u64,
    pub cache_write_5m: u64,
    pub cache_write_1h: u64,
    pub audio_in: u64,
    pub image_in: u64,
    /// Answer text, thoughts excluded.
    pub output: u64,
    pub reasoning: u64,
    pub audio_out: u64,
    pub image_out: u64,
    /// At whose prices.
    pub tier: Tier,
    /// What the provider says it will bill (OpenRouter): worth more than our arithmetic.
    pub cost: Option<NanoUsd>,
}

/// How soon a provider serves a call, as it says in its answer: other tiers have other prices.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Tier {
    #[default]
    Standard,
    Flex,
    Priority,
    Batch,
}

impl Tier {
    pub const ALL: [Self; 4] = [Self::Standard, Self::Flex, Self::Priority, Self::Batch];

    /// `flex`, `priority`, `batch`, Google's `ON_DEMAND_PRIORITY`; what is none of them is the standard.
    pub fn named(text: &str) -> Self {
        let text = text.to_ascii_lowercase();
        let has = |word: &str| text.contains(word);
        match () {
            () if has("flex") => Self::Flex,
            () if has("priority") => Self::Priority,
            () if has("batch") => Self::Batch,
            () => Self::Standard,
        }
    }

    pub(crate) fn read<'v>(value: impl Look<'v>) -> Self {
        value.text().map_or(Self::Standard, |text| Self::named(&text))
    }

    /// Where the standard goes without saying.
    pub(crate) fn said(self) -> Option<&'static str> {
        match self {
            Self::Standard => None,
            Self::Flex => Some("flex"),
            Self::Priority => Some("priority"),
            Self::Batch => Some("batch"),
        }
    }
}

/// Of one class, in one call: a hundred thousand times the longest context that there is.
const MOST_TOKENS: u64 = 1 << 40;

/// A billionth of a dollar.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct NanoUsd(pub u64);

impl Usage {
    /// Told outside of the report that a provider makes of its tokens.
    pub(crate) fn at<'v>(self, tier: impl Look<'v>) -> Self {
        Self { tier: tier.text().map_or(self.tier, |text| Tier::named(&text)), ..self }
    }

    /// All that went in.
    pub fn prompt(&self) -> u64 {
        [self.input, self.cache_read, self.cache_writes(), self.audio_in, self.image_in]
            .into_iter()
            .fold(0, u64::saturating_add)
    }

    /// All that went in anew: neither read from a cache nor kept in one.
    pub(crate) fn fresh(&self) -> u64 {
        [self.input, self.audio_in, self.image_in].into_iter().fold(0, u64::saturating_add)
    }

    /// All that came out.
    pub fn completion(&self) -> u64 {
        [self.output, self.reasoning, self.audio_out, self.image_out].into_iter().fold(0, u64::saturating_add)
    }

    pub fn total(&self) -> u64 {
        self.prompt().saturating_add(self.completion())
    }

    pub fn cache_writes(&self) -> u64 {
        self.cache_write_5m.saturating_add(self.cache_write_1h)
    }

    /// As it may be: what nobody's call can come to is cut, so that sums over many calls are sums.
    pub fn plausible(self) -> Self {
        let Self {
            input,
            cache_read,
            cache_write_5m,
            cache_write_1h,
            audio_in,
            image_in,
            output,
            reasoning,
            audio_out,
            image_out,
            tier,
            cost,
        } = self;
        let cut = |tokens: u64| tokens.min(MOST_TOKENS);
        Self {
            input: cut(input),
            cache_read: cut(cache_read),
            cache_write_5m: cut(cache_write_5m),
            cache_write_1h: cut(cache_write_1h),
            audio_in: cut(audio_in),
            image_in: cut(image_in),
            output: cut(output),
            reasoning: cut(reasoning),
            audio_out: cut(audio_out),
            image_out: cut(image_out),
            tier,
            cost,
        }
    }

    /// From a prompt count that includes everything: classes are taken out one after the other, so that a report whose
    /// parts exceed its whole never makes the rest negative.
    pub fn split_prompt(&mut self, whole: u64) {
        let mut left = whole;
        for class in [
            &mut self.cache_read,
            &mut self.cache_write_5m,
            &mut self.cache_write_1h,
            &mut self.audio_in,
            &mut self.image_in,
        ] {
            *class = (*class).min(left);
            left -= *class;
        }
        self.input = left;
    }

    /// From a completion count that includes everything.
    pub fn split_completion(&mut self, whole: u64) {
        let mut left = whole;
        for class in [&mut self.reasoning, &mut self.audio_out, &mut self.image_out] {
            *class = (*class).min(left);
            left -= *class;
        }
        self.output = left;
    }
}

impl NanoUsd {
    /// From a decimal number of dollars, as providers report it.
    pub fn from_dollars(dollars: f64) -> Option<Self> {
        let nano = dollars * 1e9;
        // Above 2^53 nano-dollars (nine million dollars for one call) nobody's report is believed.
        (nano.is_finite() && (0.0..9.0e15).contains(&nano)).then(|| Self(nano.round() as u64))
    }

    /// As [`NanoUsd::from_dollars`]: nobody's call costs more.
    pub fn plausible(self) -> Self {
        self.min(Self(9_000_000_000_000_000))
    }

    pub fn dollars(self) -> f64 {
        self.0 as f64 / 1e9
    }
}

#[cfg(test)]
impl Usage {
    /// No two classes alike: what is lost or mixed up on the way shows.
    pub(crate) const fn of_every_class() -> Self {
        Self {
            input: 1,
            cache_read: 2,
            cache_write_5m: 3,
            cache_write_1h: 4,
            audio_in: 5,
            image_in: 6,
            output: 7,
            reasoning: 8,
            audio_out: 9,
            image_out: 10,
            tier: Tier::Priority,
            cost: Some(NanoUsd(11_000)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_16_classes_of_a_prompt_never_overlap_even_if_the_report_does() {
        let mut usage = Usage { cache_read: 80, audio_in: 50, ..Usage::default() };
        usage.split_prompt(100);
        assert_eq!((usage.input, usage.cache_read, usage.audio_in), (0, 80, 20));
        assert_eq!(usage.prompt(), 100);
    }

    #[test]
    fn line_16_sums_saturate() {
        let usage = Usage { input: u64::MAX, cache_read: 5, output: u64::MAX, ..Usage::default() };
        assert_eq!(usage.total(), u64::MAX);
    }

    #[test]
    fn what_no_call_comes_to_is_cut_and_the_rest_is_as_it_was_told() {
        assert_eq!(Usage::of_every_class().plausible(), Usage::of_every_class());
        let wrong = Usage { input: 1 << 63, output: u64::MAX, reasoning: 5, ..Usage::default() }.plausible();
        assert_eq!((wrong.prompt(), wrong.completion()), (1 << 40, (1 << 40) + 5));
        assert_eq!(NanoUsd(u64::MAX).plausible(), NanoUsd(9_000_000_000_000_000));
    }

    #[test]
    fn line_17_a_reported_cost_is_nano_dollars() {
        assert_eq!(NanoUsd::from_dollars(0.000_069_4), Some(NanoUsd(69_400)));
        assert_eq!(NanoUsd::from_dollars(-1.0), None);
        assert_eq!(NanoUsd::from_dollars(f64::NAN), None);
        assert_eq!(NanoUsd::from_dollars(1e30), None);
    }
}
