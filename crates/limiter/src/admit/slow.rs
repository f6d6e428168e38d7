//! A cell is short: the partition reserve was tried; what the leader said last, and at most one wait for what it says next.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tidegate_clock as clock;
use tidegate_model::{Nanos, Permits};
use tidegate_policy::{Limit, Mode, Nature, OnUnavailable};
use tidegate_quota::guard;
use tidegate_quota::holding::Drawn;

use super::promised::Waiter;
use super::standing::{Marks, is_marked, mark, standings};
use super::taking::How;
use super::{Ask, Limiter, Miss, Refused, Why};
use crate::owner::Remote;
use crate::permit::{Permit, Taken};
use crate::slot::{Found, Slot};

/// Requests that wait for news at the same time; more are refused at once.
const MOST_WAITING: usize = 8_192;
/// However often the news was good for somebody else.
const LONGEST: Nanos = Nanos::SECOND;
/// A leader that says "ask again in a moment" is believed for so long.
const SECOND_WIND: Nanos = Nanos::from_millis(120);
pub(super) const A_MOMENT: Nanos = Nanos::from_millis(20);

impl Limiter {
    #[cold]
    pub(super) async fn admit_slowly<'l>(
        &'l self,
        asks: &[Ask<'_>],
        mut miss: Miss<'l>,
    ) -> Result<Permit<'l>, Refused> {
        // Asks beyond the 64th share the last mark; a route cannot name so many (config refuses more).
        let (mut spared, mut marks) = (0_u64, Marks::default());
        let mut fetches = Fetches { limiter: self, remote: Vec::new() };
        let began = clock::boot();
        // Which ask is waited for, and since when.
        let mut turn = (miss.ask, began);
        let mut waiter: Option<Waiter<'l>> = None;
        loop {
            miss = self.scarcest(asks, spared, miss);
            let ask = &asks[miss.ask];
            if turn.0 != miss.ask {
                // Its own wait: what others took is not held against it. However often that happens, it comes to an end.
                turn = (miss.ask, clock::boot().min(began.saturating_add(LONGEST)));
            }
            let started = turn.1;
            let verdict = if self.is_too_costly(ask) {
                Err(Why::TooCostly)
            } else if let Some(slot) = &miss.slot {
                let settled_later = !ask.limit.is_plain();
                if settled_later && waiter.as_ref().is_none_or(|waiter| waiter.ask != miss.ask) {
                    waiter = Waiter::new(slot, miss.ask, ask);
                }
                // What ends or is settled later does so where it was taken, and a window of the calendar is told with its
                // lease.
                let remote = match settled_later || ask.limit.kind.period().is_some() {
                    true => None,
                    false => self.ask_owner(ask, slot, started).await,
                };
                match remote {
                    Some(Ok(remote)) => {
                        fetches.remote.push(remote);
                        spared = mark(spared, miss.ask);
                        Ok(Next::TryAgain)
                    }
                    Some(Err(why)) => Err(why),
                    None => self.look_further(ask, slot, started).await,
                }
            } else {
                self.wait_for_room(asks, ask.limit, started).await
            };
            match verdict {
                Ok(Next::TryAgain) => {}
                Ok(Next::AllowUnsafely) => {
                    self.counters.allowed_unsafely.fetch_add(1, Ordering::Relaxed);
                    spared = mark(spared, miss.ask);
                    marks.unsafely = mark(marks.unsafely, miss.ask);
                }
                Err(_) if ask.limit.mode == Mode::Observe => {
                    spared = mark(spared, miss.ask);
                    marks.would_refuse = mark(marks.would_refuse, miss.ask);
                }
                Err(why) => {
                    let mut standings = Box::new(standings(self, asks, marks));
                    // Whatever is free elsewhere: this was a no.
                    if let Some(refused) = standings.get_mut(miss.ask) {
                        refused.remaining = refused.remaining.min(ask.cost.saturating_sub(Permits(1)));
                    }
                    return Err(Refused { ask: miss.ask, why, standings });
                }
            }
            match self.try_take(asks, spared, How::Surely(waiter.as_ref())) {
                Ok(mut taken) => {
                    taken.stand(standings(self, asks, marks));
                    fetches.remote.drain(..).for_each(|remote| taken.push_remote(remote));
                    return Ok(Permit::new(self, taken));
                }
                Err(next) => miss = next,
            }
        }
    }

    /// Of several short keys that other nodes own the smallest is asked for first: what was fetched for the others while it
    /// says no would be burnt, should a report be cut before it is back.
    fn scarcest<'l>(&'l self, asks: &[Ask<'_>], spared: u64, miss: Miss<'l>) -> Miss<'l> {
        let fetched = |ask: &Ask<'_>, slot: &Slot| self.owner(ask, slot).is_some();
        if !miss.slot.as_ref().is_some_and(|found| fetched(&asks[miss.ask], found.slot)) {
            return miss;
        }
        let mut first = miss;
        for (at, ask) in asks.iter().enumerate().filter(|(at, _)| !is_marked(spared, *at)) {
            if ask.limit.max >= asks[first.ask].limit.max || !ask.limit.is_plain() || ask.limit.mode == Mode::Observe {
                continue;
            }
            let short = self.find(ask.limit, ask.subject).filter(|found| found.slot.cell.left() < ask.cost);
            if let Some(slot) = short.and_then(Found::pin) {
                first = Miss { ask: at, slot: Some(slot) };
            }
        }
        first
    }

    /// Takes the permit from the key's owner, if that is another node and answers.
    async fn ask_owner(&self, ask: &Ask<'_>, found: &Found<'_>, started: Nanos) -> Option<Result<Remote, Why>> {
        let (slot, now) = (found.slot, clock::boot());
        let owner = self.owner(ask, slot)?;
        if now.0 < slot.covered_until.load(Ordering::Relaxed) && !self.may_ask_again(slot, started, now) {
            return Some(Err(Why::Exhausted { retry_after: until(slot, now) })); // A flood is not sent on.
        }
        let _place = Place::take(self)?;
        let fetched = self.fetch(owner, ask.key(), ask.cost).await?;
        match &fetched {
            Ok(_) => _ = self.counters.fetched.fetch_add(1, Ordering::Relaxed),
            Err(why) => {
                let retry = if let Why::Exhausted { retry_after } = why { nanos(*retry_after) } else { Nanos::ZERO };
                slot.cover(clock::boot(), retry);
            }
        }
        Some(fetched)
    }

    /// For another node: from this node's own lease, whoever else might be asked. At most one round trip to the leader, as
    /// for a request here.
    pub(crate) async fn take_here(&self, ask: &Ask<'_>) -> Result<Taken<'_>, Why> {
        let started = clock::boot();
        loop {
            let missed = match self.try_take(std::slice::from_ref(ask), 0, How::Quickly) {
                Ok(taken) => return Ok(taken),
                Err(Miss { slot, .. }) => slot,
            };
            if self.is_too_costly(ask) {
                return Err(Why::TooCostly);
            }
            let next = match missed {
                Some(slot) => self.look_further(ask, &slot, started).await?,
                None => self.wait_for_room(std::slice::from_ref(ask), ask.limit, started).await?,
            };
            match next {
                Next::TryAgain => {}
                // That is for the node whose request it is to say.
                Next::AllowUnsafely => return Err(Why::Unavailable { retry_after: Duration::from_secs(1) }),
            }
        }
    }

    /// A cell is short: is the answer known already, or is it worth waiting for news?
    pub(crate) async fn look_further(&self, ask: &Ask<'_>, found: &Found<'_>, started: Nanos) -> Result<Next, Why> {
        if let Some(drawn) = self.draw(ask, found, started).await {
            return drawn;
        }
        let (slot, now) = (found.slot, clock::boot());
        let covered = now.0 < slot.covered_until.load(Ordering::Relaxed) && !self.may_ask_again(slot, started, now);
        if covered && guard!("covered-refusal-is-local") || !guard!("waits-before-an-uncovered-refusal") {
            slot.miss(ask.cost);
            self.bell.list(slot, found.number);
            return Err(Why::Exhausted { retry_after: until(slot, now) });
        }
        let patience = self.silence.patience_of(is_in_need(ask.limit));
        // A leader that answers for this key has permits for others only: that is a plain no, and at once if it said so.
        let is_served = now.0 < slot.told.load(Ordering::Relaxed).saturating_add(LONGEST.0);
        let says_no = is_served && slot.frees_at.load(Ordering::Relaxed) != 0;
        let longest = if says_no { LONGEST } else { patience.max(LONGEST) };
        let waiting_since = self.silence.waited_since(started, now);
        let waited_too_long = now >= waiting_since.saturating_add(longest);
        if waited_too_long || self.silence.is_given_up(now, patience) {
            slot.miss(ask.cost);
            self.bell.list(slot, found.number);
            let is_no = waited_too_long && is_served;
            return if is_no { Err(exhausted_for_now(slot, now)) } else { self.undecided(ask, started, "silence") };
        }
        // The leader said when: asking sooner is in vain.
        let frees = Nanos(slot.frees_at.load(Ordering::Relaxed)).saturating_sub(now);
        let wait = if now.0 < slot.covered_until.load(Ordering::Relaxed) { frees.min(A_MOMENT) } else { Nanos::ZERO };
        let Some(place) = Place::take(self) else {
            slot.miss(ask.cost);
            self.bell.list(slot, found.number);
            return Err(exhausted_for_now(slot, now));
        };
        if wait > Nanos::ZERO {
            tokio::time::sleep(wait.into()).await;
        }
        // Each wait is for one answer. Who has waited before waits for the rest of it.
        let heard = self.wait_for_news(found, ask.cost, self.silence.patience().min(patience)).await;
        drop(place);
        // A leader that answers others is there: this key's turn is still to come.
        let now = clock::boot();
        if heard
            || self.silence.is_unlikely(now)
            || now < self.silence.waited_since(started, now).saturating_add(patience)
        {
            return Ok(Next::TryAgain);
        }
        self.silence.give_up(patience); // Whoever comes next need not find out for himself.
        self.undecided(ask, started, "no answer")
    }

    /// No leader said yes or no.
    fn undecided(&self, ask: &Ask<'_>, started: Nanos, why: &'static str) -> Result<Next, Why> {
        tracing::debug!(
            limit = %ask.limit.name,
            key = ?ask.key(),
            why,
            waited = ?Duration::from(clock::boot().saturating_sub(started)),
            silent = ?self.silence.lasts(),
            "no leader said whether there are permits"
        );
        unavailable(ask.limit)
    }

    /// A node that holds part of a limit's rate waits for what it brings, a moment at most, and asks nobody. `None`: it holds
    /// none.
    async fn draw(&self, ask: &Ask<'_>, found: &Found<'_>, started: Nanos) -> Option<Result<Next, Why>> {
        if ask.limit.kind.nature() != Nature::Refilled {
            return None;
        }
        let (slot, now) = (found.slot, clock::boot());
        let asleep = {
            let mut holding = slot.holding();
            match holding.draw(&slot.cell, ask.cost, now, clock::raw()) {
                Drawn::There => return Some(Ok(Next::TryAgain)),
                Drawn::Nothing => return None,
                Drawn::In(wait) if wait > A_MOMENT || now >= started.saturating_add(A_MOMENT) => Err(wait),
                Drawn::In(wait) => {
                    holding.queue(ask.cost);
                    Ok((wait, Asleep { slot, cost: ask.cost }))
                }
            }
        };
        match asleep {
            Ok((wait, _asleep)) => {
                self.counters.waited.fetch_add(1, Ordering::Relaxed);
                tokio::time::sleep(wait.into()).await;
                Some(Ok(Next::TryAgain))
            }
            Err(wait) => {
                slot.miss(ask.cost);
                self.bell.list(slot, found.number);
                Some(Err(Why::Exhausted { retry_after: wait.into() }))
            }
        }
    }

    /// The leader said that permits come in a moment (it has called them back from another node), and this request has
    /// not waited long.
    fn may_ask_again(&self, slot: &Slot, started: Nanos, now: Nanos) -> bool {
        let frees = Nanos(slot.frees_at.load(Ordering::Relaxed));
        frees <= now.saturating_add(A_MOMENT) && now < started.saturating_add(SECOND_WIND)
    }

    async fn wait_for_news(&self, found: &Found<'_>, cost: Permits, patience: Nanos) -> bool {
        let slot = found.slot;
        self.counters.waited.fetch_add(1, Ordering::Relaxed);
        let news = slot.news.notified();
        tokio::pin!(news);
        news.as_mut().enable(); // Before the cost is queued: no answer to it can be missed.
        let _queued = Queued::new(slot, cost);
        self.bell.ring(found.number);
        tokio::time::timeout(patience.into(), news).await.is_ok()
    }
}

