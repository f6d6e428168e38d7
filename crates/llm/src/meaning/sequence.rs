//! Blocks one after the other, for dialects that cannot interleave: what belongs to a later block waits until the one
//! before it is closed.

use std::collections::VecDeque;

use super::{Delta, Error, Event};

#[derive(Debug)]
pub(crate) struct Sequence {
    current: Option<usize>,
    waiting: VecDeque<Waiting>,
    held: usize,
    max: usize,
    failed: bool,
}

#[derive(Debug)]
struct Waiting {
    block: usize,
    events: Vec<Event>,
}

impl Sequence {
    pub(crate) fn new(max: usize) -> Self {
        Self { current: None, waiting: VecDeque::new(), held: 0, max, failed: false }
    }

    /// Hands on what may be said now.
    pub(crate) fn push(&mut self, event: Event, say: &mut dyn FnMut(Event)) {
        if self.failed {
            return;
        }
        match &event {
            Event::Open { block, .. } if self.current.is_some() => {
                let block = *block;
                self.hold(block, event, say);
            }
            Event::Open { block, .. } => {
                self.current = Some(*block);
                say(event);
            }
            Event::Delta { block, .. } | Event::Close { block } if self.current != Some(*block) => {
                let block = *block;
                self.hold(block, event, say);
            }
            Event::Close { .. } => {
                say(event);
                self.advance(say);
            }
            _ => say(event),
        }
    }

    fn hold(&mut self, block: usize, event: Event, say: &mut dyn FnMut(Event)) {
        self.held += size(&event);
        if self.held > self.max {
            self.failed = true;
            self.waiting.clear();
            return say(Event::Error(Error::bad_stream("interleaved tool calls grew past the allowed size")));
        }
        match self.waiting.iter_mut().find(|waiting| waiting.block == block) {
            Some(waiting) => waiting.events.push(event),
            None => self.waiting.push_back(Waiting { block, events: vec![event] }),
        }
    }

    /// The next waiting block speaks; if it is closed already, so does the one after it.
    fn advance(&mut self, say: &mut dyn FnMut(Event)) {
        self.current = None;
        while let Some(next) = self.waiting.pop_front() {
            let closed = matches!(next.events.last(), Some(Event::Close { .. }));
            for event in next.events {
                self.held = self.held.saturating_sub(size(&event));
                say(event);
            }
            if !closed {
                self.current = Some(next.block);
                return;
            }
        }
    }
}

fn size(event: &Event) -> usize {
    let text = match event {
        Event::Delta { delta: Delta::Text(text) | Delta::Arguments(text), .. } => text.len(),
        Event::Delta { delta: Delta::Signature(signature), .. } => signature.value.len(),
        _ => 0,
    };
    text + std::mem::size_of::<Event>()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::meaning::BlockKind;

    fn call(block: usize) -> Event {
        let kind = BlockKind::ToolCall { id: block.to_string(), name: "f".into(), signature: None };
        Event::Open { block, kind }
    }

    fn arguments(block: usize, text: &str) -> Event {
        Event::Delta { block, delta: Delta::Arguments(text.into()) }
    }

    #[test]
    fn line_8_interleaved_calls_leave_one_after_the_other() {
        let mut sequence = Sequence::new(10_000);
        let mut said = Vec::new();
        for event in [
            call(0),
            call(1),
            arguments(1, "b"),
            arguments(0, "a"),
            call(2),
            Event::Close { block: 1 },
            Event::Close { block: 0 },
            arguments(2, "c"),
            Event::Close { block: 2 },
        ] {
            sequence.push(event, &mut |event| said.push(event));
        }
        let close = |block| Event::Close { block };
        let want = [
            call(0),
            arguments(0, "a"),
            close(0),
            call(1),
            arguments(1, "b"),
            close(1),
            call(2),
            arguments(2, "c"),
            close(2),
        ];
        assert_eq!(said, want);
    }

    #[test]
    fn what_waits_is_bounded() {
        let mut sequence = Sequence::new(1_000);
        let mut failed = 0;
        for event in std::iter::once(call(0)).chain((0..100).map(|_| arguments(1, "xxxxxxxxxxxxxxxxxxxx"))) {
            sequence.push(event, &mut |event| failed += usize::from(matches!(event, Event::Error(_))));
        }
        assert_eq!(failed, 1);
    }
}
