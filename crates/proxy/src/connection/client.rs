//! What is known of a client, and what its connection is doing: shared by the socket, the requests and the watch.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::task::Context;
use std::time::Duration;

use http::HeaderValue;
use tidegate_tls::Certificates;
use tidegate_upstream::Whom;
use tokio::time::Instant;

use super::Version;
use super::parked::Parked;
use crate::drain::Draining;
use crate::gate::{Counted, Gate};
use crate::local::Local;
use crate::server::Http3;

/// All orderings are relaxed: the numbers are read by the connection's own task or decide nothing but a timeout.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) gate: Arc<Gate>,
    pub(crate) local: Arc<Local>,
    /// The peer of the socket, IPv4 in its own form; maybe a load balancer.
    pub(crate) address: IpAddr,
    /// The same, as it goes into `X-Forwarded-For`.
    pub(crate) address_text: HeaderValue,
    /// As upstreams are told that are told in the PROXY protocol.
    pub(crate) whom: Whom,
    /// The listener's port.
    pub(crate) port: u16,
    /// The same, for `X-Forwarded-Port`.
    pub(crate) port_text: HeaderValue,
    /// `TLSv1.3`; `None` in clear.
    pub(crate) tls: Option<&'static str>,
    /// What TLS was agreed for.
    pub(crate) promised: Option<Promised>,
    /// Where HTTP/3 may be spoken on the listener's port.
    pub(crate) http3: Option<Http3>,
    pub(crate) draining: Draining,
    born: Instant,
    /// h2 or HTTP/3: many requests at once, each with a window of its own.
    multiplexed: AtomicBool,
    requests: AtomicU32,
    in_flight: AtomicU32,
    /// Milliseconds since `born`; 0 = never.
    idle_since: AtomicU64,
    head_since: AtomicU64,
    blocked_since: AtomicU64,
    /// Milliseconds for which the socket may still take nothing: bytes that it takes bring some back.
    slack: AtomicU32,
    body_open: AtomicBool,
    /// The last request's body was not read to its end.
    unread: AtomicBool,
    /// h2 streams that were handed a frame and asked for none since: (milliseconds since `born`, number).
    lent: Mutex<BTreeSet<(u64, u32)>>,
    loans: AtomicU32,
    /// Answers that wait until the socket takes bytes again.
    parked: Parked,
    /// We have begun to close the socket.
    shuts: AtomicBool,
    /// What it did that ends the connection, as the metrics call it.
    fault: OnceLock<&'static str>,
    _held: Held,
}

/// The name that a TLS client asked for.
#[derive(Debug)]
pub(crate) struct Promised {
    pub(crate) certificates: Arc<Certificates>,
    pub(crate) name: Option<Box<str>>,
    /// The certificate that the client showed, as `Client-Cert` says it (RFC 9440).
    pub(crate) shown: Option<HeaderValue>,
}

impl Promised {
    /// May a request on this connection be for `host`? Another name of the same terms is fine: browsers share connections.
    pub(crate) fn covers(&self, host: &str) -> bool {
        self.name.as_deref() == Some(host) || self.certificates.is_enough_for(self.name.as_deref(), host)
    }
}

/// What a connection holds while anything of it lives: its places in the counts, and its listener's patience.
#[derive(Debug)]
pub(crate) struct Held {
    pub(crate) _listener: Counted,
    pub(crate) _node: Counted,
    pub(crate) _alive: tokio::sync::mpsc::Sender<()>,
}

/// In what a client is late.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Late {
    Idle,
    Head,
    Taking,
}

impl Late {
    /// As the metrics call it.
    pub(crate) fn reason(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Head => "head_timeout",
            Self::Taking => "slow_reader",
        }
    }
}

/// A request between its first byte in and its last byte out.
#[derive(Debug)]
pub(crate) struct Exchange {
    client: Arc<Client>,
    /// The node has room for it.
    pub(crate) admitted: bool,
}

