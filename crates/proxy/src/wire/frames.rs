//! The frames of an h2 connection as they pass, in pieces of any size (RFC 9113 § 4.1): heads are read, payloads are
//! stepped over. Judges nothing, keeps nothing but a head. Called by `judge`, for both directions.

/// As they are numbered on the wire.
pub(super) mod kind {
    pub(crate) const DATA: u8 = 0;
    pub(crate) const HEADERS: u8 = 1;
    pub(crate) const PRIORITY: u8 = 2;
    pub(crate) const RST_STREAM: u8 = 3;
    pub(crate) const SETTINGS: u8 = 4;
    pub(crate) const PING: u8 = 6;
    pub(crate) const GOAWAY: u8 = 7;
    pub(crate) const WINDOW_UPDATE: u8 = 8;
    pub(crate) const CONTINUATION: u8 = 9;
}

/// Of DATA and HEADERS; of SETTINGS and PING this bit is `ACK`.
pub(super) const END_STREAM: u8 = 0x1;
pub(super) const ACK: u8 = 0x1;
pub(super) const END_HEADERS: u8 = 0x4;
pub(super) const PADDED: u8 = 0x8;
pub(super) const PRIORITISED: u8 = 0x20;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) length: u32,
    pub(super) kind: u8,
    pub(super) flags: u8,
    pub(super) stream: u32,
}

impl Head {
    pub(super) const BYTES: usize = 9;

    fn parse(raw: [u8; Self::BYTES]) -> Self {
        let [a, b, c, kind, flags, stream @ ..] = raw;
        let length = u32::from_be_bytes([0, a, b, c]);
        Self { length, kind, flags, stream: u32::from_be_bytes(stream) & 0x7fff_ffff }
    }

    pub(super) fn has(self, flag: u8) -> bool {
        self.flags & flag != 0
    }
}

/// One step of a walk.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step<'a> {
    /// A head ended. `begins`: where in the walked bytes it began; `None`: before them.
    Head { head: Head, begins: Option<usize> },
    /// Some of the payload. `at`: how much of it came before.
    Payload { head: Head, at: u32, bytes: &'a [u8] },
}

/// Where in its frames a direction is.
#[derive(Debug, Clone, Default)]
pub(super) struct Frames {
    raw: [u8; Head::BYTES],
    /// Bytes of the head that came.
    have: usize,
    head: Option<Head>,
    /// Bytes of the payload that came.
    at: u32,
}

impl Frames {
    /// The next step in `bytes` from `from` on, and where the one after begins. `None`: all walked.
    #[inline]
    pub(super) fn step<'a>(&mut self, bytes: &'a [u8], from: usize) -> Option<(Step<'a>, usize)> {
        let rest = bytes.get(from..).filter(|rest| !rest.is_empty())?;
        if let Some(head) = self.head {
            let left = usize::try_from(head.length - self.at).unwrap_or(usize::MAX);
            let part = &rest[..left.min(rest.len())];
            let at = self.at;
            self.at += u32::try_from(part.len()).unwrap_or(u32::MAX);
            if self.at == head.length {
                self.head = None;
            }
            return Some((Step::Payload { head, at, bytes: part }, from + part.len()));
        }
        // Nearly every head comes whole.
        if self.have == 0
            && let Some(raw) = rest.first_chunk()
        {
            return Some(self.head(Head::parse(*raw), Some(from), from + Head::BYTES));
        }
        let begins = (self.have == 0).then_some(from);
        let part = rest.len().min(Head::BYTES - self.have);
        self.raw[self.have..self.have + part].copy_from_slice(&rest[..part]);
        self.have += part;
        if self.have < Head::BYTES {
            return None;
        }
        Some(self.head(Head::parse(self.raw), begins, from + part))
    }

    #[inline]
    fn head<'a>(&mut self, head: Head, begins: Option<usize>, next: usize) -> (Step<'a>, usize) {
        (self.have, self.at) = (0, 0);
        self.head = (head.length > 0).then_some(head);
        (Step::Head { head, begins }, next)
    }

    /// Nothing of a frame has come that has not ended.
    pub(super) fn is_between(&self) -> bool {
        self.head.is_none() && self.have == 0
    }

    /// The frame whose payload has not ended.
    pub(super) fn within(&self) -> Option<Head> {
        self.head
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn walk(frames: &mut Frames, bytes: &[u8]) -> Vec<(Head, Vec<u8>)> {
        let (mut from, mut seen) = (0, Vec::new());
        while let Some((step, next)) = frames.step(bytes, from) {
            from = next;
            match step {
                Step::Head { head, .. } => seen.push((head, Vec::new())),
                Step::Payload { head, bytes, .. } => match seen.last_mut() {
                    Some((_, payload)) => payload.extend_from_slice(bytes),
                    None => seen.push((head, bytes.to_vec())),
                },
            }
        }
        seen
    }

    #[test]
    fn frames_are_the_same_however_they_are_cut() {
        let bytes = b"\0\0\x02\x06\x01\x80\0\0\x05ab\0\0\0\x04\0\0\0\0\0\0\0\x01\x00\x01\0\0\0\x07z";
        let head = |length, kind, flags, stream| Head { length, kind, flags, stream };
        let expected = [
            (head(2, kind::PING, 1, 5), b"ab".to_vec()),
            (head(0, kind::SETTINGS, 0, 0), Vec::new()),
            (head(1, kind::DATA, 1, 7), b"z".to_vec()),
        ];
        assert_eq!(walk(&mut Frames::default(), bytes), expected);
        for cut in 1..bytes.len() {
            let mut frames = Frames::default();
            let mut seen = walk(&mut frames, &bytes[..cut]);
            for (head, payload) in walk(&mut frames, &bytes[cut..]) {
                match seen.last_mut() {
                    Some((last, kept)) if *last == head => kept.extend(payload),
                    _ => seen.push((head, payload)),
                }
            }
            assert_eq!(seen, expected, "cut at {cut}");
            assert!(frames.is_between());
        }
    }
}
