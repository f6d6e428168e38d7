//! What is known about a call of a language model: of the access log's line, and of the metrics.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use crate::json::{Object, key};
use crate::meter::Histogram;

/// Names are the document's, or bounded by who sets them.
#[derive(Debug, Clone, Default)]
pub struct Spoken {
    /// As the document names it.
    pub model: Arc<str>,
    /// As the caller named it, where that is not the same.
    pub asked: Option<Box<str>>,
    pub provider: Option<Arc<str>>,
    /// The provider's name for the model.
    pub deployed: Option<Box<str>>,
    /// `chat`, `embeddings`: as the conventions name it.
    pub operation: &'static str,
    /// The model that says that it answered.
    pub answered: Option<Box<str>>,
    /// What the caller speaks, and what the provider does.
    pub dialects: (&'static str, &'static str),
    pub stream: bool,
    pub tokens: Tokens,
    /// The provider did not say how many: they are an estimate.
    pub estimated: bool,
    /// Nor did it, but they were counted: by this encoding.
    pub counted: Option<&'static str>,
    pub cost: Cost,
    /// From the call to the first token.
    pub first_token: Option<Duration>,
    /// From the first token of a stream to its end.
    pub generated: Option<Duration>,
    pub finish: Option<&'static str>,
    /// Deployments that failed before.
    pub fallbacks: u32,
    /// What of the call, and of the answer, another dialect could not carry.
    pub dropped: Option<Box<str>>,
    /// Deployments that were asked beside a late one.
    pub hedges: u32,
    /// One of them answered.
    pub hedge_won: bool,
    /// Tokens that an answer from the cache would have taken.
    pub saved: u64,
    pub bodies: Bodies,
}

/// What was asked and answered, fit to be logged: whoever sets them leaves out what must not be, and bounds them.
#[derive(Debug, Clone, Default)]
pub struct Bodies {
    pub call: Option<Box<str>>,
    pub answer: Option<Box<str>>,
}

/// Classes that do not overlap.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tokens {
    pub input: u64,
    pub cache_read: u64,
    pub cache_write: u64,
    pub output: u64,
    pub reasoning: u64,
    pub audio_in: u64,
    pub image_in: u64,
    pub audio_out: u64,
    pub image_out: u64,
}

/// What a call cost.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Cost {
    /// Nobody was asked, or nothing is billed for what was.
    #[default]
    None,
    /// In billionths of a dollar.
    Nanos(u64),
    /// Nobody knows the price of what was used.
    Unpriced,
}

impl Cost {
    /// Nano-dollars that are known.
    #[must_use]
    pub fn nanos(self) -> u64 {
        if let Self::Nanos(nanos) = self { nanos } else { 0 }
    }
}

impl Tokens {
    pub(crate) const NAMES: [&str; 9] =
        ["input", "cache_read", "cache_write", "output", "reasoning", "audio_in", "image_in", "audio_out", "image_out"];

    #[must_use]
    pub fn total(self) -> u64 {
        self.list().into_iter().fold(0, u64::saturating_add)
    }

    /// Of the call, whatever came from a cache.
    #[must_use]
    pub fn prompt(self) -> u64 {
        self.total().saturating_sub(self.completion())
    }

    /// Of the answer.
    #[must_use]
    pub fn completion(self) -> u64 {
        let parts = [self.output, self.reasoning, self.audio_out, self.image_out];
        parts.into_iter().fold(0, u64::saturating_add)
    }

    /// By the places of [`Self::NAMES`].
    fn list(self) -> [u64; Self::NAMES.len()] {
        let Self { input, cache_read, cache_write, output, reasoning, audio_in, image_in, audio_out, image_out } = self;
        [input, cache_read, cache_write, output, reasoning, audio_in, image_in, audio_out, image_out]
    }
}

