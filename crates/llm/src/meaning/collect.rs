//! A stream's events gathered into one answer, and an answer played as events.

use serde_json::Map;

use super::{Answer, BlockKind, Body, Delta, Error, Event, Part, Start, ToolCall};
use crate::Dialect;

/// Gathers events. Bounded by whoever bounds the stream.
#[derive(Debug)]
pub struct Collector {
    answer: Answer,
    error: Option<Error>,
    ended: bool,
}

impl Collector {
    pub fn new(dialect: Dialect) -> Self {
        Self { answer: Answer::new(dialect), error: None, ended: false }
    }

    pub fn push(&mut self, event: &Event) {
        match event {
            Event::Start(start) => self.start(start),
            Event::Open { kind, .. } => self.answer.parts.push(opened(kind)),
            Event::Delta { block, delta } => {
                if let Some(part) = self.answer.parts.get_mut(*block) {
                    grow(&mut part.body, delta);
                }
            }
            Event::Usage(usage) => self.answer.usage = Some(*usage),
            Event::Stop(stop) => self.answer.stop = stop.clone(),
            Event::Error(error) => self.error = Some(error.clone()),
            Event::End => self.ended = true,
            Event::Close { .. } | Event::Ping => {}
        }
    }

    /// The answer, or the error that ended it. `None`: the stream broke off before its end.
    pub fn finish(self) -> Option<Result<Answer, Error>> {
        match self.error {
            Some(error) => Some(Err(error)),
            None => self.ended.then_some(Ok(self.answer)),
        }
    }

    /// What arrived, whole or not: a call that was hung up pays for this.
    pub fn so_far(&self) -> &Answer {
        &self.answer
    }

    fn start(&mut self, start: &Start) {
        self.answer.id.clone_from(&start.id);
        self.answer.model.clone_from(&start.model);
        self.answer.created = start.created;
    }
}

fn opened(kind: &BlockKind) -> Part {
    match kind {
        BlockKind::Text => Body::Text(String::new()),
        BlockKind::Refusal => Body::Refusal(String::new()),
        BlockKind::Reasoning => Body::Reasoning { text: String::new(), signature: None },
        BlockKind::Redacted(signature) => Body::Redacted(signature.clone()),
        BlockKind::ToolCall { id, name, signature } => Body::ToolCall(ToolCall {
            id: id.clone(),
            name: name.clone(),
            arguments: String::new(),
            signature: signature.clone(),
        }),
        BlockKind::Media(media) => Body::Media(media.clone()),
        BlockKind::Foreign { dialect, value } => Body::Foreign { dialect: *dialect, value: value.clone() },
    }
    .into()
}

fn grow(body: &mut Body, delta: &Delta) {
    match (body, delta) {
        (Body::Text(text) | Body::Refusal(text) | Body::Reasoning { text, .. }, Delta::Text(more)) => {
            text.push_str(more);
        }
        (Body::ToolCall(call), Delta::Arguments(more)) => call.arguments.push_str(more),
        (Body::Reasoning { signature, .. }, Delta::Signature(new)) => *signature = Some(new.clone()),
        (Body::ToolCall(call), Delta::Signature(new)) => call.signature = Some(new.clone()),
        _ => {}
    }
}

impl Answer {
    /// The answer as a stream would have told it: for a provider that did not stream, and for stored answers.
    pub fn events(&self) -> Vec<Event> {
        let start = Start { id: self.id.clone(), model: self.model.clone(), created: self.created };
        let mut events = vec![Event::Start(start)];
        for (block, part) in self.parts.iter().enumerate().filter_map(|(i, part)| Some((i, told(&part.body)?))) {
            let (kind, deltas) = part;
            events.push(Event::Open { block, kind });
            events.extend(deltas.into_iter().map(|delta| Event::Delta { block, delta }));
            events.push(Event::Close { block });
        }
        events.extend(self.usage.map(Event::Usage));
        events.push(Event::Stop(self.stop.clone()));
        events.push(Event::End);
        renumber(&mut events);
        events
    }
}

/// Blocks are numbered without holes, also when a part has no place in a stream.
fn renumber(events: &mut [Event]) {
    let mut next = 0;
    for event in events {
        match event {
            Event::Open { block, .. } | Event::Delta { block, .. } => *block = next,
            Event::Close { block } => {
                *block = next;
                next += 1;
            }
            _ => {}
        }
    }
}

fn told(body: &Body) -> Option<(BlockKind, Vec<Delta>)> {
    Some(match body {
        Body::Text(text) => (BlockKind::Text, vec![Delta::Text(text.clone())]),
        Body::Refusal(text) => (BlockKind::Refusal, vec![Delta::Text(text.clone())]),
        Body::Reasoning { text, signature } => {
            let text = (!text.is_empty()).then(|| Delta::Text(text.clone()));
            (BlockKind::Reasoning, text.into_iter().chain(signature.clone().map(Delta::Signature)).collect())
        }
        Body::Redacted(signature) => (BlockKind::Redacted(signature.clone()), Vec::new()),
        Body::ToolCall(ToolCall { id, name, arguments, signature }) => {
            let kind = BlockKind::ToolCall { id: id.clone(), name: name.clone(), signature: signature.clone() };
            (kind, vec![Delta::Arguments(arguments.clone())])
        }
        Body::Foreign { dialect, value } => {
            (BlockKind::Foreign { dialect: *dialect, value: value.clone() }, Vec::new())
        }
        Body::Media(media) => (BlockKind::Media(media.clone()), Vec::new()),
        Body::ToolResult(_) => return None,
    })
}

impl Part {
    /// A part with nothing but its body, as a stream would have built it.
    pub fn bare(&self) -> Self {
        Self { body: self.body.clone(), cache: None, extras: Map::new() }
    }
}
