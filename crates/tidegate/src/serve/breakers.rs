//! Sick endpoints, cluster-wide: this node's evidence goes to the control leader; the leader's judge asks around and puts
//! its verdicts into the log; rulings from the log go to `upstream`. With nothing in trouble nothing is sent.

mod leader;
mod rests;
mod words;

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tidegate_admin::wire::EndpointState;
use tidegate_cluster::{Cluster, Topic, codec};
use tidegate_model::NodeId;
use tidegate_proxy::Gate;
use tidegate_upstream::breaker::judge::Judge;
use tidegate_upstream::breaker::ruling::{Evidence, Place};
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;

use self::words::{Message, Reply, rulings};

/// Windows slide and pauses end this often.
const TICK: Duration = Duration::from_millis(250);
/// Evidence is told this often while there is trouble, and at once when it matters.
const TELL: Duration = Duration::from_millis(500);
/// And this often while requests wait for the verdict.
const TELL_SUSPECTS: Duration = Duration::from_millis(25);
const AT_ONCE: Duration = Duration::from_millis(5);
const PATIENCE: Duration = Duration::from_millis(300);
/// Whoever tells waits so long for the leader to look at it.
const LOOKED_AT: Duration = Duration::from_millis(250);
/// Who is alive is asked this often, where health is checked.
const LOOK: Duration = Duration::from_secs(2);
/// Places in one message.
const MOST: usize = 2_000;

pub(super) struct Breakers {
    cluster: Cluster,
    gate: Arc<Gate>,
    /// While this node leads.
    judge: Mutex<Option<Judge>>,
    judge_now: Notify,
    /// Looks of the judge that were begun, and that are over.
    begun: AtomicU64,
    looks: watch::Sender<u64>,
    /// Something in the documents changed: there may be something to tick for.
    watch_now: Notify,
    born: Instant,
}

impl Breakers {
    pub(super) fn start(cluster: &Cluster, gate: &Arc<Gate>) -> Arc<Self> {
        let breakers = Arc::new(Self {
            cluster: cluster.clone(),
            gate: Arc::clone(gate),
            judge: Mutex::new(None),
            judge_now: Notify::new(),
            begun: AtomicU64::new(0),
            looks: watch::Sender::new(0),
            watch_now: Notify::new(),
            born: Instant::now(),
        });
        gate.upstreams.belong(cluster.node().0);
        let it = Arc::downgrade(&breakers);
        cluster.listen(Topic::Breakers, move |from, body| {
            let it = it.upgrade();
            async move {
                codec::encode(&match it {
                    Some(it) => it.answer(from, &body).await,
                    None => Reply::NotLeader,
                })
            }
        });
        cluster.spawn(Arc::clone(&breakers).tell());
        cluster.spawn(Arc::clone(&breakers).tell_rests());
        cluster.spawn(Arc::clone(&breakers).know_nodes());
        cluster.spawn(Arc::clone(&breakers).lead());
        breakers
    }

    /// The log says something new about endpoints.
    pub(super) fn ruled(&self) {
        let rulings = self.cluster.read(|state| rulings(&state.endpoints));
        if let Some(judge) = &mut *self.judge() {
            self.inform(judge);
        }
        self.gate.upstreams.rule(rulings);
        self.watch_now.notify_one();
        self.judge_now.notify_one();
    }

    /// Another document is served.
    pub(super) fn served(&self) {
        self.watch_now.notify_one();
    }

    async fn answer(&self, from: NodeId, body: &[u8]) -> Reply {
        match codec::decode::<Message>(body) {
            Ok(Message::Poll(mut places)) => {
                places.truncate(MOST);
                Reply::Evidence(self.gate.upstreams.evidence(Some(&places)))
            }
            Ok(Message::Evidence(told)) => {
                let told: Vec<_> = told.into_iter().take(MOST).collect();
                let places: Vec<Place> = told.iter().map(|(place, _)| place.clone()).collect();
                let look = {
                    let Some(judge) = &mut *self.judge() else { return Reply::NotLeader };
                    judge.hear(from.0, told, self.now());
                    self.begun.load(Relaxed) + 1
                };
                self.judge_now.notify_one();
                let mut looks = self.looks.subscribe();
                let _too_slow = tokio::time::timeout(LOOKED_AT, looks.wait_for(|over| *over >= look)).await;
                let ruled = self.judge().as_ref().is_some_and(|judge| judge.has_ruled(&places));
                if ruled { Reply::Ruled } else { Reply::Heard }
            }
            Ok(Message::Facts) => Reply::Facts(self.here()),
            Ok(Message::Rests(told)) => {
                self.hear_rests(told);
                Reply::Heard
            }
            Ok(Message::Models) => Reply::Models(self.deployments_here()),
            Err(_) => Reply::NotLeader,
        }
    }

