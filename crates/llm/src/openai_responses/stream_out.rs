//! Events → a response's stream: created, in_progress, items with their parts and deltas, all of it said again when done,
//! completed or incomplete. `sequence_number` counts, ids stay the same from added to done.

mod item;

use serde_json::{Value, json};

use self::item::Item;
use super::answer_out::{self, Response, numbered};
use super::stop;
use crate::dialect::{Dialect, Reply};
use crate::frame::sse;
use crate::json::write_value;
use crate::meaning::{BlockKind, Delta, Error, Event, Gist, Sequence, Start, Stop, Usage};
use crate::openai_chat;

#[derive(Debug)]
pub struct Encoder {
    sequence: Sequence,
    writer: Writer,
}

#[derive(Debug)]
struct Writer {
    reply: Reply,
    id: String,
    model: String,
    created: u64,
    number: u64,
    item: Option<Item>,
    /// It is closed, and not yet told to be done.
    closing: bool,
    /// Items that are done, for the last event.
    output: Vec<Value>,
    /// Bytes in `output` and in the item that grows.
    held: usize,
    refused: bool,
    failed: bool,
    stop: Stop,
    usage: Option<Usage>,
}

impl Encoder {
    pub(crate) fn new(reply: Reply) -> Self {
        let sequence = Sequence::new(reply.bounds.held);
        let writer = Writer {
            reply,
            id: String::new(),
            model: String::new(),
            created: 0,
            number: 0,
            item: None,
            closing: false,
            output: Vec::new(),
            held: 0,
            refused: false,
            failed: false,
            stop: Stop::EndTurn,
            usage: None,
        };
        Self { sequence, writer }
    }

    pub(crate) fn push(&mut self, event: Event, out: &mut Vec<u8>) {
        let Self { sequence, writer } = self;
        sequence.push(event, &mut |event| writer.write(event, out));
    }
}

impl Writer {
    fn write(&mut self, event: Event, out: &mut Vec<u8>) {
        if self.failed {
            return;
        }
        // Whether the last item was finished is known when the answer ends.
        if std::mem::take(&mut self.closing) {
            match &event {
                Event::End if self.stop.gist() == Gist::Length => self.close("incomplete", out),
                Event::Open { .. } | Event::End | Event::Error(_) => self.close("completed", out),
                _ => self.closing = true,
            }
        }
        match event {
            Event::Start(start) => self.start(&start, out),
            Event::Open { kind, .. } => self.open(kind, out),
            Event::Delta { delta, .. } => self.delta(delta, out),
            Event::Close { .. } => self.closing = true,
            Event::Usage(usage) => self.usage = Some(usage),
            Event::Stop(stop) => self.stop = stop,
            Event::Ping => out.extend_from_slice(b": ping\n\n"),
            Event::End => self.end(out),
            Event::Error(error) => self.fail(&error, out),
        }
    }

    fn start(&mut self, start: &Start, out: &mut Vec<u8>) {
        self.id = self.reply.id(&start.id, "resp_");
        self.model = self.reply.model(&start.model).to_owned();
        self.created = start.created.unwrap_or(self.reply.now);
        for name in ["response.created", "response.in_progress"] {
            let response = self.response("in_progress", Value::Null).with(Vec::new(), None).done();
            self.event(name, json!({"response": response}), out);
        }
    }

    fn open(&mut self, kind: BlockKind, out: &mut Vec<u8>) {
        let n = self.output.len();
        self.refused |= matches!(kind, BlockKind::Refusal);
        match kind {
            BlockKind::Text => self.begin(Item::text(numbered(&self.id, "msg", n)), out),
            BlockKind::Refusal => self.begin(Item::refusal(numbered(&self.id, "msg", n)), out),
            BlockKind::Reasoning => self.begin(Item::reasoning(numbered(&self.id, "rs", n)), out),
            BlockKind::ToolCall { id, name, signature } => {
                let call_id = crate::ids::call_id(&id, signature.as_ref(), Dialect::OpenAiResponses);
                self.begin(Item::call(numbered(&self.id, "fc", n), call_id, name), out);
            }
            BlockKind::Redacted(signature) => {
                let mut item = Item::reasoning(numbered(&self.id, "rs", n));
                item.sign(signature);
                self.begin(item, out);
            }
            BlockKind::Foreign { dialect: Dialect::OpenAiResponses, value } => self.whole(value, out),
            BlockKind::Media(media) => {
                if let Some(item) = answer_out::picture(&media, &numbered(&self.id, "ig", n)) {
                    self.whole(item, out);
                }
            }
            BlockKind::Foreign { .. } => {}
        }
    }

