//! Upstreams: connections to their endpoints, which one is called, what is tried again and when it is given up.
//!
//! Owns what outlives a document: pools, counts, retry budgets, DNS answers, keyed by the upstream's name and the
//! endpoint's address. Reads `policy`, knows neither document, route nor cluster. Called by `proxy`; the binary calls
//! [`Upstreams::retain`] with each snapshot. Start reading in `call.rs`.

mod alarm;
mod announce;
mod answer;
mod balance;
mod berths;
mod body;
pub mod breaker;
mod budget;
mod call;
mod checkout;
mod connect;
mod discovery;
mod endpoint;
mod facts;
mod failed;
pub mod fuzz;
mod h1;
mod head;
mod health;
pub mod interim;
mod live;
mod names;
mod outgoing;
mod pace;
mod pool;
mod random;
mod shard;
mod wire;

use std::collections::HashSet;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use hickory_resolver::config::{ConnectionConfig, NameServerConfig};
use tidegate_policy::{Upstream, UpstreamId};
use tokio::time::Instant;

pub use announce::Whom;
pub use answer::{Again, Answer, Call, Came};
pub use berths::{BerthFacts, Guest, Shed};
pub use body::{Body, Broken};
pub use budget::Budget;
pub use connect::bound_descriptors;
pub use facts::EndpointFacts;
pub use failed::{BoxError, CallFailed, Phase};
pub use h1::{Switched, Upgraded};

use breaker::post::Post;
use breaker::ruling::{Evidence, Place};
use call::{Content, Run, Turn};
use live::Live;
use names::Names;
use outgoing::Outgoing;

/// Every upstream this node calls.
#[derive(Debug)]
pub struct Upstreams {
    by_id: papaya::HashMap<UpstreamId, Arc<Live>, foldhash::fast::RandomState>,
    names: Arc<Names>,
    post: Arc<Post>,
}

impl Upstreams {
    /// With the system's DNS servers.
    #[must_use]
    pub fn new() -> Arc<Self> {
        Self::with_servers(Vec::new())
    }

    /// With one DNS server of our choosing instead of the system's.
    #[must_use]
    pub fn with_dns(server: std::net::SocketAddr) -> Arc<Self> {
        let at = |mut connection: ConnectionConfig| {
            connection.port = server.port();
            connection
        };
        let connections = vec![at(ConnectionConfig::udp()), at(ConnectionConfig::tcp())];
        Self::with_servers(vec![NameServerConfig::new(server.ip(), true, connections)])
    }

    fn with_servers(servers: Vec<NameServerConfig>) -> Arc<Self> {
        Arc::new(Self { by_id: papaya::HashMap::default(), names: Arc::new(Names::new(servers)), post: Arc::default() })
    }

    /// On a new snapshot: pools of vanished upstreams and endpoints drain, the others keep connections and counters.
    /// Names are watched by the runtime this is called on.
    pub fn retain(&self, upstreams: &[Arc<Upstream>]) {
        let map = self.by_id.pin();
        let wanted: HashSet<&str> = upstreams.iter().map(|upstream| &*upstream.id).collect();
        for (id, live) in &map {
            if !wanted.contains(&**id) {
                live.retire();
                map.remove(id);
            }
        }
        for upstream in upstreams {
            self.live(upstream).retain(upstream);
        }
    }

