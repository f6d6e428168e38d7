//! A response's stream → events. Items are told apart by `output_index`: ids rotate at some providers (llm-wire line 5).

use serde_json::Value;

use super::{answer_in, stop, thoughts, usage};
use crate::Dialect;
use crate::frame::Frame;
use crate::json::{read_json, string_of, text_of, whole};
use crate::meaning::{self, BlockKind, Body, Delta, Error, Event, Flow, Start, Usage};
use crate::openai_chat;

#[derive(Debug, Default)]
pub(crate) struct Reader {
    items: Vec<Item>,
    any: bool,
    has_calls: bool,
    refused: bool,
    /// It was told that the answer quotes.
    quotes: bool,
    /// Pieces of the item that is told were not read.
    passed: bool,
}

#[derive(Debug)]
struct Item {
    output: u64,
    /// Which part of a message; reasoning and calls have one block only.
    part: u64,
    block: usize,
    kind: Kind,
    empty: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Text,
    Refusal,
    Reasoning,
    Call,
}

impl Reader {
    pub(crate) fn frame(&mut self, frame: Frame<'_>, flow: &mut Flow) {
        if frame.data == b"[DONE]" {
            return;
        }
        let Ok(event) = read_json(frame.data) else {
            return flow.fail(Error::bad_stream("an event of the provider's stream is not valid JSON"));
        };
        let text = || string_of(&event["delta"]);
        match event["type"].as_str().unwrap_or(frame.name) {
            "response.created" | "response.in_progress" | "response.queued" => start(&event["response"], flow),
            "response.output_item.added" => self.added(&event, flow),
            "response.output_text.delta" => self.words(&event, Kind::Text, text(), flow),
            "response.refusal.delta" => self.words(&event, Kind::Refusal, text(), flow),
            "response.reasoning_summary_part.added" => self.next_thought(&event, flow),
            "response.reasoning_summary_text.delta" | "response.reasoning_text.delta" => {
                self.words(&event, Kind::Reasoning, text(), flow);
            }
            "response.function_call_arguments.delta" => self.arguments(&event, text(), flow),
            "response.function_call_arguments.done" => self.all_arguments(&event, &event["arguments"], flow),
            "response.output_text.annotation.added" if !std::mem::replace(&mut self.quotes, true) => {
                flow.aside(Dialect::OpenAiResponses, "annotations");
            }
            "response.output_item.done" => self.done(&event, flow),
            "response.completed" | "response.incomplete" => self.completed(&event["response"], flow),
            "response.failed" | "response.cancelled" => failed(&event["response"], flow),
            "error" => {
                let inner = if event["error"].is_object() { &event["error"] } else { &event };
                flow.fail(openai_chat::error_of_value(0, inner));
            }
            _ if event["error"].is_object() => flow.fail(openai_chat::error_of_value(0, &event["error"])),
            _ => {}
        }
    }

    fn added(&mut self, event: &Value, flow: &mut Flow) {
        let item = &event["item"];
        if item["type"] == "function_call" {
            let (id, name) = (answer_in::call_id(item), string_of(&item["name"]));
            self.has_calls = true;
            self.open(event, Kind::Call, BlockKind::ToolCall { id, name, signature: None }, flow);
        }
    }

    fn words(&mut self, event: &Value, kind: Kind, text: String, flow: &mut Flow) {
        if text.is_empty() {
            return;
        }
        let block = match kind {
            Kind::Reasoning => BlockKind::Reasoning,
            Kind::Refusal => BlockKind::Refusal,
            _ => BlockKind::Text,
        };
        self.refused |= kind == Kind::Refusal;
        let at = self.find(event, kind).or_else(|| self.open(event, kind, block, flow));
        if let Some(at) = at {
            flow.delta(self.items[at].block, Delta::Text(text));
        }
    }

    /// Parts of a summary are paragraphs.
    fn next_thought(&mut self, event: &Value, flow: &mut Flow) {
        if let Some(at) = self.find(event, Kind::Reasoning) {
            flow.delta(self.items[at].block, Delta::Text("\n\n".to_owned()));
        }
    }

    fn arguments(&mut self, event: &Value, text: String, flow: &mut Flow) {
        let Some(at) = self.find(event, Kind::Call).filter(|_| !text.is_empty()) else { return };
        self.items[at].empty = false;
        flow.delta(self.items[at].block, Delta::Arguments(text));
    }

    /// A piece of an item was not read, only measured: told whole it is no news.
    pub(crate) fn passes_over(&mut self) {
        self.passed = true;
    }

    /// Told whole: news only if no piece came before.
    fn all_arguments(&mut self, event: &Value, arguments: &Value, flow: &mut Flow) {
        if self.passed {
            return;
        }
        let Some(at) = self.find(event, Kind::Call) else { return };
        if let (true, Some(text)) = (self.items[at].empty, text_of(arguments)) {
            self.items[at].empty = false;
            flow.delta(self.items[at].block, Delta::Arguments(text.to_owned()));
        }
    }

