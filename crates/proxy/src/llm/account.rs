//! What a call has used: as its provider says, or else by what went over the wire.

use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use tidegate_llm::meaning::{Answer, Body, Delta, Error, Event, Gist, NanoUsd, Usage};
use tidegate_llm::price::Tariff;
use tidegate_llm::tokens::{Encoding, Said};
use tidegate_llm::{Dialect, Glance, Skipped, estimate};
use tidegate_telemetry::{Cost, Tokens};
use tokio::time::Instant;

use super::counting::{Prompt, Sums, Tally};
use crate::in_place::boxed;
use crate::relay::Observer;

#[derive(Debug)]
pub(super) struct Account {
    began: Instant,
    /// Bytes of the prompt, and has it tools?
    prompt: (u64, bool),
    /// What is spoken to whom is asked now.
    dialect: Dialect,
    /// Of the prompt, from its bytes.
    guess: u64,
    /// Tokens of tries whose end nobody knows, and nano-dollars: they may have cost something.
    lost: Lost,
    /// Of whom is asked now. `None`: nobody knows.
    tariff: Option<Arc<Tariff>>,
    /// Nothing is billed for calls of this kind.
    free: bool,
    usage: Option<Usage>,
    /// The provider said all there is to say.
    whole: bool,
    /// Tokens of the longest answer that may be: of what nobody told no more is charged.
    most: u64,
    deltas: u64,
    text: u64,
    pub(super) first: Option<First>,
    first_token: Option<Duration>,
    finish: Option<&'static str>,
    /// Who says that it answers.
    model: String,
    /// Where it is known how the model counts.
    tally: Option<Box<Tally>>,
}

/// Tokens and nano-dollars.
pub(super) type Lost = (u64, u64);

/// How an answer begins.
#[derive(Debug)]
pub(super) enum First {
    Something,
    Error(Box<Error>),
}

impl Account {
    /// `prompt`: bytes of the call.
    pub(super) fn new(prompt: usize, has_tools: bool) -> Self {
        Self::begun(Instant::now(), (prompt as u64, has_tools))
    }

    fn begun(began: Instant, prompt: (u64, bool)) -> Self {
        Self {
            began,
            prompt,
            dialect: Dialect::OpenAiChat,
            guess: 0,
            lost: (0, 0),
            tariff: None,
            free: false,
            usage: None,
            whole: false,
            most: u64::MAX,
            deltas: 0,
            text: 0,
            first: None,
            first_token: None,
            finish: None,
            model: String::new(),
            tally: None,
        }
    }

    /// Its model counts like this, if that should be needed.
    pub(super) fn counting(&mut self, encoding: Option<Encoding>, prompt: impl FnOnce() -> Option<Arc<Prompt>>) {
        self.tally = encoding.map(|encoding| Box::new(Tally::new(encoding, prompt())));
    }

    /// No answer is longer than this.
    pub(super) fn at_most(&mut self, tokens: Option<u64>) {
        self.most = tokens.unwrap_or(u64::MAX);
    }

    /// Is the text of the answer wanted?
    pub(super) fn listens(&self) -> bool {
        self.tally.is_some()
    }

    /// Nobody said how much was used, and it can be counted.
    pub(super) fn wants_count(&self) -> bool {
        let told = |usage: Usage| self.whole || usage.completion() >= self.seen();
        self.tally.as_ref().is_some_and(|tally| tally.counted.is_none()) && !self.usage.is_some_and(told)
    }

    /// For who counts it.
    pub(super) fn uncounted(&mut self) -> Option<Box<Tally>> {
        if self.wants_count() { self.tally.take() } else { None }
    }

    pub(super) fn recounted(&mut self, tally: Box<Tally>) {
        if let Some(prompt) = tally.counted.and_then(|sums| sums.prompt) {
            self.guess = prompt.tokens;
        }
        self.tally = Some(tally);
    }

    /// Who is asked speaks this, and bills by these prices.
    pub(super) fn at(&mut self, dialect: Dialect, tariff: Option<&Arc<Tariff>>) {
        (self.dialect, self.tariff) = (dialect, tariff.cloned());
        self.guess = estimate::prompt(dialect, self.prompt.0, self.prompt.1);
    }

