//! What every dialect means: a call, an answer, the events of a stream, usage, stops and errors.
//!
//! Nothing here knows how anybody writes it. Fields that only one dialect knows stay in `extras`, named as that dialect
//! names them: the same dialect writes them back, another one lists them as lost.

mod answer;
mod call;
mod collect;
mod error;
mod event;
mod flow;
mod part;
mod sequence;
mod thinking;
mod tool;
mod usage;

pub use answer::{Answer, Gist, Stop};
pub use call::{Call, Format, Message, Role, Sampling, Schema};
pub use collect::Collector;
pub use error::{Error, Kind};
pub use event::{BlockKind, Delta, Event, Start};
pub(crate) use flow::Flow;
pub use part::{Body, CacheHint, Media, MediaKind, Part, Source, ToolCall, ToolResult};
pub(crate) use sequence::Sequence;
pub use thinking::{Depth, Effort, Thinking};
pub use tool::{Function, Tool, ToolChoice};
pub use usage::{NanoUsd, Tier, Usage};