    /// Calls an upstream. Dropping the future, or the answer's body before its end, cancels the exchange. Extensions
    /// of the request are not passed on. Must run within a tokio runtime with timers and sockets.
    ///
    /// # Errors
    /// No response head was got; [`CallFailed`] says whose fault that is.
    pub fn call<'a, B>(&self, call: Call<'a, B>) -> impl Future<Output = Result<Answer, CallFailed>> + Send + use<'a, B>
    where
        B: http_body::Body<Data = Bytes> + Send + Unpin + 'static,
        B::Error: Into<BoxError>,
    {
        let (started, eager) = (Instant::now(), call.eager);
        let mut run = self.begin(call, started, |body| {
            let (body, source) = outgoing::outgoing(body, started);
            let hint = http_body::Body::size_hint(&body);
            (body, source.map_or(Content::Nothing, |source| Content::Comes(source, hint)))
        });
        // Not an `async fn`: its argument would lie in the future twice.
        async move {
            if !eager {
                let mut late = None;
                std::future::poll_fn(|cx| run.poll_begun(&mut late, cx)).await?;
            }
            if let Some((rules, after)) = run.hedge() {
                return Box::pin(run.run_beside(rules, after)).await;
            }
            std::pin::pin!(run.run()).await
        }
    }

    /// As [`Upstreams::call`], with a body that is in hand: nobody has to watch how it comes.
    ///
    /// # Errors
    /// No response head was got; [`CallFailed`] says whose fault that is.
    pub fn send<'a>(&self, call: Call<'a, Bytes>) -> impl Future<Output = Result<Answer, CallFailed>> + Send + use<'a> {
        let whole = |bytes: Bytes| (Outgoing::whole(bytes.clone()), Content::Whole(bytes));
        let mut run = self.begin(call, Instant::now(), whole);
        async move { std::pin::pin!(run.run()).await }
    }

    fn begin<'a, B>(
        &self,
        call: Call<'a, B>,
        started: Instant,
        outgoing: impl FnOnce(B) -> (Outgoing, Content),
    ) -> Run<'a> {
        let live = self.live(call.upstream);
        if !Arc::ptr_eq(&live.view().upstream, call.upstream) {
            live.suggest(call.upstream);
        }
        let (mut parts, body) = call.request.into_parts();
        let whom = call.upstream.announce.map(|_| {
            let told = parts.extensions.remove::<Arc<Whom>>();
            told.unwrap_or_else(|| Arc::new(Whom::Ourselves))
        });
        parts.extensions.clear();
        let (body, content) = outgoing(body);
        let idempotent = parts.method.is_idempotent();
        Run {
            live,
            upstream: call.upstream,
            timeouts: call.timeouts,
            upgrade: call.upgrade,
            interim: call.interim,
            admitted: call.admitted,
            shard: shard::current(),
            started,
            turn: Turn::of(call.upstream, call.guest, whom),
            content,
            repeatable: idempotent || call.upstream.retries.unsafe_methods,
            again: call.again,
            exposed: false,
            resent: false,
            request: Some(http::Request::from_parts(parts, body)),
            copy: None,
            attempts: 0,
            sendings: 0,
            tried: Vec::new(),
            given: None,
            spent: 0,
        }
    }

    /// What is known about every endpoint now, for metrics.
    #[must_use]
    pub fn facts(&self) -> Vec<EndpointFacts> {
        let now = endpoint::millis(Instant::now());
        let map = self.by_id.pin();
        map.iter().flat_map(|(id, live)| EndpointFacts::of(id, live, now)).collect()
    }

    /// How many requests may run at each upstream that bounds them, and who waits, for metrics.
    #[must_use]
    pub fn berths(&self) -> Vec<(UpstreamId, BerthFacts)> {
        let map = self.by_id.pin();
        let bounded = map.iter().filter(|(_, live)| live.view().upstream.overload.is_some());
        bounded.map(|(id, live)| (Arc::clone(id), live.berths.facts())).collect()
    }

    /// Retries sent since the upstream is known, for metrics.
    #[must_use]
    pub fn retries(&self) -> Vec<(UpstreamId, u64)> {
        let map = self.by_id.pin();
        map.iter().map(|(id, live)| (Arc::clone(id), live.retries.load(std::sync::atomic::Ordering::Relaxed))).collect()
    }

    /// Requests asked a second time, and those that the second try answered first, for metrics.
    #[must_use]
    pub fn hedges(&self) -> Vec<(UpstreamId, u64, u64)> {
        let map = self.by_id.pin();
        let hedging = map.iter().filter(|(_, live)| live.view().upstream.hedge.is_some());
        hedging.map(|(id, live)| (Arc::clone(id), live.hedges.load(Relaxed), live.hedges_won.load(Relaxed))).collect()
    }

    /// What is known about the endpoints of each upstream together, for metrics.
    #[must_use]
    pub fn wards(&self) -> Vec<(UpstreamId, breaker::WardFacts)> {
        self.by_id.pin().iter().map(|(id, live)| (Arc::clone(id), live.ward.facts())).collect()
    }

    /// Does the upstream take this request, as far as its breakers are concerned? False: the document's fallback is due.
    #[must_use]
    pub fn admits(&self, upstream: &Arc<Upstream>) -> bool {
        let map = self.by_id.pin();
        map.get(&*upstream.id).is_none_or(|live| !live.ward.is_troubled() || live.ward.admits(&live.view().members))
    }

    /// Is what may go to the upstream under way already, and a verdict near? Then [`Upstreams::held`] is worth awaiting
    /// before [`Upstreams::admits`].
    #[must_use]
    pub fn is_held(&self, upstream: &Arc<Upstream>) -> bool {
        let map = self.by_id.pin();
        map.get(&*upstream.id).is_some_and(|live| live.ward.is_troubled() && live.ward.is_held(&live.view().members))
    }

    /// Ends when there is room again, or a verdict, or neither for longer than a request can be held back.
    pub async fn held(&self, upstream: &Arc<Upstream>) {
        let live = self.live(upstream);
        let until = Instant::now() + breaker::HOLD;
        loop {
            let mut moved = std::pin::pin!(live.ward.moved());
            moved.as_mut().enable();
            let held = live.ward.is_held(&live.view().members);
            if !held || tokio::time::timeout_at(until, moved).await.is_err() {
                return;
            }
        }
    }

    /// How many nodes the cluster has: they share what it takes to find an endpoint sick.
    pub fn share_with(&self, nodes: usize) {
        self.post.size.store(nodes, std::sync::atomic::Ordering::Relaxed);
    }

    /// The leader looked at what was told to it, and did not rule: each node may find out a little more.
    pub fn heard(&self) {
        let now = endpoint::millis(Instant::now());
        self.by_id.pin().values().filter(|live| live.ward.is_troubled()).for_each(|live| live.ward.heard(now));
    }

    /// This node's place in the cluster, which decides about sick endpoints from now on.
    pub fn belong(&self, node: u64) {
        self.post.me.store(node, Relaxed);
    }

    /// What the cluster holds of endpoints now.
    pub fn rule(&self, rulings: breaker::Rulings) {
        self.post.rulings.store(Arc::new(rulings));
        self.by_id.pin().values().for_each(|live| live.rule());
    }

    /// The live nodes of the cluster, which share the checks of endpoints' health.
    pub fn nodes(&self, live: Vec<u64>) {
        self.post.nodes.store(Arc::new(live));
    }

    /// Is any endpoint's health checked?
    #[must_use]
    pub fn checks(&self) -> bool {
        self.by_id.pin().values().any(|live| live.view().upstream.health.is_some())
    }

    /// Sources of endpoints (SRV, files) whose last look failed, for metrics.
    #[must_use]
    pub fn alarms(&self) -> Vec<(UpstreamId, usize)> {
        self.by_id.pin().iter().map(|(id, live)| (Arc::clone(id), live.alarms())).collect()
    }

    /// Is an endpoint suspect, so that the verdict about it is waited for?
    #[must_use]
    pub fn has_suspects(&self) -> bool {
        self.by_id.pin().values().any(|live| live.ward.has_suspects())
    }

    /// Lets time pass for breakers. `live`: the cluster is there to decide. False: there is nothing to tick for.
    pub fn tick(&self, live: bool) -> bool {
        self.post.live.store(live, Relaxed);
        let now = endpoint::millis(Instant::now());
        let mut watched = false;
        for live in self.by_id.pin().values().filter(|live| live.ward.is_watched()) {
            live.ward.tick(now);
            watched = true;
        }
        watched
    }

    /// Resolves when there is something to tell at once.
    pub async fn news(&self) {
        self.post.news.notified().await;
    }

    /// What this node has to tell about these endpoints, or about all in trouble.
    #[must_use]
    pub fn evidence(&self, asked: Option<&[Place]>) -> Vec<(Place, Evidence)> {
        let (now, mut all) = (endpoint::millis(Instant::now()), Vec::new());
        self.by_id.pin().values().for_each(|live| live.ward.evidence(asked, now, &mut all));
        all
    }

    fn live(&self, upstream: &Arc<Upstream>) -> Arc<Live> {
        let map = self.by_id.pin();
        if let Some(live) = map.get(&*upstream.id) {
            return Arc::clone(live);
        }
        Arc::clone(map.get_or_insert_with(Arc::clone(&upstream.id), || Live::new(upstream, &self.names, &self.post)))
    }
}

/// No code panics while it holds one of our locks, and each protects plain data that is whole between statements.
fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
