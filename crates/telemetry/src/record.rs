//! What is known about one request. The proxy's shell fills it; when it ends, however it ends, it becomes one line of
//! the access log and its part of the metrics.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Version};
use smallvec::SmallVec;
use tidegate_model::{KeyId, Nanos, Permits};

use crate::trace::Trace;
use crate::{Scene, Spoken};

/// Fields are set as they become known; what was never known is left out of the line.
#[derive(Debug)]
pub struct Record {
    pub(crate) scene: Arc<Scene>,
    logged: bool,
    /// Boot clock, when the head was read.
    pub started: Nanos,
    pub request_id: Option<HeaderValue>,
    pub client: Option<IpAddr>,
    pub version: Version,
    /// `TLSv1.3`; `None` in clear.
    pub tls: Option<&'static str>,
    pub method: Method,
    pub host: Option<HeaderValue>,
    pub target: Option<PathAndQuery>,
    pub user_agent: Option<HeaderValue>,
    /// Place in the scene's list of routes.
    pub route: Option<usize>,
    /// Place in the scene's list of consumers.
    pub consumer: Option<usize>,
    pub key: Option<KeyId>,
    /// `None`: the route keeps nothing.
    pub cache: Option<Cached>,
    /// The upstream's place among those that the route leads to.
    pub towards: Option<usize>,
    /// `10.0.0.5:8000`
    pub endpoint: Option<Arc<str>>,
    /// Tries, the first included; 0: no upstream was asked.
    pub attempts: u32,
    /// Until the connection stood; `None`: one was reused.
    pub connect: Option<Duration>,
    /// From the call of the upstream to its response head.
    pub first_byte: Option<Duration>,
    /// 0: no answer was sent.
    pub status: u16,
    /// Body bytes.
    pub bytes_in: u64,
    pub bytes_out: u64,
    /// The code of the refusal or fault, from the proxy's closed list.
    pub refusal: Option<&'static str>,
    /// What the client is not told.
    pub detail: Option<Box<str>>,
    pub limits: Standings,
    /// Of calls of language models.
    pub spoken: Option<Box<Spoken>>,
    /// Why the answer is not whole.
    pub cut: Option<Cut>,
    /// `None`: no collector is told anything.
    pub trace: Option<Box<Trace>>,
    /// Tries of providers that failed; of a request that is traced those of upstreams as well.
    pub tries: Vec<Try>,
    /// The span of the try that is under way, and when it began.
    pub asking: Option<(u64, Nanos)>,
    pub(crate) headers: Vec<(Side, HeaderName, HeaderValue)>,
}

/// A try that is over.
#[derive(Debug, Clone)]
pub struct Try {
    pub span: u64,
    /// Boot clock.
    pub began: Nanos,
    pub ended: Nanos,
    /// The upstream's place among those that the route leads to.
    pub towards: Option<usize>,
    pub endpoint: Option<Arc<str>>,
    /// The provider's name for the model.
    pub deployed: Option<Box<str>>,
    /// 0: there was no answer.
    pub status: u16,
    /// What went wrong, from a closed list.
    pub error: Option<&'static str>,
}

/// What the response cache did, or why the upstream was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cached {
    Hit,
    Stale,
    StandIn,
    Revalidated,
    Collapsed,
    OnlyIfCached,
    Miss,
    VaryMiss,
    Expired,
    Requested,
    Partial,
    Bypass,
}

impl Cached {
    /// In the order of their places.
    pub(crate) const ALL: [Self; 12] = [
        Self::Hit,
        Self::Stale,
        Self::StandIn,
        Self::Revalidated,
        Self::Collapsed,
        Self::OnlyIfCached,
        Self::Miss,
        Self::VaryMiss,
        Self::Expired,
        Self::Requested,
        Self::Partial,
        Self::Bypass,
    ];

    /// Nobody was asked for this answer.
    pub(crate) const fn is_hit(self) -> bool {
        matches!(self, Self::Hit | Self::Stale | Self::StandIn | Self::Collapsed)
    }

    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Hit => "hit",
            Self::Stale => "stale",
            Self::StandIn => "stand_in",
            Self::Revalidated => "revalidated",
            Self::Collapsed => "collapsed",
            Self::OnlyIfCached => "only_if_cached",
            Self::Miss => "miss",
            Self::VaryMiss => "vary_miss",
            Self::Expired => "expired",
            Self::Requested => "requested",
            Self::Partial => "partial",
            Self::Bypass => "bypass",
        }
    }
}

/// A request hardly ever has more limits.
pub type Standings = SmallVec<[Standing; 4]>;

/// What one limit said to this request.
#[derive(Debug, Clone, Copy)]
pub struct Standing {
    /// Place in the scene's list of limits.
    pub limit: usize,
    pub verdict: Verdict,
    /// A lower bound.
    pub remaining: Option<Permits>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Admitted,
    Refused,
    /// The limit is in observe mode and would have refused.
    WouldRefuse,
    /// Served although nobody could say (`on_unavailable: allow`).
    Unsafe,
}

