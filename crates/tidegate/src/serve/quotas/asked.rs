//! How counters stand, for people: the quota leader has the count, and every node what it saw.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, Method};
use tidegate_admin::backend::cluster::{Answered, Quotas as Asked};
use tidegate_admin::backend::{By, Counter, Failure, Whole};
use tidegate_admin::wire::{QuotaCount, QuotaHolder, QuotaSubject, QuotaTopEntry};
use tidegate_cluster::{Topic, codec};
use tidegate_config::RateText;
use tidegate_limiter::Key;
use tidegate_model::{KeyId, LimitId, Millis, NodeId, Subject};
use tidegate_policy::{Kind, Limit, Rate, Snapshot};
use tidegate_proxy::{Unclear, Words};
use tidegate_quota::ledger::{Detail, View};
use tidegate_state::orders::{Order, Whom};
use tokio::task::JoinSet;

use super::words::{Message, Reply, Seen};
use super::{Quotas, owned, rate_of};

/// A node that does not answer in this time is not waited for.
const PATIENCE: Duration = Duration::from_millis(500);
/// An election takes a second or two.
const READING: Duration = Duration::from_secs(5);
/// One leader is asked for so long: it may have died a moment ago.
const ATTEMPT: Duration = Duration::from_secs(2);
/// Counters looked at in one go: the ledger decides nothing meanwhile.
const PAGE: usize = 10_000;
/// Counters in one message.
const MOST: usize = 2_000;

/// For the admin port.
pub(in crate::serve) struct QuotasOf(pub(in crate::serve) Arc<Quotas>);

impl Asked for QuotasOf {
    fn counter(&self, limit: &str, subject: &QuotaSubject, whole: Whole) -> Result<Counter, Failure> {
        self.0.counter(limit, subject, whole)
    }

    fn count(&self, counter: &Counter, stale: bool) -> Answered<Result<QuotaCount, Failure>> {
        let (it, counter) = (Arc::clone(&self.0), counter.clone());
        Box::pin(async move { it.count(&counter, stale).await })
    }

    fn busiest(&self, limit: Option<&str>, by: By, most: usize) -> Answered<Result<Vec<QuotaTopEntry>, Failure>> {
        let (it, limit) = (Arc::clone(&self.0), limit.map(str::to_owned));
        Box::pin(async move { it.busiest(limit.as_deref(), by, most).await })
    }

    fn settle(&self) -> Answered<Result<(), String>> {
        let it = Arc::clone(&self.0);
        Box::pin(async move { it.settle().await })
    }
}

impl Quotas {
    pub(super) async fn answer(&self, from: NodeId, body: &[u8]) -> Reply {
        match codec::decode::<Message>(body) {
            Ok(Message::Settle { epoch }) => Reply::Settled(self.settle_from(epoch).await),
            Ok(Message::Note(note)) => Reply::Settled(self.note_here(from, note).await),
            Ok(Message::Details(keys)) => Reply::Details(match self.cluster.quota_caught_up(READING).await {
                Ok(()) => Ok(self.details(keys.into_iter().take(MOST))),
                Err(why) => Err(why),
            }),
            Ok(Message::Busiest { limit, by_part, most }) => {
                Reply::Details(match self.cluster.quota_caught_up(READING).await {
                    Ok(()) => Ok(self.busiest_here(limit, by_part, most as usize)),
                    Err(why) => Err(why),
                })
            }
            Ok(Message::Seen(keys)) => {
                let seen = keys.into_iter().take(MOST).filter_map(|key| Some((key, self.gate.seen.of(key)?.into())));
                Reply::Seen(seen.collect())
            }
            Ok(Message::Refused { limit, most }) => {
                let of_limit = |key: &Key| limit.is_none_or(|limit| limit == key.limit);
                let all = self.gate.seen.refused(usize::MAX).into_iter().filter(|(key, _)| of_limit(key));
                Reply::Seen(all.take(MOST.min(most as usize)).map(|(key, it)| (key, it.into())).collect())
            }
            Err(_) => Reply::Nothing,
        }
    }

    fn details(&self, keys: impl Iterator<Item = Key>) -> Vec<Detail> {
        keys.filter_map(|key| self.cluster.read_ledger(|ledger| ledger.detail(key))).collect()
    }