/// What other nodes took for a request that is not decided yet: sent back, unless the request takes it over.
struct Fetches<'l> {
    limiter: &'l Limiter,
    remote: Vec<Remote>,
}

impl Drop for Fetches<'_> {
    fn drop(&mut self) {
        self.remote.iter().for_each(|remote| self.limiter.send_back(remote));
    }
}

pub(crate) enum Next {
    TryAgain,
    AllowUnsafely,
}

/// Without a leader's word the call is refused. Who may go on without, or is not bound by it, is not kept waiting.
pub(super) fn is_in_need(limit: &Limit) -> bool {
    limit.mode == Mode::Enforce && limit.on_unavailable != OnUnavailable::Allow
}

pub(super) fn unavailable(limit: &Limit) -> Result<Next, Why> {
    match limit.on_unavailable {
        OnUnavailable::Allow => Ok(Next::AllowUnsafely),
        // The reserve was tried before.
        OnUnavailable::Deny | OnUnavailable::Share => Err(Why::Unavailable { retry_after: Duration::from_secs(1) }),
    }
}

fn nanos(time: Duration) -> Nanos {
    Nanos(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX))
}

fn exhausted_for_now(slot: &Slot, now: Nanos) -> Why {
    Why::Exhausted { retry_after: until(slot, now).max(Duration::from_millis(100)) }
}

