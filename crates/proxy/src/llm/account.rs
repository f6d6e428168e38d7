//! What a call has used: as its provider says, or else by what went over the wire.

use std::time::Duration;

use serde::Deserialize;
use tidegate_llm::meaning::{Answer, Delta, Error, Event, Gist, Stop, Usage};
use tidegate_telemetry::Tokens;
use tokio::time::Instant;

use crate::relay::Observer;

/// Bytes of text that are a token, about.
const BYTES: u64 = 4;

#[derive(Debug)]
pub(super) struct Account {
    began: Instant,
    /// Of the prompt, from its bytes.
    guess: u64,
    /// Of tries whose end nobody knows: they may have cost something.
    lost: u64,
    usage: Option<Usage>,
    /// The provider said all there is to say.
    whole: bool,
    deltas: u64,
    text: u64,
    pub(super) first: Option<First>,
    first_token: Option<Duration>,
    finish: Option<&'static str>,
}

/// How an answer begins.
#[derive(Debug)]
pub(super) enum First {
    Something,
    Error(Box<Error>),
}

impl Account {
    /// `prompt`: bytes of the call.
    pub(super) fn new(prompt: usize) -> Self {
        let guess = (prompt as u64).div_ceil(BYTES);
        Self {
            began: Instant::now(),
            guess,
            lost: 0,
            usage: None,
            whole: false,
            deltas: 0,
            text: 0,
            first: None,
            first_token: None,
            finish: None,
        }
    }

    /// A call goes out: if nothing is ever heard of it, it may have cost its prompt.
    pub(super) fn sent(&self, observer: &mut Observer) {
        self.write(observer, Tokens { input: self.guess.saturating_add(self.lost), ..Tokens::default() }, true);
    }

    /// A try failed. `answered`: the provider said so, and bills nothing.
    pub(super) fn failed(&mut self, answered: bool, observer: &mut Observer) {
        if !answered {
            self.lost = self.lost.saturating_add(self.guess);
        }
        (self.usage, self.whole, self.deltas, self.text, self.first) = (None, false, 0, 0, None);
        self.write(observer, Tokens { input: self.lost, ..Tokens::default() }, self.lost > 0);
    }

    pub(super) fn event(&mut self, event: &Event) {
        match event {
            Event::Ping => return,
            Event::Delta { delta: Delta::Text(text) | Delta::Arguments(text), .. } => {
                self.first_token.get_or_insert_with(|| self.began.elapsed());
                self.deltas += 1;
                self.text += text.len() as u64;
            }
            Event::Usage(usage) => self.usage = Some(*usage),
            Event::Stop(stop) => {
                self.finish = Some(finish(stop));
                self.whole = true;
            }
            Event::Error(error) if self.first.is_none() => {
                self.first = Some(First::Error(Box::new(error.clone())));
            }
            _ => {}
        }
        self.first.get_or_insert(First::Something);
    }

    pub(super) fn answer(&mut self, answer: &Answer) {
        (self.usage, self.finish, self.whole) = (answer.usage, Some(finish(&answer.stop)), true);
        self.text = answer.text().len() as u64;
        self.first_token = None;
    }

    /// An answer that is no chat. `None`: it does not say.
    pub(super) fn counted(&mut self, body: &[u8]) {
        #[derive(Deserialize)]
        struct Counted {
            usage: Prompt,
        }
        #[derive(Deserialize)]
        struct Prompt {
            prompt_tokens: u64,
        }
        let counted = serde_json::from_slice::<Counted>(body).ok();
        self.usage = counted.map(|counted| Usage { input: counted.usage.prompt_tokens, ..Usage::default() });
        self.whole = true;
    }

    /// Nothing is billed for this one.
    pub(super) fn free(&mut self) {
        (self.usage, self.whole) = (Some(Usage::default()), true);
    }

    pub(super) fn settle(&self, observer: &mut Observer) {
        let (mut usage, known) = (self.usage.unwrap_or_default(), self.usage.is_some());
        if !known {
            usage.input = self.guess;
        }
        // A stream that broke off: its last report is from before.
        let seen = self.deltas.max(self.text.div_ceil(BYTES));
        let short = (!known || !self.whole) && usage.completion() < seen;
        if short {
            usage.output = usage.output.saturating_add(seen - usage.completion());
        }
        let tokens = Tokens {
            input: usage.input.saturating_add(usage.audio_in).saturating_add(usage.image_in).saturating_add(self.lost),
            cache_read: usage.cache_read,
            cache_write: usage.cache_writes(),
            output: usage.output.saturating_add(usage.audio_out).saturating_add(usage.image_out),
            reasoning: usage.reasoning,
        };
        self.write(observer, tokens, !known || short || self.lost > 0);
    }

    fn write(&self, observer: &mut Observer, tokens: Tokens, estimated: bool) {
        if let Some(charge) = &mut observer.charge {
            charge.tokens(tokens.total());
        }
        if let Some(spoken) = &mut observer.record.spoken {
            (spoken.tokens, spoken.estimated) = (tokens, estimated);
            (spoken.first_token, spoken.finish) = (self.first_token, self.finish);
        }
    }
}

fn finish(stop: &Stop) -> &'static str {
    match stop.gist() {
        Gist::Done => "stop",
        Gist::Length => "length",
        Gist::Tools => "tool_calls",
        Gist::Filtered => "content_filter",
    }
}