/// Who broke an exchange off after its first byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    Client,
    Upstream,
    Timeout,
    /// This node is stopping.
    Shutdown,
    /// It came to more than a limit had, and that says `beyond: cut`.
    Limit,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Request,
    Response,
}

impl Record {
    /// `started`: boot clock.
    #[inline]
    #[must_use]
    pub fn begin(scene: Arc<Scene>, started: Nanos) -> Self {
        scene.telemetry.begun();
        Self {
            logged: scene.telemetry.is_logging(),
            scene,
            started,
            request_id: None,
            client: None,
            version: Version::HTTP_11,
            tls: None,
            method: Method::GET,
            host: None,
            target: None,
            user_agent: None,
            route: None,
            consumer: None,
            key: None,
            cache: None,
            towards: None,
            endpoint: None,
            attempts: 0,
            connect: None,
            first_byte: None,
            status: 0,
            bytes_in: 0,
            bytes_out: 0,
            refusal: None,
            detail: None,
            limits: Standings::new(),
            spoken: None,
            cut: None,
            trace: None,
            tries: Vec::new(),
            asking: None,
            headers: Vec::new(),
        }
    }

    /// What the places of routes, consumers and upstreams are places of.
    #[must_use]
    pub fn scene(&self) -> &Scene {
        &self.scene
    }

    /// Keeps those request headers that the document wants logged.
    pub fn request_headers(&mut self, headers: &HeaderMap) {
        self.capture(Side::Request, headers);
    }

    /// Keeps those response headers that the document wants logged.
    pub fn response_headers(&mut self, headers: &HeaderMap) {
        self.capture(Side::Response, headers);
    }

    /// Will there be a line about this request? If not, what only the line tells need not be set. Decided when the
    /// request begins: a log that is turned on meanwhile tells of those that begin from then on.
    #[must_use]
    pub fn is_logged(&self) -> bool {
        self.logged || self.trace.as_ref().is_some_and(|trace| trace.sampled)
    }

    /// As [`Record::is_logged`], but for a line alone.
    #[must_use]
    pub fn has_line(&self) -> bool {
        self.logged
    }

    /// Joins the caller's trace, or begins one, if a collector is told of requests. `draw`: random numbers.
    #[inline]
    pub fn follow(&mut self, headers: &HeaderMap, draw: impl FnMut() -> u64) {
        let heard = self.scene.telemetry.heard();
        if heard.is_on()
            && let Some(rules) = heard.rules().as_ref().filter(|rules| rules.traces)
        {
            self.trace = Some(Box::new(Trace::of(headers, rules, draw)));
        }
    }

    /// Somebody is asked now, and told by which span.
    #[inline]
    pub fn asks(&mut self, headers: &mut HeaderMap, draw: impl FnOnce() -> u64) {
        if let Some(trace) = &self.trace {
            let span = draw().max(1);
            self.asking = Some((span, tidegate_clock::boot()));
            trace.put(span, headers);
        }
    }

    /// The same, where the headers come later; several may be asked beside each other, each by a span of its own.
    pub fn asks_beside(&self, draw: impl FnOnce() -> u64) -> Option<(Trace, u64)> {
        self.trace.as_ref().map(|trace| (Trace::clone(trace), draw().max(1)))
    }

    /// Whoever was asked failed; maybe somebody else is asked next.
    pub fn tried(&mut self, status: u16, error: &'static str) {
        let now = tidegate_clock::boot();
        let (span, began) = self.asking.take().unwrap_or((0, now));
        let deployed = self.spoken.as_ref().and_then(|spoken| spoken.deployed.clone());
        let (towards, endpoint) = (self.towards, self.endpoint.take());
        self.tries.push(Try { span, began, ended: now, towards, endpoint, deployed, status, error: Some(error) });
    }

    /// It takes long. What is known of its head stands in the buffer that the head came in, and would keep all of that: it
    /// is copied.
    pub fn lasts(&mut self) {
        let Self { request_id, host, user_agent, target, headers, .. } = self;
        let logged = headers.iter_mut().map(|(_, _, value)| value);
        for value in [request_id, host, user_agent].into_iter().flatten().chain(logged) {
            if let Ok(mut own) = HeaderValue::from_bytes(value.as_bytes()) {
                own.set_sensitive(value.is_sensitive());
                *value = own;
            }
        }
        if let Some(target) = target
            && let Ok(own) = target.as_str().parse()
        {
            *target = own;
        }
    }

    fn capture(&mut self, side: Side, headers: &HeaderMap) {
        if !self.logged {
            return;
        }
        let Self { scene, headers: kept, .. } = self;
        scene.telemetry.with_logged_headers(|name| {
            for value in headers.get_all(name) {
                kept.push((side, name.clone(), value.clone()));
            }
        });
    }

    /// The request is over. Dropping a record does the same: a request whose future was cancelled is logged as well.
    pub fn finish(self) {}
}

impl Drop for Record {
    fn drop(&mut self) {
        self.scene.telemetry.finished(self);
    }
}
