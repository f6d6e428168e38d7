//! What tokens cost. Integers throughout: prices in micro-dollars per million tokens (a trillionth of a dollar per token,
//! so that $0.0375 per million is a whole number), costs in nano-dollars, rounded up once per call.

use serde::Deserialize;

use crate::meaning::{NanoUsd, Tier, Usage};

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

/// The prices of one tier of service.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rates {
    pub prices: Prices,
    pub above: Option<Above>,
}

/// What one model costs at one provider. A tier without rates of its own costs what the standard one does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tariff {
    pub standard: Rates,
    pub flex: Option<Rates>,
    pub priority: Option<Rates>,
    pub batch: Option<Rates>,
}

impl Tariff {
    /// What the provider says it bills is worth more than our arithmetic.
    pub fn cost(&self, usage: &Usage) -> NanoUsd {
        usage.cost.unwrap_or_else(|| self.rates(usage.tier).cost(usage))
    }

    /// The most that a call can cost with at most so many tokens in its prompt and its answer, if it asks for this tier.
    pub fn most(&self, prompt: u64, output: u64, tier: Tier) -> NanoUsd {
        self.standard.most(prompt, output).max(self.rates(tier).most(prompt, output))
    }

    fn rates(&self, tier: Tier) -> &Rates {
        let own = match tier {
            Tier::Standard => None,
            Tier::Flex => self.flex.as_ref(),
            Tier::Priority => self.priority.as_ref(),
            Tier::Batch => self.batch.as_ref(),
        };
        own.unwrap_or(&self.standard)
    }
}

impl Rates {
    fn cost(&self, usage: &Usage) -> NanoUsd {
        match &self.above {
            Some(above) if usage.prompt() > above.prompt => above.prices.cost(usage),
            _ => self.prices.cost(usage),
        }
    }

    fn most(&self, prompt: u64, output: u64) -> NanoUsd {
        let above = self.above.as_ref().filter(|above| prompt > above.prompt);
        let above = above.map_or(NanoUsd(0), |above| above.prices.most(prompt, output));
        self.prices.most(prompt, output).max(above)
    }
}

impl Prices {
    fn most(&self, prompt: u64, output: u64) -> NanoUsd {
        let ins = [self.cache_read, self.cache_write_5m, self.cache_write_1h, self.audio_in, self.image_in];
        let outs = [self.reasoning, self.audio_out, self.image_out];
        let dearest =
            |base: u64, others: &[Option<u64>]| others.iter().flatten().fold(base, |most, own| most.max(*own));
        let (input, output_price) = (dearest(self.input, &ins), dearest(self.output, &outs));
        nano((u128::from(input) * u128::from(prompt)).saturating_add(u128::from(output_price) * u128::from(output)))
    }

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
    use proptest::prelude::*;

    use super::*;

    const SONNET: Prices = Prices {
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
    };

    fn plain(prices: Prices) -> Tariff {
        Tariff { standard: Rates { prices, above: None }, ..Tariff::default() }
    }

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
        assert_eq!(plain(SONNET).cost(&usage), NanoUsd(3_000_000 + 3_000_000 + 375_000 + 60_000 + 750_000 + 75_000));
    }

    #[test]
    fn line_17_a_reported_cost_wins_and_long_prompts_have_other_prices() {
        let told = Usage { input: 1, cost: Some(NanoUsd(77)), ..Usage::default() };
        assert_eq!(plain(SONNET).cost(&told), NanoUsd(77));
        let dear = Prices { input: 6_000_000, output: 22_500_000, ..Prices::default() };
        let above = Some(Above { prompt: 200_000, prices: dear });
        let tariff = Tariff { standard: Rates { prices: SONNET, above }, ..Tariff::default() };
        let at = Usage { input: 200_000, ..Usage::default() };
        let over = Usage { input: 100_000, cache_read: 100_001, ..Usage::default() };
        assert_eq!(tariff.cost(&at), NanoUsd(600_000_000));
        assert_eq!(tariff.cost(&over), NanoUsd(200_001 * 6_000));
    }

    #[test]
    fn line_17_each_tier_has_its_own_prices_and_one_without_costs_the_standard() {
        let rates =
            |input| Some(Rates { prices: Prices { input, output: 2 * input, ..Prices::default() }, above: None });
        let tariff = Tariff { flex: rates(500_000), priority: rates(2_000_000), ..plain(SONNET) };
        let at = |tier| tariff.cost(&Usage { input: 1_000, output: 1_000, tier, ..Usage::default() });
        assert_eq!(at(Tier::Standard), NanoUsd(18_000_000));
        assert_eq!((at(Tier::Flex), at(Tier::Priority)), (NanoUsd(1_500_000), NanoUsd(6_000_000)));
        assert_eq!(at(Tier::Batch), at(Tier::Standard));
        for (text, tier) in [("ON_DEMAND_PRIORITY", Tier::Priority), ("default", Tier::Standard), ("flex", Tier::Flex)]
        {
            assert_eq!(Tier::named(text), tier);
        }
    }

    #[test]
    fn fractions_are_rounded_up_once_and_nothing_overflows() {
        let cheap = plain(Prices { input: 37_500, output: 1, ..Prices::default() });
        assert_eq!(cheap.cost(&Usage { input: 1, ..Usage::default() }), NanoUsd(38));
        assert_eq!(cheap.cost(&Usage { input: 2, ..Usage::default() }), NanoUsd(75));
        let most = Usage { input: u64::MAX, output: u64::MAX, ..Usage::default() };
        assert_eq!(plain(SONNET).cost(&most), NanoUsd(u64::MAX));
        assert_eq!(plain(SONNET).most(u64::MAX, u64::MAX, Tier::Flex), NanoUsd(u64::MAX));
    }

    proptest! {
        /// What is reserved is enough, whatever the classes are of what was used.
        #[test]
        fn no_call_costs_more_than_its_bound(
            ins in prop::array::uniform6(0..200_000u64),
            outs in prop::array::uniform4(0..50_000u64),
            prices in prop::array::uniform10(0..90_000_000u64),
            above in prop::array::uniform10(0..90_000_000u64),
            tier in 0..4usize,
        ) {
            let of = |p: [u64; 10]| Prices {
                input: p[0], output: p[1], cache_read: Some(p[2]), cache_write_5m: Some(p[3]), cache_write_1h: Some(p[4]),
                audio_in: Some(p[5]), image_in: None, reasoning: Some(p[7]), audio_out: None, image_out: Some(p[9]),
            };
            let rates = Rates { prices: of(prices), above: Some(Above { prompt: 200_000, prices: of(above) }) };
            let tariff = Tariff { priority: Some(rates), standard: Rates { above: None, ..rates }, ..Tariff::default() };
            let tier = Tier::ALL[tier];
            let usage = Usage {
                input: ins[0], cache_read: ins[1], cache_write_5m: ins[2], cache_write_1h: ins[3], audio_in: ins[4],
                image_in: ins[5], output: outs[0], reasoning: outs[1], audio_out: outs[2], image_out: outs[3], tier, cost: None,
            };
            prop_assert!(tariff.cost(&usage) <= tariff.most(usage.prompt(), usage.completion(), tier));
        }
    }
}
