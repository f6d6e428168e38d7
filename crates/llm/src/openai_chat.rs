//! OpenAI's `chat/completions`, and everybody who speaks it: Azure, Mistral, Groq, DeepSeek, xAI, OpenRouter, Qwen, GLM,
//! Ollama, vLLM… Their differences are read here (llm-wire lines 1, 2, 8, 14, 16); we write OpenAI's own form.

mod answer_in;
mod answer_out;
mod calls_in;
mod error;
pub(crate) mod request_in;
pub(crate) mod request_out;
mod stop;
mod stream_in;
mod stream_out;
mod thoughts;
mod usage;

pub(crate) use answer_in::{glance, parse_answer, plain_answer};
pub(crate) use answer_out::render_answer;
pub(crate) use error::{excerpt, of_value as error_of_value, parse_error, render_error, to_value as error_to_value};
pub(crate) use request_in::{choose, parse_call};
pub(crate) use request_out::{effort_word, render_call};
pub(crate) use stream_in::Reader;
pub(crate) use usage::{Names as UsageNames, parse as parse_usage_named, parse_usage, render_usage};

pub use stream_out::Encoder;
