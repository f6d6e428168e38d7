//! All limits of a call, admitted at once: those of its consumer, plan, team, product, route and tenant.

mod subject;
mod words;

use std::net::IpAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use http::header::CONTENT_LENGTH;
use http::{HeaderMap, Method};
use smallvec::SmallVec;
use tidegate_limiter::{Ask, Key, Limiter, Permit, Quota, Refused, Standing, Why};
use tidegate_model::{Nanos, Permits};
use tidegate_policy::{Attached, ConsumerLimits, Cost, Dimension, Kind, Limit, Mode, Route, Snapshot, Unpriced};
use tidegate_telemetry as telemetry;
use tidegate_upstream::{Again, Came};

use crate::blocks::Blocks;
use crate::charge::Charge;
use crate::forward;
use crate::head::Host;
use crate::identify::Caller;
use crate::llm::Most;
use crate::ratelimit::Shown;
use crate::refusal::Refusal;
use crate::seen::{Fate, Seen};

pub use self::words::{Unclear, Words};

/// What a limit may count by.
pub(crate) struct Scope<'a> {
    pub(crate) route: &'a Route,
    pub(crate) caller: Option<&'a Caller<'a>>,
    pub(crate) address: IpAddr,
    pub(crate) host: &'a Host,
    pub(crate) method: &'a Method,
    pub(crate) headers: &'a HeaderMap,
    /// What a call of a language model asks for.
    pub(crate) spoken: Option<Spoken<'a>>,
}

/// A call of a language model, as limits count it.
#[derive(Clone, Copy)]
pub(crate) struct Spoken<'a> {
    /// By its name in the document.
    pub(crate) model: &'a str,
    /// What it can come to. Reckoned only for limits that ask.
    pub(crate) most: &'a (dyn Fn() -> Most + Sync),
}

/// What was decided, for the headers and the record.
#[derive(Debug, Default)]
pub(crate) struct Decided {
    pub(crate) shown: Shown,
    pub(crate) standings: telemetry::Standings,
}

/// A call hardly ever has more limits; more cost an allocation.
pub(crate) type Few<T> = SmallVec<[T; 4]>;

/// As [`Few`], for what waits with a call for its answer: a future that is moved with every request.
pub(crate) type Asked<'a> = SmallVec<[Ask<'a>; 2]>;

/// A lease of one key on a quiet node is empty after its one request: so long a further try waits for more.
const SOON: Duration = Duration::from_millis(50);

/// The limits of a call, the most specific first, so that of several that are used up the most specific is told: those of
/// the consumer, of its plan, of its team, of its plan in the product, then the route's, the product's and the tenant's.
/// Empty when nobody limits anything.
pub(crate) fn of<'s>(snapshot: &'s Snapshot, route: &'s Route, caller: Option<&Caller<'s>>) -> Few<&'s Attached> {
    let of_route = &route.limits;
    let plan = caller.map_or(of_route.anonymous_plan, Caller::plan);
    let offered = of_route.of_plan(plan).unwrap_or_default();
    let lists: [&'s [Attached]; 5] = match caller {
        Some(caller) => {
            let Some(consumer) = caller.consumer else { return merged([offered, &of_route.always]) };
            let of_consumer: &'s ConsumerLimits = &consumer.limits;
            [&of_consumer.own, caller.plan_limits(snapshot), &of_consumer.team, offered, &of_route.always]
        }
        None => [&[], &of_route.anonymous, &[], offered, &of_route.always],
    };
    merged(lists)
}

fn merged<const N: usize>(lists: [&[Attached]; N]) -> Few<&Attached> {
    let mut limits = Few::new();
    for held in lists.into_iter().flatten() {
        // A limit that several bring counts once.
        if !limits.iter().any(|known: &&Attached| known.base == held.base) {
            limits.push(held);
        }
    }
    limits
}

