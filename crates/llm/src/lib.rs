//! Chat calls in six providers' formats, and one meaning that all of them translate to and from.
//!
//! Owns: what a chat call, an answer, a stream event, a usage report and an error *mean* ([`meaning`]), how each dialect
//! writes them ([`anthropic`], [`bedrock`], [`cohere`], [`gemini`], [`openai_chat`], [`openai_responses`]), and the few edits that a
//! body may suffer when caller and provider speak the same dialect ([`mod@splice`], [`peek`], [`tap`]): else it stays as it
//! came.
//!
//! Refuses to know: sockets, clocks, keys, routes. Bytes in, bytes out. Whoever calls brings ids and the time.
//!
//! ```text
//!              parse_call            render_call
//!  caller's ───────────────▶ Call ───────────────▶ provider's bytes      what cannot be carried: Losses
//!  bytes    ◀─────────────── Answer ◀───────────── provider's bytes
//!              render_answer         parse_answer
//!           ◀─────────────── Event… ◀───────────── provider's stream
//!              Encoder               Decoder
//! ```
//! Where does an Anthropic tool result become an OpenAI tool message? `anthropic/request_in/content.rs` reads the block
//! into a `Part::ToolResult`, `openai_chat/request_out/messages.rs` writes it.

pub mod anthropic;
pub mod bedrock;
pub mod bounds;
pub mod canonical;
pub mod catalogue;
pub mod cohere;
pub mod count;
pub mod dialect;
pub mod embed;
pub mod estimate;
pub mod frame;
pub mod fuzz;
pub mod gemini;
mod glance;
pub mod ids;
mod json;
pub mod kept;
mod lean;
pub mod lost;
pub mod meaning;
pub mod names;
pub mod openai_chat;
pub mod openai_responses;
pub mod peek;
pub mod prefix;
pub mod price;
pub mod replay;
mod retry;
pub mod schema;
mod seek;
pub mod signature;
mod spans;
pub mod splice;
pub mod tap;
pub mod target;
pub mod tokens;
pub mod unsaid;

pub use dialect::{Decoder, Dialect, Encoder, Reply, Site};
pub use glance::Glance;
pub use json::Malformed;
pub use lean::Skipped;
pub use lost::{Losses, Lost, Weight};
pub use target::{Switch, Target};
