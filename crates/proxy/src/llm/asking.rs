//! One deployment after the other, until one begins to answer; beside one that is late, another.

mod failing;

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use http::Response;
use http::request::Parts;
use smallvec::SmallVec;
use tidegate_clock as clock;
use tidegate_llm::meaning::Kind;
use tidegate_llm::tokens::Encoding;
use tidegate_model::Nanos;
use tidegate_policy::{Hedge, Model, Routing, Then};
use tidegate_upstream::Again;
use tokio::time::{Instant, sleep_until};

use super::account::{Account, Lost};
use super::attempt::{Attempt, Failed, Rest, Tried, Won};
use super::choose::{Candidate, Chooser, Queue};
use super::counting::{self, Prompt};
use super::heard::Beside;
use super::heard::{Heard, Outgoing};
use super::own::OwnKeys;
use super::told::No;
use super::trouble::Trouble;
use super::{OPEN, Visit, estimated};
use crate::charge::Charge;
use crate::forward;
use crate::in_place::{boxed, pinned};
use crate::limits::{self, Further, Spoken};
use crate::refusal::Refusal;
use crate::relay::Observer;
use crate::reply::Reply;
use crate::request::poll_while;

/// A deployment whose limit has no permit here is passed over after so long.
const SOON: Duration = Duration::from_millis(100);

/// What all tries of a call have in common.
#[derive(Clone, Copy)]
pub(super) struct Call<'v, 'a, 'b> {
    pub(super) visit: &'v Visit<'a, 'b>,
    pub(super) parts: &'v Parts,
    pub(super) heard: &'v Heard<'v>,
    pub(super) own: &'v OwnKeys<'v>,
    pub(super) further: &'v Further<'a>,
    pub(super) chooser: Chooser<'v, 'a>,
    pub(super) model: &'a Model,
    /// Somebody wants a streamed answer whole.
    pub(super) records: bool,
}

pub(super) struct Asking<'v, 'a, 'b> {
    call: Call<'v, 'a, 'b>,
    queue: Queue<'a>,
    running: SmallVec<[Running<'v, 'a>; 1]>,
    ledger: Account,
    /// With tries whose end nobody knows.
    lost: Lost,
    /// What hedges took of the caller's limits, each for a prompt.
    beside: Vec<(Charge, Lost)>,
    began: Instant,
    attempts: u32,
    hedges: u32,
    last: Option<Box<Failed>>,
    refused: Option<No>,
    /// Of a count that cannot be asked for: at once, or if it is refused. And how the model counts, if that is known.
    estimate: Option<(bool, u64, Option<Encoding>)>,
    /// For who may have to count it; made once.
    prompt: Option<Option<Arc<Prompt>>>,
}

struct Running<'v, 'a> {
    candidate: Candidate<'a>,
    /// Another one was asked before it and is late.
    beside: bool,
    charge: Option<Box<Charge>>,
    /// What it costs if nothing is ever heard of it.
    guess: Lost,
    /// Its span and when it began, if somebody follows the request.
    span: Option<(u64, Nanos)>,
    work: Pin<Box<dyn Future<Output = Tried> + Send + 'v>>,
}

enum Came {
    Late,
    Ended(usize, Tried),
}

impl<'v, 'a: 'v, 'b: 'v> Asking<'v, 'a, 'b> {
    /// # Errors
    /// No deployment can take the call.
    pub(super) fn new(call: Call<'v, 'a, 'b>) -> Result<Self, No> {
        Ok(Self {
            call,
            queue: call.chooser.queue(call.model)?,
            running: SmallVec::new(),
            ledger: Account::new(call.heard.peek.prompt_bytes, call.heard.peek.has_tools),
            lost: (0, 0),
            beside: Vec::new(),
            began: Instant::now(),
            attempts: 0,
            hedges: 0,
            last: None,
            refused: None,
            estimate: None,
            prompt: None,
        })
    }