impl Client {
    pub(crate) fn new(
        gate: Arc<Gate>,
        local: Arc<Local>,
        peer: SocketAddr,
        here: SocketAddr,
        tls: Option<&'static str>,
        draining: Draining,
        held: Held,
    ) -> Self {
        let address = peer.ip().to_canonical();
        let slack = gate.bounds.slack();
        Self {
            gate,
            local,
            address,
            address_text: HeaderValue::try_from(address.to_string()).expect("an address is a header value"),
            whom: Whom::Client { from: peer, to: here },
            port: here.port(),
            port_text: HeaderValue::from(here.port()),
            tls,
            promised: None,
            http3: None,
            draining,
            born: Instant::now(),
            multiplexed: AtomicBool::new(false),
            requests: AtomicU32::new(0),
            in_flight: AtomicU32::new(0),
            idle_since: AtomicU64::new(0),
            head_since: AtomicU64::new(0),
            blocked_since: AtomicU64::new(0),
            slack: AtomicU32::new(slack),
            body_open: AtomicBool::new(false),
            unread: AtomicBool::new(false),
            lent: Mutex::default(),
            loans: AtomicU32::new(0),
            parked: Parked::default(),
            shuts: AtomicBool::new(false),
            fault: OnceLock::new(),
            _held: held,
        }
    }

    /// Is HTTP/3 spoken on the port that it came to?
    pub(crate) fn is_beside_http3(&self) -> bool {
        self.http3.as_ref().is_some_and(Http3::is_spoken)
    }

    pub(crate) fn speaks(&self, version: Version) {
        self.multiplexed.store(version != Version::Http1, Relaxed);
    }

    pub(crate) fn is_multiplexed(&self) -> bool {
        self.multiplexed.load(Relaxed)
    }

    /// A request head was read.
    pub(crate) fn begin(self: &Arc<Self>, has_body: bool) -> Exchange {
        self.in_flight.fetch_add(1, Relaxed);
        self.requests.fetch_add(1, Relaxed);
        if !self.is_multiplexed() {
            self.head_since.store(0, Relaxed); // There another head may have begun meanwhile.
        }
        self.body_open.store(has_body, Relaxed);
        self.unread.store(has_body, Relaxed);
        Exchange { client: self.clone(), admitted: self.local.begin(&self.gate) }
    }

    /// The next bytes begin a head. May be said twice.
    pub(crate) fn body_ended(&self) {
        self.body_open.store(false, Relaxed);
    }

    /// Nothing of the body is left in the socket.
    pub(crate) fn body_read(&self) {
        self.unread.store(false, Relaxed);
    }

    pub(crate) fn has_unread(&self) -> bool {
        self.unread.load(Relaxed) && !self.is_multiplexed()
    }

    /// A head began and did not end with what was read.
    pub(crate) fn head_began(&self) {
        if self.head_since.load(Relaxed) == 0 {
            self.head_since.store(self.now(), Relaxed);
        }
    }

    /// No head is open any more.
    pub(crate) fn head_ended(&self) {
        if self.head_since.load(Relaxed) != 0 {
            self.head_since.store(0, Relaxed);
        }
    }

    /// What is first said stays.
    pub(crate) fn is_at_fault(&self, reason: &'static str) {
        self.fault.get_or_init(|| reason);
    }

    /// The connection is over: counted if we ended it. `late`: by dropping it.
    pub(crate) fn ended(&self, late: Option<Late>) {
        if let Some(reason) = self.fault.get().copied().or(late.map(Late::reason)) {
            self.gate.telemetry.connection_ended(reason);
        }
    }

    /// `taken`: so many bytes the socket took; `None`: it is full.
    pub(crate) fn wrote(&self, taken: Option<usize>) {
        let since = self.blocked_since.load(Relaxed);
        let Some(bytes) = taken else {
            if since == 0 {
                self.blocked_since.store(self.now(), Relaxed);
            }
            return;
        };
        if since != 0 {
            self.blocked_since.store(0, Relaxed);
            let waited = u32::try_from(self.now().saturating_sub(since)).unwrap_or(u32::MAX);
            self.slack.store(self.slack.load(Relaxed).saturating_sub(waited), Relaxed);
            self.parked.wake();
        }
        let (slack, most) = (self.slack.load(Relaxed), self.gate.bounds.slack());
        if slack < most {
            let earned = bytes as u64 * 1_000 / u64::from(self.gate.bounds.send_rate);
            let slack = u64::from(slack).saturating_add(earned).min(most.into());
            self.slack.store(u32::try_from(slack).unwrap_or(most), Relaxed);
        }
    }