    fn done(&mut self, event: &Value, flow: &mut Flow) {
        let item = &event["item"];
        match item["type"].as_str() {
            Some("function_call") => {
                if self.find(event, Kind::Call).is_none() && !self.seen(event) {
                    self.added(event, flow);
                }
                self.all_arguments(event, &item["arguments"], flow);
            }
            Some("reasoning") => self.thought(event, flow),
            Some("message") if self.find(event, Kind::Text).or(self.find(event, Kind::Refusal)).is_none() => {
                self.untold(event, flow);
            }
            Some("message") => {}
            _ => {
                self.any = true;
                let kind = match answer_in::foreign(item) {
                    Body::Media(media) => BlockKind::Media(media),
                    _ => BlockKind::Foreign { dialect: Dialect::OpenAiResponses, value: item.clone() },
                };
                if let Some(block) = flow.open(kind) {
                    flow.close(block);
                }
            }
        }
        self.close(event["output_index"].as_u64(), flow);
        self.passed = false;
    }

    /// The proof comes when the item is done.
    fn thought(&mut self, event: &Value, flow: &mut Flow) {
        let item = &event["item"];
        let signature = thoughts::signature(item);
        if self.find(event, Kind::Reasoning).is_none() {
            let text = if self.passed { String::new() } else { thoughts::text(item) };
            if text.is_empty() {
                self.any = true;
                if let Some(block) = signature.and_then(|signature| flow.open(BlockKind::Redacted(signature))) {
                    flow.close(block);
                }
                return;
            }
            self.words(event, Kind::Reasoning, text, flow);
        }
        if let (Some(at), Some(signature)) = (self.find(event, Kind::Reasoning), signature) {
            flow.delta(self.items[at].block, Delta::Signature(signature));
        }
    }

    /// A message that no delta told.
    fn untold(&mut self, event: &Value, flow: &mut Flow) {
        let content = event["item"]["content"].as_array().filter(|_| !self.passed);
        for part in content.into_iter().flatten() {
            if let Some(text) = text_of(&part["text"]) {
                self.words(event, Kind::Text, text.to_owned(), flow);
            } else if let Some(text) = text_of(&part["refusal"]) {
                self.words(event, Kind::Refusal, text.to_owned(), flow);
            }
        }
    }

    fn completed(&mut self, response: &Value, flow: &mut Flow) {
        if !self.any
            && let Ok(answer) = answer_in::parse_answer(response)
        {
            // Some providers stream only this one event.
            for event in answer.events() {
                self.replay(event, response, flow);
            }
        }
        if let Some(usage) = report(response) {
            flow.usage(usage);
        }
        flow.stop(stop::of(response, self.has_calls, self.refused));
        flow.end();
    }

    fn replay(&mut self, event: Event, response: &Value, flow: &mut Flow) {
        match event {
            Event::Start(_) => start(response, flow),
            Event::Open { kind, .. } => {
                self.has_calls |= matches!(kind, BlockKind::ToolCall { .. });
                self.refused |= matches!(kind, BlockKind::Refusal);
                flow.open(kind);
            }
            Event::Delta { block, delta } => {
                flow.delta(block, delta);
            }
            Event::Close { block } => flow.close(block),
            _ => {}
        }
    }

    fn open(&mut self, event: &Value, kind: Kind, block: BlockKind, flow: &mut Flow) -> Option<usize> {
        let block = flow.open(block)?;
        self.any = true;
        let (output, part) = place(event);
        self.items.push(Item { output, part, block, kind, empty: true });
        Some(self.items.len() - 1)
    }

    fn find(&self, event: &Value, kind: Kind) -> Option<usize> {
        let (output, part) = place(event);
        let whole = matches!(kind, Kind::Reasoning | Kind::Call);
        self.items.iter().position(|item| item.kind == kind && item.output == output && (whole || item.part == part))
    }

    fn seen(&self, event: &Value) -> bool {
        self.items.iter().any(|item| item.output == place(event).0)
    }

    fn close(&mut self, output: Option<u64>, flow: &mut Flow) {
        let passed = self.passed;
        self.items.retain(|item| {
            let this = Some(item.output) == output;
            if this {
                if item.kind == Kind::Call && item.empty && !passed {
                    flow.delta(item.block, Delta::Arguments("{}".to_owned()));
                }
                flow.close(item.block);
            }
            !this
        });
    }
}

fn start(response: &Value, flow: &mut Flow) {
    if !flow.has_started() {
        let (id, model) = (string_of(&response["id"]), string_of(&response["model"]));
        flow.start(Start { id, model, created: whole(&response["created_at"]) });
    }
}

fn report(response: &Value) -> Option<Usage> {
    Some(usage::read(&response["usage"])?.at(&response["service_tier"]))
}

fn failed(response: &Value, flow: &mut Flow) {
    let error = match &response["error"] {
        error @ Value::Object(_) => openai_chat::error_of_value(0, error),
        _ => Error::new(meaning::Kind::Server, "the provider gave its answer up"),
    };
    flow.fail_at(report(response), error);
}

fn place(event: &Value) -> (u64, u64) {
    (event["output_index"].as_u64().unwrap_or(0), event["content_index"].as_u64().unwrap_or(0))
}