    pub(super) async fn run(&mut self, observer: &mut Observer) -> Result<Response<Reply>, No> {
        let hedge = self.call.model.routing.hedge;
        if hedge.is_some() {
            self.budget().request(self.call.visit.gate.fleet.age());
        }
        let late = |hedges: u32| hedge.filter(|hedge| hedges < hedge.at_most).map(|hedge| Instant::now() + hedge.after);
        let mut next = None;
        loop {
            if self.running.is_empty() {
                if !pin!(self.begin(false, observer)).await? {
                    return Box::pin(self.give_up(observer)).await;
                }
                next = late(self.hedges);
            }
            let came = pin!(self.came(next, observer)).await?;
            let (at, tried) = match came {
                Came::Late => {
                    next = if Box::pin(self.hedge(observer)).await? { late(self.hedges) } else { None };
                    continue;
                }
                Came::Ended(at, tried) => (at, tried),
            };
            let Running { candidate, beside, charge, guess, span, .. } = self.running.remove(at);
            note(&tried, observer);
            observer.record.asking = span;
            match tried.outcome {
                Ok(mut won) => {
                    if let Rest::Whole(account) = &mut won.rest {
                        counting::now(account).await;
                    }
                    let response = self.won(*won, &candidate, charge, observer);
                    if let Some(spoken) = &mut observer.record.spoken {
                        spoken.hedge_won = beside;
                    }
                    return Ok(response);
                }
                Err(failed) => {
                    self.asked(&candidate, observer);
                    observer.record.tried(failed.status(), failed.error.kind.name());
                    if self.failed(failed, candidate, (charge, guess), observer) {
                        return Box::pin(self.give_up(observer)).await;
                    }
                }
            }
        }
    }

    /// Waits for what comes first. The call's places may lapse meanwhile.
    async fn came(&mut self, late: Option<Instant>, observer: &mut Observer) -> Result<Came, Refusal> {
        let running = &mut self.running;
        let mut timer = pin!(late.map(sleep_until));
        let mut first = pin!(poll_fn(|cx| {
            for (at, one) in running.iter_mut().enumerate() {
                if let Poll::Ready(tried) = one.work.as_mut().poll(cx) {
                    return Poll::Ready(Came::Ended(at, tried));
                }
                if one.charge.as_mut().is_some_and(|charge| charge.poll_lapsed(cx).is_ready()) {
                    let failed = Failed::ours(Refusal::LimitUnavailable { retry_after: Duration::from_secs(1) });
                    return Poll::Ready(Came::Ended(at, Tried::failed(failed)));
                }
            }
            match timer.as_mut().as_pin_mut() {
                Some(timer) => timer.poll(cx).map(|()| Came::Late),
                None => Poll::Pending,
            }
        }));
        poll_fn(|cx| poll_while(&mut observer.charge, None, first.as_mut(), cx)).await
    }

    /// Asks the next deployment. `beside`: another one is on its way. False: there is none, or no further try may be made.
    async fn begin(&mut self, beside: bool, observer: &mut Observer) -> Result<bool, Refusal> {
        let Routing { attempts, within, .. } = self.call.model.routing;
        let gate = self.call.visit.gate;
        while let Some(candidate) = self.queue.pop_front() {
            // Whoever was asked is heard to the end for a caller who left; nobody else is asked for him.
            let left = || self.call.visit.stays.has_left() || self.began.elapsed() > within;
            if self.attempts >= attempts || (self.attempts > 0 && left()) {
                return Ok(false);
            }
            let own = self.call.own;
            if own.with(&candidate.deployment.provider).is_none() {
                self.refused.get_or_insert_with(|| own.missing());
                continue;
            }
            let outgoing = match self.call.heard.outgoing(candidate.model, candidate.deployment) {
                Ok(outgoing) => outgoing,
                // Another one may speak the caller's language.
                Err(no) => {
                    self.refused.get_or_insert(no);
                    continue;
                }
            };
            let encoding = candidate.deployment.encoding(&self.call.heard.peek.model);
            match outgoing.beside {
                Some(Beside::Estimate(tokens)) => {
                    self.estimate = Some((true, tokens, encoding));
                    return Ok(false);
                }
                Some(Beside::Count(tokens)) => self.estimate = Some((false, tokens, encoding)),
                _ => {}
            }
            if !gate.upstreams.admits(&candidate.deployment.provider.upstream) {
                self.last.get_or_insert_with(|| Box::new(Failed::ours(OPEN)));
                self.react(Trouble::Connect, candidate, None);
                continue;
            }
            if let Some(until) = candidate.not_before {
                let mut pause = Box::pin(sleep_until(until));
                poll_fn(|cx| poll_while(&mut observer.charge, None, pause.as_mut(), cx)).await?;
            }
            let mut account =
                self.ledger.fork(outgoing.dialect, candidate.deployment.tariff(&self.call.heard.peek.model));
            let most = self.call.heard.longest(Some(candidate.model), candidate.deployment);
            account.at_most(most);
            account.counting(encoding, || self.prompt());
            // Boxed, as all that is rare: what a call is made of is moved about.
            let mut charge = None;
            if !candidate.deployment.limits.is_empty() {
                match Box::pin(admitted(self.call, &candidate, account.guess())).await {
                    Ok(admitted) => charge = admitted,
                    Err(refusal) => {
                        self.last.get_or_insert_with(|| Box::new(Failed::ours(refusal)));
                        continue;
                    }
                }
            }
            if self.attempts > 0 && !Box::pin(self.may_begin(beside, account.guess(), observer)).await {
                return Ok(false);
            }
            self.start(candidate, beside, charge, (outgoing, account), observer);
            return Ok(true);
        }
        Ok(false)
    }

