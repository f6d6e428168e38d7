//! The bounds on everything a client can send or hold open. One table, sane for the open internet.

use std::time::Duration;

use tidegate_policy::defaults;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bounds {
    /// Bytes of a request head (HTTP/1.1) or header list (h2).
    pub head_bytes: usize,
    pub headers: usize,
    pub uri_bytes: usize,
    /// A whole request head, from its first byte; also from accept to the first request on HTTP/1.1.
    pub head_timeout: Duration,
    /// TLS handshake, and the bytes that tell HTTP/1.1 from h2.
    pub handshake_timeout: Duration,
    /// Between requests.
    pub idle_timeout: Duration,
    /// So long after its last answer an HTTP/1.1 connection gives its buffers back.
    pub rest_after: Duration,
    /// Longest silence inside a request body.
    pub body_timeout: Duration,
    /// A request body may be waited for so long, in all, before it has to have come at the rate that its route asks for.
    pub body_grace: Duration,
    /// Longest time a client may refuse to take bytes.
    pub send_timeout: Duration,
    /// Bytes per second: so much has to be taken on average to be given that time again and again.
    pub send_rate: u32,
    /// Longest time one h2 stream may leave its window closed; then its connection ends.
    pub stall_timeout: Duration,
    /// Longest silence of a switched protocol, both ways.
    pub tunnel_timeout: Duration,
    /// Open connections of one listener.
    pub connections: usize,
    /// Requests of one node between first byte in and last byte out.
    pub in_flight: usize,
    pub h2_streams: u32,
    pub h2_resets: usize,
    /// Frames of an h2 connection that bring nothing (settings, pings, priorities, windows, empty data): at once, and per
    /// second. What passes usefully pays for more.
    pub h2_control_frames: u32,
    pub h2_control_rate: u32,
    /// Streams that a client gives up beyond those that were answered: at once, and per second.
    pub h2_cancels: u32,
    pub h2_cancel_rate: u32,
    pub h2_ping: Duration,
    pub h2_ping_timeout: Duration,
    /// How much of an h2 answer is held for a slow client.
    pub h2_send_buffer: usize,
    pub h2_stream_window: u32,
    pub h2_connection_window: u32,
    /// Read buffer of one HTTP/1.1 connection.
    pub read_buffer: usize,
}

impl Bounds {
    /// Milliseconds for which a socket may take nothing.
    pub(crate) fn slack(&self) -> u32 {
        u32::try_from(self.send_timeout.as_millis()).unwrap_or(u32::MAX)
    }
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            head_bytes: defaults::MAX_HEADER_BYTES,
            headers: defaults::MAX_HEADERS,
            uri_bytes: defaults::MAX_URI_BYTES,
            head_timeout: defaults::HEADER_TIMEOUT,
            handshake_timeout: defaults::HANDSHAKE_TIMEOUT,
            idle_timeout: defaults::KEEP_ALIVE,
            rest_after: Duration::from_millis(500),
            body_timeout: defaults::IDLE_TIMEOUT,
            body_grace: defaults::BODY_GRACE,
            send_timeout: defaults::IDLE_TIMEOUT,
            send_rate: defaults::MIN_SEND_RATE,
            stall_timeout: 5 * defaults::IDLE_TIMEOUT,
            tunnel_timeout: Duration::from_secs(600),
            connections: defaults::MAX_NODE_CONNECTIONS,
            in_flight: 10_000,
            h2_streams: defaults::MAX_STREAMS,
            h2_resets: defaults::MAX_PENDING_RESETS,
            h2_control_frames: defaults::MAX_CONTROL_FRAMES,
            h2_control_rate: defaults::CONTROL_FRAMES_PER_SECOND,
            h2_cancels: defaults::MAX_CANCELS,
            h2_cancel_rate: defaults::CANCELS_PER_SECOND,
            h2_ping: Duration::from_secs(30),
            h2_ping_timeout: Duration::from_secs(20),
            h2_send_buffer: 256 << 10,
            h2_stream_window: 256 << 10,
            h2_connection_window: 1 << 20,
            read_buffer: 64 << 10,
        }
    }
}
