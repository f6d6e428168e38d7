//! Sick endpoints, cluster-wide: this node's evidence goes to the control leader; the leader's judge asks around and puts
//! its verdicts into the log; rulings from the log go to `upstream`. With nothing in trouble nothing is sent.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use tidegate_admin::wire::EndpointState;
use tidegate_cluster::{Cluster, Topic, codec};
use tidegate_model::NodeId;
use tidegate_policy::Upstream;
use tidegate_proxy::Gate;
use tidegate_state::endpoints::{self as ruled, Endpoints};
use tidegate_state::{Command, RequestId};
use tidegate_upstream::breaker::Rulings;
use tidegate_upstream::breaker::judge::{Act, Judge, Timing};
use tidegate_upstream::breaker::ruling::{Evidence, Place, Ruling, Stand, Verdict, What};
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;

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
/// A node that does not answer in this time is not waited for.
const POLL: Duration = Duration::from_millis(150);
/// Who is alive is asked this often, where health is checked.
const LOOK: Duration = Duration::from_secs(2);
/// Places in one message.
const MOST: usize = 2_000;

#[derive(Debug, Serialize, Deserialize)]
enum Message {
    /// To the leader.
    Evidence(Vec<(Place, Evidence)>),
    /// From the leader: what do you know about these?
    Poll(Vec<Place>),
    /// For people: how are your endpoints?
    Facts,
}