    /// Some more than asked for are looked at closely: what they spent a window ago is still in the first look.
    fn busiest_here(&self, limit: Option<LimitId>, by_part: bool, most: usize) -> Vec<Detail> {
        let candidates = MOST.min(4 * most + 256);
        let score = |view: &View| if by_part { part(view.spent.0, view.max.0) } else { view.spent.0 as f64 };
        let (mut best, mut last): (Vec<View>, _) = (Vec::new(), None);
        loop {
            let page = self.cluster.read_ledger(|ledger| ledger.views_after(last, PAGE));
            let Some(end) = page.last() else { break };
            last = Some(end.key);
            best.extend(page.into_iter().filter(|view| limit.is_none_or(|limit| limit == view.key.limit)));
            best.sort_by(|a, b| score(b).total_cmp(&score(a)).then(a.key.cmp(&b.key)));
            best.truncate(candidates);
        }
        let mut all = self.details(best.into_iter().map(|view| view.key));
        all.sort_by(|a, b| score(&b.view).total_cmp(&score(&a.view)).then(a.view.key.cmp(&b.view.key)));
        all.truncate(most);
        all
    }

    async fn ask_leader(&self, message: &Message) -> Result<(NodeId, Vec<Detail>), Failure> {
        let ends = tokio::time::Instant::now() + READING;
        let mut why = "no leader of the quota group is known".to_owned();
        while tokio::time::Instant::now() < ends {
            if let Some(leader) = self.cluster.quota_leader().await {
                why = match self.cluster.tell(leader, Topic::Quota, codec::encode(message), ATTEMPT).await {
                    Ok(reply) => match codec::decode::<Reply>(&reply) {
                        Ok(Reply::Details(Ok(details))) => return Ok((leader, details)),
                        Ok(Reply::Details(Err(why))) => why,
                        _ => format!("node {leader} does not know how"),
                    },
                    Err(why) => why,
                };
            }
            self.cluster.doubt_quota_leader();
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let hint = "what this node has: stale, on the command line --stale";
        Err(Failure::Unavailable(format!("nobody can tell how the counters stand: {why} ({hint})")))
    }

    /// Whom a counter is of, for people; empty: no live node saw it lately.
    pub(in crate::serve) async fn words_of(&self, key: Key) -> String {
        self.ask_all(&Message::Seen(vec![key])).await.remove(&key).map(|seen| seen.words).unwrap_or_default()
    }

    async fn ask_all(&self, message: &Message) -> BTreeMap<Key, Seen> {
        let live = self.cluster.live_nodes(PATIENCE).await.unwrap_or_else(|| vec![self.cluster.node()]);
        let body = codec::encode(message);
        let mut asks = JoinSet::new();
        for node in live {
            let (cluster, body) = (self.cluster.clone(), body.clone());
            asks.spawn(async move {
                let answer = cluster.tell(node, Topic::Quota, body, PATIENCE).await;
                answer.ok().and_then(|answer| codec::decode::<Reply>(&answer).ok())
            });
        }
        let mut all: BTreeMap<Key, Seen> = BTreeMap::new();
        for reply in asks.join_all().await.into_iter().flatten() {
            let Reply::Seen(seen) = reply else { continue };
            seen.into_iter().for_each(|(key, seen)| all.entry(key).or_default().join(seen));
        }
        all
    }

    async fn count(&self, counter: &Counter, stale: bool) -> Result<QuotaCount, Failure> {
        let Some(subject) = counter.subject else {
            return Err(Failure::Fault("a count is of one subject".to_owned()));
        };
        let key = Key { limit: counter.limit, subject };
        let (node, details) = if stale {
            (self.cluster.node(), self.details([key].into_iter()))
        } else {
            self.ask_leader(&Message::Details(vec![key])).await?
        };
        let Some(detail) = details.into_iter().next() else {
            let why = format!("the quota log of node {node} does not know the limit `{}` (yet)", counter.name);
            return Err(Failure::NotFound(why));
        };
        let seen = self.ask_all(&Message::Seen(vec![key])).await.remove(&key).unwrap_or_default();
        let snapshot = self.gate.snapshot.load();
        let limit = snapshot.limits.iter().find(|limit| limit.id == counter.limit);
        let holders = detail.holders.iter().map(|holder| QuotaHolder {
            node: holder.node.0,
            lease: holder.lease.0,
            reserve: holder.reserve.0,
        });
        let (document_rate, rate) = self.rates(key, limit.and_then(|limit| limit.kind.rate()));
        let span = limit.map(|limit| match rate {
            Some(rate) => limit.kind.at_rate(rate).span(detail.view.max.saturating_sub(detail.extra)),
            None => limit.span(),
        });
        Ok(QuotaCount {
            limit: counter.name.clone(),
            limit_id: counter.limit.to_string(),
            subject: subject.to_string(),
            words: counter.words.clone(),
            kind: limit.map(|limit| kind(&limit.kind)).unwrap_or_default().to_owned(),
            span_ms: span.map_or(0, |span| span.0 / 1_000_000),
            max: detail.view.max.0,
            document_max: detail.document.0,
            rate: rate.map(written),
            document_rate: document_rate.map(written),
            spent: detail.view.spent.0,
            outstanding: detail.view.outstanding.0,
            free: detail.free.0,
            extra: detail.extra.0,
            utilisation: part(detail.view.spent.0, detail.view.max.0),
            worst_window: detail.worst.0,
            worst_since: format!("node {node} started, or the counter was last empty"),
            nodes: holders.collect(),
            refused: seen.refused,
            would_refuse: seen.would_refuse,
            orders: Vec::new(),
            node: node.0,
        })
    }

    /// Of a bucket: its rate by the document, and the one in force.
    fn rates(&self, key: Key, served: Option<Rate>) -> (Option<Rate>, Option<Rate>) {
        let document = self.document().get(&key.limit).and_then(|plain| plain.rate).or(served);
        if document.is_none() {
            return (None, None);
        }
        let ordered = |of: Option<Subject>| {
            let is = |order: &&Order| matches!(&order.draft.whom, Whom::Limit { limit, subject, .. } if *limit == key.limit && *subject == of);
            self.cluster.read(|state| state.orders.in_force().filter(is).find_map(|order| rate_of(order.draft.what)))
        };
        (document, ordered(Some(key.subject)).or_else(|| ordered(None)).or(document))
    }

    async fn busiest(&self, limit: Option<&str>, by: By, most: usize) -> Result<Vec<QuotaTopEntry>, Failure> {
        let snapshot = self.gate.snapshot.load_full();
        let limit = match limit {
            None => None,
            Some(name) => Some(named(&snapshot, name)?.id),
        };
        let asked = u32::try_from(most).unwrap_or(u32::MAX);
        let (details, seen) = if by == By::Refused {
            let seen = self.ask_all(&Message::Refused { limit, most: u32::try_from(MOST).unwrap_or(u32::MAX) }).await;
            let mut keys: Vec<(&Key, &Seen)> = seen.iter().collect();
            keys.sort_by_key(|(key, seen)| (std::cmp::Reverse(seen.no()), **key));
            let keys: Vec<Key> = keys.into_iter().take(most).map(|(key, _)| *key).collect();
            (self.ask_leader(&Message::Details(keys)).await?.1, seen)
        } else {
            let message = Message::Busiest { limit, by_part: by == By::Utilisation, most: asked };
            let details = self.ask_leader(&message).await?.1;
            let keys = details.iter().map(|detail| detail.view.key).collect();
            (details, self.ask_all(&Message::Seen(keys)).await)
        };
        let entry = |detail: &Detail| {
            let View { key, max, spent, outstanding } = detail.view;
            let seen = seen.get(&key).cloned().unwrap_or_default();
            let of = snapshot.limits.iter().find(|limit| limit.id == key.limit);
            QuotaTopEntry {
                limit: of.map_or(seen.limit, |limit| limit.name.clone()),
                limit_id: key.limit.to_string(),
                subject: key.subject.to_string(),
                words: seen.words,
                max: max.0,
                spent: spent.0,
                outstanding: outstanding.0,
                utilisation: part(spent.0, max.0),
                refused: seen.refused,
                would_refuse: seen.would_refuse,
            }
        };
        Ok(details.iter().map(entry).collect())
    }

    /// Whom a limit counts by these words. A key says whose it is, a route of which tenant.
    fn counter(&self, name: &str, subject: &QuotaSubject, whole: Whole) -> Result<Counter, Failure> {
        let snapshot = self.gate.snapshot.load_full();
        let limit = named(&snapshot, name)?;
        let of = |limit: &Limit, subject, words| Counter {
            limit: limit.id,
            name: limit.name.clone(),
            subject,
            words,
            period: period(limit),
            max: limit.max,
            most: limit.most_max(),
            kind: limit.kind.clone(),
        };
        let mut words = words(subject)?;
        if words.is_empty() && whole == Whole::Yes {
            return Ok(of(limit, None, String::new()));
        }
        let own = self.fill(&snapshot, limit, &mut words)?;
        let limit = own.and_then(|at| snapshot.limits.get(at)).unwrap_or(limit);
        match words.subject(&self.gate.limiter, limit) {
            Ok((subject, words)) => Ok(of(limit, Some(subject), words)),
            Err(why) => Err(unclear(limit, why)),
        }
    }

    /// Whose key it is, and of which tenant a route. Also: the place of the limit that holds for them, if they have a
    /// maximum of their own.
    fn fill(&self, snapshot: &Snapshot, limit: &Limit, words: &mut Words) -> Result<Option<usize>, Failure> {
        if let Some(key) = words.key.filter(|key| key.0 != 0) {
            let Some((tenant, consumer)) =
                self.cluster.read(|state| state.keys.by_id(key).map(|key| (key.tenant.clone(), key.consumer.clone())))
            else {
                return Err(Failure::NotFound(format!("there is no key {key}; `tidegate key ls` lists them")));
            };
            words.tenant = tenant;
            words.consumer.get_or_insert(consumer);
        }
        if let Some(name) = words.route.as_ref().filter(|name| !name.is_empty()) {
            let Some(route) = snapshot.router.routes().iter().find(|route| *route.id == **name) else {
                return Err(Failure::NotFound(format!("the document has no route `{name}`")));
            };
            if words.tenant.is_empty() {
                words.tenant = route.tenant.to_string();
            }
        }
        let key_plan = words.key.and_then(|key| self.cluster.read(|state| state.key_plans.of(key).map(str::to_owned)));
        let own = owned::place(snapshot, limit, words, key_plan.as_deref());
        if words.consumer.is_some() && !limit.per.iter().any(by_consumer) {
            // It was filled in, and the limit does not count by it.
            if words.key.is_some() {
                words.consumer = None;
            }
        }
        Ok(own)
    }
}

/// As a document would say it.
fn written(rate: Rate) -> String {
    RateText { many: rate.permits, per: rate.per.into() }.to_string()
}

fn by_consumer(part: &tidegate_policy::Dimension) -> bool {
    use tidegate_policy::Dimension;
    matches!(part, Dimension::Consumer | Dimension::Key | Dimension::EndUser)
}

fn named<'s>(snapshot: &'s Snapshot, name: &str) -> Result<&'s Arc<Limit>, Failure> {
    // The first of a name is the one that the document lists.
    snapshot.limits.iter().find(|limit| limit.name == name).ok_or_else(|| {
        let mut names: Vec<&str> = snapshot.limits.iter().map(|limit| limit.name.as_str()).collect();
        names.sort_unstable();
        names.dedup();
        names.truncate(20);
        let known = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
        Failure::NotFound(format!("the document has no limit `{name}`; it has: {known}"))
    })
}