    /// Of one try: it knows nothing of others.
    pub(super) fn fork(&self, dialect: Dialect, tariff: Option<&Arc<Tariff>>) -> Box<Self> {
        let mut fork = boxed(|| Self::begun(self.began, self.prompt));
        fork.at(dialect, tariff);
        fork
    }

    /// Tries whose end nobody knows, beside this one.
    pub(super) fn owes(&mut self, lost: Lost) {
        self.lost = lost;
    }

    /// What it may have cost if nothing is ever heard of it: its prompt.
    pub(super) fn guess(&self) -> Lost {
        let usage = Usage { input: self.guess, ..Usage::default() };
        (self.guess, self.tariff.as_ref().map_or(0, |tariff| tariff.cost(&usage).0))
    }

    /// Of the answer, as far as it came.
    pub(super) fn output(&self) -> u64 {
        self.usage.map_or(0, |usage| usage.completion()).max(self.seen())
    }

    /// What it has come to while it is under way, as far as anybody can tell: tokens and nano-dollars. `skipped`: text that was
    /// passed over and not told of yet.
    pub(super) fn so_far(&self, skipped: Skipped) -> Lost {
        let mut usage = self.usage.unwrap_or(Usage { input: self.guess, ..Usage::default() });
        let text = self.text.saturating_add(skipped.text);
        let seen = self.estimate(self.deltas.saturating_add(skipped.pieces), text);
        usage.output = usage.output.saturating_add(seen.saturating_sub(usage.completion()));
        (usage.total().saturating_add(self.lost.0), self.cost(&usage).nanos())
    }

    fn seen(&self) -> u64 {
        let counted = self.tally.as_ref().filter(|tally| !tally.said.is_empty()).and_then(|tally| tally.counted);
        counted.map_or_else(|| self.estimate(self.deltas, self.text), |sums| sums.answer.min(self.most))
    }

    /// Of an answer in so many pieces, with so many bytes of text.
    fn estimate(&self, pieces: u64, text: u64) -> u64 {
        pieces.max(estimate::answer(self.dialect, text)).min(self.most)
    }

    /// A call goes out: if nothing is ever heard of it, it may have cost its prompt.
    pub(super) fn sent(&self, observer: &mut Observer) {
        self.write(observer, &Usage { input: self.guess, ..Usage::default() }, true);
    }

    /// It failed. `answered`: the provider said so, and bills nothing.
    pub(super) fn failed(&mut self, answered: bool, observer: &mut Observer) {
        let lost = if answered { (0, 0) } else { self.guess() };
        self.stands(lost, observer);
    }

    /// So much is lost by now, or may be, and nothing else is known.
    pub(super) fn stands(&mut self, lost: Lost, observer: &mut Observer) {
        self.lost = lost;
        self.write(observer, &Usage::default(), lost.0 > 0);
    }

    pub(super) fn event(&mut self, event: &Event) {
        match event {
            Event::Ping => return,
            Event::Delta { delta: Delta::Text(text) | Delta::Arguments(text), .. } => {
                self.first_token.get_or_insert_with(|| self.began.elapsed());
                self.deltas += u64::from(!text.is_empty());
                self.text += text.len() as u64;
                if let Some(tally) = &mut self.tally {
                    tally.said.text(text);
                }
            }
            Event::Start(start) => self.model.clone_from(&start.model),
            Event::Usage(usage) => self.usage = Some(usage.plausible()),
            Event::Stop(stop) => {
                self.finish = Some(finish(stop.gist()));
                self.whole = true;
            }
            Event::Error(error) if self.first.is_none() => {
                self.first = Some(First::Error(Box::new(error.clone())));
            }
            _ => {}
        }
        self.first.get_or_insert(First::Something);
    }

    /// A whole answer came. Of one that does not say what it used the words are wanted as well.
    pub(super) fn answer(&mut self, glance: Glance, answer: Option<&Answer>) {
        let Glance { model, usage, gist, text, .. } = glance;
        self.model = model.into();
        (self.usage, self.finish, self.whole, self.text) =
            (usage.map(Usage::plausible), Some(finish(gist)), true, text);
        self.first_token = None;
        if let (Some(tally), Some(answer), None) = (self.tally.as_mut(), answer, usage) {
            for part in &answer.parts {
                match &part.body {
                    Body::Text(text) | Body::Refusal(text) | Body::Reasoning { text, .. } => tally.said.text(text),
                    Body::ToolCall(call) => {
                        [&call.name, &call.arguments].into_iter().for_each(|text| tally.said.text(text))
                    }
                    _ => {}
                }
            }
        }
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
        self.usage =
            counted.map(|counted| Usage { input: counted.usage.prompt_tokens, ..Usage::default() }.plausible());
        self.whole = true;
    }

