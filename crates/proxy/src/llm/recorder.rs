//! Reads along while an answer streams by, for those who want it whole: the answers that are given again, and the log.

use std::sync::Arc;

use bytes::Bytes;
use http::HeaderMap;
use tidegate_llm::kept::{self, Tag};
use tidegate_llm::meaning::{Collector, Delta, Event};
use tidegate_llm::names::Names;
use tidegate_llm::{Dialect, Reply};
use tidegate_policy::Bodies;

use super::answers::{Keep, is_whole_only};
use super::bodies;
use crate::relay::Observer;

pub(super) struct Recorder {
    collector: Collector,
    dialect: Dialect,
    reply: Reply,
    /// Of tools, where the provider knows them by others.
    names: Option<Arc<Names>>,
    bytes: usize,
    longest: usize,
    whole_only: bool,
    headers: HeaderMap,
    pub(super) keep: Option<Keep>,
    /// Of ids that its provider keeps.
    pub(super) tag: Option<Tag>,
    pub(super) log: Option<Arc<Bodies>>,
}

/// Of an answer that is logged alone.
const LONGEST: usize = 1 << 20;

impl Recorder {
    pub(super) fn new(dialect: Dialect, reply: Reply, log: Option<Arc<Bodies>>, names: Option<Arc<Names>>) -> Self {
        Self {
            collector: Collector::new(dialect),
            dialect,
            reply,
            names,
            bytes: 0,
            longest: LONGEST,
            whole_only: false,
            headers: HeaderMap::new(),
            keep: None,
            tag: None,
            log,
        }
    }

    /// The answer goes out, with this head, and may be kept.
    pub(super) fn keeps(&mut self, keep: Keep, headers: &HeaderMap) {
        self.longest = self.longest.max(keep.longest());
        self.headers = headers.clone();
        self.headers.insert(http::header::CONTENT_TYPE, http::HeaderValue::from_static("application/json"));
        self.keep = Some(keep);
    }

    pub(super) fn piece(&mut self, data: &[u8]) {
        self.whole_only |= is_whole_only(data);
    }

    pub(super) fn event(&mut self, event: &Event) {
        self.bytes += match event {
            Event::Delta { delta: Delta::Text(text) | Delta::Arguments(text), .. } => text.len(),
            Event::Delta { delta: Delta::Signature(signature), .. } => signature.value.len(),
            Event::Open { .. } => 64,
            _ => 0,
        };
        if self.bytes > self.longest {
            return;
        }
        match &self.names {
            None => self.collector.push(event),
            Some(names) => {
                let mut event = event.clone();
                names.restore_event(&mut event);
                self.collector.push(&event);
            }
        }
    }

    /// The stream is over, one way or the other. `settled`: what it came to is in the record.
    pub(super) fn ends(self: Box<Self>, whole: bool, observer: &mut Observer) {
        let Self { collector, dialect, reply, names: _, bytes, longest, whole_only, headers, keep, log, tag } = *self;
        let Some(spoken) = &mut observer.record.spoken else { return };
        if let Some(rules) = log.filter(|rules| rules.answers) {
            let text = dialect.render_answer(collector.so_far(), &reply);
            spoken.bodies.answer = Some(bodies::loggable(&rules, &text));
        }
        let Some(keep) = keep.filter(|_| whole && !whole_only && bytes <= longest) else { return };
        if let Some(Ok(answer)) = collector.finish() {
            let body = dialect.render_answer(&answer, &reply);
            let body = Bytes::from(tag.and_then(|tag| kept::tagged(&body, tag)).unwrap_or(body));
            keep.whole(&headers, &body, spoken.finish, spoken.tokens.total(), true);
        }
    }
}
