//! What holds when nobody said otherwise: one table, sane for the open internet.
//!
//! `config` fills documents from it and prints it in `docs/config.md`; `proxy` and `upstream` take the bounds on
//! clients from it. Bounds are per connection or per request unless the name says node.

use std::time::Duration;

use tidegate_model::Permits;

const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;
const DAY: u64 = 24 * 60 * 60;

/// A request head (request line and all header fields) larger than this is refused with 431.
pub const MAX_HEADER_BYTES: usize = 64 * 1024;
/// More header fields than this are refused with 431. hyper keeps up to 100 on its stack; more would cost two
/// allocations per request.
pub const MAX_HEADERS: usize = 100;
/// A longer request target is refused with 414.
pub const MAX_URI_BYTES: usize = 8 * 1024;
/// A larger request body is refused with 413; a route may say otherwise.
pub const MAX_BODY: u64 = 10 * MIB;
/// As [`MAX_BODY`], of routes of language models: images travel in the body.
pub const MAX_LLM_BODY: u64 = 32 * MIB;
/// From the first byte of a connection (or the end of the previous request) that carries a head to the head's end.
pub const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// Bytes per second of a request body, on average over the time in which it is waited for; a route may say otherwise.
pub const MIN_BODY_RATE: u32 = 240;
/// So long, in all, a body is waited for before that is asked of it.
pub const BODY_GRACE: Duration = Duration::from_secs(10);
/// Bytes per second of answers that a client takes, on average over the time for which it takes none.
pub const MIN_SEND_RATE: u32 = 240;
/// A connection without a request is closed after this.
pub const KEEP_ALIVE: Duration = Duration::from_secs(75);
/// A TLS handshake that takes longer is given up.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// Keys of TLS session tickets are renewed after this, and no ticket is good for longer.
pub const TICKET_ROTATION: Duration = Duration::from_secs(6 * 60 * 60);
/// Open client connections of one node; further ones wait in the kernel's queue.
pub const MAX_NODE_CONNECTIONS: usize = 20_000;
/// Concurrent HTTP/2 streams of one connection.
pub const MAX_STREAMS: u32 = 128;
/// Streams that a client may reset before they are answered; more closes the connection (rapid reset).
pub const MAX_PENDING_RESETS: usize = 20;
/// HTTP/2 frames in a row that bring nothing: settings, pings, priorities, windows, empty data.
pub const MAX_CONTROL_FRAMES: u32 = 2_000;
/// How many of those a connection may send in the long run.
pub const CONTROL_FRAMES_PER_SECOND: u32 = 200;
/// HTTP/2 streams that a client may give up beyond those it let be answered.
pub const MAX_CANCELS: u32 = 500;
/// How many of those a connection may give up in the long run.
pub const CANCELS_PER_SECOND: u32 = 50;

/// Opening a connection to an endpoint, TLS included; also how long a request waits for a free connection.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// From the end of the request head to the response head.
pub const FIRST_BYTE_TIMEOUT: Duration = Duration::from_secs(30);
/// As [`FIRST_BYTE_TIMEOUT`], of providers of language models: without a stream the head comes with the whole answer.
pub const PROVIDER_FIRST_BYTE: Duration = Duration::from_secs(600);
/// As [`IDLE_TIMEOUT`], of providers of language models: some think in silence.
pub const PROVIDER_IDLE: Duration = Duration::from_secs(300);
/// The longest silence between two parts of a body, either way.
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(60);
/// Most requests that may run at an upstream whose `overload` learns how many.
pub const MAX_LEARNT: u32 = 10_000;
/// Requests that wait for such an upstream, per node.
pub const MAX_WAITING: u32 = 1_000;
/// How long each of them may.
pub const WAIT_DEADLINE: Duration = Duration::from_millis(500);
/// Open connections to one endpoint, per node.
pub const MAX_CONNECTIONS: usize = 1_024;
/// As [`MAX_CONNECTIONS`], of providers of language models: each stream holds one for as long as it speaks.
pub const PROVIDER_CONNECTIONS: u32 = 8_192;
/// Idle connections kept to one endpoint, per node.
pub const MAX_IDLE: usize = 128;
/// An idle connection to an endpoint is closed after this.
pub const UPSTREAM_KEEP_ALIVE: Duration = Duration::from_secs(55);
/// Tries after the first.
pub const RETRIES: u32 = 1;
/// Share of an upstream's recent requests that may be retries.
pub const RETRY_BUDGET: f64 = 0.2;

/// A breaker's sliding window.
pub const BREAKER_WINDOW: Duration = Duration::from_secs(10);
/// Fewer calls in the window say nothing.
pub const BREAKER_MIN_REQUESTS: u32 = 20;
/// How long a breaker stays open; doubled with each failed probe.
pub const BREAKER_OPEN: Duration = Duration::from_secs(5);
/// The doubling ends here.
pub const BREAKER_LONGEST_OPEN: Duration = Duration::from_secs(60);
/// From the first good probe to the whole share.
pub const BREAKER_RAMP: Duration = Duration::from_secs(10);
/// Between two checks of one endpoint by one node.
pub const HEALTH_INTERVAL: Duration = Duration::from_secs(5);
/// A check that takes longer is a bad one.
pub const HEALTH_TIMEOUT: Duration = Duration::from_secs(2);

/// Clocks of issuers of tokens and ours differ by so much.
pub const TOKEN_LEEWAY: Duration = Duration::from_secs(60);
/// How often a JWK set is fetched anew.
pub const JWKS_REFRESH: Duration = Duration::from_secs(600);
/// So long the last keys are good while a JWK set cannot be fetched.
pub const JWKS_MAX_STALE: Duration = Duration::from_secs(DAY);