    fn prompt(&mut self) -> Option<Arc<Prompt>> {
        let heard = self.call.heard;
        self.prompt.get_or_insert_with(|| heard.prompt()).clone()
    }

    /// A further try is a request: it takes of all limits of requests anew. One beside another is paid as well.
    async fn may_begin(&mut self, beside: bool, guess: Lost, observer: &mut Observer) -> bool {
        if !beside {
            return self.call.further.may().await;
        }
        let Some(charge) = self.call.further.beside().await else { return false };
        if let Some(mut charge) = charge {
            charge.used(guess);
            self.beside.push((*charge, guess));
            self.elsewhere(observer);
        }
        true
    }

    fn start(
        &mut self,
        candidate: Candidate<'a>,
        beside: bool,
        charge: Option<Box<Charge>>,
        (outgoing, account): (Outgoing, Box<Account>),
        observer: &mut Observer,
    ) {
        let Call { visit, parts, heard, own, further, records, .. } = self.call;
        let own = own.with(&candidate.deployment.provider).flatten();
        self.told(&candidate, &outgoing, observer);
        self.attempts += 1;
        let filtered_fails = !matches!(candidate.model.routing.on_error.content_filtered.then, Then::Fail);
        let (guess, going, deployment) = (account.guess(), candidate.known.begin(), candidate.deployment);
        let span = observer.record.asks_beside(forward::draw);
        let began = span.as_ref().map(|(_, span)| (*span, clock::boot()));
        let attempt = boxed(|| Attempt {
            visit,
            parts,
            heard,
            own,
            further,
            deployment,
            outgoing,
            account,
            going,
            filtered_fails,
            records,
            span,
        });
        self.running.push(Running { candidate, beside, charge, guess, span: began, work: pinned(|| attempt.make()) });
        self.stands(observer);
    }

    /// What is lost, and what may yet be.
    fn pending(&self) -> Lost {
        let add = |all: Lost, one: Lost| (all.0.saturating_add(one.0), all.1.saturating_add(one.1));
        self.running.iter().fold(self.lost, |all, one| add(all, one.guess))
    }

    fn stands(&mut self, observer: &mut Observer) {
        let pending = self.pending();
        self.ledger.stands(pending, observer);
    }

    /// For the record: who is asked.
    fn told(&self, candidate: &Candidate<'_>, outgoing: &Outgoing, observer: &mut Observer) {
        let Call { visit, heard, .. } = self.call;
        let provider = &candidate.deployment.provider;
        observer.record.towards = visit.llm.place(provider);
        if let Some(spoken) = &mut observer.record.spoken {
            spoken.provider = Some(provider.name.clone());
            spoken.deployed = Some(candidate.deployment.model(&heard.peek.model).into());
            spoken.dialects.1 = outgoing.dialect.name();
            (spoken.fallbacks, spoken.hedges) = (self.attempts - self.hedges.min(self.attempts), self.hedges);
        }
    }

    /// Asks another deployment beside the late one. False: there is none, or it may not.
    async fn hedge(&mut self, observer: &mut Observer) -> Result<bool, Refusal> {
        let Some(Hedge { budget, .. }) = self.call.model.routing.hedge else { return Ok(false) };
        let resting = |candidate: &Candidate<'_>| candidate.known.is_resting() || candidate.tried > 0;
        while self.queue.front().is_some_and(resting) {
            self.queue.pop_front();
        }
        if self.queue.is_empty() || !self.budget().retry(budget, self.call.visit.gate.fleet.age()) {
            return Ok(false);
        }
        self.hedges += 1;
        let begun = self.begin(true, observer).await?;
        self.hedges -= u32::from(!begun);
        if let Some(spoken) = &mut observer.record.spoken {
            spoken.hedges = self.hedges;
        }
        Ok(begun)
    }

    fn budget(&self) -> Arc<tidegate_upstream::Budget> {
        self.call.visit.gate.fleet.budget(&self.call.model.name)
    }

    /// For the record: whom it is about.
    fn asked(&self, candidate: &Candidate<'_>, observer: &mut Observer) {
        let provider = &candidate.deployment.provider;
        observer.record.towards = self.call.visit.llm.place(provider);
        if let Some(spoken) = &mut observer.record.spoken {
            spoken.provider = Some(provider.name.clone());
            spoken.deployed = Some(candidate.deployment.model(&self.call.heard.peek.model).into());
        }
    }