    /// Whether an h2 answer has to wait before it asks for more of itself: it is woken when the socket takes bytes again.
    pub(crate) fn is_full(&self, cx: &mut Context<'_>) -> bool {
        if !self.is_multiplexed() || self.blocked_since.load(Relaxed) == 0 {
            return false;
        }
        self.parked.park(cx.waker());
        // The socket may have taken bytes before we stood in the list: its lock tells.
        self.blocked_since.load(Relaxed) != 0
    }

    /// When this connection is too slow, and in what, if nothing changes until then. `None`: it is our turn.
    pub(crate) fn deadline(&self) -> Option<(Instant, Late)> {
        let bounds = &self.gate.bounds;
        let blocked = self.blocked_since.load(Relaxed);
        if blocked != 0 {
            let slack = Duration::from_millis(self.slack.load(Relaxed).into());
            return Some((self.at(blocked, slack), Late::Taking));
        }
        let head = self.head_since.load(Relaxed);
        // An h2 head stops all that its client has to say: no stream beside it excuses it (RFC 9113 § 4.3).
        let late = || (self.at(head, bounds.head_timeout), Late::Head);
        if head != 0 && self.is_multiplexed() {
            return Some(late());
        }
        if self.in_flight.load(Relaxed) != 0 {
            return self.oldest_lent().map(|since| (self.at(since, bounds.stall_timeout), Late::Taking));
        }
        if head != 0 {
            return Some(late());
        }
        let first = self.requests.load(Relaxed) == 0 && !self.is_multiplexed();
        let patience = if first { bounds.head_timeout } else { bounds.idle_timeout };
        Some((self.at(self.idle_since.load(Relaxed), patience), Late::Idle))
    }

    /// When an HTTP/1.1 connection may give up all that it holds for requests, if nothing changes until then. `None`: it has had
    /// none, or is not done with the last: something is to be read or written.
    pub(super) fn rests_at(&self) -> Option<Instant> {
        let is = |flag: &AtomicBool| flag.load(Relaxed);
        let rests = self.is_idle()
            && self.requests.load(Relaxed) != 0
            && self.head_since.load(Relaxed) == 0
            && self.blocked_since.load(Relaxed) == 0;
        let done = rests && !(is(&self.body_open) || is(&self.unread) || is(&self.shuts) || self.is_multiplexed());
        done.then(|| self.at(self.idle_since.load(Relaxed), self.gate.bounds.rest_after))
    }

    /// The socket is about to be closed.
    pub(crate) fn shuts(&self) {
        self.shuts.store(true, Relaxed);
    }

    /// Has it asked for nothing for so long, and is not about to?
    pub(super) fn has_been_idle(&self, long: Duration) -> bool {
        let idle = self.in_flight.load(Relaxed) == 0 && self.head_since.load(Relaxed) == 0;
        idle && self.at(self.idle_since.load(Relaxed), long) <= Instant::now()
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.in_flight.load(Relaxed) == 0
    }

    /// A frame went to an h2 stream. A window that never opens would keep it, and the upstream's connection, for ever;
    /// hyper does not say, so the oldest such stream is watched.
    pub(crate) fn lend(&self) -> Option<(u64, u32)> {
        if !self.is_multiplexed() {
            return None;
        }
        let loan = (self.now(), self.loans.fetch_add(1, Relaxed));
        self.lent.lock().unwrap_or_else(PoisonError::into_inner).insert(loan);
        Some(loan)
    }

    pub(crate) fn returned(&self, loan: (u64, u32)) {
        self.lent.lock().unwrap_or_else(PoisonError::into_inner).remove(&loan);
    }

    fn oldest_lent(&self) -> Option<u64> {
        if !self.is_multiplexed() {
            return None;
        }
        self.lent.lock().unwrap_or_else(PoisonError::into_inner).first().map(|(since, _)| *since)
    }

    fn at(&self, since: u64, patience: Duration) -> Instant {
        self.born + Duration::from_millis(since) + patience
    }

    /// Milliseconds since it came. Never 0, which means never.
    pub(crate) fn now(&self) -> u64 {
        u64::try_from(self.born.elapsed().as_millis()).unwrap_or(u64::MAX).max(1)
    }
}

impl Exchange {
    pub(crate) fn client(&self) -> &Arc<Client> {
        &self.client
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        let client = &*self.client;
        client.idle_since.store(client.now(), Relaxed);
        client.in_flight.fetch_sub(1, Relaxed);
        if self.admitted {
            client.local.end(&client.gate);
        }
    }
}
