//! The frames of one stream, told apart as their bytes come (RFC 9114 § 7), before the h3 crate sees them.
//!
//! That crate gathers any frame but DATA whole, however long it says that it is, takes an empty DATA frame, or one that is cut off,
//! for the end of a body, and reads ahead of whoever reads the body. So what it gets from here is one piece at a time: the head of
//! a DATA frame, some of its bytes, or all of another frame it needs. What it would only skip it never gets.

use bytes::{Buf, Bytes, BytesMut};

use super::code;
use super::fields::{self, Block};

mod kind {
    pub(super) const DATA: u64 = 0x0;
    pub(super) const HEADERS: u64 = 0x1;
    pub(super) const CANCEL_PUSH: u64 = 0x3;
    pub(super) const SETTINGS: u64 = 0x4;
    pub(super) const PUSH_PROMISE: u64 = 0x5;
    pub(super) const GOAWAY: u64 = 0x7;
    pub(super) const MAX_PUSH_ID: u64 = 0xd;
    /// Of h2, and nothing here (§ 7.2.8).
    pub(super) const RESERVED: [u64; 4] = [0x2, 0x6, 0x8, 0x9];
}

/// Why it ends: the stream alone, or all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    Stream { code: u64, why: &'static str },
    Connection { code: u64, why: &'static str },
}

/// What a stream is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    Request,
    Control,
}

/// What a frame has to be paid with, if with anything, and how many bytes of heads are gathered now.
pub(super) trait Purse {
    /// One that brings nothing. `false`: there were too many.
    fn pays(&self) -> bool;
    /// So many more bytes are gathered, or fewer. `false`: too many.
    fn gathers(&self, bytes: isize) -> bool;
}

#[derive(Debug)]
pub(super) struct Frames {
    role: Role,
    /// Longest head.
    most: usize,
    state: State,
    /// HEADERS that came; of a control stream, whether SETTINGS did.
    heads: u8,
    /// The highest push that the client would take.
    pushes: u64,
    /// A piece behind the one that was given.
    behind: Option<Bytes>,
}

#[derive(Debug)]
enum State {
    /// Type and length.
    Between(Vec<u8>),
    /// Bytes of DATA that are to come.
    Data(u64),
    /// A frame that is handed on whole.
    Gathers {
        kind: u64,
        head: Bytes,
        length: usize,
        got: BytesMut,
    },
    Skips(u64),
}

/// Two integers.
const LONGEST_FRAME_HEAD: usize = 16;
const LONGEST_SETTINGS: u64 = 4 << 10;

impl Frames {
    pub(super) fn new(role: Role, most: usize) -> Self {
        let state = State::Between(Vec::new());
        Self { role, most, state, heads: 0, pushes: 0, behind: None }
    }

    /// Takes from `bytes` what makes the next piece. `None`: more is needed, and all of them were taken.
    pub(super) fn next(&mut self, bytes: &mut Bytes, purse: &impl Purse) -> Result<Option<Bytes>, Fault> {
        if let Some(behind) = self.behind.take() {
            return Ok(Some(behind));
        }
        while !bytes.is_empty() {
            match &mut self.state {
                State::Between(head) => {
                    while let Some((first, _)) = bytes.split_first()
                        && parsed(head).is_none()
                        && head.len() < LONGEST_FRAME_HEAD
                    {
                        head.push(*first);
                        bytes.advance(1);
                    }
                    let Some((kind, length)) = parsed(head) else { return Ok(None) };
                    let head = Bytes::from(std::mem::take(head));
                    self.begin(kind, length, &head, purse)?;
                    if let State::Data(_) = self.state {
                        return Ok(Some(head));
                    }
                    if let Some(piece) = self.gathered(bytes, purse)? {
                        return Ok(Some(piece));
                    }
                }
                State::Data(left) => {
                    let part = usize::try_from(*left).map_or(bytes.len(), |left| left.min(bytes.len()));
                    *left -= part as u64;
                    if *left == 0 {
                        self.state = State::Between(Vec::new());
                    }
                    return Ok(Some(bytes.split_to(part)));
                }
                State::Skips(left) => {
                    let part = usize::try_from(*left).map_or(bytes.len(), |left| left.min(bytes.len()));
                    *left -= part as u64;
                    if *left == 0 {
                        self.state = State::Between(Vec::new());
                    }
                    bytes.advance(part);
                }
                State::Gathers { .. } => {
                    if let Some(piece) = self.gathered(bytes, purse)? {
                        return Ok(Some(piece));
                    }
                }
            }
        }
        Ok(None)
    }

    /// The stream has ended. § 7.1: not within a frame.
    pub(super) fn end(&self) -> Result<(), Fault> {
        match &self.state {
            State::Between(head) if head.is_empty() => Ok(()),
            _ => Err(Fault::Connection { code: code::FRAME_ERROR, why: "a frame is cut off" }),
        }
    }