/// A window may not be longer than this.
pub const MAX_WINDOW: Duration = Duration::from_secs(31 * DAY);
/// The largest maximum of a limit: sums of it never come near the end of a u64.
pub const MOST_MAX: Permits = Permits(1_000_000_000_000_000);
/// Of money, in billionths: a billion.
pub const MOST_MONEY: Permits = Permits(MOST_MAX.0 * 1_000);
/// Of a limit, what one call can cost at once: so much is in a node's hand.
pub const MOST_COST: Permits = tidegate_quota::cell::MOST;
/// The limits that one list of a document may name. A call meets seven lists at most: those of its plan, of its consumer,
/// team and tenant, of its route and product, and of its plan in the product.
pub const MAX_LISTED: usize = 8;
/// Maxima of their own that consumers, teams, tenants and plans may have, in one document.
pub const MAX_OWN_MAXIMA: usize = 10_000;
/// A longer value of a header that a limit counts by is refused with 400.
pub const MAX_SUBJECT_BYTES: usize = 4 * 1024;
/// A longer name of an end user is refused with 400.
pub const MAX_END_USER_BYTES: usize = 256;
/// The most a route may raise its own bound on a body to.
pub const MAX_MAX_BODY: u64 = 64 * KIB * MIB;
/// A document larger than this is refused.
pub const MAX_DOCUMENT_BYTES: usize = 16 * 1024 * 1024;
/// Rotated access logs that are kept.
pub const KEEP_LOGS: u32 = 5;

/// One line of the printed table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    pub what: &'static str,
    pub value: String,
    /// The document's field that changes it; empty: fixed.
    pub field: &'static str,
}

/// The table, in the order it is printed.
#[must_use]
pub fn table() -> Vec<Row> {
    let row = |what, value: String, field| Row { what, value, field };
    let bytes = |n: u64| if n >= MIB { format!("{} MiB", n / MIB) } else { format!("{} KiB", n / KIB) };
    let span = |d: Duration| format!("{} s", d.as_secs());
    vec![
        row("request head, bytes (431)", bytes(MAX_HEADER_BYTES as u64), ""),
        row("request head, fields (431)", MAX_HEADERS.to_string(), ""),
        row("request target, bytes (414)", bytes(MAX_URI_BYTES as u64), ""),
        row("request body (413)", bytes(MAX_BODY), "routes[].max_body"),
        row("request body of a route with `llm` (413)", bytes(MAX_LLM_BODY), "routes[].max_body"),
        row("time to send a request head", span(HEADER_TIMEOUT), ""),
        row("request body, bytes per second (408)", MIN_BODY_RATE.to_string(), "routes[].min_body_rate"),
        row("the same, not before it was waited for", span(BODY_GRACE), ""),
        row("client that takes nothing of an answer", span(IDLE_TIMEOUT), ""),
        row("the same again, after bytes per second taken", MIN_SEND_RATE.to_string(), ""),
        row("idle client connection", span(KEEP_ALIVE), ""),
        row("TLS handshake", span(HANDSHAKE_TIMEOUT), ""),
        row("client connections of one node", MAX_NODE_CONNECTIONS.to_string(), ""),
        row("HTTP/2 streams of one connection", MAX_STREAMS.to_string(), ""),
        row("HTTP/2 streams reset early", MAX_PENDING_RESETS.to_string(), ""),
        row("HTTP/2 streams reset, beyond those answered", format!("{MAX_CANCELS}, then {CANCELS_PER_SECOND}/s"), ""),
        row(
            "HTTP/2 frames that bring nothing",
            format!("{MAX_CONTROL_FRAMES}, then {CONTROL_FRAMES_PER_SECOND}/s"),
            "",
        ),
        row("connect to an endpoint", span(CONNECT_TIMEOUT), "upstreams[].timeouts.connect"),
        row("first byte of a response (504)", span(FIRST_BYTE_TIMEOUT), "upstreams[].timeouts.first_byte"),
        row("whole exchange", "unbounded".into(), "upstreams[].timeouts.total"),
        row("first byte of a provider (504)", span(PROVIDER_FIRST_BYTE), "providers[].timeouts.first_byte"),
        row("silence of a provider", span(PROVIDER_IDLE), "providers[].timeouts.idle"),
        row("silence inside a body", span(IDLE_TIMEOUT), "upstreams[].timeouts.idle"),
        row("connections to one endpoint", MAX_CONNECTIONS.to_string(), "upstreams[].max_connections"),
        row("connections to one provider", PROVIDER_CONNECTIONS.to_string(), "providers[].max_connections"),
        row("idle connections to one endpoint", MAX_IDLE.to_string(), "upstreams[].max_idle"),
        row("idle connection to an endpoint", span(UPSTREAM_KEEP_ALIVE), "upstreams[].idle_timeout"),
        row("retries after the first try", RETRIES.to_string(), "upstreams[].retries.max"),
        row("retries of all requests", format!("{:.0}%", RETRY_BUDGET * 100.0), "upstreams[].retries.budget"),
        row("rotated access logs kept", KEEP_LOGS.to_string(), "telemetry.access_log.keep"),
        row("limits in one list", MAX_LISTED.to_string(), ""),
        row("limits with a maximum of their own", MAX_OWN_MAXIMA.to_string(), ""),
        row("header value a limit counts by (400)", bytes(MAX_SUBJECT_BYTES as u64), ""),
        row("end user's name (400)", format!("{MAX_END_USER_BYTES} bytes"), ""),
        row("document", bytes(MAX_DOCUMENT_BYTES as u64), ""),
    ]
}