/// All or none. Also gives back what was asked, for [`Further`] tries.
pub(crate) async fn admit<'l, 's>(
    (limiter, seen): (&'l Limiter, &Seen),
    snapshot: &'s Snapshot,
    held: &[&Attached],
    scope: &Scope<'_>,
) -> (Result<Permit<'l>, Refusal>, Decided, Asked<'s>) {
    let mut call = Gathered::default();
    if let Err(refusal) = call.gather(limiter, snapshot, held, scope) {
        return (Err(refusal), Decided { standings: call.aside.into(), ..Decided::default() }, Asked::new());
    }
    let Gathered { places, asks, aside } = call;
    let decided = |standings: &[Standing], refused: Option<usize>| {
        decided(snapshot, &places, (&owns(limiter, &asks), standings), refused, aside)
    };
    let note = |ask: &Ask<'_>, fate| seen.note(ask.key(), fate, || names(ask, scope));
    let (mut work, mut first) = (std::pin::pin!(limiter.admit(&asks)), true);
    let outcome = std::future::poll_fn(|context| {
        let polled = work.as_mut().poll(context);
        if polled.is_pending() && std::mem::take(&mut first) {
            asks.iter().for_each(|ask| note(ask, Fate::Waits));
        }
        polled
    });
    match outcome.await {
        Ok(permit) => {
            let standings = permit.standings(&asks);
            for (ask, _) in asks.iter().zip(&standings).filter(|(_, standing)| standing.would_refuse) {
                note(ask, Fate::WouldRefuse);
            }
            let decided = decided(&standings, None);
            (Ok(permit), decided, asks.iter().copied().collect())
        }
        Err(refused) => {
            note(&asks[refused.ask], Fate::Refused);
            (Err(refusal(&refused)), decided(&refused.standings, Some(refused.ask)), Asked::new())
        }
    }
}

/// Of a limit and its subject, for people.
#[cold]
fn names(ask: &Ask<'_>, scope: &Scope<'_>) -> (String, String) {
    (ask.limit.name.clone(), words::told(ask.limit, scope))
}

/// Of a limit that can be asked before the body of a call is read, and whatever a cache has.
pub(crate) fn needs_no_body(limit: &Limit) -> bool {
    limit.count_hits && matches!(limit.cost, Cost::Fixed(_)) && !limit.per.contains(&Dimension::Model)
}

/// A limit of tokens or of money said no to what a call may come to; would it surely say no to this?
pub(crate) fn could_fit(
    refusal: &Refusal,
    snapshot: &Snapshot,
    standings: &[telemetry::Standing],
    least: &dyn Fn() -> Most,
) -> bool {
    let refused = standings.iter().find(|standing| matches!(standing.verdict, telemetry::Verdict::Refused));
    let Some((limit, remaining)) = refused.and_then(|at| Some((snapshot.limits.get(at.limit)?, at.remaining))) else {
        return false;
    };
    let left = match refusal {
        Refusal::Limited { .. } => remaining.unwrap_or(Permits::ZERO),
        Refusal::TooCostly => limit.max, // How much is left was not looked at.
        _ => return false,
    };
    match limit.cost {
        Cost::Tokens { estimate: None } => least().tokens <= left.0,
        Cost::Money { .. } => least().money.is_some_and(|money| money <= left.0),
        _ => false,
    }
}

/// One of them may well say no.
pub(crate) fn is_scarce(limiter: &Limiter, snapshot: &Snapshot, held: &[&Attached], scope: &Scope<'_>) -> bool {
    let mut call = Gathered::default();
    call.gather(limiter, snapshot, held, scope).is_err() || call.asks.iter().any(|ask| limiter.is_short(ask))
}

/// Who is blocked by order is refused, whatever he still has.
#[cold]
pub(crate) fn unblocked(
    blocks: &Blocks,
    limiter: &Limiter,
    snapshot: &Snapshot,
    held: &[&Attached],
    scope: &Scope<'_>,
) -> Result<(), Refusal> {
    if scope.caller.is_some_and(|caller| blocks.blocks_caller(caller.key(), caller.consumer)) {
        return Err(Refusal::Blocked);
    }
    if !blocks.any_counter() {
        return Ok(());
    }
    for held in held {
        let Some(limit) = snapshot.limits.get(held.limit) else { continue };
        // A call that a limit does not hold for, or refuses for another reason, is not blocked by it.
        if let Ok(Some(subject)) = subject::of(limiter, limit, held, scope)
            && blocks.blocks_counter(Key { limit: limit.id, subject })
        {
            return Err(Refusal::Blocked);
        }
    }
    Ok(())
}

/// What a call asks for.
#[derive(Default)]
struct Gathered<'s> {
    /// In the snapshot's list.
    places: Few<usize>,
    asks: Few<Ask<'s>>,
    /// What was decided without asking. Hardly ever anything.
    aside: Vec<telemetry::Standing>,
}

