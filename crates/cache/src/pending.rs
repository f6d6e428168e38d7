//! A lookup that memory did not answer: a fetch under way here, Redis, another node that holds it or fetches, then the
//! origin.

use std::sync::Arc;
use std::time::Duration;

use http::Method;
use tidegate_model::Millis;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout_at};

use crate::answer::{self, Asker, Kind};
use crate::cache::{Judged, Lookup};
use crate::counters::bump;
use crate::fetch::{Duty, Fetch, LOCK, Lock};
use crate::flight::{Join, State};
use crate::peers::Turn as Given;
use crate::remote::{Remote, Turn};
use crate::rules::conditional;
use crate::rules::status::{Forward, Report};
use crate::rules::store;
use crate::rules::vary::Selector;
use crate::stored::Stored;

/// How often Redis is asked whether another node is done: at first, and at most.
const POLL: Duration = Duration::from_millis(2);
const LONGEST_POLL: Duration = Duration::from_millis(50);
/// How often another node is asked: what a response varies by may come out only then.
const ROUNDS: usize = 3;

/// Owns what it needs of the request: it may wait for seconds.
#[derive(Debug)]
pub struct Pending {
    fetch: Fetch,
    /// Redis said all that it knows.
    asked_redis: bool,
}

/// What waiting came to.
enum Waited {
    Done(Lookup),
    /// Go and fetch.
    Fetch,
    /// Whoever fetched failed: one more try to go together.
    Again,
}

impl Pending {
    pub(crate) fn new(fetch: Fetch) -> Self {
        Self { fetch, asked_redis: false }
    }

    /// Never longer than the node's `wait`; Redis never holds it up for longer than its deadline.
    pub async fn wait(mut self: Box<Self>) -> Lookup {
        let until = Instant::now() + self.fetch.cache.wait;
        if self.fetch.control.only_if_cached {
            let found = if self.asks_redis() { self.ask_redis().await } else { None };
            return found.unwrap_or_else(|| Lookup::Answer(Box::new(answer::only_if_cached())));
        }
        // Together first: one of a crowd asks Redis for all.
        if !self.goes_alone() {
            for _ in 0..2 {
                match self.together(until).await {
                    Waited::Done(lookup) => return lookup,
                    Waited::Fetch => break,
                    Waited::Again => {}
                }
            }
        }
        if self.asks_redis()
            && let Some(lookup) = self.ask_redis().await
        {
            return lookup;
        }
        self.go()
    }

    fn go(mut self: Box<Self>) -> Lookup {
        let fetch = &mut self.fetch;
        // What is purged while we waited concerns only what was fetched before: the fetch begins now.
        fetch.begun = fetch.cache.purges().epoch();
        fetch.asked = fetch.cache.now();
        let validates = fetch.held.as_ref().is_some_and(|held| conditional::has_validator(&held.headers));
        if conditional::is_conditional(&fetch.headers) && !validates && fetch.lead.is_none() {
            fetch.as_sent = true;
            if fetch.why == Forward::UriMiss && fetch.headers.contains_key(http::header::RANGE) {
                fetch.why = Forward::Partial;
            }
        }
        fetch.cache.counters.forwarded(fetch.why);
        Lookup::Fetch(Box::new(self.fetch))
    }

    /// A client that wants the origin's word, or a part of what nobody has, helps nobody by waiting.
    fn goes_alone(&self) -> bool {
        let fetch = &self.fetch;
        let validates = fetch.held.as_ref().is_some_and(|held| conditional::has_validator(&held.headers));
        fetch.why == Forward::Request
            || fetch.control.no_store
            || fetch.method == Method::HEAD
            || conditional::is_conditional(&fetch.headers) && !validates
    }

    fn asks_redis(&self) -> bool {
        !self.asked_redis
            && self.fetch.why != Forward::Request
            && self.fetch.cache.remote().is_some_and(|remote| remote.is_available())
    }

