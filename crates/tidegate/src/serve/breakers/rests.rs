//! Deployments of language models that rest: what this node found goes to all others at once, and is told no further. How much
//! longer one rests is said, and not until when: no two clocks agree. Without the others each node finds out by itself.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tidegate_admin::wire::DeploymentState;
use tidegate_model::NodeId;
use tidegate_policy::{Action, Deployment, Model};
use tidegate_proxy::{DeploymentFacts, Rest, Why};

use super::words::{Message, Reply, Told};
use super::{AT_ONCE, Breakers, MOST, PATIENCE};

/// Who did not hear is told once more.
const AGAIN: Duration = Duration::from_millis(100);

impl Breakers {
    pub(super) async fn tell_rests(self: Arc<Self>) {
        loop {
            self.gate.fleet.news().await;
            // What is found meanwhile goes in one message.
            tokio::time::sleep(AT_ONCE).await;
            let mut rests = self.gate.fleet.to_tell();
            rests.truncate(MOST);
            if rests.is_empty() {
                continue;
            }
            let me = self.cluster.node();
            let others: Vec<NodeId> =
                self.cluster.read(|state| state.members.nodes().map(|node| node.id).filter(|id| *id != me).collect());
            if others.is_empty() {
                continue;
            }
            let it = Arc::clone(&self);
            // A node that is not there holds nobody back: the next news goes its own way.
            tokio::spawn(async move {
                let told = |late: Duration| {
                    let told = rests.iter().map(|rest| Told {
                        deployment: rest.deployment.clone(),
                        millis: u64::try_from(rest.left.saturating_sub(late).as_millis()).unwrap_or(u64::MAX),
                        failing: rest.why == Why::Failing,
                    });
                    Message::Rests(told.collect())
                };
                let heard = it.ask_all(&others, &told(Duration::ZERO), PATIENCE).await;
                let deaf: Vec<NodeId> =
                    others.into_iter().filter(|node| heard.iter().all(|(other, _)| other != node)).collect();
                if !deaf.is_empty() {
                    tokio::time::sleep(AGAIN).await;
                    it.ask_all(&deaf, &told(PATIENCE + AGAIN), PATIENCE).await;
                }
            });
        }
    }

    pub(super) fn hear_rests(&self, told: Vec<Told>) {
        let rest = |told: Told| Rest {
            deployment: told.deployment,
            left: Duration::from_millis(told.millis),
            why: if told.failing { Why::Failing } else { Why::Throttled },
        };
        self.gate.fleet.hear(told.into_iter().take(MOST).map(rest).collect());
    }

    /// The deployments of all live nodes that answer.
    pub(in crate::serve) async fn deployments(&self) -> Vec<DeploymentState> {
        let live = self.cluster.live_nodes(PATIENCE).await.unwrap_or_else(|| vec![self.cluster.node()]);
        let answers = self.ask_all(&live, &Message::Models, PATIENCE).await.into_iter();
        let of = |(_, reply)| if let Reply::Models(models) = reply { models } else { Vec::new() };
        let mut all: Vec<DeploymentState> = answers.flat_map(of).collect();
        all.sort_by(|a, b| (&a.models, &a.deployment, a.node).cmp(&(&b.models, &b.deployment, b.node)));
        all
    }

    /// Those of the document, and those that patterns of it led to.
    pub(super) fn deployments_here(&self) -> Vec<DeploymentState> {
        let node = self.cluster.node().0;
        let mut known: BTreeMap<String, DeploymentFacts> =
            self.gate.fleet.facts().into_iter().map(|facts| (facts.deployment.clone(), facts)).collect();
        let snapshot = self.gate.snapshot.load();
        let breakers: BTreeMap<String, &'static str> =
            self.gate.upstreams.facts().iter().map(|facts| (facts.upstream.to_string(), facts.breaker)).collect();
        let mut found: BTreeMap<String, (Vec<String>, &'static str)> = BTreeMap::new();
        for model in models(&snapshot) {
            for deployment in &model.deployments {
                let breaker = breakers.get(&*deployment.provider.name).copied().unwrap_or("closed");
                for id in ids(deployment, &known) {
                    let (models, _) = found.entry(id).or_insert_with(|| (Vec::new(), breaker));
                    if !models.iter().any(|name| **name == *model.name) {
                        models.push(model.name.to_string());
                    }
                }
            }
        }
        let state = |(id, (models, breaker)): (String, (Vec<String>, &'static str))| {
            let facts = known.remove(&id);
            state(node, models, id, breaker, facts.as_ref())
        };
        found.into_iter().map(state).take(MOST).collect()
    }
}

/// All that calls may be taken to, each once.
fn models(snapshot: &tidegate_policy::Snapshot) -> Vec<&Arc<Model>> {
    let served = snapshot.router.routes().iter().filter_map(|route| match &route.action {
        Action::Llm(llm) => Some(&llm.models),
        _ => None,
    });
    let mut left: Vec<&Arc<Model>> = served.flatten().collect();
    let mut all: Vec<&Arc<Model>> = Vec::new();
    while let Some(model) = left.pop() {
        if !all.iter().any(|known| Arc::ptr_eq(known, model)) {
            all.push(model);
            left.extend(model.leads_to());
        }
    }
    all
}

/// A deployment without a model of its own is one for each that was asked for.
fn ids(deployment: &Deployment, known: &BTreeMap<String, DeploymentFacts>) -> Vec<String> {
    if deployment.model.is_some() {
        return vec![deployment.id("").into_owned()];
    }
    let (before, after) = (format!("{}/", deployment.provider.name), deployment.id("*"));
    let after = after.strip_prefix(&format!("{before}*")).unwrap_or_default().to_owned();
    let fits =
        |id: &&String| id.starts_with(&before) && id.ends_with(&after) && (!after.is_empty() || !id.contains('#'));
    known.keys().filter(fits).cloned().collect()
}

fn state(
    node: u64,
    models: Vec<String>,
    deployment: String,
    breaker: &str,
    facts: Option<&DeploymentFacts>,
) -> DeploymentState {
    let rests = facts.and_then(|facts| facts.rests);
    let state = match (breaker, rests) {
        ("open" | "half_open", _) => breaker,
        (_, Some(_)) => "cooling",
        (_, None) => "ready",
    };
    let millis = |span: Option<Duration>| span.map(|span| u64::try_from(span.as_millis()).unwrap_or(u64::MAX));
    let count = |of: fn(&DeploymentFacts) -> u64| facts.map_or(0, of);
    let pace = |of: fn(&DeploymentFacts) -> Option<Duration>| facts.and_then(of);
    let per_token = pace(|facts| facts.per_token);
    DeploymentState {
        node,
        models,
        deployment,
        state: state.to_owned(),
        why: rests.map(|(_, why)| if why == Why::Throttled { "throttled" } else { "failing" }.to_owned()),
        cooling_ms: millis(rests.map(|(left, _)| left)),
        in_flight: count(|facts| facts.in_flight),
        calls: count(|facts| facts.calls),
        errors: count(|facts| facts.errors),
        throttles: count(|facts| facts.throttles),
        first_event_ms: millis(pace(|facts| facts.first)),
        per_token_us: per_token.map(|span| u64::try_from(span.as_micros()).unwrap_or(u64::MAX)),
        answer_ms: millis(pace(|facts| facts.whole)),
    }
}