    /// By the price of the model that answered, if nobody knew that of the one that was asked for.
    pub(super) fn priced_by_answer(&mut self, tariff: impl FnOnce(&str) -> Option<Arc<Tariff>>) {
        if self.tariff.is_none() && !self.model.is_empty() {
            self.tariff = tariff(&self.model);
        }
    }

    /// Nothing is billed for this one.
    pub(super) fn free(&mut self) {
        (self.usage, self.whole, self.free) = (Some(Usage::default()), true, true);
    }

    /// The first token was seen: whatever text comes need only be counted.
    pub(super) fn has_begun(&self) -> bool {
        self.first_token.is_some()
    }

    /// Text that was passed over. `said`: what it said, if that was kept.
    pub(super) fn skipped(&mut self, skipped: Skipped, said: Option<&Said>) {
        if let (Some(tally), Some(said)) = (&mut self.tally, said) {
            tally.said.and(said);
        }
        self.deltas = self.deltas.saturating_add(skipped.pieces);
        self.text = self.text.saturating_add(skipped.text);
    }

    /// What is charged, whether its provider said it, and whether it said less than was seen.
    fn used(&self) -> (Usage, bool, bool) {
        let (mut usage, known) = (self.usage.unwrap_or_default(), self.usage.is_some());
        if !known {
            usage.input = self.guess;
        }
        // A stream that broke off: its last report is from before.
        let seen = self.seen();
        let short = (!known || !self.whole) && usage.completion() < seen;
        if short {
            usage.output = usage.output.saturating_add(seen - usage.completion());
        }
        (usage, known, short)
    }

    /// What callers are told where their provider says nothing: what they are charged.
    pub(super) fn untold(&self) -> Option<Usage> {
        self.usage.is_none().then(|| self.used().0)
    }

    pub(super) fn settle(&self, observer: &mut Observer) {
        let (usage, known, short) = self.used();
        let by = self.tally.as_ref().and_then(|tally| Some((tally.encoding.name(), tally.counted?)));
        // A prompt that the provider told need not be counted.
        let surely = |sums: Sums| known || sums.prompt.is_some_and(|prompt| prompt.surely);
        let by = by.filter(|(_, sums)| surely(*sums) && (!known || short)).map(|(name, _)| name);
        self.write(observer, &usage, by.is_none() && (!known || short) || self.lost.0 > 0);
        if let Some(spoken) = &mut observer.record.spoken {
            spoken.counted = by;
            spoken.answered = (!self.model.is_empty()).then(|| self.model.as_str().into());
            spoken.generated = self.first_token.map(|first| self.began.elapsed().saturating_sub(first));
        }
    }

    /// What the provider says that it bills is worth more than our arithmetic; without either nobody knows.
    fn cost(&self, usage: &Usage) -> Cost {
        let own = match &self.tariff {
            _ if self.free || usage.total() == 0 && usage.cost.is_none() => Some(NanoUsd(0)),
            Some(tariff) => Some(tariff.cost(usage)),
            None => usage.cost,
        };
        match own {
            Some(NanoUsd(0)) if self.lost.1 == 0 && usage.total() == 0 => Cost::None,
            Some(own) => Cost::Nanos(own.plausible().0.saturating_add(self.lost.1)),
            None => Cost::Unpriced,
        }
    }

    fn write(&self, observer: &mut Observer, usage: &Usage, estimated: bool) {
        let cost = self.cost(usage);
        let tokens = Tokens {
            input: usage.input.saturating_add(self.lost.0),
            cache_read: usage.cache_read,
            cache_write: usage.cache_writes(),
            output: usage.output,
            reasoning: usage.reasoning,
            audio_in: usage.audio_in,
            image_in: usage.image_in,
            audio_out: usage.audio_out,
            image_out: usage.image_out,
        };
        if let Some(charge) = &mut observer.charge {
            charge.tokens(tokens.total());
            charge.money(cost.nanos());
        }
        if let Some(spoken) = &mut observer.record.spoken {
            (spoken.tokens, spoken.cost, spoken.estimated) = (tokens, cost, estimated);
            (spoken.first_token, spoken.finish) = (self.first_token, self.finish);
        }
    }
}

