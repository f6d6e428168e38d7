//! Gemini's stream → events. Every chunk is a whole response; usage in it is cumulative; the stream just ends.

use serde_json::Value;

use super::answer_in::BESIDE;
use super::partial::{Partial, goes_on, is_piece};
use super::{answer_in, error, stop, usage};
use crate::Dialect;
use crate::frame::Frame;
use crate::ids;
use crate::json::{read_json, string_of, text_of};
use crate::meaning::{BlockKind, Body, Delta, Error, Flow, Start, Stop, ToolCall};

#[derive(Debug, Default)]
pub(crate) struct Reader {
    id: String,
    text: Option<usize>,
    reasoning: Option<usize>,
    calls: usize,
    partial: Option<Partial>,
    reason: Option<String>,
    blocked: bool,
    /// What was told beside the answer, as a bit for each of [`BESIDE`].
    beside: u8,
}

/// Of the arguments of one call, put together from pieces.
const ARGUMENTS: usize = 4 << 20;

impl Reader {
    pub(crate) fn frame(&mut self, frame: Frame<'_>, flow: &mut Flow) {
        if frame.data == b"[DONE]" {
            return;
        }
        let Ok(chunk) = read_json(frame.data) else {
            return flow.fail(Error::bad_stream("a chunk of the provider's stream is not valid JSON"));
        };
        if chunk["error"].is_object() {
            return flow.fail_at(usage::read(&chunk["usageMetadata"]), error::of_value(0, &chunk["error"]));
        }
        if !flow.has_started() {
            self.id = string_of(&chunk["responseId"]);
            flow.start(Start { id: self.id.clone(), model: string_of(&chunk["modelVersion"]), created: None });
        }
        let candidates = chunk["candidates"].as_array().map_or(&[][..], Vec::as_slice);
        for candidate in candidates.iter().filter(|candidate| candidate["index"].as_u64().unwrap_or(0) == 0) {
            for part in candidate["content"]["parts"].as_array().into_iter().flatten() {
                self.part(part, flow);
            }
            for (nth, name) in BESIDE.into_iter().enumerate() {
                let bit = 1 << nth;
                if candidate[name].is_object() && self.beside & bit == 0 {
                    self.beside |= bit;
                    flow.aside(Dialect::Gemini, name);
                }
            }
            if let Some(reason) = text_of(&candidate["finishReason"]) {
                self.reason = Some(reason.to_owned());
            }
        }
        self.blocked |= stop::blocked(&chunk);
        if let Some(usage) = usage::read(&chunk["usageMetadata"]) {
            flow.usage(usage);
        }
    }

    pub(crate) fn finish(&mut self, flow: &mut Flow) {
        self.end_call(flow);
        match &self.reason {
            Some(reason) => flow.stop(stop::read(reason, self.calls > 0)),
            None if self.blocked => flow.stop(Stop::ContentFilter),
            None => {}
        }
        flow.end();
    }

    fn part(&mut self, part: &Value, flow: &mut Flow) {
        let call = &part["functionCall"];
        if call.is_object() && (self.partial.is_some() || goes_on(call)) {
            return self.piece(part, flow);
        }
        self.end_call(flow);
        if let (Some(""), Some(signature), Some(block)) =
            (part["text"].as_str(), answer_in::signature(part), self.reasoning)
        {
            flow.delta(block, Delta::Signature(signature));
            return;
        }
        let Some(part) = answer_in::part(part, &self.id, self.calls) else { return };
        match part.body {
            Body::Text(text) => self.say(text, flow),
            Body::Reasoning { text, signature } => {
                let block = self.think(flow);
                tell(block, Some(text).filter(|text| !text.is_empty()).map(Delta::Text), flow);
                tell(block, signature.map(Delta::Signature), flow);
            }
            Body::Redacted(signature) => self.whole(BlockKind::Redacted(signature), None, flow),
            Body::ToolCall(call) => self.call(call, flow),
            Body::Media(media) => self.whole(BlockKind::Media(media), None, flow),
            Body::Foreign { dialect, value } => self.whole(BlockKind::Foreign { dialect, value }, None, flow),
            _ => {}
        }
    }

    fn say(&mut self, text: String, flow: &mut Flow) {
        if text.is_empty() {
            return;
        }
        close(&mut self.reasoning, flow);
        if self.text.is_none() {
            self.text = flow.open(BlockKind::Text);
        }
        tell(self.text, Some(Delta::Text(text)), flow);
    }

    fn think(&mut self, flow: &mut Flow) -> Option<usize> {
        close(&mut self.text, flow);
        if self.reasoning.is_none() {
            self.reasoning = flow.open(BlockKind::Reasoning);
        }
        self.reasoning
    }

    /// A block that arrives in one piece.
    fn whole(&mut self, kind: BlockKind, delta: Option<Delta>, flow: &mut Flow) {
        close(&mut self.text, flow);
        close(&mut self.reasoning, flow);
        let block = flow.open(kind);
        tell(block, delta, flow);
        if let Some(block) = block {
            flow.close(block);
        }
    }

    fn call(&mut self, call: ToolCall, flow: &mut Flow) {
        self.calls += 1;
        let kind = BlockKind::ToolCall { id: call.id, name: call.name, signature: call.signature };
        self.whole(kind, Some(Delta::Arguments(call.arguments)), flow);
    }

    /// A call in pieces: opened by its name, ended by a piece that does not go on.
    fn piece(&mut self, part: &Value, flow: &mut Flow) {
        let call = &part["functionCall"];
        if !is_piece(call) {
            self.end_call(flow);
            let id = text_of(&call["id"]).map_or_else(|| ids::synthetic(&self.id, self.calls), str::to_owned);
            if !goes_on(call) {
                return self.part(part, flow);
            }
            self.partial = Some(Partial::new(id, string_of(&call["name"]), answer_in::signature(part)));
        }
        let Some(partial) = &mut self.partial else { return };
        if !partial.add(&call["partialArgs"], ARGUMENTS) {
            return flow.fail(Error::bad_stream("the pieces of a call's arguments do not fit together"));
        }
        if !goes_on(call) {
            self.end_call(flow);
        }
    }

    fn end_call(&mut self, flow: &mut Flow) {
        let Some(partial) = self.partial.take() else { return };
        let arguments = partial.arguments();
        let Partial { id, name, signature, .. } = partial;
        self.call(ToolCall { id, name, arguments, signature }, flow);
    }
}

fn tell(block: Option<usize>, delta: Option<Delta>, flow: &mut Flow) {
    if let (Some(block), Some(delta)) = (block, delta) {
        flow.delta(block, delta);
    }
}

fn close(block: &mut Option<usize>, flow: &mut Flow) {
    if let Some(block) = block.take() {
        flow.close(block);
    }
}