impl<'s> Gathered<'s> {
    /// # Errors
    /// A limit counts by what this call does not bring, or brings in vain, and refuses that.
    #[inline]
    fn gather(
        &mut self,
        limiter: &Limiter,
        snapshot: &'s Snapshot,
        held: &[&Attached],
        scope: &Scope<'_>,
    ) -> Result<(), Refusal> {
        for held in held {
            let cost = scope.route.limits.weight(held.base);
            let Some(limit) = snapshot.limits.get(held.limit).filter(|_| cost != Permits::ZERO) else { continue };
            if scope.spoken.is_none() && matches!(limit.cost, Cost::Tokens { .. } | Cost::Money { .. }) {
                continue;
            }
            let asks = subject::of(limiter, limit, held, scope).and_then(|subject| {
                let Some(subject) = subject else { return Ok(None) };
                Ok(Some(Ask { limit, subject, cost: self::cost(limit, cost, scope)? }))
            });
            match asks {
                Ok(Some(ask)) => {
                    self.places.push(held.limit);
                    self.asks.push(ask);
                }
                Ok(None) => {}
                Err(refusal) => {
                    let observed = limit.mode == Mode::Observe;
                    let verdict = if observed { telemetry::Verdict::WouldRefuse } else { telemetry::Verdict::Refused };
                    self.aside.push(telemetry::Standing { limit: held.limit, verdict, remaining: None });
                    if !observed {
                        return Err(refusal);
                    }
                }
            }
        }
        Ok(())
    }
}

/// A further try of a request is a request: it takes of all its limits anew, soon or not at all.
pub(crate) struct Further<'a> {
    limiter: &'a Limiter,
    asks: Asked<'a>,
    request_id: &'a [u8],
    /// The endpoint tried last, and how many tries there were, if all was in vain.
    vain: OnceLock<Box<(Arc<str>, u32)>>,
    /// Of a request that a collector is told of.
    traced: Option<Box<Mutex<Traced>>>,
}

/// The tries of a request, for its trace.
struct Traced {
    trace: telemetry::Trace,
    towards: Option<usize>,
    /// The one under way.
    asking: (u64, Nanos),
    over: Vec<telemetry::Try>,
}

impl<'a> Further<'a> {
    pub(crate) fn new(limiter: &'a Limiter, asks: Asked<'a>, request_id: &'a [u8]) -> Self {
        Self { limiter, asks, request_id, vain: OnceLock::new(), traced: None }
    }

    /// Each try gets a span of its own, the first the one that the record has.
    #[inline]
    pub(crate) fn traced(mut self, record: &telemetry::Record) -> Self {
        if let (Some(trace), Some(asking)) = (&record.trace, record.asking) {
            let traced =
                Traced { trace: telemetry::Trace::clone(trace), towards: record.towards, asking, over: Vec::new() };
            self.traced = Some(Box::new(Mutex::new(traced)));
        }
        self
    }

    /// What became of the tries before the last.
    #[inline]
    pub(crate) fn tell(&mut self, record: &mut telemetry::Record) {
        if let Some(traced) = self.traced.take() {
            let Traced { asking, over, .. } = traced.into_inner().unwrap_or_else(PoisonError::into_inner);
            record.asking = Some(asking);
            record.tries.extend(over);
        }
    }

    /// Of the first try.
    pub(crate) fn asks(&self) -> &[Ask<'a>] {
        &self.asks
    }

    /// As [`Again::may`], for a try beside one that runs on: it takes of limits of tokens as well, and both are paid. `None`: it
    /// may not.
    pub(crate) async fn beside(&self) -> Option<Option<Box<Charge>>> {
        let holds = |ask: &Ask<'_>| !matches!(ask.limit.kind, Kind::Concurrency);
        let asks: Asked<'_> = self.asks.iter().copied().filter(holds).collect();
        if asks.is_empty() {
            return Some(None);
        }
        let permit = tokio::time::timeout(SOON, self.limiter.admit(&asks)).await.ok()?.ok()?;
        Some(Charge::of(permit.commit(self.request_id), &asks))
    }

    pub(crate) fn vain(self) -> Option<(Arc<str>, u32)> {
        self.vain.into_inner().map(|vain| *vain)
    }
}

