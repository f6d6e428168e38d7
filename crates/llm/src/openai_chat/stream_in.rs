//! A chat completion's chunks → events.

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value;

use super::calls_in::Calls;
use super::{answer_in, error, stop, thoughts, usage};
use crate::Dialect;
use crate::frame::Frame;
use crate::json::{read_json, string_of, text_of, whole};
use crate::meaning::{BlockKind, Body, Delta, Error, Flow, Start, Stop, Usage};

#[derive(Debug, Default)]
pub(crate) struct Reader {
    id: String,
    text: Option<usize>,
    refusal: Option<usize>,
    reasoning: Option<usize>,
    refused: bool,
    /// It was told that the answer quotes.
    quotes: bool,
    calls: Calls,
    /// The last reason told: OpenRouter tells it twice, so it counts only at the end.
    finish: Option<Stop>,
}

/// What most chunks are, some words and nothing else, read without a tree. Whatever it does not fit is read the other way.
#[derive(Deserialize)]
struct Piece {
    choices: [Choice; 1],
    usage: Option<IgnoredAny>,
    x_groq: Option<IgnoredAny>,
    error: Option<IgnoredAny>,
}

#[derive(Deserialize)]
struct Choice {
    #[serde(default)]
    index: u64,
    delta: Words,
    finish_reason: Option<IgnoredAny>,
}

/// Anything else that a delta may hold, now or one day, is not for here.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Words {
    #[serde(rename = "role")]
    _role: Option<IgnoredAny>,
    content: String,
    refusal: Option<IgnoredAny>,
    reasoning_content: Option<IgnoredAny>,
    tool_calls: Option<IgnoredAny>,
}

impl Piece {
    /// The words, where there is nothing else.
    fn words(self) -> Option<String> {
        let Self { choices: [choice], usage, x_groq, error } = self;
        let Choice { index, delta, finish_reason } = choice;
        let Words { content, refusal, reasoning_content, tool_calls, .. } = delta;
        let more = [usage, x_groq, error, finish_reason, refusal, reasoning_content, tool_calls];
        Some(content).filter(|content| index == 0 && !content.is_empty() && more.iter().all(Option::is_none))
    }
}

impl Reader {
    pub(crate) fn frame(&mut self, frame: Frame<'_>, flow: &mut Flow) {
        if frame.data == b"[DONE]" {
            if flow.has_started() {
                self.finish.get_or_insert(Stop::EndTurn);
                self.settle(flow);
            }
            return flow.end();
        }
        if flow.has_started()
            && frame.name.is_empty()
            && let Some(text) = serde_json::from_slice(frame.data).ok().and_then(Piece::words)
        {
            let block = self.block(Slot::Text, flow);
            if let Some(block) = block {
                flow.delta(block, Delta::Text(text));
            }
            return;
        }
        let Ok(chunk) = read_json(frame.data) else {
            return flow.fail(Error::bad_stream("a chunk of the provider's stream is not valid JSON"));
        };
        if let Some(error) = error::inside(&chunk, frame.name) {
            return flow.fail_at(report(&chunk), error);
        }
        self.chunk(&chunk, flow);
    }

    fn chunk(&mut self, chunk: &Value, flow: &mut Flow) {
        let choices = chunk["choices"].as_array().map_or(&[][..], Vec::as_slice);
        // Azure's first chunk has neither id nor choices, only the filter's verdict on the prompt.
        if !flow.has_started() && (!choices.is_empty() || text_of(&chunk["id"]).is_some()) {
            self.id = string_of(&chunk["id"]);
            let (model, created) = (string_of(&chunk["model"]), whole(&chunk["created"]));
            flow.start(Start { id: self.id.clone(), model, created });
        }
        for choice in choices.iter().filter(|choice| choice["index"].as_u64().unwrap_or(0) == 0) {
            self.delta(&choice["delta"], flow);
            if let Some(reason) = choice["finish_reason"].as_str() {
                self.finish = Some(stop::read(Some(reason)));
                self.settle(flow);
            }
        }
        if let Some(usage) = report(chunk) {
            flow.usage(usage);
        }
    }