    fn begin(&mut self, kind: u64, length: u64, head: &Bytes, purse: &impl Purse) -> Result<(), Fault> {
        let skips = if length == 0 { State::Between(Vec::new()) } else { State::Skips(length) };
        self.state = match (self.role, kind) {
            (Role::Request, kind::DATA) => {
                if self.heads != 1 {
                    return Err(unexpected("DATA where none can be"));
                }
                if length > 0 {
                    State::Data(length)
                } else {
                    pays(purse)?;
                    State::Between(Vec::new())
                }
            }
            (Role::Request, kind::HEADERS) => {
                self.heads += 1;
                if self.heads > 2 {
                    return Err(unexpected("HEADERS behind trailers"));
                }
                self.gather(kind, length, head, self.most)?
            }
            (Role::Control, kind::SETTINGS) => {
                self.heads = 1;
                self.gather(kind, length, head, usize::try_from(LONGEST_SETTINGS).unwrap_or(0))?
            }
            (Role::Control, _) if self.heads == 0 => {
                return Err(Fault::Connection {
                    code: code::MISSING_SETTINGS,
                    why: "SETTINGS are not the first frame",
                });
            }
            (Role::Control, kind::GOAWAY | kind::MAX_PUSH_ID) => {
                pays(purse)?;
                self.gather(kind, length, head, 8)?
            }
            (Role::Control, kind::CANCEL_PUSH) => {
                return Err(Fault::Connection { code: code::ID_ERROR, why: "nothing was ever pushed" });
            }
            (_, kind::DATA | kind::HEADERS | kind::PUSH_PROMISE) => {
                return Err(unexpected("a frame of another stream"));
            }
            (Role::Request, kind::CANCEL_PUSH | kind::SETTINGS | kind::GOAWAY | kind::MAX_PUSH_ID) => {
                return Err(unexpected("a frame of the control stream"));
            }
            (_, kind) if kind::RESERVED.contains(&kind) => return Err(unexpected("a frame of h2")),
            _ => {
                pays(purse)?;
                skips
            }
        };
        Ok(())
    }

    fn gather(&self, kind: u64, length: u64, head: &Bytes, most: usize) -> Result<State, Fault> {
        match usize::try_from(length).ok().filter(|length| *length <= most) {
            Some(length) => Ok(State::Gathers { kind, head: head.clone(), length, got: BytesMut::new() }),
            None if self.role == Role::Request => {
                Err(Fault::Stream { code: code::EXCESSIVE_LOAD, why: "a head that is too long" })
            }
            None if kind == kind::SETTINGS => {
                Err(Fault::Connection { code: code::EXCESSIVE_LOAD, why: "too many settings" })
            }
            None => Err(Fault::Connection { code: code::FRAME_ERROR, why: "a frame is too long for what it is" }),
        }
    }

    /// All of a frame: its own head first, then the rest.
    fn gathered(&mut self, bytes: &mut Bytes, purse: &impl Purse) -> Result<Option<Bytes>, Fault> {
        let State::Gathers { kind, head, length, got } = &mut self.state else { return Ok(None) };
        let payload = if got.is_empty() && bytes.len() >= *length {
            bytes.split_to(*length)
        } else {
            let part = bytes.split_to(bytes.len().min(*length - got.len()));
            if !purse.gathers(part.len().cast_signed()) {
                return Err(Fault::Connection { code: code::EXCESSIVE_LOAD, why: "too many heads at once" });
            }
            got.extend_from_slice(&part);
            if got.len() < *length {
                return Ok(None);
            }
            purse.gathers(-got.len().cast_signed());
            std::mem::take(got).freeze()
        };
        let (kind, head) = (*kind, head.clone());
        self.state = State::Between(Vec::new());
        match kind {
            kind::HEADERS => {
                let what = if self.heads == 1 { Block::Head } else { Block::Trailers };
                fields::judge(&payload, what).map_err(|why| Fault::Stream { code: code::MESSAGE_ERROR, why })?;
            }
            kind::MAX_PUSH_ID => self.pushes = self.pushes_to(&payload)?,
            _ => {}
        }
        self.behind = (!payload.is_empty()).then_some(payload);
        Ok(Some(head))
    }

    /// § 7.2.7: never fewer than before.
    fn pushes_to(&self, payload: &[u8]) -> Result<u64, Fault> {
        match integer(payload) {
            Some((most, length)) if length == payload.len() && most >= self.pushes => Ok(most),
            Some((_, length)) if length == payload.len() => {
                Err(Fault::Connection { code: code::ID_ERROR, why: "fewer pushes than before" })
            }
            _ => Err(Fault::Connection { code: code::FRAME_ERROR, why: "a frame that is not its length" }),
        }
    }

    /// What it holds of a head that is not whole: to be told when it is given up.
    pub(super) fn holds(&self) -> usize {
        match &self.state {
            State::Gathers { got, .. } => got.len(),
            _ => 0,
        }
    }
}

fn pays(purse: &impl Purse) -> Result<(), Fault> {
    let flood = Fault::Connection { code: code::EXCESSIVE_LOAD, why: "control_flood" };
    if purse.pays() { Ok(()) } else { Err(flood) }
}

fn unexpected(why: &'static str) -> Fault {
    Fault::Connection { code: code::FRAME_UNEXPECTED, why }
}

fn parsed(head: &[u8]) -> Option<(u64, u64)> {
    let (kind, first) = integer(head)?;
    let (length, _) = integer(&head[first..])?;
    Some((kind, length))
}

/// RFC 9000 § 16: an integer, and how many bytes it has.
pub(super) fn integer(bytes: &[u8]) -> Option<(u64, usize)> {
    let first = *bytes.first()?;
    let length = 1 << (first >> 6);
    let rest = bytes.get(1..length)?;
    let value = rest.iter().fold(u64::from(first & 0x3f), |value, byte| value << 8 | u64::from(*byte));
    Some((value, length))
}

#[cfg(test)]
mod tests;