fn finish(gist: Gist) -> &'static str {
    match gist {
        Gist::Done => "stop",
        Gist::Length => "length",
        Gist::Tools => "tool_calls",
        Gist::Filtered => "content_filter",
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use tidegate_llm::bounds::Bounds;
    use tidegate_llm::frame::{FrameKind, aws};

    use super::*;

    fn sse(name: &str, data: &Value) -> Vec<u8> {
        format!("event: {name}\ndata: {data}\n\n").into_bytes()
    }

    /// A piece of an answer with as much around its text as may be.
    fn piece(dialect: Dialect, text: &str) -> Vec<u8> {
        let padding = "p".repeat(3_000);
        match dialect {
            Dialect::OpenAiChat => sse("", &json!({"choices": [{"delta": {"content": text}}], "obfuscation": padding})),
            Dialect::OpenAiResponses => sse(
                "response.output_text.delta",
                &json!({"type": "response.output_text.delta", "delta": text, "obfuscation": padding}),
            ),
            Dialect::Anthropic => sse(
                "content_block_delta",
                &json!({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": text}, "p": padding}),
            ),
            Dialect::Gemini => {
                sse("", &json!({"candidates": [{"content": {"parts": [{"text": text}]}}], "p": padding}))
            }
            Dialect::Bedrock => {
                let mut out = Vec::new();
                let data = json!({"contentBlockIndex": 0, "delta": {"text": text}, "p": padding}).to_string();
                aws::write(FrameKind::Data, "contentBlockDelta", data.as_bytes(), &mut out);
                out
            }
            Dialect::Cohere => {
                let delta = json!({"message": {"content": {"text": text}}});
                sse("content-delta", &json!({"type": "content-delta", "index": 0, "delta": delta, "p": padding}))
            }
        }
    }

    fn begin(dialect: Dialect) -> Vec<u8> {
        match dialect {
            Dialect::Anthropic => {
                let message = json!({"id": "m", "model": "m", "content": [], "role": "assistant"});
                let block =
                    json!({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}});
                [
                    sse("message_start", &json!({"type": "message_start", "message": message})),
                    sse("content_block_start", &block),
                ]
                .concat()
            }
            Dialect::Cohere => {
                let content = json!({"message": {"content": {"type": "text", "text": ""}}});
                [
                    sse("message-start", &json!({"type": "message-start", "id": "m"})),
                    sse("content-start", &json!({"type": "content-start", "index": 0, "delta": content})),
                ]
                .concat()
            }
            _ => Vec::new(),
        }
    }

    /// Tokens that an answer costs whose caller left after these pieces.
    fn hung_up(dialect: Dialect, pieces: &[&str], most: Option<u64>) -> u64 {
        let mut account = Account::new(0, false);
        account.at_most(most);
        account.at(dialect, None);
        let mut decoder = dialect.decoder(Bounds::default());
        let mut events = Vec::new();
        let mut stream = vec![begin(dialect)];
        stream.extend(pieces.iter().map(|text| piece(dialect, text)));
        for bytes in stream {
            decoder.push(&bytes, &mut events);
            events.drain(..).for_each(|event| account.event(&event));
            if account.has_begun() {
                decoder.skim(dialect);
            }
        }
        let so_far = account.so_far(decoder.skipped()).0;
        account.skipped(decoder.skipped(), None);
        assert_eq!(so_far, account.used().0.output, "{dialect:?}");
        account.used().0.output
    }

    #[test]
    fn a_caller_who_hangs_up_pays_for_the_text_that_came_and_for_nothing_around_it() {
        let text = "some words ".repeat(40);
        for dialect in Dialect::ALL {
            let pieces = [text.as_str(); 6];
            let said = estimate::answer(dialect, 6 * text.len() as u64);
            assert_eq!(hung_up(dialect, &pieces, None), said, "{dialect:?}: pieces of even size");
            assert_eq!(hung_up(dialect, &pieces, Some(100)), 100, "{dialect:?}: no more than its bound");
            assert_eq!(hung_up(dialect, &["a", "", "b"], None), 2, "{dialect:?}: empty pieces cost nothing");
        }
    }
}