fn unclear(limit: &Limit, why: Unclear) -> Failure {
    let name = &limit.name;
    let (reason, hint) = match why {
        Unclear::Missing(flags) => {
            (format!("`{name}` counts each subject apart; which one?"), Some(format!("add {}", flags.join(" "))))
        }
        Unclear::Idle(flags) => {
            (format!("`{name}` does not count by {}", flags.join(", ")), Some("leave that out".to_owned()))
        }
        Unclear::Nobody => (format!("`{name}` does not hold for calls without a value (`on_missing`)"), None),
        Unclear::TooLong => ("a value is longer than the data plane takes".to_owned(), None),
    };
    Failure::Rejected { reason, hint }
}

fn words(subject: &QuotaSubject) -> Result<Words, Failure> {
    let wrong = |what: String| Failure::Rejected { reason: what, hint: None };
    let QuotaSubject {
        tenant,
        team,
        consumer,
        key,
        end_user,
        route,
        product,
        method,
        host,
        ip,
        model,
        headers,
        issuer,
        claims,
    } = subject.clone();
    let mut lines = HeaderMap::new();
    for (name, value) in headers {
        let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| wrong(format!("`{name}` is no header name")))?;
        let value = HeaderValue::from_str(&value).map_err(|_| wrong(format!("{name}: no header has this value")))?;
        lines.insert(name, value);
    }
    let method = method.map(|method| Method::from_bytes(method.to_ascii_uppercase().as_bytes())).transpose();
    let no_address = |ip: &str| Failure::Rejected {
        reason: format!("`{ip}` is no IP address"),
        hint: Some(
            "name any address of the network, without a length: the limit's `per` says how long it is".to_owned(),
        ),
    };
    let address = ip.map(|ip| ip.parse().map_err(|_| no_address(&ip))).transpose()?;
    Ok(Words {
        tenant: tenant.unwrap_or_default(),
        team,
        consumer,
        key: key.map(KeyId),
        end_user,
        route,
        product,
        method: method.map_err(|_| wrong("that is no method".to_owned()))?,
        host,
        address,
        model,
        headers: lines,
        issuer,
        claims,
    })
}

fn part(of: u64, all: u64) -> f64 {
    if all == 0 { 0.0 } else { of as f64 / all as f64 }
}

fn kind(kind: &Kind) -> &'static str {
    match kind {
        Kind::Sliding { .. } => "sliding",
        Kind::Bucket { .. } | Kind::Smooth { .. } => "bucket",
        Kind::Concurrency => "concurrency",
        Kind::Calendar { .. } => "calendar",
        Kind::Budget(_) => "budget",
    }
}

/// How long what is granted once is good for, unless that is said.
fn period(limit: &Limit) -> Option<Millis> {
    match limit.kind {
        Kind::Concurrency => None,
        _ => Some(Millis((limit.span().0 / 1_000_000).max(1_000))),
    }
}
