//! The cache of one node: start reading at [`Cache::glance`].
//!
//! A lookup asks the memory tier and, most of the time, is done. If not, it asks Redis, joins a fetch that is under way
//! on this node or waits for one on another, and at last goes to the origin itself, with a [`Fetch`] that knows what to
//! make of the answer. Nothing that a purge or an invalidation voided gets out on any of these ways.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use http::{HeaderMap, Method, StatusCode};
use tidegate_model::Millis;
use tidegate_policy::Cache as Policy;
use tidegate_policy::path::normalize;

use crate::again::Spot;
use crate::answer::{self, Answer, Asker, Kind};
use crate::ask::{Ask, Place};
use crate::counters::{Counters, bump};
use crate::fetch::Fetch;
use crate::flight::{Flights, Watch};
use crate::memory::{Found, Memory};
use crate::peers::{Fills, Peers};
use crate::pending::Pending;
use crate::purge::{Epoch, PurgeEntry, Purges};
use crate::remote::{self, Remote, Token};
use crate::rules::conditional::{self, Outcome};
use crate::rules::control::RequestControl;
use crate::rules::invalidate;
use crate::rules::key::{self, Url, UrlDigest};
use crate::rules::reuse::{Because, Reuse};
use crate::rules::status::{Forward, Report};
use crate::stored::Stored;

/// Of the node.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Bytes of the memory tier.
    pub memory: usize,
    /// Purges remembered one by one.
    pub purges: usize,
    /// How long a request waits for another's fetch before it goes to the origin itself.
    pub wait: Duration,
    pub redis: Option<remote::Settings>,
    /// Asked at each lookup: does this node hold its lease, so that purges reach it? It must not wait.
    pub lease: Option<Lease>,
    /// The other nodes, to fetch together with where Redis does not say who fetches.
    pub peers: Option<Arc<dyn Peers>>,
}

/// Whether the node holds its lease.
#[derive(Clone)]
pub struct Lease(pub Arc<dyn Fn() -> bool + Send + Sync>);

impl std::fmt::Debug for Lease {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Lease").field(&(self.0)()).finish()
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self { memory: 256 << 20, purges: 4_096, wait: Duration::from_secs(3), redis: None, lease: None, peers: None }
    }
}

#[derive(Debug)]
pub struct Cache {
    memory: Arc<Memory>,
    remote: ArcSwapOption<Remote>,
    fills: Option<Arc<Fills>>,
    purges: Purges,
    pub(crate) flights: Arc<Flights>,
    pub(crate) wait: Duration,
    lease: Option<Lease>,
    live: AtomicBool,
    /// Bytes of bodies that are being collected; not yet stored, they are bounded apart.
    filling: AtomicUsize,
    dice: AtomicU64,
    pub counters: Counters,
}

/// A request that may have changed something.
#[derive(Debug, Clone, Copy)]
pub struct Changed<'a> {
    pub tenant: &'a str,
    /// Without port.
    pub host: &'a str,
    /// Path and query as the client sent them.
    pub target: &'a str,
    pub method: &'a Method,
}

/// What is to be done with a request.
#[derive(Debug)]
pub enum Lookup {
    /// This answers it.
    Answer(Box<Answer>),
    /// This answers it, and the fetch is to be done by nobody's leave in the background ([`Fetch::claim`] first).
    Refresh(Box<Answer>, Box<Fetch>),
    /// Ask the origin, and hand the answer to the fetch.
    Fetch(Box<Fetch>),
    /// Ask the origin as if there were no cache. The report goes into the answer's `Cache-Status`.
    Pass(Box<Report>),
}

/// A lookup that may not be done yet.
pub enum Glance {
    Done(Lookup),
    Wait(Box<Pending>),
}

impl Cache {
    /// Redis, if any, is connected to in the background, on the runtime this is called on.
    ///
    /// # Errors
    /// What is wrong with the Redis URL or its certificates.
    pub fn start(settings: Settings) -> Result<Arc<Self>, String> {
        let memory = Arc::new(Memory::new(settings.memory));
        let cache = Arc::new(Self {
            memory,
            remote: ArcSwapOption::empty(),
            fills: settings.peers.map(Fills::new),
            purges: Purges::new(settings.purges),
            flights: Arc::default(),
            wait: settings.wait,
            lease: settings.lease,
            live: AtomicBool::new(true),
            filling: AtomicUsize::new(0),
            dice: AtomicU64::new(seed()),
            counters: Counters::default(),
        });
        cache.use_redis(settings.redis)?;
        Ok(cache)
    }

