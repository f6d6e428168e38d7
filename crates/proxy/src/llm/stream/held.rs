//! Bytes of an event that is not whole yet. Nobody can use half of one, and behind it no error could be told.

use bytes::Bytes;
use smallvec::SmallVec;

use crate::llm::waiting::Waiting;

/// Longer ones pass in parts.
const MOST: usize = 64 << 10;

#[derive(Debug, Default)]
pub(super) struct Held {
    pieces: SmallVec<[Bytes; 2]>,
}

/// So much of an event is not held.
pub(super) fn is_too_much(open: usize) -> bool {
    open > MOST
}

impl Held {
    /// `open`: how much at the end of all that came is no whole event.
    pub(super) fn push(&mut self, mut data: Bytes, open: usize, ready: &mut Waiting) {
        let open = if is_too_much(open) { 0 } else { open };
        if open < data.len() {
            self.release(ready);
            ready.push(data.split_to(data.len() - open));
        }
        if !data.is_empty() {
            self.pieces.push(data);
        }
    }

    pub(super) fn release(&mut self, ready: &mut Waiting) {
        self.pieces.drain(..).for_each(|piece| ready.push(piece));
    }
}

#[cfg(test)]
mod tests {
    use tidegate_llm::Dialect;
    use tidegate_llm::bounds::Bounds;

    use super::*;

    /// What went out at the end of each piece.
    fn passed(stream: &[u8], step: usize) -> Vec<Vec<u8>> {
        let mut decoder = Dialect::OpenAiResponses.decoder(Bounds::default());
        let (mut held, mut ready, mut out) = (Held::default(), Waiting::default(), Vec::new());
        for piece in stream.chunks(step) {
            decoder.push(piece, &mut Vec::new());
            held.push(Bytes::copy_from_slice(piece), decoder.open(), &mut ready);
            out.push(ready.take().map(|bytes| bytes.to_vec()).unwrap_or_default());
        }
        out
    }

    #[test]
    fn only_whole_events_go_out_and_each_with_its_last_byte() {
        for end in ["\n\n", "\r\n\r\n", "\r\r"] {
            let event = format!("event: x{}data: {{\"a\":1}}{end}", &end[..end.len() / 2]);
            let stream = event.repeat(3) + "data: {\"ha";
            for step in 1..stream.len() {
                let mut sent = 0;
                for (nth, piece) in passed(stream.as_bytes(), step).iter().enumerate() {
                    let came = ((nth + 1) * step).min(stream.len());
                    sent += piece.len();
                    let whole = came / event.len() * event.len();
                    // A CR ends a line; the LF that follows it is the same end.
                    let early = usize::from(end == "\r\n\r\n" && (came + 1).is_multiple_of(event.len()));
                    assert!(sent == whole || (early == 1 && sent == came), "{end:?} step {step}: {sent} of {came}");
                }
                assert_eq!(sent, event.len() * 3);
            }
        }
    }

    #[test]
    fn what_is_too_long_to_be_held_passes() {
        let mut stream = vec![b'x'; MOST + 10];
        stream.extend_from_slice(b"\n\ndata: y");
        let sent: usize = passed(&stream, 1_000).iter().map(Vec::len).sum();
        assert_eq!(sent, stream.len() - "data: y".len());
    }
}
