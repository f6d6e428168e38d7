//! Cohere's `v2/chat`.
//!
//! What is particular: a `tool_plan` beside the calls is the model thinking aloud; usage is told twice, as it was counted
//! and as it is billed; a JSON schema stands in a format called `json_object`; a call without arguments has `null`.

mod answer_in;
mod answer_out;
mod error;
mod request_in;
mod request_out;
mod stop;
mod stream_in;
mod stream_out;
mod usage;

pub(crate) use answer_in::{glance, parse_answer};
pub(crate) use answer_out::render_answer;
pub(crate) use error::render_error;
pub(crate) use request_in::parse_call;
pub(crate) use request_out::render_call;
pub(crate) use stream_in::Reader;
pub(crate) use usage::read as parse_usage;

pub use stream_out::Encoder;