    /// Answers at once from memory, or tells what there is to wait for.
    #[must_use]
    pub fn glance(self: &Arc<Self>, ask: &Ask<'_>) -> Glance {
        if !self.is_live() {
            bump(&self.counters.bypassed);
            return Glance::Done(Lookup::Pass(Box::new(Report {
                detail: Some("cut-off"),
                ..Report::forward(Forward::Bypass)
            })));
        }
        let Some(class) = ask.class() else {
            bump(&self.counters.bypassed);
            return Glance::Done(Lookup::Pass(Box::new(Report::forward(Forward::Method))));
        };
        let control = ask.control();
        let place = ask.place(class);
        let now = self.now();
        let (found, others) = self.recall(&place, ask.headers, now);
        let asker = Asker { method: ask.method, headers: ask.headers };
        match found {
            Some(stored) => match self.judge(&stored, &control, asker, Kind::Hit, now) {
                Judged::Serve(mut answer, None) => {
                    answer.spot = place.own.is_none().then_some(Spot(place.main));
                    Glance::Done(Lookup::Answer(answer))
                }
                // Nobody sends a client's body again behind its back.
                Judged::Serve(answer, Some(why)) if *ask.method == Method::POST => match answer.kind {
                    Kind::Stale => self.pending(ask, place, control, why, Some(stored), now),
                    _ => Glance::Done(Lookup::Answer(answer)),
                },
                Judged::Serve(answer, Some(why)) => {
                    Glance::Done(self.refresh(answer, why, &stored, ask, place, control, now))
                }
                Judged::Ask { why, held } => self.pending(ask, place, control, why, held, now),
                Judged::AskAsSent => {
                    self.counters.forwarded(Forward::Request);
                    let mut fetch = self.fetch(ask, place, control, Forward::Request, None, now);
                    fetch.as_sent = true;
                    Glance::Done(Lookup::Fetch(Box::new(fetch)))
                }
            },
            None => {
                self.pending(ask, place, control, if others { Forward::VaryMiss } else { Forward::UriMiss }, None, now)
            }
        }
    }

    /// [`Cache::glance`] and, if need be, the wait.
    pub async fn lookup(self: &Arc<Self>, ask: &Ask<'_>) -> Lookup {
        match self.glance(ask) {
            Glance::Done(lookup) => lookup,
            Glance::Wait(pending) => pending.wait().await,
        }
    }

    fn pending(
        self: &Arc<Self>,
        ask: &Ask<'_>,
        place: Place,
        control: RequestControl,
        why: Forward,
        held: Option<Arc<Stored>>,
        now: Millis,
    ) -> Glance {
        if control.only_if_cached && self.remote().is_none() {
            return Glance::Done(Lookup::Answer(Box::new(answer::only_if_cached())));
        }
        Glance::Wait(Box::new(Pending::new(self.fetch(ask, place, control, why, held, now))))
    }

    fn fetch(
        self: &Arc<Self>,
        ask: &Ask<'_>,
        place: Place,
        control: RequestControl,
        why: Forward,
        held: Option<Arc<Stored>>,
        now: Millis,
    ) -> Fetch {
        let watch = self.flights.watch(place.main.url);
        Fetch {
            cache: Arc::clone(self),
            policy: Arc::clone(ask.policy),
            place,
            tenant: ask.tenant.into(),
            url: ask.url().into(),
            method: ask.method.clone(),
            headers: ask.headers.clone(),
            control,
            held,
            as_sent: false,
            why,
            // Before the origin is asked: whatever is purged from here on voids what comes back.
            begun: self.purges.epoch(),
            asked: now,
            stand_in: Millis::ZERO,
            watch,
            lead: None,
            duty: None,
        }
    }

    #[expect(clippy::too_many_arguments, reason = "what a lookup knows at its end")]
    fn refresh(
        self: &Arc<Self>,
        answer: Box<Answer>,
        why: Forward,
        stored: &Arc<Stored>,
        ask: &Ask<'_>,
        place: Place,
        control: RequestControl,
        now: Millis,
    ) -> Lookup {
        // Conditions and method of this request are beside the point, and so is who else waits.
        let variant = variant(stored);
        let Some(lead) = self.flights.lead(&place.main, variant, self.purges.epoch()) else {
            return Lookup::Answer(answer);
        };
        bump(&self.counters.refreshes);
        let mut fetch = self.fetch(
            ask,
            place,
            RequestControl { no_store: control.no_store, ..RequestControl::default() },
            why,
            Some(Arc::clone(stored)),
            now,
        );
        conditional::ask_for_all(&mut fetch.headers);
        if fetch.method == Method::HEAD {
            fetch.method = Method::GET;
        }
        fetch.lead = Some(lead);
        Lookup::Refresh(answer, Box::new(fetch))
    }