impl Again for Further<'_> {
    #[cold]
    fn may(&self) -> Pin<Box<dyn Future<Output = bool> + Send + '_>> {
        // A place is the call's as long as it runs, and a cost is known when it has ended: both hold for all its tries.
        let asks: Asked<'_> = self.asks.iter().copied().filter(|ask| ask.limit.is_plain()).collect();
        if asks.is_empty() {
            return Box::pin(std::future::ready(true));
        }
        Box::pin(async move {
            match tokio::time::timeout(SOON, self.limiter.admit(&asks)).await {
                Ok(Ok(permit)) => {
                    let _nothing_runs_on = permit.commit(self.request_id);
                    true
                }
                Ok(Err(_)) | Err(_) => false,
            }
        })
    }

    #[cold]
    fn goes_again(&self, last: &Arc<str>, came: Came, sent: Option<&mut HeaderMap>) {
        let Some(traced) = &self.traced else { return };
        let mut traced = traced.lock().unwrap_or_else(PoisonError::into_inner);
        let now = tidegate_clock::boot();
        let (mut span, began) = traced.asking;
        let fresh = forward::draw().max(1);
        match sent {
            // What went out named the span; the next one has a name of its own.
            Some(headers) => {
                traced.trace.put(fresh, headers);
                traced.asking = (fresh, now);
            }
            // Nothing went out: the request keeps the name that stands in it.
            None => {
                traced.asking = (span, now);
                span = fresh;
            }
        }
        let (status, error) = match came {
            Came::Status(status) => (status.as_u16(), None),
            Came::Failed(why) => (0, Some(why)),
        };
        let towards = traced.towards;
        let endpoint = Some(Arc::clone(last));
        traced.over.push(telemetry::Try { span, began, ended: now, towards, endpoint, deployed: None, status, error });
    }

    #[cold]
    fn gave_up(&self, last: &Arc<str>, attempts: u32) {
        let _once = self.vain.set(Box::new((Arc::clone(last), attempts)));
    }
}

fn refusal(refused: &Refused) -> Refusal {
    match refused.why {
        Why::Exhausted { retry_after } => Refusal::Limited { retry_after },
        Why::TooCostly => Refusal::TooCostly,
        Why::Unavailable { retry_after } => Refusal::LimitUnavailable { retry_after },
    }
}

/// What the caller has by order that is not what the limits say; empty when that is nothing.
#[inline]
fn owns(limiter: &Limiter, asks: &[Ask<'_>]) -> Few<Option<Quota>> {
    if !limiter.has_ceilings() {
        return Few::new();
    }
    let owns: Few<Option<Quota>> = asks.iter().map(|ask| limiter.own(ask)).collect();
    if owns.iter().all(Option::is_none) { Few::new() } else { owns }
}

fn decided(
    snapshot: &Snapshot,
    places: &[usize],
    (owns, standings): (&[Option<Quota>], &[Standing]),
    refused: Option<usize>,
    aside: Vec<telemetry::Standing>,
) -> Decided {
    let limits: Few<&Arc<Limit>> = places.iter().filter_map(|&at| snapshot.limits.get(at)).collect();
    let shown = Shown::new(&limits, owns, standings);
    let verdict = |index: usize, standing: &Standing| match refused {
        Some(at) if at == index => telemetry::Verdict::Refused,
        _ if standing.would_refuse => telemetry::Verdict::WouldRefuse,
        _ if standing.unsafely => telemetry::Verdict::Unsafe,
        _ => telemetry::Verdict::Admitted,
    };
    let standings = places.iter().zip(standings).enumerate().map(|(index, (place, standing))| telemetry::Standing {
        limit: *place,
        verdict: verdict(index, standing),
        remaining: Some(standing.remaining),
    });
    Decided { shown, standings: standings.chain(aside).collect() }
}

/// What is taken now: what a call costs, or what it may cost. `weight`: of the route.
///
/// # Errors
/// A limit of money, and nobody knows what the call costs.
fn cost(limit: &Limit, weight: Permits, scope: &Scope<'_>) -> Result<Permits, Refusal> {
    let most = || scope.spoken.map(|spoken| (spoken.most)());
    Ok(match &limit.cost {
        Cost::Fixed(cost) => Permits(cost.0.saturating_mul(weight.0)),
        Cost::RequestBytes { estimate } => {
            let announced = scope.headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
            announced.map_or(*estimate, Permits).max(Permits(1))
        }
        Cost::ResponseBytes { estimate } | Cost::Header { estimate, .. } => *estimate,
        Cost::Tokens { estimate: Some(estimate) } => *estimate,
        Cost::Tokens { estimate: None } => Permits(most().map_or(1, |most| most.tokens.max(1))),
        Cost::Money { unpriced } => match (most().map_or(Some(0), |most| most.money), unpriced) {
            (Some(most), _) => Permits(most.max(1)),
            (None, Unpriced::Free) => Permits(1),
            (None, Unpriced::Refuse) => return Err(Refusal::ModelUnpriced),
        },
    })
}
