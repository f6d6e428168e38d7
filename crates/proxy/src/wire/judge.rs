//! What an h2 client may make us do for nothing. h2 bounds what it keeps, not what it is made to look at: frames that carry
//! no request, no body and no room for an answer cost the client nine bytes, and us a turn each. They are paid from a bucket
//! that refills with time and with what passes usefully both ways; streams given up from another, refilled by answers.
//!
//! Beside that, what the h2 crate reads more leniently than RFC 9113, or answers with another code, is put right here. Knows
//! frames, and no field of a request. Called by `wire`, which turns a verdict into GOAWAY.

use super::frames::{ACK, END_HEADERS, END_STREAM, Frames, Head, PADDED, PRIORITISED, Step, kind};
use crate::bounds::Bounds;
use crate::connection::PREFACE;

/// Milliseconds since the connection began. Asked only when a bucket is empty.
pub(super) type Now<'a> = &'a dyn Fn() -> u64;

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
const FRAME: u32 = 3;
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

/// So much at once, and so much in the long run.
#[derive(Debug)]
struct Bucket {
    left: u32,
    /// What time gives, and what else can be earned.
    most: u32,
    most_earned: u32,
    per_second: u32,
    /// When it was found empty the last time.
    filled: u64,
}

impl Bucket {
    fn new(frames: u32, per_second: u32, most_earned: u32) -> Self {
        let [most, most_earned, per_second] = [frames, most_earned, per_second].map(|n| n.saturating_mul(FRAME));
        Self { left: most, most, most_earned: most_earned.max(most), per_second, filled: 0 }
    }

    #[inline]
    fn take(&mut self, cost: u32, now: Now<'_>) -> bool {
        if self.left < cost {
            self.refill(now());
        }
        let paid = self.left >= cost;
        self.left = self.left.saturating_sub(if paid { cost } else { 0 });
        paid
    }

    #[inline]
    fn earn(&mut self, worth: u32) {
        self.left = self.left.saturating_add(worth).min(self.most_earned);
    }

    #[cold]
    fn refill(&mut self, now: u64) {
        let gained = now.saturating_sub(self.filled).saturating_mul(self.per_second.into()) / 1_000;
        if gained > 0 {
            self.filled = now; // Not sooner: what is less than one would be lost.
        }
        self.left = self.left.saturating_add(u32::try_from(gained).unwrap_or(u32::MAX)).min(self.most);
    }
}

/// A block of trailers, read as far as no table is needed: h2 drops the pseudo fields that must not be there (§ 8.1).
#[derive(Debug)]
struct Trailers {
    block: Vec<u8>,
    padded: bool,
    prioritised: bool,
}

/// Longer ones are not looked at.
const TRAILERS: usize = 2 << 10;
/// Of the static table (RFC 7541, appendix A): `:authority` to `:status`.
const PSEUDO: std::ops::RangeInclusive<usize> = 1..=14;

impl Trailers {
    fn new(head: Head) -> Self {
        Self { block: Vec::new(), padded: head.has(PADDED), prioritised: head.has(PRIORITISED) }
    }

    fn hear(&mut self, bytes: &[u8]) {
        let room = TRAILERS.saturating_sub(self.block.len());
        self.block.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }

    fn has_pseudo_field(&self) -> bool {
        let mut rest = &self.block[..];
        let mut padding = 0;
        if self.padded {
            let Some((length, after)) = rest.split_first() else { return false };
            (padding, rest) = (usize::from(*length), after);
        }
        if self.prioritised {
            rest = rest.get(5..).unwrap_or_default();
        }
        rest = &rest[..rest.len().saturating_sub(padding)];
        while !rest.is_empty() {
            match field(&mut rest) {
                Some(true) => return true,
                Some(false) => {}
                None => return false, // h2 will not read it either.
            }
        }
        false
    }
}

/// One representation (RFC 7541 § 6). `true`: its name is a pseudo field's, as far as can be told.
fn field(rest: &mut &[u8]) -> Option<bool> {
    let first = *rest.first()?;
    if first & 0x80 != 0 {
        return Some(PSEUDO.contains(&integer(rest, 7)?));
    }
    if first & 0xe0 == 0x20 {
        integer(rest, 5)?;
        return Some(false);
    }
    let name = integer(rest, if first & 0x40 != 0 { 6 } else { 4 })?;
    let pseudo = if name == 0 { text(rest)? } else { PSEUDO.contains(&name) };
    text(rest)?;
    Some(pseudo)
}

/// A string literal (§ 5.2). `true`: it begins with a colon, which in Huffman's code is `1011100`.
fn text(rest: &mut &[u8]) -> Option<bool> {
    let coded = rest.first()? & 0x80 != 0;
    let length = integer(rest, 7)?;
    let (text, after) = rest.split_at_checked(length)?;
    *rest = after;
    Some(text.first().is_some_and(|first| if coded { first >> 1 == 0x5c } else { *first == b':' }))
}

/// § 5.1. `None`: it does not end, or is larger than anything here.
fn integer(rest: &mut &[u8], prefix: u32) -> Option<usize> {
    let most = (1_usize << prefix) - 1;
    let (first, after) = rest.split_first()?;
    *rest = after;
    let mut value = usize::from(*first) & most;
    if value < most {
        return Some(value);
    }
    for shift in [0, 7, 14] {
        let (next, after) = rest.split_first()?;
        *rest = after;
        value += usize::from(next & 0x7f) << shift;
        if next & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests;
