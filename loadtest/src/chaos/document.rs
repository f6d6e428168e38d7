//! What the cluster is told to do while everything goes wrong.

use std::fmt::Write as _;
use std::net::SocketAddr;

/// Values of a register: plans of a key.
pub(super) const PLANS: u64 = 100;
const MARK: &str = "# chaos wrote ";

#[derive(Debug, Clone, Copy)]
pub(super) struct Terms {
    /// For what no limit counts, and for all else.
    pub(super) open: SocketAddr,
    pub(super) backend: SocketAddr,
    /// Permits of the sliding window of four seconds, and of a minute of the calendar.
    pub(super) window: u64,
    pub(super) minute: u64,
}

impl Terms {
    /// The document, with a number of the writer's in it.
    pub(super) fn text(&self, number: u64) -> String {
        let Self { open, backend, window, minute } = self;
        let mut text = format!(
            "{MARK}{number}
version: 1
consumers: [{{name: load}}, {{name: registers}}]
limits:
  - {{name: sliding, window: 4s, max: {window}}}
  - {{name: minutely, calendar: minute, max: {minute}}}
upstreams:
  - {{name: open, endpoints: [{{url: \"http://{open}\"}}]}}
  - {{name: backend, endpoints: [{{url: \"http://{backend}\"}}]}}
routes:
  - {{name: open, match: {{path: \"/open/*\"}}, to: [{{upstream: open}}]}}
  - {{name: limited, match: {{path: \"/limited/*\"}}, to: [{{upstream: backend}}], auth: [key], limits: [sliding]}}
  - {{name: dated, match: {{path: \"/dated/*\"}}, to: [{{upstream: backend}}], auth: [key], limits: [minutely]}}
plans:
"
        );
        for plan in 1..=PLANS {
            writeln!(text, "  - {{name: p{plan}, limits: []}}").expect("a text takes all");
        }
        text
    }
}

/// The writer's number in it; 0: nobody's.
pub(super) fn written(text: &str) -> u64 {
    let number = text.lines().next().and_then(|line| line.strip_prefix(MARK)?.parse().ok());
    number.unwrap_or(0)
}
