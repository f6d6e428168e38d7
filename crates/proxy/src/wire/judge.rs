//! What an h2 client may make us do for nothing. h2 bounds what it keeps, not what it is made to look at: frames that carry
//! no request, no body and no room for an answer cost the client nine bytes, and us a turn each. They are paid from a bucket
//! that refills with time and with what passes usefully both ways; streams given up from another, refilled by answers.
//!
//! Beside that, what the h2 crate reads more leniently than RFC 9113, or answers with another code, is put right here. Knows
//! frames, and no field of a request. Called by `wire`, which turns a verdict into GOAWAY.

use super::frames::{ACK, END_HEADERS, END_STREAM, Frames, Head, PADDED, Step, kind};
use crate::bounds::Bounds;
use crate::connection::PREFACE;

mod bucket;
mod trailers;

pub(crate) use bucket::Bucket;
use trailers::Trailers;

/// Milliseconds since the connection began. Asked only when a bucket is empty.
pub(crate) type Now<'a> = &'a dyn Fn() -> u64;

/// Why a connection ends: the code of its GOAWAY, and the name in the metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Verdict {
    pub(super) code: u32,
    pub(super) reason: &'static str,
}

const PROTOCOL: Verdict = Verdict { code: 0x1, reason: "protocol_error" };
const FLOW_CONTROL: Verdict = Verdict { code: 0x3, reason: "flow_control_error" };
const FRAME_SIZE: Verdict = Verdict { code: 0x6, reason: "frame_size_error" };
const CONTROL_FLOOD: Verdict = Verdict { code: 0xb, reason: "control_flood" };
const RESET_FLOOD: Verdict = Verdict { code: 0xb, reason: "reset_flood" };

/// What was found in some bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Found {
    Nothing,
    /// h2 will end the connection by itself: with this code, if it has a worse one.
    Named(Verdict),
    /// Nothing from this byte on may be looked at: it ends here.
    Ends(Verdict, usize),
}

#[derive(Debug)]
pub(super) struct Judge {
    inward: Frames,
    outward: Frames,
    control: Bucket,
    resets: Bucket,
    /// Bytes of the preface that are still to come, and whether the first frame has (§ 3.4).
    preface: usize,
    greeted: bool,
    /// The highest stream that the client opened.
    opened: u32,
    /// A header block has not ended (§ 6.10).
    in_block: bool,
    /// The block that ends a stream (§ 8.1), while it comes.
    trailers: Option<Trailers>,
    setting: [u8; SETTING],
    /// It ends, but a frame has to end first.
    ends: Option<Verdict>,
}

/// Bytes of one setting.
const SETTING: usize = 6;
const INITIAL_WINDOW_SIZE: [u8; 2] = [0, 4];

/// A frame in a bucket: what is worth less can be counted, too.
pub(crate) const FRAME: u32 = 3;
/// What a setting costs: each of our streams may have to be gone through.
const SETTINGS_FRAMES: u32 = 10;
/// Frames that may be paid for by data long before they come: as much may be on its way.
const PAID_AHEAD: u32 = 1 << 18;
/// A request may come with priorities and windows of its own.
const REQUEST_FRAMES: u32 = 6;

impl Judge {
    pub(super) fn new(bounds: &Bounds) -> Self {
        Self {
            inward: Frames::default(),
            outward: Frames::default(),
            control: Bucket::new(bounds.h2_control_frames, bounds.h2_control_rate, PAID_AHEAD),
            resets: Bucket::new(bounds.h2_cancels, bounds.h2_cancel_rate, bounds.h2_cancels),
            preface: PREFACE.len(),
            greeted: false,
            opened: 0,
            in_block: false,
            trailers: None,
            setting: [0; SETTING],
            ends: None,
        }
    }

    /// The client sent these.
    pub(super) fn hear(&mut self, bytes: &[u8], now: Now<'_>) -> Found {
        let preface = self.preface.min(bytes.len());
        self.preface -= preface;
        let (mut from, mut began, mut found) = (preface, None, Found::Nothing);
        while let Some((step, next)) = self.inward.step(bytes, from) {
            let named = match step {
                Step::Head { head, begins } => {
                    began = begins;
                    self.ends = self.ends.or_else(|| self.judge(head, now));
                    sized(head)
                }
                Step::Payload { head, at, bytes } => self.payload(head, at, bytes),
            };
            from = next;
            if let Some(verdict) = self.ends
                && let Some(place) = began.or(self.inward.is_between().then_some(from))
            {
                return Found::Ends(verdict, place);
            }
            if let (Some(verdict), Found::Nothing) = (named, found) {
                found = Found::Named(verdict);
            }
        }
        found
    }

    /// We sent these.
    pub(super) fn say(&mut self, bytes: &[u8]) {
        let mut from = 0;
        while let Some((step, next)) = self.outward.step(bytes, from) {
            from = next;
            let Step::Head { head, .. } = step else { continue };
            if head.kind == kind::DATA {
                self.control.earn(worth(head.length));
            }
            if matches!(head.kind, kind::DATA | kind::HEADERS) && head.has(END_STREAM) {
                self.resets.earn(FRAME);
            }
        }
    }

