//! The data plane: bytes in, policy applied, bytes out. `request.rs` is the life of a request; start reading there.
//!
//! Owns listeners, connections and what happens between a request head and the last byte of its answer. Refuses to
//! know raw documents, the cluster and where limits come from: everything it may touch is in [`Gate`].

mod announced;
mod blocks;
mod bounds;
mod cached;
mod challenges;
mod charge;
mod compress;
mod connection;
mod cors;
mod drain;
mod familiar;
mod forward;
#[doc(hidden)]
pub mod fuzz;
mod gate;
mod grpc;
mod guest;
mod head;
mod headers;
mod http1;
#[cfg(feature = "h3")]
mod http3;
mod identify;
mod in_place;
mod inbound;
mod issuers;
mod limits;
mod linger;
mod llm;
mod local;
mod malformed;
mod max_forwards;
mod origin;
mod pressure;
mod ratelimit;
mod received;
mod refusal;
mod relay;
mod reply;
mod request;
mod request_id;
mod respond;
mod rewrite;
mod route;
mod seen;
mod server;
mod stays;
mod trailers;
mod tunnel;
mod unpack;
mod wire;

pub use blocks::{Blocked, Blocks};
pub use bounds::Bounds;
pub use challenges::Challenges;
pub use drain::{Drain, Draining, Phase};
pub use gate::{Count, Gate};
#[cfg(feature = "h3")]
pub use http3::{Http3Listener, serve as serve_http3};
pub use issuers::{IssuerFacts, Issuers, Line as IssuerLine};
pub use limits::{Unclear, Words};
pub use llm::{DeploymentFacts, Fleet, Rest, Tokens, Why};
pub use pressure::Pressure;
pub use refusal::{Blame, Line, Refusal, page as error_page};
pub use seen::{Seen, Sighting};
pub use server::{Http3, Listener, bind, listen, serve};
