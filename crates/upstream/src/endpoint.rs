//! One address of an upstream: its load, its health as this node saw it, its connections. Outlives snapshots.

use std::fmt;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::time::Instant;

use crate::breaker::pulse::Pulse;
use crate::pool::Pool;
use crate::shard::{self, Laned};

/// Connections that fail in a row before the endpoint is set aside.
const STRIKES: u32 = 3;
const FIRST_PAUSE: u64 = 500; // milliseconds
const LONGEST_PAUSE: u64 = 10_000;

/// Where to connect to.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Address {
    pub(crate) https: bool,
    /// What the document says: the name to verify when the upstream names none.
    pub(crate) host: String,
    pub(crate) port: u16,
    /// `None`: resolve `host` when connecting.
    pub(crate) ip: Option<IpAddr>,
}

pub(crate) struct Endpoint {
    name: Arc<str>,
    pub(crate) address: Address,
    pub(crate) pool: Pool,
    pub(crate) tally: Tally,
    /// For its breaker.
    pub(crate) pulse: Pulse,
    traffic: Laned<Traffic>,
    /// Connections that failed since one stood.
    strikes: AtomicU32,
    /// Milliseconds of [`millis`].
    ejected_until: AtomicU64,
}

/// What every request moves.
#[derive(Debug, Default)]
struct Traffic {
    in_flight: AtomicUsize,
    /// Of those: the answer's head is here, and its body is waited for.
    relaying: AtomicUsize,
    /// Since the endpoint is known.
    requests: AtomicU64,
}

/// Counts since the endpoint is known, for metrics.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) connects: AtomicU64,
    pub(crate) connect_failures: AtomicU64,
    pub(crate) resets: AtomicU64,
    pub(crate) timeouts: AtomicU64,
}

impl Endpoint {
    pub(crate) fn new(address: Address) -> Arc<Self> {
        let port = address.port;
        let name = match address.ip {
            Some(ip) => std::net::SocketAddr::new(ip, port).to_string(),
            None => format!("{}:{port}", address.host),
        };
        Arc::new(Self {
            name: name.into(),
            address,
            pool: Pool::new(),
            tally: Tally::default(),
            pulse: Pulse::default(),
            traffic: Laned::default(),
            strikes: AtomicU32::new(0),
            ejected_until: AtomicU64::new(0),
        })
    }

    /// `10.0.0.5:8000`
    pub(crate) fn name(&self) -> &Arc<str> {
        &self.name
    }

    pub(crate) fn in_flight(&self) -> usize {
        self.traffic.iter().map(|lane| lane.in_flight.load(Relaxed)).sum()
    }

    /// Requests whose answer has not begun.
    pub(crate) fn awaited(&self) -> usize {
        let relaying: usize = self.traffic.iter().map(|lane| lane.relaying.load(Relaxed)).sum();
        self.in_flight().saturating_sub(relaying)
    }

    pub(crate) fn requests(&self) -> u64 {
        self.traffic.iter().map(|lane| lane.requests.load(Relaxed)).sum()
    }

    /// A request is on its way, until the guard goes.
    pub(crate) fn begin(self: &Arc<Self>) -> InFlight {
        let lane = shard::lane();
        let traffic = self.traffic.at(lane);
        traffic.in_flight.fetch_add(1, Relaxed);
        traffic.requests.fetch_add(1, Relaxed);
        InFlight { endpoint: Arc::clone(self), lane, relaying: false }
    }

    pub(crate) fn is_ejected(&self, now: u64) -> bool {
        self.ejected_until.load(Relaxed) > now || self.pulse.is_shut()
    }

    pub(crate) fn connected(&self) {
        self.tally.connects.fetch_add(1, Relaxed);
        self.strikes.store(0, Relaxed);
        self.ejected_until.store(0, Relaxed);
    }

    /// Sets the endpoint aside after three failures in a row: 0.5 s, 1 s, 2 s, … 10 s. When the pause is over the
    /// next request tries it; one more failure pauses it again.
    pub(crate) fn connect_failed(&self, now: u64) {
        self.tally.connect_failures.fetch_add(1, Relaxed);
        if self.ejected_until.load(Relaxed) > now {
            return; // A straggler of the same outage.
        }
        let strikes = self.strikes.fetch_add(1, Relaxed).saturating_add(1);
        if strikes >= STRIKES {
            let pause = (FIRST_PAUSE << (strikes - STRIKES).min(8)).min(LONGEST_PAUSE);
            self.ejected_until.store(now + pause, Relaxed);
        }
    }

    #[cfg(test)]
    pub(crate) fn for_test(name: &str) -> Arc<Self> {
        let address = Address { https: false, host: name.to_owned(), port: 80, ip: None };
        let mut endpoint = Arc::into_inner(Self::new(address)).expect("nobody else has it yet");
        endpoint.name = name.into();
        Arc::new(endpoint)
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Endpoint")
            .field("name", &self.name)
            .field("in_flight", &self.in_flight())
            .finish_non_exhaustive()
    }
}

/// A request in flight to an endpoint.
#[derive(Debug)]
pub(crate) struct InFlight {
    endpoint: Arc<Endpoint>,
    lane: u32,
    relaying: bool,
}

impl InFlight {
    pub(crate) fn endpoint(&self) -> &Arc<Endpoint> {
        &self.endpoint
    }

    /// The answer has begun, and takes its time. Short ones are over before anybody would say so.
    pub(crate) fn relays(&mut self) {
        if !std::mem::replace(&mut self.relaying, true) {
            self.endpoint.traffic.at(self.lane).relaying.fetch_add(1, Relaxed);
        }
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        let traffic = self.endpoint.traffic.at(self.lane);
        traffic.in_flight.fetch_sub(1, Relaxed);
        if self.relaying {
            traffic.relaying.fetch_sub(1, Relaxed);
        }
        self.endpoint.pool.freed();
    }
}

/// The endpoints' clock: milliseconds since the first call in this process.
pub(crate) fn millis(now: Instant) -> u64 {
    u64::try_from(age(now).as_millis()).unwrap_or(u64::MAX)
}

/// Since the first call in this process.
pub(crate) fn age(now: Instant) -> Duration {
    static BASE: OnceLock<Instant> = OnceLock::new();
    // 1 s: so that 0 is always the past.
    now.saturating_duration_since(*BASE.get_or_init(|| now)) + Duration::from_secs(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_failures_in_a_row_set_an_endpoint_aside_for_longer_each_time() {
        let endpoint = Endpoint::for_test("a");
        endpoint.connect_failed(0);
        endpoint.connect_failed(0);
        assert!(!endpoint.is_ejected(0));
        endpoint.connect_failed(0);
        assert!(endpoint.is_ejected(499) && !endpoint.is_ejected(500));
        endpoint.connect_failed(499); // of the same outage
        assert!(!endpoint.is_ejected(500));
        endpoint.connect_failed(500);
        assert!(endpoint.is_ejected(1_499) && !endpoint.is_ejected(1_500));
        endpoint.connected();
        endpoint.connect_failed(1_500);
        assert!(!endpoint.is_ejected(1_500));
    }
}
