//! Anthropic's `messages`.

mod answer_in;
mod answer_out;
mod error;
mod request_in;
mod request_out;
mod stop;
mod stream_in;
mod stream_out;
mod usage;

pub(crate) use answer_in::{glance, parse_answer, plain_answer};
pub(crate) use answer_out::render_answer;
pub(crate) use error::{parse_error, render_error};
pub(crate) use request_in::parse_call;
pub(crate) use request_out::render_call;
pub(crate) use stream_in::Reader;

pub(crate) use usage::Report;

pub use stream_out::Encoder;
