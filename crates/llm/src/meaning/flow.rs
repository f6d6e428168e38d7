//! What decoders speak through: keeps the promises of [`super::event`], whatever the provider does.

use serde_json::json;

use super::{BlockKind, Delta, Error, Event, Start, Stop, Usage};
use crate::bounds::Bounds;
use crate::{Dialect, ids};

#[derive(Debug)]
pub(crate) struct Flow {
    bounds: Bounds,
    out: Vec<Event>,
    started: bool,
    blocks: usize,
    /// Numbers of open blocks. Few: linear search is fine.
    open: Vec<usize>,
    /// Why the model stopped; told at the end, since some providers say it more than once or too early.
    stop: Option<Stop>,
    has_calls: bool,
    usage: Option<Usage>,
    over: bool,
}

impl Flow {
    pub(crate) fn new(bounds: Bounds) -> Self {
        Self {
            bounds,
            out: Vec::new(),
            started: false,
            blocks: 0,
            open: Vec::new(),
            stop: None,
            has_calls: false,
            usage: None,
            over: false,
        }
    }

    pub(crate) fn take(&mut self, out: &mut Vec<Event>) {
        out.append(&mut self.out);
    }

    pub(crate) fn is_over(&self) -> bool {
        self.over
    }

    pub(crate) fn has_started(&self) -> bool {
        self.started
    }

    pub(crate) fn start(&mut self, start: Start) {
        if !self.over && !std::mem::replace(&mut self.started, true) {
            self.out.push(Event::Start(start));
        }
    }

    /// The number of the new block; `None` if the stream is over, maybe for having too many.
    pub(crate) fn open(&mut self, mut kind: BlockKind) -> Option<usize> {
        // The provider may be a gateway like us.
        if let BlockKind::ToolCall { id, signature, .. } = &mut kind {
            ids::open(id, signature);
            self.has_calls = true;
        }
        self.start(Start::default());
        if self.blocks >= self.bounds.blocks {
            self.fail(Error::bad_stream("the answer has more blocks than allowed"));
        }
        if self.over {
            return None;
        }
        let block = self.blocks;
        self.blocks += 1;
        self.open.push(block);
        self.out.push(Event::Open { block, kind });
        Some(block)
    }

    /// Something beside the answer that only its dialect has: named, so that who cannot say it can tell.
    pub(crate) fn aside(&mut self, dialect: Dialect, name: &str) {
        let value = json!({"type": name});
        if let Some(block) = self.open(BlockKind::Foreign { dialect, value }) {
            self.close(block);
        }
    }

    /// Into an open block; `false` if it is closed already.
    pub(crate) fn delta(&mut self, block: usize, delta: Delta) -> bool {
        let open = self.open.contains(&block);
        if open && !self.over {
            self.out.push(Event::Delta { block, delta });
        }
        open
    }

    pub(crate) fn close(&mut self, block: usize) {
        if let Some(at) = self.open.iter().position(|open| *open == block) {
            self.open.remove(at);
            if !self.over {
                self.out.push(Event::Close { block });
            }
        }
    }

    pub(crate) fn close_all(&mut self) {
        for block in std::mem::take(&mut self.open) {
            if !self.over {
                self.out.push(Event::Close { block });
            }
        }
    }

    pub(crate) fn usage(&mut self, usage: Usage) {
        if !self.over && self.usage != Some(usage) {
            self.start(Start::default());
            self.usage = Some(usage);
            self.out.push(Event::Usage(usage));
        }
    }

    pub(crate) fn stop(&mut self, stop: Stop) {
        self.stop = Some(stop);
    }

    pub(crate) fn ping(&mut self) {
        if !self.over && self.started {
            self.out.push(Event::Ping);
        }
    }

    /// The provider said that it is done, or closed the stream after it said why it stopped.
    pub(crate) fn end(&mut self) {
        if self.over {
            return;
        }
        let Some(stop) = self.stop.take() else {
            return self.fail(Error::bad_stream("the provider's stream ended before its answer did"));
        };
        let stop = if stop == Stop::EndTurn && self.has_calls { Stop::ToolUse } else { stop };
        self.start(Start::default());
        self.close_all();
        self.out.extend([Event::Stop(stop), Event::End]);
        self.over = true;
    }

    /// The provider said that it is done; why may never have been said.
    pub(crate) fn done(&mut self) {
        if self.started {
            self.stop.get_or_insert(Stop::EndTurn);
        }
        self.end();
    }

    /// It failed, and this is what it came to until then. Where nothing was told somebody else may still be asked.
    pub(crate) fn fail_at(&mut self, usage: Option<Usage>, error: Error) {
        if let Some(usage) = usage.filter(|_| self.started) {
            self.usage(usage);
        }
        self.fail(error);
    }

    pub(crate) fn fail(&mut self, error: Error) {
        if !std::mem::replace(&mut self.over, true) {
            self.out.push(Event::Error(error));
        }
    }
}