#[derive(Debug, Serialize, Deserialize)]
enum Reply {
    Heard,
    NotLeader,
    Evidence(Vec<(Place, Evidence)>),
    Facts(Vec<EndpointState>),
    /// As `Heard`, and there is a verdict: it comes with the log.
    Ruled,
}

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
        tokio::spawn(Arc::clone(&breakers).tell());
        tokio::spawn(Arc::clone(&breakers).know_nodes());
        tokio::spawn(Arc::clone(&breakers).lead());
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

    // ---- every node ----

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

    // ---- the leader ----

    async fn lead(self: Arc<Self>) {
        loop {
            let leads = self.cluster.leads_control();
            let idle = {
                let mut judge = self.judge();
                match (&mut *judge, leads) {
                    (None, true) => {
                        let mut new = Judge::default();
                        self.inform(&mut new);
                        *judge = Some(new);
                    }
                    (Some(_), false) => *judge = None,
                    _ => {}
                }
                judge.as_ref().is_none_or(Judge::is_idle)
            };
            if !idle {
                self.judge_once().await;
            }
            let pause = if idle { 4 * TICK } else { TICK };
            tokio::select! {
                () = self.judge_now.notified() => {}
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    async fn judge_once(&self) {
        let look = self.begun.fetch_add(1, Relaxed) + 1;
        self.look().await;
        self.looks.send_replace(look);
    }

    async fn look(&self) {
        let Some(live) = self.cluster.live_nodes(PATIENCE).await else { return };
        let ids: Vec<u64> = live.iter().map(|node| node.0).collect();
        self.rule(self.unchecked()).await;
        loop {
            let acts = {
                let mut judge = self.judge();
                let Some(judge) = &mut *judge else { return };
                let snapshot = self.gate.snapshot.load();
                judge.step(&ids, &|place, round| timing(&snapshot.upstreams, place, round), self.now())
            };
            let mut again = false;
            for act in acts {
                match act {
                    Act::Poll(places) => {
                        self.poll(&live, places).await;
                        again = true;
                    }
                    Act::Rule(verdicts) => self.rule(verdicts).await,
                }
            }
            if !again {
                return;
            }
        }
    }

    async fn poll(&self, live: &[NodeId], places: Vec<Place>) {
        let answers = self.ask_all(live, &Message::Poll(places.clone()), POLL).await;
        if let Some(judge) = &mut *self.judge() {
            for (node, reply) in answers {
                if let Reply::Evidence(evidence) = reply {
                    judge.hear(node.0, evidence, self.now());
                }
            }
            judge.polled(&places);
        }
    }

    /// Found sick once, and checked by nobody any more: the document says so.
    fn unchecked(&self) -> Vec<Verdict> {
        let snapshot = self.gate.snapshot.load();
        let checked = |name: &str| snapshot.upstreams.iter().any(|up| *up.id == *name && up.health.is_some());
        self.cluster.read(|state| {
            let sick =
                state.endpoints.rulings().filter(|(place, ruling)| ruling.unhealthy && !checked(&place.upstream));
            let well = |(place, ruling): (&ruled::Place, &ruled::Ruling)| Verdict {
                place: place_of(place),
                replaces: ruling.epoch,
                what: What::Healthy,
            };
            sick.take(MOST).map(well).collect()
        })
    }

    async fn rule(&self, verdicts: Vec<Verdict>) {
        if verdicts.is_empty() {
            return;
        }
        for verdict in &verdicts {
            let (upstream, endpoint) = (&verdict.place.upstream, &verdict.place.endpoint);
            tracing::warn!(upstream, endpoint, verdict = ?verdict.what, "the cluster rules");
        }
        let command = Command::JudgeEndpoints(verdicts.into_iter().map(command).collect());
        let mut id = [0; 16];
        if getrandom::fill(&mut id).is_err() {
            return;
        }
        let request = RequestId(u128::from_le_bytes(id));
        if let Err(why) = self.cluster.propose_as(request, command, Duration::from_secs(2)).await {
            tracing::warn!(%why, "a verdict about endpoints is not in the log");
        }
    }

    fn inform(&self, judge: &mut Judge) {
        let now = self.now();
        let all = self.cluster.read(|state| {
            let ruled = state.endpoints.rulings().map(|(place, ruling)| (place_of(place), ruling_of(ruling)));
            ruled.collect::<Vec<_>>()
        });
        judge.all_ruled(&all, now);
    }

    fn judge(&self) -> MutexGuard<'_, Option<Judge>> {
        self.judge.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> u64 {
        u64::try_from(self.born.elapsed().as_millis()).unwrap_or(u64::MAX) + 1
    }
}

/// How long things take for a place; `None`: the document has no breaker for it.
fn timing(upstreams: &[Arc<Upstream>], place: &Place, round: u32) -> Option<Timing> {
    let upstream = upstreams.iter().find(|upstream| *upstream.id == *place.upstream)?;
    let rules = upstream.breaker.as_ref()?;
    let millis = |span: Duration| u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
    let open_for = rules.open_for.saturating_mul(1 << round.min(20)).min(rules.longest_open);
    let longest = upstream.timeouts.connect + upstream.timeouts.first_byte + Duration::from_secs(1);
    Some(Timing {
        open_for: millis(open_for),
        probe_for: millis(longest.min(Duration::from_secs(60))),
        relapse: millis(rules.ramp + rules.window + rules.longest_open),
    })
}

fn rulings(all: &Endpoints) -> Rulings {
    Rulings::new(all.epoch(), all.rulings().map(|(place, ruling)| (place_of(place), ruling_of(ruling))))
}

fn place_of(place: &ruled::Place) -> Place {
    Place { upstream: place.upstream.clone(), endpoint: place.endpoint.clone() }
}

fn ruling_of(ruling: &ruled::Ruling) -> Ruling {
    let ruled::Ruling { epoch, at: _, breaker, unhealthy, weight, drained } = *ruling;
    let stand = match breaker {
        ruled::Breaker::Closed => Stand::Closed,
        ruled::Breaker::Open { round } => Stand::Open { round },
        ruled::Breaker::HalfOpen { round, node } => Stand::HalfOpen { round, node: node.0 },
    };
    Ruling { epoch, stand, unhealthy, weight, drained }
}

fn command(verdict: Verdict) -> ruled::Verdict {
    let Verdict { place: Place { upstream, endpoint }, replaces, what } = verdict;
    let what = match what {
        What::Open { round } => ruled::What::Breaker(ruled::Breaker::Open { round }),
        What::Probe { round, node } => ruled::What::Breaker(ruled::Breaker::HalfOpen { round, node: NodeId(node) }),
        What::Close => ruled::What::Breaker(ruled::Breaker::Closed),
        What::Unhealthy => ruled::What::Unhealthy(true),
        What::Healthy => ruled::What::Unhealthy(false),
    };
    ruled::Verdict { place: ruled::Place { upstream, endpoint }, replaces, what }
}