    fn begin(&mut self, item: Item, out: &mut Vec<u8>) {
        let index = self.output.len();
        self.event("response.output_item.added", json!({"output_index": index, "item": item.added()}), out);
        if let Some((name, part)) = item.part_added() {
            self.event(name, self::item::place(part, &item, index), out);
        }
        self.item = Some(item);
    }

    fn delta(&mut self, delta: Delta, out: &mut Vec<u8>) {
        let index = self.output.len();
        let Some(item) = &mut self.item else { return };
        let (text, mut event) = match delta {
            Delta::Signature(signature) => return item.sign(signature),
            Delta::Text(text) | Delta::Arguments(text) => {
                self.held += text.len();
                let first = item.first_part();
                item.push(&text);
                (text, first)
            }
        };
        if self.held > self.reply.bounds.held {
            return self.fail(&Error::bad_stream("the answer grew past the allowed size"), out);
        }
        let Some(item) = &self.item else { return };
        let (name, place) = (item.delta_name(), item.delta(&text, index));
        if let Some((name, part)) = event.take() {
            let place = self::item::place(part, item, index);
            self.event(name, place, out);
        }
        self.event(name, place, out);
    }

    fn close(&mut self, status: &'static str, out: &mut Vec<u8>) {
        let Some(item) = self.item.take() else { return };
        let index = self.output.len();
        for (name, part) in item.parts_done() {
            self.event(name, self::item::place(part, &item, index), out);
        }
        let mut done = item.done();
        if done["status"] == "completed" {
            done["status"] = status.into();
        }
        self.whole_done(done, index, out);
    }

    fn whole(&mut self, value: Value, out: &mut Vec<u8>) {
        let index = self.output.len();
        self.event("response.output_item.added", json!({"output_index": index, "item": value}), out);
        self.whole_done(value, index, out);
    }

    fn whole_done(&mut self, value: Value, index: usize, out: &mut Vec<u8>) {
        self.event("response.output_item.done", json!({"output_index": index, "item": value}), out);
        self.output.push(value);
    }

    fn end(&mut self, out: &mut Vec<u8>) {
        let (status, details) = stop::write(&self.stop, self.refused);
        let output = std::mem::take(&mut self.output);
        let response = self.response(status, details).with(output, self.usage.as_ref()).done();
        let name = if status == "completed" { "response.completed" } else { "response.incomplete" };
        self.event(name, json!({"response": response}), out);
    }

    /// A response that began fails; one that did not is an error.
    fn fail(&mut self, error: &Error, out: &mut Vec<u8>) {
        self.failed = true;
        let told = openai_chat::error_to_value(error);
        if self.number == 0 {
            let event = json!({"code": told["code"], "message": told["message"], "param": told["param"]});
            return self.event("error", event, out);
        }
        let output = std::mem::take(&mut self.output);
        let mut response = self.response("failed", Value::Null).with(output, self.usage.as_ref()).done();
        let code = if told["code"].is_null() { &told["type"] } else { &told["code"] };
        response["error"] = json!({"code": code, "message": told["message"]});
        self.event("response.failed", json!({"response": response}), out);
    }

    fn response(&self, status: &'static str, details: Value) -> Response<'_> {
        Response {
            id: &self.id,
            created: self.created,
            model: &self.model,
            status,
            details,
            echo: self.reply.echo.as_deref(),
        }
    }

    fn event(&mut self, name: &str, fields: Value, out: &mut Vec<u8>) {
        let mut event = json!({"type": name, "sequence_number": self.number});
        self.number += 1;
        if let (Value::Object(event), Value::Object(fields)) = (&mut event, fields) {
            event.extend(fields);
        }
        let mut data = Vec::with_capacity(256);
        write_value(&event, &mut data);
        sse::write(Some(name), &data, out);
    }
}
