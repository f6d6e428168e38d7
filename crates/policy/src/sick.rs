//! When an upstream's endpoints count as sick: breakers and health checks.

use std::time::Duration;

use http::{HeaderName, HeaderValue};

use crate::UpstreamId;

/// When an endpoint is no longer asked, and how it comes back.
#[derive(Debug, Clone, PartialEq)]
pub struct Breaker {
    /// Share of failed calls in the window that opens it, above 0.0, up to 1.0.
    pub error_ratio: f64,
    pub window: Duration,
    /// Fewer calls than this in the window say nothing.
    pub min_requests: u32,
    /// Failures in a row that open it, whatever the window says.
    pub consecutive: Option<u32>,
    pub slow: Option<Slow>,
    /// How long it stays open the first time; doubled each time the probe fails.
    pub open_for: Duration,
    pub longest_open: Duration,
    /// From the first good probe to its whole share of the requests, in four steps.
    pub ramp: Duration,
    /// Share of an upstream's endpoints that may be set aside while others work.
    pub max_ejected: f64,
    /// Statuses that count as failures.
    pub statuses: Vec<(u16, u16)>,
    pub fallback: Option<Fallback>,
    /// What is stored may stand in, so long after its lifetime.
    pub stored: Option<Duration>,
}

/// Calls that take too long are as bad as failed ones.
#[derive(Debug, Clone, PartialEq)]
pub struct Slow {
    /// Until the response's head.
    pub over: Duration,
    /// Share of slow calls in the window that opens it.
    pub ratio: f64,
}

/// What is answered while all endpoints of an upstream are open.
#[derive(Debug, Clone, PartialEq)]
pub enum Fallback {
    Upstream(UpstreamId),
    Respond { status: http::StatusCode, headers: Vec<(HeaderName, HeaderValue)>, body: bytes::Bytes },
}

impl Breaker {
    /// Does an answer of this status count as a failure? 429 and what the client did wrong never do.
    #[must_use]
    pub fn fails(&self, status: u16) -> bool {
        self.statuses.iter().any(|(first, last)| (*first..=*last).contains(&status))
    }
}

/// How endpoints are asked whether they are well.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Health {
    pub check: Check,
    pub interval: Duration,
    pub timeout: Duration,
    /// Good answers in a row until an endpoint is well.
    pub healthy: u32,
    /// Bad ones until it is sick.
    pub unhealthy: u32,
    /// From being well (or new) to its whole share of the requests; zero: at once.
    pub slow_start: Duration,
    /// When fewer than this percentage of an upstream's endpoints are well, all are used.
    pub panic_below: u32,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Check {
    Http {
        path: String,
        host: Option<String>,
        statuses: Vec<(u16, u16)>,
    },
    /// `grpc.health.v1.Health/Check` over HTTP/2.
    Grpc {
        service: String,
    },
    /// A connection that stands.
    Tcp,
}