    /// Puts `code` into the GOAWAY in what is about to be sent, if it names an error.
    pub(super) fn rename(&self, bytes: &mut [u8], code: u32) {
        let (mut outward, mut from, mut places) = (self.outward.clone(), 0, Vec::new());
        while let Some((step, next)) = outward.step(bytes, from) {
            if let Step::Payload { head: Head { kind: kind::GOAWAY, .. }, at: 0, bytes: payload } = step
                && payload.get(4..8).is_some_and(|code| code != [0; 4])
            {
                places.push(from + 4);
            }
            from = next;
        }
        for place in places {
            bytes[place..place + 4].copy_from_slice(&code.to_be_bytes());
        }
    }

    /// A header block began and has not ended: the client is at it, or slow.
    pub(super) fn is_in_block(&self) -> bool {
        self.in_block || self.inward.within().is_some_and(|head| head.kind == kind::HEADERS)
    }

    fn judge(&mut self, head: Head, now: Now<'_>) -> Option<Verdict> {
        if !std::mem::replace(&mut self.greeted, true) && (head.kind != kind::SETTINGS || head.has(ACK)) {
            return Some(PROTOCOL);
        }
        let paid = match head.kind {
            kind::HEADERS => self.request(head, now),
            kind::DATA if head.length > u32::from(head.has(PADDED)) => {
                self.control.earn(worth(head.length));
                true
            }
            kind::DATA if head.has(END_STREAM) => true,
            kind::RST_STREAM if !self.resets.take(FRAME, now) => return Some(RESET_FLOOD),
            kind::RST_STREAM => true,
            kind::SETTINGS if !head.has(ACK) => self.control.take(SETTINGS_FRAMES * FRAME, now),
            kind::CONTINUATION => {
                self.in_block &= !head.has(END_HEADERS);
                self.control.take(FRAME, now)
            }
            _ => self.control.take(FRAME, now),
        };
        (!paid).then_some(CONTROL_FLOOD)
    }

    fn request(&mut self, head: Head, now: Now<'_>) -> bool {
        self.in_block = !head.has(END_HEADERS);
        self.trailers = None;
        if head.stream > self.opened {
            self.opened = head.stream;
            self.control.earn(REQUEST_FRAMES * FRAME);
            return true;
        }
        self.trailers = (head.length > 0 && head.has(END_HEADERS)).then(|| Trailers::new(head));
        self.control.take(FRAME, now)
    }

    fn payload(&mut self, head: Head, at: u32, bytes: &[u8]) -> Option<Verdict> {
        match head.kind {
            kind::SETTINGS if !head.has(ACK) => self.settings(at, bytes),
            kind::HEADERS => {
                let trailers = self.trailers.as_mut()?;
                trailers.hear(bytes);
                if at as usize + bytes.len() == head.length as usize && self.trailers.take()?.has_pseudo_field() {
                    self.ends = Some(PROTOCOL);
                }
                None
            }
            _ => None,
        }
    }

    /// § 6.5.2: the one setting whose bad value has a code of its own.
    fn settings(&mut self, at: u32, bytes: &[u8]) -> Option<Verdict> {
        let mut bad = None;
        for (place, byte) in (at as usize..).zip(bytes) {
            self.setting[place % SETTING] = *byte;
            let whole = place % SETTING == SETTING - 1;
            if whole && self.setting[..2] == INITIAL_WINDOW_SIZE && self.setting[2] > 0x7f {
                bad = Some(FLOW_CONTROL);
            }
        }
        bad
    }
}

/// § 4.2, § 6: frames of the wrong size for what they are.
fn sized(head: Head) -> Option<Verdict> {
    let length = head.length;
    let wrong = match head.kind {
        kind::PRIORITY => length != 5,
        kind::RST_STREAM | kind::WINDOW_UPDATE => length != 4,
        kind::SETTINGS => !length.is_multiple_of(6) || (head.has(ACK) && length != 0),
        kind::PING => length != 8,
        kind::GOAWAY => length < 8,
        _ => false,
    };
    wrong.then_some(FRAME_SIZE)
}

/// What DATA pays for, in either direction: a client that opens both windows for each frame, and for each KiB, is no flood; one
/// that opens them by single bytes is.
fn worth(length: u32) -> u32 {
    length.min(4 * FRAME) + 2 * FRAME * (length >> 10)
}

/// A client's bytes, and ours (docs/fuzzing.md): however they are cut, the same end.
pub fn fuzz(bytes: &[u8]) {
    let Some((first, bytes)) = bytes.split_first() else { return };
    let step = usize::from(*first) + 1;
    let ends = |step: usize| {
        let mut judge = Judge::new(&Bounds::default());
        let found = bytes.chunks(step).find_map(|piece| match judge.hear(piece, &|| 0) {
            Found::Ends(verdict, place) => {
                assert!(place <= piece.len(), "it ends where nothing is");
                Some(verdict)
            }
            Found::Named(_) | Found::Nothing => None,
        });
        found.or(judge.ends)
    };
    assert_eq!(ends(usize::MAX), ends(step), "other cuts, another end");
    let mut judge = Judge::new(&Bounds::default());
    for piece in bytes.chunks(step) {
        let mut renamed = piece.to_vec();
        judge.rename(&mut renamed, 0xb);
        assert_eq!(renamed.len(), piece.len());
        judge.say(piece);
    }
}

#[cfg(test)]
mod tests;
