//! Specs of the dialects. Recordings of real providers are read through `TIDEGATE_FIXTURES`; without it those specs say so
//! and pass, and the golden files (written by us from the facts) remain.

#[path = "specs/chunking.rs"]
mod chunking;
#[path = "specs/estimates.rs"]
mod estimates;
#[path = "specs/exact.rs"]
mod exact;
#[path = "specs/golden.rs"]
mod golden;
#[path = "specs/matrix.rs"]
mod matrix;
#[path = "specs/odd.rs"]
mod odd;
#[path = "specs/providers.rs"]
mod providers;
#[path = "specs/recorded.rs"]
mod recorded;
#[path = "specs/requests.rs"]
mod requests;
#[path = "specs/support.rs"]
mod support;
#[path = "specs/wire.rs"]
mod wire;
#[path = "specs/wire_calls.rs"]
mod wire_calls;
#[path = "specs/wire_streams.rs"]
mod wire_streams;