    /// The endpoints of all live nodes that answer.
    pub(super) async fn everywhere(&self) -> Vec<EndpointState> {
        let live = self.cluster.live_nodes(PATIENCE).await.unwrap_or_else(|| vec![self.cluster.node()]);
        let answers = self.ask_all(&live, &Message::Facts, PATIENCE).await.into_iter();
        let of = |(_, reply)| if let Reply::Facts(facts) = reply { facts } else { Vec::new() };
        let mut all: Vec<EndpointState> = answers.flat_map(of).collect();
        all.sort_by(|a, b| (&a.upstream, &a.endpoint, a.node).cmp(&(&b.upstream, &b.endpoint, b.node)));
        all
    }

    fn here(&self) -> Vec<EndpointState> {
        let node = self.cluster.node().0;
        let state = |f: &tidegate_upstream::EndpointFacts| EndpointState {
            node,
            upstream: f.upstream.to_string(),
            endpoint: f.endpoint.to_string(),
            breaker: f.breaker.to_owned(),
            unhealthy: f.unhealthy,
            weight: f.weight,
            drained: f.drained,
            in_flight: f.in_flight as u64,
            connections: f.open as u64,
            requests: f.requests,
            ejections: f.ejections,
            epoch: f.epoch,
        };
        self.gate.upstreams.facts().iter().take(MOST).map(state).collect()
    }

    async fn ask_all(&self, nodes: &[NodeId], message: &Message, patience: Duration) -> Vec<(NodeId, Reply)> {
        let body = codec::encode(message);
        let mut asked = JoinSet::new();
        for node in nodes.iter().copied() {
            let (cluster, body) = (self.cluster.clone(), body.clone());
            asked.spawn(async move { (node, cluster.tell(node, Topic::Breakers, body, patience).await) });
        }
        let mut answers = Vec::new();
        while let Some(answer) = asked.join_next().await {
            if let Ok((node, Ok(bytes))) = answer
                && let Ok(reply) = codec::decode::<Reply>(&bytes)
            {
                answers.push((node, reply));
            }
        }
        answers
    }

    async fn tell(self: Arc<Self>) {
        let mut told = Instant::now();
        let mut watched = true;
        loop {
            let suspects = watched && self.gate.upstreams.has_suspects();
            let pause = if suspects { TELL_SUSPECTS } else { TICK };
            let at_once = tokio::select! {
                () = self.gate.upstreams.news() => true,
                () = self.watch_now.notified() => false,
                () = tokio::time::sleep(pause), if watched => false,
            };
            self.gate.upstreams.share_with(self.cluster.read(|state| state.members.len()));
            watched = self.gate.upstreams.tick(self.cluster.is_live());
            if at_once || suspects || told.elapsed() >= TELL {
                let mut evidence = self.gate.upstreams.evidence(None);
                evidence.truncate(MOST);
                if !evidence.is_empty() {
                    told = Instant::now();
                    if !self.bring(evidence).await {
                        self.gate.upstreams.heard();
                    }
                }
                if at_once {
                    // What fails meanwhile goes in one message.
                    tokio::time::sleep(AT_ONCE.saturating_sub(told.elapsed())).await;
                }
            }
        }
    }

    /// Who is alive decides who checks what. Who cannot ask keeps to what it knew.
    async fn know_nodes(self: Arc<Self>) {
        let mut known = Vec::new();
        loop {
            if self.gate.upstreams.checks()
                && let Some(live) = self.cluster.live_nodes(PATIENCE).await
            {
                let live: Vec<u64> = live.into_iter().map(|node| node.0).collect();
                if live != known {
                    self.gate.upstreams.nodes(live.clone());
                    known = live;
                }
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// To the leader; lost evidence is told again with the next tick. True: a verdict is on its way.
    async fn bring(&self, evidence: Vec<(Place, Evidence)>) -> bool {
        if !self.cluster.is_live() {
            return false; // Cut off: each for itself.
        }
        let Some(leader) = self.cluster.control_leader().await else { return false };
        let body = codec::encode(&Message::Evidence(evidence));
        match self.cluster.tell(leader, Topic::Breakers, body, PATIENCE).await {
            Ok(reply) => matches!(codec::decode::<Reply>(&reply), Ok(Reply::Ruled)),
            Err(why) => {
                tracing::debug!(%leader, %why, "evidence about endpoints did not arrive");
                false
            }
        }
    }

    fn judge(&self) -> MutexGuard<'_, Option<Judge>> {
        self.judge.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> u64 {
        u64::try_from(self.born.elapsed().as_millis()).unwrap_or(u64::MAX) + 1
    }
}