    async fn ask_redis(&mut self) -> Option<Lookup> {
        let remote = self.fetch.cache.remote()?;
        self.asked_redis = true;
        let (main, own) = (self.fetch.place.main, self.fetch.place.own);
        for key in std::iter::once(main).chain(own) {
            let (seen, _) = self.seek(&remote, &key).await;
            let Some(stored) = seen else { continue };
            let lookup = self.use_it(Arc::clone(&stored), Kind::Hit);
            if lookup.is_some()
                && let Some(lead) = self.fetch.lead.take()
            {
                // What is this caller's own is for nobody who waits.
                if key == main { lead.stored(stored) } else { lead.not_shared(None) }
            }
            return lookup;
        }
        None
    }

    /// What Redis has under a key, and how its lock stands.
    async fn seek(
        &mut self,
        remote: &Remote,
        key: &crate::rules::key::Key,
    ) -> (Option<Arc<Stored>>, crate::remote::Seen) {
        let fetch = &self.fetch;
        let varies = fetch.cache.memory().varies_by(key);
        let mut seen = remote.find(key, varies.as_deref(), &fetch.headers, fetch.policy.vary_limit).await;
        let now = fetch.cache.now();
        let useful = |stored: &Stored| {
            stored.terms.age(now) < stored.terms.keep
                && fetch.held.as_ref().is_none_or(|held| stored.asked > held.asked)
        };
        let stored = seen.stored.take().filter(|stored| useful(stored));
        let stored = stored.and_then(|stored| fetch.cache.adopt(*stored, fetch.policy.vary_limit));
        (stored, seen)
    }

    /// `None`: it needs the origin's word, which is noted.
    fn use_it(&mut self, stored: Arc<Stored>, kind: Kind) -> Option<Lookup> {
        let fetch = &mut self.fetch;
        if !fetch.cache.still_holds(&stored) {
            return None; // Purged, or this node cut off, while it waited.
        }
        let now = fetch.cache.now();
        let asker = Asker { method: &fetch.method, headers: &fetch.headers };
        match fetch.cache.judge(&stored, &fetch.control, asker, kind, now) {
            Judged::Serve(answer, _) => Some(Lookup::Answer(answer)),
            Judged::Ask { why, held } => {
                fetch.why = why;
                fetch.held = held;
                None
            }
            Judged::AskAsSent => None,
        }
    }

    async fn together(&mut self, until: Instant) -> Waited {
        let fetch = &self.fetch;
        let now = fetch.cache.now();
        let variant = self.variant();
        match fetch.cache.flights.join(&fetch.place.main, variant, fetch.cache.purges().epoch(), now) {
            Join::Alone => Waited::Fetch,
            Join::Wait(state) => self.ride(state, until).await,
            Join::Lead(lead) => {
                self.fetch.lead = Some(lead);
                // Whoever led before us may have stored it between our look and our lead.
                if let (Some(stored), _) = self.fetch.cache.recall(&self.fetch.place, &self.fetch.headers, now)
                    && self.fetch.held.as_ref().is_none_or(|held| stored.asked > held.asked)
                    && let Some(lookup) = self.use_it(Arc::clone(&stored), Kind::Hit)
                {
                    if let Some(lead) = self.fetch.lead.take() {
                        lead.stored(stored);
                    }
                    return Waited::Done(lookup);
                }
                if self.asks_redis()
                    && let Some(lookup) = self.ask_redis().await
                {
                    return Waited::Done(lookup);
                }
                self.for_the_cluster(until).await
            }
        }
    }

    /// Which of the variants that are known for this key it asks for.
    fn variant(&self) -> u64 {
        let fetch = &self.fetch;
        match fetch.cache.memory().varies_by(&fetch.place.main) {
            Some(names) if !names.is_empty() => crate::remote::variant_of(&Selector::for_names(&names, &fetch.headers)),
            _ => 0,
        }
    }

