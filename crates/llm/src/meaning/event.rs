//! A streamed answer, piece by piece.
//!
//! What a decoder promises, however its provider behaves and however the bytes were cut:
//! `Start` comes first and once · every block is opened once, its deltas stand between `Open` and `Close`, all are closed
//! before `Stop` · blocks are numbered 0, 1, 2… as they open · several may be open at once (OpenAI interleaves calls) ·
//! `Usage` replaces what was reported before · after `End` or `Error` nothing comes.

use serde_json::Value;

use super::{Error, Media, Stop, Usage};
use crate::Dialect;
use crate::signature::Signature;

#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    Start(Start),
    Open { block: usize, kind: BlockKind },
    Delta { block: usize, delta: Delta },
    Close { block: usize },
    Usage(Usage),
    Stop(Stop),
    Ping,
    End,
    Error(Error),
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Start {
    pub id: String,
    pub model: String,
    pub created: Option<u64>,
}

#[derive(Clone, Debug, PartialEq)]
pub enum BlockKind {
    Text,
    Refusal,
    Reasoning,
    Redacted(Signature),
    ToolCall {
        id: String,
        name: String,
        signature: Option<Signature>,
    },
    /// A picture, whole.
    Media(Media),
    Foreign {
        dialect: Dialect,
        value: Value,
    },
}

#[derive(Clone, Debug, PartialEq)]
pub enum Delta {
    /// Of text, refusal or reasoning, as the block is.
    Text(String),
    /// A piece of the JSON text of a call's arguments.
    Arguments(String),
    Signature(Signature),
}
