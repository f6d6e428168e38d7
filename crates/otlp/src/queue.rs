//! What waits for the collector: bounded by number and by memory, taken in batches.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};

use smallvec::SmallVec;

/// So many are sent at once.
pub(crate) const BATCH: usize = 512;
/// Or so much: collectors refuse more than 4 MiB in one message.
const BATCH_BYTES: usize = 2 << 20;

/// Something that is told in batches.
pub(crate) trait Told {
    /// Bytes that all of them may hold while they wait, whatever the document says about their number.
    const MOST_BYTES: usize;

    /// Nearly what it keeps.
    fn size(&self) -> usize;
}

#[derive(Debug)]
pub(crate) struct Queue<T> {
    waiting: Mutex<Waiting<T>>,
    /// How many are in it, to be read without the lock.
    count: AtomicUsize,
}

#[derive(Debug)]
struct Waiting<T> {
    things: VecDeque<T>,
    bytes: usize,
}

impl<T> Default for Queue<T> {
    fn default() -> Self {
        Self { waiting: Mutex::new(Waiting { things: VecDeque::new(), bytes: 0 }), count: AtomicUsize::new(0) }
    }
}

impl<T: Told> Queue<T> {
    /// All of what belongs together or none: half a trace tells nothing. `Ok(true)`: a batch is full now. An error says
    /// how many found no room.
    pub(crate) fn put<A: smallvec::Array<Item = T>>(&self, things: SmallVec<A>, most: usize) -> Result<bool, usize> {
        let bytes = things.iter().map(Told::size).sum::<usize>();
        let mut waiting = self.lock();
        let before = waiting.things.len();
        if before + things.len() > most || waiting.bytes + bytes > T::MOST_BYTES {
            return Err(things.len());
        }
        waiting.bytes += bytes;
        waiting.things.extend(things);
        let now = waiting.things.len();
        self.count.store(now, Relaxed);
        Ok(before < BATCH && now >= BATCH)
    }

    /// The oldest make room until so many are left, of no more than so many bytes. Says how many went.
    pub(crate) fn keep(&self, most: usize, bytes: usize) -> usize {
        let mut waiting = self.lock();
        let mut gone = 0;
        while waiting.things.len() > most || waiting.bytes > bytes {
            let Some(oldest) = waiting.things.pop_front() else { break };
            waiting.bytes -= oldest.size();
            gone += 1;
        }
        self.count.store(waiting.things.len(), Relaxed);
        gone
    }

    /// The next that wait; empty: there are none.
    pub(crate) fn take(&self) -> Vec<T> {
        let mut waiting = self.lock();
        let mut bytes = 0;
        let fits = |thing: &&T| {
            bytes += thing.size();
            bytes <= BATCH_BYTES
        };
        let taken = waiting.things.iter().take(BATCH).take_while(fits).count().max(1);
        let taken = taken.min(waiting.things.len());
        let batch: Vec<_> = waiting.things.drain(..taken).collect();
        waiting.bytes -= batch.iter().map(Told::size).sum::<usize>();
        self.count.store(waiting.things.len(), Relaxed);
        batch
    }

    pub(crate) fn len(&self) -> usize {
        self.count.load(Relaxed)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Waiting<T>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use opentelemetry::KeyValue;
    use opentelemetry::trace::{SpanContext, SpanId, SpanKind, Status};
    use opentelemetry_sdk::trace::SpanData;

    use super::*;
    use crate::span::Spans;

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
        assert_eq!((queue.keep(0, 0), queue.len()), (3, 0));
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

    #[test]
    fn the_oldest_make_room_by_number_and_by_bytes() {
        let queue = Queue::default();
        for _ in 0..10 {
            assert_eq!(queue.put(spans(1, 1_000), 10), Ok(false));
        }
        assert_eq!((queue.keep(8, usize::MAX), queue.len()), (2, 8));
        assert_eq!((queue.keep(8, 4_500), queue.len()), (5, 3), "each holds a little more than its text");
        assert_eq!((queue.keep(8, 4_500), queue.take().len(), queue.lock().bytes), (0, 3, 0));
    }
}