    async fn ride(&mut self, mut state: watch::Receiver<State>, until: Instant) -> Waited {
        loop {
            let now_at = state.borrow_and_update().clone();
            match now_at {
                State::Fetching | State::Unmeasured => {}
                State::Streaming(shared) => {
                    if self.reads_along(&shared.head) {
                        let now = self.fetch.cache.now();
                        let ttl = Some(shared.head.terms.ttl_seconds(now));
                        let report = Report { collapsed: true, ttl, ..Report::forward(self.fetch.why) };
                        bump(&self.fetch.cache.counters.collapsed);
                        return Waited::Done(Lookup::Answer(Box::new(answer::flowing(&shared, &report, now))));
                    }
                    if !shared.head.selector.matches(&self.fetch.headers) {
                        return Waited::Fetch;
                    }
                }
                State::Stored(stored) => return self.take(stored, Kind::Collapsed),
                State::StandIn(stored) => return self.stand_in(&stored),
                State::NotShared => return Waited::Fetch,
                State::Failed => return Waited::Again,
            }
            match timeout_at(until, state.changed()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => {
                    // Who fetched is gone; his last word stands.
                    if matches!(*state.borrow(), State::Fetching | State::Unmeasured | State::Streaming(_)) {
                        return Waited::Again;
                    }
                }
                Err(_) => {
                    let cache = &self.fetch.cache;
                    bump(&cache.counters.waits_over);
                    // The client it goes to may be slow, and it may be too much to keep: the next need not wait as well.
                    if matches!(*state.borrow(), State::Unmeasured) {
                        cache.flights.note_unshared(&self.fetch.place.main, cache.now());
                    }
                    return Waited::Fetch;
                }
            }
        }
    }

    /// A whole answer to this very kind of request.
    fn reads_along(&self, head: &Stored) -> bool {
        let fetch = &self.fetch;
        fetch.cache.is_live()
            && !conditional::is_conditional(&fetch.headers)
            && fetch.method != Method::HEAD
            && head.selector.matches(&fetch.headers)
            && fetch.cache.purges().outlived_by_fetch(&crate::fetch::about(head), head.epoch)
            && matches!(head.terms.reuse(&fetch.control, fetch.cache.now()), crate::rules::reuse::Reuse::Fresh)
    }

    fn take(&mut self, stored: Arc<Stored>, kind: Kind) -> Waited {
        let fits = stored.selector.matches(&self.fetch.headers) && self.fetch.cache.purges().outlived_by(&stored);
        if !fits {
            return Waited::Fetch;
        }
        match self.use_it(stored, kind) {
            Some(lookup) => Waited::Done(lookup),
            None => Waited::Fetch,
        }
    }

    fn stand_in(&mut self, stored: &Arc<Stored>) -> Waited {
        let fetch = &self.fetch;
        let now: Millis = fetch.cache.now();
        let fits = stored.selector.matches(&fetch.headers)
            && fetch.cache.still_holds(stored)
            && stored.terms.stands_in(&fetch.control, store::millis(fetch.policy.stand_in), now);
        if !fits {
            return Waited::Fetch;
        }
        let asker = Asker { method: &fetch.method, headers: &fetch.headers };
        let not_modified = conditional::evaluate(&fetch.headers, stored.status, &stored.headers, stored.answered)
            == conditional::Outcome::NotModified;
        let ttl = Some(stored.terms.ttl_seconds(now));
        let detail = Some("stale-if-error");
        let report = Report { collapsed: true, ttl, detail, ..Report::forward(fetch.why) };
        fetch.cache.counters.stood_in();
        let answer = answer::of(stored, asker, not_modified, Kind::StandIn, &report, now);
        Waited::Done(Lookup::Answer(Box::new(answer)))
    }

    /// We fetch for this node. Does another node fetch for all?
    async fn for_the_cluster(&mut self, until: Instant) -> Waited {
        if let Some(remote) = self.fetch.cache.remote()
            && let Some(waited) = self.by_redis(&remote, until).await
        {
            return waited;
        }
        self.by_peers(until).await
    }