impl Spoken {
    /// The time between two tokens of a stream.
    #[must_use]
    pub fn per_token(&self) -> Option<Duration> {
        let after = self.tokens.completion().checked_sub(1).filter(|after| *after > 0)?;
        Some(self.generated? / u32::try_from(after).ok()?)
    }

    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        let mut line = Object::open(out);
        line.word(key!("model"), &self.model);
        if let Some(asked) = &self.asked {
            line.text(key!("asked"), asked.as_bytes());
        }
        if let Some(provider) = &self.provider {
            line.word(key!("provider"), provider);
        }
        if let Some(deployed) = &self.deployed {
            line.text(key!("deployed"), deployed.as_bytes());
        }
        line.word(key!("dialect"), self.dialects.0);
        if !self.dialects.1.is_empty() && self.dialects.1 != self.dialects.0 {
            line.word(key!("translated_to"), self.dialects.1);
        }
        if self.stream {
            line.field(key!("stream")).extend_from_slice(b"true");
        }
        let Tokens { input, cache_read, cache_write, output, reasoning, audio_in, image_in, audio_out, image_out } =
            self.tokens;
        line.number(key!("input_tokens"), input);
        line.number(key!("cache_read_tokens"), cache_read);
        line.number(key!("cache_write_tokens"), cache_write);
        line.number(key!("output_tokens"), output);
        line.number(key!("reasoning_tokens"), reasoning);
        // Hardly any call has these.
        if audio_in > 0 {
            line.number(key!("audio_in_tokens"), audio_in);
        }
        if image_in > 0 {
            line.number(key!("image_in_tokens"), image_in);
        }
        if audio_out > 0 {
            line.number(key!("audio_out_tokens"), audio_out);
        }
        if image_out > 0 {
            line.number(key!("image_out_tokens"), image_out);
        }
        match self.cost {
            Cost::None => {}
            Cost::Nanos(nanos) => line.number(key!("cost_nanos"), nanos),
            Cost::Unpriced => line.field(key!("unpriced")).extend_from_slice(b"true"),
        }
        if self.estimated {
            line.field(key!("estimated")).extend_from_slice(b"true");
        }
        if let Some(encoding) = self.counted {
            line.word(key!("counted"), encoding);
        }
        if let Some(first) = self.first_token {
            line.millis(key!("first_token_ms"), u64::try_from(first.as_nanos()).unwrap_or(u64::MAX));
        }
        if let Some(finish) = self.finish {
            line.word(key!("finish"), finish);
        }
        if let Some(dropped) = &self.dropped {
            line.text(key!("dropped"), dropped.as_bytes());
        }
        if self.fallbacks > 0 {
            line.number(key!("fallbacks"), u64::from(self.fallbacks));
        }
        if self.hedges > 0 {
            line.number(key!("hedges"), u64::from(self.hedges));
        }
        if self.hedge_won {
            line.field(key!("hedge_won")).extend_from_slice(b"true");
        }
        if self.saved > 0 {
            line.number(key!("saved_tokens"), self.saved);
        }
        if let Some(call) = &self.bodies.call {
            line.long(key!("call"), call);
        }
        if let Some(answer) = &self.bodies.answer {
            line.long(key!("answer"), answer);
        }
        line.close();
    }
}

/// Why tries fail.
pub(crate) const FAILURES: [&str; 14] = [
    "bad_request",
    "unauthenticated",
    "forbidden",
    "not_found",
    "too_large",
    "context_exceeded",
    "content_filtered",
    "rate_limited",
    "billing",
    "overloaded",
    "timeout",
    "bad_stream",
    "server",
    "other",
];

/// By model.
#[derive(Debug, Default)]
pub(crate) struct ModelLane {
    pub(crate) calls: AtomicU64,
    pub(crate) fallbacks: AtomicU64,
    pub(crate) hedges: AtomicU64,
    pub(crate) hedges_won: AtomicU64,
    /// By the places of [`Tokens::NAMES`].
    pub(crate) tokens: [AtomicU64; Tokens::NAMES.len()],
    pub(crate) first_token: Histogram,
    pub(crate) cost_nanos: AtomicU64,
    pub(crate) unpriced: AtomicU64,
    pub(crate) saved: AtomicU64,
    /// By the places of [`FAILURES`].
    pub(crate) failures: [AtomicU64; FAILURES.len()],
    /// Answers from the cache.
    pub(crate) hits: AtomicU64,
    /// Each after the first.
    pub(crate) per_token: Histogram,
}

impl ModelLane {
    pub(crate) fn failed(&self, kinds: impl Iterator<Item = &'static str>) {
        for kind in kinds {
            let place = FAILURES.iter().position(|known| *known == kind).unwrap_or(FAILURES.len() - 1);
            self.failures[place].fetch_add(1, Relaxed);
        }
    }

    pub(crate) fn count(&self, spoken: &Spoken) {
        self.calls.fetch_add(1, Relaxed);
        self.saved.fetch_add(spoken.saved, Relaxed);
        self.fallbacks.fetch_add(u64::from(spoken.fallbacks), Relaxed);
        if spoken.hedges > 0 {
            self.hedges.fetch_add(u64::from(spoken.hedges), Relaxed);
            self.hedges_won.fetch_add(u64::from(spoken.hedge_won), Relaxed);
        }
        self.cost_nanos.fetch_add(spoken.cost.nanos(), Relaxed);
        self.unpriced.fetch_add(u64::from(spoken.cost == Cost::Unpriced), Relaxed);
        for (class, tokens) in self.tokens.iter().zip(spoken.tokens.list()) {
            class.fetch_add(tokens, Relaxed);
        }
        if let Some(first) = spoken.first_token {
            self.first_token.observe(first.into());
        }
        if let Some(span) = spoken.per_token() {
            self.per_token.observe(span.into());
        }
    }
}
