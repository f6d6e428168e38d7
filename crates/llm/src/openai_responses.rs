//! OpenAI's `responses`. What it stores between calls (`previous_response_id`, conversations) cannot be carried elsewhere.

mod answer_in;
mod answer_out;
mod echo;
mod request_in;
mod request_out;
mod stop;
mod stream_in;
mod stream_out;
mod thoughts;
mod usage;

pub(crate) use answer_in::{glance, parse_answer};
pub(crate) use answer_out::render_answer;
pub(crate) use request_in::parse_call;
pub(crate) use request_out::render_call;
pub(crate) use stream_in::Reader;

pub(crate) use usage::read as parse_usage;

pub use echo::{Echo, relabelled};
pub use stream_out::Encoder;