fn until(slot: &Slot, now: Nanos) -> Duration {
    Nanos(slot.frees_at.load(Ordering::Relaxed)).saturating_sub(now).into()
}

/// A cost that sleeps until the rate has brought it; no more when dropped. Its slot is pinned meanwhile.
struct Asleep<'a> {
    slot: &'a Slot,
    cost: Permits,
}

impl Drop for Asleep<'_> {
    fn drop(&mut self) {
        self.slot.holding().unqueue(self.cost);
    }
}

/// A place among those who wait, given up when dropped.
pub(super) struct Place<'a>(&'a AtomicUsize);

impl<'a> Place<'a> {
    pub(super) fn take(limiter: &'a Limiter) -> Option<Self> {
        let place = Self(&limiter.waiting);
        let before = limiter.waiting.fetch_add(1, Ordering::Relaxed);
        (before < MOST_WAITING || !guard!("waiting-queue-bounded")).then_some(place)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A cost in a slot's queue, taken out when dropped: also when its client hangs up.
struct Queued<'a> {
    slot: &'a Slot,
    cost: Permits,
}

impl<'a> Queued<'a> {
    fn new(slot: &'a Slot, cost: Permits) -> Self {
        slot.queue(cost);
        Self { slot, cost }
    }
}

impl Drop for Queued<'_> {
    fn drop(&mut self) {
        self.slot.unqueue(self.cost);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use tidegate_model::{Incarnation, NodeId};

    use super::*;
    use crate::Settings;

    #[test]
    fn beyond_the_bound_nobody_waits_and_whoever_leaves_makes_room() {
        let settings =
            Settings { node: NodeId(1), incarnation: Incarnation(1), secret: [0; 16], most_keys: 10, decisions: None };
        let limiter = Limiter::new(settings);
        let mut places: Vec<_> = (0..MOST_WAITING).map(|_| Place::take(&limiter).expect("room")).collect();
        assert!(Place::take(&limiter).is_none());
        places.pop();
        assert!(Place::take(&limiter).is_some());
    }
}