    fn delta(&mut self, delta: &Value, flow: &mut Flow) {
        let plain = text_of(&delta["reasoning_content"]).or_else(|| text_of(&delta["reasoning"]));
        if let Some(text) = plain {
            self.think(text, flow);
        }
        for detail in delta["reasoning_details"].as_array().into_iter().flatten() {
            self.detail(detail, plain.is_some(), flow);
        }
        match &delta["content"] {
            Value::String(text) if !text.is_empty() => self.say(text, flow),
            list @ Value::Array(_) => self.pieces(list, flow),
            _ => {}
        }
        for media in answer_in::images(&delta["images"]) {
            self.close_words(flow);
            if let Some(block) = flow.open(BlockKind::Media(media)) {
                flow.close(block);
            }
        }
        let quotes = delta["annotations"].as_array().is_some_and(|list| !list.is_empty());
        if quotes && !std::mem::replace(&mut self.quotes, true) {
            flow.aside(Dialect::OpenAiChat, "annotations");
        }
        if let Some(text) = text_of(&delta["refusal"]) {
            self.refused = true;
            let block = self.block(Slot::Refusal, flow);
            tell(block, text, flow);
        }
        for piece in delta["tool_calls"].as_array().into_iter().flatten() {
            if self.calls.is_empty() {
                self.close_words(flow);
            }
            self.calls.piece(piece, &self.id, flow);
        }
    }

    /// Mistral's content: texts and thoughts.
    fn pieces(&mut self, list: &Value, flow: &mut Flow) {
        for part in answer_in::content(list) {
            match part.body {
                Body::Text(text) => self.say(&text, flow),
                Body::Reasoning { text, .. } => self.think(&text, flow),
                Body::Foreign { dialect, value } => {
                    self.close_words(flow);
                    if let Some(block) = flow.open(BlockKind::Foreign { dialect, value }) {
                        flow.close(block);
                    }
                }
                _ => {}
            }
        }
    }

    fn detail(&mut self, detail: &Value, told: bool, flow: &mut Flow) {
        let signature = thoughts::detail_signature(detail);
        let Some(text) = thoughts::detail_text(detail) else {
            if let Some(signature) = signature {
                self.sealed(signature, flow);
            }
            return;
        };
        if !told && !text.is_empty() {
            self.think(text, flow);
        }
        if let Some(signature) = signature {
            let block = self.block(Slot::Reasoning, flow);
            if let Some(block) = block {
                flow.delta(block, Delta::Signature(signature));
            }
        }
    }

    fn sealed(&mut self, signature: crate::signature::Signature, flow: &mut Flow) {
        self.close_words(flow);
        if let Some(block) = flow.open(BlockKind::Redacted(signature)) {
            flow.close(block);
        }
    }

    fn think(&mut self, text: &str, flow: &mut Flow) {
        let block = self.block(Slot::Reasoning, flow);
        tell(block, text, flow);
    }

    fn say(&mut self, text: &str, flow: &mut Flow) {
        let block = self.block(Slot::Text, flow);
        tell(block, text, flow);
    }

    /// The open block of a kind; a new one closes those of other kinds. Text after calls closes the calls, so that
    /// dialects which cannot interleave go on at once.
    fn block(&mut self, slot: Slot, flow: &mut Flow) -> Option<usize> {
        let open = match slot {
            Slot::Text => self.text,
            Slot::Refusal => self.refusal,
            Slot::Reasoning => self.reasoning,
        };
        if open.is_some() {
            return open;
        }
        flow.close_all();
        (self.text, self.refusal, self.reasoning) = (None, None, None);
        let (place, kind) = match slot {
            Slot::Text => (&mut self.text, BlockKind::Text),
            Slot::Refusal => (&mut self.refusal, BlockKind::Refusal),
            Slot::Reasoning => (&mut self.reasoning, BlockKind::Reasoning),
        };
        *place = flow.open(kind);
        *place
    }

    fn close_words(&mut self, flow: &mut Flow) {
        for block in [self.text.take(), self.refusal.take(), self.reasoning.take()].into_iter().flatten() {
            flow.close(block);
        }
    }

    fn settle(&mut self, flow: &mut Flow) {
        self.calls.finish(&self.id, flow);
        let stop = match self.finish.clone() {
            Some(Stop::EndTurn) if !self.calls.is_empty() => Stop::ToolUse,
            Some(Stop::EndTurn) if self.refused => Stop::Refusal,
            Some(stop) => stop,
            None => return,
        };
        flow.stop(stop);
    }
}

/// On its own chunk, on the last one, on every one (a running report), beside an error, or (Groq) elsewhere.
fn report(chunk: &Value) -> Option<Usage> {
    let usage = [&chunk["usage"], &chunk["x_groq"]["usage"]].into_iter().find_map(usage::parse_usage)?;
    Some(usage.at(&chunk["service_tier"]))
}

#[derive(Clone, Copy)]
enum Slot {
    Text,
    Refusal,
    Reasoning,
}

fn tell(block: Option<usize>, text: &str, flow: &mut Flow) {
    if let Some(block) = block {
        flow.delta(block, Delta::Text(text.to_owned()));
    }
}