    /// What is in memory for this caller, if no purge voided it. And is there something for other requests?
    pub(crate) fn recall(&self, place: &Place, request: &HeaderMap, now: Millis) -> (Option<Arc<Stored>>, bool) {
        let mut others = false;
        for key in std::iter::once(&place.main).chain(&place.own) {
            match self.memory.find(key, request, now) {
                Found::This(stored) if self.purges.outlived_by(&stored) => return (Some(stored), false),
                Found::This(stored) => {
                    bump(&self.counters.purged);
                    self.memory.remove_stored(&stored);
                }
                Found::Others => others = true,
                Found::Nothing => {}
            }
        }
        (None, others)
    }

    /// What a stored response is good for.
    pub(crate) fn judge(
        &self,
        stored: &Arc<Stored>,
        control: &RequestControl,
        asker: Asker<'_>,
        kind: Kind,
        now: Millis,
    ) -> Judged {
        let terms = &stored.terms;
        let (kind, refresh) = match terms.reuse(control, now) {
            Reuse::Fresh => {
                let early = kind == Kind::Hit && terms.refreshes_early(stored.fetch(), self.throw(), now);
                (kind, early.then_some(Forward::Stale))
            }
            Reuse::Stale { refresh } => (Kind::Stale, refresh.then_some(Forward::Stale)),
            Reuse::Validate(because) => {
                let why = match because {
                    Because::Stale => Forward::Stale,
                    Because::Request => Forward::Request,
                };
                return Judged::Ask { why, held: Some(Arc::clone(stored)) };
            }
        };
        let not_modified = match conditional::evaluate(asker.headers, stored.status, &stored.headers, stored.answered) {
            Outcome::Serve => false,
            Outcome::NotModified => true,
            Outcome::AskOrigin => return Judged::AskAsSent,
        };
        let report = Report { collapsed: kind == Kind::Collapsed, ..Report::hit(terms.ttl_seconds(now)) };
        self.counters.answered(kind);
        Judged::Serve(Box::new(answer::of(stored, asker, not_modified, kind, &report, now)), refresh)
    }

    /// Stores what is whole, unless it is void meanwhile. `false`: nobody else may have it.
    pub(crate) fn keep(&self, stored: &Arc<Stored>, policy: &Policy, watch: &Watch) -> bool {
        if watch.is_doomed() || !self.is_live() || !self.purges.outlived_by(stored) {
            bump(&self.counters.stillborn);
            return false;
        }
        bump(if self.memory.insert(Arc::clone(stored), policy.vary_limit) {
            &self.counters.stored
        } else {
            &self.counters.not_held
        });
        // Whoever voids it takes it out of memory after he told the watch: one of us sees the other.
        if watch.is_doomed() {
            self.memory.remove_stored(stored);
            return false;
        }
        if let Some(remote) = self.remote() {
            remote.store(stored, policy.vary_limit);
        }
        true
    }

    /// May it be served now? It was looked up a while ago.
    pub(crate) fn still_holds(&self, stored: &Stored) -> bool {
        self.is_live() && self.purges.outlived_by(stored)
    }

    /// From Redis or another node into memory. `None`: a purge voided it.
    pub(crate) fn adopt(&self, stored: Stored, variants: usize) -> Option<Arc<Stored>> {
        let stored = Arc::new(stored);
        if !self.purges.outlived_by(&stored) || self.flights.is_void(stored.key.url, stored.asked) {
            bump(&self.counters.purged);
            return None;
        }
        self.memory.insert(Arc::clone(&stored), variants);
        Some(stored)
    }

    /// An unsafe request was answered: its URI, and those that the answer names, are void here, and on all nodes that
    /// hear of it through Redis.
    /// `policy`: of the route, which may name its queries otherwise than they are sent.
    pub fn changed(&self, what: &Changed<'_>, policy: Option<&Policy>, status: StatusCode, answer: &HeaderMap) {
        if !invalidate::is_unsafe(what.method) {
            return;
        }
        let now = self.now();
        for target in invalidate::targets(what.host, what.target, status, answer) {
            let (path, query) = target.split_once('?').map_or((&*target, None), |(path, query)| (path, Some(query)));
            let path = &normalize(path);
            let url = |query| Url { tenant: what.tenant, host: what.host, path, query };
            self.invalidate(url(query).digest(), now);
            if let Some(named) = policy.and_then(|policy| key::query(&policy.key.query, query)) {
                let named = Some(&*named).filter(|named| !named.is_empty());
                if named != query {
                    self.invalidate(url(named).digest(), now);
                }
            }
        }
    }

    fn invalidate(&self, url: UrlDigest, now: Millis) {
        self.void_here(url, now);
        if let Some(fills) = &self.fills {
            fills.void(url, now);
        }
        if let Some(remote) = self.remote() {
            remote.void(url, now);
        }
    }