    /// Who else runs is left alone at once: its drop cancels it.
    fn won(
        &mut self,
        won: Won,
        candidate: &Candidate<'a>,
        charge: Option<Box<Charge>>,
        observer: &mut Observer,
    ) -> Response<Reply> {
        let lost = self.pending();
        if self.attempts > 1 {
            self.leave_others(observer);
            self.asked(candidate, observer);
        }
        if let Some(mut charge) = charge {
            charge.pays_elsewhere(lost);
            Charge::join(&mut observer.charge, Some(charge));
        }
        let Won { mut response, rest, dropped } = won;
        if let (Some(dropped), Some(spoken)) = (dropped, &mut observer.record.spoken) {
            spoken.dropped = Some(dropped);
        }
        match rest {
            Rest::Whole(mut account) => {
                account.owes(lost);
                account.settle(observer);
            }
            Rest::Stream(mut told) => {
                told.owes(lost);
                *response.body_mut() = Reply::Told(told);
            }
        }
        self.running.clear();
        response
    }

    fn leave_others(&mut self, observer: &mut Observer) {
        let winner = observer.record.asking.take();
        let endpoint = observer.record.endpoint.take();
        for loser in std::mem::take(&mut self.running) {
            observer.record.asking = loser.span;
            self.asked(&loser.candidate, observer);
            observer.record.tried(0, "cancelled");
        }
        (observer.record.asking, observer.record.endpoint) = (winner, endpoint);
    }

    async fn give_up(&mut self, observer: &mut Observer) -> Result<Response<Reply>, No> {
        // Some models cannot be asked for a count.
        let cannot = |failed: &Failed| matches!(failed.error.kind, Kind::BadRequest | Kind::NotFound | Kind::Forbidden);
        let cannot = self.last.as_deref().is_some_and(cannot);
        if let Some((_, tokens, encoding)) = self.estimate.filter(|(at_once, ..)| *at_once || cannot) {
            let heard = self.call.heard;
            let counted = match encoding {
                Some(encoding) => heard.counted(encoding).await.filter(|counted| counted.surely),
                None => None,
            };
            let by = encoding.filter(|_| counted.is_some()).map(Encoding::name);
            let tokens = counted.map_or(tokens, |counted| counted.tokens);
            let ledger = std::mem::replace(&mut self.ledger, Account::new(0, false));
            return Ok(estimated(tokens, by, heard, ledger, observer));
        }
        match (self.last.take(), self.refused.take()) {
            (Some(failed), _) => {
                observer.record.refusal = failed.refusal.as_ref().map(Refusal::code);
                observer.record.detail.get_or_insert_with(|| failed.error.message.as_str().into());
                Ok(failed.response(self.call.heard.door.dialect))
            }
            (None, Some(no)) => Err(no),
            (None, None) => Err(Refusal::NoEndpoint.into()),
        }
    }
}

/// What the deployment itself allows.
async fn admitted(
    call: Call<'_, '_, '_>,
    candidate: &Candidate<'_>,
    guess: Lost,
) -> Result<Option<Box<Charge>>, Refusal> {
    let Call { visit, heard, model, .. } = call;
    let most = || heard.most(candidate.model);
    let spoken = Spoken { model: &model.name, most: &most };
    let scope = visit.scope(call.parts, Some(spoken));
    let held: limits::Few<_> = candidate.deployment.limits.iter().collect();
    let counters = (&*visit.gate.limiter, &*visit.gate.seen);
    let late = |_| Refusal::LimitUnavailable { retry_after: Duration::from_secs(1) };
    let admit = || tokio::time::timeout(SOON, limits::admit(counters, visit.snapshot, &held, &scope));
    let (mut verdict, decided, mut asks) = admit().await.map_err(late)?;
    // The bound would not fit: perhaps what it truly is does.
    if let Err(refusal) = &verdict
        && limits::could_fit(refusal, visit.snapshot, &decided.standings, &|| heard.least(candidate.model))
        && Box::pin(heard.counted_for(candidate.model)).await
    {
        (verdict, _, asks) = admit().await.map_err(late)?;
    }
    let mut charge = Charge::of(verdict?.commit(visit.origin.request_id.as_str().as_bytes()), &asks);
    if let Some(charge) = &mut charge {
        charge.used(guess); // If nothing is ever heard of it.
    }
    Ok(charge)
}

/// Who answered.
fn note(tried: &Tried, observer: &mut Observer) {
    let record = &mut observer.record;
    if let Some((endpoint, attempts, connect, first_byte)) = &tried.answer {
        record.endpoint = Some(endpoint.clone());
        record.attempts += attempts;
        (record.connect, record.first_byte) = (*connect, Some(*first_byte));
    }
    if let Some(detail) = &tried.detail {
        record.detail = Some(detail.clone());
    }
}
