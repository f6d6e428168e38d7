//! What tokens cost. Integers throughout: prices in micro-dollars per million tokens (a trillionth of a dollar per token,
//! so that $0.0375 per million is a whole number), costs in nano-dollars, rounded up once per call.

use serde::Deserialize;

use crate::meaning::{NanoUsd, Usage};

/// Micro-dollars per million tokens, by class. A class without a price of its own costs what its kind costs: anything that
/// went in as `input`, anything that came out as `output`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Prices {
    pub input: u64,
    pub output: u64,
    pub cache_read: Option<u64>,
    pub cache_write_5m: Option<u64>,
    pub cache_write_1h: Option<u64>,
    pub audio_in: Option<u64>,
    pub image_in: Option<u64>,
    pub reasoning: Option<u64>,
    pub audio_out: Option<u64>,
    pub image_out: Option<u64>,
}

/// Other prices for calls whose prompt is longer (llm-wire line 17).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Above {
    /// Tokens of the whole prompt, cached ones included.
    pub prompt: u64,
    pub prices: Prices,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tariff {
    pub prices: Prices,
    pub above: Option<Above>,
}

impl Tariff {
    /// What the provider says it bills is worth more than our arithmetic.
    pub fn cost(&self, usage: &Usage) -> NanoUsd {
        usage.cost.unwrap_or_else(|| match &self.above {
            Some(above) if usage.prompt() > above.prompt => above.prices.cost(usage),
            _ => self.prices.cost(usage),
        })
    }

    /// The most that a call can cost whose prompt has at most so many bytes: a byte is never more than one token.
    pub fn most(&self, prompt_bytes: u64, max_output: u64) -> NanoUsd {
        let dearest = |prices: &Prices| {
            let write = prices.cache_write_1h.max(prices.cache_write_5m).unwrap_or(0);
            let input = prices.input.max(write).max(prices.audio_in.unwrap_or(0)).max(prices.image_in.unwrap_or(0));
            let output = [prices.reasoning, prices.audio_out, prices.image_out].into_iter().flatten().max();
            let output = prices.output.max(output.unwrap_or(0));
            nano(u128::from(input) * u128::from(prompt_bytes) + u128::from(output) * u128::from(max_output))
        };
        let above = self.above.as_ref().map_or(NanoUsd(0), |above| dearest(&above.prices));
        dearest(&self.prices).max(above)
    }
}

impl Prices {
    fn cost(&self, usage: &Usage) -> NanoUsd {
        let classes = [
            (usage.input, Some(self.input), self.input),
            (usage.cache_read, self.cache_read, self.input),
            (usage.cache_write_5m, self.cache_write_5m, self.input),
            (usage.cache_write_1h, self.cache_write_1h.or(self.cache_write_5m), self.input),
            (usage.audio_in, self.audio_in, self.input),
            (usage.image_in, self.image_in, self.input),
            (usage.output, Some(self.output), self.output),
            (usage.reasoning, self.reasoning, self.output),
            (usage.audio_out, self.audio_out, self.output),
            (usage.image_out, self.image_out, self.output),
        ];
        // Ten products of two 64-bit numbers may exceed even 128 bits.
        let pico = classes.into_iter().fold(0u128, |sum, (tokens, own, kind)| {
            sum.saturating_add(u128::from(tokens) * u128::from(own.unwrap_or(kind)))
        });
        nano(pico)
    }
}

/// Rounded up: a call that cost something never costs nothing.
fn nano(pico: u128) -> NanoUsd {
    NanoUsd(u64::try_from(pico.div_ceil(1_000)).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SONNET: Tariff = Tariff {
        prices: Prices {
            input: 3_000_000,
            output: 15_000_000,
            cache_read: Some(300_000),
            cache_write_5m: Some(3_750_000),
            cache_write_1h: Some(6_000_000),
            audio_in: None,
            image_in: None,
            reasoning: None,
            audio_out: None,
            image_out: None,
        },
        above: None,
    };

    #[test]
    fn line_16_each_class_is_paid_once_at_its_own_price() {
        let usage = Usage {
            input: 1_000,
            cache_read: 10_000,
            cache_write_5m: 100,
            cache_write_1h: 10,
            output: 50,
            reasoning: 5,
            ..Usage::default()
        };
        // $0.003 + $0.003 + $0.000375 + $0.00006 + $0.00075 + $0.000075
        assert_eq!(SONNET.cost(&usage), NanoUsd(3_000_000 + 3_000_000 + 375_000 + 60_000 + 750_000 + 75_000));
    }

    #[test]
    fn line_17_a_reported_cost_wins_and_long_prompts_have_other_prices() {
        let told = Usage { input: 1, cost: Some(NanoUsd(77)), ..Usage::default() };
        assert_eq!(SONNET.cost(&told), NanoUsd(77));
        let dear = Prices { input: 6_000_000, output: 22_500_000, ..Prices::default() };
        let tariff = Tariff { above: Some(Above { prompt: 200_000, prices: dear }), ..SONNET };
        let at = Usage { input: 200_000, ..Usage::default() };
        let over = Usage { input: 100_000, cache_read: 100_001, ..Usage::default() };
        assert_eq!(tariff.cost(&at), NanoUsd(600_000_000));
        assert_eq!(tariff.cost(&over), NanoUsd(200_001 * 6_000));
    }

    #[test]
    fn fractions_are_rounded_up_once_and_nothing_overflows() {
        let cheap = Tariff { prices: Prices { input: 37_500, output: 1, ..Prices::default() }, above: None };
        assert_eq!(cheap.cost(&Usage { input: 1, ..Usage::default() }), NanoUsd(38));
        assert_eq!(cheap.cost(&Usage { input: 2, ..Usage::default() }), NanoUsd(75));
        let most = Usage { input: u64::MAX, output: u64::MAX, ..Usage::default() };
        assert_eq!(SONNET.cost(&most), NanoUsd(u64::MAX));
    }

    #[test]
    fn no_call_costs_more_than_its_bound() {
        let usage = Usage { cache_write_1h: 90, audio_in: 10, output: 3, reasoning: 4, ..Usage::default() };
        assert!(SONNET.cost(&usage) <= SONNET.most(100, 7));
    }
}