    /// `None`: Redis cannot say.
    async fn by_redis(&mut self, remote: &Arc<Remote>, until: Instant) -> Option<Waited> {
        let key = self.fetch.place.main;
        let mut pause = POLL;
        while remote.is_available() {
            let token = self.fetch.cache.token();
            match remote.lock(&key, token, LOCK).await {
                Turn::Ours(token) => {
                    let lock = Lock { remote: Arc::clone(remote), key, token, not_shared: false };
                    self.fetch.duty = Some(Duty::Lock(lock));
                    // It may have been stored between our look and our turn.
                    return Some(self.look_again(remote).await.unwrap_or(Waited::Fetch));
                }
                Turn::Nobodys => return Some(Waited::Fetch),
                Turn::Unknown => return None,
                Turn::Theirs => {}
            }
            loop {
                if Instant::now() + pause > until {
                    bump(&self.fetch.cache.counters.waits_over);
                    return Some(Waited::Fetch);
                }
                sleep(pause).await;
                pause = (pause * 2).min(LONGEST_POLL);
                let (stored, seen) = self.seek(remote, &key).await;
                if let Some(stored) = stored {
                    return Some(self.hand_on(stored, Kind::Collapsed));
                }
                if seen.not_shared {
                    if let Some(lead) = self.fetch.lead.take() {
                        lead.not_shared(Some(self.fetch.cache.now()));
                    }
                    return Some(Waited::Fetch);
                }
                if !seen.answered {
                    return None;
                }
                if !seen.locked {
                    break; // Whoever had it is done or dead: our turn, perhaps.
                }
            }
        }
        None
    }

    /// The key's owner among the nodes says who fetches.
    async fn by_peers(&mut self, until: Instant) -> Waited {
        let Some(fills) = self.fetch.cache.fills().cloned() else { return Waited::Fetch };
        let mut variant = self.variant();
        for _ in 0..ROUNDS {
            let names = match fills.turn(&self.fetch.cache, self.fetch.wanted(variant), until).await {
                Given::Ours(seat) => {
                    self.fetch.duty = Some(Duty::Seat(seat));
                    return Waited::Fetch;
                }
                Given::Stored { response, waited } => {
                    let Some(stored) = self.fetch.take_in(&response, variant) else { return Waited::Fetch };
                    if stored.selector.matches(&self.fetch.headers) {
                        return self.hand_on(stored, if waited { Kind::Collapsed } else { Kind::Hit });
                    }
                    stored.selector.fields().iter().map(|(name, _)| name.clone()).collect()
                }
                Given::Varies(names) => names,
                Given::Alone { all } => {
                    if let Some(lead) = self.fetch.lead.take_if(|_| all) {
                        lead.not_shared(Some(self.fetch.cache.now()));
                    }
                    return Waited::Fetch;
                }
                Given::Nobodys => return Waited::Fetch,
                Given::Late => {
                    bump(&self.fetch.cache.counters.waits_over);
                    return Waited::Fetch;
                }
            };
            variant = crate::remote::variant_of(&Selector::for_names(&names, &self.fetch.headers));
        }
        Waited::Fetch
    }

    async fn look_again(&mut self, remote: &Remote) -> Option<Waited> {
        let key = self.fetch.place.main;
        let (stored, _) = self.seek(remote, &key).await;
        Some(self.hand_on(stored?, Kind::Collapsed))
    }

    /// It came from elsewhere: for us, and for all who wait for us.
    fn hand_on(&mut self, stored: Arc<Stored>, kind: Kind) -> Waited {
        match self.use_it(Arc::clone(&stored), kind) {
            Some(lookup) => {
                if let Some(lead) = self.fetch.lead.take() {
                    lead.stored(stored);
                }
                self.fetch.duty = None;
                Waited::Done(lookup)
            }
            None => Waited::Fetch,
        }
    }
}