    pub(crate) fn void_here(&self, url: UrlDigest, now: Millis) {
        bump(&self.counters.invalidated);
        self.flights.void(url, now, self.remote().is_some() || self.fills.is_some());
        self.memory.remove_url(url);
    }

    /// When it returns, nothing that the entry matches and was fetched before gets out of this node's cache.
    pub fn purge(&self, entry: &PurgeEntry) {
        self.purge_all(std::slice::from_ref(entry));
    }

    /// The same for several; those of one epoch belong into one call.
    pub fn purge_all(&self, entries: &[PurgeEntry]) {
        for news in self.purges.apply_all(entries) {
            match &news.what {
                // The rest goes when it is met, or when room is needed.
                crate::purge::Purge::All => self.memory.clear(),
                crate::purge::Purge::Url(url) => drop(self.memory.remove_url(*url)),
                _ => {}
            }
        }
    }

    /// After entries were missed: everything before this is void.
    pub fn purge_before(&self, epoch: Epoch) {
        self.purges.raise_floor(epoch);
    }

    /// A node without its lease hears of no purges: it does without the cache.
    pub fn set_live(&self, live: bool) {
        self.live.store(live, Ordering::Release);
    }

    pub(crate) fn is_live(&self) -> bool {
        self.live.load(Ordering::Acquire) && self.lease.as_ref().is_none_or(|lease| (lease.0)())
    }

    /// Stored in memory under a URL now, for people who ask.
    #[must_use]
    pub fn stored(&self, url: &Url<'_>) -> Vec<Arc<Stored>> {
        self.stored_as(url.digest())
    }

    /// The same by the URL's name in keys.
    #[must_use]
    pub fn stored_as(&self, url: UrlDigest) -> Vec<Arc<Stored>> {
        let mut stored = self.memory.of_url(url);
        stored.retain(|stored| self.purges.outlived_by(stored));
        stored
    }

    #[must_use]
    pub fn memory(&self) -> &Memory {
        &self.memory
    }

    #[must_use]
    pub fn remote(&self) -> Option<Arc<Remote>> {
        self.remote.load_full()
    }

    /// Another Redis from now on, or none. What waits for the one before waits no longer than its deadline.
    ///
    /// # Errors
    /// What is wrong with the URL or the certificates; all stays as it was then.
    pub fn use_redis(&self, settings: Option<remote::Settings>) -> Result<(), String> {
        let remote = match settings {
            Some(of) => Some(Remote::start(of, &self.memory).map_err(|why| format!("redis: {why}"))?),
            None => None,
        };
        self.remote.store(remote);
        Ok(())
    }

    pub(crate) fn fills(&self) -> Option<&Arc<Fills>> {
        self.fills.as_ref()
    }

    #[must_use]
    pub fn purges(&self) -> &Purges {
        &self.purges
    }

    /// Fetches under way.
    #[must_use]
    pub fn fetching(&self) -> usize {
        self.flights.len()
    }

    /// Room for bytes that are being collected: a quarter of the tier, beside it.
    pub(crate) fn reserve(&self, bytes: usize) -> bool {
        let bound = self.memory.bound() / 4;
        let fits = |used: usize| used.checked_add(bytes).filter(|&sum| sum <= bound);
        self.filling.fetch_update(Ordering::AcqRel, Ordering::Acquire, fits).is_ok()
    }

    pub(crate) fn release(&self, bytes: usize) {
        self.filling.fetch_sub(bytes, Ordering::AcqRel);
    }

    pub(crate) fn now(&self) -> Millis {
        Millis(tidegate_clock::wall().0 / 1_000_000)
    }

    pub(crate) fn token(&self) -> Token {
        Token(u128::from(self.next()) << 64 | u128::from(self.next()))
    }

    pub(crate) fn throw(&self) -> u32 {
        (self.next() >> 32) as u32
    }

    /// splitmix64: nobody gains by guessing it.
    fn next(&self) -> u64 {
        let state = self.dice.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

/// What came of looking at a stored response.
pub(crate) enum Judged {
    /// With the reason to fetch it anew meanwhile, if there is one.
    Serve(Box<Answer>, Option<Forward>),
    Ask {
        why: Forward,
        held: Option<Arc<Stored>>,
    },
    /// A condition that only the origin can judge.
    AskAsSent,
}

/// Which variant of its key a response is; zero when there is but one.
pub(crate) fn variant(stored: &Stored) -> u64 {
    crate::remote::variant_of(&stored.selector)
}

fn seed() -> u64 {
    use std::hash::BuildHasher;
    std::hash::RandomState::new().hash_one(0_u8)
}
