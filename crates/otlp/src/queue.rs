//! Spans on their way to the collector: bounded by number and by memory, taken in batches.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};

use opentelemetry::Value;
use opentelemetry_sdk::trace::SpanData;

use crate::span::Spans;

/// Of spans that wait, whatever the document says about their number.
const MOST_BYTES: usize = 64 << 20;
/// So many are sent at once.
pub(crate) const BATCH: usize = 512;
/// Or so much: collectors refuse more than 4 MiB in one message.
const BATCH_BYTES: usize = 2 << 20;

#[derive(Debug, Default)]
pub(crate) struct Queue {
    waiting: Mutex<Waiting>,
    /// Spans in it, to be read without the lock.
    count: AtomicUsize,
}

#[derive(Debug, Default)]
struct Waiting {
    spans: VecDeque<SpanData>,
    bytes: usize,
}

impl Queue {
    /// All of a request's spans or none: half a trace tells nothing. `Ok(true)`: a batch is full now. An error says how
    /// many found no room.
    pub(crate) fn put(&self, spans: Spans, most: usize) -> Result<bool, usize> {
        let bytes = spans.iter().map(size).sum::<usize>();
        let mut waiting = self.lock();
        let before = waiting.spans.len();
        if before + spans.len() > most || waiting.bytes + bytes > MOST_BYTES {
            return Err(spans.len());
        }
        waiting.bytes += bytes;
        waiting.spans.extend(spans);
        let now = waiting.spans.len();
        self.count.store(now, Relaxed);
        Ok(before < BATCH && now >= BATCH)
    }

    /// The next that wait; empty: there are none.
    pub(crate) fn take(&self) -> Vec<SpanData> {
        let mut waiting = self.lock();
        let mut bytes = 0;
        let fits = |span: &&SpanData| {
            bytes += size(span);
            bytes <= BATCH_BYTES
        };
        let taken = waiting.spans.iter().take(BATCH).take_while(fits).count().max(1);
        let taken = taken.min(waiting.spans.len());
        let batch: Vec<_> = waiting.spans.drain(..taken).collect();
        waiting.bytes -= batch.iter().map(size).sum::<usize>();
        self.count.store(waiting.spans.len(), Relaxed);
        batch
    }

    /// Nobody will take them. Says how many there were.
    pub(crate) fn clear(&self) -> usize {
        let mut waiting = self.lock();
        self.count.store(0, Relaxed);
        std::mem::take(&mut *waiting).spans.len()
    }

    pub(crate) fn len(&self) -> usize {
        self.count.load(Relaxed)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Nearly what a span keeps: texts are all that callers can make long.
fn size(span: &SpanData) -> usize {
    let text = |value: &Value| if let Value::String(text) = value { text.as_str().len() } else { 0 };
    let attributes = span.attributes.iter().map(|pair| size_of_val(pair) + text(&pair.value));
    size_of_val(span) + span.name.len() + attributes.sum::<usize>()
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use opentelemetry::KeyValue;
    use opentelemetry::trace::{SpanContext, SpanId, SpanKind, Status};

    use super::*;

    fn spans(count: usize, text: usize) -> Spans {
        let span = SpanData {
            span_context: SpanContext::empty_context(),
            parent_span_id: SpanId::INVALID,
            parent_span_is_remote: false,
            span_kind: SpanKind::Server,
            name: "n".into(),
            start_time: SystemTime::UNIX_EPOCH,
            end_time: SystemTime::UNIX_EPOCH,
            attributes: vec![KeyValue::new("k", "x".repeat(text))],
            dropped_attributes_count: 0,
            events: Default::default(),
            links: Default::default(),
            status: Status::Unset,
            instrumentation_scope: crate::span::SCOPE.clone(),
        };
        std::iter::repeat_n(span, count).collect()
    }

    #[test]
    fn a_trace_has_room_as_a_whole_or_not_at_all() {
        let queue = Queue::default();
        for _ in 0..3 {
            assert_eq!(queue.put(spans(3, 1), 10), Ok(false));
        }
        assert_eq!(queue.put(spans(3, 1), 10), Err(3));
        assert_eq!((queue.len(), queue.put(spans(1, 1), 10)), (10 - 1, Ok(false)));
        assert_eq!((queue.take().len(), queue.len(), queue.take().len()), (10, 0, 0));
        assert_eq!(queue.put(spans(3, 1), 10), Ok(false), "what was taken makes room");
        assert_eq!((queue.clear(), queue.len()), (3, 0));
    }

    #[test]
    fn long_texts_fill_it_before_many_spans_do() {
        let queue = Queue::default();
        let put = (0..).take_while(|_| queue.put(spans(1, 1 << 20), usize::MAX).is_ok()).count();
        assert!((60..64).contains(&put), "{put}");
        let batches: Vec<_> = std::iter::repeat_with(|| queue.take().len()).take_while(|taken| *taken > 0).collect();
        assert!(batches.iter().all(|taken| *taken == 1), "no message is too large for a collector: {batches:?}");
        assert_eq!(batches.len(), put);
        assert_eq!(queue.lock().bytes, 0);
    }

    #[test]
    fn whoever_fills_a_batch_is_told_once() {
        let queue = Queue::default();
        let told: Vec<_> = (0..BATCH + 10).filter(|_| queue.put(spans(1, 1), usize::MAX) == Ok(true)).collect();
        assert_eq!(told, [BATCH - 1]);
        assert_eq!((queue.take().len(), queue.take().len()), (BATCH, 10));
    }
}
