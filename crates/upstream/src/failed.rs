//! How a call fails before its response head: one variant per culprit.

use std::fmt;
use std::time::Duration;

use crate::Shed;

pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

#[derive(Debug)]
pub enum CallFailed {
    /// The upstream has no endpoint now: none configured, or its name never resolved.
    NoEndpoint,
    /// The breakers of all endpoints are open: nothing was sent.
    Open {
        retry_after: Duration,
    },
    /// No connection could be made: the request was never sent.
    Connect(BoxError),
    Timeout(Phase),
    /// The connection broke, or the stream was reset, before the response head.
    Reset(BoxError),
    /// All connections are taken, and none came free in time or too many wait already.
    TooBusy,
    /// As many requests run at the upstream as may: nothing was sent.
    Shed(Shed),
    /// The client's body ended in an error: not the upstream's fault.
    RequestBody(BoxError),
    /// What came back is not HTTP as we accept it.
    BadResponse(BoxError),
}

/// What was waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    Connect,
    FirstByte,
    /// The whole exchange.
    Total,
    /// The upstream was silent inside a body, or did not read ours.
    Idle,
    /// The client was silent inside its body.
    RequestIdle,
}

impl Phase {
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::FirstByte => "first_byte",
            Self::Total => "total",
            Self::Idle => "idle",
            Self::RequestIdle => "request_idle",
        }
    }
}

impl CallFailed {
    /// For records and traces.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::NoEndpoint => "no_endpoint",
            Self::Open { .. } => "breaker_open",
            Self::Connect(_) => "connect",
            Self::Timeout(_) => "timeout",
            Self::Reset(_) => "reset",
            Self::TooBusy => "too_busy",
            Self::Shed(_) => "shed",
            Self::RequestBody(_) => "request_body",
            Self::BadResponse(_) => "bad_response",
        }
    }
}

impl fmt::Display for CallFailed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoEndpoint => f.write_str("the upstream has no endpoint"),
            Self::Open { .. } => f.write_str("the upstream's breaker is open"),
            Self::Connect(why) => write!(f, "no connection: {why}"),
            Self::Timeout(phase) => write!(f, "timed out: {}", phase.name()),
            Self::Reset(why) => write!(f, "the connection broke before the response: {why}"),
            Self::TooBusy => f.write_str("all connections are taken"),
            Self::Shed(why) => write!(f, "shed: {}", why.name()),
            Self::RequestBody(why) => write!(f, "the request's body broke: {why}"),
            Self::BadResponse(why) => write!(f, "not an acceptable response: {why}"),
        }
    }
}

impl std::error::Error for CallFailed {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Connect(why) | Self::Reset(why) | Self::RequestBody(why) | Self::BadResponse(why) => {
                Some(why.as_ref())
            }
            Self::NoEndpoint | Self::Open { .. } | Self::Timeout(_) | Self::TooBusy | Self::Shed(_) => None,
        }
    }
}
